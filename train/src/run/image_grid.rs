//! Grids of gray images: what was generated above what is true.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use tap_dataset::{DatasetError, RowFilter, encode_png_with_text};

use crate::error::TrainError;

/// A gray image of any size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageGrid {
    /// Pixels across.
    pub width_px: u32,
    /// Pixels down.
    pub height_px: u32,
    /// Row by row from the top.
    pub pixels: Vec<u8>,
}

/// Pixels between two images of a grid.
const GAP_PX: usize = 2;
/// The gray between them.
const GAP_GRAY: u8 = 128;
/// The keyword of the PNG specification for the program that wrote an image.
const PROGRAM_KEYWORD: &str = "Software";

impl ImageGrid {
    /// Lays square images out in rows; every row has the same number of them.
    #[must_use]
    pub fn grid(size_px: usize, rows: &[Vec<&[u8]>]) -> Self {
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = columns * (size_px + GAP_PX) + GAP_PX;
        let height = rows.len() * (size_px + GAP_PX) + GAP_PX;
        let mut pixels = vec![GAP_GRAY; width * height];
        for (row_idx, row) in rows.iter().enumerate() {
            for (column_idx, image) in row.iter().enumerate() {
                let (left, top) = (
                    GAP_PX + column_idx * (size_px + GAP_PX),
                    GAP_PX + row_idx * (size_px + GAP_PX),
                );
                for (y, line) in image.chunks_exact(size_px).enumerate() {
                    let start = (top + y) * width + left;
                    pixels[start..start + size_px].copy_from_slice(line);
                }
            }
        }
        Self {
            width_px: width as u32,
            height_px: height as u32,
            pixels,
        }
    }

    /// As a PNG file.
    ///
    /// # Errors
    /// Where the encoder refuses.
    pub fn to_png(&self) -> Result<Vec<u8>, TrainError> {
        self.encode(&[])
    }

    /// As a PNG file that says which program wrote it, for [`is_png_by`].
    ///
    /// # Errors
    /// Where the encoder refuses.
    pub fn to_png_by(&self, program: &str) -> Result<Vec<u8>, TrainError> {
        self.encode(&[(PROGRAM_KEYWORD, program)])
    }

    /// Images of one size as an animated PNG that says which program wrote it: one after the other, without end. Viewers that
    /// know no animations show the first.
    ///
    /// # Errors
    /// Where there is no image, they differ in size, or the encoder refuses.
    pub fn animate(frames: &[Self], frames_per_s: u16, program: &str) -> Result<Vec<u8>, TrainError> {
        let mut bytes = Vec::new();
        let encoded = Self::write_animation(&mut bytes, frames, frames_per_s, program);
        encoded.map_err(DatasetError::from)?;
        Ok(bytes)
    }

    fn write_animation(
        bytes: &mut Vec<u8>,
        frames: &[Self],
        frames_per_s: u16,
        program: &str,
    ) -> Result<(), png::EncodingError> {
        let (width_px, height_px) = frames
            .first()
            .map_or((0, 0), |first| (first.width_px, first.height_px));
        let mut encoder = png::Encoder::new(bytes, width_px, height_px);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.add_text_chunk(PROGRAM_KEYWORD.to_owned(), program.to_owned())?;
        encoder.set_animated(frames.len() as u32, 0)?;
        encoder.set_frame_delay(1, frames_per_s.max(1))?;
        let mut writer = encoder.write_header()?;
        for frame in frames {
            writer.write_image_data(&frame.pixels)?;
        }
        writer.finish()
    }

    fn encode(&self, texts: &[(&str, &str)]) -> Result<Vec<u8>, TrainError> {
        let kind = (png::ColorType::Grayscale, png::BitDepth::Eight);
        let size_px = [self.width_px, self.height_px];
        Ok(encode_png_with_text(
            size_px,
            kind,
            RowFilter::None,
            &self.pixels,
            texts,
        )?)
    }
}

/// Does a file say that this program wrote it as a PNG?
#[must_use]
pub fn is_png_by(program: &str, file: &Path) -> bool {
    let Ok(file) = File::open(file) else { return false };
    png::Decoder::new(BufReader::new(file))
        .read_info()
        .is_ok_and(|reader| {
            let mut texts = reader.info().uncompressed_latin1_text.iter();
            texts.any(|text| text.keyword == PROGRAM_KEYWORD && text.text == program)
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn an_animation_has_its_frames_and_says_who_wrote_it() {
        let frames = [0_u8, 90, 255].map(|gray| ImageGrid {
            width_px: 3,
            height_px: 2,
            pixels: vec![gray; 6],
        });
        let bytes = ImageGrid::animate(&frames, 12, "a test").unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(&bytes))
            .read_info()
            .unwrap();
        let control = reader.info().animation_control.unwrap();
        assert_eq!(
            (control.num_frames, control.num_plays),
            (3, 0),
            "three, again and again"
        );
        for frame in &frames {
            let mut pixels = vec![1; 6];
            reader.next_frame(&mut pixels).unwrap();
            assert_eq!(pixels, frame.pixels, "each frame");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        assert!(is_png_by("a test", file.path()), "its program");
        assert!(ImageGrid::animate(&[], 12, "a test").is_err(), "no frames");
    }

    #[test]
    fn images_lie_where_they_should() {
        let (black, white) = ([0_u8; 4], [255_u8; 4]);
        let image = ImageGrid::grid(2, &[vec![&black, &white], vec![&white, &black]]);
        assert_eq!(
            (image.width_px, image.height_px),
            (10, 10),
            "two images and three gaps"
        );
        let at = |x: usize, y: usize| image.pixels[y * 10 + x];
        assert_eq!(
            (at(2, 2), at(6, 3), at(3, 6), at(7, 7)),
            (0, 255, 255, 0),
            "the checkerboard"
        );
        assert_eq!((at(0, 0), at(4, 4), at(9, 9)), (128, 128, 128), "the gaps");
    }
}
