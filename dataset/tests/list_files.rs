//! A data set whose objects are listed in files is what it would be with all of them in its manifest: built, resumed, mended,
//! merged, relit, rebuilt and verified. A list that is damaged, missing or of another data set is refused by name.
#![cfg(feature = "build")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod boxes;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use boxes::{boxes, bytes, names, open, options, recipe, run_with};
use tap_dataset::{
    BuildEvent, BuildOptions, BuildPart, BuildRecipe, Dataset, DatasetError, DatasetPlan, DatasetWriter,
    DeriveOptions, LIST_FILES_SCHEMA_VERSION, Manifest, ObjectEntry, RelightOptions, RowRules,
    SCHEMA_VERSION, SkipReason, SkippedObject, Split, VerifyOptions, build, build_status, derive,
    finish_build, image_set_dir, inspect, merge, rebuild, relight, report, verify,
};
use tap_render::Lighting;

const LISTS: [&str; 3] = ["_left-out.parq", "_objects-00000-of-00001.parq", "_skipped.parq"];

/// Boxes of which two are broken, and one is left out on purpose.
fn source() -> tempfile::TempDir {
    let source = boxes();
    for broken in ["plank/05.obj", "crate/12.obj"] {
        fs::write(source.path().join(broken), "this is no mesh").unwrap();
    }
    let splits = fs::read_to_string(source.path().join("split.csv")).unwrap();
    fs::write(
        source.path().join("split.csv"),
        splits.replace("03,plank,train\n", ""),
    )
    .unwrap();
    source
}

fn large(gbuffer: bool) -> BuildRecipe {
    BuildRecipe {
        max_objects_in_manifest: 8,
        gbuffer,
        ..recipe()
    }
}

fn build_large(source: &Path, out: &Path) -> Manifest {
    run_with(source, &large(false), &options(out, 2))
        .unwrap()
        .manifest
}

fn objects(manifest: &Manifest) -> Vec<ObjectEntry> {
    let mut objects = Vec::new();
    let of_shards = manifest.objects().unwrap();
    of_shards
        .visit(&mut |_, object| {
            objects.push(object.clone());
            Ok(())
        })
        .unwrap();
    let one_by_one = of_shards
        .shards()
        .flat_map(|shard| of_shards.of_shard(shard).unwrap().into_owned());
    assert!(one_by_one.eq(objects.iter().cloned()), "a shard at a time");
    objects
}

fn skipped(manifest: &Manifest) -> Vec<SkippedObject> {
    let mut skipped = manifest.first_skipped(usize::MAX).unwrap();
    skipped.sort_by(|a, b| (a.split, &a.id).cmp(&(b.split, &b.id)));
    skipped
}

fn error<T>(result: Result<T, DatasetError>) -> String {
    match result {
        Ok(_) => panic!("it was not refused"),
        Err(error) => error.to_string(),
    }
}

fn problems(dir: &Path) -> Vec<String> {
    let report = verify(dir, VerifyOptions::default(), &mut |_| {}).unwrap();
    report.problems.iter().map(ToString::to_string).collect()
}

#[test]
fn lists_say_what_the_manifest_would() {
    let (source, dir) = (source(), tempfile::tempdir().unwrap());
    let [small, big] = ["small", "big"].map(|name| dir.path().join(name));
    run_with(source.path(), &recipe(), &options(&small, 2)).unwrap();
    let built = build_large(source.path(), &big);
    let [of_small, of_big] = [&small, &big].map(|dir| Manifest::read(dir).unwrap());
    assert_eq!(built, of_big, "what was written is what is read");
    assert_eq!(
        (of_small.schema_version, of_big.schema_version),
        (SCHEMA_VERSION, LIST_FILES_SCHEMA_VERSION)
    );
    assert!(
        names(&big)
            .iter()
            .filter(|name| name.starts_with('_') && *name != "_manifest.json")
            .eq(LISTS.iter()),
        "{:?}",
        names(&big)
    );
    assert_eq!(names(&small).len() + LISTS.len(), names(&big).len());
    let json = fs::read_to_string(big.join("_manifest.json")).unwrap();
    assert!(
        !json.contains("plank/05") && json.contains("\n    {\"file\": \"train-00000"),
        "{json}"
    );

    assert_eq!(objects(&of_big), objects(&of_small));
    assert_eq!(skipped(&of_big), skipped(&of_small));
    assert_eq!(skipped(&of_big).len(), 3);
    assert_eq!(of_big.skipped_by_reason(), of_small.skipped_by_reason());
    assert_eq!((of_big.num_failed(), of_small.num_failed()), (2, 2));
    let mut first = None;
    of_big
        .visit_skipped(&mut |object| {
            assert_eq!(first.replace(object.reason), None, "it was told to stop");
            ControlFlow::Break(())
        })
        .unwrap();
    assert_eq!(
        first,
        Some(SkipReason::NotInSplits),
        "what was left out comes first"
    );

    let of_both = [&small, &big].map(|dir| {
        let dataset = Dataset::open(dir).unwrap();
        let report = report(dir).unwrap();
        let ids = Split::ALL.map(|split| dataset.ids(split).unwrap());
        (
            ids,
            inspect(dir).unwrap().skipped,
            report.all.skipped,
            report.categories,
        )
    });
    assert_eq!(of_both[0], of_both[1]);
    for dir in [&small, &big] {
        assert_eq!(problems(dir), [""; 0]);
    }
    let status = build_status(&big).unwrap();
    assert!(status.is_complete && status.num_lost == 2, "{status:?}");
    // Once more, nothing changes.
    let before = bytes(&big);
    assert_eq!(finish_build(&big).unwrap(), of_big);
    build_large(source.path(), &big);
    assert!(bytes(&big) == before);
}

#[test]
fn a_stopped_build_goes_on_and_a_damaged_one_is_mended() {
    let (source, dir) = (source(), tempfile::tempdir().unwrap());
    let [one, out] = ["one", "out"].map(|name| dir.path().join(name));
    let manifest = build_large(source.path(), &one);
    let whole = bytes(&one);
    // After each shard in turn.
    loop {
        let cancel = AtomicBool::new(false);
        let mut stop = |event| {
            if matches!(event, BuildEvent::ShardWritten { .. }) {
                cancel.store(true, Ordering::Relaxed);
            }
        };
        let summary = build(
            &open(source.path()),
            &large(false),
            &options(&out, 1),
            &cancel,
            &mut stop,
        )
        .unwrap();
        if summary.is_complete {
            break;
        }
        let found = Manifest::read(&out).unwrap();
        assert!(found.shards.iter().all(|shard| shard.objects.is_empty()));
        assert_eq!(
            found.shards, summary.manifest.shards,
            "the journal says what is there"
        );
        assert_eq!(objects(&found), objects(&manifest)[..objects(&found).len()]);
        assert!(!skipped(&found).is_empty(), "from the journal");
        let status = build_status(&out).unwrap();
        assert_eq!(status.num_finished, found.shards.len());
        assert_eq!(status.skipped.values().sum::<usize>(), skipped(&found).len());
    }
    assert!(bytes(&out) == whole, "stops change no byte");

    for shard in &manifest.shards {
        fs::write(out.join(&shard.file), "cut").unwrap();
        assert!(build_large(source.path(), &out).is_complete());
        assert!(bytes(&out) == whole, "other bytes after {} was lost", shard.file);
    }
    // Without the lists nobody knows what the shards were made from.
    for list in &LISTS[1..] {
        fs::write(out.join(list), "cut").unwrap();
        build_large(source.path(), &out);
        assert!(bytes(&out) == whole, "other bytes after {list} was lost");
    }
    fs::write(out.join(LISTS[0]), "cut").unwrap();
    let forced = BuildOptions {
        force: true,
        ..options(&out, 2)
    };
    run_with(source.path(), &large(false), &forced).unwrap();
    assert!(bytes(&out) == whole, "built again");
}

#[test]
fn parts_and_copies_have_the_bytes_of_one_build() {
    let (source, dir) = (source(), tempfile::tempdir().unwrap());
    let at = |name: &str| dir.path().join(name);
    let manifest = build_large(source.path(), &at("one"));
    for count in [2, 5] {
        let part = |index| {
            let out = at(&format!("part-{index}-of-{count}"));
            let options = BuildOptions {
                part: Some(BuildPart { index, count }),
                ..options(&out, 2)
            };
            run_with(source.path(), &large(false), &options).unwrap();
            out
        };
        let parts: Vec<PathBuf> = (1..=count).map(part).collect();
        let out = at(&format!("of-{count}"));
        merge(&parts, &out, false, &mut |_| {}).unwrap();
        assert!(bytes(&out) == bytes(&at("one")), "{count} parts");
    }
    // From the manifest, with its lists, and the meshes.
    fs::remove_file(source.path().join("split.csv")).unwrap();
    let report = rebuild(
        &manifest,
        source.path(),
        &options(&at("again"), 2),
        &AtomicBool::new(false),
        &mut |_| {},
    );
    let report = report.unwrap().unwrap();
    assert!(report.is_equal && report.num_equal_objects == 13, "{report:?}");
    assert!(bytes(&at("again")) == bytes(&at("one")), "to the byte");

    // Rows of another data set keep the paths of their meshes.
    let derived = DeriveOptions {
        name: "select".to_owned(),
        out: at("derived"),
        rows_per_shard: 5,
        force: false,
    };
    let inputs = [Dataset::open(&at("one")).unwrap()];
    derive(
        &inputs,
        &RowRules::default(),
        &derived,
        &AtomicBool::new(false),
        &mut |_| {},
    )
    .unwrap();
    let paths = |dir: &str| -> Vec<String> {
        let rows = objects(&Manifest::read(&at(dir)).unwrap()).into_iter();
        rows.filter(|object| object.row.is_some())
            .map(|object| object.path)
            .collect()
    };
    assert_eq!(paths("derived"), paths("one"));
}

#[test]
fn a_relit_data_set_and_an_image_set_have_lists_too() {
    let (source, dir) = (source(), tempfile::tempdir().unwrap());
    let at = |name: &str| dir.path().join(name);
    run_with(source.path(), &large(true), &options(&at("data"), 2)).unwrap();
    let lighting = Lighting::hemisphere();
    let image_set = image_set_dir(&at("data"), "bright").unwrap();
    for (out, images_only) in [(at("relit"), false), (image_set.clone(), true)] {
        let options = RelightOptions {
            out,
            images_only,
            workers: 2,
            force: false,
        };
        let relit = relight(
            &at("data"),
            &lighting,
            &options,
            &AtomicBool::new(false),
            &mut |_| {},
        );
        assert!(relit.unwrap().is_some());
    }
    let [parent, relit, images] =
        [at("data"), at("relit"), image_set.clone()].map(|dir| Manifest::read(&dir).unwrap());
    for child in [relit, images] {
        assert_eq!(child.schema_version, LIST_FILES_SCHEMA_VERSION);
        assert_eq!(skipped(&child), skipped(&parent));
        let ids = |manifest: &Manifest| objects(manifest).into_iter().map(|object| object.id);
        assert!(ids(&child).eq(ids(&parent)));
    }
    for dir in ["data", "relit"] {
        assert_eq!(problems(&at(dir)), [""; 0]);
    }
    let list = image_set.join(LISTS[1]);
    let mut changed = fs::read(&list).unwrap();
    changed[100] ^= 1;
    fs::write(&list, changed).unwrap();
    let found = problems(&at("data"));
    assert!(
        found[0].contains("bright/_objects-00000") && found[0].contains("changed"),
        "{found:?}"
    );
}

#[test]
fn a_damaged_missing_or_foreign_list_is_named() {
    let (source, dir) = (source(), tempfile::tempdir().unwrap());
    let out = dir.path().join("out");
    let manifest = build_large(source.path(), &out);
    let other = dir.path().join("other");
    let other_recipe = BuildRecipe {
        seed: 7,
        ..large(false)
    };
    run_with(source.path(), &other_recipe, &options(&other, 2)).unwrap();
    for list in LISTS {
        let path = out.join(list);
        let whole = fs::read(&path).unwrap();
        // A flipped byte anywhere is found.
        for place in (0..whole.len()).step_by(whole.len() / 7) {
            let mut changed = whole.clone();
            changed[place] ^= 1;
            fs::write(&path, changed).unwrap();
            let found = problems(&out);
            assert!(
                found[0].starts_with(list) && found[0].contains("changed"),
                "{found:?}"
            );
        }
        let visit = || -> Result<(), DatasetError> {
            manifest.objects()?.visit(&mut |_, _| Ok(()))?;
            manifest.first_skipped(usize::MAX).map(drop)
        };
        fs::remove_file(&path).unwrap();
        let refused = error(visit());
        assert!(refused.contains("missing") && refused.contains(list), "{refused}");
        assert!(problems(&out)[0].starts_with(list), "{:?}", problems(&out));

        fs::copy(other.join(list), &path).unwrap();
        let refused = error(visit());
        assert!(
            (refused.contains("another data set") || refused.contains("bytes instead"))
                && refused.contains(list),
            "{refused}"
        );
        fs::write(&path, &whole[..whole.len() - 9]).unwrap();
        assert!(error(visit()).contains(list));
        fs::write(&path, whole).unwrap();
        visit().unwrap();
    }
    assert_eq!(problems(&out), [""; 0]);
}

#[test]
fn numbers_that_do_not_add_up_are_refused() {
    let (source, dir) = (source(), tempfile::tempdir().unwrap());
    let out = dir.path().join("out");
    build_large(source.path(), &out);
    let json = fs::read_to_string(out.join("_manifest.json")).unwrap();
    for (from, to) in [
        ("\"rows\": 13", "\"rows\": 12"),
        ("\"rows\": 13", "\"rows\": 18446744073709551615"),
        ("\"rows\": 13", "\"rows\": -1"),
        ("\"num_objects\": 4", "\"num_objects\": 5"),
        ("\"num_objects\": 4", "\"num_objects\": 18446744073709551615"),
        ("\"empty\": 1", "\"empty\": 2"),
        ("\"empty\": 1", "\"empty\": 18446744073709551615"),
        ("_objects-00000-of-00001.parq", "../objects-00000-of-00001.parq"),
        ("_skipped.parq", "/etc/passwd"),
        ("\"schema_version\": 5", "\"schema_version\": 4"),
        ("\"skipped\": []", "\"skipped\": [], \"more\": 1"),
    ] {
        assert!(json.contains(from), "{from} in {json}");
        fs::write(out.join("_manifest.json"), json.replacen(from, to, 1)).unwrap();
        let refused = error(Manifest::read(&out));
        assert!(
            refused.contains("damaged") && refused.contains("_manifest.json"),
            "{to}: {refused}"
        );
    }
    fs::write(out.join("_manifest.json"), &json).unwrap();
    Manifest::read(&out).unwrap();
}

#[test]
fn lists_of_others_are_not_replaced_and_too_many_shards_are_refused() {
    let (source, dir) = (source(), tempfile::tempdir().unwrap());
    let out = dir.path().join("out");
    let manifest = build_large(source.path(), &out);
    // A complete Parquet file under the name of a list.
    let mine = out.join("_objects-00007-of-00009.parq");
    fs::copy(out.join(&manifest.shards[0].file), &mine).unwrap();
    let forced = BuildOptions {
        force: true,
        ..options(&out, 2)
    };
    let refused = error(run_with(source.path(), &large(false), &forced));
    assert!(refused.contains("_objects-00007-of-00009.parq"), "{refused}");
    assert!(mine.exists());
    fs::remove_file(mine).unwrap();
    run_with(source.path(), &large(false), &forced).unwrap();

    let mut plan = DatasetPlan {
        header: tap_dataset::ShardHeader {
            layout: manifest.layout,
            classes: manifest.classes.clone(),
            parts: Vec::new(),
            recipe: manifest.recipe.clone(),
            adapter: manifest.adapter.clone(),
        },
        source: manifest.source.clone(),
        num_shards: manifest.num_shards.clone(),
        part: None,
        parent: None,
        is_relit: false,
        skipped: Vec::new(),
        has_list_files: true,
    };
    plan.num_shards[0].shards = 300_001;
    let refused = error(DatasetWriter::open(&dir.path().join("many"), &plan, false));
    assert!(
        refused.contains("300002 shards") && refused.contains("rows_per_shard"),
        "{refused}"
    );
    assert!(!dir.path().join("many").exists(), "nothing was begun");
}
