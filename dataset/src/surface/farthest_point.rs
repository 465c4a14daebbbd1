//! Exact farthest-point sampling, bit-identical to the quadratic algorithm.
//!
//! Points are stored in the leaves of a k-d tree with bounding boxes. A new point can reduce distances in a
//! leaf only if its distance to the box is below the leaf's largest distance, so most leaves are skipped.

use glam::Vec3;

use crate::spatial::{KdLeaves, Leaf};

/// Indices of `num_selected` points in selection order, starting with point 0.
///
/// Ties go to the lowest index. Positions must be finite, and there must be at least `num_selected`.
pub(super) fn select(points: &[Vec3], num_selected: usize) -> Vec<usize> {
    if num_selected == 0 {
        return Vec::new();
    }
    let mut distances = Distances::new(points);
    let mut selected = vec![0];
    while selected.len() < num_selected {
        distances.update(points[selected[selected.len() - 1]]);
        selected.push(distances.farthest());
    }
    selected
}

/// Squared distance of every point to the nearest selected one.
struct Distances {
    index: KdLeaves,
    /// In leaf order.
    distance2: Vec<f32>,
    /// Per leaf, its largest distance and the lowest index of a point with it.
    farthest: Vec<(f32, u32)>,
}

impl Distances {
    fn new(points: &[Vec3]) -> Self {
        let index = KdLeaves::new(points);
        let first = |leaf: &Leaf| index.points_of(leaf).index.first().copied().unwrap_or(0);
        Self {
            distance2: vec![f32::INFINITY; points.len()],
            farthest: index
                .leaves()
                .iter()
                .map(|leaf| (f32::INFINITY, first(leaf)))
                .collect(),
            index,
        }
    }

    fn update(&mut self, point: Vec3) {
        for (leaf, farthest) in self.index.leaves().iter().zip(&mut self.farthest) {
            if leaf.min_distance2(point) >= farthest.0 {
                continue;
            }
            let points = self.index.points_of(leaf);
            let distance2 = &mut self.distance2[leaf.range()];
            for (distance2, new) in distance2.iter_mut().zip(points.distances2(point)) {
                *distance2 = if new < *distance2 { new } else { *distance2 };
            }
            let largest = distance2.iter().fold(
                0.0,
                |largest, &distance2| {
                    if distance2 > largest { distance2 } else { largest }
                },
            );
            let place = distance2.iter().position(|&distance2| distance2 >= largest);
            *farthest = (largest, points.index[place.unwrap_or(0)]);
        }
    }

    fn farthest(&self) -> usize {
        let mut best = (-1.0, 0);
        for &(distance2, index) in &self.farthest {
            if distance2 > best.0 || (distance2 >= best.0 && index < best.1) {
                best = (distance2, index);
            }
        }
        best.1 as usize
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn select_brute_force(points: &[Vec3], num_selected: usize) -> Vec<usize> {
        let mut distance2 = vec![f32::INFINITY; points.len()];
        let mut selected = vec![0];
        while selected.len() < num_selected {
            let last = points[selected[selected.len() - 1]];
            let mut farthest = 0;
            for (index, point) in points.iter().enumerate() {
                let difference = *point - last;
                let new =
                    difference.x * difference.x + difference.y * difference.y + difference.z * difference.z;
                distance2[index] = distance2[index].min(new);
                if distance2[index] > distance2[farthest] {
                    farthest = index;
                }
            }
            selected.push(farthest);
        }
        selected
    }

    proptest! {
        #[test]
        fn agrees_with_the_quadratic_algorithm(
            points in prop::collection::vec(prop::array::uniform3(-1.0..1.0_f32), 1..600), share in 1..4_usize,
        ) {
            let points: Vec<Vec3> = points.into_iter().map(Vec3::from).collect();
            let num_selected = points.len().div_ceil(share);
            prop_assert_eq!(select(&points, num_selected), select_brute_force(&points, num_selected));
        }

        #[test]
        fn ties_go_to_the_lowest_index(
            points in prop::collection::vec(prop::array::uniform3(-3..3_i8), 100..400),
        ) {
            let points: Vec<Vec3> = points.into_iter().map(|point| Vec3::from(point.map(f32::from))).collect();
            prop_assert_eq!(select(&points, 100), select_brute_force(&points, 100));
        }
    }
}
