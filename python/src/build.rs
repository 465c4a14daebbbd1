//! `build`: a folder of meshes to shards.

use std::path::{Path, PathBuf};

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde_json::{Map, Value};
use tap_dataset::{
    BuildOptions, BuildRecipe, DatasetError, Manifest, Source, SourceOptions, SplitRatios, refuse_inputs,
};

use crate::error::{dataset_error, value_error};
use crate::settings::{Keywords, from_settings, render_settings, renderer_options, to_json};
use crate::work;

/// Builds a data set from meshes, as `tap dataset build` does; the bytes are the same.
///
/// src: a folder of meshes, a zip archive, a mesh, or a table of paths. out: the folder of shards; what an interrupted call
/// has left there is continued.
/// Of the source: layout, splits (a CSV file), split_fractions (such as (0.8, 0.2)), split_seed.
/// Of the recipe: rig, lighting, framing, projection, size, samples as in `render`; num_points, sampler, seed, up, gbuffer,
///     views, normals, mesh_stats, normalization, rows_per_shard, max_objects_in_manifest, min_coverage as in a recipe's file;
///     or `render`, a dict of the former, so that a recipe's file can be passed as `**tomllib.load(file)`.
/// Of the run: threads (0 for one per core), backend, adapter, part ("3/8"), force (replace another data set), progress (True
///     to print, or a function that is called with a dict for each event, whose `kind` is started, done, skipped, warned, ...),
///     isolate (try each object first in processes of their own, and list those that end them as crashed), engine ("ray").
///
/// Returns a dict: out, sha256, num_rows, num_shards, num_lost, skipped (a list of dicts with id, reason and message).
/// Ctrl-C raises KeyboardInterrupt; the same call continues. Raises DatasetError, ValueError, OSError, RenderError.
#[pyfunction]
#[pyo3(signature = (src, out, **keywords))]
pub(crate) fn build<'py>(
    py: Python<'py>,
    src: PathBuf,
    out: PathBuf,
    keywords: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyDict>> {
    let mut keywords = Keywords::new("build", keywords)?;
    let progress = keywords.take("progress");
    let part = keywords.parse("part")?;
    let job = BuildJob::take(src, out, keywords)?;
    let options = BuildOptions { part, ..job.options };
    let job = BuildJob { options, ..job };
    let summary = work::run(py, progress.as_ref(), |cancel, on_event| {
        tap_dataset::build(&job.open()?, &job.recipe, &job.options, cancel, on_event)
    })?;
    as_dict(py, &job.options.out, &summary.manifest)
}

/// What is built, of what, and where to.
pub(crate) struct BuildJob {
    src: PathBuf,
    source: SourceOptions,
    pub(crate) recipe: BuildRecipe,
    pub(crate) options: BuildOptions,
}

impl BuildJob {
    /// Takes all arguments that are left.
    pub(crate) fn take(src: PathBuf, out: PathBuf, mut keywords: Keywords<'_>) -> PyResult<Self> {
        let job = Self {
            src,
            source: source_options(&mut keywords)?,
            options: BuildOptions {
                workers: keywords.take_as("threads")?.unwrap_or_default(),
                renderer: renderer_options(&mut keywords)?,
                force: keywords.take_as("force")?.unwrap_or_default(),
                ..BuildOptions::new(out)
            },
            recipe: build_recipe(&mut keywords)?,
        };
        keywords.finish()?;
        Ok(job)
    }

    /// Scans the source; refuses to overwrite what is read.
    pub(crate) fn open(&self) -> Result<Source, DatasetError> {
        if self.options.force {
            let inputs = std::iter::once(self.src.as_path()).chain(self.source.splits.as_deref());
            refuse_inputs(&self.options.out, inputs)?;
        }
        Source::open(&self.src, &self.source)
    }
}

fn source_options(keywords: &mut Keywords<'_>) -> PyResult<SourceOptions> {
    let seed = keywords.take_as("split_seed")?.unwrap_or_default();
    let fractions: Option<Vec<f64>> = keywords.take_as("split_fractions")?;
    let ratios = fractions.map(|fractions| {
        let text = fractions.iter().map(f64::to_string).collect::<Vec<_>>().join(",");
        text.parse::<SplitRatios>().map_err(|error| value_error(&error))
    });
    Ok(SourceOptions {
        layout: keywords.parse("layout")?.unwrap_or_default(),
        splits: keywords.take_as("splits")?,
        split_ratios: ratios.transpose()?.map(|ratios| ratios.with_seed(seed)),
    })
}

/// All that is left are keys of a recipe.
fn build_recipe(keywords: &mut Keywords<'_>) -> PyResult<BuildRecipe> {
    let mut render = match keywords
        .take("render")
        .map(|render| to_json(&render))
        .transpose()?
    {
        Some(Value::Object(render)) => render,
        Some(_) => return Err(PyTypeError::new_err("render: expected a dict")),
        None => Map::new(),
    };
    render.extend(render_settings(keywords)?);
    let mut settings = Map::new();
    if !render.is_empty() {
        settings.insert("render".to_owned(), Value::Object(render));
    }
    for (key, value) in keywords.take_rest() {
        settings.insert(key, to_json(&value)?);
    }
    let recipe: BuildRecipe = from_settings(settings)?;
    recipe.validate().map_err(|error| dataset_error(&error))?;
    Ok(recipe)
}

/// What there is of a data set: all of it, or the shards of a unit.
pub(crate) fn as_dict<'py>(py: Python<'py>, out: &Path, manifest: &Manifest) -> PyResult<Bound<'py, PyDict>> {
    let all = manifest
        .first_skipped(usize::MAX)
        .map_err(|error| dataset_error(&error))?;
    let skipped = all.iter().map(|skipped| {
        let dict = PyDict::new(py);
        dict.set_item("id", &skipped.id)?;
        dict.set_item("reason", skipped.reason.to_string())?;
        dict.set_item("message", &skipped.message)?;
        Ok(dict)
    });
    let skipped: PyResult<Vec<_>> = skipped.collect();
    let num_rows: usize = manifest.shards.iter().map(|shard| shard.rows).sum();
    let dict = PyDict::new(py);
    dict.set_item("out", out)?;
    dict.set_item("sha256", manifest.sha256.as_deref())?;
    dict.set_item("num_rows", num_rows)?;
    dict.set_item("num_shards", manifest.shards.len())?;
    dict.set_item("num_lost", manifest.num_failed())?;
    dict.set_item("skipped", skipped?)?;
    Ok(dict)
}
