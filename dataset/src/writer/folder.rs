//! What in a folder is of a dataset, and what is somebody else's.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;

use super::plan_file::PlanFile;
use crate::atomic_file::complete_name;
use crate::error::{DatasetError, Result, StoreError};
use crate::feature_set::{FEATURE_SETS, is_feature_set};
use crate::image_set::IMAGE_SET_FOLDERS;
use crate::manifest::{
    JOURNAL_SUFFIX, JournalEntry, ListFile, Lists, MANIFEST_FILE_NAME, MAX_MANIFEST_BYTES, Manifest,
    OLD_MANIFEST_FILE_NAME, PLAN_FILE_NAME, image_shard_file_name, is_list_file_name, is_manifest_name,
    is_own_list, manifest_file, shard_file_name, shard_stem,
};
use crate::owned_folder::{refuse_foreign, refuse_link};
use crate::schema::{GENERATOR, Split};
use crate::shard::ShardReader;
use crate::store::{self, DirEntry};

/// Last bytes of a Parquet file.
const PARQUET_MAGIC: &[u8; 4] = b"PAR1";

/// Refuses a folder that contains unrelated files.
pub(super) fn check_no_foreign_files(dir: &Path, found: &[DirEntry]) -> Result<()> {
    let is_foreign = |name: &str| !is_dataset_file(name) || is_foreign(dir, name);
    match found.iter().find(|found| is_foreign(&found.name)) {
        Some(foreign) => Err(DatasetError::Store(StoreError::ForeignFiles {
            name: foreign.name.trim_end_matches('/').to_owned(),
            path: dir.to_owned(),
        })),
        None => Ok(()),
    }
}

/// Refuses to replace a folder that holds anything but a dataset of this program, complete or not. The proof is the
/// manifest, which names the program; image sets and feature sets may lie beside the shards.
pub(super) fn check_replaceable(dir: &Path) -> Result<()> {
    if !store::is_url(dir) {
        refuse_link(dir)?;
    }
    let listed = match manifest_file(dir)? {
        Some((path, bytes)) => listed_shards(&bytes).ok_or_else(|| {
            let name = path.file_name().unwrap_or_default().display();
            DatasetError::Store(StoreError::NotOurs {
                what: format!("its {name} is not the manifest of a dataset"),
                path: dir.to_owned(),
            })
        })?,
        None => BTreeSet::new(),
    };
    let mut foreign = Vec::new();
    for found in store::list(dir)? {
        let name = found.name.as_str();
        let folder = name.strip_suffix('/');
        if let Some(folder) = folder.filter(|folder| IMAGE_SET_FOLDERS.contains(folder)) {
            let sets = dir.join(folder);
            for set in store::list(&sets)? {
                let manifest = manifest_file(&sets.join(&set.name));
                let is_ours = |bytes: &[u8]| listed_shards(bytes).is_some();
                if !manifest.is_ok_and(|found| found.is_some_and(|(_, bytes)| is_ours(&bytes))) {
                    foreign.push(format!("{folder}/{}", set.name));
                }
            }
        } else if folder == Some(FEATURE_SETS) {
            let sets = dir.join(FEATURE_SETS);
            let found = store::list(&sets)?.into_iter();
            let others = found.filter(|set| !is_feature_set(&sets.join(&set.name)));
            foreign.extend(others.map(|set| format!("{FEATURE_SETS}/{}", set.name)));
        } else if !is_dataset_file(name) || (!listed.contains(name) && is_foreign(dir, name)) {
            foreign.push(found.name);
        }
    }
    refuse_foreign(dir, foreign)
}

/// Shards that a manifest lists; `None` if this program did not write it, in any version. A truncated or damaged one still
/// begins with the generator.
fn listed_shards(manifest: &[u8]) -> Option<BTreeSet<String>> {
    let program = GENERATOR.split(' ').next().unwrap_or_default();
    let Ok(manifest) = serde_json::from_slice::<Listed>(manifest) else {
        let begin = &manifest[..manifest.len().min(256)];
        let begin = String::from_utf8_lossy(begin);
        let is_ours = begin.contains(&format!("\"generator\": \"{program} "));
        return is_ours.then(BTreeSet::new);
    };
    let generator = manifest.generator?;
    if generator.split(' ').next() != Some(program) {
        return None;
    }
    Some(manifest.shards.into_iter().map(|shard| shard.file).collect())
}

/// What is read of a manifest of any version.
#[derive(Deserialize)]
struct Listed {
    generator: Option<String>,
    #[serde(default)]
    shards: Vec<ListedShard>,
}

#[derive(Deserialize)]
struct ListedShard {
    file: String,
}

/// Whether it is a complete Parquet file or a manifest of another program: others use the same names.
fn is_foreign(dir: &Path, name: &str) -> bool {
    let path = dir.join(name);
    if name == OLD_MANIFEST_FILE_NAME {
        let bytes = store::read_bounded(&path, MAX_MANIFEST_BYTES);
        return !bytes.is_ok_and(|bytes| listed_shards(&bytes).is_some());
    }
    if name == PLAN_FILE_NAME {
        return !matches!(PlanFile::open(dir), Ok(Some(_)));
    }
    if !is_shard_name(name) && !is_list_file_name(name) {
        return false;
    }
    let is_parquet = store::open(&path).is_ok_and(|file| {
        let len = file.len();
        len > 2 * PARQUET_MAGIC.len() as u64
            && file
                .bytes(len - PARQUET_MAGIC.len() as u64, PARQUET_MAGIC.len())
                .is_ok_and(|end| end == PARQUET_MAGIC.as_slice())
    });
    let is_ours = || {
        if is_list_file_name(name) {
            is_own_list(&path)
        } else {
            ShardReader::open(&path).is_ok()
        }
    };
    is_parquet && !is_ours()
}

/// Whether a dataset writer creates files with this name.
pub(super) fn is_dataset_file(name: &str) -> bool {
    let whole = complete_name(name).unwrap_or(name);
    is_manifest_name(whole)
        || whole == PLAN_FILE_NAME
        || is_list_file_name(whole)
        || is_shard_name(whole.strip_suffix(JOURNAL_SUFFIX).unwrap_or(whole))
}

/// `<split>-<5 digits>-of-<5 digits>`, with the extension of a shard or of an image set's shard.
fn is_shard_name(name: &str) -> bool {
    let parse = || {
        let (split, rest) = shard_stem(name)?.split_once('-')?;
        let (shard_idx, num_shards) = rest.split_once("-of-")?;
        let split = Split::ALL.into_iter().find(|s| s.as_str() == split)?;
        Some(shard_file_name(
            split,
            shard_idx.parse().ok()?,
            num_shards.parse().ok()?,
        ))
    };
    parse().is_some_and(|shard| shard == name || image_shard_file_name(&shard) == name)
}

/// Removes dataset files that the manifest does not list; refuses where one is another program's. The list of the planned
/// objects stays until the manifest is complete, and so does the journal of a large data set, until its objects are listed.
pub(super) fn remove_stale_files(dir: &Path, manifest: &Manifest) -> Result<()> {
    let shards = || manifest.shards.iter().map(|shard| shard.file.as_str());
    let lists = manifest.lists.iter().flat_map(Lists::files);
    let mut listed: BTreeSet<&str> = shards()
        .chain(lists.map(|list: &ListFile| list.file.as_str()))
        .collect();
    let is_journaled = manifest.lists.as_ref().is_some_and(|lists| !lists.is_whole());
    let journal: Vec<String> = if is_journaled {
        shards().map(JournalEntry::file_name).collect()
    } else {
        Vec::new()
    };
    listed.extend(journal.iter().map(String::as_str));
    let found = store::list(dir)?;
    let names = found.iter().map(|file| file.name.as_str());
    let is_kept = |name: &str| {
        name == MANIFEST_FILE_NAME
            || listed.contains(name)
            || (name == PLAN_FILE_NAME && !manifest.is_complete() && PlanFile::is_of(dir, manifest))
    };
    let stale: Vec<&str> = names
        .filter(|name| is_dataset_file(name) && !is_kept(name))
        .collect();
    if let Some(foreign) = stale.iter().find(|name| is_foreign(dir, name)) {
        return Err(DatasetError::Store(StoreError::ForeignFiles {
            name: (*foreign).to_owned(),
            path: dir.to_owned(),
        }));
    }
    // First the list: a unit that still runs then sees that the build is finished, and removes its journal entry itself.
    let (lists, others): (Vec<&str>, Vec<&str>) = stale.into_iter().partition(|name| *name == PLAN_FILE_NAME);
    store::remove_all(dir, lists)?;
    store::remove_all(dir, others)
}
