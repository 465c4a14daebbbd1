//! `tap-train export`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tap_cli::ui;
use tap_train::task::export::{ExportReport, Layout, Part, export, is_exported};

use super::{CheckpointArgs, replace_file, require_inputs};
use crate::progress::Progress;

/// Arguments of `export`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tap-train export out/tap --out encoder.pth
  tap-train export out/mae --out mae.pth --as point-mae
  tap-train export out/tap/checkpoints/step-0000000500 --out encoder.safetensors
  tap-train export out/tap --checkpoint best --out encoder.pth
  tap-train export out/tap --out whole.pth --whole

In Python, without running anything of the file:
  state = torch.load('encoder.pth', weights_only=True)['model']
  encoder.load_state_dict(state, strict=True)

  --as        entry       names begin with  for the code of
  tap         model                         TAP, OpenPoints
  point-bert  base_model  transformer_q.    Point-BERT
  point-mae   base_model  MAE_encoder.      Point-MAE
  point-m2ae  base_model  h_encoder.        Point-M2AE
  i2p-mae     base_model  h_encoder.        I2P-MAE
  state-dict  state_dict                    load_state_dict")]
pub(crate) struct Export {
    /// A run, a checkpoint in it, or a safetensors file of this program.
    #[arg(value_name = "RUN_OR_CHECKPOINT")]
    from: PathBuf,
    #[command(flatten)]
    checkpoint: CheckpointArgs,
    /// The file to write: `.safetensors`, or `.pth` as PyTorch saves it.
    #[arg(long)]
    out: PathBuf,
    /// Whose code it is for; that which was published with the backbone if absent.
    #[arg(long = "as", value_name = "LAYOUT")]
    layout: Option<Layout>,
    /// Write the whole network that the file of weights holds, not the encoder alone.
    #[arg(long)]
    whole: bool,
    /// Replace the output, if an export wrote it.
    #[arg(long)]
    force: bool,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

impl Export {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        require_inputs([("RUN_OR_CHECKPOINT", Some(self.from.as_path()))])?;
        let from = self.checkpoint.encoder(&self.from)?;
        replace_file(&self.out, self.force, &[&self.from, &from], is_exported)?;
        let part = if self.whole { Part::Whole } else { Part::Encoder };
        let mut progress = Progress::new(self.json);
        let report = export(&from, &self.out, self.layout, part, &mut |event| {
            progress.show(&event);
        })?;
        if self.json {
            ui::json(&report)?;
        } else {
            show(&report);
            ui::result(format_args!("{}", self.out.display()));
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn show(report: &ExportReport) {
    let ExportReport {
        source,
        encoder,
        layout,
        entry,
        prefix,
        num_tensors,
        num_parameters,
        ..
    } = report;
    let encoder = encoder.as_deref().unwrap_or("an encoder");
    ui::result(format_args!(
        "{num_tensors} tensors, {num_parameters} numbers, of {encoder}, from {}",
        source.display()
    ));
    let place = match (entry, prefix.as_str()) {
        (Some(entry), "") => format!("under '{entry}'"),
        (Some(entry), prefix) => format!("under '{entry}', names with '{prefix}'"),
        (None, "") => String::from("at the top"),
        (None, prefix) => format!("names with '{prefix}'"),
    };
    ui::result(format_args!("laid out for {layout}: {place}"));
}
