//! Flags that `tap render` and `tap dataset build` share: what a view looks like, and what renders it.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result};
use clap::Args;
use tap_cli::exit_code::usage;
use tap_cli::settings::Setting;
use tap_dataset::view_folder;
use tap_render::{
    AdapterChoice, BackendChoice, Framing, Lighting, Projection, RendererOptions, RigError, RigSpec, UpAxis,
};
use toml::Value;

use crate::recipe::{self, RENDER_PRESETS};

/// What a view looks like. Each flag is a short way to write a `--set`.
#[derive(Debug, Args)]
pub(crate) struct ViewFlags {
    /// Camera poses: mvcnn12, dodecahedron80, sphere:N, random:N[:SEED[:LOW..HIGH]],
    /// turntable:N[:ELEVATION,...], poses:AZIMUTH/ELEVATION[/ROLL],... or a JSON file of poses (a list, or a views.json).
    #[arg(long, help_heading = "Views", value_name = "RIG|FILE.json")]
    rig: Option<RigArgument>,
    /// How the object fills the image: mvcnn, box or sphere.
    #[arg(long, help_heading = "Views", value_name = "FRAMING")]
    framing: Option<Framing>,
    /// perspective, perspective:D (the eye D box diagonals away) or parallel.
    #[arg(long, help_heading = "Views", value_name = "PROJECTION")]
    projection: Option<Projection>,
    /// mvcnn, mvcnn-2015, textured, three-point, headlight-specular, hemisphere, normals, depth, random:SEED, or a TOML file.
    #[arg(long, help_heading = "Views", value_name = "NAME|FILE.toml")]
    lighting: Option<String>,
    /// Width and height of a view in pixels, up to 4096; with 16 samples up to 2048, with 64 up to 1024.
    #[arg(long, help_heading = "Views", value_name = "PIXELS")]
    size: Option<u32>,
    /// Samples per pixel: 1, 4, 16 or 64. More than 4 are drawn as several pixels, and take as many times as long.
    #[arg(long, help_heading = "Views", value_name = "N")]
    samples: Option<u32>,
}

impl ViewFlags {
    /// The rig's file, if it is one.
    pub(crate) fn rig_file(&self) -> Option<&Path> {
        match &self.rig {
            Some(RigArgument::File(path)) => Some(path),
            _ => None,
        }
    }

    /// The flags as settings of a table of the recipe, for example `render.`.
    ///
    /// # Errors
    /// When the file of a lighting or a rig can't be read.
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

/// All values of a lighting, so that settings can change some of them.
fn lighting_value(text: &str) -> Result<Value> {
    Value::try_from(lighting(text)?).context("a lighting has no TOML form")
}

/// The lighting of this name or file.
///
/// # Errors
/// When the file can't be read or holds no lighting; an unknown name is a usage error.
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

/// A rig by name, or the file that holds its poses.
#[derive(Debug, Clone)]
enum RigArgument {
    Spec(RigSpec),
    File(PathBuf),
}

impl RigArgument {
    /// The setting: the poses themselves, where they are in a file.
    fn value(&self) -> Result<Value> {
        let spec = match self {
            Self::Spec(spec) => spec.clone(),
            Self::File(path) => view_folder::read_rig(path)?,
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

/// What renders.
#[derive(Debug, Args)]
pub(crate) struct DeviceFlags {
    /// What renders: auto (a GPU if there is one, else the CPU), cpu, or wgpu.
    #[arg(long, value_name = "BACKEND", default_value_t)]
    backend: BackendChoice,
    /// Adapter of the wgpu backend: auto, software (Mesa's lavapipe), or part of a name.
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

/// Up axis of the mesh files.
#[derive(Debug, Args)]
pub(crate) struct UpFlag {
    /// Axis of the mesh files that points up: y (ShapeNetCore, glTF) or z (ModelNet, most CAD).
    #[arg(long, value_name = "AXIS")]
    pub(crate) up: Option<UpAxis>,
}
