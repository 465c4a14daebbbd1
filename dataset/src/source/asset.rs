//! [`FolderAssets`]: gives an importer access to the files a mesh refers to, and to no others.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tap_render::import::{AssetError, AssetResolver};

use super::{ObjectReader, ReadError, Tree, canonicalize_dir, normalize_within, object_reader};
use crate::error::Result;
use crate::sha256;

/// Default size limit of a mesh with its assets.
pub const DEFAULT_MAX_MESH_BYTES: u64 = 512 << 20;

/// Assets of one mesh, restricted to a folder and a total size. Nothing outside the folder is opened: no
/// `..`, absolute path or symbolic link can leave it.
#[derive(Debug)]
pub struct FolderAssets {
    reader: Arc<dyn ObjectReader>,
    /// Folder of the mesh.
    dir: PathBuf,
    limit_bytes: u64,
    left_bytes: Cell<u64>,
    /// Hash over names and content of all assets read; `None` if none.
    read: RefCell<Option<Sha256>>,
}

impl FolderAssets {
    /// Assets below `folder` for a mesh in it, up to [`DEFAULT_MAX_MESH_BYTES`] in total.
    ///
    /// # Errors
    /// When the folder does not exist.
    pub fn open(folder: &Path) -> Result<Self> {
        let root = canonicalize_dir(folder, "open the folder")?;
        Ok(Self::new(&root, Path::new(""), DEFAULT_MAX_MESH_BYTES))
    }

    /// Assets anywhere below `root`, a canonical path, resolved against the folder of `mesh_path` (relative
    /// to `root`); up to `limit_bytes` in total.
    #[must_use]
    pub fn new(root: &Path, mesh_path: &Path, limit_bytes: u64) -> Self {
        Self::read_by(Arc::new(Tree::Folder(root.to_owned())), mesh_path, limit_bytes)
    }

    /// As [`FolderAssets::new`], from any reader.
    pub(super) fn read_by(reader: Arc<dyn ObjectReader>, mesh_path: &Path, limit_bytes: u64) -> Self {
        let dir = mesh_path.parent().unwrap_or(Path::new("")).to_owned();
        Self {
            reader,
            dir,
            limit_bytes,
            left_bytes: Cell::new(limit_bytes),
            read: RefCell::new(None),
        }
    }

    /// Hash over names and content of all assets read so far; `None` if none.
    pub(crate) fn sha256(&self) -> Option<String> {
        let hasher = self.read.borrow().clone();
        hasher.map(|hasher| sha256::hex(&hasher.finalize()))
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
        // Some exporters write backslashes.
        let asked = PathBuf::from(relative.replace('\\', "/"));
        if asked.is_absolute() {
            return Err(outside());
        }
        let path = normalize_within(&self.dir.join(asked)).ok_or_else(outside)?;
        let left_bytes = self.left_bytes.get();
        let read = self.reader.read_asset(&path, left_bytes);
        let read = read.and_then(|bytes| object_reader::within(bytes, left_bytes));
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
