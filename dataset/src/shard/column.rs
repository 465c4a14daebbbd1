//! Samples to Arrow columns and back.

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

use crate::schema::{column, image_fields, item_field};
use crate::{
    DatasetError, Finding, Mask1Bit, MeshFindings, ObjectId, Result, RowLayout, Sample, SampleView,
    ViewGbuffer,
};

/// One sample as a batch of one row.
pub(super) fn batch_of_sample(
    sample: &Sample,
    layout: &RowLayout,
    schema: &SchemaRef,
) -> Result<RecordBatch> {
    let wrong = |what| DatasetError::Row {
        id: sample.id.to_string(),
        what,
    };
    check_row(sample, layout).map_err(wrong)?;
    let all = columns_of_object(sample)
        .into_iter()
        .chain(columns_of_views(sample))
        .chain(columns_of_mesh(sample));
    let mut all: BTreeMap<&str, ArrayRef> = all.collect();
    // Those of the schema, in its order; `RecordBatch` checks their types against it.
    let columns = schema
        .fields()
        .iter()
        .filter_map(|field| all.remove(field.name().as_str()));
    RecordBatch::try_new(Arc::clone(schema), columns.collect()).map_err(|e| wrong(e.to_string()))
}

fn columns_of_object(sample: &Sample) -> Vec<(&'static str, ArrayRef)> {
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

fn columns_of_views(sample: &Sample) -> Vec<(&'static str, ArrayRef)> {
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

fn columns_of_mesh(sample: &Sample) -> Vec<(&'static str, ArrayRef)> {
    let findings = sample.findings.as_ref();
    let count = |count: fn(&MeshFindings) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from(vec![findings.map(count)]))
    };
    let is_inside_out = BooleanArray::from(vec![findings.map(|findings| findings.is_inside_out)]);
    let kinds = findings.map(|findings| {
        let kinds = findings.kinds(sample.num_triangles);
        kinds.map(Finding::as_str).collect()
    });
    let warnings = findings.map(|findings| findings.warnings.iter().map(String::as_str).collect());
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
        (column::NUM_OPEN_EDGES, count(|findings| findings.num_open_edges)),
        (
            column::NUM_NON_MANIFOLD_EDGES,
            count(|findings| findings.num_non_manifold_edges),
        ),
        (
            column::NUM_FLIPPED_EDGES,
            count(|findings| findings.num_flipped_edges),
        ),
        (
            column::NUM_COINCIDENT_TRIANGLES,
            count(|findings| findings.num_coincident_triangles),
        ),
        (
            column::NUM_DEGENERATE_TRIANGLES,
            count(|findings| findings.num_degenerate_triangles),
        ),
        (column::IS_INSIDE_OUT, Arc::new(is_inside_out)),
        (column::FINDINGS, words(kinds)),
        (column::WARNINGS, words(warnings)),
    ]
}

fn check_row(sample: &Sample, layout: &RowLayout) -> Result<(), String> {
    let RowLayout {
        num_points,
        num_views,
        image_size_px,
        columns,
    } = *layout;
    let count = |what: &str, found: usize, expected: usize| {
        if found == expected {
            Ok(())
        } else {
            Err(format!("{found} {what} instead of {expected}"))
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
            return Err("a G-buffer other than its shard stores".to_owned());
        }
    }
    if sample.category == sample.id.category() {
        Ok(())
    } else {
        Err(format!("category {} and an id of another", sample.category))
    }
}

/// A row that is a list of words, or null.
fn words(words: Option<Vec<&str>>) -> ArrayRef {
    let nulls = words.is_none().then(|| NullBuffer::new_null(1));
    list(
        Arc::new(StringArray::from(words.unwrap_or_default())),
        DataType::Utf8,
        nulls,
    )
}

fn string(text: &str) -> ArrayRef {
    Arc::new(StringArray::from(vec![text]))
}

/// A row that is one list of `values`.
fn list(values: ArrayRef, item: DataType, nulls: Option<NullBuffer>) -> ArrayRef {
    let offsets = OffsetBuffer::from_lengths([values.len()]);
    Arc::new(ListArray::new(item_field(item), offsets, values, nulls))
}

/// Lists of `len` values each.
fn fixed_list(values: ArrayRef, len: usize) -> ArrayRef {
    Arc::new(FixedSizeListArray::new(
        item_field(values.data_type().clone()),
        len as i32,
        values,
        None,
    ))
}

/// A row that is one list of all vectors (or matrices) of `len` numbers.
fn vectors(numbers: Vec<f32>, len: usize) -> ArrayRef {
    let num_vectors = numbers.len() / len;
    fixed_list(
        fixed_list(Arc::new(Float32Array::from(numbers)), len),
        num_vectors,
    )
}

/// The sample in row `row` of a batch, with those of its views that `view_indices` names.
///
/// The batch holds the columns of the schema, those of the views only where views are asked for. What a type alone
/// does not promise (lengths of lists, null) is checked.
pub(super) fn sample_of_batch(
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
        id: id.parse().map_err(|e: DatasetError| e.to_string())?,
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
        findings: batch.findings()?,
    })
}

/// The id and the pictures in row `row` of a batch that holds their columns.
pub(super) fn images_of_batch(
    batch: &RecordBatch,
    row: usize,
    layout: &RowLayout,
    view_indices: &[usize],
) -> Result<(ObjectId, Vec<Vec<u8>>), String> {
    let row = Row { batch, row };
    let id: String = row.string(column::ID)?;
    let pngs = row.images(layout.num_views)?;
    let pngs = view_indices.iter().map(|&view_idx| pngs.value(view_idx).to_vec());
    Ok((
        id.parse().map_err(|e: DatasetError| e.to_string())?,
        pngs.collect(),
    ))
}

/// What is known of an object beside its points and pictures.
#[derive(Debug, Clone, PartialEq)]
pub struct RowFacts {
    /// Its id.
    pub id: ObjectId,
    /// Triangles of non-zero area.
    pub num_triangles: i64,
    /// Area of the surface in object space.
    pub surface_area: f64,
    /// Does every edge belong to exactly two triangles?
    pub is_watertight: bool,
    /// The smallest part of a picture that the object covers.
    pub coverage_min: f32,
    /// SHA-256 of the mesh file.
    pub source_sha256: String,
    /// What is wrong with the mesh, if anybody counted.
    pub findings: Option<MeshFindings>,
}

/// The facts in row `row` of a batch that holds their columns.
pub(super) fn facts_of_batch(batch: &RecordBatch, row: usize) -> Result<RowFacts, String> {
    let row = Row { batch, row };
    let id: String = row.string(column::ID)?;
    Ok(RowFacts {
        id: id.parse().map_err(|e: DatasetError| e.to_string())?,
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
        findings: row.findings()?,
    })
}

/// One row of a batch whose column types are those of the schema.
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

    /// `None` where it is null, and in shards of version 1.
    fn assets_sha256(&self) -> Option<String> {
        let hashes = self
            .batch
            .column_by_name(column::ASSETS_SHA256)?
            .as_string::<i32>();
        hashes
            .is_valid(self.row)
            .then(|| hashes.value(self.row).to_owned())
    }

    fn findings(&self) -> Result<Option<MeshFindings>, String> {
        let is_there = self
            .batch
            .column_by_name(column::NUM_OPEN_EDGES)
            .is_some_and(|column| column.is_valid(self.row));
        if !is_there {
            return Ok(None);
        }
        let count = |name| Ok::<_, String>(self.column(name)?.as_primitive::<Int64Type>().value(self.row));
        let findings = MeshFindings {
            num_open_edges: count(column::NUM_OPEN_EDGES)?,
            num_non_manifold_edges: count(column::NUM_NON_MANIFOLD_EDGES)?,
            num_flipped_edges: count(column::NUM_FLIPPED_EDGES)?,
            num_coincident_triangles: count(column::NUM_COINCIDENT_TRIANGLES)?,
            num_degenerate_triangles: count(column::NUM_DEGENERATE_TRIANGLES)?,
            is_inside_out: self.column(column::IS_INSIDE_OUT)?.as_boolean().value(self.row),
            warnings: self.words(column::WARNINGS)?,
        };
        // Stored for those who filter by it; here it follows from the counts.
        let kinds: Vec<_> = findings
            .kinds(count(column::NUM_TRIANGLES)?)
            .map(Finding::as_str)
            .collect();
        if self.words(column::FINDINGS)? == kinds {
            Ok(Some(findings))
        } else {
            Err(format!("{} do not follow from the counts", column::FINDINGS))
        }
    }

    fn words(&self, name: &str) -> Result<Vec<String>, String> {
        let words = self.column(name)?.as_list::<i32>().value(self.row);
        let words = words.as_string::<i32>().iter();
        words
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

    /// A PNG a view; `None` where the batch has no such column.
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
