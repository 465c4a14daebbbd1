//! Real files made by others, where `TAP_REAL_DATA` says they lie: all meshes become rows and pictures, none is skipped;
//! troublesome files end with pictures or with a reason.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod util;

use std::path::PathBuf;

use util::TestDir;

/// All meshes and all troublesome files in one call: nothing crashes, nothing hangs, no mesh fails.
#[test]
fn everything_is_drawn_or_has_a_reason() {
    let Some(folder) = std::env::var_os("TAP_REAL_DATA").map(PathBuf::from) else {
        util::skip("TAP_REAL_DATA does not say where real meshes lie");
        return;
    };
    let place = TestDir::new();
    let source = folder.to_str().unwrap();
    let render = [
        "render",
        source,
        "--out",
        "views",
        "--json",
        "--max-failed",
        "1000",
        "--size",
        "32",
    ];
    let look = ["--rig", "turntable:3", "--lighting", "textured", "--channels"];
    let outcome = place.run(
        &[
            &render[..],
            &look[..],
            &["color,mask,depth,normal,albedo,part,material"],
        ]
        .concat(),
    );
    let lines = outcome.succeeds().json_lines();
    let (last, lines) = lines.split_last().unwrap();
    assert!(
        last["summary"]["num_rendered"].as_u64().unwrap() > 659,
        "{last:#}"
    );
    for line in lines {
        let mesh = line["mesh"].as_str().unwrap();
        let is_of_quirks = PathBuf::from(mesh).starts_with(folder.join("quirks"));
        assert!(is_of_quirks || line["status"] == "rendered", "{line:#}");
        assert_ne!(line["reason"], "crashed", "{line:#}");
    }
}

#[test]
fn every_real_mesh_becomes_a_row() {
    let Some(meshes) = std::env::var_os("TAP_REAL_DATA").map(|folder| PathBuf::from(folder).join("meshes"))
    else {
        util::skip("TAP_REAL_DATA does not say where real meshes lie");
        return;
    };
    let place = TestDir::new();
    let (source, splits) = (meshes.to_str().unwrap(), meshes.join("split.csv"));
    let build = [
        "dataset",
        "build",
        source,
        "--layout",
        "folders",
        "--splits",
        splits.to_str().unwrap(),
    ];
    place
        .run(&[&build[..], &["--size", "64", "--out", "real"]].concat())
        .succeeds();

    let inspection = place
        .run(&["dataset", "inspect", "real", "--json"])
        .succeeds()
        .json();
    assert_eq!(inspection["num_rows"], 659, "{inspection:#}");
    assert_eq!(
        inspection["classes"].as_array().unwrap().len(),
        16,
        "{inspection:#}"
    );
    assert!(
        inspection["skipped"].as_object().unwrap().is_empty(),
        "{inspection:#}"
    );
    place.run(&["dataset", "verify", "real"]).succeeds();
}
