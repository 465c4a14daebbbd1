//! Triangles of at most 32 pixels: all numbers are small enough to be computed for the whole of them.

use wide::{f32x4, i32x4};

use super::fixed_point::Whole;
use super::{Canvas, Cells, DepthRamp, Field, Pattern, Ramp, STEPS, each, to_f32};

/// The largest extent, in steps, with which all numbers are below 2^24: 8 pixels.
const SMALL: f32 = (8 * STEPS) as f32;
/// The largest extent of a triangle that is drawn here. Beyond it most of its box is empty.
const MEDIUM: f32 = (32 * STEPS) as f32;

/// A triangle's corners, and the ways between them.
pub(super) struct Triangle {
    a: f32x4,
    b: f32x4,
    c: f32x4,
    /// From a to b, from b to c, from c to a; nothing.
    x: f32x4,
    y: f32x4,
    z: f32x4,
}

impl Triangle {
    #[inline(always)]
    pub(super) fn new(a: f32x4, b: f32x4, c: f32x4) -> Self {
        let [x, y, z, _] = f32x4::transpose([b - a, c - b, a - c, f32x4::ZERO]);
        Self { a, b, c, x, y, z }
    }

    /// Draws it in all its cells; false if it is too large for that.
    #[inline(always)]
    pub(super) fn draw(&self, field: &Field, cells: Cells, canvas: &mut impl Canvas) -> bool {
        let extents = self.x.abs().fast_max(self.y.abs());
        if !extents.simd_gt(f32x4::splat(SMALL)).any() {
            self.draw_in::<f32x4>(field, cells, canvas);
            return true;
        }
        let is_medium = !extents.simd_gt(f32x4::splat(MEDIUM)).any();
        if is_medium {
            self.draw_in::<i32x4>(field, cells, canvas);
        }
        is_medium
    }

    #[inline(always)]
    fn draw_in<N: Whole>(&self, field: &Field, cells: Cells, canvas: &mut impl Canvas) {
        let area = N::area(N::of(self.x), N::of(self.y));
        if area != 0.0 {
            let (sides, depth) = self.ramps::<N>(area, field.pattern, cells);
            field.fill(cells, sides, depth, canvas);
        }
    }

    #[inline(always)]
    fn ramps<N: Whole>(&self, area: f32, pattern: Pattern, cells: Cells) -> ([Ramp<N>; 3], DepthRamp) {
        let Pattern { x, y, cell_width, .. } = pattern;
        let (x, y, cell_width) = (to_f32(x), to_f32(y), cell_width as f32);
        let (left, top) = (
            cells.first_column as f32 * cell_width,
            (cells.first_row as i32 * STEPS) as f32,
        );
        let Self { a, b, c, .. } = *self;
        // Seen from behind, all sides run the other way round.
        let turn = f32x4::splat(1.0_f32.copysign(area));
        let (per_x, per_y) = (-self.y * turn, self.x * turn);
        let is_left_or_top =
            per_x.simd_gt(f32x4::ZERO) | (per_x.simd_eq(f32x4::ZERO) & per_y.simd_gt(f32x4::ZERO));
        let owned = is_left_or_top.bitselect(f32x4::ZERO, f32x4::splat(-1.0));
        let [from_x, from_y, ..] = f32x4::transpose([a, b, c, c]);
        let value = N::of(per_x) * N::of(f32x4::splat(left) - from_x)
            + N::of(per_y) * N::of(f32x4::splat(top) - from_y)
            + N::of(owned);
        let (value, per_x, per_y) = (value.lanes(), N::of(per_x).lanes(), N::of(per_y).lanes());

        let ([x_ab, _, x_ca, _], [y_ab, _, y_ca, _], [z_ab, _, z_ca, _]) =
            (self.x.to_array(), self.y.to_array(), self.z.to_array());
        let z_per_x = (z_ca * y_ab - z_ab * y_ca) * area.recip();
        let z_per_y = (z_ab * x_ca - z_ca * x_ab) * area.recip();
        let [a_x, a_y, a_z, _] = a.to_array();
        let sides = each([0, 1, 2], |i| Ramp {
            here: value[i] + per_x[i] * N::of(x) + per_y[i] * N::of(y),
            per_cell: per_x[i] * N::of(f32x4::splat(cell_width)),
            per_row: per_y[i] * N::of(f32x4::splat(STEPS as f32)),
        });
        let depth = DepthRamp {
            ramp: Ramp {
                here: f32x4::splat(a_z)
                    + (x + f32x4::splat(left - a_x)) * f32x4::splat(z_per_x)
                    + (y + f32x4::splat(top - a_y)) * f32x4::splat(z_per_y),
                per_cell: f32x4::splat(z_per_x * cell_width),
                per_row: f32x4::splat(z_per_y * STEPS as f32),
            },
            nearest: f32x4::splat(a.fast_min(b).fast_min(c).to_array()[2]),
            farthest: f32x4::splat(a.fast_max(b).fast_max(c).to_array()[2]),
        };
        (sides, depth)
    }
}
