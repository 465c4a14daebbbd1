//! Arrow schema of a shard. The only file with column names, metadata keys and the schema version.
//!
//! Other readers (pyarrow, `datasets`, `DuckDB`, polars) rely on it: any change increments
//! [`SCHEMA_VERSION`].

mod mesh_issue;
mod sample;

pub use mesh_issue::{MIN_DEGENERATE_RATIO, MeshIssue, MeshIssues};
pub use sample::{ObjectId, RowDigest, Sample, SampleView, Split};

use std::collections::HashMap;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, Schema};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Version of columns, metadata and manifest. Version 2 added mesh issues, and the objects of each shard to
/// the manifest; version 3 added G-buffers and image sets.
pub const SCHEMA_VERSION: u32 = 3;
/// Oldest supported version.
pub const OLDEST_SCHEMA_VERSION: u32 = 1;

/// Program name and version, as recorded in manifests and shards.
pub const GENERATOR: &str = concat!("tap-dataset ", env!("CARGO_PKG_VERSION"));

/// Column names.
pub(crate) mod column {
    pub(crate) const ID: &str = "id";
    pub(crate) const CATEGORY: &str = "category";
    pub(crate) const LABEL: &str = "label";
    pub(crate) const POINTS: &str = "points";
    pub(crate) const NORMALS: &str = "normals";
    pub(crate) const PART_LABELS: &str = "part_labels";
    pub(crate) const IMAGES: &str = "images";
    pub(crate) const MASKS: &str = "masks";
    pub(crate) const VIEW_FROM_OBJECT: &str = "view_from_object";
    pub(crate) const CLIP_FROM_VIEW: &str = "clip_from_view";
    pub(crate) const OBJECT_FROM_MESH: &str = "object_from_mesh";
    pub(crate) const NUM_TRIANGLES: &str = "num_triangles";
    pub(crate) const SURFACE_AREA: &str = "surface_area";
    pub(crate) const IS_WATERTIGHT: &str = "is_watertight";
    pub(crate) const COVERAGE_MIN: &str = "coverage_min";
    pub(crate) const SOURCE_SHA256: &str = "source_sha256";
    pub(crate) const ASSETS_SHA256: &str = "assets_sha256";
    pub(crate) const NUM_OPEN_EDGES: &str = "num_open_edges";
    pub(crate) const NUM_NON_MANIFOLD_EDGES: &str = "num_non_manifold_edges";
    pub(crate) const NUM_FLIPPED_EDGES: &str = "num_flipped_edges";
    pub(crate) const NUM_COINCIDENT_TRIANGLES: &str = "num_coincident_triangles";
    pub(crate) const NUM_DEGENERATE_TRIANGLES: &str = "num_degenerate_triangles";
    pub(crate) const IS_INSIDE_OUT: &str = "is_inside_out";
    pub(crate) const FINDINGS: &str = "findings";
    pub(crate) const WARNINGS: &str = "warnings";
    pub(crate) const GBUFFER_NORMALS: &str = "gbuffer_normals";
    pub(crate) const GBUFFER_DEPTH: &str = "gbuffer_depth";
    pub(crate) const GBUFFER_ALBEDO: &str = "gbuffer_albedo";

    /// Columns added in version 2.
    pub(crate) const ADDED_IN_V2: [&str; 9] = [
        ASSETS_SHA256,
        NUM_OPEN_EDGES,
        NUM_NON_MANIFOLD_EDGES,
        NUM_FLIPPED_EDGES,
        NUM_COINCIDENT_TRIANGLES,
        NUM_DEGENERATE_TRIANGLES,
        IS_INSIDE_OUT,
        FINDINGS,
        WARNINGS,
    ];
    /// Columns with one entry per view, which are not read if no view is selected.
    #[rustfmt::skip]
    pub(crate) const VIEW_COLUMNS: [&str; 7] = [
        IMAGES, MASKS, VIEW_FROM_OBJECT, CLIP_FROM_VIEW, GBUFFER_NORMALS, GBUFFER_DEPTH, GBUFFER_ALBEDO,
    ];
    /// View columns that only relighting reads.
    pub(crate) const GBUFFER_COLUMNS: [&str; 3] = [GBUFFER_NORMALS, GBUFFER_DEPTH, GBUFFER_ALBEDO];
    /// Scalar columns: everything but points, images and poses.
    #[rustfmt::skip]
    pub(crate) const STATS_COLUMNS: [&str; 14] = [
        ID, NUM_TRIANGLES, SURFACE_AREA, IS_WATERTIGHT, COVERAGE_MIN, SOURCE_SHA256, NUM_OPEN_EDGES,
        NUM_NON_MANIFOLD_EDGES, NUM_FLIPPED_EDGES, NUM_COINCIDENT_TRIANGLES, NUM_DEGENERATE_TRIANGLES, IS_INSIDE_OUT,
        FINDINGS, WARNINGS,
    ];
    /// Columns with large values, which get one page per row.
    pub(crate) const ONE_ROW_PAGES: [&str; 10] = [
        POINTS,
        NORMALS,
        PART_LABELS,
        IMAGES,
        MASKS,
        VIEW_FROM_OBJECT,
        CLIP_FROM_VIEW,
        GBUFFER_NORMALS,
        GBUFFER_DEPTH,
        GBUFFER_ALBEDO,
    ];
}

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
    /// V: views per object.
    pub num_views: usize,
    /// H = W: pixels per side of a view.
    pub image_size_px: u32,
    /// Columns of a row.
    #[serde(default, skip_serializing_if = "Columns::is_plain")]
    pub columns: Columns,
}

/// Set of columns of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Columns {
    /// Points, views and scalars.
    #[default]
    Plain,
    /// Plus normals and depth of each view, enough to relight a white object.
    Gbuffer,
    /// Plus albedo.
    GbufferWithAlbedo,
    /// An image set: ids and images only.
    Images,
}

impl Columns {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
    fn is_plain(&self) -> bool {
        *self == Self::Plain
    }

    /// Whether normals and depth are stored.
    #[must_use]
    pub fn has_gbuffer(self) -> bool {
        matches!(self, Self::Gbuffer | Self::GbufferWithAlbedo)
    }

    /// Whether albedo is stored.
    #[must_use]
    pub fn has_albedo(self) -> bool {
        self == Self::GbufferWithAlbedo
    }

    fn has(self, name: &str) -> bool {
        match name {
            column::ID | column::IMAGES => true,
            column::GBUFFER_NORMALS | column::GBUFFER_DEPTH => self.has_gbuffer(),
            column::GBUFFER_ALBEDO => self.has_albedo(),
            _ => self != Self::Images,
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

fn fixed_list(item: DataType, len: usize) -> DataType {
    DataType::FixedSizeList(item_field(item), len as i32)
}

pub(crate) fn item_field(item: DataType) -> Arc<Field> {
    Arc::new(Field::new("item", item, true))
}

/// Fields of an `images` entry, as Hugging Face `datasets` decodes it.
pub(crate) fn image_fields() -> Fields {
    Fields::from(vec![
        Field::new("bytes", DataType::Binary, true),
        Field::new("path", DataType::Utf8, true),
    ])
}

/// Columns of a shard.
///
/// All are nullable, although only part labels and mesh statistics ever are null: `datasets` recognizes
/// images and class labels only if the type is exactly what it writes itself, which is nullable throughout.
pub(crate) fn arrow_schema(layout: &RowLayout, version: u32) -> Schema {
    let vectors = || fixed_list(fixed_list(DataType::Float32, 3), layout.num_points);
    let matrices = || fixed_list(fixed_list(DataType::Float32, 16), layout.num_views);
    let words = || DataType::List(item_field(DataType::Utf8));
    let binaries = || DataType::List(item_field(DataType::Binary));
    let mut fields = vec![
        Field::new(column::ID, DataType::Utf8, true),
        Field::new(column::CATEGORY, DataType::Utf8, true),
        Field::new(column::LABEL, DataType::Int64, true),
        Field::new(column::POINTS, vectors(), true),
        Field::new(column::NORMALS, vectors(), true),
        // Variable length: some readers cannot read a null fixed-size list.
        Field::new(
            column::PART_LABELS,
            DataType::List(item_field(DataType::UInt8)),
            true,
        ),
        Field::new(
            column::IMAGES,
            DataType::List(item_field(DataType::Struct(image_fields()))),
            true,
        ),
        Field::new(column::MASKS, binaries(), true),
        Field::new(column::VIEW_FROM_OBJECT, matrices(), true),
        Field::new(column::CLIP_FROM_VIEW, matrices(), true),
        Field::new(column::OBJECT_FROM_MESH, fixed_list(DataType::Float32, 16), true),
        Field::new(column::NUM_TRIANGLES, DataType::Int64, true),
        Field::new(column::SURFACE_AREA, DataType::Float64, true),
        Field::new(column::IS_WATERTIGHT, DataType::Boolean, true),
        Field::new(column::COVERAGE_MIN, DataType::Float32, true),
        Field::new(column::SOURCE_SHA256, DataType::Utf8, true),
        Field::new(column::ASSETS_SHA256, DataType::Utf8, true),
        Field::new(column::NUM_OPEN_EDGES, DataType::Int64, true),
        Field::new(column::NUM_NON_MANIFOLD_EDGES, DataType::Int64, true),
        Field::new(column::NUM_FLIPPED_EDGES, DataType::Int64, true),
        Field::new(column::NUM_COINCIDENT_TRIANGLES, DataType::Int64, true),
        Field::new(column::NUM_DEGENERATE_TRIANGLES, DataType::Int64, true),
        Field::new(column::IS_INSIDE_OUT, DataType::Boolean, true),
        Field::new(column::FINDINGS, words(), true),
        Field::new(column::WARNINGS, words(), true),
        Field::new(column::GBUFFER_NORMALS, binaries(), true),
        Field::new(column::GBUFFER_DEPTH, binaries(), true),
        Field::new(column::GBUFFER_ALBEDO, binaries(), true),
    ];
    fields.retain(|field| layout.columns.has(field.name()));
    if version < 2 {
        fields.retain(|field| !column::ADDED_IN_V2.contains(&field.name().as_str()));
    }
    Schema::new(fields)
}

/// Metadata with which `datasets` yields images and class names.
pub(crate) fn huggingface_metadata(layout: &RowLayout, classes: &[String]) -> serde_json::Value {
    let value = |dtype: &str| json!({ "dtype": dtype, "_type": "Value" });
    let list = |feature: &serde_json::Value| json!({ "feature": feature, "_type": "List" });
    let fixed = |feature: &serde_json::Value, length: usize| json!({ "feature": feature, "length": length, "_type": "List" });
    let vectors = fixed(&fixed(&value("float32"), 3), layout.num_points);
    let matrices = fixed(&fixed(&value("float32"), 16), layout.num_views);
    let features = [
        (column::ID, value("string")),
        (column::CATEGORY, value("string")),
        (column::LABEL, json!({ "names": classes, "_type": "ClassLabel" })),
        (column::POINTS, vectors.clone()),
        (column::NORMALS, vectors.clone()),
        (column::PART_LABELS, list(&value("uint8"))),
        (column::IMAGES, list(&json!({ "_type": "Image" }))),
        (column::MASKS, list(&value("binary"))),
        (column::VIEW_FROM_OBJECT, matrices.clone()),
        (column::CLIP_FROM_VIEW, matrices.clone()),
        (column::OBJECT_FROM_MESH, fixed(&value("float32"), 16)),
        (column::NUM_TRIANGLES, value("int64")),
        (column::SURFACE_AREA, value("float64")),
        (column::IS_WATERTIGHT, value("bool")),
        (column::COVERAGE_MIN, value("float32")),
        (column::SOURCE_SHA256, value("string")),
        (column::ASSETS_SHA256, value("string")),
        (column::NUM_OPEN_EDGES, value("int64")),
        (column::NUM_NON_MANIFOLD_EDGES, value("int64")),
        (column::NUM_FLIPPED_EDGES, value("int64")),
        (column::NUM_COINCIDENT_TRIANGLES, value("int64")),
        (column::NUM_DEGENERATE_TRIANGLES, value("int64")),
        (column::IS_INSIDE_OUT, value("bool")),
        (column::FINDINGS, list(&value("string"))),
        (column::WARNINGS, list(&value("string"))),
        (column::GBUFFER_NORMALS, list(&value("binary"))),
        (column::GBUFFER_DEPTH, list(&value("binary"))),
        (column::GBUFFER_ALBEDO, list(&value("binary"))),
    ];
    let features = features.into_iter().filter(|(name, _)| layout.columns.has(name));
    let features: serde_json::Map<_, _> = features
        .map(|(name, feature)| (name.to_owned(), feature))
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
        columns: Columns::Plain,
    };

    #[test]
    fn every_column_has_a_feature_of_the_same_name() {
        for (columns, num_columns) in [
            (Columns::Plain, 25),
            (Columns::Gbuffer, 27),
            (Columns::GbufferWithAlbedo, 28),
            (Columns::Images, 2),
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
        assert_eq!(old.fields().len() + column::ADDED_IN_V2.len(), new.fields().len());
        assert!(
            new.fields().iter().zip(old.fields()).all(|(new, old)| new == old),
            "columns are added at the end"
        );
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
