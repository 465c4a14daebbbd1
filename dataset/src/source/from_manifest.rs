//! Source from a manifest: the same objects in another copy of the meshes.
//!
//! A mesh that is not at its recorded path is searched by hash, so the copy may have another layout.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{
    ObjectListBuilder, ObjectReader as _, PartTable, Source, SourceObject, Tree, listing, mesh_file,
    normalize_within, stored,
};
use crate::error::{DatasetError, ManifestError, Result};
use crate::manifest::Manifest;
use crate::pipeline::parallel_map;
use crate::sha256;

/// Depth limit of the search.
const MAX_DEPTH: usize = 12;
/// Files of a store that are read at a time to be hashed, each of which is in memory as a whole.
const NUM_FILES_AT_A_TIME: usize = 8;

impl Source {
    /// The objects of a manifest in a folder of meshes. Objects skipped before reading stay skipped; missing
    /// meshes are reported when they are read.
    ///
    /// # Errors
    /// When the manifest lists no objects or is inconsistent, or the folder cannot be read.
    pub fn from_manifest(manifest: &Manifest, meshes: &Path) -> Result<Self> {
        let damaged = |detail: String| {
            DatasetError::Manifest(ManifestError::Invalid {
                detail,
                path: meshes.to_owned(),
            })
        };
        stored::refuse_secret(meshes)?;
        let mut tree = Tree::open(meshes)?;
        let listed = manifest.objects()?;
        let first = listed
            .shards()
            .next()
            .map(|shard| listed.of_shard(shard))
            .transpose()?;
        let first = first.as_ref().and_then(|objects| objects.first());
        if tree.is_listed()
            && first.is_some_and(|object| !tree.is_file(Path::new(&object.path)))
            && let Some(lone_folder) = listing::lone_folder(&tree.meshes()?.files)
        {
            tree = tree.enter(&lone_folder);
        }
        if !tree.is_listed() {
            let mut paths = Vec::new();
            listed.visit(&mut |_, entry| {
                paths.extend(normalize_within(Path::new(&entry.path)));
                Ok(())
            })?;
            tree.look_up(&paths)?;
        }
        let mut objects = ObjectListBuilder::default();
        let mut missing: BTreeMap<(u64, String), usize> = BTreeMap::new();
        listed.visit(&mut |shard, entry| {
            if entry.path.is_empty() {
                return Err(DatasetError::Manifest(ManifestError::NoMeshes));
            }
            let path = normalize_within(Path::new(&entry.path))
                .ok_or_else(|| damaged(format!("the path of {} leads out of the source", entry.id)))?;
            let format = mesh_file::format_of(&path)
                .ok_or_else(|| damaged(format!("the mesh of {} is of no format", entry.id)))?;
            if let Some(sha256) = &entry.sha256
                && !tree.is_file(&path)
            {
                missing.insert((entry.bytes, sha256.clone()), objects.len());
            }
            let object = SourceObject {
                id: entry.id.clone(),
                split: shard.split,
                path,
                format,
                bytes: (entry.bytes > 0).then_some(entry.bytes),
                relocated_to: None,
                changed: None,
            };
            objects.add(&object).map_err(damaged)
        })?;
        if objects.len() == 0 {
            return Err(DatasetError::Manifest(ManifestError::NoMeshes));
        }
        let mut num_moved = 0;
        for (object_idx, path) in find_by_hash(&tree, &missing)? {
            objects.relocate(object_idx, path);
            num_moved += 1;
        }
        let mut notes = Vec::new();
        if num_moved > 0 {
            notes.push(format!(
                "{num_moved} meshes lie elsewhere and were found by their hashes"
            ));
        }
        Ok(Self {
            publication: manifest.source.publication.clone(),
            splits: manifest.source.splits.clone(),
            notes,
            classes: manifest.classes.clone(),
            objects: Arc::new(objects.sorted()),
            skipped: manifest.left_out()?,
            parts: PartTable::from_names(&manifest.parts).map_err(damaged)?,
            has_scanned_lengths: false,
            ..Self::of_files(manifest.source.layout.clone(), tree)
        })
    }
}

/// Finds files by length, if it is not 0 (unknown), and hash; returns object indices with paths.
fn find_by_hash(tree: &Tree, missing: &BTreeMap<(u64, String), usize>) -> Result<Vec<(usize, PathBuf)>> {
    let mut found = Vec::new();
    if missing.is_empty() {
        return Ok(found);
    }
    let lengths: BTreeSet<u64> = missing.keys().map(|(bytes, _)| *bytes).collect();
    let mut left = missing.clone();
    let mut alike = Vec::new();
    for path in tree.walk(MAX_DEPTH)? {
        if let Ok(Some(bytes)) = tree.file_bytes(&path)
            && (lengths.contains(&bytes) || lengths.contains(&0))
        {
            alike.push((path, bytes));
        }
    }
    let num_threads = if tree.is_stored() { NUM_FILES_AT_A_TIME } else { 1 };
    let hash = |idx: usize| {
        let (path, bytes) = &alike[idx];
        tree.read(path, *bytes).ok().map(sha256::of_bytes)
    };
    let hashes = parallel_map(num_threads, alike.len(), hash, || {})?;
    for ((path, bytes), sha256) in alike.into_iter().zip(hashes) {
        let Some(sha256) = sha256 else {
            continue;
        };
        let object_idx = left
            .remove(&(bytes, sha256.clone()))
            .or_else(|| left.remove(&(0, sha256)));
        found.extend(object_idx.map(|object_idx| (object_idx, path)));
    }
    Ok(found)
}
