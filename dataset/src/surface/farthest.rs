//! Farthest-point sampling, exact: bit for bit what the plain quadratic loop gives.
//!
//! Points lie in the leaves of a k-d split, each leaf with its box. A new point can shorten distances in a leaf
//! only if its distance to the box is below the leaf's largest, so that after the first few points most leaves
//! are passed over.

use glam::Vec3;

/// Points in a leaf: small enough to be passed over often, large enough for vector instructions.
const LEAF_LEN: usize = 64;

/// Indices of `num_chosen` points in the order of their choice, beginning with point 0.
///
/// Among equally far points the one with the lowest index is taken. All points are at finite positions, and there
/// are at least `num_chosen`.
pub(super) fn choose(points: &[Vec3], num_chosen: usize) -> Vec<usize> {
    if num_chosen == 0 {
        return Vec::new();
    }
    let mut leaves = SplitPoints::new(points);
    let mut chosen = vec![0];
    while chosen.len() < num_chosen {
        leaves.move_closer(points[chosen[chosen.len() - 1]]);
        chosen.push(leaves.farthest());
    }
    chosen
}

struct Leaf {
    low: Vec3,
    high: Vec3,
    start: usize,
    end: usize,
    /// The largest distance in the leaf and the lowest index of a point that has it.
    farthest: (f32, u32),
}

struct SplitPoints {
    leaves: Vec<Leaf>,
    x: Vec<f32>,
    y: Vec<f32>,
    z: Vec<f32>,
    /// Squared distance to the nearest chosen point.
    distance2: Vec<f32>,
    /// Point indices, ascending within a leaf.
    index: Vec<u32>,
}

impl SplitPoints {
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

    fn move_closer(&mut self, point: Vec3) {
        for leaf in &mut self.leaves {
            // Rounding is monotone and the terms are those of `distance2`, so this is a true lower bound.
            let outside = (leaf.low - point).max(point - leaf.high).max(Vec3::ZERO);
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

/// Halves the points along the longest side of their box until they fit into leaves.
fn split(points: &[Vec3], index: &mut [u32], start: usize, leaves: &mut Vec<Leaf>) {
    let (low, high) = index
        .iter()
        .fold((Vec3::INFINITY, Vec3::NEG_INFINITY), |(low, high), &index| {
            (low.min(points[index as usize]), high.max(points[index as usize]))
        });
    if index.len() <= LEAF_LEN {
        index.sort_unstable();
        let farthest = (f32::INFINITY, index.first().copied().unwrap_or(0));
        leaves.push(Leaf {
            low,
            high,
            start,
            end: start + index.len(),
            farthest,
        });
        return;
    }
    let axis = (high - low).max_position();
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

    fn choose_slowly(points: &[Vec3], num_chosen: usize) -> Vec<usize> {
        let mut distance2 = vec![f32::INFINITY; points.len()];
        let mut chosen = vec![0];
        while chosen.len() < num_chosen {
            let last = points[chosen[chosen.len() - 1]];
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
            chosen.push(farthest);
        }
        chosen
    }

    proptest! {
        #[test]
        fn agrees_with_the_plain_loop(
            points in prop::collection::vec(prop::array::uniform3(-1.0..1.0_f32), 1..600), share in 1..4_usize,
        ) {
            let points: Vec<Vec3> = points.into_iter().map(Vec3::from).collect();
            let num_chosen = points.len().div_ceil(share);
            prop_assert_eq!(choose(&points, num_chosen), choose_slowly(&points, num_chosen));
        }

        #[test]
        fn ties_go_to_the_lowest_index(
            points in prop::collection::vec(prop::array::uniform3(-3..3_i8), 100..400),
        ) {
            let points: Vec<Vec3> = points.into_iter().map(|point| Vec3::from(point.map(f32::from))).collect();
            prop_assert_eq!(choose(&points, 100), choose_slowly(&points, 100));
        }
    }
}
