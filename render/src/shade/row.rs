//! The pixels of a row, one after the other, and what they have in common.

use std::ops::Range;

use glam::{Vec2, Vec3};
use tap_shaders::{
    GLOSSY, LIGHT_AT_EYE, OWN_MATERIAL, SHOW_NORMALS, SKY, SMOOTH, ViewUniform, fold_normal, unfold_normal,
};

use super::stage::{Facet, Seen, Stage};
use crate::lighting::BRIGHTEST_COVERED;

/// Triangles that are kept in view space. Most pixels see one that their neighbors see, in their row or the one above.
const NUM_KEPT: usize = 256;

/// The pixels of a row. In plain light most of the work for their colors is done once a row.
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
    /// Those that were looked at last.
    kept: Vec<Option<Kept>>,
}

/// A triangle that was looked at.
#[derive(Debug, Clone, Copy)]
struct Kept {
    facet: Facet,
    /// What was last seen of it, and that as a device hands it over.
    normal: Vec3,
    rounded_normal: Vec3,
}

impl<'a> Row<'a> {
    /// Some pixels of a row.
    pub(crate) fn new(stage: &'a Stage<'a>, columns: Range<u32>) -> Self {
        Self {
            stage,
            first_column: columns.start,
            y: 0.0,
            direction: Vec3::ZERO,
            to_next: Vec3::ZERO,
            per_length: vec![0.0; if stage.plain.is_some() { columns.len() } else { 0 }],
            kept: vec![None; NUM_KEPT],
        }
    }

    /// Goes to a row.
    pub(crate) fn go_to(&mut self, y: u32) {
        self.y = y as f32 + 0.5;
        if self.stage.plain.is_none() {
            return;
        }
        let to_object = self.stage.rotation.transpose();
        let ray_direction = |column| self.stage.lamp.ray_direction(self.pixel(column));
        let first = ray_direction(0);
        let to_next = ray_direction(1) - first;
        for (column, per_length) in self.per_length.iter_mut().enumerate() {
            *per_length = (first + to_next * column as f32).length_recip();
        }
        self.direction = to_object * first;
        self.to_next = to_object * to_next;
    }

    /// The color of a pixel, counted from the first, that sees a triangle.
    #[inline]
    pub(crate) fn shown(&mut self, index: u32, column: usize) -> [u8; 3] {
        let Some(plain) = self.stage.plain else {
            return self.shown_in_other_light(index, column);
        };
        let direction = self.direction + self.to_next * column as f32;
        let normal = self.stage.scene.normals[index as usize];
        [plain.shown(normal.dot(direction) * self.per_length[column]); 3]
    }

    fn shown_in_other_light(&mut self, index: u32, column: usize) -> [u8; 3] {
        let (stage, pixel) = (self.stage, self.pixel(column));
        stage.shown(&self.keep(index).facet, pixel)
    }

    /// All that a pixel sees of a triangle. The normal is rounded as a device hands it over.
    pub(crate) fn look(&mut self, index: u32, column: usize) -> Seen {
        let (stage, pixel) = (self.stage, self.pixel(column));
        let kept = self.keep(index);
        let mut seen = stage.look(&kept.facet, pixel);
        if kept.normal != seen.point.normal {
            kept.normal = seen.point.normal;
            kept.rounded_normal = unfold_normal(fold_normal(seen.point.normal));
        }
        seen.point.normal = kept.rounded_normal;
        seen
    }

    /// Does the ray through a pixel meet a triangle, not only its plane?
    pub(crate) fn meets(&mut self, index: u32, column: usize) -> bool {
        let (stage, pixel) = (self.stage, self.pixel(column));
        stage.meets(&self.keep(index).facet, pixel)
    }

    /// The centre of a pixel.
    fn pixel(&self, column: usize) -> Vec2 {
        Vec2::new((self.first_column as usize + column) as f32 + 0.5, self.y)
    }

    fn keep(&mut self, index: u32) -> &mut Kept {
        let place = &mut self.kept[index as usize % NUM_KEPT];
        if place.is_none_or(|kept| kept.facet.index != index) {
            *place = None;
        }
        place.get_or_insert_with(|| Kept {
            facet: self.stage.facet(index),
            normal: Vec3::ZERO,
            rounded_normal: Vec3::ZERO,
        })
    }
}

/// The light of `mvcnn`: gray, all from the eye or from everywhere. Most pictures are made in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct PlainLight {
    ambient: f32,
    diffuse: f32,
}

impl PlainLight {
    pub(super) fn of(view: &ViewUniform) -> Option<Self> {
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
