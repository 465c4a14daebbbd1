//! Configuration: [`Config`] is what the user typed, [`Plan`] what it means for one data set and one task.
//!
//! A configuration is a preset, a file that may name a preset to start from, and `--set key=value` on top, merged as
//! TOML tables. The plan has a value for everything and is written to `config.toml` of the run.

mod class_weights;
mod difference;
mod method;
mod plan;
mod range;
mod read;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tap_dataset::{BlockShuffle, Split};
use toml::Table;

use crate::data::augment::{HeightFrom, PartAugmentation};
use crate::data::collator::PointSampling;
use crate::data::point_view::HiddenPoints;
use crate::data::sampler::{LastBatch, RowOrder};
use crate::error::TrainError;
use crate::model::loss::{PhotographWeights, PixelDistance};
use crate::model::{Compat, DecoderConfig, EncoderConfig, HeadConfig};
use crate::optim::schedule::ScheduleUnit;

pub use class_weights::{ClassWeights, WeightRule};
pub use difference::{Difference, listed};
pub use method::{MethodConfig, MethodPlan, SUM, TAP};
pub use plan::{
    ContinuedFrom, DataPlan, DatasetInfo, FeatureInfo, LogPlan, MixPlan, PartPlan, PhasePlan, Plan, Task,
};
pub(crate) use plan::{is_default, num_parts};
pub use read::{DEFAULT_PRESET, PRESETS};

/// Tables with the settings of one phase of training.
const PHASES: [&str; 3] = ["pretrain", "finetune", "segment"];

/// Points of a cloud (`docs/method.md`, "Point clouds").
const DEFAULT_NUM_POINTS: usize = 1024;
/// Views drawn per sample and epoch (`docs/method.md`, "Views drawn per step").
const DEFAULT_NUM_VIEWS: usize = 6;
/// Cache of encoded rows, in MiB.
const DEFAULT_CACHE_MIB: u64 = 512;
/// Weight of the foreground in the loss (`docs/method.md`, "Photograph loss").
const DEFAULT_FOREGROUND_WEIGHT: f64 = 20.0;
/// Weight of the background in the loss (`docs/method.md`, "Photograph loss").
const DEFAULT_BACKGROUND_WEIGHT: f64 = 1.0;
/// Smoothing of labels in fine-tuning (`docs/method.md`, "Classification loss").
const DEFAULT_LABEL_SMOOTHING: f64 = 0.3;
/// Samples of a batch (`docs/method.md`, "Optimization").
const DEFAULT_BATCH_SIZE: usize = 32;
/// Epochs of pre-training (`docs/method.md`, "Optimization").
const DEFAULT_EPOCHS: u64 = 100;
/// Learning rate of pre-training with PointNet++ (`docs/method.md`, "Optimization").
const DEFAULT_LEARNING_RATE: f64 = 2e-3;
/// Where the cosine ends (`docs/method.md`, "Optimization").
const DEFAULT_FINAL_LEARNING_RATE: f64 = 1e-5;
/// Where a warm-up begins (`docs/method.md`, "Learning rate").
const DEFAULT_WARMUP_FROM: f64 = 1e-6;
/// Weight decay (`docs/method.md`, "Optimization").
const DEFAULT_WEIGHT_DECAY: f64 = 0.05;
/// Global L2 norm to which gradients are clipped (`docs/method.md`, "Optimization").
const DEFAULT_MAX_GRAD_NORM: f64 = 10.0;
/// Anisotropic scale of the augmentation (`docs/method.md`, "Augmentation").
const DEFAULT_SCALE: [f64; 2] = [0.9, 1.1];
/// Part segmentation (`docs/method.md`, "Optimization"): samples of a batch, epochs, learning rate and the 0-based
/// epochs at which it falls, weight decay, gradient norm; and scale (`docs/method.md`, "Augmentation").
const SEGMENT_BATCH_SIZE: usize = 16;
const SEGMENT_EPOCHS: u64 = 300;
const SEGMENT_LEARNING_RATE: f64 = 1e-3;
const SEGMENT_MILESTONES: [f64; 2] = [209.0, 269.0];
const SEGMENT_WEIGHT_DECAY: f64 = 1e-4;
const SEGMENT_MAX_GRAD_NORM: f64 = 1.0;
const SEGMENT_SCALE: [f64; 2] = [0.8, 1.2];
/// What a rate is multiplied by at a milestone.
const DEFAULT_MILESTONE_FACTOR: f64 = 0.1;
/// Checkpoints kept.
const DEFAULT_KEEP_CHECKPOINTS: usize = 2;
/// Objects in an image of generated and true views.
const DEFAULT_NUM_IMAGES: usize = 4;

/// Configuration as typed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The preset that this starts from.
    pub preset: Option<String>,
    /// Seed of everything random.
    pub seed: u64,
    /// Follow the paper or the released code where they differ; fills in what `photograph` leaves open.
    pub compat: Option<Compat>,
    /// Input data.
    pub data: DataConfig,
    /// The backbone.
    pub encoder: EncoderConfig,
    /// The pre-training method.
    pub method: MethodConfig,
    /// The photograph module of TAP; without `compat` it has to be complete.
    pub photograph: Table,
    /// The 2D generator; the paper's if absent.
    pub decoder: Option<DecoderConfig>,
    /// The classification head.
    pub head: HeadConfig,
    /// The losses.
    pub loss: LossConfig,
    /// Pre-training.
    pub pretrain: PhaseConfig,
    /// Fine-tuning.
    pub finetune: PhaseConfig,
    /// Part segmentation.
    pub segment: PhaseConfig,
    /// Further augmentation for part segmentation.
    pub parts: PartAugmentation,
    /// Logging.
    pub log: LogConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            preset: None,
            seed: 0,
            compat: None,
            data: DataConfig::default(),
            encoder: EncoderConfig::point_net2(),
            method: MethodConfig::default(),
            photograph: Table::new(),
            decoder: None,
            head: HeadConfig::default(),
            loss: LossConfig::default(),
            pretrain: PhaseConfig::default(),
            finetune: PhaseConfig {
                height: HeightFrom::Scaled,
                rotate_y: true,
                ..PhaseConfig::default()
            },
            segment: PhaseConfig {
                batch_size: SEGMENT_BATCH_SIZE,
                epochs: SEGMENT_EPOCHS,
                learning_rate: SEGMENT_LEARNING_RATE,
                milestones: SEGMENT_MILESTONES.to_vec(),
                weight_decay: SEGMENT_WEIGHT_DECAY,
                max_grad_norm: SEGMENT_MAX_GRAD_NORM,
                scale: SEGMENT_SCALE,
                height: HeightFrom::Scaled,
                ..PhaseConfig::default()
            },
            parts: PartAugmentation::default(),
            log: LogConfig::default(),
        }
    }
}

/// Input data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// Points of a cloud.
    pub num_points: usize,
    /// How they are sampled from those of a row.
    pub point_choice: PointSampling,
    /// Views drawn per sample and epoch.
    pub num_views: usize,
    /// Training splits.
    pub train_splits: Vec<Split>,
    /// What to report on; if absent, pre-training takes `val`, or else `test`, or else `train`, classification `test` or else
    /// `val`.
    pub evaluation_split: Option<Split>,
    /// The image set that images come from, made by `tap dataset relight --add`; empty for the data set's own.
    pub images: String,
    /// Draw them in color and not in gray: the last layer of the decoder then has three channels, whatever it says.
    pub color: bool,
    /// The feature set that 2D features come from, made by `tap dataset features`; empty for none.
    pub features: String,
    /// What a view says of points that it hides.
    pub hidden_points: HiddenPoints,
    /// Cache of encoded rows, in MiB; other rows are read from disk every time.
    pub cache_mib: u64,
    /// The condition on rows, to train on and to evaluate: `category = 'chair' and coverage_min > 0.02`; all if empty.
    #[serde(rename = "where", skip_serializing_if = "String::is_empty")]
    pub filter: String,
    /// Part of the training rows of each data set, drawn by the seed; a larger part holds all of a smaller one.
    pub fraction: f64,
    /// Ids of samples that are neither trained on nor evaluated, and leave their places in the batches empty: the order of
    /// all others stays as it is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub leave_out: Vec<String>,
    /// How the rows of an epoch are shuffled: `keyed`, a full permutation, or `blocks`, for disks and stores that are slow to
    /// seek. `listed` is the order of runs that earlier versions began.
    pub order: RowOrder,
    /// Sizes of blocks and windows, for `order = "blocks"`.
    pub blocks: BlockShuffle,
    /// Further data sets to train on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mix: Vec<MixConfig>,
}

/// A data set that is mixed into the training rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixConfig {
    /// Its folder or URL.
    pub data: String,
    /// Samples of it for each one of the data set that is trained on. If no set has a weight, each row of all comes once an
    /// epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            num_points: DEFAULT_NUM_POINTS,
            point_choice: PointSampling::First,
            num_views: DEFAULT_NUM_VIEWS,
            train_splits: vec![Split::Train],
            evaluation_split: None,
            images: String::new(),
            color: false,
            features: String::new(),
            hidden_points: HiddenPoints::Keep,
            cache_mib: DEFAULT_CACHE_MIB,
            filter: String::new(),
            fraction: 1.0,
            leave_out: Vec::new(),
            order: RowOrder::Keyed,
            blocks: BlockShuffle::default(),
            mix: Vec::new(),
        }
    }
}

/// The losses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LossConfig {
    /// Weight of the mean squared error of foreground pixels.
    pub foreground_weight: f64,
    /// Weight of the mean squared error of background pixels.
    pub background_weight: f64,
    /// How far a pixel is from the truth. Validation reports squares either way.
    pub pixel_distance: PixelDistance,
    /// Weight of the perceptual loss; 0 is none.
    pub perceptual_weight: f64,
    /// The VGG16 of the perceptual loss: a file with torchvision's weights, safetensors or PyTorch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub perceptual_network: Option<PathBuf>,
    /// What the true label gives to the other classes.
    pub label_smoothing: f64,
    /// Among which classes that is shared out.
    #[serde(skip_serializing_if = "SmoothingRule::is_others")]
    pub smoothing_rule: SmoothingRule,
}

impl LossConfig {
    /// The weights of pixels.
    #[must_use]
    pub fn pixels(&self) -> PhotographWeights {
        PhotographWeights {
            foreground: self.foreground_weight,
            background: self.background_weight,
            distance: self.pixel_distance,
        }
    }
}

impl Default for LossConfig {
    fn default() -> Self {
        Self {
            foreground_weight: DEFAULT_FOREGROUND_WEIGHT,
            background_weight: DEFAULT_BACKGROUND_WEIGHT,
            pixel_distance: PixelDistance::Squared,
            perceptual_weight: 0.0,
            perceptual_network: None,
            label_smoothing: DEFAULT_LABEL_SMOOTHING,
            smoothing_rule: SmoothingRule::Others,
        }
    }
}

/// One phase of training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PhaseConfig {
    /// Samples of a batch.
    pub batch_size: usize,
    /// Length in epochs.
    pub epochs: u64,
    /// Length in steps; wins over `epochs`.
    pub steps: Option<u64>,
    /// Length in steps where only so many labels a class are used; the next larger key counts.
    pub steps_by_labels: BTreeMap<String, u64>,
    /// What schedule time, `warmup` and the intervals of `log` are counted in.
    pub unit: ScheduleUnit,
    /// The rate after warm-up.
    pub learning_rate: f64,
    /// The rate at the end.
    pub final_learning_rate: f64,
    /// Where a cosine ends, which may be behind the last step; 0 is at the last step.
    pub schedule_length: f64,
    /// Length of the warm-up.
    pub warmup: f64,
    /// Length of the warm-up as a part of the whole; used where `warmup` is 0.
    pub warmup_fraction: f64,
    /// The rate at the beginning of a warm-up.
    pub warmup_from: f64,
    /// Where there are any, the rate is constant but for these 0-based times, at which it falls by `milestone_factor`.
    pub milestones: Vec<f64>,
    /// What the rate is multiplied by at a milestone.
    pub milestone_factor: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Gradients are clipped to this global L2 norm; 0 does not clip.
    pub max_grad_norm: f64,
    /// Gradient accumulation: a batch is split into so many micro-batches whose gradients are summed before the step. Less
    /// memory, the same step up to rounding; batch norm uses the statistics of a micro-batch.
    pub accumulation_steps: usize,
    /// Of what batch norms use the statistics.
    pub batch_norm: BatchNormScope,
    /// Decay of the moving average of the weights, which is then what is evaluated and kept; 0 is none.
    pub ema_decay: f64,
    /// Products of layers in `bf16`: faster where the processor has them, at three digits.
    pub bf16: bool,
    /// Treatment of the last batch of an epoch.
    pub last_batch: LastBatch,
    /// Each axis of a cloud is multiplied by its own factor between these two.
    pub scale: [f64; 2],
    /// Center and normalize after scaling.
    pub normalize: bool,
    /// Then each axis of a cloud is moved by its own offset, up to this far either way.
    pub shift: f64,
    /// When height is measured.
    pub height: HeightFrom,
    /// Turn clouds and their views by a random angle about y.
    pub rotate_y: bool,
    /// Which weights of a fine-tuning are its result.
    pub select: Selection,
    /// Steps of a fine-tuning before the first that moves the encoder; 0 moves it from the first on, and as many as there are
    /// steps never. A frozen encoder has no gradient, no weight decay and no optimizer step; its batch norms keep their
    /// running statistics and use them, and nothing of it is dropped, as in an evaluation. Schedule time goes on meanwhile.
    pub freeze_encoder_steps: u64,
    /// Factor of the encoder's learning rate in a fine-tuning; the head has the rate of the schedule.
    pub encoder_rate: f64,
    /// Factor of a layer's learning rate for each layer between it and the head, on top of `encoder_rate`, as in fine-tunings
    /// of `BEiT` and MAE: with 0.65 the last block learns at 0.65 of the rate, the one below it at 0.65².
    pub layer_decay: f64,
    /// What a class weighs in the loss of a fine-tuning, and a part in that of part segmentation.
    pub class_weights: ClassWeights,
}

/// Of what a batch norm uses the statistics in a training step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BatchNormScope {
    /// Of its micro-batch.
    #[default]
    MicroBatch,
    /// Of all micro-batches of the step, as if the batch were not split: each is computed on a rank of its own.
    Synchronized,
}

impl BatchNormScope {
    /// Whether ranks compute their statistics together.
    #[must_use]
    pub fn is_synchronized(self) -> bool {
        self == Self::Synchronized
    }
}

/// Which weights of a fine-tuning are its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Selection {
    /// Those of the last step.
    #[default]
    Last,
    /// Those of the best evaluation on the split `val`, which is neither trained on nor scored.
    Validation,
    /// Those of the best evaluation on the very split that is scored, as most published numbers are: too good by the luck of
    /// the best of many.
    BestOnTest,
}

impl Selection {
    /// The default, which plans of earlier versions do not name.
    #[must_use]
    pub fn is_last(&self) -> bool {
        *self == Self::Last
    }
}

/// What smoothing takes from the true class goes to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SmoothingRule {
    /// ε / (C - 1) for each other class, 1 - ε for the true one: as TAP, openpoints and DGCNN smooth.
    #[default]
    Others,
    /// ε / C for each class, the true one too, which keeps 1 - ε + ε / C: `label_smoothing` of PyTorch.
    All,
}

impl SmoothingRule {
    /// The default, which plans of earlier versions do not name.
    #[must_use]
    pub fn is_others(&self) -> bool {
        *self == Self::Others
    }

    /// What all other classes get together.
    #[must_use]
    pub fn share_of_others(self, epsilon: f64, num_classes: usize) -> f64 {
        match self {
            Self::Others => epsilon,
            Self::All => epsilon * num_classes.saturating_sub(1) as f64 / num_classes.max(1) as f64,
        }
    }
}

impl Default for PhaseConfig {
    fn default() -> Self {
        Self {
            batch_size: DEFAULT_BATCH_SIZE,
            epochs: DEFAULT_EPOCHS,
            steps: None,
            steps_by_labels: BTreeMap::new(),
            unit: ScheduleUnit::Epoch,
            learning_rate: DEFAULT_LEARNING_RATE,
            final_learning_rate: DEFAULT_FINAL_LEARNING_RATE,
            schedule_length: 0.0,
            warmup: 0.0,
            warmup_fraction: 0.0,
            warmup_from: DEFAULT_WARMUP_FROM,
            milestones: Vec::new(),
            milestone_factor: DEFAULT_MILESTONE_FACTOR,
            weight_decay: DEFAULT_WEIGHT_DECAY,
            max_grad_norm: DEFAULT_MAX_GRAD_NORM,
            accumulation_steps: 1,
            batch_norm: BatchNormScope::MicroBatch,
            ema_decay: 0.0,
            bf16: false,
            last_batch: LastBatch::Drop,
            scale: DEFAULT_SCALE,
            normalize: true,
            shift: 0.0,
            height: HeightFrom::Original,
            rotate_y: false,
            select: Selection::Last,
            freeze_encoder_steps: 0,
            encoder_rate: 1.0,
            layer_decay: 1.0,
            class_weights: ClassWeights::default(),
        }
    }
}

/// Logging. Intervals are counted in the unit of the phase's schedule; 0 is never.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// Interval of records in `metrics.jsonl`, in steps.
    pub record_every_steps: u64,
    /// Interval of checkpoints; there is always one at the end.
    pub checkpoint_every: u64,
    /// Checkpoints kept.
    pub keep_checkpoints: usize,
    /// Interval of evaluations; there is always one at the end.
    pub validate_every: u64,
    /// Interval of images of generated views; there is always one at the end.
    pub images_every: u64,
    /// Objects in such an image.
    pub num_images: usize,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            record_every_steps: 1,
            checkpoint_every: 1,
            keep_checkpoints: DEFAULT_KEEP_CHECKPOINTS,
            validate_every: 1,
            images_every: 5,
            num_images: DEFAULT_NUM_IMAGES,
        }
    }
}

pub(crate) fn invalid(reason: impl Into<String>) -> TrainError {
    TrainError::Config {
        reason: reason.into(),
    }
}
