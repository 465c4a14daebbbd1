//! Views drawn by the CPU alone: no driver, no device, the same pictures as a GPU's.
//!
//! `visibility.rs` finds which triangle each sample sees, `shade/` says what it looks like there, and `planes.rs` makes
//! pixels of samples.

#![allow(
    clippy::inline_always,
    reason = "what is not compiled as a part of `draw_view` has none of the instructions that it is compiled for"
)]

mod headlight;
mod light;
pub(crate) mod raster;
mod resolve;
mod scanline;
pub(crate) mod silhouette;
mod surface;
mod texture;
mod visibility;

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use glam::{Mat4, UVec2, Vec4};
use multiversion::multiversion;
use rayon::prelude::*;

use crate::camera::Pose;
use crate::camera::ViewMatrices;
use crate::gpu::{AdapterKind, AdapterReport};
use crate::job::Framed;
use crate::recipe::RenderRecipe;
use crate::scene::view_uniform;
use crate::view::View;
pub(crate) use headlight::Headlight;
use headlight::HeadlitRow;
pub(crate) use light::{Lamp, Point, albedo_of};
use resolve::Planes;
use scanline::Row;
use surface::Stage;
use visibility::{Samples, Visibility};

/// Samples that are kept at a time, which bounds the memory of a thread to 8 bytes each.
const MAX_SAMPLES: u32 = 1 << 20;

/// Draws views on the CPU.
///
/// What it draws depends on nothing but the mesh and the recipe: not on the number of threads, nor on the machine, as far
/// as its arithmetic is that of IEEE 754.
#[derive(Debug, Clone, Default)]
pub struct SoftwareRenderer {
    /// In which nothing is drawn at present. To ask the system for fresh ones for every mesh would take a fifth of the time.
    idle: Arc<Mutex<Vec<Samples>>>,
}

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

    fn lend(&self, recipe: &RenderRecipe) -> Lent<'_> {
        let samples = self.idle().pop().unwrap_or_default();
        Lent {
            renderer: self,
            visibility: Visibility::new(recipe, samples),
        }
    }

    /// What a thread that panicked has left of it is as good as any.
    fn idle(&self) -> MutexGuard<'_, Vec<Samples>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Draws all views, one after the other: for callers that draw many meshes on threads of their own.
    #[must_use]
    pub fn draw(&self, framed: &Framed) -> Vec<View> {
        let mut lent = self.lend(&framed.recipe);
        framed
            .views
            .iter()
            .map(|(pose, matrices)| draw_view(framed, *pose, matrices, &mut lent.visibility))
            .collect()
    }

    /// Draws all views on all cores.
    #[must_use]
    pub fn draw_in_parallel(&self, framed: &Framed) -> Vec<View> {
        framed
            .views
            .par_iter()
            .map_init(
                || self.lend(&framed.recipe),
                |lent, (pose, matrices)| draw_view(framed, *pose, matrices, &mut lent.visibility),
            )
            .collect()
    }
}

/// A [`Visibility`] whose samples go back to where they were taken from.
struct Lent<'a> {
    renderer: &'a SoftwareRenderer,
    visibility: Visibility,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.renderer.idle().push(self.visibility.take_samples());
    }
}

/// Draws a view in the widest instructions that the processor has. What comes out is the same in all of them.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2"))]
fn draw_view(framed: &Framed, pose: Pose, matrices: &ViewMatrices, visibility: &mut Visibility) -> View {
    draw_view_in_any(framed, pose, matrices, visibility)
}

#[inline(always)]
fn draw_view_in_any(
    framed: &Framed,
    pose: Pose,
    matrices: &ViewMatrices,
    visibility: &mut Visibility,
) -> View {
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
    let mut headlit_row = HeadlitRow::new(&stage, &visibility.columns());
    for rows in bands(visibility.rows(), recipe) {
        visibility.draw(&stage, meshlets, rows.clone());
        for y in rows {
            planes.draw_row(&mut row, headlit_row.as_mut(), visibility, y);
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

fn rgba(packed: u32) -> Vec4 {
    Vec4::from(packed.to_le_bytes().map(f32::from)) / 255.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::DrawnBy;
    use crate::lighting::Lighting;
    use crate::recipe::Channels;

    #[test]
    fn all_instructions_draw_the_same() {
        // From triangles of less than a pixel to some of more than a block.
        for (size_px, samples, lighting) in [
            (9, 1, Lighting::mvcnn()),
            (90, 4, Lighting::mvcnn()),
            (500, 1, Lighting::three_point()),
            (300, 4, Lighting::random(7)),
        ] {
            let recipe = RenderRecipe {
                size_px,
                samples,
                lighting,
                channels: Channels::ALL,
                ..RenderRecipe::default()
            };
            let framed = Framed::of_axes(&recipe, DrawnBy::Software);
            let mut visibility = Visibility::new(&recipe, Samples::default());
            let narrow = framed
                .views
                .iter()
                .map(|(pose, matrices)| draw_view_in_any(&framed, *pose, matrices, &mut visibility));
            let wide = SoftwareRenderer::default().draw(&framed);
            assert!(narrow.eq(wide), "{size_px} px with {samples} samples");
        }
    }
}
