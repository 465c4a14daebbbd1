//! Classification by the nearest training features.

use rayon::prelude::*;

/// The class of each row by its k nearest training rows in Euclidean distance, weighted by 1 / distance where k > 1: what
/// scikit-learn calls `KNeighborsClassifier(k, weights="distance")`.
#[must_use]
pub fn nearest_classes(
    train: &[Vec<f64>],
    labels: &[usize],
    num_classes: usize,
    rows: &[Vec<f64>],
    num_neighbors: usize,
) -> Vec<usize> {
    let classify = |row: &Vec<f64>| {
        let mut distances: Vec<(f64, usize)> = train
            .iter()
            .zip(labels)
            .map(|(other, &label)| (distance(row, other), label))
            .collect();
        distances.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut votes = vec![0.0; num_classes];
        for (distance, label) in distances.into_iter().take(num_neighbors) {
            votes[label] += 1.0 / distance.max(1e-12);
        }
        let first_largest = |best: (usize, f64), (class, &vote): (usize, &f64)| {
            if vote > best.1 { (class, vote) } else { best }
        };
        votes.iter().enumerate().fold((0, -1.0), first_largest).0
    };
    rows.par_iter().map(classify).collect()
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbors_vote_by_distance() {
        let train = [vec![0.0], vec![1.0], vec![1.2]];
        let class = |row: f64, num| nearest_classes(&train, &[0, 1, 1], 2, &[vec![row]], num);
        assert_eq!(class(0.1, 1), [0], "the nearest one");
        assert_eq!(class(0.1, 3), [0], "10 against 1.1 + 0.9");
        assert_eq!(class(0.5, 3), [1], "2 against 2 + 1.4");
    }
}
