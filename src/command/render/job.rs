//! What is done to one mesh, on the workers: before it is drawn, and after.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tap_dataset::{DEFAULT_MAX_MESH_BYTES, FolderAssets, SkipReason};
use tap_render::import::{AssetError, AssetResolver, ImportOptions, MeshFormat, import_object};
use tap_render::{
    BackendKind, Material, Mesh, ObjectFromMesh, QueueStage, QueuedJob, RenderJob, RenderRecipe, UpAxis, View,
};

use super::folder::{self, Files};
use super::input::{self, Input};
use super::point::{self, PointSet};
use super::pose_file::{self, Posed};
use super::view_file;
use crate::picture;
use crate::views_file::{Asset, Output, POINTS_FILE_NAME, SHEET_FILE_NAME, VIEWS_FILE_NAME, ViewsFile};

/// What is to be done with every mesh.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) recipe: RenderRecipe,
    pub(super) up: UpAxis,
    pub(super) output: Output,
    /// The points to look for: a file, or a folder with one for each mesh.
    pub(super) points: Option<PathBuf>,
    /// The folder of folders.
    pub(super) out: PathBuf,
    /// May views that are there be replaced?
    pub(super) may_replace: bool,
    /// Are views that are there left if they are what would be drawn?
    pub(super) resumes: bool,
    pub(super) backend_kind: BackendKind,
    /// What draws, for `views.json`.
    pub(super) adapter: Value,
}

/// Why a mesh has no views.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// In a word.
    pub(super) reason: String,
    /// In a sentence.
    pub(super) message: String,
}

impl Failure {
    #[allow(clippy::needless_pass_by_value, reason = "reasons are words and small")]
    pub(super) fn new(reason: impl ToString, message: impl Into<String>) -> Self {
        Self {
            reason: reason.to_string(),
            message: message.into(),
        }
    }
}

/// Where the time went, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[allow(clippy::struct_field_names, reason = "quantities say their unit")]
pub(super) struct Timings {
    pub(super) read_s: f64,
    pub(super) parse_s: f64,
    pub(super) frame_s: f64,
    /// Handing it to a device.
    pub(super) upload_s: f64,
    /// Drawing it; with a device, waiting for that.
    pub(super) draw_s: f64,
    /// Reading it back from a device.
    pub(super) read_back_s: f64,
    pub(super) encode_s: f64,
    pub(super) write_s: f64,
    /// What of drawing and reading back the device was at work, by its own clock, if it has one.
    pub(super) device_s: Option<f64>,
}

impl Timings {
    /// Each stage with its name.
    pub(super) fn stages(&self) -> [(&'static str, f64); 8] {
        let Self {
            read_s,
            parse_s,
            frame_s,
            upload_s,
            draw_s,
            read_back_s,
            encode_s,
            write_s,
            device_s: _,
        } = *self;
        [
            ("read", read_s),
            ("parse", parse_s),
            ("frame", frame_s),
            ("upload", upload_s),
            ("draw", draw_s),
            ("read back", read_back_s),
            ("encode", encode_s),
            ("write", write_s),
        ]
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.read_s += other.read_s;
        self.parse_s += other.parse_s;
        self.frame_s += other.frame_s;
        self.upload_s += other.upload_s;
        self.draw_s += other.draw_s;
        self.read_back_s += other.read_back_s;
        self.encode_s += other.encode_s;
        self.write_s += other.write_s;
        if let Some(device_s) = other.device_s {
            *self.device_s.get_or_insert(0.0) += device_s;
        }
    }
}

/// A stopwatch that is read stage by stage.
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    /// Seconds since it was last read.
    pub(super) fn lap(&mut self) -> f64 {
        let now = Instant::now();
        let lap: Duration = now - self.0;
        self.0 = now;
        lap.as_secs_f64()
    }
}

/// What became of a mesh before it was drawn.
#[derive(Debug)]
pub(super) enum Prepared {
    /// Its views are there already.
    Unchanged,
    /// It can be drawn.
    Ready(Box<Ready>),
}

/// A mesh that can be drawn, and all of its `views.json` but the views.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) framed: RenderJob,
    object_from_mesh: [f64; 16],
    source_sha256: String,
    assets: Vec<Asset>,
    warnings: Vec<String>,
    parts: Vec<String>,
    materials: Vec<String>,
    points: Option<PointSet>,
    pub(super) timings: Timings,
}

impl QueuedJob for Ready {
    fn job(&self) -> &RenderJob {
        &self.framed
    }

    fn timed<R>(&mut self, step: QueueStage, work: impl FnOnce(&RenderJob) -> R) -> R {
        let mut clock = Clock::start();
        let done = work(&self.framed);
        let took_s = match step {
            QueueStage::Submit => &mut self.timings.upload_s,
            QueueStage::Draw => &mut self.timings.draw_s,
            QueueStage::ReadBack => &mut self.timings.read_back_s,
        };
        *took_s = clock.lap();
        done
    }

    fn record_device_time(&mut self, device_time: Option<Duration>) {
        self.timings.device_s = device_time.map(|time| time.as_secs_f64());
    }
}

/// What became of a mesh whose views are there.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Done {
    /// What the importer left out, and views in which nothing is seen.
    pub(super) warnings: Vec<String>,
    pub(super) num_views: usize,
    pub(super) timings: Timings,
}

/// From the file to a framed mesh.
pub(super) fn prepare(task: &Task, input: &Input) -> Result<Prepared, Failure> {
    let mut timings = Timings::default();
    let mut clock = Clock::start();
    // What is not there is missing, whatever its name says.
    if fs::metadata(&input.path).map_err(unreadable)?.is_dir() {
        return Err(unsearched(&input.path));
    }
    let format = input
        .path
        .extension()
        .and_then(|extension| MeshFormat::from_extension(extension.to_str()?))
        .ok_or_else(|| {
            let message = format!("not a mesh format that can be read ({})", input::extensions());
            Failure::new(SkipReason::UnsupportedFormat, message)
        })?;
    let bytes = read(&input.path)?;
    let source_sha256 = sha256(&bytes);
    let open_assets = || RecordingAssets::open(input, DEFAULT_MAX_MESH_BYTES - bytes.len() as u64);
    if task.resumes && is_unchanged(task, input, &source_sha256, &open_assets()?) {
        return Ok(Prepared::Unchanged);
    }
    let assets = open_assets()?;
    timings.read_s = clock.lap();
    let options = ImportOptions {
        appearance: task.recipe.needs_appearance(),
        ..ImportOptions::default()
    };
    let mesh = import_object(format, &bytes, &assets, &options)
        .map_err(|error| Failure::new(SkipReason::from(&error), in_full(&error)))?;
    drop(bytes);
    timings.parse_s = clock.lap();
    let object_from_mesh = ObjectFromMesh::from_surface(&mesh, task.up);
    let framed = RenderJob::try_new(&mesh, &object_from_mesh, &task.recipe, task.backend_kind)
        .map_err(|error| Failure::new(SkipReason::RenderFailed, in_full(&error)))?;
    timings.frame_s = clock.lap();
    let points = match &task.points {
        Some(points) => Some(point::load(
            &point::file_of(points, &input.name)?,
            &object_from_mesh,
        )?),
        None => None,
    };
    let parts = if task.recipe.channels.part {
        mesh.part_names().to_vec()
    } else {
        Vec::new()
    };
    let materials = if task.recipe.channels.material {
        material_names(&mesh)
    } else {
        Vec::new()
    };
    timings.read_s += clock.lap();
    Ok(Prepared::Ready(Box::new(Ready {
        framed,
        object_from_mesh: object_from_mesh.matrix().transpose().to_cols_array(),
        source_sha256,
        assets: assets.seen.into_inner(),
        warnings: mesh.warnings().to_vec(),
        parts,
        materials,
        points,
        timings,
    })))
}

/// A mesh without looks has the one material that all white things have.
fn material_names(mesh: &Mesh) -> Vec<String> {
    match mesh.appearance() {
        Some(surface) => surface
            .materials
            .iter()
            .map(|material| material.name.clone())
            .collect(),
        None => vec![Material::white().name],
    }
}

/// Are the views of just this mesh, with just these files around it, there already?
fn is_unchanged(task: &Task, input: &Input, source_sha256: &str, assets: &RecordingAssets) -> bool {
    let Some(file) = folder::whole(&task.out.join(&input.name), task) else {
        return false;
    };
    let is_asset_unchanged = |asset: &Asset| {
        let sha256 = assets.inner.read(&asset.name).ok().map(|bytes| sha256(&bytes));
        sha256 == asset.sha256
    };
    let are_points_unchanged = match (&task.points, &file.points) {
        (None, None) => true,
        (Some(points), Some(entry)) => point::file_of(points, &input.name)
            .and_then(|path| read(&path))
            .is_ok_and(|bytes| sha256(&bytes) == entry.sha256),
        _ => false,
    };
    file.source_sha256 == source_sha256 && are_points_unchanged && file.assets.iter().all(is_asset_unchanged)
}

/// From views to a whole folder.
///
/// # Errors
/// When nothing can be written any more. The inner error costs this mesh alone.
pub(super) fn finish(
    task: &Task,
    input: &Input,
    ready: Ready,
    views: &[View],
) -> Result<Result<Done, Failure>> {
    let mut clock = Clock::start();
    let Ready {
        framed: _,
        object_from_mesh,
        source_sha256,
        assets,
        warnings,
        parts,
        materials,
        points,
        mut timings,
    } = ready;
    let mut files = Files::new();
    let mut entries = Vec::with_capacity(views.len());
    for (view_idx, view) in views.iter().enumerate() {
        entries.push(view_file::encode(view_idx, view, &task.output, &mut files)?);
    }
    if task.output.sheet {
        let pictures: Vec<_> = views.iter().filter_map(|view| view.color.as_ref()).collect();
        let sheet = picture::sheet_png(task.recipe.size_px, &pictures)?;
        files.push((SHEET_FILE_NAME.to_owned(), sheet));
    }
    let posed: Vec<Posed<'_>> = entries
        .iter()
        .zip(views)
        .map(|(entry, view)| Posed {
            entry,
            matrices: &view.matrices,
        })
        .collect();
    for format in &task.output.poses {
        files.extend(pose_file::write(*format, task.recipe.size_px, &posed)?);
    }
    if let Some(points) = &points {
        files.push((POINTS_FILE_NAME.to_owned(), point::encode(points, views)?));
    }
    let unseen = entries
        .iter()
        .enumerate()
        .filter(|(_, entry)| entry.coverage == Some(0.0));
    let unseen = unseen.map(|(view_idx, _)| format!("nothing is seen in view {}", view_idx + 1));
    let warnings: Vec<String> = warnings.into_iter().chain(unseen).collect();
    let views_file = ViewsFile {
        source: input
            .path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        source_sha256,
        assets,
        warnings: warnings.clone(),
        recipe: task.recipe.clone(),
        up: task.up,
        output: task.output.clone(),
        adapter: task.adapter.clone(),
        object_from_mesh,
        is_relit: false,
        parts,
        materials,
        points: points.map(|points| points.entry),
        views: entries,
    };
    files.push((VIEWS_FILE_NAME.to_owned(), views_file.to_bytes()?));
    timings.encode_s = clock.lap();
    let published = folder::publish(&files, &task.out.join(&input.name), task.may_replace)?;
    timings.write_s = clock.lap();
    Ok(published.map(|()| Done {
        warnings,
        num_views: views.len(),
        timings,
    }))
}

/// Of the folders only those are among the inputs that could not be searched for meshes.
fn unsearched(folder: &Path) -> Failure {
    let problem = match fs::read_dir(folder) {
        Err(error) => error.to_string(),
        Ok(_) => "it could not be read then".to_owned(),
    };
    let message = format!("could not look for meshes in the folder: {problem}");
    Failure::new(SkipReason::Unreadable, message)
}

#[allow(clippy::needless_pass_by_value, reason = "it is what `map_err` hands over")]
fn unreadable(error: io::Error) -> Failure {
    let reason = match error.kind() {
        ErrorKind::NotFound => SkipReason::Missing,
        ErrorKind::FileTooLarge => SkipReason::TooLarge,
        _ => SkipReason::Unreadable,
    };
    Failure::new(reason, format!("could not read the file: {error}"))
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    // Looked at before it is opened: opening a pipe would wait for a writer.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(unreadable(io::Error::new(
            ErrorKind::InvalidInput,
            "not a regular file",
        )));
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(unreadable)?;
    file.take(DEFAULT_MAX_MESH_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > DEFAULT_MAX_MESH_BYTES {
        let too_large = format!("more than {DEFAULT_MAX_MESH_BYTES} bytes");
        return Err(unreadable(io::Error::new(ErrorKind::FileTooLarge, too_large)));
    }
    Ok(bytes)
}

/// The files around a mesh, with a record of which it asked for.
struct RecordingAssets {
    inner: FolderAssets,
    seen: RefCell<Vec<Asset>>,
}

impl RecordingAssets {
    fn open(input: &Input, limit_bytes: u64) -> Result<Self, Failure> {
        let folder = |path: &Path| {
            let path = if path.as_os_str().is_empty() {
                Path::new(".")
            } else {
                path
            };
            path.canonicalize()
                .map_err(|error| Failure::new(SkipReason::Unreadable, format!("{}: {error}", path.display())))
        };
        let root = folder(&input.root)?;
        let parent = folder(input.path.parent().unwrap_or(Path::new("")))?;
        // A mesh behind a link that leads out of the root has the files of its own folder alone.
        let (root, below) = match parent.strip_prefix(&root) {
            Ok(below) => (root.clone(), below.to_owned()),
            Err(_) => (parent, PathBuf::new()),
        };
        let mesh_path = below.join(input.path.file_name().unwrap_or_default());
        Ok(Self {
            inner: FolderAssets::new(&root, &mesh_path, limit_bytes),
            seen: RefCell::default(),
        })
    }
}

impl AssetResolver for RecordingAssets {
    fn read(&self, relative: &str) -> Result<Vec<u8>, AssetError> {
        let result = self.inner.read(relative);
        let asset = Asset {
            name: relative.to_owned(),
            sha256: result.as_ref().ok().map(|bytes| sha256(bytes)),
        };
        let mut seen = self.seen.borrow_mut();
        if !seen.contains(&asset) {
            seen.push(asset);
        }
        result
    }
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold(String::new(), |mut text, byte| {
            // A string takes all that is written.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// An error with its causes, in one line.
pub(super) fn in_full(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
