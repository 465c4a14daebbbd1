//! [`DatasetWriter`]: writes shards in plan order, and goes on after an interrupted run.
//!
//! A folder has one plan. Whoever opens it [agrees](opening) on the plan, takes stock of what is finished of the shards that
//! are theirs, and writes the others: a file, then its journal entry, upon which the shard exists. A whole build, or a part
//! of one, has the folder for itself: it removes what its plan does not list, and its manifest absorbs the journal at the end.
//! Of a large data set the journal stays until then, and becomes the [lists](crate::Lists) of the objects; memory holds a line a
//! shard. A unit of a build that was begun writes beside other units, on any machine, and leaves the rest of the folder alone.

mod folder;
#[cfg_attr(
    not(feature = "build"),
    allow(dead_code, reason = "units are built with a renderer")
)]
mod opening;
#[cfg_attr(
    not(feature = "build"),
    allow(dead_code, reason = "units are built with a renderer")
)]
mod plan;
#[cfg_attr(
    not(feature = "build"),
    allow(dead_code, reason = "units are built with a renderer")
)]
mod plan_file;
mod status;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
#[cfg(feature = "build")]
use std::sync::atomic::AtomicBool;

use sha2::{Digest, Sha256};

use crate::error::{BuildError, DatasetError, Result, ShardError};
use crate::manifest::{
    JournalEntry, MANIFEST_FILE_NAME, Manifest, ObjectEntry, PLAN_FILE_NAME, ShardEntry, SkipReason,
    SkippedObject, SourceDescription,
};
#[cfg(feature = "build")]
use crate::pipeline::in_order;
use crate::schema::{ObjectId, Sample, ShardHeader, Split};
use crate::sha256;
use crate::shard::ShardWriter;
use crate::store;
use folder::{is_dataset_file, remove_stale_files};
#[cfg(feature = "build")]
pub(crate) use opening::{Access, Keep, begin, check_unit_plan};
pub use plan::DatasetPlan;
#[cfg(feature = "build")]
pub(crate) use plan::shard_ranges;
pub(crate) use plan::{differences, new_manifest, num_shards};
#[cfg(feature = "build")]
pub(crate) use plan_file::{PlanFile, PlannedObject};
pub use status::{BuildStatus, build_status, finish_build};

/// Source file of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectFile<'a> {
    /// Relative to the source.
    pub path: &'a str,
    /// Length in bytes when the source was scanned; 0 if the source did not know it.
    pub bytes: u64,
}

/// Writes a dataset shard by shard in plan order.
#[derive(Debug)]
pub struct DatasetWriter {
    dir: PathBuf,
    header: ShardHeader,
    /// Without the finished shards.
    manifest: Manifest,
    planned: Vec<(Split, String)>,
    /// Entries by plan index.
    finished: BTreeMap<usize, ShardEntry>,
    /// Plan indices of the shards still to be written.
    missing: VecDeque<usize>,
    /// Shards of an earlier run that are missing or damaged.
    damaged: Vec<String>,
    current: OpenShard,
    /// The shard that was finished last, with its objects.
    newest: Option<ShardEntry>,
    /// Identifies the plan in journal entries.
    plan_sha256: String,
    /// Held while the writer exists; `None` for a unit, beside which others write.
    lock: Option<store::WriteLock>,
}

/// The shard being written, and the content of its manifest entry.
#[derive(Debug, Default)]
struct OpenShard {
    writer: Option<ShardWriter>,
    /// Running hash over the source files.
    source: Sha256,
    objects: Vec<ObjectEntry>,
    skipped: Vec<SkippedObject>,
}

impl DatasetWriter {
    /// The manifest so far; of a unit, with its own shards alone.
    #[must_use]
    pub fn into_manifest(self) -> Manifest {
        let is_unit = self.lock.is_none();
        let mut manifest = self.all_of_manifest();
        if is_unit {
            // What a unit skipped is at hand.
            manifest.lists = None;
            manifest
                .shards
                .iter_mut()
                .for_each(|shard| shard.num_skipped.clear());
        }
        manifest
    }

    fn all_of_manifest(self) -> Manifest {
        let mut manifest = self.manifest;
        manifest.shards = self.finished.into_values().collect();
        manifest.sort_skipped();
        manifest
    }

    /// Plan indices of the shards still to be written, in order; rows go into the first.
    #[must_use]
    pub fn missing_shards(&self) -> impl ExactSizeIterator<Item = usize> {
        self.missing.iter().copied()
    }

    /// Shards of an earlier run that are missing or damaged and will be rebuilt.
    #[must_use]
    pub fn damaged_shards(&self) -> &[String] {
        &self.damaged
    }

    /// Appends a row to the current shard.
    ///
    /// # Errors
    /// When the sample does not match the schema, or the disk is full.
    pub fn append(&mut self, sample: &Sample, file: ObjectFile<'_>) -> Result<()> {
        self.shard()?.append(sample)?;
        self.current.add_object(ObjectEntry {
            id: sample.id.clone(),
            path: file.path.to_owned(),
            bytes: file.bytes,
            sha256: Some(sample.source_sha256.clone()),
            assets_sha256: sample.assets_sha256.clone(),
            row: Some(sample.digest()),
        });
        Ok(())
    }

    /// Records that an object of the current shard is skipped.
    ///
    /// # Panics
    /// When the plan has no further shard.
    pub fn skip(&mut self, id: &ObjectId, file: ObjectFile<'_>, skip: Skipped) {
        let shard = *self.missing.front().expect("the plan has a further shard");
        let Skipped {
            reason,
            message,
            source_sha256,
        } = skip;
        self.current.skipped.push(SkippedObject {
            id: id.to_string(),
            split: Some(self.planned[shard].0),
            path: file.path.to_owned(),
            reason,
            message,
            shard: Some(shard),
        });
        self.current.add_object(ObjectEntry {
            id: id.clone(),
            path: file.path.to_owned(),
            bytes: file.bytes,
            sha256: source_sha256,
            assets_sha256: None,
            row: None,
        });
    }

    /// Finishes the current shard and commits its journal entry.
    ///
    /// # Errors
    /// When the disk is full or the folder is not writable.
    ///
    /// # Panics
    /// When the plan has no further shard.
    pub fn finish_shard(&mut self) -> Result<&ShardEntry> {
        // If all objects were skipped, the shard has no rows.
        self.shard()?;
        let OpenShard {
            writer,
            source,
            objects,
            skipped,
        } = std::mem::take(&mut self.current);
        let digest = writer.expect("a shard is open").finish()?;
        let (split, file) = self.planned[self.missing[0]].clone();
        let entry = ShardEntry {
            file,
            split,
            rows: digest.rows,
            bytes: digest.bytes,
            sha256: digest.sha256,
            source_sha256: sha256::hex(&source.finalize()),
            num_listed: None,
            num_skipped: BTreeMap::new(),
            objects,
        };
        self.commit(entry, skipped)
    }

    /// Copies a finished shard from another folder as the next one, with its skipped objects.
    ///
    /// # Errors
    /// When its hash does not match its entry, it cannot be read, or the disk is full.
    ///
    /// # Panics
    /// When it is not the next shard of the plan.
    pub(crate) fn import_shard(
        &mut self,
        from: &Path,
        entry: ShardEntry,
        skipped: Vec<SkippedObject>,
    ) -> Result<&ShardEntry> {
        assert_eq!(
            self.planned[self.missing[0]],
            (entry.split, entry.file.clone()),
            "shards are adopted in the order of the plan"
        );
        let from = from.join(&entry.file);
        let sha256 = store::copy(&from, &self.dir.join(&entry.file))?;
        if sha256 == entry.sha256 {
            self.commit(entry, skipped)
        } else {
            // It is not in the manifest, but it already has a final name.
            store::remove_all(&self.dir, [entry.file.as_str()])?;
            Err(DatasetError::Shard(ShardError::Changed { path: from }))
        }
    }

    fn commit(&mut self, mut entry: ShardEntry, skipped: Vec<SkippedObject>) -> Result<&ShardEntry> {
        let has_list_files = self.manifest.lists.is_some();
        if has_list_files {
            entry.count(&skipped);
        }
        let journal_entry = JournalEntry {
            plan_sha256: self.plan_sha256.clone(),
            entry,
            skipped,
        };
        journal_entry.write(&self.dir)?;
        let JournalEntry {
            entry, mut skipped, ..
        } = journal_entry;

        if self.lock.is_none() && store::len(&self.dir.join(PLAN_FILE_NAME))?.is_none() {
            // Meanwhile the build was finished, with the same shard from somebody else.
            store::remove_all(&self.dir, [JournalEntry::file_name(&entry.file).as_str()])?;
        }
        let shard = self.missing.pop_front().expect("a shard was open");
        let kept = if has_list_files {
            ShardEntry {
                objects: Vec::new(),
                ..entry.clone()
            }
        } else {
            entry.clone()
        };
        if !has_list_files || self.lock.is_none() {
            self.manifest.skipped.append(&mut skipped);
        }
        self.finished.insert(shard, kept);
        Ok(self.newest.insert(entry))
    }

    /// Marks the dataset complete. A part is left without a dataset hash; a unit leaves the manifest alone.
    ///
    /// # Errors
    /// When every object was skipped, or the manifest cannot be written.
    ///
    /// # Panics
    /// When the plan has further shards.
    pub fn finish(mut self) -> Result<Manifest> {
        assert!(self.missing.is_empty(), "every shard of the plan is finished");
        let dir = std::mem::take(&mut self.dir);
        let Some(mut lock) = self.lock.take() else {
            return Ok(self.into_manifest());
        };
        let mut manifest = self.all_of_manifest();
        if manifest.part.is_none() {
            refuse_empty(&dir, &manifest)?;
            let content = manifest
                .shards
                .iter()
                .fold(Sha256::new(), |hash, s| hash.chain_update(&s.source_sha256));
            manifest.source.content_sha256 = Some(sha256::hex(&content.finalize()));
            manifest.sha256 = Some(manifest.shards_sha256());
        }
        if manifest.lists.as_ref().is_some_and(|lists| !lists.is_whole()) {
            manifest.write_lists(&dir)?;
        }
        refuse_loss(&dir, &manifest)?;
        lock.replace(&dir.join(MANIFEST_FILE_NAME), &manifest.to_json())?;
        remove_stale_files(&dir, &manifest)?;
        Ok(manifest)
    }

    fn shard(&mut self) -> Result<&mut ShardWriter> {
        if self.current.writer.is_none() {
            let shard = *self.missing.front().expect("the plan has a further shard");
            let (_, file) = &self.planned[shard];
            self.current.writer = Some(ShardWriter::create(&self.dir, file, &self.header)?);
        }
        Ok(self.current.writer.as_mut().expect("it was just begun"))
    }
}

/// Fails, and removes the output, when there are no rows at all.
fn refuse_empty(dir: &Path, manifest: &Manifest) -> Result<()> {
    if manifest.shards.iter().any(|shard| shard.rows > 0) {
        return Ok(());
    }
    let first = manifest.first_skipped(3)?;
    let reasons = first
        .iter()
        .map(|s| format!("{}: {} ({})", s.id, s.reason, s.message));
    let reasons = reasons.collect::<Vec<_>>().join("; ");
    // Shards without rows would block the next attempt.
    let found = store::list(dir)?;
    let ours = found.iter().map(|file| file.name.as_str());
    store::remove_all(dir, ours.filter(|name| is_dataset_file(name)))?;
    Err(DatasetError::Build(BuildError::AllSkipped {
        num_objects: manifest.source.num_objects,
        reasons,
    }))
}

/// Detects shards that were removed or truncated while others were written.
fn refuse_loss(dir: &Path, manifest: &Manifest) -> Result<()> {
    let found = store::list(dir)?;
    let found: BTreeMap<&str, u64> = found
        .iter()
        .map(|file| (file.name.as_str(), file.bytes))
        .collect();
    let is_missing = |shard: &&ShardEntry| found.get(shard.file.as_str()) != Some(&shard.bytes);
    match manifest.shards.iter().find(is_missing) {
        Some(shard) => Err(DatasetError::Shard(ShardError::Changed {
            path: dir.join(&shard.file),
        })),
        None => Ok(()),
    }
}

/// Why an object is skipped, with the hash of its mesh if known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Reason code.
    pub reason: SkipReason,
    /// Human-readable detail.
    pub message: String,
    /// SHA-256 of the mesh file; `None` if it could not be read.
    pub source_sha256: Option<String>,
}

impl OpenShard {
    fn add_object(&mut self, object: ObjectEntry) {
        let ObjectEntry {
            id,
            sha256,
            assets_sha256,
            ..
        } = &object;
        self.source
            .update(format!("{id} {}", sha256.as_deref().unwrap_or("-")));
        if let Some(assets) = assets_sha256 {
            self.source.update(format!(" {assets}"));
        }
        self.source.update("\n");
        self.objects.push(object);
    }
}

/// Writes in-memory samples as a complete dataset, sorted by id.
///
/// # Errors
/// When an id is duplicated, a sample does not match the header, or the folder is not writable.
pub fn write_samples(
    dir: &Path,
    header: &ShardHeader,
    rows_per_shard: usize,
    mut samples: Vec<(Split, Sample)>,
) -> Result<Manifest> {
    samples.sort_by(|(split_a, a), (split_b, b)| (split_a, &a.id).cmp(&(split_b, &b.id)));
    let mut ids: Vec<&ObjectId> = samples.iter().map(|(_, sample)| &sample.id).collect();
    ids.sort();
    if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(DatasetError::Shard(ShardError::Row {
            id: pair[0].to_string(),
            detail: "duplicate id".to_owned(),
        }));
    }
    let mut listing = Sha256::new();
    for (split, sample) in &samples {
        listing.update(format!("{split} {} {}\n", sample.id, sample.source_sha256));
    }
    let of_split = |split| samples.iter().filter(|(s, _)| *s == split).count();
    let plan = DatasetPlan {
        header: header.clone(),
        source: SourceDescription {
            layout: "samples".to_owned(),
            publication: None,
            splits: None,
            num_objects: samples.len(),
            listing_sha256: sha256::hex(&listing.finalize()),
            content_sha256: None,
        },
        num_shards: num_shards(rows_per_shard, of_split),
        part: None,
        parent: None,
        is_relit: false,
        skipped: Vec::new(),
        has_list_files: false,
    };
    let mut writer = DatasetWriter::open(dir, &plan.listed(), false)?;
    let shards: Vec<_> = samples
        .chunk_by(|a, b| a.0 == b.0)
        .flat_map(|split| split.chunks(rows_per_shard))
        .collect();
    let missing: Vec<usize> = writer.missing_shards().collect();
    for shard in missing {
        for (_, sample) in shards[shard] {
            writer.append(sample, ObjectFile { path: "", bytes: 0 })?;
        }
        writer.finish_shard()?;
    }
    writer.finish()
}

/// Writes the rows of the shards that are missing, each made on one of the threads, in order. `None` if cancelled.
///
/// `on_row` is called once before the first row, and then after each.
///
/// # Errors
/// The first of `make`, or when the disk is full or the folder is not writable.
#[cfg(feature = "build")]
pub(crate) fn write_rows<'file, Item: Sync>(
    mut writer: DatasetWriter,
    shards: &[&[Item]],
    workers: usize,
    cancel: &AtomicBool,
    make: impl Fn(&Item) -> Result<Sample> + Sync,
    file_of: impl Fn(&Item) -> ObjectFile<'file>,
    on_row: &mut dyn FnMut(RowProgress),
) -> Result<Option<Manifest>> {
    let missing: Vec<usize> = writer.missing_shards().collect();
    let rows: Vec<&Item> = missing.iter().flat_map(|&shard| shards[shard]).collect();
    let num_rows: usize = shards.iter().map(|shard| shard.len()).sum();
    on_row(RowProgress::Started {
        rows: num_rows,
        done: num_rows - rows.len(),
    });
    let lengths = missing.iter().map(|&shard| shards[shard].len());
    let shard_ends: BTreeSet<usize> = lengths
        .scan(0, |end, len| {
            *end += len;
            Some(*end)
        })
        .collect();
    let is_done = in_order(
        workers,
        rows.len(),
        cancel,
        |row| make(rows[row]),
        &mut |row, sample| {
            writer.append(&sample, file_of(rows[row]))?;
            on_row(RowProgress::Written);
            if shard_ends.contains(&(row + 1)) {
                writer.finish_shard()?;
            }
            Ok(())
        },
    )?;
    if is_done {
        writer.finish().map(Some)
    } else {
        Ok(None)
    }
}

/// Progress of [`write_rows`].
#[cfg(feature = "build")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowProgress {
    /// What there is to do.
    Started {
        /// Rows of the dataset.
        rows: usize,
        /// Rows that an earlier run has written.
        done: usize,
    },
    /// One more row is written.
    Written,
}
