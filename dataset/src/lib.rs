//! Meshes to Parquet shards, shards to samples.
//!
//! A dataset is a folder with a [`Manifest`] and, per [`Split`], shards whose rows are [`Sample`]s sorted by
//! id. [`Dataset`] reads rows at random, [`verify`](fn@verify) checks them, [`inspect`](fn@inspect)
//! summarizes them. With the feature `build`, `build` makes a dataset from a `Source`.

pub mod atomic_file;
mod dataset;
mod dataset_writer;
mod encode_png;
mod error;
mod gbuffer;
mod icp;
mod image;
mod image_set;
mod inspect;
mod local_file;
mod manifest;
mod merge;
mod mesh_issue;
mod near_duplicates;
mod parallel;
mod part;
#[cfg(feature = "build")]
mod pipeline;
#[cfg(feature = "build")]
mod plan;
#[cfg(feature = "build")]
mod rebuild;
#[cfg(feature = "build")]
mod recipe;
#[cfg(feature = "build")]
mod relight;
mod report;
mod reprojection;
mod sample;
mod schema;
#[cfg(any(feature = "build", test))]
mod seeded_rng;
pub mod sha256;
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

pub use dataset::Dataset;
pub use dataset_writer::{DatasetPlan, DatasetWriter, ObjectFile, Skipped, write_samples};
pub use encode_png::{RowFilter, encode_png};
pub use error::{
    BuildError, DatasetError, ImageError, ImageSetError, ManifestError, NameError, RecipeError, RelightError,
    Result, ShardError, SourceError, StoreError,
};
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
pub use mesh_issue::{MIN_DEGENERATE_RATIO, MeshIssue, MeshIssues};
pub use near_duplicates::{
    DEFAULT_DUPLICATE_DISTANCE, DuplicateKind, DuplicatePair, NearDuplicateEvent, NearDuplicateReport,
    ObjectRef, find_near_duplicates,
};
pub use part::BuildPart;
#[cfg(feature = "build")]
pub use pipeline::{
    BuildEvent, BuildOptions, BuildSummary, BuildTimings, MAX_IN_FLIGHT_BYTES, StageTiming, build,
};
#[cfg(feature = "build")]
pub use plan::{PlanReport, plan};
#[cfg(feature = "build")]
pub use rebuild::{Difference, DifferenceKind, RebuildReport, rebuild};
#[cfg(feature = "build")]
pub use recipe::{BuildRecipe, DEFAULT_NUM_POINTS, DEFAULT_ROWS_PER_SHARD, Normalization};
#[cfg(feature = "build")]
pub use relight::{RelightOptions, RelightReport, relight, relight_from_meshes};
pub use report::{CategoryReport, MeshReport, ObjectReport, report};
pub use reprojection::{MIN_POINTS_IN_MASK, points_in_mask};
pub use sample::{ObjectId, Sample, SampleView, Split};
pub use schema::{Columns, OLDEST_SCHEMA_VERSION, PartName, RowLayout, SCHEMA_VERSION, ShardHeader};
pub use shard::{ROW_GROUP_ROWS, RowStats, ShardDigest, ShardReader, ShardWriter, ViewSelection};
#[cfg(feature = "build")]
pub use source::{
    DEFAULT_MAX_MESH_BYTES, FolderAssets, Layout, PartTable, Source, SourceObject, SourceOptions, SplitRatios,
};
#[cfg(feature = "build")]
pub use surface::{FARTHEST_POOL, POISSON_POOL, Sampler, SurfaceSamples, UnknownSampler, sample_surface};
#[cfg(feature = "build")]
pub use synthesize::{
    SynthesizeEvent, SynthesizeOptions, SynthesizeSummary, synthesizable_categories, synthesize,
};
pub use verify::{Problem, VerifyEvent, VerifyOptions, VerifyReport, verify};

/// Program name and version, as recorded in manifests and shards.
pub const GENERATOR: &str = concat!("tap-dataset ", env!("CARGO_PKG_VERSION"));
