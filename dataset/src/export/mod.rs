//! [`export`](fn@export): a dataset in the layouts that other programs read. One file per layout.
//!
//! Rows are read, decoded and encoded in parallel and written in order. The folder is written beside its place and moved
//! there when it is complete: nobody reads half of one.

mod h5;
mod hdf5_file;
mod mvcnn;
mod npy;
mod webdataset;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use serde::Serialize;

use crate::atomic_file::{partial_path, sync_dir};
use crate::error::{BuildError, DatasetError, ExportError, NameError, Result, StoreError};
use crate::folder_lock::{FolderLock, LOCK_FILE_NAME};
use crate::owned_folder::{OwnedFolder, refuse_inputs, refuse_link};
use crate::pipeline::{Delivery, Limits, OneStage, num_threads, run};
use crate::reader::Dataset;
use crate::schema::{ColumnSet, GENERATOR, ObjectId, Sample, Split};
use crate::shard::ViewSelection;
use crate::store::is_url;

/// Rows of a tar file of `WebDataset`: some 60 MB of twelve views each.
pub const DEFAULT_ROWS_PER_TAR: usize = 1000;
/// Says what the folder is, and makes it one that may be replaced.
const EXPORT_FILE_NAME: &str = "export.json";
/// What exports write, in all layouts.
const FILES: [&str; 14] = [
    LOCK_FILE_NAME,
    EXPORT_FILE_NAME,
    "objects.csv",
    "shapenet55v1/*/model_#_#.jpg",
    "pointclouds/*/model_#.ply",
    "pointclouds_p2048/*/model_#.ply",
    "*/*/model_#_#.png",
    "ShapeNet-55/*.txt",
    "shapenet_pc/*.npy",
    "*-#.tar",
    "ply_data_*.h5",
    "main_split/*_objectdataset.h5",
    "*_files.txt",
    "shape_names.txt",
];
/// Rows in flight per thread.
const ROWS_PER_WORKER: usize = 3;

/// A layout of another program.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantNames,
)]
#[strum(serialize_all = "kebab-case", parse_err_ty = NameError, parse_err_fn = unknown_format)]
#[non_exhaustive]
pub enum ExportFormat {
    /// MVCNN's `ShapeNet55`, which the released code of TAP reads: JPEGs by split, and point clouds beside them.
    Mvcnn,
    /// The folders of classes and splits that `mvcnn_pytorch` reads, as PNG.
    MvcnnPytorch,
    /// Tar files of samples.
    Webdataset,
    /// Point-BERT's `ShapeNet55`, which Point-MAE and I2P-MAE read: an array per object, and lists of files.
    Npy,
    /// HDF5 files of many objects, as those of `ModelNet40` and `ShapeNetPart` with 2048 points are.
    H5,
    /// An HDF5 file per split, as those of `ScanObjectNN` are.
    H5Scanobjectnn,
}

fn unknown_format(text: &str) -> NameError {
    use strum::VariantNames as _;
    NameError::ExportFormat {
        text: text.to_owned(),
        expected: ExportFormat::VARIANTS.join(", "),
    }
}

impl ExportFormat {
    fn name(self) -> &'static str {
        self.into()
    }

    fn needs_views(self) -> bool {
        matches!(self, Self::Mvcnn | Self::MvcnnPytorch)
    }

    fn views(self) -> ViewSelection<'static> {
        match self {
            Self::Npy | Self::H5 | Self::H5Scanobjectnn => ViewSelection::None,
            Self::Mvcnn | Self::MvcnnPytorch | Self::Webdataset => ViewSelection::All,
        }
    }
}

/// How an export is written.
#[derive(Debug, Clone)]
pub struct ExportOptions {
    /// The layout.
    pub format: ExportFormat,
    /// Folder to write.
    pub out: PathBuf,
    /// Replace an earlier export.
    pub force: bool,
    /// Rows of a tar file.
    pub rows_per_tar: usize,
    /// Threads; 0 means one per core.
    pub workers: usize,
}

/// Progress of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExportEvent {
    /// The rows are listed.
    Started {
        /// Number of rows.
        rows: usize,
    },
    /// One more row is written.
    Written,
}

/// What an export holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExportReport {
    /// Name of the layout.
    pub format: &'static str,
    /// Hash of the exported data.
    pub sha256: String,
    /// Rows per split.
    pub num_rows_by_split: BTreeMap<String, usize>,
    /// Files, without `export.json`, which holds this report.
    pub num_files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Class names.
    pub classes: Vec<String>,
}

/// A file to write: its path in the folder, and its bytes.
type OutputFile = (String, Vec<u8>);

/// What a row becomes.
enum Encoded {
    /// Files of its own, or members of a tar file.
    Files(Vec<OutputFile>),
    /// A row of each array of an HDF5 file.
    Arrays(Vec<Vec<u8>>),
}

/// A row and its number in the export, from 1.
#[derive(Debug)]
struct Row {
    number: usize,
    split: Split,
    /// From 0.
    place_in_split: usize,
    id: ObjectId,
}

/// Writes all rows of a dataset, with the images of the image set in use. `None` if cancelled, and nothing is there.
///
/// # Errors
/// When the rows lack what the layout needs, the dataset is damaged, or the folder is taken or not writable.
///
/// # Panics
/// Never: the report is plain data.
pub fn export(
    dataset: &Dataset,
    options: &ExportOptions,
    cancel: &AtomicBool,
    on_event: &mut dyn FnMut(ExportEvent),
) -> Result<Option<ExportReport>> {
    let ExportOptions {
        format, out, force, ..
    } = options;
    if format.needs_views() && !dataset.columns().has(ColumnSet::Views) {
        return Err(DatasetError::Export(ExportError::NoViews {
            format: format.name(),
            path: dataset.dir().to_owned(),
        }));
    }
    if is_url(out) {
        return Err(DatasetError::Export(ExportError::NotOnDisk { path: out.clone() }));
    }
    let rows = rows_of(dataset)?;
    if *format == ExportFormat::Npy {
        npy::check_names(&rows)?;
    }
    if *force {
        refuse_inputs(out, [dataset.dir()])?;
    }
    drop(replaceable(out, *force)?);

    let partial = partial_path(out);
    let lock = FolderLock::take(&partial, "export")?;
    // What a killed export has left.
    OwnedFolder::survey(&partial, &FILES)?.remove_contents()?;
    on_event(ExportEvent::Started { rows: rows.len() });
    let mut folder = Folder::new(partial.clone());
    let written = write(dataset, &rows, options, &mut folder, cancel, on_event);
    let report = match written {
        Ok(true) => report(dataset, &rows, options, &folder),
        unfinished => {
            // The first error is the one to report.
            let _ = OwnedFolder::survey(&partial, &FILES).and_then(OwnedFolder::remove_contents);
            return unfinished.map(|_| None);
        }
    };
    let mut text = serde_json::to_vec_pretty(&Marked {
        generator: GENERATOR,
        report: &report,
    })
    .expect("plain data has a JSON form");
    text.push(b'\n');
    folder.write(EXPORT_FILE_NAME, &text)?;
    publish(lock, &partial, out, *force)?;
    Ok(Some(report))
}

/// What [`EXPORT_FILE_NAME`] says.
#[derive(Serialize)]
struct Marked<'a> {
    generator: &'a str,
    #[serde(flatten)]
    report: &'a ExportReport,
}

fn rows_of(dataset: &Dataset) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for split in Split::ALL {
        for (place_in_split, id) in dataset.ids(split)?.into_iter().enumerate() {
            let number = rows.len() + 1;
            rows.push(Row {
                number,
                split,
                place_in_split,
                id,
            });
        }
    }
    Ok(rows)
}

/// The folder that is replaced, if there is one and it may be.
fn replaceable(out: &Path, force: bool) -> Result<Option<OwnedFolder>> {
    refuse_link(out)?;
    let Ok(mut entries) = fs::read_dir(out) else {
        // A file in its place is an error of moving there.
        return Ok(None);
    };
    if entries.next().is_none() {
        return OwnedFolder::survey(out, &FILES).map(Some);
    }
    let path = out.to_owned();
    if !force {
        return Err(DatasetError::Store(StoreError::NotEmpty { path }));
    }
    if !out.join(EXPORT_FILE_NAME).is_file() {
        let what = format!("it holds no {EXPORT_FILE_NAME}");
        return Err(DatasetError::Store(StoreError::NotOurs { what, path }));
    }
    OwnedFolder::survey(out, &FILES).map(Some)
}

/// Writes the files of all rows, and the lists; `false` if cancelled.
fn write(
    dataset: &Dataset,
    rows: &[Row],
    options: &ExportOptions,
    folder: &mut Folder,
    cancel: &AtomicBool,
    on_event: &mut dyn FnMut(ExportEvent),
) -> Result<bool> {
    let format = options.format;
    let mut tars = webdataset::Tars::new(options.rows_per_tar);
    let layout = h5::H5Layout::new(dataset, format)?;
    let mut h5_files = h5::H5Files::new(layout.clone());
    let encode = |row: &Row, sample: &Sample| -> Result<Encoded> {
        Ok(match format {
            ExportFormat::Mvcnn => Encoded::Files(mvcnn::files_for_tap(row, sample)?),
            ExportFormat::MvcnnPytorch => Encoded::Files(mvcnn::files_for_pytorch(row, sample)),
            ExportFormat::Webdataset => Encoded::Files(webdataset::members(row, sample)?),
            ExportFormat::Npy => Encoded::Files(npy::files(row, sample)),
            ExportFormat::H5 | ExportFormat::H5Scanobjectnn => Encoded::Arrays(layout.encode(sample)?),
        })
    };
    let job = OneStage::new(
        rows.len(),
        |item, _: &dyn Fn(())| {
            let row = &rows[item];
            let sample = dataset.read(row.split, row.place_in_split, format.views())?;
            encode(row, &sample)
        },
        |_, message| Err(BuildError::WorkerPanicked(message).into()),
    );
    let workers = num_threads(options.workers);
    let limits = Limits {
        num_threads: workers,
        max_items: ROWS_PER_WORKER * workers,
        max_bytes: u64::MAX,
    };
    let is_complete = run(&job, limits, cancel, &mut |delivery| {
        let Delivery::Output(item, encoded) = delivery else {
            return Ok(());
        };
        match encoded {
            Encoded::Arrays(arrays) => h5_files.append(folder, &rows[item], &arrays)?,
            Encoded::Files(members) if format == ExportFormat::Webdataset => {
                tars.append(folder, &rows[item], &members)?;
            }
            Encoded::Files(files) => {
                for (name, bytes) in &files {
                    folder.write(name, bytes)?;
                }
            }
        }
        on_event(ExportEvent::Written);
        Ok(())
    })?;
    if !is_complete {
        return Ok(false);
    }
    tars.finish(folder)?;
    let lists = match format {
        ExportFormat::Mvcnn | ExportFormat::MvcnnPytorch => vec![mvcnn::list(rows)],
        ExportFormat::Npy => npy::lists(rows),
        ExportFormat::H5 | ExportFormat::H5Scanobjectnn => layout.lists(rows, dataset.classes()),
        ExportFormat::Webdataset => Vec::new(),
    };
    for (name, bytes) in &lists {
        folder.write(name, bytes)?;
    }
    Ok(true)
}

fn report(dataset: &Dataset, rows: &[Row], options: &ExportOptions, folder: &Folder) -> ExportReport {
    let mut num_rows_by_split = BTreeMap::new();
    for row in rows {
        *num_rows_by_split.entry(row.split.to_string()).or_default() += 1;
    }
    ExportReport {
        format: options.format.name(),
        sha256: dataset.sha256().to_owned(),
        num_rows_by_split,
        num_files: folder.num_files,
        bytes: folder.bytes,
        classes: dataset.classes().to_vec(),
    }
}

/// Moves the complete folder into its place.
fn publish(lock: FolderLock, partial: &Path, out: &Path, force: bool) -> Result<()> {
    if let Some(old) = replaceable(out, force)? {
        let lock_file = out.join(LOCK_FILE_NAME);
        old.remove_contents()?;
        let _ = fs::remove_file(lock_file);
        fs::remove_dir(out).map_err(DatasetError::io("remove the folder", out))?;
    }
    let lock_file = partial.join(LOCK_FILE_NAME);
    fs::remove_file(&lock_file).map_err(DatasetError::io("remove", &lock_file))?;
    fs::rename(partial, out).map_err(DatasetError::io("write the folder", out))?;
    drop(lock);
    let parent = out.parent().unwrap_or(Path::new(""));
    sync_dir(parent).map_err(DatasetError::io("sync the folder", parent))
}

/// The folder that is written, and what is in it.
struct Folder {
    path: PathBuf,
    num_files: usize,
    bytes: u64,
    /// The folder of the last file, which exists.
    last: PathBuf,
}

impl Folder {
    fn new(path: PathBuf) -> Self {
        Self {
            last: path.clone(),
            path,
            num_files: 0,
            bytes: 0,
        }
    }

    fn create(&mut self, name: &str) -> Result<File> {
        let path = self.path.join(name);
        let folder = path.parent().unwrap_or(&self.path);
        if folder != self.last {
            fs::create_dir_all(folder).map_err(DatasetError::io("create the folder", folder))?;
            folder.clone_into(&mut self.last);
        }
        let file = File::create_new(&path).map_err(DatasetError::io("create", &path))?;
        self.num_files += 1;
        Ok(file)
    }

    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path.join(name);
        let mut file = self.create(name)?;
        file.write_all(bytes).map_err(DatasetError::io("write", &path))?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}
