//! Features of a frozen 2D network, computed once for every view of a data set and kept beside its rows
//! (`docs/training.md`, "Features of a 2D network").
//!
//! Rows are read and their pictures decoded on a thread of their own, some batches ahead; a batch is of whole rows. A file of
//! the feature set is finished with each shard, so that a run that is stopped goes on behind the last one.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use rayon::prelude::*;
use serde::Serialize;
use tap_dataset::{
    ColumnSet, Dataset, FeatureImages, FeatureLayout, FeatureRecipe, FeatureSetWriter, FeatureViews,
    Manifest, MissingShard, ObjectId, RowFeatures, ViewSelection, decode_rgb_planes, feature_set_dir,
    image_set_dir,
};
use tch::{Device, Kind, Tensor};

use crate::error::TrainError;
use crate::model::image::{
    ImageEncoder, ImageEncoderOptions, ImageFeatures, Naming, Normalization, Recognized,
};
use crate::ops::{NUM_DEPTH_VIEWS, depth_images};
use crate::weights::image_encoder::load_image_encoder;
use crate::weights::safetensors::file_sha256;

/// Width and height that views are resized to, unless another is given or the patches do not fit.
pub const DEFAULT_SIZE_PX: i64 = 224;
/// Batches that are decoded ahead.
const BATCHES_AHEAD: usize = 2;
const COLOR_CHANNELS: i64 = 3;

/// What to compute, and where.
#[derive(Debug, Clone)]
pub struct FeatureOptions {
    /// The data set.
    pub data: PathBuf,
    /// The file of the network's weights.
    pub model: PathBuf,
    /// Name of the feature set.
    pub name: String,
    /// What the network is shown.
    pub views: FeatureViews,
    /// An image set to take the views from; `None`: the data set's own images.
    pub images: Option<String>,
    /// Width and height that views are resized to, in pixels; `None`: [`DEFAULT_SIZE_PX`], or the multiple of a patch nearest
    /// to it.
    pub size_px: Option<i64>,
    /// What the weights leave open.
    pub encoder: ImageEncoderOptions,
    /// Views that go through the network together, at most; but a row's views stay together.
    pub batch_size: usize,
    /// Where the network computes.
    pub device: Device,
    /// Replace another feature set of this name.
    pub force: bool,
}

/// Progress of [`compute_features`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum FeatureEvent {
    /// The network was recognized.
    Recognized {
        /// "CLIP ViT-B/16".
        network: String,
        /// Tensors that it is made of.
        num_tensors: usize,
        /// Whose names they have.
        naming: Naming,
        /// How their names begin.
        prefix: String,
        /// Other prefixes under which networks lie.
        other_prefixes: Vec<String>,
        /// Tensors under the prefix without use.
        unused: Vec<String>,
        /// Number of tensors elsewhere in the file.
        num_elsewhere: usize,
    },
    /// The first row is read next.
    Started {
        /// Rows of the data set.
        num_rows: usize,
        /// Rows that an earlier run has finished.
        num_finished: usize,
        /// Sizes of a row.
        layout: FeatureLayout,
        /// Bytes of all rows.
        num_bytes: u64,
    },
    /// Rows are done.
    Rows {
        /// Number of further rows.
        num_rows: usize,
    },
}

/// Outcome of [`compute_features`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FeatureReport {
    /// "CLIP ViT-B/16".
    pub network: String,
    /// Rows of the feature set.
    pub num_rows: usize,
    /// Sizes of a row.
    pub layout: FeatureLayout,
    /// Bytes of all files.
    pub bytes: u64,
    /// Hash of the data.
    pub sha256: String,
    /// Rows that this run computed.
    pub num_computed: usize,
    /// Seconds from the first row to the last.
    pub elapsed_s: f64,
    /// Views a second.
    pub views_per_s: f64,
    /// The folder.
    pub path: PathBuf,
}

/// Computes the features of every row and writes them as a feature set; `None` if cancelled. The same call resumes.
///
/// # Errors
/// Where the weights are of no known network, the data set has no views though they are wanted, there is another feature set of
/// this name, a number does not fit float16, or the disk is full.
pub fn compute_features(
    options: &FeatureOptions,
    cancel: &AtomicBool,
    on_event: &mut dyn FnMut(FeatureEvent),
) -> Result<Option<FeatureReport>, TrainError> {
    let dataset = open_dataset(options)?;
    let Recognized {
        encoder,
        naming,
        prefix,
        other_prefixes,
        num_tensors,
        unused,
        num_elsewhere,
    } = load_image_encoder(&options.model, options.encoder, options.device)?;
    let encoder = &*encoder;
    on_event(FeatureEvent::Recognized {
        network: encoder.name().to_owned(),
        num_tensors,
        naming,
        prefix,
        other_prefixes,
        unused,
        num_elsewhere,
    });
    let size_px = size_px(options.size_px, encoder)?;
    let grid = (size_px / encoder.patch_px()) as usize;
    let layout = FeatureLayout {
        num_views: num_views(&dataset, options.views),
        height: grid,
        width: grid,
        num_channels: encoder.num_channels() as usize,
    };
    let normalization = normalization(options.views, encoder);
    let recipe = recipe(options, encoder, normalization, size_px)?;
    let mut writer = FeatureSetWriter::open(&dataset, &options.name, recipe, layout, options.force)?;
    let missing = writer.missing_shards();
    let num_rows: usize = dataset.manifest().shards.iter().map(|shard| shard.rows).sum();
    let num_missing: usize = missing.iter().map(|shard| shard.num_rows).sum();
    let row_bytes = layout.num_views * (layout.view_bytes() + layout.saliency_bytes());
    on_event(FeatureEvent::Started {
        num_rows,
        num_finished: num_rows - num_missing,
        layout,
        num_bytes: (row_bytes * num_rows) as u64,
    });
    let start = Instant::now();
    let network = Network {
        encoder,
        normalization,
        size_px,
        layout,
        batch_size: options.batch_size.max(1),
        device: options.device,
    };
    for shard in missing {
        let is_complete = compute_shard(
            &network,
            &dataset,
            options.views,
            shard,
            &mut writer,
            cancel,
            on_event,
        )?;
        if !is_complete {
            return Ok(None);
        }
    }
    let manifest = writer.finish()?;
    let elapsed_s = start.elapsed().as_secs_f64();
    Ok(Some(FeatureReport {
        network: encoder.name().to_owned(),
        num_rows,
        layout,
        bytes: manifest.shards.iter().map(|shard| shard.bytes).sum(),
        sha256: manifest.sha256.unwrap_or_default(),
        num_computed: num_missing,
        elapsed_s,
        views_per_s: (num_missing * layout.num_views) as f64 / elapsed_s.max(f64::EPSILON),
        path: feature_set_dir(&options.data, &options.name)?,
    }))
}

/// The data set, with views where they are wanted.
fn open_dataset(options: &FeatureOptions) -> Result<Dataset, TrainError> {
    let dataset = Dataset::open(&options.data)?;
    if options.views == FeatureViews::Images && !dataset.columns().has(ColumnSet::Views) {
        return Err(TrainError::UnsuitableData {
            reason: String::from("the data set has no views; build it with views, or pass --views depth"),
            path: options.data.clone(),
        });
    }
    Ok(match &options.images {
        Some(name) => dataset.with_images(name)?,
        None => dataset,
    })
}

fn num_views(dataset: &Dataset, views: FeatureViews) -> usize {
    match views {
        FeatureViews::Images => dataset.num_views(),
        FeatureViews::Depth => NUM_DEPTH_VIEWS,
    }
}

/// Parity: I2P-MAE normalizes its depth maps as photographs of ImageNet, for CLIP too.
fn normalization(views: FeatureViews, encoder: &dyn ImageEncoder) -> Normalization {
    match views {
        FeatureViews::Images => encoder.normalization(),
        FeatureViews::Depth => Normalization::IMAGENET,
    }
}

/// A whole number of patches.
fn size_px(asked: Option<i64>, encoder: &dyn ImageEncoder) -> Result<i64, TrainError> {
    let patch_px = encoder.patch_px();
    match asked {
        Some(size_px) if size_px < patch_px || size_px % patch_px != 0 => Err(TrainError::Config {
            reason: format!(
                "--size {size_px} is no multiple of {}'s patch of {patch_px} px",
                encoder.name()
            ),
        }),
        Some(size_px) => Ok(size_px),
        None => Ok(((DEFAULT_SIZE_PX + patch_px / 2) / patch_px).max(1) * patch_px),
    }
}

fn recipe(
    options: &FeatureOptions,
    encoder: &dyn ImageEncoder,
    normalization: Normalization,
    size_px: i64,
) -> Result<FeatureRecipe, TrainError> {
    let images = options.images.as_ref().map(|name| -> Result<_, TrainError> {
        let set = Manifest::read(&image_set_dir(&options.data, name)?)?;
        Ok(FeatureImages {
            name: name.clone(),
            sha256: set.sha256.unwrap_or_default(),
        })
    });
    Ok(FeatureRecipe {
        network: encoder.name().to_owned(),
        network_sha256: file_sha256(&options.model)?,
        layer: options.encoder.layer,
        activation: options
            .encoder
            .activation
            .map(|activation| activation.to_string()),
        mean: normalization.mean,
        deviation: normalization.deviation,
        views: options.views,
        images: images.transpose()?,
        image_size_px: size_px as u32,
    })
}

/// Computes and writes one shard; `false` if cancelled before its end.
fn compute_shard(
    network: &Network<'_>,
    dataset: &Dataset,
    views: FeatureViews,
    shard: MissingShard,
    writer: &mut FeatureSetWriter,
    cancel: &AtomicBool,
    on_event: &mut dyn FnMut(FeatureEvent),
) -> Result<bool, TrainError> {
    let rows_per_batch = (network.batch_size / network.layout.num_views).max(1);
    let (sender, batches) = crossbeam_channel::bounded(BATCHES_AHEAD);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let end = shard.first_row + shard.num_rows;
            for first in (shard.first_row..end).step_by(rows_per_batch) {
                let rows = first..(first + rows_per_batch).min(end);
                let batch: Result<Vec<Input>, TrainError> = rows
                    .into_par_iter()
                    .map(|row| Input::read(dataset, views, shard, row))
                    .collect();
                // The other side stops listening when it fails or is cancelled.
                if sender.send(batch).is_err() {
                    return;
                }
            }
        });
        for batch in batches {
            let batch = batch?;
            if cancel.load(Ordering::Relaxed) {
                return Ok(false);
            }
            for row in network.features(&batch) {
                writer.append(shard, &row)?;
            }
            on_event(FeatureEvent::Rows {
                num_rows: batch.len(),
            });
        }
        if cancel.load(Ordering::Relaxed) {
            return Ok(false);
        }
        writer.finish_shard(shard)?;
        Ok(true)
    })
}

/// What the network is shown of a row.
struct Input {
    id: ObjectId,
    pixels: Pixels,
}

enum Pixels {
    /// V,3,S,S bytes and S.
    Images(Vec<u8>, i64),
    /// N points.
    Points(Vec<[f32; 3]>),
}

impl Input {
    fn read(
        dataset: &Dataset,
        views: FeatureViews,
        shard: MissingShard,
        row: usize,
    ) -> Result<Self, TrainError> {
        let selection = match views {
            FeatureViews::Images => ViewSelection::All,
            FeatureViews::Depth => ViewSelection::None,
        };
        let sample = dataset.read(shard.split, row, selection)?;
        let pixels = match views {
            FeatureViews::Depth => Pixels::Points(sample.points),
            FeatureViews::Images => {
                let size_px = i64::from(dataset.image_size_px());
                let expected = (COLOR_CHANNELS * size_px * size_px) as usize;
                let mut pixels = Vec::with_capacity(expected * sample.views.len());
                for (view, number) in sample.views.iter().zip(1..) {
                    let planes = decode_rgb_planes(&view.image_png)?;
                    if planes.len() != expected {
                        return Err(TrainError::UnsuitableData {
                            reason: format!(
                                "view {number} of {} has not {size_px}x{size_px} pixels",
                                sample.id
                            ),
                            path: dataset.dir().to_owned(),
                        });
                    }
                    pixels.extend_from_slice(&planes);
                }
                Pixels::Images(pixels, size_px)
            }
        };
        Ok(Self {
            id: sample.id,
            pixels,
        })
    }
}

/// A network and the sizes that it is used with.
struct Network<'a> {
    encoder: &'a dyn ImageEncoder,
    normalization: Normalization,
    size_px: i64,
    layout: FeatureLayout,
    batch_size: usize,
    device: Device,
}

impl Network<'_> {
    fn features(&self, batch: &[Input]) -> Vec<RowFeatures> {
        let _no_grad = tch::no_grad_guard();
        let pixels: Vec<Tensor> = batch.iter().map(|input| self.pixels(&input.pixels)).collect();
        let pixels = Tensor::cat(&pixels, 0);
        // A row may have more views than a batch.
        let parts = pixels.split(self.batch_size as i64, 0);
        let (mut features, mut saliency) = (Vec::new(), Vec::new());
        for part in parts {
            let ImageFeatures {
                features: of_part,
                saliency: saliency_of_part,
            } = self.encoder.encode(&self.normalization.apply(&part));
            features.extend(half_bytes(&of_part.permute([0, 2, 3, 1])));
            saliency.extend(half_bytes(&saliency_of_part));
        }
        let num_views = self.layout.num_views;
        let features = features.chunks_exact(num_views * self.layout.view_bytes());
        let saliency = saliency.chunks_exact(num_views * self.layout.saliency_bytes());
        let rows = batch.iter().zip(features.zip(saliency));
        rows.map(|(input, (features, saliency))| RowFeatures {
            id: input.id.clone(),
            features: features.to_vec(),
            saliency: saliency.to_vec(),
        })
        .collect()
    }

    /// # Shapes
    /// - returns V,3,S,S in 0 to 1
    fn pixels(&self, pixels: &Pixels) -> Tensor {
        match pixels {
            Pixels::Images(bytes, size_px) => {
                let size = [-1, COLOR_CHANNELS, *size_px, *size_px];
                let pixels = Tensor::from_slice(bytes).view(size).to_device(self.device);
                resize(&(pixels.to_kind(Kind::Float) / 255.0), self.size_px)
            }
            Pixels::Points(points) => {
                let points = Tensor::from_slice(points.as_flattened()).view([1, -1, 3]);
                let images = depth_images(&points).to_device(self.device).transpose(0, 1);
                resize(&images, self.size_px).expand([-1, COLOR_CHANNELS, -1, -1], false)
            }
        }
    }
}

/// Bicubic with a low-pass filter, as the networks were trained with.
fn resize(pixels: &Tensor, size_px: i64) -> Tensor {
    if pixels.size()[2..] == [size_px; 2] {
        return pixels.shallow_clone();
    }
    pixels
        .internal_upsample_bicubic2d_aa([size_px; 2], false, None, None)
        .clamp(0.0, 1.0)
}

/// The numbers as float16, little-endian, in the order of the axes.
fn half_bytes(tensor: &Tensor) -> Vec<u8> {
    let half = tensor.contiguous().to_kind(Kind::Half).to_device(Device::Cpu);
    let mut bytes = vec![0; half.numel() * 2];
    half.copy_data_u8(&mut bytes, half.numel());
    bytes
}
