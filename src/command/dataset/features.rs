//! `tap dataset features`: passes its arguments on to `tap-train features`, since a network needs libtorch.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::super::train;

/// Compute features of a frozen 2D network for every view, beside the rows: tap-train features, with all arguments.
#[derive(Debug, Args)]
#[command(disable_help_flag = true, after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Arguments of tap-train features; `--help` lists them.
    #[arg(value_name = "ARGUMENT", trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

const EXAMPLES: &str = "\
Examples:
  tap dataset features --help
  tap dataset features shards --model ViT-B-16.pt --out clip
  tap dataset features shards --model dinov2_vits14_pretrain.pth --layer 7 --out dino7";

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    train::pass_on([OsString::from("features")].iter().chain(&arguments.arguments))
}
