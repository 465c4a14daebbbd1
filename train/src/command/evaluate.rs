//! `tap-train evaluate`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use tap_cli::ui;
use tap_dataset::Split;
use tap_train::config::{Plan, Task};
use tap_train::run::{CONFIG_FILE, Existing};
use tap_train::task::vote::{VoteRule, Votes};
use tap_train::task::{classify, segment};

use super::DeviceArgs;
use super::finetune::segment_line;

/// What a vote looks at.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum RuleName {
    /// Every object augmented as in training, each anew in every vote.
    Augmented,
    /// Part segmentation as the released code of TAP votes: positions alone, scaled on top of the votes before.
    Published,
}

/// Arguments of `evaluate`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tap-train evaluate --run out/tuned --data out/real
  tap-train evaluate --run out/tuned --data out/real --split test --votes 10 --json
  tap-train evaluate --run out/parts --data out/shapes --votes 10 --vote-rule published")]
pub(crate) struct Evaluate {
    /// A fine-tuned run.
    #[arg(long)]
    run: PathBuf,
    /// A data set of shards with the same classes.
    #[arg(long)]
    data: PathBuf,
    /// The split to score.
    #[arg(long, default_value = "test")]
    split: Split,
    /// Votes that join the plain look.
    #[arg(long, default_value_t = 0)]
    votes: u32,
    /// Seed of the votes.
    #[arg(long, default_value_t = 0)]
    votes_seed: u64,
    /// What a vote looks at.
    #[arg(long, value_enum, default_value = "augmented")]
    vote_rule: RuleName,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl Evaluate {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let options = self.device.options(&self.data, &self.run, Existing::Resume)?;
        let votes = Votes {
            count: self.votes,
            seed: self.votes_seed,
            rule: match self.vote_rule {
                RuleName::Augmented => VoteRule::Augmented,
                RuleName::Published => VoteRule::Published,
            },
        };
        if Plan::read(&self.run.join(CONFIG_FILE))?.task == Task::Segment {
            let result = segment::evaluate(&options, self.split, votes)?;
            if self.json {
                ui::json(&result)?;
            } else {
                ui::result(segment_line(&result));
            }
            return Ok(ExitCode::SUCCESS);
        }
        let result = classify::evaluate(&options, self.split, votes)?;
        if self.json {
            ui::json(&result)?;
        } else {
            ui::result(format_args!(
                "accuracy {:.1} %, mean over classes {:.1} %, on {} ({}, {} votes, data {})",
                100.0 * result.accuracy,
                100.0 * result.mean_class_accuracy,
                result.origin.evaluation_split,
                result.origin.selection,
                result.origin.votes,
                result.origin.data_sha256.get(..12).unwrap_or_default()
            ));
        }
        Ok(ExitCode::SUCCESS)
    }
}
