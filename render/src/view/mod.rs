//! `View`: a picture of an object with the pose and the matrices it was taken with.
//!
//! Pixels are stored row by row from the top left; the centre of pixel `(x, y)` is at `(x + 1/2, y + 1/2)`.

mod point_visibility;

use crate::camera::{Pose, ViewMatrices};
pub use point_visibility::{PointInView, point_visibility};

/// One picture. A channel is `Some` if the recipe asked for it.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// From where it was taken.
    pub pose: Pose,
    /// How it was taken, exactly.
    pub matrices: ViewMatrices,
    /// Side of the square, in pixels.
    pub size_px: u32,
    /// Color. A pixel within the mask is never brighter than [`BRIGHTEST_COVERED`](crate::BRIGHTEST_COVERED); one
    /// outside always is the lighting's background.
    pub color: Option<ColorImage>,
    /// The pixels that the object covers.
    pub mask: Option<Mask>,
    /// Distance from the eye's plane (`-z` in view space), in units of object space, of the surface that the pixel's
    /// centre sees; [`f32::INFINITY`] outside the mask. Where samples see a face that the centre does not, and none that
    /// it does, it is the nearest of those. The same face is told of in all channels below.
    pub depth: Option<Vec<f32>>,
    /// Unit normal, in view space, turned towards the viewer, flat or smooth as the lighting has it;
    /// zero outside the mask.
    pub normal: Option<Vec<[f32; 3]>>,
    /// 8-bit color of the material, unlit; black outside the mask.
    pub albedo: Option<Vec<[u8; 3]>>,
    /// Index of the face's part in the mesh's part names; [`NO_LABEL`] outside the mask.
    pub part: Option<Vec<u16>>,
    /// Index of the face's material in the mesh's materials; [`NO_LABEL`] outside the mask.
    pub material: Option<Vec<u16>>,
}

/// Part and material of a pixel where nothing is.
pub const NO_LABEL: u16 = u16::MAX;

/// How many numbers a color has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColorKind {
    /// One.
    Gray,
    /// Three.
    Rgb,
}

/// A picture's colors, 8 bits each, without gamma.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ColorImage {
    /// One byte a pixel.
    Gray(Vec<u8>),
    /// Red, green and blue of each pixel.
    Rgb(Vec<[u8; 3]>),
}

impl ColorImage {
    /// Of colors whose parts are all the same if the kind is gray.
    pub(crate) fn new(kind: ColorKind, colors: impl Iterator<Item = [u8; 3]>) -> Self {
        match kind {
            ColorKind::Gray => Self::Gray(colors.map(|[gray, ..]| gray).collect()),
            ColorKind::Rgb => Self::Rgb(colors.collect()),
        }
    }

    /// A picture of one color, one of whose parts is taken if the kind is gray.
    pub(crate) fn filled(kind: ColorKind, color: [u8; 3], num_pixels: usize) -> Self {
        match kind {
            ColorKind::Gray => Self::Gray(vec![color[0]; num_pixels]),
            ColorKind::Rgb => Self::Rgb(vec![color; num_pixels]),
        }
    }

    pub(crate) fn set(&mut self, pixel: usize, color: [u8; 3]) {
        match self {
            Self::Gray(values) => values[pixel] = color[0],
            Self::Rgb(colors) => colors[pixel] = color,
        }
    }

    /// The gray values, row by row; `None` of a picture in color.
    #[must_use]
    pub fn gray(&self) -> Option<&[u8]> {
        match self {
            Self::Gray(values) => Some(values),
            Self::Rgb(_) => None,
        }
    }

    /// The colors, row by row; three equal parts of a gray one.
    #[must_use]
    pub fn to_rgb(&self) -> Vec<[u8; 3]> {
        match self {
            Self::Gray(values) => values.iter().map(|value| [*value; 3]).collect(),
            Self::Rgb(colors) => colors.clone(),
        }
    }
}

/// Which pixels the object covers: those of which at least one sample lies on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    size_px: u32,
    covered: Vec<bool>,
}

impl Mask {
    /// A square mask of the given pixels, or `None` if their number is not `size_px` squared.
    #[must_use]
    pub fn try_new(size_px: u32, covered: Vec<bool>) -> Option<Self> {
        (covered.len() as u64 == u64::from(size_px).pow(2)).then_some(Self { size_px, covered })
    }

    /// Side of the square, in pixels.
    #[must_use]
    pub fn size_px(&self) -> u32 {
        self.size_px
    }

    /// Row by row: is the pixel covered?
    #[must_use]
    pub fn covered(&self) -> &[bool] {
        &self.covered
    }

    /// Is the pixel in column `x` and row `y` covered? Outside of the picture nothing is.
    #[must_use]
    pub fn is_covered(&self, x: u32, y: u32) -> bool {
        x < self.size_px && y < self.size_px && self.covered[(y * self.size_px + x) as usize]
    }

    /// Number of covered pixels.
    #[must_use]
    pub fn num_covered(&self) -> usize {
        self.covered.iter().filter(|covered| **covered).count()
    }

    /// Part of the picture that is covered, 0 to 1.
    #[must_use]
    pub fn coverage(&self) -> f32 {
        self.num_covered() as f32 / self.covered.len() as f32
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_mask_is_a_square() {
        assert_eq!(
            Mask::try_new(2, vec![true; 3]),
            None,
            "three pixels are no square"
        );
        let mask = Mask::try_new(2, vec![false, true, false, true]).unwrap();
        assert!(mask.is_covered(1, 0) && mask.is_covered(1, 1), "the right column");
        assert!(
            !mask.is_covered(0, 0) && !mask.is_covered(2, 0),
            "the left column and outside"
        );
        assert!((mask.coverage() - 0.5).abs() < f32::EPSILON, "half of it");
    }
}
