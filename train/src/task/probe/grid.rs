//! A table of poolings and settings of classifiers, the best of which is chosen by cross-validation on the training rows.
//!
//! The evaluation split is scored for every cell and chooses none.

use serde::{Deserialize, Serialize};

use super::head::{HeadKind, Labeled};
use crate::error::TrainError;
use crate::metric::{Summary, accuracy};
use crate::seed::Stream;
use crate::task::embedding::{Embeddings, Pooling};

/// What a table has.
#[derive(Debug, Clone, PartialEq)]
pub struct GridOptions {
    /// Its classifiers.
    pub heads: Vec<HeadKind>,
    /// Its poolings.
    pub poolings: Vec<Pooling>,
    /// Values of C; given one alone, nothing is chosen.
    pub costs: Vec<f64>,
    /// Folds of the cross-validation.
    pub num_folds: usize,
}

impl GridOptions {
    /// How a cell is chosen, in words.
    #[must_use]
    pub fn selection(&self) -> String {
        format!(
            "best mean accuracy over {} folds of the training rows",
            self.num_folds
        )
    }
}

/// One cell of the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GridScore {
    /// The classifier.
    pub head: HeadKind,
    /// The pooling.
    pub pooling: Pooling,
    /// What `setting` is: "C", "k" or "`learning_rate`".
    pub setting_name: String,
    /// Its value.
    pub setting: f64,
    /// Accuracy over the folds of the training rows, 0 to 1.
    pub cross_validation: Summary,
    /// Accuracy on the evaluation split, trained on all training rows, 0 to 1.
    pub accuracy: f64,
    /// Whether it is the cell of its classifier with the best cross-validation; the first of several.
    pub is_chosen: bool,
}

/// Labeled embeddings of the training rows and of the evaluation split.
#[derive(Debug, Clone)]
pub(super) struct LabeledEmbeddings {
    pub(super) train: Embeddings,
    pub(super) train_labels: Vec<usize>,
    pub(super) test: Embeddings,
    pub(super) test_labels: Vec<usize>,
    pub(super) num_classes: usize,
}

/// Scores all cells, in the order of classifiers, poolings and settings.
///
/// # Errors
/// Where torch fails.
pub(super) fn score_grid(
    data: &LabeledEmbeddings,
    options: &GridOptions,
    seed: u64,
) -> Result<Vec<GridScore>, TrainError> {
    let folds = stratified_folds(&data.train_labels, options.num_folds, seed);
    let mut scores = Vec::new();
    for &head in &options.heads {
        let mut of_head = Vec::new();
        for &pooling in &options.poolings {
            let (train, test) = (data.train.features(pooling), data.test.features(pooling));
            for setting in head.settings(&options.costs) {
                let cell = Cell {
                    head,
                    setting,
                    seed,
                    num_classes: data.num_classes,
                };
                let by_fold = cell.cross_validate(&train, &data.train_labels, &folds)?;
                of_head.push(GridScore {
                    head,
                    pooling,
                    setting_name: head.setting_name().to_owned(),
                    setting,
                    cross_validation: Summary::of(&by_fold),
                    accuracy: cell.accuracy(&train, &data.train_labels, &test, &data.test_labels)?,
                    is_chosen: false,
                });
            }
        }
        choose(&mut of_head);
        scores.extend(of_head);
    }
    Ok(scores)
}

/// Marks the cell with the best cross-validation; of equal ones the first.
fn choose(scores: &mut [GridScore]) {
    let mut best: Option<&mut GridScore> = None;
    for score in scores {
        let is_better = best
            .as_ref()
            .is_none_or(|best| score.cross_validation.mean > best.cross_validation.mean);
        if is_better {
            best = Some(score);
        }
    }
    if let Some(best) = best {
        best.is_chosen = true;
    }
}

/// A classifier with a setting.
struct Cell {
    head: HeadKind,
    setting: f64,
    seed: u64,
    num_classes: usize,
}

impl Cell {
    fn accuracy(
        &self,
        train: &[Vec<f64>],
        train_labels: &[usize],
        rows: &[Vec<f64>],
        labels: &[usize],
    ) -> Result<f64, TrainError> {
        let train = Labeled {
            rows: train,
            labels: train_labels,
            num_classes: self.num_classes,
        };
        let classes = self.head.classes(self.setting, train, rows, self.seed)?;
        Ok(accuracy(&classes, labels))
    }

    /// Accuracy on each fold, trained on the others.
    fn cross_validate(
        &self,
        rows: &[Vec<f64>],
        labels: &[usize],
        folds: &[Vec<usize>],
    ) -> Result<Vec<f64>, TrainError> {
        let take = |chosen: &[usize]| -> (Vec<Vec<f64>>, Vec<usize>) {
            chosen.iter().map(|&row| (rows[row].clone(), labels[row])).unzip()
        };
        let score = |held_out: &Vec<usize>| {
            let others: Vec<usize> = (0..rows.len()).filter(|row| !held_out.contains(row)).collect();
            let ((train, train_labels), (test, test_labels)) = (take(&others), take(held_out));
            self.accuracy(&train, &train_labels, &test, &test_labels)
        };
        folds.iter().map(score).collect()
    }
}

/// `num_folds` disjoint sets of rows, each with its share of every class, drawn by `seed`; fewer where there are fewer rows, and
/// none where there are not two.
fn stratified_folds(labels: &[usize], num_folds: usize, seed: u64) -> Vec<Vec<usize>> {
    let num_folds = num_folds.min(labels.len());
    if num_folds < 2 {
        return Vec::new();
    }
    let mut folds = vec![Vec::new(); num_folds];
    let mut place = 0;
    for class in 0..=labels.iter().max().copied().unwrap_or(0) {
        let mut rows: Vec<usize> = (0..labels.len()).filter(|&row| labels[row] == class).collect();
        Stream::new(seed, "folds", 0, &class.to_string()).shuffle(&mut rows);
        for row in rows {
            folds[place % num_folds].push(row);
            place += 1;
        }
    }
    for fold in &mut folds {
        fold.sort_unstable();
    }
    folds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_are_balanced_disjoint_and_drawn_by_the_seed() {
        let labels: Vec<usize> = (0..30).map(|row| row % 3).collect();
        let folds = stratified_folds(&labels, 5, 1);
        for fold in &folds {
            let of_class = |class| fold.iter().filter(|&&row| labels[row] == class).count();
            assert_eq!([0, 1, 2].map(of_class), [2, 2, 2], "{fold:?}");
        }
        let mut all = folds.concat();
        all.sort_unstable();
        assert_eq!(all, (0..30).collect::<Vec<_>>(), "each row once");
        assert_eq!(folds, stratified_folds(&labels, 5, 1), "repeatable");
        assert_ne!(folds, stratified_folds(&labels, 5, 2), "by the seed");
        assert_eq!(stratified_folds(&labels[..3], 5, 1).len(), 3, "as many as rows");
        assert!(
            stratified_folds(&labels[..1], 5, 1).is_empty(),
            "nothing to hold out"
        );
    }

    #[test]
    fn the_best_cross_validation_is_chosen_whatever_the_test_split_says() {
        let score = |setting, mean, accuracy| GridScore {
            head: HeadKind::Svm,
            pooling: Pooling::Max,
            setting_name: String::from("C"),
            setting,
            cross_validation: Summary::of(&[mean]),
            accuracy,
            is_chosen: false,
        };
        let mut scores = [
            score(0.01, 0.8, 0.95),
            score(0.1, 0.9, 0.7),
            score(1.0, 0.9, 0.99),
        ];
        choose(&mut scores);
        assert_eq!(scores.map(|score| score.is_chosen), [false, true, false]);
    }
}
