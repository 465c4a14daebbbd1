//! Comparison of fine-tuned runs: from scratch against from a pre-trained encoder, paired by seed.

use serde::{Deserialize, Serialize};

use crate::metric::{Confusion, Paired, Summary};
use crate::task::classify::ClassifyResult;

/// Two arms under the same seeds, for one number of labels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// Labels a class that were asked for; 0 is all.
    pub labels_per_class: usize,
    /// Training objects of each class.
    #[serde(default)]
    pub train_objects_per_class: Vec<usize>,
    /// The seeds, one a pair.
    pub seeds: Vec<u64>,
    /// Accuracies from scratch, 0 to 1.
    pub scratch: Vec<f64>,
    /// Accuracies from the encoder.
    pub tap: Vec<f64>,
    /// Mean and sample deviation from scratch.
    pub scratch_summary: Summary,
    /// Mean and sample deviation from the encoder.
    pub tap_summary: Summary,
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
    /// `[label][prediction]` from scratch.
    pub scratch: Vec<Vec<u64>>,
    /// `[label][prediction]` from the encoder.
    pub tap: Vec<Vec<u64>>,
}

/// All settings with their provenance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// SHA-256 of the data.
    pub data_sha256: String,
    /// SHA-256 of the encoder's file.
    pub init_sha256: String,
    /// Evaluation split.
    pub evaluation_split: String,
    /// Which weights were scored.
    pub selection: String,
    /// Votes of an evaluation.
    pub votes: u32,
    /// One entry a number of labels.
    pub settings: Vec<Setting>,
    /// Of the last setting.
    pub confusion: ConfusionPair,
    /// Of every setting.
    pub confusions: Vec<ConfusionPair>,
    /// CPU seconds of all arms.
    pub cpu_s: f64,
}

/// The runs of one setting, in the order of `seeds`.
#[derive(Debug, Clone)]
pub struct Arms {
    /// The seeds.
    pub seeds: Vec<u64>,
    /// From scratch.
    pub scratch: Vec<ClassifyResult>,
    /// From the encoder.
    pub tap: Vec<ClassifyResult>,
}

impl Comparison {
    /// Compares arms; `None` without any.
    #[must_use]
    pub fn new(arms: &[Arms]) -> Option<Self> {
        let first = arms.first()?.tap.first()?;
        let settings = arms.iter().filter_map(setting).collect();
        let confusions: Vec<ConfusionPair> = arms.iter().filter_map(confusion).collect();
        Some(Self {
            data_sha256: first.provenance.data_sha256.clone(),
            init_sha256: first.provenance.init_sha256.clone(),
            evaluation_split: first.provenance.evaluation_split.clone(),
            selection: first.provenance.selection.clone(),
            votes: first.provenance.votes,
            settings,
            confusion: confusions.last()?.clone(),
            confusions,
            cpu_s: arms
                .iter()
                .flat_map(|arms| arms.scratch.iter().chain(&arms.tap))
                .map(|arm| arm.provenance.cpu_s)
                .sum(),
        })
    }
}

fn setting(arms: &Arms) -> Option<Setting> {
    let accuracies = |results: &[ClassifyResult]| {
        results
            .iter()
            .map(|result| result.score.accuracy)
            .collect::<Vec<_>>()
    };
    let (scratch, tap) = (accuracies(&arms.scratch), accuracies(&arms.tap));
    let paired = Paired::of(&scratch, &tap);
    let first = arms.tap.first()?;
    Some(Setting {
        labels_per_class: first.provenance.labels_per_class,
        train_objects_per_class: first.provenance.train_objects_per_class.clone(),
        seeds: arms.seeds.clone(),
        scratch_summary: Summary::of(&scratch),
        tap_summary: Summary::of(&tap),
        scratch,
        tap,
        paired_mean: paired.mean,
        paired_standard_error: paired.standard_error,
        verdict: paired.verdict("tap"),
        num_steps: first.provenance.num_steps,
    })
}

fn confusion(arms: &Arms) -> Option<ConfusionPair> {
    let first = arms.tap.first()?;
    let sum = |results: &[ClassifyResult]| {
        let mut sum = Confusion::new(first.provenance.classes.len());
        for result in results {
            sum.merge(&result.score.confusion);
        }
        sum.counts
    };
    Some(ConfusionPair {
        labels_per_class: first.provenance.labels_per_class,
        classes: first.provenance.classes.clone(),
        scratch: sum(&arms.scratch),
        tap: sum(&arms.tap),
    })
}
