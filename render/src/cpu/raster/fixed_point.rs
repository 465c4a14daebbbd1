//! Whole numbers, four at a time, in two forms.

use std::ops::{Add, Mul};

use wide::{f32x4, i32x4};

/// Whole numbers, four at a time.
pub(super) trait Whole: Copy + Add<Output = Self> + Mul<Output = Self> {
    /// Numbers that are whole already.
    fn of(lanes: f32x4) -> Self;

    /// Each of the first three four times.
    fn lanes(self) -> [Self; 3];

    /// Numbers of the same signs.
    fn signs(self) -> i32x4;

    /// Twice the area between sides, positive if they run clockwise; its sign is exact.
    fn area(x: Self, y: Self) -> f32;
}

/// Below 2^24.
impl Whole for f32x4 {
    #[inline(always)]
    fn of(lanes: f32x4) -> Self {
        lanes
    }

    #[inline(always)]
    fn lanes(self) -> [Self; 3] {
        let [first, second, third, _] = self.to_array();
        [Self::splat(first), Self::splat(second), Self::splat(third)]
    }

    #[inline(always)]
    fn signs(self) -> i32x4 {
        bytemuck::cast(self)
    }

    #[inline(always)]
    fn area(x: Self, y: Self) -> f32 {
        let ([x_ab, _, x_ca, _], [y_ab, _, y_ca, _]) = (x.to_array(), y.to_array());
        y_ab * x_ca - x_ab * y_ca
    }
}

/// Below 2^31, but slower to multiply.
impl Whole for i32x4 {
    #[inline(always)]
    fn of(lanes: f32x4) -> Self {
        lanes.fast_trunc_int()
    }

    #[inline(always)]
    fn lanes(self) -> [Self; 3] {
        let [first, second, third, _] = self.to_array();
        [Self::splat(first), Self::splat(second), Self::splat(third)]
    }

    #[inline(always)]
    fn signs(self) -> i32x4 {
        self
    }

    #[inline(always)]
    fn area(x: Self, y: Self) -> f32 {
        let ([x_ab, _, x_ca, _], [y_ab, _, y_ca, _]) = (x.to_array(), y.to_array());
        (y_ab * x_ca - x_ab * y_ca) as f32
    }
}
