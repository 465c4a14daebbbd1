//! What a fine-tuning leaves behind, whatever its task: weights that know their classes, and where a score comes from.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tap_dataset::Split;
use tch::Tensor;
use tch::nn::VarStore;

use super::OpenData;
use super::vote::{VoteRule, Votes};
use crate::checkpoint::{MODEL_FILE, copy_weights, model_file};
use crate::config::Plan;
use crate::error::TrainError;
use crate::process::device_name;
use crate::run::CONFIG_FILE;
use crate::tensor_file::{read_metadata, read_tensors, write_tensors};
use crate::trainer::{Outcome, RunOptions};

/// Where `model.safetensors` keeps the class names.
const CLASSES_KEY: &str = "classes";

/// Everything that a score depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// SHA-256 of the data.
    pub data_sha256: String,
    /// SHA-256 of the resolved configuration.
    pub config_sha256: String,
    /// Its preset.
    pub preset: String,
    /// Seed of the run: labels, head, order; from scratch also the encoder.
    pub seed: u64,
    /// SHA-256 of the encoder's file; "none" from scratch.
    pub init_sha256: String,
    /// Labeled objects a class in training; 0 is all.
    pub labels_per_class: usize,
    /// What the score was measured on.
    pub evaluation_split: String,
    /// Which weights it is of.
    pub selection: String,
    /// Looks that were averaged with the plain one; 0 is the plain one alone.
    pub votes: u32,
    /// Seed of the votes.
    pub votes_seed: u64,
    /// What the votes looked at.
    #[serde(default)]
    pub vote_rule: VoteRule,
    /// Steps taken.
    pub num_steps: u64,
    /// Class names, in label order.
    pub classes: Vec<String>,
    /// Wall-clock seconds of training; 0 for a mere evaluation.
    pub elapsed_s: f64,
    /// CPU seconds of training; 0 for a mere evaluation.
    pub cpu_s: f64,
    /// Threads of torch.
    pub num_threads: usize,
    /// Where it was computed.
    pub device: String,
}

impl Origin {
    /// Of an evaluation.
    pub(super) fn new(
        plan: &Plan,
        data: &OpenData,
        options: &RunOptions,
        split: Split,
        votes: Votes,
    ) -> Self {
        Self {
            data_sha256: data.dataset.sha256().to_owned(),
            config_sha256: plan.sha256(),
            preset: plan.preset.clone(),
            seed: plan.seed,
            init_sha256: plan.init_sha256.clone(),
            labels_per_class: plan.labels_per_class,
            evaluation_split: split.to_string(),
            selection: plan.selection(),
            votes: votes.count,
            votes_seed: votes.seed,
            vote_rule: votes.rule,
            num_steps: plan.phase.num_steps,
            classes: data.dataset.classes().to_vec(),
            elapsed_s: 0.0,
            cpu_s: 0.0,
            num_threads: options.num_threads,
            device: device_name(options.device),
        }
    }

    /// Of the evaluation at the end of a training.
    pub(super) fn of_training(plan: &Plan, data: &OpenData, options: &RunOptions, outcome: &Outcome) -> Self {
        Self {
            elapsed_s: outcome.elapsed_s,
            cpu_s: outcome.cpu_s,
            ..Self::new(plan, data, options, plan.data.evaluation_split, Votes::default())
        }
    }
}

/// Writes the weights of a finished training into its run.
pub(super) fn save(
    plan: &Plan,
    data: &OpenData,
    options: &RunOptions,
    store: &VarStore,
) -> Result<(), TrainError> {
    let classes = serde_json::to_string(data.dataset.classes()).unwrap_or_default();
    let metadata = BTreeMap::from([
        (String::from("config_sha256"), plan.sha256()),
        (String::from("data_sha256"), plan.data_sha256.clone()),
        (String::from(CLASSES_KEY), classes),
    ]);
    write_tensors(
        &options.out.join(MODEL_FILE),
        store.variables().into_iter().collect(),
        &metadata,
    )
}

/// A finished training and data to score it on.
pub(super) struct Finetuned {
    pub(super) plan: Plan,
    pub(super) data: OpenData,
    tensors: BTreeMap<String, Tensor>,
    file: PathBuf,
}

impl Finetuned {
    /// Opens the run `options.out` and the data, which must have the classes that it was trained on.
    pub(super) fn open(options: &RunOptions) -> Result<Self, TrainError> {
        let plan = Plan::read(&options.out.join(CONFIG_FILE))?;
        let data = OpenData::open(&options.data)?;
        let file = model_file(&options.out)?;
        if let Some(trained) = read_metadata(&file)?.get(CLASSES_KEY)
            && serde_json::from_str::<Vec<String>>(trained).ok().as_deref() != Some(data.dataset.classes())
        {
            return Err(TrainError::UnsuitableData {
                reason: format!("the run was trained on other classes ({trained})"),
                path: options.data.clone(),
            });
        }
        Ok(Self {
            tensors: read_tensors(&file)?,
            plan,
            data,
            file,
        })
    }

    /// Copies its weights into a network of its plan.
    pub(super) fn load(&self, store: &VarStore) -> Result<(), TrainError> {
        let report = copy_weights(store, &self.tensors, "");
        if report.is_exact() {
            Ok(())
        } else {
            Err(TrainError::Weights {
                report: report.to_string(),
                path: self.file.clone(),
            })
        }
    }
}
