//! `Lighting`: how a covered pixel is shaded. Presets are in `preset.rs`, light sources in `light.rs`.
//!
//! With the material's color `albedo`, the unit normal `n` on the visible side, `e` towards the eye and `l` towards a
//! light, per channel, 0 to 1 and in the encoding of the file's 8 bits (no gamma correction):
//!
//! ```text
//! value = albedo * (ambient + hemisphere + diffuse * sum(light.color * cosine)) + specular * sum(light.color * highlight)
//! hemisphere = mix(ground, sky, 1/2 + n.up / 2)    up is +y of object space
//! cosine = max(n.l, 0), or |n.l| if the lighting is two-sided
//! highlight = max(n.h, 0)^shininess where cosine > 0, h halfway between l and e    (Blinn-Phong)
//! ```
//!
//! rounded to 8 bits, and at most [`BRIGHTEST_COVERED`].

mod color;
mod light;
mod preset;

use serde::{Deserialize, Deserializer, Serialize};

pub use color::{ColorKind, Rgb};
pub use light::{Light, Space};

/// Default value of uncovered pixels.
pub const BACKGROUND: u8 = 255;
/// Brightest value of a covered pixel, so that white means uncovered.
pub const BRIGHTEST_COVERED: u8 = 254;
/// Most light sources of a lighting.
pub const MAX_LIGHTS: usize = tap_shaders::MAX_LIGHTS;
/// Largest Blinn-Phong exponent.
const MAX_SHININESS: f64 = 10_000.0;

/// In a recipe it is the name of a preset, or a table whose missing fields are those of `mvcnn`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, remote = "Self")]
pub struct Lighting {
    /// White, or the mesh's own materials.
    pub material: MaterialChoice,
    /// Flat or smooth.
    pub normals: Normals,
    /// Lit color, the normals as colors, or depth.
    pub show: Show,
    /// Two-sided lighting: `|n.l|` in place of `max(n.l, 0)` (`reverselit` in `MATLAB`). Files call it `reverse_lit`.
    #[serde(rename = "reverse_lit", alias = "two_sided")]
    pub two_sided: bool,
    /// Ambient light, independent of direction.
    pub ambient: Rgb,
    /// Hemisphere light from above.
    pub sky: Rgb,
    /// Hemisphere light from below.
    pub ground: Rgb,
    /// Diffuse coefficient, 0 to 1.
    pub diffuse: f64,
    /// Specular coefficient, 0 to 1.
    pub specular: f64,
    /// Blinn-Phong exponent, 1 to 10,000.
    pub shininess: f64,
    /// At most [`MAX_LIGHTS`].
    pub lights: Vec<Light>,
    /// 8-bit color of uncovered pixels.
    pub background: [u8; 3],
}

/// Which materials are shaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MaterialChoice {
    /// White everywhere; alpha cutoffs are ignored.
    #[default]
    White,
    /// The mesh's own: base colors, textures, vertex colors, alpha cutoffs.
    Own,
}

/// Which normals are shaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Normals {
    /// Face normals.
    #[default]
    Flat,
    /// Those that the file has at the corners of its faces; without any, as [`Self::Averaged`].
    Smooth,
    /// Area-weighted vertex normals; edges of more than 60 degrees stay sharp.
    Averaged,
}

impl Normals {
    /// Whether normals differ within a face.
    #[must_use]
    pub fn is_smooth(self) -> bool {
        self != Self::Flat
    }
}

/// What the color channel shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Show {
    /// Lit color.
    #[default]
    Light,
    /// Normals in view space: `color = (n + 1) / 2`.
    Normals,
    /// How near a point is: 1/2 as far away as the object's origin, 1 and 0 where the unit sphere around it is nearest and
    /// farthest.
    Depth,
}

/// Why a [`Lighting`] is not valid.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LightingError {
    /// A value is out of range.
    #[error("the lighting's {field} must be 0 to {max}, not {value}")]
    OutOfRange {
        /// Name of the field.
        field: &'static str,
        /// Its value.
        value: f64,
        /// The largest valid value.
        max: f64,
    },
    /// The light sources are not valid.
    #[error("invalid lighting: {reason}")]
    Lights {
        /// The reason.
        reason: &'static str,
    },
}

impl Lighting {
    /// # Errors
    ///
    /// [`LightingError::OutOfRange`] if a value is out of range, [`LightingError::Lights`] if there are too many lights or
    /// one has no direction.
    pub fn validate(&self) -> Result<(), LightingError> {
        let Self {
            material: _,
            normals: _,
            show: _,
            two_sided: _,
            ambient,
            sky,
            ground,
            diffuse,
            specular,
            shininess,
            lights,
            background: _,
        } = self;
        let check = |field, values: &[f64], max: f64| match values.iter().find(|v| !(0.0..=max).contains(*v))
        {
            Some(&value) => Err(LightingError::OutOfRange { field, value, max }),
            None => Ok(()),
        };
        check("ambient", &ambient.0, 1.0)?;
        check("sky", &sky.0, 1.0)?;
        check("ground", &ground.0, 1.0)?;
        check("diffuse", &[*diffuse], 1.0)?;
        check("specular", &[*specular], 1.0)?;
        check("shininess", &[*shininess], MAX_SHININESS)?;
        if *specular > 0.0 && *shininess < 1.0 {
            return Err(LightingError::Lights {
                reason: "shininess must be at least 1",
            });
        }
        if lights.len() > MAX_LIGHTS {
            return Err(LightingError::Lights {
                reason: "there are more than 8",
            });
        }
        lights.iter().try_for_each(Light::validate)
    }

    /// Gray if all colors in it are gray.
    #[must_use]
    pub fn color_kind(&self) -> ColorKind {
        let is_gray = match self.show {
            Show::Light => {
                self.material == MaterialChoice::White
                    && [self.ambient, self.sky, self.ground].iter().all(Rgb::is_gray)
                    && self.lights.iter().all(|light| light.color().is_gray())
            }
            Show::Normals => false,
            Show::Depth => true,
        };
        if is_gray && self.background == [self.background[0]; 3] {
            ColorKind::Gray
        } else {
            ColorKind::Rgb
        }
    }
}

impl Serialize for Lighting {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Lighting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrTable;
        impl<'de> serde::de::Visitor<'de> for NameOrTable {
            type Value = Lighting;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the name of a lighting, or a table")
            }
            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Lighting, E> {
                name.parse().map_err(E::custom)
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, table: A) -> Result<Lighting, A::Error> {
                Lighting::deserialize(serde::de::value::MapAccessDeserializer::new(table))
            }
        }
        deserializer.deserialize_any(NameOrTable)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Holder {
        lighting: Lighting,
    }

    #[test]
    fn a_name_or_a_table() {
        let named: Holder = toml::from_str("lighting = 'mvcnn'").unwrap();
        assert_eq!(named.lighting, Lighting::mvcnn());
        let own: Holder = toml::from_str("lighting = { ambient = 0.1, diffuse = 0.5 }").unwrap();
        let expected = Lighting {
            ambient: Rgb::gray(0.1),
            diffuse: 0.5,
            ..Lighting::mvcnn()
        };
        assert_eq!(own.lighting, expected);
        let text = "[lighting]\nbackground = [0, 0, 0]\n[[lighting.lights]]\nkind = 'point'\nat = [1, 2, 3]\n\
                    color = [1, 0.5, 0]\n[[lighting.lights]]\nkind = 'directional'\ntoward = [0, 1, 0]\nspace = 'view'";
        let lights: Holder = toml::from_str(text).unwrap();
        assert_eq!(lights.lighting.lights.len(), 2, "they replace the preset's");
        assert_eq!(lights.lighting.color_kind(), ColorKind::Rgb);
    }

    #[test]
    fn every_preset_survives_toml_and_json() {
        for lighting in Lighting::PRESETS.map(|name| name.parse::<Lighting>().unwrap()) {
            lighting.validate().unwrap();
            let text = toml::to_string(&lighting).unwrap();
            assert_eq!(toml::from_str::<Lighting>(&text).unwrap(), lighting, "{text}");
            let text = serde_json::to_string(&lighting).unwrap();
            assert_eq!(
                serde_json::from_str::<Lighting>(&text).unwrap(),
                lighting,
                "{text}"
            );
        }
    }

    #[test]
    fn unknown_names_and_keys_are_refused() {
        let error = toml::from_str::<Holder>("lighting = 'disco'")
            .unwrap_err()
            .to_string();
        assert!(error.contains("three-point"), "the presets are listed: {error}");
        for text in [
            "lighting = { ambient = 0.1, difuse = 0.5 }",
            "lighting = { lights = [{ kind = 'point', toward = [1, 0, 0] }] }",
            "lighting = { lights = [{ kind = 'head', colour = 1 }] }",
            "lighting = 3",
        ] {
            assert!(toml::from_str::<Holder>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn parts_are_within_their_ranges() {
        let is_valid = |change: fn(&mut Lighting)| {
            let mut lighting = Lighting::mvcnn();
            change(&mut lighting);
            lighting.validate().is_ok()
        };
        assert!(is_valid(|_| ()), "the preset");
        for ambient in [-0.1, 1.1, f64::NAN] {
            let lighting = Lighting {
                ambient: Rgb::gray(ambient),
                ..Lighting::mvcnn()
            };
            assert!(lighting.validate().is_err(), "ambient {ambient}");
        }
        assert!(!is_valid(|lighting| lighting.diffuse = 2.0), "diffuse 2");
        assert!(
            !is_valid(|lighting| (lighting.specular, lighting.shininess) = (0.5, 0.5)),
            "shininess below 1"
        );
        assert!(
            !is_valid(|lighting| lighting.lights = vec![Light::head(); 9]),
            "nine lights"
        );
        assert!(
            !is_valid(|lighting| lighting.lights = vec![Light::directional([0.0; 3], Space::View)]),
            "no direction"
        );
    }
}
