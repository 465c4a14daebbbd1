//! Surface distance of two point clouds after rigid-plus-scale registration: the likely rotations, then point-to-plane ICP.
//!
//! Most candidates are other shapes, so a few points of a candidate, its [`Probes`], are registered first. Only where they
//! come to lie near the surface is the candidate's whole cloud worth reading.

use std::f32::consts::TAU;

use glam::{Mat3, Quat, Vec3};

use super::orientation::YAW_STEPS;
use crate::spatial::KdLeaves;

/// Points of the rotation search.
const NUM_COARSE_POINTS: usize = 64;
/// Points whose nearest neighbor says how dense a cloud is.
const NUM_SPACING_POINTS: usize = 64;
/// Points that are registered to reject a candidate.
const NUM_PROBES: usize = 128;
/// Points of the registration that counts.
const NUM_FINE_POINTS: usize = 512;
/// Points that a normal is estimated from.
const NUM_PLANE_POINTS: usize = 9;
/// Steps of power iteration.
const NUM_POWER_ITERATIONS: usize = 64;
/// Mean distance after the rotation search above which ICP is skipped.
const MIN_REJECT_DISTANCE: f32 = 0.06;
/// Distance by which refining the yaw may improve a guess: half a step moves a point by an eighth of its distance to the
/// axis at most.
const MAX_REFINEMENT: f32 = 0.13;
/// ICP iterations of the probes, and of the whole cloud from where they are.
const NUM_PROBE_ITERATIONS: usize = 4;
const NUM_FINE_ITERATIONS: usize = 6;
/// The distance of registered probes, in accepted distances, above which a candidate is another shape.
const MAX_PROBE_DISTANCE: f32 = 2.0;
/// Rotation vector, translation and scale.
const NUM_UNKNOWNS: usize = 7;
/// Largest rotation (radians) and relative scale change of one ICP step.
const MAX_STEP: f32 = 0.2;

/// Surface points with normals and a nearest-neighbor index.
pub(crate) struct PointCloud {
    pub(crate) points: Vec<Vec3>,
    pub(crate) normals: Vec<Vec3>,
    index: KdLeaves,
    /// Mean distance to the nearest neighbor.
    spacing: f32,
}

/// A few points of a shape.
pub(crate) struct Probes(Vec<Vec3>);

impl Probes {
    pub(crate) fn new(points: &[Vec3]) -> Self {
        Self(evenly(points, NUM_PROBES))
    }
}

/// At most `num` of these points, at equal steps.
fn evenly(points: &[Vec3], num: usize) -> Vec<Vec3> {
    let step = points.len().div_ceil(num).max(1);
    points.iter().copied().step_by(step).collect()
}

/// A source point with its nearest target point.
struct Correspondence {
    from: Vec3,
    to: Vec3,
    normal: Vec3,
}

impl PointCloud {
    /// Normals are estimated where there are none.
    pub(crate) fn new(points: &[[f32; 3]], normals: Option<&[[f32; 3]]>) -> Self {
        let to_vectors = |vectors: &[[f32; 3]]| vectors.iter().map(|&v| Vec3::from(v)).collect::<Vec<_>>();
        let points = to_vectors(points);
        let normals = normals.map_or_else(|| estimate_normals(&points), to_vectors);
        let index = KdLeaves::new(&points);
        let step = points.len().div_ceil(NUM_SPACING_POINTS).max(1);
        let places = (0..points.len()).step_by(step);
        let neighbors = places.filter_map(|i| {
            let nearest = index.nearest(points[i], Some(i))?;
            Some(points[i].distance(points[nearest]))
        });
        let distances: Vec<f32> = neighbors.collect();
        let spacing = distances.iter().sum::<f32>() / distances.len().max(1) as f32;
        Self {
            points,
            normals,
            index,
            spacing,
        }
    }

    /// Brings a shape's probes onto this surface, beginning at the best of these rotations of this cloud onto that shape.
    /// `None` if they stay too far for a distance of at most `max_distance` between the two surfaces.
    pub(crate) fn register_probes(
        &self,
        probes: &Probes,
        rotations: &[Mat3],
        max_distance: f32,
    ) -> Option<SimilarityTransform> {
        let reject_above = MIN_REJECT_DISTANCE.max(5.0 * max_distance);
        let coarse = evenly(&probes.0, NUM_COARSE_POINTS);
        let mut best = (f32::INFINITY, Mat3::IDENTITY);
        for rotation in rotations {
            self.improve(&coarse, rotation.transpose(), &mut best);
        }
        if best.0 > reject_above + MAX_REFINEMENT {
            return None;
        }
        // Refines the yaw by halving the step.
        for half in [0.5, 0.25, 0.125, 0.0625] {
            let step = half * TAU / YAW_STEPS as f32;
            let rotation = best.1;
            for angle in [-step, step] {
                self.improve(&coarse, rotation * Mat3::from_rotation_y(angle), &mut best);
            }
        }
        let (guess, rotation) = best;
        if guess > reject_above {
            return None;
        }
        // Centroid and scale depend on the sampled points, and the rotation is known to a degree: ICP
        // estimates all of them.
        let start = SimilarityTransform {
            rotation,
            scale: 1.0,
            translation: Vec3::ZERO,
        };
        let registered = self.registered(&probes.0, start, 2.0 * self.spacing, NUM_PROBE_ITERATIONS);
        let distance = self.residual(&self.correspondences(&probes.0, registered));
        (distance <= MAX_PROBE_DISTANCE * max_distance).then_some(registered)
    }

    /// Symmetric mean surface distance to a cloud after registration, which begins at where its probes were brought.
    pub(crate) fn distance_to(&self, other: &Self, start: SimilarityTransform) -> f32 {
        let spacing = self.spacing + other.spacing;
        let [of_self, of_other] = [self, other].map(|cloud| evenly(&cloud.points, NUM_FINE_POINTS));
        let transform = self.registered(&of_other, start, spacing, NUM_FINE_ITERATIONS);
        let here = self.residual(&self.correspondences(&of_other, transform));
        let there = other.residual(&other.correspondences(&of_self, transform.inverse()));
        there.max(here)
    }

    /// The transform that point-to-plane ICP reaches from `start`, of points onto this surface.
    fn registered(
        &self,
        points: &[Vec3],
        start: SimilarityTransform,
        spacing: f32,
        num_iterations: usize,
    ) -> SimilarityTransform {
        (0..num_iterations).fold(start, |transform, _| {
            let mut correspondences = self.correspondences(points, transform);
            correspondences.retain(|m| m.from.distance(m.to) <= 4.0 * spacing);
            transform.point_to_plane_step(&correspondences)
        })
    }

    /// Replaces the best coarse distance and its rotation if this one is closer; gives up as soon as it cannot be.
    fn improve(&self, points: &[Vec3], rotation: Mat3, best: &mut (f32, Mat3)) {
        let num = points.len().max(1);
        let mut sum = 0.0;
        for &point in points {
            sum += self.distance_of(&self.nearest(rotation * point));
            if sum >= best.0 * num as f32 {
                return;
            }
        }
        *best = (sum / num as f32, rotation);
    }

    /// A point with the nearest one of this cloud.
    fn nearest(&self, from: Vec3) -> Correspondence {
        let nearest = self.index.nearest(from, None);
        let nearest = nearest.expect("a cloud has points");
        Correspondence {
            from,
            to: self.points[nearest],
            normal: self.normals[nearest],
        }
    }

    /// Points under `transform`, each with the nearest point of this cloud.
    fn correspondences(&self, points: &[Vec3], transform: SimilarityTransform) -> Vec<Correspondence> {
        points
            .iter()
            .map(|&point| self.nearest(transform.apply(point)))
            .collect()
    }

    /// Distance to this surface: the normal component near a point, plus the distance beyond three spacings.
    fn distance_of(&self, m: &Correspondence) -> f32 {
        let across = (m.from - m.to).dot(m.normal).abs();
        across + (m.from.distance(m.to) - 3.0 * self.spacing).max(0.0)
    }

    /// Mean distance to this surface.
    fn residual(&self, correspondences: &[Correspondence]) -> f32 {
        let distances = correspondences.iter().map(|m| self.distance_of(m));
        distances.sum::<f32>() / correspondences.len().max(1) as f32
    }
}

/// Normals of the planes that fit each point and its nearest neighbors (Hoppe et al. 1992), of either sign.
fn estimate_normals(points: &[Vec3]) -> Vec<Vec3> {
    let normal = |&point: &Vec3| {
        let mut near = points.to_vec();
        let num_neighbors = NUM_PLANE_POINTS.min(near.len());
        let by_distance =
            |a: &Vec3, b: &Vec3| a.distance_squared(point).total_cmp(&b.distance_squared(point));
        if num_neighbors < near.len() {
            near.select_nth_unstable_by(num_neighbors, by_distance);
        }
        plane_normal(&near[..num_neighbors])
    };
    points.iter().map(normal).collect()
}

/// The direction in which points spread least: power iteration on their covariance, turned around by its trace.
fn plane_normal(points: &[Vec3]) -> Vec3 {
    let center = points.iter().sum::<Vec3>() / points.len().max(1) as f32;
    let outer = |v: Vec3| Mat3::from_cols(v * v.x, v * v.y, v * v.z);
    let covariance = points
        .iter()
        .fold(Mat3::ZERO, |sum, &point| sum + outer(point - center));
    let trace = covariance.x_axis.x + covariance.y_axis.y + covariance.z_axis.z;
    let turned = Mat3::from_diagonal(Vec3::splat(trace)) - covariance;
    let start = Vec3::new(0.53, 0.61, 0.59);
    (0..NUM_POWER_ITERATIONS).fold(start, |normal, _| (turned * normal).normalize_or(Vec3::Y))
}

/// Source to target: `scale * rotation * p + translation`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SimilarityTransform {
    rotation: Mat3,
    scale: f32,
    translation: Vec3,
}

impl SimilarityTransform {
    fn apply(self, point: Vec3) -> Vec3 {
        self.rotation * point * self.scale + self.translation
    }

    fn inverse(self) -> Self {
        let rotation = self.rotation.transpose();
        Self {
            rotation,
            scale: 1.0 / self.scale,
            translation: rotation * (-self.translation / self.scale),
        }
    }

    /// One linearized least-squares step of point-to-plane ICP.
    fn point_to_plane_step(self, correspondences: &[Correspondence]) -> Self {
        let mut sums = [[0.0_f64; NUM_UNKNOWNS + 1]; NUM_UNKNOWNS];
        for m in correspondences {
            let torque = m.from.cross(m.normal);
            let row = [
                torque.x,
                torque.y,
                torque.z,
                m.normal.x,
                m.normal.y,
                m.normal.z,
                m.from.dot(m.normal),
                (m.to - m.from).dot(m.normal),
            ]
            .map(f64::from);
            for (i, sums) in sums.iter_mut().enumerate() {
                for (sum, value) in sums.iter_mut().zip(row) {
                    *sum += row[i] * value;
                }
            }
        }
        // Damping keeps directions that a symmetric shape leaves undetermined at zero.
        for (i, sums) in sums.iter_mut().enumerate() {
            sums[i] += 1e-3 * correspondences.len() as f64 + 1e-9;
        }
        let [x, y, z, right, up, front, scale_change] = solve(sums).map(|value| value as f32);
        let angles = Vec3::new(x, y, z).clamp_length_max(MAX_STEP);
        let rotation = Mat3::from_quat(Quat::from_scaled_axis(angles));
        let scale_change = 1.0 + scale_change.clamp(-MAX_STEP, MAX_STEP);
        Self {
            rotation: rotation * self.rotation,
            scale: self.scale * scale_change,
            translation: rotation * self.translation * scale_change + Vec3::new(right, up, front),
        }
    }
}

/// Solves a symmetric positive-definite system by Gauss-Jordan elimination.
fn solve(mut rows: [[f64; NUM_UNKNOWNS + 1]; NUM_UNKNOWNS]) -> [f64; NUM_UNKNOWNS] {
    for i in 0..NUM_UNKNOWNS {
        let pivot = rows[i];
        for (_, row) in rows.iter_mut().enumerate().filter(|(j, _)| *j != i) {
            let factor = row[i] / pivot[i];
            for (value, pivot) in row.iter_mut().zip(pivot) {
                *value -= factor * pivot;
            }
        }
    }
    std::array::from_fn(|i| rows[i][NUM_UNKNOWNS] / rows[i][i])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn estimated_normals_are_those_of_the_surface() {
        // A golden spiral on the unit sphere, whose normals are its points.
        let points: Vec<Vec3> = (0..512_u16)
            .map(|i| {
                let y = 1.0 - (2.0 * f32::from(i) + 1.0) / 512.0;
                let (sin, cos) = (f32::from(i) * 2.399_963).sin_cos();
                let radius = (1.0 - y * y).sqrt();
                Vec3::new(radius * cos, y, radius * sin)
            })
            .collect();
        for (point, normal) in points.iter().zip(estimate_normals(&points)) {
            assert!(point.dot(normal).abs() > 0.98, "{point} {normal}");
        }
    }
}
