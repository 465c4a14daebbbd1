//! `tap render`: meshes to images with exact poses, one folder per mesh.

pub(super) mod relight;
mod report;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use tap_cli::exit_code::{INTERRUPTED, usage};
use tap_cli::flag::{MaxSkippedFlag, SettingFlags, ThreadsFlag};
use tap_cli::settings::Setting;
use tap_cli::{interrupt, ui};
use tap_dataset::view_folder::{
    self, DepthFormat, Existing, NormalFormat, NormalSpace, Output, Request, SearchNote, ViewFolderError,
    ViewOptions, ViewRecipe,
};
use tap_render::pose_format::PoseFormat;
use tap_render::{Channels, RenderRecipe};
use toml::Value;

use super::flag::{DeviceFlags, UpFlag, ViewFlags};
use crate::recipe::{self, RENDER_PRESETS};
use report::{Command, Report, ReportOptions};

/// Render views of meshes with exact poses: one folder of images per mesh.
///
/// A bad mesh is skipped with a reason code and stops no other. The images do not depend on the number of threads.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
#[allow(clippy::struct_excessive_bools, reason = "a switch is a bool")]
pub(crate) struct Arguments {
    /// Files, folders (all meshes below them), patterns in quotes, or - for a list on stdin.
    #[arg(value_name = "MESH", required_unless_present = "list")]
    meshes: Vec<PathBuf>,
    /// A file with one path per line; - is stdin.
    #[arg(long, value_name = "FILE")]
    list: Option<PathBuf>,
    /// Folder for the folders of views.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Folder that names are relative to and that textures may be in. Without it a mesh reads below the folder that it was
    /// found in, or, named by itself, its own folder and those for textures beside it (../images, ../textures, ...).
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    #[command(flatten)]
    views: ViewFlags,
    /// Channels to render, comma-separated: color, mask, depth, normal, albedo, part, material.
    #[arg(long, value_name = "LIST", help_heading = "Views")]
    channels: Option<Channels>,
    /// File format of depth: a 16-bit PNG with its range, or floats for NumPy.
    #[arg(long, value_name = "FORMAT", help_heading = "Views", default_value = "png")]
    depth_format: DepthFormatArgument,
    /// File format of normals: 8 bits, or 16 for exact relighting.
    #[arg(long, value_name = "FORMAT", help_heading = "Views", default_value = "png")]
    normal_format: NormalFormatArgument,
    /// Axes of normals: the camera's or the object's.
    #[arg(long, value_name = "SPACE", help_heading = "Views", default_value = "view")]
    normal_space: NormalSpaceArgument,
    /// Points in the mesh's coordinates (NPY, PLY or XYZ): also write their positions and visibility in each view. A folder
    /// holds one file for each NAME.
    #[arg(long, value_name = "FILE|DIR", help_heading = "Views")]
    points: Option<PathBuf>,
    /// Also write poses in other conventions, comma-separated: opencv, opengl, pytorch3d, nerf, colmap, tap.
    #[arg(long, value_name = "LIST", help_heading = "Views", value_delimiter = ',')]
    poses: Vec<PoseFormat>,
    /// Also write DIR/NAME/sheet.png with all views.
    #[arg(long, help_heading = "Views")]
    sheet: bool,
    #[command(flatten)]
    up: UpFlag,
    #[command(flatten)]
    settings: SettingFlags,
    #[command(flatten)]
    device: DeviceFlags,
    #[command(flatten)]
    threads: ThreadsFlag,
    /// Keep views that are complete and would come out the same; render the others again.
    #[arg(long)]
    resume: bool,
    /// Replace existing folders of views; refused where one holds anything else, or an input.
    #[arg(long, conflicts_with = "resume")]
    force: bool,
    #[command(flatten)]
    max_skipped: MaxSkippedFlag,
    /// Print the time of each stage.
    #[arg(long)]
    timings: bool,
    /// Print a line of JSON per mesh, and a summary.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  tap render chair.obj --out views --sheet
  tap render ShapeNetCore.v2 --out views --resume --max-skipped 100
  tap render 'meshes/*/train/*.off' --up z --out views --rig dodecahedron80
  find . -name '*.glb' | tap render - --out views --framing sphere --projection parallel --size 128
  tap render chair.obj --out views --rig turntable:36:0,30,60 --poses opencv,nerf,colmap
  tap render table.obj --out tables --rig views/chair/views.json
  tap render part.off --up z --channels color,mask,depth,normal --depth-format npy --out views
  tap render car/car.obj --root . --lighting textured --out views      textures in other folders below .
  tap render car.glb --lighting textured --channels color,mask,depth,normal,albedo,part --out views

Folders: DIR/NAME for NAME.obj. Where meshes come from a folder, a pattern or a list, or two have
one name, NAME is the path below the folder that holds them all (--root settles which).

Files, in DIR/NAME:
  view_001.png ...     color
  _mask.png            0 or 255
  _depth.png           16-bit gray; 0 is background, 1 to 65535 run from depth.near to depth.far
  _depth.npy           32-bit floats, infinite in the background, with --depth-format npy
  _normal.png          RGB, n = value / 127.5 - 1 (of 16 bits: / 32767.5); black is background
  _albedo.png          RGB, the material's color without light; black is background
  _part.png            16-bit gray, the index in parts of views.json from 1; 0 is background
  _material.png        the same for materials
  point_views.npy      views x points x (x, y in pixels, 1 if seen), with --points
  sheet.png            all views, with --sheet
  views.json           recipe, adapter, object_from_mesh; of each view its files, angles, depth
                       range, view_from_object and clip_from_view (row-major, column vectors)
  poses_opencv.json, poses_opengl.json, poses_pytorch3d.json, transforms.json (nerf),
  colmap/cameras.txt, colmap/images.txt, colmap/points3D.txt, poses_tap.json: with --poses

The center of an object's surface is the origin, its farthest vertex is at distance 1, +y is up,
+z is its front.";

/// [`DepthFormat`] on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum DepthFormatArgument {
    /// 16-bit gray PNG; 0 is background, 1 to 65535 run from `depth.near` to `depth.far`.
    Png,
    /// 32-bit floats as NumPy writes them; infinite in the background.
    Npy,
}

/// [`NormalFormat`] on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum NormalFormatArgument {
    /// 8-bit RGB PNG: n = value / 127.5 - 1.
    Png,
    /// 16-bit RGB PNG: n = value / 32767.5 - 1.
    Png16,
}

/// [`NormalSpace`] on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum NormalSpaceArgument {
    /// Those of the camera: x right, y up, z towards the viewer.
    View,
    /// Those of the object: the same in all views.
    Object,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let started = Instant::now();
    let recipe = arguments.view_recipe()?;
    let mut unreadable: Vec<PathBuf> = Vec::new();
    let inputs = view_folder::find_meshes(&arguments.request(), &mut io::stdin(), &mut |note| match note {
        SearchNote::Empty(folder) => ui::note(format_args!("note: no mesh is in {}", folder.display())),
        SearchNote::Unreadable(mesh) => unreadable.push(mesh.to_owned()),
        _ => {}
    });
    note_unreadable(&unreadable);
    let inputs = inputs?;
    let cancel = interrupt::listen()?;
    let mut report = Report::new(
        Command::Render,
        arguments.report_options(),
        &arguments.out,
        inputs.len(),
        started,
    );
    let is_complete = view_folder::render(
        &inputs,
        &recipe,
        &arguments.view_options(),
        &cancel,
        &mut |event| {
            report.handle(event);
        },
    )?;
    if is_complete {
        return report.finish();
    }
    drop(report);
    ui::note("stopped; run the same command with --resume to continue");
    Ok(ExitCode::from(INTERRUPTED))
}

/// Says which meshes are left out because their formats cannot be read.
fn note_unreadable(meshes: &[PathBuf]) {
    let Some(first) = meshes.first() else {
        return;
    };
    let mut num_of: BTreeMap<String, usize> = BTreeMap::new();
    for mesh in meshes {
        let extension = mesh
            .extension()
            .unwrap_or_default()
            .to_string_lossy()
            .to_lowercase();
        *num_of.entry(extension).or_default() += 1;
    }
    let formats: Vec<String> = num_of
        .iter()
        .map(|(extension, num)| format!("{num} .{extension}"))
        .collect();
    ui::note(format_args!(
        "note: left out, in formats that can't be read: {} (such as {})",
        formats.join(", "),
        first.display()
    ));
}

impl Arguments {
    fn view_recipe(&self) -> Result<ViewRecipe> {
        let recipe = ViewRecipe {
            render: self.render_recipe()?,
            up: self.up.up.unwrap_or_default(),
            output: self.output(),
            points: self.points.clone(),
        };
        match recipe.validate() {
            Ok(()) => Ok(recipe),
            Err(error @ ViewFolderError::SheetWithoutColor) => Err(error.into()),
            Err(error) => Err(usage(error)),
        }
    }

    fn render_recipe(&self) -> Result<RenderRecipe> {
        let mut settings = self.views.settings("")?;
        if let Some(channels) = self.channels {
            let channels = Value::try_from(channels).context("channels have no TOML form")?;
            settings.push(Setting::new("channels", channels));
        }
        settings.extend_from_slice(&self.settings.set);
        let recipe: RenderRecipe =
            recipe::resolve(RENDER_PRESETS, self.settings.config.as_deref(), &settings)?;
        recipe.validate().map_err(usage)?;
        Ok(recipe)
    }

    fn output(&self) -> Output {
        let mut poses = self.poses.clone();
        poses.sort_unstable();
        poses.dedup();
        Output {
            depth_format: match self.depth_format {
                DepthFormatArgument::Png => DepthFormat::Png,
                DepthFormatArgument::Npy => DepthFormat::Npy,
            },
            normal_format: match self.normal_format {
                NormalFormatArgument::Png => NormalFormat::Png,
                NormalFormatArgument::Png16 => NormalFormat::Png16,
            },
            normal_space: match self.normal_space {
                NormalSpaceArgument::View => NormalSpace::View,
                NormalSpaceArgument::Object => NormalSpace::Object,
            },
            sheet: self.sheet,
            poses,
        }
    }

    fn request(&self) -> Request<'_> {
        Request {
            meshes: &self.meshes,
            list: self.list.as_deref(),
            root: self.root.as_deref(),
        }
    }

    fn view_options(&self) -> ViewOptions {
        ViewOptions {
            out: self.out.clone(),
            existing: match (self.force, self.resume) {
                (true, _) => Existing::Replace,
                (false, true) => Existing::Resume,
                (false, false) => Existing::Refuse,
            },
            recipe_files: self.views.rig_file().map(PathBuf::from).into_iter().collect(),
            workers: self.threads.threads,
            renderer: self.device.renderer_options(),
        }
    }

    fn report_options(&self) -> ReportOptions {
        ReportOptions {
            json: self.json,
            timings: self.timings,
            max_failed: self.max_skipped.max_skipped,
        }
    }
}
