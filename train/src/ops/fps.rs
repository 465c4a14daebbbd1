//! Farthest-point sampling (`docs/method.md`, "Geometric primitives").

use tch::{Device, Kind, Tensor};

use super::plane::{Axes, Planes, index_rows, prepared, size3};

/// Distance that every point starts with, as in the kernel.
const INITIAL_DISTANCE: f32 = 1e10;
/// Most threads a block of the kernel has; it decides between tied points.
const MAX_THREADS: usize = 1024;

/// Indices of `num` points a cloud, each the one farthest from all before it, from index 0 on.
///
/// Among points at exactly the same distance the kernel's reduction tree decides: the point whose index modulo
/// S = min(1024, largest power of two ≤ N) comes first in bit-reversed order, then the lower index.
///
/// # Shapes
/// - `xyz`: B,N,3
/// - returns B,`num` of `i64`
pub fn farthest_points(xyz: &Tensor, num: i64) -> Tensor {
    let xyz = prepared(xyz);
    if xyz.device() != Device::Cpu {
        return farthest_points_batched(&xyz, num);
    }
    let planes = Planes::new(&xyz);
    index_rows(xyz.size()[0], &[num], |batch_idx, row| {
        farthest_points_of_cloud(planes.cloud(batch_idx), row);
    })
}

/// Number of points that share a reduction slot, and how many bits a slot has.
fn num_slots(num_points: usize) -> usize {
    let power = if num_points.is_power_of_two() {
        num_points
    } else {
        num_points.next_power_of_two() / 2
    };
    power.clamp(1, MAX_THREADS)
}

/// Rank of a point among tied ones: lower wins.
fn tie_rank(idx: usize, num_slots: usize) -> (usize, usize) {
    let slot = idx % num_slots;
    let bits = num_slots.trailing_zeros();
    let reversed = if bits == 0 {
        0
    } else {
        slot.reverse_bits() >> (usize::BITS - bits)
    };
    (reversed, idx)
}

fn farthest_points_of_cloud(cloud: Axes<'_>, out: &mut [i64]) {
    let len = cloud.len();
    let num_slots = num_slots(len);
    let mut distances = vec![INITIAL_DISTANCE; len];
    let mut current = 0;
    for (out_idx, out) in out.iter_mut().enumerate() {
        if out_idx > 0 {
            current = farthest(cloud, current, &mut distances, num_slots);
        }
        *out = current as i64;
    }
}

/// Lowers the running distances by those to `current` and returns the farthest point.
fn farthest(cloud: Axes<'_>, current: usize, distances: &mut [f32], num_slots: usize) -> usize {
    const LANES: usize = 16;
    let [cx, cy, cz] = cloud.point(current);
    let lower = |distance: &mut f32, x: f32, y: f32, z: f32| {
        let (dx, dy, dz) = (x - cx, y - cy, z - cz);
        let squared = dx * dx + dy * dy + dz * dz;
        *distance = if squared < *distance { squared } else { *distance };
        *distance
    };
    let mut lane_max = [f32::NEG_INFINITY; LANES];
    let mut blocks = distances.chunks_exact_mut(LANES);
    let axes = cloud
        .x
        .chunks_exact(LANES)
        .zip(cloud.y.chunks_exact(LANES))
        .zip(cloud.z.chunks_exact(LANES));
    for (block, ((x, y), z)) in (&mut blocks).zip(axes) {
        for lane in 0..LANES {
            let distance = lower(&mut block[lane], x[lane], y[lane], z[lane]);
            lane_max[lane] = if distance > lane_max[lane] {
                distance
            } else {
                lane_max[lane]
            };
        }
    }
    let rest = blocks.into_remainder();
    let first = cloud.len() - rest.len();
    let mut max = lane_max.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for (i, distance) in rest.iter_mut().enumerate() {
        max = max.max(lower(
            distance,
            cloud.x[first + i],
            cloud.y[first + i],
            cloud.z[first + i],
        ));
    }
    // `current` only stays if no distance is a number.
    first_by_rank(distances, max, num_slots).unwrap_or(current)
}

/// Where the distance is `max`; among several places the one of lowest rank.
fn first_by_rank(distances: &[f32], max: f32, num_slots: usize) -> Option<usize> {
    const BLOCK: usize = 32;
    let blocks = distances.chunks(BLOCK).enumerate();
    // One vectorized test a block passes over nearly all of them.
    let num_hits = |block: &[f32]| {
        block
            .iter()
            .map(|&distance| u32::from(distance >= max))
            .sum::<u32>()
    };
    let hits = blocks.filter(|(_, block)| num_hits(block) > 0);
    let places = hits.flat_map(|(block_idx, block)| {
        let place = move |(i, &distance): (usize, &f32)| (distance >= max).then_some(block_idx * BLOCK + i);
        block.iter().enumerate().filter_map(place)
    });
    places.min_by_key(|&idx| tie_rank(idx, num_slots))
}

/// The same on any device: points are put in the order of their tie rank, so that the first maximum is the right one.
fn farthest_points_batched(xyz: &Tensor, num: i64) -> Tensor {
    let (batch, num_points, _) = size3(xyz);
    let device = xyz.device();
    let num_slots = num_slots(num_points as usize);
    let mut order: Vec<usize> = (0..num_points as usize).collect();
    order.sort_by_key(|&idx| tie_rank(idx, num_slots));
    let order: Vec<i64> = order.into_iter().map(|idx| idx as i64).collect();
    let order = Tensor::from_slice(&order).to_device(device);
    let ranked = xyz.index_select(1, &order);
    let mut distances = Tensor::full(
        [batch, num_points],
        f64::from(INITIAL_DISTANCE),
        (Kind::Float, device),
    );
    // Index 0 has tie rank 0 as well.
    let mut current = Tensor::zeros([batch, 1], (Kind::Int64, device));
    let mut chosen = vec![current.shallow_clone()];
    for _ in 1..num {
        let point = ranked.gather(1, &current.unsqueeze(2).expand([batch, 1, 3], true), false);
        let difference = &ranked - point;
        let squared = &difference * &difference;
        let squared = (squared.select(2, 0) + squared.select(2, 1)) + squared.select(2, 2);
        distances = distances.minimum(&squared);
        current = distances.argmax(1, true);
        chosen.push(current.shallow_clone());
    }
    let chosen = Tensor::cat(&chosen, 1);
    order.index_select(0, &chosen.view(-1)).view([batch, num])
}

#[cfg(test)]
mod tests {
    use super::super::plane::tests::{cloud, indices};
    use super::*;

    #[test]
    fn tensor_form_equals_the_cpu_form() {
        for num_points in [1, 37, 64, 200, 1024, 1500] {
            let xyz = cloud(2, num_points, 7);
            let num = num_points.min(64);
            assert_eq!(
                indices(&farthest_points(&xyz, num)),
                indices(&farthest_points_batched(&xyz, num)),
                "N = {num_points}"
            );
        }
    }

    #[test]
    fn ties_follow_the_reduction_tree() {
        // Four corners of a square and its center twice: after the center all corners tie.
        let corners = [
            [0.0f32, 0.0, 0.0],
            [1.0, 1.0, 0.0],
            [1.0, -1.0, 0.0],
            [-1.0, 1.0, 0.0],
            [-1.0, -1.0, 0.0],
        ];
        let xyz = Tensor::from_slice(&corners.concat()).view([1, 5, 3]);
        // Four slots: bit-reversed order 0, 2, 1, 3, and index 4 shares slot 0, so it comes first.
        assert_eq!(
            indices(&farthest_points(&xyz, 2)),
            [0, 4],
            "the corner in slot 0 wins"
        );
        assert_eq!(
            indices(&farthest_points_batched(&xyz, 2)),
            [0, 4],
            "and so it does in tensor form"
        );
    }

    #[test]
    fn more_points_asked_than_there_are_repeats_some() {
        let xyz = cloud(1, 3, 1);
        let chosen = indices(&farthest_points(&xyz, 6));
        assert_eq!(chosen.len(), 6, "the count is kept");
        assert!(
            chosen.iter().all(|&idx| (0..3).contains(&idx)),
            "indices stay in range: {chosen:?}"
        );
    }
}
