//! Point-BERT's `ShapeNet55`, which Point-MAE, I2P-MAE and their descendants read: `shapenet_pc/<synset>-<model>.npy`, and
//! `ShapeNet-55/{train,test}.txt` with a file name a line, whose parts before and after the first dash they take for synset and
//! model.

use std::collections::BTreeMap;

use super::{OutputFile, Row};
use crate::error::{DatasetError, ExportError, Result};
use crate::npy::encode_f32 as encode_f32_npy;
use crate::schema::{Sample, Split};

/// The array of a row, [N, 3].
pub(super) fn files(row: &Row, sample: &Sample) -> Vec<OutputFile> {
    let array = encode_f32_npy(&[sample.points.len(), 3], sample.points.as_flattened());
    vec![(format!("shapenet_pc/{}", file_name(row)), array)]
}

/// Lists of files. `test.txt` is there even if empty, since it is read for pre-training on the whole.
pub(super) fn lists(rows: &[Row]) -> Vec<OutputFile> {
    let list = |split: Split| {
        let names = rows.iter().filter(|row| row.split == split).map(file_name);
        let text: String = names.map(|name| name + "\n").collect();
        let path = format!("ShapeNet-55/{split}.txt");
        (split != Split::Val || !text.is_empty()).then(|| (path, text.into_bytes()))
    };
    Split::ALL.into_iter().filter_map(list).collect()
}

/// Checks that each object has a file of its own.
pub(super) fn check_names(rows: &[Row]) -> Result<()> {
    let mut taken = BTreeMap::new();
    for row in rows {
        if let Some(other) = taken.insert(file_name(row), row) {
            return Err(DatasetError::Export(ExportError::SameName {
                first: other.id.to_string(),
                second: row.id.to_string(),
                name: file_name(row),
            }));
        }
    }
    Ok(())
}

/// Synset and model are told apart by the first dash, lines lose white space at their ends, and the model ends at a dot.
fn file_name(row: &Row) -> String {
    let category = row.id.category().replace('-', "_");
    let name = row.id.name().replace('.', "_");
    format!("{}-{}.npy", category.trim(), name.trim())
}
