//! Schema of a shard: its [columns](mod@column), metadata keys and version.
//!
//! Other readers (pyarrow, `datasets`, `DuckDB`, polars) rely on it: any change increments
//! [`SCHEMA_VERSION`].

pub(crate) mod column;
mod column_set;
mod mesh_issue;
mod mesh_stats;
mod sample;

pub use column_set::{ColumnSet, Columns};
pub use mesh_issue::{MIN_DEGENERATE_RATIO, MeshIssue, MeshIssues};
pub use mesh_stats::MeshStats;
#[cfg(feature = "build")]
pub(crate) use sample::little_endian;
pub use sample::{ObjectId, RowDigest, Sample, SampleView, Split};

use std::collections::HashMap;

use arrow_schema::{Field, Schema};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::image::MAX_IMAGE_SIZE_PX;

/// Version of columns, metadata and manifest. Version 2 added mesh issues, and the objects of each shard to
/// the manifest; version 3 added G-buffers and image sets; version 4 made sets of columns optional, and gave
/// manifests and image sets names that other readers skip.
pub const SCHEMA_VERSION: u32 = 4;
/// Oldest supported version.
pub const OLDEST_SCHEMA_VERSION: u32 = 1;

/// Program name and version, as recorded in manifests and shards.
pub const GENERATOR: &str = concat!("tap-dataset ", env!("CARGO_PKG_VERSION"));

/// Keys of the file metadata.
pub(crate) mod key {
    pub(crate) const SCHEMA_VERSION: &str = "tap.schema_version";
    pub(crate) const LAYOUT: &str = "tap.layout";
    pub(crate) const RECIPE: &str = "tap.recipe";
    pub(crate) const CLASSES: &str = "tap.classes";
    pub(crate) const PARTS: &str = "tap.parts";
    pub(crate) const ADAPTER: &str = "tap.adapter";
    pub(crate) const HUGGINGFACE: &str = "huggingface";
}

/// Dimensions that all rows of a dataset share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowLayout {
    /// N: points per object.
    pub num_points: usize,
    /// V: views per object; 0 without views.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub num_views: usize,
    /// H = W: pixels per side of a view; 0 without views.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub image_size_px: u32,
    /// Columns of a row.
    #[serde(default)]
    pub columns: Columns,
}

fn is_zero<T: Default + PartialEq>(number: &T) -> bool {
    *number == T::default()
}

impl RowLayout {
    /// Checks that the dimensions are in range and those of the columns.
    pub(crate) fn check(&self) -> Result<(), String> {
        let Self {
            num_points,
            num_views,
            image_size_px,
            columns,
        } = *self;
        let has_views = columns.is_image_set() || columns.has(ColumnSet::Views);
        let views_fit = if has_views {
            num_views > 0 && (1..=MAX_IMAGE_SIZE_PX).contains(&image_size_px)
        } else {
            num_views == 0 && image_size_px == 0
        };
        if num_points > 0 && views_fit {
            Ok(())
        } else {
            Err(format!(
                "rows of {num_points} points and {num_views} views of {image_size_px} pixels"
            ))
        }
    }
}

/// A part label's name; the label is its index in the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartName {
    /// Class of the objects that have the part.
    pub category: String,
    /// Name within the class.
    pub name: String,
}

/// Arrow schema of a shard of this version.
pub(crate) fn arrow_schema(layout: &RowLayout, version: u32) -> Schema {
    let fields = column::stored(layout.columns, version).map(|column| column.field(layout));
    Schema::new(fields.collect::<Vec<Field>>())
}

/// Metadata with which `datasets` yields images and class names.
fn huggingface_metadata(layout: &RowLayout, classes: &[String]) -> serde_json::Value {
    let features: serde_json::Map<_, _> = column::stored(layout.columns, SCHEMA_VERSION)
        .map(|column| (column.name.to_owned(), column.feature(layout, classes)))
        .collect();
    json!({ "info": { "features": features } })
}

/// Metadata of a shard: row dimensions and provenance.
#[derive(Debug, Clone, PartialEq)]
pub struct ShardHeader {
    /// Row dimensions.
    pub layout: RowLayout,
    /// Class names, indexed by label.
    pub classes: Vec<String>,
    /// Part names, indexed by part label; empty without parts.
    pub parts: Vec<PartName>,
    /// Build recipe.
    pub recipe: serde_json::Value,
    /// Adapter that rendered the views.
    pub adapter: serde_json::Value,
}

impl ShardHeader {
    /// File metadata in a fixed order.
    pub(crate) fn to_metadata(&self) -> Vec<(&'static str, String)> {
        vec![
            (key::SCHEMA_VERSION, SCHEMA_VERSION.to_string()),
            (key::LAYOUT, to_json(&self.layout)),
            (key::RECIPE, self.recipe.to_string()),
            (key::CLASSES, to_json(&self.classes)),
            (key::PARTS, to_json(&self.parts)),
            (key::ADAPTER, self.adapter.to_string()),
            (
                key::HUGGINGFACE,
                huggingface_metadata(&self.layout, &self.classes).to_string(),
            ),
        ]
    }

    /// Parses file metadata; the error names the missing or invalid key.
    pub(crate) fn from_metadata(metadata: &HashMap<&str, &str>) -> Result<Self, String> {
        fn parse<T: serde::de::DeserializeOwned>(
            metadata: &HashMap<&str, &str>,
            key: &str,
        ) -> Result<T, String> {
            let text = metadata.get(key).ok_or_else(|| format!("no {key}"))?;
            serde_json::from_str(text).map_err(|e| format!("{key}: {e}"))
        }
        Ok(Self {
            layout: parse(metadata, key::LAYOUT)?,
            classes: parse(metadata, key::CLASSES)?,
            parts: parse(metadata, key::PARTS)?,
            recipe: parse(metadata, key::RECIPE)?,
            adapter: parse(metadata, key::ADAPTER)?,
        })
    }
}

/// Plain data always serializes.
fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain data has a JSON form")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    const LAYOUT: RowLayout = RowLayout {
        num_points: 4,
        num_views: 2,
        image_size_px: 8,
        columns: Columns::DEFAULT,
    };

    #[test]
    fn every_column_has_a_feature_of_the_same_name() {
        for (columns, num_columns) in [
            (Columns::DEFAULT, 25),
            (Columns::DEFAULT.with(ColumnSet::Gbuffer), 27),
            (Columns::DEFAULT.with(ColumnSet::GbufferAlbedo), 28),
            (Columns::DEFAULT.without(ColumnSet::Views), 20),
            (Columns::POINTS, 7),
            (Columns::IMAGES, 2),
        ] {
            let layout = RowLayout { columns, ..LAYOUT };
            let features = huggingface_metadata(&layout, &["a".to_owned()]);
            let features = features["info"]["features"].as_object().unwrap().clone();
            let schema = arrow_schema(&layout, SCHEMA_VERSION);
            assert_eq!([schema.fields().len(), features.len()], [num_columns; 2]);
            for field in schema.fields() {
                assert!(
                    field.is_nullable(),
                    "`datasets` does not know {} otherwise",
                    field.name()
                );
                assert!(
                    features.contains_key(field.name()),
                    "no feature for {}",
                    field.name()
                );
            }
        }
    }

    #[test]
    fn version_1_lacks_what_came_with_version_2() {
        let [old, new] = [1, 2].map(|version| arrow_schema(&LAYOUT, version));
        assert_eq!(old.fields().len() + 9, new.fields().len());
        assert!(
            new.fields().iter().zip(old.fields()).all(|(new, old)| new == old),
            "columns are added at the end"
        );
    }

    #[test]
    fn a_layout_without_views_has_no_size_of_an_image() {
        let views = LAYOUT;
        let points = RowLayout {
            num_views: 0,
            image_size_px: 0,
            columns: LAYOUT.columns.without(ColumnSet::Views),
            ..LAYOUT
        };
        for layout in [views, points] {
            layout.check().unwrap();
            let json = serde_json::to_string(&layout).unwrap();
            assert_eq!(
                serde_json::from_str::<RowLayout>(&json).unwrap(),
                layout,
                "{json}"
            );
        }
        let columns = points.columns;
        RowLayout { columns, ..views }.check().unwrap_err();
        let columns = views.columns;
        RowLayout { columns, ..points }.check().unwrap_err();
    }

    #[test]
    fn a_header_round_trips_through_metadata() {
        let header = ShardHeader {
            layout: LAYOUT,
            classes: vec!["a".to_owned(), "b".to_owned()],
            parts: vec![PartName {
                category: "a".to_owned(),
                name: "leg".to_owned(),
            }],
            recipe: json!({ "seed": 1 }),
            adapter: serde_json::Value::Null,
        };
        let metadata = header.to_metadata();
        let map = metadata.iter().map(|(k, v)| (*k, v.as_str())).collect();
        assert_eq!(ShardHeader::from_metadata(&map).unwrap(), header);
        let error = ShardHeader::from_metadata(&HashMap::new()).unwrap_err();
        assert!(error.contains("tap.layout"), "{error}");
    }
}
