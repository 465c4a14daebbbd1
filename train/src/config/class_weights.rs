//! What a class weighs in the loss: cross entropy divided by the sum of the weights of a batch, as PyTorch's does, so that only
//! ratios of weights count.

use serde::{Deserialize, Serialize};

/// The setting, `"none"`, `"balanced"` or a number for each class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected \"none\", \"balanced\" or a list with a number for each class"
)]
pub enum ClassWeights {
    /// By a rule.
    Rule(WeightRule),
    /// These, in label order.
    Each(Vec<f64>),
}

/// A rule for weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightRule {
    /// All classes weigh the same.
    #[default]
    None,
    /// By inverse frequency among the training rows that are read, so that each class weighs the same in an epoch.
    Balanced,
}

impl Default for ClassWeights {
    fn default() -> Self {
        Self::Rule(WeightRule::None)
    }
}

impl ClassWeights {
    /// Whether the labels of the training rows have to be counted.
    #[must_use]
    pub fn need_counts(&self) -> bool {
        *self == Self::Rule(WeightRule::Balanced)
    }

    /// The weight of each class, none where all are the same. `counts` are training samples of each class, where they are
    /// needed.
    ///
    /// # Errors
    /// Text where there is another number of weights than of classes; `what` is what is counted, as "classes".
    pub(super) fn resolve(&self, num_classes: usize, counts: &[u64], what: &str) -> Result<Vec<f64>, String> {
        match self {
            Self::Rule(WeightRule::None) => Ok(Vec::new()),
            Self::Rule(WeightRule::Balanced) => Ok(balanced(counts)),
            Self::Each(weights) if weights.len() == num_classes => Ok(weights.clone()),
            Self::Each(weights) => Err(format!(
                "class_weights has {} numbers, and the data has {num_classes} {what}",
                weights.len()
            )),
        }
    }
}

/// Inverse frequencies, scaled to a mean of 1 over the classes that have samples; 1 for the others, which no loss asks for.
fn balanced(counts: &[u64]) -> Vec<f64> {
    let inverse = |count: &u64| (*count > 0).then(|| 1.0 / *count as f64);
    let present: Vec<f64> = counts.iter().filter_map(inverse).collect();
    let mean = present.iter().sum::<f64>() / present.len().max(1) as f64;
    let weight = |count| inverse(count).map_or(1.0, |inverse| inverse / mean);
    counts.iter().map(weight).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn balanced_weights_give_each_class_the_same_share_and_have_a_mean_of_one() {
        let rule = ClassWeights::Rule(WeightRule::Balanced);
        let counts = [30, 10, 0, 60];
        let weights = rule.resolve(4, &counts, "classes").unwrap();
        let shares: Vec<f64> = weights.iter().zip(counts).map(|(w, n)| w * n as f64).collect();
        assert!((shares[0] - shares[1]).abs() < 1e-12 && (shares[1] - shares[3]).abs() < 1e-12);
        assert!(
            (weights[0] + weights[1] + weights[3] - 3.0).abs() < 1e-12,
            "{weights:?}"
        );
        assert!((weights[2] - 1.0).abs() < 1e-12, "a class without samples");
    }

    #[test]
    fn another_number_of_weights_is_refused() {
        let weights = ClassWeights::Each(vec![1.0, 2.0]);
        assert_eq!(weights.resolve(2, &[], "classes"), Ok(vec![1.0, 2.0]));
        let error = weights.resolve(3, &[], "classes").unwrap_err();
        assert!(
            error.contains("has 2 numbers") && error.contains("3 classes"),
            "{error}"
        );
    }
}
