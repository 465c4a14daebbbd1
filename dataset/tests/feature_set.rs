//! Feature sets: what is written comes back, a stopped run goes on to the same bytes, and nothing that does not fit is read.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use fixture::{header, sample};
use tap_dataset::{
    Columns, Dataset, DatasetError, DatasetPlan, DatasetWriter, FEATURE_MANIFEST_FILE_NAME, FeatureLayout,
    FeatureManifest, FeatureRecipe, FeatureSet, FeatureSetError, FeatureSetWriter, FeatureViews, Manifest,
    RowFeatures, RowLayout, Split, StoreError, VerifyOptions, ViewSelection, feature_set_dir, feature_sets,
    verify, write_samples,
};

const ROWS: RowLayout = RowLayout {
    num_points: 24,
    num_views: 2,
    image_size_px: 12,
    columns: Columns::DEFAULT,
};
const LAYOUT: FeatureLayout = FeatureLayout {
    num_views: 2,
    height: 3,
    width: 4,
    num_channels: 5,
};
const NAME: &str = "dino";
/// Of float16.
const NAN: [u8; 2] = [0, 0x7e];

fn write_dataset(dir: &Path, num_rows: u64) -> Manifest {
    let split = |seed: u64| if seed % 4 == 3 { Split::Test } else { Split::Train };
    let samples = (0..num_rows)
        .map(|seed| (split(seed), sample(ROWS, seed)))
        .collect();
    write_samples(dir, &header(ROWS), 4, samples).unwrap()
}

fn recipe() -> FeatureRecipe {
    FeatureRecipe {
        network: String::from("ViT-S/16"),
        network_sha256: "ab".repeat(32),
        layer: Some(7),
        activation: None,
        mean: [0.5; 3],
        deviation: [0.25; 3],
        views: FeatureViews::Images,
        images: None,
        image_size_px: 48,
    }
}

/// The features of a row, which say which one it is.
fn features(dataset: &Dataset, split: Split, row: usize) -> RowFeatures {
    let id = dataset.ids(split).unwrap()[row].clone();
    let number = id.as_str().bytes().map(usize::from).sum::<usize>();
    let halves = |count: usize| -> Vec<u8> {
        (0..count)
            .flat_map(|i| ((number * 31 + i * 7) as u16 & 0x3fff).to_le_bytes())
            .collect()
    };
    RowFeatures {
        features: halves(2 * 3 * 4 * 5),
        saliency: halves(2 * 3 * 4),
        id,
    }
}

/// Writes rows until so many are written; whether all are.
fn write(
    dataset: &Dataset,
    recipe: FeatureRecipe,
    mut num_rows: usize,
    force: bool,
) -> Option<FeatureManifest> {
    let mut writer = FeatureSetWriter::open(dataset, NAME, recipe, LAYOUT, force).unwrap();
    for shard in writer.missing_shards() {
        for row in shard.first_row..shard.first_row + shard.num_rows {
            if num_rows == 0 {
                return None;
            }
            num_rows -= 1;
            writer
                .append(shard, &features(dataset, shard.split, row))
                .unwrap();
        }
        writer.finish_shard(shard).unwrap();
    }
    Some(writer.finish().unwrap())
}

fn write_all(dataset: &Dataset) -> FeatureManifest {
    write(dataset, recipe(), usize::MAX, false).unwrap()
}

/// Content of all files.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect()
}

fn problems(dir: &Path) -> Vec<String> {
    let report = verify(dir, VerifyOptions::default(), &mut |_| {}).unwrap();
    report.problems.iter().map(ToString::to_string).collect()
}

fn error(result: Result<FeatureSet, DatasetError>) -> FeatureSetError {
    match result.unwrap_err() {
        DatasetError::FeatureSet(error) => error,
        other => panic!("{other}"),
    }
}

#[test]
fn every_row_comes_back_with_the_views_that_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    write_dataset(dir, 14);
    let dataset = Dataset::open(dir).unwrap();
    let manifest = write_all(&dataset);
    assert_eq!(feature_sets(dir).unwrap(), [NAME]);
    let set = FeatureSet::open(&dataset, NAME).unwrap();
    assert_eq!(set.manifest(), &manifest);
    assert_eq!(Some(set.sha256()), manifest.sha256.as_deref());
    assert_eq!(set.layout(), LAYOUT);
    for split in [Split::Train, Split::Test] {
        for row in 0..dataset.len(split) {
            let whole = features(&dataset, split, row);
            assert_eq!(
                set.read(split, row, ViewSelection::All).unwrap(),
                whole,
                "{split} {row}"
            );
            let second = set.read(split, row, ViewSelection::Some(&[1, 0, 1])).unwrap();
            let (features, saliency) = (whole.features.split_at(120), whole.saliency.split_at(24));
            assert_eq!(second.features, [features.1, features.0, features.1].concat());
            assert_eq!(second.saliency, [saliency.1, saliency.0, saliency.1].concat());
        }
        set.read(split, dataset.len(split), ViewSelection::All)
            .unwrap_err();
        set.read(split, 0, ViewSelection::Some(&[2])).unwrap_err();
    }
    assert!(
        set.read(Split::Val, 0, ViewSelection::All).is_err(),
        "an empty split"
    );
    assert_eq!(problems(dir), [""; 0]);
    // The data set is what it was, for those who know nothing of features.
    assert_eq!(Dataset::open(dir).unwrap().sha256(), dataset.sha256());
}

#[test]
fn a_stopped_run_goes_on_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    write_dataset(&folder.path().join("whole"), 14);
    let dataset = Dataset::open(&folder.path().join("whole")).unwrap();
    write_all(&dataset);
    let whole = files(&feature_set_dir(dataset.dir(), NAME).unwrap());
    let stopped = folder.path().join("stopped");
    write_dataset(&stopped, 14);
    let dataset = Dataset::open(&stopped).unwrap();
    let dir = feature_set_dir(&stopped, NAME).unwrap();
    let mut num_files = 0;
    // Each time a little further.
    while write(&dataset, recipe(), 5, false).is_none() {
        assert!(
            matches!(
                error(FeatureSet::open(&dataset, NAME)),
                FeatureSetError::Incomplete { .. }
            ),
            "incomplete ones are not read"
        );
        assert!(problems(&stopped)[0].contains("incomplete"));
        // What a kill leaves: a file that is not complete, and one that is, but not listed.
        fs::write(dir.join("train-00000-of-00003.pq.partial"), "half").unwrap();
        let found = files(&dir);
        assert!(found.len() > num_files, "it goes on");
        num_files = found.len();
        let unlisted = "test-00000-of-00001.pq";
        if !found.contains_key(unlisted) {
            fs::write(dir.join(unlisted), "not listed").unwrap();
        }
    }
    assert_eq!(files(&dir), whole);
    // Again, with nothing left to do.
    write_all(&dataset);
    assert_eq!(files(&dir), whole);
}

#[test]
fn a_changed_byte_is_found_and_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    write_dataset(dir, 14);
    let dataset = Dataset::open(dir).unwrap();
    write_all(&dataset);
    let set = feature_set_dir(dir, NAME).unwrap();
    let whole = files(&set);
    let path = set.join("train-00001-of-00003.pq");
    let bytes = fs::read(&path).unwrap();
    for place in (0..bytes.len()).step_by(101) {
        let mut changed = bytes.clone();
        changed[place] ^= 0x10;
        fs::write(&path, &changed).unwrap();
        let found = problems(dir);
        assert!(
            found.iter().any(|p| p.contains("hash does not match")),
            "byte {place}: {found:?}"
        );
        // Whatever it says now, reading it does not panic.
        if let Ok(set) = FeatureSet::open(&dataset, NAME) {
            for row in 4..8 {
                let _ = set.read(Split::Train, row, ViewSelection::All);
            }
        }
    }
    for length in [0, 7, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&path, &bytes[..length]).unwrap();
        assert!(
            matches!(
                error(FeatureSet::open(&dataset, NAME)),
                FeatureSetError::Damaged { .. }
            ),
            "{length} bytes"
        );
    }
    write_all(&dataset);
    assert_eq!(files(&set), whole, "it is written again");
    fs::remove_file(&path).unwrap();
    FeatureSet::open(&dataset, NAME).unwrap_err();
    assert!(
        problems(dir)[0].contains("train-00001-of-00003.pq"),
        "{:?}",
        problems(dir)
    );
}

#[test]
fn another_network_under_the_same_name_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    write_dataset(folder.path(), 6);
    let dataset = Dataset::open(folder.path()).unwrap();
    write_all(&dataset);
    let other = FeatureRecipe {
        network_sha256: "cd".repeat(32),
        layer: None,
        ..recipe()
    };
    let refused = FeatureSetWriter::open(&dataset, NAME, other.clone(), LAYOUT, false).unwrap_err();
    let line = refused.to_string();
    assert!(line.contains("layer is 7 there and null here"), "{line}");
    assert!(line.contains("network_sha256"), "{line}");
    let wider = FeatureLayout {
        num_channels: 6,
        ..LAYOUT
    };
    let refused = FeatureSetWriter::open(&dataset, NAME, recipe(), wider, false).unwrap_err();
    assert!(refused.to_string().contains("layout"), "{refused}");
    let manifest = write(&dataset, other.clone(), usize::MAX, true).unwrap();
    assert_eq!(manifest.recipe, other, "unless it is forced");
    assert_eq!(problems(folder.path()), [""; 0]);
}

#[test]
fn features_of_other_rows_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    write_dataset(dir, 6);
    write_all(&Dataset::open(dir).unwrap());
    // The same folder, built again from other objects.
    let rebuilt = folder.path().join("rebuilt");
    write_dataset(&rebuilt, 5);
    fs::rename(dir.join("__features"), rebuilt.join("__features")).unwrap();
    let dir = &rebuilt;
    let dataset = Dataset::open(dir).unwrap();
    let refused = error(FeatureSet::open(&dataset, NAME));
    assert!(matches!(refused, FeatureSetError::Mismatch { .. }), "{refused}");
    let refused = FeatureSetWriter::open(&dataset, NAME, recipe(), LAYOUT, false).unwrap_err();
    assert!(refused.to_string().contains("other rows"), "{refused}");
    assert!(problems(dir)[0].contains("other rows"), "{:?}", problems(dir));
    write(&dataset, recipe(), usize::MAX, true).unwrap();
    assert_eq!(problems(dir), [""; 0]);
}

#[test]
fn only_what_was_written_here_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    write_dataset(dir, 6);
    let dataset = Dataset::open(dir).unwrap();
    write_all(&dataset);
    let set = feature_set_dir(dir, NAME).unwrap();
    fs::write(set.join("thesis.txt"), "mine").unwrap();
    for force in [false, true] {
        let refused = FeatureSetWriter::open(&dataset, NAME, recipe(), LAYOUT, force).unwrap_err();
        assert!(
            matches!(refused, DatasetError::Store(StoreError::ForeignFiles { .. })),
            "{refused}"
        );
    }
    // A data set with a foreign file among its features is not replaced either, and one without is.
    let open = || {
        let plan = DatasetPlan {
            header: header(ROWS),
            source: Manifest::read(dir).unwrap().source,
            num_shards: Vec::new(),
            part: None,
            parent: None,
            is_relit: false,
            skipped: Vec::new(),
            has_list_files: false,
        };
        DatasetWriter::open(dir, &plan, true).map(drop)
    };
    let refused = open().unwrap_err().to_string();
    assert!(refused.contains("__features/dino"), "{refused}");
    fs::remove_file(set.join("thesis.txt")).unwrap();
    open().unwrap();
}

#[test]
fn names_sizes_and_values_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    write_dataset(dir, 6);
    let dataset = Dataset::open(dir).unwrap();
    for name in ["", "..", "a/b", "a\nb"] {
        assert!(feature_set_dir(dir, name).is_err(), "{name:?}");
    }
    let absent = error(FeatureSet::open(&dataset, "clip"));
    assert!(matches!(absent, FeatureSetError::NotFound { .. }), "{absent}");
    let mut writer = FeatureSetWriter::open(&dataset, NAME, recipe(), LAYOUT, false).unwrap();
    let shard = writer.missing_shards()[0];
    let whole = features(&dataset, shard.split, 0);
    let mut short = whole.clone();
    short.saliency.pop();
    let mut infinite = whole.clone();
    infinite.features[8..10].copy_from_slice(&NAN);
    for (row, what) in [
        (short, "47 bytes of saliency"),
        (infinite, "features are infinite"),
    ] {
        let refused = writer.append(shard, &row).unwrap_err().to_string();
        assert!(
            refused.contains(what) && refused.contains(whole.id.as_str()),
            "{refused}"
        );
    }
    drop(writer);
    let manifest = feature_set_dir(dir, NAME)
        .unwrap()
        .join(FEATURE_MANIFEST_FILE_NAME);
    let text = fs::read_to_string(&manifest).unwrap();
    for (from, to) in [
        ("\"format_version\": 1", "\"format_version\": 2"),
        ("\"num_views\": 2", "\"num_views\": 0"),
        ("\"num_views\": 2", "\"num_views\": 18446744073709551615"),
        ("\"shards\": []", "\"shards\": [{}]"),
        ("{", "<html>"),
    ] {
        fs::write(&manifest, text.replacen(from, to, 1)).unwrap();
        let refused = error(FeatureSet::open(&dataset, NAME));
        assert!(
            matches!(refused, FeatureSetError::Damaged { .. }),
            "{to}: {refused}"
        );
    }
}
