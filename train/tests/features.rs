//! Features of a 2D network through the program: of the right pictures, resumed to the same bytes, and refused in one line.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shape;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use tap_dataset::{
    Dataset, FeatureSet, FeatureViews, Split, VerifyOptions, ViewSelection, decode_rgb_planes, verify,
};
use tap_train::model::image::{ImageEncoderOptions, Normalization};
use tap_train::ops::depth_images;
use tap_train::task::features::{FeatureEvent, FeatureOptions, compute_features};
use tap_train::weights::image_encoder::load_image_encoder;
use tap_train::weights::safetensors::{read_tensors, write_tensors};
use tch::{Device, Kind, Tensor};

const NETWORK: &str = "timm_registers.safetensors";
/// The network's own.
const SIZE_PX: i64 = 56;
const NUM_VIEWS: i64 = shape::NUM_VIEWS as i64;
/// float16 has eleven bits.
const HALF_TOLERANCE: f64 = 1e-3;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/image_encoder")
        .join(name)
}

fn features(folder: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tap-train"));
    command.current_dir(folder).args(["features", "data"]);
    command.args([
        "--device",
        "cpu",
        "--threads",
        "1",
        "--size",
        "56",
        "--batch",
        "24",
    ]);
    command.args(more).output().unwrap()
}

fn with_network(folder: &Path, more: &[&str]) -> Output {
    let network = fixture(NETWORK);
    let model = ["--model", network.to_str().unwrap()];
    features(folder, &[&model[..], more].concat())
}

/// The only line that begins with `error: `.
fn error_line(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
    let [error] = errors[..] else {
        panic!("one error: {text}")
    };
    error.to_owned()
}

fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn half(bytes: &[u8], size: &[i64]) -> Tensor {
    Tensor::from_data_size(bytes, size, Kind::Half).to_kind(Kind::Float)
}

fn assert_near(got: &Tensor, expected: &Tensor, what: &str) {
    let difference = (got - expected).abs().max().double_value(&[]);
    let scale = expected.abs().max().double_value(&[]);
    assert!(
        difference <= HALF_TOLERANCE * scale,
        "{what}: {difference} of {scale}"
    );
}

/// Content of the files of a feature set.
fn files(folder: &Path, name: &str) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder.join("data/__features").join(name)).unwrap();
    entries
        .map(|entry| {
            let entry = entry.unwrap();
            (
                entry.file_name().into_string().unwrap(),
                fs::read(entry.path()).unwrap(),
            )
        })
        .collect()
}

#[test]
fn a_row_has_what_the_network_says_of_its_views() {
    let folder = tempfile::tempdir().unwrap();
    shape::write(&folder.path().join("data"), 3, 56, 64);
    let output = with_network(folder.path(), &["--out", "dino", "--json"]);
    let notes = succeeded(&output);
    assert!(
        notes.contains("DINOv2 ViT-2x128/14: 35 tensors under the names of timm and DINO"),
        "{notes}"
    );
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["num_rows"], 15, "{report}");
    let layout = serde_json::json!({"num_views": 12, "height": 4, "width": 4, "num_channels": 128});
    assert_eq!(report["layout"], layout);
    let data = Dataset::open(&folder.path().join("data")).unwrap();
    let set = FeatureSet::open(&data, "dino").unwrap();
    let options = ImageEncoderOptions::default();
    let network = load_image_encoder(&fixture(NETWORK), options, Device::Cpu).unwrap();
    for (split, row) in [(Split::Train, 0), (Split::Train, 8), (Split::Test, 5)] {
        let sample = data.read(split, row, ViewSelection::All).unwrap();
        let stored = set.read(split, row, ViewSelection::All).unwrap();
        assert_eq!(stored.id, sample.id);
        let pixels: Vec<Tensor> = sample
            .views
            .iter()
            .map(|view| Tensor::from_slice(&decode_rgb_planes(&view.image_png).unwrap()))
            .collect();
        let pixels = Tensor::cat(&pixels, 0)
            .view([NUM_VIEWS, 3, SIZE_PX, SIZE_PX])
            .to_kind(Kind::Float)
            / 255.0;
        let expected = network
            .encoder
            .encode(&network.encoder.normalization().apply(&pixels));
        let got = half(&stored.features, &[NUM_VIEWS, 4, 4, 128]);
        assert_near(&got, &expected.features.permute([0, 2, 3, 1]), "features");
        assert_near(
            &half(&stored.saliency, &[NUM_VIEWS, 4, 4]),
            &expected.saliency,
            "saliency",
        );
    }
    // These splatted pictures are no valid data set in every way.
    let report = verify(data.dir(), VerifyOptions::default(), &mut |_| {}).unwrap();
    let of_features = report
        .problems
        .iter()
        .filter(|problem| problem.file.starts_with("__features"));
    assert_eq!(of_features.count(), 0, "{:?}", report.problems);
}

#[test]
fn depth_maps_need_no_views() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    shape::write_points(&dir, 2, 64, &[]);
    let line = error_line(&with_network(folder.path(), &["--out", "dino"]));
    assert!(
        line.contains("no views") && line.contains("--views depth"),
        "{line}"
    );
    assert!(!dir.join("__features").exists(), "nothing half-made");
    succeeded(&with_network(
        folder.path(),
        &["--out", "depth", "--views", "depth", "--layer", "0"],
    ));
    let data = Dataset::open(&dir).unwrap();
    let set = FeatureSet::open(&data, "depth").unwrap();
    assert_eq!(set.manifest().recipe.views, FeatureViews::Depth);
    let stored = set.read(Split::Train, 1, ViewSelection::All).unwrap();
    let points = data.read(Split::Train, 1, ViewSelection::None).unwrap().points;
    let images = depth_images(&Tensor::from_slice(points.as_flattened()).view([1, -1, 3]));
    let images = images
        .transpose(0, 1)
        .internal_upsample_bicubic2d_aa([SIZE_PX; 2], false, None, None);
    let images = Normalization::IMAGENET.apply(&images.clamp(0.0, 1.0).expand([-1, 3, -1, -1], false));
    let options = ImageEncoderOptions {
        layer: Some(0),
        ..ImageEncoderOptions::default()
    };
    let network = load_image_encoder(&fixture(NETWORK), options, Device::Cpu).unwrap();
    let expected = network.encoder.encode(&images);
    let got = half(&stored.features, &[3, 4, 4, 128]);
    assert_near(&got, &expected.features.permute([0, 2, 3, 1]), "features");
}

#[test]
fn a_stopped_run_goes_on_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    shape::write(&folder.path().join("data"), 6, 16, 64);
    succeeded(&with_network(folder.path(), &["--out", "whole"]));
    tch::set_num_threads(1);
    let options = FeatureOptions {
        data: folder.path().join("data"),
        model: fixture(NETWORK),
        name: String::from("stopped"),
        views: FeatureViews::Images,
        images: None,
        size_px: Some(SIZE_PX),
        encoder: ImageEncoderOptions::default(),
        batch_size: 24,
        device: Device::Cpu,
        force: false,
    };
    // Stopped within the second shard of seven rows.
    let cancel = AtomicBool::new(false);
    let mut num_rows = 0;
    let report = compute_features(&options, &cancel, &mut |event| {
        if let FeatureEvent::Rows { num_rows: more } = event {
            num_rows += more;
            cancel.store(num_rows > 8, Ordering::Relaxed);
        }
    });
    assert!(report.unwrap().is_none(), "it was stopped");
    assert_eq!(
        files(folder.path(), "stopped").len(),
        2,
        "a shard and the manifest"
    );
    let notes = succeeded(&with_network(folder.path(), &["--out", "stopped"]));
    assert!(notes.contains("27 objects, 7 of them finished before"), "{notes}");
    assert_eq!(files(folder.path(), "stopped"), files(folder.path(), "whole"));
    let output = with_network(folder.path(), &["--out", "stopped"]);
    succeeded(&output);
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("finished before"),
        "{output:?}"
    );
}

#[test]
fn what_does_not_fit_is_told_in_a_line() {
    let folder = tempfile::tempdir().unwrap();
    shape::write(&folder.path().join("data"), 2, 16, 64);
    succeeded(&with_network(folder.path(), &["--out", "dino"]));
    let whole = files(folder.path(), "dino");
    // Other weights, another layer, another size.
    let dino = fixture("dino.pth");
    let other = ["--model", dino.to_str().unwrap(), "--out", "dino", "--size", "64"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_tap-train"));
    command
        .current_dir(folder.path())
        .args(["features", "data", "--device", "cpu"]);
    let line = error_line(&command.args(other).output().unwrap());
    assert!(line.contains("another feature set of this name"), "{line}");
    let line = error_line(&with_network(folder.path(), &["--out", "dino", "--layer", "1"]));
    assert!(line.contains("layer is null there and 1 here"), "{line}");
    assert_eq!(files(folder.path(), "dino"), whole, "it is as it was");
    succeeded(&with_network(
        folder.path(),
        &["--out", "dino", "--layer", "1", "--force"],
    ));
    assert_ne!(files(folder.path(), "dino"), whole, "it was replaced");

    let line = error_line(&with_network(folder.path(), &["--out", "a/b"]));
    assert!(line.contains("invalid feature set name"), "{line}");
    let line = error_line(&with_network(folder.path(), &["--out", "x", "--layer", "2"]));
    assert!(line.contains("there is no block 2"), "{line}");
    let line = error_line(&with_network(folder.path(), &["--out", "x", "--images", "lamp"]));
    assert!(line.contains("unknown image set lamp"), "{line}");
    let line = error_line(&features(folder.path(), &["--model", "none.pt", "--out", "x"]));
    assert!(line.contains("--model: there is no such file"), "{line}");
    let vgg = folder.path().join("vgg.safetensors");
    let tensors = vec![(
        String::from("features.0.weight"),
        Tensor::zeros([1], (Kind::Float, Device::Cpu)),
    )];
    write_tensors(&vgg, tensors, &BTreeMap::new()).unwrap();
    let line = error_line(&features(
        folder.path(),
        &["--model", "vgg.safetensors", "--out", "x"],
    ));
    assert!(line.contains("looks like VGG"), "{line}");
    let line = error_line(&features(
        folder.path(),
        &["--model", "data/_manifest.json", "--out", "x"],
    ));
    assert!(line.contains("no ZIP archive"), "{line}");
    // Weights so large that what they say is no float16.
    let mut tensors = read_tensors(&fixture(NETWORK)).unwrap();
    let bias = Tensor::full([128], 1e5, (Kind::Float, Device::Cpu));
    tensors.insert(String::from("norm.bias"), bias);
    write_tensors(
        &folder.path().join("large.safetensors"),
        tensors.into_iter().collect(),
        &BTreeMap::new(),
    )
    .unwrap();
    let line = error_line(&features(
        folder.path(),
        &["--model", "large.safetensors", "--out", "large"],
    ));
    assert!(line.contains("features of ball/0000 cannot be stored"), "{line}");
    assert!(
        !folder.path().join("data/__features/x").exists(),
        "nothing half-made"
    );
}

/// No file may be longer than so many blocks; see `full_disk.rs`.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told_and_gone_on_from() {
    let folder = tempfile::tempdir().unwrap();
    shape::write(&folder.path().join("data"), 2, 16, 64);
    succeeded(&with_network(folder.path(), &["--out", "whole"]));
    let network = fixture(NETWORK);
    let mut command = Command::new("sh");
    command
        .current_dir(folder.path())
        .args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$@\"", "sh"]);
    command.args([
        env!("CARGO_BIN_EXE_tap-train"),
        "features",
        "data",
        "--device",
        "cpu",
        "--threads",
        "1",
    ]);
    command.args([
        "--size",
        "56",
        "--batch",
        "24",
        "--out",
        "full",
        "--model",
        network.to_str().unwrap(),
    ]);
    let line = error_line(&command.output().unwrap());
    assert!(
        line.contains("train-00000-of-00001.pq") && line.contains("File too large"),
        "{line}"
    );
    let left: Vec<String> = files(folder.path(), "full").into_keys().collect();
    assert_eq!(left, ["_features.json"], "no half of a file");
    succeeded(&with_network(folder.path(), &["--out", "full"]));
    assert_eq!(files(folder.path(), "full"), files(folder.path(), "whole"));
}

/// A real network: `scripts/teacher` lays it for the test command.
#[test]
fn a_real_network_says_what_onnxruntime_says() {
    let Some(teacher) = std::env::var_os("TAP_TEACHER").map(PathBuf::from) else {
        assert!(
            std::env::var_os("TAP_REQUIRE_TEACHER").is_none(),
            "TAP_TEACHER names no file; scripts/teacher prints one"
        );
        return;
    };
    let options = ImageEncoderOptions {
        layer: Some(7),
        ..ImageEncoderOptions::default()
    };
    let network = load_image_encoder(&teacher, options, Device::Cpu).unwrap();
    assert_eq!(network.encoder.name(), "DINOv2 ViT-S/14");
    assert_eq!(network.encoder.image_size_px(), 518);
    assert_eq!(
        (network.unused.len(), network.num_elsewhere),
        (0, 0),
        "{network:?}"
    );
    let axis = |length: i64, axis: usize| {
        let mut size = [1; 4];
        size[axis] = length;
        Tensor::arange(length, (Kind::Double, Device::Cpu)).view(size)
    };
    let (c, y, x) = (axis(3, 1), axis(224, 2), axis(224, 3));
    let wave = c * 1.7 + &y * 0.23 + &x * 0.11 + (&x * 0.013) * &y;
    let got = network.encoder.encode(&(wave.sin() * 2.0).to_kind(Kind::Float));
    let expected = read_tensors(&fixture("teacher.safetensors")).unwrap();
    // Every fourth patch is kept.
    let patches = got.features.flatten(2, 3).get(0).slice(1, 0, None, 4);
    for (what, got, tolerance) in [
        ("features", patches, 1e-4),
        ("saliency", got.saliency.view([-1]), 1e-6),
    ] {
        let difference = (got - &expected[what]).abs().max().double_value(&[]);
        assert!(difference < tolerance, "{what}: {difference}");
    }
    // Through the program: 18 pictures.
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    shape::write_points(&dir, 1, 256, &[]);
    let model = ["--model", teacher.to_str().unwrap()];
    let wanted = [
        "--out", "dino", "--views", "depth", "--layer", "7", "--size", "224",
    ];
    let mut command = Command::new(env!("CARGO_BIN_EXE_tap-train"));
    command
        .current_dir(folder.path())
        .args(["features", "data", "--device", "cpu"]);
    succeeded(&command.args(model).args(wanted).output().unwrap());
    let data = Dataset::open(&dir).unwrap();
    let set = FeatureSet::open(&data, "dino").unwrap();
    let stored = set.read(Split::Test, 2, ViewSelection::Some(&[1])).unwrap();
    let points = data.read(Split::Test, 2, ViewSelection::None).unwrap().points;
    let images = depth_images(&Tensor::from_slice(points.as_flattened()).view([1, -1, 3]));
    let image = images.narrow(1, 1, 1).expand([-1, 3, -1, -1], false);
    let expected = network.encoder.encode(&Normalization::IMAGENET.apply(&image));
    let got = half(&stored.features, &[1, 16, 16, 384]);
    assert_near(&got, &expected.features.permute([0, 2, 3, 1]), "features");
    assert_near(
        &half(&stored.saliency, &[1, 16, 16]),
        &expected.saliency,
        "saliency",
    );
}
