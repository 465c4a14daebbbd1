//! [`rebuild`]: a dataset again from its manifest and somebody's own copy of the meshes, proven equal or told apart.
//!
//! Whoever may not hand on meshes or pictures hands on the manifest: it holds the recipe, the hash of every mesh and
//! the hashes of every row.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use serde::Serialize;

use crate::dataset_writer::differences;
use crate::{
    BuildEvent, BuildOptions, BuildRecipe, DatasetError, Manifest, ObjectEntry, ObjectId, Result,
    SkippedObject, Source, build,
};

/// How many objects that differ are spelled out; the others are counted.
const MAX_DIFFERENCES: usize = 1000;

/// What a rebuilt dataset has in common with the one that its manifest is of.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RebuildReport {
    /// Is every shard the same, byte for byte?
    pub is_equal: bool,
    /// Shards of the manifest.
    pub num_shards: usize,
    /// Those that are the same.
    pub num_equal_shards: usize,
    /// Objects of the manifest.
    pub num_objects: usize,
    /// Objects whose rows are the same, or that were left out of both.
    pub num_equal_objects: usize,
    /// In what the two builds differ as a whole: another adapter, another version of the program.
    pub builds: Vec<String>,
    /// How many objects differ, by kind.
    pub kinds: BTreeMap<DifferenceKind, usize>,
    /// The first of them.
    pub differences: Vec<Difference>,
}

/// An object that became something else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Which.
    pub id: ObjectId,
    /// In what, in a word.
    pub kind: DifferenceKind,
    /// In what, in a sentence.
    pub message: String,
}

/// In what an object differs: the first of these that does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DifferenceKind {
    /// There is no such mesh.
    MissingMesh,
    /// The mesh is another one.
    OtherMesh,
    /// A file that the mesh refers to is another one, or missing.
    OtherAssets,
    /// A row here and left out there.
    OtherOutcome,
    /// The same mesh gave other points.
    OtherPoints,
    /// The same points, other pictures: what another adapter does.
    OtherViews,
}

impl fmt::Display for DifferenceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::MissingMesh => "missing-mesh",
            Self::OtherMesh => "other-mesh",
            Self::OtherAssets => "other-assets",
            Self::OtherOutcome => "other-outcome",
            Self::OtherPoints => "other-points",
            Self::OtherViews => "other-views",
        })
    }
}

/// Builds again what a manifest describes, and compares. `None` if told to stop; the same call goes on then.
///
/// # Errors
/// When the manifest is of no finished build or names no meshes, when its recipe can't be read, or as
/// [`build`](crate::build()) does.
pub fn rebuild(
    expected: &Manifest,
    meshes: &Path,
    options: &BuildOptions,
    cancel: &AtomicBool,
    on_event: &mut dyn FnMut(BuildEvent),
) -> Result<Option<RebuildReport>> {
    if expected.shards.len() < expected.own_shards().len() {
        return Err(DatasetError::Unfinished {
            finished: expected.shards.len(),
            path: meshes.to_owned(),
        });
    }
    if expected.is_relit {
        return Err(DatasetError::Relit {
            parent: expected.parent.clone().unwrap_or_default(),
        });
    }
    let recipe: BuildRecipe =
        serde_json::from_value(expected.recipe.clone()).map_err(|source| DatasetError::Json {
            what: "recipe of the manifest",
            path: meshes.to_owned(),
            source,
        })?;
    let source = Source::from_manifest(expected, meshes)?;
    let options = BuildOptions {
        part: expected.part,
        ..options.clone()
    };
    let summary = build(&source, &recipe, &options, cancel, on_event)?;
    Ok(summary.is_complete.then(|| compare(expected, &summary.manifest)))
}

fn compare(expected: &Manifest, found: &Manifest) -> RebuildReport {
    let mut report = RebuildReport {
        is_equal: false,
        num_shards: expected.shards.len(),
        num_equal_shards: 0,
        num_objects: 0,
        num_equal_objects: 0,
        builds: differences(expected, found),
        kinds: BTreeMap::new(),
        differences: Vec::new(),
    };
    let skips: BTreeMap<(&str, &str), &SkippedObject> = found
        .skipped
        .iter()
        .filter(|skipped| skipped.shard.is_some())
        .map(|skipped| ((skipped.id.as_str(), skipped.path.as_str()), skipped))
        .collect();
    for (expected, found) in expected.shards.iter().zip(&found.shards) {
        report.num_equal_shards += usize::from(expected.sha256 == found.sha256);
        for (expected, found) in expected.objects.iter().zip(&found.objects) {
            report.num_objects += 1;
            let skip = skips.get(&(found.id.as_str(), found.path.as_str())).copied();
            let Some((kind, message)) = difference(expected, found, skip) else {
                report.num_equal_objects += 1;
                continue;
            };
            *report.kinds.entry(kind).or_default() += 1;
            if report.differences.len() < MAX_DIFFERENCES {
                report.differences.push(Difference {
                    id: expected.id.clone(),
                    kind,
                    message,
                });
            }
        }
    }
    report.is_equal = report.num_equal_shards == report.num_shards && found.shards.len() == report.num_shards;
    report
}

/// In what an object differs first, along the way from the mesh to the pictures.
fn difference(
    expected: &ObjectEntry,
    found: &ObjectEntry,
    skip: Option<&SkippedObject>,
) -> Option<(DifferenceKind, String)> {
    // Destructured whole: a new field must be compared or named here.
    let ObjectEntry {
        id: _,
        path,
        bytes: _,
        sha256,
        assets_sha256,
        row,
    } = expected;
    let why = || {
        skip.map_or_else(String::new, |skip| {
            format!(" ({}: {})", skip.reason, skip.message)
        })
    };
    if sha256.is_some() && found.sha256.is_none() {
        return Some((
            DifferenceKind::MissingMesh,
            format!("{path} could not be read{}", why()),
        ));
    }
    if *sha256 != found.sha256 {
        let hash = |sha256: &Option<String>| sha256.clone().unwrap_or_else(|| "none".to_owned());
        let message = format!(
            "{path} has the hash {} instead of {}",
            hash(&found.sha256),
            hash(sha256)
        );
        return Some((DifferenceKind::OtherMesh, message));
    }
    match (row, &found.row) {
        (Some(_), None) => Some((
            DifferenceKind::OtherOutcome,
            format!("it is left out here{}", why()),
        )),
        (None, Some(_)) => Some((DifferenceKind::OtherOutcome, "it was left out there".to_owned())),
        _ if *assets_sha256 != found.assets_sha256 => {
            let message = format!("a file that {path} refers to is another one, or missing");
            Some((DifferenceKind::OtherAssets, message))
        }
        (Some(expected), Some(found)) if expected.points_sha256 != found.points_sha256 => Some((
            DifferenceKind::OtherPoints,
            "the same mesh gives other points".to_owned(),
        )),
        (Some(expected), Some(found)) if expected.views_sha256 != found.views_sha256 => Some((
            DifferenceKind::OtherViews,
            "the same points, other pictures".to_owned(),
        )),
        _ => None,
    }
}
