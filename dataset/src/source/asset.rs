//! [`FolderAssets`]: gives an importer access to the files a mesh refers to, and to no others.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
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

/// Most components of a path that are tried as a path in the mesh's folder.
const MAX_TAIL_LEN: usize = 3;
/// Where Gazebo's models have their textures within `materials`.
const WITHIN_MATERIALS: &str = "textures";

/// Assets of one mesh, restricted to a folder and a total size. Nothing outside the folder is opened: no
/// `..`, absolute path or symbolic link can leave it.
///
/// A file that is not where the mesh says is searched for: by the tails of its path (`C:\me\textures\wood.jpg` as
/// `textures/wood.jpg` and as `wood.jpg`) in the mesh's folder and in the usual folders for textures in it and beside it,
/// within the same restriction.
#[derive(Debug)]
pub struct FolderAssets {
    reader: Arc<dyn ObjectReader>,
    /// Folder of the mesh.
    dir: PathBuf,
    limit_bytes: u64,
    left_bytes: Cell<u64>,
    /// Hash over names and content of all assets read; `None` if none.
    read: RefCell<Option<Sha256>>,
    /// What was read before it is asked for, by the path in the source.
    ahead: RefCell<BTreeMap<PathBuf, Vec<u8>>>,
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
        Self::read_by(Arc::new(Tree::of_folder(root.to_owned())), mesh_path, limit_bytes)
    }

    /// What is given with a single mesh, by its canonical path: its folder, and the folders for textures beside that.
    #[must_use]
    pub fn of_mesh(mesh: &Path, limit_bytes: u64) -> Self {
        let (tree, folder) = Tree::of_mesh_folder(mesh.parent().unwrap_or(Path::new("")));
        let mesh = folder.join(mesh.file_name().unwrap_or_default());
        Self::read_by(Arc::new(tree), &mesh, limit_bytes)
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
            ahead: RefCell::default(),
        }
    }

    /// With files that were read already.
    pub(crate) fn with_ahead(self, ahead: BTreeMap<PathBuf, Vec<u8>>) -> Self {
        Self {
            ahead: RefCell::new(ahead),
            ..self
        }
    }

    /// Where a file may be that is not at the path which the mesh gives, relative to the mesh's folder.
    fn other_places(&self, asked: &str) -> Vec<PathBuf> {
        let is_name = |name: &&str| !matches!(*name, "" | "." | "..") && !name.ends_with(':');
        let names: Vec<&str> = asked.split('/').filter(is_name).collect();
        let Some(file) = names.last() else {
            return Vec::new();
        };
        let tails = names.len().saturating_sub(MAX_TAIL_LEN)..names.len();
        let mut places: Vec<PathBuf> = tails.map(|start| names[start..].iter().collect()).collect();
        for (parent, from_mesh) in [(Some(self.dir.as_path()), ""), (self.dir.parent(), "..")] {
            let folders = parent.map(|parent| self.reader.texture_folders(parent));
            for folder in folders.unwrap_or_default() {
                let folder = Path::new(from_mesh).join(folder.file_name().unwrap_or_default());
                places.push(folder.join(file));
                places.push(folder.join(WITHIN_MATERIALS).join(file));
            }
        }
        places
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
        let asked = relative.replace('\\', "/");
        let left_bytes = self.left_bytes.get();
        let read = |path: &Path| {
            let path = normalize_within(&self.dir.join(path)).ok_or(ReadError::Outside)?;
            let bytes = match self.ahead.borrow_mut().remove(&path) {
                Some(bytes) => bytes,
                None => self.reader.read_asset(&path, left_bytes)?,
            };
            object_reader::within(bytes, left_bytes)
        };
        let is_absent = |error: &ReadError| match error {
            ReadError::Outside => true,
            ReadError::Io(error) => {
                matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                )
            }
        };
        let as_asked = match Path::new(&asked) {
            path if path.is_absolute() => Err(ReadError::Outside),
            path => read(path),
        };
        let found = match as_asked {
            Err(error) if is_absent(&error) => {
                let mut elsewhere = self.other_places(&asked).into_iter().map(|path| read(&path));
                elsewhere.find(Result::is_ok).unwrap_or(Err(error))
            }
            read => read,
        };
        let bytes = found.map_err(|error| match error {
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

    /// Textures of a single mesh are found however its maker wrote their paths, and nothing else is read.
    #[test]
    fn textures_are_searched_for_in_the_usual_folders_and_nowhere_else() {
        let outer = tempfile::tempdir().unwrap();
        let object = outer.path().canonicalize().unwrap().join("object");
        let files = [
            "models/a.obj",
            "models/textures/wood.png",
            "models/sub/tail.png",
            "images/Texture0.jpg",
            "materials/textures/cloth.png",
            "private/key.png",
            "top.png",
        ];
        for path in files {
            fs::create_dir_all(object.join(path).parent().unwrap()).unwrap();
            fs::write(object.join(path), path).unwrap();
        }
        #[cfg(unix)]
        std::os::unix::fs::symlink(object.join("private"), object.join("textures")).unwrap();
        let alone = FolderAssets::of_mesh(&object.join("models/a.obj"), 1000);
        let read = |name: &str| String::from_utf8(alone.read(name).unwrap()).unwrap();
        assert_eq!(
            read("../images/texture0.jpg"),
            "images/Texture0.jpg",
            "as ShapeNet has it"
        );
        assert_eq!(read("texture0.jpg"), "images/Texture0.jpg");
        assert_eq!(
            read("C:\\Users\\me\\textures\\wood.png"),
            "models/textures/wood.png"
        );
        assert_eq!(read("/home/me/proj/Wood.PNG"), "models/textures/wood.png");
        assert_eq!(read("D:/x/sub/tail.png"), "models/sub/tail.png");
        assert_eq!(
            read("cloth.png"),
            "materials/textures/cloth.png",
            "as Gazebo has it"
        );
        let outside = [
            "../top.png",
            "../private/key.png",
            "../textures/key.png",
            "../images/../top.png",
            "../../../../../../../../etc/passwd",
            "/etc/passwd",
        ];
        for name in outside {
            alone.read(name).unwrap_err();
        }
        let in_folder = FolderAssets::new(&object, Path::new("models/a.obj"), 1000);
        assert_eq!(
            in_folder.read("../top.png").unwrap(),
            b"top.png",
            "the folder was given"
        );
    }
}
