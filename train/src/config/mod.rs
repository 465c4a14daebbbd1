//! Configuration: [`Config`] is what the user typed, [`Plan`] what it means for one data set and one task.
//!
//! A configuration is a preset, a file that may name a preset to start from, and `--set key=value` on top, merged as
//! TOML tables. The plan has a value for everything and is written to `config.toml` of the run.

mod method;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tap_cli::settings::{self, Presets, Setting, merge, no_expansion};
use tap_dataset::Split;
use toml::{Table, Value};

use crate::data::augment::{Augmentation, HeightFrom, PartAugmentation};
use crate::data::loader::{BatchSampler, LastBatch, PointSampling};
use crate::error::TrainError;
use crate::model::loss::{PhotographWeights, PixelDistance};
use crate::model::{Compat, DecoderConfig, EncoderConfig, HeadConfig, TapConfig};
use crate::optim::AdamWConfig;
use method::method_table;

use crate::optim::schedule::{Curve, Schedule, ScheduleUnit};
pub use method::{MethodConfig, MethodPlan, TAP};

/// A preset's name and text.
macro_rules! preset {
    ($name:literal) => {
        (
            $name,
            include_str!(concat!("../../../assets/presets/", $name, ".toml")),
        )
    };
}

/// The presets, by name: `mini` and its variants for minutes on a CPU, `paper` for published sizes and schedules.
pub const PRESETS: Presets = Presets(&[
    preset!("mini"),
    preset!("mini-dgcnn"),
    preset!("mini-point-mlp"),
    preset!("mini-point-next"),
    preset!("mini-transformer"),
    preset!("paper-dgcnn"),
    preset!("paper-point-mlp"),
    preset!("paper-point-mlp-elite"),
    preset!("paper-point-net2"),
    preset!("paper-point-next"),
    preset!("paper-transformer"),
]);

/// The preset where none is named.
pub const DEFAULT_PRESET: &str = "mini";

/// Points of a cloud (`docs/method.md`, "Point clouds").
const DEFAULT_NUM_POINTS: usize = 1024;
/// Views drawn per sample and epoch (`docs/method.md`, "Views drawn per step").
const DEFAULT_NUM_VIEWS: usize = 6;
/// Encoded rows kept in memory, in MiB.
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
/// Total L2 norm to which gradients are clipped (`docs/method.md`, "Optimization").
const DEFAULT_MAX_GRAD_NORM: f64 = 10.0;
/// `AdamW`: betas and epsilon (`docs/method.md`, "Optimization").
const BETAS: [f64; 2] = [0.9, 0.999];
const EPSILON: f64 = 1e-8;
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
/// Objects in a picture of generated and true views.
const DEFAULT_NUM_IMAGES: usize = 4;

/// What the user typed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The preset that this starts from.
    pub preset: Option<String>,
    /// Seed of everything random.
    pub seed: u64,
    /// Follow the paper or the released code where they differ; fills in what `photograph` leaves open.
    pub compat: Option<Compat>,
    /// What the network sees.
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
    /// What part segmentation does to points and normals on top.
    pub parts: PartAugmentation,
    /// What is written while training.
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

/// What the network sees of the data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// Points of a cloud.
    pub num_points: usize,
    /// Which points of a row.
    pub point_choice: PointSampling,
    /// Views drawn per sample and epoch.
    pub num_views: usize,
    /// What to train on.
    pub train_splits: Vec<Split>,
    /// What to report on; if absent, pre-training takes `val` or else `test`, classification `test` or else `val`.
    pub evaluation_split: Option<Split>,
    /// The image set that pictures come from, made by `tap dataset relight --add`; empty for the data set's own.
    pub images: String,
    /// Draw them in color and not in gray: the last layer of the decoder then has three channels, whatever it says.
    pub color: bool,
    /// Encoded rows kept in memory, in MiB; what does not fit is read again.
    pub cache_mib: u64,
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
            cache_mib: DEFAULT_CACHE_MIB,
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
    /// The VGG16 that the perceptual loss looks through: torchvision's weights, as safetensors or as PyTorch saves them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub perceptual_network: Option<PathBuf>,
    /// What the true label gives to the other classes.
    pub label_smoothing: f64,
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
    /// Gradients are clipped to this total L2 norm.
    pub max_grad_norm: f64,
    /// A batch is computed in so many parts, one after the other, whose gradients are added before the step: less memory,
    /// the same step but for rounding, and batch statistics that are those of a part.
    pub accumulation_steps: usize,
    /// Decay of the moving average of the weights, which is then what is evaluated and kept; 0 is none.
    pub ema_decay: f64,
    /// Products of layers in `bf16`: faster where the processor has them, at three digits.
    pub bf16: bool,
    /// What becomes of the end of an epoch.
    pub last_batch: LastBatch,
    /// Each axis of a cloud is multiplied by its own factor between these two.
    pub scale: [f64; 2],
    /// Center and normalize after scaling.
    pub normalize: bool,
    /// When height is measured.
    pub height: HeightFrom,
    /// Turn clouds and their views by a random angle about y.
    pub rotate_y: bool,
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
            warmup: 0.0,
            warmup_fraction: 0.0,
            warmup_from: DEFAULT_WARMUP_FROM,
            milestones: Vec::new(),
            milestone_factor: DEFAULT_MILESTONE_FACTOR,
            weight_decay: DEFAULT_WEIGHT_DECAY,
            max_grad_norm: DEFAULT_MAX_GRAD_NORM,
            accumulation_steps: 1,
            ema_decay: 0.0,
            bf16: false,
            last_batch: LastBatch::Drop,
            scale: DEFAULT_SCALE,
            normalize: true,
            height: HeightFrom::Original,
            rotate_y: false,
        }
    }
}

/// What is written while training. Intervals are counted in the unit of the phase's schedule; 0 is never.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// Steps between two records of `metrics.jsonl`.
    pub record_every_steps: u64,
    /// Between two checkpoints; there is always one at the end.
    pub checkpoint_every: u64,
    /// Checkpoints kept.
    pub keep_checkpoints: usize,
    /// Between two looks at the evaluation split; there is always one at the end.
    pub validate_every: u64,
    /// Between two pictures of generated views; there is always one at the end.
    pub images_every: u64,
    /// Objects in such a picture.
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

impl Config {
    /// A preset's name or a file, with `key=value` settings on top.
    ///
    /// # Errors
    /// Where there is no such preset or file, or something in it is unknown or of the wrong type.
    pub fn load(name_or_path: Option<&str>, settings: &[String]) -> Result<Self, TrainError> {
        let name_or_path = name_or_path.unwrap_or(DEFAULT_PRESET);
        // Below everything lie the defaults, so that a table that names only some keys leaves the others alone.
        let mut table = Table::try_from(Self::default()).map_err(|error| invalid(error.to_string()))?;
        merge(&mut table, read(name_or_path)?);
        resolve_settings(table, Some(Path::new(name_or_path)), settings)
    }

    /// This configuration with `key=value` settings on top.
    ///
    /// # Errors
    /// Where something in a setting is unknown or of the wrong type.
    pub fn with_settings(&self, settings: &[String]) -> Result<Self, TrainError> {
        let table = Table::try_from(self).map_err(|error| invalid(error.to_string()))?;
        resolve_settings(table, None, settings)
    }
}

fn resolve_settings(
    mut table: Table,
    file: Option<&Path>,
    settings: &[String],
) -> Result<Config, TrainError> {
    let settings: Vec<Setting> = settings
        .iter()
        .map(|setting| under_its_name(&setting.parse()?))
        .collect::<Result<_, _>>()?;
    // Who sets the steps of a phase means them for any number of labels.
    for phase in PHASES {
        let (steps, by_labels) = (format!("{phase}.steps"), format!("{phase}.steps_by_labels"));
        if settings.iter().any(|setting| setting.key() == steps)
            && !settings
                .iter()
                .any(|setting| setting.key().starts_with(&by_labels))
            && let Some(Value::Table(phase)) = table.get_mut(phase)
        {
            phase.remove("steps_by_labels");
        }
    }
    Ok(settings::resolve(table, file, &settings, &no_expansion)?)
}

/// Tables with the settings of one phase of training.
const PHASES: [&str; 3] = ["pretrain", "finetune", "segment"];
/// Keys with a second name: their tables, the name that is also accepted, and the name that counts. Most are the names of
/// earlier versions.
const KEY_ALIASES: [(&[&str], &str, &str); 6] = [
    (&PHASES, "clip_norm", "max_grad_norm"),
    (&PHASES, "accumulate", "accumulation_steps"),
    (&PHASES, "tail", "last_batch"),
    (&["log"], "pictures_every", "images_every"),
    (&["log"], "num_pictures", "num_images"),
    (&["photograph"], "feature_projection", "mixing"),
];

/// Replaces accepted names of keys by those that count.
fn resolve_aliases(table: &mut Table) -> Result<(), TrainError> {
    if let Some(method) = table.get_mut("method") {
        *method = method_table(method.clone());
    }
    for (tables, alias, name) in KEY_ALIASES {
        for &place in tables {
            let Some(Value::Table(settings)) = table.get_mut(place) else {
                continue;
            };
            let Some(value) = settings.remove(alias) else {
                continue;
            };
            if settings.insert(name.to_owned(), value).is_some() {
                return Err(invalid(format!(
                    "[{place}] {alias} and {name} are the same setting"
                )));
            }
        }
    }
    Ok(())
}

/// A preset, or a file on top of the preset that it names, with keys under the names that count.
fn read(name_or_path: &str) -> Result<Table, TrainError> {
    let path = Path::new(name_or_path);
    if PRESETS.names().any(|name| name == name_or_path) || !path.is_file() {
        let mut table = PRESETS.get_or_read(name_or_path)?;
        resolve_aliases(&mut table)?;
        return Ok(table);
    }
    let mut table = settings::read_table(path)?;
    resolve_aliases(&mut table)?;
    let Some(preset) = table.get("preset").and_then(Value::as_str) else {
        return Ok(table);
    };
    let mut base = PRESETS.get_or_read(preset)?;
    resolve_aliases(&mut base)?;
    merge(&mut base, table);
    Ok(base)
}

/// A setting whose key is an accepted name, under the name that counts.
fn under_its_name(setting: &Setting) -> Result<Setting, TrainError> {
    let mut typed = Table::new();
    setting.apply(&mut typed, &no_expansion)?;
    resolve_aliases(&mut typed)?;
    let mut keys: Vec<&str> = setting.key().split('.').collect();
    if let [place, key] = keys.as_mut_slice() {
        let alias = KEY_ALIASES
            .iter()
            .find(|(tables, alias, _)| tables.contains(place) && alias == key);
        *key = alias.map_or(*key, |(_, _, name)| name);
    }
    let mut value = Value::Table(typed);
    for key in &keys {
        if let Value::Table(mut table) = value {
            value = table.remove(*key).expect("the setting was written there");
        } else {
            unreachable!("a setting lies in tables");
        }
    }
    Ok(Setting::new(keys.join("."), value))
}

pub(crate) fn invalid(reason: impl Into<String>) -> TrainError {
    TrainError::Config {
        reason: reason.into(),
    }
}

/// What a run does.
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
    fn table(&self) -> &'static str {
        match self {
            Self::Pretrain => "pretrain",
            Self::Classify | Self::Other(_) => "finetune",
            Self::Segment => "segment",
        }
    }

    /// Its settings.
    fn phase<'a>(&self, config: &'a Config) -> &'a PhaseConfig {
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

/// What a plan has to know about the data.
#[derive(Debug, Clone)]
pub struct DatasetInfo {
    /// Names the data.
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
}

/// Everything that decides a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "PlanFile", try_from = "PlanFile")]
pub struct Plan {
    /// What it does.
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
    /// What the network sees.
    pub data: DataPlan,
    /// Time, rate and transforms.
    pub phase: PhasePlan,
    /// Parts, for part segmentation.
    pub parts: Option<PartPlan>,
    /// The losses.
    pub loss: LossConfig,
    /// What is written.
    pub log: LogPlan,
    /// The classification head.
    pub head: HeadConfig,
    /// The backbone.
    pub encoder: EncoderConfig,
    /// The pre-training method, which also stands in the plan of a fine-tuning.
    pub method: MethodPlan,
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
        })
    }
}

/// What the network sees.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataPlan {
    /// Points of a cloud.
    pub num_points: usize,
    /// Which points of a row.
    pub point_choice: PointSampling,
    /// Views drawn per sample and epoch.
    pub num_views: usize,
    /// What to train on.
    pub train_splits: Vec<Split>,
    /// What to report on.
    pub evaluation_split: Split,
    /// The image set that pictures come from; empty for the data set's own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub images: String,
    /// Whether they are drawn in color.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub color: bool,
    /// Encoded rows kept in memory.
    pub cache_bytes: u64,
}

/// Time, rate and transforms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhasePlan {
    /// Samples of a batch.
    pub batch_size: usize,
    /// Parts that a batch is computed in.
    #[serde(rename = "num_parts", alias = "accumulation_steps")]
    pub accumulation_steps: usize,
    /// Decay of the moving average of the weights; 0 is none.
    pub ema_decay: f64,
    /// Whether products are in `bf16`.
    pub bf16: bool,
    /// Length.
    pub num_steps: u64,
    /// What becomes of the end of an epoch.
    #[serde(rename = "tail", alias = "last_batch")]
    pub last_batch: LastBatch,
    /// The learning rate.
    pub schedule: Schedule,
    /// The optimizer.
    pub optimizer: AdamWConfig,
    /// What is done to clouds.
    pub augmentation: Augmentation,
}

/// Parts of objects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartPlan {
    /// The parts of each class.
    pub by_class: Vec<Vec<u8>>,
    /// What is done to points and normals in training.
    pub augmentation: PartAugmentation,
}

/// What is written, intervals in steps; 0 is never.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogPlan {
    /// Between two step records.
    pub record_every: u64,
    /// Between two checkpoints.
    pub checkpoint_every: u64,
    /// Checkpoints kept.
    pub keep_checkpoints: usize,
    /// Between two evaluations.
    pub validate_every: u64,
    /// Between two pictures.
    #[serde(rename = "pictures_every", alias = "images_every")]
    pub images_every: u64,
    /// Objects in a picture.
    #[serde(rename = "num_pictures", alias = "num_images")]
    pub num_images: usize,
}

impl Plan {
    /// Decides everything that `config` leaves open.
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
        let phase = task.phase(config);
        if phase.batch_size == 0 || config.data.num_points == 0 {
            return Err(invalid("batch_size and num_points have to be at least 1"));
        }
        if !(1..=phase.batch_size).contains(&phase.accumulation_steps) {
            return Err(invalid(format!(
                "accumulation_steps = {} parts of a batch of {}",
                phase.accumulation_steps, phase.batch_size
            )));
        }
        if !(0.0..1.0).contains(&phase.ema_decay) {
            return Err(invalid("ema_decay has to be at least 0 and below 1"));
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
                evaluation_split: evaluation_split(config, &task, dataset_info),
                images: config.data.images.clone(),
                color: config.data.color,
                cache_bytes: config.data.cache_mib << 20,
            },
            phase: phase_plan(phase, num_steps, steps_per_epoch),
            parts: task.has_parts(dataset_info).then(|| PartPlan {
                by_class: dataset_info.parts_by_class.clone(),
                augmentation: config.parts,
            }),
            loss: config.loss.clone(),
            log: log_plan(&config.log, phase.unit, steps_per_epoch),
            head: config.head.clone(),
            task,
            encoder: config.encoder.clone(),
            method,
        })
    }

    /// Which weights a run gives.
    #[must_use]
    pub fn selection(&self) -> String {
        String::from(if self.phase.ema_decay > 0.0 {
            "last step, moving average"
        } else {
            "last step"
        })
    }

    /// SHA-256 of the plan: equal for equal runs.
    ///
    /// # Panics
    /// Never: a plan is plain data.
    #[must_use]
    pub fn sha256(&self) -> String {
        let json = serde_json::to_vec(self).expect("a plan is plain data");
        crate::weights::safetensors::hex(&Sha256::digest(json))
    }

    /// Reads `config.toml` of a run.
    ///
    /// # Errors
    /// Where there is none, or it is damaged.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let text = std::fs::read_to_string(path).map_err(TrainError::io("read", path))?;
        toml::from_str(&text).map_err(|error| invalid(format!("{}: {}", path.display(), error.message())))
    }

    /// As TOML.
    ///
    /// # Errors
    /// Where a number does not fit into TOML: a seed above 2^63.
    pub fn to_toml(&self) -> Result<String, TrainError> {
        toml::to_string(self).map_err(|error| invalid(error.to_string()))
    }
}

/// Samples of a micro-batch of `batch_size` samples in `accumulation_steps` parts; the last one may be smaller.
pub(crate) fn micro_batch_size(batch_size: usize, accumulation_steps: usize) -> usize {
    batch_size.div_ceil(accumulation_steps.max(1)).max(1)
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
        "{table}.batch_size = {}, accumulation_steps = {} and last_batch = \"{last_batch}\" over {} training objects make {single}, which the batch norm of the head cannot normalize; set another batch_size or accumulate{or_carry}",
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
    let (first, second) = match task {
        Task::Pretrain => (Split::Val, Split::Test),
        Task::Classify | Task::Segment | Task::Other(_) => (Split::Test, Split::Val),
    };
    config
        .data
        .evaluation_split
        .unwrap_or(if dataset_info.num_rows[first as usize] > 0 {
            first
        } else {
            second
        })
}

fn phase_plan(phase: &PhaseConfig, num_steps: u64, steps_per_epoch: u64) -> PhasePlan {
    let length = match phase.unit {
        ScheduleUnit::Step => num_steps as f64,
        ScheduleUnit::Epoch => num_steps as f64 / steps_per_epoch as f64,
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
            rotate_y: phase.rotate_y,
        },
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::method;
    use crate::model::{
        DgcnnConfig, PhotographConfig, PointMlpConfig, PointNet2Config, PointNextConfig, TransformerConfig,
    };

    fn dataset_info(image_size_px: u32) -> DatasetInfo {
        DatasetInfo {
            sha256: String::from("d"),
            num_rows: [526, 0, 133],
            num_train_rows: 526,
            num_views: 12,
            image_size_px,
            parts_by_class: Vec::new(),
        }
    }

    fn tap(plan: &Plan) -> TapConfig {
        method::tap::tap_config(plan).unwrap()
    }

    fn resolve(config: &Config, task: Task, labels: usize, size: u32) -> Result<Plan, TrainError> {
        method::plan(None, config, task, labels, "none", &dataset_info(size))
    }

    #[test]
    fn mini_is_the_small_model_with_the_ray_bias() {
        let config = Config::load(Some("mini"), &[]).unwrap();
        let plan = resolve(&config, Task::Pretrain, 0, 64).unwrap();
        assert_eq!(
            tap(&plan).photograph,
            TapConfig::mini().photograph,
            "the preset and the model's own agree"
        );
        assert_eq!(tap(&plan).decoder, TapConfig::mini().decoder, "the generator too");
        assert_eq!(plan.phase.num_steps, 3400, "steps");
        assert_eq!(plan.data.evaluation_split, Split::Test, "there is no val split");
    }

    #[test]
    fn the_ray_bias_can_be_taken_out_of_a_preset() {
        let config = Config::load(Some("mini-dgcnn"), &[String::from("photograph.ray_bias=false")]).unwrap();
        let plan = resolve(&config, Task::Pretrain, 0, 64).unwrap();
        let mut expected = TapConfig::mini().photograph;
        expected.ray_bias = None;
        assert_eq!(tap(&plan).photograph, expected, "nothing else changes");
    }

    #[test]
    fn paper_presets_follow_their_table() {
        let config = Config::load(Some("paper-transformer"), &[]).unwrap();
        let plan = resolve(&config, Task::Pretrain, 0, 224).unwrap();
        assert_eq!(
            tap(&plan),
            TapConfig::from_compat(Compat::Paper, EncoderConfig::transformer()),
            "networks"
        );
        assert_eq!(plan.phase.num_steps, 1600, "100 epochs of 16 full batches");
        assert!(
            (plan.phase.schedule.rate(16, 1) - 0.000_167_333_333_333_333_33).abs() < 1e-15,
            "warm-up"
        );
        assert!((plan.phase.optimizer.weight_decay - 5e-4).abs() < 1e-12, "decay");
        let fine = resolve(&config, Task::Classify, 0, 224).unwrap();
        assert!(
            (fine.phase.schedule.rate(0, 10) - 0.000_498_633_212_894_384_2).abs() < 1e-15,
            "fine-tuning"
        );
        assert!(
            fine.phase.augmentation.rotate_y && !plan.phase.augmentation.rotate_y,
            "only fine-tuning turns the clouds"
        );
    }

    #[test]
    fn each_backbone_has_its_presets() {
        let encoders: [(&str, EncoderConfig); 10] = [
            ("mini", PointNet2Config::mini().into()),
            ("mini-dgcnn", DgcnnConfig::mini().into()),
            ("mini-point-mlp", PointMlpConfig::mini().into()),
            ("mini-point-next", PointNextConfig::mini().into()),
            ("mini-transformer", TransformerConfig::mini().into()),
            ("paper-dgcnn", DgcnnConfig::default().into()),
            ("paper-point-mlp", PointMlpConfig::default().into()),
            ("paper-point-mlp-elite", PointMlpConfig::elite().into()),
            ("paper-point-net2", PointNet2Config::default().into()),
            ("paper-point-next", PointNextConfig::default().into()),
        ];
        for (name, mut encoder) in encoders {
            let config = Config::load(Some(name), &[]).unwrap();
            if let (EncoderConfig::PointNet2(encoder), "mini") = (&mut encoder, name) {
                // The loader chooses the points already.
                encoder.num_points = None;
            }
            assert_eq!(config.encoder, encoder, "{name}");
            assert_eq!(config.preset.as_deref(), Some(name), "its own name");
            let size = if name.starts_with("mini") { 64 } else { 224 };
            resolve(&config, Task::Pretrain, 0, size).unwrap();
            resolve(&config, Task::Classify, 0, size).unwrap();
        }
        let decay = |name| Config::load(Some(name), &[]).unwrap().segment.milestones;
        assert_eq!(decay("paper-point-mlp"), SEGMENT_MILESTONES, "as published");
        assert_eq!(decay("mini"), [0.0; 0], "a cosine");
    }

    #[test]
    fn another_kind_starts_from_its_own_sizes() {
        let config = Config::load(Some("mini"), &[String::from("encoder.kind=dgcnn")]).unwrap();
        assert_eq!(
            config.encoder,
            DgcnnConfig::default().into(),
            "nothing of PointNet++ is left"
        );
        let settings = ["encoder.kind=dgcnn", "encoder.channels=128"].map(String::from);
        let config = Config::load(Some("mini"), &settings).unwrap();
        assert_ne!(
            config.encoder,
            DgcnnConfig::default().into(),
            "later settings count"
        );
    }

    #[test]
    fn segmentation_needs_parts() {
        let config = Config::load(Some("paper-point-mlp"), &[]).unwrap();
        let error = resolve(&config, Task::Segment, 0, 224).unwrap_err().to_string();
        assert!(error.contains("part labels"), "{error}");
        let dataset_info = DatasetInfo {
            parts_by_class: vec![vec![0, 1], vec![2, 3, 4]],
            ..dataset_info(224)
        };
        let plan = method::plan(None, &config, Task::Segment, 0, "none", &dataset_info).unwrap();
        assert_eq!(plan.phase.num_steps, 300 * 32, "300 epochs of 32 full batches");
        let rate = |epoch| plan.phase.schedule.rate(0, epoch);
        assert!((rate(208) - 1e-3).abs() < 1e-12, "before the first milestone");
        assert!((rate(269) - 1e-5).abs() < 1e-12, "behind the second");
    }

    #[test]
    fn a_single_sample_in_front_of_a_batch_norm_is_refused_with_its_numbers() {
        let resolve = |table: &str, rows: usize, settings: &[&str]| {
            let settings: Vec<String> = settings
                .iter()
                .map(|setting| format!("{table}.{setting}"))
                .collect();
            let dataset_info = DatasetInfo {
                num_train_rows: rows,
                parts_by_class: vec![vec![0, 1]],
                ..dataset_info(64)
            };
            let task = match table {
                "pretrain" => Task::Pretrain,
                "finetune" => Task::Classify,
                _ => Task::Segment,
            };
            method::plan(
                None,
                &Config::load(None, &settings).unwrap(),
                task,
                0,
                "none",
                &dataset_info,
            )
        };
        for table in ["finetune", "segment"] {
            for (rows, settings, part) in [
                (
                    15,
                    &["batch_size=7", "last_batch=keep"][..],
                    "a batch of a single sample",
                ),
                (
                    1,
                    &["batch_size=7", "last_batch=keep"],
                    "a batch of a single sample",
                ),
                (15, &["batch_size=1"], "a batch of a single sample"),
                (15, &["batch_size=5", "accumulate=3"], "of a batch of 5"),
                (15, &["batch_size=4", "accumulate=4"], "of a batch of 4"),
                (
                    11,
                    &["batch_size=8", "accumulate=2", "last_batch=keep"],
                    "of a batch of 3",
                ),
            ] {
                let error = resolve(table, rows, settings).unwrap_err().to_string();
                assert!(
                    error.contains(part) && error.contains(&format!("over {rows} training objects")),
                    "{settings:?}: {error}"
                );
            }
            for (rows, settings) in [
                (15, &["batch_size=7"][..]),
                (16, &["batch_size=7", "last_batch=keep"]),
                (15, &["batch_size=7", "last_batch=keep", "steps=2"]),
                (15, &["batch_size=6", "accumulate=3"]),
                (15, &["batch_size=1", "steps=0"]),
            ] {
                assert!(
                    resolve(table, rows, settings).is_ok(),
                    "{table} {rows} {settings:?}"
                );
            }
        }
        assert!(
            resolve("pretrain", 15, &["batch_size=1"]).is_ok(),
            "its batch norms see many tokens"
        );
    }

    #[test]
    fn compat_switches_the_whole_module() {
        let config = Config::load(Some("paper-point-net2"), &[String::from("compat=code")]).unwrap();
        let plan = resolve(&config, Task::Pretrain, 0, 224).unwrap();
        assert_eq!(
            tap(&plan).photograph,
            PhotographConfig::from_compat(Compat::Code),
            "the released code's switches"
        );
        let config = Config::load(Some("mini"), &[String::from("compat=paper")]).unwrap();
        let error = resolve(&config, Task::Pretrain, 0, 64).unwrap_err();
        assert!(
            error.to_string().contains("ray bias"),
            "an extension is no paper configuration: {error}"
        );
        let config = Config::load(
            Some("paper-point-net2"),
            &[String::from("photograph.token_keep=0.5")],
        )
        .unwrap();
        let error = resolve(&config, Task::Pretrain, 0, 224).unwrap_err();
        assert!(
            error.to_string().contains("dropped tokens"),
            "nor is the other: {error}"
        );
    }

    #[test]
    fn settings_are_typed_and_unknown_keys_refused() {
        let settings = [
            "seed=7",
            "pretrain.learning_rate=5e-4",
            "data.train_splits=[\"train\", \"val\"]",
            "data.point_choice=first",
        ];
        let config = Config::load(None, &settings.map(String::from)).unwrap();
        assert_eq!(
            (config.seed, config.data.train_splits.len()),
            (7, 2),
            "number and list"
        );
        assert_eq!(
            config.data.point_choice,
            PointSampling::First,
            "a bare word is text"
        );
        let both_names = [
            ["pretrain.clip_norm=3", "pretrain.max_grad_norm=3"],
            ["segment.tail=keep", "segment.last_batch=keep"],
            ["log={num_pictures=2}", "log={num_images=2}"],
            [
                "photograph.feature_projection=projection",
                "photograph.mixing=projection",
            ],
        ];
        for names in both_names {
            let [old, new] = names.map(|setting| Config::load(None, &[setting.to_owned()]).unwrap());
            assert!(old == new && old != Config::load(None, &[]).unwrap(), "{names:?}");
        }
        for wrong in ["pretrain.lr=1", "seed=minus", "seed", "seed.a=1", "=3"] {
            assert!(Config::load(None, &[wrong.to_owned()]).is_err(), "{wrong}");
        }
        let error = Config::load(Some("maxi"), &[]).unwrap_err().to_string();
        assert!(error.contains("mini, mini-dgcnn"), "{error}");
    }

    #[test]
    fn steps_that_are_set_count_for_any_number_of_labels() {
        let config = Config::load(None, &[String::from("finetune.steps=3")]).unwrap();
        let plan = resolve(&config, Task::Classify, 5, 64).unwrap();
        assert_eq!(plan.phase.num_steps, 3, "and not the preset's 100");
        let both = ["finetune.steps=3", "finetune.steps_by_labels.5=7"].map(String::from);
        let plan = resolve(&Config::load(None, &both).unwrap(), Task::Classify, 5, 64).unwrap();
        assert_eq!(plan.phase.num_steps, 7, "unless that is set, too");
    }

    #[test]
    fn settings_lie_on_top_of_another_configuration() {
        let mut base = Config::load(None, &[]).unwrap();
        base.data.num_points = 77;
        let config = base.with_settings(&[String::from("seed=5")]).unwrap();
        assert_eq!((config.data.num_points, config.seed), (77, 5));
        let unknown = base.with_settings(&[String::from("data.points=5")]);
        assert!(unknown.is_err(), "unknown keys are refused");
    }

    #[test]
    fn fewer_labels_take_fewer_steps() {
        let config = Config::load(None, &[]).unwrap();
        let steps = |labels| {
            resolve(&config, Task::Classify, labels, 64)
                .unwrap()
                .phase
                .num_steps
        };
        assert_eq!(
            [steps(5), steps(7), steps(10), steps(20), steps(0)],
            [100, 150, 150, 330, 330],
            "by the table"
        );
    }

    #[test]
    fn a_plan_survives_its_file() {
        let plan = resolve(&Config::load(None, &[]).unwrap(), Task::Pretrain, 0, 64).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, plan.to_toml().unwrap()).unwrap();
        assert_eq!(Plan::read(&path).unwrap(), plan, "the same plan");
    }

    #[test]
    fn a_file_may_start_from_a_preset() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("my.toml");
        std::fs::write(&path, "preset = \"mini\"\n[loss]\nforeground_weight = 5\n").unwrap();
        let config = Config::load(path.to_str(), &[]).unwrap();
        assert!(
            (config.loss.foreground_weight - 5.0).abs() < 1e-12,
            "its own value"
        );
        assert!(
            (config.loss.label_smoothing - 0.2).abs() < 1e-12,
            "the preset's value"
        );
    }

    #[test]
    fn pictures_in_color_take_three_channels() {
        let decoder = |settings: &[&str]| {
            let settings: Vec<String> = settings.iter().map(|&setting| setting.to_owned()).collect();
            let config = Config::load(None, &settings).unwrap();
            tap(&resolve(&config, Task::Pretrain, 0, 64).unwrap()).decoder
        };
        let mut expected = decoder(&[]);
        assert_eq!(expected.channels(), 1, "gray");
        expected.layers.last_mut().unwrap().channels = 3;
        assert_eq!(decoder(&["data.color=true"]), expected, "nothing else changes");
    }

    #[test]
    fn sizes_that_do_not_fit_are_named() {
        let config = Config::load(None, &[]).unwrap();
        let error = resolve(&config, Task::Pretrain, 0, 224).unwrap_err().to_string();
        assert!(error.contains("64x64") && error.contains("224x224"), "{error}");
    }
}
