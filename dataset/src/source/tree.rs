//! [`Tree`]: files of a source, in a folder or in zip archives read in place, on a disk or in an object store.
//!
//! All paths are relative to the tree and cannot leave it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use unicode_normalization::UnicodeNormalization as _;
use walkdir::WalkDir;

use super::archive::Archives;
use super::outage::Outage;
use super::stored::{self, StoredFolder};
use super::walk::{Links, Walk, is_clutter, walk};
use super::{DirEntry, ObjectReader, ReadError, canonicalize_dir, mesh_file, normalize_within};
use crate::error::{DatasetError, Result};
use crate::{local_file, store};

/// A folder or archives.
#[derive(Debug, Clone)]
pub(super) enum Tree {
    Folder(Folder),
    Stored(StoredFolder),
    Archives(Arc<Archives>),
}

/// A folder on disk. All paths are canonical.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    root: PathBuf,
    /// Folders below which files may be read, after links are resolved: the root, unless it is that of one mesh.
    given: Vec<PathBuf>,
    /// The folder around the root, if that was given: lists may lie there too.
    around: Option<PathBuf>,
}

/// Names of folders for textures beside a mesh's folder, in lower case.
const TEXTURE_FOLDERS: [&str; 6] = ["images", "maps", "materials", "texture", "textures", "tex"];

/// Names of folders for textures as they are written.
pub(super) fn texture_folders() -> impl Iterator<Item = String> {
    TEXTURE_FOLDERS.iter().flat_map(|name| {
        let (first, rest) = name.split_at(1);
        [
            (*name).to_owned(),
            first.to_uppercase() + rest,
            name.to_uppercase(),
        ]
    })
}

impl Tree {
    /// A folder on disk, by its canonical path.
    pub(super) fn of_folder(root: PathBuf) -> Self {
        Self::Folder(Folder {
            given: vec![root.clone()],
            around: None,
            root,
        })
    }

    /// A folder of which files are read by their names: on a disk, or in a store, where it is not listed.
    ///
    /// # Errors
    /// When a folder on a disk does not exist.
    pub(super) fn unlisted(folder: &Path) -> Result<Self> {
        if store::is_url(folder) {
            return Ok(Self::Stored(StoredFolder::unlisted(folder)));
        }
        Ok(Self::of_folder(canonicalize_dir(folder, "open the source")?))
    }

    /// What is given with a single mesh, by the canonical path or the address of its folder: that folder, and the folders for textures
    /// beside it, as in `ShapeNet` (`models` and `images`). Also the path of the folder in this tree.
    pub(super) fn of_mesh_folder(folder: &Path) -> (Self, PathBuf) {
        if store::is_url(folder) {
            let (stored, folder) = StoredFolder::of_mesh_folder(folder);
            return (Self::Stored(stored), folder);
        }
        let (Some(root), Some(name)) = (folder.parent(), folder.file_name()) else {
            return (Self::of_folder(folder.to_owned()), PathBuf::new());
        };
        let mut given = vec![folder.to_owned()];
        given.extend(texture_folders().map(|name| root.join(name)));
        let tree = Self::Folder(Folder {
            root: root.to_owned(),
            given,
            around: None,
        });
        (tree, PathBuf::from(name))
    }

    /// The folder around a whole set becomes a sidecar of the set.
    pub(super) fn enter(self, lone_folder: &Path) -> Self {
        match self {
            Self::Folder(Folder { root, .. }) => {
                let inner = root.join(lone_folder);
                Self::Folder(Folder {
                    given: vec![inner.clone()],
                    around: Some(root),
                    root: inner,
                })
            }
            Self::Stored(folder) => Self::Stored(folder.enter(lone_folder)),
            // It was entered when the archive was opened.
            archives @ Self::Archives(_) => archives,
        }
    }

    /// Opens a folder, an archive, or a folder that holds archives and no mesh.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn open(path: &Path) -> Result<Self> {
        if store::is_url(path) {
            return Self::open_stored(path);
        }
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
            if !archives.is_empty() && Self::of_folder(root.clone()).meshes()?.files.is_empty() {
                return Archives::open(&archives, Some(root)).map(Self::from_archives);
            }
        }
        Ok(Self::of_folder(root))
    }

    /// A web server has no list of a folder.
    fn open_stored(path: &Path) -> Result<Self> {
        if is_archive(path) && stored::is_file(path)? {
            return Archives::open(&[path.to_owned()], None).map(Self::from_archives);
        }
        if !store::can_list(path)? {
            return Self::unlisted(path);
        }
        let folder = Self::Stored(StoredFolder::list(path)?);
        let has_archives = folder
            .entries(Path::new(""))?
            .iter()
            .any(|entry| !entry.is_dir && is_archive(Path::new(&entry.name)));
        if has_archives && folder.meshes()?.files.is_empty() {
            return Self::open_archives_in(path);
        }
        Ok(folder)
    }

    /// Opens the archives of a folder in a store.
    ///
    /// # Errors
    /// When one cannot be read.
    pub(super) fn open_archives_in(path: &Path) -> Result<Self> {
        let folder = StoredFolder::unlisted(path);
        let entries = folder.entries(Path::new(""));
        let mut archives: Vec<PathBuf> = entries
            .into_iter()
            .filter(|entry| !entry.is_dir && !is_clutter(&entry.name))
            .map(|entry| path.join(entry.name))
            .filter(|path| is_archive(path))
            .collect();
        archives.sort();
        Archives::open(&archives, Some(path.to_owned())).map(Self::from_archives)
    }

    fn from_archives(archives: Archives) -> Self {
        Self::Archives(Arc::new(archives))
    }

    /// Asks a store for these files at once, many at a time, where it is not listed.
    ///
    /// # Errors
    /// When none of them can be asked for.
    pub(super) fn look_up(&self, paths: &[PathBuf]) -> Result<()> {
        match self {
            Self::Stored(folder) => folder.look_up(paths),
            Self::Folder(_) | Self::Archives(_) => Ok(()),
        }
    }

    /// Whether it knows all its files.
    pub(super) fn is_listed(&self) -> bool {
        match self {
            Self::Stored(folder) => folder.is_listed(),
            Self::Folder(_) | Self::Archives(_) => true,
        }
    }

    /// Whether its files are in a store.
    pub(super) fn is_stored(&self) -> bool {
        store::is_url(self.folder())
    }

    /// What was noted of its store.
    pub(super) fn outage(&self) -> Outage {
        match self {
            Self::Folder(_) => Outage::default(),
            Self::Stored(folder) => folder.outage().clone(),
            Self::Archives(archives) => archives.outage().clone(),
        }
    }

    /// The root folder, or the folder of the archives.
    pub(super) fn folder(&self) -> &Path {
        match self {
            Self::Folder(folder) => &folder.root,
            Self::Stored(folder) => folder.root(),
            Self::Archives(archives) => archives.folder(),
        }
    }

    /// Entries of a folder, sorted by name, without hidden ones and clutter.
    pub(super) fn entries(&self, dir: &Path) -> Result<Vec<DirEntry>> {
        match self {
            Self::Folder(folder) => read_dir_sorted(&folder.root.join(dir)),
            Self::Stored(folder) => Ok(folder.entries(dir)),
            Self::Archives(archives) => Ok(archives.entries(dir)),
        }
    }

    /// Names in a folder, in any order; none if it cannot be read.
    fn names(&self, dir: &Path) -> Vec<String> {
        match self {
            Self::Folder(folder) => {
                let entries = fs::read_dir(folder.root.join(dir))
                    .into_iter()
                    .flatten()
                    .flatten();
                entries
                    .filter_map(|entry| entry.file_name().into_string().ok())
                    .collect()
            }
            Self::Stored(folder) => names_of(folder.entries(dir)),
            Self::Archives(archives) => names_of(archives.entries(dir)),
        }
    }

    /// All files at most `max_depth` folders deep, sorted by path, without hidden ones and clutter. Follows links that stay within
    /// the tree.
    pub(super) fn walk(&self, max_depth: usize) -> Result<Vec<PathBuf>> {
        let folder = match self {
            Self::Folder(folder) => folder,
            Self::Stored(folder) => return Ok(folder.walk(max_depth)),
            Self::Archives(archives) => return Ok(archives.walk(max_depth)),
        };
        let root = &folder.root;
        let is_visible = |entry: &walkdir::DirEntry| {
            !is_clutter(&entry.file_name().to_string_lossy())
                && (!entry.path_is_symlink() || folder.inside(entry.path()).is_ok())
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

    /// All meshes, by their names, in formats that can be read or not; paths are relative to the tree.
    pub(super) fn meshes(&self) -> Result<Walk> {
        self.files(&mesh_file::is_mesh)
    }

    /// All files for which `is_wanted`; paths are relative to the tree.
    pub(super) fn files(&self, is_wanted: &dyn Fn(&Path) -> bool) -> Result<Walk> {
        let root = match self {
            Self::Folder(folder) => &folder.root,
            Self::Stored(folder) => return folder.files(is_wanted),
            Self::Archives(archives) => {
                let mut files = archives.walk(usize::MAX);
                files.retain(|path| is_wanted(path));
                // Strings are sorted otherwise than paths.
                files.sort();
                return Ok(Walk {
                    files,
                    ..Walk::default()
                });
            }
        };
        let mut found =
            walk(root, Links::Inside, is_wanted).map_err(DatasetError::io("read the folder", root))?;
        let Walk {
            files,
            unreadable,
            outside,
        } = &mut found;
        for path in files.iter_mut().chain(unreadable).chain(outside) {
            *path = path
                .strip_prefix(root)
                .expect("it was found below the root")
                .to_owned();
        }
        Ok(found)
    }

    pub(super) fn is_file(&self, path: &Path) -> bool {
        match self {
            Self::Folder(folder) => folder.root.join(path).is_file(),
            Self::Stored(folder) => folder.is_file(path),
            Self::Archives(archives) => archives.is_file(path),
        }
    }

    pub(super) fn is_dir(&self, path: &Path) -> bool {
        match self {
            Self::Folder(folder) => folder.root.join(path).is_dir(),
            Self::Stored(folder) => folder.is_dir(path),
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
        if let Self::Stored(folder) = self {
            let read = folder.read_list(path, limit_bytes);
            let read = read.map_err(DatasetError::io(action, &folder.root().join(path)))?;
            return match (read, folder.around()) {
                (None, Some(around)) => Self::Stored(around).read_list(path, action, limit_bytes),
                (read, _) => Ok(read),
            };
        }
        if self.is_file(path) {
            let read = self.read(path, limit_bytes).map(Some);
            return read.map_err(|error| DatasetError::io(action, &self.folder().join(path))(error.into()));
        }
        match self {
            Self::Folder(Folder {
                around: Some(around), ..
            }) => Self::of_folder(around.clone()).read_list(path, action, limit_bytes),
            _ => Ok(None),
        }
    }

    /// Whether there is a list of this name.
    pub(super) fn has_list(&self, path: &Path) -> bool {
        let is_around = |folder: &Folder| {
            let around = folder.around.as_ref();
            around.is_some_and(|around| around.join(path).is_file())
        };
        self.is_file(path)
            || match self {
                Self::Folder(folder) => is_around(folder),
                Self::Stored(folder) => folder.around().is_some_and(|around| around.is_file(path)),
                Self::Archives(_) => false,
            }
    }

    /// The file of this name in any Unicode normalization: macOS writes an umlaut as two characters.
    pub(super) fn find_normalized(&self, path: &Path) -> Option<PathBuf> {
        find_folded(self, path, &nfc)
    }
}

/// The text in normalization form C.
pub(super) fn nfc(text: &str) -> String {
    text.nfc().collect()
}

impl ObjectReader for Tree {
    fn read(&self, path: &Path, limit_bytes: u64) -> Result<Vec<u8>, ReadError> {
        let path = normalize_within(path).ok_or(ReadError::Outside)?;
        match self {
            Self::Folder(folder) => Ok(local_file::read_bounded(&folder.inside(&path)?, limit_bytes)?),
            Self::Stored(folder) => folder.read(&path, limit_bytes),
            Self::Archives(archives) => Ok(archives.read(&path, limit_bytes)?),
        }
    }

    /// Looks for the file in any case if there is none of this very name.
    fn read_asset(&self, path: &Path, limit_bytes: u64) -> Result<Vec<u8>, ReadError> {
        let read = |path: &Path| match self {
            Self::Stored(folder) => {
                let path = normalize_within(path).ok_or(ReadError::Outside)?;
                folder.read_asset(&path, limit_bytes)
            }
            Self::Folder(_) | Self::Archives(_) => self.read(path, limit_bytes),
        };
        match read(path) {
            Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                match find_folded(self, path, &str::to_lowercase) {
                    Some(path) => read(&path),
                    None => Err(error.into()),
                }
            }
            read => read,
        }
    }

    fn texture_folders(&self, folder: &Path) -> Vec<PathBuf> {
        let mut names = self.names(folder);
        names.retain(|name| TEXTURE_FOLDERS.contains(&name.to_lowercase().as_str()));
        names.sort();
        let folders = names.into_iter().map(|name| folder.join(name));
        folders.filter(|folder| self.is_dir(folder)).collect()
    }

    /// Follows links that stay within the tree.
    fn file_bytes(&self, path: &Path) -> Result<Option<u64>, ReadError> {
        match self {
            Self::Folder(folder) => Ok(Some(folder.metadata(path)?.len())),
            Self::Stored(folder) => Ok(Some(folder.state(path)?.bytes)),
            Self::Archives(archives) => Ok(Some(archives.file_bytes(path)?)),
        }
    }

    fn changed(&self, path: &Path) -> Option<SystemTime> {
        match self {
            Self::Folder(folder) => local_file::changed(&folder.inside(path).ok()?),
            Self::Stored(folder) => folder.changed(path),
            Self::Archives(archives) => archives.last_change(),
        }
    }

    fn state(&self, path: &Path) -> Result<(Option<u64>, Option<SystemTime>), ReadError> {
        match self {
            Self::Folder(folder) => {
                let metadata = folder.metadata(path)?;
                Ok((Some(metadata.len()), local_file::changed_by(&metadata)))
            }
            Self::Stored(_) | Self::Archives(_) => Ok((self.file_bytes(path)?, self.changed(path))),
        }
    }

    /// Of files and folders, and so of files that were removed.
    fn last_change(&self) -> Option<SystemTime> {
        match self {
            Self::Folder(folder) => {
                let entries = folder.given.iter().flat_map(WalkDir::new);
                entries
                    .flatten()
                    .filter_map(|entry| local_file::changed(entry.path()))
                    .max()
            }
            Self::Stored(folder) => folder.last_change(),
            Self::Archives(archives) => archives.last_change(),
        }
    }
}

fn names_of(entries: Vec<DirEntry>) -> Vec<String> {
    entries.into_iter().map(|entry| entry.name).collect()
}

/// The file whose names are equal after `fold`, such as lower case; the first match in sorted order.
fn find_folded(tree: &Tree, relative: &Path, fold: &dyn Fn(&str) -> String) -> Option<PathBuf> {
    let mut found = PathBuf::new();
    for part in relative.components() {
        let exact = found.join(part);
        if tree.is_dir(&exact) || tree.is_file(&exact) {
            found = exact;
            continue;
        }
        let wanted = fold(part.as_os_str().to_str()?);
        let names = tree.names(&found).into_iter();
        found.push(names.filter(|name| fold(name) == wanted).min()?);
    }
    Some(found)
}

impl Folder {
    /// What is known of a regular file.
    fn metadata(&self, path: &Path) -> Result<fs::Metadata, ReadError> {
        let metadata = self.inside(path)?.metadata()?;
        if metadata.is_file() {
            Ok(metadata)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file").into())
        }
    }

    /// Canonical path of a file; links must not leave what is given.
    fn inside(&self, path: &Path) -> Result<PathBuf, ReadError> {
        let path = self.root.join(path).canonicalize()?;
        if self.given.iter().any(|given| path.starts_with(given)) {
            Ok(path)
        } else {
            Err(ReadError::Outside)
        }
    }
}

pub(super) fn is_archive(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("zip"))
}

/// Entries of a folder on disk, sorted by name, without hidden ones and clutter.
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
        if !is_clutter(name) {
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
