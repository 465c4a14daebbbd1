//! Errors of importing published sets.

use std::path::PathBuf;

use crate::pickle::PickleError;

/// A published set that cannot be imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// None of the files by which the set is known is there.
    #[error("no {set} here: expected {expected}; {obtain}: {}", .path.display())]
    NotFound {
        /// Name of the set.
        set: &'static str,
        /// Files by which it is known.
        expected: String,
        /// Where one gets it.
        obtain: &'static str,
        /// Folder that was searched.
        path: PathBuf,
    },
    /// Several variants are there.
    #[error("several variants of {set} are here; choose one with --variant: {found}: {}", .path.display())]
    Ambiguous {
        /// Name of the set.
        set: &'static str,
        /// Names of the variants.
        found: String,
        /// Folder that was searched.
        path: PathBuf,
    },
    /// A variant that the set does not have.
    #[error("{set} has no variant \"{text}\", expected one of {expected}")]
    UnknownVariant {
        /// Name of the set.
        set: &'static str,
        /// Input string.
        text: String,
        /// All variants.
        expected: String,
    },
    /// These are meshes, or what `build` makes of them.
    #[error("{detail}: {}", .path.display())]
    NotImported {
        /// What is there, and which command takes it.
        detail: String,
        /// Folder that was searched.
        path: PathBuf,
    },
    /// Objects are missing or damaged.
    #[error(
        "{set} is not whole: {detail}; --allow-incomplete takes what is there, and the data set says so ever after; {obtain}"
    )]
    Incomplete {
        /// Name of the set.
        set: String,
        /// What is missing.
        detail: String,
        /// Where one gets it.
        obtain: &'static str,
    },
    /// A file is not what its name says.
    #[error("{detail}: {}", .path.display())]
    Malformed {
        /// The problem.
        detail: String,
        /// The file.
        path: PathBuf,
    },
    /// An HDF5 file cannot be read.
    #[error("not a readable HDF5 file, {detail}: {}", .path.display())]
    Hdf5 {
        /// Error of the HDF5 reader, which says its causes itself.
        detail: String,
        /// The file.
        path: PathBuf,
    },
    /// A pickle cannot be read.
    #[error("not a readable pickle: {}", .path.display())]
    Pickle {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: PickleError,
    },
    /// Numbers of an episode that make no sense.
    #[error("few-shot episodes: {detail}")]
    Episode {
        /// The problem.
        detail: String,
    },
}
