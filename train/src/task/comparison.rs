//! Comparison of fine-tuned runs from two starting points, encoders or none, paired by seed or, for few-shot, by fold.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tap_dataset::sha256::hex;

use super::few_shot;
use super::provenance::Provenance;
use crate::config::invalid;
use crate::error::TrainError;
use crate::metric::{Confusion, Paired, Summary};
use crate::run::RESULT_FILE;

/// What arms are fine-tuned for.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, strum::Display, strum::IntoStaticStr,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum ComparedTask {
    /// Name the class of an object.
    #[default]
    Classify,
    /// Name the part of every point.
    Segment,
    /// Classification in episodes of a few classes and labels.
    FewShot,
}

impl ComparedTask {
    /// The score that is compared, 0 to 1.
    #[must_use]
    pub fn measure(self) -> &'static str {
        match self {
            Self::Classify | Self::FewShot => "accuracy",
            Self::Segment => "mean IoU over objects",
        }
    }

    /// Where it stands in a result.
    fn pointer(self) -> &'static str {
        match self {
            Self::Classify | Self::FewShot => "/accuracy",
            Self::Segment => "/score/plain/instance_miou",
        }
    }
}

/// The result of an arm.
#[derive(Debug, Clone)]
pub struct ArmResult {
    /// Its provenance.
    pub provenance: Provenance,
    /// The score that is compared, 0 to 1.
    pub score: f64,
    /// Of a classification.
    confusion: Option<Confusion>,
}

impl ArmResult {
    /// Reads the result of the run in a folder.
    ///
    /// # Errors
    /// Where there is none, or it is damaged or of another task.
    pub fn read(run: &Path, task: ComparedTask) -> Result<Self, TrainError> {
        let path = run.join(RESULT_FILE);
        let damaged =
            |error: &dyn std::fmt::Display| invalid(format!("damaged result ({error}): {}", path.display()));
        let bytes = std::fs::read(&path).map_err(TrainError::io("read", &path))?;
        let result: Value = serde_json::from_slice(&bytes).map_err(|error| damaged(&error))?;
        let score = result.pointer(task.pointer()).and_then(Value::as_f64);
        Ok(Self {
            provenance: Provenance::deserialize(&result).map_err(|error| damaged(&error))?,
            score: score.ok_or_else(|| damaged(&format_args!("it has no {}", task.measure())))?,
            confusion: Confusion::deserialize(&result["confusion"]).ok(),
        })
    }
}

/// Two arms in pairs, for one number of labels or one setting of episodes.
///
/// In the file the arm to compare with is called `scratch` and the other one `tap`, after what they are where one encoder is
/// compared with none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// Labels a class that were asked for; 0 is all.
    pub labels_per_class: usize,
    /// The setting of few-shot episodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub episodes: Option<few_shot::Setting>,
    /// Training objects of each class.
    #[serde(default)]
    pub train_objects_per_class: Vec<usize>,
    /// The seeds, one a pair.
    pub seeds: Vec<u64>,
    /// The folds of few-shot, one a pair.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub folds: Vec<usize>,
    /// Scores of the arm to compare with, 0 to 1.
    #[serde(rename = "scratch")]
    pub against: Vec<f64>,
    /// Scores from the encoder.
    #[serde(rename = "tap")]
    pub init: Vec<f64>,
    /// Mean and sample deviation of the arm to compare with.
    #[serde(rename = "scratch_summary")]
    pub against_summary: Summary,
    /// Mean and sample deviation from the encoder.
    #[serde(rename = "tap_summary")]
    pub init_summary: Summary,
    /// Mean of the paired differences.
    pub paired_mean: f64,
    /// Its standard error.
    pub paired_standard_error: f64,
    /// The conclusion as text.
    pub verdict: String,
    /// Steps of every arm.
    pub num_steps: u64,
}

/// Confusion matrices, summed over seeds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfusionPair {
    /// Labels a class that they belong to; 0 is all.
    pub labels_per_class: usize,
    /// Class names.
    pub classes: Vec<String>,
    /// `[label][prediction]` of the arm to compare with.
    #[serde(rename = "scratch")]
    pub against: Vec<Vec<u64>>,
    /// `[label][prediction]` from the encoder.
    #[serde(rename = "tap")]
    pub init: Vec<Vec<u64>>,
}

/// All settings with their provenance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// What the arms are fine-tuned for.
    #[serde(default)]
    pub task: ComparedTask,
    /// What is compared.
    #[serde(default = "accuracy")]
    pub measure: String,
    /// What the encoder is called.
    #[serde(default = "tap")]
    pub init: String,
    /// What it is compared with: another encoder, or `scratch`.
    #[serde(default = "scratch")]
    pub against: String,
    /// Settings of fine-tuning that the two differ in, as `key (init, against)`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<String>,
    /// SHA-256 of the data; of few-shot of the hashes of all episodes.
    pub data_sha256: String,
    /// SHA-256 of the encoder's file.
    pub init_sha256: String,
    /// SHA-256 of the file of the encoder that it is compared with; "none" from scratch.
    #[serde(default = "none")]
    pub against_sha256: String,
    /// Evaluation split.
    pub evaluation_split: String,
    /// Which weights were scored.
    pub selection: String,
    /// Votes of an evaluation.
    pub votes: u32,
    /// One entry a number of labels.
    pub settings: Vec<Setting>,
    /// Of the last setting of a classification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confusion: Option<ConfusionPair>,
    /// Of every setting of a classification.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub confusions: Vec<ConfusionPair>,
    /// CPU seconds of all arms.
    pub cpu_s: f64,
}

fn accuracy() -> String {
    ComparedTask::Classify.measure().to_owned()
}

fn tap() -> String {
    String::from("tap")
}

fn scratch() -> String {
    String::from("scratch")
}

fn none() -> String {
    String::from("none")
}

/// The runs of one setting, pair by pair.
#[derive(Debug, Clone)]
pub struct Arms {
    /// The setting of few-shot episodes, and their folds.
    pub episodes: Option<(few_shot::Setting, Vec<usize>)>,
    /// The seeds.
    pub seeds: Vec<u64>,
    /// Of the arm to compare with.
    pub against: Vec<ArmResult>,
    /// From the encoder.
    pub init: Vec<ArmResult>,
}

/// What two arms are called.
#[derive(Debug, Clone)]
pub struct ArmNames {
    /// The encoder.
    pub init: String,
    /// What it is compared with.
    pub against: String,
}

impl Comparison {
    /// Compares arms; `None` without any.
    #[must_use]
    pub fn new(task: ComparedTask, names: ArmNames, differences: Vec<String>, arms: &[Arms]) -> Option<Self> {
        let of_init = &arms.first()?.init.first()?.provenance;
        let of_against = &arms.first()?.against.first()?.provenance;
        let all = || arms.iter().flat_map(|arms| arms.against.iter().chain(&arms.init));
        let confusions: Vec<ConfusionPair> = match task {
            ComparedTask::Classify => arms.iter().filter_map(confusion).collect(),
            ComparedTask::Segment | ComparedTask::FewShot => Vec::new(),
        };
        Some(Self {
            task,
            measure: task.measure().to_owned(),
            data_sha256: match task {
                ComparedTask::FewShot => hash_of_episodes(arms),
                ComparedTask::Classify | ComparedTask::Segment => of_init.data_sha256.clone(),
            },
            init_sha256: of_init.init_sha256.clone(),
            against_sha256: of_against.init_sha256.clone(),
            evaluation_split: of_init.evaluation_split.clone(),
            selection: of_init.selection.clone(),
            votes: of_init.votes,
            settings: arms.iter().filter_map(|arms| setting(arms, &names)).collect(),
            confusion: confusions.last().cloned(),
            confusions,
            cpu_s: all().map(|arm| arm.provenance.cpu_s).sum(),
            init: names.init,
            against: names.against,
            differences,
        })
    }
}

fn hash_of_episodes(arms: &[Arms]) -> String {
    let mut hash = Sha256::new();
    for arm in arms.iter().flat_map(|arms| &arms.init) {
        hash.update(&arm.provenance.data_sha256);
    }
    hex(&hash.finalize())
}

fn setting(arms: &Arms, names: &ArmNames) -> Option<Setting> {
    let scores = |results: &[ArmResult]| results.iter().map(|result| result.score).collect::<Vec<_>>();
    let (against, init) = (scores(&arms.against), scores(&arms.init));
    let paired = Paired::of(&against, &init);
    let first = &arms.init.first()?.provenance;
    let (episodes, folds) = arms.episodes.clone().unzip();
    Some(Setting {
        labels_per_class: first.labels_per_class,
        episodes,
        train_objects_per_class: first.train_objects_per_class.clone(),
        seeds: arms.seeds.clone(),
        folds: folds.unwrap_or_default(),
        against_summary: Summary::of(&against),
        init_summary: Summary::of(&init),
        against,
        init,
        paired_mean: paired.mean,
        paired_standard_error: paired.standard_error,
        verdict: paired.verdict(&names.init),
        num_steps: first.num_steps,
    })
}

fn confusion(arms: &Arms) -> Option<ConfusionPair> {
    let first = &arms.init.first()?.provenance;
    let sum = |results: &[ArmResult]| {
        let mut sum = Confusion::new(first.classes.len());
        for confusion in results.iter().filter_map(|result| result.confusion.as_ref()) {
            sum.merge(confusion);
        }
        sum.counts
    };
    Some(ConfusionPair {
        labels_per_class: first.labels_per_class,
        classes: first.classes.clone(),
        against: sum(&arms.against),
        init: sum(&arms.init),
    })
}
