//! Commands of this program in processes of their own, several at once: the arms of a comparison, the folds of few-shot, the runs
//! of a sweep.
//!
//! torch's generator belongs to the process, so runs in threads would disturb each other's dropout. Each can be repeated by hand
//! with the same arguments.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use tap_cli::exit_code::INTERRUPTED;
use tap_cli::{interrupt, ui};
use tap_dataset::is_folder_held;
use tap_train::process::num_cores;

/// How often a child is asked whether it has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How long a run that lost its parent may take to write its checkpoint.
const ORPHAN_TIMEOUT: Duration = Duration::from_mins(1);

/// The flag by which a command knows that it is a child.
#[derive(Debug, Args)]
pub(crate) struct ParentArgs {
    /// The process that started this one: when it dies, write a checkpoint, if this command has any, and end.
    #[arg(long = "parent", hide = true, value_name = "PID")]
    pid: Option<u32>,
}

impl ParentArgs {
    /// Asks for a clean end when the parent dies.
    pub(super) fn watch(&self, cancel: &AtomicBool) {
        if let Some(pid) = self.pid {
            interrupt::stop_with_parent(pid, cancel);
        }
    }
}

/// What a child is told, so that it ends with this process.
pub(super) fn parent_arguments() -> [OsString; 2] {
    ["--parent".into(), std::process::id().to_string().into()]
}

/// One command to run.
#[derive(Debug)]
pub(super) struct ChildRun {
    /// The folder that it writes.
    pub(super) folder: PathBuf,
    /// The subcommand and its arguments.
    pub(super) arguments: Vec<OsString>,
    /// What it is called in messages.
    pub(super) name: String,
    /// Runs of one kind take about as long.
    pub(super) kind: String,
    /// The run that has to be finished before, by its place in the list.
    pub(super) after: Option<usize>,
}

impl ChildRun {
    /// A run that depends on no other, under the name of its folder.
    pub(super) fn alone(folder: PathBuf, arguments: Vec<OsString>) -> Self {
        Self {
            name: folder.file_name().unwrap_or_default().display().to_string(),
            folder,
            arguments,
            kind: String::new(),
            after: None,
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RunEnd {
    /// It is finished.
    Finished,
    /// It failed, with the last line that it printed.
    Failed(String),
    /// It was not begun, or was interrupted.
    Open,
}

/// What becomes of the others where one fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnFailure {
    /// They are killed.
    Stop,
    /// They go on, but for those that come after it.
    GoOn,
}

/// Runs all, `jobs` at once (0 is one per core), and prints the `accuracy` of each; false where it was interrupted. Children are
/// then asked to write their checkpoint and end.
///
/// # Errors
/// Where one fails: the last line that it printed. The others are killed.
pub(super) fn run_all(
    runs: &[ChildRun],
    jobs: usize,
    cancel: &AtomicBool,
    accuracy: impl Fn(&ChildRun) -> anyhow::Result<f64>,
) -> anyhow::Result<bool> {
    let report = |place: usize| Ok(format!("{:.1} %", 100.0 * accuracy(&runs[place])?));
    let ends = run_each(runs, jobs, cancel, OnFailure::Stop, report)?;
    for (run, end) in runs.iter().zip(&ends) {
        if let RunEnd::Failed(line) = end {
            anyhow::bail!("{}: {line}", run.folder.display());
        }
    }
    Ok(ends.iter().all(|end| *end == RunEnd::Finished))
}

/// Runs all, `jobs` at once (0 is one per core), each when the one that it comes after is finished, and prints what `report` says of
/// each, by its place in the list; how each ended. Where it is interrupted, children are asked to write their checkpoint and end.
///
/// # Errors
/// Where no process can be started, or what a finished one wrote cannot be read.
pub(super) fn run_each(
    runs: &[ChildRun],
    jobs: usize,
    cancel: &AtomicBool,
    on_failure: OnFailure,
    report: impl Fn(usize) -> anyhow::Result<String>,
) -> anyhow::Result<Vec<RunEnd>> {
    let num_jobs = if jobs == 0 { num_cores() } else { jobs };
    let mut ends = vec![RunEnd::Open; runs.len()];
    let mut waiting: Vec<usize> = (0..runs.len()).collect();
    let mut running: Vec<Running<'_>> = Vec::new();
    let mut clock = Clock::default();
    let (mut num_done, mut is_stopping) = (0, false);
    loop {
        while running.len() < num_jobs && !cancel.load(Ordering::Relaxed) {
            let is_ready = |place: &usize| {
                let before = runs[*place].after;
                before.is_none_or(|before| ends[before] == RunEnd::Finished)
            };
            let Some(next) = waiting.iter().position(is_ready) else {
                break;
            };
            let place = waiting.remove(next);
            running.push(Running::start(place, &runs[place])?);
        }
        if running.is_empty() {
            return Ok(ends);
        }
        if cancel.load(Ordering::Relaxed) && !is_stopping {
            is_stopping = true;
            ui::note("stopping: each run writes its checkpoint; --resume continues");
            for child in &running {
                interrupt::terminate(&child.process);
            }
        }
        let mut still_running = Vec::new();
        let mut has_failed = false;
        for mut child in running {
            match child.process.try_wait().context("cannot wait for a run")? {
                None => still_running.push(child),
                Some(status) if status.success() => {
                    num_done += 1;
                    ends[child.place] = RunEnd::Finished;
                    clock.add(&child.run.kind, child.started.elapsed());
                    let open = waiting
                        .iter()
                        .copied()
                        .chain(still_running.iter().map(|child: &Running<'_>| child.place));
                    let left = clock.left(open.map(|place| runs[place].kind.as_str()), num_jobs);
                    ui::note(format_args!(
                        "{num_done}/{} {}: {}{left}",
                        runs.len(),
                        child.run.name,
                        report(child.place)?
                    ));
                }
                // A command without checkpoints is ended by the signal itself.
                Some(status) if is_stopping || status.code() == Some(i32::from(INTERRUPTED)) => {
                    cancel.store(true, Ordering::Relaxed);
                }
                Some(_) => {
                    has_failed = true;
                    let (place, run) = (child.place, child.run);
                    let line = child.last_line();
                    if on_failure == OnFailure::GoOn {
                        ui::note(format_args!("{} failed: {line}", run.name));
                    }
                    ends[place] = RunEnd::Failed(line);
                }
            }
        }
        running = still_running;
        if has_failed && on_failure == OnFailure::Stop {
            for Running { process, .. } in &mut running {
                // It may have ended by itself in the meantime.
                let _ = process.kill();
                let _ = process.wait();
            }
            return Ok(ends);
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// How long finished runs took, by kind.
#[derive(Debug, Default)]
struct Clock(BTreeMap<String, (Duration, u32)>);

impl Clock {
    fn add(&mut self, kind: &str, time: Duration) {
        let (sum, count) = self.0.entry(kind.to_owned()).or_default();
        *sum += time;
        *count += 1;
    }

    /// The time that the open runs will take, as text; nothing where none is open.
    fn left<'a>(&self, open: impl Iterator<Item = &'a str>, num_jobs: usize) -> String {
        let all = self
            .0
            .values()
            .fold((Duration::ZERO, 0), |(sum, count), of_kind| {
                (sum + of_kind.0, count + of_kind.1)
            });
        let left: f64 = open
            .map(|kind| {
                let (sum, count) = self.0.get(kind).copied().unwrap_or(all);
                sum.as_secs_f64() / f64::from(count.max(1))
            })
            .sum();
        if left > 0.0 {
            format!(" ({} left)", ui::seconds(left / num_jobs as f64))
        } else {
            String::new()
        }
    }
}

/// A running command.
struct Running<'a> {
    place: usize,
    run: &'a ChildRun,
    process: Child,
    started: Instant,
    /// Reads its standard error to the end, and keeps the last line.
    last_line: JoinHandle<String>,
}

impl<'a> Running<'a> {
    fn start(place: usize, run: &'a ChildRun) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        // The run of a parent that was killed may still be writing its checkpoint.
        let deadline = Instant::now() + ORPHAN_TIMEOUT;
        while is_folder_held(&run.folder) && Instant::now() < deadline {
            thread::sleep(POLL_INTERVAL);
        }
        let mut command = std::process::Command::new(program);
        command.args(&run.arguments);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        interrupt::start_apart(&mut command);
        let mut process = command.spawn().context("cannot start a run")?;
        let stderr = process.stderr.take().context("a run has no standard error")?;
        // A run that nobody listens to stops as soon as the pipe is full.
        let last_line = thread::spawn(move || {
            let lines = BufReader::new(stderr).lines().map_while(Result::ok);
            lines
                .filter(|line| !line.trim().is_empty())
                .last()
                .unwrap_or_default()
        });
        Ok(Self {
            place,
            run,
            process,
            started: Instant::now(),
            last_line,
        })
    }

    /// Why a run that has ended failed.
    fn last_line(self) -> String {
        let line = self.last_line.join().unwrap_or_default();
        let line = line.trim_start_matches("error: ");
        if line.is_empty() {
            String::from("it ended without an error message")
        } else {
            line.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_is_that_of_the_open_runs_kinds() {
        let mut clock = Clock::default();
        assert_eq!(clock.left([].into_iter(), 2), "");
        clock.add("pretrain", Duration::from_secs(40));
        clock.add("pretrain", Duration::from_secs(50));
        clock.add("probe", Duration::from_secs(5));
        assert_eq!(
            clock.left(["pretrain", "probe", "probe"].into_iter(), 2),
            " (27.5 s left)"
        );
        // Of a kind that has not ended yet, the mean of all.
        assert_eq!(
            clock.left(["finetune"].into_iter(), 1),
            format!(" ({} left)", ui::seconds(95.0 / 3.0))
        );
    }
}
