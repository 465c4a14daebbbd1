//! Views drawn by the CPU alone: no driver, no device, the same pictures as a GPU's.
//!
//! `raster.rs` finds which triangle each sample sees, `shade.rs` says what it looks like there; what is made of a pixel's
//! samples is here, and is the twin of `resolve.wgsl`.

mod raster;

use std::ops::Range;

use glam::{Mat4, UVec2, Vec2};
use rayon::prelude::*;
use tap_shaders::{NO_LABELS, ViewUniform, fold_normal, unfold_normal};

use crate::camera::ViewMatrices;
use crate::framing::Framed;
use crate::gpu::{AdapterKind, AdapterReport};
use crate::lighting::BRIGHTEST_COVERED;
use crate::recipe::RenderRecipe;
use crate::rig::Pose;
use crate::scene::Scene;
use crate::shade::{Stage, view_uniform};
use crate::view::{ColorImage, Mask, View};
use raster::{NOTHING, Visibility};

/// Samples that are kept at a time, which bounds the memory of a thread to 8 bytes each.
const MAX_SAMPLES: u32 = 1 << 20;

/// Draws views on the CPU.
///
/// What it draws depends on nothing but the mesh and the recipe: not on the number of threads, nor on the machine, as far
/// as its arithmetic is that of IEEE 754.
#[derive(Debug, Clone, Copy, Default)]
pub struct SoftwareRenderer;

impl SoftwareRenderer {
    /// How outputs name it.
    #[must_use]
    pub fn report() -> AdapterReport {
        AdapterReport {
            name: "tap software renderer".to_owned(),
            driver: "tap-render".to_owned(),
            driver_info: env!("CARGO_PKG_VERSION").to_owned(),
            backend: "cpu".to_owned(),
            kind: AdapterKind::Cpu,
        }
    }

    /// Draws all views, one after the other: for callers that draw many meshes on threads of their own.
    #[must_use]
    pub fn draw(&self, framed: &Framed) -> Vec<View> {
        let mut visibility = Visibility::default();
        framed
            .views
            .iter()
            .map(|(pose, matrices)| {
                draw_view(&framed.scene, &framed.recipe, *pose, matrices, &mut visibility)
            })
            .collect()
    }

    /// Draws all views on all cores.
    #[must_use]
    pub fn draw_in_parallel(&self, framed: &Framed) -> Vec<View> {
        framed
            .views
            .par_iter()
            .map_init(Visibility::default, |visibility, (pose, matrices)| {
                draw_view(&framed.scene, &framed.recipe, *pose, matrices, visibility)
            })
            .collect()
    }
}

fn draw_view(
    scene: &Scene,
    recipe: &RenderRecipe,
    pose: Pose,
    matrices: &ViewMatrices,
    visibility: &mut Visibility,
) -> View {
    let RenderRecipe { size_px, samples, .. } = *recipe;
    let uniform = view_uniform(
        matrices,
        &recipe.lighting,
        scene.has_own_surface,
        size_px,
        UVec2::ZERO,
    );
    let stage = Stage::new(scene, &uniform);
    visibility.place(
        &Mat4::from_cols_array_2d(&uniform.clip_from_object),
        size_px,
        &scene.points,
    );
    let mut planes = Planes::new(recipe);
    for rows in bands(size_px, samples) {
        visibility.draw(&stage, size_px, samples, rows.clone());
        for y in rows {
            for x in 0..size_px {
                planes.push(
                    &stage,
                    &uniform,
                    visibility.pixel(x, y),
                    Vec2::new(x as f32 + 0.5, y as f32 + 0.5),
                );
            }
        }
    }
    planes.into_view(recipe, pose, *matrices)
}

fn bands(size_px: u32, samples: u32) -> impl Iterator<Item = Range<u32>> {
    let num_rows = (MAX_SAMPLES / (size_px * samples)).max(1);
    (0..size_px)
        .step_by(num_rows as usize)
        .map(move |start| start..(start + num_rows).min(size_px))
}

/// The channels of a view, pixel after pixel. Those that are not asked for stay empty.
struct Planes {
    has_color: bool,
    needs_surface: bool,
    color: Vec<[u8; 3]>,
    covered: Vec<bool>,
    depth: Vec<f32>,
    normal: Vec<[f32; 3]>,
    albedo: Vec<[u8; 3]>,
    labels: Vec<u32>,
}

impl Planes {
    fn new(recipe: &RenderRecipe) -> Self {
        let channels = recipe.channels;
        let num_pixels = (recipe.size_px as usize).pow(2);
        let room = |is_asked_for: bool| if is_asked_for { num_pixels } else { 0 };
        Self {
            has_color: channels.color,
            needs_surface: channels.needs_surface(),
            color: Vec::with_capacity(room(channels.color)),
            covered: Vec::with_capacity(num_pixels),
            depth: Vec::with_capacity(room(channels.needs_surface())),
            normal: Vec::with_capacity(room(channels.needs_surface())),
            albedo: Vec::with_capacity(room(channels.needs_surface())),
            labels: Vec::with_capacity(room(channels.needs_surface())),
        }
    }

    fn push(
        &mut self,
        stage: &Stage<'_>,
        view: &ViewUniform,
        (depths, triangles): (&[f32], &[u32]),
        pixel: Vec2,
    ) {
        let is_covered = triangles.iter().any(|triangle| *triangle != NOTHING);
        self.covered.push(is_covered);
        if self.has_color {
            let [red, green, blue, _] = view.background.to_le_bytes();
            self.color.push(if is_covered {
                mean_color(stage, [red, green, blue], triangles, pixel)
            } else {
                [red, green, blue]
            });
        }
        if !self.needs_surface {
            return;
        }
        if !is_covered {
            self.depth.push(f32::INFINITY);
            self.normal.push([0.0; 3]);
            self.albedo.push([0; 3]);
            self.labels.push(NO_LABELS);
            return;
        }
        let seen = stage.look(chosen(stage, depths, triangles, pixel), pixel);
        self.depth.push(-seen.point.position.z);
        // Rounded as a device hands it over.
        self.normal
            .push(unfold_normal(fold_normal(seen.point.normal)).to_array());
        self.albedo.push(seen.albedo);
        self.labels.push(seen.labels);
    }

    fn into_view(self, recipe: &RenderRecipe, pose: Pose, matrices: ViewMatrices) -> View {
        let channels = recipe.channels;
        let size_px = recipe.size_px;
        let labels = |shift: u32| {
            self.labels
                .iter()
                .map(|labels| (labels >> shift) as u16)
                .collect()
        };
        View {
            pose,
            matrices,
            size_px,
            part: channels.part.then(|| labels(0)),
            material: channels.material.then(|| labels(16)),
            color: channels
                .color
                .then(|| ColorImage::new(recipe.lighting.color_kind(), self.color.into_iter())),
            mask: channels
                .mask
                .then(|| Mask::try_new(size_px, self.covered).expect("there are size_px squared pixels")),
            depth: channels.depth.then_some(self.depth),
            normal: channels.normal.then_some(self.normal),
            albedo: channels.albedo.then_some(self.albedo),
        }
    }
}

/// The triangle that stands for a pixel: of those that its samples see, one that its centre meets, or else any; of
/// several the nearest. At least one sample sees one.
fn chosen(stage: &Stage<'_>, depths: &[f32], triangles: &[u32], pixel: Vec2) -> u32 {
    let first = triangles[0];
    if triangles.iter().all(|triangle| *triangle == first) {
        return first;
    }
    let (mut chosen, mut nearest, mut is_chosen_met) = (NOTHING, f32::INFINITY, false);
    for (&triangle, &depth) in triangles.iter().zip(depths) {
        if triangle == NOTHING {
            continue;
        }
        if triangle == chosen {
            nearest = nearest.min(depth);
            continue;
        }
        let is_met = stage.meets(triangle, pixel);
        if (is_met && !is_chosen_met) || (is_met == is_chosen_met && depth < nearest) {
            (chosen, nearest, is_chosen_met) = (triangle, depth, is_met);
        }
    }
    chosen
}

/// The mean over a pixel's samples, at least one of which sees a triangle.
fn mean_color(stage: &Stage<'_>, background: [u8; 3], triangles: &[u32], pixel: Vec2) -> [u8; 3] {
    let num_samples = triangles.len() as u32;
    let first = triangles[0];
    if triangles.iter().all(|triangle| *triangle == first) {
        return stage.shown(first, pixel);
    }
    let mut colors = [[0; 3]; 4];
    for (sample, &triangle) in triangles.iter().enumerate() {
        let known = triangles[..sample].iter().position(|other| *other == triangle);
        colors[sample] = match known {
            Some(known) => colors[known],
            None if triangle == NOTHING => background,
            None => stage.shown(triangle, pixel),
        };
    }
    [0, 1, 2].map(|part| {
        let sum: u32 = colors[..triangles.len()]
            .iter()
            .map(|color| u32::from(color[part]))
            .sum();
        let mean = (2 * sum + num_samples) / (2 * num_samples);
        (mean as u8).min(BRIGHTEST_COVERED)
    })
}
