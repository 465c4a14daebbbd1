//! `tap-train`: the command line of the trainer. Results go to standard output, everything else to standard error.

mod command;
mod progress;
mod report;
mod torch_panic;

use std::process::ExitCode;

use clap::Parser;
use tap_cli::{exit_code, logging, open_files};

use command::Command;
use tap_train::task::provenance::VERSION;

/// Pre-train point-cloud models with images (TAP), fine-tune them and score them.
///
/// Works on shards that `tap dataset build` makes.
#[derive(Debug, Parser)]
#[command(
    name = "tap-train",
    version = VERSION,
    max_term_width = 110,
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    tap_train::process::reexec_with_environment();
    tap_train::process::keep_freed_memory();
    open_files::raise_limit();
    logging::start();
    exit_code::report(torch_panic::catch(|| Cli::parse().command.run()))
}
