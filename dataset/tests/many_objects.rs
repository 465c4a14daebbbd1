//! What a large data set takes to finish and to open: a test of a hundred thousand objects, and a measurement of as many as
//! `TAP_NUM_OBJECTS` says, in shards of `TAP_ROWS_PER_SHARD` rows:
//!
//! `TAP_NUM_OBJECTS=10000000 cargo test --test many_objects -- --nocapture`
//!
//! Nothing is built: the shards are one file under many names, and their journal says what as many objects would.
#![cfg(unix)]
#![allow(
    clippy::print_stdout,
    reason = "the numbers are for whoever runs it with --nocapture"
)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::BufWriter;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};
use tap_dataset::{
    Columns, Dataset, DatasetPlan, DatasetWriter, LIST_FILES_SCHEMA_VERSION, Manifest, ObjectEntry,
    ObjectFile, ObjectId, RowDigest, RowLayout, ShardCount, ShardEntry, SkipReason, SkippedObject,
    SourceDescription, Split, build_status, finish_build, sha256, write_samples,
};

use fixture::{header, sample};

/// Of a test: two lists.
const NUM_OBJECTS: usize = 100_000;
const ROWS_PER_SHARD: usize = 1024;
/// One object in so many is skipped.
const SKIPPED_ONE_IN: usize = 1000;
const NUM_LEFT_OUT: usize = 10_000;
const NUM_THREADS: usize = 2;
const MAX_NAMES: usize = 50_000;
const LAYOUT: RowLayout = RowLayout {
    num_points: 4,
    num_views: 2,
    image_size_px: 8,
    columns: Columns::DEFAULT,
};

fn from_environment(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |number| number.parse().unwrap())
}

fn object(number: usize) -> ObjectEntry {
    let hash = |kind: &str| sha256::of_bytes(format!("{kind} {number}"));
    let is_skipped = number.is_multiple_of(SKIPPED_ONE_IN);
    ObjectEntry {
        id: ObjectId::try_new("object", &format!("{number:08}")).unwrap(),
        path: format!("{:03}/{number:08}/model.obj", number / 100_000),
        bytes: 100_000 + number as u64,
        sha256: Some(hash("mesh")),
        assets_sha256: None,
        row: (!is_skipped).then(|| RowDigest {
            points_sha256: hash("points"),
            views_sha256: hash("views"),
        }),
    }
}

fn skipped(object: &ObjectEntry, shard: Option<usize>) -> SkippedObject {
    SkippedObject {
        id: object.id.to_string(),
        split: Some(Split::Train),
        path: object.path.clone(),
        reason: if shard.is_some() {
            SkipReason::Malformed
        } else {
            SkipReason::NotInSplits
        },
        message: "line 3: no number".to_owned(),
        shard,
    }
}

fn num_rows(objects: &Range<usize>) -> usize {
    let is_row = |number: &usize| !number.is_multiple_of(SKIPPED_ONE_IN);
    objects.clone().filter(is_row).count()
}

fn plan(num_objects: usize, num_shards: usize) -> DatasetPlan {
    let left_out = |number| skipped(&object(num_objects + number), None);
    DatasetPlan {
        header: header(LAYOUT),
        source: SourceDescription {
            layout: "folders".to_owned(),
            publication: None,
            splits: None,
            num_objects,
            listing_sha256: "0".repeat(64),
            content_sha256: None,
        },
        num_shards: vec![ShardCount {
            split: Split::Train,
            shards: num_shards,
        }],
        part: None,
        parent: None,
        is_relit: false,
        skipped: (0..NUM_LEFT_OUT).map(left_out).collect(),
        has_list_files: false,
    }
    .listed()
}

/// Resident memory of this process in MiB, now and at its peak since the last call.
fn resident_mib() -> (usize, usize) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
        kib.unwrap_or(0) >> 10
    };
    let found = (mib("VmRSS:"), mib("VmHWM:"));
    // Forgets the peak.
    let _ = fs::write("/proc/self/clear_refs", "5");
    found
}

/// Runs a step, and prints what it took.
fn measured<T>(name: &str, step: impl FnOnce() -> T) -> T {
    let (before, _) = resident_mib();
    let began = Instant::now();
    let result = step();
    let seconds = began.elapsed().as_secs_f64();
    let (after, peak) = resident_mib();
    println!("{name}: {seconds:.2} s; {before} MiB before, {after} after, {peak} at the peak");
    result
}

#[test]
fn many_objects_are_finished_opened_and_read() {
    let num_objects = from_environment("TAP_NUM_OBJECTS", NUM_OBJECTS);
    let rows_per_shard = from_environment("TAP_ROWS_PER_SHARD", ROWS_PER_SHARD);
    let folder = tempfile::tempdir().unwrap();
    let dir = &folder.path().join("data");
    let starts = (0..num_objects).step_by(rows_per_shard);
    let ranges: Vec<Range<usize>> = starts
        .map(|start| start..num_objects.min(start + rows_per_shard))
        .collect();
    let writer = DatasetWriter::open(dir, &plan(num_objects, ranges.len()), false).unwrap();
    write_journal(dir, writer, &ranges);
    resident_mib();

    let status = measured("status", || build_status(dir).unwrap());
    assert_eq!(status.num_finished, ranges.len());
    let finished = measured("finish", || finish_build(dir).unwrap());
    assert!(finished.is_complete());
    assert_eq!(finished.schema_version, LIST_FILES_SCHEMA_VERSION);
    assert_eq!(finished.num_failed(), num_objects.div_ceil(SKIPPED_ONE_IN));
    let lists = finished.lists.clone().unwrap();
    println!(
        "{} shards; manifest {} bytes; lists {} bytes in {} files",
        ranges.len(),
        fs::metadata(dir.join("_manifest.json")).unwrap().len(),
        lists.files().map(|list| list.bytes).sum::<u64>(),
        lists.files().count()
    );
    assert!(lists.objects.len() > 1, "several lists");
    drop(finished);

    let dataset = measured("open", || Dataset::open(dir).unwrap());
    assert_eq!(
        dataset.len(Split::Train),
        ranges.iter().map(num_rows).sum::<usize>()
    );
    check_objects(dataset.manifest(), &ranges);
}

fn check_objects(manifest: &Manifest, ranges: &[Range<usize>]) {
    let objects = manifest.objects().unwrap();
    // The first and the last of the lists, and some between.
    measured("objects of 100 shards, one by one", || {
        for pick in 0..100 {
            let shard = pick * (ranges.len() - 1) / 99;
            let found = objects.of_shard(shard).unwrap();
            assert!(
                found.iter().cloned().eq(ranges[shard].clone().map(object)),
                "shard {shard}"
            );
        }
    });
    measured("all objects", || {
        let mut next = 0;
        objects
            .visit(&mut |_, found| {
                assert_eq!(found.bytes, 100_000 + next);
                next += 1;
                Ok(())
            })
            .unwrap();
        assert_eq!(next, ranges.last().unwrap().end as u64);
    });
    let all = manifest.first_skipped(usize::MAX).unwrap();
    let num_objects = ranges.last().unwrap().end;
    assert_eq!(all.len(), NUM_LEFT_OUT + num_objects.div_ceil(SKIPPED_ONE_IN));
    assert_eq!(all[NUM_LEFT_OUT], skipped(&object(0), Some(0)));
}

/// What units would have left: shards, and the journal that lists their objects.
fn write_journal(dir: &Path, mut writer: DatasetWriter, ranges: &[Range<usize>]) {
    let file = ObjectFile { path: "", bytes: 0 };
    writer.append(&sample(LAYOUT, 0), file).unwrap();
    writer.finish_shard().unwrap();
    drop(writer);
    let journal = |shard: &str| dir.join(format!("{shard}.json"));
    let name = |shard| tap_dataset::shard_file_name(Split::Train, shard, ranges.len());
    let written: Value = serde_json::from_slice(&fs::read(journal(&name(0))).unwrap()).unwrap();
    fs::remove_file(dir.join(name(0))).unwrap();

    // Shards of as many rows.
    let folder = tempfile::tempdir_in(dir.parent().unwrap()).unwrap();
    let lengths: BTreeSet<usize> = ranges.iter().map(num_rows).collect();
    let files: BTreeMap<usize, (PathBuf, ShardEntry)> = lengths
        .into_iter()
        .map(|rows| {
            let of_rows = folder.path().join(rows.to_string());
            let samples = (0..rows as u64).map(|seed| (Split::Train, sample(LAYOUT, seed)));
            let mut manifest = write_samples(&of_rows, &header(LAYOUT), rows, samples.collect()).unwrap();
            let entry = manifest.shards.remove(0);
            (rows, (of_rows.join(&entry.file), entry))
        })
        .collect();
    let write = |shard: usize| {
        let objects: Vec<ObjectEntry> = ranges[shard].clone().map(object).collect();
        let skipped: Vec<SkippedObject> = objects
            .iter()
            .filter(|object| object.row.is_none())
            .map(|object| skipped(object, Some(shard)))
            .collect();
        let (path, file) = &files[&(objects.len() - skipped.len())];
        // A file has at most so many names.
        let copy = path.with_file_name(format!("{}-{}", shard / MAX_NAMES, shard % NUM_THREADS));
        if !copy.exists() {
            fs::copy(path, &copy).unwrap();
        }
        fs::hard_link(copy, dir.join(name(shard))).unwrap();
        let num_skipped = [(SkipReason::Malformed, skipped.len())];
        let entry = ShardEntry {
            file: name(shard),
            num_listed: Some(objects.len()),
            num_skipped: num_skipped.into_iter().filter(|(_, num)| *num > 0).collect(),
            objects,
            ..file.clone()
        };
        let of_journal = json!({
            "plan_sha256": &written["plan_sha256"],
            "entry": entry,
            "skipped": skipped,
        });
        let file = fs::File::create(journal(&name(shard))).unwrap();
        serde_json::to_writer(BufWriter::new(file), &of_journal).unwrap();
    };
    let write = &write;
    thread::scope(|scope| {
        for first in 0..NUM_THREADS {
            scope.spawn(move || (first..ranges.len()).step_by(NUM_THREADS).for_each(write));
        }
    });
}
