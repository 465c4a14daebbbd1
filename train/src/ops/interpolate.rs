//! Features of a coarse level at the points of a finer one, from the three nearest
//! (`docs/method.md`, "Geometric primitives").

use tch::{Tensor, no_grad};

use super::{gather, nearest};

/// Added to distances before they are inverted.
const EPSILON: f64 = 1e-8;

/// The three nearest known points of each query.
#[derive(Debug)]
pub struct ThreeNearest {
    /// B,G,3 indices, nearest first.
    pub index: Tensor,
    /// B,G,3 distances, not squared.
    pub distance: Tensor,
}

/// Three nearest of `points` for each query; ties go to the lower index.
///
/// # Shapes
/// - `points`: B,N,3 with N ≥ 3; `queries`: B,G,3
#[must_use]
pub fn three_nearest(points: &Tensor, queries: &Tensor) -> ThreeNearest {
    no_grad(|| {
        let index = nearest(points, queries, 3);
        let difference = gather(points, &index) - queries.unsqueeze(2);
        let squared = &difference * &difference;
        let squared = (squared.select(-1, 0) + squared.select(-1, 1)) + squared.select(-1, 2);
        ThreeNearest {
            index,
            distance: squared.sqrt(),
        }
    })
}

/// Features at the queries, weighted by 1 / (d + 1e-8), weights summing to one.
///
/// # Shapes
/// - `features`: B,N,C at the known points
/// - returns B,G,C
pub fn interpolate(features: &Tensor, neighbors: &ThreeNearest) -> Tensor {
    let weight = (&neighbors.distance + EPSILON).reciprocal();
    let weight = &weight / weight.sum_dim_intlist(-1, true, None);
    (gather(features, &neighbors.index) * weight.unsqueeze(-1)).sum_dim_intlist(2, false, None)
}

#[cfg(test)]
mod tests {
    use super::super::plane::tests::cloud;
    use super::*;

    #[test]
    fn known_points_keep_their_features() {
        let (points, features) = (cloud(2, 12, 1), cloud(2, 12, 2));
        let there = interpolate(&features, &three_nearest(&points, &points));
        assert!(
            there.allclose(&features, 1e-4, 1e-5, false),
            "a known point is its own nearest neighbor"
        );
    }
}
