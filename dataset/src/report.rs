//! [`report`](fn@report): how the meshes of a dataset are, category by category: what is wrong with how many, and
//! what was left out and why.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::{Finding, Manifest, ObjectId, Result, ShardReader, SkipReason};

/// How the meshes of a dataset are.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MeshReport {
    /// The hash that names the data; `None` while it is being built.
    pub sha256: Option<String>,
    /// The categories, sorted.
    pub categories: Vec<CategoryReport>,
    /// All of them together.
    pub all: CategoryReport,
    /// The rows with which something is wrong.
    pub objects: Vec<ObjectReport>,
}

/// How the meshes of a category are.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CategoryReport {
    /// Its name.
    pub name: String,
    /// Its rows.
    pub num_rows: usize,
    /// Rows of which nobody counted what is wrong: no meshes, or a shard of version 1.
    pub num_unknown: usize,
    /// Rows with which nothing is wrong.
    pub num_clean: usize,
    /// Rows by what is wrong with them; one may count several times.
    pub findings: BTreeMap<Finding, usize>,
    /// Objects that were left out, by reason.
    pub skipped: BTreeMap<SkipReason, usize>,
    /// Triangles of all rows.
    pub num_triangles: i64,
    /// The smallest part of a picture that an object covers.
    pub coverage_min: Option<f32>,
}

/// A row with which something is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ObjectReport {
    /// Which.
    pub id: ObjectId,
    /// What, in words.
    pub findings: Vec<Finding>,
    /// What its file lacks, in sentences.
    pub warnings: Vec<String>,
}

/// Reads what is known of every mesh, and no points or pictures. Works on an unfinished dataset too.
///
/// # Errors
/// When the folder is no dataset, or a shard is missing or damaged.
pub fn report(dir: &Path) -> Result<MeshReport> {
    let manifest = Manifest::read(dir)?;
    let mut categories: BTreeMap<String, CategoryReport> = BTreeMap::new();
    let mut all = CategoryReport {
        name: "all".to_owned(),
        ..CategoryReport::default()
    };
    let mut objects = Vec::new();
    for entry in &manifest.shards {
        for row in ShardReader::open(&dir.join(&entry.file))?.facts()? {
            let category = categories.entry(row.id.category().to_owned()).or_default();
            let kinds = row
                .findings
                .as_ref()
                .map(|findings| findings.kinds(row.num_triangles).collect());
            let kinds: Option<Vec<Finding>> = kinds;
            for report in [category, &mut all] {
                report.num_rows += 1;
                report.num_triangles += row.num_triangles;
                report.num_unknown += usize::from(kinds.is_none());
                report.num_clean += usize::from(kinds.as_ref().is_some_and(Vec::is_empty));
                let smallest = report.coverage_min.unwrap_or(f32::INFINITY);
                report.coverage_min = Some(smallest.min(row.coverage_min));
                for &kind in kinds.iter().flatten() {
                    *report.findings.entry(kind).or_default() += 1;
                }
            }
            if let (Some(findings), Some(kinds)) = (row.findings, kinds)
                && !kinds.is_empty()
            {
                objects.push(ObjectReport {
                    id: row.id,
                    findings: kinds,
                    warnings: findings.warnings,
                });
            }
        }
    }
    for skipped in &manifest.skipped {
        let name = skipped.id.split_once('/').map_or("", |(category, _)| category);
        let category = categories.entry(name.to_owned()).or_default();
        for report in [category, &mut all] {
            *report.skipped.entry(skipped.reason).or_default() += 1;
        }
    }
    let named = |(name, category)| CategoryReport { name, ..category };
    Ok(MeshReport {
        sha256: manifest.sha256,
        categories: categories.into_iter().map(named).collect(),
        all,
        objects,
    })
}
