//! Losses as sums of named terms, and what the training loop needs of a method or task.
//!
//! A loss is a weighted sum of named terms. A term is a sum over what a micro-batch holds, and is divided by a count of the
//! whole batch, its normalizer; counts add up over micro-batches, so the losses of micro-batches add up to that of the batch.

use std::fmt::Debug;

use tch::Tensor;

use crate::data::batch::Batch;
use crate::error::TrainError;
use crate::model::Mode;
use crate::run::event::Record;
use crate::run::image_grid::ImageGrid;
use crate::scalar::Sums;

/// A part of a loss.
#[derive(Debug)]
pub struct Term {
    /// Its name in records (`loss_NAME`) and in the normalizer.
    pub name: String,
    /// Its weight in the loss.
    pub weight: f64,
    /// The sum over the micro-batch, a scalar with a gradient.
    pub sum: Tensor,
}

impl Term {
    /// A term with its weight.
    #[must_use]
    pub fn new(name: &str, weight: f64, sum: Tensor) -> Self {
        Self {
            name: name.to_owned(),
            weight,
            sum,
        }
    }
}

/// A loss of batches.
pub trait Loss: Debug {
    /// Adds to a batch what the loss needs and the loader does not give. Called once for each batch, without gradients, before
    /// it is split into micro-batches.
    ///
    /// # Errors
    /// Where that cannot be had.
    fn prepare(&self, _batch: &mut Batch) -> Result<(), TrainError> {
        Ok(())
    }

    /// The contribution of a batch or micro-batch to the normalizer: for each term, under its name, a count. Counts below 1
    /// are taken as 1.
    fn normalizer(&self, batch: &Batch) -> Sums;

    /// The terms of a batch or micro-batch.
    fn terms(&self, batch: &Batch, mode: Mode) -> Vec<Term>;
}

/// The loss that the training loop minimizes, and the evaluations that it calls.
pub trait Objective {
    /// The loss.
    fn loss(&self) -> &dyn Loss;

    /// Scores the evaluation split after `step` steps.
    ///
    /// # Errors
    /// Where the data cannot be read, or answers are not finite.
    fn evaluate(&mut self, step: u64) -> Result<Record, TrainError>;

    /// Images for the log, if there are any.
    ///
    /// # Errors
    /// Where the data cannot be read.
    fn images(&mut self) -> Result<Option<ImageGrid>, TrainError> {
        Ok(None)
    }
}

/// The contribution of a micro-batch to the mean of a term.
#[derive(Debug)]
pub(super) struct Weighed {
    pub(super) name: String,
    pub(super) weight: f64,
    pub(super) mean: Tensor,
}

/// The contribution of a micro-batch to the loss, a scalar with a gradient, and to the mean of each term.
pub(super) fn weigh(terms: Vec<Term>, normalizer: &Sums) -> Option<(Tensor, Vec<Weighed>)> {
    let mut total: Option<Tensor> = None;
    let mut weighed = Vec::new();
    for Term { name, weight, sum } in terms {
        let mean = sum / normalizer.at(&name, 0).max(1.0);
        let part = &mean * weight;
        total = Some(match total {
            Some(total) => total + part,
            None => part,
        });
        weighed.push(Weighed { name, weight, mean });
    }
    Some((total?, weighed))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use tch::{Device, Kind};

    use super::*;

    /// The square of every x, and the absolute value of those above 0.
    #[derive(Debug)]
    struct Squares;

    impl Loss for Squares {
        fn normalizer(&self, batch: &Batch) -> Sums {
            let positive = batch.cloud.xyz.gt(0.0).sum(Kind::Double).double_value(&[]);
            Sums::default()
                .with("square", &[batch.cloud.xyz.numel() as f64])
                .with("positive", &[positive])
        }

        fn terms(&self, batch: &Batch, _mode: Mode) -> Vec<Term> {
            let xyz = &batch.cloud.xyz;
            vec![
                Term::new("square", 3.0, xyz.square().sum(Kind::Float)),
                Term::new("positive", 0.5, xyz.relu().sum(Kind::Float)),
            ]
        }
    }

    #[test]
    fn micro_batches_add_up_to_the_loss_and_the_gradient_of_the_batch() {
        tch::manual_seed(2);
        let xyz = Tensor::randn([5, 4, 3], (Kind::Float, Device::Cpu));
        let run = |sizes: &[i64]| {
            let xyz = xyz.copy().set_requires_grad(true);
            let batch = Batch::of_points(xyz.shallow_clone(), vec![0; 5]);
            let starts = sizes.iter().scan(0, |start, size| {
                *start += size;
                Some(*start - size)
            });
            let parts: Vec<Batch> = starts
                .zip(sizes)
                .map(|(start, size)| batch.micro_batch(start as usize, *size as usize))
                .collect();
            let mut normalizer = Sums::default();
            for part in &parts {
                normalizer.merge(&Squares.normalizer(part));
            }
            let (mut loss, mut means) = (0.0, [0.0; 2]);
            for part in &parts {
                let (total, of_part) = weigh(Squares.terms(part, Mode::TRAIN), &normalizer).unwrap();
                total.backward();
                loss += total.double_value(&[]);
                for (mean, of_part) in means.iter_mut().zip(of_part) {
                    *mean += of_part.mean.double_value(&[]);
                }
            }
            (loss, means, xyz.grad())
        };
        let (whole, whole_means, whole_gradient) = run(&[5]);
        let expected = 3.0 * whole_means[0] + 0.5 * whole_means[1];
        assert!(
            (whole - expected).abs() < 1e-5,
            "weighted: {whole} and {expected}"
        );
        let (sum, means, gradient) = run(&[1, 3, 1]);
        assert!((whole - sum).abs() < 1e-5, "{whole} and {sum}");
        assert!(
            (whole_means[1] - means[1]).abs() < 1e-5,
            "{whole_means:?} and {means:?}"
        );
        assert!(whole_gradient.allclose(&gradient, 1e-5, 1e-6, false), "gradients");
    }
}
