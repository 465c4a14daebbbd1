//! How a session of training begins: anew, from the newest checkpoint of the run in the folder, or from that of another
//! run, which the new one continues with other steps or another learning rate.
//!
//! On several ranks, rank 0 alone looks into folders of runs. The others hear from it what it found and begin with its plan,
//! after theirs was compared with it.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tap_dataset::FolderLock;
use tch::Device;

use super::{DataChoice, OpenData, read_init};
use crate::config::{Config, ContinuedFrom, Difference, PhasePlan, Plan, Task, invalid, listed};
use crate::engine::trainer::RunOptions;
use crate::error::TrainError;
use crate::process::device_name;
use crate::ranks::Ranks;
use crate::run::event::{OnEvent, TrainEvent};
use crate::run::fault::run_of;
use crate::run::request::{Request, is_url, noted};
use crate::run::weights::{EncoderWeights, is_named};
use crate::run::{self, CHECKPOINTS, Existing};
use crate::weights::checkpoint::{self, Checkpoint, MODEL_FILE};
use crate::weights::safetensors::file_sha256;

/// What a session is asked to train.
pub(super) struct Wanted<'a> {
    pub(super) task: Task,
    pub(super) config: &'a Config,
    pub(super) labels_per_class: usize,
    /// The encoder to start from; of a run that is resumed or continued, its own if absent.
    pub(super) init: Option<&'a Path>,
    /// Paths that are read, the data set among them.
    pub(super) inputs: &'a [&'a Path],
}

/// A run that another one continues.
struct Parent {
    path: PathBuf,
    plan: Plan,
    checkpoint: Checkpoint,
}

/// The run folder before anything is trained in it.
pub(super) struct Session<'a, R> {
    options: &'a RunOptions,
    init: Option<&'a Path>,
    request: Request,
    /// Of the run that is resumed.
    begun: Option<Plan>,
    earlier_request: Option<Request>,
    parent: Option<Parent>,
    checkpoint: Option<Checkpoint>,
    /// The result of a run that is finished. Nothing is written to it then, not even the lock.
    finished: Option<R>,
    _lock: Option<FolderLock>,
}

impl<'a, R: Serialize + DeserializeOwned> Session<'a, R> {
    /// Locks the folder, unless its run is finished, and finds the checkpoint to go on from. Damaged checkpoints are
    /// noted. Nothing else is changed.
    ///
    /// # Errors
    /// Where the folder holds something that the options do not allow for, another process is at work in it, or no
    /// checkpoint is intact.
    pub(super) fn open(
        wanted: &Wanted<'a>,
        options: &'a RunOptions,
        on_event: OnEvent<'_>,
    ) -> Result<Self, TrainError> {
        let out = &options.out;
        if !options.ranks.is_first() {
            return Ok(Self {
                options,
                init: wanted.init,
                request: request(wanted, options, None, None),
                begun: None,
                earlier_request: None,
                parent: None,
                checkpoint: None,
                finished: None,
                _lock: None,
            });
        }
        let is_resumed = options.existing == Existing::Resume;
        let begun = is_resumed.then(|| run::read_plan(out)).transpose()?.flatten();
        let earlier_request = is_resumed.then(|| Request::read(out)).transpose()?.flatten();
        let request = request(wanted, options, begun.as_ref(), earlier_request.as_ref());
        let finished = begun.as_ref().and_then(|plan| run::finished(out, plan));
        let is_open = finished.is_none();
        let lock = is_open
            .then(|| run::lock(out, options.existing, wanted.inputs))
            .transpose()?;
        let checkpoint = if is_open && is_resumed {
            newest(out, on_event)?
        } else {
            None
        };
        let parent = match &request.continue_from {
            Some(path) if is_open && checkpoint.is_none() => {
                let from = begun.as_ref().and_then(|plan| plan.continued_from.as_ref());
                Some(Parent::open(Path::new(path), from, on_event)?)
            }
            _ => None,
        };
        Ok(Self {
            options,
            init: wanted.init,
            request,
            begun,
            earlier_request,
            parent,
            checkpoint,
            finished,
            _lock: lock,
        })
    }

    /// The result of a run that is finished, if nothing else is asked for than what it was begun with; then there is no
    /// need to read any data.
    ///
    /// # Errors
    /// Where a rank is lost.
    pub(super) fn finished_as_asked(&mut self, on_event: OnEvent<'_>) -> Result<Option<R>, TrainError> {
        let is_same = |earlier: &Request| self.request.is_same(earlier);
        let is_as_asked = self.earlier_request.as_ref().is_some_and(is_same);
        self.take_finished(is_as_asked, on_event)
    }

    /// The result of a run that is finished.
    ///
    /// # Errors
    /// Where a rank is lost.
    pub(super) fn finished(&mut self, on_event: OnEvent<'_>) -> Result<Option<R>, TrainError> {
        self.take_finished(true, on_event)
    }

    fn take_finished(&mut self, is_wanted: bool, on_event: OnEvent<'_>) -> Result<Option<R>, TrainError> {
        let result = if is_wanted { self.finished.take() } else { None };
        let result = self
            .options
            .ranks
            .share("looking for a finished run", || Ok(result))?;
        if let (Some(_), Some(begun)) = (&result, &self.begun) {
            let step = begun.phase.num_steps;
            on_event(TrainEvent::FinishedBefore { step });
        }
        Ok(result)
    }

    /// Opens the data.
    ///
    /// # Errors
    /// Where there is none, or it is damaged.
    pub(super) fn open_data(&self, choice: DataChoice<'_>) -> Result<OpenData, TrainError> {
        let data = &self.options.data;
        let is_gone = !is_url(data) && !data.exists();
        if self.earlier_request.is_some() && is_gone {
            return Err(TrainError::UnsuitableData {
                reason: String::from(
                    "the data of the run is not there any more; pass --data with where it is now",
                ),
                path: data.clone(),
            });
        }
        OpenData::choose(data, choice)
    }

    /// The encoder to start from, and the hash of its file, or "none". Where there is a checkpoint to go on from, the
    /// encoder of the run need not be there any more. Rank 0 alone reads it: the others have their weights from it later.
    ///
    /// # Errors
    /// Where it cannot be read, or is not the one that the run was begun with.
    pub(super) fn read_init(
        &self,
        on_event: OnEvent<'_>,
    ) -> Result<(Option<EncoderWeights>, String), TrainError> {
        let mut init = None;
        let sha256 = self
            .options
            .ranks
            .share("reading the encoder to start from", || {
                let (encoder, sha256) = self.read_own_init(on_event)?;
                init = encoder;
                Ok(sha256)
            })?;
        Ok((init, sha256))
    }

    fn read_own_init(&self, on_event: OnEvent<'_>) -> Result<(Option<EncoderWeights>, String), TrainError> {
        let plan = self
            .begun
            .as_ref()
            .or(self.parent.as_ref().map(|parent| &parent.plan));
        let has_checkpoint = self.checkpoint.is_some() || self.parent.is_some() || self.finished.is_some();
        if let (None, Some(plan), true) = (self.init, plan, has_checkpoint) {
            return Ok((None, plan.init_sha256.clone()));
        }
        let own = self.request.init.as_ref().map(Path::new);
        read_init(self.init.or(own), on_event)
    }

    /// Compares the plan with that of the run that is resumed or continued, and with those of other ranks. What changes no
    /// number may change; what the plan cannot know of itself is filled in.
    ///
    /// # Errors
    /// Where a setting differs that changes numbers; a run that continues another may change steps, learning rate and
    /// optimizer. Where the micro-batches cannot be shared among the ranks.
    pub(super) fn settle(&mut self, plan: &mut Plan, on_event: OnEvent<'_>) -> Result<(), TrainError> {
        let ranks = &self.options.ranks;
        require_shares(plan, ranks.world_size())?;
        require_main_memory(ranks.overlap(), self.options.device)?;
        if ranks.is_first() {
            self.settle_first(plan, on_event)?;
        }
        settle_among(plan, ranks)
    }

    fn settle_first(&mut self, plan: &mut Plan, on_event: OnEvent<'_>) -> Result<(), TrainError> {
        match (self.begun.take(), self.parent.take()) {
            (Some(begun), parent) => {
                self.resume(&begun, parent, plan, on_event)?;
                self.begun = Some(begun);
                Ok(())
            }
            (None, Some(parent)) => self.continue_run(parent, plan, on_event),
            (None, None) => Ok(()),
        }
    }

    fn resume(
        &mut self,
        begun: &Plan,
        parent: Option<Parent>,
        plan: &mut Plan,
        on_event: OnEvent<'_>,
    ) -> Result<(), TrainError> {
        let refused = |reason: String| TrainError::Resume {
            reason,
            path: self.options.out.clone(),
        };
        if self.options.continue_from.is_some() && begun.continued_from.is_none() {
            return Err(refused(String::from("the run was begun without --continue-from")));
        }
        plan.continued_from.clone_from(&begun.continued_from);
        plan.preset.clone_from(&begun.preset);
        plan.data.keep_listed(&begun.data);
        let differences = begun.differences_of_numbers(plan);
        if !differences.is_empty() {
            let is_schedule = begun
                .differences_of_numbers(&plan.with_schedule_of(begun))
                .is_empty();
            let way_out = if is_schedule {
                "train on with other steps, another learning rate or samples left out in a run that continues this one: --continue-from RUN --out ANOTHER"
            } else {
                "settings that change its numbers make another run: --out ANOTHER"
            };
            let differences = listed(&differences);
            return Err(refused(format!(
                "the run was begun with another {differences}; {way_out}"
            )));
        }
        if self.finished.is_some() {
            return Ok(());
        }
        note_changes(&begun.differences(plan), on_event);
        if let Some(checkpoint) = &self.checkpoint
            && !is_named(
                begun,
                self.earlier_request.as_ref(),
                &checkpoint.state.plan_sha256,
            )
        {
            return Err(refused(String::from(
                "the checkpoint is of another configuration",
            )));
        }
        if self.checkpoint.is_some() {
            return Ok(());
        }
        match (&begun.continued_from, parent) {
            (None, _) => Ok(()),
            (Some(from), Some(parent)) if *from == parent.continued(from.changed.clone())? => {
                self.checkpoint = Some(parent.checkpoint);
                Ok(())
            }
            (Some(ContinuedFrom { step, .. }), _) => Err(refused(format!(
                "the run has no checkpoint yet, and that of step {step} of the run that it continues is not there any more"
            ))),
        }
    }

    fn continue_run(
        &mut self,
        parent: Parent,
        plan: &mut Plan,
        on_event: OnEvent<'_>,
    ) -> Result<(), TrainError> {
        let refused = |reason: String| TrainError::Continue {
            reason,
            path: parent.path.clone(),
        };
        plan.continued_from.clone_from(&parent.plan.continued_from);
        plan.data.keep_listed(&parent.plan.data);
        let others = parent
            .plan
            .differences_of_numbers(&plan.with_schedule_of(&parent.plan));
        if !others.is_empty() {
            return Err(refused(format!(
                "the run was begun with another {}; steps, left-out samples, learning rate and optimizer may change, and --init starts another run from its encoder",
                listed(&others)
            )));
        }
        let (step, num_steps) = (parent.checkpoint.state.step, plan.phase.num_steps);
        if num_steps <= step {
            return Err(refused(format!(
                "the run has taken {step} steps, and this one is to end after {num_steps}, counted from its beginning; set more steps"
            )));
        }
        let changed = parent.plan.differences_of_numbers(plan);
        on_event(TrainEvent::Note(format!(
            "continues {} from step {step}{}",
            parent.path.display(),
            if changed.is_empty() {
                String::new()
            } else {
                format!(", with another {}", listed(&changed))
            }
        )));
        let changed = changed.iter().map(Difference::to_string).collect();
        plan.continued_from = Some(parent.continued(changed)?);
        self.checkpoint = Some(parent.checkpoint);
        Ok(())
    }

    /// Makes the folder ready to be written to, by rank 0, and returns the checkpoint that this goes on from. What could be
    /// refused has been.
    ///
    /// # Errors
    /// Where an old run cannot be removed, or the folder cannot be written to.
    pub(super) fn begin(&mut self) -> Result<Option<Checkpoint>, TrainError> {
        if !self.options.ranks.is_first() {
            return Ok(None);
        }
        run::prepare(&self.options.out, self.options.existing)?;
        self.request.write(&self.options.out)?;
        Ok(self.checkpoint.take())
    }
}

impl Parent {
    /// Opens its newest checkpoint or, where the run that continues it was begun before, the one that this went on from.
    /// `path` may also be one checkpoint, or the state before a step that could not be taken.
    fn open(path: &Path, from: Option<&ContinuedFrom>, on_event: OnEvent<'_>) -> Result<Self, TrainError> {
        let unusable = |reason: &str| TrainError::Continue {
            reason: reason.to_owned(),
            path: path.to_owned(),
        };
        let run = run_of(path);
        let plan = run::read_plan(run)?.ok_or_else(|| unusable("the folder holds no run"))?;
        let own = from.map(|from| checkpoint::path_of(&path.join(CHECKPOINTS), from.step));
        let checkpoint = match own.filter(|own| own.is_dir()) {
            _ if run != path => Some(Checkpoint::open(path)?),
            Some(own) => Some(Checkpoint::open(&own)?),
            None => newest(path, on_event)?,
        };
        let checkpoint = checkpoint.ok_or_else(|| unusable("the run has no checkpoint to go on from"))?;
        if !is_named(&plan, Request::read(run)?.as_ref(), &checkpoint.state.plan_sha256) {
            return Err(unusable("its checkpoint is of another configuration"));
        }
        Ok(Self {
            path: path.to_owned(),
            plan,
            checkpoint,
        })
    }

    /// What a plan says of it.
    fn continued(&self, changed: Vec<String>) -> Result<ContinuedFrom, TrainError> {
        Ok(ContinuedFrom {
            step: self.checkpoint.state.step,
            config_sha256: self.plan.identity_sha256(),
            weights_sha256: file_sha256(&self.checkpoint.path.join(MODEL_FILE))?,
            changed,
        })
    }
}

/// Refuses micro-batches that cannot be dealt out evenly, or that have to be computed at once and cannot be.
fn require_shares(plan: &Plan, num_ranks: usize) -> Result<(), TrainError> {
    let PhasePlan {
        accumulation_steps: num_micro_batches,
        batch_norm,
        ..
    } = plan.phase;
    let table = match plan.task {
        Task::Pretrain => "pretrain",
        Task::Segment => "segment",
        Task::Classify | Task::Other(_) => "finetune",
    };
    if batch_norm.is_synchronized() && num_micro_batches != num_ranks {
        return Err(invalid(format!(
            "{table}.batch_norm = \"synchronized\" needs the {num_micro_batches} micro-batches of {table}.accumulation_steps at once, each on a rank of its own; there are so many ranks: {num_ranks}"
        )));
    }
    if num_micro_batches.is_multiple_of(num_ranks) {
        return Ok(());
    }
    Err(invalid(format!(
        "{table}.accumulation_steps = {num_micro_batches}: so many micro-batches cannot be dealt out to {num_ranks} ranks; set {num_ranks} or a multiple of it"
    )))
}

/// Refuses gradients that cannot be summed while others are computed: gloo of the libtorch for CPUs takes no others.
fn require_main_memory(overlap: bool, device: Device) -> Result<(), TrainError> {
    if !overlap || device == Device::Cpu {
        return Ok(());
    }
    Err(invalid(format!(
        "--overlap sums gradients in main memory during the backward pass, and they are computed on {}; leave it out, or set --device cpu",
        device_name(device)
    )))
}

/// Compares the plans of all ranks, and takes that of rank 0 but for the cache, which is of a machine.
fn settle_among(plan: &mut Plan, ranks: &Ranks) -> Result<(), TrainError> {
    if ranks.is_single() {
        return Ok(());
    }
    // As TOML, which knows infinity.
    let plans = ranks.gather(plan.to_toml()?, "comparing configurations")?;
    let plans = plans.iter().map(|text| Plan::from_toml(text));
    let plans = plans.collect::<Result<Vec<Plan>, TrainError>>()?;
    let first = &plans[0];
    for (rank, of_rank) in plans.iter().enumerate() {
        let mut of_rank = of_rank.clone();
        // What rank 0 alone can know.
        of_rank.continued_from.clone_from(&first.continued_from);
        of_rank.data.keep_listed(&first.data);
        let differences = first.differences_of_numbers(&of_rank);
        if !differences.is_empty() {
            let what = format!("configuration: {},", listed(&differences));
            return Err(TrainError::OtherRank { rank, what });
        }
    }
    let cache_bytes = plan.data.cache_bytes;
    plan.clone_from(first);
    plan.data.cache_bytes = cache_bytes;
    Ok(())
}

/// The request of a session; what it leaves open is that of the run before it.
fn request(
    wanted: &Wanted<'_>,
    options: &RunOptions,
    begun: Option<&Plan>,
    earlier: Option<&Request>,
) -> Request {
    let noted_or = |path: Option<&Path>, before: fn(&Request) -> &Option<String>| {
        path.and_then(noted).or_else(|| before(earlier?).clone())
    };
    Request {
        task: wanted.task.clone(),
        data: noted(&options.data),
        init: noted_or(wanted.init, |request| &request.init),
        continue_from: noted_or(options.continue_from.as_deref(), |request| &request.continue_from),
        labels_per_class: wanted.labels_per_class,
        device: device_name(options.device),
        num_threads: options.num_threads,
        earlier_config_sha256: match earlier {
            Some(earlier) => earlier.earlier_config_sha256.clone(),
            None => begun.map(Plan::sha256),
        },
        config: wanted.config.clone(),
    }
}

/// The newest intact checkpoint of a run; a damaged one that is passed over is noted.
fn newest(run: &Path, on_event: OnEvent<'_>) -> Result<Option<Checkpoint>, TrainError> {
    let checkpoint = Checkpoint::newest(&run.join(CHECKPOINTS))?;
    if let Some(note) = checkpoint.as_ref().and_then(Checkpoint::damage_note) {
        on_event(TrainEvent::Note(note));
    }
    Ok(checkpoint)
}

fn note_changes(differences: &[Difference], on_event: OnEvent<'_>) {
    if !differences.is_empty() {
        let changes = listed(differences);
        on_event(TrainEvent::Note(format!(
            "changed for the rest of the run: {changes}"
        )));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_of_a_gpu_are_summed_afterwards_or_refused() {
        for (overlap, device, is_taken) in [
            (true, Device::Cpu, true),
            (false, Device::Cuda(1), true),
            (true, Device::Cuda(1), false),
        ] {
            let taken = require_main_memory(overlap, device);
            assert_eq!(taken.is_ok(), is_taken, "{overlap}, {device:?}");
            if let Err(error) = taken {
                let text = error.to_string();
                assert!(text.contains("--overlap") && text.contains("cuda:1"), "{text}");
            }
        }
    }
}
