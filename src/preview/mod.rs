//! The preview of a dataset: a single HTML file with objects, views, poses, settings and skipped objects. Of objects without
//! views the points are drawn.
//!
//! All text of a dataset may come from untrusted files: it is escaped in HTML, and in scripts it is JSON that is only
//! shown as text.

mod draw;
mod page;
mod predicted;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, ensure};
use serde::Serialize;
use tap_dataset::{Dataset, Manifest, MeshStats, RowStats, Sample, SkippedObject, Split, ViewSelection};

use tap_cli::page::base64;

pub(crate) use page::{html, is_preview};

use draw::{Picture, PointRenderer};
use predicted::{Predicted, PredictedObject};

/// Limit on the points shown of an object; more look no better.
const MAX_POINTS: usize = 2048;
/// Limit on listed skipped objects; the rest are counted.
const MAX_SKIPPED: usize = 500;

/// What is read for a page.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choice<'a> {
    /// Show the views of this image set.
    pub(crate) images: Option<&'a str>,
    /// Show predicted parts of this folder beside the true ones, and the objects that it has alone.
    pub(crate) predicted: Option<&'a Path>,
    /// Most objects.
    pub(crate) limit: usize,
}

/// All that the page shows.
#[derive(Debug)]
pub(crate) struct Preview {
    /// Folder name of the dataset.
    pub(crate) name: String,
    pub(crate) manifest: Manifest,
    pub(crate) categories: Vec<Category>,
    /// The first skipped objects.
    pub(crate) skipped: Vec<SkippedObject>,
    pub(crate) num_skipped: usize,
    /// Whether pictures show points, drawn for the page.
    pub(crate) draws_points: bool,
    pub(crate) data: Data,
}

/// Rows of a category.
#[derive(Debug)]
pub(crate) struct Category {
    pub(crate) name: String,
    /// By split, in the order of [`Split::ALL`].
    pub(crate) num_rows: [usize; 3],
}

/// Data of the page's script.
#[derive(Debug, Serialize)]
pub(crate) struct Data {
    /// Of the whole dataset.
    num_rows: usize,
    pub(crate) shows_predictions: bool,
    objects: Vec<Object>,
}

/// An object. Numbers are base64 of little-endian integers.
#[derive(Debug, Serialize)]
struct Object {
    id: String,
    name: String,
    category: String,
    split: Split,
    findings: Vec<&'static str>,
    facts: Vec<(&'static str, String)>,
    /// PNGs.
    views: Vec<String>,
    /// The axes of each camera in object space: right, up, and back, which points to its eye.
    cameras: Vec<[f32; 9]>,
    /// 16 bits per coordinate, 32767 for 1.
    points: String,
    /// 8 bits per coordinate, 127 for 1; empty without normals.
    normals: String,
    /// A byte per point.
    parts: Option<String>,
    /// Its parts as they were predicted.
    predicted: Option<PredictedView>,
}

/// Predicted parts of an object: the same cameras and points, but other colors.
#[derive(Debug, Serialize)]
struct PredictedView {
    views: Vec<String>,
    parts: String,
}

impl Preview {
    /// Reads at most `limit` objects of a finished dataset, the same number of each category.
    ///
    /// # Errors
    /// When the folder is not a finished dataset, a shard is damaged, or what was predicted is of other objects.
    pub(crate) fn read(dir: &Path, choice: Choice<'_>, mut on_object: impl FnMut()) -> Result<Self> {
        let Choice {
            images,
            predicted,
            limit,
        } = choice;
        let predicted = predicted.map(Predicted::read).transpose()?;
        // Opened as a whole, so that the page shows what a reader gets.
        let mut dataset = Dataset::open(dir)?;
        if let Some(name) = images {
            dataset = dataset.with_images(name)?;
        }
        let manifest = dataset.manifest().clone();
        let mut rows: BTreeMap<String, Vec<(Split, usize, RowStats)>> = BTreeMap::new();
        let mut counts: BTreeMap<String, [usize; 3]> = BTreeMap::new();
        for split in Split::ALL {
            for (row, facts) in dataset.stats(split)?.into_iter().enumerate() {
                if predicted
                    .as_ref()
                    .is_some_and(|predicted| !predicted.has(facts.id.as_str()))
                {
                    continue;
                }
                let category = facts.id.category().to_owned();
                counts.entry(category.clone()).or_default()[split as usize] += 1;
                rows.entry(category).or_default().push((split, row, facts));
            }
        }
        let num_rows = rows.values().map(Vec::len).sum();
        ensure!(
            num_rows > 0 || predicted.is_none(),
            "none of the objects that parts were predicted for is in the data set: {}",
            dir.display()
        );
        let draws_points = predicted.is_some() || dataset.num_views() == 0;
        let mut renderer = draws_points.then(PointRenderer::try_new).transpose()?;
        let mut objects = Vec::new();
        for (split, row, facts) in choose(&rows, limit) {
            let sample = dataset.read(*split, *row, ViewSelection::All)?;
            let mut object = Object::of(&sample, *split, facts);
            if let Some(renderer) = &mut renderer {
                let of_object = predicted.as_ref().and_then(|predicted| predicted.of(&object.id));
                object.draw(renderer, &sample, of_object.as_ref())?;
            }
            objects.push(object);
            on_object();
        }
        let name = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
        let name = name
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let category = |(name, num_rows)| Category { name, num_rows };
        Ok(Self {
            name,
            categories: counts.into_iter().map(category).collect(),
            skipped: manifest.first_skipped(MAX_SKIPPED)?,
            num_skipped: manifest.skipped_by_reason().values().sum(),
            draws_points,
            data: Data {
                num_rows,
                shows_predictions: predicted.is_some(),
                objects,
            },
            manifest,
        })
    }
}

/// At most `limit` rows: the same number of each category if it has as many, evenly spread over its rows.
fn choose<T>(rows: &BTreeMap<String, Vec<T>>, limit: usize) -> Vec<&T> {
    let mut quotas: Vec<usize> = vec![0; rows.len()];
    let mut left = limit;
    while left > 0 {
        let open: Vec<usize> = rows
            .values()
            .enumerate()
            .filter(|(i, rows)| quotas[*i] < rows.len())
            .map(|(i, _)| i)
            .collect();
        if open.is_empty() {
            break;
        }
        for i in open.into_iter().take(left) {
            quotas[i] += 1;
            left -= 1;
        }
    }
    let of_category = |(rows, quota): (_, usize)| {
        let rows: &Vec<T> = rows;
        (0..quota).map(move |k| &rows[k * rows.len() / quota])
    };
    rows.values().zip(quotas).flat_map(of_category).collect()
}

impl Object {
    fn of(sample: &Sample, split: Split, facts: &RowStats) -> Self {
        let step = sample.points.len().div_ceil(MAX_POINTS).max(1);
        let every =
            |vectors: &[[f32; 3]]| -> Vec<f32> { vectors.iter().step_by(step).flatten().copied().collect() };
        let points = encode_points(every(&sample.points));
        let normals: Vec<u8> = every(sample.normals.as_deref().unwrap_or_default())
            .into_iter()
            .map(|x| (x.clamp(-1.0, 1.0) * 127.0) as i8 as u8)
            .collect();
        let parts = sample.part_labels.as_ref().map(|labels| {
            let labels: Vec<u8> = labels.iter().step_by(step).copied().collect();
            base64(&labels)
        });
        let kinds = facts.mesh.as_ref().and_then(MeshStats::issue_kinds);
        let kinds = kinds.into_iter().flatten().map(tap_dataset::MeshIssue::as_str);
        let mut lines = Vec::new();
        if let Some(mesh) = &facts.mesh {
            lines.extend([
                ("triangles", mesh.num_triangles.to_string()),
                ("surface area", format!("{:.3}", mesh.surface_area)),
                (
                    "watertight",
                    if mesh.is_watertight { "yes" } else { "no" }.to_owned(),
                ),
            ]);
        }
        let coverage = facts.coverage_min;
        lines.extend(coverage.map(|coverage| ("minimum coverage", format!("{:.1} %", 100.0 * coverage))));
        if let Some(findings) = facts.mesh.as_ref().and_then(|mesh| mesh.issues.as_ref()) {
            lines.extend([
                ("open edges", findings.num_open_edges.to_string()),
                ("non-manifold edges", findings.num_non_manifold_edges.to_string()),
                ("flipped edges", findings.num_flipped_edges.to_string()),
                (
                    "coincident triangles",
                    findings.num_coincident_triangles.to_string(),
                ),
                (
                    "degenerate triangles",
                    findings.num_degenerate_triangles.to_string(),
                ),
            ]);
            lines.extend(
                findings
                    .warnings
                    .iter()
                    .map(|warning| ("warning", warning.clone())),
            );
        }
        lines.push(("source", facts.source_sha256.chars().take(16).collect()));
        Self {
            id: sample.id.to_string(),
            name: sample.id.name().to_owned(),
            category: sample.category.clone(),
            split,
            findings: kinds.collect(),
            facts: lines,
            views: sample.views.iter().map(|view| base64(&view.image_png)).collect(),
            cameras: sample
                .views
                .iter()
                .map(|view| axes(&view.view_from_object))
                .collect(),
            points,
            normals: base64(&normals),
            parts,
            predicted: None,
        }
    }

    /// Draws its points, or those that parts were predicted for, in the colors of their true and of their predicted parts.
    fn draw(
        &mut self,
        renderer: &mut PointRenderer,
        sample: &Sample,
        predicted: Option<&PredictedObject<'_>>,
    ) -> Result<()> {
        let normals = sample.normals.as_deref().unwrap_or_default();
        let parts = sample.part_labels.as_deref().unwrap_or_default();
        let pngs = |pictures: &[Picture]| pictures.iter().map(|picture| base64(&picture.png)).collect();
        let pictures = match predicted {
            None => renderer.draw(&sample.points, normals, parts)?,
            Some(PredictedObject {
                points,
                parts,
                true_parts,
            }) => {
                self.points = encode_points(points.as_flattened().to_vec());
                self.normals = String::new();
                self.parts = (!true_parts.is_empty()).then(|| base64(true_parts));
                self.predicted = Some(PredictedView {
                    views: pngs(&renderer.draw(points, &[], parts)?),
                    parts: base64(parts),
                });
                if !true_parts.is_empty() {
                    let num_right = parts.iter().zip(*true_parts).filter(|(a, b)| a == b).count();
                    let percent = 100.0 * num_right as f64 / parts.len().max(1) as f64;
                    self.facts
                        .insert(0, ("points with the right part", format!("{percent:.1} %")));
                }
                renderer.draw(points, &[], true_parts)?
            }
        };
        self.views = pngs(&pictures);
        self.cameras = pictures
            .iter()
            .map(|picture| axes(&picture.view_from_object))
            .collect();
        Ok(())
    }
}

/// The axes of a camera: the rows of a rigid transform, which are right, up and back.
fn axes(m: &[f32; 16]) -> [f32; 9] {
    [m[0], m[1], m[2], m[4], m[5], m[6], m[8], m[9], m[10]]
}

/// 16 bits per coordinate, as base64.
fn encode_points(coordinates: Vec<f32>) -> String {
    let bytes: Vec<u8> = coordinates
        .into_iter()
        .flat_map(|x| ((x.clamp(-1.0, 1.0) * 32767.0) as i16).to_le_bytes())
        .collect();
    base64(&bytes)
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn every_category_is_shown_as_far_as_it_goes() {
        let rows: BTreeMap<String, Vec<(usize, usize)>> = [("a", 10), ("b", 1), ("c", 4)]
            .into_iter()
            .enumerate()
            .map(|(i, (name, count))| (name.to_owned(), (0..count).map(|row| (i, row)).collect()))
            .collect();
        let chosen = |limit| choose(&rows, limit).into_iter().copied().collect::<Vec<_>>();
        assert_eq!(chosen(2), [(0, 0), (1, 0)]);
        assert_eq!(
            chosen(7),
            [(0, 0), (0, 3), (0, 6), (1, 0), (2, 0), (2, 1), (2, 2)]
        );
        assert_eq!(chosen(100).len(), 15, "no more than there are");
        assert_eq!(chosen(0).len(), 0);
    }
}
