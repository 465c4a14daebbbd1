//! Layout `objaverse`: `glbs/000-023/<uid>.glb`, as Objaverse is downloaded, and beside them the folders of other sources of
//! Objaverse-XL, whose meshes are named after their path. `lvis-annotations.json`, an
//! object of categories with lists of ids, gives categories to the objects it names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::folders::SEPARATOR;
use super::listing::{Listing, names};
use super::{Candidate, Tree, mesh_file};
use crate::error::{DatasetError, Result, SourceError};

/// Possible parents of the mesh folders.
const MESH_ROOTS: [&str; 3] = ["glbs", "hf-objaverse-v1/glbs", ""];
/// Categories, in the source folder.
const ANNOTATIONS_FILE_NAME: &str = "lvis-annotations.json";
/// Size limit, enough for all of Objaverse.
const MAX_ANNOTATIONS_BYTES: u64 = 1 << 30;
/// Category of objects without annotation.
const UNCATEGORIZED: &str = "object";

/// Whether a folder directly in the source is one of Objaverse's.
pub(super) fn is_root(folder: &str) -> bool {
    MESH_ROOTS.iter().any(|root| Path::new(root).starts_with(folder))
}

/// Parent of the mesh folders, if the source has this layout.
pub(super) fn mesh_root(listing: &Listing) -> Option<PathBuf> {
    let is_there = |root: &&Path| {
        let mut meshes = listing.below(root).map(|mesh| is_in_batch(mesh, root));
        if root.as_os_str().is_empty() {
            !listing.meshes.is_empty() && meshes.all(|is_in_batch| is_in_batch)
        } else {
            meshes.any(|is_in_batch| is_in_batch)
        }
    };
    MESH_ROOTS
        .map(Path::new)
        .iter()
        .copied()
        .find(is_there)
        .map(Path::to_owned)
}

fn is_in_batch(mesh: &Path, root: &Path) -> bool {
    let within = mesh.strip_prefix(root).map(names).unwrap_or_default();
    within.len() == 2 && is_batch(within[0])
}

/// `ddd-ddd`
fn is_batch(name: &str) -> bool {
    name.split_once('-').is_some_and(|(a, b)| {
        [a, b]
            .iter()
            .all(|part| part.len() == 3 && part.bytes().all(|b| b.is_ascii_digit()))
    })
}

pub(super) fn find(listing: &Listing) -> Result<Box<dyn Iterator<Item = Candidate> + '_>> {
    let Some(root) = mesh_root(listing) else {
        return Ok(Box::new(std::iter::empty()));
    };
    let category_of = categories(&listing.tree)?;
    Ok(Box::new(listing.meshes.iter().map(move |mesh| {
        // The numbered folders mean nothing, those of other sources (`smithsonian/objects`) do.
        let name = if is_in_batch(mesh, &root) {
            mesh_file::stem(mesh).unwrap_or_default().to_owned()
        } else {
            let mut name = mesh.parent().map(names).unwrap_or_default();
            name.extend(mesh_file::stem(mesh));
            name.join(SEPARATOR)
        };
        let category = category_of.get(&name).map_or(UNCATEGORIZED, String::as_str);
        Candidate {
            category: category.to_owned(),
            name,
            path: mesh.clone(),
            ..Candidate::default()
        }
    })))
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
