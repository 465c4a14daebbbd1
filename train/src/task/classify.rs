//! Fine-tuning an encoder to name classes.
//!
//! The seed sets the label subset, the head and, from scratch, all weights, so runs of one seed from different encoders are
//! pairs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tch::nn::VarStore;
use tch::{Device, Tensor};

use super::OpenData;
use super::finetune::{Scored, Task};
use super::vote::{VoteAverage, VoteRule, Votes};
use crate::config::Plan;
use crate::data::batch::{Batch, CpuBatch};
use crate::engine::objective::{Loss, Term};
use crate::error::TrainError;
use crate::metric::Confusion;
use crate::model::loss::{LabelWeights, smooth_cross_entropy_sum};
use crate::model::{ClassifierHead, Encoder, Mode};
use crate::run::image_grid::ImageGrid;
use crate::scalar::{Scalars, Sums};
use crate::seed::torch_seed;

/// The one term of the loss.
const CROSS_ENTROPY: &str = "cross_entropy";
/// Samples by label and prediction.
const CONFUSION: &str = "confusion";

/// The confusion matrix with class names, rows by label.
pub const CONFUSION_CSV: &str = "confusion.csv";
/// The same as an image, in the same order.
pub const CONFUSION_PNG: &str = "confusion.png";
/// Side of a square of that image.
const SQUARE_PX: usize = 16;

/// The result of a classification.
pub type ClassifyResult = Scored<ClassifyScore>;

/// Scores of one evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassifyScore {
    /// Accuracy, 0 to 1.
    pub accuracy: f64,
    /// Mean over classes of their accuracies, 0 to 1.
    pub mean_class_accuracy: f64,
    /// `counts[label][prediction]`.
    pub confusion: Confusion,
}

/// An encoder with a classification head.
#[derive(Debug)]
pub struct Classify {
    encoder: Box<dyn Encoder>,
    head: ClassifierHead,
    num_classes: usize,
    /// What the true class gives to the others, together.
    label_smoothing: f64,
    class_weights: LabelWeights,
}

impl Classify {
    /// The network for so many classes, with fresh weights. Encoder and head are drawn apart, so that the head does not depend on
    /// whether the encoder's weights are replaced.
    pub(super) fn with_classes(plan: &Plan, num_classes: usize, store: &VarStore) -> Self {
        let root = store.root();
        let mut encoder = plan.encoder.build(&(&root / "encoder"));
        tch::manual_seed(torch_seed(plan.seed, "head", 0));
        encoder.add_global_weights(&(&root / "prediction"));
        let head = ClassifierHead::new(
            &(&root / "prediction"),
            encoder.global_channels(),
            num_classes as i64,
            &plan.head,
        );
        Self {
            encoder,
            head,
            num_classes,
            label_smoothing: plan
                .loss
                .smoothing_rule
                .share_of_others(plan.loss.label_smoothing, num_classes),
            class_weights: LabelWeights::new(&plan.phase.class_weights, store.device()),
        }
    }

    /// Logits of a batch.
    ///
    /// # Shapes
    /// - returns [B, classes]
    pub(super) fn logits(&self, batch: &Batch, mode: Mode) -> Tensor {
        let feature = self.encoder.global_feature(&batch.cloud, mode.of_encoder());
        self.head.forward(&feature, mode)
    }
}

impl Loss for Classify {
    fn normalizer(&self, batch: &Batch) -> Sums {
        Sums::default().with(CROSS_ENTROPY, &[self.class_weights.sum(&batch.labels)])
    }

    fn terms(&self, batch: &Batch, mode: Mode) -> Vec<Term> {
        let logits = self.logits(batch, mode);
        let sum = smooth_cross_entropy_sum(&logits, &batch.labels, self.label_smoothing, &self.class_weights);
        vec![Term::new(CROSS_ENTROPY, 1.0, sum)]
    }
}

impl Task for Classify {
    type Score = ClassifyScore;

    const NAME: &'static str = "classify";
    const RECORD_KIND: &'static str = "evaluation";
    const VOTES_AVERAGE: Option<VoteAverage> = Some(VoteAverage::Probabilities);
    const PREDICTIONS: &'static str = "logits";

    fn build(plan: &Plan, data: &OpenData, store: &VarStore) -> Result<Self, TrainError> {
        Ok(Self::with_classes(plan, data.dataset.classes().len(), store))
    }

    fn check(_plan: &Plan, _data: &OpenData, votes: Votes) -> Result<(), TrainError> {
        if votes.rule == VoteRule::Published {
            return Err(TrainError::Config {
                reason: String::from("the published rule of voting is one of part segmentation"),
            });
        }
        Ok(())
    }

    fn order_classes(
        plan: &Plan,
        tensors: &mut BTreeMap<String, Tensor>,
        order: &[i64],
    ) -> Result<(), TrainError> {
        let last = format!("prediction.head.{}.0", 2 * plan.head.widths.len());
        let order = Tensor::from_slice(order);
        for name in ["weight", "bias"].map(|name| format!("{last}.{name}")) {
            if let Some(tensor) = tensors.get_mut(&name) {
                *tensor = tensor.index_select(0, &order);
            }
        }
        Ok(())
    }

    /// Logits of the classes, [B, classes].
    fn predict(&self, batch: &Batch) -> Tensor {
        self.logits(batch, Mode::EVAL)
    }

    fn score(&self, batch: &CpuBatch, predictions: &Tensor, sums: &mut Sums) -> Result<(), TrainError> {
        let predictions: Vec<i64> = Vec::try_from(predictions.argmax(-1, false).to_device(Device::Cpu))
            .map_err(|source| TrainError::Torch {
                action: "reading predictions",
                source,
            })?;
        for (label, prediction) in batch.labels.iter().zip(predictions) {
            let place = *label as usize * self.num_classes + prediction as usize;
            sums.add_at(CONFUSION, place, 1.0);
        }
        Ok(())
    }

    fn finish(&self, sums: &Sums) -> ClassifyScore {
        let mut confusion = Confusion::new(self.num_classes);
        for (label, counts) in confusion.counts.iter_mut().enumerate() {
            for (prediction, count) in counts.iter_mut().enumerate() {
                *count = sums.at(CONFUSION, label * self.num_classes + prediction) as u64;
            }
        }
        ClassifyScore {
            accuracy: confusion.accuracy(),
            mean_class_accuracy: confusion.mean_class_accuracy(),
            confusion,
        }
    }

    fn scalars(score: &ClassifyScore) -> Scalars {
        Scalars::default()
            .with("accuracy", score.accuracy)
            .with("mean_class_accuracy", score.mean_class_accuracy)
    }

    fn files(score: &ClassifyScore, classes: &[String]) -> Result<Vec<(&'static str, Vec<u8>)>, TrainError> {
        Ok(vec![
            (CONFUSION_CSV, score.confusion.to_csv(classes).into_bytes()),
            (CONFUSION_PNG, confusion_image(&score.confusion).to_png()?),
        ])
    }
}

/// A square a label and prediction, rows by label: the darker, the more of the label's objects.
fn confusion_image(confusion: &Confusion) -> ImageGrid {
    let squares: Vec<Vec<Vec<u8>>> = confusion
        .counts
        .iter()
        .map(|row| {
            let total = row.iter().sum::<u64>().max(1) as f64;
            let gray = |count: &u64| (255.0 * (1.0 - *count as f64 / total)).round() as u8;
            row.iter()
                .map(|count| vec![gray(count); SQUARE_PX * SQUARE_PX])
                .collect()
        })
        .collect();
    let rows: Vec<Vec<&[u8]>> = squares
        .iter()
        .map(|row| row.iter().map(Vec::as_slice).collect())
        .collect();
    ImageGrid::grid(SQUARE_PX, &rows)
}
