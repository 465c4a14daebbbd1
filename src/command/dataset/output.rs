//! Flags of all commands that write shards: output, devices, threads, printing; and what they print at the end.

use std::env;
use std::ffi::OsString;
use std::io::{self, StdinLock, StdoutLock};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use serde::Serialize;
use tap_cli::flag::ThreadsFlag;
use tap_cli::{interrupt, ui};
use tap_dataset::{BuildOptions, Manifest, TrialCommand, refuse_inputs};

use super::DeviceFlags;

/// Device, threads and printing.
#[derive(Debug, Args)]
pub(super) struct WorkFlags {
    #[command(flatten)]
    device: DeviceFlags,
    #[command(flatten)]
    pub(super) threads: ThreadsFlag,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

impl WorkFlags {
    /// Options of a build into this folder.
    pub(super) fn build_options(&self, out: PathBuf) -> BuildOptions {
        BuildOptions {
            workers: self.threads.threads,
            renderer: self.device.renderer_options(),
            ..BuildOptions::new(out)
        }
    }
}

/// `--isolate`, and what it tells the processes that it starts.
#[derive(Debug, Args)]
pub(super) struct IsolateFlags {
    /// Try each object first in processes of their own, and list those that end them as crashed: for a source with a mesh
    /// that ends the program, by a fault or by memory. It does the work twice.
    #[arg(long)]
    isolate: bool,
    /// Try the objects that standard input names, for a command with --isolate.
    #[arg(long, hide = true, conflicts_with = "isolate")]
    pub(super) trial: bool,
}

impl IsolateFlags {
    /// This command as one that tries objects, if that is asked for.
    pub(super) fn command(&self) -> Result<Option<TrialCommand>> {
        if !self.isolate {
            return Ok(None);
        }
        let program = env::current_exe().context("could not find this program, to start it again")?;
        let as_trial = |argument: OsString| {
            if argument == "--isolate" {
                OsString::from("--trial")
            } else {
                argument
            }
        };
        let arguments = env::args_os().skip(1).map(as_trial).collect();
        Ok(Some(TrialCommand { program, arguments }))
    }
}

/// Tries objects for a command with `--isolate`, until it has no more of them or ends.
pub(super) fn answer_trials(
    answer: impl FnOnce(StdinLock<'_>, StdoutLock<'_>) -> tap_dataset::Result<()>,
) -> Result<ExitCode> {
    // Ctrl-C reaches both; the other one decides.
    let _ = interrupt::listen()?;
    answer(io::stdin().lock(), io::stdout().lock())?;
    Ok(ExitCode::SUCCESS)
}

/// `--resume`, which trainings and `tap render` need.
#[derive(Debug, Args)]
pub(super) struct ResumeFlag {
    /// Resume what a killed run has left. Commands that write shards do so without it, since the manifest says what
    /// belongs in the folder.
    #[arg(long, conflicts_with = "force")]
    resume: bool,
}

/// Where shards are written, and how.
#[derive(Debug, Args)]
pub(super) struct OutputFlags {
    /// Folder of shards to write or to resume.
    #[arg(long, value_name = "DIR")]
    pub(super) out: PathBuf,
    /// Overwrite another dataset in the folder; refused where it holds anything else, or an input.
    #[arg(long)]
    pub(super) force: bool,
    #[command(flatten)]
    resume: ResumeFlag,
    #[command(flatten)]
    pub(super) work: WorkFlags,
}

impl OutputFlags {
    /// Refuses to overwrite a folder that holds an input.
    pub(super) fn refuse_inputs<'a>(&self, inputs: impl IntoIterator<Item = &'a Path>) -> Result<()> {
        if self.force {
            refuse_inputs(&self.out, inputs)?;
        }
        Ok(())
    }

    pub(super) fn build_options(&self) -> BuildOptions {
        BuildOptions {
            force: self.force,
            ..self.work.build_options(self.out.clone())
        }
    }
}

/// What `--json` prints of a finished data set.
#[derive(Debug, Serialize)]
struct Finished<'a> {
    out: &'a Path,
    sha256: Option<&'a str>,
    num_rows: usize,
    num_shards: usize,
    num_lost: usize,
}

/// Prints a data set that was finished in a folder.
pub(super) fn show_finished(out: &Path, manifest: &Manifest, json: bool) -> Result<()> {
    let finished = Finished {
        out,
        sha256: manifest.sha256.as_deref(),
        num_rows: manifest.shards.iter().map(|shard| shard.rows).sum(),
        num_shards: manifest.shards.len(),
        num_lost: manifest.num_failed(),
    };
    if json {
        return ui::json(&finished);
    }
    let Finished {
        num_rows,
        num_shards,
        num_lost,
        ..
    } = finished;
    ui::result(format_args!(
        "{num_rows} objects in {num_shards} shards, {num_lost} skipped: {}",
        out.display()
    ));
    Ok(())
}
