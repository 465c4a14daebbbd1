//! `View`: an image of an object with its pose and matrices.
//!
//! Pixels are stored row by row from the top left; the center of pixel `(x, y)` is at `(x + 1/2, y + 1/2)`.

mod downsample;
mod point_visibility;

use crate::camera::{Pose, ViewMatrices};
use crate::lighting::ColorKind;
use crate::recipe::Channel;
pub use point_visibility::{PointInView, point_visibility};

/// One view. A channel is `Some` if the recipe requests it.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// Direction from which the object is seen.
    pub pose: Pose,
    /// The exact camera.
    pub matrices: ViewMatrices,
    /// Side of the square image, in pixels.
    pub size_px: u32,
    /// Within the mask no pixel is brighter than [`BRIGHTEST_COVERED`](crate::BRIGHTEST_COVERED); outside it is the
    /// lighting's background.
    pub color: Option<ColorImage>,
    /// The pixels that the object covers.
    pub mask: Option<Mask>,
    /// Distance from the eye's plane (`-z` in view space), in units of object space, of the surface at the pixel's
    /// center; [`f32::INFINITY`] outside the mask. If the center hits none of the triangles that the pixel's samples
    /// see, it is the nearest of those. All channels below describe the same triangle.
    pub depth: Option<Vec<f32>>,
    /// Unit normal in view space, facing the viewer, flat or smooth as in the lighting; zero outside the mask.
    pub normal: Option<Vec<[f32; 3]>>,
    /// Unlit 8-bit material color; black outside the mask.
    pub albedo: Option<Vec<[u8; 3]>>,
    /// Index into the mesh's part names; [`NO_LABEL`] outside the mask.
    pub part: Option<Vec<u16>>,
    /// Index into the mesh's materials; [`NO_LABEL`] outside the mask.
    pub material: Option<Vec<u16>>,
}

/// A view without a channel that an operation needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the view has no {channel} channel")]
pub struct MissingChannel {
    /// The missing channel.
    pub channel: Channel,
}

/// Part and material of an uncovered pixel.
pub const NO_LABEL: u16 = u16::MAX;

/// 8 bits per channel, not gamma-corrected.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ColorImage {
    /// One byte per pixel.
    Gray(Vec<u8>),
    /// Red, green and blue per pixel.
    Rgb(Vec<[u8; 3]>),
}

impl ColorImage {
    /// Takes the red channel if the kind is gray.
    pub(crate) fn new(kind: ColorKind, colors: impl Iterator<Item = [u8; 3]>) -> Self {
        match kind {
            ColorKind::Gray => Self::Gray(colors.map(|[gray, ..]| gray).collect()),
            ColorKind::Rgb => Self::Rgb(colors.collect()),
        }
    }

    /// A constant image; takes the red channel if the kind is gray.
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

    /// The gray values, row by row; `None` for an RGB image.
    #[must_use]
    pub fn gray(&self) -> Option<&[u8]> {
        match self {
            Self::Gray(values) => Some(values),
            Self::Rgb(_) => None,
        }
    }

    /// The colors, row by row; gray is repeated in all three channels.
    #[must_use]
    pub fn to_rgb(&self) -> Vec<[u8; 3]> {
        match self {
            Self::Gray(values) => values.iter().map(|value| [*value; 3]).collect(),
            Self::Rgb(colors) => colors.clone(),
        }
    }
}

/// The pixels with at least one covered sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    size_px: u32,
    covered: Vec<bool>,
}

impl Mask {
    /// `None` if the number of pixels is not `size_px` squared.
    #[must_use]
    pub fn try_new(size_px: u32, covered: Vec<bool>) -> Option<Self> {
        (covered.len() as u64 == u64::from(size_px).pow(2)).then_some(Self { size_px, covered })
    }

    /// Side of the square, in pixels.
    #[must_use]
    pub fn size_px(&self) -> u32 {
        self.size_px
    }

    /// Per pixel, row by row.
    #[must_use]
    pub fn covered(&self) -> &[bool] {
        &self.covered
    }

    /// Coverage of column `x` in row `y`; `false` outside of the image.
    #[must_use]
    pub fn is_covered(&self, x: u32, y: u32) -> bool {
        x < self.size_px && y < self.size_px && self.covered[(y * self.size_px + x) as usize]
    }

    /// Number of covered pixels.
    #[must_use]
    pub fn num_covered(&self) -> usize {
        self.covered.iter().filter(|covered| **covered).count()
    }

    /// Fraction of the image that is covered, 0 to 1.
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
