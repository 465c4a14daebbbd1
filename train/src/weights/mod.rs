//! Tensors in files: checkpoints, safetensors, and what PyTorch saves.

pub mod checkpoint;
pub mod downloaded;
pub mod file_kind;
pub mod image_encoder;
pub mod published_names;
pub mod safetensors;
pub mod torch_file;
pub mod torch_save;
