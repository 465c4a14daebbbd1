//! `verify` finds and locates problems; `inspect` counts.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use std::hash::{BuildHasher, RandomState};
use std::path::Path;

use fixture::{header, sample};
use tap_dataset::{
    ColumnSet, Columns, Dataset, DatasetError, GbufferPixels, Manifest, ManifestError, RowLayout, Sample,
    ShardReader, Split, VerifyOptions, VerifyReport, ViewGbuffer, ViewSelection, encode_gray_png, inspect,
    verify, write_samples,
};

const DEEP: VerifyOptions = VerifyOptions { is_deep: true };
const GBUFFER: Columns = Columns::DEFAULT.with(ColumnSet::Gbuffer);
const GBUFFER_WITH_ALBEDO: Columns = Columns::DEFAULT.with(ColumnSet::GbufferAlbedo);
const LAYOUT: RowLayout = RowLayout {
    num_points: 64,
    num_views: 2,
    image_size_px: 16,
    columns: Columns::DEFAULT,
};

fn write(dir: &Path, change: impl FnOnce(&mut Vec<(Split, Sample)>)) -> Manifest {
    write_with(Columns::DEFAULT, dir, change)
}

fn write_with(columns: Columns, dir: &Path, change: impl FnOnce(&mut Vec<(Split, Sample)>)) -> Manifest {
    let layout = RowLayout { columns, ..LAYOUT };
    let split = |seed: u64| if seed % 4 == 3 { Split::Test } else { Split::Train };
    let mut samples: Vec<_> = (0..12).map(|seed| (split(seed), sample(layout, seed))).collect();
    change(&mut samples);
    write_samples(dir, &header(layout), 4, samples).unwrap()
}

fn report(dir: &Path) -> VerifyReport {
    verify(dir, DEEP, &mut |_| {}).unwrap()
}

/// Writes a dataset with a modified first sample, and returns the first problem found.
fn problem_of(columns: Columns, change: impl FnOnce(&mut Sample)) -> String {
    let dir = tempfile::tempdir().unwrap();
    write_with(columns, dir.path(), |samples| change(&mut samples[0].1));
    let report = report(dir.path());
    assert!(!report.is_ok(), "the change is found");
    assert!(
        report
            .problems
            .iter()
            .all(|p| p.detail.starts_with("chair/object_0000")),
        "{:?}",
        report.problems
    );
    report.problems[0].detail.clone()
}

#[test]
fn a_right_dataset_passes_and_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = write(dir.path(), |_| {});
    let mut num_events = 0;
    let report = verify(dir.path(), DEEP, &mut |_| num_events += 1).unwrap();
    assert!(report.is_ok(), "{:?}", report.problems);
    assert_eq!(
        (report.num_rows, report.num_images, report.num_shards),
        (12, 24, 4)
    );
    assert_eq!(
        num_events,
        1 + 12 + 4,
        "one for the start, each row and each shard"
    );
    assert_eq!(report.sha256, manifest.sha256.unwrap());
    assert!(report.points_in_mask_min > 0.99, "{}", report.points_in_mask_min);

    let inspection = inspect(dir.path()).unwrap();
    let counts: Vec<_> = inspection
        .classes
        .iter()
        .map(|c| (c.name.as_str(), c.train, c.val, c.test))
        .collect();
    assert_eq!(counts, [("chair", 3, 0, 1), ("lamp", 3, 0, 1), ("mug", 3, 0, 1)]);
    assert_eq!(
        (
            inspection.num_rows,
            inspection.num_shards,
            inspection.num_shards_planned
        ),
        (12, 4, 4)
    );
}

type Change = fn(&mut Sample);

#[test]
fn each_violation_is_named() {
    let cases: [(&str, Change); 12] = [
        ("points lie in mask", |s| s.views[1].view_from_object[3] = 1.0),
        ("not rigid", |s| s.views[0].view_from_object[0] *= 1.5),
        ("clip_from_view", |s| s.views[0].clip_from_view[2] = f32::NAN),
        ("unit ball", |s| s.points[3] = [f32::NAN, 0.0, 0.0]),
        ("length 1", |s| s.normals.as_mut().unwrap()[0] = [0.0; 3]),
        ("label", |s| s.label = 2),
        ("label", |s| s.label = -1),
        ("names no part", |s| s.part_labels = Some(vec![7; 64])),
        ("coverage_min", |s| s.coverage_min = Some(0.1)),
        ("no triangle", |s| s.mesh.as_mut().unwrap().num_triangles = 0),
        ("background", |s| {
            s.views[1].image_png = encode_gray_png(16, &[255; 256]).unwrap();
        }),
        ("PNG", |s| s.views[1].image_png.truncate(40)),
    ];
    for (expected, change) in cases {
        let detail = problem_of(Columns::DEFAULT, change);
        assert!(detail.contains(expected), "{expected}: {detail}");
    }
}

/// Modifies the G-buffer of one view.
fn with_surface(sample: &mut Sample, change: impl FnOnce(&mut GbufferPixels)) {
    let gbuffer = sample.views[1].gbuffer.as_mut().unwrap();
    let mut pixels = gbuffer.decode(16).unwrap();
    change(&mut pixels);
    *gbuffer = ViewGbuffer::encode(16, &pixels).unwrap();
}

#[test]
fn gbuffer_problems_are_named() {
    const MIDDLE: usize = 16 * 8 + 8;
    let cases: [(&str, Change); 7] = [
        ("depth elsewhere", |s| {
            with_surface(s, |p| p.depth[MIDDLE] = f64::INFINITY);
        }),
        ("depth elsewhere", |s| with_surface(s, |p| p.depth[0] = 0.5)),
        ("not of length 1", |s| {
            with_surface(s, |p| p.normals[MIDDLE] = [0.9, 0.0, 0.0]);
        }),
        ("normal outside", |s| {
            with_surface(s, |p| p.normals[0] = [1.0, 0.0, 0.0]);
        }),
        ("color outside", |s| {
            with_surface(s, |p| p.albedo.as_mut().unwrap()[0] = [1; 3]);
        }),
        ("damaged", |s| {
            s.views[1].gbuffer.as_mut().unwrap().depth_png.truncate(40);
        }),
        ("instead of 16x16", |s| {
            let gbuffer = s.views[1].gbuffer.as_mut().unwrap();
            gbuffer.depth_png = gbuffer.normals_png.clone();
        }),
    ];
    for (expected, change) in cases {
        let detail = problem_of(GBUFFER_WITH_ALBEDO, change);
        assert!(
            detail.contains("view 1") && detail.contains(expected),
            "{expected}: {detail}"
        );
    }
    let dir = tempfile::tempdir().unwrap();
    write_with(GBUFFER, dir.path(), |_| {});
    assert!(report(dir.path()).is_ok(), "{:?}", report(dir.path()).problems);
}

/// 200 random bit flips: each is found in its shard, and no reader panics.
#[test]
fn one_flipped_bit_anywhere_is_found() {
    for columns in [Columns::DEFAULT, GBUFFER_WITH_ALBEDO] {
        flip_bits(columns);
    }
}

fn flip_bits(columns: Columns) {
    let dir = tempfile::tempdir().unwrap();
    let manifest = write_with(columns, dir.path(), |_| {});
    let path = dir.path().join(&manifest.shards[0].file);
    let whole = std::fs::read(&path).unwrap();
    let seed = RandomState::new().hash_one(0);
    for flip in 0..200_u64 {
        let place = RandomState::new().hash_one((seed, flip)) as usize % (whole.len() * 8);
        let mut flipped = whole.clone();
        flipped[place / 8] ^= 1 << (place % 8);
        std::fs::write(&path, flipped).unwrap();
        let report = report(dir.path());
        let first = report.problems.first().map(|problem| problem.file.as_str());
        assert_eq!(first, Some(manifest.shards[0].file.as_str()), "bit {place}");
        // Readers that do not verify get an error or a row, but never panic.
        if let Ok(shard) = ShardReader::open(&path) {
            let _ = (shard.ids(), shard.labels(), shard.stats());
            for row in 0..shard.num_rows().min(4) {
                let _ = shard.read(row, ViewSelection::WithGbuffer);
            }
        }
    }
}

#[test]
fn shallow_verification_covers_images_by_hash() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), |samples| samples[0].1.views[1].image_png.truncate(40));
    let shallow = verify(dir.path(), VerifyOptions::default(), &mut |_| {}).unwrap();
    assert!(
        shallow.is_ok(),
        "the bytes are those that were written: {:?}",
        shallow.problems
    );
    assert!(!report(dir.path()).is_ok(), "and not a PNG");
}

#[test]
fn a_truncated_shard_and_a_missing_one_are_problems_of_that_shard() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = write(dir.path(), |_| {});
    let path = dir.path().join(&manifest.shards[1].file);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..100]).unwrap();
    std::fs::remove_file(dir.path().join(&manifest.shards[2].file)).unwrap();
    let report = report(dir.path());
    for shard in [1, 2] {
        assert!(
            report
                .problems
                .iter()
                .any(|p| p.file == manifest.shards[shard].file),
            "{:?}",
            report.problems
        );
    }
    assert_eq!(report.num_rows, 7, "the other shards were read");
    Dataset::open(dir.path()).unwrap_err();
}

#[test]
fn a_folder_that_is_no_dataset_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    assert!(
        matches!(
            verify(dir.path(), DEEP, &mut |_| {}),
            Err(DatasetError::Manifest(ManifestError::NotFound { .. }))
        ),
        "empty folder"
    );
    assert!(
        matches!(
            inspect(dir.path()),
            Err(DatasetError::Manifest(ManifestError::NotFound { .. }))
        ),
        "empty folder"
    );
    assert!(
        matches!(
            Dataset::open(&dir.path().join("nowhere")),
            Err(DatasetError::Manifest(ManifestError::NotFound { .. }))
        ),
        "no folder"
    );
}
