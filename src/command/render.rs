//! `tap render`: meshes to pictures with exact poses, one folder a mesh.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use serde::Serialize;
use tap_dataset::FolderAssets;
use tap_render::import::{MeshFormat, import_mesh};
use tap_render::{
    AdapterReport, Channels, Mesh, ObjectFromMesh, RenderRecipe, Renderer, RendererOptions, UpAxis, View,
    row_major,
};

use super::flag::{DeviceFlags, UpFlag, ViewFlags};
use crate::picture::{self, DepthRange};
use crate::recipe::{self, Setting};
use crate::ui;

/// Draw the views of meshes, with exact poses: one folder of pictures a mesh.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// OBJ, OFF, GLB or glTF files.
    #[arg(value_name = "MESH", required = true)]
    meshes: Vec<PathBuf>,
    /// Where to put the folders.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    views: ViewFlags,
    /// What is drawn, comma-separated: color, mask, depth, normal.
    #[arg(long, value_name = "LIST", help_heading = "Views")]
    channels: Option<Channels>,
    #[command(flatten)]
    up: UpFlag,
    /// A recipe; flags and --set go before it.
    #[arg(long, value_name = "FILE.toml")]
    recipe: Option<PathBuf>,
    /// One setting of the recipe, for example framing=box.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<Setting>,
    /// Also write DIR/NAME/sheet.png with all views.
    #[arg(long)]
    sheet: bool,
    #[command(flatten)]
    device: DeviceFlags,
    /// Replace folders of views that are there already.
    #[arg(long)]
    force: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  tap render chair.obj --out views --sheet
  tap render *.glb --out views --framing sphere --projection parallel --size 128
  tap render part.off --up z --channels color,mask,depth,normal --out views

Files, in DIR/NAME for NAME.obj:
  view_001.png ...   color, gray
  _mask.png          0 or 255
  _depth.png         16-bit gray; 0 is nothing, 1 to 65535 run from depth.near to depth.far
  _normal.png        RGB, n = value / 127.5 - 1 in view space; black is nothing
  sheet.png          all views, with --sheet
  views.json         recipe, adapter, object_from_mesh; of each view its files, angles, depth
                     range, view_from_object and clip_from_view (row-major, column vectors)

The center of an object's surface is the origin, its farthest vertex is at distance 1, +y is up,
+z is its front.";

/// `views.json`.
#[derive(Debug, Serialize)]
struct ViewsFile<'a> {
    source: String,
    recipe: &'a RenderRecipe,
    up: UpAxis,
    adapter: &'a AdapterReport,
    object_from_mesh: [f64; 16],
    views: Vec<ViewEntry>,
}

#[derive(Debug, Serialize)]
struct ViewEntry {
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mask_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    depth_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    depth: Option<DepthRange>,
    #[serde(skip_serializing_if = "Option::is_none")]
    normal_file: Option<String>,
    azimuth_deg: f64,
    elevation_deg: f64,
    roll_deg: f64,
    view_from_object: [f32; 16],
    clip_from_view: [f32; 16],
}

/// What `--json` prints of a mesh.
#[derive(Debug, Serialize)]
struct Outcome {
    mesh: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    folder: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut settings = arguments.set.clone();
    settings.extend(arguments.views.settings("")?);
    let mut recipe: RenderRecipe = recipe::resolve(arguments.recipe.as_deref(), &settings)?;
    recipe.channels = arguments.channels.unwrap_or(recipe.channels);
    recipe.validate()?;
    if arguments.sheet && !recipe.channels.color {
        bail!("a sheet shows the color channel, which --channels leaves out");
    }
    let folders = choose_folders(arguments)?;
    let mut renderer = Renderer::try_new(&RendererOptions {
        adapter: arguments.device.adapter.clone(),
        ..Default::default()
    })?;

    let bar = ui::Bar::new("rendering", folders.len() as u64);
    let mut outcomes = Vec::new();
    for (mesh, folder) in &folders {
        bar.message(mesh.display());
        let outcome = render(&mut renderer, mesh, &recipe, arguments)
            .and_then(|files| publish(&files, folder, arguments.force));
        let error = outcome.err().map(|error| format!("{error:#}"));
        if let Some(error) = &error {
            bar.note(format_args!("error: {}: {error}", mesh.display()));
        }
        let folder = error.is_none().then(|| folder.clone());
        outcomes.push(Outcome {
            mesh: mesh.clone(),
            folder,
            error,
        });
        bar.advance();
    }
    drop(bar);

    let num_failed = outcomes.iter().filter(|outcome| outcome.error.is_some()).count();
    if arguments.json {
        ui::json(&outcomes)?;
    } else {
        outcomes
            .iter()
            .filter_map(|outcome| outcome.folder.as_ref())
            .for_each(|folder| ui::result(folder.display()));
    }
    Ok(if num_failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Each mesh with its folder, checked before the first one is drawn.
fn choose_folders(arguments: &Arguments) -> Result<Vec<(PathBuf, PathBuf)>> {
    let mut mesh_of_folder = BTreeMap::new();
    let mut chosen = Vec::new();
    for mesh in &arguments.meshes {
        let stem = mesh
            .file_stem()
            .with_context(|| format!("no file: {}", mesh.display()))?;
        let folder = arguments.out.join(stem);
        if let Some(other) = mesh_of_folder.insert(folder.clone(), mesh) {
            bail!(
                "two meshes have one name, render them apart: {} and {}",
                other.display(),
                mesh.display()
            );
        }
        if folder.exists() && !arguments.force {
            bail!(
                "there are views already (--force replaces them): {}",
                folder.display()
            );
        }
        chosen.push((mesh.clone(), folder));
    }
    Ok(chosen)
}

/// The files of one mesh's folder.
fn render(
    renderer: &mut Renderer,
    path: &Path,
    recipe: &RenderRecipe,
    arguments: &Arguments,
) -> Result<Vec<(String, Vec<u8>)>> {
    let mesh = read_mesh(path)?;
    let up = arguments.up.up.unwrap_or_default();
    let object_from_mesh = ObjectFromMesh::from_surface(&mesh, up);
    let views = renderer.render(&mesh, &object_from_mesh, recipe)?;

    let mut files = Vec::new();
    let entries = views
        .iter()
        .enumerate()
        .map(|(view_idx, view)| encode(view_idx, view, &mut files));
    let views_file = ViewsFile {
        source: path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        recipe,
        up,
        adapter: renderer.adapter(),
        object_from_mesh: object_from_mesh.matrix().transpose().to_cols_array(),
        views: entries.collect::<Result<_>>()?,
    };
    let mut json = serde_json::to_vec_pretty(&views_file).context("could not write views.json")?;
    json.push(b'\n');
    files.push(("views.json".to_owned(), json));
    if arguments.sheet {
        let pictures: Vec<&[u8]> = views
            .iter()
            .filter_map(|view| Some(view.color.as_ref()?.gray()))
            .collect();
        files.push((
            "sheet.png".to_owned(),
            picture::sheet_png(recipe.size_px, &pictures)?,
        ));
    }
    Ok(files)
}

fn read_mesh(path: &Path) -> Result<Mesh> {
    let format = path
        .extension()
        .and_then(|extension| MeshFormat::from_extension(extension.to_str()?))
        .ok_or_else(|| anyhow!("not a mesh format that can be read (OBJ, OFF, GLB, glTF)"))?;
    let bytes = fs::read(path).context("could not read the file")?;
    let assets = FolderAssets::open(path.parent().unwrap_or(Path::new("")))?;
    Ok(import_mesh(format, &bytes, &assets)?)
}

fn encode(view_idx: usize, view: &View, files: &mut Vec<(String, Vec<u8>)>) -> Result<ViewEntry> {
    let View {
        pose,
        matrices,
        size_px,
        color,
        mask,
        depth,
        normal,
    } = view;
    let stem = format!("view_{:03}", view_idx + 1);
    let mut entry = ViewEntry {
        file: None,
        mask_file: None,
        depth_file: None,
        depth: None,
        normal_file: None,
        azimuth_deg: degrees(pose.azimuth_rad),
        elevation_deg: degrees(pose.elevation_rad),
        roll_deg: degrees(pose.roll_rad),
        view_from_object: row_major(&matrices.view_from_object),
        clip_from_view: row_major(&matrices.clip_from_view),
    };
    let mut push = |suffix: &str, png: Vec<u8>| {
        let name = format!("{stem}{suffix}.png");
        files.push((name.clone(), png));
        Some(name)
    };
    if let Some(color) = color {
        entry.file = push("", picture::gray_png(*size_px, color.gray())?);
    }
    if let Some(mask) = mask {
        let pixels: Vec<u8> = mask
            .covered()
            .iter()
            .map(|&is_covered| if is_covered { u8::MAX } else { 0 })
            .collect();
        entry.mask_file = push("_mask", picture::gray_png(*size_px, &pixels)?);
    }
    if let Some(depth) = depth {
        let (png, range) = picture::depth_png(*size_px, depth)?;
        entry.depth = Some(range);
        entry.depth_file = push("_depth", png);
    }
    if let Some(normal) = normal {
        entry.normal_file = push("_normal", picture::normal_png(*size_px, normal)?);
    }
    Ok(entry)
}

/// What is left of the digits after a way through 32-bit radians is no part of the angle.
fn degrees(angle_rad: f32) -> f64 {
    (f64::from(angle_rad).to_degrees() * 1e4).round() / 1e4
}

/// Writes a folder so that it is whole when it appears. One that is there gives way only with `--force`, and only if
/// it is a folder of views.
fn publish(files: &[(String, Vec<u8>)], folder: &Path, force: bool) -> Result<()> {
    let mut partial = folder.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    if partial.exists() {
        fs::remove_dir_all(&partial).with_context(|| format!("could not remove {}", partial.display()))?;
    }
    fs::create_dir_all(&partial).with_context(|| format!("could not create {}", partial.display()))?;
    let written = files
        .iter()
        .try_for_each(|(name, bytes)| picture::write_new(&partial.join(name), bytes));
    let moved = written.and_then(|()| {
        if force && folder.exists() {
            if !folder.join("views.json").is_file() {
                bail!("not a folder of views, so it is left alone: {}", folder.display());
            }
            fs::remove_dir_all(folder).with_context(|| format!("could not remove {}", folder.display()))?;
        }
        fs::rename(&partial, folder).with_context(|| format!("could not create {}", folder.display()))
    });
    if moved.is_err() {
        // Nothing half-made is left; why it could not be made is the error that counts.
        let _ = fs::remove_dir_all(&partial);
    }
    moved
}
