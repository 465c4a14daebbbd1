//! `parts.json`: maps named groups of a mesh to part labels.
//!
//! `{"<category>": ["<group>", ...]}`. Labels count through the categories in sorted order, and within a
//! category in list order.

use std::collections::BTreeMap;
use std::path::Path;

use super::Tree;
use crate::error::{DatasetError, Result, SourceError};
use crate::schema::PartName;

const PARTS_FILE_NAME: &str = "parts.json";
const MAX_PARTS_FILE_BYTES: u64 = 16 << 20;
/// Labels are bytes.
const MAX_PARTS: usize = 256;

/// Parts listed by a source; empty if none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartTable {
    label: BTreeMap<String, BTreeMap<String, u8>>,
    names: Vec<PartName>,
}

impl PartTable {
    pub(super) fn read(tree: &Tree) -> Result<Self> {
        let name = Path::new(PARTS_FILE_NAME);
        let path = tree.folder().join(name);
        let Some(bytes) = tree.read_list(name, "read the list of parts", MAX_PARTS_FILE_BYTES)? else {
            return Ok(Self::default());
        };
        let json = |source| {
            DatasetError::Source(SourceError::Json {
                detail: "list of parts",
                path: path.clone(),
                source,
            })
        };
        let groups: BTreeMap<String, Vec<String>> = serde_json::from_slice(&bytes).map_err(json)?;
        Self::try_new(groups).map_err(|detail| DatasetError::Source(SourceError::Parts { detail, path }))
    }

    fn try_new(groups: BTreeMap<String, Vec<String>>) -> Result<Self, String> {
        let mut table = Self::default();
        for (category, groups) in groups {
            if groups.is_empty() {
                return Err(format!("{category} is listed without a part"));
            }
            let labels = table.label.entry(category.clone()).or_default();
            for name in groups {
                let Ok(label) = u8::try_from(table.names.len()) else {
                    return Err(format!("more than {MAX_PARTS} parts"));
                };
                if labels.insert(name.clone(), label).is_some() {
                    return Err(format!("part {name} of {category} is named twice"));
                }
                table.names.push(PartName {
                    category: category.clone(),
                    name,
                });
            }
        }
        Ok(table)
    }

    /// Rebuilds a table from part names in label order.
    pub(super) fn from_names(names: &[PartName]) -> Result<Self, String> {
        let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for PartName { category, name } in names {
            groups.entry(category.clone()).or_default().push(name.clone());
        }
        let table = Self::try_new(groups)?;
        if table.names == names {
            Ok(table)
        } else {
            Err("its parts are not sorted by category".to_owned())
        }
    }

    /// Part names, indexed by label.
    #[must_use]
    pub fn names(&self) -> &[PartName] {
        &self.names
    }

    /// Label per group of a mesh; `None` for a category without parts.
    ///
    /// # Errors
    /// The first group that is not listed.
    pub(crate) fn labels<'a>(
        &self,
        category: &str,
        groups: &'a [String],
    ) -> Result<Option<Vec<u8>>, &'a str> {
        let Some(label) = self.label.get(category) else {
            return Ok(None);
        };
        let labels = groups
            .iter()
            .map(|group| label.get(group).copied().ok_or(group.as_str()));
        labels.collect::<Result<_, _>>().map(Some)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn parts_are_numbered_over_sorted_categories() {
        let groups = [("table", ["top", "leg"]), ("chair", ["seat", "leg"])];
        let groups = groups.map(|(category, names)| (category.to_owned(), strings(&names)));
        let table = PartTable::try_new(groups.into()).unwrap();
        assert_eq!(
            table.labels("chair", &strings(&["leg", "seat"])),
            Ok(Some(vec![1, 0]))
        );
        assert_eq!(table.labels("table", &strings(&["leg"])), Ok(Some(vec![3])));
        assert_eq!(table.labels("table", &strings(&["leg", "wheel"])), Err("wheel"));
        assert_eq!(table.labels("lamp", &strings(&["anything"])), Ok(None));
        assert_eq!(
            table.names()[2],
            PartName {
                category: "table".to_owned(),
                name: "top".to_owned()
            }
        );
    }

    #[test]
    fn too_many_parts_and_duplicates_are_refused() {
        let many = (0..257).map(|i| i.to_string()).collect();
        PartTable::try_new([("a".to_owned(), many)].into()).unwrap_err();
        PartTable::try_new([("a".to_owned(), strings(&["b", "b"]))].into()).unwrap_err();
        PartTable::try_new([("a".to_owned(), Vec::new())].into()).unwrap_err();
    }

    #[test]
    fn a_table_round_trips_through_its_names() {
        let groups = [("table", ["top", "leg"]), ("chair", ["seat", "leg"])];
        let groups = groups.map(|(category, names)| (category.to_owned(), strings(&names)));
        let table = PartTable::try_new(groups.into()).unwrap();
        assert_eq!(PartTable::from_names(table.names()).unwrap(), table);
        let mut names = table.names().to_vec();
        names.rotate_left(1);
        PartTable::from_names(&names).unwrap_err();
    }
}
