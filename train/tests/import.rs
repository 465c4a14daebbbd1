//! Checkpoints of PyTorch through the program: every number arrives, everything is accounted for, and nothing is run.
//!
//! The files were saved by PyTorch with `pth/make.py`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tap_train::weights::safetensors::{read_metadata, read_tensors, write_tensors};
use tap_train::weights::torch_file::read_any;

const ENCODER: [&str; 4] = [
    "encoder.kind=point_mlp",
    "encoder.channels=4",
    "encoder.bottleneck=0.5",
    "encoder.stages=[{reduction=2,num_neighbors=4,expansion=2,num_pre_blocks=1,num_pos_blocks=1}]",
];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pth").join(name)
}

fn import(folder: &Path, file: &Path, settings: &[&str], more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tap-train"));
    command.current_dir(folder).arg("import").arg(file);
    command.args(["--out", "encoder.safetensors", "--config", "mini"]);
    for setting in settings {
        command.args(["--set", setting]);
    }
    command.args(more).output().unwrap()
}

fn error_line(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(text.lines().count(), 1, "one line: {text}");
    text
}

#[test]
fn every_number_arrives_and_everything_is_accounted_for() {
    let numbers = read_any(&fixture("tiny.pth")).unwrap().numbers;
    assert_eq!(
        (numbers["epoch"], numbers["best_val"]),
        (7.0, 0.5),
        "beside the tensors: {numbers:?}"
    );
    let folder = tempfile::tempdir().unwrap();
    let output = import(folder.path(), &fixture("tiny.pth"), &ENCODER, &["--json"]);
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["prefix"], "model.module.encoder.", "{report}");
    for what in ["missing", "differing", "unexpected"] {
        assert_eq!(report[what], serde_json::json!([]), "{what}: {report}");
    }
    let elsewhere = serde_json::json!({"model.module": 1, "optimizer.state": 3});
    assert_eq!(report["elsewhere"], elsewhere, "{report}");
    assert_eq!(
        report["passed_over"][0], "arguments (argparse.Namespace)",
        "{report}"
    );

    let path = folder.path().join("encoder.safetensors");
    let tensors = read_tensors(&path).unwrap();
    assert_eq!(report["num_fitting"], tensors.len(), "{report}");
    for (i, (name, tensor)) in tensors.iter().enumerate() {
        let values = Vec::<f32>::try_from(tensor.contiguous().view(-1)).unwrap();
        let expected: Vec<f32> = (0..values.len()).map(|k| i as f32 + k as f32 / 256.0).collect();
        assert_eq!(values, expected, "{name}");
    }
    let metadata: BTreeMap<String, String> = read_metadata(&path).unwrap();
    assert_eq!(
        metadata["source_sha256"],
        report["source_sha256"].as_str().unwrap(),
        "its origin"
    );

    let again = import(folder.path(), &fixture("tiny.pth"), &ENCODER, &[]);
    assert!(error_line(&again).contains("--force"), "no file is written over");
}

#[test]
fn a_hostile_file_is_read_and_not_obeyed() {
    let folder = tempfile::tempdir().unwrap();
    let output = import(folder.path(), &fixture("hostile.pth"), &ENCODER, &[]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(
        text.contains("1 passed over, not run: arguments (posix.system)"),
        "{text}"
    );
    let names: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["encoder.safetensors"], "nothing else was made");
}

#[test]
fn what_does_not_fit_is_named_and_written_only_when_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut other = ENCODER;
    other[3] = "encoder.stages=[{reduction=2,num_neighbors=4,expansion=2,num_pre_blocks=2,num_pos_blocks=0}]";
    let output = import(folder.path(), &fixture("tiny.pth"), &other, &[]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(error_line(&output).contains("--partial"), "{output:?}");
    for part in [
        "10 missing in the file: pre_blocks_list.0.operation.1.net1.0.weight",
        "10 of the file without use: pos_blocks_list.0.operation.0.net1.0.weight",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        0,
        "nothing is written"
    );
    let output = import(folder.path(), &fixture("tiny.pth"), &other, &["--partial"]);
    assert!(output.status.success(), "{output:?}");
    let tensors = read_tensors(&folder.path().join("encoder.safetensors")).unwrap();
    assert!(tensors.len() > 10 && !tensors.contains_key("pre_blocks_list.0.operation.1.net1.0.weight"));

    let output = import(
        folder.path(),
        &fixture("tiny.pth"),
        &["encoder.kind=dgcnn"],
        &["--force"],
    );
    assert!(error_line(&output).contains("none of the"), "{output:?}");
}

/// Every number of the encoder is the one that was saved.
#[track_caller]
fn assert_numbers(path: &Path) {
    for (i, (name, tensor)) in read_tensors(path).unwrap().iter().enumerate() {
        let values = Vec::<f32>::try_from(tensor.contiguous().view(-1)).unwrap();
        let expected: Vec<f32> = (0..values.len()).map(|k| i as f32 + k as f32 / 256.0).collect();
        assert_eq!(values, expected, "{name}");
    }
}

#[test]
fn whole_modules_and_torchscript_give_their_state() {
    for (file, prefix, passed_over) in [
        (
            "module.pth",
            "model.",
            serde_json::json!(["arguments (posix.system)"]),
        ),
        ("script.pt", "", serde_json::json!([])),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let output = import(folder.path(), &fixture(file), &ENCODER, &["--json"]);
        assert!(output.status.success(), "{output:?}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["prefix"], prefix, "{file}: {report}");
        assert_eq!(report["passed_over"], passed_over, "{file}: {report}");
        assert_numbers(&folder.path().join("encoder.safetensors"));
        let files = std::fs::read_dir(folder.path()).unwrap();
        assert_eq!(files.count(), 1, "{file}: nothing was run");
    }
}

#[test]
fn of_two_encoders_the_trained_one_is_taken_unless_one_is_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let run = |more: &[&str]| import(folder.path(), &fixture("momentum.pth"), &ENCODER, more);
    let output = run(&[]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for part in [
        "under '0.module.encoder_q.'",
        "as many fit under '0.module.encoder_k.'; --prefix chooses",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_numbers(&folder.path().join("encoder.safetensors"));
    let output = run(&["--force", "--json", "--prefix", "0.module.encoder_k"]);
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["prefix"], "0.module.encoder_k.", "{report}");
    assert_eq!(report["other_prefixes"], serde_json::json!([]), "{report}");
    let refused = error_line(&run(&["--force", "--prefix", "teacher"]));
    assert!(refused.contains("under 'teacher'"), "{refused}");
}

#[test]
fn a_file_of_which_nothing_fits_is_described() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("other.safetensors");
    let float = (tch::Kind::Float, tch::Device::Cpu);
    let write = |tensors: &[(&str, &[i64])]| {
        let tensors = tensors
            .iter()
            .map(|(name, size)| ((*name).to_owned(), tch::Tensor::zeros(*size, float)));
        write_tensors(&file, tensors.collect(), &BTreeMap::new()).unwrap();
    };
    let refused = || error_line(&import(folder.path(), &file, &ENCODER, &[]));
    write(&[("backbone.embedding.net.0.weight", &[4, 9, 1]), ("fc.bias", &[3])]);
    let text = refused();
    for part in [
        "none of the 2 tensors fits an encoder of mini",
        "backbone.embedding.net.0.weight [4, 9, 1] of the file and embedding.net.0.weight [4, 4, 1] of an encoder",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    write(&[]);
    assert!(
        refused().contains("torch.save(model.state_dict()"),
        "{}",
        refused()
    );
}

#[test]
fn damaged_files_are_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let whole = std::fs::read(fixture("tiny.pth")).unwrap();
    let path = folder.path().join("a.pth");
    let refused = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        error_line(&import(folder.path(), &path, &ENCODER, &[]))
    };
    assert!(refused(b"").contains("a.pth"), "nothing");
    assert!(refused(b"a text").contains("no ZIP archive"), "text");
    assert!(
        refused(b"<!DOCTYPE html><html>").contains("web page"),
        "a failed download"
    );
    let pointer = b"version https://git-lfs.github.com/spec/v1\n";
    assert!(refused(pointer).contains("git lfs pull"), "no file yet");
    assert!(
        refused(b"\x80\x02\x8a\nl\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.").contains("before 1.6"),
        "the old layout"
    );
    assert!(
        refused(&whole[..whole.len() / 2]).contains("a.pth"),
        "half a file"
    );
    // One byte of the pickle changed: its checksum no longer fits.
    let place = whole
        .windows(11)
        .position(|bytes| bytes == b"OrderedDict")
        .unwrap();
    let mut changed = whole;
    changed[place] ^= 1;
    assert!(refused(&changed).contains("a.pth"), "a flipped bit");
}

#[test]
fn training_asks_for_an_import_first() {
    let error = tap_train::run::weights::read_encoder(&fixture("tiny.pth"));
    let error = error.unwrap_err().to_string();
    assert!(error.contains("tap-train import"), "{error}");
    // Whatever it is called.
    let folder = tempfile::tempdir().unwrap();
    for name in ["model.ckpt", "model.bin", "model.pth.tar", "model.safetensors"] {
        let path = folder.path().join(name);
        std::fs::copy(fixture("tiny.pth"), &path).unwrap();
        let error = tap_train::run::weights::read_encoder(&path)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("tap-train import") && error.contains(name),
            "{error}"
        );
    }
}
