//! `tap-train reproduce`: the rows of the paper's Tables 1 to 4 (`docs/training.md`, "The paper's tables").

use std::process::ExitCode;

use clap::Args;
use clap::builder::PossibleValuesParser;
use tap_train::task::sweep::REPRODUCTIONS;

use super::sweep::SweepFlags;
use super::sweep_run;

/// Arguments of `reproduce`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tap-train reproduce table1 --data sets --out out/table1                      # the mini budget
  tap-train reproduce table3 --data sets --budget paper --device cuda:0 --jobs 1 --out out/table3
  tap-train reproduce table2 --data sets --dry-run                             # rows, settings, runs, and what is missing
  tap-train reproduce --out out/table1 --resume

Folders in --data, as far as a table needs them; rows whose data is missing say so, and where it is from:
  shapenet                    what is pre-trained on: any data set with views (mini: of 64 pixels, `--config mini-data`)
  scanobjectnn-obj-bg, scanobjectnn-obj-only, scanobjectnn-pb-t50-rs
                              tables 1 and 2
  modelnet40                  table 2
  shapenetpart                table 3, with part labels
  fewshot                     table 4, episodes as `tap dataset import fewshot` makes them
Where a folder holds another data set than the paper's, the table says that its figures are not to be compared.")]
pub(crate) struct Reproduce {
    /// A table of the paper; with --resume that of before.
    #[arg(required_unless_present = "resume", value_parser = PossibleValuesParser::new(REPRODUCTIONS))]
    table: Option<String>,
    #[command(flatten)]
    flags: SweepFlags,
}

impl Reproduce {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        sweep_run::run("reproduce", self.table.as_deref(), &self.flags)
    }
}
