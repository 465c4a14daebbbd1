//! Whether the finished shards of an earlier run still show what is in the source.
//!
//! A shard's file has a modification time that stands for the times of all files that it was made from: the second of the
//! newest, and a fraction of it that is a hash of them. It names that state of the source, in no byte of the data set. Where
//! the source has another one now, the shard's meshes and the files that they refer to are read and their hashes compared
//! with the manifest's. Times are compared for equality alone, so a copy of a data set, or a clock that is wrong, costs
//! hashing and nothing else.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use tap_render::import::{ImportOptions, MeshFormat, import_object};

use crate::manifest::{ObjectEntry, ShardEntry};
use crate::pipeline::parallel_map;
use crate::recipe::BuildRecipe;
use crate::schema::{ObjectId, Split};
use crate::sha256;
use crate::source::{Source, SourceObject, content};
use crate::store;

/// Meshes of a store that are read at a time for each shard that is compared.
const NUM_MESHES_AT_A_TIME: usize = 8;

/// Compares finished shards with the source.
pub(super) struct SourceChanges<'a> {
    source: &'a Source,
    recipe: &'a BuildRecipe,
    max_mesh_bytes: u64,
    /// When anything in the source last changed, if meshes refer to other files.
    last_change: Option<SystemTime>,
    changed: Mutex<Changed>,
}

/// What has changed since the shards were written.
#[derive(Debug, Clone, Default)]
pub(super) struct Changed {
    pub(super) objects: BTreeSet<ObjectId>,
    pub(super) shards: BTreeSet<String>,
}

impl<'a> SourceChanges<'a> {
    /// Before the first mesh is read, so that what changes meanwhile is found the next time. Where meshes may refer to any
    /// file of the source, its newest change is looked for if `is_whole`; a unit does not search a whole source for a few
    /// shards, and leaves the comparison to the next build.
    pub(super) fn new(
        source: &'a Source,
        recipe: &'a BuildRecipe,
        max_mesh_bytes: u64,
        is_whole: bool,
    ) -> Self {
        let mut formats = source.objects().formats();
        Self {
            source,
            recipe,
            max_mesh_bytes,
            last_change: (is_whole && formats.any(|format| refers_to_files(recipe, format)))
                .then(|| source.last_change())
                .flatten(),
            changed: Mutex::default(),
        }
    }

    /// Whether a shard shows what is in the source now. Sources that tell no times are trusted.
    pub(super) fn is_current(&self, dir: &Path, shard: &ShardEntry) -> bool {
        let Some(state) = self.state(shard) else {
            return true;
        };
        if modified(&dir.join(&shard.file)) == Some(state) {
            return true;
        }
        let changed = self.changed_objects(shard);
        if self.source.check_store().is_err() {
            // Nothing is known, and the build ends: what is finished stays.
            return true;
        }
        if changed.is_empty() {
            self.record(dir, shard);
            return true;
        }
        let mut all = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        all.objects.extend(changed);
        all.shards.insert(shard.file.clone());
        false
    }

    /// Objects of a shard that are other ones now. Those of a store are read many at a time.
    fn changed_objects(&self, shard: &ShardEntry) -> BTreeSet<ObjectId> {
        let is_same = |idx: usize| self.is_same(shard.split, &shard.objects[idx]);
        let num_threads = if self.source.is_stored() {
            NUM_MESHES_AT_A_TIME
        } else {
            1
        };
        let are_same = parallel_map(num_threads, shard.objects.len(), is_same, || {});
        // Without threads, or where one panicked, all count as changed: they are built again.
        let are_same = are_same.unwrap_or_else(|_| vec![false; shard.objects.len()]);
        let changed = shard.objects.iter().zip(are_same).filter(|(_, is_same)| !is_same);
        changed.map(|(entry, _)| entry.id.clone()).collect()
    }

    /// Notes on a finished shard which state of the source it shows.
    pub(super) fn record(&self, dir: &Path, shard: &ShardEntry) {
        let path = dir.join(&shard.file);
        let (Some(state), false) = (self.state(shard), store::is_url(&path)) else {
            return;
        };
        let recorded = File::options()
            .append(true)
            .open(path)
            .and_then(|file| file.set_modified(state));
        if let Err(error) = recorded {
            tracing::debug!(%error, "the next run reads the shard's meshes again");
        }
    }

    /// What was found to have changed.
    pub(super) fn changed(&self) -> Changed {
        self.changed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The time that stands for the files that the shard was made from; `None` if the source tells no times, or the
    /// manifest, of version 1, no objects.
    fn state(&self, shard: &ShardEntry) -> Option<SystemTime> {
        let mut times = Vec::with_capacity(shard.objects.len());
        for entry in &shard.objects {
            let object = self.source.objects().find(shard.split, &entry.id)?;
            times.push(object.changed?);
            if refers_to_files(self.recipe, object.format) {
                times.push(self.last_change?);
            }
        }
        let newest = times.iter().max()?;
        // One file may be replaced within the second in which another one was.
        Some(store::time_of_state(*newest, format!("{times:?}")))
    }

    /// Whether an object's mesh and the files it refers to have the hashes of the manifest.
    fn is_same(&self, split: Split, entry: &ObjectEntry) -> bool {
        let Some(object) = self.source.objects().find(split, &entry.id) else {
            return false;
        };
        let Ok(bytes) = self.source.read(&object, self.max_mesh_bytes) else {
            return entry.sha256.is_none();
        };
        if entry.sha256 != Some(sha256::of_bytes(&bytes)) {
            return false;
        }
        // A skipped object says nothing about other files.
        if entry.row.is_none() || !refers_to_files(self.recipe, object.format) {
            return true;
        }
        let assets_sha256 = self.assets_sha256(&object, &bytes);
        assets_sha256.is_ok_and(|assets_sha256| assets_sha256 == entry.assets_sha256)
    }

    /// Which files a mesh refers to only its importer knows.
    fn assets_sha256(&self, object: &SourceObject, bytes: &[u8]) -> io::Result<Option<String>> {
        let assets = self
            .source
            .assets(object, self.max_mesh_bytes - bytes.len() as u64);
        let content = content(&object.path, bytes, self.max_mesh_bytes)?;
        let options = ImportOptions {
            appearance: self.recipe.render.needs_appearance(),
            ..ImportOptions::default()
        };
        import_object(object.format, &content, &assets, &options).map_err(io::Error::other)?;
        Ok(assets.sha256())
    }
}

/// Whether a row may depend on more files than the mesh: materials and textures, or the buffers of a glTF.
fn refers_to_files(recipe: &BuildRecipe, format: MeshFormat) -> bool {
    recipe.render.needs_appearance() || format == MeshFormat::Gltf
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}
