//! Software rendering without a driver or device. Its images match those of the GPU backend.
//!
//! `visibility.rs` fills a visibility buffer (the rasterizer is in `raster/`), `surface.rs` and `light.rs` shade, and
//! `resolve.rs` averages samples to pixels: the stages of the WGSL files of the same names. `silhouette.rs` measures
//! coverage for framing.

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

use glam::{Mat4, UVec2, Vec4};
use multiversion::multiversion;

use crate::camera::{Pose, ViewMatrices};
use crate::recipe::RenderRecipe;
use crate::scene::{Scene, view_uniform};
use crate::view::View;
use headlight::HeadlightScanline;
pub(crate) use light::{LightEvaluator, SurfacePoint, albedo_of};
use raster::Meshlets;
use resolve::Framebuffer;
use scanline::ScanlineShader;
use surface::ShadingContext;
pub(crate) use visibility::{VisibilityBuffer, VisibilityPass};

/// Samples in a visibility buffer; at 8 bytes each they bound the memory of a thread. Larger views are drawn in bands.
const MAX_BUFFERED_SAMPLES: u32 = 1 << 20;

/// Draws a view, compiled for several vector instruction sets of which the widest available is used. All give the same
/// result.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2"))]
pub(crate) fn draw_view(
    recipe: &RenderRecipe,
    scene: &Scene,
    meshlets: &Meshlets,
    pose: Pose,
    matrices: &ViewMatrices,
    visibility: &mut VisibilityPass,
) -> View {
    draw_view_scalar(recipe, scene, meshlets, pose, matrices, visibility)
}

#[inline(always)]
fn draw_view_scalar(
    recipe: &RenderRecipe,
    scene: &Scene,
    meshlets: &Meshlets,
    pose: Pose,
    matrices: &ViewMatrices,
    visibility: &mut VisibilityPass,
) -> View {
    let uniform = view_uniform(
        matrices,
        &recipe.lighting,
        scene.has_appearance,
        recipe.size_px,
        UVec2::ZERO,
    );
    let context = ShadingContext::new(scene, &uniform);
    visibility.project(&Mat4::from_cols_array_2d(&uniform.clip_from_object), meshlets);
    let mut framebuffer = Framebuffer::new(recipe);
    let mut shader = ScanlineShader::new(&context, visibility.columns());
    let mut headlight = HeadlightScanline::new(&context, &visibility.columns());
    for rows in bands(visibility.rows(), recipe) {
        visibility.draw(&context, meshlets, rows.clone());
        for y in rows {
            framebuffer.draw_row(&mut shader, headlight.as_mut(), visibility, y);
        }
    }
    framebuffer.into_view(recipe, pose, *matrices)
}

/// Row ranges whose samples fit one visibility buffer.
fn bands(rows: Range<u32>, recipe: &RenderRecipe) -> impl Iterator<Item = Range<u32>> {
    let num_rows = (MAX_BUFFERED_SAMPLES / (recipe.size_px * recipe.samples)).max(1);
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
    use crate::job::{BackendKind, RenderJob};
    use crate::lighting::Lighting;
    use crate::recipe::Channels;
    use crate::renderer::CpuRenderer;

    #[test]
    fn all_instruction_sets_draw_the_same() {
        // Triangles from below a pixel to above a tile.
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
            let job = RenderJob::of_axes(&recipe, BackendKind::Cpu);
            let mut visibility = VisibilityPass::new(&recipe, VisibilityBuffer::default());
            let scalar = job.views.iter().map(|(pose, matrices)| {
                draw_view_scalar(
                    &recipe,
                    &job.scene,
                    &job.meshlets,
                    *pose,
                    matrices,
                    &mut visibility,
                )
            });
            let vector = CpuRenderer::default().draw(&job);
            assert!(scalar.eq(vector), "{size_px} px with {samples} samples");
        }
    }
}
