//! Baselines of the photograph loss: predictors that do not see the point cloud.
//!
//! Under this loss "better than the mean image" says nothing, since a constant gray is already. The one to beat is, for
//! each view of the rig, the image that minimizes the loss over the training objects: the mean weighted like the loss.

use serde::{Deserialize, Serialize};

use crate::config::LossConfig;
use crate::data::batch::CpuBatch;

/// Losses on the evaluation split of predictors that do not see the point cloud.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Baselines {
    /// The loss-optimal image of each view.
    #[serde(with = "crate::number")]
    pub weighted_mean_image_loss: f64,
    /// The loss-optimal gray, or color.
    #[serde(with = "crate::number")]
    pub constant_loss: f64,
    /// The true mask, filled with the mean gray, or color, of the foreground.
    #[serde(with = "crate::number")]
    pub true_mask_gray_loss: f64,
}

/// Sums over images, pixel by pixel, in values 0 to 1.
#[derive(Debug, Clone)]
pub struct PixelSums {
    num_channels: usize,
    num_pixels: usize,
    /// Per view, channel and pixel: foreground sum, foreground count, background sum, background count.
    sums: Vec<[f64; 4]>,
}

impl PixelSums {
    /// For images of this size.
    #[must_use]
    pub fn new(num_views: usize, num_channels: usize, size_px: usize) -> Self {
        let num_pixels = size_px * size_px;
        Self {
            num_channels,
            num_pixels,
            sums: vec![[0.0; 4]; num_views * num_channels * num_pixels],
        }
    }

    /// Adds every image of a batch that holds all views in the rig's order.
    pub fn add(&mut self, batch: &CpuBatch) {
        for (image, covered) in objects(batch) {
            for ((sums, value), is_covered) in self.sums.iter_mut().zip(image).zip(covered) {
                let value = f64::from(*value) / 255.0;
                let place = if is_covered { 0 } else { 2 };
                sums[place] += value;
                sums[place + 1] += 1.0;
            }
        }
    }

    /// Over all views, of each channel.
    fn totals(&self) -> Vec<[f64; 4]> {
        let mut totals = vec![[0.0; 4]; self.num_channels];
        for (plane_idx, plane) in self.sums.chunks_exact(self.num_pixels).enumerate() {
            let totals = &mut totals[plane_idx % self.num_channels];
            for sums in plane {
                *totals = [0, 1, 2, 3].map(|i| totals[i] + sums[i]);
            }
        }
        totals
    }
}

/// Of each object the bytes of its images, and whether each of them lies on the object.
fn objects(batch: &CpuBatch) -> impl Iterator<Item = (&[u8], impl Iterator<Item = bool>)> {
    let (num_channels, num_pixels) = (batch.num_channels(), batch.size_px * batch.size_px);
    let masks = batch.masks.chunks_exact(batch.num_views * num_pixels);
    let images = batch
        .images
        .chunks_exact(batch.num_views * num_channels * num_pixels);
    images.zip(masks.map(move |mask| {
        mask.chunks_exact(num_pixels)
            .flat_map(move |view| std::iter::repeat_n(view, num_channels))
            .flatten()
            .map(|&byte| byte != 0)
    }))
}

/// The predictors, fitted to training images.
#[derive(Debug, Clone)]
pub struct BaselineFit {
    loss: LossConfig,
    num_pixels: usize,
    images: Vec<f64>,
    /// The rest has one a channel.
    constant: Vec<f64>,
    foreground: Vec<f64>,
    background: Vec<f64>,
}

impl BaselineFit {
    /// Minimizes `loss` over the images that were summed.
    #[must_use]
    pub fn new(sums: &PixelSums, loss: &LossConfig) -> Self {
        let totals = sums.totals();
        // Weight of one pixel: the loss averages over all foreground and all background pixels, of which every channel
        // has as many.
        let count = |place: usize| totals.first().map_or(1.0, |totals| totals[place].max(1.0));
        let weight = [
            loss.foreground_weight / count(1),
            loss.background_weight / count(3),
        ];
        let best = |[foreground, num_foreground, background, num_background]: [f64; 4]| {
            let total = weight[0] * num_foreground + weight[1] * num_background;
            (weight[0] * foreground + weight[1] * background) / total.max(f64::MIN_POSITIVE)
        };
        Self {
            loss: loss.clone(),
            num_pixels: sums.num_pixels,
            images: sums.sums.iter().map(|sums| best(*sums)).collect(),
            constant: totals.iter().copied().map(best).collect(),
            foreground: totals.iter().map(|totals| totals[0] / count(1)).collect(),
            background: totals.iter().map(|totals| totals[2] / count(3)).collect(),
        }
    }

    /// The loss-optimal image of a view, one channel after the other.
    #[must_use]
    pub fn image(&self, view: usize) -> &[f64] {
        let length = self.constant.len() * self.num_pixels;
        &self.images[view * length..(view + 1) * length]
    }

    /// Losses over batches that hold all views in the rig's order.
    ///
    /// # Errors
    /// The first error among the batches.
    pub fn evaluate<E>(&self, batches: impl Iterator<Item = Result<CpuBatch, E>>) -> Result<Baselines, E> {
        // Squared error of foreground and background, for each of three predictors.
        let (mut errors, mut counts) = ([[0.0; 2]; 3], [0.0; 2]);
        for batch in batches {
            let batch = batch?;
            for (image, covered) in objects(&batch) {
                let bytes = self.images.iter().zip(image).zip(covered).enumerate();
                for (byte_idx, ((best, value), is_covered)) in bytes {
                    let value = f64::from(*value) / 255.0;
                    let channel = byte_idx / self.num_pixels % self.constant.len();
                    let (place, flat) = if is_covered {
                        (0, self.foreground[channel])
                    } else {
                        (1, self.background[channel])
                    };
                    counts[place] += 1.0;
                    for (errors, predicted) in errors.iter_mut().zip([*best, self.constant[channel], flat]) {
                        errors[place] += (predicted - value).powi(2);
                    }
                }
            }
        }
        let [weighted_mean_image_loss, constant_loss, true_mask_gray_loss] =
            errors.map(|[foreground, background]: [f64; 2]| {
                self.loss.foreground_weight * foreground / f64::max(counts[0], 1.0)
                    + self.loss.background_weight * background / f64::max(counts[1], 1.0)
            });
        Ok(Baselines {
            weighted_mean_image_loss,
            constant_loss,
            true_mask_gray_loss,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use std::convert::Infallible;

    fn batch() -> CpuBatch {
        // Two objects, one view of 2 x 2 pixels each.
        CpuBatch {
            images: vec![0, 102, 255, 255, 51, 255, 255, 255],
            masks: vec![1, 1, 0, 0, 1, 0, 0, 0],
            num_views: 1,
            size_px: 2,
            ids: vec![String::from("a/1"), String::from("a/2")],
            ..CpuBatch::default()
        }
    }

    #[test]
    fn channels_are_told_apart_and_of_one_weight() {
        // Each object's one image, as it is, all black, and turned round.
        let gray = batch();
        let images = gray.images.chunks_exact(4).flat_map(|image| {
            let turned = image.iter().map(|byte| 255 - byte);
            image
                .iter()
                .copied()
                .chain([0; 4])
                .chain(turned)
                .collect::<Vec<u8>>()
        });
        let color = CpuBatch {
            images: images.collect(),
            is_color: true,
            ..batch()
        };
        let fit = |batch: &CpuBatch| {
            let mut sums = PixelSums::new(1, batch.num_channels(), 2);
            sums.add(batch);
            BaselineFit::new(&sums, &LossConfig::default())
        };
        let (of_gray, of_color) = (fit(&gray), fit(&color));
        let near = |x: f64, y: f64| (x - y).abs() < 1e-12;
        for (i, &best) in of_gray.image(0).iter().enumerate() {
            let image = of_color.image(0);
            assert!(
                near(image[i], best) && near(image[4 + i], 0.0) && near(image[8 + i], 1.0 - best),
                "pixel {i} of three channels: {image:?}"
            );
        }
        let evaluate = |fit: &BaselineFit, batch: CpuBatch| {
            fit.evaluate([Ok::<_, Infallible>(batch)].into_iter()).unwrap()
        };
        let (of_gray, of_color) = (evaluate(&of_gray, gray), evaluate(&of_color, color));
        // Two channels are as hard as the gray one, and the black one is easy.
        for (color, gray) in [
            (of_color.constant_loss, of_gray.constant_loss),
            (of_color.true_mask_gray_loss, of_gray.true_mask_gray_loss),
            (
                of_color.weighted_mean_image_loss,
                of_gray.weighted_mean_image_loss,
            ),
        ] {
            assert!(near(color, gray * 2.0 / 3.0), "{color} and {gray}");
        }
    }

    #[test]
    fn predictors_are_what_they_say_and_none_nearby_is_better() {
        let loss = LossConfig::default();
        let mut sums = PixelSums::new(1, 1, 2);
        sums.add(&batch());
        let fit = BaselineFit::new(&sums, &loss);
        assert!(
            (fit.foreground[0] - 0.2).abs() < 1e-12 && (fit.background[0] - 1.0).abs() < 1e-12,
            "means"
        );
        assert!(
            (fit.image(0)[0] - 0.1).abs() < 1e-12,
            "both cover the first pixel"
        );
        // Second pixel: 0.4 with weight 20/3 and 1.0 with weight 1/5.
        assert!(
            (fit.image(0)[1] - (20.0 / 3.0 * 0.4 + 0.2) / (20.0 / 3.0 + 0.2)).abs() < 1e-12,
            "weighted"
        );
        let evaluate = |fit: &BaselineFit| fit.evaluate([Ok::<_, Infallible>(batch())].into_iter()).unwrap();
        let best = evaluate(&fit);
        // 20 * (0.04 + 0.04 + 0) / 3
        assert!(
            (best.true_mask_gray_loss - 20.0 * 0.08 / 3.0).abs() < 1e-9,
            "{best:?}"
        );
        for pixel in 0..4 {
            for change in [-0.01, 0.01] {
                let mut other = fit.clone();
                other.images[pixel] += change;
                other.constant[0] += change;
                let other = evaluate(&other);
                assert!(
                    other.weighted_mean_image_loss > best.weighted_mean_image_loss,
                    "pixel {pixel} is optimal"
                );
                assert!(
                    other.constant_loss > best.constant_loss,
                    "the constant is optimal"
                );
            }
        }
    }
}
