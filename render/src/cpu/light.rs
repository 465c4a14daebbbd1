//! Lighting of a surface point; the formula stands in `lighting/mod.rs`. The WGSL version is `light.wgsl`.

use glam::{Vec2, Vec3};
use tap_shaders::{
    LIGHT_DIRECTIONAL, LIGHT_POINT, ORTHOGRAPHIC, SHOW_DEPTH, SHOW_NORMALS, TWO_SIDED, ViewUniform,
};

use crate::lighting::BRIGHTEST_COVERED;

/// Evaluates the lights of a view.
#[derive(Debug)]
pub(crate) struct LightEvaluator<'a> {
    view: &'a ViewUniform,
    up: Vec3,
}

/// A surface point and the ray that hits it, in view space.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SurfacePoint {
    pub(crate) position: Vec3,
    /// On the side that is seen.
    pub(crate) normal: Vec3,
    pub(crate) albedo: Vec3,
    pub(crate) direction: Vec3,
}

impl<'a> LightEvaluator<'a> {
    pub(crate) fn new(view: &'a ViewUniform) -> Self {
        let [x, y, z, _] = view.view_from_object[1];
        Self {
            view,
            up: Vec3::new(x, y, z),
        }
    }

    /// Direction of the ray through a pixel position, with z = -1.
    pub(crate) fn ray_direction(&self, pixel: Vec2) -> Vec3 {
        if self.has(ORTHOGRAPHIC) {
            Vec3::NEG_Z
        } else {
            self.ray_offset_at(pixel).extend(-1.0)
        }
    }

    /// The point at a distance from the eye's plane on the ray through a pixel position.
    pub(crate) fn position(&self, pixel: Vec2, depth: f32) -> Vec3 {
        let ray_offset_at = self.ray_offset_at(pixel);
        if self.has(ORTHOGRAPHIC) {
            ray_offset_at.extend(-depth)
        } else {
            (ray_offset_at * depth).extend(-depth)
        }
    }

    /// Color of a covered pixel, at most [`BRIGHTEST_COVERED`].
    pub(crate) fn shade_to_bytes(&self, point: &SurfacePoint) -> [u8; 3] {
        quantize(self.shade(point)).map(|byte| byte.min(BRIGHTEST_COVERED))
    }

    fn ray_offset_at(&self, pixel: Vec2) -> Vec2 {
        pixel * Vec2::from(self.view.ray_scale) + Vec2::from(self.view.ray_offset)
    }

    pub(super) fn has(&self, flag: u32) -> bool {
        self.view.flags & flag != 0
    }

    fn shade(&self, point: &SurfacePoint) -> Vec3 {
        let view = self.view;
        if self.has(SHOW_NORMALS) {
            return point.normal * 0.5 + 0.5;
        }
        if self.has(SHOW_DEPTH) {
            return Vec3::splat(0.5 + 0.5 * (point.position.z - view.view_from_object[3][2]));
        }
        let to_eye = -point.direction.normalize();
        let (mut diffuse, mut specular) = (Vec3::ZERO, Vec3::ZERO);
        for light in &view.lights[..view.num_lights as usize] {
            let to_light = match light.kind {
                LIGHT_DIRECTIONAL => Vec3::from(light.vector),
                LIGHT_POINT => (Vec3::from(light.vector) - point.position).normalize(),
                _ => to_eye,
            };
            let n_dot_l = point.normal.dot(to_light);
            let cosine = if self.has(TWO_SIDED) {
                n_dot_l.abs()
            } else {
                n_dot_l.max(0.0)
            };
            diffuse += Vec3::from(light.color) * cosine;
            if view.specular > 0.0 && cosine > 0.0 {
                let half_vector = (to_light + to_eye).normalize();
                specular +=
                    Vec3::from(light.color) * point.normal.dot(half_vector).max(0.0).powf(view.shininess);
            }
        }
        let hemisphere = 0.5 + 0.5 * point.normal.dot(self.up);
        let (ground, sky) = (Vec3::from(view.ground), Vec3::from(view.sky));
        let ambient = Vec3::from(view.ambient) + ground * (1.0 - hemisphere) + sky * hemisphere;
        point.albedo * (ambient + view.diffuse * diffuse) + view.specular * specular
    }
}

/// Rounds to 8 bits.
pub(super) fn quantize(color: Vec3) -> [u8; 3] {
    (color.clamp(Vec3::ZERO, Vec3::ONE) * 255.0 + 0.5)
        .to_array()
        .map(|value| value as u8)
}

pub(crate) fn albedo_of(bytes: [u8; 3]) -> Vec3 {
    Vec3::from(bytes.map(f32::from)) / 255.0
}
