//! Settings and paths through the program: one that makes no sense is refused in one line that names it, before anything
//! is written.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shape;
mod small;

use std::path::Path;
use std::process::{Command, Output};

/// Steps of all runs.
const STEPS: [&str; 1] = ["pretrain.steps=2"];

fn run(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tap-train"));
    command.current_dir(folder).args(arguments);
    for setting in small::NETWORK.into_iter().chain(STEPS) {
        command.args(["--set", setting]);
    }
    command.output().unwrap()
}

/// The only line of what must be refused, with `out` not begun.
#[track_caller]
fn refused(folder: &Path, exit_code: i32, arguments: &[&str]) -> String {
    let output = run(folder, arguments);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(exit_code), "{text}");
    assert_eq!(text.lines().count(), 1, "one line: {text}");
    assert!(!folder.join("out").exists(), "nothing is written");
    text
}

#[test]
fn a_path_without_anything_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("there")).unwrap();
    let out = ["--out", "out"];
    for (arguments, words) in [
        (&["pretrain", "--data", "gone"][..], "--data: "),
        (&["pretrain", "--data", "there", "--init", "gone"], "--init: "),
        (
            &[
                "pretrain",
                "--data",
                "there",
                "--set",
                "loss.perceptual_network=gone",
            ],
            "loss.perceptual_network: ",
        ),
        (&["finetune", "--data", "gone"], "--data: "),
        (&["finetune", "--data", "there", "--init", "gone"], "--init: "),
        (&["finetune", "--data", "there", "--like", "gone"], "--like: "),
        (&["probe", "--data", "gone", "--init", "there"], "--data: "),
        (&["compare", "--data", "there", "--init", "gone"], "--init: "),
    ] {
        let text = refused(folder.path(), 1, &[arguments, &out].concat());
        assert!(text.contains(words) && text.contains("gone"), "{text}");
    }
    let config = ["pretrain", "--data", "there", "--out", "out", "--config", "gone"];
    assert!(refused(folder.path(), 2, &config).contains("--config: 'gone'"));
}

#[test]
fn a_number_out_of_range_is_a_wrong_command_line() {
    let folder = tempfile::tempdir().unwrap();
    for (command, setting, words) in [
        (
            "pretrain",
            "pretrain.learning_rate=nan",
            "pretrain.learning_rate = NaN",
        ),
        ("finetune", "head.dropout=2", "head.dropout = 2"),
    ] {
        let text = refused(
            folder.path(),
            2,
            &[command, "--data", ".", "--out", "out", "--set", setting],
        );
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn a_split_without_rows_and_images_of_another_size_have_a_way_out() {
    let folder = tempfile::tempdir().unwrap();
    shape::write(&folder.path().join("shards"), 3, 16, 64);
    let pretrain = ["pretrain", "--data", "shards", "--out", "out", "--device", "cpu"];
    let with = |setting| [&pretrain[..], &["--set", setting]].concat();
    let text = refused(folder.path(), 1, &with("data.evaluation_split=val"));
    for words in [
        "no row in split val",
        "--split-fractions 0.8,0.2",
        "--set data.evaluation_split=",
    ] {
        assert!(text.contains(words), "{text}");
    }
    let config = [
        &pretrain[..],
        &["--config", "mini-dgcnn", "--set", "photograph.query.grid=4"],
    ]
    .concat();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tap-train"));
    let output = command.current_dir(folder.path()).args(config).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    for words in [
        "64x64",
        "16x16",
        "tap dataset build --config mini-data",
        "--config paper-",
    ] {
        assert!(text.contains(words), "{text}");
    }
    let output = run(folder.path(), &with("data.train_splits=[\"train\",\"test\"]"));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() && text.contains("no objects are held out"),
        "{text}"
    );
}

#[test]
fn a_run_begins_with_the_settings_that_act() {
    let folder = tempfile::tempdir().unwrap();
    shape::write(&folder.path().join("shards"), 3, 16, 64);
    let with = |arguments: &[&str]| {
        let common = ["--data", "shards", "--device", "cpu", "--threads", "1"];
        let output = run(folder.path(), &[arguments, &common].concat());
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{text}");
        text
    };
    let line = |text: &str, table: &str| {
        let start = format!("  {table} ");
        let mut lines = text.lines().filter(|line| line.starts_with(&start));
        let line = lines.next().map(str::to_owned);
        assert!(lines.next().is_none(), "a line a table: {text}");
        line
    };
    let text = with(&["pretrain", "--out", "tap", "--set", "pretrain.shift=0.1"]);
    assert!(text.contains("settings: seed 0, preset mini (*"), "{text}");
    let phase = line(&text, "pretrain").unwrap();
    for setting in [
        "steps 2*",
        "batch_size 4*",
        "learning_rate 0.001,",
        "shift 0.1*",
        "scale [0.9, 1.1]",
    ] {
        assert!(phase.contains(setting), "{setting}: {phase}");
    }
    // What is switched off, or belongs to another task, is left out.
    for setting in [
        "ema_decay",
        "bf16",
        "accumulation_steps",
        "batch_norm",
        "milestone",
        "epochs",
        "class_weights",
        "select",
    ] {
        assert!(!phase.contains(setting), "{setting}: {phase}");
    }
    assert!(
        line(&text, "photograph").unwrap().contains("channels 16*"),
        "{text}"
    );
    assert!(
        line(&text, "loss").unwrap().contains("foreground_weight 20"),
        "{text}"
    );
    assert!(line(&text, "head").is_none(), "{text}");

    let tuned = [
        "finetune",
        "--init",
        "tap",
        "--out",
        "tuned",
        "--set",
        "finetune={batch_size=3,steps=2}",
    ];
    let rates = [
        "--set",
        "finetune.layer_decay=0.65",
        "--set",
        "loss.label_smoothing=0",
    ];
    let text = with(&[&tuned[..], &rates].concat());
    let phase = line(&text, "finetune").unwrap();
    assert!(
        phase.contains("layer_decay 0.65*") && phase.contains("select last"),
        "{phase}"
    );
    assert!(
        line(&text, "loss").unwrap().contains("label_smoothing 0*"),
        "switched off by the user: {text}"
    );
    assert!(line(&text, "head").unwrap().contains("widths [256]"), "{text}");
    assert!(
        line(&text, "encoder").unwrap().contains("kind point_net2"),
        "{text}"
    );
    for table in ["photograph", "decoder", "pretrain", "segment"] {
        assert!(line(&text, table).is_none(), "{table}: {text}");
    }
}
