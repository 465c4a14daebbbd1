//! A mesh in pieces of some neighboring triangles, *meshlets*. Each is placed in a picture as one, in memory that is near,
//! or left out as one, because it is outside of the picture or behind what is already there.

use std::ops::Range;

use glam::Vec3;
use wide::f32x4;

use super::each;
use crate::mesh::bounds_of;
use crate::simd::Four;

/// A meshlet has at most this many points, so that a corner of its triangles takes a byte,
pub(super) const MAX_POINTS: usize = 256;
/// and at most this many triangles: the fewer, the more of them are left out, but the more points are placed twice.
pub(super) const MAX_TRIANGLES: usize = 128;

/// Marks a point that is not in the meshlet.
const ABSENT: u16 = u16::MAX;

/// Cells of a grid around a mesh along each axis, to the power of two, at most.
const MAX_GRID_BITS: u32 = 6;

/// The triangles of a mesh, neighbors in space beside each other, with copies of their points.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Meshlets {
    all: Vec<Meshlet>,
    /// One meshlet's after the other's, the last point of each repeated until they are in fours.
    points: Vec<Four>,
    /// Corners are counted within the meshlet.
    triangles: Vec<[u8; 3]>,
    /// Which of the mesh's triangles each one is.
    sources: Vec<u32>,
    /// Is every point somewhere?
    is_finite: bool,
}

#[derive(Debug, Clone, PartialEq)]
struct Meshlet {
    points: Range<usize>,
    triangles: Range<usize>,
    /// Of the box around the points.
    corners: [Four; 2],
}

/// The triangles of a meshlet.
pub(super) struct Triangles<'a> {
    pub(super) points: &'a [Four],
    pub(super) corners: &'a [[u8; 3]],
    /// Their numbers in the mesh.
    pub(super) sources: &'a [u32],
}

impl Meshlets {
    pub(crate) fn new(points: &[Vec3], triangles: &[[u32; 3]]) -> Self {
        let mut cutter = Cutter {
            cut: Self {
                triangles: Vec::with_capacity(triangles.len()),
                sources: in_space(points, triangles),
                is_finite: true,
                ..Self::default()
            },
            number_of_point: vec![ABSENT; points.len()],
            members: Vec::with_capacity(MAX_POINTS),
            member_points: Vec::with_capacity(MAX_POINTS),
        };
        for i in 0..triangles.len() {
            cutter.add(points, triangles[cutter.cut.sources[i] as usize]);
        }
        cutter.finish_meshlet();
        cutter.cut
    }

    /// The least and the greatest coordinates of all points where `place` puts them, but for rounding; `None` if a point
    /// is nowhere. `place` also says how far before the eye points are.
    pub(crate) fn extremes(&self, place: impl Fn(&Four) -> (Four, f32x4)) -> Option<[Vec3; 2]> {
        let [mut min, mut max] = [f32x4::splat(f32::INFINITY), f32x4::splat(f32::NEG_INFINITY)];
        for meshlet in &self.all {
            // Most boxes lie within what is known already.
            let is_known = meshlet
                .placed_box(&place)
                .is_some_and(|[low, high]| (low.simd_ge(min) & high.simd_le(max)).all());
            if is_known {
                continue;
            }
            for points in &self.points[meshlet.points.clone()] {
                let (placed, _) = place(points);
                let [low, high] = extremes_of([placed; 2]);
                (min, max) = (min.fast_min(low), max.fast_max(high));
            }
        }
        let [min, max] = [min, max].map(|lanes| Vec3::from_slice(&lanes.to_array()));
        (self.is_finite && min.is_finite() && max.is_finite()).then_some([min, max])
    }

    /// The boxes around all meshlets; `None` for those that reach behind the eye.
    pub(super) fn placed_boxes(
        &self,
        place: impl Fn(&Four) -> (Four, f32x4),
    ) -> impl Iterator<Item = Option<[f32x4; 2]>> {
        self.all.iter().map(move |meshlet| meshlet.placed_box(&place))
    }

    /// How many triangles are in finished meshlets.
    fn num_whole(&self) -> usize {
        self.all.last().map_or(0, |last| last.triangles.end)
    }

    pub(super) fn triangles_of(&self, meshlet: usize) -> Triangles<'_> {
        let Meshlet {
            points, triangles, ..
        } = &self.all[meshlet];
        Triangles {
            points: &self.points[points.clone()],
            corners: &self.triangles[triangles.clone()],
            sources: &self.sources[triangles.clone()],
        }
    }
}

impl Meshlet {
    /// The least and the greatest coordinates of the box, and 0; `None` if it reaches behind the eye.
    #[inline(always)]
    fn placed_box(&self, place: impl Fn(&Four) -> (Four, f32x4)) -> Option<[f32x4; 2]> {
        let [(a, before_a), (b, before_b)] = [place(&self.corners[0]), place(&self.corners[1])];
        let is_before_eye = before_a.fast_min(before_b).simd_gt(f32x4::ZERO).all();
        is_before_eye.then(|| extremes_of([a, b]))
    }
}

/// The least and the greatest x, y and z of eight points, and 0.
#[inline(always)]
fn extremes_of([a, b]: [Four; 2]) -> [f32x4; 2] {
    let lowest = Four {
        x: a.x.fast_min(b.x),
        y: a.y.fast_min(b.y),
        z: a.z.fast_min(b.z),
    };
    let highest = Four {
        x: a.x.fast_max(b.x),
        y: a.y.fast_max(b.y),
        z: a.z.fast_max(b.z),
    };
    let [a, b, c, d] = lowest.transpose();
    let [e, f, g, h] = highest.transpose();
    [
        a.fast_min(b).fast_min(c.fast_min(d)),
        e.fast_max(f).fast_max(g.fast_max(h)),
    ]
}

/// The numbers of the triangles in the order of a Morton curve through the cells of a grid, as fine as they are many.
fn in_space(points: &[Vec3], triangles: &[[u32; 3]]) -> Vec<u32> {
    let bits = (triangles.len() / MAX_TRIANGLES)
        .max(1)
        .ilog2()
        .div_ceil(2)
        .min(MAX_GRID_BITS);
    let (min, max) = bounds_of(points.iter().copied());
    let last_cell = ((1 << bits) - 1) as f32;
    let cells_per_unit = last_cell / (max - min).max_element();
    let cell = |triangle: &[u32; 3]| {
        let [a, b, c] = each(*triangle, |point| points[point as usize]);
        let cell = ((a + b + c) / 3.0 - min) * cells_per_unit;
        // Casts of what is not a number give 0.
        let [x, y, z] = (cell.to_array()).map(|along| SPREAD[along as usize & (SPREAD.len() - 1)]);
        (x | y << 1 | z << 2) as usize
    };
    let mut ends = vec![0_u32; 1 << (3 * bits)];
    let cells: Vec<u32> = triangles
        .iter()
        .map(|triangle| {
            let cell = cell(triangle);
            ends[cell] += 1;
            cell as u32
        })
        .collect();
    let mut end = 0;
    for next in &mut ends {
        (*next, end) = (end, end + *next);
    }
    let mut sorted = vec![0; triangles.len()];
    for (number, cell) in (0..).zip(cells) {
        let place = &mut ends[cell as usize];
        sorted[*place as usize] = number;
        *place += 1;
    }
    sorted
}

/// The bits of a number with two zeros between them.
const SPREAD: [u32; 1 << MAX_GRID_BITS] = {
    let mut spread = [0; 1 << MAX_GRID_BITS];
    let mut i = 0;
    while i < spread.len() {
        let mut bit = 0;
        while bit < MAX_GRID_BITS {
            spread[i] |= (i as u32 >> bit & 1) << (3 * bit);
            bit += 1;
        }
        i += 1;
    }
    spread
};

/// Cuts meshlets off a mesh.
struct Cutter {
    cut: Meshlets,
    /// The number of each point in the meshlet that is being filled.
    number_of_point: Vec<u16>,
    /// The points of that meshlet: which ones, and where.
    members: Vec<u32>,
    member_points: Vec<Vec3>,
}

impl Cutter {
    #[inline]
    fn add(&mut self, points: &[Vec3], triangle: [u32; 3]) {
        let num_triangles = self.cut.triangles.len() - self.cut.num_whole();
        if self.members.len() + 3 > MAX_POINTS || num_triangles == MAX_TRIANGLES {
            self.finish_meshlet();
        }
        let corners = each(triangle, |point| {
            let number = &mut self.number_of_point[point as usize];
            if *number == ABSENT {
                *number = self.members.len() as u16;
                self.members.push(point);
                self.member_points.push(points[point as usize]);
            }
            *number as u8
        });
        self.cut.triangles.push(corners);
    }

    fn finish_meshlet(&mut self) {
        if self.members.is_empty() {
            return;
        }
        let cut = &mut self.cut;
        let first_triangle = cut.num_whole();
        let first_point = cut.points.len();
        cut.points.extend(Four::of_points(&self.member_points));
        let (min, max) = bounds_of(self.member_points.iter().copied());
        // A comparison may drop what is not a number.
        cut.is_finite &= self.member_points.iter().all(|point| point.is_finite());
        let corner = |i: usize| {
            let pick = |axis: usize| if i >> axis & 1 == 0 { min[axis] } else { max[axis] };
            Vec3::new(pick(0), pick(1), pick(2))
        };
        let corners: [Vec3; 8] = std::array::from_fn(corner);
        let [a, b, c, d, e, f, g, h] = &corners;
        cut.all.push(Meshlet {
            points: first_point..cut.points.len(),
            triangles: first_triangle..cut.triangles.len(),
            corners: [Four::new([a, b, c, d]), Four::new([e, f, g, h])],
        });
        for point in self.members.drain(..) {
            self.number_of_point[point as usize] = ABSENT;
        }
        self.member_points.clear();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    /// A sheet of triangles, one of which is where it is by its number.
    fn sheet(side: u32) -> (Vec<Vec3>, Vec<[u32; 3]>) {
        let points = (0..(side + 1) * (side + 1)).map(|i| {
            let (x, y) = ((i % (side + 1)) as f32, (i / (side + 1)) as f32);
            Vec3::new(x, y, x * y / 128.0)
        });
        let triangles = (0..side * side).flat_map(|i| {
            let corner = i / side * (side + 1) + i % side;
            let (right, above) = (corner + 1, corner + side + 1);
            [[corner, right, above], [right, above + 1, above]]
        });
        (points.collect(), triangles.collect())
    }

    fn same(points: &Four) -> (Four, f32x4) {
        (*points, f32x4::ONE)
    }

    #[test]
    fn every_triangle_is_in_one_meshlet() {
        for side in [1, 7, 40] {
            let (points, triangles) = sheet(side);
            let meshlets = Meshlets::new(&points, &triangles);
            let mut found = vec![None; triangles.len()];
            for i in 0..meshlets.all.len() {
                let Triangles {
                    points,
                    corners,
                    sources,
                } = meshlets.triangles_of(i);
                assert!(corners.len() <= MAX_TRIANGLES && 4 * points.len() <= MAX_POINTS);
                let point = |number: u8| {
                    let [x, y, z, _] =
                        points[usize::from(number / 4)].transpose()[usize::from(number % 4)].to_array();
                    Vec3::new(x, y, z)
                };
                for (corners, source) in corners.iter().zip(sources) {
                    let before = found[*source as usize].replace(corners.map(point));
                    assert_eq!(before, None, "triangle {source} is there twice");
                }
            }
            let expected = triangles
                .iter()
                .map(|triangle| Some(triangle.map(|i| points[i as usize])));
            assert!(
                found.into_iter().eq(expected),
                "a triangle is missing or elsewhere"
            );
        }
    }

    #[test]
    fn meshlets_are_compact_whatever_the_order_of_the_triangles() {
        let (points, mut triangles) = sheet(64);
        // All are moved, and neighbors far apart.
        let num = triangles.len();
        triangles = (0..num).map(|i| triangles[i * 4099 % num]).collect();
        let meshlets = Meshlets::new(&points, &triangles);
        let areas = meshlets.placed_boxes(same).map(|extremes| {
            let [[left, top, ..], [right, bottom, ..]] = extremes.unwrap().map(f32x4::to_array);
            (right - left) * (bottom - top)
        });
        let total: f32 = areas.sum();
        // In their order as given, each would be nearly as large as the sheet.
        assert!(
            total < 5.0 * 64.0 * 64.0,
            "{} boxes of {total} together for a sheet of 4096",
            meshlets.all.len()
        );
    }

    #[test]
    fn extremes_are_those_of_all_points() {
        let (points, triangles) = sheet(40);
        let meshlets = Meshlets::new(&points, &triangles);
        let [min, max] = meshlets.extremes(same).unwrap();
        assert_eq!((min, max), (Vec3::ZERO, Vec3::new(40.0, 40.0, 12.5)));
        let mut nowhere = points;
        nowhere[777].y = f32::NAN;
        assert_eq!(Meshlets::new(&nowhere, &triangles).extremes(same), None);
        assert_eq!(Meshlets::new(&[], &[]).extremes(same), None, "nothing is nowhere");
    }

    #[test]
    fn a_box_that_reaches_behind_the_eye_has_no_place() {
        let (points, triangles) = sheet(3);
        let meshlets = Meshlets::new(&points, &triangles);
        let seen_from_within = |points: &Four| (*points, points.x - f32x4::ONE);
        assert!(
            meshlets
                .placed_boxes(seen_from_within)
                .all(|placed| placed.is_none())
        );
    }
}
