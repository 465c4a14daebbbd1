//! Fine-tuning an encoder to name the part of every point (`docs/protocols.md`, "Part segmentation").
//!
//! A point is assigned the most likely of the parts of all classes, as published. Scores are of the points as predicted; where it
//! is asked for, also after the refinement by neighbors that published scores include.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use super::OpenData;
use super::finetune::{Scored, Task};
use super::vote::{VoteAverage, Votes};
use crate::config::{PartPlan, Plan, num_parts};
use crate::data::batch::{Batch, CpuBatch};
use crate::engine::objective::{Loss, Term};
use crate::error::TrainError;
use crate::metric::{PartScore, part_iou, refine_parts};
use crate::model::loss::{LabelWeights, poly1_focal_sum};
use crate::model::{LabelTensors, Mode, PartInput, Segmenter, SegmenterSizes, build_segmenter};
use crate::run::weights::EncoderWeights;
use crate::scalar::{Scalars, Sums};
use crate::weights::checkpoint::copy_weights;

/// The one term of the loss.
const FOCAL: &str = "focal";
/// Intersections over union of objects, as predicted and after the clean-up; correct points.
const PLAIN: &str = "plain";
const REFINED: &str = "refined";
const CORRECT: &str = "correct";

/// The result of a part segmentation.
pub type SegmentResult = Scored<SegmentScores>;

/// The fields of a result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SegmentScores {
    /// The scores.
    pub score: SegmentScore,
}

/// Scores of one evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SegmentScore {
    /// Before refinement.
    pub plain: PartScore,
    /// After refinement by neighbors; absent unless asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refined: Option<PartScore>,
    /// Accuracy over all points before refinement, 0 to 1.
    pub point_accuracy: f64,
}

/// An encoder with a decoder to the points.
#[derive(Debug)]
pub struct Segment {
    segmenter: Box<dyn Segmenter>,
    num_parts: i64,
    /// The parts of each class.
    by_class: Vec<Vec<u8>>,
    refines: bool,
    part_weights: LabelWeights,
}

fn parts(plan: &Plan) -> Result<&PartPlan, TrainError> {
    plan.parts.as_ref().ok_or_else(|| TrainError::Config {
        reason: String::from("the plan names no parts, and part segmentation needs them"),
    })
}

impl Segment {
    /// The network of a plan with fresh weights.
    pub(super) fn of_plan(plan: &Plan, store: &VarStore) -> Result<Self, TrainError> {
        let by_class = parts(plan)?.by_class.clone();
        let sizes = SegmenterSizes {
            num_classes: by_class.len() as i64,
            num_parts: num_parts(&by_class) as i64,
            dropout: plan.head.dropout,
        };
        Ok(Self {
            segmenter: build_segmenter(&plan.encoder, &(store.root() / "segmentor"), &sizes),
            num_parts: sizes.num_parts,
            by_class,
            refines: parts(plan)?.refines,
            part_weights: LabelWeights::new(&plan.phase.class_weights, store.device()),
        })
    }

    /// # Shapes
    /// - returns [B, N, parts]
    fn log_probabilities(&self, batch: &Batch, mode: Mode) -> Tensor {
        let normals = batch.normals.as_ref();
        let input = PartInput {
            cloud: &batch.cloud,
            normals: normals.expect("batches of segmentation have normals"),
            class: &batch.labels,
        };
        self.segmenter.log_probabilities(&input, mode)
    }
}

/// The place of each part in outputs whose classes are in another order: class i has the place `order[i]` among them.
fn part_order(by_class: &[Vec<u8>], order: &[i64]) -> Vec<i64> {
    let mut there: Vec<usize> = (0..by_class.len()).collect();
    there.sort_by_key(|&class| order[class]);
    let mut places = vec![0; num_parts(by_class)];
    for (place, &part) in there.iter().flat_map(|&class| &by_class[class]).enumerate() {
        places[usize::from(part)] = place as i64;
    }
    places
}

/// # Shapes
/// - returns [B, N]
fn part_labels(batch: &Batch) -> &Tensor {
    let labels = batch.part_labels.as_ref();
    labels.expect("batches of segmentation have part labels")
}

impl Loss for Segment {
    fn normalizer(&self, batch: &Batch) -> Sums {
        let of_points = self.part_weights.sum(part_labels(batch));
        Sums::default().with(FOCAL, &[of_points * self.num_parts as f64])
    }

    fn terms(&self, batch: &Batch, mode: Mode) -> Vec<Term> {
        let log_probabilities = self.log_probabilities(batch, mode);
        let sum = poly1_focal_sum(&log_probabilities, part_labels(batch), &self.part_weights);
        vec![Term::new(FOCAL, 1.0, sum)]
    }
}

impl Task for Segment {
    type Score = SegmentScores;

    const NAME: &'static str = "segment";
    const RECORD_KIND: &'static str = "segmentation";
    const EVALUATION_BATCH: usize = 16;
    const VOTES_AVERAGE: Option<VoteAverage> = Some(VoteAverage::Logits);
    const PREDICTIONS: &'static str = "log-probabilities";
    const SELECTED_BY: &'static str = "instance_miou";
    const ENCODER_PREFIX: &'static str = "segmentor.";

    fn build(plan: &Plan, _data: &OpenData, store: &VarStore) -> Result<Self, TrainError> {
        Self::of_plan(plan, store)
    }

    /// Parts are numbered class by class, here and there.
    fn order_classes(
        plan: &Plan,
        tensors: &mut BTreeMap<String, Tensor>,
        order: &[i64],
    ) -> Result<(), TrainError> {
        let label_tensors = LabelTensors::of(&plan.encoder);
        let mut reorder = |name: &str, axis: i64, order: &[i64]| {
            if let Some(tensor) = tensors.get_mut(&format!("{}{name}", Self::ENCODER_PREFIX)) {
                *tensor = tensor.index_select(axis, &Tensor::from_slice(order));
            }
        };
        reorder(label_tensors.class, 1, order);
        let parts = part_order(&parts(plan)?.by_class, order);
        for name in label_tensors.parts {
            reorder(name, 0, &parts);
        }
        Ok(())
    }

    /// Loads all tensors that the segmenter has under the same name and shape.
    fn load_encoder(store: &VarStore, encoder: &EncoderWeights) -> Result<String, TrainError> {
        let report = copy_weights(store, &encoder.tensors, Self::ENCODER_PREFIX);
        if report.num_copied == 0 {
            return Err(TrainError::Weights {
                report: report.to_string(),
                path: encoder.file.clone(),
            });
        }
        Ok(format!(
            "{} tensors fit, {} of the decoder start at random{}{}",
            report.num_copied,
            report.missing.len(),
            listed("of another shape, at random as well", &report.differing),
            listed("of the file without use", &report.unexpected),
        ))
    }

    fn check(plan: &Plan, data: &OpenData, _votes: Votes) -> Result<(), TrainError> {
        if data.parts_by_class() == parts(plan)?.by_class {
            return Ok(());
        }
        Err(TrainError::UnsuitableData {
            reason: String::from("the run was trained on other parts"),
            path: data.path.clone(),
        })
    }

    /// Logarithms of the probabilities of the parts, [B, N, parts].
    fn predict(&self, batch: &Batch) -> Tensor {
        self.log_probabilities(batch, Mode::EVAL)
    }

    fn score(&self, batch: &CpuBatch, predictions: &Tensor, sums: &mut Sums) -> Result<(), TrainError> {
        let predicted = predictions
            .argmax(-1, false)
            .to_kind(Kind::Uint8)
            .to_device(Device::Cpu);
        let mut predictions = vec![0_u8; predicted.numel()];
        let len = predictions.len();
        predicted.contiguous().view(-1).copy_data(&mut predictions, len);
        let (points, rest) = batch.points.as_chunks::<3>();
        debug_assert!(rest.is_empty(), "three coordinates a point");
        let objects = predictions
            .chunks_exact_mut(batch.num_points)
            .zip(points.chunks_exact(batch.num_points))
            .zip(batch.part_labels.chunks_exact(batch.num_points))
            .zip(&batch.labels);
        for (((prediction, points), truth), &class) in objects {
            let class = class as usize;
            let parts = &self.by_class[class];
            let truth: Vec<u8> = truth.iter().map(|&part| part as u8).collect();
            let num_correct = prediction.iter().zip(&truth).filter(|(a, b)| a == b).count();
            sums.add(CORRECT, &[num_correct as f64, truth.len() as f64]);
            PartScore::add(sums, PLAIN, class, part_iou(prediction, &truth, parts));
            if !self.refines {
                continue;
            }
            refine_parts(prediction, points, parts);
            PartScore::add(sums, REFINED, class, part_iou(prediction, &truth, parts));
        }
        Ok(())
    }

    fn finish(&self, sums: &Sums) -> SegmentScores {
        let num_classes = self.by_class.len();
        let score = SegmentScore {
            plain: PartScore::finish(sums, PLAIN, num_classes),
            refined: self
                .refines
                .then(|| PartScore::finish(sums, REFINED, num_classes)),
            point_accuracy: sums.mean(CORRECT),
        };
        SegmentScores { score }
    }

    fn scalars(SegmentScores { score }: &SegmentScores) -> Scalars {
        Scalars::default()
            .with("instance_miou", score.plain.instance_miou)
            .with("class_miou", score.plain.class_miou)
            .with("point_accuracy", score.point_accuracy)
    }
}

/// ", 2 what (a, b)", or nothing.
fn listed(what: &str, names: &[String]) -> String {
    if names.is_empty() {
        String::new()
    } else {
        format!(", {} {what} ({})", names.len(), names.join(", "))
    }
}
