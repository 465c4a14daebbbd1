//! `RigSpec`: a rig as written in recipes and on command lines, by name or as a list of poses.
//!
//! | spelling | views |
//! |---|---|
//! | `mvcnn12` | 12: azimuth 0, 30, ..., 330, elevation 30 |
//! | `dodecahedron80` | 80: the 20 corners of a dodecahedron, each rolled by 0, 90, 180 and 270 |
//! | `sphere:N` | N, evenly over the sphere (Fibonacci lattice) |
//! | `random:N`, `random:N:SEED`, `random:N:SEED:LOW..HIGH` | N random, uniform on the sphere, between two elevations |
//! | `turntable:N`, `turntable:N:ELEVATION,...` | N azimuths at each elevation; 30 by default |
//! | `poses:AZIMUTH/ELEVATION[/ROLL],...` | these; in a recipe also a list of tables |
//!
//! All angles are in degrees.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::camera::{PoseDegrees, Rig};

/// Most views of a rig: file names have three digits.
pub const MAX_VIEWS: usize = 999;
/// Default elevation of a turntable, in degrees: MVCNN's.
const DEFAULT_ELEVATION_DEG: f64 = 30.0;
/// From the lowest point of the sphere to its highest, in degrees.
const ALL_ELEVATIONS_DEG: [f64; 2] = [-90.0, 90.0];

/// A valid rig; see the module's documentation for the spellings.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RigSpec(Kind);

#[derive(Debug, Clone, PartialEq, Default)]
enum Kind {
    #[default]
    Mvcnn12,
    Dodecahedron80,
    Sphere {
        num_views: usize,
    },
    Random {
        num_views: usize,
        seed: u64,
        elevations_deg: [f64; 2],
    },
    Turntable {
        num_azimuths: usize,
        elevations_deg: Vec<f64>,
    },
    Poses(Vec<PoseDegrees>),
}

/// Why a rig is not valid.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RigError {
    /// No rig has this name.
    #[error(
        "unknown rig '{found}', expected mvcnn12, dodecahedron80, sphere:N, random:N[:SEED[:LOW..HIGH]], \
         turntable:N[:ELEVATION,...] or poses:AZIMUTH/ELEVATION[/ROLL],..."
    )]
    Name {
        /// The name given.
        found: String,
    },
    /// An argument cannot be parsed.
    #[error("'{found}' is not a valid {expected}")]
    Argument {
        /// What was expected.
        expected: &'static str,
        /// The text given.
        found: String,
    },
    /// No views, or more than [`MAX_VIEWS`].
    #[error("a rig has 1 to {MAX_VIEWS} views, not {num_views}")]
    NumViews {
        /// Number of views.
        num_views: usize,
    },
    /// An elevation is beyond a pole, or NaN.
    #[error("an elevation is -90 to 90 degrees, not {elevation_deg}")]
    Elevation {
        /// The elevation given.
        elevation_deg: f64,
    },
    /// The lower end of a range is above the upper one.
    #[error("no elevation lies between {low_deg} and {high_deg} degrees")]
    EmptyRange {
        /// The lower end.
        low_deg: f64,
        /// The upper end.
        high_deg: f64,
    },
    /// An angle is NaN or overflows.
    #[error("pose {number} has an angle that is not finite")]
    NotFinite {
        /// The pose, counted from 1.
        number: usize,
    },
}

impl RigSpec {
    /// `dodecahedron80`: MVCNN's second setup.
    #[must_use]
    pub fn dodecahedron80() -> Self {
        Self(Kind::Dodecahedron80)
    }

    /// `sphere:N`: evenly over the sphere.
    ///
    /// # Errors
    ///
    /// [`RigError::NumViews`].
    pub fn try_sphere(num_views: usize) -> Result<Self, RigError> {
        Self(Kind::Sphere { num_views }).checked()
    }

    /// `random:N:SEED:LOW..HIGH`: uniformly random on the sphere between two elevations.
    ///
    /// # Errors
    ///
    /// [`RigError::NumViews`], [`RigError::Elevation`] or [`RigError::EmptyRange`].
    pub fn try_random(num_views: usize, seed: u64, elevations_deg: [f64; 2]) -> Result<Self, RigError> {
        Self(Kind::Random {
            num_views,
            seed,
            elevations_deg,
        })
        .checked()
    }

    /// `turntable:N:ELEVATION,...`: evenly spaced azimuths at each elevation.
    ///
    /// # Errors
    ///
    /// [`RigError::NumViews`] or [`RigError::Elevation`].
    pub fn try_turntable(num_azimuths: usize, elevations_deg: Vec<f64>) -> Result<Self, RigError> {
        Self(Kind::Turntable {
            num_azimuths,
            elevations_deg,
        })
        .checked()
    }

    /// These poses, in this order.
    ///
    /// # Errors
    ///
    /// [`RigError::NumViews`] or [`RigError::NotFinite`].
    pub fn try_poses(poses: Vec<PoseDegrees>) -> Result<Self, RigError> {
        Self(Kind::Poses(poses)).checked()
    }

    /// The poses, computed.
    #[must_use]
    pub fn rig(&self) -> Rig {
        match &self.0 {
            Kind::Mvcnn12 => Rig::mvcnn12(),
            Kind::Dodecahedron80 => Rig::dodecahedron80(),
            Kind::Sphere { num_views } => Rig::sphere(*num_views),
            Kind::Random {
                num_views,
                seed,
                elevations_deg,
            } => Rig::random(*num_views, *seed, *elevations_deg),
            Kind::Turntable {
                num_azimuths,
                elevations_deg,
            } => Rig::turntable(*num_azimuths, elevations_deg),
            Kind::Poses(poses) => Rig::of_degrees(poses),
        }
    }

    /// Number of poses.
    #[must_use]
    pub fn num_views(&self) -> usize {
        match &self.0 {
            Kind::Mvcnn12 => 12,
            Kind::Dodecahedron80 => 80,
            Kind::Sphere { num_views } | Kind::Random { num_views, .. } => *num_views,
            Kind::Turntable {
                num_azimuths,
                elevations_deg,
            } => num_azimuths.saturating_mul(elevations_deg.len()),
            Kind::Poses(poses) => poses.len(),
        }
    }

    fn checked(self) -> Result<Self, RigError> {
        let num_views = self.num_views();
        if !(1..=MAX_VIEWS).contains(&num_views) {
            return Err(RigError::NumViews { num_views });
        }
        let elevations_deg: &[f64] = match &self.0 {
            Kind::Mvcnn12 | Kind::Dodecahedron80 | Kind::Sphere { .. } | Kind::Poses(_) => &[],
            Kind::Random { elevations_deg, .. } => elevations_deg,
            Kind::Turntable { elevations_deg, .. } => elevations_deg,
        };
        let [lowest, highest] = ALL_ELEVATIONS_DEG;
        let is_beyond = |elevation_deg: &&f64| !(lowest..=highest).contains(*elevation_deg);
        if let Some(&elevation_deg) = elevations_deg.iter().find(is_beyond) {
            return Err(RigError::Elevation { elevation_deg });
        }
        match &self.0 {
            Kind::Random {
                elevations_deg: [low_deg, high_deg],
                ..
            } if low_deg > high_deg => Err(RigError::EmptyRange {
                low_deg: *low_deg,
                high_deg: *high_deg,
            }),
            Kind::Poses(poses) => match poses.iter().position(|pose| !pose.is_finite()) {
                Some(pose_idx) => Err(RigError::NotFinite { number: pose_idx + 1 }),
                None => Ok(self),
            },
            _ => Ok(self),
        }
    }
}

impl fmt::Display for RigSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Mvcnn12 => f.write_str("mvcnn12"),
            Kind::Dodecahedron80 => f.write_str("dodecahedron80"),
            Kind::Sphere { num_views } => write!(f, "sphere:{num_views}"),
            Kind::Random {
                num_views,
                seed,
                elevations_deg,
            } => {
                write!(f, "random:{num_views}:{seed}")?;
                let [low, high] = elevations_deg;
                if *elevations_deg == ALL_ELEVATIONS_DEG {
                    Ok(())
                } else {
                    write!(f, ":{low}..{high}")
                }
            }
            Kind::Turntable {
                num_azimuths,
                elevations_deg,
            } => {
                let elevations = elevations_deg.iter().map(f64::to_string).collect::<Vec<_>>();
                write!(f, "turntable:{num_azimuths}:{}", elevations.join(","))
            }
            Kind::Poses(poses) => {
                for (pose_idx, pose) in poses.iter().enumerate() {
                    let PoseDegrees {
                        azimuth_deg,
                        elevation_deg,
                        roll_deg,
                    } = pose;
                    let mark = if pose_idx == 0 { "poses:" } else { "," };
                    write!(f, "{mark}{azimuth_deg}/{elevation_deg}/{roll_deg}")?;
                }
                Ok(())
            }
        }
    }
}

impl FromStr for RigSpec {
    type Err = RigError;

    fn from_str(text: &str) -> Result<Self, RigError> {
        let (name, arguments) = match text.split_once(':') {
            Some((name, arguments)) => (name, Some(arguments)),
            None => (text, None),
        };
        match (name, arguments) {
            ("mvcnn12", None) => Ok(Self::default()),
            ("dodecahedron80", None) => Ok(Self::dodecahedron80()),
            ("sphere", Some(num_views)) => Self::try_sphere(number("number of views", num_views)?),
            ("random", Some(arguments)) => random(arguments),
            ("turntable", Some(arguments)) => {
                let (num_azimuths, elevations_deg) = match arguments.split_once(':') {
                    Some((num_azimuths, elevations)) => (num_azimuths, angles(elevations)?),
                    None => (arguments, vec![DEFAULT_ELEVATION_DEG]),
                };
                Self::try_turntable(number("number of azimuths", num_azimuths)?, elevations_deg)
            }
            ("poses", Some(list)) => Self::try_poses(list.split(',').map(pose).collect::<Result<_, _>>()?),
            _ => Err(RigError::Name {
                found: text.to_owned(),
            }),
        }
    }
}

/// The arguments after `random:`.
fn random(arguments: &str) -> Result<RigSpec, RigError> {
    let mut parts = arguments.splitn(3, ':');
    let num_views = number("number of views", parts.next().unwrap_or_default())?;
    let seed = parts.next().map_or(Ok(0), |seed| number("seed", seed))?;
    let elevations_deg = match parts.next() {
        Some(range) => {
            let (low, high) = range.split_once("..").ok_or_else(|| RigError::Argument {
                expected: "range of elevations, LOW..HIGH",
                found: range.to_owned(),
            })?;
            [number("elevation", low)?, number("elevation", high)?]
        }
        None => ALL_ELEVATIONS_DEG,
    };
    RigSpec::try_random(num_views, seed, elevations_deg)
}

/// One pose of `poses:`.
fn pose(text: &str) -> Result<PoseDegrees, RigError> {
    let parts = text
        .split('/')
        .map(|angle| number("angle", angle))
        .collect::<Result<Vec<f64>, _>>()?;
    match parts[..] {
        [azimuth_deg, elevation_deg] => Ok(PoseDegrees::new(azimuth_deg, elevation_deg)),
        [azimuth_deg, elevation_deg, roll_deg] => Ok(PoseDegrees {
            azimuth_deg,
            elevation_deg,
            roll_deg,
        }),
        _ => Err(RigError::Argument {
            expected: "pose, AZIMUTH/ELEVATION or AZIMUTH/ELEVATION/ROLL",
            found: text.to_owned(),
        }),
    }
}

fn angles(list: &str) -> Result<Vec<f64>, RigError> {
    list.split(',').map(|angle| number("elevation", angle)).collect()
}

fn number<T: FromStr>(expected: &'static str, text: &str) -> Result<T, RigError> {
    text.trim().parse().map_err(|_| RigError::Argument {
        expected,
        found: text.to_owned(),
    })
}

impl Serialize for RigSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Kind::Poses(poses) => poses.serialize(serializer),
            _ => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for RigSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "the name of a rig, or a list of poses with `azimuth_deg`, `elevation_deg` and `roll_deg`"
        )]
        enum NameOrPoses {
            Name(String),
            Poses(Vec<PoseDegrees>),
        }
        let spec = match NameOrPoses::deserialize(deserializer)? {
            NameOrPoses::Name(name) => name.parse(),
            NameOrPoses::Poses(poses) => Self::try_poses(poses),
        };
        spec.map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Holder {
        rig: RigSpec,
    }

    #[test]
    fn names_are_parsed_and_printed() {
        for (text, num_views) in [
            ("mvcnn12", 12),
            ("dodecahedron80", 80),
            ("sphere:7", 7),
            ("random:5:18446744073709551615", 5),
            ("random:5:1:-10..45.5", 5),
            ("turntable:6:0,-30,90", 18),
            ("poses:0/90/0,12.5/-3/45", 2),
        ] {
            let spec: RigSpec = text.parse().unwrap();
            assert_eq!(spec.to_string(), text);
            assert_eq!(spec.num_views(), num_views, "{text}");
            assert_eq!(spec.rig().poses().len(), num_views, "{text}");
        }
        let canonical = |text: &str| text.parse::<RigSpec>().unwrap().to_string();
        assert_eq!(
            canonical("random:5"),
            "random:5:0",
            "a seed is said where it is used"
        );
        assert_eq!(canonical("turntable:12"), "turntable:12:30");
        assert_eq!(canonical("poses:0/90"), "poses:0/90/0");
        let turntable: RigSpec = "turntable:12".parse().unwrap();
        assert_eq!(turntable.rig(), Rig::mvcnn12(), "MVCNN's rig is a turntable");
    }

    #[test]
    fn invalid_rigs_are_errors() {
        let error = |text: &str| text.parse::<RigSpec>().unwrap_err().to_string();
        for text in ["", "mvcnn13", "sphere", "mvcnn12:3", "poses.json"] {
            assert!(error(text).starts_with(&format!("unknown rig '{text}', expected mvcnn12")));
        }
        assert_eq!(error("sphere:0"), "a rig has 1 to 999 views, not 0");
        assert_eq!(error("sphere:1000"), "a rig has 1 to 999 views, not 1000");
        assert_eq!(error("turntable:500:0,10"), "a rig has 1 to 999 views, not 1000");
        assert_eq!(error("sphere:many"), "'many' is not a valid number of views");
        assert_eq!(error("sphere:-1"), "'-1' is not a valid number of views");
        assert_eq!(error("random:3:-1"), "'-1' is not a valid seed");
        assert_eq!(
            error("random:3:1:5"),
            "'5' is not a valid range of elevations, LOW..HIGH"
        );
        assert_eq!(
            error("turntable:3:91"),
            "an elevation is -90 to 90 degrees, not 91"
        );
        assert_eq!(
            error("turntable:3:nan"),
            "an elevation is -90 to 90 degrees, not NaN"
        );
        assert_eq!(
            error("random:3:1:9..8"),
            "no elevation lies between 9 and 8 degrees"
        );
        assert_eq!(error("poses:1/2,inf/2"), "pose 2 has an angle that is not finite");
        assert_eq!(error("poses:1e300/2"), "pose 1 has an angle that is not finite");
        assert!(error("poses:1").contains("AZIMUTH/ELEVATION"));
    }

    #[test]
    fn recipes_take_a_name_or_a_list() {
        let named: Holder = toml::from_str("rig = 'sphere:4'").unwrap();
        assert_eq!(named.rig, RigSpec::try_sphere(4).unwrap());
        let text = "[[rig]]\nazimuth_deg = 10\nelevation_deg = 20.5\n[[rig]]\nazimuth_deg = 0\nelevation_deg = 90\n\
                    roll_deg = 45";
        let listed: Holder = toml::from_str(text).unwrap();
        assert_eq!(listed.rig, "poses:10/20.5,0/90/45".parse().unwrap());
        for text in [
            "rig = []",
            "rig = 'disco'",
            "rig = [{ azimuth_deg = 1 }]",
            "rig = [{ azimuth_deg = 1, elevation_deg = 2, pitch_deg = 3 }]",
            "rig = [{ azimuth_deg = nan, elevation_deg = 2 }]",
        ] {
            assert!(toml::from_str::<Holder>(text).is_err(), "{text}");
        }
    }

    fn spec() -> impl Strategy<Value = RigSpec> {
        let pose =
            (-720.0..720.0, -90.0..90.0, -360.0..360.0).prop_map(|(azimuth_deg, elevation_deg, roll_deg)| {
                PoseDegrees {
                    azimuth_deg,
                    elevation_deg,
                    roll_deg,
                }
            });
        prop_oneof![
            Just(RigSpec::default()),
            Just(RigSpec::dodecahedron80()),
            (1..=MAX_VIEWS).prop_map(|num_views| RigSpec::try_sphere(num_views).unwrap()),
            (1..=MAX_VIEWS, any::<u64>(), -90.0..0.0, 0.0..=90.0).prop_map(|(num_views, seed, low, high)| {
                RigSpec::try_random(num_views, seed, [low, high]).unwrap()
            }),
            (1..=100_usize, prop::collection::vec(-90.0..=90.0, 1..9)).prop_map(
                |(num_azimuths, elevations)| RigSpec::try_turntable(num_azimuths, elevations).unwrap()
            ),
            prop::collection::vec(pose, 1..20).prop_map(|poses| RigSpec::try_poses(poses).unwrap()),
        ]
    }

    proptest! {
        #[test]
        fn every_rig_survives_text_toml_and_json(spec in spec()) {
            prop_assert_eq!(&spec.to_string().parse::<RigSpec>().unwrap(), &spec);
            let holder = Holder { rig: spec };
            let text = toml::to_string(&holder).unwrap();
            prop_assert_eq!(&toml::from_str::<Holder>(&text).unwrap(), &holder);
            let text = serde_json::to_string(&holder).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Holder>(&text).unwrap(), &holder);
        }

        #[test]
        fn no_text_crashes_the_parser(text in "(mvcnn12|sphere|random|turntable|poses)?[:,./0-9e-]{0,12}") {
            if let Ok(spec) = text.parse::<RigSpec>() {
                prop_assert_eq!(spec.rig().poses().len(), spec.num_views());
            }
        }
    }
}
