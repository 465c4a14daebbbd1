//! Probes of frozen features: a linear SVM and nearest neighbors on pooled tokens, compared with random encoders of the
//! same architecture.
//!
//! A random encoder gets its batch-norm statistics from the training clouds first; otherwise the comparison would be
//! unfair to it. The label draws are the same for all encoders.

mod grid;
mod head;
pub mod linear_svm;
pub mod logistic;
pub mod mlp;
pub mod neighbors;
mod scaler;
pub mod svc;

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use self::grid::{LabeledEmbeddings, score_grid};
use self::linear_svm::LinearSvm;
use self::neighbors::nearest_classes;
use self::scaler::StandardScaler;
use super::embedding::{OpenEncoder, Pooling, calibrate, embed_rows, loaded_encoder, random_encoder};
use super::evaluation_batches;
use super::provenance::{VERSION, data_name, rows_sha256};
use crate::config::{Config, MixPlan, Task};
use crate::data::collator::ViewSampling;
use crate::data::source::{SampleSource, draw_per_class};
use crate::engine::trainer::RunOptions;
use crate::error::TrainError;
use crate::metric::{Summary, accuracy};
use crate::process::device_name;
use crate::run::event::{OnEvent, TrainEvent};
use crate::run::weights::TrainedOn;
use crate::run::write_json;
use crate::seed::torch_seed;

pub use self::grid::{GridOptions, GridScore};
pub use self::head::HeadKind;

/// C of the SVM.
const SVM_COST: f64 = 0.01;
/// Neighbors with all labels; one where labels are few.
const NEIGHBORS: usize = 5;
/// Draws of a label subset.
const NUM_DRAWS: u64 = 10;
/// Objects of a batch.
const BATCH_SIZE: usize = 32;

/// Options of a probe.
#[derive(Debug, Clone)]
pub struct ProbeOptions {
    /// Random encoders to compare with.
    pub random_inits: u64,
    /// Labels a class; 0 is all.
    pub labels_per_class: Vec<usize>,
    /// The table of poolings and settings, scored with all labels; none unless asked for.
    pub grid: Option<GridOptions>,
    /// Seed of random encoders and label draws.
    pub seed: u64,
}

/// The scores of all encoders with their provenance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// The program's version; empty in results of earlier ones.
    #[serde(default)]
    pub version: String,
    /// What the data set is a copy of; empty where it is of the user's own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub data_name: String,
    /// SHA-256 of the data.
    pub data_sha256: String,
    /// SHA-256 of the ids of the rows that were scored.
    #[serde(default)]
    pub rows_sha256: String,
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
    /// How a cell of the table is chosen; absent without a table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grid_selection: Option<String>,
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
    /// The table of poolings and settings; empty unless asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grid: Vec<GridScore>,
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
    let OpenEncoder {
        data,
        weights,
        init_sha256,
    } = OpenEncoder::open(config, options, init, on_event)?;
    let (plan, train) = data.plan(None, config, Task::Classify, 0, &init_sha256)?;
    let test: Arc<dyn SampleSource> = Arc::new(data.rows(plan.data.evaluation_split)?);
    let labels = |rows: &dyn SampleSource| {
        rows.labels()
            .iter()
            .map(|&label| label as usize)
            .collect::<Vec<_>>()
    };
    let rows_sha256 = rows_sha256(test.as_ref());
    let (train_labels, test_labels) = (labels(&train), labels(test.as_ref()));
    let trained_on = TrainedOn::new(data.dataset.classes(), train.labels());
    let train = evaluation_batches(&plan, Arc::new(train), ViewSampling::None, BATCH_SIZE);
    let test = evaluation_batches(&plan, test, ViewSampling::None, BATCH_SIZE);
    let num_classes = data.dataset.classes().len();

    let mut arms = Vec::new();
    for arm in 0..=probe.random_inits {
        let (name, (_store, encoder)) = if arm == 0 {
            let loaded = loaded_encoder(&plan, &weights, options.device)?;
            (String::from("tap"), loaded)
        } else {
            let seed = torch_seed(probe.seed, "random", arm);
            let random = random_encoder(&plan, seed, options.device);
            calibrate(random.1.as_ref(), &train, options)?;
            (format!("random-{}", arm - 1), random)
        };
        let data = LabeledEmbeddings {
            train: embed_rows(encoder.as_ref(), &train, options)?,
            train_labels: train_labels.clone(),
            test: embed_rows(encoder.as_ref(), &test, options)?,
            test_labels: test_labels.clone(),
            num_classes,
        };
        let arm = score(name, &data, probe)?;
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
        version: VERSION.to_owned(),
        data_name: data_name(&data),
        data_sha256: plan.data_sha256.clone(),
        rows_sha256,
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
        grid_selection: probe.grid.as_ref().map(GridOptions::selection),
        arms,
        device: device_name(options.device),
    };
    std::fs::create_dir_all(&options.out).map_err(TrainError::io("create", &options.out))?;
    write_json(&options.out.join("probe.json"), &result)?;
    Ok(result)
}

/// Scores an encoder for each number of labels, and its table with all of them.
fn score(name: String, data: &LabeledEmbeddings, probe: &ProbeOptions) -> Result<ProbeArm, TrainError> {
    let LabeledEmbeddings {
        train,
        train_labels,
        test,
        test_labels,
        num_classes,
    } = data;
    let num_classes = *num_classes;
    let (train, test) = (train.features(Pooling::MaxMean), test.features(Pooling::MaxMean));
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
            let (subset, test) = (scaler.transform(&subset), scaler.transform(&test));
            let svm = LinearSvm::fit(&subset, &labels, num_classes, SVM_COST);
            let by_svm: Vec<usize> = test.iter().map(|row| svm.predict(row)).collect();
            svm_scores.push(accuracy(&by_svm, test_labels));
            let neighbors = if per_class == 0 { NEIGHBORS } else { 1 };
            let by_neighbors = nearest_classes(&subset, &labels, num_classes, &test, neighbors);
            knn_scores.push(accuracy(&by_neighbors, test_labels));
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
    let grid = match &probe.grid {
        Some(options) => score_grid(data, options, probe.seed)?,
        None => Vec::new(),
    };
    Ok(ProbeArm { name, svm, knn, grid })
}
