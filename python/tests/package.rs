//! The Python package, used from Python: views, builds and samples are those of the Rust crates, and its wheel installs.
//!
//! `scripts/test` lays NumPy and Pillow, which `TAP_READERS` names, and maturin, which `TAP_WHEEL` names.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(unix)]

use std::env;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::AtomicBool;

use serde_json::{Map, Value, json};
use tap_dataset::view_folder::{
    self, DepthFormat, Existing, NormalFormat, NormalSpace, Request, ViewOptions, ViewRecipe,
};
use tap_dataset::{
    BuildOptions, BuildRecipe, Dataset, Sample, Source, SourceOptions, Split, SynthesizeOptions,
    ViewSelection, build, decode_gray_png, sha256, synthesize,
};
use tap_render::{BackendChoice, Channels, RenderRecipe, RendererOptions, UpAxis};
use tempfile::TempDir;

const SIZE_PX: u32 = 48;
const NUM_POINTS: usize = 64;
/// Categories, and objects of each.
const NUM_OBJECTS: [usize; 2] = [3, 8];

/// The folder of packages that a variable names. Where `scripts/test` runs, its absence is a failure.
fn packages(variable: &str) -> Option<PathBuf> {
    let folder = env::var_os(variable).map(PathBuf::from);
    if folder.is_none() {
        let is_required = env::var_os("TAP_REQUIRE_READERS").is_some();
        assert!(
            !is_required,
            "{variable} does not name the folder of Python packages"
        );
        let _ = writeln!(
            std::io::stderr(),
            "skipped: {variable} names no folder of Python packages"
        );
    }
    folder
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The extension, which cargo builds beside this program.
fn extension() -> PathBuf {
    let name = format!("{}tap_views{}", env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX);
    env::current_exe().unwrap().with_file_name(name)
}

#[track_caller]
fn succeeds(command: &mut Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr)
    );
    assert!(status.success(), "{command:?}\n{said}");
    said
}

/// Meshes, their views, a data set, and what the Rust reader finds in it.
fn lay_expected(place: &Path) {
    let [classes, per_class] = NUM_OBJECTS;
    let meshes = place.join("meshes");
    let options = SynthesizeOptions {
        classes,
        per_class,
        ..SynthesizeOptions::new(&meshes)
    };
    synthesize(&options, &mut |_| {}).unwrap();

    let renderer = RendererOptions {
        backend: BackendChoice::Cpu,
        ..RendererOptions::default()
    };
    let recipe = ViewRecipe {
        render: RenderRecipe {
            size_px: SIZE_PX,
            channels: Channels::ALL,
            lighting: "three-point".parse().unwrap(),
            ..RenderRecipe::default()
        },
        up: UpAxis::Y,
        output: view_folder::Output {
            depth_format: DepthFormat::Npy,
            normal_space: NormalSpace::View,
            normal_format: NormalFormat::Png16,
            sheet: false,
            poses: Vec::new(),
        },
        points: None,
    };
    let request = Request {
        meshes: std::slice::from_ref(&meshes),
        list: None,
        root: None,
    };
    let inputs = view_folder::find_meshes(&request, &mut std::io::empty(), &mut |_| {}).unwrap();
    let options = ViewOptions {
        out: place.join("views"),
        existing: Existing::Refuse,
        recipe_files: Vec::new(),
        workers: 0,
        renderer: renderer.clone(),
    };
    view_folder::render(
        &inputs[..3],
        &recipe,
        &options,
        &AtomicBool::new(false),
        &mut |_| {},
    )
    .unwrap();

    let source_options = SourceOptions {
        split_ratios: Some("0.75,0.25".parse().unwrap()),
        ..SourceOptions::default()
    };
    let source = Source::open(&meshes, &source_options).unwrap();
    let recipe = BuildRecipe {
        render: RenderRecipe {
            size_px: SIZE_PX,
            ..RenderRecipe::default()
        },
        num_points: NUM_POINTS,
        gbuffer: true,
        rows_per_shard: 5,
        ..BuildRecipe::default()
    };
    let shards = place.join("shards");
    let options = BuildOptions {
        renderer,
        ..BuildOptions::new(shards.clone())
    };
    build(&source, &recipe, &options, &AtomicBool::new(false), &mut |_| {}).unwrap();
    fs::write(place.join("expected.json"), expected(&shards).to_string()).unwrap();
}

/// Of each row of the training split: the hashes of its arrays.
fn expected(shards: &Path) -> Value {
    let dataset = Dataset::open(shards).unwrap();
    let split = Split::Train;
    let row = |row| {
        let sample = dataset.read(split, row, ViewSelection::WithGbuffer).unwrap();
        (sample.id.to_string(), hashes(&sample))
    };
    let rows: Map<String, Value> = (0..dataset.len(split)).map(row).collect();
    json!({ "classes": dataset.classes(), "ids": dataset.ids(split).unwrap(), "rows": rows })
}

fn hashes(sample: &Sample) -> Value {
    let floats = |numbers: &mut dyn Iterator<Item = f32>| {
        sha256::of_bytes(numbers.flat_map(f32::to_le_bytes).collect::<Vec<u8>>())
    };
    let views = &sample.views;
    let images = views
        .iter()
        .flat_map(|view| decode_gray_png(&view.image_png).unwrap().pixels);
    let masks = views.iter().flat_map(|view| view.mask.to_pixels());
    let gbuffers = views
        .iter()
        .map(|view| view.gbuffer.as_ref().unwrap().decode(SIZE_PX).unwrap());
    json!({
        "label": sample.label,
        "points": floats(&mut sample.points.iter().flatten().copied()),
        "normals": floats(&mut sample.normals.iter().flatten().flatten().copied()),
        "images": sha256::of_bytes(images.collect::<Vec<u8>>()),
        "masks": sha256::of_bytes(masks.collect::<Vec<u8>>()),
        "view_from_object": floats(&mut views.iter().flat_map(|view| view.view_from_object)),
        "clip_from_view": floats(&mut views.iter().flat_map(|view| view.clip_from_view)),
        "object_from_mesh": floats(&mut sample.object_from_mesh.into_iter()),
        "gbuffer_normals": floats(&mut gbuffers.flat_map(|gbuffer| gbuffer.normals.into_flattened())),
        "num_triangles": sample.mesh.as_ref().unwrap().num_triangles,
        "source_sha256": sample.source_sha256,
    })
}

/// A package as a wheel lays it: the Python files, and the extension under its name. Returns the folder to import it from.
fn lay_package(place: &Path) -> PathBuf {
    let site = place.join("site");
    let package = site.join("tap_views");
    fs::create_dir_all(&package).unwrap();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tap_views")).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), package.join(entry.file_name())).unwrap();
        }
    }
    fs::copy(extension(), package.join("_native.abi3.so")).unwrap();
    site
}

/// Runs a script of this folder in a place with what is expected, with packages from these folders.
fn run_script(python: &Path, name: &str, packages: &[&Path]) {
    let place = TempDir::new().unwrap();
    lay_expected(place.path());
    run_in(place.path(), &mut Command::new(python), name, packages);
}

/// Gives a script of this folder to a Python, which has the package and these folders of packages. Returns what it says.
fn run_in(place: &Path, python: &mut Command, name: &str, packages: &[&Path]) -> String {
    let site = lay_package(place);
    let path = env::join_paths([&*site].iter().chain(packages)).unwrap();
    succeeds(
        python
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name))
            .env("PYTHONPATH", path)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("TAP_ROOT", root())
            .current_dir(place),
    )
}

#[test]
fn python_gets_what_the_crates_make() {
    if let Some(readers) = packages("TAP_READERS") {
        run_script(&readers.join("python"), "package.py", &[&readers]);
    }
}

#[test]
fn loaders_of_pytorch_share_the_rows() {
    if let Some(python) = env::var_os("TAP_TORCH") {
        run_script(Path::new(&python), "torch_loader.py", &[]);
    } else {
        let is_required = env::var_os("TAP_REQUIRE_TORCH").is_some();
        assert!(!is_required, "TAP_TORCH names no Python with torch");
        let _ = writeln!(std::io::stderr(), "skipped: TAP_TORCH names no Python with torch");
    }
}

/// Only where `TAP_RAY` names a Python with Ray and NumPy (`pip install ray numpy`): it takes a minute and a gigabyte.
#[test]
fn a_ray_cluster_whose_processes_are_killed_makes_the_bytes_of_one_machine() {
    let Some(python) = env::var_os("TAP_RAY") else {
        let _ = writeln!(std::io::stderr(), "skipped: TAP_RAY names no Python with Ray");
        return;
    };
    let place = TempDir::new().unwrap();
    let [classes, per_class] = NUM_OBJECTS;
    let options = SynthesizeOptions {
        classes,
        per_class,
        ..SynthesizeOptions::new(place.path().join("meshes"))
    };
    synthesize(&options, &mut |_| {}).unwrap();
    // Ray lets in whoever reaches it.
    let mut alone = Command::new("unshare");
    alone
        .args(["--net", "--map-root-user", "sh", "-c"])
        .args([r#"ip link set lo up && exec "$0" "$@""#, python.to_str().unwrap()]);
    let said = run_in(place.path(), &mut alone, "ray_cluster.py", &[]);
    assert!(said.contains("have the bytes of one machine"), "{said}");
}

/// maturin asks cargo for this crate alone, with other features of its dependencies than the workspace's, which would all be
/// compiled again. So here `cargo rustc` gives it what the tests have been built with.
const CARGO_OF_THE_TESTS: &str = r#"#!/bin/sh
case $1 in
    # Crates that other platforms need may not be here.
    metadata) exec "$TAP_CARGO" "$@" --filter-platform "$("$TAP_CARGO" -vV | sed -n 's/^host: //p')" ;;
    rustc) ;;
    *) exec "$TAP_CARGO" "$@" ;;
esac
# What maturin tells pyo3's build scripts follows from the features too, and would have them run again.
unset PYO3_CONFIG_FILE PYO3_ENVIRONMENT_SIGNATURE PYO3_PYTHON
exec "$TAP_CARGO" test --no-run --workspace --test package --features object-store --locked \
    --message-format json-render-diagnostics
"#;

#[test]
fn the_wheel_installs_into_a_fresh_environment() {
    let (Some(readers), Some(tools)) = (packages("TAP_READERS"), packages("TAP_WHEEL")) else {
        return;
    };
    let place = TempDir::new().unwrap();
    let cargo = place.path().join("cargo");
    fs::write(&cargo, CARGO_OF_THE_TESTS).unwrap();
    fs::set_permissions(&cargo, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let python = readers.join("python");
    // maturin asks for metadata by name and builds by the variable.
    let of_user = env::var_os("PATH").unwrap_or_default();
    let path = [place.path().to_owned()]
        .into_iter()
        .chain(env::split_paths(&of_user));
    let path = env::join_paths(path).unwrap();
    succeeds(
        Command::new(tools.join("bin/maturin"))
            .args(["build", "--profile", "dev", "--offline", "--out"])
            .arg(place.path().join("wheels"))
            .arg("--manifest-path")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
            .arg("--interpreter")
            .arg(&python)
            .env("CARGO", &cargo)
            .env("PATH", path)
            .env("TAP_CARGO", env!("CARGO"))
            .current_dir(root()),
    );
    let wheel = fs::read_dir(place.path().join("wheels"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let name = wheel.file_name().unwrap().to_string_lossy().into_owned();
    assert!(
        name.starts_with("tap_views-") && name.contains("-cp39-abi3-"),
        "{name}"
    );

    let venv = place.path().join("venv");
    succeeds(
        Command::new(&python)
            .args(["-m", "venv", "--without-pip"])
            .arg(&venv),
    );
    succeeds(
        Command::new(&python)
            .args(["-m", "pip", "--disable-pip-version-check", "--python"])
            .arg(venv.join("bin/python"))
            // What it depends on is laid already.
            .args(["install", "--quiet", "--no-index", "--no-deps"])
            .arg(&wheel),
    );
    fs::write(place.path().join("cube.obj"), CUBE).unwrap();
    let script = "\
import pathlib, tap_views
views = tap_views.render('cube.obj', size=32, backend='cpu')
assert views.color.shape == (12, 32, 32) and views.mask.any(), views
folder = pathlib.Path(tap_views.__file__).parent
assert 'venv' in folder.parts and (folder / 'py.typed').exists() and (folder / '_native.pyi').exists(), folder
print(tap_views.__version__)";
    let said = succeeds(
        Command::new(venv.join("bin/python"))
            .args(["-c", script])
            .env("PYTHONPATH", &readers)
            .current_dir(place.path()),
    );
    assert_eq!(said.trim(), env!("CARGO_PKG_VERSION"));
}

const CUBE: &str = "\
v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nv 0 0 1\nv 1 0 1\nv 1 1 1\nv 0 1 1\n\
f 4 3 2 1\nf 5 6 7 8\nf 1 2 6 5\nf 2 3 7 6\nf 3 4 8 7\nf 4 1 5 8\n";
