//! Weights to PyTorch and back: every number comes back as it was, and where there is a PyTorch, modules with the names of the
//! released code load the files strictly and compute the same tokens.
//!
//! `TAP_TORCH` names a Python that has torch; `scripts/test` installs one where it can.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shape;
mod small;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use small::{BACKBONES, Backbone};
use tap_dataset::sha256::hex;
use tap_train::config::Plan;
use tap_train::model::{Cloud, EncoderConfig, Mode};
use tap_train::seed::Stream;
use tap_train::weights::checkpoint::copy_weights;
use tap_train::weights::safetensors::{read_metadata, read_tensors};
use tap_train::weights::torch_file::read_any;
use tch::{Device, Tensor, nn, no_grad};

/// Two steps.
const RUN: [&str; 3] = [
    "pretrain.steps=2",
    "pretrain.batch_size=4",
    "log={checkpoint_every=1,validate_every=0,num_images=0,keep_checkpoints=9}",
];
const TAP: (&str, &str) = ("tap", "model.");

/// The code that an export of a backbone is for, its default first, with the prefix of its names.
fn layouts(backbone: &Backbone) -> &'static [(&'static str, &'static str)] {
    match backbone.name {
        "point_net2" => &[TAP, ("state-dict", "state_dict.")],
        "transformer" => &[TAP, ("point-bert", "base_model.transformer_q.")],
        "point_mae" => &[("point-mae", "base_model.MAE_encoder.")],
        "point_m2ae" => &[
            ("point-m2ae", "base_model.h_encoder."),
            ("i2p-mae", "base_model.h_encoder."),
        ],
        _ => &[TAP],
    }
}

/// A folder with a data set, and pre-trained runs of backbones.
struct TestDir(tempfile::TempDir);

impl TestDir {
    /// With runs of these backbones.
    fn new(backbones: &[Backbone]) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        shape::write(&place.path("data"), 3, 16, 64);
        for backbone in backbones {
            let settings = backbone.settings(&RUN);
            let settings = settings.iter().flat_map(|setting| ["--set", setting]);
            let command = ["pretrain", "--data", "data", "--out", backbone.name];
            let arguments: Vec<&str> = command
                .into_iter()
                .chain(["--config", backbone.preset, "--threads", "1"])
                .chain(settings)
                .collect();
            succeeded(&place.run(&arguments));
        }
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

    /// The encoder of a run, as training has it.
    fn encoder(&self, run: &str) -> BTreeMap<String, Tensor> {
        read_tensors(&self.path(run).join("encoder.safetensors")).unwrap()
    }

    fn config(&self, run: &str) -> EncoderConfig {
        Plan::read(&self.path(run).join("config.toml")).unwrap().encoder
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

/// What PyTorch says of a file: the hashes of all tensors, and by how much its tokens of a cloud differ; none where there is no
/// PyTorch.
fn judged_by_torch(file: &Path, layout: &str, encoder: &EncoderConfig, cloud: &Path) -> Option<Value> {
    let Some(python) = std::env::var_os("TAP_TORCH") else {
        assert!(
            std::env::var_os("TAP_REQUIRE_TORCH").is_none(),
            "TAP_TORCH names no Python with torch"
        );
        let kind = encoder.kind();
        let _ = writeln!(
            std::io::stderr(),
            "skipped: no PyTorch judges {layout} of {kind}, TAP_TORCH names none"
        );
        return None;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/torch_load.py");
    let output = Command::new(python)
        .arg(script)
        .arg(file)
        .args([layout, &json!(encoder).to_string()])
        .arg(cloud)
        .output()
        .unwrap();
    Some(serde_json::from_str(&succeeded(&output)).unwrap())
}

/// A cloud with what an encoder says about it, in JSON.
fn cloud_with_tokens(config: &EncoderConfig, weights: &BTreeMap<String, Tensor>) -> Value {
    let mut stream = Stream::new(3, "cloud", 0, "");
    let points: Vec<f32> = (0..3 * 64).map(|_| stream.uniform(-0.6, 0.6) as f32).collect();
    let xyz = Tensor::from_slice(&points).view([1, 64, 3]);
    let height = xyz.narrow(2, 1, 1) - xyz.narrow(2, 1, 1).amin(1, true);
    let cloud = Cloud {
        features: Tensor::cat(&[&xyz, &height], 2).transpose(1, 2).contiguous(),
        xyz,
    };
    let store = nn::VarStore::new(Device::Cpu);
    let encoder = config.build(&store.root());
    assert!(copy_weights(&store, weights, "").is_exact(), "{}", config.kind());
    let tokens = no_grad(|| encoder.tokens(&cloud, Mode::EVAL)).features;
    let rows = |tensor: &Tensor| -> Vec<Vec<f32>> { Vec::try_from(tensor.squeeze_dim(0)).unwrap() };
    json!({"xyz": rows(&cloud.xyz), "features": rows(&cloud.features), "tokens": rows(&tokens)})
}

#[test]
fn exports_come_back_bit_for_bit_and_mean_the_same_to_pytorch() {
    let place = TestDir::new(&BACKBONES);
    let mut kinds = BTreeSet::new();
    for backbone in &BACKBONES {
        let run = backbone.name;
        let expected = place.encoder(run);
        let config = place.config(run);
        kinds.insert(config.kind());
        let cloud = place.path("cloud.json");
        fs::write(&cloud, cloud_with_tokens(&config, &expected).to_string()).unwrap();
        for (i, (layout, prefix)) in layouts(backbone).iter().enumerate() {
            let written: Vec<Vec<u8>> = (0..2)
                .map(|_| {
                    let export = ["export", run, "--out", "out.pth", "--force"];
                    let chosen = ["--as", layout];
                    let chosen = if i == 0 { &[][..] } else { &chosen };
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

            let settings = backbone.settings.iter().flat_map(|setting| ["--set", setting]);
            let import = ["import", "out.pth", "--out", "back.safetensors", "--force"];
            let import = import.into_iter().chain(["--config", backbone.preset]);
            succeeded(&place.run(&import.chain(settings).collect::<Vec<_>>()));
            assert!(
                read_tensors(&place.path("back.safetensors")).unwrap() == expected,
                "{run}: and back"
            );

            let Some(judged) = judged_by_torch(&place.path("out.pth"), layout, &config, &cloud) else {
                continue;
            };
            for (name, tensor) in &expected {
                let numbers = Vec::<f32>::try_from(tensor.contiguous().view(-1)).unwrap();
                let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
                assert_eq!(
                    judged["hashes"][name],
                    json!(hex(&Sha256::digest(bytes))),
                    "{run} as {layout}: {name}"
                );
            }
            let difference = judged["largest_difference"].as_f64().unwrap();
            assert!(
                difference < 1e-4,
                "{run} as {layout}: tokens differ by {difference}"
            );
        }
    }
    let all: BTreeSet<&str> = EncoderConfig::KINDS.iter().copied().collect();
    assert_eq!(kinds, all, "every backbone");
}

#[test]
fn checkpoints_whole_networks_and_safetensors_are_exported_too() {
    let place = TestDir::new(&BACKBONES[..1]);
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
    let place = TestDir::new(&BACKBONES[..1]);
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
