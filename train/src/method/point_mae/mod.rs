//! Point-MAE: reconstruct the points of masked groups from the visible ones (`docs/method.md`, "Point-MAE").

mod image;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, nn};

use self::image::reconstruction_grid;
use super::{Baselines, CpuBatches, Method, MethodKind, plan_of, settings};
use crate::config::{Config, DatasetInfo, MethodPlan, Plan, invalid};
use crate::data::batch::{Batch, CpuBatch};
use crate::engine::objective::{Loss, Term};
use crate::error::TrainError;
use crate::model::{
    EncoderConfig, GroupMask, Groups, MaskedAutoencoder, MaskedAutoencoderConfig, Mode, PointMaeConfig,
};
use crate::ops::{ChamferNorm, chamfer, gather};
use crate::optim::ParameterGroup;
use crate::run::image_grid::ImageGrid;
use crate::scalar::{Scalars, Sums};
use crate::seed::Stream;

/// What configurations call the method.
const NAME: &str = "point-mae";
/// The one term of the loss, over masked groups.
const CHAMFER: &str = "chamfer";
/// Both distances, as evaluations report them.
const REPORTED: [(&str, ChamferNorm); 2] = [("chamfer_l1", ChamferNorm::L1), ("chamfer_l2", ChamferNorm::L2)];

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

impl PointMaeSettings {
    /// Masked groups of `num_groups`.
    fn num_masked(&self, num_groups: i64) -> i64 {
        (self.mask_ratio * num_groups as f64) as i64
    }

    fn contradiction(&self) -> Option<String> {
        if !(self.mask_ratio > 0.0 && self.mask_ratio < 1.0) {
            return Some(format!(
                "mask_ratio = {}, expected a number above 0 and below 1",
                self.mask_ratio
            ));
        }
        if !(0.0..1.0).contains(&self.decoder_drop_path) {
            return Some(format!(
                "decoder_drop_path = {}, expected a number of at least 0 and below 1",
                self.decoder_drop_path
            ));
        }
        None
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
        match settings.contradiction() {
            Some(contradiction) => Err(invalid(format!("method.{contradiction}"))),
            None => plan_of::<PointMaeSettings>(config),
        }
    }

    fn check(&self, plan: &Plan, _data: &DatasetInfo) -> Result<(), TrainError> {
        let (num_groups, settings) = (encoder(plan)?.num_groups, settings::<PointMaeSettings>(plan)?);
        let num_masked = settings.num_masked(num_groups);
        if num_masked == 0 {
            return Err(invalid(format!(
                "method.mask_ratio = {} masks none of encoder.num_groups = {num_groups}",
                settings.mask_ratio
            )));
        }
        Ok(())
    }

    fn build(&self, vs: &nn::Path<'_>, plan: &Plan) -> Result<Box<dyn Method>, TrainError> {
        let (encoder, settings) = (encoder(plan)?, settings::<PointMaeSettings>(plan)?);
        let config = MaskedAutoencoderConfig {
            encoder: encoder.clone(),
            decoder_blocks: settings.decoder_blocks,
            decoder_drop_path: settings.decoder_drop_path,
        };
        Ok(Box::new(PointMaeMethod {
            autoencoder: MaskedAutoencoder::new(vs, &config),
            num_groups: encoder.num_groups,
            settings,
        }))
    }
}

/// The encoder of a plan.
///
/// # Errors
/// Where it cannot leave groups out.
fn encoder(plan: &Plan) -> Result<&PointMaeConfig, TrainError> {
    match &plan.encoder {
        EncoderConfig::PointMae(encoder) => Ok(encoder),
        other => Err(invalid(format!(
            "the method {NAME} hides groups of points from the encoder, which encoder.kind = \"{}\" cannot leave out; set encoder.kind = \"point_mae\"",
            other.kind()
        ))),
    }
}

/// The autoencoder with its loss.
#[derive(Debug)]
struct PointMaeMethod {
    autoencoder: MaskedAutoencoder,
    num_groups: i64,
    settings: PointMaeSettings,
}

/// The masked groups of a batch.
struct Reconstruction {
    groups: Groups,
    mask: GroupMask,
    /// B,M,K,3, relative to the centers.
    points: Tensor,
}

impl Reconstruction {
    /// Summed over masked groups.
    fn distance(&self, norm: ChamferNorm) -> Tensor {
        distance(&self.points, &self.groups.select(&self.mask.masked).points, norm)
    }
}

/// The Chamfer distance of corresponding groups, summed over them.
///
/// # Shapes
/// - `points`: B,M,L,3; `truth`: B,M,K,3
/// - returns a scalar
fn distance(points: &Tensor, truth: &Tensor, norm: ChamferNorm) -> Tensor {
    let [points, truth] = [points, truth].map(|groups| groups.flatten(0, 1));
    let num_groups = truth.size()[0] as f64;
    chamfer(&points, &truth, norm) * num_groups
}

impl PointMaeMethod {
    fn num_masked(&self) -> i64 {
        self.settings.num_masked(self.num_groups)
    }

    /// Groups and mask of a batch. The mask of a sample is a function of the seed of the run, the epoch and the sample.
    fn mask(&self, batch: &Batch) -> (Groups, GroupMask) {
        let groups = self.autoencoder.groups(&batch.cloud);
        let stream = |&seed: &u64| Stream::new(seed, "mask", 0, "");
        let mut streams: Vec<Stream> = batch.sample_seeds.iter().map(stream).collect();
        let mask = match self.settings.mask {
            MaskRule::Random => GroupMask::random(self.num_groups, self.num_masked(), &mut streams)
                .to_device(groups.centers.device()),
            MaskRule::Block => GroupMask::block(&groups.centers, self.num_masked(), &mut streams),
        };
        (groups, mask)
    }

    fn reconstruct(&self, batch: &Batch, mode: Mode) -> Reconstruction {
        let (groups, mask) = self.mask(batch);
        Reconstruction {
            points: self.autoencoder.reconstruct(&groups, &mask, mode),
            groups,
            mask,
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

    /// Tokens do not decay.
    fn parameter_group(&self, name: &str, tensor: &Tensor) -> ParameterGroup {
        let group = ParameterGroup::of(name, tensor);
        ParameterGroup {
            decays: group.decays && !name.contains("token"),
            ..group
        }
    }

    /// All points of a group at its center.
    fn baselines(
        &self,
        _training: CpuBatches<'_>,
        evaluation: CpuBatches<'_>,
    ) -> Result<Baselines, TrainError> {
        let mut sums = Sums::default();
        for batch in evaluation {
            let batch = batch?.to_tensors(tch::Device::Cpu);
            let (groups, mask) = self.mask(&batch);
            let truth = groups.select(&mask.masked).points;
            let at_center = truth.narrow(2, 0, 1).zeros_like();
            let sum = distance(&at_center, &truth, self.settings.chamfer).double_value(&[]);
            sums.add(CHAMFER, &[sum, self.normalizer(&batch).at(CHAMFER, 0)]);
        }
        let loss = sums.mean(CHAMFER);
        Ok(Baselines {
            scalars: Scalars::default().with("center_loss", loss),
            note: Some(format!("{loss:.4} (all points of a group at its center)")),
        })
    }

    fn evaluate(&self, batch: &Batch, sums: &mut Sums) {
        let reconstruction = self.reconstruct(batch, Mode::EVAL);
        let count = self.normalizer(batch).at(CHAMFER, 0);
        for (name, norm) in REPORTED {
            let sum = reconstruction.distance(norm).double_value(&[]);
            sums.add(name, &[sum, count]);
        }
    }

    fn scalars(&self, sums: &Sums) -> Scalars {
        let of_loss = |(_, norm): &&(&str, ChamferNorm)| *norm == self.settings.chamfer;
        let loss = REPORTED
            .iter()
            .find(of_loss)
            .map_or(f64::NAN, |(name, _)| sums.mean(name));
        let scalars = Scalars::default().with("loss", loss);
        REPORTED
            .iter()
            .fold(scalars, |scalars, (name, _)| scalars.with(*name, sums.mean(name)))
    }

    /// For each object the cloud, its visible groups, and these with the reconstructed ones.
    fn images(&self, _cpu_batch: &CpuBatch, batch: &Batch) -> Option<ImageGrid> {
        let Reconstruction { groups, mask, points } = self.reconstruct(batch, Mode::EVAL);
        let placed = |points: &Tensor, index: &Tensor| {
            (points + gather(&groups.centers, index).unsqueeze(2)).flatten(1, 2)
        };
        let visible = placed(&groups.select(&mask.visible).points, &mask.visible);
        let whole = Tensor::cat(&[&visible, &placed(&points, &mask.masked)], 1);
        Some(reconstruction_grid(
            &[&batch.cloud.xyz, &visible, &whole].map(|xyz| xyz.to_kind(Kind::Float)),
        ))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use tch::{Device, nn};

    use super::*;
    use crate::model::Cloud;

    fn method(vs: &nn::VarStore, settings: PointMaeSettings) -> PointMaeMethod {
        let encoder = PointMaeConfig {
            num_groups: 8,
            num_neighbors: 6,
            ..PointMaeConfig::mini()
        };
        let config = MaskedAutoencoderConfig {
            decoder_blocks: settings.decoder_blocks,
            decoder_drop_path: settings.decoder_drop_path,
            encoder,
        };
        PointMaeMethod {
            autoencoder: MaskedAutoencoder::new(&vs.root(), &config),
            num_groups: config.encoder.num_groups,
            settings,
        }
    }

    fn batch(num_samples: i64) -> Batch {
        let xyz = Tensor::randn([num_samples, 96, 3], (Kind::Float, Device::Cpu)) * 0.4;
        Batch {
            cloud: Cloud {
                features: xyz.transpose(1, 2),
                xyz,
            },
            sample_seeds: (0..num_samples as u64).map(|sample| 7 + 3 * sample).collect(),
            labels: Tensor::zeros([num_samples], (Kind::Int64, Device::Cpu)),
            views: None,
            normals: None,
            part_labels: None,
        }
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
