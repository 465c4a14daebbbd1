//! Pictures of points: what the page shows of objects that have no views, and of predicted parts beside the true ones. The
//! renderer draws each point as a small disc, in the color of its part.

use anyhow::{Context as _, Result};
use glam::{DVec3, Vec3};
use tap_dataset::encode_rgb_png;
use tap_render::{
    BackendChoice, ColorImage, Framing, Lighting, ObjectFromMesh, PointCloud, Projection, RenderRecipe,
    Renderer, RendererOptions, RigSpec, SurfelOptions, UpAxis, row_major,
};

/// Views of an object, around it.
const NUM_VIEWS: usize = 6;
const ELEVATION_DEG: f64 = 25.0;
/// Side of a picture.
const SIZE_PX: u32 = 192;
/// Discs that overlap enough to leave no gaps, and are small enough to be seen as points.
const RADIUS_FACTOR: f32 = 0.6;
/// Points without parts.
const PLAIN: [u8; 4] = [126, 158, 204, 255];
/// Hues of parts, as in the page's script.
const HUE_STEP_DEG: f32 = 137.5;
const FIRST_HUE_DEG: f32 = 205.0;
const SATURATION: f32 = 0.62;
const LIGHTNESS: f32 = 0.58;

/// A picture with its camera.
#[derive(Debug)]
pub(super) struct Picture {
    /// RGB.
    pub(super) png: Vec<u8>,
    /// Row-major.
    pub(super) view_from_object: [f32; 16],
}

/// Draws points on the CPU, so that a page is the same on all machines.
#[derive(Debug)]
pub(super) struct PointRenderer {
    renderer: Renderer,
    recipe: RenderRecipe,
}

impl PointRenderer {
    pub(super) fn try_new() -> Result<Self> {
        let options = RendererOptions {
            backend: BackendChoice::Cpu,
            ..RendererOptions::default()
        };
        Ok(Self {
            renderer: Renderer::try_new(&options).context("could not start the renderer")?,
            recipe: RenderRecipe {
                rig: RigSpec::try_turntable(NUM_VIEWS, vec![ELEVATION_DEG])?,
                framing: Framing::Box,
                projection: Projection::Orthographic,
                size_px: SIZE_PX,
                lighting: Lighting::textured(),
                ..RenderRecipe::default()
            },
        })
    }

    /// Pictures of points with their normals and parts, each empty or one a point; none of points that are no surface.
    pub(super) fn draw(
        &mut self,
        points: &[[f32; 3]],
        normals: &[[f32; 3]],
        parts: &[u8],
    ) -> Result<Vec<Picture>> {
        let positions: Vec<DVec3> = points.iter().map(|&point| Vec3::from(point).as_dvec3()).collect();
        let normals = normals.iter().map(|&normal| Vec3::from(normal)).collect();
        let colors = if parts.is_empty() {
            vec![PLAIN; points.len()]
        } else {
            parts.iter().map(|&part| part_color(part)).collect()
        };
        let object_from_mesh = ObjectFromMesh::from_cloud(&positions, UpAxis::Y);
        let options = SurfelOptions {
            radius_factor: RADIUS_FACTOR,
            ..SurfelOptions::default()
        };
        let mesh = PointCloud::try_new(positions, normals, colors).and_then(|cloud| cloud.to_mesh(&options));
        let Ok(mesh) = mesh else {
            return Ok(Vec::new());
        };
        let views = self
            .renderer
            .render(&mesh, &object_from_mesh, &self.recipe)
            .context("could not draw points")?;
        let picture = |view: tap_render::View| -> Result<Picture> {
            let pixels: Vec<[u8; 3]> = match view.color {
                Some(ColorImage::Rgb(pixels)) => pixels,
                Some(ColorImage::Gray(values)) => values.into_iter().map(|value| [value; 3]).collect(),
                // No other kind is asked for.
                _ => Vec::new(),
            };
            Ok(Picture {
                png: encode_rgb_png(view.size_px, &pixels)?,
                view_from_object: row_major(&view.matrices.view_from_object),
            })
        };
        views.into_iter().map(picture).collect()
    }
}

/// Neighboring parts are far apart in hue.
fn part_color(part: u8) -> [u8; 4] {
    let hue = (FIRST_HUE_DEG + HUE_STEP_DEG * f32::from(part)) % 360.0 / 30.0;
    let chroma = SATURATION * LIGHTNESS.min(1.0 - LIGHTNESS);
    // CSS Color 4, "HSL to RGB".
    let channel = |offset: f32| {
        let place = (offset + hue) % 12.0;
        let value = LIGHTNESS - chroma * (place - 3.0).min(9.0 - place).clamp(-1.0, 1.0);
        (255.0 * value).round() as u8
    };
    [channel(0.0), channel(8.0), channel(4.0), u8::MAX]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use tap_dataset::decode_png;

    use super::*;

    #[test]
    fn parts_have_their_colors_where_they_are() {
        // A square, the left half of one part and the right half of another.
        let points: Vec<[f32; 3]> = (0..400)
            .map(|i| [(i % 20) as f32 / 10.0 - 0.95, (i / 20) as f32 / 10.0 - 0.95, 0.0])
            .collect();
        let parts: Vec<u8> = points.iter().map(|point| u8::from(point[0] > 0.0)).collect();
        let mut renderer = PointRenderer::try_new().unwrap();
        let pictures = renderer.draw(&points, &[], &parts).unwrap();
        assert_eq!(pictures.len(), NUM_VIEWS);
        let image = decode_png(&pictures[0].png).unwrap();
        let size = SIZE_PX as usize;
        let at = |x: usize, y: usize| [0, 1, 2].map(|channel| image.values[3 * (y * size + x) + channel]);
        let is_hue = |[red, green, blue]: [u8; 3], part: u8| {
            let expected = part_color(part);
            let order = |color: [u8; 3]| [color[0] > color[1], color[1] > color[2], color[0] > color[2]];
            order([red, green, blue]) == order([expected[0], expected[1], expected[2]])
        };
        assert_eq!(at(2, 2), [255; 3], "white around it");
        assert!(is_hue(at(size / 3, size / 2), 0), "{:?}", at(size / 3, size / 2));
        assert!(
            is_hue(at(2 * size / 3, size / 2), 1),
            "{:?}",
            at(2 * size / 3, size / 2)
        );
        assert!(
            renderer.draw(&[[0.0; 3]; 5], &[], &[]).unwrap().is_empty(),
            "one place is no surface"
        );
    }

    #[test]
    fn colors_are_those_of_css() {
        // hsl(205, 62%, 58%) and hsl(342.5, 62%, 58%).
        assert_eq!(part_color(0)[..3], [81, 159, 214]);
        assert_eq!(part_color(1)[..3], [214, 81, 120]);
    }
}
