//! `tap dataset` as a user meets it: the same bytes always, nothing lost, and faults that say what to do.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[cfg(unix)]
mod units;
mod util;

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use util::{CUBE, Outcome, TestDir, kill_after, nan_cube};

/// How often a kill test kills; `TAP_KILLS=50` makes a long night of it.
fn num_kills() -> usize {
    let asked = std::env::var("TAP_KILLS")
        .ok()
        .and_then(|kills| kills.parse().ok());
    asked.unwrap_or(10)
}

#[test]
fn the_same_seed_gives_the_same_shapes() {
    let place = TestDir::new();
    for (out, seed) in [("a", "7"), ("b", "7"), ("c", "8")] {
        place
            .run(&[
                "dataset",
                "synthesize",
                "--out",
                out,
                "--classes",
                "3",
                "--per-class",
                "2",
                "--seed",
                seed,
            ])
            .succeeds();
    }
    let [a, b, c] = ["a", "b", "c"].map(|out| place.files(out));
    assert!(
        a.keys().any(|name| name.ends_with("taxonomy.json")),
        "{:?}",
        a.keys()
    );
    assert_eq!(
        a.keys().filter(|name| name.ends_with("model.obj")).count(),
        6,
        "{:?}",
        a.keys()
    );
    assert!(a == b, "the same seed, other bytes");
    assert!(a != c, "another seed, the same bytes");
}

#[test]
fn meshes_become_shards_that_verify_and_sum_up() {
    let place = TestDir::new();
    place.synthesize(3, 4);
    place.build().succeeds();
    place.run(&["dataset", "verify", "data"]).succeeds();
    let inspection = place
        .run(&["dataset", "inspect", "data", "--json"])
        .succeeds()
        .json();
    assert_eq!(inspection["num_rows"], 12, "{inspection:#}");
    assert_eq!(
        inspection["classes"].as_array().unwrap().len(),
        3,
        "{inspection:#}"
    );
    assert_eq!(inspection["layout"]["image_size_px"], 32, "{inspection:#}");
    assert!(inspection["adapter"]["name"].is_string(), "{inspection:#}");
}

#[test]
fn meshes_become_points_alone_without_a_device() {
    let place = TestDir::new();
    place.synthesize(2, 3);
    let build = [
        "dataset",
        "build",
        "meshes",
        "--no-views",
        "--backend",
        "wgpu",
        "--out",
        "data",
    ];
    let outcome = place.run_with("VK_DRIVER_FILES", "/nonexistent", &build);
    assert_eq!(outcome.code, Some(0), "{outcome:#?}");
    place.run(&["dataset", "verify", "data"]).succeeds();
    let text = place
        .run(&["dataset", "inspect", "data"])
        .succeeds()
        .stdout
        .clone();
    assert!(
        text.contains("nothing rendered") && text.contains("1024 points, no views"),
        "{text}"
    );
    place
        .run(&["dataset", "preview", "data", "--out", "preview.html"])
        .succeeds();
    place
        .run(&[
            "dataset",
            "relight",
            "data",
            "--lighting",
            "hemisphere",
            "--add",
            "sky",
        ])
        .fails_with(&["no views to relight"]);
}

#[test]
fn the_number_of_workers_leaves_no_trace() {
    let place = TestDir::new();
    place.synthesize(2, 5);
    let build = |out, workers| {
        let arguments = [
            "dataset",
            "build",
            "meshes",
            "--out",
            out,
            "--size",
            "32",
            "--num-points",
            "64",
        ];
        place
            .run(&[&arguments[..], &["--workers", workers]].concat())
            .succeeds();
        place.files(out)
    };
    assert!(
        build("one", "1") == build("three", "3"),
        "one worker and three give other bytes"
    );
}

/// SIGKILL at random moments; another number of workers each time. The end is the unbroken build's, to the byte.
#[test]
fn a_killed_build_goes_on_to_the_same_bytes() {
    let place = TestDir::new();
    place.synthesize(4, 12);
    let build = |out: &str, workers: &str| {
        let arguments = [
            "dataset",
            "build",
            "meshes",
            "--out",
            out,
            "--size",
            "48",
            "--num-points",
            "128",
        ];
        let mut command = place.command(&arguments);
        command.args(["--set", "rows_per_shard=4", "--workers", workers]);
        command
    };
    let started = Instant::now();
    Outcome::of(&mut build("unbroken", "2")).succeeds();
    let unbroken_s = started.elapsed().as_secs_f64();

    let seed = RandomState::new().hash_one(0);
    for kill_idx in 0..num_kills() {
        let part = (seed.rotate_left(6 * kill_idx as u32) % 1000) as f64 / 1000.0;
        kill_after(
            &mut build("killed", ["1", "2", "3"][kill_idx % 3]),
            Duration::from_secs_f64(0.6 * unbroken_s * part),
        );
    }
    Outcome::of(&mut build("killed", "3")).succeeds();
    assert!(
        place.files("killed") == place.files("unbroken"),
        "other bytes after {} kills, seed {seed}",
        num_kills()
    );
    place.run(&["dataset", "verify", "killed", "--deep"]).succeeds();
}

/// Two machines' shares, joined under SIGKILL: the end is one machine's build, to the byte.
#[test]
fn a_killed_merge_goes_on_to_the_same_bytes() {
    let place = TestDir::new();
    place.synthesize(4, 10);
    let build = |more: &[&str]| {
        let arguments = [
            "dataset",
            "build",
            "meshes",
            "--size",
            "32",
            "--num-points",
            "64",
            "--set",
            "rows_per_shard=2",
        ];
        place.run(&[&arguments[..], more].concat()).succeeds()
    };
    build(&["--out", "one"]);
    let part = build(&["--out", "a", "--part", "1/2", "--json"]).json();
    assert_eq!(part["part"]["count"], 2, "{part:#}");
    build(&["--out", "b", "--part", "2/2"]);
    place
        .run(&["dataset", "verify", "a"])
        .fails_with(&["part 1/2", "tap dataset merge"]);
    place
        .run(&["dataset", "merge", "a", "--out", "joined"])
        .fails_with(&["missing: part 2/2"]);

    let merge = ["dataset", "merge", "b", "a", "--out", "joined"];
    let seed = RandomState::new().hash_one(0);
    for kill_idx in 0..num_kills() {
        kill_after(
            &mut place.command(&merge),
            Duration::from_millis(seed.rotate_left(6 * kill_idx as u32) % 40),
        );
    }
    place.run(&merge).succeeds();
    assert!(
        place.files("joined") == place.files("one"),
        "other bytes after {} kills, seed {seed}",
        num_kills()
    );
    place.run(&["dataset", "verify", "joined"]).succeeds();
}

/// Ctrl-C ends a build with a word on how to go on, and going on gives the unbroken build's bytes.
#[cfg(unix)]
#[test]
fn an_interrupted_build_says_how_to_go_on() {
    let place = TestDir::new();
    place.synthesize(4, 12);
    let arguments = [
        "dataset",
        "build",
        "meshes",
        "--size",
        "48",
        "--num-points",
        "128",
        "--set",
        "rows_per_shard=4",
    ];
    let arguments = |out| [&arguments[..], &["--out", out]].concat();
    let started = Instant::now();
    place.run(&arguments("unbroken")).succeeds();
    let unbroken = started.elapsed();

    let child = place
        .command(&arguments("stopped"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    sleep(unbroken / 2);
    Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("run the same command again"), "{stderr}");

    place.run(&arguments("stopped")).succeeds();
    assert!(
        place.files("stopped") == place.files("unbroken"),
        "other bytes after an interruption"
    );
}

#[test]
fn a_broken_mesh_is_listed_and_counted() {
    let place = TestDir::new();
    for name in ["a", "b"] {
        place.write(&format!("meshes/box/{name}.obj"), CUBE);
    }
    place.write("meshes/box/nan.obj", nan_cube());
    let build = [
        "dataset",
        "build",
        "meshes",
        "--out",
        "data",
        "--size",
        "16",
        "--num-points",
        "32",
    ];
    let outcome = place.run(&[&build[..], &["--max-skipped", "0"]].concat());
    outcome.fails_with(&["1 of 3", "--max-skipped"]);
    place
        .run(&[&build[..], &["--max-skipped", "1"]].concat())
        .succeeds();

    let manifest: serde_json::Value = serde_json::from_slice(&place.files("data")["_manifest.json"]).unwrap();
    let skipped = manifest["skipped"].as_array().unwrap();
    assert_eq!(skipped.len(), 1, "{manifest:#}");
    assert_eq!(
        (skipped[0]["id"].as_str(), skipped[0]["reason"].as_str()),
        (Some("box/nan"), Some("non-finite"))
    );
    place.run(&["dataset", "verify", "data"]).succeeds();
}

#[test]
fn what_is_left_out_is_said_by_kind_and_counted() {
    let place = TestDir::new();
    place.write("meshes/class/train/whole.obj", CUBE);
    for number in 0..5 {
        place.write(&format!("meshes/class/extra/{number}.obj"), CUBE);
    }
    let small = ["--size", "16", "--num-points", "32"];
    let build = [&["dataset", "build", "meshes", "--out", "data"], &small[..]].concat();
    let plan = [&["dataset", "plan", "meshes", "--json"], &small[..]].concat();
    for command in [&build, &plan] {
        let outcome = place.run(command).succeeds();
        let shown = outcome.stderr.matches("skipped class/extra/").count();
        assert_eq!(shown, 3, "{outcome:#?}");
        assert!(
            outcome.stderr.contains("skipped 2 more, not-in-layout"),
            "{outcome:#?}"
        );
    }
    assert_eq!(place.run(&plan).json()["left_out"]["not-in-layout"], 5);
    place
        .run(&[
            "dataset",
            "build",
            "nowhere",
            "--out",
            "x",
            "--set",
            "render.lighting.foo=1",
        ])
        .exits_with_2();
}

#[test]
fn a_build_is_planned_reported_and_rebuilt() {
    let place = TestDir::new();
    place.synthesize(3, 4);
    let settings = ["--size", "32", "--num-points", "64"];
    let plan = [&["dataset", "plan", "meshes", "--json"][..], &settings].concat();
    let plan = place.run(&plan).succeeds().json();
    assert_eq!(
        (&plan["num_rows"], &plan["fits"]),
        (&12.into(), &true.into()),
        "{plan:#}"
    );
    place.build().succeeds();

    let report = place
        .run(&["dataset", "report", "data", "--json"])
        .succeeds()
        .json();
    assert_eq!(report["all"]["num_rows"], 12, "{report:#}");
    assert_eq!(report["categories"].as_array().unwrap().len(), 3, "{report:#}");
    let table = place.run(&["dataset", "report", "data"]).succeeds().stdout;
    assert!(table.contains("non-manifold") && table.contains("all"), "{table}");

    let rebuild = [
        "dataset",
        "rebuild",
        "data/_manifest.json",
        "--meshes",
        "meshes",
        "--out",
        "again",
    ];
    let outcome = place.run(&rebuild).succeeds();
    assert!(outcome.stdout.contains("equal"), "{outcome:#?}");
    assert!(place.files("again") == place.files("data"), "to the byte");

    let mesh = place
        .files("meshes")
        .into_keys()
        .find(|name| name.ends_with("model.obj"))
        .unwrap();
    place.write(&format!("meshes/{mesh}"), CUBE);
    let other = [
        "dataset", "rebuild", "data", "--meshes", "meshes", "--out", "other", "--json",
    ];
    let outcome = place.run(&other);
    assert_eq!(outcome.json()["kinds"]["other-mesh"], 1, "{outcome:#?}");
    outcome.fails_with(&["11 of 12 objects are the same"]);
}

/// Another light changes the pictures and nothing else, and gives the shards of a fresh build with it.
#[test]
fn a_dataset_is_lit_anew() {
    let place = TestDir::new();
    place.synthesize(2, 4);
    place.build().succeeds();
    let arguments = [
        "dataset",
        "relight",
        "data",
        "--meshes",
        "meshes",
        "--lighting",
        "headlight-specular",
    ];
    let relit = place
        .run(&[&arguments[..], &["--out", "relit", "--json"]].concat())
        .succeeds()
        .json();
    let settings = [
        "--size",
        "32",
        "--num-points",
        "64",
        "--lighting",
        "headlight-specular",
    ];
    place
        .run(&[&["dataset", "build", "meshes", "--out", "fresh"][..], &settings].concat())
        .succeeds();
    let [mut relit_files, mut fresh] = ["relit", "fresh"].map(|name| place.files(name));
    let manifest: serde_json::Value =
        serde_json::from_slice(&relit_files.remove("_manifest.json").unwrap()).unwrap();
    assert_eq!(
        manifest["parent"], relit["parent"],
        "the manifest names its parent"
    );
    assert!(
        fresh.remove("_manifest.json").is_some() && relit_files == fresh,
        "other shards than a fresh build's"
    );
    place.run(&["dataset", "verify", "relit", "--deep"]).succeeds();
    let killed = [&arguments[..], &["--out", "killed"]].concat();
    for kill_idx in 0..num_kills() {
        kill_after(
            &mut place.command(&killed),
            Duration::from_millis(RandomState::new().hash_one(kill_idx) % 120),
        );
    }
    place.run(&killed).succeeds();
    assert!(
        place.files("killed") == place.files("relit"),
        "other bytes after kills"
    );

    let mesh = place
        .files("meshes")
        .into_keys()
        .find(|name| name.ends_with("model.obj"))
        .unwrap();
    place.write(&format!("meshes/{mesh}"), CUBE);
    place
        .run(&[&arguments[..], &["--out", "other"]].concat())
        .fails_with(&["changed more than the images"]);
}

/// From what the shards store, under SIGKILL too; and what that cannot do says both ways out.
#[test]
fn a_dataset_is_lit_anew_without_its_meshes() {
    let place = TestDir::new();
    place.synthesize(2, 4);
    let build = ["dataset", "build", "meshes", "--size", "32", "--num-points", "64"];
    place.run(&[&build[..], &["--out", "plain"]].concat()).succeeds();
    let stored = ["--gbuffer", "--set", "rows_per_shard=1", "--out", "stored"];
    place.run(&[&build[..], &stored].concat()).succeeds();
    place.run(&["dataset", "verify", "stored", "--deep"]).succeeds();
    let outcome = place.run(&["dataset", "inspect", "stored"]).succeeds();
    assert!(outcome.stdout.contains("normals and depth"), "{outcome:#?}");
    fs::remove_dir_all(place.path("meshes")).unwrap();

    let relight = |dir, lighting, out| ["dataset", "relight", dir, "--lighting", lighting, "--out", out];
    let relit = [&relight("stored", "headlight-specular", "relit")[..], &["--json"]].concat();
    let report = place.run(&relit).succeeds().json();
    assert_eq!(report["num_rows"], 8, "{report:#}");
    place.run(&["dataset", "verify", "relit", "--deep"]).succeeds();
    let manifest: serde_json::Value =
        serde_json::from_slice(&place.files("relit")["_manifest.json"]).unwrap();
    assert_eq!(
        manifest["parent"], report["parent"],
        "the manifest names its parent"
    );
    assert_eq!(manifest["is_relit"], true, "and that nothing was drawn");

    let killed = relight("stored", "headlight-specular", "killed");
    for kill_idx in 0..num_kills() {
        kill_after(
            place
                .command(&killed)
                .args(["--workers", ["1", "2", "3"][kill_idx % 3]]),
            Duration::from_millis(RandomState::new().hash_one(kill_idx) % 80),
        );
    }
    place.run(&killed).succeeds();
    assert!(
        place.files("killed") == place.files("relit"),
        "other bytes after kills"
    );

    place
        .run(&[
            "dataset", "rebuild", "relit", "--meshes", "stored", "--out", "again",
        ])
        .fails_with(&["lit from the G-buffer"]);
    place
        .run(&relight("plain", "hemisphere", "other"))
        .fails_with(&["--meshes SRC", "--gbuffer", "plain"]);
    place
        .run(&relight("stored", "three-point", "other"))
        .fails_with(&["the meshes' own colors", "--lighting textured", "stored"]);
}

/// Pictures under another light beside the rows, instead of a copy of them.
#[test]
fn images_are_added_to_a_dataset() {
    let place = TestDir::new();
    place.synthesize(2, 4);
    let build = [
        "dataset",
        "build",
        "meshes",
        "--size",
        "32",
        "--num-points",
        "64",
        "--gbuffer",
        "--out",
        "data",
    ];
    place.run(&build).succeeds();
    let add = [
        "dataset",
        "relight",
        "data",
        "--lighting",
        "hemisphere",
        "--add",
        "sky",
    ];
    for kill_idx in 0..num_kills() {
        kill_after(
            &mut place.command(&add),
            Duration::from_millis(RandomState::new().hash_one(kill_idx) % 40),
        );
    }
    place.run(&add).succeeds();
    let inspection = place
        .run(&["dataset", "inspect", "data", "--json"])
        .succeeds()
        .json();
    assert_eq!(inspection["image_sets"][0]["name"], "sky", "{inspection:#}");
    let proof = place
        .run(&["dataset", "verify", "data", "--deep", "--json"])
        .succeeds()
        .json();
    assert_eq!(proof["num_images"], 8 * 12 * 2, "{proof:#}");
    let preview = ["dataset", "preview", "data", "--out", "page.html", "--images"];
    place.run(&[&preview[..], &["sky"]].concat()).succeeds();
    place
        .run(&[&preview[..], &["sea", "--force"]].concat())
        .fails_with(&["sea", "there are: sky"]);
    place
        .run(&["dataset", "verify", "data/__images/sky"])
        .fails_with(&["images for the rows of another dataset"]);
}

#[test]
fn splits_are_drawn_by_shares() {
    let place = TestDir::new();
    place.synthesize(2, 5);
    let settings = [
        "--size",
        "32",
        "--num-points",
        "64",
        "--split-fractions",
        "0.6,0.4",
    ];
    let build = |out, seed| {
        let build = ["dataset", "build", "meshes", "--out", out, "--split-seed", seed];
        place.run(&[&build[..], &settings].concat()).succeeds();
        place
            .run(&["dataset", "inspect", out, "--json"])
            .succeeds()
            .json()
    };
    let inspection = build("a", "1");
    for class in inspection["classes"].as_array().unwrap() {
        assert_eq!(
            (&class["train"], &class["test"]),
            (&3.into(), &2.into()),
            "{inspection:#}"
        );
    }
    build("b", "2");
    let [a, b] = ["a", "b"].map(|name| place.files(name));
    assert!(a != b, "another seed, another draw");
}

#[test]
fn sources_without_a_usable_mesh_are_refused() {
    let place = TestDir::new();
    fs::create_dir(place.path("empty")).unwrap();
    place
        .run(&["dataset", "build", "empty", "--out", "data"])
        .fails_with(&["no object", "empty"]);
    place
        .run(&["dataset", "build", "nowhere", "--out", "data"])
        .fails_with(&["nowhere"]);
    for name in ["a", "b"] {
        place.write(&format!("broken/box/{name}.obj"), nan_cube());
    }
    let outcome = place.run(&[
        "dataset",
        "build",
        "broken",
        "--out",
        "data",
        "--max-skipped",
        "9",
    ]);
    outcome.fails_with(&["all 2 objects were skipped", "nan"]);
    let left: Vec<String> = place
        .files("data")
        .into_keys()
        .filter(|name| name.ends_with(".parquet"))
        .collect();
    assert!(left.is_empty(), "shards of nothing: {left:?}");
}

#[test]
fn damage_is_found_and_named() {
    let place = TestDir::new();
    place.synthesize(2, 3);
    place.build().succeeds();
    let files = place.files("data");
    let (name, bytes) = files.iter().find(|(name, _)| name.ends_with(".parquet")).unwrap();
    let shard = place.path("data").join(name);
    let verify = || place.run(&["dataset", "verify", "data"]);

    fs::write(&shard, &bytes[..bytes.len() / 2]).unwrap();
    verify().fails_with(&["bytes instead of", name]);
    place.run(&["dataset", "inspect", "data"]).fails_with(&[name]);

    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    fs::write(&shard, flipped).unwrap();
    verify().fails_with(&[name]);

    fs::write(&shard, bytes).unwrap();
    verify().succeeds();
    let manifest = String::from_utf8(files["_manifest.json"].clone()).unwrap();
    place.write(
        "data/_manifest.json",
        manifest.replacen("\"schema_version\": 4", "\"schema_version\": 99", 1),
    );
    verify().fails_with(&["schema version 99", "build"]);
    place
        .run(&["dataset", "inspect", "data"])
        .fails_with(&["schema version 99"]);
}

#[test]
fn nothing_is_overwritten_without_force() {
    let place = TestDir::new();
    place.synthesize(2, 2);
    place.write("data/thesis.txt", "my thesis");
    place.build().fails_with(&["data"]);
    assert_eq!(place.files("data").len(), 1, "the folder is as it was");
    let again = [
        "dataset",
        "synthesize",
        "--out",
        "meshes",
        "--classes",
        "2",
        "--per-class",
        "2",
    ];
    place.run(&again).fails_with(&["meshes", "force"]);
}

/// By force only datasets are replaced: what else lies in a folder is named, and stays.
#[test]
fn by_force_only_what_a_build_wrote_is_replaced() {
    let place = TestDir::new();
    place.synthesize(2, 2);
    let build = [
        "dataset",
        "build",
        "meshes",
        "--out",
        "data",
        "--num-points",
        "64",
    ];
    let build = |size: &'static str, more: &[&'static str]| [&build[..], &["--size", size], more].concat();
    let refused = |arguments: &[&str], words: &[&str]| {
        let before = place.files("");
        place.run(arguments).fails_with(words);
        assert!(place.files("") == before, "nothing was touched: {words:?}");
    };
    for manifest in ["", "{", "{}", "{\"name\": \"my app\"}", "[1]"] {
        place.write("data/_manifest.json", manifest);
        refused(&build("32", &["--force"]), &["data", "_manifest.json"]);
    }
    fs::remove_dir_all(place.path("data")).unwrap();

    place.run(&build("32", &[])).succeeds();
    place.run(&build("48", &[])).fails_with(&["another dataset"]);
    place.write("data/thesis.txt", "my thesis");
    place.write("data/__images/cat/photo.png", "a cat");
    refused(&build("48", &["--force"]), &["thesis.txt", "__images/cat"]);
    fs::remove_file(place.path("data/thesis.txt")).unwrap();
    fs::remove_dir_all(place.path("data/__images")).unwrap();

    // Nor what is read.
    let inputs: [&[&str]; 4] = [
        &["dataset", "build", "data/meshes", "--out", "data", "--force"],
        &[
            "dataset",
            "relight",
            "data",
            "--lighting",
            "hemisphere",
            "--out",
            "data",
            "--force",
        ],
        &[
            "dataset",
            "rebuild",
            "data/_manifest.json",
            "--meshes",
            "meshes",
            "--out",
            "data",
            "--force",
        ],
        &["dataset", "merge", "part", "data", "--out", "./data", "--force"],
    ];
    place.write("data/meshes/a.obj", CUBE);
    refused(inputs[0], &["would remove an input", "data/meshes"]);
    fs::remove_dir_all(place.path("data/meshes")).unwrap();
    for arguments in &inputs[1..] {
        refused(arguments, &["would remove an input", "data"]);
    }

    // A whole Parquet file under a shard's name is not a build's for that.
    let foreign = place.path("data/val-00000-of-00001.parquet");
    fs::write(&foreign, b"PAR1 rows of others PAR1").unwrap();
    refused(&build("48", &["--force"]), &["val-00000-of-00001.parquet"]);
    refused(&build("32", &[]), &["val-00000-of-00001.parquet"]);
    fs::create_dir(place.path("hub")).unwrap();
    fs::rename(&foreign, place.path("hub/val-00000-of-00001.parquet")).unwrap();
    let beside = [
        "dataset",
        "build",
        "meshes",
        "--out",
        "hub",
        "--size",
        "16",
        "--num-points",
        "64",
    ];
    refused(&beside, &["val-00000-of-00001.parquet"]);

    // Whole, half-built, cut off or of another version, a dataset gives way.
    let manifest = fs::read_to_string(place.path("data/_manifest.json")).unwrap();
    for changed in [
        manifest.clone(),
        manifest[..manifest.len() / 2].to_owned(),
        manifest.replacen("\"schema_version\": ", "\"schema_version\": 99", 1),
    ] {
        place.write("data/_manifest.json", changed);
        place.run(&build("48", &["--force"])).succeeds();
        place.run(&["dataset", "verify", "data"]).succeeds();
    }
}

#[test]
fn by_force_only_synthetic_objects_are_replaced() {
    let place = TestDir::new();
    place.synthesize(2, 2);
    let again = [
        "dataset",
        "synthesize",
        "--out",
        "meshes",
        "--classes",
        "2",
        "--per-class",
        "1",
        "--force",
    ];
    let refused = |name: &str, content: &str| {
        let old = fs::read(place.path(name)).ok();
        place.write(name, content);
        let before = place.files("meshes");
        place.run(&again).fails_with(&[name.rsplit('/').next().unwrap()]);
        assert!(place.files("meshes") == before, "{name}: nothing was touched");
        match old {
            Some(old) => drop(place.write(name, old)),
            None => fs::remove_file(place.path(name)).unwrap(),
        }
    };
    refused(
        "meshes/taxonomy.json",
        r#"[{"synsetId": "02691156", "name": "airplane", "numInstances": 4045}]"#,
    );
    refused("meshes/parts.json", r#"{"chair": ["my parts"]}"#);
    refused("meshes/split.csv", "id,category,split\n1a2b,chair,train\n");
    refused("meshes/03001627/chair_0001/texture.png", "mine");
    place.write("meshes/notes.txt", "mine");
    place.run(&again).succeeds();
    assert_eq!(place.files("meshes")["notes.txt"], b"mine");
    assert!(
        !place.path("meshes/03001627/chair_0001").exists(),
        "it was of the larger set"
    );
}

#[test]
fn datasets_are_made_from_others() {
    let place = TestDir::new();
    place.synthesize(3, 4);
    let run = |line: &str| place.run(&line.split(' ').collect::<Vec<_>>());
    run("dataset build meshes --out shards --no-views --num-points 64").succeeds();
    run("dataset build meshes --out shards --no-views --num-points 64 --resume").succeeds();
    let says = |outcome: Outcome, text: &str| {
        let outcome = outcome.succeeds();
        assert!(outcome.stdout.contains(text), "{outcome:#?}");
    };
    let of_category =
        |condition, out| place.run(&["dataset", "select", "shards", "--where", condition, "--out", out]);
    says(
        of_category("category = 'lamp'", "lamps"),
        "4 rows (train 4) of 1 classes in 1 shards, 8 left out",
    );
    says(
        of_category("category like '%ab%' or category = 'sofa'", "tables"),
        "4 rows",
    );
    says(
        run("dataset join lamps tables --out furniture"),
        "8 rows (train 8) of 2 classes",
    );
    says(
        run("dataset resplit furniture --split-fractions 0.5,0.5 --out halves"),
        "(test 4, train 4)",
    );
    says(
        run("dataset relabel furniture --map lamp=thing --map table=thing --out one"),
        "of 1 classes",
    );
    says(run("dataset verify one"), "valid: 8 objects");

    fs::create_dir(place.path("plain")).unwrap();
    fs::copy(
        place.path("lamps/train-00000-of-00001.parquet"),
        place.path("plain/test.parquet"),
    )
    .unwrap();
    says(
        run("dataset adopt plain --of shards --out again"),
        "4 rows (test 4)",
    );

    let refused = of_category("colour = 'red'", "x").fails_with(&["no column \"colour\"", "category"]);
    assert!(!place.path("x").exists(), "{refused:#?}");
    let usage = of_category("category = red", "x").exits_with_2();
    assert!(usage.stderr.contains("character 12"), "{usage:#?}");
    run("dataset select shards --out x").exits_with_2();
    run("dataset relabel shards --map sofa=x --out x").fails_with(&["sofa", "chair, lamp, table"]);
}

#[test]
fn a_machine_without_a_driver_draws_by_itself_unless_one_is_asked_for() {
    let place = TestDir::new();
    place.synthesize(2, 2);
    let build = |arguments: &[&str]| {
        let all = [
            &["dataset", "build", "meshes", "--set", "render.size_px=32"],
            arguments,
        ]
        .concat();
        place.run_with("VK_DRIVER_FILES", "/nonexistent", &all)
    };
    let outcome = build(&["--out", "drawn"]);
    assert_eq!(outcome.code, Some(0), "{outcome:#?}");
    build(&["--out", "data", "--backend", "wgpu"])
        .fails_with(&["Vulkan driver", "apt-get install mesa-vulkan-drivers"]);
    assert!(
        !place.files("data").keys().any(|name| name.ends_with(".parquet")),
        "nothing was made"
    );
}

#[test]
fn an_output_that_cannot_be_made_is_named() {
    let place = TestDir::new();
    place.synthesize(2, 2);
    place.write("file", "no folder");
    place
        .run(&["dataset", "build", "meshes", "--out", "file/data"])
        .fails_with(&["file/data"]);
}

#[test]
fn a_full_disk_leaves_nothing_half_made() {
    let Some((outcome, left)) = build_on_tmpfs("size=60k", "--ignore-free-space") else {
        return;
    };
    outcome.fails_with(&["No space left"]);
    assert!(
        !left.iter().any(|name| name.ends_with(".parquet")),
        "a shard under its final name: {left:?}"
    );
}

#[test]
fn a_disk_that_is_too_small_is_foreseen() {
    let Some((outcome, left)) = build_on_tmpfs("size=60k", "") else {
        return;
    };
    outcome.fails_with(&["not enough disk space", "--ignore-free-space", "disk/data"]);
    assert!(
        !left.iter().any(|name| name.contains(".parquet")),
        "a shard was begun: {left:?}"
    );
}

#[test]
fn a_read_only_disk_is_named() {
    let Some((outcome, left)) = build_on_tmpfs("ro", "") else {
        return;
    };
    outcome.fails_with(&["Read-only file system"]);
    assert!(left.is_empty(), "{left:?}");
}

/// Builds onto a disk of its own, which is gone afterwards: what happened, and the names that were left on it.
fn build_on_tmpfs(options: &str, flags: &str) -> Option<(Outcome, Vec<String>)> {
    const MARK: &str = "left on the disk:";
    let script = format!(
        "mount -t tmpfs -o {options} tmpfs disk || exit 99; \"$0\" dataset build meshes --out disk/data --size 64 {flags}; \
         code=$?; echo '{MARK}' $(find disk -type f); exit $code"
    );
    let place = TestDir::new();
    place.synthesize(4, 6);
    fs::create_dir(place.path("disk")).unwrap();
    let mut command = Command::new("unshare");
    command.args([
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        &script,
        env!("CARGO_BIN_EXE_tap"),
    ]);
    let outcome = command
        .current_dir(place.path(""))
        .output()
        .ok()
        .map(Outcome::from);
    let outcome = outcome.filter(|outcome| outcome.stdout.contains(MARK));
    let Some(mut outcome) = outcome else {
        util::skip("this machine lets no test mount a disk of its own");
        return None;
    };
    let (stdout, left) = outcome.stdout.split_once(MARK).unwrap();
    let left = left.split_whitespace().map(str::to_owned).collect();
    outcome.stdout = stdout.to_owned();
    Some((outcome, left))
}
