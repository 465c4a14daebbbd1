//! Object stores when compiled without the feature: URLs are refused with an error.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

use bytes::Bytes;

#[cfg(feature = "build")]
use super::FileState;
use super::{DirEntry, url};

/// An object in a store; cannot exist.
#[derive(Debug)]
pub(super) struct Location(Infallible);
/// An open object.
#[derive(Debug)]
pub(crate) struct RemoteFile(Infallible);
/// An object being uploaded.
#[derive(Debug)]
pub(super) struct Upload(Infallible);
/// Last seen version of an object.
#[derive(Debug)]
pub(crate) struct Version(Infallible);

impl Location {
    /// Refuses URLs.
    pub(super) fn at(path: &Path) -> io::Result<Option<Self>> {
        if url::parse(path).is_none() {
            return Ok(None);
        }
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "this program was built without object stores; build it with `cargo build --release --features object-store`",
        ))
    }

    pub(super) fn can_list(&self) -> bool {
        match self.0 {}
    }

    pub(super) fn list(&self) -> io::Result<Vec<DirEntry>> {
        match self.0 {}
    }

    #[cfg(feature = "build")]
    pub(super) fn list_all(&self, _: &mut dyn FnMut(String, FileState)) -> io::Result<()> {
        match self.0 {}
    }

    #[cfg(feature = "build")]
    pub(super) fn state(&self) -> io::Result<FileState> {
        match self.0 {}
    }

    pub(super) fn read_bounded(&self, _: u64) -> io::Result<Vec<u8>> {
        match self.0 {}
    }

    pub(super) fn remove(&self) -> io::Result<()> {
        match self.0 {}
    }

    pub(super) fn open(&self) -> io::Result<RemoteFile> {
        match self.0 {}
    }

    pub(super) fn create(self) -> Upload {
        match self.0 {}
    }

    pub(super) fn version(&self) -> io::Result<Version> {
        match self.0 {}
    }

    pub(super) fn replace(&self, _: &[u8], _: &mut Version) -> io::Result<()> {
        match self.0 {}
    }
}

impl RemoteFile {
    pub(super) fn len(&self) -> u64 {
        match self.0 {}
    }

    pub(super) fn bytes(&self, _: u64, _: usize) -> io::Result<Bytes> {
        match self.0 {}
    }

    pub(super) fn prefetch(&self, _: &[Range<u64>]) -> io::Result<()> {
        match self.0 {}
    }
}

impl Upload {
    pub(super) fn finish(self) -> io::Result<()> {
        match self.0 {}
    }
}

impl io::Write for Upload {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        match self.0 {}
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.0 {}
    }
}

/// Never called: no URL can be opened.
pub(super) fn anonymous_temp_file() -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_url_is_refused_and_the_feature_named() {
        let error = Location::at(Path::new("s3://bucket/a")).unwrap_err();
        assert!(error.to_string().contains("object-store"), "{error}");
        assert!(Location::at(Path::new("bucket/a")).unwrap().is_none());
    }
}
