//! Builds: rows are correct, bytes do not depend on how the build ran, and problems with meshes, folders or
//! disks are reported at minimal cost. Rendered on the CPU unless stated otherwise.
#![cfg(feature = "build")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod boxes;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use boxes::{box_obj, boxes, bytes, names, open, options, recipe, run, run_with};
use tap_dataset::{
    BuildError, BuildEvent, BuildOptions, BuildRecipe, Dataset, DatasetError, ManifestError, SkipReason,
    Split, VerifyOptions, ViewSelection, build, decode_gray_png, verify,
};
use tap_render::{AdapterChoice, BackendChoice, RendererOptions};

#[test]
fn a_source_becomes_a_dataset_that_verifies() {
    let (source, out) = (boxes(), tempfile::tempdir().unwrap());
    let mut done = Vec::new();
    let summary = build(
        &open(source.path()),
        &recipe(),
        &options(out.path(), 2),
        &AtomicBool::new(false),
        &mut |event| {
            if let BuildEvent::Done { id } = event {
                done.push(id);
            }
        },
    );
    let summary = summary.unwrap();
    assert!(
        summary.is_complete && summary.num_failed() == 0,
        "{:?}",
        summary.manifest.skipped
    );
    assert_eq!(
        summary.manifest.shards.len(),
        4,
        "10 rows in 3 shards, 4 rows in one"
    );
    let report = verify(out.path(), VerifyOptions { is_deep: true }, &mut |_| {}).unwrap();
    assert!(report.is_ok(), "{:?}", report.problems);
    assert_eq!((report.num_rows, report.num_images), (14, 14 * 12));

    let dataset = Dataset::open(out.path()).unwrap();
    assert_eq!(dataset.classes(), ["crate", "plank"]);
    assert_eq!((dataset.len(Split::Train), dataset.len(Split::Test)), (10, 4));
    let ids = [
        dataset.ids(Split::Train).unwrap(),
        dataset.ids(Split::Test).unwrap(),
    ]
    .concat();
    assert_eq!(ids, done, "events come in the order of the rows");
    let sample = dataset.read(Split::Train, 9, ViewSelection::All).unwrap();
    let mesh = sample.mesh.as_ref().unwrap();
    assert_eq!(
        (sample.category.as_str(), sample.label, mesh.num_triangles),
        ("plank", 1, 12)
    );
    assert!(
        mesh.is_watertight && sample.part_labels.is_none(),
        "a closed box without parts"
    );
    // Points lie on the box of the mesh file, transformed to object space.
    let farthest = sample
        .points
        .iter()
        .map(|p| p.iter().map(|x| x * x).sum::<f32>().sqrt())
        .fold(0.0, f32::max);
    assert!((farthest - 1.0).abs() < 1e-5, "{farthest}");
    assert!(
        !fs::read_to_string(out.path().join("_manifest.json"))
            .unwrap()
            .contains(source.path().to_str().unwrap())
    );
}

#[test]
fn a_compressed_mesh_gives_the_row_of_the_mesh() {
    let dir = tempfile::tempdir().unwrap();
    let obj = box_obj(1.0, 0.5, 0.3);
    let row = |source: &str, name: &str, content: &[u8]| {
        let folder = dir.path().join(source).join("crate");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), content).unwrap();
        let out = dir.path().join(format!("{source} out"));
        run(&dir.path().join(source), &out, 1).unwrap();
        Dataset::open(&out)
            .unwrap()
            .read(Split::Train, 0, ViewSelection::All)
            .unwrap()
    };
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut encoder, obj.as_bytes()).unwrap();
    let mut packed = row("packed", "a.obj.gz", &encoder.finish().unwrap());
    let plain = row("plain", "a.obj", obj.as_bytes());
    packed.source_sha256.clone_from(&plain.source_sha256);
    assert_eq!(packed, plain);
}

#[test]
fn a_device_draws_the_same_rows() {
    let source = boxes();
    let out = tempfile::tempdir().unwrap();
    let build_with = |name: &str, renderer: RendererOptions, workers| {
        let dir = out.path().join(name);
        let options = BuildOptions {
            renderer,
            ..options(&dir, workers)
        };
        build(
            &open(source.path()),
            &recipe(),
            &options,
            &AtomicBool::new(false),
            &mut |_| (),
        )
        .unwrap();
        dir
    };
    let device = RendererOptions {
        backend: BackendChoice::Wgpu,
        adapter: AdapterChoice::Software,
        ..RendererOptions::default()
    };
    let by_device = build_with("device", device.clone(), 1);
    let by_device_again = build_with("device again", device, 3);
    assert_eq!(
        bytes(&by_device),
        bytes(&by_device_again),
        "whatever the number of workers"
    );
    let by_cpu = build_with("cpu", RendererOptions::default(), 2);
    let rows = |dir: &Path| {
        let dataset = Dataset::open(dir).unwrap();
        let read = |row| dataset.read(Split::Train, row, ViewSelection::All).unwrap();
        (0..dataset.len(Split::Train)).map(read).collect::<Vec<_>>()
    };
    for (device, cpu) in rows(&by_device).iter().zip(rows(&by_cpu)) {
        assert_eq!((&device.id, &device.points), (&cpu.id, &cpu.points));
        for (device, cpu) in device.views.iter().zip(&cpu.views) {
            let matrices = [device, cpu].map(|view| view.clip_from_view.map(f32::to_bits));
            assert_eq!(matrices[0], matrices[1], "the backend does not move the camera");
            let pixels = [device, cpu].map(|view| decode_gray_png(&view.image_png).unwrap().pixels);
            let num_off = pixels[0]
                .iter()
                .zip(&pixels[1])
                .filter(|(a, b)| a.abs_diff(**b) > 1)
                .count();
            assert!(num_off <= 8, "{num_off} pixels differ");
        }
    }
}

#[test]
fn named_groups_become_part_labels() {
    let (source, out) = (boxes(), tempfile::tempdir().unwrap());
    fs::write(
        source.path().join("parts.json"),
        r#"{"crate": ["rest", "body"], "plank": ["body"]}"#,
    )
    .unwrap();
    let summary = run(source.path(), out.path(), 2).unwrap();
    let reasons: Vec<_> = summary
        .manifest
        .skipped
        .iter()
        .map(|s| (s.reason, s.id.starts_with("plank/")))
        .collect();
    assert_eq!(
        reasons,
        [(SkipReason::UnknownPart, true); 7],
        "planks have a group that is no part"
    );
    assert_eq!(summary.manifest.parts.len(), 3);
    let sample = Dataset::open(out.path())
        .unwrap()
        .read(Split::Train, 0, ViewSelection::None)
        .unwrap();
    let labels = sample.part_labels.unwrap();
    assert!(
        labels.contains(&0) && labels.contains(&1) && labels.iter().all(|&l| l < 2),
        "{labels:?}"
    );
    // `body` holds the faces with normals along z.
    for (normal, label) in sample.normals.iter().flatten().zip(&labels) {
        assert_eq!(normal[2].abs() > 0.9, *label == 1, "{normal:?}");
    }
}

#[test]
fn cancelled_anywhere_and_resumed_gives_the_bytes_of_an_unbroken_build() {
    let (source, whole) = (boxes(), tempfile::tempdir().unwrap());
    run(source.path(), whole.path(), 3).unwrap();
    let expected = bytes(whole.path());
    for stop_after in [0, 1, 3, 4, 7, 11, 13] {
        let out = tempfile::tempdir().unwrap();
        let cancel = AtomicBool::new(stop_after == 0);
        let mut num_done = 0;
        let summary = build(
            &open(source.path()),
            &recipe(),
            &options(out.path(), 2),
            &cancel,
            &mut |event| {
                if matches!(event, BuildEvent::Done { .. }) {
                    num_done += 1;
                    cancel.store(num_done >= stop_after, Ordering::Relaxed);
                }
            },
        );
        assert!(!summary.unwrap().is_complete, "stopped after {stop_after}");
        assert!(
            names(out.path()).iter().all(|name| !name.ends_with(".partial")),
            "{:?}",
            names(out.path())
        );
        assert!(
            matches!(
                Dataset::open(out.path()),
                Err(DatasetError::Manifest(ManifestError::Incomplete { .. }))
            ),
            "it says that it isn't whole"
        );

        // What a killed process may leave behind in addition.
        fs::write(out.path().join("test-00000-of-00001.parquet.partial"), "cut").unwrap();
        fs::write(
            out.path().join("test-00000-of-00001.parquet"),
            "not in the manifest",
        )
        .unwrap();
        fs::write(out.path().join("_manifest.json.partial"), "{").unwrap();
        let summary = run(source.path(), out.path(), 1).unwrap();
        assert!(summary.is_complete, "resumed");
        assert_eq!(bytes(out.path()), expected, "stopped after {stop_after}");
    }
    // Running again on a complete dataset changes nothing.
    let mut events = Vec::new();
    let done = build(
        &open(source.path()),
        &recipe(),
        &options(whole.path(), 1),
        &AtomicBool::new(false),
        &mut |e| events.push(e),
    );
    assert!(
        done.unwrap().is_complete && events.contains(&BuildEvent::Resumed { objects: 14 }),
        "{events:?}"
    );
    assert_eq!(bytes(whole.path()), expected);
}

#[test]
fn a_shard_that_was_lost_is_made_again() {
    let (source, out) = (boxes(), tempfile::tempdir().unwrap());
    run(source.path(), out.path(), 2).unwrap();
    let expected = bytes(out.path());
    fs::remove_file(out.path().join("train-00001-of-00003.parquet")).unwrap();
    fs::write(out.path().join("test-00000-of-00001.parquet"), "cut").unwrap();
    run(source.path(), out.path(), 2).unwrap();
    assert_eq!(bytes(out.path()), expected);
}

#[test]
fn bad_meshes_are_rows_of_the_skip_list_and_move_no_other_row() {
    let (source, out, clean) = (
        boxes(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    run(source.path(), clean.path(), 2).unwrap();
    let bad = [
        (
            "crate/02",
            "v 0 0 0\nv 1 0 0\nv nan 1 0\nf 1 2 3\n",
            SkipReason::NonFinite,
        ),
        ("plank/05", "v 0 0 0\nv 1 0 0\nf 1 2 9\n", SkipReason::Malformed),
        ("plank/09", "# nothing\n", SkipReason::Empty),
        (
            "crate/12",
            "v 0 0 0\nv 0 0 0\nv 0 0 0\nf 1 2 3\n",
            SkipReason::Empty,
        ),
    ];
    for (id, content, _) in bad {
        fs::write(source.path().join(format!("{id}.obj")), content).unwrap();
    }
    let summary = run(source.path(), out.path(), 2).unwrap();
    assert!(
        summary.is_complete && summary.num_failed() == 4,
        "{:?}",
        summary.manifest.skipped
    );
    let mut skipped: Vec<_> = summary
        .manifest
        .skipped
        .iter()
        .map(|s| (s.id.as_str(), s.reason))
        .collect();
    skipped.sort_unstable();
    let mut expected: Vec<_> = bad.iter().map(|(id, _, reason)| (*id, *reason)).collect();
    expected.sort_unstable();
    assert_eq!(skipped, expected);
    assert!(
        summary
            .manifest
            .skipped
            .iter()
            .all(|s| !s.message.is_empty() && s.path == format!("{}.obj", s.id))
    );
    assert!(
        verify(out.path(), VerifyOptions { is_deep: true }, &mut |_| {})
            .unwrap()
            .is_ok()
    );

    let clean = Dataset::open(clean.path()).unwrap();
    let rows: Vec<_> = summary.manifest.shards.iter().map(|s| s.rows).collect();
    let all: Vec<_> = clean.manifest().shards.iter().map(|s| s.rows).collect();
    assert_eq!(
        (rows, all),
        (vec![3, 3, 1, 3], vec![4, 4, 2, 4]),
        "each shard is shorter by its own losses"
    );
    // Other objects keep their rows.
    let dataset = Dataset::open(out.path()).unwrap();
    let row_of = |d: &Dataset, id: &str| {
        d.ids(Split::Train)
            .unwrap()
            .iter()
            .position(|i| i.as_str() == id)
            .unwrap()
    };
    let read = |d: &Dataset| {
        d.read(Split::Train, row_of(d, "plank/07"), ViewSelection::All)
            .unwrap()
    };
    assert_eq!(read(&dataset), read(&clean));
}

#[test]
fn a_folder_of_broken_meshes_alone_is_an_error_and_leaves_no_dataset() {
    let (source, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir(source.path().join("crate")).unwrap();
    for i in 0..6 {
        fs::write(source.path().join(format!("crate/{i}.obj")), "this is no mesh").unwrap();
    }
    let error = run(source.path(), out.path(), 2).unwrap_err();
    assert!(
        matches!(
            error,
            DatasetError::Build(BuildError::AllSkipped { num_objects: 6, .. })
        ),
        "{error}"
    );
    assert!(error.to_string().contains("crate/0"), "{error}");
    assert_eq!(names(out.path()), Vec::<String>::new());
}

#[test]
fn a_mesh_larger_than_allowed_is_skipped_unread() {
    let (source, out) = (boxes(), tempfile::tempdir().unwrap());
    fs::write(
        source.path().join("crate/00.obj"),
        box_obj(1.0, 1.0, 1.0) + &"# padding\n".repeat(1000),
    )
    .unwrap();
    let options = BuildOptions {
        max_mesh_bytes: 4096,
        ..options(out.path(), 2)
    };
    let summary = run_with(source.path(), &recipe(), &options).unwrap();
    assert_eq!(summary.manifest.skipped[0].reason, SkipReason::TooLarge);
}

#[test]
fn another_recipe_or_source_is_refused_unless_forced() {
    let (source, out) = (boxes(), tempfile::tempdir().unwrap());
    run(source.path(), out.path(), 2).unwrap();
    let before = bytes(out.path());
    let mut other = recipe();
    other.render.size_px = 32;
    let attempt = |source: &Path, recipe: &BuildRecipe, force| {
        let options = BuildOptions {
            force,
            ..options(out.path(), 2)
        };
        run_with(source, recipe, &options)
    };
    let error = attempt(source.path(), &other, false).unwrap_err().to_string();
    assert!(
        error.contains("recipe.render.size_px is 48 there and 32 here"),
        "{error}"
    );
    fs::write(source.path().join("crate/00.obj"), box_obj(1.0, 1.0, 1.12345)).unwrap();
    let error = attempt(source.path(), &recipe(), false).unwrap_err().to_string();
    assert!(error.contains("source.listing differs"), "{error}");
    assert_eq!(bytes(out.path()), before, "nothing was touched");

    let summary = attempt(source.path(), &other, true).unwrap();
    assert!(summary.is_complete);
    assert_eq!(Dataset::open(out.path()).unwrap().image_size_px(), 32);
}

#[test]
fn an_output_that_cannot_be_written_to_is_named() {
    let (source, out) = (boxes(), tempfile::tempdir().unwrap());
    // A file in place of the folder cannot be written to, not even by root.
    let file = out.path().join("file");
    fs::write(&file, "mine").unwrap();
    let error = run(source.path(), &file, 1).unwrap_err().to_string();
    assert!(error.contains(file.to_str().unwrap()), "{error}");
    let error = run(source.path(), &file.join("below"), 1)
        .unwrap_err()
        .to_string();
    assert!(error.contains(file.to_str().unwrap()), "{error}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
}

#[cfg(target_os = "linux")]
mod full_disk {
    use std::process::Command;

    use super::*;

    /// A mounted file system, unmounted on drop; `None` where mounting is not allowed.
    struct Mounted(tempfile::TempDir);

    impl Mounted {
        fn try_new(options: &str) -> Option<Self> {
            let dir = tempfile::tempdir().unwrap();
            let mut mount = Command::new("mount");
            mount
                .args(["-t", "tmpfs", "-o", options, "tmpfs"])
                .arg(dir.path());
            let is_mounted = mount.output().is_ok_and(|output| output.status.success());
            is_mounted.then_some(Self(dir))
        }
    }

    impl Drop for Mounted {
        fn drop(&mut self) {
            let is_unmounted = Command::new("umount")
                .arg(self.0.path())
                .status()
                .is_ok_and(|s| s.success());
            assert!(
                is_unmounted || std::thread::panicking(),
                "{} stays mounted",
                self.0.path().display()
            );
        }
    }

    #[test]
    fn a_full_disk_is_named_and_the_build_goes_on_when_there_is_room() {
        let Some(disk) = Mounted::try_new("size=256k") else {
            return eprintln_skipped();
        };
        let (source, whole) = (boxes(), tempfile::tempdir().unwrap());
        run(source.path(), whole.path(), 2).unwrap();
        let expected = bytes(whole.path());
        let out = disk.0.path().join("out");
        // Leaves room for the first shards but not for all.
        let first: usize = expected
            .iter()
            .filter(|(name, _)| name.ends_with("train-00000-of-00003.parquet"))
            .map(|(_, b)| b.len())
            .sum();
        let ballast = (256 * 1024_usize).saturating_sub(first * 2 + 24 * 1024);
        fs::write(disk.0.path().join("ballast"), vec![1; ballast]).unwrap();

        let attempt = |ignore_free_space| {
            let options = BuildOptions {
                ignore_free_space,
                ..options(&out, 2)
            };
            run_with(source.path(), &recipe(), &options)
        };
        let error = attempt(false).unwrap_err();
        assert!(
            matches!(error, DatasetError::Build(BuildError::NotEnoughDiskSpace { .. })),
            "foreseen: {error}"
        );
        assert_eq!(names(&out), ["_manifest.json"], "and nothing was begun");
        let error = attempt(true).unwrap_err();
        let mut text = error.to_string();
        text += &std::error::Error::source(&error)
            .map(ToString::to_string)
            .unwrap_or_default();
        assert!(
            text.contains(out.to_str().unwrap()) && text.contains("No space"),
            "{text}"
        );
        for name in names(&out) {
            assert!(!name.ends_with(".partial"), "{name}");
            if name.ends_with(".parquet") {
                assert_eq!(
                    fs::read(out.join(&name)).unwrap(),
                    expected[Path::new(&name)],
                    "{name} is whole"
                );
            }
        }
        fs::remove_file(disk.0.path().join("ballast")).unwrap();
        run(source.path(), &out, 1).unwrap();
        assert_eq!(bytes(&out), expected);
    }

    #[test]
    fn a_read_only_disk_is_named() {
        let Some(disk) = Mounted::try_new("size=64k,ro") else {
            return eprintln_skipped();
        };
        let source = boxes();
        let error = run(source.path(), disk.0.path(), 1).unwrap_err();
        assert!(
            error.to_string().contains(disk.0.path().to_str().unwrap()),
            "{error}"
        );
        assert_eq!(names(disk.0.path()), Vec::<String>::new());
    }

    #[allow(clippy::print_stderr, reason = "a test that is skipped says so")]
    fn eprintln_skipped() {
        eprintln!("skipped: mounting a small disk is not allowed here");
    }
}

#[test]
fn without_views_nothing_is_rendered_and_the_points_are_the_same() {
    let (source, out) = (boxes(), tempfile::tempdir().unwrap());
    let with_views = run(source.path(), &out.path().join("views"), 2).unwrap().manifest;
    let points_only = BuildRecipe {
        views: false,
        ..recipe()
    };
    let no_device = BuildOptions {
        renderer: RendererOptions {
            backend: BackendChoice::Wgpu,
            adapter: AdapterChoice::Name("none of this name".to_owned()),
            ..RendererOptions::default()
        },
        ..options(&out.path().join("points"), 2)
    };
    let summary = run_with(source.path(), &points_only, &no_device).unwrap();
    let manifest = summary.manifest;
    assert!(manifest.adapter.is_null(), "{}", manifest.adapter);
    let report = verify(&no_device.out, VerifyOptions::default(), &mut |_| {}).unwrap();
    assert!(report.is_ok(), "{:?}", report.problems);
    assert_eq!((report.num_rows, report.num_images), (14, 0));
    let points = |manifest: &tap_dataset::Manifest| -> Vec<String> {
        let objects = manifest.shards.iter().flat_map(|shard| shard.objects.clone());
        objects.map(|object| object.row.unwrap().points_sha256).collect()
    };
    assert_eq!(points(&manifest), points(&with_views));
    assert!(
        with_views.recipe.get("views").is_none(),
        "recipes with views are what they were"
    );

    let fewer = BuildRecipe {
        normals: false,
        mesh_stats: false,
        ..points_only
    };
    let fewer_out = options(&out.path().join("fewer"), 1);
    run_with(source.path(), &fewer, &fewer_out).unwrap();
    let dataset = Dataset::open(&fewer_out.out).unwrap();
    let sample = dataset.read(Split::Train, 0, ViewSelection::All).unwrap();
    assert!(sample.normals.is_none() && sample.mesh.is_none() && sample.views.is_empty());
}
