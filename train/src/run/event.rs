//! What the trainer reports while it works. Front ends draw it; the same records are the lines of `metrics.jsonl`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Record {
    /// One step of training.
    Step(StepRecord),
    /// The photograph loss on held-out objects.
    Validation(ValidationRecord),
    /// A classification score on held-out objects.
    Evaluation(EvaluationRecord),
    /// A part-segmentation score on held-out objects.
    Segmentation(SegmentationRecord),
}

impl Record {
    /// The number of steps taken when it was written.
    #[must_use]
    pub fn step(&self) -> u64 {
        match self {
            Self::Step(record) => record.step,
            Self::Validation(record) => record.step,
            Self::Evaluation(record) => record.step,
            Self::Segmentation(record) => record.step,
        }
    }
}

/// One step of training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Steps taken, this one included.
    pub step: u64,
    /// 0-based epoch of the batch.
    pub epoch: u64,
    /// The loss that was minimized.
    #[serde(with = "crate::number")]
    pub loss: f64,
    /// Mean squared error of foreground pixels, unweighted.
    #[serde(
        with = "crate::number::optional",
        skip_serializing_if = "Option::is_none",
        default
    )]
    pub loss_foreground: Option<f64>,
    /// Mean squared error of background pixels, unweighted.
    #[serde(
        with = "crate::number::optional",
        skip_serializing_if = "Option::is_none",
        default
    )]
    pub loss_background: Option<f64>,
    /// Learning rate of the step.
    #[serde(with = "crate::number")]
    pub learning_rate: f64,
    /// L2 norm of the gradient before clipping.
    #[serde(with = "crate::number")]
    pub gradient_norm: f64,
    /// Samples a second since the last record.
    #[serde(with = "crate::number")]
    pub samples_per_s: f64,
    /// Views a second since the last record.
    #[serde(with = "crate::number")]
    pub views_per_s: f64,
    /// Wall-clock seconds of training, earlier sessions of a resumed run included.
    #[serde(with = "crate::number")]
    pub elapsed_s: f64,
}

/// The photograph loss on held-out objects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValidationRecord {
    /// Steps taken.
    pub step: u64,
    /// `foreground_weight * loss_foreground + background_weight * loss_background`.
    #[serde(with = "crate::number")]
    pub loss: f64,
    /// Mean squared error over all foreground pixels.
    #[serde(with = "crate::number")]
    pub loss_foreground: f64,
    /// Mean squared error over all background pixels.
    #[serde(with = "crate::number")]
    pub loss_background: f64,
    /// Mean squared error over all pixels.
    #[serde(with = "crate::number")]
    pub loss_plain: f64,
}

/// A classification score on held-out objects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluationRecord {
    /// Steps taken.
    pub step: u64,
    /// The part that is right, 0 to 1.
    #[serde(with = "crate::number")]
    pub accuracy: f64,
    /// The mean over classes of the part that is right, 0 to 1.
    #[serde(with = "crate::number")]
    pub mean_class_accuracy: f64,
}

/// A part-segmentation score on held-out objects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SegmentationRecord {
    /// Steps taken.
    pub step: u64,
    /// Mean over objects of the mean intersection over union of their parts, 0 to 1.
    #[serde(with = "crate::number")]
    pub instance_miou: f64,
    /// Mean over classes of that mean, 0 to 1.
    #[serde(with = "crate::number")]
    pub class_miou: f64,
    /// The part of the points that is right, 0 to 1.
    #[serde(with = "crate::number")]
    pub point_accuracy: f64,
}

/// What happened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum TrainEvent {
    /// Training begins or goes on.
    Started {
        /// Steps of the whole run.
        num_steps: u64,
        /// Steps taken before this session.
        first_step: u64,
        /// Trainable numbers.
        num_parameters: usize,
        /// Training objects.
        num_samples: usize,
        /// Where it computes.
        device: String,
    },
    /// A record was written to `metrics.jsonl`.
    Recorded(Record),
    /// Something worth a line.
    Note(String),
    /// A checkpoint is complete.
    CheckpointWritten {
        /// Steps taken.
        step: u64,
        /// Its folder.
        path: PathBuf,
    },
    /// A picture is complete.
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

/// Receives events.
pub type OnEvent<'a> = &'a mut dyn FnMut(TrainEvent);
