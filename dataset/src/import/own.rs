//! [`sample_of_points`]: a row of points, for whoever has a format of their own.

use glam::DVec3;
use tap_render::UpAxis;

use super::cloud::Cloud;
use crate::error::{DatasetError, Result, ShardError};
use crate::schema::{ObjectId, Sample};

/// A sample of points in coordinates of one's own: +y up, anywhere, of any size. They are brought into object space (their
/// centroid at the origin, the farthest at distance 1); the inverse of `object_from_mesh` gives them back. The label is the index
/// of the category in the sorted class names of the header. `source_sha256` is the hash of the numbers.
///
/// # Errors
/// When a point or normal is not finite, the points coincide, or there are not as many normals or part labels as points.
pub fn sample_of_points(
    id: ObjectId,
    label: i64,
    points: &[[f64; 3]],
    normals: Option<&[[f64; 3]]>,
    part_labels: Option<Vec<u8>>,
) -> Result<Sample> {
    let vectors = |vectors: &[[f64; 3]]| vectors.iter().copied().map(DVec3::from_array).collect::<Vec<_>>();
    let wrong = |detail: String| {
        DatasetError::Shard(ShardError::Row {
            id: id.to_string(),
            detail,
        })
    };
    let num_normals = normals.map_or(points.len(), <[_]>::len);
    let num_labels = part_labels.as_ref().map_or(points.len(), Vec::len);
    if [num_normals, num_labels] != [points.len(); 2] {
        return Err(wrong(format!(
            "{} points, {num_normals} normals and {num_labels} part labels",
            points.len()
        )));
    }
    let cloud = Cloud {
        points: vectors(points),
        normals: normals.map(vectors),
        part_labels,
        sha256: String::new(),
    };
    if let Some(defect) = cloud.defect() {
        return Err(wrong(defect.message));
    }
    let row = cloud.to_row(points.len(), UpAxis::Y);
    Ok(Sample {
        category: id.category().to_owned(),
        id,
        label,
        points: row.points,
        normals: row.normals,
        part_labels: row.part_labels,
        views: Vec::new(),
        coverage_min: None,
        object_from_mesh: row.object_from_mesh,
        source_sha256: cloud.sha256_of_numbers(),
        assets_sha256: None,
        mesh: None,
    })
}
