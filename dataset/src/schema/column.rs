//! Columns of a shard. Everything that is said of a column follows from its line in [`COLUMNS`]: the Arrow schema, the
//! features of Hugging Face `datasets`, what each version and each set of columns has, pages, compression and statistics.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields};
use parquet::basic::Compression;
use serde_json::{Value, json};

use crate::predicate::ValueKind;

use super::{ColumnSet, Columns, RowLayout};

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

/// All columns, in the order of the file: later versions append.
#[rustfmt::skip]
pub(crate) const COLUMNS: [Column; 28] = [
    column(ID, ColumnType::Text, ColumnSet::Points, 1),
    column(CATEGORY, ColumnType::Text, ColumnSet::Points, 1),
    column(LABEL, ColumnType::Class, ColumnSet::Points, 1),
    column(POINTS, ColumnType::Vectors, ColumnSet::Points, 1),
    column(NORMALS, ColumnType::Vectors, ColumnSet::Normals, 1),
    column(PART_LABELS, ColumnType::PartLabels, ColumnSet::Parts, 1),
    column(IMAGES, ColumnType::Images, ColumnSet::Views, 1),
    column(MASKS, ColumnType::Masks, ColumnSet::Views, 1),
    column(VIEW_FROM_OBJECT, ColumnType::Matrices, ColumnSet::Views, 1),
    column(CLIP_FROM_VIEW, ColumnType::Matrices, ColumnSet::Views, 1),
    column(OBJECT_FROM_MESH, ColumnType::Matrix, ColumnSet::Points, 1),
    column(NUM_TRIANGLES, ColumnType::Int64, ColumnSet::Mesh, 1),
    column(SURFACE_AREA, ColumnType::Float64, ColumnSet::Mesh, 1),
    column(IS_WATERTIGHT, ColumnType::Bool, ColumnSet::Mesh, 1),
    column(COVERAGE_MIN, ColumnType::Float32, ColumnSet::Views, 1),
    column(SOURCE_SHA256, ColumnType::Text, ColumnSet::Points, 1),
    column(ASSETS_SHA256, ColumnType::Text, ColumnSet::Points, 2),
    column(NUM_OPEN_EDGES, ColumnType::Int64, ColumnSet::Mesh, 2),
    column(NUM_NON_MANIFOLD_EDGES, ColumnType::Int64, ColumnSet::Mesh, 2),
    column(NUM_FLIPPED_EDGES, ColumnType::Int64, ColumnSet::Mesh, 2),
    column(NUM_COINCIDENT_TRIANGLES, ColumnType::Int64, ColumnSet::Mesh, 2),
    column(NUM_DEGENERATE_TRIANGLES, ColumnType::Int64, ColumnSet::Mesh, 2),
    column(IS_INSIDE_OUT, ColumnType::Bool, ColumnSet::Mesh, 2),
    column(FINDINGS, ColumnType::Texts, ColumnSet::Mesh, 2),
    column(WARNINGS, ColumnType::Texts, ColumnSet::Mesh, 2),
    column(GBUFFER_NORMALS, ColumnType::Pngs, ColumnSet::Gbuffer, 3),
    column(GBUFFER_DEPTH, ColumnType::Pngs, ColumnSet::Gbuffer, 3),
    column(GBUFFER_ALBEDO, ColumnType::Pngs, ColumnSet::GbufferAlbedo, 3),
];

/// The columns of an image set.
const OF_IMAGE_SETS: [&str; 2] = [ID, IMAGES];

/// A column.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    content: ColumnType,
    /// The set that declares it.
    pub(crate) set: ColumnSet,
    /// Schema version that added it.
    pub(crate) since: u32,
}

const fn column(name: &'static str, content: ColumnType, set: ColumnSet, since: u32) -> Column {
    Column {
        name,
        content,
        set,
        since,
    }
}

/// What a column holds, with N points and V views.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ColumnType {
    Text,
    Texts,
    Int64,
    Float32,
    Float64,
    Bool,
    /// Index of a class.
    Class,
    /// N vectors of three numbers.
    Vectors,
    /// A matrix of 4x4 numbers.
    Matrix,
    /// V matrices.
    Matrices,
    /// N labels, or null.
    PartLabels,
    /// V images with file names, as `datasets` decodes them.
    Images,
    /// V masks.
    Masks,
    /// V PNGs.
    Pngs,
}

/// The columns of shards of a version, in order.
pub(crate) fn stored(columns: Columns, version: u32) -> impl Iterator<Item = &'static Column> {
    let is_stored = move |column: &&Column| column.since <= version && column.is_of(columns);
    COLUMNS.iter().filter(is_stored)
}

/// The column with this name; other programs may add columns of their own.
pub(crate) fn find(name: &str) -> Option<&'static Column> {
    COLUMNS.iter().find(|column| column.name == name)
}

impl Column {
    /// Whether rows with these columns have it.
    pub(crate) fn is_of(&self, columns: Columns) -> bool {
        if columns.is_image_set() {
            OF_IMAGE_SETS.contains(&self.name)
        } else {
            columns.has(self.set)
        }
    }

    /// Whether it has one value per view.
    pub(crate) fn is_per_view(&self) -> bool {
        matches!(
            self.content,
            ColumnType::Images | ColumnType::Masks | ColumnType::Pngs | ColumnType::Matrices
        )
    }

    /// Whether only relighting reads it.
    pub(crate) fn is_gbuffer(&self) -> bool {
        matches!(self.set, ColumnSet::Gbuffer | ColumnSet::GbufferAlbedo)
    }

    /// Whether it has one value per point or view. Such a column has one row per page, so that a row can be read alone, and
    /// no statistics. The others are small enough to be read for all rows.
    pub(crate) fn is_large(&self) -> bool {
        self.is_per_view() || matches!(self.content, ColumnType::Vectors | ColumnType::PartLabels)
    }

    /// Images are compressed already, masks shrink to a tenth, and floats do not shrink. The rest is small.
    pub(crate) fn compression(&self) -> Compression {
        match self.content {
            ColumnType::Masks => Compression::LZ4_RAW,
            _ => Compression::UNCOMPRESSED,
        }
    }

    /// Type of its values, if they can be compared with others.
    pub(crate) fn value_kind(&self) -> Option<ValueKind> {
        match self.content {
            ColumnType::Text => Some(ValueKind::Text),
            ColumnType::Texts => Some(ValueKind::Texts),
            ColumnType::Int64 | ColumnType::Float32 | ColumnType::Float64 | ColumnType::Class => {
                Some(ValueKind::Number)
            }
            ColumnType::Bool => Some(ValueKind::Bool),
            _ => None,
        }
    }

    /// Arrow field. Nullable, although few columns ever are null: `datasets` recognizes images and class labels only if the
    /// type is exactly what it writes itself, which is nullable throughout.
    pub(crate) fn field(&self, layout: &RowLayout) -> Field {
        Field::new(self.name, self.arrow_type(layout), true)
    }

    fn arrow_type(&self, layout: &RowLayout) -> DataType {
        let matrix = || fixed_list(DataType::Float32, 16);
        match self.content {
            ColumnType::Text => DataType::Utf8,
            ColumnType::Texts => list(DataType::Utf8),
            ColumnType::Int64 | ColumnType::Class => DataType::Int64,
            ColumnType::Float32 => DataType::Float32,
            ColumnType::Float64 => DataType::Float64,
            ColumnType::Bool => DataType::Boolean,
            ColumnType::Vectors => fixed_list(fixed_list(DataType::Float32, 3), layout.num_points),
            ColumnType::Matrix => matrix(),
            ColumnType::Matrices => fixed_list(matrix(), layout.num_views),
            // Variable length: some readers cannot read a null fixed-size list.
            ColumnType::PartLabels => list(DataType::UInt8),
            ColumnType::Images => list(DataType::Struct(image_fields())),
            ColumnType::Masks | ColumnType::Pngs => list(DataType::Binary),
        }
    }

    /// Feature of Hugging Face `datasets`.
    pub(crate) fn feature(&self, layout: &RowLayout, classes: &[String]) -> Value {
        let value = |dtype: &str| json!({ "dtype": dtype, "_type": "Value" });
        let list = |feature: &Value| json!({ "feature": feature, "_type": "List" });
        let fixed =
            |feature: &Value, length: usize| json!({ "feature": feature, "length": length, "_type": "List" });
        let matrix = || fixed(&value("float32"), 16);
        match self.content {
            ColumnType::Text => value("string"),
            ColumnType::Texts => list(&value("string")),
            ColumnType::Int64 => value("int64"),
            ColumnType::Class => json!({ "names": classes, "_type": "ClassLabel" }),
            ColumnType::Float32 => value("float32"),
            ColumnType::Float64 => value("float64"),
            ColumnType::Bool => value("bool"),
            ColumnType::Vectors => fixed(&fixed(&value("float32"), 3), layout.num_points),
            ColumnType::Matrix => matrix(),
            ColumnType::Matrices => fixed(&matrix(), layout.num_views),
            ColumnType::PartLabels => list(&value("uint8")),
            ColumnType::Images => list(&json!({ "_type": "Image" })),
            ColumnType::Masks | ColumnType::Pngs => list(&value("binary")),
        }
    }
}

fn list(item: DataType) -> DataType {
    DataType::List(item_field(item))
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
