//! [`ObjectReader`]: where the files of a source are read from. A [`Tree`](super::Tree) of files is one; a database, a
//! tar file or meshes made on the fly are others.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{Candidate, normalize_within};
use crate::manifest::SkipReason;
use crate::schema::Split;

/// Reads the files of a source: meshes, and the files that they refer to.
///
/// Paths are relative, as listed, and have no `..`. Several threads read at once, and an object may be read more than
/// once; the same path must give the same bytes each time, or builds are not reproducible. An error or a panic skips the
/// object that needs the file, and no other.
pub trait ObjectReader: fmt::Debug + Send + Sync {
    /// The bytes of a mesh. More than `limit_bytes` are not accepted; a reader that knows the length in advance fails
    /// without reading.
    ///
    /// # Errors
    /// [`ReadError`]: the object is skipped as `missing` if its kind is [`NotFound`](io::ErrorKind::NotFound), as
    /// `too-large` if it is [`FileTooLarge`](io::ErrorKind::FileTooLarge), and otherwise as `unreadable`.
    fn read(&self, path: &Path, limit_bytes: u64) -> Result<Vec<u8>, ReadError>;

    /// The bytes of a file that a mesh refers to: materials, textures, buffers. `path` is the mesh's folder joined with
    /// the name that the mesh gives. As [`read`](Self::read) unless overridden.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn read_asset(&self, path: &Path, limit_bytes: u64) -> Result<Vec<u8>, ReadError> {
        self.read(path, limit_bytes)
    }

    /// Folders within this one that hold textures by their names (`images`, `textures`, ...): a texture that is not where
    /// a mesh says is searched for in those beside the mesh. None unless overridden.
    fn texture_folders(&self, folder: &Path) -> Vec<PathBuf> {
        let _ = folder;
        Vec::new()
    }

    /// Length of a mesh in bytes, asked once when the source is listed; `None` (the default) if only reading tells.
    ///
    /// Known lengths let more meshes be in flight at once: an unknown one counts as the size limit of a mesh. They also
    /// tell a resumed build that the source has changed.
    ///
    /// # Errors
    /// [`ReadError`] if there is no such mesh: it is skipped.
    fn file_bytes(&self, path: &Path) -> Result<Option<u64>, ReadError> {
        let _ = path;
        Ok(None)
    }

    /// When a mesh last changed, if it can change and the reader knows.
    ///
    /// A resumed build trusts its finished rows while the times of the meshes are what they were, and reads meshes again to
    /// compare them where not. `None` (the default) says that the same path always gives the same bytes.
    fn changed(&self, path: &Path) -> Option<SystemTime> {
        let _ = path;
        None
    }

    /// [`file_bytes`](Self::file_bytes) and [`changed`](Self::changed), for readers that know both at once.
    ///
    /// # Errors
    /// As [`file_bytes`](Self::file_bytes).
    fn state(&self, path: &Path) -> Result<(Option<u64>, Option<SystemTime>), ReadError> {
        Ok((self.file_bytes(path)?, self.changed(path)))
    }

    /// When any file that a mesh may refer to last changed; `None` (the default) as for [`changed`](Self::changed).
    fn last_change(&self) -> Option<SystemTime> {
        None
    }
}

/// Why a file of a source cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The path, or a symbolic link on it, leaves the source.
    #[error("a link leads out of the source")]
    Outside,
    /// Reading failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Outside => Self::new(io::ErrorKind::PermissionDenied, error.to_string()),
            ReadError::Io(error) => error,
        }
    }
}

/// An object in the list of a source of one's own; see [`Source::from_reader`](super::Source::from_reader).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedObject {
    /// First part of the object's id, and its class.
    pub category: String,
    /// Second part of the id.
    pub name: String,
    /// Split of the row.
    pub split: Split,
    /// Path by which the mesh is read and which the manifest names. Its extension is the mesh format.
    pub path: PathBuf,
}

impl From<ListedObject> for Candidate {
    fn from(object: ListedObject) -> Self {
        let inside = normalize_within(&object.path);
        let outside = || {
            (
                SkipReason::OutsideSource,
                "the path leads out of the source".to_owned(),
            )
        };
        Self {
            category: object.category,
            category_alias: None,
            name: object.name,
            split: Some(object.split),
            skip: inside.is_none().then(outside),
            path: inside.unwrap_or(object.path),
        }
    }
}

/// What was read, unless it is more than was allowed.
pub(super) fn within(bytes: Vec<u8>, limit_bytes: u64) -> Result<Vec<u8>, ReadError> {
    if bytes.len() as u64 <= limit_bytes {
        return Ok(bytes);
    }
    let message = format!("more than {limit_bytes} bytes");
    Err(io::Error::new(io::ErrorKind::FileTooLarge, message).into())
}
