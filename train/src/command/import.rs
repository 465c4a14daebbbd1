//! `tap-train import`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tap_cli::ui;
use tap_train::config::PRESETS;
use tap_train::model::EncoderConfig;
use tap_train::task::import::{ImportReport, import, is_imported};

use super::{load_config, replace_file, require_inputs};

/// Arguments of `import`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tap-train import pointmlp_clean.pth --out encoder.safetensors
  tap-train import checkpoint.pth --config paper-transformer --out encoder.safetensors
  tap-train import moco.pth --config paper-dgcnn --prefix module.encoder_q --out encoder.safetensors
  tap-train finetune --data out/real --out out/tuned --init encoder.safetensors --config paper-transformer

The file is read without running any of the code that a .pth file can hold.")]
pub(crate) struct Import {
    /// A checkpoint of PyTorch (1.6 or newer): a state dict, alone or among other things, a whole module or a `TorchScript`
    /// archive. Or a safetensors file.
    file: PathBuf,
    /// The safetensors file to write, for `--init`.
    #[arg(long)]
    out: PathBuf,
    /// The preset or TOML file whose encoder it is; of all presets the one that fits best if absent.
    #[arg(long, value_name = "PRESET_OR_FILE")]
    config: Option<String>,
    /// Change one setting of it, as in `--set encoder.num_groups=128`; may be given again.
    #[arg(long, value_name = "KEY=VALUE", requires = "config")]
    set: Vec<String>,
    /// Where the encoder lies in the file: how the names of its tensors begin. Found by looking if absent; of two that fit
    /// equally the one that is trained is taken, not its slow copy (momentum, teacher, average).
    #[arg(long)]
    prefix: Option<String>,
    /// Write the tensors that fit even where some are missing, left over or of another shape.
    #[arg(long)]
    partial: bool,
    /// Replace the output, if an import wrote it.
    #[arg(long)]
    force: bool,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

impl Import {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        require_inputs([("FILE", Some(self.file.as_path()))])?;
        replace_file(&self.out, self.force, &[&self.file], is_imported)?;
        let imported = import(&self.file, &self.encoders()?, self.prefix.as_deref())?;
        let is_written = imported.report.is_exact() || self.partial;
        if self.json {
            ui::json(&imported.report)?;
        } else {
            show(&imported.report);
        }
        anyhow::ensure!(
            is_written,
            "the file does not fit the encoder exactly; pass --partial to write what fits: {}",
            self.file.display()
        );
        imported.write(&self.out)?;
        if !self.json {
            ui::result(format_args!("{}", self.out.display()));
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Encoders to try, by the name of their preset or file.
    fn encoders(&self) -> anyhow::Result<Vec<(String, EncoderConfig)>> {
        let load = |name: &str| -> anyhow::Result<_> {
            let config = load_config(Some(name), &self.set)?;
            Ok((name.to_owned(), config.encoder))
        };
        match &self.config {
            Some(name) => Ok(vec![load(name)?]),
            None => PRESETS.names().map(load).collect(),
        }
    }
}

fn show(report: &ImportReport) {
    let from = if report.prefix.is_empty() {
        String::from("at the top")
    } else {
        format!("under '{}'", report.prefix)
    };
    ui::result(format_args!(
        "{} tensors fit the encoder of {}, {from}",
        report.num_fitting, report.encoder
    ));
    if !report.other_prefixes.is_empty() {
        let others: Vec<String> = report
            .other_prefixes
            .iter()
            .map(|prefix| format!("'{prefix}'"))
            .collect();
        ui::result(format_args!(
            "as many fit under {}; --prefix chooses",
            others.join(", ")
        ));
    }
    for (what, names) in [
        ("missing in the file", &report.missing),
        ("of another shape", &report.differing),
        ("of the file without use", &report.unexpected),
        ("passed over, not run", &report.passed_over),
    ] {
        if !names.is_empty() {
            ui::result(format_args!("{} {what}: {}", names.len(), names.join(", ")));
        }
    }
    for (group, count) in &report.elsewhere {
        ui::result(format_args!("{count} elsewhere: {group}"));
    }
}
