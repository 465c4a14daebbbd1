//! [`KdLeaves`]: a k-d partition of points, for farthest-point sampling and nearest-neighbor queries.
//!
//! Only the leaves are kept, each with its bounding box: at the sizes used here (thousands of points) testing all
//! boxes is faster than descending a tree. Weighted sample elimination keeps its own grid, since its sums depend on the
//! order in which neighbors are visited.

use glam::Vec3;

/// Points per leaf: small enough to skip often, large enough to vectorize.
const LEAF_LEN: usize = 64;

/// Points sorted into leaves with bounding boxes.
#[derive(Debug, Clone)]
pub(crate) struct KdLeaves {
    leaves: Vec<Leaf>,
    x: Vec<f32>,
    y: Vec<f32>,
    z: Vec<f32>,
    /// Point indices, ascending within a leaf.
    index: Vec<u32>,
}

/// Bounding box and range of the points of a leaf.
#[derive(Debug, Clone)]
pub(crate) struct Leaf {
    min: Vec3,
    max: Vec3,
    start: usize,
    end: usize,
}

/// The points of a leaf.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LeafPoints<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) y: &'a [f32],
    pub(crate) z: &'a [f32],
    /// Ascending.
    pub(crate) index: &'a [u32],
}

impl Leaf {
    /// Lower bound on the squared distance from `point` to any point of the leaf. Rounding is monotone and the terms
    /// match those of [`LeafPoints::distances2`], so the bound holds exactly.
    #[inline]
    pub(crate) fn min_distance2(&self, point: Vec3) -> f32 {
        let outside = (self.min - point).max(point - self.max).max(Vec3::ZERO);
        outside.x * outside.x + outside.y * outside.y + outside.z * outside.z
    }

    /// Where its points are in leaf order.
    #[inline]
    pub(crate) fn range(&self) -> std::ops::Range<usize> {
        self.start..self.end
    }
}

impl LeafPoints<'_> {
    /// Squared distances from `point`, in order.
    #[inline]
    pub(crate) fn distances2(&self, point: Vec3) -> impl Iterator<Item = f32> {
        self.x.iter().zip(self.y).zip(self.z).map(move |((x, y), z)| {
            let (dx, dy, dz) = (x - point.x, y - point.y, z - point.z);
            dx * dx + dy * dy + dz * dz
        })
    }

    /// Smallest of [`Self::distances2`], in lanes that are compared side by side.
    #[inline]
    fn min_distance2(&self, point: Vec3) -> f32 {
        const NUM_LANES: usize = 8;
        let (x, last_x) = self.x.as_chunks::<NUM_LANES>();
        let (y, last_y) = self.y.as_chunks::<NUM_LANES>();
        let (z, last_z) = self.z.as_chunks::<NUM_LANES>();
        let mut lanes = [f32::INFINITY; NUM_LANES];
        for ((x, y), z) in x.iter().zip(y).zip(z) {
            for (lane, min) in lanes.iter_mut().enumerate() {
                let (dx, dy, dz) = (x[lane] - point.x, y[lane] - point.y, z[lane] - point.z);
                let distance2 = dx * dx + dy * dy + dz * dz;
                // Unlike `f32::min`, which looks for NaN, one instruction for all lanes.
                *min = if distance2 < *min { distance2 } else { *min };
            }
        }
        let last = Self {
            x: last_x,
            y: last_y,
            z: last_z,
            index: &[],
        };
        last.distances2(point).chain(lanes).fold(f32::INFINITY, f32::min)
    }
}

impl KdLeaves {
    /// Partitions points at finite positions.
    pub(crate) fn new(points: &[Vec3]) -> Self {
        let mut index: Vec<u32> = (0..points.len() as u32).collect();
        let mut leaves = Vec::new();
        split(points, &mut index, 0, &mut leaves);
        let along = |axis: usize| index.iter().map(|&index| points[index as usize][axis]).collect();
        Self {
            leaves,
            x: along(0),
            y: along(1),
            z: along(2),
            index,
        }
    }

    #[cfg(feature = "build")]
    pub(crate) fn leaves(&self) -> &[Leaf] {
        &self.leaves
    }

    #[inline]
    pub(crate) fn points_of(&self, leaf: &Leaf) -> LeafPoints<'_> {
        LeafPoints {
            x: &self.x[leaf.range()],
            y: &self.y[leaf.range()],
            z: &self.z[leaf.range()],
            index: &self.index[leaf.range()],
        }
    }

    /// Index of the nearest point other than `exclude`, the lowest one on ties; `None` if there is none.
    pub(crate) fn nearest(&self, query: Vec3, exclude: Option<usize>) -> Option<usize> {
        let exclude = exclude.map_or(u32::MAX, |index| index as u32);
        let bound = |leaf: &Leaf| leaf.min_distance2(query);
        let first = (0..self.leaves.len()).min_by(|&a, &b| {
            let [a, b] = [a, b].map(|leaf_idx| bound(&self.leaves[leaf_idx]));
            a.total_cmp(&b)
        })?;
        let mut best = (f32::INFINITY, u32::MAX);
        self.visit(&self.leaves[first], query, exclude, &mut best);
        for (leaf_idx, leaf) in self.leaves.iter().enumerate() {
            if leaf_idx != first && bound(leaf) <= best.0 {
                self.visit(leaf, query, exclude, &mut best);
            }
        }
        (best.1 != u32::MAX).then_some(best.1 as usize)
    }

    /// Improves `best`, a squared distance and an index, with the points of a leaf.
    #[inline]
    fn visit(&self, leaf: &Leaf, query: Vec3, exclude: u32, best: &mut (f32, u32)) {
        let points = self.points_of(leaf);
        if points.min_distance2(query) > best.0 {
            return;
        }
        for (distance2, &index) in points.distances2(query).zip(points.index) {
            if distance2 <= best.0 && (distance2 < best.0 || index < best.1) && index != exclude {
                *best = (distance2, index);
            }
        }
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
        leaves.push(Leaf {
            min,
            max,
            start,
            end: start + index.len(),
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
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::*;
    use crate::seeded_rng::SeededRng;

    #[test]
    fn the_index_finds_the_nearest_point() {
        let mut rng = SeededRng::from_u64(1);
        let mut position = |size: f32| {
            let mut coordinate = || (rng.unit() as f32 - 0.5) * size;
            Vec3::new(coordinate(), coordinate(), 0.1 * coordinate())
        };
        let points: Vec<Vec3> = (0..300).map(|_| position(2.0)).collect();
        let index = KdLeaves::new(&points);
        for _ in 0..300 {
            let query = position(4.0);
            let by_all = points
                .iter()
                .map(|p| p.distance_squared(query))
                .fold(f32::INFINITY, f32::min);
            let nearest = index.nearest(query, None).unwrap();
            assert!(points[nearest].distance_squared(query) <= by_all, "{query}");
        }
        assert_eq!(KdLeaves::new(&points[..1]).nearest(Vec3::ONE, Some(0)), None);
        assert_eq!(KdLeaves::new(&[]).nearest(Vec3::ONE, None), None);
    }

    proptest! {
        #[test]
        fn the_nearest_point_is_that_of_a_linear_search(
            points in prop::collection::vec(prop::array::uniform3(-3..3_i8), 1..400),
            query in prop::array::uniform3(-8..8_i8),
            exclude in prop::option::of(0..400_usize),
        ) {
            // Integers, so that ties are common.
            let points: Vec<Vec3> = points.into_iter().map(|point| Vec3::from(point.map(f32::from))).collect();
            let query = Vec3::from(query.map(f32::from));
            let others = (0..points.len()).filter(|&index| Some(index) != exclude);
            let expected = others.min_by(|&a, &b| {
                points[a].distance_squared(query).total_cmp(&points[b].distance_squared(query)).then(a.cmp(&b))
            });
            prop_assert_eq!(KdLeaves::new(&points).nearest(query, exclude), expected);
        }
    }
}
