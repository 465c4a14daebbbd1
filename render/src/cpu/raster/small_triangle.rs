//! Triangles up to 32 pixels: their edge functions fit the narrow number types over the whole bounding box.

use wide::{f32x4, i32x4};

use super::fixed_point::FixedPoint;
use super::{
    CellRect, DepthStepper, RasterTarget, SUBPIXELS, SamplePattern, Stepper, Viewport, map3, to_f32,
};

/// Largest extent, in subpixels, with which all numbers stay below 2^24: 8 pixels.
const MAX_F32_EXTENT: f32 = (8 * SUBPIXELS) as f32;
/// Largest extent, in subpixels, of a triangle that is drawn here: 32 pixels. Of larger ones most of the bounding box
/// is empty.
const MAX_I32_EXTENT: f32 = (32 * SUBPIXELS) as f32;

/// A triangle's corners and edges.
pub(super) struct SmallTriangle {
    a: f32x4,
    b: f32x4,
    c: f32x4,
    /// Of the edges ab, bc and ca; the fourth lane is unused.
    x: f32x4,
    y: f32x4,
    z: f32x4,
}

impl SmallTriangle {
    #[inline(always)]
    pub(super) fn new(a: f32x4, b: f32x4, c: f32x4) -> Self {
        let [x, y, z, _] = f32x4::transpose([b - a, c - b, a - c, f32x4::ZERO]);
        Self { a, b, c, x, y, z }
    }

    /// Draws the triangle in all its cells; returns `false` if it is too large.
    #[inline(always)]
    pub(super) fn draw(&self, viewport: &Viewport, cells: CellRect, target: &mut impl RasterTarget) -> bool {
        let extents = self.x.abs().fast_max(self.y.abs());
        if !extents.simd_gt(f32x4::splat(MAX_F32_EXTENT)).any() {
            self.draw_with::<f32x4>(viewport, cells, target);
            return true;
        }
        let is_medium = !extents.simd_gt(f32x4::splat(MAX_I32_EXTENT)).any();
        if is_medium {
            self.draw_with::<i32x4>(viewport, cells, target);
        }
        is_medium
    }

    #[inline(always)]
    fn draw_with<N: FixedPoint>(&self, viewport: &Viewport, cells: CellRect, target: &mut impl RasterTarget) {
        let area = N::area(N::from_lanes(self.x), N::from_lanes(self.y));
        if area != 0.0 {
            let (edges, depth) = self.steppers::<N>(area, viewport.pattern, cells);
            viewport.fill(cells, edges, depth, target);
        }
    }

    #[inline(always)]
    fn steppers<N: FixedPoint>(
        &self,
        area: f32,
        pattern: SamplePattern,
        cells: CellRect,
    ) -> ([Stepper<N>; 3], DepthStepper) {
        let SamplePattern { x, y, cell_width, .. } = pattern;
        let (x, y, cell_width) = (to_f32(x), to_f32(y), cell_width as f32);
        let (left, top) = (
            cells.first_column as f32 * cell_width,
            (cells.first_row as i32 * SUBPIXELS) as f32,
        );
        let Self { a, b, c, .. } = *self;
        // Back faces have the opposite winding.
        let turn = f32x4::splat(1.0_f32.copysign(area));
        let (per_x, per_y) = (-self.y * turn, self.x * turn);
        let is_top_left =
            per_x.simd_gt(f32x4::ZERO) | (per_x.simd_eq(f32x4::ZERO) & per_y.simd_gt(f32x4::ZERO));
        let fill_bias = is_top_left.bitselect(f32x4::ZERO, f32x4::splat(-1.0));
        let [from_x, from_y, ..] = f32x4::transpose([a, b, c, c]);
        let value = N::from_lanes(per_x) * N::from_lanes(f32x4::splat(left) - from_x)
            + N::from_lanes(per_y) * N::from_lanes(f32x4::splat(top) - from_y)
            + N::from_lanes(fill_bias);
        let (value, per_x, per_y) = (
            value.splat_lanes(),
            N::from_lanes(per_x).splat_lanes(),
            N::from_lanes(per_y).splat_lanes(),
        );

        let ([x_ab, _, x_ca, _], [y_ab, _, y_ca, _], [z_ab, _, z_ca, _]) =
            (self.x.to_array(), self.y.to_array(), self.z.to_array());
        let z_per_x = (z_ca * y_ab - z_ab * y_ca) * area.recip();
        let z_per_y = (z_ab * x_ca - z_ca * x_ab) * area.recip();
        let [a_x, a_y, a_z, _] = a.to_array();
        let edges = map3([0, 1, 2], |i| Stepper {
            here: value[i] + per_x[i] * N::from_lanes(x) + per_y[i] * N::from_lanes(y),
            per_cell: per_x[i] * N::from_lanes(f32x4::splat(cell_width)),
            per_row: per_y[i] * N::from_lanes(f32x4::splat(SUBPIXELS as f32)),
        });
        let depth = DepthStepper {
            stepper: Stepper {
                here: f32x4::splat(a_z)
                    + (x + f32x4::splat(left - a_x)) * f32x4::splat(z_per_x)
                    + (y + f32x4::splat(top - a_y)) * f32x4::splat(z_per_y),
                per_cell: f32x4::splat(z_per_x * cell_width),
                per_row: f32x4::splat(z_per_y * SUBPIXELS as f32),
            },
            nearest: f32x4::splat(a.fast_min(b).fast_min(c).to_array()[2]),
            farthest: f32x4::splat(a.fast_max(b).fast_max(c).to_array()[2]),
        };
        (edges, depth)
    }
}
