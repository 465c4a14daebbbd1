//! Conversion between samples and Arrow columns.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type, Int64Type, UInt8Type};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, FixedSizeListArray, Float32Array, Float64Array, Int64Array,
    ListArray, RecordBatch, StringArray, StructArray, UInt8Array,
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{DataType, SchemaRef};

use crate::error::{DatasetError, NameError, Result, ShardError};
use crate::image::{Mask1Bit, ViewGbuffer};
use crate::schema::{
    MeshIssue, MeshIssues, ObjectId, RowLayout, Sample, SampleView, column, image_fields, item_field,
};

/// One sample as a record batch of one row.
pub(super) fn sample_to_batch(
    sample: &Sample,
    layout: &RowLayout,
    schema: &SchemaRef,
) -> Result<RecordBatch> {
    let wrong = |detail| {
        DatasetError::Shard(ShardError::Row {
            id: sample.id.to_string(),
            detail,
        })
    };
    check_row(sample, layout).map_err(wrong)?;
    let all = object_columns(sample)
        .into_iter()
        .chain(view_columns(sample))
        .chain(mesh_columns(sample));
    let mut all: BTreeMap<&str, ArrayRef> = all.collect();
    // In schema order; `RecordBatch` checks the types.
    let columns = schema
        .fields()
        .iter()
        .filter_map(|field| all.remove(field.name().as_str()));
    RecordBatch::try_new(Arc::clone(schema), columns.collect()).map_err(|e| wrong(e.to_string()))
}

fn object_columns(sample: &Sample) -> Vec<(&'static str, ArrayRef)> {
    let part_labels = match &sample.part_labels {
        Some(labels) => list(Arc::new(UInt8Array::from(labels.clone())), DataType::UInt8, None),
        None => list(
            Arc::new(UInt8Array::from(Vec::<u8>::new())),
            DataType::UInt8,
            Some(NullBuffer::new_null(1)),
        ),
    };
    let object_from_mesh = Float32Array::from(sample.object_from_mesh.to_vec());
    vec![
        (column::ID, string(sample.id.as_str())),
        (column::CATEGORY, string(&sample.category)),
        (column::LABEL, Arc::new(Int64Array::from(vec![sample.label]))),
        (column::POINTS, vectors(sample.points.as_flattened().to_vec(), 3)),
        (
            column::NORMALS,
            vectors(sample.normals.as_flattened().to_vec(), 3),
        ),
        (column::PART_LABELS, part_labels),
        (
            column::OBJECT_FROM_MESH,
            fixed_list(Arc::new(object_from_mesh), 16),
        ),
        (
            column::COVERAGE_MIN,
            Arc::new(Float32Array::from(vec![sample.coverage_min])),
        ),
        (column::SOURCE_SHA256, string(&sample.source_sha256)),
        (
            column::ASSETS_SHA256,
            Arc::new(StringArray::from(vec![sample.assets_sha256.as_deref()])),
        ),
    ]
}

fn view_columns(sample: &Sample) -> Vec<(&'static str, ArrayRef)> {
    let views = &sample.views;
    let pngs = BinaryArray::from_iter_values(views.iter().map(|view| &view.image_png));
    let paths = (1..=views.len()).map(|number| format!("view_{number:03}.png"));
    let paths = StringArray::from_iter_values(paths);
    let images = StructArray::new(image_fields(), vec![Arc::new(pngs), Arc::new(paths)], None);
    let masks = BinaryArray::from_iter_values(views.iter().map(|view| view.mask.as_bytes()));
    let of_gbuffer = |png: fn(&ViewGbuffer) -> Option<&Vec<u8>>| {
        let pngs = views.iter().filter_map(|view| png(view.gbuffer.as_ref()?));
        let pngs = BinaryArray::from_iter_values(pngs);
        list(Arc::new(pngs), DataType::Binary, None)
    };
    let matrices =
        |matrix: fn(&SampleView) -> [f32; 16]| vectors(views.iter().flat_map(matrix).collect(), 16);
    vec![
        (
            column::IMAGES,
            list(Arc::new(images), DataType::Struct(image_fields()), None),
        ),
        (column::MASKS, list(Arc::new(masks), DataType::Binary, None)),
        (column::VIEW_FROM_OBJECT, matrices(|view| view.view_from_object)),
        (column::CLIP_FROM_VIEW, matrices(|view| view.clip_from_view)),
        (
            column::GBUFFER_NORMALS,
            of_gbuffer(|gbuffer| Some(&gbuffer.normals_png)),
        ),
        (
            column::GBUFFER_DEPTH,
            of_gbuffer(|gbuffer| Some(&gbuffer.depth_png)),
        ),
        (
            column::GBUFFER_ALBEDO,
            of_gbuffer(|gbuffer| gbuffer.albedo_png.as_ref()),
        ),
    ]
}

fn mesh_columns(sample: &Sample) -> Vec<(&'static str, ArrayRef)> {
    let issues = sample.issues.as_ref();
    let count =
        |count: fn(&MeshIssues) -> i64| -> ArrayRef { Arc::new(Int64Array::from(vec![issues.map(count)])) };
    let is_inside_out = BooleanArray::from(vec![issues.map(|issues| issues.is_inside_out)]);
    let kinds = issues.map(|issues| {
        let kinds = issues.kinds(sample.num_triangles);
        kinds.map(MeshIssue::as_str).collect()
    });
    let warnings = issues.map(|issues| issues.warnings.iter().map(String::as_str).collect());
    vec![
        (
            column::NUM_TRIANGLES,
            Arc::new(Int64Array::from(vec![sample.num_triangles])),
        ),
        (
            column::SURFACE_AREA,
            Arc::new(Float64Array::from(vec![sample.surface_area])),
        ),
        (
            column::IS_WATERTIGHT,
            Arc::new(BooleanArray::from(vec![sample.is_watertight])),
        ),
        (column::NUM_OPEN_EDGES, count(|issues| issues.num_open_edges)),
        (
            column::NUM_NON_MANIFOLD_EDGES,
            count(|issues| issues.num_non_manifold_edges),
        ),
        (
            column::NUM_FLIPPED_EDGES,
            count(|issues| issues.num_flipped_edges),
        ),
        (
            column::NUM_COINCIDENT_TRIANGLES,
            count(|issues| issues.num_coincident_triangles),
        ),
        (
            column::NUM_DEGENERATE_TRIANGLES,
            count(|issues| issues.num_degenerate_triangles),
        ),
        (column::IS_INSIDE_OUT, Arc::new(is_inside_out)),
        (column::FINDINGS, strings(kinds)),
        (column::WARNINGS, strings(warnings)),
    ]
}

fn check_row(sample: &Sample, layout: &RowLayout) -> Result<(), String> {
    let RowLayout {
        num_points,
        num_views,
        image_size_px,
        columns,
    } = *layout;
    let count = |detail: &str, found: usize, expected: usize| {
        if found == expected {
            Ok(())
        } else {
            Err(format!("{found} {detail} instead of {expected}"))
        }
    };
    count("points", sample.points.len(), num_points)?;
    count("normals", sample.normals.len(), num_points)?;
    count("views", sample.views.len(), num_views)?;
    if let Some(labels) = &sample.part_labels {
        count("part labels", labels.len(), num_points)?;
    }
    for view in &sample.views {
        count(
            "pixels along a mask",
            view.mask.size_px() as usize,
            image_size_px as usize,
        )?;
        let gbuffer = view.gbuffer.as_ref();
        let has_gbuffer = gbuffer.is_some();
        let has_albedo = gbuffer.is_some_and(|gbuffer| gbuffer.albedo_png.is_some());
        if (has_gbuffer, has_albedo) != (columns.has_gbuffer(), columns.has_albedo()) {
            return Err("a G-buffer with other channels than the shard".to_owned());
        }
    }
    if sample.category == sample.id.category() {
        Ok(())
    } else {
        Err(format!("category {} does not match the id", sample.category))
    }
}

/// A row with one list of strings, or null.
fn strings(strings: Option<Vec<&str>>) -> ArrayRef {
    let nulls = strings.is_none().then(|| NullBuffer::new_null(1));
    list(
        Arc::new(StringArray::from(strings.unwrap_or_default())),
        DataType::Utf8,
        nulls,
    )
}

fn string(text: &str) -> ArrayRef {
    Arc::new(StringArray::from(vec![text]))
}

/// A row with one list of `values`.
fn list(values: ArrayRef, item: DataType, nulls: Option<NullBuffer>) -> ArrayRef {
    let offsets = OffsetBuffer::from_lengths([values.len()]);
    Arc::new(ListArray::new(item_field(item), offsets, values, nulls))
}

/// Fixed-size lists of `len` values each.
fn fixed_list(values: ArrayRef, len: usize) -> ArrayRef {
    Arc::new(FixedSizeListArray::new(
        item_field(values.data_type().clone()),
        len as i32,
        values,
        None,
    ))
}

/// A row with one list of vectors (or matrices) of `len` numbers.
fn vectors(numbers: Vec<f32>, len: usize) -> ArrayRef {
    let num_vectors = numbers.len() / len;
    fixed_list(
        fixed_list(Arc::new(Float32Array::from(numbers)), len),
        num_vectors,
    )
}

/// The sample in row `row` of a batch, with the selected views.
///
/// The batch holds the columns of the schema, view columns only if a view is selected. List lengths and
/// nulls, which types alone do not guarantee, are checked.
pub(super) fn sample_from_batch(
    batch: &RecordBatch,
    row: usize,
    layout: &RowLayout,
    view_indices: &[usize],
) -> Result<Sample, String> {
    let batch = Row { batch, row };
    let id: String = batch.string(column::ID)?;
    let points: Vec<[f32; 3]> = batch.arrays(column::POINTS, layout.num_points)?;
    let normals = batch.arrays(column::NORMALS, layout.num_points)?;
    let part_labels = batch.part_labels(layout.num_points)?;
    let views = if view_indices.is_empty() {
        Vec::new()
    } else {
        batch.views(layout, view_indices)?
    };
    let [object_from_mesh] = batch.arrays::<16>(column::OBJECT_FROM_MESH, 1)?[..] else {
        return Err(format!("{} is not one matrix", column::OBJECT_FROM_MESH));
    };
    Ok(Sample {
        id: id.parse().map_err(|e: NameError| e.to_string())?,
        category: batch.string(column::CATEGORY)?,
        label: batch
            .column(column::LABEL)?
            .as_primitive::<Int64Type>()
            .value(row),
        points,
        normals,
        part_labels,
        views,
        object_from_mesh,
        num_triangles: batch
            .column(column::NUM_TRIANGLES)?
            .as_primitive::<Int64Type>()
            .value(row),
        surface_area: batch
            .column(column::SURFACE_AREA)?
            .as_primitive::<Float64Type>()
            .value(row),
        is_watertight: batch.column(column::IS_WATERTIGHT)?.as_boolean().value(row),
        coverage_min: batch
            .column(column::COVERAGE_MIN)?
            .as_primitive::<Float32Type>()
            .value(row),
        source_sha256: batch.string(column::SOURCE_SHA256)?,
        assets_sha256: batch.assets_sha256(),
        issues: batch.issues()?,
    })
}

/// Id and selected images in row `row` of a batch.
pub(super) fn images_from_batch(
    batch: &RecordBatch,
    row: usize,
    layout: &RowLayout,
    view_indices: &[usize],
) -> Result<(ObjectId, Vec<Vec<u8>>), String> {
    let row = Row { batch, row };
    let id: String = row.string(column::ID)?;
    let pngs = row.images(layout.num_views)?;
    let pngs = view_indices.iter().map(|&view_idx| pngs.value(view_idx).to_vec());
    Ok((id.parse().map_err(|e: NameError| e.to_string())?, pngs.collect()))
}

/// Scalar columns of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct RowStats {
    /// Object id.
    pub id: ObjectId,
    /// Triangles with non-zero area.
    pub num_triangles: i64,
    /// Surface area in object space.
    pub surface_area: f64,
    /// Whether every edge has exactly two triangles.
    pub is_watertight: bool,
    /// Smallest covered fraction of an image over all views, 0 to 1.
    pub coverage_min: f32,
    /// SHA-256 of the mesh file, in hexadecimal.
    pub source_sha256: String,
    /// Mesh issues, if counted.
    pub issues: Option<MeshIssues>,
}

/// Scalar columns in row `row` of a batch.
pub(super) fn stats_from_batch(batch: &RecordBatch, row: usize) -> Result<RowStats, String> {
    let row = Row { batch, row };
    let id: String = row.string(column::ID)?;
    Ok(RowStats {
        id: id.parse().map_err(|e: NameError| e.to_string())?,
        num_triangles: row
            .column(column::NUM_TRIANGLES)?
            .as_primitive::<Int64Type>()
            .value(row.row),
        surface_area: row
            .column(column::SURFACE_AREA)?
            .as_primitive::<Float64Type>()
            .value(row.row),
        is_watertight: row.column(column::IS_WATERTIGHT)?.as_boolean().value(row.row),
        coverage_min: row
            .column(column::COVERAGE_MIN)?
            .as_primitive::<Float32Type>()
            .value(row.row),
        source_sha256: row.string(column::SOURCE_SHA256)?,
        issues: row.issues()?,
    })
}

/// One row of a batch that has the types of the schema.
struct Row<'a> {
    batch: &'a RecordBatch,
    row: usize,
}

impl Row<'_> {
    fn column(&self, name: &str) -> Result<&ArrayRef, String> {
        let column = self.column_or_null(name)?;
        if column.is_null(self.row) {
            Err(format!("{name} is null"))
        } else {
            Ok(column)
        }
    }

    fn column_or_null(&self, name: &str) -> Result<&ArrayRef, String> {
        self.batch
            .column_by_name(name)
            .ok_or_else(|| format!("no column {name}"))
    }

    fn string(&self, name: &str) -> Result<String, String> {
        Ok(self.column(name)?.as_string::<i32>().value(self.row).to_owned())
    }

    /// `num` arrays of `L` numbers each.
    fn arrays<const L: usize>(&self, name: &str, num: usize) -> Result<Vec<[f32; L]>, String> {
        let mut values = self.column(name)?.as_fixed_size_list().value(self.row);
        while let Some(inner) = values.as_fixed_size_list_opt() {
            let start = inner.value_offset_at(0);
            values = inner
                .values()
                .slice(start, inner.len() * inner.value_length() as usize);
        }
        let numbers = values.as_primitive::<Float32Type>();
        let (arrays, []) = numbers.values().as_chunks::<L>() else {
            return Err(format!("{name} is not made of arrays of {L} numbers"));
        };
        if arrays.len() != num || numbers.null_count() > 0 {
            return Err(format!(
                "{name} holds {} arrays instead of {num}, or null",
                arrays.len()
            ));
        }
        Ok(arrays.to_vec())
    }

    fn part_labels(&self, num_points: usize) -> Result<Option<Vec<u8>>, String> {
        let lists = self.column_or_null(column::PART_LABELS)?.as_list::<i32>();
        if lists.is_null(self.row) {
            return Ok(None);
        }
        let labels = lists.value(self.row);
        let labels = labels.as_primitive::<UInt8Type>();
        if labels.len() == num_points && labels.null_count() == 0 {
            Ok(Some(labels.values().to_vec()))
        } else {
            Err(format!(
                "{} part labels instead of {num_points}, or null",
                labels.len()
            ))
        }
    }

    /// `None` if null, and in shards of version 1.
    fn assets_sha256(&self) -> Option<String> {
        let hashes = self
            .batch
            .column_by_name(column::ASSETS_SHA256)?
            .as_string::<i32>();
        hashes
            .is_valid(self.row)
            .then(|| hashes.value(self.row).to_owned())
    }

    fn issues(&self) -> Result<Option<MeshIssues>, String> {
        let is_present = self
            .batch
            .column_by_name(column::NUM_OPEN_EDGES)
            .is_some_and(|column| column.is_valid(self.row));
        if !is_present {
            return Ok(None);
        }
        let count = |name| Ok::<_, String>(self.column(name)?.as_primitive::<Int64Type>().value(self.row));
        let issues = MeshIssues {
            num_open_edges: count(column::NUM_OPEN_EDGES)?,
            num_non_manifold_edges: count(column::NUM_NON_MANIFOLD_EDGES)?,
            num_flipped_edges: count(column::NUM_FLIPPED_EDGES)?,
            num_coincident_triangles: count(column::NUM_COINCIDENT_TRIANGLES)?,
            num_degenerate_triangles: count(column::NUM_DEGENERATE_TRIANGLES)?,
            is_inside_out: self.column(column::IS_INSIDE_OUT)?.as_boolean().value(self.row),
            warnings: self.strings(column::WARNINGS)?,
        };
        // Stored for filtering by other readers; derived from the counts here.
        let kinds: Vec<_> = issues
            .kinds(count(column::NUM_TRIANGLES)?)
            .map(MeshIssue::as_str)
            .collect();
        if self.strings(column::FINDINGS)? == kinds {
            Ok(Some(issues))
        } else {
            Err(format!("{} do not follow from the counts", column::FINDINGS))
        }
    }

    fn strings(&self, name: &str) -> Result<Vec<String>, String> {
        let strings = self.column(name)?.as_list::<i32>().value(self.row);
        let strings = strings.as_string::<i32>().iter();
        strings
            .map(|word| {
                word.map(str::to_owned)
                    .ok_or_else(|| format!("{name} holds null"))
            })
            .collect()
    }

    fn views(&self, layout: &RowLayout, view_indices: &[usize]) -> Result<Vec<SampleView>, String> {
        let num_views = layout.num_views;
        let pngs = self.images(num_views)?;
        let masks = self.column(column::MASKS)?.as_list::<i32>().value(self.row);
        let masks = masks.as_binary::<i32>();
        if masks.len() != num_views || masks.null_count() > 0 {
            return Err(format!("{} masks instead of {num_views}, or null", masks.len()));
        }
        let view_from_object = self.arrays::<16>(column::VIEW_FROM_OBJECT, num_views)?;
        let clip_from_view = self.arrays::<16>(column::CLIP_FROM_VIEW, num_views)?;
        let normals = self.pngs(column::GBUFFER_NORMALS, num_views)?;
        let depth = self.pngs(column::GBUFFER_DEPTH, num_views)?;
        let albedo = self.pngs(column::GBUFFER_ALBEDO, num_views)?;
        let view = |&view_idx: &usize| {
            let mask = Mask1Bit::from_bytes(layout.image_size_px, masks.value(view_idx).to_vec());
            Ok(SampleView {
                image_png: pngs.value(view_idx).to_vec(),
                mask: mask.map_err(|e| e.to_string())?,
                view_from_object: view_from_object[view_idx],
                clip_from_view: clip_from_view[view_idx],
                gbuffer: normals
                    .as_ref()
                    .zip(depth.as_ref())
                    .map(|(normals, depth)| ViewGbuffer {
                        normals_png: normals.value(view_idx).to_vec(),
                        depth_png: depth.value(view_idx).to_vec(),
                        albedo_png: albedo.as_ref().map(|albedo| albedo.value(view_idx).to_vec()),
                    }),
            })
        };
        view_indices.iter().map(view).collect()
    }

    fn images(&self, num_views: usize) -> Result<BinaryArray, String> {
        let images = self.column(column::IMAGES)?.as_list::<i32>().value(self.row);
        let pngs = images.as_struct().column(0).as_binary::<i32>();
        if pngs.len() == num_views && images.null_count() + pngs.null_count() == 0 {
            Ok(pngs.clone())
        } else {
            Err(format!("{} images instead of {num_views}, or null", pngs.len()))
        }
    }

    /// One PNG per view; `None` if the batch has no such column.
    fn pngs(&self, name: &str, num_views: usize) -> Result<Option<BinaryArray>, String> {
        if self.batch.column_by_name(name).is_none() {
            return Ok(None);
        }
        let pngs = self.column(name)?.as_list::<i32>().value(self.row);
        let pngs = pngs.as_binary::<i32>();
        if pngs.len() == num_views && pngs.null_count() == 0 {
            Ok(Some(pngs.clone()))
        } else {
            Err(format!("{} {name} instead of {num_views}, or null", pngs.len()))
        }
    }
}
