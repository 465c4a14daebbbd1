//! [`Outage`]: a store that stops answering, or refuses, says nothing of a mesh. The build ends, to be resumed, instead of
//! skipping all that is left.

use std::io;
use std::sync::{Arc, OnceLock};

/// What a store said when it did not give a file that should be there; shared by all who read a source.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outage(Arc<OnceLock<String>>);

impl Outage {
    /// Notes an error that is not about the file itself.
    pub(super) fn note(&self, error: &io::Error) {
        let is_about_file = matches!(
            error.kind(),
            io::ErrorKind::NotFound
                | io::ErrorKind::FileTooLarge
                | io::ErrorKind::InvalidInput
                | io::ErrorKind::UnexpectedEof
        );
        if !is_about_file {
            // The first is told.
            let _ = self.0.set(error.to_string());
        }
    }

    /// The first error, if there was any.
    pub(super) fn get(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
}
