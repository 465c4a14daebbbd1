//! Wires, sheets and rods become rows with a finding; a fault of the poses does not, and both agree with `verify`.
#![cfg(feature = "build")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod boxes;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use boxes::{box_obj, options, recipe, run_with};
use tap_dataset::{
    BuildRecipe, BuildSummary, Dataset, SkipReason, Split, VerifyOptions, ViewSelection, verify,
};

/// Bars along the edges of a cube, each this thick.
fn wire_frame(thickness: f32) -> String {
    let mut obj = String::new();
    let mut num_vertices = 0;
    for axis in 0..3 {
        for corner in 0..4 {
            let center = |bit: i32| if corner & bit == 0 { -1.0 } else { 1.0 };
            let mut vertices = Vec::new();
            for vertex in 0..8 {
                let side = |bit: i32| if vertex & bit == 0 { -1.0 } else { 1.0 };
                let mut point = [0.0_f32; 3];
                point[axis] = side(1);
                point[(axis + 1) % 3] = center(1) + thickness / 2.0 * side(2);
                point[(axis + 2) % 3] = center(2) + thickness / 2.0 * side(4);
                vertices.push(format!("v {} {} {}\n", point[0], point[1], point[2]));
            }
            obj += &vertices.concat();
            for quad in ["1 3 4 2", "5 6 8 7", "1 2 6 5", "3 7 8 4", "1 5 7 3", "2 4 8 6"] {
                let corners = quad
                    .split(' ')
                    .map(|index| (index.parse::<i32>().unwrap() + num_vertices).to_string());
                writeln!(obj, "f {}", corners.collect::<Vec<_>>().join(" ")).unwrap();
            }
            num_vertices += 8;
        }
    }
    obj
}

fn build(source: &Path, out: &Path, recipe: &BuildRecipe) -> BuildSummary {
    run_with(source, recipe, &options(out, 2)).unwrap()
}

#[test]
fn thin_things_are_rows_with_a_finding_however_many_points_there_are() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source/things");
    fs::create_dir_all(&source).unwrap();
    let sheet = "v -1 -1 0\nv 1 -1 0\nv 1 1 0\nv -1 1 0\nf 1 2 3 4\n";
    let things = [
        ("box", box_obj(1.0, 0.5, 0.3)),
        ("frame", wire_frame(2.0 / 500.0)),
        ("rod", box_obj(1.0, 0.001, 0.001)),
        ("sheet", sheet.to_owned()),
    ];
    for (name, obj) in things {
        fs::write(source.join(format!("{name}.obj")), obj).unwrap();
    }
    for num_points in [16, 1024] {
        let out = dir.path().join(num_points.to_string());
        let recipe = BuildRecipe {
            num_points,
            ..recipe()
        };
        let summary = build(&dir.path().join("source"), &out, &recipe);
        assert_eq!(summary.num_rows(), 4, "{:?}", summary.manifest.skipped);
        let dataset = Dataset::open(&out).unwrap();
        for row in 0..4 {
            let sample = dataset.read(Split::Train, row, ViewSelection::All).unwrap();
            let warnings = sample.mesh.unwrap().issues.unwrap().warnings.join("; ");
            let is_thin = warnings.contains("thinner than a pixel at 48 px");
            assert_eq!(
                is_thin,
                sample.id.as_str() != "things/box",
                "{}: {warnings}",
                sample.id
            );
        }
        let report = verify(&out, VerifyOptions { is_deep: true }, &mut |_| {}).unwrap();
        assert!(report.is_ok(), "{:?}", report.problems);
    }
    fs::remove_file(source.join("frame.obj")).unwrap();
    fs::remove_file(source.join("rod.obj")).unwrap();
    let out = dir.path().join("covered");
    let recipe = BuildRecipe {
        min_coverage: 0.05,
        ..recipe()
    };
    let summary = build(&dir.path().join("source"), &out, &recipe);
    assert_eq!(
        (summary.num_rows(), summary.num_failed()),
        (1, 0),
        "the user's choice"
    );
    assert!(
        summary
            .manifest
            .skipped
            .iter()
            .all(|skipped| skipped.reason == SkipReason::LowCoverage),
        "{:?}",
        summary.manifest.skipped
    );
}
