//! Opening a folder to write to: agreeing on its plan, taking stock of what is finished, and whether others write there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

use super::folder::{check_no_foreign_files, check_replaceable, remove_stale_files};
use super::plan_file::PlanFile;
use super::{DatasetPlan, DatasetWriter, OpenShard, differences, new_manifest};
use crate::error::{BuildError, DatasetError, ManifestError, Result};
use crate::manifest::{
    JournalEntry, Lists, MANIFEST_FILE_NAME, MAX_SHARDS, Manifest, ShardEntry, ShardObjects, ShardRanges,
};
use crate::pipeline::{num_threads, parallel_map};
use crate::schema::Split;
use crate::store::{self, DirEntry, NUM_REQUESTS, WriteLock};

/// Which shards a writer makes, and who else may write to the folder meanwhile.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Access<'a> {
    /// All shards that belong in the folder, which is locked.
    Alone {
        /// Replace another dataset.
        force: bool,
    },
    /// These shards of the plan of a build that was begun, while others write there, perhaps the same shards.
    Beside(&'a ShardRanges),
}

/// When a finished shard is kept.
#[derive(Clone, Copy)]
pub(crate) enum Keep<'a> {
    /// It has the hash of its entry, and is current by its entry with its objects.
    Current(&'a (dyn Fn(&ShardEntry) -> bool + Sync)),
    /// It has the hash of its entry.
    Verified,
    /// It has the length of its entry: a shard is on the disk before its entry is.
    Present,
}

impl DatasetWriter {
    /// Creates a dataset in `dir` or resumes one; verifies the hashes of existing shards.
    ///
    /// # Errors
    /// When `dir` holds a dataset with another plan (unless `force` is set) or unrelated files (with `force` too, beside a
    /// dataset), is locked by another program, or is not writable.
    pub fn open(dir: &Path, plan: &DatasetPlan, force: bool) -> Result<Self> {
        Self::open_with(dir, plan, Access::Alone { force }, Keep::Verified)
    }

    /// As [`open`](Self::open), with a choice of shards and of what is kept of an earlier run.
    ///
    /// # Errors
    /// As [`open`](Self::open); beside others, when no build was begun.
    pub(crate) fn open_with(
        dir: &Path,
        plan: &DatasetPlan,
        access: Access<'_>,
        keep: Keep<'_>,
    ) -> Result<Self> {
        let mut writer = Self::survey(dir, plan, access, keep)?;
        if writer.lock.is_some() {
            writer.reopen_lists()?;
        }
        if let Some(lock) = &mut writer.lock {
            let manifest = Manifest {
                shards: writer.finished.values().cloned().collect(),
                ..writer.manifest.clone()
            };
            // What is not listed in files yet stays in the journal.
            let is_journaled = manifest.lists.as_ref().is_some_and(|lists| !lists.is_whole());
            let json = if is_journaled {
                writer.manifest.to_json()
            } else {
                manifest.to_json()
            };
            lock.replace(&dir.join(MANIFEST_FILE_NAME), &json)?;
            remove_stale_files(dir, &manifest)?;
        }
        Ok(writer)
    }

    /// Makes a large data set that was finished, and of which shards are built again, one that goes on: what its lists say of
    /// the shards that are kept becomes their journal.
    fn reopen_lists(&mut self) -> Result<()> {
        let is_whole = self.manifest.lists.as_ref().is_some_and(Lists::is_whole);
        if !is_whole || self.missing.is_empty() {
            return Ok(());
        }
        let listed = Manifest::read_alone(&self.dir)?;
        let objects = listed.objects()?;
        let shards: Vec<usize> = self.finished.keys().copied().collect();
        let write = |idx: usize| {
            let entry = JournalEntry {
                plan_sha256: self.plan_sha256.clone(),
                entry: objects.entry(shards[idx])?,
                skipped: objects.skipped_of(shards[idx])?,
            };
            entry.write(&self.dir)
        };
        let written = parallel_map(NUM_REQUESTS, shards.len(), write, || {})?;
        written.into_iter().collect::<Result<()>>()?;
        if let Some(lists) = &mut self.manifest.lists {
            lists.reopen();
        }
        Ok(())
    }

    /// Looks at what is finished, and changes nothing.
    pub(super) fn survey(dir: &Path, plan: &DatasetPlan, access: Access<'_>, keep: Keep<'_>) -> Result<Self> {
        let Agreed {
            mut manifest,
            lock,
            is_new,
        } = match access {
            Access::Alone { force } => agree(dir, plan, force)?,
            Access::Beside(_) => agree_with_begun(dir, plan)?,
        };
        let planned = manifest.planned_shards();
        let plan_sha256 = manifest.plan_sha256();
        // A list takes requests in proportion to the whole folder; a unit asks for its own shards one by one.
        let (assigned, found) = match access {
            Access::Alone { .. } => (manifest.assigned_shards(), Some(store::list(dir)?)),
            Access::Beside(shards) => (shards.iter().collect(), None),
        };
        if !is_new && !manifest.is_complete() {
            match &found {
                Some(found) => manifest.replay_journal(dir, found)?,
                None => manifest.replay_journal_of(dir, &assigned)?,
            }
        }
        let finished = take_finished(dir, &mut manifest, &planned)?;
        let is_assigned = |shard: usize| assigned.binary_search(&shard).is_ok();
        let objects = manifest.objects_of(finished.iter().map(|(shard, entry)| (*shard, entry)));
        let of_writer = finished.iter().filter(|(shard, _)| is_assigned(**shard));
        let intact = find_intact(dir, of_writer, &objects, found.as_deref(), keep)?;
        // A unit tells what it skipped, whoever listed it.
        let mut skipped_of_unit = Vec::new();
        if manifest.lists.is_some() && lock.is_none() {
            for shard in &intact {
                skipped_of_unit.extend(objects.skipped_of(*shard)?);
            }
        }
        drop(objects);
        manifest.skipped.append(&mut skipped_of_unit);
        let (finished, dropped): (BTreeMap<_, _>, BTreeMap<_, _>) = finished
            .into_iter()
            .partition(|(shard, _)| intact.contains(shard));
        manifest.skipped.retain(|skipped| match skipped.shard {
            Some(shard) => !dropped.contains_key(&shard),
            // What nobody reads is counted once, not by each unit.
            None => lock.is_some(),
        });
        if !dropped.is_empty() {
            manifest.sha256 = None;
            manifest.source.content_sha256 = None;
        }
        let damaged = dropped.into_iter().filter(|(shard, _)| is_assigned(*shard));
        let damaged: Vec<String> = damaged.map(|(_, entry)| entry.file).collect();
        for shard in &damaged {
            tracing::debug!(
                shard,
                "the shard is missing, damaged or out of date and is rebuilt"
            );
        }
        let missing: VecDeque<usize> = assigned
            .into_iter()
            .filter(|shard| !finished.contains_key(shard))
            .collect();
        Ok(Self {
            dir: dir.to_owned(),
            header: plan.header.clone(),
            manifest,
            planned,
            finished,
            missing,
            damaged,
            current: OpenShard::default(),
            newest: None,
            plan_sha256,
            lock,
        })
    }
}

/// Writes the manifest of a plan into a folder, without a shard, unless it is there, and returns what is there.
///
/// # Errors
/// As [`DatasetWriter::open`].
#[cfg(feature = "build")]
pub(crate) fn begin(dir: &Path, plan: &DatasetPlan, force: bool) -> Result<Manifest> {
    let Agreed {
        manifest,
        lock,
        is_new,
    } = agree(dir, plan, force)?;
    if let Some(mut lock) = lock.filter(|_| is_new) {
        lock.replace(&dir.join(MANIFEST_FILE_NAME), &manifest.to_json())?;
        remove_stale_files(dir, &manifest)?;
    }
    Ok(manifest)
}

/// A folder whose dataset is that of the plan.
struct Agreed {
    /// As it was written, or is to be.
    manifest: Manifest,
    /// `None` if others write to the folder too.
    lock: Option<WriteLock>,
    /// Whether there is no such manifest yet.
    is_new: bool,
}

/// Locks a folder. It must hold a dataset of the plan, or none, or one that is replaced by force.
fn agree(dir: &Path, plan: &DatasetPlan, force: bool) -> Result<Agreed> {
    let num_shards: usize = plan.num_shards.iter().map(|count| count.shards).sum();
    if num_shards > MAX_SHARDS {
        return Err(DatasetError::Build(BuildError::TooManyShards {
            num_shards,
            max_shards: MAX_SHARDS,
            path: dir.to_owned(),
        }));
    }
    let mut expected = new_manifest(plan);
    if force {
        check_replaceable(dir)?;
    }
    let lock = store::lock_for_writing(dir, MANIFEST_FILE_NAME)?;
    let found = match Manifest::read_alone(dir) {
        _ if force => None,
        Ok(found) => {
            let differences = differences(&found, &expected);
            if !differences.is_empty() {
                return Err(DatasetError::Build(BuildError::PlanMismatch {
                    differences: differences.join("; "),
                    path: dir.to_owned(),
                }));
            }
            Some(found)
        }
        Err(DatasetError::Manifest(ManifestError::NotFound { .. })) => {
            check_no_foreign_files(dir, &store::list(dir)?)?;
            None
        }
        Err(e) => return Err(e),
    };
    if found.is_none() && plan.has_list_files {
        expected.list_left_out(dir, plan.skipped.clone())?;
    }
    Ok(Agreed {
        lock: Some(lock),
        is_new: found.is_none(),
        manifest: found.unwrap_or(expected),
    })
}

/// Does not lock a folder. It must hold a build of the plan that was begun, or has been finished since.
fn agree_with_begun(dir: &Path, plan: &DatasetPlan) -> Result<Agreed> {
    let found = Manifest::read_alone(dir)?;
    check_unit_plan(dir, &found, plan)?;
    if !found.is_complete() && !PlanFile::is_of(dir, &found) {
        return Err(DatasetError::Build(BuildError::NotBegun { path: dir.to_owned() }));
    }
    Ok(Agreed {
        manifest: found,
        lock: None,
        is_new: false,
    })
}

/// Refuses a unit that would make other shards than the manifest's.
pub(crate) fn check_unit_plan(dir: &Path, found: &Manifest, plan: &DatasetPlan) -> Result<()> {
    let differences = differences(found, &new_manifest(plan));
    if differences.is_empty() {
        return Ok(());
    }
    Err(DatasetError::Build(BuildError::UnitMismatch {
        differences: differences.join("; "),
        path: dir.to_owned(),
    }))
}

/// Takes the finished shards out of a manifest, by plan index.
pub(super) fn take_finished(
    dir: &Path,
    manifest: &mut Manifest,
    planned: &[(Split, String)],
) -> Result<BTreeMap<usize, ShardEntry>> {
    let indices = manifest.plan_indices(planned).map_err(|detail| {
        DatasetError::Manifest(ManifestError::Invalid {
            detail,
            path: dir.join(MANIFEST_FILE_NAME),
        })
    })?;
    Ok(indices
        .into_iter()
        .zip(std::mem::take(&mut manifest.shards))
        .collect())
}

/// Plan indices of finished shards that are kept; the others are to be made again. Lengths are those of a list of the
/// folder, if there is one. Looked at and hashed in parallel, because a resumed build waits for it.
pub(super) fn find_intact<'a>(
    dir: &Path,
    finished: impl Iterator<Item = (&'a usize, &'a ShardEntry)>,
    objects: &ShardObjects<'_>,
    found: Option<&[DirEntry]>,
    keep: Keep<'_>,
) -> Result<BTreeSet<usize>> {
    let listed: Option<BTreeMap<&str, u64>> = found.map(|found| {
        found
            .iter()
            .map(|file| (file.name.as_str(), file.bytes))
            .collect()
    });
    let finished: Vec<(usize, &ShardEntry)> = finished.map(|(shard, entry)| (*shard, entry)).collect();
    let is_intact = |i: usize| -> Result<bool> {
        let (plan_idx, shard) = finished[i];
        let path = dir.join(&shard.file);
        let len = match &listed {
            Some(listed) => listed.get(shard.file.as_str()).copied(),
            None => store::len(&path)?,
        };
        Ok(len == Some(shard.bytes)
            && match keep {
                Keep::Present => true,
                Keep::Verified => store::has_hash(&path, &shard.sha256),
                // Without its objects nobody knows what a shard was made from.
                Keep::Current(is_current) => {
                    store::has_hash(&path, &shard.sha256)
                        && objects.skipped_of(plan_idx).is_ok()
                        && objects.entry(plan_idx).is_ok_and(|entry| is_current(&entry))
                }
            })
    };
    let num_at_a_time = match keep {
        Keep::Present => NUM_REQUESTS,
        Keep::Verified | Keep::Current(_) => num_threads(0),
    };
    let are_intact = parallel_map(num_at_a_time, finished.len(), is_intact, || {})?;
    let mut intact = BTreeSet::new();
    for ((plan_idx, _), is_intact) in finished.into_iter().zip(are_intact) {
        if is_intact? {
            intact.insert(plan_idx);
        }
    }
    Ok(intact)
}
