//! Errors of user input: names, sources and recipes.

use std::path::PathBuf;

/// A string that is not a valid name, as on a command line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
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
    Split {
        /// Input string.
        text: String,
    },
    /// Column sets that this version does not know.
    #[error("the column sets {names} need a newer version of this program")]
    UnknownColumns {
        /// Names of the sets.
        names: String,
    },
    /// Column sets without others that they require.
    #[error("the column sets {names} require {missing} too")]
    MissingColumns {
        /// Names of the sets.
        names: String,
        /// Names of those required.
        missing: String,
    },
    /// A string that is not a part like `1/8`.
    #[error("invalid part \"{text}\", expected I/N, for example 1/8 for the first of eight")]
    Part {
        /// Input string.
        text: String,
    },
    /// A string that is not a list of shards like `0-3,7`.
    #[error("invalid shards \"{text}\", expected numbers and ranges, for example 0-3,7")]
    Shards {
        /// Input string.
        text: String,
    },
    /// Unknown source layout.
    #[error("unknown layout \"{text}\", expected one of {expected}")]
    Layout {
        /// Input string.
        text: String,
        /// All layouts.
        expected: String,
    },
    /// Unknown published set.
    #[error("unknown set \"{text}\", expected one of {expected}")]
    ImportSet {
        /// Input string.
        text: String,
        /// All sets.
        expected: String,
    },
    /// Unknown family of shapes.
    #[error("unknown family \"{text}\", expected one of {expected}")]
    ShapeFamily {
        /// Input string.
        text: String,
        /// All families.
        expected: String,
    },
    /// Unknown synthesized stand-in.
    #[error("unknown stand-in \"{text}\", expected one of {expected}")]
    StandIn {
        /// Input string.
        text: String,
        /// All stand-ins.
        expected: String,
    },
    /// Unknown layout of an export.
    #[error("unknown layout \"{text}\", expected one of {expected}")]
    ExportFormat {
        /// Input string.
        text: String,
        /// All layouts.
        expected: String,
    },
    /// Invalid split ratios.
    #[error(
        "invalid split ratios \"{text}\", expected train,test or train,val,test with sum 1, for example 0.8,0.2"
    )]
    SplitRatios {
        /// Input string.
        text: String,
    },
}

/// A source of meshes, or one of its lists, that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The source holds no objects.
    #[error("no objects found, {detail}: {}", .path.display())]
    NoObjects {
        /// What was expected, and what is there instead.
        detail: String,
        /// Source folder.
        path: PathBuf,
    },
    /// The source is not the one that the list of objects was made of.
    #[error("the source is not the one that was begun, {detail}: {}", .path.display())]
    Mismatch {
        /// The first difference.
        detail: String,
        /// Source folder.
        path: PathBuf,
    },
    /// A folder cannot be listed.
    #[error(
        "a web server has no list of its files; take a table of meshes (CSV or Parquet), a zip archive or a mesh: {}",
        .path.display()
    )]
    NoList {
        /// Address.
        path: PathBuf,
    },
    /// An address with a secret in it.
    #[error(
        "an address with a user, a password or a query would be written into lists and messages; leave them out, \
         credentials come from the environment: {}",
        .path.display()
    )]
    Secret {
        /// Address without it.
        path: PathBuf,
    },
    /// The store of the source stopped answering, or refuses.
    #[error("the store of the meshes does not give them any more, {detail}; run the same command again to resume: {}", .path.display())]
    Outage {
        /// What it said.
        detail: String,
        /// Address.
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
}

/// Settings out of range or in contradiction.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// The recipe in a manifest is malformed.
    #[error("malformed recipe of the manifest: {}", .path.display())]
    Json {
        /// Dataset folder.
        path: PathBuf,
        /// JSON error with line and column.
        #[source]
        source: serde_json::Error,
    },
    /// The dataset was not built from meshes.
    #[error("the data set was imported or synthesized: no recipe builds it from meshes: {}", .path.display())]
    Imported {
        /// Dataset folder.
        path: PathBuf,
    },
    /// A recipe setting is out of range.
    #[error("recipe: {key} is {value}, but must be {rule}")]
    OutOfRange {
        /// Setting, as a dotted path.
        key: &'static str,
        /// Its value.
        value: String,
        /// Allowed values.
        rule: &'static str,
    },
    /// The number of classes or objects to synthesize is out of range.
    #[error("expected 1 to {max_classes} classes and {min_per_class} to {max_per_class} objects per class")]
    SynthesizeCount {
        /// Largest number of classes.
        max_classes: usize,
        /// Smallest number of objects per class.
        min_per_class: usize,
        /// Largest number of objects per class.
        max_per_class: usize,
    },
    /// Settings of the views.
    #[cfg(feature = "build")]
    #[error(transparent)]
    Views(#[from] tap_render::RecipeError),
    /// A lighting.
    #[cfg(feature = "build")]
    #[error(transparent)]
    Lighting(#[from] tap_render::LightingError),
}
