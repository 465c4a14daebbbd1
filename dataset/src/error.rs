//! [`DatasetError`]: errors between a folder of meshes and a sample.
//!
//! A single bad mesh is not an error: it is skipped with a [`SkipReason`](crate::SkipReason) in the manifest.

use std::io;
use std::path::{Path, PathBuf};

use parquet::errors::ParquetError;

use crate::{BuildPart, OLDEST_SCHEMA_VERSION, SCHEMA_VERSION, Split};

/// Result of this crate's fallible functions.
pub type Result<T, E = DatasetError> = std::result::Result<T, E>;

/// Errors of this crate. Messages are one line with the path last.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// An operating-system error.
    #[error("could not {action} {}", .path.display())]
    Io {
        /// Verb and object: "read", "create the folder", ...
        action: &'static str,
        /// File or folder.
        path: PathBuf,
        /// Error of the operating system.
        #[source]
        source: io::Error,
    },
    /// The output folder of synthesized objects is not empty.
    #[error("the folder is not empty; choose another folder or pass --force: {}", .path.display())]
    OutNotEmpty {
        /// Output folder.
        path: PathBuf,
    },
    /// The number of classes or objects to synthesize is out of range.
    #[error("expected 1 to {max_classes} classes and at least one object per class")]
    SynthesizeCount {
        /// Largest number of classes.
        max_classes: usize,
    },
    /// The folder holds no manifest.
    #[error("no manifest.json: not a dataset, or its build never started: {}", .path.display())]
    NoManifest {
        /// Folder.
        path: PathBuf,
    },
    /// The manifest is not valid JSON, or has unknown or missing fields.
    #[error("the manifest is damaged: {}", .path.display())]
    Manifest {
        /// Manifest file.
        path: PathBuf,
        /// JSON error with line and column.
        #[source]
        source: serde_json::Error,
    },
    /// The manifest is inconsistent.
    #[error("the manifest is damaged, {detail}: {}", .path.display())]
    InvalidManifest {
        /// The inconsistency.
        detail: String,
        /// Manifest file.
        path: PathBuf,
    },
    /// Unsupported schema version.
    #[error(
        "unsupported schema version {found}, expected {OLDEST_SCHEMA_VERSION} to {SCHEMA_VERSION}; build the dataset \
         again: {}",
        .path.display()
    )]
    SchemaVersion {
        /// Version in the file, `none` if absent.
        found: String,
        /// Manifest or shard.
        path: PathBuf,
    },
    /// The build of the dataset is incomplete.
    #[error("the build of this dataset is incomplete ({finished} shards so far); run it again to resume: {}", .path.display())]
    Unfinished {
        /// Number of finished shards.
        finished: usize,
        /// Folder.
        path: PathBuf,
    },
    /// The folder holds a dataset with a different plan.
    #[error("the folder holds another dataset ({differences}); choose another folder or pass --force to overwrite it: {}", .path.display())]
    PlanMismatch {
        /// Differing settings.
        differences: String,
        /// Folder.
        path: PathBuf,
    },
    /// The remaining rows do not fit on the disk.
    #[error(
        "not enough disk space: the remaining {rows} rows need about {needed} bytes and {free} are free; free some space, \
         or pass --ignore-free-space to build as far as possible: {}",
        .path.display()
    )]
    NotEnoughDiskSpace {
        /// Required bytes, with a safety margin.
        needed: u64,
        /// Free bytes.
        free: u64,
        /// Rows still to be written.
        rows: usize,
        /// Output folder.
        path: PathBuf,
    },
    /// Relighting changed more than the images.
    #[error("relighting changed more than the images, {detail}; the meshes or the adapter differ: {}", .path.display())]
    RelightMismatch {
        /// The row and the difference.
        detail: String,
        /// Folder of the new dataset.
        path: PathBuf,
    },
    /// A string that is not valid as an image set name.
    #[error("invalid image set name \"{name}\", expected a valid folder name")]
    ImageSetName {
        /// Input string.
        name: String,
    },
    /// The dataset has no image set of this name.
    #[error("unknown image set {name} (there are: {names}); create it with `tap dataset relight --add`: {}", .path.display())]
    NoSuchImageSet {
        /// Requested name.
        name: String,
        /// Existing names.
        names: String,
        /// Dataset folder.
        path: PathBuf,
    },
    /// The image set belongs to another dataset, or to an older state of this one.
    #[error("the image set is of another dataset than the one that holds it; create it again with --force: {}", .path.display())]
    ImageSetMismatch {
        /// Image set folder.
        path: PathBuf,
    },
    /// The folder is an image set, not a dataset.
    #[error("the folder is an image set, with images for the rows of another dataset; open that dataset with this image set: {}", .path.display())]
    ImageSetOnly {
        /// Image set folder.
        path: PathBuf,
    },
    /// The shards have no G-buffer, which relighting needs.
    #[error(
        "the shards have no G-buffer: pass --meshes SRC to render the meshes again, or build the dataset with \
         --gbuffer: {}",
        .path.display()
    )]
    NoGbuffer {
        /// Dataset folder.
        path: PathBuf,
    },
    /// The images were relit, so they cannot be rebuilt from meshes.
    #[error(
        "the images of this dataset were relit from the G-buffer of {parent}; rebuild that dataset and relight it"
    )]
    Relit {
        /// Hash of the parent dataset.
        parent: String,
    },
    /// The lighting needs inputs that the G-buffer does not store.
    #[error(
        "the lighting needs {shown}, but the G-buffer stores {held}: pass --meshes SRC, or build the dataset with \
         --gbuffer and {remedy}: {}",
        .path.display()
    )]
    GbufferInsufficient {
        /// What the lighting needs.
        shown: &'static str,
        /// What the G-buffer stores.
        held: &'static str,
        /// Command-line options that store it.
        remedy: &'static str,
        /// Dataset folder.
        path: PathBuf,
    },
    /// The manifest lists no source meshes.
    #[error("the manifest lists no meshes: it has version 1, or its data was not made from meshes")]
    NoMeshesListed,
    /// The folder holds one part of a dataset.
    #[error("the folder holds part {part} of a dataset; merge the parts with `tap dataset merge`: {}", .path.display())]
    Part {
        /// Index and count.
        part: BuildPart,
        /// Folder.
        path: PathBuf,
    },
    /// A string that is not a part like `1/8`.
    #[error("invalid part \"{text}\", expected I/N, for example 1/8 for the first of eight")]
    PartName {
        /// Input string.
        text: String,
    },
    /// A folder given to merge is not a part.
    #[error("the folder holds a whole dataset, not a part of one: {}", .path.display())]
    NotAPart {
        /// Folder.
        path: PathBuf,
    },
    /// The parts belong to different builds.
    #[error("the parts belong to different builds ({differences}): {} and {}", .first.display(), .path.display())]
    PartMismatch {
        /// Differing settings.
        differences: String,
        /// Reference part.
        first: PathBuf,
        /// Differing part.
        path: PathBuf,
    },
    /// Parts are missing or incomplete.
    #[error("the parts cannot be merged, {missing}; finished shards are kept")]
    PartsMissing {
        /// List of missing parts and shards.
        missing: String,
    },
    /// The content of a shard does not match its recorded hash.
    #[error("the shard was changed since it was written; run the build of its part again: {}", .path.display())]
    ShardChanged {
        /// Shard file.
        path: PathBuf,
    },
    /// The folder holds files that do not belong to a dataset.
    #[error("the folder holds {name}, which does not belong to a dataset; choose an empty folder: {}", .path.display())]
    ForeignFiles {
        /// First such file.
        name: String,
        /// Folder.
        path: PathBuf,
    },
    /// Another program holds the write lock of the folder.
    #[error("another build is writing to the folder: {}", .path.display())]
    Busy {
        /// Folder.
        path: PathBuf,
    },
    /// Every object was skipped.
    #[error("all {num_objects} objects were skipped ({reasons})")]
    AllSkipped {
        /// Number of objects found.
        num_objects: usize,
        /// Reasons of the first few.
        reasons: String,
    },
    /// The length of a shard does not match the manifest.
    #[error("the shard is truncated or was changed ({found} bytes instead of {expected}): {}", .path.display())]
    ShardLength {
        /// Bytes according to the manifest.
        expected: u64,
        /// Bytes on disk.
        found: u64,
        /// Shard file.
        path: PathBuf,
    },
    /// Parquet could not read or write a shard.
    #[error("not a complete Parquet file: {}", .path.display())]
    Parquet {
        /// Shard file.
        path: PathBuf,
        /// Error of the Parquet crate.
        #[source]
        source: ParquetError,
    },
    /// Columns or metadata of a shard do not match the schema.
    #[error("the shard does not match the schema, {detail}: {}", .path.display())]
    InvalidShard {
        /// Column or key, and the mismatch.
        detail: String,
        /// Shard file.
        path: PathBuf,
    },
    /// A sample does not match the shard it is written to.
    #[error("sample {id} does not match the schema: {detail}")]
    Row {
        /// Object id.
        id: String,
        /// The mismatch.
        detail: String,
    },
    /// Row index out of range.
    #[error("row {row} is out of range: split {split} has {num_rows} rows")]
    NoSuchRow {
        /// Split of the row.
        split: Split,
        /// Requested row.
        row: usize,
        /// Rows in the split.
        num_rows: usize,
    },
    /// View index out of range.
    #[error("view {view} is out of range: an object has {num_views} views")]
    NoSuchView {
        /// Requested view.
        view: usize,
        /// Views per object.
        num_views: usize,
    },
    /// A string that is not a valid object id.
    #[error("\"{text}\" is no object id: {detail}")]
    ObjectId {
        /// Input string.
        text: String,
        /// Violated rule.
        detail: &'static str,
    },
    /// Unknown split name.
    #[error("unknown split \"{text}\", expected one of train, val, test")]
    SplitName {
        /// Input string.
        text: String,
    },
    /// A PNG that cannot be decoded.
    #[error("not a gray 8-bit PNG")]
    Png(#[from] png::DecodingError),
    /// A stored image with an unexpected size or pixel format.
    #[error("unexpected image format: {0}")]
    Image(String),
    /// A PNG that cannot be encoded.
    #[error("could not encode a PNG")]
    PngEncoding(#[from] png::EncodingError),
    /// Unknown source layout.
    #[error(
        "unknown layout \"{text}\", expected one of auto, shapenet, modelnet, folders, shrec16, objaverse, csv"
    )]
    LayoutName {
        /// Input string.
        text: String,
    },
    /// The source holds no objects.
    #[error("no objects found, {detail}: {}", .path.display())]
    NoObjects {
        /// Expected path pattern.
        detail: &'static str,
        /// Source folder.
        path: PathBuf,
    },
    /// A JSON file is malformed.
    #[error("malformed {detail}: {}", .path.display())]
    Json {
        /// Role of the file.
        detail: &'static str,
        /// The file.
        path: PathBuf,
        /// JSON error with line and column.
        #[source]
        source: serde_json::Error,
    },
    /// The part list is inconsistent.
    #[error("invalid part list, {detail}: {}", .path.display())]
    Parts {
        /// The inconsistency.
        detail: String,
        /// Part list file.
        path: PathBuf,
    },
    /// A table lacks a column or has an invalid cell.
    #[error("line {line} of the table: {detail}: {}", .path.display())]
    Table {
        /// Line number, from 1.
        line: u64,
        /// The problem.
        detail: String,
        /// Table file.
        path: PathBuf,
    },
    /// A table is not valid CSV.
    #[cfg(feature = "build")]
    #[error("not a table of comma-separated values (CSV): {}", .path.display())]
    Csv {
        /// Table file.
        path: PathBuf,
        /// CSV error with position.
        #[source]
        source: csv::Error,
    },
    /// A zip archive is damaged or unsupported.
    #[cfg(feature = "build")]
    #[error("not a readable zip archive: {}", .path.display())]
    Archive {
        /// Archive file.
        path: PathBuf,
        /// Error of the zip crate.
        #[source]
        source: zip::result::ZipError,
    },
    /// Invalid split ratios.
    #[error(
        "invalid split ratios \"{text}\", expected train,test or train,val,test with sum 1, for example 0.8,0.2"
    )]
    SplitRatios {
        /// Input string.
        text: String,
    },
    /// A recipe setting is out of range.
    #[error("recipe: {key} is {value}, but must be {rule}")]
    Recipe {
        /// Setting, as a dotted path.
        key: &'static str,
        /// Its value.
        value: String,
        /// Allowed values.
        rule: &'static str,
    },
    /// The renderer could not start, or its device failed.
    #[cfg(feature = "build")]
    #[error("the renderer failed")]
    Render(#[from] tap_render::RenderError),
    /// A worker thread panicked: a bug.
    #[error("a worker thread panicked: {0}")]
    WorkerPanicked(&'static str),
}

impl DatasetError {
    /// Wraps an operating-system error: `.map_err(DatasetError::io("read", path))`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// Wraps a Parquet error, unwrapping an operating-system error inside it.
    pub(crate) fn parquet(action: &'static str, path: &Path) -> impl FnOnce(ParquetError) -> Self {
        let path = path.to_owned();
        move |source| match source {
            ParquetError::External(inner) => match inner.downcast::<io::Error>() {
                Ok(source) => Self::Io {
                    action,
                    path,
                    source: *source,
                },
                Err(inner) => Self::Parquet {
                    path,
                    source: ParquetError::External(inner),
                },
            },
            source => Self::Parquet { path, source },
        }
    }
}
