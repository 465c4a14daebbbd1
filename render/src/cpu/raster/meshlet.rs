//! Splits a mesh into *meshlets*, small groups of neighboring triangles. A meshlet is transformed while it fits the
//! cache, or culled as a whole if it is outside of the image or occluded.

use std::ops::Range;

use glam::Vec3;
use wide::f32x4;

use super::map3;
use crate::mesh::bounds_of;
use crate::simd::Vec3x4;

/// Points per meshlet: indices take a byte.
pub(super) const MAX_POINTS: usize = 256;
/// Triangles per meshlet. Smaller meshlets are culled more often, but transform more points twice.
pub(super) const MAX_TRIANGLES: usize = 128;

/// Local index of a point that is not in the meshlet.
const NOT_IN_MESHLET: u16 = u16::MAX;

/// Base-2 logarithm of the most grid cells along an axis.
const MAX_GRID_BITS: u32 = 6;

/// The triangles of a mesh in spatial order, with copies of their points.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Meshlets {
    all: Vec<Meshlet>,
    /// By meshlet; the last point is repeated to fill a group of four.
    points: Vec<Vec3x4>,
    /// Corners, as indices within the meshlet.
    triangles: Vec<[u8; 3]>,
    /// Index in the mesh of each triangle.
    sources: Vec<u32>,
    /// Are all coordinates finite?
    is_finite: bool,
}

#[derive(Debug, Clone, PartialEq)]
struct Meshlet {
    points: Range<usize>,
    triangles: Range<usize>,
    /// Of the bounding box.
    corners: [Vec3x4; 2],
}

/// The triangles of a meshlet.
pub(super) struct Triangles<'a> {
    pub(super) points: &'a [Vec3x4],
    pub(super) corners: &'a [[u8; 3]],
    /// Their indices in the mesh.
    pub(super) sources: &'a [u32],
}

impl Meshlets {
    pub(crate) fn new(points: &[Vec3], triangles: &[[u32; 3]]) -> Self {
        let mut builder = MeshletBuilder {
            meshlets: Self {
                triangles: Vec::with_capacity(triangles.len()),
                sources: morton_order(points, triangles),
                is_finite: true,
                ..Self::default()
            },
            local_index: vec![NOT_IN_MESHLET; points.len()],
            global_index: Vec::with_capacity(MAX_POINTS),
            local_points: Vec::with_capacity(MAX_POINTS),
        };
        for i in 0..triangles.len() {
            builder.add(points, triangles[builder.meshlets.sources[i] as usize]);
        }
        builder.finish_meshlet();
        builder.meshlets
    }

    /// Bounds of all points after `project`, up to rounding; `None` if a point is not finite. The second result of
    /// `project` is positive in front of the eye.
    pub(crate) fn bounds(&self, project: impl Fn(&Vec3x4) -> (Vec3x4, f32x4)) -> Option<[Vec3; 2]> {
        let [mut min, mut max] = [f32x4::splat(f32::INFINITY), f32x4::splat(f32::NEG_INFINITY)];
        for meshlet in &self.all {
            // Most bounding boxes are within the bounds found so far.
            let is_inside_bounds = meshlet
                .projected_bounds(&project)
                .is_some_and(|[low, high]| (low.simd_ge(min) & high.simd_le(max)).all());
            if is_inside_bounds {
                continue;
            }
            for points in &self.points[meshlet.points.clone()] {
                let (projected, _) = project(points);
                let [low, high] = bounds_of_eight([projected; 2]);
                (min, max) = (min.fast_min(low), max.fast_max(high));
            }
        }
        let [min, max] = [min, max].map(|lanes| Vec3::from_slice(&lanes.to_array()));
        (self.is_finite && min.is_finite() && max.is_finite()).then_some([min, max])
    }

    /// Projected bounding boxes of all meshlets; `None` for those that extend behind the eye.
    pub(super) fn projected_bounds_of_all(
        &self,
        project: impl Fn(&Vec3x4) -> (Vec3x4, f32x4),
    ) -> impl Iterator<Item = Option<[f32x4; 2]>> {
        self.all
            .iter()
            .map(move |meshlet| meshlet.projected_bounds(&project))
    }

    /// Triangles in finished meshlets.
    fn num_finished(&self) -> usize {
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
    /// Minimum and maximum of the projected bounding box; the fourth lane is 0. `None` if the box extends behind the
    /// eye.
    #[inline(always)]
    fn projected_bounds(&self, project: impl Fn(&Vec3x4) -> (Vec3x4, f32x4)) -> Option<[f32x4; 2]> {
        let [(a, w_a), (b, w_b)] = [project(&self.corners[0]), project(&self.corners[1])];
        let is_in_front = w_a.fast_min(w_b).simd_gt(f32x4::ZERO).all();
        is_in_front.then(|| bounds_of_eight([a, b]))
    }
}

/// Minimum and maximum of eight points; the fourth lane is 0.
#[inline(always)]
fn bounds_of_eight([a, b]: [Vec3x4; 2]) -> [f32x4; 2] {
    let lowest = Vec3x4 {
        x: a.x.fast_min(b.x),
        y: a.y.fast_min(b.y),
        z: a.z.fast_min(b.z),
    };
    let highest = Vec3x4 {
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

/// Triangle indices sorted along a Morton curve through a grid, whose resolution grows with their number.
fn morton_order(points: &[Vec3], triangles: &[[u32; 3]]) -> Vec<u32> {
    let bits = (triangles.len() / MAX_TRIANGLES)
        .max(1)
        .ilog2()
        .div_ceil(2)
        .min(MAX_GRID_BITS);
    let (min, max) = bounds_of(points.iter().copied());
    let last_cell = ((1 << bits) - 1) as f32;
    let cells_per_unit = last_cell / (max - min).max_element();
    let cell = |triangle: &[u32; 3]| {
        let [a, b, c] = map3(*triangle, |point| points[point as usize]);
        let cell = ((a + b + c) / 3.0 - min) * cells_per_unit;
        // Casting NaN gives 0.
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
        let project = &mut ends[cell as usize];
        sorted[*project as usize] = number;
        *project += 1;
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

/// Collects triangles into meshlets.
struct MeshletBuilder {
    meshlets: Meshlets,
    /// Index of each mesh point within the current meshlet.
    local_index: Vec<u16>,
    /// Points of the current meshlet: their indices in the mesh, and their positions.
    global_index: Vec<u32>,
    local_points: Vec<Vec3>,
}

impl MeshletBuilder {
    #[inline]
    fn add(&mut self, points: &[Vec3], triangle: [u32; 3]) {
        let num_triangles = self.meshlets.triangles.len() - self.meshlets.num_finished();
        if self.global_index.len() + 3 > MAX_POINTS || num_triangles == MAX_TRIANGLES {
            self.finish_meshlet();
        }
        let corners = map3(triangle, |point| {
            let number = &mut self.local_index[point as usize];
            if *number == NOT_IN_MESHLET {
                *number = self.global_index.len() as u16;
                self.global_index.push(point);
                self.local_points.push(points[point as usize]);
            }
            *number as u8
        });
        self.meshlets.triangles.push(corners);
    }

    fn finish_meshlet(&mut self) {
        if self.global_index.is_empty() {
            return;
        }
        let meshlets = &mut self.meshlets;
        let first_triangle = meshlets.num_finished();
        let first_point = meshlets.points.len();
        meshlets.points.extend(Vec3x4::of_points(&self.local_points));
        let (min, max) = bounds_of(self.local_points.iter().copied());
        // Checked here, since comparisons may drop NaN.
        meshlets.is_finite &= self.local_points.iter().all(|point| point.is_finite());
        let corner = |i: usize| {
            let pick = |axis: usize| if i >> axis & 1 == 0 { min[axis] } else { max[axis] };
            Vec3::new(pick(0), pick(1), pick(2))
        };
        let corners: [Vec3; 8] = std::array::from_fn(corner);
        let [a, b, c, d, e, f, g, h] = &corners;
        meshlets.all.push(Meshlet {
            points: first_point..meshlets.points.len(),
            triangles: first_triangle..meshlets.triangles.len(),
            corners: [Vec3x4::new([a, b, c, d]), Vec3x4::new([e, f, g, h])],
        });
        for point in self.global_index.drain(..) {
            self.local_index[point as usize] = NOT_IN_MESHLET;
        }
        self.local_points.clear();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    /// A grid of triangles whose shape depends on their index.
    fn sheet(edge: u32) -> (Vec<Vec3>, Vec<[u32; 3]>) {
        let points = (0..(edge + 1) * (edge + 1)).map(|i| {
            let (x, y) = ((i % (edge + 1)) as f32, (i / (edge + 1)) as f32);
            Vec3::new(x, y, x * y / 128.0)
        });
        let triangles = (0..edge * edge).flat_map(|i| {
            let corner = i / edge * (edge + 1) + i % edge;
            let (right, above) = (corner + 1, corner + edge + 1);
            [[corner, right, above], [right, above + 1, above]]
        });
        (points.collect(), triangles.collect())
    }

    fn same(points: &Vec3x4) -> (Vec3x4, f32x4) {
        (*points, f32x4::ONE)
    }

    #[test]
    fn every_triangle_is_in_one_meshlet() {
        for edge in [1, 7, 40] {
            let (points, triangles) = sheet(edge);
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
        let areas = meshlets.projected_bounds_of_all(same).map(|bounds| {
            let [[left, top, ..], [right, bottom, ..]] = bounds.unwrap().map(f32x4::to_array);
            (right - left) * (bottom - top)
        });
        let total: f32 = areas.sum();
        // In input order, each would be nearly as large as the grid.
        assert!(
            total < 5.0 * 64.0 * 64.0,
            "{} boxes of {total} together for a sheet of 4096",
            meshlets.all.len()
        );
    }

    #[test]
    fn bounds_are_those_of_all_points() {
        let (points, triangles) = sheet(40);
        let meshlets = Meshlets::new(&points, &triangles);
        let [min, max] = meshlets.bounds(same).unwrap();
        assert_eq!((min, max), (Vec3::ZERO, Vec3::new(40.0, 40.0, 12.5)));
        let mut nowhere = points;
        nowhere[777].y = f32::NAN;
        assert_eq!(Meshlets::new(&nowhere, &triangles).bounds(same), None);
        assert_eq!(Meshlets::new(&[], &[]).bounds(same), None, "nothing is nowhere");
    }

    #[test]
    fn a_box_behind_the_eye_has_no_bounds() {
        let (points, triangles) = sheet(3);
        let meshlets = Meshlets::new(&points, &triangles);
        let seen_from_within = |points: &Vec3x4| (*points, points.x - f32x4::ONE);
        assert!(
            meshlets
                .projected_bounds_of_all(seen_from_within)
                .all(|projected| projected.is_none())
        );
    }
}
