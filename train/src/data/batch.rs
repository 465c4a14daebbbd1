//! A batch: first in main memory, made by the loader's threads, then tensors on the training device.

use std::borrow::Cow;

use tap_dataset::FeatureLayout;
use tch::{Device, Kind, Tensor};

use crate::model::Cloud;
use crate::ops;

/// A batch in main memory. Images stay bytes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CpuBatch {
    /// 0-based step.
    pub step: u64,
    /// 0-based epoch of its first sample.
    pub epoch: u64,
    /// Sample ids, B.
    pub ids: Vec<String>,
    /// A random number of each sample, B: a function of (seed, epoch, id), from which a method can draw.
    pub sample_seeds: Vec<u64>,
    /// Class labels, B.
    pub labels: Vec<i64>,
    /// Number of points of a cloud, N.
    pub num_points: usize,
    /// B x N x 3, after augmentation.
    pub points: Vec<f32>,
    /// B x N, height above the lowest point.
    pub heights: Vec<f32>,
    /// B x N x 3 unit normals, if requested; else empty.
    pub normals: Vec<f32>,
    /// B x N part labels, if requested; else empty.
    pub part_labels: Vec<i64>,
    /// V, the number of views drawn per sample.
    pub num_views: usize,
    /// Side of an image, H = W.
    pub size_px: usize,
    /// Index of each view in the rig, B x V.
    pub view_indices: Vec<i64>,
    /// RGB images instead of gray ones.
    pub is_color: bool,
    /// B x V x C x H x W.
    pub images: Vec<u8>,
    /// B x V x H x W, 1 where the object covers the pixel.
    pub masks: Vec<u8>,
    /// B x V x 16, row-major.
    pub view_from_object: Vec<f32>,
    /// B x V x 16, row-major.
    pub clip_from_view: Vec<f32>,
    /// What a frozen 2D network says of images of the objects, if requested.
    pub features: Option<CpuImageFeatures>,
}

/// The micro-batches of a step that one rank takes, in main memory, and what all ranks know of the batch.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MicroBatches {
    /// 0-based epoch of the batch's first sample.
    pub epoch: u64,
    /// Samples of the whole batch.
    pub num_samples: usize,
    /// Views drawn per sample.
    pub num_views: usize,
    /// Micro-batches of the whole batch.
    pub count: usize,
    /// Those that this rank takes, each with its number; none where the batch has fewer than there are ranks.
    pub own: Vec<(usize, CpuBatch)>,
}

/// What a frozen 2D network says of images of the objects of a batch, in main memory.
#[derive(Debug, Clone, PartialEq)]
pub struct CpuImageFeatures {
    /// V, h, w and C.
    pub layout: FeatureLayout,
    /// B x V x h x w x C, float16, little-endian.
    pub maps: Vec<u8>,
    /// B x V x h x w, float16, little-endian.
    pub saliency: Vec<u8>,
    /// B x V x N x 2, where the points lie before any augmentation.
    pub positions: Vec<f32>,
    /// B x V x N, 1 where a view sees the point; empty where it does not count.
    pub visible: Vec<u8>,
}

impl CpuImageFeatures {
    fn to_tensors(&self, batch: i64, points: i64, device: Device) -> ImageFeatureBatch {
        let FeatureLayout {
            num_views,
            height,
            width,
            num_channels,
        } = self.layout;
        let [views, height, width, channels] = [num_views, height, width, num_channels].map(|n| n as i64);
        let halves =
            |bytes: &[u8], size: &[i64]| Tensor::from_data_size(bytes, size, Kind::Half).to_device(device);
        ImageFeatureBatch {
            maps: halves(&self.maps, &[batch, views, height, width, channels]),
            saliency: halves(&self.saliency, &[batch, views, height, width]),
            positions: Tensor::from_slice(&self.positions)
                .view([batch, views, points, 2])
                .to_device(device),
            visible: (!self.visible.is_empty()).then(|| {
                let visible = Tensor::from_slice(&self.visible).view([batch, views, points]);
                visible.to_device(device).to_kind(Kind::Bool)
            }),
        }
    }
}

/// Channels of an image: 1 for gray, 3 for color.
#[must_use]
pub fn num_channels(is_color: bool) -> usize {
    if is_color { 3 } else { 1 }
}

/// A batch as tensors on the training device.
#[derive(Debug)]
pub struct Batch {
    /// Point clouds.
    pub cloud: Cloud,
    /// A random number of each sample, B: a function of (seed, epoch, id), from which a method can draw.
    pub sample_seeds: Vec<u64>,
    /// B, int64.
    pub labels: Tensor,
    /// The views, where any were drawn.
    pub views: Option<ViewBatch>,
    /// Unit normals of the points, if requested, [B, N, 3].
    pub normals: Option<Tensor>,
    /// Part labels of the points, if requested, [B, N], int64.
    pub part_labels: Option<Tensor>,
    /// What a frozen 2D network says of images of the objects, if requested.
    pub features: Option<ImageFeatureBatch>,
}

/// What a frozen 2D network says of images of the objects of a batch, and where their points lie in those images.
#[derive(Debug)]
pub struct ImageFeatureBatch {
    /// Features of patches, [B, V, h, w, C].
    pub maps: Tensor,
    /// Saliency of patches, [B, V, h, w].
    pub saliency: Tensor,
    /// Rows and columns of the points of the cloud as parts of an image's height and width, [B, V, N, 2].
    pub positions: Tensor,
    /// Whether a view sees the point, [B, V, N]; all of them if absent.
    pub visible: Option<Tensor>,
}

impl ImageFeatureBatch {
    fn micro_batch(&self, of: impl Fn(&Tensor) -> Tensor) -> Self {
        Self {
            maps: of(&self.maps),
            saliency: of(&self.saliency),
            positions: of(&self.positions),
            visible: self.visible.as_ref().map(of),
        }
    }

    /// Features at some points of the clouds, all views of a point one after the other.
    ///
    /// # Shapes
    /// - `points`: B,M indices of points
    /// - returns B,M,V,C in `f32`
    pub fn at(&self, points: &Tensor) -> Tensor {
        sampled(&self.maps, &self.positions_of(points)).transpose(1, 2)
    }

    /// The mean saliency over the views at some points of the clouds.
    ///
    /// # Shapes
    /// - `points`: B,M indices of points
    /// - returns B,M in `f32`
    pub fn saliency_at(&self, points: &Tensor) -> Tensor {
        let of_views = sampled(&self.saliency.unsqueeze(4), &self.positions_of(points)).squeeze_dim(3);
        let Some(seen) = self.seen(points) else {
            return of_views.mean_dim(1, false, Kind::Float);
        };
        let seen = seen.transpose(1, 2).to_kind(Kind::Float);
        // No view says anything about a point that none sees.
        let num_seen = seen.sum_dim_intlist(1, false, Kind::Float).clamp_min(1.0);
        (of_views * seen).sum_dim_intlist(1, false, Kind::Float) / num_seen
    }

    /// Which views see some points of the clouds; all of them if absent.
    ///
    /// # Shapes
    /// - `points`: B,M indices of points
    /// - returns B,M,V
    #[must_use]
    pub fn seen(&self, points: &Tensor) -> Option<Tensor> {
        let visible = self.visible.as_ref()?;
        let num_views = visible.size()[1];
        let index = points.unsqueeze(1).expand([-1, num_views, -1], false);
        Some(visible.gather(2, &index, false).transpose(1, 2))
    }

    fn positions_of(&self, points: &Tensor) -> Tensor {
        let index = points.unsqueeze(1).unsqueeze(3);
        let index = index.expand([-1, self.positions.size()[1], -1, 2], false);
        self.positions.gather(2, &index, false)
    }
}

fn sampled(maps: &Tensor, positions: &Tensor) -> Tensor {
    ops::sample_bicubic(&maps.to_kind(Kind::Float), positions)
}

/// The views of a batch as tensors.
#[derive(Debug)]
pub struct ViewBatch {
    /// Gray or color in 0..1, [B, V, C, H, W].
    pub images: Tensor,
    /// True where the object covers the pixel, [B, V, 1, H, W].
    pub masks: Tensor,
    /// [B, V, 4, 4].
    pub view_from_object: Tensor,
    /// [B, V, 4, 4].
    pub clip_from_view: Tensor,
}

impl Batch {
    /// Clouds of points alone, of the first class.
    #[cfg(test)]
    pub(crate) fn of_points(xyz: Tensor, sample_seeds: Vec<u64>) -> Self {
        Self {
            labels: Tensor::zeros([sample_seeds.len() as i64], (Kind::Int64, xyz.device())),
            cloud: Cloud {
                features: xyz.transpose(1, 2),
                xyz,
            },
            sample_seeds,
            views: None,
            normals: None,
            part_labels: None,
            features: None,
        }
    }

    /// Number of samples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.labels.size()[0] as usize
    }

    /// Whether it has no samples.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A micro-batch: `length` samples from `start` on, as views.
    #[must_use]
    pub fn micro_batch(&self, start: usize, length: usize) -> Self {
        let of = |tensor: &Tensor| tensor.narrow(0, start as i64, length as i64);
        Self {
            cloud: Cloud {
                xyz: of(&self.cloud.xyz),
                features: of(&self.cloud.features),
            },
            sample_seeds: self.sample_seeds[start..start + length].to_vec(),
            labels: of(&self.labels),
            views: self.views.as_ref().map(|views| ViewBatch {
                images: of(&views.images),
                masks: of(&views.masks),
                view_from_object: of(&views.view_from_object),
                clip_from_view: of(&views.clip_from_view),
            }),
            normals: self.normals.as_ref().map(of),
            part_labels: self.part_labels.as_ref().map(of),
            features: self.features.as_ref().map(|features| features.micro_batch(of)),
        }
    }
}

impl CpuBatch {
    /// Number of samples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether it has no samples.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The images in gray, B x V x H x W: the mean of their channels.
    #[must_use]
    pub fn gray_images(&self) -> Cow<'_, [u8]> {
        if !self.is_color {
            return Cow::Borrowed(&self.images);
        }
        let num_pixels = self.size_px * self.size_px;
        let gray = |image: &[u8]| -> Vec<u8> {
            let channel = |c: usize, pixel: usize| u16::from(image[c * num_pixels + pixel]);
            (0..num_pixels)
                .map(|pixel| ((channel(0, pixel) + channel(1, pixel) + channel(2, pixel)) / 3) as u8)
                .collect()
        };
        Cow::Owned(self.images.chunks_exact(3 * num_pixels).flat_map(gray).collect())
    }

    /// C: 1 for gray, 3 for color.
    #[must_use]
    pub fn num_channels(&self) -> usize {
        num_channels(self.is_color)
    }

    /// Copies it to `device`, where bytes become floats.
    #[must_use]
    pub fn to_tensors(&self, device: Device) -> Batch {
        let (batch, points) = (self.len() as i64, self.num_points as i64);
        let xyz = Tensor::from_slice(&self.points)
            .view([batch, points, 3])
            .to_device(device);
        let height = Tensor::from_slice(&self.heights)
            .view([batch, 1, points])
            .to_device(device);
        let features = Tensor::cat(&[&xyz.transpose(1, 2), &height], 1);
        let views = (self.num_views > 0).then(|| {
            let (views, size) = (self.num_views as i64, self.size_px as i64);
            let image = |bytes: &[u8], channels: usize| {
                Tensor::from_slice(bytes)
                    .view([batch, views, channels as i64, size, size])
                    .to_device(device)
            };
            let matrix = |numbers: &[f32]| {
                Tensor::from_slice(numbers)
                    .view([batch, views, 4, 4])
                    .to_device(device)
            };
            ViewBatch {
                images: image(&self.images, self.num_channels()).to_kind(Kind::Float) / 255.0,
                masks: image(&self.masks, 1).to_kind(Kind::Bool),
                view_from_object: matrix(&self.view_from_object),
                clip_from_view: matrix(&self.clip_from_view),
            }
        });
        let normals = (!self.normals.is_empty()).then(|| {
            Tensor::from_slice(&self.normals)
                .view([batch, points, 3])
                .to_device(device)
        });
        let part_labels = (!self.part_labels.is_empty()).then(|| {
            Tensor::from_slice(&self.part_labels)
                .view([batch, points])
                .to_device(device)
        });
        Batch {
            normals,
            part_labels,
            cloud: Cloud { xyz, features },
            sample_seeds: self.sample_seeds.clone(),
            labels: Tensor::from_slice(&self.labels).to_device(device),
            views,
            features: self
                .features
                .as_ref()
                .map(|features| features.to_tensors(batch, points, device)),
        }
    }
}
