//! Distributed builds: merged parts are byte-identical to a single build, missing parts are reported, and
//! only missing or damaged shards are rebuilt.
#![cfg(feature = "build")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod boxes;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use boxes::{boxes, bytes, open, options, recipe};
use tap_dataset::{
    BuildEvent, BuildOptions, BuildPart, BuildRecipe, BuildSummary, Dataset, DatasetError, Manifest,
    ManifestError, MergeEvent, build, merge,
};

fn run_with(source: &Path, recipe: &BuildRecipe, options: &BuildOptions) -> (BuildSummary, Vec<BuildEvent>) {
    let mut events = Vec::new();
    let summary = build(
        &open(source),
        recipe,
        options,
        &AtomicBool::new(false),
        &mut |event| events.push(event),
    );
    (summary.unwrap(), events)
}

fn run(source: &Path, out: &Path) -> (BuildSummary, Vec<BuildEvent>) {
    run_with(source, &recipe(), &options(out, 2))
}

/// Builds all parts into separate folders below `dir`.
fn build_parts(source: &Path, dir: &Path, recipe: &BuildRecipe, count: usize) -> Vec<PathBuf> {
    let build_part = |index| {
        let out = dir.join(format!("part{index}"));
        let options = BuildOptions {
            part: Some(BuildPart { index, count }),
            ..options(&out, 1 + index % 2)
        };
        assert!(run_with(source, recipe, &options).0.is_complete, "part {index}");
        out
    };
    (1..=count).map(build_part).collect()
}

fn join(parts: &[PathBuf], out: &Path) -> Result<Manifest, DatasetError> {
    merge(parts, out, false, &mut |_| {})
}

/// Includes a skipped mesh, so that the skip list is merged too.
fn boxes_and_a_broken_one() -> tempfile::TempDir {
    let source = boxes();
    fs::write(source.path().join("plank/05.obj"), "this is no mesh").unwrap();
    source
}

#[test]
fn a_lost_or_damaged_shard_alone_is_made_again() {
    let (source, out) = (boxes_and_a_broken_one(), tempfile::tempdir().unwrap());
    let (summary, _) = run(source.path(), out.path());
    let whole = bytes(out.path());
    let damages: [fn(&Path); 3] = [
        |shard| fs::remove_file(shard).unwrap(),
        |shard| fs::write(shard, "cut").unwrap(),
        |shard| {
            let mut bytes = fs::read(shard).unwrap();
            bytes[1000] ^= 1;
            fs::write(shard, bytes).unwrap();
        },
    ];
    for (shard, damage) in summary.manifest.shards.iter().zip(damages) {
        damage(&out.path().join(&shard.file));
        let (again, events) = run(source.path(), out.path());
        assert!(again.is_complete, "mended");
        let lost = events
            .iter()
            .filter(|event| matches!(event, BuildEvent::ShardDamaged { file } if *file == shard.file));
        assert_eq!(lost.count(), 1, "{events:?}");
        let written = events
            .iter()
            .filter(|event| matches!(event, BuildEvent::ShardWritten { .. }));
        assert_eq!(written.count(), 1, "one shard is made again: {events:?}");
        assert!(
            bytes(out.path()) == whole,
            "other bytes after {} was lost",
            shard.file
        );
    }
}

#[test]
fn parts_join_to_the_bytes_of_one_machine() {
    let (source, dir) = (boxes_and_a_broken_one(), tempfile::tempdir().unwrap());
    let one = dir.path().join("one");
    run(source.path(), &one);
    // Four shards, so five parts include an empty one.
    for count in [1, 2, 3, 5] {
        let parts_dir = dir.path().join(format!("of-{count}"));
        let mut parts = build_parts(source.path(), &parts_dir, &recipe(), count);
        let error = Dataset::open(&parts[0]).unwrap_err();
        assert!(
            matches!(error, DatasetError::Manifest(ManifestError::Part { .. })),
            "{error}"
        );
        parts.reverse();
        let out = parts_dir.join("joined");
        let manifest = join(&parts, &out).unwrap();
        assert!(manifest.is_complete(), "joined");
        assert!(bytes(&out) == bytes(&one), "{count} parts give other bytes");
        assert_eq!(
            join(&parts, &out).unwrap(),
            manifest,
            "once more, nothing changes"
        );
    }
}

#[test]
fn a_join_goes_on_where_it_was_stopped() {
    let (source, dir) = (boxes(), tempfile::tempdir().unwrap());
    let one = dir.path().join("one");
    run(source.path(), &one);
    let parts = build_parts(source.path(), dir.path(), &recipe(), 2);
    let out = dir.path().join("joined");
    // A panic after the second shard stops the merge like a kill: nothing is cleaned up.
    let stopped = std::panic::catch_unwind(|| {
        let mut num_shards = 0;
        merge(&parts, &out, false, &mut |event| {
            num_shards += usize::from(matches!(event, MergeEvent::Shard { .. }));
            assert!(num_shards < 2, "stopped");
        })
    });
    assert!(stopped.is_err(), "it was stopped");
    fs::write(out.join("test-00000-of-00001.parquet.partial"), "cut").unwrap();
    fs::write(out.join("test-00000-of-00001.parquet"), "not in the manifest").unwrap();
    let mut events = Vec::new();
    merge(&parts, &out, false, &mut |event| events.push(event)).unwrap();
    assert!(events.contains(&MergeEvent::Resumed { shards: 2 }), "{events:?}");
    assert!(bytes(&out) == bytes(&one), "other bytes after a stop");
}

#[test]
fn what_cannot_be_joined_is_named() {
    let (source, dir) = (boxes(), tempfile::tempdir().unwrap());
    let out = dir.path().join("joined");
    let parts = build_parts(source.path(), &dir.path().join("a"), &recipe(), 3);
    let error = |parts: &[PathBuf]| join(parts, &out).unwrap_err().to_string();

    let text = error(&parts[1..2]);
    assert!(text.contains("missing: part 1/3, 3/3"), "{text}");
    let text = error(&[parts[0].clone(), parts[1].clone(), parts[0].clone()]);
    assert!(
        text.contains("part 1/3 is there twice") && text.contains("missing: part 3/3"),
        "{text}"
    );

    let mut other = recipe();
    other.render.size_px = 32;
    let others = build_parts(source.path(), &dir.path().join("b"), &other, 3);
    let text = error(&[parts[0].clone(), others[1].clone(), parts[2].clone()]);
    assert!(
        text.contains("recipe.render.size_px is 48 there and 32 here"),
        "{text}"
    );
    let more = build_parts(source.path(), &dir.path().join("c"), &recipe(), 2);
    let text = error(&[parts[0].clone(), more[1].clone()]);
    assert!(text.contains("one of 3 parts, the other one of 2"), "{text}");

    let whole = dir.path().join("whole");
    run(source.path(), &whole);
    let text = error(&[parts[0].clone(), whole]);
    assert!(text.contains("not a part of one"), "{text}");

    // A modified shard is not copied.
    let shard = &Manifest::read(&parts[0]).unwrap().shards[0].file;
    let mut changed = fs::read(parts[0].join(shard)).unwrap();
    changed[500] ^= 1;
    fs::write(parts[0].join(shard), changed).unwrap();
    let text = error(&parts);
    assert!(text.contains(shard) && text.contains("changed"), "{text}");
    assert!(
        !out.join(shard).exists(),
        "no shard that the manifest does not list"
    );

    fs::remove_file(parts[0].join(shard)).unwrap();
    let text = error(&parts);
    assert!(text.contains(shard), "{text}");
}
