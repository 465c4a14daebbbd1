//! Views drawn by the CPU alone: no driver, no device, the same pictures as a GPU's.
//!
//! `visibility.rs` finds which triangle each sample sees, `shade/` says what it looks like there; what is made of a pixel's
//! samples is here, and is the twin of `resolve.wgsl`.

mod visibility;

use std::ops::Range;

use glam::{Mat4, UVec2};
use rayon::prelude::*;
use tap_shaders::NO_LABELS;

use crate::camera::ViewMatrices;
use crate::framing::Framed;
use crate::gpu::{AdapterKind, AdapterReport};
use crate::lighting::BRIGHTEST_COVERED;
use crate::recipe::RenderRecipe;
use crate::rig::Pose;
use crate::shade::{Row, Stage, view_uniform};
use crate::view::{ColorImage, Mask, View};
use visibility::{NOTHING, Visibility};

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
        let mut visibility = Visibility::new(&framed.recipe);
        framed
            .views
            .iter()
            .map(|(pose, matrices)| draw_view(framed, *pose, matrices, &mut visibility))
            .collect()
    }

    /// Draws all views on all cores.
    #[must_use]
    pub fn draw_in_parallel(&self, framed: &Framed) -> Vec<View> {
        framed
            .views
            .par_iter()
            .map_init(
                || Visibility::new(&framed.recipe),
                |visibility, (pose, matrices)| draw_view(framed, *pose, matrices, visibility),
            )
            .collect()
    }
}

fn draw_view(framed: &Framed, pose: Pose, matrices: &ViewMatrices, visibility: &mut Visibility) -> View {
    let Framed {
        recipe,
        scene,
        meshlets,
        ..
    } = framed;
    let uniform = view_uniform(
        matrices,
        &recipe.lighting,
        scene.has_own_surface,
        recipe.size_px,
        UVec2::ZERO,
    );
    let stage = Stage::new(scene, &uniform);
    visibility.place(&Mat4::from_cols_array_2d(&uniform.clip_from_object), meshlets);
    let mut planes = Planes::new(recipe);
    let mut row = Row::new(&stage, visibility.columns());
    for rows in bands(visibility.rows(), recipe) {
        visibility.draw(&stage, meshlets, rows.clone());
        for y in rows {
            row.go_to(y);
            planes.draw_row(&mut row, visibility, y);
        }
    }
    planes.into_view(recipe, pose, *matrices)
}

/// Rows that are drawn at a time.
fn bands(rows: Range<u32>, recipe: &RenderRecipe) -> impl Iterator<Item = Range<u32>> {
    let num_rows = (MAX_SAMPLES / (recipe.size_px * recipe.samples)).max(1);
    rows.clone()
        .step_by(num_rows as usize)
        .map(move |start| start..(start + num_rows).min(rows.end))
}

/// The channels of a view. Those that are not asked for stay empty.
struct Planes {
    size_px: usize,
    background: [u8; 3],
    color: Option<ColorImage>,
    covered: Vec<bool>,
    surface: Option<SurfacePlanes>,
}

/// What pixels see besides color.
struct SurfacePlanes {
    depth: Vec<f32>,
    normal: Vec<[f32; 3]>,
    albedo: Vec<[u8; 3]>,
    labels: Vec<u32>,
}

impl Planes {
    /// Of a view that sees nothing.
    fn new(recipe: &RenderRecipe) -> Self {
        let RenderRecipe {
            size_px,
            channels,
            lighting,
            ..
        } = recipe;
        let num_pixels = (*size_px as usize).pow(2);
        Self {
            size_px: *size_px as usize,
            background: lighting.background,
            color: channels
                .color
                .then(|| ColorImage::filled(lighting.color_kind(), lighting.background, num_pixels)),
            covered: vec![false; num_pixels],
            surface: channels.needs_surface().then(|| SurfacePlanes {
                depth: vec![f32::INFINITY; num_pixels],
                normal: vec![[0.0; 3]; num_pixels],
                albedo: vec![[0; 3]; num_pixels],
                labels: vec![NO_LABELS; num_pixels],
            }),
        }
    }

    /// Draws the pixels of a row that may see something.
    fn draw_row(&mut self, row: &mut Row<'_>, visibility: &Visibility, y: u32) {
        let first = y as usize * self.size_px + visibility.columns().start as usize;
        for (column, (depths, triangles)) in visibility.row(y).enumerate() {
            if triangles.iter().all(|triangle| *triangle == NOTHING) {
                continue;
            }
            let at = first + column;
            self.covered[at] = true;
            if let Some(color) = &mut self.color {
                color.set(at, mean_color(row, self.background, triangles, column));
            }
            if let Some(surface) = &mut self.surface {
                let triangle = chosen(row, depths, triangles, column);
                let seen = row.look(triangle, column);
                surface.depth[at] = -seen.point.position.z;
                surface.normal[at] = seen.point.normal.to_array();
                surface.albedo[at] = seen.albedo;
                surface.labels[at] = seen.labels;
            }
        }
    }

    fn into_view(self, recipe: &RenderRecipe, pose: Pose, matrices: ViewMatrices) -> View {
        let (size_px, channels) = (recipe.size_px, recipe.channels);
        let mut view = View {
            pose,
            matrices,
            size_px,
            color: self.color,
            mask: channels
                .mask
                .then(|| Mask::try_new(size_px, self.covered).expect("there are size_px squared pixels")),
            depth: None,
            normal: None,
            albedo: None,
            part: None,
            material: None,
        };
        if let Some(surface) = self.surface {
            let labels = |shift: u32| {
                let shifted = surface.labels.iter().map(|labels| (labels >> shift) as u16);
                shifted.collect()
            };
            view.part = channels.part.then(|| labels(0));
            view.material = channels.material.then(|| labels(16));
            view.depth = channels.depth.then_some(surface.depth);
            view.normal = channels.normal.then_some(surface.normal);
            view.albedo = channels.albedo.then_some(surface.albedo);
        }
        view
    }
}

/// The triangle that stands for a pixel: of those that its samples see, one that its centre meets, or else any; of
/// several the nearest. At least one sample sees one.
fn chosen(row: &mut Row<'_>, depths: &[f32], triangles: &[u32], column: usize) -> u32 {
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
        let is_met = row.meets(triangle, column);
        if (is_met && !is_chosen_met) || (is_met == is_chosen_met && depth < nearest) {
            (chosen, nearest, is_chosen_met) = (triangle, depth, is_met);
        }
    }
    chosen
}

/// The mean over a pixel's samples, one or four, at least one of which sees a triangle.
#[inline]
fn mean_color(row: &mut Row<'_>, background: [u8; 3], triangles: &[u32], column: usize) -> [u8; 3] {
    let mut color_of = |triangle: u32| {
        if triangle == NOTHING {
            background
        } else {
            row.shown(triangle, column)
        }
    };
    let a = triangles[0];
    let of_a = color_of(a);
    let [_, b, c, d] = *triangles else {
        return of_a;
    };
    if a == b && a == c && a == d {
        return of_a;
    }
    // Each triangle is asked once.
    let of_b = if b == a { of_a } else { color_of(b) };
    let of_c = match c {
        _ if c == a => of_a,
        _ if c == b => of_b,
        _ => color_of(c),
    };
    let of_d = match d {
        _ if d == a => of_a,
        _ if d == b => of_b,
        _ if d == c => of_c,
        _ => color_of(d),
    };
    [0, 1, 2].map(|part| {
        let sum: u32 = [of_a, of_b, of_c, of_d]
            .iter()
            .map(|color| u32::from(color[part]))
            .sum();
        (((sum + 2) / 4) as u8).min(BRIGHTEST_COVERED)
    })
}
