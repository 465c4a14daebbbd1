//! Projects a mesh: culls its meshlets, and snaps the points of a meshlet to subpixels and to rows and columns of
//! samples.

use std::ops::Range;

use wide::f32x4;

use super::meshlet::{MAX_POINTS, Meshlets};
use super::{SUBPIXEL_BITS, SUBPIXELS, SamplePattern};
use crate::simd::Vec3x4;

/// Corners are clamped to this many subpixels, far beyond the largest image.
const GUARD_BAND: f32 = (1 << 21) as f32;
/// Adding and subtracting it rounds an `f32` to the nearest integer.
const ROUNDING_BIAS: f32 = (3 << 22) as f32;

/// Margin around a meshlet's bounding box for the rounding of its points, in pixels and in depth.
const PIXEL_MARGIN: f32 = 0.125;
const DEPTH_MARGIN: f32 = 1e-3;

/// The meshlets of a mesh that may be visible in an image, front to back.
#[derive(Debug, Default)]
pub(crate) struct ProjectedMeshlets {
    meshlets: Vec<ProjectedMeshlet>,
}

/// Screen-space bounds of a meshlet.
#[derive(Debug, Clone)]
pub(super) struct ProjectedMeshlet {
    pub(super) number: u32,
    /// A lower bound of its depth.
    pub(super) nearest: f32,
    /// In pixels; no sample outside is covered.
    pub(super) columns: Range<u32>,
    pub(super) rows: Range<u32>,
}

impl ProjectedMeshlets {
    /// Projects meshlets into an image. `project` gives x and y in pixels from the top left and depth as z; its second
    /// result is positive in front of the eye.
    pub(crate) fn project(
        &mut self,
        meshlets: &Meshlets,
        [width, height]: [u32; 2],
        project: impl Fn(&Vec3x4) -> (Vec3x4, f32x4),
    ) {
        let pixels = |low: f32, high: f32, end: u32| {
            // Casting negative numbers gives 0.
            (low - PIXEL_MARGIN) as u32..((high + PIXEL_MARGIN) as u32).saturating_add(1).min(end)
        };
        let boxes = (0..).zip(meshlets.projected_bounds_of_all(project));
        let projected = boxes.map(|(number, projected_bounds)| {
            let Some(bounds) = projected_bounds else {
                return ProjectedMeshlet {
                    number,
                    nearest: f32::NEG_INFINITY,
                    columns: 0..width,
                    rows: 0..height,
                };
            };
            let [[left, top, nearest, _], [right, bottom, ..]] = bounds.map(f32x4::to_array);
            ProjectedMeshlet {
                number,
                nearest: nearest - DEPTH_MARGIN,
                columns: pixels(left, right, width),
                rows: pixels(top, bottom, height),
            }
        });
        self.meshlets.clear();
        self.meshlets.extend(
            projected.filter(|projected| !projected.columns.is_empty() && !projected.rows.is_empty()),
        );
        self.meshlets
            .sort_unstable_by(|a, b| a.nearest.total_cmp(&b.nearest));
    }

    /// Columns and rows of pixels outside of which nothing is covered.
    pub(crate) fn pixels(&self) -> [Range<u32>; 2] {
        let union = |of: fn(&ProjectedMeshlet) -> &Range<u32>| {
            let ranges = || self.meshlets.iter().map(of);
            let start = ranges().map(|range| range.start).min();
            let end = ranges().map(|range| range.end).max();
            start.unwrap_or_default()..end.unwrap_or_default()
        };
        [
            union(|projected| &projected.columns),
            union(|projected| &projected.rows),
        ]
    }

    pub(super) fn meshlets(&self) -> &[ProjectedMeshlet] {
        &self.meshlets
    }
}

/// The points of a meshlet in an image.
pub(super) struct ProjectedVertices {
    /// x and y in subpixels from the top left, integral; depth; unused.
    pub(super) points: [f32x4; MAX_POINTS],
    /// Per point, the first column of samples that is not left of it in the lower half, and the first row that is not
    /// above it in the upper; clamped to the image or one past its end.
    pub(super) bins: [u32; MAX_POINTS],
}

impl ProjectedVertices {
    pub(super) fn new() -> Self {
        Self {
            points: [f32x4::ZERO; MAX_POINTS],
            bins: [0; MAX_POINTS],
        }
    }

    /// Snaps points given in pixels from the top left, with depth as z.
    #[inline(always)]
    pub(super) fn project(
        &mut self,
        points: impl Iterator<Item = Vec3x4>,
        [width, height]: [u32; 2],
        pattern: SamplePattern,
    ) {
        let (guard_band, rounding_bias) = (f32x4::splat(GUARD_BAND), f32x4::splat(ROUNDING_BIAS));
        let to_subpixels = |pixels: f32x4| {
            let subpixels = (pixels * f32x4::splat(SUBPIXELS as f32))
                .fast_max(-guard_band)
                .fast_min(guard_band);
            (subpixels + rounding_bias) - rounding_bias
        };
        let SamplePattern { pitch_bits, .. } = pattern;
        let half_pitch = f32x4::splat(((1 << (pitch_bits - 1)) - 1) as f32);
        let per_pitch = f32x4::splat(((1 << pitch_bits) as f32).recip());
        let bin = |subpixels: f32x4, num_pixels: u32| {
            let end = f32x4::splat((num_pixels << (SUBPIXEL_BITS - pitch_bits)) as f32);
            let bin = (subpixels + half_pitch) * per_pitch;
            bin.fast_max(f32x4::ZERO).fast_min(end).fast_trunc_int()
        };
        let places = self
            .points
            .as_chunks_mut::<4>()
            .0
            .iter_mut()
            .zip(self.bins.as_chunks_mut::<4>().0);
        for (Vec3x4 { x, y, z }, (points, bins)) in points.zip(places) {
            let (x, y) = (to_subpixels(x), to_subpixels(y));
            *points = Vec3x4 { x, y, z }.transpose();
            *bins = bytemuck::cast(bin(x, width) | (bin(y, height) << 16_i32));
        }
    }
}
