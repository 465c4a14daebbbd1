//! Feature sets: what a frozen 2D network says of the views of each row, kept beside the rows (`docs/formats.md`, "Feature
//! sets").
//!
//! `DIR/__features/NAME/` holds one Parquet file a shard of the dataset, with the same rows, and `_features.json`, which says
//! which network it was, what it saw, and of which rows. Numbers are computed elsewhere: this crate stores them.

mod check;
mod manifest;
mod reader;
mod writer;

use std::path::{Path, PathBuf};

pub(crate) use check::check_feature_set;
pub use manifest::{
    FEATURE_MANIFEST_FILE_NAME, FeatureImages, FeatureLayout, FeatureManifest, FeatureRecipe, FeatureShard,
    FeatureViews,
};
pub use reader::FeatureSet;
pub use writer::{FeatureSetWriter, MissingShard};

use crate::error::{DatasetError, FeatureSetError, Result};
use crate::image_set::folders_with;
use crate::schema::ObjectId;
use crate::store;

/// Subfolder of a dataset that holds its feature sets; readers of Parquet do not enter it (see `image_set.rs`).
pub(crate) const FEATURE_SETS: &str = "__features";

/// Columns of a file.
const ID: &str = "id";
const FEATURES: &str = "features";
const SALIENCY: &str = "saliency";
/// Bytes of a float16.
const HALF_BYTES: usize = 2;

/// What a network says of the views of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowFeatures {
    /// The row's id.
    pub id: ObjectId,
    /// V,h,w,C: float16, little-endian.
    pub features: Vec<u8>,
    /// V,h,w: float16, little-endian.
    pub saliency: Vec<u8>,
}

/// Folder of a feature set, whether it exists or not.
///
/// # Errors
/// When the name is not valid as a folder name.
pub fn feature_set_dir(dir: &Path, name: &str) -> Result<PathBuf> {
    // Ids and folder names follow the same rules.
    if ObjectId::try_new(FEATURE_SETS, name).is_err() {
        return Err(DatasetError::FeatureSet(FeatureSetError::Name {
            name: name.to_owned(),
        }));
    }
    Ok(dir.join(FEATURE_SETS).join(name))
}

/// Names of all feature sets, complete or not, sorted.
///
/// # Errors
/// When the folder cannot be read.
pub fn feature_sets(dir: &Path) -> Result<Vec<String>> {
    let mut names = folders_with(&dir.join(FEATURE_SETS), |file| file == FEATURE_MANIFEST_FILE_NAME)?;
    names.sort();
    Ok(names)
}

/// Whether a folder within [`FEATURE_SETS`] holds what this program writes there and nothing else; a damaged manifest still has
/// its name.
pub(crate) fn is_feature_set(dir: &Path) -> bool {
    store::list(dir).is_ok_and(|files| {
        let mut names = files.iter().map(|file| file.name.as_str());
        names.clone().any(|name| name == FEATURE_MANIFEST_FILE_NAME) && names.all(writer::is_own_file)
    })
}
