//! [`KdLeaves`]: a k-d partition of points, for farthest-point sampling and nearest-neighbor queries.
//!
//! A query descends to the leaf that it is in, and then looks at the boxes of all others, many at a time: at the sizes used here
//! (thousands of points) that is faster than climbing up the tree again. Weighted sample elimination keeps its own grid, since
//! its sums depend on the order in which neighbors are visited.

use glam::Vec3;

/// Points per leaf: small enough to skip often, large enough to vectorize.
const LEAF_LEN: usize = 64;
/// Boxes or points that are compared side by side.
const NUM_LANES: usize = 8;

/// Points sorted into leaves with bounding boxes.
#[derive(Debug, Clone)]
pub(crate) struct KdLeaves {
    leaves: Vec<Leaf>,
    /// The tree above the leaves, each node before those on its left, and these before those on its right.
    nodes: Vec<Node>,
    boxes: Vec<BoxLanes>,
    x: Vec<f32>,
    y: Vec<f32>,
    z: Vec<f32>,
    /// Point indices, ascending within a leaf.
    index: Vec<u32>,
}

/// A node of the tree.
#[derive(Debug, Clone, Copy)]
enum Node {
    /// Points whose coordinate is below `value` are on the left, in the next node.
    Split {
        axis: usize,
        value: f32,
        right: usize,
    },
    Leaf(usize),
}

/// Bounding boxes of leaves that follow each other, side by side. Beyond the last leaf they are empty.
#[derive(Debug, Clone)]
struct BoxLanes {
    min: [[f32; NUM_LANES]; 3],
    max: [[f32; NUM_LANES]; 3],
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

    /// Distance and index of the nearest point, the lowest index on ties, in lanes that are compared side by side.
    #[inline]
    fn nearest(&self, point: Vec3) -> (f32, u32) {
        let (x, last_x) = self.x.as_chunks::<NUM_LANES>();
        let (y, last_y) = self.y.as_chunks::<NUM_LANES>();
        let (z, last_z) = self.z.as_chunks::<NUM_LANES>();
        let mut distances2 = [f32::INFINITY; NUM_LANES];
        let mut chunks = [0_u32; NUM_LANES];
        for (chunk, ((x, y), z)) in (0_u32..).zip(x.iter().zip(y).zip(z)) {
            for lane in 0..NUM_LANES {
                let (dx, dy, dz) = (x[lane] - point.x, y[lane] - point.y, z[lane] - point.z);
                let distance2 = dx * dx + dy * dy + dz * dz;
                // Selections, and not `f32::min`, which looks for NaN: one instruction for all lanes.
                let is_closer = distance2 < distances2[lane];
                distances2[lane] = if is_closer { distance2 } else { distances2[lane] };
                chunks[lane] = if is_closer { chunk } else { chunks[lane] };
            }
        }
        let (index, last_index) = self.index.as_chunks::<NUM_LANES>();
        let last = Self {
            x: last_x,
            y: last_y,
            z: last_z,
            index: last_index,
        };
        let of_last = last.distances2(point).zip(last.index.iter().copied());
        let mut best = of_last.fold((f32::INFINITY, u32::MAX), closer);
        if !index.is_empty() {
            for (lane, (distance2, chunk)) in distances2.into_iter().zip(chunks).enumerate() {
                best = closer(best, (distance2, index[chunk as usize][lane]));
            }
        }
        best
    }
}

/// The nearer of two points, each a squared distance and an index, or the one with the lower index.
#[inline]
fn closer(a: (f32, u32), b: (f32, u32)) -> (f32, u32) {
    if b.0 < a.0 || (b.0 <= a.0 && b.1 < a.1) {
        b
    } else {
        a
    }
}

impl BoxLanes {
    fn new(leaves: &[Leaf]) -> Self {
        let side = |bound: fn(&Leaf) -> Vec3, beyond: f32| {
            std::array::from_fn(|axis| {
                std::array::from_fn(|lane| leaves.get(lane).map_or(beyond, |leaf| bound(leaf)[axis]))
            })
        };
        Self {
            min: side(|leaf| leaf.min, f32::INFINITY),
            max: side(|leaf| leaf.max, f32::NEG_INFINITY),
        }
    }

    /// [`Leaf::min_distance2`] of each.
    #[inline]
    fn min_distances2(&self, point: Vec3) -> [f32; NUM_LANES] {
        let mut distances2 = [0.0; NUM_LANES];
        for axis in 0..3 {
            for (lane, distance2) in distances2.iter_mut().enumerate() {
                let below = self.min[axis][lane] - point[axis];
                let above = point[axis] - self.max[axis][lane];
                let outside = if below > above { below } else { above };
                let outside = if outside > 0.0 { outside } else { 0.0 };
                *distance2 += outside * outside;
            }
        }
        distances2
    }
}

impl KdLeaves {
    /// Partitions points at finite positions.
    pub(crate) fn new(points: &[Vec3]) -> Self {
        let mut index: Vec<u32> = (0..points.len() as u32).collect();
        let (mut leaves, mut nodes) = (Vec::new(), Vec::new());
        split(points, &mut index, 0, &mut leaves, &mut nodes);
        let along = |axis: usize| index.iter().map(|&index| points[index as usize][axis]).collect();
        Self {
            boxes: leaves.chunks(NUM_LANES).map(BoxLanes::new).collect(),
            leaves,
            nodes,
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
        let first = self.leaf_of(query);
        let mut best = self.nearest_in(&self.leaves[first], query, exclude);
        for (boxes, first_of_boxes) in self.boxes.iter().zip((0..).step_by(NUM_LANES)) {
            let bounds = boxes.min_distances2(query);
            for (bound, leaf_idx) in bounds.into_iter().zip(first_of_boxes..) {
                if bound <= best.0
                    && leaf_idx != first
                    && let Some(leaf) = self.leaves.get(leaf_idx)
                {
                    best = closer(best, self.nearest_in(leaf, query, exclude));
                }
            }
        }
        (best.1 != u32::MAX).then_some(best.1 as usize)
    }

    /// The leaf on the query's side of all splits.
    fn leaf_of(&self, query: Vec3) -> usize {
        let mut node = 0;
        loop {
            match self.nodes[node] {
                Node::Leaf(leaf) => return leaf,
                Node::Split { axis, value, .. } if query[axis] < value => node += 1,
                Node::Split { right, .. } => node = right,
            }
        }
    }

    /// Squared distance and index of the nearest point of a leaf other than `exclude`.
    #[inline]
    fn nearest_in(&self, leaf: &Leaf, query: Vec3, exclude: u32) -> (f32, u32) {
        let points = self.points_of(leaf);
        if exclude == u32::MAX || points.index.binary_search(&exclude).is_err() {
            return points.nearest(query);
        }
        let others = points.distances2(query).zip(points.index.iter().copied());
        others
            .filter(|(_, index)| *index != exclude)
            .fold((f32::INFINITY, u32::MAX), closer)
    }
}

/// Splits at the median of the longest axis until points fit into leaves.
fn split(points: &[Vec3], index: &mut [u32], start: usize, leaves: &mut Vec<Leaf>, nodes: &mut Vec<Node>) {
    let (min, max) = index
        .iter()
        .fold((Vec3::INFINITY, Vec3::NEG_INFINITY), |(min, max), &index| {
            (min.min(points[index as usize]), max.max(points[index as usize]))
        });
    if index.len() <= LEAF_LEN {
        index.sort_unstable();
        nodes.push(Node::Leaf(leaves.len()));
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
    let value = points[index[middle] as usize][axis];
    let (left, right) = index.split_at_mut(middle);
    let node = nodes.len();
    nodes.push(Node::Split {
        axis,
        value,
        right: 0,
    });
    split(points, left, start, leaves, nodes);
    let right_node = nodes.len();
    nodes[node] = Node::Split {
        axis,
        value,
        right: right_node,
    };
    split(points, right, start + middle, leaves, nodes);
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
