//! [`DatasetWriter`]: shards and manifest together, in the order of a plan; goes on where a killed run stopped.
//!
//! The plan (how many shards, which objects) is fixed before the first row, so that a row's shard never depends on
//! what was skipped before it. After each shard a note of it is written; only then does the shard exist. At the end the
//! manifest takes all notes in. What a killed run left under a `.partial` name, or under a final name without being
//! listed, is removed; a listed shard whose bytes are not those that were written is made again, and no other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::image_set::IMAGE_SETS;
use crate::manifest::{MAX_MANIFEST_BYTES, NOTE_SUFFIX, ShardNote};
use crate::owned_folder::{refuse_foreign, refuse_link};
use crate::parallel::{in_parallel, num_threads};
use crate::{
    BuildPart, DatasetError, GENERATOR, MANIFEST_FILE_NAME, Manifest, ObjectEntry, ObjectId, Result,
    SCHEMA_VERSION, Sample, ShardCount, ShardEntry, ShardHeader, ShardReader, ShardWriter, SkipReason,
    SkippedObject, SourceDescription, Split, durable, shard_file_name, store,
};

/// What a Parquet file ends with.
const PARQUET_MAGIC: &[u8; 4] = b"PAR1";

/// What is known of a dataset before its first row.
#[derive(Debug, Clone, PartialEq)]
pub struct DatasetPlan {
    /// What every shard says about itself.
    pub header: ShardHeader,
    /// What the dataset is made from.
    pub source: SourceDescription,
    /// How many shards each split has.
    pub num_shards: Vec<ShardCount>,
    /// Which of them are to be written; `None` for all.
    pub part: Option<BuildPart>,
    /// The dataset that this one was derived from, by its hash.
    pub parent: Option<String>,
    /// Are its pictures lit from the G-buffer of that dataset, and not drawn?
    pub is_relit: bool,
    /// Objects that are left out before any is read.
    pub skipped: Vec<SkippedObject>,
}

/// The file that an object was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectFile<'a> {
    /// Relative to the source.
    pub path: &'a str,
    /// Its length when the source was looked through.
    pub bytes: u64,
}

/// Writes a dataset, shard after shard in the order of the plan.
#[derive(Debug)]
pub struct DatasetWriter {
    dir: PathBuf,
    header: ShardHeader,
    manifest: Manifest,
    planned: Vec<(Split, String)>,
    /// The places in the plan of the shards that are still to be made.
    missing: VecDeque<usize>,
    /// Shards of an earlier run that were lost or damaged.
    lost: Vec<String>,
    in_work: ShardInWork,
    /// Names the plan in the notes.
    plan_sha256: String,
    /// Held while the folder is written to.
    claim: store::Claim,
}

/// The shard that rows are being appended to, and what its entry will say.
#[derive(Debug, Default)]
struct ShardInWork {
    writer: Option<ShardWriter>,
    /// What it was made from.
    source: Sha256,
    objects: Vec<ObjectEntry>,
    skipped: Vec<SkippedObject>,
}

impl DatasetWriter {
    /// Begins a dataset in `dir`, or goes on with it: reads what shards there are and proves their hashes.
    ///
    /// # Errors
    /// When `dir` holds a dataset of another plan (unless `force` says to start anew), or files of the user's (with
    /// `force` beside a dataset too), when another program is writing to it, or when it can't be written to.
    pub fn open(dir: &Path, plan: &DatasetPlan, force: bool) -> Result<Self> {
        if force {
            refuse_to_replace(dir)?;
        }
        let mut claim = store::claim(dir, MANIFEST_FILE_NAME)?;
        let fresh = fresh_manifest(plan);
        let mut manifest = match Manifest::read(dir) {
            Ok(found) if !force => {
                let differences = differences(&found, &fresh);
                if !differences.is_empty() {
                    return Err(DatasetError::OtherPlan {
                        differences: differences.join("; "),
                        path: dir.to_owned(),
                    });
                }
                found
            }
            Ok(_) => fresh.clone(),
            Err(DatasetError::NoManifest { .. }) => {
                refuse_foreign_files(dir)?;
                fresh.clone()
            }
            Err(_) if force => fresh.clone(),
            Err(e) => return Err(e),
        };
        let planned = manifest.planned_shards();
        let lost = manifest.forget_damaged_shards(dir, &planned);
        for shard in &lost {
            tracing::warn!(shard, "the shard is missing or damaged; it is made again");
        }
        let places = manifest
            .places(&planned)
            .map_err(|what| DatasetError::ManifestContent {
                what,
                path: dir.join(MANIFEST_FILE_NAME),
            })?;
        let mut missing: VecDeque<usize> = manifest.own_shards().into();
        missing.retain(|shard| places.binary_search(shard).is_err());
        claim.replace(&dir.join(MANIFEST_FILE_NAME), &manifest.to_json())?;
        sweep(dir, &manifest)?;
        Ok(Self {
            dir: dir.to_owned(),
            header: plan.header.clone(),
            plan_sha256: manifest.plan_sha256(),
            manifest,
            planned,
            missing,
            lost,
            in_work: ShardInWork::default(),
            claim,
        })
    }

    /// What is there so far.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The places in the plan of the shards that are still to be made, in order; rows go into the first of them.
    #[must_use]
    pub fn missing_shards(&self) -> impl ExactSizeIterator<Item = usize> {
        self.missing.iter().copied()
    }

    /// Shards of an earlier run that were lost or damaged since, and are to be made again.
    #[must_use]
    pub fn lost_shards(&self) -> &[String] {
        &self.lost
    }

    /// Appends a row to the shard in work.
    ///
    /// # Errors
    /// When the sample doesn't fit the plan, or the disk is full.
    pub fn append(&mut self, sample: &Sample, file: ObjectFile<'_>) -> Result<()> {
        self.shard()?.append(sample)?;
        self.in_work.add_object(ObjectEntry {
            id: sample.id.clone(),
            path: file.path.to_owned(),
            bytes: file.bytes,
            sha256: Some(sample.source_sha256.clone()),
            assets_sha256: sample.assets_sha256.clone(),
            row: Some(sample.digest()),
        });
        Ok(())
    }

    /// Notes that an object of the shard in work is left out.
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
        self.in_work.skipped.push(SkippedObject {
            id: id.to_string(),
            split: Some(self.planned[shard].0),
            path: file.path.to_owned(),
            reason,
            message,
            shard: Some(shard),
        });
        self.in_work.add_object(ObjectEntry {
            id: id.clone(),
            path: file.path.to_owned(),
            bytes: file.bytes,
            sha256: source_sha256,
            assets_sha256: None,
            row: None,
        });
    }

    /// Ends the shard in work: from here on it exists, whatever happens.
    ///
    /// # Errors
    /// When the disk is full or the folder can't be written to.
    ///
    /// # Panics
    /// When the plan has no further shard.
    pub fn finish_shard(&mut self) -> Result<&ShardEntry> {
        // A shard of skipped objects alone is a shard without rows.
        self.shard()?;
        let ShardInWork {
            writer,
            source,
            objects,
            skipped,
        } = std::mem::take(&mut self.in_work);
        let digest = writer.expect("a shard is in work").finish()?;
        let (split, file) = self.planned[self.missing[0]].clone();
        let entry = ShardEntry {
            file,
            split,
            rows: digest.rows,
            bytes: digest.bytes,
            sha256: digest.sha256,
            source_sha256: durable::hex(&source.finalize()),
            objects,
        };
        self.take_in(entry, skipped)
    }

    /// Takes over a finished shard of another folder as the next one, with what was left out of it.
    ///
    /// # Errors
    /// When its bytes are not those that its entry promises, when it can't be read, or the disk is full.
    ///
    /// # Panics
    /// When the plan's next shard is another one.
    pub(crate) fn adopt_shard(
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
            self.take_in(entry, skipped)
        } else {
            // Not in the manifest yet, so it does not exist; but it bears a final name.
            store::remove_all(&self.dir, [entry.file.as_str()])?;
            Err(DatasetError::ShardChanged { path: from })
        }
    }

    fn take_in(&mut self, entry: ShardEntry, mut skipped: Vec<SkippedObject>) -> Result<&ShardEntry> {
        let note = ShardNote {
            plan_sha256: self.plan_sha256.clone(),
            entry: entry.clone(),
            skipped: skipped.clone(),
        };
        let note_file = self.dir.join(ShardNote::file_name(&entry.file));
        let json = serde_json::to_vec(&note).expect("a note has a JSON form");
        store::replace(&note_file, &json)?;

        let shard = self.missing.pop_front().expect("a shard was in work");
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

    /// Declares the dataset complete; a part of one is left as it is, whole when it has all of its shards.
    ///
    /// # Errors
    /// When no object survived, or the manifest can't be written.
    ///
    /// # Panics
    /// When the plan has further shards.
    pub fn finish(mut self) -> Result<Manifest> {
        assert!(self.missing.is_empty(), "every shard of the plan is finished");
        if self.manifest.part.is_none() {
            self.refuse_nothing()?;
            let content = self
                .manifest
                .shards
                .iter()
                .fold(Sha256::new(), |hash, s| hash.chain_update(&s.source_sha256));
            self.manifest.source.content_sha256 = Some(durable::hex(&content.finalize()));
            self.manifest.sha256 = Some(self.manifest.hash_of_shards());
        }
        self.refuse_loss()?;
        self.claim
            .replace(&self.dir.join(MANIFEST_FILE_NAME), &self.manifest.to_json())?;
        sweep(&self.dir, &self.manifest)?;
        Ok(self.manifest)
    }

    /// A dataset without a row is none.
    fn refuse_nothing(&self) -> Result<()> {
        if self.manifest.shards.iter().all(|shard| shard.rows == 0) {
            let num_objects = self.manifest.source.num_objects;
            let reasons = self
                .manifest
                .skipped
                .iter()
                .take(3)
                .map(|s| format!("{}: {} ({})", s.id, s.reason, s.message));
            let reasons = reasons.collect::<Vec<_>>().join("; ");
            // Shards without a row are of no use, and would be in the way of the next attempt.
            let found = store::list(&self.dir)?;
            let ours = found.iter().map(|file| file.name.as_str());
            store::remove_all(&self.dir, ours.filter(|name| is_ours(name)))?;
            return Err(DatasetError::NothingSurvived { num_objects, reasons });
        }
        Ok(())
    }

    /// Whoever removes shards while others are made shall not go unnoticed.
    fn refuse_loss(&self) -> Result<()> {
        let found = store::list(&self.dir)?;
        let found: BTreeMap<&str, u64> = found
            .iter()
            .map(|file| (file.name.as_str(), file.bytes))
            .collect();
        let is_lost = |shard: &&ShardEntry| found.get(shard.file.as_str()) != Some(&shard.bytes);
        match self.manifest.shards.iter().find(is_lost) {
            Some(shard) => Err(DatasetError::ShardChanged {
                path: self.dir.join(&shard.file),
            }),
            None => Ok(()),
        }
    }

    fn shard(&mut self) -> Result<&mut ShardWriter> {
        if self.in_work.writer.is_none() {
            let shard = *self.missing.front().expect("the plan has a further shard");
            let (_, file) = &self.planned[shard];
            self.in_work.writer = Some(ShardWriter::create(&self.dir, file, &self.header)?);
        }
        Ok(self.in_work.writer.as_mut().expect("it was just begun"))
    }
}

/// Why an object is left out, and the hash of its mesh as far as that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Why, in a word.
    pub reason: SkipReason,
    /// Why, in a sentence.
    pub message: String,
    /// The hash of the mesh file; `None` if it could not be read.
    pub source_sha256: Option<String>,
}

impl ShardInWork {
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

/// Writes samples that are in memory as a whole dataset; rows are sorted by id.
///
/// # Errors
/// When an id appears twice, a sample doesn't fit the header, or the folder can't be written to.
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
        return Err(DatasetError::Row {
            id: pair[0].to_string(),
            what: "its id appears twice".to_owned(),
        });
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
            listing_sha256: durable::hex(&listing.finalize()),
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

/// How many shards each split takes; splits without an object take none.
pub(crate) fn num_shards(rows_per_shard: usize, num_objects: impl Fn(Split) -> usize) -> Vec<ShardCount> {
    let counts = Split::ALL.map(|split| ShardCount {
        split,
        shards: num_objects(split).div_ceil(rows_per_shard),
    });
    counts.into_iter().filter(|count| count.shards > 0).collect()
}

impl Manifest {
    /// Strikes the shards out whose files are gone or are not what was written, and says which.
    fn forget_damaged_shards(&mut self, dir: &Path, planned: &[(Split, String)]) -> Vec<String> {
        let is_whole = prove(dir, &self.shards);
        let damaged: Vec<String> = self
            .shards
            .iter()
            .zip(is_whole)
            .filter(|(_, is_whole)| !is_whole)
            .map(|(shard, _)| shard.file.clone())
            .collect();
        if damaged.is_empty() {
            return damaged;
        }
        self.shards.retain(|shard| !damaged.contains(&shard.file));
        let is_damaged = |shard: usize| planned.get(shard).is_some_and(|(_, file)| damaged.contains(file));
        self.skipped
            .retain(|skipped| !skipped.shard.is_some_and(is_damaged));
        self.sha256 = None;
        self.source.content_sha256 = None;
        damaged
    }
}

/// Are the shards on disk what the manifest says? Hashed side by side, because a resumed build waits for it.
fn prove(dir: &Path, shards: &[ShardEntry]) -> Vec<bool> {
    let is_whole = |i: usize| {
        let shard = &shards[i];
        store::is_whole(&dir.join(&shard.file), shard.bytes, &shard.sha256)
    };
    in_parallel(num_threads(0), shards.len(), is_whole, || {})
}

pub(crate) fn fresh_manifest(plan: &DatasetPlan) -> Manifest {
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

/// In what two plans differ, in words: `recipe.render.size_px is 64 there and 224 here`.
pub(crate) fn differences(found: &Manifest, fresh: &Manifest) -> Vec<String> {
    let identity = |manifest: &Manifest| {
        // Destructured whole: a new field must be sorted into what identifies a plan and what grows.
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
    let mut differences = Vec::new();
    compare("", &identity(found), &identity(fresh), &mut differences);
    differences
}

fn compare(path: &str, found: &Value, fresh: &Value, differences: &mut Vec<String>) {
    if let (Value::Object(found), Value::Object(fresh)) = (found, fresh) {
        let keys: BTreeSet<_> = found.keys().chain(fresh.keys()).collect();
        for key in keys {
            let path = if path.is_empty() {
                key.clone()
            } else {
                format!("{path}.{key}")
            };
            let value = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or(Value::Null);
            compare(&path, &value(found), &value(fresh), differences);
        }
    } else if found != fresh {
        let (found, fresh) = (found.to_string(), fresh.to_string());
        differences.push(if found.len() + fresh.len() > 120 {
            format!("{path} differs")
        } else {
            format!("{path} is {found} there and {fresh} here")
        });
    }
}

/// A folder in which somebody else keeps files is no place for a dataset.
fn refuse_foreign_files(dir: &Path) -> Result<()> {
    let found = store::list(dir)?;
    let is_foreign = |name: &str| !is_ours(name) || is_foreign_shard(dir, name);
    match found.into_iter().find(|found| is_foreign(&found.name)) {
        Some(foreign) => Err(DatasetError::ForeignFiles {
            name: foreign.name.trim_end_matches('/').to_owned(),
            path: dir.to_owned(),
        }),
        None => Ok(()),
    }
}

/// Refuses to begin a dataset anew where the folder holds anything but one of ours, whole or not. The proof is the
/// manifest, which names the program; image sets may lie beside the shards.
fn refuse_to_replace(dir: &Path) -> Result<()> {
    if !store::is_address(dir) {
        refuse_link(dir)?;
    }
    let path = dir.join(MANIFEST_FILE_NAME);
    let listed = match store::read_bounded(&path, MAX_MANIFEST_BYTES) {
        Ok(bytes) => match listed_shards(&bytes) {
            Some(listed) => listed,
            None => {
                return Err(DatasetError::NotOurs {
                    what: format!("its {MANIFEST_FILE_NAME} is not the manifest of a dataset"),
                    path: dir.to_owned(),
                });
            }
        },
        Err(e) if e.kind() == io::ErrorKind::NotFound => BTreeSet::new(),
        Err(e) => return Err(DatasetError::io("read the manifest", &path)(e)),
    };
    let mut foreign = Vec::new();
    for found in store::list(dir)? {
        let name = found.name.as_str();
        if name.strip_suffix('/') == Some(IMAGE_SETS) {
            let sets = dir.join(IMAGE_SETS);
            for set in store::list(&sets)? {
                let manifest = sets.join(&set.name).join(MANIFEST_FILE_NAME);
                let bytes = store::read_bounded(&manifest, MAX_MANIFEST_BYTES);
                if !bytes.is_ok_and(|bytes| listed_shards(&bytes).is_some()) {
                    foreign.push(format!("{IMAGE_SETS}/{}", set.name));
                }
            }
        } else if !is_ours(name) || (!listed.contains(name) && is_foreign_shard(dir, name)) {
            foreign.push(found.name);
        }
    }
    refuse_foreign(dir, foreign)
}

/// The shards that a manifest names; `None` if the file is no manifest of ours, of whatever version. One that is cut off
/// or damaged still begins as ours do.
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

/// Is it a whole Parquet file that no build of ours wrote? Others name their shards in the same way.
fn is_foreign_shard(dir: &Path, name: &str) -> bool {
    if !is_shard_name(name) {
        return false;
    }
    let path = dir.join(name);
    let is_parquet = store::open(&path).is_ok_and(|file| {
        let len = file.len();
        len > 2 * PARQUET_MAGIC.len() as u64
            && file
                .bytes(len - PARQUET_MAGIC.len() as u64, PARQUET_MAGIC.len())
                .is_ok_and(|end| end == PARQUET_MAGIC.as_slice())
    });
    is_parquet && ShardReader::open(&path).is_err()
}

/// Could a build have left a file of this name behind before its first manifest?
fn is_ours(name: &str) -> bool {
    let whole = name.strip_suffix(".partial").unwrap_or(name);
    whole == MANIFEST_FILE_NAME || is_shard_name(whole.strip_suffix(NOTE_SUFFIX).unwrap_or(whole))
}

/// `<split>-<5 digits>-of-<5 digits>.parquet`
fn is_shard_name(name: &str) -> bool {
    let parse = || {
        let (split, rest) = name.strip_suffix(".parquet")?.split_once('-')?;
        let (shard_idx, num_shards) = rest.split_once("-of-")?;
        let split = Split::ALL.into_iter().find(|s| s.as_str() == split)?;
        Some(shard_file_name(
            split,
            shard_idx.parse().ok()?,
            num_shards.parse().ok()?,
        ))
    };
    parse().as_deref() == Some(name)
}

/// Removes what bears a name of ours and isn't in the manifest; another program's shard is refused.
fn sweep(dir: &Path, manifest: &Manifest) -> Result<()> {
    let listed: BTreeSet<&str> = manifest.shards.iter().map(|shard| shard.file.as_str()).collect();
    let found = store::list(dir)?;
    let names = found.iter().map(|file| file.name.as_str());
    let is_stray = |name: &&str| is_ours(name) && *name != MANIFEST_FILE_NAME && !listed.contains(name);
    let stray: Vec<&str> = names.filter(is_stray).collect();
    match stray.iter().find(|name| is_foreign_shard(dir, name)) {
        Some(foreign) => Err(DatasetError::ForeignFiles {
            name: (*foreign).to_owned(),
            path: dir.to_owned(),
        }),
        None => store::remove_all(dir, stray),
    }
}
