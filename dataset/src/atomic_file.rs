//! Atomic local file writes: after a crash a file has its old content or its new content, never part of it.
//!
//! Content is written under a `.partial` name, synced, and renamed; then the folder is synced. Where several processes may
//! write the same file at once, each has a partial file of its own.

use std::fs::{self, File};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::sha256::{self, for_each_chunk};

const BUFFER_BYTES: usize = 1 << 18;
/// End of the name of a file that is not complete.
const PARTIAL: &str = ".partial";
/// Hexadecimal digits of an attempt.
const ATTEMPT_DIGITS: usize = 16;

/// A file that appears under its name when finished. If dropped before, the partial file is removed.
#[derive(Debug)]
pub struct AtomicFile {
    file: BufWriter<File>,
    path: PathBuf,
    // Dropped last, after the file is closed.
    partial: RemoveOnDrop,
}

#[derive(Debug)]
struct RemoveOnDrop(PathBuf);

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        // After a rename there is nothing to remove.
        let _ = fs::remove_file(&self.0);
    }
}

impl AtomicFile {
    /// Creates the partial file, over one that a kill left.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create(path: &Path) -> io::Result<Self> {
        Self::create_as(path, partial_path(path))
    }

    /// As [`create`](Self::create), beside other processes that write the same file: the last one to finish wins.
    ///
    /// # Errors
    /// When the partial file cannot be created.
    pub fn create_shared(path: &Path) -> io::Result<Self> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(attempt_suffix());
        Self::create_as(path, path.with_file_name(name))
    }

    fn create_as(path: &Path, partial: PathBuf) -> io::Result<Self> {
        Ok(Self {
            file: BufWriter::with_capacity(BUFFER_BYTES, File::create(&partial)?),
            path: path.to_owned(),
            partial: RemoveOnDrop(partial),
        })
    }

    /// Syncs the file and renames it to its final name.
    ///
    /// # Errors
    /// When the disk is full or the folder is not writable; the old content is kept.
    pub fn finish(self) -> io::Result<()> {
        let Self { file, path, partial } = self;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        fs::rename(&partial.0, &path)?;
        sync_dir(path.parent().unwrap_or(Path::new("")))
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Atomically replaces the content of a file.
///
/// # Errors
/// When the disk is full or the folder is not writable; the old content is kept.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(bytes)?;
    file.finish()
}

/// Atomically writes everything from `source` to a file, and returns its SHA-256.
///
/// # Errors
/// When the source cannot be read, the disk is full, or the folder is not writable.
pub fn copy_and_hash(source: &mut impl Read, path: &Path) -> io::Result<String> {
    let mut file = AtomicFile::create(path)?;
    let mut hasher = Sha256::new();
    for_each_chunk(source, |chunk| {
        hasher.update(chunk);
        file.write_all(chunk)
    })?;
    file.finish()?;
    Ok(sha256::hex(&hasher.finalize()))
}

/// Makes renames and removals in a folder durable.
///
/// # Errors
/// When the folder cannot be opened or synced.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    // Only Unix allows opening and syncing a folder; elsewhere durability of a rename is up to the file system.
    if cfg!(unix) {
        let dir = if dir.as_os_str().is_empty() {
            Path::new(".")
        } else {
            dir
        };
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}

/// Name of a file until it is complete.
#[must_use]
pub fn partial_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(PARTIAL);
    path.with_file_name(name)
}

/// What follows a file's name until it is complete, for one attempt of several at once, on this machine or another:
/// `.<16 digits>.partial`.
pub(crate) fn attempt_suffix() -> String {
    // Seeded by the operating system; process ids of several machines may be equal.
    let attempt = RandomState::new().hash_one(std::process::id());
    format!(".{attempt:0ATTEMPT_DIGITS$x}{PARTIAL}")
}

/// The name that a partial file gets when it is complete; `None` for other files.
#[must_use]
pub fn complete_name(partial: &str) -> Option<&str> {
    let name = partial.strip_suffix(PARTIAL)?;
    let is_attempt = |attempt: &str| {
        let mut digits = attempt.bytes();
        attempt.len() == ATTEMPT_DIGITS && digits.all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    };
    match name.rsplit_once('.') {
        Some((name, attempt)) if is_attempt(attempt) => Some(name),
        _ => Some(name),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_partial_folder_lies_beside_the_one_that_it_becomes() {
        for (path, partial) in [
            ("a/out", "a/out.partial"),
            ("a/out/", "a/out.partial"),
            ("out/", "out.partial"),
        ] {
            assert_eq!(partial_path(Path::new(path)), Path::new(partial), "{path}");
        }
    }

    #[test]
    fn a_partial_file_says_what_it_becomes() {
        for (partial, name) in [
            ("a.parquet.partial", Some("a.parquet")),
            ("a.parquet.0123456789abcdef.partial", Some("a.parquet")),
            (
                "a.parquet.0123456789abcde.partial",
                Some("a.parquet.0123456789abcde"),
            ),
            ("a.parquet", None),
        ] {
            assert_eq!(complete_name(partial), name, "{partial}");
        }
        let [one, other] = [0, 1].map(|_| format!("b{}", attempt_suffix()));
        assert_ne!(one, other, "of two attempts");
        assert_eq!(complete_name(&one), Some("b"));
    }

    #[test]
    fn a_file_of_two_writers_is_that_of_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let mut files = [0, 1].map(|_| AtomicFile::create_shared(&path).unwrap());
        for (file, content) in files.iter_mut().zip(["one", "two"]) {
            file.write_all(content.as_bytes()).unwrap();
        }
        for file in files {
            file.finish().unwrap();
        }
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        replace(&path, b"one").unwrap();
        replace(&path, b"three").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        let mut unfinished = AtomicFile::create(&path).unwrap();
        unfinished.write_all(b"half").unwrap();
        drop(unfinished);
        assert_eq!(fs::read(&path).unwrap(), b"three", "the old content is kept");
        let sha256 = copy_and_hash(&mut &b"four"[..], &path).unwrap();
        assert_eq!(sha256, sha256::of_file(&path).unwrap().0);
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            1,
            "no partial file is left"
        );
    }
}
