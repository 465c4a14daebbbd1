//! A condition reads the columns that it names, of those row groups alone that statistics do not rule out: by bytes read.
#![cfg(target_os = "linux")]
#![allow(
    clippy::print_stdout,
    reason = "the numbers are for whoever runs it with --nocapture"
)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use std::fs;

use tap_dataset::{Columns, Dataset, RowLayout, Split, write_samples};

use fixture::{header, sample};

const LAYOUT: RowLayout = RowLayout {
    num_points: 64,
    num_views: 2,
    image_size_px: 16,
    columns: Columns::DEFAULT,
};
const NUM_ROWS: u64 = 1536;

/// Bytes that this process has read, files and all.
fn num_read() -> u64 {
    let counts = fs::read_to_string("/proc/self/io").unwrap();
    let read = counts.lines().find_map(|line| line.strip_prefix("rchar: "));
    read.unwrap().parse().unwrap()
}

/// The only test of this program: others would read too.
#[test]
fn row_groups_that_cannot_match_are_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let rows = (0..NUM_ROWS).map(|seed| (Split::Train, sample(LAYOUT, seed)));
    // Two shards of twelve row groups each, sorted by id and so by category.
    write_samples(dir.path(), &header(LAYOUT), 768, rows.collect()).unwrap();
    let dataset = Dataset::open(dir.path()).unwrap();
    dataset.labels(Split::Train).unwrap();
    let own = {
        let before = num_read();
        num_read() - before
    };
    let bytes = |condition: &str| {
        let (predicate, before) = (condition.parse().unwrap(), num_read());
        let num_rows = dataset.matching(Split::Train, &predicate).unwrap().len();
        (num_rows, (num_read() - before).saturating_sub(own))
    };
    let num_stored: u64 = dataset.manifest().shards.iter().map(|shard| shard.bytes).sum();
    let (num_all, bytes_all) = bytes("category <> 'sofa' or category is null");
    let (num_mugs, bytes_mugs) = bytes("category = 'mug'");
    let (num_few, bytes_few) = bytes("category = 'mug' and num_triangles > 18400");
    let (num_none, bytes_none) = bytes("category = 'sofa' or coverage_min > 2 and label >= 0");
    println!(
        "{num_stored} bytes stored; read for all rows {bytes_all}, a third {bytes_mugs}, {num_few} rows {bytes_few}, none {bytes_none}"
    );
    assert_eq!([num_all, num_mugs, num_few, num_none], [1536, 512, 1, 0]);
    assert!(bytes_all < num_stored / 10, "two of 26 columns");
    assert!(bytes_mugs * 2 < bytes_all, "a third of the row groups");
    assert!(
        bytes_few < bytes_mugs / 2,
        "one row group, though with a column more"
    );
    assert!(bytes_none < 512, "nothing but footers, which were there");
}
