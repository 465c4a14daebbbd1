//! ShapeNet-55 and -34 as Point-BERT and PoinTr have them: `ShapeNet55-34/shapenet_pc/<synset>-<id>.npy`, arrays of points x 3,
//! with the lists `ShapeNet-55/{train,test}.txt`, a file name a line. The lists are the variants. Classes are called by their
//! synset, or by their name in `shapenet_synset_dict.json`, if that is there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tap_render::import::MeshFormat;

use super::cloud::{Cloud, Defect};
use super::text::{is_inside, read_list, read_object};
use super::{CloudReader, ImportSet, ListedCloud, PublishedSet, choose, folder_or, relative};
use crate::error::{DatasetError, Result, SourceError};
use crate::local_file::read_bounded;
use crate::manifest::SkipReason;
use crate::schema::{ObjectId, Split};

const SET: ImportSet = ImportSet::Shapenet55;
const FOLDERS: [&str; 1] = ["ShapeNet55-34"];
const CLOUDS: &str = "shapenet_pc";
const SPLITS: [Split; 2] = [Split::Train, Split::Test];
/// Folders of lists, which are the variants. Those of few classes list what is left out of -34.
const VARIANTS: [(&str, &str); 3] = [
    ("ShapeNet-55", "ShapeNet-55"),
    ("ShapeNet-34", "ShapeNet-34"),
    ("ShapeNet-Unseen21", "ShapeNet-Unseen21"),
];
const NAMES: &str = "shapenet_synset_dict.json";
const MAX_NAMES_BYTES: u64 = 1 << 20;

pub(super) fn open(src: &Path, requested: Option<&str>) -> Result<PublishedSet> {
    let expected = || format!("{CLOUDS}/<synset>-<id>.npy and ShapeNet-55/train.txt beside it");
    let Some(folder) = folder_or(src, &FOLDERS, |folder| folder.join(CLOUDS).is_dir()) else {
        return Err(SET.not_found(expected(), src));
    };
    let has_lists = |lists: &&str| {
        SPLITS
            .iter()
            .any(|split| folder.join(lists).join(format!("{split}.txt")).is_file())
    };
    let Some((variant, lists)) = choose(SET, &VARIANTS, requested, has_lists, src)? else {
        return Err(SET.not_found(expected(), src));
    };
    let names = names_of_synsets(src, &folder)?;
    let (mut objects, mut skipped, mut missing) = (Vec::new(), Vec::new(), Vec::new());
    let mut num_lists = 0;
    for split in SPLITS {
        let list = format!("{lists}/{split}.txt");
        let Some(files) = read_list(&folder.join(&list))? else {
            // There is nothing to train on in what is held out.
            if split == Split::Test || *variant != "ShapeNet-Unseen21" {
                missing.push(format!("the list {list} is not there"));
            }
            continue;
        };
        num_lists += 1;
        for file in files {
            let stem = file.strip_suffix(".npy").unwrap_or(&file);
            let (synset, name) = stem.split_once('-').unwrap_or(("", stem));
            let class = names.get(synset).map_or(synset, String::as_str);
            let path = folder.join(CLOUDS).join(format!("{stem}.npy"));
            let relative = relative(&path, src);
            let id = ObjectId::try_new(class, name)
                .ok()
                .filter(|_| is_inside(stem) && is_synset(synset));
            let Some(id) = id else {
                let message = format!("{list} has a line that is not <synset>-<id>.npy");
                skipped.push(Defect::new(SkipReason::InvalidId, message).skipped(file, split, relative));
                continue;
            };
            objects.push(ListedCloud {
                id,
                split,
                path: relative,
                bytes: fs::metadata(&path).map_or(0, |metadata| metadata.len()),
                place: (0, 0),
            });
        }
    }
    if num_lists == 0 {
        return Err(SET.not_found(format!("{lists}/train.txt"), src));
    }
    let mut classes: Vec<String> = objects
        .iter()
        .map(|object| object.id.category().to_owned())
        .collect();
    classes.sort();
    classes.dedup();
    Ok(PublishedSet {
        set: SET,
        variant: (*variant).to_owned(),
        format: "npy",
        objects,
        skipped,
        missing,
        classes,
        parts: Vec::new(),
        notes: Vec::new(),
        pictures: None,
        reader: Box::new(NpyReader { src: src.to_owned() }),
    })
}

/// Eight digits.
fn is_synset(text: &str) -> bool {
    text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Names that `shapenet_synset_dict.json` gives, each to one synset.
fn names_of_synsets(src: &Path, folder: &Path) -> Result<BTreeMap<String, String>> {
    let Some(path) = [src, folder]
        .map(|folder| folder.join(NAMES))
        .into_iter()
        .find(|path| path.is_file())
    else {
        return Ok(BTreeMap::new());
    };
    let bytes = read_bounded(&path, MAX_NAMES_BYTES).map_err(DatasetError::io("read the names", &path))?;
    let mut names: BTreeMap<String, String> = serde_json::from_slice(&bytes).map_err(|source| {
        DatasetError::Source(SourceError::Json {
            detail: "list of names",
            path,
            source,
        })
    })?;
    let mut num_uses: BTreeMap<String, usize> = BTreeMap::new();
    for name in names.values() {
        *num_uses.entry(name.clone()).or_default() += 1;
    }
    for (synset, name) in &mut names {
        if num_uses[name] > 1 {
            *name = format!("{name}-{synset}");
        }
    }
    Ok(names)
}

#[derive(Debug)]
struct NpyReader {
    src: PathBuf,
}

impl CloudReader for NpyReader {
    fn read(&self, object: &ListedCloud) -> Result<Result<Cloud, Defect>> {
        Ok(read_object(&self.src.join(&object.path))
            .and_then(|bytes| Cloud::of_points_file(MeshFormat::Npy, &bytes)))
    }
}
