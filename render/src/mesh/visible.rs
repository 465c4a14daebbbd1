//! Which triangles have an area, and the middle of their bounding box: what positions are rounded around.
//!
//! A triangle without an area is not drawn, so it must not count either: far away from the others it would stretch the
//! box, and rounding relative to its middle would move the vertices of the others. Whether rounding alone may have made
//! an area depends on the box in turn, so box and triangles are found together, a few times over if need be.

use glam::{DVec3, Vec3};

use super::{MAX_HALF_EXTENT, MIN_HALF_EXTENT, MeshError, double_area};

/// A triangle is degenerate if its height is at most this fraction of its largest coordinate, so that rounding to `f32`
/// alone may have made it (half a unit in the last place at each of two corners).
const DEGENERATE_HEIGHT: f64 = 1.0 / (1u64 << 23) as f64;
/// The same for the coordinates of the file in `f64`, with room for the rounding of decimals.
const DEGENERATE_HEIGHT_F64: f64 = 1.0 / (1u64 << 51) as f64;
/// Whatever the origin is, a corner's largest coordinate is at least this fraction of the longest edge.
const LEAST_COORDINATE: f64 = 0.288_675_134_594_812_9;
/// Each round removes degenerate triangles that stretched the box of the round before; two are enough for most files.
const MAX_ROUNDS: usize = 8;

/// The triangles that are drawn.
pub(super) struct VisibleTriangles {
    /// Center of their bounding box.
    pub(super) origin: DVec3,
    /// All vertices relative to it; those of no triangle may hold anything.
    pub(super) positions: Vec<Vec3>,
    /// The others, in ascending order.
    pub(super) dropped: Vec<usize>,
}

impl VisibleTriangles {
    /// # Errors
    /// [`MeshError`] for indices out of range, corners that are not finite, extents beyond single precision, and if
    /// there is no triangle with an area.
    pub(super) fn try_new(positions: &[DVec3], triangles: &[[u32; 3]]) -> Result<Self, MeshError> {
        let soup = Soup { positions, triangles };
        let all = soup.checked_bounds()?;
        let num_triangles = triangles.len();
        if all.half_extent() <= 0.0 {
            return Err(MeshError::AllDegenerate { num_triangles });
        }
        let around_all = soup.around(all.center());
        let (bounds, positions, dropped) = match soup.finer_than_rounding(&around_all) {
            none if none.is_empty() && all.half_extent() <= MAX_HALF_EXTENT => (all, around_all, none),
            _ if all.half_extent() < MIN_HALF_EXTENT => (all, around_all, Vec::new()),
            _ => {
                let (bounds, dropped) = soup.visible_bounds()?;
                let positions = soup.around(bounds.center());
                (bounds, positions, dropped)
            }
        };
        let extent = 2.0 * bounds.half_extent();
        if !(MIN_HALF_EXTENT..=MAX_HALF_EXTENT).contains(&bounds.half_extent()) {
            return Err(MeshError::Extent { extent });
        }
        if dropped.len() == num_triangles {
            return Err(MeshError::AllTooFine {
                num_triangles,
                extent,
            });
        }
        Ok(Self {
            origin: bounds.center(),
            positions,
            dropped,
        })
    }
}

struct Soup<'a> {
    positions: &'a [DVec3],
    triangles: &'a [[u32; 3]],
}

impl Soup<'_> {
    fn corners(&self, triangle: &[u32; 3]) -> [DVec3; 3] {
        triangle.map(|index| self.positions[index as usize])
    }

    /// The box of all triangles that may be drawn. Validates the indices of all, and the corners of those.
    fn checked_bounds(&self) -> Result<Bounds, MeshError> {
        let mut bounds = Bounds::EMPTY;
        for (triangle, corners) in self.triangles.iter().enumerate() {
            let is_proper = is_proper(corners);
            for &index in corners {
                let position = self
                    .positions
                    .get(index as usize)
                    .ok_or(MeshError::IndexOutOfRange {
                        triangle,
                        index,
                        num_vertices: self.positions.len(),
                    })?;
                if is_proper {
                    if !position.is_finite() {
                        return Err(MeshError::NonFinite {
                            vertex: index as usize,
                        });
                    }
                    bounds.extend(*position);
                }
            }
        }
        Ok(bounds)
    }

    /// All vertices relative to an origin.
    fn around(&self, origin: DVec3) -> Vec<Vec3> {
        let positions = self.positions.iter();
        positions.map(|position| (position - origin).as_vec3()).collect()
    }

    /// The box of the triangles that are drawn, and the indices of the others. Only a mesh with degenerate triangles
    /// takes more than one round, and few take more than two.
    fn visible_bounds(&self) -> Result<(Bounds, Vec<usize>), MeshError> {
        let num_triangles = self.triangles.len();
        let without_area =
            self.indices_where(|triangle| !is_proper(triangle) || has_no_area(self.corners(triangle)));
        if without_area.len() == num_triangles {
            return Err(MeshError::AllDegenerate { num_triangles });
        }
        let mut bounds = self.bounds_without(&without_area);
        let mut dropped = without_area.clone();
        for _ in 0..MAX_ROUNDS {
            let now_dropped = union(
                &without_area,
                &self.finer_than_rounding(&self.around(bounds.center())),
            );
            let is_settled = now_dropped == dropped;
            dropped = now_dropped;
            if is_settled || dropped.len() == num_triangles {
                break;
            }
            bounds = self.bounds_without(&dropped);
        }
        Ok((bounds, dropped))
    }

    /// The triangles whose area rounding may have made, of vertices relative to an origin.
    fn finer_than_rounding(&self, around_origin: &[Vec3]) -> Vec<usize> {
        self.indices_where(|triangle| {
            !is_proper(triangle) || may_be_rounding(triangle.map(|index| around_origin[index as usize]))
        })
    }

    fn indices_where(&self, is_wanted: impl Fn(&[u32; 3]) -> bool) -> Vec<usize> {
        let triangles = self.triangles.iter().enumerate();
        let wanted = triangles.filter(|(_, triangle)| is_wanted(triangle));
        wanted.map(|(index, _)| index).collect()
    }

    /// The box of all triangles but those of an ascending list.
    fn bounds_without(&self, left_out: &[usize]) -> Bounds {
        let mut left_out = left_out.iter().peekable();
        let triangles = self.triangles.iter().enumerate();
        let counted = triangles.filter(|(index, _)| left_out.next_if_eq(&index).is_none());
        Bounds::of(counted.map(|(_, triangle)| self.corners(triangle)))
    }
}

/// Has the triangle three different corners?
fn is_proper(&[a, b, c]: &[u32; 3]) -> bool {
    a != b && b != c && c != a
}

/// The union of ascending lists.
fn union(one: &[usize], other: &[usize]) -> Vec<usize> {
    let mut union = [one, other].concat();
    union.sort_unstable();
    union.dedup();
    union
}

struct Bounds {
    low: DVec3,
    high: DVec3,
}

impl Bounds {
    const EMPTY: Self = Self {
        low: DVec3::INFINITY,
        high: DVec3::NEG_INFINITY,
    };

    fn of(triangles: impl Iterator<Item = [DVec3; 3]>) -> Self {
        let mut bounds = Self::EMPTY;
        triangles.flatten().for_each(|corner| bounds.extend(corner));
        bounds
    }

    fn extend(&mut self, corner: DVec3) {
        self.low = self.low.min(corner);
        self.high = self.high.max(corner);
    }

    fn center(&self) -> DVec3 {
        self.low / 2.0 + self.high / 2.0
    }

    /// Half of the longest side.
    fn half_extent(&self) -> f64 {
        (self.high / 2.0 - self.low / 2.0).max_element()
    }
}

/// May rounding to `f32` have made its area?
fn may_be_rounding(corners: [Vec3; 3]) -> bool {
    let largest_coordinate = corners
        .iter()
        .map(|corner| corner.abs().max_element())
        .fold(0.0, f32::max);
    let height = f64::from(largest_coordinate) * DEGENERATE_HEIGHT;
    let corners = corners.map(Vec3::as_dvec3);
    let double_area = double_area(corners);
    // Nearly all triangles are far from the limit, and are told from it by squares.
    let is_far_above = double_area.length_squared() > 2.0 * longest_edge_squared(corners) * height * height;
    !is_far_above && double_area.length() <= longest_edge_squared(corners).sqrt() * height
}

/// Is it degenerate around any origin, or by the rounding of its coordinates in the file?
fn has_no_area(corners: [DVec3; 3]) -> bool {
    let longest_edge = longest_edge_squared(corners).sqrt();
    let largest_coordinate = corners
        .iter()
        .map(|corner| corner.abs().max_element())
        .fold(0.0, f64::max);
    let height =
        (longest_edge * LEAST_COORDINATE * DEGENERATE_HEIGHT).max(largest_coordinate * DEGENERATE_HEIGHT_F64);
    let double_area = double_area(corners).length();
    double_area.is_finite() && double_area <= longest_edge * height
}

fn longest_edge_squared([a, b, c]: [DVec3; 3]) -> f64 {
    let edges = [b - a, c - b, a - c];
    edges.map(DVec3::length_squared).into_iter().fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::mesh::Mesh;

    /// A pyramid on a square, of `size`, at `place`.
    fn pyramid(place: DVec3, size: f64) -> (Vec<DVec3>, Vec<[u32; 3]>) {
        let corners = [
            [0., 0., 0.],
            [1., 0., 0.],
            [1., 0., 1.],
            [0., 0., 1.],
            [0.5, 0.7, 0.5],
        ];
        let positions = corners.map(|corner| place + size * DVec3::from(corner));
        let triangles = vec![[0, 1, 2], [0, 2, 3], [1, 0, 4], [2, 1, 4], [3, 2, 4], [0, 3, 4]];
        (positions.to_vec(), triangles)
    }

    #[test]
    fn a_triangle_without_an_area_moves_nothing() {
        for (place, size) in [(DVec3::ZERO, 1.0), (DVec3::new(-4.5e5, 4e6, 130.0), 3.0)] {
            let (positions, triangles) = pyramid(place, size);
            let alone = Mesh::try_new(&positions, triangles.clone(), None).unwrap();
            let far = DVec3::new(1e6, 2e6, -3e6);
            for flat in [
                [DVec3::ZERO; 3],
                [far; 3],
                [far, far, far + 0.1],
                [far + 0.1, far + 0.2, far + 0.3],
                [far * 1e20; 3],
                [DVec3::ZERO, far / 3.0, far],
            ] {
                let (mut positions, mut triangles) = (positions.clone(), triangles.clone());
                positions.extend(flat);
                triangles.insert(2, [5, 6, 7]);
                let mesh = Mesh::try_new(&positions, triangles, None).unwrap();
                assert_eq!(mesh.num_degenerate(), 1, "{flat:?}");
                assert_eq!(
                    (mesh.origin(), mesh.positions(), mesh.triangles()),
                    (alone.origin(), alone.positions(), alone.triangles()),
                    "{flat:?}"
                );
            }
        }
    }

    #[test]
    fn a_corner_twice_is_no_triangle_whatever_its_third_is() {
        let (mut positions, mut triangles) = pyramid(DVec3::ZERO, 1.0);
        positions.extend([DVec3::NAN, DVec3::splat(1e200)]);
        triangles.extend([[0, 0, 5], [6, 1, 6]]);
        let mesh = Mesh::try_new(&positions, triangles, None).unwrap();
        assert_eq!((mesh.num_degenerate(), mesh.positions().len()), (2, 5));
    }

    #[test]
    fn faces_too_far_apart_are_named() {
        let (mut positions, mut triangles) = pyramid(DVec3::ZERO, 1e-3);
        let (far, _) = pyramid(DVec3::splat(1e9), 1e-3);
        positions.extend(far);
        triangles.extend(
            triangles
                .clone()
                .iter()
                .map(|triangle| triangle.map(|index| index + 5)),
        );
        let error = Mesh::try_new(&positions, triangles, None).unwrap_err();
        assert!(error.to_string().contains("far away from the others"), "{error}");
    }
}
