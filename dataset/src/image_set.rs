//! Image sets: pictures of a dataset's rows under another light, beside the dataset's own and instead of a copy of it.
//!
//! `DIR/images/NAME/` is a folder of shards like `DIR` itself, with a manifest that names the dataset as its parent. Each of
//! its shards stands beside the one of the same name and has its rows, in its order: `id` and `images`, nothing else.

use std::path::{Path, PathBuf};

use crate::{Columns, DatasetError, MANIFEST_FILE_NAME, Manifest, ObjectId, Result, store};

/// Where image sets lie within a dataset.
pub(crate) const IMAGE_SETS: &str = "images";

/// The folder of a dataset's image set of this name.
///
/// # Errors
/// When the name can't be a folder's.
pub fn image_set_dir(dir: &Path, name: &str) -> Result<PathBuf> {
    // The rules of an id's parts are those of a folder's name.
    match ObjectId::try_new(IMAGE_SETS, name) {
        Ok(_) => Ok(dir.join(IMAGE_SETS).join(name)),
        Err(_) => Err(DatasetError::ImageSetName {
            name: name.to_owned(),
        }),
    }
}

/// The names of a dataset's image sets, finished or not, sorted.
///
/// # Errors
/// When the folder can't be read.
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

/// The manifest of a finished image set, and its folder.
///
/// # Errors
/// When there is none of this name, it is not finished, or is of other rows than the dataset's.
pub(crate) fn read_image_set(dir: &Path, name: &str, parent: &Manifest) -> Result<(PathBuf, Manifest)> {
    let set_dir = image_set_dir(dir, name)?;
    let set = match Manifest::read(&set_dir) {
        Err(DatasetError::NoManifest { .. }) => {
            return Err(DatasetError::NoSuchImages {
                name: name.to_owned(),
                names: image_sets(dir)?.join(", "),
                path: dir.to_owned(),
            });
        }
        set => set?,
    };
    set.finished(&set_dir)?;
    let rows = |manifest: &Manifest| -> Vec<(String, usize)> {
        let shards = manifest.shards.iter();
        shards.map(|shard| (shard.file.clone(), shard.rows)).collect()
    };
    let is_of_parent = set.parent.is_some()
        && set.parent == parent.sha256
        && set.layout.columns == Columns::Images
        && rows(&set) == rows(parent);
    if is_of_parent {
        Ok((set_dir, set))
    } else {
        Err(DatasetError::OtherImages { path: set_dir })
    }
}
