#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::Ordering;

use super::*;
use crate::audit::{VerifyOptions, verify};
use crate::reader::Dataset;
use crate::shard::ViewSelection;
use crate::synthesize::{Object, Solid};

/// Small: three classes, five objects of each, views of 16 pixels.
fn options(root: &Path) -> SuiteOptions {
    let mut options = SuiteOptions {
        classes: 3,
        per_class: 5,
        rows_per_shard: 4,
        ..SuiteOptions::new(root)
    };
    options.pretrain.render.size_px = 16;
    options.pretrain.num_points = 32;
    options.pretrain.rows_per_shard = 4;
    options
}

fn make(options: &SuiteOptions) -> Result<Vec<SuiteReport>> {
    let reports = synthesize_suite(options, &AtomicBool::new(false), &mut |_| {})?;
    Ok(reports.expect("it was not cancelled"))
}

/// Name and bytes of each file of each set.
fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for set in StandIn::ALL {
        for entry in fs::read_dir(root.join(set.to_string())).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = format!("{set}/{}", path.file_name().unwrap().display());
            files.insert(name, fs::read(&path).unwrap());
        }
    }
    files
}

#[test]
fn each_set_is_whole_and_says_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let reports = make(&options(folder.path())).unwrap();
    let names: Vec<&str> = reports.iter().map(|report| report.set.as_str()).collect();
    let expected = [
        "shapenet",
        "modelnet40",
        "shapenetpart",
        "scanobjectnn-obj-only",
        "scanobjectnn-obj-bg",
        "scanobjectnn-pb-t50-rs",
    ];
    assert_eq!(names, expected);
    for report in &reports {
        assert_eq!((report.num_train, report.num_test), (12, 3), "{report:?}");
        let problems = verify(&report.out, VerifyOptions { is_deep: true }, &mut |_| {})
            .unwrap()
            .problems;
        assert!(problems.is_empty(), "{problems:?}");
        let dataset = Dataset::open(&report.out).unwrap();
        let manifest = dataset.manifest();
        assert!(manifest.recipe.get("import").is_none(), "{}", report.set);
        assert!(manifest.source.layout.contains("synthesized"), "{}", report.set);
        assert_eq!(manifest.source.publication, None, "{}", report.set);
        if report.set == "shapenet" {
            assert_eq!(report.num_views, 12);
            continue;
        }
        let recipe = &manifest.recipe["synthesize"];
        assert_eq!(recipe["stand_in_for"], report.stand_in_for);
        assert_eq!(recipe["is_published"], false);
        assert_eq!((report.num_points, report.num_views), (2048, 0));
        for row in 0..dataset.len(Split::Train) {
            let sample = dataset.read(Split::Train, row, ViewSelection::None).unwrap();
            let farthest = sample.points.iter().map(|[x, y, z]| x * x + y * y + z * z);
            assert!((farthest.fold(0.0, f32::max) - 1.0).abs() < 1e-4, "{}", sample.id);
            let parts = sample.part_labels.unwrap_or_default();
            let is_own = |label: &u8| manifest.parts[usize::from(*label)].category == sample.category;
            assert!(parts.iter().all(is_own), "{}", sample.id);
            assert_eq!(parts.is_empty(), report.set != "shapenetpart", "{}", sample.id);
        }
    }
    assert_eq!(
        reports[2].num_parts, 12,
        "chair, lamp and table: {:?}",
        reports[2]
    );
    let starts = Dataset::open(&reports[2].out).unwrap();
    let parts: Vec<&str> = starts
        .manifest()
        .parts
        .iter()
        .map(|part| part.category.as_str())
        .collect();
    assert!(parts.is_sorted(), "each class has one range of labels: {parts:?}");
}

#[test]
fn bytes_depend_neither_on_threads_nor_on_being_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let [one, three] = ["one", "three"].map(|name| folder.path().join(name));
    make(&SuiteOptions {
        workers: 1,
        ..options(&one)
    })
    .unwrap();
    let options = SuiteOptions {
        workers: 3,
        ..options(&three)
    };
    let mut num_stops = 0;
    for num_rows in 1.. {
        let cancel = AtomicBool::new(false);
        let mut left = 5 * num_rows;
        let reports = synthesize_suite(&options, &cancel, &mut |event| {
            if event == SuiteEvent::Written {
                left -= 1;
                cancel.store(left <= 0, Ordering::Relaxed);
            }
        });
        if reports.unwrap().is_some() {
            break;
        }
        num_stops += 1;
    }
    assert!(num_stops > 2, "it was stopped {num_stops} times");
    assert!(files(&one) == files(&three), "the same names and bytes");

    let other = SuiteOptions {
        seed: 1,
        ..options.clone()
    };
    let text = make(&other).unwrap_err().to_string();
    assert!(text.contains("seed") && text.contains("shapenet"), "{text}");
    assert!(files(&one) == files(&three), "nothing was touched");
    make(&SuiteOptions { force: true, ..other }).unwrap();
    assert!(files(&one) != files(&three), "another seed");
}

#[test]
fn numbers_out_of_range_are_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("suite");
    for (classes, per_class) in [(0, 5), (25, 5), (3, 4), (3, usize::MAX)] {
        let text = make(&SuiteOptions {
            classes,
            per_class,
            ..options(&root)
        })
        .unwrap_err()
        .to_string();
        assert!(
            text.contains("1 to 24 classes and 5 to 1000000 objects"),
            "{text}"
        );
    }
    assert!(!root.exists(), "nothing half-made");
    assert!(
        "scanobjectnn"
            .parse::<StandIn>()
            .unwrap_err()
            .to_string()
            .contains("scanobjectnn-pb-t50-rs")
    );

    fs::create_dir_all(root.join("modelnet40")).unwrap();
    fs::write(root.join("modelnet40/mine.txt"), "mine").unwrap();
    let sets = vec![StandIn::ModelNet40];
    for force in [false, true] {
        let text = make(&SuiteOptions {
            sets: sets.clone(),
            force,
            ..options(&root)
        });
        assert!(
            text.unwrap_err().to_string().contains("mine.txt"),
            "a file of the user's"
        );
    }
}

/// A box, half as wide as it is high.
fn box_object() -> Object {
    let mut object = Object::default();
    object.add("body", Solid::beveled_box(0.4, 0.8, 0.4, 0.001));
    object.normalize();
    object
}

#[test]
fn a_scan_has_what_is_visible_and_no_more() {
    let target = box_object();
    let (low, high) = target.bounds();
    for seed in 0..4 {
        let mut rng = SeededRng::from_u64(seed);
        let scene = Scene::new(&target, &mut rng, None);
        for is_one_sided in [false, true] {
            let seen = Scanner::default().scan(&scene, is_one_sided, &mut rng).unwrap();
            let of_target = || seen.iter().filter(|point| point.is_target).map(|point| point.at);
            let tolerance = 0.03;
            let is_near = |at: DVec3| {
                let outside = (low - at).max(at - high).max(DVec3::ZERO).length();
                let inside = (at - low).min(high - at).min_element();
                outside < tolerance && inside < tolerance
            };
            assert!(of_target().all(is_near), "on the surface of the box");
            let num = |is_in: &dyn Fn(DVec3) -> bool| of_target().filter(|&at| is_in(at)).count();
            let (middle_y, inner) = (low.y.midpoint(high.y), 0.05);
            assert!(num(&|at| at.y > high.y - tolerance) > 20, "the upper face");
            assert!(
                num(&|at| at.z > high.z - tolerance && at.y < middle_y) > 50,
                "the front"
            );
            let is_rear = |at: DVec3| at.z < low.z + tolerance && at.y < middle_y;
            let is_inner = |at: DVec3| at.x > low.x + inner && at.x < high.x - inner;
            assert_eq!(num(&|at| is_rear(at) && is_inner(at)), 0, "the rear is hidden");
            assert!(seen.iter().any(|point| !point.is_target), "the floor");
        }
        let seen = Scanner::default().scan(&scene, false, &mut rng).unwrap();
        let boxed = scene.in_upright_box(&seen, &mut rng);
        assert!(boxed.iter().any(|at| at.y < low.y + 0.02), "floor in the box");
        assert!(boxed.iter().all(|at| at.x.abs() < high.x * 1.3), "cut by the box");
        let perturbed = scene.in_perturbed_box(&seen, true, &mut rng).unwrap();
        let half = 1.25 * (high - low).length() / 2.0;
        assert!(
            perturbed.iter().all(|at| at.length() <= half),
            "around its own middle"
        );
        let mean = perturbed.iter().sum::<DVec3>() / perturbed.len() as f64;
        assert!(mean.length() > 0.01, "the object is off its middle");
    }
}

#[test]
fn few_points_are_repeated_and_many_are_drawn_without_repetition() {
    let points: Vec<DVec3> = (0..50).map(|x| DVec3::X * f64::from(x)).collect();
    let mut rng = SeededRng::from_u64(3);
    let mut some: Vec<i64> = choose(points.clone(), 20, &mut rng)
        .iter()
        .map(|at| at.x as i64)
        .collect();
    some.sort_unstable();
    some.dedup();
    assert_eq!(some.len(), 20);
    let more = choose(points, 120, &mut rng);
    assert_eq!((more.len(), more[0]), (120, more[50]));
}
