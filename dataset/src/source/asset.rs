//! [`FolderAssets`]: reads the files that a mesh refers to, and no other file of the machine.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tap_render::import::{AssetError, AssetResolver};

use super::{ReadError, Tree, canonical, within};
use crate::{Result, durable};

/// How many bytes a mesh and the files around it may have if nothing else is said.
pub const DEFAULT_MAX_MESH_BYTES: u64 = 512 << 20;

/// The files that one mesh may read: those of a folder, up to a number of bytes in all. Whatever the mesh says,
/// nothing outside of the folder is opened, through `..`, an absolute path or a link neither.
#[derive(Debug)]
pub struct FolderAssets {
    tree: Tree,
    /// The mesh's folder.
    dir: PathBuf,
    limit_bytes: u64,
    left_bytes: Cell<u64>,
    /// Hash over the names and the bytes of what was read; `None` until something was.
    read: RefCell<Option<Sha256>>,
}

impl FolderAssets {
    /// The files in `folder` and below, for a mesh that lies in it; [`DEFAULT_MAX_MESH_BYTES`] in all.
    ///
    /// # Errors
    /// When there is no such folder.
    pub fn open(folder: &Path) -> Result<Self> {
        let root = canonical(folder, "open the folder")?;
        Ok(Self::new(&root, Path::new(""), DEFAULT_MAX_MESH_BYTES))
    }

    /// The files around the mesh at `mesh_path`, which is relative to `root`, a canonical path, and in all other folders
    /// of `root`; `limit_bytes` in all.
    #[must_use]
    pub fn new(root: &Path, mesh_path: &Path, limit_bytes: u64) -> Self {
        Self::in_tree(Tree::Folder(root.to_owned()), mesh_path, limit_bytes)
    }

    /// The files around the mesh at `mesh_path`, and in all other folders of its tree.
    pub(super) fn in_tree(tree: Tree, mesh_path: &Path, limit_bytes: u64) -> Self {
        let dir = mesh_path.parent().unwrap_or(Path::new("")).to_owned();
        Self {
            tree,
            dir,
            limit_bytes,
            left_bytes: Cell::new(limit_bytes),
            read: RefCell::new(None),
        }
    }

    /// The hash over the names and the bytes of all that was read so far; `None` if nothing was.
    pub(crate) fn sha256(&self) -> Option<String> {
        let hasher = self.read.borrow().clone();
        hasher.map(|hasher| durable::hex(&hasher.finalize()))
    }
}

impl AssetResolver for FolderAssets {
    fn read(&self, relative: &str) -> Result<Vec<u8>, AssetError> {
        let name = || relative.to_owned();
        let outside = || AssetError::Outside { name: name() };
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => AssetError::NotFound { name: name() },
            io::ErrorKind::FileTooLarge => AssetError::TooLarge {
                limit_bytes: self.limit_bytes,
                name: name(),
            },
            _ => AssetError::Io { source, name: name() },
        };
        // Backslashes are what some exporters write; as part of a name they occur nowhere.
        let asked = PathBuf::from(relative.replace('\\', "/"));
        if asked.is_absolute() {
            return Err(outside());
        }
        let path = within(&self.dir.join(asked)).ok_or_else(outside)?;
        let left_bytes = self.left_bytes.get();
        let read = match self.tree.read(&path, left_bytes) {
            Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                match in_other_case(&self.tree, &path) {
                    Some(path) => self.tree.read(&path, left_bytes),
                    None => Err(ReadError::Io(error)),
                }
            }
            read => read,
        };
        let bytes = read.map_err(|error| match error {
            ReadError::Outside => outside(),
            ReadError::Io(error) => failed(error),
        })?;
        self.left_bytes.set(self.left_bytes.get() - bytes.len() as u64);
        let mut read = self.read.borrow_mut();
        let hasher = read.get_or_insert_default();
        hasher.update(format!("{relative} {}\n", bytes.len()));
        hasher.update(&bytes);
        Ok(bytes)
    }
}

/// What is at `relative` if capitals count as small letters, as they do where many meshes are made; of several the first
/// in order.
fn in_other_case(tree: &Tree, relative: &Path) -> Option<PathBuf> {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::fs;

    use super::*;

    #[test]
    fn only_the_source_is_read_and_not_without_bound() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("source");
        fs::create_dir_all(root.join("chair")).unwrap();
        fs::create_dir_all(root.join("shared")).unwrap();
        fs::write(outer.path().join("secret"), "secret").unwrap();
        fs::write(root.join("chair/a.bin"), "12345").unwrap();
        fs::write(root.join("shared/b.bin"), "1234").unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(outer.path().join("secret"), root.join("chair/link")).unwrap();
        let root = root.canonicalize().unwrap();
        let assets = FolderAssets::new(&root, Path::new("chair/a.gltf"), 10);

        let secret = outer.path().join("secret");
        for name in [
            "../../secret",
            "a/../../../secret",
            "..\\..\\secret",
            secret.to_str().unwrap(),
        ] {
            assert!(
                matches!(assets.read(name), Err(AssetError::Outside { .. })),
                "{name}"
            );
        }
        #[cfg(unix)]
        assert!(
            matches!(assets.read("link"), Err(AssetError::Outside { .. })),
            "a link out of the source"
        );
        assert!(
            matches!(assets.read("b.bin"), Err(AssetError::NotFound { .. })),
            "it lies elsewhere"
        );
        assert!(matches!(assets.read("."), Err(AssetError::Io { .. })), "a folder");
        assert_eq!(assets.sha256(), None, "nothing was read yet");
        assert_eq!(assets.read("./A.BIN").unwrap(), b"12345", "written on Windows");
        let one = assets.sha256();
        assert_eq!(assets.read("../shared/b.bin").unwrap(), b"1234");
        assert!(one.is_some() && assets.sha256() != one, "all that is read counts");
        assert!(
            matches!(assets.read("a.bin"), Err(AssetError::TooLarge { .. })),
            "10 bytes in all"
        );
    }
}
