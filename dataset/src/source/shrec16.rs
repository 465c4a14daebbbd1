//! Layout `shrec16`: `ShapeNet55` as renumbered for SHREC 2016, `{train,val,test}/model_000003.obj` (or
//! `train_normal`, `train_perturbed`), with categories in `train.csv` and `val.csv`:
//! `id,synsetId,subSynsetId`. The test split was published without labels; its objects get the category
//! `unlabeled`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::table::Table;
use super::{Candidate, Tree, shapenet};
use crate::error::Result;
use crate::manifest::SkipReason;
use crate::schema::Split;

/// File name before the number.
const PREFIX: &str = "model_";
const NUM_DIGITS: usize = 6;
/// Possible folders of the lists.
const LIST_FOLDERS: [&str; 2] = ["", "evalkit"];
/// Models that the published lists name. That of the test split was not published.
const PUBLISHED: [(Split, usize); 2] = [(Split::Train, 35_765), (Split::Val, 5159)];
/// Category of objects that no list names.
pub(crate) const UNLABELED: &str = "unlabeled";

/// Split of a folder name.
fn split_of_folder(name: &str) -> Option<Split> {
    let name = name.split_once('_').map_or(name, |(split, _)| split);
    Split::ALL.into_iter().find(|split| split.as_str() == name)
}

/// The number in `model_000003.obj`.
fn number(stem: &str) -> Option<&str> {
    let digits = stem.strip_prefix(PREFIX)?;
    (digits.len() == NUM_DIGITS && digits.bytes().all(|b| b.is_ascii_digit())).then_some(digits)
}

/// Whether a split folder with numbered meshes exists.
pub(super) fn matches_layout(tree: &Tree) -> Result<bool> {
    for folder in tree.entries(Path::new(""))? {
        if folder.is_dir && split_of_folder(&folder.name).is_some() {
            let entries = tree.entries(Path::new(&folder.name))?;
            if entries
                .iter()
                .any(|entry| entry.is_mesh() && number(entry.stem()).is_some())
            {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// How many models the lists name, beside how many the published ones name.
pub(super) fn describe_lists(tree: &Tree) -> Result<Option<String>> {
    let mut lists = Vec::new();
    for (split, published) in PUBLISHED {
        let found = match list(tree, split)? {
            Some(table) => Some(table.num_rows()?),
            None => None,
        };
        lists.extend(found.map(|found| {
            if found == published {
                format!("{split} {found}, as published")
            } else {
                format!("{split} {found} ({published} were published)")
            }
        }));
    }
    Ok((!lists.is_empty()).then(|| format!("lists of SHREC 2016 name so many models: {}", lists.join(", "))))
}

pub(super) fn find(tree: &Tree) -> Result<Vec<Candidate>> {
    let synset_of = synsets(tree)?;
    let names = shapenet::all_names(tree)?;
    let mut candidates = Vec::new();
    for folder in tree.entries(Path::new(""))? {
        let Some(split) = split_of_folder(&folder.name).filter(|_| folder.is_dir) else {
            continue;
        };
        for file in tree
            .entries(Path::new(&folder.name))?
            .into_iter()
            .filter(super::DirEntry::is_mesh)
        {
            let synset = number(file.stem()).and_then(|number| synset_of.get(number));
            let category = synset.map_or(UNLABELED, |synset| names.get(synset).unwrap_or(synset));
            let skip = number(file.stem()).is_none().then(|| {
                let message = "not named model_ and six digits, as the lists number the meshes".to_owned();
                (SkipReason::InvalidId, message)
            });
            candidates.push(Candidate {
                category: category.to_owned(),
                category_alias: synset.cloned(),
                name: file.stem().to_owned(),
                path: PathBuf::from(&folder.name).join(&file.name),
                split: Some(split),
                skip,
            });
        }
    }
    Ok(candidates)
}

/// Synset by object number, six digits, from the lists in a folder or in its `evalkit`; empty without them.
pub(crate) fn synsets_in(folder: &Path) -> Result<BTreeMap<String, String>> {
    synsets(&Tree::of_folder(folder.to_owned()))
}

/// Synset by object number, from the available lists.
fn synsets(tree: &Tree) -> Result<BTreeMap<String, String>> {
    let mut synset_of = BTreeMap::new();
    for split in Split::ALL {
        let Some(table) = list(tree, split)? else {
            continue;
        };
        let (id, synset) = (table.column(&["id"])?, table.column(&["synsetId"])?);
        for row in table.rows()? {
            let (_, row) = row?;
            let cell = |column: usize| row.get(column).unwrap_or_default();
            synset_of.insert(
                format!("{:0>NUM_DIGITS$}", cell(id)),
                format!("{:0>8}", cell(synset)),
            );
        }
    }
    Ok(synset_of)
}

/// The list of a split, in the folder or in `evalkit`.
fn list(tree: &Tree, split: Split) -> Result<Option<Table>> {
    for folder in LIST_FOLDERS {
        let table = Table::in_tree(tree, &Path::new(folder).join(format!("{split}.csv")))?;
        if table.is_some() {
            return Ok(table);
        }
    }
    Ok(None)
}
