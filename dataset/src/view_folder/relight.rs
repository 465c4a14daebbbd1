//! [`relight`]: folders of views under another lighting, from their normals, depth, albedo and masks, without meshes.
//! Their color says how the samples of edge pixels were mixed.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::AtomicBool;

use glam::{Mat3, Mat4, Vec3};
use png::ColorType;
use tap_render::{
    ColorImage, ColorKind, Lighting, Mask, MaterialChoice, PoseDegrees, RenderRecipe, View, ViewMatrices,
    relight_antialiased,
};

use super::error::{Result, ViewFolderError};
use super::folder::{self, Files};
use super::input::Input;
use super::job::{Clock, Failure, Timings, WrittenViews};
use super::out_lock::OutLock;
use super::render::{Outcome, ViewFolderEvent};
use super::views_file::{
    NormalSpace, POINTS_FILE_NAME, SHEET_FILE_NAME, VIEWS_FILE_NAME, ViewEntry, ViewsFile,
};
use super::{image_file, pose_file};
use crate::error::error_chain;
use crate::manifest::SkipReason;
use crate::npy;
use crate::pipeline::{Delivery, Limits, OneStage, num_threads, run};

/// Folders in flight per thread.
const FOLDERS_PER_WORKER: usize = 4;

/// Warning of views without colors of their own.
const LIT_WHITE: &str = "drawn white, so lit white: draw it with --lighting textured for its colors";
/// Warnings of views with other normals than the lighting asks for.
const LIT_FLAT: &str = "lit with flat normals: draw it with --set lighting.normals=smooth for smooth ones";
const LIT_SMOOTH: &str = "lit with smooth normals: draw it with --set lighting.normals=flat for flat ones";

/// Settings of [`relight`], besides the lighting.
#[derive(Debug, Clone)]
pub struct RelightViewsOptions {
    /// Folder of the new folders of views.
    pub out: PathBuf,
    /// Also write a sheet where there was none.
    pub sheet: bool,
    /// Replace existing folders of views.
    pub force: bool,
    /// Threads; 0 means one per core.
    pub workers: usize,
}

/// Relights folders of views; `false` if cancelled. Everything but the color is copied.
///
/// # Errors
/// When an output folder must not be replaced, or nothing can be written any more. A folder that cannot be relit is an
/// [`Outcome`].
pub fn relight(
    inputs: &[Input],
    lighting: &Lighting,
    options: &RelightViewsOptions,
    cancel: &AtomicBool,
    on_event: &mut dyn FnMut(ViewFolderEvent<'_>),
) -> Result<bool> {
    let _lock = OutLock::take(&options.out)?;
    check_existing(inputs, options)?;
    let num_threads = num_threads(options.workers);
    let limits = Limits {
        num_threads,
        max_items: FOLDERS_PER_WORKER * num_threads,
        max_bytes: u64::MAX,
    };
    let job = OneStage::new(
        inputs.len(),
        |item, _: &dyn Fn(Infallible)| -> Result<Outcome> {
            Ok(relight_folder(&inputs[item], lighting, options)?.into())
        },
        |_, message| Ok(Outcome::Failed(Failure::new(SkipReason::Crashed, message))),
    );
    run(&job, limits, cancel, &mut |delivery| {
        match delivery {
            Delivery::Event(event) => match event {},
            Delivery::Output(item, outcome) => on_event(ViewFolderEvent::Done {
                input: &inputs[item],
                outcome,
            }),
        }
        Ok(())
    })
}

/// Checks all output folders before the first is written: none may exist, except for replaceable views that are no input.
fn check_existing(inputs: &[Input], options: &RelightViewsOptions) -> Result<()> {
    let sources: BTreeSet<PathBuf> = inputs
        .iter()
        .filter_map(|input| input.path.canonicalize().ok())
        .collect();
    for input in inputs {
        let folder = options.out.join(&input.name);
        if folder.symlink_metadata().is_err() {
            continue;
        }
        if !options.force {
            return Err(ViewFolderError::Exists {
                remedy: "--force replaces them",
                path: folder,
            });
        }
        if folder.canonicalize().is_ok_and(|real| sources.contains(&real)) {
            return Err(ViewFolderError::IsInput { path: folder });
        }
        folder::replaceable(&folder)?;
    }
    Ok(())
}

/// Finds all folders of views in a folder, itself included, sorted by name.
///
/// # Errors
/// When a folder cannot be read, or holds no views.
pub fn find_views(views: &Path) -> Result<Vec<Input>> {
    let mut inputs = Vec::new();
    let itself = views.canonicalize().unwrap_or_else(|_| views.to_owned());
    let own_name = PathBuf::from(itself.file_name().unwrap_or_default());
    descend(views, &own_name, Path::new(""), &mut inputs).map_err(ViewFolderError::io("read", views))?;
    if inputs.is_empty() {
        return Err(ViewFolderError::NoViews {
            path: views.to_owned(),
        });
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

/// # Errors
/// When no folder can be written any more. The inner error concerns this folder alone.
fn relight_folder(
    input: &Input,
    lighting: &Lighting,
    options: &RelightViewsOptions,
) -> Result<Result<WrittenViews, Failure>> {
    let mut clock = Clock::start();
    let mut timings = Timings::default();
    let Relit {
        mut views_file,
        images,
        kept: mut files,
        warnings,
    } = match relit(lighting, input) {
        Ok(relit) => relit,
        Err(failure) => return Ok(Err(failure)),
    };
    let size_px = views_file.recipe.size_px;
    for (entry, color) in views_file.views.iter_mut().zip(&images) {
        let name = entry.file.clone().unwrap_or_default();
        files.push((name, image_file::color_png(size_px, color)?));
    }
    views_file.output.sheet |= options.sheet;
    if views_file.output.sheet {
        let images: Vec<&ColorImage> = images.iter().collect();
        files.push((
            SHEET_FILE_NAME.to_owned(),
            image_file::sheet_png(size_px, &images)?,
        ));
    }
    files.push((VIEWS_FILE_NAME.to_owned(), views_file.to_bytes()));
    timings.draw_s = clock.lap();
    let published = folder::publish(&files, &options.out.join(&input.name), options.force)?;
    timings.write_s = clock.lap();
    Ok(published.map(|()| WrittenViews {
        warnings,
        num_views: images.len(),
        num_empty: 0,
        timings,
    }))
}

/// The relit views of a folder.
struct Relit {
    views_file: ViewsFile,
    /// New color of each view.
    images: Vec<ColorImage>,
    /// Files that are copied.
    kept: Files,
    /// What the views cannot show of the lighting.
    warnings: Vec<String>,
}

/// Relights the views of a folder, and reads the files to copy.
fn relit(lighting: &Lighting, input: &Input) -> Result<Relit, Failure> {
    let mut views_file = ViewsFile::read(&input.path).map_err(|error| malformed(error_chain(&error)))?;
    if views_file.views.is_empty() {
        return Err(malformed("it has no views"));
    }
    let stored = StoredViews::new(&input.path, &views_file);
    let (lighting, warnings) = stored.possible(lighting);
    let mut kept = Files::new();
    let mut keep = |name: &str| {
        let bytes =
            read(&input.path, name).map_err(|message| Failure::new(SkipReason::Unreadable, message))?;
        kept.push((name.to_owned(), bytes));
        Ok(())
    };
    let mut images = Vec::with_capacity(views_file.views.len());
    for (view_idx, entry) in views_file.views.iter_mut().enumerate() {
        images.push(stored.relight(entry, &lighting)?);
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

    let lighting_warnings = [LIT_WHITE, LIT_FLAT, LIT_SMOOTH];
    let warnings: Vec<String> = warnings.into_iter().map(str::to_owned).collect();
    views_file
        .warnings
        .retain(|warning| !lighting_warnings.contains(&warning.as_str()));
    views_file.warnings.extend_from_slice(&warnings);
    views_file.recipe.lighting = lighting;
    views_file.recipe.channels.color = true;
    views_file.is_relit = true;
    Ok(Relit {
        views_file,
        images,
        kept,
        warnings,
    })
}

/// A folder of views, and how it was rendered.
struct StoredViews {
    folder: PathBuf,
    recipe: RenderRecipe,
    normal_space: NormalSpace,
    /// Whether the views lack the colors of the mesh.
    is_white: bool,
}

impl StoredViews {
    fn new(folder: &Path, file: &ViewsFile) -> Self {
        let is_lit_white = file.recipe.lighting.material == MaterialChoice::White;
        // Views that were relit white later still have the albedo that they were rendered with.
        let has_albedo = file.is_relit && file.recipe.channels.albedo;
        Self {
            folder: folder.to_owned(),
            recipe: file.recipe.clone(),
            normal_space: file.output.normal_space,
            is_white: is_lit_white && !has_albedo,
        }
    }

    /// The lighting as far as the views can show it, with warnings of the rest.
    fn possible(&self, lighting: &Lighting) -> (Lighting, Vec<&'static str>) {
        let mut possible = lighting.clone();
        let mut warnings = Vec::new();
        if lighting.material == MaterialChoice::Own && self.is_white {
            possible.material = MaterialChoice::White;
            warnings.push(LIT_WHITE);
        }
        possible.normals = self.recipe.lighting.normals;
        if lighting.normals.is_smooth() != possible.normals.is_smooth() {
            warnings.push(if possible.normals.is_smooth() {
                LIT_SMOOTH
            } else {
                LIT_FLAT
            });
        }
        (possible, warnings)
    }

    /// Color of a view under another lighting.
    fn relight(&self, entry: &ViewEntry, lighting: &Lighting) -> Result<ColorImage, Failure> {
        let rendered_under = &self.recipe.lighting;
        let view = self.load(entry, lighting)?;
        let color = if view.color.is_some() {
            relight_antialiased(&view, rendered_under, lighting)
        } else {
            tap_render::relight(&view, lighting)
        };
        color.map_err(|error| Failure::new(SkipReason::RenderFailed, error.to_string()))
    }

    /// Decodes the channels of a view that the lighting needs; color only if it says how the samples of a pixel were
    /// mixed.
    fn load(&self, entry: &ViewEntry, lighting: &Lighting) -> Result<View, Failure> {
        let size_px = self.recipe.size_px;
        let missing = |channel: &str| {
            let message = format!(
                "its views have no {channel}: render them with --channels color,mask,depth,normal,albedo to relight them"
            );
            Failure::new("missing-channel", message)
        };
        let mask_file = entry.mask_file.as_deref().ok_or_else(|| missing("mask"))?;
        let depth_file = entry.depth_file.as_deref().ok_or_else(|| missing("depth"))?;
        let normal_file = entry.normal_file.as_deref().ok_or_else(|| missing("normals"))?;

        let covered = self.png(mask_file, ColorType::Grayscale)?.values;
        let covered = covered.iter().map(|value| *value > 0).collect();
        let depth = match entry.depth {
            Some(range) => image_file::depth_of(&self.png(depth_file, ColorType::Grayscale)?.values, range),
            None => floats(&self.folder, depth_file, size_px).map_err(malformed)?,
        };
        let normals = self.png(normal_file, ColorType::Rgb)?;
        let mut normals = image_file::normals_of(&normals.values, normals.depth);
        let matrix = |row_major: &[f32; 16]| Mat4::from_cols_array(row_major).transpose();
        let matrices = ViewMatrices {
            view_from_object: matrix(&entry.view_from_object),
            clip_from_view: matrix(&entry.clip_from_view),
        };
        if self.normal_space == NormalSpace::Object {
            let view_from_object = Mat3::from_mat4(matrices.view_from_object);
            for normal in &mut normals {
                *normal = (view_from_object * Vec3::from(*normal)).to_array();
            }
        }
        let albedo = match entry.albedo_file.as_deref() {
            Some(albedo_file) if !self.is_white => Some(self.rgb(albedo_file)?),
            _ => None,
        };
        if lighting.material == MaterialChoice::Own && albedo.is_none() {
            return Err(missing("albedo"));
        }
        let rendered_under = &self.recipe.lighting;
        let shows_mixture =
            self.recipe.samples > 1 && (rendered_under.material == MaterialChoice::White || albedo.is_some());
        let color = match entry.file.as_deref().filter(|_| shows_mixture) {
            None => None,
            Some(file) => Some(match rendered_under.color_kind() {
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

    fn png(&self, name: &str, color: ColorType) -> Result<image_file::Decoded, Failure> {
        let bytes = read(&self.folder, name).map_err(malformed)?;
        image_file::decode(&bytes, self.recipe.size_px, color)
            .map_err(|error| malformed(format!("{name}: {}", error_chain(&error))))
    }

    fn rgb(&self, name: &str) -> Result<Vec<[u8; 3]>, Failure> {
        let values = self.png(name, ColorType::Rgb)?.values;
        let colors = values.as_chunks().0.iter();
        Ok(colors
            .map(|color: &[u16; 3]| color.map(|part| part as u8))
            .collect())
    }
}

fn malformed(message: impl Into<String>) -> Failure {
    Failure::new(SkipReason::Malformed, message)
}

/// A square array of 32-bit floats.
///
/// # Errors
/// The message of the failure.
fn floats(folder: &Path, name: &str, size_px: u32) -> Result<Vec<f32>, String> {
    let side = size_px as usize;
    let array = npy::decode_f32(&read(folder, name)?);
    match array {
        Some((shape, values)) if shape == [side, side] => Ok(values),
        _ => Err(format!("no array of {side} by {side} 32-bit floats: {name}")),
    }
}

/// Reads a file of the folder. The name comes from a file that anybody may have written, so it must not lead outside.
///
/// # Errors
/// The message of the failure.
fn read(folder: &Path, name: &str) -> Result<Vec<u8>, String> {
    let mut parts = Path::new(name).components().peekable();
    if parts.peek().is_none() || !parts.all(|part| matches!(part, Component::Normal(_))) {
        return Err(format!("not the name of a file in its folder: {name}"));
    }
    fs::read(folder.join(name)).map_err(|error| format!("could not read {name}: {error}"))
}
