//! Fine-tuning an encoder to name the part of every point, and scoring it ("Part-seg evaluation").
//!
//! A point is given the likeliest of the parts of all classes, as published; the score is taken as it comes and after the
//! clean-up by neighbours that published scores have behind them. The last step is evaluated: no model selection.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};
use tap_dataset::Split;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor, no_grad};

use super::classify::{Votes, init_sha256};
use super::{OpenData, plain_batches, train_batches, vote_batches};
use crate::batch::Batch;
use crate::checkpoint::{self, MODEL_FILE, copy_weights, read_encoder};
use crate::config::{Config, PartPlan, Plan, Task};
use crate::error::TrainError;
use crate::event::{OnEvent, Record, SegmentationRecord, TrainEvent};
use crate::loader::{Loader, ViewChoice};
use crate::loss::poly1_focal;
use crate::metric::{PartScore, part_iou, refine_parts};
use crate::model::{PartInput, Segmenter, SegmenterSizes, build_segmenter};
use crate::picture::Picture;
use crate::process::device_name;
use crate::run;
use crate::seed::torch_seed;
use crate::source::SampleSource;
use crate::tensor_file::{read_metadata, read_tensors, write_tensors};
use crate::trainer::{Objective, RunOptions, StepLoss, Training};

/// How every key of the network begins.
const SEGMENTER_PREFIX: &str = "segmentor.";
/// Objects of an evaluation batch.
const EVALUATION_BATCH: usize = 16;
/// Where `model.safetensors` keeps the class names.
const CLASSES_KEY: &str = "classes";

/// Scores of one evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SegmentScore {
    /// Predictions as they come.
    pub plain: PartScore,
    /// After the clean-up by neighbours.
    pub refined: PartScore,
    /// The part of the points that is right as they come, 0 to 1.
    pub point_accuracy: f64,
}

/// A score, and everything that it depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SegmentResult {
    /// SHA-256 of the data.
    pub data_sha256: String,
    /// SHA-256 of the resolved configuration.
    pub config_sha256: String,
    /// Its preset.
    pub preset: String,
    /// Seed of the run.
    pub seed: u64,
    /// SHA-256 of the encoder's file; "none" from scratch.
    pub init_sha256: String,
    /// Labeled objects a class in training; 0 is all.
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
    /// The scores.
    pub score: SegmentScore,
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

fn log_probabilities(segmenter: &dyn Segmenter, batch: &Batch, train: bool) -> Tensor {
    let parts = batch.parts.as_ref().expect("batches of segmentation have parts");
    let input = PartInput {
        cloud: &batch.cloud,
        normals: &parts.normals,
        class: &batch.labels,
    };
    segmenter.log_probabilities(&input, train)
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
    let data = OpenData::open(&options.data)?;
    let init = init.map(read_encoder).transpose()?;
    let (plan, train) = data.plan(
        config,
        Task::Segment,
        labels_per_class,
        &init_sha256(init.as_ref())?,
    )?;
    run::check(&options.out, options.existing, &plan)?;
    let evaluation: Arc<dyn SampleSource> = Arc::new(data.rows(plan.data.evaluation_split)?);
    let (store, segmenter) = build(&plan, options.device);
    if let Some((tensors, path)) = &init {
        let report = copy_weights(&store, tensors, SEGMENTER_PREFIX);
        if report.num_copied == 0 {
            return Err(TrainError::Weights {
                report: report.to_string(),
                path: path.clone(),
            });
        }
        let of_decoder = report.missing.len();
        on_event(TrainEvent::Note(format!(
            "encoder from {}: {} tensors fit, {of_decoder} of the decoder start at random{}{}",
            path.display(),
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
        batches: train_batches(&plan, Arc::new(train), ViewChoice::None),
    };
    let mut objective = SegmentObjective {
        plan: &plan,
        segmenter: segmenter.as_ref(),
        evaluation,
        device: options.device,
        loader_threads: options.loader_threads,
        score: None,
    };
    let outcome = training.run(&mut objective, cancel, on_event)?;
    let (false, Some(score)) = (outcome.is_interrupted, objective.score) else {
        return Ok(None);
    };
    let classes = data.dataset.classes().to_vec();
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
    let result = SegmentResult {
        elapsed_s: outcome.elapsed_s,
        cpu_s: outcome.cpu_s,
        ..result(
            &plan,
            &data,
            options,
            plan.data.evaluation_split,
            Votes::default(),
            score,
        )
    };
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

fn result(
    plan: &Plan,
    data: &OpenData,
    options: &RunOptions,
    split: Split,
    votes: Votes,
    score: SegmentScore,
) -> SegmentResult {
    SegmentResult {
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
        score,
        classes: data.dataset.classes().to_vec(),
        elapsed_s: 0.0,
        cpu_s: 0.0,
        num_threads: options.num_threads,
        device: device_name(options.device),
    }
}

/// Scores a finished fine-tuning on a split of a data set; `options.out` is the run that is read.
///
/// # Errors
/// Where the run is not finished, or the data has other classes or parts.
pub fn evaluate(options: &RunOptions, split: Split, votes: Votes) -> Result<SegmentResult, TrainError> {
    let plan = Plan::read(&options.out.join(run::CONFIG_FILE))?;
    let data = OpenData::open(&options.data)?;
    let file = checkpoint::model_file(&options.out)?;
    let unsuitable = |reason| TrainError::UnsuitableData {
        reason,
        path: options.data.clone(),
    };
    let trained = read_metadata(&file)?.remove(CLASSES_KEY).unwrap_or_default();
    if serde_json::from_str::<Vec<String>>(&trained).is_ok_and(|trained| trained != data.dataset.classes()) {
        return Err(unsuitable(format!(
            "the run was trained on other classes ({trained})"
        )));
    }
    if data.parts_by_class() != parts(&plan).by_class {
        return Err(unsuitable(String::from("the run was trained on other parts")));
    }
    let (store, segmenter) = build(&plan, options.device);
    let report = copy_weights(&store, &read_tensors(&file)?, "");
    if !report.is_exact() {
        return Err(TrainError::Weights {
            report: report.to_string(),
            path: file,
        });
    }
    let rows: Arc<dyn SampleSource> = Arc::new(data.rows(split)?);
    let score = score(
        &plan,
        segmenter.as_ref(),
        &rows,
        votes,
        options.device,
        options.loader_threads,
    )?;
    Ok(result(&plan, &data, options, split, votes, score))
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
    let plain = plain_batches(plan, Arc::clone(rows), ViewChoice::None, EVALUATION_BATCH);
    let steps = 0..plain.order().steps_per_epoch();
    let mut passes = vec![Loader::start(&plain, steps.clone(), loader_threads)];
    for vote in 1..=votes.count {
        let batches = vote_batches(plan, rows, votes.seed, vote, EVALUATION_BATCH);
        passes.push(Loader::start(&batches, steps.clone(), 1));
    }
    let by_class = &parts(plan).by_class;
    let (mut ious, mut refined_ious) = (Vec::new(), Vec::new());
    let (mut num_right, mut num_points) = (0_usize, 0_usize);
    let next = |pass: &mut Loader| pass.next().expect("all passes have the same steps");
    for _ in steps {
        let mut host = None;
        let mut sum: Option<Tensor> = None;
        for pass in &mut passes {
            let of_pass = next(pass)?;
            let got = no_grad(|| log_probabilities(segmenter, &of_pass.to_tensors(device), false));
            sum = Some(match sum {
                Some(sum) => sum + got,
                None => got,
            });
            host.get_or_insert(of_pass);
        }
        let (host, sum) = host.zip(sum).expect("there is a plain pass");
        let predicted = sum.argmax(-1, false).to_kind(Kind::Uint8).to_device(Device::Cpu);
        let mut predictions = vec![0_u8; predicted.numel()];
        let len = predictions.len();
        predicted.contiguous().view(-1).copy_data(&mut predictions, len);
        let (points, rest) = host.points.as_chunks::<3>();
        debug_assert!(rest.is_empty(), "three coordinates a point");
        let objects = predictions
            .chunks_exact_mut(host.num_points)
            .zip(points.chunks_exact(host.num_points))
            .zip(host.part_labels.chunks_exact(host.num_points))
            .zip(&host.labels);
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
    fn loss(&self, batch: &Batch) -> StepLoss {
        let labels = &batch
            .parts
            .as_ref()
            .expect("batches of segmentation have parts")
            .labels;
        StepLoss {
            total: poly1_focal(&log_probabilities(self.segmenter, batch, true), labels),
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
        let record = SegmentationRecord {
            step,
            instance_miou: score.plain.instance_miou,
            class_miou: score.plain.class_miou,
            point_accuracy: score.point_accuracy,
        };
        self.score = Some(score);
        Ok(Record::Segmentation(record))
    }

    fn picture(&mut self) -> Result<Option<Picture>, TrainError> {
        Ok(None)
    }
}
