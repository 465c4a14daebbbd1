//! Atomic local file writes, bounded reads and file hashes.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::manifest::partial_path;
use crate::{DatasetError, Result};

/// Reads a file of no more than `limit_bytes`.
pub(crate) fn read_bounded(path: &Path, limit_bytes: u64) -> io::Result<Vec<u8>> {
    // Checked before opening: opening a pipe would block until there is a writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let file = File::open(path)?;
    let mut bytes = Vec::new();
    file.take(limit_bytes + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit_bytes {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("more than {limit_bytes} bytes"),
        ));
    }
    Ok(bytes)
}

/// Atomically replaces the file at `path`: after a crash it has either the old or the new content.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let partial = partial_path(path);
    let written = File::create(&partial).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    if let Err(e) = written {
        // The old content is still in place; the partial file is useless.
        let _ = std::fs::remove_file(&partial);
        return Err(DatasetError::io("write", path)(e));
    }
    publish(&partial, path)
}

/// Copies a file atomically and returns the SHA-256 of the content.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<String> {
    let mut source = File::open(from).map_err(DatasetError::io("open", from))?;
    let partial = partial_path(to);
    let copied = File::create(&partial).and_then(|mut file| {
        let mut hasher = Sha256::new();
        for_each_chunk(&mut source, |chunk| {
            hasher.update(chunk);
            file.write_all(chunk)
        })?;
        file.sync_all()?;
        Ok(hex(&hasher.finalize()))
    });
    match copied {
        Ok(sha256) => {
            publish(&partial, to)?;
            Ok(sha256)
        }
        Err(e) => {
            let _ = std::fs::remove_file(&partial);
            Err(DatasetError::io("copy to", to)(e))
        }
    }
}

/// SHA-256 in hexadecimal, and the length in bytes.
pub(crate) fn hash_file(path: &Path) -> io::Result<(String, u64)> {
    let mut hasher = Sha256::new();
    let mut bytes = 0;
    for_each_chunk(&mut File::open(path)?, |chunk| {
        hasher.update(chunk);
        bytes += chunk.len() as u64;
        Ok(())
    })?;
    Ok((hex(&hasher.finalize()), bytes))
}

fn for_each_chunk(file: &mut File, mut visit: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(num_read) => visit(&buffer[..num_read])?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Free bytes available to the user on the file system of `dir`; `None` where the system does not report it.
#[cfg(feature = "build")]
pub(crate) fn free_bytes(dir: &Path) -> Option<u64> {
    #[cfg(unix)]
    return rustix::fs::statvfs(dir)
        .ok()
        .map(|disk| disk.f_bavail * disk.f_frsize);
    #[cfg(not(unix))]
    return {
        let _ = dir;
        None
    };
}

/// Renames a synced file to its final name and syncs the folder.
pub(crate) fn publish(partial: &Path, path: &Path) -> Result<()> {
    std::fs::rename(partial, path).map_err(DatasetError::io("rename a finished file to", path))?;
    sync_dir(path.parent().expect("a file has a folder"))
}

/// Makes renames and removals in a folder durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    // Only Unix allows opening and syncing a folder; elsewhere durability of a rename is up to the file
    // system.
    if cfg!(unix) {
        let dir = if dir.as_os_str().is_empty() {
            Path::new(".")
        } else {
            dir
        };
        File::open(dir)
            .and_then(|dir| dir.sync_all())
            .map_err(DatasetError::io("sync the folder", dir))?;
    }
    Ok(())
}

/// Lowercase hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            write!(text, "{byte:02x}").expect("a string takes all that is written");
            text
        })
}

/// Reads at a position without moving a shared cursor.
pub(crate) fn read_at(file: &File, buffer: &mut [u8], position: u64) -> io::Result<usize> {
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::read_at(file, buffer, position);
    #[cfg(windows)]
    return std::os::windows::fs::FileExt::seek_read(file, buffer, position);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_read_within_bounds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        replace(&path, b"one").unwrap();
        replace(&path, b"three").unwrap();
        assert_eq!(read_bounded(&path, 5).unwrap(), b"three");
        assert_eq!(
            read_bounded(&path, 4).unwrap_err().kind(),
            io::ErrorKind::FileTooLarge
        );
        assert_eq!(
            std::fs::read_dir(dir.path()).unwrap().count(),
            1,
            "no partial file is left"
        );
        read_bounded(dir.path(), 4).unwrap_err();
    }

    #[test]
    fn bytes_are_written_as_hexadecimal() {
        assert_eq!(hex(&[0, 0xab, 0x0f]), "00ab0f");
    }
}
