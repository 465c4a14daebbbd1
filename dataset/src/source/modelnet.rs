//! Layout `modelnet`: `<class>/{train,test}/*.off`; meshes deeper in a split's folder are named after their path.

use super::folders::SEPARATOR;
use super::listing::{Listing, names};
use super::{Candidate, mesh_file};
use crate::schema::Split;

/// Split of a folder within a class.
pub(super) fn split_of(folder: &str) -> Option<Split> {
    Split::ALL.into_iter().find(|split| split.as_str() == folder)
}

/// A class with folders for splits, if the source has one.
pub(super) fn class_with_splits(listing: &Listing) -> Option<&str> {
    let mut meshes = listing.meshes.iter().map(|mesh| names(mesh));
    meshes.find_map(|names| match names.as_slice() {
        [class, split, _, ..] if split_of(split).is_some() && split_of(class).is_none() => Some(*class),
        _ => None,
    })
}

pub(super) fn find(listing: &Listing) -> impl Iterator<Item = Candidate> {
    listing.meshes.iter().filter_map(|mesh| {
        let names = names(mesh);
        let [class, folder, rest @ .., _] = names.as_slice() else {
            return None;
        };
        let split = split_of(folder)?;
        let mut name = rest.to_vec();
        name.extend(mesh_file::stem(mesh));
        Some(Candidate {
            category: (*class).to_owned(),
            name: name.join(SEPARATOR),
            path: mesh.clone(),
            split: Some(split),
            ..Candidate::default()
        })
    })
}
