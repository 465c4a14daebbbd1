//! Multinomial logistic regression, trained by L-BFGS. What scikit-learn calls `LogisticRegression(C)`.
//!
//! Minimizes `|W|^2 / 2 - C sum log p(label)`; biases are not regularized.
//! Source of the optimizer: Nocedal and Wright, "Numerical Optimization", algorithms 7.4 and 7.5.

use std::collections::VecDeque;

use rayon::prelude::*;

/// Steps of the optimizer, at most.
const MAX_STEPS: usize = 1000;
/// The largest entry of the gradient, over the number of samples times C, when it has converged.
const TOLERANCE: f64 = 1e-7;
/// Steps that the curvature is estimated from.
const MEMORY: usize = 10;
/// Part of the predicted decrease that a step has to reach.
const SUFFICIENT_DECREASE: f64 = 1e-4;
/// Rows whose gradients are summed by one thread; fixed, so that sums do not depend on the number of threads.
const ROWS_PER_CHUNK: usize = 256;

/// One row of weights a class, the bias last.
#[derive(Debug, Clone)]
pub struct LogisticRegression {
    weights: Vec<f64>,
    num_classes: usize,
}

impl LogisticRegression {
    /// Trains on rows of equal length.
    #[must_use]
    pub fn fit(rows: &[Vec<f64>], labels: &[usize], num_classes: usize, cost: f64) -> Self {
        let width = rows.first().map_or(0, Vec::len) + 1;
        let problem = Problem {
            rows,
            labels,
            num_classes,
            width,
            cost,
        };
        Self {
            weights: minimize(&problem),
            num_classes,
        }
    }

    /// The likeliest class.
    #[must_use]
    pub fn predict(&self, row: &[f64]) -> usize {
        let width = row.len() + 1;
        let logits = (0..self.num_classes).map(|class| logit(&self.weights[class * width..][..width], row));
        let best = logits
            .enumerate()
            .fold((0, f64::NEG_INFINITY), |best, (class, value)| {
                if value > best.1 { (class, value) } else { best }
            });
        best.0
    }
}

fn logit(weights: &[f64], row: &[f64]) -> f64 {
    let (bias, weights) = weights.split_last().expect("the bias is always there");
    bias + dot(weights, row)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

struct Problem<'a> {
    rows: &'a [Vec<f64>],
    labels: &'a [usize],
    num_classes: usize,
    width: usize,
    cost: f64,
}

impl Problem<'_> {
    /// The objective and its gradient.
    fn evaluate(&self, weights: &[f64]) -> (f64, Vec<f64>) {
        let chunks: Vec<(f64, Vec<f64>)> = self
            .rows
            .par_chunks(ROWS_PER_CHUNK)
            .zip(self.labels.par_chunks(ROWS_PER_CHUNK))
            .map(|(rows, labels)| self.of_chunk(weights, rows, labels))
            .collect();
        let (mut value, mut gradient) = (0.0, vec![0.0; weights.len()]);
        for (loss, of_chunk) in chunks {
            value += loss;
            for (sum, part) in gradient.iter_mut().zip(of_chunk) {
                *sum += part;
            }
        }
        for (place, (weight, slope)) in weights.iter().zip(&mut gradient).enumerate() {
            let is_bias = place % self.width == self.width - 1;
            if !is_bias {
                value += weight * weight / 2.0;
                *slope += weight;
            }
        }
        (value, gradient)
    }

    fn of_chunk(&self, weights: &[f64], rows: &[Vec<f64>], labels: &[usize]) -> (f64, Vec<f64>) {
        let (mut loss, mut gradient) = (0.0, vec![0.0; weights.len()]);
        for (row, &label) in rows.iter().zip(labels) {
            let of_class = |class: usize| logit(&weights[class * self.width..][..self.width], row);
            let logits: Vec<f64> = (0..self.num_classes).map(of_class).collect();
            let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = logits.iter().map(|logit| (logit - largest).exp()).sum();
            loss += self.cost * (largest + sum.ln() - logits[label]);
            for (class, value) in logits.iter().enumerate() {
                let target = if class == label { 1.0 } else { 0.0 };
                let slope = self.cost * ((value - largest).exp() / sum - target);
                let of_class = &mut gradient[class * self.width..][..self.width];
                for (sum, x) in of_class.iter_mut().zip(row.iter().chain([&1.0])) {
                    *sum += slope * x;
                }
            }
        }
        (loss, gradient)
    }
}

/// A step and how the gradient changed along it.
struct Curvature {
    step: Vec<f64>,
    change: Vec<f64>,
    inverse: f64,
}

fn minimize(problem: &Problem<'_>) -> Vec<f64> {
    let mut weights = vec![0.0; problem.num_classes * problem.width];
    let (mut value, mut gradient) = problem.evaluate(&weights);
    let mut memory: VecDeque<Curvature> = VecDeque::new();
    let tolerance = TOLERANCE * problem.cost * problem.rows.len().max(1) as f64;
    for _ in 0..MAX_STEPS {
        let largest = gradient.iter().map(|slope| slope.abs()).fold(0.0, f64::max);
        if largest <= tolerance {
            break;
        }
        let direction = descent(&gradient, &memory);
        let slope = dot(&direction, &gradient);
        let mut length = 1.0 / if memory.is_empty() { largest.max(1.0) } else { 1.0 };
        let (next, next_value, next_gradient) = loop {
            let next: Vec<f64> = weights
                .iter()
                .zip(&direction)
                .map(|(w, d)| w + length * d)
                .collect();
            let (next_value, next_gradient) = problem.evaluate(&next);
            if next_value <= value + SUFFICIENT_DECREASE * length * slope {
                break (next, next_value, next_gradient);
            }
            length /= 2.0;
            if length < 1e-20 {
                // Rounding lets nothing decrease any further.
                return weights;
            }
        };
        let step: Vec<f64> = next.iter().zip(&weights).map(|(a, b)| a - b).collect();
        let change: Vec<f64> = next_gradient.iter().zip(&gradient).map(|(a, b)| a - b).collect();
        let product = dot(&step, &change);
        if product > 0.0 {
            memory.push_back(Curvature {
                step,
                change,
                inverse: 1.0 / product,
            });
            if memory.len() > MEMORY {
                memory.pop_front();
            }
        }
        (weights, value, gradient) = (next, next_value, next_gradient);
    }
    weights
}

/// The direction of descent that the remembered curvature gives.
fn descent(gradient: &[f64], memory: &VecDeque<Curvature>) -> Vec<f64> {
    let mut direction: Vec<f64> = gradient.iter().map(|slope| -slope).collect();
    let mut factors = Vec::new();
    for curvature in memory.iter().rev() {
        let factor = curvature.inverse * dot(&curvature.step, &direction);
        add(&mut direction, -factor, &curvature.change);
        factors.push(factor);
    }
    if let Some(last) = memory.back() {
        let scale = 1.0 / (last.inverse * dot(&last.change, &last.change));
        for entry in &mut direction {
            *entry *= scale;
        }
    }
    for (curvature, factor) in memory.iter().zip(factors.into_iter().rev()) {
        let back = curvature.inverse * dot(&curvature.change, &direction);
        add(&mut direction, factor - back, &curvature.step);
    }
    direction
}

fn add(sum: &mut [f64], factor: f64, vector: &[f64]) {
    for (sum, entry) in sum.iter_mut().zip(vector) {
        *sum += factor * entry;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gradient_is_the_slope_of_the_objective() {
        let rows = [vec![0.3, -1.0], vec![2.0, 0.5], vec![-0.7, 0.1]];
        let problem = Problem {
            rows: &rows,
            labels: &[0, 2, 1],
            num_classes: 3,
            width: 3,
            cost: 0.7,
        };
        let weights: Vec<f64> = (0..9).map(|place| f64::from(place) / 10.0 - 0.4).collect();
        let (_, gradient) = problem.evaluate(&weights);
        for place in 0..9 {
            let moved = |by: f64| {
                let mut weights = weights.clone();
                weights[place] += by;
                problem.evaluate(&weights).0
            };
            let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!(
                (gradient[place] - slope).abs() < 1e-7,
                "{place}: {} {slope}",
                gradient[place]
            );
        }
    }

    #[test]
    fn two_mirrored_samples_by_hand() {
        // Weights are -v and v on x = -1 and x = 1, biases 0: v = 2 C / (1 + exp(2 v)), so at C = 1 v = 0.5398.
        let fit = LogisticRegression::fit(&[vec![-1.0], vec![1.0]], &[0, 1], 2, 1.0);
        let v = fit.weights[2];
        assert!(
            (v - 2.0 / (1.0 + (2.0 * v).exp())).abs() < 1e-6,
            "{:?}",
            fit.weights
        );
        assert!(
            (fit.weights[0] + v).abs() < 1e-9 && fit.weights[1].abs() < 1e-9,
            "{:?}",
            fit.weights
        );
        assert_eq!([-0.1, 0.1].map(|x| fit.predict(&[x])), [0, 1]);
    }
}
