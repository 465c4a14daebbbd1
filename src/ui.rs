//! All that a user sees: results on stdout, everything else on stderr, bars only where stderr is a terminal.

use std::fmt::Display;
use std::io::{self, Write};
use std::time::Duration;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tracing_subscriber::EnvFilter;

/// The variable that says what the log holds, for example `TAP_LOG=tap_render=debug`.
const LOG_VARIABLE: &str = "TAP_LOG";
/// How often a bar is drawn again while nothing happens.
const TICK: Duration = Duration::from_millis(200);

/// Sends the libraries' log to stderr.
pub(crate) fn start_log() {
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false)
        .init();
}

/// A result, on stdout. A reader that has gone away (`| head`) is no error.
pub(crate) fn result(text: impl Display) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}

/// A result as JSON, on stdout.
///
/// # Errors
/// When the value has no JSON form.
pub(crate) fn json(value: &impl Serialize) -> Result<()> {
    result(serde_json::to_string_pretty(value).context("could not write the result as JSON")?);
    Ok(())
}

/// Something worth knowing, on stderr.
pub(crate) fn note(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Why the program ends, in one line.
pub(crate) fn error(error: &anyhow::Error) {
    note(format_args!("error: {error:#}"));
}

/// A bar with rate and time left; nothing at all where stderr is no terminal.
#[derive(Debug)]
pub(crate) struct Bar(ProgressBar);

impl Bar {
    pub(crate) fn new(verb: &'static str, num_items: u64) -> Self {
        let style = ProgressStyle::with_template(
            "{prefix:>12} {bar:30} {human_pos}/{human_len}  {per_sec}  {eta} left  {wide_msg}",
        );
        let bar = ProgressBar::new(num_items)
            .with_style(style.expect("the template is fixed"))
            .with_prefix(verb);
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    pub(crate) fn advance(&self) {
        self.0.inc(1);
    }

    /// What is being worked on.
    pub(crate) fn message(&self, text: impl Display) {
        self.0.set_message(text.to_string());
    }

    /// Prints a line above the bar.
    pub(crate) fn note(&self, text: impl Display) {
        self.0.suspend(|| note(text));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Bytes as a person reads them.
pub(crate) fn bytes(num_bytes: u64) -> String {
    indicatif::BinaryBytes(num_bytes).to_string()
}
