//! `tap-train sweep`: the rows of a table, each pre-trained and scored under several seeds (`docs/training.md`, "Sweeps").

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tap_cli::settings::Setting;

use super::sweep_run;

/// Arguments of `sweep`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tap-train sweep table6a --data out/real --out out/table6a
  tap-train sweep table7b --data out/real --seeds 5 --vgg vgg16.pth --out out/table7b
  tap-train sweep mine.toml --data out/real --out out/mine
  tap-train sweep table7a --dry-run                                # rows, settings, number of runs
  tap-train sweep --out out/table6a --resume
  tap-train sweep --out out/table6a --resume --seeds 5             # two seeds more

The folder then holds `sweep.json`, `table.md`, `rows/NAME.json` and the runs in `runs/`.
With --budget paper, --data holds the folders `shapenet` and `scanobjectnn-pb-t50-rs`.")]
pub(crate) struct Sweep {
    /// A table of the paper, table6a, table6b, table7a or table7b, or a TOML file of one's own; with --resume that of before.
    #[arg(value_name = "TABLE|FILE.toml", required_unless_present = "resume")]
    table: Option<String>,
    #[command(flatten)]
    flags: SweepFlags,
}

/// Flags of sweeps and reproductions.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(super) struct SweepFlags {
    /// A data set of shards, or a folder with those that the table names; with --resume that of before.
    #[arg(long, required_unless_present_any = ["resume", "dry_run"])]
    pub(super) data: Option<PathBuf>,
    /// The folder for the table and the runs.
    #[arg(long, required_unless_present = "dry_run")]
    pub(super) out: Option<PathBuf>,
    /// One of the budgets that the table has: mini (a minute a row and seed) or paper (published sizes and schedules); mini unless
    /// given.
    #[arg(long)]
    pub(super) budget: Option<String>,
    /// Number of seeds, each that of a pre-training and of its tasks; as the table says unless given.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(super) seeds: Option<u64>,
    /// The first seed.
    #[arg(long, value_name = "SEED")]
    pub(super) first_seed: Option<u64>,
    /// Runs at once, each with one thread; one per core, or with --resume as many as before, unless given.
    #[arg(long, value_name = "N")]
    pub(super) jobs: Option<usize>,
    /// VGG16 with torchvision's weights, for rows with a perceptual loss.
    #[arg(long, value_name = "FILE")]
    pub(super) vgg: Option<PathBuf>,
    /// Change a setting of all rows, below what is a row's own; may be given again.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) set: Vec<Setting>,
    /// `auto`, `cpu` or `cuda:N`; cpu unless given.
    #[arg(long)]
    pub(super) device: Option<String>,
    /// Keep runs that are finished and continue the others, with the table and the settings of before; nothing else needs to be given.
    #[arg(long, conflicts_with = "force")]
    pub(super) resume: bool,
    /// Replace an earlier sweep; refused where the folder holds anything else, or an input.
    #[arg(long)]
    pub(super) force: bool,
    /// List rows, settings and the number of runs, and run nothing.
    #[arg(long, conflicts_with_all = ["resume", "force"])]
    pub(super) dry_run: bool,
    /// Print the result as JSON.
    #[arg(long)]
    pub(super) json: bool,
}

impl Sweep {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        sweep_run::run("sweep", self.table.as_deref(), &self.flags)
    }
}
