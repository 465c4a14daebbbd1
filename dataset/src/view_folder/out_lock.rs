//! [`OutLock`]: one process at a time writes to a folder of folders of views.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::error::{Result, ViewFolderError};
use crate::error::{DatasetError, StoreError};
use crate::store;

/// The right to write to the output folder, until dropped. The folder itself is locked, so no file stays behind.
#[derive(Debug)]
pub(super) struct OutLock {
    /// `None` where the file system has no locks.
    _file: Option<File>,
    /// The folder, if it was made for the lock.
    made: Option<PathBuf>,
}

impl OutLock {
    /// Takes the right to a folder, which is made where it has to be; waits a moment for a process that was just killed.
    ///
    /// # Errors
    /// When another process holds it, or the folder cannot be made.
    pub(super) fn take(out: &Path) -> Result<Self> {
        let out = if out.as_os_str().is_empty() {
            Path::new(".")
        } else {
            out
        };
        let made = (!out.exists()).then(|| out.to_owned());
        fs::create_dir_all(out).map_err(ViewFolderError::io("create the folder", out))?;
        match store::lock_dir(out) {
            Ok(file) => Ok(Self { _file: file, made }),
            Err(DatasetError::Store(StoreError::Locked { path })) => Err(ViewFolderError::Locked { path }),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for OutLock {
    fn drop(&mut self) {
        if let Some(made) = &self.made {
            // Fails where anything was written, as it should.
            let _ = fs::remove_dir(made);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_folder_has_one_writer_and_no_trace_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("views");
        let lock = OutLock::take(&out).unwrap();
        let refused = OutLock::take(&out).unwrap_err();
        assert!(matches!(refused, ViewFolderError::Locked { .. }), "{refused}");
        drop(lock);
        assert!(!out.exists(), "nothing was written");
        drop(OutLock::take(dir.path()).unwrap());
        assert!(dir.path().exists(), "it was there before");
    }
}
