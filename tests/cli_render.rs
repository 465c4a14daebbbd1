//! `tap render` as a user meets it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod util;

use std::fs;

use util::{CUBE, Place, nan_cube};

const AXES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/axes.obj");

#[test]
fn twelve_views_with_their_poses_and_a_sheet() {
    let place = Place::new();
    place
        .run(&["render", AXES, "--out", "views", "--size", "48", "--sheet"])
        .succeeds();
    let views: serde_json::Value = serde_json::from_slice(&place.files("views/axes")["views.json"]).unwrap();
    let list = views["views"].as_array().unwrap();
    assert_eq!(list.len(), 12, "mvcnn12 has twelve views");
    for (view_idx, view) in list.iter().enumerate() {
        assert_eq!(view["file"], format!("view_{:03}.png", view_idx + 1));
        assert!(
            place
                .path("views/axes")
                .join(view["file"].as_str().unwrap())
                .is_file(),
            "the file is there"
        );
        let azimuth_deg = view["azimuth_deg"].as_f64().unwrap();
        assert!(
            (azimuth_deg - 30.0 * view_idx as f64).abs() < 1e-3,
            "view {view_idx} at {azimuth_deg} degrees"
        );
        assert_eq!(view["clip_from_view"].as_array().unwrap().len(), 16, "a matrix");
    }
    assert_eq!(views["recipe"]["size_px"], 48);
    assert!(views["adapter"]["name"].is_string(), "the adapter is named");
    assert!(place.path("views/axes/sheet.png").is_file(), "the sheet is there");
}

#[test]
fn all_channels_lie_side_by_side() {
    let place = Place::new();
    place.write("cube.obj", CUBE);
    let channels = "color,mask,depth,normal";
    place
        .run(&[
            "render",
            "cube.obj",
            "--out",
            "views",
            "--size",
            "32",
            "--channels",
            channels,
        ])
        .succeeds();
    let names: Vec<String> = place.files("views/cube").into_keys().collect();
    assert_eq!(names.len(), 4 * 12 + 1, "{names:?}");
    let views: serde_json::Value = serde_json::from_slice(&place.files("views/cube")["views.json"]).unwrap();
    let depth = &views["views"][0]["depth"];
    assert!(
        depth["near"].as_f64() < depth["far"].as_f64(),
        "a cube has an extent: {depth}"
    );
}

#[test]
fn the_same_mesh_gives_the_same_bytes() {
    let place = Place::new();
    place.write("cube.obj", CUBE);
    for out in ["a", "b"] {
        place
            .run(&["render", "cube.obj", "--out", out, "--size", "32", "--sheet"])
            .succeeds();
    }
    assert_eq!(place.files("a"), place.files("b"));
}

#[test]
fn nothing_is_overwritten_without_force() {
    let place = Place::new();
    place.write("cube.obj", CUBE);
    let render = ["render", "cube.obj", "--out", "views", "--size", "16"];
    place.run(&render).succeeds();
    place.run(&render).fails_with(&["--force", "views/cube"]);
    place.run(&[&render[..], &["--force"]].concat()).succeeds();

    place.write("mine/cube/thesis.txt", "my thesis");
    place
        .run(&["render", "cube.obj", "--out", "mine", "--size", "16", "--force"])
        .fails_with(&["left alone"]);
    assert_eq!(
        fs::read_to_string(place.path("mine/cube/thesis.txt")).unwrap(),
        "my thesis"
    );
}

#[test]
fn one_bad_mesh_does_not_stop_the_others() {
    let place = Place::new();
    place.write("cube.obj", CUBE);
    place.write("nan.obj", nan_cube());
    let outcome = place.run(&[
        "render", "nan.obj", "cube.obj", "--out", "views", "--size", "16", "--json",
    ]);
    let outcome = outcome.fails_with(&["nan.obj"]);
    assert!(
        outcome.json()[0]["error"].is_string() && outcome.json()[1]["folder"].is_string(),
        "{outcome:?}"
    );
    assert!(
        place.path("views/cube/views.json").is_file(),
        "the good one is drawn"
    );
    assert!(
        !place.path("views/nan").exists() && !place.path("views/nan.partial").exists(),
        "nothing half-made"
    );
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    let place = Place::new();
    place.write("cube.obj", CUBE);
    place.run(&["render", "cube.obj"]).exits_with_2();
    place
        .run(&["render", "cube.obj", "--out", "views", "--framing", "wide"])
        .exits_with_2();
    let outcome = place
        .run(&["render", "cube.obj", "--out", "views", "--set", "sise_px=3"])
        .exits_with_2();
    assert!(
        outcome.stderr.contains("sise_px"),
        "the wrong key is named: {outcome:?}"
    );
}

#[test]
fn faults_are_one_line_that_helps() {
    let place = Place::new();
    place.write("cube.obj", CUBE);
    place.write("notes.txt", "no mesh");
    let render = |mesh| place.run(&["render", mesh, "--out", "views", "--size", "16"]);
    render("missing.obj").fails_with(&["missing.obj", "No such file"]);
    render("notes.txt").fails_with(&["notes.txt", "OBJ"]);
    place
        .run(&["render", "cube.obj", "--out", "notes.txt/views", "--size", "16"])
        .fails_with(&["notes.txt/views"]);
    // A machine without a Vulkan driver.
    place
        .run_with(
            "VK_DRIVER_FILES",
            "/nonexistent",
            &["render", "cube.obj", "--out", "views"],
        )
        .fails_with(&["Vulkan driver", "apt-get install mesa-vulkan-drivers"]);
    assert!(!place.path("views").exists(), "nothing was made");
}
