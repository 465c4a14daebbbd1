//! The trainer on real shards: resumed runs equal unbroken ones, losses fall, bad input is refused in one line.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shape;
mod small;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use tap_train::TrainError;
use tap_train::config::Config;
use tap_train::run::Existing;
use tap_train::run::weights::WeightChoice;
use tap_train::task::classify::Classify;
use tap_train::task::finetune::{evaluate, finetune};
use tap_train::task::pretrain::{PretrainResult, pretrain};
use tap_train::task::probe::{ProbeOptions, probe};
use tap_train::task::segment::Segment;
use tap_train::task::vote::{VoteRule, Votes};

use small::{options, run, turn};

/// Dropout, so that resuming has to restore the generator too.
const SETTINGS: [&str; 3] = ["photograph.dropout=0.1", "log.images_every=6", "finetune.steps=6"];

fn config(more: &[&str]) -> Config {
    small::config(&SETTINGS, more)
}

/// Step and loss of every line of `metrics.jsonl`.
fn recorded(out: &Path) -> Vec<(String, u64, f64)> {
    let text = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines
        .map(|line| {
            (
                line["kind"].as_str().unwrap().to_owned(),
                line["step"].as_u64().unwrap(),
                line["loss"].as_f64().unwrap(),
            )
        })
        .collect()
}

#[test]
fn a_resumed_run_gives_the_losses_of_an_unbroken_one() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    shape::write(&data, 6, 16, 96);
    let config = config(&[]);
    let (unbroken, losses) = run(
        &config,
        &options(&data, folder.path().join("a"), Existing::Refuse, 1),
        u64::MAX,
    );
    assert_eq!(losses.len(), 12, "every step");

    // Interrupted between checkpoints, then as if killed: the newest checkpoint is lost, and more threads are used.
    let out = folder.path().join("b");
    let (interrupted, _) = run(&config, &options(&data, out.clone(), Existing::Refuse, 2), 7);
    assert!(interrupted.is_none(), "there is no result yet");
    assert!(
        !out.join("result.json").exists() && !out.join("encoder.safetensors").exists(),
        "nothing half-done under a final name"
    );
    std::fs::remove_dir_all(out.join("checkpoints/step-0000000007")).unwrap();
    let (resumed, again) = run(
        &config,
        &options(&data, out.clone(), Existing::Resume, 3),
        u64::MAX,
    );
    assert_eq!(again, losses[4..], "from step 4 on, bit for bit");
    assert_eq!(
        recorded(&out),
        recorded(&folder.path().join("a")),
        "the same records, none twice"
    );
    let bits = |result: &Option<PretrainResult>| result.as_ref().unwrap().get("validation_loss").to_bits();
    assert_eq!(bits(&resumed), bits(&unbroken), "the same score");
    for name in ["encoder.safetensors", "samples/final.png", "config.toml"] {
        let read = |run: &str| std::fs::read(folder.path().join(run).join(name)).unwrap();
        assert_eq!(read("a"), read("b"), "{name} is the same, byte for byte");
    }
}

#[test]
fn the_loss_falls_on_a_few_objects() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    shape::write(&data, 3, 16, 96);
    let more = [
        "pretrain.steps=150",
        "pretrain.learning_rate=5e-3",
        "photograph.dropout=0.0",
        "pretrain.rotate_y=false",
        "photograph.channels=32",
    ];
    let (result, losses) = run(
        &config(&more),
        &options(&data, folder.path().join("run"), Existing::Refuse, 1),
        u64::MAX,
    );
    let mean = |losses: &[(u64, f64)]| losses.iter().map(|(_, loss)| loss).sum::<f64>() / losses.len() as f64;
    let (first, last) = (mean(&losses[..5]), mean(&losses[145..]));
    assert!(last < 0.75 * first, "{first} to {last}");
    let result = result.unwrap();
    assert!(
        last < result.get("constant_loss"),
        "better than a gray image: {result:?}"
    );
}

#[test]
fn weights_go_from_pretraining_to_a_score() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    shape::write(&data, 6, 16, 96);
    let config = config(&["finetune.steps=100"]);
    let pretrained = folder.path().join("tap");
    run(
        &config,
        &options(&data, pretrained.clone(), Existing::Refuse, 1),
        u64::MAX,
    );
    let cancel = AtomicBool::new(false);
    let out = folder.path().join("tuned");
    let tune = |existing| {
        finetune::<Classify>(
            &config,
            &options(&data, out.clone(), existing, 1),
            4,
            Some(&pretrained),
            &cancel,
            &mut |_| {},
        )
    };
    let result = tune(Existing::Refuse).unwrap().unwrap();
    assert_eq!(
        (
            result.score.confusion.total(),
            result.provenance.labels_per_class,
            result.provenance.votes,
        ),
        (9, 4, 0),
        "three test objects a class"
    );
    assert!(
        result.score.accuracy > 0.5,
        "three shapes can be distinguished: {result:?}"
    );

    let score = |count, seed, rule| {
        evaluate::<Classify>(
            &options(&data, out.clone(), Existing::Resume, 1),
            tap_dataset::Split::Test,
            Votes {
                count,
                seed,
                rule,
                average: None,
            },
            &WeightChoice::Finished,
            &mut |_| {},
        )
    };
    let read = score(0, 0, VoteRule::default()).unwrap();
    assert_eq!(
        read.score.confusion, result.score.confusion,
        "the saved weights give the same score"
    );
    let vote = |rule| score(2, 1, rule);
    let voted = vote(VoteRule::Augmented).unwrap();
    assert_eq!(
        (
            voted.provenance.votes,
            voted.provenance.votes_seed,
            voted.score.confusion.total()
        ),
        (2, 1, 9),
        "votes are named"
    );
    let refused = vote(VoteRule::Published).unwrap_err().to_string();
    assert!(refused.contains("part segmentation"), "{refused}");

    assert!(
        matches!(tune(Existing::Refuse), Err(TrainError::RunExists { .. })),
        "a run is not overwritten"
    );
    let again = tune(Existing::Replace).unwrap().unwrap();
    assert_eq!(
        again.score.confusion, result.score.confusion,
        "the same run again gives the same score"
    );

    let what = ProbeOptions {
        random_inits: 1,
        labels_per_class: vec![2, 0],
        seed: 0,
        grid: None,
    };
    let probed = probe(
        &config,
        &options(&data, folder.path().join("probe"), Existing::Refuse, 1),
        &pretrained,
        &what,
        &mut |_| {},
    )
    .unwrap();
    let names: Vec<&str> = probed.arms.iter().map(|arm| arm.name.as_str()).collect();
    assert_eq!(names, ["tap", "random-0"], "the arms");
    assert!(
        probed.arms[0].svm["all"]["mean"].as_f64().unwrap() > 0.5,
        "{probed:?}"
    );
}

/// A data set and what `pretrain` says to bad input, always on one line.
struct Refusal {
    folder: tempfile::TempDir,
}

impl Refusal {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        shape::write(&folder.path().join("data"), 6, 16, 96);
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, more: &[&str], data: &str, out: &str, existing: Existing, init: Option<&str>) -> String {
        let options = options(&self.path(data), self.path(out), existing, 1);
        let init = init.map(|init| self.path(init));
        let cancel = AtomicBool::new(false);
        let error = pretrain(&config(more), &options, init.as_deref(), &cancel, &mut |_| {}).unwrap_err();
        let text = format!("{:#}", anyhow::Error::from(error));
        assert!(!text.contains('\n'), "one line: {text}");
        text
    }
}

#[test]
fn data_that_does_not_fit_is_refused_in_one_line() {
    let _turn = turn();
    let refusal = Refusal::new();
    std::fs::create_dir(refusal.path("nothing")).unwrap();
    assert!(
        refusal
            .text(&[], "nothing", "run", Existing::Refuse, None)
            .contains("manifest"),
        "no manifest"
    );
    for (setting, word) in [
        ("data.num_points=500", "96 points"),
        ("data.num_views=13", "12 views"),
        ("photograph.query.grid=4", "32x32"),
        ("pretrain.batch_size=99", "batch_size"),
    ] {
        let text = refusal.text(&[setting], "data", "run", Existing::Refuse, None);
        assert!(text.contains(word), "{setting}: {text}");
    }
    let mut files = std::fs::read_dir(refusal.path("data"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let shard = files
        .find(|path| path.extension().is_some_and(|extension| extension == "parquet"))
        .unwrap();
    let bytes = std::fs::read(&shard).unwrap();
    std::fs::write(&shard, &bytes[..bytes.len() / 2]).unwrap();
    let name = shard.file_name().unwrap().to_str().unwrap();
    assert!(
        refusal
            .text(&[], "data", "run", Existing::Refuse, None)
            .contains(name),
        "a truncated shard is named"
    );
    assert!(!refusal.path("run").exists(), "nothing was written");
}

#[test]
fn points_and_labels_alone_are_enough_for_all_but_a_method_that_wants_views() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    shape::write(&path("views"), 4, 16, 96);
    shape::write_points(&path("points"), 4, 96, &shape::CLASSES);
    let config = config(&["segment={batch_size=6,steps=2}", "pretrain.steps=2"]);
    let views = options(&path("views"), path("tap"), Existing::Refuse, 1);
    run(&config, &views, u64::MAX);

    let on_points = |out: &str| options(&path("points"), path(out), Existing::Refuse, 1);
    let cancel = AtomicBool::new(false);
    let tap = path("tap");
    let classified = finetune::<Classify>(&config, &on_points("a"), 0, Some(&tap), &cancel, &mut |_| {});
    assert_eq!(classified.unwrap().unwrap().score.confusion.total(), 6);
    let segmented = finetune::<Segment>(&config, &on_points("b"), 0, None, &cancel, &mut |_| {});
    let score = segmented.unwrap().unwrap().score.score;
    assert!((0.0..=1.0).contains(&score.point_accuracy), "{score:?}");
    let probed = ProbeOptions {
        random_inits: 1,
        labels_per_class: vec![0],
        seed: 0,
        grid: None,
    };
    probe(&config, &on_points("c"), &tap, &probed, &mut |_| {}).unwrap();

    let refused = pretrain(&config, &on_points("d"), None, &cancel, &mut |_| {}).unwrap_err();
    let text = refused.to_string();
    assert!(
        text.contains("no views, which method tap needs") && text.contains("--no-views"),
        "{text}"
    );
    assert!(!path("d").exists(), "nothing was written");
}

#[test]
fn runs_that_do_not_fit_are_refused_in_one_line() {
    let _turn = turn();
    let refusal = Refusal::new();
    run(
        &config(&[]),
        &options(&refusal.path("data"), refusal.path("run"), Existing::Refuse, 1),
        u64::MAX,
    );
    let wider = ["encoder.last={kind=\"per_token\",widths=[24]}"];
    let text = refusal.text(&wider, "data", "other", Existing::Refuse, Some("run"));
    assert!(
        text.contains("of another shape") && text.contains("[16, 19"),
        "every name is listed: {text}"
    );
    let text = refusal.text(&["pretrain.steps=13"], "data", "run", Existing::Resume, None);
    assert!(
        text.contains("phase.num_steps (12, now 13)"),
        "another plan: {text}"
    );
    let text = refusal.text(&[], "data", "data", Existing::Replace, None);
    assert!(text.contains("not a run"), "the data set stays: {text}");
    let text = refusal.text(&[], "data", "run", Existing::Refuse, None);
    assert!(text.contains("--resume"), "a run is not overwritten: {text}");
}

#[test]
fn a_loss_that_is_not_finite_names_its_batch() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    shape::write(&data, 6, 16, 96);
    let cancel = AtomicBool::new(false);
    let config = config(&["loss.foreground_weight=1e300"]);
    let error = pretrain(
        &config,
        &options(&data, folder.path().join("run"), Existing::Refuse, 1),
        None,
        &cancel,
        &mut |_| {},
    )
    .unwrap_err();
    assert!(
        matches!(&error, TrainError::NonFinite { step: 1, samples, .. } if samples.contains('/')),
        "{error}"
    );
}
