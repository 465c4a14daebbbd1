//! `tap`: the command line. It parses arguments, calls the libraries and prints.
//!
//! Exit codes: 0 done, 1 failed, 2 usage error, 130 interrupted.

mod command;
mod libtorch;
mod preview;
mod recipe;
mod report;
mod trainer;

use std::process::ExitCode;

use clap::Parser;
use tap_cli::{exit_code, logging, open_files};

use crate::command::Cli;

fn main() -> ExitCode {
    silence_device_select();
    open_files::raise_limit();
    logging::start();
    match Cli::try_parse() {
        Ok(cli) => exit_code::report(cli.run()),
        Err(error) => exit_code::of_parser(&error),
    }
}

/// Mesa's device-select layer asks a Wayland display for its default GPU and prints an error where there is no display.
/// We have no display and order the adapters ourselves.
#[allow(unsafe_code, reason = "setting a variable is sound while there is one thread")]
fn silence_device_select() {
    // SAFETY: the first thing that `main` does; no other thread runs yet.
    unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
}
