//! `tap dataset export`, read back by Python as the programs read them that the layouts are of, with webdataset itself, `NumPy` and
//! Pillow. `scripts/test` lays them, and names their folder in `TAP_READERS`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod util;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use tap_dataset::{Dataset, Sample, Split, ViewSelection};
use util::{Outcome, TestDir, kill_after, python_with_readers};

fn place_with_shards() -> TestDir {
    let place = TestDir::new();
    place.synthesize(3, 4);
    let build = "dataset build meshes --out shards --size 32 --num-points 64 --split-fractions 0.5,0.25,0.25";
    place.run(&build.split(' ').collect::<Vec<_>>()).succeeds();
    place
}

fn export(place: &TestDir, arguments: &str) -> Outcome {
    let command = format!("dataset export {arguments}");
    place.run(&command.split(' ').collect::<Vec<_>>())
}

#[test]
fn exports_are_read_as_their_programs_read_them() {
    let Some(mut python) = python_with_readers() else {
        return;
    };
    let place = place_with_shards();
    for (format, more) in [
        ("mvcnn", ""),
        ("mvcnn-pytorch", ""),
        ("npy", ""),
        ("webdataset", " --rows-per-tar 4"),
        ("h5", ""),
        ("h5-scanobjectnn", ""),
    ] {
        let report = export(
            &place,
            &format!("shards --as {format} --out {format} --json{more}"),
        )
        .succeeds()
        .json();
        assert_eq!(report["num_rows_by_split"]["train"], 6, "{report}");
    }
    python
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/export.py"))
        .current_dir(place.path(""));
    let said = Outcome::of(&mut python).succeeds().stdout;
    assert_eq!(
        said,
        "mvcnn: 12\nmvcnn-pytorch: 12\nnpy: 12\nwebdataset: 12\nh5: 12\nh5-scanobjectnn: 12\n"
    );
}

#[test]
fn an_export_is_the_same_for_any_number_of_threads() {
    let place = place_with_shards();
    for format in ["mvcnn", "webdataset", "h5", "h5-scanobjectnn"] {
        export(&place, &format!("shards --as {format} --out one --threads 1")).succeeds();
        export(&place, &format!("shards --as {format} --out many --threads 5")).succeeds();
        assert_eq!(place.files("one"), place.files("many"));
        fs::remove_dir_all(place.path("one")).unwrap();
        fs::remove_dir_all(place.path("many")).unwrap();
    }
}

#[test]
fn hdf5_files_are_imported_as_the_rows_that_they_were() {
    let place = place_with_shards();
    export(&place, "shards --as h5 --out h5").succeeds();
    assert_eq!(
        fs::read_to_string(place.path("h5/train_files.txt")).unwrap(),
        "ply_data_train0.h5\n"
    );
    let import = "dataset import modelnet40 h5 --out again --allow-incomplete";
    place.run(&import.split(' ').collect::<Vec<_>>()).succeeds();
    let [shards, again] = ["shards", "again"].map(|name| Dataset::open(&place.path(name)).unwrap());
    assert_eq!(again.classes(), shards.classes());
    let objects = fs::read_to_string(place.path("h5/objects.csv")).unwrap();
    let mut num_rows = 0;
    // ModelNet40 has no more splits.
    for split in [Split::Train, Split::Test] {
        let rows = |dataset: &Dataset| -> BTreeMap<String, Sample> {
            let samples =
                (0..dataset.len(split)).map(|row| dataset.read(split, row, ViewSelection::None).unwrap());
            samples.map(|sample| (sample.id.to_string(), sample)).collect()
        };
        let (shards, again) = (rows(&shards), rows(&again));
        let listed = objects
            .lines()
            .filter(|line| line.ends_with(&format!(",{split}")));
        // Rows have no name in these files: the importer calls them by their place in the split.
        for (place, line) in listed.enumerate() {
            let fields: Vec<&str> = line.split(',').collect();
            let (id, category) = (fields[2], fields[3]);
            let Some(imported) = again.get(&format!("{category}/{split}-{place:05}")) else {
                panic!("{id} is not there: {:?}", again.keys());
            };
            let exported = &shards[id];
            assert_eq!((imported.label, fields[1]), (exported.label, &*place.to_string()));
            let pairs = [
                (&imported.points, &exported.points),
                (
                    imported.normals.as_ref().unwrap(),
                    exported.normals.as_ref().unwrap(),
                ),
            ];
            for (imported, exported) in pairs {
                let apart = imported.as_flattened().iter().zip(exported.as_flattened());
                assert!(apart.into_iter().all(|(a, b)| (a - b).abs() < 1e-5), "{id}");
            }
            num_rows += 1;
        }
    }
    assert_eq!(num_rows, 9);
}

#[test]
fn an_export_appears_when_it_is_complete() {
    let place = place_with_shards();
    for delay_ms in [1, 5, 20, 60] {
        let mut command = place.command(&["dataset", "export", "shards", "--as", "mvcnn", "--out", "killed"]);
        kill_after(&mut command, Duration::from_millis(delay_ms));
        let is_there = place.path("killed").exists();
        assert!(
            !is_there || place.path("killed/export.json").exists(),
            "half of it after {delay_ms} ms"
        );
        if is_there {
            fs::remove_dir_all(place.path("killed")).unwrap();
        }
    }
    export(&place, "shards --as mvcnn --out killed").succeeds();
    export(&place, "shards --as mvcnn --out whole").succeeds();
    assert_eq!(place.files("killed"), place.files("whole"));
    assert!(
        !place.path("killed.partial").exists(),
        "nothing is left beside it"
    );
}

#[test]
fn only_exports_are_replaced() {
    let place = place_with_shards();
    export(&place, "shards --as npy --out out").succeeds();
    let before = place.files("out");
    export(&place, "shards --as npy --out out").fails_with(&["not empty", "--force", "out"]);
    export(&place, "shards --as webdataset --out out --force").succeeds();
    assert!(
        place
            .files("out")
            .keys()
            .all(|name| Path::new(name).extension().is_some_and(|ext| ext == "tar") || name == "export.json")
    );
    export(&place, "shards --as npy --out out --force").succeeds();
    assert_eq!(place.files("out"), before);
    place.write("out/notes.txt", "mine");
    export(&place, "shards --as npy --out out --force").fails_with(&["notes.txt", "out"]);
    assert_eq!(fs::read(place.path("out/notes.txt")).unwrap(), b"mine");
    place.write("other/thesis.tex", "mine");
    export(&place, "shards --as npy --out other --force").fails_with(&["export.json", "other"]);
    let shards = place.files("shards");
    export(&place, "shards --as npy --out shards --force").fails_with(&["shards"]);
    assert_eq!(place.files("shards"), shards);
}

#[test]
fn what_cannot_be_exported_is_told_in_a_line() {
    let place = place_with_shards();
    let build = "dataset build meshes --out points --no-views --num-points 16";
    place.run(&build.split(' ').collect::<Vec<_>>()).succeeds();
    export(&place, "points --as mvcnn --out never").fails_with(&["no views", "mvcnn", "points"]);
    export(&place, "points --as npy --out arrays").succeeds();
    export(&place, "shards --as zip --out never").exits_with_2();
    export(&place, "absent --as npy --out never").fails_with(&["absent"]);
    export(&place, "shards --as npy --out s3://bucket/never").fails_with(&["object store"]);
    export(&place, "shards --as npy --out never --images dusk").fails_with(&["dusk"]);
    assert!(!place.path("never").exists() && !place.path("never.partial").exists());
}
