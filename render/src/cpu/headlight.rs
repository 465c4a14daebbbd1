//! The headlight alone, as in `mvcnn`: gray light from the eye, and gray light from everywhere. Most pictures are made in it,
//! so it has a way of its own: four samples at once, whichever triangles they see.

use std::ops::Range;

use glam::{Vec2, Vec3};
use tap_shaders::{GLOSSY, LIGHT_AT_EYE, OWN_MATERIAL, SHOW_NORMALS, SKY, SMOOTH, ViewUniform};
use wide::{f32x4, i32x4};

use super::surface::Stage;
use crate::cpu::raster::LANES;
use crate::lighting::BRIGHTEST_COVERED;
use crate::simd::Four;

/// Gray light from the eye, and from everywhere.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Headlight {
    ambient: f32,
    diffuse: f32,
}

impl Headlight {
    /// `None` if the light is another.
    pub(crate) fn of(view: &ViewUniform) -> Option<Self> {
        let [light] = view.lights[..view.num_lights as usize] else {
            return None;
        };
        let is_alone = light.kind == LIGHT_AT_EYE
            && view.flags & (OWN_MATERIAL | SMOOTH | SHOW_NORMALS | GLOSSY | SKY) == 0
            && [view.ambient, light.color].iter().all(|[red, green, blue]| {
                red.to_bits() == green.to_bits() && green.to_bits() == blue.to_bits()
            });
        is_alone.then_some(Self {
            ambient: view.ambient[0],
            diffuse: view.diffuse * light.color[0],
        })
    }

    /// The values of faces and the cosines between them and the rays that meet them, either way.
    #[inline(always)]
    fn shown(self, cosines: f32x4) -> i32x4 {
        let light = f32x4::splat(self.ambient) + f32x4::splat(self.diffuse) * cosines.abs();
        let value = light.fast_min(f32x4::ONE) * f32x4::splat(255.0) + f32x4::HALF;
        value
            .fast_min(f32x4::splat(f32::from(BRIGHTEST_COVERED)))
            .fast_trunc_int()
    }
}

/// The pixels of a row in the headlight alone. Most of the work for their values is done once a row.
#[derive(Debug)]
pub(crate) struct HeadlitRow<'a> {
    stage: &'a Stage<'a>,
    light: Headlight,
    first_column: u32,
    /// Of the ray through the first pixel, in object space; and how much another it is from pixel to pixel.
    direction: Vec3,
    to_next: Vec3,
    /// One by the lengths of the rays.
    per_length: Vec<f32>,
}

impl<'a> HeadlitRow<'a> {
    /// Some pixels of a row, whose number is rounded up to whole lanes; `None` in another light.
    pub(crate) fn new(stage: &'a Stage<'a>, columns: &Range<u32>) -> Option<Self> {
        stage.headlight.map(|light| Self {
            stage,
            light,
            first_column: columns.start,
            direction: Vec3::ZERO,
            to_next: Vec3::ZERO,
            per_length: vec![0.0; columns.len().next_multiple_of(LANES)],
        })
    }

    /// Goes to a row.
    #[inline(always)]
    pub(crate) fn go_to(&mut self, y: u32) {
        let ray_direction = |column: u32| {
            let pixel = Vec2::new((self.first_column + column) as f32 + 0.5, y as f32 + 0.5);
            self.stage.lamp.ray_direction(pixel)
        };
        let first = ray_direction(0);
        let to_next = ray_direction(1) - first;
        for (i, per_length) in self.per_length.as_chunks_mut().0.iter_mut().enumerate() {
            let Four { x, y, z } = along(first, to_next, columns_from(i * LANES));
            *per_length = (f32x4::ONE / (x * x + y * y + z * z).sqrt()).to_array();
        }
        let to_object = self.stage.rotation.transpose();
        self.direction = to_object * first;
        self.to_next = to_object * to_next;
    }

    /// The values of four samples of a pixel, counted from the first. What one shows that sees no triangle means nothing.
    #[inline(always)]
    pub(crate) fn samples(&self, column: usize, triangles: [u32; LANES]) -> i32x4 {
        let per_length = f32x4::splat(self.per_length[column]);
        self.shown(f32x4::splat(column as f32), per_length, triangles)
    }

    /// The values of four pixels, of which the first is counted from the first of all. What one shows that sees no triangle
    /// means nothing.
    #[inline(always)]
    pub(crate) fn pixels(&self, column: usize, triangles: [u32; LANES]) -> i32x4 {
        let per_length = f32x4::from(&self.per_length[column..column + LANES]);
        self.shown(columns_from(column), per_length, triangles)
    }

    #[inline(always)]
    fn shown(&self, columns: f32x4, per_length: f32x4, triangles: [u32; LANES]) -> i32x4 {
        let direction = along(self.direction, self.to_next, columns);
        let normals = &self.stage.scene.normals;
        let last = normals.len() - 1;
        let [a, b, c, d] = triangles.map(|index| &normals[(index as usize).min(last)]);
        let normal = Four::new([a, b, c, d]);
        let cosines = normal.x * direction.x + normal.y * direction.y + normal.z * direction.z;
        self.light.shown(cosines * per_length)
    }
}

/// Four columns, from one on.
#[inline(always)]
fn columns_from(first: usize) -> f32x4 {
    f32x4::splat(first as f32) + f32x4::from([0.0, 1.0, 2.0, 3.0])
}

/// Steps from a place.
#[inline(always)]
fn along(start: Vec3, step: Vec3, steps: f32x4) -> Four {
    let along = |start: f32, step: f32| f32x4::splat(start) + f32x4::splat(step) * steps;
    Four {
        x: along(start.x, step.x),
        y: along(start.y, step.y),
        z: along(start.z, step.z),
    }
}
