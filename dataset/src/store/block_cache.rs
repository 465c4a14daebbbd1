//! [`BlockCache`]: blocks of objects in a store, in memory and on the local disk.
//!
//! Both parts are bounded and drop what was not used for longest. On disk a block is a file with a checksum, which appears
//! whole, under the hash of the object's URL and version: so an object that was replaced is another one, several processes
//! share a cache, and any of them may remove any block at any time. Where the disk is full or cannot be written to, the cache
//! is one of memory.
//!
//! `TAP_CACHE_DIR` names the folder (`$XDG_CACHE_HOME/tap/blocks` or `~/.cache/tap/blocks`), `TAP_CACHE_MIB` its size in MiB
//! ([`DEFAULT_DISK_MIB`]); 0 turns it off.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use flate2::Crc;

use crate::sha256;

/// Bytes of a block; the last one of an object may be shorter.
pub(super) const BLOCK_BYTES: u64 = 1 << 16;
/// Blocks in memory: 128 MiB.
const MAX_MEMORY_BLOCKS: usize = 2048;
/// Blocks on disk, in MiB.
const DEFAULT_DISK_MIB: u64 = 4096;
/// What is left when the disk cache is full and blocks are removed.
const KEPT_FRACTION: f64 = 0.9;
/// How much later than before a use of a block is noted.
const USE_INTERVAL: Duration = Duration::from_mins(1);
/// Age at which a file that is not whole is one that a kill left behind.
const STALE_AGE: Duration = Duration::from_hours(1);
/// Checksum behind a block.
const NUM_CHECKSUM_BYTES: usize = 4;
const LOCK_NAME: &str = "lock";
const PARTIAL: &str = "partial";

/// An object as it is in one version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ObjectVersion(Arc<str>);

impl ObjectVersion {
    /// By URL, tag of the version and length.
    pub(super) fn new(url: &str, tag: &str, num_bytes: u64) -> Self {
        Self(sha256::of_bytes(format!("{url}\n{tag}\n{num_bytes}")).into())
    }
}

/// Blocks in memory and on disk.
#[derive(Debug)]
pub(super) struct BlockCache {
    memory: Mutex<Memory>,
    disk: Option<DiskCache>,
}

impl BlockCache {
    /// The cache of this process, as the environment says.
    pub(super) fn shared() -> &'static Self {
        static SHARED: LazyLock<BlockCache> = LazyLock::new(|| BlockCache {
            memory: Mutex::default(),
            disk: DiskCache::from_environment(),
        });
        &SHARED
    }

    /// A block of this length, if it is cached.
    pub(super) fn get(&self, object: &ObjectVersion, block: u64, len: usize) -> Option<Bytes> {
        if let Some(bytes) = self.memory().get(object, block) {
            return Some(bytes);
        }
        let bytes = self.disk.as_ref()?.get(object, block, len)?;
        self.memory().put(object, block, bytes.clone());
        Some(bytes)
    }

    pub(super) fn put(&self, object: &ObjectVersion, block: u64, bytes: &Bytes) {
        // Not a part of a larger answer, which would stay in memory with it.
        let bytes = Bytes::copy_from_slice(bytes);
        if let Some(disk) = &self.disk {
            disk.put(object, block, &bytes);
        }
        self.memory().put(object, block, bytes);
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type BlockId = (ObjectVersion, u64);

/// Blocks in memory, by use.
#[derive(Debug, Default)]
struct Memory {
    blocks: BTreeMap<BlockId, (Bytes, u64)>,
    by_use: BTreeMap<u64, BlockId>,
    num_uses: u64,
}

impl Memory {
    fn get(&mut self, object: &ObjectVersion, block: u64) -> Option<Bytes> {
        let id = (object.clone(), block);
        let (bytes, used) = self.blocks.get_mut(&id)?;
        self.num_uses += 1;
        self.by_use.remove(used);
        *used = self.num_uses;
        self.by_use.insert(self.num_uses, id);
        Some(bytes.clone())
    }

    fn put(&mut self, object: &ObjectVersion, block: u64, bytes: Bytes) {
        let id = (object.clone(), block);
        self.num_uses += 1;
        if let Some((_, used)) = self.blocks.insert(id.clone(), (bytes, self.num_uses)) {
            self.by_use.remove(&used);
        }
        self.by_use.insert(self.num_uses, id);
        while self.blocks.len() > MAX_MEMORY_BLOCKS
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.blocks.remove(&oldest);
        }
    }
}

/// Blocks as files of a folder.
#[derive(Debug)]
struct DiskCache {
    dir: PathBuf,
    max_bytes: u64,
    /// Bytes when the folder was last looked at, and what this process has written since.
    num_bytes: AtomicU64,
    first_look: Once,
}

impl DiskCache {
    fn from_environment() -> Option<Self> {
        let mib = match env::var("TAP_CACHE_MIB") {
            Ok(text) => text.trim().parse().unwrap_or_else(|_| {
                tracing::warn!("TAP_CACHE_MIB is '{text}', not a number of MiB; {DEFAULT_DISK_MIB} are used");
                DEFAULT_DISK_MIB
            }),
            Err(_) => DEFAULT_DISK_MIB,
        };
        let path = |name| {
            env::var_os(name)
                .filter(|path| !path.is_empty())
                .map(PathBuf::from)
        };
        let user_cache = || path("XDG_CACHE_HOME").or_else(|| Some(path("HOME")?.join(".cache")));
        let dir = path("TAP_CACHE_DIR").or_else(|| Some(user_cache()?.join("tap").join("blocks")))?;
        (mib > 0).then(|| Self::new(dir, mib << 20))
    }

    fn new(dir: PathBuf, max_bytes: u64) -> Self {
        Self {
            dir,
            max_bytes,
            num_bytes: AtomicU64::default(),
            first_look: Once::new(),
        }
    }

    fn path(&self, ObjectVersion(hash): &ObjectVersion, block: u64) -> PathBuf {
        self.dir.join(&hash[..2]).join(format!("{hash}-{block}"))
    }

    fn get(&self, object: &ObjectVersion, block: u64, len: usize) -> Option<Bytes> {
        let path = self.path(object, block);
        let mut bytes = fs::read(&path).ok()?;
        let checksum = bytes.split_off(bytes.len().checked_sub(NUM_CHECKSUM_BYTES)?);
        if bytes.len() != len || checksum != checksum_of(&bytes) {
            tracing::debug!("a damaged block is fetched again: {}", path.display());
            return None;
        }
        note_use(&path);
        Some(bytes.into())
    }

    /// A block that cannot be stored is fetched again when it is needed.
    fn put(&self, object: &ObjectVersion, block: u64, bytes: &[u8]) {
        self.first_look.call_once(|| {
            self.num_bytes.store(
                self.files().iter().map(|file| file.num_bytes).sum(),
                Ordering::Relaxed,
            );
        });
        let path = self.path(object, block);
        if let Err(error) = write_whole(&path, bytes) {
            tracing::debug!("could not cache {}: {error}", path.display());
            return;
        }
        let written = (bytes.len() + NUM_CHECKSUM_BYTES) as u64;
        if self.num_bytes.fetch_add(written, Ordering::Relaxed) + written > self.max_bytes {
            self.shrink();
        }
    }

    /// Removes the blocks that were not used for longest. One process at a time does; the others go on.
    fn shrink(&self) {
        let Ok(lock) = File::create(self.dir.join(LOCK_NAME)) else {
            return;
        };
        let kept = (self.max_bytes as f64 * KEPT_FRACTION) as u64;
        if lock.try_lock().is_err() {
            self.num_bytes.store(kept, Ordering::Relaxed);
            return;
        }
        let mut files = self.files();
        files.sort_by_key(|file| file.used);
        let mut num_bytes: u64 = files.iter().map(|file| file.num_bytes).sum();
        let stale = SystemTime::now() - STALE_AGE;
        for CachedFile {
            path,
            num_bytes: of_file,
            used,
        } in files
        {
            let is_partial = path.extension().is_some_and(|extension| extension == PARTIAL);
            if num_bytes <= kept && !(is_partial && used < stale) {
                continue;
            }
            if !is_partial || used < stale {
                let _ = fs::remove_file(&path);
                num_bytes -= of_file;
            }
        }
        self.num_bytes.store(num_bytes, Ordering::Relaxed);
    }

    /// All files of the cache.
    fn files(&self) -> Vec<CachedFile> {
        let entries = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten();
        let folders = entries(&self.dir).filter(|entry| entry.path().is_dir());
        let files = folders.flat_map(|folder| entries(&folder.path()));
        let file = |entry: fs::DirEntry| {
            let metadata = entry.metadata().ok()?;
            Some(CachedFile {
                path: entry.path(),
                num_bytes: metadata.len(),
                used: metadata.modified().ok()?,
            })
        };
        files.filter_map(file).collect()
    }
}

struct CachedFile {
    path: PathBuf,
    num_bytes: u64,
    used: SystemTime,
}

fn checksum_of(bytes: &[u8]) -> [u8; NUM_CHECKSUM_BYTES] {
    let mut checksum = Crc::new();
    checksum.update(bytes);
    checksum.sum().to_le_bytes()
}

/// The time of a file's last change is that of its last use.
fn note_use(path: &Path) {
    let now = SystemTime::now();
    let is_noted = |used: SystemTime| now.duration_since(used).is_ok_and(|age| age < USE_INTERVAL);
    if fs::metadata(path)
        .and_then(|metadata| metadata.modified())
        .is_ok_and(is_noted)
    {
        return;
    }
    // Another process may have removed it.
    let _ = File::options()
        .append(true)
        .open(path)
        .and_then(|file| file.set_modified(now));
}

/// Writes a file that appears when it is whole, readable to this user alone: data may be.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    static NUM_WRITTEN: AtomicU64 = AtomicU64::new(0);
    let number = NUM_WRITTEN.fetch_add(1, Ordering::Relaxed);
    let partial = path.with_extension(format!("{}-{number}.{PARTIAL}", process::id()));
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path.parent().unwrap_or(path))?;
    let write = || {
        let mut file = File::create(&partial)?;
        file.write_all(bytes)?;
        file.write_all(&checksum_of(bytes))?;
        drop(file);
        fs::rename(&partial, path)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&partial);
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::thread;

    use super::*;

    fn object(name: &str) -> ObjectVersion {
        ObjectVersion::new(name, "1", 1 << 20)
    }

    #[test]
    fn memory_keeps_what_was_used_last() {
        let mut memory = Memory::default();
        let object = object("s3://b/a");
        for block in 0..MAX_MEMORY_BLOCKS as u64 + 10 {
            memory.put(&object, block, Bytes::from_static(b"block"));
            assert!(memory.get(&object, 0).is_some(), "used again and again");
        }
        assert_eq!(
            (memory.blocks.len(), memory.by_use.len()),
            (MAX_MEMORY_BLOCKS, MAX_MEMORY_BLOCKS)
        );
        assert!(memory.get(&object, 1).is_none(), "not used since");
    }

    #[test]
    fn a_block_is_found_by_object_and_version() {
        let dir = tempfile::tempdir().unwrap();
        let cache = DiskCache::new(dir.path().join("blocks"), 1 << 20);
        let first = object("s3://b/a");
        assert_eq!(cache.get(&first, 0, 5), None, "nothing yet");
        cache.put(&first, 0, b"block");
        assert_eq!(cache.get(&first, 0, 5).unwrap(), "block");
        let another = DiskCache::new(dir.path().join("blocks"), 1 << 20);
        assert_eq!(another.get(&first, 0, 5).unwrap(), "block", "of another process");
        assert_eq!(cache.get(&first, 1, 5), None);
        assert_eq!(cache.get(&object("s3://b/c"), 0, 5), None);
        assert_eq!(
            cache.get(&ObjectVersion::new("s3://b/a", "2", 1 << 20), 0, 5),
            None,
            "replaced"
        );
    }

    #[test]
    fn a_damaged_block_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let cache = DiskCache::new(dir.path().to_owned(), 1 << 20);
        let object = object("s3://b/a");
        for damage in [&b"block"[..], b"", b"bl", b"blockblock", &[0; 9]] {
            cache.put(&object, 0, b"block");
            assert!(cache.get(&object, 0, 5).is_some());
            assert_eq!(cache.get(&object, 0, 4), None, "of another length");
            fs::write(cache.path(&object, 0), damage).unwrap();
            assert_eq!(cache.get(&object, 0, 5), None, "{damage:?}");
        }
    }

    #[test]
    fn several_processes_keep_the_bound() {
        const MAX_BYTES: u64 = 50 * 1004;
        let dir = tempfile::tempdir().unwrap();
        let caches = [(); 4].map(|()| DiskCache::new(dir.path().to_owned(), MAX_BYTES));
        thread::scope(|scope| {
            for (number, cache) in caches.iter().enumerate() {
                scope.spawn(move || {
                    let object = object(&format!("s3://b/{number}"));
                    for block in 0..200 {
                        cache.put(&object, block, &[number as u8; 1000]);
                        // Another may have removed it already; if not, it is whole.
                        let found = cache.get(&object, block, 1000);
                        assert!(found.is_none_or(|bytes| bytes[..] == [number as u8; 1000]));
                    }
                });
            }
        });
        caches[0].shrink();
        let num_bytes: u64 = caches[0].files().iter().map(|file| file.num_bytes).sum();
        assert!((1..=MAX_BYTES).contains(&num_bytes), "{num_bytes} bytes");
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let dir = tempfile::tempdir().unwrap();
        let cache = DiskCache::new(dir.path().to_owned(), 10 * 1004);
        let object = object("s3://b/a");
        for block in 0..10 {
            cache.put(&object, block, &[0; 1000]);
            let file = File::options()
                .append(true)
                .open(cache.path(&object, block))
                .unwrap();
            file.set_modified(SystemTime::now() - Duration::from_hours(20 - block))
                .unwrap();
        }
        assert!(cache.get(&object, 0, 1000).is_some(), "the oldest is used");
        cache.put(&object, 10, &[0; 1000]);
        let left: Vec<u64> = (0..11)
            .filter(|&block| cache.get(&object, block, 1000).is_some())
            .collect();
        assert_eq!(left, [0, 3, 4, 5, 6, 7, 8, 9, 10]);
    }

    #[test]
    fn a_cache_that_cannot_be_written_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let cache = DiskCache::new(dir.path().join("file"), 1 << 20);
        cache.put(&object("s3://b/a"), 0, b"block");
        assert_eq!(cache.get(&object("s3://b/a"), 0, 5), None);
    }
}
