//! A number is of what it says, and a file that is damaged or not finite is found, through the program: unfinished runs,
//! other classes, fewer labels than asked for, changed bytes, and losses that are no number.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../build/commit.rs"]
mod commit;
mod shape;
mod small;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use serde_json::Value;
use tap_dataset::{Dataset, ObjectId, Sample, ShardHeader, Split, ViewSelection, write_samples};
use tap_train::config::Plan;
use tap_train::run::weights::{RunWeights, WeightChoice};
use tap_train::weights::safetensors::{read_metadata, read_tensors, write_tensors};

/// Checkpoints at steps 4, 8 and 12.
const SETTINGS: [&str; 5] = [
    "pretrain.steps=12",
    "finetune.batch_size=6",
    "finetune.steps=12",
    "finetune.ema_decay=0.9",
    "log={checkpoint_every=4,validate_every=6,keep_checkpoints=9}",
];

/// A folder with a data set in `data`.
struct TestDir(tempfile::TempDir);

impl TestDir {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        shape::write(&folder.path().join("data"), 6, 16, 96);
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs the program in the folder.
    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tap-train"));
        command.current_dir(self.0.path()).args(arguments);
        command.args(["--threads", "1"]).output().unwrap()
    }

    /// Trains with the settings.
    fn train(&self, arguments: &[&str], settings: &[&str]) -> Output {
        let settings = small::NETWORK
            .iter()
            .chain(&SETTINGS)
            .chain(settings)
            .flat_map(|setting| ["--set", setting]);
        self.run(&arguments.iter().copied().chain(settings).collect::<Vec<_>>())
    }

    /// A fine-tuned run as a kill after its second checkpoint leaves it.
    fn unfinished(&self, name: &str) {
        succeeded(&self.train(&["finetune", "--data", "data", "--out", name], &[]));
        for file in ["model.safetensors", "result.json"] {
            fs::remove_file(self.path(name).join(file)).unwrap();
        }
        fs::remove_dir_all(self.path(name).join("checkpoints/step-0000000012")).unwrap();
    }

    /// The data set again, each sample changed.
    fn change_data(&self, name: &str, classes: &[&str], change: impl Fn(&mut Sample)) {
        let dataset = Arc::new(Dataset::open(&self.path("data")).unwrap());
        let mut samples = Vec::new();
        for split in Split::ALL {
            for row in 0..dataset.len(split) {
                let mut sample = dataset.read(split, row, ViewSelection::All).unwrap();
                change(&mut sample);
                samples.push((split, sample));
            }
        }
        let header = ShardHeader {
            layout: dataset.layout(),
            classes: classes.iter().map(|&class| class.to_owned()).collect(),
            parts: Vec::new(),
            recipe: serde_json::json!({}),
            adapter: serde_json::json!({}),
        };
        write_samples(&self.path(name), &header, 7, samples).unwrap();
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn json(output: &Output) -> Value {
    serde_json::from_str(&succeeded(output)).unwrap()
}

/// The one line of an error, which holds all of `parts`.
fn refused(output: &Output, parts: &[&str]) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
    let [error] = errors[..] else {
        panic!("one error: {text}")
    };
    for part in parts {
        assert!(error.contains(part), "{part}: {error}");
    }
}

/// Flips bits near the end, among the numbers.
fn flip_byte(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let place = bytes.len() - 7;
    bytes[place] ^= 0x42;
    fs::write(path, bytes).unwrap();
}

#[test]
fn an_unfinished_run_is_scored_only_by_name() {
    let place = TestDir::new();
    place.unfinished("run");
    let evaluate = ["evaluate", "--run", "run", "--data", "data", "--json"];
    refused(
        &place.run(&evaluate),
        &[
            "not finished",
            "step 8 of 12",
            "--resume",
            "--checkpoint 8",
            "--checkpoint latest",
        ],
    );
    let score = |checkpoint| json(&place.run(&[&evaluate[..], &["--checkpoint", checkpoint]].concat()));
    let (latest, fourth) = (score("latest"), score("4"));
    assert_eq!(
        (&latest["num_steps"], &latest["selection"]),
        (
            &Value::from(8),
            &Value::from("checkpoint of step 8 of 12, moving average")
        ),
        "{latest}"
    );
    assert_eq!(fourth["num_steps"], 4, "{fourth}");
    assert_eq!(
        fourth["selection"], "checkpoint of step 4 of 12, moving average",
        "{fourth}"
    );
    refused(
        &place.run(&[&evaluate[..], &["--checkpoint", "5"]].concat()),
        &["no checkpoint of step 5", "4, 8"],
    );
    // The average is what is scored, as the words say.
    let run = place.path("run");
    let plan = Plan::read(&run.join("config.toml")).unwrap();
    let weights = RunWeights::read(&run, &plan, &WeightChoice::Latest, &mut |_| {}).unwrap();
    assert!(
        weights.file.ends_with("step-0000000008/ema.safetensors"),
        "{weights:?}"
    );

    // Who starts from such a run gets a note, and the average too.
    let probe = [
        "probe",
        "--data",
        "data",
        "--init",
        "run",
        "--out",
        "probe",
        "--random-inits",
        "0",
    ];
    let text = stderr(&place.train(&[&probe[..], &["--labels-per-class", "2"]].concat(), &[]));
    assert!(
        text.contains("not finished") && text.contains("step 8 of 12") && text.contains("ema.safetensors"),
        "{text}"
    );

    let resume = ["finetune", "--data", "data", "--out", "run", "--resume"];
    succeeded(&place.train(&resume, &[]));
    let finished = json(&place.run(&evaluate));
    assert_eq!(finished["num_steps"], 12, "{finished}");
    assert_eq!(finished["selection"], "last step, moving average", "{finished}");
}

#[test]
fn other_classes_are_refused_for_checkpoints_too() {
    let place = TestDir::new();
    place.unfinished("run");
    let others = ["fish", "gun", "plant"];
    place.change_data("others", &others, |sample| {
        let class = others[sample.label as usize];
        let name = sample.id.as_str().split('/').next_back().unwrap().to_owned();
        sample.id = ObjectId::try_new(class, &name).unwrap();
        sample.category = class.to_owned();
    });
    let evaluate = |data, checkpoint| {
        place.run(&[
            "evaluate",
            "--run",
            "run",
            "--data",
            data,
            "--checkpoint",
            checkpoint,
        ])
    };
    refused(
        &evaluate("others", "latest"),
        &["other classes (ball, box, cone)", "others"],
    );
    // A checkpoint of an earlier version names none: then only its own data will do.
    let folder = place.path("run/checkpoints/step-0000000008");
    let state: Value = serde_json::from_slice(&fs::read(folder.join("state.json")).unwrap()).unwrap();
    let mut state = state.as_object().unwrap().clone();
    state.remove("files");
    state.remove("state_sha256");
    state.insert(String::from("format_version"), Value::from(1));
    fs::write(folder.join("state.json"), Value::from(state).to_string()).unwrap();
    for name in ["model.safetensors", "ema.safetensors"] {
        let mut metadata = read_metadata(&folder.join(name)).unwrap();
        metadata.retain(|key, _| key == "plan_sha256");
        let tensors = read_tensors(&folder.join(name)).unwrap().into_iter().collect();
        write_tensors(&folder.join(name), tensors, &metadata).unwrap();
    }
    refused(&evaluate("others", "8"), &["do not say which classes"]);
    succeeded(&evaluate("data", "8"));
}

#[test]
fn labels_are_those_that_were_there() {
    let place = TestDir::new();
    let finetune = [
        "finetune",
        "--data",
        "data",
        "--out",
        "run",
        "--labels-per-class",
        "50",
    ];
    let line = succeeded(&place.train(&finetune, &[]));
    assert!(line.contains("trained on 6 objects a class, not 50"), "{line}");
    let result: Value = serde_json::from_slice(&fs::read(place.path("run/result.json")).unwrap()).unwrap();
    assert_eq!(result["labels_per_class"], 50, "what was asked for: {result}");
    let six = serde_json::json!([6, 6, 6]);
    assert_eq!(result["train_objects_per_class"], six, "what was there: {result}");
    let evaluate = ["evaluate", "--run", "run", "--data", "data"];
    let again = json(&place.run(&[&evaluate[..], &["--json"]].concat()));
    assert_eq!(again["train_objects_per_class"], six, "from the weights: {again}");
    let line = succeeded(&place.run(&evaluate));
    assert!(
        line.contains("not 50") && line.contains("moving average"),
        "{line}"
    );
}

#[test]
fn a_damaged_checkpoint_gives_way_to_the_one_before() {
    let place = TestDir::new();
    let pretrain = |out, more: &[&str]| {
        place.train(
            &[&["pretrain", "--data", "data", "--out", out][..], more].concat(),
            &[],
        )
    };
    succeeded(&pretrain("whole", &[]));
    succeeded(&pretrain("run", &[]));
    let checkpoint = |step| place.path(&format!("run/checkpoints/step-{step:010}"));
    flip_byte(&checkpoint(12).join("model.safetensors"));
    let state = checkpoint(8).join("state.json");
    let whole_state = fs::read(&state).unwrap();
    fs::write(&state, &whole_state[..60]).unwrap();
    let output = pretrain("run", &["--resume"]);
    succeeded(&output);
    let text = stderr(&output);
    let notes: Vec<&str> = text.lines().filter(|line| line.contains("damaged")).collect();
    assert_eq!(notes.len(), 1, "{text}");
    assert!(text.starts_with(notes[0]), "before anything else: {text}");
    for part in [
        "step-0000000012: model.safetensors",
        "step-0000000008: state.json",
        "going on from that of step 4",
    ] {
        assert!(notes[0].contains(part), "{part}: {text}");
    }
    for file in ["encoder.safetensors", "samples/final.png"] {
        let read = |run: &str| fs::read(place.path(run).join(file)).unwrap();
        assert_eq!(read("whole"), read("run"), "{file}");
    }
    let lines = |run: &str| {
        let text = fs::read_to_string(place.path(run).join("metrics.jsonl")).unwrap();
        text.lines().count()
    };
    assert_eq!(lines("whole"), lines("run"), "every record once");

    for step in [4, 8, 12] {
        fs::remove_file(checkpoint(step).join("optimizer.safetensors")).unwrap();
    }
    let output = pretrain("run", &["--resume"]);
    refused(
        &output,
        &["no checkpoint is whole", "step-0000000012", "step-0000000004"],
    );
    assert_eq!(stderr(&output).lines().count(), 1, "before any other work");

    let init = ["finetune", "--data", "data", "--init", "whole", "--out", "tuned"];
    flip_byte(&place.path("whole/encoder.safetensors"));
    refused(&place.train(&init, &[]), &["SHA-256", "encoder.safetensors"]);
}

#[test]
fn weights_that_are_not_finite_are_refused_by_name() {
    let place = TestDir::new();
    succeeded(&place.train(&["finetune", "--data", "data", "--out", "run"], &[]));
    let path = place.path("run/model.safetensors");
    let metadata = read_metadata(&path).unwrap();
    let mut tensors = read_tensors(&path).unwrap();
    let name = "prediction.head.0.1.running_var";
    let variance = tensors.get_mut(name).unwrap();
    *variance = variance.full_like(f64::NAN);
    write_tensors(&path, tensors.into_iter().collect(), &metadata).unwrap();
    refused(
        &place.run(&["evaluate", "--run", "run", "--data", "data"]),
        &[name, "not finite", "model.safetensors"],
    );
    let init = ["finetune", "--data", "data", "--init", "run", "--out", "other"];
    refused(&place.train(&init, &[]), &[name]);
    let single = ["finetune.batch_size=17", "finetune.tail=keep"];
    refused(
        &place.train(&["finetune", "--data", "data", "--out", "single"], &single),
        &[
            "batch_size = 17",
            "over 18 training objects",
            "a batch of a single sample",
            "carry",
        ],
    );
}

#[test]
fn a_loss_that_is_no_number_is_kept_and_told() {
    let place = TestDir::new();
    place.change_data("data-nan", &shape::CLASSES, |sample| {
        // An object of the test split.
        if sample.id.as_str() == "box/0007" {
            sample.points[1][0] = f32::NAN;
        }
    });
    let pretrain = |more: &[&str]| {
        place.train(
            &[&["pretrain", "--data", "data-nan", "--out", "run"][..], more].concat(),
            &[],
        )
    };
    let output = pretrain(&[]);
    succeeded(&output);
    let text = stderr(&output);
    assert_eq!(
        text.matches("warning: the validation loss of step").count(),
        2,
        "steps 6 and 12: {text}"
    );
    let metrics = || fs::read_to_string(place.path("run/metrics.jsonl")).unwrap();
    let before = metrics();
    assert_eq!(before.lines().count(), 14, "{before}");
    assert!(before.contains("\"loss\":\"NaN\""), "{before}");
    let result: Value = serde_json::from_slice(&fs::read(place.path("run/result.json")).unwrap()).unwrap();
    assert_eq!(result["validation_loss"], "NaN", "{result}");
    // From the checkpoint of step 8, behind such a record.
    fs::remove_dir_all(place.path("run/checkpoints/step-0000000012")).unwrap();
    succeeded(&pretrain(&["--resume"]));
    let kinds = |text: &str| -> Vec<(Value, Value)> {
        let lines = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines
            .map(|line| (line["kind"].clone(), line["step"].clone()))
            .collect()
    };
    assert_eq!(kinds(&metrics()), kinds(&before), "no line is lost");
    // No class is the likeliest of none.
    refused(
        &place.train(&["finetune", "--data", "data-nan", "--out", "tuned"], &[]),
        &["output is not finite", "box/0007"],
    );
}

#[test]
fn the_commit_of_the_sources_is_named_and_changes_to_them_are_marked() {
    let folder = tempfile::tempdir().unwrap();
    let package = folder.path().join("train");
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .arg("-C")
            .arg(folder.path())
            .args(["-c", "user.name=a", "-c", "user.email=a@b"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    fs::create_dir_all(package.join("src")).unwrap();
    assert_eq!(commit::describe(&package), None, "no repository");
    for (file, text) in [
        ("train/Cargo.toml", "[package]"),
        ("train/src/lib.rs", "//! One."),
        ("notes.md", "One."),
    ] {
        fs::write(folder.path().join(file), text).unwrap();
    }
    git(&["init", "--quiet"]);
    assert_eq!(commit::describe(&package), None, "not part of it");
    git(&["add", "."]);
    git(&["commit", "--quiet", "-m", "One"]);
    let first = git(&["rev-parse", "HEAD"]);
    assert_eq!(commit::describe(&package).as_deref(), first.get(..12));
    fs::write(folder.path().join("notes.md"), "Two.").unwrap();
    assert_eq!(
        commit::describe(&package).as_deref(),
        first.get(..12),
        "no part of the program"
    );
    fs::write(package.join("src/lib.rs"), "//! Two.").unwrap();
    let dirty = format!("{}-dirty", &first[..12]);
    assert_eq!(commit::describe(&package), Some(dirty), "changed");
    git(&["commit", "--quiet", "-am", "Two"]);
    assert_ne!(
        commit::describe(&package).as_deref(),
        first.get(..12),
        "the next commit"
    );
    let watched = commit::watched(&package);
    for file in [".git/logs/HEAD", "train/src"] {
        assert!(
            watched.iter().any(|path| path.ends_with(file)),
            "{file}: {watched:?}"
        );
    }
    assert!(watched.iter().all(|path| path.exists()), "{watched:?}");
}
