//! Exact farthest-point sampling, bit-identical to the quadratic algorithm.
//!
//! Points are stored in the leaves of a k-d tree with bounding boxes. A new point can reduce distances in a
//! leaf only if its distance to the box is below the leaf's largest distance, so most leaves are skipped.

use glam::Vec3;

/// Points per leaf: small enough to skip often, large enough to vectorize.
const LEAF_LEN: usize = 64;

/// Indices of `num_selected` points in selection order, starting with point 0.
///
/// Ties go to the lowest index. Positions must be finite, and there must be at least `num_selected`.
pub(super) fn select(points: &[Vec3], num_selected: usize) -> Vec<usize> {
    if num_selected == 0 {
        return Vec::new();
    }
    let mut leaves = KdLeaves::new(points);
    let mut selected = vec![0];
    while selected.len() < num_selected {
        leaves.update_distances(points[selected[selected.len() - 1]]);
        selected.push(leaves.farthest());
    }
    selected
}

struct Leaf {
    min: Vec3,
    max: Vec3,
    start: usize,
    end: usize,
    /// Largest distance in the leaf and the lowest index of a point with it.
    farthest: (f32, u32),
}

struct KdLeaves {
    leaves: Vec<Leaf>,
    x: Vec<f32>,
    y: Vec<f32>,
    z: Vec<f32>,
    /// Squared distance to the nearest selected point.
    distance2: Vec<f32>,
    /// Point indices, ascending within a leaf.
    index: Vec<u32>,
}

impl KdLeaves {
    fn new(points: &[Vec3]) -> Self {
        let mut index: Vec<u32> = (0..points.len() as u32).collect();
        let mut leaves = Vec::new();
        split(points, &mut index, 0, &mut leaves);
        let along = |axis: usize| index.iter().map(|&index| points[index as usize][axis]).collect();
        Self {
            leaves,
            x: along(0),
            y: along(1),
            z: along(2),
            distance2: vec![f32::INFINITY; points.len()],
            index,
        }
    }

    fn update_distances(&mut self, point: Vec3) {
        for leaf in &mut self.leaves {
            // Rounding is monotone and the terms match those of `distance2`, so this is a true lower bound.
            let outside = (leaf.min - point).max(point - leaf.max).max(Vec3::ZERO);
            let bound = outside.x * outside.x + outside.y * outside.y + outside.z * outside.z;
            if bound >= leaf.farthest.0 {
                continue;
            }
            let range = leaf.start..leaf.end;
            let distance2 = &mut self.distance2[range.clone()];
            let (x, y, z) = (
                &self.x[range.clone()],
                &self.y[range.clone()],
                &self.z[range.clone()],
            );
            for (((distance2, x), y), z) in distance2.iter_mut().zip(x).zip(y).zip(z) {
                let (dx, dy, dz) = (x - point.x, y - point.y, z - point.z);
                let new = dx * dx + dy * dy + dz * dz;
                *distance2 = if new < *distance2 { new } else { *distance2 };
            }
            let largest = distance2.iter().fold(
                0.0,
                |largest, &distance2| {
                    if distance2 > largest { distance2 } else { largest }
                },
            );
            let place = distance2.iter().position(|&distance2| distance2 >= largest);
            leaf.farthest = (largest, self.index[leaf.start + place.unwrap_or(0)]);
        }
    }

    fn farthest(&self) -> usize {
        let mut best = (-1.0, 0);
        for &Leaf {
            farthest: (distance2, index),
            ..
        } in &self.leaves
        {
            if distance2 > best.0 || (distance2 >= best.0 && index < best.1) {
                best = (distance2, index);
            }
        }
        best.1 as usize
    }
}

/// Splits at the median of the longest axis until points fit into leaves.
fn split(points: &[Vec3], index: &mut [u32], start: usize, leaves: &mut Vec<Leaf>) {
    let (min, max) = index
        .iter()
        .fold((Vec3::INFINITY, Vec3::NEG_INFINITY), |(min, max), &index| {
            (min.min(points[index as usize]), max.max(points[index as usize]))
        });
    if index.len() <= LEAF_LEN {
        index.sort_unstable();
        let farthest = (f32::INFINITY, index.first().copied().unwrap_or(0));
        leaves.push(Leaf {
            min,
            max,
            start,
            end: start + index.len(),
            farthest,
        });
        return;
    }
    let axis = (max - min).max_position();
    let middle = index.len() / 2;
    index.select_nth_unstable_by(middle, |&left, &right| {
        points[left as usize][axis]
            .total_cmp(&points[right as usize][axis])
            .then(left.cmp(&right))
    });
    let (left, right) = index.split_at_mut(middle);
    split(points, left, start, leaves);
    split(points, right, start + middle, leaves);
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
        fn agrees_with_the_plain_loop(
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
