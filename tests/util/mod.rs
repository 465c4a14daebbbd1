//! The harness of the end-to-end tests: a command is one line, what it must do is another.
#![allow(dead_code, reason = "each test program uses its part of the harness")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

pub(crate) mod browser;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// The program under test.
const TAP: &str = env!("CARGO_BIN_EXE_tap");

/// Set where the trainer must be there: its absence is a failure then.
const REQUIRE_TRAIN: &str = "TAP_REQUIRE_TRAIN";

/// A place to work in, and the program run from there.
pub(crate) struct TestDir {
    dir: TempDir,
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Starts a command and kills it after a while, by a signal that nobody can catch.
pub(crate) fn kill_after(command: &mut Command, delay: Duration) {
    let mut child = start_unheard(command);
    sleep(delay);
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Starts a command whose output nobody reads.
pub(crate) fn start_unheard(command: &mut Command) -> Child {
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

impl TestDir {
    pub(crate) fn new() -> Self {
        Self {
            dir: TempDir::new().unwrap(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// A command, to be changed before it is run.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(TAP);
        command
            .args(arguments)
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Outcome {
        Outcome::of(&mut self.command(arguments))
    }

    /// Runs with these bytes on stdin.
    pub(crate) fn run_fed(&self, stdin: &[u8], arguments: &[&str]) -> Outcome {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(stdin).unwrap();
        child.wait_with_output().unwrap().into()
    }

    pub(crate) fn run_with(&self, variable: &str, value: impl AsRef<OsStr>, arguments: &[&str]) -> Outcome {
        Outcome::of(self.command(arguments).env(variable, value))
    }

    /// Makes `meshes`: a small synthetic source.
    pub(crate) fn synthesize(&self, classes: usize, per_class: usize) {
        let (classes, per_class) = (classes.to_string(), per_class.to_string());
        self.run(&[
            "dataset",
            "synthesize",
            "--out",
            "meshes",
            "--classes",
            &classes,
            "--per-class",
            &per_class,
        ])
        .succeeds();
    }

    /// Makes `data` from `meshes`, small and quick.
    pub(crate) fn build(&self) -> Outcome {
        self.run(&[
            "dataset",
            "build",
            "meshes",
            "--out",
            "data",
            "--size",
            "32",
            "--num-points",
            "64",
        ])
    }

    /// The names of a folder's files, at all depths, with their bytes.
    pub(crate) fn files(&self, name: &str) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        collect(&self.path(name), "", &mut files);
        files
    }
}

fn collect(folder: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type().unwrap().is_dir() {
            collect(&entry.path(), &format!("{name}/"), files);
        } else {
            files.insert(name, fs::read(entry.path()).unwrap());
        }
    }
}

impl Outcome {
    pub(crate) fn of(command: &mut Command) -> Self {
        Self::from(command.output().unwrap())
    }
}

impl From<Output> for Outcome {
    fn from(
        Output {
            status,
            stdout,
            stderr,
        }: Output,
    ) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self {
            code: status.code(),
            stdout: text(stdout),
            stderr: text(stderr),
        }
    }
}

impl Outcome {
    #[track_caller]
    pub(crate) fn succeeds(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self
    }

    /// Fails with exit code 1 and one line on stderr that holds all the given words.
    #[track_caller]
    pub(crate) fn fails_with(self, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(1), "{self:#?}");
        let errors: Vec<&str> = self
            .stderr
            .lines()
            .filter(|line| line.starts_with("error: "))
            .collect();
        let [error] = errors.as_slice() else {
            panic!("not one error: {self:#?}")
        };
        let words_missing: Vec<_> = words
            .iter()
            .filter(|word| !error.to_lowercase().contains(&word.to_lowercase()))
            .collect();
        assert!(
            words_missing.is_empty(),
            "the error lacks {words_missing:?}: {error}"
        );
        let talk: Vec<&str> = self
            .stderr
            .lines()
            .filter(|line| line != error && !is_allowed(line))
            .collect();
        assert!(talk.is_empty(), "more than one line: {self:#?}");
        self
    }

    /// A wrong command line.
    #[track_caller]
    pub(crate) fn exits_with_2(self) -> Self {
        assert_eq!(self.code, Some(2), "{self:#?}");
        self
    }

    /// Each line of stdout, as JSON.
    pub(crate) fn json_lines(&self) -> Vec<Value> {
        let lines = self.stdout.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {self:#?}")))
            .collect()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// Lines beside an error: what a graphics driver writes on its own, notes, and objects that were skipped.
fn is_allowed(line: &str) -> bool {
    let is_of_a_driver = line.contains("WARNING: ") && line.contains("vulkan");
    is_of_a_driver || line.starts_with("note: ") || line.starts_with("skipped ")
}

/// A unit cube as OBJ.
pub(crate) const CUBE: &str = "\
v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nv 0 0 1\nv 1 0 1\nv 1 1 1\nv 0 1 1\n\
f 4 3 2 1\nf 5 6 7 8\nf 1 2 6 5\nf 2 3 7 6\nf 3 4 8 7\nf 4 1 5 8\n";

/// The cube with a coordinate that is no number.
pub(crate) fn nan_cube() -> String {
    CUBE.replacen("v 1 1 1", "v 1 nan 1", 1)
}

/// Says plainly that a test did not run; this is seen where a passing test's output is not.
pub(crate) fn skip(reason: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {reason}");
}

/// Python with the packages of `TAP_READERS`, a folder that `scripts/test` lays. Where it has to be, its absence is a failure.
pub(crate) fn python_with_readers() -> Option<Command> {
    let Some(readers) = std::env::var_os("TAP_READERS").map(PathBuf::from) else {
        assert!(
            std::env::var_os("TAP_REQUIRE_READERS").is_none(),
            "TAP_READERS does not name the folder of Python packages"
        );
        skip("no other readers: TAP_READERS names no folder of Python packages");
        return None;
    };
    let mut python = Command::new(readers.join("python"));
    python.env("PYTHONPATH", readers);
    Some(python)
}

/// Is `tap-train` built? Where it has to be, its absence is a failure.
pub(crate) fn has_trainer() -> bool {
    let name = format!("tap-train{}", std::env::consts::EXE_SUFFIX);
    let is_there = Path::new(TAP).with_file_name(name).is_file();
    let is_required = std::env::var_os(REQUIRE_TRAIN).is_some_and(|value| value == "1");
    assert!(
        is_there || !is_required,
        "{REQUIRE_TRAIN}=1, but tap-train is not beside tap: cargo build --workspace"
    );
    if !is_there {
        skip("tap-train is not built (cargo test --workspace builds it)");
    }
    is_there
}
