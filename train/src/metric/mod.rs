//! Scores and their statistics: confusion matrices, means and deviations, paired differences.

mod retrieval;

use serde::{Deserialize, Serialize};

use crate::csv;
use crate::scalar::Sums;

pub use retrieval::{RetrievalMeans, RetrievalScore};

/// A confusion matrix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confusion {
    /// `counts[label][prediction]`.
    pub counts: Vec<Vec<u64>>,
}

impl Confusion {
    /// A matrix of zeros.
    #[must_use]
    pub fn new(num_classes: usize) -> Self {
        Self {
            counts: vec![vec![0; num_classes]; num_classes],
        }
    }

    /// Counts one sample; labels out of range are not counted.
    pub fn add(&mut self, label: usize, prediction: usize) {
        if let Some(count) = self.counts.get_mut(label).and_then(|row| row.get_mut(prediction)) {
            *count += 1;
        }
    }

    /// Adds another matrix of the same size.
    pub fn merge(&mut self, other: &Self) {
        for (row, other_row) in self.counts.iter_mut().zip(&other.counts) {
            for (count, other_count) in row.iter_mut().zip(other_row) {
                *count += other_count;
            }
        }
    }

    /// As CSV: a column a prediction, a row a label, with names.
    #[must_use]
    pub fn to_csv(&self, classes: &[String]) -> String {
        let names: Vec<String> = classes.iter().map(|name| csv::cell(name)).collect();
        let mut lines = vec![format!("label\\prediction,{}\n", names.join(","))];
        lines.extend(names.iter().zip(&self.counts).map(|(name, row)| {
            let counts: Vec<String> = row.iter().map(u64::to_string).collect();
            format!("{name},{}\n", counts.join(","))
        }));
        lines.concat()
    }

    /// Samples counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().flatten().sum()
    }

    /// Accuracy, 0 to 1.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        let right: u64 = self
            .counts
            .iter()
            .enumerate()
            .map(|(label, row)| row[label])
            .sum();
        right as f64 / self.total().max(1) as f64
    }

    /// Mean over the classes that occur of the class accuracies, 0 to 1.
    #[must_use]
    pub fn mean_class_accuracy(&self) -> f64 {
        let scores: Vec<f64> = self
            .counts
            .iter()
            .enumerate()
            .filter(|(_, row)| row.iter().sum::<u64>() > 0)
            .map(|(label, row)| row[label] as f64 / row.iter().sum::<u64>() as f64)
            .collect();
        mean(&scores)
    }
}

/// Mean intersection over union of the parts of one object, 0 to 1. A part that neither names counts as 1.
#[must_use]
pub fn part_iou(prediction: &[u8], truth: &[u8], parts: &[u8]) -> f64 {
    let of_part = |part: u8| {
        let (mut both, mut either) = (0_u32, 0_u32);
        for (&predicted, &true_part) in prediction.iter().zip(truth) {
            both += u32::from(predicted == part && true_part == part);
            either += u32::from(predicted == part || true_part == part);
        }
        if either == 0 {
            1.0
        } else {
            f64::from(both) / f64::from(either)
        }
    };
    mean(&parts.iter().map(|&part| of_part(part)).collect::<Vec<_>>())
}

/// Scores of part segmentation over many objects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartScore {
    /// Mean over objects of [`part_iou`].
    pub instance_miou: f64,
    /// Mean over the classes that occur of the mean over their objects.
    pub class_miou: f64,
    /// Mean over the objects of each class; none where there is no object.
    pub by_class: Vec<Option<f64>>,
}

impl PartScore {
    /// Adds the IoU of an object of `class` to the sums `name`.
    pub fn add(sums: &mut Sums, name: &str, class: usize, iou: f64) {
        // Sum and count, of all objects and then of each class.
        for place in [0, 2 + 2 * class] {
            sums.add_at(name, place, iou);
            sums.add_at(name, place + 1, 1.0);
        }
    }

    /// What such sums come to.
    #[must_use]
    pub fn finish(sums: &Sums, name: &str, num_classes: usize) -> Self {
        let mean_at = |place| {
            let count = sums.at(name, place + 1);
            (count > 0.0).then(|| sums.at(name, place) / count)
        };
        let by_class: Vec<Option<f64>> = (0..num_classes).map(|class| mean_at(2 + 2 * class)).collect();
        Self {
            instance_miou: mean_at(0).unwrap_or(0.0),
            class_miou: mean(&by_class.iter().copied().flatten().collect::<Vec<_>>()),
            by_class,
        }
    }
}

/// Points of one label below which it is taken for noise.
const MIN_POINTS_OF_LABEL: usize = 10;
/// Points that vote on a doubtful one, itself among them.
const NUM_VOTERS: usize = 11;

/// The clean-up that published part scores are measured behind (`docs/protocols.md`, "Clean-up by neighbors"): where
/// more than one label is predicted, points of a label that is no part of the class, or that has fewer than ten points,
/// take the majority of their eleven nearest points, that label left out. A point whose voters all have it keeps it.
pub fn refine_parts(prediction: &mut [u8], points: &[[f32; 3]], parts: &[u8]) {
    let mut labels = prediction.to_vec();
    labels.sort_unstable();
    labels.dedup();
    if labels.len() < 2 {
        return;
    }
    for label in labels {
        let doubtful: Vec<usize> = (0..prediction.len())
            .filter(|&i| prediction[i] == label)
            .collect();
        if parts.contains(&label) && doubtful.len() >= MIN_POINTS_OF_LABEL {
            continue;
        }
        for point_idx in doubtful {
            let from = points[point_idx];
            let squared = |to: &[f32; 3]| from.iter().zip(to).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
            let mut nearest: Vec<(f32, usize)> = points.iter().map(squared).zip(0..).collect();
            let num_voters = NUM_VOTERS.min(nearest.len());
            nearest.select_nth_unstable_by(num_voters - 1, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            let mut votes = [0_u32; 256];
            for &(_, voter) in &nearest[..num_voters] {
                if prediction[voter] != label {
                    votes[usize::from(prediction[voter])] += 1;
                }
            }
            let most = votes.iter().copied().max().unwrap_or(0);
            if most > 0
                && let Some(winner) = votes.iter().position(|&count| count == most)
            {
                prediction[point_idx] = winner as u8;
            }
        }
    }
}

/// A mean and how far single values lie from it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The mean.
    pub mean: f64,
    /// The sample standard deviation (n - 1); 0 for one value.
    pub std: f64,
    /// How many values.
    pub count: usize,
}

impl Summary {
    /// Of these values.
    #[must_use]
    pub fn of(values: &[f64]) -> Self {
        Self {
            mean: mean(values),
            std: sample_deviation(values),
            count: values.len(),
        }
    }
}

/// Below so many pairs two standard errors say nothing: with two pairs chance alone passes that bar in three comparisons
/// of ten, with five in one of nine.
pub const MIN_PAIRS: usize = 5;

/// Two arms measured under the same seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Paired {
    /// Mean of (second - first).
    pub mean: f64,
    /// Sample deviation of the differences over the square root of their number.
    pub standard_error: f64,
    /// A difference is only shown where the mean is at least two standard errors from zero, over [`MIN_PAIRS`] or more.
    pub is_shown: bool,
    /// Pairs.
    pub count: usize,
}

impl Paired {
    /// The differences `second - first`, pair by pair.
    #[must_use]
    pub fn of(first: &[f64], second: &[f64]) -> Self {
        let differences: Vec<f64> = first.iter().zip(second).map(|(a, b)| b - a).collect();
        let mean = mean(&differences);
        let standard_error = sample_deviation(&differences) / (differences.len().max(1) as f64).sqrt();
        let count = differences.len();
        Self {
            mean,
            standard_error,
            is_shown: count >= MIN_PAIRS && mean.abs() >= 2.0 * standard_error && mean != 0.0,
            count,
        }
    }

    /// The conclusion as text; values are fractions and printed in percentage points.
    #[must_use]
    pub fn verdict(&self, second: &str) -> String {
        if self.count < MIN_PAIRS {
            return format!("too few pairs to tell ({} of at least {MIN_PAIRS})", self.count);
        }
        if !self.is_shown {
            return String::from("no difference shown");
        }
        let word = if self.mean > 0.0 { "better" } else { "worse" };
        format!(
            "{second} {word} by {:.1} points (standard error {:.1})",
            100.0 * self.mean.abs(),
            100.0 * self.standard_error
        )
    }
}

/// The fraction of predictions that are their label.
#[must_use]
pub fn accuracy(predictions: &[usize], labels: &[usize]) -> f64 {
    let right = predictions.iter().zip(labels).filter(|(a, b)| a == b).count();
    right as f64 / labels.len().max(1) as f64
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn sample_deviation(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let mean = mean(values);
    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accuracies_of_a_small_matrix() {
        let mut confusion = Confusion::new(3);
        for (label, prediction) in [(0, 0), (0, 0), (0, 1), (1, 1)] {
            confusion.add(label, prediction);
        }
        assert!((confusion.accuracy() - 0.75).abs() < 1e-12, "three of four");
        assert!(
            (confusion.mean_class_accuracy() - 5.0 / 6.0).abs() < 1e-12,
            "a class without samples does not count"
        );
    }

    #[test]
    fn a_matrix_is_a_table_with_names() {
        let confusion = Confusion {
            counts: vec![vec![3, 1], vec![0, 2]],
        };
        let csv = confusion.to_csv(&[String::from("chair"), String::from("lamp, tall")]);
        assert_eq!(
            csv,
            "label\\prediction,chair,\"lamp, tall\"\nchair,3,1\n\"lamp, tall\",0,2\n"
        );
    }

    #[test]
    fn a_difference_needs_two_standard_errors() {
        let scratch = [0.42, 0.48, 0.40, 0.46, 0.45];
        let shown = Paired::of(&scratch, &[0.526, 0.517, 0.497, 0.512, 0.563]);
        assert!(shown.is_shown, "{shown:?}");
        assert!(
            shown.verdict("tap").starts_with("tap better by 8."),
            "{}",
            shown.verdict("tap")
        );
        let noise = Paired::of(&scratch, &[0.46, 0.43, 0.44, 0.42, 0.47]);
        assert_eq!(noise.verdict("tap"), "no difference shown", "{noise:?}");
        for count in 1..MIN_PAIRS {
            let few = Paired::of(&scratch[..count], &[0.9, 0.91, 0.92, 0.93][..count]);
            assert!(!few.is_shown, "{few:?}");
            assert!(few.verdict("tap").starts_with("too few pairs"), "{few:?}");
        }
    }

    #[test]
    fn deviation_divides_by_n_minus_one() {
        let summary = Summary::of(&[1.0, 2.0, 3.0]);
        assert!((summary.std - 1.0).abs() < 1e-12, "{summary:?}");
    }

    #[test]
    fn absent_parts_count_as_found_and_classes_weigh_the_same() {
        // Part 2 is in neither; part 0 has 1 of 2, part 1 has 2 of 3.
        let iou = part_iou(&[0, 1, 1, 1], &[0, 0, 1, 1], &[0, 1, 2]);
        assert!((iou - (0.5 + 2.0 / 3.0 + 1.0) / 3.0).abs() < 1e-12, "{iou}");
        let mut sums = Sums::default();
        for (class, iou) in [(0, 1.0), (0, 0.5), (2, 0.0)] {
            PartScore::add(&mut sums, "iou", class, iou);
        }
        let score = PartScore::finish(&sums, "iou", 4);
        assert!((score.instance_miou - 0.5).abs() < 1e-12, "{score:?}");
        assert!((score.class_miou - 0.375).abs() < 1e-12, "{score:?}");
        assert_eq!(
            score.by_class,
            [Some(0.75), None, Some(0.0), None],
            "absent classes do not count"
        );
    }

    #[test]
    fn stray_labels_take_the_majority_around_them() {
        let points: Vec<[f32; 3]> = (0..40).map(|i| [i as f32, 0.0, 0.0]).collect();
        let mut prediction: Vec<u8> = (0..40).map(|i| u8::from(i >= 14)).collect();
        // One point of a part of the class, and fifteen of another class's part.
        prediction[3] = 2;
        prediction[25..40].fill(7);
        refine_parts(&mut prediction, &points, &[0, 1, 2]);
        assert_eq!(prediction[3], 0, "too few to be a part");
        assert_eq!(prediction[25..27], [1, 1], "no part of the class");
        assert_eq!(prediction[13..15], [0, 1], "the border between two parts stays");
        let mut alone = vec![7; 40];
        refine_parts(&mut alone, &points, &[0, 1]);
        assert_eq!(alone, [7; 40], "one label alone is left");
    }
}
