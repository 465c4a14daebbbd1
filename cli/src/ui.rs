//! All that a user sees: results on stdout, everything else on stderr, progress bars only where stderr is a terminal.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal as _, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::open_files;

/// What a full disk or an exhausted quota is called.
const NO_SPACE: &str = "not enough disk space";

/// How often a bar is redrawn while nothing happens.
const TICK: Duration = Duration::from_millis(200);

/// Set when a result could not be written to stdout.
static STDOUT_IS_BROKEN: AtomicBool = AtomicBool::new(false);

/// Was a result lost because stdout could not be written to, for example on a full disk?
#[must_use]
pub fn is_stdout_broken() -> bool {
    STDOUT_IS_BROKEN.load(Ordering::Relaxed)
}

/// Text without control characters but tabs and line breaks, which are written as in Rust (`\u{1b}`): a file's name could
/// otherwise write anywhere on a terminal.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    let is_control = |char: char| char.is_control() && !matches!(char, '\n' | '\t');
    if !text.contains(is_control) {
        return Cow::Borrowed(text);
    }
    let mut printable = String::with_capacity(text.len());
    for char in text.chars() {
        if is_control(char) {
            printable.extend(char.escape_default());
        } else {
            printable.push(char);
        }
    }
    Cow::Owned(printable)
}

/// Prints a result on stdout, on a terminal without control characters. A reader that closed its pipe (`| head`) is not an error; any other failure is reported
/// once, and makes the program fail ([`crate::exit_code::report`]).
pub fn result(text: impl Display) {
    let mut stdout = io::stdout().lock();
    let text = text.to_string();
    let text = if stdout.is_terminal() {
        printable(&text)
    } else {
        Cow::Borrowed(text.as_str())
    };
    let Err(error) = writeln!(stdout, "{text}") else {
        return;
    };
    if error.kind() != ErrorKind::BrokenPipe && !STDOUT_IS_BROKEN.swap(true, Ordering::Relaxed) {
        note(format_args!("error: could not write to stdout: {error}"));
    }
}

/// Prints a result as indented JSON on stdout.
///
/// # Errors
/// When the value has no JSON form.
pub fn json(value: &impl Serialize) -> Result<()> {
    result(serde_json::to_string_pretty(value).context("could not write the result as JSON")?);
    Ok(())
}

/// Prints a line on stderr, without control characters.
pub fn note(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{}", printable(&text.to_string()));
}

/// Prints items behind a heading on stderr, separated by commas: in one line, or, on a terminal, in as many as its width takes,
/// those after the first indented by `indent` columns.
pub fn list_note(heading: &str, items: &[String], indent: usize) {
    let terminal = console::Term::stderr();
    let width = terminal.is_term().then(|| terminal.size_checked()).flatten();
    let width = width.map_or(usize::MAX, |(_, columns)| usize::from(columns));
    note(listed(heading, items, indent, width));
}

fn listed(heading: &str, items: &[String], indent: usize, width: usize) -> String {
    let room = width.saturating_sub(indent);
    let mut lines = vec![String::new()];
    for (place, item) in items.iter().enumerate() {
        let comma = if place + 1 < items.len() { "," } else { "" };
        let item = format!("{item}{comma}");
        // An item moves to the next line as a whole, unless it fits into none.
        let pieces: Vec<&str> = if item.chars().count() <= room {
            vec![&item]
        } else {
            item.split(' ').collect()
        };
        for piece in pieces {
            let line = lines.last_mut().expect("there is a line");
            let fits = line.chars().count() + 1 + piece.chars().count() <= room;
            match (line.is_empty(), fits) {
                (true, _) => line.push_str(piece),
                (false, true) => {
                    line.push(' ');
                    line.push_str(piece);
                }
                (false, false) => lines.push(piece.to_owned()),
            }
        }
    }
    let new_line = format!("\n{:indent$}", "");
    format!("{heading:indent$}{}", lines.join(&new_line))
}

/// Prints an error and its causes in one line on stderr, with the way out where we know one.
pub fn error(error: &anyhow::Error) {
    note(format_args!("error: {}", error_line(error)));
}

fn error_line(error: &anyhow::Error) -> String {
    let mut line = format!("{error:#}");
    let is_disk_full = error.chain().any(|cause| {
        let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        matches!(kind, Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded))
    });
    if is_disk_full && !line.contains(NO_SPACE) {
        line = format!("{NO_SPACE}: {line}");
    }
    if let Some(way_out) = open_files::way_out(&line) {
        line = format!("{line}; {way_out}");
    }
    line
}

/// A progress bar with rate and time left; hidden where stderr is not a terminal.
#[derive(Debug)]
pub struct Bar(ProgressBar);

impl Bar {
    /// `verb` stands before the bar, as in `rendering`.
    ///
    /// # Panics
    /// Never: the template is fixed.
    #[must_use]
    pub fn new(verb: &'static str, num_items: u64) -> Self {
        let style = ProgressStyle::with_template(
            "{prefix:>12} {bar:30} {human_pos}/{human_len}  {per_sec}  {eta} left  {wide_msg}",
        );
        let bar = ProgressBar::new(num_items)
            .with_style(style.expect("the template is fixed"))
            .with_prefix(verb);
        // It takes a thread.
        if !bar.is_hidden() {
            bar.enable_steady_tick(TICK);
        }
        Self(bar)
    }

    /// Is there no terminal to draw it on?
    #[must_use]
    pub fn is_hidden(&self) -> bool {
        self.0.is_hidden()
    }

    /// Changes the number of items, where it turns out later.
    pub fn set_length(&self, num_items: u64) {
        self.0.set_length(num_items);
    }

    /// Counts items that an earlier run has finished, without counting them into the rate.
    pub fn skip(&self, num_items: u64) {
        self.0.inc(num_items);
        self.0.reset_eta();
    }

    /// Counts one finished item.
    pub fn advance(&self) {
        self.0.inc(1);
    }

    /// Sets the number of finished items.
    pub fn set_position(&self, num_items: u64) {
        self.0.set_position(num_items);
    }

    /// Shows a text behind the bar.
    pub fn message(&self, text: impl Display) {
        self.0.set_message(printable(&text.to_string()).into_owned());
    }

    /// Prints a result, on stdout, above the bar.
    pub fn result(&self, text: impl Display) {
        self.0.suspend(|| result(text));
    }

    /// Prints a line above the bar.
    pub fn note(&self, text: impl Display) {
        self.0.suspend(|| note(text));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Aligns rows in columns: the first column left, the others right. The first row is the heading.
#[must_use]
pub fn table(rows: &[Vec<String>]) -> String {
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

/// A size in binary units, as in `12.5 MiB`.
#[must_use]
pub fn bytes(num_bytes: u64) -> String {
    indicatif::BinaryBytes(num_bytes).to_string()
}

/// A duration, as in `8.3 s` or `2 min 05 s`.
#[must_use]
pub fn seconds(elapsed_s: f64) -> String {
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
    fn items_of_a_list_stay_whole_where_they_fit() {
        let items = ["one 1", "two 22", "three {a 1, b 22, c 333}"].map(str::to_owned);
        assert_eq!(
            listed("list", &items, 6, usize::MAX),
            "list  one 1, two 22, three {a 1, b 22, c 333}"
        );
        assert_eq!(
            listed("list", &items, 6, 20),
            "list  one 1, two 22,\n      three {a 1, b\n      22, c 333}"
        );
        assert_eq!(listed("none", &[], 6, 20), "none  ");
    }

    #[test]
    fn a_full_disk_is_named_once() {
        let full = || io::Error::from(ErrorKind::StorageFull);
        let line = error_line(&anyhow::Error::new(full()).context("cannot write a.toml"));
        assert!(
            line.starts_with("not enough disk space: cannot write a.toml: "),
            "{line}"
        );
        let named = anyhow::Error::new(full()).context("not enough disk space: a.toml");
        assert_eq!(error_line(&named).matches(NO_SPACE).count(), 1, "{named:#}");
        let other = anyhow::Error::new(io::Error::from(ErrorKind::NotFound)).context("cannot read a.toml");
        assert!(error_line(&other).starts_with("cannot read"), "{other:#}");
    }

    #[test]
    fn names_cannot_write_on_a_terminal() {
        assert_eq!(printable("a\tb\nc"), "a\tb\nc");
        assert_eq!(printable("a\x1b[2Jb\r\u{9b}"), "a\\u{1b}[2Jb\\r\\u{9b}");
    }

    #[test]
    fn times_are_short() {
        assert_eq!(seconds(8.26), "8.3 s");
        assert_eq!(seconds(125.2), "2 min 05 s");
    }
}
