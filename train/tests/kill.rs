//! Training that is killed again and again, at steps and at moments drawn at random, and resumed with other numbers of
//! loader threads: its losses and weights are those of an unbroken run, and each sample comes once an epoch.
//!
//! The process that is killed is this program itself, at the test [`the_process_that_is_killed`].

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shape;
mod small;

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::thread::sleep;
use std::time::Duration;

use tap_train::method::find;
use tap_train::prelude::*;
use tap_train::seed::Stream;
use tch::nn;

/// Eight epochs of 18 objects: 36 steps of four.
const NUM_STEPS: u64 = 36;
const NUM_EPOCHS: u64 = 8;
const SETTINGS: [&str; 4] = [
    "pretrain.steps=36",
    "pretrain.last_batch='carry'",
    "pretrain.ema_decay=0.9",
    "log={checkpoint_every=2,validate_every=9,num_images=0,keep_checkpoints=2}",
];
/// Times that the run is killed.
const NUM_KILLS: u64 = 24;
/// Tells the process that is killed what to do: the folder, loader threads and the step to die after, with spaces between.
const CHILD: &str = "TAP_TEST_KILLED";

/// TAP, with a line in a file for each batch that is trained on: the seeds of its samples, one for each (epoch, id).
#[derive(Debug)]
struct Logged {
    tap: Box<dyn Method>,
    log: Mutex<File>,
}

impl Loss for Logged {
    fn normalizer(&self, batch: &Batch) -> Sums {
        self.tap.normalizer(batch)
    }

    fn terms(&self, batch: &Batch, mode: Mode) -> Vec<Term> {
        if mode.is_training {
            let seeds: Vec<String> = batch.sample_seeds.iter().map(u64::to_string).collect();
            writeln!(self.log.lock().unwrap(), "{}", seeds.join(" ")).unwrap();
        }
        self.tap.terms(batch, mode)
    }
}

impl Method for Logged {
    fn inputs(&self) -> Inputs {
        self.tap.inputs()
    }

    fn evaluate(&self, batch: &Batch, sums: &mut Sums) {
        self.tap.evaluate(batch, sums);
    }

    fn scalars(&self, sums: &Sums) -> Scalars {
        self.tap.scalars(sums)
    }
}

/// TAP that keeps a log at this path.
#[derive(Debug)]
struct LoggedKind(PathBuf);

impl MethodKind for LoggedKind {
    fn name(&self) -> &'static str {
        "tap"
    }

    fn plan(&self, config: &Config) -> Result<MethodPlan, TrainError> {
        find("tap")?.plan(config)
    }

    fn build(&self, vs: &nn::Path<'_>, plan: &Plan) -> Result<Box<dyn Method>, TrainError> {
        let log = OpenOptions::new().create(true).append(true).open(&self.0);
        Ok(Box::new(Logged {
            tap: find("tap")?.build(vs, plan)?,
            log: Mutex::new(log.unwrap()),
        }))
    }
}

/// Not a test on its own: a run that kills itself after a step, or goes on until somebody else does.
#[test]
fn the_process_that_is_killed() {
    let Ok(told) = env::var(CHILD) else {
        return;
    };
    let told: Vec<&str> = told.splitn(3, ' ').collect();
    let (loader_threads, last_step) = (told[0].parse().unwrap(), told[1].parse::<u64>().unwrap());
    let place = Path::new(told[2]);
    let _turn = small::turn();
    let kind = LoggedKind(place.join("drawn.log"));
    let config = small::config(&SETTINGS, &[]);
    let options = small::options(
        &place.join("../data"),
        place.join("run"),
        Existing::Resume,
        loader_threads,
    );
    let never = AtomicBool::new(false);
    pretrain_with(&kind, &config, &options, None, &never, &mut |event| match event {
        TrainEvent::Started { first_step, .. } => {
            let mut log = OpenOptions::new().append(true).open(&kind.0).unwrap();
            writeln!(log, "from {first_step}").unwrap();
        }
        TrainEvent::Recorded(record) if record.is_step() && record.step == last_step => {
            let id = std::process::id().to_string();
            Command::new("kill").args(["-KILL", &id]).status().unwrap();
            sleep(Duration::from_mins(1));
        }
        _ => {}
    })
    .unwrap();
}

/// Starts it, to die after `last_step` steps.
fn start(place: &Path, loader_threads: usize, last_step: u64) -> Child {
    fs::create_dir_all(place).unwrap();
    let told = format!("{loader_threads} {last_step} {}", place.display());
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "the_process_that_is_killed"])
        .env(CHILD, told)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Steps of the newest checkpoint, finished or not.
fn newest(place: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(place.join("run/checkpoints")) else {
        return 0;
    };
    let steps = entries.filter_map(|entry| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        name.strip_prefix("step-")?
            .trim_end_matches(".partial")
            .parse()
            .ok()
    });
    steps.max().unwrap_or(0)
}

/// Loss of each step, to the bit; a step that is recorded twice fails.
fn losses(place: &Path) -> BTreeMap<u64, u64> {
    let text = fs::read_to_string(place.join("run/metrics.jsonl")).unwrap();
    let mut losses = BTreeMap::new();
    for line in text.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        if line["kind"] == "step" {
            let loss = line["loss"].as_f64().unwrap().to_bits();
            let before = losses.insert(line["step"].as_u64().unwrap(), loss);
            assert_eq!(before, None, "every step once: {line}");
        }
    }
    losses
}

/// The samples of each step that is part of the run, after any number of sessions.
fn drawn(place: &Path) -> BTreeMap<u64, Vec<u64>> {
    let text = fs::read_to_string(place.join("drawn.log")).unwrap();
    let (mut drawn, mut step) = (BTreeMap::<u64, Vec<u64>>::new(), 0);
    for line in text.lines() {
        if let Some(first_step) = line.strip_prefix("from ") {
            step = first_step.parse().unwrap();
            continue;
        }
        let seeds: Vec<u64> = line.split(' ').map(|seed| seed.parse().unwrap()).collect();
        if let Some(before) = drawn.insert(step, seeds.clone()) {
            assert_eq!(before, seeds, "step {step} has the same samples again");
        }
        step += 1;
    }
    drawn
}

fn is_killed(status: ExitStatus) -> bool {
    status.code().is_none()
}

#[test]
fn a_run_that_is_killed_again_and_again_is_an_unbroken_one() {
    let folder = tempfile::tempdir().unwrap();
    shape::write(&folder.path().join("data"), 6, 16, 96);
    let [whole, broken] = ["whole", "broken"].map(|name| folder.path().join(name));
    let status = start(&whole, 1, u64::MAX).wait().unwrap();
    assert!(status.success(), "{status}");

    let mut random = Stream::new(11, "kill", 0, "");
    let mut num_killed = 0;
    for session in 0..NUM_KILLS {
        let loader_threads = 1 + random.below(4);
        // The checkpoint that it goes on from is at most two steps back, so that it gets ahead.
        let done = newest(&broken);
        let status = if session.is_multiple_of(2) {
            let last_step = (done + 1 + random.below(5) as u64).min(NUM_STEPS);
            start(&broken, loader_threads, last_step).wait().unwrap()
        } else {
            // At any moment, as in the middle of a checkpoint.
            let mut child = start(&broken, loader_threads, u64::MAX);
            while newest(&broken) <= done && child.try_wait().unwrap().is_none() {
                sleep(Duration::from_micros(200));
            }
            sleep(Duration::from_micros(random.below(20_000) as u64));
            child.kill().unwrap();
            child.wait().unwrap()
        };
        num_killed += u64::from(is_killed(status));
        assert!(
            is_killed(status) || status.success(),
            "session {session}: {status}"
        );
    }
    assert!(
        num_killed > NUM_KILLS / 2,
        "{num_killed} of {NUM_KILLS} sessions were killed"
    );
    let status = start(&broken, 3, u64::MAX).wait().unwrap();
    assert!(status.success(), "{status}");

    assert_eq!(losses(&broken), losses(&whole), "losses, to the bit");
    let weights = |place: &Path| fs::read(place.join("run/encoder.safetensors")).unwrap();
    assert!(weights(&broken) == weights(&whole), "weights, to the byte");

    let ids = shape::CLASSES
        .iter()
        .flat_map(|class| (0..6).map(move |object| format!("{class}/{object:04}")));
    let expected = (0..NUM_EPOCHS).flat_map(|epoch| {
        ids.clone()
            .map(move |id| Stream::new(0, "sample", epoch, &id).bits())
    });
    let mut expected: Vec<u64> = expected.collect();
    expected.sort_unstable();
    for place in [&whole, &broken] {
        let mut samples: Vec<u64> = drawn(place).into_values().flatten().collect();
        samples.sort_unstable();
        assert_eq!(samples, expected, "each sample once an epoch");
    }
}
