//! PNG decoding in a single decompression call, for the PNGs that `encode_png.rs` and most other programs write.
//!
//! The `png` crate decompresses piece by piece into a window, and copies row by row, which takes as long again as decompressing
//! at once does. What is read here: 8-bit gray, 8-bit RGB and 16-bit gray, not interlaced, without transparency, in rows of the
//! filters none and up. All else, damaged files among it, is left to that crate.

use std::borrow::Cow;
use std::cell::RefCell;

use libdeflater::{Decompressor, crc32};
use png::{BitDepth, ColorType};

const SIGNATURE: &[u8; 8] = b"\x89PNG\r\n\x1a\n";
/// Filter types.
const NONE: u8 = 0;
const UP: u8 = 2;
/// Length, type and checksum of a chunk.
const CHUNK_OVERHEAD_BYTES: usize = 12;

/// A PNG whose header is read and whose checksums are right.
pub(super) struct SimplePng<'a> {
    pub(super) size_px: (u32, u32),
    pub(super) kind: (ColorType, BitDepth),
    row_bytes: usize,
    /// What the rows were compressed to.
    compressed: Cow<'a, [u8]>,
}

impl<'a> SimplePng<'a> {
    /// `None` for what is left to the `png` crate.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(SIGNATURE)?;
        let header: [u8; 13] = next_chunk(&mut rest, *b"IHDR")?.try_into().ok()?;
        let [
            w0,
            w1,
            w2,
            w3,
            h0,
            h1,
            h2,
            h3,
            depth,
            color,
            compression,
            filter,
            interlace,
        ] = header;
        let (width_px, height_px) = (
            u32::from_be_bytes([w0, w1, w2, w3]),
            u32::from_be_bytes([h0, h1, h2, h3]),
        );
        let kind = (ColorType::from_u8(color)?, BitDepth::from_u8(depth)?);
        let pixel_bytes = match kind {
            (ColorType::Grayscale, BitDepth::Eight) => 1,
            (ColorType::Grayscale, BitDepth::Sixteen) => 2,
            (ColorType::Rgb, BitDepth::Eight) => 3,
            _ => return None,
        };
        if (compression, filter, interlace) != (0, 0, 0) || width_px == 0 || height_px == 0 {
            return None;
        }
        let mut compressed = Cow::Borrowed(&[][..]);
        loop {
            match chunk_type(rest)? {
                name @ (b"IDAT" | b"tEXt" | b"zTXt" | b"iTXt" | b"pHYs" | b"tIME" | b"gAMA" | b"sRGB") => {
                    let data = next_chunk(&mut rest, *name)?;
                    match (name, &mut compressed) {
                        (b"IDAT", Cow::Borrowed([])) => compressed = Cow::Borrowed(data),
                        (b"IDAT", compressed) => compressed.to_mut().extend_from_slice(data),
                        _ => {}
                    }
                }
                b"IEND" => break,
                _ => return None,
            }
        }
        Some(Self {
            size_px: (width_px, height_px),
            kind,
            row_bytes: width_px as usize * pixel_bytes,
            compressed,
        })
    }

    /// Appends the pixels, row by row from the top, and returns whether they could be read; otherwise nothing is appended.
    pub(super) fn decode_into(&self, pixels: &mut Vec<u8>) -> bool {
        WORKSPACE.with_borrow_mut(|workspace| {
            let Some(rows) = self.decompress(workspace) else {
                return false;
            };
            append_unfiltered(rows, self.row_bytes, pixels);
            true
        })
    }

    /// The rows, each behind the number of its filter; `None` where they are of another length, or a filter is not undone here.
    fn decompress<'rows>(&self, workspace: &'rows mut Workspace) -> Option<&'rows [u8]> {
        let num_bytes = (1 + self.row_bytes) * self.size_px.1 as usize;
        let Workspace { decompressor, rows } = workspace;
        if rows.len() < num_bytes {
            rows.resize(num_bytes, 0);
        }
        let rows = &mut rows[..num_bytes];
        let is_whole = decompressor.zlib_decompress(&self.compressed, rows) == Ok(num_bytes);
        let mut filters = rows.iter().step_by(1 + self.row_bytes);
        (is_whole && filters.all(|filter| matches!(*filter, NONE | UP))).then_some(rows)
    }
}

/// What a thread keeps from image to image: memory that is neither allocated nor zeroed for each, as large as its largest image.
struct Workspace {
    decompressor: Decompressor,
    rows: Vec<u8>,
}

thread_local! {
    static WORKSPACE: RefCell<Workspace> = RefCell::new(Workspace {
        decompressor: Decompressor::new(),
        rows: Vec::new(),
    });
}

/// Appends rows without the numbers of their filters, which are undone.
fn append_unfiltered(rows: &[u8], row_bytes: usize, pixels: &mut Vec<u8>) {
    let begin = pixels.len();
    pixels.reserve(rows.len() / (1 + row_bytes) * row_bytes);
    for row in rows.chunks_exact(1 + row_bytes) {
        let to = pixels.len();
        pixels.extend_from_slice(&row[1..]);
        if row[0] == UP && to > begin {
            let (above, here) = pixels[to - row_bytes..].split_at_mut(row_bytes);
            for (pixel, above) in here.iter_mut().zip(above) {
                *pixel = pixel.wrapping_add(*above);
            }
        }
    }
}

fn chunk_type(bytes: &[u8]) -> Option<&[u8; 4]> {
    bytes.get(4..)?.first_chunk()
}

/// The data of the chunk that comes next, if it is of this type and undamaged.
fn next_chunk<'a>(bytes: &mut &'a [u8], name: [u8; 4]) -> Option<&'a [u8]> {
    let num_bytes = u32::from_be_bytes(*bytes.first_chunk()?) as usize;
    let chunk = bytes.get(..num_bytes.checked_add(CHUNK_OVERHEAD_BYTES)?)?;
    let (checked, checksum) = chunk[4..].split_at(4 + num_bytes);
    let data = checked.strip_prefix(&name)?;
    if crc32(checked).to_be_bytes() != *checksum {
        return None;
    }
    *bytes = &bytes[chunk.len()..];
    Some(data)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::super::{RowFilter, encode_png};
    use super::*;

    fn decoded(bytes: &[u8]) -> Option<Vec<u8>> {
        let mut pixels = vec![7; 3];
        let is_read = SimplePng::read(bytes)?.decode_into(&mut pixels);
        assert_eq!(pixels[..3], [7; 3], "what was there stays");
        assert!(
            is_read || pixels.len() == 3,
            "nothing is appended of what is not read"
        );
        is_read.then(|| pixels[3..].to_vec())
    }

    /// As the `png` crate decodes it.
    fn reference(bytes: &[u8]) -> Option<Vec<u8>> {
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().ok()?;
        let mut pixels = vec![0; reader.output_buffer_size()?];
        reader.next_frame(&mut pixels).ok()?;
        Some(pixels)
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded_as_the_png_crate_does(
            width in 1_u32..40,
            height in 1_u32..40,
            kind in prop_oneof![
                Just((ColorType::Grayscale, BitDepth::Eight)),
                Just((ColorType::Grayscale, BitDepth::Sixteen)),
                Just((ColorType::Rgb, BitDepth::Eight)),
            ],
            filter in prop_oneof![Just(RowFilter::None), Just(RowFilter::Up)],
            values in prop::collection::vec(any::<u8>(), 40 * 40 * 3),
            changed in any::<prop::sample::Index>(),
        ) {
            let num_bytes = width as usize * height as usize * kind.0.samples() * (kind.1 as usize / 8);
            let mut bytes = encode_png([width, height], kind, filter, &values[..num_bytes]).unwrap();
            prop_assert_eq!(decoded(&bytes), Some(values[..num_bytes].to_vec()));
            prop_assert_eq!(decoded(&bytes), reference(&bytes));
            // A changed byte is left to the crate, which refuses it or knows better.
            let changed = changed.index(bytes.len());
            bytes[changed] ^= 0x10;
            if let Some(pixels) = decoded(&bytes) {
                prop_assert_eq!(Some(pixels), reference(&bytes));
            }
        }
    }

    #[test]
    fn rows_of_other_filters_are_left_to_the_png_crate() {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 4, 2);
        encoder.set_color(ColorType::Grayscale);
        encoder.set_filter(png::Filter::Paeth);
        encoder
            .write_header()
            .unwrap()
            .write_image_data(&[3, 9, 1, 200, 5, 5, 8, 1])
            .unwrap();
        assert_eq!(decoded(&bytes), None);
        assert_eq!(reference(&bytes).unwrap(), [3, 9, 1, 200, 5, 5, 8, 1]);
        assert_eq!(
            super::super::decode_png(&bytes).unwrap().values,
            [3, 9, 1, 200, 5, 5, 8, 1]
        );
    }

    #[test]
    fn pixels_in_several_chunks_are_one_stream() {
        let pixels: Vec<u8> = (0..64 * 64).map(|i| (i * i % 251) as u8).collect();
        let kind = (ColorType::Grayscale, BitDepth::Eight);
        let whole = encode_png([64; 2], kind, RowFilter::Up, &pixels).unwrap();
        let compressed = SimplePng::read(&whole).unwrap().compressed.into_owned();
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 64, 64);
        encoder.set_color(kind.0);
        let mut writer = encoder.write_header().unwrap();
        for piece in compressed.chunks(100) {
            writer.write_chunk(png::chunk::IDAT, piece).unwrap();
        }
        writer.finish().unwrap();
        assert_eq!(decoded(&bytes), Some(pixels));
    }
}
