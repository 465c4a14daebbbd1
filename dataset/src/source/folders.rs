//! Layout `folders`: `<category>/*.{obj,off,glb,gltf}`; other files beside the meshes are ignored.

use std::path::{Path, PathBuf};

use super::{Candidate, Tree};
use crate::error::Result;

pub(super) fn find(tree: &Tree) -> Result<Vec<Candidate>> {
    let mut candidates = Vec::new();
    for category in tree
        .entries(Path::new(""))?
        .into_iter()
        .filter(|entry| entry.is_dir)
    {
        for file in tree
            .entries(Path::new(&category.name))?
            .into_iter()
            .filter(super::DirEntry::is_mesh)
        {
            candidates.push(Candidate {
                category: category.name.clone(),
                name: file.stem().to_owned(),
                path: PathBuf::from(&category.name).join(&file.name),
                ..Candidate::default()
            });
        }
    }
    Ok(candidates)
}
