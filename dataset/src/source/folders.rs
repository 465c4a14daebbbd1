//! Layout `folders`: `<category>/**/<mesh>`, `<split>/<category>/**/<mesh>`, and meshes directly in the source, which are
//! of one category, named after the source. Other files beside the meshes are ignored.
//!
//! The rest of a mesh's path is its name, as in `lamp/desk-red` for `lamp/desk/red.obj`. A folder that keeps its only
//! mesh in `meshes` or `models` is an object: `lamp/desk/meshes/model.obj` is `lamp/desk`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::listing::{Listing, MESH_FOLDERS, UNNAMED, names};
use super::{Candidate, mesh_file, modelnet};

/// Between the parts of a path in a name.
pub(super) const SEPARATOR: &str = "-";

pub(super) fn find(listing: &Listing) -> impl Iterator<Item = Candidate> {
    let mut num_in_folder: BTreeMap<&Path, usize> = BTreeMap::new();
    for mesh in &listing.meshes {
        *num_in_folder
            .entry(mesh.parent().unwrap_or(Path::new("")))
            .or_default() += 1;
    }
    let is_split_first = |mesh: &PathBuf| {
        let object = object_path(mesh, &num_in_folder);
        object.len() > 2 && modelnet::split_of(object[0]).is_some()
    };
    let has_splits = listing.meshes.iter().all(is_split_first);
    listing.meshes.iter().map(move |mesh| {
        let object = object_path(mesh, &num_in_folder);
        let (split, object) = if has_splits {
            (modelnet::split_of(object[0]), &object[1..])
        } else {
            (None, object.as_slice())
        };
        let (category, name) = match object {
            [category, name @ ..] if !name.is_empty() => (*category, name),
            name => (listing.name.as_str(), name),
        };
        Candidate {
            category: category.to_owned(),
            name: name.join(SEPARATOR),
            path: mesh.clone(),
            split,
            ..Candidate::default()
        }
    })
}

/// Path of an object: that of its mesh without extension, or of its folder where that keeps one mesh in `meshes`.
fn object_path<'a>(mesh: &'a Path, num_in_folder: &BTreeMap<&Path, usize>) -> Vec<&'a str> {
    let folder = mesh.parent().unwrap_or(Path::new(""));
    let mut object = names(folder);
    let is_alone = num_in_folder.get(folder) == Some(&1);
    match object.as_slice() {
        [.., _, last] if is_alone && MESH_FOLDERS.contains(last) => drop(object.pop()),
        _ => object.push(mesh_file::stem(mesh).unwrap_or_default()),
    }
    object
}

/// The object of a single mesh, by the path of the mesh on disk.
pub(super) fn find_one(on_disk: &Path, mesh: &Path) -> Candidate {
    let names = names(on_disk);
    let folders = &names[..names.len().saturating_sub(1)];
    let (folders, name) = match folders {
        [folders @ .., object, last] if MESH_FOLDERS.contains(last) => (folders, *object),
        folders => (folders, mesh_file::stem(mesh).unwrap_or_default()),
    };
    Candidate {
        category: (*folders.last().unwrap_or(&UNNAMED)).to_owned(),
        name: name.to_owned(),
        path: mesh.to_owned(),
        ..Candidate::default()
    }
}

/// What a user has to know about where the categories come from; `None` for meshes one folder deep.
pub(super) fn describe(listing: &Listing) -> Option<String> {
    let depth = |mesh: &PathBuf| names(mesh).len();
    let num_direct = listing.meshes.iter().filter(|mesh| depth(mesh) == 1).count();
    let deepest = listing.meshes.iter().position(|mesh| depth(mesh) > 2);
    let mut said = Vec::new();
    if num_direct > 0 {
        said.push(format!(
            "meshes in no folder ({num_direct}) get the category \"{}\"",
            listing.name
        ));
    }
    if let Some(candidate) = deepest.and_then(|place| find(listing).nth(place)) {
        said.push(format!(
            "meshes in deeper folders are named after their path, as {}/{}",
            candidate.category, candidate.name
        ));
    }
    (!said.is_empty()).then(|| {
        let said = said.join(", ");
        format!("{said}; a CSV file with the columns path and category names them otherwise")
    })
}
