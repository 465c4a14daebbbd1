//! How a score falls when clouds are rotated, jittered, occluded, thinned out or mixed with noise, by growing strength
//! (`docs/protocols.md`, "Robustness").
//!
//! A row's stored points are disturbed before anything else, so that sampling and normalization see what a sensor would give.
//! Every draw is a function of seed, disturbance, strength and object.

use std::f64::consts::TAU;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, VariantNames};
use tap_dataset::{ObjectId, Sample, ViewSelection};

use super::finetune::{Scored, Scoring, Task, build, measure};
use super::provenance::{FinetunedRun, Provenance, rows_sha256};
use super::vote::Votes;
use crate::config::invalid;
use crate::data::source::SampleSource;
use crate::engine::trainer::RunOptions;
use crate::error::TrainError;
use crate::run::event::{OnEvent, TrainEvent};
use crate::run::weights::WeightChoice;
use crate::seed::Stream;

/// What is done to a cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Display, EnumString, VariantNames)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Corruption {
    /// A rotation about the vertical axis, either way; the strength is the angle in degrees.
    RotationY,
    /// A rotation about a random axis; the strength is the angle in degrees.
    Rotation,
    /// Normal noise on every coordinate; the strength is its standard deviation, in radii of the cloud.
    Jitter,
    /// Points on one side, in a random direction, are missing; the strength is their fraction.
    Occlusion,
    /// Random points are missing; the strength is their fraction.
    Dropout,
    /// Random points are replaced by uniform ones in the unit ball; the strength is their fraction.
    Noise,
}

impl Corruption {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::RotationY,
        Self::Rotation,
        Self::Jitter,
        Self::Occlusion,
        Self::Dropout,
        Self::Noise,
    ];

    /// Growing strengths.
    #[must_use]
    pub fn strengths(self) -> [f64; 5] {
        match self {
            Self::RotationY | Self::Rotation => [15.0, 30.0, 60.0, 90.0, 180.0],
            Self::Jitter => [0.01, 0.02, 0.03, 0.05, 0.1],
            Self::Occlusion => [0.1, 0.2, 0.3, 0.4, 0.5],
            Self::Dropout => [0.2, 0.4, 0.6, 0.8, 0.9],
            Self::Noise => [0.01, 0.02, 0.05, 0.1, 0.2],
        }
    }

    /// What strengths are in.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::RotationY | Self::Rotation => "degrees",
            Self::Jitter => "radii",
            Self::Occlusion | Self::Dropout | Self::Noise => "of the points",
        }
    }

    /// Disturbs a cloud with normals and part labels. Where points are missing, the others are repeated in order, so that a row
    /// keeps its length.
    fn apply(self, strength: f64, sample: &mut Sample, stream: &mut Stream) {
        let num_points = sample.points.len();
        match self {
            Self::RotationY => {
                let sign = if stream.unit() < 0.5 { -1.0 } else { 1.0 };
                rotate(sample, [0.0, 1.0, 0.0], sign * strength.to_radians());
            }
            Self::Rotation => rotate(sample, direction(stream), strength.to_radians()),
            Self::Jitter => {
                for coordinate in sample.points.iter_mut().flatten() {
                    *coordinate += (strength * stream.normal()) as f32;
                }
            }
            Self::Occlusion => {
                let toward = direction(stream);
                let depth = |point: &[f32; 3]| -> f64 {
                    point
                        .iter()
                        .zip(toward)
                        .map(|(x, axis)| f64::from(*x) * axis)
                        .sum()
                };
                let mut order: Vec<usize> = (0..num_points).collect();
                order.sort_by(|&a, &b| depth(&sample.points[a]).total_cmp(&depth(&sample.points[b])));
                order.truncate(num_kept(num_points, strength));
                order.sort_unstable();
                keep(sample, &order);
            }
            Self::Dropout => {
                let mut kept = stream.choose(num_points, num_kept(num_points, strength));
                kept.sort_unstable();
                keep(sample, &kept);
            }
            Self::Noise => {
                let num_replaced = num_points - num_kept(num_points, strength);
                for point in stream.choose(num_points, num_replaced) {
                    let radius = stream.unit().cbrt();
                    sample.points[point] = direction(stream).map(|axis| (radius * axis) as f32);
                }
            }
        }
    }
}

/// At least one.
fn num_kept(num_points: usize, missing: f64) -> usize {
    ((1.0 - missing) * num_points as f64).round().max(1.0) as usize
}

/// A uniform unit vector.
fn direction(stream: &mut Stream) -> [f64; 3] {
    let z = stream.uniform(-1.0, 1.0);
    let (sin, cos) = stream.uniform(0.0, TAU).sin_cos();
    let radius = (1.0 - z * z).sqrt();
    [radius * cos, radius * sin, z]
}

/// Rotates points and normals about an axis (Rodrigues).
fn rotate(sample: &mut Sample, axis: [f64; 3], angle_rad: f64) {
    let (sin, cos) = angle_rad.sin_cos();
    let turn = |vector: &mut [f32; 3]| {
        let v = vector.map(f64::from);
        let along: f64 = axis.iter().zip(v).map(|(a, x)| a * x).sum();
        let cross = [
            axis[1] * v[2] - axis[2] * v[1],
            axis[2] * v[0] - axis[0] * v[2],
            axis[0] * v[1] - axis[1] * v[0],
        ];
        *vector = [0, 1, 2].map(|i| (v[i] * cos + cross[i] * sin + axis[i] * along * (1.0 - cos)) as f32);
    };
    sample.points.iter_mut().for_each(turn);
    sample.normals.iter_mut().flatten().for_each(turn);
}

/// Keeps these points, repeated up to the length that there was.
fn keep(sample: &mut Sample, kept: &[usize]) {
    let places: Vec<usize> = kept.iter().copied().cycle().take(sample.points.len()).collect();
    sample.points = places.iter().map(|&place| sample.points[place]).collect();
    if let Some(normals) = &mut sample.normals {
        *normals = places.iter().map(|&place| normals[place]).collect();
    }
    if let Some(labels) = &mut sample.part_labels {
        *labels = places.iter().map(|&place| labels[place]).collect();
    }
}

/// Rows whose points are disturbed.
struct CorruptedSource {
    rows: Arc<dyn SampleSource>,
    corruption: Corruption,
    strength: f64,
    seed: u64,
}

impl SampleSource for CorruptedSource {
    fn ids(&self) -> &[ObjectId] {
        self.rows.ids()
    }

    fn labels(&self) -> &[i64] {
        self.rows.labels()
    }

    fn num_views(&self) -> usize {
        self.rows.num_views()
    }

    fn image_size_px(&self) -> u32 {
        self.rows.image_size_px()
    }

    fn read(&self, row: usize, views: ViewSelection<'_>) -> Result<Sample, TrainError> {
        let mut sample = self.rows.read(row, views)?;
        let purpose = format!("{} {}", self.corruption, self.strength);
        let mut stream = Stream::new(self.seed, &purpose, 0, sample.id.as_str());
        self.corruption.apply(self.strength, &mut sample, &mut stream);
        Ok(sample)
    }
}

/// The score under one disturbance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CorruptedScore {
    /// What was done.
    pub corruption: Corruption,
    /// How much.
    pub strength: f64,
    /// What that is in.
    pub unit: String,
    /// The score, 0 to 1.
    pub score: f64,
}

/// All scores.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RobustnessScores {
    /// What is measured: accuracy, or the mean IoU over objects.
    pub measure: String,
    /// Seed of what is drawn.
    pub corruption_seed: u64,
    /// The score of the rows as they are.
    pub clean: f64,
    /// The others, by disturbance and strength.
    pub corrupted: Vec<CorruptedScore>,
}

/// Scores with their provenance.
pub type RobustnessResult = Scored<RobustnessScores>;

/// Scores weights of a run on the rows as they are, and with each disturbance in each strength.
///
/// # Errors
/// As for [`evaluate`](super::finetune::evaluate).
pub fn robustness<T: Task>(
    options: &RunOptions,
    scoring: Scoring<'_>,
    corruptions: &[Corruption],
    seed: u64,
    weights: &WeightChoice,
    on_event: OnEvent<'_>,
) -> Result<RobustnessResult, TrainError> {
    let votes = Votes::default();
    let run = FinetunedRun::open(options, scoring.filter, weights, on_event)?;
    let FinetunedRun { plan, data, .. } = &run;
    T::check(plan, data, votes)?;
    let (store, task) = build::<T>(plan, data, options.device)?;
    run.load(&store)?;
    let rows: Arc<dyn SampleSource> = Arc::new(data.rows(scoring.split)?);
    let score_of = |rows: &Arc<dyn SampleSource>| {
        let score = measure(&task, plan, rows, votes, options)?;
        T::scalars(&score)
            .get(T::SELECTED_BY)
            .ok_or_else(|| invalid(format!("the task has no score '{}'", T::SELECTED_BY)))
    };
    let clean = score_of(&rows)?;
    let mut corrupted = Vec::new();
    for &corruption in corruptions {
        for strength in corruption.strengths() {
            let source: Arc<dyn SampleSource> = Arc::new(CorruptedSource {
                rows: Arc::clone(&rows),
                corruption,
                strength,
                seed,
            });
            let score = score_of(&source)?;
            on_event(TrainEvent::Note(format!(
                "{corruption} {strength} {}: {:.1} %",
                corruption.unit(),
                100.0 * score
            )));
            corrupted.push(CorruptedScore {
                corruption,
                strength,
                unit: corruption.unit().to_owned(),
                score,
            });
        }
    }
    Ok(Scored {
        provenance: Provenance {
            rows_sha256: rows_sha256(rows.as_ref()),
            ..run.provenance(options, scoring.split, votes)
        },
        score: RobustnessScores {
            measure: T::SELECTED_BY.to_owned(),
            corruption_seed: seed,
            clean,
            corrupted,
        },
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::f64::consts::PI;

    use super::*;

    /// Points on a circle about y, numbered by their part labels.
    fn sample() -> Sample {
        let point = |i: u8| {
            let (sin, cos) = (PI * f64::from(i) / 20.0).sin_cos();
            [cos as f32, 0.0, sin as f32]
        };
        Sample {
            id: ObjectId::try_new("ring", "0").unwrap(),
            category: String::from("ring"),
            label: 0,
            points: (0..40).map(point).collect(),
            normals: Some((0..40).map(point).collect()),
            part_labels: Some((0..40).collect()),
            views: Vec::new(),
            coverage_min: None,
            object_from_mesh: [0.0; 16],
            source_sha256: String::new(),
            assets_sha256: None,
            mesh: None,
        }
    }

    fn corrupted(corruption: Corruption, strength: f64, seed: u64) -> Sample {
        let mut sample = sample();
        corruption.apply(strength, &mut sample, &mut Stream::new(seed, "test", 0, "a"));
        sample
    }

    fn distances(a: &[[f32; 3]], b: &[[f32; 3]]) -> Vec<f32> {
        let distance = |(a, b): (&[f32; 3], &[f32; 3])| {
            a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt()
        };
        a.iter().zip(b).map(distance).collect()
    }

    #[test]
    fn rotations_keep_lengths_and_turn_normals_along() {
        let before = sample();
        for corruption in [Corruption::RotationY, Corruption::Rotation] {
            let turned = corrupted(corruption, 60.0, 1);
            assert_eq!(Some(&turned.points), turned.normals.as_ref(), "{corruption}");
            for point in &turned.points {
                assert!(
                    (point.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5,
                    "{corruption}"
                );
            }
            assert_eq!(turned, corrupted(corruption, 60.0, 1), "by seed");
        }
        // A chord of 60 degrees on the unit circle is 1.
        for distance in distances(&before.points, &corrupted(Corruption::RotationY, 60.0, 1).points) {
            assert!((distance - 1.0).abs() < 1e-5, "{distance}");
        }
    }

    #[test]
    fn missing_points_are_on_one_side_or_anywhere_and_labels_follow() {
        let occluded = corrupted(Corruption::Occlusion, 0.5, 1);
        let labels = occluded.part_labels.clone().unwrap();
        assert_eq!(occluded.points.len(), 40, "as long as before");
        assert_eq!(labels[..20], labels[20..], "what is left is repeated");
        let mut left = labels[..20].to_vec();
        left.sort_unstable();
        let gaps = left.windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
        assert!(gaps <= 1, "one arc is left: {left:?}");
        let dropped = corrupted(Corruption::Dropout, 0.75, 1);
        let mut left = dropped.part_labels.unwrap();
        left.sort_unstable();
        left.dedup();
        assert_eq!(left.len(), 10);
        for (point, label) in dropped.points[..10].iter().zip(&left) {
            assert!(sample().points.contains(point), "{label}");
        }
    }

    #[test]
    fn jitter_and_noise_have_the_strength_that_is_said() {
        let before = sample();
        let moved = distances(&before.points, &corrupted(Corruption::Jitter, 0.01, 1).points);
        let mean = moved.iter().sum::<f32>() / 40.0;
        // The mean length of a normal vector in space is sigma sqrt(8 / pi).
        assert!((0.012..0.020).contains(&mean), "{mean}");
        let noisy = corrupted(Corruption::Noise, 0.2, 1);
        let num_moved = distances(&before.points, &noisy.points)
            .iter()
            .filter(|moved| **moved > 0.0)
            .count();
        assert_eq!(num_moved, 8);
        assert!(
            noisy
                .points
                .iter()
                .all(|p| p.iter().map(|x| x * x).sum::<f32>() < 1.001)
        );
    }
}
