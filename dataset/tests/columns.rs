//! Rows without views, views without meshes; shards of earlier versions, and those that another program wrote again.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;
mod rewritten;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, DictionaryArray, Int64Array, RecordBatch};
use fixture::{header, sample};
use parquet::basic::{BrotliLevel, ColumnOrder, Compression, GzipLevel, SortOrder, ZstdLevel};
use parquet::file::metadata::ParquetMetaDataReader;
use parquet::file::statistics::Statistics;
use rewritten::{columns, default_properties, edit_manifest, in_other_types, rewrite, same, with_columns};
use tap_dataset::{
    ColumnSet, Columns, Dataset, DatasetError, ManifestError, RowLayout, Sample, ShardReader, Split,
    VerifyOptions, ViewSelection, inspect, report, verify, write_samples,
};

const DEEP: VerifyOptions = VerifyOptions { is_deep: true };
const NUM_ROWS: u64 = 9;

fn layout(columns: Columns) -> RowLayout {
    let has_views = columns.has(ColumnSet::Views);
    RowLayout {
        num_points: 24,
        num_views: if has_views { 2 } else { 0 },
        image_size_px: if has_views { 12 } else { 0 },
        columns,
    }
}

/// Writes rows with these columns, and returns them in row order.
fn write(dir: &Path, columns: Columns) -> Vec<Sample> {
    let layout = layout(columns);
    let rows: Vec<_> = (0..NUM_ROWS)
        .map(|seed| (Split::Train, sample(layout, seed)))
        .collect();
    write_samples(dir, &header(layout), 4, rows.clone()).unwrap();
    let mut rows: Vec<Sample> = rows.into_iter().map(|(_, row)| row).collect();
    rows.sort_by(|a, b| a.id.cmp(&b.id));
    rows
}

/// All rows of a data set.
fn read(dir: &Path) -> Vec<Sample> {
    let dataset = Dataset::open(dir).unwrap();
    let read = |row| {
        dataset
            .read(Split::Train, row, ViewSelection::WithGbuffer)
            .unwrap()
    };
    (0..dataset.len(Split::Train)).map(read).collect()
}

#[test]
fn every_set_of_columns_is_a_whole_dataset() {
    let all = Columns::DEFAULT.with(ColumnSet::GbufferAlbedo);
    let left_out = [
        vec![],
        vec![ColumnSet::GbufferAlbedo],
        vec![ColumnSet::Normals, ColumnSet::Mesh],
        vec![ColumnSet::Views, ColumnSet::Parts],
        vec![ColumnSet::Views, ColumnSet::Normals, ColumnSet::Mesh],
        vec![
            ColumnSet::Views,
            ColumnSet::Normals,
            ColumnSet::Mesh,
            ColumnSet::Parts,
        ],
    ];
    for sets in left_out {
        let columns = sets.iter().fold(all, |columns, &set| columns.without(set));
        let dir = tempfile::tempdir().unwrap();
        let rows = write(dir.path(), columns);
        assert_eq!(read(dir.path()), rows, "without {sets:?}");
        let found = verify(dir.path(), DEEP, &mut |_| {}).unwrap();
        assert!(found.is_ok(), "without {sets:?}: {:?}", found.problems);
        let num_images = layout(columns).num_views * rows.len();
        assert_eq!((found.num_rows, found.num_images), (rows.len(), num_images));
        assert_eq!(inspect(dir.path()).unwrap().layout.columns, columns);
        let report = report(dir.path()).unwrap();
        assert_eq!(
            report.all.coverage_min.is_some(),
            columns.has(ColumnSet::Views),
            "without {sets:?}"
        );
    }
}

#[test]
fn points_and_labels_alone_are_checked_in_full() {
    let columns = Columns::POINTS.with(ColumnSet::Parts);
    let problem = |change: fn(&mut Sample)| {
        let dir = tempfile::tempdir().unwrap();
        let mut row = sample(layout(columns), 0);
        change(&mut row);
        write_samples(dir.path(), &header(layout(columns)), 4, vec![(Split::Train, row)]).unwrap();
        let report = verify(dir.path(), DEEP, &mut |_| {}).unwrap();
        report.problems[0].detail.clone()
    };
    assert!(problem(|row| row.points[0] = [9.0; 3]).contains("unit ball"));
    assert!(problem(|row| row.label = 2).contains("label"));
    assert!(problem(|row| row.part_labels = Some(vec![200; 24])).contains("names no part"));
    assert!(problem(|row| row.source_sha256.clear()).contains("source_sha256"));
}

#[test]
fn a_row_has_what_its_dataset_declares_and_nothing_else() {
    let refusal = |columns, change: fn(&mut Sample)| {
        let dir = tempfile::tempdir().unwrap();
        let mut row = sample(layout(columns), 0);
        change(&mut row);
        let rows = vec![(Split::Train, row)];
        let error = write_samples(dir.path(), &header(layout(columns)), 4, rows).unwrap_err();
        error.to_string()
    };
    let points = Columns::POINTS;
    let default = Columns::DEFAULT;
    assert!(refusal(points, |row| row.normals = Some(row.points.clone())).contains("normals"));
    assert!(refusal(points, |row| row.part_labels = Some(vec![0; 24])).contains("part labels"));
    assert!(refusal(points, |row| row.coverage_min = Some(0.5)).contains("coverage_min"));
    assert!(refusal(default, |row| row.normals = None).contains("no normals"));
    assert!(refusal(default, |row| row.mesh = None).contains("no mesh statistics"));
    assert!(refusal(default, |row| row.views.clear()).contains("0 views instead of 2"));
}

/// Turns a dataset of today into one of an earlier version.
fn make_old(dir: &Path, version: u32, columns: Option<&str>) {
    let describe = |metadata: &mut rewritten::Metadata| {
        metadata.insert("tap.schema_version".to_owned(), version.to_string());
        let mut layout: serde_json::Value = serde_json::from_str(&metadata["tap.layout"]).unwrap();
        set_columns(&mut layout, columns);
        metadata.insert("tap.layout".to_owned(), layout.to_string());
    };
    let of_version_2 = [
        "assets_sha256",
        "num_open_edges",
        "num_non_manifold_edges",
        "num_flipped_edges",
        "num_coincident_triangles",
        "num_degenerate_triangles",
        "is_inside_out",
        "findings",
        "warnings",
    ];
    let change = |batch: RecordBatch| {
        let mut columns = rewritten::columns(&batch);
        columns.retain(|(name, _)| version > 1 || !of_version_2.contains(&name.as_str()));
        with_columns(columns)
    };
    rewrite(dir, &default_properties, &describe, &change);
    edit_manifest(dir, |manifest| {
        manifest["schema_version"] = version.into();
        set_columns(&mut manifest["layout"], columns);
    });
}

fn set_columns(layout: &mut serde_json::Value, columns: Option<&str>) {
    let layout = layout.as_object_mut().unwrap();
    layout.remove("columns");
    if let Some(columns) = columns {
        layout.insert("columns".to_owned(), columns.into());
    }
}

#[test]
fn earlier_versions_are_read() {
    let gbuffer = Columns::DEFAULT.with(ColumnSet::Gbuffer);
    let albedo = Columns::DEFAULT.with(ColumnSet::GbufferAlbedo);
    let cases = [
        (1, Columns::DEFAULT, None),
        (2, Columns::DEFAULT, None),
        (3, Columns::DEFAULT, None),
        (3, Columns::DEFAULT, Some("plain")),
        (3, gbuffer, Some("gbuffer")),
        (3, albedo, Some("gbuffer-with-albedo")),
    ];
    for (version, columns, name) in cases {
        let dir = tempfile::tempdir().unwrap();
        let mut rows = write(dir.path(), columns);
        make_old(dir.path(), version, name);
        if version == 1 {
            for row in &mut rows {
                row.assets_sha256 = None;
                row.mesh.as_mut().unwrap().issues = None;
            }
        } else {
            let report = verify(dir.path(), DEEP, &mut |_| {}).unwrap();
            assert!(report.is_ok(), "version {version}: {:?}", report.problems);
        }
        assert_eq!(read(dir.path()), rows, "version {version}, {name:?}");
        assert_eq!(Dataset::open(dir.path()).unwrap().columns(), columns);
    }
}

#[test]
fn columns_of_a_newer_version_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), Columns::POINTS);
    edit_manifest(dir.path(), |manifest| {
        manifest["layout"]["columns"] = serde_json::json!(["points", "boxes"]);
    });
    let error = Dataset::open(dir.path()).unwrap_err();
    let DatasetError::Manifest(ManifestError::Columns { source, .. }) = error else {
        panic!("{error}")
    };
    assert!(
        source.to_string().contains("boxes") && source.to_string().contains("newer version"),
        "{source}"
    );
}

/// Checks that rows are the same after shards were written again.
fn is_read_after(
    what: &str,
    compression: Compression,
    max_rows: usize,
    describe: fn(&mut rewritten::Metadata),
    change: fn(RecordBatch) -> RecordBatch,
) {
    let dir = tempfile::tempdir().unwrap();
    let rows = write(dir.path(), Columns::DEFAULT.with(ColumnSet::GbufferAlbedo));
    let properties = move || {
        default_properties()
            .set_compression(compression)
            .set_max_row_group_row_count(Some(max_rows))
    };
    rewrite(dir.path(), &properties, &describe, &change);
    assert_eq!(read(dir.path()), rows, "{what}");
    let report = verify(dir.path(), DEEP, &mut |_| {}).unwrap();
    assert!(report.is_ok(), "{what}: {:?}", report.problems);
    let dataset = Dataset::open(dir.path()).unwrap();
    let labels: Vec<i64> = rows.iter().map(|row| row.label).collect();
    assert_eq!(dataset.labels(Split::Train).unwrap(), labels, "{what}");
    inspect(dir.path()).unwrap();
    tap_dataset::report(dir.path()).unwrap();
}

fn keep(_: &mut rewritten::Metadata) {}

#[test]
fn compression_and_row_groups_change_nothing() {
    let gzip = Compression::GZIP(GzipLevel::default());
    let brotli = Compression::BROTLI(BrotliLevel::default());
    let zstd = Compression::ZSTD(ZstdLevel::default());
    for (compression, max_rows) in [
        (Compression::SNAPPY, 1),
        (zstd, 2),
        (gzip, 1000),
        (brotli, 1000),
        (Compression::LZ4_RAW, 3),
    ] {
        is_read_after(&format!("{compression}"), compression, max_rows, keep, same);
    }
}

#[test]
fn other_types_names_and_orders_change_nothing() {
    const PLAIN: Compression = Compression::UNCOMPRESSED;
    let other_types: fn(RecordBatch) -> RecordBatch = |batch| {
        let columns = columns(&batch).into_iter();
        let columns = columns.map(|(name, array)| (name, in_other_types(&array)));
        with_columns(columns)
    };
    is_read_after("types", PLAIN, 1000, keep, other_types);
    is_read_after(
        "no metadata",
        PLAIN,
        1000,
        rewritten::Metadata::clear,
        other_types,
    );
    is_read_after("one more column, in another order", PLAIN, 1000, keep, |batch| {
        let mut columns = columns(&batch);
        columns.reverse();
        let length = Int64Array::from_iter_values(0..batch.num_rows() as i64);
        columns.insert(3, ("caption_length".to_owned(), Arc::new(length)));
        with_columns(columns)
    });
    is_read_after("dictionaries", PLAIN, 1000, keep, |batch| {
        let columns = columns(&batch).into_iter().map(|(name, array)| {
            if name != "category" {
                return (name, array);
            }
            let texts = arrow_array::cast::as_string_array(&array).iter();
            let dictionary: DictionaryArray<Int32Type> = texts.collect();
            (name, Arc::new(dictionary) as ArrayRef)
        });
        with_columns(columns)
    });
}

#[test]
fn statistics_of_floats_are_in_the_order_that_readers_know() {
    let dir = tempfile::tempdir().unwrap();
    let rows = write(dir.path(), Columns::DEFAULT);
    let path = dir.path().join("train-00000-of-00003.parquet");
    let footer = ParquetMetaDataReader::new()
        .parse_and_finish(&File::open(path).unwrap())
        .unwrap();
    let leaves = footer.file_metadata().schema_descr();
    let of = |name: &str| {
        let leaf = (0..leaves.num_columns())
            .find(|&i| leaves.column(i).name() == name)
            .unwrap();
        let statistics = footer.row_group(0).column(leaf).statistics().unwrap().clone();
        (footer.file_metadata().column_order(leaf), statistics)
    };
    let type_defined = ColumnOrder::TYPE_DEFINED_ORDER(SortOrder::SIGNED);
    let areas = rows[..4]
        .iter()
        .map(|row| row.mesh.as_ref().unwrap().surface_area);
    let (order, Statistics::Double(statistics)) = of("surface_area") else {
        panic!("of another type")
    };
    assert_eq!(order, type_defined);
    assert_eq!(statistics.min_opt().copied(), areas.clone().reduce(f64::min));
    assert_eq!(statistics.max_opt().copied(), areas.reduce(f64::max));
    let (order, statistics) = of("coverage_min");
    assert!(order == type_defined && matches!(statistics, Statistics::Float(_)));
}

#[test]
fn a_missing_column_is_named() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), Columns::DEFAULT);
    let change = |batch: RecordBatch| {
        let mut columns = columns(&batch);
        columns.retain(|(name, _)| name != "normals");
        with_columns(columns)
    };
    rewrite(dir.path(), &default_properties, &keep, &change);
    let error = Dataset::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("column normals is missing"), "{error}");
}

#[test]
fn a_shard_without_metadata_is_read_only_as_part_of_its_dataset() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), Columns::POINTS);
    rewrite(
        dir.path(),
        &default_properties,
        &rewritten::Metadata::clear,
        &same,
    );
    let manifest = tap_dataset::Manifest::read(dir.path()).unwrap();
    let path = dir.path().join(&manifest.shards[0].file);
    ShardReader::open(&path).unwrap_err();
    assert_eq!(ShardReader::open_of(&manifest, &path).unwrap().num_rows(), 4);
}

#[cfg(target_os = "linux")]
#[test]
fn few_shards_are_open_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let layout = layout(Columns::POINTS);
    let rows = (0..60).map(|seed| (Split::Train, sample(layout, seed)));
    write_samples(dir.path(), &header(layout), 1, rows.collect()).unwrap();
    let path = dir.path().canonicalize().unwrap();
    let num_open = || {
        let open = std::fs::read_dir("/proc/self/fd").unwrap();
        let targets = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        targets.filter(|target| target.starts_with(&path)).count()
    };
    let dataset = Dataset::open(dir.path()).unwrap();
    for row in (0..60).chain((0..60).rev()) {
        dataset.read(Split::Train, row, ViewSelection::None).unwrap();
        assert!((1..20).contains(&num_open()), "{} files", num_open());
    }
    drop(dataset);
    assert_eq!(num_open(), 0);
}
