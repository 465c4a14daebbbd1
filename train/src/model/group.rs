//! Maxima over groups of neighbours, the reduction that all hierarchical backbones share.

use tch::{Kind, Tensor, no_grad};

use super::layer::BatchNorm;
use crate::ops;

/// `embedding_bag`'s number for sums.
const BAG_SUM: i64 = 0;

/// # Shapes
/// - `rows`: B,G,K,C
/// - returns B,G,C; the gradient goes to one of equal maxima
pub(super) fn max_over_group(rows: &Tensor) -> Tensor {
    let num_neighbors = rows.size()[2];
    // As an image with channels last, which libtorch pools without a copy.
    rows.permute([0, 3, 1, 2])
        .max_pool2d([1, num_neighbors], [1, 1], [0, 0], [1, 1], false)
        .squeeze_dim(3)
        .transpose(1, 2)
}

/// `max over k of norm(of_center[i] + of_point[neighbors[i, k]])`, without making the B·G·K edges.
///
/// The term of the centre is the same for all its edges, and a normalization is monotone in each channel, so the largest
/// edge is the one with the largest (or, where the norm turns the sign, smallest) neighbour. The statistics of all edges
/// follow from sums over points: the mean from how often each is a neighbour, the variance from the sum over each
/// centre's neighbours. Both parts are centered first, so that nothing cancels.
///
/// # Shapes
/// - `of_center`: B,G,C; `of_point`: B,N,C; `neighbors`: B,G,K of `i64` in 0..N
/// - returns B,G,C
pub(super) fn max_over_edges(
    of_center: &Tensor,
    of_point: &Tensor,
    neighbors: &Tensor,
    norm: &BatchNorm,
    train: bool,
) -> Tensor {
    let sign = norm.sign();
    let largest = ops::gather_max(&(of_point * &sign), neighbors) * sign;
    let edge = of_center + largest;
    if !train {
        return norm.forward(&edge, false);
    }
    let (mean, variance) = edge_statistics(of_center, of_point, neighbors);
    norm.forward_with(&edge, &mean, &variance, neighbors.numel() as f64)
}

/// Mean and biased variance over all edges, each of C.
fn edge_statistics(of_center: &Tensor, of_point: &Tensor, neighbors: &Tensor) -> (Tensor, Tensor) {
    let (batch, num_points, channels) = of_point.size3().expect("points are B,N,C");
    let group_size = neighbors.size()[2];
    let num_edges = neighbors.numel() as f64;
    let (flat, counts) = no_grad(|| {
        let options = (Kind::Int64, neighbors.device());
        let offset = Tensor::arange(batch, options).view([batch, 1, 1]) * num_points;
        let flat = (neighbors + offset).view(-1);
        let counts = flat.bincount(None::<Tensor>, batch * num_points);
        (flat, counts.to_kind(Kind::Float).view([-1, 1]))
    });
    let sum = |rows: &Tensor| rows.sum_dim_intlist(0, false, Kind::Float);
    let (of_center, of_point) = (
        of_center.reshape([-1, channels]),
        of_point.reshape([-1, channels]),
    );
    let mean_of_center = sum(&of_center) * (group_size as f64 / num_edges);
    let mean_of_point = sum(&(&of_point * &counts)) / num_edges;
    let (of_center, of_point) = (of_center - &mean_of_center, of_point - &mean_of_point);
    let starts = Tensor::arange(flat.size()[0] / group_size, (Kind::Int64, flat.device())) * group_size;
    let (of_group, ..) = Tensor::embedding_bag(
        &of_point,
        &flat,
        &starts,
        false,
        BAG_SUM,
        false,
        None::<Tensor>,
        false,
    );
    let squares = sum(&(of_center.square() * group_size as f64 + &of_center * of_group * 2.0))
        + sum(&(of_point.square() * counts));
    (mean_of_center + mean_of_point, squares / num_edges)
}

#[cfg(test)]
mod tests {
    use tch::{Device, nn};

    use super::*;

    #[test]
    fn edges_need_not_be_made() {
        tch::manual_seed(4);
        let options = (Kind::Float, Device::Cpu);
        let (batch, num_points, num_groups, channels) = (2, 30, 12, 6);
        let neighbors = Tensor::randint(num_points, [batch, num_groups, 5], (Kind::Int64, Device::Cpu));
        let inputs =
            [num_groups, num_points].map(|rows| Tensor::randn([batch, rows, channels], options) + 3.0);
        // Norms that turn the sign of some channels.
        let weight = Tensor::randn([channels], options);
        let run = |train: bool, pool: &dyn Fn(&Tensor, &Tensor, &BatchNorm) -> Tensor| {
            let vs = nn::VarStore::new(Device::Cpu);
            let norm = BatchNorm::new(vs.root(), channels);
            let variables = vs.variables();
            no_grad(|| variables["weight"].shallow_clone().copy_(&weight));
            let inputs: Vec<Tensor> = inputs
                .iter()
                .map(|input| input.copy().set_requires_grad(true))
                .collect();
            assert!(
                train || norm.sign().min().double_value(&[]) < 0.0,
                "a turned channel"
            );
            let pooled = pool(&inputs[0], &inputs[1], &norm);
            (&pooled * &pooled * &pooled).sum(Kind::Float).backward();
            [
                pooled.detach(),
                inputs[0].grad(),
                inputs[1].grad(),
                variables["weight"].grad(),
                variables["bias"].grad(),
                variables["running_mean"].copy(),
                variables["running_var"].copy(),
            ]
        };
        for train in [false, true] {
            let got = run(train, &|center, point, norm| {
                max_over_edges(center, point, &neighbors, norm, train)
            });
            let expected = run(train, &|center, point, norm| {
                let edges = center.unsqueeze(2) + ops::gather(point, &neighbors);
                max_over_group(&norm.forward(&edges, train))
            });
            for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
                assert!(
                    got.allclose(expected, 1e-3, 1e-3, false),
                    "train {train}, result {i}: {got} {expected}"
                );
            }
        }
    }
}
