//! Flags of all commands that write shards: output, devices, threads, printing; and what they print at the end.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use tap_cli::flag::ThreadsFlag;
use tap_cli::ui;
use tap_dataset::{BuildOptions, Manifest, refuse_inputs};

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
