//! [`RowRules`]: which rows go into a derived dataset, into which split, as which class.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use super::PlacedRow;
use crate::error::{DatasetError, DeriveError, Result};
use crate::predicate::Predicate;
use crate::reader::Dataset;
use crate::schema::{ObjectId, Split};
use crate::source::{SplitList, SplitRatios, read_classes};

/// Which rows, and as what. The default is all of them, as they are.
#[derive(Debug, Clone, Default)]
pub struct RowRules {
    /// Rows of which this is true.
    pub predicate: Option<Predicate>,
    /// Rows with these ids.
    pub ids: Option<BTreeSet<ObjectId>>,
    /// At most this many rows of a class in a split, drawn by `seed`.
    pub max_per_class: Option<usize>,
    /// Seed of what is drawn.
    pub seed: u64,
    /// Their splits.
    pub splits: SplitRule,
    /// Their classes.
    pub classes: ClassRule,
}

/// Splits of the rows.
#[derive(Debug, Clone, Default)]
pub enum SplitRule {
    /// Those that they have.
    #[default]
    Keep,
    /// Drawn anew, stratified by class.
    Ratios(SplitRatios),
    /// From a table with the columns `id` and `split`; rows that it does not name are left out.
    List(PathBuf),
}

/// Classes of the rows.
#[derive(Debug, Clone, Default)]
pub enum ClassRule {
    /// Those that they have.
    #[default]
    Keep,
    /// New names of some classes; two may become one.
    Rename(BTreeMap<String, String>),
    /// From a table with the columns `id` and `category`; rows that it does not name keep theirs.
    List(PathBuf),
}

impl RowRules {
    /// The chosen rows, in no particular order.
    pub(super) fn place(&self, inputs: &[Dataset]) -> Result<Vec<PlacedRow>> {
        let mut rows = self.choose(inputs)?;
        self.classes.apply(inputs, &mut rows)?;
        self.splits.apply(&mut rows)?;
        if let Some(max_per_class) = self.max_per_class {
            self.draw(max_per_class, &mut rows);
        }
        Ok(rows)
    }

    fn choose(&self, inputs: &[Dataset]) -> Result<Vec<PlacedRow>> {
        let mut rows = Vec::new();
        let mut unused = self.ids.clone().unwrap_or_default();
        for (input, dataset) in inputs.iter().enumerate() {
            for split in Split::ALL {
                let ids = dataset.ids(split)?;
                let chosen = match &self.predicate {
                    Some(predicate) => dataset.matching(split, predicate)?,
                    None => (0..ids.len()).collect(),
                };
                for row in chosen {
                    let id = &ids[row];
                    unused.remove(id);
                    if self.ids.as_ref().is_none_or(|chosen| chosen.contains(id)) {
                        rows.push(PlacedRow {
                            input,
                            from: split,
                            row,
                            old_id: id.clone(),
                            split,
                            id: id.clone(),
                        });
                    }
                }
            }
        }
        match unused.first() {
            // A condition may well be false of an id in the list.
            Some(id) if self.predicate.is_none() => Err(DatasetError::Derive(DeriveError::UnknownIds {
                first: id.to_string(),
                num_ids: unused.len(),
            })),
            _ => Ok(rows),
        }
    }

    /// Keeps the rows of each class and split that come first by a hash of seed and id.
    fn draw(&self, max_per_class: usize, rows: &mut Vec<PlacedRow>) {
        let rank = |row: &PlacedRow| -> [u8; 32] {
            let hash = Sha256::new()
                .chain_update(self.seed.to_le_bytes())
                .chain_update(row.id.as_str());
            hash.finalize().into()
        };
        rows.sort_by_cached_key(rank);
        let mut counts: BTreeMap<(Split, String), usize> = BTreeMap::new();
        rows.retain(|row| {
            let count = counts
                .entry((row.split, row.id.category().to_owned()))
                .or_default();
            *count += 1;
            *count <= max_per_class
        });
    }
}

impl ClassRule {
    fn apply(&self, inputs: &[Dataset], rows: &mut [PlacedRow]) -> Result<()> {
        let class_of: Box<dyn Fn(&ObjectId) -> Option<String>> = match self {
            Self::Keep => return Ok(()),
            Self::Rename(names) => {
                check_known(inputs, names.keys())?;
                Box::new(|id| names.get(id.category()).cloned())
            }
            Self::List(path) => {
                let classes = read_classes(path)?;
                Box::new(move |id| classes.get(id).cloned())
            }
        };
        for row in rows {
            if let Some(class) = class_of(&row.id) {
                row.id = ObjectId::try_new(&class, row.id.name())?;
            }
        }
        Ok(())
    }
}

fn check_known<'a>(inputs: &[Dataset], mut names: impl Iterator<Item = &'a String>) -> Result<()> {
    let known: BTreeSet<&String> = inputs.iter().flat_map(Dataset::classes).collect();
    match names.find(|name| !known.contains(name)) {
        Some(name) => {
            let known: Vec<&str> = known.into_iter().map(String::as_str).collect();
            Err(DatasetError::Derive(DeriveError::UnknownClass {
                name: name.clone(),
                classes: known.join(", "),
            }))
        }
        None => Ok(()),
    }
}

impl SplitRule {
    fn apply(&self, rows: &mut Vec<PlacedRow>) -> Result<()> {
        match self {
            Self::Keep => {}
            Self::Ratios(ratios) => {
                let rows = rows.iter_mut();
                ratios.assign(rows.map(|row| (&row.id, &mut row.split)).collect());
            }
            Self::List(path) => {
                let list = SplitList::read(path)?;
                let mut listed = Vec::new();
                for row in rows.drain(..) {
                    if let Some(split) = list.split_of_id(&row.id) {
                        listed.push(PlacedRow { split, ..row });
                    }
                }
                *rows = listed;
            }
        }
        Ok(())
    }
}
