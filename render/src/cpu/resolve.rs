//! What is made of the samples of pixels: the twin of `resolve.wgsl`.

use tap_shaders::NO_LABELS;
use wide::{i32x4, u32x4};

use super::headlight::HeadlitRow;
use super::scanline::Row;
use super::surface::Seen;
use super::visibility::{NOTHING, Visibility};
use crate::camera::Pose;
use crate::camera::ViewMatrices;
use crate::cpu::raster::LANES;
use crate::lighting::BRIGHTEST_COVERED;
use crate::recipe::RenderRecipe;
use crate::view::{ColorImage, Mask, View};

/// The channels of a view. Those that are not asked for stay empty.
pub(super) struct Planes {
    size_px: usize,
    background: [u8; 3],
    color: Option<ColorImage>,
    covered: Option<Vec<bool>>,
    surface: Option<SurfacePlanes>,
}

/// What pixels see besides color.
struct SurfacePlanes {
    depth: Vec<f32>,
    normal: Vec<[f32; 3]>,
    albedo: Vec<[u8; 3]>,
    labels: Vec<u32>,
}

impl SurfacePlanes {
    fn set(&mut self, pixel: usize, seen: &Seen) {
        self.depth[pixel] = -seen.point.position.z;
        self.normal[pixel] = seen.point.normal.to_array();
        self.albedo[pixel] = seen.albedo;
        self.labels[pixel] = seen.labels;
    }
}

impl Planes {
    /// Of a view that sees nothing.
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
            surface: channels.needs_surface().then(|| SurfacePlanes {
                depth: vec![f32::INFINITY; num_pixels],
                normal: vec![[0.0; 3]; num_pixels],
                albedo: vec![[0; 3]; num_pixels],
                labels: vec![NO_LABELS; num_pixels],
            }),
        }
    }

    /// Draws the pixels of a row that may see something.
    #[inline(always)]
    pub(super) fn draw_row(
        &mut self,
        row: &mut Row<'_>,
        headlit_row: Option<&mut HeadlitRow<'_>>,
        visibility: &Visibility,
        y: u32,
    ) {
        let first = y as usize * self.size_px + visibility.columns().start as usize;
        let mut color = self.color.as_mut();
        if let Some(row) = headlit_row
            && let Some(color) = color.take()
        {
            row.go_to(y);
            color_headlit(color, first, row, visibility, y, self.background);
        }
        if color.is_none() && self.covered.is_none() && self.surface.is_none() {
            return;
        }
        row.go_to(y);
        for (column, (depths, triangles)) in visibility.row(y).enumerate() {
            if triangles.iter().all(|triangle| *triangle == NOTHING) {
                continue;
            }
            let at = first + column;
            if let Some(color) = &mut color {
                color.set(at, mean_color(row, self.background, triangles, column));
            }
            if let Some(covered) = &mut self.covered {
                covered[at] = true;
            }
            if let Some(surface) = &mut self.surface {
                let triangle = chosen(row, depths, triangles, column);
                surface.set(at, &row.look(triangle, column));
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

/// Colors a row, whose first pixel is at a place, in the headlight alone. If there is a color in it, that is the background's.
#[inline(always)]
fn color_headlit(
    color: &mut ColorImage,
    first: usize,
    row: &HeadlitRow<'_>,
    visibility: &Visibility,
    y: u32,
    background: [u8; 3],
) {
    let end = first + visibility.columns().len();
    match color {
        ColorImage::Gray(values) => {
            let values = &mut values[first..end];
            headlit_values(row, visibility, y, background[0], |column, value| {
                // A cell may reach beyond the picture.
                if let Some(pixel) = values.get_mut(column) {
                    *pixel = value;
                }
            });
        }
        ColorImage::Rgb(colors) => {
            let colors = &mut colors[first..end];
            for (part, background) in background.into_iter().enumerate() {
                headlit_values(row, visibility, y, background, |column, value| {
                    if let Some(pixel) = colors.get_mut(column) {
                        pixel[part] = value;
                    }
                });
            }
        }
    }
}

/// The values of a row's pixels, but of cells that see nothing.
#[inline(always)]
fn headlit_values(
    row: &HeadlitRow<'_>,
    visibility: &Visibility,
    y: u32,
    background: u8,
    mut put: impl FnMut(usize, u8),
) {
    let has_cell_each = visibility.num_samples() == LANES;
    for (cell, triangles) in visibility.cells(y).iter().enumerate() {
        let sees_nothing = u32x4::from(*triangles).simd_eq(u32x4::splat(NOTHING));
        if sees_nothing.all() {
            continue;
        }
        let or_background = |values: i32x4| {
            bytemuck::cast::<_, i32x4>(sees_nothing).bitselect(i32x4::splat(background.into()), values)
        };
        if has_cell_each {
            let sum = or_background(row.samples(cell, *triangles)).reduce_add() as u32;
            put(cell, mean_of(sum));
        } else {
            let first = cell * LANES;
            let values = or_background(row.pixels(first, *triangles)).to_array();
            (first..)
                .zip(values)
                .for_each(|(column, value)| put(column, value as u8));
        }
    }
}

/// The mean of a sum over four samples, at least one of which sees a triangle.
fn mean_of(sum: u32) -> u8 {
    (((sum + 2) / 4) as u8).min(BRIGHTEST_COVERED)
}

/// The triangle that stands for a pixel: of those that its samples see, one that its centre meets, or else any; of
/// several the nearest. At least one sample sees one.
#[inline(always)]
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
        mean_of(sum)
    })
}
