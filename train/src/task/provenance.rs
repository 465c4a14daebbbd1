//! Provenance of scores, and the weights of fine-tuned runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tap_dataset::sha256::hex;
use tap_dataset::{Manifest, Split};
use tch::nn::VarStore;

use super::selection::Best;
use super::vote::{VoteRule, Votes};
use super::{DataChoice, OpenData, require_exact};
use crate::config::{ContinuedFrom, MixPlan, Plan, Task};
use crate::data::source::SampleSource;
use crate::engine::trainer::{RunOptions, TrainingSummary};
use crate::error::TrainError;
use crate::process::device_name;
use crate::run::CONFIG_FILE;
use crate::run::event::OnEvent;
use crate::run::weights::{RunWeights, TrainedOn, WeightChoice};
use crate::weights::checkpoint::{ComputeSpan, MODEL_FILE, copy_weights};
use crate::weights::safetensors::write_tensors;

/// Version of the code, which results name: that of the package and, in release builds from a repository, the commit, as in
/// `0.1.0+3f2a9c01b7de`; `-dirty` behind it where the sources were changed since.
pub const VERSION: &str = env!("TAP_TRAIN_VERSION");

/// Provenance of a score: everything that it depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// The program's version; empty in results of earlier ones.
    #[serde(default)]
    pub version: String,
    /// What the data set is a copy of, as its import says: "scanobjectnn `PB_T50_RS`"; empty where it is of the user's own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub data_name: String,
    /// SHA-256 of the data.
    pub data_sha256: String,
    /// SHA-256 of the ids of the rows that were scored.
    #[serde(default)]
    pub rows_sha256: String,
    /// SHA-256 of what the resolved configuration says about the numbers.
    pub config_sha256: String,
    /// Its preset.
    pub preset: String,
    /// Seed of the run: labels, head, order; from scratch also the encoder.
    pub seed: u64,
    /// SHA-256 of the encoder's file; "none" from scratch.
    pub init_sha256: String,
    /// Largest number of labeled training objects a class, as requested; 0 is all.
    pub labels_per_class: usize,
    /// Actual training objects of each class, in label order; empty if the weights do not say.
    #[serde(default)]
    pub train_objects_per_class: Vec<usize>,
    /// Evaluation split.
    pub evaluation_split: String,
    /// The condition on the rows that were scored; absent for all.
    #[serde(rename = "where", default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Data sets that were mixed into the training rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mix: Vec<MixPlan>,
    /// Which weights were scored.
    pub selection: String,
    /// The evaluation that selected them; absent where the last step is scored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selected: Option<Best>,
    /// Augmented predictions that were added to the plain one.
    pub votes: u32,
    /// What the votes are averaged of.
    #[serde(default)]
    pub votes_average: String,
    /// Seed of the votes.
    pub votes_seed: u64,
    /// What the votes augmented.
    #[serde(default)]
    pub vote_rule: VoteRule,
    /// Whether parts were refined by neighbors as well.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_refined: bool,
    /// Steps taken.
    pub num_steps: u64,
    /// Class names, in label order.
    pub classes: Vec<String>,
    /// Wall-clock seconds of training; 0 for an evaluation alone.
    pub elapsed_s: f64,
    /// CPU seconds of training; 0 for an evaluation alone.
    pub cpu_s: f64,
    /// Threads of torch, of the last session.
    pub num_threads: usize,
    /// Device.
    pub device: String,
    /// What the steps were computed with, all sessions included; empty for an evaluation alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compute: Vec<ComputeSpan>,
    /// The run that this one continued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continued_from: Option<ContinuedFrom>,
}

impl Provenance {
    pub(super) fn new(
        plan: &Plan,
        data: &OpenData,
        options: &RunOptions,
        split: Split,
        votes: Votes,
    ) -> Self {
        Self {
            version: VERSION.to_owned(),
            data_name: data_name(data),
            data_sha256: data.dataset.sha256().to_owned(),
            rows_sha256: String::new(),
            config_sha256: plan.identity_sha256(),
            preset: plan.preset.clone(),
            seed: plan.seed,
            init_sha256: plan.init_sha256.clone(),
            labels_per_class: plan.labels_per_class,
            train_objects_per_class: Vec::new(),
            evaluation_split: split.to_string(),
            filter: data.filter(),
            mix: plan.data.mix.clone(),
            selection: plan.selection(),
            selected: None,
            votes: votes.count,
            votes_average: String::new(),
            votes_seed: votes.seed,
            vote_rule: votes.rule,
            is_refined: false,
            num_steps: plan.phase.num_steps,
            classes: data.dataset.classes().to_vec(),
            elapsed_s: 0.0,
            cpu_s: 0.0,
            num_threads: options.num_threads,
            device: device_name(options.device),
            compute: Vec::new(),
            continued_from: plan.continued_from.clone(),
        }
    }

    /// Of the evaluation at the end of a training.
    pub(super) fn of_training(
        plan: &Plan,
        data: &OpenData,
        options: &RunOptions,
        summary: &TrainingSummary,
        trained_on: &TrainedOn,
    ) -> Self {
        Self {
            train_objects_per_class: trained_on.objects_per_class.clone(),
            num_steps: summary.step,
            elapsed_s: summary.elapsed_s,
            cpu_s: summary.cpu_s,
            compute: summary.compute.clone(),
            ..Self::new(plan, data, options, plan.data.evaluation_split, Votes::default())
        }
    }

    /// A note on the training objects, where they are fewer than requested.
    #[must_use]
    pub fn labels_note(&self) -> Option<String> {
        labels_note(self.labels_per_class, &self.train_objects_per_class)
    }
}

/// What an imported data set is a copy of.
pub(super) fn data_name(data: &OpenData) -> String {
    imported_name(data.dataset.manifest())
}

/// The published set and variant that a data set is a copy of, or is drawn from; empty for none.
#[must_use]
pub fn imported_name(manifest: &Manifest) -> String {
    let import = &manifest.recipe["import"];
    let text = |key: &str| import[key].as_str().unwrap_or_default();
    format!("{} {}", text("set"), text("variant")).trim().to_owned()
}

/// SHA-256 of the ids of rows, in order: which rows were scored, whatever else their data set holds.
#[must_use]
pub fn rows_sha256(rows: &dyn SampleSource) -> String {
    let mut hash = Sha256::new();
    for id in rows.ids() {
        hash.update(id.as_str());
        hash.update(b"\n");
    }
    hex(&hash.finalize())
}

/// A note on the training objects a class, where a class had fewer than were asked for (0 is all).
#[must_use]
pub fn labels_note(asked: usize, objects_per_class: &[usize]) -> Option<String> {
    let fewest = objects_per_class.iter().min().filter(|fewest| **fewest < asked)?;
    let most = objects_per_class.iter().max()?;
    let had = if fewest == most {
        fewest.to_string()
    } else {
        format!("{fewest} to {most}")
    };
    Some(format!(
        "trained on {had} objects a class, not {asked}: there were no more"
    ))
}

/// Writes the weights of a finished training into its run.
pub(super) fn save(
    plan: &Plan,
    options: &RunOptions,
    store: &VarStore,
    mut metadata: BTreeMap<String, String>,
) -> Result<(), TrainError> {
    metadata.insert(String::from("config_sha256"), plan.identity_sha256());
    metadata.insert(String::from("data_sha256"), plan.data_sha256.clone());
    write_tensors(
        &options.out.join(MODEL_FILE),
        store.variables().into_iter().collect(),
        &metadata,
    )
}

/// Weights of a fine-tuning and data to score them on.
pub(super) struct FinetunedRun {
    pub(super) plan: Plan,
    pub(super) data: OpenData,
    weights: RunWeights,
}

impl FinetunedRun {
    /// Opens weights of the run `options.out` and the data, which must have the classes that they were trained on.
    pub(super) fn open(
        options: &RunOptions,
        filter: &str,
        weights: &WeightChoice,
        on_event: OnEvent<'_>,
    ) -> Result<Self, TrainError> {
        let plan = Plan::read(&options.out.join(CONFIG_FILE))?;
        if plan.task == Task::Pretrain {
            return Err(TrainError::NoWeights {
                reason: String::from("the run is a pre-training, which has no score; fine-tune it first"),
                path: options.out.clone(),
            });
        }
        let weights = RunWeights::read(&options.out, &plan, weights, on_event)?;
        let choice = DataChoice {
            filter,
            ..DataChoice::default()
        };
        let data = OpenData::choose(&options.data, choice)?;
        let unsuitable = |reason| TrainError::UnsuitableData {
            reason,
            path: options.data.clone(),
        };
        match &weights.trained_on.classes {
            Some(trained) if trained == data.dataset.classes() => {}
            Some(trained) => {
                let trained = trained.join(", ");
                return Err(unsuitable(format!(
                    "the run was trained on other classes ({trained})"
                )));
            }
            // Checkpoints of earlier versions name no classes.
            None if data.dataset.sha256() == plan.data_sha256 => {}
            None => {
                return Err(unsuitable(String::from(
                    "the weights do not say which classes they were trained on, so they can be scored only on the data that they were trained on; finish the run with --resume to have them named",
                )));
            }
        }
        Ok(Self { plan, data, weights })
    }

    /// Copies its weights into a network of its plan.
    pub(super) fn load(&self, store: &VarStore) -> Result<(), TrainError> {
        let RunWeights { tensors, file, .. } = &self.weights;
        require_exact(copy_weights(store, tensors, ""), file).map(|_| ())
    }

    /// The provenance of a score of these weights.
    pub(super) fn provenance(&self, options: &RunOptions, split: Split, votes: Votes) -> Provenance {
        Provenance {
            selection: self.weights.selection.clone(),
            num_steps: self.weights.num_steps,
            train_objects_per_class: self.weights.trained_on.objects_per_class.clone(),
            ..Provenance::new(&self.plan, &self.data, options, split, votes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_objects_than_asked_for_are_told() {
        let note = |asked, objects: &[usize]| labels_note(asked, objects).unwrap_or_default();
        assert_eq!(note(5, &[5, 5]), "", "as asked");
        assert_eq!(note(0, &[3, 9]), "", "all there are");
        assert_eq!(note(50, &[]), "", "unknown");
        assert!(note(50, &[9, 3]).starts_with("trained on 3 to 9 objects a class, not 50"));
        assert!(note(50, &[4, 4]).starts_with("trained on 4 objects"));
    }
}
