//! Where data sets are kept: folders of this machine, or prefixes of an object store.
//!
//! The code above speaks of paths alone. Here, and nowhere else, it is decided which of them are addresses
//! (`s3://bucket/prefix`, `gs://...`, `az://...`). Whatever is written appears under its name whole or not at all: on a
//! disk by a rename, in a bucket by one request.

mod address;
// Without the feature an address is refused by name; both files have the same items.
#[cfg(not(feature = "object-store"))]
#[path = "absent.rs"]
mod remote;
#[cfg(feature = "object-store")]
mod remote;

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::manifest::partial_path;
use crate::{DatasetError, Result, durable};
use remote::{Location, RemoteFile, Upload, Version};

pub(crate) use address::is_address;

/// How long to wait for another build to let go of a folder.
pub(crate) const LOCK_PATIENCE: Duration = Duration::from_secs(3);
pub(crate) const LOCK_INTERVAL: Duration = Duration::from_millis(50);
/// What is read of a file at a time to copy it or to hash it.
const CHUNK_BYTES: usize = 1 << 23;

/// A file within a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) bytes: u64,
}

/// The files that lie directly in a folder, and its folders, whose names end with a slash here; nothing where there is no
/// folder.
pub(crate) fn list(dir: &Path) -> Result<Vec<Found>> {
    let refused = |e| DatasetError::io("read the folder", dir)(e);
    if let Some(location) = Location::at(dir).map_err(refused)? {
        return location.list().map_err(refused);
    }
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(refused)?,
    };
    let found = entries.map(|entry| {
        let entry = entry?;
        let metadata = entry.metadata()?;
        let slash = if metadata.is_dir() { "/" } else { "" };
        Ok(Found {
            name: format!("{}{slash}", entry.file_name().to_string_lossy()),
            bytes: metadata.len(),
        })
    });
    found.collect::<io::Result<_>>().map_err(refused)
}

/// Reads a file of no more than `limit_bytes`.
pub(crate) fn read_bounded(path: &Path, limit_bytes: u64) -> io::Result<Vec<u8>> {
    match Location::at(path)? {
        Some(location) => location.read_bounded(limit_bytes),
        None => durable::read_bounded(path, limit_bytes),
    }
}

/// Puts `bytes` under `path`; after a crash either the old or the new content is there.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let refused = |e| DatasetError::io("write", path)(e);
    match Location::at(path).map_err(refused)? {
        Some(location) => location.put(bytes).map_err(refused),
        None => durable::replace(path, bytes),
    }
}

/// Removes files of one folder, and with a half-written one what the store holds of it.
pub(crate) fn remove_all<'a>(dir: &Path, names: impl IntoIterator<Item = &'a str>) -> Result<()> {
    let mut is_any = false;
    for name in names {
        let path = dir.join(name);
        let refused = |e| DatasetError::io("remove", &path)(e);
        match Location::at(&path).map_err(refused)? {
            Some(location) => location.remove().map_err(refused)?,
            None => fs::remove_file(&path).map_err(refused)?,
        }
        is_any = true;
    }
    if is_any && !is_address(dir) {
        durable::sync_dir(dir)?;
    }
    Ok(())
}

/// Is this file what was written? On a disk, where a power cut may have left anything, its bytes are hashed; an object
/// store has put it there in one piece, and its length is enough.
pub(crate) fn is_whole(path: &Path, bytes: u64, sha256: &str) -> bool {
    match Location::at(path) {
        Ok(Some(location)) => location.open().is_ok_and(|file| file.len() == bytes),
        Ok(None) => {
            path.metadata().is_ok_and(|m| m.is_file() && m.len() == bytes)
                && durable::hash_file(path).is_ok_and(|(found, _)| found == sha256)
        }
        Err(_) => false,
    }
}

/// Copies a file, from wherever to wherever, so that it is whole or absent, and says the hash of what was copied.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<String> {
    if !is_address(from) && !is_address(to) {
        return durable::copy(from, to);
    }
    let source = open(from).map_err(DatasetError::io("open", from))?;
    let mut file = create(to)?;
    let sha256 = source
        .hash_into(&mut file)
        .map_err(DatasetError::io("copy to", to))?;
    file.finish()?;
    Ok(sha256)
}

/// Opens a file to read at many places of it at once.
pub(crate) fn open(path: &Path) -> io::Result<Stored> {
    match Location::at(path)? {
        Some(location) => Ok(Stored::Remote(Arc::new(location.open()?))),
        None => Stored::of_file(File::open(path)?),
    }
}

/// All of a file, with its hash: from an object store it is brought here once, and read from here.
pub(crate) fn fetch(path: &Path) -> io::Result<(String, Stored)> {
    match Location::at(path)? {
        Some(location) => {
            let mut copy = remote::unnamed_file()?;
            let sha256 = Stored::Remote(Arc::new(location.open()?)).hash_into(&mut copy)?;
            Ok((sha256, Stored::of_file(copy)?))
        }
        None => Ok((durable::hash_file(path)?.0, Stored::of_file(File::open(path)?)?)),
    }
}

/// An open file. Shared by threads: every read names its own place.
#[derive(Debug, Clone)]
pub(crate) enum Stored {
    Local { file: Arc<File>, len: u64 },
    Remote(Arc<RemoteFile>),
}

impl Stored {
    fn of_file(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        let file = Arc::new(file);
        Ok(Self::Local { file, len })
    }

    /// Its length in bytes.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Local { len, .. } => *len,
            Self::Remote(file) => file.len(),
        }
    }

    /// Reads some bytes at a position; none behind the end.
    pub(crate) fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        match self {
            Self::Local { file, .. } => durable::read_at(file, buffer, position),
            Self::Remote(file) => {
                let num = (buffer.len() as u64).min(file.len().saturating_sub(position)) as usize;
                // A reader that asks for little at a time asks for more soon: `RemoteFile` remembers.
                let bytes = file.bytes(position, num)?;
                buffer[..num].copy_from_slice(&bytes);
                Ok(num)
            }
        }
    }

    /// Exactly these bytes.
    pub(crate) fn bytes(&self, position: u64, num: usize) -> io::Result<Bytes> {
        match self {
            Self::Local { .. } => {
                let mut bytes = vec![0; num];
                Cursor::new(self.clone(), position).read_exact(&mut bytes)?;
                Ok(bytes.into())
            }
            Self::Remote(file) => file.bytes(position, num),
        }
    }

    /// Writes all of it somewhere, and says its hash.
    fn hash_into(&self, target: &mut dyn Write) -> io::Result<String> {
        let mut hasher = Sha256::new();
        let mut position = 0;
        while position < self.len() {
            let num = (self.len() - position).min(CHUNK_BYTES as u64);
            let chunk = self.bytes(position, num as usize)?;
            hasher.update(&chunk);
            target.write_all(&chunk)?;
            position += num;
        }
        Ok(durable::hex(&hasher.finalize()))
    }
}

/// Reads an open file from a position on.
#[derive(Debug)]
pub(crate) struct Cursor {
    file: Stored,
    position: u64,
}

impl Cursor {
    pub(crate) fn new(file: Stored, position: u64) -> Self {
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

/// Begins a file that has its name only when it is finished. Dropped before, it leaves nothing behind.
pub(crate) fn create(path: &Path) -> Result<NewFile> {
    let refused = |e| DatasetError::io("create", path)(e);
    let target = match Location::at(path).map_err(refused)? {
        Some(location) => Target::Remote(location.create()),
        None => Target::Local(PartialFile::create(partial_path(path)).map_err(refused)?),
    };
    Ok(NewFile {
        path: path.to_owned(),
        target,
    })
}

/// A file that is being written.
#[derive(Debug)]
pub(crate) struct NewFile {
    path: PathBuf,
    target: Target,
}

#[derive(Debug)]
enum Target {
    Local(PartialFile),
    Remote(Upload),
}

impl NewFile {
    /// Makes it durable and gives it its name.
    pub(crate) fn finish(self) -> Result<()> {
        match self.target {
            Target::Local(partial) => partial.finish(&self.path),
            Target::Remote(upload) => upload.finish().map_err(DatasetError::io("write", &self.path)),
        }
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.target {
            Target::Local(partial) => partial.file.write(bytes),
            Target::Remote(upload) => upload.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.target {
            Target::Local(partial) => partial.file.flush(),
            // What is sent before the end is not readable there anyway.
            Target::Remote(_) => Ok(()),
        }
    }
}

/// A file under its `.partial` name, removed when dropped; after it was renamed there is nothing to remove.
#[derive(Debug)]
struct PartialFile {
    file: BufWriter<File>,
    // Dropped last: after the file is closed.
    path: RemovedPath,
}

#[derive(Debug)]
struct RemovedPath(PathBuf);

impl Drop for RemovedPath {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl PartialFile {
    fn create(path: PathBuf) -> io::Result<Self> {
        Ok(Self {
            file: BufWriter::with_capacity(1 << 18, File::create(&path)?),
            path: RemovedPath(path),
        })
    }

    fn finish(self, path: &Path) -> Result<()> {
        let Self { file, path: partial } = self;
        file.into_inner()
            .map_err(io::IntoInnerError::into_error)
            .and_then(|file| file.sync_all())
            .map_err(DatasetError::io("write", &partial.0))?;
        durable::publish(&partial.0, path)
    }
}

/// The right to write to a folder; released when dropped.
///
/// On a disk it is a lock of the folder itself, so that no file is left behind; where folders can't be opened (outside
/// Unix) there is none. An object store has no locks: there, one file is replaced only while nobody else has replaced
/// it.
#[derive(Debug)]
pub(crate) enum Claim {
    Local { _lock: Option<File> },
    Remote(Version),
}

/// Claims a folder, which is made where it has to be. `name` is the file that every build of it replaces.
pub(crate) fn claim(dir: &Path, name: &str) -> Result<Claim> {
    let refused = |e| DatasetError::io("create the folder", dir)(e);
    if let Some(location) = Location::at(&dir.join(name)).map_err(refused)? {
        return location
            .version()
            .map(Claim::Remote)
            .map_err(DatasetError::io("reach the object store of", dir));
    }
    fs::create_dir_all(dir).map_err(refused)?;
    lock(dir).map(|lock| Claim::Local { _lock: lock })
}

impl Claim {
    /// Replaces the file that the claim is about.
    pub(crate) fn replace(&mut self, path: &Path, bytes: &[u8]) -> Result<()> {
        let refused = |e| DatasetError::io("write", path)(e);
        match self {
            Self::Local { .. } => durable::replace(path, bytes),
            Self::Remote(version) => {
                let location = Location::at(path).map_err(refused)?;
                let location = location.expect("the claim is of an object store");
                match location.replace(bytes, version) {
                    Err(e) if e.kind() == io::ErrorKind::ResourceBusy => Err(DatasetError::Busy {
                        path: path.parent().unwrap_or(path).to_owned(),
                    }),
                    result => result.map_err(refused),
                }
            }
        }
    }
}

fn lock(dir: &Path) -> Result<Option<File>> {
    let Ok(file) = File::open(dir) else {
        return Ok(None);
    };
    // A build that was just killed may hold its lock for a moment still.
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            // File systems without locks exist.
            Err(fs::TryLockError::Error(_)) => return Ok(None),
            Err(fs::TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(LOCK_INTERVAL),
            Err(fs::TryLockError::WouldBlock) => return Err(DatasetError::Busy { path: dir.to_owned() }),
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
        assert!(is_whole(&path, 5, &sha256) && !is_whole(&path, 5, "other"));
        assert_eq!(stored.bytes(1, 3).unwrap(), &b"hol"[..]);
        assert_eq!(copy(&path, &dir.path().join("b")).unwrap(), sha256);
        remove_all(dir.path(), ["a"]).unwrap();
        assert_eq!(
            list(dir.path()).unwrap(),
            [Found {
                name: "b".to_owned(),
                bytes: 5
            }]
        );
        assert_eq!(list(&path).unwrap(), [], "no folder, no files");
    }
}
