//! Layout `objaverse`: `glbs/000-023/<uid>.glb`, as Objaverse is downloaded. `lvis-annotations.json`, an
//! object of categories with lists of ids, gives categories to the objects it names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Candidate, Tree};
use crate::error::{DatasetError, Result, SourceError};

/// Possible parents of the mesh folders.
const MESH_ROOTS: [&str; 3] = ["glbs", "hf-objaverse-v1/glbs", ""];
/// Categories, in the source folder.
const ANNOTATIONS_FILE_NAME: &str = "lvis-annotations.json";
/// Size limit, enough for all of Objaverse.
const MAX_ANNOTATIONS_BYTES: u64 = 1 << 30;
/// Category of objects without annotation.
const UNCATEGORIZED: &str = "object";

/// Parent of the mesh folders, if the tree has this layout.
pub(super) fn mesh_root(tree: &Tree) -> Result<Option<PathBuf>> {
    for root in MESH_ROOTS.map(Path::new) {
        if root.as_os_str().is_empty() || tree.is_dir(root) {
            let folders: Vec<_> = tree
                .entries(root)?
                .into_iter()
                .filter(|entry| entry.is_dir)
                .collect();
            if !folders.is_empty() && folders.iter().all(|folder| is_batch(&folder.name)) {
                return Ok(Some(root.to_owned()));
            }
        }
    }
    Ok(None)
}

/// `ddd-ddd`
fn is_batch(name: &str) -> bool {
    name.split_once('-').is_some_and(|(a, b)| {
        [a, b]
            .iter()
            .all(|part| part.len() == 3 && part.bytes().all(|b| b.is_ascii_digit()))
    })
}

pub(super) fn find(tree: &Tree) -> Result<Vec<Candidate>> {
    let mut candidates = Vec::new();
    let Some(root) = mesh_root(tree)? else {
        return Ok(candidates);
    };
    let category_of = categories(tree)?;
    for batch in tree.entries(&root)?.into_iter().filter(|entry| entry.is_dir) {
        let dir = root.join(&batch.name);
        for file in tree.entries(&dir)?.into_iter().filter(super::DirEntry::is_mesh) {
            let category = category_of.get(file.stem()).map_or(UNCATEGORIZED, String::as_str);
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

/// Category of each annotated object; if several, the first in sorted order.
fn categories(tree: &Tree) -> Result<BTreeMap<String, String>> {
    let path = Path::new(ANNOTATIONS_FILE_NAME);
    let Some(bytes) = tree.read_list(path, "read the annotations", MAX_ANNOTATIONS_BYTES)? else {
        return Ok(BTreeMap::new());
    };
    let annotations: BTreeMap<String, Vec<String>> = serde_json::from_slice(&bytes).map_err(|source| {
        DatasetError::Source(SourceError::Json {
            detail: "annotations",
            path: tree.folder().join(path),
            source,
        })
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
