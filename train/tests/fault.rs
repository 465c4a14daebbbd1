//! A step that is not finite stops the run, leaves what is known of it in a folder, and is taken again from there.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shape;
mod small;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;

use serde_json::Value;
use tap_dataset::{Dataset, Sample, ShardHeader, Split, ViewSelection, write_samples};
use tap_train::weights::safetensors::read_tensors;

/// Four steps an epoch, and a checkpoint of each.
const SETTINGS: [&str; 4] = [
    "pretrain.steps=12",
    "finetune.batch_size=6",
    "finetune.steps=12",
    "log={checkpoint_every=1,validate_every=0,num_images=0,keep_checkpoints=99}",
];
/// A training sample with a point that is no number in `data-nan`.
const BAD: &str = "box/0003";

/// A folder with a data set in `data`, and one with a bad sample in `data-nan`.
struct TestDir(tempfile::TempDir);

impl TestDir {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        shape::write(&place.path("data"), 6, 16, 96);
        place.change_data("data-nan", |sample| {
            if sample.id.as_str() == BAD {
                sample.points[5][1] = f32::NAN;
            }
        });
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn change_data(&self, name: &str, change: impl Fn(&mut Sample)) {
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
            classes: shape::CLASSES.map(String::from).to_vec(),
            parts: Vec::new(),
            recipe: serde_json::json!({}),
            adapter: serde_json::json!({}),
        };
        write_samples(&self.path(name), &header, 7, samples).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tap-train"));
        command.current_dir(self.0.path()).args(arguments);
        command.output().unwrap()
    }

    /// Trains with the settings, on one thread.
    fn train(&self, arguments: &[&str], settings: &[&str]) -> Output {
        let settings = small::NETWORK
            .iter()
            .chain(&SETTINGS)
            .chain(settings)
            .flat_map(|setting| ["--set", setting]);
        let of_machine = ["--device", "cpu", "--threads", "1"];
        self.run(
            &arguments
                .iter()
                .copied()
                .chain(of_machine)
                .chain(settings)
                .collect::<Vec<_>>(),
        )
    }

    /// The step of the one fault of a run, and the name of its folder.
    fn fault(&self, run: &str) -> (u64, String) {
        let names = fs::read_dir(self.path(run)).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let names: Vec<String> = names.filter(|name| name.starts_with("non-finite")).collect();
        let [name] = &names[..] else {
            panic!("one folder: {names:?}")
        };
        let step = name.strip_prefix("non-finite-").unwrap().parse().unwrap();
        (step, format!("{run}/{name}"))
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(name)).unwrap()).unwrap()
    }

    /// Step and loss of every training step, to the bit.
    fn losses(&self, run: &str) -> Vec<(u64, u64)> {
        let text = fs::read_to_string(self.path(run).join("metrics.jsonl")).unwrap();
        text.lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .filter(|line| line["kind"] == "step")
            .map(|line| {
                let loss = line["loss"].as_f64().unwrap();
                (line["step"].as_u64().unwrap(), loss.to_bits())
            })
            .collect()
    }
}

#[track_caller]
fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The one line of an error, which holds all of `parts`.
#[track_caller]
fn refused(output: &Output, parts: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
    let [error] = errors[..] else {
        panic!("one error: {text}")
    };
    for part in parts {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn a_bad_sample_stops_the_run_is_named_and_can_be_left_out() {
    let place = TestDir::new();
    succeeded(&place.train(&["pretrain", "--data", "data", "--out", "clean"], &[]));
    let output = place.train(&["pretrain", "--data", "data-nan", "--out", "run"], &[]);
    let (step, folder) = place.fault("run");
    let at = format!("at step {step}");
    refused(
        &output,
        &[
            "loss term '",
            &at,
            &format!("sample {BAD}"),
            "tap-train replay",
            &folder,
        ],
    );

    let fault = place.json(&format!("{folder}/fault.json"));
    assert_eq!(fault["suspects"], serde_json::json!([BAD]), "{fault}");
    assert_eq!(fault["first_non_finite"], format!("points of {BAD}"), "{fault}");
    assert_eq!(fault["loss"], "NaN", "{fault}");
    let ids = fault["ids"].as_array().unwrap();
    assert!(ids.len() == 4 && ids.contains(&Value::from(BAD)), "{fault}");
    assert!(fault["terms"][0]["weight"].is_number(), "{fault}");
    let tensors = fault["tensors"].as_object().unwrap();
    assert!(
        tensors.values().all(|norms| norms["weight"].is_number()),
        "weights of before the step are finite: {fault}"
    );
    assert!(
        tensors
            .values()
            .any(|norms| norms["gradient"]["num_non_finite"].as_u64() > Some(0)),
        "gradients: {fault}"
    );

    // Nothing of the step is in the state: weights, running statistics and moments are those of the run on data without
    // the fault.
    let before = format!("clean/checkpoints/step-{:010}", step - 1);
    for file in ["model.safetensors", "optimizer.safetensors"] {
        let [kept, clean] = [&folder, &before].map(|at| read_tensors(&place.path(at).join(file)).unwrap());
        if step > 1 {
            assert!(!clean.is_empty() && kept == clean, "{file}");
        }
    }
    assert_eq!(
        place.losses("run"),
        place.losses("clean")[..step as usize - 1],
        "up to there the runs are the same"
    );

    let text = succeeded(&place.run(&["replay", &folder]));
    for part in [
        &format!("step {step}"),
        BAD,
        "reproduced, every number to the bit",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let now: Value = serde_json::from_str(&succeeded(&place.run(&["replay", &folder, "--json"]))).unwrap();
    assert_eq!(now, fault, "the same again");
    // It is the sample: on data without the fault the step can be taken.
    fs::rename(place.path("data-nan"), place.path("away")).unwrap();
    refused(
        &place.run(&["replay", &folder, "--data", "data"]),
        &["the data is not that of the run"],
    );
    fs::rename(place.path("away"), place.path("data-nan")).unwrap();
    goes_on_without_it(&place, step, &folder);
}

/// The run goes on without the sample, as if it had never been there.
fn goes_on_without_it(place: &TestDir, step: u64, folder: &str) {
    let at = format!("at step {step}");
    // A run that is resumed comes to the same step.
    refused(
        &place.run(&["pretrain", "--out", "run", "--resume"]),
        &[&at, folder],
    );
    refused(
        &place.run(&["pretrain", "--out", "run", "--resume", "--leave-out", BAD]),
        &["data.leave_out", "--continue-from RUN"],
    );
    refused(
        &place.run(&[
            "pretrain",
            "--continue-from",
            folder,
            "--out",
            "on",
            "--leave-out",
            "box/9999",
        ]),
        &["data.leave_out", "box/9999"],
    );
    succeeded(&place.run(&[
        "pretrain",
        "--continue-from",
        folder,
        "--out",
        "on",
        "--leave-out",
        BAD,
    ]));
    let leave_out = format!("data.leave_out=['{BAD}']");
    succeeded(&place.train(&["pretrain", "--data", "data", "--out", "without"], &[&leave_out]));
    assert_eq!(
        place.losses("on"),
        place.losses("without")[step as usize - 1..],
        "as if the sample had been left out from the beginning"
    );
    assert_eq!(
        place.json("on/result.json")["leave_out"],
        serde_json::json!([BAD])
    );
    // The folder is one of the run's.
    succeeded(&place.train(&["pretrain", "--data", "data", "--out", "run", "--force"], &[]));
    assert!(!place.path(folder).exists(), "replaced with the run");
}

#[test]
fn a_finetuning_stops_too_and_the_last_checkpoint_can_be_gone_on_from() {
    let place = TestDir::new();
    let output = place.train(&["finetune", "--data", "data-nan", "--out", "run"], &[]);
    let (step, folder) = place.fault("run");
    refused(&output, &[&format!("at step {step}"), BAD, &folder]);
    let text = succeeded(&place.run(&["replay", &folder]));
    assert!(text.contains("every number to the bit"), "{text}");
    succeeded(&place.run(&[
        "finetune",
        "--continue-from",
        &folder,
        "--out",
        "on",
        "--leave-out",
        BAD,
    ]));
}

#[test]
fn terms_and_updates_that_overflow_are_named() {
    let place = TestDir::new();
    for (settings, what) in [
        (
            &["loss.foreground_weight=1e300"][..],
            "loss term 'foreground' is not finite at step 1",
        ),
        (
            &[
                "pretrain.learning_rate=1e39",
                "pretrain.warmup_fraction=0",
                "pretrain.warmup=0",
            ],
            "the update is not finite at step 1",
        ),
    ] {
        let train = ["pretrain", "--data", "data", "--out", "run", "--force"];
        refused(&place.train(&train, settings), &[what, "samples of the batch"]);
        let (_, folder) = place.fault("run");
        let text = succeeded(&place.run(&["replay", &folder]));
        assert!(text.contains("every number to the bit"), "{settings:?}: {text}");
    }
    refused(&place.run(&["replay", "data"]), &["fault.json", "data"]);
}
