//! [`open_foreign`]: shards that another program wrote again, as a dataset: filtered, joined, compressed, with columns of its
//! own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::error::{DatasetError, DeriveError, ManifestError, Result, ShardError};
use crate::manifest::{Manifest, SourceDescription};
use crate::reader::Dataset;
use crate::schema::{ColumnSet, ObjectId, RowLayout, ShardHeader, Split};
use crate::shard::{InferredShard, infer_shard, metadata_header};
use crate::store;
use crate::writer::{DatasetPlan, new_manifest};

/// What foreign shards hold, and what they lack of the dataset that they come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ForeignReport {
    /// Parquet files.
    pub num_files: usize,
    /// Sets of columns that all files have.
    pub columns: Vec<String>,
    /// Sets of columns of the original that the files lack.
    pub missing_columns: Vec<String>,
    /// Columns that are left out: of other programs, or of a set that is not whole.
    pub ignored_columns: Vec<String>,
    /// Rows of the original that the files lack; `None` if no original is known.
    pub num_missing_rows: Option<usize>,
    /// Rows that the original does not have.
    pub num_new_rows: Option<usize>,
    /// Whether the splits follow from file names (or the original), rather than being taken for training.
    pub has_splits: bool,
}

/// Opens Parquet files that another program wrote from shards: a folder of them, or one file. Columns are taken by name;
/// dimensions from the first rows; classes, parts and recipe from what the files still say of themselves, or from
/// `original`, the dataset that they come from (by default the manifest beside them, if there is one).
///
/// # Errors
/// When there is no Parquet file, a file has no points, or the files have other dimensions than each other.
pub fn open_foreign(path: &Path, original: Option<&Path>) -> Result<(Dataset, ForeignReport)> {
    let files = parquet_files(path)?;
    let folder = if files[0] == path {
        path.parent().unwrap_or(path)
    } else {
        path
    };
    let original = match original {
        Some(original) => Some(Manifest::read(original)?),
        None => match Manifest::read(folder) {
            Err(DatasetError::Manifest(ManifestError::NotFound { .. })) => None,
            manifest => Some(manifest?),
        },
    };
    let inferred: Vec<InferredShard> = files.iter().map(|file| infer(file)).collect::<Result<_>>()?;
    let layout = common_layout(&files, &inferred)?;
    let header = header(&files, layout, original.as_ref())?;
    let manifest = manifest(path, header, original.as_ref());

    let split_of_files: Vec<Option<Split>> = files.iter().map(|file| split_of_file(file)).collect();
    let shards = files
        .iter()
        .zip(&split_of_files)
        .map(|(file, split)| (split.unwrap_or(Split::Train), file.clone()));
    let dataset = Dataset::of_foreign(folder, manifest, shards.collect())?;
    let mut report = ForeignReport {
        num_files: files.len(),
        columns: layout.columns.sets().map(|set| set.to_string()).collect(),
        missing_columns: Vec::new(),
        ignored_columns: ignored_columns(&inferred, layout),
        num_missing_rows: None,
        num_new_rows: None,
        has_splits: split_of_files.iter().all(Option::is_some),
    };
    if let Some(original) = &original {
        let missing = original
            .layout
            .columns
            .sets()
            .filter(|&set| !layout.columns.has(set));
        report.missing_columns = missing.map(|set| set.to_string()).collect();
        let of_original = ids_of(original)?;
        let mut here = BTreeSet::new();
        for split in Split::ALL {
            here.extend(dataset.ids(split)?);
        }
        // Manifests of version 1 do not list their objects.
        if !of_original.is_empty() {
            report.num_missing_rows = Some(of_original.iter().filter(|id| !here.contains(*id)).count());
            report.num_new_rows = Some(here.iter().filter(|id| !of_original.contains(*id)).count());
        }
    }
    Ok((dataset, report))
}

/// Ids of the rows of a dataset.
fn ids_of(manifest: &Manifest) -> Result<BTreeSet<ObjectId>> {
    let mut ids = BTreeSet::new();
    manifest.objects()?.visit(&mut |_, object| {
        if object.row.is_some() {
            ids.insert(object.id.clone());
        }
        Ok(())
    })?;
    Ok(ids)
}

fn parquet_files(path: &Path) -> Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let names = store::list(path)?.into_iter().map(|found| found.name);
    let mut files: Vec<PathBuf> = names
        .filter(|name| name.ends_with(".parquet") && !name.starts_with(['.', '_']))
        .map(|name| path.join(name))
        .collect();
    files.sort();
    if files.is_empty() {
        return Err(DatasetError::Derive(DeriveError::NoParquet {
            path: path.to_owned(),
        }));
    }
    Ok(files)
}

fn infer(path: &Path) -> Result<InferredShard> {
    let file = store::open(path).map_err(DatasetError::io("open", path))?;
    infer_shard(file).map_err(|detail| {
        DatasetError::Shard(ShardError::Invalid {
            detail,
            path: path.to_owned(),
        })
    })
}

/// The dimensions, and the sets of columns that every file has.
fn common_layout(files: &[PathBuf], inferred: &[InferredShard]) -> Result<RowLayout> {
    let mut common = inferred[0].layout;
    for (shard, path) in inferred.iter().zip(files) {
        let missing: Vec<ColumnSet> = common
            .columns
            .sets()
            .filter(|&set| !shard.layout.columns.has(set))
            .collect();
        for set in missing {
            common.columns = common.columns.without(set);
        }
        if !common.columns.has(ColumnSet::Views) {
            (common.num_views, common.image_size_px) = (0, 0);
        }
        let RowLayout {
            num_points,
            num_views,
            image_size_px,
            columns: _,
        } = shard.layout;
        let is_same_size =
            common.num_views == 0 || (num_views, image_size_px) == (common.num_views, common.image_size_px);
        if num_points != common.num_points || !is_same_size {
            return Err(DatasetError::Shard(ShardError::Invalid {
                detail: format!(
                    "{num_points} points and {num_views} views of {image_size_px} pixels, unlike {}",
                    files[0].display()
                ),
                path: path.clone(),
            }));
        }
    }
    Ok(common)
}

fn ignored_columns(inferred: &[InferredShard], layout: RowLayout) -> Vec<String> {
    let all = inferred
        .iter()
        .flat_map(|shard| shard.foreign.iter().chain(&shard.incomplete).cloned());
    let mut ignored: BTreeSet<String> = all.collect();
    for shard in inferred {
        let sets = shard
            .layout
            .columns
            .sets()
            .filter(|&set| !layout.columns.has(set));
        ignored.extend(sets.map(|set| format!("{set} (not in every file)")));
    }
    ignored.into_iter().collect()
}

/// Classes, parts, recipe and adapter: what the first file that says anything says, else what the original has.
fn header(files: &[PathBuf], layout: RowLayout, original: Option<&Manifest>) -> Result<ShardHeader> {
    for path in files {
        let file = store::open(path).map_err(DatasetError::io("open", path))?;
        if let Some(header) = metadata_header(&file, path)? {
            return Ok(ShardHeader { layout, ..header });
        }
    }
    Ok(match original {
        Some(original) => ShardHeader {
            layout,
            ..original.header()
        },
        None => ShardHeader {
            layout: RowLayout {
                // Nobody knows what their numbers mean.
                columns: layout.columns.without(ColumnSet::Parts),
                ..layout
            },
            classes: Vec::new(),
            parts: Vec::new(),
            recipe: Value::Null,
            adapter: Value::Null,
        },
    })
}

/// Stands for the files while they are read; it is never written.
fn manifest(path: &Path, header: ShardHeader, original: Option<&Manifest>) -> Manifest {
    let plan = DatasetPlan {
        header,
        source: SourceDescription {
            layout: format!("adopt: {}", path.file_name().unwrap_or_default().display()),
            publication: None,
            splits: None,
            num_objects: 0,
            listing_sha256: String::new(),
            content_sha256: None,
        },
        num_shards: Vec::new(),
        part: None,
        parent: None,
        is_relit: false,
        skipped: Vec::new(),
        has_list_files: false,
    };
    Manifest {
        // For the paths of the meshes.
        num_shards: original
            .map(|original| original.num_shards.clone())
            .unwrap_or_default(),
        lists: original.and_then(|original| original.lists.clone()),
        shards: original
            .map(|original| original.shards.clone())
            .unwrap_or_default(),
        ..new_manifest(&plan)
    }
}

/// `train-00000-of-00002.parquet`, `validation.parquet`, `test_1.parquet`.
fn split_of_file(path: &Path) -> Option<Split> {
    let stem = path.file_stem()?.to_str()?;
    let word = stem.split(|c: char| !c.is_ascii_alphabetic()).next()?;
    word.parse().ok()
}
