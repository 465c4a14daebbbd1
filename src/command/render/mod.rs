//! `tap render`: meshes to pictures with exact poses, one folder a mesh.

mod folder;
mod glob;
mod input;
mod job;
mod pipeline;
mod point;
mod pose_file;
pub(super) mod relight;
mod report;
mod view_file;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use tap_cli::exit_code::{INTERRUPTED, usage};
use tap_cli::flag::{MaxSkippedFlag, SettingFlags, ThreadsFlag};
use tap_cli::settings::Setting;
use tap_cli::{interrupt, ui};
use tap_dataset::refuse_inputs;
use tap_render::pose_format::PoseFormat;
use tap_render::{Channels, Projection, RenderRecipe, Renderer};
use toml::Value;

use super::flag::{DeviceFlags, UpFlag, ViewFlags};
use crate::recipe::{self, RENDER_PRESETS};
use crate::views_file::{DepthFormat, NormalFormat, NormalSpace, Output};
use input::{Input, Request};
use job::{Clock, Task};
use pipeline::Pipeline;
use report::{Report, Wishes, Work};

/// Draw the views of meshes, with exact poses: one folder of pictures a mesh.
///
/// A bad mesh is left out with its reason and stops no other. The pictures are the same for any number of workers.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
#[allow(clippy::struct_excessive_bools, reason = "a switch is a bool")]
pub(crate) struct Arguments {
    /// Files, folders (all meshes below them), patterns in quotes, or - for a list on stdin.
    #[arg(value_name = "MESH", required_unless_present = "list")]
    meshes: Vec<PathBuf>,
    /// A file with a path a line; - is stdin.
    #[arg(long, value_name = "FILE")]
    list: Option<PathBuf>,
    /// Where to put the folders.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The folder that names are relative to and that textures may lie in.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    #[command(flatten)]
    views: ViewFlags,
    /// What is drawn, comma-separated: color, mask, depth, normal, albedo, part, material.
    #[arg(long, value_name = "LIST", help_heading = "Views")]
    channels: Option<Channels>,
    /// How depth is written: a 16-bit PNG with its range, or floats for NumPy.
    #[arg(long, value_name = "FORMAT", help_heading = "Views", default_value = "png")]
    depth_format: DepthFormat,
    /// How normals are written: with 8 bits, or with 16, which relighting is exact with.
    #[arg(long, value_name = "FORMAT", help_heading = "Views", default_value = "png")]
    normal_format: NormalFormat,
    /// Whose axes normals have: the camera's or the object's.
    #[arg(long, value_name = "SPACE", help_heading = "Views", default_value = "view")]
    normal_space: NormalSpace,
    /// Points in the mesh's coordinates, NPY, PLY or XYZ: also write where each view sees them. A folder holds one file for
    /// each NAME.
    #[arg(long, value_name = "FILE|DIR", help_heading = "Views")]
    points: Option<PathBuf>,
    /// Poses for others too, comma-separated: opencv, opengl, pytorch3d, nerf, colmap, tap.
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
    /// Leave views that are whole and would come out the same; draw the others, in place of what is there.
    #[arg(long)]
    resume: bool,
    /// Replace folders of views that are there already; refused where one holds anything else, or an input.
    #[arg(long, conflicts_with = "resume")]
    force: bool,
    #[command(flatten)]
    max_skipped: MaxSkippedFlag,
    /// Say where the time went.
    #[arg(long)]
    timings: bool,
    /// Print a line of JSON a mesh, and one for all.
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
  tap render car.glb --lighting textured --channels color,mask,depth,normal,albedo,part --out views

Folders: DIR/NAME for NAME.obj. Where meshes come from a folder, a pattern or a list, or two have
one name, NAME is the path below the folder that holds them all (--root settles which).

Files, in DIR/NAME:
  view_001.png ...     color
  _mask.png            0 or 255
  _depth.png           16-bit gray; 0 is nothing, 1 to 65535 run from depth.near to depth.far
  _depth.npy           32-bit floats, infinite where nothing is, with --depth-format npy
  _normal.png          RGB, n = value / 127.5 - 1 (of 16 bits: / 32767.5); black is nothing
  _albedo.png          RGB, the material's color without light; black is nothing
  _part.png            16-bit gray, the index in parts of views.json from 1; 0 is nothing
  _material.png        the same for materials
  point_views.npy      views x points x (x, y in pixels, 1 if seen), with --points
  sheet.png            all views, with --sheet
  views.json           recipe, adapter, object_from_mesh; of each view its files, angles, depth
                       range, view_from_object and clip_from_view (row-major, column vectors)
  poses_opencv.json, poses_opengl.json, poses_pytorch3d.json, transforms.json (nerf),
  colmap/cameras.txt, colmap/images.txt, colmap/points3D.txt, poses_tap.json: with --poses

The center of an object's surface is the origin, its farthest vertex is at distance 1, +y is up,
+z is its front.";

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let begun = Instant::now();
    let recipe = arguments.recipe()?;
    let output = arguments.output(&recipe)?;
    let inputs = input::find(&arguments.request(), &|note| {
        ui::note(format_args!("note: {note}"));
    })?;
    if arguments.force {
        refuse_to_replace(&inputs, arguments)?;
    } else if !arguments.resume {
        refuse_existing(&inputs, arguments)?;
    }
    let mut clock = Clock::start();
    let renderer_options = arguments.device.renderer_options();
    let renderer = Renderer::try_new(&renderer_options)?;
    let start_s = clock.lap();
    let cancel = interrupt::listen()?;

    let mut report = Report::new(
        Work::Render,
        arguments.wishes(),
        &arguments.out,
        inputs.len(),
        begun,
        start_s,
    );
    report.name_adapter(renderer.adapter());
    let task = Task {
        recipe,
        up: arguments.up.up.unwrap_or_default(),
        output,
        points: arguments.points.clone(),
        out: arguments.out.clone(),
        may_replace: arguments.force || arguments.resume,
        resumes: arguments.resume,
        backend_kind: renderer.backend_kind(),
        adapter: serde_json::to_value(renderer.adapter()).context("could not name the adapter")?,
    };
    let software = renderer.cpu();
    let pipeline = Pipeline {
        task: &task,
        inputs: &inputs,
        renderer_options: &renderer_options,
        software: software.as_ref(),
        num_workers: arguments.threads.num_threads(),
        cancel: &cancel,
    };
    let is_complete = pipeline.run(renderer, &mut |input_idx, outcome| {
        report.add(&inputs[input_idx], &outcome);
    })?;
    if is_complete {
        return report.finish();
    }
    drop(report);
    ui::note("stopped; the same command with --resume goes on");
    Ok(ExitCode::from(INTERRUPTED))
}

impl Arguments {
    fn recipe(&self) -> Result<RenderRecipe> {
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

    /// How views become files; what the recipe's views have no use for is refused.
    fn output(&self, recipe: &RenderRecipe) -> Result<Output> {
        if self.sheet && !recipe.channels.color {
            bail!("a sheet shows the color channel, which --channels leaves out");
        }
        if self.points.is_some() && !recipe.channels.depth {
            return Err(usage(
                "--points needs the depth channel: --channels color,mask,depth",
            ));
        }
        let mut poses = self.poses.clone();
        poses.sort_unstable();
        poses.dedup();
        for format in &poses {
            if recipe.projection == Projection::Orthographic && !format.supports_orthographic() {
                return Err(usage(format_args!(
                    "--poses {format}: it has no cameras of parallel projection"
                )));
            }
            if pose_file::names_pictures(*format) && !recipe.channels.color {
                return Err(usage(format_args!(
                    "--poses {format}: it names the pictures of the color channel, which --channels leaves out"
                )));
            }
        }
        Ok(Output {
            depth_format: self.depth_format,
            normal_format: self.normal_format,
            normal_space: self.normal_space,
            sheet: self.sheet,
            poses,
        })
    }

    fn request(&self) -> Request<'_> {
        Request {
            meshes: &self.meshes,
            list: self.list.as_deref(),
            root: self.root.as_deref(),
        }
    }

    fn wishes(&self) -> Wishes {
        Wishes {
            json: self.json,
            timings: self.timings,
            max_failed: self.max_skipped.max_skipped,
        }
    }
}

/// Before the first mesh is drawn: nothing that is there may be in the way.
fn refuse_existing(inputs: &[Input], arguments: &Arguments) -> Result<()> {
    let folders = inputs.iter().map(|input| arguments.out.join(&input.name));
    if let Some(folder) = folders.into_iter().find(|folder| folder.exists()) {
        bail!(
            "there are views already (--resume goes on with them, --force replaces them): {}",
            folder.display()
        );
    }
    Ok(())
}

/// Before the first mesh is drawn: what is there must be views alone, and none of them an input.
fn refuse_to_replace(inputs: &[Input], arguments: &Arguments) -> Result<()> {
    let read = [arguments.views.rig_file(), arguments.points.as_deref()];
    for input in inputs {
        let folder = arguments.out.join(&input.name);
        if folder.symlink_metadata().is_ok() {
            folder::replaceable(&folder)?;
            refuse_inputs(&folder, read.into_iter().flatten())?;
        }
    }
    Ok(())
}
