//! A sample: one object with its points and views as plain data; one row of a shard.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::NameError;
use crate::image::{Mask1Bit, ViewGbuffer};
use crate::schema::MeshStats;
use crate::sha256;

/// Length limit of an id component in bytes, as in common file systems.
const MAX_ID_PART_BYTES: usize = 255;

/// `<category>/<name>`, unique in a dataset; rows are sorted by it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectId(String);

impl ObjectId {
    /// Joins category and name.
    ///
    /// # Errors
    /// When a component is empty, `.` or `..`, longer than 255 bytes, or contains a slash or control
    /// character.
    pub fn try_new(category: &str, name: &str) -> Result<Self, NameError> {
        for part in [category, name] {
            let wrong = if part.is_empty() || part == "." || part == ".." {
                "an empty part"
            } else if part.len() > MAX_ID_PART_BYTES {
                "a part of more than 255 bytes"
            } else if part.chars().any(|c| c == '/' || c == '\\' || c.is_control()) {
                "a slash or control character inside a part"
            } else {
                continue;
            };
            return Err(NameError::ObjectId {
                text: format!("{category}/{name}"),
                detail: wrong,
            });
        }
        Ok(Self(format!("{category}/{name}")))
    }

    /// `<category>/<name>`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The component before the slash.
    #[must_use]
    pub fn category(&self) -> &str {
        self.0.split_once('/').map_or("", |(category, _)| category)
    }

    /// The component after the slash.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, name)| name)
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ObjectId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.split_once('/') {
            Some((category, name)) => Self::try_new(category, name),
            None => Err(NameError::ObjectId {
                text: text.to_owned(),
                detail: "no slash after the category",
            }),
        }
    }
}

impl TryFrom<String> for ObjectId {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<ObjectId> for String {
    fn from(id: ObjectId) -> Self {
        id.0
    }
}

/// Dataset split.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    strum::Display,
    strum::IntoStaticStr,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Split {
    /// Training.
    Train,
    /// Validation.
    Val,
    /// Test.
    Test,
}

impl Split {
    /// All splits, in build order.
    pub const ALL: [Self; 3] = [Self::Train, Self::Val, Self::Test];

    /// Name in file names and split lists.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl FromStr for Split {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.trim().to_ascii_lowercase().as_str() {
            "train" | "training" => Ok(Self::Train),
            "val" | "valid" | "validation" => Ok(Self::Val),
            "test" => Ok(Self::Test),
            _ => Err(NameError::Split {
                text: text.to_owned(),
            }),
        }
    }
}

/// One object: a row. What the columns of its dataset leave out is absent.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Unique id; determines the row order.
    pub id: ObjectId,
    /// Class name.
    pub category: String,
    /// Index of `category` in the sorted class names.
    pub label: i64,
    /// N surface points in object space: +y up, +z front, within the unit ball.
    pub points: Vec<[f32; 3]>,
    /// N unit surface normals.
    pub normals: Option<Vec<[f32; 3]>>,
    /// Part label per point, numbered over all categories; `None` without parts.
    pub part_labels: Option<Vec<u8>>,
    /// Selected views, in the selected order; all of them when writing.
    pub views: Vec<SampleView>,
    /// Smallest covered fraction of an image over all views, 0 to 1.
    pub coverage_min: Option<f32>,
    /// Row-major; `object = object_from_mesh * (x, y, z, 1)` for coordinates of the source, be it a mesh or points.
    pub object_from_mesh: [f32; 16],
    /// SHA-256 of what the row was made from, such as the mesh file, in hexadecimal.
    pub source_sha256: String,
    /// SHA-256 over the files the mesh refers to; `None` if it read none.
    pub assets_sha256: Option<String>,
    /// Statistics of the mesh.
    pub mesh: Option<MeshStats>,
}

impl Sample {
    /// Hashes of the row: one over sampled points, one over rendered views. All views must be present with
    /// everything stored about them. The hash of no views is that of no bytes.
    #[must_use]
    pub fn digest(&self) -> RowDigest {
        // Exhaustive: a new field must be hashed or listed here.
        let Self {
            id: _,
            category: _,
            label: _,
            points,
            normals,
            part_labels,
            views,
            coverage_min: _,
            object_from_mesh,
            source_sha256: _,
            assets_sha256: _,
            mesh: _,
        } = self;
        let mut points_hasher = Sha256::new();
        for vectors in [Some(points), normals.as_ref()].into_iter().flatten() {
            points_hasher.update(little_endian(vectors.as_flattened()));
        }
        points_hasher.update(part_labels.as_deref().unwrap_or_default());
        points_hasher.update(little_endian(object_from_mesh));
        let mut views_hasher = Sha256::new();
        for view in views {
            let SampleView {
                image_png,
                mask,
                view_from_object,
                clip_from_view,
                gbuffer,
            } = view;
            views_hasher.update((image_png.len() as u64).to_le_bytes());
            views_hasher.update(image_png);
            for png in gbuffer.iter().flat_map(ViewGbuffer::pngs) {
                views_hasher.update((png.len() as u64).to_le_bytes());
                views_hasher.update(png);
            }
            views_hasher.update(mask.as_bytes());
            views_hasher.update(little_endian(view_from_object));
            views_hasher.update(little_endian(clip_from_view));
        }
        RowDigest {
            points_sha256: sha256::hex(&points_hasher.finalize()),
            views_sha256: sha256::hex(&views_hasher.finalize()),
        }
    }
}

/// Hashes of the two halves of a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowDigest {
    /// Hash of points, normals, part labels and `object_from_mesh`.
    pub points_sha256: String,
    /// Hash of images, masks and matrices.
    pub views_sha256: String,
}

pub(crate) fn little_endian(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// One image of an object with its mask and camera.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleView {
    /// 8-bit PNG, gray or RGB; see [`decode_gray_png`](crate::decode_gray_png).
    pub image_png: Vec<u8>,
    /// Pixels that the object covers.
    pub mask: Mask1Bit,
    /// Row-major rigid transform; view space is +x right, +y up, +z towards the viewer.
    pub view_from_object: [f32; 16],
    /// Row-major projection including framing; depth 0 (near) to 1 (far).
    pub clip_from_view: [f32; 16],
    /// G-buffer, if stored and selected.
    pub gbuffer: Option<ViewGbuffer>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn ids_are_valid_by_construction() {
        let id = ObjectId::try_new("chair", "a b.c").unwrap();
        assert_eq!(
            (id.category(), id.name(), id.as_str()),
            ("chair", "a b.c", "chair/a b.c")
        );
        for (category, name) in [
            ("", "a"),
            ("a", ""),
            ("..", "a"),
            ("a", "b/c"),
            ("a", "b\nc"),
            ("a\\b", "c"),
        ] {
            ObjectId::try_new(category, name).unwrap_err();
        }
        ObjectId::try_new("a", &"x".repeat(256)).unwrap_err();
        "chair".parse::<ObjectId>().unwrap_err();
        serde_json::from_str::<ObjectId>("\"a/b/c\"").unwrap_err();
    }

    #[test]
    fn splits_parse_what_they_print() {
        for split in Split::ALL {
            assert_eq!(split.to_string().parse::<Split>().unwrap(), split);
        }
        "holdout".parse::<Split>().unwrap_err();
    }
}
