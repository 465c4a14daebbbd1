//! Layout `modelnet`: `<class>/{train,test}/*.off`.

use std::path::{Path, PathBuf};

use super::{Candidate, entries};
use crate::{Result, Split};

/// The folders within a class.
pub(super) const SPLIT_FOLDERS: [(&str, Split); 3] = [
    ("train", Split::Train),
    ("val", Split::Val),
    ("test", Split::Test),
];

pub(super) fn find(root: &Path) -> Result<Vec<Candidate>> {
    let mut candidates = Vec::new();
    for class in entries(root)?.into_iter().filter(|entry| entry.is_dir) {
        for (folder, split) in SPLIT_FOLDERS {
            let dir = PathBuf::from(&class.name).join(folder);
            if !root.join(&dir).is_dir() {
                continue;
            }
            for file in entries(&root.join(&dir))?
                .into_iter()
                .filter(super::Entry::is_mesh)
            {
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
