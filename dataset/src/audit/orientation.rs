//! Which rotations may bring one shape onto another, from profiles of its points: no nearest neighbors are searched.
//!
//! A rotation about the up axis keeps the heights of the points and their distances to that axis, and shifts their
//! directions around it. So an axis is turned up only if heights and distances agree, and of the rotations about it those
//! are tried whose directions agree best, in layers of height.

use std::array;
use std::f32::consts::TAU;

use glam::{Mat3, Vec3};

/// Rotations around the up axis.
pub(super) const YAW_STEPS: usize = 24;
/// Rotations around other axes that are turned up.
const QUARTER_TURNS: usize = 4;
/// Quantiles of heights, and of distances to the axis.
const NUM_QUANTILES: usize = 16;
/// Layers of equally many points, from bottom to top.
const NUM_LAYERS: usize = 3;
/// Largest mean quantile difference between two samplings of one shape, in mean distances to the origin. Two samplings of
/// 1024 points differ by 0.02 to 0.04, and a duplicate's surface by as much again.
const MAX_PROFILE_DISTANCE: f32 = 0.1;
/// Rotations that are tried.
const MAX_ROTATIONS: usize = 6;

/// Profile of a shape around its up axis, independent of its size.
#[derive(Debug, Clone)]
pub(super) struct Profile {
    heights: [f32; NUM_QUANTILES],
    radii: [f32; NUM_QUANTILES],
    /// Distance to the axis, summed by direction: mass far from the axis tells most about a rotation.
    directions: [[f32; YAW_STEPS]; NUM_LAYERS],
}

impl Profile {
    pub(super) fn new(points: &[Vec3]) -> Self {
        let mean = points.iter().map(|point| point.length()).sum::<f32>() / points.len().max(1) as f32;
        let scale = 1.0 / mean.max(f32::MIN_POSITIVE);
        let mut by_height: Vec<Vec3> = points.iter().map(|&point| point * scale).collect();
        by_height.sort_by(|a, b| a.y.total_cmp(&b.y));
        let radius = |point: &Vec3| point.x.hypot(point.z);
        let mut radii: Vec<f32> = by_height.iter().map(radius).collect();
        let mut directions = [[0.0; YAW_STEPS]; NUM_LAYERS];
        let len = by_height.len().max(1);
        for (rank, point) in by_height.iter().enumerate() {
            let angle = point.x.atan2(point.z).rem_euclid(TAU) / TAU * YAW_STEPS as f32;
            let bin = angle as usize % YAW_STEPS;
            // Shared with the next bin, so that a rotation by half a bin is no jump.
            let beyond = angle.fract();
            let layer = &mut directions[rank * NUM_LAYERS / len];
            layer[bin] += radius(point) * (1.0 - beyond) / len as f32;
            layer[(bin + 1) % YAW_STEPS] += radius(point) * beyond / len as f32;
        }
        radii.sort_by(f32::total_cmp);
        let heights: Vec<f32> = by_height.iter().map(|point| point.y).collect();
        Self {
            heights: quantiles(&heights),
            radii: quantiles(&radii),
            directions,
        }
    }

    fn has_axis_of(&self, other: &Self) -> bool {
        let distance = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f32>();
        let limit = MAX_PROFILE_DISTANCE * NUM_QUANTILES as f32;
        distance(&self.heights, &other.heights) <= limit && distance(&self.radii, &other.radii) <= limit
    }

    /// How far the directions are from those of another shape after a rotation by `shift` steps.
    fn distance_after(&self, shift: usize, other: &Self) -> f32 {
        let of_layer = |(a, b): (&[f32; YAW_STEPS], &[f32; YAW_STEPS])| -> f32 {
            (0..YAW_STEPS)
                .map(|bin| (a[bin] - b[(bin + shift) % YAW_STEPS]).abs())
                .sum()
        };
        self.directions.iter().zip(&other.directions).map(of_layer).sum()
    }
}

/// Values at equal steps of sorted numbers.
fn quantiles(sorted: &[f32]) -> [f32; NUM_QUANTILES] {
    array::from_fn(|k| {
        let place = (2 * k + 1) * sorted.len() / (2 * NUM_QUANTILES);
        sorted.get(place).copied().unwrap_or_default()
    })
}

/// Profiles of a shape with each of its axes turned up.
#[derive(Debug)]
pub(super) struct Orientations([(Mat3, usize, Profile); 6]);

impl Orientations {
    pub(super) fn new(points: &[Vec3]) -> Self {
        let axes = [Vec3::Y, Vec3::NEG_Y, Vec3::X, Vec3::NEG_X, Vec3::Z, Vec3::NEG_Z];
        Self(axes.map(|upright| {
            let aside = if upright.y.abs() > 0.5 { Vec3::X } else { Vec3::Y };
            let to_upright = Mat3::from_cols(aside, upright, aside.cross(upright)).transpose();
            let turned: Vec<Vec3> = points.iter().map(|&point| to_upright * point).collect();
            // Fine steps for the original up axis.
            let num_steps = if upright == Vec3::Y {
                YAW_STEPS
            } else {
                QUARTER_TURNS
            };
            (to_upright, num_steps, Profile::new(&turned))
        }))
    }

    /// The rotations that may bring this shape onto another, the most likely first.
    pub(super) fn onto(&self, other: &Profile) -> Vec<Mat3> {
        let mut rotations: Vec<(f32, Mat3)> = Vec::new();
        for (to_upright, num_steps, profile) in &self.0 {
            if !profile.has_axis_of(other) {
                continue;
            }
            rotations.extend((0..*num_steps).map(|step| {
                let shift = step * YAW_STEPS / num_steps;
                let yaw = Mat3::from_rotation_y(shift as f32 / YAW_STEPS as f32 * TAU);
                (profile.distance_after(shift, other), yaw * *to_upright)
            }));
        }
        rotations.sort_by(|a, b| a.0.total_cmp(&b.0));
        rotations.truncate(MAX_ROTATIONS);
        rotations.into_iter().map(|(_, rotation)| rotation).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::seeded_rng::SeededRng;

    /// Random points of an L-shaped block, which no rotation maps onto itself.
    fn points(seed: u64) -> Vec<Vec3> {
        let mut rng = SeededRng::from_u64(seed);
        let mut part = || rng.unit() as f32;
        (0..1024)
            .map(|k| {
                let point = Vec3::new(part(), part(), part());
                if k % 3 == 0 {
                    point * Vec3::new(1.0, 0.3, 0.3)
                } else {
                    point * Vec3::new(0.2, 0.9, 0.4)
                }
            })
            .map(|point| point - Vec3::new(0.2, 0.4, 0.15))
            .collect()
    }

    #[test]
    fn the_rotation_between_two_samplings_is_among_those_tried() {
        let other = points(2);
        let turns = [
            Mat3::from_rotation_y(1.0),
            Mat3::from_rotation_y(-2.2),
            Mat3::from_rotation_z(TAU / 4.0),
            Mat3::from_rotation_x(-TAU / 4.0),
        ];
        for turn in turns {
            let turned: Vec<Vec3> = points(1).iter().map(|&point| turn * point).collect();
            let rotations = Orientations::new(&turned).onto(&Profile::new(&other));
            let angle =
                |rotation: &Mat3| ((*rotation * turn).col(0).x + (*rotation * turn).col(1).y).min(2.0);
            let best = rotations.iter().map(angle).fold(0.0, f32::max);
            assert!(best > 1.95, "{turn}: {rotations:?}");
            assert!(rotations.len() <= MAX_ROTATIONS, "{}", rotations.len());
        }
    }

    #[test]
    fn candidate_rotations_are_rotations_and_other_shapes_have_none() {
        let cloud = points(1);
        for rotation in Orientations::new(&cloud).onto(&Profile::new(&cloud)) {
            assert!((rotation.determinant() - 1.0).abs() < 1e-5, "{rotation}");
            assert!(
                (rotation * rotation.transpose()).abs_diff_eq(Mat3::IDENTITY, 1e-5),
                "{rotation}"
            );
        }
        let ball: Vec<Vec3> = cloud.iter().map(|point| point.normalize_or_zero()).collect();
        assert!(
            Orientations::new(&cloud).onto(&Profile::new(&ball)).is_empty(),
            "another shape"
        );
    }
}
