//! A scene before a camera: where rays meet its triangles, and what they find there.

use glam::{Mat3, Mat4, Vec2, Vec3, Vec4};
use tap_shaders::{LIGHT_POINT, Material, NO_TEXTURE, OWN_MATERIAL, SMOOTH, ViewUniform, unfold_normal};

use super::headlight::Headlight;
use super::light::{Lamp, Point, albedo_of, bytes_of};
use super::rgba;
use super::texture::Image;
use crate::scene::Scene;

/// A scene before one camera.
#[derive(Debug)]
pub(crate) struct Stage<'a> {
    pub(super) scene: &'a Scene,
    pub(super) lamp: Lamp<'a>,
    view_from_object: Mat4,
    pub(super) rotation: Mat3,
    /// Does a surface's color depend on its normal alone?
    is_simple: bool,
    pub(super) headlight: Option<Headlight>,
}

/// What a pixel sees of a triangle.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) point: Point,
    pub(crate) albedo: [u8; 3],
    pub(crate) labels: u32,
}

/// A triangle in view space.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Facet {
    pub(super) index: u32,
    /// A corner, and the ways from it to the others.
    a: Vec3,
    ab: Vec3,
    ac: Vec3,
    /// Unit length.
    normal: Vec3,
}

impl Facet {
    /// No mesh has so many triangles.
    pub(super) const NONE: Self = Self {
        index: u32::MAX,
        a: Vec3::ZERO,
        ab: Vec3::ZERO,
        ac: Vec3::ZERO,
        normal: Vec3::ZERO,
    };
}

impl<'a> Stage<'a> {
    pub(crate) fn new(scene: &'a Scene, view: &'a ViewUniform) -> Self {
        let view_from_object = Mat4::from_cols_array_2d(&view.view_from_object);
        let has_point = view.lights[..view.num_lights as usize]
            .iter()
            .any(|light| light.kind == LIGHT_POINT);
        Self {
            scene,
            lamp: Lamp::new(view),
            view_from_object,
            rotation: Mat3::from_mat4(view_from_object),
            is_simple: !has_point && view.flags & (OWN_MATERIAL | SMOOTH) == 0,
            headlight: Headlight::of(view),
        }
    }

    /// May any triangle have holes?
    pub(crate) fn has_cutout(&self) -> bool {
        self.scene.has_cutout
    }

    /// The color of a pixel that sees a triangle.
    #[inline(always)]
    pub(super) fn shown(&self, facet: &Facet, pixel: Vec2) -> [u8; 3] {
        if !self.is_simple {
            return self.lamp.shown(&self.look(facet, pixel).point);
        }
        let direction = self.lamp.ray_direction(pixel);
        self.lamp.shown(&Point {
            position: Vec3::ZERO,
            normal: towards_viewer(facet.normal, facet.normal, direction),
            albedo: Vec3::ONE,
            direction,
        })
    }

    /// All that a pixel sees of a triangle.
    #[inline(always)]
    pub(super) fn look(&self, facet: &Facet, pixel: Vec2) -> Seen {
        let direction = self.lamp.ray_direction(pixel);
        let bc = self.weights(facet, pixel);
        let weight = on_triangle(bc);
        let normal = if self.lamp.has(SMOOTH) {
            let [a, b, c] = self
                .corners(facet.index)
                .map(|corner| unfold_normal(corner.normal));
            let bent = a * weight.x + b * weight.y + c * weight.z;
            bent.try_normalize()
                .map_or(facet.normal, |bent| self.rotation * bent)
        } else {
            facet.normal
        };
        let albedo = if self.lamp.has(OWN_MATERIAL) {
            bytes_of(self.own_color(facet, pixel, bc).truncate())
        } else {
            [u8::MAX; 3]
        };
        let point = Point {
            position: facet.a + facet.ab * weight.y + facet.ac * weight.z,
            normal: towards_viewer(normal, facet.normal, direction),
            albedo: albedo_of(albedo),
            direction,
        };
        Seen {
            point,
            albedo,
            labels: self.scene.labels[facet.index as usize],
        }
    }

    /// Does the ray through a pixel meet a triangle, not only its plane?
    #[inline(always)]
    pub(super) fn meets(&self, facet: &Facet, pixel: Vec2) -> bool {
        let bc = self.weights(facet, pixel);
        bc.x >= 0.0 && bc.y >= 0.0 && bc.x + bc.y <= 1.0
    }

    /// Is there a hole in a triangle where a pixel's ray meets it?
    pub(crate) fn is_hole(&self, index: u32, pixel: Vec2) -> bool {
        let cutout = self.material_of(index).cutout;
        if cutout <= 0.0 {
            return false;
        }
        let facet = self.facet(index);
        self.own_color(&facet, pixel, self.weights(&facet, pixel)).w < cutout
    }

    /// May a triangle have holes?
    pub(crate) fn has_holes(&self, index: u32) -> bool {
        self.material_of(index).cutout > 0.0
    }

    fn material_of(&self, index: u32) -> &Material {
        &self.scene.materials[(self.scene.labels[index as usize] >> 16) as usize]
    }

    #[inline(always)]
    pub(super) fn facet(&self, index: u32) -> Facet {
        let [a, b, c] = self.scene.triangles[index as usize].map(|index| {
            self.view_from_object
                .transform_point3(self.scene.points[index as usize])
        });
        Facet {
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

    /// How much of b and of c the ray through a pixel meets; beyond the triangle one of them, or the rest, is negative.
    #[inline(always)]
    fn weights(&self, facet: &Facet, pixel: Vec2) -> Vec2 {
        let direction = self.lamp.ray_direction(pixel);
        // The ray where it is as far as corner a, seen from there: small numbers stay exact.
        let place = self.lamp.position(pixel, -facet.a.z).truncate();
        let start = (place - facet.a.truncate()).extend(0.0);
        let across = direction.cross(facet.ac);
        let determinant = facet.ab.dot(across);
        if determinant == 0.0 {
            return Vec2::splat(1.0 / 3.0);
        }
        Vec2::new(start.dot(across), direction.dot(start.cross(facet.ab))) / determinant
    }

    /// Color and alpha of a triangle's own material where a pixel's ray meets it, at these weights.
    fn own_color(&self, facet: &Facet, pixel: Vec2, bc: Vec2) -> Vec4 {
        let material = self.material_of(facet.index);
        let corners = self.corners(facet.index);
        let weight = on_triangle(bc);
        let [a, b, c] = corners.map(|corner| rgba(corner.color));
        let color = rgba(material.base_color) * (a * weight.x + b * weight.y + c * weight.z);
        if material.texture == NO_TEXTURE {
            return color;
        }
        let image = Image::new(&self.scene.textures, material.texture);
        let uv = |bc: Vec2| {
            let [a, b, c] = corners.map(|corner| Vec2::from(corner.uv));
            a + (b - a) * bc.x + (c - a) * bc.y
        };
        let here = uv(bc);
        let step =
            |by: Vec2| ((uv(self.weights(facet, pixel + by)) - here) * image.size.as_vec2()).length_squared();
        let per_pixel = step(Vec2::X).max(step(Vec2::Y));
        color * image.trilinear(uv(Vec2::new(weight.y, weight.z)), per_pixel)
    }
}

fn towards_viewer(normal: Vec3, face: Vec3, direction: Vec3) -> Vec3 {
    if face.dot(direction) > 0.0 {
        -normal
    } else {
        normal
    }
}

/// The nearest weights that lie on the triangle, of all three corners.
#[inline(always)]
fn on_triangle(bc: Vec2) -> Vec3 {
    let all = Vec3::new(1.0 - bc.x - bc.y, bc.x, bc.y).max(Vec3::ZERO);
    all / all.element_sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_beyond_a_triangle_are_those_of_its_border() {
        assert_eq!(on_triangle(Vec2::new(0.25, 0.25)), Vec3::new(0.5, 0.25, 0.25));
        assert_eq!(on_triangle(Vec2::new(-3.0, 0.5)), Vec3::new(0.875, 0.0, 0.125));
        assert_eq!(on_triangle(Vec2::new(1.0, -4.0)), Vec3::new(0.8, 0.2, 0.0));
    }
}
