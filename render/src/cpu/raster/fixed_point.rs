//! Exact fixed-point arithmetic, four lanes at a time, in two representations.

use std::ops::{Add, Mul};

use wide::{f32x4, i32x4};

/// Four exact integers, in subpixels or products of them.
pub(super) trait FixedPoint: Copy + Add<Output = Self> + Mul<Output = Self> {
    /// From integral values.
    fn from_lanes(lanes: f32x4) -> Self;

    /// The first three lanes, each copied to all four.
    fn splat_lanes(self) -> [Self; 3];

    /// Values whose sign bits are those of the lanes.
    fn sign_bits(self) -> i32x4;

    /// Twice the signed area of a triangle with these edges, positive if clockwise; its sign is exact.
    fn area(x: Self, y: Self) -> f32;
}

/// Exact below 2^24.
impl FixedPoint for f32x4 {
    #[inline(always)]
    fn from_lanes(lanes: f32x4) -> Self {
        lanes
    }

    #[inline(always)]
    fn splat_lanes(self) -> [Self; 3] {
        let [first, second, third, _] = self.to_array();
        [Self::splat(first), Self::splat(second), Self::splat(third)]
    }

    #[inline(always)]
    fn sign_bits(self) -> i32x4 {
        bytemuck::cast(self)
    }

    #[inline(always)]
    fn area(x: Self, y: Self) -> f32 {
        let ([x_ab, _, x_ca, _], [y_ab, _, y_ca, _]) = (x.to_array(), y.to_array());
        y_ab * x_ca - x_ab * y_ca
    }
}

/// Exact below 2^31, but slower to multiply.
impl FixedPoint for i32x4 {
    #[inline(always)]
    fn from_lanes(lanes: f32x4) -> Self {
        lanes.fast_trunc_int()
    }

    #[inline(always)]
    fn splat_lanes(self) -> [Self; 3] {
        let [first, second, third, _] = self.to_array();
        [Self::splat(first), Self::splat(second), Self::splat(third)]
    }

    #[inline(always)]
    fn sign_bits(self) -> i32x4 {
        self
    }

    #[inline(always)]
    fn area(x: Self, y: Self) -> f32 {
        let ([x_ab, _, x_ca, _], [y_ab, _, y_ca, _]) = (x.to_array(), y.to_array());
        (y_ab * x_ca - x_ab * y_ca) as f32
    }
}
