//! Objects to Parquet shards, shards to samples.
//!
//! A dataset is a folder with a [`Manifest`] and, per [`Split`], shards whose rows are [`Sample`]s sorted by id.
//! [`Dataset`] reads it at random; [`verify`](fn@verify) proves it; [`inspect`](fn@inspect) sums it up. With the
//! feature `build`, `build` makes one from a `Source`, a folder of meshes.

#[cfg(feature = "build")]
mod build;
mod cloud;
mod dataset;
mod dataset_writer;
mod durable;
mod encode_png;
mod error;
mod finding;
mod folder_lock;
mod gbuffer;
mod image;
mod image_set;
mod inspect;
mod manifest;
mod merge;
mod overlap;
mod owned_folder;
mod parallel;
mod part;
#[cfg(feature = "build")]
mod plan;
mod pose_contract;
#[cfg(feature = "build")]
mod rebuild;
#[cfg(feature = "build")]
mod recipe;
#[cfg(feature = "build")]
mod relight;
mod report;
mod sample;
mod schema;
mod shard;
#[cfg(feature = "build")]
mod source;
mod store;
#[cfg(feature = "build")]
mod surface;
#[cfg(feature = "build")]
mod synthesize;
#[cfg(feature = "build")]
mod topology;
mod verify;

#[cfg(feature = "build")]
pub use build::{
    BuildEvent, BuildOptions, BuildSummary, BuildTimings, MAX_IN_FLIGHT_BYTES, StageTiming, build,
};
pub use dataset::Dataset;
pub use dataset_writer::{DatasetPlan, DatasetWriter, ObjectFile, Skipped, write_samples};
pub use encode_png::{RowFilter, encode_png, encode_png_with_text};
pub use error::{DatasetError, Result};
pub use finding::{DEGENERATE_SHARE, Finding, MeshFindings};
pub use folder_lock::{FolderLock, LOCK_FILE_NAME, locked_kind};
pub use gbuffer::{GbufferPixels, ViewGbuffer};
pub use image::{
    GrayImage, MAX_IMAGE_SIZE_PX, Mask1Bit, decode_gray_png, decode_rgb_planes, encode_gray_png,
    encode_rgb_png,
};
pub use image_set::{image_set_dir, image_sets};
pub use inspect::{ClassCount, ImageSetSummary, Inspection, inspect};
pub use manifest::{
    MANIFEST_FILE_NAME, Manifest, ObjectEntry, RowDigest, ShardCount, ShardEntry, SkipReason, SkippedObject,
    SourceDescription, shard_file_name,
};
pub use merge::{MergeEvent, merge};
pub use overlap::{
    DEFAULT_OVERLAP_DISTANCE, OverlapEvent, OverlapKind, OverlapPair, OverlapReport, Place, overlap,
};
pub use owned_folder::{OwnedFolder, RUN_FILES, refuse_foreign_file, refuse_inputs, refuse_link};
pub use part::BuildPart;
#[cfg(feature = "build")]
pub use plan::{PlanReport, plan};
pub use pose_contract::{MIN_POINTS_IN_MASK, points_in_mask};
#[cfg(feature = "build")]
pub use rebuild::{Difference, DifferenceKind, RebuildReport, rebuild};
#[cfg(feature = "build")]
pub use recipe::{BuildRecipe, DEFAULT_NUM_POINTS, DEFAULT_ROWS_PER_SHARD, Normalization};
#[cfg(feature = "build")]
pub use relight::{RelightOptions, RelightReport, relight, relight_from_meshes};
pub use report::{CategoryReport, MeshReport, ObjectReport, report};
pub use sample::{ObjectId, Sample, SampleView, Split};
pub use schema::{Columns, OLDEST_SCHEMA_VERSION, PartName, RowLayout, SCHEMA_VERSION, ShardHeader};
pub use shard::{ROW_GROUP_ROWS, RowFacts, ShardDigest, ShardReader, ShardWriter, ViewSelection};
#[cfg(feature = "build")]
pub use source::{
    DEFAULT_MAX_MESH_BYTES, FolderAssets, Layout, PartTable, Source, SourceObject, SourceOptions,
    SplitFractions,
};
#[cfg(feature = "build")]
pub use surface::{FARTHEST_POOL, POISSON_POOL, Sampler, SurfaceSamples, UnknownSampler, sample_surface};
#[cfg(feature = "build")]
pub use synthesize::{
    SynthesizeEvent, SynthesizeOptions, SynthesizeSummary, synthesizable_categories, synthesize,
};
pub use verify::{Problem, VerifyEvent, VerifyOptions, VerifyReport, verify};

/// The program that makes datasets, as it stands in manifests and shards.
pub const GENERATOR: &str = concat!("tap-dataset ", env!("CARGO_PKG_VERSION"));
