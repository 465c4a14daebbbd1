//! What methods that reconstruct hidden groups of points share: how masks are drawn, distances as sums, and the loss of a
//! trivial predictor (`docs/method.md`, "Reconstruction loss").

mod image;

use tch::Tensor;

pub(super) use self::image::{cloud_grid, hierarchy_grid};
use super::Baselines;
use crate::config::{Plan, invalid};
use crate::data::batch::Batch;
use crate::error::TrainError;
use crate::model::{EncoderConfig, PointM2aeConfig};
use crate::ops::{ChamferNorm, chamfer};
use crate::optim::ParameterGroup;
use crate::scalar::{Scalars, Sums};
use crate::seed::Stream;

/// The one term of the loss, over masked groups.
pub(super) const CHAMFER: &str = "chamfer";
/// Both distances, as evaluations report them.
const REPORTED: [(&str, ChamferNorm); 2] = [("chamfer_l1", ChamferNorm::L1), ("chamfer_l2", ChamferNorm::L2)];

/// Refuses a part of the groups, or a probability, that makes no sense.
pub(super) fn check_settings(mask_ratio: f64, decoder_drop_path: f64) -> Result<(), TrainError> {
    if !(mask_ratio > 0.0 && mask_ratio < 1.0) {
        return Err(invalid(format!(
            "method.mask_ratio = {mask_ratio}, expected a number above 0 and below 1"
        )));
    }
    if !(0.0..1.0).contains(&decoder_drop_path) {
        return Err(invalid(format!(
            "method.decoder_drop_path = {decoder_drop_path}, expected a number of at least 0 and below 1"
        )));
    }
    Ok(())
}

/// How many of so many groups are masked: the part of them, rounded down.
pub(super) fn num_masked(mask_ratio: f64, num_groups: i64) -> i64 {
    (mask_ratio * num_groups as f64) as i64
}

/// Refuses a mask that hides nothing.
pub(super) fn check_mask(mask_ratio: f64, num_groups: i64) -> Result<(), TrainError> {
    if num_masked(mask_ratio, num_groups) > 0 {
        return Ok(());
    }
    Err(invalid(format!(
        "method.mask_ratio = {mask_ratio} masks none of encoder.num_groups = {num_groups}"
    )))
}

/// The encoder of a plan.
///
/// # Errors
/// Where it is no hierarchy that can leave groups out.
pub(super) fn hierarchy<'a>(plan: &'a Plan, method: &str) -> Result<&'a PointM2aeConfig, TrainError> {
    match &plan.encoder {
        EncoderConfig::PointM2ae(encoder) => Ok(encoder),
        other => Err(cannot_mask(method, other.kind(), "point_m2ae")),
    }
}

/// Refuses an encoder that is no hierarchy, and a mask that hides nothing of it.
pub(super) fn check_hierarchy(plan: &Plan, method: &str, mask_ratio: f64) -> Result<(), TrainError> {
    let encoder = hierarchy(plan, method)?;
    if encoder.levels.len() < 2 {
        return Err(invalid(format!(
            "the method {method} needs at least two encoder.levels"
        )));
    }
    check_mask(mask_ratio, encoder.coarsest().num_groups)
}

/// What a method says of a backbone that it cannot hide anything from.
pub(super) fn cannot_mask(method: &str, encoder: &str, expected: &str) -> TrainError {
    invalid(format!(
        "the method {method} hides groups of points from the encoder, which encoder.kind = \"{encoder}\" cannot leave out; set encoder.kind = \"{expected}\""
    ))
}

/// What the mask of each sample is drawn from: a function of the seed of the run, the epoch and the sample.
pub(super) fn streams(batch: &Batch) -> Vec<Stream> {
    let stream = |&seed: &u64| Stream::new(seed, "mask", 0, "");
    batch.sample_seeds.iter().map(stream).collect()
}

/// Tokens do not decay.
pub(super) fn parameter_group(name: &str, tensor: &Tensor) -> ParameterGroup {
    let group = ParameterGroup::of(name, tensor);
    ParameterGroup {
        decays: group.decays && !name.contains("token"),
        ..group
    }
}

/// Masked groups, one after the other over all clouds of a batch.
pub(super) struct Reconstruction {
    /// M,K,3, relative to the centers.
    pub(super) points: Tensor,
    /// M,K,3.
    pub(super) truth: Tensor,
}

impl Reconstruction {
    /// All points of a group at its center.
    pub(super) fn at_center(truth: Tensor) -> Self {
        Self {
            points: truth.narrow(1, 0, 1).zeros_like(),
            truth,
        }
    }

    /// Number of masked groups.
    pub(super) fn num_groups(&self) -> f64 {
        self.truth.size()[0] as f64
    }

    /// The Chamfer distance of corresponding groups, summed over them; a scalar, 0 where there are none.
    pub(super) fn distance(&self, norm: ChamferNorm) -> Tensor {
        if self.truth.numel() == 0 {
            return self.points.sum(self.points.kind());
        }
        chamfer(&self.points, &self.truth, norm) * self.num_groups()
    }

    /// Adds all that [`scalars`] needs.
    pub(super) fn add_to(&self, sums: &mut Sums) {
        for (name, norm) in REPORTED {
            let sum = self.distance(norm).double_value(&[]);
            sums.add(name, &[sum, self.num_groups()]);
        }
    }
}

/// The scalars of an evaluation; `norm` is that of the loss.
pub(super) fn scalars(sums: &Sums, norm: ChamferNorm) -> Scalars {
    let of_loss = REPORTED.iter().find(|(_, reported)| *reported == norm);
    let loss = of_loss.map_or(f64::NAN, |(name, _)| sums.mean(name));
    let scalars = Scalars::default().with("loss", loss);
    REPORTED
        .iter()
        .fold(scalars, |scalars, (name, _)| scalars.with(*name, sums.mean(name)))
}

/// The loss where all points of a group are at its center, from the sums over [`Reconstruction::at_center`].
pub(super) fn center_baseline(sums: &Sums, norm: ChamferNorm) -> Baselines {
    let loss = scalars(sums, norm).get("loss").unwrap_or(f64::NAN);
    Baselines {
        scalars: Scalars::default().with("center_loss", loss),
        note: Some(format!("{loss:.4} (all points of a group at its center)")),
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    #[test]
    fn no_masked_group_is_no_loss() {
        let options = (Kind::Float, Device::Cpu);
        let points = Tensor::zeros([0, 4, 3], options).set_requires_grad(true);
        let nothing = Reconstruction {
            points,
            truth: Tensor::zeros([0, 4, 3], options),
        };
        let sum = nothing.distance(ChamferNorm::L2);
        sum.backward();
        let mut sums = Sums::default();
        nothing.add_to(&mut sums);
        let loss = scalars(&sums, ChamferNorm::L1).get("loss");
        assert_eq!((sum.double_value(&[]), loss), (0.0, Some(0.0)), "and no NaN");
    }

    #[test]
    fn the_loss_is_the_mean_over_groups() {
        tch::manual_seed(0);
        let cloud = |num: i64| Tensor::randn([5, num, 3], (Kind::Float, Device::Cpu));
        let reconstruction = Reconstruction {
            points: cloud(4),
            truth: cloud(7),
        };
        let mut sums = Sums::default();
        reconstruction.add_to(&mut sums);
        for norm in [ChamferNorm::L1, ChamferNorm::L2] {
            let expected = chamfer(&reconstruction.points, &reconstruction.truth, norm).double_value(&[]);
            let loss = scalars(&sums, norm).get("loss").unwrap_or(f64::NAN);
            assert!(
                (loss / expected - 1.0).abs() < 1e-6,
                "{norm:?}: {loss} and {expected}"
            );
        }
    }
}
