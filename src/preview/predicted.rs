//! Predicted parts, as `tap-train predict` writes them.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use tap_dataset::npy;

/// What the arrays are of.
const PREDICT_FILE: &str = "predict.json";
/// Objects x points.
const PARTS_FILE: &str = "parts.npy";
/// Objects x points, where they are known.
const TRUE_PARTS_FILE: &str = "true_parts.npy";
/// Objects x points x 3.
const POINTS_FILE: &str = "points.npy";
/// In place of a true part that is not known.
const NO_PART: u8 = u8::MAX;

/// Predicted parts of objects.
#[derive(Debug)]
pub(super) struct Predicted {
    places: BTreeMap<String, usize>,
    num_points: usize,
    points: Vec<f32>,
    parts: Vec<u8>,
    /// Empty where none is known.
    true_parts: Vec<u8>,
}

/// The points of one object, as the network saw them.
#[derive(Debug)]
pub(super) struct PredictedObject<'a> {
    pub(super) points: &'a [[f32; 3]],
    pub(super) parts: &'a [u8],
    /// Empty where they are not known.
    pub(super) true_parts: &'a [u8],
}

/// What is read of `predict.json`.
#[derive(Debug, Deserialize)]
struct PredictFile {
    num_points: usize,
    #[serde(default)]
    ids: Vec<String>,
}

impl Predicted {
    /// Reads the folder of a prediction of parts.
    ///
    /// # Errors
    /// When it is none, or its files contradict each other.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let read = |name: &str| {
            let file = folder.join(name);
            std::fs::read(&file).with_context(|| format!("could not read {}", file.display()))
        };
        let file: PredictFile = serde_json::from_slice(&read(PREDICT_FILE)?)
            .with_context(|| format!("not a result of `tap-train predict`: {}", folder.display()))?;
        let PredictFile { num_points, ids } = file;
        ensure!(
            !ids.is_empty(),
            "no predicted parts, but classes: only a run of part segmentation predicts parts: {}",
            folder.display()
        );
        let num_values = ids.len().saturating_mul(num_points);
        let damaged = |name: &str| {
            format!(
                "not an array of {num_points} points of {} objects: {name}",
                ids.len()
            )
        };
        let parts_of = |name: &str| {
            let (_, values) = npy::decode_u8(&read(name)?)
                .filter(|(_, values)| values.len() == num_values)
                .with_context(|| damaged(name))?;
            anyhow::Ok(values)
        };
        let (_, points) = npy::decode_f32(&read(POINTS_FILE)?)
            .filter(|(_, values)| Some(values.len()) == num_values.checked_mul(3))
            .with_context(|| damaged(POINTS_FILE))?;
        let parts = parts_of(PARTS_FILE)?;
        let true_parts = if folder.join(TRUE_PARTS_FILE).exists() {
            parts_of(TRUE_PARTS_FILE)?
        } else {
            Vec::new()
        };
        Ok(Self {
            places: ids.into_iter().zip(0..).collect(),
            num_points,
            points,
            parts,
            true_parts,
        })
    }

    /// Those of an object; none where it was not predicted.
    pub(super) fn of(&self, id: &str) -> Option<PredictedObject<'_>> {
        let place = *self.places.get(id)?;
        let range = place * self.num_points..(place + 1) * self.num_points;
        let (points, _) = self.points.as_chunks::<3>();
        let true_parts = self.true_parts.get(range.clone()).unwrap_or_default();
        Some(PredictedObject {
            points: &points[range.clone()],
            parts: &self.parts[range],
            true_parts: if true_parts.contains(&NO_PART) {
                &[]
            } else {
                true_parts
            },
        })
    }

    pub(super) fn has(&self, id: &str) -> bool {
        self.places.contains_key(id)
    }
}
