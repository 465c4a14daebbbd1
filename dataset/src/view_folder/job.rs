//! One mesh on the workers: from its file to a render job, and from views to a folder.

use std::cell::RefCell;
use std::fs;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;
use tap_render::import::{AssetError, AssetResolver, ImportOptions, MeshFormat, import_object};
use tap_render::{
    BackendKind, Material, Mesh, ObjectFromMesh, Projection, QueueStage, QueuedJob, RenderJob, RenderRecipe,
    UpAxis, View,
};

use super::error::{Result, ViewFolderError};
use super::folder::{self, Files};
use super::input::{self, Input};
use super::point::{self, PointSet};
use super::pose_file::{self, Posed};
use super::views_file::{Asset, Output, POINTS_FILE_NAME, SHEET_FILE_NAME, VIEWS_FILE_NAME, ViewsFile};
use super::{image_file, view_file};
use crate::error::error_chain;
use crate::manifest::SkipReason;
use crate::sha256;
use crate::source::{self, DEFAULT_MAX_MESH_BYTES, FolderAssets};

/// All settings that the files of a folder of views depend on, besides the mesh.
#[derive(Debug, Clone, PartialEq)]
pub struct ViewRecipe {
    /// What a view looks like.
    pub render: RenderRecipe,
    /// Axis of the mesh files that points up.
    pub up: UpAxis,
    /// How views become files.
    pub output: Output,
    /// Points to project into the views: a file, or a folder with one for each [`Input::name`].
    pub points: Option<PathBuf>,
}

impl ViewRecipe {
    /// Checks that the channels suffice for everything that is to be written.
    ///
    /// # Errors
    /// When the sheet, the points or a pose format needs something that the recipe does not render.
    pub fn validate(&self) -> Result<()> {
        let Self {
            render,
            output,
            points,
            up: _,
        } = self;
        if output.sheet && !render.channels.color {
            return Err(ViewFolderError::SheetWithoutColor);
        }
        if points.is_some() && !render.channels.depth {
            return Err(ViewFolderError::PointsWithoutDepth);
        }
        for &format in &output.poses {
            if render.projection == Projection::Orthographic && !format.supports_orthographic() {
                return Err(ViewFolderError::NoOrthographicPoses { format });
            }
            if pose_file::names_images(format) && !render.channels.color {
                return Err(ViewFolderError::PosesWithoutImages { format });
            }
        }
        Ok(())
    }
}

/// Settings shared by all meshes of a run.
#[derive(Debug)]
pub(super) struct RunSettings<'a> {
    pub(super) recipe: &'a ViewRecipe,
    /// Folder of the folders of views.
    pub(super) out: &'a Path,
    /// Whether existing views may be replaced.
    pub(super) may_replace: bool,
    /// Whether existing views are kept if they are what would be rendered.
    pub(super) resumes: bool,
    pub(super) backend_kind: BackendKind,
    /// Adapter report for `views.json`.
    pub(super) adapter: Value,
}

/// Why a mesh has no views.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Reason code; those of [`SkipReason`] among them.
    pub reason: String,
    /// Human-readable detail.
    pub message: String,
}

impl Failure {
    #[allow(clippy::needless_pass_by_value, reason = "reasons are small")]
    pub(super) fn new(reason: impl ToString, message: impl Into<String>) -> Self {
        Self {
            reason: reason.to_string(),
            message: message.into(),
        }
    }
}

/// Wall-clock seconds per stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[allow(clippy::struct_field_names, reason = "quantities say their unit")]
pub struct Timings {
    /// Reading and hashing files.
    pub read_s: f64,
    /// Importing the mesh.
    pub parse_s: f64,
    /// Normalization, silhouettes and cameras.
    pub frame_s: f64,
    /// Upload and submission to the device.
    pub upload_s: f64,
    /// Rendering, or waiting for the device.
    pub draw_s: f64,
    /// Reading back from the device.
    pub read_back_s: f64,
    /// Encoding the files.
    pub encode_s: f64,
    /// Writing the files.
    pub write_s: f64,
    /// Device time, if the device reports it; part of `draw_s` and `read_back_s`.
    pub device_s: Option<f64>,
}

impl Timings {
    /// Name and seconds of each stage, in order.
    #[must_use]
    pub fn stages(&self) -> [(&'static str, f64); 8] {
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

    /// Adds the times of another mesh.
    pub fn add(&mut self, other: &Self) {
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

/// Stopwatch with laps.
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    /// Seconds since the last lap.
    pub(super) fn lap(&mut self) -> f64 {
        let now = Instant::now();
        let lap: Duration = now - self.0;
        self.0 = now;
        lap.as_secs_f64()
    }
}

/// Outcome of [`prepare`].
#[derive(Debug)]
pub(super) enum Preparation {
    /// The views exist already.
    Unchanged,
    /// The mesh is ready to render.
    Ready(Box<PreparedMesh>),
}

/// A mesh ready to render, with everything of `views.json` except the views.
#[derive(Debug)]
pub(super) struct PreparedMesh {
    pub(super) render_job: RenderJob,
    object_from_mesh: [f64; 16],
    source_sha256: String,
    assets: Vec<Asset>,
    warnings: Vec<String>,
    parts: Vec<String>,
    materials: Vec<String>,
    points: Option<PointSet>,
    pub(super) timings: Timings,
}

impl QueuedJob for PreparedMesh {
    fn job(&self) -> &RenderJob {
        &self.render_job
    }

    fn timed<R>(&mut self, stage: QueueStage, work: impl FnOnce(&RenderJob) -> R) -> R {
        let mut clock = Clock::start();
        let done = work(&self.render_job);
        let elapsed_s = match stage {
            QueueStage::Submit => &mut self.timings.upload_s,
            QueueStage::Draw => &mut self.timings.draw_s,
            QueueStage::ReadBack => &mut self.timings.read_back_s,
        };
        *elapsed_s = clock.lap();
        done
    }

    fn record_device_time(&mut self, device_time: Option<Duration>) {
        self.timings.device_s = device_time.map(|time| time.as_secs_f64());
    }
}

/// A folder of views was written.
#[derive(Debug, Clone, PartialEq)]
pub struct WrittenViews {
    /// What the importer left out, and views in which nothing is visible.
    pub warnings: Vec<String>,
    /// Number of views.
    pub num_views: usize,
    /// Number of views in which nothing is visible, as far as there are masks.
    pub num_empty: usize,
    /// Where the time went.
    pub timings: Timings,
}

/// Reads and frames a mesh.
pub(super) fn prepare(settings: &RunSettings<'_>, input: &Input) -> Result<Preparation, Failure> {
    let recipe = settings.recipe;
    let mut timings = Timings::default();
    let mut clock = Clock::start();
    let format = mesh_format(&input.path)?;
    let bytes = read(&input.path)?;
    let source_sha256 = sha256::of_bytes(&bytes);
    let open_assets = || RecordingAssets::open(input, DEFAULT_MAX_MESH_BYTES - bytes.len() as u64);
    if settings.resumes && is_unchanged(settings, input, &source_sha256, &open_assets()?) {
        return Ok(Preparation::Unchanged);
    }
    let assets = open_assets()?;
    timings.read_s = clock.lap();
    let mesh = import(&input.path, format, &bytes, &assets, &recipe.render)?;
    drop(bytes);
    timings.parse_s = clock.lap();
    let object_from_mesh = ObjectFromMesh::from_surface(&mesh, recipe.up);
    let render_job = RenderJob::try_new(&mesh, &object_from_mesh, &recipe.render, settings.backend_kind)
        .map_err(|error| Failure::new(SkipReason::RenderFailed, error_chain(&error)))?;
    timings.frame_s = clock.lap();
    let points = match &recipe.points {
        Some(points) => Some(point::load(
            &point::file_of(points, &input.name)?,
            &object_from_mesh,
        )?),
        None => None,
    };
    let parts = if recipe.render.channels.part {
        mesh.part_names().to_vec()
    } else {
        Vec::new()
    };
    let materials = if recipe.render.channels.material {
        material_names(&mesh)
    } else {
        Vec::new()
    };
    timings.read_s += clock.lap();
    Ok(Preparation::Ready(Box::new(PreparedMesh {
        render_job,
        object_from_mesh: object_from_mesh.matrix().transpose().to_cols_array(),
        source_sha256,
        assets: assets.requested.into_inner(),
        warnings: mesh.warnings().to_vec(),
        parts,
        materials,
        points,
        timings,
    })))
}

/// Reads a mesh with what a rendering of it needs: materials and textures, from its folder and the usual folders for
/// textures beside that, and the file's normals. It is the mesh that `tap render` draws of a file named by itself.
///
/// # Errors
/// When the file can't be read, is in an unknown format, or holds no valid mesh.
pub fn read_mesh(path: &Path, recipe: &RenderRecipe) -> Result<Mesh, Failure> {
    let format = mesh_format(path)?;
    let bytes = read(path)?;
    let canonical = path.canonicalize().map_err(unreadable)?;
    let assets = FolderAssets::of_mesh(&canonical, DEFAULT_MAX_MESH_BYTES - bytes.len() as u64);
    import(path, format, &bytes, &assets, recipe)
}

fn mesh_format(path: &Path) -> Result<MeshFormat, Failure> {
    // Before the extension: a file that does not exist is missing, not unsupported.
    if fs::metadata(path).map_err(unreadable)?.is_dir() {
        return Err(unreadable_folder(path));
    }
    source::format_of(path).ok_or_else(|| {
        let message = format!("not a mesh format that can be read ({})", input::extensions());
        Failure::new(SkipReason::UnsupportedFormat, message)
    })
}

fn import(
    path: &Path,
    format: MeshFormat,
    bytes: &[u8],
    assets: &dyn AssetResolver,
    recipe: &RenderRecipe,
) -> Result<Mesh, Failure> {
    let options = ImportOptions {
        appearance: recipe.needs_appearance(),
        normals: recipe.needs_normals(),
        ..ImportOptions::default()
    };
    let content = source::content(path, bytes, DEFAULT_MAX_MESH_BYTES).map_err(unreadable)?;
    import_object(format, &content, assets, &options)
        .map_err(|error| Failure::new(SkipReason::from(&error), error_chain(&error)))
}

/// Material names; a mesh without appearance has the default white material.
#[must_use]
pub fn material_names(mesh: &Mesh) -> Vec<String> {
    match mesh.appearance() {
        Some(surface) => surface
            .materials
            .iter()
            .map(|material| material.name.clone())
            .collect(),
        None => vec![Material::white().name],
    }
}

/// Whether the views of this very mesh, with these very files around it, exist already.
fn is_unchanged(
    settings: &RunSettings<'_>,
    input: &Input,
    source_sha256: &str,
    assets: &RecordingAssets,
) -> bool {
    let Some(file) = folder::complete(&settings.out.join(&input.name), settings.recipe) else {
        return false;
    };
    let is_asset_unchanged = |asset: &Asset| {
        let sha256 = assets
            .inner
            .read(&asset.name)
            .ok()
            .map(|bytes| sha256::of_bytes(&bytes));
        sha256 == asset.sha256
    };
    let are_points_unchanged = match (&settings.recipe.points, &file.points) {
        (None, None) => true,
        (Some(points), Some(entry)) => point::file_of(points, &input.name)
            .and_then(|path| read(&path))
            .is_ok_and(|bytes| sha256::of_bytes(&bytes) == entry.sha256),
        _ => false,
    };
    file.source_sha256 == source_sha256 && are_points_unchanged && file.assets.iter().all(is_asset_unchanged)
}

/// Encodes views and writes their folder.
///
/// # Errors
/// When no folder can be written any more. The inner error concerns this mesh alone.
pub(super) fn finish(
    settings: &RunSettings<'_>,
    input: &Input,
    prepared: PreparedMesh,
    views: &[View],
) -> Result<Result<WrittenViews, Failure>> {
    let mut clock = Clock::start();
    let ViewRecipe {
        render,
        up,
        output,
        points: _,
    } = settings.recipe;
    let PreparedMesh {
        render_job: _,
        object_from_mesh,
        source_sha256,
        assets,
        warnings,
        parts,
        materials,
        points,
        mut timings,
    } = prepared;
    let mut files = Files::new();
    let mut entries = Vec::with_capacity(views.len());
    for (view_idx, view) in views.iter().enumerate() {
        entries.push(view_file::encode(view_idx, view, output, &mut files)?);
    }
    if output.sheet {
        let images: Vec<_> = views.iter().filter_map(|view| view.color.as_ref()).collect();
        let sheet = image_file::sheet_png(render.size_px, &images)?;
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
    for format in &output.poses {
        files.extend(pose_file::write(*format, render.size_px, &posed)?);
    }
    if let Some(points) = &points {
        files.push((POINTS_FILE_NAME.to_owned(), point::encode(points, views)?));
    }
    let empty = (1..)
        .zip(&entries)
        .filter(|(_, entry)| entry.coverage == Some(0.0));
    let empty: Vec<String> = empty
        .map(|(view_number, _)| format!("nothing is seen in view {view_number}"))
        .collect();
    let num_empty = empty.len();
    let warnings: Vec<String> = warnings.into_iter().chain(empty).collect();
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
        recipe: render.clone(),
        up: *up,
        output: output.clone(),
        adapter: settings.adapter.clone(),
        object_from_mesh,
        is_relit: false,
        parts,
        materials,
        points: points.map(|points| points.entry),
        views: entries,
    };
    files.push((VIEWS_FILE_NAME.to_owned(), views_file.to_bytes()));
    timings.encode_s = clock.lap();
    let published = folder::publish(&files, &settings.out.join(&input.name), settings.may_replace)?;
    timings.write_s = clock.lap();
    Ok(published.map(|()| WrittenViews {
        warnings,
        num_views: views.len(),
        num_empty,
        timings,
    }))
}

/// A folder among the inputs is one that could not be searched for meshes.
fn unreadable_folder(folder: &Path) -> Failure {
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
    // Before opening: opening a pipe would wait for a writer.
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

/// Files around a mesh, with a record of the requested ones.
struct RecordingAssets {
    inner: FolderAssets,
    requested: RefCell<Vec<Asset>>,
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
        let name = input.path.file_name().unwrap_or_default();
        let inner = match parent.strip_prefix(&root) {
            Ok(below) if !below.as_os_str().is_empty() => {
                FolderAssets::new(&root, &below.join(name), limit_bytes)
            }
            // Named alone, or behind a link out of the root.
            _ => FolderAssets::of_mesh(&parent.join(name), limit_bytes),
        };
        Ok(Self {
            inner,
            requested: RefCell::default(),
        })
    }
}

impl AssetResolver for RecordingAssets {
    fn read(&self, relative: &str) -> Result<Vec<u8>, AssetError> {
        let result = self.inner.read(relative);
        let asset = Asset {
            name: relative.to_owned(),
            sha256: result.as_ref().ok().map(sha256::of_bytes),
        };
        let mut requested = self.requested.borrow_mut();
        if !requested.contains(&asset) {
            requested.push(asset);
        }
        result
    }
}
