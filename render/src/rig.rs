//! `Rig`: ordered, non-empty poses, and the presets that papers use.
//!
//! A pose says from where an object is looked at; what that means in matrices is said in `camera.rs`.

use std::f32::consts::TAU;
use std::fmt;
use std::str::FromStr;

use glam::Vec3;
use serde::{Deserialize, Serialize};

use crate::error::ParseError;

/// Views on the circle of MVCNN's first setup (`facts-mvcnn.md`, camera).
const NUM_MVCNN_VIEWS: u16 = 12;
/// Elevation of that circle, in degrees.
const MVCNN_ELEVATION_DEG: f32 = 30.0;

/// From where an object is seen. The eye stands in the direction
/// `(sin az cos el, sin el, cos az cos el)` of object space and looks at the object.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pose {
    /// Angle around +y, from the front (+z) towards +x, in radians.
    pub azimuth_rad: f32,
    /// Angle above the horizontal plane, in radians.
    pub elevation_rad: f32,
    /// Angle by which the picture is turned counter-clockwise, in radians.
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

/// Ordered poses, at least one.
#[derive(Debug, Clone, PartialEq)]
pub struct Rig {
    poses: Vec<Pose>,
}

impl Rig {
    /// A rig of the given poses, or `None` if there are none or if an angle is not finite.
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

    /// The twelve views of MVCNN: azimuth 0, 30, ..., 330 degrees, elevation 30 degrees.
    #[must_use]
    pub fn mvcnn12() -> Self {
        let pose = |view_idx: u16| Pose {
            azimuth_rad: TAU * f32::from(view_idx) / f32::from(NUM_MVCNN_VIEWS),
            elevation_rad: MVCNN_ELEVATION_DEG.to_radians(),
            roll_rad: 0.0,
        };
        Self {
            poses: (0..NUM_MVCNN_VIEWS).map(pose).collect(),
        }
    }

    /// The poses in order.
    #[must_use]
    pub fn poses(&self) -> &[Pose] {
        &self.poses
    }
}

/// The name of a rig, as a recipe spells it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum RigSpec {
    /// `mvcnn12`: [`Rig::mvcnn12`].
    #[default]
    Mvcnn12,
}

impl RigSpec {
    /// The poses that the name stands for.
    #[must_use]
    pub fn rig(&self) -> Rig {
        match self {
            Self::Mvcnn12 => Rig::mvcnn12(),
        }
    }

    /// How many views the rig has.
    #[must_use]
    pub fn num_views(&self) -> usize {
        self.rig().poses.len()
    }
}

impl fmt::Display for RigSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mvcnn12 => f.write_str("mvcnn12"),
        }
    }
}

impl FromStr for RigSpec {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text {
            "mvcnn12" => Ok(Self::Mvcnn12),
            _ => Err(ParseError {
                what: "rig",
                expected: "mvcnn12",
                found: text.to_owned(),
            }),
        }
    }
}

impl TryFrom<String> for RigSpec {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl From<RigSpec> for String {
    fn from(spec: RigSpec) -> Self {
        spec.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

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
    fn names_are_parsed_and_printed() {
        assert_eq!("mvcnn12".parse::<RigSpec>().unwrap().to_string(), "mvcnn12");
        let error = "mvcnn13".parse::<RigSpec>().unwrap_err();
        assert_eq!(error.to_string(), "no such rig 'mvcnn13', expected mvcnn12");
    }
}
