//! [`import`](fn@import): the published sets that the field is scored on, as data sets.
//!
//! A set is opened (its files are found, its objects listed), every object is read once to be checked, the copy is recognized by
//! what it holds, and then the rows are written. So a set that is damaged or not whole is refused before anything is
//! written, and the recipe states what the data are. Memory holds a list of the objects, and those in flight.
//!
//! - one file per set: `scanobjectnn`, `modelnet40`, `shapenetpart`, `shapenet55`, `fewshot`, `mvcnn`
//! - what they share: `h5` and `h5_set` (HDF5), `numpy_pickle`, `text`, `cloud` (points of one object, and its row)
//! - `published`: the numbers by which a copy is recognized
//!
//! # Adding a set
//!
//! A variant of [`ImportSet`]; a file with `open(src, variant)`, which returns a [`PublishedSet`]: the objects with their classes
//! and splits, and a [`CloudReader`] that reads one of them; a match arm in `open`; its numbers in `published`. Whoever
//! has samples of another kind needs none of this: `dataset/examples/own_samples.rs` writes a data set from an iterator.

mod cloud;
mod fewshot;
mod h5;
mod h5_set;
mod modelnet40;
mod mvcnn;
mod numpy_pickle;
mod own;
mod published;
mod scanobjectnn;
mod shapenet55;
mod shapenetpart;
mod text;
mod write;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use serde::Serialize;
use tap_render::UpAxis;

pub use fewshot::EpisodeOptions;
pub use own::sample_of_points;

use crate::error::{DatasetError, ImportError, NameError, Result};
use crate::manifest::SkippedObject;
use crate::recipe::{DEFAULT_ROWS_PER_SHARD, check_rows_per_shard};
use crate::schema::{ObjectId, PartName, SampleView, Split};
use cloud::{Cloud, Defect};

/// A published set.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    strum::Display,
    strum::EnumString,
    strum::VariantNames,
    strum::IntoStaticStr,
)]
#[strum(serialize_all = "lowercase", parse_err_ty = NameError, parse_err_fn = unknown_set)]
#[non_exhaustive]
pub enum ImportSet {
    /// Scanned objects of 15 classes, in variants: HDF5.
    Scanobjectnn,
    /// CAD models of 40 classes: the resampled text files, HDF5, or Point-BERT's pickles.
    Modelnet40,
    /// Shapes of 16 classes with 50 parts: text files or HDF5.
    Shapenetpart,
    /// Point-BERT's clouds of `ShapeNet`: an NPY file per object, and lists.
    Shapenet55,
    /// Episodes of few classes and few examples: Point-BERT's pickles, or drawn from an imported `ModelNet40`.
    Fewshot,
    /// MVCNN's finished pictures, with points or meshes of the same objects.
    Mvcnn,
}

fn unknown_set(text: &str) -> NameError {
    use strum::VariantNames as _;
    NameError::ImportSet {
        text: text.to_owned(),
        expected: ImportSet::VARIANTS.join(", "),
    }
}

impl ImportSet {
    /// Name in messages.
    const fn title(self) -> &'static str {
        match self {
            Self::Scanobjectnn => "ScanObjectNN",
            Self::Modelnet40 => "ModelNet40",
            Self::Shapenetpart => "ShapeNetPart",
            Self::Shapenet55 => "ShapeNet-55",
            Self::Fewshot => "ModelNet40 few-shot",
            Self::Mvcnn => "MVCNN's pictures",
        }
    }

    /// Where one gets it. Addresses change; names of archives and of those who publish them last.
    const fn obtain(self) -> &'static str {
        match self {
            Self::Scanobjectnn => "h5_files.zip comes from the authors of ScanObjectNN, who ask for a form",
            Self::Modelnet40 => {
                "modelnet40_normal_resampled.zip and modelnet40_ply_hdf5_2048.zip come from the authors of PointNet, the .dat \
                 files from those of Point-BERT"
            }
            Self::Shapenetpart => {
                "shapenetcore_partanno_segmentation_benchmark_v0_normal.zip and hdf5_data come from the authors of PointNet"
            }
            Self::Shapenet55 => "ShapeNet55-34 comes from the authors of Point-BERT and PoinTr",
            Self::Mvcnn => {
                "shapenet55v1.tar and modelnet40v1.tar come from the authors of MVCNN, point clouds from those of TAP"
            }
            Self::Fewshot => {
                "ModelNetFewshot comes from the authors of Point-BERT; episodes are drawn from an imported ModelNet40"
            }
        }
    }

    fn not_found(self, expected: String, src: &Path) -> DatasetError {
        DatasetError::Import(ImportError::NotFound {
            set: self.title(),
            expected,
            obtain: self.obtain(),
            path: src.to_owned(),
        })
    }
}

/// What is imported, and how.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// The set.
    pub set: ImportSet,
    /// Folder of the published files.
    pub src: PathBuf,
    /// Folder of the new data set; of one data set an episode, for few-shot.
    pub out: PathBuf,
    /// Variant of a set that has several; by default the one that is there.
    pub variant: Option<String>,
    /// Up axis of the points.
    pub up: UpAxis,
    /// Folder of the points of pictures, by the same names; by default `pointclouds` beside them, or their own folder.
    pub points: Option<PathBuf>,
    /// Episodes to draw, if `src` is a data set.
    pub episodes: EpisodeOptions,
    /// Take a set of which objects are missing or damaged.
    pub allow_incomplete: bool,
    /// Rows per shard.
    pub rows_per_shard: usize,
    /// Worker threads; 0 means one per core.
    pub workers: usize,
    /// Overwrite another dataset in the folder.
    pub force: bool,
}

impl ImportOptions {
    /// The defaults.
    #[must_use]
    pub fn new(set: ImportSet, src: impl Into<PathBuf>, out: impl Into<PathBuf>) -> Self {
        Self {
            set,
            src: src.into(),
            out: out.into(),
            variant: None,
            up: UpAxis::Y,
            points: None,
            episodes: EpisodeOptions::default(),
            allow_incomplete: false,
            rows_per_shard: DEFAULT_ROWS_PER_SHARD,
            workers: 0,
            force: false,
        }
    }
}

/// Progress events of [`import`](fn@import).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImportEvent {
    /// The objects are listed and will be checked.
    Checking {
        /// Objects to read.
        objects: usize,
    },
    /// One more object is checked.
    Checked,
    /// Something that the user should know.
    Note(String),
    /// The data set is planned.
    Writing {
        /// Rows to write.
        rows: usize,
        /// Rows that an earlier run has written.
        done: usize,
    },
    /// One more row is written.
    Written,
}

/// An imported data set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImportReport {
    /// Its folder.
    pub out: PathBuf,
    /// Name of the set.
    pub set: String,
    /// Variant, such as `PB_T50_RS`.
    pub variant: String,
    /// Format of the files.
    pub format: String,
    /// The published version that it is; `None` if it is none, or its numbers are not known.
    pub publication: Option<String>,
    /// Whether nothing of it is missing.
    pub is_whole: bool,
    /// What is missing, and what was left out.
    pub missing: Vec<String>,
    /// Hash of the data.
    pub sha256: Option<String>,
    /// Rows per split.
    pub num_rows_by_split: std::collections::BTreeMap<String, usize>,
    /// Points of a row.
    pub num_points: usize,
    /// Views of a row.
    pub num_views: usize,
    /// Rows whose points are repeated, since their object has fewer.
    pub num_padded_rows: usize,
    /// Whether there are normals.
    pub has_normals: bool,
    /// Part labels in all.
    pub num_parts: usize,
    /// Class names.
    pub classes: Vec<String>,
    /// Shards written.
    pub num_shards: usize,
}

/// A set on disk: its objects are listed, none has been read.
#[derive(Debug)]
struct PublishedSet {
    set: ImportSet,
    variant: String,
    format: &'static str,
    objects: Vec<ListedCloud>,
    /// Objects that can't be rows, known before they are read.
    skipped: Vec<SkippedObject>,
    /// Other things that are missing, such as a list.
    missing: Vec<String>,
    /// In the order of the source's labels.
    classes: Vec<String>,
    parts: Vec<PartName>,
    notes: Vec<String>,
    /// Present if rows have views.
    pictures: Option<Pictures>,
    reader: Box<dyn CloudReader>,
}

/// What the pictures of all objects share.
#[derive(Debug, Clone)]
struct Pictures {
    num_views: usize,
    image_size_px: u32,
    /// Name of the rig.
    rig: &'static str,
}

/// Views of a row, and the hash of their files.
#[derive(Debug, Default)]
struct RowViews {
    views: Vec<SampleView>,
    assets_sha256: Option<String>,
}

/// An object of a set.
#[derive(Debug, Clone)]
struct ListedCloud {
    id: ObjectId,
    split: Split,
    /// Relative to the source; with the row, in a file of many.
    path: String,
    /// Length of the file, if it holds this object alone; else 0.
    bytes: u64,
    /// Where the reader finds it.
    place: (usize, usize),
}

impl ListedCloud {
    /// Why it is no row.
    fn skipped(&self, defect: Defect) -> SkippedObject {
        defect.skipped(self.id.to_string(), self.split, self.path.clone())
    }
}

/// Reads one object; from several threads.
trait CloudReader: std::fmt::Debug + Send + Sync {
    /// A defect concerns this object alone, an error the file that holds it and others.
    fn read(&self, object: &ListedCloud) -> Result<Result<Cloud, Defect>>;

    /// Views of an object with these points in object space; without their images, unless they are to be encoded.
    fn views(&self, _: &ListedCloud, _: &[[f32; 3]], _is_encoded: bool) -> Result<Result<RowViews, Defect>> {
        Ok(Ok(RowViews::default()))
    }
}

/// Imports a set; a data set for each episode, for few-shot. `None` if cancelled; the same call resumes it.
///
/// # Errors
/// When the set is not there, several variants are and none is chosen, it is not whole and may not be so, a file is damaged,
/// or the folder holds something else or is not writable.
pub fn import(
    options: &ImportOptions,
    cancel: &AtomicBool,
    on_event: &mut dyn FnMut(ImportEvent),
) -> Result<Option<Vec<ImportReport>>> {
    check_rows_per_shard(options.rows_per_shard)?;
    let (src, variant) = (options.src.as_path(), options.variant.as_deref());
    let set = match options.set {
        ImportSet::Fewshot => return fewshot::import(options, cancel, on_event),
        set if !src.is_dir() => return Err(set.not_found("a folder".to_owned(), src)),
        ImportSet::Scanobjectnn => scanobjectnn::open(src, variant)?,
        ImportSet::Modelnet40 => modelnet40::open(src, variant)?,
        ImportSet::Shapenetpart => shapenetpart::open(src, variant)?,
        ImportSet::Mvcnn => mvcnn::open(src, variant, options.points.as_deref())?,
        ImportSet::Shapenet55 => shapenet55::open(src, variant)?,
    };
    let report = write::write(set, options, &options.out, cancel, on_event)?;
    Ok(report.map(|report| vec![report]))
}

/// The requested variant of those of a set, or the only one that is there.
fn choose<'a, T>(
    set: ImportSet,
    variants: &'a [(&'static str, T)],
    requested: Option<&str>,
    is_there: impl Fn(&T) -> bool,
    src: &Path,
) -> Result<Option<&'a (&'static str, T)>> {
    let join = |names: &[&str]| names.join(", ");
    if let Some(text) = requested {
        let named = variants.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
        return match named {
            Some(variant) => Ok(Some(variant)),
            None => Err(DatasetError::Import(ImportError::UnknownVariant {
                set: set.title(),
                text: text.to_owned(),
                expected: join(&variants.iter().map(|(name, _)| *name).collect::<Vec<_>>()),
            })),
        };
    }
    let there: Vec<&(&str, T)> = variants.iter().filter(|(_, variant)| is_there(variant)).collect();
    match there[..] {
        [] => Ok(None),
        [variant] => Ok(Some(variant)),
        _ => Err(DatasetError::Import(ImportError::Ambiguous {
            set: set.title(),
            found: join(&there.iter().map(|(name, _)| *name).collect::<Vec<_>>()),
            path: src.to_owned(),
        })),
    }
}

/// The folder, or the one of these names in it.
fn folder_or(src: &Path, names: &[&str], is_it: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let below = names.iter().map(|name| src.join(name));
    std::iter::once(src.to_owned())
        .chain(below)
        .find(|folder| is_it(folder))
}

/// What is in a folder, with its names, sorted; nothing if it cannot be read.
fn entries(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut entries: Vec<(String, PathBuf)> = entries
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
        .collect();
    entries.sort();
    entries
}

/// A path as objects are listed by it: relative to the source.
fn relative(path: &Path, src: &Path) -> String {
    path.strip_prefix(src).unwrap_or(path).display().to_string()
}
