//! [`Profile`]: what a shape looks like from afar, and in which rotations it may be another one. No nearest neighbors are
//! searched.
//!
//! No rotation changes the distances of the points from the origin. One about the up axis also keeps their heights and their
//! distances from that axis, and shifts their directions around it. So shapes with other distances are told apart at once, and
//! an axis is turned up only where heights and radii agree; the directions, in layers of height, say how much shapes differ
//! after the best rotations. Two samplings of one shape differ by little, and few other shapes do.

use std::array;
use std::f32::consts::TAU;

use glam::{Mat3, Vec3};

/// Rotations around an upright axis.
pub(super) const YAW_STEPS: usize = 24;
/// Quantiles of distances.
const NUM_QUANTILES: usize = 16;
/// Layers of equally many points, from bottom to top.
const NUM_LAYERS: usize = 3;
/// Axes that may be up, either way.
const AXES: [Vec3; 3] = [Vec3::Y, Vec3::X, Vec3::Z];
/// Median differences between two samplings of one shape at 1024 random points: quantiles on average, in mean distances from
/// the origin, and directions in sum. Measured on a thousand real shapes.
const DISTANCE_NOISE: f32 = 0.0085;
const RADIUS_NOISE: f32 = 0.0085;
const HEIGHT_NOISE: f32 = 0.013;
const DIRECTION_NOISE: f32 = 0.125;
/// Differences, in these units, above which shapes differ: in one respect, and in all four together.
const MAX_DIFFERENCE: f32 = 5.0;
const MAX_SUM: f32 = 12.0;
/// Rotations that are tried.
const MAX_ROTATIONS: usize = 6;

/// Distances of the points of a shape from the origin and from its axes, independent of its size.
#[derive(Debug, Clone)]
pub(super) struct Profile {
    distances: [f32; NUM_QUANTILES],
    around: [AxisProfile; AXES.len()],
}

/// The shape around an axis that is turned up.
#[derive(Debug, Clone)]
struct AxisProfile {
    heights: [f32; NUM_QUANTILES],
    radii: [f32; NUM_QUANTILES],
    /// Radius, summed by direction: mass far from the axis tells most about a rotation.
    directions: [[f32; YAW_STEPS]; NUM_LAYERS],
}

impl Profile {
    pub(super) fn new(points: &[Vec3]) -> Self {
        let mut distances: Vec<f32> = points.iter().map(|point| point.length()).collect();
        let mean = distances.iter().sum::<f32>() / distances.len().max(1) as f32;
        let scale = 1.0 / mean.max(f32::MIN_POSITIVE);
        for distance in &mut distances {
            *distance *= scale;
        }
        Self {
            distances: quantiles(distances),
            around: AXES.map(|axis| {
                let upright = to_upright(axis) * scale;
                AxisProfile::new(&points.iter().map(|&point| upright * point).collect::<Vec<_>>())
            }),
        }
    }
}

impl AxisProfile {
    fn new(points: &[Vec3]) -> Self {
        let sorted = sorted(points.iter().map(|point| point.y).collect());
        let layer_tops: [f32; NUM_LAYERS - 1] = array::from_fn(|layer| {
            sorted
                .get((layer + 1) * sorted.len() / NUM_LAYERS)
                .copied()
                .unwrap_or_default()
        });
        let mut radii = Vec::with_capacity(points.len());
        let mut directions = [[0.0; YAW_STEPS]; NUM_LAYERS];
        for point in points {
            let radius = (point.x * point.x + point.z * point.z).sqrt();
            let angle = point.x.atan2(point.z) / TAU;
            let place = (if angle < 0.0 { angle + 1.0 } else { angle }) * YAW_STEPS as f32;
            // Shared with the next bin, so that a rotation by half a bin is no jump.
            let bin = (place as usize).min(YAW_STEPS - 1);
            let beyond = place - bin as f32;
            let layer: usize = layer_tops.iter().map(|&top| usize::from(point.y >= top)).sum();
            let mass = radius / points.len() as f32;
            directions[layer][bin] += mass * (1.0 - beyond);
            directions[layer][(bin + 1) % YAW_STEPS] += mass * beyond;
            radii.push(radius);
        }
        Self {
            heights: quantiles_of_sorted(&sorted),
            radii: quantiles(radii),
            directions,
        }
    }

    /// The profile after [`UPSIDE_DOWN`].
    fn upside_down(&self) -> Self {
        let Self {
            heights,
            radii,
            directions,
        } = self;
        Self {
            heights: array::from_fn(|k| -heights[NUM_QUANTILES - 1 - k]),
            radii: *radii,
            directions: array::from_fn(|layer| {
                let bins = &directions[NUM_LAYERS - 1 - layer];
                array::from_fn(|bin| bins[(YAW_STEPS + YAW_STEPS / 2 - bin) % YAW_STEPS])
            }),
        }
    }

    /// How far the directions are from those of another shape after a rotation by each number of steps.
    fn differences_by_yaw(&self, other: &Self) -> [f32; YAW_STEPS] {
        let mut differences = [0.0; YAW_STEPS];
        for (bins, others) in self.directions.iter().zip(&other.directions) {
            // Twice around, so that each shift is a stretch of it.
            let mut twice = [0.0; 2 * YAW_STEPS];
            twice[..YAW_STEPS].copy_from_slice(others);
            twice[YAW_STEPS..].copy_from_slice(others);
            for (shift, difference) in differences.iter_mut().enumerate() {
                *difference += sum_of_differences(bins, &twice[shift..shift + YAW_STEPS]);
            }
        }
        differences
    }
}

/// A rotation by half a turn that swaps up and down.
const UPSIDE_DOWN: Mat3 = Mat3::from_diagonal(Vec3::new(1.0, -1.0, -1.0));

/// The rotation that turns an axis up.
fn to_upright(axis: Vec3) -> Mat3 {
    let aside = if axis.y.abs() > 0.5 { Vec3::X } else { Vec3::Y };
    Mat3::from_cols(aside, axis, aside.cross(axis)).transpose()
}

fn sorted(mut values: Vec<f32>) -> Vec<f32> {
    values.sort_unstable_by(f32::total_cmp);
    values
}

/// Values at equal steps of their order.
fn quantiles(values: Vec<f32>) -> [f32; NUM_QUANTILES] {
    quantiles_of_sorted(&sorted(values))
}

fn quantiles_of_sorted(sorted: &[f32]) -> [f32; NUM_QUANTILES] {
    array::from_fn(|k| {
        let place = (2 * k + 1) * sorted.len() / (2 * NUM_QUANTILES);
        sorted.get(place).copied().unwrap_or_default()
    })
}

fn sum_of_differences(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum()
}

/// Mean difference of quantiles in units of `noise`; `None` where it is that of another shape.
fn difference(a: &[f32; NUM_QUANTILES], b: &[f32; NUM_QUANTILES], noise: f32) -> Option<f32> {
    let difference = sum_of_differences(a, b) / (NUM_QUANTILES as f32 * noise);
    (difference <= MAX_DIFFERENCE).then_some(difference)
}

/// A shape with each of its axes turned up, to be compared with others.
#[derive(Debug)]
pub(super) struct Orientations {
    distances: [f32; NUM_QUANTILES],
    upright: [(Mat3, AxisProfile); 2 * AXES.len()],
}

/// How a shape may be another one.
#[derive(Debug, Clone)]
pub(super) struct Likeness {
    /// Sum of differences in units of what two samplings differ by.
    pub(super) difference: f32,
    /// Rotations onto the other shape, the most likely first.
    pub(super) rotations: Vec<Mat3>,
}

impl Orientations {
    pub(super) fn new(profile: &Profile) -> Self {
        let upright = array::from_fn(|k| {
            let (axis, around) = (AXES[k / 2], &profile.around[k / 2]);
            match k % 2 {
                0 => (to_upright(axis), around.clone()),
                _ => (UPSIDE_DOWN * to_upright(axis), around.upside_down()),
            }
        });
        Self {
            distances: profile.distances,
            upright,
        }
    }

    /// How this shape may be another one; `None` if it differs in any orientation.
    pub(super) fn likeness(&self, other: &Profile) -> Option<Likeness> {
        let of_distances = difference(&self.distances, &other.distances, DISTANCE_NOISE)?;
        let upright = &other.around[0];
        let mut rotations: Vec<(f32, Mat3)> = Vec::new();
        for (to_upright, profile) in &self.upright {
            let of_axis = difference(&profile.radii, &upright.radii, RADIUS_NOISE).and_then(|of_radii| {
                Some(of_radii + difference(&profile.heights, &upright.heights, HEIGHT_NOISE)?)
            });
            let Some(of_axis) = of_axis else {
                continue;
            };
            let by_yaw = profile.differences_by_yaw(upright);
            rotations.extend((0..YAW_STEPS).filter_map(|shift| {
                let sum = of_distances + of_axis + by_yaw[shift] / DIRECTION_NOISE;
                // Of neighboring rotations the best one stands for all: registration finds the way from it.
                let is_least = [1, YAW_STEPS - 1]
                    .iter()
                    .all(|step| by_yaw[shift] <= by_yaw[(shift + step) % YAW_STEPS]);
                let yaw = || Mat3::from_rotation_y(shift as f32 / YAW_STEPS as f32 * TAU);
                (is_least && sum <= MAX_SUM).then(|| (sum, yaw() * *to_upright))
            }));
        }
        rotations.sort_by(|a, b| a.0.total_cmp(&b.0));
        rotations.truncate(MAX_ROTATIONS);
        Some(Likeness {
            difference: rotations.first()?.0,
            rotations: rotations.into_iter().map(|(_, rotation)| rotation).collect(),
        })
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
            let likeness = Orientations::new(&Profile::new(&turned)).likeness(&Profile::new(&other));
            let rotations = likeness.unwrap().rotations;
            let angle =
                |rotation: &Mat3| ((*rotation * turn).col(0).x + (*rotation * turn).col(1).y).min(2.0);
            let best = rotations.iter().map(angle).fold(0.0, f32::max);
            assert!(best > 1.95, "{turn}: {rotations:?}");
            assert!(rotations.len() <= MAX_ROTATIONS, "{}", rotations.len());
        }
    }

    #[test]
    fn upside_down_is_what_a_rotation_makes() {
        let cloud = points(1);
        let turned: Vec<Vec3> = cloud.iter().map(|&point| UPSIDE_DOWN * point).collect();
        let [profile, turned] = [&cloud, &turned].map(|points| AxisProfile::new(points));
        let upside_down = profile.upside_down();
        let apart = |a: &[f32], b: &[f32]| sum_of_differences(a, b) / a.len() as f32;
        assert!(apart(&upside_down.heights, &turned.heights) < 0.01, "heights");
        assert!(apart(&upside_down.radii, &turned.radii) < 1e-6, "radii");
        let directions = [&upside_down, &turned].map(|profile| profile.directions.as_flattened());
        assert!(apart(directions[0], directions[1]) < 1e-3, "directions");
    }

    #[test]
    fn candidate_rotations_are_rotations_and_other_shapes_have_none() {
        let cloud = points(1);
        let orientations = Orientations::new(&Profile::new(&cloud));
        let same = orientations.likeness(&Profile::new(&cloud)).unwrap();
        assert!(same.difference < 1e-3, "{}", same.difference);
        for rotation in same.rotations {
            assert!((rotation.determinant() - 1.0).abs() < 1e-5, "{rotation}");
            assert!(
                (rotation * rotation.transpose()).abs_diff_eq(Mat3::IDENTITY, 1e-5),
                "{rotation}"
            );
        }
        let ball: Vec<Vec3> = cloud.iter().map(|point| point.normalize_or_zero()).collect();
        assert!(
            orientations.likeness(&Profile::new(&ball)).is_none(),
            "another shape"
        );
    }
}
