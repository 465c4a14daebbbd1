//! A data set of 10,000 shards is opened without opening them, and read with few of them open.
#![cfg(unix)]
#![allow(
    clippy::print_stdout,
    reason = "the numbers are for whoever runs it with --nocapture"
)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tap_dataset::{
    Columns, Dataset, Manifest, Projection, Reader, RowLayout, ShardCount, ShardEntry, Split,
    shard_file_name, write_samples,
};

use fixture::{header, sample};

const NUM_SHARDS: usize = 10_000;
const ROWS_PER_SHARD: usize = 4;
const LAYOUT: RowLayout = RowLayout {
    num_points: 4,
    num_views: 2,
    image_size_px: 8,
    columns: Columns::DEFAULT,
};

/// A shard under 10,000 names.
fn write(dir: &Path) {
    let rows = (0..ROWS_PER_SHARD as u64).map(|seed| (Split::Train, sample(LAYOUT, seed)));
    let one = write_samples(dir, &header(LAYOUT), ROWS_PER_SHARD, rows.collect()).unwrap();
    let shard = |number: usize| {
        let file = shard_file_name(Split::Train, number, NUM_SHARDS);
        fs::hard_link(dir.join(&one.shards[0].file), dir.join(&file)).unwrap();
        let objects = Vec::new();
        ShardEntry {
            file,
            objects,
            ..one.shards[0].clone()
        }
    };
    let mut manifest = Manifest {
        shards: (0..NUM_SHARDS).map(shard).collect(),
        num_shards: vec![ShardCount {
            split: Split::Train,
            shards: NUM_SHARDS,
        }],
        ..one
    };
    manifest.sha256 = Some(manifest.shards_sha256());
    fs::write(dir.join("_manifest.json"), serde_json::to_vec(&manifest).unwrap()).unwrap();
}

/// Resident memory of this process in MiB.
fn resident_mib() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.map_or(0, |line| {
        line.trim()
            .trim_end_matches("kB")
            .trim()
            .parse::<usize>()
            .unwrap()
            >> 10
    })
}

#[test]
fn ten_thousand_shards_open_in_moments_and_megabytes() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    let (before, began) = (resident_mib(), Instant::now());
    let dataset = Dataset::open(dir.path()).unwrap();
    let (opened_s, opened_mib) = (
        began.elapsed().as_secs_f64(),
        resident_mib().saturating_sub(before),
    );
    assert_eq!(dataset.len(Split::Train), NUM_SHARDS * ROWS_PER_SHARD);

    // A shuffled batch of 512 touches almost as many shards.
    let reader = Reader::new(Arc::new(dataset)).columns(Projection::of_columns(["points"]).unwrap());
    let mut stream = reader.shuffled(1).stream().unwrap();
    let began = Instant::now();
    for read in stream.by_ref().take(512) {
        assert_eq!(read.unwrap().sample.points.len(), LAYOUT.num_points);
    }
    let (read_s, read_mib) = (
        began.elapsed().as_secs_f64(),
        resident_mib().saturating_sub(before),
    );
    println!(
        "{NUM_SHARDS} shards: opened in {opened_s:.2} s and {opened_mib} MiB; 512 random rows in {read_s:.2} s, {read_mib} MiB in all"
    );
    // Generous, for machines that do other things at a time.
    assert!(opened_s < 20.0, "opened in {opened_s} s");
    assert!(opened_mib < 64, "{opened_mib} MiB to open");
    assert!(read_mib < 512, "{read_mib} MiB to read");
}
