//! Poisson-disk points by weighted sample elimination (Yuksel, 'Sample Elimination for Generating Poisson Disk
//! Sample Sets', 2015): of many points, the one that is most crowded goes, until the wanted number is left.
//!
//! Neighbors are found in a sorted grid and looked up again at each elimination instead of being stored, so memory
//! is linear in the points, however they cluster.

use std::{cmp::Ordering, collections::BinaryHeap, ops::Range};

use glam::Vec3;

/// Yuksel's beta and gamma: how much of the crowding at short distances is made equal, so that the result does not
/// follow the noise of the pool. (His alpha is the exponent 8 in [`Disk::weight`].)
const BETA: f64 = 0.65;
const GAMMA: f64 = 1.5;

/// Cells a side at most; three such numbers fit a 64-bit key.
const MAX_CELLS: u32 = (1 << 20) - 2;

/// Indices (ascending) of the `num_kept` points that stay.
pub(super) fn eliminate(points: &[Vec3], num_kept: usize, area: f64) -> Vec<usize> {
    if num_kept == 0 {
        return Vec::new();
    }
    let disk = Disk::new(points.len(), num_kept, area);
    let grid = Grid::new(points, disk.reach);
    let mut weights: Vec<f64> = (0..points.len())
        .map(|sorted| {
            let mut weight = 0.0;
            grid.for_each_candidate(sorted, |other, distance2| {
                weight += if other == sorted {
                    0.0
                } else {
                    disk.weight(distance2)
                };
            });
            weight
        })
        .collect();

    // Weights only fall, so an entry of the heap is never too low: one that is out of date goes back with its
    // present weight, one that is not is the most crowded point.
    let mut heap: BinaryHeap<Crowded> = (0..points.len())
        .map(|sorted| Crowded {
            weight: weights[sorted],
            sorted,
        })
        .collect();
    let mut alive = vec![true; points.len()];
    let mut num_left = points.len();
    while num_left > num_kept {
        let Crowded { weight, sorted } = heap.pop().expect("every point that is left has an entry");
        if weight > weights[sorted] {
            heap.push(Crowded {
                weight: weights[sorted],
                sorted,
            });
            continue;
        }
        alive[sorted] = false;
        num_left -= 1;
        grid.for_each_candidate(sorted, |other, distance2| {
            if alive[other] {
                weights[other] -= disk.weight(distance2);
            }
        });
    }
    let mut kept: Vec<usize> = (0..points.len())
        .filter(|&sorted| alive[sorted])
        .map(|sorted| grid.index[sorted])
        .collect();
    kept.sort_unstable();
    kept
}

/// An entry of the heap: most crowded first, among equals the one that comes first in the grid.
struct Crowded {
    weight: f64,
    sorted: usize,
}

impl Ord for Crowded {
    fn cmp(&self, other: &Self) -> Ordering {
        self.weight
            .total_cmp(&other.weight)
            .then(other.sorted.cmp(&self.sorted))
    }
}

impl PartialOrd for Crowded {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Crowded {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Crowded {}

/// How much a neighbor counts.
struct Disk {
    /// Twice Yuksel's `r_max`: farther points don't count.
    reach: f64,
    /// Twice Yuksel's `r_min`: nearer points count as if they were this far.
    nearest: f64,
}

impl Disk {
    fn new(num_points: usize, num_kept: usize, area: f64) -> Self {
        // The radius of the densest packing of `num_kept` discs on this area.
        let radius = (area / (2.0 * 3.0_f64.sqrt() * num_kept as f64)).sqrt();
        let share = num_kept as f64 / num_points as f64;
        let reach = 2.0 * radius;
        Self {
            reach,
            nearest: reach * BETA * (1.0 - share.powf(GAMMA)),
        }
    }

    fn weight(&self, distance2: f32) -> f64 {
        let distance = f64::from(distance2).sqrt().max(self.nearest);
        if distance >= self.reach {
            return 0.0;
        }
        let closeness = 1.0 - distance / self.reach;
        let squared = closeness * closeness;
        let fourth = squared * squared;
        fourth * fourth
    }
}

/// Points sorted by the cell that they are in, x first and z last, so that three cells in a row are one run.
struct Grid {
    /// Positions in grid order.
    points: Vec<Vec3>,
    /// For a place in grid order, the index of the point.
    index: Vec<usize>,
    /// For a place in grid order, the cell.
    cell: Vec<u32>,
    /// For every cell that holds points, the runs of its own and the eight neighboring rows.
    runs: Vec<[Range<u32>; 9]>,
}

impl Grid {
    fn new(points: &[Vec3], reach: f64) -> Self {
        let (low, high) = points
            .iter()
            .fold((Vec3::INFINITY, Vec3::NEG_INFINITY), |(low, high), &point| {
                (low.min(point), high.max(point))
            });
        let size = reach.max(f64::from((high - low).max_element()) / f64::from(MAX_CELLS - 1));
        // Counting from 1 leaves room for the neighbors of the first cells.
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
        }
    }

    /// Calls `visit` with the place and the squared distance of every point in the 27 cells around `sorted`'s,
    /// itself included.
    fn for_each_candidate(&self, sorted: usize, mut visit: impl FnMut(usize, f32)) {
        let point = self.points[sorted];
        for run in &self.runs[self.cell[sorted] as usize] {
            let run = run.start as usize..run.end as usize;
            for (other, candidate) in run.clone().zip(&self.points[run]) {
                visit(other, point.distance_squared(*candidate));
            }
        }
    }
}

/// The nine rows of three cells around each cell. Keys ascend, so the ends of each row only move forward.
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

    /// The same by definition: all pairs, and a search for the most crowded point at every step.
    fn eliminate_slowly(points: &[Vec3], num_kept: usize, area: f64) -> Vec<usize> {
        let disk = Disk::new(points.len(), num_kept, area);
        let mut left: Vec<usize> = (0..points.len()).collect();
        while left.len() > num_kept {
            let weight = |&index: &usize| -> f64 {
                let others = left.iter().filter(|&&other| other != index);
                others
                    .map(|&other| disk.weight(points[index].distance_squared(points[other])))
                    .sum()
            };
            let weights: Vec<f64> = left.iter().map(weight).collect();
            let crowded = (0..left.len()).max_by(|&a, &b| weights[a].total_cmp(&weights[b]));
            left.remove(crowded.expect("points are left"));
        }
        left
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(
            points in prop::collection::vec(prop::array::uniform3(0.001..1.0_f32), 8..60),
        ) {
            let points: Vec<Vec3> = points.into_iter().map(Vec3::from).collect();
            // Most points stay and the reach spans the cube: no two weights are equal, none is zero.
            let num_kept = points.len() * 3 / 4;
            let area = 4.0 * num_kept as f64;
            prop_assert_eq!(eliminate(&points, num_kept, area), eliminate_slowly(&points, num_kept, area));
        }

        #[test]
        fn the_grid_finds_every_neighbor_once(
            points in prop::collection::vec(prop::array::uniform3(0.0..1.0_f32), 1..80), reach in 0.01..0.6_f64,
        ) {
            let points: Vec<Vec3> = points.into_iter().map(Vec3::from).collect();
            let grid = Grid::new(&points, reach);
            for sorted in 0..points.len() {
                let mut found = Vec::new();
                grid.for_each_candidate(sorted, |other, distance2| {
                    if f64::from(distance2).sqrt() < reach {
                        found.push(grid.index[other]);
                    }
                });
                found.sort_unstable();
                let point = points[grid.index[sorted]];
                let near = |index: &usize| f64::from(point.distance_squared(points[*index])).sqrt() < reach;
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
