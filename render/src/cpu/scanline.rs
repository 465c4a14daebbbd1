//! The pixels of a row, one after the other, and the triangles that they have in common.

use std::ops::Range;

use glam::{Vec2, Vec3};
use tap_shaders::{fold_normal, unfold_normal};

use super::surface::{Facet, Seen, Stage};

/// Triangles that are kept in view space. Most pixels see one that their neighbors see, in their row or the one above.
const NUM_KEPT: usize = 256;

/// The pixels of a row.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    stage: &'a Stage<'a>,
    first_column: u32,
    y: f32,
    /// Those that were looked at last.
    kept: Vec<Kept>,
}

/// A triangle that was looked at.
#[derive(Debug, Clone, Copy)]
struct Kept {
    facet: Facet,
    /// What was last seen of it, and that as a device hands it over.
    normal: Vec3,
    rounded_normal: Vec3,
}

impl Kept {
    fn new(facet: Facet) -> Self {
        Self {
            facet,
            normal: Vec3::ZERO,
            rounded_normal: Vec3::ZERO,
        }
    }
}

impl<'a> Row<'a> {
    /// Some pixels of a row.
    pub(crate) fn new(stage: &'a Stage<'a>, columns: Range<u32>) -> Self {
        Self {
            stage,
            first_column: columns.start,
            y: 0.0,
            kept: vec![Kept::new(Facet::NONE); NUM_KEPT],
        }
    }

    /// Goes to a row.
    pub(crate) fn go_to(&mut self, y: u32) {
        self.y = y as f32 + 0.5;
    }

    /// The color of a pixel, counted from the first, that sees a triangle.
    #[inline(always)]
    pub(crate) fn shown(&mut self, index: u32, column: usize) -> [u8; 3] {
        let (stage, pixel) = (self.stage, self.pixel(column));
        stage.shown(&self.keep(index).facet, pixel)
    }

    /// All that a pixel sees of a triangle. The normal is rounded as a device hands it over.
    #[inline(always)]
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
    #[inline(always)]
    pub(crate) fn meets(&mut self, index: u32, column: usize) -> bool {
        let (stage, pixel) = (self.stage, self.pixel(column));
        stage.meets(&self.keep(index).facet, pixel)
    }

    /// The centre of a pixel.
    #[inline(always)]
    fn pixel(&self, column: usize) -> Vec2 {
        Vec2::new((self.first_column as usize + column) as f32 + 0.5, self.y)
    }

    #[inline(always)]
    fn keep(&mut self, index: u32) -> &mut Kept {
        let kept = &mut self.kept[index as usize % NUM_KEPT];
        if kept.facet.index != index {
            *kept = Kept::new(self.stage.facet(index));
        }
        kept
    }
}
