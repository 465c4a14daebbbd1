//! Part segmentation through the program: pre-trained weights in, a score out, and the same score again from the file.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shape;

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tap_train::weights::safetensors::{read_tensors, write_tensors};
use tch::Tensor;

/// Small networks on small clouds.
const SETTINGS: [&str; 7] = [
    "data.num_points=96",
    "data.num_views=2",
    "photograph.channels=16",
    "photograph.query.grid=2",
    "decoder.layers=[{channels=8,stride=2},{channels=4,stride=2},{channels=1,stride=2}]",
    "pretrain={batch_size=4,steps=4}",
    "segment={batch_size=6,steps=40,learning_rate=5e-3}",
];
const POINT_MLP: [&str; 4] = [
    "encoder.kind=point_mlp",
    "encoder.channels=8",
    "encoder.bottleneck=0.5",
    "encoder.stages=[{reduction=2,num_neighbors=6,expansion=2,num_pre_blocks=1,num_pos_blocks=1},{reduction=2,num_neighbors=6,expansion=2,num_pre_blocks=1,num_pos_blocks=1}]",
];
const TRANSFORMER: [&str; 8] = [
    "encoder.kind=transformer",
    "encoder.num_groups=12",
    "encoder.num_neighbors=8",
    "encoder.radius=0.5",
    "encoder.channels=24",
    "encoder.num_blocks=3",
    "encoder.num_heads=2",
    "encoder.group_widths=[16,32]",
];

fn tap_train(folder: &Path, arguments: &[&str], settings: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tap-train"));
    command.current_dir(folder).args(arguments);
    for setting in settings {
        command.args(["--set", setting]);
    }
    command.output().unwrap()
}

fn json(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn miou(result: &Value) -> f64 {
    result["score"]["plain"]["instance_miou"].as_f64().unwrap()
}

/// Pre-trains, segments from those weights, evaluates; returns what the program noted about the weights.
fn from_pretraining_to_a_score(folder: &Path, encoder: &[&str]) -> String {
    let settings = [&SETTINGS[..], encoder].concat();
    let common = ["--data", "data", "--threads", "1"];
    let pretrain = [&["pretrain", "--out", "tap", "--json"], &common[..]].concat();
    json(&tap_train(folder, &pretrain, &settings));
    let finetune = ["finetune", "--task", "segment", "--init", "tap", "--json"];
    let run = |out: &str, more: &[&str]| {
        let arguments = [&finetune[..], &["--out", out], &common[..]].concat();
        tap_train(folder, &arguments, &[&settings, more].concat())
    };
    let untrained = miou(&json(&run("untrained", &["segment.steps=0"])));
    let output = run("parts", &[]);
    let result = json(&output);
    assert!(
        miou(&result) > 0.75 && miou(&result) > untrained + 0.2,
        "halves are distinguished: {untrained} to {result}"
    );
    let classes = result["score"]["plain"]["by_class"].as_array().unwrap();
    assert_eq!(classes.len(), 3, "every class has its score: {result}");

    let evaluate = [&["evaluate", "--run", "parts", "--json"], &common[..]].concat();
    let again = json(&tap_train(folder, &evaluate, &[]));
    assert_eq!(
        again["score"], result["score"],
        "the saved weights give the same score"
    );
    for rule in ["augmented", "published"] {
        let voted = [&evaluate, &["--votes", "2", "--vote-rule", rule][..]].concat();
        let voted = json(&tap_train(folder, &voted, &[]));
        assert_eq!(voted["votes"], 2, "{voted}");
        assert_eq!(voted["vote_rule"], rule, "{voted}");
        assert!(
            (miou(&voted) - miou(&result)).abs() < 0.2,
            "votes are of the same points: {voted}"
        );
    }
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn point_mlp_takes_all_of_its_encoder_but_the_input() {
    let folder = tempfile::tempdir().unwrap();
    shape::write_parts(&folder.path().join("data"), 8, 16, 96, &shape::CLASSES);
    let encoder = [&POINT_MLP[..], &["data.point_choice=farthest"]].concat();
    let note = from_pretraining_to_a_score(folder.path(), &encoder);
    assert!(
        note.contains(
            "1 of another shape, at random as well (embedding.net.0.weight: [8, 4, 1] in the file, [8, 6, 1]"
        ),
        "positions and normals instead of positions and heights: {note}"
    );
    assert!(!note.contains("without use"), "{note}");
    audit_gives_the_score_of_the_run(folder.path(), &encoder);
}

/// The network of `parts`, in a file of PyTorch's.
fn audit_gives_the_score_of_the_run(folder: &Path, encoder: &[&str]) {
    let export = ["export", "parts", "--whole", "--out", "parts.pth", "--json"];
    json(&tap_train(folder, &export, &[]));
    let settings = [&SETTINGS[..], encoder].concat();
    let audit = [
        "audit",
        "parts.pth",
        "--task",
        "segment",
        "--json",
        "--claim",
        "86.9",
    ];
    let common = ["--data", "data", "--threads", "1"];
    let voted = ["--votes", "2", "--vote-rule", "published", "--refine"];
    let audit = [&audit[..], &common, &voted, &["--config", "mini"]].concat();
    let audited = json(&tap_train(folder, &audit, &settings));
    let evaluate = [&["evaluate", "--run", "parts", "--json"], &common[..]].concat();
    let plain = json(&tap_train(folder, &evaluate, &[]));
    assert_eq!(audited["score"], plain["score"], "one pass, no clean-up");
    let evaluated = json(&tap_train(folder, &[&evaluate, &voted[..]].concat(), &[]));
    assert_eq!(audited["voted"]["score"], evaluated["score"], "{audited}");
    assert_eq!(
        audited["voted"]["votes_average"], "log-probabilities",
        "{audited}"
    );
    let claim = &audited["audit"]["claim"];
    assert_eq!(claim["measure"], "instance_miou", "{claim}");
    let expected = 100.0 * miou(&plain) - 86.9;
    assert!(
        (claim["difference"].as_f64().unwrap() - expected).abs() < 1e-9,
        "{claim}"
    );

    write_in_another_order(folder);
    let others = [&["audit", "others.safetensors"], &audit[2..]].concat();
    let others = json(&tap_train(folder, &others, &settings));
    assert_eq!(others["score"], plain["score"], "{others}");
}

/// Writes the network of `parts` as if its classes, of two parts each, had been cone, ball and box, and under the names of
/// Point-MAE's code where it has such a network.
fn write_in_another_order(folder: &Path) {
    let sorted = read_tensors(&folder.join("parts/model.safetensors")).unwrap();
    let is_of_point_mae = sorted.contains_key("segmentor.convs3.weight");
    let order = |axis: i64, places: &[i64]| {
        let places = Tensor::from_slice(places);
        move |tensor: &Tensor| tensor.index_select(axis, &places)
    };
    let (classes, parts) = (order(1, &[2, 0, 1]), order(0, &[4, 5, 0, 1, 2, 3]));
    let tensors = sorted.into_iter().map(|(name, tensor)| {
        let name = name.strip_prefix("segmentor.").unwrap();
        let tensor = match name {
            "cls_map.0.net.0.weight" | "label_conv.0.weight" => classes(&tensor),
            "classifier.3.weight" | "convs3.weight" | "convs3.bias" => parts(&tensor),
            _ => tensor,
        };
        let prefix = if is_of_point_mae { "module." } else { "segmentor." };
        (format!("{prefix}{name}"), tensor)
    });
    let classes = serde_json::json!(["cone", "ball", "box"]).to_string();
    let metadata = [(String::from("classes"), classes)].into();
    let path = folder.join("others.safetensors");
    write_tensors(&path, tensors.collect(), &metadata).unwrap();
}

#[test]
fn a_transformer_takes_all_of_its_encoder() {
    let folder = tempfile::tempdir().unwrap();
    shape::write_parts(&folder.path().join("data"), 8, 16, 96, &shape::CLASSES);
    let encoder = [&TRANSFORMER[..], &["data.point_choice=farthest"]].concat();
    let note = from_pretraining_to_a_score(folder.path(), &encoder);
    assert!(
        note.contains("tensors fit") && !note.contains("another shape") && !note.contains("without use"),
        "{note}"
    );
    audit_gives_the_score_of_the_run(folder.path(), &encoder);
}

#[test]
fn data_without_parts_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |name: &str, classes: &[&str], expected: &str| {
        shape::write_parts(&folder.path().join(name), 6, 16, 96, classes);
        let arguments = [
            "finetune",
            "--task",
            "segment",
            "--data",
            name,
            "--out",
            "run",
            "--threads",
            "1",
        ];
        let output = tap_train(folder.path(), &arguments, &[&SETTINGS[..], &POINT_MLP].concat());
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{text}");
        let error = text.lines().find(|line| line.starts_with("error")).unwrap();
        assert!(error.contains(expected), "{error}");
    };
    refused("none", &[], "no part labels");
    refused("some", &["box"], "has no part labels");
}
