//! [`Archives`]: zip archives as one tree of files, read in place.
//!
//! Nothing is unpacked to the disk. Names that lead out of the archive are passed over, a file is never read beyond
//! the length that the archive claims for it, and neither beyond the limit of whoever asks: an archive that would
//! unpack to a terabyte costs no more than its index.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zip::ZipArchive;

use super::{Entry, modelnet, portable, shapenet, within};
use crate::{DatasetError, Result, durable};

/// More entries than any collection of meshes has.
const MAX_ENTRIES: usize = 20_000_000;

/// The files of one or more archives, and those that lie beside them.
#[derive(Debug)]
pub(super) struct Archives {
    indices: Vec<ZipArchive<SharedFile>>,
    /// By path: the archive, the place in it, and the length once unpacked.
    files: BTreeMap<String, (usize, usize, u64)>,
    dirs: BTreeSet<String>,
    folder: PathBuf,
    /// Lists may lie beside archives.
    has_files_beside: bool,
}

impl Archives {
    /// Opens archives: reads their indices, no file. With `beside`, files of that folder belong to the tree too.
    pub(super) fn open(paths: &[PathBuf], beside: Option<PathBuf>) -> Result<Self> {
        let has_files_beside = beside.is_some();
        let folder = beside.or_else(|| Some(paths.first()?.parent()?.to_owned()));
        let mut tree = Self {
            indices: Vec::new(),
            files: BTreeMap::new(),
            dirs: BTreeSet::new(),
            folder: folder.unwrap_or_default(),
            has_files_beside,
        };
        for path in paths {
            tree.add(path)?;
        }
        if paths.len() == 1 {
            tree.enter_lone_folder();
        }
        tree.dirs = tree.files.keys().flat_map(|path| folders_of(path)).collect();
        Ok(tree)
    }

    fn add(&mut self, path: &Path) -> Result<()> {
        let damaged = |source| DatasetError::Archive {
            path: path.to_owned(),
            source,
        };
        let file = SharedFile::open(path).map_err(DatasetError::io("open the archive", path))?;
        let mut archive = ZipArchive::new(file).map_err(damaged)?;
        for entry_idx in 0..archive.len().min(MAX_ENTRIES) {
            let entry = archive.by_index_raw(entry_idx).map_err(damaged)?;
            let name = entry.name().replace('\\', "/");
            let inside = within(Path::new(&name)).filter(|path| !path.as_os_str().is_empty());
            match inside {
                Some(inside) if entry.is_file() => {
                    let place = (self.indices.len(), entry_idx, entry.size());
                    // Of twins the first counts, whichever archive it is in.
                    self.files.entry(portable(&inside)).or_insert(place);
                }
                Some(_) => {}
                None => tracing::warn!(name, "passed over: the name leads out of the archive"),
            }
        }
        self.indices.push(archive);
        Ok(())
    }

    /// An archive often holds one folder with everything in it; that folder is entered, unless it is a category.
    fn enter_lone_folder(&mut self) {
        let Some((first, _)) = self.files.keys().next().and_then(|path| path.split_once('/')) else {
            return;
        };
        let prefix = format!("{first}/");
        let is_alone = self.files.keys().all(|path| path.starts_with(&prefix));
        let within: BTreeSet<&str> = self
            .files
            .keys()
            .filter_map(|path| path.strip_prefix(&prefix)?.split_once('/'))
            .map(|(folder, _)| folder)
            .collect();
        let has_meshes = self
            .files
            .keys()
            .filter_map(|path| path.strip_prefix(&prefix))
            .any(|name| {
                let entry = Entry {
                    name: name.to_owned(),
                    is_dir: false,
                };
                !name.contains('/') && entry.is_mesh()
            });
        let is_category = has_meshes
            || shapenet::is_synset(first)
            || modelnet::SPLIT_FOLDERS
                .iter()
                .any(|(split, _)| within.contains(split));
        if is_alone && !within.is_empty() && !is_category {
            let files = std::mem::take(&mut self.files);
            let strip = |(path, place): (String, _)| (path[prefix.len()..].to_owned(), place);
            self.files = files.into_iter().map(strip).collect();
        }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn entries(&self, dir: &Path) -> Vec<Entry> {
        let prefix = match portable(dir) {
            root if root.is_empty() => root,
            dir => dir + "/",
        };
        let mut entries: BTreeMap<&str, bool> = BTreeMap::new();
        for path in self.files.range(prefix.clone()..).map(|(path, _)| path) {
            let Some(rest) = path.strip_prefix(&prefix) else {
                break;
            };
            let (name, is_dir) = rest
                .split_once('/')
                .map_or((rest, false), |(name, _)| (name, true));
            if !name.starts_with('.') && name != "__MACOSX" {
                *entries.entry(name).or_default() |= is_dir;
            }
        }
        let entry = |(name, is_dir): (&str, bool)| Entry {
            name: name.to_owned(),
            is_dir,
        };
        entries.into_iter().map(entry).collect()
    }

    pub(super) fn is_file(&self, path: &Path) -> bool {
        self.files.contains_key(&portable(path)) || self.beside(path).is_some()
    }

    pub(super) fn is_dir(&self, path: &Path) -> bool {
        self.dirs.contains(&portable(path))
    }

    /// A list that lies beside the archives.
    fn beside(&self, path: &Path) -> Option<PathBuf> {
        let is_name = path.components().count() == 1;
        let path = self.folder.join(path);
        (self.has_files_beside && is_name && path.is_file()).then_some(path)
    }

    pub(super) fn file_bytes(&self, path: &Path) -> io::Result<u64> {
        match self.files.get(&portable(path)) {
            Some((_, _, bytes)) => Ok(*bytes),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn read(&self, path: &Path, limit_bytes: u64) -> io::Result<Vec<u8>> {
        let Some(&(archive, entry, claimed_bytes)) = self.files.get(&portable(path)) else {
            return match self.beside(path) {
                Some(path) => durable::read_bounded(&path, limit_bytes),
                None => Err(io::ErrorKind::NotFound.into()),
            };
        };
        if claimed_bytes > limit_bytes {
            let message = format!("more than {limit_bytes} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
        }
        // The index is shared; the place in the file is each reader's own.
        let mut archive = self.indices[archive].clone();
        let file = archive.by_index(entry).map_err(io::Error::other)?;
        let mut bytes = Vec::new();
        file.take(claimed_bytes + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 == claimed_bytes {
            Ok(bytes)
        } else {
            let message = "its length is not what the archive claims";
            Err(io::Error::new(io::ErrorKind::InvalidData, message))
        }
    }
}

/// The folders above a file, the nearest first.
fn folders_of(path: &str) -> impl Iterator<Item = String> {
    let slashes = path.match_indices('/').map(|(at, _)| path[..at].to_owned());
    slashes.collect::<Vec<_>>().into_iter()
}

/// A file that many threads read at once: each clone has a place of its own.
#[derive(Debug, Clone)]
struct SharedFile {
    file: Arc<File>,
    len: u64,
    position: u64,
}

impl SharedFile {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        Ok(Self {
            len: file.metadata()?.len(),
            file: Arc::new(file),
            position: 0,
        })
    }
}

impl Read for SharedFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let num_read = durable::read_at(&self.file, buffer, self.position)?;
        self.position += num_read as u64;
        Ok(num_read)
    }
}

impl Seek for SharedFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (start, offset) = match to {
            SeekFrom::Start(position) => (position, 0),
            SeekFrom::End(offset) => (self.len, offset),
            SeekFrom::Current(offset) => (self.position, offset),
        };
        self.position = start
            .checked_add_signed(offset)
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}
