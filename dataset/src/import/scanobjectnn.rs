//! ScanObjectNN: `h5_files/main_split/{training,test}_objectdataset*.h5`, with or without the folder `h5_files`, keys `data`
//! (objects x 2048 x 3) and `label`. The folder (`main_split`, or `main_split_nobg` without background) and the name say which
//! variant it is.

use std::path::{Path, PathBuf};

use super::h5_set::{H5Part, H5Set};
use super::{ImportSet, PublishedSet, choose};
use crate::error::Result;
use crate::schema::Split;

/// Classes in the order of the labels.
const CLASSES: [&str; 15] = [
    "bag", "bin", "box", "cabinet", "chair", "desk", "display", "door", "shelf", "table", "bed", "pillow",
    "sink", "sofa", "toilet",
];

/// Files of a variant: their folder, and what they are called after `training_objectdataset`.
struct Files {
    folder: &'static str,
    suffix: &'static str,
}

const fn main(suffix: &'static str) -> Files {
    Files {
        folder: "main_split",
        suffix,
    }
}

const fn no_background(suffix: &'static str) -> Files {
    Files {
        folder: "main_split_nobg",
        suffix,
    }
}

/// `PB` is perturbed: T the translation in percent, R rotated, S scaled.
const VARIANTS: [(&str, Files); 10] = [
    ("OBJ_BG", main("")),
    ("PB_T25", main("_augmented25_norot")),
    ("PB_T25_R", main("_augmented25rot")),
    ("PB_T50_R", main("_augmentedrot")),
    ("PB_T50_RS", main("_augmentedrot_scale75")),
    ("OBJ_ONLY", no_background("")),
    ("PB_T25_NOBG", no_background("_augmented25_norot")),
    ("PB_T25_R_NOBG", no_background("_augmented25rot")),
    ("PB_T50_R_NOBG", no_background("_augmentedrot")),
    ("PB_T50_RS_NOBG", no_background("_augmentedrot_scale75")),
];

/// File names begin with the split.
const SPLITS: [(Split, &str); 2] = [(Split::Train, "training"), (Split::Test, "test")];

impl Files {
    fn name(&self, split: &str) -> String {
        format!("{split}_objectdataset{}.h5", self.suffix)
    }

    /// Those that are there, below `h5_files`, below the folder that has it, or in the split's folder itself.
    fn find(&self, src: &Path) -> Vec<(Split, PathBuf)> {
        let mut folders = vec![src.join("h5_files").join(self.folder), src.join(self.folder)];
        let own = src.canonicalize().unwrap_or_else(|_| src.to_owned());
        if own.file_name().is_some_and(|name| name == self.folder) {
            folders.push(src.to_owned());
        }
        let in_folder = |folder: &PathBuf| {
            let files = SPLITS.map(|(split, name)| (split, folder.join(self.name(name))));
            files
                .into_iter()
                .filter(|(_, path)| path.is_file())
                .collect::<Vec<_>>()
        };
        let found = folders.iter().map(in_folder).find(|files| !files.is_empty());
        found.unwrap_or_default()
    }
}

pub(super) fn open(src: &Path, requested: Option<&str>) -> Result<PublishedSet> {
    let set = ImportSet::Scanobjectnn;
    let chosen = choose(
        set,
        &VARIANTS,
        requested,
        |files| !files.find(src).is_empty(),
        src,
    )?;
    let Some((variant, files)) = chosen else {
        return Err(set.not_found(
            "main_split/training_objectdataset.h5, or one of its variants".to_owned(),
            src,
        ));
    };
    let found = files.find(src);
    if found.is_empty() {
        return Err(set.not_found(format!("{}/{}", files.folder, files.name("training")), src));
    }
    let parts = found
        .iter()
        .map(|(split, path)| H5Part::open(path, src, *split, None));
    H5Set {
        set,
        variant,
        classes: CLASSES.map(str::to_owned).to_vec(),
        parts: Vec::new(),
        files: parts.collect::<Result<_>>()?,
    }
    .into_set()
}
