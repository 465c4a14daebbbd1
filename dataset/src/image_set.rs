//! Image sets: alternative images for the rows of a dataset, such as another lighting.
//!
//! `DIR/images/NAME/` is a folder of shards with its own manifest, whose parent is the dataset. Each of its
//! shards has the name and the rows of a shard of the dataset, with the columns `id` and `images` only.

use std::path::{Path, PathBuf};

use crate::error::{DatasetError, ImageSetError, ManifestError, Result};
use crate::manifest::{MANIFEST_FILE_NAME, Manifest};
use crate::schema::ObjectId;
use crate::store;

/// Subfolder of a dataset that holds its image sets.
pub(crate) const IMAGE_SETS: &str = "images";

/// Folder of an image set.
///
/// # Errors
/// When the name is not valid as a folder name.
pub fn image_set_dir(dir: &Path, name: &str) -> Result<PathBuf> {
    // Ids and folder names follow the same rules.
    match ObjectId::try_new(IMAGE_SETS, name) {
        Ok(_) => Ok(dir.join(IMAGE_SETS).join(name)),
        Err(_) => Err(DatasetError::ImageSet(ImageSetError::Name {
            name: name.to_owned(),
        })),
    }
}

/// Names of all image sets, complete or not, sorted.
///
/// # Errors
/// When the folder cannot be read.
pub fn image_sets(dir: &Path) -> Result<Vec<String>> {
    let dir = dir.join(IMAGE_SETS);
    let mut names = Vec::new();
    for found in store::list(&dir)? {
        let Some(name) = found.name.strip_suffix('/') else {
            continue;
        };
        let files = store::list(&dir.join(name))?;
        if files.iter().any(|file| file.name == MANIFEST_FILE_NAME) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Folder and manifest of a complete image set.
///
/// # Errors
/// When it does not exist, is incomplete, or does not match the rows of the dataset.
pub(crate) fn read_image_set(dir: &Path, name: &str, parent: &Manifest) -> Result<(PathBuf, Manifest)> {
    let set_dir = image_set_dir(dir, name)?;
    let set = match Manifest::read(&set_dir) {
        Err(DatasetError::Manifest(ManifestError::NotFound { .. })) => {
            return Err(DatasetError::ImageSet(ImageSetError::NotFound {
                name: name.to_owned(),
                names: image_sets(dir)?.join(", "),
                path: dir.to_owned(),
            }));
        }
        set => set?,
    };
    set.complete_sha256(&set_dir)?;
    let rows = |manifest: &Manifest| -> Vec<(String, usize)> {
        let shards = manifest.shards.iter();
        shards.map(|shard| (shard.file.clone(), shard.rows)).collect()
    };
    let is_of_parent = set.parent.is_some()
        && set.parent == parent.sha256
        && set.layout.columns.is_image_set()
        && rows(&set) == rows(parent);
    if is_of_parent {
        Ok((set_dir, set))
    } else {
        Err(DatasetError::ImageSet(ImageSetError::Mismatch { path: set_dir }))
    }
}
