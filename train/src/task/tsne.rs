//! t-SNE of features: points of a plane of which those are near each other whose features are (van der Maaten, "Accelerating
//! t-SNE using tree-based algorithms", 2014; Figure 5 of the paper).

use bhtsne::tSNE;
use serde::{Deserialize, Serialize};

use crate::config::invalid;
use crate::error::TrainError;
use crate::seed::Stream;

/// Effective number of neighbors of a point, as in the paper's reference implementation.
pub const DEFAULT_PERPLEXITY: f64 = 30.0;
/// How far forces of several points are taken together: 0.5 as there.
const THETA: f64 = 0.5;
/// Steps of the descent, as there.
const NUM_STEPS: usize = 1000;
/// Standard deviation of where points begin, as there.
const INITIAL_DEVIATION: f64 = 1e-4;
/// Neighbors that are looked for, in perplexities.
const NEIGHBORS_PER_PERPLEXITY: f64 = 3.0;

/// Settings of a projection.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TsneOptions {
    /// Effective number of neighbors.
    pub perplexity: f64,
    /// Seed of where points begin.
    pub seed: u64,
}

impl TsneOptions {
    /// The same with a perplexity that so many points allow.
    #[must_use]
    pub fn for_points(self, num_points: usize) -> Self {
        let largest = (num_points.saturating_sub(1) as f64 / NEIGHBORS_PER_PERPLEXITY).floor();
        Self {
            perplexity: self.perplexity.min(largest),
            ..self
        }
    }
}

/// Projects features of `num_channels` numbers each, one after the other. The same features and options give the same points:
/// sums have one order, so the descent runs on one thread.
///
/// # Errors
/// Where there are too few features for any perplexity, or it is none.
pub fn tsne(
    features: &[f32],
    num_channels: usize,
    options: TsneOptions,
) -> Result<Vec<[f64; 2]>, TrainError> {
    let rows: Vec<&[f32]> = features.chunks_exact(num_channels.max(1)).collect();
    let TsneOptions { perplexity, seed } = options.for_points(rows.len());
    if perplexity.is_nan() || perplexity < 1.0 {
        return Err(invalid(format!(
            "a projection of {} objects with perplexity {perplexity}; it takes 4 objects or more, and a perplexity of at least 1",
            rows.len()
        )));
    }
    let mut stream = Stream::new(seed, "t-SNE", 0, "");
    let initial: Vec<f64> = (0..2 * rows.len())
        .map(|_| INITIAL_DEVIATION * stream.normal())
        .collect();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let pool = pool.map_err(|error| invalid(format!("cannot start a thread: {error}")))?;
    let points = pool.install(|| {
        let mut tsne: tSNE<'_, f64, &[f32]> = tSNE::new(&rows);
        tsne.perplexity(perplexity)
            .epochs(NUM_STEPS)
            .initial_embedding(initial)
            .barnes_hut(THETA, |a, b| distance(a, b));
        tsne.embedding()
    });
    let (points, rest) = points.as_chunks::<2>();
    debug_assert!(rest.is_empty(), "two coordinates a point");
    Ok(points.to_vec())
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    let squares = a.iter().zip(b).map(|(a, b)| f64::from(a - b) * f64::from(a - b));
    squares.sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    const OPTIONS: TsneOptions = TsneOptions {
        perplexity: DEFAULT_PERPLEXITY,
        seed: 0,
    };

    /// Three clusters of 8 features each.
    fn clusters() -> Vec<f32> {
        let mut stream = Stream::new(3, "features", 0, "");
        let feature = |place: usize| {
            let center = [[0.0, 0.0, 0.0], [9.0, 0.0, 0.0], [0.0, 9.0, 9.0]][place / 8];
            center.map(|x| x + stream.normal() as f32)
        };
        (0..24).flat_map(feature).collect()
    }

    #[test]
    fn what_is_near_stays_near_and_the_same_seed_gives_the_same_points() {
        let points = tsne(&clusters(), 3, OPTIONS).unwrap();
        let distance = |a: usize, b: usize| {
            let [x, y] = [0, 1].map(|axis| points[a][axis] - points[b][axis]);
            x.hypot(y)
        };
        for point in 0..24 {
            let nearest = (0..24)
                .filter(|&other| other != point)
                .min_by(|&a, &b| distance(point, a).total_cmp(&distance(point, b)));
            assert_eq!(
                nearest.map(|other| other / 8),
                Some(point / 8),
                "point {point}: {points:?}"
            );
        }
        assert_eq!(points, tsne(&clusters(), 3, OPTIONS).unwrap(), "the same again");
        let other = TsneOptions { seed: 1, ..OPTIONS };
        assert_ne!(points, tsne(&clusters(), 3, other).unwrap(), "by seed");
    }

    #[test]
    fn perplexity_follows_the_number_of_points() {
        assert!((OPTIONS.for_points(24).perplexity - 7.0).abs() < 1e-12);
        assert!((OPTIONS.for_points(1000).perplexity - 30.0).abs() < 1e-12);
        let error = tsne(&[0.0; 9], 3, OPTIONS).unwrap_err().to_string();
        assert!(error.contains("3 objects"), "{error}");
    }
}
