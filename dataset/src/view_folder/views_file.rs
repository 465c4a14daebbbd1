//! `views.json`: what a folder of views holds and how it was made. It is written last, and its folder is renamed into
//! place when it is complete, so every file that it names is there.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tap_render::pose_format::PoseFormat;
use tap_render::{RenderRecipe, UpAxis};

use super::error::{Result, ViewFolderError};
use super::image_file::DepthRange;

/// File name of [`ViewsFile`].
pub const VIEWS_FILE_NAME: &str = "views.json";
/// File name of the sheet.
pub const SHEET_FILE_NAME: &str = "sheet.png";
/// File name of the points' positions in the views: an array of views by points by 3, which are x and y in pixels
/// from the upper left corner, and 1 where the point is visible or 0 where it is occluded or outside.
pub const POINTS_FILE_NAME: &str = "point_views.npy";

/// Content of `views.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ViewsFile {
    /// File name of the mesh.
    pub source: String,
    /// Hash of the mesh file.
    pub source_sha256: String,
    /// Files that the mesh refers to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub assets: Vec<Asset>,
    /// What the importer left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// How the views were rendered.
    pub recipe: RenderRecipe,
    /// Axis of the mesh file that points up.
    pub up: UpAxis,
    /// How the views became files.
    pub output: Output,
    /// Report on the adapter that rendered.
    pub adapter: Value,
    /// Row-major matrix.
    pub object_from_mesh: [f64; 16],
    /// Whether color was made from the other channels, under another lighting than they were rendered in.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_relit: bool,
    /// Part names; part images count them from 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<String>,
    /// Material names; material images count them from 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub materials: Vec<String>,
    /// Points whose positions in the views are in [`POINTS_FILE_NAME`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub points: Option<PointSource>,
    /// In the order of the rig's poses.
    pub views: Vec<ViewEntry>,
}

/// A file that a mesh refers to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asset {
    /// Name in the mesh file.
    pub name: String,
    /// Hash of its bytes; `null` if it could not be read.
    pub sha256: Option<String>,
}

/// Points that were projected into the views.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointSource {
    /// File name.
    pub source: String,
    /// Hash of its bytes.
    pub sha256: String,
    /// Number of points.
    pub num_points: usize,
}

/// How views become files.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// File format of depth.
    pub depth_format: DepthFormat,
    /// Axes of normals.
    pub normal_space: NormalSpace,
    /// File format of normals.
    #[serde(default)]
    pub normal_format: NormalFormat,
    /// Whether to write a sheet of all views.
    pub sheet: bool,
    /// Conventions in which poses are written beside `views.json`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub poses: Vec<PoseFormat>,
}

/// File format of depth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DepthFormat {
    /// 16-bit gray PNG; 0 is background, 1 to 65535 run from `depth.near` to `depth.far`.
    #[default]
    Png,
    /// 32-bit floats in NumPy's format; infinite in the background.
    Npy,
}

/// File format of normals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NormalFormat {
    /// 8-bit RGB PNG: n = value / 127.5 - 1.
    #[default]
    Png,
    /// 16-bit RGB PNG: n = value / 32767.5 - 1.
    Png16,
}

/// Axes of normals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NormalSpace {
    /// View space: x right, y up, z towards the viewer.
    #[default]
    View,
    /// Object space: the same in all views.
    Object,
}

/// One view. Files are names in the folder, `None` for channels that were not rendered.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ViewEntry {
    /// Color image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Mask image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask_file: Option<String>,
    /// Fraction of the image that the object covers, if there is a mask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<f32>,
    /// Depth image or array.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depth_file: Option<String>,
    /// Range of the depth image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depth: Option<DepthRange>,
    /// Normal image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normal_file: Option<String>,
    /// Albedo image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub albedo_file: Option<String>,
    /// Part image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part_file: Option<String>,
    /// Material image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub material_file: Option<String>,
    /// As [`PoseDegrees::azimuth_deg`](tap_render::PoseDegrees::azimuth_deg).
    pub azimuth_deg: f64,
    /// As [`PoseDegrees::elevation_deg`](tap_render::PoseDegrees::elevation_deg).
    pub elevation_deg: f64,
    /// As [`PoseDegrees::roll_deg`](tap_render::PoseDegrees::roll_deg).
    pub roll_deg: f64,
    /// Row-major matrix.
    pub view_from_object: [f32; 16],
    /// Row-major matrix.
    pub clip_from_view: [f32; 16],
}

impl ViewEntry {
    /// Names of its files.
    pub fn files(&self) -> impl Iterator<Item = &str> {
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
    /// When it does not exist or is not such a file.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(VIEWS_FILE_NAME);
        let bytes = std::fs::read(&path).map_err(ViewFolderError::io("read", &path))?;
        serde_json::from_slice(&bytes).map_err(|source| ViewFolderError::ViewsFile { path, source })
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(self).expect("plain data has a JSON form");
        json.push(b'\n');
        json
    }
}
