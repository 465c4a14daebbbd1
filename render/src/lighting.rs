//! `Lighting`: how a covered pixel gets its value.
//!
//! The numbers are those of MVCNN's rendering script of 2016, with which the `ShapeNet` views were made that TAP
//! was trained on (`facts-mvcnn.md`, two generations of pictures).

use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use crate::error::{ParseError, RenderError};

/// Ambient part of the `mvcnn` preset.
const MVCNN_AMBIENT: f64 = 0.3;
/// Diffuse part of the `mvcnn` preset.
const MVCNN_DIFFUSE: f64 = 0.6;
/// Value of a pixel that the object does not cover.
pub const BACKGROUND: u8 = 255;
/// The brightest value of a pixel that the object covers: the background's value means 'not covered'.
pub const BRIGHTEST_COVERED: u8 = BACKGROUND - 1;

/// White material, flat normals, both sides of a face lit alike, one light at the eye, no gamma:
/// `value = ambient + diffuse * |n . l|`, where 1 would be the background's white.
///
/// In a recipe it is the name of a preset (`"mvcnn"`) or a table of all numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Lighting {
    /// What a face gets whatever its direction, 0 to 1.
    pub ambient: f64,
    /// What a face gets more when it looks straight at the light, 0 to 1.
    pub diffuse: f64,
}

impl Lighting {
    /// The lighting of the views that TAP was trained on: ambient 0.3, diffuse 0.6.
    #[must_use]
    pub fn mvcnn() -> Self {
        Self {
            ambient: MVCNN_AMBIENT,
            diffuse: MVCNN_DIFFUSE,
        }
    }

    /// # Errors
    ///
    /// [`RenderError::Lighting`] if a part is not within 0 to 1.
    pub fn validate(&self) -> Result<(), RenderError> {
        let Self { ambient, diffuse } = *self;
        for (part, value) in [("ambient", ambient), ("diffuse", diffuse)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(RenderError::Lighting { part, value });
            }
        }
        Ok(())
    }
}

impl Default for Lighting {
    fn default() -> Self {
        Self::mvcnn()
    }
}

impl FromStr for Lighting {
    type Err = ParseError;

    fn from_str(name: &str) -> Result<Self, ParseError> {
        match name {
            "mvcnn" => Ok(Self::mvcnn()),
            _ => Err(ParseError {
                what: "lighting",
                expected: "mvcnn",
                found: name.to_owned(),
            }),
        }
    }
}

impl<'de> Deserialize<'de> for Lighting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            ambient: f64,
            diffuse: f64,
        }
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "the name of a lighting, or a table with `ambient` and `diffuse`"
        )]
        enum NameOrTable {
            Name(String),
            Table(Table),
        }
        match NameOrTable::deserialize(deserializer)? {
            NameOrTable::Name(name) => name.parse().map_err(serde::de::Error::custom),
            NameOrTable::Table(Table { ambient, diffuse }) => Ok(Self { ambient, diffuse }),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[derive(Deserialize)]
    struct Holder {
        lighting: Lighting,
    }

    #[test]
    fn a_name_or_a_table() {
        let named: Holder = toml::from_str("lighting = 'mvcnn'").unwrap();
        assert_eq!(named.lighting, Lighting::mvcnn());
        let own: Holder = toml::from_str("lighting = { ambient = 0.1, diffuse = 0.5 }").unwrap();
        assert_eq!(
            own.lighting,
            Lighting {
                ambient: 0.1,
                diffuse: 0.5
            }
        );
    }

    #[test]
    fn unknown_names_and_keys_are_refused() {
        assert!(
            toml::from_str::<Holder>("lighting = 'disco'").is_err(),
            "no such preset"
        );
        let misspelled = "lighting = { ambient = 0.1, difuse = 0.5 }";
        assert!(toml::from_str::<Holder>(misspelled).is_err(), "no such key");
    }

    #[test]
    fn parts_lie_within_0_and_1() {
        assert!(Lighting::mvcnn().validate().is_ok(), "the preset is valid");
        for ambient in [-0.1, 1.1, f64::NAN] {
            assert!(
                Lighting {
                    ambient,
                    diffuse: 0.5
                }
                .validate()
                .is_err(),
                "ambient {ambient}"
            );
        }
    }
}
