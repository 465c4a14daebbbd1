//! A linear support vector machine as papers probe with: libsvm's C-SVC with the hinge loss, one class against one other,
//! a bias that is not regularized, decided by votes. What scikit-learn calls `SVC(C, kernel="linear")`.
//!
//! Source: Fan, Chen and Lin, "Working Set Selection Using Second Order Information for Training Support Vector Machines"
//! (2005). Minimizes `a'Qa / 2 - sum a` with `0 <= a <= C` and `y'a = 0`, `Q_st = y_s y_t x_s.x_t`.

use rayon::prelude::*;

/// Updates of a pair of variables, at most, as libsvm has it; more where there are more than 100,000 samples.
const MAX_UPDATES: usize = 10_000_000;
/// The optimality condition is violated by less than this when it has converged. At libsvm's 1e-3 votes still depend on the order
/// of the rows.
const TOLERANCE: f64 = 1e-6;
/// Least curvature along a pair.
const MIN_CURVATURE: f64 = 1e-12;

/// A hyperplane between each two classes.
#[derive(Debug, Clone)]
pub struct Svc {
    planes: Vec<Plane>,
    num_classes: usize,
}

/// What separates two classes: `weights . x + bias` is positive on the side of `first`.
#[derive(Debug, Clone)]
struct Plane {
    first: usize,
    second: usize,
    weights: Vec<f64>,
    bias: f64,
}

impl Svc {
    /// Trains on rows of equal length. Classes without rows take no part.
    #[must_use]
    pub fn fit(rows: &[Vec<f64>], labels: &[usize], num_classes: usize, cost: f64) -> Self {
        let of_class = |class: usize| -> Vec<&[f64]> {
            let rows = rows.iter().zip(labels).filter(|(_, label)| **label == class);
            rows.map(|(row, _)| row.as_slice()).collect()
        };
        let by_class: Vec<Vec<&[f64]>> = (0..num_classes).map(of_class).collect();
        let pairs: Vec<(usize, usize)> = (0..num_classes)
            .flat_map(|first| (first + 1..num_classes).map(move |second| (first, second)))
            .filter(|&(first, second)| !by_class[first].is_empty() && !by_class[second].is_empty())
            .collect();
        let fit = |(first, second): (usize, usize)| {
            let (weights, bias) = fit_pair(by_class[first].as_slice(), by_class[second].as_slice(), cost);
            Plane {
                first,
                second,
                weights,
                bias,
            }
        };
        Self {
            planes: pairs.into_par_iter().map(fit).collect(),
            num_classes,
        }
    }

    /// The class with the most votes; the first of several.
    #[must_use]
    pub fn predict(&self, row: &[f64]) -> usize {
        let mut votes = vec![0_u32; self.num_classes];
        for plane in &self.planes {
            let side = dot(&plane.weights, row) + plane.bias;
            votes[if side > 0.0 { plane.first } else { plane.second }] += 1;
        }
        let most = votes.iter().max().copied().unwrap_or(0);
        votes.iter().position(|&count| count == most).unwrap_or(0)
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The dual of two classes, and where its solution stands.
struct Dual {
    signs: Vec<f64>,
    /// `x_s.x_t`, row by row.
    gram: Vec<f64>,
    cost: f64,
    alphas: Vec<f64>,
    gradient: Vec<f64>,
}

/// Weights and bias between rows of sign +1 and of sign -1.
fn fit_pair(positive: &[&[f64]], negative: &[&[f64]], cost: f64) -> (Vec<f64>, f64) {
    let rows: Vec<&[f64]> = positive.iter().chain(negative).copied().collect();
    let mut dual = Dual::new(&rows, positive.len(), cost);
    let max_updates = MAX_UPDATES.max(100 * rows.len());
    for _ in 0..max_updates {
        let Some((up, low)) = dual.working_pair() else {
            break;
        };
        dual.update(up, low);
    }
    let mut weights = vec![0.0; rows.first().map_or(0, |row| row.len())];
    for ((row, alpha), sign) in rows.iter().zip(&dual.alphas).zip(&dual.signs) {
        for (weight, x) in weights.iter_mut().zip(*row) {
            *weight += alpha * sign * x;
        }
    }
    (weights, dual.bias())
}

impl Dual {
    fn new(rows: &[&[f64]], num_positive: usize, cost: f64) -> Self {
        let gram = rows.iter().flat_map(|a| rows.iter().map(|b| dot(a, b))).collect();
        Self {
            signs: (0..rows.len())
                .map(|row| if row < num_positive { 1.0 } else { -1.0 })
                .collect(),
            gram,
            cost,
            alphas: vec![0.0; rows.len()],
            gradient: vec![-1.0; rows.len()],
        }
    }

    fn product(&self, s: usize, t: usize) -> f64 {
        self.gram[s * self.signs.len() + t]
    }

    /// Whether `y a` can still grow, or fall.
    fn can_grow(&self, t: usize) -> bool {
        (self.signs[t] > 0.0 && self.alphas[t] < self.cost) || (self.signs[t] < 0.0 && self.alphas[t] > 0.0)
    }

    fn can_fall(&self, t: usize) -> bool {
        (self.signs[t] > 0.0 && self.alphas[t] > 0.0) || (self.signs[t] < 0.0 && self.alphas[t] < self.cost)
    }

    /// The most violating variable, and the one with which it gains most; none at the solution.
    fn working_pair(&self) -> Option<(usize, usize)> {
        let slope = |t: usize| -self.signs[t] * self.gradient[t];
        let all = 0..self.signs.len();
        let up = all
            .clone()
            .filter(|&t| self.can_grow(t))
            .max_by(|&a, &b| slope(a).total_cmp(&slope(b)).then(b.cmp(&a)))?;
        let (mut best, mut lowest) = (None, f64::INFINITY);
        let mut largest_gain = 0.0;
        for low in all.filter(|&t| self.can_fall(t)) {
            lowest = lowest.min(slope(low));
            let difference = slope(up) - slope(low);
            if difference > 0.0 {
                let gain = difference * difference / self.curvature(up, low);
                if gain > largest_gain {
                    (best, largest_gain) = (Some(low), gain);
                }
            }
        }
        (slope(up) - lowest >= TOLERANCE).then_some((up, best?))
    }

    fn curvature(&self, s: usize, t: usize) -> f64 {
        (self.product(s, s) + self.product(t, t) - 2.0 * self.product(s, t)).max(MIN_CURVATURE)
    }

    /// Minimizes over two variables, within the box.
    fn update(&mut self, up: usize, low: usize) {
        let (sign_up, sign_low) = (self.signs[up], self.signs[low]);
        let difference = sign_low * self.gradient[low] - sign_up * self.gradient[up];
        let step = difference / self.curvature(up, low);
        let [old_up, old_low] = [self.alphas[up], self.alphas[low]];
        let sum = sign_up * old_up + sign_low * old_low;
        let new_up = (old_up + sign_up * step).clamp(0.0, self.cost);
        let new_low = (sign_low * (sum - sign_up * new_up)).clamp(0.0, self.cost);
        let new_up = (sign_up * (sum - sign_low * new_low)).clamp(0.0, self.cost);
        (self.alphas[up], self.alphas[low]) = (new_up, new_low);
        let changes = [
            (up, sign_up * (new_up - old_up)),
            (low, sign_low * (new_low - old_low)),
        ];
        for t in 0..self.signs.len() {
            let change: f64 = changes
                .iter()
                .map(|&(s, change)| change * self.product(s, t))
                .sum();
            self.gradient[t] += self.signs[t] * change;
        }
    }

    /// Mean over variables within the box, or else the middle of what those at its sides allow.
    fn bias(&self) -> f64 {
        let (mut free, mut num_free) = (0.0, 0_usize);
        let (mut upper, mut lower) = (f64::INFINITY, f64::NEG_INFINITY);
        for t in 0..self.signs.len() {
            let slope = self.signs[t] * self.gradient[t];
            if self.alphas[t] > 0.0 && self.alphas[t] < self.cost {
                (free, num_free) = (free + slope, num_free + 1);
            } else if self.can_grow(t) {
                lower = lower.max(-slope);
            } else {
                upper = upper.min(-slope);
            }
        }
        if num_free > 0 {
            -free / num_free as f64
        } else {
            f64::midpoint(upper, lower)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_widest_margin_by_hand() {
        // Between x = 1 and x = 3 the plane stands at 2 with a margin of 1 either way.
        let svc = Svc::fit(&[vec![1.0], vec![3.0], vec![5.0]], &[0, 1, 1], 2, 10.0);
        let plane = &svc.planes[0];
        assert!((plane.weights[0] + 1.0).abs() < 1e-3, "{plane:?}");
        assert!((plane.bias - 2.0).abs() < 1e-3, "{plane:?}");
        assert_eq!([1.9, 2.1].map(|x| svc.predict(&[x])), [0, 1]);
    }

    #[test]
    fn a_small_cost_bounds_the_weights() {
        // Both variables stand at C, so w = C (x_0 - x_1), and the bias is in the middle.
        let svc = Svc::fit(&[vec![-1.0], vec![1.0]], &[0, 1], 2, 0.1);
        let plane = &svc.planes[0];
        assert!((plane.weights[0] + 0.2).abs() < 1e-9, "{plane:?}");
        assert!(plane.bias.abs() < 1e-9, "{plane:?}");
    }

    #[test]
    fn classes_without_rows_are_never_named() {
        let svc = Svc::fit(&[vec![0.0], vec![1.0]], &[1, 3], 5, 1.0);
        assert_eq!([0.0, 1.0].map(|x| svc.predict(&[x])), [1, 3]);
    }
}
