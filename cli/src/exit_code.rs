//! Exit codes: 0 done, 1 failed, 2 a wrong command line, 130 interrupted.

use std::io;
use std::process::ExitCode;

use clap::error::ErrorKind;

use crate::settings::SettingsError;
use crate::ui;

/// A command line that is wrong: the code of clap's own errors.
pub const USAGE: u8 = 2;
/// Ended by Ctrl-C or SIGTERM: what a shell reports for SIGINT.
pub const INTERRUPTED: u8 = 130;

/// An error of the command line. [`report`] prints it the way clap prints its own, and the exit code is [`USAGE`].
pub fn usage(problem: impl std::fmt::Display) -> anyhow::Error {
    clap::Error::raw(ErrorKind::ValueValidation, format!("{problem}\n")).into()
}

/// Prints why a command failed, and gives the exit code of the program.
///
/// A result that could not be written to stdout (a full disk) makes a successful command a failed one.
#[must_use]
pub fn report(outcome: anyhow::Result<ExitCode>) -> ExitCode {
    let error = match outcome {
        Ok(code) if code == ExitCode::SUCCESS && ui::is_stdout_broken() => return ExitCode::FAILURE,
        Ok(code) => return code,
        Err(error) => error,
    };
    if let Some(error) = error.downcast_ref::<clap::Error>() {
        // Nothing is left to do where stderr is closed.
        let _ = error.print();
        return ExitCode::from(USAGE);
    }
    ui::error(&error);
    let is_of_command_line = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<SettingsError>())
        .any(SettingsError::is_of_command_line);
    if is_of_command_line {
        ExitCode::from(USAGE)
    } else {
        ExitCode::FAILURE
    }
}

/// Prints what the parser of the command line has to say, a help text among it, and gives the exit code.
#[must_use]
pub fn of_parser(error: &clap::Error) -> ExitCode {
    let printed = error.print();
    if error.use_stderr() {
        return ExitCode::from(USAGE);
    }
    match printed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            ui::error(&anyhow::Error::new(error).context("could not write to stdout"));
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::settings::Setting;

    #[test]
    fn a_wrong_setting_is_a_wrong_command_line_and_a_wrong_file_is_not() {
        let of_setting = "=3".parse::<Setting>().unwrap_err();
        assert_eq!(report(Err(of_setting.into())), ExitCode::from(USAGE));
        assert_eq!(report(Err(usage("no"))), ExitCode::from(USAGE));
        assert_eq!(report(Err(anyhow::anyhow!("disk"))), ExitCode::FAILURE);
        assert_eq!(
            report(Ok(ExitCode::from(INTERRUPTED))),
            ExitCode::from(INTERRUPTED)
        );
    }
}
