//! `tap relight`: views under another lighting, without their meshes.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use tap_cli::exit_code::INTERRUPTED;
use tap_cli::flag::{MaxSkippedFlag, ThreadsFlag};
use tap_cli::interrupt;
use tap_dataset::view_folder::{self, RelightViewsOptions};

use super::report::{Command, Report, ReportOptions};
use crate::command::flag;

/// Relight views without their meshes.
///
/// The views must have been rendered with --channels color,mask,depth,normal,albedo; albedo only for a lighting that shows
/// the mesh's own colors, such as textured. Views that were rendered white are lit white. Normals stay flat or smooth. The
/// old color says how the samples of edge pixels were mixed; without it edges are jagged. Everything but the color is
/// copied.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// A folder of views, or one with such folders in it, at any depth.
    #[arg(value_name = "VIEWS")]
    views: PathBuf,
    /// mvcnn, mvcnn-2015, textured, three-point, headlight-specular, hemisphere, normals, depth, random:SEED, or a TOML file.
    #[arg(long, value_name = "NAME|FILE.toml")]
    lighting: String,
    /// Folder for the new folders of views.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Also write sheet.png with all views, where there was none.
    #[arg(long)]
    sheet: bool,
    #[command(flatten)]
    threads: ThreadsFlag,
    /// Replace existing folders of views; refused where one holds anything else, or is one of VIEWS.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    max_skipped: MaxSkippedFlag,
    /// Print a line of JSON per folder, and a summary.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  tap render meshes --out views --lighting textured --channels color,mask,depth,normal,albedo
  tap relight views --lighting three-point --out lit
  tap relight views/chair --lighting own.toml --out lit --sheet";

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let started = Instant::now();
    let lighting = flag::lighting(&arguments.lighting)?;
    let inputs = view_folder::find_views(&arguments.views)?;
    let cancel = interrupt::listen()?;
    let report_options = ReportOptions {
        json: arguments.json,
        timings: false,
        max_failed: arguments.max_skipped.max_skipped,
    };
    let options = RelightViewsOptions {
        out: arguments.out.clone(),
        sheet: arguments.sheet,
        force: arguments.force,
        workers: arguments.threads.threads,
    };
    let mut report = Report::new(
        Command::Relight,
        report_options,
        &arguments.out,
        inputs.len(),
        started,
    );
    let is_complete = view_folder::relight(&inputs, &lighting, &options, &cancel, &mut |event| {
        report.handle(event);
    })?;
    if is_complete {
        return report.finish();
    }
    Ok(ExitCode::from(INTERRUPTED))
}
