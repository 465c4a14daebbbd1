//! A sample: one object with its points and its views, as plain data. What a row of a shard holds.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{DatasetError, Mask1Bit, MeshFindings, Result, RowDigest, ViewGbuffer, durable};

/// The longest part of an id, in bytes: what file systems allow for a name.
const MAX_ID_PART_BYTES: usize = 255;

/// `<category>/<name>`, unique in a dataset; rows are sorted by it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectId(String);

impl ObjectId {
    /// Puts an id together.
    ///
    /// # Errors
    /// When a part is empty, `.` or `..`, longer than 255 bytes, or holds a slash or a control character.
    pub fn try_new(category: &str, name: &str) -> Result<Self> {
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
            return Err(DatasetError::ObjectId {
                text: format!("{category}/{name}"),
                what: wrong,
            });
        }
        Ok(Self(format!("{category}/{name}")))
    }

    /// The whole id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the slash.
    #[must_use]
    pub fn category(&self) -> &str {
        self.0.split_once('/').map_or("", |(category, _)| category)
    }

    /// What stands after the slash.
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
    type Err = DatasetError;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once('/') {
            Some((category, name)) => Self::try_new(category, name),
            None => Err(DatasetError::ObjectId {
                text: text.to_owned(),
                what: "no slash after the category",
            }),
        }
    }
}

impl TryFrom<String> for ObjectId {
    type Error = DatasetError;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<ObjectId> for String {
    fn from(id: ObjectId) -> Self {
        id.0
    }
}

/// What a row is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// To learn from.
    Train,
    /// To choose by.
    Val,
    /// To report on.
    Test,
}

impl Split {
    /// All splits, in the order in which they are built.
    pub const ALL: [Self; 3] = [Self::Train, Self::Val, Self::Test];

    /// The word in file names and split lists.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Split {
    type Err = DatasetError;

    fn from_str(text: &str) -> Result<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "train" | "training" => Ok(Self::Train),
            "val" | "valid" | "validation" => Ok(Self::Val),
            "test" => Ok(Self::Test),
            _ => Err(DatasetError::SplitName {
                text: text.to_owned(),
            }),
        }
    }
}

/// One object: a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Its id.
    pub id: ObjectId,
    /// The name of its class.
    pub category: String,
    /// The place of `category` among the sorted class names.
    pub label: i64,
    /// Points of the surface in object space: +y up, +z front, within the unit ball.
    pub points: Vec<[f32; 3]>,
    /// The surface's unit normal at each point.
    pub normals: Vec<[f32; 3]>,
    /// The part that each point belongs to, numbered over all categories; `None` without parts.
    pub part_labels: Option<Vec<u8>>,
    /// The views that were asked for, in the order asked; all of them when writing.
    pub views: Vec<SampleView>,
    /// Row-major; `object = object_from_mesh * (x, y, z, 1)` for coordinates as they stand in the mesh file.
    pub object_from_mesh: [f32; 16],
    /// Triangles of non-zero area.
    pub num_triangles: i64,
    /// Area of the surface in object space.
    pub surface_area: f64,
    /// Does every edge belong to exactly two triangles?
    pub is_watertight: bool,
    /// The smallest part of a picture that the object covers, over all views, 0 to 1.
    pub coverage_min: f32,
    /// SHA-256 of the mesh file, in hexadecimal.
    pub source_sha256: String,
    /// SHA-256 over the files that the mesh refers to; `None` if it reads none.
    pub assets_sha256: Option<String>,
    /// What is wrong with the mesh; `None` for what was no mesh, and in shards of version 1.
    pub findings: Option<MeshFindings>,
}

impl Sample {
    /// What tells this row from others, in two halves: what was sampled and what was drawn. All views must be there, with
    /// all that is stored of them.
    #[must_use]
    pub fn digest(&self) -> RowDigest {
        // Destructured whole: a new field must be sorted into one of the halves or named here.
        let Self {
            id: _,
            category: _,
            label: _,
            points,
            normals,
            part_labels,
            views,
            object_from_mesh,
            num_triangles: _,
            surface_area: _,
            is_watertight: _,
            coverage_min: _,
            source_sha256: _,
            assets_sha256: _,
            findings: _,
        } = self;
        let mut sampled = Sha256::new();
        for vectors in [points, normals] {
            sampled.update(little_endian(vectors.as_flattened()));
        }
        sampled.update(part_labels.as_deref().unwrap_or_default());
        sampled.update(little_endian(object_from_mesh));
        let mut drawn = Sha256::new();
        for view in views {
            let SampleView {
                image_png,
                mask,
                view_from_object,
                clip_from_view,
                gbuffer,
            } = view;
            drawn.update((image_png.len() as u64).to_le_bytes());
            drawn.update(image_png);
            for png in gbuffer.iter().flat_map(ViewGbuffer::pngs) {
                drawn.update((png.len() as u64).to_le_bytes());
                drawn.update(png);
            }
            drawn.update(mask.as_bytes());
            drawn.update(little_endian(view_from_object));
            drawn.update(little_endian(clip_from_view));
        }
        RowDigest {
            points_sha256: durable::hex(&sampled.finalize()),
            views_sha256: durable::hex(&drawn.finalize()),
        }
    }
}

fn little_endian(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// One picture of an object and how it came about.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleView {
    /// A gray 8-bit PNG; see [`decode_gray_png`](crate::decode_gray_png).
    pub image_png: Vec<u8>,
    /// The pixels that the object covers.
    pub mask: Mask1Bit,
    /// Row-major, rigid; view space is +x right, +y up, +z towards the viewer.
    pub view_from_object: [f32; 16],
    /// Row-major, projection and framing together; depth 0 (near) to 1.
    pub clip_from_view: [f32; 16],
    /// The surface that the pixels see, if it is stored and was asked for.
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
