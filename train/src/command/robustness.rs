//! `tap-train robustness`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tap_cli::ui;
use tap_dataset::Split;
use tap_train::config::{Plan, Task};
use tap_train::run::{CONFIG_FILE, Existing, write_json};
use tap_train::task::classify::Classify;
use tap_train::task::finetune::Scoring;
use tap_train::task::robustness::{Corruption, RobustnessResult, robustness};
use tap_train::task::segment::Segment;

use super::finetune::selection_clause;
use super::{CheckpointArgs, DeviceArgs, RowArgs, is_result_file, parse_name, replace_file, require_inputs};
use crate::progress::Progress;

/// Keys of a file of results.
const RESULT_KEYS: [&str; 3] = ["measure", "clean", "corrupted"];

/// Arguments of `robustness`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tap-train robustness --run out/tuned --data out/data
  tap-train robustness --run out/tuned --data out/data --corruptions rotation,dropout --out out/robustness.json")]
pub(crate) struct Robustness {
    /// A fine-tuned run.
    #[arg(long)]
    run: PathBuf,
    #[command(flatten)]
    checkpoint: CheckpointArgs,
    /// A data set of shards with the same classes.
    #[arg(long)]
    data: PathBuf,
    #[command(flatten)]
    rows: RowArgs,
    /// The split to score.
    #[arg(long, default_value = "test")]
    split: Split,
    /// What is done to clouds: `rotation_y`, rotation, jitter, occlusion, dropout, noise; all unless given.
    #[arg(long, value_delimiter = ',', value_parser = parse_name::<Corruption>)]
    corruptions: Vec<Corruption>,
    /// Seed of what is drawn.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// A JSON file for the scores.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Replace an earlier file of this command.
    #[arg(long, requires = "out")]
    force: bool,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl Robustness {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        require_inputs([("--run", Some(self.run.as_path())), ("--data", Some(&self.data))])?;
        if let Some(out) = &self.out {
            replace_file(out, self.force, &[&self.run, &self.data], |file| {
                is_result_file(file, &RESULT_KEYS)
            })?;
        }
        let options = self
            .device
            .options(&self.data, &self.run, Existing::Resume, None)?;
        let corruptions = if self.corruptions.is_empty() {
            Corruption::ALL.to_vec()
        } else {
            self.corruptions.clone()
        };
        let condition = self.rows.condition();
        let scoring = Scoring {
            split: self.split,
            filter: &condition,
            refines: false,
        };
        let mut progress = Progress::new(false);
        let mut on_event = |event| progress.show(&event);
        let score = match Plan::read(&self.run.join(CONFIG_FILE))?.task {
            Task::Segment => robustness::<Segment>,
            _ => robustness::<Classify>,
        };
        let result = score(
            &options,
            scoring,
            &corruptions,
            self.seed,
            &self.checkpoint.weights(),
            &mut on_event,
        )?;
        if let Some(out) = &self.out {
            write_json(out, &result)?;
        }
        if self.json {
            ui::json(&result)?;
        } else {
            print(&result);
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn print(RobustnessResult { provenance, score }: &RobustnessResult) {
    ui::result(format_args!(
        "{} in % on {} ({}, no voting), as it is: {:.1}",
        score.measure,
        provenance.evaluation_split,
        selection_clause(provenance),
        100.0 * score.clean
    ));
    let mut rows = vec![["", "", "strength: score"].map(str::to_owned).to_vec()];
    for of_kind in score.corrupted.chunk_by(|a, b| a.corruption == b.corruption) {
        let mut row = vec![of_kind[0].corruption.to_string(), of_kind[0].unit.clone()];
        row.extend(
            of_kind
                .iter()
                .map(|cell| format!("{}: {:.1}", cell.strength, 100.0 * cell.score)),
        );
        rows.push(row);
    }
    ui::result(ui::table(&rows));
}
