//! Generated views of given objects beside the true ones, as one image and as an animation.
//!
//! The poses are those of the data set that is given, or of views that were made for its rows ([`PosedViews`]), and need not
//! be any that the run was trained on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tap_dataset::{ObjectId, Sample, SampleView, Split, ViewSelection};
use tch::nn::VarStore;
use tch::{Device, Tensor, no_grad};

use super::{OpenData, evaluation_batches, require_finite};
use crate::config::{Plan, Task};
use crate::data::batch::{Batch, ViewBatch};
use crate::data::collator::ViewSampling;
use crate::data::source::{SampleSource, ShardSource};
use crate::engine::trainer::RunOptions;
use crate::error::TrainError;
use crate::method::Inputs;
use crate::method::tap::{draw_views, gray_bytes, tap_config, view_frames, view_grid};
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
    /// Views of the objects in place of those of the data set.
    pub posed: Option<PosedViews>,
}

/// Views of rows of one data set that lie in another one.
#[derive(Debug, Clone)]
pub struct PosedViews {
    /// The rows, without views.
    pub rows: Vec<Sample>,
    /// The data set with the views.
    pub views: PathBuf,
    /// Its split.
    pub split: Split,
    /// What each row is called in it.
    pub ids: Vec<ObjectId>,
    /// What its rows are.
    pub subject: ViewSubject,
}

/// What views of rows show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ViewSubject {
    /// The meshes of the rows: these are true views.
    Mesh,
    /// Stand-ins for their points, which are there for the poses alone, in an object space of their own. Where all objects
    /// have the same frame (`docs/conventions.md`, "Framing"), that frame is meant; otherwise the one around the points.
    Points {
        /// Whether they have.
        has_common_frame: bool,
    },
}

/// The rows with these ids, or the first of each class where there are none, without views.
///
/// # Errors
/// Where an id is unknown, or the data cannot be read.
pub fn rows_to_draw(data: &Path, split: Split, ids: &[String]) -> Result<Vec<Sample>, TrainError> {
    let source = OpenData::open(data)?.rows(split)?;
    let rows = rows(&source, ids).map_err(|id| no_object(split, &id, data))?;
    rows.into_iter()
        .map(|row| source.read(row, ViewSelection::None))
        .collect()
}

fn no_object(split: Split, id: &str, data: &Path) -> TrainError {
    TrainError::UnsuitableData {
        reason: format!("split {split} has no object '{id}'"),
        path: data.to_owned(),
    }
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
    let weights = RunWeights::read(&options.out, &plan, &wanted.weights, on_event)?;
    if weights.num_steps < plan.phase.num_steps {
        on_event(TrainEvent::Note(format!("drawn with the {}", weights.selection)));
    }
    let data = match &wanted.posed {
        Some(posed) => OpenData::open(&posed.views)?,
        None => OpenData::with_images(&options.data, wanted.images.as_ref().unwrap_or(&plan.data.images))?,
    };
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
    let (source, rows) = source(wanted, &data, &options.data)?;
    let batches = evaluation_batches(&plan, source, ViewSampling::All, rows.len());
    let cpu_batch = batches.rows(&rows)?;
    let images = no_grad(|| draw_all(&tap, &cpu_batch.to_tensors(options.device)));
    require_finite(&images, &cpu_batch)?;
    let (generated, truth) = (gray_bytes(&images), cpu_batch.gray_images());
    let shows_truth = wanted
        .posed
        .as_ref()
        .is_none_or(|posed| posed.subject == ViewSubject::Mesh);
    let images: Vec<&[u8]> = if shows_truth {
        vec![&generated, &truth]
    } else {
        vec![&generated]
    };
    let sheet = view_grid(&images, &cpu_batch).to_png_by(PROGRAM)?;
    write_atomic(&drawings.sheet, &sheet)?;
    if let Some((file, views_per_s)) = &drawings.animation {
        let frames = view_frames(&images, &cpu_batch);
        write_atomic(file, &ImageGrid::animate(&frames, *views_per_s, PROGRAM)?)?;
    }
    Ok(cpu_batch.ids.clone())
}

/// The objects that are drawn, and their rows. `path` is where they are from.
fn source(
    wanted: &Wanted,
    data: &OpenData,
    path: &Path,
) -> Result<(Arc<dyn SampleSource>, Vec<usize>), TrainError> {
    if let Some(posed) = &wanted.posed {
        let source = PosedSource::new(posed, data.rows(posed.split)?, path)?;
        return Ok((Arc::new(source), (0..posed.rows.len()).collect()));
    }
    let source = data.rows(wanted.split)?;
    let rows = rows(&source, &wanted.ids).map_err(|id| no_object(wanted.split, &id, path))?;
    Ok((Arc::new(source), rows))
}

/// Rows with the views that were made for them.
struct PosedSource {
    rows: Vec<Sample>,
    ids: Vec<ObjectId>,
    labels: Vec<i64>,
    views: ShardSource,
    /// The row of the views of each row.
    view_rows: Vec<usize>,
    subject: ViewSubject,
}

impl PosedSource {
    /// `data` is where the rows are from, for error messages.
    fn new(posed: &PosedViews, views: ShardSource, data: &Path) -> Result<Self, TrainError> {
        let unsuitable = |reason: String| TrainError::UnsuitableData {
            reason,
            path: data.to_owned(),
        };
        let mut view_rows = Vec::new();
        for (row, id) in posed.rows.iter().zip(&posed.ids) {
            let view_row = views.ids().iter().position(|other| other == id);
            let view_row =
                view_row.ok_or_else(|| unsuitable(format!("no views can be drawn of '{}'", row.id)))?;
            if posed.subject == ViewSubject::Mesh
                && views.read(view_row, ViewSelection::None)?.source_sha256 != row.source_sha256
            {
                return Err(unsuitable(format!(
                    "the mesh of '{}' is another one than the row was made from",
                    row.id
                )));
            }
            view_rows.push(view_row);
        }
        Ok(Self {
            rows: posed.rows.clone(),
            ids: posed.rows.iter().map(|row| row.id.clone()).collect(),
            labels: posed.rows.iter().map(|row| row.label).collect(),
            views,
            view_rows,
            subject: posed.subject,
        })
    }
}

impl SampleSource for PosedSource {
    fn ids(&self) -> &[ObjectId] {
        &self.ids
    }

    fn labels(&self) -> &[i64] {
        &self.labels
    }

    fn num_views(&self) -> usize {
        self.views.num_views()
    }

    fn image_size_px(&self) -> u32 {
        self.views.image_size_px()
    }

    fn read(&self, row: usize, views: ViewSelection<'_>) -> Result<Sample, TrainError> {
        let viewed = self.views.read(self.view_rows[row], views)?;
        let is_other_space = self.subject
            == ViewSubject::Points {
                has_common_frame: false,
            };
        let of_row = |view: SampleView| {
            if is_other_space {
                in_space_of_mesh(view, &viewed.object_from_mesh)
            } else {
                view
            }
        };
        Ok(Sample {
            views: viewed.views.into_iter().map(of_row).collect(),
            ..self.rows[row].clone()
        })
    }
}

/// A view as it is of the mesh and not of the object, which is the mesh, scaled and moved. The transform of the view stays
/// rigid: the scale becomes part of the projection.
fn in_space_of_mesh(view: SampleView, object_from_mesh: &[f32; 16]) -> SampleView {
    let scale = object_from_mesh[0];
    let offset = [3, 7, 11].map(|place| object_from_mesh[place]);
    let (mut view_from_mesh, mut clip_from_view) = (view.view_from_object, view.clip_from_view);
    for row in view_from_mesh.chunks_exact_mut(4).take(3) {
        let turned: f32 = row.iter().zip(offset).map(|(entry, offset)| entry * offset).sum();
        row[3] = (turned + row[3]) / scale;
    }
    for row in clip_from_view.chunks_exact_mut(4) {
        row[..3].iter_mut().for_each(|entry| *entry *= scale);
    }
    SampleView {
        view_from_object: view_from_mesh,
        clip_from_view,
        ..view
    }
}

/// TAP with the weights of a run; what other methods of a sum have beside it stays where it is.
pub(super) fn tap_of(
    config: &TapConfig,
    weights: &RunWeights,
    device: Device,
) -> Result<(VarStore, Tap), TrainError> {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use tap_dataset::Mask1Bit;

    use super::*;

    /// Rows times a column.
    fn apply(matrix: &[f32; 16], point: [f32; 4]) -> [f32; 4] {
        let row = |row: usize| (0..4).map(|i| matrix[4 * row + i] * point[i]).sum();
        [0, 1, 2, 3].map(row)
    }

    #[test]
    fn a_point_of_the_mesh_stays_where_it_is_in_the_image() {
        // A quarter turn about z with an offset, a projection with an offset, and an object twice the mesh's size.
        let view = SampleView {
            image_png: Vec::new(),
            mask: Mask1Bit::from_covered(1, &[true]),
            view_from_object: [
                0.0, -1.0, 0.0, 0.5, 1.0, 0.0, 0.0, -0.25, 0.0, 0.0, 1.0, -3.0, 0.0, 0.0, 0.0, 1.0,
            ],
            clip_from_view: [
                0.9, 0.0, 0.1, 0.2, 0.0, 0.8, 0.0, -0.1, 0.0, 0.0, -0.3, 0.4, 0.0, 0.0, -1.0, 0.0,
            ],
            gbuffer: None,
        };
        let object_from_mesh = [
            2.0, 0.0, 0.0, 0.3, 0.0, 2.0, 0.0, -0.1, 0.0, 0.0, 2.0, 0.7, 0.0, 0.0, 0.0, 1.0,
        ];
        let point = [0.4, -0.2, 0.6, 1.0];
        let through =
            |view: &SampleView, point| apply(&view.clip_from_view, apply(&view.view_from_object, point));
        let expected = through(&view, apply(&object_from_mesh, point));
        let of_mesh = in_space_of_mesh(view, &object_from_mesh);
        let got = through(&of_mesh, point);
        for (got, expected) in got.iter().zip(expected) {
            assert!((got - expected).abs() < 1e-5, "{got} is not {expected}");
        }
        let column = |i: usize| [0, 1, 2].map(|row| of_mesh.view_from_object[4 * row + i]);
        let norm: f32 = column(1).iter().map(|entry| entry * entry).sum();
        assert!((norm - 1.0).abs() < 1e-6, "the view is rigid");
    }
}
