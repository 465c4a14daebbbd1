//! Fine-tuning an encoder to name classes, and scoring it.
//!
//! The last step is evaluated: no model selection. Voting is off unless asked for. The seed sets the label subset, the
//! head and, from scratch, all weights, so runs of one seed from different encoders are pairs.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};
use tap_dataset::Split;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor, no_grad};

use super::finetuned::{self, FinetunedRun, Provenance};
use super::vote::{VoteRule, Votes};
use super::{
    OpenData, checkpoint_to_resume, evaluation_batches, read_init, require_exact, require_finite,
    train_batches,
};
use crate::config::{Config, Plan, Task};
use crate::data::batch::Batch;
use crate::data::loader::{Loader, ViewSampling};
use crate::data::source::SampleSource;
use crate::engine::trainer::{Objective, RunOptions, StepLoss, Training};
use crate::error::TrainError;
use crate::metric::Confusion;
use crate::model::loss::smooth_cross_entropy;
use crate::model::{ClassifierHead, Encoder, Mode};
use crate::run;
use crate::run::event::{OnEvent, Record, TrainEvent};
use crate::run::image_grid::ImageGrid;
use crate::run::weights::{EncoderWeights, TrainedOn, WeightChoice};
use crate::scalar::Scalars;
use crate::seed::torch_seed;
use crate::weights::checkpoint::{ENCODER_PREFIX, copy_weights};

/// Objects of an evaluation batch.
const EVALUATION_BATCH: usize = 32;

/// A score, and everything that it depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassifyResult {
    /// Where it comes from.
    #[serde(flatten)]
    pub provenance: Provenance,
    /// The part that is right, 0 to 1.
    pub accuracy: f64,
    /// The mean over classes of the part that is right.
    pub mean_class_accuracy: f64,
    /// `counts[label][prediction]`.
    pub confusion: Confusion,
}

impl ClassifyResult {
    fn new(provenance: Provenance, confusion: Confusion) -> Self {
        Self {
            provenance,
            accuracy: confusion.accuracy(),
            mean_class_accuracy: confusion.mean_class_accuracy(),
            confusion,
        }
    }
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
    pub fn logits(&self, batch: &Batch, mode: Mode) -> Tensor {
        self.head
            .forward(&self.encoder.global_feature(&batch.cloud, mode), mode)
    }
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
    let inputs: Vec<&Path> = [options.data.as_path()].into_iter().chain(init).collect();
    let _lock = run::lock(&options.out, options.existing, &inputs)?;
    let checkpoint = checkpoint_to_resume(options, on_event)?;
    let data = OpenData::open(&options.data)?;
    let (init, init_sha256) = read_init(init, on_event)?;
    let (plan, train) = data.plan(config, Task::Classify, labels_per_class, &init_sha256)?;
    run::check(&options.out, options.existing, &plan)?;
    let num_classes = data.dataset.classes().len();
    let evaluation: Arc<dyn SampleSource> = Arc::new(data.rows(plan.data.evaluation_split)?);
    let (store, network) = Network::build(&plan, num_classes, options.device);
    if let Some(EncoderWeights { tensors, file, .. }) = &init {
        let report = require_exact(copy_weights(&store, tensors, ENCODER_PREFIX), file)?;
        on_event(TrainEvent::Note(format!(
            "encoder from {}: {report}",
            file.display()
        )));
    }
    run::prepare(&options.out, options.existing, &plan)?;
    let training = Training {
        plan: &plan,
        options,
        store: &store,
        trained_on: TrainedOn::new(data.dataset.classes(), train.labels()),
        batches: train_batches(&plan, Arc::new(train), ViewSampling::None),
        checkpoint,
    };
    let mut objective = ClassifyObjective {
        plan: &plan,
        network: &network,
        device: options.device,
        evaluation,
        num_classes,
        loader_threads: options.loader_threads,
        confusion: Confusion::new(num_classes),
    };
    let summary = training.run(&mut objective, cancel, on_event)?;
    if summary.is_interrupted {
        return Ok(None);
    }
    finetuned::save(&plan, options, &store, &training.trained_on)?;
    let provenance = Provenance::of_training(&plan, &data, options, &summary, &training.trained_on);
    let result = ClassifyResult::new(provenance, objective.confusion);
    run::write_json(&options.out.join(run::RESULT_FILE), &result)?;
    Ok(Some(result))
}

/// Scores weights of a fine-tuning on a split of a data set; `options.out` is the run that is read.
///
/// # Errors
/// Where the run is not finished though `weights` says so, the data has other classes, the weights or their answers are
/// not finite, or the votes are those of another task.
pub fn evaluate(
    options: &RunOptions,
    split: Split,
    votes: Votes,
    weights: WeightChoice,
    on_event: OnEvent<'_>,
) -> Result<ClassifyResult, TrainError> {
    if votes.rule == VoteRule::Published {
        return Err(TrainError::Config {
            reason: String::from("the published rule of voting is one of part segmentation"),
        });
    }
    let run = FinetunedRun::open(options, weights, on_event)?;
    let FinetunedRun { plan, data, .. } = &run;
    let num_classes = data.dataset.classes().len();
    let (store, network) = Network::build(plan, num_classes, options.device);
    run.load(&store)?;
    let rows: Arc<dyn SampleSource> = Arc::new(data.rows(split)?);
    let confusion = score(
        plan,
        &network,
        &rows,
        num_classes,
        votes,
        options.device,
        options.loader_threads,
    )?;
    let provenance = run.provenance(options, split, votes);
    Ok(ClassifyResult::new(provenance, confusion))
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
    let plain = evaluation_batches(plan, Arc::clone(rows), ViewSampling::None, EVALUATION_BATCH);
    let looks = std::iter::once(plain).chain(votes.augmented(plan, rows, EVALUATION_BATCH));
    for batches in looks {
        let mut of_vote = Vec::new();
        for cpu_batch in Loader::start(&batches, 0..batches.sampler().steps_per_epoch(), loader_threads) {
            let cpu_batch = cpu_batch?;
            let batch = cpu_batch.to_tensors(device);
            let logits = no_grad(|| network.logits(&batch, Mode::EVAL));
            require_finite(&logits, &cpu_batch)?;
            of_vote.push(logits.softmax(-1, Kind::Double).to_device(Device::Cpu));
            if probabilities.is_none() {
                labels.extend(cpu_batch.labels);
            }
        }
        let of_vote = Tensor::cat(&of_vote, 0);
        probabilities = Some(match probabilities {
            Some(sum) => sum + of_vote,
            None => of_vote,
        });
    }
    let probabilities = probabilities.expect("there is a plain look");
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
    fn loss(&self, batch: &Batch, mode: Mode) -> StepLoss {
        let logits = self.network.logits(batch, mode);
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
        let scalars = Scalars::default()
            .with("accuracy", self.confusion.accuracy())
            .with("mean_class_accuracy", self.confusion.mean_class_accuracy());
        Ok(Record::new("evaluation", step, scalars))
    }

    fn picture(&mut self) -> Result<Option<ImageGrid>, TrainError> {
        Ok(None)
    }
}
