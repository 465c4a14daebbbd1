//! [`StoredFolder`]: a folder of meshes in an object store.
//!
//! It is listed once, with the lengths of all files, or not at all: a table and the list of a unit name the meshes, and a web
//! server has no list. Files of a folder that is not listed are asked for one by one, many at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use super::outage::Outage;
use super::path_index::PathIndex;
use super::tree::texture_folders;
use super::walk::{VIEWS_FILE_NAME, Walk};
use super::{DirEntry, ReadError, mesh_file, slash_path};
use crate::error::{DatasetError, Result, SourceError, StoreError};
use crate::pipeline::parallel_map;
use crate::sha256;
use crate::store::{self, FileState, NUM_REQUESTS};

/// Extensions of tables on a web server, where a page answers for a folder.
const TABLE_EXTENSIONS: [&str; 4] = ["csv", "parquet", "tsv", "txt"];
/// No store has longer paths; a mesh may name any.
const MAX_PATH_BYTES: usize = 1024;

/// A folder of a bucket or a web server. Paths are relative to it.
#[derive(Debug, Clone)]
pub(super) struct StoredFolder {
    /// Address.
    root: PathBuf,
    /// The folder, entered, around the whole set; empty if none was.
    within: PathBuf,
    /// Folders below which files may be read, relative to the root.
    given: Vec<PathBuf>,
    files: Arc<Files>,
    outage: Outage,
}

/// What is known of files, by their paths in the folder that was given.
#[derive(Debug)]
enum Files {
    Listed(PathIndex<FileState>),
    /// Answers to what was asked.
    Asked(Mutex<BTreeMap<PathBuf, Answer>>),
}

/// State of a file, or why it has none.
type Answer = Result<FileState, (io::ErrorKind, String)>;

/// Whether a path or an address names a file.
///
/// # Errors
/// When its store cannot be asked.
pub(super) fn is_file(path: &Path) -> Result<bool> {
    if !store::is_url(path) {
        return Ok(path.is_file());
    }
    if store::is_bucket(path) {
        return Ok(false);
    }
    let extension = mesh_file::extension_of(path);
    let is_named_so =
        || mesh_file::is_mesh(path) || mesh_file::is_archive(path) || TABLE_EXTENSIONS.contains(&&*extension);
    if !store::can_list(path)? && !is_named_so() {
        return Ok(false);
    }
    Ok(store::len(path)?.is_some())
}

/// Refuses an address with a secret in it, which would be in messages and lists.
///
/// # Errors
/// When it has one.
pub(super) fn refuse_secret(path: &Path) -> Result<()> {
    match store::without_secret(path) {
        Some(shown) => Err(DatasetError::Source(SourceError::Secret {
            path: PathBuf::from(shown),
        })),
        None => Ok(()),
    }
}

impl StoredFolder {
    /// Lists a folder.
    pub(super) fn list(root: &Path) -> Result<Self> {
        let mut files = PathIndex::default();
        store::list_all(root, &mut |path, file| files.insert(path, file))?;
        Ok(Self::new(root, Files::Listed(files)))
    }

    /// A folder whose files are asked for when they are needed.
    pub(super) fn unlisted(root: &Path) -> Self {
        Self::new(root, Files::Asked(Mutex::default()))
    }

    /// What is given with a single mesh, by the address of its folder: that folder, and the folders for textures beside it.
    /// Also the path of the folder in this one.
    pub(super) fn of_mesh_folder(folder: &Path) -> (Self, PathBuf) {
        let (false, Some(root), Some(name)) = (store::is_bucket(folder), folder.parent(), folder.file_name())
        else {
            return (Self::unlisted(folder), PathBuf::new());
        };
        let folders = texture_folders().map(PathBuf::from);
        let given = std::iter::once(PathBuf::from(name)).chain(folders).collect();
        let stored = Self {
            given,
            ..Self::unlisted(root)
        };
        (stored, PathBuf::from(name))
    }

    fn new(root: &Path, files: Files) -> Self {
        Self {
            root: root.to_owned(),
            within: PathBuf::new(),
            given: vec![PathBuf::new()],
            files: Arc::new(files),
            outage: Outage::default(),
        }
    }

    pub(super) fn outage(&self) -> &Outage {
        &self.outage
    }

    /// The folder around a whole set becomes a sidecar of the set.
    pub(super) fn enter(self, lone_folder: &Path) -> Self {
        Self {
            root: self.root.join(lone_folder),
            within: self.within.join(lone_folder),
            ..self
        }
    }

    /// The folder around the root, if that was entered: lists may lie there too.
    pub(super) fn around(&self) -> Option<Self> {
        let is_entered = !self.within.as_os_str().is_empty();
        is_entered.then(|| Self {
            root: self.top().to_owned(),
            within: PathBuf::new(),
            ..self.clone()
        })
    }

    /// Address of what was listed.
    fn top(&self) -> &Path {
        let top = self.root.ancestors().nth(self.within.components().count());
        top.expect("the root is within it")
    }

    /// Asks for these files at once, many at a time; those of a folder that is listed are known.
    ///
    /// # Errors
    /// When none of them can be asked for.
    pub(super) fn look_up(&self, paths: &[PathBuf]) -> Result<()> {
        if let Files::Listed(_) = &*self.files {
            return Ok(());
        }
        let ask = |idx: usize| self.state(&paths[idx]).map_err(|error| (idx, error));
        let answers = parallel_map(NUM_REQUESTS, paths.len(), ask, || {})?;
        let mut failed = None;
        for answer in answers {
            match answer {
                Ok(_) => return Ok(()),
                Err((_, error)) if error.kind() == io::ErrorKind::NotFound => {}
                Err((idx, error)) => failed = failed.or(Some((idx, error))),
            }
        }
        match failed {
            Some((idx, error)) => Err(DatasetError::io("look at", &self.root.join(&paths[idx]))(error)),
            None => Ok(()),
        }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn is_listed(&self) -> bool {
        matches!(&*self.files, Files::Listed(_))
    }

    /// Whether the list has nothing.
    pub(super) fn is_empty(&self) -> bool {
        match &*self.files {
            Files::Listed(files) => !files.is_dir(&self.within),
            Files::Asked(_) => false,
        }
    }

    /// Length and last change of a file that may be read.
    pub(super) fn state(&self, path: &Path) -> io::Result<FileState> {
        let asked = match &*self.files {
            Files::Listed(files) => {
                let found = files.get(&self.within.join(path)).copied();
                return found.ok_or_else(|| io::ErrorKind::NotFound.into());
            }
            Files::Asked(asked) => asked,
        };
        let in_top = self.within.join(path);
        let known = lock(asked).get(&in_top).cloned();
        let answer = known.unwrap_or_else(|| {
            let answer = store::state(&self.root.join(path)).map_err(|e| (e.kind(), e.to_string()));
            lock(asked).insert(in_top, answer.clone());
            answer
        });
        answer.map_err(|(kind, message)| io::Error::new(kind, message))
    }

    pub(super) fn is_file(&self, path: &Path) -> bool {
        !path.as_os_str().is_empty() && self.state(path).is_ok()
    }

    pub(super) fn is_dir(&self, path: &Path) -> bool {
        match &*self.files {
            Files::Listed(files) => files.is_dir(&self.within.join(path)),
            Files::Asked(_) => !self.list_folder(path).is_empty(),
        }
    }

    /// Entries of a folder, sorted by name, without hidden ones and clutter.
    pub(super) fn entries(&self, dir: &Path) -> Vec<DirEntry> {
        match &*self.files {
            Files::Listed(files) => files.entries(&self.within.join(dir)),
            Files::Asked(_) => self.list_folder(dir),
        }
    }

    /// Entries that the store lists now; none where it lists nothing or does not answer.
    fn list_folder(&self, dir: &Path) -> Vec<DirEntry> {
        let listed = store::list(&self.root.join(dir)).unwrap_or_else(|error| {
            if let DatasetError::Store(StoreError::Io { source, .. }) = &error
                && source.kind() == io::ErrorKind::TimedOut
            {
                self.outage.note(source);
            }
            Vec::new()
        });
        let entry = |entry: store::DirEntry| match entry.name.strip_suffix('/') {
            Some(name) => DirEntry {
                name: name.to_owned(),
                is_dir: true,
            },
            None => DirEntry {
                name: entry.name,
                is_dir: false,
            },
        };
        listed.into_iter().map(entry).collect()
    }

    /// All files at most `max_depth` folders deep, without hidden ones and clutter; none if they are not listed.
    pub(super) fn walk(&self, max_depth: usize) -> Vec<PathBuf> {
        match &*self.files {
            Files::Listed(files) => {
                let mut found = files.walk(&self.within, max_depth);
                found.sort();
                found
            }
            Files::Asked(_) => Vec::new(),
        }
    }

    /// All files for which `is_wanted`. As on a disk, folders of rendered views are passed over.
    ///
    /// # Errors
    /// When the folder is not listed.
    pub(super) fn files(&self, is_wanted: &dyn Fn(&Path) -> bool) -> Result<Walk> {
        if !self.is_listed() {
            return Err(DatasetError::Source(SourceError::NoList {
                path: self.root.clone(),
            }));
        }
        let mut files = self.walk(usize::MAX);
        let is_of_views = |path: &&PathBuf| path.file_name().is_some_and(|name| name == VIEWS_FILE_NAME);
        let views: BTreeSet<PathBuf> = files
            .iter()
            .filter(is_of_views)
            .filter_map(|path| path.parent().map(Path::to_owned))
            .collect();
        files
            .retain(|path| is_wanted(path) && !path.ancestors().skip(1).any(|folder| views.contains(folder)));
        Ok(Walk {
            files,
            ..Walk::default()
        })
    }

    /// Reads a mesh.
    pub(super) fn read(&self, path: &Path, limit_bytes: u64) -> Result<Vec<u8>, ReadError> {
        let read = self.try_read(path, limit_bytes);
        if let Err(ReadError::Io(error)) = &read {
            self.outage.note(error);
        }
        read
    }

    /// Reads what a mesh refers to, which need not be there.
    pub(super) fn read_asset(&self, path: &Path, limit_bytes: u64) -> Result<Vec<u8>, ReadError> {
        let read = self.try_read(path, limit_bytes);
        match &read {
            Err(ReadError::Io(error)) if self.is_denied(error) => {
                Err(io::Error::from(io::ErrorKind::NotFound).into())
            }
            Err(ReadError::Io(error)) => {
                self.outage.note(error);
                read
            }
            _ => read,
        }
    }

    /// Whether it is what a store says of an object that is not there to those who may not list.
    fn is_denied(&self, error: &io::Error) -> bool {
        error.kind() == io::ErrorKind::PermissionDenied && !self.is_listed()
    }

    fn try_read(&self, path: &Path, limit_bytes: u64) -> Result<Vec<u8>, ReadError> {
        if !self.given.iter().any(|given| path.starts_with(given)) {
            return Err(ReadError::Outside);
        }
        if path.as_os_str().len() > MAX_PATH_BYTES {
            return Err(io::Error::from(io::ErrorKind::NotFound).into());
        }
        if self.is_listed() && self.state(path)?.bytes > limit_bytes {
            let message = format!("more than {limit_bytes} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, message).into());
        }
        Ok(store::read_bounded(&self.root.join(path), limit_bytes)?)
    }

    /// A list file; `None` if it does not exist.
    pub(super) fn read_list(&self, path: &Path, limit_bytes: u64) -> io::Result<Option<Vec<u8>>> {
        match self.try_read(path, limit_bytes) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(ReadError::Outside) => Ok(None),
            Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(ReadError::Io(error)) if self.is_denied(&error) => {
                tracing::warn!(list = slash_path(path), "taken for absent: {error}");
                Ok(None)
            }
            Err(ReadError::Io(error)) => Err(error),
        }
    }

    pub(super) fn changed(&self, path: &Path) -> Option<SystemTime> {
        self.state(path).ok()?.changed
    }

    /// Of all files that are known, and so of files that were removed: its fraction of a second stands for all of them.
    pub(super) fn last_change(&self) -> Option<SystemTime> {
        let (mut newest, mut all) = (None, Sha256::new());
        let mut add = |path: &str, file: &FileState| {
            newest = newest.max(file.changed);
            all.update(format!("{path} {} {:?}\n", file.bytes, file.changed));
        };
        match &*self.files {
            Files::Listed(files) => files.iter().for_each(|(path, file)| add(path, file)),
            Files::Asked(asked) => {
                for (path, answer) in &*lock(asked) {
                    if let Ok(file) = answer {
                        add(&slash_path(path), file);
                    }
                }
            }
        }
        newest.map(|newest| store::time_of_state(newest, sha256::hex(&all.finalize())))
    }
}

fn lock(asked: &Mutex<BTreeMap<PathBuf, Answer>>) -> MutexGuard<'_, BTreeMap<PathBuf, Answer>> {
    asked.lock().unwrap_or_else(PoisonError::into_inner)
}
