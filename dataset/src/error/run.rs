//! Errors of whole runs: builds, merges and relighting.

use std::io;
use std::path::PathBuf;

/// A build or merge that cannot start or finish.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
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
    /// The folder has no plan that units could work by.
    #[error("no build was begun in the folder; run `tap dataset begin` first: {}", .path.display())]
    NotBegun {
        /// Folder.
        path: PathBuf,
    },
    /// A unit would build another dataset than the plan says.
    #[error(
        "this unit would build another dataset than was begun ({differences}); run it with the program, device and meshes \
         of `tap dataset begin`: {}",
        .path.display()
    )]
    UnitMismatch {
        /// What differs.
        differences: String,
        /// Folder.
        path: PathBuf,
    },
    /// The processes that try objects first do not work.
    #[error("could not try objects in processes of their own: {source}")]
    Trial {
        /// What came of one.
        source: io::Error,
    },
    /// The plan has no such shard.
    #[error("there is no shard {shard}, the plan has {num_shards}, from 0: {}", .path.display())]
    NoSuchShard {
        /// Plan index.
        shard: usize,
        /// Number of planned shards.
        num_shards: usize,
        /// Folder.
        path: PathBuf,
    },
    /// The plan has too many shards.
    #[error(
        "{num_shards} shards are more than {max_shards}; put more rows into one (--rows-per-shard, or --set \
         rows_per_shard=...): {}",
        .path.display()
    )]
    TooManyShards {
        /// Planned shards.
        num_shards: usize,
        /// As many as there may be.
        max_shards: usize,
        /// Folder.
        path: PathBuf,
    },
    /// Shards are still to be built.
    #[error(
        "{num_missing} of {num_shards} shards are missing; build them with `tap dataset unit`, --shards {missing}: {}",
        .path.display()
    )]
    ShardsMissing {
        /// Plan indices, as ranges.
        missing: String,
        /// Number of missing shards.
        num_missing: usize,
        /// Number of planned shards.
        num_shards: usize,
        /// Folder.
        path: PathBuf,
    },
    /// The source has no path that another machine could open.
    #[error("a source of one's own is not listed for other machines; build it on one")]
    NotOnDisk,
    /// Every object was skipped.
    #[error("all {num_objects} objects were skipped ({reasons})")]
    AllSkipped {
        /// Number of objects found.
        num_objects: usize,
        /// Reasons of the first few.
        reasons: String,
    },
    /// A worker thread panicked: a bug.
    #[error("a worker thread panicked: {0}")]
    WorkerPanicked(String),
}

/// No worker thread could be started: the limit of threads or memory is reached.
#[derive(Debug, thiserror::Error)]
#[error("could not start any of {requested} threads; ask for fewer with --threads")]
pub struct ThreadError {
    /// Number of threads needed.
    pub requested: usize,
    /// Error of the operating system.
    #[source]
    pub source: io::Error,
}

/// A dataset that cannot be relit as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelightError {
    /// The rows have no views, so there is nothing to relight.
    #[error("the shards have no views to relight; build the dataset without --no-views: {}", .path.display())]
    NoViews {
        /// Dataset folder.
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
    /// The lighting needs inputs that the G-buffer does not store.
    #[error(
        "the lighting needs {shown}, but the G-buffer stores {held}: pass --meshes SRC, or build the dataset with \
         --gbuffer and {remedy}: {}",
        .path.display()
    )]
    Insufficient {
        /// What the lighting needs.
        shown: &'static str,
        /// What the G-buffer stores.
        held: &'static str,
        /// Command-line options that store it.
        remedy: &'static str,
        /// Dataset folder.
        path: PathBuf,
    },
    /// Relighting changed more than the images.
    #[error("relighting changed more than the images, {detail}; the meshes or the adapter differ: {}", .path.display())]
    Mismatch {
        /// The row and the difference.
        detail: String,
        /// Folder of the new dataset.
        path: PathBuf,
    },
    /// A view cannot be relit from its G-buffer.
    #[cfg(feature = "build")]
    #[error(transparent)]
    View(#[from] tap_render::RelightError),
}
