//! An opened set becomes a data set: every object is checked, the copy is recognized, then the rows are written.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use serde_json::json;
use sha2::{Digest, Sha256};

use super::cloud::{Cloud, Defect};
use super::published::{Recognition, recognize};
use super::{ImportEvent, ImportOptions, ImportReport, ListedCloud, PublishedSet, RowViews};
use crate::error::{DatasetError, ImportError, Result, ShardError};
use crate::manifest::{Manifest, SkipReason, SkippedObject, SourceDescription};
use crate::pipeline::in_order;
use crate::schema::{ColumnSet, Columns, ObjectId, RowLayout, Sample, ShardHeader, Split};
use crate::sha256;
use crate::writer::{DatasetPlan, DatasetWriter, ObjectFile, RowProgress, num_shards, write_rows};

/// Problems that an error lists; the rest are counted.
const MAX_LISTED: usize = 3;

/// What is known of an object before its row is written.
#[derive(Debug, Clone)]
struct Checked {
    num_points: usize,
    has_normals: bool,
    has_parts: bool,
    num_without_direction: usize,
    sha256: String,
    /// Of its pictures, if it has any.
    assets_sha256: Option<String>,
}

/// Everything about a set that its rows share.
#[derive(Debug)]
struct Plan {
    layout: RowLayout,
    /// Sorted.
    classes: Vec<String>,
    publication: Option<String>,
    missing: Vec<String>,
    num_padded_rows: usize,
    num_without_direction: usize,
    /// Rows of which normals or part labels are left out, since not all objects have them.
    num_without_columns: usize,
}

/// Writes a set to a folder. `None` if cancelled.
pub(super) fn write(
    mut set: PublishedSet,
    options: &ImportOptions,
    out: &Path,
    cancel: &AtomicBool,
    on_event: &mut dyn FnMut(ImportEvent),
) -> Result<Option<ImportReport>> {
    skip_duplicates(&mut set)?;
    on_event(ImportEvent::Checking {
        objects: set.objects.len(),
    });
    let Some(checked) = check_all(&mut set, options, cancel, on_event)? else {
        return Ok(None);
    };
    let plan = plan(&set, &checked, options)?;
    for note in set.notes.iter().chain(&plan.notes()) {
        on_event(ImportEvent::Note(note.clone()));
    }
    let mut order: Vec<usize> = (0..set.objects.len()).collect();
    order.sort_by_key(|&object| (set.objects[object].split, &set.objects[object].id));
    let dataset_plan = dataset_plan(&set, &checked, &plan, &order, options);
    let writer = DatasetWriter::open(out, &dataset_plan, options.force)?;

    let shards: Vec<&[usize]> = order
        .chunk_by(|&a, &b| set.objects[a].split == set.objects[b].split)
        .flat_map(|split| split.chunks(options.rows_per_shard))
        .collect();
    let manifest = write_rows(
        writer,
        &shards,
        options.workers,
        cancel,
        |&object| sample(&set, &plan, &set.objects[object], &checked[object], options),
        |&object| ObjectFile {
            path: &set.objects[object].path,
            bytes: set.objects[object].bytes,
        },
        &mut |progress| {
            on_event(match progress {
                RowProgress::Started { rows, done } => ImportEvent::Writing { rows, done },
                RowProgress::Written => ImportEvent::Written,
            });
        },
    )?;
    Ok(manifest.map(|manifest| report(set, plan, out, manifest)))
}

/// Of objects with one id the first in the source's order stays.
fn skip_duplicates(set: &mut PublishedSet) -> Result<()> {
    let mut seen = BTreeSet::new();
    let (first, others): (Vec<_>, Vec<_>) = std::mem::take(&mut set.objects)
        .into_iter()
        .partition(|object| seen.insert(object.id.clone()));
    set.objects = first;
    let duplicate = |object: ListedCloud| {
        object.skipped(Defect::new(
            SkipReason::DuplicateId,
            "another object has the same id",
        ))
    };
    set.skipped.extend(others.into_iter().map(duplicate));
    if set.objects.is_empty() {
        let problems = set
            .missing
            .iter()
            .cloned()
            .chain(set.skipped.iter().map(describe));
        return Err(incomplete(set, &problems.collect::<Vec<_>>()));
    }
    Ok(())
}

/// `chair/train-00012: point 17 is not finite (main_split/training_objectdataset.h5#12)`
fn describe(skipped: &SkippedObject) -> String {
    format!("{}: {} ({})", skipped.id, skipped.message, skipped.path)
}

/// Reads every object once; those with a defect become skipped objects. `None` if cancelled.
fn check_all(
    set: &mut PublishedSet,
    options: &ImportOptions,
    cancel: &AtomicBool,
    on_event: &mut dyn FnMut(ImportEvent),
) -> Result<Option<Vec<Checked>>> {
    let mut checked = Vec::with_capacity(set.objects.len());
    let mut defects: BTreeMap<usize, Defect> = BTreeMap::new();
    let check = |object: usize| {
        let object = &set.objects[object];
        match set.reader.read(object)? {
            Ok(cloud) => check(set, object, &cloud, options),
            Err(defect) => Ok(Err(defect)),
        }
    };
    let is_done = in_order(
        options.workers,
        set.objects.len(),
        cancel,
        check,
        &mut |object, result| {
            match result {
                Ok(result) => checked.push(result),
                Err(defect) => {
                    defects.insert(object, defect);
                }
            }
            on_event(ImportEvent::Checked);
            Ok(())
        },
    )?;
    if !is_done {
        return Ok(None);
    }
    let objects = std::mem::take(&mut set.objects);
    for (idx, object) in objects.into_iter().enumerate() {
        match defects.remove(&idx) {
            Some(defect) => set.skipped.push(object.skipped(defect)),
            None => set.objects.push(object),
        }
    }
    Ok(Some(checked))
}

fn check(
    set: &PublishedSet,
    object: &ListedCloud,
    cloud: &Cloud,
    options: &ImportOptions,
) -> Result<Result<Checked, Defect>> {
    if let Some(defect) = cloud.defect().or_else(|| wrong_part(set, &object.id, cloud)) {
        return Ok(Err(defect));
    }
    let mut assets_sha256 = None;
    if set.pictures.is_some() {
        let row = cloud.to_row(cloud.points.len(), options.up);
        match set.reader.views(object, &row.points, false)? {
            Ok(views) => assets_sha256 = views.assets_sha256,
            Err(defect) => return Ok(Err(defect)),
        }
    }
    Ok(Ok(Checked {
        num_points: cloud.points.len(),
        has_normals: cloud.normals.is_some(),
        has_parts: cloud.part_labels.is_some(),
        num_without_direction: cloud.num_without_direction(),
        sha256: cloud.sha256.clone(),
        assets_sha256,
    }))
}

/// A part label that is none of the object's class.
fn wrong_part(set: &PublishedSet, id: &ObjectId, cloud: &Cloud) -> Option<Defect> {
    let is_of_class = |label: &u8| {
        let part = set.parts.get(usize::from(*label));
        part.is_some_and(|part| part.category == id.category())
    };
    let wrong = cloud
        .part_labels
        .iter()
        .flatten()
        .find(|label| !is_of_class(label))?;
    Some(Defect::new(
        SkipReason::UnknownPart,
        format!("part label {wrong} is none of {}", id.category()),
    ))
}

fn incomplete(set: &PublishedSet, problems: &[String]) -> DatasetError {
    let mut listed = problems[..problems.len().min(MAX_LISTED)].join("; ");
    if problems.len() > MAX_LISTED {
        let _ = write!(listed, "; and {} more", problems.len() - MAX_LISTED);
    }
    DatasetError::Import(ImportError::Incomplete {
        set: set.set.title().to_owned(),
        detail: listed,
        obtain: set.set.obtain(),
    })
}

/// # Errors
/// When the set is not whole and may not be so, or nothing of it is left.
fn plan(set: &PublishedSet, checked: &[Checked], options: &ImportOptions) -> Result<Plan> {
    let mut counts: BTreeMap<Split, usize> = BTreeMap::new();
    for object in &set.objects {
        *counts.entry(object.split).or_default() += 1;
    }
    let num_classes = set
        .objects
        .iter()
        .map(|object| object.id.category())
        .collect::<BTreeSet<_>>()
        .len();
    let Recognition { version, difference } = recognize(set.set, &set.variant, &counts, num_classes);
    let mut problems: Vec<String> = set.missing.clone();
    problems.extend(set.skipped.iter().map(describe));
    problems.extend(difference);
    if set.objects.is_empty() || (!problems.is_empty() && !options.allow_incomplete) {
        return Err(incomplete(set, &problems));
    }
    let num_points = checked
        .iter()
        .map(|object| object.num_points)
        .max()
        .unwrap_or_default();
    let has_all = |has: fn(&Checked) -> bool| checked.iter().all(has);
    let (has_normals, has_parts) = (
        has_all(|object| object.has_normals),
        has_all(|object| object.has_parts),
    );
    let mut columns = Columns::POINTS;
    if has_normals {
        columns = columns.with(ColumnSet::Normals);
    }
    if has_parts {
        columns = columns.with(ColumnSet::Parts);
    }
    if set.pictures.is_some() {
        columns = columns.with(ColumnSet::Views);
    }
    let loses = |object: &&Checked| (object.has_normals && !has_normals) || (object.has_parts && !has_parts);
    let without_direction = checked.iter().map(|object| object.num_without_direction);
    Ok(Plan {
        layout: RowLayout {
            num_points,
            num_views: set.pictures.as_ref().map_or(0, |pictures| pictures.num_views),
            image_size_px: set.pictures.as_ref().map_or(0, |pictures| pictures.image_size_px),
            columns,
        },
        classes: set
            .classes
            .iter()
            .cloned()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect(),
        publication: version.filter(|_| problems.is_empty()).map(str::to_owned),
        missing: problems,
        num_padded_rows: checked
            .iter()
            .filter(|object| object.num_points < num_points)
            .count(),
        num_without_direction: if has_normals { without_direction.sum() } else { 0 },
        num_without_columns: checked.iter().filter(loses).count(),
    })
}

impl Plan {
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.num_padded_rows > 0 {
            notes.push(format!(
                "{} objects have fewer than {} points; their rows repeat them from the first",
                self.num_padded_rows, self.layout.num_points
            ));
        }
        if self.num_without_direction > 0 {
            notes.push(format!(
                "{} normals have no direction; they point away from the center",
                self.num_without_direction
            ));
        }
        if self.num_without_columns > 0 {
            notes.push(format!(
                "{} objects have normals or part labels that others lack; the data set has none",
                self.num_without_columns
            ));
        }
        notes
    }
}

/// Everything by which an import is repeated and judged; in every shard.
fn recipe(
    set: &PublishedSet,
    checked: &[Checked],
    plan: &Plan,
    options: &ImportOptions,
) -> serde_json::Value {
    let label_of = |object: &ListedCloud| {
        let of_source = set.classes.iter().position(|class| class == object.id.category());
        of_source.map_or(-1, |label| label as i64)
    };
    let labels_sha256: serde_json::Map<_, _> = Split::ALL
        .into_iter()
        .filter_map(|split| {
            let mut labels = set
                .objects
                .iter()
                .filter(|object| object.split == split)
                .peekable();
            labels.peek()?;
            let bytes: Vec<u8> = labels.flat_map(|object| label_of(object).to_le_bytes()).collect();
            Some((split.to_string(), json!(sha256::of_bytes(bytes))))
        })
        .collect();
    json!({
        "import": {
            "set": set.set.to_string(),
            "variant": set.variant,
            "format": set.format,
            "publication": plan.publication,
            "is_whole": plan.missing.is_empty(),
            "missing": plan.missing.iter().take(MAX_LISTED).collect::<Vec<_>>(),
            "num_missing": plan.missing.len(),
            "up": options.up.to_string(),
            "rig": set.pictures.as_ref().map(|pictures| pictures.rig),
            "source_classes": set.classes,
            "labels_sha256": labels_sha256,
            "num_points_min": checked.iter().map(|object| object.num_points).min(),
            "num_padded_rows": plan.num_padded_rows,
            "num_normals_without_direction": plan.num_without_direction,
        }
    })
}

fn dataset_plan(
    set: &PublishedSet,
    checked: &[Checked],
    plan: &Plan,
    order: &[usize],
    options: &ImportOptions,
) -> DatasetPlan {
    let mut listing = Sha256::new();
    for &object in order {
        let ListedCloud { id, split, path, .. } = &set.objects[object];
        let Checked {
            sha256,
            assets_sha256,
            ..
        } = &checked[object];
        let assets = assets_sha256.as_deref().unwrap_or("-");
        listing.update(format!("{split} {id} {path} {sha256} {assets}\n"));
    }
    let of_split = |split| set.objects.iter().filter(|object| object.split == split).count();
    let mut skipped = set.skipped.clone();
    skipped.sort_by(|a, b| (a.split, &a.id, &a.path).cmp(&(b.split, &b.id, &b.path)));
    DatasetPlan {
        header: ShardHeader {
            layout: plan.layout,
            classes: plan.classes.clone(),
            parts: if plan.layout.columns.has(ColumnSet::Parts) {
                set.parts.clone()
            } else {
                Vec::new()
            },
            recipe: recipe(set, checked, plan, options),
            adapter: serde_json::Value::Null,
        },
        source: SourceDescription {
            layout: format!("import: {} {}", set.set, set.variant),
            publication: Some(match (&plan.publication, plan.missing.len()) {
                (Some(publication), _) => publication.clone(),
                (None, 0) => format!("{} {}, number of objects not known", set.set.title(), set.variant),
                (None, _) => format!(
                    "{} {}, not whole: {}",
                    set.set.title(),
                    set.variant,
                    plan.missing[0]
                ),
            }),
            splits: None,
            num_objects: set.objects.len() + set.skipped.len(),
            listing_sha256: sha256::hex(&listing.finalize()),
            content_sha256: None,
        },
        num_shards: num_shards(options.rows_per_shard, of_split),
        part: None,
        parent: None,
        is_relit: false,
        skipped,
        has_list_files: false,
    }
    .listed()
}

fn sample(
    set: &PublishedSet,
    plan: &Plan,
    object: &ListedCloud,
    checked: &Checked,
    options: &ImportOptions,
) -> Result<Sample> {
    let changed = || {
        DatasetError::Shard(ShardError::Row {
            id: object.id.to_string(),
            detail: format!("{} changed while it was imported; import it again", object.path),
        })
    };
    let cloud = set.reader.read(object)?.map_err(|_| changed())?;
    if cloud.sha256 != checked.sha256 {
        return Err(changed());
    }
    let row = cloud.to_row(plan.layout.num_points, options.up);
    let RowViews { views, assets_sha256 } = match &set.pictures {
        // Points that are repeated say nothing more about where the object is.
        Some(_) => set
            .reader
            .views(object, &row.points[..cloud.points.len()], true)?
            .map_err(|_| changed())?,
        None => RowViews::default(),
    };
    if assets_sha256 != checked.assets_sha256 {
        return Err(changed());
    }
    let has = |set| plan.layout.columns.has(set);
    let category = object.id.category();
    let label = plan
        .classes
        .binary_search_by(|class| class.as_str().cmp(category));
    Ok(Sample {
        id: object.id.clone(),
        category: category.to_owned(),
        label: label.map_or(-1, |label| label as i64),
        points: row.points,
        normals: row.normals.filter(|_| has(ColumnSet::Normals)),
        part_labels: row.part_labels.filter(|_| has(ColumnSet::Parts)),
        coverage_min: views.iter().map(|view| view.mask.coverage()).reduce(f32::min),
        views,
        object_from_mesh: row.object_from_mesh,
        source_sha256: cloud.sha256,
        assets_sha256,
        mesh: None,
    })
}

fn report(set: PublishedSet, plan: Plan, out: &Path, manifest: Manifest) -> ImportReport {
    let by_split = Split::ALL.map(|split| (split.to_string(), manifest.num_rows(split)));
    ImportReport {
        out: out.to_owned(),
        set: set.set.to_string(),
        variant: set.variant,
        format: set.format.to_owned(),
        publication: plan.publication,
        is_whole: plan.missing.is_empty(),
        missing: plan.missing,
        sha256: manifest.sha256,
        num_rows_by_split: by_split.into_iter().filter(|(_, rows)| *rows > 0).collect(),
        num_points: plan.layout.num_points,
        num_views: plan.layout.num_views,
        num_padded_rows: plan.num_padded_rows,
        has_normals: plan.layout.columns.has(ColumnSet::Normals),
        num_parts: manifest.parts.len(),
        classes: plan.classes,
        num_shards: manifest.shards.len(),
    }
}
