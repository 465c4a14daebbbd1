//! Layout `modelnet`: `<class>/{train,test}/*.off`.

use std::path::{Path, PathBuf};

use super::{Candidate, Tree};
use crate::error::Result;
use crate::schema::Split;

/// Split folders within a class.
pub(super) const SPLIT_FOLDERS: [(&str, Split); 3] = [
    ("train", Split::Train),
    ("val", Split::Val),
    ("test", Split::Test),
];

pub(super) fn find(tree: &Tree) -> Result<Vec<Candidate>> {
    let mut candidates = Vec::new();
    for class in tree
        .entries(Path::new(""))?
        .into_iter()
        .filter(|entry| entry.is_dir)
    {
        for (folder, split) in SPLIT_FOLDERS {
            let dir = PathBuf::from(&class.name).join(folder);
            if !tree.is_dir(&dir) {
                continue;
            }
            for file in tree.entries(&dir)?.into_iter().filter(super::DirEntry::is_mesh) {
                candidates.push(Candidate {
                    category: class.name.clone(),
                    name: file.stem().to_owned(),
                    path: dir.join(&file.name),
                    split: Some(split),
                    ..Candidate::default()
                });
            }
        }
    }
    Ok(candidates)
}
