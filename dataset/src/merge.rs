//! [`merge`]: the parts of a build, made side by side, to the dataset that one machine would have made.
//!
//! Shards are copied as they are, in the order of the plan, each proven by its hash; the manifest is rewritten after
//! each. So a merge may be killed at any moment, and the same call goes on with it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::dataset_writer::{differences, fresh_manifest};
use crate::{
    BuildPart, DatasetError, DatasetPlan, DatasetWriter, Manifest, Result, ShardEntry, ShardHeader,
    SkippedObject,
};

/// What happens while parts are joined.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MergeEvent {
    /// It begins.
    Started {
        /// Shards of all parts.
        total: usize,
    },
    /// An earlier run has joined these shards.
    Resumed {
        /// How many.
        shards: usize,
    },
    /// A shard was taken over.
    Shard {
        /// Its name.
        file: String,
        /// Its bytes.
        bytes: u64,
    },
}

/// Joins the folders of all parts of a build in `out`; the parts stay as they are.
///
/// # Errors
/// When a folder holds no part, the parts are of different builds, one is missing or not whole (all that is missing
/// is listed), a shard was changed, or `out` can't be written to or holds something else.
pub fn merge(
    folders: &[PathBuf],
    out: &Path,
    force: bool,
    on_event: &mut dyn FnMut(MergeEvent),
) -> Result<Manifest> {
    let parts = read_parts(folders)?;
    let Some((_, first)) = parts.values().next() else {
        return Err(DatasetError::PartsMissing {
            missing: "no part was given".to_owned(),
        });
    };
    let planned = first.planned_shards();
    on_event(MergeEvent::Started { total: planned.len() });
    let plan = plan_of(first);
    // What another version of the program writes need not have the same bytes.
    let differences = differences(
        first,
        &Manifest {
            part: first.part,
            ..fresh_manifest(&plan)
        },
    );
    if !differences.is_empty() {
        return Err(DatasetError::OtherPlan {
            differences: differences.join("; "),
            path: parts[&1].0.to_owned(),
        });
    }
    let mut writer = DatasetWriter::open(out, &plan, force)?;
    let missing: Vec<usize> = writer.missing_shards().collect();
    if missing.len() < planned.len() {
        on_event(MergeEvent::Resumed {
            shards: planned.len() - missing.len(),
        });
    }
    let num_parts = parts.len();
    for shard in missing {
        // All shards of all parts are there: that was proven above.
        let (folder, manifest) = &parts[&(shard % num_parts + 1)];
        let (entry, skipped) = entry_of(manifest, shard, &planned[shard].1);
        let entry = writer.adopt_shard(folder, entry, skipped)?;
        on_event(MergeEvent::Shard {
            file: entry.file.clone(),
            bytes: entry.bytes,
        });
    }
    writer.finish()
}

/// The manifests of all parts by their number: of one build, whole, and none twice.
fn read_parts(folders: &[PathBuf]) -> Result<BTreeMap<usize, (&Path, Manifest)>> {
    let mut parts: BTreeMap<usize, (&Path, Manifest)> = BTreeMap::new();
    let mut first: Option<(&Path, Manifest)> = None;
    let mut wrong = Vec::new();
    let mut count = 0;
    for folder in folders {
        let manifest = Manifest::read(folder)?;
        let Some(part) = manifest.part else {
            return Err(DatasetError::NotAPart { path: folder.clone() });
        };
        let (first_folder, first) = &*first.get_or_insert_with(|| (folder.as_path(), manifest.clone()));
        let differences = differences_of_parts(first, &manifest);
        if !differences.is_empty() {
            return Err(DatasetError::OtherPart {
                differences: differences.join("; "),
                first: first_folder.to_path_buf(),
                path: folder.clone(),
            });
        }
        count = part.count;
        let lacks = manifest.own_shards().len() - manifest.shards.len();
        if lacks > 0 {
            wrong.push(format!("part {part} lacks {lacks} shards ({})", folder.display()));
        }
        if let Some((other, _)) = parts.insert(part.index, (folder.as_path(), manifest)) {
            let (one, other) = (other.display(), folder.display());
            wrong.push(format!("part {part} is there twice ({one} and {other})"));
        }
    }
    let absent: Vec<String> = (1..=count)
        .filter(|index| !parts.contains_key(index))
        .map(|index| BuildPart { index, count }.to_string())
        .collect();
    if !absent.is_empty() {
        wrong.push(format!("missing: part {}", absent.join(", ")));
    }
    if wrong.is_empty() {
        Ok(parts)
    } else {
        Err(DatasetError::PartsMissing {
            missing: wrong.join("; "),
        })
    }
}

/// In what two parts of one build differ that should be the same; which part they are is left aside.
fn differences_of_parts(first: &Manifest, other: &Manifest) -> Vec<String> {
    let count = |manifest: &Manifest| manifest.part.map(|part| part.count);
    let mut found = Vec::new();
    if let (Some(here), Some(there)) = (count(first), count(other))
        && here != there
    {
        found.push(format!("one of {here} parts, the other one of {there}"));
    }
    let other = Manifest {
        part: first.part,
        ..other.clone()
    };
    found.extend(differences(first, &other));
    let left_out = |manifest: &Manifest| -> Vec<SkippedObject> {
        let skipped = manifest.skipped.iter().filter(|skipped| skipped.shard.is_none());
        skipped.cloned().collect()
    };
    if left_out(first) != left_out(&other) {
        found.push("objects that were left out unread".to_owned());
    }
    found
}

/// The plan of the whole that a part is of.
fn plan_of(part: &Manifest) -> DatasetPlan {
    // Destructured whole: a new field must be carried over, or named here as one of the part alone.
    let Manifest {
        schema_version: _,
        generator: _,
        sha256: _,
        part: _,
        parent,
        is_relit,
        source,
        recipe,
        adapter,
        layout,
        classes,
        parts,
        num_shards,
        shards: _,
        skipped,
    } = part.clone();
    DatasetPlan {
        header: ShardHeader {
            layout,
            classes,
            parts,
            recipe,
            adapter,
        },
        source,
        num_shards,
        part: None,
        parent,
        is_relit,
        skipped: skipped
            .into_iter()
            .filter(|skipped| skipped.shard.is_none())
            .collect(),
    }
}

/// What a manifest says about one shard, and what was left out of it.
fn entry_of(manifest: &Manifest, shard: usize, file: &str) -> (ShardEntry, Vec<SkippedObject>) {
    let entry = manifest.shards.iter().find(|entry| entry.file == file);
    let entry = entry.expect("a part that is whole has all of its shards").clone();
    let skipped = manifest
        .skipped
        .iter()
        .filter(|skipped| skipped.shard == Some(shard));
    (entry, skipped.cloned().collect())
}
