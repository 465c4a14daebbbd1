//! Point-MAE and Point-M2AE on real shards, most of them of points alone: the loss falls, a resumed run is an unbroken one,
//! and fine-tuning, part segmentation and probes start from what was pre-trained.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shape;
mod small;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use small::{run_in, turn};
use tap_train::config::Config;
use tap_train::method::MethodKind;
use tap_train::method::point_m2ae::PointM2aeKind;
use tap_train::model::{EncoderConfig, MaskedAutoencoder, MaskedAutoencoderConfig, PointMaeConfig};
use tap_train::run::Existing;
use tap_train::run::event::TrainEvent;
use tap_train::task::classify::Classify;
use tap_train::task::finetune::finetune;
use tap_train::task::import::import;
use tap_train::task::pretrain::pretrain;
use tap_train::task::probe::{ProbeOptions, probe};
use tap_train::task::segment::Segment;
use tap_train::weights::safetensors::write_tensors;
use tch::{Device, nn};

/// A tiny Transformer for clouds of 64 points.
const ENCODER: [&str; 6] = [
    "encoder.num_groups=10",
    "encoder.num_neighbors=12",
    "encoder.group_widths=[16,32]",
    "encoder.channels=32",
    "encoder.num_blocks=3",
    "encoder.num_heads=2",
];
const RUN: [&str; 5] = [
    "data.num_points=64",
    "pretrain.batch_size=6",
    "pretrain.learning_rate=3e-3",
    "pretrain.steps=60",
    "log={checkpoint_every=20,validate_every=30,images_every=30,num_images=2}",
];

fn config(more: &[&str]) -> Config {
    load(&[&ENCODER[..], more].concat())
}

fn load(more: &[&str]) -> Config {
    let settings = [&RUN[..], more].concat().into_iter().map(String::from);
    Config::load(Some("mini-point-mae"), &settings.collect::<Vec<_>>()).unwrap()
}

#[test]
fn the_loss_falls_and_downstream_tasks_start_from_the_encoder() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let (data, pretrained) = (folder.path().join("data"), folder.path().join("pretrained"));
    shape::write_points(&data, 6, 96, &shape::CLASSES);
    let config = config(&[
        "finetune.steps=12",
        "finetune.batch_size=6",
        "segment.steps=6",
        "segment.batch_size=6",
    ]);
    let (result, losses) = run_in(&config, &data, &pretrained, Existing::Refuse, u64::MAX);
    let result = result.unwrap();
    let mean = |losses: &[(u64, f64)]| losses.iter().map(|(_, loss)| loss).sum::<f64>() / losses.len() as f64;
    assert!(
        mean(&losses[50..]) < 0.5 * mean(&losses[..5]),
        "the loss falls: {losses:?}"
    );
    assert!(
        result.get("validation_loss") < result.get("center_loss"),
        "better than no idea of a shape: {result:?}"
    );
    assert_eq!(
        result.get("validation_loss").to_bits(),
        result.get("validation_chamfer_l2").to_bits(),
        "the loss is the squared distance"
    );
    assert!(
        result.get("validation_chamfer_l1") > 0.0,
        "the other one is reported too"
    );
    assert_eq!(result.views_per_s.to_bits(), 0, "no views are read");
    assert!(
        std::fs::read_dir(pretrained.join("samples")).unwrap().count() > 0,
        "images of clouds"
    );

    let options = |name: &str| small::options(&data, folder.path().join(name), Existing::Refuse, 1);
    let cancel = AtomicBool::new(false);
    let mut notes = Vec::new();
    let mut on_event = |event: TrainEvent| {
        if let TrainEvent::Note(note) = event {
            notes.push(note);
        }
    };
    let init = Some(pretrained.as_path());
    let classified = finetune::<Classify>(&config, &options("tuned"), 0, init, &cancel, &mut on_event);
    assert!(
        classified.unwrap().unwrap().score.accuracy > 0.0,
        "it names some classes"
    );
    let segmented = finetune::<Segment>(&config, &options("parts"), 0, init, &cancel, &mut on_event);
    assert!(segmented.unwrap().is_some(), "it names parts");
    let probe_options = ProbeOptions {
        random_inits: 1,
        labels_per_class: vec![0],
        seed: 0,
        grid: None,
    };
    let probed = probe(
        &config,
        &options("probe"),
        &pretrained,
        &probe_options,
        &mut on_event,
    );
    assert_eq!(probed.unwrap().arms.len(), 2, "the encoder and a random one");
    let from: Vec<&String> = notes
        .iter()
        .filter(|note| note.starts_with("encoder from"))
        .collect();
    assert_eq!(from.len(), 2, "both say what they start from: {notes:?}");
}

#[test]
fn a_hierarchy_learns_and_is_fine_tuned() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let (data, pretrained) = (folder.path().join("data"), folder.path().join("pretrained"));
    shape::write_points(&data, 6, 96, &[]);
    let level = |num_groups: usize, channels: usize| {
        format!("{{num_groups={num_groups},num_neighbors=4,channels={channels},num_blocks=1}}")
    };
    let levels = [level(24, 12), level(12, 24), level(6, 48)].join(",");
    let levels = format!("encoder.levels=[{levels}]");
    let own = [
        levels.as_str(),
        "encoder.group_widths=[16,32]",
        "encoder.num_heads=2",
        "method.mask_ratio=0.5",
        "finetune.steps=12",
        "finetune.batch_size=6",
    ];
    let settings = [&RUN[..], &own].concat().into_iter().map(String::from);
    let config = Config::load(Some("mini-point-m2ae"), &settings.collect::<Vec<_>>()).unwrap();
    let (result, losses) = run_in(&config, &data, &pretrained, Existing::Refuse, u64::MAX);
    let result = result.unwrap();
    assert!(
        result.get("validation_loss") < result.get("center_loss"),
        "better than no idea of a shape: {result:?}"
    );
    assert!(losses[59].1 < 0.7 * losses[0].1, "the loss falls: {losses:?}");
    assert!(pretrained.join("samples").is_dir(), "images of clouds");
    let options = small::options(&data, folder.path().join("tuned"), Existing::Refuse, 1);
    let cancel = AtomicBool::new(false);
    let init = Some(pretrained.as_path());
    let tuned = finetune::<Classify>(&config, &options, 0, init, &cancel, &mut |_| ());
    assert!(
        tuned.unwrap().unwrap().score.accuracy > 0.0,
        "it names some classes"
    );
    let one_level = config
        .with_settings(&[format!("encoder.levels=[{}]", level(24, 12))])
        .unwrap();
    let options = small::options(&data, folder.path().join("other"), Existing::Refuse, 1);
    let error = pretrain(&one_level, &options, None, &cancel, &mut |_| ()).unwrap_err();
    assert!(
        error.to_string().contains("at least two encoder.levels"),
        "{error}"
    );
    assert_eq!(PointM2aeKind.name(), "point-m2ae", "as configurations call it");
}

#[test]
fn a_resumed_run_masks_what_an_unbroken_one_does() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    shape::write(&data, 4, 16, 96);
    let config = config(&[
        "pretrain.steps=8",
        "log.checkpoint_every=4",
        "method.mask=block",
        "log.num_images=0",
    ]);
    let (whole, broken) = (folder.path().join("whole"), folder.path().join("broken"));
    let (_, losses) = run_in(&config, &data, &whole, Existing::Refuse, u64::MAX);
    let (interrupted, _) = run_in(&config, &data, &broken, Existing::Refuse, 4);
    assert!(interrupted.is_none(), "there is no result yet");
    let (_, rest) = run_in(&config, &data, &broken, Existing::Resume, u64::MAX);
    assert_eq!(rest, losses[4..], "bit for bit");
}

#[test]
fn what_cannot_be_masked_is_refused_by_name() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    shape::write(&data, 4, 16, 96);
    for (setting, words) in [
        ("encoder.kind=dgcnn", "encoder.kind = \"dgcnn\" cannot leave out"),
        (
            "encoder.kind=transformer",
            "encoder.kind = \"transformer\" cannot leave out",
        ),
        (
            "method.mask_ratio=1",
            "method.mask_ratio = 1, expected a number above 0 and below 1",
        ),
        ("method.mask_ratio=0.03", "masks none of encoder.num_groups = 32"),
        ("method.decoder_drop_path=1", "method.decoder_drop_path = 1"),
        ("method.chamfer=l3", "l3"),
        ("method.masks=random", "masks"),
    ] {
        let options = small::options(&data, folder.path().join("run"), Existing::Refuse, 1);
        let cancel = AtomicBool::new(false);
        let error = pretrain(&load(&[setting]), &options, None, &cancel, &mut |_| ()).unwrap_err();
        assert!(error.to_string().contains(words), "{setting}: {error}");
        assert!(!options.out.exists(), "{setting}: nothing was written");
    }
}

#[test]
fn the_encoder_of_a_published_checkpoint_is_found_and_whole() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("checkpoint.safetensors");
    let config = MaskedAutoencoderConfig {
        encoder: PointMaeConfig::mini(),
        decoder_blocks: 1,
        decoder_drop_path: 0.0,
    };
    let vs = nn::VarStore::new(Device::Cpu);
    let _model = MaskedAutoencoder::new(&vs.root(), &config);
    let published = vs
        .variables()
        .into_iter()
        .map(|(name, tensor)| (format!("module.{name}"), tensor));
    write_tensors(&file, published.collect(), &BTreeMap::new()).unwrap();
    let encoders = [
        (String::from("mini-transformer"), EncoderConfig::transformer()),
        (String::from("mini-point-mae"), config.encoder.into()),
    ];
    let report = import(&file, &encoders, None).unwrap().report;
    assert_eq!(
        (report.encoder.as_str(), report.prefix.as_str()),
        ("mini-point-mae", "module.MAE_encoder."),
        "found"
    );
    assert!(report.is_exact(), "a class token is not missed: {report:?}");
}
