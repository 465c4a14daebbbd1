//! The losses: images against images (`docs/method.md`, "Photograph loss"), logits against labels
//! (`docs/method.md`, "Classification loss").

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Reduction, Tensor};

/// How far a pixel is from the truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PixelDistance {
    /// The square of the difference, as in the paper.
    #[default]
    Squared,
    /// Its absolute value.
    Absolute,
}

/// What the photograph loss weighs, and how.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PhotographWeights {
    /// Weight of covered pixels.
    pub foreground: f64,
    /// Weight of the other pixels.
    pub background: f64,
    /// How far a pixel is from the truth.
    pub distance: PixelDistance,
}

/// The loss of generated images and its two parts, each a scalar tensor.
#[derive(Debug)]
pub struct PhotographLoss {
    /// `fg_weight` · foreground + `bg_weight` · background.
    pub total: Tensor,
    /// Mean squared error over covered pixels, all images of the batch together.
    pub foreground: Tensor,
    /// Mean squared error over the other pixels.
    pub background: Tensor,
}

/// Weighted mean squared error; foreground and background are each averaged over the whole batch, not by image.
///
/// A part without pixels counts as zero (in the released code the loss is then not a number).
///
/// # Shapes
/// - `pred`: ...,C,H,W; `target`: ...,C,H,W or ...,1,H,W
/// - `mask`: ...,1,H,W of `bool`, true where the object covers the pixel
#[must_use]
pub fn photograph_loss(
    pred: &Tensor,
    target: &Tensor,
    mask: &Tensor,
    fg_weight: f64,
    bg_weight: f64,
) -> PhotographLoss {
    let weights = PhotographWeights {
        foreground: fg_weight,
        background: bg_weight,
        distance: PixelDistance::Squared,
    };
    let counts = pixel_counts(mask, (pred.numel() / mask.numel().max(1)) as i64);
    photograph_loss_of_micro_batch(pred, target, mask, counts, weights)
}

/// What some images of a batch add to its loss: their sums over the `counts` of the whole batch, so that the losses of
/// micro-batches add up to that of the batch.
///
/// # Shapes
/// - as [`photograph_loss`]
#[must_use]
pub fn photograph_loss_of_micro_batch(
    pred: &Tensor,
    target: &Tensor,
    mask: &Tensor,
    counts: [f64; 2],
    weights: PhotographWeights,
) -> PhotographLoss {
    let [foreground, background] = pixel_sums(pred, target, mask, weights.distance);
    let foreground = foreground / counts[0].max(1.0);
    let background = background / counts[1].max(1.0);
    PhotographLoss {
        total: &foreground * weights.foreground + &background * weights.background,
        foreground,
        background,
    }
}

/// The distances of all values of covered pixels, and of all others, summed: two scalars.
///
/// # Shapes
/// - as [`photograph_loss`]
pub fn pixel_sums(pred: &Tensor, target: &Tensor, mask: &Tensor, distance: PixelDistance) -> [Tensor; 2] {
    let difference = pred - target;
    let distance = match distance {
        // Not `square`, whose backward pass takes a power.
        PixelDistance::Squared => &difference * &difference,
        PixelDistance::Absolute => difference.abs(),
    };
    [mask.shallow_clone(), mask.logical_not()]
        .map(|mask| (&distance * mask.to_kind(Kind::Float)).sum(Kind::Float))
}

/// How many values of `num_channels` channels are covered, and how many are not.
///
/// # Shapes
/// - `mask`: as [`photograph_loss`]
#[must_use]
pub fn pixel_counts(mask: &Tensor, num_channels: i64) -> [f64; 2] {
    // Exact in f64; in f32 they would not be beyond 2^24.
    let num_covered = mask.sum(Kind::Double).double_value(&[]);
    [num_covered, mask.numel() as f64 - num_covered].map(|count| count * num_channels as f64)
}

/// Cross entropy with 1 - ε on the label and ε / (C - 1) on every other class, as the released code smooths it.
/// (PyTorch's own smoothing spreads ε over all C classes.)
///
/// # Shapes
/// - `logits`: B,C; `labels`: B of `i64`
/// - returns a scalar
pub fn smooth_cross_entropy(logits: &Tensor, labels: &Tensor, epsilon: f64) -> Tensor {
    smooth_cross_entropy_sum(logits, labels, epsilon, &LabelWeights::default()) / logits.size()[0] as f64
}

/// The same, summed over the samples, each times the weight of its label, and not their mean.
pub fn smooth_cross_entropy_sum(
    logits: &Tensor,
    labels: &Tensor,
    epsilon: f64,
    weights: &LabelWeights,
) -> Tensor {
    let num_classes = logits.size()[1];
    let log_probability = logits.log_softmax(-1, Kind::Float);
    let of_label = log_probability
        .gather(1, &labels.unsqueeze(1), false)
        .squeeze_dim(1);
    let of_all = log_probability.sum_dim_intlist(-1, false, Kind::Float);
    let other = if num_classes > 1 {
        epsilon / (num_classes - 1) as f64
    } else {
        0.0
    };
    let expected = &of_label * (1.0 - epsilon - other) + of_all * other;
    -weights.apply(expected, labels).sum(Kind::Float)
}

/// What samples or points weigh in a loss, by their labels. The loss is divided by the sum of the weights, so only their
/// ratios count.
#[derive(Debug, Default)]
pub struct LabelWeights(Option<Tensor>);

impl LabelWeights {
    /// A weight above 0 for each label; all the same where there are none.
    #[must_use]
    pub fn new(weights: &[f64], device: Device) -> Self {
        // With a smallest weight of 1 the sum over a batch, which the loss is divided by, is at least 1.
        let smallest = weights.iter().copied().fold(f64::INFINITY, f64::min);
        let scaled: Vec<f32> = weights.iter().map(|weight| (weight / smallest) as f32).collect();
        Self((!scaled.is_empty()).then(|| Tensor::from_slice(&scaled).to_device(device)))
    }

    /// The sum of the weights of these labels.
    #[must_use]
    pub fn sum(&self, labels: &Tensor) -> f64 {
        match self.of(labels) {
            Some(weights) => weights.sum(Kind::Double).double_value(&[]),
            None => labels.numel() as f64,
        }
    }

    /// `values`, one for each label, times their weights.
    fn apply(&self, values: Tensor, labels: &Tensor) -> Tensor {
        match self.of(labels) {
            Some(weights) => values * weights,
            None => values,
        }
    }

    /// The weight of each label, in the shape of `labels`.
    fn of(&self, labels: &Tensor) -> Option<Tensor> {
        let weights = self.0.as_ref()?;
        let flat = weights.index_select(0, &labels.reshape([-1]));
        Some(flat.view(labels.size().as_slice()))
    }
}

/// Shape of the focal loss, as published.
const FOCAL_ALPHA: f64 = 0.25;
/// Weight of the polynomial term.
const POLY_EPSILON: f64 = 1.0;

/// Poly-1 focal loss of part labels (`docs/method.md`, "Part segmentation loss"), the mean over all points and parts.
///
/// Parity: the released code gives it the logarithms of probabilities as if they were logits of one sigmoid a part
/// (`docs/method.md`, "Log-probabilities as logits").
///
/// # Shapes
/// - `log_probability`: ...,P; `labels`: ... of `i64`
/// - returns a scalar
pub fn poly1_focal(log_probability: &Tensor, labels: &Tensor) -> Tensor {
    poly1_focal_sum(log_probability, labels, &LabelWeights::default()) / log_probability.numel() as f64
}

/// The same, summed over the points and parts, each point times the weight of its label, and not their mean.
pub fn poly1_focal_sum(log_probability: &Tensor, labels: &Tensor, weights: &LabelWeights) -> Tensor {
    let num_parts = log_probability.size()[log_probability.dim() - 1];
    let target = labels.one_hot(num_parts).to_kind(Kind::Float);
    let probability = log_probability.sigmoid();
    let cross_entropy =
        log_probability.binary_cross_entropy_with_logits::<Tensor>(&target, None, None, Reduction::None);
    // 1 - pt, where pt is what the true answer, yes or no, was given.
    let missed = (&target - probability).abs();
    let alpha = &target * (2.0 * FOCAL_ALPHA - 1.0) + (1.0 - FOCAL_ALPHA);
    let square = missed.square();
    let focal = alpha * &square * cross_entropy;
    let loss = focal + square * missed * POLY_EPSILON;
    match weights.of(labels) {
        Some(weights) => (loss * weights.unsqueeze(-1)).sum(Kind::Float),
        None => loss.sum(Kind::Float),
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    fn value(tensor: &Tensor) -> f64 {
        tensor.double_value(&[])
    }

    #[test]
    fn parts_are_means_over_the_whole_batch() {
        // Two images of two pixels; the first has one covered pixel, the second two.
        let pred = Tensor::from_slice(&[0.5f32, 1.0, 0.0, 0.0]).view([2, 1, 1, 2]);
        let target = Tensor::from_slice(&[0.0f32, 0.0, 0.0, 1.0]).view([2, 1, 1, 2]);
        let mask = Tensor::from_slice(&[true, false, true, true]).view([2, 1, 1, 2]);
        let loss = photograph_loss(&pred, &target, &mask, 20.0, 1.0);
        assert!(
            (value(&loss.foreground) - 1.25 / 3.0).abs() < 1e-6,
            "three covered pixels share 0.25 + 0 + 1"
        );
        assert!(
            (value(&loss.background) - 1.0).abs() < 1e-6,
            "one pixel of background"
        );
        assert!(
            (value(&loss.total) - (20.0 * 1.25 / 3.0 + 1.0)).abs() < 1e-5,
            "weighted"
        );
    }

    #[test]
    fn parts_of_a_batch_add_up_to_its_loss() {
        tch::manual_seed(1);
        let (pred, target) = (
            Tensor::rand([6, 3, 4, 4], (Kind::Float, Device::Cpu)),
            Tensor::rand([6, 1, 4, 4], (Kind::Float, Device::Cpu)),
        );
        let mask = Tensor::rand([6, 1, 4, 4], (Kind::Float, Device::Cpu)).lt(0.3);
        for distance in [PixelDistance::Squared, PixelDistance::Absolute] {
            let weights = PhotographWeights {
                foreground: 20.0,
                background: 1.0,
                distance,
            };
            let counts = pixel_counts(&mask, 3);
            let part = |start, length| {
                let of = |x: &Tensor| x.narrow(0, start, length);
                value(
                    &photograph_loss_of_micro_batch(&of(&pred), &of(&target), &of(&mask), counts, weights)
                        .total,
                )
            };
            let (whole, parts) = (part(0, 6), part(0, 1) + part(1, 3) + part(4, 2));
            assert!((whole - parts).abs() < 1e-5, "{distance:?}: {whole} and {parts}");
        }
    }

    #[test]
    fn an_empty_part_is_finite_in_value_and_gradient() {
        for covered in [false, true] {
            let pred = Tensor::full([1, 3, 2, 2], 0.5, (Kind::Float, Device::Cpu)).set_requires_grad(true);
            let target = Tensor::zeros([1, 1, 2, 2], (Kind::Float, Device::Cpu));
            let mask = Tensor::full([1, 1, 2, 2], i64::from(covered), (Kind::Bool, Device::Cpu));
            let loss = photograph_loss(&pred, &target, &mask, 20.0, 1.0);
            loss.total.backward();
            let expected = if covered { 5.0 } else { 0.25 };
            assert!(
                (value(&loss.total) - expected).abs() < 1e-6,
                "only one part counts"
            );
            assert!(
                pred.grad().isfinite().all().int64_value(&[]) == 1,
                "the gradient is finite"
            );
        }
    }

    #[test]
    fn smoothing_leaves_the_label_its_whole_share() {
        let logits = Tensor::from_slice(&[2.0f32, 0.0, -1.0, 0.5, 0.5, 0.5]).view([2, 3]);
        let labels = Tensor::from_slice(&[0i64, 2]);
        let target = Tensor::from_slice(&[0.7f32, 0.15, 0.15, 0.15, 0.15, 0.7]).view([2, 3]);
        let expected = -(target * logits.log_softmax(-1, Kind::Float)).sum(Kind::Float) / 2.0;
        let loss = smooth_cross_entropy(&logits, &labels, 0.3);
        assert!(
            (value(&loss) - value(&expected)).abs() < 1e-6,
            "0.7 on the label, 0.15 on the others"
        );
        let plain = logits.cross_entropy_for_logits(&labels);
        assert!(
            (value(&smooth_cross_entropy(&logits, &labels, 0.0)) - value(&plain)).abs() < 1e-6,
            "none is plain"
        );
    }

    #[test]
    fn weights_of_labels_give_the_weighted_mean_of_torch() {
        let logits = Tensor::from_slice(&[2.0f32, 0.0, -1.0, 0.5, 0.5, 0.5, 0.1, 0.2, 3.0]).view([3, 3]);
        let labels = Tensor::from_slice(&[0i64, 2, 1]);
        let given = [0.5, 4.0, 2.0];
        let weights = LabelWeights::new(&given, Device::Cpu);
        let mean = smooth_cross_entropy_sum(&logits, &labels, 0.0, &weights) / weights.sum(&labels).max(1.0);
        let torch = logits.cross_entropy_loss(
            &labels,
            Some(&Tensor::from_slice(&given.map(|weight| weight as f32))),
            Reduction::Mean,
            -100,
            0.0,
        );
        assert!(
            (value(&mean) - value(&torch)).abs() < 1e-6,
            "{mean:?} and {torch:?}"
        );

        let log_probability = logits.log_softmax(-1, Kind::Float);
        let focal = |weights: &LabelWeights| {
            let sum = value(&poly1_focal_sum(&log_probability, &labels, weights));
            sum / (weights.sum(&labels) * 3.0)
        };
        let even = focal(&LabelWeights::new(&[7.0, 7.0, 7.0], Device::Cpu));
        assert!(
            (even - focal(&LabelWeights::default())).abs() < 1e-6,
            "all the same"
        );
        let first_alone = value(&poly1_focal(
            &log_probability.narrow(0, 0, 1),
            &labels.narrow(0, 0, 1),
        ));
        let nearly_alone = focal(&LabelWeights::new(&[1.0, 1e-6, 1e-6], Device::Cpu));
        assert!(
            (nearly_alone - first_alone).abs() < 1e-4,
            "{nearly_alone} and {first_alone}"
        );
    }
}
