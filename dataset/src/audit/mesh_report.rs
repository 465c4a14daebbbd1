//! [`report`](fn@report): mesh issues and skipped objects per category.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use serde::Serialize;

use super::shard_scan::read_in_order;
use crate::error::Result;
use crate::manifest::{Manifest, SkipReason};
use crate::schema::{MeshIssue, MeshStats, ObjectId};
use crate::shard::ShardReader;

/// Mesh quality of a dataset.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MeshReport {
    /// Hash of the data; `None` while the build is incomplete.
    pub sha256: Option<String>,
    /// Categories, sorted by name.
    pub categories: Vec<CategoryReport>,
    /// Totals over all categories.
    pub all: CategoryReport,
    /// Rows with at least one issue.
    pub objects: Vec<ObjectReport>,
}

/// Mesh quality of a category.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CategoryReport {
    /// Category name.
    pub name: String,
    /// Number of rows.
    pub num_rows: usize,
    /// Rows without issue counts: not made from a mesh, or in a shard of version 1.
    pub num_unknown: usize,
    /// Rows without issues.
    pub num_clean: usize,
    /// Rows per kind of issue; a row may count several times.
    #[serde(rename = "findings")]
    pub issues: BTreeMap<MeshIssue, usize>,
    /// Skipped objects by reason.
    pub skipped: BTreeMap<SkipReason, usize>,
    /// Total triangles.
    pub num_triangles: i64,
    /// Smallest covered fraction of an image, 0 to 1; `None` without views.
    pub coverage_min: Option<f32>,
}

/// A row with at least one issue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ObjectReport {
    /// Object id.
    pub id: ObjectId,
    /// Kinds of issues.
    #[serde(rename = "findings")]
    pub issues: Vec<MeshIssue>,
    /// Importer warnings.
    pub warnings: Vec<String>,
}

/// Collects mesh statistics without reading points or images. Works on incomplete datasets too.
///
/// # Errors
/// When the folder is not a dataset, or a shard is missing or damaged.
pub fn report(dir: &Path) -> Result<MeshReport> {
    let manifest = Manifest::read(dir)?;
    let mut categories: BTreeMap<String, CategoryReport> = BTreeMap::new();
    let mut all = CategoryReport {
        name: "all".to_owned(),
        ..CategoryReport::default()
    };
    let mut objects = Vec::new();
    read_in_order(dir, &manifest, ShardReader::stats, &mut |_, rows| {
        for row in rows {
            let category = categories.entry(row.id.category().to_owned()).or_default();
            let kinds = row.mesh.as_ref().and_then(MeshStats::issue_kinds);
            for report in [category, &mut all] {
                report.num_rows += 1;
                report.num_triangles += row.mesh.as_ref().map_or(0, |mesh| mesh.num_triangles);
                report.num_unknown += usize::from(kinds.is_none());
                report.num_clean += usize::from(kinds.as_ref().is_some_and(Vec::is_empty));
                let coverages = [report.coverage_min, row.coverage_min].into_iter().flatten();
                report.coverage_min = coverages.reduce(f32::min);
                for &kind in kinds.iter().flatten() {
                    *report.issues.entry(kind).or_default() += 1;
                }
            }
            if let (Some(issues), Some(kinds)) = (row.mesh.and_then(|mesh| mesh.issues), kinds)
                && !kinds.is_empty()
            {
                objects.push(ObjectReport {
                    id: row.id,
                    issues: kinds,
                    warnings: issues.warnings,
                });
            }
        }
    })?;
    manifest.visit_skipped(&mut |skipped| {
        let name = skipped.id.split_once('/').map_or("", |(category, _)| category);
        let category = categories.entry(name.to_owned()).or_default();
        for report in [category, &mut all] {
            *report.skipped.entry(skipped.reason).or_default() += 1;
        }
        ControlFlow::Continue(())
    })?;
    let named = |(name, category)| CategoryReport { name, ..category };
    Ok(MeshReport {
        sha256: manifest.sha256,
        categories: categories.into_iter().map(named).collect(),
        all,
        objects,
    })
}
