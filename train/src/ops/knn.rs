//! Nearest neighbors, by directly computed squared distances; ties go to the lower index.

use tch::{Device, Tensor};

use super::plane::{Axes, Planes, index_rows, pairwise_squared_distances, prepared, size3};

/// The `num` nearest points of each query, nearest first.
///
/// # Shapes
/// - `points`: B,N,3 with N ≥ `num`; `queries`: B,G,3
/// - returns B,G,`num` of `i64`
pub fn nearest(points: &Tensor, queries: &Tensor, num: i64) -> Tensor {
    nearest_within(points, queries, f64::INFINITY, num)
}

/// The `num` nearest points of each query with d² < r², nearest first; free places repeat the nearest one, and a query
/// without any hit gets zeros.
///
/// # Shapes
/// - `points`: B,N,3; `queries`: B,G,3
/// - returns B,G,`num` of `i64`
pub fn nearest_within(points: &Tensor, queries: &Tensor, radius: f64, num: i64) -> Tensor {
    let (points, queries) = (prepared(points), prepared(queries));
    let squared_radius = radius as f32 * radius as f32;
    if points.device() != Device::Cpu {
        return nearest_batched(&points, &queries, squared_radius, num);
    }
    let (batch, num_queries, _) = size3(&queries);
    let num_points = points.size()[1] as usize;
    let (points, queries) = (Planes::new(&points), Planes::new(&queries));
    index_rows(batch, &[num_queries, num], |batch_idx, row| {
        let (cloud, queries) = (points.cloud(batch_idx), queries.cloud(batch_idx));
        let mut scratch = Scratch {
            squared: vec![0.0; num_points],
            candidates: vec![0; num_points],
        };
        for (query_idx, row) in row.chunks_exact_mut(num as usize).enumerate() {
            nearest_of_cloud(cloud, queries.point(query_idx), squared_radius, &mut scratch, row);
        }
    })
}

struct Scratch {
    squared: Vec<f32>,
    /// Distance in the high half, index in the low half: the order of the integers is the order of the neighbors.
    candidates: Vec<u64>,
}

fn nearest_of_cloud(
    cloud: Axes<'_>,
    query: [f32; 3],
    squared_radius: f32,
    scratch: &mut Scratch,
    out: &mut [i64],
) {
    cloud.squared_distances(query, &mut scratch.squared);
    let mut num_found = 0;
    for (idx, &squared) in scratch.squared.iter().enumerate() {
        // Bits of non-negative floats are ordered as the floats are.
        scratch.candidates[num_found] = u64::from(squared.to_bits()) << 32 | idx as u64;
        num_found += usize::from(squared < squared_radius);
    }
    let found = &mut scratch.candidates[..num_found];
    if num_found > out.len() {
        found.select_nth_unstable(out.len() - 1);
    }
    let kept = num_found.min(out.len());
    let found = &mut found[..kept];
    found.sort_unstable();
    for (out, &candidate) in out.iter_mut().zip(found.iter()) {
        *out = (candidate & 0xFFFF_FFFF) as i64;
    }
    let fill = if kept == 0 { 0 } else { out[0] };
    out[kept..].fill(fill);
}

fn nearest_batched(points: &Tensor, queries: &Tensor, squared_radius: f32, num: i64) -> Tensor {
    let squared = pairwise_squared_distances(queries, points);
    // A stable sort, since `topk` leaves the order of ties open.
    let (sorted, order) = squared.sort_stable(true, -1, false);
    let kept = num.min(points.size()[1]);
    let (sorted, order) = (sorted.narrow(-1, 0, kept), order.narrow(-1, 0, kept));
    let hit = sorted.lt(f64::from(squared_radius));
    let first = order
        .narrow(-1, 0, 1)
        .where_self(&hit.narrow(-1, 0, 1), &order.narrow(-1, 0, 1).zeros_like());
    let found = order.where_self(&hit, &first);
    if num > kept {
        return Tensor::cat(&[found, first.repeat([1, 1, num - kept])], -1);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::plane::tests::{cloud, indices};
    use super::*;

    #[test]
    fn tensor_form_equals_the_cpu_form() {
        let (points, queries) = (cloud(2, 150, 5), cloud(2, 20, 6));
        for (radius, num) in [(0.3, 4), (0.6, 16), (f64::INFINITY, 24), (0.6, 200)] {
            assert_eq!(
                indices(&nearest_within(&points, &queries, radius, num)),
                indices(&nearest_batched(
                    &points,
                    &queries,
                    radius as f32 * radius as f32,
                    num
                )),
                "radius {radius}, {num} neighbors"
            );
        }
    }

    #[test]
    fn ties_go_to_the_lower_index_and_free_places_to_the_nearest() {
        let points = Tensor::from_slice(&[1.0f32, 0.0, 0.0, -1.0, 0.0, 0.0, 0.1, 0.0, 0.0]).view([1, 3, 3]);
        let query = Tensor::from_slice(&[0.0f32, 0.0, 0.0]).view([1, 1, 3]);
        assert_eq!(
            indices(&nearest(&points, &query, 3)),
            [2, 0, 1],
            "nearest first, then the lower index"
        );
        assert_eq!(
            indices(&nearest_within(&points, &query, 0.5, 3)),
            [2, 2, 2],
            "only one is within"
        );
    }
}
