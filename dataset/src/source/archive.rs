//! [`Archives`]: zip archives as one file tree, read in place.
//!
//! Nothing is extracted to disk. Names that lead outside are ignored, and no entry is decompressed beyond its
//! declared size or the caller's limit, so a zip bomb costs no more than its index.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use deflate64::Deflate64Decoder;
use flate2::Crc;
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use super::walk::is_clutter;
use super::{DirEntry, listing, mesh_file, normalize_within, slash_path};
use crate::error::{DatasetError, Result, SourceError};
use crate::local_file;

/// Methods that cannot be read, with their names.
const UNREADABLE_METHODS: [(CompressionMethod, &str); 6] = [
    (CompressionMethod::IMPLODE, "implode"),
    (CompressionMethod::BZIP2, "bzip2"),
    (CompressionMethod::LZMA, "LZMA"),
    (CompressionMethod::ZSTD, "Zstandard"),
    (CompressionMethod::XZ, "XZ"),
    (CompressionMethod::PPMD, "PPMd"),
];
/// Limit on entries per archive.
const MAX_ENTRIES: usize = 20_000_000;

/// Files of one or more archives, and sidecar files beside them.
#[derive(Debug)]
pub(super) struct Archives {
    indices: Vec<ZipArchive<SharedFile>>,
    /// By path: archive, entry index, uncompressed size.
    files: BTreeMap<String, (usize, usize, u64)>,
    dirs: BTreeSet<String>,
    folder: PathBuf,
    /// Whether lists may lie beside the archives.
    has_sidecar_files: bool,
    /// When the newest archive last changed.
    last_change: Option<SystemTime>,
}

impl Archives {
    /// Reads the indices of archives. With `sidecar`, files in that folder belong to the tree too.
    pub(super) fn open(paths: &[PathBuf], sidecar: Option<PathBuf>) -> Result<Self> {
        let has_sidecar_files = sidecar.is_some();
        let folder = sidecar.or_else(|| Some(paths.first()?.parent()?.to_owned()));
        let mut tree = Self {
            indices: Vec::new(),
            files: BTreeMap::new(),
            dirs: BTreeSet::new(),
            folder: folder.unwrap_or_default(),
            has_sidecar_files,
            last_change: paths.iter().filter_map(|path| local_file::changed(path)).max(),
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
        let damaged = |source| {
            DatasetError::Source(SourceError::Archive {
                path: path.to_owned(),
                source,
            })
        };
        let file = SharedFile::open(path).map_err(DatasetError::io("open the archive", path))?;
        let mut archive = ZipArchive::new(file).map_err(damaged)?;
        for entry_idx in 0..archive.len().min(MAX_ENTRIES) {
            let entry = archive.by_index_raw(entry_idx).map_err(damaged)?;
            let name = entry.name().replace('\\', "/");
            let inside = normalize_within(Path::new(&name)).filter(|path| !path.as_os_str().is_empty());
            match inside {
                Some(inside) if entry.is_file() => {
                    let place = (self.indices.len(), entry_idx, entry.size());
                    // Of duplicates the first wins, across archives.
                    self.files.entry(slash_path(&inside)).or_insert(place);
                }
                Some(_) => {}
                None => tracing::warn!(name, "ignored: the name leads out of the archive"),
            }
        }
        self.indices.push(archive);
        Ok(())
    }

    /// Makes the folder around the whole set the root; files beside it, such as lists, stay where they are.
    fn enter_lone_folder(&mut self) {
        let mut meshes = self.walk(usize::MAX - 1);
        meshes.retain(|path| mesh_file::is_mesh(path));
        let Some(folder) = listing::lone_folder(&meshes) else {
            return;
        };
        let prefix = slash_path(&folder) + "/";
        let files = std::mem::take(&mut self.files);
        let (within, beside): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|(path, _)| path.starts_with(&prefix));
        let strip = |(path, place): (String, _)| (path[prefix.len()..].to_owned(), place);
        self.files = within.into_iter().map(strip).collect();
        for (path, place) in beside {
            self.files.entry(path).or_insert(place);
        }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn entries(&self, dir: &Path) -> Vec<DirEntry> {
        let prefix = match slash_path(dir) {
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
            if !is_clutter(name) {
                *entries.entry(name).or_default() |= is_dir;
            }
        }
        let entry = |(name, is_dir): (&str, bool)| DirEntry {
            name: name.to_owned(),
            is_dir,
        };
        entries.into_iter().map(entry).collect()
    }

    /// All files at most `max_depth` folders deep, sorted by path, without hidden ones.
    pub(super) fn walk(&self, max_depth: usize) -> Vec<PathBuf> {
        let is_visible = |path: &&String| {
            let names = || path.split('/');
            names().count() <= max_depth + 1 && !names().any(is_clutter)
        };
        self.files.keys().filter(is_visible).map(PathBuf::from).collect()
    }

    pub(super) fn is_file(&self, path: &Path) -> bool {
        self.files.contains_key(&slash_path(path)) || self.sidecar(path).is_some()
    }

    pub(super) fn is_dir(&self, path: &Path) -> bool {
        self.dirs.contains(&slash_path(path))
    }

    /// A list file beside the archives.
    fn sidecar(&self, path: &Path) -> Option<PathBuf> {
        let is_name = path.components().count() == 1;
        let path = self.folder.join(path);
        (self.has_sidecar_files && is_name && path.is_file()).then_some(path)
    }

    pub(super) fn last_change(&self) -> Option<SystemTime> {
        self.last_change
    }

    pub(super) fn file_bytes(&self, path: &Path) -> io::Result<u64> {
        match self.files.get(&slash_path(path)) {
            Some((_, _, bytes)) => Ok(*bytes),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn read(&self, path: &Path, limit_bytes: u64) -> io::Result<Vec<u8>> {
        let Some(&(archive, entry, claimed_bytes)) = self.files.get(&slash_path(path)) else {
            return match self.sidecar(path) {
                Some(path) => local_file::read_bounded(&path, limit_bytes),
                None => Err(io::ErrorKind::NotFound.into()),
            };
        };
        if claimed_bytes > limit_bytes {
            let message = format!("more than {limit_bytes} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
        }
        // The index is shared; each clone has its own cursor.
        let mut archive = self.indices[archive].clone();
        let method = archive
            .by_index_raw(entry)
            .map_err(io::Error::other)?
            .compression();
        let bytes = if method == CompressionMethod::DEFLATE64 {
            // What Windows Explorer packs large files with; the `zip` crate of this version leaves it to others.
            let file = archive.by_index_raw(entry).map_err(io::Error::other)?;
            let sum = file.crc32();
            let bytes = read_to(claimed_bytes, Deflate64Decoder::new(file))?;
            let mut crc = Crc::new();
            crc.update(&bytes);
            if crc.sum() != sum {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "Invalid checksum"));
            }
            bytes
        } else {
            let file = archive.by_index(entry).map_err(|error| match error {
                ZipError::UnsupportedArchive(detail) => unreadable(method, detail),
                error => io::Error::other(error),
            })?;
            read_to(claimed_bytes, file)?
        };
        if bytes.len() as u64 == claimed_bytes {
            Ok(bytes)
        } else {
            let message = "its length is not what the archive claims";
            Err(io::Error::new(io::ErrorKind::InvalidData, message))
        }
    }
}

/// At most one byte more than an entry claims to have.
fn read_to(claimed_bytes: u64, file: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(claimed_bytes + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn unreadable(method: CompressionMethod, detail: &str) -> io::Error {
    let named = UNREADABLE_METHODS
        .iter()
        .find(|(unreadable, _)| *unreadable == method);
    let message = match named {
        Some((_, name)) => {
            format!(
                "packed with {name}, which is not read in place: unpack the archive, or pack it with deflate"
            )
        }
        None => format!("not read in place, unpack the archive: {detail}"),
    };
    io::Error::new(io::ErrorKind::Unsupported, message)
}

/// Parent folders of a path, nearest first.
fn folders_of(path: &str) -> impl Iterator<Item = String> {
    let slashes = path.match_indices('/').map(|(at, _)| path[..at].to_owned());
    slashes.collect::<Vec<_>>().into_iter()
}

/// A file shared by threads: each clone has its own cursor.
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
        let num_read = local_file::read_at(&self.file, buffer, self.position)?;
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
