//! Generated views of given objects beside the true ones, as one image and as an animation.
//!
//! The poses are those of the data set that is given, and need not be any that the run was trained on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tap_dataset::Split;
use tch::nn::VarStore;
use tch::{Device, Tensor, no_grad};

use super::{OpenData, evaluation_batches, require_finite};
use crate::config::{Plan, Task};
use crate::data::batch::{Batch, ViewBatch};
use crate::data::collator::ViewSampling;
use crate::data::source::SampleSource;
use crate::engine::trainer::RunOptions;
use crate::error::TrainError;
use crate::method::Inputs;
use crate::method::tap::{comparison_frames, comparison_grid, draw_views, gray_bytes, tap_config};
use crate::model::{Mode, Tap, TapConfig};
use crate::run::CONFIG_FILE;
use crate::run::event::{OnEvent, TrainEvent};
use crate::run::image_grid::{ImageGrid, is_png_by};
use crate::run::weights::{ENCODER_PREFIX_KEY, RunWeights, WeightChoice};
use crate::weights::checkpoint::{ENCODER_PREFIX, WeightReport, copy_weights};
use crate::weights::safetensors::{read_metadata, write_atomic};

/// Name of this program in the metadata of the image.
const PROGRAM: &str = "tap-train generate";
/// Views of an object that are drawn at a time.
const MAX_VIEWS_AT_ONCE: i64 = 24;

/// Whether [`generate`] wrote this file.
#[must_use]
pub fn is_generated(file: &Path) -> bool {
    is_png_by(PROGRAM, file)
}

/// Which objects are drawn, with which weights.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Their split.
    pub split: Split,
    /// Their ids; the first of each class where none is named.
    pub ids: Vec<String>,
    /// The weights.
    pub weights: WeightChoice,
    /// The image set that true views come from; that of the run if absent.
    pub images: Option<String>,
}

/// What is written.
#[derive(Debug, Clone)]
pub struct Drawings {
    /// A PNG with rows of generated above rows of true views.
    pub sheet: PathBuf,
    /// An animated PNG with one view after the other, and its views a second.
    pub animation: Option<(PathBuf, u16)>,
}

/// Draws all views of objects; `options.out` is the run. A note says where its weights are not those of the last step.
/// Returns the ids.
///
/// # Errors
/// Where the run is no pre-training or has no such weights, they or the images are not finite, an id is unknown, or a file
/// cannot be written.
pub fn generate(
    options: &RunOptions,
    wanted: &Wanted,
    drawings: &Drawings,
    on_event: OnEvent<'_>,
) -> Result<Vec<String>, TrainError> {
    let plan = Plan::read(&options.out.join(CONFIG_FILE))?;
    if plan.task != Task::Pretrain {
        return Err(TrainError::NoWeights {
            reason: String::from("the run is no pre-training, so it draws no views"),
            path: options.out.clone(),
        });
    }
    let config = tap_config(&plan)?;
    let weights = RunWeights::read(&options.out, &plan, wanted.weights, on_event)?;
    if weights.num_steps < plan.phase.num_steps {
        on_event(TrainEvent::Note(format!("drawn with the {}", weights.selection)));
    }
    let images = wanted.images.as_ref().unwrap_or(&plan.data.images);
    let data = OpenData::with_images(&options.data, images)?;
    let views = Inputs {
        views: true,
        ..Inputs::default()
    };
    data.require(views, "drawing views")?;
    let size_px = i64::from(data.dataset.image_size_px());
    if size_px != config.image_size_px() {
        let drawn = config.image_size_px();
        return Err(TrainError::UnsuitableData {
            reason: format!("the run draws {drawn}x{drawn} pixels, and the views have {size_px}x{size_px}"),
            path: options.data.clone(),
        });
    }
    let (_store, tap) = tap_of(&config, &weights, options.device)?;
    let source: Arc<dyn SampleSource> = Arc::new(data.rows(wanted.split)?);
    let rows = rows(source.as_ref(), &wanted.ids).map_err(|id| TrainError::UnsuitableData {
        reason: format!("split {} has no object '{id}'", wanted.split),
        path: options.data.clone(),
    })?;
    let batches = evaluation_batches(&plan, source, ViewSampling::All, rows.len());
    let cpu_batch = batches.rows(&rows)?;
    let images = no_grad(|| draw_all(&tap, &cpu_batch.to_tensors(options.device)));
    require_finite(&images, &cpu_batch)?;
    let generated = gray_bytes(&images);
    let sheet = comparison_grid(&generated, &cpu_batch).to_png_by(PROGRAM)?;
    write_atomic(&drawings.sheet, &sheet)?;
    if let Some((file, views_per_s)) = &drawings.animation {
        let frames = comparison_frames(&generated, &cpu_batch);
        write_atomic(file, &ImageGrid::animate(&frames, *views_per_s, PROGRAM)?)?;
    }
    Ok(cpu_batch.ids)
}

/// TAP with the weights of a run; what other methods of a sum have beside it stays where it is.
pub(super) fn tap_of(config: &TapConfig, weights: &RunWeights, device: Device) -> Result<(VarStore, Tap), TrainError> {
    let metadata = read_metadata(&weights.file)?;
    let prefix = metadata
        .get(ENCODER_PREFIX_KEY)
        .map_or(ENCODER_PREFIX, String::as_str);
    let store = VarStore::new(device);
    let encoder_at = prefix
        .split_terminator('.')
        .fold(store.root(), |path, part| path / part);
    let encoder = config.encoder.build(&encoder_at);
    let tap = Tap::with_encoder(&store.root(), encoder, &config.photograph, &config.decoder);
    let report = WeightReport {
        unexpected: Vec::new(),
        ..copy_weights(&store, &weights.tensors, "")
    };
    super::require_exact(report, &weights.file)?;
    Ok((store, tap))
}

/// All views of a batch, some at a time: memory does not grow with the rig.
pub(super) fn draw_all(tap: &Tap, batch: &Batch) -> Tensor {
    let views = batch.views.as_ref().expect("batches that are drawn have views");
    let num_views = views.view_from_object.size()[1];
    let parts: Vec<Tensor> = (0..num_views)
        .step_by(MAX_VIEWS_AT_ONCE as usize)
        .map(|start| {
            let of = |tensor: &Tensor| tensor.narrow(1, start, MAX_VIEWS_AT_ONCE.min(num_views - start));
            let part = Batch {
                views: Some(ViewBatch {
                    images: of(&views.images),
                    masks: of(&views.masks),
                    view_from_object: of(&views.view_from_object),
                    clip_from_view: of(&views.clip_from_view),
                }),
                ..batch.micro_batch(0, batch.len())
            };
            draw_views(tap, &part, Mode::EVAL)
        })
        .collect();
    Tensor::cat(&parts, 1)
}

/// Rows of these ids, or of the first object of each class.
fn rows(source: &dyn SampleSource, ids: &[String]) -> Result<Vec<usize>, String> {
    if ids.is_empty() {
        let labels = source.labels();
        return Ok((0..labels.len())
            .filter(|&row| !labels[..row].contains(&labels[row]))
            .collect());
    }
    ids.iter()
        .map(|id| {
            source
                .ids()
                .iter()
                .position(|other| other.as_str() == id)
                .ok_or_else(|| id.clone())
        })
        .collect()
}
