//! Supersampled views: drawn with several pixels in the place of each.

use glam::Vec3;

use super::{ColorImage, Mask, View};
use crate::lighting::BRIGHTEST_COVERED;

impl View {
    /// The view with one pixel for each square of `factor` x `factor` pixels: the mean of their colors, covered if any
    /// of them is. The other channels are those of one pixel of the square, a covered one as near to its middle as there
    /// is.
    pub(crate) fn downsample(self, factor: u32) -> Self {
        if factor == 1 {
            return self;
        }
        let squares = Squares {
            factor: factor as usize,
            size_px: (self.size_px / factor) as usize,
        };
        let covered: Option<Vec<bool>> = self.coverage();
        let middles = covered.as_deref().map(|covered| squares.middles(covered));
        let middles = middles.as_deref();
        Self {
            size_px: self.size_px / factor,
            color: self.color.map(|color| squares.mean_color(&color)),
            mask: self.mask.map(|mask| squares.mask(&mask)),
            depth: self.depth.map(|depth| pick(&depth, middles)),
            normal: self.normal.map(|normal| pick(&normal, middles)),
            albedo: self.albedo.map(|albedo| pick(&albedo, middles)),
            part: self.part.map(|part| pick(&part, middles)),
            material: self.material.map(|material| pick(&material, middles)),
            ..self
        }
    }

    /// The pixels that are covered, by any channel that tells.
    fn coverage(&self) -> Option<Vec<bool>> {
        let of_labels = |labels: &Vec<u16>| labels.iter().map(|label| *label != super::NO_LABEL).collect();
        let of_mask = self.mask.as_ref().map(|mask| mask.covered().to_vec());
        let of_depth = || {
            Some(
                self.depth
                    .as_ref()?
                    .iter()
                    .map(|depth| depth.is_finite())
                    .collect(),
            )
        };
        let of_normal = || {
            Some(
                self.normal
                    .as_ref()?
                    .iter()
                    .map(|normal| Vec3::from(*normal) != Vec3::ZERO)
                    .collect(),
            )
        };
        let of_albedo = || {
            Some(
                self.albedo
                    .as_ref()?
                    .iter()
                    .map(|albedo| *albedo != [0; 3])
                    .collect(),
            )
        };
        of_mask
            .or_else(of_depth)
            .or_else(of_normal)
            .or_else(|| self.part.as_ref().map(of_labels))
            .or_else(|| self.material.as_ref().map(of_labels))
            .or_else(of_albedo)
    }
}

fn pick<T: Copy>(pixels: &[T], middles: Option<&[usize]>) -> Vec<T> {
    let middles = middles.expect("whatever has a middle tells what is covered");
    middles.iter().map(|middle| pixels[*middle]).collect()
}

/// The squares of a view, row by row.
struct Squares {
    factor: usize,
    /// Squares per row.
    size_px: usize,
}

impl Squares {
    /// The pixels of each square, row by row.
    fn pixels(&self) -> impl Iterator<Item = impl Iterator<Item = usize> + Clone> {
        let &Self { factor, size_px } = self;
        (0..size_px * size_px).map(move |square| {
            let first = (square / size_px * size_px * factor + square % size_px) * factor;
            (0..factor * factor).map(move |pixel| first + pixel / factor * size_px * factor + pixel % factor)
        })
    }

    /// The pixel of each square that stands for it.
    fn middles(&self, covered: &[bool]) -> Vec<usize> {
        let factor = self.factor;
        let from_middle = |pixel: usize| {
            let off = |at: usize| (2 * at + 1).abs_diff(factor);
            off(pixel / factor).pow(2) + off(pixel % factor).pow(2)
        };
        let middles = self.pixels().map(|pixels| {
            let ranked = (0..)
                .zip(pixels)
                .map(|(at, pixel)| (!covered[pixel], from_middle(at), pixel));
            ranked.min().expect("a square has a pixel").2
        });
        middles.collect()
    }

    fn mask(&self, mask: &Mask) -> Mask {
        let covered = self
            .pixels()
            .map(|mut pixels| pixels.any(|pixel| mask.covered()[pixel]));
        Mask {
            size_px: self.size_px as u32,
            covered: covered.collect(),
        }
    }

    fn mean_color(&self, color: &ColorImage) -> ColorImage {
        match color {
            ColorImage::Gray(values) => ColorImage::Gray(self.means(|pixel| values[pixel])),
            ColorImage::Rgb(colors) => {
                let [red, green, blue] = [0, 1, 2].map(|part| self.means(|pixel| colors[pixel][part]));
                let colors = red.into_iter().zip(green).zip(blue);
                ColorImage::Rgb(colors.map(|((red, green), blue)| [red, green, blue]).collect())
            }
        }
    }

    /// A square with a pixel below white is covered, or its background is not white: its mean is not white either.
    fn means(&self, value: impl Fn(usize) -> u8) -> Vec<u8> {
        let num_pixels = (self.factor * self.factor) as u32;
        let mean = |pixels: &mut dyn Iterator<Item = usize>| {
            let sum: u32 = pixels.map(|pixel| u32::from(value(pixel))).sum();
            let mean = (sum + num_pixels / 2) / num_pixels;
            if sum == num_pixels * u32::from(u8::MAX) {
                u8::MAX
            } else {
                (mean as u8).min(BRIGHTEST_COVERED)
            }
        };
        self.pixels().map(|mut pixels| mean(&mut pixels)).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn squares_are_averaged_and_keep_one_surface() {
        let squares = Squares {
            factor: 2,
            size_px: 2,
        };
        let pixels: Vec<Vec<usize>> = squares.pixels().map(Iterator::collect).collect();
        assert_eq!(
            pixels,
            [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
        );
        let mut values = [255; 16];
        values[5] = 254;
        values[2] = 0;
        values[3] = 1;
        assert_eq!(squares.means(|pixel| values[pixel]), [254, 128, 255, 255]);
        let covered: Vec<bool> = values.iter().map(|value| *value != 255).collect();
        let mask = squares.mask(&Mask::try_new(4, covered.clone()).unwrap());
        assert_eq!(mask.covered(), [true, true, false, false]);
        assert_eq!(squares.middles(&covered), [5, 2, 8, 10]);
        let fine = Squares {
            factor: 4,
            size_px: 1,
        };
        assert_eq!(fine.middles(&[true; 16]), [5], "of the four in the middle");
    }
}
