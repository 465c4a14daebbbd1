//! Generated views of given objects beside the true ones.

use std::path::Path;
use std::sync::Arc;

use tap_dataset::Split;
use tch::nn::VarStore;
use tch::no_grad;

use super::{OpenData, evaluation_batches, require_exact, require_finite};
use crate::config::{Plan, Task};
use crate::data::collator::ViewSampling;
use crate::data::source::SampleSource;
use crate::engine::trainer::RunOptions;
use crate::error::TrainError;
use crate::method::Inputs;
use crate::method::tap::{comparison_grid, draw_views, gray_bytes, tap_config};
use crate::model::{Mode, Tap};
use crate::run::CONFIG_FILE;
use crate::run::event::{OnEvent, TrainEvent};
use crate::run::image_grid::is_png_by;
use crate::run::weights::{RunWeights, WeightChoice};
use crate::weights::checkpoint::copy_weights;
use crate::weights::safetensors::write_atomic;

/// Name of this program in the metadata of the image.
const PROGRAM: &str = "tap-train generate";

/// Whether [`generate`] wrote this file.
#[must_use]
pub fn is_generated(file: &Path) -> bool {
    is_png_by(PROGRAM, file)
}

/// Draws all views of `ids` (of the first objects of each class where none is named) into one PNG at `file`; `options.out`
/// is the run. A note says where its weights are not those of the last step.
///
/// # Errors
/// Where the run is no pre-training or has no such weights, they or the images are not finite, an id is unknown, or the
/// file cannot be written.
pub fn generate(
    options: &RunOptions,
    split: Split,
    ids: &[String],
    file: &Path,
    weights: WeightChoice,
    on_event: OnEvent<'_>,
) -> Result<Vec<String>, TrainError> {
    let plan = Plan::read(&options.out.join(CONFIG_FILE))?;
    if plan.task != Task::Pretrain {
        return Err(TrainError::NoWeights {
            reason: String::from("the run is no pre-training, so it draws no views"),
            path: options.out.clone(),
        });
    }
    let weights = RunWeights::read(&options.out, &plan, weights, on_event)?;
    if weights.num_steps < plan.phase.num_steps {
        on_event(TrainEvent::Note(format!("drawn with the {}", weights.selection)));
    }
    let data = OpenData::with_images(&options.data, &plan.data.images)?;
    let views = Inputs {
        views: true,
        ..Inputs::default()
    };
    data.require(views, "drawing views")?;
    let store = VarStore::new(options.device);
    let tap = Tap::new(&store.root(), &tap_config(&plan)?);
    require_exact(copy_weights(&store, &weights.tensors, ""), &weights.file)?;
    let source: Arc<dyn SampleSource> = Arc::new(data.rows(split)?);
    let rows = rows(source.as_ref(), ids).map_err(|id| TrainError::UnsuitableData {
        reason: format!("split {split} has no object '{id}'"),
        path: options.data.clone(),
    })?;
    let batches = evaluation_batches(&plan, source, ViewSampling::All, rows.len());
    let cpu_batch = batches.rows(&rows)?;
    let images = no_grad(|| draw_views(&tap, &cpu_batch.to_tensors(options.device), Mode::EVAL));
    require_finite(&images, &cpu_batch)?;
    write_atomic(
        file,
        &comparison_grid(&gray_bytes(&images), &cpu_batch).to_png_by(PROGRAM)?,
    )?;
    Ok(cpu_batch.ids)
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
