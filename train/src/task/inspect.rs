//! Held-out objects as a run draws them: the loss of each, its views beside the true ones, and the cross-attention behind them.
//!
//! Only TAP draws views, alone or in a sum of methods; nothing here is of another method's run.

use std::path::Path;
use std::sync::Arc;

use png::{BitDepth, ColorType};
use tap_dataset::{ObjectId, RowFilter, encode_png_with_text};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor, no_grad};

use super::embedding::numbers;
use super::generate::{draw_all, tap_of};
use super::{DataChoice, OpenData, evaluation_batches, require_finite};
use crate::config::{LossConfig, Plan, Task};
use crate::data::batch::{Batch, ViewBatch};
use crate::data::collator::{Collator, ViewSampling};
use crate::data::source::SampleSource;
use crate::error::TrainError;
use crate::method::Inputs;
use crate::method::tap::{image_bytes, tap_config};
use crate::model::loss::photograph_loss;
use crate::model::{Mode, Tap, TapConfig};
use crate::run::event::OnEvent;
use crate::run::request::Request;
use crate::run::weights::{RunWeights, WeightChoice};
use crate::run::{CONFIG_FILE, is_run};

/// Objects that are drawn at a time, each with all its views.
const MAX_BATCH: usize = 8;

/// A run that draws views, with its newest weights, and the rows that it is evaluated on.
pub struct Inspector {
    /// What the run is.
    pub plan: Plan,
    /// Which weights draw.
    pub selection: String,
    config: TapConfig,
    ids: Vec<ObjectId>,
    num_views: usize,
    batches: Arc<Collator>,
    tap: Tap,
    _store: VarStore,
    device: Device,
}

/// The chosen views of an object, as PNGs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectViews {
    /// As the run draws them.
    pub generated: Vec<Vec<u8>>,
    /// As the data set has them.
    pub truth: Vec<Vec<u8>>,
}

/// The cross-attention of the chosen views of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectAttention {
    /// Its points in object space, as the encoder sees them.
    pub points: Vec<[f32; 3]>,
    /// Of each point the token whose center is nearest.
    pub nearest_token: Vec<u16>,
    /// Tokens, without the pad token.
    pub num_tokens: usize,
    /// Whether there is a pad token, which lies nowhere.
    pub has_pad_token: bool,
    /// Patches along a side of an image.
    pub grid: usize,
    /// One a view.
    pub views: Vec<ViewAttention>,
}

/// The cross-attention of a view.
#[derive(Debug, Clone, PartialEq)]
pub struct ViewAttention {
    /// The rotation of its pose, row-major: rows point right, up and toward the viewer.
    pub view_from_object: [f32; 9],
    /// Of each block, from the first, each patch and each token the mean share over heads: blocks x grid² x tokens, patches
    /// row by row from the top. The pad token, if any, is last.
    pub shares: Vec<Vec<f32>>,
}

impl Inspector {
    /// Opens a run; none where it is no pre-training or of a method that draws no views. The data is `data`, or what the run
    /// says that it was trained on.
    ///
    /// # Errors
    /// Where the data has moved or is other data, it has no views, or the run has no whole weights yet.
    pub fn open(
        run: &Path,
        data: Option<&Path>,
        device: Device,
        on_event: OnEvent<'_>,
    ) -> Result<Option<Self>, TrainError> {
        if !is_run(run) {
            return Ok(None);
        }
        let plan = Plan::read(&run.join(CONFIG_FILE))?;
        if plan.task != Task::Pretrain {
            return Ok(None);
        }
        let Ok(config) = tap_config(&plan) else {
            return Ok(None);
        };
        let noted = Request::read(run)?.and_then(|request| request.data);
        let Some(path) = data.or(noted.as_deref().map(Path::new)) else {
            return Err(TrainError::UnsuitableData {
                reason: String::from("the run does not say where its data lies; name it with --data"),
                path: run.to_owned(),
            });
        };
        let data = OpenData::choose(
            path,
            DataChoice {
                images: &plan.data.images,
                filter: &plan.data.filter,
                leave_out: &plan.data.leave_out,
                ..DataChoice::default()
            },
        )?;
        if data.dataset.sha256() != plan.data_sha256 {
            return Err(TrainError::UnsuitableData {
                reason: String::from("it is not the data that the run was trained on; name that with --data"),
                path: path.to_owned(),
            });
        }
        let views = Inputs {
            views: true,
            ..Inputs::default()
        };
        data.require(views, "drawing views")?;
        let weights = RunWeights::read(run, &plan, &WeightChoice::Latest, on_event)?;
        let (store, tap) = tap_of(&config, &weights, device)?;
        let source: Arc<dyn SampleSource> = Arc::new(data.rows(plan.data.evaluation_split)?);
        // What a finished run offers are the weights of its last step, by the selection that its result names.
        let is_finished = weights.num_steps == plan.phase.num_steps;
        Ok(Some(Self {
            selection: if is_finished {
                plan.selection()
            } else {
                weights.selection
            },
            config,
            ids: source.ids().to_vec(),
            num_views: source.num_views(),
            batches: evaluation_batches(&plan, source, ViewSampling::All, MAX_BATCH),
            tap,
            _store: store,
            device,
            plan,
        }))
    }

    /// Ids of the rows, in their order.
    #[must_use]
    pub fn ids(&self) -> &[ObjectId] {
        &self.ids
    }

    /// Views of an object.
    #[must_use]
    pub fn num_views(&self) -> usize {
        self.num_views
    }

    /// Side of an image.
    #[must_use]
    pub fn image_size_px(&self) -> usize {
        self.config.image_size_px() as usize
    }

    /// Whether the rows are of a split that the run was not trained on.
    #[must_use]
    pub fn is_held_out(&self) -> bool {
        !self
            .plan
            .data
            .train_splits
            .contains(&self.plan.data.evaluation_split)
    }

    /// The loss of each of these rows over all its views, as if the row alone were evaluated: the weighted means over its
    /// foreground and its background.
    ///
    /// # Errors
    /// Where a row cannot be read, or what is drawn is not finite.
    pub fn losses(&self, rows: &[usize]) -> Result<Vec<f64>, TrainError> {
        let mut losses = Vec::with_capacity(rows.len());
        for rows in rows.chunks(MAX_BATCH) {
            let cpu_batch = self.batches.rows(rows)?;
            let batch = cpu_batch.to_tensors(self.device);
            let images = no_grad(|| draw_all(&self.tap, &batch));
            require_finite(&images, &cpu_batch)?;
            losses.extend(object_losses(&images, &batch, &self.plan.loss));
        }
        Ok(losses)
    }

    /// These views of a row, generated and true.
    ///
    /// # Errors
    /// Where the row cannot be read, or what is drawn is not finite.
    pub fn views(&self, row: usize, views: &[usize]) -> Result<ObjectViews, TrainError> {
        let cpu_batch = self.batches.rows(&[row])?;
        let batch = chosen(&cpu_batch.to_tensors(self.device), views);
        let images = no_grad(|| draw_all(&self.tap, &batch));
        require_finite(&images, &cpu_batch)?;
        let truth = &views_of(&batch).images;
        Ok(ObjectViews {
            generated: pngs(&images)?,
            truth: pngs(truth)?,
        })
    }

    /// What the patches of these views of a row attend to; none where no query attends to tokens.
    ///
    /// # Errors
    /// Where the row cannot be read, or the attention is not finite.
    pub fn attention(&self, row: usize, views: &[usize]) -> Result<Option<ObjectAttention>, TrainError> {
        let cpu_batch = self.batches.rows(&[row])?;
        let batch = chosen(&cpu_batch.to_tensors(self.device), views);
        let (tokens, blocks) = no_grad(|| {
            let tokens = self.tap.encoder().tokens(&batch.cloud, Mode::EVAL);
            let ViewBatch {
                view_from_object,
                clip_from_view,
                ..
            } = views_of(&batch);
            let query = self.tap.query();
            let rays = query.rays(&batch.cloud.xyz, view_from_object, clip_from_view);
            let blocks = self.tap.generator().attention(&tokens, &rays);
            (tokens, blocks)
        });
        if blocks.is_empty() {
            return Ok(None);
        }
        for of_block in &blocks {
            require_finite(of_block, &cpu_batch)?;
        }
        let nearest = no_grad(|| nearest_tokens(&batch.cloud.xyz, &tokens.centers));
        let poses = numbers(&views_of(&batch).view_from_object.narrow(2, 0, 3).narrow(3, 0, 3))?;
        let of_view = |(view, pose): (usize, &[f32; 9])| -> Result<ViewAttention, TrainError> {
            let shares = blocks.iter().map(|block| numbers(&block.select(1, view as i64)));
            Ok(ViewAttention {
                view_from_object: *pose,
                shares: shares.collect::<Result<_, _>>()?,
            })
        };
        Ok(Some(ObjectAttention {
            points: numbers(&batch.cloud.xyz)?.as_chunks().0.to_vec(),
            nearest_token: nearest,
            num_tokens: tokens.centers.size()[1] as usize,
            has_pad_token: self.config.photograph.pad_token,
            grid: self.config.photograph.query.grid as usize,
            views: poses
                .as_chunks()
                .0
                .iter()
                .enumerate()
                .map(of_view)
                .collect::<Result<_, _>>()?,
        }))
    }
}

fn views_of(batch: &Batch) -> &ViewBatch {
    batch.views.as_ref().expect("batches of all views have views")
}

/// The same batch with these views alone.
fn chosen(batch: &Batch, views: &[usize]) -> Batch {
    let views: Vec<i64> = views.iter().map(|&view| view as i64).collect();
    let all = views_of(batch);
    let index = Tensor::from_slice(&views).to_device(all.images.device());
    let of = |tensor: &Tensor| tensor.index_select(1, &index);
    Batch {
        views: Some(ViewBatch {
            images: of(&all.images),
            masks: of(&all.masks),
            view_from_object: of(&all.view_from_object),
            clip_from_view: of(&all.clip_from_view),
        }),
        ..batch.micro_batch(0, batch.len())
    }
}

/// # Shapes
/// - `images`: B,V,C,H,W
/// - returns B
fn object_losses(images: &Tensor, batch: &Batch, weights: &LossConfig) -> Vec<f64> {
    let views = views_of(batch);
    let of_object = |object| {
        let of = |tensor: &Tensor| tensor.get(object);
        let loss = photograph_loss(
            &of(images),
            &of(&views.images),
            &of(&views.masks),
            weights.foreground_weight,
            weights.background_weight,
        );
        loss.total.double_value(&[])
    };
    (0..images.size()[0]).map(of_object).collect()
}

/// PNGs of the images of one object, gray or in color.
///
/// # Shapes
/// - `images`: 1,V,C,H,W in 0..1
fn pngs(images: &Tensor) -> Result<Vec<Vec<u8>>, TrainError> {
    let size = images.size();
    let is_color = size[2] == 3;
    let images = if is_color {
        images.shallow_clone()
    } else {
        images.mean_dim(2, true, Kind::Float)
    };
    // Channels last.
    let pixels = image_bytes(&images.squeeze_dim(0).permute([0, 2, 3, 1]));
    let color = if is_color {
        ColorType::Rgb
    } else {
        ColorType::Grayscale
    };
    let size_px = [size[4] as u32, size[3] as u32];
    let encode = |image: &[u8]| {
        let kind = (color, BitDepth::Eight);
        Ok(encode_png_with_text(size_px, kind, RowFilter::Up, image, &[])?)
    };
    pixels
        .chunks_exact(pixels.len() / size[1] as usize)
        .map(encode)
        .collect()
}

/// # Shapes
/// - `points`: 1,N,3; `centers`: 1,M,3
/// - returns N
fn nearest_tokens(points: &Tensor, centers: &Tensor) -> Vec<u16> {
    const WITHOUT_PRODUCTS: i64 = 2;
    let distance = Tensor::cdist(points, centers, 2.0, WITHOUT_PRODUCTS);
    let nearest = distance.argmin(2, false).view(-1).to_device(Device::Cpu);
    let nearest = Vec::<i64>::try_from(nearest).expect("an index for each point");
    let index = |token: i64| u16::try_from(token).expect("tokens are fewer than 65,536");
    nearest.into_iter().map(index).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    const FLOAT: (Kind, Device) = (Kind::Float, Device::Cpu);

    fn batch(images: &Tensor, masks: Tensor) -> Batch {
        let matrices = Tensor::eye(4, FLOAT).expand([2, 1, 4, 4], true);
        Batch {
            views: Some(ViewBatch {
                images: images.shallow_clone(),
                masks,
                view_from_object: matrices.shallow_clone(),
                clip_from_view: matrices,
            }),
            ..Batch::of_points(Tensor::zeros([2, 4, 3], FLOAT), vec![0, 1])
        }
    }

    #[test]
    fn a_loss_is_of_its_object_alone() {
        let truth = Tensor::ones([2, 1, 1, 2, 2], FLOAT);
        let masks = Tensor::from_slice(&[true, false, false, false, false, false, false, false]);
        let drawn = Tensor::from_slice(&[0.5_f32, 1.0, 1.0, 0.7, 1.0, 1.0, 1.0, 0.0]);
        let losses = object_losses(
            &drawn.view([2, 1, 1, 2, 2]),
            &batch(&truth, masks.view([2, 1, 1, 2, 2])),
            &LossConfig::default(),
        );
        // 20 x 0.25 and 0.09 / 3; an object that no pixel shows has a background alone.
        let expected = [5.03, 0.25];
        for (loss, expected) in losses.iter().zip(expected) {
            assert!((loss - expected).abs() < 1e-6, "{losses:?}");
        }
    }

    #[test]
    fn points_belong_to_the_nearest_token() {
        let points = Tensor::from_slice(&[0.0_f32, 0.0, 0.0, 0.9, 0.0, 0.0, 0.0, 0.6, 0.0]).view([1, 3, 3]);
        let centers = Tensor::from_slice(&[1.0_f32, 0.0, 0.0, 0.0, 0.1, 0.0]).view([1, 2, 3]);
        assert_eq!(nearest_tokens(&points, &centers), [1, 0, 1]);
    }

    #[test]
    fn color_stays_and_gray_is_gray() {
        let values: Vec<f32> = (0..12).map(|value| value as f32 / 11.0).collect();
        let images = Tensor::from_slice(&values).view([1, 1, 3, 2, 2]);
        for (images, kind, first) in [
            (images.shallow_clone(), ColorType::Rgb, vec![0, 93, 185]),
            (images.narrow(2, 1, 1), ColorType::Grayscale, vec![93]),
        ] {
            let pngs = pngs(&images).unwrap();
            let mut reader = png::Decoder::new(std::io::Cursor::new(&pngs[0]))
                .read_info()
                .unwrap();
            let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
            let frame = reader.next_frame(&mut pixels).unwrap();
            assert_eq!(frame.color_type, kind);
            assert_eq!(pixels[..first.len()], first);
        }
    }
}
