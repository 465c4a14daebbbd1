//! ModelNet40 in the forms that are scored on:
//!
//! - `txt`: `modelnet40_normal_resampled/<class>/<class>_0001.txt`, 10,000 lines `x,y,z,nx,ny,nz`, with the lists
//!   `modelnet40_{shape_names,train,test}.txt`; `txt10` takes the lists `modelnet10_*`
//! - `h5`: `modelnet40_ply_hdf5_2048/ply_data_{train,test}*.h5`, keys `data`, `label`, perhaps `normal`
//! - `dat`: Point-BERT's caches `modelnet40_{train,test}_8192pts_fps.dat`, pickles of a list of arrays and a list of labels
//!
//! The meshes (`<class>/{train,test}/*.off`) are a source of builds.

use std::fs;
use std::path::{Path, PathBuf};

use super::cloud::{Cloud, Defect, class_of_label};
use super::h5_set::{H5Part, H5Set};
use super::numpy_pickle::{NumberFile, PickleFile, PickledArray};
use super::text::{is_inside, parse_rows, read_list, read_object};
use super::{CloudReader, ImportSet, ListedCloud, PublishedSet, choose, entries, folder_or, relative};
use crate::error::{DatasetError, ImportError, Result};
use crate::manifest::SkipReason;
use crate::schema::{ObjectId, Split};
use crate::sha256;

const SET: ImportSet = ImportSet::Modelnet40;

/// Classes in the order of the labels, where the list of names is not beside the files.
#[rustfmt::skip]
pub(super) const CLASSES: [&str; 40] = [
    "airplane", "bathtub", "bed", "bench", "bookshelf", "bottle", "bowl", "car", "chair", "cone", "cup", "curtain", "desk",
    "door", "dresser", "flower_pot", "glass_box", "guitar", "keyboard", "lamp", "laptop", "mantel", "monitor",
    "night_stand", "person", "piano", "plant", "radio", "range_hood", "sink", "sofa", "stairs", "stool", "table", "tent",
    "toilet", "tv_stand", "vase", "wardrobe", "xbox",
];
const CLASSES_10: [&str; 10] = [
    "bathtub",
    "bed",
    "chair",
    "desk",
    "dresser",
    "monitor",
    "night_stand",
    "sofa",
    "table",
    "toilet",
];

const TEXT_FOLDERS: [&str; 2] = [
    "modelnet40_normal_resampled",
    "ModelNet/modelnet40_normal_resampled",
];
const H5_FOLDERS: [&str; 1] = ["modelnet40_ply_hdf5_2048"];
const SPLITS: [Split; 2] = [Split::Train, Split::Test];
/// Numbers of a line: a point and its normal.
const TEXT_COLUMNS: usize = 6;

/// A form of the set.
#[derive(Debug, Clone, Copy)]
enum Form {
    Text { lists: &'static str },
    H5,
    Pickles { prefix: &'static str },
}

const VARIANTS: [(&str, Form); 5] = [
    ("txt", Form::Text { lists: "modelnet40" }),
    ("h5", Form::H5),
    ("dat", Form::Pickles { prefix: "modelnet40" }),
    ("txt10", Form::Text { lists: "modelnet10" }),
    ("dat10", Form::Pickles { prefix: "modelnet10" }),
];

pub(super) fn open(src: &Path, requested: Option<&str>) -> Result<PublishedSet> {
    // The resampled files have lists of both; of ten classes only where it is asked for.
    let of_default = |(name, _): &&(&str, Form)| !name.ends_with("10");
    let default: Vec<(&str, Form)> = VARIANTS.iter().filter(of_default).copied().collect();
    let variants = if requested.is_some() {
        &VARIANTS[..]
    } else {
        &default[..]
    };
    let chosen = choose(SET, variants, requested, |form| form.folder(src).is_some(), src)?;
    let found = chosen.and_then(|(variant, form)| Some((*variant, *form, form.folder(src)?)));
    let Some((variant, form, folder)) = found else {
        return Err(not_found(src, chosen.map(|(_, form)| *form)));
    };
    match form {
        Form::Text { lists } => open_text(&folder, src, variant, lists),
        Form::H5 => open_h5(&folder, src, variant),
        Form::Pickles { prefix } => open_pickles(&folder, src, variant, prefix),
    }
}

impl Form {
    /// The folder with its files.
    fn folder(self, src: &Path) -> Option<PathBuf> {
        match self {
            Self::Text { lists } => folder_or(src, &TEXT_FOLDERS, |folder| {
                let names = read_list(&folder.join(format!("{lists}_shape_names.txt")));
                let names = names.ok().flatten().unwrap_or_default();
                names
                    .iter()
                    .any(|name| is_inside(name) && folder.join(name).is_dir())
            }),
            Self::H5 => folder_or(src, &H5_FOLDERS, |folder| {
                SPLITS.iter().any(|split| !h5_files(folder, *split).is_empty())
            }),
            Self::Pickles { prefix } => folder_or(src, &TEXT_FOLDERS, |folder| {
                SPLITS
                    .iter()
                    .any(|split| pickle_of(folder, prefix, *split).is_some())
            }),
        }
    }
}

fn not_found(src: &Path, requested: Option<Form>) -> DatasetError {
    if requested.is_none() && has_meshes(src) {
        return DatasetError::Import(ImportError::NotImported {
            detail:
                "these are the meshes of ModelNet; tap dataset build SRC --layout modelnet --up z takes them"
                    .to_owned(),
            path: src.to_owned(),
        });
    }
    let expected = match requested {
        Some(Form::Text { lists }) => {
            format!("{lists}_shape_names.txt, {lists}_train.txt, {lists}_test.txt and the folders of classes")
        }
        Some(Form::H5) => "ply_data_train*.h5 and ply_data_test*.h5".to_owned(),
        Some(Form::Pickles { prefix }) => format!("{prefix}_train_8192pts_fps.dat and {prefix}_test_8192pts_fps.dat"),
        None => "modelnet40_train.txt with folders of classes, ply_data_train*.h5, or modelnet40_train_8192pts_fps.dat".to_owned(),
    };
    SET.not_found(expected, src)
}

/// Whether there is `<class>/train` with an OFF file.
fn has_meshes(src: &Path) -> bool {
    CLASSES.iter().any(|class| {
        let files = entries(&src.join(class).join("train"));
        files
            .iter()
            .any(|(_, path)| path.extension().is_some_and(|ending| ending == "off"))
    })
}

/// Files of a folder, sorted by name.
fn sorted_files(folder: &Path, is_one: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let files = entries(folder)
        .into_iter()
        .filter(|(name, path)| is_one(name) && path.is_file());
    files.map(|(_, path)| path).collect()
}

/// `ply_data_train0.h5` and so on; the number has one digit.
pub(super) fn h5_files(folder: &Path, split: Split) -> Vec<PathBuf> {
    let prefix = format!("ply_data_{split}");
    sorted_files(folder, |name| {
        let number = name
            .strip_prefix(&prefix)
            .and_then(|rest| rest.strip_suffix(".h5"));
        number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

/// `modelnet40_train_8192pts_fps.dat`, with any number of points.
fn pickle_of(folder: &Path, prefix: &str, split: Split) -> Option<PathBuf> {
    let beginning = format!("{prefix}_{split}_");
    sorted_files(folder, |name| {
        name.starts_with(&beginning) && name.strip_suffix(".dat").is_some()
    })
    .pop()
}

/// Names of the classes, from the list beside the files.
fn class_names(folder: &Path, list: &str, published: &[&str]) -> Result<Vec<String>> {
    let names = read_list(&folder.join(list))?;
    Ok(names.unwrap_or_else(|| published.iter().map(|&name| name.to_owned()).collect()))
}

fn open_h5(folder: &Path, src: &Path, variant: &'static str) -> Result<PublishedSet> {
    let mut files = Vec::new();
    for split in SPLITS {
        for path in h5_files(folder, split) {
            files.push(H5Part::open(&path, src, split, None)?);
        }
    }
    H5Set {
        set: SET,
        variant,
        classes: class_names(folder, "shape_names.txt", &CLASSES)?,
        parts: Vec::new(),
        files,
    }
    .into_set()
}

fn open_text(folder: &Path, src: &Path, variant: &str, lists: &str) -> Result<PublishedSet> {
    let classes = class_names(folder, &format!("{lists}_shape_names.txt"), &[])?;
    let (mut objects, mut skipped, mut missing) = (Vec::new(), Vec::new(), Vec::new());
    for split in SPLITS {
        let list = format!("{lists}_{split}.txt");
        let Some(names) = read_list(&folder.join(&list))? else {
            missing.push(format!("the list {list} is not there"));
            continue;
        };
        for name in names {
            // `night_stand_0001`
            let class = name.rsplit_once('_').map_or("", |(class, _)| class);
            let file = folder.join(class).join(format!("{name}.txt"));
            let path = relative(&file, src);
            if !classes.iter().any(|other| other == class) || !is_inside(&name) {
                let message = format!("{list} names an object of none of the classes");
                skipped.push(Defect::new(SkipReason::InvalidId, message).skipped(name, split, path));
                continue;
            }
            objects.push(ListedCloud {
                id: ObjectId::try_new(class, &name)?,
                split,
                path,
                bytes: fs::metadata(&file).map_or(0, |metadata| metadata.len()),
                place: (0, 0),
            });
        }
    }
    Ok(PublishedSet {
        set: SET,
        variant: variant.to_owned(),
        format: "txt",
        objects,
        skipped,
        missing,
        classes,
        parts: Vec::new(),
        notes: Vec::new(),
        pictures: None,
        reader: Box::new(TextReader { src: src.to_owned() }),
    })
}

#[derive(Debug)]
struct TextReader {
    src: PathBuf,
}

impl CloudReader for TextReader {
    fn read(&self, object: &ListedCloud) -> Result<Result<Cloud, Defect>> {
        Ok(read_object(&self.src.join(&object.path)).and_then(|bytes| {
            let numbers = parse_rows(&bytes, TEXT_COLUMNS)?;
            Ok(Cloud {
                sha256: sha256::of_bytes(&bytes),
                ..Cloud::of_rows(&numbers, TEXT_COLUMNS, true)
            })
        }))
    }
}

fn open_pickles(folder: &Path, src: &Path, variant: &str, prefix: &str) -> Result<PublishedSet> {
    let published: &[&str] = if prefix == "modelnet10" {
        &CLASSES_10
    } else {
        &CLASSES
    };
    let classes = class_names(folder, &format!("{prefix}_shape_names.txt"), published)?;
    let (mut objects, mut skipped, mut missing) = (Vec::new(), Vec::new(), Vec::new());
    let mut reader = PickleReader::default();
    for split in SPLITS {
        let Some(path) = pickle_of(folder, prefix, split) else {
            missing.push(format!("{prefix}_{split}_*.dat is not there"));
            continue;
        };
        let relative = relative(&path, src);
        let file = PickleFile::open(&path)?;
        for (number, (array, label)) in labeled_arrays(&file)?.into_iter().enumerate() {
            let path = format!("{relative}#{number}");
            let name = format!("{split}-{number:05}");
            let class = match class_of_label(label, &classes) {
                Ok(class) => class,
                Err(defect) => {
                    skipped.push(defect.skipped(name, split, path));
                    continue;
                }
            };
            objects.push(ListedCloud {
                id: ObjectId::try_new(class, &name)?,
                split,
                path,
                bytes: 0,
                place: (reader.files.len(), reader.arrays.len()),
            });
            reader.arrays.push(array);
        }
        reader.files.push(file.numbers);
    }
    Ok(PublishedSet {
        set: SET,
        variant: variant.to_owned(),
        format: "dat",
        objects,
        skipped,
        missing,
        classes,
        parts: Vec::new(),
        notes: Vec::new(),
        pictures: None,
        reader: Box::new(reader),
    })
}

/// `[[array, ...], [label, ...]]`; later copies add a list of names.
fn labeled_arrays(file: &PickleFile) -> Result<Vec<(PickledArray, i64)>> {
    let lists = file.pickle.items(&file.pickle.root).unwrap_or_default();
    let lists: Vec<_> = lists.iter().filter_map(|list| file.pickle.items(list)).collect();
    let [arrays, labels, ..] = lists[..] else {
        return Err(file.malformed("expected a pickle of a list of arrays and a list of labels"));
    };
    if arrays.len() != labels.len() {
        return Err(file.malformed(format!("{} arrays and {} labels", arrays.len(), labels.len())));
    }
    let pairs = arrays.iter().zip(labels).enumerate();
    pairs
        .map(|(number, (array, label))| {
            let array = file
                .array(array)
                .map_err(|detail| file.malformed(format!("object {number}: {detail}")))?;
            let label = file
                .integer(label)
                .ok_or_else(|| file.malformed(format!("object {number}: its label is no whole number")))?;
            Ok((array, label))
        })
        .collect()
}

/// Reads arrays where they lie in pickles.
#[derive(Debug, Default)]
pub(super) struct PickleReader {
    pub(super) files: Vec<NumberFile>,
    pub(super) arrays: Vec<PickledArray>,
}

impl CloudReader for PickleReader {
    fn read(&self, object: &ListedCloud) -> Result<Result<Cloud, Defect>> {
        let (file, array) = object.place;
        let array = &self.arrays[array];
        Ok(match array.shape[..] {
            [_, num_values] if num_values >= 3 => {
                let rows = self.files[file].read(array)?;
                Ok(Cloud::of_rows(&rows, num_values, true).with_hash_of_numbers())
            }
            _ => Err(Defect::new(
                SkipReason::Malformed,
                format!("an array of shape {:?}, expected points x 3 or 6", array.shape),
            )),
        })
    }
}
