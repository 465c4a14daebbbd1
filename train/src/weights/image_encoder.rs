//! Frozen 2D networks from files: of PyTorch, or safetensors. No code of a file is run.

use std::path::Path;

use tch::Device;

use super::torch_file::read_any;
use crate::error::TrainError;
use crate::model::image::{ImageEncoderOptions, Recognized, recognize};

/// Reads a frozen 2D network for `device` out of a PyTorch or safetensors file of any publisher.
///
/// # Errors
/// Where the file cannot be read, or holds no such network: what it looks like, or which tensors do not fit.
pub fn load_image_encoder(
    path: &Path,
    options: ImageEncoderOptions,
    device: Device,
) -> Result<Recognized, TrainError> {
    let tensors = read_any(path)?.tensors;
    recognize(&tensors, options, device).map_err(|reason| TrainError::ImageEncoder {
        reason,
        path: path.to_owned(),
    })
}
