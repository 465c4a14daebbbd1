//! Resolves samples to pixels: shades the visible triangles and averages. The WGSL version is `resolve.wgsl`.

use tap_shaders::NO_LABELS;
use wide::{i32x4, u32x4};

use super::headlight::HeadlightScanline;
use super::scanline::ScanlineShader;
use super::surface::SurfaceHit;
use super::visibility::{NO_TRIANGLE, VisibilityPass};
use crate::camera::{Pose, ViewMatrices};
use crate::cpu::raster::LANES;
use crate::lighting::BRIGHTEST_COVERED;
use crate::recipe::RenderRecipe;
use crate::view::{ColorImage, Mask, View};

/// The channels of a view that the recipe requests.
pub(super) struct Framebuffer {
    size_px: usize,
    background: [u8; 3],
    color: Option<ColorImage>,
    covered: Option<Vec<bool>>,
    surface: Option<GBuffer>,
}

/// Attributes of the surface at each pixel, besides its color.
struct GBuffer {
    depth: Vec<f32>,
    normal: Vec<[f32; 3]>,
    albedo: Vec<[u8; 3]>,
    labels: Vec<u32>,
}

impl GBuffer {
    fn set(&mut self, pixel: usize, hit: &SurfaceHit) {
        self.depth[pixel] = -hit.point.position.z;
        self.normal[pixel] = hit.point.normal.to_array();
        self.albedo[pixel] = hit.albedo;
        self.labels[pixel] = hit.labels;
    }
}

impl Framebuffer {
    /// A framebuffer without coverage.
    pub(super) fn new(recipe: &RenderRecipe) -> Self {
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
            covered: channels.mask.then(|| vec![false; num_pixels]),
            surface: channels.needs_surface().then(|| GBuffer {
                depth: vec![f32::INFINITY; num_pixels],
                normal: vec![[0.0; 3]; num_pixels],
                albedo: vec![[0; 3]; num_pixels],
                labels: vec![NO_LABELS; num_pixels],
            }),
        }
    }

    /// Resolves the pixels of a row.
    #[inline(always)]
    pub(super) fn draw_row(
        &mut self,
        shader: &mut ScanlineShader<'_>,
        headlight: Option<&mut HeadlightScanline<'_>>,
        visibility: &VisibilityPass,
        y: u32,
    ) {
        let first = y as usize * self.size_px + visibility.columns().start as usize;
        let mut color = self.color.as_mut();
        if let Some(scanline) = headlight
            && let Some(color) = color.take()
        {
            scanline.begin_row(y);
            resolve_headlight(color, first, scanline, visibility, y, self.background);
        }
        if color.is_none() && self.covered.is_none() && self.surface.is_none() {
            return;
        }
        shader.begin_row(y);
        for (column, (depths, triangles)) in visibility.row(y).enumerate() {
            if triangles.iter().all(|triangle| *triangle == NO_TRIANGLE) {
                continue;
            }
            let at = first + column;
            if let Some(color) = &mut color {
                color.set(at, resolve_color(shader, self.background, triangles, column));
            }
            if let Some(covered) = &mut self.covered {
                covered[at] = true;
            }
            if let Some(surface) = &mut self.surface {
                let triangle = representative(shader, depths, triangles, column);
                surface.set(at, &shader.surface_hit(triangle, column));
            }
        }
    }

    pub(super) fn into_view(self, recipe: &RenderRecipe, pose: Pose, matrices: ViewMatrices) -> View {
        let (size_px, channels) = (recipe.size_px, recipe.channels);
        let mut view = View {
            pose,
            matrices,
            size_px,
            color: self.color,
            mask: self
                .covered
                .map(|covered| Mask::try_new(size_px, covered).expect("there are size_px squared pixels")),
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

/// Colors a row in a single gray headlight. `first` is the index of its first pixel; only the background may be
/// colored.
#[inline(always)]
fn resolve_headlight(
    color: &mut ColorImage,
    first: usize,
    scanline: &HeadlightScanline<'_>,
    visibility: &VisibilityPass,
    y: u32,
    background: [u8; 3],
) {
    let end = first + visibility.columns().len();
    match color {
        ColorImage::Gray(values) => {
            let values = &mut values[first..end];
            for_each_headlight_value(scanline, visibility, y, background[0], |column, value| {
                // The last cell may extend beyond the image.
                if let Some(pixel) = values.get_mut(column) {
                    *pixel = value;
                }
            });
        }
        ColorImage::Rgb(colors) => {
            let colors = &mut colors[first..end];
            for (part, background) in background.into_iter().enumerate() {
                for_each_headlight_value(scanline, visibility, y, background, |column, value| {
                    if let Some(pixel) = colors.get_mut(column) {
                        pixel[part] = value;
                    }
                });
            }
        }
    }
}

/// Calls `write_value` with the column and value of each pixel, skipping empty cells.
#[inline(always)]
fn for_each_headlight_value(
    scanline: &HeadlightScanline<'_>,
    visibility: &VisibilityPass,
    y: u32,
    background: u8,
    mut write_value: impl FnMut(usize, u8),
) {
    let has_cell_each = visibility.num_samples() == LANES;
    for (cell, triangles) in visibility.cells(y).iter().enumerate() {
        let is_empty = u32x4::from(*triangles).simd_eq(u32x4::splat(NO_TRIANGLE));
        if is_empty.all() {
            continue;
        }
        let or_background = |values: i32x4| {
            bytemuck::cast::<_, i32x4>(is_empty).bitselect(i32x4::splat(background.into()), values)
        };
        if has_cell_each {
            let sum = or_background(scanline.shade_samples(cell, *triangles)).reduce_add() as u32;
            write_value(cell, average(sum));
        } else {
            let first = cell * LANES;
            let values = or_background(scanline.shade_pixels(first, *triangles)).to_array();
            (first..)
                .zip(values)
                .for_each(|(column, value)| write_value(column, value as u8));
        }
    }
}

/// Mean of four samples, of which at least one is covered.
fn average(sum: u32) -> u8 {
    (((sum + 2) / 4) as u8).min(BRIGHTEST_COVERED)
}

/// The triangle that the G-buffer describes: among those at the pixel's samples preferably one that its center hits,
/// then the nearest. At least one sample must be covered.
#[inline(always)]
fn representative(shader: &mut ScanlineShader<'_>, depths: &[f32], triangles: &[u32], column: usize) -> u32 {
    let first = triangles[0];
    if triangles.iter().all(|triangle| *triangle == first) {
        return first;
    }
    let (mut representative, mut nearest, mut is_representative_hit) = (NO_TRIANGLE, f32::INFINITY, false);
    for (&triangle, &depth) in triangles.iter().zip(depths) {
        if triangle == NO_TRIANGLE {
            continue;
        }
        if triangle == representative {
            nearest = nearest.min(depth);
            continue;
        }
        let is_hit = shader.is_hit(triangle, column);
        if (is_hit && !is_representative_hit) || (is_hit == is_representative_hit && depth < nearest) {
            (representative, nearest, is_representative_hit) = (triangle, depth, is_hit);
        }
    }
    representative
}

/// Mean over the one or four samples of a pixel, at least one of which is covered.
#[inline]
fn resolve_color(
    shader: &mut ScanlineShader<'_>,
    background: [u8; 3],
    triangles: &[u32],
    column: usize,
) -> [u8; 3] {
    let mut color_of = |triangle: u32| {
        if triangle == NO_TRIANGLE {
            background
        } else {
            shader.shade_pixel(triangle, column)
        }
    };
    let a = triangles[0];
    let color_a = color_of(a);
    let [_, b, c, d] = *triangles else {
        return color_a;
    };
    if a == b && a == c && a == d {
        return color_a;
    }
    // Each distinct triangle is shaded once.
    let color_b = if b == a { color_a } else { color_of(b) };
    let color_c = match c {
        _ if c == a => color_a,
        _ if c == b => color_b,
        _ => color_of(c),
    };
    let color_d = match d {
        _ if d == a => color_a,
        _ if d == b => color_b,
        _ if d == c => color_c,
        _ => color_of(d),
    };
    [0, 1, 2].map(|part| {
        let sum: u32 = [color_a, color_b, color_c, color_d]
            .iter()
            .map(|color| u32::from(color[part]))
            .sum();
        average(sum)
    })
}
