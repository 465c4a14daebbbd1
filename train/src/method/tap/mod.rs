//! TAP: draw the views of an object from its points (paper: "Take-A-Photo").

pub mod baseline;

use std::collections::BTreeMap;
use std::rc::Rc;

use serde::Deserialize as _;
use tap_cli::settings::merge;
use tch::{Device, Kind, Tensor, nn};
use toml::{Table, Value};

use self::baseline::{BaselineFit, PixelSums};
use super::{Baselines, CpuBatches, Inputs, Method, MethodKind, sum};
use crate::config::{Config, DatasetInfo, LossConfig, MethodPlan, Plan, SUM, TAP, invalid};
use crate::data::batch::{Batch, CpuBatch, num_channels};
use crate::engine::objective::{Loss, Term};
use crate::error::TrainError;
use crate::model::loss::{pixel_counts, pixel_sums};
use crate::model::{
    Compat, DecoderConfig, Encoder, Mode, PhotographConfig, RayDirection, Tap, TapConfig, Vgg,
};
use crate::run::image_grid::ImageGrid;
use crate::scalar::{Scalars, Sums};
use crate::weights::file_kind::FileKind;
use crate::weights::safetensors::read_weights;
use crate::weights::torch_file;

/// Terms of the loss.
const FOREGROUND: &str = "foreground";
const BACKGROUND: &str = "background";
const PERCEPTUAL: &str = "perceptual";

/// TAP, by its name.
#[derive(Debug)]
pub struct TapKind;

impl MethodKind for TapKind {
    fn name(&self) -> &'static str {
        TAP
    }

    fn plan(&self, config: &Config) -> Result<MethodPlan, TrainError> {
        if let Some(key) = config.method.settings.keys().next() {
            return Err(invalid(format!(
                "[method] has no '{key}': the settings of TAP are [photograph], [decoder] and [loss]"
            )));
        }
        if config.loss.perceptual_weight > 0.0 && config.loss.perceptual_network.is_none() {
            return Err(invalid(
                "the perceptual loss needs loss.perceptual_network, a file with torchvision's VGG16 weights",
            ));
        }
        let mut decoder = config.decoder.clone().unwrap_or_else(DecoderConfig::paper);
        if let (true, Some(last)) = (config.data.color, decoder.layers.last_mut()) {
            last.channels = num_channels(true) as i64;
        }
        Ok(MethodPlan::Tap {
            photograph: photograph_config(config)?,
            decoder,
        })
    }

    fn check(&self, plan: &Plan, data: &DatasetInfo) -> Result<(), TrainError> {
        let image_size_px = tap_config(plan)?.image_size_px();
        // Views that are not there have no size: the task refuses them by name.
        if data.num_views > 0 && image_size_px != i64::from(data.image_size_px) {
            return Err(invalid(format!(
                "the generator draws {image_size_px}x{image_size_px} pixels and the data has {0}x{0}; build the data set with that size (64: `tap dataset build --config mini-data`), or take a preset for its size (224: --config paper-transformer or another paper-…), or change [photograph.query] grid and [decoder]",
                data.image_size_px
            )));
        }
        Ok(())
    }

    fn build(&self, vs: &nn::Path<'_>, plan: &Plan) -> Result<Box<dyn Method>, TrainError> {
        Ok(Box::new(TapMethod::new(vs, plan)?))
    }

    fn build_on(
        &self,
        vs: &nn::Path<'_>,
        plan: &Plan,
        encoder: &Rc<dyn Encoder>,
    ) -> Result<Option<Box<dyn Method>>, TrainError> {
        let TapConfig {
            photograph, decoder, ..
        } = tap_config(plan)?;
        let tap = Tap::with_encoder(vs, Box::new(Rc::clone(encoder)), &photograph, &decoder);
        Ok(Some(Box::new(TapMethod::around(
            tap,
            &decoder,
            plan,
            vs.device(),
        )?)))
    }
}

/// The networks of TAP that a plan asks for, alone or in a sum of methods.
///
/// # Errors
/// Where it is a plan of another method.
pub fn tap_config(plan: &Plan) -> Result<TapConfig, TrainError> {
    let (photograph, decoder) = match &plan.method {
        MethodPlan::Tap { photograph, decoder } => (photograph.clone(), decoder.clone()),
        MethodPlan::Other(method) if method.kind == SUM => sum::tap_in(method)?.ok_or_else(|| {
            invalid("the run was pre-trained by a sum of methods without TAP, and no other draws views")
        })?,
        MethodPlan::Other(method) => {
            return Err(invalid(format!(
                "the run was pre-trained by the method '{}', which draws no views",
                method.kind
            )));
        }
    };
    Ok(TapConfig {
        encoder: plan.encoder.clone(),
        photograph,
        decoder,
    })
}

/// TAP with its loss.
#[derive(Debug)]
pub struct TapMethod {
    tap: Tap,
    /// Of the images that it draws.
    num_channels: i64,
    loss: LossConfig,
    vgg: Option<Vgg>,
    /// Whether images of the data set are in color.
    is_color: bool,
}

impl TapMethod {
    /// With fresh weights under `vs`.
    ///
    /// # Errors
    /// Where the plan is of another method, or the perceptual network cannot be read.
    pub fn new(vs: &nn::Path<'_>, plan: &Plan) -> Result<Self, TrainError> {
        let config = tap_config(plan)?;
        Self::around(Tap::new(vs, &config), &config.decoder, plan, vs.device())
    }

    fn around(tap: Tap, decoder: &DecoderConfig, plan: &Plan, device: Device) -> Result<Self, TrainError> {
        Ok(Self {
            tap,
            num_channels: decoder.channels(),
            loss: plan.loss.clone(),
            vgg: perceptual_network(&plan.loss, device)?,
            is_color: plan.data.color,
        })
    }
}

/// Images of the views of a batch, as TAP draws them.
///
/// # Shapes
/// - returns [B, V, C, H, W] in 0..1
///
/// # Panics
/// Where the batch has no views.
pub fn draw_views(tap: &Tap, batch: &Batch, mode: Mode) -> Tensor {
    let views = batch.views.as_ref().expect("batches of TAP have views");
    let query = tap.query();
    let rays = query.rays(&batch.cloud.xyz, &views.view_from_object, &views.clip_from_view);
    tap.photograph(&batch.cloud, &rays, mode)
}

impl Loss for TapMethod {
    fn normalizer(&self, batch: &Batch) -> Sums {
        let views = batch.views.as_ref().expect("batches of TAP have views");
        let [foreground, background] = pixel_counts(&views.masks, self.num_channels);
        Sums::default()
            .with(FOREGROUND, &[foreground])
            .with(BACKGROUND, &[background])
            .with(PERCEPTUAL, &[batch.len() as f64])
    }

    /// Foreground and background are each a mean over the pixels of the whole batch, and not one of image means.
    fn terms(&self, batch: &Batch, mode: Mode) -> Vec<Term> {
        let images = draw_views(&self.tap, batch, mode);
        let views = batch.views.as_ref().expect("batches of TAP have views");
        let config = &self.loss;
        let [foreground, background] =
            pixel_sums(&images, &views.images, &views.masks, config.pixel_distance);
        let mut terms = vec![
            Term::new(FOREGROUND, config.foreground_weight, foreground),
            Term::new(BACKGROUND, config.background_weight, background),
        ];
        if let Some(vgg) = &self.vgg {
            let sum = vgg.distance(&images, &views.images) * batch.len() as f64;
            terms.push(Term::new(PERCEPTUAL, config.perceptual_weight, sum));
        }
        terms
    }
}

impl Method for TapMethod {
    fn inputs(&self) -> Inputs {
        Inputs {
            views: true,
            ..Inputs::default()
        }
    }

    fn baselines(
        &self,
        training: CpuBatches<'_>,
        evaluation: CpuBatches<'_>,
    ) -> Result<Baselines, TrainError> {
        let mut sums: Option<PixelSums> = None;
        for batch in training {
            let batch = batch?;
            let new = || PixelSums::new(batch.num_views, num_channels(self.is_color), batch.size_px);
            sums.get_or_insert_with(new).add(&batch);
        }
        let Some(sums) = sums else {
            return Ok(Baselines::default());
        };
        let losses = BaselineFit::new(&sums, &self.loss).evaluate(evaluation)?;
        let note = format!(
            "{:.4} (loss-optimal image of each view), {:.4} (true mask, mean gray), {:.4} (loss-optimal gray)",
            losses.weighted_mean_image_loss, losses.true_mask_gray_loss, losses.constant_loss
        );
        let scalars = Scalars::default()
            .with("weighted_mean_image_loss", losses.weighted_mean_image_loss)
            .with("constant_loss", losses.constant_loss)
            .with("true_mask_gray_loss", losses.true_mask_gray_loss);
        Ok(Baselines {
            scalars,
            note: Some(note),
        })
    }

    /// Squared errors and pixel counts, so that the loss of a split is that of one batch of everything.
    fn evaluate(&self, batch: &Batch, sums: &mut Sums) {
        let images = draw_views(&self.tap, batch, Mode::EVAL);
        let views = batch.views.as_ref().expect("batches of TAP have views");
        let squared = (&images - &views.images).square();
        let channels = images.size()[2] as f64;
        let covered = views.masks.to_kind(Kind::Float);
        let foreground = (&squared * &covered).sum(Kind::Double).double_value(&[]);
        let num_foreground = covered.sum(Kind::Double).double_value(&[]) * channels;
        let background = squared.sum(Kind::Double).double_value(&[]) - foreground;
        sums.add(FOREGROUND, &[foreground, num_foreground]);
        sums.add(BACKGROUND, &[background, squared.numel() as f64 - num_foreground]);
    }

    fn scalars(&self, sums: &Sums) -> Scalars {
        let [foreground, background] = [FOREGROUND, BACKGROUND].map(|term| sums.mean(term));
        let [errors, counts] = [0, 1].map(|place| sums.at(FOREGROUND, place) + sums.at(BACKGROUND, place));
        let weights = &self.loss;
        Scalars::default()
            .with(
                "loss",
                weights.foreground_weight * foreground + weights.background_weight * background,
            )
            .with("loss_foreground", foreground)
            .with("loss_background", background)
            .with("loss_plain", errors / f64::max(counts, 1.0))
    }

    fn images(&self, cpu_batch: &CpuBatch, batch: &Batch) -> Option<ImageGrid> {
        let images = draw_views(&self.tap, batch, Mode::EVAL);
        Some(comparison_grid(&gray_bytes(&images), cpu_batch))
    }
}

/// Generated images as gray bytes, B x V x H x W.
#[must_use]
pub fn gray_bytes(images: &Tensor) -> Vec<u8> {
    image_bytes(&images.mean_dim(2, false, Kind::Float))
}

/// Values from 0 to 1 as bytes, in the order of the tensor.
pub(crate) fn image_bytes(values: &Tensor) -> Vec<u8> {
    let values = (values * 255.0)
        .round()
        .clamp(0.0, 255.0)
        .to_kind(Kind::Uint8)
        .to_device(Device::Cpu)
        .contiguous();
    let mut bytes = vec![0; values.numel()];
    values.copy_data(&mut bytes, values.numel());
    bytes
}

/// Views of an object in a row of a grid, at most.
const MAX_COLUMNS: usize = 12;

/// A grid with rows of generated views above rows of the true ones, for each object of a batch that holds all views.
#[must_use]
pub fn comparison_grid(generated: &[u8], cpu_batch: &CpuBatch) -> ImageGrid {
    view_grid(&[generated, &cpu_batch.gray_images()], cpu_batch)
}

/// A grid of the views of each object, rows of each of `images` in turn.
///
/// # Shapes
/// - `images`: gray bytes of all views of all objects of the batch, B x V x H x W each
#[must_use]
pub fn view_grid(images: &[&[u8]], cpu_batch: &CpuBatch) -> ImageGrid {
    let image = cpu_batch.size_px * cpu_batch.size_px;
    let of_row = MAX_COLUMNS * image;
    let mut rows = Vec::new();
    for object in 0..cpu_batch.len() {
        let of_object = image * cpu_batch.num_views;
        let views: Vec<&[u8]> = images
            .iter()
            .map(|images| &images[object * of_object..(object + 1) * of_object])
            .collect();
        for start in (0..of_object).step_by(of_row) {
            let end = (start + of_row).min(of_object);
            rows.extend(
                views
                    .iter()
                    .map(|views| views[start..end].chunks_exact(image).collect()),
            );
        }
    }
    ImageGrid::grid(cpu_batch.size_px, &rows)
}

/// A frame for each view, in the rig's order: a column for each object, a row for each of `images`.
///
/// # Shapes
/// - `images`: as for [`view_grid`]
#[must_use]
pub fn view_frames(images: &[&[u8]], cpu_batch: &CpuBatch) -> Vec<ImageGrid> {
    let image = cpu_batch.size_px * cpu_batch.size_px;
    let of_object = image * cpu_batch.num_views;
    let frame = |view: usize| {
        let of_view = |images: &&[u8]| -> Vec<Vec<u8>> {
            let objects = images.chunks_exact(of_object);
            objects
                .map(|views| views[view * image..(view + 1) * image].to_vec())
                .collect()
        };
        let rows: Vec<Vec<Vec<u8>>> = images.iter().map(of_view).collect();
        let rows: Vec<Vec<&[u8]>> = rows
            .iter()
            .map(|row| row.iter().map(Vec::as_slice).collect())
            .collect();
        ImageGrid::grid(cpu_batch.size_px, &rows)
    };
    (0..cpu_batch.num_views).map(frame).collect()
}

/// The network of the perceptual loss, where that has a weight.
fn perceptual_network(loss: &LossConfig, device: Device) -> Result<Option<Vgg>, TrainError> {
    let Some(path) = loss
        .perceptual_network
        .as_ref()
        .filter(|_| loss.perceptual_weight > 0.0)
    else {
        return Ok(None);
    };
    let tensors: BTreeMap<String, Tensor> = match FileKind::of(path)? {
        FileKind::Safetensors => read_weights(path)?,
        _ => torch_file::read(path)?.tensors,
    };
    let vgg = Vgg::try_new(&tensors, device).map_err(|report| TrainError::Weights {
        report,
        path: path.clone(),
    })?;
    Ok(Some(vgg))
}

/// The photograph module that a configuration asks for.
fn photograph_config(config: &Config) -> Result<PhotographConfig, TrainError> {
    let mut table = match config.compat {
        Some(compat) => Table::try_from(PhotographConfig::from_compat(compat))
            .map_err(|error| invalid(error.to_string()))?,
        None => Table::new(),
    };
    merge(&mut table, config.photograph.clone());
    // TOML has no way to take out what a preset holds.
    if table.get("ray_bias") == Some(&Value::Boolean(false)) {
        table.remove("ray_bias");
    }
    let photograph = PhotographConfig::deserialize(table)
        .map_err(|error| invalid(format!("[photograph] {}", error.message())))?;
    if let Some(compat) = config.compat {
        let wanted = PhotographConfig::from_compat(compat);
        let has_other_direction = (photograph.query.direction == RayDirection::Line)
            != (wanted.query.direction == RayDirection::Line);
        // The paper's ablations are the paper's too: without the pad token, with other sizes, with fewer query components.
        let adds_pad_token = photograph.pad_token && !wanted.pad_token;
        let is_extended = photograph.ray_bias.is_some() || photograph.token_keep.is_some();
        if is_extended || adds_pad_token || has_other_direction {
            let name = if compat == Compat::Paper { "paper" } else { "code" };
            return Err(invalid(format!(
                "[photograph] has a ray bias, dropped tokens, a pad token or a ray direction that compat = \"{name}\" has not"
            )));
        }
    }
    if let Some(contradiction) = photograph.contradiction() {
        return Err(invalid(format!("[photograph] {contradiction}")));
    }
    Ok(photograph)
}
