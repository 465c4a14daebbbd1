//! Fast path for a single gray headlight with gray ambient light, as in `mvcnn` and so in most images: shades four
//! samples at a time, whatever triangles they belong to.

use std::ops::Range;

use glam::{Vec2, Vec3};
use wide::{f32x4, i32x4};

use super::surface::ShadingContext;
use crate::cpu::raster::LANES;
use crate::scene::Headlight;
use crate::simd::Vec3x4;

/// Shades the pixels of a row; what the row's pixels share is computed once per row.
#[derive(Debug)]
pub(crate) struct HeadlightScanline<'a> {
    context: &'a ShadingContext<'a>,
    light: Headlight,
    first_column: u32,
    /// Direction of the ray through the first pixel, in object space, and the step to the next pixel's.
    direction: Vec3,
    step: Vec3,
    /// Reciprocal lengths of the rays.
    inv_length: Vec<f32>,
}

impl<'a> HeadlightScanline<'a> {
    /// For some columns, rounded up to whole cells; `None` if the view has other lighting.
    pub(crate) fn new(context: &'a ShadingContext<'a>, columns: &Range<u32>) -> Option<Self> {
        context.headlight.map(|light| Self {
            context,
            light,
            first_column: columns.start,
            direction: Vec3::ZERO,
            step: Vec3::ZERO,
            inv_length: vec![0.0; columns.len().next_multiple_of(LANES)],
        })
    }

    /// Moves to row `y`.
    #[inline(always)]
    pub(crate) fn begin_row(&mut self, y: u32) {
        let ray_direction = |column: u32| {
            let pixel = Vec2::new((self.first_column + column) as f32 + 0.5, y as f32 + 0.5);
            self.context.lights.ray_direction(pixel)
        };
        let first = ray_direction(0);
        let step = ray_direction(1) - first;
        for (i, inv_length) in self.inv_length.as_chunks_mut().0.iter_mut().enumerate() {
            let Vec3x4 { x, y, z } = linear_steps(first, step, columns_from(i * LANES));
            *inv_length = (f32x4::ONE / (x * x + y * y + z * z).sqrt()).to_array();
        }
        let to_object = self.context.rotation.transpose();
        self.direction = to_object * first;
        self.step = to_object * step;
    }

    /// Values of four samples of a pixel, `column` counted from the first column. Lanes without a triangle are
    /// undefined.
    #[inline(always)]
    pub(crate) fn shade_samples(&self, column: usize, triangles: [u32; LANES]) -> i32x4 {
        let inv_length = f32x4::splat(self.inv_length[column]);
        self.shade(f32x4::splat(column as f32), inv_length, triangles)
    }

    /// Values of four pixels, `column` counted from the first column. Lanes without a triangle are undefined.
    #[inline(always)]
    pub(crate) fn shade_pixels(&self, column: usize, triangles: [u32; LANES]) -> i32x4 {
        let inv_length = f32x4::from(&self.inv_length[column..column + LANES]);
        self.shade(columns_from(column), inv_length, triangles)
    }

    #[inline(always)]
    fn shade(&self, columns: f32x4, inv_length: f32x4, triangles: [u32; LANES]) -> i32x4 {
        let direction = linear_steps(self.direction, self.step, columns);
        let normals = &self.context.scene.normals;
        let last = normals.len() - 1;
        let [a, b, c, d] = triangles.map(|index| &normals[(index as usize).min(last)]);
        let normal = Vec3x4::new([a, b, c, d]);
        let cosines = normal.x * direction.x + normal.y * direction.y + normal.z * direction.z;
        self.light.shade(cosines * inv_length)
    }
}

/// Four consecutive columns.
#[inline(always)]
fn columns_from(first: usize) -> f32x4 {
    f32x4::splat(first as f32) + f32x4::from([0.0, 1.0, 2.0, 3.0])
}

/// `start + step * steps`, by component.
#[inline(always)]
fn linear_steps(start: Vec3, step: Vec3, steps: f32x4) -> Vec3x4 {
    let linear_steps = |start: f32, step: f32| f32x4::splat(start) + f32x4::splat(step) * steps;
    Vec3x4 {
        x: linear_steps(start.x, step.x),
        y: linear_steps(start.y, step.y),
        z: linear_steps(start.z, step.z),
    }
}
