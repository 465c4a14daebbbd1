//! Imports of published sets, on files of our own in each of their layouts: those of h5py and pickle from
//! `tests/published` (`make.py` writes them), the others written here.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod boxes;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use glam::{Mat4, Vec3};
use hdf5_writer::{DatasetBuilder, Hdf5Builder, WriteOptions};
use tap_dataset::{
    Dataset, DatasetError, EpisodeOptions, ImportEvent, ImportOptions, ImportReport, ImportSet, Manifest,
    Sample, Split, VerifyOptions, ViewSelection, decode_gray_png, import, verify,
};
use tempfile::TempDir;

/// Files that h5py and pickle wrote.
fn published(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/published")
        .join(name)
}

/// An import of an incomplete set, which all small ones are.
fn options(set: ImportSet, src: impl Into<PathBuf>, dir: &TempDir) -> ImportOptions {
    ImportOptions {
        allow_incomplete: true,
        rows_per_shard: 3,
        ..ImportOptions::new(set, src, dir.path().join("out"))
    }
}

fn run(options: &ImportOptions) -> Result<Vec<ImportReport>, DatasetError> {
    let mut on_event = |_: ImportEvent| {};
    Ok(import(options, &AtomicBool::new(false), &mut on_event)?.unwrap())
}

/// The only data set of an import, verified.
#[track_caller]
fn imported(options: &ImportOptions) -> (ImportReport, Dataset) {
    let mut reports = run(options).unwrap();
    assert_eq!(reports.len(), 1, "one data set");
    (reports.remove(0), verified(&options.out))
}

/// A data set in which there is no problem.
#[track_caller]
fn verified(out: &Path) -> Dataset {
    let verified = verify(out, VerifyOptions { is_deep: true }, &mut |_| {}).unwrap();
    assert_eq!(verified.problems, []);
    Dataset::open(out).unwrap()
}

/// The error of an import, which leaves nothing.
#[track_caller]
fn refused(options: &ImportOptions) -> String {
    let error = run(options).unwrap_err();
    assert!(!options.out.exists(), "nothing is left of what was refused");
    let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
    let text = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
    assert!(!text.contains('\n'), "{text}");
    text
}

fn rows(dataset: &Dataset, split: Split) -> Vec<Sample> {
    let read = |row| dataset.read(split, row, ViewSelection::None).unwrap();
    (0..dataset.len(split)).map(read).collect()
}

/// Ids of all rows.
fn ids(dataset: &Dataset) -> Vec<String> {
    let of_split = |split| dataset.ids(split).unwrap();
    Split::ALL
        .into_iter()
        .flat_map(of_split)
        .map(String::from)
        .collect()
}

/// Points in the coordinates of the source.
fn source_points(sample: &Sample) -> Vec<Vec3> {
    let object_from_source = Mat4::from_cols_array(&sample.object_from_mesh).transpose();
    let source_from_object = object_from_source.inverse();
    sample
        .points
        .iter()
        .map(|&point| source_from_object.transform_point3(Vec3::from_array(point)))
        .collect()
}

#[track_caller]
fn assert_points(sample: &Sample, expected: impl Fn(usize) -> Vec3) {
    for (i, point) in source_points(sample).into_iter().enumerate() {
        let expected = expected(i);
        assert!(
            point.abs_diff_eq(expected, 1e-4),
            "{}: point {i} is {point}, not {expected}",
            sample.id
        );
    }
}

/// `import.is_whole` and the like.
fn recipe(dataset: &Dataset, key: &str) -> serde_json::Value {
    dataset.manifest().recipe["import"][key].clone()
}

/// A point of the clouds that are written here.
fn point(label: usize, number: usize, i: usize) -> Vec3 {
    let i = i as f32;
    Vec3::new(
        label as f32 + (0.7 * i).sin(),
        2.0 + 0.1 * i,
        number as f32 + (1.3 * i).cos(),
    )
}

fn write(path: &Path, content: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// An HDF5 file of clouds with these labels.
fn write_h5(path: &Path, labels: &[u8], num_points: usize, change: impl Fn(&mut Vec<f32>)) {
    let cloud = |(number, &label): (usize, &u8)| {
        (0..num_points).flat_map(move |i| point(usize::from(label), number, i).to_array())
    };
    let mut points: Vec<f32> = labels.iter().enumerate().flat_map(cloud).collect();
    change(&mut points);
    let shape = vec![labels.len() as u64, num_points as u64, 3];
    let file = Hdf5Builder::new()
        .dataset(DatasetBuilder::typed_data("data", shape, &points).unwrap())
        .dataset(DatasetBuilder::typed_data("label", vec![labels.len() as u64], labels).unwrap());
    write(
        path,
        file.into_plan().unwrap().encode(WriteOptions::default()).unwrap(),
    );
}

#[test]
fn scanobjectnn_is_read_in_each_variant_and_layout() {
    let root = published("scanobjectnn");
    // With the folder `h5_files`, without it, and from the split's own folder.
    let layouts = [
        ("OBJ_BG", root.clone()),
        ("OBJ_ONLY", root.join("h5_files")),
        ("pb_t50_rs", root.join("h5_files/main_split")),
    ];
    let mut all = Vec::new();
    for (variant, src) in layouts {
        let dir = tempfile::tempdir().unwrap();
        let options = ImportOptions {
            variant: Some(variant.to_owned()),
            ..options(ImportSet::Scanobjectnn, src, &dir)
        };
        let (report, dataset) = imported(&options);
        assert_eq!(report.variant, variant.to_uppercase());
        assert_eq!(
            (dataset.num_points(), report.has_normals, report.classes.len()),
            (16, false, 15)
        );
        assert_eq!(
            ids(&dataset),
            [
                "bag/train-00001",
                "chair/train-00000",
                "chair/train-00003",
                "table/train-00004",
                "toilet/train-00002",
                "bin/test-00002",
                "chair/test-00000",
                "table/test-00001",
            ]
        );
        assert_eq!(
            recipe(&dataset, "source_classes")[14],
            "toilet",
            "the source's labels are known"
        );
        assert!(
            !report.is_whole && report.missing[0].contains("train objects where"),
            "{report:?}"
        );
        all.push((dataset, dir));
    }
    // Singles, big-endian singles and doubles in chunks hold the same clouds.
    for split in [Split::Train, Split::Test] {
        let [plain, newest, shifted] = [0, 1, 2].map(|variant| rows(&all[variant].0, split));
        for ((plain, newest), shifted) in plain.iter().zip(&newest).zip(&shifted) {
            let points = source_points(plain);
            assert_points(newest, |i| points[i]);
            assert_points(shifted, |i| points[i] + 0.5);
        }
    }
    let left_out = {
        let dir = tempfile::tempdir().unwrap();
        let options = ImportOptions {
            variant: Some("OBJ_BG".to_owned()),
            ..options(ImportSet::Scanobjectnn, &root, &dir)
        };
        let mut notes = Vec::new();
        import(&options, &AtomicBool::new(false), &mut |event| {
            if let ImportEvent::Note(note) = event {
                notes.push(note);
            }
        })
        .unwrap();
        notes.join("\n")
    };
    assert!(left_out.contains("mask"), "what is not taken is said: {left_out}");
}

#[test]
fn one_variant_of_several_has_to_be_chosen() {
    let dir = tempfile::tempdir().unwrap();
    let error = refused(&options(ImportSet::Scanobjectnn, published("scanobjectnn"), &dir));
    assert!(
        error.contains("OBJ_BG, PB_T50_RS, OBJ_ONLY") && error.contains("--variant"),
        "{error}"
    );
    let with_variant = |variant: &str| ImportOptions {
        variant: Some(variant.to_owned()),
        ..options(ImportSet::Scanobjectnn, published("scanobjectnn"), &dir)
    };
    let error = refused(&with_variant("PB_T51"));
    assert!(
        error.contains("no variant \"PB_T51\"") && error.contains("PB_T50_RS"),
        "{error}"
    );
    let error = refused(&with_variant("PB_T25"));
    assert!(
        error.contains("training_objectdataset_augmented25_norot.h5") && error.contains("authors"),
        "{error}"
    );
}

/// The copy is recognized by its numbers, whatever it is called; one object less is not it.
#[test]
fn a_whole_set_is_recognized_and_an_incomplete_one_says_so_ever_after() {
    let dir = tempfile::tempdir().unwrap();
    let src = dir.path().join("main_split");
    let labels = |num: usize| -> Vec<u8> { (0..num).map(|i| (i % 15) as u8).collect() };
    write_h5(&src.join("training_objectdataset.h5"), &labels(2309), 4, |_| ());
    write_h5(&src.join("test_objectdataset.h5"), &labels(581), 4, |_| ());
    let strict = ImportOptions {
        allow_incomplete: false,
        rows_per_shard: 512,
        ..options(ImportSet::Scanobjectnn, &src, &dir)
    };
    let (report, dataset) = imported(&strict);
    assert_eq!(report.publication.as_deref(), Some("ScanObjectNN OBJ_BG"));
    assert!(report.is_whole && report.missing.is_empty(), "{report:?}");
    assert_eq!(recipe(&dataset, "publication"), "ScanObjectNN OBJ_BG");
    assert_eq!((dataset.len(Split::Train), dataset.len(Split::Test)), (2309, 581));
    let first = &rows(&dataset, Split::Train)[0];
    assert_eq!(first.id.as_str(), "bag/train-00000");
    assert_points(first, |i| point(0, 0, i));

    fs::remove_dir_all(&strict.out).unwrap();
    write_h5(&src.join("test_objectdataset.h5"), &labels(580), 4, |_| ());
    let error = refused(&strict);
    assert!(
        error.contains("580 test objects where 581 were published") && error.contains("--allow-incomplete"),
        "{error}"
    );
    let taken = ImportOptions {
        allow_incomplete: true,
        ..strict
    };
    let (report, dataset) = imported(&taken);
    assert!(report.publication.is_none() && !report.is_whole, "{report:?}");
    assert_eq!(recipe(&dataset, "is_whole"), false);
    let said = dataset.manifest().source.publication.clone().unwrap();
    assert!(said.contains("not whole: 580 test objects"), "{said}");
}

#[test]
fn objects_that_are_no_rows_are_named_and_left_out_only_if_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let src = dir.path().join("main_split");
    let path = src.join("training_objectdataset.h5");
    write_h5(&path, &[0, 15, 2, 3], 4, |points| {
        points[2 * 12 + 3 + 1] = f32::NAN;
    });
    let strict = ImportOptions {
        allow_incomplete: false,
        ..options(ImportSet::Scanobjectnn, &src, &dir)
    };
    let error = refused(&strict);
    for part in [
        "label 15 is none of 0 to 14",
        "#1",
        "box/train-00002: point 1 is not finite",
        "#2",
    ] {
        assert!(error.contains(part), "{part} is missing: {error}");
    }
    let (_, dataset) = imported(&ImportOptions {
        allow_incomplete: true,
        ..strict
    });
    assert_eq!(ids(&dataset), ["bag/train-00000", "cabinet/train-00003"]);
    let skipped = &dataset.manifest().skipped;
    let reasons: Vec<String> = skipped.iter().map(|skipped| skipped.reason.to_string()).collect();
    assert_eq!(reasons, ["non-finite", "malformed"], "{skipped:?}");
}

#[test]
fn damaged_files_are_one_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let src = dir.path().join("main_split");
    let path = src.join("training_objectdataset.h5");
    write_h5(&path, &[0, 1, 2, 3], 64, |_| ());
    let whole = fs::read(&path).unwrap();
    let options = options(ImportSet::Scanobjectnn, &src, &dir);
    let damaged: [&[u8]; 5] = [
        &whole[..whole.len() / 2],
        &whole[..100],
        &whole[..4],
        b"",
        b"version https://git-lfs",
    ];
    for bytes in damaged {
        fs::write(&path, bytes).unwrap();
        let error = refused(&options);
        assert!(error.contains("training_objectdataset.h5"), "{error}");
    }
    // Labels that are not those of the points.
    let labels = DatasetBuilder::typed_data("label", vec![3], &[0_u8, 1, 2]).unwrap();
    let points = DatasetBuilder::typed_data("data", vec![2, 2, 3], &[0.5_f32; 12]).unwrap();
    let plan = Hdf5Builder::new()
        .dataset(points)
        .dataset(labels)
        .into_plan()
        .unwrap();
    fs::write(&path, plan.encode(WriteOptions::default()).unwrap()).unwrap();
    let error = refused(&options);
    assert!(
        error.contains("label") && error.contains("[3]") && error.contains("expected 2 rows"),
        "{error}"
    );
}

#[test]
fn an_import_is_resumed_and_its_bytes_depend_on_no_thread() {
    let dir = tempfile::tempdir().unwrap();
    let src = published("hdf5_data").parent().unwrap().to_owned();
    let manifest = |workers, out: &str| {
        let options = ImportOptions {
            workers,
            out: dir.path().join(out),
            ..options(ImportSet::Shapenetpart, &src, &dir)
        };
        run(&options).unwrap();
        fs::read(options.out.join("_manifest.json")).unwrap()
    };
    assert_eq!(manifest(1, "one"), manifest(4, "four"));
    // A shard that is lost is written again, the others are kept.
    let shard = dir.path().join("one/train-00000-of-00001.parquet");
    let bytes = fs::read(&shard).unwrap();
    fs::remove_file(&shard).unwrap();
    manifest(2, "one");
    assert_eq!(fs::read(&shard).unwrap(), bytes);
    // Another set in the folder is not overwritten.
    let other = ImportOptions {
        out: dir.path().join("one"),
        variant: Some("OBJ_BG".to_owned()),
        ..options(ImportSet::Scanobjectnn, published("scanobjectnn"), &dir)
    };
    run(&other).unwrap_err();
    run(&ImportOptions { force: true, ..other }).unwrap();
}

#[test]
fn a_cancelled_import_writes_nothing_or_is_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(ImportSet::Shapenetpart, published("."), &dir);
    let cancel = AtomicBool::new(false);
    let mut on_event = |event: ImportEvent| {
        if event == ImportEvent::Written {
            cancel.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    };
    assert_eq!(import(&options, &cancel, &mut on_event).unwrap(), None);
    assert!(!Manifest::read(&options.out).unwrap().is_complete());
    imported(&options);
}

#[test]
fn modelnet40_as_hdf5_has_normals() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(ImportSet::Modelnet40, published("."), &dir);
    let (report, dataset) = imported(&ImportOptions {
        variant: Some("h5".to_owned()),
        ..options
    });
    assert!(report.has_normals && report.format == "h5", "{report:?}");
    assert_eq!(
        ids(&dataset),
        [
            "airplane/train-00000",
            "chair/train-00001",
            "chair/train-00003",
            "xbox/train-00002",
            "airplane/test-00001",
            "chair/test-00000"
        ]
    );
    for sample in rows(&dataset, Split::Train) {
        // Points of a sphere that is stretched: the normal leads from the center.
        let label = ["airplane", "chair", "xbox"]
            .iter()
            .position(|class| *class == sample.category);
        let label = [0.0, 8.0, 39.0][label.unwrap()];
        let normals = sample.normals.as_ref().unwrap();
        for (point, normal) in source_points(&sample).into_iter().zip(normals) {
            let normal = Vec3::from_array(*normal);
            assert!(
                (point.x - label - normal.x * (1.0 + 0.1 * label)).abs() < 1e-3,
                "{point} {normal}"
            );
        }
    }
}

/// A folder of the resampled text files; `separator` is a comma as published.
fn write_resampled(root: &Path, lists: &str, objects: &[(&str, Split)], separator: &str) {
    let classes = objects.iter().map(|(name, _)| name.rsplit_once('_').unwrap().0);
    let classes: Vec<&str> = classes.collect::<BTreeSet<_>>().into_iter().collect();
    write(&root.join(format!("{lists}_shape_names.txt")), classes.join("\n"));
    for split in [Split::Train, Split::Test] {
        let names = objects
            .iter()
            .filter(|(_, of)| *of == split)
            .map(|(name, _)| *name);
        write(
            &root.join(format!("{lists}_{split}.txt")),
            names.collect::<Vec<_>>().join("\r\n"),
        );
    }
    for (number, (name, _)) in objects.iter().enumerate() {
        let class = name.rsplit_once('_').unwrap().0;
        let label = classes.iter().position(|other| *other == class).unwrap();
        let line = |i| {
            let numbers = point(label, number, i)
                .to_array()
                .into_iter()
                .chain([0.0, 0.6, -0.8]);
            numbers
                .map(|number| format!("{number:.6}"))
                .collect::<Vec<_>>()
                .join(separator)
        };
        // Of different lengths.
        let lines: Vec<String> = (0..20 + number).map(line).collect();
        write(&root.join(class).join(format!("{name}.txt")), lines.join("\n"));
    }
}

const OBJECTS: [(&str, Split); 4] = [
    ("night_stand_0001", Split::Train),
    ("bed_0002", Split::Train),
    ("bed_0515", Split::Test),
    ("night_stand_0200", Split::Test),
];

#[test]
fn modelnet40_as_text_keeps_every_point() {
    for separator in [",", " "] {
        let dir = tempfile::tempdir().unwrap();
        let src = dir.path().join("modelnet40_normal_resampled");
        write_resampled(&src, "modelnet40", &OBJECTS, separator);
        let (report, dataset) = imported(&options(ImportSet::Modelnet40, dir.path(), &dir));
        assert_eq!((report.num_points, report.num_padded_rows), (23, 3));
        assert_eq!(
            ids(&dataset),
            [
                "bed/bed_0002",
                "night_stand/night_stand_0001",
                "bed/bed_0515",
                "night_stand/night_stand_0200"
            ]
        );
        let bed = &rows(&dataset, Split::Train)[0];
        assert_points(bed, |i| point(0, 1, i % 21));
        let normal = Vec3::from_array(bed.normals.as_ref().unwrap()[0]);
        assert!(normal.abs_diff_eq(Vec3::new(0.0, 0.6, -0.8), 1e-6), "{normal}");
        let file = fs::read(src.join("bed/bed_0002.txt")).unwrap();
        assert_eq!(bed.source_sha256, tap_dataset::sha256::of_bytes(file));
        assert_eq!(recipe(&dataset, "num_points_min"), 20);
    }
}

#[test]
fn wrong_text_is_named_by_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    write_resampled(dir.path(), "modelnet40", &OBJECTS, ",");
    write(
        &dir.path().join("modelnet40_train.txt"),
        "bed_0002\n../../etc/passwd_1\nsofa_0001\nbed_0003\nnight_stand_0001",
    );
    write(&dir.path().join("bed/bed_0002.txt"), "1,2,3,0,1,0\n1,2,3,0,1\n");
    let strict = ImportOptions {
        allow_incomplete: false,
        ..options(ImportSet::Modelnet40, dir.path(), &dir)
    };
    let error = refused(&strict);
    assert!(
        error.contains("and 2 more"),
        "the first are listed, the others counted: {error}"
    );
    let (_, dataset) = imported(&ImportOptions {
        allow_incomplete: true,
        ..strict
    });
    let skipped: Vec<String> = dataset
        .manifest()
        .skipped
        .iter()
        .map(|skipped| format!("{}: {}, {}", skipped.id, skipped.reason, skipped.message))
        .collect();
    assert_eq!(
        skipped,
        [
            "../../etc/passwd_1: invalid-id, modelnet40_train.txt names an object of none of the classes",
            "bed/bed_0002: malformed, line 2 has 5 numbers instead of 6",
            "bed/bed_0003: missing, its file is not there",
            "sofa_0001: invalid-id, modelnet40_train.txt names an object of none of the classes",
        ]
    );
}

#[test]
fn meshes_are_for_builds() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("chair/train/chair_0001.off"), "OFF\n0 0 0\n");
    let error = refused(&options(ImportSet::Modelnet40, dir.path(), &dir));
    assert!(
        error.contains("tap dataset build SRC --layout modelnet"),
        "{error}"
    );
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    for set in [
        ImportSet::Scanobjectnn,
        ImportSet::Modelnet40,
        ImportSet::Shapenetpart,
        ImportSet::Shapenet55,
        ImportSet::Fewshot,
    ] {
        let error = refused(&options(set, &empty, &dir));
        assert!(
            error.contains("expected") && error.contains("come"),
            "what to obtain, and from whom: {error}"
        );
    }
    let error = refused(&options(ImportSet::Modelnet40, dir.path().join("nowhere"), &dir));
    assert!(error.contains("nowhere"), "{error}");
}

#[test]
fn pickles_are_read_in_every_protocol() {
    let mut hashes = Vec::new();
    for protocol in [2, 3, 4, 5] {
        let dir = tempfile::tempdir().unwrap();
        let (report, dataset) = imported(&options(
            ImportSet::Modelnet40,
            published(&format!("dat{protocol}")),
            &dir,
        ));
        assert_eq!(
            (report.format.as_str(), report.num_points, report.has_normals),
            ("dat", 176, true)
        );
        assert_eq!(
            ids(&dataset),
            [
                "airplane/train-00000",
                "chair/train-00001",
                "chair/train-00003",
                "xbox/train-00002",
                "airplane/test-00001",
                "chair/test-00000"
            ]
        );
        assert_eq!(recipe(&dataset, "source_classes")[39], "xbox");
        hashes.push(
            rows(&dataset, Split::Train)
                .iter()
                .map(|row| row.digest().points_sha256)
                .collect::<Vec<_>>(),
        );
    }
    assert!(
        hashes.iter().all(|hash| *hash == hashes[0]),
        "the same rows from each"
    );
}

#[test]
fn a_pickle_that_would_run_something_runs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let error = refused(&options(ImportSet::Modelnet40, published("hostile"), &dir));
    assert!(
        error.contains("object 2") && error.contains("posix.system"),
        "{error}"
    );
    assert!(!Path::new("executed").exists(), "and nothing was");
    let cut = fs::read(published("dat4/modelnet40_train_8192pts_fps.dat")).unwrap();
    for len in [cut.len() - 1, cut.len() / 2, 20, 0] {
        write(&dir.path().join("modelnet40_train_8192pts_fps.dat"), &cut[..len]);
        let error = refused(&options(ImportSet::Modelnet40, dir.path(), &dir));
        assert!(error.contains("modelnet40_train_8192pts_fps.dat"), "{error}");
    }
}

#[test]
fn fewshot_pickles_become_a_data_set_an_episode() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(ImportSet::Fewshot, published("fewshot"), &dir);
    let strict = ImportOptions {
        allow_incomplete: false,
        ..options.clone()
    };
    let error = refused(&strict);
    assert!(
        error.contains("5way_10shot/2.pkl") && error.contains("5way_10shot/9.pkl"),
        "{error}"
    );
    let reports = run(&options).unwrap();
    let outs: Vec<&Path> = reports
        .iter()
        .map(|report| report.out.strip_prefix(&options.out).unwrap())
        .collect();
    assert_eq!(outs, [Path::new("5way_10shot/0"), Path::new("5way_10shot/1")]);
    for report in &reports {
        let dataset = verified(&report.out);
        assert_eq!(
            dataset.classes(),
            ["airplane", "chair", "xbox"],
            "of the episode, by their names"
        );
        assert_eq!(
            ids(&dataset),
            [
                "airplane/train-000",
                "chair/train-001",
                "chair/train-003",
                "xbox/train-002",
                "airplane/test-001",
                "chair/test-000"
            ]
        );
        let difference = &report.missing[0];
        assert!(
            difference.contains("4 training and 2 test objects of 3 classes instead of 50 training and 100"),
            "{difference}"
        );
    }
}

#[test]
fn episodes_are_drawn_from_an_imported_set() {
    let dir = tempfile::tempdir().unwrap();
    let src = dir.path().join("src");
    let names: Vec<(String, Split)> = ["bed", "desk", "sofa"]
        .iter()
        .flat_map(|class| {
            let train = (0..4).map(move |i| (format!("{class}_{i:04}"), Split::Train));
            train.chain((4..7).map(move |i| (format!("{class}_{i:04}"), Split::Test)))
        })
        .collect();
    let names: Vec<(&str, Split)> = names
        .iter()
        .map(|(name, split)| (name.as_str(), *split))
        .collect();
    write_resampled(&src, "modelnet40", &names, ",");
    let modelnet = dir.path().join("modelnet");
    run(&ImportOptions {
        out: modelnet.clone(),
        ..options(ImportSet::Modelnet40, &src, &dir)
    })
    .unwrap();
    let draw = ImportOptions {
        episodes: EpisodeOptions {
            ways: vec![2],
            shots: vec![1, 3],
            folds: 2,
            num_test: 3,
            seed: 7,
        },
        ..options(ImportSet::Fewshot, &modelnet, &dir)
    };
    let reports = run(&draw).unwrap();
    assert_eq!(reports.len(), 4, "two settings, two folds");
    for (report, shots) in reports.iter().zip([1, 1, 3, 3]) {
        let dataset = verified(&report.out);
        assert_eq!(
            (
                dataset.classes().len(),
                dataset.len(Split::Train),
                dataset.len(Split::Test)
            ),
            (2, 2 * shots, 6)
        );
        assert!(!report.is_whole, "what it is drawn from is not whole");
    }
    let too_many = ImportOptions {
        episodes: EpisodeOptions {
            shots: vec![5],
            ..draw.episodes.clone()
        },
        out: dir.path().join("other"),
        ..draw
    };
    let error = refused(&too_many);
    assert!(
        error.contains("5 train objects of a class are asked for, the data set has 4"),
        "{error}"
    );
}

#[test]
fn shapenetpart_as_hdf5_has_parts() {
    let dir = tempfile::tempdir().unwrap();
    let (report, dataset) = imported(&options(ImportSet::Shapenetpart, published("."), &dir));
    assert_eq!(
        (report.num_parts, report.classes.len(), report.has_normals),
        (50, 16, false)
    );
    let chair = &rows(&dataset, Split::Val)[0];
    let expected: Vec<u8> = (0..16).map(|i| 12 + i % 3).collect();
    assert_eq!(
        (chair.id.as_str(), chair.part_labels.as_ref()),
        ("Chair/val-00000", Some(&expected))
    );
    let part = &dataset.manifest().parts[12];
    assert_eq!((part.category.as_str(), part.name.as_str()), ("Chair", "part 0"));
}

/// The text layout with its lists; returns the folder.
fn write_shapenetpart(root: &Path, objects: &[(&str, &str, u8, Split)]) {
    for split in Split::ALL {
        let names = objects.iter().filter(|object| object.3 == split);
        let names: Vec<String> = names
            .map(|(synset, name, ..)| format!("shape_data/{synset}/{name}"))
            .collect();
        let list = root.join(format!("train_test_split/shuffled_{split}_file_list.json"));
        write(&list, serde_json::to_string(&names).unwrap());
    }
    write(
        &root.join("synsetoffset2category.txt"),
        "Airplane\t02691156\nMug\t03797390\n",
    );
    for (number, (synset, name, first_part, _)) in objects.iter().enumerate() {
        let line = |i: usize| {
            let [x, y, z] = point(1, number, i).to_array();
            format!(
                "{x:.6} {y:.6} {z:.6} 0 1 0 {}.000000",
                usize::from(*first_part) + i % 2
            )
        };
        let lines: Vec<String> = (0..30 - number).map(line).collect();
        write(&root.join(synset).join(format!("{name}.txt")), lines.join("\n"));
    }
}

#[test]
fn shapenetpart_as_text_has_normals_and_parts() {
    let objects = [
        ("02691156", "1a04e3", 0, Split::Train),
        ("03797390", "1a1c0a", 36, Split::Train),
        ("03797390", "ffff00", 36, Split::Val),
        ("02691156", "10155a", 2, Split::Test),
    ];
    let dir = tempfile::tempdir().unwrap();
    let root = dir
        .path()
        .join("shapenetcore_partanno_segmentation_benchmark_v0_normal");
    write_shapenetpart(&root, &objects);
    let (report, dataset) = imported(&options(ImportSet::Shapenetpart, dir.path(), &dir));
    assert_eq!(
        (report.num_parts, report.num_points, report.num_padded_rows),
        (50, 30, 3)
    );
    assert_eq!(
        ids(&dataset),
        ["Airplane/1a04e3", "Mug/1a1c0a", "Mug/ffff00", "Airplane/10155a"]
    );
    let mug = &rows(&dataset, Split::Train)[1];
    assert_points(mug, |i| point(1, 1, i % 29));
    let expected: Vec<u8> = (0..30).map(|i| 36 + (i % 29 % 2) as u8).collect();
    assert_eq!(
        mug.part_labels.as_ref(),
        Some(&expected),
        "repeated with the points"
    );

    // A part of another class, and one that is none.
    for (line, said) in [
        ("0 0 0 0 1 0 4", "part label 4 is none of Airplane"),
        ("0 0 0 0 1 0 0.5", "0.5 is no part label"),
    ] {
        let out = dir.path().join("refused");
        write(
            &root.join("02691156/10155a.txt"),
            format!("1 0 0 0 1 0 2\n{line}\n"),
        );
        let error = refused(&ImportOptions {
            allow_incomplete: false,
            out,
            ..options(ImportSet::Shapenetpart, &root, &dir)
        });
        assert!(error.contains(said), "{error}");
    }
}

/// An array of numpy, version 1.0, of points x 3.
fn npy(kind: &str, points: &[Vec3]) -> Vec<u8> {
    let header = format!(
        "{{'descr': '{kind}', 'fortran_order': False, 'shape': ({}, 3), }}",
        points.len()
    );
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    for number in points.iter().flat_map(Vec3::to_array) {
        match kind {
            "<f4" => bytes.extend(number.to_le_bytes()),
            _ => bytes.extend(f64::from(number).to_be_bytes()),
        }
    }
    bytes
}

#[test]
fn shapenet55_is_read_by_its_lists() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("ShapeNet55-34");
    let files = [
        "02691156-1a04e3",
        "02691156-1a6ad7",
        "04379243-ffe-02",
        "03001627-aa",
    ];
    for (number, name) in files.iter().enumerate() {
        let points: Vec<Vec3> = (0..12).map(|i| point(2, number, i)).collect();
        let kind = if number == 1 { ">f8" } else { "<f4" };
        write(
            &root.join("shapenet_pc").join(format!("{name}.npy")),
            npy(kind, &points),
        );
    }
    let list = |names: &[&str]| names.join(".npy\n") + ".npy\n";
    write(&root.join("ShapeNet-55/train.txt"), list(&files[..3]));
    write(&root.join("ShapeNet-55/test.txt"), list(&files[3..]));
    write(
        &root.join("shapenet_synset_dict.json"),
        r#"{"02691156": "airplane", "04379243": "table"}"#,
    );
    let (report, dataset) = imported(&options(ImportSet::Shapenet55, dir.path(), &dir));
    assert_eq!(
        (report.variant.as_str(), report.num_points, report.has_normals),
        ("ShapeNet-55", 12, false)
    );
    assert_eq!(
        ids(&dataset),
        [
            "airplane/1a04e3",
            "airplane/1a6ad7",
            "table/ffe-02",
            "03001627/aa"
        ],
        "by name, or by synset where no name is known"
    );
    for (number, row) in rows(&dataset, Split::Train).iter().enumerate() {
        assert_points(row, |i| point(2, number, i));
    }
    write(&root.join("ShapeNet-34/train.txt"), list(&files));
    let out = dir.path().join("other");
    let error = refused(&ImportOptions {
        out: out.clone(),
        ..options(ImportSet::Shapenet55, &root, &dir)
    });
    assert!(error.contains("ShapeNet-55, ShapeNet-34"), "{error}");
    fs::write(root.join("shapenet_pc/03001627-aa.npy"), b"\x93NUMPY\x01\x00").unwrap();
    let error = refused(&ImportOptions {
        out,
        allow_incomplete: false,
        variant: Some("ShapeNet-55".to_owned()),
        ..options(ImportSet::Shapenet55, &root, &dir)
    });
    assert!(
        error.contains("03001627/aa") && error.contains("03001627-aa.npy"),
        "{error}"
    );
}

/// Rendered views as the finished pictures of MVCNN, with the points in coordinates of their own.
fn write_pictures(
    root: &Path,
    built: &Dataset,
    file: impl Fn(Split, &Sample, usize) -> String,
    quality: Option<u8>,
) {
    for split in Split::ALL {
        for row in 0..built.len(split) {
            let sample = built.read(split, row, ViewSelection::All).unwrap();
            for (view_idx, view) in sample.views.iter().enumerate() {
                let path = root.join(file(split, &sample, view_idx));
                let gray = decode_gray_png(&view.image_png).unwrap();
                let image = image::GrayImage::from_raw(gray.width_px, gray.height_px, gray.pixels).unwrap();
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                match quality {
                    Some(quality) => {
                        let rgb = image::DynamicImage::ImageLuma8(image).to_rgb8();
                        let file = fs::File::create(&path).unwrap();
                        rgb.write_with_encoder(image::codecs::jpeg::JpegEncoder::new_with_quality(
                            file, quality,
                        ))
                        .unwrap();
                    }
                    None => image.save(&path).unwrap(),
                }
            }
        }
    }
}

/// Points of a row as PLY, twice as large and moved.
fn ply(sample: &Sample) -> String {
    let mut text = format!(
        "ply\nformat ascii 1.0\nelement vertex {}\nproperty float x\nproperty float y\nproperty float z\nend_header\n",
        sample.points.len()
    );
    for [x, y, z] in &sample.points {
        writeln!(text, "{} {} {}", 2.0 * x + 5.0, 2.0 * y, 2.0 * z - 1.0).unwrap();
    }
    text
}

/// Boxes rendered as MVCNN's pictures are, at their size.
fn rendered(dir: &TempDir) -> Dataset {
    let mut recipe = boxes::recipe();
    recipe.render.size_px = 224;
    recipe.num_points = 1024;
    let (source, out) = (boxes::boxes(), dir.path().join("built"));
    boxes::run_with(source.path(), &recipe, &boxes::options(&out, 0)).unwrap();
    Dataset::open(&out).unwrap()
}

#[test]
fn finished_pictures_become_views_with_the_poses_of_the_rig() {
    let dir = tempfile::tempdir().unwrap();
    let built = rendered(&dir);
    // SHREC 2016's numbers with lists of classes, and TAP's points beside the pictures.
    let number = |sample: &Sample| format!("{:06}", sample.id.name().parse::<usize>().unwrap());
    let shrec = dir.path().join("shapenet55v1");
    let name = |split: Split, sample: &Sample, view: usize| {
        format!("{split}/model_{}_{:03}.jpg", number(sample), view + 1)
    };
    write_pictures(&shrec, &built, name, Some(95));
    let mut list = "id,synsetId,subSynsetId\n".to_owned();
    for split in Split::ALL {
        for sample in rows(&built, split) {
            let synset = if sample.category == "crate" {
                "02691156"
            } else {
                "04379243"
            };
            writeln!(list, "{},{synset},{synset}", number(&sample)).unwrap();
            write(
                &dir.path()
                    .join(format!("pointclouds/{split}/model_{}.ply", number(&sample))),
                ply(&sample),
            );
        }
    }
    write(&dir.path().join("evalkit/train.csv"), list);
    // ModelNet's classes; PNG without loss, and meshes to sample points from.
    let modelnet = dir.path().join("modelnet40v1");
    let name = |split: Split, sample: &Sample, view: usize| {
        format!(
            "{}/{split}/{}.obj.shaded_v{:03}.png",
            sample.category,
            sample.id.name(),
            view + 1
        )
    };
    write_pictures(&modelnet, &built, name, None);
    let source = boxes::boxes();
    for split in Split::ALL {
        for sample in rows(&built, split) {
            let mesh = source.path().join(format!("{}.obj", sample.id));
            write(
                &dir.path().join(format!(
                    "meshes/{}/{split}/{}.obj",
                    sample.category,
                    sample.id.name()
                )),
                fs::read(mesh).unwrap(),
            );
        }
    }
    let of_shrec = ImportOptions {
        out: dir.path().join("of-shrec"),
        variant: Some("shapenet55v1".to_owned()),
        ..options(ImportSet::Mvcnn, dir.path(), &dir)
    };
    let of_modelnet = ImportOptions {
        out: dir.path().join("of-modelnet"),
        points: Some(dir.path().join("meshes")),
        ..options(ImportSet::Mvcnn, &modelnet, &dir)
    };
    let (report, pictures) = imported(&of_shrec);
    assert_eq!(
        (report.num_views, report.num_points, report.variant.as_str()),
        (12, 1024, "12 views")
    );
    assert_eq!(pictures.classes(), ["02691156", "04379243"]);
    assert_eq!(recipe(&pictures, "rig"), "mvcnn12");
    let (_, lossless) = imported(&of_modelnet);
    assert_eq!(lossless.classes(), ["crate", "plank"]);
    assert_eq!(pictures.len(Split::Train) + pictures.len(Split::Test), 14);

    for split in [Split::Train, Split::Test] {
        for row in 0..built.len(split) {
            let read = |dataset: &Dataset| dataset.read(split, row, ViewSelection::All).unwrap();
            let (expected, of_mesh, of_jpeg) = (read(&built), read(&lossless), read(&pictures));
            assert_eq!(of_mesh.id, expected.id);
            for ((view, own), jpeg) in expected.views.iter().zip(&of_mesh.views).zip(&of_jpeg.views) {
                assert_eq!(own.image_png, view.image_png, "stored as it was");
                assert_eq!(own.mask, view.mask);
                assert!(
                    jpeg.mask.coverage() >= view.mask.coverage(),
                    "what is not white, traces of JPEG too"
                );
                for own in [own, jpeg] {
                    // The corners of the box fall within two pixels of where they were drawn.
                    let pixel = |view: &tap_dataset::SampleView, point: Vec3| {
                        let matrix = |numbers: &[f32; 16]| Mat4::from_cols_array(numbers).transpose();
                        let clip_from_object = matrix(&view.clip_from_view) * matrix(&view.view_from_object);
                        clip_from_object.project_point3(point) * 112.0
                    };
                    let point = Vec3::from_array(expected.points[7]);
                    let distance = (pixel(view, point) - pixel(own, point)).truncate().length();
                    assert!(distance < 3.0, "{}: {distance} pixels", expected.id);
                }
            }
        }
    }
}

#[test]
fn pictures_of_something_else_are_no_row() {
    let dir = tempfile::tempdir().unwrap();
    let built = rendered(&dir);
    let src = dir.path().join("pictures");
    let name = |split: Split, sample: &Sample, view: usize| {
        format!("{}/{split}/{}_{view:03}.png", sample.category, sample.id.name())
    };
    write_pictures(&src, &built, name, None);
    for split in Split::ALL {
        for sample in rows(&built, split) {
            let path = dir.path().join(format!(
                "pointclouds/{}/{split}/{}.ply",
                sample.category,
                sample.id.name()
            ));
            write(&path, ply(&sample));
        }
    }
    let planks = src.join("plank/train");
    // One picture less, a picture that is none, and points of another shape.
    fs::remove_file(planks.join("01_000.png")).unwrap();
    fs::write(planks.join("03_004.png"), b"<html>").unwrap();
    let other = dir.path().join("pointclouds/plank/train/05.ply");
    fs::copy(dir.path().join("pointclouds/crate/train/00.ply"), other).unwrap();
    fs::remove_file(dir.path().join("pointclouds/plank/train/07.ply")).unwrap();
    let strict = ImportOptions {
        allow_incomplete: false,
        ..options(ImportSet::Mvcnn, &src, &dir)
    };
    let error = refused(&strict);
    assert!(
        error.contains("plank/01: 11 of 12 pictures are there") && error.contains("and 1 more"),
        "{error}"
    );
    let (_, dataset) = imported(&ImportOptions {
        allow_incomplete: true,
        ..strict
    });
    let skipped = &dataset.manifest().skipped;
    let reasons: Vec<String> = skipped
        .iter()
        .map(|skipped| format!("{}: {}", skipped.id, skipped.reason))
        .collect();
    assert_eq!(
        reasons,
        [
            "plank/01: missing",
            "plank/03: malformed",
            "plank/05: pose-contract",
            "plank/07: missing"
        ],
        "{skipped:?}"
    );
}
