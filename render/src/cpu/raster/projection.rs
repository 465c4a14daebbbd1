//! A mesh in a picture: which of its meshlets may be seen, and where the points of one of them are, rounded, and sorted
//! into the columns and rows of the samples.

use std::ops::Range;

use wide::f32x4;

use super::meshlet::{MAX_POINTS, Meshlets};
use super::{Pattern, STEP_BITS, STEPS};
use crate::simd::Four;

/// Corners are kept within this many steps, far outside of the largest picture.
const GUARD: f32 = (1 << 21) as f32;
/// Added to a number, it leaves the nearest whole one.
const ROUNDER: f32 = (3 << 22) as f32;

/// Room around the box of a meshlet for what its points are rounded by: in pixels, and in depth.
const PIXEL_MARGIN: f32 = 0.125;
const DEPTH_MARGIN: f32 = 1e-3;

/// The meshlets of a mesh that may be seen in a picture, the nearest first.
#[derive(Debug, Default)]
pub(crate) struct Placed {
    meshlets: Vec<PlacedMeshlet>,
}

/// Where a meshlet may be seen.
#[derive(Debug, Clone)]
pub(super) struct PlacedMeshlet {
    pub(super) number: u32,
    /// No point of it is nearer.
    pub(super) nearest: f32,
    /// Pixels; others have no sample of it.
    pub(super) columns: Range<u32>,
    pub(super) rows: Range<u32>,
}

impl Placed {
    /// Places meshlets in a picture of some pixels. `place` gives x and y in pixels from the top left, the depth as z, and
    /// how far before the eye points are.
    pub(crate) fn place(
        &mut self,
        meshlets: &Meshlets,
        [width, height]: [u32; 2],
        place: impl Fn(&Four) -> (Four, f32x4),
    ) {
        let pixels = |low: f32, high: f32, end: u32| {
            // Casts of what is negative give 0.
            (low - PIXEL_MARGIN) as u32..((high + PIXEL_MARGIN) as u32).saturating_add(1).min(end)
        };
        let boxes = (0..).zip(meshlets.placed_boxes(place));
        let placed = boxes.map(|(number, placed_box)| {
            let Some(extremes) = placed_box else {
                return PlacedMeshlet {
                    number,
                    nearest: f32::NEG_INFINITY,
                    columns: 0..width,
                    rows: 0..height,
                };
            };
            let [[left, top, nearest, _], [right, bottom, ..]] = extremes.map(f32x4::to_array);
            PlacedMeshlet {
                number,
                nearest: nearest - DEPTH_MARGIN,
                columns: pixels(left, right, width),
                rows: pixels(top, bottom, height),
            }
        });
        self.meshlets.clear();
        self.meshlets
            .extend(placed.filter(|placed| !placed.columns.is_empty() && !placed.rows.is_empty()));
        self.meshlets
            .sort_unstable_by(|a, b| a.nearest.total_cmp(&b.nearest));
    }

    /// Pixels outside of these columns and rows see nothing.
    pub(crate) fn pixels(&self) -> [Range<u32>; 2] {
        let union = |of: fn(&PlacedMeshlet) -> &Range<u32>| {
            let ranges = || self.meshlets.iter().map(of);
            let start = ranges().map(|range| range.start).min();
            let end = ranges().map(|range| range.end).max();
            start.unwrap_or_default()..end.unwrap_or_default()
        };
        [union(|placed| &placed.columns), union(|placed| &placed.rows)]
    }

    pub(super) fn meshlets(&self) -> &[PlacedMeshlet] {
        &self.meshlets
    }
}

/// The points of a meshlet in a picture.
pub(super) struct Corners {
    /// x and y in steps from the top left, whole numbers; depth; nothing.
    pub(super) points: [f32x4; MAX_POINTS],
    /// The first column of samples that is not left of each point, in the lower half, and the first row that is not
    /// above it: those of the picture, or the one after its last.
    pub(super) lots: [u32; MAX_POINTS],
}

impl Corners {
    pub(super) fn new() -> Self {
        Self {
            points: [f32x4::ZERO; MAX_POINTS],
            lots: [0; MAX_POINTS],
        }
    }

    /// Places points, of which x and y are given in pixels from the top left, and z is the depth.
    #[inline(always)]
    pub(super) fn place(
        &mut self,
        points: impl Iterator<Item = Four>,
        [width, height]: [u32; 2],
        pattern: Pattern,
    ) {
        let (guard, rounder) = (f32x4::splat(GUARD), f32x4::splat(ROUNDER));
        let to_steps = |pixels: f32x4| {
            let steps = (pixels * f32x4::splat(STEPS as f32))
                .fast_max(-guard)
                .fast_min(guard);
            (steps + rounder) - rounder
        };
        let Pattern { pitch_bits, .. } = pattern;
        let to_next = f32x4::splat(((1 << (pitch_bits - 1)) - 1) as f32);
        let per_pitch = f32x4::splat(((1 << pitch_bits) as f32).recip());
        let lot = |steps: f32x4, num_pixels: u32| {
            let end = f32x4::splat((num_pixels << (STEP_BITS - pitch_bits)) as f32);
            let lot = (steps + to_next) * per_pitch;
            lot.fast_max(f32x4::ZERO).fast_min(end).fast_trunc_int()
        };
        let places = self
            .points
            .as_chunks_mut::<4>()
            .0
            .iter_mut()
            .zip(self.lots.as_chunks_mut::<4>().0);
        for (Four { x, y, z }, (points, lots)) in points.zip(places) {
            let (x, y) = (to_steps(x), to_steps(y));
            *points = Four { x, y, z }.transpose();
            *lots = bytemuck::cast(lot(x, width) | (lot(y, height) << 16_i32));
        }
    }
}
