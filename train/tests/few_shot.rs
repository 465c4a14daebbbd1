//! Few-shot episodes through the program: mean and deviation over folds, and a kill that costs no finished fold.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod program;
mod shape;
mod small;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use program::{last_error, modified, succeeded};
use serde_json::Value;

/// A folder with `episodes`, three folds of one setting and one of another, and `tap`, a pre-trained run.
struct TestDir(tempfile::TempDir);

impl TestDir {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (episode, per_class) in [
            ("3way_4shot/0", 4),
            ("3way_4shot/1", 4),
            ("3way_4shot/2", 4),
            ("3way_6shot/0", 6),
        ] {
            shape::write_points(&folder.path().join("episodes").join(episode), per_class, 96, &[]);
        }
        shape::write(&folder.path().join("data"), 3, 16, 96);
        let place = Self(folder);
        let pretrain = [
            "pretrain",
            "--data",
            "data",
            "--out",
            "tap",
            "--set",
            "pretrain.steps=2",
        ];
        succeeded(&place.train(&pretrain).output().unwrap());
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        program::command(self.0.path(), arguments)
    }

    fn train(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(arguments);
        command.args(["--threads", "1", "--device", "cpu"]);
        for setting in small::NETWORK {
            command.args(["--set", setting]);
        }
        command
    }

    /// Few-shot from `tap` with a short fine-tuning.
    fn few_shot(&self, more: &[&str]) -> Command {
        let mut command = self.command(&["few-shot", "--data", "episodes", "--init", "tap"]);
        for setting in ["finetune.steps=30", "finetune.batch_size=4", "data.num_points=64"] {
            command.args(["--set", setting]);
        }
        command.args(more);
        command
    }

    fn read(&self, name: &str) -> Value {
        program::json(&self.path(name))
    }
}

#[test]
fn a_kill_costs_no_finished_fold() {
    let place = TestDir::new();
    let out = ["--out", "few"];
    let mut process = place
        .few_shot(&out)
        .args(["--jobs", "1"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let first = place.path("few/folds/3way_4shot-0/result.json");
    let deadline = Instant::now() + Duration::from_mins(2);
    while !first.is_file() {
        assert!(Instant::now() < deadline, "the first fold never ended");
        std::thread::sleep(Duration::from_millis(20));
    }
    process.kill().unwrap();
    process.wait().unwrap();
    assert!(
        !place.path("few/few_shot.json").exists(),
        "no result of some of the folds"
    );
    let before = modified(&first);

    let text = last_error(&place.few_shot(&out).output().unwrap());
    assert!(text.contains("--resume"), "{text}");
    let other = place
        .few_shot(&["--out", "few", "--resume", "--head", "svm"])
        .output()
        .unwrap();
    assert!(
        last_error(&other).contains("--head"),
        "other folds than those that were begun"
    );

    // A child may still be writing its checkpoint, and holds the lock of its fold until then.
    let resume = || {
        place
            .command(&["few-shot", "--out", "few", "--resume"])
            .output()
            .unwrap()
    };
    let mut output = resume();
    while !output.status.success() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(200));
        output = resume();
    }
    let text = succeeded(&output);
    assert!(
        text.contains("3way_4shot") && text.contains("over 3 folds (published scores are means of ten)"),
        "{text}"
    );
    assert_eq!(modified(&first), before, "a finished fold is not run again");
    let result = place.read("few/few_shot.json");
    let folds = result["folds"].as_array().unwrap();
    assert_eq!(folds.len(), 4, "{result}");
    let of_setting: Vec<f64> = folds[..3]
        .iter()
        .map(|fold| fold["accuracy"].as_f64().unwrap())
        .collect();
    let mean = of_setting.iter().sum::<f64>() / 3.0;
    let summary = &result["settings"][0];
    assert_eq!(
        (summary["ways"].as_u64(), summary["shots"].as_u64()),
        (Some(3), Some(4)),
        "{result}"
    );
    assert!(
        (summary["accuracy"]["mean"].as_f64().unwrap() - mean).abs() < 1e-12,
        "{result}"
    );
    assert_eq!(result["selection"], "last step", "{result}");
    let own = place.read("few/folds/3way_4shot-1/result.json");
    assert_eq!(
        folds[1]["accuracy"], own["accuracy"],
        "the score of the fold's own run"
    );

    // The same numbers without a kill, whatever the number of jobs.
    succeeded(&place.few_shot(&["--out", "unbroken"]).output().unwrap());
    assert_eq!(place.read("unbroken/few_shot.json"), result);
}

#[test]
fn folds_are_probed_with_a_setting_that_training_objects_chose() {
    let place = TestDir::new();
    let svm = place.few_shot(&["--out", "svm", "--head", "svm", "--shots", "4"]);
    let mut svm = svm;
    let text = succeeded(&svm.output().unwrap());
    assert!(
        text.contains("training rows") && !text.contains("3way_6shot"),
        "{text}"
    );
    let result = place.read("svm/few_shot.json");
    assert_eq!(result["learner"]["probe"], "svm", "{result}");
    assert_eq!(result["folds"].as_array().unwrap().len(), 3, "{result}");
    let chosen = result["folds"][0]["chosen"].as_str().unwrap();
    assert!(chosen.contains("C = "), "{chosen}");

    // A fold whose result is gone is run again, the others are not.
    let [first, second] = [0, 1].map(|fold| place.path(&format!("svm/folds/3way_4shot-{fold}/probe.json")));
    let before = modified(&first);
    fs::remove_file(&second).unwrap();
    succeeded(
        &place
            .command(&["few-shot", "--out", "svm", "--resume"])
            .output()
            .unwrap(),
    );
    assert_eq!(modified(&first), before);
    assert_eq!(place.read("svm/few_shot.json"), result, "the same numbers");
}

#[test]
fn what_are_no_episodes_is_refused_in_one_line() {
    let place = TestDir::new();
    let few_shot = |data: &str, more: &[&str]| {
        let arguments = [&["few-shot", "--data", data, "--out", "out"], more].concat();
        let output = place.command(&arguments).output().unwrap();
        last_error(&output)
    };
    assert!(few_shot("data", &["--init", "tap"]).contains("tap dataset import fewshot DATA"));
    assert!(few_shot("episodes", &["--init", "tap", "--ways", "5"]).contains("5way_10shot/0"));
    assert!(few_shot("episodes", &["--head", "svm"]).contains("--init is required"));
    assert!(!place.path("out").exists(), "nothing was written");
}
