//! Point-M2AE: reconstruct the points of masked groups, on a hierarchy of scales (`docs/method.md`, "Point-M2AE").

use std::rc::Rc;

use serde::{Deserialize, Serialize};
use tch::{Tensor, nn};

use super::masked::{self, CHAMFER, Reconstruction};
use super::{Baselines, CpuBatches, Method, MethodKind, plan_of, settings};
use crate::config::{Config, DatasetInfo, MethodPlan, Plan, invalid};
use crate::data::batch::{Batch, CpuBatch};
use crate::engine::objective::{Loss, Term};
use crate::error::TrainError;
use crate::model::{
    Encoder, EncoderConfig, GroupMask, Groups, HierarchicalAutoencoder, HierarchicalAutoencoderConfig, Mode,
    MultiScaleMask, PointM2aeConfig,
};
use crate::ops::ChamferNorm;
use crate::optim::ParameterGroup;
use crate::run::image_grid::ImageGrid;
use crate::scalar::{Scalars, Sums};

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
        let (encoder, settings) = (encoder(plan)?, settings::<PointM2aeSettings>(plan)?);
        if encoder.levels.len() < 2 {
            return Err(invalid(format!(
                "the method {NAME} needs at least two encoder.levels"
            )));
        }
        masked::check_mask(settings.mask_ratio, encoder.coarsest().num_groups)
    }

    fn build(&self, vs: &nn::Path<'_>, plan: &Plan) -> Result<Box<dyn Method>, TrainError> {
        Ok(Box::new(PointM2aeMethod::new(
            vs,
            encoder(plan)?,
            settings(plan)?,
        )))
    }
}

/// The encoder of a plan.
///
/// # Errors
/// Where it is no hierarchy that can leave groups out.
fn encoder(plan: &Plan) -> Result<&PointM2aeConfig, TrainError> {
    match &plan.encoder {
        EncoderConfig::PointM2ae(encoder) => Ok(encoder),
        other => Err(masked::cannot_mask(NAME, other.kind(), "point_m2ae")),
    }
}

/// The autoencoder with its loss.
#[derive(Debug)]
struct PointM2aeMethod {
    autoencoder: HierarchicalAutoencoder,
    /// Of the coarsest level.
    num_groups: i64,
    settings: PointM2aeSettings,
}

impl PointM2aeMethod {
    fn new(vs: &nn::Path<'_>, encoder: &PointM2aeConfig, settings: PointM2aeSettings) -> Self {
        let config = HierarchicalAutoencoderConfig {
            encoder: encoder.clone(),
            decoder_blocks: settings.decoder_blocks,
            decoder_drop_path: settings.decoder_drop_path,
            feature_channels: 0,
        };
        Self {
            autoencoder: HierarchicalAutoencoder::new(vs, &config),
            num_groups: encoder.coarsest().num_groups,
            settings,
        }
    }

    fn mask(&self, batch: &Batch) -> (Vec<Groups>, MultiScaleMask) {
        let groups = self.autoencoder.groups(&batch.cloud);
        let num_masked = masked::num_masked(self.settings.mask_ratio, self.num_groups);
        let coarsest = GroupMask::random(self.num_groups, num_masked, &mut masked::streams(batch))
            .to_device(batch.cloud.xyz.device());
        let mask = MultiScaleMask::new(&groups, &coarsest, self.settings.shows_first);
        (groups, mask)
    }

    fn reconstruct(&self, batch: &Batch, mode: Mode) -> Reconstruction {
        let (groups, mask) = self.mask(batch);
        Reconstruction {
            points: self.autoencoder.reconstruct(&groups, &mask, mode),
            truth: HierarchicalAutoencoder::masked_points(&groups, &mask),
        }
    }
}

impl Loss for PointM2aeMethod {
    fn normalizer(&self, batch: &Batch) -> Sums {
        let (groups, mask) = self.mask(batch);
        let truth = HierarchicalAutoencoder::masked_points(&groups, &mask);
        Sums::default().with(CHAMFER, &[Reconstruction::at_center(truth).num_groups()])
    }

    fn terms(&self, batch: &Batch, mode: Mode) -> Vec<Term> {
        let sum = self.reconstruct(batch, mode).distance(self.settings.chamfer);
        vec![Term::new(CHAMFER, 1.0, sum)]
    }
}

impl Method for PointM2aeMethod {
    fn encoder_prefix(&self) -> &str {
        HierarchicalAutoencoder::ENCODER_PREFIX
    }

    fn encoder(&self) -> Option<Rc<dyn Encoder>> {
        Some(self.autoencoder.encoder())
    }

    fn parameter_group(&self, name: &str, tensor: &Tensor) -> ParameterGroup {
        masked::parameter_group(name, tensor)
    }

    fn baselines(
        &self,
        _training: CpuBatches<'_>,
        evaluation: CpuBatches<'_>,
    ) -> Result<Baselines, TrainError> {
        masked::center_baseline(evaluation, self.settings.chamfer, |batch| {
            let (groups, mask) = self.mask(batch);
            HierarchicalAutoencoder::masked_points(&groups, &mask)
        })
    }

    fn evaluate(&self, batch: &Batch, sums: &mut Sums) {
        self.reconstruct(batch, Mode::EVAL).add_to(sums);
    }

    fn scalars(&self, sums: &Sums) -> Scalars {
        masked::scalars(sums, self.settings.chamfer)
    }

    fn images(&self, _cpu_batch: &CpuBatch, batch: &Batch) -> Option<ImageGrid> {
        let (groups, mask) = self.mask(batch);
        Some(masked::hierarchy_grid(&self.autoencoder, batch, &groups, &mask))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use tch::{Device, Kind};

    use super::*;
    use crate::model::Cloud;

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
        let method = PointM2aeMethod::new(&vs.root(), &encoder, settings);
        let xyz = Tensor::randn([5, 96, 3], (Kind::Float, Device::Cpu)) * 0.4;
        let batch = Batch {
            cloud: Cloud {
                features: xyz.transpose(1, 2),
                xyz,
            },
            sample_seeds: vec![3, 1, 4, 15, 92],
            labels: Tensor::zeros([5], (Kind::Int64, Device::Cpu)),
            views: None,
            normals: None,
            part_labels: None,
            features: None,
        };
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
        let method = PointM2aeMethod::new(&vs.root(), &encoder, PointM2aeSettings::default());
        let xyz = Tensor::randn([2, 256, 3], (Kind::Float, Device::Cpu)) * 0.4;
        let batch = Batch {
            cloud: Cloud {
                features: xyz.transpose(1, 2),
                xyz,
            },
            sample_seeds: vec![3, 1],
            labels: Tensor::zeros([2], (Kind::Int64, Device::Cpu)),
            views: None,
            normals: None,
            part_labels: None,
            features: None,
        };
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
