//! What a run came to: a result a mesh as it arrives, the sum of it all at the end.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use serde::Serialize;
use tap_render::AdapterReport;

use super::input::Input;
use super::job::{Failure, Timings};
use super::pipeline::Outcome;
use tap_cli::ui;

/// How many meshes are named under a reason.
const NAMES_OF_A_REASON: usize = 3;

/// What is done to each mesh.
#[derive(Debug, Clone, Copy)]
pub(super) enum Work {
    /// It is drawn.
    Render,
    /// Its views are lit anew.
    Relight,
}

impl Work {
    /// For the progress bar.
    fn going_on(self) -> &'static str {
        match self {
            Self::Render => "rendering",
            Self::Relight => "relighting",
        }
    }

    /// For what is whole.
    fn done(self) -> &'static str {
        match self {
            Self::Render => "rendered",
            Self::Relight => "relit",
        }
    }
}

/// What the user wants to see.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wishes {
    pub(super) json: bool,
    pub(super) timings: bool,
    pub(super) max_failed: usize,
}

/// A line of `--json`.
#[derive(Debug, Serialize)]
struct Line<'a> {
    /// JSON is UTF-8, which a path need not be.
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

/// Where the time of a whole run went. The stages run side by side, so they add up to more than the run.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct RunTimings {
    /// Setting up what draws.
    start_s: f64,
    /// From the start of the program's work to the first whole folder.
    first_s: f64,
    elapsed_s: f64,
    num_views: usize,
    stages: Timings,
}

/// Takes outcomes in and prints them.
pub(super) struct Report<'a> {
    work: Work,
    wishes: Wishes,
    out: &'a Path,
    bar: ui::Bar,
    begun: Instant,
    timings: RunTimings,
    summary: Summary,
    /// The first few under each reason.
    names: BTreeMap<String, Vec<String>>,
    only_failure: Option<String>,
}

impl<'a> Report<'a> {
    /// `begun` is when the program began its work; `start_s` is how long setting up what draws took.
    pub(super) fn new(
        work: Work,
        wishes: Wishes,
        out: &'a Path,
        num_meshes: usize,
        begun: Instant,
        start_s: f64,
    ) -> Self {
        Self {
            work,
            wishes,
            out,
            bar: ui::Bar::new(work.going_on(), num_meshes as u64),
            begun,
            timings: RunTimings {
                start_s,
                ..RunTimings::default()
            },
            summary: Summary {
                num_meshes,
                ..Summary::default()
            },
            names: BTreeMap::new(),
            only_failure: None,
        }
    }

    /// What draws.
    pub(super) fn name_adapter(&self, adapter: &AdapterReport) {
        self.bar.message(adapter);
    }

    /// Takes in what became of a mesh, and prints it.
    pub(super) fn add(&mut self, input: &Input, outcome: &Outcome) {
        let folder = self.out.join(&input.name);
        let mut line = Line {
            mesh: input.path.to_string_lossy(),
            status: self.work.done(),
            folder: Some(folder.to_string_lossy()),
            reason: None,
            error: None,
            warnings: &[],
            timings: None,
        };
        match outcome {
            Outcome::Rendered(done) => {
                if self.summary.num_rendered == 0 {
                    self.timings.first_s = self.begun.elapsed().as_secs_f64();
                }
                self.summary.num_rendered += 1;
                self.summary.num_with_warnings += usize::from(!done.warnings.is_empty());
                self.timings.num_views += done.num_views;
                self.timings.stages.add(&done.timings);
                line.warnings = &done.warnings;
                line.timings = self.wishes.timings.then_some(done.timings);
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
        if self.wishes.json {
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

    fn fail(&mut self, input: &Input, Failure { reason, message }: &Failure) {
        let mesh = input.path.display();
        self.summary.num_failed += 1;
        *self.summary.reasons.entry(reason.clone()).or_default() += 1;
        let names = self.names.entry(reason.clone()).or_default();
        if names.len() < NAMES_OF_A_REASON {
            names.push(mesh.to_string());
        }
        if self.summary.num_meshes > 1 {
            self.bar.note(format_args!("skipped {mesh}, {reason}: {message}"));
        }
        self.only_failure = Some(format!("{mesh}: {message}"));
    }

    /// Sums it up.
    ///
    /// # Errors
    /// When more meshes failed than may.
    pub(super) fn finish(self) -> Result<ExitCode> {
        let Self {
            work,
            wishes,
            out: _,
            bar,
            begun,
            mut timings,
            mut summary,
            names,
            only_failure,
        } = self;
        drop(bar);
        timings.elapsed_s = begun.elapsed().as_secs_f64();
        if wishes.timings {
            summary.timings = Some(timings);
        }
        if wishes.json {
            ui::result(serde_json::to_string(&LastLine { summary: &summary })?);
        } else if wishes.timings {
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
                work.done(),
                ui::seconds(timings.elapsed_s)
            ));
        }
        let reason = |(reason, count): (&String, &usize)| {
            let named = names
                .get(reason)
                .map(|names| names.join(", "))
                .unwrap_or_default();
            let more = if *count > NAMES_OF_A_REASON { ", ..." } else { "" };
            format!("{count} {reason} ({named}{more})")
        };
        let reasons = reasons.iter().map(reason).collect::<Vec<_>>().join("; ");
        match (only_failure, num_failed > wishes.max_failed) {
            (Some(failure), true) if num_meshes == 1 => bail!("{failure}"),
            (_, true) => bail!(
                "{num_failed} of {num_meshes} meshes failed, --max-skipped allows {}: {reasons}",
                wishes.max_failed
            ),
            (Some(_), false) => ui::note(format_args!("note: failed: {reasons}")),
            (None, false) => {}
        }
        Ok(ExitCode::SUCCESS)
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
    let mut rows = vec![["stage", "seconds", "ms a view"].map(str::to_owned).to_vec()];
    rows.push(row("set up the renderer", *start_s, 0));
    rows.extend(
        stages
            .stages()
            .map(|(name, seconds)| row(name, seconds, *num_views)),
    );
    rows.push(row("first mesh whole after", *first_s, 0));
    rows.push(row("all", *elapsed_s, *num_views));
    ui::note(ui::table(&rows));
    if let Some(device_s) = stages.device_s {
        ui::note(format_args!(
            "note: by its own clock the device was at work for {device_s:.3} s, {:.0} % of all",
            100.0 * device_s / elapsed_s
        ));
    }
    ui::note(format_args!(
        "note: stages run side by side, so they add up to more than all of it; {:.1} views a second",
        *num_views as f64 / elapsed_s
    ));
}
