//! Storage backends: local folders, or prefixes in an object store.
//!
//! Callers use paths only; this module decides which are URLs (`s3://bucket/prefix`, `gs://...`, `az://...`, and `https://...`
//! of web servers, which are only read and have no lists).
//! Files appear under their name completely or not at all: by rename on disk, by a single request in an
//! object store.

#[cfg(feature = "object-store")]
mod block_cache;
mod file_cache;
mod url;
// Both files have the same items; without the feature URLs are refused.
#[cfg(not(feature = "object-store"))]
#[path = "unsupported.rs"]
mod remote;
#[cfg(feature = "object-store")]
mod remote;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
#[cfg(feature = "build")]
use std::time::SystemTime;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::atomic_file::{self, AtomicFile};
use crate::error::{DatasetError, Result, StoreError};
use crate::local_file;
use crate::pipeline::parallel_map;
use crate::sha256;
use remote::{Location, RemoteFile, Upload, Version};

pub(crate) use file_cache::{FileCache, SharedFile};
pub(crate) use url::is_url;
#[cfg(feature = "build")]
pub(crate) use url::{is_bucket, without_secret};

/// How long to wait for another build to release its lock.
pub(crate) const LOCK_TIMEOUT: Duration = Duration::from_secs(3);
pub(crate) const LOCK_POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Small files that are looked at, read or removed at a time: each may take a round trip, to an object store or to the
/// server of a shared disk.
pub(crate) const NUM_REQUESTS: usize = 32;
/// Chunk size for copying and hashing.
const CHUNK_BYTES: usize = 1 << 23;

/// A file or folder within a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DirEntry {
    pub(crate) name: String,
    pub(crate) bytes: u64,
}

/// What a store knows of a file without reading it.
#[cfg(feature = "build")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileState {
    pub(crate) bytes: u64,
    /// When it last changed; `None` if the store does not tell. Of an object with a tag, the fraction of the second stands for
    /// the tag, so that another time is another object even where a store counts whole seconds.
    pub(crate) changed: Option<SystemTime>,
}

/// A time of the same second whose microseconds, which file systems keep, stand for a state.
#[cfg(feature = "build")]
pub(crate) fn time_of_state(changed: SystemTime, state: impl AsRef<[u8]>) -> SystemTime {
    let since_epoch = changed.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let hash = sha256::of_bytes(state);
    let micros = u64::from_str_radix(&hash[..8], 16).expect("a hash is hexadecimal") % 1_000_000;
    SystemTime::UNIX_EPOCH + Duration::from_secs(since_epoch.as_secs()) + Duration::from_micros(micros)
}

/// All files below the folder of a URL, by their paths in it, in any order; paths that lead out of it do not exist in stores.
///
/// # Errors
/// When the folder is on a disk or a web server, or its store cannot be listed.
#[cfg(feature = "build")]
pub(crate) fn list_all(dir: &Path, on_file: &mut dyn FnMut(String, FileState)) -> Result<()> {
    let listed = match Location::at(dir) {
        Ok(Some(location)) => location.list_all(on_file),
        Ok(None) => Err(io::ErrorKind::Unsupported.into()),
        Err(e) => Err(e),
    };
    listed.map_err(DatasetError::io("list", dir))
}

/// Length and last change of a file.
#[cfg(feature = "build")]
pub(crate) fn state(path: &Path) -> io::Result<FileState> {
    if let Some(location) = Location::at(path)? {
        return location.state();
    }
    let metadata = path.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(FileState {
        bytes: metadata.len(),
        changed: local_file::changed(path),
    })
}

/// Direct entries of a folder, with a trailing slash for folders; empty if the folder does not exist.
pub(crate) fn list(dir: &Path) -> Result<Vec<DirEntry>> {
    let io_error = |e| DatasetError::io("read the folder", dir)(e);
    if let Some(location) = Location::at(dir).map_err(io_error)? {
        return location.list().map_err(io_error);
    }
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(io_error)?,
    };
    let found = entries.map(|entry| {
        let entry = entry?;
        let metadata = entry.metadata()?;
        let slash = if metadata.is_dir() { "/" } else { "" };
        Ok(DirEntry {
            name: format!("{}{slash}", entry.file_name().to_string_lossy()),
            bytes: metadata.len(),
        })
    });
    found.collect::<io::Result<_>>().map_err(io_error)
}

/// Whether a folder can be listed: all can but those of web servers.
pub(crate) fn can_list(dir: &Path) -> Result<bool> {
    let location = Location::at(dir).map_err(DatasetError::io("read the folder", dir))?;
    Ok(location.is_none_or(|location| location.can_list()))
}

/// Reads a file of at most `limit_bytes`.
pub(crate) fn read_bounded(path: &Path, limit_bytes: u64) -> io::Result<Vec<u8>> {
    match Location::at(path)? {
        Some(location) => location.read_bounded(limit_bytes),
        None => local_file::read_bounded(path, limit_bytes),
    }
}

/// Length of a file in bytes; `None` if it does not exist.
pub(crate) fn len(path: &Path) -> Result<Option<u64>> {
    let len = match Location::at(path) {
        Ok(Some(location)) => location.open().map(|file| file.len()),
        Ok(None) => path.metadata().and_then(|metadata| {
            let is_file = metadata.is_file().then_some(metadata.len());
            is_file.ok_or_else(|| io::ErrorKind::NotFound.into())
        }),
        Err(e) => Err(e),
    };
    match len {
        Ok(len) => Ok(Some(len)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(DatasetError::io("look at", path)(e)),
    }
}

/// Atomically replaces a file, which others may be replacing too.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = create(path)?;
    file.write_all(bytes).map_err(DatasetError::io("write", path))?;
    file.finish()
}

/// Removes files of a folder, and the multipart uploads that partial files stand for. Others may have removed them too.
pub(crate) fn remove_all<'a>(dir: &Path, names: impl IntoIterator<Item = &'a str>) -> Result<()> {
    let names: Vec<&str> = names.into_iter().collect();
    let remove = |idx: usize| {
        let path = dir.join(names[idx]);
        let removed = match Location::at(&path) {
            Ok(Some(location)) => location.remove(),
            Ok(None) => fs::remove_file(&path),
            Err(e) => Err(e),
        };
        match removed {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(DatasetError::io("remove", &path)),
        }
    };
    let removed = parallel_map(NUM_REQUESTS, names.len(), remove, || {})?;
    removed.into_iter().collect::<Result<()>>()?;
    if !names.is_empty() && !is_url(dir) {
        atomic_file::sync_dir(dir).map_err(DatasetError::io("sync the folder", dir))?;
    }
    Ok(())
}

/// Whether a file has the given length and hash; see [`has_hash`].
pub(crate) fn is_intact(path: &Path, bytes: u64, sha256: &str) -> bool {
    len(path).is_ok_and(|len| len == Some(bytes)) && has_hash(path, sha256)
}

/// Whether a file has this hash. On disk the bytes are hashed, since a power failure may have damaged them; objects in a
/// store are written atomically, so whoever knows the length knows enough.
pub(crate) fn has_hash(path: &Path, sha256: &str) -> bool {
    is_url(path) || sha256::of_file(path).is_ok_and(|(found, _)| found == sha256)
}

/// Copies a file atomically between any stores and returns its SHA-256.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<String> {
    if !is_url(from) && !is_url(to) {
        let mut source = File::open(from).map_err(DatasetError::io("open", from))?;
        return atomic_file::copy_and_hash(&mut source, to).map_err(DatasetError::io("copy to", to));
    }
    let source = open(from).map_err(DatasetError::io("open", from))?;
    let mut file = create(to)?;
    let sha256 = source
        .copy_and_hash(&mut file)
        .map_err(DatasetError::io("copy to", to))?;
    file.finish()?;
    Ok(sha256)
}

/// Opens a file for random access.
pub(crate) fn open(path: &Path) -> io::Result<StoreFile> {
    match Location::at(path)? {
        Some(location) => Ok(StoreFile::Remote(Arc::new(location.open()?))),
        None => StoreFile::from_file(File::open(path)?),
    }
}

/// Opens a file and hashes it; remote objects are downloaded once to a temporary file.
pub(crate) fn fetch(path: &Path) -> io::Result<(String, StoreFile)> {
    match Location::at(path)? {
        Some(location) => {
            let mut copy = remote::anonymous_temp_file()?;
            let sha256 = StoreFile::Remote(Arc::new(location.open()?)).copy_and_hash(&mut copy)?;
            Ok((sha256, StoreFile::from_file(copy)?))
        }
        None => Ok((sha256::of_file(path)?.0, StoreFile::from_file(File::open(path)?)?)),
    }
}

/// An open file for positioned reads, shared by threads.
#[derive(Debug, Clone)]
pub(crate) enum StoreFile {
    Local { file: Arc<File>, len: u64 },
    Remote(Arc<RemoteFile>),
}

impl StoreFile {
    fn from_file(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        let file = Arc::new(file);
        Ok(Self::Local { file, len })
    }

    #[cfg(feature = "build")]
    pub(crate) fn is_remote(&self) -> bool {
        matches!(self, Self::Remote(_))
    }

    /// Length in bytes.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Local { len, .. } => *len,
            Self::Remote(file) => file.len(),
        }
    }

    /// Reads at a position; returns 0 past the end.
    pub(crate) fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        match self {
            Self::Local { file, .. } => local_file::read_at(file, buffer, position),
            Self::Remote(file) => {
                let num = (buffer.len() as u64).min(file.len().saturating_sub(position)) as usize;
                let bytes = file.bytes(position, num)?;
                buffer[..num].copy_from_slice(&bytes);
                Ok(num)
            }
        }
    }

    /// Reads exactly `num` bytes.
    pub(crate) fn bytes(&self, position: u64, num: usize) -> io::Result<Bytes> {
        match self {
            Self::Local { file, .. } => {
                let mut bytes = vec![0; num];
                local_file::read_exact_at(file, &mut bytes, position)?;
                Ok(bytes.into())
            }
            Self::Remote(file) => file.bytes(position, num),
        }
    }

    /// Says what will be read, so that it comes with few requests; a local file does not ask.
    pub(crate) fn prefetch(&self, ranges: impl FnOnce() -> Vec<Range<u64>>) -> io::Result<()> {
        match self {
            Self::Local { .. } => Ok(()),
            Self::Remote(file) => file.prefetch(&ranges()),
        }
    }

    /// Writes the content to `target` and returns its SHA-256.
    fn copy_and_hash(&self, target: &mut dyn Write) -> io::Result<String> {
        let mut hasher = Sha256::new();
        let mut position = 0;
        while position < self.len() {
            let num = (self.len() - position).min(CHUNK_BYTES as u64);
            let chunk = self.bytes(position, num as usize)?;
            hasher.update(&chunk);
            target.write_all(&chunk)?;
            position += num;
        }
        Ok(sha256::hex(&hasher.finalize()))
    }
}

/// Sequential reader from a position.
#[derive(Debug)]
pub(crate) struct Cursor {
    file: StoreFile,
    position: u64,
}

impl Cursor {
    pub(crate) fn new(file: StoreFile, position: u64) -> Self {
        Self { file, position }
    }
}

impl Read for Cursor {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let num_read = self.file.read_at(buffer, self.position)?;
        self.position += num_read as u64;
        Ok(num_read)
    }
}

/// Creates a file that appears under its name when finished; if dropped before, it is removed. Several processes may write
/// the same file: the last one to finish wins.
pub(crate) fn create(path: &Path) -> Result<NewFile> {
    let io_error = |e| DatasetError::io("create", path)(e);
    let target = match Location::at(path).map_err(io_error)? {
        Some(location) => Target::Remote(location.create()),
        None => Target::Local(AtomicFile::create_shared(path).map_err(io_error)?),
    };
    Ok(NewFile {
        path: path.to_owned(),
        target,
    })
}

/// A file that appears under its name when finished.
#[derive(Debug)]
pub(crate) struct NewFile {
    path: PathBuf,
    target: Target,
}

#[derive(Debug)]
enum Target {
    Local(AtomicFile),
    Remote(Upload),
}

impl NewFile {
    /// Syncs the file and renames it to its final name.
    pub(crate) fn finish(self) -> Result<()> {
        match self.target {
            Target::Local(file) => file.finish().map_err(DatasetError::io("write", &self.path)),
            Target::Remote(upload) => upload.finish().map_err(DatasetError::io("write", &self.path)),
        }
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.target {
            Target::Local(file) => file.write(bytes),
            Target::Remote(upload) => upload.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.target {
            Target::Local(file) => file.flush(),
            // Data sent before the end is not readable there anyway.
            Target::Remote(_) => Ok(()),
        }
    }
}

/// Exclusive write access to a folder; released on drop.
///
/// On disk it is a lock on the folder itself, which leaves no file behind; where folders cannot be opened
/// (outside Unix) there is none. Object stores have no locks: there, the manifest is replaced only if nobody
/// else has replaced it (optimistic concurrency).
#[derive(Debug)]
pub(crate) enum WriteLock {
    Local { _lock: Option<File> },
    Remote(Version),
}

/// Locks a folder, creating it if needed. `name` is the file that every build replaces.
pub(crate) fn lock_for_writing(dir: &Path, name: &str) -> Result<WriteLock> {
    let io_error = |e| DatasetError::io("create the folder", dir)(e);
    if let Some(location) = Location::at(&dir.join(name)).map_err(io_error)? {
        return location
            .version()
            .map(WriteLock::Remote)
            .map_err(DatasetError::io("reach the object store of", dir));
    }
    fs::create_dir_all(dir).map_err(io_error)?;
    lock_dir(dir).map(|lock| WriteLock::Local { _lock: lock })
}

impl WriteLock {
    /// Replaces the file that the lock protects.
    pub(crate) fn replace(&mut self, path: &Path, bytes: &[u8]) -> Result<()> {
        let io_error = |e| DatasetError::io("write", path)(e);
        match self {
            Self::Local { .. } => atomic_file::replace(path, bytes).map_err(io_error),
            Self::Remote(version) => {
                let location = Location::at(path).map_err(io_error)?;
                let location = location.expect("the lock is of an object store");
                match location.replace(bytes, version) {
                    Err(e) if e.kind() == io::ErrorKind::ResourceBusy => {
                        Err(DatasetError::Store(StoreError::Locked {
                            path: path.parent().unwrap_or(path).to_owned(),
                        }))
                    }
                    result => result.map_err(io_error),
                }
            }
        }
    }
}

/// Locks a folder on disk until the file is dropped; `None` where the file system has no locks.
pub(crate) fn lock_dir(dir: &Path) -> Result<Option<File>> {
    let Ok(file) = File::open(dir) else {
        return Ok(None);
    };
    // A build that was just killed may still hold its lock for a moment.
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            // Some file systems do not support locks.
            Err(fs::TryLockError::Error(_)) => return Ok(None),
            Err(fs::TryLockError::WouldBlock) if Instant::now() < deadline => {
                thread::sleep(LOCK_POLL_INTERVAL);
            }
            Err(fs::TryLockError::WouldBlock) => {
                return Err(DatasetError::Store(StoreError::Locked { path: dir.to_owned() }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_new_file_is_whole_or_absent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let mut file = create(&path).unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        assert_eq!(
            list(dir.path()).unwrap(),
            [],
            "nothing is left of a file that was not finished"
        );
        let mut file = create(&path).unwrap();
        file.write_all(b"whole").unwrap();
        file.finish().unwrap();
        let (sha256, stored) = fetch(&path).unwrap();
        assert!(is_intact(&path, 5, &sha256) && !is_intact(&path, 5, "other"));
        assert_eq!(stored.bytes(1, 3).unwrap(), &b"hol"[..]);
        assert_eq!(copy(&path, &dir.path().join("b")).unwrap(), sha256);
        remove_all(dir.path(), ["a"]).unwrap();
        assert_eq!(
            list(dir.path()).unwrap(),
            [DirEntry {
                name: "b".to_owned(),
                bytes: 5
            }]
        );
        assert_eq!(list(&path).unwrap(), [], "no folder, no files");
    }
}
