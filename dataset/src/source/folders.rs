//! Layout `folders`: `<category>/*.{obj,off,glb,gltf}`; what lies beside the meshes (materials, textures, notes) is
//! passed over.

use std::path::{Path, PathBuf};

use super::{Candidate, entries};
use crate::Result;

pub(super) fn find(root: &Path) -> Result<Vec<Candidate>> {
    let mut candidates = Vec::new();
    for category in entries(root)?.into_iter().filter(|entry| entry.is_dir) {
        for file in entries(&root.join(&category.name))?
            .into_iter()
            .filter(super::Entry::is_mesh)
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
