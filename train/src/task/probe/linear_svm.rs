//! A linear support vector machine: liblinear's dual coordinate descent for the squared hinge (solver 1), one class
//! against the rest, with the bias as a feature of value 1 that is regularized like the others.
//!
//! Source: Hsieh et al., "A Dual Coordinate Descent Method for Large-scale Linear SVM" (2008). Minimizes
//! `|w|^2 / 2 + C sum max(0, 1 - y w.x)^2`. What scikit-learn calls `LinearSVC(C)` with its defaults.

use rayon::prelude::*;

use crate::seed::Stream;

/// Passes over the samples, at most.
const MAX_PASSES: u64 = 1000;
/// The projected gradients of a pass lie this close together when it has converged.
const TOLERANCE: f64 = 1e-4;

/// One weight vector a class, the bias last.
#[derive(Debug, Clone)]
pub struct LinearSvm {
    weights: Vec<Vec<f64>>,
}

impl LinearSvm {
    /// Trains on rows of equal length.
    #[must_use]
    pub fn fit(rows: &[Vec<f64>], labels: &[usize], num_classes: usize, cost: f64) -> Self {
        let weights = (0..num_classes)
            .into_par_iter()
            .map(|class| {
                let signs: Vec<f64> = labels
                    .iter()
                    .map(|&label| if label == class { 1.0 } else { -1.0 })
                    .collect();
                fit_binary(rows, &signs, cost)
            })
            .collect();
        Self { weights }
    }

    /// The class of the largest decision value.
    #[must_use]
    pub fn predict(&self, row: &[f64]) -> usize {
        let values = self.weights.iter().map(|weights| decision(weights, row));
        let best = values
            .enumerate()
            .fold((0, f64::NEG_INFINITY), |best, (class, value)| {
                if value > best.1 { (class, value) } else { best }
            });
        best.0
    }
}

fn decision(weights: &[f64], row: &[f64]) -> f64 {
    let (bias, weights) = weights.split_last().expect("the bias is always there");
    bias + weights.iter().zip(row).map(|(w, x)| w * x).sum::<f64>()
}

fn fit_binary(rows: &[Vec<f64>], signs: &[f64], cost: f64) -> Vec<f64> {
    let mut weights = vec![0.0; rows.first().map_or(0, Vec::len) + 1];
    let diagonal = 0.5 / cost;
    let norms: Vec<f64> = rows
        .iter()
        .map(|row| row.iter().map(|x| x * x).sum::<f64>() + 1.0 + diagonal)
        .collect();
    let mut alphas = vec![0.0_f64; rows.len()];
    let mut order: Vec<usize> = (0..rows.len()).collect();
    for pass in 0..MAX_PASSES {
        Stream::new(0, "svm", pass, "").shuffle(&mut order);
        let (mut largest, mut smallest) = (f64::NEG_INFINITY, f64::INFINITY);
        for &row in &order {
            let gradient = signs[row] * decision(&weights, &rows[row]) - 1.0 + diagonal * alphas[row];
            let projected = if alphas[row] == 0.0 {
                gradient.min(0.0)
            } else {
                gradient
            };
            (largest, smallest) = (largest.max(projected), smallest.min(projected));
            if projected == 0.0 {
                continue;
            }
            let old = alphas[row];
            alphas[row] = (old - gradient / norms[row]).max(0.0);
            let change = (alphas[row] - old) * signs[row];
            for (weight, x) in weights.iter_mut().zip(rows[row].iter().chain([&1.0])) {
                *weight += change * x;
            }
        }
        if largest - smallest <= TOLERANCE {
            break;
        }
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_solution_satisfies_the_optimality_condition() {
        // At the optimum w = 2 C sum of y x max(0, 1 - y w.x): the gradient of the primal is zero.
        let mut stream = Stream::new(1, "test", 0, "");
        let rows: Vec<Vec<f64>> = (0..40)
            .map(|row| {
                (0..3)
                    .map(|_| stream.uniform(-1.0, 1.0) + f64::from(row % 2))
                    .collect()
            })
            .collect();
        let labels: Vec<usize> = (0..40).map(|row| row % 2).collect();
        let cost = 0.5;
        let svm = LinearSvm::fit(&rows, &labels, 2, cost);
        let weights = &svm.weights[1];
        for feature in 0..4 {
            let sum: f64 = rows
                .iter()
                .zip(&labels)
                .map(|(row, label)| {
                    let sign = if *label == 1 { 1.0 } else { -1.0 };
                    sign * row.get(feature).copied().unwrap_or(1.0)
                        * (1.0 - sign * decision(weights, row)).max(0.0)
                })
                .sum();
            assert!(
                (weights[feature] - 2.0 * cost * sum).abs() < 1e-3,
                "feature {feature}: {} against {}",
                weights[feature],
                2.0 * cost * sum
            );
        }
        let right = rows
            .iter()
            .zip(&labels)
            .filter(|(row, label)| svm.predict(row) == **label);
        assert!(right.count() > 32, "the classes lie apart");
    }

    #[test]
    fn one_sample_a_class_by_hand() {
        // x = 1 and x = -1 with a bias: w = 1 / (1 + 1 / (4 C)), since both margins are equal and the bias is zero.
        let svm = LinearSvm::fit(&[vec![1.0], vec![-1.0]], &[1, 0], 2, 1.0);
        assert!((svm.weights[1][0] - 0.8).abs() < 1e-3, "{:?}", svm.weights);
        assert!(svm.weights[1][1].abs() < 1e-3, "{:?}", svm.weights);
    }
}
