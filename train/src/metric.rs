//! Scores and what may be said about them: confusion matrices, means with deviations, paired differences.

use serde::{Deserialize, Serialize};

/// How many samples of each class were taken for which.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confusion {
    /// `counts[label][prediction]`.
    pub counts: Vec<Vec<u64>>,
}

impl Confusion {
    /// An empty matrix.
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

    /// Samples counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().flatten().sum()
    }

    /// The part that is right, 0 to 1.
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

    /// The mean over the classes that occur of the part that is right, 0 to 1.
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

/// Two arms measured under the same seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Paired {
    /// Mean of (second - first).
    pub mean: f64,
    /// Sample deviation of the differences over the square root of their number.
    pub standard_error: f64,
    /// A difference is only shown where the mean is at least two standard errors from zero, over two pairs or more.
    pub is_shown: bool,
}

impl Paired {
    /// The differences `second - first`, pair by pair.
    #[must_use]
    pub fn of(first: &[f64], second: &[f64]) -> Self {
        let differences: Vec<f64> = first.iter().zip(second).map(|(a, b)| b - a).collect();
        let mean = mean(&differences);
        let standard_error = sample_deviation(&differences) / (differences.len().max(1) as f64).sqrt();
        // One pair has no deviation to speak of, so it can show nothing.
        let is_shown = differences.len() >= 2 && mean.abs() >= 2.0 * standard_error && mean != 0.0;
        Self {
            mean,
            standard_error,
            is_shown,
        }
    }

    /// What may be claimed, in words; values are parts of one and are printed as points.
    #[must_use]
    pub fn verdict(&self, second: &str) -> String {
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
        assert!(!Paired::of(&[0.4], &[0.9]).is_shown, "one pair shows nothing");
    }

    #[test]
    fn deviation_divides_by_n_minus_one() {
        let summary = Summary::of(&[1.0, 2.0, 3.0]);
        assert!((summary.std - 1.0).abs() < 1e-12, "{summary:?}");
    }
}
