//! Meshes that are removed or truncated during a build: each is skipped with a reason and does not affect
//! other rows.
#![cfg(feature = "build")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod boxes;

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use boxes::{boxes, bytes, open, options, recipe, run, run_with};
use tap_dataset::{
    BuildEvent, BuildRecipe, BuildSummary, Dataset, SkipReason, Split, VerifyOptions, ViewSelection, build,
    verify,
};

/// Builds while changing the source: before the first mesh is read, and after the first row.
fn build_while(
    source: &Path,
    out: &Path,
    before: impl FnOnce(&Path),
    after_first_row: impl FnOnce(&Path),
) -> (BuildSummary, Vec<String>) {
    let looked_through = open(source);
    before(source);
    let mut after_first_row = Some(after_first_row);
    let mut skip_messages = Vec::new();
    let summary = build(
        &looked_through,
        &recipe(),
        &options(out, 1),
        &AtomicBool::new(false),
        &mut |event| match event {
            BuildEvent::Done { .. } => {
                if let Some(act) = after_first_row.take() {
                    act(source);
                }
            }
            BuildEvent::Skipped { id, reason, message } => {
                skip_messages.push(format!("{id} {reason} {message}"));
            }
            _ => {}
        },
    );
    (summary.unwrap(), skip_messages)
}

fn row_of(dir: &Path, id: &str) -> tap_dataset::Sample {
    let dataset = Dataset::open(dir).unwrap();
    for split in Split::ALL {
        if let Some(row) = dataset.ids(split).unwrap().iter().position(|i| i.as_str() == id) {
            return dataset.read(split, row, ViewSelection::All).unwrap();
        }
    }
    panic!("{id} is no row");
}

#[test]
fn a_mesh_that_goes_or_shrinks_while_a_build_runs_costs_itself() {
    let (source, out, whole) = (
        boxes(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    run(source.path(), whole.path(), 2).unwrap();
    let (summary, skip_messages) = build_while(
        source.path(),
        out.path(),
        |source| {
            fs::remove_file(source.join("crate/02.obj")).unwrap();
            // Truncated after a face: still a valid mesh, but a different one.
            let mesh = source.join("plank/05.obj");
            let text = fs::read_to_string(&mesh).unwrap();
            fs::write(&mesh, &text[..text.rfind("f 2 4").unwrap()]).unwrap();
        },
        // The last object of the list, long before it is processed.
        |source| fs::remove_file(source.join("plank/13.obj")).unwrap(),
    );
    assert!(
        summary.is_complete && summary.num_failed() == 3,
        "{skip_messages:?}"
    );
    assert_eq!(summary.num_rows(), 11, "all others are rows");
    let skipped: Vec<_> = summary
        .manifest
        .skipped
        .iter()
        .map(|s| (s.id.as_str(), s.reason))
        .collect();
    assert_eq!(
        skipped,
        [
            ("crate/02", SkipReason::Missing),
            ("plank/05", SkipReason::Changed),
            ("plank/13", SkipReason::Missing)
        ]
    );
    for words in [
        "crate/02 missing No such file",
        "plank/05 changed the file has ",
        "plank/13 missing",
    ] {
        assert!(
            skip_messages.iter().any(|line| line.starts_with(words)),
            "{words}: {skip_messages:?}"
        );
    }
    assert!(
        verify(out.path(), VerifyOptions { is_deep: true }, &mut |_| {})
            .unwrap()
            .is_ok()
    );
    for id in ["crate/00", "plank/07", "crate/12"] {
        assert_eq!(
            row_of(out.path(), id),
            row_of(whole.path(), id),
            "{id} is what it was"
        );
    }
}

/// Restored meshes become rows in a forced rebuild of the same folder.
#[test]
fn restored_meshes_are_built_by_force() {
    let (source, out, whole) = (
        boxes(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    run(source.path(), whole.path(), 2).unwrap();
    let mesh = source.path().join("crate/02.obj");
    let content = fs::read(&mesh).unwrap();
    let (summary, _) = build_while(
        source.path(),
        out.path(),
        |source| fs::remove_file(source.join("crate/02.obj")).unwrap(),
        |_| {},
    );
    assert_eq!(summary.num_failed(), 1);
    fs::write(&mesh, content).unwrap();
    let by_force = tap_dataset::BuildOptions {
        force: true,
        ..options(out.path(), 1)
    };
    let again = run_with(source.path(), &recipe(), &by_force);
    assert_eq!(again.unwrap().num_failed(), 0);
    assert_eq!(bytes(out.path()), bytes(whole.path()));
}

/// A mesh moved in place, and a texture with other pixels, have the length that they had.
#[test]
fn a_build_goes_on_with_what_has_changed() {
    let (source, out) = (boxes(), tempfile::tempdir().unwrap());
    let events_of = |source: &Path, out: &Path, recipe: &BuildRecipe| {
        let mut changed = Vec::new();
        let mut num_done = 0;
        build(
            &open(source),
            recipe,
            &options(out, 2),
            &AtomicBool::new(false),
            &mut |event| match event {
                BuildEvent::SourceChanged { objects, .. } => {
                    changed.extend(objects.iter().map(ToString::to_string));
                }
                BuildEvent::ShardDamaged { file } => panic!("{file} is whole"),
                BuildEvent::Done { .. } => num_done += 1,
                _ => {}
            },
        )
        .unwrap();
        (changed, num_done)
    };
    let nothing = (Vec::new(), 0);
    run(source.path(), out.path(), 2).unwrap();
    let before = bytes(out.path());
    assert_eq!(events_of(source.path(), out.path(), &recipe()), nothing);

    let mesh = source.path().join("crate/02.obj");
    let text = fs::read_to_string(&mesh).unwrap();
    fs::write(&mesh, &text).unwrap();
    assert_eq!(
        events_of(source.path(), out.path(), &recipe()),
        nothing,
        "written anew, the same"
    );
    assert_eq!(bytes(out.path()), before);

    fs::write(&mesh, text.replacen("v -1", "v -2", 1)).unwrap();
    let (changed, num_done) = events_of(source.path(), out.path(), &recipe());
    assert_eq!(
        (changed, num_done),
        (vec!["crate/02".to_owned()], 4),
        "its shard has four rows"
    );
    let whole = tempfile::tempdir().unwrap();
    run(source.path(), whole.path(), 1).unwrap();
    assert_eq!(bytes(out.path()), bytes(whole.path()));
    assert_eq!(events_of(source.path(), out.path(), &recipe()), nothing);

    // A copy has other times, and the same content.
    let copy = tempfile::tempdir().unwrap();
    for (name, content) in bytes(out.path()) {
        fs::write(copy.path().join(name), content).unwrap();
    }
    assert_eq!(events_of(source.path(), copy.path(), &recipe()), nothing);

    let textured = tempfile::tempdir().unwrap();
    let mut recipe = recipe();
    recipe.render.lighting = tap_render::Lighting::textured();
    let folder = source.path().join("crate");
    let with_material = format!(
        "mtllib m.mtl\nvt 0 0\nusemtl m\n{}",
        fs::read_to_string(folder.join("00.obj")).unwrap()
    );
    fs::write(
        folder.join("00.obj"),
        with_material.replace("v -1 -0.8", "v -1 -0.9"),
    )
    .unwrap();
    fs::write(folder.join("m.mtl"), "newmtl m\nKd 1 0 0\n").unwrap();
    let all = |out: &Path| events_of(source.path(), out, &recipe);
    assert_eq!(all(textured.path()).1, 14);
    assert_eq!(all(textured.path()), nothing);
    fs::write(folder.join("m.mtl"), "newmtl m\nKd 0 1 0\n").unwrap();
    assert_eq!(all(textured.path()).0, ["crate/00"]);
    assert_eq!(all(textured.path()), nothing);
}
