//! Prints a result per mesh as it arrives, and a summary at the end.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use serde::Serialize;
use tap_cli::grouped::{Grouped, kind_of};
use tap_cli::ui;
use tap_dataset::SkipReason;
use tap_dataset::view_folder::{Failure, Input, Outcome, Timings, ViewFolderEvent};

/// Number of meshes named under a reason.
const NAMES_PER_REASON: usize = 3;

/// The command that runs.
#[derive(Debug, Clone, Copy)]
pub(super) enum Command {
    Render,
    Relight,
}

impl Command {
    /// Verb of the progress bar.
    fn progressive(self) -> &'static str {
        match self {
            Self::Render => "rendering",
            Self::Relight => "relighting",
        }
    }

    /// Status of a mesh.
    fn participle(self) -> &'static str {
        match self {
            Self::Render => "rendered",
            Self::Relight => "relit",
        }
    }
}

/// What to print, and what counts as failure.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReportOptions {
    pub(super) json: bool,
    pub(super) timings: bool,
    pub(super) max_failed: usize,
}

/// A line of `--json`.
#[derive(Debug, Serialize)]
struct Line<'a> {
    /// Lossy where the path is not UTF-8.
    mesh: Cow<'a, str>,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    folder: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    timings: Option<Timings>,
}

/// The last line of `--json`.
#[derive(Debug, Serialize)]
struct LastLine<'a> {
    summary: &'a Summary,
}

#[derive(Debug, Default, Serialize)]
struct Summary {
    num_meshes: usize,
    num_rendered: usize,
    num_unchanged: usize,
    num_failed: usize,
    num_with_warnings: usize,
    reasons: BTreeMap<String, usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timings: Option<RunTimings>,
}

/// Timings of a whole run. Stages run in parallel, so their sum exceeds the elapsed time.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct RunTimings {
    /// Setting up the renderer.
    start_s: f64,
    /// From the start of the program to the first complete folder.
    first_s: f64,
    elapsed_s: f64,
    num_views: usize,
    stages: Timings,
}

/// Prints outcomes and sums them up.
pub(super) struct Report<'a> {
    command: Command,
    options: ReportOptions,
    out: &'a Path,
    bar: ui::Bar,
    started: Instant,
    timings: RunTimings,
    summary: Summary,
    /// First meshes under each reason.
    names: BTreeMap<String, Vec<String>>,
    only_failure: Option<String>,
    warnings: Grouped,
}

impl<'a> Report<'a> {
    /// `started` is when the program started its work.
    pub(super) fn new(
        command: Command,
        options: ReportOptions,
        out: &'a Path,
        num_meshes: usize,
        started: Instant,
    ) -> Self {
        Self {
            command,
            options,
            out,
            bar: ui::Bar::new(command.progressive(), num_meshes as u64),
            started,
            timings: RunTimings::default(),
            summary: Summary {
                num_meshes,
                ..Summary::default()
            },
            names: BTreeMap::new(),
            only_failure: None,
            warnings: Grouped::default(),
        }
    }

    /// Prints an event.
    pub(super) fn handle(&mut self, event: ViewFolderEvent<'_>) {
        match event {
            ViewFolderEvent::Started { adapter, start_s } => {
                self.timings.start_s = start_s;
                self.bar.message(adapter);
            }
            ViewFolderEvent::DeviceFailed { error } => {
                let error = anyhow::Error::from(error);
                self.bar.note(format_args!(
                    "note: the device failed and is opened again: {error:#}"
                ));
            }
            ViewFolderEvent::Done { input, outcome } => self.add(input, &outcome),
            _ => {}
        }
    }

    fn add(&mut self, input: &Input, outcome: &Outcome) {
        let folder = self.out.join(&input.name);
        let mut line = Line {
            mesh: input.path.to_string_lossy(),
            status: self.command.participle(),
            folder: Some(folder.to_string_lossy()),
            reason: None,
            error: None,
            warnings: &[],
            timings: None,
        };
        match outcome {
            Outcome::Written(written) => {
                if self.summary.num_rendered == 0 {
                    self.timings.first_s = self.started.elapsed().as_secs_f64();
                }
                self.summary.num_rendered += 1;
                self.warn(input, &written.warnings);
                if written.num_empty > 0 && written.num_empty == written.num_views {
                    self.fail(input, &all_empty());
                }
                self.timings.num_views += written.num_views;
                self.timings.stages.add(&written.timings);
                line.warnings = &written.warnings;
                line.timings = self.options.timings.then_some(written.timings);
            }
            Outcome::Unchanged => {
                self.summary.num_unchanged += 1;
                line.status = "unchanged";
            }
            Outcome::Failed(failure) => {
                self.fail(input, failure);
                line.status = "failed";
                line.folder = None;
                line.reason = Some(&failure.reason);
                line.error = Some(&failure.message);
            }
        }
        if self.options.json {
            if let Ok(json) = serde_json::to_string(&line) {
                self.bar.result(json);
            }
        } else if line.folder.is_some() {
            self.bar.result(folder.display());
        }
        if let Outcome::Unchanged = outcome {
            self.bar.skip(1);
        } else {
            self.bar.advance();
        }
    }

    /// Shows the first warnings of each kind.
    fn warn(&mut self, input: &Input, warnings: &[String]) {
        self.summary.num_with_warnings += usize::from(!warnings.is_empty());
        for warning in warnings {
            if self.warnings.count(kind_of(warning)) {
                let way_out = way_out(warning);
                self.bar
                    .note(format_args!("note: {}: {warning}{way_out}", input.path.display()));
            }
        }
    }

    fn fail(&mut self, input: &Input, Failure { reason, message }: &Failure) {
        let mesh = input.path.display();
        self.summary.num_failed += 1;
        *self.summary.reasons.entry(reason.clone()).or_default() += 1;
        let names = self.names.entry(reason.clone()).or_default();
        if names.len() < NAMES_PER_REASON {
            names.push(mesh.to_string());
        }
        if self.summary.num_meshes > 1 {
            self.bar.note(format_args!("skipped {mesh}, {reason}: {message}"));
        }
        self.only_failure = Some(format!("{mesh}: {message}"));
    }

    /// Prints the summary.
    ///
    /// # Errors
    /// When more meshes failed than allowed.
    pub(super) fn finish(self) -> Result<ExitCode> {
        let Self {
            command,
            options,
            out: _,
            bar,
            started,
            mut timings,
            mut summary,
            names,
            only_failure,
            warnings,
        } = self;
        drop(bar);
        timings.elapsed_s = started.elapsed().as_secs_f64();
        if options.timings {
            summary.timings = Some(timings);
        }
        if options.json {
            ui::result(serde_json::to_string(&LastLine { summary: &summary })?);
        } else if options.timings {
            print_timings(&timings);
        }
        let Summary {
            num_meshes,
            num_rendered,
            num_unchanged,
            num_failed,
            num_with_warnings,
            reasons,
            timings: _,
        } = summary;
        for (kind, num_more) in warnings.not_shown() {
            ui::note(format_args!("note: and {num_more} more, in views.json: {kind}"));
        }
        if num_with_warnings > 0 {
            let meshes = if num_with_warnings == 1 {
                "mesh has"
            } else {
                "meshes have"
            };
            ui::note(format_args!(
                "note: {num_with_warnings} {meshes} warnings, in views.json"
            ));
        }
        if num_meshes > 1 {
            ui::note(format_args!(
                "note: {num_rendered} {}, {num_unchanged} unchanged, {num_failed} failed, in {}",
                command.participle(),
                ui::seconds(timings.elapsed_s)
            ));
        }
        let reason = |(reason, count): (&String, &usize)| {
            let named = names
                .get(reason)
                .map(|names| names.join(", "))
                .unwrap_or_default();
            let more = if *count > NAMES_PER_REASON { ", ..." } else { "" };
            format!("{count} {reason} ({named}{more})")
        };
        let reasons = reasons.iter().map(reason).collect::<Vec<_>>().join("; ");
        match (only_failure, num_failed > options.max_failed) {
            (Some(failure), true) if num_meshes == 1 => bail!("{failure}"),
            (_, true) => bail!(
                "{num_failed} of {num_meshes} meshes failed, --max-skipped allows {}: {reasons}",
                options.max_failed
            ),
            (Some(_), false) => ui::note(format_args!("note: failed: {reasons}")),
            (None, false) => {}
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The folder is written, but a user who does not look at it should know.
fn all_empty() -> Failure {
    Failure {
        reason: SkipReason::EmptyView.to_string(),
        message: "nothing is seen in any view, thinner than a pixel: raise --size or --samples".to_owned(),
    }
}

/// What to do about a warning, where we know something.
fn way_out(warning: &str) -> &'static str {
    if warning.contains("outside of its folder") {
        "; --root DIR lets meshes read below DIR"
    } else {
        ""
    }
}

fn print_timings(timings: &RunTimings) {
    let RunTimings {
        start_s,
        first_s,
        elapsed_s,
        num_views,
        stages,
    } = timings;
    let row = |name: &str, seconds: f64, views: usize| {
        let per_view = if views == 0 {
            String::new()
        } else {
            format!("{:.3}", 1e3 * seconds / views as f64)
        };
        vec![name.to_owned(), format!("{seconds:.3}"), per_view]
    };
    let mut rows = vec![["stage", "seconds", "ms per view"].map(str::to_owned).to_vec()];
    rows.push(row("set up the renderer", *start_s, 0));
    rows.extend(
        stages
            .stages()
            .map(|(name, seconds)| row(name, seconds, *num_views)),
    );
    rows.push(row("first mesh complete", *first_s, 0));
    rows.push(row("total", *elapsed_s, *num_views));
    ui::note(ui::table(&rows));
    if let Some(device_s) = stages.device_s {
        ui::note(format_args!(
            "note: the device was busy for {device_s:.3} s, {:.0} % of the total",
            100.0 * device_s / elapsed_s
        ));
    }
    ui::note(format_args!(
        "note: stages run in parallel, so their sum exceeds the total; {:.1} views per second",
        *num_views as f64 / elapsed_s
    ));
}
