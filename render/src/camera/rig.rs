//! `Rig`: an ordered, non-empty list of poses, and the named rigs.
//!
//! `camera/mod.rs` turns poses into matrices, `rig_spec.rs` parses rigs in recipes.

use std::f64::consts::PI;

use glam::Vec3;
use serde::{Deserialize, Serialize};

use crate::rng::SeededRng;

/// Views on the circle of MVCNN's first setup (`docs/conventions.md`, "Camera of MVCNN").
const NUM_MVCNN_VIEWS: usize = 12;
/// Elevation of that circle, in degrees.
const MVCNN_ELEVATION_DEG: f64 = 30.0;
/// Rolls per direction in MVCNN's second setup, a right angle apart.
const NUM_MVCNN_ROLLS: usize = 4;

/// Direction from which an object is seen. The eye is in the direction `(sin az cos el, sin el, cos az cos el)` of
/// object space and looks at the object.
///
/// At the pole (elevation 90 degrees) the azimuth still determines which side of the image is up, continuously with the
/// poses beside it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pose {
    /// Angle around +y, from the front (+z) towards +x, in radians.
    pub azimuth_rad: f32,
    /// Angle above the horizontal plane, in radians.
    pub elevation_rad: f32,
    /// Angle by which the image is turned counter-clockwise, in radians.
    pub roll_rad: f32,
}

impl Pose {
    /// The unit vector from the object to the eye, in object space.
    #[must_use]
    pub fn eye_direction(&self) -> Vec3 {
        let (sin_azimuth, cos_azimuth) = self.azimuth_rad.sin_cos();
        let (sin_elevation, cos_elevation) = self.elevation_rad.sin_cos();
        Vec3::new(
            sin_azimuth * cos_elevation,
            sin_elevation,
            cos_azimuth * cos_elevation,
        )
    }
}

/// A pose in degrees, as files store it. The round trip to [`Pose`] and back is exact.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoseDegrees {
    /// Angle around +y, from the front (+z) towards +x.
    pub azimuth_deg: f64,
    /// Angle above the horizontal plane.
    pub elevation_deg: f64,
    /// Angle by which the image is turned counter-clockwise.
    #[serde(default)]
    pub roll_deg: f64,
}

impl PoseDegrees {
    /// A pose without roll.
    #[must_use]
    pub fn new(azimuth_deg: f64, elevation_deg: f64) -> Self {
        Self {
            azimuth_deg,
            elevation_deg,
            roll_deg: 0.0,
        }
    }

    /// Are all angles finite, also in radians of single precision?
    #[must_use]
    pub fn is_finite(&self) -> bool {
        let Pose {
            azimuth_rad,
            elevation_rad,
            roll_rad,
        } = Pose::from(*self);
        azimuth_rad.is_finite() && elevation_rad.is_finite() && roll_rad.is_finite()
    }
}

impl From<PoseDegrees> for Pose {
    fn from(
        PoseDegrees {
            azimuth_deg,
            elevation_deg,
            roll_deg,
        }: PoseDegrees,
    ) -> Self {
        Self {
            azimuth_rad: radians(azimuth_deg),
            elevation_rad: radians(elevation_deg),
            roll_rad: radians(roll_deg),
        }
    }
}

impl From<Pose> for PoseDegrees {
    fn from(
        Pose {
            azimuth_rad,
            elevation_rad,
            roll_rad,
        }: Pose,
    ) -> Self {
        Self {
            azimuth_deg: degrees(azimuth_rad),
            elevation_deg: degrees(elevation_rad),
            roll_deg: degrees(roll_rad),
        }
    }
}

fn radians(angle_deg: f64) -> f32 {
    angle_deg.to_radians() as f32
}

/// The angle with the fewest decimals that round-trip: 30, not 30.000001.
fn degrees(angle_rad: f32) -> f64 {
    let exact = f64::from(angle_rad).to_degrees();
    let rounded = (0..=9).map(|num_decimals| {
        let scale = 10.0_f64.powi(num_decimals);
        (exact * scale).round() / scale
    });
    let mut faithful = rounded.filter(|angle_deg| radians(*angle_deg).to_bits() == angle_rad.to_bits());
    faithful.next().unwrap_or(exact)
}

/// Ordered poses, at least one.
#[derive(Debug, Clone, PartialEq)]
pub struct Rig {
    poses: Vec<Pose>,
}

impl Rig {
    /// `None` if there are no poses or if an angle is not finite.
    #[must_use]
    pub fn try_new(poses: Vec<Pose>) -> Option<Self> {
        let is_finite = |pose: &Pose| {
            let Pose {
                azimuth_rad,
                elevation_rad,
                roll_rad,
            } = pose;
            azimuth_rad.is_finite() && elevation_rad.is_finite() && roll_rad.is_finite()
        };
        (!poses.is_empty() && poses.iter().all(is_finite)).then_some(Self { poses })
    }

    /// The twelve views of MVCNN's first setup: azimuth 0, 30, ..., 330 degrees, elevation 30 degrees.
    #[must_use]
    pub fn mvcnn12() -> Self {
        Self::turntable(NUM_MVCNN_VIEWS, &[MVCNN_ELEVATION_DEG])
    }

    /// The eighty views of MVCNN's second setup: from each corner of a regular dodecahedron four views, rolled by 0,
    /// 90, 180 and 270 degrees. Corners are ordered from the top down, those of one height by azimuth; the four views
    /// of a corner are consecutive.
    #[must_use]
    pub fn dodecahedron80() -> Self {
        let corners = dodecahedron_corners();
        let turned = |corner: PoseDegrees| {
            (0..NUM_MVCNN_ROLLS).map(move |roll_idx| {
                PoseDegrees {
                    roll_deg: 360.0 * roll_idx as f64 / NUM_MVCNN_ROLLS as f64,
                    ..corner
                }
                .into()
            })
        };
        Self {
            poses: corners.into_iter().flat_map(turned).collect(),
        }
    }

    /// Directions distributed evenly over the sphere on a spiral from the top down (a Fibonacci lattice): equal areas,
    /// and a golden angle between consecutive azimuths.
    pub(crate) fn sphere(num_views: usize) -> Self {
        let golden_angle_deg = 180.0 * (3.0 - 5.0_f64.sqrt());
        let pose = |view_idx: usize| {
            let height = 1.0 - (2 * view_idx + 1) as f64 / num_views as f64;
            let azimuth_deg = (golden_angle_deg * view_idx as f64) % 360.0;
            PoseDegrees::new(azimuth_deg, height.asin().to_degrees()).into()
        };
        Self {
            poses: (0..num_views).map(pose).collect(),
        }
    }

    /// Independent directions, uniform on the part of the sphere between two elevations. View k depends on the seed and
    /// on k alone, so a shorter rig is a prefix of a longer one.
    pub(crate) fn random(num_views: usize, seed: u64, [low_deg, high_deg]: [f64; 2]) -> Self {
        let (low, high) = (low_deg.to_radians().sin(), high_deg.to_radians().sin());
        let mut rng = SeededRng::new(seed);
        let pose = |_| {
            let azimuth_deg = 360.0 * rng.unit();
            // Bands of equal height have equal area (Archimedes).
            let height = rng.between(low, high);
            let elevation_deg = height.clamp(-1.0, 1.0).asin().to_degrees();
            PoseDegrees::new(azimuth_deg, elevation_deg.clamp(low_deg, high_deg)).into()
        };
        Self {
            poses: (0..num_views).map(pose).collect(),
        }
    }

    /// A circle of evenly spaced azimuths at each elevation, beginning at the front.
    pub(crate) fn turntable(num_azimuths: usize, elevations_deg: &[f64]) -> Self {
        let circle = |elevation_deg: &f64| {
            let elevation_deg = *elevation_deg;
            (0..num_azimuths).map(move |azimuth_idx| {
                let azimuth_deg = 360.0 * azimuth_idx as f64 / num_azimuths as f64;
                PoseDegrees::new(azimuth_deg, elevation_deg).into()
            })
        };
        Self {
            poses: elevations_deg.iter().flat_map(circle).collect(),
        }
    }

    pub(crate) fn of_degrees(poses: &[PoseDegrees]) -> Self {
        Self {
            poses: poses.iter().copied().map(Pose::from).collect(),
        }
    }

    /// The poses in order.
    #[must_use]
    pub fn poses(&self) -> &[Pose] {
        &self.poses
    }
}

/// The twenty corners of a regular dodecahedron that has an edge on top, parallel to the front axis; from the top down,
/// those of one height by azimuth.
///
/// With the golden ratio g they are (±1, ±1, ±1), (0, ±g, ±1/g), (±1/g, 0, ±g) and (±g, ±1/g, 0).
fn dodecahedron_corners() -> Vec<PoseDegrees> {
    let golden = f64::midpoint(1.0, 5.0_f64.sqrt());
    let elevation_deg = |height: f64| (height / 3.0_f64.sqrt()).asin().to_degrees();
    // From the front (+z) towards +x; the corners at half height come in two pairs.
    let aside_deg = (golden.recip() / golden).atan() * 180.0 / PI;
    let level = [aside_deg, 180.0 - aside_deg, 180.0 + aside_deg, 360.0 - aside_deg];
    let rings: [(f64, &[f64]); 7] = [
        (golden, &[0.0, 180.0]),
        (1.0, &[45.0, 135.0, 225.0, 315.0]),
        (golden.recip(), &[90.0, 270.0]),
        (0.0, &level),
        (-golden.recip(), &[90.0, 270.0]),
        (-1.0, &[45.0, 135.0, 225.0, 315.0]),
        (-golden, &[0.0, 180.0]),
    ];
    let ring = |(height, azimuths_deg): (f64, &[f64])| {
        let corner = |azimuth_deg: &f64| PoseDegrees::new(*azimuth_deg, elevation_deg(height));
        azimuths_deg.iter().map(corner).collect::<Vec<_>>()
    };
    rings.into_iter().flat_map(ring).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::f32::consts::TAU;

    use glam::{DVec2, DVec3, Vec2};
    use proptest::prelude::*;

    use super::*;
    use crate::camera::{Camera, Projection, Window};

    #[test]
    fn mvcnn12_starts_at_the_front_and_turns_towards_x() {
        let rig = Rig::mvcnn12();
        assert_eq!(rig.poses().len(), 12, "twelve views");
        let front = rig.poses()[0].eye_direction();
        assert!(
            (front - Vec3::new(0.0, 0.5, 0.75_f32.sqrt())).length() < 1e-6,
            "{front}"
        );
        let right = rig.poses()[3].eye_direction();
        assert!(
            (right - Vec3::new(0.75_f32.sqrt(), 0.5, 0.0)).length() < 1e-6,
            "{right}"
        );
    }

    #[test]
    fn a_rig_has_poses_and_they_are_finite() {
        assert_eq!(Rig::try_new(Vec::new()), None, "no pose");
        assert_eq!(
            Rig::try_new(vec![Pose {
                roll_rad: f32::NAN,
                ..Pose::default()
            }]),
            None,
            "no angle"
        );
        assert!(
            Rig::try_new(vec![Pose::default()]).is_some(),
            "one pose is enough"
        );
    }

    #[test]
    fn every_corner_of_the_dodecahedron_has_three_neighbors() {
        let rig = Rig::dodecahedron80();
        assert_eq!(rig.poses().len(), 80);
        let corners: Vec<Vec3> = rig.poses().iter().step_by(4).map(Pose::eye_direction).collect();
        // The edge of a dodecahedron within the unit sphere.
        let edge = (5.0_f32.sqrt() - 1.0) / 3.0_f32.sqrt();
        for corner in &corners {
            let mut distances: Vec<f32> = corners.iter().map(|other| other.distance(*corner)).collect();
            distances.sort_by(f32::total_cmp);
            assert!(distances[0] < 1e-6, "itself");
            assert!(
                distances[1..4]
                    .iter()
                    .all(|distance| (distance - edge).abs() < 1e-5),
                "{distances:?}"
            );
            assert!(distances[4] > edge + 0.1, "three, no more: {distances:?}");
        }
        let rolls: Vec<f64> = rig.poses()[..4]
            .iter()
            .map(|pose| PoseDegrees::from(*pose).roll_deg)
            .collect();
        assert_eq!(rolls, [0.0, 90.0, 180.0, 270.0]);
        assert!(
            corners.windows(2).all(|pair| pair[0].y > pair[1].y - 1e-6),
            "from the top down"
        );
    }

    #[test]
    fn a_sphere_is_covered_evenly() {
        let directions: Vec<Vec3> = Rig::sphere(200).poses().iter().map(Pose::eye_direction).collect();
        let sum: Vec3 = directions.iter().sum();
        assert!(sum.length() < 1.0, "no side is preferred: {sum}");
        for (view_idx, direction) in directions.iter().enumerate() {
            let others = directions.iter().enumerate().filter(|(idx, _)| *idx != view_idx);
            let nearest = others.map(|(_, other)| other.distance(*direction));
            let nearest = nearest.fold(f32::INFINITY, f32::min);
            // 200 caps of equal area have a radius of 0.14, so their centers are up to twice that apart.
            assert!((0.14..0.3).contains(&nearest), "view {view_idx}: {nearest}");
        }
        assert_eq!(Rig::sphere(1).poses().len(), 1);
    }

    #[test]
    fn random_rigs_are_uniform_and_seeded() {
        let rig = Rig::random(999, 7, [-90.0, 90.0]);
        let mean: Vec3 = rig.poses().iter().map(Pose::eye_direction).sum::<Vec3>() / 999.0;
        assert!(mean.length() < 0.06, "no side is preferred: {mean}");
        // Half of the sphere's area is within 30 degrees of the equator.
        let low = rig
            .poses()
            .iter()
            .filter(|pose| pose.elevation_rad.abs() < 30.0_f32.to_radians());
        assert!((450..550).contains(&low.count()), "by area, not by angle");
        assert_eq!(
            Rig::random(5, 7, [-90.0, 90.0]).poses(),
            &rig.poses()[..5],
            "a longer rig begins like a shorter one"
        );
        assert_ne!(
            Rig::random(5, 7 + (1 << 40), [-90.0, 90.0]),
            Rig::random(5, 7, [-90.0, 90.0]),
            "the upper half of the seed counts"
        );
    }

    #[test]
    fn a_turntable_turns_once_at_each_elevation() {
        let rig = Rig::turntable(4, &[0.0, 90.0]);
        let angles: Vec<(f64, f64)> = rig
            .poses()
            .iter()
            .map(|pose| PoseDegrees::from(*pose))
            .map(|pose| (pose.azimuth_deg, pose.elevation_deg))
            .collect();
        let circle = |elevation_deg| [0.0, 90.0, 180.0, 270.0].map(|azimuth| (azimuth, elevation_deg));
        assert_eq!(angles, [circle(0.0), circle(90.0)].concat());
    }

    #[test]
    fn azimuth_rolls_the_image_at_the_pole() {
        let up_in_picture = |azimuth_deg, elevation_deg, point: Vec3| {
            let pose = PoseDegrees::new(azimuth_deg, elevation_deg).into();
            let camera = Camera::new(&pose, Projection::Orthographic, DVec3::ZERO, 2.0);
            let window = Window {
                center: DVec2::ZERO,
                half_side: 1.5,
            };
            let matrices = camera.matrices(window, 1.0..=3.0);
            assert!(matrices.is_some(), "a camera at {azimuth_deg}, {elevation_deg}");
            camera.project_point(point).0
        };
        for (azimuth_deg, elevation_deg, up) in [
            (0.0, 90.0, Vec3::NEG_Z),
            (90.0, 90.0, Vec3::NEG_X),
            (0.0, -90.0, Vec3::Z),
            (90.0, -90.0, Vec3::X),
        ] {
            let on_plane = up_in_picture(azimuth_deg, elevation_deg, up);
            assert!(
                on_plane.distance(Vec2::Y) < 1e-6,
                "{azimuth_deg}, {elevation_deg}: {on_plane}"
            );
        }
    }

    proptest! {
        #[test]
        fn degrees_round_trip(angles in prop::array::uniform3(-10.0_f32..10.0)) {
            let [azimuth_rad, elevation_rad, roll_rad] = angles;
            let pose = Pose { azimuth_rad, elevation_rad, roll_rad };
            let text = serde_json::to_string(&PoseDegrees::from(pose)).unwrap();
            let read: PoseDegrees = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(Pose::from(read), pose);
        }

        #[test]
        fn random_elevations_stay_in_their_range(seed: u64, low in -90.0..89.0, extent in 0.0..1.0) {
            let high: f64 = low + (90.0 - low) * extent;
            for pose in Rig::random(20, seed, [low, high]).poses() {
                let elevation_deg = f64::from(pose.elevation_rad).to_degrees();
                prop_assert!((low - 1e-4..=high + 1e-4).contains(&elevation_deg));
                prop_assert!((0.0..=TAU).contains(&pose.azimuth_rad));
            }
        }
    }
}
