//! Fine-tuning an encoder to name classes, and scoring it.
//!
//! The last step is evaluated: no model selection. Voting is off unless asked for. The seed sets the label subset, the
//! head and, from scratch, all weights, so runs of one seed from different encoders are pairs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};
use tap_dataset::Split;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor, no_grad};

use super::{OpenData, plain_batches, train_batches, vote_batches};
use crate::batch::Batch;
use crate::checkpoint::{self, ENCODER_PREFIX, MODEL_FILE, copy_weights, file_sha256, read_encoder};
use crate::config::{Config, Plan, Task};
use crate::error::TrainError;
use crate::event::{EvaluationRecord, OnEvent, Record, TrainEvent};
use crate::loader::{Loader, ViewChoice};
use crate::loss::smooth_cross_entropy;
use crate::metric::Confusion;
use crate::model::{ClassifierHead, Encoder};
use crate::picture::Picture;
use crate::process::device_name;
use crate::run;
use crate::seed::torch_seed;
use crate::source::SampleSource;
use crate::tensor_file::{read_metadata, read_tensors, write_tensors};
use crate::trainer::{Objective, RunOptions, StepLoss, Training};

/// Objects of an evaluation batch.
const EVALUATION_BATCH: usize = 32;
/// Where `model.safetensors` keeps the class names.
const CLASSES_KEY: &str = "classes";

/// A score, and everything that it depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassifyResult {
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
    /// Labels a class in training; 0 is all.
    pub labels_per_class: usize,
    /// What the score was measured on.
    pub evaluation_split: String,
    /// Which weights it is of.
    pub selection: String,
    /// Passes over augmented clouds that were averaged; 0 is one plain pass.
    pub votes: u32,
    /// Seed of the votes.
    pub votes_seed: u64,
    /// Steps taken.
    pub num_steps: u64,
    /// The part that is right, 0 to 1.
    pub accuracy: f64,
    /// The mean over classes of the part that is right.
    pub mean_class_accuracy: f64,
    /// Class names, in label order.
    pub classes: Vec<String>,
    /// `counts[label][prediction]`.
    pub confusion: Confusion,
    /// Wall-clock seconds of training; 0 for a mere evaluation.
    pub elapsed_s: f64,
    /// CPU seconds of training; 0 for a mere evaluation.
    pub cpu_s: f64,
    /// Threads of torch.
    pub num_threads: usize,
    /// Where it was computed.
    pub device: String,
}

/// An encoder with a classification head.
#[derive(Debug)]
pub struct Network {
    encoder: Box<dyn Encoder>,
    head: ClassifierHead,
}

impl Network {
    /// Fresh weights by the plan's seed. Encoder and head are drawn apart, so that the head does not depend on whether
    /// the encoder's weights are replaced.
    #[must_use]
    pub fn build(plan: &Plan, num_classes: usize, device: Device) -> (VarStore, Self) {
        let store = VarStore::new(device);
        let root = store.root();
        tch::manual_seed(torch_seed(plan.seed, "weights", 0));
        let encoder = plan.tap.encoder.build(&(&root / "encoder"));
        tch::manual_seed(torch_seed(plan.seed, "head", 0));
        let head = ClassifierHead::new(
            &(&root / "prediction"),
            encoder.global_channels(),
            num_classes as i64,
            &plan.head,
        );
        (store, Self { encoder, head })
    }

    /// Logits of a batch.
    ///
    /// # Shapes
    /// - returns [B, classes]
    pub fn logits(&self, batch: &Batch, train: bool) -> Tensor {
        self.head
            .forward(&self.encoder.global_feature(&batch.cloud, train), train)
    }
}

/// How often augmented clouds are looked at in an evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Votes {
    /// How many augmented passes join the plain one.
    pub count: u32,
    /// Seed of their draws.
    pub seed: u64,
}

/// The hash of an initial encoder's file, or "none".
///
/// # Errors
/// Where it cannot be read.
pub fn init_sha256(init: Option<&(BTreeMap<String, Tensor>, PathBuf)>) -> Result<String, TrainError> {
    init.map_or_else(|| Ok(String::from("none")), |(_, path)| file_sha256(path))
}

/// Classification as an objective.
#[derive(Debug)]
struct ClassifyObjective<'a> {
    plan: &'a Plan,
    network: &'a Network,
    device: Device,
    evaluation: Arc<dyn SampleSource>,
    num_classes: usize,
    loader_threads: usize,
    confusion: Confusion,
}

impl std::fmt::Debug for dyn SampleSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} rows", self.len())
    }
}

/// Fine-tunes; `None` where it was interrupted, to be resumed.
///
/// # Errors
/// Where configuration, data, weights, disk or numbers fail.
pub fn finetune(
    config: &Config,
    options: &RunOptions,
    labels_per_class: usize,
    init: Option<&Path>,
    cancel: &AtomicBool,
    on_event: OnEvent<'_>,
) -> Result<Option<ClassifyResult>, TrainError> {
    let data = OpenData::open(&options.data)?;
    let init = init.map(read_encoder).transpose()?;
    let (plan, train) = data.plan(
        config,
        Task::Classify,
        labels_per_class,
        &init_sha256(init.as_ref())?,
    )?;
    run::check(&options.out, options.existing, &plan)?;
    let classes = data.dataset.classes().to_vec();
    let evaluation: Arc<dyn SampleSource> = Arc::new(data.rows(plan.data.evaluation_split)?);
    let (store, network) = Network::build(&plan, classes.len(), options.device);
    if let Some((tensors, path)) = &init {
        let report = copy_weights(&store, tensors, ENCODER_PREFIX);
        if !report.is_exact() {
            return Err(TrainError::Weights {
                report: report.to_string(),
                path: path.clone(),
            });
        }
        on_event(TrainEvent::Note(format!(
            "encoder from {}: {report}",
            path.display()
        )));
    }
    run::prepare(&options.out, options.existing, &plan)?;
    let training = Training {
        plan: &plan,
        options,
        store: &store,
        batches: train_batches(&plan, Arc::new(train), ViewChoice::None),
    };
    let mut objective = ClassifyObjective {
        plan: &plan,
        network: &network,
        device: options.device,
        evaluation,
        num_classes: classes.len(),
        loader_threads: options.loader_threads,
        confusion: Confusion::new(classes.len()),
    };
    let outcome = training.run(&mut objective, cancel, on_event)?;
    if outcome.is_interrupted {
        return Ok(None);
    }
    let confusion = objective.confusion;
    let metadata = BTreeMap::from([
        (String::from("config_sha256"), plan.sha256()),
        (String::from("data_sha256"), plan.data_sha256.clone()),
        (
            String::from(CLASSES_KEY),
            serde_json::to_string(&classes).unwrap_or_default(),
        ),
    ]);
    write_tensors(
        &options.out.join(MODEL_FILE),
        store.variables().into_iter().collect(),
        &metadata,
    )?;
    let result = ClassifyResult {
        elapsed_s: outcome.elapsed_s,
        cpu_s: outcome.cpu_s,
        ..result(
            &plan,
            &data,
            options,
            plan.data.evaluation_split,
            Votes::default(),
            classes,
            confusion,
        )
    };
    run::write_json(&options.out.join(run::RESULT_FILE), &result)?;
    Ok(Some(result))
}

fn result(
    plan: &Plan,
    data: &OpenData,
    options: &RunOptions,
    split: Split,
    votes: Votes,
    classes: Vec<String>,
    confusion: Confusion,
) -> ClassifyResult {
    ClassifyResult {
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
        num_steps: plan.phase.num_steps,
        accuracy: confusion.accuracy(),
        mean_class_accuracy: confusion.mean_class_accuracy(),
        classes,
        confusion,
        elapsed_s: 0.0,
        cpu_s: 0.0,
        num_threads: options.num_threads,
        device: device_name(options.device),
    }
}

/// Scores a finished fine-tuning on a split of a data set; `options.out` is the run that is read.
///
/// # Errors
/// Where the run is not finished, or the data has other classes.
pub fn evaluate(options: &RunOptions, split: Split, votes: Votes) -> Result<ClassifyResult, TrainError> {
    let plan = Plan::read(&options.out.join(run::CONFIG_FILE))?;
    let data = OpenData::open(&options.data)?;
    let file = checkpoint::model_file(&options.out)?;
    let tensors = read_tensors(&file)?;
    let classes = data.dataset.classes().to_vec();
    if let Some(trained) = read_metadata(&file)?.get(CLASSES_KEY)
        && serde_json::from_str::<Vec<String>>(trained).ok().as_ref() != Some(&classes)
    {
        let reason = format!("the run was trained on other classes ({trained})");
        return Err(TrainError::UnsuitableData {
            reason,
            path: options.data.clone(),
        });
    }
    let (store, network) = Network::build(&plan, classes.len(), options.device);
    let report = copy_weights(&store, &tensors, "");
    if !report.is_exact() {
        return Err(TrainError::Weights {
            report: report.to_string(),
            path: file,
        });
    }
    let rows: Arc<dyn SampleSource> = Arc::new(data.rows(split)?);
    let confusion = score(
        &plan,
        &network,
        &rows,
        classes.len(),
        votes,
        options.device,
        options.loader_threads,
    )?;
    Ok(result(&plan, &data, options, split, votes, classes, confusion))
}

/// Takes every row for the class of the largest probability, averaged over the votes.
fn score(
    plan: &Plan,
    network: &Network,
    rows: &Arc<dyn SampleSource>,
    num_classes: usize,
    votes: Votes,
    device: Device,
    loader_threads: usize,
) -> Result<Confusion, TrainError> {
    let mut labels = Vec::new();
    let mut probabilities: Option<Tensor> = None;
    for vote in 0..=votes.count {
        let batches = if vote == 0 {
            plain_batches(plan, Arc::clone(rows), ViewChoice::None, EVALUATION_BATCH)
        } else {
            vote_batches(plan, rows, votes.seed, vote, EVALUATION_BATCH)
        };
        let mut of_vote = Vec::new();
        for host in Loader::start(&batches, 0..batches.order().steps_per_epoch(), loader_threads) {
            let host = host?;
            let batch = host.to_tensors(device);
            of_vote.push(no_grad(|| {
                network
                    .logits(&batch, false)
                    .softmax(-1, Kind::Double)
                    .to_device(Device::Cpu)
            }));
            if vote == 0 {
                labels.extend(host.labels);
            }
        }
        let of_vote = Tensor::cat(&of_vote, 0);
        probabilities = Some(match probabilities {
            Some(sum) => sum + of_vote,
            None => of_vote,
        });
    }
    let probabilities = probabilities.expect("there is at least one vote");
    let predictions: Vec<i64> =
        Vec::try_from(probabilities.argmax(-1, false)).map_err(|source| TrainError::Torch {
            action: "reading predictions",
            source,
        })?;
    let mut confusion = Confusion::new(num_classes);
    for (label, prediction) in labels.into_iter().zip(predictions) {
        confusion.add(label as usize, prediction as usize);
    }
    Ok(confusion)
}

impl Objective for ClassifyObjective<'_> {
    fn loss(&self, batch: &Batch) -> StepLoss {
        let logits = self.network.logits(batch, true);
        StepLoss {
            total: smooth_cross_entropy(&logits, &batch.labels, self.plan.loss.label_smoothing),
            parts: None,
        }
    }

    fn evaluate(&mut self, step: u64) -> Result<Record, TrainError> {
        let Self {
            plan,
            network,
            device,
            num_classes,
            loader_threads,
            ..
        } = *self;
        self.confusion = score(
            plan,
            network,
            &self.evaluation,
            num_classes,
            Votes::default(),
            device,
            loader_threads,
        )?;
        Ok(Record::Evaluation(EvaluationRecord {
            step,
            accuracy: self.confusion.accuracy(),
            mean_class_accuracy: self.confusion.mean_class_accuracy(),
        }))
    }

    fn picture(&mut self) -> Result<Option<Picture>, TrainError> {
        Ok(None)
    }
}
