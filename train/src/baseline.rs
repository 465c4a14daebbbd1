//! What the photograph loss is worth: the losses of predictors that look at no cloud.
//!
//! Under this loss "better than the mean image" says nothing, since a constant gray is already. The one to beat is, for
//! each view of the rig, the image that minimizes the loss over the training objects: the mean weighted like the loss.

use serde::{Deserialize, Serialize};

use crate::batch::HostBatch;
use crate::config::LossConfig;

/// Training objects that the baselines are computed from, at most.
pub const MAX_BASELINE_ROWS: usize = 2048;

/// Losses on the evaluation split of predictors that look at no cloud.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Baselines {
    /// The loss-optimal image of each view.
    pub weighted_mean_image_loss: f64,
    /// The loss-optimal gray.
    pub constant_loss: f64,
    /// The true mask, filled with the mean gray of the foreground.
    pub true_mask_gray_loss: f64,
}

/// Sums over pictures, pixel by pixel, in gray values 0 to 1.
#[derive(Debug, Clone)]
pub struct PixelSums {
    num_pixels: usize,
    /// Per view and pixel: foreground sum, foreground count, background sum, background count.
    sums: Vec<[f64; 4]>,
}

impl PixelSums {
    /// For pictures of this size.
    #[must_use]
    pub fn new(num_views: usize, size_px: usize) -> Self {
        let num_pixels = size_px * size_px;
        Self {
            num_pixels,
            sums: vec![[0.0; 4]; num_views * num_pixels],
        }
    }

    /// Adds every picture of a batch that holds all views in the rig's order.
    pub fn add(&mut self, batch: &HostBatch) {
        let object = self.sums.len();
        for (image, mask) in batch
            .images
            .chunks_exact(object)
            .zip(batch.masks.chunks_exact(object))
        {
            for ((sums, value), is_covered) in self.sums.iter_mut().zip(image).zip(mask) {
                let value = f64::from(*value) / 255.0;
                let place = if *is_covered == 0 { 2 } else { 0 };
                sums[place] += value;
                sums[place + 1] += 1.0;
            }
        }
    }

    fn totals(&self) -> [f64; 4] {
        self.sums
            .iter()
            .fold([0.0; 4], |totals, sums| [0, 1, 2, 3].map(|i| totals[i] + sums[i]))
    }
}

/// The predictors, fitted to training pictures.
#[derive(Debug, Clone)]
pub struct BaselineFit {
    loss: LossConfig,
    num_pixels: usize,
    images: Vec<f64>,
    constant: f64,
    foreground_gray: f64,
    background_gray: f64,
}

impl BaselineFit {
    /// Minimizes `loss` over the pictures that were summed.
    #[must_use]
    pub fn new(sums: &PixelSums, loss: &LossConfig) -> Self {
        let [foreground, num_foreground, background, num_background] = sums.totals();
        // Weight of one pixel: the loss averages over all foreground and all background pixels.
        let weight = [
            loss.foreground_weight / num_foreground.max(1.0),
            loss.background_weight / num_background.max(1.0),
        ];
        let best = |[foreground, num_foreground, background, num_background]: [f64; 4]| {
            let total = weight[0] * num_foreground + weight[1] * num_background;
            (weight[0] * foreground + weight[1] * background) / total.max(f64::MIN_POSITIVE)
        };
        Self {
            loss: loss.clone(),
            num_pixels: sums.num_pixels,
            images: sums.sums.iter().map(|sums| best(*sums)).collect(),
            constant: best(sums.totals()),
            foreground_gray: foreground / num_foreground.max(1.0),
            background_gray: background / num_background.max(1.0),
        }
    }

    /// The loss-optimal image of a view.
    #[must_use]
    pub fn image(&self, view: usize) -> &[f64] {
        &self.images[view * self.num_pixels..(view + 1) * self.num_pixels]
    }

    /// Losses over batches that hold all views in the rig's order.
    ///
    /// # Errors
    /// The first error among the batches.
    pub fn evaluate<E>(&self, batches: impl Iterator<Item = Result<HostBatch, E>>) -> Result<Baselines, E> {
        // Squared error of foreground and background, for each of three predictors.
        let (mut errors, mut counts) = ([[0.0; 2]; 3], [0.0; 2]);
        for batch in batches {
            let batch = batch?;
            let object = self.images.len();
            for (image, mask) in batch
                .images
                .chunks_exact(object)
                .zip(batch.masks.chunks_exact(object))
            {
                for ((best, value), is_covered) in self.images.iter().zip(image).zip(mask) {
                    let value = f64::from(*value) / 255.0;
                    let (place, gray) = if *is_covered == 0 {
                        (1, self.background_gray)
                    } else {
                        (0, self.foreground_gray)
                    };
                    counts[place] += 1.0;
                    for (errors, predicted) in errors.iter_mut().zip([*best, self.constant, gray]) {
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

    fn batch() -> HostBatch {
        // Two objects, one view of 2 x 2 pixels each.
        HostBatch {
            images: vec![0, 102, 255, 255, 51, 255, 255, 255],
            masks: vec![1, 1, 0, 0, 1, 0, 0, 0],
            num_views: 1,
            size_px: 2,
            ids: vec![String::from("a/1"), String::from("a/2")],
            ..HostBatch::default()
        }
    }

    #[test]
    fn predictors_are_what_they_say_and_none_nearby_is_better() {
        let loss = LossConfig::default();
        let mut sums = PixelSums::new(1, 2);
        sums.add(&batch());
        let fit = BaselineFit::new(&sums, &loss);
        assert!(
            (fit.foreground_gray - 0.2).abs() < 1e-12 && (fit.background_gray - 1.0).abs() < 1e-12,
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
                other.constant += change;
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
