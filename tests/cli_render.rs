//! `tap render` as a user meets it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod util;

use std::fs;
use std::path::Path;

use util::{CUBE, TestDir, nan_cube};

const AXES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/axes.obj");

#[test]
fn twelve_views_with_their_poses_and_a_sheet() {
    let place = TestDir::new();
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
fn warnings_are_shown_by_kind_and_counted() {
    let place = TestDir::new();
    for name in ["a", "b", "c", "d", "e"] {
        let material = format!("newmtl {name}\nmap_Kd {name}.png\n");
        place.write(&format!("meshes/{name}.mtl"), material);
        place.write(
            &format!("meshes/{name}.obj"),
            format!("mtllib {name}.mtl\nvt 0 0\nusemtl {name}\n{CUBE}"),
        );
    }
    place.write("meshes/old.fbx", "");
    let outcome = place
        .run(&[
            "render",
            "meshes",
            "--out",
            "views",
            "--size",
            "16",
            "--lighting",
            "textured",
        ])
        .succeeds();
    assert_eq!(
        outcome.stderr.matches(".obj: the texture").count(),
        3,
        "{outcome:#?}"
    );
    assert!(
        outcome.stderr.contains("and 2 more, in views.json"),
        "{outcome:#?}"
    );
    assert!(outcome.stderr.contains("1 .fbx"), "{outcome:#?}");
}

#[test]
fn a_folder_of_empty_pictures_is_a_failure() {
    let place = TestDir::new();
    place.write("rod.obj", "v -1 0 0\nv 1 0.3 0.2\nv 1 0.3001 0.2\nf 1 2 3\n");
    place
        .run(&["render", "rod.obj", "--out", "views", "--size", "16"])
        .fails_with(&["nothing is seen in any view", "--size"]);
    assert!(place.path("views/rod/view_001.png").is_file(), "there they are");
}

#[test]
fn the_time_is_told_stage_by_stage() {
    let place = TestDir::new();
    place.write("cube.obj", CUBE);
    let render = ["render", "cube.obj", "--size", "32", "--timings", "--json"];
    for (backend, has_clock) in [("cpu", false), ("wgpu", true)] {
        let outcome = place
            .run(&[&render[..], &["--out", backend, "--backend", backend]].concat())
            .succeeds();
        let lines = outcome.stdout.lines().map(serde_json::from_str);
        let lines: Vec<serde_json::Value> = lines.collect::<Result<_, _>>().unwrap();
        let timings = &lines.last().unwrap()["summary"]["timings"];
        assert_eq!(timings["num_views"], 12, "{timings}");
        let [elapsed, draw, write] = [
            &timings["elapsed_s"],
            &timings["stages"]["draw_s"],
            &timings["stages"]["write_s"],
        ]
        .map(|seconds| seconds.as_f64().unwrap());
        assert!(
            0.0 < draw && 0.0 < write && draw + write < elapsed,
            "one mesh goes through one stage after the other: {timings}"
        );
        let on_device = timings["stages"]["device_s"].as_f64();
        assert_eq!(on_device.is_some(), has_clock, "{timings}");
        assert!(on_device.is_none_or(|on_device| 0.0 < on_device && on_device < elapsed));
    }
}

#[test]
fn all_channels_lie_side_by_side() {
    let place = TestDir::new();
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
fn settings_go_before_flags_and_flags_before_the_recipe() {
    let place = TestDir::new();
    place.write("cube.obj", CUBE);
    place.write("recipe.toml", "channels = ['normal']\nsize_px = 24\n");
    let render = [
        "render",
        "cube.obj",
        "--rig",
        "poses:0/0",
        "--recipe",
        "recipe.toml",
    ];
    let drawn = |out: &str, more: &[&str]| -> Vec<String> {
        place
            .run(&[&render[..], &["--out", out], more].concat())
            .succeeds();
        let names = place.files(out).into_keys();
        names.filter(|name| name.ends_with("png")).collect()
    };
    assert_eq!(drawn("recipe", &[]), ["cube/view_001_normal.png"]);
    let flag = ["--channels", "mask"];
    assert_eq!(drawn("flag", &flag), ["cube/view_001_mask.png"]);
    let both = [&flag[..], &["--set", "channels=['depth']"]].concat();
    assert_eq!(drawn("both", &both), ["cube/view_001_depth.png"]);
}

#[test]
fn the_same_mesh_gives_the_same_bytes() {
    let place = TestDir::new();
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
    let place = TestDir::new();
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

/// By force only views give way: what else lies beside them is named, and stays; and nothing that is read does.
#[test]
fn by_force_only_what_a_render_wrote_is_replaced() {
    let place = TestDir::new();
    place.write("cube.obj", CUBE);
    let render = ["render", "cube.obj", "--out", "views", "--size", "16"];
    let forced = [&render[..], &["--force"]].concat();
    let all = ["--channels", ALL_CHANNELS, "--poses", "nerf,colmap", "--sheet"];
    let refused = |arguments: &[&str], words: &[&str]| {
        let before = place.files("");
        place.run(arguments).fails_with(words);
        assert!(place.files("") == before, "nothing was touched: {words:?}");
    };
    place.run(&[&render[..], &all].concat()).succeeds();
    for name in ["notes.txt", "view_013.png", "colmap/database.db", "cube.obj"] {
        let path = place.write(&format!("views/cube/{name}"), "mine");
        refused(&forced, &[name, "views/cube"]);
        refused(&[&render[..], &["--resume"]].concat(), &[name]);
        fs::remove_file(path).unwrap();
    }
    let rig = ["--rig", "views/cube/views.json"];
    refused(
        &[&forced[..], &rig].concat(),
        &["would remove an input", "views/cube/views.json"],
    );
    let light = |out: &'static str| {
        [
            "relight",
            "views",
            "--lighting",
            "three-point",
            "--out",
            out,
            "--force",
        ]
    };
    for out in ["views", "./views/../views"] {
        refused(&light(out), &["would remove an input"]);
    }
    place.run(&light("lit")).succeeds();
    place.write("lit/cube/notes.txt", "mine");
    refused(&light("lit"), &["notes.txt"]);
    place.write("app/cube/views.json", "{\"routes\": [1]}");
    refused(
        &["render", "cube.obj", "--out", "app", "--force"],
        &["left alone", "app/cube"],
    );
    place.write("views/.cube.partial/thesis.tex", "mine");
    refused(&forced, &["thesis.tex"]);
    fs::remove_file(place.path("views/.cube.partial/thesis.tex")).unwrap();
    place.write("views/.cube.partial/view_001.png", "cut");
    place.run(&forced).succeeds();
    assert!(
        !place.path("views/cube/sheet.png").exists(),
        "all of the old views is gone"
    );
    assert!(
        !place.path("views/.cube.partial").exists(),
        "and what a kill left"
    );
}

#[cfg(unix)]
#[test]
fn by_force_no_link_is_followed() {
    let place = TestDir::new();
    place.write("cube.obj", CUBE);
    let render = |out: &'static str| ["render", "cube.obj", "--out", out, "--size", "16", "--force"];
    place.run(&render("views")).succeeds();
    fs::create_dir(place.path("linked")).unwrap();
    std::os::unix::fs::symlink(place.path("views/cube"), place.path("linked/cube")).unwrap();
    let before = place.files("views");
    place.run(&render("linked")).fails_with(&["symbolic link"]);
    assert!(
        place.files("views") == before,
        "what the link leads to is as it was"
    );
}

#[test]
fn one_bad_mesh_does_not_stop_the_others() {
    let place = TestDir::new();
    place.write("cube.obj", CUBE);
    place.write("nan.obj", nan_cube());
    let outcome = place.run(&[
        "render", "nan.obj", "cube.obj", "--out", "views", "--size", "16", "--json",
    ]);
    let outcome = outcome.fails_with(&["1 of 2", "non-finite", "nan.obj"]);
    let lines = outcome.json_lines();
    assert_eq!(lines[0]["reason"], "non-finite");
    assert!(
        lines[0]["error"].is_string() && lines[1]["folder"].is_string(),
        "{outcome:?}"
    );
    assert_eq!(lines[2]["summary"]["reasons"]["non-finite"], 1, "a line for all");
    assert!(
        place.path("views/cube/views.json").is_file(),
        "the good one is drawn"
    );
    assert!(
        place.files("views").keys().all(|name| name.starts_with("cube/")),
        "nothing half-made"
    );
    place
        .run(&[
            "render",
            "nan.obj",
            "cube.obj",
            "--out",
            "allowed",
            "--size",
            "16",
            "--max-failed",
            "1",
        ])
        .succeeds();
}

/// Four meshes in folders, two of them of one name.
fn write_folder(place: &TestDir) {
    for name in ["a/model.obj", "b/model.obj", "b/c/lamp.obj"] {
        place.write(&format!("meshes/{name}"), CUBE);
    }
    place.write(
        "meshes/b/cone.off",
        "OFF 4 4 0\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n3 0 2 1\n3 0 1 3\n3 0 3 2\n3 1 2 3\n",
    );
    place.write("meshes/b/notes.txt", "no mesh");
}

fn folders(place: &TestDir, out: &str) -> Vec<String> {
    let files = place.files(out).into_keys();
    files
        .filter_map(|name| Some(name.strip_suffix("/views.json")?.to_owned()))
        .collect()
}

#[test]
fn folders_patterns_and_lists_keep_their_paths() {
    let place = TestDir::new();
    write_folder(&place);
    let names = ["a/model", "b/c/lamp", "b/cone", "b/model"];
    place
        .run(&["render", "meshes", "--out", "folder", "--size", "16"])
        .succeeds();
    assert_eq!(folders(&place, "folder"), names);
    place
        .run(&["render", "meshes/**/model.*", "--out", "pattern", "--size", "16"])
        .succeeds();
    assert_eq!(folders(&place, "pattern"), ["a/model", "b/model"]);
    place
        .run(&["render", "m*/a/model.*", "--out", "bare", "--size", "16"])
        .succeeds();
    assert_eq!(
        folders(&place, "bare"),
        ["meshes/a/model"],
        "below the folder worked in"
    );
    // As Windows writes it, with an empty line and a file that isn't there.
    let list = b"\xef\xbb\xbfmeshes/a/model.obj\r\n\r\nmeshes/b/c/lamp.obj\r\nmeshes/g\xffne.obj\r\n";
    let outcome = place.run_fed(list, &["render", "-", "--out", "list", "--size", "16"]);
    outcome.fails_with(&["1 of 3", "missing"]);
    assert_eq!(folders(&place, "list"), ["a/model", "b/c/lamp"]);
    place.write("list.txt", "meshes/a/model.obj\n");
    place
        .run(&[
            "render", "--list", "list.txt", "--root", "meshes", "--out", "rooted", "--size", "16",
        ])
        .succeeds();
    assert_eq!(folders(&place, "rooted"), ["a/model"]);
    place.write("meshes/views/cube/views.json", "{}");
    place.write("meshes/views/cube/view_001_depth.npy", "of no mesh");
    place
        .run(&["render", "meshes", "--out", "again", "--size", "16"])
        .succeeds();
    assert_eq!(folders(&place, "again"), names, "views are no meshes");
    place
        .run(&["render", "no*thing", "--out", "none"])
        .fails_with(&["no mesh matches", "no*thing"]);
}

/// Nobody knows how many meshes are in it, so the exit code tells of it as of a mesh.
#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_read_is_a_failure() {
    use std::os::unix::fs::PermissionsExt;

    let place = TestDir::new();
    write_folder(&place);
    place.write("meshes/locked/cube.obj", CUBE);
    let locked = place.path("meshes/locked");
    let allow = |mode| fs::set_permissions(&locked, fs::Permissions::from_mode(mode)).unwrap();
    allow(0o000);
    if fs::read_dir(&locked).is_ok() {
        util::skip("this user may read every folder");
        return;
    }
    let outcome = place.run(&["render", "meshes", "--out", "views", "--size", "16"]);
    allow(0o755);
    outcome.fails_with(&["1 of 5", "unreadable", "meshes/locked"]);
    assert_eq!(folders(&place, "views").len(), 4, "the others are drawn");
}

/// On Linux a name is any bytes; JSON tells of each all the same.
#[cfg(target_os = "linux")]
#[test]
fn names_that_are_no_text_are_told_of_too() {
    use std::os::unix::ffi::OsStrExt;

    let place = TestDir::new();
    let folder = place.path("meshes");
    fs::create_dir(&folder).unwrap();
    for (name, mesh) in [(&b"caf\xe9.obj"[..], CUBE), (b"g\xff.obj", "no mesh")] {
        fs::write(folder.join(std::ffi::OsStr::from_bytes(name)), mesh).unwrap();
    }
    let render = ["render", "meshes", "--out", "views", "--size", "16"];
    let outcome = place.run(&[&render[..], &["--json", "--max-failed", "1"]].concat());
    let lines = outcome.succeeds().json_lines();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert_eq!(lines[0]["folder"], "views/caf\u{fffd}");
    assert_eq!(lines[1]["mesh"], "meshes/g\u{fffd}.obj");
}

#[test]
fn the_number_of_workers_changes_no_byte() {
    let place = TestDir::new();
    write_folder(&place);
    for workers in ["1", "5"] {
        let render = [
            "render",
            "meshes",
            "--size",
            "24",
            "--sheet",
            "--workers",
            workers,
            "--out",
        ];
        let outcome = place.run(&[&render[..], &[workers]].concat()).succeeds();
        assert_eq!(
            outcome.stdout.replace(&format!("{workers}/"), ""),
            "a/model\nb/c/lamp\nb/cone\nb/model\n",
            "in order"
        );
    }
    assert_eq!(place.files("1"), place.files("5"));
}

#[test]
fn resume_draws_what_is_missing_or_would_differ() {
    let place = TestDir::new();
    write_folder(&place);
    let status = |more: &[&str]| -> Vec<String> {
        let render = [
            "render", "meshes", "--out", "views", "--size", "16", "--resume", "--json",
        ];
        let outcome = place.run(&[&render[..], more].concat()).succeeds();
        let lines = outcome.json_lines();
        lines
            .iter()
            .filter_map(|line| Some(line["status"].as_str()?.to_owned()))
            .collect()
    };
    let (drawn, kept) = ("rendered", "unchanged");
    assert_eq!(status(&[]), [drawn; 4]);
    let whole = place.files("views");
    assert_eq!(status(&[]), [kept; 4]);

    fs::remove_file(place.path("views/a/model/view_003.png")).unwrap();
    fs::remove_file(place.path("views/b/cone/views.json")).unwrap();
    fs::remove_dir_all(place.path("views/b/cone")).unwrap();
    assert_eq!(status(&[]), [drawn, kept, drawn, kept]);
    assert_eq!(place.files("views"), whole, "as if it had never stopped");

    // As a loss of power leaves what was written last.
    for (name, num_left) in [("a/model/view_002.png", 60), ("b/cone/view_001_mask.png", 0)] {
        let cut = &whole[name][..num_left];
        place.write(&format!("views/{name}"), cut);
    }
    assert_eq!(status(&[]), [drawn, kept, drawn, kept]);
    assert_eq!(place.files("views"), whole, "cut files are no views");

    place.write("meshes/b/model.obj", CUBE.replace("v 1 1 1", "v 1 1 2"));
    assert_eq!(status(&[]), [kept, kept, kept, drawn]);
    assert_eq!(status(&["--framing", "box"]), [drawn; 4]);
    assert_eq!(status(&["--framing", "box", "--sheet"]), [drawn; 4]);

    place.write("views/a/model/views.json", "{}");
    assert_eq!(
        status(&["--framing", "box", "--sheet"])[0],
        drawn,
        "it is no record"
    );
}

#[test]
fn poses_are_written_for_others_and_read_again() {
    let place = TestDir::new();
    place.write("cube.obj", CUBE);
    let formats = "opencv,opengl,pytorch3d,nerf,colmap,tap";
    let rig = "random:3:7:10..60";
    place
        .run(&[
            "render", "cube.obj", "--out", "views", "--size", "16", "--rig", rig, "--poses", formats,
        ])
        .succeeds();
    let files = place.files("views/cube");
    for name in [
        "poses_opencv.json",
        "poses_opengl.json",
        "poses_pytorch3d.json",
        "transforms.json",
        "colmap/cameras.txt",
        "colmap/images.txt",
        "colmap/points3D.txt",
        "poses_tap.json",
    ] {
        assert!(files.contains_key(name), "{name} is there: {:?}", files.keys());
    }
    let json = |name: &str| -> serde_json::Value { serde_json::from_slice(&files[name]).unwrap() };
    assert_eq!(json("poses_opencv.json")["views"][2]["file"], "view_003.png");
    assert_eq!(
        json("transforms.json")["frames"][0]["mask_path"],
        "view_001_mask.png"
    );
    let lines = String::from_utf8(files["colmap/images.txt"].clone()).unwrap();
    assert!(lines.contains(" 3 view_003.png\n\n"), "{lines}");

    place
        .run(&[
            "render",
            "cube.obj",
            "--out",
            "again",
            "--size",
            "16",
            "--rig",
            "views/cube/views.json",
        ])
        .succeeds();
    let again = place.files("again/cube");
    assert_eq!(
        again["view_002.png"], files["view_002.png"],
        "the same poses, bit for bit"
    );

    let outcome = place
        .run(&[
            "render",
            "cube.obj",
            "--out",
            "parallel",
            "--projection",
            "parallel",
            "--poses",
            "tap,colmap",
        ])
        .exits_with_2();
    assert!(outcome.stderr.contains("colmap"), "it is named: {outcome:?}");
    place
        .run(&["render", "cube.obj", "--out", "x", "--rig", "sphere:0"])
        .exits_with_2();
    place
        .run(&["render", "cube.obj", "--out", "x", "--rig", "missing.json"])
        .fails_with(&["missing.json"]);
}

#[test]
fn depth_is_floats_and_normals_are_the_objects_on_demand() {
    let place = TestDir::new();
    place.write("cube.obj", CUBE);
    place
        .run(&[
            "render",
            "cube.obj",
            "--out",
            "views",
            "--size",
            "16",
            "--rig",
            "poses:0/0,90/0",
            "--channels",
            "depth,normal",
            "--depth-format",
            "npy",
            "--normal-space",
            "object",
        ])
        .succeeds();
    let files = place.files("views/cube");
    let depth = &files["view_001_depth.npy"];
    let values: Vec<f32> = depth[depth.len() - 16 * 16 * 4..]
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
        .collect();
    assert!(values[0].is_infinite(), "a corner is empty");
    assert!(values[8 * 16 + 8].is_finite(), "the middle is not");
    // The faces that look to the front and to the right.
    for (name, normal) in [
        ("view_001_normal.png", [128, 128, 255]),
        ("view_002_normal.png", [255, 128, 128]),
    ] {
        let pixels = decode_png(&files[name]);
        let middle = 3 * (8 * 16 + 8);
        let found = &pixels[middle..middle + 3];
        let is_near = found
            .iter()
            .zip(normal)
            .all(|(found, normal)| found.abs_diff(normal) <= 1);
        assert!(is_near, "{name}: {found:?}");
    }
}

/// Two boxes side by side, of two materials and two groups.
fn write_boxes(place: &TestDir) {
    let second = CUBE
        .lines()
        .map(|line| match line.split_once(' ') {
            Some(("v", place)) => {
                let (x, rest) = place.split_once(' ').unwrap();
                format!("v {} {rest}\n", x.parse::<f64>().unwrap() + 1.5)
            }
            Some(("f", corners)) => {
                let corners = corners
                    .split(' ')
                    .map(|corner| corner.parse::<u32>().unwrap() + 8);
                format!(
                    "f {}\n",
                    corners
                        .map(|corner| corner.to_string())
                        .collect::<Vec<_>>()
                        .join(" ")
                )
            }
            _ => String::new(),
        })
        .collect::<String>();
    let first = CUBE.replacen("\nf ", "\ng left\nusemtl red\nf ", 1);
    let second = second.replacen("\nf ", "\ng right\nusemtl blue\nf ", 1);
    place.write("boxes.obj", format!("mtllib boxes.mtl\n{first}{second}"));
    place.write("boxes.mtl", "newmtl red\nKd 1 0 0\nnewmtl blue\nKd 0 0 1\n");
}

const ALL_CHANNELS: &str = "color,mask,depth,normal,albedo,part,material";

#[test]
fn all_channels_of_a_colored_mesh() {
    let place = TestDir::new();
    write_boxes(&place);
    place
        .run(&[
            "render",
            "boxes.obj",
            "--out",
            "views",
            "--size",
            "32",
            "--rig",
            "poses:0/0",
            "--lighting",
            "textured",
            "--channels",
            ALL_CHANNELS,
            "--sheet",
        ])
        .succeeds();
    let files = place.files("views/boxes");
    let views: serde_json::Value = serde_json::from_slice(&files["views.json"]).unwrap();
    assert_eq!(views["parts"], serde_json::json!(["left", "right"]));
    let materials: Vec<&str> = views["materials"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    // From the front x points to the right, and the boxes fill the height of the middle.
    let (left, right, corner) = (16 * 32 + 6, 16 * 32 + 26, 0);
    let labels = |name: &str| -> Vec<u16> {
        let pixels = decode_png(&files[name]);
        let values = pixels
            .chunks_exact(2)
            .map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
        values.collect()
    };
    let parts = labels("view_001_part.png");
    assert_eq!([parts[left], parts[right], parts[corner]], [1, 2, 0]);
    let material = labels("view_001_material.png");
    let name_at = |pixel: usize| materials[usize::from(material[pixel]) - 1];
    assert_eq!((name_at(left), name_at(right)), ("red", "blue"));
    let albedo = decode_png(&files["view_001_albedo.png"]);
    assert_eq!(albedo[3 * left..3 * left + 3], [255, 0, 0]);
    assert_eq!(albedo[3 * right..3 * right + 3], [0, 0, 255]);
    let color = decode_png(&files["view_001.png"]);
    assert!(
        color[3 * left] > color[3 * left + 1] && color[3 * right + 2] > color[3 * right],
        "red and blue, lit"
    );
    assert!(files.contains_key("sheet.png"), "in color too");
}

#[test]
fn relighting_is_drawing_under_another_light() {
    let place = TestDir::new();
    write_boxes(&place);
    place.write("cube.obj", CUBE);
    let render = |out: &str, lighting: &str| {
        place
            .run(&[
                "render",
                "boxes.obj",
                "cube.obj",
                "--out",
                out,
                "--size",
                "48",
                "--samples",
                "1",
                "--rig",
                "turntable:3",
                "--lighting",
                lighting,
                "--channels",
                ALL_CHANNELS,
                "--normal-format",
                "png16",
                "--poses",
                "opencv",
            ])
            .succeeds();
    };
    render("views", "textured");
    render("wanted", "three-point");
    let relit = ["relight", "views", "--lighting", "three-point", "--out", "relit"];
    let outcome = place.run(&relit).succeeds();
    assert_eq!(outcome.stdout, "relit/boxes\nrelit/cube\n");
    assert!(outcome.stderr.contains("2 relit"), "{outcome:?}");
    let (views, wanted, relit) = (place.files("views"), place.files("wanted"), place.files("relit"));
    assert_eq!(
        relit.keys().collect::<Vec<_>>(),
        views.keys().collect::<Vec<_>>(),
        "all files are there"
    );
    let mut num_far = 0;
    for name in ["boxes/view_001.png", "boxes/view_003.png", "cube/view_002.png"] {
        assert_ne!(relit[name], views[name], "another light");
        let (relit, wanted) = (decode_png(&relit[name]), decode_png(&wanted[name]));
        assert_eq!(relit.len(), wanted.len());
        num_far += relit
            .iter()
            .zip(&wanted)
            .filter(|(a, b)| a.abs_diff(**b) > 1)
            .count();
    }
    assert_eq!(
        num_far, 0,
        "within 1/255 of the direct picture, one sample a pixel"
    );
    let json: serde_json::Value = serde_json::from_slice(&relit["cube/views.json"]).unwrap();
    assert_eq!(json["is_relit"], true);
    assert_eq!(
        relit["cube/view_001_depth.png"], views["cube/view_001_depth.png"],
        "the rest is copied"
    );

    // White can be had of the mesh's own colors.
    render("white", "mvcnn");
    place
        .run(&["relight", "views", "--lighting", "mvcnn", "--out", "whitened"])
        .succeeds();
    let (white, whitened) = (place.files("white"), place.files("whitened"));
    let pairs = ["boxes/view_001.png", "cube/view_002.png"]
        .map(|name| (decode_png(&white[name]), decode_png(&whitened[name])));
    for (white, whitened) in pairs {
        assert_eq!(white.len(), whitened.len(), "both are gray");
        assert!(white.iter().zip(&whitened).all(|(a, b)| a.abs_diff(*b) <= 1));
    }

    place
        .run(&["render", "cube.obj", "--out", "poor", "--size", "16"])
        .succeeds();
    place
        .run(&["relight", "poor", "--lighting", "three-point", "--out", "none"])
        .fails_with(&["poor/cube", "depth", "--channels"]);
    place
        .run(&["relight", "views", "--lighting", "disco", "--out", "none"])
        .exits_with_2();
    place
        .run(&["relight", "views", "--lighting", "mvcnn", "--out", "relit"])
        .fails_with(&["--force", "relit/boxes"]);
}

/// A folder of views may come from anywhere; the names in its `views.json` lead nowhere else.
#[test]
fn relighting_stays_within_its_folders() {
    let place = TestDir::new();
    place.write("cube.obj", CUBE);
    place.write("secret.txt", "not a picture");
    let render = ["render", "cube.obj", "--size", "16", "--rig", "poses:0/0"];
    place
        .run(&[&render[..], &["--out", "views", "--channels", ALL_CHANNELS]].concat())
        .succeeds();
    let path = place.path("views/cube/views.json");
    let original: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let absolute = place.path("secret.txt").to_str().unwrap().to_owned();
    for name in ["../../secret.txt", &absolute, ".", ""] {
        for file in ["part_file", "material_file", "normal_file"] {
            let mut changed = original.clone();
            changed["views"][0][file] = name.into();
            fs::write(&path, changed.to_string()).unwrap();
            place
                .run(&["relight", "views", "--lighting", "mvcnn", "--out", "deep/lit"])
                .fails_with(&["views/cube", "not the name of a file"]);
            assert!(!place.path("deep/secret.txt").exists(), "{file} = {name}");
        }
    }
    let mut changed = original;
    changed["views"] = serde_json::json!([]);
    fs::write(&path, changed.to_string()).unwrap();
    place
        .run(&["relight", "views", "--lighting", "mvcnn", "--out", "lit"])
        .fails_with(&["views/cube", "no views"]);
}

#[test]
fn what_views_cannot_show_is_a_warning() {
    let place = TestDir::new();
    write_boxes(&place);
    let lit = |from: &str, lighting: &str, out: &str| -> Vec<String> {
        place
            .run(&["relight", from, "--lighting", lighting, "--out", out])
            .succeeds();
        let json = &place.files(out)["boxes/views.json"];
        let json: serde_json::Value = serde_json::from_slice(json).unwrap();
        let warnings = json["warnings"].as_array().into_iter().flatten();
        warnings
            .map(|warning| warning.as_str().unwrap().to_owned())
            .collect()
    };
    let render = ["render", "boxes.obj", "--size", "32", "--channels", ALL_CHANNELS];
    for (lighting, out) in [("mvcnn", "white"), ("textured", "colored")] {
        let more = ["--lighting", lighting, "--out", out];
        place.run(&[&render[..], &more].concat()).succeeds();
    }
    let warnings = lit("white", "three-point", "still");
    assert!(warnings[0].contains("--lighting textured"), "{warnings:?}");
    let color = decode_png(&place.files("still")["boxes/view_001.png"]);
    assert_eq!(color.len(), 32 * 32, "white is gray");

    let warnings = lit("colored", "mvcnn-2015", "smooth");
    assert!(warnings[0].contains("normals=smooth"), "{warnings:?}");
    // A setting changes a part of what a flag names.
    let more = [
        "--lighting",
        "textured",
        "--set",
        "lighting.normals=smooth",
        "--out",
        "round",
    ];
    place.run(&[&render[..], &more].concat()).succeeds();
    let warnings = lit("round", "mvcnn-2015", "rounded");
    assert!(warnings.is_empty(), "{warnings:?}");
    let warnings = lit("smooth", "three-point", "back");
    assert!(warnings.is_empty(), "{warnings:?}");
    let color = decode_png(&place.files("back")["boxes/view_001.png"]);
    assert_eq!(
        color.len(),
        3 * 32 * 32,
        "what was lit white has its colors still"
    );
}

/// Of the pixels that an object covers, how many are off by more than 8 and by more than 32.
#[derive(Debug, Default)]
#[allow(clippy::struct_field_names, reason = "counts are named so")]
struct Nearness {
    num_covered: usize,
    num_rough: usize,
    num_far: usize,
}

impl Nearness {
    /// Compares the color of all views; pixels that are not covered are equal.
    fn of(place: &TestDir, relit: &str, wanted: &str) -> Self {
        let mut nearness = Self::default();
        let (relit, wanted) = (place.files(relit), place.files(wanted));
        for (mask_name, mask) in wanted.iter().filter(|(name, _)| name.ends_with("_mask.png")) {
            let name = mask_name.replace("_mask", "");
            let [relit, wanted] = [&relit[&name], &wanted[&name]].map(|png| decode_png(png));
            let mask = decode_png(mask);
            let num_parts = wanted.len() / mask.len();
            assert_eq!(relit.len(), wanted.len(), "{name}: gray or both in color");
            for (i, is_covered) in mask.iter().map(|value| *value > 0).enumerate() {
                let parts = i * num_parts..(i + 1) * num_parts;
                let pairs = relit[parts.clone()].iter().zip(&wanted[parts]);
                let off = pairs.map(|(a, b)| a.abs_diff(*b)).max().unwrap();
                assert!(is_covered || off == 0, "{name}: the background of pixel {i}");
                nearness.num_covered += usize::from(is_covered);
                nearness.num_rough += usize::from(off > 8);
                nearness.num_far += usize::from(off > 32);
            }
        }
        nearness
    }
}

/// Draws meshes under one light and under another, and lights the former as the latter: with the help of their color, and
/// without.
fn relit_with_edges(
    place: &TestDir,
    meshes: &[&str],
    size: &str,
    taken: &str,
    lighting: &str,
) -> [Nearness; 2] {
    let render = |out: &str, lighting: &str, channels: &str| {
        let mut render = vec!["render", "--rig", "turntable:3:20", "--out", out, "--size", size];
        render.extend(["--lighting", lighting, "--channels", channels]);
        render.extend(meshes);
        place.run(&render).succeeds();
    };
    let at = |name: &str| format!("{taken}-{lighting}/{name}");
    render(&at("mixed"), taken, "color,mask,depth,normal,albedo");
    render(&at("unmixed"), taken, "mask,depth,normal,albedo");
    render(&at("wanted"), lighting, "color,mask");
    ["mixed", "unmixed"].map(|name| {
        let relit = at(&format!("{name}-relit"));
        place
            .run(&["relight", &at(name), "--lighting", lighting, "--out", &relit])
            .succeeds();
        Nearness::of(place, &relit, &at("wanted"))
    })
}

#[test]
fn relit_edges_are_mixed_as_they_were_drawn() {
    let place = TestDir::new();
    write_boxes(&place);
    let meshes = ["boxes.obj", AXES];
    for (taken, lighting) in [("textured", "three-point"), ("mvcnn", "hemisphere")] {
        let [mixed, unmixed] = relit_with_edges(&place, &meshes, "96", taken, lighting);
        assert!(mixed.num_covered > 5_000, "{mixed:?}");
        assert!(
            50 * mixed.num_rough <= mixed.num_covered && 200 * mixed.num_far <= mixed.num_covered,
            "{taken} as {lighting}: {mixed:?}"
        );
        assert!(
            4 * mixed.num_rough < unmixed.num_rough,
            "{taken} as {lighting}: {mixed:?} and without color {unmixed:?}"
        );
    }
}

#[test]
fn real_meshes_are_relit_edges_and_all() {
    let Some(data) = std::env::var_os("TAP_REAL_DATA") else {
        return;
    };
    let place = TestDir::new();
    let path = |name: &str| {
        let path = Path::new(&data).join("meshes").join(name);
        path.into_os_string().into_string().unwrap()
    };
    let meshes = [
        path("vehicle/kk_city_car_taxi.obj"),
        path("vehicle/q_ships_pack_Sail_ship.glb"),
        path("lamp/q_street_pack_Streetlight_Double.glb"),
    ];
    let meshes: Vec<&str> = meshes.iter().map(String::as_str).collect();
    for (taken, lighting) in [("textured", "three-point"), ("mvcnn", "hemisphere")] {
        let [mixed, unmixed] = relit_with_edges(&place, &meshes, "224", taken, lighting);
        assert!(
            30 * mixed.num_rough <= mixed.num_covered && 3 * mixed.num_rough < unmixed.num_rough,
            "{taken} as {lighting}: {mixed:?} and without color {unmixed:?}"
        );
    }
}

#[test]
fn points_are_found_in_the_views() {
    let place = TestDir::new();
    place.write("cube.obj", CUBE);
    // The middles of the front face and of the back face, in the mesh's coordinates.
    place.write("points.xyz", "0.5 0.5 1\n0.5 0.5 0\n");
    let render = [
        "render",
        "cube.obj",
        "--size",
        "32",
        "--rig",
        "poses:0/0",
        "--points",
        "points.xyz",
    ];
    place
        .run(&[&render[..], &["--out", "views", "--channels", "depth"]].concat())
        .succeeds();
    let files = place.files("views/cube");
    let array = &files["point_views.npy"];
    let header = String::from_utf8_lossy(&array[10..]);
    assert!(header.contains("(1, 2, 3,)"), "views, points, 3: {header}");
    let values: Vec<f32> = array[array.len() - 2 * 3 * 4..]
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
        .collect();
    let [front, back] = [&values[..3], &values[3..]];
    assert!(
        (front[0] - 16.0).abs() < 0.1 && (front[1] - 16.0).abs() < 0.1,
        "{front:?}"
    );
    assert_eq!((front[2], back[2]), (1.0, 0.0), "the back is hidden");
    place
        .run(&[&render[..], &["--out", "none"]].concat())
        .exits_with_2();
    // The rows are those of the file, or there are none.
    place.write("points.xyz", "0.5 0.5 1\nnan 0.5 0\n0.5 0.5 0\n");
    let render = [&render[..], &["--out", "none", "--channels", "depth"]].concat();
    place
        .run(&render)
        .fails_with(&["points.xyz", "1 points are not finite"]);
    fs::remove_file(place.path("points.xyz")).unwrap();
    place.run(&render).fails_with(&["points.xyz", "No such file"]);
}

fn decode_png(png: &[u8]) -> Vec<u8> {
    let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut bytes).unwrap();
    bytes
}

/// Ctrl-C while meshes are on their way.
#[cfg(unix)]
#[test]
fn an_interrupt_leaves_nothing_half_made() {
    let place = TestDir::new();
    for mesh_idx in 0..300 {
        place.write(&format!("meshes/{mesh_idx:03}.obj"), CUBE);
    }
    let render = [
        "render",
        "meshes",
        "--out",
        "views",
        "--size",
        "48",
        "--workers",
        "2",
    ];
    let mut child = place
        .command(&render)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    while folders(&place, "views").is_empty() {
        assert!(child.try_wait().unwrap().is_none(), "it is not over yet");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let pid = child.id().to_string();
    let killed = std::process::Command::new("kill").args(["-INT", &pid]).status();
    assert!(killed.unwrap().success(), "the signal is sent");
    let code = child.wait().unwrap().code();
    assert_eq!(code, Some(130));
    let whole = folders(&place, "views");
    assert!(!whole.is_empty() && whole.len() < 300, "{} of 300", whole.len());
    for name in fs::read_dir(place.path("views")).unwrap() {
        let name = name.unwrap().file_name().into_string().unwrap();
        assert!(whole.contains(&name), "{name} is half-made");
    }
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    let place = TestDir::new();
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
    for flag in [["--size", "0"], ["--samples", "3"], ["--set", "size_px=100000"]] {
        let arguments = ["render", "cube.obj", "--out", "views", flag[0], flag[1]];
        place.run(&arguments).exits_with_2();
    }
    let large = [
        "--rig",
        "sphere:999",
        "--size",
        "2048",
        "--channels",
        ALL_CHANNELS,
    ];
    let outcome = place.run(&[&["render", "cube.obj", "--out", "views"][..], &large].concat());
    assert!(outcome.exits_with_2().stderr.contains("999 views"), "in words");
}

#[test]
fn faults_are_one_line_that_helps() {
    let place = TestDir::new();
    place.write("cube.obj", CUBE);
    place.write("notes.md", "no mesh");
    let render = |mesh| place.run(&["render", mesh, "--out", "views", "--size", "16"]);
    render("missing.obj").fails_with(&["missing.obj", "No such file"]);
    render("notes.md").fails_with(&["notes.md", "OBJ"]);
    place
        .run(&["render", "cube.obj", "--out", "notes.md/views", "--size", "16"])
        .fails_with(&["notes.md/views"]);
    for (lighting, words) in [
        ("difuse = 1", &["dim.toml", "difuse"]),
        ("ambient = 7", &["dim.toml", "0 to 1"]),
    ] {
        place.write("dim.toml", lighting);
        place
            .run(&["render", "cube.obj", "--out", "views", "--lighting", "dim.toml"])
            .fails_with(words);
    }
    // A machine without a Vulkan driver, though one is asked for.
    place
        .run_with(
            "VK_DRIVER_FILES",
            "/nonexistent",
            &["render", "cube.obj", "--out", "views", "--backend", "wgpu"],
        )
        .fails_with(&["Vulkan driver", "apt-get install mesa-vulkan-drivers"]);
    assert!(!place.path("views").exists(), "nothing was made");
}
