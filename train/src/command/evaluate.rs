//! `tap-train evaluate`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tap_cli::ui;
use tap_dataset::{Split, sha256};
use tap_train::config::{Plan, Task};
use tap_train::run::{CONFIG_FILE, Existing};
use tap_train::task::classify::Classify;
use tap_train::task::finetune::{Scoring, evaluate};
use tap_train::task::segment::Segment;

use super::finetune::{labels_clause, segment_line, selection_clause, votes_clause};
use super::result_folder::ResultFolderArgs;
use super::vote_args::VoteArgs;
use super::{CheckpointArgs, DeviceArgs, RowArgs, require_inputs};
use crate::progress::Progress;

/// Arguments of `evaluate`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tap-train evaluate --run out/tuned --data out/real
  tap-train evaluate --run out/tuned --data out/real --split test --votes 10 --json
  tap-train evaluate --run out/tuned --data out/real --votes 10 --vote-average logits
  tap-train evaluate --run out/unfinished --data out/real --checkpoint latest
  tap-train evaluate --run out/tuned --data out/real --out out/tuned-on-real
  tap-train evaluate --run out/parts --data out/shapes --refine --votes 10 --vote-rule published")]
pub(crate) struct Evaluate {
    /// A fine-tuned run.
    #[arg(long)]
    run: PathBuf,
    /// A data set of shards with the same classes.
    #[arg(long)]
    data: PathBuf,
    #[command(flatten)]
    rows: RowArgs,
    /// The split to score.
    #[arg(long, default_value = "test")]
    split: Split,
    #[command(flatten)]
    votes: VoteArgs,
    /// Score part segmentation after the refinement by neighbors as well.
    #[arg(long)]
    refine: bool,
    #[command(flatten)]
    folder: ResultFolderArgs,
    #[command(flatten)]
    checkpoint: CheckpointArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl Evaluate {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        require_inputs([("--run", Some(self.run.as_path())), ("--data", Some(&self.data))])?;
        self.folder.empty(&[&self.run, &self.data])?;
        let options = self
            .device
            .options(&self.data, &self.run, Existing::Resume, None)?;
        let votes = self.votes.votes();
        let weights = self.checkpoint.weights();
        let condition = self.rows.condition();
        let scoring = Scoring {
            split: self.split,
            filter: &condition,
            refines: self.refine,
        };
        let mut progress = Progress::new(false);
        let mut on_event = |event| progress.show(&event);
        if Plan::read(&self.run.join(CONFIG_FILE))?.task == Task::Segment {
            let result = evaluate::<Segment>(&options, scoring, votes, &weights, &mut on_event)?;
            self.folder.write::<Segment>(&result, &result)?;
            if self.json {
                ui::json(&result)?;
            } else {
                ui::result(segment_line(&result));
            }
            return Ok(ExitCode::SUCCESS);
        }
        let result = evaluate::<Classify>(&options, scoring, votes, &weights, &mut on_event)?;
        self.folder.write::<Classify>(&result, &result)?;
        if self.json {
            ui::json(&result)?;
        } else {
            ui::result(format_args!(
                "accuracy {:.1} %, mean over classes {:.1} %, on {} ({}, {}, data {}){}",
                100.0 * result.score.accuracy,
                100.0 * result.score.mean_class_accuracy,
                result.provenance.evaluation_split,
                selection_clause(&result.provenance),
                votes_clause(&result.provenance),
                sha256::short(&result.provenance.data_sha256),
                labels_clause(&result.provenance)
            ));
        }
        Ok(ExitCode::SUCCESS)
    }
}
