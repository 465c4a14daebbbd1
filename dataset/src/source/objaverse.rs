//! Layout `objaverse`: `glbs/000-023/<uid>.glb`, as Objaverse is downloaded; `lvis-annotations.json`, an object of
//! categories with lists of ids, gives the objects that it names their categories.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Candidate, Tree};
use crate::{DatasetError, Result};

/// Where the folders of meshes may lie.
const PLACES: [&str; 3] = ["glbs", "hf-objaverse-v1/glbs", ""];
/// Which object is of which category, in the source's folder.
const ANNOTATIONS_FILE_NAME: &str = "lvis-annotations.json";
/// Room for every object that there is.
const MAX_ANNOTATIONS_BYTES: u64 = 1 << 30;
/// The category of an object that nobody named.
const UNNAMED: &str = "object";

/// The folder below which the folders of meshes lie, if the tree is laid out so.
pub(super) fn place(tree: &Tree) -> Result<Option<PathBuf>> {
    for place in PLACES.map(Path::new) {
        if place.as_os_str().is_empty() || tree.is_dir(place) {
            let folders: Vec<_> = tree
                .entries(place)?
                .into_iter()
                .filter(|entry| entry.is_dir)
                .collect();
            if !folders.is_empty() && folders.iter().all(|folder| is_batch(&folder.name)) {
                return Ok(Some(place.to_owned()));
            }
        }
    }
    Ok(None)
}

/// Three digits, a line, three digits.
fn is_batch(name: &str) -> bool {
    name.split_once('-').is_some_and(|(a, b)| {
        [a, b]
            .iter()
            .all(|part| part.len() == 3 && part.bytes().all(|b| b.is_ascii_digit()))
    })
}

pub(super) fn find(tree: &Tree) -> Result<Vec<Candidate>> {
    let mut candidates = Vec::new();
    let Some(place) = place(tree)? else {
        return Ok(candidates);
    };
    let category_of = categories(tree)?;
    for batch in tree.entries(&place)?.into_iter().filter(|entry| entry.is_dir) {
        let dir = place.join(&batch.name);
        for file in tree.entries(&dir)?.into_iter().filter(super::Entry::is_mesh) {
            let category = category_of.get(file.stem()).map_or(UNNAMED, String::as_str);
            candidates.push(Candidate {
                category: category.to_owned(),
                name: file.stem().to_owned(),
                path: dir.join(&file.name),
                ..Candidate::default()
            });
        }
    }
    Ok(candidates)
}

/// The category of each object that the annotations name; of two, the first in sorted order.
fn categories(tree: &Tree) -> Result<BTreeMap<String, String>> {
    let path = Path::new(ANNOTATIONS_FILE_NAME);
    let Some(bytes) = tree.read_list(path, "read the annotations", MAX_ANNOTATIONS_BYTES)? else {
        return Ok(BTreeMap::new());
    };
    let annotations: BTreeMap<String, Vec<String>> =
        serde_json::from_slice(&bytes).map_err(|source| DatasetError::Json {
            what: "annotations",
            path: tree.folder().join(path),
            source,
        })?;
    let mut category_of = BTreeMap::new();
    for (category, ids) in annotations {
        let category = category.replace(['/', '\\'], "-");
        for id in ids {
            category_of.entry(id).or_insert_with(|| category.clone());
        }
    }
    Ok(category_of)
}
