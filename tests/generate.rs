//! Views from anywhere: a pre-trained run draws meshes that it never saw, from poses that it never saw, beside the true views.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod util;

use std::fs;
use std::io::BufReader;
use std::path::Path;

use util::{TestDir, has_trainer};

const SIZE_PX: u32 = 64;
const GAP_PX: u32 = 2;

/// Width, height and frames of a PNG; 1 where it is not animated.
fn size_of(file: &Path) -> (u32, u32, u32) {
    let reader = png::Decoder::new(BufReader::new(fs::File::open(file).unwrap()));
    let reader = reader.read_info().unwrap();
    let info = reader.info();
    let frames = info.animation_control.map_or(1, |control| control.num_frames);
    (info.width, info.height, frames)
}

/// Pixels that so many images and the gaps about them take.
fn grid(images: u32) -> u32 {
    images * (SIZE_PX + GAP_PX) + GAP_PX
}

fn place() -> TestDir {
    let place = TestDir::new();
    place.synthesize(2, 6);
    let build = [
        "dataset",
        "build",
        "meshes",
        "--out",
        "data",
        "--config",
        "mini-data",
    ];
    place
        .run(&[&build[..], &["--split-fractions", "0.7,0.3"]].concat())
        .succeeds();
    place
}

fn pretrain(place: &TestDir, run: &str, settings: &[&str]) {
    let settings = settings.iter().flat_map(|setting| ["--set", setting]);
    let pretrain = [
        "train",
        "pretrain",
        "--data",
        "data",
        "--out",
        run,
        "--set",
        "pretrain.steps=2",
    ];
    let small = ["--set", "pretrain.batch_size=4", "--set", "log.num_images=0"];
    let arguments: Vec<&str> = pretrain.into_iter().chain(small).chain(settings).collect();
    place.run(&arguments).succeeds();
}

#[test]
fn a_run_draws_a_mesh_from_poses_that_no_data_set_has() {
    if !has_trainer() {
        return;
    }
    let place = place();
    pretrain(&place, "run", &[]);
    let cube = place.write(
        "crate.obj",
        "v -1 -1 -1\nv 1 -1 -1\nv 1 1 -1\nv -1 1 -1\nv -1 -1 1\nv 1 -1 1\nv 1 1 1\nv -1 1 1\n\
         f 4 3 2 1\nf 5 6 7 8\nf 1 2 6 5\nf 3 4 8 7\nf 2 3 7 6\nf 1 5 8 4\n",
    );
    place.write("split.csv", "id,category,split\ncrate/crate,crate,test\n");
    let mesh = cube.to_str().unwrap();
    let generate = [
        "train",
        "generate",
        "--run",
        "run",
        "--mesh",
        mesh,
        "--out",
        "sheet.png",
    ];
    let turn = [
        "--rig",
        "turntable:18:30,-10",
        "--animation",
        "turn.png",
        "--fps",
        "10",
    ];
    let drawn = place.run(&[&generate[..], &turn].concat()).succeeds();
    assert!(drawn.stdout.contains("crate"), "{drawn:#?}");
    // 36 views in three rows of twelve, each generated above true.
    assert_eq!(
        size_of(&place.path("sheet.png")),
        (grid(12), grid(6), 1),
        "the sheet"
    );
    assert_eq!(
        size_of(&place.path("turn.png")),
        (grid(1), grid(2), 36),
        "the animation"
    );
    let before = fs::read(place.path("sheet.png")).unwrap();
    place
        .run(&[&generate[..], &turn].concat())
        .fails_with(&["sheet.png", "--force"]);
    place
        .run(&[&generate[..], &turn, &["--force"]].concat())
        .succeeds();
    assert!(
        before == fs::read(place.path("sheet.png")).unwrap(),
        "the same again"
    );
    // By default from the poses of the data that the run was trained on.
    place.run(&[&generate[..], &["--force"]].concat()).succeeds();
    assert_eq!(
        size_of(&place.path("sheet.png")),
        (grid(12), grid(2), 1),
        "its own poses"
    );

    // Data sets of other rigs are drawn as well, as a column for each object.
    let build = [
        "dataset",
        "build",
        "meshes",
        "--out",
        "around",
        "--config",
        "mini-data",
    ];
    let around = ["--rig", "sphere:5", "--split-fractions", "0.5,0.5"];
    place.run(&[&build[..], &around].concat()).succeeds();
    let generate = [
        "train",
        "generate",
        "--run",
        "run",
        "--data",
        "around",
        "--out",
        "around.png",
    ];
    place
        .run(&[&generate[..], &["--animation", "around-turn.png"]].concat())
        .succeeds();
    assert_eq!(
        size_of(&place.path("around.png")),
        (grid(5), grid(4), 1),
        "two objects"
    );
    assert_eq!(
        size_of(&place.path("around-turn.png")),
        (grid(2), grid(2), 5),
        "side by side"
    );

    cannot_draw(&place, mesh);
}

/// What cannot be drawn is said in one line.
fn cannot_draw(place: &TestDir, mesh: &str) {
    let with = |more: &[&str]| {
        let generate = ["train", "generate", "--run", "run", "--out", "no.png"];
        place.run(&[&generate[..], more].concat())
    };
    with(&["--mesh", mesh, "--rig", "turntable:x"]).fails_with(&["turntable"]);
    with(&["--mesh", "none.obj"]).fails_with(&["--mesh", "none.obj"]);
    let text = place.write("text.obj", "no mesh at all\n");
    with(&["--mesh", text.to_str().unwrap()]).fails_with(&["tap dataset build"]);
    assert!(!place.path("no.png").exists(), "nothing is written");
}

#[test]
fn sums_of_methods_with_tap_in_them_draw_too() {
    if !has_trainer() {
        return;
    }
    let place = place();
    let point_mae = "encoder={kind='point_mae',num_groups=8,num_neighbors=8,group_widths=[16,32],channels=32,num_blocks=2,num_heads=2}";
    pretrain(&place, "sum", &["method=['point-mae','tap']", point_mae]);
    let generate = [
        "train", "generate", "--run", "sum", "--data", "data", "--out", "sum.png",
    ];
    place.run(&generate).succeeds();
    assert_eq!(
        size_of(&place.path("sum.png")),
        (grid(12), grid(4), 1),
        "one of each class"
    );
    pretrain(&place, "mae", &["method=point-mae", point_mae]);
    let generate = [
        "train", "generate", "--run", "mae", "--data", "data", "--out", "mae.png",
    ];
    place
        .run(&generate)
        .fails_with(&["'point-mae', which draws no views"]);
}
