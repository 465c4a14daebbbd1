//! Channels of a view as PNG files, and all views of an object on one sheet.

use anyhow::{Context, Result};
use png::{BitDepth, ColorType, Encoder, Filter};
use tap_render::ColorImage;

/// White between the pictures of a sheet, as wide as this part of a picture.
const SHEET_GAP: f32 = 1.0 / 56.0;
/// The value of a depth pixel at the far end; 0 means that nothing is there and 1 is the near end.
const DEPTH_FAR: f32 = 65535.0;

/// The range that a depth picture spans: `depth = near + (value - 1) / 65534 * (far - near)`, in units of object
/// space, and value 0 is 'nothing'.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct DepthRange {
    pub(crate) near: f32,
    pub(crate) far: f32,
}

/// An 8-bit PNG of a square picture, gray or in color.
pub(crate) fn color_png(size_px: u32, color: &ColorImage) -> Result<Vec<u8>> {
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

/// An 8-bit gray PNG of a square picture.
pub(crate) fn gray_png(size_px: u32, pixels: &[u8]) -> Result<Vec<u8>> {
    encode(size_px, size_px, ColorType::Grayscale, BitDepth::Eight, pixels)
}

/// A 16-bit gray PNG of distances, infinite where nothing is, and the range that it spans.
pub(crate) fn depth_png(size_px: u32, depth: &[f32]) -> Result<(Vec<u8>, DepthRange)> {
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

/// An 8-bit RGB PNG of unit normals: `n = value / 127.5 - 1`; black where nothing is.
pub(crate) fn normal_png(size_px: u32, normals: &[[f32; 3]]) -> Result<Vec<u8>> {
    let pixel = |normal: &[f32; 3]| match normal {
        [0.0, 0.0, 0.0] => [0; 3],
        normal => normal.map(|part| ((part + 1.0) * 127.5).round() as u8),
    };
    let bytes: Vec<u8> = normals.iter().flat_map(pixel).collect();
    encode(size_px, size_px, ColorType::Rgb, BitDepth::Eight, &bytes)
}

/// Square pictures of one size, white between them, about as many in a row as there are rows: four by three for twelve; gray if all of them are.
pub(crate) fn sheet_png(size_px: u32, pictures: &[&ColorImage]) -> Result<Vec<u8>> {
    let grays: Option<Vec<&[u8]>> = pictures.iter().map(|picture| picture.gray()).collect();
    if let Some(grays) = grays {
        let (width, height, sheet) = lay_out(size_px, &grays, u8::MAX);
        return encode(width, height, ColorType::Grayscale, BitDepth::Eight, &sheet);
    }
    let colors: Vec<Vec<[u8; 3]>> = pictures.iter().map(|picture| picture.to_rgb()).collect();
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

fn lay_out<Pixel: Copy>(size_px: u32, pictures: &[&[Pixel]], white: Pixel) -> (u32, u32, Vec<Pixel>) {
    let size = size_px as usize;
    let gap = (size_px as f32 * SHEET_GAP).ceil() as usize;
    let columns = num_columns(pictures.len());
    let rows = pictures.len().div_ceil(columns);
    let (width, height) = (columns * (size + gap) + gap, rows * (size + gap) + gap);
    let mut sheet = vec![white; width * height];
    for (view_idx, picture) in pictures.iter().enumerate() {
        let left = gap + view_idx % columns * (size + gap);
        let top = gap + view_idx / columns * (size + gap);
        for (y, row) in picture.chunks_exact(size).enumerate() {
            let start = (top + y) * width + left;
            sheet[start..start + size].copy_from_slice(row);
        }
    }
    (width as u32, height as u32, sheet)
}

fn num_columns(num_pictures: usize) -> usize {
    ((num_pictures as f64).sqrt().ceil() as usize).max(1)
}

fn encode(width_px: u32, height_px: u32, color: ColorType, depth: BitDepth, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut png = Vec::new();
    let mut encoder = Encoder::new(&mut png, width_px, height_px);
    encoder.set_color(color);
    encoder.set_depth(depth);
    encoder.set_filter(Filter::NoFilter);
    let mut writer = encoder.write_header().context("could not encode a PNG")?;
    writer.write_image_data(bytes).context("could not encode a PNG")?;
    writer.finish().context("could not encode a PNG")?;
    Ok(png)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn decode(png: &[u8]) -> (u32, u32, Vec<u8>) {
        let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
        let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut bytes).unwrap();
        (info.width, info.height, bytes)
    }

    #[test]
    fn depth_spans_its_range_and_0_is_nothing() {
        let (png, range) = depth_png(2, &[1.0, f32::INFINITY, 3.0, 2.0]).unwrap();
        assert_eq!(range, DepthRange { near: 1.0, far: 3.0 });
        let (_, _, bytes) = decode(&png);
        let values: Vec<u16> = bytes
            .chunks_exact(2)
            .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
            .collect();
        assert_eq!(values, [1, 0, 65535, 32768]);
        let (png, _) = depth_png(1, &[f32::INFINITY]).unwrap();
        assert_eq!(decode(&png).2, [0, 0], "an empty view");
    }

    #[test]
    fn normals_are_colors() {
        let (_, _, bytes) =
            decode(&normal_png(2, &[[0.0; 3], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 1.0]]).unwrap());
        assert_eq!(bytes, [0, 0, 0, 255, 128, 128, 128, 0, 128, 128, 128, 255]);
    }

    #[test]
    fn a_sheet_holds_every_picture_once() {
        let pictures: Vec<ColorImage> = (0..12).map(|k| ColorImage::Gray(vec![k; 56 * 56])).collect();
        let pictures: Vec<&ColorImage> = pictures.iter().collect();
        let (width, height, bytes) = decode(&sheet_png(56, &pictures).unwrap());
        assert_eq!((width, height), (4 * 57 + 1, 3 * 57 + 1));
        for (k, picture) in pictures.iter().enumerate() {
            let pixels: Vec<u8> = bytes
                .iter()
                .copied()
                .filter(|value| usize::from(*value) == k)
                .collect();
            assert_eq!(Some(&*pixels), picture.gray(), "picture {k}");
        }
        let columns = [1, 2, 3, 5, 12, 80].map(num_columns);
        assert_eq!(columns, [1, 2, 2, 3, 4, 9]);
    }
}
