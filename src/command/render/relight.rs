//! `tap relight`: views under another light, from their own normals, depth, albedo and masks; the mesh is not needed.
//! Their color says how the pixels at edges are mixed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use glam::{Mat3, Mat4, Vec3};
use png::ColorType;
use tap_cli::exit_code::INTERRUPTED;
use tap_cli::flag::{MaxSkippedFlag, ThreadsFlag};
use tap_cli::interrupt;
use tap_dataset::SkipReason;
use tap_render::{
    ColorImage, ColorKind, Lighting, Mask, MaterialChoice, Normals, PoseDegrees, RenderRecipe, View,
    ViewMatrices, relight, relight_antialiased,
};

use super::folder::{self, Files};
use super::input::Input;
use super::job::{Clock, Done, Failure, Timings};
use super::pipeline::{Outcome, guarded};
use super::pose_file;
use super::report::{Report, Wishes, Work};
use crate::command::flag;
use crate::views_file::{
    NormalSpace, POINTS_FILE_NAME, SHEET_FILE_NAME, VIEWS_FILE_NAME, ViewEntry, ViewsFile,
};
use crate::{npy, picture};

/// Light views anew, without their meshes.
///
/// The views must have been drawn with --channels color,mask,depth,normal,albedo (the last only for a lighting of the
/// mesh's own colors, which --lighting textured draws; views that were drawn white are lit white). Whether normals are flat
/// or smooth was decided then, too. The old color tells how pixels at edges are mixed; without it edges are jagged.
/// Everything but the color is copied.
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
    #[command(flatten)]
    threads: ThreadsFlag,
    /// Replace folders of views that are there already; refused where one holds anything else, or is one of VIEWS.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    max_skipped: MaxSkippedFlag,
    /// Print a line of JSON a folder, and one for all.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  tap render meshes --out views --lighting textured --channels color,mask,depth,normal,albedo
  tap relight views --lighting three-point --out lit
  tap relight views/chair --lighting own.toml --out lit --sheet";

/// Of views that tell of no colors.
const LIT_WHITE: &str = "drawn white, so lit white: draw it with --lighting textured for its colors";
/// Of views with other normals than the lighting asks for.
const LIT_FLAT: &str = "lit with flat normals: draw it with --set lighting.normals=smooth for smooth ones";
const LIT_SMOOTH: &str = "lit with smooth normals: draw it with --set lighting.normals=flat for flat ones";

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let begun = Instant::now();
    let lighting = flag::lighting(&arguments.lighting)?;
    let inputs = find(&arguments.views)?;
    refuse_existing(&inputs, arguments)?;
    let cancel = interrupt::listen()?;
    let wishes = Wishes {
        json: arguments.json,
        timings: false,
        max_failed: arguments.max_skipped.max_skipped,
    };
    let mut report = Report::new(Work::Relight, wishes, &arguments.out, inputs.len(), begun, 0.0);
    let is_complete = each(arguments, &lighting, &inputs, &cancel, &mut |input, outcome| {
        report.add(input, &outcome);
    })?;
    if is_complete {
        return report.finish();
    }
    drop(report);
    Ok(ExitCode::from(INTERRUPTED))
}

/// Before the first folder is lit: nothing may be in the way, or only views that may be replaced and are not themselves
/// to be lit.
fn refuse_existing(inputs: &[Input], arguments: &Arguments) -> Result<()> {
    let sources: BTreeSet<PathBuf> = inputs
        .iter()
        .filter_map(|input| input.path.canonicalize().ok())
        .collect();
    for input in inputs {
        let folder = arguments.out.join(&input.name);
        if folder.symlink_metadata().is_err() {
            continue;
        }
        if !arguments.force {
            bail!(
                "there are views already (--force replaces them): {}",
                folder.display()
            );
        }
        if folder.canonicalize().is_ok_and(|real| sources.contains(&real)) {
            bail!(
                "--force would remove an input; choose another output than {}",
                folder.display()
            );
        }
        folder::replaceable(&folder)?;
    }
    Ok(())
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
    let next = &AtomicUsize::new(0);
    let stop = &AtomicBool::new(false);
    let (sender, receiver) = crossbeam_channel::unbounded();
    thread::scope(|scope| {
        for _ in 0..arguments.threads.num_threads() {
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
    let Relit {
        mut views_file,
        pictures,
        kept: mut files,
        warnings,
    } = match relit(lighting, input) {
        Ok(relit) => relit,
        Err(failure) => return Ok(Err(failure)),
    };
    let size_px = views_file.recipe.size_px;
    for (entry, color) in views_file.views.iter_mut().zip(&pictures) {
        let name = entry.file.clone().unwrap_or_default();
        files.push((name, picture::color_png(size_px, color)?));
    }
    views_file.output.sheet |= arguments.sheet;
    if views_file.output.sheet {
        let pictures: Vec<&ColorImage> = pictures.iter().collect();
        files.push((
            SHEET_FILE_NAME.to_owned(),
            picture::sheet_png(size_px, &pictures)?,
        ));
    }
    files.push((VIEWS_FILE_NAME.to_owned(), views_file.to_bytes()?));
    timings.draw_s = clock.lap();
    let published = folder::publish(&files, &arguments.out.join(&input.name), arguments.force)?;
    timings.write_s = clock.lap();
    Ok(published.map(|()| Done {
        warnings,
        num_views: pictures.len(),
        timings,
    }))
}

/// A folder's views under another light.
struct Relit {
    /// As it says of them.
    views_file: ViewsFile,
    /// The new color of each.
    pictures: Vec<ColorImage>,
    /// The files that stay as they are.
    kept: Files,
    /// What of the light the views cannot show.
    warnings: Vec<String>,
}

/// Lights the views of a folder, and reads what stays of it.
fn relit(lighting: &Lighting, input: &Input) -> Result<Relit, Failure> {
    let mut views_file = ViewsFile::read(&input.path).map_err(|error| damaged(&error))?;
    if views_file.views.is_empty() {
        return Err(damaged(&anyhow!("it has no views")));
    }
    let drawn = Drawn::new(&input.path, &views_file);
    let (lighting, warnings) = drawn.possible(lighting);
    let mut kept = Files::new();
    let mut keep = |name: &str| {
        let bytes = read(&input.path, name)
            .map_err(|error| Failure::new(SkipReason::Unreadable, format!("{error:#}")))?;
        kept.push((name.to_owned(), bytes));
        Ok(())
    };
    let mut pictures = Vec::with_capacity(views_file.views.len());
    for (view_idx, entry) in views_file.views.iter_mut().enumerate() {
        pictures.push(drawn.relight(entry, &lighting)?);
        entry
            .files()
            .filter(|name| entry.file.as_deref() != Some(*name))
            .try_for_each(&mut keep)?;
        entry.file = Some(format!("view_{:03}.png", view_idx + 1));
    }
    let poses = views_file.output.poses.iter();
    poses
        .flat_map(|format| pose_file::file_names(*format).iter().copied())
        .chain(views_file.points.as_ref().map(|_| POINTS_FILE_NAME))
        .try_for_each(&mut keep)?;

    let of_light = [LIT_WHITE, LIT_FLAT, LIT_SMOOTH];
    let warnings: Vec<String> = warnings.into_iter().map(str::to_owned).collect();
    views_file
        .warnings
        .retain(|warning| !of_light.contains(&warning.as_str()));
    views_file.warnings.extend_from_slice(&warnings);
    views_file.recipe.lighting = lighting;
    views_file.recipe.channels.color = true;
    views_file.is_relit = true;
    Ok(Relit {
        views_file,
        pictures,
        kept,
        warnings,
    })
}

/// A folder of views as it was drawn.
struct Drawn {
    folder: PathBuf,
    recipe: RenderRecipe,
    normal_space: NormalSpace,
    /// Do the views know nothing of the mesh's own colors?
    is_white: bool,
}

impl Drawn {
    fn new(folder: &Path, file: &ViewsFile) -> Self {
        let is_lit_white = file.recipe.lighting.material == MaterialChoice::White;
        // What was lit white later has the colors still that it was drawn with.
        let has_albedo = file.is_relit && file.recipe.channels.albedo;
        Self {
            folder: folder.to_owned(),
            recipe: file.recipe.clone(),
            normal_space: file.output.normal_space,
            is_white: is_lit_white && !has_albedo,
        }
    }

    /// As much of a lighting as the views can show, and what of it they cannot.
    fn possible(&self, lighting: &Lighting) -> (Lighting, Vec<&'static str>) {
        let mut possible = lighting.clone();
        let mut warnings = Vec::new();
        if lighting.material == MaterialChoice::Own && self.is_white {
            possible.material = MaterialChoice::White;
            warnings.push(LIT_WHITE);
        }
        possible.normals = self.recipe.lighting.normals;
        if lighting.normals != possible.normals {
            warnings.push(match possible.normals {
                Normals::Flat => LIT_FLAT,
                Normals::Smooth => LIT_SMOOTH,
            });
        }
        (possible, warnings)
    }

    /// The color of a view under another light.
    fn relight(&self, entry: &ViewEntry, lighting: &Lighting) -> Result<ColorImage, Failure> {
        let taken = &self.recipe.lighting;
        let view = self.load(entry, lighting)?;
        let color = if view.color.is_some() {
            relight_antialiased(&view, taken, lighting)
        } else {
            relight(&view, lighting)
        };
        color.map_err(|error| Failure::new(SkipReason::RenderFailed, error.to_string()))
    }

    /// A view as it was before it became files, as far as another light has a use for it. Its color is there if it says
    /// how the samples of a pixel were mixed.
    fn load(&self, entry: &ViewEntry, lighting: &Lighting) -> Result<View, Failure> {
        let size_px = self.recipe.size_px;
        let missing = |channel: &str| {
            let message = format!(
                "its views have no {channel}: draw them with --channels color,mask,depth,normal,albedo to relight them"
            );
            Failure::new("missing-channel", message)
        };
        let mask_file = entry.mask_file.as_deref().ok_or_else(|| missing("mask"))?;
        let depth_file = entry.depth_file.as_deref().ok_or_else(|| missing("depth"))?;
        let normal_file = entry.normal_file.as_deref().ok_or_else(|| missing("normals"))?;

        let covered = self.png(mask_file, ColorType::Grayscale)?.values;
        let covered = covered.iter().map(|value| *value > 0).collect();
        let depth = match entry.depth {
            Some(range) => picture::depth_of(&self.png(depth_file, ColorType::Grayscale)?.values, range),
            None => floats(&self.folder, depth_file, size_px).map_err(|error| damaged(&error))?,
        };
        let normals = self.png(normal_file, ColorType::Rgb)?;
        let mut normals = picture::normals_of(&normals.values, normals.depth);
        let matrix = |row_major: &[f32; 16]| Mat4::from_cols_array(row_major).transpose();
        let matrices = ViewMatrices {
            view_from_object: matrix(&entry.view_from_object),
            clip_from_view: matrix(&entry.clip_from_view),
        };
        if self.normal_space == NormalSpace::Object {
            let turn = Mat3::from_mat4(matrices.view_from_object);
            for normal in &mut normals {
                *normal = (turn * Vec3::from(*normal)).to_array();
            }
        }
        let albedo = match entry.albedo_file.as_deref() {
            Some(albedo_file) if !self.is_white => Some(self.rgb(albedo_file)?),
            _ => None,
        };
        if lighting.material == MaterialChoice::Own && albedo.is_none() {
            return Err(missing("albedo"));
        }
        let taken = &self.recipe.lighting;
        let tells_of_mixture =
            self.recipe.samples > 1 && (taken.material == MaterialChoice::White || albedo.is_some());
        let color = match entry.file.as_deref().filter(|_| tells_of_mixture) {
            None => None,
            Some(file) => Some(match taken.color_kind() {
                ColorKind::Gray => {
                    let values = self.png(file, ColorType::Grayscale)?.values;
                    ColorImage::Gray(values.into_iter().map(|value| value as u8).collect())
                }
                ColorKind::Rgb => ColorImage::Rgb(self.rgb(file)?),
            }),
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
            color,
            mask: Mask::try_new(size_px, covered),
            depth: Some(depth),
            normal: Some(normals),
            albedo,
            part: None,
            material: None,
        })
    }

    fn png(&self, name: &str, color: ColorType) -> Result<picture::Decoded, Failure> {
        let decoded = read(&self.folder, name).and_then(|bytes| {
            picture::decode(&bytes, self.recipe.size_px, color).with_context(|| name.to_owned())
        });
        decoded.map_err(|error| damaged(&error))
    }

    fn rgb(&self, name: &str) -> Result<Vec<[u8; 3]>, Failure> {
        let values = self.png(name, ColorType::Rgb)?.values;
        let colors = values.as_chunks().0.iter();
        Ok(colors
            .map(|color: &[u16; 3]| color.map(|part| part as u8))
            .collect())
    }
}

fn damaged(error: &anyhow::Error) -> Failure {
    Failure::new(SkipReason::Malformed, format!("{error:#}"))
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
    let mut parts = Path::new(name).components().peekable();
    if parts.peek().is_none() || !parts.all(|part| matches!(part, Component::Normal(_))) {
        bail!("not the name of a file in its folder: {name}");
    }
    fs::read(folder.join(name)).with_context(|| format!("could not read {name}"))
}
