//! [`OpenShards`]: the shards of a dataset, opened when they are first read. Those that were used last stay open, within
//! bounds on the memory of their footers and on the number of files.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::error::{DatasetError, Result, ShardError};
use crate::manifest::Manifest;
use crate::shard::ShardReader;
use crate::store::FileCache;

/// Memory of the footers that are kept.
pub(super) const MAX_FOOTER_BYTES: usize = 256 << 20;
/// Files that are open at a time.
const MAX_OPEN_FILES: usize = 16;

/// A shard that may be open.
#[derive(Debug)]
pub(super) struct ShardSlot {
    path: PathBuf,
    num_rows: usize,
    num_bytes: u64,
    /// What the shard holds, whatever a foreign one says of itself.
    manifest: Arc<Manifest>,
    is_foreign: bool,
    open: RwLock<Option<Arc<ShardReader>>>,
    /// Time of the last use.
    used: AtomicU64,
}

impl ShardSlot {
    pub(super) fn new(path: PathBuf, num_rows: usize, num_bytes: u64, manifest: &Arc<Manifest>) -> Self {
        Self {
            path,
            num_rows,
            num_bytes,
            manifest: Arc::clone(manifest),
            is_foreign: false,
            open: RwLock::default(),
            used: AtomicU64::default(),
        }
    }

    /// A shard of another program, with as many rows as it says.
    #[cfg(feature = "build")]
    pub(super) fn foreign(path: &Path, num_bytes: u64, manifest: &Arc<Manifest>) -> Result<Self> {
        let files = Arc::new(FileCache::new(1));
        let open_error = DatasetError::io("open the shard", path);
        let shard = ShardReader::from_foreign(files.file(path).map_err(open_error)?, path, manifest)?;
        Ok(Self {
            is_foreign: true,
            ..Self::new(path.to_owned(), shard.num_rows(), num_bytes, manifest)
        })
    }

    pub(super) fn num_rows(&self) -> usize {
        self.num_rows
    }

    /// Opens the shard and checks it against the manifest.
    fn open(&self, files: &Arc<FileCache>) -> Result<ShardReader> {
        let (path, manifest) = (&self.path, &self.manifest);
        let file = files
            .file(path)
            .map_err(DatasetError::io("open the shard", path))?;
        let found = file.len();
        if found != self.num_bytes {
            return Err(DatasetError::Shard(ShardError::Length {
                expected: self.num_bytes,
                found,
                path: path.clone(),
            }));
        }
        #[cfg(feature = "build")]
        if self.is_foreign {
            return ShardReader::from_foreign(file, path, manifest);
        }
        debug_assert!(!self.is_foreign, "only builds adopt shards");
        let shard = ShardReader::from_file(file, path, Some(manifest))?;
        let invalid = |detail: String| {
            let path = path.clone();
            DatasetError::Shard(ShardError::Invalid { detail, path })
        };
        let header = shard.header();
        if (header.layout, &header.classes, &header.parts)
            != (manifest.layout, &manifest.classes, &manifest.parts)
        {
            return Err(invalid("its metadata does not match the manifest".to_owned()));
        }
        if shard.num_rows() != self.num_rows {
            let (found, expected) = (shard.num_rows(), self.num_rows);
            return Err(invalid(format!("{found} rows instead of {expected}")));
        }
        Ok(shard)
    }
}

/// Shards of a dataset and of its image set, by number.
#[derive(Debug)]
pub(super) struct OpenShards {
    slots: Vec<ShardSlot>,
    files: Arc<FileCache>,
    max_footer_bytes: usize,
    footer_bytes: AtomicUsize,
    /// Counts uses.
    clock: AtomicU64,
    evicting: Mutex<()>,
}

impl OpenShards {
    pub(super) fn new(slots: Vec<ShardSlot>, max_footer_bytes: usize) -> Self {
        Self {
            slots,
            files: Arc::new(FileCache::new(MAX_OPEN_FILES)),
            max_footer_bytes,
            footer_bytes: AtomicUsize::default(),
            clock: AtomicU64::default(),
            evicting: Mutex::default(),
        }
    }

    pub(super) fn slots(&self) -> &[ShardSlot] {
        &self.slots
    }

    /// Adds shards; their numbers follow those that are there.
    pub(super) fn extend(&mut self, slots: impl IntoIterator<Item = ShardSlot>) {
        self.slots.extend(slots);
    }

    /// A shard, opened if it is not open.
    ///
    /// # Errors
    /// When it is missing, truncated or damaged, or belongs to another dataset.
    pub(super) fn get(&self, number: usize) -> Result<Arc<ShardReader>> {
        let slot = &self.slots[number];
        slot.used
            .store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        if let Some(shard) = &*slot.open.read().unwrap_or_else(PoisonError::into_inner) {
            return Ok(Arc::clone(shard));
        }
        let shard = {
            let mut open = slot.open.write().unwrap_or_else(PoisonError::into_inner);
            if let Some(shard) = &*open {
                return Ok(Arc::clone(shard));
            }
            let shard = Arc::new(slot.open(&self.files)?);
            self.footer_bytes
                .fetch_add(shard.footer_bytes(), Ordering::Relaxed);
            *open = Some(Arc::clone(&shard));
            shard
        };
        self.evict(number);
        Ok(shard)
    }

    /// Closes shards that were not used for longest until the others keep the bound; never the one that was just opened.
    fn evict(&self, newest: usize) {
        if self.footer_bytes.load(Ordering::Relaxed) <= self.max_footer_bytes {
            return;
        }
        let _evicting = self.evicting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut by_use: Vec<(u64, usize)> = Vec::new();
        for (number, slot) in self.slots.iter().enumerate() {
            let is_open = slot.open.try_read().is_ok_and(|open| open.is_some());
            if is_open && number != newest {
                by_use.push((slot.used.load(Ordering::Relaxed), number));
            }
        }
        by_use.sort_unstable();
        // A tenth more than needed, so that not every shard that is opened looks for one to close.
        let wanted = self.max_footer_bytes - self.max_footer_bytes / 10;
        for (_, number) in by_use {
            if self.footer_bytes.load(Ordering::Relaxed) <= wanted {
                break;
            }
            let Ok(mut open) = self.slots[number].open.try_write() else {
                continue;
            };
            if let Some(shard) = open.take() {
                self.footer_bytes
                    .fetch_sub(shard.footer_bytes(), Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::schema::{Columns, ObjectId, RowLayout, Sample, ShardHeader, Split};
    use crate::shard::ViewSelection;
    use crate::writer::write_samples;

    const NUM_SHARDS: usize = 30;

    fn write(dir: &Path) -> Arc<Manifest> {
        let header = ShardHeader {
            layout: RowLayout {
                num_points: 2,
                num_views: 0,
                image_size_px: 0,
                columns: Columns::POINTS,
            },
            classes: vec!["chair".to_owned()],
            parts: Vec::new(),
            recipe: serde_json::Value::Null,
            adapter: serde_json::Value::Null,
        };
        let sample = |number: usize| Sample {
            id: ObjectId::try_new("chair", &format!("{number:03}")).unwrap(),
            category: "chair".to_owned(),
            label: 0,
            points: vec![[number as f32; 3]; 2],
            normals: None,
            part_labels: None,
            views: Vec::new(),
            coverage_min: None,
            object_from_mesh: [0.5; 16],
            source_sha256: "0".repeat(64),
            assets_sha256: None,
            mesh: None,
        };
        let samples = (0..NUM_SHARDS).map(|number| (Split::Train, sample(number)));
        Arc::new(write_samples(dir, &header, 1, samples.collect()).unwrap())
    }

    #[test]
    fn footers_are_kept_within_their_bound() {
        let dir = tempfile::tempdir().unwrap();
        let manifest = write(dir.path());
        let slots = |max_footer_bytes| {
            let shards = manifest.shards.iter();
            let slots = shards.map(|shard| {
                ShardSlot::new(dir.path().join(&shard.file), shard.rows, shard.bytes, &manifest)
            });
            OpenShards::new(slots.collect(), max_footer_bytes)
        };
        let one = slots(usize::MAX).get(0).unwrap().footer_bytes();
        let open = slots(10 * one);
        let is_open = |number: usize| open.slots[number].open.read().unwrap().is_some();
        for number in 0..NUM_SHARDS {
            let held = open.get(number).unwrap();
            // Used all the time, so it stays.
            open.get(0).unwrap();
            let sample = held.read(0, ViewSelection::None).unwrap();
            assert_eq!(sample.id.name(), format!("{number:03}"));
            let num_open = (0..NUM_SHARDS).filter(|&number| is_open(number)).count();
            assert!(num_open <= 10, "{num_open} shards are open");
            assert!(is_open(0) && is_open(number), "the first and the newest");
        }
        assert!(!is_open(1) && is_open(NUM_SHARDS - 2), "the oldest went first");
        let sum: usize = (0..NUM_SHARDS)
            .filter(|&number| is_open(number))
            .map(|_| one)
            .sum();
        assert_eq!(open.footer_bytes.load(Ordering::Relaxed), sum, "all are counted");
    }
}
