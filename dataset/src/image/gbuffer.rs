//! [`ViewGbuffer`]: the G-buffer of a view as PNGs, the input for relighting.
//!
//! Readable by any tool that supports 16-bit gray PNGs. With H = W pixels per side:
//!
//! | PNG | pixels | values |
//! |---|---|---|
//! | normals | W wide, 3 H high: x above y above z | unit normal in object space, `value / 32767.5 - 1`; 0, 0, 0 outside the mask |
//! | depth | W x H | NDC depth of `clip_from_view`, 0 near to 1 far, `(value - 1) / 65534`; 0 outside the mask |
//! | albedo | W x H, 8-bit RGB | unlit color of the material; black outside the mask |
//!
//! The surface position of a pixel is `(clip_from_view * view_from_object)⁻¹ * (x_ndc, y_ndc, depth, 1)`
//! after the perspective divide. NDC depth is linear over a flat face, also in perspective, so PNG filters
//! predict it well. Values are those of the face at the pixel center.

use crate::error::{DatasetError, ImageError, Result};
use crate::image::{Pixels, RowFilter, decode_pixels, encode_png, encode_rgb_png};

/// Largest stored normal component.
const NORMAL_MAX: f32 = 65535.0;
/// Stored value range of depth 0 to 1.
const DEPTH_SPAN: f64 = 65534.0;
/// Tolerance for the length of a decoded normal: three times the rounding error.
const UNIT_TOLERANCE: f32 = 1e-4;

/// Encoded G-buffer of a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewGbuffer {
    /// 16-bit gray; x, y and z planes stacked vertically.
    pub normals_png: Vec<u8>,
    /// 16-bit gray.
    pub depth_png: Vec<u8>,
    /// 8-bit RGB; `None` for white material.
    pub albedo_png: Option<Vec<u8>>,
}

/// Decoded G-buffer of a view, row-major from the top.
#[derive(Debug, Clone, PartialEq)]
pub struct GbufferPixels {
    /// Unit normals in object space; zero on background.
    pub normals: Vec<[f32; 3]>,
    /// NDC depth, 0 to 1; infinite on background.
    pub depth: Vec<f64>,
    /// Unlit colors; `None` for white material.
    pub albedo: Option<Vec<[u8; 3]>>,
}

impl ViewGbuffer {
    /// Encodes a square view.
    ///
    /// # Errors
    /// When there are not `size_px * size_px` pixels.
    pub fn encode(size_px: u32, pixels: &GbufferPixels) -> Result<Self> {
        let GbufferPixels {
            normals,
            depth,
            albedo,
        } = pixels;
        let plane = |axis: usize| {
            normals.iter().map(move |normal| match normal {
                [0.0, 0.0, 0.0] => 0,
                normal => (f32::midpoint(normal[axis], 1.0) * NORMAL_MAX).round() as u16,
            })
        };
        let depth = depth.iter().map(|depth| match depth {
            depth if depth.is_finite() => 1 + (depth.clamp(0.0, 1.0) * DEPTH_SPAN).round() as u16,
            _ => 0,
        });
        let normals = [0, 1, 2].into_iter().flat_map(plane);
        let albedo_png = albedo.as_ref().map(|albedo| encode_rgb_png(size_px, albedo));
        Ok(Self {
            // Normals repeat between pixels; depth is a gradient.
            normals_png: encode_gray16_png([size_px, 3 * size_px], RowFilter::None, normals)?,
            depth_png: encode_gray16_png([size_px, size_px], RowFilter::Up, depth)?,
            albedo_png: albedo_png.transpose()?,
        })
    }

    /// Decodes a square view.
    ///
    /// # Errors
    /// When a PNG is damaged or has an unexpected size or pixel format.
    pub fn decode(&self, size_px: u32) -> Result<GbufferPixels> {
        let Self {
            normals_png,
            depth_png,
            albedo_png,
        } = self;
        let gray16 = |png: &[u8], height_px| match decode_pixels(png, size_px, height_px)? {
            Pixels::Gray16(values) => Ok(values),
            Pixels::Gray8(_) | Pixels::Rgb8(_) => Err(DatasetError::Image(ImageError::Format(
                "8 bits instead of 16 bits of gray".to_owned(),
            ))),
        };
        let normals = gray16(normals_png, 3 * size_px)?;
        let (x, yz) = normals.split_at(normals.len() / 3);
        let (y, z) = yz.split_at(x.len());
        let normal = |((&x, &y), &z): ((&u16, &u16), &u16)| match [x, y, z] {
            [0, 0, 0] => [0.0; 3],
            values => values.map(|value| f32::from(value) / NORMAL_MAX * 2.0 - 1.0),
        };
        let depth = gray16(depth_png, size_px)?;
        let depth = depth.into_iter().map(|value| match value {
            0 => f64::INFINITY,
            value => f64::from(value - 1) / DEPTH_SPAN,
        });
        let albedo = albedo_png
            .as_ref()
            .map(|png| match decode_pixels(png, size_px, size_px)? {
                Pixels::Rgb8(bytes) => Ok(bytes.as_chunks().0.to_vec()),
                Pixels::Gray8(_) | Pixels::Gray16(_) => Err(DatasetError::Image(ImageError::Format(
                    "gray instead of RGB".to_owned(),
                ))),
            });
        Ok(GbufferPixels {
            normals: x.iter().zip(y).zip(z).map(normal).collect(),
            depth: depth.collect(),
            albedo: albedo.transpose()?,
        })
    }

    /// All PNGs, in column order.
    pub(crate) fn pngs(&self) -> impl Iterator<Item = &Vec<u8>> {
        let Self {
            normals_png,
            depth_png,
            albedo_png,
        } = self;
        [normals_png, depth_png].into_iter().chain(albedo_png)
    }
}

impl GbufferPixels {
    /// Checks that normals and depth exist exactly where the mask is covered.
    pub(crate) fn validate(&self, is_covered: &[u8]) -> Result<(), &'static str> {
        let Self {
            normals,
            depth,
            albedo,
        } = self;
        let is_unit =
            |n: &[f32; 3]| (n.iter().map(|x| x * x).sum::<f32>().sqrt() - 1.0).abs() <= UNIT_TOLERANCE;
        for (i, covered) in is_covered.iter().enumerate() {
            let is_covered = *covered != 0;
            if is_covered != depth[i].is_finite() {
                return Err("has depth elsewhere than in its mask");
            }
            if is_covered && !is_unit(&normals[i]) {
                return Err("has a normal that is not of length 1");
            }
            if !is_covered && normals[i].iter().any(|part| *part != 0.0) {
                return Err("has a normal outside its mask");
            }
            if !is_covered && albedo.as_ref().is_some_and(|albedo| albedo[i] != [0; 3]) {
                return Err("has a color outside its mask");
            }
        }
        Ok(())
    }
}

/// Encodes a 16-bit gray PNG.
fn encode_gray16_png(
    size_px: [u32; 2],
    filter: RowFilter,
    values: impl Iterator<Item = u16>,
) -> Result<Vec<u8>> {
    let bytes: Vec<u8> = values.flat_map(u16::to_be_bytes).collect();
    let kind = (png::ColorType::Grayscale, png::BitDepth::Sixteen);
    encode_png(size_px, kind, filter, &bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn pixels() -> GbufferPixels {
        GbufferPixels {
            normals: vec![[0.0; 3], [-1.0, 0.0, 0.0], [0.0, 0.6, -0.8], [0.48, 0.64, 0.6]],
            depth: vec![f64::INFINITY, 0.0, 1.0, 0.123_456],
            albedo: Some(vec![[0; 3], [1, 2, 3], [255; 3], [9, 0, 200]]),
        }
    }

    #[test]
    fn pixels_round_trip_within_half_a_step() {
        let stored = ViewGbuffer::encode(2, &pixels()).unwrap();
        let found = stored.decode(2).unwrap();
        assert_eq!(found.albedo, pixels().albedo);
        for (found, expected) in found
            .normals
            .as_flattened()
            .iter()
            .zip(pixels().normals.as_flattened())
        {
            assert!(
                (found - expected).abs() <= 1.01 / NORMAL_MAX,
                "{found} and {expected}"
            );
        }
        assert!(found.depth[0].is_infinite(), "nothing stays nothing");
        for (found, expected) in found.depth.iter().zip(pixels().depth).skip(1) {
            assert!(
                (found - expected).abs() <= 0.501 / DEPTH_SPAN,
                "{found} and {expected}"
            );
        }
        found.validate(&[0, 1, 1, 1]).unwrap();
        assert!(
            found.validate(&[1; 4]).is_err() && found.validate(&[0, 0, 1, 1]).is_err(),
            "other masks"
        );
        assert_eq!(
            ViewGbuffer::encode(2, &found).unwrap(),
            stored,
            "and lose nothing more"
        );
    }

    #[test]
    fn planes_stand_one_above_the_other() {
        let stored = ViewGbuffer::encode(2, &pixels()).unwrap();
        let Pixels::Gray16(planes) = decode_pixels(&stored.normals_png, 2, 6).unwrap() else {
            panic!("16 bits of gray");
        };
        assert_eq!(planes[..4], [0, 0, 32768, 48496], "x");
        assert_eq!(planes[4..8], [0, 32768, 52428, 53739], "y");
        assert_eq!(planes[8..], [0, 32768, 6553, 52428], "z");
    }

    #[test]
    fn other_images_are_refused() {
        let stored = ViewGbuffer::encode(2, &pixels()).unwrap();
        stored.decode(4).unwrap_err();
        let swapped = ViewGbuffer {
            depth_png: stored.albedo_png.clone().unwrap(),
            ..stored.clone()
        };
        swapped.decode(2).unwrap_err();
        let cut = ViewGbuffer {
            normals_png: stored.normals_png[..40].to_vec(),
            ..stored
        };
        cut.decode(2).unwrap_err();
    }
}
