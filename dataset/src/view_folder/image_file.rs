//! Channels of a view as PNG files, and a sheet of all views of an object.

use std::io::Cursor;

use glam::Vec3;
use png::{BitDepth, ColorType};
use tap_render::{ColorImage, NO_LABEL};

use crate::error::Result;
use crate::image::{RowFilter, encode_png};

/// White gap between the images of a sheet, relative to an image.
const SHEET_GAP: f32 = 1.0 / 56.0;
/// Largest value of a normal's component in 8 and 16 bits.
const NORMAL_8_MAX: f32 = 255.0;
const NORMAL_16_MAX: f32 = 65535.0;
/// Value of a depth pixel at the far end; 0 is background and 1 the near end.
const DEPTH_FAR: f32 = 65535.0;

/// Range of a depth image: `depth = near + (value - 1) / 65534 * (far - near)`, in units of object space; value 0 is
/// background.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct DepthRange {
    /// Depth of value 1.
    pub near: f32,
    /// Depth of value 65535.
    pub far: f32,
}

/// 8-bit PNG, gray or RGB.
pub(super) fn color_png(size_px: u32, color: &ColorImage) -> Result<Vec<u8>> {
    match color {
        ColorImage::Gray(pixels) => gray_png(size_px, pixels),
        color => encode(
            size_px,
            size_px,
            ColorType::Rgb,
            BitDepth::Eight,
            color.to_rgb().as_flattened(),
        ),
    }
}

/// 8-bit gray PNG.
pub(super) fn gray_png(size_px: u32, pixels: &[u8]) -> Result<Vec<u8>> {
    encode(size_px, size_px, ColorType::Grayscale, BitDepth::Eight, pixels)
}

/// 16-bit gray PNG of depth, which is infinite in the background, and its range.
pub(super) fn depth_png(size_px: u32, depth: &[f32]) -> Result<(Vec<u8>, DepthRange)> {
    let finite = || depth.iter().copied().filter(|depth| depth.is_finite());
    let range = DepthRange {
        near: finite().fold(f32::INFINITY, f32::min),
        far: finite().fold(0.0, f32::max),
    };
    let range = if range.near <= range.far {
        range
    } else {
        DepthRange { near: 0.0, far: 0.0 }
    };
    let extent = (range.far - range.near).max(f32::MIN_POSITIVE);
    let value = |depth: &f32| {
        if !depth.is_finite() {
            return 0;
        }
        (1.0 + (depth - range.near) / extent * (DEPTH_FAR - 1.0)).round() as u16
    };
    let bytes: Vec<u8> = depth
        .iter()
        .flat_map(|depth| value(depth).to_be_bytes())
        .collect();
    Ok((
        encode(size_px, size_px, ColorType::Grayscale, BitDepth::Sixteen, &bytes)?,
        range,
    ))
}

/// Depth from the values of [`depth_png`].
pub(super) fn depth_of(values: &[u16], range: DepthRange) -> Vec<f32> {
    let extent = range.far - range.near;
    let depth = |value: &u16| match value {
        0 => f32::INFINITY,
        value => range.near + f32::from(value - 1) / (DEPTH_FAR - 1.0) * extent,
    };
    values.iter().map(depth).collect()
}

/// RGB PNG of unit normals, black in the background. In 8 bits `n = value / 127.5 - 1`, in 16 bits
/// `n = value / 32767.5 - 1`.
pub(super) fn normal_png(size_px: u32, normals: &[[f32; 3]], depth: BitDepth) -> Result<Vec<u8>> {
    let values = |largest: f32| {
        let pixel = move |normal: &[f32; 3]| match normal {
            [0.0, 0.0, 0.0] => [0; 3],
            normal => normal.map(|part| (f32::midpoint(part, 1.0) * largest).round() as u16),
        };
        normals.iter().flat_map(pixel)
    };
    let bytes: Vec<u8> = match depth {
        BitDepth::Sixteen => values(NORMAL_16_MAX).flat_map(u16::to_be_bytes).collect(),
        _ => values(NORMAL_8_MAX).map(|value| value as u8).collect(),
    };
    encode(size_px, size_px, ColorType::Rgb, depth, &bytes)
}

/// Unit normals from the values of [`normal_png`].
pub(super) fn normals_of(values: &[u16], depth: BitDepth) -> Vec<[f32; 3]> {
    let largest = if depth == BitDepth::Sixteen {
        NORMAL_16_MAX
    } else {
        NORMAL_8_MAX
    };
    let normal = |values: &[u16]| match values {
        [0, 0, 0] => [0.0; 3],
        values => {
            let part = |idx: usize| f32::from(values[idx]) / largest * 2.0 - 1.0;
            Vec3::new(part(0), part(1), part(2))
                .normalize_or_zero()
                .to_array()
        }
    };
    values.chunks_exact(3).map(normal).collect()
}

/// 8-bit RGB PNG.
pub(super) fn rgb_png(size_px: u32, colors: &[[u8; 3]]) -> Result<Vec<u8>> {
    encode(
        size_px,
        size_px,
        ColorType::Rgb,
        BitDepth::Eight,
        colors.as_flattened(),
    )
}

/// 16-bit gray PNG of labels: 0 is background, label k is k + 1.
pub(super) fn label_png(size_px: u32, labels: &[u16]) -> Result<Vec<u8>> {
    const { assert!(NO_LABEL == u16::MAX, "adding 1 wraps to 0") };
    let bytes: Vec<u8> = labels
        .iter()
        .flat_map(|label| label.wrapping_add(1).to_be_bytes())
        .collect();
    encode(size_px, size_px, ColorType::Grayscale, BitDepth::Sixteen, &bytes)
}

/// Pixels of a PNG, channels interleaved.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) depth: BitDepth,
    pub(super) values: Vec<u16>,
}

/// Why a file is not the expected image.
#[derive(Debug, thiserror::Error)]
pub(super) enum DecodeError {
    #[error("not a PNG")]
    NotPng(#[source] png::DecodingError),
    #[error("not a PNG of {size_px} by {size_px} pixels in {color:?}")]
    OtherKind { size_px: u32, color: ColorType },
    #[error("the PNG is too large")]
    TooLarge,
    #[error("truncated PNG")]
    Truncated(#[source] png::DecodingError),
}

/// Decodes a square PNG of this size and color type.
pub(super) fn decode(png: &[u8], size_px: u32, color: ColorType) -> Result<Decoded, DecodeError> {
    let mut reader = png::Decoder::new(Cursor::new(png))
        .read_info()
        .map_err(DecodeError::NotPng)?;
    let info = reader.info();
    let is_expected = (info.width, info.height) == (size_px, size_px)
        && info.color_type == color
        && matches!(info.bit_depth, BitDepth::Eight | BitDepth::Sixteen);
    if !is_expected {
        return Err(DecodeError::OtherKind { size_px, color });
    }
    let depth = info.bit_depth;
    let num_bytes = reader.output_buffer_size().ok_or(DecodeError::TooLarge)?;
    let mut bytes = vec![0; num_bytes];
    reader.next_frame(&mut bytes).map_err(DecodeError::Truncated)?;
    let values = match depth {
        BitDepth::Sixteen => bytes
            .chunks_exact(2)
            .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
            .collect(),
        _ => bytes.into_iter().map(u16::from).collect(),
    };
    Ok(Decoded { depth, values })
}

/// Square images of one size on white, in about as many columns as rows: four by three for twelve. Gray if all
/// images are.
pub(super) fn sheet_png(size_px: u32, images: &[&ColorImage]) -> Result<Vec<u8>> {
    let grays: Option<Vec<&[u8]>> = images.iter().map(|image| image.gray()).collect();
    if let Some(grays) = grays {
        let (width, height, sheet) = lay_out(size_px, &grays, u8::MAX);
        return encode(width, height, ColorType::Grayscale, BitDepth::Eight, &sheet);
    }
    let colors: Vec<Vec<[u8; 3]>> = images.iter().map(|image| image.to_rgb()).collect();
    let colors: Vec<&[[u8; 3]]> = colors.iter().map(Vec::as_slice).collect();
    let (width, height, sheet) = lay_out(size_px, &colors, [u8::MAX; 3]);
    encode(
        width,
        height,
        ColorType::Rgb,
        BitDepth::Eight,
        sheet.as_flattened(),
    )
}

fn lay_out<Pixel: Copy>(size_px: u32, images: &[&[Pixel]], white: Pixel) -> (u32, u32, Vec<Pixel>) {
    let size = size_px as usize;
    let gap = (size_px as f32 * SHEET_GAP).ceil() as usize;
    let columns = num_columns(images.len());
    let rows = images.len().div_ceil(columns);
    let (width, height) = (columns * (size + gap) + gap, rows * (size + gap) + gap);
    let mut sheet = vec![white; width * height];
    for (view_idx, image) in images.iter().enumerate() {
        let left = gap + view_idx % columns * (size + gap);
        let top = gap + view_idx / columns * (size + gap);
        for (y, row) in image.chunks_exact(size).enumerate() {
            let start = (top + y) * width + left;
            sheet[start..start + size].copy_from_slice(row);
        }
    }
    (width as u32, height as u32, sheet)
}

fn num_columns(num_images: usize) -> usize {
    let side = ((num_images as f64).sqrt().ceil() as usize).max(1);
    // A little wider, if that leaves no gap in the last row.
    let is_full = |columns: &usize| num_images.is_multiple_of(*columns);
    (side..=side + side / 4).find(is_full).unwrap_or(side)
}

fn encode(width_px: u32, height_px: u32, color: ColorType, depth: BitDepth, bytes: &[u8]) -> Result<Vec<u8>> {
    encode_png([width_px, height_px], (color, depth), RowFilter::None, bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn decoded(png: &[u8]) -> (u32, u32, Vec<u8>) {
        let mut reader = png::Decoder::new(Cursor::new(png)).read_info().unwrap();
        let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut bytes).unwrap();
        (info.width, info.height, bytes)
    }

    #[test]
    fn depth_spans_its_range_and_0_is_nothing() {
        let (png, range) = depth_png(2, &[1.0, f32::INFINITY, 3.0, 2.0]).unwrap();
        assert_eq!(range, DepthRange { near: 1.0, far: 3.0 });
        let (_, _, bytes) = decoded(&png);
        let values: Vec<u16> = bytes
            .chunks_exact(2)
            .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
            .collect();
        assert_eq!(values, [1, 0, 65535, 32768]);
        let (png, _) = depth_png(1, &[f32::INFINITY]).unwrap();
        assert_eq!(decoded(&png).2, [0, 0], "an empty view");
    }

    #[test]
    fn normals_are_colors() {
        let normals = [[0.0; 3], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 1.0]];
        let (_, _, bytes) = decoded(&normal_png(2, &normals, BitDepth::Eight).unwrap());
        assert_eq!(bytes, [0, 0, 0, 255, 128, 128, 128, 0, 128, 128, 128, 255]);
    }

    #[test]
    fn depth_and_normals_come_back() {
        let depth = [1.0, f32::INFINITY, 3.0, 2.5];
        let (png, range) = depth_png(2, &depth).unwrap();
        let values = decode(&png, 2, ColorType::Grayscale).unwrap().values;
        for (back, depth) in depth_of(&values, range).iter().zip(depth) {
            assert!(
                (back.is_infinite() && depth.is_infinite()) || (back - depth).abs() < 2e-5,
                "{back} and {depth}"
            );
        }
        let normals = [[0.0; 3], [0.6, 0.0, 0.8], [0.0, -1.0, 0.0], [-0.48, 0.64, 0.6]];
        for (depth, tolerance) in [(BitDepth::Eight, 8e-3), (BitDepth::Sixteen, 5e-5)] {
            let png = normal_png(2, &normals, depth).unwrap();
            let found = decode(&png, 2, ColorType::Rgb).unwrap();
            assert_eq!(found.depth, depth);
            for (back, normal) in normals_of(&found.values, depth).iter().zip(normals) {
                let error = Vec3::from(*back).distance(Vec3::from(normal));
                assert!(error < tolerance, "{back:?} and {normal:?}");
            }
        }
        assert!(decode(&png, 3, ColorType::Grayscale).is_err(), "another size");
        assert!(decode(&png, 2, ColorType::Rgb).is_err(), "other channels");
        assert!(decode(b"PNG", 2, ColorType::Rgb).is_err(), "no image");
    }

    #[test]
    fn labels_count_from_1() {
        let (_, _, bytes) = decoded(&label_png(2, &[0, NO_LABEL, 7, 65534]).unwrap());
        assert_eq!(bytes, [0, 1, 0, 0, 0, 8, 255, 255]);
    }

    #[test]
    fn a_sheet_in_color_holds_gray_images_too() {
        let images = [ColorImage::Rgb(vec![[1, 2, 3]; 4]), ColorImage::Gray(vec![9; 4])];
        let (width, height, bytes) = decoded(&sheet_png(2, &images.iter().collect::<Vec<_>>()).unwrap());
        assert_eq!((width, height), (7, 4));
        assert_eq!(bytes[3 * 8..3 * 9], [1, 2, 3]);
        assert_eq!(bytes[3 * 11..3 * 12], [9, 9, 9]);
    }

    #[test]
    fn a_sheet_holds_every_image_once() {
        let images: Vec<ColorImage> = (0..12).map(|k| ColorImage::Gray(vec![k; 56 * 56])).collect();
        let images: Vec<&ColorImage> = images.iter().collect();
        let (width, height, bytes) = decoded(&sheet_png(56, &images).unwrap());
        assert_eq!((width, height), (4 * 57 + 1, 3 * 57 + 1));
        for (k, image) in images.iter().enumerate() {
            let pixels: Vec<u8> = bytes
                .iter()
                .copied()
                .filter(|value| usize::from(*value) == k)
                .collect();
            assert_eq!(Some(&*pixels), image.gray(), "image {k}");
        }
        let columns = [1, 2, 3, 5, 12, 80].map(num_columns);
        assert_eq!(columns, [1, 2, 2, 3, 4, 10]);
    }
}
