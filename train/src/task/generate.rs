//! Pictures of given objects as a pre-trained run draws them, beside the true views.

use std::path::Path;
use std::sync::Arc;

use tap_dataset::Split;
use tch::no_grad;

use super::pretrain::{build, compare_rows, gray_bytes, photograph};
use super::{OpenData, plain_batches};
use crate::checkpoint::{self, copy_weights};
use crate::config::Plan;
use crate::error::TrainError;
use crate::loader::ViewChoice;
use crate::picture::is_png_by;
use crate::run::CONFIG_FILE;
use crate::source::SampleSource;
use crate::tensor_file::write_whole;
use crate::trainer::RunOptions;

/// What the picture says that it was written by.
const PROGRAM: &str = "tap-train generate";

/// Did [`generate`] write this file?
#[must_use]
pub fn is_generated(file: &Path) -> bool {
    is_png_by(PROGRAM, file)
}

/// Draws all views of `ids` (of the first objects of each class where none is named) into one PNG at `file`; `options.out`
/// is the run.
///
/// # Errors
/// Where the run has no checkpoint, an id is unknown, or the file cannot be written.
///
/// # Panics
/// Never: the batch is asked for with its views.
pub fn generate(
    options: &RunOptions,
    split: Split,
    ids: &[String],
    file: &Path,
) -> Result<Vec<String>, TrainError> {
    let plan = Plan::read(&options.out.join(CONFIG_FILE))?;
    let data = OpenData::with_images(&options.data, &plan.data.images)?;
    let reason = String::from("there is no checkpoint; has this run been pre-trained?");
    let checkpoint = checkpoint::latest(&options.out.join("checkpoints"))?.ok_or(TrainError::Resume {
        reason,
        path: options.out.clone(),
    })?;
    let (store, tap) = build(&plan, options.device);
    let report = copy_weights(&store, &checkpoint::read_model(&checkpoint)?, "");
    if !report.is_exact() {
        return Err(TrainError::Weights {
            report: report.to_string(),
            path: checkpoint,
        });
    }
    let source: Arc<dyn SampleSource> = Arc::new(data.rows(split)?);
    let rows = rows(source.as_ref(), ids).map_err(|id| TrainError::UnsuitableData {
        reason: format!("split {split} has no object '{id}'"),
        path: options.data.clone(),
    })?;
    let batches = plain_batches(&plan, source, ViewChoice::All, rows.len());
    let host = batches.rows(&rows)?;
    let pictures = no_grad(|| photograph(&tap, &host.to_tensors(options.device), false))
        .expect("all views were asked for");
    write_whole(
        file,
        &compare_rows(&gray_bytes(&pictures), &host).to_png_by(PROGRAM)?,
    )?;
    Ok(host.ids)
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
