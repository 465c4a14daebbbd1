//! What a triangle looks like where a pixel's ray meets it, on the CPU: the twin of `scene.wgsl` and `light.wgsl`, word
//! for word and number for number in `f32`.

use std::ops::Range;

use glam::{IVec2, Mat3, Mat4, UVec2, Vec2, Vec3, Vec4};
use tap_shaders::{
    GLOSSY, LIGHT_AT_EYE, LIGHT_DIRECTIONAL, LIGHT_POINT, LightUniform, MAX_LIGHTS, Material, NO_TEXTURE,
    OWN_MATERIAL, PARALLEL, REVERSE_LIT, SHOW_NORMALS, SKY, SMOOTH, ViewUniform, WRAP_MIRROR, WRAP_REPEAT,
    unfold_normal,
};

use crate::camera::{Rays, ViewMatrices};
use crate::lighting::{BRIGHTEST_COVERED, Lighting, MaterialChoice, Normals, Rgb, Show};
use crate::scene::Scene;

/// A view as all shaders read it. A mesh without a surface of its own is white, whatever the lighting says.
pub(crate) fn view_uniform(
    matrices: &ViewMatrices,
    lighting: &Lighting,
    has_own_surface: bool,
    size_px: u32,
    origin_px: UVec2,
) -> ViewUniform {
    let Rays {
        is_parallel,
        scale,
        offset,
    } = Rays::new(matrices, size_px);
    let flags = [
        (is_parallel, PARALLEL),
        (
            has_own_surface && lighting.material == MaterialChoice::Own,
            OWN_MATERIAL,
        ),
        (lighting.normals == Normals::Smooth, SMOOTH),
        (lighting.reverse_lit, REVERSE_LIT),
        (lighting.show == Show::Normals, SHOW_NORMALS),
        (lighting.specular > 0.0, GLOSSY),
        ([lighting.sky, lighting.ground] != [Rgb::BLACK; 2], SKY),
    ];
    let mut lights = [LightUniform {
        vector: [0.0; 3],
        kind: 0,
        color: [0.0; 3],
        pad: 0.0,
    }; MAX_LIGHTS];
    for (uniform, light) in lights.iter_mut().zip(&lighting.lights) {
        *uniform = light.uniform(&matrices.view_from_object);
    }
    ViewUniform {
        clip_from_object: matrices.clip_from_object().to_cols_array_2d(),
        view_from_object: matrices.view_from_object.to_cols_array_2d(),
        ray_scale: scale.into(),
        ray_offset: offset.into(),
        origin_px: origin_px.into(),
        size_px,
        flags: flags
            .into_iter()
            .filter_map(|(is_set, flag)| is_set.then_some(flag))
            .sum(),
        ambient: lighting.ambient.as_f32(),
        diffuse: lighting.diffuse as f32,
        sky: lighting.sky.as_f32(),
        specular: lighting.specular as f32,
        ground: lighting.ground.as_f32(),
        shininess: lighting.shininess as f32,
        background: packed(lighting.background),
        num_lights: lighting.lights.len() as u32,
        pad: [0; 2],
        lights,
    }
}

fn packed([red, green, blue]: [u8; 3]) -> u32 {
    u32::from_le_bytes([red, green, blue, 0])
}

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

    fn has(&self, flag: u32) -> bool {
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
pub(crate) fn bytes_of(color: Vec3) -> [u8; 3] {
    (color.clamp(Vec3::ZERO, Vec3::ONE) * 255.0 + 0.5)
        .to_array()
        .map(|value| value as u8)
}

pub(crate) fn albedo_of(bytes: [u8; 3]) -> Vec3 {
    Vec3::from(bytes.map(f32::from)) / 255.0
}

/// A scene before one camera.
#[derive(Debug)]
pub(crate) struct Stage<'a> {
    scene: &'a Scene,
    pub(crate) lamp: Lamp<'a>,
    view_from_object: Mat4,
    rotation: Mat3,
    /// Does a surface's color depend on its normal alone?
    is_simple: bool,
    plain: Option<PlainLight>,
}

/// The light of `mvcnn`: gray, all from the eye or from everywhere. Most pictures are made in it.
#[derive(Debug, Clone, Copy)]
struct PlainLight {
    ambient: f32,
    diffuse: f32,
}

impl PlainLight {
    fn of(view: &ViewUniform) -> Option<Self> {
        let [light] = view.lights[..view.num_lights as usize] else {
            return None;
        };
        let is_plain = light.kind == LIGHT_AT_EYE
            && view.flags & (OWN_MATERIAL | SMOOTH | SHOW_NORMALS | GLOSSY | SKY) == 0
            && [view.ambient, light.color].iter().all(|[red, green, blue]| {
                red.to_bits() == green.to_bits() && green.to_bits() == blue.to_bits()
            });
        is_plain.then_some(Self {
            ambient: view.ambient[0],
            diffuse: view.diffuse * light.color[0],
        })
    }

    /// The value of a face and the cosine between it and the ray that meets it, either way.
    fn shown(self, cosine: f32) -> u8 {
        let value = (self.ambient + self.diffuse * cosine.abs()).min(1.0) * 255.0 + 0.5;
        (value as u8).min(BRIGHTEST_COVERED)
    }
}

/// What a pixel sees of a triangle.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) point: Point,
    pub(crate) albedo: [u8; 3],
    pub(crate) labels: u32,
}

/// A triangle in view space: a corner, and the ways from it to the others.
#[derive(Clone, Copy)]
struct Plane {
    a: Vec3,
    ab: Vec3,
    ac: Vec3,
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
            plain: PlainLight::of(view),
        }
    }

    /// Some pixels of a row.
    pub(crate) fn row(&self, columns: Range<u32>) -> Row<'_> {
        Row {
            stage: self,
            first_column: columns.start,
            y: 0.0,
            direction: Vec3::ZERO,
            to_next: Vec3::ZERO,
            per_length: vec![0.0; if self.plain.is_some() { columns.len() } else { 0 }],
        }
    }

    /// May any triangle have holes?
    pub(crate) fn has_cutout(&self) -> bool {
        self.scene.has_cutout
    }

    /// The color of a pixel that sees a triangle.
    fn shown(&self, index: u32, pixel: Vec2) -> [u8; 3] {
        if !self.is_simple {
            return self.lamp.shown(&self.look(index, pixel).point);
        }
        let direction = self.lamp.ray_direction(pixel);
        let face = self.rotation * self.scene.normals[index as usize];
        self.lamp.shown(&Point {
            position: Vec3::ZERO,
            normal: towards_viewer(face, face, direction),
            albedo: Vec3::ONE,
            direction,
        })
    }

    /// All that a pixel sees of a triangle.
    pub(crate) fn look(&self, index: u32, pixel: Vec2) -> Seen {
        let plane = self.plane_of(index);
        let direction = self.lamp.ray_direction(pixel);
        let weight = on_triangle(self.weights(&plane, pixel));
        let face = self.rotation * self.scene.normals[index as usize];
        let normal = if self.lamp.has(SMOOTH) {
            let [a, b, c] = self.corners(index).map(|corner| unfold_normal(corner.normal));
            let bent = a * weight.x + b * weight.y + c * weight.z;
            bent.try_normalize().map_or(face, |bent| self.rotation * bent)
        } else {
            face
        };
        let albedo = if self.lamp.has(OWN_MATERIAL) {
            bytes_of(self.own_color(index, &plane, pixel).truncate())
        } else {
            [u8::MAX; 3]
        };
        let point = Point {
            position: plane.a + plane.ab * weight.y + plane.ac * weight.z,
            normal: towards_viewer(normal, face, direction),
            albedo: albedo_of(albedo),
            direction,
        };
        Seen {
            point,
            albedo,
            labels: self.scene.labels[index as usize],
        }
    }

    /// Does the ray through a pixel meet a triangle, not only its plane?
    pub(crate) fn meets(&self, index: u32, pixel: Vec2) -> bool {
        let plane = self.plane_of(index);
        let bc = self.weights(&plane, pixel);
        bc.x >= 0.0 && bc.y >= 0.0 && bc.x + bc.y <= 1.0
    }

    /// Is there a hole in a triangle where a pixel's ray meets it?
    pub(crate) fn is_hole(&self, index: u32, pixel: Vec2) -> bool {
        let cutout = self.material_of(index).cutout;
        cutout > 0.0 && self.own_color(index, &self.plane_of(index), pixel).w < cutout
    }

    /// May a triangle have holes?
    pub(crate) fn has_holes(&self, index: u32) -> bool {
        self.material_of(index).cutout > 0.0
    }

    fn material_of(&self, index: u32) -> &Material {
        &self.scene.materials[(self.scene.labels[index as usize] >> 16) as usize]
    }

    fn plane_of(&self, index: u32) -> Plane {
        let [a, b, c] = self.scene.triangles[index as usize].map(|index| {
            self.view_from_object
                .transform_point3(self.scene.points[index as usize])
        });
        Plane {
            a,
            ab: b - a,
            ac: c - a,
        }
    }

    fn corners(&self, index: u32) -> &[tap_shaders::Corner; 3] {
        let first = 3 * index as usize;
        self.scene.corners[first..first + 3]
            .try_into()
            .expect("there are three of them")
    }

    /// How much of b and of c the ray through a pixel meets; beyond the triangle one of them, or the rest, is negative.
    fn weights(&self, plane: &Plane, pixel: Vec2) -> Vec2 {
        let direction = self.lamp.ray_direction(pixel);
        // The ray where it is as far as corner a, seen from there: small numbers stay exact.
        let place = self.lamp.position(pixel, -plane.a.z).truncate();
        let start = (place - plane.a.truncate()).extend(0.0);
        let across = direction.cross(plane.ac);
        let determinant = plane.ab.dot(across);
        if determinant == 0.0 {
            return Vec2::splat(1.0 / 3.0);
        }
        Vec2::new(start.dot(across), direction.dot(start.cross(plane.ab))) / determinant
    }

    /// Color and alpha of a triangle's own material where a pixel's ray meets it.
    fn own_color(&self, index: u32, plane: &Plane, pixel: Vec2) -> Vec4 {
        let material = self.material_of(index);
        let corners = self.corners(index);
        let weight = on_triangle(self.weights(plane, pixel));
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
        let here = uv(self.weights(plane, pixel));
        let step =
            |by: Vec2| ((uv(self.weights(plane, pixel + by)) - here) * image.size.as_vec2()).length_squared();
        let per_pixel = step(Vec2::X).max(step(Vec2::Y));
        color * image.trilinear(uv(Vec2::new(weight.y, weight.z)), per_pixel)
    }
}

/// The colors of a row of pixels. In plain light most of the work is done once a row.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    stage: &'a Stage<'a>,
    first_column: u32,
    y: f32,
    /// In plain light, of the ray through the first pixel, in object space; and how much another it is from pixel to pixel.
    direction: Vec3,
    to_next: Vec3,
    /// One by the lengths of the rays.
    per_length: Vec<f32>,
}

impl Row<'_> {
    /// Goes to a row.
    pub(crate) fn go_to(&mut self, y: u32) {
        self.y = y as f32 + 0.5;
        if self.stage.plain.is_none() {
            return;
        }
        let to_object = self.stage.rotation.transpose();
        let first = self.ray_direction(0.0);
        let to_next = self.ray_direction(1.0) - first;
        for (column, per_length) in self.per_length.iter_mut().enumerate() {
            *per_length = (first + to_next * column as f32).length_recip();
        }
        self.direction = to_object * first;
        self.to_next = to_object * to_next;
    }

    fn ray_direction(&self, column: f32) -> Vec3 {
        let x = self.first_column as f32 + 0.5 + column;
        self.stage.lamp.ray_direction(Vec2::new(x, self.y))
    }

    /// The color of a pixel, counted from the first, that sees a triangle.
    pub(crate) fn shown(&self, index: u32, column: usize) -> [u8; 3] {
        let Some(plain) = self.stage.plain else {
            let x = (self.first_column as usize + column) as f32 + 0.5;
            return self.stage.shown(index, Vec2::new(x, self.y));
        };
        let direction = self.direction + self.to_next * column as f32;
        let normal = self.stage.scene.normals[index as usize];
        [plain.shown(normal.dot(direction) * self.per_length[column]); 3]
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
fn on_triangle(bc: Vec2) -> Vec3 {
    let all = Vec3::new(1.0 - bc.x - bc.y, bc.x, bc.y).max(Vec3::ZERO);
    all / all.element_sum()
}

fn rgba(packed: u32) -> Vec4 {
    Vec4::from(packed.to_le_bytes().map(f32::from)) / 255.0
}

/// A texture among the scene's words.
struct Image<'a> {
    words: &'a [u32],
    first: usize,
    size: UVec2,
    num_levels: u32,
    wrap: [u32; 2],
}

impl<'a> Image<'a> {
    fn new(words: &'a [u32], header: u32) -> Self {
        let header = header as usize;
        Self {
            words,
            first: words[header] as usize,
            size: UVec2::new(words[header + 1], words[header + 2]),
            num_levels: words[header + 3],
            wrap: [words[header + 4], words[header + 5]],
        }
    }

    /// `per_pixel` is the larger of a pixel's two steps in the texture, in texels of the finest level, squared.
    fn trilinear(&self, uv: Vec2, per_pixel: f32) -> Vec4 {
        let level = (0.5 * per_pixel.max(1.0).log2()).clamp(0.0, (self.num_levels - 1) as f32);
        let finer = level as u32;
        let part = level - finer as f32;
        let color = self.bilinear(finer, uv);
        if part == 0.0 {
            return color;
        }
        color.lerp(self.bilinear(finer + 1, uv), part)
    }

    fn bilinear(&self, level: u32, uv: Vec2) -> Vec4 {
        let (mut first, mut size) = (self.first, self.size);
        for _ in 0..level {
            first += (size.x * size.y) as usize;
            size = (size / 2).max(UVec2::ONE);
        }
        let place = uv * size.as_vec2() - 0.5;
        let corner = place.floor();
        let part = place - corner;
        let at = corner.as_ivec2();
        let texel = |by: IVec2| self.texel(first, size.as_ivec2(), at.wrapping_add(by));
        let above = texel(IVec2::ZERO).lerp(texel(IVec2::X), part.x);
        let below = texel(IVec2::Y).lerp(texel(IVec2::ONE), part.x);
        above.lerp(below, part.y)
    }

    fn texel(&self, first: usize, size: IVec2, at: IVec2) -> Vec4 {
        let x = wrapped(at.x, size.x, self.wrap[0]);
        let y = wrapped(at.y, size.y, self.wrap[1]);
        rgba(self.words[first + (y * size.x + x) as usize])
    }
}

fn wrapped(index: i32, size: i32, wrap: u32) -> i32 {
    match wrap {
        WRAP_REPEAT => index.rem_euclid(size),
        WRAP_MIRROR => {
            let within = index.rem_euclid(2 * size);
            within.min(2 * size - 1 - within)
        }
        _ => index.clamp(0, size - 1),
    }
}

#[cfg(test)]
mod tests {
    use tap_shaders::WRAP_CLAMP;

    use super::*;

    #[test]
    fn textures_go_on_beyond_their_border() {
        let at = |wrap| (-4..6).map(|i| wrapped(i, 3, wrap)).collect::<Vec<_>>();
        assert_eq!(at(WRAP_REPEAT), [2, 0, 1, 2, 0, 1, 2, 0, 1, 2]);
        assert_eq!(at(WRAP_MIRROR), [2, 2, 1, 0, 0, 1, 2, 2, 1, 0]);
        assert_eq!(at(WRAP_CLAMP), [0, 0, 0, 0, 0, 1, 2, 2, 2, 2]);
    }

    #[test]
    fn weights_beyond_a_triangle_are_those_of_its_border() {
        assert_eq!(on_triangle(Vec2::new(0.25, 0.25)), Vec3::new(0.5, 0.25, 0.25));
        assert_eq!(on_triangle(Vec2::new(-3.0, 0.5)), Vec3::new(0.875, 0.0, 0.125));
        assert_eq!(on_triangle(Vec2::new(1.0, -4.0)), Vec3::new(0.8, 0.2, 0.0));
    }
}
