//! Closed solids: primitives and their transforms.
//!
//! A solid is a list of point rings, skinned and capped. Faces always point outward: the sign of the volume
//! decides. Lengths are meters, +y is up, +z is front.

use std::f64::consts::TAU;

use glam::{DAffine3, DMat3, DVec2, DVec3};

/// A closed surface with outward winding.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Solid {
    pub(crate) positions: Vec<DVec3>,
    pub(crate) triangles: Vec<[usize; 3]>,
}

impl Solid {
    /// Joins each ring to the next and caps both ends, which should be star-shaped around their center.
    pub(super) fn loft(rings: &[Vec<DVec3>]) -> Self {
        let mut solid = Self::skin(rings);
        let len = rings[0].len();
        for (first, ring) in [
            (0, &rings[0]),
            (solid.positions.len() - len, &rings[rings.len() - 1]),
        ] {
            let middle = solid.positions.len();
            solid.positions.push(ring.iter().sum::<DVec3>() / len as f64);
            for corner in 0..len {
                let (here, next) = (first + corner, first + (corner + 1) % len);
                solid.triangles.push(if first == 0 {
                    [middle, next, here]
                } else {
                    [middle, here, next]
                });
            }
        }
        solid.oriented_outward()
    }

    fn skin(rings: &[Vec<DVec3>]) -> Self {
        let len = rings[0].len();
        let mut solid = Self {
            positions: rings.concat(),
            triangles: Vec::new(),
        };
        for (below, above) in (1..rings.len()).map(|above| (above - 1, above)) {
            for corner in 0..len {
                let next = (corner + 1) % len;
                let [a, b, c, d] = [
                    below * len + corner,
                    below * len + next,
                    above * len + next,
                    above * len + corner,
                ];
                solid.triangles.extend([[a, b, c], [a, c, d]]);
            }
        }
        solid
    }

    /// A box standing on the ground, with edges beveled by an eighth of the shortest side.
    pub(super) fn cuboid(width: f64, height: f64, depth: f64) -> Self {
        Self::beveled_box(width, height, depth, width.min(height).min(depth) / 8.0)
    }

    /// A box standing on the ground; `bevel` may be up to half of the shortest side.
    pub(crate) fn beveled_box(width: f64, height: f64, depth: f64, bevel: f64) -> Self {
        let ring = |y: f64, inset: f64| {
            let (x, z) = (width / 2.0 - inset, depth / 2.0 - inset);
            let corners = [
                (x - bevel, z),
                (x, z - bevel),
                (x, bevel - z),
                (x - bevel, -z),
                (bevel - x, -z),
                (-x, bevel - z),
                (-x, z - bevel),
                (bevel - x, z),
            ];
            corners.map(|(x, z)| DVec3::new(x, y, z)).to_vec()
        };
        // An inset end keeps its beveled corners, only smaller.
        let half = bevel / 2.0;
        Self::loft(&[
            ring(0.0, half),
            ring(half, 0.0),
            ring(height - half, 0.0),
            ring(height, half),
        ])
    }

    /// A cylinder standing on the ground.
    pub(super) fn cylinder(radius: f64, height: f64, num_sides: usize) -> Self {
        Self::lathe(&[(radius, 0.0), (radius, height)], num_sides)
    }

    /// Revolves a profile of (radius, height) around the y axis. A hollow profile returns down inside.
    pub(super) fn lathe(profile: &[(f64, f64)], num_sides: usize) -> Self {
        let ring = |&(radius, y): &(f64, f64)| -> Vec<DVec3> {
            circle(num_sides)
                .map(|at| DVec3::new(radius * at.x, y, radius * at.y))
                .collect()
        };
        Self::loft(&profile.iter().map(ring).collect::<Vec<_>>())
    }

    /// A straight round bar.
    pub(super) fn bar(from: DVec3, to: DVec3, radius: f64, num_sides: usize) -> Self {
        Self::tapered_bar(from, to, radius, radius, num_sides)
    }

    /// A straight round bar with two end radii.
    pub(super) fn tapered_bar(
        from: DVec3,
        to: DVec3,
        start_radius: f64,
        end_radius: f64,
        num_sides: usize,
    ) -> Self {
        let (right, up) = (to - from).normalize().any_orthonormal_pair();
        let ring = |center: DVec3, radius: f64| -> Vec<DVec3> {
            circle(num_sides)
                .map(|at| center + radius * (at.x * right + at.y * up))
                .collect()
        };
        // Additional rings avoid needle-shaped triangles.
        let at = |share: f64| {
            ring(
                from.lerp(to, share),
                start_radius + share * (end_radius - start_radius),
            )
        };
        Self::loft(&[at(0.0), at(1.0 / 3.0), at(2.0 / 3.0), at(1.0)])
    }

    /// A round tube along an open path.
    pub(super) fn tube(path: &[DVec3], radius: f64, num_sides: usize) -> Self {
        Self::loft(&sweep(path, radius, num_sides))
    }

    /// An outline in the x-y plane, star-shaped around its center, extruded by `thickness` around z = 0.
    pub(super) fn extrusion(outline: &[DVec2], thickness: f64) -> Self {
        let middle = outline.iter().sum::<DVec2>() / outline.len() as f64;
        let ring = |z: f64, size: f64| -> Vec<DVec3> {
            outline
                .iter()
                .map(|&at| (middle + size * (at - middle)).extend(z))
                .collect()
        };
        let (half, edge) = (thickness / 2.0, 0.97);
        Self::loft(&[
            ring(-half, edge),
            ring(-0.7 * half, 1.0),
            ring(0.7 * half, 1.0),
            ring(half, edge),
        ])
    }

    pub(crate) fn translated(self, x: f64, y: f64, z: f64) -> Self {
        self.transformed(DAffine3::from_translation(DVec3::new(x, y, z)))
    }

    pub(super) fn rotated_x(self, angle: f64) -> Self {
        self.transformed(DAffine3::from_rotation_x(angle))
    }

    pub(super) fn rotated_y(self, angle: f64) -> Self {
        self.transformed(DAffine3::from_rotation_y(angle))
    }

    pub(super) fn rotated_z(self, angle: f64) -> Self {
        self.transformed(DAffine3::from_rotation_z(angle))
    }

    pub(super) fn scaled(self, x: f64, y: f64, z: f64) -> Self {
        self.transformed(DAffine3::from_scale(DVec3::new(x, y, z)))
    }

    /// Mirrored across x = 0.
    pub(super) fn mirrored(self) -> Self {
        self.scaled(-1.0, 1.0, 1.0)
    }

    /// Shears z by height: a leaning backrest or screen with level edges.
    pub(super) fn sheared(self, z_by_y: f64) -> Self {
        self.transformed(DAffine3::from_mat3(DMat3::from_cols(
            DVec3::X,
            DVec3::new(0.0, 1.0, z_by_y),
            DVec3::Z,
        )))
    }

    pub(super) fn transformed(mut self, transform: DAffine3) -> Self {
        for position in &mut self.positions {
            *position = transform.transform_point3(*position);
        }
        self.oriented_outward()
    }

    pub(super) fn append(&mut self, other: Self) {
        let first = self.positions.len();
        self.positions.extend(other.positions);
        self.triangles.extend(
            other
                .triangles
                .iter()
                .map(|triangle| triangle.map(|corner| first + corner)),
        );
    }

    fn oriented_outward(mut self) -> Self {
        if self.volume() < 0.0 {
            for [_, b, c] in &mut self.triangles {
                std::mem::swap(b, c);
            }
        }
        self
    }

    pub(super) fn volume(&self) -> f64 {
        let corners = self
            .triangles
            .iter()
            .map(|triangle| triangle.map(|corner| self.positions[corner]));
        corners.map(|[a, b, c]| a.dot(b.cross(c)) / 6.0).sum()
    }
}

/// Points on the unit circle, counter-clockwise.
pub(super) fn circle(num_points: usize) -> impl Iterator<Item = DVec2> {
    (0..num_points).map(move |point| DVec2::from_angle(TAU * point as f64 / num_points as f64))
}

/// Points on an arc around the origin in the x-y plane, both ends included.
pub(super) fn arc(radius_x: f64, radius_y: f64, from: f64, to: f64, num_points: usize) -> Vec<DVec3> {
    (0..num_points)
        .map(|point| from + (to - from) * point as f64 / (num_points - 1) as f64)
        .map(|angle| DVec3::new(radius_x * angle.cos(), radius_y * angle.sin(), 0.0))
        .collect()
}

/// A circle around every point of a path, with a rotation-minimizing frame.
fn sweep(path: &[DVec3], radius: f64, num_sides: usize) -> Vec<Vec<DVec3>> {
    let direction = |at: usize| (path[(at + 1).min(path.len() - 1)] - path[at.saturating_sub(1)]).normalize();
    let mut right = direction(0).any_orthonormal_vector();
    (0..path.len())
        .map(|at| {
            let forward = direction(at);
            right = (right - forward * forward.dot(right)).normalize();
            let up = forward.cross(right);
            circle(num_sides)
                .map(|on| path[at] + radius * (on.x * right + on.y * up))
                .collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_those_of_the_shapes() {
        let close = |solid: Solid, volume: f64, tolerance: f64| {
            let found = solid.volume();
            assert!(
                (found / volume - 1.0).abs() < tolerance,
                "{found} instead of {volume}"
            );
        };
        close(Solid::beveled_box(1.0, 2.0, 3.0, 1e-6), 6.0, 1e-5);
        close(Solid::cylinder(0.5, 2.0, 64), TAU / 4.0, 0.01);
        close(
            Solid::cylinder(0.5, 2.0, 64).mirrored().scaled(1.0, -1.0, 1.0),
            TAU / 4.0,
            0.01,
        );
        close(
            Solid::bar(DVec3::ZERO, DVec3::splat(1.0), 0.1, 64),
            TAU / 2.0 * 0.01 * 3.0_f64.sqrt(),
            0.01,
        );
        // A cup: outside up, inside down.
        let cup = [
            (0.0, 0.0),
            (1.0, 0.0),
            (1.0, 1.0),
            (0.9, 1.0),
            (0.9, 0.1),
            (0.0, 0.1),
        ];
        close(Solid::lathe(&cup, 128), TAU / 2.0 * (1.0 - 0.81 * 0.9), 0.01);
        let bow = arc(1.0, 1.0, 0.0, TAU / 2.0, 65);
        close(Solid::tube(&bow, 0.1, 64), TAU * TAU / 4.0 * 0.01, 0.01);
    }
}
