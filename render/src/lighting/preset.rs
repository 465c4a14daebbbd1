//! Lighting presets.
//!
//! `mvcnn` and `mvcnn-2015` are those of MVCNN's two sets of views (`suhangpro/mvcnn`, `utils/plotMesh.m`, its versions
//! of 2016-02 and 2015-09); the others are ours.

use std::f64::consts::TAU;
use std::str::FromStr;

use super::{BACKGROUND, Light, Lighting, MaterialChoice, Normals, Rgb, Show, Space};
use crate::parse::ParseError;
use crate::rng::SeededRng;

/// `mvcnn`: ambient and diffuse coefficients of the script of 2016.
const MVCNN: (f64, f64) = (0.3, 0.6);
/// `mvcnn-2015`: ambient and diffuse coefficients of the script of 2015, confirmed by measuring published views.
const MVCNN_2015: (f64, f64) = (0.2, 0.6);
/// `mvcnn-2015`: `camlight` is right of and above the camera, 30 degrees each.
const CAMLIGHT_DEG: f64 = 30.0;
/// Most lights of a `random` lighting.
const MAX_RANDOM_LIGHTS: f64 = 4.0;

impl Lighting {
    /// The names of the presets; `random` takes a seed, as in `random:7`.
    pub const PRESETS: [&'static str; 9] = [
        "mvcnn",
        "mvcnn-2015",
        "textured",
        "three-point",
        "headlight-specular",
        "hemisphere",
        "normals",
        "depth",
        "random:0",
    ];

    /// The views that TAP was trained on: white, flat, two-sided, one headlight; ambient 0.3, diffuse 0.6.
    #[must_use]
    pub fn mvcnn() -> Self {
        let (ambient, diffuse) = MVCNN;
        Self {
            material: MaterialChoice::White,
            normals: Normals::Flat,
            show: Show::Light,
            two_sided: true,
            ambient: Rgb::gray(ambient),
            sky: Rgb::BLACK,
            ground: Rgb::BLACK,
            diffuse,
            specular: 0.0,
            shininess: 10.0,
            lights: vec![Light::head()],
            background: [BACKGROUND; 3],
        }
    }

    /// The published views of `ModelNet40`: white, smooth, one light right of and above the camera; ambient 0.2, diffuse
    /// 0.6.
    #[must_use]
    pub fn mvcnn_2015() -> Self {
        let (ambient, diffuse) = MVCNN_2015;
        let (sin, cos) = CAMLIGHT_DEG.to_radians().sin_cos();
        Self {
            normals: Normals::Averaged,
            ambient: Rgb::gray(ambient),
            diffuse,
            lights: vec![Light::directional([sin * cos, sin, cos * cos], Space::View)],
            ..Self::mvcnn()
        }
    }

    /// The mesh's own materials under the headlight of `mvcnn`, a little brighter.
    #[must_use]
    pub fn textured() -> Self {
        Self {
            material: MaterialChoice::Own,
            ambient: Rgb::gray(0.45),
            diffuse: 0.55,
            ..Self::mvcnn()
        }
    }

    /// Three-point lighting: key light from the right and above, a weaker fill light from the left, a rim light from
    /// behind; all fixed to the camera.
    #[must_use]
    pub fn three_point() -> Self {
        let light = |toward, strength| Light::directional(toward, Space::View).colored(Rgb::gray(strength));
        Self {
            material: MaterialChoice::Own,
            two_sided: false,
            ambient: Rgb::gray(0.15),
            diffuse: 1.0,
            lights: vec![
                light([1.0, 1.0, 1.0], 0.65),
                light([-1.0, 0.3, 0.8], 0.3),
                light([-0.3, 0.8, -1.0], 0.35),
            ],
            ..Self::mvcnn()
        }
    }

    /// `mvcnn` with a Blinn-Phong highlight.
    #[must_use]
    pub fn headlight_specular() -> Self {
        Self {
            ambient: Rgb::gray(0.2),
            diffuse: 0.5,
            specular: 0.3,
            shininess: 30.0,
            ..Self::mvcnn()
        }
    }

    /// Hemisphere light: bright from above, dim from below, no light sources.
    #[must_use]
    pub fn hemisphere() -> Self {
        Self {
            ambient: Rgb::gray(0.1),
            sky: Rgb::gray(0.8),
            ground: Rgb::gray(0.15),
            diffuse: 0.0,
            lights: Vec::new(),
            ..Self::mvcnn()
        }
    }

    /// Normals in view space as colors.
    #[must_use]
    pub fn normals() -> Self {
        Self {
            show: Show::Normals,
            ..Self::mvcnn()
        }
    }

    /// How near each point is, from black at the far side of the unit sphere, and around the object, to white.
    #[must_use]
    pub fn depth() -> Self {
        Self {
            show: Show::Depth,
            background: [0; 3],
            ..Self::mvcnn()
        }
    }

    /// One to four lights, directional and point, of random positions and intensities, fixed to the object, on the
    /// mesh's own materials. The same seed gives the same lights.
    #[must_use]
    pub fn random(seed: u64) -> Self {
        let mut rng = SeededRng::new(seed);
        let count = 1 + rng.between(0.0, MAX_RANDOM_LIGHTS) as u32;
        let lights = (0..count).map(|_| {
            let (height, turn) = (rng.between(-0.4, 1.0), rng.between(0.0, TAU));
            let across = (1.0_f64 - height * height).max(0.0).sqrt();
            let toward = [turn.sin() * across, height, turn.cos() * across].map(round);
            let strength = rng.between(0.5, 1.5) / f64::from(count);
            let color = Rgb([0; 3].map(|_| round(strength * rng.between(0.85, 1.0))));
            if rng.unit() < 0.5 {
                Light::directional(toward, Space::Object).colored(color)
            } else {
                let distance = rng.between(1.5, 3.5);
                Light::Point {
                    at: toward.map(|part| round(part * distance)),
                    space: Space::Object,
                    color,
                }
            }
        });
        let lights = lights.collect();
        Self {
            material: MaterialChoice::Own,
            two_sided: false,
            ambient: Rgb::gray(round(rng.between(0.1, 0.3))),
            diffuse: 0.8,
            lights,
            ..Self::mvcnn()
        }
    }
}

/// Three decimals, to keep recipes readable.
fn round(x: f64) -> f64 {
    (x * 1e3).round() / 1e3
}

impl Default for Lighting {
    fn default() -> Self {
        Self::mvcnn()
    }
}

impl FromStr for Lighting {
    type Err = ParseError;

    fn from_str(name: &str) -> Result<Self, ParseError> {
        let error = || ParseError {
            what: "lighting",
            expected: "mvcnn, mvcnn-2015, textured, three-point, headlight-specular, hemisphere, normals, depth, random \
                       or random:SEED",
            found: name.to_owned(),
        };
        Ok(match name {
            "mvcnn" => Self::mvcnn(),
            "mvcnn-2015" => Self::mvcnn_2015(),
            "textured" => Self::textured(),
            "three-point" => Self::three_point(),
            "headlight-specular" => Self::headlight_specular(),
            "hemisphere" => Self::hemisphere(),
            "normals" => Self::normals(),
            "depth" => Self::depth(),
            "random" => Self::random(0),
            _ => {
                let seed = name.strip_prefix("random:").ok_or_else(error)?;
                Self::random(seed.parse().map_err(|_| error())?)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_lights_are_those_of_their_seed() {
        assert_eq!(Lighting::random(7), Lighting::random(7));
        assert_ne!(Lighting::random(7), Lighting::random(8));
        for seed in 0..200 {
            let lighting = Lighting::random(seed);
            assert!(lighting.validate().is_ok(), "seed {seed}");
            assert!((1..=4).contains(&lighting.lights.len()), "seed {seed}");
        }
    }

    #[test]
    fn camlight_direction_matches_measurement() {
        let lighting = Lighting::mvcnn_2015();
        let [Light::Directional { toward, .. }] = lighting.lights[..] else {
            panic!("one directional light");
        };
        for (part, measured) in toward.iter().zip([0.41, 0.50, 0.76]) {
            assert!((part - measured).abs() < 0.03, "{toward:?}");
        }
    }
}
