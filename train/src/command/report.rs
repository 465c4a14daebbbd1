//! `tap-train report`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tap_cli::ui;
use tap_train::weights::safetensors::write_atomic;

use super::replace_file;
use crate::report::{Run, html, is_report};

/// Arguments of `report`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tap-train report run --out run.html
  tap-train report run-a run-b run-b-seed1 --out compared.html

The page is one file that loads nothing: curves, results with what they depend on, the settings that
differ, and the newest pictures of each run. Runs that differ by their seed alone are one line with a
band of one deviation. Runs may still be at work.")]
pub(crate) struct ReportArgs {
    /// Folders of runs, of pre-training or of any task.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The page.
    #[arg(long, value_name = "FILE.html")]
    out: PathBuf,
    /// Replace an earlier page; a file of that name that is none is left alone.
    #[arg(long)]
    force: bool,
}

impl ReportArgs {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let runs = Run::read_all(&self.runs)?;
        let inputs: Vec<_> = self.runs.iter().map(PathBuf::as_path).collect();
        replace_file(&self.out, self.force, &inputs, is_report)?;
        write_atomic(&self.out, html(&runs).as_bytes())?;
        ui::result(self.out.display());
        Ok(ExitCode::SUCCESS)
    }
}
