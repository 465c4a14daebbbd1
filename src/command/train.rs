//! `tap train`: passes its arguments on to `tap-train`.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;

use crate::trainer;

/// Train: all arguments are passed on to tap-train.
#[derive(Debug, Args)]
#[command(disable_help_flag = true, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// A command of tap-train and its arguments; `--help` lists them.
    #[arg(value_name = "ARGUMENT", trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

const EXAMPLES: &str = "\
Examples:
  tap train --help
  tap train pretrain --data shards --out run
  tap train finetune --task classify --data shards --init run --out run-classify";

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    pass_on(&arguments.arguments)
}

/// Runs the trainer with these arguments.
pub(super) fn pass_on<'a>(arguments: impl IntoIterator<Item = &'a OsString>) -> Result<ExitCode> {
    let mut command = trainer::command()?;
    command.args(arguments);
    start(command)
}

/// Replaces this process, so that signals and the exit code are those of the trainer.
#[cfg(unix)]
fn start(mut command: std::process::Command) -> Result<ExitCode> {
    use std::os::unix::process::CommandExt;
    Err(command.exec()).with_context(|| format!("could not start {}", command.get_program().display()))
}

#[cfg(not(unix))]
fn start(mut command: std::process::Command) -> Result<ExitCode> {
    let status = command
        .status()
        .with_context(|| format!("could not start {}", command.get_program().display()))?;
    Ok(ExitCode::from(
        status
            .code()
            .and_then(|code| u8::try_from(code).ok())
            .unwrap_or(1),
    ))
}
