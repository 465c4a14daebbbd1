//! Maps importer errors to skip reasons.

use tap_render::MeshError;
use tap_render::import::{AssetError, ImportError};

use crate::manifest::SkipReason;

impl From<&ImportError> for SkipReason {
    fn from(error: &ImportError) -> Self {
        match error {
            ImportError::Asset(AssetError::NotFound { .. }) => Self::Missing,
            ImportError::Asset(AssetError::Outside { .. }) => Self::OutsideSource,
            ImportError::Asset(AssetError::TooLarge { .. })
            | ImportError::Mesh(MeshError::TooManyVertices { .. }) => Self::TooLarge,
            ImportError::Asset(AssetError::Io { .. }) => Self::Unreadable,
            ImportError::Extension { .. } => Self::UnsupportedFormat,
            ImportError::NoFaces { .. }
            | ImportError::Mesh(
                MeshError::NoTriangles | MeshError::AllDegenerate { .. } | MeshError::AllTooFine { .. },
            ) => Self::Empty,
            ImportError::Mesh(MeshError::NonFinite { .. }) => Self::NonFinite,
            _ => Self::Malformed,
        }
    }
}
