//! Image sets: alternative images for the rows of a dataset, such as another lighting.
//!
//! `DIR/__images/NAME/` is a folder of shards with its own manifest, whose parent is the dataset. Each of its
//! shards has the name (but for the extension) and the rows of a shard of the dataset, with the columns `id` and
//! `images` only.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::error::{DatasetError, ImageSetError, ManifestError, Result};
use crate::manifest::{Manifest, image_shard_file_name, is_manifest_name};
use crate::schema::ObjectId;
use crate::store;

/// Subfolder of a dataset that holds its image sets. Parquet readers that are given the dataset do not enter it: pyarrow
/// and Spark because of one underscore, Hugging Face `datasets` because of two.
const IMAGE_SETS: &str = "__images";
/// Its name up to schema version 3.
const OLD_IMAGE_SETS: &str = "images";
/// Subfolders of a dataset in which image sets are looked for.
pub(crate) const IMAGE_SET_FOLDERS: [&str; 2] = [IMAGE_SETS, OLD_IMAGE_SETS];

/// Folder of an image set, whether it exists or not.
///
/// # Errors
/// When the name is not valid as a folder name, or the folder cannot be read.
pub fn image_set_dir(dir: &Path, name: &str) -> Result<PathBuf> {
    // Ids and folder names follow the same rules.
    if ObjectId::try_new(IMAGE_SETS, name).is_err() {
        return Err(DatasetError::ImageSet(ImageSetError::Name {
            name: name.to_owned(),
        }));
    }
    for sets in IMAGE_SET_FOLDERS {
        let set_dir = dir.join(sets).join(name);
        if has_file(&set_dir, is_manifest_name)? {
            return Ok(set_dir);
        }
    }
    Ok(dir.join(IMAGE_SETS).join(name))
}

fn has_file(dir: &Path, is_wanted: fn(&str) -> bool) -> Result<bool> {
    let files = store::list(dir)?;
    Ok(files.iter().any(|file| is_wanted(&file.name)))
}

/// Names of the folders in `sets` that hold a manifest, in the order of the list.
pub(crate) fn folders_with(sets: &Path, is_manifest: fn(&str) -> bool) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for found in store::list(sets)? {
        if let Some(name) = found.name.strip_suffix('/')
            && has_file(&sets.join(name), is_manifest)?
        {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Names of all image sets, complete or not, sorted.
///
/// # Errors
/// When the folder cannot be read.
pub fn image_sets(dir: &Path) -> Result<Vec<String>> {
    let mut names = BTreeSet::new();
    for sets in IMAGE_SET_FOLDERS {
        names.extend(folders_with(&dir.join(sets), is_manifest_name)?);
    }
    Ok(names.into_iter().collect())
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
        shards
            .map(|shard| (image_shard_file_name(&shard.file), shard.rows))
            .collect()
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
