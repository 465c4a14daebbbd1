//! The points of a mesh in a picture: rounded, and sorted into the columns and rows of its samples.

use std::ops::Range;

use wide::f32x4;

use super::{Pattern, STEP_BITS, STEPS};
use crate::four::Four;

/// Corners are kept within this many steps, far outside of the largest picture.
const GUARD: f32 = (1 << 21) as f32;
/// Added to a number, it leaves the nearest whole one.
const ROUNDER: f32 = (3 << 22) as f32;

/// The points of a mesh in a picture.
#[derive(Debug, Default)]
pub(crate) struct Placed {
    /// x and y in steps from the top left, whole numbers; depth; nothing.
    pub(super) corners: Vec<f32x4>,
    /// The first column of samples that is not left of each point, in the lower half, and the first row that is not
    /// above it: those of the picture, or the one after its last.
    pub(super) lots: Vec<u32>,
}

impl Placed {
    /// Places points, of which x and y are given in pixels from the top left, and z is the depth.
    pub(crate) fn place(
        &mut self,
        points: impl ExactSizeIterator<Item = Four>,
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
        self.corners.clear();
        self.lots.clear();
        self.corners.reserve(4 * points.len());
        self.lots.reserve(4 * points.len());
        for Four { x, y, z } in points {
            let (x, y) = (to_steps(x), to_steps(y));
            self.corners.extend(Four { x, y, z }.transpose());
            let lots = lot(x, width) | (lot(y, height) << 16_i32);
            self.lots.extend(bytemuck::cast::<_, [u32; 4]>(lots));
        }
    }

    /// The pixels that may hold a sample of a triangle: columns and rows, empty if there is none.
    pub(crate) fn pixels(&self, pattern: Pattern) -> [Range<u32>; 2] {
        let (mut first, mut end) = ([u32::MAX; 2], [0; 2]);
        for lot in &self.lots {
            for (i, place) in [lot & 0xFFFF, lot >> 16].into_iter().enumerate() {
                first[i] = place.min(first[i]);
                end[i] = place.max(end[i]);
            }
        }
        let per_pixel_bits = STEP_BITS - pattern.pitch_bits;
        [0, 1].map(|i| {
            if first[i] < end[i] {
                first[i] >> per_pixel_bits..((end[i] - 1) >> per_pixel_bits) + 1
            } else {
                0..0
            }
        })
    }
}
