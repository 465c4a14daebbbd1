//! Points that are looked for in the views: where each falls, and whether it is seen.

use std::path::{Path, PathBuf};

use anyhow::Result;
use glam::Vec3;
use tap_dataset::SkipReason;
use tap_render::import::{MeshFormat, import_points};
use tap_render::{MissingChannel, ObjectFromMesh, View, point_visibility};

use super::job::{Failure, in_full, read, sha256};
use crate::npy;
use crate::views_file::PointSource;

/// What a points file may end in, where a folder holds one for each mesh.
const EXTENSIONS: [&str; 3] = ["npy", "ply", "xyz"];

/// The points of a mesh, in object space.
#[derive(Debug)]
pub(super) struct PointSet {
    pub(super) entry: PointSource,
    places: Vec<Vec3>,
}

/// The file of a mesh's points: the one file there is, or within a folder the one of the mesh's name.
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

/// Reads points that are given in the mesh's own coordinates.
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
    let cloud =
        import_points(format, &bytes).map_err(|error| failure(SkipReason::from(&error), in_full(&error)))?;
    // They are left out of the cloud, and every point behind would have another's row.
    if cloud.num_dropped() > 0 {
        let message = format!("{} points are not finite", cloud.num_dropped());
        return Err(failure(SkipReason::NonFinite, message));
    }
    let object_from_mesh = object_from_mesh.matrix();
    let places: Vec<Vec3> = cloud
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
            sha256: sha256(&bytes),
            num_points: places.len(),
        },
        places,
    })
}

/// The file of all views: views by points by (x, y, is seen).
///
/// # Errors
/// When a view has no depth.
pub(super) fn encode(points: &PointSet, views: &[View]) -> Result<Vec<u8>, MissingChannel> {
    let mut values = Vec::with_capacity(views.len() * points.places.len() * 3);
    for view in views {
        for point in point_visibility(view, &points.places)? {
            let seen = if point.is_visible { 1.0 } else { 0.0 };
            values.extend([point.position_px.x, point.position_px.y, seen]);
        }
    }
    Ok(npy::f32_array(&[views.len(), points.places.len(), 3], &values))
}
