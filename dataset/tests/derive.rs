//! Datasets from the rows of others: selected, joined, with other splits and classes, and made again of what another program
//! wrote.
#![cfg(feature = "build")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;
mod rewritten;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use rewritten::{columns, rewrite, with_columns};
use tap_dataset::{
    ClassRule, ColumnSet, Columns, Dataset, DatasetError, DeriveError, DeriveOptions, DeriveReport, Manifest,
    RowLayout, RowRules, Sample, Split, SplitRule, VerifyOptions, ViewSelection, derive, open_foreign,
    verify, write_samples,
};

const LAYOUT: RowLayout = RowLayout {
    num_points: 16,
    num_views: 2,
    image_size_px: 8,
    columns: Columns::DEFAULT,
};

/// Samples of three classes, with parts of their class.
fn samples(seeds: std::ops::Range<u64>) -> Vec<(Split, Sample)> {
    let parts = fixture::header(LAYOUT).parts;
    seeds
        .map(|seed| {
            let mut sample = fixture::sample(LAYOUT, seed);
            let own = |label: &usize| parts[*label].category == sample.category;
            let own: Vec<u8> = (0..parts.len()).filter(own).map(|label| label as u8).collect();
            sample.part_labels = Some((0..LAYOUT.num_points).map(|i| own[i % own.len()]).collect());
            (Split::ALL[(seed % 5 % 3) as usize], sample)
        })
        .collect()
}

fn write(dir: &Path, seeds: std::ops::Range<u64>) -> Dataset {
    write_samples(dir, &fixture::header(LAYOUT), 4, samples(seeds)).unwrap();
    Dataset::open(dir).unwrap()
}

fn options(out: PathBuf) -> DeriveOptions {
    DeriveOptions {
        name: "test".to_owned(),
        out,
        rows_per_shard: 4,
        force: false,
    }
}

fn derive_to(out: &Path, inputs: &[Dataset], rules: &RowRules) -> Result<DeriveReport, DatasetError> {
    let report = derive(
        inputs,
        rules,
        &options(out.to_owned()),
        &AtomicBool::new(false),
        &mut |_| {},
    )?;
    let verified = verify(out, VerifyOptions { is_deep: true }, &mut |_| {}).unwrap();
    assert_eq!(verified.problems, []);
    Ok(report.unwrap())
}

/// All rows by id, with the split and the names of class and parts in place of their numbers.
type Named = BTreeMap<String, (Split, Sample, Vec<String>)>;

fn named_rows(dir: &Path) -> Named {
    let dataset = Dataset::open(dir).unwrap();
    let mut rows = BTreeMap::new();
    for split in Split::ALL {
        for row in 0..dataset.len(split) {
            let mut sample = dataset.read(split, row, ViewSelection::All).unwrap();
            assert_eq!(dataset.classes()[sample.label as usize], sample.category);
            sample.label = 0;
            let labels = sample.part_labels.take().unwrap_or_default();
            let parts = &dataset.manifest().parts;
            let names = labels.iter().map(|&label| {
                let part = &parts[usize::from(label)];
                assert_eq!(part.category, sample.category);
                part.name.clone()
            });
            let names = names.collect();
            rows.insert(sample.id.to_string(), (split, sample, names));
        }
    }
    rows
}

#[test]
fn shards_without_rows_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let [all, none] = ["all", "none"].map(|name| dir.path().join(name));
    let dataset = write(&all, 0..4);
    let options = DeriveOptions {
        rows_per_shard: 0,
        ..options(none.clone())
    };
    let error = derive(
        &[dataset],
        &RowRules::default(),
        &options,
        &AtomicBool::new(false),
        &mut |_| {},
    );
    assert!(error.unwrap_err().to_string().contains("rows_per_shard"));
    assert!(!none.exists(), "nothing is written");
}

#[test]
fn selected_rows_are_those_of_the_dataset_with_labels_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let [all, lamps, few] = ["all", "lamps", "few"].map(|name| dir.path().join(name));
    let dataset = write(&all, 0..24);
    let rules = RowRules {
        predicate: Some(
            "category = 'lamp' and num_triangles >= 0 and split <> 'test'"
                .parse()
                .unwrap(),
        ),
        ..RowRules::default()
    };
    let report = derive_to(&lamps, &[dataset], &rules).unwrap();
    assert_eq!(report.classes, ["lamp"]);

    let mut expected = named_rows(&all);
    expected.retain(|id, (split, ..)| id.starts_with("lamp/") && *split != Split::Test);
    assert_eq!(named_rows(&lamps), expected);
    assert_eq!(
        (report.num_rows, report.num_left_out),
        (expected.len(), 24 - expected.len())
    );
    let [parent, manifest] = [&all, &lamps].map(|dir| Manifest::read(dir).unwrap());
    assert_eq!(
        (&manifest.parent, &manifest.recipe),
        (&parent.sha256, &parent.recipe)
    );

    let rules = RowRules {
        max_per_class: Some(1),
        seed: 3,
        ..RowRules::default()
    };
    let report = derive_to(&few, &[Dataset::open(&all).unwrap()], &rules).unwrap();
    assert!(
        report.num_rows_by_split.values().all(|&rows| rows <= 3),
        "{report:?}"
    );
}

#[test]
fn joined_rows_are_those_of_all_datasets() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b, all, joined] = ["a", "b", "all", "joined"].map(|name| dir.path().join(name));
    let inputs = [write(&a, 0..9), write(&b, 9..20)];
    write(&all, 0..20);
    derive_to(&joined, &inputs, &RowRules::default()).unwrap();
    assert_eq!(named_rows(&joined), named_rows(&all));

    let twice = [Dataset::open(&a).unwrap(), Dataset::open(&joined).unwrap()];
    let error = derive_to(&dir.path().join("x"), &twice, &RowRules::default()).unwrap_err();
    assert!(
        matches!(error, DatasetError::Derive(DeriveError::DuplicateId { .. })),
        "{error}"
    );
    assert!(!dir.path().join("x").exists(), "nothing was begun");
}

#[test]
fn other_splits_and_classes_leave_the_rest_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let [all, drawn, listed, seats] = ["all", "drawn", "listed", "seats"].map(|name| dir.path().join(name));
    let rows = write(&all, 0..24)
        .manifest()
        .shards
        .iter()
        .map(|shard| shard.rows)
        .sum::<usize>();
    let open = || [Dataset::open(&all).unwrap()];
    let rules = |splits, classes| RowRules {
        splits,
        classes,
        ..RowRules::default()
    };
    let ratios = SplitRule::Ratios("0.5,0.25,0.25".parse().unwrap());
    let report = derive_to(&drawn, &open(), &rules(ratios, ClassRule::Keep)).unwrap();
    let expected = [("test", 6), ("train", 12), ("val", 6)].map(|(split, rows)| (split.to_owned(), rows));
    assert_eq!(report.num_rows_by_split, BTreeMap::from(expected));
    let without_split = |rows: Named| -> Vec<_> {
        rows.into_values()
            .map(|(_, sample, parts)| (sample, parts))
            .collect()
    };
    assert_eq!(without_split(named_rows(&drawn)), without_split(named_rows(&all)));
    assert_eq!(report.num_rows, rows);

    let list = dir.path().join("splits.csv");
    fs::write(&list, "id,split\nchair/object_0000,test\nlamp/object_0001,val\n").unwrap();
    derive_to(&listed, &open(), &rules(SplitRule::List(list), ClassRule::Keep)).unwrap();
    let splits: Vec<_> = named_rows(&listed)
        .into_iter()
        .map(|(id, (split, ..))| (id, split))
        .collect();
    assert_eq!(
        splits,
        [
            ("chair/object_0000".to_owned(), Split::Test),
            ("lamp/object_0001".to_owned(), Split::Val)
        ]
    );

    let names = [("chair", "seat"), ("mug", "seat")].map(|(old, new)| (old.to_owned(), new.to_owned()));
    let renamed = ClassRule::Rename(BTreeMap::from(names));
    let report = derive_to(&seats, &open(), &rules(SplitRule::Keep, renamed)).unwrap();
    assert_eq!(report.classes, ["lamp", "seat"]);
    let parts = |rows: Named| -> Vec<Vec<String>> {
        let mut parts: Vec<_> = rows.into_values().map(|(_, _, parts)| parts).collect();
        parts.sort();
        parts
    };
    assert_eq!(parts(named_rows(&seats)), parts(named_rows(&all)));

    let unknown = ClassRule::Rename(BTreeMap::from([("sofa".to_owned(), "seat".to_owned())]));
    let error = derive_to(&dir.path().join("x"), &open(), &rules(SplitRule::Keep, unknown)).unwrap_err();
    assert!(error.to_string().contains("chair, lamp, mug"), "{error}");
}

#[test]
fn what_was_stopped_anywhere_is_resumed_to_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let [all, whole, stopped] = ["all", "whole", "stopped"].map(|name| dir.path().join(name));
    let inputs = [write(&all, 0..24)];
    derive_to(&whole, &inputs, &RowRules::default()).unwrap();
    let mut is_done = false;
    while !is_done {
        let cancel = AtomicBool::new(false);
        let mut num_written = 0;
        let mut on_event = |event| {
            num_written += usize::from(event == tap_dataset::DeriveEvent::Written);
            cancel.store(num_written == 6, Ordering::Relaxed);
        };
        is_done = derive(
            &inputs,
            &RowRules::default(),
            &options(stopped.clone()),
            &cancel,
            &mut on_event,
        )
        .unwrap()
        .is_some();
    }
    for entry in fs::read_dir(&whole).unwrap() {
        let name = entry.unwrap().file_name();
        assert_eq!(
            fs::read(whole.join(&name)).unwrap(),
            fs::read(stopped.join(&name)).unwrap(),
            "{name:?}"
        );
    }
}

#[test]
fn what_another_program_wrote_is_a_dataset_again_and_what_was_lost_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let [all, foreign, adopted] = ["all", "foreign", "adopted"].map(|name| dir.path().join(name));
    write(&all, 0..24);
    write(&foreign, 0..24);
    // Half of the rows, one column more, no normals, no metadata, Zstandard.
    let properties = || WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default()));
    rewrite(&foreign, &properties, &HashMap::clear, &|batch: RecordBatch| {
        let batch = batch.slice(0, batch.num_rows().div_ceil(2));
        let score: ArrayRef = Arc::new(Int64Array::from_iter_values(0..batch.num_rows() as i64));
        let kept = columns(&batch).into_iter().filter(|(name, _)| name != "normals");
        with_columns(kept.chain([("score".to_owned(), score)]))
    });
    fs::remove_file(foreign.join("_manifest.json")).unwrap();

    let (dataset, files) = open_foreign(&foreign, Some(&all)).unwrap();
    assert_eq!(files.missing_columns, ["normals"]);
    assert_eq!(files.ignored_columns, ["score"]);
    let report = derive_to(&adopted, &[dataset], &RowRules::default()).unwrap();
    assert_eq!(files.num_missing_rows, Some(24 - report.num_rows));
    assert_eq!(files.num_new_rows, Some(0));

    let mut expected = named_rows(&all);
    let rows = named_rows(&adopted);
    expected.retain(|id, _| rows.contains_key(id));
    for (_, sample, _) in expected.values_mut() {
        sample.normals = None;
    }
    assert_eq!(rows, expected);
    let manifest = Manifest::read(&adopted).unwrap();
    assert_eq!(
        manifest.layout.columns,
        Columns::DEFAULT.without(ColumnSet::Normals)
    );
    assert_eq!(manifest.recipe, Manifest::read(&all).unwrap().recipe);

    // Without the original: no parts, since nobody knows what their numbers mean.
    let (dataset, files) = open_foreign(&foreign, None).unwrap();
    assert!(!dataset.columns().has(ColumnSet::Parts));
    assert_eq!((files.num_missing_rows, files.has_splits), (None, true));
    derive_to(&dir.path().join("alone"), &[dataset], &RowRules::default()).unwrap();

    for (name, content) in [("no-parquet", None), ("no-rows", Some("PAR1"))] {
        let folder = dir.path().join(name);
        fs::create_dir(&folder).unwrap();
        if let Some(content) = content {
            fs::write(folder.join("train.parquet"), content).unwrap();
        }
        open_foreign(&folder, None).unwrap_err();
    }
}
