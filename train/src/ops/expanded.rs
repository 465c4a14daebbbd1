//! Interpolation as PointMLP's part segmentation does it (`docs/method.md`, "Geometric primitives").

use tch::{Kind, Tensor, no_grad};

use super::gather;

/// Added to squared distances before they are inverted.
const EPSILON: f64 = 1e-8;

/// Features at the queries, from the three nearest points, weighted by 1 / (d² + 1e-8), weights summing to one.
///
/// Parity: d² comes from the expansion -2ab + a² + b², without a root and unclamped. At a query that is itself a point it
/// is rounding noise of either sign, and the published weights were trained with it.
///
/// # Shapes
/// - `features`: B,N,C at the `points` B,N,3; `queries`: B,G,3
/// - returns B,G,C
pub fn interpolate_expanded(features: &Tensor, points: &Tensor, queries: &Tensor) -> Tensor {
    let (weights, index) = no_grad(|| {
        let squares = |xyz: &Tensor| xyz.square().sum_dim_intlist(-1, false, Kind::Float);
        let mut squared = queries.matmul(&points.transpose(1, 2)) * -2.0;
        squared += squares(queries).unsqueeze(2);
        squared += squares(points).unsqueeze(1);
        let (squared, index) = squared.topk(3, -1, false, true);
        let weights = (squared + EPSILON).reciprocal();
        let sum = weights.sum_dim_intlist(-1, true, Kind::Float);
        (weights / sum, index)
    });
    (gather(features, &index) * weights.unsqueeze(-1)).sum_dim_intlist(2, false, Kind::Float)
}
