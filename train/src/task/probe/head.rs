//! The classifiers that frozen features are probed with, each with one setting to choose.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, VariantNames};

use super::linear_svm::LinearSvm;
use super::logistic::LogisticRegression;
use super::mlp::mlp_classes;
use super::neighbors::nearest_classes;
use super::scaler::StandardScaler;
use super::svc::Svc;
use crate::error::TrainError;

/// Numbers of neighbors to choose from.
const NUM_NEIGHBORS: [f64; 5] = [1.0, 3.0, 5.0, 10.0, 20.0];
/// Learning rates to choose from.
const LEARNING_RATES: [f64; 2] = [3e-4, 1e-3];

/// A classifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Display, EnumString, VariantNames)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum HeadKind {
    /// One class against the rest, squared hinge: [`LinearSvm`].
    Svm,
    /// One class against one other, hinge, as papers report: [`Svc`]. The only one whose features are not standardized.
    Svc,
    /// [`LogisticRegression`].
    Logistic,
    /// Nearest neighbors: [`nearest_classes`].
    Knn,
    /// Three layers: [`mlp_classes`].
    Mlp3,
}

/// Training rows and how they are labeled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Labeled<'a> {
    pub(super) rows: &'a [Vec<f64>],
    pub(super) labels: &'a [usize],
    pub(super) num_classes: usize,
}

impl HeadKind {
    /// What its setting is called.
    #[must_use]
    pub fn setting_name(self) -> &'static str {
        match self {
            Self::Svm | Self::Svc | Self::Logistic => "C",
            Self::Knn => "k",
            Self::Mlp3 => "learning_rate",
        }
    }

    /// The values to choose from; `costs` where it is C.
    pub(super) fn settings(self, costs: &[f64]) -> Vec<f64> {
        match self {
            Self::Svm | Self::Svc | Self::Logistic => costs.to_vec(),
            Self::Knn => NUM_NEIGHBORS.to_vec(),
            Self::Mlp3 => LEARNING_RATES.to_vec(),
        }
    }

    /// The classes that it predicts for `rows`, trained on `train`.
    ///
    /// # Errors
    /// Where torch fails.
    pub(super) fn classes(
        self,
        setting: f64,
        train: Labeled<'_>,
        rows: &[Vec<f64>],
        seed: u64,
    ) -> Result<Vec<usize>, TrainError> {
        let Labeled {
            rows: train_rows,
            labels,
            num_classes,
        } = train;
        if self == Self::Svc {
            let svc = Svc::fit(train_rows, labels, num_classes, setting);
            return Ok(rows.par_iter().map(|row| svc.predict(row)).collect());
        }
        let scaler = StandardScaler::fit(train_rows);
        let (train_rows, rows) = (scaler.transform(train_rows), scaler.transform(rows));
        Ok(match self {
            Self::Svm | Self::Svc => {
                let svm = LinearSvm::fit(&train_rows, labels, num_classes, setting);
                rows.par_iter().map(|row| svm.predict(row)).collect()
            }
            Self::Logistic => {
                let fit = LogisticRegression::fit(&train_rows, labels, num_classes, setting);
                rows.par_iter().map(|row| fit.predict(row)).collect()
            }
            Self::Knn => nearest_classes(&train_rows, labels, num_classes, &rows, setting as usize),
            Self::Mlp3 => mlp_classes(&train_rows, labels, num_classes, &rows, setting, seed)?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::metric::Confusion;

    #[derive(Deserialize)]
    struct Expected {
        num_classes: usize,
        train: Vec<Vec<f64>>,
        train_labels: Vec<usize>,
        test: Vec<Vec<f64>>,
        test_labels: Vec<usize>,
        heads: Vec<ExpectedHead>,
    }

    #[derive(Deserialize)]
    struct ExpectedHead {
        head: HeadKind,
        setting: f64,
        predictions: Vec<usize>,
        balanced_accuracy: f64,
        confusion: Vec<Vec<u64>>,
    }

    /// What `train/tests/probe/make.py` wrote.
    fn expected() -> Expected {
        serde_json::from_str(include_str!("../../../tests/probe/expected.json")).unwrap()
    }

    #[test]
    fn classifiers_say_what_scikit_learn_says() {
        let expected = expected();
        let train = Labeled {
            rows: &expected.train,
            labels: &expected.train_labels,
            num_classes: expected.num_classes,
        };
        for of_head in &expected.heads {
            let ExpectedHead { head, setting, .. } = of_head;
            let classes = head.classes(*setting, train, &expected.test, 0).unwrap();
            assert_eq!(classes, of_head.predictions, "{head}, {setting}");
            let mut confusion = Confusion::new(expected.num_classes);
            for (&label, &class) in expected.test_labels.iter().zip(&classes) {
                confusion.add(label, class);
            }
            assert_eq!(confusion.counts, of_head.confusion, "{head}, {setting}");
            let balanced = confusion.mean_class_accuracy();
            assert!(
                (balanced - of_head.balanced_accuracy).abs() < 1e-12,
                "{head}: {balanced}"
            );
        }
    }

    #[test]
    fn three_layers_separate_what_lies_apart_and_are_the_same_by_seed() {
        let rows: Vec<Vec<f64>> = (0..60)
            .map(|row| vec![f64::from(row % 3), f64::from(row) / 60.0])
            .collect();
        let labels: Vec<usize> = (0..60).map(|row| row % 3).collect();
        let train = Labeled {
            rows: &rows,
            labels: &labels,
            num_classes: 3,
        };
        let classes = |seed| HeadKind::Mlp3.classes(1e-3, train, &rows, seed).unwrap();
        assert_eq!(classes(1), labels);
        assert_eq!(classes(1), classes(1));
    }
}
