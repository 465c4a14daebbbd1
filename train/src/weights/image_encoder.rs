//! Frozen 2D networks from files: of PyTorch, or safetensors. No code of a file is run.

use std::path::Path;

use tch::Device;

use super::file_kind::FileKind;
use super::safetensors::{file_sha256, read_tensors};
use super::torch_file;
use crate::error::TrainError;
use crate::model::image::{ImageEncoderOptions, Recognized, recognize};

/// A network and where it comes from.
#[derive(Debug)]
pub struct ImageEncoderFile {
    /// The network, and what of the file it is made of.
    pub network: Recognized,
    /// SHA-256 of the file.
    pub sha256: String,
}

/// Reads a frozen 2D network for `device` out of a PyTorch or safetensors file of any publisher.
///
/// # Errors
/// Where the file cannot be read, or holds no such network: what it looks like, or which tensors do not fit.
pub fn load_image_encoder(
    path: &Path,
    options: ImageEncoderOptions,
    device: Device,
) -> Result<ImageEncoderFile, TrainError> {
    let tensors = if FileKind::of(path)? == FileKind::Safetensors {
        read_tensors(path)?
    } else {
        torch_file::read(path)?.tensors
    };
    let network = recognize(&tensors, options, device).map_err(|reason| TrainError::ImageEncoder {
        reason,
        path: path.to_owned(),
    })?;
    Ok(ImageEncoderFile {
        network,
        sha256: file_sha256(path)?,
    })
}
