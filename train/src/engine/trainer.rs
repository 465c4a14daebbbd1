//! The training loop of every [`Objective`]; it reports events.
//!
//! A step is a function of (plan, step, weights, moments): its batch is drawn by the loader from (seed, epoch, id), and
//! torch's own generator (dropout, drop path) is seeded anew from (seed, step, micro-batch). That is why a resumed run
//! needs nothing but a checkpoint to give the losses of an unbroken one.
//!
//! On several ranks ([`crate::ranks`]) each has all weights, moments and averages, and comes to the same numbers by itself;
//! rank 0 alone has the run's folder.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use tch::nn::VarStore;
use tch::{Device, Tensor};

use super::objective::Objective;
use super::step::{StepError, Stepper};
use crate::config::{PhasePlan, Plan};
use crate::data::batch::MicroBatches;
use crate::data::collator::Collator;
use crate::data::loader::Loader;
use crate::error::TrainError;
use crate::optim::ema::Ema;
use crate::optim::{AdamW, ParameterGroup};
use crate::process::{cpu_s, device_name};
use crate::ranks::Ranks;
use crate::run::event::{OnEvent, Record, TrainEvent};
use crate::run::fault::{FAULT_FILE, Fault};
use crate::run::{Existing, RunFolder};
use crate::scalar::Scalars;
use crate::weights::checkpoint::{self, Checkpoint, CheckpointState, ComputeSpan};
use crate::weights::safetensors::first_non_finite;

/// Interval at which records are flushed, in seconds.
const FLUSH_EVERY_S: f64 = 1.0;

/// Where a run reads, writes and computes. Of these only the number of torch's threads changes its numbers on a CPU.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// The data set.
    pub data: PathBuf,
    /// The run folder.
    pub out: PathBuf,
    /// Treatment of an existing run.
    pub existing: Existing,
    /// Device.
    pub device: Device,
    /// Threads that make batches.
    pub loader_threads: usize,
    /// Threads that torch computes with, for the record.
    pub num_threads: usize,
    /// The run that this one continues, with other steps or another learning rate.
    pub continue_from: Option<PathBuf>,
    /// The processes that train it together.
    pub ranks: Ranks,
}

/// Summary of a session of training.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingSummary {
    /// Steps taken, earlier sessions included.
    pub step: u64,
    /// Whether it was cancelled before the end.
    pub is_interrupted: bool,
    /// The last record of the evaluation split; none where it was interrupted.
    pub score: Option<Record>,
    /// Wall-clock seconds of training and evaluation, earlier sessions included.
    pub elapsed_s: f64,
    /// CPU seconds, earlier sessions included.
    pub cpu_s: f64,
    /// Samples a second of this session's steps alone, without evaluation.
    pub samples_per_s: f64,
    /// Views a second of this session's steps alone, without evaluation.
    pub views_per_s: f64,
    /// Share of this session's steps, 0 to 1, in which the loop waited for the loader.
    pub data_wait: f64,
    /// What the steps were computed with, earlier sessions included.
    pub compute: Vec<ComputeSpan>,
}

/// A network with its data, ready to train.
pub struct Training<'a> {
    /// The resolved configuration.
    pub plan: &'a Plan,
    /// Folders and device.
    pub options: &'a RunOptions,
    /// The weights.
    pub store: &'a VarStore,
    /// The training batches.
    pub batches: Arc<Collator>,
    /// Weight decay and learning rate by parameter.
    pub parameter_group: &'a dyn Fn(&str, &Tensor) -> ParameterGroup,
    /// Metadata of every checkpoint: what it was trained on, and which tensors are the encoder.
    pub metadata: BTreeMap<String, String>,
    /// The checkpoint to go on from, of this run or of the one that it continues.
    pub checkpoint: Option<Checkpoint>,
}

/// Samples and views a second, and the share of the time that the loop waited for the loader.
#[derive(Debug, Default)]
struct Throughput {
    steps_s: f64,
    waited_s: f64,
    samples: u64,
    views: u64,
}

impl Throughput {
    /// Adds a step of `seconds`, of which `waited_s` were spent waiting for its batch.
    fn add(&mut self, seconds: f64, waited_s: f64, batch: &MicroBatches) {
        self.steps_s += seconds;
        self.waited_s += waited_s;
        self.samples += batch.num_samples as u64;
        self.views += (batch.num_samples * batch.num_views) as u64;
    }

    fn add_to(&self, scalars: &mut Scalars) {
        let (samples_per_s, views_per_s) = self.rates();
        scalars.set("samples_per_s", samples_per_s);
        scalars.set("views_per_s", views_per_s);
        scalars.set("data_wait", self.data_wait());
    }

    fn data_wait(&self) -> f64 {
        self.waited_s / self.steps_s.max(1e-9)
    }

    fn rates(&self) -> (f64, f64) {
        let seconds = self.steps_s.max(1e-9);
        (self.samples as f64 / seconds, self.views as f64 / seconds)
    }
}

impl Training<'_> {
    /// Trains to the end, or until `cancel`, from the checkpoint that it was given.
    ///
    /// # Errors
    /// Where data, disk or numbers fail. The last checkpoint stays.
    pub fn run(
        &self,
        objective: &mut dyn Objective,
        cancel: &AtomicBool,
        on_event: OnEvent<'_>,
    ) -> Result<TrainingSummary, TrainError> {
        let Self {
            plan,
            options,
            batches,
            ..
        } = self;
        let ranks = &options.ranks;
        let (mut optimizer, mut ema, mut state) = self.begin(on_event)?;
        let open = || RunFolder::open(&options.out, plan, state.step);
        let mut folder = ranks.is_first().then(open).transpose()?;
        on_event(TrainEvent::Started {
            num_steps: plan.phase.num_steps,
            first_step: state.step,
            num_parameters: optimizer.num_parameters(),
            num_samples: batches.sampler().num_rows,
            device: device_name(options.device),
            num_threads: options.num_threads,
            num_ranks: ranks.world_size(),
        });
        self.record_continuation(&mut folder, state.step, on_event)?;
        let clock = SessionClock::start(&state);
        let ([mut recent, mut total], mut flushed_s) = (<[Throughput; 2]>::default(), 0.0);
        let mut steps = Stepper::new(plan, self.store, options.device, options.num_threads, ranks);
        let mut loader = Loader::of_micro_batches(
            batches,
            state.step..plan.phase.num_steps,
            plan.phase.accumulation_steps,
            ranks.place(),
            options.loader_threads,
        );
        while state.step < plan.phase.num_steps {
            let begin = Instant::now();
            let Some(batch) = loader.next().transpose()? else {
                break;
            };
            let waited_s = begin.elapsed().as_secs_f64();
            // Records of before a failure are kept.
            let _epoch = tracing::debug_span!("epoch", epoch = batch.epoch).entered();
            let mut record = match steps.take(&batch, objective.loss(), &mut optimizer, state.step, cancel) {
                Ok(Some(record)) => record,
                Ok(None) => break,
                Err(error) => return Err(self.stop(error, &mut folder, &state, &optimizer, ema.as_ref())),
            };
            state.step += 1;
            ema.iter_mut().for_each(Ema::update);
            let seconds = begin.elapsed().as_secs_f64();
            recent.add(seconds, waited_s, &batch);
            total.add(seconds, waited_s, &batch);
            if is_due(state.step, plan.log.record_every) {
                std::mem::take(&mut recent).add_to(&mut record.scalars);
                record.scalars.set("elapsed_s", clock.elapsed_s());
                report(&mut folder, record, on_event)?;
            }
            if clock.elapsed_s() - flushed_s > FLUSH_EVERY_S {
                folder.iter_mut().try_for_each(RunFolder::flush)?;
                flushed_s = clock.elapsed_s();
            }
            // After the last step all of this is done once, in another order.
            if state.step == plan.phase.num_steps {
                break;
            }
            self.look(&mut folder, objective, &mut state, &mut ema, on_event)?;
            if is_due(state.step, plan.log.checkpoint_every) {
                self.save(
                    &mut folder,
                    &mut state,
                    &optimizer,
                    ema.as_ref(),
                    &clock,
                    on_event,
                )?;
            }
        }
        drop(loader);
        self.save(
            &mut folder,
            &mut state,
            &optimizer,
            ema.as_ref(),
            &clock,
            on_event,
        )?;
        let is_interrupted = state.step < plan.phase.num_steps;
        let score = if is_interrupted {
            on_event(TrainEvent::Interrupted { step: state.step });
            None
        } else {
            // Not swapped back: the average is the result of the run.
            ema.iter_mut().for_each(Ema::swap);
            Some(self.finish(&mut folder, objective, state.step, on_event)?)
        };
        let (samples_per_s, views_per_s) = total.rates();
        Ok(TrainingSummary {
            step: state.step,
            is_interrupted,
            score,
            elapsed_s: clock.elapsed_s(),
            cpu_s: clock.cpu_s(),
            samples_per_s,
            views_per_s,
            data_wait: total.data_wait(),
            compute: state.compute,
        })
    }

    /// The evaluation and the images that are due after a step.
    fn look(
        &self,
        folder: &mut Option<RunFolder>,
        objective: &mut dyn Objective,
        state: &mut CheckpointState,
        ema: &mut Option<Ema>,
        on_event: OnEvent<'_>,
    ) -> Result<(), TrainError> {
        let log = &self.plan.log;
        if is_due(state.step, log.validate_every) {
            self.require_finite(state.step)?;
            let record = averaged(ema, || objective.evaluate(state.step))?;
            note_best(state, &record, log.checkpoint_every);
            report(folder, record, on_event)?;
        }
        if is_due(state.step, log.images_every) {
            let name = format!("step-{:010}", state.step);
            averaged(ema, || {
                self.images(folder.as_mut(), objective, state.step, &name, on_event)
            })?;
        }
        Ok(())
    }

    /// The first record of a run that continues another.
    fn record_continuation(
        &self,
        folder: &mut Option<RunFolder>,
        step: u64,
        on_event: OnEvent<'_>,
    ) -> Result<(), TrainError> {
        let is_new = folder.as_ref().is_some_and(RunFolder::is_new);
        if self.plan.continued_from.is_none() || !is_new {
            return Ok(());
        }
        let PhasePlan {
            num_steps, schedule, ..
        } = &self.plan.phase;
        let epoch = step / self.batches.sampler().steps_per_epoch().max(1);
        let scalars = Scalars::default()
            .with("num_steps", *num_steps as f64)
            .with("learning_rate", schedule.rate(step, epoch));
        report(folder, Record::new(Record::CONTINUATION, step, scalars), on_event)
    }

    /// Optimizer, average and state of the checkpoint, or of a new run, on all ranks. A note says where it was computed
    /// otherwise so far.
    fn begin(&self, on_event: OnEvent<'_>) -> Result<(AdamW, Option<Ema>, CheckpointState), TrainError> {
        let Self {
            plan, store, options, ..
        } = self;
        let mut optimizer = AdamW::with_groups(
            plan.phase.optimizer.clone(),
            store.variables(),
            self.parameter_group,
        );
        let mut state = CheckpointState::start(plan.identity_sha256(), plan.seed);
        if let Some(Checkpoint { path, state: of, .. }) = &self.checkpoint {
            state = checkpoint::load(path, &of.plan_sha256, store, &mut optimizer)?;
            state.plan_sha256 = plan.identity_sha256();
        }
        let ranks = &options.ranks;
        if !ranks.is_single() {
            state = self.share_weights(state, &mut optimizer)?;
        }
        let note = state.compute_with(
            options.num_threads,
            &device_name(options.device),
            ranks.world_size(),
            plan.phase.accumulation_steps,
        );
        if let Some(note) = note {
            on_event(TrainEvent::Note(note));
        }
        let mut ema = (plan.phase.ema_decay > 0.0).then(|| Ema::new(store, plan.phase.ema_decay, state.step));
        if let (Some(ema), Some(Checkpoint { path, .. })) = (&mut ema, &self.checkpoint) {
            ema.load_state(checkpoint::read_ema(path)?)?;
        }
        if let Some(ema) = &ema {
            ranks.broadcast(&tensors(ema.state()), "sharing the averaged weights")?;
        }
        Ok((optimizer, ema, state))
    }

    /// Gives weights, moments and state of rank 0 to the others, whose networks must be the same.
    fn share_weights(
        &self,
        state: CheckpointState,
        optimizer: &mut AdamW,
    ) -> Result<CheckpointState, TrainError> {
        const ACTION: &str = "sharing the weights of rank 0";
        let ranks = &self.options.ranks;
        let variables: BTreeMap<String, Tensor> = self.store.variables().into_iter().collect();
        let shapes = variables
            .iter()
            .map(|(name, tensor)| (name.clone(), tensor.size()));
        let of_ranks: Vec<Vec<(String, Vec<i64>)>> = ranks.gather(shapes.collect(), "comparing networks")?;
        for (rank, shapes) in of_ranks.iter().enumerate() {
            if let Some((name, shape)) = shapes.iter().find(|shape| !of_ranks[0].contains(shape)) {
                return Err(TrainError::OtherRank {
                    rank,
                    what: format!("network, with '{name}' of shape {shape:?},"),
                });
            }
        }
        let state = ranks.share(ACTION, || Ok(state))?;
        let moved = ranks.share(ACTION, || Ok(optimizer.moved()))?;
        if !ranks.is_first() && !moved.is_empty() {
            optimizer.allocate_moved(state.optimizer_steps, &moved);
        }
        ranks.broadcast(&tensors(variables), ACTION)?;
        ranks.broadcast(&tensors(optimizer.state()), ACTION)?;
        Ok(state)
    }

    /// The error that a step ends the run with. What is known of one that is not finite is kept, with the state before it.
    fn stop(
        &self,
        error: StepError,
        folder: &mut Option<RunFolder>,
        state: &CheckpointState,
        optimizer: &AdamW,
        ema: Option<&Ema>,
    ) -> TrainError {
        let flushed = folder.iter_mut().try_for_each(RunFolder::flush);
        let stopped = match error {
            StepError::Failed(error) => Ok(error),
            StepError::NonFinite(fault) if folder.is_none() => {
                Ok(fault.error(Fault::folder(&self.options.out, fault.step)))
            }
            StepError::NonFinite(fault) => self.keep_fault(&fault, state, optimizer, ema),
        };
        flushed.and(stopped).unwrap_or_else(|error| error)
    }

    fn keep_fault(
        &self,
        fault: &Fault,
        state: &CheckpointState,
        optimizer: &AdamW,
        ema: Option<&Ema>,
    ) -> Result<TrainError, TrainError> {
        let folder = Fault::folder(&self.options.out, fault.step);
        let json = fault
            .to_json()
            .map_err(|error| TrainError::io("write", &folder)(error.into()))?;
        let mut state = state.clone();
        state.optimizer_steps = optimizer.num_steps();
        let saved = checkpoint::Saved {
            state: &state,
            store: self.store,
            optimizer,
            ema,
            metadata: &self.metadata,
        };
        saved.write(&folder, &[(FAULT_FILE, &json)])?;
        Ok(fault.error(folder))
    }

    /// Evaluates the final weights and writes images.
    fn finish(
        &self,
        folder: &mut Option<RunFolder>,
        objective: &mut dyn Objective,
        step: u64,
        on_event: OnEvent<'_>,
    ) -> Result<Record, TrainError> {
        let record = objective.evaluate(step)?;
        report(folder, record.clone(), on_event)?;
        self.images(folder.as_mut(), objective, step, "final", on_event)?;
        folder.iter_mut().try_for_each(RunFolder::flush)?;
        on_event(TrainEvent::Finished { step });
        Ok(record)
    }

    /// An error where a weight or a running statistic is not finite: no later step can repair it.
    fn require_finite(&self, step: u64) -> Result<(), TrainError> {
        match first_non_finite(&self.store.variables()) {
            Some(name) => Err(TrainError::NonFiniteState {
                name: name.clone(),
                step,
            }),
            None => Ok(()),
        }
    }

    fn save(
        &self,
        folder: &mut Option<RunFolder>,
        state: &mut CheckpointState,
        optimizer: &AdamW,
        ema: Option<&Ema>,
        clock: &SessionClock,
        on_event: OnEvent<'_>,
    ) -> Result<(), TrainError> {
        let Some(folder) = folder else {
            return self.require_finite(state.step);
        };
        // Records are flushed first: a checkpoint must not be ahead of them.
        folder.flush()?;
        if folder.checkpoint_step == Some(state.step) {
            return Ok(());
        }
        self.require_finite(state.step)?;
        (state.elapsed_s, state.cpu_s) = (clock.elapsed_s(), clock.cpu_s());
        state.optimizer_steps = optimizer.num_steps();
        let saved = checkpoint::Saved {
            state,
            store: self.store,
            optimizer,
            ema,
            metadata: &self.metadata,
        };
        let path = checkpoint::save(&folder.checkpoints(), &saved, self.plan.log.keep_checkpoints)?;
        folder.checkpoint_step = Some(state.step);
        on_event(TrainEvent::CheckpointWritten {
            step: state.step,
            path,
        });
        Ok(())
    }

    fn images(
        &self,
        folder: Option<&mut RunFolder>,
        objective: &mut dyn Objective,
        step: u64,
        name: &str,
        on_event: OnEvent<'_>,
    ) -> Result<(), TrainError> {
        let Some(folder) = folder.filter(|_| self.plan.log.num_images > 0) else {
            return Ok(());
        };
        if let Some(images) = objective.images()? {
            let path = folder.images(step, name, &images)?;
            on_event(TrainEvent::ImagesWritten { path });
        }
        Ok(())
    }
}

/// Wall clock and CPU clock over all sessions of a run.
#[derive(Debug)]
struct SessionClock {
    start: Instant,
    start_cpu_s: f64,
    before_s: f64,
    before_cpu_s: f64,
}

impl SessionClock {
    fn start(state: &CheckpointState) -> Self {
        Self {
            start: Instant::now(),
            start_cpu_s: cpu_s(),
            before_s: state.elapsed_s,
            before_cpu_s: state.cpu_s,
        }
    }

    fn elapsed_s(&self) -> f64 {
        self.before_s + self.start.elapsed().as_secs_f64()
    }

    fn cpu_s(&self) -> f64 {
        self.before_cpu_s + cpu_s() - self.start_cpu_s
    }
}

/// Runs `work` with the averaged weights, if there is an average.
fn averaged<T>(ema: &mut Option<Ema>, work: impl FnOnce() -> T) -> T {
    ema.iter_mut().for_each(Ema::swap);
    let result = work();
    ema.iter_mut().for_each(Ema::swap);
    result
}

/// Without their names, in their order.
fn tensors(named: impl IntoIterator<Item = (String, Tensor)>) -> Vec<Tensor> {
    named.into_iter().map(|(_, tensor)| tensor).collect()
}

fn is_due(step: u64, every: u64) -> bool {
    every > 0 && step.is_multiple_of(every)
}

/// Notes the validation loss of a record, if it is one, also as that of the checkpoint that is written of the same step.
fn note_best(state: &mut CheckpointState, record: &Record, checkpoint_every: u64) {
    let loss = record.get("loss");
    if record.kind == Record::VALIDATION && loss.is_finite() {
        let best = state.best_validation_loss.unwrap_or(f64::INFINITY);
        state.best_validation_loss = Some(best.min(loss));
        if is_due(state.step, checkpoint_every) {
            state.note_validated(loss);
        }
    }
}

fn report(folder: &mut Option<RunFolder>, record: Record, on_event: OnEvent<'_>) -> Result<(), TrainError> {
    if let Some(folder) = folder {
        folder.record(&record)?;
    }
    let loss = record.scalars.get("loss");
    let is_bad_loss = record.kind == Record::VALIDATION && loss.is_some_and(|loss| !loss.is_finite());
    let warning = is_bad_loss.then(|| {
        format!(
            "warning: the validation loss of step {} is not a finite number; training goes on",
            record.step
        )
    });
    on_event(TrainEvent::Recorded(record));
    if let Some(warning) = warning {
        on_event(TrainEvent::Note(warning));
    }
    Ok(())
}
