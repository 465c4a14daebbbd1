//! Point-M2AE: reconstruct the points of masked groups, on a hierarchy of scales (`docs/method.md`, "Point-M2AE").

use serde::{Deserialize, Serialize};
use tch::nn;

use super::i2p_mae::I2pMaeMethod;
use super::i2p_mae::settings::{I2pMaeSettings, MaskRule};
use super::{Method, MethodKind, masked, plan_of, settings};
use crate::config::{Config, DatasetInfo, MethodPlan, Plan, invalid};
use crate::error::TrainError;
use crate::model::PointM2aeConfig;
use crate::ops::ChamferNorm;

/// What configurations call the method.
const NAME: &str = "point-m2ae";

/// The table `[method]`. The default is the published setting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PointM2aeSettings {
    /// How many groups of the coarsest level are masked, rounded down, as a part of all.
    pub mask_ratio: f64,
    /// How far reconstructed points are from the true ones.
    pub chamfer: ChamferNorm,
    /// Blocks of each stage of the decoder.
    pub decoder_blocks: i64,
    /// Probability to drop a residual branch in the decoder's last block; it rises linearly from 0 in the first.
    pub decoder_drop_path: f64,
    /// Show the first token of the first cloud of a batch on every finer level, as the released code does.
    pub shows_first: bool,
}

impl Default for PointM2aeSettings {
    fn default() -> Self {
        Self {
            mask_ratio: 0.8,
            chamfer: ChamferNorm::L2,
            decoder_blocks: 1,
            decoder_drop_path: 0.1,
            shows_first: false,
        }
    }
}

/// Point-M2AE, by its name.
#[derive(Debug)]
pub struct PointM2aeKind;

impl MethodKind for PointM2aeKind {
    fn name(&self) -> &'static str {
        NAME
    }

    fn plan(&self, config: &Config) -> Result<MethodPlan, TrainError> {
        let settings: PointM2aeSettings = config.method.parse().map_err(invalid)?;
        masked::check_settings(settings.mask_ratio, settings.decoder_drop_path)?;
        plan_of::<PointM2aeSettings>(config)
    }

    fn check(&self, plan: &Plan, _data: &DatasetInfo) -> Result<(), TrainError> {
        let settings: PointM2aeSettings = settings(plan)?;
        masked::check_hierarchy(plan, NAME, settings.mask_ratio)
    }

    fn build(&self, vs: &nn::Path<'_>, plan: &Plan) -> Result<Box<dyn Method>, TrainError> {
        Ok(Box::new(method(
            vs,
            masked::hierarchy(plan, NAME)?,
            &settings(plan)?,
        )))
    }
}

/// I2P-MAE's method on the same network, with random masks and no 2D network.
fn method(vs: &nn::Path<'_>, encoder: &PointM2aeConfig, settings: &PointM2aeSettings) -> I2pMaeMethod {
    let &PointM2aeSettings {
        mask_ratio,
        chamfer,
        decoder_blocks,
        decoder_drop_path,
        shows_first,
    } = settings;
    let settings = I2pMaeSettings {
        mask: MaskRule::Random,
        weight_2d: 0.0,
        mask_ratio,
        chamfer,
        decoder_blocks,
        decoder_drop_path,
        shows_first: Some(shows_first),
        ..I2pMaeSettings::default()
    };
    I2pMaeMethod::new(vs, encoder, settings, None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use tch::{Device, Kind, Tensor};

    use super::*;
    use crate::data::batch::Batch;
    use crate::engine::objective::Loss as _;
    use crate::method::masked::CHAMFER;
    use crate::model::Mode;
    use crate::scalar::Sums;

    #[test]
    fn micro_batches_add_up_though_clouds_have_different_numbers_of_masked_groups() {
        tch::manual_seed(0);
        let vs = nn::VarStore::new(Device::Cpu);
        let mut encoder = PointM2aeConfig::mini();
        for (level, num_groups) in encoder.levels.iter_mut().zip([32, 24, 8]) {
            level.num_groups = num_groups;
            level.num_neighbors = 4;
            level.num_blocks = 1;
        }
        let settings = PointM2aeSettings {
            mask_ratio: 0.5,
            ..PointM2aeSettings::default()
        };
        let method = method(&vs.root(), &encoder, &settings);
        let xyz = Tensor::randn([5, 96, 3], (Kind::Float, Device::Cpu)) * 0.4;
        let batch = Batch::of_points(xyz, vec![3, 1, 4, 15, 92]);
        let parts = [0, 1, 2, 3, 4].map(|sample| batch.micro_batch(sample, 1));
        let counts = parts
            .each_ref()
            .map(|part| method.normalizer(part).at(CHAMFER, 0));
        let count = method.normalizer(&batch).at(CHAMFER, 0);
        assert!(
            (counts.iter().sum::<f64>() - count).abs() < 1e-9,
            "{counts:?} and {count}"
        );
        assert!(
            counts.iter().any(|other| (other - counts[0]).abs() > 0.5),
            "{counts:?}"
        );
        let sum = |batch: &Batch| method.terms(batch, Mode::EVAL)[0].sum.double_value(&[]);
        let (whole, of_parts) = (sum(&batch), parts.iter().map(sum).sum::<f64>());
        assert!((whole / of_parts - 1.0).abs() < 1e-4, "{whole} and {of_parts}");
        let mut evaluated = Sums::default();
        method.evaluate(&batch, &mut evaluated);
        let loss = method.scalars(&evaluated).get("loss").unwrap();
        assert!((loss / (whole / count) - 1.0).abs() < 1e-5, "{loss}");
    }

    #[test]
    fn gradients_reach_every_weight_that_pretraining_has() {
        tch::manual_seed(1);
        let vs = nn::VarStore::new(Device::Cpu);
        let encoder = PointM2aeConfig::mini();
        let method = method(&vs.root(), &encoder, &PointM2aeSettings::default());
        let xyz = Tensor::randn([2, 256, 3], (Kind::Float, Device::Cpu)) * 0.4;
        let batch = Batch::of_points(xyz, vec![3, 1]);
        method.terms(&batch, Mode::TRAIN)[0].sum.backward();
        for (name, parameter) in vs.variables().into_iter().filter(|(_, v)| v.requires_grad()) {
            // The decoder has no use for the finest level behind its blocks.
            let is_used = !name.starts_with("h_encoder.encoder_norms.0");
            let gradient = parameter.grad();
            let is_finite = || gradient.isfinite().all().int64_value(&[]) == 1;
            assert!(
                !is_used || (gradient.defined() && is_finite()),
                "gradient of {name}"
            );
        }
    }
}
