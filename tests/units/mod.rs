//! One build by several processes, as on several machines: the bytes are those of one, whoever builds what and whatever is
//! killed. The scripts for clusters run here with the variables that a cluster sets.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::util::{CUBE, Outcome, TestDir, kill_after, nan_cube};

const SMALL: [&str; 8] = [
    "--size",
    "32",
    "--num-points",
    "64",
    "--set",
    "rows_per_shard=4",
    "--backend",
    "cpu",
];

/// A source of 24 objects in seven shards, one of which cannot be read, and `one`, built on one machine.
fn source_and_one() -> TestDir {
    let place = TestDir::new();
    place.synthesize(3, 8);
    let mesh = place
        .files("meshes")
        .into_keys()
        .find(|name| name.ends_with("model.obj"))
        .unwrap();
    place.write(&format!("meshes/{mesh}"), nan_cube());
    build(&place, "one").succeeds();
    place
}

fn on_source(place: &TestDir, command: &str, out: &str) -> Outcome {
    let arguments = ["dataset", command, "meshes", "--out", out];
    place.run(&[&arguments[..], &SMALL].concat())
}

fn build(place: &TestDir, out: &str) -> Outcome {
    let arguments = ["dataset", "build", "meshes", "--out", out, "--max-skipped", "1"];
    place.run(&[&arguments[..], &SMALL].concat())
}

fn begin(place: &TestDir, out: &str) -> Outcome {
    on_source(place, "begin", out)
}

fn finish(place: &TestDir, dir: &str) -> Outcome {
    place.run(&["dataset", "finish", dir, "--max-skipped", "1"])
}

fn status(place: &TestDir, dir: &str) -> serde_json::Value {
    place.run(&["dataset", "status", dir, "--json"]).succeeds().json()
}

fn start(mut command: Command) -> Child {
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[track_caller]
fn all_succeed(children: Vec<Child>) {
    for child in children {
        Outcome::from(child.wait_with_output().unwrap()).succeeds();
    }
}

/// The file of a shard, by its number in the plan.
fn shard(place: &TestDir, out: &str, number: usize) -> PathBuf {
    let manifest: serde_json::Value = serde_json::from_slice(&place.files("one")["_manifest.json"]).unwrap();
    let name = manifest["shards"][number]["file"].as_str().unwrap();
    place.path(out).join(name)
}

/// Names that a reader of the folder must not meet at the end.
fn left_over(files: &BTreeMap<String, Vec<u8>>) -> Vec<&String> {
    let names = files.keys();
    names
        .filter(|name| {
            name.ends_with(".partial") || name.ends_with(".parquet.json") || name.contains("_plan")
        })
        .collect()
}

#[test]
fn units_in_any_order_make_the_bytes_of_one_machine() {
    let place = source_and_one();
    let began = begin(&place, "data").succeeds();
    assert!(began.stdout.contains("missing    0-6"), "{began:#?}");
    assert_eq!(place.files("data").len(), 2, "a manifest and a list of objects");
    let unfinished = status(&place, "data");
    assert_eq!(unfinished["missing"], "0-6", "{unfinished:#}");
    assert_eq!(
        (&unfinished["num_objects"], &unfinished["is_begun"]),
        (&json!(24), &json!(true))
    );
    finish(&place, "data").fails_with(&["7 of 7 shards are missing", "--shards 0-6", "data"]);

    // Another machine has the meshes elsewhere, and lists in another order.
    fs::rename(place.path("meshes"), place.path("elsewhere")).unwrap();
    place
        .run(&["dataset", "unit", "data", "--shards", "0"])
        .fails_with(&["not the one that was begun", "--source", "meshes"]);
    let mut units = ["5-6", "2,0", "3", "1,3"];
    units.rotate_left(RandomState::new().hash_one(0) as usize % 4);
    let units = units.map(|shards| {
        let arguments = [
            "dataset",
            "unit",
            "data",
            "--source",
            "elsewhere",
            "--shards",
            shards,
        ];
        start(place.command(&arguments))
    });
    all_succeed(units.into());
    fs::rename(place.path("elsewhere"), place.path("meshes")).unwrap();

    let almost = status(&place, "data");
    assert_eq!(
        (&almost["missing"], &almost["num_finished"]),
        (&json!("4"), &json!(6)),
        "{almost:#}"
    );
    let text = place.run(&["dataset", "status", "data"]).succeeds();
    assert!(
        text.stdout.contains("missing    4") && text.stderr.contains("unit data --shards 4"),
        "{text:#?}"
    );
    let before = place.files("data");
    finish(&place, "data").fails_with(&["1 of 7 shards are missing", "--shards 4"]);
    begin(&place, "data").succeeds();
    assert!(place.files("data") == before, "neither changes anything");

    let built = place
        .run(&["dataset", "unit", "data", "--shards", "3-4", "--json"])
        .succeeds()
        .json();
    assert_eq!(built["num_shards"], 2, "with what was there: {built:#}");
    place
        .run(&["dataset", "finish", "data"])
        .fails_with(&["1 of 24", "--max-skipped allows 0"]);
    finish(&place, "data").succeeds();
    assert!(
        place.files("data") == place.files("one"),
        "other bytes: {:?}",
        left_over(&place.files("data"))
    );
    place.run(&["dataset", "verify", "data", "--deep"]).succeeds();

    // What comes too late changes nothing.
    let late = place
        .run(&["dataset", "unit", "data", "--unit", "1/2"])
        .succeeds();
    assert!(late.stdout.contains("in 4 shards"), "{late:#?}");
    begin(&place, "data").succeeds();
    assert_eq!(status(&place, "data")["is_complete"], true);
    assert!(place.files("data") == place.files("one"), "late units");
}

#[test]
fn a_build_takes_over_from_units() {
    let place = source_and_one();
    begin(&place, "data").succeeds();
    place
        .run(&["dataset", "unit", "data", "--unit", "2/3"])
        .succeeds();
    let of_unit = shard(&place, "data", 1);
    let kept = fs::metadata(&of_unit).unwrap();
    let outcome = build(&place, "data").succeeds();
    assert!(outcome.stderr.contains("resuming after"), "{outcome:#?}");
    assert!(
        place.files("data") == place.files("one"),
        "other bytes than one machine's"
    );
    let found = fs::metadata(&of_unit).unwrap();
    assert_eq!(found.ino(), kept.ino(), "a shard of a unit is kept");
}

#[test]
fn the_same_unit_twice_at_once_gives_the_same_bytes() {
    let place = source_and_one();
    begin(&place, "data").succeeds();
    let unit = || start(place.command(&["dataset", "unit", "data", "--shards", "0-6"]));
    all_succeed(vec![unit(), unit(), unit()]);
    finish(&place, "data").succeeds();
    assert!(
        place.files("data") == place.files("one"),
        "{:?}",
        left_over(&place.files("data"))
    );
}

/// SIGKILL at random moments, of two units at a time.
#[test]
fn killed_units_leave_nothing_wrong() {
    let place = source_and_one();
    begin(&place, "data").succeeds();
    let started = Instant::now();
    place
        .run(&["dataset", "unit", "data", "--shards", "0-6"])
        .succeeds();
    let unbroken_s = started.elapsed().as_secs_f64();
    fs::remove_dir_all(place.path("data")).unwrap();

    begin(&place, "data").succeeds();
    let seed = RandomState::new().hash_one(0);
    for kill_idx in 0..8_u32 {
        let part = f64::from((seed.rotate_left(6 * kill_idx) % 1000) as u32) / 1000.0;
        let other = start(place.command(&["dataset", "unit", "data", "--shards", "4-6,0"]));
        let mut unit = place.command(&["dataset", "unit", "data", "--unit", "1/1"]);
        kill_after(&mut unit, Duration::from_secs_f64(unbroken_s * part));
        kill(other);
        let now = status(&place, "data");
        assert!(now["num_finished"].as_u64().unwrap() <= 7, "{now:#}");
    }
    place
        .run(&["dataset", "unit", "data", "--unit", "1/1"])
        .succeeds();
    finish(&place, "data").succeeds();
    assert!(
        place.files("data") == place.files("one"),
        "other bytes, seed {seed}: {:?}",
        left_over(&place.files("data"))
    );
}

/// A data set whose objects are listed in files: units and the end of the build are killed at random moments, and a shard that
/// was lost is built again.
#[test]
fn units_of_a_large_data_set_make_the_bytes_of_one_machine() {
    let place = source_and_one();
    let large = |command: &str, more: &[&str]| {
        let arguments = ["dataset", command, "meshes", "--set", "max_objects_in_manifest=8"];
        place.run(&[&arguments[..], &SMALL, more].concat())
    };
    large("build", &["--out", "large", "--max-skipped", "1"]).succeeds();
    let whole = place.files("large");
    assert!(whole.contains_key("_objects-00000-of-00001.parq") && whole.contains_key("_skipped.parq"));

    large("begin", &["--out", "data"]).succeeds();
    let seed = RandomState::new().hash_one(0);
    let moment =
        |kill_idx: u32, most_ms: u64| Duration::from_millis(seed.rotate_left(9 * kill_idx) % most_ms);
    for kill_idx in 0..4 {
        let mut unit = place.command(&["dataset", "unit", "data", "--shards", "0-5"]);
        kill_after(&mut unit, moment(kill_idx, 400));
        status(&place, "data");
    }
    place
        .run(&["dataset", "unit", "data", "--shards", "0-6"])
        .succeeds();
    for kill_idx in 0..4 {
        let mut finish = place.command(&["dataset", "finish", "data", "--max-skipped", "1"]);
        kill_after(&mut finish, moment(kill_idx, 60));
        assert_eq!(status(&place, "data")["num_finished"], 7, "seed {seed}");
    }
    let finished = finish(&place, "data").succeeds();
    assert!(
        finished.stdout.contains("23 objects in 7 shards, 1 skipped"),
        "{finished:#?}"
    );
    assert!(
        place.files("data") == whole,
        "other bytes, seed {seed}: {:?}",
        left_over(&place.files("data"))
    );
    place.run(&["dataset", "verify", "data", "--deep"]).succeeds();

    fs::write(shard(&place, "data", 3), "cut").unwrap();
    finish(&place, "data").fails_with(&["1 of 7 shards are missing", "--shards 3"]);
    let outcome = large("build", &["--out", "data", "--max-skipped", "1"]).succeeds();
    assert!(outcome.stderr.contains("resuming after"), "{outcome:#?}");
    assert!(place.files("data") == whole, "other bytes than before the loss");

    let list = place.path("data/_objects-00000-of-00001.parq");
    let mut changed = fs::read(&list).unwrap();
    changed[200] ^= 1;
    fs::write(list, changed).unwrap();
    place
        .run(&["dataset", "verify", "data"])
        .fails_with(&["_objects-00000-of-00001.parq", "changed"]);
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A command whose memory is limited, of which one thread's heap takes no more address space than it uses.
fn within_memory(place: &TestDir, limit_kib: u32, arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!(r#"ulimit -v {limit_kib} && exec "$0" "$@""#)])
        .arg(env!("CARGO_BIN_EXE_tap"))
        .args(arguments)
        .current_dir(place.path(""))
        .stdin(Stdio::null())
        .env("MALLOC_ARENA_MAX", "1")
        .env("RUST_BACKTRACE", "0");
    command
}

/// An STL file of this many triangles without extent, which takes no room on a disk.
fn write_heavy_mesh(place: &TestDir, name: &str, num_triangles: u32) {
    place.write(name, [&[0; 80][..], &num_triangles.to_le_bytes()].concat());
    let file = fs::OpenOptions::new().write(true).open(place.path(name)).unwrap();
    file.set_len(84 + 50 * u64::from(num_triangles)).unwrap();
}

/// Memory that is not there ends the program, which no panic does.
#[cfg(target_os = "linux")]
#[test]
fn a_mesh_that_ends_the_program_is_named_and_the_others_are_built() {
    use std::os::unix::process::ExitStatusExt as _;
    let place = TestDir::new();
    for object in ["box/a", "box/b", "box/d"] {
        place.write(&format!("meshes/{object}.obj"), CUBE);
    }
    write_heavy_mesh(&place, "meshes/box/c.stl", 4_000_000);
    let more = ["--threads", "1", "--ignore-free-space"];
    let build = [
        "dataset",
        "build",
        "meshes",
        "--out",
        "data",
        "--split-fractions",
        "1,0",
    ];
    let build = [&build[..], &SMALL, &more].concat();
    // With more it is built, with less the file cannot be read, and is skipped.
    let ends_it = |limit_kib: &u32| {
        let output = within_memory(&place, *limit_kib, &build).output().unwrap();
        let _ = fs::remove_dir_all(place.path("data"));
        output.status.signal().is_some()
    };
    let limit_kib = (280..440).step_by(15).map(|limit| limit * 1000).find(ends_it);
    let limit_kib = limit_kib.expect("some limit is enough to read it, and not to hold it");
    let isolated = [&build[..], &["--isolate", "--max-skipped", "1"]].concat();
    let outcome = Outcome::of(&mut within_memory(&place, limit_kib, &isolated)).succeeds();
    assert!(
        outcome.stderr.contains("box/c, crashed: it ends the program"),
        "{outcome:#?}"
    );

    // As units, and where nothing ends the program, it costs time alone.
    let begin = [
        "dataset",
        "begin",
        "meshes",
        "--out",
        "units",
        "--split-fractions",
        "1,0",
    ];
    place.run(&[&begin[..], &SMALL].concat()).succeeds();
    let unit = ["dataset", "unit", "units", "--shards", "0", "--isolate"];
    let unit = [&unit[..], &more].concat();
    Outcome::of(&mut within_memory(&place, limit_kib, &unit)).succeeds();
    finish(&place, "units").succeeds();
    assert!(place.files("units") == place.files("data"), "the same bytes");
    fs::remove_file(place.path("meshes/box/c.stl")).unwrap();
    for (out, isolate) in [("plain", None), ("isolated", Some("--isolate"))] {
        let arguments = [
            "dataset",
            "build",
            "meshes",
            "--out",
            out,
            "--split-fractions",
            "1,0",
        ];
        let arguments = [&arguments[..], &SMALL, isolate.as_slice()].concat();
        place.run(&arguments).succeeds();
    }
    assert!(place.files("isolated") == place.files("plain"), "the same bytes");
}

#[test]
fn what_would_build_something_else_is_refused_by_name() {
    let place = source_and_one();
    let unit = |more: &[&str]| place.run(&[&["dataset", "unit", "data"][..], more].concat());
    unit(&["--shards", "0"]).fails_with(&["no _manifest.json", "data"]);
    build(&place, "data").succeeds();
    fs::remove_file(shard(&place, "data", 0)).unwrap();
    unit(&["--shards", "0"]).fails_with(&["no build was begun", "tap dataset begin"]);
    fs::remove_dir_all(place.path("data")).unwrap();

    begin(&place, "data").succeeds();
    unit(&[]).exits_with_2();
    unit(&["--shards", "2-1"]).exits_with_2();
    unit(&["--shards", "0", "--unit", "1/2"]).exits_with_2();
    unit(&["--shards", "3-7"]).fails_with(&["no shard 7", "has 7, from 0"]);
    let other = ["dataset", "begin", "meshes", "--out", "data"];
    let other = [&other[..], &SMALL, &["--size", "48"]].concat();
    let before = place.files("data");
    for command in ["begin", "build"] {
        let mut other = other.clone();
        other[1] = command;
        other.retain(|word| *word != "32");
        other.remove(other.iter().position(|word| *word == "--size").unwrap());
        place
            .run(&other)
            .fails_with(&["another dataset", "recipe.render.size_px is 32 there and 48 here"]);
    }
    assert!(place.files("data") == before, "nothing was touched");

    // A mesh that is another one, in the shard that is asked for.
    let list = String::from_utf8(place.files("one")["_manifest.json"].clone()).unwrap();
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let mesh = list["shards"][1]["objects"][0]["path"].as_str().unwrap();
    let mesh = format!("meshes/{mesh}");
    let content = fs::read(place.path(&mesh)).unwrap();
    place.write(&mesh, CUBE);
    unit(&["--shards", "1"]).fails_with(&["not the one that was begun", "bytes instead of", "model.obj"]);
    unit(&["--shards", "0"]).succeeds();
    place.write(&mesh, content);

    // Another machine, another version of the program.
    let manifest = fs::read_to_string(place.path("data/_manifest.json")).unwrap();
    for (found, instead, words) in [
        ("\"generator\": \"", "\"generator\": \"other ", "program is"),
        (
            "\"backend\": \"cpu\"",
            "\"backend\": \"vulkan\"",
            "adapter.backend is",
        ),
    ] {
        let changed = manifest.replacen(found, instead, 1);
        assert_ne!(changed, manifest, "{found}");
        place.write("data/_manifest.json", changed);
        unit(&["--shards", "1", "--backend", "cpu"]).fails_with(&[
            "another dataset than was begun",
            words,
            "tap dataset begin",
        ]);
    }
    place.write("data/_manifest.json", &manifest);
    unit(&["--shards", "1-6"]).succeeds();
    finish(&place, "data").succeeds();
    assert!(place.files("data") == place.files("one"), "other bytes");

    place.write("mine/_plan.parquet", "PAR1 my plan");
    begin(&place, "mine").fails_with(&["_plan.parquet", "does not belong"]);
}

/// The scripts, run by the program under test under its name on `PATH`.
fn on_path(place: &TestDir, program: &str, arguments: &[&str]) -> Command {
    let bin = place.path("bin");
    fs::create_dir_all(&bin).unwrap();
    let link = bin.join("tap");
    if !link.exists() {
        fs::hard_link(env!("CARGO_BIN_EXE_tap"), &link)
            .or_else(|_| fs::copy(env!("CARGO_BIN_EXE_tap"), &link).map(drop))
            .unwrap();
    }
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(place.path(""))
        .stdin(Stdio::null())
        .env("PATH", path);
    command
}

fn asset(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets").join(name);
    assert!(path.is_file(), "{}", path.display());
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_slurm_array_builds_a_data_set() {
    let place = source_and_one();
    begin(&place, "data").succeeds();
    let script = asset("slurm/units.sh");
    // An array may count from 0; each task has its own shares of what the folder needs.
    for (first, task) in [(0, 2), (0, 0), (0, 1)] {
        let mut task_of_array = on_path(&place, "bash", &[&script, "data", "--source", "meshes"]);
        task_of_array.env("SLURM_ARRAY_TASK_COUNT", "3");
        task_of_array.env("SLURM_ARRAY_TASK_MIN", first.to_string());
        task_of_array.env("SLURM_ARRAY_TASK_ID", task.to_string());
        task_of_array.env("SLURM_CPUS_PER_TASK", "2");
        Outcome::of(&mut task_of_array).succeeds();
    }
    finish(&place, "data").succeeds();
    assert!(place.files("data") == place.files("one"), "other bytes");
    let mut nameless = on_path(&place, "bash", &[&script]);
    nameless
        .env("SLURM_ARRAY_TASK_COUNT", "1")
        .env("SLURM_ARRAY_TASK_ID", "1");
    let outcome = Outcome::of(&mut nameless);
    assert!(outcome.stderr.contains("name the folder"), "{outcome:#?}");
}

#[test]
fn a_kubernetes_job_builds_a_data_set() {
    let place = source_and_one();
    begin(&place, "data").succeeds();
    let job = fs::read_to_string(asset("kubernetes/units.yaml")).unwrap();
    let value = |key: &str| {
        let line = job.lines().find_map(|line| line.trim().strip_prefix(key));
        line.unwrap_or_else(|| panic!("no {key}"))
            .trim()
            .trim_matches('"')
    };
    let units = job.split("- name: UNITS").nth(1).unwrap().lines().nth(1).unwrap();
    assert_eq!(
        units.trim(),
        format!("value: \"{}\"", value("completions:")),
        "both places have the same number of shares"
    );
    let script = job.lines().find_map(|line| line.trim().strip_prefix("- exec"));
    let script = script.unwrap();
    for index in [1, 0] {
        let mut pod = on_path(&place, "sh", &["-c", &format!("exec {script}")]);
        pod.env("JOB_COMPLETION_INDEX", index.to_string());
        pod.env("UNITS", "2")
            .env("FOLDER", "data")
            .env("SOURCE", "meshes");
        Outcome::of(&mut pod).succeeds();
    }
    finish(&place, "data").succeeds();
    assert!(place.files("data") == place.files("one"), "other bytes");
}
