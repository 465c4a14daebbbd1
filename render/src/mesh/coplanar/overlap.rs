//! Coplanar faces that overlap in part: decals and labels on walls, windows in front of them.
//!
//! A depth test can't order them: which is nearer at a sample is decided by rounding, and by another rounding in each
//! view. Nor is cutting the later face exact: the cut makes corners on edges of its neighbors, and rounded separately
//! they would leave samples between them uncovered. So the triangles stay, and both backends look up, for each sample
//! that sees one, whether an earlier one of the same plane covers the sample too; that is then what it sees. The list of
//! earlier triangles is found here, once per mesh, and it is empty for most.
//!
//! Faces (patches of triangles, or triangles of curved surfaces) are hashed by their planes, in `f64`: normal and
//! distance are quantized, and a face is in each cell that its plane may lie in, given how well its width determines it.
//! Those that share a cell are projected to the plane, and swept for triangles that overlap.

use glam::{DVec2, DVec3, Vec3};

use super::{Patches, mix};

/// Distance of a face from the plane of another, as a fraction of the mesh's largest coordinate: the error of numbers in
/// `f32`, or with six decimals.
const RELATIVE_DISTANCE: f64 = 3e-6;
/// Smaller overlaps are left to the depth test, as a fraction of the mesh's largest coordinate: neighbors that touch do
/// not overlap.
const RELATIVE_OVERLAP: f64 = 1e-4;
/// Narrower faces have no well-determined plane, and are below a pixel in images of common sizes.
const RELATIVE_WIDTH: f64 = 2e-3;
/// Side of a cell: of normals, and of distances as a fraction of the mesh's largest coordinate.
const CELL: f64 = 8e-3;
/// Moves the borders of cells, in cells, away from the numbers that are common: 0 and 1.
const GRID_OFFSET: f64 = 0.37;
/// No plane of a common model contains this direction. Normals are turned to its side.
const UPWARD: DVec3 = DVec3::new(0.412_453_1, 0.779_231_7, 0.471_823_9);
/// Most earlier triangles of a triangle, of which the first are kept.
const MAX_EARLIER: usize = 4096;
/// Comparisons that any mesh may take, and further ones per triangle: thousands of discs in a plane take more, and what
/// was found until then counts.
const MAX_COMPARISONS: usize = 1 << 20;
const MAX_COMPARISONS_PER_TRIANGLE: usize = 16;

/// The pairs of a triangle and an earlier one that it overlaps, in ascending order.
pub(super) fn overlaps(patches: &mut Patches<'_>, is_skipped: &[bool]) -> Vec<[u32; 2]> {
    let faces = FlatFaces::new(patches, is_skipped);
    let mut pairs = Vec::new();
    let mut sweep = Sweep {
        least_overlap: RELATIVE_OVERLAP * patches.largest_coordinate,
        comparisons_left: MAX_COMPARISONS + MAX_COMPARISONS_PER_TRIANGLE * patches.triangles.len(),
    };
    for cell in faces.in_shared_cells().chunk_by(|left, right| left.0 == right.0) {
        let members: Vec<&Face> = cell.iter().map(|&(_, face)| &faces.list[face as usize]).collect();
        faces.overlaps_in_cell(&members, &mut sweep, &mut pairs);
    }
    pairs.sort_unstable();
    pairs.dedup();
    let mut num_earlier = 0;
    let mut of = u32::MAX;
    pairs.retain(|&[later, _]| {
        num_earlier = if later == of { num_earlier + 1 } else { 1 };
        of = later;
        num_earlier <= MAX_EARLIER
    });
    pairs
}

/// A flat piece of the surface.
struct Face {
    /// Unit length, upward.
    normal: DVec3,
    /// Of the plane from the origin, along the normal.
    distance: f64,
    /// How far the plane may be tilted, in radians, and moved.
    tilt: f64,
    shift: f64,
    /// Range in [`FlatFaces::triangles`].
    start: usize,
    end: usize,
}

struct FlatFaces<'a> {
    positions: &'a [Vec3],
    corners: &'a [[u32; 3]],
    largest_coordinate: f64,
    list: Vec<Face>,
    /// The triangles of all faces, one face after the other.
    triangles: Vec<u32>,
}

impl<'a> FlatFaces<'a> {
    fn new(patches: &mut Patches<'a>, is_skipped: &[bool]) -> Self {
        let mut faces = Self {
            positions: patches.positions,
            corners: patches.triangles,
            largest_coordinate: patches.largest_coordinate,
            list: Vec::new(),
            triangles: Vec::with_capacity(patches.triangles.len()),
        };
        let grouped = patches.group();
        for patch in grouped.chunk_by(|left, right| left.0 == right.0) {
            let triangles = || {
                let members = patch.iter().map(|&(_, triangle)| triangle);
                members.filter(|triangle| !is_skipped[*triangle as usize])
            };
            if patch.len() == 1 || patches.is_flat(&triangles()) {
                faces.push(triangles());
            } else {
                triangles().for_each(|triangle| faces.push([triangle].into_iter()));
            }
        }
        faces
    }

    fn push(&mut self, triangles: impl Iterator<Item = u32>) {
        let start = self.triangles.len();
        self.triangles.extend(triangles);
        let (mut double_area, mut center, mut weight) = (DVec3::ZERO, DVec3::ZERO, 0.0);
        let (mut low, mut high) = (DVec3::INFINITY, DVec3::NEG_INFINITY);
        for &triangle in &self.triangles[start..] {
            let corners = self.corners_of(triangle);
            let of_triangle = super::double_area(corners);
            let len = of_triangle.length();
            double_area += of_triangle;
            center += corners.iter().sum::<DVec3>() / 3.0 * len;
            weight += len;
            for corner in corners {
                low = low.min(corner);
                high = high.max(corner);
            }
        }
        let area = double_area.length();
        let width = area / (high - low).length();
        // A face without triangles has no width.
        if width.is_nan() || width < RELATIVE_WIDTH * self.largest_coordinate {
            self.triangles.truncate(start);
            return;
        }
        center /= weight;
        let normal = double_area / area;
        let normal = if normal.dot(UPWARD) < 0.0 { -normal } else { normal };
        let tilt = 2.0 * RELATIVE_DISTANCE * self.largest_coordinate / width;
        self.list.push(Face {
            normal,
            distance: normal.dot(center),
            tilt,
            shift: RELATIVE_DISTANCE * self.largest_coordinate + tilt * center.length(),
            start,
            end: self.triangles.len(),
        });
    }

    fn corners_of(&self, triangle: u32) -> [DVec3; 3] {
        self.corners[triangle as usize].map(|vertex| self.positions[vertex as usize].as_dvec3())
    }

    /// The faces in cells that several faces share, by cell.
    fn in_shared_cells(&self) -> Vec<(u64, u32)> {
        let mut cells = Vec::with_capacity(2 * self.list.len());
        for (index, face) in (0..).zip(&self.list) {
            self.push_cells(face, index, &mut cells);
        }
        // Most cells of most meshes hold one face: they are ruled out by counting, before anything is sorted.
        let num_slots = (2 * cells.len()).next_power_of_two();
        let slot = |cell: u64| cell as usize & (num_slots - 1);
        let mut counts = vec![0_u8; num_slots];
        for &(cell, _) in &cells {
            let count = &mut counts[slot(cell)];
            *count = count.saturating_add(1);
        }
        cells.retain(|&(cell, _)| counts[slot(cell)] > 1);
        cells.sort_unstable();
        cells.dedup();
        cells
    }

    /// Pushes the hash of each cell that the plane of a face may lie in, with the face's index.
    fn push_cells(&self, face: &Face, index: u32, cells: &mut Vec<(u64, u32)>) {
        let unit = self.largest_coordinate;
        let mut push_side = |normal: DVec3, distance: f64| {
            let start = cells.len();
            cells.push((0, index));
            let of_normal = normal.to_array().map(|coordinate| (coordinate, face.tilt));
            let of_distance = (distance / unit, face.shift / unit);
            for (coordinate, error) in of_normal.into_iter().chain([of_distance]) {
                let [low, high] = [coordinate - error, coordinate + error]
                    .map(|number| (number / CELL + GRID_OFFSET).floor() as i64);
                for at in start..cells.len() {
                    let hash = cells[at].0;
                    let in_column = |column: i64| mix(hash ^ column as u64);
                    cells[at].0 = in_column(low);
                    cells.extend((low + 1..=high).map(|column| (in_column(column), index)));
                }
            }
        };
        push_side(face.normal, face.distance);
        if face.normal.dot(UPWARD) <= 2.0 * face.tilt {
            push_side(-face.normal, -face.distance);
        }
    }

    fn overlaps_in_cell(&self, members: &[&Face], sweep: &mut Sweep, pairs: &mut Vec<[u32; 2]>) {
        let [first, _, ..] = members else { return };
        let plane = ProjectionPlane::across(first.normal);
        let corners_of = |face: &Face| {
            self.triangles[face.start..face.end]
                .iter()
                .map(|&triangle| plane.project(self.corners_of(triangle)))
        };
        let boxes: Vec<Box2> = members
            .iter()
            .map(|face| Box2::of(corners_of(face).flatten()))
            .collect();
        let least_overlap = sweep.least_overlap;
        let most_distance = RELATIVE_DISTANCE * self.largest_coordinate;
        sweep.for_each_pair(boxes.iter().copied().zip(0..).collect(), |sweep, pair| {
            let [one, other] = pair.map(|index| members[index as usize]);
            if one.normal.cross(other.normal).length() > one.tilt + other.tilt {
                return;
            }
            let [of_one, of_other] = pair.map(|index| boxes[index as usize]);
            let common = of_one.and(&of_other);
            let boxes = [one, other].map(|face| {
                let triangles = self.triangles[face.start..face.end].iter();
                let boxes = triangles.map(|&triangle| {
                    let corners = plane.project(self.corners_of(triangle));
                    (Box2::of(corners.into_iter()), triangle)
                });
                boxes
                    .filter(|(bounds, _)| bounds.overlaps(&common, least_overlap))
                    .collect()
            });
            let wider = if one.tilt < other.tilt { one } else { other };
            sweep.for_each_pair_between(boxes, |pair| {
                let corners = pair.map(|triangle| self.corners_of(triangle));
                let is_in_plane =
                    |corner: &DVec3| (wider.normal.dot(*corner) - wider.distance).abs() <= most_distance;
                if corners.as_flattened().iter().all(is_in_plane)
                    && overlap(corners.map(|corners| plane.project(corners)), least_overlap)
                {
                    pairs.push([pair[0].max(pair[1]), pair[0].min(pair[1])]);
                }
            });
        });
    }
}

/// Coordinates in a plane.
struct ProjectionPlane {
    right: DVec3,
    up: DVec3,
}

impl ProjectionPlane {
    fn across(normal: DVec3) -> Self {
        let (right, up) = normal.any_orthonormal_pair();
        Self { right, up }
    }

    fn project(&self, corners: [DVec3; 3]) -> [DVec2; 3] {
        corners.map(|corner| DVec2::new(self.right.dot(corner), self.up.dot(corner)))
    }
}

#[derive(Debug, Clone, Copy)]
struct Box2 {
    low: DVec2,
    high: DVec2,
}

impl Box2 {
    fn of(points: impl Iterator<Item = DVec2>) -> Self {
        let empty = Self {
            low: DVec2::INFINITY,
            high: DVec2::NEG_INFINITY,
        };
        points.fold(empty, |Self { low, high }, point| Self {
            low: low.min(point),
            high: high.max(point),
        })
    }

    fn and(&self, other: &Self) -> Self {
        Self {
            low: self.low.max(other.low),
            high: self.high.min(other.high),
        }
    }

    /// Do they overlap by more than `least`?
    fn overlaps(&self, other: &Self, least: f64) -> bool {
        let by = self.high.min(other.high) - self.low.max(other.low);
        by.min_element() > least
    }
}

/// Finds pairs of boxes that overlap, until it has taken too long.
struct Sweep {
    /// Pairs that overlap by no more are left out.
    least_overlap: f64,
    comparisons_left: usize,
}

impl Sweep {
    fn for_each_pair(&mut self, mut boxes: Vec<(Box2, u32)>, mut visit: impl FnMut(&mut Self, [u32; 2])) {
        boxes.sort_unstable_by(|(left, _), (right, _)| left.low.x.total_cmp(&right.low.x));
        let mut rest = boxes.as_slice();
        while let Some(((bounds, index), after)) = rest.split_first() {
            for (other_bounds, other) in after {
                if other_bounds.low.x >= bounds.high.x || self.comparisons_left == 0 {
                    break;
                }
                self.comparisons_left -= 1;
                if bounds.overlaps(other_bounds, self.least_overlap) {
                    visit(self, [*index, *other]);
                }
            }
            rest = after;
        }
    }

    /// Pairs of a box of the first list and one of the second, in any order.
    fn for_each_pair_between(&mut self, mut lists: [Vec<(Box2, u32)>; 2], mut visit: impl FnMut([u32; 2])) {
        for list in &mut lists {
            list.sort_unstable_by(|(left, _), (right, _)| left.low.x.total_cmp(&right.low.x));
        }
        let mut next = [0; 2];
        while let [Some((first, _)), Some((second, _))] = [0, 1].map(|side| lists[side].get(next[side])) {
            let side = usize::from(second.low.x < first.low.x);
            let (bounds, index) = lists[side][next[side]];
            next[side] += 1;
            for (other_bounds, other) in &lists[1 - side][next[1 - side]..] {
                if other_bounds.low.x >= bounds.high.x || self.comparisons_left == 0 {
                    break;
                }
                self.comparisons_left -= 1;
                if bounds.overlaps(other_bounds, self.least_overlap) {
                    visit([index, *other]);
                }
            }
        }
    }
}

/// Do two triangles overlap by more than `least`? By the separating axis theorem.
fn overlap(triangles: [[DVec2; 3]; 2], least: f64) -> bool {
    let interval = |triangle: &[DVec2; 3], axis: DVec2| {
        let [a, b, c] = triangle.map(|corner| corner.dot(axis));
        [a.min(b).min(c), a.max(b).max(c)]
    };
    triangles.iter().all(|[a, b, c]| {
        [*b - *a, *c - *b, *a - *c].into_iter().all(|edge| {
            let axis = edge.perp().normalize_or_zero();
            let [one, other] = [0, 1].map(|index| interval(&triangles[index], axis));
            one[1] - other[0] > least && other[1] - one[0] > least
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::coplanar::CoplanarFaces;

    /// The corners of a square in a plane that no axis is in, lifted off it, and two triangles.
    fn square(
        positions: &mut Vec<Vec3>,
        low: [f64; 2],
        side: f64,
        lift: f64,
        is_turned: bool,
    ) -> [[u32; 3]; 2] {
        let plane = ProjectionPlane::across(DVec3::new(0.3, -0.5, 0.8).normalize());
        let normal = plane.right.cross(plane.up);
        let first = positions.len() as u32;
        positions.extend([[0., 0.], [1., 0.], [1., 1.], [0., 1.]].map(|[u, v]| {
            let [u, v] = [low[0] + side * u, low[1] + side * v];
            (u * plane.right + v * plane.up + lift * normal).as_vec3()
        }));
        let [a, b, c, d] = [0, 1, 2, 3].map(|corner| first + corner);
        if is_turned {
            [[b, a, d], [b, d, c]]
        } else {
            [[a, b, c], [a, c, d]]
        }
    }

    #[test]
    fn overlapping_faces_of_a_plane_are_found() {
        for (lift, is_found) in [
            (0.0, true),
            (1e-6, true),
            (-2e-6, true),
            (2e-5, false),
            (0.01, false),
        ] {
            for is_turned in [false, true] {
                let mut positions = Vec::new();
                let wall = square(&mut positions, [-1.0, -1.0], 2.0, 0.0, false);
                let decal = square(&mut positions, [-0.3, 0.1], 0.2, lift, is_turned);
                let triangles = [wall, decal].concat();
                let CoplanarFaces { duplicates, overlaps } = CoplanarFaces::new(&positions, &triangles);
                assert!(duplicates.is_empty(), "their outlines differ");
                // The decal lies on the wall's second triangle.
                let expected: &[[u32; 2]] = if is_found { &[[2, 1], [3, 1]] } else { &[] };
                assert_eq!(overlaps, expected, "{lift} {is_turned}");
            }
        }
    }

    #[test]
    fn all_triangles_of_a_finely_divided_wall_are_found() {
        let mut positions: Vec<Vec3> = (0..101 * 101)
            .map(|i| Vec3::new((i % 101) as f32 / 50.0 - 1.0, (i / 101) as f32 / 50.0 - 1.0, 0.3))
            .collect();
        let quads = (0..100 * 100_u32).flat_map(|i| {
            let [a, b] = [i / 100 * 101 + i % 100, i / 100 * 101 + i % 100 + 1];
            [[a, b, b + 101], [a, b + 101, a + 101]]
        });
        let wall: Vec<[u32; 3]> = quads.collect();
        let decal = [[10_201, 10_202, 10_203]];
        positions.extend([[-0.51, -0.51], [0.53, -0.51], [0.53, 0.47]].map(|[x, y]| Vec3::new(x, y, 0.3)));
        for triangles in [[&wall[..], &decal].concat(), [&decal[..], &wall].concat()] {
            let overlaps = CoplanarFaces::new(&positions, &triangles).overlaps;
            // Half of 52 x 49 quads of two triangles, and those at the edges.
            assert!((2500..2900).contains(&overlaps.len()), "{}", overlaps.len());
        }
    }

    #[test]
    fn faces_that_touch_or_cross_do_not_overlap() {
        let mut positions = Vec::new();
        let mut triangles = Vec::new();
        for tile in 0..16 {
            let low = [f64::from(tile % 4) - 2.0, f64::from(tile / 4) - 2.0];
            triangles.extend(square(&mut positions, low, 1.0, 0.0, tile % 3 == 0));
        }
        let first = positions.len() as u32;
        positions.extend([
            Vec3::new(0.0, 0.0, 2.0),
            Vec3::new(0.1, 0.0, -2.0),
            Vec3::new(0.0, 0.7, -2.0),
        ]);
        triangles.push([first, first + 1, first + 2]);
        assert_eq!(
            CoplanarFaces::new(&positions, &triangles),
            CoplanarFaces::default()
        );
    }

    #[test]
    fn thousands_of_faces_in_a_plane_take_bounded_time() {
        let mut positions = Vec::new();
        let mut triangles = Vec::new();
        for disc in 0..3000 {
            let low = [f64::from(disc) * 1e-5, f64::from(disc % 7) * 1e-2];
            triangles.extend(square(&mut positions, low, 1.0, 0.0, false));
        }
        let overlaps = CoplanarFaces::new(&positions, &triangles).overlaps;
        assert!(overlaps.len() > triangles.len() && overlaps.len() <= MAX_EARLIER * triangles.len());
    }
}
