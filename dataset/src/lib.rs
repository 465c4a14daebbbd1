//! Objects to Parquet shards, shards to samples.
//!
//! A dataset is a folder with a [`Manifest`] and, per [`Split`], shards whose rows are [`Sample`]s sorted by id.
//! [`Dataset`] reads it at random; `verify` proves it; `inspect` sums it up. With the
//! feature `build`, `build` makes one from a folder of meshes.

mod dataset;
mod dataset_writer;
mod durable;
mod error;
mod image;
mod manifest;
mod sample;
mod schema;
mod shard;
#[cfg(feature = "build")]
mod surface;
#[cfg(feature = "build")]
mod synthesize;

pub use dataset::Dataset;
pub use dataset_writer::{DatasetPlan, DatasetWriter, write_samples};
pub use error::{DatasetError, Result};
pub use image::{GrayImage, MAX_IMAGE_SIZE_PX, Mask1Bit, decode_gray_png, encode_gray_png};
pub use manifest::{
    MANIFEST_FILE_NAME, Manifest, ShardCount, ShardEntry, SkipReason, SkippedObject, SourceDescription,
    shard_file_name,
};
pub use sample::{ObjectId, Sample, SampleView, Split};
pub use schema::{PartName, RowLayout, SCHEMA_VERSION, ShardHeader};
pub use shard::{ROW_GROUP_ROWS, ShardDigest, ShardReader, ShardWriter, ViewSelection};
#[cfg(feature = "build")]
pub use surface::{FARTHEST_POOL, POISSON_POOL, Sampler, SurfaceSamples, UnknownSampler, sample_surface};
#[cfg(feature = "build")]
pub use synthesize::{
    SynthesizeEvent, SynthesizeOptions, SynthesizeSummary, synthesizable_categories, synthesize,
};

/// The program that makes datasets, as it stands in manifests and shards.
pub const GENERATOR: &str = concat!("tap-dataset ", env!("CARGO_PKG_VERSION"));
