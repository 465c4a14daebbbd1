//! `tap dataset merge`: joins the parts of a build.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use tap_dataset::{MergeEvent, merge, refuse_inputs};

use super::output::{ResumeFlag, show_finished};
use tap_cli::ui;

/// Join the parts that several machines built: the bytes are those of one machine's build.
///
/// Parts with other settings, sources or adapters are refused by name, and everything missing is listed. A merge may be
/// killed at any moment: the same command resumes it. The parts stay as they are.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The folders of all parts, in any order.
    #[arg(value_name = "PART", required = true)]
    parts: Vec<PathBuf>,
    /// Folder of shards to write or to resume.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Overwrite another dataset in the folder; refused where it holds anything else, or an input.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    resume: ResumeFlag,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  tap dataset build meshes --part 1/2 --out part-1      on one machine
  tap dataset build meshes --part 2/2 --out part-2      on another one
  tap dataset merge part-1 part-2 --out shards";

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let Arguments {
        parts,
        out,
        force,
        json,
        ..
    } = arguments;
    if *force {
        refuse_inputs(out, parts.iter().map(PathBuf::as_path))?;
    }
    let bar = ui::Bar::new("merging", 0);
    let manifest = merge(parts, out, *force, &mut |event| match event {
        MergeEvent::Started { total } => bar.set_length(total as u64),
        MergeEvent::Resumed { shards } => {
            bar.skip(shards as u64);
            bar.note(format_args!("note: resuming after {shards} shards"));
        }
        MergeEvent::Shard { .. } => bar.advance(),
        _ => {}
    })?;
    drop(bar);
    show_finished(out, &manifest, *json)?;
    Ok(ExitCode::SUCCESS)
}
