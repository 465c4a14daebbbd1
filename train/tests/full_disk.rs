//! A disk that is full at any moment: one line names the file, and the folder is one that `--resume` and `--force` go on
//! with, to the bytes of an unbroken run.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shape;
mod small;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::AtomicBool;

use tap_train::TrainError;
use tap_train::run::Existing;
use tap_train::run::event::TrainEvent;
use tap_train::task::pretrain::pretrain;

/// The only checkpoint is the last thing that is written.
const SETTINGS: [&str; 3] = [
    "pretrain.steps=30",
    "log.checkpoint_every=0",
    "log.validate_every=0",
];
/// With pictures the file for TensorBoard outgrows the records, without them they outgrow it.
const PICTURES: [[&str; 2]; 2] = [
    ["log.num_images=2", "log.images_every=6"],
    ["log.num_images=0", "log.images_every=0"],
];
/// Sizes that no file may exceed, in blocks of 512 bytes (or 1024, as the shell has it).
const LIMITS: [u32; 10] = [0, 2, 8, 16, 32, 64, 128, 256, 512, 1024];
/// The files that did not fit then.
const FILES: [&str; 6] = [
    ".lock",
    "events",
    "metrics.jsonl",
    "model.safetensors",
    "optimizer.safetensors",
    "request.toml",
];

/// Pre-trains in a folder in which no file may be longer than so many blocks.
fn train(folder: &Path, blocks: Option<u32>, more: &[&str]) -> Output {
    // A file that grows beyond the limit is an error then, and not the end of the process.
    let limited = |blocks| format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
    let script = blocks.map_or_else(|| String::from("exec \"$@\""), limited);
    let mut command = Command::new("sh");
    command
        .current_dir(folder)
        .args(["-c", &script, "sh", env!("CARGO_BIN_EXE_tap-train")]);
    command.args(["pretrain", "--data", "data", "--device", "cpu", "--threads", "1"]);
    for setting in small::NETWORK.iter().chain(&SETTINGS) {
        command.args(["--set", setting]);
    }
    command.args(more).output().unwrap()
}

#[track_caller]
fn succeeded(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

/// The file that an error names; there is no other error line.
#[track_caller]
fn named_file(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
    let [error] = errors[..] else {
        panic!("one error: {text}")
    };
    assert!(error.ends_with("File too large (os error 27)"), "{error}");
    let (path, _) = error.rsplit_once(": ").unwrap();
    let name = path.rsplit(['/', ' ']).next().unwrap();
    // Names of event files begin with this.
    name.split(".out").next().unwrap().to_owned()
}

#[test]
fn whatever_file_does_not_fit_the_run_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    shape::write(&folder.join("data"), 3, 16, 64);
    succeeded(&train(folder, None, &["--out", "whole"]));
    let encoder = |run: &str| fs::read(folder.join(run).join("encoder.safetensors")).unwrap();
    let mut files = BTreeSet::new();
    let all = PICTURES
        .into_iter()
        .flat_map(|pictures| LIMITS.map(|blocks| (pictures, blocks)));
    for (i, (pictures, blocks)) in all.enumerate() {
        if files.len() == FILES.len() {
            break;
        }
        let run = format!("run-{i}");
        let settings = ["--out", &run, "--set", pictures[0], "--set", pictures[1]];
        let output = train(folder, Some(blocks), &settings);
        if output.status.success() || !files.insert(named_file(&output)) {
            continue;
        }
        let file = named_file(&output);
        if file == ".lock" {
            assert!(!folder.join(&run).exists(), "what was not begun leaves nothing");
        } else {
            // It fails again, and nothing is lost by that.
            assert_eq!(
                named_file(&train(folder, Some(0), &["--out", &run, "--resume"])),
                ".lock"
            );
        }
        let again = if i % 2 == 0 { "--resume" } else { "--force" };
        succeeded(&train(folder, None, &["--out", &run, again]));
        assert!(
            encoder(&run) == encoder("whole"),
            "{file} did not fit, then {again}"
        );
        let checkpoints = fs::read_dir(folder.join(&run).join("checkpoints")).unwrap();
        let checkpoints = checkpoints.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert_eq!(
            checkpoints.collect::<Vec<_>>(),
            ["step-0000000030"],
            "no half checkpoint"
        );
    }
    assert_eq!(files, FILES.map(str::to_owned).into(), "each was too long once");

    // Killed while it wrote its first file: the lock is all that says whose folder it is, and stays.
    let killed = folder.join("killed");
    fs::create_dir(&killed).unwrap();
    fs::copy(folder.join("whole/.lock"), killed.join(".lock")).unwrap();
    fs::write(killed.join("request.toml.partial"), "task = ").unwrap();
    assert_eq!(
        named_file(&train(folder, Some(0), &["--out", "killed", "--resume"])),
        ".lock"
    );
    succeeded(&train(folder, None, &["--out", "killed", "--resume"]));
    assert!(encoder("killed") == encoder("whole"), "the same run");
}

#[test]
fn a_result_that_does_not_fit_is_written_by_the_next_session() {
    let _turn = small::turn();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    shape::write(&data, 3, 16, 64);
    let config = small::config(&["pretrain.steps=4"], &[]);
    let train = |run: &str, existing, on_event: &mut dyn FnMut(&TrainEvent)| {
        let options = small::options(&data, folder.path().join(run), existing, 1);
        let cancel = AtomicBool::new(false);
        pretrain(&config, &options, None, &cancel, &mut |event| on_event(&event))
    };
    train("whole", Existing::Refuse, &mut |_| {}).unwrap().unwrap();
    for name in ["samples/final.png", "encoder.safetensors", "result.json"] {
        let run = name.replace('/', "-");
        // A write to this file fails as one to a full disk does.
        let path = folder.path().join(&run).join(format!("{name}.partial"));
        let is_image = name.starts_with("samples");
        let mut fill = |event: &TrainEvent| {
            let is_due = match event {
                TrainEvent::CheckpointWritten { step: 4, .. } => is_image,
                TrainEvent::Finished { .. } => !is_image,
                _ => false,
            };
            if is_due {
                std::os::unix::fs::symlink("/dev/full", &path).unwrap();
            }
        };
        let error = train(&run, Existing::Refuse, &mut fill).unwrap_err();
        let TrainError::Io { path, source, .. } = &error else {
            panic!("{error:?}")
        };
        assert!(path.ends_with(name), "{error}");
        assert_eq!(source.kind(), std::io::ErrorKind::StorageFull, "{name}");
        assert!(!folder.path().join(&run).join("result.json").exists(), "{name}");
        let result = train(&run, Existing::Resume, &mut |_| {}).unwrap().unwrap();
        assert_eq!(result.num_steps, 4, "{name}");
        for file in ["encoder.safetensors", "samples/final.png"] {
            let read = |run: &str| fs::read(folder.path().join(run).join(file)).unwrap();
            assert!(read(&run) == read("whole"), "{name} did not fit: {file}");
        }
    }
}
