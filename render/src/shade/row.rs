//! The pixels of a row, one after the other, and the triangles that they have in common.

use std::ops::Range;

use glam::{Vec2, Vec3};
use tap_shaders::{fold_normal, unfold_normal};

use super::stage::{Facet, Seen, Stage};

/// Triangles that are kept in view space. Most pixels see one that their neighbors see, in their row or the one above.
const NUM_KEPT: usize = 256;

/// The pixels of a row.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    stage: &'a Stage<'a>,
    first_column: u32,
    y: f32,
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
            kept: vec![None; NUM_KEPT],
        }
    }

    /// Goes to a row.
    pub(crate) fn go_to(&mut self, y: u32) {
        self.y = y as f32 + 0.5;
    }

    /// The color of a pixel, counted from the first, that sees a triangle.
    pub(crate) fn shown(&mut self, index: u32, column: usize) -> [u8; 3] {
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
