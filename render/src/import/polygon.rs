//! Polygon triangulation.
//!
//! Convex polygons become fans. Concave ones, where a fan would cover area outside of the face, are ear-clipped in the
//! plane of their Newell normal.

use glam::{DVec2, DVec3};

/// Ear clipping takes quadratic time. Above this number of corners a concave polygon becomes a fan too, so that one
/// hostile line cannot stall the importer for minutes.
const MAX_CLIPPED_CORNERS: usize = 4096;

/// Calls `emit` with the corners (indices into `polygon`) of each triangle; fewer than three corners give none.
pub(super) fn triangulate(polygon: &[DVec3], mut emit: impl FnMut([usize; 3])) {
    let num_corners = polygon.len();
    if num_corners <= 3 {
        if num_corners == 3 {
            emit([0, 1, 2]);
        }
        return;
    }
    let flat = flatten(polygon);
    if is_convex(&flat) || num_corners > MAX_CLIPPED_CORNERS {
        for corner in 2..num_corners {
            emit([0, corner - 1, corner]);
        }
        return;
    }
    clip_ears(&flat, emit);
}

/// Projects along the dominant axis of the polygon's normal, keeping it counter-clockwise.
fn flatten(polygon: &[DVec3]) -> Vec<DVec2> {
    let first = polygon[0];
    let normal: DVec3 = polygon
        .iter()
        .zip(polygon.iter().cycle().skip(1))
        .map(|(&corner, &next)| (corner - first).cross(next - first))
        .sum();
    let magnitude = normal.abs();
    polygon
        .iter()
        .map(|&corner| {
            let DVec3 { x, y, z } = corner - first;
            if magnitude.x >= magnitude.y && magnitude.x >= magnitude.z {
                DVec2::new(y, z * normal.x.signum())
            } else if magnitude.y >= magnitude.z {
                DVec2::new(z, x * normal.y.signum())
            } else {
                DVec2::new(x, y * normal.z.signum())
            }
        })
        .collect()
}

/// Twice the signed area: positive if `a`, `b`, `c` turn left.
fn turn(a: DVec2, b: DVec2, c: DVec2) -> f64 {
    (b - a).perp_dot(c - a)
}

/// Does every fan triangle from corner 0 turn left? Then a fan is exact.
fn is_convex(flat: &[DVec2]) -> bool {
    let num_corners = flat.len();
    let turns_left = |corner: usize| {
        turn(
            flat[corner],
            flat[(corner + 1) % num_corners],
            flat[(corner + 2) % num_corners],
        ) >= 0.0
    };
    (0..num_corners).all(turns_left)
        && (2..num_corners).all(|corner| turn(flat[0], flat[corner - 1], flat[corner]) >= 0.0)
}

fn clip_ears(flat: &[DVec2], mut emit: impl FnMut([usize; 3])) {
    let mut left: Vec<usize> = (0..flat.len()).collect();
    let mut at = 0;
    let mut misses = 0;
    while left.len() > 3 {
        let num_left = left.len();
        let ear = [
            left[(at + num_left - 1) % num_left],
            left[at % num_left],
            left[(at + 1) % num_left],
        ];
        // Only self-intersecting polygons have no ear: clip one anyway.
        if misses >= num_left || is_ear(flat, &left, ear) {
            emit(ear);
            left.remove(at % num_left);
            at %= left.len();
            misses = 0;
        } else {
            at = (at + 1) % num_left;
            misses += 1;
        }
    }
    emit([left[0], left[1], left[2]]);
}

fn is_ear(flat: &[DVec2], left: &[usize], ear: [usize; 3]) -> bool {
    let [a, b, c] = ear.map(|corner| flat[corner]);
    if turn(a, b, c) <= 0.0 {
        return false;
    }
    !left.iter().map(|&corner| flat[corner]).any(|point| {
        // Corners at the same position (a bridge to a hole) don't block.
        point != a
            && point != b
            && point != c
            && turn(a, b, point) >= 0.0
            && turn(b, c, point) >= 0.0
            && turn(c, a, point) >= 0.0
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn areas(polygon: &[DVec3]) -> Vec<DVec3> {
        let mut areas = Vec::new();
        triangulate(polygon, |[a, b, c]| {
            areas.push((polygon[b] - polygon[a]).cross(polygon[c] - polygon[a]) / 2.0);
        });
        areas
    }

    #[test]
    fn concave_polygons_are_covered_once() {
        // An L, a quad with a reflex corner, and a comb.
        let cases: [(&[[f64; 2]], f64); 3] = [
            (&[[0., 0.], [2., 0.], [2., 1.], [1., 1.], [1., 2.], [0., 2.]], 3.0),
            (&[[0., 0.], [4., 0.], [1., 1.], [0., 4.]], 4.0),
            (
                &[
                    [0., 0.],
                    [5., 0.],
                    [5., 3.],
                    [4., 3.],
                    [4., 1.],
                    [3., 1.],
                    [3., 3.],
                    [2., 3.],
                    [2., 1.],
                    [1., 1.],
                    [1., 3.],
                    [0., 3.],
                ],
                11.0,
            ),
        ];
        for (outline, area) in cases {
            for rotation in 0..outline.len() {
                let mut outline = outline.to_vec();
                outline.rotate_left(rotation);
                for to_space in [
                    |[u, v]: [f64; 2]| DVec3::new(u, v, 0.0),
                    |[u, v]: [f64; 2]| DVec3::new(7.0, u, v),
                    |[u, v]: [f64; 2]| DVec3::new(u, 1.0, v),
                ] {
                    let polygon: Vec<DVec3> = outline.iter().copied().map(to_space).collect();
                    let areas = areas(&polygon);
                    assert_eq!(areas.len(), polygon.len() - 2);
                    let unsigned: f64 = areas.iter().map(|area| area.length()).sum();
                    let signed = areas.iter().sum::<DVec3>().length();
                    assert!(
                        (unsigned - area).abs() < 1e-9 && (signed - area).abs() < 1e-9,
                        "{unsigned} {signed}"
                    );
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_polygon_gives_all_but_two_triangles(
            corners in prop::collection::vec(prop::array::uniform3(-1.0..1.0_f64), 3..40),
        ) {
            let polygon: Vec<DVec3> = corners.into_iter().map(DVec3::from).collect();
            prop_assert_eq!(areas(&polygon).len(), polygon.len() - 2);
        }
    }
}
