//! [`DatasetError`]: errors between a folder of meshes and a sample, one type per layer.
//!
//! A single bad mesh is not an error: it is skipped with a [`SkipReason`](crate::SkipReason) in the manifest.

mod derive;
#[cfg(feature = "build")]
mod export;
mod import;
mod input;
mod run;
mod storage;
mod stream;

use std::io;
use std::path::Path;

use parquet::errors::ParquetError;

pub use derive::DeriveError;
#[cfg(feature = "build")]
pub use export::ExportError;
pub use import::ImportError;
pub use input::{NameError, RecipeError, SourceError};
pub use run::{BuildError, RelightError, ThreadError};
pub use storage::{FeatureSetError, ImageError, ImageSetError, ManifestError, ShardError, StoreError};
pub use stream::StreamError;

/// Result of this crate's fallible functions.
pub type Result<T, E = DatasetError> = std::result::Result<T, E>;

/// Any error of this crate. Messages are one line with the path last.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// Files on disk or in an object store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Content of a shard.
    #[error(transparent)]
    Shard(#[from] ShardError),
    /// The manifest of a dataset.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A stored image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// An image set of a dataset.
    #[error(transparent)]
    ImageSet(#[from] ImageSetError),
    /// A feature set of a dataset.
    #[error(transparent)]
    FeatureSet(#[from] FeatureSetError),
    /// A name given by the user.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A source of meshes.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Settings.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// A build or merge as a whole.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A dataset made from others.
    #[error(transparent)]
    Derive(#[from] DeriveError),
    /// A dataset in the layout of another program.
    #[cfg(feature = "build")]
    #[error(transparent)]
    Export(#[from] ExportError),
    /// A published set.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// Relighting as a whole.
    #[error(transparent)]
    Relight(#[from] RelightError),
    /// Rows in the order of an epoch.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// Threads could not be started.
    #[error(transparent)]
    Thread(#[from] ThreadError),
    /// The renderer could not start, or its device failed.
    #[cfg(feature = "build")]
    #[error("the renderer failed")]
    Render(#[from] tap_render::RenderError),
}

impl DatasetError {
    /// Wraps an operating-system error: `.map_err(DatasetError::io("read", path))`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| StoreError::Io { action, path, source }.into()
    }

    /// Wraps a Parquet error, unwrapping an operating-system error inside it.
    pub(crate) fn parquet(action: &'static str, path: &Path) -> impl FnOnce(ParquetError) -> Self {
        let path = path.to_owned();
        move |source| match source {
            ParquetError::External(inner) => match inner.downcast::<io::Error>() {
                Ok(source) => StoreError::Io {
                    action,
                    path,
                    source: *source,
                }
                .into(),
                Err(inner) => ShardError::Parquet {
                    path,
                    source: ParquetError::External(inner),
                }
                .into(),
            },
            source => ShardError::Parquet { path, source }.into(),
        }
    }
}

impl From<png::DecodingError> for DatasetError {
    fn from(error: png::DecodingError) -> Self {
        ImageError::from(error).into()
    }
}

impl From<png::EncodingError> for DatasetError {
    fn from(error: png::EncodingError) -> Self {
        ImageError::from(error).into()
    }
}

/// The renderer's errors, each in its layer of this crate's.
#[cfg(feature = "build")]
mod render {
    use super::{DatasetError, RecipeError, RelightError};

    impl From<tap_render::RecipeError> for DatasetError {
        fn from(error: tap_render::RecipeError) -> Self {
            RecipeError::from(error).into()
        }
    }

    impl From<tap_render::LightingError> for DatasetError {
        fn from(error: tap_render::LightingError) -> Self {
            RecipeError::from(error).into()
        }
    }

    impl From<tap_render::RelightError> for DatasetError {
        fn from(error: tap_render::RelightError) -> Self {
            RelightError::from(error).into()
        }
    }
}

/// An error and its causes in one line.
pub(crate) fn error_chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
