//! Points projected into the views: position and visibility of each.

use std::path::{Path, PathBuf};

use glam::Vec3;
use tap_render::import::{MeshFormat, import_points};
use tap_render::{MissingChannel, ObjectFromMesh, View, point_visibility};

use super::job::{Failure, read};
use super::views_file::PointSource;
use crate::error::error_chain;
use crate::manifest::SkipReason;
use crate::npy;
use crate::sha256;

/// Extensions of point files, where a folder holds one for each mesh.
const EXTENSIONS: [&str; 3] = ["npy", "ply", "xyz"];

/// Points of a mesh, in object space.
#[derive(Debug)]
pub(super) struct PointSet {
    pub(super) entry: PointSource,
    positions: Vec<Vec3>,
}

/// Point file of a mesh: the given file, or the one of the mesh's name in the given folder.
pub(super) fn file_of(points: &Path, name: &Path) -> Result<PathBuf, Failure> {
    if !points.is_dir() {
        return Ok(points.to_owned());
    }
    let stem = points.join(name);
    let with = |extension: &&str| {
        let mut path = stem.clone().into_os_string();
        path.push(format!(".{extension}"));
        PathBuf::from(path)
    };
    let found = EXTENSIONS.iter().map(with).find(|path| path.is_file());
    found.ok_or_else(|| {
        let expected = EXTENSIONS.join("|");
        Failure::new(
            SkipReason::Missing,
            format!("no points: {}.{expected}", stem.display()),
        )
    })
}

/// Reads points in the mesh's coordinates.
pub(super) fn load(path: &Path, object_from_mesh: &ObjectFromMesh) -> Result<PointSet, Failure> {
    let failure = |reason, message: String| Failure::new(reason, format!("{message}: {}", path.display()));
    let format = path
        .extension()
        .and_then(|extension| MeshFormat::from_extension(extension.to_str()?))
        .ok_or_else(|| {
            failure(
                SkipReason::UnsupportedFormat,
                "no points in a format that can be read (NPY, PLY, XYZ)".to_owned(),
            )
        })?;
    let bytes = read(path).map_err(|Failure { reason, message }| Failure {
        reason,
        message: format!("{message}: {}", path.display()),
    })?;
    let cloud = import_points(format, &bytes)
        .map_err(|error| failure(SkipReason::from(&error), error_chain(&error)))?;
    // They are left out of the cloud, which would shift the rows of all later points.
    if cloud.num_dropped() > 0 {
        let message = format!("{} points are not finite", cloud.num_dropped());
        return Err(failure(SkipReason::NonFinite, message));
    }
    let object_from_mesh = object_from_mesh.matrix();
    let positions: Vec<Vec3> = cloud
        .positions()
        .iter()
        .map(|point| object_from_mesh.transform_point3(*point).as_vec3())
        .collect();
    Ok(PointSet {
        entry: PointSource {
            source: path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            sha256: sha256::of_bytes(&bytes),
            num_points: positions.len(),
        },
        positions,
    })
}

/// The points file: views by points by (x, y, is visible).
///
/// # Errors
/// When a view has no depth.
pub(super) fn encode(points: &PointSet, views: &[View]) -> Result<Vec<u8>, MissingChannel> {
    let mut values = Vec::with_capacity(views.len() * points.positions.len() * 3);
    for view in views {
        for point in point_visibility(view, &points.positions)? {
            let is_visible = if point.is_visible { 1.0 } else { 0.0 };
            values.extend([point.position_px.x, point.position_px.y, is_visible]);
        }
    }
    Ok(npy::encode_f32(
        &[views.len(), points.positions.len(), 3],
        &values,
    ))
}
