//! Probes of frozen features: a linear SVM and nearest neighbors on pooled tokens, compared with random encoders of the
//! same architecture.
//!
//! A random encoder gets its batch-norm statistics from the training clouds first; otherwise the comparison would be
//! unfair to it. The label draws are the same for all encoders.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor, no_grad};

use super::{DataChoice, OpenData, evaluation_batches, require_exact, require_finite};
use crate::config::{Config, MixPlan, Plan, Task};
use crate::data::collator::{Collator, ViewSampling};
use crate::data::loader::Loader;
use crate::data::source::{SampleSource, draw_per_class};
use crate::engine::trainer::RunOptions;
use crate::error::TrainError;
use crate::metric::Summary;
use crate::model::{Encoder, Mode};
use crate::process::device_name;
use crate::run::event::{OnEvent, TrainEvent};
use crate::run::weights::{EncoderWeights, TrainedOn, read_encoder};
use crate::run::write_json;
use crate::seed::torch_seed;
use crate::task::svm::{LinearSvm, StandardScaler, nearest_neighbor_accuracy};
use crate::weights::checkpoint::copy_weights;
use crate::weights::safetensors::file_sha256;

/// C of the SVM.
const SVM_COST: f64 = 0.01;
/// Neighbors with all labels; one where labels are few.
const NEIGHBORS: usize = 5;
/// Draws of a label subset.
const NUM_DRAWS: u64 = 10;
/// Passes over the training clouds that measure batch-norm statistics; each moves them by a tenth per batch.
const CALIBRATION_PASSES: usize = 3;
/// Objects of a batch.
const BATCH_SIZE: usize = 32;

/// Options of a probe.
#[derive(Debug, Clone)]
pub struct ProbeOptions {
    /// Random encoders to compare with.
    pub random_inits: u64,
    /// Labels a class; 0 is all.
    pub labels_per_class: Vec<usize>,
    /// Seed of random encoders and label draws.
    pub seed: u64,
}

/// The scores of all encoders with their provenance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// SHA-256 of the data.
    pub data_sha256: String,
    /// SHA-256 of the encoder's file.
    pub init_sha256: String,
    /// Seed of random encoders and label draws.
    pub seed: u64,
    /// Evaluation split.
    pub evaluation_split: String,
    /// The condition on rows; absent for all.
    #[serde(rename = "where", default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Data sets that were mixed into the training rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mix: Vec<MixPlan>,
    /// Training objects of each class; fewer than a number of labels is what there is of them.
    #[serde(default)]
    pub train_objects_per_class: Vec<usize>,
    /// Label subsets drawn for each count.
    pub num_draws: u64,
    /// Description of features and classifiers.
    pub method: String,
    /// One entry an encoder.
    pub arms: Vec<ProbeArm>,
    /// Device.
    pub device: String,
}

/// The scores of one encoder, 0 to 1, by labels a class ("5", "all").
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeArm {
    /// "tap" or "random-K".
    pub name: String,
    /// Linear SVM.
    pub svm: serde_json::Map<String, serde_json::Value>,
    /// Nearest neighbors.
    pub knn: serde_json::Map<String, serde_json::Value>,
}

/// Features with their labels.
struct Features {
    train: Vec<Vec<f64>>,
    train_labels: Vec<usize>,
    test: Vec<Vec<f64>>,
    test_labels: Vec<usize>,
}

/// Probes the encoder of `init` and random ones; writes `probe.json` into `options.out`.
///
/// # Errors
/// Where data or weights cannot be read.
pub fn probe(
    config: &Config,
    options: &RunOptions,
    init: &Path,
    probe: &ProbeOptions,
    on_event: OnEvent<'_>,
) -> Result<ProbeResult, TrainError> {
    let choice = DataChoice {
        images: "",
        ..DataChoice::of(&config.data)
    };
    let data = OpenData::choose(&options.data, choice)?;
    let EncoderWeights { tensors, file, notes } = read_encoder(init)?;
    for note in notes {
        on_event(TrainEvent::Note(note));
    }
    let init_sha256 = file_sha256(&file)?;
    let (plan, train) = data.plan(None, config, Task::Classify, 0, &init_sha256)?;
    let test: Arc<dyn SampleSource> = Arc::new(data.rows(plan.data.evaluation_split)?);
    let labels = |rows: &dyn SampleSource| {
        rows.labels()
            .iter()
            .map(|&label| label as usize)
            .collect::<Vec<_>>()
    };
    let (train_labels, test_labels) = (labels(&train), labels(test.as_ref()));
    let trained_on = TrainedOn::new(data.dataset.classes(), train.labels());
    let train = evaluation_batches(&plan, Arc::new(train), ViewSampling::None, BATCH_SIZE);
    let test = evaluation_batches(&plan, test, ViewSampling::None, BATCH_SIZE);
    let num_classes = data.dataset.classes().len();

    let mut arms = Vec::new();
    for arm in 0..=probe.random_inits {
        let (store, encoder) = random_encoder(&plan, torch_seed(probe.seed, "random", arm), options.device);
        let name = if arm == 0 {
            require_exact(copy_weights(&store, &tensors, ""), &file)?;
            String::from("tap")
        } else {
            calibrate(encoder.as_ref(), &train, options)?;
            format!("random-{}", arm - 1)
        };
        let features = Features {
            train: features(encoder.as_ref(), &train, options)?,
            train_labels: train_labels.clone(),
            test: features(encoder.as_ref(), &test, options)?,
            test_labels: test_labels.clone(),
        };
        let arm = score(name, &features, num_classes, probe);
        let shown: Vec<String> = arm
            .svm
            .iter()
            .map(|(labels, score)| {
                format!("{labels}: {:.1} %", 100.0 * score["mean"].as_f64().unwrap_or(0.0))
            })
            .collect();
        on_event(TrainEvent::Note(format!(
            "{}: SVM {}",
            arm.name,
            shown.join(", ")
        )));
        arms.push(arm);
    }
    let result = ProbeResult {
        data_sha256: plan.data_sha256.clone(),
        init_sha256,
        seed: probe.seed,
        evaluation_split: plan.data.evaluation_split.to_string(),
        filter: data.filter(),
        mix: plan.data.mix.clone(),
        train_objects_per_class: trained_on.objects_per_class,
        num_draws: NUM_DRAWS,
        method: format!(
            "maximum and mean of the tokens, standardized; linear SVM with squared hinge and C = {SVM_COST}; 1 nearest neighbor, {NEIGHBORS} weighted by distance with all labels; random encoders with calibrated batch norm"
        ),
        arms,
        device: device_name(options.device),
    };
    std::fs::create_dir_all(&options.out).map_err(TrainError::io("create", &options.out))?;
    write_json(&options.out.join("probe.json"), &result)?;
    Ok(result)
}

fn random_encoder(plan: &Plan, seed: i64, device: Device) -> (VarStore, Box<dyn Encoder>) {
    let store = VarStore::new(device);
    tch::manual_seed(seed);
    let encoder = plan.encoder.build(&store.root());
    (store, encoder)
}

fn calibrate(encoder: &dyn Encoder, batches: &Arc<Collator>, options: &RunOptions) -> Result<(), TrainError> {
    for _ in 0..CALIBRATION_PASSES {
        for cpu_batch in Loader::start(
            batches,
            0..batches.sampler().steps_per_epoch(),
            options.loader_threads,
        ) {
            let cpu_batch = cpu_batch?;
            // The statistics of a lone cloud are not those of a batch.
            if cpu_batch.len() > 1 {
                no_grad(|| encoder.tokens(&cpu_batch.to_tensors(options.device).cloud, Mode::TRAIN));
            }
        }
    }
    Ok(())
}

/// Maximum and mean over the tokens of every row.
fn features(
    encoder: &dyn Encoder,
    batches: &Arc<Collator>,
    options: &RunOptions,
) -> Result<Vec<Vec<f64>>, TrainError> {
    let mut rows = Vec::new();
    for cpu_batch in Loader::start(
        batches,
        0..batches.sampler().steps_per_epoch(),
        options.loader_threads,
    ) {
        let cpu_batch = cpu_batch?;
        let batch = cpu_batch.to_tensors(options.device);
        let pooled = no_grad(|| {
            let tokens = encoder.tokens(&batch.cloud, Mode::EVAL).features;
            Tensor::cat(
                &[
                    tokens.amax([1].as_slice(), false),
                    tokens.mean_dim(1, false, Kind::Float),
                ],
                1,
            )
        });
        let pooled = pooled.to_kind(Kind::Double).to_device(Device::Cpu);
        require_finite(&pooled, &cpu_batch)?;
        let of_batch = Vec::<Vec<f64>>::try_from(pooled).map_err(|source| TrainError::Torch {
            action: "reading features",
            source,
        })?;
        rows.extend(of_batch);
    }
    Ok(rows)
}

fn score(name: String, features: &Features, num_classes: usize, probe: &ProbeOptions) -> ProbeArm {
    let Features {
        train,
        train_labels,
        test,
        test_labels,
    } = features;
    let signed: Vec<i64> = train_labels.iter().map(|&label| label as i64).collect();
    let (mut svm, mut knn) = (serde_json::Map::new(), serde_json::Map::new());
    for &per_class in &probe.labels_per_class {
        let draws = if per_class == 0 { 1 } else { NUM_DRAWS };
        let (mut svm_scores, mut knn_scores) = (Vec::new(), Vec::new());
        for draw in 0..draws {
            let rows: Vec<usize> = if per_class == 0 {
                (0..train.len()).collect()
            } else {
                draw_per_class(
                    &signed,
                    num_classes,
                    per_class,
                    torch_seed(probe.seed, "draw", draw) as u64,
                )
            };
            let subset: Vec<Vec<f64>> = rows.iter().map(|&row| train[row].clone()).collect();
            let labels: Vec<usize> = rows.iter().map(|&row| train_labels[row]).collect();
            let scaler = StandardScaler::fit(&subset);
            let (subset, test) = (scaler.transform(&subset), scaler.transform(test));
            svm_scores
                .push(LinearSvm::fit(&subset, &labels, num_classes, SVM_COST).accuracy(&test, test_labels));
            let neighbors = if per_class == 0 { NEIGHBORS } else { 1 };
            knn_scores.push(nearest_neighbor_accuracy(
                &subset,
                &labels,
                &test,
                test_labels,
                neighbors,
                num_classes,
            ));
        }
        let key = if per_class == 0 {
            String::from("all")
        } else {
            per_class.to_string()
        };
        let summary = |scores: &[f64]| serde_json::json!(Summary::of(scores));
        svm.insert(key.clone(), summary(&svm_scores));
        knn.insert(key, summary(&knn_scores));
    }
    ProbeArm { name, svm, knn }
}
