//! [`JournalEntry`]: a finished shard that the manifest does not list yet.
//!
//! Entries lie beside the shards, one a file, so that any number of machines write them without waiting for each other. An
//! entry names its plan: those of an abandoned one are passed over. Of a large data set the manifest takes over the entries
//! without their objects, which an [`ShardObjects`](super::ShardObjects) then finds there.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use super::{MAX_MANIFEST_BYTES, Manifest, ShardEntry, SkipReason, SkippedObject};
use crate::error::{DatasetError, ManifestError, Result};
use crate::pipeline::parallel_map;
use crate::schema::Split;
use crate::store::{self, DirEntry, NUM_REQUESTS};

/// Suffix of a journal entry's file name, after the shard's.
pub(crate) const JOURNAL_SUFFIX: &str = ".json";

/// Journal entry: a finished shard that the manifest does not list yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JournalEntry {
    /// [`Manifest::plan_sha256`] of the build.
    pub(crate) plan_sha256: String,
    pub(crate) entry: ShardEntry,
    /// Skipped objects of the shard.
    pub(crate) skipped: Vec<SkippedObject>,
}

/// A journal entry of a large data set, of which objects are passed over as they are parsed.
#[derive(Deserialize)]
struct JournalHead {
    plan_sha256: String,
    entry: EntryHead,
}

#[derive(Deserialize)]
struct EntryHead {
    file: String,
    split: Split,
    rows: usize,
    bytes: u64,
    sha256: String,
    source_sha256: String,
    num_objects: Option<usize>,
    #[serde(default)]
    num_skipped: BTreeMap<SkipReason, usize>,
    #[serde(rename = "objects")]
    _objects: IgnoredAny,
}

impl From<JournalHead> for JournalEntry {
    fn from(head: JournalHead) -> Self {
        let EntryHead {
            file,
            split,
            rows,
            bytes,
            sha256,
            source_sha256,
            num_objects,
            num_skipped,
            _objects,
        } = head.entry;
        Self {
            plan_sha256: head.plan_sha256,
            entry: ShardEntry {
                file,
                split,
                rows,
                bytes,
                sha256,
                source_sha256,
                num_listed: num_objects,
                num_skipped,
                objects: Vec::new(),
            },
            skipped: Vec::new(),
        }
    }
}

impl JournalEntry {
    pub(crate) fn file_name(shard: &str) -> String {
        format!("{shard}{JOURNAL_SUFFIX}")
    }

    /// Writes the entry beside its shard, which exists from then on.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        let json = serde_json::to_vec(self).expect("a journal entry has a JSON form");
        store::replace(&dir.join(Self::file_name(&self.entry.file)), &json)
    }

    /// Reads the entry of a shard; `None` if there is none.
    pub(super) fn read(dir: &Path, shard: &str) -> Result<Option<Self>> {
        Self::read_as(dir, shard)
    }

    /// Reads the entry of a shard of a large data set, without its objects.
    fn read_head(dir: &Path, shard: &str) -> Result<Option<Self>> {
        let head: Option<JournalHead> = Self::read_as(dir, shard)?;
        Ok(head.map(Self::from))
    }

    fn read_as<T: DeserializeOwned>(dir: &Path, shard: &str) -> Result<Option<T>> {
        let path = dir.join(Self::file_name(shard));
        let bytes = match store::read_bounded(&path, MAX_MANIFEST_BYTES) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(DatasetError::io("read", &path)(e)),
        };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|source| DatasetError::Manifest(ManifestError::Json { path, source }))
    }
}

impl Manifest {
    /// Adds the shards finished since the manifest was written, whose entries are among the files of the folder.
    pub(crate) fn replay_journal(&mut self, dir: &Path, found: &[DirEntry]) -> Result<()> {
        let planned = self.planned_shards();
        let plan_index_of = by_file(&planned);
        let journaled = found.iter().filter_map(|file| {
            let shard = file.name.strip_suffix(JOURNAL_SUFFIX)?;
            plan_index_of.get(shard).copied()
        });
        self.replay_journal_of(dir, &journaled.collect::<Vec<_>>())
    }

    /// Adds those of these shards, by plan index, that were finished since the manifest was written. Entries are read in
    /// parallel.
    pub(crate) fn replay_journal_of(&mut self, dir: &Path, shards: &[usize]) -> Result<()> {
        let planned = self.planned_shards();
        let plan_sha256 = self.plan_sha256();
        let known: BTreeSet<&str> = self.shards.iter().map(|shard| shard.file.as_str()).collect();
        let unknown: Vec<&str> = shards
            .iter()
            .map(|&shard| planned[shard].1.as_str())
            .filter(|file| !known.contains(file))
            .collect();
        let read = if self.lists.is_some() {
            JournalEntry::read_head
        } else {
            JournalEntry::read
        };
        let read = |idx: usize| read(dir, unknown[idx]);
        let entries = parallel_map(NUM_REQUESTS, unknown.len(), read, || {})?;
        let mut replayed = Vec::new();
        for (file, entry) in unknown.into_iter().zip(entries) {
            replayed.extend(entry?.filter(
                |JournalEntry {
                     plan_sha256: of,
                     entry,
                     ..
                 }| { *of == plan_sha256 && entry.file == file },
            ));
        }
        if replayed.is_empty() {
            return Ok(());
        }
        for JournalEntry { entry, skipped, .. } in replayed {
            self.shards.push(entry);
            self.skipped.extend(skipped);
        }
        let plan_index_of = by_file(&planned);
        self.shards
            .sort_by_key(|shard| plan_index_of.get(shard.file.as_str()).copied());
        self.sort_skipped();
        self.check().map_err(|detail| {
            DatasetError::Manifest(ManifestError::Invalid {
                detail,
                path: dir.to_owned(),
            })
        })
    }
}

/// Plan indices by file name.
fn by_file(planned: &[(Split, String)]) -> BTreeMap<&str, usize> {
    let files = planned.iter().map(|(_, file)| file.as_str());
    files
        .enumerate()
        .map(|(plan_idx, file)| (file, plan_idx))
        .collect()
}
