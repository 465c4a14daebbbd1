//! Fine-tuning an encoder for any [`Task`], and scoring it.
//!
//! # Adding a task
//!
//! Implement [`Loss`] and [`Task`] for a network with its head and call [`finetune`] and [`evaluate`] with it, as
//! `train/examples/own_task.rs` does. The trainer, the configuration, records, the run folder and checkpoints need no
//! change. A task that the program is to offer gets a file beside `classify.rs` and a line in `command/finetune.rs`.
//!
//! A network runs its encoder in the mode [`of_encoder`](crate::model::Mode::of_encoder), which is what freezing it takes.
//!
//! The weights of the last step are scored, unless `select` says otherwise. Voting is off unless asked for.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tap_dataset::Split;
use tch::nn::VarStore;
use tch::{Device, Tensor, no_grad};

use super::provenance::{self, FinetunedRun, Provenance, rows_sha256};
use super::selection::{Best, BestWeights};
use super::session::{Session, Wanted};
use super::settings::active_settings;
use super::vote::{VoteAverage, Votes};
use super::{
    DataChoice, OpenData, evaluation_batches, require_exact, require_finite, sums_over_ranks, train_batches,
};
use crate::config::{self, Config, Plan, Selection, invalid};
use crate::data::batch::{Batch, CpuBatch};
use crate::data::collator::{Collator, ViewSampling};
use crate::data::loader::Loader;
use crate::data::source::SampleSource;
use crate::engine::objective::{Loss, Objective};
use crate::engine::trainer::{RunOptions, Training};
use crate::error::TrainError;
use crate::model::Layers as _;
use crate::optim::ParameterGroup;
use crate::run;
use crate::run::event::{OnEvent, Record, TrainEvent};
use crate::run::weights::{EncoderWeights, TrainedOn, WeightChoice, encoder_metadata};
use crate::scalar::{Scalars, Sums};
use crate::seed::torch_seed;
use crate::weights::checkpoint::{ENCODER_PREFIX, copy_weights};
use crate::weights::safetensors::write_atomic;

/// A network for a downstream task, with the loss that it is trained by.
pub trait Task: Loss + Sized {
    /// The result of an evaluation, serialized into `result.json`.
    type Score: Debug + Clone + PartialEq + Serialize + DeserializeOwned;

    /// Its name in plans.
    const NAME: &'static str;

    /// The kind of its records.
    const RECORD_KIND: &'static str = Self::NAME;

    /// Objects of an evaluation batch.
    const EVALUATION_BATCH: usize = 32;

    /// What votes are averaged as unless chosen; none where predictions are no scores of classes, and are averaged as they
    /// are.
    const VOTES_AVERAGE: Option<VoteAverage> = None;

    /// The name of predictions that are averaged as they are.
    const PREDICTIONS: &'static str = "predictions";

    /// The scalar by which weights are selected, where they are.
    const SELECTED_BY: &'static str = "accuracy";

    /// Prefix of the names of the encoder's weights.
    const ENCODER_PREFIX: &'static str = ENCODER_PREFIX;

    /// Builds the network of a plan with fresh weights under the root of `store`, drawn from torch's default generator,
    /// which was seeded before.
    ///
    /// # Errors
    /// Where the plan lacks what the task needs.
    fn build(plan: &Plan, data: &OpenData, store: &VarStore) -> Result<Self, TrainError>;

    /// Loads the weights of an encoder; returns a note on what was loaded.
    ///
    /// # Errors
    /// Where they do not fit.
    fn load_encoder(store: &VarStore, encoder: &EncoderWeights) -> Result<String, TrainError> {
        let report = copy_weights(store, &encoder.tensors, Self::ENCODER_PREFIX);
        Ok(require_exact(report, &encoder.file)?.to_string())
    }

    /// Checks data and votes before a trained network is evaluated on them.
    ///
    /// # Errors
    /// What does not fit.
    fn check(_plan: &Plan, _data: &OpenData, _votes: Votes) -> Result<(), TrainError> {
        Ok(())
    }

    /// Puts the outputs of a network's tensors, which may have been trained elsewhere, into the order of the data's classes:
    /// class i of the data has the place `order[i]` in them.
    ///
    /// # Errors
    /// Where the task has no such order, or the tensors are not there.
    fn order_classes(
        _plan: &Plan,
        _tensors: &mut BTreeMap<String, Tensor>,
        _order: &[i64],
    ) -> Result<(), TrainError> {
        Err(invalid(
            "weights whose classes are in another order than those of the data cannot be scored by this task",
        ))
    }

    /// Predictions for a batch: scores of classes, logits or logarithms of probabilities, in the last dimension, or, where
    /// [`VOTES_AVERAGE`](Self::VOTES_AVERAGE) is none, anything that can be averaged over votes.
    fn predict(&self, batch: &Batch) -> Tensor;

    /// Adds the scores of the predictions for a batch to `sums`.
    ///
    /// # Errors
    /// Where torch fails.
    fn score(&self, batch: &CpuBatch, predictions: &Tensor, sums: &mut Sums) -> Result<(), TrainError>;

    /// The score from the sums over a whole split.
    fn finish(&self, sums: &Sums) -> Self::Score;

    /// The scalars of the score that are recorded while training.
    fn scalars(score: &Self::Score) -> Scalars;

    /// Further files of a result, by name, for the classes of the data.
    ///
    /// # Errors
    /// Where one cannot be encoded.
    fn files(_score: &Self::Score, _classes: &[String]) -> Result<Vec<(&'static str, Vec<u8>)>, TrainError> {
        Ok(Vec::new())
    }
}

/// A score with its provenance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scored<S> {
    /// Its provenance.
    #[serde(flatten)]
    pub provenance: Provenance,
    /// The score.
    #[serde(flatten)]
    pub score: S,
}

/// A task as an objective.
struct FinetuneObjective<'a, T: Task> {
    plan: &'a Plan,
    task: &'a T,
    store: &'a VarStore,
    evaluation: Arc<dyn SampleSource>,
    /// The rows that evaluations on the way are of, where they are other ones.
    validation: Option<Arc<dyn SampleSource>>,
    best: Option<BestWeights>,
    options: &'a RunOptions,
    score: Option<T::Score>,
}

/// Fine-tunes; `None` where it was interrupted, to be resumed.
///
/// # Errors
/// Where configuration, data, weights, disk or numbers fail.
pub fn finetune<T: Task>(
    config: &Config,
    options: &RunOptions,
    labels_per_class: usize,
    init: Option<&Path>,
    cancel: &AtomicBool,
    on_event: OnEvent<'_>,
) -> Result<Option<Scored<T::Score>>, TrainError> {
    let inputs: Vec<&Path> = [options.data.as_path()]
        .into_iter()
        .chain(config.data.mix.iter().map(|set| Path::new(&set.data)))
        .chain(init)
        .chain(options.continue_from.as_deref())
        .collect();
    let task = config::Task::named(T::NAME);
    let wanted = Wanted {
        task: task.clone(),
        config,
        labels_per_class,
        init,
        inputs: &inputs,
    };
    let mut session = Session::open(&wanted, options, on_event)?;
    if let Some(result) = session.finished_as_asked(on_event)? {
        return Ok(Some(result));
    }
    let choice = DataChoice {
        images: "",
        ..DataChoice::of(&config.data)
    };
    let data = session.open_data(choice)?;
    let (init, init_sha256) = session.read_init(on_event)?;
    let (mut plan, train) = data.plan(None, config, task, labels_per_class, &init_sha256)?;
    session.settle(&mut plan, on_event)?;
    if let Some(result) = session.finished(on_event)? {
        return Ok(Some(result));
    }
    let evaluation: Arc<dyn SampleSource> = Arc::new(data.rows(plan.data.evaluation_split)?);
    let (store, task) = build::<T>(&plan, &data, options.device)?;
    if let Some(encoder) = &init {
        let taken = T::load_encoder(&store, encoder)?;
        let file = encoder.file.display();
        on_event(TrainEvent::Note(format!("encoder from {file}: {taken}")));
    }
    let checkpoint = session.begin()?;
    on_event(TrainEvent::Settings(active_settings(config, &plan)));
    note_random_encoder(&plan, on_event);
    let trained_on = TrainedOn::new(
        data.dataset.classes(),
        train.without(&plan.data.leave_out).labels(),
    );
    let mut metadata = trained_on.to_metadata();
    metadata.extend(encoder_metadata(T::ENCODER_PREFIX, &plan.encoder));
    let training = Training {
        plan: &plan,
        options,
        store: &store,
        parameter_group: &|name, tensor| parameter_group::<T>(&plan, name, tensor),
        batches: train_batches(&plan, Arc::new(train), ViewSampling::None)?,
        metadata,
        checkpoint,
    };
    let mut objective = FinetuneObjective {
        plan: &plan,
        task: &task,
        store: &store,
        evaluation: Arc::clone(&evaluation),
        validation: match plan.phase.select {
            Selection::Validation => Some(Arc::new(data.rows(Split::Val)?)),
            Selection::Last | Selection::BestOnTest => None,
        },
        best: open_best(&plan, options, &training.metadata)?,
        options,
        score: None,
    };
    let summary = training.run(&mut objective, cancel, on_event)?;
    if summary.is_interrupted {
        return Ok(None);
    }
    let selected = objective.select()?;
    let FinetuneObjective {
        best,
        score: Some(score),
        ..
    } = objective
    else {
        return Ok(None);
    };
    let provenance = Provenance {
        selected,
        rows_sha256: rows_sha256(evaluation.as_ref()),
        votes_average: average_name::<T>(Votes::default()),
        ..Provenance::of_training(&plan, &data, options, &summary, &trained_on)
    };
    let result = Scored { provenance, score };
    if options.ranks.is_first() {
        provenance::save(&plan, options, &store, training.metadata)?;
        write_files::<T>(&options.out, &result)?;
        run::write_json(&options.out.join(run::RESULT_FILE), &result)?;
        best.map_or(Ok(()), BestWeights::remove)?;
    }
    options.ranks.wait("finishing")?;
    Ok(Some(result))
}

/// What keeps the best weights of a run that selects them, on rank 0.
fn open_best(
    plan: &Plan,
    options: &RunOptions,
    metadata: &BTreeMap<String, String>,
) -> Result<Option<BestWeights>, TrainError> {
    if plan.phase.select == Selection::Last || !options.ranks.is_first() {
        return Ok(None);
    }
    let mut metadata = metadata.clone();
    metadata.insert(String::from("config_sha256"), plan.identity_sha256());
    BestWeights::open(&options.out, metadata).map(Some)
}

/// A frozen encoder is one that has learned something, as a rule.
fn note_random_encoder(plan: &Plan, on_event: OnEvent<'_>) {
    let num_steps = plan.phase.freeze_encoder_steps;
    if num_steps > 0 && plan.init_sha256 == "none" {
        on_event(TrainEvent::Note(format!(
            "the encoder starts at random and is frozen for its first {num_steps} steps"
        )));
    }
}

/// Writes the further files of a result into a folder.
///
/// # Errors
/// Where one cannot be written.
pub fn write_files<T: Task>(folder: &Path, result: &Scored<T::Score>) -> Result<(), TrainError> {
    for (name, bytes) in T::files(&result.score, &result.provenance.classes)? {
        write_atomic(&folder.join(name), &bytes)?;
    }
    Ok(())
}

/// What is scored, and what is done to the answers before.
#[derive(Debug, Clone, Copy)]
pub struct Scoring<'a> {
    /// The split.
    pub split: Split,
    /// The condition on its rows; empty for all.
    pub filter: &'a str,
    /// Score part segmentation after the refinement by neighbors too (`docs/protocols.md`, "Clean-up by neighbors").
    pub refines: bool,
}

impl From<Split> for Scoring<'_> {
    /// All rows of a split, without refinement.
    fn from(split: Split) -> Self {
        Self {
            split,
            filter: "",
            refines: false,
        }
    }
}

/// Scores weights of a fine-tuning on a split of a data set; `options.out` is the run that is read.
///
/// # Errors
/// Where the run is not finished though `weights` says so, the data has other classes, the weights or their answers are
/// not finite, or the votes are those of another task.
pub fn evaluate<'a, T: Task>(
    options: &RunOptions,
    scoring: impl Into<Scoring<'a>>,
    votes: Votes,
    weights: &WeightChoice,
    on_event: OnEvent<'_>,
) -> Result<Scored<T::Score>, TrainError> {
    let Scoring {
        split,
        filter,
        refines,
    } = scoring.into();
    let mut run = FinetunedRun::open(options, filter, weights, on_event)?;
    match &mut run.plan.parts {
        Some(parts) => parts.refines = refines,
        None if refines => return Err(invalid("the refinement by neighbors is one of part segmentation")),
        None => {}
    }
    let FinetunedRun { plan, data, .. } = &run;
    check_votes::<T>(votes)?;
    T::check(plan, data, votes)?;
    let (store, task) = build::<T>(plan, data, options.device)?;
    run.load(&store)?;
    let rows: Arc<dyn SampleSource> = Arc::new(data.rows(split)?);
    let score = measure(&task, plan, &rows, votes, options)?;
    let provenance = Provenance {
        rows_sha256: rows_sha256(rows.as_ref()),
        votes_average: average_name::<T>(votes),
        is_refined: refines,
        ..run.provenance(options, split, votes)
    };
    Ok(Scored { provenance, score })
}

/// Refuses a choice of what is averaged for a task whose predictions are no scores of classes.
pub(super) fn check_votes<T: Task>(votes: Votes) -> Result<(), TrainError> {
    match votes.average {
        Some(average) if T::VOTES_AVERAGE.is_none() => Err(invalid(format!(
            "votes of this task are averaged as they are, not as {average}"
        ))),
        _ => Ok(()),
    }
}

/// What votes are averaged as, in words.
pub(super) fn average_name<T: Task>(votes: Votes) -> String {
    match votes.average.or(T::VOTES_AVERAGE) {
        Some(VoteAverage::Probabilities) => VoteAverage::Probabilities.to_string(),
        // What the task's network says before a softmax would make probabilities of it.
        Some(VoteAverage::Logits) | None => T::PREDICTIONS.to_owned(),
    }
}

/// Weight decay, learning rate and first step of a parameter.
pub(super) fn parameter_group<T: Task>(plan: &Plan, name: &str, tensor: &Tensor) -> ParameterGroup {
    let of_head = ParameterGroup::of(name, tensor);
    let name = name.strip_prefix(T::ENCODER_PREFIX);
    let Some(layer) = name.and_then(|name| plan.encoder.layer_of(name)) else {
        return of_head;
    };
    let num_above = plan.encoder.num_layers().saturating_sub(layer);
    ParameterGroup {
        rate_factor: plan.phase.encoder_rate * plan.phase.layer_decay.powi(num_above as i32),
        frozen_steps: plan.phase.freeze_encoder_steps,
        ..of_head
    }
}

/// The network of a plan with fresh weights.
pub(super) fn build<T: Task>(
    plan: &Plan,
    data: &OpenData,
    device: Device,
) -> Result<(VarStore, T), TrainError> {
    let store = VarStore::new(device);
    tch::manual_seed(torch_seed(plan.seed, "weights", 0));
    let task = T::build(plan, data, &store)?;
    Ok((store, task))
}

/// Evaluates a network on rows. Predictions are summed over the votes, which keep the order of rows and points.
pub(super) fn measure<T: Task>(
    task: &T,
    plan: &Plan,
    rows: &Arc<dyn SampleSource>,
    votes: Votes,
    options: &RunOptions,
) -> Result<T::Score, TrainError> {
    let RunOptions {
        device,
        loader_threads,
        ranks,
        ..
    } = options;
    let plain = evaluation_batches(plan, Arc::clone(rows), ViewSampling::None, T::EVALUATION_BATCH);
    let steps = 0..plain.sampler().steps_per_epoch();
    let start =
        |batches: &Arc<Collator>, threads| Loader::of_place(batches, steps.clone(), ranks.place(), threads);
    let mut augmented: Vec<Loader> = votes
        .augmented(plan, rows, T::EVALUATION_BATCH)
        .map(|batches| start(&batches, 1))
        .collect();
    let average = votes.average.or(T::VOTES_AVERAGE);
    let predict = |batch: &Batch| {
        no_grad(|| {
            let predictions = task.predict(batch);
            match average {
                Some(average) => average.summand(&predictions),
                None => predictions,
            }
        })
    };
    let of_batch = |cpu_batch: Result<CpuBatch, TrainError>| {
        let cpu_batch = cpu_batch?;
        let mut batch = cpu_batch.to_tensors(*device);
        let mut predictions = predict(&batch);
        for vote in &mut augmented {
            let of_vote = vote.next().expect("all votes have the same steps")?;
            predictions += predict(&of_vote.to_tensors(*device));
        }
        let rescaled = votes.rescaled(&batch.cloud, plan.phase.augmentation.scale, cpu_batch.step);
        for cloud in rescaled {
            batch.cloud = cloud;
            predictions += predict(&batch);
        }
        require_finite(&predictions, &cpu_batch)?;
        let mut sums = Sums::default();
        task.score(&cpu_batch, &predictions, &mut sums)?;
        Ok(sums)
    };
    let sums = sums_over_ranks(ranks, start(&plain, *loader_threads).map(of_batch))?;
    Ok(task.finish(&sums))
}

impl<T: Task> Objective for FinetuneObjective<'_, T> {
    fn loss(&self) -> &dyn Loss {
        self.task
    }

    fn evaluate(&mut self, step: u64) -> Result<Record, TrainError> {
        let rows = self.validation.as_ref().unwrap_or(&self.evaluation);
        let score = self.measure(rows)?;
        let scalars = T::scalars(&score);
        if let Some(best) = &mut self.best {
            let by = T::SELECTED_BY;
            let score = scalars.get(by).ok_or_else(|| {
                invalid(format!(
                    "weights cannot be selected: the task has no score '{by}'"
                ))
            })?;
            best.offer(self.store, step, score)?;
        }
        self.score = Some(score);
        Ok(Record::new(T::RECORD_KIND, step, scalars))
    }
}

impl<T: Task> FinetuneObjective<'_, T> {
    fn measure(&self, rows: &Arc<dyn SampleSource>) -> Result<T::Score, TrainError> {
        measure(self.task, self.plan, rows, Votes::default(), self.options)
    }

    /// Loads the weights that were selected and scores them; those of the last step are there and scored already.
    fn select(&mut self) -> Result<Option<Best>, TrainError> {
        const ACTION: &str = "sharing the selected weights";
        if self.plan.phase.select == Selection::Last {
            return Ok(None);
        }
        let ranks = &self.options.ranks;
        let load = |best: &BestWeights| best.load(self.store);
        let selected = ranks.share(ACTION, || Ok(self.best.as_ref().map(load).transpose()?.flatten()))?;
        let weights: BTreeMap<String, Tensor> = self.store.variables().into_iter().collect();
        ranks.broadcast(&weights.into_values().collect::<Vec<_>>(), ACTION)?;
        self.score = Some(self.measure(&self.evaluation)?);
        Ok(selected)
    }
}
