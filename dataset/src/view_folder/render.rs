//! [`render`]: meshes to folders of views, as a job of the [pipeline](crate::pipeline).

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use tap_render::{AdapterReport, CpuRenderer, RenderError, Renderer, RendererOptions, View};

use super::error::{Result, ViewFolderError};
use super::folder;
use super::input::Input;
use super::job::{self, Clock, Failure, Preparation, PreparedMesh, RunSettings, ViewRecipe, WrittenViews};
use super::out_lock::OutLock;
use crate::builder::to_value;
use crate::error::error_chain;
use crate::manifest::SkipReason;
use crate::owned_folder::refuse_inputs;
use crate::pipeline::{Delivery, MeshJob, catch_panic, num_threads, render_all};
use crate::source::expected_bytes;

/// Limit on the total size of mesh files in flight.
const MAX_IN_FLIGHT_BYTES: u64 = 256 << 20;

/// What happens to folders of views that exist already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Existing {
    /// The run is refused.
    #[default]
    Refuse,
    /// Folders that hold views and nothing else are replaced.
    Replace,
    /// Complete folders that would come out the same are kept, other folders of views are replaced.
    Resume,
}

/// Settings that do not affect the files.
#[derive(Debug, Clone)]
pub struct ViewOptions {
    /// Folder of the folders of views.
    pub out: PathBuf,
    /// What happens to existing folders.
    pub existing: Existing,
    /// Files that the recipe was read from; a folder that holds one is not replaced.
    pub recipe_files: Vec<PathBuf>,
    /// Worker threads; 0 means one per core.
    pub workers: usize,
    /// Backend and adapter.
    pub renderer: RendererOptions,
}

/// Progress events of [`render`] and [`relight`](super::relight()).
#[derive(Debug)]
#[non_exhaustive]
pub enum ViewFolderEvent<'a> {
    /// The renderer is ready.
    Started {
        /// Adapter that renders.
        adapter: &'a AdapterReport,
        /// Seconds to set it up.
        start_s: f64,
    },
    /// The device failed and is opened again.
    DeviceFailed {
        /// What the device reported.
        error: RenderError,
    },
    /// An input is finished; inputs finish in order.
    Done {
        /// The input.
        input: &'a Input,
        /// Its outcome.
        outcome: Outcome,
    },
}

/// Outcome of an input.
#[derive(Debug)]
pub enum Outcome {
    /// Its views were written.
    Written(WrittenViews),
    /// Its views existed already.
    Unchanged,
    /// It has no views.
    Failed(Failure),
}

impl From<Result<WrittenViews, Failure>> for Outcome {
    fn from(written: Result<WrittenViews, Failure>) -> Self {
        match written {
            Ok(written) => Self::Written(written),
            Err(failure) => Self::Failed(failure),
        }
    }
}

/// Renders the views of meshes, a folder each; `false` if cancelled. Files do not depend on the number of workers.
///
/// # Errors
/// When the recipe contradicts itself, another process writes to the output, a folder must not be replaced, no adapter can render, or nothing can be
/// written or rendered any more. A bad mesh is an [`Outcome`].
pub fn render(
    inputs: &[Input],
    recipe: &ViewRecipe,
    options: &ViewOptions,
    cancel: &AtomicBool,
    on_event: &mut dyn FnMut(ViewFolderEvent<'_>),
) -> Result<bool> {
    recipe.validate()?;
    let _lock = OutLock::take(&options.out)?;
    check_existing(inputs, recipe, options)?;
    let mut clock = Clock::start();
    let renderer = Renderer::try_new(&options.renderer).map_err(ViewFolderError::Renderer)?;
    on_event(ViewFolderEvent::Started {
        adapter: renderer.adapter(),
        start_s: clock.lap(),
    });
    let [cores, num_threads] = [0, options.workers].map(num_threads);
    let job = ViewFolderJob {
        settings: RunSettings {
            recipe,
            out: &options.out,
            may_replace: options.existing != Existing::Refuse,
            resumes: options.existing == Existing::Resume,
            backend_kind: renderer.backend_kind(),
            adapter: to_value(renderer.adapter()),
        },
        inputs,
        // Fewer meshes than cores leave cores to the views.
        splits_views: inputs.len() < cores.min(num_threads),
    };
    render_all(
        &job,
        renderer,
        &options.renderer,
        num_threads,
        MAX_IN_FLIGHT_BYTES,
        cancel,
        &mut |delivery| {
            on_event(match delivery {
                Delivery::Event(error) => ViewFolderEvent::DeviceFailed { error },
                Delivery::Output(item, outcome) => ViewFolderEvent::Done {
                    input: &inputs[item],
                    outcome,
                },
            });
            Ok(())
        },
    )
}

/// Checks all output folders before the first mesh is rendered.
fn check_existing(inputs: &[Input], recipe: &ViewRecipe, options: &ViewOptions) -> Result<()> {
    let read = || {
        options
            .recipe_files
            .iter()
            .chain(&recipe.points)
            .map(PathBuf::as_path)
    };
    for input in inputs {
        let path = options.out.join(&input.name);
        match options.existing {
            Existing::Refuse if path.exists() => {
                return Err(ViewFolderError::Exists {
                    remedy: "--resume continues them, --force replaces them",
                    path,
                });
            }
            Existing::Replace if path.symlink_metadata().is_ok() => {
                folder::replaceable(&path)?;
                refuse_inputs(&path, read())?;
            }
            _ => {}
        }
    }
    Ok(())
}

struct ViewFolderJob<'a> {
    settings: RunSettings<'a>,
    inputs: &'a [Input],
    /// Whether the CPU renders the views of one mesh in parallel.
    splits_views: bool,
}

impl MeshJob for ViewFolderJob<'_> {
    type Prepared = PreparedMesh;
    type Output = Outcome;
    type Error = ViewFolderError;

    fn num_items(&self) -> usize {
        self.inputs.len()
    }

    fn size_bytes(&self, item: usize) -> u64 {
        let path = &self.inputs[item].path;
        fs::metadata(path).map_or(0, |file| expected_bytes(path, file.len()))
    }

    fn prepare(&self, item: usize) -> Result<PreparedMesh, Outcome> {
        match job::prepare(&self.settings, &self.inputs[item]) {
            Ok(Preparation::Ready(prepared)) => Ok(*prepared),
            Ok(Preparation::Unchanged) => Err(Outcome::Unchanged),
            Err(failure) => Err(Outcome::Failed(failure)),
        }
    }

    fn render_on_cpu(&self, renderer: &CpuRenderer, prepared: &mut PreparedMesh) -> Vec<View> {
        let mut clock = Clock::start();
        let in_parallel = || renderer.draw_in_parallel(&prepared.render_job);
        let views = match self.splits_views.then(|| catch_panic(in_parallel)) {
            Some(Ok(views)) => views,
            Some(Err(_)) | None => renderer.draw(&prepared.render_job),
        };
        prepared.timings.draw_s = clock.lap();
        views
    }

    fn finish(&self, item: usize, prepared: PreparedMesh, views: &[View]) -> Result<Outcome> {
        Ok(job::finish(&self.settings, &self.inputs[item], prepared, views)?.into())
    }

    fn render_failed(&self, _: PreparedMesh, error: &RenderError) -> Outcome {
        Outcome::Failed(Failure::new(SkipReason::RenderFailed, error_chain(error)))
    }

    fn panicked(&self, _: usize, message: String) -> Outcome {
        Outcome::Failed(Failure::new(SkipReason::Crashed, message))
    }
}
