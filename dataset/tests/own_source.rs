//! Sources from outside of the crate: the bytes do not depend on how a build ran, and an object that cannot be read costs
//! itself alone.
#![cfg(feature = "build")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod boxes;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use boxes::{box_obj, boxes, bytes, options, recipe};
use tap_dataset::{
    BuildEvent, BuildSummary, DatasetError, ListedObject, Manifest, ObjectReader, ReadError, SkipReason,
    Source, SourceError, Split, build, plan, rebuild,
};

/// Boxes by number, some of which cannot be read.
#[derive(Debug)]
struct Boxes {
    knows_lengths: bool,
    /// Numbers that fail, and how.
    bad: &'static [(usize, Fault)],
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    Missing,
    Broken,
    Panics,
    /// More bytes than asked for.
    TooLong,
    /// Another length than listed.
    Changed,
}

const GOOD: Boxes = Boxes {
    knows_lengths: true,
    bad: &[],
};

impl ObjectReader for Boxes {
    fn read(&self, path: &Path, limit_bytes: u64) -> Result<Vec<u8>, ReadError> {
        let number: usize = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        let (thickness, depth) = (if number.is_multiple_of(2) { 0.8 } else { 0.1 }, number as f32);
        let mesh = box_obj(1.0, thickness, 0.3 + 0.1 * depth);
        match self.bad.iter().find(|(bad, _)| *bad == number) {
            None => Ok(mesh.into_bytes()),
            Some((_, Fault::Missing)) => Err(io::Error::from(io::ErrorKind::NotFound).into()),
            Some((_, Fault::Broken)) => Err(io::Error::other("the row is locked").into()),
            Some((_, Fault::Panics)) => panic!("a bug of the reader"),
            Some((_, Fault::TooLong)) => Ok(vec![b'#'; limit_bytes as usize + 1]),
            Some((_, Fault::Changed)) => Ok((mesh + "# more\n").into_bytes()),
        }
    }

    fn file_bytes(&self, path: &Path) -> Result<Option<u64>, ReadError> {
        if !self.knows_lengths {
            return Ok(None);
        }
        let mesh = Self { bad: &[], ..*self }.read(path, u64::MAX)?;
        Ok(Some(mesh.len() as u64))
    }
}

/// Fourteen boxes as those of [`boxes`], last first.
fn listed() -> impl Iterator<Item = ListedObject> {
    (0..14).rev().map(|number| {
        let category = if number % 2 == 0 { "crate" } else { "plank" };
        object(category, &format!("{number:02}"), number < 10)
    })
}

fn object(category: &str, name: &str, is_training: bool) -> ListedObject {
    ListedObject {
        category: category.to_owned(),
        name: name.to_owned(),
        split: if is_training { Split::Train } else { Split::Test },
        path: format!("{category}/{name}.obj").into(),
    }
}

fn source(reader: Boxes) -> Source {
    Source::from_reader("boxes", listed(), reader).unwrap()
}

fn run(source: &Source, out: &Path, workers: usize) -> BuildSummary {
    let cancel = AtomicBool::new(false);
    build(source, &recipe(), &options(out, workers), &cancel, &mut |_| {}).unwrap()
}

fn skips(summary: &BuildSummary) -> Vec<(&str, SkipReason)> {
    let skipped = summary.manifest.skipped.iter();
    skipped.map(|skip| (skip.id.as_str(), skip.reason)).collect()
}

#[test]
fn an_own_source_gives_the_shards_of_a_folder_with_its_meshes() {
    let (folder, dir) = (boxes(), tempfile::tempdir().unwrap());
    boxes::run(folder.path(), &dir.path().join("folder"), 2).unwrap();
    let expected = Manifest::read(&dir.path().join("folder")).unwrap();
    let one = run(&source(GOOD), &dir.path().join("one"), 1).manifest;
    run(&source(GOOD), &dir.path().join("two"), 2);
    assert!(
        bytes(&dir.path().join("one")) == bytes(&dir.path().join("two")),
        "with one thread and with two"
    );
    assert_eq!(one.source.layout, "boxes");
    assert_eq!(one.source.listing_sha256, expected.source.listing_sha256);
    assert_eq!(one.sha256, expected.sha256, "the same data");
}

#[test]
fn a_cancelled_build_resumes_to_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let [whole, out] = ["whole", "out"].map(|name| dir.path().join(name));
    let unknown = || {
        source(Boxes {
            knows_lengths: false,
            ..GOOD
        })
    };
    run(&unknown(), &whole, 2);
    let (cancel, mut num_done) = (AtomicBool::new(false), 0);
    let mut stop = |event| {
        num_done += usize::from(matches!(event, BuildEvent::Done { .. }));
        cancel.store(num_done >= 6, Ordering::Relaxed);
    };
    let summary = build(&unknown(), &recipe(), &options(&out, 2), &cancel, &mut stop).unwrap();
    assert!(!summary.is_complete, "stopped in the second shard");
    // The same objects, but now with lengths.
    let error = build(
        &source(GOOD),
        &recipe(),
        &options(&out, 1),
        &AtomicBool::new(false),
        &mut |_| {},
    );
    let error = error.unwrap_err().to_string();
    assert!(error.contains("source.listing"), "{error}");
    assert!(run(&unknown(), &out, 1).is_complete, "resumed");
    assert!(bytes(&out) == bytes(&whole), "as if it had not been stopped");
}

#[test]
fn an_object_that_cannot_be_read_costs_itself() {
    let dir = tempfile::tempdir().unwrap();
    let [whole, out] = ["whole", "out"].map(|name| dir.path().join(name));
    let whole = run(&source(GOOD), &whole, 1).manifest;
    let bad = source(Boxes {
        bad: &[
            (0, Fault::Missing),
            (1, Fault::Broken),
            (2, Fault::Panics),
            (3, Fault::TooLong),
            (5, Fault::Changed),
        ],
        ..GOOD
    });
    let mut limited = options(&out, 2);
    limited.max_mesh_bytes = 1 << 12;
    let summary = build(&bad, &recipe(), &limited, &AtomicBool::new(false), &mut |_| {}).unwrap();
    assert_eq!(
        skips(&summary),
        [
            ("crate/00", SkipReason::Missing),
            ("crate/02", SkipReason::Crashed),
            ("plank/01", SkipReason::Unreadable),
            ("plank/03", SkipReason::TooLarge),
            ("plank/05", SkipReason::Changed),
        ]
    );
    let message = &summary.manifest.skipped[2].message;
    assert_eq!(message, "the row is locked", "the reader's own words");
    let rows = |manifest: &Manifest| {
        let objects = manifest.shards.iter().flat_map(|shard| shard.objects.clone());
        objects.filter(|object| object.row.is_some()).collect::<Vec<_>>()
    };
    let mut others = rows(&whole);
    others.retain(|object| {
        summary
            .manifest
            .skipped
            .iter()
            .all(|skip| skip.id != object.id.as_str())
    });
    assert_eq!(rows(&summary.manifest), others, "all others are what they were");
}

#[test]
fn a_list_is_checked_like_a_folder() {
    let mut objects: Vec<_> = listed().take(3).collect();
    objects.push(objects[0].clone());
    objects.push(object("crate", "a/b", true));
    let mut elsewhere = object("crate", "14", true);
    elsewhere.path = "../14.obj".into();
    let mut drawing = object("crate", "16", true);
    drawing.path = "crate/16.dwg".into();
    objects.extend([elsewhere, drawing]);
    let source = Source::from_reader("boxes", objects, GOOD).unwrap();
    assert_eq!(source.objects().len(), 3);
    let skipped: Vec<_> = source
        .skipped()
        .iter()
        .map(|s| (s.id.as_str(), s.reason))
        .collect();
    assert_eq!(
        skipped,
        [
            ("crate/14", SkipReason::OutsideSource),
            ("crate/16", SkipReason::UnsupportedFormat),
            ("crate/a/b", SkipReason::InvalidId),
            ("plank/13", SkipReason::DuplicateId),
        ]
    );
    let none = Source::from_reader("boxes", [], GOOD).unwrap_err();
    assert!(
        matches!(none, DatasetError::Source(SourceError::NoObjects { .. })),
        "{none}"
    );
}

/// Boxes with times, of which one was replaced by a longer box in the second in which all were written.
#[derive(Debug)]
struct Dated {
    replaced: Option<usize>,
}

impl Dated {
    fn is_replaced(&self, path: &Path) -> bool {
        let name = path.file_stem().unwrap();
        self.replaced
            .is_some_and(|number| name == format!("{number:02}").as_str())
    }
}

impl ObjectReader for Dated {
    fn read(&self, path: &Path, limit_bytes: u64) -> Result<Vec<u8>, ReadError> {
        if self.is_replaced(path) {
            return Ok(box_obj(1.0, 0.5, 3.0).into_bytes());
        }
        GOOD.read(path, limit_bytes)
    }

    fn changed(&self, path: &Path) -> Option<SystemTime> {
        let micros = if self.is_replaced(path) { 2 } else { 5 };
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000) + Duration::from_micros(micros))
    }
}

/// A store counts whole seconds, so that what was replaced need not be newer than what is beside it.
#[test]
fn a_mesh_that_is_not_the_newest_of_its_shard_is_found_to_have_changed() {
    let dir = tempfile::tempdir().unwrap();
    let [out, expected] = ["out", "expected"].map(|name| dir.path().join(name));
    let source = |replaced| Source::from_reader("boxes", listed(), Dated { replaced }).unwrap();
    run(&source(None), &out, 1);
    let mut changed = Vec::new();
    let mut note = |event| {
        if let BuildEvent::SourceChanged { objects, .. } = event {
            changed.extend(objects.iter().map(ToString::to_string));
        }
    };
    let cancel = AtomicBool::new(false);
    build(&source(Some(3)), &recipe(), &options(&out, 1), &cancel, &mut note).unwrap();
    assert_eq!(changed, ["plank/03"]);
    run(&source(Some(3)), &expected, 1);
    assert!(bytes(&out) == bytes(&expected), "as if it had always been so");
}

/// Boxes that refer to a material beside their folder, and to one outside of the source.
#[derive(Debug)]
struct Painted(Arc<Mutex<BTreeSet<PathBuf>>>);

impl ObjectReader for Painted {
    fn read(&self, path: &Path, limit_bytes: u64) -> Result<Vec<u8>, ReadError> {
        let mesh = GOOD.read(path, limit_bytes)?;
        Ok([
            b"mtllib ../paint.mtl\nmtllib ../../secret.mtl\nusemtl red\n".as_slice(),
            &mesh,
        ]
        .concat())
    }

    fn read_asset(&self, path: &Path, _limit_bytes: u64) -> Result<Vec<u8>, ReadError> {
        self.0.lock().unwrap().insert(path.to_owned());
        Ok(b"newmtl red\nKd 1 0 0\n".to_vec())
    }
}

#[test]
fn assets_are_read_and_stay_within_the_source() {
    let dir = tempfile::tempdir().unwrap();
    let asked = Arc::default();
    let painted = Source::from_reader("painted", listed(), Painted(Arc::clone(&asked))).unwrap();
    let mut colored = recipe();
    colored.render.lighting.material = tap_render::MaterialChoice::Own;
    let cancel = AtomicBool::new(false);
    let summary = build(&painted, &colored, &options(dir.path(), 2), &cancel, &mut |_| {}).unwrap();
    assert_eq!((summary.num_rows(), summary.num_failed()), (14, 0));
    let mut objects = summary.manifest.shards.iter().flat_map(|shard| &shard.objects);
    assert!(objects.all(|object| object.assets_sha256.is_some()));
    let asked = asked.lock().unwrap();
    // An importer looks beside the mesh for what it may not read elsewhere.
    let expected = ["paint.mtl", "crate/secret.mtl", "plank/secret.mtl"];
    assert_eq!(*asked, expected.map(PathBuf::from).into(), "none outside");
}

#[test]
fn plans_and_rebuilds_take_an_own_source() {
    let dir = tempfile::tempdir().unwrap();
    let [out, meshes, again] = ["out", "meshes", "again"].map(|name| dir.path().join(name));
    let source = source(Boxes {
        knows_lengths: false,
        ..GOOD
    });
    let cancel = AtomicBool::new(false);
    let report = plan(&source, &recipe(), &options(&out, 1), &cancel, &mut |_| {});
    assert_eq!(report.unwrap().unwrap().num_rows, 14);
    let manifest = run(&source, &out, 2).manifest;

    // Written out under other names: found by their hashes.
    fs::create_dir(&meshes).unwrap();
    for object in source.objects().iter() {
        let mesh = GOOD.read(&object.path, u64::MAX).unwrap();
        fs::write(meshes.join(format!("x{}.obj", object.id.name())), mesh).unwrap();
    }
    let report = rebuild(&manifest, &meshes, &options(&again, 1), &cancel, &mut |_| {});
    let report = report.unwrap().unwrap();
    assert!(report.is_equal, "{report:#?}");
    assert!(bytes(&again) == bytes(&out), "to the byte");
}
