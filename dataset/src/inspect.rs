//! [`inspect`]: a dataset summed up, for a person or a program. Works on an unfinished one too.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::{
    Manifest, Result, RowLayout, ShardReader, SkipReason, SourceDescription, Split, image_set_dir, image_sets,
};

/// A dataset summed up.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inspection {
    /// The hash that names the data; `None` while it is being built.
    pub sha256: Option<String>,
    /// The program that made it.
    pub generator: String,
    /// What it was made from.
    pub source: SourceDescription,
    /// The sizes of a row.
    pub layout: RowLayout,
    /// Shards that are whole.
    pub num_shards: usize,
    /// Shards that there will be.
    pub num_shards_planned: usize,
    /// Bytes of all shards.
    pub bytes: u64,
    /// Rows of all shards.
    pub num_rows: usize,
    /// Pictures of the rows under other lights.
    pub image_sets: Vec<ImageSetSummary>,
    /// Rows by class and split.
    pub classes: Vec<ClassCount>,
    /// How many parts points are labeled with.
    pub num_parts: usize,
    /// Objects that were left out, by reason.
    pub skipped: BTreeMap<SkipReason, usize>,
    /// Everything that the views and points depend on.
    pub recipe: serde_json::Value,
    /// The adapter that drew the views.
    pub adapter: serde_json::Value,
}

/// Pictures of the rows under another light.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageSetSummary {
    /// What it is called.
    pub name: String,
    /// The hash that names it; `None` while it is being made.
    pub sha256: Option<String>,
    /// Bytes of its shards.
    pub bytes: u64,
    /// The light.
    pub lighting: serde_json::Value,
}

/// How many rows a class has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClassCount {
    /// The class.
    pub name: String,
    /// Rows to learn from.
    pub train: usize,
    /// Rows to choose by.
    pub val: usize,
    /// Rows to report on.
    pub test: usize,
}

/// Sums a dataset up: reads the manifest and the labels, no other column.
///
/// # Errors
/// When the folder is no dataset of this schema version, or a shard is missing or damaged.
pub fn inspect(dir: &Path) -> Result<Inspection> {
    let manifest = Manifest::read(dir)?;
    let count = |name: &String| ClassCount {
        name: name.clone(),
        train: 0,
        val: 0,
        test: 0,
    };
    let mut classes: Vec<ClassCount> = manifest.classes.iter().map(count).collect();
    for entry in &manifest.shards {
        for label in ShardReader::open(&dir.join(&entry.file))?.labels()? {
            // A label without a class is for `verify` to report.
            let Some(class) = usize::try_from(label)
                .ok()
                .and_then(|label| classes.get_mut(label))
            else {
                continue;
            };
            *match entry.split {
                Split::Train => &mut class.train,
                Split::Val => &mut class.val,
                Split::Test => &mut class.test,
            } += 1;
        }
    }
    let mut sets = Vec::new();
    for name in image_sets(dir)? {
        let set = Manifest::read(&image_set_dir(dir, &name)?)?;
        sets.push(ImageSetSummary {
            name,
            sha256: set.sha256,
            bytes: set.shards.iter().map(|shard| shard.bytes).sum(),
            lighting: set.recipe["render"]["lighting"].clone(),
        });
    }
    let mut skipped = BTreeMap::new();
    for object in &manifest.skipped {
        *skipped.entry(object.reason).or_default() += 1;
    }
    Ok(Inspection {
        num_shards_planned: manifest.planned_shards().len(),
        sha256: manifest.sha256,
        generator: manifest.generator,
        source: manifest.source,
        layout: manifest.layout,
        num_shards: manifest.shards.len(),
        bytes: manifest.shards.iter().map(|s| s.bytes).sum(),
        num_rows: manifest.shards.iter().map(|s| s.rows).sum(),
        image_sets: sets,
        classes,
        num_parts: manifest.parts.len(),
        skipped,
        recipe: manifest.recipe,
        adapter: manifest.adapter,
    })
}
