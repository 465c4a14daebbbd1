//! `views.json`: what a folder of views holds and how it was made. It is written last and its folder gets its name when
//! it is whole, so whoever finds the file finds all that it names.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tap_render::pose_format::PoseFormat;
use tap_render::{RenderRecipe, UpAxis};

use crate::picture::DepthRange;

/// The file's name.
pub(crate) const VIEWS_FILE_NAME: &str = "views.json";
/// The sheet's name.
pub(crate) const SHEET_FILE_NAME: &str = "sheet.png";

/// The name of the file that says where points are seen: an array of views by points by 3, which are x and y in pixels
/// from the upper left corner, and 1 where the point is seen or 0 where it is hidden or outside.
pub(crate) const POINTS_FILE_NAME: &str = "point_views.npy";

/// The whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ViewsFile {
    /// The mesh's file name.
    pub(crate) source: String,
    /// The hash of its bytes.
    pub(crate) source_sha256: String,
    /// The files that it refers to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) assets: Vec<Asset>,
    /// What the importer left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) warnings: Vec<String>,
    pub(crate) recipe: RenderRecipe,
    pub(crate) up: UpAxis,
    pub(crate) output: Output,
    /// What drew it.
    pub(crate) adapter: Value,
    pub(crate) object_from_mesh: [f64; 16],
    /// Was the color made from the other channels, under another light than they were drawn in?
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_relit: bool,
    /// The names that pictures of parts count from 1, if there are such pictures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) parts: Vec<String>,
    /// The names that pictures of materials count from 1, if there are such pictures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) materials: Vec<String>,
    /// The points whose places in the views are in [`POINTS_FILE_NAME`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) points: Option<PointSource>,
    pub(crate) views: Vec<ViewEntry>,
}

/// A file that a mesh refers to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Asset {
    /// As the mesh names it.
    pub(crate) name: String,
    /// The hash of its bytes; `null` if it could not be had.
    pub(crate) sha256: Option<String>,
}

/// Points that were looked for in the views.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PointSource {
    /// Their file's name.
    pub(crate) source: String,
    /// The hash of its bytes.
    pub(crate) sha256: String,
    pub(crate) num_points: usize,
}

/// How views become files.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Output {
    pub(crate) depth_format: DepthFormat,
    pub(crate) normal_space: NormalSpace,
    #[serde(default)]
    pub(crate) normal_format: NormalFormat,
    /// Is there a sheet of all views?
    pub(crate) sheet: bool,
    /// The conventions in which poses were written too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) poses: Vec<PoseFormat>,
}

/// How depth is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DepthFormat {
    /// 16-bit gray PNG; 0 is nothing, 1 to 65535 run from `depth.near` to `depth.far`.
    #[default]
    Png,
    /// 32-bit floats as NumPy writes them; infinite where nothing is.
    Npy,
}

/// How normals are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NormalFormat {
    /// 8-bit RGB PNG: n = value / 127.5 - 1.
    #[default]
    Png,
    /// 16-bit RGB PNG: n = value / 32767.5 - 1.
    Png16,
}

/// The axes of normals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NormalSpace {
    /// Those of the camera: x right, y up, z towards the viewer.
    #[default]
    View,
    /// Those of the object: the same in all views.
    Object,
}

/// One view.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ViewEntry {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mask_file: Option<String>,
    /// Part of the picture that the object covers, if there is a mask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) coverage: Option<f32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) depth_file: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) depth: Option<DepthRange>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) normal_file: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) albedo_file: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) part_file: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) material_file: Option<String>,
    pub(crate) azimuth_deg: f64,
    pub(crate) elevation_deg: f64,
    pub(crate) roll_deg: f64,
    pub(crate) view_from_object: [f32; 16],
    pub(crate) clip_from_view: [f32; 16],
}

impl ViewEntry {
    /// Its files, as far as they were drawn.
    pub(crate) fn files(&self) -> impl Iterator<Item = &str> {
        let Self {
            file,
            mask_file,
            coverage: _,
            depth_file,
            depth: _,
            normal_file,
            albedo_file,
            part_file,
            material_file,
            azimuth_deg: _,
            elevation_deg: _,
            roll_deg: _,
            view_from_object: _,
            clip_from_view: _,
        } = self;
        let files = [
            file,
            mask_file,
            depth_file,
            normal_file,
            albedo_file,
            part_file,
            material_file,
        ];
        files.into_iter().filter_map(Option::as_deref)
    }
}

impl ViewsFile {
    /// Reads the file of a folder.
    ///
    /// # Errors
    /// When there is none, or when it is no such file.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(VIEWS_FILE_NAME);
        let bytes = std::fs::read(&path).with_context(|| format!("could not read {}", path.display()))?;
        serde_json::from_slice(&bytes)
            .with_context(|| format!("not the file of a folder of views: {}", path.display()))
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// Never, as all of it is plain data.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut json = serde_json::to_vec_pretty(self).context("could not write views.json")?;
        json.push(b'\n');
        Ok(json)
    }
}
