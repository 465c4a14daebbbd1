//! [`rebuild`]: reproduces a dataset from its manifest and a local copy of the meshes, and compares the
//! result.
//!
//! Allows sharing a dataset whose meshes or images may not be redistributed: the manifest holds the recipe
//! and the hashes of every mesh and row.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use serde::Serialize;

use crate::builder::{BuildEvent, BuildOptions, build};
use crate::error::{DatasetError, ManifestError, Result};
use crate::manifest::{Manifest, ObjectEntry, SkippedObject};
use crate::recipe::BuildRecipe;
use crate::schema::ObjectId;
use crate::source::Source;
use crate::writer::differences;

/// Limit on listed differences; the rest are only counted.
const MAX_DIFFERENCES: usize = 1000;

/// Comparison of a rebuilt dataset with its manifest.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RebuildReport {
    /// Whether all shards are byte-identical.
    pub is_equal: bool,
    /// Shards of the manifest.
    pub num_shards: usize,
    /// Byte-identical shards.
    pub num_equal_shards: usize,
    /// Objects of the manifest.
    pub num_objects: usize,
    /// Objects with identical rows, or skipped in both.
    pub num_equal_objects: usize,
    /// Differences between the builds as a whole, such as the adapter or the program version.
    pub builds: Vec<String>,
    /// Number of differing objects by kind.
    pub kinds: BTreeMap<DifferenceKind, usize>,
    /// The first differences.
    pub differences: Vec<Difference>,
}

/// An object that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Object id.
    pub id: ObjectId,
    /// Kind of difference.
    pub kind: DifferenceKind,
    /// Human-readable detail.
    pub message: String,
}

/// First stage at which an object differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, strum::Display)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
#[non_exhaustive]
pub enum DifferenceKind {
    /// The mesh does not exist.
    MissingMesh,
    /// The mesh file differs.
    OtherMesh,
    /// A file that the mesh refers to differs or is missing.
    OtherAssets,
    /// A row in one, skipped in the other.
    OtherOutcome,
    /// Same mesh, different points.
    OtherPoints,
    /// Same points, different images, as with another adapter.
    OtherViews,
}

/// Rebuilds the dataset of a manifest and compares. `None` if cancelled; the same call resumes.
///
/// # Errors
/// When the manifest is incomplete or lists no meshes, its recipe is invalid, or as
/// [`build`](crate::build()).
pub fn rebuild(
    expected: &Manifest,
    meshes: &Path,
    options: &BuildOptions,
    cancel: &AtomicBool,
    on_event: &mut dyn FnMut(BuildEvent),
) -> Result<Option<RebuildReport>> {
    if expected.shards.len() < expected.assigned_shards().len() {
        return Err(DatasetError::Manifest(ManifestError::Incomplete {
            finished: expected.shards.len(),
            path: meshes.to_owned(),
        }));
    }
    if expected.is_relit {
        return Err(DatasetError::Manifest(ManifestError::Relit {
            parent: expected.parent.clone().unwrap_or_default(),
        }));
    }
    let recipe = BuildRecipe::of(expected, meshes)?;
    let source = Source::from_manifest(expected, meshes)?;
    let options = BuildOptions {
        part: expected.part,
        ..options.clone()
    };
    let summary = build(&source, &recipe, &options, cancel, on_event)?;
    let report = summary.is_complete.then(|| compare(expected, &summary.manifest));
    report.transpose()
}

fn compare(expected: &Manifest, found: &Manifest) -> Result<RebuildReport> {
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
    let [objects_expected, objects_found] = [expected.objects()?, found.objects()?];
    let shards = objects_expected.shards().zip(objects_found.shards());
    for ((expected, found), shards) in expected.shards.iter().zip(&found.shards).zip(shards) {
        report.num_equal_shards += usize::from(expected.sha256 == found.sha256);
        let skipped = objects_found.skipped_of(shards.1)?;
        let skips: BTreeMap<(&str, &str), &SkippedObject> = skipped
            .iter()
            .map(|skipped| ((skipped.id.as_str(), skipped.path.as_str()), skipped))
            .collect();
        let (expected, found) = (
            objects_expected.of_shard(shards.0)?,
            objects_found.of_shard(shards.1)?,
        );
        for (expected, found) in expected.iter().zip(&*found) {
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
    Ok(report)
}

/// First difference along the way from mesh to images.
fn difference(
    expected: &ObjectEntry,
    found: &ObjectEntry,
    skip: Option<&SkippedObject>,
) -> Option<(DifferenceKind, String)> {
    // Exhaustive: a new field must be compared or listed here.
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
            "the same points, other images".to_owned(),
        )),
        _ => None,
    }
}
