//! The commands and their arguments. A command parses, calls the libraries and prints.

mod dataset;
mod demo;
mod doctor;
mod flag;
mod render;
mod train;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Supervise point-cloud models with images: render views, build shards, train.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, arg_required_else_help = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  tap doctor                                        check this machine: what is missing, how to fix it
  tap render chair.obj --out views --sheet          twelve views of a mesh
  tap relight views --lighting NAME --out lit       another lighting of views with depth and normals
  tap dataset synthesize --out meshes               a labeled CAD-like dataset to try things on
  tap dataset build meshes --out shards             views, poses, masks and points as Parquet
  tap train pretrain --data shards --out run        pre-train on them
  tap demo                                          all of it, with a report at the end

TAP_LOG=debug logs more; TAP_LOG=tap_render=trace logs one crate.";

#[derive(Debug, Subcommand)]
enum Command {
    Doctor(doctor::Arguments),
    Render(Box<render::Arguments>),
    Relight(render::relight::Arguments),
    Dataset(dataset::Arguments),
    Train(train::Arguments),
    Demo(demo::Arguments),
}

impl Cli {
    /// # Errors
    /// As the command.
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self.command {
            Command::Doctor(arguments) => doctor::run(&arguments),
            Command::Render(arguments) => render::run(&arguments),
            Command::Relight(arguments) => render::relight::run(&arguments),
            Command::Dataset(arguments) => dataset::run(&arguments),
            Command::Train(arguments) => train::run(&arguments),
            Command::Demo(arguments) => demo::run(&arguments),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples() {
        fn check(command: &clap::Command) {
            let name = command.get_name();
            assert!(command.get_about().is_some(), "{name} says what it is");
            let examples = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(examples.contains("tap "), "{name} has examples");
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
