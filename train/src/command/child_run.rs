//! Commands of this program in processes of their own, several at once: the arms of a comparison, the folds of few-shot.
//!
//! torch's generator belongs to the process, so runs in threads would disturb each other's dropout. Each can be repeated by hand
//! with the same arguments.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context as _;
use tap_cli::exit_code::INTERRUPTED;
use tap_cli::{interrupt, ui};
use tap_train::process::num_cores;

/// How often a child is asked whether it has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// One command to run.
#[derive(Debug)]
pub(super) struct ChildRun {
    /// The folder that it writes.
    pub(super) folder: PathBuf,
    /// The subcommand and its arguments.
    pub(super) arguments: Vec<OsString>,
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
    let num_jobs = if jobs == 0 { num_cores() } else { jobs };
    let (mut running, mut waiting): (Vec<Running<'_>>, _) = (Vec::new(), runs.iter());
    let (mut num_done, mut is_stopping) = (0, false);
    loop {
        while running.len() < num_jobs && !cancel.load(Ordering::Relaxed) {
            let Some(run) = waiting.next() else { break };
            running.push(Running::start(run)?);
        }
        if running.is_empty() {
            return Ok(num_done == runs.len());
        }
        if cancel.load(Ordering::Relaxed) && !is_stopping {
            is_stopping = true;
            ui::note("stopping: each run writes its checkpoint; --resume continues");
            for child in &running {
                interrupt::terminate(&child.process);
            }
        }
        let mut still_running = Vec::new();
        let mut failed = None;
        for mut child in running {
            match child.process.try_wait().context("cannot wait for a run")? {
                None => still_running.push(child),
                Some(status) if status.success() => {
                    num_done += 1;
                    let name = child.run.folder.file_name().unwrap_or_default().display();
                    ui::note(format_args!(
                        "{num_done}/{} {name}: {:.1} %",
                        runs.len(),
                        100.0 * accuracy(child.run)?
                    ));
                }
                // A command without checkpoints is ended by the signal itself.
                Some(status) if is_stopping || status.code() == Some(i32::from(INTERRUPTED)) => {
                    cancel.store(true, Ordering::Relaxed);
                }
                Some(_) => failed = failed.or(Some(child)),
            }
        }
        running = still_running;
        if let Some(failed) = failed {
            for Running { process, .. } in &mut running {
                // It may have ended by itself in the meantime.
                let _ = process.kill();
                let _ = process.wait();
            }
            anyhow::bail!("{}: {}", failed.run.folder.display(), failed.last_line());
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// A running command.
struct Running<'a> {
    run: &'a ChildRun,
    process: Child,
    /// Reads its standard error to the end, and keeps the last line.
    last_line: JoinHandle<String>,
}

impl<'a> Running<'a> {
    fn start(run: &'a ChildRun) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
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
            run,
            process,
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
