//! `tap-train generate`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tap_cli::ui;
use tap_dataset::Split;
use tap_train::run::Existing;
use tap_train::run::weights::WeightChoice;
use tap_train::task::generate::{generate, is_generated};

use super::{DeviceArgs, parse_checkpoint, replace_file, require_inputs};
use crate::progress::Progress;

/// Arguments of `generate`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tap-train generate --run out/tap --data out/real --out views.png
  tap-train generate --run out/tap --data out/real --ids chair/0001,lamp/0002 --out views.png")]
pub(crate) struct Generate {
    /// A pre-trained run.
    #[arg(long)]
    run: PathBuf,
    /// A data set of shards.
    #[arg(long)]
    data: PathBuf,
    /// The split that the objects are in.
    #[arg(long, default_value = "test")]
    split: Split,
    /// Objects; one of each class if absent.
    #[arg(long, value_delimiter = ',')]
    ids: Vec<String>,
    /// The PNG to write: a row of generated above a row of true views for each object.
    #[arg(long)]
    out: PathBuf,
    /// Replace the image, if this command drew it.
    #[arg(long)]
    force: bool,
    /// Draw with the checkpoint of this step; by default, as with `latest`, with the newest.
    #[arg(long, value_name = "STEP|latest", value_parser = parse_checkpoint, default_value = "latest")]
    checkpoint: WeightChoice,
    #[command(flatten)]
    device: DeviceArgs,
}

impl Generate {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        require_inputs([("--run", Some(self.run.as_path())), ("--data", Some(&self.data))])?;
        replace_file(&self.out, self.force, &[&self.data, &self.run], is_generated)?;
        let options = self
            .device
            .options(&self.data, &self.run, Existing::Resume, None)?;
        let mut progress = Progress::new(false);
        let ids = generate(
            &options,
            self.split,
            &self.ids,
            &self.out,
            self.checkpoint,
            &mut |event| progress.show(&event),
        )?;
        for id in &ids {
            ui::result(id);
        }
        Ok(ExitCode::SUCCESS)
    }
}
