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

/// The pixels of an image of gray bytes.
fn pixels_of(file: &Path) -> Vec<u8> {
    let reader = png::Decoder::new(BufReader::new(fs::File::open(file).unwrap()));
    let mut reader = reader.read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut pixels).unwrap();
    pixels
}

/// One row of images of a sheet that is so many images wide.
fn row_of(sheet: &[u8], images: u32, row: u32) -> &[u8] {
    let width = grid(images) as usize;
    let first = (row * (SIZE_PX + GAP_PX) + GAP_PX) as usize;
    &sheet[first * width..(first + SIZE_PX as usize) * width]
}

#[test]
fn rows_are_drawn_from_other_poses_with_and_without_their_meshes() {
    if !has_trainer() {
        return;
    }
    let place = place();
    pretrain(&place, "run", &[]);
    let draw = |data: &str, more: &[&str]| {
        let generate = ["train", "generate", "--run", "run", "--data", data];
        place.run(&[&generate[..], more].concat())
    };
    let rig = ["--rig", "turntable:5:-10"];
    let free = ["--out", "free.png", "--animation", "free-turn.png"];
    draw("data", &[&rig[..], &free].concat()).succeeds();
    assert_eq!(
        size_of(&place.path("free.png")),
        (grid(5), grid(2), 1),
        "generated alone"
    );
    assert_eq!(
        size_of(&place.path("free-turn.png")),
        (grid(2), grid(1), 5),
        "side by side"
    );
    let drawn = draw(
        "data",
        &[&rig[..], &["--meshes", "meshes", "--out", "true.png"]].concat(),
    )
    .succeeds();
    assert_eq!(
        size_of(&place.path("true.png")),
        (grid(5), grid(4), 1),
        "above true views"
    );
    // The poses are the same either way, and so are the points.
    let [free, beside_true] = ["free.png", "true.png"].map(|file| pixels_of(&place.path(file)));
    for object in 0..2 {
        assert!(
            row_of(&free, 5, object) == row_of(&beside_true, 5, 2 * object),
            "generated views of object {object}"
        );
        let truth = row_of(&beside_true, 5, 2 * object + 1);
        assert!(truth.iter().any(|pixel| *pixel < 200), "an object is seen");
    }
    // Rows without views of their own, by name.
    let bare = [
        "dataset",
        "build",
        "meshes",
        "--out",
        "bare",
        "--config",
        "mini-data",
        "--no-views",
    ];
    place
        .run(&[&bare[..], &["--split-fractions", "0.7,0.3"]].concat())
        .succeeds();
    let first = drawn.stdout.lines().next().unwrap().to_owned();
    let by_name = [&rig[..], &["--ids", &first, "--out", "bare.png"]].concat();
    draw("bare", &by_name).succeeds();
    let bare = pixels_of(&place.path("bare.png"));
    assert!(
        row_of(&bare, 5, 0) == row_of(&free, 5, 0),
        "the same points give the same views"
    );

    draw(
        "data",
        &["--ids", "none/such", "--rig", "sphere:3", "--out", "no.png"],
    )
    .fails_with(&["no object 'none/such'"]);
    let lit = draw("data", &["--lighting", "normals", "--out", "no.png"]);
    assert!(lit.code == Some(2) && lit.stderr.contains("--meshes"), "{lit:#?}");
    draw(
        "data",
        &["--rig", "sphere:3", "--meshes", "gone", "--out", "no.png"],
    )
    .fails_with(&["--meshes", "gone"]);
    // A mesh that is not the one of the row any more shows nothing true.
    let name = first.split('/').next_back().unwrap();
    for class in fs::read_dir(place.path("meshes")).unwrap() {
        let mesh = class.unwrap().path().join(name).join("model.obj");
        if let Ok(text) = fs::read_to_string(&mesh) {
            fs::write(&mesh, text + "\nv 0 0 0\n").unwrap();
        }
    }
    let other = [
        &rig[..],
        &["--meshes", "meshes", "--ids", &first, "--out", "no.png"],
    ]
    .concat();
    draw("data", &other).fails_with(&["another one than the row was made from"]);
    assert!(!place.path("no.png").exists(), "nothing is written");
}
