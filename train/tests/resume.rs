//! `--resume` and `--continue-from` through the program: the folder alone is enough, what changes no number may change,
//! what does is refused by name, and a run that is finished stays as it is.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shape;
mod small;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tap_train::config::Plan;

/// Six steps with checkpoints at steps 2, 4 and 6.
const SETTINGS: [&str; 4] = [
    "pretrain.steps=6",
    "finetune.steps=6",
    "finetune.batch_size=4",
    "log={checkpoint_every=2,validate_every=0,num_images=0,keep_checkpoints=9}",
];

struct TestDir(tempfile::TempDir);

impl TestDir {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        shape::write(&folder.path().join("data"), 3, 16, 64);
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tap-train"));
        command.current_dir(self.0.path()).args(arguments);
        command.output().unwrap()
    }

    /// Begins a run with all settings, on one thread.
    fn begin(&self, arguments: &[&str]) -> Output {
        let settings = small::NETWORK.iter().chain(&SETTINGS);
        let settings = settings.flat_map(|setting| ["--set", setting]);
        let of_machine = ["--device", "cpu", "--threads", "1", "--data", "data"];
        self.run(
            &arguments
                .iter()
                .copied()
                .chain(of_machine)
                .chain(settings)
                .collect::<Vec<_>>(),
        )
    }

    /// A run as a kill after its second checkpoint leaves it.
    fn interrupt(&self, run: &str) {
        for file in ["result.json", "encoder.safetensors", "model.safetensors"] {
            let _ = fs::remove_file(self.path(run).join(file));
        }
        fs::remove_dir_all(self.path(run).join("checkpoints/step-0000000006")).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&self.read(name)).unwrap()
    }

    /// Step and loss of every training step.
    fn losses(&self, run: &str) -> Vec<(u64, u64)> {
        let text = String::from_utf8(self.read(&format!("{run}/metrics.jsonl"))).unwrap();
        let lines = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines
            .filter(|line| line["kind"] == "step")
            .map(|line| {
                (
                    line["step"].as_u64().unwrap(),
                    line["loss"].as_f64().unwrap().to_bits(),
                )
            })
            .collect()
    }

    /// All files of a run with their bytes.
    fn files(&self, run: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.path(run)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.insert(path.clone(), fs::read(path).unwrap());
                }
            }
        }
        files
    }
}

#[track_caller]
fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn refused(output: &Output, parts: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{text}");
    assert_eq!(text.lines().count(), 1, "one line: {text}");
    for part in parts {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn the_folder_is_enough_to_resume_a_pretraining() {
    let place = TestDir::new();
    succeeded(&place.begin(&["pretrain", "--out", "whole"]));
    fs::create_dir(place.path("far")).unwrap();
    for (run, changed) in [("plain", false), ("changed", true)] {
        succeeded(&place.begin(&["pretrain", "--out", run]));
        place.interrupt(run);
        let neutral = [
            "data.cache_mib=1",
            "log.checkpoint_every=3",
            "log.keep_checkpoints=2",
        ];
        let typed = neutral
            .iter()
            .filter(|_| changed)
            .flat_map(|setting| ["--set", setting]);
        // From another folder, too.
        let mut command = Command::new(env!("CARGO_BIN_EXE_tap-train"));
        command
            .current_dir(place.path("far"))
            .args(["pretrain", "--resume", "--out"]);
        let text = succeeded(&command.arg(place.path(run)).args(typed).output().unwrap());
        assert!(text.contains("resumed at step 4"), "{text}");
        assert_eq!(
            text.contains("data.cache_bytes (536870912, now 1048576)"),
            changed,
            "{text}"
        );
        assert_eq!(place.losses(run), place.losses("whole"), "{run}");
        for file in ["encoder.safetensors", "config.toml"] {
            let is_same = place.read(&format!("{run}/{file}")) == place.read(&format!("whole/{file}"));
            assert_eq!(
                is_same,
                !changed || file == "encoder.safetensors",
                "{run}: {file}"
            );
        }
        let hash = |run: &str| place.json(&format!("{run}/result.json"))["config_sha256"].clone();
        assert_eq!(
            hash(run),
            hash("whole"),
            "{run}: what changes no number is not in the hash"
        );
    }
    // What was changed is in force from then on, and acted.
    let plan = Plan::read(&place.path("changed/config.toml")).unwrap();
    assert_eq!(
        (plan.data.cache_bytes, plan.log.keep_checkpoints),
        (1 << 20, 2),
        "{plan:?}"
    );
    let checkpoints = fs::read_dir(place.path("changed/checkpoints")).unwrap();
    assert_eq!(checkpoints.count(), 2, "two are kept");
}

#[test]
fn the_folder_is_enough_to_resume_a_finetuning() {
    let place = TestDir::new();
    succeeded(&place.begin(&["pretrain", "--out", "tap"]));
    let finetune = [
        "finetune",
        "--init",
        "tap",
        "--labels-per-class",
        "2",
        "--seed",
        "3",
    ];
    for run in ["whole", "run", "early"] {
        succeeded(&place.begin(&[&finetune[..], &["--out", run]].concat()));
    }
    place.interrupt("run");
    // Before its first checkpoint the encoder is needed again.
    place.interrupt("early");
    fs::remove_dir_all(place.path("early/checkpoints")).unwrap();
    succeeded(&place.run(&["finetune", "--out", "early", "--resume"]));
    fs::rename(place.path("tap"), place.path("moved")).unwrap();
    succeeded(&place.run(&["finetune", "--out", "run", "--resume"]));
    for run in ["run", "early"] {
        assert_eq!(place.losses(run), place.losses("whole"), "{run}");
        let file = |run: &str| place.read(&format!("{run}/model.safetensors"));
        assert_eq!(file(run), file("whole"), "{run}");
    }
    refused(
        &place.run(&["pretrain", "--out", "run", "--resume"]),
        &["a fine-tuning", "tap-train finetune"],
    );
    place.interrupt("early");
    fs::remove_dir_all(place.path("early/checkpoints")).unwrap();
    refused(&place.run(&["finetune", "--out", "early", "--resume"]), &["tap"]);
    place.interrupt("run");
    fs::rename(place.path("data"), place.path("elsewhere")).unwrap();
    refused(
        &place.run(&["finetune", "--out", "run", "--resume"]),
        &["not there any more", "--data"],
    );
    succeeded(&place.run(&["finetune", "--out", "run", "--resume", "--data", "elsewhere"]));
}

#[test]
fn what_changes_numbers_is_refused_by_name() {
    let place = TestDir::new();
    succeeded(&place.begin(&["pretrain", "--out", "run"]));
    place.interrupt("run");
    let before = place.files("run");
    let resume = |setting: &str| place.run(&["pretrain", "--out", "run", "--resume", "--set", setting]);
    refused(
        &resume("pretrain.steps=8"),
        &[
            "phase.num_steps (6, now 8)",
            "phase.schedule.curve.length (6.0, now 8.0)",
            "--continue-from",
        ],
    );
    refused(&resume("seed=5"), &["another seed (0, now 5)", "--out ANOTHER"]);
    refused(&resume("data.num_points=32"), &["data.num_points (64, now 32)"]);
    let without_lock = |files: BTreeMap<PathBuf, Vec<u8>>| -> BTreeMap<PathBuf, Vec<u8>> {
        files
            .into_iter()
            .filter(|(path, _)| !path.ends_with(".lock"))
            .collect()
    };
    assert!(
        without_lock(place.files("run")) == without_lock(before),
        "nothing is changed"
    );
    fs::create_dir(place.path("empty")).unwrap();
    refused(
        &place.run(&["pretrain", "--out", "empty", "--resume"]),
        &["--data is required"],
    );
}

#[test]
fn a_finished_run_is_left_as_it_is() {
    let place = TestDir::new();
    succeeded(&place.begin(&["pretrain", "--out", "tap"]));
    succeeded(&place.begin(&["finetune", "--out", "tuned"]));
    for (command, run, score) in [
        ("pretrain", "tap", "validation loss"),
        ("finetune", "tuned", "accuracy"),
    ] {
        let before = place.files(run);
        let resume = [command, "--out", run, "--resume"];
        for more in [&[][..], &["--set", "data.cache_mib=3"]] {
            let output = place.run(&[&resume[..], more].concat());
            let (text, notes) = (String::from_utf8_lossy(&output.stdout), succeeded(&output));
            assert_eq!((text.lines().count(), &*notes), (1, ""), "one line: {text}");
            assert!(
                text.starts_with("finished already") && text.contains(score),
                "{text}"
            );
            assert!(place.files(run) == before, "no byte is rewritten");
        }
        let output = place.run(&[&resume[..], &["--json"]].concat());
        let result: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            result,
            place.json(&format!("{run}/result.json")),
            "the result, as it is"
        );
    }
    refused(
        &place.run(&[
            "pretrain",
            "--out",
            "tap",
            "--resume",
            "--set",
            "pretrain.steps=9",
        ]),
        &["phase.num_steps (6, now 9)", "--continue-from"],
    );
    // It needs no data for that, nor its checkpoints; one without its last step is not finished.
    fs::rename(place.path("data"), place.path("elsewhere")).unwrap();
    fs::remove_dir_all(place.path("tuned/checkpoints")).unwrap();
    succeeded(&place.run(&["finetune", "--out", "tuned", "--resume"]));
}

#[test]
fn a_continued_run_says_what_it_is_of() {
    let place = TestDir::new();
    succeeded(&place.begin(&["pretrain", "--out", "short"]));
    let before = place.files("short");
    let extend = ["pretrain", "--continue-from", "short", "--out", "long"];
    let steps = ["--set", "pretrain.steps=8"];
    refused(&place.run(&extend), &["has taken 6 steps", "set more steps"]);
    refused(
        &place.run(&[&extend[..], &steps, &["--set", "data.num_points=32"]].concat()),
        &[
            "data.num_points (64, now 32)",
            "learning rate and optimizer may change",
        ],
    );
    assert!(!place.path("long").exists(), "nothing is begun");
    let output = place.run(&[&extend[..], &steps].concat());
    let text = succeeded(&output);
    assert!(
        text.contains("from step 6, with another phase.num_steps (6, now 8)"),
        "{text}"
    );
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("continued from step 6"),
        "{output:?}"
    );
    assert!(place.files("short") == before, "the other run stays as it is");
    let steps_of = |run: &str| {
        place
            .losses(run)
            .into_iter()
            .map(|(step, _)| step)
            .collect::<Vec<_>>()
    };
    assert_eq!(steps_of("long"), [7, 8], "its own steps");
    let result = place.json("long/result.json");
    let of = &result["continued_from"];
    assert_eq!(of["step"], 6, "{result}");
    assert_eq!(of["changed"][0], "phase.num_steps (6, now 8)", "{result}");
    assert_eq!(
        of["config_sha256"],
        place.json("short/result.json")["config_sha256"],
        "{result}"
    );
    let metrics = String::from_utf8(place.read("long/metrics.jsonl")).unwrap();
    assert!(
        metrics.starts_with("{\"kind\":\"continuation\",\"step\":6,\"num_steps\":8.0"),
        "{metrics}"
    );
    // The other run may have gone on in the meantime.
    let newer = place.path("short/checkpoints/step-0000000008");
    fs::create_dir(&newer).unwrap();
    for entry in fs::read_dir(place.path("long/checkpoints/step-0000000008")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), newer.join(entry.file_name())).unwrap();
    }
    // It is resumed like any other run; before its first checkpoint it needs that of the other run again.
    let (losses, weights) = (place.losses("long"), place.read("long/encoder.safetensors"));
    for is_there in [true, false] {
        fs::remove_dir_all(place.path("long/checkpoints/step-0000000008")).unwrap();
        fs::remove_file(place.path("long/result.json")).unwrap();
        if !is_there {
            fs::rename(place.path("short"), place.path("moved")).unwrap();
            refused(&place.run(&["pretrain", "--out", "long", "--resume"]), &["short"]);
            fs::rename(place.path("moved"), place.path("short")).unwrap();
        }
        succeeded(&place.run(&["pretrain", "--out", "long", "--resume"]));
        assert_eq!(place.losses("long"), losses, "the same losses");
        assert!(
            place.read("long/encoder.safetensors") == weights,
            "the same weights"
        );
        let again = String::from_utf8(place.read("long/metrics.jsonl")).unwrap();
        assert_eq!(again.matches("continuation").count(), 1, "{again}");
    }
}

#[test]
fn other_threads_are_told_and_recorded() {
    let place = TestDir::new();
    let text = succeeded(&place.begin(&["pretrain", "--out", "run"]));
    assert!(
        text.contains("on cpu with 1 thread; --threads 1 repeats its losses bit for bit"),
        "{text}"
    );
    place.interrupt("run");
    let text = succeeded(&place.run(&["pretrain", "--out", "run", "--resume", "--threads", "2"]));
    let notes: Vec<&str> = text.lines().filter(|line| line.contains("unbroken")).collect();
    let [note] = notes[..] else {
        panic!("one note: {text}")
    };
    assert!(
        note.contains("up to step 4") && note.contains("cpu with 1 thread, from here on cpu with 2 threads"),
        "{note}"
    );
    let result = place.json("run/result.json");
    let spans = serde_json::json!([
        {"first_step": 0, "num_threads": 1, "device": "cpu"},
        {"first_step": 4, "num_threads": 2, "device": "cpu"},
    ]);
    assert_eq!(result["compute"], spans, "{result}");
}

#[test]
fn a_run_of_an_earlier_version_is_resumed_by_repeating_its_command() {
    let place = TestDir::new();
    succeeded(&place.begin(&["pretrain", "--out", "run"]));
    let losses = place.losses("run");
    place.interrupt("run");
    fs::remove_file(place.path("run/request.toml")).unwrap();
    as_of_version_2(&place.path("run"));
    refused(
        &place.run(&["pretrain", "--out", "run", "--resume"]),
        &["--data is required", "request.toml"],
    );
    let resume = ["pretrain", "--out", "run", "--resume"];
    succeeded(&place.begin(&[&resume[..], &["--set", "log.keep_checkpoints=8"]].concat()));
    assert_eq!(place.losses("run"), losses, "the same losses");
    // Its older checkpoints are its own still, though `config.toml` has changed.
    for step in [4, 6] {
        let checkpoint = place.path(&format!("run/checkpoints/step-{step:010}"));
        if step == 6 {
            fs::remove_dir_all(checkpoint).unwrap();
        }
    }
    succeeded(&place.run(&resume));
    assert_eq!(place.losses("run"), losses, "the same losses");
}

/// Checkpoints that name their run as earlier versions did, by the hash of the whole plan.
fn as_of_version_2(run: &Path) {
    let hash = Plan::read(&run.join("config.toml")).unwrap().sha256();
    for checkpoint in fs::read_dir(run.join("checkpoints")).unwrap() {
        let file = checkpoint.unwrap().path().join("state.json");
        let mut state: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let fields = state.as_object_mut().unwrap();
        for name in ["compute", "files", "state_sha256"] {
            fields.remove(name);
        }
        fields.insert(String::from("format_version"), Value::from(1));
        fields.insert(String::from("plan_sha256"), Value::from(hash.clone()));
        fs::write(file, state.to_string()).unwrap();
    }
}

#[test]
fn the_folder_is_enough_to_resume_a_comparison() {
    let place = TestDir::new();
    succeeded(&place.begin(&["pretrain", "--out", "tap"]));
    let compare = [
        "compare",
        "--data",
        "data",
        "--init",
        "tap",
        "--out",
        "both",
        "--seeds",
        "1",
        "--labels-per-class",
        "2",
        "--set",
        "finetune.steps=2",
        "--set",
        "finetune.batch_size=4",
    ];
    succeeded(&place.run(&compare));
    let before = place.read("both/compare.json");
    fs::remove_file(place.path("both/compare.json")).unwrap();
    fs::remove_file(place.path("both/arms/tap-2-seed0/result.json")).unwrap();
    fs::create_dir(place.path("far")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tap-train"));
    command
        .current_dir(place.path("far"))
        .args(["compare", "--out", "../both", "--resume"]);
    succeeded(&command.output().unwrap());
    assert_eq!(
        place.json("both/compare.json")["settings"],
        serde_json::from_slice::<Value>(&before).unwrap()["settings"],
        "the same comparison"
    );
    // Finished, it is left as it is.
    let before = place.files("both");
    let output = place.run(&["compare", "--out", "both", "--resume"]);
    assert!(succeeded(&output).starts_with("finished already"), "{output:?}");
    assert!(place.files("both") == before, "no byte is rewritten");
    // A file of that name that is none of ours stays.
    fs::create_dir(place.path("mine")).unwrap();
    fs::write(place.path("mine/request.toml"), "name = 'mine'").unwrap();
    let mine = ["compare", "--data", "data", "--init", "tap", "--out", "mine"];
    refused(&place.run(&mine), &["mine/request.toml"]);
}
