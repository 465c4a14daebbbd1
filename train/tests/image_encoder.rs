//! Frozen 2D networks against the code of those who publish them: weights as it saves them, and what it says of images.
//!
//! `image_encoder/make.py` made the files, with `open_clip`, timm and transformers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tap_train::model::image::{Activation, ImageEncoderOptions, Naming, Recognized, recognize};
use tap_train::weights::image_encoder::load_image_encoder;
use tap_train::weights::safetensors::{read_tensors, write_tensors};
use tch::{Device, Kind, Tensor};

const BATCH: i64 = 2;
const TOLERANCE: f64 = 1e-4;
const CPU: (Kind, Device) = (Kind::Double, Device::Cpu);

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/image_encoder")
        .join(name)
}

/// The images of `make.py`, B,3,H,W.
fn images(height: i64, width: i64) -> Tensor {
    let axis = |length: i64, factor: f64, axis: usize| {
        let mut size = [1; 4];
        size[axis] = length;
        Tensor::arange(length, CPU).view(size) * factor
    };
    let (b, c) = (axis(BATCH, 0.9, 0), axis(3, 1.7, 1));
    let (y, x) = (axis(height, 1.0, 2), axis(width, 1.0, 3));
    let wave = b + c + &y * 0.23 + &x * 0.11 + (&x * 0.013) * &y;
    (wave.sin() * 2.0).to_kind(Kind::Float)
}

fn load(file: &str, options: ImageEncoderOptions) -> Recognized {
    load_image_encoder(&fixture(file), options, Device::Cpu).unwrap()
}

/// Compares features and saliency of images of this size with what is expected under `key`.
fn assert_as_published(network: &Recognized, [height, width]: [i64; 2], key: &str) {
    let expected = read_tensors(&fixture("expected.safetensors")).unwrap();
    let got = network.encoder.encode(&images(height, width));
    for (what, got) in [("features", got.features), ("saliency", got.saliency)] {
        let expected = &expected[&format!("{key}/{what}")];
        assert_eq!(got.size(), expected.size(), "{key}: shape of {what}");
        let difference = (got - expected).abs().max().double_value(&[]);
        let scale = expected.abs().max().double_value(&[]);
        assert!(
            difference <= TOLERANCE * scale.max(1.0),
            "{key}: {what} differ by {difference}, of up to {scale}"
        );
    }
}

#[test]
fn clip_of_an_archive_by_openai() {
    let network = load("clip_vit.pt", ImageEncoderOptions::default());
    assert_eq!(network.naming, Naming::OpenClip);
    assert_eq!(network.prefix, "visual.");
    assert_eq!(network.encoder.name(), "CLIP ViT-2x128/16");
    assert_eq!(network.encoder.num_channels(), 32, "channels of the projection");
    assert_eq!(network.encoder.image_size_px(), 64);
    assert_eq!(
        (network.unused.len(), network.num_elsewhere),
        (0, 3),
        "{network:?}"
    );
    assert_as_published(&network, [64, 64], "clip_vit/64x64");
}

#[test]
fn dinov2_with_registers_of_timm() {
    let network = load("timm_registers.safetensors", ImageEncoderOptions::default());
    assert_eq!(network.encoder.name(), "DINOv2 ViT-2x128/14");
    assert_eq!(network.unused, [""; 0]);
    assert_as_published(&network, [56, 56], "timm_registers/56x56");
    assert_as_published(&network, [42, 70], "timm_registers/42x70");
}

#[test]
fn dino_of_a_training_checkpoint_is_its_teacher() {
    let network = load("dino.pth", ImageEncoderOptions::default());
    assert_eq!(network.prefix, "teacher.backbone.");
    assert_eq!(network.other_prefixes, ["student.module.backbone."]);
    assert_as_published(&network, [64, 64], "dino/64x64");
    // Positions resized as DINO does it.
    assert_as_published(&network, [80, 48], "dino/80x48");
    let options = ImageEncoderOptions {
        layer: Some(0),
        ..ImageEncoderOptions::default()
    };
    assert_as_published(&load("dino.pth", options), [64, 64], "dino/64x64/layer0");
}

#[test]
fn gated_dinov2_of_transformers() {
    let network = load("transformers_dinov2.safetensors", ImageEncoderOptions::default());
    assert_eq!(network.naming, Naming::TransformersVit);
    assert_eq!(network.unused, ["embeddings.mask_token"]);
    assert_as_published(&network, [56, 56], "transformers_dinov2/56x56");
    assert_as_published(&network, [42, 70], "transformers_dinov2/42x70");
}

#[test]
fn clip_of_transformers_says_which_activation_it_wants() {
    let path = fixture("transformers_clip.safetensors");
    let error = load_image_encoder(&path, ImageEncoderOptions::default(), Device::Cpu).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("--activation quick-gelu"), "{error}");
    let options = ImageEncoderOptions {
        activation: Some(Activation::Gelu),
        ..ImageEncoderOptions::default()
    };
    let network = load("transformers_clip.safetensors", options);
    assert_eq!(network.naming, Naming::TransformersClip);
    assert_as_published(&network, [64, 64], "transformers_clip/64x64");
}

#[test]
fn resnet_of_clip() {
    let network = load("clip_resnet.safetensors", ImageEncoderOptions::default());
    let encoder = &network.encoder;
    assert_eq!(encoder.name(), "CLIP ResNet [1, 2, 1, 1] of width 8");
    assert_eq!((encoder.patch_px(), encoder.image_size_px()), (32, 96));
    assert_as_published(&network, [96, 96], "clip_resnet/96x96");
    let other = encoder.encode(&images(64, 128));
    assert_eq!(other.features.size(), [BATCH, 32, 2, 4], "another size");
    assert!(other.saliency.sum(Kind::Float).double_value(&[]) < BATCH as f64);
}

/// What is said of these tensors.
fn complaint(tensors: &BTreeMap<String, Tensor>) -> String {
    let result = recognize(tensors, ImageEncoderOptions::default(), Device::Cpu);
    result
        .map(|network| network.encoder.name().to_owned())
        .unwrap_err()
}

#[test]
fn weights_that_do_not_fit_are_told_in_a_line() {
    let whole = read_tensors(&fixture("timm_registers.safetensors")).unwrap();
    let changed = |change: &dyn Fn(&mut BTreeMap<String, Tensor>)| {
        let mut tensors: BTreeMap<String, Tensor> = whole
            .iter()
            .map(|(name, tensor)| (name.clone(), tensor.shallow_clone()))
            .collect();
        change(&mut tensors);
        complaint(&tensors)
    };
    let zeros = |size: &[i64]| Tensor::zeros(size, (Kind::Half, Device::Cpu));
    let line = changed(&|tensors| {
        tensors.remove("blocks.1.mlp.fc2.bias");
    });
    assert_eq!(
        line,
        "1 of its tensors do not fit: blocks.1.mlp.fc2.bias is missing"
    );
    let line = changed(&|tensors| {
        tensors.insert(String::from("norm.weight"), zeros(&[64]));
    });
    assert_eq!(
        line,
        "1 of its tensors do not fit: norm.weight is [64] instead of [128]"
    );
    for value in [f64::NAN, f64::INFINITY] {
        let line = changed(&|tensors| {
            tensors.insert(String::from("blocks.0.norm1.bias"), zeros(&[128]) + value);
        });
        assert!(line.starts_with("'blocks.0.norm1.bias' is not finite"), "{line}");
    }
    // Sizes that no network has.
    for (name, size) in [
        ("patch_embed.proj.weight", &[128_i64, 3, 14, 7][..]),
        ("patch_embed.proj.weight", &[128]),
        ("patch_embed.proj.weight", &[100, 3, 14, 14]),
        ("patch_embed.proj.weight", &[0, 3, 14, 14]),
        ("patch_embed.proj.weight", &[128, 3, 0, 0]),
        ("pos_embed", &[1, 12, 128]),
        ("pos_embed", &[16]),
        ("pos_embed", &[1, 2, 3, 4, 5]),
        ("pos_embed", &[]),
        ("cls_token", &[]),
        ("reg_token", &[2, 2]),
        ("reg_token", &[]),
        ("blocks.0.attn.qkv.weight", &[]),
        ("blocks.0.mlp.fc1.weight", &[3]),
        ("norm.weight", &[]),
    ] {
        let line = changed(&|tensors| {
            tensors.insert(name.to_owned(), zeros(size));
        });
        assert_eq!(line.lines().count(), 1, "{name} {size:?}: {line}");
    }
    let line = changed(&|tensors| {
        tensors.insert(String::from("blocks.900000000.norm1.weight"), zeros(&[128]));
    });
    assert!(line.contains("blocks"), "{line}");
}

#[test]
fn other_networks_are_told_by_what_they_look_like() {
    let zeros = || Tensor::zeros([2, 2], (Kind::Float, Device::Cpu));
    let of = |names: &[&str]| {
        let tensors = names.iter().map(|name| ((*name).to_owned(), zeros())).collect();
        complaint(&tensors)
    };
    for (names, looks) in [
        (
            &["features.0.weight", "classifier.0.weight"][..],
            "VGG or AlexNet",
        ),
        (
            &["conv1.weight", "layer1.0.conv1.weight", "fc.weight"],
            "a ResNet without attention",
        ),
        (&["encoder.first_conv.0.weight"], "point clouds"),
        (
            &[
                "vision_model.head.probe",
                "vision_model.embeddings.patch_embedding.weight",
            ],
            "SigLIP",
        ),
        (&["some.weight"], "unknown network (some.weight [2, 2], ...)"),
        (&[], "no tensors"),
    ] {
        let line = of(names);
        assert!(line.contains(looks), "{names:?}: {line}");
        assert!(line.contains("expected a vision Transformer"), "{line}");
    }
}

#[test]
fn a_file_names_itself_in_its_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vgg.safetensors");
    let tensors = vec![(
        String::from("features.0.weight"),
        Tensor::zeros([1], (Kind::Float, Device::Cpu)),
    )];
    write_tensors(&path, tensors, &BTreeMap::new()).unwrap();
    let error = load_image_encoder(&path, ImageEncoderOptions::default(), Device::Cpu).unwrap_err();
    assert!(error.to_string().ends_with("vgg.safetensors"), "{error}");
    let absent = folder.path().join("absent.pt");
    load_image_encoder(&absent, ImageEncoderOptions::default(), Device::Cpu).unwrap_err();
}
