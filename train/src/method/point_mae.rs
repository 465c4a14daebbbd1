//! Point-MAE: reconstruct the points of masked groups from the visible ones (`docs/method.md`, "Point-MAE").

use std::rc::Rc;

use serde::{Deserialize, Serialize};
use tch::{Device, Tensor, nn};

use super::masked::{self, CHAMFER, Reconstruction};
use super::{Baselines, CpuBatches, Method, MethodKind, plan_of, settings};
use crate::config::{Config, DatasetInfo, MethodPlan, Plan, invalid};
use crate::data::batch::{Batch, CpuBatch};
use crate::engine::objective::{Loss, Term};
use crate::error::TrainError;
use crate::model::{
    Encoder, EncoderConfig, GroupMask, Groups, MaskedAutoencoder, MaskedAutoencoderConfig, Mode,
    PointMaeConfig,
};
use crate::ops::{ChamferNorm, gather};
use crate::optim::ParameterGroup;
use crate::run::image_grid::ImageGrid;
use crate::scalar::{Scalars, Sums};

/// What configurations call the method.
const NAME: &str = "point-mae";

/// Which groups are masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskRule {
    /// Random ones.
    Random,
    /// A random one and those nearest to it.
    Block,
}

/// The table `[method]`. The default is the paper's main setting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PointMaeSettings {
    /// Which groups are masked.
    pub mask: MaskRule,
    /// How many of them, rounded down, as a part of all.
    pub mask_ratio: f64,
    /// How far reconstructed points are from the true ones.
    pub chamfer: ChamferNorm,
    /// Blocks of the decoder.
    pub decoder_blocks: i64,
    /// Probability to drop a residual branch in the decoder's last block; it rises linearly from 0 in the first.
    pub decoder_drop_path: f64,
}

impl Default for PointMaeSettings {
    fn default() -> Self {
        Self {
            mask: MaskRule::Random,
            mask_ratio: 0.6,
            chamfer: ChamferNorm::L2,
            decoder_blocks: 4,
            decoder_drop_path: 0.1,
        }
    }
}

/// Point-MAE, by its name.
#[derive(Debug)]
pub struct PointMaeKind;

impl MethodKind for PointMaeKind {
    fn name(&self) -> &'static str {
        NAME
    }

    fn plan(&self, config: &Config) -> Result<MethodPlan, TrainError> {
        let settings: PointMaeSettings = config.method.parse().map_err(invalid)?;
        masked::check_settings(settings.mask_ratio, settings.decoder_drop_path)?;
        plan_of::<PointMaeSettings>(config)
    }

    fn check(&self, plan: &Plan, _data: &DatasetInfo) -> Result<(), TrainError> {
        let settings = settings::<PointMaeSettings>(plan)?;
        masked::check_mask(settings.mask_ratio, encoder(plan)?.num_groups)
    }

    fn build(&self, vs: &nn::Path<'_>, plan: &Plan) -> Result<Box<dyn Method>, TrainError> {
        Ok(Box::new(PointMaeMethod::new(vs, encoder(plan)?, settings(plan)?)))
    }
}

/// The encoder of a plan.
///
/// # Errors
/// Where it cannot leave groups out.
fn encoder(plan: &Plan) -> Result<&PointMaeConfig, TrainError> {
    match &plan.encoder {
        EncoderConfig::PointMae(encoder) => Ok(encoder),
        other => Err(masked::cannot_mask(NAME, other.kind(), "point_mae")),
    }
}

/// The autoencoder with its loss.
#[derive(Debug)]
struct PointMaeMethod {
    autoencoder: MaskedAutoencoder,
    num_groups: i64,
    settings: PointMaeSettings,
}

impl PointMaeMethod {
    fn new(vs: &nn::Path<'_>, encoder: &PointMaeConfig, settings: PointMaeSettings) -> Self {
        let config = MaskedAutoencoderConfig {
            encoder: encoder.clone(),
            decoder_blocks: settings.decoder_blocks,
            decoder_drop_path: settings.decoder_drop_path,
        };
        Self {
            autoencoder: MaskedAutoencoder::new(vs, &config),
            num_groups: encoder.num_groups,
            settings,
        }
    }

    fn num_masked(&self) -> i64 {
        masked::num_masked(self.settings.mask_ratio, self.num_groups)
    }

    fn mask(&self, batch: &Batch) -> (Groups, GroupMask) {
        let groups = self.autoencoder.groups(&batch.cloud);
        let mut streams = masked::streams(batch);
        let mask = match self.settings.mask {
            MaskRule::Random => GroupMask::random(self.num_groups, self.num_masked(), &mut streams)
                .to_device(groups.centers.device()),
            MaskRule::Block => GroupMask::block(&groups.centers, self.num_masked(), &mut streams),
        };
        (groups, mask)
    }

    fn reconstruct(&self, batch: &Batch, mode: Mode) -> Reconstruction {
        let (groups, mask) = self.mask(batch);
        let points = self.autoencoder.reconstruct(&groups, &mask, mode);
        Reconstruction {
            points: points.flatten(0, 1),
            truth: groups.select(&mask.masked).points.flatten(0, 1),
        }
    }
}

impl Loss for PointMaeMethod {
    fn normalizer(&self, batch: &Batch) -> Sums {
        let num_groups = batch.len() as i64 * self.num_masked();
        Sums::default().with(CHAMFER, &[num_groups as f64])
    }

    fn terms(&self, batch: &Batch, mode: Mode) -> Vec<Term> {
        let sum = self.reconstruct(batch, mode).distance(self.settings.chamfer);
        vec![Term::new(CHAMFER, 1.0, sum)]
    }
}

impl Method for PointMaeMethod {
    fn encoder_prefix(&self) -> &str {
        MaskedAutoencoder::ENCODER_PREFIX
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
        let mut sums = Sums::default();
        for batch in evaluation {
            let (groups, mask) = self.mask(&batch?.to_tensors(Device::Cpu));
            let truth = groups.select(&mask.masked).points.flatten(0, 1);
            Reconstruction::at_center(truth).add_to(&mut sums);
        }
        Ok(masked::center_baseline(&sums, self.settings.chamfer))
    }

    fn evaluate(&self, batch: &Batch, sums: &mut Sums) {
        self.reconstruct(batch, Mode::EVAL).add_to(sums);
    }

    fn scalars(&self, sums: &Sums) -> Scalars {
        masked::scalars(sums, self.settings.chamfer)
    }

    /// For each object the cloud, its visible groups, and these with the reconstructed ones.
    fn images(&self, _cpu_batch: &CpuBatch, batch: &Batch) -> Option<ImageGrid> {
        let (groups, mask) = self.mask(batch);
        let points = self.autoencoder.reconstruct(&groups, &mask, Mode::EVAL);
        let placed = |points: &Tensor, index: &Tensor| {
            (points + gather(&groups.centers, index).unsqueeze(2)).flatten(1, 2)
        };
        let visible = placed(&groups.select(&mask.visible).points, &mask.visible);
        let whole = Tensor::cat(&[&visible, &placed(&points, &mask.masked)], 1);
        let row = |object: i64| Vec::from([&batch.cloud.xyz, &visible, &whole].map(|xyz| xyz.get(object)));
        let rows: Vec<Vec<Tensor>> = (0..batch.len() as i64).map(row).collect();
        Some(masked::cloud_grid(&rows))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use tch::Kind;

    use super::*;

    fn method(vs: &nn::VarStore, settings: PointMaeSettings) -> PointMaeMethod {
        let encoder = PointMaeConfig {
            num_groups: 8,
            num_neighbors: 6,
            ..PointMaeConfig::mini()
        };
        PointMaeMethod::new(&vs.root(), &encoder, settings)
    }

    fn batch(num_samples: i64) -> Batch {
        let xyz = Tensor::randn([num_samples, 96, 3], (Kind::Float, Device::Cpu)) * 0.4;
        Batch::of_points(
            xyz,
            (0..num_samples as u64).map(|sample| 7 + 3 * sample).collect(),
        )
    }

    #[test]
    fn micro_batches_mask_and_add_up_as_the_batch_does() {
        tch::manual_seed(0);
        for mask in [MaskRule::Random, MaskRule::Block] {
            for chamfer in [ChamferNorm::L1, ChamferNorm::L2] {
                let vs = nn::VarStore::new(Device::Cpu);
                let settings = PointMaeSettings {
                    mask,
                    chamfer,
                    ..PointMaeSettings::default()
                };
                let (method, batch) = (method(&vs, settings), batch(3));
                let sum = |batch: &Batch| method.terms(batch, Mode::EVAL)[0].sum.double_value(&[]);
                let parts = [batch.micro_batch(0, 1), batch.micro_batch(1, 2)];
                let (whole, of_parts) = (sum(&batch), parts.iter().map(sum).sum::<f64>());
                assert!(
                    (whole / of_parts - 1.0).abs() < 1e-5,
                    "{mask:?}, {chamfer:?}: {whole} and {of_parts}"
                );
                let counts = |batch: &Batch| method.normalizer(batch).at(CHAMFER, 0);
                assert!(
                    (counts(&batch) - 12.0).abs() < 1e-9,
                    "four of eight groups of three clouds: {}",
                    counts(&batch)
                );
                let mut evaluated = Sums::default();
                for part in &parts {
                    method.evaluate(part, &mut evaluated);
                }
                let loss = method.scalars(&evaluated).get("loss").unwrap();
                assert!(
                    (loss / (whole / 12.0) - 1.0).abs() < 1e-5,
                    "{mask:?}, {chamfer:?}: an evaluation has the loss of one batch"
                );
            }
        }
    }

    #[test]
    fn tokens_do_not_decay() {
        let vs = nn::VarStore::new(Device::Cpu);
        let method = method(&vs, PointMaeSettings::default());
        let decays = |name: &str| method.parameter_group(name, &vs.variables()[name]).decays;
        assert!(!decays("mask_token"), "the mask token");
        assert!(!decays("MAE_decoder.norm.weight"), "one dimension");
        assert!(decays("increase_dim.0.weight"), "a matrix");
    }
}
