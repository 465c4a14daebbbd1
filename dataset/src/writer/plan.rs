//! [`DatasetPlan`]: everything known about a dataset before its first row.
//!
//! The plan (number of shards, objects per shard) is fixed before the first row, so a row's shard does not depend on which
//! objects were skipped.

use std::ops::Range;

use crate::manifest::{
    BuildPart, LIST_FILES_SCHEMA_VERSION, Lists, MAX_OBJECTS_IN_MANIFEST, Manifest, ShardCount,
    SkippedObject, SourceDescription, json_differences, needs_list_files,
};
use crate::schema::{GENERATOR, SCHEMA_VERSION, ShardHeader, Split};

/// Everything known about a dataset before its first row.
#[derive(Debug, Clone, PartialEq)]
pub struct DatasetPlan {
    /// Metadata of every shard.
    pub header: ShardHeader,
    /// Description of the source.
    pub source: SourceDescription,
    /// Planned shards per split.
    pub num_shards: Vec<ShardCount>,
    /// The part to write; `None` for the whole dataset.
    pub part: Option<BuildPart>,
    /// Hash of the dataset this one is derived from.
    pub parent: Option<String>,
    /// Whether images were relit from the parent's G-buffer instead of rendered.
    pub is_relit: bool,
    /// Objects skipped before any mesh is read.
    pub skipped: Vec<SkippedObject>,
    /// Whether objects are listed in files beside the manifest, as those of large data sets are.
    pub has_list_files: bool,
}

impl DatasetPlan {
    /// The plan, with its objects listed in files if there are many.
    #[must_use]
    pub fn listed(self) -> Self {
        self.listed_above(MAX_OBJECTS_IN_MANIFEST)
    }

    /// The plan, with its objects listed in files if there are more than these.
    pub(crate) fn listed_above(self, max_objects_in_manifest: usize) -> Self {
        Self {
            has_list_files: needs_list_files(
                self.source.num_objects,
                self.skipped.len(),
                max_objects_in_manifest,
            ),
            ..self
        }
    }

    /// The plan of a dataset, complete or not. What was left out and is listed in a file stays there.
    pub(crate) fn of(manifest: &Manifest) -> Self {
        // Exhaustive: a new field must be carried over, or listed here as progress.
        let Manifest {
            schema_version: _,
            generator: _,
            sha256: _,
            part,
            parent,
            is_relit,
            source,
            recipe: _,
            adapter: _,
            layout: _,
            classes: _,
            parts: _,
            num_shards,
            lists,
            shards: _,
            skipped,
        } = manifest;
        let unread = skipped.iter().filter(|skipped| skipped.shard.is_none());
        Self {
            header: manifest.header(),
            source: source.clone(),
            num_shards: num_shards.clone(),
            part: *part,
            parent: parent.clone(),
            is_relit: *is_relit,
            skipped: unread.cloned().collect(),
            has_list_files: lists.is_some(),
        }
    }
}

/// The manifest of a plan, before the first shard and before a list is written.
pub(crate) fn new_manifest(plan: &DatasetPlan) -> Manifest {
    let ShardHeader {
        layout,
        classes,
        parts,
        recipe,
        adapter,
    } = plan.header.clone();
    let mut manifest = Manifest {
        schema_version: if plan.has_list_files {
            LIST_FILES_SCHEMA_VERSION
        } else {
            SCHEMA_VERSION
        },
        generator: GENERATOR.to_owned(),
        sha256: None,
        part: plan.part,
        parent: plan.parent.clone(),
        is_relit: plan.is_relit,
        source: SourceDescription {
            content_sha256: None,
            ..plan.source.clone()
        },
        recipe,
        adapter,
        layout,
        classes,
        parts,
        num_shards: plan.num_shards.clone(),
        lists: plan.has_list_files.then(Lists::default),
        shards: Vec::new(),
        skipped: if plan.has_list_files {
            Vec::new()
        } else {
            plan.skipped.clone()
        },
    };
    manifest.sort_skipped();
    manifest
}

/// Differences between two plans, such as `recipe.render.size_px is 64 there and 224 here`.
pub(crate) fn differences(found: &Manifest, expected: &Manifest) -> Vec<String> {
    let identity = |manifest: &Manifest| {
        // Exhaustive: a new field must be classified as part of the plan or as progress.
        let Manifest {
            schema_version,
            generator,
            sha256: _,
            part,
            parent,
            is_relit,
            source:
                SourceDescription {
                    layout: source_layout,
                    publication,
                    splits,
                    num_objects,
                    listing_sha256,
                    content_sha256: _,
                },
            recipe,
            adapter,
            layout,
            classes,
            parts,
            num_shards,
            lists: _,
            shards: _,
            skipped: _,
        } = manifest;
        serde_json::json!({
            "schema version": schema_version,
            "program": generator,
            "parent": parent,
            "relit": is_relit,
            "part": part.map_or_else(|| "all".to_owned(), |part| part.to_string()),
            "source": { "layout": source_layout, "publication": publication, "splits": splits, "number of objects": num_objects, "listing": listing_sha256 },
            "recipe": recipe,
            "adapter": adapter,
            "row layout": layout,
            "classes": classes,
            "parts": parts,
            "shards": num_shards,
        })
    };
    json_differences(&identity(found), &identity(expected))
}

/// Shards per split; empty splits are left out.
pub(crate) fn num_shards(rows_per_shard: usize, num_objects: impl Fn(Split) -> usize) -> Vec<ShardCount> {
    let counts = Split::ALL.map(|split| ShardCount {
        split,
        shards: num_objects(split).div_ceil(rows_per_shard),
    });
    counts.into_iter().filter(|count| count.shards > 0).collect()
}

/// Objects of each shard in plan order, as places in a list that is sorted by split.
pub(crate) fn shard_ranges(rows_per_shard: usize, num_objects: impl Fn(Split) -> usize) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut start = 0;
    for split in Split::ALL {
        let end = start + num_objects(split);
        while start < end {
            let next = (start + rows_per_shard).min(end);
            ranges.push(start..next);
            start = next;
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_cut_by_the_number_of_objects_alone() {
        let of_split = |split| match split {
            Split::Train => 5,
            Split::Val => 0,
            Split::Test => 2,
        };
        assert_eq!(shard_ranges(2, of_split), [0..2, 2..4, 4..5, 5..7]);
        assert_eq!(shard_ranges(100, of_split), [0..5, 5..7]);
        assert_eq!(shard_ranges(2, |_| 0), []);
        let counts = num_shards(2, of_split)
            .iter()
            .map(|count| count.shards)
            .sum::<usize>();
        assert_eq!(counts, 4, "as many as are counted");
    }
}
