//! A step that was not finite, taken again from the folder that it left in its run ([`crate::run::fault`]).

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tch::Device;
use tch::nn::VarStore;

use super::finetune::{self, Task as FinetuneTask};
use super::{DataChoice, OpenData, classify::Classify, pretrain, segment::Segment, train_batches};
use crate::config::{PhasePlan, Plan, Task};
use crate::data::collator::{Collator, ViewSampling};
use crate::data::source::ShardSource;
use crate::engine::objective::Loss;
use crate::engine::step::{StepError, Stepper};
use crate::error::TrainError;
use crate::method::{self, MethodKind};
use crate::optim::AdamW;
use crate::ranks::{Place, Ranks};
use crate::run::event::{OnEvent, TrainEvent};
use crate::run::fault::{FAULT_FILE, Fault, run_of};
use crate::run::request::Request;
use crate::run::weights::is_named;
use crate::run::{self, CONFIG_FILE};
use crate::weights::checkpoint::{self, Checkpoint};

/// How far a step that is taken again is what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reproduced {
    /// Every number is the same, to the bit.
    Exactly,
    /// The same is not finite, and other numbers differ, as on another device.
    InKind,
    /// Something else is not finite.
    Differently,
    /// The step can be taken.
    Not,
}

impl fmt::Display for Reproduced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exactly => "reproduced, every number to the bit",
            Self::InKind => {
                "reproduced, other numbers differ, as they do on another device or with other threads"
            }
            Self::Differently => "not reproduced: something else is not finite now",
            Self::Not => "not reproduced: the step is finite now",
        })
    }
}

/// A step that was taken again.
#[derive(Debug, Clone)]
pub struct Replayed {
    /// The step as it was recorded.
    pub recorded: Fault,
    /// As it is now; none where it is finite.
    pub now: Option<Fault>,
}

impl Replayed {
    /// How far it is what it was.
    #[must_use]
    pub fn reproduced(&self) -> Reproduced {
        let Some(now) = &self.now else {
            return Reproduced::Not;
        };
        let numbers = |fault: &Fault| {
            let norms = fault.tensors.values().flat_map(|norms| {
                let gradient = norms.gradient.map_or(0.0, |gradient| gradient.norm);
                [norms.weight, gradient]
            });
            let terms = fault.terms.iter().map(|term| term.mean);
            // All numbers that are not numbers are alike.
            let bits = |number: f64| {
                if number.is_nan() {
                    u64::MAX
                } else {
                    number.to_bits()
                }
            };
            let all = terms.chain(norms).chain([fault.loss]);
            all.map(bits).collect::<Vec<u64>>()
        };
        let kind = |fault: &Fault| (fault.what.clone(), fault.first_non_finite.clone());
        if kind(now) != kind(&self.recorded) {
            Reproduced::Differently
        } else if numbers(now) == numbers(&self.recorded) {
            Reproduced::Exactly
        } else {
            Reproduced::InKind
        }
    }
}

/// What is taken again, where, and on which data.
#[derive(Debug, Clone)]
pub struct ReplayOptions {
    /// The folder that the step left.
    pub folder: PathBuf,
    /// The data set; where the run says that it is if absent.
    pub data: Option<PathBuf>,
    /// Device.
    pub device: Device,
    /// Threads of torch, for the record.
    pub num_threads: usize,
}

/// Takes a step of a pre-training or fine-tuning of this program again. Nothing is written.
///
/// # Errors
/// Where the folder is that of no such step, the run is gone or of another program, or data and weights are not what they
/// were.
pub fn replay(options: &ReplayOptions, on_event: OnEvent<'_>) -> Result<Replayed, TrainError> {
    let of = Recorded::read(&options.folder)?;
    match &of.plan.task {
        Task::Pretrain => {
            let kind = method::find(of.plan.method.kind())?;
            of.replay_pretraining(kind, options, on_event)
        }
        Task::Classify => of.replay_task::<Classify>(options, on_event),
        Task::Segment => of.replay_task::<Segment>(options, on_event),
        Task::Other(name) => Err(TrainError::NoWeights {
            reason: format!("the run is of task '{name}', which this program does not know"),
            path: options.folder.clone(),
        }),
    }
}

/// Takes a step of a pre-training again by a method that need not be known to this crate.
///
/// # Errors
/// As for [`replay`].
pub fn replay_with(
    kind: &dyn MethodKind,
    options: &ReplayOptions,
    on_event: OnEvent<'_>,
) -> Result<Replayed, TrainError> {
    Recorded::read(&options.folder)?.replay_pretraining(kind, options, on_event)
}

/// A step that left a folder, with its run.
struct Recorded {
    fault: Fault,
    plan: Plan,
    request: Option<Request>,
    checkpoint: Checkpoint,
}

impl Recorded {
    fn read(folder: &Path) -> Result<Self, TrainError> {
        let refused = |reason: String| TrainError::NoWeights {
            reason,
            path: folder.to_owned(),
        };
        if !folder.join(FAULT_FILE).is_file() {
            let reason = format!(
                "the folder has no {FAULT_FILE}: it is not one that a step left, like RUN/non-finite-0000000123"
            );
            return Err(refused(reason));
        }
        let checkpoint = Checkpoint::open(folder)?;
        // A folder named from within it has its run above it too.
        let folder = folder.canonicalize().map_err(TrainError::io("read", folder))?;
        let run = run_of(&folder);
        let plan = run::read_plan(run)?
            .ok_or_else(|| refused(format!("the run that it lies in has no {CONFIG_FILE}")))?;
        let PhasePlan {
            batch_norm,
            accumulation_steps,
            ..
        } = plan.phase;
        if batch_norm.is_synchronized() && accumulation_steps > 1 {
            return Err(refused(format!(
                "its batch norms normalize {accumulation_steps} micro-batches at once (batch_norm = \"synchronized\"), and one process takes one after the other"
            )));
        }
        let request = Request::read(run)?;
        if !is_named(&plan, request.as_ref(), &checkpoint.state.plan_sha256) {
            return Err(refused(format!(
                "it is of another configuration than {CONFIG_FILE} of the run"
            )));
        }
        Ok(Self {
            fault: Fault::read(&folder)?,
            plan,
            request,
            checkpoint,
        })
    }

    /// The data set with its training rows.
    fn open_data(&self, options: &ReplayOptions) -> Result<(OpenData, ShardSource), TrainError> {
        let noted = self.request.as_ref().and_then(|request| request.data.as_ref());
        let path = options.data.clone().or_else(|| noted.map(PathBuf::from));
        let path = path.ok_or_else(|| TrainError::NoWeights {
            reason: String::from("the run does not say where its data is; pass --data"),
            path: options.folder.clone(),
        })?;
        let request = self.request.as_ref();
        let choice = request.map(|request| DataChoice::of(&request.config.data));
        let data = OpenData::choose(&path, choice.unwrap_or_default())?;
        if data.dataset.sha256() != self.plan.data_sha256 {
            return Err(TrainError::UnsuitableData {
                reason: String::from("the data is not that of the run"),
                path,
            });
        }
        let plan = &self.plan;
        let train = data.train_rows(
            &plan.data.train_splits,
            plan.data.fraction,
            plan.labels_per_class,
            plan.seed,
        )?;
        Ok((data, train))
    }

    fn replay_pretraining(
        self,
        kind: &dyn MethodKind,
        options: &ReplayOptions,
        on_event: OnEvent<'_>,
    ) -> Result<Replayed, TrainError> {
        let (_, train) = self.open_data(options)?;
        let (store, method) = pretrain::build(kind, &self.plan, options.device)?;
        let [content, _] = pretrain::row_content(method.inputs(), &self.plan);
        let batches = train_batches(&self.plan, Arc::new(train), content)?;
        let group = |name: &str, tensor: &tch::Tensor| method.parameter_group(name, tensor);
        let optimizer = AdamW::with_groups(self.plan.phase.optimizer.clone(), store.variables(), group);
        self.take(&batches, &store, optimizer, method.as_ref(), options, on_event)
    }

    fn replay_task<T: FinetuneTask>(
        self,
        options: &ReplayOptions,
        on_event: OnEvent<'_>,
    ) -> Result<Replayed, TrainError> {
        let (data, train) = self.open_data(options)?;
        let (store, task) = finetune::build::<T>(&self.plan, &data, options.device)?;
        let batches = train_batches(&self.plan, Arc::new(train), ViewSampling::None)?;
        let group =
            |name: &str, tensor: &tch::Tensor| finetune::parameter_group::<T>(&self.plan, name, tensor);
        let optimizer = AdamW::with_groups(self.plan.phase.optimizer.clone(), store.variables(), group);
        self.take(&batches, &store, optimizer, &task, options, on_event)
    }

    fn take(
        self,
        batches: &Collator,
        store: &VarStore,
        mut optimizer: AdamW,
        loss: &dyn Loss,
        options: &ReplayOptions,
        on_event: OnEvent<'_>,
    ) -> Result<Replayed, TrainError> {
        let Checkpoint { path, state, .. } = &self.checkpoint;
        checkpoint::load(path, &state.plan_sha256, store, &mut optimizer)?;
        let batch = batches.micro_batches(state.step, self.plan.phase.accumulation_steps, Place::ALONE)?;
        let ids: Vec<String> = batch.own.iter().flat_map(|(_, part)| part.ids.clone()).collect();
        if ids != self.fault.ids {
            let now = ids.join(", ");
            on_event(TrainEvent::Note(format!(
                "the batch has other samples now: {now}"
            )));
        }
        let (alone, never) = (Ranks::default(), AtomicBool::new(false));
        let mut steps = Stepper::new(&self.plan, store, options.device, options.num_threads, &alone);
        let now = match steps.take(&batch, loss, &mut optimizer, state.step, &never) {
            Ok(_) => None,
            Err(StepError::NonFinite(fault)) => Some(*fault),
            Err(StepError::Failed(error)) => return Err(error),
        };
        Ok(Replayed {
            recorded: self.fault,
            now,
        })
    }
}
