//! [`FileCache`]: many files to read from, of which few are open at a time.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{StoreFile, open};

/// Files on disk that were used last, kept open. Files in an object store take no descriptor.
#[derive(Debug)]
pub(crate) struct FileCache {
    max_files: usize,
    /// Most recently used first, by number.
    files: Mutex<VecDeque<(u64, StoreFile)>>,
    next_number: AtomicU64,
}

impl FileCache {
    pub(crate) fn new(max_files: usize) -> Self {
        Self {
            max_files,
            files: Mutex::default(),
            next_number: AtomicU64::default(),
        }
    }

    /// A file that is opened again where this cache has closed it.
    pub(crate) fn file(self: &Arc<Self>, path: &Path) -> io::Result<SharedFile> {
        let file = open(path)?;
        Ok(match file {
            StoreFile::Remote(_) => SharedFile::Kept(file),
            StoreFile::Local { len, .. } => {
                let number = self.next_number.fetch_add(1, Ordering::Relaxed);
                self.insert(number, file);
                SharedFile::Cached {
                    number,
                    path: path.to_owned(),
                    len,
                    cache: Arc::clone(self),
                }
            }
        })
    }

    fn get(&self, number: u64, path: &Path) -> io::Result<StoreFile> {
        let mut files = self.lock();
        let found = files.iter().position(|(open, _)| *open == number);
        if let Some(entry) = found.and_then(|idx| files.remove(idx)) {
            let file = entry.1.clone();
            files.push_front(entry);
            return Ok(file);
        }
        drop(files);
        let file = open(path)?;
        self.insert(number, file.clone());
        Ok(file)
    }

    fn insert(&self, number: u64, file: StoreFile) {
        let mut files = self.lock();
        files.push_front((number, file));
        files.truncate(self.max_files);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(u64, StoreFile)>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file to read from, open or to be opened when needed.
#[derive(Debug)]
pub(crate) enum SharedFile {
    Kept(StoreFile),
    Cached {
        /// In the cache.
        number: u64,
        path: PathBuf,
        /// Length in bytes when it was first opened.
        len: u64,
        cache: Arc<FileCache>,
    },
}

impl SharedFile {
    /// Length in bytes.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Kept(file) => file.len(),
            Self::Cached { len, .. } => *len,
        }
    }

    /// The open file.
    ///
    /// # Errors
    /// When it cannot be opened any more, or has another length than at first.
    pub(crate) fn open(&self) -> io::Result<StoreFile> {
        let (file, len) = match self {
            Self::Kept(file) => return Ok(file.clone()),
            Self::Cached {
                number,
                path,
                len,
                cache,
            } => (cache.get(*number, path)?, *len),
        };
        if file.len() == len {
            Ok(file)
        } else {
            let message = format!("it was replaced: {} bytes instead of {len}", file.len());
            Err(io::Error::new(io::ErrorKind::InvalidData, message))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::fs;

    use super::*;

    #[test]
    fn few_of_many_files_are_open() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Arc::new(FileCache::new(2));
        let paths: Vec<PathBuf> = (0..5).map(|i| dir.path().join(i.to_string())).collect();
        for (path, text) in paths.iter().zip(["a", "b", "c", "d", "e"]) {
            fs::write(path, text).unwrap();
        }
        let files: Vec<SharedFile> = paths.iter().map(|path| cache.file(path).unwrap()).collect();
        for _ in 0..2 {
            for (file, text) in files.iter().zip(["a", "b", "c", "d", "e"]) {
                assert_eq!(file.open().unwrap().bytes(0, 1).unwrap(), text.as_bytes());
                assert!(cache.lock().len() <= 2, "no more than allowed");
            }
        }
        fs::write(&paths[0], "other").unwrap();
        let error = files[0].open().unwrap_err();
        assert!(error.to_string().contains("5 bytes instead of 1"), "{error}");
    }
}
