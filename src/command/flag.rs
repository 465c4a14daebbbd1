//! Flags that `tap render` and `tap dataset build` share: what a view looks like, and what draws it.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result};
use clap::Args;
use tap_cli::exit_code::usage;
use tap_cli::settings::Setting;
use tap_render::{
    AdapterChoice, BackendChoice, Framing, Lighting, Projection, RendererOptions, RigError, RigSpec, UpAxis,
};
use toml::Value;

use crate::recipe::{self, RENDER_PRESETS};
use crate::rig_file;

/// What a view looks like. Each flag is a short way to write a `--set`.
#[derive(Debug, Args)]
pub(crate) struct ViewFlags {
    /// From where an object is looked at: mvcnn12, dodecahedron80, sphere:N, random:N[:SEED[:LOW..HIGH]],
    /// turntable:N[:ELEVATION,...], poses:AZIMUTH/ELEVATION[/ROLL],... or a JSON file of poses (a list, or a views.json).
    #[arg(long, help_heading = "Views", value_name = "RIG|FILE.json")]
    rig: Option<RigArgument>,
    /// How it fills the picture: mvcnn, box or sphere.
    #[arg(long, help_heading = "Views", value_name = "FRAMING")]
    framing: Option<Framing>,
    /// perspective, perspective:D (the eye D box diagonals away) or parallel.
    #[arg(long, help_heading = "Views", value_name = "PROJECTION")]
    projection: Option<Projection>,
    /// mvcnn, mvcnn-2015, textured, three-point, headlight-specular, hemisphere, normals, random:SEED, or a TOML file.
    #[arg(long, help_heading = "Views", value_name = "NAME|FILE.toml")]
    lighting: Option<String>,
    /// Side of a view in pixels.
    #[arg(long, help_heading = "Views", value_name = "PIXELS")]
    size: Option<u32>,
    /// Samples a pixel: 1 or 4.
    #[arg(long, help_heading = "Views", value_name = "N")]
    samples: Option<u32>,
}

impl ViewFlags {
    /// The file of poses, if it is one.
    pub(crate) fn rig_file(&self) -> Option<&Path> {
        match &self.rig {
            Some(RigArgument::File(path)) => Some(path),
            _ => None,
        }
    }

    /// The flags as settings of a recipe's part, for example `render.`.
    ///
    /// # Errors
    /// When the file of a lighting or of poses can't be read.
    pub(crate) fn settings(&self, prefix: &str) -> Result<Vec<Setting>> {
        let Self {
            rig,
            framing,
            projection,
            lighting,
            size,
            samples,
        } = self;
        let lighting = lighting.as_deref().map(lighting_value).transpose()?;
        let values = [
            ("rig", rig.as_ref().map(RigArgument::value).transpose()?),
            (
                "framing",
                framing.map(|framing| Value::String(framing.to_string())),
            ),
            (
                "projection",
                projection.map(|projection| Value::String(projection.to_string())),
            ),
            ("lighting", lighting),
            ("size_px", size.map(|size| Value::Integer(i64::from(size)))),
            (
                "samples",
                samples.map(|samples| Value::Integer(i64::from(samples))),
            ),
        ];
        let given = values.into_iter().filter_map(|(key, value)| Some((key, value?)));
        Ok(given
            .map(|(key, value)| Setting::new(format!("{prefix}{key}"), value))
            .collect())
    }
}

/// What a lighting of a name or its file says, so that settings can change parts of it.
fn lighting_value(text: &str) -> Result<Value> {
    Value::try_from(lighting(text)?).context("a lighting has no TOML form")
}

/// The lighting of this name, or of this file.
///
/// # Errors
/// When the file can't be read or is no lighting; a name that is none is an error of the command line.
pub(crate) fn lighting(text: &str) -> Result<Lighting> {
    let path = Path::new(text);
    if path.extension().is_some_and(|extension| extension == "toml") {
        let lighting: Lighting = recipe::resolve(RENDER_PRESETS, Some(text), &[])?;
        lighting.validate().with_context(|| text.to_owned())?;
        return Ok(lighting);
    }
    text.parse()
        .map_err(|error| usage(format_args!("--lighting {text}: {error}")))
}

/// A rig by its name, or the file that holds its poses.
#[derive(Debug, Clone)]
enum RigArgument {
    Spec(RigSpec),
    File(PathBuf),
}

impl RigArgument {
    /// The setting, with the poses of a file in it.
    fn value(&self) -> Result<Value> {
        let spec = match self {
            Self::Spec(spec) => spec.clone(),
            Self::File(path) => rig_file::read(path)?,
        };
        Value::try_from(spec).context("a rig has no TOML form")
    }
}

impl FromStr for RigArgument {
    type Err = RigError;

    fn from_str(text: &str) -> Result<Self, RigError> {
        let path = Path::new(text);
        if path.extension().is_some_and(|extension| extension == "json") {
            return Ok(Self::File(path.to_owned()));
        }
        text.parse().map(Self::Spec)
    }
}

/// Who draws.
#[derive(Debug, Args)]
pub(crate) struct DeviceFlags {
    /// Who draws: auto (a GPU where there is one, else the CPU), cpu, or wgpu.
    #[arg(long, value_name = "BACKEND", default_value_t)]
    backend: BackendChoice,
    /// Which adapter of the wgpu backend: auto, software (Mesa's lavapipe), or part of a name.
    #[arg(long, value_name = "ADAPTER", default_value_t)]
    adapter: AdapterChoice,
}

impl DeviceFlags {
    pub(crate) fn renderer_options(&self) -> RendererOptions {
        RendererOptions {
            backend: self.backend,
            adapter: self.adapter.clone(),
            ..RendererOptions::default()
        }
    }
}

/// Which axis of the files points up.
#[derive(Debug, Args)]
pub(crate) struct UpFlag {
    /// The axis of the files that points up: y (ShapeNetCore, glTF) or z (ModelNet, most CAD).
    #[arg(long, value_name = "AXIS")]
    pub(crate) up: Option<UpAxis>,
}
