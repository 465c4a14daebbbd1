//! Meshes to Parquet shards, shards to samples.
//!
//! A dataset is a folder with a [`Manifest`] and, per [`Split`], shards whose rows are [`Sample`]s sorted by
//! id. [`Dataset`] reads rows at random, [`verify`](fn@verify) checks them, [`inspect`](fn@inspect)
//! summarizes them. With the feature `build`, `build` makes a dataset from a `Source`.

pub mod atomic_file;
mod audit;
#[cfg(feature = "build")]
mod builder;
#[cfg(feature = "build")]
mod derive;
mod embedding_table;
mod error;
#[cfg(feature = "build")]
mod export;
mod feature_set;
mod folder_lock;
mod image;
mod image_set;
#[cfg(feature = "build")]
mod import;
mod local_file;
mod manifest;
mod merge;
pub mod npy;
mod owned_folder;
mod parquet_file;
pub mod pickle;
mod pipeline;
pub mod predicate;
mod reader;
#[cfg(feature = "build")]
mod rebuild;
#[cfg(feature = "build")]
mod recipe;
#[cfg(feature = "build")]
mod relight;
#[cfg(feature = "build")]
mod rendered_view;
mod reprojection;
mod schema;
#[cfg(any(feature = "build", test))]
mod seeded_rng;
pub mod sha256;
mod shard;
#[cfg(feature = "build")]
mod source;
mod spatial;
#[cfg(feature = "build")]
mod stand_in;
mod store;
#[cfg(feature = "build")]
mod surface;
#[cfg(feature = "build")]
mod synthesize;
#[cfg(feature = "build")]
mod topology;
#[cfg(feature = "build")]
pub mod view_folder;
mod writer;

pub use audit::{
    CategoryReport, ClassCount, DEFAULT_DUPLICATE_DISTANCE, DuplicateKind, DuplicatePair, FeatureSetSummary,
    ImageSetSummary, Inspection, MeshReport, NearDuplicateEvent, NearDuplicateReport, ObjectRef,
    ObjectReport, Problem, VerifyEvent, VerifyOptions, VerifyReport, find_near_duplicates, inspect, report,
    verify,
};
#[cfg(feature = "build")]
pub use builder::{
    BuildEvent, BuildOptions, BuildSummary, BuildTimings, MAX_IN_FLIGHT_BYTES, PlanReport, StageTiming,
    TrialCommand, UnitShards, begin_build, build, build_unit, plan, try_build, try_unit,
};
#[cfg(feature = "build")]
pub use derive::{
    ClassRule, DeriveEvent, DeriveOptions, DeriveReport, ForeignReport, RowRules, SplitRule, derive,
    open_foreign,
};
pub use embedding_table::EmbeddingTable;
#[cfg(feature = "build")]
pub use error::ExportError;
pub use error::{
    BuildError, DatasetError, DeriveError, FeatureSetError, ImageError, ImageSetError, ImportError,
    ManifestError, NameError, RecipeError, RelightError, Result, ShardError, SourceError, StoreError,
    StreamError, ThreadError,
};
#[cfg(feature = "build")]
pub use export::{DEFAULT_ROWS_PER_TAR, ExportEvent, ExportFormat, ExportOptions, ExportReport, export};
pub use feature_set::{
    FEATURE_MANIFEST_FILE_NAME, FeatureImages, FeatureLayout, FeatureManifest, FeatureRecipe, FeatureSet,
    FeatureSetWriter, FeatureShard, FeatureViews, MissingShard, RowFeatures, feature_set_dir, feature_sets,
};
pub use folder_lock::{FolderLock, LOCK_FILE_NAME, is_folder_held, locked_kind};
pub use image::{
    ColorPixels, GbufferPixels, GrayImage, MAX_IMAGE_SIZE_PX, Mask1Bit, PngShape, RowFilter, ViewGbuffer,
    decode_gray_png, decode_gray_png_into, decode_png, decode_png_into, decode_rgb_planes, encode_gray_png,
    encode_png, encode_png_with_text, encode_rgb_png,
};
pub use image_set::{image_set_dir, image_sets};
#[cfg(feature = "build")]
pub use import::{
    EpisodeOptions, ImportEvent, ImportOptions, ImportReport, ImportSet, import, sample_of_points,
};
pub use manifest::{
    BuildPart, LIST_FILES_SCHEMA_VERSION, ListFile, Lists, MANIFEST_FILE_NAME, MAX_OBJECTS_IN_MANIFEST,
    Manifest, ObjectEntry, ShardCount, ShardEntry, ShardObjects, ShardRanges, SkipReason, SkippedObject,
    SourceDescription, is_manifest_name, shard_file_name,
};
pub use merge::{MergeEvent, merge};
pub use owned_folder::{OwnedFolder, RUN_FILES, refuse_foreign_file, refuse_inputs, refuse_link};
pub use reader::{
    BlockShuffle, DEFAULT_BLOCK_ROWS, DEFAULT_READ_AHEAD_BYTES, DEFAULT_WINDOW_BLOCKS, Dataset, Order,
    Permutation, Place, Reader, Stream, StreamSample, StreamState,
};
#[cfg(feature = "build")]
pub use rebuild::{Difference, DifferenceKind, RebuildReport, rebuild};
#[cfg(feature = "build")]
pub use recipe::{BuildRecipe, DEFAULT_NUM_POINTS, DEFAULT_ROWS_PER_SHARD, Normalization};
#[cfg(feature = "build")]
pub use relight::{RelightOptions, RelightReport, relight, relight_from_meshes};
pub use reprojection::{MIN_POINTS_IN_MASK, points_in_mask};
pub use schema::{
    ColumnSet, Columns, GENERATOR, MIN_DEGENERATE_RATIO, MeshIssue, MeshIssues, MeshStats,
    OLDEST_SCHEMA_VERSION, ObjectId, PartName, RowDigest, RowLayout, SCHEMA_VERSION, Sample, SampleView,
    ShardHeader, Split,
};
pub use shard::{Projection, ROW_GROUP_ROWS, RowStats, ShardDigest, ShardReader, ShardWriter, ViewSelection};
#[cfg(feature = "build")]
pub use source::{
    DEFAULT_MAX_MESH_BYTES, FolderAssets, Layout, ListedObject, ObjectList, ObjectReader, PartTable,
    ReadError, Source, SourceObject, SourceOptions, SplitRatios,
};
#[cfg(feature = "build")]
pub use stand_in::{SCANNED_POINTS, StandIn, SuiteEvent, SuiteOptions, SuiteReport, synthesize_suite};
#[cfg(feature = "build")]
pub use surface::{FARTHEST_POOL, POISSON_POOL, Sampler, SurfaceSamples, UnknownSampler, sample_surface};
#[cfg(feature = "build")]
pub use synthesize::{ShapeFamily, SynthesizeEvent, SynthesizeOptions, SynthesizeSummary, synthesize};
pub use writer::{
    BuildStatus, DatasetPlan, DatasetWriter, ObjectFile, Skipped, build_status, finish_build, write_samples,
};
