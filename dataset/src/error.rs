//! [`DatasetError`]: what can go wrong between a folder of meshes and a sample.
//!
//! A single bad mesh is no error: it becomes a [`SkipReason`](crate::SkipReason) row of the manifest.

use std::io;
use std::path::{Path, PathBuf};

use parquet::errors::ParquetError;

use crate::{BuildPart, OLDEST_SCHEMA_VERSION, SCHEMA_VERSION, Split};

/// The result of this crate's fallible functions.
pub type Result<T, E = DatasetError> = std::result::Result<T, E>;

/// What can go wrong. Messages are one line, the path comes last.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// The operating system refused.
    #[error("could not {action} {}", .path.display())]
    Io {
        /// The verb and its object: "read", "create the folder", ...
        action: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// The system's own words.
        #[source]
        source: io::Error,
    },
    /// Synthesized objects would be written among files that are there already.
    #[error("the folder holds files; choose another folder or write into it by force: {}", .path.display())]
    OutNotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// There is nothing to synthesize, or not that much.
    #[error("can synthesize 1 to {max_classes} classes of at least one object")]
    SynthesizeCount {
        /// The number of categories.
        max_classes: usize,
    },
    /// The folder holds no manifest.
    #[error("no manifest.json, so this is no dataset (or its build never began): {}", .path.display())]
    NoManifest {
        /// The folder.
        path: PathBuf,
    },
    /// The manifest is no JSON, or not ours.
    #[error("the manifest is damaged: {}", .path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// Where it is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// The manifest contradicts itself.
    #[error("the manifest is damaged, {what}: {}", .path.display())]
    ManifestContent {
        /// The contradiction.
        what: String,
        /// The manifest.
        path: PathBuf,
    },
    /// Written by another version of the schema.
    #[error(
        "schema version {found}, but this program reads versions {OLDEST_SCHEMA_VERSION} to {SCHEMA_VERSION}; build \
         the dataset again: {}",
        .path.display()
    )]
    SchemaVersion {
        /// The version in the file, `none` where there is none.
        found: String,
        /// The manifest or shard.
        path: PathBuf,
    },
    /// The build that made the dataset has not ended.
    #[error("the build of this dataset has not ended ({finished} shards so far); run it again to go on: {}", .path.display())]
    Unfinished {
        /// Shards that are whole.
        finished: usize,
        /// The folder.
        path: PathBuf,
    },
    /// The folder holds a dataset that was begun in another way.
    #[error("the folder holds another dataset ({differences}); choose another folder or start anew by force: {}", .path.display())]
    OtherPlan {
        /// What differs.
        differences: String,
        /// The folder.
        path: PathBuf,
    },
    /// There is not enough room for what is still to be built.
    #[error(
        "the disk is short: the {rows} rows still to be made take about {needed} bytes, and {free} are free; make room, \
         or say --ignore-free-space to build as far as it goes: {}",
        .path.display()
    )]
    DiskShort {
        /// Bytes that are needed, with a margin.
        needed: u64,
        /// Bytes that are free.
        free: u64,
        /// Rows that are still to be made.
        rows: usize,
        /// The folder.
        path: PathBuf,
    },
    /// Another lighting changed more than pictures.
    #[error("more than the light has changed, {what}; the meshes or the adapter are others: {}", .path.display())]
    OtherThanLit {
        /// Which row, and how.
        what: String,
        /// The new dataset.
        path: PathBuf,
    },
    /// A word that can't name an image set.
    #[error("\"{name}\" can't name a set of images: it would be no name of a folder")]
    ImageSetName {
        /// What was given.
        name: String,
    },
    /// A dataset without that image set.
    #[error("no images of the name {name} (there are: {names}); `tap dataset relight --add` makes some: {}", .path.display())]
    NoSuchImages {
        /// What was asked for.
        name: String,
        /// What there is.
        names: String,
        /// The dataset.
        path: PathBuf,
    },
    /// An image set of another dataset, or of one that has changed.
    #[error("the images are of another dataset than the one they lie in; make them again with --force: {}", .path.display())]
    OtherImages {
        /// The image set.
        path: PathBuf,
    },
    /// Shards that hold pictures alone.
    #[error("the folder holds images for the rows of another dataset; open that, with these as its images: {}", .path.display())]
    ImagesAlone {
        /// The image set.
        path: PathBuf,
    },
    /// Shards without what relighting needs.
    #[error(
        "the shards hold no G-buffer, so that the light can only be changed on the meshes: say --meshes SRC, or build the \
         dataset with --gbuffer: {}",
        .path.display()
    )]
    NoGbuffer {
        /// The dataset.
        path: PathBuf,
    },
    /// A manifest whose pictures no mesh gives.
    #[error(
        "the pictures of this dataset were not drawn but lit from the G-buffer of {parent}; rebuild that, and relight it"
    )]
    Relit {
        /// The hash of that dataset.
        parent: String,
    },
    /// A lighting that shows what a G-buffer does not hold.
    #[error(
        "the lighting shows {shown}, and the G-buffer holds {held}: say --meshes SRC, or build the dataset with \
         --gbuffer and {remedy}: {}",
        .path.display()
    )]
    Unlit {
        /// What it shows.
        shown: &'static str,
        /// What there is.
        held: &'static str,
        /// How to have it.
        remedy: &'static str,
        /// The dataset.
        path: PathBuf,
    },
    /// A manifest that does not say what it was made from.
    #[error("the manifest names no meshes: it is of version 1, or of data that was made from none")]
    NoMeshesListed,
    /// The folder holds one part of a dataset.
    #[error("the folder holds part {part} of a dataset; join the parts with `tap dataset merge`: {}", .path.display())]
    Part {
        /// Which.
        part: BuildPart,
        /// The folder.
        path: PathBuf,
    },
    /// A word that names no part.
    #[error("\"{text}\" names no part; write I/N, for example 1/8 for the first of eight")]
    PartName {
        /// What was given.
        text: String,
    },
    /// A folder that is to be joined with others holds no part.
    #[error("the folder holds a whole dataset, and no part of one: {}", .path.display())]
    NotAPart {
        /// The folder.
        path: PathBuf,
    },
    /// Parts that are of different datasets.
    #[error("the parts are of different builds ({differences}): {} and {}", .first.display(), .path.display())]
    OtherPart {
        /// What differs.
        differences: String,
        /// The part that others are compared with.
        first: PathBuf,
        /// The one that differs.
        path: PathBuf,
    },
    /// Parts that are not there, or not whole.
    #[error("the dataset can't be joined, {missing}; what is whole has been left where it is")]
    PartsMissing {
        /// Which, and what they lack.
        missing: String,
    },
    /// A shard's bytes are not those that were written.
    #[error("the shard was changed since it was written; run the build of its part again: {}", .path.display())]
    ShardChanged {
        /// The shard.
        path: PathBuf,
    },
    /// The folder holds what no build wrote.
    #[error("the folder holds {name}, which is no part of a dataset; choose an empty one: {}", .path.display())]
    ForeignFiles {
        /// The first such file.
        name: String,
        /// The folder.
        path: PathBuf,
    },
    /// Another program is writing to the folder.
    #[error("another build is writing to the folder: {}", .path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// Every object was skipped.
    #[error("none of the {num_objects} objects could be used ({reasons})")]
    NothingSurvived {
        /// How many were found.
        num_objects: usize,
        /// Why, for the first few.
        reasons: String,
    },
    /// A shard's length is not what the manifest says.
    #[error("the shard is truncated or was changed ({found} bytes instead of {expected}): {}", .path.display())]
    ShardLength {
        /// Bytes by the manifest.
        expected: u64,
        /// Bytes on disk.
        found: u64,
        /// The shard.
        path: PathBuf,
    },
    /// A shard could not be read or written as Parquet.
    #[error("not a whole Parquet shard: {}", .path.display())]
    Parquet {
        /// The shard.
        path: PathBuf,
        /// Parquet's own words.
        #[source]
        source: ParquetError,
    },
    /// A shard holds other columns or metadata than the schema.
    #[error("the shard breaks the schema, {what}: {}", .path.display())]
    ShardContent {
        /// Which column or key, and how.
        what: String,
        /// The shard.
        path: PathBuf,
    },
    /// A sample that doesn't fit the shard it is to be written to.
    #[error("sample {id} does not fit the schema: {what}")]
    Row {
        /// Its id.
        id: String,
        /// How.
        what: String,
    },
    /// A row that isn't there.
    #[error("row {row} of split {split}, which has {num_rows} rows")]
    NoSuchRow {
        /// The split.
        split: Split,
        /// The row that was asked for.
        row: usize,
        /// How many there are.
        num_rows: usize,
    },
    /// A view that isn't there.
    #[error("view {view} of an object with {num_views} views")]
    NoSuchView {
        /// The view that was asked for.
        view: usize,
        /// How many there are.
        num_views: usize,
    },
    /// An id that can't name a row.
    #[error("\"{text}\" is no object id: {what}")]
    ObjectId {
        /// What was given.
        text: String,
        /// The rule it breaks.
        what: &'static str,
    },
    /// A word that names no split.
    #[error("\"{text}\" is no split; use train, val or test")]
    SplitName {
        /// What was given.
        text: String,
    },
    /// A stored picture that isn't a gray 8-bit PNG of reasonable size.
    #[error("not a gray 8-bit PNG")]
    Png(#[from] png::DecodingError),
    /// A stored picture of the wrong kind or size.
    #[error("an image of the wrong kind: {0}")]
    Image(String),
    /// A picture could not be encoded.
    #[error("could not encode a PNG")]
    PngEncoding(#[from] png::EncodingError),
    /// A word that names no layout.
    #[error("\"{text}\" is no layout; use auto, shapenet, shrec16, modelnet, objaverse, folders or csv")]
    LayoutName {
        /// What was given.
        text: String,
    },
    /// The source holds nothing that could become a row.
    #[error("no object found, {what}: {}", .path.display())]
    NoObjects {
        /// What was looked for.
        what: &'static str,
        /// The source.
        path: PathBuf,
    },
    /// A JSON file of the source is damaged.
    #[error("the {what} is no JSON of its form: {}", .path.display())]
    Json {
        /// Which file.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Where it is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// The list of parts contradicts itself.
    #[error("the list of parts is unusable, {what}: {}", .path.display())]
    Parts {
        /// How.
        what: String,
        /// The list.
        path: PathBuf,
    },
    /// A table lacks a column or holds a wrong word.
    #[error("line {line} of the table: {what}: {}", .path.display())]
    Table {
        /// The line, from 1.
        line: u64,
        /// What is wrong.
        what: String,
        /// The table.
        path: PathBuf,
    },
    /// A table is no CSV.
    #[cfg(feature = "build")]
    #[error("not a table of comma-separated values: {}", .path.display())]
    Csv {
        /// The table.
        path: PathBuf,
        /// Where it is wrong.
        #[source]
        source: csv::Error,
    },
    /// A zip archive is damaged, or of a kind that can't be read.
    #[cfg(feature = "build")]
    #[error("not a zip archive that can be read: {}", .path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: zip::result::ZipError,
    },
    /// Shares of splits that are none.
    #[error(
        "\"{text}\" are no shares of splits; write train,test or train,val,test, for example 0.8,0.2; their sum is 1"
    )]
    SplitFractions {
        /// What was given.
        text: String,
    },
    /// A setting of a recipe is out of range.
    #[error("recipe: {key} is {value}, but must be {rule}")]
    Recipe {
        /// The setting.
        key: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        rule: &'static str,
    },
    /// The settings of the views are not valid.
    #[cfg(feature = "build")]
    #[error(transparent)]
    Views(#[from] tap_render::RecipeError),
    /// The lighting is not valid.
    #[cfg(feature = "build")]
    #[error(transparent)]
    Lighting(#[from] tap_render::LightingError),
    /// A view cannot be relit from its G-buffer.
    #[cfg(feature = "build")]
    #[error(transparent)]
    Relight(#[from] tap_render::RelightError),
    /// The renderer can't be set up, or is lost.
    #[cfg(feature = "build")]
    #[error("the renderer failed")]
    Render(#[from] tap_render::RenderError),
    /// A thread of the build died: a bug.
    #[error("a thread of the build died: {0}")]
    Died(&'static str),
}

impl DatasetError {
    /// Wraps an error of the operating system; to be used as `.map_err(DatasetError::io("read", path))`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// Wraps an error of the Parquet crate; what the operating system said inside it is unpacked.
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
