//! Pre-training an encoder by any [`Method`].
//!
//! No model selection: the weights of the last step are the result. The validation loss is reported together with the
//! losses of trivial predictors, where the method has some.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};
use tch::nn::VarStore;
use tch::{Device, Tensor, no_grad};

use super::session::{Session, Wanted};
use super::settings::active_settings;
use super::{DataChoice, evaluation_batches, require_exact, sums_over_ranks, train_batches};
use crate::config::{Config, ContinuedFrom, MixPlan, Plan, Task, invalid};
use crate::data::batch::{Batch, CpuBatch};
use crate::data::collator::{Collator, RowContent, ViewSampling};
use crate::data::loader::Loader;
use crate::data::source::SampleSource;
use crate::engine::objective::{Loss, Objective};
use crate::engine::trainer::{RunOptions, Training, TrainingSummary};
use crate::error::TrainError;
use crate::method::{self, Baselines, Inputs, Method, MethodKind};
use crate::process::device_name;
use crate::run;
use crate::run::event::{OnEvent, Record, TrainEvent};
use crate::run::image_grid::ImageGrid;
use crate::run::weights::{EncoderWeights, TrainedOn, encoder_metadata};
use crate::scalar::{Scalars, Sums};
use crate::seed::torch_seed;
use crate::weights::checkpoint::{ComputeSpan, ENCODER_FILE, copy_weights, encoder_tensors};
use crate::weights::safetensors::write_tensors;

/// Objects of a validation batch, at most; each comes with all its views.
const MAX_EVALUATION_BATCH: usize = 16;
/// Training objects that trivial predictors are fitted to, at most.
const MAX_BASELINE_ROWS: usize = 2048;

/// The result of a finished pre-training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PretrainResult {
    /// SHA-256 of the data.
    pub data_sha256: String,
    /// SHA-256 of what the resolved configuration says about the numbers.
    pub config_sha256: String,
    /// Its preset.
    pub preset: String,
    /// Seed of the run.
    pub seed: u64,
    /// Evaluation split.
    pub evaluation_split: String,
    /// The condition on rows, to train on and to evaluate; absent for all.
    #[serde(rename = "where", default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Samples that were left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leave_out: Vec<String>,
    /// Data sets that were mixed into the training rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mix: Vec<MixPlan>,
    /// Which weights were scored.
    pub selection: String,
    /// Steps taken.
    pub num_steps: u64,
    /// Trainable parameters.
    #[serde(rename = "num_weights", alias = "num_parameters")]
    pub num_parameters: usize,
    /// The method's scalars on the evaluation split as `validation_NAME`, then the losses of trivial predictors.
    #[serde(flatten)]
    pub scalars: Scalars,
    /// Samples a second while training.
    pub samples_per_s: f64,
    /// Views a second while training.
    pub views_per_s: f64,
    /// Share of the steps of the last session in which they waited for data, 0 to 1.
    #[serde(default)]
    pub data_wait: f64,
    /// Wall-clock seconds.
    pub elapsed_s: f64,
    /// CPU seconds.
    pub cpu_s: f64,
    /// Threads of torch, of the last session.
    pub num_threads: usize,
    /// Device.
    pub device: String,
    /// What the steps were computed with, all sessions included.
    #[serde(default)]
    pub compute: Vec<ComputeSpan>,
    /// The run that this one continued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continued_from: Option<ContinuedFrom>,
}

impl PretrainResult {
    /// A scalar, `validation_loss` for instance; NaN where there is none of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> f64 {
        self.scalars.get(name).unwrap_or(f64::NAN)
    }
}

/// A method as an objective.
struct PretrainObjective<'a> {
    method: &'a dyn Method,
    evaluation: Arc<Collator>,
    options: &'a RunOptions,
    num_images: usize,
}

/// Pre-trains by the method that the configuration names; `None` where it was interrupted, to be resumed.
///
/// # Errors
/// Where configuration, data, disk or numbers fail.
pub fn pretrain(
    config: &Config,
    options: &RunOptions,
    init: Option<&Path>,
    cancel: &AtomicBool,
    on_event: OnEvent<'_>,
) -> Result<Option<PretrainResult>, TrainError> {
    let kind = method::find(&config.method.kind)?;
    pretrain_with(kind, config, options, init, cancel, on_event)
}

/// Pre-trains by a method that need not be known to this crate; `None` where it was interrupted, to be resumed.
///
/// # Errors
/// Where configuration, data, disk or numbers fail.
pub fn pretrain_with(
    kind: &dyn MethodKind,
    config: &Config,
    options: &RunOptions,
    init: Option<&Path>,
    cancel: &AtomicBool,
    on_event: OnEvent<'_>,
) -> Result<Option<PretrainResult>, TrainError> {
    let vgg_file = config.loss.perceptual_network.as_deref();
    let of_method = kind.files(config);
    let inputs: Vec<&Path> = [options.data.as_path()]
        .into_iter()
        .chain(config.data.mix.iter().map(|set| Path::new(&set.data)))
        .chain(init)
        .chain(options.continue_from.as_deref())
        .chain(vgg_file)
        .chain(of_method.iter().map(PathBuf::as_path))
        .collect();
    let wanted = Wanted {
        task: Task::Pretrain,
        config,
        labels_per_class: 0,
        init,
        inputs: &inputs,
    };
    let mut session = Session::open(&wanted, options, on_event)?;
    if let Some(result) = session.finished_as_asked(on_event)? {
        return Ok(Some(result));
    }
    let data = session.open_data(DataChoice::of(&config.data))?;
    let (init, init_sha256) = session.read_init(on_event)?;
    let (mut plan, train) = data.plan(Some(kind), config, Task::Pretrain, 0, &init_sha256)?;
    session.settle(&mut plan, on_event)?;
    if let Some(result) = session.finished(on_event)? {
        return Ok(Some(result));
    }
    let split = plan.data.evaluation_split;
    if plan.data.train_splits.contains(&split) {
        on_event(TrainEvent::Note(format!(
            "no objects are held out: the validation loss is one of split {split}, which is trained on"
        )));
    }
    let trained_on = TrainedOn::new(&data.classes(), train.without(&plan.data.leave_out).labels());
    let train: Arc<dyn SampleSource> = Arc::new(train);
    let evaluation: Arc<dyn SampleSource> = Arc::new(data.rows(plan.data.evaluation_split)?);

    let (store, method) = build(kind, &plan, options.device)?;
    if let Some(EncoderWeights { tensors, file, .. }) = &init {
        require_exact(copy_weights(&store, tensors, method.encoder_prefix()), file)?;
    }
    data.require(method.inputs(), &format!("method {}", kind.name()))?;
    if method.inputs().views {
        require_views(config.data.num_views, data.dataset.num_views())?;
    }
    let [random, all] = row_content(method.inputs(), &plan);
    let batch_size = plan.phase.batch_size.min(MAX_EVALUATION_BATCH);
    let evaluation = evaluation_batches(&plan, evaluation, all, batch_size);
    let plain = evaluation_batches(&plan, Arc::clone(&train), all, MAX_EVALUATION_BATCH);
    let baselines = baselines(method.as_ref(), &plain, &evaluation, options.loader_threads)?;
    if let Some(note) = &baselines.note {
        let split = plan.data.evaluation_split;
        on_event(TrainEvent::Note(format!("loss to beat on {split}: {note}")));
    }

    let batches = train_batches(&plan, train, random)?;
    let checkpoint = session.begin()?;
    on_event(TrainEvent::Settings(active_settings(config, &plan)));
    let mut metadata = trained_on.to_metadata();
    metadata.extend(encoder_metadata(method.encoder_prefix(), &plan.encoder));
    let training = Training {
        plan: &plan,
        options,
        store: &store,
        batches,
        parameter_group: &|name, tensor| method.parameter_group(name, tensor),
        metadata,
        checkpoint,
    };
    let mut objective = PretrainObjective {
        method: method.as_ref(),
        evaluation,
        options,
        num_images: plan.log.num_images,
    };
    let summary = training.run(&mut objective, cancel, on_event)?;
    let Some(result) = result(&plan, options, &store, &baselines, &summary) else {
        return Ok(None);
    };
    if options.ranks.is_first() {
        write_result(&plan, options, method.as_ref(), &store, &result)?;
    }
    options.ranks.wait("finishing")?;
    Ok(Some(result))
}

/// Writes the encoder and the result into the run's folder.
fn write_result(
    plan: &Plan,
    options: &RunOptions,
    method: &dyn Method,
    store: &VarStore,
    result: &PretrainResult,
) -> Result<(), TrainError> {
    let mut metadata = BTreeMap::from([
        (String::from("config_sha256"), plan.identity_sha256()),
        (String::from("data_sha256"), plan.data_sha256.clone()),
        (String::from("num_steps"), result.num_steps.to_string()),
    ]);
    metadata.extend(encoder_metadata("", &plan.encoder));
    write_tensors(
        &options.out.join(ENCODER_FILE),
        encoder_tensors(store, method.encoder_prefix()),
        &metadata,
    )?;
    run::write_json(&options.out.join(run::RESULT_FILE), result)
}

/// Content of rows beside points, in training and in evaluation.
pub(super) fn row_content(inputs: Inputs, plan: &Plan) -> [RowContent; 2] {
    let Inputs {
        views,
        normals,
        features,
    } = inputs;
    let of_views = if views {
        [ViewSampling::Random(plan.data.num_views), ViewSampling::All]
    } else {
        [ViewSampling::None; 2]
    };
    let features = features.then_some(plan.data.hidden_points);
    of_views.map(|views| RowContent {
        views,
        normals,
        features,
    })
}

fn require_views(wanted: usize, num_views: usize) -> Result<(), TrainError> {
    if (1..=num_views).contains(&wanted) {
        return Ok(());
    }
    Err(invalid(format!(
        "num_views = {wanted} of the {num_views} views that the data has"
    )))
}

fn result(
    plan: &Plan,
    options: &RunOptions,
    store: &VarStore,
    baselines: &Baselines,
    summary: &TrainingSummary,
) -> Option<PretrainResult> {
    let measured = summary.score.as_ref()?.scalars.iter();
    let measured = measured.map(|(name, value)| (format!("validation_{name}"), value));
    let baselines = baselines.scalars.iter();
    let baselines = baselines.map(|(name, value)| (name.to_owned(), value));
    Some(PretrainResult {
        data_sha256: plan.data_sha256.clone(),
        config_sha256: plan.identity_sha256(),
        preset: plan.preset.clone(),
        seed: plan.seed,
        evaluation_split: plan.data.evaluation_split.to_string(),
        filter: Some(plan.data.filter.clone()).filter(|filter| !filter.is_empty()),
        leave_out: plan.data.leave_out.clone(),
        mix: plan.data.mix.clone(),
        selection: plan.selection(),
        num_steps: summary.step,
        num_parameters: store.trainable_variables().iter().map(Tensor::numel).sum(),
        scalars: measured.chain(baselines).collect(),
        samples_per_s: summary.samples_per_s,
        views_per_s: summary.views_per_s,
        data_wait: summary.data_wait,
        elapsed_s: summary.elapsed_s,
        cpu_s: summary.cpu_s,
        num_threads: options.num_threads,
        device: device_name(options.device),
        compute: summary.compute.clone(),
        continued_from: plan.continued_from.clone(),
    })
}

/// A method's network with weights drawn by the plan's seed.
pub(super) fn build(
    kind: &dyn MethodKind,
    plan: &Plan,
    device: Device,
) -> Result<(VarStore, Box<dyn Method>), TrainError> {
    let store = VarStore::new(device);
    tch::manual_seed(torch_seed(plan.seed, "weights", 0));
    let method = kind.build(&store.root(), plan)?;
    Ok((store, method))
}

fn baselines(
    method: &dyn Method,
    training: &Arc<Collator>,
    evaluation: &Arc<Collator>,
    loader_threads: usize,
) -> Result<Baselines, TrainError> {
    let all = |batches: &Collator| batches.sampler().steps_per_epoch();
    let num_steps = all(training).min((MAX_BASELINE_ROWS / MAX_EVALUATION_BATCH) as u64);
    let mut training = LazyBatches::new(training, num_steps, loader_threads);
    let mut evaluation = LazyBatches::new(evaluation, all(evaluation), loader_threads);
    method.baselines(&mut training, &mut evaluation)
}

/// Batches whose loading starts at the first call of `next`.
struct LazyBatches<'a> {
    collator: &'a Arc<Collator>,
    num_steps: u64,
    loader_threads: usize,
    loader: Option<Loader>,
}

impl<'a> LazyBatches<'a> {
    fn new(collator: &'a Arc<Collator>, num_steps: u64, loader_threads: usize) -> Self {
        Self {
            collator,
            num_steps,
            loader_threads,
            loader: None,
        }
    }
}

impl Iterator for LazyBatches<'_> {
    type Item = <Loader as Iterator>::Item;

    fn next(&mut self) -> Option<Self::Item> {
        let start = || Loader::start(self.collator, 0..self.num_steps, self.loader_threads);
        self.loader.get_or_insert_with(start).next()
    }
}

impl PretrainObjective<'_> {
    fn prepared(&self, cpu_batch: &CpuBatch) -> Result<Batch, TrainError> {
        let mut batch = cpu_batch.to_tensors(self.options.device);
        no_grad(|| self.method.prepare(&mut batch))?;
        Ok(batch)
    }
}

impl Objective for PretrainObjective<'_> {
    fn loss(&self) -> &dyn Loss {
        self.method
    }

    fn evaluate(&mut self, step: u64) -> Result<Record, TrainError> {
        let num_batches = self.evaluation.sampler().steps_per_epoch();
        let RunOptions {
            ranks,
            loader_threads,
            ..
        } = self.options;
        let batches = Loader::of_place(&self.evaluation, 0..num_batches, ranks.place(), *loader_threads);
        let of_batch = |cpu_batch: Result<CpuBatch, TrainError>| {
            let batch = self.prepared(&cpu_batch?)?;
            let mut sums = Sums::default();
            no_grad(|| self.method.evaluate(&batch, &mut sums));
            Ok(sums)
        };
        let sums = sums_over_ranks(ranks, batches.map(of_batch))?;
        Ok(Record::new(Record::VALIDATION, step, self.method.scalars(&sums)))
    }

    fn images(&mut self) -> Result<Option<ImageGrid>, TrainError> {
        let num_rows = self.evaluation.sampler().num_rows;
        let wanted = self.num_images.min(num_rows);
        // Rows spread evenly over the split, so over its categories.
        let rows: Vec<usize> = (0..wanted).map(|image| image * num_rows / wanted).collect();
        let cpu_batch = self.evaluation.rows(&rows)?;
        let batch = self.prepared(&cpu_batch)?;
        Ok(no_grad(|| self.method.images(&cpu_batch, &batch)))
    }
}
