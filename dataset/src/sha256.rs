//! SHA-256 hashes as lowercase hexadecimal.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

/// Digits by which programs name a hash.
const SHORT_DIGITS: usize = 12;
/// Bytes read at a time.
const CHUNK_BYTES: usize = 1 << 18;

/// Lowercase hexadecimal, two digits per byte.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            write!(text, "{byte:02x}").expect("writing to a string cannot fail");
            text
        })
}

/// The first digits of a hash in hexadecimal, by which programs name it; a shorter text as it is.
#[must_use]
pub fn short(sha256: &str) -> &str {
    sha256.get(..SHORT_DIGITS).unwrap_or(sha256)
}

/// Hash of bytes in memory.
#[must_use]
pub fn of_bytes(bytes: impl AsRef<[u8]>) -> String {
    hex(&Sha256::digest(bytes))
}

/// Hash and length in bytes of a file. Reads it in chunks.
///
/// # Errors
/// When the file cannot be read.
pub fn of_file(path: &Path) -> io::Result<(String, u64)> {
    let mut hasher = Sha256::new();
    let mut num_bytes = 0;
    for_each_chunk(&mut File::open(path)?, |chunk| {
        hasher.update(chunk);
        num_bytes += chunk.len() as u64;
        Ok(())
    })?;
    Ok((hex(&hasher.finalize()), num_bytes))
}

/// Hash of a list of files with their hashes: over one line `<file> <sha256>` each.
pub(crate) fn of_files<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut hasher = Sha256::new();
    for (file, sha256) in files {
        hasher.update(format!("{file} {sha256}\n"));
    }
    hex(&hasher.finalize())
}

/// Reads to the end in chunks.
pub(crate) fn for_each_chunk(
    reader: &mut impl Read,
    mut visit: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(num_read) => visit(&buffer[..num_read])?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn bytes_are_written_as_hexadecimal() {
        assert_eq!(hex(&[0, 0xab, 0x0f]), "00ab0f");
    }

    #[test]
    fn a_file_has_the_hash_of_its_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let bytes = vec![7; CHUNK_BYTES + 1];
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(of_file(&path).unwrap(), (of_bytes(&bytes), bytes.len() as u64));
        // FIPS 180-4, the empty message.
        assert_eq!(
            of_bytes([]),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }
}
