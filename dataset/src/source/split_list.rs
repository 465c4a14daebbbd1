//! Split lists: a table `id,category,split`, or `ShapeNet`'s own `id,synsetId,subSynsetId,modelId,split`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::table::Table;
use super::tree::nfc;
use super::{Candidate, Layout, SPLITS_FILE_NAME, Tree};
use crate::error::Result;
use crate::schema::{ObjectId, Split};

/// Split per object, from a list.
#[derive(Debug)]
pub(crate) struct SplitList {
    path: PathBuf,
    /// By category and name, in normalization form C; the category is empty if the list has none.
    splits: BTreeMap<(String, String), (Split, bool)>,
}

impl SplitList {
    /// The requested list, or the one in the source folder; tables of meshes have their own split column.
    pub(super) fn select(requested: Option<&Path>, tree: &Tree, layout: Layout) -> Result<Option<Self>> {
        let table = match requested {
            Some(path) => Some(Table::open(path)?),
            None if layout != Layout::Csv => Table::in_tree(tree, Path::new(SPLITS_FILE_NAME))?,
            None => None,
        };
        table.as_ref().map(Self::from_table).transpose()
    }

    pub(crate) fn read(path: &Path) -> Result<Self> {
        Self::from_table(&Table::open(path)?)
    }

    fn from_table(table: &Table) -> Result<Self> {
        // In `ShapeNet`'s list `id` is a counter and `modelId` the object name.
        let name_column = table.column(&["modelId"]).or_else(|_| table.column(&["id"]))?;
        let category_column = table.column(&["category", "synsetId"]).ok();
        let split_column = table.column(&["split"])?;
        let mut splits = BTreeMap::new();
        for row in table.rows()? {
            let (line, row) = row?;
            let cell = |column: usize| row.get(column).unwrap_or_default();
            let split: Split = cell(split_column)
                .parse()
                .map_err(|e: crate::error::NameError| table.malformed(line, e.to_string()))?;
            let (mut category, mut name) = (category_column.map_or("", cell), cell(name_column));
            // The id may include the category.
            if let Some((of_id, rest)) = name.split_once('/') {
                (category, name) = (if category.is_empty() { of_id } else { category }, rest);
            }
            let key = (nfc(&zero_padded(category)), nfc(name));
            if let Some((other, _)) = splits.insert(key, (split, false))
                && other != split
            {
                return Err(table.malformed(line, format!("{name} is in both {other} and {split}")));
            }
        }
        Ok(Self {
            path: table.path().to_owned(),
            splits,
        })
    }

    /// Split of a row; `None` if not listed.
    pub(crate) fn split_of_id(&self, id: &ObjectId) -> Option<Split> {
        let categories = [id.category(), ""];
        let splits = categories.map(|category| self.splits.get(&(category.to_owned(), id.name().to_owned())));
        splits.into_iter().flatten().next().map(|(split, _)| *split)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Split of an object; `None` if not listed.
    pub(super) fn split_of(&mut self, candidate: &Candidate) -> Option<Split> {
        let categories = [
            Some(candidate.category.as_str()),
            candidate.category_alias.as_deref(),
            Some(""),
        ];
        for category in categories.into_iter().flatten() {
            if let Some((split, is_used)) = self.splits.get_mut(&(nfc(category), nfc(&candidate.name))) {
                *is_used = true;
                return Some(*split);
            }
        }
        None
    }

    /// Listed objects that were not found, within the categories that exist: a partial download is not
    /// reported.
    pub(super) fn unused(&self, categories: &BTreeSet<String>) -> Vec<(String, Split)> {
        let unused = self.splits.iter().filter(|(_, (_, is_used))| !is_used);
        let categories: BTreeSet<String> = categories.iter().map(|category| nfc(category)).collect();
        let unused = unused.filter(|((category, _), _)| category.is_empty() || categories.contains(category));
        unused
            .map(|((category, name), (split, _))| (format!("{category}/{name}"), *split))
            .collect()
    }
}

/// Restores the leading zero of a synset that spreadsheets drop.
fn zero_padded(category: &str) -> String {
    if category.len() == 7 && category.bytes().all(|b| b.is_ascii_digit()) {
        format!("0{category}")
    } else {
        category.to_owned()
    }
}
