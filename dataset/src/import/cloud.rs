//! [`Cloud`]: the points of one object as their source has them, and what a row makes of them.

use glam::DVec3;
use sha2::{Digest, Sha256};
use tap_render::import::{MeshFormat, import_points};
use tap_render::{ObjectFromMesh, UpAxis, row_major};

use crate::error::error_chain;
use crate::manifest::{SkipReason, SkippedObject};
use crate::schema::Split;
use crate::sha256;

/// Largest number of points of an object.
pub(super) const MAX_POINTS: usize = 1 << 18;

/// Points of an object, in the coordinates of the source.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Cloud {
    pub(super) points: Vec<DVec3>,
    /// As many as points, of any length.
    pub(super) normals: Option<Vec<DVec3>>,
    /// Part of each point, numbered over all classes.
    pub(super) part_labels: Option<Vec<u8>>,
    /// SHA-256 of the file that holds this object alone; of the numbers, if the file holds several.
    pub(super) sha256: String,
}

/// Why an object is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Defect {
    pub(super) reason: SkipReason,
    pub(super) message: String,
}

impl Defect {
    pub(super) fn new(reason: SkipReason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }

    /// The object that is left out for it.
    pub(super) fn skipped(self, id: String, split: Split, path: String) -> SkippedObject {
        SkippedObject {
            id,
            split: Some(split),
            path,
            reason: self.reason,
            message: self.message,
            shard: None,
        }
    }
}

/// The class of a label, if there is one.
pub(super) fn class_of_label(label: i64, classes: &[impl AsRef<str>]) -> Result<&str, Defect> {
    let class = usize::try_from(label).ok().and_then(|label| classes.get(label));
    class.map(AsRef::as_ref).ok_or_else(|| {
        Defect::new(
            SkipReason::Malformed,
            format!(
                "label {label} is none of 0 to {}",
                classes.len().saturating_sub(1)
            ),
        )
    })
}

/// Part labels of numbers, which have to be bytes.
pub(super) fn part_labels_of(numbers: impl Iterator<Item = f64>) -> Result<Vec<u8>, Defect> {
    let label = |number: f64| {
        if number.fract() == 0.0 && (0.0..256.0).contains(&number) {
            Ok(number as u8)
        } else {
            Err(Defect::new(
                SkipReason::UnknownPart,
                format!("{number} is no part label"),
            ))
        }
    };
    numbers.map(label).collect()
}

/// What a row stores of a cloud.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CloudRow {
    pub(super) points: Vec<[f32; 3]>,
    pub(super) normals: Option<Vec<[f32; 3]>>,
    pub(super) part_labels: Option<Vec<u8>>,
    pub(super) object_from_mesh: [f32; 16],
}

impl Cloud {
    /// Points of a file that holds those of this object alone.
    pub(super) fn of_points_file(format: MeshFormat, bytes: &[u8]) -> Result<Self, Defect> {
        let cloud = import_points(format, bytes)
            .map_err(|error| Defect::new(SkipReason::from(&error), error_chain(&error)))?;
        if cloud.num_dropped() > 0 {
            let message = format!("{} points are not finite", cloud.num_dropped());
            return Err(Defect::new(SkipReason::NonFinite, message));
        }
        Ok(Self {
            points: cloud.positions().to_vec(),
            sha256: sha256::of_bytes(bytes),
            ..Self::default()
        })
    }

    /// Points, and normals if rows hold them too, of rows of C numbers, at least three; without their hash.
    pub(super) fn of_rows(rows: &[f64], num_values: usize, has_normals: bool) -> Self {
        let vector = |row: &[f64], at: usize| DVec3::new(row[at], row[at + 1], row[at + 2]);
        let rows = rows.chunks_exact(num_values.max(1));
        Self {
            points: rows.clone().map(|row| vector(row, 0)).collect(),
            normals: (has_normals && num_values >= 6).then(|| rows.map(|row| vector(row, 3)).collect()),
            ..Self::default()
        }
    }

    /// With the hash of its numbers, as its file holds several objects.
    pub(super) fn with_hash_of_numbers(self) -> Self {
        Self {
            sha256: self.sha256_of_numbers(),
            ..self
        }
    }

    /// SHA-256 over points, normals and part labels as little-endian numbers.
    pub(super) fn sha256_of_numbers(&self) -> String {
        let mut hasher = Sha256::new();
        for vectors in [Some(&self.points), self.normals.as_ref()].into_iter().flatten() {
            for number in vectors.iter().flat_map(DVec3::to_array) {
                hasher.update(number.to_le_bytes());
            }
        }
        hasher.update(self.part_labels.as_deref().unwrap_or_default());
        sha256::hex(&hasher.finalize())
    }

    /// The first thing for which no row can be made of it.
    pub(super) fn defect(&self) -> Option<Defect> {
        let num_points = self.points.len();
        if num_points == 0 {
            return Some(Defect::new(SkipReason::Empty, "it has no point"));
        }
        if num_points > MAX_POINTS {
            return Some(Defect::new(
                SkipReason::TooLarge,
                format!("{num_points} points, at most {MAX_POINTS} are read"),
            ));
        }
        let first_wrong = |vectors: &[DVec3]| vectors.iter().position(|vector| !vector.is_finite());
        if let Some(point) = first_wrong(&self.points) {
            return Some(Defect::new(
                SkipReason::NonFinite,
                format!("point {point} is not finite"),
            ));
        }
        if let Some(point) = self.normals.as_deref().and_then(first_wrong) {
            return Some(Defect::new(
                SkipReason::NonFinite,
                format!("the normal of point {point} is not finite"),
            ));
        }
        let first = self.points[0];
        if self.points.iter().all(|&point| point == first) {
            return Some(Defect::new(SkipReason::Empty, "its points coincide"));
        }
        let matrix = row_major(&self.object_from_source(UpAxis::Y).matrix().as_mat4());
        let is_representable = matrix.iter().all(|number| number.is_finite())
            && self.points.iter().all(|point| point.as_vec3().is_finite());
        if !is_representable {
            return Some(Defect::new(
                SkipReason::NonFinite,
                "its place or size is beyond single precision",
            ));
        }
        None
    }

    /// Number of normals without a direction.
    pub(super) fn num_without_direction(&self) -> usize {
        let normals = self.normals.as_deref().unwrap_or_default();
        normals
            .iter()
            .filter(|normal| normal.try_normalize().is_none())
            .count()
    }

    fn object_from_source(&self, up: UpAxis) -> ObjectFromMesh {
        ObjectFromMesh::from_cloud(&self.points, up)
    }

    /// A row of so many points: where the cloud has fewer, it is repeated from its first point on.
    pub(super) fn to_row(&self, num_points: usize, up: UpAxis) -> CloudRow {
        let object_from_source = self.object_from_source(up);
        let matrix = object_from_source.matrix();
        let points: Vec<DVec3> = self
            .points
            .iter()
            .map(|&point| matrix.transform_point3(point))
            .collect();
        let normals = self.normals.as_ref().map(|normals| {
            let in_object = |(normal, point): (&DVec3, &DVec3)| {
                let direction = matrix.transform_vector3(*normal).try_normalize();
                // Away from the center, where the source knows no direction.
                direction.unwrap_or_else(|| point.try_normalize().unwrap_or(DVec3::Y))
            };
            repeated(normals.iter().zip(&points).map(in_object), num_points)
        });
        CloudRow {
            points: repeated(points.iter().copied(), num_points),
            normals,
            part_labels: self
                .part_labels
                .as_ref()
                .map(|labels| labels.iter().copied().cycle().take(num_points).collect()),
            object_from_mesh: row_major(&matrix.as_mat4()),
        }
    }
}

fn repeated(vectors: impl Iterator<Item = DVec3> + Clone, num: usize) -> Vec<[f32; 3]> {
    vectors
        .cycle()
        .take(num)
        .map(|vector| vector.as_vec3().to_array())
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "what is only copied stays the same")]

    use glam::{Mat4, Vec3};

    use super::*;

    fn cloud() -> Cloud {
        let points = [[10.0, 2.0, 3.0], [10.5, 2.0, 3.0], [10.0, 2.0, 3.25]];
        Cloud {
            points: points.map(DVec3::from_array).to_vec(),
            normals: Some(vec![DVec3::X * 2.0, DVec3::ZERO, DVec3::NEG_Y]),
            part_labels: Some(vec![3, 4, 5]),
            sha256: String::new(),
        }
    }

    #[test]
    fn the_inverse_gives_the_coordinates_of_the_source() {
        let cloud = cloud();
        for up in [UpAxis::Y, UpAxis::Z] {
            let row = cloud.to_row(3, up);
            let object_from_source = Mat4::from_cols_array(&row.object_from_mesh).transpose();
            for (point, source) in row.points.iter().zip(&cloud.points) {
                let back = object_from_source
                    .inverse()
                    .transform_point3(Vec3::from_array(*point));
                assert!(back.abs_diff_eq(source.as_vec3(), 1e-5), "{back} for {source}");
            }
            let farthest = row.points.iter().map(|&point| Vec3::from_array(point).length());
            assert!(
                (farthest.fold(0.0, f32::max) - 1.0).abs() < 1e-6,
                "in the unit ball"
            );
        }
    }

    #[test]
    fn a_row_of_more_points_repeats_them_in_order() {
        let cloud = cloud();
        let (short, long) = (cloud.to_row(3, UpAxis::Y), cloud.to_row(7, UpAxis::Y));
        let place = [0, 1, 2, 0, 1, 2, 0];
        assert_eq!(long.points, place.map(|i| short.points[i]));
        assert_eq!(long.part_labels, Some(place.map(|i| [3, 4, 5][i]).to_vec()));
        assert_eq!(
            long.object_from_mesh, short.object_from_mesh,
            "the center is that of the source's points"
        );
        let normals = long.normals.unwrap_or_default();
        assert_eq!(normals[0], [1.0, 0.0, 0.0], "of length 1");
        let outward = Vec3::from_array(short.points[1]).normalize();
        assert!(
            Vec3::from_array(normals[1]).abs_diff_eq(outward, 1e-6),
            "outward without a direction"
        );
        assert_eq!(cloud.num_without_direction(), 1);
    }

    #[test]
    fn defects_are_found() {
        let with = |change: fn(&mut Cloud)| {
            let mut cloud = cloud();
            change(&mut cloud);
            cloud.defect().map(|defect| defect.reason)
        };
        assert_eq!(with(|_| ()), None);
        assert_eq!(
            with(|cloud| cloud.points[1].y = f64::NAN),
            Some(SkipReason::NonFinite)
        );
        assert_eq!(
            with(|cloud| cloud.normals = Some(vec![DVec3::INFINITY; 3])),
            Some(SkipReason::NonFinite)
        );
        assert_eq!(
            with(|cloud| cloud.points = vec![DVec3::ONE; 3]),
            Some(SkipReason::Empty)
        );
        assert_eq!(with(|cloud| cloud.points.clear()), Some(SkipReason::Empty));
        assert_eq!(
            with(|cloud| cloud.points[0].x = 1e300),
            Some(SkipReason::NonFinite)
        );
    }
}
