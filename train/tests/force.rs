//! `--force` through the program: only what a run, a comparison, an image or an import wrote is replaced, and nobody
//! else's folder, input or live run.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shape;
mod small;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Steps of all runs.
const STEPS: [&str; 2] = ["pretrain.steps=2", "finetune.steps=2"];

/// A folder with a data set, in which the program is run.
struct TestDir {
    dir: TempDir,
}

impl TestDir {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        shape::write(&dir.path().join("shards"), 3, 16, 64);
        Self { dir }
    }

    /// With `tap`, a pre-trained run.
    fn with_run() -> Self {
        let place = Self::new();
        let pretrain = ["pretrain", "--data", "shards", "--out", "tap"];
        succeeds(&place.train(&pretrain).output().unwrap());
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn command(&self, folder: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tap-train"));
        command.current_dir(self.path(folder)).args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command("", arguments).output().unwrap()
    }

    /// A training with the small network.
    fn train(&self, arguments: &[&str]) -> Command {
        let mut command = self.command("", arguments);
        command.args(["--threads", "1", "--device", "cpu"]);
        for setting in small::NETWORK.into_iter().chain(STEPS) {
            command.args(["--set", setting]);
        }
        command
    }

    /// All files with their bytes; what a link leads to is not looked at.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        collect(self.dir.path(), &mut files);
        files
    }

    /// Runs what must be refused, in one line that holds these words, and must change nothing.
    #[track_caller]
    fn refuses(&self, command: &mut Command, words: &[&str]) {
        let before = self.files();
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert_eq!(text.lines().count(), 1, "one line: {text}");
        for word in words {
            assert!(text.contains(word), "{word} is missing: {text}");
        }
        let names = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
        let after = self.files();
        assert_eq!(names(&after), names(&before), "no file came or went: {text}");
        assert!(after == before, "a file has changed: {text}");
    }
}

fn collect(folder: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_symlink() {
            files.insert(path, Vec::new());
        } else if path.is_dir() {
            collect(&path, files);
        } else {
            files.insert(path.clone(), fs::read(path).unwrap());
        }
    }
}

#[track_caller]
fn succeeds(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

/// Kills it when the test ends, however it does.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_folder_that_is_no_run_is_left_alone() {
    let place = TestDir::new();
    place.write("config.toml", "[package]");
    place.write("thesis.tex", "years of work");
    place.write("src/a.py", "x");
    let here = ["pretrain", "--data", "shards", "--out", ".", "--force"];
    place.refuses(
        &mut place.train(&here),
        &["config.toml", "shards/", "src/", "thesis.tex"],
    );

    let mine = ["pretrain", "--data", "shards", "--out", "mine", "--force"];
    for (config, word) in [
        ("", "config.toml is not one of a run"),
        ("a = 1", "not one of a run"),
    ] {
        place.write("mine/config.toml", config);
        place.refuses(&mut place.train(&mine), &[word]);
    }
    place.write("mine/.lock", "another program's");
    place.refuses(&mut place.train(&mine), &["mine"]);
}

#[test]
fn a_run_is_replaced_but_nothing_beside_it_and_no_input() {
    let place = TestDir::new();
    let run = ["pretrain", "--data", "shards", "--out", "run"];
    let forced = [&run[..], &["--force"]].concat();
    succeeds(&place.train(&run).output().unwrap());
    place.refuses(&mut place.train(&run), &["--resume", "--force"]);
    succeeds(&place.train(&forced).output().unwrap());

    for name in [
        "notes.txt",
        "samples/thesis.tex",
        "checkpoints/step-x/a",
        "other/deep/file",
    ] {
        let top = name.split('/').next().unwrap();
        place.write(&format!("run/{name}"), "mine");
        place.refuses(&mut place.train(&forced), &[top, "run"]);
        place.refuses(
            &mut place.command(
                "run",
                &["pretrain", "--data", "../shards", "--out", ".", "--force"],
            ),
            &[top],
        );
        let folder = place.path(&format!("run/{name}"));
        fs::remove_file(&folder).unwrap();
        if ["checkpoints/step-x/a", "other/deep/file"].contains(&name) {
            fs::remove_dir_all(place.path(if top == "other" {
                "run/other"
            } else {
                "run/checkpoints/step-x"
            }))
            .unwrap();
        }
    }

    // What is read is never removed, by whatever name it goes.
    for out in ["run", "./run/../run", "run/"] {
        let tune = [
            "finetune", "--data", "shards", "--init", "run", "--out", out, "--force",
        ];
        place.refuses(&mut place.train(&tune), &["would remove an input"]);
    }
    let file = [
        "finetune",
        "--data",
        "shards",
        "--init",
        "run/encoder.safetensors",
        "--out",
        "run",
        "--force",
    ];
    place.refuses(&mut place.train(&file), &["run/encoder.safetensors"]);
    let like = [
        "finetune", "--data", "shards", "--like", "run", "--out", "run", "--force",
    ];
    place.refuses(&mut place.train(&like), &["would remove an input"]);
    let config = [
        "pretrain",
        "--data",
        "shards",
        "--config",
        "run/config.toml",
        "--out",
        "run",
        "--force",
    ];
    place.refuses(&mut place.command("", &config), &["run/config.toml"]);
    let data = ["pretrain", "--data", "run/shards", "--out", "run", "--force"];
    fs::rename(place.path("shards"), place.path("run/shards")).unwrap();
    place.refuses(&mut place.train(&data), &["shards/"]);
    fs::rename(place.path("run/shards"), place.path("shards")).unwrap();

    // A run of before the lock was: the configuration is proof enough. Of itself, it is replaced from within too.
    fs::remove_file(place.path("run/.lock")).unwrap();
    let mut within = place.train(&["pretrain", "--data", "../shards", "--out", ".", "--force"]);
    succeeds(&within.current_dir(place.path("run")).output().unwrap());
    // A run of another version: the lock is.
    place.write("run/config.toml", "of = 'another version'");
    succeeds(&place.train(&forced).output().unwrap());
}

#[cfg(unix)]
#[test]
fn links_lead_to_no_loss() {
    use std::os::unix::fs::symlink;

    let place = TestDir::new();
    let run = ["pretrain", "--data", "shards", "--out", "run"];
    succeeds(&place.train(&run).output().unwrap());
    symlink(place.path("run"), place.path("link")).unwrap();
    let linked = ["pretrain", "--data", "shards", "--out", "link", "--force"];
    place.refuses(&mut place.train(&linked), &["symbolic link"]);
    let init = [
        "finetune", "--data", "shards", "--init", "link", "--out", "run", "--force",
    ];
    place.refuses(&mut place.train(&init), &["would remove an input, link"]);
    symlink(place.path("shards"), place.path("run/data")).unwrap();
    let data = ["pretrain", "--data", "run/data", "--out", "run", "--force"];
    place.refuses(&mut place.train(&data), &["data"]);
    fs::remove_file(place.path("run/data")).unwrap();
    fs::rename(place.path("shards"), place.path("run/shards")).unwrap();
    symlink(place.path("run/shards"), place.path("far")).unwrap();
    let data = ["pretrain", "--data", "far", "--out", "run", "--force"];
    place.refuses(&mut place.train(&data), &["shards/"]);
}

#[test]
fn a_run_that_goes_on_is_neither_replaced_nor_joined() {
    let place = TestDir::new();
    let run = ["pretrain", "--data", "shards", "--out", "run"];
    // The last setting counts.
    let mut command = place.train(&run);
    command.args(["--set", "pretrain.steps=1000000"]);
    let child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let live = Killed(child);
    let deadline = Instant::now() + Duration::from_mins(1);
    while !place.path("run/config.toml").is_file() {
        assert!(Instant::now() < deadline, "the run never began");
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = format!("pid {}", live.0.id());
    for flag in ["--force", "--resume"] {
        let output = place.train(&[&run[..], &[flag]].concat()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(
            text.contains("a run is going on in this folder") && text.contains(&pid),
            "{text}"
        );
    }
    drop(live);
    // A lock that nobody holds any more is no hindrance.
    succeeds(&place.train(&[&run[..], &["--force"]].concat()).output().unwrap());
}

#[test]
fn probes_replace_their_own_kind() {
    let place = TestDir::with_run();

    let probe = [
        "probe",
        "--data",
        "shards",
        "--init",
        "tap",
        "--out",
        "probe",
        "--random-inits",
        "0",
        "--labels-per-class",
        "2",
    ];
    let forced = [&probe[..], &["--force"]].concat();
    place.write("probe/probe.json", "{\"mine\": 1}");
    place.refuses(&mut place.train(&forced), &["probe/probe.json"]);
    fs::remove_file(place.path("probe/probe.json")).unwrap();
    place.write("probe/notes.txt", "mine");
    succeeds(&place.train(&probe).output().unwrap());
    succeeds(&place.train(&forced).output().unwrap());
    assert_eq!(
        fs::read(place.path("probe/notes.txt")).unwrap(),
        b"mine",
        "files beside it stay"
    );
}

#[test]
fn comparisons_replace_their_own_kind() {
    let place = TestDir::with_run();
    let compare = [
        "compare",
        "--data",
        "shards",
        "--init",
        "tap",
        "--out",
        "both",
        "--seeds",
        "1",
        "--labels-per-class",
        "2",
    ];
    let small = |more: &[&str]| {
        let mut command = place.command("", &[&compare[..], more].concat());
        command.args(["--set", "finetune.steps=2", "--set", "finetune.batch_size=4"]);
        command
    };
    place.write("both/arms/tap-2-seed0/thesis.tex", "mine");
    place.refuses(&mut small(&[]), &["--force"]);
    place.refuses(&mut small(&["--force"]), &["arms/tap-2-seed0/thesis.tex"]);
    fs::remove_dir_all(place.path("both")).unwrap();
    place.write("both/compare.json", "{\"mine\": 1}");
    place.refuses(&mut small(&["--force"]), &["both/compare.json"]);
    place.refuses(&mut small(&["--resume"]), &["both/compare.json"]);
    fs::remove_dir_all(place.path("both")).unwrap();
    succeeds(&small(&[]).output().unwrap());
    place.refuses(&mut small(&[]), &["--resume", "--force"]);
    place.write("both/notes.txt", "mine");
    place.refuses(&mut small(&["--force"]), &["notes.txt"]);
    fs::remove_file(place.path("both/notes.txt")).unwrap();
    succeeds(&small(&["--force"]).output().unwrap());
    succeeds(&small(&["--resume"]).output().unwrap());
}

#[test]
fn images_and_imports_replace_their_own_kind() {
    let place = TestDir::with_run();
    let generate = [
        "generate",
        "--run",
        "tap",
        "--data",
        "shards",
        "--device",
        "cpu",
        "--threads",
        "1",
        "--out",
        "views.png",
    ];
    let forced = [&generate[..], &["--force"]].concat();
    place.write("views.png", "my photograph");
    place.refuses(&mut place.command("", &forced), &["views.png"]);
    fs::copy(place.path("tap/samples/final.png"), place.path("views.png")).unwrap();
    place.refuses(&mut place.command("", &forced), &["views.png"]);
    fs::remove_file(place.path("views.png")).unwrap();
    succeeds(&place.run(&generate));
    place.refuses(&mut place.command("", &generate), &["--force"]);
    succeeds(&place.run(&forced));

    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pth/tiny.pth");
    let import = |out: &str| {
        let mut command = place.command(
            "",
            &["import", "--out", out, "--force", "--config", "mini", "--partial"],
        );
        command.arg(&file);
        for setting in [
            "encoder.kind=point_mlp",
            "encoder.channels=4",
            "encoder.bottleneck=0.5",
            "encoder.stages=[{reduction=2,num_neighbors=4,expansion=2,num_pre_blocks=1,num_pos_blocks=1}]",
        ] {
            command.args(["--set", setting]);
        }
        command
    };
    place.refuses(
        &mut import("tap/encoder.safetensors"),
        &["tap/encoder.safetensors"],
    );
    place.refuses(&mut import("tap/config.toml"), &["tap/config.toml"]);
    place.refuses(&mut import("shards"), &["it is a folder"]);
    for _ in 0..2 {
        succeeds(&import("imported.safetensors").output().unwrap());
    }
    let own = [
        "import",
        "imported.safetensors",
        "--out",
        "imported.safetensors",
        "--force",
    ];
    place.refuses(&mut place.command("", &own), &["would remove an input"]);
}
