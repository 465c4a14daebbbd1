//! Coplanar faces, which would cause z-fighting: duplicates of an earlier face, and those that overlap one in part
//! (`overlap.rs`).
//!
//! A *patch* is a flat connected piece of the surface: triangles joined at edges that belong to no third triangle.
//! Which points of its plane it covers, and how often, follows from its outline alone (as the winding number of the
//! outline around the point), however the patch is triangulated. So of several patches with the same outline the first
//! is enough. Where a sheet is doubled, four triangles meet at an edge between two faces and two at one within a face:
//! each face is a patch, whichever diagonal splits it. A triangle on top of another is the simplest case.

mod overlap;

use std::collections::BTreeMap;

use glam::{DVec3, Vec3};

use super::double_area;

/// Thickness of a flat patch as a fraction of the mesh's largest coordinate: the rounding error of five decimals.
const RELATIVE_THICKNESS: f64 = 1e-5;

/// From one vertex to another.
type Edge = [u32; 2];

/// What a renderer of materials needs to know, so that the first face in the order of the file is visible in every view.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CoplanarFaces {
    /// The triangles of all patches but the first of each outline, in ascending order.
    pub(crate) duplicates: Vec<u32>,
    /// A triangle and an earlier one that it overlaps in part, in ascending order, without duplicates.
    pub(crate) overlaps: Vec<[u32; 2]>,
}

impl CoplanarFaces {
    /// Vertices at equal positions must share an index, and triangles must have an area.
    pub(crate) fn new(positions: &[Vec3], triangles: &[[u32; 3]]) -> Self {
        let mut patches = Patches::new(positions, triangles);
        let duplicates = patches.duplicates();
        let mut is_duplicate = vec![false; triangles.len()];
        for &triangle in &duplicates {
            is_duplicate[triangle as usize] = true;
        }
        Self {
            overlaps: overlap::overlaps(&mut patches, &is_duplicate),
            duplicates,
        }
    }
}

/// The triangles of all patches but the first of each outline, as of [`CoplanarFaces`].
pub(crate) fn coplanar_duplicates(positions: &[Vec3], triangles: &[[u32; 3]]) -> Vec<u32> {
    Patches::new(positions, triangles).duplicates()
}

fn largest_coordinate(positions: &[Vec3]) -> f64 {
    let largest = positions
        .iter()
        .fold(Vec3::ZERO, |largest, position| largest.max(position.abs()));
    f64::from(largest.max_element())
}

/// A mesh, divided into patches.
struct Patches<'a> {
    positions: &'a [Vec3],
    triangles: &'a [[u32; 3]],
    largest_coordinate: f64,
    /// Largest thickness of a flat patch.
    thickness: f64,
    /// Triangles joined to patches.
    sets: DisjointSets,
    /// Which half-edges (three per triangle) lie inside a patch.
    is_interior: Vec<bool>,
}

impl<'a> Patches<'a> {
    fn new(positions: &'a [Vec3], triangles: &'a [[u32; 3]]) -> Self {
        let largest_coordinate = largest_coordinate(positions);
        let mut patches = Self {
            positions,
            triangles,
            largest_coordinate,
            thickness: RELATIVE_THICKNESS * largest_coordinate,
            sets: DisjointSets::new(triangles.len()),
            is_interior: vec![false; 3 * triangles.len()],
        };
        patches.join();
        patches
    }

    fn duplicates(&mut self) -> Vec<u32> {
        let mut coincident: Vec<u32> = self
            .by_outline()
            .into_values()
            .flat_map(|duplicates| {
                let flat = duplicates
                    .into_iter()
                    .filter(|patch| self.is_flat(&patch.iter().copied()));
                flat.skip(1).flatten().collect::<Vec<_>>()
            })
            .collect();
        coincident.sort_unstable();
        coincident
    }

    /// Each triangle behind the first one of its patch, patch by patch.
    fn group(&mut self) -> Vec<(u32, u32)> {
        let mut grouped: Vec<(u32, u32)> = (0..self.triangles.len() as u32)
            .map(|triangle| (self.sets.find(triangle), triangle))
            .collect();
        grouped.sort_unstable();
        grouped
    }

    /// Patches, as lists of triangles, grouped by outline, in the order of their first triangles. Patches with a unique
    /// outline may be missing.
    fn by_outline(&mut self) -> BTreeMap<Vec<Edge>, Vec<Vec<u32>>> {
        // Different outlines rarely hash alike, so most patches of most meshes are ruled out here.
        let mut hashes = vec![0_u64; self.triangles.len()];
        for half_edge in (0..self.is_interior.len()).filter(|&half_edge| !self.is_interior[half_edge]) {
            let patch = self.sets.find((half_edge / 3) as u32);
            let hash = &mut hashes[patch as usize];
            *hash = hash.wrapping_add(hash_edge(undirected(self.edge(half_edge))));
        }
        let mut by_hash: Vec<(u64, u32)> = (0..self.triangles.len() as u32)
            .filter(|triangle| self.sets.find(*triangle) == *triangle)
            .map(|patch| (hashes[patch as usize], patch))
            .collect();
        by_hash.sort_unstable();
        let duplicates = by_hash.chunk_by(|left, right| left.0 == right.0);
        let duplicates = duplicates.filter(|patches| patches.len() > 1).flatten();
        let mut patches: BTreeMap<u32, Vec<u32>> =
            duplicates.map(|(_, patch)| (*patch, Vec::new())).collect();
        if patches.is_empty() {
            return BTreeMap::new();
        }
        for triangle in 0..self.triangles.len() as u32 {
            if let Some(triangles) = patches.get_mut(&self.sets.find(triangle)) {
                triangles.push(triangle);
            }
        }
        let mut by_outline: BTreeMap<Vec<Edge>, Vec<Vec<u32>>> = BTreeMap::new();
        for triangles in patches.into_values() {
            let half_edges = triangles.iter().flat_map(|&triangle| {
                let first = 3 * triangle as usize;
                first..first + 3
            });
            let outline = half_edges
                .filter(|&half_edge| !self.is_interior[half_edge])
                .map(|half_edge| self.edge(half_edge));
            by_outline
                .entry(canonical_outline(outline.collect()))
                .or_default()
                .push(triangles);
        }
        by_outline
    }

    /// Joins triangles to patches.
    fn join(&mut self) {
        let num_half_edges = 3 * self.triangles.len();
        // Groups half-edges by edge: bucketed by the lower vertex, then sorted by the upper.
        let mut ends = vec![0; self.positions.len() + 1];
        for half_edge in 0..num_half_edges {
            let [lower, _] = undirected(self.edge(half_edge));
            ends[lower as usize + 1] += 1;
        }
        for vertex in 1..ends.len() {
            ends[vertex] += ends[vertex - 1];
        }
        let mut half_edges = vec![(0, 0); num_half_edges];
        for half_edge in 0..num_half_edges {
            let [lower, upper] = undirected(self.edge(half_edge));
            let end = &mut ends[lower as usize];
            half_edges[*end] = (upper, half_edge);
            *end += 1;
        }
        let mut start = 0;
        for end in ends {
            let at_vertex = &mut half_edges[start..end];
            start = end;
            at_vertex.sort_unstable();
            for uses in at_vertex.chunk_by(|left, right| left.0 == right.0) {
                if let &[(_, one), (_, other)] = uses
                    && self.is_coplanar_at(one, other)
                {
                    self.is_interior[one] = true;
                    self.is_interior[other] = true;
                    self.sets.union((one / 3) as u32, (other / 3) as u32);
                }
            }
        }
    }

    fn edge(&self, half_edge: usize) -> Edge {
        let triangle = self.triangles[half_edge / 3];
        [triangle[half_edge % 3], triangle[(half_edge + 1) % 3]]
    }

    /// Are the triangles of two half-edges of one edge coplanar, with the same orientation, and not folded onto each
    /// other?
    fn is_coplanar_at(&self, one: usize, other: usize) -> bool {
        if self.edge(one)[0] == self.edge(other)[0] {
            return false;
        }
        let corner = |half_edge: usize, at: usize| {
            self.positions[self.triangles[half_edge / 3][(half_edge + at) % 3] as usize].as_dvec3()
        };
        let normals = [one, other].map(|half_edge| double_area(self.corners(half_edge / 3)));
        let volume = normals[0].dot(corner(other, 2) - corner(one, 0));
        let largest_squared = normals[0].length_squared().max(normals[1].length_squared());
        normals[0].dot(normals[1]) > 0.0
            && volume * volume <= self.thickness * self.thickness * largest_squared
    }

    /// Are all triangles of a patch in one plane? On a finely curved surface neighbors pass the pairwise test.
    fn is_flat(&self, patch: &(impl Iterator<Item = u32> + Clone)) -> bool {
        let corners = || patch.clone().map(|triangle| self.corners(triangle as usize));
        let normal = corners().map(double_area).sum::<DVec3>().normalize_or_zero();
        let heights = corners().flatten().map(|corner| normal.dot(corner));
        let (low, high) = heights.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), height| {
            (low.min(height), high.max(height))
        });
        high - low <= 2.0 * self.thickness
    }

    fn corners(&self, triangle: usize) -> [DVec3; 3] {
        self.triangles[triangle].map(|vertex| self.positions[vertex as usize].as_dvec3())
    }
}

/// The undirected edge, lower vertex first.
fn undirected([from, to]: Edge) -> Edge {
    [from.min(to), from.max(to)]
}

fn hash_edge([from, to]: Edge) -> u64 {
    mix(u64::from(from) << 32 | u64::from(to))
}

/// The finalizer of `SplitMix64`.
fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// The outline in the orientation that compares lower, the same for both sides of the plane.
fn canonical_outline(mut outline: Vec<Edge>) -> Vec<Edge> {
    let mut back: Vec<Edge> = outline.iter().map(|&[from, to]| [to, from]).collect();
    outline.sort_unstable();
    back.sort_unstable();
    outline.min(back)
}

/// Disjoint sets (union-find), each represented by its smallest member.
struct DisjointSets {
    parents: Vec<u32>,
}

impl DisjointSets {
    fn new(len: usize) -> Self {
        Self {
            parents: (0..len as u32).collect(),
        }
    }

    /// The smallest member of the set.
    fn find(&mut self, mut number: u32) -> u32 {
        loop {
            let parent = self.parents[number as usize];
            if parent == number {
                return number;
            }
            // Path halving.
            let grandparent = self.parents[parent as usize];
            self.parents[number as usize] = grandparent;
            number = grandparent;
        }
    }

    fn union(&mut self, one: u32, other: u32) {
        let (one, other) = (self.find(one), self.find(other));
        self.parents[one.max(other) as usize] = one.min(other);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Points of a square grid in a plane, its lower left corner first.
    const SIDE: u32 = 4;

    fn grid() -> Vec<Vec3> {
        let point = |i: u32| Vec3::new((i % SIDE) as f32, (i / SIDE) as f32, 0.0);
        (0..SIDE * SIDE).map(point).collect()
    }

    /// A convex polygon as a fan around one of its corners, seen from its front or from its back.
    fn fan(polygon: &[u32], corner: usize, is_turned: bool) -> Vec<[u32; 3]> {
        let (start, end) = polygon.split_at(corner % polygon.len());
        let polygon = [end, start].concat();
        let fan = (2..polygon.len()).map(|at| {
            let triangle = [polygon[0], polygon[at - 1], polygon[at]];
            if is_turned {
                [triangle[2], triangle[1], triangle[0]]
            } else {
                triangle
            }
        });
        fan.collect()
    }

    const QUAD: [u32; 4] = [0, 3, 15, 12];
    /// A square without two of its corners.
    const HEXAGON: [u32; 6] = [0, 2, 7, 15, 13, 8];

    #[test]
    fn first_of_coplanar_duplicates_stays_for_any_triangulation() {
        for polygon in [&QUAD[..], &HEXAGON] {
            let num_triangles = polygon.len() as u32 - 2;
            for (corner, is_turned) in (0..polygon.len()).flat_map(|corner| [(corner, false), (corner, true)])
            {
                let faces = [fan(polygon, 0, false), fan(polygon, corner, is_turned)];
                let expected: Vec<u32> = (num_triangles..2 * num_triangles).collect();
                for faces in [faces.concat(), [&faces[1][..], &faces[0]].concat()] {
                    assert_eq!(coplanar_duplicates(&grid(), &faces), expected, "{faces:?}");
                }
            }
        }
    }

    #[test]
    fn duplicate_of_an_inner_face_is_found() {
        // Three by three quads, the middle one doubled.
        let quad = |left: u32, low: u32| {
            let first = low * SIDE + left;
            [first, first + 1, first + SIDE + 1, first + SIDE]
        };
        let mut faces: Vec<[u32; 3]> = (0..9).flat_map(|i| fan(&quad(i % 3, i / 3), 0, false)).collect();
        assert!(coplanar_duplicates(&grid(), &faces).is_empty());
        faces.extend(fan(&quad(1, 1), 1, true));
        assert_eq!(coplanar_duplicates(&grid(), &faces), [18, 19]);
        // All of them doubled, in reverse order.
        faces.truncate(18);
        faces.extend((0..9).rev().flat_map(|i| fan(&quad(i % 3, i / 3), 1, true)));
        assert_eq!(coplanar_duplicates(&grid(), &faces), (18..36).collect::<Vec<_>>());
    }

    #[test]
    fn faces_apart_are_not_duplicates() {
        let mut positions = grid();
        // The corner of a quad, raised by more than rounding error.
        for (height, num_hidden) in [(0.0, 2), (1e-5, 2), (0.01, 0), (1.0, 0)] {
            positions[15].z = height;
            let faces = [fan(&QUAD, 0, false), fan(&QUAD, 1, true)].concat();
            assert_eq!(
                coplanar_duplicates(&positions, &faces).len(),
                num_hidden,
                "{height}"
            );
        }
        // A cap, and a dome over it whose curvature is below the tolerance at each edge.
        let num_corners = 64;
        let ring = |radius: f32, height: f32| {
            (0..num_corners).map(move |corner| {
                let (sin, cos) = (corner as f32 * std::f32::consts::TAU / num_corners as f32).sin_cos();
                Vec3::new(radius * cos, radius * sin, height)
            })
        };
        let num_rings = 4000;
        let mut positions = Vec::new();
        for step in 0..num_rings {
            let radius = 1.0 - 0.5 * step as f32 / num_rings as f32;
            positions.extend(ring(radius, 0.2 * (1.0 - radius * radius)));
        }
        let outline: Vec<u32> = (0..num_corners).collect();
        let mut faces = fan(&outline, 0, true);
        for step in 0..num_rings - 1 {
            for corner in 0..num_corners {
                let [low, next] = [corner, (corner + 1) % num_corners].map(|at| step * num_corners + at);
                faces.extend(fan(&[low, next, next + num_corners, low + num_corners], 0, false));
            }
        }
        let top: Vec<u32> = (0..num_corners)
            .map(|corner| (num_rings - 1) * num_corners + corner)
            .collect();
        faces.extend(fan(&top, 0, false));
        assert!(
            coplanar_duplicates(&positions, &faces).is_empty(),
            "the dome stays"
        );
    }

    /// Is a point of the plane within a triangle? `None` on its edges.
    fn covers(positions: &[Vec3], triangle: [u32; 3], point: Vec3) -> Option<bool> {
        let corners = triangle.map(|vertex| positions[vertex as usize]);
        let turns = [0, 1, 2].map(|at| (corners[(at + 1) % 3] - corners[at]).cross(point - corners[at]).z);
        if turns.contains(&0.0) {
            return None;
        }
        Some(turns.iter().all(|turn| *turn > 0.0) || turns.iter().all(|turn| *turn < 0.0))
    }

    fn any_face() -> impl Strategy<Value = Vec<[u32; 3]>> {
        let polygons: [&[u32]; 7] = [
            &QUAD,
            &HEXAGON,
            &[0, 2, 10, 8],
            &[1, 2, 6, 5],
            &[5, 6, 10, 9],
            &[0, 3, 15],
            &[0, 15, 12],
        ];
        let whole = (prop::sample::select(polygons.to_vec()), 0..6_usize, any::<bool>())
            .prop_map(|(polygon, corner, is_turned)| fan(polygon, corner, is_turned));
        let triangle = prop::sample::subsequence((0..SIDE * SIDE).collect::<Vec<_>>(), 3)
            .prop_map(|corners| vec![[corners[0], corners[1], corners[2]]])
            .prop_filter("it has an area", |triangle| {
                let [a, b, c] = triangle[0].map(|vertex| grid()[vertex as usize]);
                (b - a).cross(c - a).z != 0.0
            });
        prop_oneof![4 => whole, 1 => triangle]
    }

    proptest! {
        #[test]
        fn no_visible_face_is_removed(faces in prop::collection::vec(any_face(), 1..9)) {
            let (positions, triangles) = (grid(), faces.concat());
            let hidden = coplanar_duplicates(&positions, &triangles);
            prop_assert!(hidden.windows(2).all(|pair| pair[0] < pair[1]), "in ascending order");
            for i in 0..400_u16 {
                let point = Vec3::new(f32::from(i % 20) * 0.15 + 0.0637, f32::from(i / 20) * 0.15 + 0.0291, 0.0);
                let is_covered = |is_seen: &dyn Fn(u32) -> bool| {
                    let seen = (0..).zip(&triangles).filter(|(index, _)| is_seen(*index));
                    seen.map(|(_, triangle)| covers(&positions, *triangle, point)).any(|covers| covers == Some(true))
                };
                let stays = |index: u32| hidden.binary_search(&index).is_err();
                prop_assert_eq!(is_covered(&|_| true), is_covered(&stays), "at {}", point);
            }
        }

        #[test]
        fn exact_duplicates_are_always_found(faces in prop::collection::vec(any_face(), 1..9)) {
            let triangles = faces.concat();
            let hidden = coplanar_duplicates(&grid(), &triangles);
            for (index, triangle) in (0..).zip(&triangles) {
                let places = |triangle: &[u32; 3]| { let mut places = *triangle; places.sort_unstable(); places };
                let is_twin = triangles[..index as usize].iter().any(|earlier| places(earlier) == places(triangle));
                prop_assert!(!is_twin || hidden.contains(&index), "{triangle:?}");
            }
        }
    }
}
