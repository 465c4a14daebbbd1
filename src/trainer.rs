//! Finds and starts `tap-train`. It is a separate program because libtorch is a dynamic library: a program linked to it
//! does not start without it, and rendering should not need it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Commands that build the trainer.
pub(crate) const REMEDY: &str = "make setup && cargo build --release --package tap-train";

/// The trainer beside this program, or else on `PATH`.
pub(crate) fn find() -> Option<PathBuf> {
    tap_cli::program::find("tap-train")
}

/// A command that starts the trainer.
///
/// # Errors
/// When it was not built; the message says how to.
pub(crate) fn command() -> Result<Command> {
    let Some(program) = find() else {
        bail!("tap-train is neither beside tap nor on PATH; build it: {REMEDY}");
    };
    Ok(Command::new(program))
}

/// Stdout of the trainer for these arguments.
///
/// # Errors
/// When it does not start or fails; the message holds the last line that it wrote to stderr.
pub(crate) fn output(program: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("could not start {}", program.display()))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{} failed: {}",
            program.display(),
            stderr.trim().lines().last().unwrap_or("no reason given")
        );
    }
    String::from_utf8(output.stdout).context("the trainer's output is not UTF-8")
}
