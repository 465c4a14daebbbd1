//! `tap-train report`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use tap_cli::ui;
use tap_train::weights::safetensors::write_atomic;

use super::{DeviceArgs, replace_file, require_inputs};
use crate::report::{Drawn, Group, Run, Wanted, draw, html, is_report};

/// Objects of each kind that are drawn, by default.
const DEFAULT_OBJECTS: usize = 2;
/// Objects that are ranked, by default: on a CPU a network of the paper takes about a second for each.
const DEFAULT_RANKED: usize = 100;

/// Arguments of `report`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tap-train report run --out run.html
  tap-train report run-a run-b run-b-seed1 --out compared.html
  tap-train report run --data /mnt/moved/data --objects 4 --ranked 1000 --out run.html
  tap-train report run --objects 0 --out curves.html

The page is one file that loads nothing: results with what they depend on, the settings that differ, and
curves. Runs that differ by their seed alone are one line with a band of one deviation. Runs may still be
at work.

Of runs of TAP, held-out objects are drawn again with their newest weights: those with the least loss, those
around the median and those with the most, beside the true views. A click on a patch of a generated view
colors the points of the object by what the patch attends to. That takes the data, where the run says that
it lies or at --data; where it is not there, the page says so. Of runs that differ by their seed alone, the
first one draws. Of other methods, the page has the newest pictures.")]
pub(crate) struct ReportArgs {
    /// Folders of runs, of pre-training or of any task.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The page.
    #[arg(long, value_name = "FILE.html")]
    out: PathBuf,
    /// The data set that the runs were trained on, where it has moved.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Objects that are drawn of each kind: good, typical, worst; with 0, none are.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_OBJECTS)]
    objects: usize,
    /// Objects that are ranked by their loss, spread evenly over the split.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_RANKED, value_parser = parse_ranked)]
    ranked: usize,
    /// Replace an earlier page; a file of that name that is none is left alone.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

fn parse_ranked(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|&number| number > 0);
    number.ok_or_else(|| format!("'{text}' is no number of objects above 0"))
}

impl ReportArgs {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let data = self.data.as_deref();
        require_inputs([("--data", data)])?;
        let runs = Run::read_all(&self.runs)?;
        let inputs: Vec<&Path> = self.runs.iter().map(PathBuf::as_path).chain(data).collect();
        replace_file(&self.out, self.force, &inputs, is_report)?;
        let drawn = if self.objects == 0 {
            Drawn::default()
        } else {
            let wanted = Wanted {
                data,
                device: self.device.start()?,
                num_objects: self.objects,
                max_ranked: self.ranked,
            };
            draw(&Group::of(&runs), &wanted, &mut |text| ui::note(text))?
        };
        write_atomic(&self.out, html(&runs, &drawn).as_bytes())?;
        ui::result(self.out.display());
        Ok(ExitCode::SUCCESS)
    }
}
