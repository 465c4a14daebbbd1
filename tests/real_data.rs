//! Real meshes made by others, where `TAP_REAL_DATA` says they lie: all of them become rows, none is skipped.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod util;

use std::path::PathBuf;

use util::Place;

#[test]
fn every_real_mesh_becomes_a_row() {
    let Some(meshes) = std::env::var_os("TAP_REAL_DATA").map(|folder| PathBuf::from(folder).join("meshes"))
    else {
        util::skip("TAP_REAL_DATA does not say where real meshes lie");
        return;
    };
    let place = Place::new();
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
