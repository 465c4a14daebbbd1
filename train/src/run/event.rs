//! Events that the trainer reports to front ends. Their records are also the lines of `metrics.jsonl`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::scalar::Scalars;

/// A line of `metrics.jsonl`: what was measured after how many steps.
///
/// The kinds are open: methods and tasks add scalars and kinds of their own, and readers show those that they know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// `step`, `validation` (pre-training on held-out objects), `evaluation` (classification), `segmentation`,
    /// `continuation` (of another run), or one of another task.
    pub kind: String,
    /// Steps taken, this one included.
    pub step: u64,
    /// 0-based epoch of the batch, of a training step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// What was measured.
    #[serde(flatten)]
    pub scalars: Scalars,
}

impl Record {
    /// The kind of training steps.
    pub const STEP: &'static str = "step";
    /// The kind of losses on held-out objects.
    pub const VALIDATION: &'static str = "validation";
    /// The kind of the first record of a run that continues another.
    pub const CONTINUATION: &'static str = "continuation";

    /// A record after `step` steps.
    #[must_use]
    pub fn new(kind: &str, step: u64, scalars: Scalars) -> Self {
        Self {
            kind: kind.to_owned(),
            step,
            epoch: None,
            scalars,
        }
    }

    /// Whether it is one of a training step.
    #[must_use]
    pub fn is_step(&self) -> bool {
        self.kind == Self::STEP
    }

    /// The scalar of this name; NaN where there is none.
    #[must_use]
    pub fn get(&self, name: &str) -> f64 {
        self.scalars.get(name).unwrap_or(f64::NAN)
    }
}

/// The settings that act in a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveSettings {
    /// The preset that it starts from.
    pub preset: Option<String>,
    /// Seed of everything random.
    pub seed: u64,
    /// By table.
    pub tables: Vec<(String, Vec<ActiveSetting>)>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveSetting {
    /// Key and value.
    pub text: String,
    /// Whether the preset, or without one the defaults, would have it otherwise.
    pub is_changed: bool,
}

/// Progress of a run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum TrainEvent {
    /// The settings of a run that begins or goes on.
    Settings(ActiveSettings),
    /// Training begins or goes on.
    Started {
        /// Steps of the whole run.
        num_steps: u64,
        /// Steps taken before this session.
        first_step: u64,
        /// Trainable parameters.
        num_parameters: usize,
        /// Training objects.
        num_samples: usize,
        /// Device.
        device: String,
        /// Threads of torch.
        num_threads: usize,
        /// Processes that train together.
        num_ranks: usize,
    },
    /// The run that is resumed has taken all its steps: nothing is done.
    FinishedBefore {
        /// Steps taken.
        step: u64,
    },
    /// A record was written to `metrics.jsonl`.
    Recorded(Record),
    /// A note for the user.
    Note(String),
    /// A checkpoint is complete.
    CheckpointWritten {
        /// Steps taken.
        step: u64,
        /// Its folder.
        path: PathBuf,
    },
    /// A grid of images is complete.
    ImagesWritten {
        /// The file.
        path: PathBuf,
    },
    /// The session ends early because it was asked to; the checkpoint is complete.
    Interrupted {
        /// Steps taken.
        step: u64,
    },
    /// All steps are done.
    Finished {
        /// Steps taken.
        step: u64,
    },
}

impl TrainEvent {
    /// The loss of a training step, if this is the record of one.
    #[must_use]
    pub fn step_loss(&self) -> Option<f64> {
        match self {
            Self::Recorded(record) if record.is_step() => record.scalars.get("loss"),
            _ => None,
        }
    }
}

/// Callback for events.
pub type OnEvent<'a> = &'a mut dyn FnMut(TrainEvent);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    /// Lines as earlier versions wrote them.
    #[test]
    fn a_line_is_read_and_written_as_it_is() {
        let lines = [
            r#"{"kind":"step","step":7,"epoch":0,"loss":3.25,"loss_foreground":0.125,"loss_background":0.75,"learning_rate":0.001,"gradient_norm":1.5,"samples_per_s":40.0,"views_per_s":160.0,"elapsed_s":0.5}"#,
            r#"{"kind":"step","step":7,"epoch":2,"loss":"NaN","learning_rate":1e-6,"gradient_norm":1.5,"samples_per_s":40.0,"views_per_s":0.0,"elapsed_s":0.5}"#,
            r#"{"kind":"validation","step":12,"loss":3.25,"loss_foreground":0.125,"loss_background":0.75,"loss_plain":0.5}"#,
            r#"{"kind":"evaluation","step":40,"accuracy":0.75,"mean_class_accuracy":0.5}"#,
            r#"{"kind":"segmentation","step":40,"instance_miou":0.75,"class_miou":0.5,"point_accuracy":0.25}"#,
        ];
        for line in lines {
            let record: Record = serde_json::from_str(line).unwrap();
            assert_eq!(serde_json::to_string(&record).unwrap(), line, "{record:?}");
        }
    }
}
