//! [`DatasetWriter`]: writes shards and the manifest in plan order, and resumes after an interrupted run.
//!
//! The plan (number of shards, objects per shard) is fixed before the first row, so a row's shard does not
//! depend on which objects were skipped. A shard exists once its journal entry is written; at the end the
//! manifest absorbs all journal entries. On open, `.partial` files and unlisted shards are removed, and
//! listed shards whose hash does not match are rebuilt.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
#[cfg(feature = "build")]
use std::sync::atomic::AtomicBool;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::error::{BuildError, DatasetError, ManifestError, Result, ShardError, StoreError};
use crate::feature_set::{FEATURE_SETS, is_feature_set};
use crate::image_set::IMAGE_SET_FOLDERS;
use crate::manifest::{
    BuildPart, JOURNAL_SUFFIX, JournalEntry, MANIFEST_FILE_NAME, MAX_MANIFEST_BYTES, Manifest,
    OLD_MANIFEST_FILE_NAME, ObjectEntry, ShardCount, ShardEntry, SkipReason, SkippedObject,
    SourceDescription, image_shard_file_name, is_manifest_name, json_differences, manifest_file,
    shard_file_name, shard_stem,
};
use crate::owned_folder::{refuse_foreign, refuse_link};
#[cfg(feature = "build")]
use crate::pipeline::in_order;
use crate::pipeline::{num_threads, parallel_map};
use crate::schema::{GENERATOR, ObjectId, SCHEMA_VERSION, Sample, ShardHeader, Split};
use crate::sha256;
use crate::shard::{ShardReader, ShardWriter};
use crate::store;

/// Last bytes of a Parquet file.
const PARQUET_MAGIC: &[u8; 4] = b"PAR1";

/// Everything known about a dataset before its first row.
#[derive(Debug, Clone, PartialEq)]
pub struct DatasetPlan {
    /// Metadata of every shard.
    pub header: ShardHeader,
    /// Description of the source.
    pub source: SourceDescription,
    /// Planned shards per split.
    pub num_shards: Vec<ShardCount>,
    /// The part to write; `None` for the whole dataset.
    pub part: Option<BuildPart>,
    /// Hash of the dataset this one is derived from.
    pub parent: Option<String>,
    /// Whether images were relit from the parent's G-buffer instead of rendered.
    pub is_relit: bool,
    /// Objects skipped before any mesh is read.
    pub skipped: Vec<SkippedObject>,
}

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
    manifest: Manifest,
    planned: Vec<(Split, String)>,
    /// Plan indices of the shards still to be written.
    missing: VecDeque<usize>,
    /// Shards of an earlier run that are missing or damaged.
    damaged: Vec<String>,
    current: OpenShard,
    /// Identifies the plan in journal entries.
    plan_sha256: String,
    /// Held while the writer exists.
    lock: store::WriteLock,
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
    /// Creates a dataset in `dir` or resumes one; verifies the hashes of existing shards.
    ///
    /// # Errors
    /// When `dir` holds a dataset with another plan (unless `force` is set) or unrelated files (with `force` too, beside a
    /// dataset), is locked by another program, or is not writable.
    pub fn open(dir: &Path, plan: &DatasetPlan, force: bool) -> Result<Self> {
        Self::open_checked(dir, plan, force, &|_| true)
    }

    /// As [`open`](Self::open); intact shards of an earlier run are kept if they are current.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) fn open_checked(
        dir: &Path,
        plan: &DatasetPlan,
        force: bool,
        is_current: &(dyn Fn(&ShardEntry) -> bool + Sync),
    ) -> Result<Self> {
        if force {
            check_replaceable(dir)?;
        }
        let mut lock = store::lock_for_writing(dir, MANIFEST_FILE_NAME)?;
        let expected = new_manifest(plan);
        let mut manifest = match Manifest::read(dir) {
            Ok(found) if !force => {
                let differences = differences(&found, &expected);
                if !differences.is_empty() {
                    return Err(DatasetError::Build(BuildError::PlanMismatch {
                        differences: differences.join("; "),
                        path: dir.to_owned(),
                    }));
                }
                found
            }
            Ok(_) => expected.clone(),
            Err(DatasetError::Manifest(ManifestError::NotFound { .. })) => {
                check_no_foreign_files(dir)?;
                expected.clone()
            }
            Err(_) if force => expected.clone(),
            Err(e) => return Err(e),
        };
        let planned = manifest.planned_shards();
        let damaged = manifest.drop_damaged_shards(dir, &planned, is_current)?;
        for shard in &damaged {
            tracing::debug!(
                shard,
                "the shard is missing, damaged or out of date and is rebuilt"
            );
        }
        let plan_indices = manifest.plan_indices(&planned).map_err(|detail| {
            DatasetError::Manifest(ManifestError::Invalid {
                detail,
                path: dir.join(MANIFEST_FILE_NAME),
            })
        })?;
        let mut missing: VecDeque<usize> = manifest.assigned_shards().into();
        missing.retain(|shard| plan_indices.binary_search(shard).is_err());
        lock.replace(&dir.join(MANIFEST_FILE_NAME), &manifest.to_json())?;
        remove_stale_files(dir, &manifest)?;
        Ok(Self {
            dir: dir.to_owned(),
            header: plan.header.clone(),
            plan_sha256: manifest.plan_sha256(),
            manifest,
            planned,
            missing,
            damaged,
            current: OpenShard::default(),
            lock,
        })
    }

    /// The manifest so far.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
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

    fn commit(&mut self, entry: ShardEntry, mut skipped: Vec<SkippedObject>) -> Result<&ShardEntry> {
        let journal_entry = JournalEntry {
            plan_sha256: self.plan_sha256.clone(),
            entry: entry.clone(),
            skipped: skipped.clone(),
        };
        let journal_file = self.dir.join(JournalEntry::file_name(&entry.file));
        let json = serde_json::to_vec(&journal_entry).expect("a journal entry has a JSON form");
        store::replace(&journal_file, &json)?;

        let shard = self.missing.pop_front().expect("a shard was open");
        let before = &self.planned[..shard];
        let shards = &mut self.manifest.shards;
        let at = before.iter().fold(0, |at, (_, file)| {
            at + usize::from(shards.get(at).is_some_and(|other| other.file == *file))
        });
        shards.insert(at, entry);
        self.manifest.skipped.append(&mut skipped);
        self.manifest.sort_skipped();
        Ok(&self.manifest.shards[at])
    }

    /// Marks the dataset complete. A part is left without a dataset hash.
    ///
    /// # Errors
    /// When every object was skipped, or the manifest cannot be written.
    ///
    /// # Panics
    /// When the plan has further shards.
    pub fn finish(mut self) -> Result<Manifest> {
        assert!(self.missing.is_empty(), "every shard of the plan is finished");
        if self.manifest.part.is_none() {
            self.check_not_empty()?;
            let content = self
                .manifest
                .shards
                .iter()
                .fold(Sha256::new(), |hash, s| hash.chain_update(&s.source_sha256));
            self.manifest.source.content_sha256 = Some(sha256::hex(&content.finalize()));
            self.manifest.sha256 = Some(self.manifest.shards_sha256());
        }
        self.check_shards_present()?;
        self.lock
            .replace(&self.dir.join(MANIFEST_FILE_NAME), &self.manifest.to_json())?;
        remove_stale_files(&self.dir, &self.manifest)?;
        Ok(self.manifest)
    }

    /// Fails, and removes the output, when there are no rows at all.
    fn check_not_empty(&self) -> Result<()> {
        if self.manifest.shards.iter().all(|shard| shard.rows == 0) {
            let num_objects = self.manifest.source.num_objects;
            let reasons = self
                .manifest
                .skipped
                .iter()
                .take(3)
                .map(|s| format!("{}: {} ({})", s.id, s.reason, s.message));
            let reasons = reasons.collect::<Vec<_>>().join("; ");
            // Shards without rows would block the next attempt.
            let found = store::list(&self.dir)?;
            let ours = found.iter().map(|file| file.name.as_str());
            store::remove_all(&self.dir, ours.filter(|name| is_dataset_file(name)))?;
            return Err(DatasetError::Build(BuildError::AllSkipped {
                num_objects,
                reasons,
            }));
        }
        Ok(())
    }

    /// Detects shards that were removed or truncated while others were written.
    fn check_shards_present(&self) -> Result<()> {
        let found = store::list(&self.dir)?;
        let found: BTreeMap<&str, u64> = found
            .iter()
            .map(|file| (file.name.as_str(), file.bytes))
            .collect();
        let is_missing = |shard: &&ShardEntry| found.get(shard.file.as_str()) != Some(&shard.bytes);
        match self.manifest.shards.iter().find(is_missing) {
            Some(shard) => Err(DatasetError::Shard(ShardError::Changed {
                path: self.dir.join(&shard.file),
            })),
            None => Ok(()),
        }
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
    };
    let mut writer = DatasetWriter::open(dir, &plan, false)?;
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

/// Shards per split; empty splits are left out.
pub(crate) fn num_shards(rows_per_shard: usize, num_objects: impl Fn(Split) -> usize) -> Vec<ShardCount> {
    let counts = Split::ALL.map(|split| ShardCount {
        split,
        shards: num_objects(split).div_ceil(rows_per_shard),
    });
    counts.into_iter().filter(|count| count.shards > 0).collect()
}

impl Manifest {
    /// Removes entries of shards that are missing, damaged or not current, and returns their names.
    fn drop_damaged_shards(
        &mut self,
        dir: &Path,
        planned: &[(Split, String)],
        is_current: &(dyn Fn(&ShardEntry) -> bool + Sync),
    ) -> Result<Vec<String>> {
        let is_intact = verify_shards(dir, &self.shards, is_current)?;
        let damaged: Vec<String> = self
            .shards
            .iter()
            .zip(is_intact)
            .filter(|(_, is_intact)| !is_intact)
            .map(|(shard, _)| shard.file.clone())
            .collect();
        if damaged.is_empty() {
            return Ok(damaged);
        }
        self.shards.retain(|shard| !damaged.contains(&shard.file));
        let is_damaged = |shard: usize| planned.get(shard).is_some_and(|(_, file)| damaged.contains(file));
        self.skipped
            .retain(|skipped| !skipped.shard.is_some_and(is_damaged));
        self.sha256 = None;
        self.source.content_sha256 = None;
        Ok(damaged)
    }
}

/// Whether each shard matches the manifest and is current. Hashed in parallel, because a resumed build waits for it.
fn verify_shards(
    dir: &Path,
    shards: &[ShardEntry],
    is_current: &(dyn Fn(&ShardEntry) -> bool + Sync),
) -> Result<Vec<bool>> {
    let is_intact = |i: usize| {
        let shard = &shards[i];
        store::is_intact(&dir.join(&shard.file), shard.bytes, &shard.sha256) && is_current(shard)
    };
    parallel_map(num_threads(0), shards.len(), is_intact, || {})
}

pub(crate) fn new_manifest(plan: &DatasetPlan) -> Manifest {
    let ShardHeader {
        layout,
        classes,
        parts,
        recipe,
        adapter,
    } = plan.header.clone();
    let mut manifest = Manifest {
        schema_version: SCHEMA_VERSION,
        generator: GENERATOR.to_owned(),
        sha256: None,
        part: plan.part,
        parent: plan.parent.clone(),
        is_relit: plan.is_relit,
        source: SourceDescription {
            content_sha256: None,
            ..plan.source.clone()
        },
        recipe,
        adapter,
        layout,
        classes,
        parts,
        num_shards: plan.num_shards.clone(),
        shards: Vec::new(),
        skipped: plan.skipped.clone(),
    };
    manifest.sort_skipped();
    manifest
}

/// Differences between two plans, such as `recipe.render.size_px is 64 there and 224 here`.
pub(crate) fn differences(found: &Manifest, expected: &Manifest) -> Vec<String> {
    let identity = |manifest: &Manifest| {
        // Exhaustive: a new field must be classified as part of the plan or as progress.
        let Manifest {
            schema_version,
            generator,
            sha256: _,
            part,
            parent,
            is_relit,
            source:
                SourceDescription {
                    layout: source_layout,
                    publication,
                    splits,
                    num_objects,
                    listing_sha256,
                    content_sha256: _,
                },
            recipe,
            adapter,
            layout,
            classes,
            parts,
            num_shards,
            shards: _,
            skipped: _,
        } = manifest;
        serde_json::json!({
            "schema version": schema_version,
            "program": generator,
            "parent": parent,
            "relit": is_relit,
            "part": part.map_or_else(|| "all".to_owned(), |part| part.to_string()),
            "source": { "layout": source_layout, "publication": publication, "splits": splits, "number of objects": num_objects, "listing": listing_sha256 },
            "recipe": recipe,
            "adapter": adapter,
            "row layout": layout,
            "classes": classes,
            "parts": parts,
            "shards": num_shards,
        })
    };
    json_differences(&identity(found), &identity(expected))
}

/// Refuses a folder that contains unrelated files.
fn check_no_foreign_files(dir: &Path) -> Result<()> {
    let found = store::list(dir)?;
    let is_foreign = |name: &str| !is_dataset_file(name) || is_foreign(dir, name);
    match found.into_iter().find(|found| is_foreign(&found.name)) {
        Some(foreign) => Err(DatasetError::Store(StoreError::ForeignFiles {
            name: foreign.name.trim_end_matches('/').to_owned(),
            path: dir.to_owned(),
        })),
        None => Ok(()),
    }
}

/// Refuses to replace a folder that holds anything but a dataset of this program, complete or not. The proof is the
/// manifest, which names the program; image sets and feature sets may lie beside the shards.
fn check_replaceable(dir: &Path) -> Result<()> {
    if !store::is_url(dir) {
        refuse_link(dir)?;
    }
    let listed = match manifest_file(dir)? {
        Some((path, bytes)) => listed_shards(&bytes).ok_or_else(|| {
            let name = path.file_name().unwrap_or_default().display();
            DatasetError::Store(StoreError::NotOurs {
                what: format!("its {name} is not the manifest of a dataset"),
                path: dir.to_owned(),
            })
        })?,
        None => BTreeSet::new(),
    };
    let mut foreign = Vec::new();
    for found in store::list(dir)? {
        let name = found.name.as_str();
        let folder = name.strip_suffix('/');
        if let Some(folder) = folder.filter(|folder| IMAGE_SET_FOLDERS.contains(folder)) {
            let sets = dir.join(folder);
            for set in store::list(&sets)? {
                let manifest = manifest_file(&sets.join(&set.name));
                let is_ours = |bytes: &[u8]| listed_shards(bytes).is_some();
                if !manifest.is_ok_and(|found| found.is_some_and(|(_, bytes)| is_ours(&bytes))) {
                    foreign.push(format!("{folder}/{}", set.name));
                }
            }
        } else if folder == Some(FEATURE_SETS) {
            let sets = dir.join(FEATURE_SETS);
            let found = store::list(&sets)?.into_iter();
            let others = found.filter(|set| !is_feature_set(&sets.join(&set.name)));
            foreign.extend(others.map(|set| format!("{FEATURE_SETS}/{}", set.name)));
        } else if !is_dataset_file(name) || (!listed.contains(name) && is_foreign(dir, name)) {
            foreign.push(found.name);
        }
    }
    refuse_foreign(dir, foreign)
}

/// Shards that a manifest lists; `None` if this program did not write it, in any version. A truncated or damaged one still
/// begins with the generator.
fn listed_shards(manifest: &[u8]) -> Option<BTreeSet<String>> {
    let program = GENERATOR.split(' ').next().unwrap_or_default();
    let Ok(manifest) = serde_json::from_slice::<Value>(manifest) else {
        let begin = &manifest[..manifest.len().min(256)];
        let begin = String::from_utf8_lossy(begin);
        let is_ours = begin.contains(&format!("\"generator\": \"{program} "));
        return is_ours.then(BTreeSet::new);
    };
    let generator = manifest.get("generator")?.as_str()?;
    if generator.split(' ').next() != Some(program) {
        return None;
    }
    let shards = manifest.get("shards").and_then(Value::as_array);
    let names = shards
        .into_iter()
        .flatten()
        .filter_map(|shard| shard["file"].as_str());
    Some(names.map(str::to_owned).collect())
}

/// Whether it is a complete Parquet file or a manifest of another program: others use the same names.
fn is_foreign(dir: &Path, name: &str) -> bool {
    let path = dir.join(name);
    if name == OLD_MANIFEST_FILE_NAME {
        let bytes = store::read_bounded(&path, MAX_MANIFEST_BYTES);
        return !bytes.is_ok_and(|bytes| listed_shards(&bytes).is_some());
    }
    if !is_shard_name(name) {
        return false;
    }
    let is_parquet = store::open(&path).is_ok_and(|file| {
        let len = file.len();
        len > 2 * PARQUET_MAGIC.len() as u64
            && file
                .bytes(len - PARQUET_MAGIC.len() as u64, PARQUET_MAGIC.len())
                .is_ok_and(|end| end == PARQUET_MAGIC.as_slice())
    });
    is_parquet && ShardReader::open(&path).is_err()
}

/// Whether a dataset writer creates files with this name.
fn is_dataset_file(name: &str) -> bool {
    let whole = name.strip_suffix(".partial").unwrap_or(name);
    is_manifest_name(whole) || is_shard_name(whole.strip_suffix(JOURNAL_SUFFIX).unwrap_or(whole))
}

/// `<split>-<5 digits>-of-<5 digits>`, with the extension of a shard or of an image set's shard.
fn is_shard_name(name: &str) -> bool {
    let parse = || {
        let (split, rest) = shard_stem(name)?.split_once('-')?;
        let (shard_idx, num_shards) = rest.split_once("-of-")?;
        let split = Split::ALL.into_iter().find(|s| s.as_str() == split)?;
        Some(shard_file_name(
            split,
            shard_idx.parse().ok()?,
            num_shards.parse().ok()?,
        ))
    };
    parse().is_some_and(|shard| shard == name || image_shard_file_name(&shard) == name)
}

/// Removes dataset files that the manifest does not list; refuses where one is another program's shard.
fn remove_stale_files(dir: &Path, manifest: &Manifest) -> Result<()> {
    let listed: BTreeSet<&str> = manifest.shards.iter().map(|shard| shard.file.as_str()).collect();
    let found = store::list(dir)?;
    let names = found.iter().map(|file| file.name.as_str());
    let is_stale =
        |name: &&str| is_dataset_file(name) && *name != MANIFEST_FILE_NAME && !listed.contains(name);
    let stale: Vec<&str> = names.filter(is_stale).collect();
    match stale.iter().find(|name| is_foreign(dir, name)) {
        Some(foreign) => Err(DatasetError::Store(StoreError::ForeignFiles {
            name: (*foreign).to_owned(),
            path: dir.to_owned(),
        })),
        None => store::remove_all(dir, stale),
    }
}
