//! ShapeNetPart, 16 classes with 50 parts:
//!
//! - `txt`: `shapenetcore_partanno_segmentation_benchmark_v0_normal/<synset>/<id>.txt`, lines `x y z nx ny nz part`, splits
//!   in `train_test_split/shuffled_{train,val,test}_file_list.json`
//! - `h5`: `hdf5_data/ply_data_{train,val,test}*.h5`, keys `data`, `label` and `pid` or `seg`
//!
//! Parts are numbered over all classes, 0 to 49, in both. They were published without names.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::cloud::{Cloud, Defect, part_labels_of};
use super::h5_set::{H5Part, H5Set};
use super::modelnet40::h5_files;
use super::text::{is_inside, parse_rows, read_list, read_list_file, read_object};
use super::{CloudReader, ImportSet, ListedCloud, PublishedSet, choose, folder_or, relative};
use crate::error::{DatasetError, Result, SourceError};
use crate::manifest::SkipReason;
use crate::schema::{ObjectId, PartName, Split};
use crate::sha256;

const SET: ImportSet = ImportSet::Shapenetpart;

/// Classes in the order of the labels: synset, name, number of parts.
const CLASSES: [(&str, &str, usize); 16] = [
    ("02691156", "Airplane", 4),
    ("02773838", "Bag", 2),
    ("02954340", "Cap", 2),
    ("02958343", "Car", 4),
    ("03001627", "Chair", 4),
    ("03261776", "Earphone", 3),
    ("03467517", "Guitar", 3),
    ("03624134", "Knife", 2),
    ("03636649", "Lamp", 4),
    ("03642806", "Laptop", 2),
    ("03790512", "Motorbike", 6),
    ("03797390", "Mug", 2),
    ("03948459", "Pistol", 3),
    ("04099429", "Rocket", 3),
    ("04225987", "Skateboard", 3),
    ("04379243", "Table", 3),
];

const TEXT_FOLDERS: [&str; 1] = ["shapenetcore_partanno_segmentation_benchmark_v0_normal"];
const H5_FOLDERS: [&str; 3] = [
    "hdf5_data",
    "shapenet_part_seg_hdf5_data",
    "shapenetpart_hdf5_2048",
];
/// Numbers of a line: a point, its normal and its part.
const TEXT_COLUMNS: usize = 7;

#[derive(Debug, Clone, Copy)]
enum Form {
    Text,
    H5,
}

const VARIANTS: [(&str, Form); 2] = [("txt", Form::Text), ("h5", Form::H5)];

pub(super) fn open(src: &Path, requested: Option<&str>) -> Result<PublishedSet> {
    let chosen = choose(SET, &VARIANTS, requested, |form| form.folder(src).is_some(), src)?;
    match chosen.and_then(|(_, form)| Some((*form, form.folder(src)?))) {
        Some((Form::Text, folder)) => open_text(&folder, src),
        Some((Form::H5, folder)) => open_h5(&folder, src),
        None => Err(SET.not_found(
            match chosen {
                Some((_, Form::Text)) => "the folders of synsets, with train_test_split beside them",
                Some((_, Form::H5)) => "ply_data_train*.h5, ply_data_val*.h5 and ply_data_test*.h5",
                None => "folders of synsets with train_test_split beside them, or ply_data_train*.h5",
            }
            .to_owned(),
            src,
        )),
    }
}

impl Form {
    /// The folder with its files.
    fn folder(self, src: &Path) -> Option<PathBuf> {
        match self {
            Self::Text => folder_or(src, &TEXT_FOLDERS, |folder| {
                CLASSES.iter().any(|(synset, ..)| folder.join(synset).is_dir())
            }),
            Self::H5 => folder_or(src, &H5_FOLDERS, |folder| {
                Split::ALL
                    .iter()
                    .any(|&split| !h5_files(folder, split).is_empty())
            }),
        }
    }
}

/// Parts without a name are called by their place within the class.
fn parts(classes: &[(String, usize)]) -> Vec<PartName> {
    let of_class = |(category, num_parts): &(String, usize)| {
        let category = category.clone();
        (0..*num_parts).map(move |part| PartName {
            category: category.clone(),
            name: format!("part {part}"),
        })
    };
    classes.iter().flat_map(of_class).collect()
}

fn open_h5(folder: &Path, src: &Path) -> Result<PublishedSet> {
    let mut files = Vec::new();
    for split in Split::ALL {
        for path in h5_files(folder, split) {
            files.push(H5Part::open(&path, src, split, Some(&["pid", "seg"]))?);
        }
    }
    let classes: Vec<(String, usize)> = CLASSES
        .iter()
        .map(|&(_, name, num_parts)| (name.to_owned(), num_parts))
        .collect();
    H5Set {
        set: SET,
        variant: "h5",
        parts: parts(&classes),
        classes: classes.into_iter().map(|(name, _)| name).collect(),
        files,
    }
    .into_set()
}

fn open_text(folder: &Path, src: &Path) -> Result<PublishedSet> {
    let names = class_names(folder)?;
    let named =
        |synset: &str, published: &str| names.get(synset).map_or(published, String::as_str).to_owned();
    let classes: Vec<(String, usize)> = CLASSES
        .iter()
        .map(|&(synset, name, num_parts)| (named(synset, name), num_parts))
        .collect();
    let class_of: BTreeMap<&str, &str> = CLASSES
        .iter()
        .zip(&classes)
        .map(|((synset, ..), (name, _))| (*synset, name.as_str()))
        .collect();
    let (mut objects, mut skipped, mut missing) = (Vec::new(), Vec::new(), Vec::new());
    for split in Split::ALL {
        let list = format!("train_test_split/shuffled_{split}_file_list.json");
        let Some(entries) = read_json_list(&folder.join(&list))? else {
            missing.push(format!("the list {list} is not there"));
            continue;
        };
        for entry in entries {
            // `shape_data/02691156/1a2b...`; some copies name the file without the folder in front.
            let entry = entry.strip_prefix("shape_data/").unwrap_or(&entry);
            let (synset, name) = entry.split_once('/').unwrap_or(("", entry));
            let name = name.strip_suffix(".txt").unwrap_or(name);
            let file = folder.join(synset).join(format!("{name}.txt"));
            let path = relative(&file, src);
            let id = class_of
                .get(synset)
                .and_then(|class| ObjectId::try_new(class, name).ok());
            let Some(id) = id.filter(|_| is_inside(name)) else {
                let message = format!("{list} names an object of none of the classes");
                skipped.push(Defect::new(SkipReason::InvalidId, message).skipped(
                    entry.to_owned(),
                    split,
                    path,
                ));
                continue;
            };
            objects.push(ListedCloud {
                id,
                split,
                path,
                bytes: fs::metadata(&file).map_or(0, |metadata| metadata.len()),
                place: (0, 0),
            });
        }
    }
    Ok(PublishedSet {
        set: SET,
        variant: "txt".to_owned(),
        format: "txt",
        objects,
        skipped,
        missing,
        parts: parts(&classes),
        classes: classes.into_iter().map(|(name, _)| name).collect(),
        notes: Vec::new(),
        pictures: None,
        reader: Box::new(TextReader { src: src.to_owned() }),
    })
}

/// Name of each synset, from `synsetoffset2category.txt`: `Airplane<TAB>02691156`.
fn class_names(folder: &Path) -> Result<BTreeMap<String, String>> {
    let lines = read_list(&folder.join("synsetoffset2category.txt"))?.unwrap_or_default();
    let pairs = lines
        .iter()
        .filter_map(|line| line.split_once(char::is_whitespace));
    Ok(pairs
        .map(|(name, synset)| (synset.trim().to_owned(), name.to_owned()))
        .collect())
}

/// A list of strings; `None` if there is no such file.
fn read_json_list(path: &Path) -> Result<Option<Vec<String>>> {
    let Some(bytes) = read_list_file(path)? else {
        return Ok(None);
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|source| {
        DatasetError::Source(SourceError::Json {
            detail: "list of a split",
            path: path.to_owned(),
            source,
        })
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
            let labels = numbers
                .chunks_exact(TEXT_COLUMNS)
                .map(|row| row[TEXT_COLUMNS - 1]);
            Ok(Cloud {
                part_labels: Some(part_labels_of(labels)?),
                sha256: sha256::of_bytes(&bytes),
                ..Cloud::of_rows(&numbers, TEXT_COLUMNS, true)
            })
        }))
    }
}
