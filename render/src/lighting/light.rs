//! `Light`: light sources.

use glam::{DVec3, Mat4, Vec3};
use serde::{Deserialize, Serialize};
use tap_shaders::{LIGHT_DIRECTIONAL, LIGHT_HEADLIGHT, LIGHT_POINT, LightUniform};

use super::{LightingError, Rgb};

/// Largest intensity.
const MAX_COLOR: f64 = 16.0;
/// Largest distance from the origin, in units of object space.
const MAX_DISTANCE: f64 = 1e6;

/// A light source, without shadows or attenuation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Light {
    /// A headlight, at the eye.
    Head {
        /// RGB intensity.
        #[serde(default = "white")]
        color: Rgb,
    },
    /// Parallel light from one direction.
    Directional {
        /// Towards the light, of any length.
        toward: [f64; 3],
        /// The coordinate system of `toward`.
        #[serde(default)]
        space: Space,
        /// RGB intensity.
        #[serde(default = "white")]
        color: Rgb,
    },
    /// A point light.
    Point {
        /// Position, in units of object space.
        at: [f64; 3],
        /// The coordinate system of `at`.
        #[serde(default)]
        space: Space,
        /// RGB intensity.
        #[serde(default = "white")]
        color: Rgb,
    },
}

/// The coordinate system that a light is fixed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Space {
    /// Fixed to the object: each view sees it lit from another side.
    #[default]
    Object,
    /// Fixed to the camera: +x right, +y up, +z towards the viewer. Positions are relative to the object's origin.
    View,
}

fn white() -> Rgb {
    Rgb::WHITE
}

impl Light {
    /// A white headlight.
    #[must_use]
    pub fn head() -> Self {
        Self::Head { color: Rgb::WHITE }
    }

    /// A white directional light.
    #[must_use]
    pub fn directional(toward: [f64; 3], space: Space) -> Self {
        Self::Directional {
            toward,
            space,
            color: Rgb::WHITE,
        }
    }

    /// The same light in another color.
    #[must_use]
    pub fn colored(self, color: Rgb) -> Self {
        match self {
            Self::Head { .. } => Self::Head { color },
            Self::Directional { toward, space, .. } => Self::Directional { toward, space, color },
            Self::Point { at, space, .. } => Self::Point { at, space, color },
        }
    }

    pub(crate) fn color(&self) -> Rgb {
        match *self {
            Self::Head { color } | Self::Directional { color, .. } | Self::Point { color, .. } => color,
        }
    }

    pub(crate) fn validate(&self) -> Result<(), LightingError> {
        let refuse = |reason| Err(LightingError::Lights { reason });
        if !self.color().0.iter().all(|part| (0.0..=MAX_COLOR).contains(part)) {
            return refuse("a light's color must be 0 to 16");
        }
        match *self {
            Self::Directional { toward, .. } if DVec3::from(toward).try_normalize().is_none() => {
                refuse("a directional light has no direction")
            }
            Self::Point { at, .. } if !at.iter().all(|part| part.abs() <= MAX_DISTANCE) => {
                refuse("a point light is too far away")
            }
            _ => Ok(()),
        }
    }

    /// The uniform for a view.
    pub(crate) fn uniform(&self, view_from_object: &Mat4) -> LightUniform {
        let (kind, vector) = match *self {
            Self::Head { .. } => (LIGHT_HEADLIGHT, Vec3::ZERO),
            Self::Directional { toward, space, .. } => {
                let toward = DVec3::from(toward).normalize_or_zero().as_vec3();
                let in_view = match space {
                    Space::Object => view_from_object.transform_vector3(toward),
                    Space::View => toward,
                };
                (LIGHT_DIRECTIONAL, in_view)
            }
            Self::Point { at, space, .. } => {
                let at = DVec3::from(at).as_vec3();
                let in_view = match space {
                    Space::Object => view_from_object.transform_point3(at),
                    Space::View => view_from_object.transform_point3(Vec3::ZERO) + at,
                };
                (LIGHT_POINT, in_view)
            }
        };
        LightUniform {
            vector: vector.into(),
            kind,
            color: self.color().as_f32(),
            pad: 0.0,
        }
    }
}
