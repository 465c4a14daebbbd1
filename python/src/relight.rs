//! `relight`: a data set under another lighting.

use std::path::PathBuf;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tap_dataset::{
    BuildOptions, RelightOptions, RelightReport, image_set_dir, refuse_inputs, relight_from_meshes,
};

use crate::error::dataset_error;
use crate::settings::{Keywords, lighting as lighting_of, renderer_options};
use crate::work;

/// Relights a data set, as `tap dataset relight` does: from its G-buffer, or from its meshes.
///
/// lighting: as in `render`. out: the folder of the new data set; or add: the name of an image set in `dir`, for
/// `Dataset(dir, images=...)`. meshes: where the meshes are, to render them again.
/// Also threads, backend, adapter, force and progress, as in `build`.
///
/// Returns a dict: out, parent, sha256, num_rows, num_shards. Ctrl-C raises KeyboardInterrupt; the same call continues.
#[pyfunction]
#[pyo3(signature = (dir, lighting, out=None, *, add=None, meshes=None, **keywords))]
pub(crate) fn relight<'py>(
    py: Python<'py>,
    dir: PathBuf,
    lighting: &Bound<'py, PyAny>,
    out: Option<PathBuf>,
    add: Option<String>,
    meshes: Option<PathBuf>,
    keywords: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyDict>> {
    let lighting = lighting_of(lighting)?;
    let mut keywords = Keywords::new("relight", keywords)?;
    let progress = keywords.take("progress");
    let force = keywords.take_as("force")?.unwrap_or_default();
    let workers = keywords.take_as("threads")?.unwrap_or_default();
    let renderer = renderer_options(&mut keywords)?;
    keywords.finish()?;
    let images_only = add.is_some();
    let out = match (out, add) {
        (Some(out), None) => out,
        (None, Some(name)) if meshes.is_none() => {
            image_set_dir(&dir, &name).map_err(|error| dataset_error(&error))?
        }
        _ => {
            return Err(PyTypeError::new_err(
                "relight() takes either out or add, and meshes only with out",
            ));
        }
    };
    let report = work::run(py, progress.as_ref(), |cancel, on_event| {
        if force {
            refuse_inputs(&out, std::iter::once(dir.as_path()).chain(meshes.as_deref()))?;
        }
        if let Some(meshes) = &meshes {
            let options = BuildOptions {
                workers,
                renderer,
                force,
                ..BuildOptions::new(out.clone())
            };
            relight_from_meshes(&dir, meshes, &lighting, &options, cancel, on_event)
        } else {
            let options = RelightOptions {
                out: out.clone(),
                images_only,
                workers,
                force,
            };
            tap_dataset::relight(&dir, &lighting, &options, cancel, on_event)
        }
    })?;
    let dict = PyDict::new(py);
    dict.set_item("out", &out)?;
    // Only Ctrl-C and the caller's function stop it, and both have raised their exceptions by now.
    if let Some(RelightReport {
        parent,
        sha256,
        num_rows,
        num_shards,
    }) = report
    {
        dict.set_item("parent", parent)?;
        dict.set_item("sha256", sha256)?;
        dict.set_item("num_rows", num_rows)?;
        dict.set_item("num_shards", num_shards)?;
    }
    Ok(dict)
}
