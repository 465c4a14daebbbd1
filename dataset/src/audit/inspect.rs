//! [`inspect`]: summary of a dataset. Works on incomplete ones too.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::shard_scan::read_in_order;
use crate::error::Result;
use crate::feature_set::{FeatureLayout, FeatureManifest, FeatureViews, feature_set_dir, feature_sets};
use crate::image_set::{image_set_dir, image_sets};
use crate::manifest::{Manifest, SkipReason, SourceDescription};
use crate::schema::{RowLayout, Split};
use crate::shard::ShardReader;

/// Summary of a dataset.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inspection {
    /// Hash of the data; `None` while the build is incomplete.
    pub sha256: Option<String>,
    /// Program and version that wrote it.
    pub generator: String,
    /// Description of the source.
    pub source: SourceDescription,
    /// Row dimensions.
    pub layout: RowLayout,
    /// Finished shards.
    pub num_shards: usize,
    /// Planned shards.
    pub num_shards_planned: usize,
    /// Total size of all shards.
    pub bytes: u64,
    /// Rows in all shards.
    pub num_rows: usize,
    /// Image sets stored with the dataset.
    pub image_sets: Vec<ImageSetSummary>,
    /// Feature sets stored with the dataset.
    pub feature_sets: Vec<FeatureSetSummary>,
    /// Rows per class and split.
    pub classes: Vec<ClassCount>,
    /// Number of distinct part labels.
    pub num_parts: usize,
    /// Skipped objects by reason.
    pub skipped: BTreeMap<SkipReason, usize>,
    /// Build recipe, as in the manifest.
    pub recipe: serde_json::Value,
    /// Adapter that rendered the views.
    pub adapter: serde_json::Value,
}

/// Summary of one image set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageSetSummary {
    /// Folder name.
    pub name: String,
    /// Hash of the data; `None` while incomplete.
    pub sha256: Option<String>,
    /// Total size of its shards.
    pub bytes: u64,
    /// Lighting settings of the recipe.
    pub lighting: serde_json::Value,
}

/// Summary of one feature set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FeatureSetSummary {
    /// Folder name.
    pub name: String,
    /// Hash of the data; `None` while incomplete.
    pub sha256: Option<String>,
    /// Total size of its files.
    pub bytes: u64,
    /// The network, in words.
    pub network: String,
    /// What the network saw.
    pub views: FeatureViews,
    /// Sizes of a row.
    pub layout: FeatureLayout,
}

/// Rows of a class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClassCount {
    /// Class name.
    pub name: String,
    /// Training rows.
    pub train: usize,
    /// Validation rows.
    pub val: usize,
    /// Test rows.
    pub test: usize,
}

/// Summarizes a dataset. Reads the manifest and the label column only.
///
/// # Errors
/// When the folder is not a dataset of a supported schema version, or a shard is missing or damaged.
pub fn inspect(dir: &Path) -> Result<Inspection> {
    let manifest = Manifest::read(dir)?;
    let count = |name: &String| ClassCount {
        name: name.clone(),
        train: 0,
        val: 0,
        test: 0,
    };
    let mut classes: Vec<ClassCount> = manifest.classes.iter().map(count).collect();
    read_in_order(dir, &manifest, ShardReader::labels, &mut |entry, labels| {
        for label in labels {
            // Labels without a class are reported by `verify`.
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
    })?;
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
    let mut features = Vec::new();
    for name in feature_sets(dir)? {
        let set = FeatureManifest::read(&feature_set_dir(dir, &name)?)?;
        features.extend(set.map(|set| FeatureSetSummary {
            name,
            sha256: set.sha256,
            bytes: set.shards.iter().map(|shard| shard.bytes).sum(),
            network: set.recipe.network,
            views: set.recipe.views,
            layout: set.layout,
        }));
    }
    let skipped = manifest.skipped_by_reason();
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
        feature_sets: features,
        classes,
        num_parts: manifest.parts.len(),
        skipped,
        recipe: manifest.recipe,
        adapter: manifest.adapter,
    })
}
