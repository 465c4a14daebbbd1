//! Fine-tuning an encoder to name the part of every point, and scoring it (`docs/protocols.md`, "Part segmentation").
//!
//! A point is given the likeliest of the parts of all classes, as published; the score is taken as it comes and after the
//! clean-up by neighbors that published scores have behind them. The last step is evaluated: no model selection.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};
use tap_dataset::Split;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor, no_grad};

use super::finetuned::{self, FinetunedRun, Provenance};
use super::vote::Votes;
use super::{OpenData, checkpoint_to_resume, evaluation_batches, read_init, require_finite, train_batches};
use crate::config::{Config, PartPlan, Plan, Task};
use crate::data::batch::Batch;
use crate::data::loader::{Loader, ViewSampling};
use crate::data::source::SampleSource;
use crate::engine::trainer::{Objective, RunOptions, StepLoss, Training};
use crate::error::TrainError;
use crate::metric::{PartScore, part_iou, refine_parts};
use crate::model::loss::poly1_focal;
use crate::model::{Mode, PartInput, Segmenter, SegmenterSizes, build_segmenter};
use crate::run;
use crate::run::event::{OnEvent, Record, TrainEvent};
use crate::run::image_grid::ImageGrid;
use crate::run::weights::{EncoderWeights, TrainedOn, WeightChoice};
use crate::scalar::Scalars;
use crate::seed::torch_seed;
use crate::weights::checkpoint::copy_weights;

/// How every key of the network begins.
const SEGMENTER_PREFIX: &str = "segmentor.";
/// Objects of an evaluation batch.
const EVALUATION_BATCH: usize = 16;

/// Scores of one evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SegmentScore {
    /// Predictions as they come.
    pub plain: PartScore,
    /// After the clean-up by neighbors.
    pub refined: PartScore,
    /// The part of the points that is right as they come, 0 to 1.
    pub point_accuracy: f64,
}

/// A score, and everything that it depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SegmentResult {
    /// Where it comes from.
    #[serde(flatten)]
    pub provenance: Provenance,
    /// The scores.
    pub score: SegmentScore,
}

/// The network that a plan asks for, with fresh weights by its seed.
fn build(plan: &Plan, device: Device) -> (VarStore, Box<dyn Segmenter>) {
    let store = VarStore::new(device);
    tch::manual_seed(torch_seed(plan.seed, "weights", 0));
    let by_class = parts(plan).by_class.iter();
    let last_part = by_class.clone().flatten().max().copied().unwrap_or(0);
    let sizes = SegmenterSizes {
        num_classes: by_class.len() as i64,
        num_parts: i64::from(last_part) + 1,
        dropout: plan.head.dropout,
    };
    let segmenter = build_segmenter(&plan.tap.encoder, &(store.root() / "segmentor"), &sizes);
    (store, segmenter)
}

fn parts(plan: &Plan) -> &PartPlan {
    plan.parts
        .as_ref()
        .expect("a plan for segmentation knows the parts")
}

fn log_probabilities(segmenter: &dyn Segmenter, batch: &Batch, mode: Mode) -> Tensor {
    let parts = batch.parts.as_ref().expect("batches of segmentation have parts");
    let input = PartInput {
        cloud: &batch.cloud,
        normals: &parts.normals,
        class: &batch.labels,
    };
    segmenter.log_probabilities(&input, mode)
}

/// Part segmentation as an objective.
#[derive(Debug)]
struct SegmentObjective<'a> {
    plan: &'a Plan,
    segmenter: &'a dyn Segmenter,
    evaluation: Arc<dyn SampleSource>,
    device: Device,
    loader_threads: usize,
    score: Option<SegmentScore>,
}

/// Fine-tunes; `None` where it was interrupted, to be resumed.
///
/// Of an encoder all tensors are taken that the segmenter has by the same name and shape; what was taken and what was not
/// is reported.
///
/// # Errors
/// Where configuration, data, weights, disk or numbers fail, or where nothing of the encoder fits.
pub fn finetune(
    config: &Config,
    options: &RunOptions,
    labels_per_class: usize,
    init: Option<&Path>,
    cancel: &AtomicBool,
    on_event: OnEvent<'_>,
) -> Result<Option<SegmentResult>, TrainError> {
    let inputs: Vec<&Path> = [options.data.as_path()].into_iter().chain(init).collect();
    let _lock = run::lock(&options.out, options.existing, &inputs)?;
    let checkpoint = checkpoint_to_resume(options, on_event)?;
    let data = OpenData::open(&options.data)?;
    let (init, init_sha256) = read_init(init, on_event)?;
    let (plan, train) = data.plan(config, Task::Segment, labels_per_class, &init_sha256)?;
    run::check(&options.out, options.existing, &plan)?;
    let evaluation: Arc<dyn SampleSource> = Arc::new(data.rows(plan.data.evaluation_split)?);
    let (store, segmenter) = build(&plan, options.device);
    if let Some(EncoderWeights { tensors, file, .. }) = &init {
        let report = copy_weights(&store, tensors, SEGMENTER_PREFIX);
        if report.num_copied == 0 {
            return Err(TrainError::Weights {
                report: report.to_string(),
                path: file.clone(),
            });
        }
        let of_decoder = report.missing.len();
        on_event(TrainEvent::Note(format!(
            "encoder from {}: {} tensors fit, {of_decoder} of the decoder start at random{}{}",
            file.display(),
            report.num_copied,
            listed("of another shape, at random as well", &report.differing),
            listed("of the file without use", &report.unexpected),
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
    let mut objective = SegmentObjective {
        plan: &plan,
        segmenter: segmenter.as_ref(),
        evaluation,
        device: options.device,
        loader_threads: options.loader_threads,
        score: None,
    };
    let summary = training.run(&mut objective, cancel, on_event)?;
    let (false, Some(score)) = (summary.is_interrupted, objective.score) else {
        return Ok(None);
    };
    finetuned::save(&plan, options, &store, &training.trained_on)?;
    let provenance = Provenance::of_training(&plan, &data, options, &summary, &training.trained_on);
    let result = SegmentResult { provenance, score };
    run::write_json(&options.out.join(run::RESULT_FILE), &result)?;
    Ok(Some(result))
}

/// ", 2 what (a, b)", or nothing.
fn listed(what: &str, names: &[String]) -> String {
    if names.is_empty() {
        String::new()
    } else {
        format!(", {} {what} ({})", names.len(), names.join(", "))
    }
}

/// Scores weights of a fine-tuning on a split of a data set; `options.out` is the run that is read.
///
/// # Errors
/// Where the run is not finished though `weights` says so, the data has other classes or parts, or the weights or their
/// answers are not finite.
pub fn evaluate(
    options: &RunOptions,
    split: Split,
    votes: Votes,
    weights: WeightChoice,
    on_event: OnEvent<'_>,
) -> Result<SegmentResult, TrainError> {
    let run = FinetunedRun::open(options, weights, on_event)?;
    let FinetunedRun { plan, data, .. } = &run;
    if data.parts_by_class() != parts(plan).by_class {
        return Err(TrainError::UnsuitableData {
            reason: String::from("the run was trained on other parts"),
            path: options.data.clone(),
        });
    }
    let (store, segmenter) = build(plan, options.device);
    run.load(&store)?;
    let rows: Arc<dyn SampleSource> = Arc::new(data.rows(split)?);
    let score = score(
        plan,
        segmenter.as_ref(),
        &rows,
        votes,
        options.device,
        options.loader_threads,
    )?;
    let provenance = run.provenance(options, split, votes);
    Ok(SegmentResult { provenance, score })
}

/// Takes every point for its likeliest part; log-probabilities are summed over the votes, which keep the points' order.
fn score(
    plan: &Plan,
    segmenter: &dyn Segmenter,
    rows: &Arc<dyn SampleSource>,
    votes: Votes,
    device: Device,
    loader_threads: usize,
) -> Result<SegmentScore, TrainError> {
    let plain = evaluation_batches(plan, Arc::clone(rows), ViewSampling::None, EVALUATION_BATCH);
    let steps = 0..plain.sampler().steps_per_epoch();
    let mut looks: Vec<Loader> = votes
        .augmented(plan, rows, EVALUATION_BATCH)
        .map(|batches| Loader::start(&batches, steps.clone(), 1))
        .collect();
    let mut plain = Loader::start(&plain, steps.clone(), loader_threads);
    let next = |look: &mut Loader| look.next().expect("all looks have the same steps");
    let by_class = &parts(plan).by_class;
    let (mut ious, mut refined_ious) = (Vec::new(), Vec::new());
    let (mut num_right, mut num_points) = (0_usize, 0_usize);
    for batch_idx in steps {
        let cpu_batch = next(&mut plain)?;
        let mut batch = cpu_batch.to_tensors(device);
        let look = |batch: &Batch| no_grad(|| log_probabilities(segmenter, batch, Mode::EVAL));
        let mut sum = look(&batch);
        for vote in &mut looks {
            sum += look(&next(vote)?.to_tensors(device));
        }
        let rescaled = votes.rescaled(&batch.cloud, plan.phase.augmentation.scale, batch_idx);
        for cloud in rescaled {
            batch.cloud = cloud;
            sum += look(&batch);
        }
        require_finite(&sum, &cpu_batch)?;
        let predicted = sum.argmax(-1, false).to_kind(Kind::Uint8).to_device(Device::Cpu);
        let mut predictions = vec![0_u8; predicted.numel()];
        let len = predictions.len();
        predicted.contiguous().view(-1).copy_data(&mut predictions, len);
        let (points, rest) = cpu_batch.points.as_chunks::<3>();
        debug_assert!(rest.is_empty(), "three coordinates a point");
        let objects = predictions
            .chunks_exact_mut(cpu_batch.num_points)
            .zip(points.chunks_exact(cpu_batch.num_points))
            .zip(cpu_batch.part_labels.chunks_exact(cpu_batch.num_points))
            .zip(&cpu_batch.labels);
        for (((prediction, points), truth), &class) in objects {
            let class = class as usize;
            let truth: Vec<u8> = truth.iter().map(|&part| part as u8).collect();
            num_right += prediction.iter().zip(&truth).filter(|(a, b)| a == b).count();
            num_points += truth.len();
            ious.push((class, part_iou(prediction, &truth, &by_class[class])));
            refine_parts(prediction, points, &by_class[class]);
            refined_ious.push((class, part_iou(prediction, &truth, &by_class[class])));
        }
    }
    Ok(SegmentScore {
        plain: PartScore::of(&ious, by_class.len()),
        refined: PartScore::of(&refined_ious, by_class.len()),
        point_accuracy: num_right as f64 / num_points.max(1) as f64,
    })
}

impl Objective for SegmentObjective<'_> {
    fn loss(&self, batch: &Batch, mode: Mode) -> StepLoss {
        let labels = &batch
            .parts
            .as_ref()
            .expect("batches of segmentation have parts")
            .labels;
        StepLoss {
            total: poly1_focal(&log_probabilities(self.segmenter, batch, mode), labels),
            parts: None,
        }
    }

    fn evaluate(&mut self, step: u64) -> Result<Record, TrainError> {
        let score = score(
            self.plan,
            self.segmenter,
            &self.evaluation,
            Votes::default(),
            self.device,
            self.loader_threads,
        )?;
        let scalars = Scalars::default()
            .with("instance_miou", score.plain.instance_miou)
            .with("class_miou", score.plain.class_miou)
            .with("point_accuracy", score.point_accuracy);
        self.score = Some(score);
        Ok(Record::new("segmentation", step, scalars))
    }

    fn picture(&mut self) -> Result<Option<ImageGrid>, TrainError> {
        Ok(None)
    }
}
