//! [`Archives`]: zip archives as one file tree, read in place, on a disk or by ranges in an object store.
//!
//! Nothing is extracted to disk. Of an archive in a store the directory at its end is read in growing pieces, and a member
//! by one request. Names that lead outside are ignored, and no entry is decompressed beyond its
//! declared size or the caller's limit, so a zip bomb costs no more than its index.

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use deflate64::Deflate64Decoder;
use flate2::Crc;
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use super::outage::Outage;
use super::path_index::PathIndex;
use super::{DirEntry, listing, mesh_file, normalize_within, slash_path};
use crate::error::{DatasetError, Result, SourceError};
use crate::store::{self, StoreFile};

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
/// What a local header begins with, and its length without name and extra field.
const LOCAL_HEADER_SIGNATURE: [u8; 4] = *b"PK\x03\x04";
const LOCAL_HEADER_BYTES: usize = 30;
/// How much longer than in the directory the extra field of a local header may be without another request.
const HEADER_SLACK_BYTES: usize = 64;
/// The first piece of a directory in a store that is read, and the largest.
const MIN_WINDOW_BYTES: u64 = 1 << 16;
const MAX_WINDOW_BYTES: u64 = 1 << 23;

/// Files of one or more archives, and sidecar files beside them.
#[derive(Debug)]
pub(super) struct Archives {
    packed: Vec<Packed>,
    members: PathIndex<Member>,
    /// Path or address.
    folder: PathBuf,
    /// Whether lists may lie beside the archives.
    has_sidecar_files: bool,
    /// When the newest archive last changed.
    last_change: Option<SystemTime>,
    outage: Outage,
}

/// An archive.
#[derive(Debug)]
struct Packed {
    file: StoreFile,
    /// Cloned for each member that is read.
    index: Mutex<ZipArchive<SharedFile>>,
    handover: Arc<Handover>,
}

/// A file in an archive.
#[derive(Debug)]
struct Member {
    archive: usize,
    /// Index in the archive.
    entry: usize,
    /// Length of the content, as claimed.
    bytes: u64,
    /// Where the archive has it, from its header on.
    range: Range<u64>,
}

impl Archives {
    /// Reads the indices of archives. With `sidecar`, files in that folder belong to the tree too.
    pub(super) fn open(paths: &[PathBuf], sidecar: Option<PathBuf>) -> Result<Self> {
        let has_sidecar_files = sidecar.is_some();
        let folder = sidecar.or_else(|| Some(paths.first()?.parent()?.to_owned()));
        let mut tree = Self {
            packed: Vec::new(),
            members: PathIndex::default(),
            folder: folder.unwrap_or_default(),
            has_sidecar_files,
            last_change: None,
            outage: Outage::default(),
        };
        for path in paths {
            tree.add(path)?;
        }
        if paths.len() == 1 {
            tree.enter_lone_folder();
        }
        Ok(tree)
    }

    fn add(&mut self, path: &Path) -> Result<()> {
        let damaged = |source| match source {
            ZipError::Io(error) if store::is_url(path) => DatasetError::io("read the archive", path)(error),
            source => DatasetError::Source(SourceError::Archive {
                path: path.to_owned(),
                source,
            }),
        };
        let open = || Ok((store::state(path)?.changed, store::open(path)?));
        let (changed, file) = open().map_err(DatasetError::io("open the archive", path))?;
        self.last_change = self.last_change.max(changed);
        let handover = Arc::new(Handover::new(self.outage.clone()));
        let reader = SharedFile::new(file.clone(), Arc::clone(&handover));
        let mut archive = ZipArchive::new(reader).map_err(damaged)?;
        handover.lock().is_listing = file.is_remote();
        for entry_idx in 0..archive.len().min(MAX_ENTRIES) {
            let entry = archive.by_index_raw(entry_idx).map_err(damaged)?;
            let name = entry.name().replace('\\', "/");
            let inside = normalize_within(Path::new(&name)).filter(|path| !path.as_os_str().is_empty());
            match inside {
                Some(inside) if entry.is_file() => {
                    let header_bytes = LOCAL_HEADER_BYTES + entry.name_raw().len() + entry.extra_data().len();
                    let begin = entry.header_start();
                    let end = begin
                        .saturating_add((header_bytes + HEADER_SLACK_BYTES) as u64)
                        .saturating_add(entry.compressed_size());
                    let member = Member {
                        archive: self.packed.len(),
                        entry: entry_idx,
                        bytes: entry.size(),
                        range: begin..end.min(file.len()),
                    };
                    // Of duplicates the first wins, across archives.
                    self.members.insert(slash_path(&inside), member);
                }
                Some(_) => {}
                None => tracing::warn!(name, "ignored: the name leads out of the archive"),
            }
        }
        handover.lock().is_listing = false;
        self.packed.push(Packed {
            file,
            index: Mutex::new(archive),
            handover,
        });
        Ok(())
    }

    /// Makes the folder around the whole set the root; files beside it, such as lists, stay where they are.
    fn enter_lone_folder(&mut self) {
        let mut meshes = self.walk(usize::MAX);
        meshes.retain(|path| mesh_file::is_mesh(path));
        if let Some(folder) = listing::lone_folder(&meshes) {
            self.members.enter(&folder);
        }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn entries(&self, dir: &Path) -> Vec<DirEntry> {
        self.members.entries(dir)
    }

    /// All files at most `max_depth` folders deep, sorted by path, without hidden ones.
    pub(super) fn walk(&self, max_depth: usize) -> Vec<PathBuf> {
        self.members.walk(Path::new(""), max_depth)
    }

    pub(super) fn is_file(&self, path: &Path) -> bool {
        self.members.get(path).is_some() || self.sidecar(path).is_some()
    }

    pub(super) fn is_dir(&self, path: &Path) -> bool {
        self.members.is_dir(path)
    }

    /// A list file beside the archives.
    fn sidecar(&self, path: &Path) -> Option<PathBuf> {
        let is_name = path.components().count() == 1;
        let path = self.folder.join(path);
        let is_file = || store::len(&path).is_ok_and(|len| len.is_some());
        (self.has_sidecar_files && is_name && is_file()).then_some(path)
    }

    pub(super) fn outage(&self) -> &Outage {
        &self.outage
    }

    pub(super) fn last_change(&self) -> Option<SystemTime> {
        self.last_change
    }

    pub(super) fn file_bytes(&self, path: &Path) -> io::Result<u64> {
        match self.members.get(path) {
            Some(member) => Ok(member.bytes),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn read(&self, path: &Path, limit_bytes: u64) -> io::Result<Vec<u8>> {
        let Some(member) = self.members.get(path) else {
            return match self.sidecar(path) {
                Some(path) => store::read_bounded(&path, limit_bytes),
                None => Err(io::ErrorKind::NotFound.into()),
            };
        };
        let Member {
            archive,
            entry,
            bytes: claimed_bytes,
            ..
        } = *member;
        if claimed_bytes > limit_bytes {
            let message = format!("more than {limit_bytes} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
        }
        let mut archive = self.packed[archive].reader_of(member)?;
        let method = archive.by_index_raw(entry).map_err(unwrapped)?.compression();
        let bytes = if method == CompressionMethod::DEFLATE64 {
            // What Windows Explorer packs large files with; the `zip` crate of this version leaves it to others.
            let file = archive.by_index_raw(entry).map_err(unwrapped)?;
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
                error => unwrapped(error),
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

impl Packed {
    /// The archive with a cursor of its own; the index is shared. Of a store the member comes along, read at once.
    fn reader_of(&self, member: &Member) -> io::Result<ZipArchive<SharedFile>> {
        let num = member.range.end.saturating_sub(member.range.start);
        let along = if self.file.is_remote() && num <= max_packed_bytes(member.bytes) {
            Some(self.handover.window(&self.file, member.range.start, num)?)
        } else {
            None
        };
        let index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        self.handover.lock().member = along;
        Ok(index.clone())
    }
}

/// The most that a member of this length takes with its header. What claims more is read piece by piece, so that no crafted
/// directory fills the memory.
fn max_packed_bytes(bytes: u64) -> u64 {
    bytes.saturating_add(bytes / 64).saturating_add(MIN_WINDOW_BYTES)
}

/// An error of the crate; one of reading as it was.
fn unwrapped(error: ZipError) -> io::Error {
    match error {
        ZipError::Io(error) => error,
        error => io::Error::other(error),
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

/// A file shared by threads: each clone has its own cursor.
#[derive(Debug)]
struct SharedFile {
    file: StoreFile,
    position: u64,
    /// Where the cursor was last set.
    sought: u64,
    /// What was read last of a store.
    window: Window,
    handover: Arc<Handover>,
}

/// Bytes of a file from a position on.
#[derive(Debug, Clone, Default)]
struct Window {
    start: u64,
    bytes: Bytes,
}

impl Window {
    /// The bytes from a position on, if it has any.
    fn bytes_at(&self, position: u64) -> Option<&[u8]> {
        let skipped = usize::try_from(position.checked_sub(self.start)?).ok()?;
        self.bytes.get(skipped..).filter(|bytes| !bytes.is_empty())
    }
}

/// Between an archive and its reader, which the crate owns.
#[derive(Debug)]
struct Handover {
    said: Mutex<Said>,
    outage: Outage,
}

#[derive(Debug, Default)]
struct Said {
    /// Members are listed. The crate looks at the local header of each then, for what the directory has too: the reader
    /// has an empty one everywhere, where each would be a request.
    is_listing: bool,
    /// For the next clone.
    member: Option<Window>,
}

impl Handover {
    fn new(outage: Outage) -> Self {
        Self {
            said: Mutex::default(),
            outage,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of a file in a store.
    fn window(&self, file: &StoreFile, start: u64, num: u64) -> io::Result<Window> {
        let bytes = file.bytes(start, num as usize);
        match bytes {
            Ok(bytes) => Ok(Window { start, bytes }),
            Err(error) => {
                self.outage.note(&error);
                Err(error)
            }
        }
    }
}

impl SharedFile {
    fn new(file: StoreFile, handover: Arc<Handover>) -> Self {
        Self {
            file,
            position: 0,
            sought: 0,
            window: Window::default(),
            handover,
        }
    }

    /// Bytes of an empty local header where the cursor was set.
    fn read_header(&self, buffer: &mut [u8]) -> usize {
        for (position, byte) in (self.position..).zip(buffer.iter_mut()) {
            let in_header = usize::try_from(position.saturating_sub(self.sought)).ok();
            let in_signature = in_header.and_then(|place| LOCAL_HEADER_SIGNATURE.get(place));
            *byte = in_signature.copied().unwrap_or_default();
        }
        buffer.len()
    }

    /// Bytes of a store, a piece at a time; pieces that follow each other grow.
    fn read_window(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position >= self.file.len() {
            return Ok(0);
        }
        if self.window.bytes_at(self.position).is_none() {
            let read_bytes = self.window.bytes.len() as u64;
            let (start, num) = if read_bytes > 0 && self.position == self.window.start + read_bytes {
                (
                    self.position,
                    (2 * read_bytes).clamp(MIN_WINDOW_BYTES, MAX_WINDOW_BYTES),
                )
            } else {
                // What is looked for from the end on, step by step, is in the same piece.
                (self.position - self.position % MIN_WINDOW_BYTES, MIN_WINDOW_BYTES)
            };
            let num = num.min(self.file.len() - start);
            self.window = self.handover.window(&self.file, start, num)?;
        }
        let found = self.window.bytes_at(self.position).unwrap_or_default();
        let num = found.len().min(buffer.len());
        buffer[..num].copy_from_slice(&found[..num]);
        Ok(num)
    }
}

impl Clone for SharedFile {
    fn clone(&self) -> Self {
        Self {
            window: self.handover.lock().member.take().unwrap_or_default(),
            ..Self::new(self.file.clone(), Arc::clone(&self.handover))
        }
    }
}

impl Read for SharedFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let num_read = match &self.file {
            StoreFile::Local { .. } => self.file.read_at(buffer, self.position)?,
            StoreFile::Remote(_) if self.handover.lock().is_listing => self.read_header(buffer),
            StoreFile::Remote(_) => self.read_window(buffer)?,
        };
        self.position += num_read as u64;
        Ok(num_read)
    }
}

impl Seek for SharedFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (start, offset) = match to {
            SeekFrom::Start(position) => (position, 0),
            SeekFrom::End(offset) => (self.file.len(), offset),
            SeekFrom::Current(offset) => (self.position, offset),
        };
        self.position = start
            .checked_add_signed(offset)
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        if !matches!(to, SeekFrom::Current(_)) {
            self.sought = self.position;
        }
        Ok(self.position)
    }
}
