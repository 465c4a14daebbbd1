//! Errors of stored data: files, shards, manifests and images.

use std::io;
use std::path::PathBuf;

use parquet::errors::ParquetError;

use super::NameError;

/// Reading and writing files on disk or in an object store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
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
    NotEmpty {
        /// Output folder.
        path: PathBuf,
    },
    /// Another program holds the write lock of the folder.
    #[error("another build is writing to the folder: {}", .path.display())]
    Locked {
        /// Folder.
        path: PathBuf,
    },
    /// Something in an output was not written by this program, so `--force` does not replace it.
    #[error("only what this program wrote is replaced, and {what}; move it away, or choose another output: {}", .path.display())]
    NotOurs {
        /// What is in the way.
        what: String,
        /// Output file or folder.
        path: PathBuf,
    },
    /// An output that `--force` would replace is, or contains, an input.
    #[error("--force would remove an input, {}; choose another output than {}", .input.display(), .path.display())]
    HoldsInput {
        /// Input, as given.
        input: PathBuf,
        /// Output.
        path: PathBuf,
    },
    /// Another process is writing to the folder.
    #[error("a {kind} is going on in this folder ({holder}): {}", .path.display())]
    Held {
        /// Kind of the output: `run`, `comparison`, ...
        kind: String,
        /// Process, machine and age of the lock.
        holder: String,
        /// Folder.
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
}

/// A shard that is damaged, or does not hold what is asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShardError {
    /// The length of a shard does not match the manifest.
    #[error("the shard is truncated or was changed ({found} bytes instead of {expected}): {}", .path.display())]
    Length {
        /// Bytes according to the manifest.
        expected: u64,
        /// Bytes on disk.
        found: u64,
        /// Shard file.
        path: PathBuf,
    },
    /// The content of a shard does not match its recorded hash.
    #[error("the shard was changed since it was written; run the build of its part again: {}", .path.display())]
    Changed {
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
    Invalid {
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
        split: &'static str,
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
}

/// A manifest that is missing, damaged, or not of a complete dataset.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The folder holds no manifest.
    #[error("no _manifest.json: not a dataset, or its build never started: {}", .path.display())]
    NotFound {
        /// Folder.
        path: PathBuf,
    },
    /// The manifest is not valid JSON, or has unknown or missing fields.
    #[error("the manifest is damaged: {}", .path.display())]
    Json {
        /// Manifest file.
        path: PathBuf,
        /// JSON error with line and column.
        #[source]
        source: serde_json::Error,
    },
    /// The manifest is inconsistent.
    #[error("the manifest is damaged, {detail}: {}", .path.display())]
    Invalid {
        /// The inconsistency.
        detail: String,
        /// Manifest file.
        path: PathBuf,
    },
    /// The list of objects of a build that was begun is damaged.
    #[error("the list of objects of this build is damaged, {detail}; run `tap dataset begin` again: {}", .path.display())]
    Plan {
        /// What is wrong.
        detail: String,
        /// The file.
        path: PathBuf,
    },
    /// A list of the objects of a large data set is damaged.
    #[error("a list of the objects of this data set is damaged, {detail}; restore the file, or build the data set again: {}", .path.display())]
    List {
        /// What is wrong.
        detail: String,
        /// The file.
        path: PathBuf,
    },
    /// A manifest of an earlier version that lists too many objects itself.
    #[error(
        "the manifest has more than 1 GiB: it lists all objects itself, as earlier versions did; build the data set again \
         with this version: {}",
        .path.display()
    )]
    TooLarge {
        /// Manifest file.
        path: PathBuf,
    },
    /// Rows with columns that this version does not know, or that do not go together.
    #[error("the rows cannot be read: {}", .path.display())]
    Columns {
        /// Manifest file.
        path: PathBuf,
        /// The column sets.
        #[source]
        source: NameError,
    },
    /// Unsupported schema version.
    #[error(
        "unsupported schema version {found}, expected {oldest} to {newest}; read it with a newer \
         version of this program, or build the dataset again: {}",
        .path.display()
    )]
    SchemaVersion {
        /// Version in the file, `none` if absent.
        found: String,
        /// Oldest supported version.
        oldest: u32,
        /// Newest supported version.
        newest: u32,
        /// Manifest or shard.
        path: PathBuf,
    },
    /// The build of the dataset is incomplete.
    #[error("the build of this dataset is incomplete ({finished} shards so far); run it again to resume: {}", .path.display())]
    Incomplete {
        /// Number of finished shards.
        finished: usize,
        /// Folder.
        path: PathBuf,
    },
    /// The folder holds one part of a dataset.
    #[error("the folder holds part {part} of a dataset; merge the parts with `tap dataset merge`: {}", .path.display())]
    Part {
        /// Index and count.
        part: String,
        /// Folder.
        path: PathBuf,
    },
    /// The manifest lists no source meshes.
    #[error("the manifest lists no meshes: it has version 1, or its data was not made from meshes")]
    NoMeshes,
    /// The images were relit, so they cannot be rebuilt from meshes.
    #[error(
        "the images of this dataset were relit from the G-buffer of {parent}; rebuild that dataset and relight it"
    )]
    Relit {
        /// Hash of the parent dataset.
        parent: String,
    },
}

/// A PNG that cannot be decoded or encoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// A PNG that cannot be decoded.
    #[error("not a gray 8-bit PNG")]
    Decode(#[from] png::DecodingError),
    /// A stored image with an unexpected size or pixel format.
    #[error("unexpected image format: {0}")]
    Format(String),
    /// A PNG that cannot be encoded.
    #[error("could not encode a PNG")]
    Encode(#[from] png::EncodingError),
}

/// An image set that is missing or belongs to another dataset.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageSetError {
    /// A string that is not valid as an image set name.
    #[error("invalid image set name \"{name}\", expected a valid folder name")]
    Name {
        /// Input string.
        name: String,
    },
    /// The dataset has no image set of this name.
    #[error("unknown image set {name} (there are: {names}); create it with `tap dataset relight --add`: {}", .path.display())]
    NotFound {
        /// Requested name.
        name: String,
        /// Existing names.
        names: String,
        /// Dataset folder.
        path: PathBuf,
    },
    /// The image set belongs to another dataset, or to an older state of this one.
    #[error("the image set is of another dataset than the one that holds it; create it again with --force: {}", .path.display())]
    Mismatch {
        /// Image set folder.
        path: PathBuf,
    },
    /// The folder is an image set, not a dataset.
    #[error("the folder is an image set, with images for the rows of another dataset; open that dataset with this image set: {}", .path.display())]
    NotADataset {
        /// Image set folder.
        path: PathBuf,
    },
}

/// A feature set that is missing, damaged, or of other rows or another network than is wanted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FeatureSetError {
    /// A string that is not valid as a feature set name.
    #[error("invalid feature set name \"{name}\", expected a valid folder name")]
    Name {
        /// Input string.
        name: String,
    },
    /// The dataset has no feature set of this name.
    #[error("unknown feature set {name} (there are: {names}); create it with `tap dataset features`: {}", .path.display())]
    NotFound {
        /// Requested name.
        name: String,
        /// Existing names.
        names: String,
        /// Dataset folder.
        path: PathBuf,
    },
    /// Files are still to be written.
    #[error("the feature set is incomplete ({finished} of {num_shards} shards); run its command again to resume: {}", .path.display())]
    Incomplete {
        /// Number of finished files.
        finished: usize,
        /// Number of shards of the dataset.
        num_shards: usize,
        /// Feature set folder.
        path: PathBuf,
    },
    /// The rows or images have changed since the features were computed.
    #[error("the features are of other {what} than the data set has now; compute them again with --force: {}", .path.display())]
    Mismatch {
        /// What has changed: rows, or the images of an image set.
        what: String,
        /// Feature set folder.
        path: PathBuf,
    },
    /// There is a feature set of this name, of another network or other views.
    #[error("there is another feature set of this name ({differences}); choose another name or pass --force: {}", .path.display())]
    Recipe {
        /// Keys that differ, with both values.
        differences: String,
        /// Feature set folder.
        path: PathBuf,
    },
    /// A file of a feature set contradicts its manifest or itself.
    #[error("the feature set is damaged, {detail}; compute it again with --force: {}", .path.display())]
    Damaged {
        /// What is wrong.
        detail: String,
        /// The file.
        path: PathBuf,
    },
    /// The features of a row cannot be stored.
    #[error("the features of {id} cannot be stored: {detail}")]
    Row {
        /// Object id.
        id: String,
        /// What is wrong.
        detail: String,
    },
}
