//! Maxima over groups of neighbors, the reduction that all hierarchical backbones share.

use tch::{Kind, Tensor, no_grad};

use super::layer::BatchNorm;
use super::mode::Mode;
use crate::{ops, ranks};

/// `embedding_bag`'s number for sums.
const BAG_SUM: i64 = 0;
/// Smaller variances are those of clouds whose points coincide; they get no gradient.
const SMALLEST_VARIANCE: f64 = 1e-24;

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

/// `max over k of norm(of_center[i] + of_point[neighbors[i, k]])`, without materializing the B·G·K edges.
///
/// The term of the center is the same for all its edges, and a normalization is monotone in each channel, so the largest
/// edge is the one with the largest (or, where the norm's weight is negative, smallest) neighbor. The statistics of all edges
/// follow from sums over points: the mean from how often each is a neighbor, the variance from the sum over each
/// center's neighbors. Both parts are centered first, against cancellation.
///
/// # Shapes
/// - `of_center`: B,G,C; `of_point`: B,N,C; `neighbors`: B,G,K of `i64` in 0..N
/// - returns B,G,C
pub(super) fn max_over_edges(
    of_center: &Tensor,
    of_point: &Tensor,
    neighbors: &Tensor,
    norm: &BatchNorm,
    mode: Mode,
) -> Tensor {
    let sign = norm.sign();
    let largest = ops::gather_max(&(of_point * &sign), neighbors) * sign;
    let edge = of_center + largest;
    if !mode.is_training {
        return norm.forward(&edge, mode);
    }
    let (mean, variance, num_edges) = edge_statistics(of_center, of_point, neighbors);
    norm.forward_with(&edge, &mean, &variance, num_edges)
}

/// Mean and biased variance over all edges, each of C, and the number of edges.
fn edge_statistics(of_center: &Tensor, of_point: &Tensor, neighbors: &Tensor) -> (Tensor, Tensor, f64) {
    let edges = Edges::new(neighbors, of_point.size()[1]);
    let own_edges = neighbors.numel() as f64;
    let sum = |rows: &Tensor| rows.sum_dim_intlist([0, 1].as_slice(), false, Kind::Float);
    let (sum_of_center, num_edges) = ranks::total(sum(of_center), own_edges);
    let mean_of_center = sum_of_center * (edges.group_size / num_edges);
    let mean_of_point = ranks::total(sum(&(of_point * &edges.counts)), own_edges).0 / num_edges;
    let (of_center, of_point) = (of_center - &mean_of_center, of_point - &mean_of_point);
    let of_group = edges.sum_over_group(&of_point);
    let squares = sum(&(of_center.square() * edges.group_size + &of_center * of_group * 2.0))
        + sum(&(of_point.square() * &edges.counts));
    let variance = ranks::total(squares, own_edges).0 / num_edges;
    (mean_of_center + mean_of_point, variance, num_edges)
}

/// The unbiased deviation of `of_point[neighbors[i, k]] - of_center[i]` over all edges and channels of each cloud,
/// without materializing the edges.
///
/// # Shapes
/// - `of_center`: B,G,C; `of_point`: B,N,C; `neighbors`: B,G,K of `i64` in 0..N
/// - returns B
pub(super) fn difference_deviation(of_center: &Tensor, of_point: &Tensor, neighbors: &Tensor) -> Tensor {
    let edges = Edges::new(neighbors, of_point.size()[1]);
    // Differences do not change if both ends move, and around their mean less of their squares cancels.
    let middle = no_grad(|| of_point.mean_dim(1, true, None));
    let (of_center, of_point) = (of_center - &middle, of_point - &middle);
    let of_group = edges.sum_over_group(&of_point);
    let total = |x: &Tensor| x.sum_dim_intlist([1, 2].as_slice(), false, Kind::Double);
    let sum = total(&(&of_group - &of_center * edges.group_size));
    let of_pairs = &of_center * (&of_center * edges.group_size - of_group * 2.0);
    let squares = total(&(of_point.square() * &edges.counts)) + total(&of_pairs);
    let num_values = (of_center.numel() as i64 / of_center.size()[0]) as f64 * edges.group_size;
    let variance = (squares - sum.square() / num_values) / (num_values - 1.0).max(1.0);
    variance.clamp_min(SMALLEST_VARIANCE).sqrt().to_kind(Kind::Float)
}

/// The edges of a graph from centers to points, for sums over them.
struct Edges {
    /// B·G·K places of the neighbors among all points of the batch.
    flat: Tensor,
    /// B,N,1: of how many centers each point is a neighbor.
    counts: Tensor,
    /// B·G places in `flat` at which a group begins.
    starts: Tensor,
    /// K.
    group_size: f64,
    /// B, G.
    size: [i64; 2],
}

impl Edges {
    fn new(neighbors: &Tensor, num_points: i64) -> Self {
        let (batch, num_groups, group_size) = neighbors.size3().expect("neighbors are B,G,K");
        let options = (Kind::Int64, neighbors.device());
        no_grad(|| {
            let offset = Tensor::arange(batch, options).view([batch, 1, 1]) * num_points;
            let flat = (neighbors + offset).view(-1);
            let counts = flat.bincount(None::<Tensor>, batch * num_points);
            Self {
                counts: counts.to_kind(Kind::Float).view([batch, num_points, 1]),
                starts: Tensor::arange(batch * num_groups, options) * group_size,
                group_size: group_size as f64,
                size: [batch, num_groups],
                flat,
            }
        })
    }

    /// # Shapes
    /// - `of_point`: B,N,C
    /// - returns B,G,C
    fn sum_over_group(&self, of_point: &Tensor) -> Tensor {
        let channels = of_point.size()[2];
        let (sums, ..) = Tensor::embedding_bag(
            &of_point.reshape([-1, channels]),
            &self.flat,
            &self.starts,
            false,
            BAG_SUM,
            false,
            None::<Tensor>,
            false,
        );
        sums.view([self.size[0], self.size[1], channels])
    }
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
        let run = |mode: Mode, pool: &dyn Fn(&Tensor, &Tensor, &BatchNorm) -> Tensor| {
            let vs = nn::VarStore::new(Device::Cpu);
            let norm = BatchNorm::new(vs.root(), channels);
            let variables = vs.variables();
            no_grad(|| variables["weight"].shallow_clone().copy_(&weight));
            let inputs: Vec<Tensor> = inputs
                .iter()
                .map(|input| input.copy().set_requires_grad(true))
                .collect();
            assert!(
                mode.is_training || norm.sign().min().double_value(&[]) < 0.0,
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
        for mode in [Mode::EVAL, Mode::TRAIN] {
            let got = run(mode, &|center, point, norm| {
                max_over_edges(center, point, &neighbors, norm, mode)
            });
            let expected = run(mode, &|center, point, norm| {
                let edges = center.unsqueeze(2) + ops::gather(point, &neighbors);
                max_over_group(&norm.forward(&edges, mode))
            });
            for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
                assert!(
                    got.allclose(expected, 1e-3, 1e-3, false),
                    "{mode:?}, result {i}: {got} {expected}"
                );
            }
        }
    }

    #[test]
    fn deviations_need_no_edges_either() {
        tch::manual_seed(5);
        let options = (Kind::Float, Device::Cpu);
        let neighbors = Tensor::randint(30, [3, 12, 5], (Kind::Int64, Device::Cpu));
        let run = |deviation: &dyn Fn(&Tensor, &Tensor) -> Tensor, spread: f64| {
            tch::manual_seed(6);
            let [center, point] = [12, 30]
                .map(|rows| (Tensor::randn([3, rows, 4], options) * spread + 2.0).set_requires_grad(true));
            let got = deviation(&center, &point);
            (&got * &got * &got).sum(Kind::Float).backward();
            [got.detach(), center.grad(), point.grad()]
        };
        let got = run(
            &|center, point| difference_deviation(center, point, &neighbors),
            0.3,
        );
        let made = |center: &Tensor, point: &Tensor| {
            let edges = ops::gather(point, &neighbors) - center.unsqueeze(2);
            edges.flatten(1, 3).std_dim(1, true, false)
        };
        for (i, (got, expected)) in got.iter().zip(&run(&made, 0.3)).enumerate() {
            assert!(
                got.allclose(expected, 1e-4, 1e-6, false),
                "result {i}: {got} {expected}"
            );
        }
        let flat = run(
            &|center, point| difference_deviation(center, point, &neighbors),
            0.0,
        );
        assert!(
            flat[2].isfinite().all().int64_value(&[]) == 1,
            "a cloud in one place has a gradient"
        );
    }
}
