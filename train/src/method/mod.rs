//! Pre-training methods behind one trait, one file or folder a method, and one line of [`METHODS`].
//!
//! # Adding a method
//!
//! Implement [`Loss`], [`Method`] and [`MethodKind`]. **Inside this crate** the kind goes into [`METHODS`]: `method = "NAME"`
//! in a configuration then selects it. **Outside of it** the kind is given to
//! [`pretrain_with`](crate::task::pretrain::pretrain_with), as `train/examples/own_method.rs` does. The trainer, the
//! configuration, records, the run folder, checkpoints and the program need no change: a method declares its inputs, the
//! terms of its loss, its metrics on held-out objects, and which of its weights are the encoder.
//!
//! Its settings are the table `[method]`, which it reads itself ([`MethodConfig::parse`]), with defaults and without
//! accepting what it does not know.

pub mod i2p_mae;
mod masked;
pub mod point_m2ae;
pub mod point_mae;
pub mod sum;
pub mod tap;

use std::fmt::Debug;
use std::path::PathBuf;
use std::rc::Rc;

use tch::{Tensor, nn};

use crate::config::{Config, DatasetInfo, MethodConfig, MethodPlan, Plan, Task, invalid};
use crate::data::batch::{Batch, CpuBatch};
use crate::engine::objective::Loss;
use crate::error::TrainError;
use crate::model::Encoder;
use crate::optim::ParameterGroup;
use crate::run::image_grid::ImageGrid;
use crate::scalar::{Scalars, Sums};
use crate::weights::checkpoint::ENCODER_PREFIX;

/// The methods that a configuration can name.
pub const METHODS: [&dyn MethodKind; 5] = [
    &tap::TapKind,
    &point_mae::PointMaeKind,
    &point_m2ae::PointM2aeKind,
    &i2p_mae::I2pMaeKind,
    &sum::SumKind,
];

/// Inputs of a method beside the points of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Inputs {
    /// Views: `data.num_views` random ones in training, all of them in evaluation.
    pub views: bool,
    /// Unit normals of the points.
    pub normals: bool,
    /// The feature set of `data.features`.
    pub features: bool,
}

/// Losses of trivial predictors, to compare a loss with.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Baselines {
    /// By name, for the result.
    pub scalars: Scalars,
    /// As text for the user.
    pub note: Option<String>,
}

/// Batches in main memory, as passed to [`Method::baselines`].
pub type CpuBatches<'a> = &'a mut dyn Iterator<Item = Result<CpuBatch, TrainError>>;

/// A network with the loss that it is pre-trained by. It lives on the device of its weights.
pub trait Method: Loss {
    /// Inputs of the method beside points.
    fn inputs(&self) -> Inputs {
        Inputs::default()
    }

    /// Prefix of the names of the encoder's weights.
    fn encoder_prefix(&self) -> &str {
        ENCODER_PREFIX
    }

    /// The encoder, where other methods can read it too ([`sum`]).
    fn encoder(&self) -> Option<Rc<dyn Encoder>> {
        None
    }

    /// Weight decay and learning rate of a parameter.
    fn parameter_group(&self, name: &str, tensor: &Tensor) -> ParameterGroup {
        ParameterGroup::of(name, tensor)
    }

    /// Measures trivial predictors: fitted to training batches, scored on those of the evaluation split.
    ///
    /// # Errors
    /// The first error among the batches.
    fn baselines(
        &self,
        _training: CpuBatches<'_>,
        _evaluation: CpuBatches<'_>,
    ) -> Result<Baselines, TrainError> {
        Ok(Baselines::default())
    }

    /// Adds the metrics of a batch of the evaluation split to `sums`; called without gradients.
    fn evaluate(&self, batch: &Batch, sums: &mut Sums);

    /// The scalars from the sums over the whole split; `loss` is what runs are compared by.
    fn scalars(&self, sums: &Sums) -> Scalars;

    /// Images for the log from a batch of the evaluation split, if the method has any; called without gradients.
    fn images(&self, _cpu_batch: &CpuBatch, _batch: &Batch) -> Option<ImageGrid> {
        None
    }
}

/// A kind of pre-training: its name, its settings, and how its network is built.
pub trait MethodKind: Debug + Sync {
    /// What configurations call it.
    fn name(&self) -> &'static str;

    /// Its settings with a value for everything.
    ///
    /// # Errors
    /// Where they contradict themselves, or hold what it does not know.
    fn plan(&self, config: &Config) -> Result<MethodPlan, TrainError>;

    /// Files that a configuration names, which a run may not overwrite.
    fn files(&self, _config: &Config) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Writes into the plan of a pre-training what its numbers depend on besides the configuration: sizes that the data has,
    /// hashes of files.
    ///
    /// # Errors
    /// Where something is missing.
    fn bind(&self, _plan: &mut Plan, _data: &DatasetInfo) -> Result<(), TrainError> {
        Ok(())
    }

    /// Refuses data that it cannot be trained on.
    ///
    /// # Errors
    /// What does not fit.
    fn check(&self, _plan: &Plan, _data: &DatasetInfo) -> Result<(), TrainError> {
        Ok(())
    }

    /// Builds the network with fresh weights under `vs`, drawn from torch's default generator.
    ///
    /// # Errors
    /// Where the plan is of another method, or a file that it names cannot be read.
    fn build(&self, vs: &nn::Path<'_>, plan: &Plan) -> Result<Box<dyn Method>, TrainError>;

    /// Builds it around an encoder that another method has built and trains too; none where it needs one of its own.
    ///
    /// # Errors
    /// As for [`build`](Self::build).
    fn build_on(
        &self,
        _vs: &nn::Path<'_>,
        _plan: &Plan,
        _encoder: &Rc<dyn Encoder>,
    ) -> Result<Option<Box<dyn Method>>, TrainError> {
        Ok(None)
    }
}

/// The method of this name.
///
/// # Errors
/// Where there is none: the names that there are.
pub fn find(name: &str) -> Result<&'static dyn MethodKind, TrainError> {
    METHODS
        .into_iter()
        .find(|kind| kind.name() == name)
        .ok_or_else(|| {
            let names: Vec<&str> = METHODS.iter().map(|kind| kind.name()).collect();
            invalid(format!(
                "unknown method '{name}', expected one of {}",
                names.join(", ")
            ))
        })
}

/// Resolves a configuration for a data set, its method included. For a fine-tuning the method is only written down.
///
/// # Errors
/// Where the configuration contradicts itself or the data.
pub fn plan(
    kind: Option<&dyn MethodKind>,
    config: &Config,
    task: Task,
    labels_per_class: usize,
    init_sha256: &str,
    data: &DatasetInfo,
) -> Result<Plan, TrainError> {
    let is_pretraining = task == Task::Pretrain;
    let kind = match kind {
        Some(kind) => Some(kind),
        None if is_pretraining => Some(find(&config.method.kind)?),
        None => find(&config.method.kind).ok(),
    };
    let method = match kind {
        Some(kind) => kind.plan(config)?,
        None => MethodPlan::Other(config.method.clone()),
    };
    let mut plan = Plan::resolve(config, task, labels_per_class, init_sha256, data, method)?;
    if let (Some(kind), true) = (kind, is_pretraining) {
        kind.bind(&mut plan, data)?;
        kind.check(&plan, data)?;
    }
    Ok(plan)
}

/// The settings of the method that a plan is of, as the method declares them.
///
/// # Errors
/// Where the plan is of another method, or a setting is unknown or of the wrong type.
pub fn settings<T: for<'de> serde::Deserialize<'de>>(plan: &Plan) -> Result<T, TrainError> {
    match &plan.method {
        MethodPlan::Other(method) => method.parse().map_err(invalid),
        MethodPlan::Tap { .. } => Err(invalid("the plan is one of TAP")),
    }
}

/// The plan of a method whose settings are `S`, all of them read and written out.
///
/// # Errors
/// Where a setting is unknown or of the wrong type.
pub fn plan_of<S>(config: &Config) -> Result<MethodPlan, TrainError>
where
    S: serde::Serialize + for<'de> serde::Deserialize<'de>,
{
    let settings: S = config.method.parse().map_err(invalid)?;
    plan_with(&config.method.kind, &settings)
}

/// The plan of the method of this name with these settings.
///
/// # Errors
/// Where they have no form in TOML.
pub fn plan_with(kind: &str, settings: &impl serde::Serialize) -> Result<MethodPlan, TrainError> {
    let settings = toml::Table::try_from(settings).map_err(|error| invalid(error.to_string()))?;
    Ok(MethodPlan::Other(MethodConfig {
        kind: kind.to_owned(),
        settings,
    }))
}
