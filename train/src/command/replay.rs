//! `tap-train replay`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tap_cli::ui;
use tap_train::process;
use tap_train::run::fault::Fault;
use tap_train::task::replay::{ReplayOptions, Replayed, Reproduced, replay};

use super::require_inputs;
use crate::progress::Progress;

/// Arguments of `replay`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tap-train replay out/tap/non-finite-0000000123
  tap-train replay out/tap/non-finite-0000000123 --json
  tap-train pretrain --continue-from out/tap/non-finite-0000000123 --leave-out chair/0007 --out out/tap-on

Nothing is written. The exit code is 0 where the step is not finite again in the same way, and 1 otherwise.")]
pub(crate) struct Replay {
    /// The folder that the step left in its run.
    folder: PathBuf,
    /// The data set; where the run says that it is if absent.
    #[arg(long)]
    data: Option<PathBuf>,
    /// `cpu`, `auto` or `cuda:N`.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Threads; as many as the step was computed with, unless given.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Print the step as it is now as JSON, as in `fault.json`.
    #[arg(long)]
    json: bool,
}

impl Replay {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        require_inputs([
            ("FOLDER", Some(self.folder.as_path())),
            ("--data", self.data.as_deref()),
        ])?;
        let recorded = Fault::read(&self.folder).ok();
        let threads = self.threads.or(recorded.map(|fault| fault.num_threads));
        let options = ReplayOptions {
            num_threads: process::set_num_threads(threads.unwrap_or(0).min(process::num_cores())),
            device: process::parse_device(&self.device)?,
            folder: self.folder,
            data: self.data,
        };
        let mut progress = Progress::new(false);
        let replayed = replay(&options, &mut |event| progress.show(&event))?;
        let reproduced = replayed.reproduced();
        if self.json {
            ui::json(&replayed.now)?;
        } else {
            show(&replayed);
            ui::result(reproduced);
        }
        Ok(match reproduced {
            Reproduced::Exactly | Reproduced::InKind => ExitCode::SUCCESS,
            Reproduced::Differently | Reproduced::Not => ExitCode::FAILURE,
        })
    }
}

fn show(Replayed { recorded, now }: &Replayed) {
    let Fault { step, epoch, ids, .. } = recorded;
    ui::result(format_args!("step {step}, epoch {epoch}, {} samples", ids.len()));
    for (when, fault) in [("then", Some(recorded)), ("now", now.as_ref())] {
        let Some(fault) = fault else { continue };
        let threads = fault.num_threads;
        let terms = fault.terms.iter();
        let terms: Vec<String> = terms
            .map(|term| format!("{} {} x {}", term.name, term.mean, term.weight))
            .collect();
        ui::result(format_args!(
            "{when}, on {} with {threads} thread{}: loss {} = {}",
            fault.device,
            if threads == 1 { "" } else { "s" },
            fault.loss,
            terms.join(" + ")
        ));
        ui::result(format_args!(
            "{when}: {} is not finite, first of all: {} ({})",
            fault.what,
            fault.first_non_finite,
            fault.samples()
        ));
    }
}
