//! `tap-train embed`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tap_cli::ui;
use tap_dataset::Split;
use tap_train::run::Existing;
use tap_train::task::embed::{ARRAY_FILE, EMBED_FILE, TABLE_FILE, embed};
use tap_train::task::embedding::Pooling;

use super::{CheckpointArgs, ConfigArgs, DeviceArgs, RowArgs, empty_folder, parse_name, require_inputs};
use crate::progress::Progress;

/// Arguments of `embed`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tap-train embed --data out/data --init out/tap --out out/embeddings
  tap-train embed --data out/data --init encoder.safetensors --split test --pooling max --out out/embeddings")]
pub(crate) struct Embed {
    /// A data set of shards.
    #[arg(long)]
    data: PathBuf,
    /// The encoder: a run or a safetensors file.
    #[arg(long, value_name = "RUN_OR_FILE")]
    init: PathBuf,
    #[command(flatten)]
    checkpoint: CheckpointArgs,
    /// The folder for `embeddings.parquet` (id, category, label, split, feature), `embeddings.npy` (rows x channels) and
    /// `embed.json` (what they are of).
    #[arg(long)]
    out: PathBuf,
    /// Splits to embed; all that have rows unless given.
    #[arg(long, value_delimiter = ',')]
    split: Vec<Split>,
    /// What becomes of the tokens of a cloud: max, mean, sum (maximum plus mean), max-mean (both, one behind the other).
    #[arg(long, default_value = "max-mean", value_parser = parse_name::<Pooling>)]
    pooling: Pooling,
    /// Replace earlier embeddings; refused where the folder holds anything else, or an input.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    rows: RowArgs,
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print what was written as JSON.
    #[arg(long)]
    json: bool,
}

impl Embed {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let inputs = [
            ("--data", Some(self.data.as_path())),
            ("--init", Some(&self.init)),
        ];
        require_inputs(inputs)?;
        let init = self.checkpoint.encoder(&self.init)?;
        let mut config = self.config.load_for(Some(&self.init))?;
        self.rows.apply(&mut config);
        empty_folder(
            &self.out,
            self.force,
            &[&self.data, &self.init, &init],
            &[EMBED_FILE, TABLE_FILE, ARRAY_FILE],
        )?;
        let options = self
            .device
            .options(&self.data, &self.out, Existing::Refuse, None)?;
        let mut progress = Progress::new(false);
        let result = embed(
            &config,
            &options,
            &init,
            &self.split,
            self.pooling,
            &mut |event| {
                progress.show(&event);
            },
        )?;
        if self.json {
            ui::json(&result)?;
        } else {
            ui::result(format_args!(
                "{} rows of {} channels ({}): {}",
                result.num_rows,
                result.num_channels,
                result.pooling,
                self.out.display()
            ));
        }
        Ok(ExitCode::SUCCESS)
    }
}
