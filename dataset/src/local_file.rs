//! Bounded and positioned reads of local files.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
#[cfg(all(unix, feature = "build"))]
use std::time::Duration;
#[cfg(feature = "build")]
use std::time::SystemTime;

/// Reads a file of at most `limit_bytes`.
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

/// When a file last changed: its content, or its place in a folder (a file moved there keeps the time of its content).
#[cfg(feature = "build")]
pub(crate) fn changed(path: &Path) -> Option<SystemTime> {
    changed_by(&std::fs::metadata(path).ok()?)
}

/// The same, of a file of which this is known.
#[cfg(feature = "build")]
pub(crate) fn changed_by(metadata: &std::fs::Metadata) -> Option<SystemTime> {
    let modified = metadata.modified().ok()?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let seconds = u64::try_from(metadata.ctime()).ok()?;
        let nanoseconds = u32::try_from(metadata.ctime_nsec()).ok()?;
        Some(modified.max(SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds)))
    }
    #[cfg(not(unix))]
    Some(modified)
}

/// Reads at a position without moving a shared cursor.
pub(crate) fn read_at(file: &File, buffer: &mut [u8], position: u64) -> io::Result<usize> {
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::read_at(file, buffer, position);
    #[cfg(windows)]
    return std::os::windows::fs::FileExt::seek_read(file, buffer, position);
}

/// Fills a buffer from a position, without moving a shared cursor.
pub(crate) fn read_exact_at(file: &File, buffer: &mut [u8], position: u64) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        match read_at(file, &mut buffer[filled..], position + filled as u64) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(num_bytes) => filled += num_bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_file_is_read_within_bounds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, b"three").unwrap();
        assert_eq!(read_bounded(&path, 5).unwrap(), b"three");
        assert_eq!(
            read_bounded(&path, 4).unwrap_err().kind(),
            io::ErrorKind::FileTooLarge
        );
        read_bounded(dir.path(), 4).unwrap_err();
    }
}
