//! What a configuration means for one data set and one task: a value for everything.

use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tap_dataset::{BlockShuffle, Split};

use super::{
    BatchNormScope, ClassWeights, Config, LogConfig, LossConfig, MethodConfig, MethodPlan, PhaseConfig,
    Selection, invalid, range,
};
use crate::data::augment::{Augmentation, PartAugmentation};
use crate::data::collator::PointSampling;
use crate::data::point_view::HiddenPoints;
use crate::data::sampler::{BatchSampler, LastBatch, RowOrder, micro_batch_size};
use crate::error::TrainError;
use crate::model::{EncoderConfig, HeadConfig, TapConfig};
use crate::optim::AdamWConfig;
use crate::optim::schedule::{Curve, Schedule, ScheduleUnit};

/// `AdamW`: betas and epsilon (`docs/method.md`, "Optimization").
const BETAS: [f64; 2] = [0.9, 0.999];
const EPSILON: f64 = 1e-8;

/// The task of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Pre-train an encoder.
    Pretrain,
    /// Name the class.
    Classify,
    /// Name the part of every point.
    Segment,
    /// A task that this crate does not know, by its name; trained as `[finetune]` says.
    #[serde(untagged)]
    Other(String),
}

impl Task {
    /// The task of this name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        match name {
            "pretrain" => Self::Pretrain,
            "classify" => Self::Classify,
            "segment" => Self::Segment,
            other => Self::Other(other.to_owned()),
        }
    }

    /// Where it stands in a configuration.
    pub(crate) fn table(&self) -> &'static str {
        match self {
            Self::Pretrain => "pretrain",
            Self::Classify | Self::Other(_) => "finetune",
            Self::Segment => "segment",
        }
    }

    /// Its settings.
    pub(crate) fn phase<'a>(&self, config: &'a Config) -> &'a PhaseConfig {
        match self {
            Self::Pretrain => &config.pretrain,
            Self::Classify | Self::Other(_) => &config.finetune,
            Self::Segment => &config.segment,
        }
    }

    /// Does its network have a batch norm with one value a sample and channel, as a classification head has? The batch
    /// norms of encoders see all points of all samples.
    fn has_batch_norm_over_samples(&self, head: &HeadConfig) -> bool {
        match self {
            Self::Pretrain => false,
            Self::Classify | Self::Other(_) => !head.widths.is_empty(),
            Self::Segment => true,
        }
    }

    /// Does it train on points with normals and parts?
    fn has_parts(&self, dataset_info: &DatasetInfo) -> bool {
        match self {
            Self::Pretrain | Self::Classify => false,
            Self::Segment => true,
            Self::Other(_) => dataset_info.parts_by_class.iter().any(|parts| !parts.is_empty()),
        }
    }
}

/// Properties of a data set that a plan depends on; by default there is nothing in it.
#[derive(Debug, Clone, Default)]
pub struct DatasetInfo {
    /// SHA-256 of the data set.
    pub sha256: String,
    /// Rows of train, val and test.
    pub num_rows: [usize; 3],
    /// Rows to train on, after a choice of labels.
    pub num_train_rows: usize,
    /// Views of a row.
    pub num_views: usize,
    /// Pixels along a side of a view.
    pub image_size_px: u32,
    /// The parts of each class; empty lists without part labels.
    pub parts_by_class: Vec<Vec<u8>>,
    /// Data sets that are mixed into the training rows.
    pub mix: Vec<MixPlan>,
    /// The feature set in use.
    pub features: Option<FeatureInfo>,
    /// Training objects of each class, or, for part segmentation, training points of each part; empty where nothing needs
    /// them.
    pub label_counts: Vec<u64>,
}

/// Properties of a feature set that a plan depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureInfo {
    /// SHA-256 of the set.
    pub sha256: String,
    /// V: images of an object.
    pub num_views: usize,
    /// C: channels of a patch.
    pub num_channels: usize,
}

/// The resolved configuration of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "PlanFile", try_from = "PlanFile")]
pub struct Plan {
    /// The task.
    pub task: Task,
    /// The preset it came from; "none" without one.
    pub preset: String,
    /// Seed of everything random.
    pub seed: u64,
    /// SHA-256 of the data.
    pub data_sha256: String,
    /// Labels a class used in training; 0 is all.
    pub labels_per_class: usize,
    /// SHA-256 of the file that the encoder started from; "none" for random weights.
    pub init_sha256: String,
    /// Input data.
    pub data: DataPlan,
    /// Length, learning rate, optimizer and augmentation.
    pub phase: PhasePlan,
    /// Parts, for part segmentation.
    pub parts: Option<PartPlan>,
    /// The losses.
    pub loss: LossConfig,
    /// Logging.
    pub log: LogPlan,
    /// The classification head.
    pub head: HeadConfig,
    /// The backbone.
    pub encoder: EncoderConfig,
    /// The pre-training method, which also stands in the plan of a fine-tuning.
    pub method: MethodPlan,
    /// The run that this one continues with other steps or another learning rate.
    pub continued_from: Option<ContinuedFrom>,
}

/// The checkpoint of another run that a run goes on from, with weights, moments and step, and what it changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContinuedFrom {
    /// Steps that the checkpoint was trained for.
    pub step: u64,
    /// SHA-256 of the other run's plan.
    pub config_sha256: String,
    /// SHA-256 of the file of weights.
    pub weights_sha256: String,
    /// What is changed, each as `key (before, now after)`.
    pub changed: Vec<String>,
}

/// A plan as `config.toml` has it. Names and order are those of all versions: the hash of a plan depends on them.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanFile {
    task: Task,
    preset: String,
    seed: u64,
    data_sha256: String,
    labels_per_class: usize,
    init_sha256: String,
    data: DataPlan,
    phase: PhasePlan,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parts: Option<PartPlan>,
    loss: LossConfig,
    log: LogPlan,
    head: HeadConfig,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tap: Option<TapConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    encoder: Option<EncoderConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    method: Option<MethodConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    continued_from: Option<ContinuedFrom>,
}

impl From<Plan> for PlanFile {
    fn from(plan: Plan) -> Self {
        let Plan {
            task,
            preset,
            seed,
            data_sha256,
            labels_per_class,
            init_sha256,
            data,
            phase,
            parts,
            loss,
            log,
            head,
            encoder,
            method,
            continued_from,
        } = plan;
        let (tap, encoder, method) = match method {
            MethodPlan::Tap { photograph, decoder } => {
                let tap = TapConfig {
                    encoder,
                    photograph,
                    decoder,
                };
                (Some(tap), None, None)
            }
            MethodPlan::Other(method) => (None, Some(encoder), Some(method)),
        };
        Self {
            task,
            preset,
            seed,
            data_sha256,
            labels_per_class,
            init_sha256,
            data,
            phase,
            parts,
            loss,
            log,
            head,
            tap,
            encoder,
            method,
            continued_from,
        }
    }
}

impl TryFrom<PlanFile> for Plan {
    type Error = &'static str;

    fn try_from(file: PlanFile) -> Result<Self, Self::Error> {
        let PlanFile {
            task,
            preset,
            seed,
            data_sha256,
            labels_per_class,
            init_sha256,
            data,
            phase,
            parts,
            loss,
            log,
            head,
            tap,
            encoder,
            method,
            continued_from,
        } = file;
        let (encoder, method) = match (tap, encoder, method) {
            (Some(tap), None, None) => {
                let TapConfig {
                    encoder,
                    photograph,
                    decoder,
                } = tap;
                (encoder, MethodPlan::Tap { photograph, decoder })
            }
            (None, Some(encoder), Some(method)) => (encoder, MethodPlan::Other(method)),
            _ => return Err("a plan has either [tap], or [encoder] and [method]"),
        };
        Ok(Self {
            task,
            preset,
            seed,
            data_sha256,
            labels_per_class,
            init_sha256,
            data,
            phase,
            parts,
            loss,
            log,
            head,
            encoder,
            method,
            continued_from,
        })
    }
}

/// Input data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataPlan {
    /// Points of a cloud.
    pub num_points: usize,
    /// How they are sampled from those of a row.
    pub point_choice: PointSampling,
    /// Views drawn per sample and epoch.
    pub num_views: usize,
    /// Training splits.
    pub train_splits: Vec<Split>,
    /// Evaluation split.
    pub evaluation_split: Split,
    /// The image set that images come from; empty for the data set's own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub images: String,
    /// Whether they are drawn in color.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub color: bool,
    /// The feature set that 2D features come from; empty for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub features: String,
    /// What a view says of points that it hides.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hidden_points: HiddenPoints,
    /// Size of the cache of encoded rows, in bytes.
    pub cache_bytes: u64,
    /// The condition on rows; empty for all.
    #[serde(rename = "where", default, skip_serializing_if = "String::is_empty")]
    pub filter: String,
    /// Part of the training rows of each data set.
    #[serde(default = "whole", skip_serializing_if = "is_whole")]
    pub fraction: f64,
    /// Samples that leave their places empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leave_out: Vec<String>,
    /// The order of rows; that of earlier versions if absent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub order: RowOrder,
    /// Sizes of blocks and windows, for rows that are shuffled in blocks.
    #[serde(default, skip_serializing_if = "is_default")]
    pub blocks: BlockShuffle,
    /// Data sets that are mixed into the training rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mix: Vec<MixPlan>,
}

impl DataPlan {
    /// Keeps the order of a run that an earlier version began: no setting names another one for it.
    pub(crate) fn keep_listed(&mut self, begun: &Self) {
        if begun.order == RowOrder::Listed {
            self.order = RowOrder::Listed;
        }
    }
}

/// A data set that is mixed into the training rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixPlan {
    /// SHA-256 of the data.
    pub data_sha256: String,
    /// Samples of it for each one of the data set that is trained on; as many as it has rows if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
}

fn whole() -> f64 {
    1.0
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
fn is_whole(fraction: &f64) -> bool {
    *fraction >= whole()
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
fn is_one(factor: &f64) -> bool {
    factor.to_bits() == whole().to_bits()
}

pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Length, learning rate, optimizer and augmentation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhasePlan {
    /// Samples of a batch.
    pub batch_size: usize,
    /// Micro-batches of a batch.
    #[serde(rename = "num_parts", alias = "accumulation_steps")]
    pub accumulation_steps: usize,
    /// Of what batch norms use the statistics.
    #[serde(default, skip_serializing_if = "is_default")]
    pub batch_norm: BatchNormScope,
    /// Decay of the moving average of the weights; 0 is none.
    pub ema_decay: f64,
    /// Whether products are in `bf16`.
    pub bf16: bool,
    /// Length.
    pub num_steps: u64,
    /// Treatment of the last batch of an epoch.
    #[serde(rename = "tail", alias = "last_batch")]
    pub last_batch: LastBatch,
    /// The learning rate.
    pub schedule: Schedule,
    /// The optimizer.
    pub optimizer: AdamWConfig,
    /// Augmentation of clouds.
    pub augmentation: Augmentation,
    /// Which weights of a fine-tuning are its result.
    #[serde(default, skip_serializing_if = "Selection::is_last")]
    pub select: Selection,
    /// Steps before the first that moves the encoder.
    #[serde(default, skip_serializing_if = "is_default")]
    pub freeze_encoder_steps: u64,
    /// Factor of the encoder's learning rate.
    #[serde(default = "whole", skip_serializing_if = "is_one")]
    pub encoder_rate: f64,
    /// Factor of a layer's learning rate for each layer between it and the head.
    #[serde(default = "whole", skip_serializing_if = "is_one")]
    pub layer_decay: f64,
    /// What each class, or part, weighs in the loss; all the same if there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub class_weights: Vec<f64>,
}

/// Parts of objects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartPlan {
    /// The parts of each class.
    pub by_class: Vec<Vec<u8>>,
    /// Augmentation of points and normals.
    pub augmentation: PartAugmentation,
    /// Score after the refinement by neighbors too: asked for by an evaluation, never by a training.
    #[serde(skip)]
    pub refines: bool,
}

/// Logging, intervals in steps; 0 is never.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogPlan {
    /// Interval of step records.
    pub record_every: u64,
    /// Interval of checkpoints.
    pub checkpoint_every: u64,
    /// Checkpoints kept.
    pub keep_checkpoints: usize,
    /// Interval of evaluations.
    pub validate_every: u64,
    /// Interval of images.
    #[serde(rename = "pictures_every", alias = "images_every")]
    pub images_every: u64,
    /// Objects in an image.
    #[serde(rename = "num_pictures", alias = "num_images")]
    pub num_images: usize,
}

impl Plan {
    /// Resolves `config` for a data set and a task.
    ///
    /// # Errors
    /// Where the configuration contradicts itself or the data.
    pub fn resolve(
        config: &Config,
        task: Task,
        labels_per_class: usize,
        init_sha256: &str,
        dataset_info: &DatasetInfo,
        method: MethodPlan,
    ) -> Result<Self, TrainError> {
        range::check(config).map_err(invalid)?;
        let phase = task.phase(config);
        if !(1..=phase.batch_size).contains(&phase.accumulation_steps) {
            return Err(invalid(format!(
                "accumulation_steps = {} micro-batches of a batch of {}",
                phase.accumulation_steps, phase.batch_size
            )));
        }
        if phase.last_batch == LastBatch::Drop && dataset_info.num_train_rows < phase.batch_size {
            let reason = format!(
                "{} training objects do not fill a batch of {}; set a smaller batch_size, or last_batch = \"carry\"",
                dataset_info.num_train_rows, phase.batch_size
            );
            return Err(invalid(reason));
        }
        if task == Task::Segment && dataset_info.parts_by_class.iter().all(Vec::is_empty) {
            return Err(invalid(
                "the data set has no part labels, and part segmentation needs them",
            ));
        }
        let sampler = BatchSampler {
            num_rows: dataset_info.num_train_rows,
            batch_size: phase.batch_size,
            last_batch: phase.last_batch,
            shuffle: None,
        };
        let steps_per_epoch = sampler.steps_per_epoch().max(1);
        let num_steps = num_steps(phase, labels_per_class, steps_per_epoch);
        let evaluation_split = evaluation_split(config, &task, dataset_info);
        check_selection(config, &task, evaluation_split, dataset_info)?;
        check_encoder_training(config, &task)?;
        if phase.batch_norm.is_synchronized() {
            refuse_missing_micro_batches(task.table(), phase, &sampler)?;
        }
        if task.has_batch_norm_over_samples(&config.head) {
            refuse_single_samples(task.table(), phase, &sampler, num_steps)?;
        }
        Ok(Self {
            preset: config.preset.clone().unwrap_or_else(|| String::from("none")),
            seed: config.seed,
            data_sha256: dataset_info.sha256.clone(),
            labels_per_class,
            init_sha256: init_sha256.to_owned(),
            data: DataPlan {
                num_points: config.data.num_points,
                point_choice: config.data.point_choice,
                num_views: config.data.num_views.min(dataset_info.num_views),
                train_splits: config.data.train_splits.clone(),
                evaluation_split,
                images: config.data.images.clone(),
                color: config.data.color,
                features: config.data.features.clone(),
                hidden_points: config.data.hidden_points,
                cache_bytes: config.data.cache_mib << 20,
                filter: config.data.filter.clone(),
                fraction: config.data.fraction,
                leave_out: config.data.leave_out.clone(),
                order: config.data.order,
                blocks: match config.data.order {
                    RowOrder::Blocks => config.data.blocks,
                    RowOrder::Keyed | RowOrder::Listed => BlockShuffle::default(),
                },
                mix: dataset_info.mix.clone(),
            },
            phase: PhasePlan {
                class_weights: class_weights(&task, phase, dataset_info)?,
                ..phase_plan(phase, num_steps, steps_per_epoch)
            },
            parts: task.has_parts(dataset_info).then(|| PartPlan {
                by_class: dataset_info.parts_by_class.clone(),
                augmentation: config.parts,
                refines: false,
            }),
            loss: config.loss.clone(),
            log: log_plan(&config.log, phase.unit, steps_per_epoch),
            head: config.head.clone(),
            task,
            encoder: config.encoder.clone(),
            method,
            continued_from: None,
        })
    }

    /// Which weights a run gives.
    #[must_use]
    pub fn selection(&self) -> String {
        let scored = self.data.evaluation_split;
        let mut parts = vec![match self.phase.select {
            Selection::Last => String::from("last step"),
            Selection::Validation => String::from("best on val"),
            Selection::BestOnTest => {
                format!("best on {scored}, which is selection on the split that is scored")
            }
        }];
        if self.phase.ema_decay > 0.0 {
            parts.push(String::from("moving average"));
        }
        if let Some(ContinuedFrom { step, .. }) = self.continued_from {
            parts.push(format!("continued from step {step} of another run"));
        }
        parts.join(", ")
    }

    /// SHA-256 of what the numbers of a run depend on, which is what results and weights name: cache, log and the name of
    /// the preset leave it as it is.
    #[must_use]
    pub fn identity_sha256(&self) -> String {
        self.numbers().sha256()
    }

    /// SHA-256 of the whole plan, which earlier versions named in results and weights.
    ///
    /// # Panics
    /// Never: a plan is plain data.
    #[must_use]
    pub fn sha256(&self) -> String {
        let json = serde_json::to_vec(self).expect("a plan is plain data");
        tap_dataset::sha256::hex(&Sha256::digest(json))
    }

    /// Reads `config.toml` of a run.
    ///
    /// # Errors
    /// Where there is none, or it is damaged.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let text = std::fs::read_to_string(path).map_err(TrainError::io("read", path))?;
        toml::from_str(&text).map_err(|error| invalid(format!("{}: {}", path.display(), error.message())))
    }

    /// From [`Plan::to_toml`].
    ///
    /// # Errors
    /// Where it is not one.
    pub fn from_toml(text: &str) -> Result<Self, TrainError> {
        toml::from_str(text).map_err(|error| invalid(error.message()))
    }

    /// As TOML.
    ///
    /// # Errors
    /// Where a number does not fit into TOML: a seed above 2^63.
    pub fn to_toml(&self) -> Result<String, TrainError> {
        toml::to_string(self).map_err(|error| invalid(error.to_string()))
    }
}

/// Refuses batches of fewer micro-batches than ranks that wait for each other in each batch norm.
fn refuse_missing_micro_batches(
    table: &str,
    phase: &PhaseConfig,
    sampler: &BatchSampler,
) -> Result<(), TrainError> {
    let wanted = phase.accumulation_steps;
    let count = |batch: usize| batch.div_ceil(micro_batch_size(batch, wanted));
    let batches = [sampler.first_batch(), sampler.last_batch()];
    let Some(batch) = batches.into_iter().find(|batch| count(*batch) < wanted) else {
        return Ok(());
    };
    Err(invalid(format!(
        "{table}.batch_norm = \"synchronized\" wants a micro-batch on each rank, and a batch of {batch} objects makes {} of accumulation_steps = {wanted}; set another batch_size, or last_batch = \"carry\"",
        count(batch)
    )))
}

/// Refuses what would normalize a single sample: its variance is 0 / 0.
fn refuse_single_samples(
    table: &str,
    phase: &PhaseConfig,
    sampler: &BatchSampler,
    num_steps: u64,
) -> Result<(), TrainError> {
    let last_part_is_single = |batch: &usize| {
        let size = micro_batch_size(*batch, phase.accumulation_steps);
        (*batch - 1).is_multiple_of(size)
    };
    let first = (num_steps > 0).then(|| sampler.first_batch());
    let last = (num_steps >= sampler.steps_per_epoch().max(1)).then(|| sampler.last_batch());
    let Some(batch) = first.into_iter().chain(last).find(last_part_is_single) else {
        return Ok(());
    };
    let single = if batch == 1 {
        String::from("a batch of a single sample")
    } else {
        format!("a micro-batch of a single sample, of a batch of {batch}")
    };
    let (last_batch, or_carry) = match phase.last_batch {
        LastBatch::Drop => ("drop", ""),
        LastBatch::Keep => ("keep", ", or last_batch = \"carry\""),
        LastBatch::Carry => ("carry", ""),
    };
    Err(invalid(format!(
        "{table}.batch_size = {}, accumulation_steps = {} and last_batch = \"{last_batch}\" over {} training objects make {single}, which the batch norm of the head cannot normalize; set another batch_size or accumulation_steps{or_carry}",
        phase.batch_size, phase.accumulation_steps, sampler.num_rows
    )))
}

fn num_steps(phase: &PhaseConfig, labels_per_class: usize, steps_per_epoch: u64) -> u64 {
    let by_labels = phase
        .steps_by_labels
        .iter()
        .filter_map(|(labels, steps)| labels.parse::<usize>().ok().map(|labels| (labels, *steps)))
        .filter(|(labels, _)| labels_per_class > 0 && *labels >= labels_per_class)
        .min();
    match (by_labels, phase.steps) {
        (Some((_, steps)), _) | (None, Some(steps)) => steps,
        (None, None) => phase.epochs * steps_per_epoch,
    }
}

fn evaluation_split(config: &Config, task: &Task, dataset_info: &DatasetInfo) -> Split {
    // Pre-training needs no labels, so it may go on with objects that it trains on.
    let [first, second, last] = match task {
        Task::Pretrain => [Split::Val, Split::Test, Split::Train],
        Task::Classify | Task::Segment | Task::Other(_) => [Split::Test, Split::Val, Split::Test],
    };
    let has_rows = |split: &Split| dataset_info.num_rows[*split as usize] > 0;
    let held_out = [first, second].into_iter().find(has_rows);
    config.data.evaluation_split.or(held_out).unwrap_or(last)
}

/// Refuses to select by an evaluation that there is none of, or on rows that are trained on or scored.
fn check_selection(
    config: &Config,
    task: &Task,
    scored: Split,
    dataset_info: &DatasetInfo,
) -> Result<(), TrainError> {
    let select = task.phase(config).select;
    let table = task.table();
    if select == Selection::Last {
        return Ok(());
    }
    if *task == Task::Pretrain {
        return Err(invalid(format!(
            "{table}.select: a pre-training ends with its last step"
        )));
    }
    if config.log.validate_every == 0 {
        return Err(invalid(format!(
            "{table}.select: log.validate_every = 0 leaves one evaluation, and nothing to select"
        )));
    }
    if select == Selection::BestOnTest {
        return Ok(());
    }
    let reason = if dataset_info.num_rows[Split::Val as usize] == 0 {
        "the data set has no split val; make one with `tap dataset resplit`"
    } else if scored == Split::Val {
        "the split val is the one that is scored"
    } else if config.data.train_splits.contains(&Split::Val) {
        "the split val is trained on"
    } else {
        return Ok(());
    };
    Err(invalid(format!("{table}.select = \"validation\": {reason}")))
}

/// Refuses what is said about the encoder, or the classes, of a fine-tuning where it would do nothing or harm.
fn check_encoder_training(config: &Config, task: &Task) -> Result<(), TrainError> {
    let (phase, table) = (task.phase(config), task.table());
    let factors = [phase.encoder_rate, phase.layer_decay];
    let settings = [
        ("freeze_encoder_steps", phase.freeze_encoder_steps > 0),
        ("encoder_rate", !is_one(&factors[0])),
        ("layer_decay", !is_one(&factors[1])),
        ("class_weights", phase.class_weights != ClassWeights::default()),
    ];
    let set = settings.iter().find(|(_, is_set)| *is_set);
    if let (Task::Pretrain, Some((setting, _))) = (task, set) {
        return Err(invalid(format!(
            "{table}.{setting} is a setting of fine-tuning; a pre-training has neither a head nor classes"
        )));
    }
    let is_other_input = *task == Task::Segment && matches!(config.encoder, EncoderConfig::PointMlp(_));
    if is_other_input && phase.freeze_encoder_steps > 0 {
        return Err(invalid(format!(
            "{table}.freeze_encoder_steps: in part segmentation the first layer of point_mlp reads normals too and starts at random, so the encoder cannot be frozen"
        )));
    }
    Ok(())
}

/// The weight of each class, or of each part in part segmentation.
fn class_weights(
    task: &Task,
    phase: &PhaseConfig,
    dataset_info: &DatasetInfo,
) -> Result<Vec<f64>, TrainError> {
    let by_class = &dataset_info.parts_by_class;
    let (count, what) = match task {
        Task::Segment => (num_parts(by_class), "parts"),
        _ => (by_class.len(), "classes"),
    };
    let weights = phase
        .class_weights
        .resolve(count, &dataset_info.label_counts, what);
    weights.map_err(|reason| invalid(format!("{}.{reason}", task.table())))
}

/// Parts over all classes.
pub(crate) fn num_parts(by_class: &[Vec<u8>]) -> usize {
    by_class
        .iter()
        .flatten()
        .max()
        .map_or(1, |last| usize::from(*last) + 1)
}

fn phase_plan(phase: &PhaseConfig, num_steps: u64, steps_per_epoch: u64) -> PhasePlan {
    let length = match phase.unit {
        ScheduleUnit::Step => num_steps as f64,
        ScheduleUnit::Epoch => num_steps as f64 / steps_per_epoch as f64,
    };
    let length = if phase.schedule_length > 0.0 {
        phase.schedule_length
    } else {
        length
    };
    let warmup = if phase.warmup > 0.0 {
        phase.warmup
    } else {
        phase.warmup_fraction * length
    };
    let curve = if phase.milestones.is_empty() {
        Curve::Cosine {
            warmup,
            warmup_from: phase.warmup_from,
            minimum: phase.final_learning_rate,
            length,
        }
    } else {
        Curve::Multistep {
            milestones: phase.milestones.clone(),
            factor: phase.milestone_factor,
        }
    };
    PhasePlan {
        batch_size: phase.batch_size,
        accumulation_steps: phase.accumulation_steps,
        batch_norm: phase.batch_norm,
        ema_decay: phase.ema_decay,
        bf16: phase.bf16,
        num_steps,
        last_batch: phase.last_batch,
        schedule: Schedule {
            base: phase.learning_rate,
            unit: phase.unit,
            curve,
        },
        optimizer: AdamWConfig {
            beta1: BETAS[0],
            beta2: BETAS[1],
            epsilon: EPSILON,
            weight_decay: phase.weight_decay,
            max_grad_norm: phase.max_grad_norm,
        },
        augmentation: Augmentation {
            scale: phase.scale,
            height: phase.height,
            normalize: phase.normalize,
            shift: phase.shift,
            rotate_y: phase.rotate_y,
        },
        select: phase.select,
        freeze_encoder_steps: phase.freeze_encoder_steps,
        encoder_rate: phase.encoder_rate,
        layer_decay: phase.layer_decay,
        class_weights: Vec::new(),
    }
}

fn log_plan(log: &LogConfig, unit: ScheduleUnit, steps_per_epoch: u64) -> LogPlan {
    let factor = match unit {
        ScheduleUnit::Step => 1,
        ScheduleUnit::Epoch => steps_per_epoch,
    };
    LogPlan {
        record_every: log.record_every_steps,
        checkpoint_every: log.checkpoint_every * factor,
        keep_checkpoints: log.keep_checkpoints.max(1),
        validate_every: log.validate_every * factor,
        images_every: log.images_every * factor,
        num_images: log.num_images,
    }
}
