//! Grids of gray images: what was generated above what is true.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use tap_dataset::{RowFilter, encode_png_with_text};

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
    use super::*;

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
