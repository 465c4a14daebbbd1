//! `RenderRecipe`: all settings that views depend on. The same recipe, mesh and adapter give the same bytes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::camera::{CameraError, Framing, Projection, RigSpec};
use crate::lighting::{ColorKind, Lighting, LightingError, MaterialChoice, Normals};
use crate::parse::ParseError;

/// Side of a view, in pixels: MVCNN's and TAP's (`docs/conventions.md`, "Two generations of pictures").
pub const DEFAULT_SIZE_PX: u32 = 224;
/// Samples per pixel.
pub const DEFAULT_SAMPLES: u32 = 4;
/// Largest side of a view, in pixels; every device supports it. Supersampled views are drawn larger, up to this size.
pub const MAX_SIZE_PX: u32 = 4096;
/// Samples per pixel that can be asked for. Devices have 1 and 4; more are drawn as several pixels of 4.
pub const SAMPLE_COUNTS: [u32; 4] = [1, 4, 16, 64];
/// Most samples of a pixel that is drawn.
const MAX_DRAWN_SAMPLES: u32 = 4;
const MIB: u64 = 1 << 20;

/// Most bytes of all views of a mesh, which are in memory together.
pub const MAX_VIEW_BYTES: u64 = 1 << 32;

/// All settings of a rendering.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RenderRecipe {
    /// The poses.
    pub rig: RigSpec,
    /// How an object fills the image.
    pub framing: Framing,
    /// Perspective or orthographic.
    pub projection: Projection,
    /// Side of a view, in pixels.
    pub size_px: u32,
    /// Samples per pixel, one of [`SAMPLE_COUNTS`]: 1 (no anti-aliasing), 4, 16 or 64.
    pub samples: u32,
    /// The channels to render.
    pub channels: Channels,
    /// How a covered pixel is shaded.
    pub lighting: Lighting,
}

/// Why a [`RenderRecipe`] is not valid.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// The image size is out of range.
    #[error("the image size must be 1 to {limit} pixels, not {size_px}")]
    Size {
        /// The size, in pixels.
        size_px: u32,
        /// The largest size, in pixels.
        limit: u32,
    },
    /// The views of one mesh exceed the memory limit.
    #[error(
        "{num_views} views of {size_px} x {size_px} pixels take {} MiB with their channels, at most {} MiB are allowed: \
         ask for a smaller size, fewer views, channels or samples",
        .needed_bytes / MIB,
        .limit_bytes / MIB
    )]
    TooManyPixels {
        /// Views of the rig.
        num_views: usize,
        /// Side of a view, in pixels.
        size_px: u32,
        /// Bytes of all views.
        needed_bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// The number of samples per pixel is not one of [`SAMPLE_COUNTS`].
    #[error("samples per pixel must be 1, 4, 16 or 64, not {samples}")]
    Samples {
        /// The number of samples.
        samples: u32,
    },
    /// The pixels of several samples that a view is drawn with are too many.
    #[error("with {samples} samples per pixel the image size must be 1 to {limit} pixels, not {size_px}")]
    SupersampledSize {
        /// The number of samples.
        samples: u32,
        /// The size, in pixels.
        size_px: u32,
        /// The largest size with so many samples.
        limit: u32,
    },
    /// No channel was requested.
    #[error("a recipe needs at least one channel")]
    NoChannel,
    /// The projection is not valid.
    #[error(transparent)]
    Camera(#[from] CameraError),
    /// The lighting is not valid.
    #[error(transparent)]
    Lighting(#[from] LightingError),
}

impl Default for RenderRecipe {
    fn default() -> Self {
        Self {
            rig: RigSpec::default(),
            framing: Framing::default(),
            projection: Projection::default(),
            size_px: DEFAULT_SIZE_PX,
            samples: DEFAULT_SAMPLES,
            channels: Channels::default(),
            lighting: Lighting::default(),
        }
    }
}

impl RenderRecipe {
    /// Do views depend on the mesh's materials, so that an importer should read them?
    #[must_use]
    pub fn needs_appearance(&self) -> bool {
        self.lighting.material == MaterialChoice::Own || self.channels.material
    }

    /// Do views depend on the normals that the mesh's file has at its corners, so that an importer should read them?
    #[must_use]
    pub fn needs_normals(&self) -> bool {
        self.lighting.normals == Normals::Smooth
    }

    /// A pixel is drawn as the square of this number of pixels.
    pub(crate) fn supersampling(&self) -> u32 {
        (self.samples / MAX_DRAWN_SAMPLES).max(1).isqrt()
    }

    /// The recipe of the views that are drawn, which [`Self::supersampling`] reduces to those of this recipe.
    pub(crate) fn drawn(&self) -> Self {
        Self {
            size_px: self.size_px * self.supersampling(),
            samples: self.samples.min(MAX_DRAWN_SAMPLES),
            ..self.clone()
        }
    }

    /// # Errors
    ///
    /// A [`RecipeError`] that names the first setting that is out of range.
    pub fn validate(&self) -> Result<(), RecipeError> {
        let Self {
            rig,
            framing: _,
            projection,
            size_px,
            samples,
            channels,
            lighting,
        } = self;
        if !(1..=MAX_SIZE_PX).contains(size_px) {
            return Err(RecipeError::Size {
                size_px: *size_px,
                limit: MAX_SIZE_PX,
            });
        }
        if !SAMPLE_COUNTS.contains(samples) {
            return Err(RecipeError::Samples { samples: *samples });
        }
        let limit = MAX_SIZE_PX / self.supersampling();
        if *size_px > limit {
            return Err(RecipeError::SupersampledSize {
                samples: *samples,
                size_px: *size_px,
                limit,
            });
        }
        if channels.is_empty() {
            return Err(RecipeError::NoChannel);
        }
        let num_views = rig.num_views();
        let drawn_size_px = u64::from(size_px * self.supersampling());
        let num_pixels = num_views as u64 * drawn_size_px * drawn_size_px;
        let needed_bytes = num_pixels * channels.bytes_of_pixel(lighting.color_kind());
        if needed_bytes > MAX_VIEW_BYTES {
            return Err(RecipeError::TooManyPixels {
                num_views,
                size_px: *size_px,
                needed_bytes,
                limit_bytes: MAX_VIEW_BYTES,
            });
        }
        projection.validate()?;
        lighting.validate()?;
        Ok(())
    }
}

/// One channel of a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// Lit color.
    Color,
    /// Coverage.
    Mask,
    /// Distance from the eye's plane.
    Depth,
    /// Unit normals in view space.
    Normal,
    /// Unlit color of the material.
    Albedo,
    /// Index of the mesh's part.
    Part,
    /// Index of the mesh's material.
    Material,
}

/// A set of channels. In a recipe it is a list of names; on a command line they are comma-separated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Channel>", into = "Vec<Channel>")]
#[allow(clippy::struct_excessive_bools, reason = "it is a set")]
pub struct Channels {
    /// Is [`Channel::Color`] in the set?
    pub color: bool,
    /// Is [`Channel::Mask`] in the set?
    pub mask: bool,
    /// Is [`Channel::Depth`] in the set?
    pub depth: bool,
    /// Is [`Channel::Normal`] in the set?
    pub normal: bool,
    /// Is [`Channel::Albedo`] in the set?
    pub albedo: bool,
    /// Is [`Channel::Part`] in the set?
    pub part: bool,
    /// Is [`Channel::Material`] in the set?
    pub material: bool,
}

impl Channels {
    /// The empty set.
    pub const NONE: Self = Self {
        color: false,
        mask: false,
        depth: false,
        normal: false,
        albedo: false,
        part: false,
        material: false,
    };
    /// All channels.
    pub const ALL: Self = Self {
        color: true,
        mask: true,
        depth: true,
        normal: true,
        albedo: true,
        part: true,
        material: true,
    };
    /// What [`relight`](crate::relight()) needs.
    pub const GBUFFER: Self = Self {
        mask: true,
        depth: true,
        normal: true,
        albedo: true,
        ..Self::NONE
    };

    /// Is any channel of the G-buffer in the set?
    pub(crate) fn needs_surface(self) -> bool {
        self.depth || self.normal || self.albedo || self.part || self.material
    }

    /// Is there no channel in the set?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::NONE
    }

    /// Bytes per pixel of a [`View`](crate::View) with these channels.
    fn bytes_of_pixel(self, color_kind: ColorKind) -> u64 {
        let Self {
            color,
            mask,
            depth,
            normal,
            albedo,
            part,
            material,
        } = self;
        let of_color = match color_kind {
            ColorKind::Gray => 1,
            ColorKind::Rgb => 3,
        };
        [
            (color, of_color),
            (mask, 1),
            (depth, 4),
            (normal, 12),
            (albedo, 3),
            (part, 2),
            (material, 2),
        ]
        .into_iter()
        .map(|(is_drawn, bytes)| if is_drawn { bytes } else { 0 })
        .sum()
    }
}

/// Color and mask, which shards store.
impl Default for Channels {
    fn default() -> Self {
        Self {
            color: true,
            mask: true,
            ..Self::NONE
        }
    }
}

impl From<Vec<Channel>> for Channels {
    fn from(list: Vec<Channel>) -> Self {
        let has = |channel| list.contains(&channel);
        Self {
            color: has(Channel::Color),
            mask: has(Channel::Mask),
            depth: has(Channel::Depth),
            normal: has(Channel::Normal),
            albedo: has(Channel::Albedo),
            part: has(Channel::Part),
            material: has(Channel::Material),
        }
    }
}

impl From<Channels> for Vec<Channel> {
    fn from(set: Channels) -> Self {
        let Channels {
            color,
            mask,
            depth,
            normal,
            albedo,
            part,
            material,
        } = set;
        [
            (color, Channel::Color),
            (mask, Channel::Mask),
            (depth, Channel::Depth),
            (normal, Channel::Normal),
            (albedo, Channel::Albedo),
            (part, Channel::Part),
            (material, Channel::Material),
        ]
        .into_iter()
        .filter_map(|(is_in, channel)| is_in.then_some(channel))
        .collect()
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Color => "color",
            Self::Mask => "mask",
            Self::Depth => "depth",
            Self::Normal => "normal",
            Self::Albedo => "albedo",
            Self::Part => "part",
            Self::Material => "material",
        })
    }
}

impl FromStr for Channel {
    type Err = ParseError;

    fn from_str(name: &str) -> Result<Self, ParseError> {
        match name {
            "color" => Ok(Self::Color),
            "mask" => Ok(Self::Mask),
            "depth" => Ok(Self::Depth),
            "normal" => Ok(Self::Normal),
            "albedo" => Ok(Self::Albedo),
            "part" => Ok(Self::Part),
            "material" => Ok(Self::Material),
            _ => Err(ParseError {
                what: "channel",
                expected: "color, mask, depth, normal, albedo, part or material",
                found: name.to_owned(),
            }),
        }
    }
}

impl fmt::Display for Channels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = Vec::from(*self).iter().map(Channel::to_string).collect();
        f.write_str(&names.join(","))
    }
}

impl FromStr for Channels {
    type Err = ParseError;

    fn from_str(names: &str) -> Result<Self, ParseError> {
        let list: Result<Vec<Channel>, ParseError> =
            names.split(',').map(|name| name.trim().parse()).collect();
        Ok(list?.into())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn the_default_survives_toml_and_json() {
        let recipe = RenderRecipe::default();
        let text = toml::to_string(&recipe).unwrap();
        assert_eq!(toml::from_str::<RenderRecipe>(&text).unwrap(), recipe, "{text}");
        let text = serde_json::to_string(&recipe).unwrap();
        assert_eq!(
            serde_json::from_str::<RenderRecipe>(&text).unwrap(),
            recipe,
            "{text}"
        );
        assert_eq!(
            toml::from_str::<RenderRecipe>("").unwrap(),
            recipe,
            "nothing said means the default"
        );
    }

    #[test]
    fn views_fit_in_memory() {
        let of = |num_views, size_px, channels: &str| RenderRecipe {
            rig: RigSpec::try_sphere(num_views).unwrap(),
            size_px,
            channels: channels.parse().unwrap(),
            ..RenderRecipe::default()
        };
        let all = "color,mask,depth,normal,albedo,part,material";
        of(80, 1024, all).validate().unwrap();
        of(80, MAX_SIZE_PX, "color,mask").validate().unwrap();
        let error = of(999, MAX_SIZE_PX, all).validate().unwrap_err().to_string();
        assert!(
            error.contains("999 views of 4096 x 4096 pixels take 399600 MiB"),
            "{error}"
        );
    }

    #[test]
    fn names_are_short() {
        let text = "framing = 'box'\nprojection = 'parallel'\nlighting = 'mvcnn'\nchannels = ['depth']";
        let recipe: RenderRecipe = toml::from_str(text).unwrap();
        assert_eq!(recipe.framing, Framing::Box);
        assert_eq!(recipe.projection, Projection::Orthographic);
        assert_eq!(
            recipe.channels,
            Channels {
                depth: true,
                ..Channels::NONE
            }
        );
        assert_eq!(
            "color,normal".parse::<Channels>().unwrap().to_string(),
            "color,normal"
        );
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(
            toml::from_str::<RenderRecipe>("sise_px = 224").is_err(),
            "a misspelled key"
        );
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let error = |change: fn(&mut RenderRecipe)| {
            let mut recipe = RenderRecipe::default();
            change(&mut recipe);
            recipe.validate().unwrap_err().to_string()
        };
        assert!(error(|recipe| recipe.size_px = 0).contains("size"), "size 0");
        assert!(
            error(|recipe| recipe.samples = 3).contains("samples"),
            "3 samples"
        );
        assert!(
            error(|recipe| recipe.channels = Channels::NONE).contains("channel"),
            "no channel"
        );
        assert!(
            error(|recipe| recipe.lighting.diffuse = 2.0).contains("diffuse"),
            "diffuse 2"
        );
        let inside = |recipe: &mut RenderRecipe| {
            recipe.projection = Projection::Perspective {
                distance_diagonals: 0.1,
            };
        };
        assert!(error(inside).contains("diagonals"), "an eye within the object");
        assert!(RenderRecipe::default().validate().is_ok(), "the default is valid");
    }
}
