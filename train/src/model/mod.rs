//! The networks: one published model a file, top to bottom in the order of the data.
//!
//! Points go through an [`Encoder`] to tokens; [`Rays`] turn poses into queries; the photograph module
//! ([`PhotographConfig`]) lets the queries attend to the tokens; the 2D generator ([`DecoderConfig`]) decodes the image.
//! [`Tap`] is the whole. A [`MaskedAutoencoder`] leaves some groups of points out and reconstructs them from
//! the others, a [`HierarchicalAutoencoder`] on several scales.
//! A frozen 2D network ([`image::ImageEncoder`]) says what the views show.
//! A task head ([`ClassifierHead`]) takes the encoder's global feature instead.
//! Nothing here reads a configuration file, a shard or a checkpoint.

pub mod encoder;
pub mod image;

mod block;
mod decoder;
mod group;
mod group_embedding;
mod group_mask;
mod head;
mod hierarchical_autoencoder;
mod layer;
pub mod loss;
mod masked_autoencoder;
mod mode;
mod photograph;
mod query;
mod segmenter;
mod tap;
mod vgg;

pub use decoder::{DecoderConfig, DecoderLayer};
pub use encoder::{
    Cloud, DgcnnConfig, Encoder, EncoderConfig, Groups, Layers, PointM2aeConfig, PointM2aeLevel,
    PointMaeConfig, PointMlpConfig, PointNet2Config, PointNextConfig, Tokens, TransformerConfig,
};
pub use group_mask::{GroupMask, MultiScaleMask};
pub use head::{ClassifierHead, HeadConfig};
pub use hierarchical_autoencoder::{Decoded, HierarchicalAutoencoder, HierarchicalAutoencoderConfig};
pub use masked_autoencoder::{MaskedAutoencoder, MaskedAutoencoderConfig};
pub use mode::{Mode, Precision};
pub use photograph::{Compat, FeatureProjection, Photograph, PhotographConfig, RayBiasConfig};
pub use query::{
    QueryComponents, QueryConfig, QuerySource, RayDirection, RayOrigin, Rays, code_from_object,
    code_rotations,
};
pub use segmenter::{
    LabelTensors, PartInput, PointMlpSegmenter, Segmenter, SegmenterSizes, TokenSegmenter, Trace,
    build_segmenter,
};
pub use tap::{Tap, TapConfig};
pub use vgg::Vgg;
