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

    /// Sets how many items there are.
    pub(crate) fn set_length(&self, num_items: u64) {
        self.0.set_length(num_items);
    }

    /// Items that were there already: they count, but not for the rate.
    pub(crate) fn skip(&self, num_items: u64) {
        self.0.inc(num_items);
        self.0.reset_eta();
    }

    pub(crate) fn advance(&self) {
        self.0.inc(1);
    }

    /// What is being worked on.
    pub(crate) fn message(&self, text: impl Display) {
        self.0.set_message(text.to_string());
    }

    /// Prints a result, on stdout, above the bar.
    pub(crate) fn result(&self, text: impl Display) {
        self.0.suspend(|| result(text));
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

/// Lays rows out in columns; the first row is the heading. The first column is aligned left, the others right.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let num_columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..num_columns).map(width).collect();
    let mut lines = Vec::new();
    for (row_idx, row) in rows.iter().enumerate() {
        let cells = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, &width))| match column {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
        lines.push(cells.collect::<Vec<_>>().join("  ").trim_end().to_owned());
        if row_idx == 0 {
            lines.push(
                widths
                    .iter()
                    .map(|&width| "-".repeat(width))
                    .collect::<Vec<_>>()
                    .join("  "),
            );
        }
    }
    lines.join("\n")
}

/// Bytes as a person reads them.
pub(crate) fn bytes(num_bytes: u64) -> String {
    indicatif::BinaryBytes(num_bytes).to_string()
}

/// A time as a person reads it: `8.3 s`, `2 min 05 s`.
pub(crate) fn seconds(elapsed_s: f64) -> String {
    if elapsed_s < 60.0 {
        return format!("{elapsed_s:.1} s");
    }
    let whole = elapsed_s.round() as u64;
    format!("{} min {:02} s", whole / 60, whole % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let text = table(&[
            row(["stage", "time"]),
            row(["build", "12.0 s"]),
            row(["a longer one", "1 s"]),
        ]);
        assert_eq!(
            text,
            "stage           time\n------------  ------\nbuild         12.0 s\na longer one     1 s"
        );
    }

    #[test]
    fn times_are_short() {
        assert_eq!(seconds(8.26), "8.3 s");
        assert_eq!(seconds(125.2), "2 min 05 s");
    }
}
