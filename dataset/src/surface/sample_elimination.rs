//! Poisson-disk points by weighted sample elimination (Yuksel, 'Sample Elimination for Generating Poisson
//! Disk Sample Sets', 2015): repeatedly removes the point with the largest weight.
//!
//! Neighbors are found in a sorted grid and looked up again at each elimination, so memory is linear in the
//! points, however clustered.

use std::ops::Range;

use glam::Vec3;

/// Yuksel's beta and gamma, which limit the weight of short distances so that the result does not follow
/// noise in the pool. (Alpha is the exponent 8 in [`WeightFunction::weight`].)
const BETA: f64 = 0.65;
const GAMMA: f64 = 1.5;

/// Cells per side; three coordinates fit a 64-bit key.
const MAX_CELLS: u32 = (1 << 20) - 2;

/// Indices, ascending, of the `num_kept` remaining points.
pub(super) fn eliminate(points: &[Vec3], num_kept: usize, area: f64) -> Vec<usize> {
    if num_kept == 0 {
        return Vec::new();
    }
    let weight_fn = WeightFunction::new(points.len(), num_kept, area);
    let grid = Grid::new(points, weight_fn.radius);
    let weights = (0..points.len())
        .map(|sorted| {
            let mut weight = 0.0;
            grid.for_each_neighbor(sorted, |other, distance2| {
                weight += if other == sorted {
                    0.0
                } else {
                    weight_fn.weight(distance2)
                };
            });
            weight
        })
        .collect();
    let mut tree = WinnerTree::new(weights);
    for _ in num_kept..points.len() {
        let heaviest = tree.winner();
        tree.set(heaviest, f64::NEG_INFINITY);
        grid.for_each_neighbor(heaviest, |other, distance2| {
            let weight = tree.weights[other];
            if weight > f64::NEG_INFINITY {
                tree.set(other, weight - weight_fn.weight(distance2));
            }
        });
    }
    let is_left = |sorted: &usize| tree.weights[*sorted] > f64::NEG_INFINITY;
    let mut kept: Vec<usize> = (0..points.len())
        .filter(is_left)
        .map(|sorted| grid.index[sorted])
        .collect();
    kept.sort_unstable();
    kept
}

/// Winner tree over the weights: the root is the point with the largest weight.
///
/// Faster than a heap here: most updates concern points that already lose at the lowest level, and stop
/// there.
struct WinnerTree {
    weights: Vec<f64>,
    /// The root is 1, the children of `node` are `2 * node` and `2 * node + 1`, the points are the leaves.
    winners: Vec<u32>,
    num_leaves: usize,
}

impl WinnerTree {
    fn new(mut weights: Vec<f64>) -> Self {
        let num_leaves = weights.len().next_power_of_two();
        weights.resize(num_leaves, f64::NEG_INFINITY);
        let mut winners: Vec<u32> = (0..2 * num_leaves)
            .map(|node| node.saturating_sub(num_leaves) as u32)
            .collect();
        for node in (1..num_leaves).rev() {
            winners[node] = heavier(&weights, winners[2 * node], winners[2 * node + 1]);
        }
        Self {
            weights,
            winners,
            num_leaves,
        }
    }

    fn winner(&self) -> usize {
        self.winners[1] as usize
    }

    fn set(&mut self, point: usize, weight: f64) {
        self.weights[point] = weight;
        let mut node = (self.num_leaves + point) >> 1;
        while node > 0 {
            let winner = heavier(&self.weights, self.winners[2 * node], self.winners[2 * node + 1]);
            if winner == self.winners[node] && winner as usize != point {
                return;
            }
            self.winners[node] = winner;
            node /= 2;
        }
    }
}

/// The point with the larger weight; the left one if equal.
fn heavier(weights: &[f64], left: u32, right: u32) -> u32 {
    if weights[right as usize] > weights[left as usize] {
        right
    } else {
        left
    }
}

/// Weight contribution of a neighbor.
struct WeightFunction {
    /// Twice Yuksel's `r_max`: points farther away do not count.
    radius: f64,
    /// Twice Yuksel's `r_min`: closer points count as if at this distance.
    min_distance: f64,
}

impl WeightFunction {
    fn new(num_points: usize, num_kept: usize, area: f64) -> Self {
        // Radius of the densest packing of `num_kept` disks on this area.
        let radius = (area / (2.0 * 3.0_f64.sqrt() * num_kept as f64)).sqrt();
        let share = num_kept as f64 / num_points as f64;
        let radius = 2.0 * radius;
        Self {
            radius,
            min_distance: radius * BETA * (1.0 - share.powf(GAMMA)),
        }
    }

    fn weight(&self, distance2: f32) -> f64 {
        let distance2 = f64::from(distance2);
        if distance2 >= self.radius * self.radius {
            return 0.0;
        }
        let distance = distance2.sqrt().max(self.min_distance);
        let closeness = 1.0 - distance / self.radius;
        let squared = closeness * closeness;
        let fourth = squared * squared;
        fourth * fourth
    }
}

/// Points sorted by cell, x first and z last, so that three cells in a row are contiguous.
struct Grid {
    /// Positions in grid order.
    points: Vec<Vec3>,
    /// Original index of each point in grid order.
    index: Vec<usize>,
    /// Cell of each point in grid order.
    cell: Vec<u32>,
    /// For each non-empty cell, the index ranges of its row and the eight neighboring rows.
    runs: Vec<[Range<u32>; 9]>,
    radius2: f32,
}

impl Grid {
    fn new(points: &[Vec3], radius: f64) -> Self {
        let (low, high) = points
            .iter()
            .fold((Vec3::INFINITY, Vec3::NEG_INFINITY), |(low, high), &point| {
                (low.min(point), high.max(point))
            });
        let size = radius.max(f64::from((high - low).max_element()) / f64::from(MAX_CELLS - 1));
        // Counting from 1 leaves room for neighbors of the first cells.
        let key_of = |point: Vec3| {
            let cell = ((point - low).as_dvec3() / size).floor();
            [cell.x, cell.y, cell.z]
                .iter()
                .fold(0, |key, &along| key << 21 | (along as u64 + 1))
        };
        let mut order: Vec<(u64, usize)> = points
            .iter()
            .enumerate()
            .map(|(index, &point)| (key_of(point), index))
            .collect();
        order.sort_unstable();

        let mut cell = Vec::with_capacity(points.len());
        let mut keys = Vec::new();
        for chunk in order.chunk_by(|left, right| left.0 == right.0) {
            cell.extend(std::iter::repeat_n(keys.len() as u32, chunk.len()));
            keys.push(chunk[0].0);
        }
        Self {
            points: order.iter().map(|&(_, index)| points[index]).collect(),
            index: order.iter().map(|&(_, index)| index).collect(),
            cell,
            runs: neighbor_runs(&order, &keys),
            radius2: (radius * radius) as f32,
        }
    }

    /// Calls `visit` with grid index and squared distance of every point within the radius, including the
    /// point itself.
    fn for_each_neighbor(&self, sorted: usize, mut visit: impl FnMut(usize, f32)) {
        let point = self.points[sorted];
        for run in &self.runs[self.cell[sorted] as usize] {
            let run = run.start as usize..run.end as usize;
            for (other, candidate) in run.clone().zip(&self.points[run]) {
                let distance2 = point.distance_squared(*candidate);
                if distance2 < self.radius2 {
                    visit(other, distance2);
                }
            }
        }
    }
}

/// The nine rows of three cells around each cell. Keys ascend, so range ends only move forward.
fn neighbor_runs(order: &[(u64, usize)], keys: &[u64]) -> Vec<[Range<u32>; 9]> {
    const X: i64 = 1 << 42;
    const Y: i64 = 1 << 21;
    let offsets = [-X - Y, -X, -X + Y, -Y, 0, Y, X - Y, X, X + Y];
    let mut ends: [Range<u32>; 9] = std::array::from_fn(|_| 0..0);
    let forward = |from: u32, below: u64| {
        let rest = &order[from as usize..];
        from + rest.iter().take_while(|(key, _)| *key < below).count() as u32
    };
    keys.iter()
        .map(|&key| {
            for (run, &offset) in ends.iter_mut().zip(&offsets) {
                let middle = key.wrapping_add_signed(offset);
                run.start = forward(run.start, middle - 1);
                run.end = forward(run.end.max(run.start), middle + 2);
            }
            ends.clone()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reference implementation: all pairs, and a linear search at every step.
    fn eliminate_brute_force(points: &[Vec3], num_kept: usize, area: f64) -> Vec<usize> {
        let weight_fn = WeightFunction::new(points.len(), num_kept, area);
        let mut left: Vec<usize> = (0..points.len()).collect();
        while left.len() > num_kept {
            let weight = |&index: &usize| -> f64 {
                let others = left.iter().filter(|&&other| other != index);
                others
                    .map(|&other| weight_fn.weight(points[index].distance_squared(points[other])))
                    .sum()
            };
            let weights: Vec<f64> = left.iter().map(weight).collect();
            let heaviest = (0..left.len()).max_by(|&a, &b| weights[a].total_cmp(&weights[b]));
            left.remove(heaviest.expect("points are left"));
        }
        left
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(
            points in prop::collection::vec(prop::array::uniform3(0.001..1.0_f32), 8..60),
        ) {
            let points: Vec<Vec3> = points.into_iter().map(Vec3::from).collect();
            // Most points stay and the radius spans the cube: no two weights are equal, none is zero.
            let num_kept = points.len() * 3 / 4;
            let area = 4.0 * num_kept as f64;
            prop_assert_eq!(eliminate(&points, num_kept, area), eliminate_brute_force(&points, num_kept, area));
        }

        #[test]
        fn the_grid_finds_every_neighbor_once(
            points in prop::collection::vec(prop::array::uniform3(0.0..1.0_f32), 1..80), radius in 0.01..0.6_f64,
        ) {
            let points: Vec<Vec3> = points.into_iter().map(Vec3::from).collect();
            let grid = Grid::new(&points, radius);
            for sorted in 0..points.len() {
                let mut found = Vec::new();
                grid.for_each_neighbor(sorted, |other, distance2| {
                    assert!(distance2 < grid.radius2, "only neighbors within radius");
                    found.push(grid.index[other]);
                });
                found.sort_unstable();
                let point = points[grid.index[sorted]];
                let near = |index: &usize| point.distance_squared(points[*index]) < grid.radius2;
                prop_assert_eq!(found, (0..points.len()).filter(near).collect::<Vec<_>>());
            }
        }

        #[test]
        fn any_points_give_the_exact_count(
            points in prop::collection::vec(prop::array::uniform3(-1e15..1e15_f32), 4..40), area in 1e-30..1e30_f64,
        ) {
            let points: Vec<Vec3> = points.into_iter().map(Vec3::from).collect();
            prop_assert_eq!(eliminate(&points, 3, area).len(), 3);
            prop_assert_eq!(eliminate(&[Vec3::ONE; 20], 3, area).len(), 3);
        }
    }
}
