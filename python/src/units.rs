//! `begin_build`, `build_unit`, `build_status`, `finish_build`: one build by several machines.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tap_dataset::{BuildOptions, BuildStatus, TrialCommand, UnitShards};

use crate::build::{BuildJob, as_dict};
use crate::error::{dataset_error, value_error};
use crate::settings::{Keywords, renderer_options};
use crate::work;

/// Begins a build that several machines share, as `tap dataset begin` does: lists the objects, and builds nothing.
///
/// src, out and keywords: as in `build`, but for part and progress. Returns what `build_status` returns.
#[pyfunction]
#[pyo3(signature = (src, out, **keywords))]
pub(crate) fn begin_build<'py>(
    py: Python<'py>,
    src: PathBuf,
    out: PathBuf,
    keywords: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let job = BuildJob::take(src, out, Keywords::new("begin_build", keywords)?)?;
    let status = work::run(py, None, |_, _| {
        tap_dataset::begin_build(&job.open()?, &job.recipe, &job.options)
    })?;
    status_as_dict(py, &status)
}

/// Builds some shards of a build that was begun, as `tap dataset unit` does, straight into its folder.
///
/// dir: where the build was begun. shards: their numbers, such as "0-3,7"; or unit: such as "3/100", the third of a hundred
/// equal shares. source: the source, where its path on this machine is another one. threads, backend, adapter, progress: as
/// in `build`. isolate (False): try each object first in processes of their own, and list those that end them as crashed.
///
/// Returns what `build` returns, of these shards alone.
#[pyfunction]
#[pyo3(signature = (dir, **keywords))]
pub(crate) fn build_unit<'py>(
    py: Python<'py>,
    dir: PathBuf,
    keywords: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyDict>> {
    let mut keywords = Keywords::new("build_unit", keywords)?;
    let progress = keywords.take("progress");
    let trial = keywords.take_as::<Vec<OsString>>("trial")?;
    let mut unit = UnitJob::take(dir, keywords)?;
    unit.options.trial = trial.and_then(|command| {
        let (program, arguments) = command.split_first()?;
        Some(TrialCommand {
            program: program.into(),
            arguments: arguments.to_vec(),
        })
    });
    let summary = work::run(py, progress.as_ref(), |cancel, on_event| {
        tap_dataset::build_unit(
            &unit.shards,
            unit.source.as_deref(),
            &unit.options,
            cancel,
            on_event,
        )
    })?;
    as_dict(py, &unit.options.out, &summary.manifest)
}

/// Tries the objects that standard input names, for a `build_unit` whose `trial` is the command that calls this.
///
/// Arguments: those of `build_unit`, but for trial and progress.
#[pyfunction]
#[pyo3(signature = (dir, **keywords))]
pub(crate) fn try_unit(py: Python<'_>, dir: PathBuf, keywords: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
    let unit = UnitJob::take(dir, Keywords::new("try_unit", keywords)?)?;
    let tried = py.detach(|| {
        let (input, output) = (io::stdin().lock(), io::stdout().lock());
        tap_dataset::try_unit(&unit.shards, unit.source.as_deref(), &unit.options, input, output)
    });
    tried.map_err(|error| dataset_error(&error))
}

/// Some shards of a build that was begun.
struct UnitJob {
    shards: UnitShards,
    source: Option<PathBuf>,
    options: BuildOptions,
}

impl UnitJob {
    /// Takes all arguments that are left.
    fn take(dir: PathBuf, mut keywords: Keywords<'_>) -> PyResult<Self> {
        let shards = match (keywords.parse("shards")?, keywords.parse("unit")?) {
            (Some(shards), None) => UnitShards::Ranges(shards),
            (None, Some(share)) => UnitShards::Share(share),
            _ => return Err(PyValueError::new_err("expected shards or unit, one of both")),
        };
        let unit = Self {
            shards,
            source: keywords.take_as("source")?,
            options: BuildOptions {
                workers: keywords.take_as("threads")?.unwrap_or_default(),
                renderer: renderer_options(&mut keywords)?,
                ..BuildOptions::new(dir)
            },
        };
        keywords.finish()?;
        Ok(unit)
    }
}

/// How far a build is, as `tap dataset status` says.
///
/// Returns a dict: is_complete, is_begun, sha256, num_shards, num_finished, missing (the shards, such as "0-3,7"),
/// num_objects, num_rows, num_lost, skipped (numbers by reason).
#[pyfunction]
pub(crate) fn build_status(py: Python<'_>, dir: PathBuf) -> PyResult<Bound<'_, PyAny>> {
    let status = work::run(py, None, |_, _| tap_dataset::build_status(&dir))?;
    status_as_dict(py, &status)
}

/// Writes the manifest of a build whose shards are all there, as `tap dataset finish` does. Returns what `build` returns.
#[pyfunction]
pub(crate) fn finish_build(py: Python<'_>, dir: PathBuf) -> PyResult<Bound<'_, PyDict>> {
    let manifest = work::run(py, None, |_, _| tap_dataset::finish_build(&dir))?;
    as_dict(py, &dir, &manifest)
}

fn status_as_dict<'py>(py: Python<'py>, status: &BuildStatus) -> PyResult<Bound<'py, PyAny>> {
    let text = serde_json::to_string(status).map_err(|error| value_error(&error))?;
    py.import("json")?.call_method1("loads", (text,))
}
