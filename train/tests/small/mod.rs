//! What the tests of training share: a small network, a turn at torch's generator, a run up to some step.

#![allow(dead_code, reason = "each test program uses its own part of this")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tap_train::config::Config;
use tap_train::engine::trainer::RunOptions;
use tap_train::method::{MethodKind, find};
use tap_train::ranks::Ranks;
use tap_train::run::Existing;
use tap_train::run::event::TrainEvent;
use tap_train::task::pretrain::{PretrainResult, pretrain_with};
use tch::Device;

/// torch's generator belongs to the process, so runs whose numbers are compared take turns.
static TURN: Mutex<()> = Mutex::new(());

/// Waits for its turn. One thread is quicker than many for networks this small.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    tch::set_num_threads(1);
    turn
}

/// A small network for images of 16 pixels, in batches of four.
pub(crate) const NETWORK: [&str; 8] = [
    "data.num_points=64",
    "data.num_views=2",
    "photograph.channels=16",
    "photograph.query.grid=2",
    "decoder.layers=[{channels=8,stride=2},{channels=4,stride=2},{channels=1,stride=2}]",
    "encoder.stages=[{num_centers=16,radius=0.4,num_neighbors=8,widths=[8,8]},{num_centers=8,radius=0.8,num_neighbors=4,widths=[16]}]",
    "encoder.last={kind=\"per_token\",widths=[16]}",
    "pretrain.batch_size=4",
];
/// A short run with checkpoints on its way.
const SETTINGS: [&str; 2] = ["pretrain.steps=12", "log={checkpoint_every=4,validate_every=6}"];

/// That network, with what a test program sets for all its tests, and one test on top.
pub(crate) fn config(of_program: &[&str], of_test: &[&str]) -> Config {
    let settings: Vec<String> = [&NETWORK[..], &SETTINGS, of_program, of_test]
        .into_iter()
        .flatten()
        .map(|&setting| setting.to_owned())
        .collect();
    Config::load(Some("mini"), &settings).unwrap()
}

pub(crate) fn options(data: &Path, out: PathBuf, existing: Existing, loader_threads: usize) -> RunOptions {
    RunOptions {
        data: data.to_owned(),
        out,
        existing,
        device: Device::Cpu,
        loader_threads,
        num_threads: 1,
        continue_from: None,
        ranks: Ranks::default(),
    }
}

/// Runs until the end, or until the step at which it is cancelled; step and loss of each.
pub(crate) fn run(
    config: &Config,
    options: &RunOptions,
    stop_at: u64,
) -> (Option<PretrainResult>, Vec<(u64, f64)>) {
    run_with(find(&config.method.kind).unwrap(), config, options, stop_at)
}

/// The same by a method that configurations cannot name.
pub(crate) fn run_with(
    method: &dyn MethodKind,
    config: &Config,
    options: &RunOptions,
    stop_at: u64,
) -> (Option<PretrainResult>, Vec<(u64, f64)>) {
    let cancel = AtomicBool::new(false);
    let mut losses = Vec::new();
    let result = pretrain_with(method, config, options, None, &cancel, &mut |event| {
        if let TrainEvent::Recorded(record) = event
            && record.is_step()
        {
            losses.push((record.step, record.get("loss")));
            if record.step == stop_at {
                cancel.store(true, Ordering::Relaxed);
            }
        }
    });
    (result.unwrap(), losses)
}

/// The same on the data and in the folder that are given, with one loader thread.
pub(crate) fn run_in(
    config: &Config,
    data: &Path,
    out: &Path,
    existing: Existing,
    stop_at: u64,
) -> (Option<PretrainResult>, Vec<(u64, f64)>) {
    run(config, &options(data, out.to_owned(), existing, 1), stop_at)
}
