//! The main job through the programs that users run: meshes, shards, a falling loss, a fine-tuned score.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod util;

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;
use util::{TestDir, has_trainer, start_unheard};

/// Enough for a loss to fall far; no more than a test may take.
const STEPS: &str = "pretrain.steps=80";

#[test]
fn meshes_become_a_score() {
    if !has_trainer() {
        return;
    }
    let place = TestDir::new();
    place.run(&["doctor"]).succeeds();
    place.synthesize(4, 10);
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/presets/mini-data.toml");
    place
        .run(&["dataset", "build", "meshes", "--recipe", recipe, "--out", "data"])
        .succeeds();

    let pretrain = [
        "train", "pretrain", "--data", "data", "--out", "run", "--config", "mini", "--set", STEPS,
    ];
    place.run(&pretrain).succeeds();
    let losses = losses(&place.files("run")["metrics.jsonl"]);
    let quarter = losses.len() / 4;
    assert!(quarter > 0, "too few steps were recorded: {losses:?}");
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    let (first, last) = (mean(&losses[..quarter]), mean(&losses[losses.len() - quarter..]));
    assert!(
        last < 0.9 * first,
        "the loss does not fall: {first} in the first quarter, {last} in the last"
    );
    let result: Value = serde_json::from_slice(&place.files("run")["result.json"]).unwrap();
    let loss = |name: &str| result[name].as_f64().unwrap();
    assert!(
        loss("validation_loss") < loss("constant_loss"),
        "no better than the best single gray: {result:#}"
    );
    assert!(
        place.path("run/samples/final.png").is_file(),
        "generated views are there to look at"
    );

    let finetune = [
        "train", "finetune", "--task", "classify", "--data", "data", "--init", "run", "--out", "tuned",
    ];
    place
        .run(&[&finetune[..], &["--set", "finetune.steps=40"]].concat())
        .succeeds();
    let score = place
        .run(&["train", "evaluate", "--run", "tuned", "--data", "data", "--json"])
        .succeeds()
        .json();
    let accuracy = score["accuracy"].as_f64().unwrap();
    assert!(
        accuracy > 0.3,
        "no better than guessing among four classes: {score:#}"
    );

    let inspection = place
        .run(&["dataset", "inspect", "data", "--json"])
        .succeeds()
        .json();
    assert_eq!(
        score["data_sha256"], inspection["sha256"],
        "the score names the data it was measured on"
    );
}

/// Killed again and again, by a signal that nobody can catch, and then let through.
#[test]
fn features_of_a_network_lie_beside_the_rows() {
    if !has_trainer() {
        return;
    }
    let place = TestDir::new();
    place.synthesize(2, 4);
    for data in ["whole", "killed"] {
        let sizes = ["--set", "render.size_px=64", "--set", "rows_per_shard=2"];
        let build = ["dataset", "build", "meshes", "--out", data];
        place.run(&[&build[..], &sizes].concat()).succeeds();
    }
    let model = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/train/tests/image_encoder/timm_registers.safetensors"
    );
    let features = |data| {
        [
            "dataset",
            "features",
            data,
            "--model",
            model,
            "--out",
            "tiny",
            "--size",
            "56",
            "--device",
            "cpu",
            "--threads",
            "1",
        ]
    };
    place.run(&features("whole")).succeeds();
    // As soon as there is another file.
    for num_files in 1..=3 {
        let mut child = start_unheard(&mut place.command(&features("killed")));
        let set = place.path("killed/__features/tiny");
        let has_file = || fs::read_dir(&set).is_ok_and(|files| files.count() > num_files);
        while !has_file() && child.try_wait().unwrap().is_none() {
            sleep(Duration::from_millis(2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    place.run(&features("killed")).succeeds();
    let files = |data: &str| place.files(&format!("{data}/__features/tiny"));
    assert!(files("whole").len() > 2, "several shards");
    assert_eq!(files("killed"), files("whole"));
    place.run(&["dataset", "verify", "killed"]).succeeds();
    let inspection = place
        .run(&["dataset", "inspect", "killed", "--json"])
        .succeeds()
        .json();
    let set = &inspection["feature_sets"][0];
    assert_eq!(set["network"], "DINOv2 ViT-2x128/14", "{set}");
    assert_eq!(set["layout"]["num_views"], 12, "{set}");
}

/// The demo, cut down: every stage runs, the table is printed, the report stands alone.
#[test]
fn the_demo_ends_with_a_report() {
    if !has_trainer() {
        return;
    }
    let place = TestDir::new();
    let demo = [
        "demo",
        "--out",
        "demo",
        "--classes",
        "3",
        "--per-class",
        "15",
        "--steps",
        "20",
        "--seeds",
        "2",
    ];
    let outcome = place
        .run(
            &[
                &demo[..],
                &[
                    "--labels-per-class",
                    "5",
                    "--set",
                    "finetune.steps_by_labels.5=15",
                ],
            ]
            .concat(),
        )
        .succeeds();
    for part in [
        "synthesize",
        "views/s",
        "frozen SVM, 5 labels",
        "fine-tuned, 5 labels",
        "demo/report.html",
    ] {
        assert!(outcome.stdout.contains(part), "{part} is missing: {outcome:#?}");
    }
    let page = String::from_utf8(place.files("demo")["report.html"].clone()).unwrap();
    assert!(
        page.contains("data:image/png;base64,") && page.contains("<polyline"),
        "pictures and curves are in it"
    );
    assert!(
        !page.contains("http:") && !page.contains("https:"),
        "it needs nothing from elsewhere"
    );
    place.run(&demo).fails_with(&["--force", "demo"]);

    let forced = [&demo[..], &["--force"]].concat();
    for name in [
        "thesis.tex",
        "data/notes.txt",
        "pretrain/samples/mine.txt",
        "meshes/a.obj",
    ] {
        let path = place.write(&format!("demo/{name}"), "mine");
        let before = place.files("demo");
        place.run(&forced).fails_with(&[name]);
        assert!(place.files("demo") == before, "{name}: nothing was touched");
        fs::remove_file(path).unwrap();
    }
    // All that a demo has written is known: it is removed, and the new one stops only at its own steps.
    let stopped = [&forced[..], &["--set", "pretrain.no_such_setting=1"]].concat();
    let outcome = place.run(&stopped);
    assert_eq!(outcome.code, Some(1), "{outcome:#?}");
    assert!(outcome.stderr.contains("'pre-train' failed"), "{outcome:#?}");
    assert!(!place.path("demo/report.html").exists(), "the old demo is gone");
    let mine = place.write("mine/demo.toml", "my = 'demo'");
    let elsewhere = ["demo", "--out", "mine", "--force"];
    place.run(&elsewhere).fails_with(&["not a demo's folder", "mine"]);
    assert_eq!(fs::read(mine).unwrap(), b"my = 'demo'");
}

#[test]
fn a_trainer_without_data_says_so_in_one_line() {
    if !has_trainer() {
        return;
    }
    let place = TestDir::new();
    place
        .run(&["train", "pretrain", "--data", "nowhere", "--out", "run"])
        .fails_with(&["nowhere"]);
    assert!(!place.path("run").exists(), "nothing half-made");
}

/// The training losses of a `metrics.jsonl`.
fn losses(metrics: &[u8]) -> Vec<f64> {
    let lines = std::str::from_utf8(metrics).unwrap().lines();
    let records = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    records
        .filter(|record| record["kind"] == "step")
        .map(|record| record["loss"].as_f64().unwrap())
        .collect()
}
