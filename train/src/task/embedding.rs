//! What a frozen encoder says of whole clouds: its tokens, pooled into one feature an object.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, VariantNames};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor, no_grad};

use super::{DataChoice, OpenData, evaluation_batches, require_exact, require_finite};
use crate::config::{Config, Plan, Task};
use crate::data::collator::{Collator, ViewSampling};
use crate::data::loader::Loader;
use crate::data::source::SampleSource;
use crate::engine::trainer::RunOptions;
use crate::error::TrainError;
use crate::model::{Encoder, Mode};
use crate::run::event::{OnEvent, TrainEvent};
use crate::run::weights::{EncoderWeights, read_encoder};
use crate::weights::checkpoint::copy_weights;
use crate::weights::safetensors::file_sha256;

/// Passes over the training clouds that measure batch-norm statistics; each moves them by a tenth per batch.
const CALIBRATION_PASSES: usize = 3;
/// Objects of a batch.
const BATCH_SIZE: usize = 32;

/// How the M tokens of a cloud, C channels each, become one feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Display, EnumString, VariantNames)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Pooling {
    /// The maximum of each channel: C numbers. I2P-MAE and Point-M2AE probe it.
    Max,
    /// The mean of each channel: C numbers.
    Mean,
    /// Maximum plus mean: C numbers. What I2P-MAE classifies `ModelNet40` by.
    Sum,
    /// Maximum, then mean: 2 C numbers.
    MaxMean,
}

impl Pooling {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Max, Self::Mean, Self::Sum, Self::MaxMean];
}

/// Pooled tokens of objects, in row order.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    num_channels: usize,
    /// Maximum and mean of the tokens of each object, `num_channels` numbers each.
    max: Vec<f32>,
    mean: Vec<f32>,
}

impl Embeddings {
    /// Number of objects.
    #[must_use]
    pub fn len(&self) -> usize {
        self.max.len() / self.num_channels.max(1)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.max.is_empty()
    }

    /// One feature an object.
    #[must_use]
    pub fn pooled(&self, pooling: Pooling) -> Vec<Vec<f32>> {
        let pairs = self
            .max
            .chunks_exact(self.num_channels.max(1))
            .zip(self.mean.chunks_exact(self.num_channels.max(1)));
        pairs
            .map(|(max, mean)| match pooling {
                Pooling::Max => max.to_vec(),
                Pooling::Mean => mean.to_vec(),
                Pooling::Sum => max.iter().zip(mean).map(|(max, mean)| max + mean).collect(),
                Pooling::MaxMean => [max, mean].concat(),
            })
            .collect()
    }

    /// The same in double precision, for classifiers.
    #[must_use]
    pub fn features(&self, pooling: Pooling) -> Vec<Vec<f64>> {
        let widened = |row: Vec<f32>| row.into_iter().map(f64::from).collect();
        self.pooled(pooling).into_iter().map(widened).collect()
    }
}

/// A frozen encoder, and a data set that it is asked about.
#[derive(Debug)]
pub struct FrozenEncoder {
    /// What the configuration means for the data.
    pub plan: Plan,
    /// The data.
    pub data: OpenData,
    /// SHA-256 of the encoder's file.
    pub init_sha256: String,
    encoder: Box<dyn Encoder>,
    /// Holds the weights.
    _store: VarStore,
}

/// The data, whose pictures are not looked at, and the weights that its rows are embedded by.
pub(super) struct OpenEncoder {
    pub(super) data: OpenData,
    pub(super) weights: EncoderWeights,
    /// SHA-256 of the weights' file.
    pub(super) init_sha256: String,
}

impl OpenEncoder {
    /// Opens the data and reads the encoder of `init`.
    ///
    /// # Errors
    /// Where one of them cannot be read.
    pub(super) fn open(
        config: &Config,
        options: &RunOptions,
        init: &Path,
        on_event: OnEvent<'_>,
    ) -> Result<Self, TrainError> {
        let choice = DataChoice {
            images: "",
            ..DataChoice::of(&config.data)
        };
        let data = OpenData::choose(&options.data, choice)?;
        let weights = read_encoder(init)?;
        for note in &weights.notes {
            on_event(TrainEvent::Note(note.clone()));
        }
        Ok(Self {
            init_sha256: file_sha256(&weights.file)?,
            data,
            weights,
        })
    }
}

impl FrozenEncoder {
    /// Opens the data and the encoder of `init`. Which splits are trained on does not matter: those with rows count.
    ///
    /// # Errors
    /// Where one of them cannot be read, or the weights do not fit the configuration.
    pub fn open(
        config: &Config,
        options: &RunOptions,
        init: &Path,
        on_event: OnEvent<'_>,
    ) -> Result<Self, TrainError> {
        let OpenEncoder {
            data,
            weights,
            init_sha256,
        } = OpenEncoder::open(config, options, init, on_event)?;
        let mut config = config.clone();
        config.data.train_splits = data.filled_splits()?;
        let (plan, _) = data.plan(None, &config, Task::Classify, 0, &init_sha256)?;
        let (store, encoder) = loaded_encoder(&plan, &weights, options.device)?;
        Ok(Self {
            plan,
            data,
            init_sha256,
            encoder,
            _store: store,
        })
    }

    /// Embeds rows.
    ///
    /// # Errors
    /// As for [`embed_rows`].
    pub fn embed(&self, rows: Arc<dyn SampleSource>, options: &RunOptions) -> Result<Embeddings, TrainError> {
        let batches = evaluation_batches(&self.plan, rows, ViewSampling::None, BATCH_SIZE);
        embed_rows(self.encoder.as_ref(), &batches, options)
    }
}

/// An encoder of a plan with fresh weights, drawn by `seed`.
#[must_use]
pub fn random_encoder(plan: &Plan, seed: i64, device: Device) -> (VarStore, Box<dyn Encoder>) {
    let store = VarStore::new(device);
    tch::manual_seed(seed);
    let encoder = plan.encoder.build(&store.root());
    (store, encoder)
}

/// An encoder of a plan with the weights of a file.
///
/// # Errors
/// Where they do not fit exactly.
pub fn loaded_encoder(
    plan: &Plan,
    weights: &EncoderWeights,
    device: Device,
) -> Result<(VarStore, Box<dyn Encoder>), TrainError> {
    let (store, encoder) = random_encoder(plan, 0, device);
    let file: &Path = &weights.file;
    require_exact(copy_weights(&store, &weights.tensors, ""), file)?;
    Ok((store, encoder))
}

/// Measures the batch-norm statistics of a random encoder on training clouds; without them a comparison would be unfair to it.
///
/// # Errors
/// Where a row cannot be read.
pub fn calibrate(
    encoder: &dyn Encoder,
    batches: &Arc<Collator>,
    options: &RunOptions,
) -> Result<(), TrainError> {
    let steps = batches.sampler().steps_per_epoch();
    for _ in 0..CALIBRATION_PASSES {
        for cpu_batch in Loader::start(batches, 0..steps, options.loader_threads) {
            let cpu_batch = cpu_batch?;
            // The statistics of a lone cloud are not those of a batch.
            if cpu_batch.len() > 1 {
                no_grad(|| encoder.tokens(&cpu_batch.to_tensors(options.device).cloud, Mode::TRAIN));
            }
        }
    }
    Ok(())
}

/// The embeddings of all rows.
///
/// # Errors
/// Where a row cannot be read, or a feature is not finite.
pub fn embed_rows(
    encoder: &dyn Encoder,
    batches: &Arc<Collator>,
    options: &RunOptions,
) -> Result<Embeddings, TrainError> {
    let mut embeddings = Embeddings {
        num_channels: encoder.token_channels() as usize,
        max: Vec::new(),
        mean: Vec::new(),
    };
    let steps = batches.sampler().steps_per_epoch();
    for cpu_batch in Loader::start(batches, 0..steps, options.loader_threads) {
        let cpu_batch = cpu_batch?;
        let batch = cpu_batch.to_tensors(options.device);
        let [max, mean] = no_grad(|| {
            let tokens = encoder.tokens(&batch.cloud, Mode::EVAL).features;
            [
                tokens.amax([1].as_slice(), false),
                tokens.mean_dim(1, false, Kind::Float),
            ]
        });
        for (pooled, all) in [(&max, &mut embeddings.max), (&mean, &mut embeddings.mean)] {
            require_finite(pooled, &cpu_batch)?;
            all.extend(numbers(pooled)?);
        }
    }
    Ok(embeddings)
}

/// The numbers of a tensor, row by row.
pub(super) fn numbers(tensor: &Tensor) -> Result<Vec<f32>, TrainError> {
    let flat = tensor
        .to_kind(Kind::Float)
        .to_device(Device::Cpu)
        .contiguous()
        .view(-1);
    Vec::try_from(flat).map_err(|source| TrainError::Torch {
        action: "reading features",
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_pooled_in_four_ways() {
        let embeddings = Embeddings {
            num_channels: 2,
            max: vec![1.0, 2.0, 3.0, 4.0],
            mean: vec![0.5, 1.0, 1.5, 2.0],
        };
        assert_eq!(embeddings.len(), 2);
        let second = |pooling| embeddings.pooled(pooling)[1].clone();
        assert_eq!(second(Pooling::Max), [3.0, 4.0]);
        assert_eq!(second(Pooling::Mean), [1.5, 2.0]);
        assert_eq!(second(Pooling::Sum), [4.5, 6.0], "added");
        assert_eq!(
            second(Pooling::MaxMean),
            [3.0, 4.0, 1.5, 2.0],
            "one behind the other"
        );
        let parsed: Result<Pooling, _> = "max-mean".parse();
        assert_eq!(parsed, Ok(Pooling::MaxMean));
    }
}
