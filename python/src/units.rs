//! `begin_build`, `build_unit`, `build_status`, `finish_build`: one build by several machines.

use std::path::PathBuf;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tap_dataset::{BuildOptions, BuildStatus, UnitShards};

use crate::build::{BuildJob, as_dict};
use crate::error::value_error;
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
/// in `build`.
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
    let shards = match (keywords.parse("shards")?, keywords.parse("unit")?) {
        (Some(shards), None) => UnitShards::Ranges(shards),
        (None, Some(share)) => UnitShards::Share(share),
        _ => return Err(PyValueError::new_err("expected shards or unit, one of both")),
    };
    let source: Option<PathBuf> = keywords.take_as("source")?;
    let options = BuildOptions {
        workers: keywords.take_as("threads")?.unwrap_or_default(),
        renderer: renderer_options(&mut keywords)?,
        ..BuildOptions::new(dir)
    };
    keywords.finish()?;
    let summary = work::run(py, progress.as_ref(), |cancel, on_event| {
        tap_dataset::build_unit(&shards, source.as_deref(), &options, cancel, on_event)
    })?;
    as_dict(py, &options.out, &summary.manifest)
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
