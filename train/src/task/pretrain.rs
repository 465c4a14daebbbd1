//! TAP pre-training: draw the views of an object from its points (paper: "Take-A-Photo").
//!
//! Nothing is selected: the weights of the last step are what a run gives. The validation loss is reported beside those
//! of predictors that look at no cloud.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor, no_grad};

use super::{OpenData, checkpoint_to_resume, evaluation_batches, read_init, require_exact, train_batches};
use crate::baseline::{BaselineFit, Baselines, MAX_BASELINE_ROWS, PixelSums};
use crate::config::{Config, LossConfig, Plan, Task};
use crate::data::batch::{Batch, CpuBatch, num_channels};
use crate::data::loader::{Collator, Loader, ViewSampling};
use crate::data::source::SampleSource;
use crate::engine::trainer::{Objective, RunOptions, StepLoss, Training, TrainingSummary};
use crate::error::TrainError;
use crate::model::loss::photograph_loss_of_micro_batch;
use crate::model::{Mode, Tap, TapConfig, Vgg};
use crate::process::device_name;
use crate::run;
use crate::run::event::{OnEvent, Record, TrainEvent};
use crate::run::image_grid::ImageGrid;
use crate::run::weights::{EncoderWeights, TrainedOn};
use crate::scalar::Scalars;
use crate::seed::torch_seed;
use crate::weights::checkpoint::{ENCODER_FILE, ENCODER_PREFIX, copy_weights, encoder_tensors};
use crate::weights::safetensors::{read_weights, write_tensors};
use crate::weights::torch_file;

/// Objects of a validation batch, at most; each comes with all its views.
const MAX_EVALUATION_BATCH: usize = 16;

/// The numbers of a finished pre-training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PretrainResult {
    /// SHA-256 of the data.
    pub data_sha256: String,
    /// SHA-256 of the resolved configuration.
    pub config_sha256: String,
    /// Its preset.
    pub preset: String,
    /// Seed of the run.
    pub seed: u64,
    /// What the losses were measured on.
    pub evaluation_split: String,
    /// Which weights they are of.
    pub selection: String,
    /// Steps taken.
    pub num_steps: u64,
    /// Trainable numbers.
    #[serde(rename = "num_weights", alias = "num_parameters")]
    pub num_parameters: usize,
    /// Weighted loss over all views of the evaluation split.
    #[serde(with = "crate::number")]
    pub validation_loss: f64,
    /// Mean squared error of its foreground.
    #[serde(with = "crate::number")]
    pub validation_loss_foreground: f64,
    /// Mean squared error of its background.
    #[serde(with = "crate::number")]
    pub validation_loss_background: f64,
    /// Mean squared error of all its pixels.
    #[serde(with = "crate::number")]
    pub validation_loss_plain: f64,
    /// Losses to compare with.
    #[serde(flatten)]
    pub baselines: Baselines,
    /// Samples a second while training.
    pub samples_per_s: f64,
    /// Views a second while training.
    pub views_per_s: f64,
    /// Wall-clock seconds.
    pub elapsed_s: f64,
    /// CPU seconds.
    pub cpu_s: f64,
    /// Threads of torch.
    pub num_threads: usize,
    /// Where it was computed.
    pub device: String,
}

/// TAP as an objective.
#[derive(Debug)]
struct PretrainObjective<'a> {
    plan: &'a Plan,
    tap: &'a Tap,
    vgg: Option<Vgg>,
    device: Device,
    evaluation: Arc<Collator>,
    loader_threads: usize,
}

/// Pre-trains; `None` where it was interrupted, to be resumed.
///
/// # Errors
/// Where configuration, data, disk or numbers fail.
pub fn pretrain(
    config: &Config,
    options: &RunOptions,
    init: Option<&std::path::Path>,
    cancel: &AtomicBool,
    on_event: OnEvent<'_>,
) -> Result<Option<PretrainResult>, TrainError> {
    let vgg_file = config.loss.perceptual_network.as_deref();
    let inputs: Vec<&std::path::Path> = [options.data.as_path()]
        .into_iter()
        .chain(init)
        .chain(vgg_file)
        .collect();
    let _lock = run::lock(&options.out, options.existing, &inputs)?;
    let checkpoint = checkpoint_to_resume(options, on_event)?;
    let data = OpenData::with_images(&options.data, &config.data.images)?;
    let (init, init_sha256) = read_init(init, on_event)?;
    let (plan, train) = data.plan(config, Task::Pretrain, 0, &init_sha256)?;
    run::check(&options.out, options.existing, &plan)?;
    let trained_on = TrainedOn::new(data.dataset.classes(), train.labels());
    let train: Arc<dyn SampleSource> = Arc::new(train);
    let evaluation: Arc<dyn SampleSource> = Arc::new(data.rows(plan.data.evaluation_split)?);

    let (store, tap) = build(&plan, options.device);
    if let Some(EncoderWeights { tensors, file, .. }) = &init {
        require_exact(copy_weights(&store, tensors, ENCODER_PREFIX), file)?;
    }
    let vgg = perceptual_network(&plan.loss, options.device)?;
    let batch_size = plan.phase.batch_size.min(MAX_EVALUATION_BATCH);
    let evaluation = evaluation_batches(&plan, evaluation, ViewSampling::All, batch_size);
    let baselines = baselines(&plan, &train, &evaluation, options.loader_threads)?;
    on_event(TrainEvent::Note(format!(
        "loss to beat on {}: {:.4} (loss-optimal image of each view), {:.4} (true mask, mean gray), {:.4} (loss-optimal gray)",
        plan.data.evaluation_split,
        baselines.weighted_mean_image_loss,
        baselines.true_mask_gray_loss,
        baselines.constant_loss
    )));

    let batches = train_batches(&plan, train, ViewSampling::Random(plan.data.num_views));
    // From here on the folder is written to; what could be refused has been.
    run::prepare(&options.out, options.existing, &plan)?;
    let training = Training {
        plan: &plan,
        options,
        store: &store,
        batches,
        trained_on,
        checkpoint,
    };
    let mut objective = PretrainObjective {
        plan: &plan,
        tap: &tap,
        vgg,
        device: options.device,
        evaluation,
        loader_threads: options.loader_threads,
    };
    let summary = training.run(&mut objective, cancel, on_event)?;
    let Some(result) = result(&plan, options, &store, baselines, &summary) else {
        return Ok(None);
    };
    let metadata = BTreeMap::from([
        (String::from("config_sha256"), plan.sha256()),
        (String::from("data_sha256"), plan.data_sha256.clone()),
        (
            String::from("encoder"),
            serde_json::to_string(&plan.tap.encoder).unwrap_or_default(),
        ),
        (String::from("num_steps"), summary.step.to_string()),
    ]);
    write_tensors(
        &options.out.join(ENCODER_FILE),
        encoder_tensors(&store),
        &metadata,
    )?;
    run::write_json(&options.out.join(run::RESULT_FILE), &result)?;
    Ok(Some(result))
}

fn result(
    plan: &Plan,
    options: &RunOptions,
    store: &VarStore,
    baselines: Baselines,
    summary: &TrainingSummary,
) -> Option<PretrainResult> {
    let validation = summary.score.as_ref()?;
    Some(PretrainResult {
        data_sha256: plan.data_sha256.clone(),
        config_sha256: plan.sha256(),
        preset: plan.preset.clone(),
        seed: plan.seed,
        evaluation_split: plan.data.evaluation_split.to_string(),
        selection: plan.selection(),
        num_steps: summary.step,
        num_parameters: store.trainable_variables().iter().map(Tensor::numel).sum(),
        validation_loss: validation.get("loss"),
        validation_loss_foreground: validation.get("loss_foreground"),
        validation_loss_background: validation.get("loss_background"),
        validation_loss_plain: validation.get("loss_plain"),
        baselines,
        samples_per_s: summary.samples_per_s,
        views_per_s: summary.views_per_s,
        elapsed_s: summary.elapsed_s,
        cpu_s: summary.cpu_s,
        num_threads: options.num_threads,
        device: device_name(options.device),
    })
}

/// A TAP network with weights drawn by the plan's seed.
#[must_use]
pub fn build(plan: &Plan, device: Device) -> (VarStore, Tap) {
    build_tap(&plan.tap, plan.seed, device)
}

fn build_tap(config: &TapConfig, seed: u64, device: Device) -> (VarStore, Tap) {
    let store = VarStore::new(device);
    tch::manual_seed(torch_seed(seed, "weights", 0));
    let tap = Tap::new(&store.root(), config);
    (store, tap)
}

/// Losses of predictors that look at no cloud.
fn baselines(
    plan: &Plan,
    train: &Arc<dyn SampleSource>,
    evaluation: &Arc<Collator>,
    loader_threads: usize,
) -> Result<Baselines, TrainError> {
    let batches = evaluation_batches(plan, Arc::clone(train), ViewSampling::All, MAX_EVALUATION_BATCH);
    let num_steps = batches
        .sampler()
        .steps_per_epoch()
        .min((MAX_BASELINE_ROWS / MAX_EVALUATION_BATCH) as u64);
    let mut sums = PixelSums::new(
        train.num_views(),
        num_channels(plan.data.color),
        train.image_size_px() as usize,
    );
    for batch in Loader::start(&batches, 0..num_steps, loader_threads) {
        sums.add(&batch?);
    }
    let fit = BaselineFit::new(&sums, &plan.loss);
    fit.evaluate(Loader::start(
        evaluation,
        0..evaluation.sampler().steps_per_epoch(),
        loader_threads,
    ))
}

/// The network of the perceptual loss, where that has a weight.
fn perceptual_network(loss: &LossConfig, device: Device) -> Result<Option<Vgg>, TrainError> {
    let Some(path) = loss
        .perceptual_network
        .as_ref()
        .filter(|_| loss.perceptual_weight > 0.0)
    else {
        return Ok(None);
    };
    let is_safetensors = path
        .extension()
        .is_some_and(|extension| extension == "safetensors");
    let tensors = if is_safetensors {
        read_weights(path)?
    } else {
        torch_file::read(path)?.tensors
    };
    let vgg = Vgg::try_new(&tensors, device).map_err(|report| TrainError::Weights {
        report,
        path: path.clone(),
    })?;
    Ok(Some(vgg))
}

/// Pictures of a batch, as TAP draws them.
///
/// # Shapes
/// - returns [B, V, C, H, W] in 0..1
#[must_use]
pub fn photograph(tap: &Tap, batch: &Batch, mode: Mode) -> Option<Tensor> {
    let views = batch.views.as_ref()?;
    let rays = tap
        .query()
        .rays(&batch.cloud.xyz, &views.view_from_object, &views.clip_from_view);
    Some(tap.photograph(&batch.cloud, &rays, mode))
}

/// Generated pictures as gray bytes, B x V x H x W.
#[must_use]
pub fn gray_bytes(pictures: &Tensor) -> Vec<u8> {
    let gray = pictures.mean_dim(2, false, Kind::Float) * 255.0;
    let gray = gray
        .round()
        .clamp(0.0, 255.0)
        .to_kind(Kind::Uint8)
        .to_device(Device::Cpu)
        .contiguous();
    let mut bytes = vec![0; gray.numel()];
    gray.copy_data(&mut bytes, gray.numel());
    bytes
}

/// A grid with a row of generated and a row of true views for each object of a batch that holds all views.
#[must_use]
pub fn comparison_grid(generated: &[u8], cpu_batch: &CpuBatch) -> ImageGrid {
    let picture = cpu_batch.size_px * cpu_batch.size_px;
    let object = picture * cpu_batch.num_views;
    let truth = cpu_batch.gray_images();
    let mut rows = Vec::new();
    for (generated, truth) in generated.chunks_exact(object).zip(truth.chunks_exact(object)) {
        rows.push(generated.chunks_exact(picture).collect());
        rows.push(truth.chunks_exact(picture).collect());
    }
    ImageGrid::grid(cpu_batch.size_px, &rows)
}

impl Objective for PretrainObjective<'_> {
    fn loss(&self, batch: &Batch, mode: Mode) -> StepLoss {
        self.micro_batch_loss(batch, batch, mode)
    }

    /// Foreground and background are each a mean over the pixels of the whole batch, however many parts have.
    fn micro_batch_loss(&self, micro_batch: &Batch, whole: &Batch, mode: Mode) -> StepLoss {
        let pictures = photograph(self.tap, micro_batch, mode).expect("a pre-training batch has views");
        let (views, whole_views) = micro_batch
            .views
            .as_ref()
            .zip(whole.views.as_ref())
            .expect("a pre-training batch has views");
        let config = &self.plan.loss;
        let loss = photograph_loss_of_micro_batch(
            &pictures,
            &views.images,
            &views.masks,
            &whole_views.masks,
            config.pixels(),
        );
        let mut total = loss.total;
        if let Some(vgg) = &self.vgg {
            let share = micro_batch.len() as f64 / whole.len() as f64;
            total = &total + vgg.distance(&pictures, &views.images) * (config.perceptual_weight * share);
        }
        StepLoss {
            total,
            parts: Some((loss.foreground, loss.background)),
        }
    }

    fn evaluate(&mut self, step: u64) -> Result<Record, TrainError> {
        // Sums over the whole split, so that the loss is that of one batch of everything.
        let (mut errors, mut counts) = ([0.0; 2], [0.0; 2]);
        for cpu_batch in Loader::start(
            &self.evaluation,
            0..self.evaluation.sampler().steps_per_epoch(),
            self.loader_threads,
        ) {
            let batch = cpu_batch?.to_tensors(self.device);
            no_grad(|| {
                let pictures =
                    photograph(self.tap, &batch, Mode::EVAL).expect("the evaluation loader gives views");
                let views = batch.views.as_ref().expect("the evaluation loader gives views");
                let squared = (&pictures - &views.images).square();
                let channels = pictures.size()[2] as f64;
                let covered = views.masks.to_kind(Kind::Float);
                let foreground = (&squared * &covered).sum(Kind::Double).double_value(&[]);
                let num_foreground = covered.sum(Kind::Double).double_value(&[]) * channels;
                errors[0] += foreground;
                errors[1] += squared.sum(Kind::Double).double_value(&[]) - foreground;
                counts[0] += num_foreground;
                counts[1] += squared.numel() as f64 - num_foreground;
            });
        }
        let [loss_foreground, loss_background] =
            [0, 1].map(|part| errors[part] / f64::max(counts[part], 1.0));
        let weights = &self.plan.loss;
        let loss = weights.foreground_weight * loss_foreground + weights.background_weight * loss_background;
        let scalars = Scalars::default()
            .with("loss", loss)
            .with("loss_foreground", loss_foreground)
            .with("loss_background", loss_background)
            .with(
                "loss_plain",
                (errors[0] + errors[1]) / f64::max(counts[0] + counts[1], 1.0),
            );
        Ok(Record::new(Record::VALIDATION, step, scalars))
    }

    fn picture(&mut self) -> Result<Option<ImageGrid>, TrainError> {
        let sampler = self.evaluation.sampler();
        let (num_rows, wanted) = (sampler.num_rows, self.plan.log.num_images.min(sampler.num_rows));
        // Rows spread evenly over the split, so over its categories.
        let rows: Vec<usize> = (0..wanted).map(|picture| picture * num_rows / wanted).collect();
        let cpu_batch = self.evaluation.rows(&rows)?;
        let generated = no_grad(|| photograph(self.tap, &cpu_batch.to_tensors(self.device), Mode::EVAL))
            .expect("the evaluation loader gives views");
        Ok(Some(comparison_grid(&gray_bytes(&generated), &cpu_batch)))
    }
}
