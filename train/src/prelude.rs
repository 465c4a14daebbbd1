//! Imports for a backbone, a pre-training method or a task in another crate: `use tap_train::prelude::*`.

pub use crate::TrainError;
pub use crate::config::{Config, MethodPlan, Plan};
pub use crate::data::batch::{Batch, CpuBatch};
pub use crate::engine::objective::{Loss, Term};
pub use crate::method::{Baselines, CpuBatches, Inputs, Method, MethodKind, plan_of, settings};
pub use crate::model::{Cloud, Encoder, Mode, Tokens};
pub use crate::optim::ParameterGroup;
pub use crate::run::Existing;
pub use crate::run::event::TrainEvent;
pub use crate::scalar::{Scalars, Sums};
pub use crate::task::OpenData;
pub use crate::task::finetune::{Scored, Task, evaluate, finetune};
pub use crate::task::pretrain::pretrain_with;
