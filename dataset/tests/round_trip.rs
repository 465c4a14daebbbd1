//! Round trips of whole datasets, single rows and selected views.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use fixture::{header, sample};
use proptest::prelude::*;
use tap_dataset::{
    ColumnSet, Columns, Dataset, DatasetError, ManifestError, RowLayout, SCHEMA_VERSION, Sample, ShardError,
    Split, StoreError, ViewSelection, decode_gray_png, write_samples,
};

const GBUFFER: Columns = Columns::DEFAULT.with(ColumnSet::Gbuffer);
const GBUFFER_WITH_ALBEDO: Columns = Columns::DEFAULT.with(ColumnSet::GbufferAlbedo);
const LAYOUT: RowLayout = RowLayout {
    num_points: 33,
    num_views: 3,
    image_size_px: 13,
    columns: Columns::DEFAULT,
};

fn samples(num: u64) -> Vec<(Split, Sample)> {
    let split = |seed| if seed % 4 == 3 { Split::Test } else { Split::Train };
    (0..num).map(|seed| (split(seed), sample(LAYOUT, seed))).collect()
}

/// Samples of a split in row order.
fn sorted(samples: &[(Split, Sample)], split: Split) -> Vec<Sample> {
    let mut samples: Vec<Sample> = samples
        .iter()
        .filter(|(s, _)| *s == split)
        .map(|(_, s)| s.clone())
        .collect();
    samples.sort_by(|a, b| a.id.cmp(&b.id));
    samples
}

#[test]
fn a_dataset_gives_back_every_row_over_several_shards_and_row_groups() {
    let dir = tempfile::tempdir().unwrap();
    let samples = samples(300);
    let manifest = write_samples(dir.path(), &header(LAYOUT), 100, samples.clone()).unwrap();
    assert_eq!(
        manifest.shards.len(),
        4,
        "225 train rows in 3 shards, 75 test rows in one"
    );

    let dataset = Dataset::open(dir.path()).unwrap();
    assert_eq!(dataset.sha256(), manifest.sha256.unwrap());
    assert_eq!(dataset.layout(), LAYOUT);
    assert!(dataset.is_empty(Split::Val), "no row was given to it");
    for split in [Split::Train, Split::Test] {
        let expected = sorted(&samples, split);
        assert_eq!(dataset.len(split), expected.len());
        assert_eq!(
            dataset.labels(split).unwrap(),
            expected.iter().map(|s| s.label).collect::<Vec<_>>()
        );
        assert_eq!(
            dataset.ids(split).unwrap(),
            expected.iter().map(|s| s.id.clone()).collect::<Vec<_>>()
        );
        for (row, expected) in expected.iter().enumerate().rev() {
            assert_eq!(dataset.read(split, row, ViewSelection::All).unwrap(), *expected);
        }
    }
}

#[test]
fn chosen_views_come_alone_and_in_the_order_asked() {
    let dir = tempfile::tempdir().unwrap();
    let all = samples(8);
    write_samples(dir.path(), &header(LAYOUT), 4, all.clone()).unwrap();
    let dataset = Dataset::open(dir.path()).unwrap();
    let expected = &sorted(&all, Split::Train)[5];
    let none = dataset.read(Split::Train, 5, ViewSelection::None).unwrap();
    assert_eq!(
        none,
        Sample {
            views: Vec::new(),
            ..expected.clone()
        }
    );
    let two = dataset
        .read(Split::Train, 5, ViewSelection::Some(&[2, 0]))
        .unwrap();
    assert_eq!(two.views, [expected.views[2].clone(), expected.views[0].clone()]);
    let image = decode_gray_png(&two.views[0].image_png).unwrap();
    assert_eq!((image.width_px, image.height_px), (13, 13));

    assert!(matches!(
        dataset.read(Split::Train, 6, ViewSelection::All),
        Err(DatasetError::Shard(ShardError::NoSuchRow {
            row: 6,
            num_rows: 6,
            ..
        }))
    ));
    assert!(matches!(
        dataset.read(Split::Train, 0, ViewSelection::Some(&[3])),
        Err(DatasetError::Shard(ShardError::NoSuchView {
            view: 3,
            num_views: 3
        }))
    ));
}

#[test]
fn threads_read_one_dataset_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let all = samples(64);
    write_samples(dir.path(), &header(LAYOUT), 16, all.clone()).unwrap();
    let dataset = Dataset::open(dir.path()).unwrap();
    let expected = sorted(&all, Split::Train);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (dataset, expected) = (&dataset, &expected);
            scope.spawn(move || {
                for i in 0..200 {
                    let row = (i * 31 + thread * 7) % expected.len();
                    assert_eq!(
                        dataset.read(Split::Train, row, ViewSelection::All).unwrap(),
                        expected[row]
                    );
                }
            });
        }
    });
}

#[test]
fn the_same_samples_give_the_same_bytes_in_any_order() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut samples = samples(20);
    let a = write_samples(one.path(), &header(LAYOUT), 8, samples.clone()).unwrap();
    samples.reverse();
    let b = write_samples(two.path(), &header(LAYOUT), 8, samples).unwrap();
    assert_eq!(a, b);
}

#[test]
fn a_sample_that_breaks_the_layout_is_refused_and_nothing_half_written_stays() {
    let dir = tempfile::tempdir().unwrap();
    let mut samples = samples(4);
    samples[2].1.points.pop();
    let error = write_samples(dir.path(), &header(LAYOUT), 8, samples).unwrap_err();
    assert!(error.to_string().contains("32 points instead of 33"), "{error}");
    let left: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left, ["_manifest.json"], "no shard, no partial file");
    assert!(
        matches!(
            Dataset::open(dir.path()),
            Err(DatasetError::Manifest(ManifestError::Incomplete { .. }))
        ),
        "and it says that it isn't whole"
    );
}

#[test]
fn another_recipe_in_the_same_folder_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    write_samples(dir.path(), &header(LAYOUT), 8, samples(4)).unwrap();
    let mut other = header(LAYOUT);
    other.recipe["seed"] = 7.into();
    let error = write_samples(dir.path(), &other, 8, samples(4))
        .unwrap_err()
        .to_string();
    assert!(error.contains("recipe.seed is 0 there and 7 here"), "{error}");
    Dataset::open(dir.path()).unwrap();
}

#[test]
fn a_folder_with_files_of_the_user_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("thesis.tex"), "do not touch").unwrap();
    let error = write_samples(dir.path(), &header(LAYOUT), 8, samples(4))
        .unwrap_err()
        .to_string();
    assert!(error.contains("thesis.tex"), "{error}");
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        1,
        "nothing was written"
    );
}

#[test]
fn a_second_build_in_the_same_folder_waits_outside() {
    let dir = tempfile::tempdir().unwrap();
    let held = std::fs::File::open(dir.path()).unwrap();
    held.lock().unwrap();
    let error = write_samples(dir.path(), &header(LAYOUT), 8, samples(4)).unwrap_err();
    assert!(
        matches!(error, DatasetError::Store(StoreError::Locked { .. })),
        "{error}"
    );
    drop(held);
    write_samples(dir.path(), &header(LAYOUT), 8, samples(4)).unwrap();
}

#[test]
fn stale_partial_and_unlisted_shards_are_swept() {
    let (broken, clean) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for name in [
        "train-00000-of-00001.parquet.partial",
        "test-00000-of-00001.parquet",
        "_manifest.json.partial",
    ] {
        std::fs::write(broken.path().join(name), "cut").unwrap();
    }
    let a = write_samples(broken.path(), &header(LAYOUT), 8, samples(4)).unwrap();
    let b = write_samples(clean.path(), &header(LAYOUT), 8, samples(4)).unwrap();
    assert_eq!(a, b);
    assert_eq!(
        std::fs::read_dir(broken.path()).unwrap().count(),
        3,
        "two shards and the manifest"
    );
}

#[test]
fn a_truncated_a_missing_and_a_foreign_shard_are_named() {
    let dir = tempfile::tempdir().unwrap();
    write_samples(dir.path(), &header(LAYOUT), 8, samples(4)).unwrap();
    let path = dir.path().join("train-00000-of-00001.parquet");
    let whole = std::fs::read(&path).unwrap();

    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let error = Dataset::open(dir.path()).unwrap_err();
    assert!(
        matches!(error, DatasetError::Shard(ShardError::Length { .. }))
            && error.to_string().contains("train-00000"),
        "{error}"
    );

    // Correct length, but another schema version inside.
    let (key, value) = (b"tap.schema_version", SCHEMA_VERSION.to_string());
    let at = whole.windows(key.len()).position(|w| w == key).unwrap() + key.len();
    let digit = whole[at..]
        .iter()
        .position(|&b| b == value.as_bytes()[0])
        .unwrap()
        + at;
    let mut flipped = whole.clone();
    flipped[digit] = b'9';
    std::fs::write(&path, flipped).unwrap();
    let error = Dataset::open(dir.path()).unwrap_err();
    assert!(
        matches!(error, DatasetError::Manifest(ManifestError::SchemaVersion { .. })),
        "{error}"
    );

    // Correct length, but not Parquet.
    std::fs::write(&path, vec![0; whole.len()]).unwrap();
    assert!(
        matches!(
            Dataset::open(dir.path()),
            Err(DatasetError::Shard(ShardError::Parquet { .. }))
        ),
        "zeros"
    );

    std::fs::remove_file(&path).unwrap();
    assert!(
        matches!(
            Dataset::open(dir.path()),
            Err(DatasetError::Store(StoreError::Io { .. }))
        ),
        "missing"
    );
}

#[test]
fn only_whoever_asks_reads_the_gbuffer() {
    for columns in [GBUFFER, GBUFFER_WITH_ALBEDO] {
        let layout = RowLayout { columns, ..LAYOUT };
        let dir = tempfile::tempdir().unwrap();
        let expected = sample(layout, 3);
        write_samples(
            dir.path(),
            &header(layout),
            8,
            vec![(Split::Train, expected.clone())],
        )
        .unwrap();
        let dataset = Dataset::open(dir.path()).unwrap();
        let read = |views| dataset.read(Split::Train, 0, views).unwrap();
        assert_eq!(read(ViewSelection::WithGbuffer), expected);
        let without = read(ViewSelection::All);
        assert!(
            without.views.iter().all(|view| view.gbuffer.is_none()),
            "not asked for"
        );
        assert_eq!(without.views[1].image_png, expected.views[1].image_png);
        let other = sample(LAYOUT, 4);
        let error = write_samples(
            &dir.path().join("other"),
            &header(layout),
            8,
            vec![(Split::Train, other)],
        );
        assert!(
            error.unwrap_err().to_string().contains("G-buffer"),
            "a row without one"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_layout_and_any_number_of_rows_survive(
        num_points in 1_usize..40,
        num_views in 1_usize..5,
        image_size_px in 1_u32..20,
        num_rows in 1_u64..150,
        rows_per_shard in 1_usize..100,
    ) {
        let layout = RowLayout { num_points, num_views, image_size_px, columns: Columns::DEFAULT };
        let dir = tempfile::tempdir().unwrap();
        let samples: Vec<_> = (0..num_rows).map(|seed| (Split::Train, sample(layout, seed))).collect();
        write_samples(dir.path(), &header(layout), rows_per_shard, samples.clone()).unwrap();
        let dataset = Dataset::open(dir.path()).unwrap();
        let expected = sorted(&samples, Split::Train);
        prop_assert_eq!(dataset.len(Split::Train), expected.len());
        for row in [0, expected.len() / 2, expected.len() - 1] {
            prop_assert_eq!(&dataset.read(Split::Train, row, ViewSelection::All).unwrap(), &expected[row]);
        }
    }
}
