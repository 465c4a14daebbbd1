//! Images of a row: PNGs and one-bit coverage masks.

mod decode_png;
mod encode_png;
mod gbuffer;

pub use encode_png::{RowFilter, encode_png, encode_png_with_text};
pub use gbuffer::{GbufferPixels, ViewGbuffer};

use std::io::Cursor;

use crate::error::{DatasetError, ImageError, Result};
use decode_png::SimplePng;

/// Largest image that is decoded, a limit for untrusted files.
pub const MAX_IMAGE_SIZE_PX: u32 = 4096;

type PngKind = (png::ColorType, png::BitDepth);

/// An 8-bit gray image, row-major from the top.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrayImage {
    /// Width in pixels.
    pub width_px: u32,
    /// Height in pixels.
    pub height_px: u32,
    /// `width_px * height_px` bytes.
    pub pixels: Vec<u8>,
}

/// Encodes a square 8-bit gray PNG without row filters.
///
/// Flat-shaded views are runs of equal bytes; unfiltered PNG measured smallest and fastest to decode.
///
/// # Errors
/// When `pixels` does not have `size_px * size_px` bytes.
pub fn encode_gray_png(size_px: u32, pixels: &[u8]) -> Result<Vec<u8>> {
    let kind = (png::ColorType::Grayscale, png::BitDepth::Eight);
    encode_png([size_px; 2], kind, RowFilter::None, pixels)
}

/// Encodes a square 8-bit RGB PNG without row filters.
///
/// # Errors
/// When there are not `size_px * size_px` pixels.
pub fn encode_rgb_png(size_px: u32, pixels: &[[u8; 3]]) -> Result<Vec<u8>> {
    let kind = (png::ColorType::Rgb, png::BitDepth::Eight);
    encode_png([size_px; 2], kind, RowFilter::None, pixels.as_flattened())
}

/// An 8-bit image, gray or RGB, row-major from the top.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColorPixels {
    /// Width in pixels.
    pub width_px: u32,
    /// Height in pixels.
    pub height_px: u32,
    /// 1 for gray, 3 for RGB.
    pub num_channels: usize,
    /// `width_px * height_px * num_channels` bytes, the channels of a pixel side by side.
    pub values: Vec<u8>,
}

/// Decodes an 8-bit gray or RGB PNG as it is. Memory is bounded as in [`decode_gray_png`].
///
/// # Errors
/// As [`decode_gray_png`].
pub fn decode_png(bytes: &[u8]) -> Result<ColorPixels> {
    let mut values = Vec::new();
    let PngShape {
        width_px,
        height_px,
        num_channels,
    } = decode_png_into(bytes, &mut values)?;
    Ok(ColorPixels {
        width_px,
        height_px,
        num_channels,
        values,
    })
}

/// Size and channels (1 or 3) of an 8-bit PNG.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PngShape {
    /// Width in pixels.
    pub width_px: u32,
    /// Height in pixels.
    pub height_px: u32,
    /// 1 for gray, 3 for RGB.
    pub num_channels: usize,
}

/// Appends the pixels of an 8-bit gray or RGB PNG as they are, row by row from the top. Memory is bounded as in
/// [`decode_gray_png`].
///
/// # Errors
/// As [`decode_gray_png`]; nothing is appended then.
pub fn decode_png_into(bytes: &[u8], values: &mut Vec<u8>) -> Result<PngShape> {
    let is_decoded = |(width_px, height_px), kind| {
        if width_px > MAX_IMAGE_SIZE_PX || height_px > MAX_IMAGE_SIZE_PX {
            return Err(DatasetError::Image(ImageError::Format(format!(
                "{width_px}x{height_px} pixels"
            ))));
        }
        num_channels(kind).map(|_| ())
    };
    let ((width_px, height_px), kind) = decode_into(bytes, is_decoded, values)?;
    Ok(PngShape {
        width_px,
        height_px,
        num_channels: num_channels(kind)?,
    })
}

/// Appends the gray of an 8-bit gray or RGB PNG, as [`decode_gray_png`] decodes it, and returns its width and height.
///
/// # Errors
/// As [`decode_gray_png`]; nothing is appended then.
pub fn decode_gray_png_into(bytes: &[u8], pixels: &mut Vec<u8>) -> Result<(u32, u32)> {
    let begin = pixels.len();
    let PngShape {
        width_px,
        height_px,
        num_channels,
    } = decode_png_into(bytes, pixels)?;
    if num_channels == 3 {
        let num_pixels = (pixels.len() - begin) / 3;
        for pixel in 0..num_pixels {
            let [red, green, blue] = [0, 1, 2].map(|channel| pixels[begin + 3 * pixel + channel]);
            pixels[begin + pixel] = luma([red, green, blue]);
        }
        pixels.truncate(begin + num_pixels);
    }
    Ok((width_px, height_px))
}

/// Decodes an 8-bit gray or RGB PNG to gray; RGB is converted to luma (ITU-R BT.601). Memory is bounded by
/// [`MAX_IMAGE_SIZE_PX`] squared.
///
/// # Errors
/// When the PNG is damaged, too large, or neither 8-bit gray nor 8-bit RGB.
pub fn decode_gray_png(bytes: &[u8]) -> Result<GrayImage> {
    let mut pixels = Vec::new();
    let (width_px, height_px) = decode_gray_png_into(bytes, &mut pixels)?;
    Ok(GrayImage {
        width_px,
        height_px,
        pixels,
    })
}

/// Decodes an 8-bit gray or RGB PNG to planar RGB (3, H, W); gray is replicated. Memory is bounded as in
/// [`decode_gray_png`].
///
/// # Errors
/// As [`decode_gray_png`].
pub fn decode_rgb_planes(bytes: &[u8]) -> Result<Vec<u8>> {
    let image = decode_png(bytes)?;
    Ok(if image.num_channels == 3 {
        let colors = image.values.as_chunks::<3>().0;
        let plane = |channel: usize| colors.iter().map(move |color| color[channel]);
        (0..3).flat_map(plane).collect()
    } else {
        image.values.repeat(3)
    })
}

/// Width and height of a PNG; `None` if it is none.
#[cfg(feature = "build")]
pub(crate) fn png_size(bytes: &[u8]) -> Option<(u32, u32)> {
    Some(open(bytes).ok()?.info().size())
}

/// Channels of 8-bit gray or RGB.
fn num_channels((color, depth): PngKind) -> Result<usize> {
    match (color, depth) {
        (png::ColorType::Grayscale, png::BitDepth::Eight) => Ok(1),
        (png::ColorType::Rgb, png::BitDepth::Eight) => Ok(3),
        (color, depth) => Err(DatasetError::Image(ImageError::Format(format!(
            "{color:?} of {depth:?} bits"
        )))),
    }
}

/// Appends the pixels of a PNG whose size and kind `check` lets pass; nothing is appended when it is damaged.
fn decode_into(
    bytes: &[u8],
    check: impl Fn((u32, u32), PngKind) -> Result<()>,
    pixels: &mut Vec<u8>,
) -> Result<((u32, u32), PngKind)> {
    if let Some(png) = SimplePng::read(bytes) {
        check(png.size_px, png.kind)?;
        if png.decode_into(pixels) {
            return Ok((png.size_px, png.kind));
        }
    }
    let mut reader = open(bytes)?;
    let info = reader.info();
    let (size_px, kind) = (info.size(), (info.color_type, info.bit_depth));
    check(size_px, kind)?;
    let begin = pixels.len();
    let num_bytes =
        size_px.0 as usize * size_px.1 as usize * kind.0.samples() * (kind.1 as usize).div_ceil(8);
    pixels.resize(begin + num_bytes, 0);
    if let Err(error) = reader.next_frame(&mut pixels[begin..]) {
        pixels.truncate(begin);
        return Err(error.into());
    }
    Ok((size_px, kind))
}

/// Reads a PNG header with memory limits.
fn open(bytes: &[u8]) -> Result<png::Reader<Cursor<&[u8]>>> {
    let limit_bytes = 6 * MAX_IMAGE_SIZE_PX as usize * MAX_IMAGE_SIZE_PX as usize;
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), png::Limits { bytes: limit_bytes });
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    Ok(decoder.read_info()?)
}

/// Decoded samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pixels {
    Gray8(Vec<u8>),
    Gray16(Vec<u16>),
    Rgb8(Vec<u8>),
}

/// Decodes a PNG of known size.
pub(crate) fn decode_pixels(bytes: &[u8], width_px: u32, height_px: u32) -> Result<Pixels> {
    let check = |(width, height), (color, depth): PngKind| {
        let detail = match (color, depth) {
            _ if (width, height) != (width_px, height_px) => {
                format!("{width}x{height} pixels instead of {width_px}x{height_px}")
            }
            (png::ColorType::Grayscale, png::BitDepth::Eight | png::BitDepth::Sixteen)
            | (png::ColorType::Rgb, png::BitDepth::Eight) => return Ok(()),
            (color, depth) => format!("{color:?} of {depth:?} bits"),
        };
        Err(DatasetError::Image(ImageError::Format(detail)))
    };
    let mut pixels = Vec::new();
    let (_, kind) = decode_into(bytes, check, &mut pixels)?;
    Ok(match kind {
        (png::ColorType::Rgb, _) => Pixels::Rgb8(pixels),
        (_, png::BitDepth::Sixteen) => {
            let values = pixels.as_chunks().0.iter().copied().map(u16::from_be_bytes);
            Pixels::Gray16(values.collect())
        }
        _ => Pixels::Gray8(pixels),
    })
}

/// Integer arithmetic, identical everywhere; maps gray to itself.
pub(crate) fn luma([red, green, blue]: [u8; 3]) -> u8 {
    let thousandths = 299 * u32::from(red) + 587 * u32::from(green) + 114 * u32::from(blue);
    ((thousandths + 500) / 1000) as u8
}

/// The eight pixels of each byte of a mask.
const PIXELS_OF_BYTE: [[u8; 8]; 256] = {
    let mut pixels = [[0; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut bit = 0;
        while bit < 8 {
            pixels[byte][bit] = (byte >> (7 - bit) & 1) as u8;
            bit += 1;
        }
        byte += 1;
    }
    pixels
};

/// Coverage mask of a square image: one bit per pixel, row-major from the top without row padding, most
/// significant bit first (as in numpy's `unpackbits`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask1Bit {
    size_px: u32,
    bits: Vec<u8>,
}

impl Mask1Bit {
    /// Packed size in bytes.
    #[must_use]
    pub fn num_bytes(size_px: u32) -> usize {
        (size_px as usize * size_px as usize).div_ceil(8)
    }

    /// Packs one `bool` per pixel.
    ///
    /// # Panics
    /// When there are not exactly `size_px * size_px` values.
    #[must_use]
    pub fn from_covered(size_px: u32, covered: &[bool]) -> Self {
        let num_pixels = size_px as usize * size_px as usize;
        assert_eq!(covered.len(), num_pixels, "one value a pixel");
        let byte = |pixels: &[bool]| {
            let bits = (0..8)
                .zip(pixels)
                .map(|(i, covered)| u8::from(*covered) << (7 - i));
            bits.fold(0, |byte, bit| byte | bit)
        };
        let bits = covered.chunks(8).map(byte).collect();
        Self { size_px, bits }
    }

    /// Wraps packed bytes from a shard.
    ///
    /// # Errors
    /// When the length is wrong or a padding bit is set.
    pub fn from_bytes(size_px: u32, bits: Vec<u8>) -> Result<Self> {
        let num_bytes = Self::num_bytes(size_px);
        if bits.len() != num_bytes {
            return Err(DatasetError::Image(ImageError::Format(format!(
                "a mask of {} bytes instead of {num_bytes}",
                bits.len()
            ))));
        }
        let num_spare = num_bytes * 8 - size_px as usize * size_px as usize;
        if bits
            .last()
            .is_some_and(|last| u32::from(*last).trailing_zeros() < num_spare as u32)
        {
            return Err(DatasetError::Image(ImageError::Format(
                "a mask with bits behind its last pixel".to_owned(),
            )));
        }
        Ok(Self { size_px, bits })
    }

    /// Packed bits, most significant bit first.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bits
    }

    /// Width and height in pixels.
    #[must_use]
    pub fn size_px(&self) -> u32 {
        self.size_px
    }

    /// Whether the pixel in column `x`, row `y` is covered; `false` outside the image.
    #[must_use]
    pub fn is_covered(&self, x: i64, y: i64) -> bool {
        let size = i64::from(self.size_px);
        if !(0..size).contains(&x) || !(0..size).contains(&y) {
            return false;
        }
        let i = (y * size + x) as usize;
        self.bits[i / 8] >> (7 - i % 8) & 1 == 1
    }

    /// Number of covered pixels.
    #[must_use]
    pub fn num_covered(&self) -> usize {
        self.bits.iter().map(|byte| byte.count_ones() as usize).sum()
    }

    /// Covered fraction of the image, 0 to 1.
    #[must_use]
    pub fn coverage(&self) -> f32 {
        self.num_covered() as f32 / (self.size_px as f32 * self.size_px as f32)
    }

    /// One byte per pixel, 1 where covered.
    #[must_use]
    pub fn to_pixels(&self) -> Vec<u8> {
        let mut pixels = Vec::new();
        self.append_pixels(&mut pixels);
        pixels
    }

    /// Appends what [`to_pixels`](Self::to_pixels) returns.
    pub fn append_pixels(&self, pixels: &mut Vec<u8>) {
        let num_pixels = self.size_px as usize * self.size_px as usize;
        let end = pixels.len() + num_pixels;
        pixels.reserve(8 * self.bits.len());
        for byte in &self.bits {
            pixels.extend_from_slice(&PIXELS_OF_BYTE[*byte as usize]);
        }
        pixels.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn an_image_round_trips_as_unfiltered_gray8() {
        let pixels: Vec<u8> = (0..49_u32).map(|i| (i * 37 % 251) as u8).collect();
        let bytes = encode_gray_png(7, &pixels).unwrap();
        assert_eq!(
            decode_gray_png(&bytes).unwrap(),
            GrayImage {
                width_px: 7,
                height_px: 7,
                pixels
            }
        );
        assert_eq!(&bytes[24..26], &[8, 0], "bit depth 8, color type gray");
    }

    #[test]
    fn colors_become_gray() {
        let colors = [[255; 3], [0; 3], [77; 3], [255, 0, 0]];
        let image = decode_gray_png(&encode_rgb_png(2, &colors).unwrap()).unwrap();
        assert_eq!(image.pixels, [255, 0, 77, 76]);
    }

    #[test]
    fn colors_come_as_planes() {
        let colors = [[1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12]];
        let planes = decode_rgb_planes(&encode_rgb_png(2, &colors).unwrap()).unwrap();
        assert_eq!(
            planes,
            [1, 4, 7, 10, 2, 5, 8, 11, 3, 6, 9, 12],
            "red, green, blue"
        );
        let planes = decode_rgb_planes(&encode_gray_png(2, &[1, 2, 3, 4]).unwrap()).unwrap();
        assert_eq!(planes, [1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4], "gray thrice");
    }

    #[test]
    fn hostile_images_are_refused() {
        let good = encode_gray_png(8, &[9; 64]).unwrap();
        decode_gray_png(&good[..good.len() / 2]).unwrap_err();
        decode_gray_png(b"not a PNG").unwrap_err();
        encode_gray_png(8, &[0; 63]).unwrap_err();

        let mut rgba = Vec::new();
        let mut encoder = png::Encoder::new(&mut rgba, 2, 2);
        encoder.set_color(png::ColorType::Rgba);
        encoder
            .write_header()
            .unwrap()
            .write_image_data(&[0; 16])
            .unwrap();
        assert!(
            matches!(
                decode_gray_png(&rgba),
                Err(DatasetError::Image(ImageError::Format(_)))
            ),
            "rgba is not ours"
        );

        let mut huge = Vec::new();
        let mut encoder = png::Encoder::new(&mut huge, 60_000, 60_000);
        encoder.set_color(png::ColorType::Grayscale);
        drop(encoder.write_header().unwrap());
        decode_gray_png(&huge).unwrap_err();
    }

    #[test]
    fn a_mask_counts_what_it_covers() {
        let covered: Vec<bool> = (0..25).map(|i| i % 3 == 0).collect();
        let mask = Mask1Bit::from_covered(5, &covered);
        assert_eq!(mask.num_covered(), 9);
        assert!(
            mask.is_covered(3, 0) && !mask.is_covered(4, 0) && mask.is_covered(4, 4),
            "row-major"
        );
        assert!(
            !mask.is_covered(-1, 0) && !mask.is_covered(0, 5),
            "outside is not covered"
        );
        let pixels: Vec<bool> = mask.to_pixels().iter().map(|&p| p == 1).collect();
        assert_eq!(pixels, covered);
        assert_eq!(Mask1Bit::from_bytes(5, mask.as_bytes().to_vec()).unwrap(), mask);
        Mask1Bit::from_bytes(5, vec![0; 3]).unwrap_err();
        Mask1Bit::from_bytes(5, vec![255; 4]).unwrap_err();
    }
}
