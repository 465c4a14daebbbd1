//! Weights to PyTorch and back: every number comes back as it was, and where there is a PyTorch, modules with the names of the
//! released code load the files strictly.
//!
//! `TAP_TORCH` names a Python that has torch; `scripts/test` looks for one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shape;
mod small;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tap_dataset::sha256::hex;
use tap_train::weights::safetensors::{read_metadata, read_tensors};
use tap_train::weights::torch_file::read_any;
use tch::Tensor;

/// Two steps.
const RUN: [&str; 3] = [
    "pretrain.steps=2",
    "pretrain.batch_size=4",
    "log={checkpoint_every=1,validate_every=0,num_images=0,keep_checkpoints=9}",
];
const POINT_MAE: [&str; 7] = [
    "data.num_points=64",
    "encoder.num_groups=10",
    "encoder.num_neighbors=12",
    "encoder.group_widths=[16,32]",
    "encoder.channels=32",
    "encoder.num_blocks=3",
    "encoder.num_heads=2",
];
const TRANSFORMER: &str = "encoder={kind='transformer',num_groups=8,num_neighbors=8,group_widths=[16,32],group_channels=24,channels=32,num_blocks=2,num_heads=2}";

/// A folder with a data set, and pre-trained runs of three backbones.
struct TestDir(tempfile::TempDir);

impl TestDir {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        shape::write(&place.path("data"), 3, 16, 64);
        let small: Vec<&str> = small::NETWORK.iter().chain(&RUN).copied().collect();
        place.pretrain("point_net2", "mini", &small);
        let without_encoder = small
            .iter()
            .copied()
            .filter(|setting| !setting.starts_with("encoder"));
        let transformer: Vec<&str> = without_encoder.chain([TRANSFORMER]).collect();
        place.pretrain("transformer", "mini", &transformer);
        let point_mae = [&RUN[..], &POINT_MAE].concat();
        place.pretrain("point_mae", "mini-point-mae", &point_mae);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tap-train"));
        command.current_dir(self.0.path()).args(arguments);
        command.output().unwrap()
    }

    fn pretrain(&self, run: &str, preset: &str, settings: &[&str]) {
        let settings = settings.iter().flat_map(|setting| ["--set", setting]);
        let command = ["pretrain", "--data", "data", "--out", run, "--config", preset];
        let arguments: Vec<&str> = command
            .into_iter()
            .chain(["--threads", "1"])
            .chain(settings)
            .collect();
        succeeded(&self.run(&arguments));
    }

    /// The encoder of a run, as training has it.
    fn encoder(&self, run: &str) -> BTreeMap<String, Tensor> {
        read_tensors(&self.path(run).join("encoder.safetensors")).unwrap()
    }
}

#[track_caller]
fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[track_caller]
fn refused(output: &Output, parts: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(text.lines().count(), 1, "one line: {text}");
    for part in parts {
        assert!(text.contains(part), "{part}: {text}");
    }
}

/// Names and tensors without the counters that PyTorch keeps, and without a beginning that all names have.
fn without(prefix: &str, tensors: BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    tensors
        .into_iter()
        .filter(|(name, _)| !name.ends_with("num_batches_tracked"))
        .map(|(name, tensor)| (name.strip_prefix(prefix).unwrap().to_owned(), tensor))
        .collect()
}

/// The hashes of all tensors of a file, as PyTorch reads it; none where there is no PyTorch.
fn loaded_by_torch(file: &Path, layout: &str, sizes: &Value) -> Option<BTreeMap<String, String>> {
    let Some(python) = std::env::var_os("TAP_TORCH") else {
        assert!(
            std::env::var_os("TAP_REQUIRE_TORCH").is_none(),
            "TAP_TORCH names no Python with torch"
        );
        return None;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/torch_load.py");
    let output = Command::new(python)
        .arg(script)
        .arg(file)
        .args([layout, &sizes.to_string()])
        .output()
        .unwrap();
    Some(serde_json::from_str(&succeeded(&output)).unwrap())
}

#[test]
fn exports_come_back_bit_for_bit_and_are_loaded_by_pytorch() {
    let place = TestDir::new();
    let transformer = json!({"kind": "transformer", "group_widths": [16, 32], "group_channels": 24, "channels": 32, "num_blocks": 2});
    let point_mae = json!({"kind": "point_mae", "group_widths": [16, 32], "channels": 32, "num_blocks": 3});
    let point_net2 = json!({"kind": "point_net2", "inputs": 1, "widths": [[8, 8], [16], [16]]});
    for (run, layout, prefix, sizes, is_default) in [
        ("point_net2", "tap", "model.", &point_net2, true),
        ("point_net2", "state-dict", "state_dict.", &point_net2, false),
        ("transformer", "tap", "model.", &transformer, true),
        (
            "transformer",
            "point-bert",
            "base_model.transformer_q.",
            &transformer,
            false,
        ),
        (
            "point_mae",
            "point-mae",
            "base_model.MAE_encoder.",
            &point_mae,
            true,
        ),
    ] {
        let expected = place.encoder(run);
        let written: Vec<Vec<u8>> = (0..2)
            .map(|_| {
                let export = ["export", run, "--out", "out.pth", "--force"];
                let chosen = ["--as", layout];
                let chosen = if is_default { &[][..] } else { &chosen };
                succeeded(&place.run(&[&export[..], chosen].concat()));
                fs::read(place.path("out.pth")).unwrap()
            })
            .collect();
        assert!(
            written[0] == written[1],
            "{run} as {layout}: the same bytes again"
        );
        let file = read_any(&place.path("out.pth")).unwrap();
        assert_eq!(file.passed_over, [""; 0], "{run} as {layout}");
        assert!(
            without(prefix, file.tensors) == expected,
            "{run} as {layout}: every number"
        );

        let config = if run == "point_mae" {
            "mini-point-mae"
        } else {
            "mini"
        };
        let settings = match run {
            "point_mae" => &POINT_MAE[1..],
            "transformer" => &[TRANSFORMER],
            _ => &small::NETWORK[5..7],
        };
        let settings: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
        let import = [
            "import",
            "out.pth",
            "--out",
            "back.safetensors",
            "--force",
            "--config",
            config,
        ];
        succeeded(&place.run(&[&import[..], &settings].concat()));
        assert!(
            read_tensors(&place.path("back.safetensors")).unwrap() == expected,
            "{run}: and back"
        );

        if let Some(hashes) = loaded_by_torch(&place.path("out.pth"), layout, sizes) {
            for (name, tensor) in &expected {
                let numbers = Vec::<f32>::try_from(tensor.contiguous().view(-1)).unwrap();
                let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
                assert_eq!(
                    hashes[name],
                    hex(&Sha256::digest(bytes)),
                    "{run} as {layout}: {name}"
                );
            }
        }
    }
}

#[test]
fn checkpoints_whole_networks_and_safetensors_are_exported_too() {
    let place = TestDir::new();
    let encoder = place.encoder("point_net2");
    let first = "point_net2/checkpoints/step-0000000001";
    succeeded(&place.run(&["export", first, "--out", "first.safetensors"]));
    let of_first = without("", read_tensors(&place.path("first.safetensors")).unwrap());
    let whole = read_tensors(&place.path(first).join("model.safetensors")).unwrap();
    assert!(
        !of_first.is_empty()
            && of_first
                .iter()
                .all(|(name, tensor)| whole[&format!("encoder.{name}")] == *tensor),
        "those of the checkpoint"
    );
    assert!(of_first != encoder, "which are not those of the end");
    let metadata = read_metadata(&place.path("first.safetensors")).unwrap();
    assert_eq!(metadata["format"], "pt", "{metadata:?}");
    assert!(metadata["encoder"].contains("point_net2"), "{metadata:?}");

    let last = "point_net2/checkpoints/step-0000000002";
    let text = succeeded(&place.run(&["export", last, "--out", "whole.pth", "--whole", "--json"]));
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&report["entry"], &report["layout"]),
        (&json!("model"), &json!("tap")),
        "{report}"
    );
    let of_whole = without("model.", read_any(&place.path("whole.pth")).unwrap().tensors);
    let model = read_tensors(&place.path(last).join("model.safetensors")).unwrap();
    assert!(of_whole == model, "every tensor of the network");
    // An export is an encoder to start from, too.
    succeeded(&place.run(&["export", "point_net2", "--out", "encoder.safetensors"]));
    let read = tap_train::run::weights::read_encoder(&place.path("encoder.safetensors")).unwrap();
    assert!(without("", read.tensors) == encoder, "the same encoder");
}

#[test]
fn what_cannot_be_exported_is_refused_in_one_line_and_no_file_is_lost() {
    let place = TestDir::new();
    let export = |more: &[&str]| place.run(&[&["export", "point_net2"][..], more].concat());
    refused(
        &export(&["--out", "a.pth", "--as", "point-mae"]),
        &[
            "the encoder is a point_net2",
            "point-mae does not have",
            "export it as tap",
        ],
    );
    refused(&export(&["--out", "a.txt"]), &[".safetensors or .pth", "a.txt"]);
    assert_eq!(
        export(&["--out", "a.pth", "--as", "tensorflow"]).status.code(),
        Some(2)
    );
    refused(&place.run(&["export", "data", "--out", "a.pth"]), &["data"]);
    refused(&place.run(&["export", "nothing", "--out", "a.pth"]), &["nothing"]);
    assert!(!place.path("a.pth").exists(), "nothing is written");
    succeeded(&export(&["--out", "a.pth"]));
    refused(&export(&["--out", "a.pth"]), &["--force"]);
    succeeded(&export(&["--out", "a.pth", "--force"]));
    fs::write(place.path("mine.pth"), "a text").unwrap();
    refused(&export(&["--out", "mine.pth", "--force"]), &["mine.pth"]);
    assert_eq!(fs::read(place.path("mine.pth")).unwrap(), b"a text", "it stays");
    fs::copy(
        place.path("point_net2/encoder.safetensors"),
        place.path("own.safetensors"),
    )
    .unwrap();
    refused(
        &export(&["--out", "own.safetensors", "--force"]),
        &["own.safetensors"],
    );
}
