//! [`build_status`] and [`finish_build`]: how far a build is, and its end once all shards are there.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::opening::{Access, Keep, find_intact, take_finished};
use super::plan_file::PlanFile;
use super::{DatasetPlan, DatasetWriter};
use crate::error::{BuildError, DatasetError, Result};
use crate::manifest::{Manifest, ShardRanges, SkipReason};
use crate::store;

/// Missing shards that an error names, as ranges.
const MAX_NAMED: usize = 16;

/// How far a build is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct BuildStatus {
    /// Whether all is done, the manifest included.
    pub is_complete: bool,
    /// Whether units may be built: a build was begun and is not finished.
    pub is_begun: bool,
    /// Hash of the data of a complete dataset.
    pub sha256: Option<String>,
    /// Planned shards.
    pub num_shards: usize,
    /// Shards that are there.
    pub num_finished: usize,
    /// Plan indices of the others.
    pub missing: ShardRanges,
    /// Objects of the source.
    pub num_objects: usize,
    /// Rows of the shards that are there.
    pub num_rows: usize,
    /// Objects lost unintentionally so far; see [`SkipReason::is_failure`].
    pub num_lost: usize,
    /// Skipped objects so far, by reason.
    pub skipped: BTreeMap<SkipReason, usize>,
}

/// How far the build in a folder is. Nothing is written, and shards are not opened: `verify` does that.
///
/// # Errors
/// When the folder holds no dataset, or it cannot be read.
pub fn build_status(dir: &Path) -> Result<BuildStatus> {
    let mut manifest = Manifest::read_alone(dir)?;
    let is_begun = PlanFile::is_of(dir, &manifest);
    let found = store::list(dir)?;
    if !manifest.is_complete() {
        manifest.replay_journal(dir, &found)?;
    }
    let assigned = manifest.assigned_shards();
    let planned = manifest.planned_shards();
    let finished = take_finished(dir, &mut manifest, &planned)?;
    let objects = manifest.objects_of([]);
    let intact = find_intact(dir, finished.iter(), &objects, Some(&found), Keep::Present)?;
    drop(objects);
    let is_complete = manifest.is_complete() && intact.len() == finished.len();
    manifest
        .skipped
        .retain(|object| object.shard.is_none_or(|shard| intact.contains(&shard)));
    manifest.shards = finished
        .into_iter()
        .filter(|(shard, _)| intact.contains(shard))
        .map(|(_, entry)| entry)
        .collect();
    let skipped = manifest.skipped_by_reason();
    let of_failures = skipped.iter().filter(|(reason, _)| reason.is_failure());
    let missing = assigned.iter().copied().filter(|shard| !intact.contains(shard));
    Ok(BuildStatus {
        is_complete,
        is_begun,
        sha256: manifest.sha256,
        num_shards: assigned.len(),
        num_finished: intact.len(),
        missing: missing.collect(),
        num_objects: manifest.source.num_objects,
        num_rows: manifest.shards.iter().map(|shard| shard.rows).sum(),
        num_lost: of_failures.map(|(_, num)| num).sum(),
        skipped,
    })
}

/// Writes the manifest of a build whose shards are all there: the bytes are those of a build on one machine. Once more, it
/// changes nothing.
///
/// # Errors
/// When shards are missing (they are named), every object was skipped, the program is of another version than the one that
/// began, or the folder is not writable.
pub fn finish_build(dir: &Path) -> Result<Manifest> {
    let plan = DatasetPlan::of(&Manifest::read_alone(dir)?);
    let writer = DatasetWriter::survey(dir, &plan, Access::Alone { force: false }, Keep::Present)?;
    let missing: ShardRanges = writer.missing_shards().collect();
    if missing.is_empty() {
        return writer.finish();
    }
    let (num_missing, num_shards) = (missing.len(), writer.planned.len());
    Err(DatasetError::Build(BuildError::ShardsMissing {
        missing: missing.first(MAX_NAMED),
        num_missing,
        num_shards,
        path: dir.to_owned(),
    }))
}
