//! Data sets in an object store, as a user meets them: against moto's S3 server on loopback, behind a proxy that lets one
//! request in five fail. `scripts/test` lays moto, and names its folder in `TAP_MOTO`.
#![cfg(feature = "object-store")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod util;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use util::{Outcome, TestDir, kill_after, start_unheard};

/// Ends with the test that started it, whatever ends that.
const SERVER: &str = "\
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
from moto.server import main
main(['-H', '127.0.0.1', '-p', sys.argv[1]])";

/// What `build` is told in most tests: several shards, small rows.
const SMALL: [&str; 6] = ["--size", "32", "--num-points", "64", "--set", "rows_per_shard=4"];

#[test]
fn a_store_that_fails_one_request_in_five_holds_the_bytes_of_a_local_build() {
    let Some(store) = Store::start() else { return };
    let place = TestDir::new();
    place.synthesize(3, 8);
    place
        .run(&[&["dataset", "build", "meshes", "--out", "local"][..], &SMALL].concat())
        .succeeds();
    let proxy = Proxy::start(store.port, Faults::OneInFive);
    let run = |arguments: &[&str]| run_with(&place, arguments, proxy.port);
    let build = [
        &["dataset", "build", "meshes", "--out", "s3://bucket/sets/a"][..],
        &SMALL,
    ]
    .concat();
    let outcome = run(&build).succeeds();
    assert!(
        outcome.stdout.contains("24 objects in 7 shards, 0 skipped"),
        "{outcome:#?}"
    );
    assert!(
        store.files("sets/a/") == place.files("local"),
        "other bytes than on a disk: {:?}",
        store.files("sets/a/").keys()
    );
    let again = run(&build).succeeds();
    assert!(again.stdout.contains("24 objects in 7 shards"), "{again:#?}");

    // Everything that reads data sets reads them there.
    for arguments in [
        &["dataset", "verify", "s3://bucket/sets/a", "--deep"][..],
        &["dataset", "inspect", "s3://bucket/sets/a", "--json"],
        &["dataset", "report", "s3://bucket/sets/a", "--json"],
        &["dataset", "overlap", "s3://bucket/sets/a", "local", "--json"],
    ] {
        let remote = run(arguments).succeeds();
        let local: Vec<&str> = arguments
            .iter()
            .map(|&word| word.strip_prefix("s3://bucket/sets/a").map_or(word, |_| "local"))
            .collect();
        let local = place.run(&local).succeeds();
        assert_eq!(remote.stdout, local.stdout, "{arguments:?}");
    }
    run(&["dataset", "preview", "s3://bucket/sets/a", "--out", "page.html"]).succeeds();
    assert!(proxy.num_failed() > 10, "{} requests failed", proxy.num_failed());
}

/// Rows of a store come through a cache on disk, which the next program finds.
#[test]
fn what_was_read_of_a_store_is_not_asked_for_again() {
    let Some(store) = Store::start() else { return };
    let place = TestDir::new();
    place.synthesize(2, 6);
    let build = [
        &["dataset", "build", "meshes", "--out", "s3://bucket/read"][..],
        &SMALL,
    ];
    run_with(&place, &build.concat(), store.port).succeeds();
    place
        .run(&[&["dataset", "build", "meshes", "--out", "local"][..], &SMALL].concat())
        .succeeds();
    let slow = Proxy::start(store.port, Faults::Slow);
    let count = |arguments: &[&str]| {
        let before = slow.num_requests();
        let outcome = run_with(&place, arguments, slow.port).succeeds();
        (outcome.stdout, slow.num_requests() - before)
    };
    let overlap = ["dataset", "overlap", "s3://bucket/read", "local", "--json"];
    let (first, num_first) = count(&overlap);
    let (second, num_second) = count(&overlap);
    assert_eq!(first, second);
    // What is left is the manifest, the list of the folder and the length of each shard.
    let num_shards = store.files("read/").len() - 1;
    assert!(
        num_second <= num_shards + 3,
        "{num_second} requests for {num_shards} shards"
    );
    assert!(num_second < num_first, "{num_first} requests at first");
}

/// SIGKILL at random moments, through the same faults.
#[test]
fn a_killed_build_goes_on_by_what_the_store_holds() {
    let Some(store) = Store::start() else { return };
    let place = TestDir::new();
    place.synthesize(3, 8);
    place
        .run(&[&["dataset", "build", "meshes", "--out", "local"][..], &SMALL].concat())
        .succeeds();
    let proxy = Proxy::start(store.port, Faults::OneInFive);
    let build = [
        &["dataset", "build", "meshes", "--out", "s3://bucket/killed"][..],
        &SMALL,
    ]
    .concat();
    for kill_idx in 0..6_u64 {
        kill_after(
            &mut with_store(&place, &build, proxy.port),
            Duration::from_millis(150 + 170 * kill_idx),
        );
    }
    run_with(&place, &build, proxy.port).succeeds();
    assert!(
        store.files("killed/") == place.files("local"),
        "{:?}",
        store.files("killed/").keys()
    );
}

/// A long shard goes in parts; killed in between, it leaves an upload that the next build ends.
#[test]
fn an_upload_that_a_kill_left_behind_is_ended() {
    let Some(store) = Store::start() else { return };
    let place = TestDir::new();
    place.synthesize(2, 6);
    // 1.5 MB a row: one shard in two parts.
    let build = |out| {
        let settings = ["--size", "16", "--num-points", "65536", "--sampler", "uniform"];
        [&["dataset", "build", "meshes", "--out", out][..], &settings].concat()
    };
    let slow = Proxy::start(store.port, Faults::Slow);
    let mut child = start_unheard(&mut with_store(&place, &build("s3://bucket/long"), slow.port));
    let began = Instant::now();
    while !store.files("long/").keys().any(|name| name.ends_with(".partial")) {
        assert!(
            began.elapsed() < Duration::from_mins(2),
            "no upload in parts began"
        );
        sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(store.num_uploads(), 1, "killed in the middle of an upload");
    assert!(
        !store.files("long/").keys().any(|name| name.ends_with(".parquet")),
        "half a shard under its final name"
    );

    run_with(&place, &build("s3://bucket/long"), store.port).succeeds();
    assert_eq!(store.num_uploads(), 0, "the upload was ended");
    place.run(&build("local")).succeeds();
    let expected = place.files("local");
    assert!(
        store.files("long/") == expected,
        "{:?}",
        store.files("long/").keys()
    );
    let faulty = Proxy::start(store.port, Faults::OneInFive);
    run_with(&place, &build("s3://bucket/faulty"), faulty.port).succeeds();
    assert!(
        store.files("faulty/") == expected,
        "{:?}",
        store.files("faulty/").keys()
    );
}

#[test]
fn parts_are_joined_from_and_to_a_store() {
    let Some(store) = Store::start() else { return };
    let place = TestDir::new();
    place.synthesize(2, 6);
    let run = |arguments: &[&str]| run_with(&place, arguments, store.port);
    let build = |more: &[&str]| run(&[&["dataset", "build", "meshes"][..], &SMALL, more].concat()).succeeds();
    build(&["--out", "one"]);
    build(&["--out", "s3://bucket/part-1", "--part", "1/2"]);
    build(&["--out", "part-2", "--part", "2/2"]);
    for out in ["s3://bucket/joined", "joined"] {
        run(&["dataset", "merge", "s3://bucket/part-1", "part-2", "--out", out]).succeeds();
    }
    assert!(
        store.files("joined/") == place.files("one"),
        "joined in the store"
    );
    assert!(place.files("joined") == place.files("one"), "joined on a disk");
}

/// Several at once through faults, one of them killed, and the same shards twice.
#[test]
fn units_build_straight_into_a_store() {
    let Some(store) = Store::start() else { return };
    let place = TestDir::new();
    place.synthesize(3, 8);
    let settings = [&SMALL[..], &["--backend", "cpu"]].concat();
    let on_source = |command, out| [&["dataset", command, "meshes", "--out", out][..], &settings].concat();
    place.run(&on_source("build", "local")).succeeds();
    let proxy = Proxy::start(store.port, Faults::OneInFive);
    let run = |arguments: &[&str]| run_with(&place, arguments, proxy.port);
    let out = "s3://bucket/units";
    run(&on_source("begin", out)).succeeds();
    let unit = |shards| with_store(&place, &["dataset", "unit", out, "--shards", shards], proxy.port);
    kill_after(&mut unit("0-6"), Duration::from_millis(700));
    let units = ["5-6,3", "0,2", "0,2", "3,1"].map(|shards| {
        let mut unit = unit(shards);
        unit.stdout(Stdio::piped()).stderr(Stdio::piped());
        unit.spawn().unwrap()
    });
    for unit in units {
        Outcome::from(unit.wait_with_output().unwrap()).succeeds();
    }
    let status = run(&["dataset", "status", out, "--json"]).succeeds().json();
    if status["missing"] == "4" {
        run(&["dataset", "finish", out, "--max-skipped", "3"]).fails_with(&[
            "1 of 7 shards are missing",
            "--shards 4",
            out,
        ]);
    }
    run(&["dataset", "unit", out, "--unit", "1/1"]).succeeds();
    run(&["dataset", "finish", out, "--max-skipped", "3"]).succeeds();
    assert!(
        store.files("units/") == place.files("local"),
        "other bytes than on a disk: {:?}",
        store.files("units/").keys()
    );
    run(&["dataset", "finish", out, "--max-skipped", "3"]).succeeds();
    run(&["dataset", "verify", out]).succeeds();
    assert!(proxy.num_failed() > 10, "{} requests failed", proxy.num_failed());
}

#[test]
fn what_a_store_refuses_is_said_in_one_line() {
    let Some(store) = Store::start() else { return };
    let place = TestDir::new();
    place.synthesize(1, 2);
    let run = |arguments: &[&str]| run_with(&place, arguments, store.port);
    run(&[
        "dataset",
        "build",
        "meshes",
        "--size",
        "16",
        "--out",
        "s3://nowhere/a",
    ])
    .fails_with(&["no bucket s3://nowhere"]);
    run(&["dataset", "verify", "s3://nowhere/a"]).fails_with(&["no bucket s3://nowhere"]);
    run(&["dataset", "verify", "s3://bucket/empty"]).fails_with(&["no _manifest.json", "s3://bucket/empty"]);
    store.request("PUT", "/bucket/foreign/thesis.txt", b"my thesis");
    run(&[
        "dataset",
        "build",
        "meshes",
        "--size",
        "16",
        "--out",
        "s3://bucket/foreign",
    ])
    .fails_with(&["holds thesis.txt"]);

    // From here on the server knows who may do what, and us it knows not.
    store.request("POST", "/moto-api/reset-auth", b"0");
    for command in ["build", "verify"] {
        let arguments: &[&str] = if command == "build" {
            &[
                "dataset",
                "build",
                "meshes",
                "--size",
                "16",
                "--out",
                "s3://bucket/a",
            ]
        } else {
            &["dataset", "verify", "s3://bucket/a"]
        };
        run(arguments).fails_with(&["refuses these credentials", "AWS_ACCESS_KEY_ID", "s3://bucket"]);
    }
}

/// What `build` is told where both builds must draw alike.
const DRAWN: [&str; 4] = ["--backend", "cpu", "--set", "rows_per_shard=4"];

/// `tap dataset COMMAND SRC --out OUT`, with small rows.
fn of_source<'a>(command: &'a str, src: &'a str, out: &'a str) -> Vec<&'a str> {
    let small = ["--size", "24", "--num-points", "64"];
    let max_skipped: &[&str] = if command == "build" {
        &["--max-skipped", "3"]
    } else {
        &[]
    };
    [
        &["dataset", command, src, "--out", out][..],
        &small,
        &DRAWN,
        max_skipped,
    ]
    .concat()
}

/// `tap dataset build` of meshes in their own colors.
fn build_textured<'a>(src: &'a str, out: &'a str) -> Vec<&'a str> {
    [&of_source("build", src, out)[..], &["--lighting", "textured"]].concat()
}

/// Packs a folder.
fn zip(place: &TestDir, folder: &str, archive: &str) {
    let mut python = Command::new("python3");
    python
        .args(["-m", "zipfile", "-c", archive, folder])
        .current_dir(place.path(""));
    assert!(python.status().unwrap().success(), "python3 packs {folder}");
}

/// Meshes with what lies beside them: a list of splits, materials and a texture, and what is no mesh or none of ours.
fn make_meshes(place: &TestDir) {
    place.synthesize(2, 7);
    let object = "mtllib box.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nvt 0 0\nvt 1 0\nvt 0 1\nusemtl skin\n\
                  f 1/1 2/2 3/3\nf 1/1 4/2 2/3\nf 1/1 3/2 4/3\nf 2/1 4/2 3/3\n";
    place.write("meshes/crate/a/models/model_normalized.obj", object);
    place.write(
        "meshes/crate/a/models/box.mtl",
        "newmtl skin\nKd 1 1 1\nmap_Kd C:\\me\\Skin.PNG\n",
    );
    let mut png = Vec::new();
    let mut encoder = png::Encoder::new(&mut png, 2, 2);
    encoder.set_color(png::ColorType::Rgb);
    let pixels = [255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9];
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    place.write("meshes/crate/a/images/skin.png", png);
    place.write("meshes/crate/b/model.obj", "v 1 2\n");
    place.write("meshes/crate/.hidden.obj", object);
    place.write("meshes/crate/other.fbx", "?");
    place.write("meshes/crate/rendered/views.json", "{}");
    place.write("meshes/crate/rendered/depth.npy", "?");
    place.write("meshes/README.md", "meshes");
    let rows = meshes_of(place).into_iter().enumerate().map(|(row, path)| {
        let split = if row % 3 == 0 { "test" } else { "train" };
        format!("{},{split}\n", path.split('/').nth(1).unwrap())
    });
    let list = format!("id,split\n{}a,train\nb,train\n", rows.collect::<String>());
    place.write("meshes/split.csv", list);
}

/// The synthesized meshes.
fn meshes_of(place: &TestDir) -> Vec<String> {
    let mut paths: Vec<String> = place.files("meshes").into_keys().collect();
    paths.retain(|path| path.ends_with("/model.obj") && !path.starts_with("crate/"));
    paths
}

/// A folder, archives and tables of a store are the source that they are on a disk.
#[test]
fn meshes_in_a_store_give_the_bytes_of_a_disk() {
    let Some(store) = Store::start() else { return };
    let place = TestDir::new();
    make_meshes(&place);
    store.upload(&place, "meshes", "in/meshes");
    let local = place.run(&build_textured("meshes", "local")).succeeds();
    assert!(local.stdout.contains(" 2 skipped"), "{local:#?}");
    let expected = place.files("local");
    let proxy = Proxy::start(store.port, Faults::OneInFive);
    let run = |arguments: &[&str]| run_with(&place, arguments, proxy.port);
    run(&build_textured("s3://bucket/in/meshes/", "s3://bucket/out")).succeeds();
    assert!(
        store.files("out/") == expected,
        "other bytes than of a folder on a disk: {:?}",
        store.files("out/").keys()
    );

    // The same set in one archive, and each category in one.
    zip(&place, "meshes", "meshes.zip");
    place.run(&build_textured("meshes.zip", "local-zip")).succeeds();
    store.put("in/one/meshes.zip", &fs::read(place.path("meshes.zip")).unwrap());
    run(&build_textured("s3://bucket/in/one/meshes.zip", "zip")).succeeds();
    assert!(place.files("zip") == place.files("local-zip"), "one archive");
    fs::create_dir(place.path("packed")).unwrap();
    for category in fs::read_dir(place.path("meshes")).unwrap().map(Result::unwrap) {
        if category.path().is_dir() {
            let name = category.file_name().into_string().unwrap();
            zip(&place, &format!("meshes/{name}"), &format!("packed/{name}.zip"));
        }
    }
    for list in ["split.csv", "taxonomy.json"] {
        fs::copy(place.path("meshes").join(list), place.path("packed").join(list)).unwrap();
    }
    place.run(&build_textured("packed", "local-packed")).succeeds();
    store.upload(&place, "packed", "in/packed");
    run(&build_textured("s3://bucket/in/packed", "packed-out")).succeeds();
    assert!(
        place.files("packed-out") == place.files("local-packed"),
        "a folder of archives"
    );

    // A table beside the meshes, one of addresses, and one mesh.
    let paths = meshes_of(&place);
    let table = |root: &str, paths: &[String]| {
        let rows = paths.iter().map(|path| {
            let names: Vec<&str> = path.split('/').collect();
            format!("{root}{path},{},{}\n", names[0], names[1])
        });
        let rows: String = rows.collect();
        format!("path,category,id\n{rows}{root}crate/lost.obj,crate,lost\n")
    };
    place.write("meshes/list.csv", table("", &paths));
    store.put("in/meshes/list.csv", table("", &paths).as_bytes());
    place.write("addresses.csv", table("s3://bucket/in/meshes/", &paths));
    place
        .run(&of_source("build", "meshes/list.csv", "local-list"))
        .succeeds();
    for (src, out) in [
        ("s3://bucket/in/meshes/list.csv", "list"),
        ("addresses.csv", "addresses"),
    ] {
        run(&of_source("build", src, out)).succeeds();
        assert!(place.files(out) == place.files("local-list"), "{src}");
    }
    let mesh = "crate/a/models/model_normalized.obj";
    place
        .run(&build_textured(&format!("meshes/{mesh}"), "local-mesh"))
        .succeeds();
    run(&build_textured(&format!("s3://bucket/in/meshes/{mesh}"), "mesh")).succeeds();
    assert!(
        place.files("mesh") == place.files("local-mesh"),
        "a mesh with its texture"
    );
    assert!(proxy.num_failed() > 10, "{} requests failed", proxy.num_failed());

    // A web server has no list.
    let web = format!("http://127.0.0.1:{}/bucket/in", store.port);
    for name in ["in/one/meshes.zip", "in/meshes/list.csv"] {
        store.put_public(name, &store.body(name));
    }
    for name in paths.iter().map(String::as_str).chain(["parts.json"]) {
        let bytes = fs::read(place.path("meshes").join(name)).unwrap();
        store.put_public(&format!("in/meshes/{name}"), &bytes);
    }
    run(&of_source("build", &format!("{web}/meshes/list.csv"), "web-list")).succeeds();
    assert!(
        place.files("web-list") == place.files("local-list"),
        "a table of a web server"
    );
    run(&build_textured(&format!("{web}/one/meshes.zip"), "web-zip")).succeeds();
    assert!(
        place.files("web-zip") == place.files("local-zip"),
        "an archive of a web server"
    );
    run(&build_textured(&format!("{web}/meshes"), "never")).fails_with(&["has no list", "table", &web]);
}

/// Units, rebuilding and relighting find the meshes by the address that the plan has, or by another.
#[test]
fn meshes_in_a_store_are_found_by_every_machine() {
    let Some(store) = Store::start() else { return };
    let (place, other) = (TestDir::new(), TestDir::new());
    make_meshes(&place);
    store.upload(&place, "meshes", "in/set/meshes");
    place.run(&of_source("build", "meshes", "local")).succeeds();
    let expected = place.files("local");
    let (src, out) = ("s3://bucket/in/set/meshes", "s3://bucket/units");
    let run = |place: &TestDir, arguments: &[&str]| run_with(place, arguments, store.port);
    let plan = [&of_source("plan", src, "never")[..], &["--json"]].concat();
    let plan = run(&place, &plan).succeeds().json();
    assert_eq!(plan["num_objects"], 16, "{plan}");
    run(&place, &of_source("begin", src, out)).succeeds();
    let requests = Proxy::start(store.port, Faults::None);
    run_with(
        &other,
        &["dataset", "unit", out, "--shards", "1-2"],
        requests.port,
    )
    .succeeds();
    // Two shards of four: a look at each mesh and its bytes, and no list of the source.
    assert!(
        requests.num_requests() < 40,
        "{} requests",
        requests.num_requests()
    );
    let elsewhere = ["dataset", "unit", out, "--unit", "1/1", "--source"];
    let meshes = place.path("meshes");
    run(&other, &[&elsewhere[..], &[meshes.to_str().unwrap()]].concat()).succeeds();
    run(&other, &["dataset", "finish", out, "--max-skipped", "3"]).succeeds();
    assert!(
        store.files("units/") == expected,
        "{:?}",
        store.files("units/").keys()
    );

    // Archives, and a mesh that was replaced since.
    fs::create_dir(place.path("packed")).unwrap();
    zip(&place, "meshes", "packed/all.zip");
    store.upload(&place, "packed", "in/packed");
    place
        .run(&of_source("build", "packed", "local-packed"))
        .succeeds();
    run(&place, &of_source("begin", "s3://bucket/in/packed", "shards")).succeeds();
    run(&place, &["dataset", "unit", "shards", "--unit", "1/1"]).succeeds();
    run(&place, &["dataset", "finish", "shards", "--max-skipped", "3"]).succeeds();
    assert!(
        place.files("shards") == place.files("local-packed"),
        "units of archives"
    );
    run(&place, &of_source("begin", src, "late")).succeeds();
    store.put("in/set/meshes/crate/a/models/model_normalized.obj", b"v 0 0 0\n");
    let unit = ["dataset", "unit", "late", "--unit", "1/1"];
    run(&place, &unit).fails_with(&["not the one that was begun", "model_normalized.obj", src]);

    // Another copy, with another layout: found by hashes.
    store.upload(&place, "meshes/crate", "in/moved/deep/crate");
    for (number, path) in meshes_of(&place).iter().enumerate() {
        let bytes = fs::read(place.path(&format!("meshes/{path}"))).unwrap();
        store.put(&format!("in/moved/deep/x/{number}.obj"), &bytes);
    }
    let rebuild = [
        "dataset",
        "rebuild",
        "local/_manifest.json",
        "--meshes",
        "s3://bucket/in/moved",
    ];
    run(
        &place,
        &[&rebuild[..], &["--out", "again", "--backend", "cpu"]].concat(),
    )
    .succeeds();
    assert!(place.files("again") == expected, "rebuilt");
    let relight = |meshes, out| {
        let words = [
            "dataset",
            "relight",
            "local",
            "--meshes",
            meshes,
            "--lighting",
            "mvcnn-2015",
            "--out",
            out,
        ];
        [&words[..], &["--backend", "cpu"]].concat()
    };
    place.run(&relight("meshes", "relit")).succeeds();
    run(&place, &relight("s3://bucket/in/moved", "relit-of-store")).succeeds();
    assert!(place.files("relit-of-store") == place.files("relit"), "relit");
}

/// What a store says of meshes: one that is gone is skipped, one that was replaced is built again, and a store that refuses
/// ends the build.
#[test]
fn a_store_of_meshes_that_changes_or_refuses_loses_nothing() {
    let Some(store) = Store::start() else { return };
    let place = TestDir::new();
    place.synthesize(2, 6);
    store.upload(&place, "meshes", "in");
    place.run(&of_source("build", "meshes", "local")).succeeds();
    let meshes = meshes_of(&place);
    let lost = &meshes[5];
    let build = |out| of_source("build", "s3://bucket/in", out);

    let refusing = Proxy::start(store.port, Faults::refuse(lost, "403 Forbidden"));
    let refused = run_with(&place, &build("data"), refusing.port);
    refused.fails_with(&[
        "does not give them any more",
        "refuses these credentials",
        "s3://bucket/in",
        "resume",
    ]);
    let vanishing = Proxy::start(store.port, Faults::refuse(lost, "404 Not Found"));
    run_with(&place, &build("vanished"), vanishing.port).succeeds();
    let manifest = fs::read_to_string(place.path("vanished/_manifest.json")).unwrap();
    assert!(
        manifest.contains("\"missing\"") && manifest.contains(lost),
        "{manifest}"
    );
    let run = |arguments: &[&str]| run_with(&place, arguments, store.port);
    run(&build("data")).succeeds();
    assert!(
        place.files("data") == place.files("local"),
        "resumed to the same bytes"
    );

    // Nothing is read of what has not changed, and what has is built again.
    let counting = Proxy::start(store.port, Faults::None);
    run_with(&place, &build("data"), counting.port).succeeds();
    // What is left is a look at the address, its list of five a page, and the taxonomy.
    let num_pages = place.files("meshes").len().div_ceil(5);
    let num_requests = counting.num_requests();
    assert!(
        num_requests <= num_pages + 4,
        "{num_requests} requests, {num_pages} pages"
    );
    let mut bytes = store.body(&format!("in/{}", meshes[0]));
    // A coordinate is another one, with as many bytes.
    let vertex = bytes.windows(3).position(|line| line == b"\nv ").unwrap();
    let digit = vertex + bytes[vertex..].iter().position(|byte| *byte == b'.').unwrap() + 1;
    bytes[digit] = if bytes[digit] == b'5' { b'6' } else { b'5' };
    store.put(&format!("in/{}", meshes[0]), &bytes);
    let changed = run(&build("data"));
    assert!(changed.stderr.contains("have changed"), "{changed:#?}");

    for (src, words) in [
        (
            "s3://bucket/nothing",
            &["nothing is at this address", "s3://bucket/nothing"][..],
        ),
        ("s3://nowhere/in", &["no bucket s3://nowhere"]),
        (
            "https://me:secret@localhost/list.csv",
            &["a user, a password", "https://localhost/list.csv"],
        ),
        (
            "https://localhost/a.zip?sig=secret",
            &["a query", "https://localhost/a.zip"],
        ),
    ] {
        let outcome = run(&of_source("build", src, "never"));
        assert!(!outcome.stderr.contains("secret"), "{outcome:#?}");
        outcome.fails_with(words);
    }
    run(&["render", "s3://bucket/in", "--out", "views"]).fails_with(&["local folder", "s3://bucket/in"]);
    store.request("POST", "/moto-api/reset-auth", b"0");
    run(&build("never")).fails_with(&["refuses these credentials", "AWS_ACCESS_KEY_ID", "s3://bucket"]);
}

fn run_with(place: &TestDir, arguments: &[&str], port: u16) -> Outcome {
    Outcome::of(&mut with_store(place, arguments, port))
}

/// A command that finds its store at this port of this machine.
fn with_store(place: &TestDir, arguments: &[&str], port: u16) -> Command {
    let mut command = place.command(arguments);
    command.env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}"));
    command.env("TAP_CACHE_DIR", place.path("block-cache"));
    for (name, value) in [
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_REGION", "us-east-1"),
    ] {
        command.env(name, value);
    }
    command
}

/// Does a server listen at this port of this machine?
fn is_listening(port: u16) -> bool {
    // Whoever polls a free port can be given that very port to connect from, and is then connected to itself.
    TcpStream::connect(("127.0.0.1", port))
        .is_ok_and(|stream| stream.local_addr().ok() != stream.peer_addr().ok())
}

/// moto's S3 server, with an empty bucket.
struct Store {
    server: Child,
    port: u16,
}

impl Store {
    /// `None` where there is no moto; `TAP_REQUIRE_MOTO` says that there must be.
    fn start() -> Option<Self> {
        let mut python = match std::env::var_os("TAP_MOTO").map(PathBuf::from) {
            Some(packages) => {
                let mut python = Command::new(packages.join("python"));
                python.env("PYTHONPATH", packages);
                python
            }
            None => Command::new("python3"),
        };
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let server = python
            .args(["-c", SERVER, &port.to_string()])
            // Lists come in several pages.
            .env("MOTO_S3_DEFAULT_MAX_KEYS", "5")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let started = Instant::now();
        let mut store = server.ok().map(|server| Self { server, port });
        while let Some(running) = &mut store {
            // Somebody else may have taken the port in between, and answer as they like.
            let bucket = is_listening(port).then(|| running.try_request("PUT", "/bucket", b""));
            if bucket.is_some_and(|answer| answer.is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200"))) {
                return store;
            }
            if running.server.try_wait().unwrap().is_some() || started.elapsed() > Duration::from_mins(1) {
                break;
            }
            sleep(Duration::from_millis(50));
        }
        assert!(
            std::env::var_os("TAP_REQUIRE_MOTO").is_none(),
            "python3 can't start moto's server"
        );
        util::skip("no S3 server: python3 has no moto (TAP_MOTO names the folder of its packages)");
        None
    }

    fn put(&self, key: &str, bytes: &[u8]) {
        self.request("PUT", &format!("/bucket/{key}"), bytes);
    }

    /// For those who do not sign, too.
    fn put_public(&self, key: &str, bytes: &[u8]) {
        let answer = self.try_request_with(
            "PUT",
            &format!("/bucket/{key}"),
            "x-amz-acl: public-read\r\n",
            bytes,
        );
        answer.unwrap();
    }

    /// Uploads a folder.
    fn upload(&self, place: &TestDir, folder: &str, prefix: &str) {
        for (path, bytes) in place.files(folder) {
            self.put(&format!("{prefix}/{path}"), &bytes);
        }
    }

    /// The bytes of an object.
    fn body(&self, key: &str) -> Vec<u8> {
        let answer = self.request("GET", &format!("/bucket/{key}"), b"");
        let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
        answer[head + 4..].to_vec()
    }

    /// The server's whole answer.
    fn request(&self, method: &str, path: &str, body: &[u8]) -> Vec<u8> {
        self.try_request(method, path, body).unwrap()
    }

    fn try_request(&self, method: &str, path: &str, body: &[u8]) -> std::io::Result<Vec<u8>> {
        self.try_request_with(method, path, "", body)
    }

    fn try_request_with(
        &self,
        method: &str,
        path: &str,
        header: &str,
        body: &[u8],
    ) -> std::io::Result<Vec<u8>> {
        // moto believes whoever signs, and shows the others nothing.
        let signed = "AWS4-HMAC-SHA256 Credential=test/20200101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {signed}\r\n{header}Content-Length: {}\r\n\
             Connection: close\r\n\r\n",
            body.len()
        );
        ask(self.port, &[head.as_bytes(), body].concat())
    }

    /// The objects under a prefix, by what follows it.
    fn files(&self, prefix: &str) -> BTreeMap<String, Vec<u8>> {
        let path = format!("/bucket?list-type=2&max-keys=1000&prefix={prefix}");
        let listing = String::from_utf8(self.request("GET", &path, b"")).unwrap();
        let keys = listing
            .split("<Key>")
            .skip(1)
            .map(|rest| rest.split("</Key>").next().unwrap());
        keys.map(|key| (key[prefix.len()..].to_owned(), self.body(key)))
            .collect()
    }

    fn num_uploads(&self) -> usize {
        let listing = self.request("GET", "/bucket?uploads", b"");
        String::from_utf8(listing).unwrap().matches("<UploadId>").count()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// What a proxy does to requests.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Faults {
    None,
    /// Those to read what has this in its name get this answer.
    Refuse {
        name: String,
        status: &'static str,
    },
    /// One in five is not heard, not answered, answered by half, or refused for now.
    OneInFive,
    /// All take their time.
    Slow,
}

impl Faults {
    fn refuse(name: &str, status: &'static str) -> Self {
        Self::Refuse {
            name: name.to_owned(),
            status,
        }
    }
}

/// Stands before a store; every connection carries one request.
struct Proxy {
    port: u16,
    num_requests: Arc<AtomicUsize>,
    num_failed: Arc<AtomicUsize>,
}

impl Proxy {
    fn start(store_port: u16, faults: Faults) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let num_failed = Arc::new(AtomicUsize::new(0));
        let failed = Arc::clone(&num_failed);
        let num_requests = Arc::new(AtomicUsize::new(0));
        let requests = Arc::clone(&num_requests);
        let count = Arc::new(AtomicU64::new(0));
        thread::spawn(move || {
            for client in listener.incoming() {
                let (failed, count, faults) = (Arc::clone(&failed), Arc::clone(&count), faults.clone());
                requests.fetch_add(1, Ordering::Relaxed);
                // What a broken connection says here is what the test is about.
                thread::spawn(move || {
                    let _ = client.and_then(|client| pass(client, store_port, &faults, &count, &failed));
                });
            }
        });
        Self {
            port,
            num_requests,
            num_failed,
        }
    }

    fn num_requests(&self) -> usize {
        self.num_requests.load(Ordering::Relaxed)
    }

    fn num_failed(&self) -> usize {
        self.num_failed.load(Ordering::Relaxed)
    }
}

/// Brings one request to the store and its answer back, or not.
fn pass(
    mut client: TcpStream,
    store_port: u16,
    faults: &Faults,
    count: &AtomicU64,
    num_failed: &AtomicUsize,
) -> std::io::Result<()> {
    let request = read_request(&mut client)?;
    match faults {
        Faults::Slow => sleep(Duration::from_millis(400)),
        Faults::Refuse { name, status } => {
            let head = String::from_utf8_lossy(&request[..request.len().min(400)]).into_owned();
            let line = head.lines().next().unwrap_or_default();
            if line.starts_with("GET") && line.contains(name) {
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                return client.write_all(answer.as_bytes());
            }
        }
        Faults::None | Faults::OneInFive => {}
    }
    if *faults != Faults::OneInFive {
        return client.write_all(&ask(store_port, &request)?);
    }
    let idx = count.fetch_add(1, Ordering::Relaxed);
    // Which of each five fails wanders, and so does how.
    let (round, place) = (idx / 5, idx % 5);
    if place != (round * 7 + 2) % 5 {
        return client.write_all(&ask(store_port, &request)?);
    }
    num_failed.fetch_add(1, Ordering::Relaxed);
    match round % 4 {
        0 => {}
        1 => drop(ask(store_port, &request)?),
        2 => {
            let answer = ask(store_port, &request)?;
            client.write_all(&answer[..answer.len() - answer.len() / 3])?;
        }
        _ => client.write_all(
            b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 43\r\nConnection: close\r\n\r\n\
              <Error><Code>SlowDown</Code></Error>       ",
        )?,
    }
    client.shutdown(Shutdown::Both)
}

/// A request's head and as much of a body as the head says.
fn read_request(client: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut request = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let num_read = client.read(&mut buffer)?;
        if num_read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        request.extend_from_slice(&buffer[..num_read]);
        let Some(end) = request.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&request[..end]).to_lowercase();
        let body = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let body: usize = body.map_or(0, |len| len.trim().parse().unwrap());
        if request.len() >= end + 4 + body {
            return Ok(request);
        }
    }
}

/// The whole answer of a server that closes the connection behind it.
fn ask(port: u16, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut server = TcpStream::connect(("127.0.0.1", port))?;
    server.write_all(request)?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    Ok(answer)
}
