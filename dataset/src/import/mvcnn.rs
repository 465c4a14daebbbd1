//! MVCNN's finished pictures, 12 or 80 views an object, JPEG or PNG, with the points of the same objects.
//!
//! - `{train,val,test}/model_000003_001.jpg`: `ShapeNet55` as SHREC 2016 numbers it, classes in `train.csv` and `val.csv`
//! - `<class>/{train,test}/<name>_001.jpg`: `ModelNet40`; any name that ends in the view's number
//!
//! Points come from a folder with the same names, as TAP has it beside its pictures (`pointclouds/train/model_000003.ply`), or
//! from the meshes themselves. Poses are those of the published rig; the framing, which no file states, follows from where the
//! silhouette is. A row whose points don't fall into its own masks is not made. Pictures are stored without loss as they are
//! decoded; a mask is what is not white, as TAP's code has it (`docs/conventions.md`, "Published MVCNN views").

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use glam::Vec3;
use image::{DynamicImage, ImageReader, Limits};
use sha2::{Digest, Sha256};
use tap_render::import::{ImportOptions as MeshOptions, MeshFormat, NoAssets, import_object};
use tap_render::{MVCNN_DISTANCE_DIAGONALS, Projection, Rig, ViewMatrices, row_major};

use super::cloud::{Cloud, Defect};
use super::text::read_object;
use super::{CloudReader, ImportSet, ListedCloud, Pictures, PublishedSet, RowViews, choose, entries};
use crate::error::{DatasetError, ImportError, Result, error_chain};
use crate::image::{MAX_IMAGE_SIZE_PX, Mask1Bit, encode_gray_png, encode_rgb_png, luma};
use crate::manifest::SkipReason;
use crate::recipe::DEFAULT_NUM_POINTS;
use crate::reprojection::{MIN_POINTS_IN_MASK, points_in_mask};
use crate::schema::{ObjectId, SampleView, Split};
use crate::sha256;
use crate::source::{UNLABELED, synsets_in};
use crate::surface::{Sampler, sample_surface};

const SET: ImportSet = ImportSet::Mvcnn;
/// Folders of pictures, by their published names.
const FOLDERS: [(&str, &str); 7] = [
    ("shapenet55v1", "shapenet55v1"),
    ("shapenet55v2", "shapenet55v2"),
    ("shapenet55v1png", "shapenet55v1png"),
    ("shapenet55v2png", "shapenet55v2png"),
    ("modelnet40v1", "modelnet40v1"),
    ("modelnet40v2", "modelnet40v2"),
    ("modelnet40_images_new_12x", "modelnet40_images_new_12x"),
];
/// Folder of points beside that of pictures, as TAP has it.
const POINTS: &str = "pointclouds";
const PICTURE_ENDINGS: [&str; 3] = ["jpg", "jpeg", "png"];
const POINT_ENDINGS: [&str; 5] = ["ply", "npy", "xyz", "txt", "pts"];
const MESH_ENDINGS: [&str; 3] = ["off", "obj", "stl"];
/// JPEG leaves traces above this value around a silhouette; the shading stays below it.
const BRIGHTEST_SHADE: u8 = 229;
const WHITE: u8 = 255;

/// Pictures of an object: file names without the number, and the numbers.
#[derive(Debug, Clone)]
struct PictureFiles {
    /// Relative to the source.
    folder: PathBuf,
    prefix: String,
    ending: String,
    /// As they are written, sorted.
    numbers: Vec<String>,
}

impl PictureFiles {
    fn path(&self, src: &Path, view_idx: usize) -> PathBuf {
        let Self {
            prefix,
            ending,
            numbers,
            ..
        } = self;
        src.join(&self.folder)
            .join(format!("{prefix}{}.{ending}", numbers[view_idx]))
    }
}

/// An object of a folder of pictures.
struct Found {
    split: Split,
    /// Folder of its class, in the layout that has them.
    class: Option<String>,
    name: String,
    files: PictureFiles,
}

pub(super) fn open(src: &Path, requested: Option<&str>, points: Option<&Path>) -> Result<PublishedSet> {
    let is_there = |folder: &&str| find(&src.join(folder), src).is_some();
    // A published folder would look like a class, if its parent were taken for the set.
    let folder = match choose(SET, &FOLDERS, requested, is_there, src)? {
        Some((_, folder)) => src.join(folder),
        None => src.to_owned(),
    };
    let Some(found) = find(&folder, src) else {
        let expected = "{train,val,test}/<name>_001.jpg or <class>/{train,test}/<name>_001.jpg";
        return Err(SET.not_found(expected.to_owned(), &folder));
    };
    let points = points_folder(&folder, points)?;
    let num_views = most_common(found.iter().map(|found| found.files.numbers.len()));
    let (rig_name, rig) = rig_of(num_views, &folder)?;
    let synsets = synsets(&folder)?;
    let (mut objects, mut skipped) = (Vec::new(), Vec::new());
    let mut reader = PictureReader {
        src: src.to_owned(),
        rig,
        image_size_px: 0,
        pictures: Vec::new(),
        points: Vec::new(),
    };
    for found in found {
        let object = found.listed(&synsets, reader.pictures.len())?;
        let within = found
            .files
            .folder
            .strip_prefix(folder.strip_prefix(src).unwrap_or(Path::new("")));
        let of_points = points
            .join(within.unwrap_or(&found.files.folder))
            .join(&found.name);
        match found.with_points(num_views, &of_points) {
            Ok(of_points) => {
                objects.push(object);
                reader.pictures.push(found.files);
                reader.points.push(of_points);
            }
            Err(defect) => skipped.push(object.skipped(defect)),
        }
    }
    if let Some(first) = reader.pictures.first() {
        let path = first.path(src, 0);
        let picture = decode(&path).map_err(|Defect { message, .. }| {
            DatasetError::Import(ImportError::Malformed {
                detail: message,
                path,
            })
        })?;
        reader.image_size_px = picture.size_px;
    }
    let classes: BTreeSet<&str> = objects
        .iter()
        .map(|object: &ListedCloud| object.id.category())
        .collect();
    Ok(PublishedSet {
        set: SET,
        variant: format!("{num_views} views"),
        format: "pictures",
        classes: classes.into_iter().map(str::to_owned).collect(),
        objects,
        skipped,
        missing: Vec::new(),
        parts: Vec::new(),
        notes: vec![format!("points from {}", points.display())],
        pictures: Some(Pictures {
            num_views,
            image_size_px: reader.image_size_px,
            rig: rig_name,
        }),
        reader: Box::new(reader),
    })
}

/// The published rig of so many views.
fn rig_of(num_views: usize, folder: &Path) -> Result<(&'static str, Rig)> {
    match num_views {
        12 => Ok(("mvcnn12", Rig::mvcnn12())),
        80 => Ok(("dodecahedron80", Rig::dodecahedron80())),
        _ => Err(DatasetError::Import(ImportError::Malformed {
            detail: format!("most objects have {num_views} pictures; the published rigs have 12 and 80"),
            path: folder.to_owned(),
        })),
    }
}

impl Found {
    fn listed(&self, synsets: &BTreeMap<String, String>, place: usize) -> Result<ListedCloud> {
        let number = self.name.rsplit('_').next().unwrap_or_default();
        let class = self.class.as_ref().or_else(|| synsets.get(number));
        let PictureFiles {
            folder,
            prefix,
            ending,
            ..
        } = &self.files;
        Ok(ListedCloud {
            id: ObjectId::try_new(class.map_or(UNLABELED, String::as_str), &self.name)?,
            split: self.split,
            path: folder.join(format!("{prefix}*.{ending}")).display().to_string(),
            bytes: 0,
            place: (place, 0),
        })
    }

    /// The file of its points, if it has that and all pictures.
    fn with_points(&self, num_views: usize, points: &Path) -> Result<PathBuf, Defect> {
        let missing = |message| Err(Defect::new(SkipReason::Missing, message));
        if self.files.numbers.len() != num_views {
            return missing(format!(
                "{} of {num_views} pictures are there",
                self.files.numbers.len()
            ));
        }
        let endings = [&POINT_ENDINGS[..], &MESH_ENDINGS].concat().join("|");
        point_file(points).map_or_else(
            || missing(format!("no points: {}.{endings}", points.display())),
            Ok,
        )
    }
}

/// All objects of a folder in either layout; `None` if it is in none.
fn find(folder: &Path, src: &Path) -> Option<Vec<Found>> {
    let mut found = Vec::new();
    for (name, path) in folders(folder) {
        if let Some(split) = split_of(&name) {
            add_folder(&path, src, split, None, &mut found);
            continue;
        }
        for (of_split, path) in folders(&path) {
            if let Some(split) = split_of(&of_split) {
                add_folder(&path, src, split, Some(&name), &mut found);
            }
        }
    }
    found.sort_by(|a, b| {
        (a.split, &a.class, &a.name, &a.files.ending).cmp(&(b.split, &b.class, &b.name, &b.files.ending))
    });
    (!found.is_empty()).then_some(found)
}

fn split_of(folder: &str) -> Option<Split> {
    Split::ALL.into_iter().find(|split| split.as_str() == folder)
}

/// Folders of a folder, sorted.
fn folders(folder: &Path) -> Vec<(String, PathBuf)> {
    let mut folders = entries(folder);
    folders.retain(|(_, path)| path.is_dir());
    folders
}

/// Groups the pictures of a folder by what stands before their number.
fn add_folder(folder: &Path, src: &Path, split: Split, class: Option<&str>, found: &mut Vec<Found>) {
    let mut numbers: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
        let Ok(file) = entry.file_name().into_string() else {
            continue;
        };
        let Some((stem, ending)) = file.rsplit_once('.') else {
            continue;
        };
        if !PICTURE_ENDINGS.contains(&ending.to_ascii_lowercase().as_str()) {
            continue;
        }
        let prefix = stem.trim_end_matches(|c: char| c.is_ascii_digit());
        if prefix.len() < stem.len() {
            let number = stem[prefix.len()..].to_owned();
            numbers
                .entry((prefix.to_owned(), ending.to_owned()))
                .or_default()
                .push(number);
        }
    }
    for ((prefix, ending), mut numbers) in numbers {
        numbers.sort_by_key(|number| (number.len(), number.clone()));
        found.push(Found {
            split,
            class: class.map(str::to_owned),
            name: object_name(&prefix).to_owned(),
            files: PictureFiles {
                folder: folder.strip_prefix(src).unwrap_or(folder).to_owned(),
                prefix,
                ending,
                numbers,
            },
        });
    }
}

/// `model_000003` of `model_000003_`, `bed_0001` of `bed_0001.obj.shaded_v`.
fn object_name(prefix: &str) -> &str {
    let name = prefix
        .strip_suffix("_v")
        .unwrap_or(prefix)
        .trim_end_matches(['_', '-', '.']);
    name.split_once('.').map_or(name, |(name, _)| name)
}

fn most_common(counts: impl Iterator<Item = usize>) -> usize {
    let mut uses: BTreeMap<usize, usize> = BTreeMap::new();
    for count in counts {
        *uses.entry(count).or_default() += 1;
    }
    uses.into_iter()
        .max_by_key(|&(_, uses)| uses)
        .map_or(0, |(count, _)| count)
}

/// Class of each numbered model, from the lists in the folder or beside it.
fn synsets(folder: &Path) -> Result<BTreeMap<String, String>> {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    for folder in folder.ancestors().take(2) {
        let synsets = synsets_in(folder)?;
        if !synsets.is_empty() {
            return Ok(synsets);
        }
    }
    Ok(BTreeMap::new())
}

/// The folder of points: the given one, the one beside the pictures, or the pictures' own, which may hold meshes.
fn points_folder(folder: &Path, points: Option<&Path>) -> Result<PathBuf> {
    match points {
        Some(points) if points.is_dir() => Ok(points.to_owned()),
        Some(points) => Err(DatasetError::Import(ImportError::Malformed {
            detail: "no folder of points".to_owned(),
            path: points.to_owned(),
        })),
        None => {
            let own = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
            let beside = [
                Some(own.join(POINTS)),
                own.parent().map(|parent| parent.join(POINTS)),
            ];
            Ok(beside
                .into_iter()
                .flatten()
                .find(|points| points.is_dir())
                .unwrap_or_else(|| folder.to_owned()))
        }
    }
}

fn point_file(stem: &Path) -> Option<PathBuf> {
    let with = |ending: &&str| {
        let mut path = stem.as_os_str().to_owned();
        path.push(format!(".{ending}"));
        PathBuf::from(path)
    };
    POINT_ENDINGS
        .iter()
        .chain(&MESH_ENDINGS)
        .map(with)
        .find(|path| path.is_file())
}

#[derive(Debug)]
struct PictureReader {
    src: PathBuf,
    rig: Rig,
    image_size_px: u32,
    pictures: Vec<PictureFiles>,
    points: Vec<PathBuf>,
}

impl CloudReader for PictureReader {
    fn read(&self, object: &ListedCloud) -> Result<Result<Cloud, Defect>> {
        let path = &self.points[object.place.0];
        let named =
            |defect: Defect| Defect::new(defect.reason, format!("{}: {}", path.display(), defect.message));
        Ok(read_points(path, &object.id).map_err(named))
    }

    fn views(
        &self,
        object: &ListedCloud,
        points: &[[f32; 3]],
        is_encoded: bool,
    ) -> Result<Result<RowViews, Defect>> {
        let pictures = &self.pictures[object.place.0];
        let mut hasher = Sha256::new();
        let vectors: Vec<Vec3> = points.iter().copied().map(Vec3::from_array).collect();
        let mut views = Vec::with_capacity(pictures.numbers.len());
        for (view_idx, pose) in self.rig.poses().iter().enumerate() {
            let path = pictures.path(&self.src, view_idx);
            let view = decode(&path).and_then(|picture| {
                hasher.update(picture.sha256);
                if picture.size_px != self.image_size_px {
                    let message = format!("{} pixels a side, unlike {}", picture.size_px, self.image_size_px);
                    return Err(Defect::new(SkipReason::Malformed, message));
                }
                picture.view(points, &vectors, pose, is_encoded)
            });
            match view {
                Ok(view) => views.push(view),
                Err(defect) => {
                    let name = path.file_name().unwrap_or_default().display();
                    return Ok(Err(Defect::new(
                        defect.reason,
                        format!("{name}: {}", defect.message),
                    )));
                }
            }
        }
        Ok(Ok(RowViews {
            views,
            assets_sha256: Some(sha256::hex(&hasher.finalize())),
        }))
    }
}

/// Points of a file of points, or sampled from a mesh.
fn read_points(path: &Path, id: &ObjectId) -> Result<Cloud, Defect> {
    let bytes = read_object(path)?;
    let ending = path
        .extension()
        .and_then(|ending| ending.to_str())
        .unwrap_or_default();
    let format = MeshFormat::from_extension(ending)
        .ok_or_else(|| Defect::new(SkipReason::UnsupportedFormat, "neither points nor a mesh"))?;
    if MESH_ENDINGS.contains(&ending) {
        let mesh = import_object(format, &bytes, &NoAssets, &MeshOptions::default())
            .map_err(|error| Defect::new(SkipReason::from(&error), error_chain(&error)))?;
        let hash: [u8; 32] = Sha256::digest(id.as_str()).into();
        let seed = u64::from_le_bytes(*hash.first_chunk().expect("a SHA-256 hash has 32 bytes"));
        let samples = sample_surface(&mesh, Sampler::default(), DEFAULT_NUM_POINTS, seed);
        let in_file = |point: &Vec3| mesh.origin() + point.as_dvec3();
        return Ok(Cloud {
            points: samples.points.iter().map(in_file).collect(),
            normals: Some(samples.normals.iter().map(|normal| normal.as_dvec3()).collect()),
            sha256: sha256::of_bytes(&bytes),
            ..Cloud::default()
        });
    }
    Cloud::of_points_file(format, &bytes)
}

/// A decoded picture.
struct Picture {
    size_px: u32,
    colors: Vec<[u8; 3]>,
    sha256: [u8; 32],
}

/// Reads a square picture; what is transparent is white.
fn decode(path: &Path) -> Result<Picture, Defect> {
    let malformed = |message: String| Defect::new(SkipReason::Malformed, message);
    let bytes = read_object(path)?;
    let mut reader = ImageReader::new(Cursor::new(&bytes))
        .with_guessed_format()
        .map_err(|e| malformed(e.to_string()))?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_IMAGE_SIZE_PX);
    limits.max_image_height = Some(MAX_IMAGE_SIZE_PX);
    reader.limits(limits);
    let image = reader
        .decode()
        .map_err(|e| malformed(format!("it cannot be decoded: {e}")))?;
    if image.width() != image.height() {
        return Err(malformed(format!(
            "{} x {} pixels, which is not square",
            image.width(),
            image.height()
        )));
    }
    let colors = match &image {
        DynamicImage::ImageLuma8(gray) => gray.as_raw().iter().map(|&gray| [gray; 3]).collect(),
        DynamicImage::ImageRgb8(rgb) => rgb.as_raw().as_chunks().0.to_vec(),
        other => other
            .to_rgba8()
            .pixels()
            .map(|pixel| over_white(pixel.0))
            .collect(),
    };
    Ok(Picture {
        size_px: image.width(),
        colors,
        sha256: Sha256::digest(&bytes).into(),
    })
}

fn over_white([red, green, blue, alpha]: [u8; 4]) -> [u8; 3] {
    let alpha = u32::from(alpha);
    [red, green, blue].map(|value| ((u32::from(value) * alpha + 255 * (255 - alpha) + 127) / 255) as u8)
}

impl Picture {
    /// The view, with the matrices that follow from pose, points and silhouette.
    fn view(
        &self,
        points: &[[f32; 3]],
        vectors: &[Vec3],
        pose: &tap_render::Pose,
        is_encoded: bool,
    ) -> Result<SampleView, Defect> {
        let size_px = self.size_px;
        let values: Vec<u8> = self.colors.iter().copied().map(luma).collect();
        let covered: Vec<bool> = values.iter().map(|&value| value != WHITE).collect();
        if covered.iter().all(|&covered| covered) {
            return Err(Defect::new(
                SkipReason::Malformed,
                "nothing of it is white; expected a white background",
            ));
        }
        if !covered.contains(&true) {
            return Err(Defect::new(SkipReason::EmptyView, "it shows nothing"));
        }
        let mut shown: Vec<bool> = values.iter().map(|&value| value <= BRIGHTEST_SHADE).collect();
        if !shown.contains(&true) {
            shown.clone_from(&covered);
        }
        let projection = Projection::Perspective {
            distance_diagonals: MVCNN_DISTANCE_DIAGONALS,
        };
        let matrices = ViewMatrices::of_picture(vectors, pose, projection, size_px, &shown)
            .ok_or_else(|| Defect::new(SkipReason::RenderFailed, "no camera sees its points so"))?;
        let is_gray = self
            .colors
            .iter()
            .all(|[red, green, blue]| red == green && green == blue);
        let image_png = match (is_encoded, is_gray) {
            (false, _) => Ok(Vec::new()),
            (true, true) => encode_gray_png(size_px, &values),
            (true, false) => encode_rgb_png(size_px, &self.colors),
        };
        let view = SampleView {
            image_png: image_png.map_err(|e| Defect::new(SkipReason::Malformed, error_chain(&e)))?,
            mask: Mask1Bit::from_covered(size_px, &covered),
            view_from_object: row_major(&matrices.view_from_object),
            clip_from_view: row_major(&matrices.clip_from_view),
            gbuffer: None,
        };
        let fraction = points_in_mask(points, &view);
        if fraction < MIN_POINTS_IN_MASK {
            let percent = 100.0 * fraction;
            return Err(Defect::new(
                SkipReason::Reprojection,
                format!(
                    "only {percent:.1} % of its points lie where it shows something: other points, another up axis or rig"
                ),
            ));
        }
        Ok(view)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_where_the_number_begins() {
        for (prefix, name) in [
            ("model_000003_", "model_000003"),
            ("night_stand_0001_", "night_stand_0001"),
            ("bed_0001.obj.shaded_v", "bed_0001"),
            ("chair-", "chair"),
        ] {
            assert_eq!(object_name(prefix), name);
        }
    }

    #[test]
    fn what_is_transparent_is_white() {
        assert_eq!(over_white([10, 20, 30, 0]), [255; 3]);
        assert_eq!(over_white([10, 20, 30, 255]), [10, 20, 30]);
        assert_eq!(over_white([0, 0, 0, 128]), [127; 3]);
    }
}
