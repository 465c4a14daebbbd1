//! Surface attributes where a pixel's ray hits a triangle. The WGSL version is `surface.wgsl`, with the same arithmetic
//! in `f32`.

use glam::{Mat3, Mat4, Vec2, Vec3, Vec4};
use tap_shaders::{
    LIGHT_POINT, Material, NO_TEXTURE, OWN_MATERIAL, SHOW_DEPTH, SMOOTH_NORMALS, ViewUniform,
    decode_octahedral,
};

use super::light::{LightEvaluator, SurfacePoint, albedo_of, quantize};
use super::rgba;
use super::texture::MipmappedTexture;
use crate::scene::{Headlight, Scene};

/// How far beyond its edges an earlier triangle of a plane reaches, in barycentric coordinates: two that share an edge
/// must not leave a sample on it to a later one.
const EDGE_TOLERANCE: f32 = 1e-5;

/// A scene in one view.
#[derive(Debug)]
pub(crate) struct ShadingContext<'a> {
    pub(super) scene: &'a Scene,
    pub(super) lights: LightEvaluator<'a>,
    view_from_object: Mat4,
    pub(super) rotation: Mat3,
    /// Enables a fast path: no material, no smooth normals, no point lights, no depth.
    depends_on_normal_only: bool,
    pub(super) headlight: Option<Headlight>,
}

/// Surface attributes at a pixel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SurfaceHit {
    pub(crate) point: SurfacePoint,
    pub(crate) albedo: [u8; 3],
    pub(crate) labels: u32,
}

/// A triangle in view space.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ViewTriangle {
    pub(super) index: u32,
    /// A corner, and the edges from it to the other two.
    a: Vec3,
    ab: Vec3,
    ac: Vec3,
    /// Unit length.
    normal: Vec3,
}

impl ViewTriangle {
    /// Placeholder; no mesh has this many triangles.
    pub(super) const NONE: Self = Self {
        index: u32::MAX,
        a: Vec3::ZERO,
        ab: Vec3::ZERO,
        ac: Vec3::ZERO,
        normal: Vec3::ZERO,
    };
}

impl<'a> ShadingContext<'a> {
    pub(crate) fn new(scene: &'a Scene, view: &'a ViewUniform) -> Self {
        let view_from_object = Mat4::from_cols_array_2d(&view.view_from_object);
        let has_point = view.lights[..view.num_lights as usize]
            .iter()
            .any(|light| light.kind == LIGHT_POINT);
        Self {
            scene,
            lights: LightEvaluator::new(view),
            view_from_object,
            rotation: Mat3::from_mat4(view_from_object),
            depends_on_normal_only: !has_point
                && view.flags & (OWN_MATERIAL | SMOOTH_NORMALS | SHOW_DEPTH) == 0,
            headlight: Headlight::from_uniform(view),
        }
    }

    /// Does any triangle have an earlier one of its plane?
    pub(crate) fn has_earlier(&self) -> bool {
        !self.scene.earlier.is_empty()
    }

    /// The first triangle of the plane of a sample's triangle that covers the sample.
    pub(crate) fn first_coplanar(&self, index: u32, sample: Vec2, pixel: Vec2) -> u32 {
        let covers = |earlier: &u32| {
            let bc = self.barycentric(&self.view_triangle(*earlier), sample);
            bc.x.min(bc.y).min(1.0 - bc.x - bc.y) >= -EDGE_TOLERANCE
                && !self.fails_alpha_test(*earlier, pixel)
        };
        let mut earlier = self.scene.earlier.of(index).iter().copied();
        earlier.find(covers).unwrap_or(index)
    }

    /// Does any material have an alpha cutoff?
    pub(crate) fn has_alpha_test(&self) -> bool {
        self.scene.has_alpha_test
    }

    /// Shaded color of a triangle at a pixel.
    #[inline(always)]
    pub(super) fn shade_pixel(&self, triangle: &ViewTriangle, pixel: Vec2) -> [u8; 3] {
        if !self.depends_on_normal_only {
            return self
                .lights
                .shade_to_bytes(&self.surface_hit(triangle, pixel).point);
        }
        let direction = self.lights.ray_direction(pixel);
        self.lights.shade_to_bytes(&SurfacePoint {
            position: Vec3::ZERO,
            normal: face_forward(triangle.normal, triangle.normal, direction),
            albedo: Vec3::ONE,
            direction,
        })
    }

    /// Surface attributes of a triangle at a pixel.
    #[inline(always)]
    pub(super) fn surface_hit(&self, triangle: &ViewTriangle, pixel: Vec2) -> SurfaceHit {
        let direction = self.lights.ray_direction(pixel);
        let bc = self.barycentric(triangle, pixel);
        let weight = clamp_barycentric(bc);
        let normal = if self.lights.has(SMOOTH_NORMALS) {
            let [a, b, c] = self
                .corners(triangle.index)
                .map(|corner| decode_octahedral(corner.normal));
            let interpolated = a * weight.x + b * weight.y + c * weight.z;
            interpolated
                .try_normalize()
                .map_or(triangle.normal, |interpolated| self.rotation * interpolated)
        } else {
            triangle.normal
        };
        let albedo = if self.lights.has(OWN_MATERIAL) {
            quantize(self.material_color(triangle, pixel, bc).truncate())
        } else {
            [u8::MAX; 3]
        };
        let point = SurfacePoint {
            position: triangle.a + triangle.ab * weight.y + triangle.ac * weight.z,
            normal: face_forward(normal, triangle.normal, direction),
            albedo: albedo_of(albedo),
            direction,
        };
        SurfaceHit {
            point,
            albedo,
            labels: self.scene.labels[triangle.index as usize],
        }
    }

    /// Does the ray through a pixel hit the triangle, not only its plane?
    #[inline(always)]
    pub(super) fn is_hit(&self, triangle: &ViewTriangle, pixel: Vec2) -> bool {
        let bc = self.barycentric(triangle, pixel);
        bc.x >= 0.0 && bc.y >= 0.0 && bc.x + bc.y <= 1.0
    }

    /// Is the material's alpha below its cutoff where the pixel's ray hits the triangle?
    pub(crate) fn fails_alpha_test(&self, index: u32, pixel: Vec2) -> bool {
        let alpha_cutoff = self.material(index).alpha_cutoff;
        if alpha_cutoff <= 0.0 {
            return false;
        }
        let triangle = self.view_triangle(index);
        self.material_color(&triangle, pixel, self.barycentric(&triangle, pixel))
            .w
            < alpha_cutoff
    }

    /// Does the triangle's material have an alpha cutoff?
    pub(crate) fn is_alpha_tested(&self, index: u32) -> bool {
        self.material(index).alpha_cutoff > 0.0
    }

    fn material(&self, index: u32) -> &Material {
        &self.scene.materials[(self.scene.labels[index as usize] >> 16) as usize]
    }

    #[inline(always)]
    pub(super) fn view_triangle(&self, index: u32) -> ViewTriangle {
        let [a, b, c] = self.scene.triangles[index as usize].map(|index| {
            self.view_from_object
                .transform_point3(self.scene.points[index as usize])
        });
        ViewTriangle {
            index,
            a,
            ab: b - a,
            ac: c - a,
            normal: self.rotation * self.scene.normals[index as usize],
        }
    }

    fn corners(&self, index: u32) -> &[tap_shaders::Corner; 3] {
        let first = 3 * index as usize;
        self.scene.corners[first..first + 3]
            .try_into()
            .expect("there are three of them")
    }

    /// Barycentric coordinates (b, c) of the ray's intersection with the triangle's plane, after Möller and Trumbore;
    /// not clamped to the triangle.
    #[inline(always)]
    fn barycentric(&self, triangle: &ViewTriangle, pixel: Vec2) -> Vec2 {
        let direction = self.lights.ray_direction(pixel);
        // The ray's origin moved to the depth of corner a and relative to it, to keep the numbers small.
        let ray_origin = self.lights.position(pixel, -triangle.a.z).truncate();
        let start = (ray_origin - triangle.a.truncate()).extend(0.0);
        let p_vector = direction.cross(triangle.ac);
        let determinant = triangle.ab.dot(p_vector);
        if determinant == 0.0 {
            return Vec2::splat(1.0 / 3.0);
        }
        Vec2::new(start.dot(p_vector), direction.dot(start.cross(triangle.ab))) / determinant
    }

    /// RGBA of the triangle's own material at unclamped barycentric coordinates `bc` of the pixel.
    fn material_color(&self, triangle: &ViewTriangle, pixel: Vec2, bc: Vec2) -> Vec4 {
        let material = self.material(triangle.index);
        let corners = self.corners(triangle.index);
        let weight = clamp_barycentric(bc);
        let [a, b, c] = corners.map(|corner| rgba(corner.color));
        let color = rgba(material.base_color) * (a * weight.x + b * weight.y + c * weight.z);
        if material.texture == NO_TEXTURE {
            return color;
        }
        let image = MipmappedTexture::new(&self.scene.textures, material.texture);
        let uv = |bc: Vec2| {
            let [a, b, c] = corners.map(|corner| Vec2::from(corner.uv));
            a + (b - a) * bc.x + (c - a) * bc.y
        };
        let here = uv(bc);
        let step = |by: Vec2| {
            ((uv(self.barycentric(triangle, pixel + by)) - here) * image.size.as_vec2()).length_squared()
        };
        let per_pixel = step(Vec2::X).max(step(Vec2::Y));
        color * image.trilinear(uv(Vec2::new(weight.y, weight.z)), per_pixel)
    }
}

fn face_forward(normal: Vec3, face: Vec3, direction: Vec3) -> Vec3 {
    if face.dot(direction) > 0.0 {
        -normal
    } else {
        normal
    }
}

/// Barycentric coordinates (a, b, c) clamped to the triangle.
#[inline(always)]
fn clamp_barycentric(bc: Vec2) -> Vec3 {
    let all = Vec3::new(1.0 - bc.x - bc.y, bc.x, bc.y).max(Vec3::ZERO);
    all / all.element_sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn barycentric_coordinates_are_clamped_to_the_triangle() {
        assert_eq!(
            clamp_barycentric(Vec2::new(0.25, 0.25)),
            Vec3::new(0.5, 0.25, 0.25)
        );
        assert_eq!(
            clamp_barycentric(Vec2::new(-3.0, 0.5)),
            Vec3::new(0.875, 0.0, 0.125)
        );
        assert_eq!(clamp_barycentric(Vec2::new(1.0, -4.0)), Vec3::new(0.8, 0.2, 0.0));
    }
}
