//! Neighbors within a radius, in index order (`docs/method.md`, "Geometric primitives").

use tch::{Device, Kind, Tensor};

use super::plane::{Axes, Planes, index_rows, pairwise_squared_distances, prepared, size3};

/// For each query the first `num` points with d² < r² in index order; free places repeat the first hit, and a query
/// without any hit gets zeros. A query that is itself a point of the cloud is its own neighbor.
///
/// # Shapes
/// - `points`: B,N,3; `queries`: B,G,3
/// - returns B,G,`num` of `i64`
pub fn ball_query(points: &Tensor, queries: &Tensor, radius: f64, num: i64) -> Tensor {
    let (points, queries) = (prepared(points), prepared(queries));
    let squared_radius = radius as f32 * radius as f32;
    if points.device() != Device::Cpu {
        return ball_query_batched(&points, &queries, squared_radius, num);
    }
    let (batch, num_queries, _) = size3(&queries);
    let (points, queries) = (Planes::new(&points), Planes::new(&queries));
    index_rows(batch, &[num_queries, num], |batch_idx, row| {
        let (cloud, queries) = (points.cloud(batch_idx), queries.cloud(batch_idx));
        for (query_idx, row) in row.chunks_exact_mut(num as usize).enumerate() {
            query_cloud(cloud, queries.point(query_idx), squared_radius, row);
        }
    })
}

fn query_cloud(cloud: Axes<'_>, query: [f32; 3], squared_radius: f32, out: &mut [i64]) {
    const BLOCK: usize = 64;
    let mut squared = [0f32; BLOCK];
    let mut num_found = 0;
    let mut start = 0;
    while start < cloud.len() && num_found < out.len() {
        let end = cloud.len().min(start + BLOCK);
        let block = Axes {
            x: &cloud.x[start..end],
            y: &cloud.y[start..end],
            z: &cloud.z[start..end],
        };
        block.squared_distances(query, &mut squared);
        for (i, &squared) in squared[..end - start].iter().enumerate() {
            if squared < squared_radius {
                out[num_found] = (start + i) as i64;
                num_found += 1;
                if num_found == out.len() {
                    break;
                }
            }
        }
        start = end;
    }
    let fill = if num_found == 0 { 0 } else { out[0] };
    out[num_found..].fill(fill);
}

fn ball_query_batched(points: &Tensor, queries: &Tensor, squared_radius: f32, num: i64) -> Tensor {
    let num_points = points.size()[1];
    let hit = pairwise_squared_distances(queries, points).lt(f64::from(squared_radius));
    let index = Tensor::arange(num_points, (Kind::Int64, points.device())).view([1, 1, num_points]);
    let miss = Tensor::full([1, 1, 1], num_points, (Kind::Int64, points.device()));
    let ordered = index.where_self(&hit, &miss);
    let (found, _) = ordered.topk(num.min(num_points), -1, false, true);
    let first = found.narrow(-1, 0, 1);
    let first = first.where_self(&first.lt(num_points), &first.zeros_like());
    let found = found.where_self(&found.lt(num_points), &first);
    if num > num_points {
        let missing = first.repeat([1, 1, num - num_points]);
        return Tensor::cat(&[found, missing], -1);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::plane::tests::{cloud, indices};
    use super::*;

    #[test]
    fn tensor_form_equals_the_cpu_form() {
        let (points, queries) = (cloud(2, 150, 3), cloud(2, 20, 4));
        for (radius, num) in [(0.2, 4), (0.5, 16), (3.0, 8), (0.6, 200)] {
            let squared = radius as f32 * radius as f32;
            assert_eq!(
                indices(&ball_query(&points, &queries, radius, num)),
                indices(&ball_query_batched(&points, &queries, squared, num)),
                "radius {radius}, {num} neighbors"
            );
        }
    }

    #[test]
    fn the_radius_is_open_and_misses_are_filled() {
        let points = Tensor::from_slice(&[0.0f32, 0.0, 0.0, 0.5, 0.0, 0.0, 0.25, 0.0, 0.0]).view([1, 3, 3]);
        let queries = Tensor::from_slice(&[0.0f32, 0.0, 0.0, 9.0, 9.0, 9.0]).view([1, 2, 3]);
        assert_eq!(
            indices(&ball_query(&points, &queries, 0.5, 3)),
            [0, 2, 0, 0, 0, 0],
            "0.5 itself is outside"
        );
    }
}
