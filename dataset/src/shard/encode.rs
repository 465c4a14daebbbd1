//! Samples to Arrow columns.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, FixedSizeListArray, Float32Array, Float64Array, Int64Array,
    ListArray, RecordBatch, StringArray, StructArray, UInt8Array,
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{DataType, SchemaRef};

use crate::error::{DatasetError, Result, ShardError};
use crate::image::ViewGbuffer;
use crate::schema::column::{image_fields, item_field};
use crate::schema::{
    ColumnSet, Columns, MeshIssue, MeshIssues, MeshStats, RowLayout, Sample, SampleView, column,
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
    let all = point_columns(sample)
        .into_iter()
        .chain(view_columns(sample))
        .chain(sample.mesh.iter().flat_map(mesh_columns));
    let mut all: BTreeMap<&str, ArrayRef> = all.collect();
    // In schema order; `RecordBatch` checks the types.
    let columns = schema
        .fields()
        .iter()
        .filter_map(|field| all.remove(field.name().as_str()));
    RecordBatch::try_new(Arc::clone(schema), columns.collect()).map_err(|e| wrong(e.to_string()))
}

fn point_columns(sample: &Sample) -> Vec<(&'static str, ArrayRef)> {
    let part_labels = match &sample.part_labels {
        Some(labels) => list(Arc::new(UInt8Array::from(labels.clone())), DataType::UInt8, None),
        None => list(
            Arc::new(UInt8Array::from(Vec::<u8>::new())),
            DataType::UInt8,
            Some(NullBuffer::new_null(1)),
        ),
    };
    let object_from_mesh = Float32Array::from(sample.object_from_mesh.to_vec());
    let triples = |triples: &Vec<[f32; 3]>| vectors(triples.as_flattened().to_vec(), 3);
    let mut columns: Vec<(&str, ArrayRef)> = vec![
        (column::ID, string(sample.id.as_str())),
        (column::CATEGORY, string(&sample.category)),
        (column::LABEL, Arc::new(Int64Array::from(vec![sample.label]))),
        (column::POINTS, triples(&sample.points)),
        (column::PART_LABELS, part_labels),
        (
            column::OBJECT_FROM_MESH,
            fixed_list(Arc::new(object_from_mesh), 16),
        ),
        (column::SOURCE_SHA256, string(&sample.source_sha256)),
        (
            column::ASSETS_SHA256,
            Arc::new(StringArray::from(vec![sample.assets_sha256.as_deref()])),
        ),
    ];
    let normals = sample.normals.as_ref();
    columns.extend(normals.map(|normals| (column::NORMALS, triples(normals))));
    columns
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
            column::COVERAGE_MIN,
            Arc::new(Float32Array::from(vec![sample.coverage_min])),
        ),
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

fn mesh_columns(mesh: &MeshStats) -> Vec<(&'static str, ArrayRef)> {
    let issues = mesh.issues.as_ref();
    let count =
        |count: fn(&MeshIssues) -> i64| -> ArrayRef { Arc::new(Int64Array::from(vec![issues.map(count)])) };
    let is_inside_out = BooleanArray::from(vec![issues.map(|issues| issues.is_inside_out)]);
    let kinds = mesh.issue_kinds();
    let kinds = kinds.map(|kinds| kinds.into_iter().map(MeshIssue::as_str).collect());
    let warnings = issues.map(|issues| issues.warnings.iter().map(String::as_str).collect());
    vec![
        (
            column::NUM_TRIANGLES,
            Arc::new(Int64Array::from(vec![mesh.num_triangles])),
        ),
        (
            column::SURFACE_AREA,
            Arc::new(Float64Array::from(vec![mesh.surface_area])),
        ),
        (
            column::IS_WATERTIGHT,
            Arc::new(BooleanArray::from(vec![mesh.is_watertight])),
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

/// Checks that a sample has what the layout declares, and nothing that would be lost.
fn check_row(sample: &Sample, layout: &RowLayout) -> Result<(), String> {
    let RowLayout {
        num_points,
        num_views,
        image_size_px,
        columns,
    } = *layout;
    check_views(sample, num_views, image_size_px, columns)?;
    if columns.is_image_set() {
        return Ok(());
    }
    check_count("points", sample.points.len(), num_points)?;
    let declared = |what: &str, is_present: bool, set| match (is_present, columns.has(set)) {
        (true, false) => Err(format!("{what}, which its dataset does not declare")),
        (false, true) => Err(format!("no {what}")),
        _ => Ok(()),
    };
    declared("normals", sample.normals.is_some(), ColumnSet::Normals)?;
    declared("mesh statistics", sample.mesh.is_some(), ColumnSet::Mesh)?;
    if let Some(normals) = &sample.normals {
        check_count("normals", normals.len(), num_points)?;
    }
    if let Some(labels) = &sample.part_labels {
        declared("part labels", true, ColumnSet::Parts)?;
        check_count("part labels", labels.len(), num_points)?;
    }
    if sample.category == sample.id.category() {
        Ok(())
    } else {
        Err(format!("category {} does not match the id", sample.category))
    }
}

fn check_views(
    sample: &Sample,
    num_views: usize,
    image_size_px: u32,
    columns: Columns,
) -> Result<(), String> {
    check_count("views", sample.views.len(), num_views)?;
    if sample.coverage_min.is_some() != (num_views > 0) {
        return Err("views without coverage_min, or the other way around".to_owned());
    }
    for view in &sample.views {
        check_count(
            "pixels along a mask",
            view.mask.size_px() as usize,
            image_size_px as usize,
        )?;
        let gbuffer = view.gbuffer.as_ref();
        let has_gbuffer = gbuffer.is_some();
        let has_albedo = gbuffer.is_some_and(|gbuffer| gbuffer.albedo_png.is_some());
        let declared = [ColumnSet::Gbuffer, ColumnSet::GbufferAlbedo].map(|set| columns.has(set));
        if [has_gbuffer, has_albedo] != declared {
            return Err("a G-buffer with other channels than the shard".to_owned());
        }
    }
    Ok(())
}

fn check_count(what: &str, found: usize, expected: usize) -> Result<(), String> {
    if found == expected {
        Ok(())
    } else {
        Err(format!("{found} {what} instead of {expected}"))
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
