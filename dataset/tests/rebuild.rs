//! Rebuilding from a manifest alone, with differences reported per object; and build estimates.
#![cfg(feature = "build")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod boxes;

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use boxes::{box_obj, boxes, bytes, open, options, recipe, run};
use tap_dataset::{
    DatasetError, DifferenceKind, Manifest, ManifestError, MeshIssue, RebuildReport, plan, rebuild, report,
};

fn again(manifest: &Manifest, meshes: &Path, out: &Path) -> Result<RebuildReport, DatasetError> {
    let report = rebuild(
        manifest,
        meshes,
        &options(out, 2),
        &AtomicBool::new(false),
        &mut |_| {},
    );
    report.map(|report| report.expect("it is not cancelled"))
}

/// Boxes with parts, one of them broken.
fn source_and_manifest(out: &Path) -> (tempfile::TempDir, Manifest) {
    let source = boxes();
    fs::write(source.path().join("parts.json"), r#"{"crate": ["rest", "body"]}"#).unwrap();
    fs::write(source.path().join("plank/05.obj"), "this is no mesh").unwrap();
    run(source.path(), out, 2).unwrap();
    (source, Manifest::read(out).unwrap())
}

#[test]
fn a_manifest_and_the_meshes_give_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (source, manifest) = source_and_manifest(&dir.path().join("one"));
    // Only meshes remain: no split list, no part list, and one mesh moved and renamed.
    for list in ["split.csv", "parts.json"] {
        fs::remove_file(source.path().join(list)).unwrap();
    }
    fs::create_dir(source.path().join("moved")).unwrap();
    fs::rename(
        source.path().join("crate/04.obj"),
        source.path().join("moved/x.obj"),
    )
    .unwrap();
    let report = again(&manifest, source.path(), &dir.path().join("two")).unwrap();
    assert!(report.is_equal, "{report:#?}");
    assert_eq!((report.num_objects, report.num_equal_objects), (14, 14));
    assert!(
        bytes(&dir.path().join("two")) == bytes(&dir.path().join("one")),
        "to the byte"
    );
}

#[test]
fn whatever_differs_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (source, mut manifest) = source_and_manifest(&dir.path().join("one"));
    fs::remove_file(source.path().join("crate/00.obj")).unwrap();
    fs::write(source.path().join("crate/02.obj"), box_obj(1.0, 1.0, 1.0)).unwrap();
    // As if rendered by another adapter.
    let object = manifest.shards[1]
        .objects
        .iter_mut()
        .find(|object| object.row.is_some())
        .unwrap();
    object.row.as_mut().unwrap().views_sha256 = "0".repeat(64);
    let id_of_other_views = object.id.clone();
    manifest.shards[1].sha256 = "0".repeat(64);
    let report = again(&manifest, source.path(), &dir.path().join("two")).unwrap();
    assert!(!report.is_equal, "{report:#?}");
    let mut found: Vec<_> = report
        .differences
        .iter()
        .map(|d| (d.id.as_str(), d.kind))
        .collect();
    let mut expected = vec![
        ("crate/00", DifferenceKind::MissingMesh),
        ("crate/02", DifferenceKind::OtherMesh),
        (id_of_other_views.as_str(), DifferenceKind::OtherViews),
    ];
    expected.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, expected, "{report:#?}");
    assert_eq!(report.num_equal_objects, 11);
}

#[test]
fn a_manifest_that_cannot_be_rebuilt_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let (source, manifest) = source_and_manifest(&dir.path().join("one"));
    let mut old = manifest.clone();
    for shard in &mut old.shards {
        shard.objects.clear();
    }
    let error = again(&old, source.path(), &dir.path().join("two")).unwrap_err();
    assert!(
        matches!(error, DatasetError::Manifest(ManifestError::NoMeshes)),
        "{error}"
    );
    let mut hostile = manifest;
    hostile.shards[0].objects[0].path = "../../etc/passwd.obj".to_owned();
    let error = again(&hostile, source.path(), &dir.path().join("two")).unwrap_err();
    assert!(
        matches!(error, DatasetError::Manifest(ManifestError::Invalid { .. })),
        "{error}"
    );
}

#[test]
fn a_plan_is_near_what_the_build_comes_to() {
    let (source, out) = (boxes(), tempfile::tempdir().unwrap());
    let data = out.path().join("data");
    let never = AtomicBool::new(false);
    let plan = plan(
        &open(source.path()),
        &recipe(),
        &options(&data, 2),
        &never,
        &mut |_| {},
    );
    let plan = plan.unwrap().unwrap();
    assert!(!data.exists(), "nothing is written there");
    run(source.path(), &data, 2).unwrap();
    let built: usize = bytes(&data).values().map(Vec::len).sum();
    assert_eq!((plan.num_objects, plan.num_rows, plan.num_shards), (14, 14, 4));
    let ratio = plan.bytes as f64 / built as f64;
    assert!(
        (0.9..1.1).contains(&ratio),
        "{} planned, {built} built",
        plan.bytes
    );
    assert!(plan.fits() && plan.elapsed_s > 0.0, "{plan:?}");
}

#[test]
fn a_report_counts_what_is_wrong_by_category() {
    let out = tempfile::tempdir().unwrap();
    let (_source, _) = source_and_manifest(out.path());
    let report = report(out.path()).unwrap();
    assert_eq!(
        (report.all.num_rows, report.all.skipped.len()),
        (13, 1),
        "{report:#?}"
    );
    let names: Vec<_> = report
        .categories
        .iter()
        .map(|c| (c.name.as_str(), c.num_rows))
        .collect();
    assert_eq!(names, [("crate", 7), ("plank", 6)]);
    // Some box faces have inconsistent winding.
    let flipped = report.all.issues.get(&MeshIssue::Flipped).copied().unwrap_or(0);
    assert_eq!(report.all.num_clean + flipped, 13, "{report:#?}");
    assert_eq!(report.objects.len(), flipped, "each of them is listed");
}
