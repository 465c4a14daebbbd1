//! [`merge`]: joins the parts of a distributed build into one dataset.
//!
//! Shards are copied unchanged in plan order and verified by hash, with a journal entry after each, so an
//! interrupted merge can be resumed by the same call. The result is byte-identical to a build on one machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::{BuildError, DatasetError, Result};
use crate::manifest::{BuildPart, Manifest, ShardObjects};
use crate::writer::{DatasetPlan, DatasetWriter, differences, new_manifest};

/// Progress events of [`merge`](fn@merge).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MergeEvent {
    /// Start of the merge.
    Started {
        /// Shards of all parts.
        total: usize,
    },
    /// Shards merged by an earlier run.
    Resumed {
        /// Number of shards.
        shards: usize,
    },
    /// A shard was copied.
    Shard {
        /// File name.
        file: String,
        /// Length in bytes.
        bytes: u64,
    },
}

/// Merges the folders of all parts of a build into `out`; the parts are not modified.
///
/// # Errors
/// When a folder is not a part, the parts belong to different builds, parts or shards are missing (all are
/// listed), a shard was modified, or `out` is not writable or holds something else.
pub fn merge(
    folders: &[PathBuf],
    out: &Path,
    force: bool,
    on_event: &mut dyn FnMut(MergeEvent),
) -> Result<Manifest> {
    let parts = read_parts(folders)?;
    let Some((_, first)) = parts.values().next() else {
        return Err(DatasetError::Build(BuildError::PartsMissing {
            missing: "no part given".to_owned(),
        }));
    };
    let planned = first.planned_shards();
    on_event(MergeEvent::Started { total: planned.len() });
    let plan = DatasetPlan {
        part: None,
        skipped: first.left_out()?,
        ..DatasetPlan::of(first)
    };
    // Another program version may write different bytes.
    let differences = differences(
        first,
        &Manifest {
            part: first.part,
            ..new_manifest(&plan)
        },
    );
    if !differences.is_empty() {
        return Err(DatasetError::Build(BuildError::PlanMismatch {
            differences: differences.join("; "),
            path: parts[&1].0.to_owned(),
        }));
    }
    let mut writer = DatasetWriter::open(out, &plan, force)?;
    let missing: Vec<usize> = writer.missing_shards().collect();
    if missing.len() < planned.len() {
        on_event(MergeEvent::Resumed {
            shards: planned.len() - missing.len(),
        });
    }
    let content = content(&parts)?;
    for shard in missing {
        let (folder, objects) = &content[part_of(&content, shard)];
        let (entry, skipped) = (objects.entry(shard)?, objects.skipped_of(shard)?);
        let entry = writer.import_shard(folder, entry, skipped)?;
        on_event(MergeEvent::Shard {
            file: entry.file.clone(),
            bytes: entry.bytes,
        });
    }
    writer.finish()
}

/// Manifests of all parts by part index; checks that they match, are complete and unique.
fn read_parts(folders: &[PathBuf]) -> Result<BTreeMap<usize, (&Path, Manifest)>> {
    let mut parts: BTreeMap<usize, (&Path, Manifest)> = BTreeMap::new();
    let mut first: Option<(&Path, Manifest)> = None;
    let mut problems = Vec::new();
    let mut count = 0;
    for folder in folders {
        let manifest = Manifest::read(folder)?;
        let Some(part) = manifest.part else {
            return Err(DatasetError::Build(BuildError::NotAPart { path: folder.clone() }));
        };
        let (first_folder, first) = &*first.get_or_insert_with(|| (folder.as_path(), manifest.clone()));
        let differences = differences_of_parts(first, &manifest)?;
        if !differences.is_empty() {
            return Err(DatasetError::Build(BuildError::PartMismatch {
                differences: differences.join("; "),
                first: first_folder.to_path_buf(),
                path: folder.clone(),
            }));
        }
        count = part.count;
        let num_missing = manifest.assigned_shards().len() - manifest.shards.len();
        if num_missing > 0 {
            problems.push(format!(
                "part {part} lacks {num_missing} shards ({})",
                folder.display()
            ));
        }
        if let Some((other, _)) = parts.insert(part.index, (folder.as_path(), manifest)) {
            let (one, other) = (other.display(), folder.display());
            problems.push(format!("part {part} is there twice ({one} and {other})"));
        }
    }
    let missing: Vec<String> = (1..=count)
        .filter(|index| !parts.contains_key(index))
        .map(|index| BuildPart { index, count }.to_string())
        .collect();
    if !missing.is_empty() {
        problems.push(format!("missing: part {}", missing.join(", ")));
    }
    if problems.is_empty() {
        Ok(parts)
    } else {
        Err(DatasetError::Build(BuildError::PartsMissing {
            missing: problems.join("; "),
        }))
    }
}

/// Differences between two parts of one build, ignoring the part index.
fn differences_of_parts(first: &Manifest, other: &Manifest) -> Result<Vec<String>> {
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
    if first.left_out()? != other.left_out()? {
        found.push("objects that were left out unread".to_owned());
    }
    Ok(found)
}

/// The objects of each part, with its folder.
type Content<'a> = Vec<(&'a Path, ShardObjects<'a>)>;

fn content<'a>(parts: &'a BTreeMap<usize, (&'a Path, Manifest)>) -> Result<Content<'a>> {
    let parts = parts.values();
    parts
        .map(|(folder, manifest)| Ok((*folder, manifest.objects()?)))
        .collect()
}

/// Which of the parts, sorted by their numbers, has a shard.
fn part_of(content: &Content<'_>, shard: usize) -> usize {
    let count = content.len();
    let has = |index: &usize| {
        BuildPart {
            index: index + 1,
            count,
        }
        .has(shard)
    };
    (0..count)
        .find(has)
        .expect("the parts are whole, and have all shards together")
}
