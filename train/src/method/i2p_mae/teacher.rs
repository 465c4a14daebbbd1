//! The frozen 2D network, run in every step on depth images of the points (`docs/method.md`, "2D networks").

use std::path::{Path, PathBuf};

use tch::{Device, Tensor, no_grad};

use crate::data::batch::ImageFeatureBatch;
use crate::error::TrainError;
use crate::model::image::{ImageEncoder, ImageEncoderOptions, Normalization};
use crate::ops::{self, DEPTH_SIZE_PX, NUM_DEPTH_VIEWS};
use crate::weights::image_encoder::load_image_encoder;
use crate::weights::safetensors::is_finite;

/// Images that the network looks at together, which bounds its memory.
const MAX_IMAGES: i64 = 48;

/// The network and its file.
#[derive(Debug)]
pub(in crate::method) struct Teacher {
    network: Box<dyn ImageEncoder>,
    path: PathBuf,
}

impl Teacher {
    /// Reads a network from a file of weights.
    ///
    /// # Errors
    /// Where the file holds none, or one that cannot look at depth images.
    pub(super) fn read(path: &Path, layer: Option<i64>, device: Device) -> Result<Self, TrainError> {
        let options = ImageEncoderOptions {
            layer,
            ..ImageEncoderOptions::default()
        };
        let network = load_image_encoder(path, options, device)?.encoder;
        let teacher = Self {
            network,
            path: path.to_owned(),
        };
        let patch_px = teacher.network.patch_px();
        if (DEPTH_SIZE_PX as i64) % patch_px != 0 {
            return Err(teacher.fault(format!(
                "{} has patches of {patch_px} pixels, which do not fill depth images of {DEPTH_SIZE_PX}",
                teacher.network.name()
            )));
        }
        Ok(teacher)
    }

    fn fault(&self, reason: String) -> TrainError {
        TrainError::ImageEncoder {
            reason,
            path: self.path.clone(),
        }
    }

    /// Views and channels of what it says of a point.
    pub(super) fn size(&self) -> [i64; 2] {
        [NUM_DEPTH_VIEWS as i64, self.network.num_channels()]
    }

    /// What it says of the depth images of clouds.
    ///
    /// Parity: pixels are normalized by the mean and deviation of `ImageNet` whatever the network was trained with, also for
    /// CLIP.
    ///
    /// # Shapes
    /// - `xyz`: B,N,3
    ///
    /// # Errors
    /// Where a feature is not finite.
    pub(super) fn look(&self, xyz: &Tensor) -> Result<ImageFeatureBatch, TrainError> {
        no_grad(|| {
            let images = ops::depth_images(xyz).flatten(0, 1).unsqueeze(1);
            let size = [-1, 3, DEPTH_SIZE_PX as i64, DEPTH_SIZE_PX as i64];
            let (mut maps, mut saliency) = (Vec::new(), Vec::new());
            for images in images.split(MAX_IMAGES, 0) {
                let pixels = Normalization::IMAGENET.apply(&images.expand(size, false));
                let features = self.network.encode(&pixels);
                maps.push(features.features.permute([0, 2, 3, 1]));
                saliency.push(features.saliency);
            }
            let of_views = |maps: &[Tensor]| {
                let maps = Tensor::cat(maps, 0);
                let num_clouds = maps.size()[0] / NUM_DEPTH_VIEWS as i64;
                maps.unflatten(0, [num_clouds, NUM_DEPTH_VIEWS as i64])
            };
            let features = ImageFeatureBatch {
                maps: of_views(&maps),
                saliency: of_views(&saliency),
                positions: ops::depth_positions(xyz),
                visible: None,
            };
            if is_finite(&features.maps) && is_finite(&features.saliency) {
                return Ok(features);
            }
            Err(self.fault(format!(
                "{} gives features of a depth image that are not finite",
                self.network.name()
            )))
        })
    }
}
