//! `tap relight`: views under another light, from their own normals, depth, albedo and masks; the mesh is not needed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use glam::{Mat3, Mat4, Vec3};
use png::ColorType;
use tap_dataset::SkipReason;
use tap_render::{ColorImage, Lighting, Mask, MaterialChoice, PoseDegrees, View, ViewMatrices, relight};

use super::folder::{self, Files};
use super::input::Input;
use super::job::{Clock, Done, Failure, Timings};
use super::pipeline::{Outcome, guarded};
use super::pose_file;
use super::report::{Report, Wishes};
use crate::command::flag;
use crate::views_file::{
    NormalSpace, POINTS_FILE_NAME, SHEET_FILE_NAME, VIEWS_FILE_NAME, ViewEntry, ViewsFile,
};
use crate::{interrupt, npy, picture};

/// Light views anew, without their meshes.
///
/// The views must have been drawn with --channels color,mask,depth,normal,albedo (the last only for a lighting of the
/// mesh's own colors). Whether normals are flat or smooth was decided then. Everything but the color is copied.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// A folder of views, or one with such folders in it, at any depth.
    #[arg(value_name = "VIEWS")]
    views: PathBuf,
    /// mvcnn, mvcnn-2015, textured, three-point, headlight-specular, hemisphere, normals, random:SEED, or a TOML file.
    #[arg(long, value_name = "NAME|FILE.toml")]
    lighting: String,
    /// Where to put the folders.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Also write sheet.png with all views, where there was none.
    #[arg(long)]
    sheet: bool,
    /// Threads; one a core unless given.
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    workers: usize,
    /// Replace folders of views that are there already.
    #[arg(long)]
    force: bool,
    /// How many folders may fail before the exit code says so.
    #[arg(long, value_name = "M", default_value_t = 0)]
    max_failed: usize,
    /// Print a line of JSON a folder, and one for all.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  tap render meshes --out views --channels color,mask,depth,normal,albedo --normal-format png16
  tap relight views --lighting three-point --out lit
  tap relight views/chair --lighting own.toml --out lit --sheet";

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let begun = Instant::now();
    let lighting = flag::lighting(&arguments.lighting)?;
    lighting.validate()?;
    let inputs = find(&arguments.views)?;
    let folders = inputs.iter().map(|input| arguments.out.join(&input.name));
    if let Some(folder) = folders
        .into_iter()
        .find(|folder| folder.exists() && !arguments.force)
    {
        bail!(
            "there are views already (--force replaces them): {}",
            folder.display()
        );
    }
    let cancel = interrupt::listen()?;
    let wishes = Wishes {
        json: arguments.json,
        timings: false,
        max_failed: arguments.max_failed,
    };
    let mut report = Report::new("relighting", wishes, &arguments.out, inputs.len(), begun, 0.0);
    let is_complete = each(arguments, &lighting, &inputs, &cancel, &mut |input, outcome| {
        report.add(input, &outcome);
    })?;
    if is_complete {
        return report.finish();
    }
    drop(report);
    Ok(ExitCode::from(interrupt::EXIT_CODE))
}

/// All folders of views below a folder, itself included.
fn find(views: &Path) -> Result<Vec<Input>> {
    let mut inputs = Vec::new();
    let itself = views.canonicalize().unwrap_or_else(|_| views.to_owned());
    let own_name = PathBuf::from(itself.file_name().unwrap_or_default());
    descend(views, &own_name, Path::new(""), &mut inputs)
        .with_context(|| format!("could not read {}", views.display()))?;
    if inputs.is_empty() {
        bail!("no {VIEWS_FILE_NAME} is in or below {}", views.display());
    }
    Ok(inputs)
}

fn descend(folder: &Path, own_name: &Path, below: &Path, inputs: &mut Vec<Input>) -> std::io::Result<()> {
    if folder.join(VIEWS_FILE_NAME).is_file() {
        let name = if below.as_os_str().is_empty() {
            own_name
        } else {
            below
        };
        inputs.push(Input {
            path: folder.to_owned(),
            root: folder.to_owned(),
            name: name.to_owned(),
        });
        return Ok(());
    }
    let mut entries = fs::read_dir(folder)?.collect::<std::io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if entry.file_type()?.is_dir() && !is_hidden {
            descend(&entry.path(), own_name, &below.join(entry.file_name()), inputs)?;
        }
    }
    Ok(())
}

/// Relights the folders on all workers; outcomes come in order. `false` if stopped before the end.
fn each(
    arguments: &Arguments,
    lighting: &Lighting,
    inputs: &[Input],
    cancel: &AtomicBool,
    on_outcome: &mut dyn FnMut(&Input, Outcome),
) -> Result<bool> {
    let num_workers = match arguments.workers {
        0 => thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    };
    let next = &AtomicUsize::new(0);
    let stop = &AtomicBool::new(false);
    let (sender, receiver) = crossbeam_channel::unbounded();
    thread::scope(|scope| {
        for _ in 0..num_workers {
            let sender = sender.clone();
            scope.spawn(move || {
                loop {
                    let input_idx = next.fetch_add(1, Ordering::Relaxed);
                    let is_over = cancel.load(Ordering::Relaxed) || stop.load(Ordering::Relaxed);
                    let Some(input) = inputs.get(input_idx).filter(|_| !is_over) else {
                        return;
                    };
                    let outcome = match guarded(|| relight_folder(arguments, lighting, input)) {
                        Ok(Ok(Ok(done))) => Ok(Outcome::Rendered(done)),
                        Ok(Ok(Err(failure))) | Err(failure) => Ok(Outcome::Failed(failure)),
                        Ok(Err(error)) => Err(error),
                    };
                    // The receiver is gone when an error has ended it.
                    let _ = sender.send((input_idx, outcome));
                }
            });
        }
        drop(sender);
        let mut waiting = BTreeMap::new();
        let mut num_done = 0;
        for (input_idx, outcome) in receiver {
            waiting.insert(input_idx, outcome);
            while let Some(outcome) = waiting.remove(&num_done) {
                match outcome {
                    Ok(outcome) => on_outcome(&inputs[num_done], outcome),
                    Err(error) => {
                        stop.store(true, Ordering::Relaxed);
                        return Err(error);
                    }
                }
                num_done += 1;
            }
        }
        Ok(num_done == inputs.len())
    })
}

/// # Errors
/// When nothing can be written any more. The inner error costs this folder alone.
fn relight_folder(
    arguments: &Arguments,
    lighting: &Lighting,
    input: &Input,
) -> Result<Result<Done, Failure>> {
    let mut clock = Clock::start();
    let mut timings = Timings::default();
    let views_file = match ViewsFile::read(&input.path) {
        Ok(file) => file,
        Err(error) => return Ok(Err(Failure::new(SkipReason::Malformed, format!("{error:#}")))),
    };
    let views_file = &mut { views_file };
    // White can be had of anything; colors only if they were drawn.
    let drawn = &views_file.recipe.lighting;
    let (material, normals) = (
        match lighting.material {
            MaterialChoice::White => MaterialChoice::White,
            MaterialChoice::Own => drawn.material,
        },
        drawn.normals,
    );
    let mut files = Files::new();
    let mut pictures = Vec::with_capacity(views_file.views.len());
    for (view_idx, entry) in views_file.views.iter_mut().enumerate() {
        let view = match load(
            &input.path,
            &views_file.recipe,
            views_file.output.normal_space,
            material,
            entry,
        ) {
            Ok(view) => view,
            Err(failure) => return Ok(Err(failure)),
        };
        let color = match relight(&view, lighting) {
            Ok(color) => color,
            Err(error) => return Ok(Err(Failure::new(SkipReason::RenderFailed, error.to_string()))),
        };
        let name = format!("view_{:03}.png", view_idx + 1);
        files.push((name.clone(), picture::color_png(view.size_px, &color)?));
        pictures.push(color);
        // All that was not lit anew stays.
        for file in entry.files().filter(|file| entry.file.as_deref() != Some(*file)) {
            match fs::read(input.path.join(file)) {
                Ok(bytes) => files.push((file.to_owned(), bytes)),
                Err(error) => {
                    return Ok(Err(Failure::new(
                        SkipReason::Unreadable,
                        format!("{file}: {error}"),
                    )));
                }
            }
        }
        entry.file = Some(name);
    }
    let poses = views_file.output.poses.iter();
    let mut others: Vec<&str> = poses
        .flat_map(|format| pose_file::file_names(*format).iter().copied())
        .collect();
    others.extend(views_file.points.as_ref().map(|_| POINTS_FILE_NAME));
    for name in others {
        match fs::read(input.path.join(name)) {
            Ok(bytes) => files.push((name.to_owned(), bytes)),
            Err(error) => {
                return Ok(Err(Failure::new(
                    SkipReason::Unreadable,
                    format!("{name}: {error}"),
                )));
            }
        }
    }
    let size_px = views_file.recipe.size_px;
    views_file.output.sheet |= arguments.sheet;
    if views_file.output.sheet {
        let pictures: Vec<&ColorImage> = pictures.iter().collect();
        files.push((
            SHEET_FILE_NAME.to_owned(),
            picture::sheet_png(size_px, &pictures)?,
        ));
    }
    views_file.recipe.lighting = Lighting {
        material,
        normals,
        ..lighting.clone()
    };
    views_file.recipe.channels.color = true;
    views_file.is_relit = true;
    files.push((VIEWS_FILE_NAME.to_owned(), views_file.to_bytes()?));
    timings.draw_s = clock.lap();
    let published = folder::publish(&files, &arguments.out.join(&input.name), arguments.force)?;
    timings.write_s = clock.lap();
    Ok(published.map(|()| Done {
        warnings: Vec::new(),
        num_views: pictures.len(),
        timings,
    }))
}

/// A view as it was before it became files, but for its color.
fn load(
    folder: &Path,
    recipe: &tap_render::RenderRecipe,
    normal_space: NormalSpace,
    material: MaterialChoice,
    entry: &ViewEntry,
) -> Result<View, Failure> {
    let damaged = |error: anyhow::Error| Failure::new(SkipReason::Malformed, format!("{error:#}"));
    let missing = |channel: &str| {
        let message = format!(
            "its views have no {channel}: draw them with --channels color,mask,depth,normal,albedo to relight them"
        );
        Failure::new("missing-channel", message)
    };
    let size_px = recipe.size_px;
    let png = |name: &str, color| -> Result<picture::Decoded> {
        let bytes = read(folder, name)?;
        picture::decode(&bytes, size_px, color).with_context(|| name.to_owned())
    };
    let mask_file = entry.mask_file.as_deref().ok_or_else(|| missing("mask"))?;
    let depth_file = entry.depth_file.as_deref().ok_or_else(|| missing("depth"))?;
    let normal_file = entry.normal_file.as_deref().ok_or_else(|| missing("normals"))?;

    let covered = png(mask_file, ColorType::Grayscale).map_err(damaged)?.values;
    let covered = covered.iter().map(|value| *value > 0).collect();
    let depth = match entry.depth {
        Some(range) => {
            let values = png(depth_file, ColorType::Grayscale).map_err(damaged)?.values;
            picture::depth_of(&values, range)
        }
        None => floats(folder, depth_file, size_px).map_err(damaged)?,
    };
    let normals = png(normal_file, ColorType::Rgb).map_err(damaged)?;
    let mut normals = picture::normals_of(&normals.values, normals.depth);
    let matrix = |row_major: &[f32; 16]| Mat4::from_cols_array(row_major).transpose();
    let matrices = ViewMatrices {
        view_from_object: matrix(&entry.view_from_object),
        clip_from_view: matrix(&entry.clip_from_view),
    };
    if normal_space == NormalSpace::Object {
        let turn = Mat3::from_mat4(matrices.view_from_object);
        for normal in &mut normals {
            *normal = (turn * Vec3::from(*normal)).to_array();
        }
    }
    let albedo = match material {
        MaterialChoice::White => vec![[u8::MAX; 3]; normals.len()],
        MaterialChoice::Own => {
            let albedo_file = entry.albedo_file.as_deref().ok_or_else(|| missing("albedo"))?;
            let values = png(albedo_file, ColorType::Rgb).map_err(damaged)?.values;
            let colors = values.chunks_exact(3);
            colors
                .map(|color| [0, 1, 2].map(|part| color[part] as u8))
                .collect()
        }
    };
    let pose = PoseDegrees {
        azimuth_deg: entry.azimuth_deg,
        elevation_deg: entry.elevation_deg,
        roll_deg: entry.roll_deg,
    };
    Ok(View {
        pose: pose.into(),
        matrices,
        size_px,
        color: None,
        mask: Mask::try_new(size_px, covered),
        depth: Some(depth),
        normal: Some(normals),
        albedo: Some(albedo),
        part: None,
        material: None,
    })
}

fn floats(folder: &Path, name: &str, size_px: u32) -> Result<Vec<f32>> {
    let side = size_px as usize;
    let array = npy::read_f32_array(&read(folder, name)?);
    match array {
        Some((shape, values)) if shape == [side, side] => Ok(values),
        _ => Err(anyhow!("no array of {side} by {side} 32-bit floats: {name}")),
    }
}

/// A file of the folder, and of no other: the name comes from a file that anybody may have written.
fn read(folder: &Path, name: &str) -> Result<Vec<u8>> {
    let is_plain = Path::new(name)
        .file_name()
        .is_some_and(|file_name| file_name == name);
    if !is_plain {
        bail!("not the name of a file: {name}");
    }
    fs::read(folder.join(name)).with_context(|| format!("could not read {name}"))
}
