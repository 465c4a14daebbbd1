//! [`Tree`]: files of a source, in a folder or in zip archives read in place.
//!
//! All paths are relative to the tree and cannot leave it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use walkdir::WalkDir;

use super::archive::Archives;
use super::{DirEntry, ObjectReader, ReadError, canonicalize_dir, normalize_within};
use crate::error::{DatasetError, Result};
use crate::local_file;

/// A folder or archives.
#[derive(Debug, Clone)]
pub(super) enum Tree {
    /// Canonical path.
    Folder(PathBuf),
    Archives(Arc<Archives>),
}

impl Tree {
    /// Opens a folder, an archive, or a folder that holds archives and no folders.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let root = canonicalize_dir(path, "open the source")?;
        if is_archive(&root) && root.is_file() {
            return Archives::open(std::slice::from_ref(&root), None).map(Self::from_archives);
        }
        if root.is_dir() {
            let entries = read_dir_sorted(&root)?;
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

    /// The root folder, or the folder of the archives.
    pub(super) fn folder(&self) -> &Path {
        match self {
            Self::Folder(root) => root,
            Self::Archives(archives) => archives.folder(),
        }
    }

    /// Entries of a folder, sorted by name, without hidden ones.
    pub(super) fn entries(&self, dir: &Path) -> Result<Vec<DirEntry>> {
        match self {
            Self::Folder(root) => read_dir_sorted(&root.join(dir)),
            Self::Archives(archives) => Ok(archives.entries(dir)),
        }
    }

    /// All files at most `max_depth` folders deep, sorted by path, without hidden ones. Follows links that stay within
    /// the tree.
    pub(super) fn walk(&self, max_depth: usize) -> Result<Vec<PathBuf>> {
        let root = match self {
            Self::Folder(root) => root,
            Self::Archives(archives) => return Ok(archives.walk(max_depth)),
        };
        let is_visible = |entry: &walkdir::DirEntry| {
            let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
            !is_hidden && (!entry.path_is_symlink() || inside(root, entry.path()).is_ok())
        };
        let entries = WalkDir::new(root)
            .min_depth(1)
            .max_depth(max_depth + 1)
            .follow_links(true)
            .sort_by_file_name();
        let mut files = Vec::new();
        for entry in entries.into_iter().filter_entry(is_visible) {
            match entry {
                Ok(entry) if entry.file_type().is_file() => {
                    let path = entry.path().strip_prefix(root);
                    files.push(path.expect("it was found below the root").to_owned());
                }
                Ok(_) => {}
                // A loop of links, or a dangling one.
                Err(e) if e.path().is_some_and(Path::is_symlink) => {}
                Err(e) => {
                    let path = e.path().unwrap_or(root).to_owned();
                    return Err(DatasetError::io("read the folder", &path)(e.into()));
                }
            }
        }
        Ok(files)
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

    /// Reads a list file of the source; `None` if it does not exist.
    pub(super) fn read_list(
        &self,
        path: &Path,
        action: &'static str,
        limit_bytes: u64,
    ) -> Result<Option<Vec<u8>>> {
        if !self.is_file(path) {
            return Ok(None);
        }
        self.read(path, limit_bytes)
            .map(Some)
            .map_err(|error| DatasetError::io(action, &self.folder().join(path))(error.into()))
    }
}

impl ObjectReader for Tree {
    fn read(&self, path: &Path, limit_bytes: u64) -> Result<Vec<u8>, ReadError> {
        let path = normalize_within(path).ok_or(ReadError::Outside)?;
        match self {
            Self::Folder(root) => Ok(local_file::read_bounded(&inside(root, &path)?, limit_bytes)?),
            Self::Archives(archives) => Ok(archives.read(&path, limit_bytes)?),
        }
    }

    /// Looks for the file in any case if there is none of this very name.
    fn read_asset(&self, path: &Path, limit_bytes: u64) -> Result<Vec<u8>, ReadError> {
        match self.read(path, limit_bytes) {
            Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                match find_case_insensitive(self, path) {
                    Some(path) => self.read(&path, limit_bytes),
                    None => Err(error.into()),
                }
            }
            read => read,
        }
    }

    /// Follows links that stay within the tree.
    fn file_bytes(&self, path: &Path) -> Result<Option<u64>, ReadError> {
        match self {
            Self::Folder(root) => {
                let metadata = inside(root, path)?.metadata()?;
                if metadata.is_file() {
                    Ok(Some(metadata.len()))
                } else {
                    Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file").into())
                }
            }
            Self::Archives(archives) => Ok(Some(archives.file_bytes(path)?)),
        }
    }
}

/// Case-insensitive lookup, as on the systems where many meshes are made; the first match in sorted order.
fn find_case_insensitive(tree: &Tree, relative: &Path) -> Option<PathBuf> {
    let mut found = PathBuf::new();
    for part in relative.components() {
        let exact = found.join(part);
        if tree.is_dir(&exact) || tree.is_file(&exact) {
            found = exact;
            continue;
        }
        let wanted = part.as_os_str().to_str()?.to_lowercase();
        let names = tree.entries(&found).ok()?.into_iter().map(|entry| entry.name);
        found.push(names.filter(|name| name.to_lowercase() == wanted).min()?);
    }
    Some(found)
}

/// Canonical path of a file; links must not leave `root`.
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

/// Entries of a folder on disk, sorted by name, without hidden ones.
pub(super) fn read_dir_sorted(dir: &Path) -> Result<Vec<DirEntry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(dir).map_err(DatasetError::io("read the folder", dir))? {
        let entry = entry.map_err(DatasetError::io("read the folder", dir))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            let name = name.to_string_lossy().into_owned();
            tracing::warn!(name, "ignored: the name is not UTF-8");
            continue;
        };
        if !name.starts_with('.') {
            // Follows links; a dangling link counts as a file, and fails when read.
            entries.push(DirEntry {
                name: name.to_owned(),
                is_dir: entry.path().is_dir(),
            });
        }
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}
