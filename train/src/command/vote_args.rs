//! The flags of voting.

use clap::{Args, ValueEnum};
use tap_train::task::vote::{VoteAverage, VoteRule, Votes};

use super::parse_name;

/// What a vote augments.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum RuleName {
    /// Every object augmented as in training, each anew in every vote.
    Augmented,
    /// Part segmentation as the released code of TAP votes: positions alone, scaled on top of the votes before.
    Published,
}

/// How predictions are voted on.
#[derive(Debug, Args)]
pub(super) struct VoteArgs {
    /// Augmented predictions that are added to the plain one.
    #[arg(long, default_value_t = 0)]
    votes: u32,
    /// Seed of the votes.
    #[arg(long, default_value_t = 0)]
    votes_seed: u64,
    /// What a vote augments.
    #[arg(long, value_enum, default_value = "augmented")]
    vote_rule: RuleName,
    /// What votes are averaged as: probabilities, or logits, which for parts are the logarithms of probabilities. Unless given,
    /// probabilities of classes and logits of parts.
    #[arg(long, value_name = "probabilities|logits", value_parser = parse_name::<VoteAverage>)]
    vote_average: Option<VoteAverage>,
}

impl VoteArgs {
    pub(super) fn votes(&self) -> Votes {
        Votes {
            count: self.votes,
            seed: self.votes_seed,
            rule: match self.vote_rule {
                RuleName::Augmented => VoteRule::Augmented,
                RuleName::Published => VoteRule::Published,
            },
            average: self.vote_average,
        }
    }
}
