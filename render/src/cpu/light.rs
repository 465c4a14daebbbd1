//! The lights of a view, and what they make of a point of a surface.

use glam::{Vec2, Vec3};
use tap_shaders::{LIGHT_DIRECTIONAL, LIGHT_POINT, PARALLEL, REVERSE_LIT, SHOW_NORMALS, ViewUniform};

use crate::lighting::BRIGHTEST_COVERED;

/// The light of a view.
#[derive(Debug)]
pub(crate) struct Lamp<'a> {
    view: &'a ViewUniform,
    up: Vec3,
}

/// A point of a surface and the ray that meets it, in view space.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Point {
    pub(crate) position: Vec3,
    /// Of the side that is seen.
    pub(crate) normal: Vec3,
    pub(crate) albedo: Vec3,
    pub(crate) direction: Vec3,
}

impl<'a> Lamp<'a> {
    pub(crate) fn new(view: &'a ViewUniform) -> Self {
        let [x, y, z, _] = view.view_from_object[1];
        Self {
            view,
            up: Vec3::new(x, y, z),
        }
    }

    /// Through a point of the picture, z = -1.
    pub(crate) fn ray_direction(&self, pixel: Vec2) -> Vec3 {
        if self.has(PARALLEL) {
            Vec3::NEG_Z
        } else {
            self.place(pixel).extend(-1.0)
        }
    }

    /// Where the ray through a pixel is at a distance from the eye's plane.
    pub(crate) fn position(&self, pixel: Vec2, depth: f32) -> Vec3 {
        let place = self.place(pixel);
        if self.has(PARALLEL) {
            place.extend(-depth)
        } else {
            (place * depth).extend(-depth)
        }
    }

    /// The color of a covered pixel.
    pub(crate) fn shown(&self, point: &Point) -> [u8; 3] {
        bytes_of(self.lit(point)).map(|byte| byte.min(BRIGHTEST_COVERED))
    }

    fn place(&self, pixel: Vec2) -> Vec2 {
        pixel * Vec2::from(self.view.ray_scale) + Vec2::from(self.view.ray_offset)
    }

    pub(super) fn has(&self, flag: u32) -> bool {
        self.view.flags & flag != 0
    }

    fn lit(&self, point: &Point) -> Vec3 {
        let view = self.view;
        if self.has(SHOW_NORMALS) {
            return point.normal * 0.5 + 0.5;
        }
        let to_eye = -point.direction.normalize();
        let (mut diffuse, mut specular) = (Vec3::ZERO, Vec3::ZERO);
        for light in &view.lights[..view.num_lights as usize] {
            let to_light = match light.kind {
                LIGHT_DIRECTIONAL => Vec3::from(light.vector),
                LIGHT_POINT => (Vec3::from(light.vector) - point.position).normalize(),
                _ => to_eye,
            };
            let along = point.normal.dot(to_light);
            let cosine = if self.has(REVERSE_LIT) {
                along.abs()
            } else {
                along.max(0.0)
            };
            diffuse += Vec3::from(light.color) * cosine;
            if view.specular > 0.0 && cosine > 0.0 {
                let half_way = (to_light + to_eye).normalize();
                specular +=
                    Vec3::from(light.color) * point.normal.dot(half_way).max(0.0).powf(view.shininess);
            }
        }
        let up = 0.5 + 0.5 * point.normal.dot(self.up);
        let (ground, sky) = (Vec3::from(view.ground), Vec3::from(view.sky));
        let around = Vec3::from(view.ambient) + ground * (1.0 - up) + sky * up;
        point.albedo * (around + view.diffuse * diffuse) + view.specular * specular
    }
}

/// Rounded to the nearest of 8 bits.
pub(super) fn bytes_of(color: Vec3) -> [u8; 3] {
    (color.clamp(Vec3::ZERO, Vec3::ONE) * 255.0 + 0.5)
        .to_array()
        .map(|value| value as u8)
}

pub(crate) fn albedo_of(bytes: [u8; 3]) -> Vec3 {
    Vec3::from(bytes.map(f32::from)) / 255.0
}
