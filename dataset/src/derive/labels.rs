//! Labels and part labels of a derived dataset, which follow from the classes that its rows have.

use std::collections::{BTreeMap, BTreeSet};

use super::PlacedRow;
use crate::error::{DatasetError, DeriveError, Result};
use crate::reader::Dataset;
use crate::schema::{PartName, Sample};

/// Classes and parts of the result, and what the inputs' labels become.
#[derive(Debug)]
pub(super) struct Labels {
    classes: Vec<String>,
    parts: Vec<PartName>,
    /// New part label of each old one; by input, old class and new class. `None` for the parts of other classes.
    part_labels: BTreeMap<(usize, String, String), Vec<Option<u8>>>,
}

impl Labels {
    /// # Errors
    /// When there are more parts than part labels can number.
    pub(super) fn of(inputs: &[Dataset], rows: &[PlacedRow]) -> Result<Self> {
        let class_of_rows: BTreeSet<(usize, &str, &str)> = rows
            .iter()
            .map(|row| (row.input, row.old_id.category(), row.id.category()))
            .collect();
        let classes: BTreeSet<&str> = class_of_rows.iter().map(|&(_, _, class)| class).collect();
        let parts: BTreeSet<(&str, &str)> = class_of_rows
            .iter()
            .flat_map(|&(input, old_class, class)| {
                let parts = inputs[input].manifest().parts.iter();
                let of_class = parts.filter(move |part| part.category == old_class);
                of_class.map(move |part| (class, part.name.as_str()))
            })
            .collect();
        if parts.len() > usize::from(u8::MAX) + 1 {
            return Err(DatasetError::Derive(DeriveError::TooManyParts {
                num_parts: parts.len(),
            }));
        }
        let label_of: BTreeMap<(&str, &str), u8> = parts.iter().copied().zip(0..=u8::MAX).collect();
        let part_labels = class_of_rows.iter().map(|&(input, old_class, class)| {
            let new_label = |part: &PartName| {
                let is_of_class = part.category == old_class;
                is_of_class.then(|| label_of[&(class, part.name.as_str())])
            };
            let labels = inputs[input].manifest().parts.iter().map(new_label).collect();
            ((input, old_class.to_owned(), class.to_owned()), labels)
        });
        Ok(Self {
            part_labels: part_labels.collect(),
            classes: classes.into_iter().map(str::to_owned).collect(),
            parts: parts
                .iter()
                .map(|&(category, name)| PartName {
                    category: category.to_owned(),
                    name: name.to_owned(),
                })
                .collect(),
        })
    }

    pub(super) fn classes(&self) -> &[String] {
        &self.classes
    }

    pub(super) fn parts(&self) -> &[PartName] {
        &self.parts
    }

    /// Gives a row of an input its id and labels in the result.
    ///
    /// # Errors
    /// When it has a part of another class.
    pub(super) fn apply(&self, row: &PlacedRow, sample: &mut Sample) -> Result<()> {
        let class = row.id.category();
        if let Some(labels) = &mut sample.part_labels {
            let new_labels =
                &self.part_labels[&(row.input, row.old_id.category().to_owned(), class.to_owned())];
            for label in labels {
                let new_label = new_labels.get(usize::from(*label)).copied().flatten();
                *label = new_label.ok_or_else(|| {
                    DatasetError::Derive(DeriveError::PartOfOtherClass {
                        id: row.old_id.to_string(),
                        label: *label,
                    })
                })?;
            }
        }
        sample.label = self
            .classes
            .binary_search_by(|other| other.as_str().cmp(class))
            .map_or(-1, |label| label as i64);
        sample.category = class.to_owned();
        sample.id = row.id.clone();
        Ok(())
    }
}
