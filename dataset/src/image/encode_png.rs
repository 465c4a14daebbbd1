//! PNG encoding in a single compression call.
//!
//! The `png` crate passes each row to the compressor separately and reserves 32 kB of output every time, a
//! third of the cost of a small image. Here rows are filtered first and compressed at once.

use flate2::{Compress, Compression, FlushCompress, Status};
use png::{BitDepth, ColorType};

use crate::error::{DatasetError, ImageError, Result};

/// zlib level: above it, time grows much faster than size shrinks.
const LEVEL: u32 = 5;

/// PNG row filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowFilter {
    /// Filter 0: best for repeating values, as in flat-shaded views.
    None,
    /// Filter 2, difference to the row above: best for gradients.
    Up,
}

impl RowFilter {
    /// Filter type byte in the file format.
    fn code(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Up => 2,
        }
    }
}

/// Encodes pixels in row-major order from the top, with whole bytes per sample; 16-bit samples are
/// big-endian. Output is identical on every machine.
///
/// # Errors
/// When `pixels` does not have the length that the size implies.
pub fn encode_png(
    size_px: [u32; 2],
    kind: (ColorType, BitDepth),
    filter: RowFilter,
    pixels: &[u8],
) -> Result<Vec<u8>> {
    encode_png_with_text(size_px, kind, filter, pixels, &[])
}

/// The same with chunks of text before the pixels: keywords as the PNG specification has them, and what they say.
///
/// # Errors
/// When there are not as many bytes as its pixels need, or a text is not Latin-1.
pub fn encode_png_with_text(
    [width_px, height_px]: [u32; 2],
    (color, depth): (ColorType, BitDepth),
    filter: RowFilter,
    pixels: &[u8],
    texts: &[(&str, &str)],
) -> Result<Vec<u8>> {
    let row_bytes = width_px as usize * color.samples() * (depth as usize / 8);
    if row_bytes == 0 || pixels.len() != row_bytes * height_px as usize {
        return Err(DatasetError::Image(ImageError::Format(format!(
            "{} bytes for {width_px}x{height_px} pixels of {color:?}, {depth:?} bits",
            pixels.len()
        ))));
    }
    let compressed = compress(&filtered(pixels, row_bytes, filter))?;
    let mut bytes = Vec::with_capacity(compressed.len() + 64);
    let mut encoder = png::Encoder::new(&mut bytes, width_px, height_px);
    encoder.set_color(color);
    encoder.set_depth(depth);
    for (keyword, text) in texts {
        encoder.add_text_chunk((*keyword).to_owned(), (*text).to_owned())?;
    }
    let mut writer = encoder.write_header()?;
    writer.write_chunk(png::chunk::IDAT, &compressed)?;
    writer.finish()?;
    Ok(bytes)
}

/// Rows, each preceded by its filter type byte.
fn filtered(pixels: &[u8], row_bytes: usize, filter: RowFilter) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(pixels.len() + pixels.len() / row_bytes);
    let no_row = vec![0; row_bytes];
    let mut above = &no_row[..];
    for row in pixels.chunks_exact(row_bytes) {
        bytes.push(filter.code());
        match filter {
            RowFilter::None => bytes.extend_from_slice(row),
            RowFilter::Up => bytes.extend(
                row.iter()
                    .zip(above)
                    .map(|(here, above)| here.wrapping_sub(*above)),
            ),
        }
        above = row;
    }
    bytes
}

/// zlib-compressed bytes.
fn compress(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut compress = Compress::new(Compression::new(LEVEL), true);
    let mut compressed = Vec::with_capacity(bytes.len() / 8 + 64);
    loop {
        let rest = &bytes[compress.total_in() as usize..];
        let status = compress
            .compress_vec(rest, &mut compressed, FlushCompress::Finish)
            .map_err(|e| DatasetError::Image(ImageError::Format(e.to_string())))?;
        if status == Status::StreamEnd {
            return Ok(compressed);
        }
        compressed.reserve(compressed.capacity());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    fn decoded(bytes: &[u8]) -> ((u32, u32), (ColorType, BitDepth), Vec<u8>) {
        let mut reader = png::Decoder::new(Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        (
            (info.width, info.height),
            (info.color_type, info.bit_depth),
            pixels,
        )
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(
            width in 1_u32..40,
            height in 1_u32..40,
            color in prop_oneof![Just(ColorType::Grayscale), Just(ColorType::Rgb)],
            depth in prop_oneof![Just(BitDepth::Eight), Just(BitDepth::Sixteen)],
            filter in prop_oneof![Just(RowFilter::None), Just(RowFilter::Up)],
            noise in prop::collection::vec(any::<u8>(), 40 * 40 * 6),
        ) {
            let num_bytes = (width * height) as usize * color.samples() * (depth as usize / 8);
            let pixels = &noise[..num_bytes];
            let png = encode_png([width, height], (color, depth), filter, pixels).unwrap();
            prop_assert_eq!(decoded(&png), ((width, height), (color, depth), pixels.to_vec()));
        }
    }

    #[test]
    fn a_missing_byte_is_reported() {
        let kind = (ColorType::Rgb, BitDepth::Eight);
        let error = encode_png([2, 3], kind, RowFilter::None, &[0; 17]).unwrap_err();
        assert!(error.to_string().contains("17 bytes for 2x3 pixels"), "{error}");
        assert!(
            encode_png([0, 3], kind, RowFilter::None, &[]).is_err(),
            "an empty image"
        );
    }
}
