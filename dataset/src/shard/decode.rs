//! Arrow columns to samples.
//!
//! Columns are taken by name, and values for what they are: other programs store the same numbers as other types.

use arrow_array::{Array, BinaryArray, RecordBatch};
use parquet::data_type::ByteArray;

use super::value;
use crate::error::NameError;
use crate::image::{Mask1Bit, ViewGbuffer};
use crate::predicate::{Value, ValueKind};
use crate::schema::column::Column;
use crate::schema::{MeshIssue, MeshIssues, MeshStats, ObjectId, RowLayout, Sample, SampleView, column};

/// The sample in row `row` of a batch, with the selected views.
///
/// The batch holds the columns of the layout that are read. List lengths and nulls, which types alone do not guarantee, are
/// checked.
pub(super) fn sample_from_batch(
    batch: &RecordBatch,
    row: usize,
    layout: &RowLayout,
    is_read: &dyn Fn(&str) -> bool,
    view_indices: &[usize],
) -> Result<Sample, String> {
    let batch = Row { batch, row };
    let vectors = |name| {
        let vectors = is_read(name).then(|| batch.arrays(name, layout.num_points));
        vectors.transpose()
    };
    let string = |name| is_read(name).then(|| batch.string(name)).transpose();
    let label = is_read(column::LABEL).then(|| batch.integer(column::LABEL));
    Ok(Sample {
        id: batch.id()?,
        category: string(column::CATEGORY)?.unwrap_or_default(),
        label: label.transpose()?.unwrap_or_default(),
        points: vectors(column::POINTS)?.unwrap_or_default(),
        normals: vectors(column::NORMALS)?,
        part_labels: batch.part_labels(layout.num_points)?,
        views: batch
            .views(layout, is_read)?
            .select(view_indices, layout.image_size_px)?,
        coverage_min: batch.coverage_min()?,
        object_from_mesh: batch.object_from_mesh(is_read)?,
        source_sha256: string(column::SOURCE_SHA256)?.unwrap_or_default(),
        assets_sha256: batch.assets_sha256()?,
        mesh: batch.mesh()?,
    })
}

/// Columns of a row that are small enough to be read for all rows.
#[derive(Debug, Clone, PartialEq)]
pub struct RowStats {
    /// Object id.
    pub id: ObjectId,
    /// Smallest covered fraction of an image over all views, 0 to 1; `None` without views.
    pub coverage_min: Option<f32>,
    /// SHA-256 of what the row was made from, in hexadecimal.
    pub source_sha256: String,
    /// Statistics of the mesh, if stored.
    pub mesh: Option<MeshStats>,
}

/// Small columns in row `row` of a batch.
pub(super) fn stats_from_batch(batch: &RecordBatch, row: usize) -> Result<RowStats, String> {
    let row = Row { batch, row };
    Ok(RowStats {
        id: row.id()?,
        coverage_min: row.coverage_min()?,
        source_sha256: row.string(column::SOURCE_SHA256)?,
        mesh: row.mesh()?,
    })
}

/// The value of a column in row `row` of a batch, to be compared with others; `None` for null.
pub(super) fn comparable_from_batch(
    batch: &RecordBatch,
    row: usize,
    name: &str,
) -> Result<Option<Value>, String> {
    let row = Row { batch, row };
    let Some(kind) = column::find(name).and_then(Column::value_kind) else {
        return Err(format!("no column {name}"));
    };
    if row.find(name).is_none() {
        return Ok(None);
    }
    let value = match kind {
        ValueKind::Number => Value::Number(row.get(name, value::number)?),
        ValueKind::Text => Value::Text(row.string(name)?),
        ValueKind::Bool => Value::Bool(row.get(name, value::boolean)?),
        ValueKind::Texts => Value::Texts(row.strings(name)?),
    };
    Ok(Some(value))
}

/// The label in row `row` of a batch.
pub(super) fn label_from_batch(batch: &RecordBatch, row: usize) -> Result<i64, String> {
    Row { batch, row }.integer(column::LABEL)
}

/// The id in row `row` of a batch.
pub(super) fn id_from_batch(batch: &RecordBatch, row: usize) -> Result<ObjectId, String> {
    Row { batch, row }.id()
}

/// One row of a batch.
struct Row<'a> {
    batch: &'a RecordBatch,
    row: usize,
}

impl Row<'_> {
    /// `None` where the batch has no such column, or null there.
    fn find(&self, name: &str) -> Option<&dyn Array> {
        let column = self.batch.column_by_name(name)?;
        column.is_valid(self.row).then_some(column.as_ref())
    }

    /// The value of a column, taken by `read`.
    fn get<T>(&self, name: &str, read: impl Fn(&dyn Array, usize) -> Option<T>) -> Result<T, String> {
        if self.batch.column_by_name(name).is_none() {
            return Err(format!("no column {name}"));
        }
        let column = self.find(name).ok_or_else(|| format!("{name} is null"))?;
        read(column, self.row).ok_or_else(|| format!("{name} is of another type, {}", column.data_type()))
    }

    fn id(&self) -> Result<ObjectId, String> {
        let id = self.string(column::ID)?;
        id.parse().map_err(|e: NameError| e.to_string())
    }

    fn string(&self, name: &str) -> Result<String, String> {
        self.get(name, |array, row| value::text(array, row).map(str::to_owned))
    }

    fn integer(&self, name: &str) -> Result<i64, String> {
        self.get(name, value::integer)
    }

    /// `num` arrays of `L` numbers each.
    fn arrays<const L: usize>(&self, name: &str, num: usize) -> Result<Vec<[f32; L]>, String> {
        let list = self.get(name, value::list)?;
        let numbers = value::numbers(list, L).ok_or_else(|| format!("{name} is not made of numbers"))?;
        let (arrays, []) = numbers.values().as_chunks::<L>() else {
            return Err(format!("{name} is not made of arrays of {L} numbers"));
        };
        if arrays.len() == num {
            Ok(arrays.to_vec())
        } else {
            Err(format!("{name} holds {} arrays instead of {num}", arrays.len()))
        }
    }

    fn part_labels(&self, num_points: usize) -> Result<Option<Vec<u8>>, String> {
        if self.find(column::PART_LABELS).is_none() {
            return Ok(None);
        }
        let list = self.get(column::PART_LABELS, value::list)?;
        let labels =
            value::bytes(&list).ok_or_else(|| "part labels that are no numbers below 256".to_owned())?;
        if labels.len() == num_points {
            Ok(Some(labels))
        } else {
            Err(format!("{} part labels instead of {num_points}", labels.len()))
        }
    }

    fn coverage_min(&self) -> Result<Option<f32>, String> {
        if self.find(column::COVERAGE_MIN).is_none() {
            return Ok(None);
        }
        let coverage = self.get(column::COVERAGE_MIN, value::number)?;
        Ok(Some(coverage as f32))
    }

    /// `None` if null, and in shards of version 1.
    fn assets_sha256(&self) -> Result<Option<String>, String> {
        let is_there = self.find(column::ASSETS_SHA256).is_some();
        is_there.then(|| self.string(column::ASSETS_SHA256)).transpose()
    }

    /// `None` where the dataset has no mesh statistics, or not all of them are read.
    fn mesh(&self) -> Result<Option<MeshStats>, String> {
        if self.batch.column_by_name(column::NUM_TRIANGLES).is_none() {
            return Ok(None);
        }
        let mesh = MeshStats {
            num_triangles: self.integer(column::NUM_TRIANGLES)?,
            surface_area: self.get(column::SURFACE_AREA, value::number)?,
            is_watertight: self.get(column::IS_WATERTIGHT, value::boolean)?,
            issues: self.issues()?,
        };
        // Stored for filtering by other readers; derived from the counts here.
        let Some(kinds) = mesh.issue_kinds() else {
            return Ok(Some(mesh));
        };
        let kinds: Vec<_> = kinds.into_iter().map(MeshIssue::as_str).collect();
        if self.strings(column::FINDINGS)? == kinds {
            Ok(Some(mesh))
        } else {
            Err(format!("{} do not follow from the counts", column::FINDINGS))
        }
    }

    /// `None` if not counted.
    fn issues(&self) -> Result<Option<MeshIssues>, String> {
        if self.find(column::NUM_OPEN_EDGES).is_none() {
            return Ok(None);
        }
        Ok(Some(MeshIssues {
            num_open_edges: self.integer(column::NUM_OPEN_EDGES)?,
            num_non_manifold_edges: self.integer(column::NUM_NON_MANIFOLD_EDGES)?,
            num_flipped_edges: self.integer(column::NUM_FLIPPED_EDGES)?,
            num_coincident_triangles: self.integer(column::NUM_COINCIDENT_TRIANGLES)?,
            num_degenerate_triangles: self.integer(column::NUM_DEGENERATE_TRIANGLES)?,
            is_inside_out: self.get(column::IS_INSIDE_OUT, value::boolean)?,
            warnings: self.strings(column::WARNINGS)?,
        }))
    }

    fn strings(&self, name: &str) -> Result<Vec<String>, String> {
        let list = self.get(name, value::list)?;
        let string = |i| {
            let text = value::text(&list, i).map(str::to_owned);
            text.ok_or_else(|| format!("{name} holds null, or no text"))
        };
        (0..list.len()).map(string).collect()
    }

    fn object_from_mesh(&self, is_read: &dyn Fn(&str) -> bool) -> Result<[f32; 16], String> {
        if !is_read(column::OBJECT_FROM_MESH) {
            return Ok([0.0; 16]);
        }
        let [matrix] = self.arrays::<16>(column::OBJECT_FROM_MESH, 1)?[..] else {
            return Err(format!("{} is not one matrix", column::OBJECT_FROM_MESH));
        };
        Ok(matrix)
    }

    /// The columns of views that are read.
    fn views(
        &self,
        layout: &RowLayout,
        is_read: &dyn Fn(&str) -> bool,
    ) -> Result<ViewColumns<BinaryArray>, String> {
        let num_views = layout.num_views;
        let binaries = |name| is_read(name).then(|| self.binaries(name, num_views)).transpose();
        let matrices = |name| {
            is_read(name)
                .then(|| self.arrays::<16>(name, num_views))
                .transpose()
        };
        let images = is_read(column::IMAGES).then(|| self.images(num_views));
        Ok(ViewColumns {
            images: images.transpose()?,
            masks: binaries(column::MASKS)?,
            view_from_object: matrices(column::VIEW_FROM_OBJECT)?,
            clip_from_view: matrices(column::CLIP_FROM_VIEW)?,
            gbuffer_normals: binaries(column::GBUFFER_NORMALS)?,
            gbuffer_depth: binaries(column::GBUFFER_DEPTH)?,
            gbuffer_albedo: binaries(column::GBUFFER_ALBEDO)?,
        })
    }

    /// The PNG of each view, with or without a file name beside it.
    fn images(&self, num_views: usize) -> Result<BinaryArray, String> {
        let images = self.get(column::IMAGES, value::list)?;
        per_view(column::IMAGES, value::images(&images), num_views)
    }

    /// One value per view.
    fn binaries(&self, name: &str, num_views: usize) -> Result<BinaryArray, String> {
        let list = self.get(name, value::list)?;
        per_view(name, value::binaries(&list), num_views)
    }
}

/// The columns of the views of a row, each with one value per view; `None` for what is not read.
pub(super) struct ViewColumns<B> {
    pub(super) images: Option<B>,
    pub(super) masks: Option<B>,
    pub(super) view_from_object: Option<Vec<[f32; 16]>>,
    pub(super) clip_from_view: Option<Vec<[f32; 16]>>,
    pub(super) gbuffer_normals: Option<B>,
    pub(super) gbuffer_depth: Option<B>,
    pub(super) gbuffer_albedo: Option<B>,
}

/// Byte strings, one per view.
pub(super) trait ByteStrings {
    fn of_view(&self, view_idx: usize) -> &[u8];
}

impl ByteStrings for BinaryArray {
    fn of_view(&self, view_idx: usize) -> &[u8] {
        self.value(view_idx)
    }
}

impl ByteStrings for Vec<ByteArray> {
    fn of_view(&self, view_idx: usize) -> &[u8] {
        self[view_idx].data()
    }
}

impl<B: ByteStrings> ViewColumns<B> {
    /// The selected views; none if nothing of them is read.
    pub(super) fn select(&self, view_indices: &[usize], size_px: u32) -> Result<Vec<SampleView>, String> {
        let Self {
            images,
            masks,
            view_from_object,
            clip_from_view,
            gbuffer_normals,
            gbuffer_depth,
            gbuffer_albedo,
        } = self;
        let has_gbuffer = gbuffer_normals.is_some() || gbuffer_depth.is_some() || gbuffer_albedo.is_some();
        let has_matrices = view_from_object.is_some() || clip_from_view.is_some();
        if images.is_none() && masks.is_none() && !has_matrices && !has_gbuffer {
            return Ok(Vec::new());
        }
        let bytes =
            |column: &Option<B>, view_idx| column.as_ref().map(|column| column.of_view(view_idx).to_vec());
        let matrix = |column: &Option<Vec<[f32; 16]>>, view_idx: usize| {
            column.as_ref().map_or([0.0; 16], |matrices| matrices[view_idx])
        };
        let view = |&view_idx: &usize| {
            let mask = match bytes(masks, view_idx) {
                Some(bits) => Mask1Bit::from_bytes(size_px, bits),
                None => Mask1Bit::from_bytes(0, Vec::new()),
            };
            Ok(SampleView {
                image_png: bytes(images, view_idx).unwrap_or_default(),
                mask: mask.map_err(|e| e.to_string())?,
                view_from_object: matrix(view_from_object, view_idx),
                clip_from_view: matrix(clip_from_view, view_idx),
                gbuffer: has_gbuffer.then(|| ViewGbuffer {
                    normals_png: bytes(gbuffer_normals, view_idx).unwrap_or_default(),
                    depth_png: bytes(gbuffer_depth, view_idx).unwrap_or_default(),
                    albedo_png: bytes(gbuffer_albedo, view_idx),
                }),
            })
        };
        view_indices.iter().map(view).collect()
    }
}

/// Of a sample the small columns that are read; the others are 0, empty or `None`.
pub(super) fn small_columns(sample: &Sample, is_read: &dyn Fn(&str) -> bool) -> Sample {
    let text = |name, text: &String| {
        if is_read(name) {
            text.clone()
        } else {
            String::new()
        }
    };
    let has_mesh = is_read(column::NUM_TRIANGLES);
    Sample {
        id: sample.id.clone(),
        category: text(column::CATEGORY, &sample.category),
        label: if is_read(column::LABEL) { sample.label } else { 0 },
        points: Vec::new(),
        normals: None,
        part_labels: None,
        views: Vec::new(),
        coverage_min: sample.coverage_min.filter(|_| is_read(column::COVERAGE_MIN)),
        object_from_mesh: if is_read(column::OBJECT_FROM_MESH) {
            sample.object_from_mesh
        } else {
            [0.0; 16]
        },
        source_sha256: text(column::SOURCE_SHA256, &sample.source_sha256),
        assets_sha256: sample
            .assets_sha256
            .clone()
            .filter(|_| is_read(column::ASSETS_SHA256)),
        mesh: sample.mesh.clone().filter(|_| has_mesh),
    }
}

fn per_view(name: &str, values: Option<BinaryArray>, num_views: usize) -> Result<BinaryArray, String> {
    let values = values.ok_or_else(|| format!("{name} is not made of bytes"))?;
    if values.len() == num_views && values.null_count() == 0 {
        Ok(values)
    } else {
        Err(format!("{} {name} instead of {num_views}, or null", values.len()))
    }
}
