//! How an encoder is trained in a fine-tuning, through the program: frozen at first, at rates by layer, by weighted classes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod program;
mod shape;
mod small;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use program::{stderr, succeeded};
use tap_train::config::Plan;
use tap_train::weights::safetensors::read_tensors;
use tch::{Kind, Tensor};

/// Eight steps at a constant rate, with a checkpoint behind every second one.
const SETTINGS: [&str; 4] = [
    "pretrain.steps=2",
    "finetune={unit='step',batch_size=5,steps=8,milestones=[99],warmup_fraction=0,learning_rate=1e-3,weight_decay=0}",
    "segment={batch_size=3,steps=4}",
    "log={checkpoint_every=2,validate_every=0,num_images=0,keep_checkpoints=9}",
];
const ENCODER: &str = "encoder.";

struct TestDir(tempfile::TempDir);

impl TestDir {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        shape::write_parts(&folder.path().join("data"), 5, 16, 64, &shape::CLASSES);
        let place = Self(folder);
        succeeded(&place.run(&["pretrain", "--out", "tap"], &[]));
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, arguments: &[&str], settings: &[&str]) -> Output {
        let mut command = program::command(self.0.path(), arguments);
        command.args(["--data", "data", "--device", "cpu", "--threads", "1"]);
        for setting in small::NETWORK.iter().chain(&SETTINGS).chain(settings) {
            command.args(["--set", setting]);
        }
        command.output().unwrap()
    }

    fn tune(&self, out: &str, settings: &[&str]) -> Output {
        self.run(&["finetune", "--init", "tap", "--out", out], settings)
    }

    /// The weights of a checkpoint of a fine-tuning.
    fn weights(&self, run: &str, step: u64) -> BTreeMap<String, Tensor> {
        let checkpoint = format!("{run}/checkpoints/step-{step:010}/model.safetensors");
        read_tensors(&self.path(&checkpoint))
            .unwrap()
            .into_iter()
            .collect()
    }

    /// Those of the encoder that was pre-trained, under the names of a fine-tuning.
    fn pretrained(&self) -> BTreeMap<String, Tensor> {
        let tensors = read_tensors(&self.path("tap/encoder.safetensors")).unwrap();
        let named = |(name, tensor)| (format!("{ENCODER}{name}"), tensor);
        tensors.into_iter().map(named).collect()
    }

    /// A run as a kill behind the checkpoint of this step leaves it.
    fn interrupt(&self, run: &str, step: u64) {
        for file in ["result.json", "model.safetensors"] {
            fs::remove_file(self.path(run).join(file)).unwrap();
        }
        for later in (step + 1)..=8 {
            let _ = fs::remove_dir_all(self.path(run).join(format!("checkpoints/step-{later:010}")));
        }
    }

    fn model(&self, run: &str) -> Vec<u8> {
        fs::read(self.path(run).join("model.safetensors")).unwrap()
    }

    fn plan(&self, run: &str) -> Plan {
        Plan::read(&self.path(run).join("config.toml")).unwrap()
    }
}

#[track_caller]
fn said(output: &Output) -> String {
    succeeded(output);
    stderr(output)
}

#[track_caller]
fn refused(output: &Output, words: &str) {
    let text = stderr(output);
    assert!(
        !output.status.success() && text.lines().count() == 1,
        "one line: {text}"
    );
    assert!(text.contains(words), "{words}: {text}");
}

/// The largest difference of two tensors' numbers.
fn largest_change(before: &Tensor, after: &Tensor) -> f64 {
    let change = before.to_kind(Kind::Double) - after.to_kind(Kind::Double);
    change.abs().max().double_value(&[])
}

#[test]
fn a_frozen_encoder_stays_as_it_is_to_the_bit_and_then_learns() {
    let place = TestDir::new();
    let frozen = ["finetune.freeze_encoder_steps=4", "finetune.accumulation_steps=2"];
    succeeded(&place.tune("whole", &frozen));
    let before = place.pretrained();
    assert!(
        before.keys().any(|name| name.ends_with("running_mean")),
        "there are batch norms"
    );
    let (at_4, at_6) = (place.weights("whole", 4), place.weights("whole", 6));
    for (name, tensor) in &before {
        assert!(at_4[name].equal(tensor), "{name}: weights and running statistics");
    }
    let has_changed = |name: &&String| !at_6[*name].equal(&before[*name]);
    let changed: Vec<&String> = before.keys().filter(has_changed).collect();
    assert!(
        changed
            .iter()
            .any(|name| name.ends_with("conv.weight") || name.ends_with("0.weight"))
    );
    assert!(
        changed.iter().any(|name| name.ends_with("running_mean")),
        "{changed:?}"
    );
    let head = "prediction.head.0.0.weight";
    assert!(
        !place.weights("whole", 2)[head].equal(&at_4[head]),
        "the head learns meanwhile"
    );

    // Killed while it is frozen, at the last frozen step, and behind it.
    for step in [2, 4, 6] {
        let run = format!("killed-{step}");
        succeeded(&place.tune(&run, &frozen));
        place.interrupt(&run, step);
        succeeded(&place.run(&["finetune", "--out", &run, "--resume"], &frozen));
        assert!(
            place.model(&run) == place.model("whole"),
            "resumed at step {step}"
        );
    }
    place.interrupt("whole", 2);
    refused(
        &place.run(
            &["finetune", "--out", "whole", "--resume"],
            &[&frozen[..], &["finetune.freeze_encoder_steps=5"]].concat(),
        ),
        "phase.freeze_encoder_steps (4, now 5)",
    );
    let random = place.run(&["finetune", "--out", "random"], &frozen);
    assert!(said(&random).contains("starts at random and is frozen"));
    // A run as long as that never moves it.
    succeeded(&place.tune("probe", &["finetune.freeze_encoder_steps=8"]));
    let last = place.weights("probe", 8);
    assert!(before.iter().all(|(name, tensor)| last[name].equal(tensor)));
}

#[test]
fn layers_learn_at_their_own_rates() {
    let place = TestDir::new();
    let rates = [
        "finetune.encoder_rate=0.5",
        "finetune.layer_decay=0.4",
        "finetune.steps=2",
    ];
    succeeded(&place.tune("rates", &[&rates[..], &["log.checkpoint_every=1"]].concat()));
    let (before, after) = (place.pretrained(), place.weights("rates", 1));
    // The first step of AdamW moves a weight by its rate against the sign of the gradient.
    for (module, layers_above) in [(0, 3), (1, 2), (2, 1)] {
        let of_module = format!("{ENCODER}SA_modules.{module}.");
        let moved = before
            .iter()
            .filter(|(name, _)| name.starts_with(&of_module) && name.ends_with("weight"))
            .map(|(name, tensor)| largest_change(tensor, &after[name]))
            .fold(0.0, f64::max);
        let expected = 1e-3 * 0.5 * 0.4_f64.powi(layers_above);
        assert!(
            (moved / expected - 1.0).abs() < 0.02,
            "module {module}: {moved}, expected {expected}"
        );
    }
    let plan = place.plan("rates");
    assert!((plan.phase.layer_decay - 0.4).abs() < 1e-12, "the plan says it");
    // A run that goes on with other rates is another run, which says so.
    let slower = ["--continue-from", "rates", "--out", "slower"];
    let settings = [&rates[..2], &["finetune.steps=4", "finetune.encoder_rate=0.1"]].concat();
    let text = said(&place.run(&[&["finetune"], &slower[..]].concat(), &settings));
    assert!(text.contains("phase.encoder_rate (0.5, now 0.1)"), "{text}");
}

#[test]
fn classes_weigh_by_their_frequency_or_as_given() {
    let place = TestDir::new();
    let balls: Vec<String> = (0..4).map(|i| ball(&place.path("data"), i)).collect();
    let tune = |out: &str, settings: &[&str]| {
        let finetune = [
            "finetune",
            "--init",
            "tap",
            "--leave-out",
            &balls.join(","),
            "--out",
            out,
        ];
        place.run(&finetune, settings)
    };
    succeeded(&tune("balanced", &["finetune.class_weights=balanced"]));
    let weights = place.plan("balanced").phase.class_weights;
    // One ball, five boxes, five cones: 1, 1/5 and 1/5 over their mean.
    for (weight, expected) in weights.iter().zip([15.0 / 7.0, 3.0 / 7.0, 3.0 / 7.0]) {
        assert!((weight - expected).abs() < 1e-9, "{weights:?}");
    }
    // Only ratios count, so the same ratios give the same run.
    succeeded(&tune("given", &["finetune.class_weights=[5,1,1]"]));
    assert!(place.model("given").len() == place.model("balanced").len());
    let [given, balanced] = ["given", "balanced"].map(|run| place.weights(run, 8));
    for (name, tensor) in &given {
        assert!(largest_change(tensor, &balanced[name]) < 1e-4, "{name}");
    }
    succeeded(&tune("plain", &[]));
    assert!(
        place.plan("plain").phase.class_weights.is_empty(),
        "none by default"
    );
    let plain = place.weights("plain", 8);
    assert!(
        given
            .iter()
            .any(|(name, tensor)| largest_change(tensor, &plain[name]) > 1e-4)
    );
    refused(
        &tune("wrong", &["finetune.class_weights=[1,2]"]),
        "finetune.class_weights has 2 numbers, and the data has 3 classes",
    );
    let segment = ["finetune", "--task", "segment", "--out", "parts"];
    succeeded(&place.run(&segment, &["segment.class_weights=balanced"]));
    let weights = place.plan("parts").phase.class_weights;
    assert_eq!(weights.len(), 6, "two parts a class");
    let mean = weights.iter().sum::<f64>() / 6.0;
    assert!(
        (mean - 1.0).abs() < 1e-9 && weights.iter().any(|weight| *weight > 1.01),
        "{weights:?}"
    );
}

/// The id of a ball of the training split.
fn ball(data: &Path, row: usize) -> String {
    let dataset = tap_dataset::Dataset::open(data).unwrap();
    let ids = dataset.ids(tap_dataset::Split::Train).unwrap();
    let mut balls = ids.iter().filter(|id| id.category() == "ball");
    balls.nth(row).unwrap().to_string()
}

#[test]
fn what_would_do_nothing_is_refused() {
    let place = TestDir::new();
    let pretrain = ["pretrain", "--out", "no"];
    refused(
        &place.run(&pretrain, &["pretrain.layer_decay=0.5"]),
        "pretrain.layer_decay is a setting of fine-tuning",
    );
    let point_mlp = [
        "encoder={kind='point_mlp',channels=8,stages=[{reduction=2,num_neighbors=6,expansion=2,num_pre_blocks=1,num_pos_blocks=1}]}",
        "segment.freeze_encoder_steps=2",
    ];
    refused(
        &place.run(&["finetune", "--task", "segment", "--out", "no"], &point_mlp),
        "the first layer of point_mlp",
    );
    assert!(!place.path("no").exists(), "nothing is written");
}
