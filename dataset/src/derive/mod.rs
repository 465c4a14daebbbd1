//! [`derive`](fn@derive): a dataset from the rows of others: some of them, several datasets joined, other splits, other classes, or
//! shards that another program wrote again ([`open_foreign`]).
//!
//! Rows are copied as they are, but for label and part labels, which follow from the classes of the result. Nothing is
//! rendered or sampled.

mod foreign;
mod labels;
mod rules;

pub use foreign::{ForeignReport, open_foreign};
pub use rules::{ClassRule, RowRules, SplitRule};

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::error::{DatasetError, DeriveError, Result};
use crate::manifest::SourceDescription;
use crate::reader::Dataset;
use crate::recipe::check_rows_per_shard;
use crate::schema::{ObjectId, RowLayout, ShardHeader, Split};
use crate::sha256;
use crate::shard::ViewSelection;
use crate::writer::{DatasetPlan, DatasetWriter, ObjectFile, num_shards};
use labels::Labels;

/// How a derived dataset is written.
#[derive(Debug, Clone)]
pub struct DeriveOptions {
    /// What the manifest calls its source, such as `select: category = 'chair'`.
    pub name: String,
    /// Folder of the new dataset.
    pub out: PathBuf,
    /// Rows per shard.
    pub rows_per_shard: usize,
    /// Overwrite another dataset in the folder.
    pub force: bool,
}

/// Progress events of [`derive`](fn@derive).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeriveEvent {
    /// The rows are chosen.
    Started {
        /// Rows to write.
        rows: usize,
    },
    /// Rows that an earlier run has written.
    Resumed {
        /// Number of rows.
        rows: usize,
    },
    /// One more row is written.
    Written,
}

/// Contents of a derived dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeriveReport {
    /// Rows written.
    pub num_rows: usize,
    /// Rows of the inputs that were left out.
    pub num_left_out: usize,
    /// Shards written.
    pub num_shards: usize,
    /// Rows per split.
    pub num_rows_by_split: BTreeMap<String, usize>,
    /// Class names.
    pub classes: Vec<String>,
}

/// A row of an input, and what it becomes.
#[derive(Debug, Clone)]
struct PlacedRow {
    input: usize,
    from: Split,
    row: usize,
    old_id: ObjectId,
    split: Split,
    id: ObjectId,
}

/// Writes the rows of `inputs` that `rules` choose as a dataset. `None` if cancelled; the same call resumes it.
///
/// # Errors
/// When a shard would have no rows, the inputs have other columns or dimensions than the first, two rows have the same id, no row is left, an input is
/// damaged, or the folder holds something else or is not writable.
pub fn derive(
    inputs: &[Dataset],
    rules: &RowRules,
    options: &DeriveOptions,
    cancel: &AtomicBool,
    on_event: &mut dyn FnMut(DeriveEvent),
) -> Result<Option<DeriveReport>> {
    check_rows_per_shard(options.rows_per_shard)?;
    let layout = common_layout(inputs)?;
    let mut rows = rules.place(inputs)?;
    rows.sort_by(|a, b| (a.split, &a.id).cmp(&(b.split, &b.id)));
    check_ids(inputs, &rows)?;
    let labels = Labels::of(inputs, &rows)?;
    let plan = plan(inputs, &rows, layout, &labels, options);
    on_event(DeriveEvent::Started { rows: rows.len() });

    let mut writer = DatasetWriter::open(&options.out, &plan, options.force)?;
    let shards: Vec<&[PlacedRow]> = rows
        .chunk_by(|a, b| a.split == b.split)
        .flat_map(|split| split.chunks(options.rows_per_shard))
        .collect();
    let missing: Vec<usize> = writer.missing_shards().collect();
    let num_missing: usize = missing.iter().map(|&shard| shards[shard].len()).sum();
    on_event(DeriveEvent::Resumed {
        rows: rows.len() - num_missing,
    });
    let files = files_of(inputs, &rows)?;
    for shard in missing {
        for row in shards[shard] {
            if cancel.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let input = &inputs[row.input];
            let mut sample = input.read(row.from, row.row, ViewSelection::WithGbuffer)?;
            labels.apply(row, &mut sample)?;
            let (path, bytes) = files[row.input]
                .get(&row.old_id)
                .map_or(("", 0), |(path, bytes)| (path.as_str(), *bytes));
            let file = ObjectFile { path, bytes };
            writer.append(&sample, file)?;
            on_event(DeriveEvent::Written);
        }
        writer.finish_shard()?;
    }
    let manifest = writer.finish()?;
    let num_inputs: usize = inputs.iter().map(num_rows).sum();
    let by_split = Split::ALL.map(|split| (split.to_string(), manifest.num_rows(split)));
    Ok(Some(DeriveReport {
        num_rows: rows.len(),
        num_left_out: num_inputs - rows.len(),
        num_shards: manifest.shards.len(),
        num_rows_by_split: by_split.into_iter().filter(|(_, rows)| *rows > 0).collect(),
        classes: manifest.classes,
    }))
}

fn num_rows(dataset: &Dataset) -> usize {
    Split::ALL.map(|split| dataset.len(split)).iter().sum()
}

/// Path and length of the mesh of each chosen row, by input and id; nothing in manifests of version 1.
fn files_of<'a>(
    inputs: &[Dataset],
    rows: &'a [PlacedRow],
) -> Result<Vec<BTreeMap<&'a ObjectId, (String, u64)>>> {
    let mut files: Vec<BTreeMap<&ObjectId, (String, u64)>> = inputs.iter().map(|_| BTreeMap::new()).collect();
    for row in rows {
        files[row.input].insert(&row.old_id, (String::new(), 0));
    }
    for (input, files) in inputs.iter().zip(&mut files) {
        input.manifest().objects()?.visit(&mut |_, object| {
            if let Some(file) = files.get_mut(&object.id) {
                *file = (object.path.clone(), object.bytes);
            }
            Ok(())
        })?;
    }
    Ok(files)
}

fn common_layout(inputs: &[Dataset]) -> Result<RowLayout> {
    let Some(first) = inputs.first() else {
        return Err(DatasetError::Derive(DeriveError::NoInput));
    };
    match inputs.iter().find(|input| input.layout() != first.layout()) {
        Some(other) => Err(DatasetError::Derive(DeriveError::Layout {
            first: describe(first.layout()),
            other: describe(other.layout()),
            path: other.dir().to_owned(),
        })),
        None => Ok(first.layout()),
    }
}

/// `1024 points and 12 views of 64 pixels; points, normals, views`
fn describe(layout: RowLayout) -> String {
    let RowLayout {
        num_points,
        num_views,
        image_size_px,
        columns,
    } = layout;
    let sets: Vec<String> = columns.sets().map(|set| set.to_string()).collect();
    let views = if num_views > 0 {
        format!(" and {num_views} views of {image_size_px} pixels")
    } else {
        String::new()
    };
    format!("{num_points} points{views}; {}", sets.join(", "))
}

fn check_ids(inputs: &[Dataset], rows: &[PlacedRow]) -> Result<()> {
    if rows.is_empty() {
        return Err(DatasetError::Derive(DeriveError::NoRows {
            num_rows: inputs.iter().map(num_rows).sum(),
        }));
    }
    let mut first: BTreeMap<&ObjectId, &PlacedRow> = BTreeMap::new();
    for row in rows {
        if let Some(other) = first.insert(&row.id, row) {
            return Err(DatasetError::Derive(DeriveError::DuplicateId {
                id: row.id.to_string(),
                first: inputs[other.input].dir().to_owned(),
                other: inputs[row.input].dir().to_owned(),
            }));
        }
    }
    Ok(())
}

fn plan(
    inputs: &[Dataset],
    rows: &[PlacedRow],
    layout: RowLayout,
    labels: &Labels,
    options: &DeriveOptions,
) -> DatasetPlan {
    let mut listing = Sha256::new();
    for PlacedRow {
        split,
        id,
        old_id,
        input,
        ..
    } in rows
    {
        listing.update(format!("{split} {id} {input} {old_id}\n"));
    }
    let parents: Vec<&str> = inputs.iter().map(Dataset::sha256).collect();
    let parent = match parents[..] {
        [parent] => parent.to_owned(),
        _ => sha256::of_bytes(parents.join(" ")),
    };
    let of_split = |split| rows.iter().filter(|row| row.split == split).count();
    DatasetPlan {
        header: ShardHeader {
            layout,
            classes: labels.classes().to_vec(),
            parts: labels.parts().to_vec(),
            recipe: common(inputs.iter().map(|input| &input.manifest().recipe)),
            adapter: common(inputs.iter().map(|input| &input.manifest().adapter)),
        },
        source: SourceDescription {
            layout: options.name.clone(),
            publication: None,
            splits: None,
            num_objects: rows.len(),
            listing_sha256: sha256::hex(&listing.finalize()),
            content_sha256: None,
        },
        num_shards: num_shards(options.rows_per_shard, of_split),
        part: None,
        parent: Some(parent),
        is_relit: false,
        skipped: Vec::new(),
        has_list_files: false,
    }
    .listed()
}

/// What all inputs have in common; null where they differ.
fn common<'a>(mut values: impl Iterator<Item = &'a Value>) -> Value {
    let Some(first) = values.next() else {
        return Value::Null;
    };
    values.fold(first.clone(), |mut common, value| {
        keep_common(&mut common, value);
        common
    })
}

fn keep_common(common: &mut Value, other: &Value) {
    match (common, other) {
        (Value::Object(common), Value::Object(other)) => {
            common.retain(|key, _| other.contains_key(key));
            for (key, value) in common {
                keep_common(value, &other[key.as_str()]);
            }
        }
        (common, other) if common != other => *common = Value::Null,
        _ => {}
    }
}
