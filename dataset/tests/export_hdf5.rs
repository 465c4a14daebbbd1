//! Rows that are exported as HDF5 and imported again.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use fixture::{header, sample};
use glam::{Mat4, Vec3};
use tap_dataset::{
    Columns, Dataset, ExportFormat, ExportOptions, ImportOptions, ImportSet, ObjectId, RowLayout, Sample,
    ShardHeader, Split, ViewSelection, export, import, write_samples,
};
use tempfile::TempDir;

const LAYOUT: RowLayout = RowLayout {
    num_points: 16,
    num_views: 0,
    image_size_px: 0,
    columns: Columns::POINTS,
};

/// Writes rows of these classes as shards, exports them, and imports the export.
fn round_trip(
    dir: &Path,
    classes: [&str; 3],
    splits: &[(Split, u64)],
    format: ExportFormat,
    set: ImportSet,
) -> [Dataset; 2] {
    let header = ShardHeader {
        classes: classes.map(str::to_owned).to_vec(),
        ..header(LAYOUT)
    };
    let row = |(seed, split)| {
        let row = sample(LAYOUT, seed);
        let category = classes[row.label as usize];
        let id = ObjectId::try_new(category, row.id.name()).unwrap();
        let category = category.to_owned();
        (split, Sample { id, category, ..row })
    };
    let in_splits = splits
        .iter()
        .flat_map(|&(split, num_rows)| (0..num_rows).map(move |_| split));
    let rows = (0..).zip(in_splits).map(row).collect();
    write_samples(&dir.join("shards"), &header, 500, rows).unwrap();
    let shards = Dataset::open(&dir.join("shards")).unwrap();
    let options = ExportOptions {
        format,
        out: dir.join("export"),
        force: false,
        rows_per_tar: 1,
        workers: 0,
    };
    export(&shards, &options, &AtomicBool::new(false), &mut |_| {})
        .unwrap()
        .unwrap();
    let options = ImportOptions {
        allow_incomplete: true,
        ..ImportOptions::new(set, dir.join("export"), dir.join("again"))
    };
    import(&options, &AtomicBool::new(false), &mut |_| {})
        .unwrap()
        .unwrap();
    [shards, Dataset::open(&dir.join("again")).unwrap()]
}

fn rows(dataset: &Dataset, split: Split) -> Vec<Sample> {
    let read = |row| dataset.read(split, row, ViewSelection::None).unwrap();
    (0..dataset.len(split)).map(read).collect()
}

/// Rows have no name in these files: imported ones are called by their place in the split.
#[track_caller]
fn assert_same([shards, again]: &[Dataset; 2], split: Split) {
    let exported = rows(shards, split);
    let mut imported = rows(again, split);
    imported.sort_by_key(|row| row.id.name().rsplit('-').next().unwrap().parse::<u32>().unwrap());
    assert_eq!(imported.len(), exported.len(), "{split}");
    for (exported, imported) in exported.iter().zip(&imported) {
        assert_eq!(imported.category, exported.category, "{}", exported.id);
        let object_from_source = Mat4::from_cols_array(&imported.object_from_mesh).transpose();
        let source_from_object = object_from_source.inverse();
        for (imported, exported_point) in imported.points.iter().zip(&exported.points) {
            let point = source_from_object.transform_point3(Vec3::from_array(*imported));
            let is_same = point.abs_diff_eq(Vec3::from_array(*exported_point), 1e-4);
            assert!(is_same, "{}: {point} is not {exported_point:?}", exported.id);
        }
    }
}

#[test]
fn more_rows_than_a_file_takes_go_into_several() {
    let dir = TempDir::new().unwrap();
    let splits = [(Split::Train, 2 * 2048 + 3), (Split::Test, 5)];
    let set = ImportSet::Modelnet40;
    let datasets = round_trip(
        dir.path(),
        ["bed", "desk", "lamp"],
        &splits,
        ExportFormat::H5,
        set,
    );
    let list = |name: &str| fs::read_to_string(dir.path().join("export").join(name)).unwrap();
    assert_eq!(
        list("train_files.txt"),
        "ply_data_train0.h5\nply_data_train1.h5\nply_data_train2.h5\n"
    );
    assert_eq!(list("test_files.txt"), "ply_data_test0.h5\n");
    for split in [Split::Train, Split::Test] {
        assert_same(&datasets, split);
    }
}

#[test]
fn files_like_those_of_scanobjectnn_are_imported_like_them() {
    let dir = TempDir::new().unwrap();
    let splits = [(Split::Train, 7), (Split::Test, 4)];
    // Its files have labels without names, so the classes have to be those of ScanObjectNN, in its order.
    let classes = ["bag", "bin", "box"];
    let set = ImportSet::Scanobjectnn;
    let datasets = round_trip(dir.path(), classes, &splits, ExportFormat::H5Scanobjectnn, set);
    for split in [Split::Train, Split::Test] {
        assert_same(&datasets, split);
    }
}
