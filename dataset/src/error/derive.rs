//! Errors of datasets that are made from others.

use std::path::PathBuf;

use crate::predicate::PredicateError;

/// A dataset that cannot be derived from others.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeriveError {
    /// There is no dataset to take rows from.
    #[error("no dataset given")]
    NoInput,
    /// The datasets have other columns or dimensions.
    #[error("the rows differ: {first} in the first dataset, {other} here: {}", .path.display())]
    Layout {
        /// Columns and dimensions of the first.
        first: String,
        /// Columns and dimensions of the other.
        other: String,
        /// Folder of the other.
        path: PathBuf,
    },
    /// The condition is not one on these columns.
    #[error(transparent)]
    Predicate(#[from] PredicateError),
    /// No row is left.
    #[error("none of the {num_rows} rows is chosen")]
    NoRows {
        /// Rows of all inputs.
        num_rows: usize,
    },
    /// A list of ids names rows that do not exist.
    #[error("{num_ids} ids of the list are in no dataset, the first of them {first}")]
    UnknownIds {
        /// First of them.
        first: String,
        /// Number of them.
        num_ids: usize,
    },
    /// Two rows would have the same id.
    #[error("two rows are named {id}: in {} and in {}", .first.display(), .other.display())]
    DuplicateId {
        /// The id.
        id: String,
        /// Folder of the first.
        first: PathBuf,
        /// Folder of the other.
        other: PathBuf,
    },
    /// No class has this name.
    #[error("no class \"{name}\"; there are: {classes}")]
    UnknownClass {
        /// The name.
        name: String,
        /// Those that there are.
        classes: String,
    },
    /// More parts than part labels can number.
    #[error("{num_parts} parts in all, part labels can number 256")]
    TooManyParts {
        /// Number of parts.
        num_parts: usize,
    },
    /// A row has a part of another class.
    #[error("{id} has part {label}, which is none of its class")]
    PartOfOtherClass {
        /// The row.
        id: String,
        /// The part label.
        label: u8,
    },
    /// A folder without Parquet files.
    #[error("no .parquet file: {}", .path.display())]
    NoParquet {
        /// Folder.
        path: PathBuf,
    },
}
