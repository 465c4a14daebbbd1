//! What kind of file weights are in, by its content: names of checkpoints say little.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use crate::error::TrainError;

/// Bytes that are looked at.
const START_BYTES: u64 = 64;

/// A kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// safetensors.
    Safetensors,
    /// A ZIP archive, as PyTorch has written since version 1.6.
    Zip,
    /// A pickle that is not in an archive, as PyTorch wrote before.
    Pickle,
    /// A web page, as a failed download leaves it.
    Html,
    /// The pointer that Git LFS leaves in place of a file.
    LfsPointer,
    /// Something else.
    Other,
}

impl FileKind {
    /// Looks at the beginning of a file.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn of(path: &Path) -> Result<Self, TrainError> {
        let mut start = Vec::new();
        let file = File::open(path).map_err(TrainError::io("open", path))?;
        file.take(START_BYTES)
            .read_to_end(&mut start)
            .map_err(TrainError::io("read", path))?;
        let text = String::from_utf8_lossy(&start).to_ascii_lowercase();
        let text = text.trim_start();
        Ok(match &start[..] {
            [b'P', b'K', 3, 4, ..] => Self::Zip,
            [0x80, 1..=5, ..] if start.get(8) != Some(&b'{') => Self::Pickle,
            _ if text.starts_with("<!doctype") || text.starts_with("<html") => Self::Html,
            _ if text.starts_with("version https://git-lfs") => Self::LfsPointer,
            // The length of the header, then the header.
            [_, _, _, _, _, _, _, _, b'{', ..] => Self::Safetensors,
            _ => Self::Other,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn files_are_known_by_their_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        for (bytes, kind) in [
            (&b"PK\x03\x04\0\0"[..], FileKind::Zip),
            (b"\x80\x02\x8a\nl\xfc\x9c", FileKind::Pickle),
            (b"\x80\x04\x95", FileKind::Pickle),
            (b"\x80\x02\0\0\0\0\0\0{\"a\":1}", FileKind::Safetensors),
            (b"\x10\0\0\0\0\0\0\0{\"a\":1}", FileKind::Safetensors),
            (b"\n<!DOCTYPE html>", FileKind::Html),
            (
                b"version https://git-lfs.github.com/spec/v1\n",
                FileKind::LfsPointer,
            ),
            (b"", FileKind::Other),
            (b"a text", FileKind::Other),
        ] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(FileKind::of(&path).unwrap(), kind, "{bytes:?}");
        }
    }
}
