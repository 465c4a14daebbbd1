//! [`Tree`]: the files of a source, whether they lie in a folder or in zip archives that are read in place.
//!
//! All paths are relative to the tree and stay within it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::archive::Archives;
use super::{Entry, canonical, within};
use crate::{DatasetError, Result, durable};

/// A folder, or archives.
#[derive(Debug, Clone)]
pub(super) enum Tree {
    /// Canonical.
    Folder(PathBuf),
    Archives(Arc<Archives>),
}

/// Why a file could not be read.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The path, or a link on it, leads out of the tree.
    Outside,
    Io(io::Error),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Tree {
    /// A folder of files; one that holds zip archives and no folders is what the archives hold.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let root = canonical(path, "open the source")?;
        if is_archive(&root) && root.is_file() {
            return Archives::open(std::slice::from_ref(&root), None).map(Self::from_archives);
        }
        if root.is_dir() {
            let entries = folder_entries(&root)?;
            let archives: Vec<PathBuf> = entries
                .iter()
                .map(|entry| root.join(&entry.name))
                .filter(|path| is_archive(path) && path.is_file())
                .collect();
            if !archives.is_empty() && entries.iter().all(|entry| !entry.is_dir) {
                return Archives::open(&archives, Some(root)).map(Self::from_archives);
            }
        }
        Ok(Self::Folder(root))
    }

    fn from_archives(archives: Archives) -> Self {
        Self::Archives(Arc::new(archives))
    }

    /// The folder, or the folder that the archives lie in.
    pub(super) fn folder(&self) -> &Path {
        match self {
            Self::Folder(root) => root,
            Self::Archives(archives) => archives.folder(),
        }
    }

    /// What a folder of the tree holds, sorted by name; hidden entries are passed over.
    pub(super) fn entries(&self, dir: &Path) -> Result<Vec<Entry>> {
        match self {
            Self::Folder(root) => folder_entries(&root.join(dir)),
            Self::Archives(archives) => Ok(archives.entries(dir)),
        }
    }

    pub(super) fn is_file(&self, path: &Path) -> bool {
        match self {
            Self::Folder(root) => root.join(path).is_file(),
            Self::Archives(archives) => archives.is_file(path),
        }
    }

    pub(super) fn is_dir(&self, path: &Path) -> bool {
        match self {
            Self::Folder(root) => root.join(path).is_dir(),
            Self::Archives(archives) => archives.is_dir(path),
        }
    }

    /// The length of a file, links followed as far as they stay within the tree.
    pub(super) fn file_bytes(&self, path: &Path) -> Result<u64, ReadError> {
        match self {
            Self::Folder(root) => {
                let metadata = inside(root, path)?.metadata()?;
                if metadata.is_file() {
                    Ok(metadata.len())
                } else {
                    Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file").into())
                }
            }
            Self::Archives(archives) => Ok(archives.file_bytes(path)?),
        }
    }

    /// Reads a file of no more than `limit_bytes`.
    pub(super) fn read(&self, path: &Path, limit_bytes: u64) -> Result<Vec<u8>, ReadError> {
        let path = within(path).ok_or(ReadError::Outside)?;
        match self {
            Self::Folder(root) => Ok(durable::read_bounded(&inside(root, &path)?, limit_bytes)?),
            Self::Archives(archives) => Ok(archives.read(&path, limit_bytes)?),
        }
    }

    /// Reads a list that belongs to the source; `None` if there is none.
    pub(super) fn read_list(
        &self,
        path: &Path,
        action: &'static str,
        limit_bytes: u64,
    ) -> Result<Option<Vec<u8>>> {
        if !self.is_file(path) {
            return Ok(None);
        }
        let failed = |error| match error {
            ReadError::Outside => {
                io::Error::new(io::ErrorKind::PermissionDenied, "a link leads out of the source")
            }
            ReadError::Io(error) => error,
        };
        self.read(path, limit_bytes)
            .map(Some)
            .map_err(|error| DatasetError::io(action, &self.folder().join(path))(failed(error)))
    }
}

/// The whole path of a file, links followed; they must not lead out of the folder.
fn inside(root: &Path, path: &Path) -> Result<PathBuf, ReadError> {
    let path = root.join(path).canonicalize()?;
    if path.starts_with(root) {
        Ok(path)
    } else {
        Err(ReadError::Outside)
    }
}

pub(super) fn is_archive(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("zip"))
}

/// What a folder of the disk holds.
pub(super) fn folder_entries(dir: &Path) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(dir).map_err(DatasetError::io("read the folder", dir))? {
        let entry = entry.map_err(DatasetError::io("read the folder", dir))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            let name = name.to_string_lossy().into_owned();
            tracing::warn!(name, "passed over: the name is not UTF-8");
            continue;
        };
        if !name.starts_with('.') {
            // Follows links: one that leads nowhere is taken for a file, and then found unreadable.
            entries.push(Entry {
                name: name.to_owned(),
                is_dir: entry.path().is_dir(),
            });
        }
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}
