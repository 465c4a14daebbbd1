//! Scores of ranked lists, as the SHREC 2016 and 2017 tracks on `ShapeNet` report them (`docs/protocols.md`, "Retrieval").

use serde::{Deserialize, Serialize};

/// Scores of one ranked list, or means of many, 0 to 1. N is the length of the list.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct RetrievalScore {
    /// Precision at N: of what is listed, the part that is relevant.
    pub precision: f64,
    /// Recall at N: of what is relevant, the part that is listed.
    pub recall: f64,
    /// F1 at N: their harmonic mean.
    pub f1: f64,
    /// Average precision; its mean over lists is the mAP.
    pub average_precision: f64,
    /// Normalized discounted cumulative gain.
    pub ndcg: f64,
}

impl RetrievalScore {
    /// Of a list, given the relevance of each place (0 is not relevant) and that of all relevant objects there are.
    ///
    /// Average precision and ideal gain count all relevant objects, whether listed or not, which the evaluator of 2017 does and
    /// the first one of 2016 did not.
    #[must_use]
    pub fn of_list(relevances: &[f64], all_relevant: &[f64]) -> Self {
        let num_relevant = all_relevant.iter().filter(|grade| **grade > 0.0).count();
        let (mut num_found, mut sum_of_precisions) = (0_usize, 0.0);
        for (place, grade) in relevances.iter().enumerate() {
            if *grade > 0.0 {
                num_found += 1;
                sum_of_precisions += num_found as f64 / (place + 1) as f64;
            }
        }
        let precision = ratio(num_found as f64, relevances.len() as f64);
        let recall = ratio(num_found as f64, num_relevant as f64);
        let mut ideal = all_relevant.to_vec();
        ideal.sort_by(|a, b| b.total_cmp(a));
        Self {
            precision,
            recall,
            f1: ratio(2.0 * precision * recall, precision + recall),
            average_precision: ratio(sum_of_precisions, num_relevant as f64),
            ndcg: ratio(cumulative_gain(relevances), cumulative_gain(&ideal)),
        }
    }

    /// The mean of each score.
    #[must_use]
    pub fn mean(scores: &[Self]) -> Self {
        let mean = |of: fn(&Self) -> f64| ratio(scores.iter().map(of).sum(), scores.len() as f64);
        Self {
            precision: mean(|score| score.precision),
            recall: mean(|score| score.recall),
            f1: mean(|score| score.f1),
            average_precision: mean(|score| score.average_precision),
            ndcg: mean(|score| score.ndcg),
        }
    }
}

/// 0 where there is nothing to divide by.
fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// The first gain counts whole, gain i by 1 / log2(i) (Järvelin and Kekäläinen, 2002).
fn cumulative_gain(gains: &[f64]) -> f64 {
    let discounted = gains.iter().enumerate().map(|(place, gain)| {
        let place = (place + 1) as f64;
        gain / place.log2().max(1.0)
    });
    discounted.sum()
}

/// Means over queries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RetrievalMeans {
    /// Every query counts the same.
    pub micro: RetrievalScore,
    /// Every class counts the same: mean of the means of classes that have queries.
    #[serde(rename = "macro")]
    pub by_class_mean: RetrievalScore,
    /// Mean of each class; none without a query.
    pub by_class: Vec<Option<RetrievalScore>>,
}

impl RetrievalMeans {
    /// Of the scores of queries, with their classes.
    #[must_use]
    pub fn of(queries: &[(usize, RetrievalScore)], num_classes: usize) -> Self {
        let of_class = |class: usize| {
            let scores: Vec<RetrievalScore> = queries
                .iter()
                .filter(|(of, _)| *of == class)
                .map(|(_, score)| *score)
                .collect();
            (!scores.is_empty()).then(|| RetrievalScore::mean(&scores))
        };
        let by_class: Vec<Option<RetrievalScore>> = (0..num_classes).map(of_class).collect();
        let all: Vec<RetrievalScore> = queries.iter().map(|(_, score)| *score).collect();
        Self {
            micro: RetrievalScore::mean(&all),
            by_class_mean: RetrievalScore::mean(&by_class.iter().flatten().copied().collect::<Vec<_>>()),
            by_class,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found}, expected {expected}");
    }

    #[test]
    fn a_list_of_four_by_hand() {
        // Of three relevant objects, those at places 1 and 3 are listed.
        let score = RetrievalScore::of_list(&[1.0, 0.0, 1.0, 0.0], &[1.0, 1.0, 1.0]);
        close(score.precision, 0.5);
        close(score.recall, 2.0 / 3.0);
        close(score.f1, 4.0 / 7.0);
        close(score.average_precision, (1.0 + 2.0 / 3.0) / 3.0);
        // 1 + 1 / log2(3), over 1 + 1 / log2(2) + 1 / log2(3).
        let third = 1.0 / 3.0_f64.log2();
        close(score.ndcg, (1.0 + third) / (2.0 + third));
    }

    #[test]
    fn grades_change_the_gain_alone() {
        let graded = RetrievalScore::of_list(&[1.0, 3.0], &[3.0, 1.0]);
        let plain = RetrievalScore::of_list(&[1.0, 1.0], &[1.0, 1.0]);
        close(graded.average_precision, plain.average_precision);
        // The second place counts as the first, by 1 / log2(2).
        close(graded.ndcg, 1.0);
        let third = 1.0 / 3.0_f64.log2();
        let late = RetrievalScore::of_list(&[1.0, 0.0, 3.0], &[3.0, 1.0]);
        close(late.ndcg, (1.0 + 3.0 * third) / 4.0);
    }

    #[test]
    fn nothing_listed_or_nothing_relevant_is_zero() {
        assert_eq!(RetrievalScore::of_list(&[], &[1.0]), RetrievalScore::default());
        assert_eq!(RetrievalScore::of_list(&[0.0], &[]), RetrievalScore::default());
    }

    #[test]
    fn average_precision_is_that_of_scikit_learn() {
        #[derive(Deserialize)]
        struct Expected {
            ranking: Ranking,
        }
        #[derive(Deserialize)]
        struct Ranking {
            grades: Vec<f64>,
            average_precision: f64,
        }
        let json = include_str!("../../tests/probe/expected.json");
        let Expected { ranking } = serde_json::from_str(json).expect("the file is ours");
        let score = RetrievalScore::of_list(&ranking.grades, &ranking.grades);
        close(score.average_precision, ranking.average_precision);
    }

    #[test]
    fn classes_weigh_the_same_in_the_macro_mean() {
        let score = |precision| RetrievalScore {
            precision,
            ..RetrievalScore::default()
        };
        let means = RetrievalMeans::of(&[(0, score(1.0)), (0, score(1.0)), (2, score(0.4))], 3);
        close(means.micro.precision, 0.8);
        close(means.by_class_mean.precision, 0.7);
        assert_eq!(means.by_class[1], None, "a class without queries does not count");
    }
}
