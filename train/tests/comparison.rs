//! Comparisons through the program: two encoders, part segmentation, few-shot episodes; each is resumed as it was asked for.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod program;
mod shape;
mod small;

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use program::{stderr, succeeded};
use serde_json::Value;

struct TestDir(tempfile::TempDir);

impl TestDir {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        shape::write_parts(&folder.path().join("data"), 4, 16, 64, &shape::CLASSES);
        let place = Self(folder);
        place.pretrain("tap", &[]);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        program::run(self.0.path(), arguments)
    }

    fn pretrain(&self, out: &str, settings: &[&str]) {
        self.pretrain_as(out, &[], settings);
    }

    fn pretrain_as(&self, out: &str, preset: &[&str], settings: &[&str]) {
        let pretrain = [
            "pretrain",
            "--data",
            "data",
            "--out",
            out,
            "--device",
            "cpu",
            "--threads",
            "1",
        ];
        let settings = small::NETWORK
            .iter()
            .chain(&["pretrain.steps=2", "log.num_images=0"])
            .chain(settings);
        let settings = settings.flat_map(|setting| ["--set", setting]);
        let preset = preset.iter().copied();
        let arguments: Vec<&str> = pretrain.into_iter().chain(preset).chain(settings).collect();
        succeeded(&self.run(&arguments));
    }

    fn compare(&self, arguments: &[&str]) -> Output {
        let compare = ["compare", "--jobs", "2", "--set", "log.validate_every=0"];
        let short = [
            "finetune.batch_size=3",
            "finetune.steps=2",
            "segment.batch_size=3",
            "segment.steps=2",
        ];
        let short: Vec<&str> = short.iter().flat_map(|setting| ["--set", setting]).collect();
        self.run(&[&compare[..], &short, arguments].concat())
    }

    fn json(&self, name: &str) -> Value {
        program::json(&self.path(name))
    }

    fn arms(&self, out: &str) -> Vec<String> {
        let arms = fs::read_dir(self.path(out).join("arms")).unwrap();
        let mut names: Vec<String> = arms
            .map(|arm| arm.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

#[track_caller]
fn said(output: &Output) -> (String, String) {
    (succeeded(output), stderr(output))
}

#[track_caller]
fn refused(output: &Output, exit_code: i32, words: &str) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(exit_code), "{text}");
    assert!(text.contains(words), "{words}: {text}");
}

#[test]
fn two_encoders_are_compared_each_with_its_own_sizes() {
    let place = TestDir::new();
    place.pretrain("wide", &["encoder.last={kind=\"per_token\",widths=[24]}"]);
    let compare = [
        "--data",
        "data",
        "--init",
        "tap",
        "--against",
        "wide",
        "--out",
        "both",
    ];
    let pairs = ["--labels-per-class", "2", "--seeds", "2"];
    let stdout = succeeded(&place.compare(&[&compare[..], &pairs].concat()));
    assert!(stdout.contains("wide ") && stdout.contains(", tap "), "{stdout}");
    let arms = [
        "against-2-seed0",
        "against-2-seed1",
        "init-2-seed0",
        "init-2-seed1",
    ];
    assert_eq!(place.arms("both"), arms);
    let result = place.json("both/compare.json");
    assert_eq!(
        (&result["init"], &result["against"]),
        (&"tap".into(), &"wide".into()),
        "{result}"
    );
    assert_ne!(result["init_sha256"], result["against_sha256"]);
    let plan = |arm: &str| fs::read_to_string(place.path("both/arms").join(arm).join("config.toml")).unwrap();
    assert!(
        plan("against-2-seed0").contains("widths = [24]") && !plan("init-2-seed0").contains("widths = [24]")
    );
    // Both arms of a pair learn from the same labels.
    let classes =
        |arm: &str| place.json(&format!("both/arms/{arm}/result.json"))["train_objects_per_class"].clone();
    assert_eq!(classes("against-2-seed1"), classes("init-2-seed1"));
    // A kill leaves some arms; the rest is made again from the folder alone.
    fs::remove_file(place.path("both/compare.json")).unwrap();
    fs::remove_dir_all(place.path("both/arms/against-2-seed1")).unwrap();
    succeeded(&place.run(&["compare", "--out", "both", "--resume"]));
    assert_eq!(
        place.json("both/compare.json")["settings"],
        result["settings"],
        "the same comparison"
    );
    let again = place.run(&["compare", "--out", "both", "--resume"]);
    assert!(said(&again).1.starts_with("finished already"));
    // A file in no run has the sizes of the other arm; a checkpoint is a starting point as well.
    fs::copy(
        place.path("tap/encoder.safetensors"),
        place.path("given.safetensors"),
    )
    .unwrap();
    let file = [
        "--data",
        "data",
        "--init",
        "given.safetensors",
        "--against",
        "tap/checkpoints/step-0000000002",
    ];
    let stdout = succeeded(
        &place.compare(
            &[
                &file[..],
                &["--out", "file", "--labels-per-class", "2", "--seeds", "1"],
            ]
            .concat(),
        ),
    );
    assert!(stdout.contains("tap/step-0000000002"), "{stdout}");
    let setting = &place.json("file/compare.json")["settings"][0];
    assert_eq!(
        setting["scratch"], setting["tap"],
        "the same weights give the same score: {setting}"
    );

    let same = [
        "--data",
        "data",
        "--init",
        "tap",
        "--against",
        "tap",
        "--out",
        "no",
    ];
    refused(&place.compare(&same), 1, "are the same");
    let gone = [
        "--data",
        "data",
        "--init",
        "tap",
        "--against",
        "gone",
        "--out",
        "no",
    ];
    refused(&place.compare(&gone), 1, "--against: there is no such file");
    assert!(!place.path("no").exists(), "nothing is written");
}

#[test]
fn settings_that_the_arms_differ_in_are_told_and_kept() {
    let place = TestDir::new();
    // Both have the same small network, and each the recipe of its own preset.
    place.pretrain_as(
        "other",
        &["--config", "paper-point-net2", "--set", "compat=code"],
        &["encoder.input=height"],
    );
    let compare = ["--data", "data", "--init", "tap", "--against", "other"];
    let pairs = ["--labels-per-class", "2", "--seeds", "1"];
    let (_, stderr) = said(&place.compare(&[&compare[..], &pairs, &["--out", "both"]].concat()));
    assert!(
        stderr.contains("finetune.learning_rate (0.001, 0.0005)"),
        "{stderr}"
    );
    let differences = place.json("both/compare.json")["differences"].clone();
    assert!(
        differences
            .to_string()
            .contains("finetune.learning_rate (0.001, 0.0005)"),
        "{differences}"
    );
    let same = ["--config", "mini", "--out", "same"];
    let network = small::NETWORK.iter().flat_map(|setting| ["--set", setting]);
    let same: Vec<&str> = same.into_iter().chain(network).collect();
    let (_, stderr) = said(&place.compare(&[&compare[..], &pairs, &same].concat()));
    assert!(!stderr.contains("with other settings"), "{stderr}");
    assert!(place.json("same/compare.json")["differences"].is_null());
}

#[test]
fn parts_and_episodes_are_compared_too() {
    let place = TestDir::new();
    let segment = [
        "--task", "segment", "--data", "data", "--init", "tap", "--out", "parts", "--seeds", "2",
    ];
    let stdout = succeeded(&place.compare(&segment));
    assert!(
        stdout.starts_with("mean IoU over objects in % on test"),
        "{stdout}"
    );
    assert_eq!(
        place.arms("parts"),
        [
            "scratch-all-seed0",
            "scratch-all-seed1",
            "tap-all-seed0",
            "tap-all-seed1"
        ]
    );
    let result = place.json("parts/compare.json");
    let score = |arm: &str| {
        place.json(&format!("parts/arms/{arm}/result.json"))["score"]["plain"]["instance_miou"].clone()
    };
    assert_eq!(
        result["settings"][0]["tap"][1],
        score("tap-all-seed1"),
        "{result}"
    );
    assert!(result["confusion"].is_null(), "there is none of parts: {result}");

    for fold in ["0", "1"] {
        let episode = place.path("episodes/3way_2shot").join(fold);
        fs::create_dir_all(&episode).unwrap();
        shape::write(&episode, 3, 16, 64);
    }
    let few = [
        "--task", "few-shot", "--data", "episodes", "--init", "tap", "--out", "few",
    ];
    let stdout = succeeded(&place.compare(&few));
    assert!(
        stdout.contains("over paired folds") && stdout.contains("3way_2shot: scratch"),
        "{stdout}"
    );
    let setting = &place.json("few/compare.json")["settings"][0];
    assert_eq!(setting["folds"], serde_json::json!([0, 1]), "{setting}");
    assert_eq!(
        place.arms("few"),
        [
            "scratch-3way_2shot-fold0",
            "scratch-3way_2shot-fold1",
            "tap-3way_2shot-fold0",
            "tap-3way_2shot-fold1"
        ]
    );
    let again = place.run(&["compare", "--out", "few", "--resume"]);
    assert!(said(&again).1.starts_with("finished already"));
    refused(
        &place.compare(&[&few[..6], &["--out", "no", "--seeds", "3"]].concat()),
        2,
        "--seeds is not for few-shot",
    );
}
