//! A step that could not be taken, because its loss, its gradient or its update was not finite: `RUN/non-finite-0000000123/`.
//!
//! The folder is a checkpoint of the state before the step, with `fault.json` beside it: what was not finite and where it
//! shows first, the samples of the batch, the terms of the loss, and the norms of weights and gradients, tensor by tensor.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::number;
use crate::run::CHECKPOINTS;
use crate::weights::checkpoint::{FAULT_PREFIX, STATE_FILE};

/// The name of the file.
pub const FAULT_FILE: &str = "fault.json";
/// Samples that a message names, at most.
const MAX_NAMED: usize = 4;

/// What is known of such a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// The step, counted from 1.
    pub step: u64,
    /// 0-based epoch of the batch.
    pub epoch: u64,
    /// The term of the loss or the gradient that is not finite.
    pub what: String,
    /// The first that is not finite of the input of each sample, the weights, the terms of the loss and the gradients.
    pub first_non_finite: String,
    /// Samples of the batch.
    pub ids: Vec<String>,
    /// Those whose input is not finite or, where all input is, whose loss alone is not.
    pub suspects: Vec<String>,
    /// The weighted loss.
    #[serde(with = "number")]
    pub loss: f64,
    /// Its terms.
    pub terms: Vec<TermValue>,
    /// The learning rate of the step.
    #[serde(with = "number")]
    pub learning_rate: f64,
    /// Device that it was computed on.
    pub device: String,
    /// Threads of torch.
    pub num_threads: usize,
    /// Weights and gradients by name.
    pub tensors: BTreeMap<String, TensorNorms>,
}

/// A term of the loss over the batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TermValue {
    /// Its name.
    pub name: String,
    /// Its weight in the loss.
    #[serde(with = "number")]
    pub weight: f64,
    /// Its mean.
    #[serde(with = "number")]
    pub mean: f64,
}

impl TermValue {
    /// Whether its part of the loss is finite, in the precision that losses are computed in.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        ((self.mean * self.weight) as f32).is_finite()
    }
}

/// A tensor before the step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TensorNorms {
    /// L2 norm of the weight.
    #[serde(with = "number")]
    pub weight: f64,
    /// Its numbers that are not finite.
    pub num_non_finite: usize,
    /// L2 norm of the gradient, of tensors that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gradient: Option<Norm>,
}

/// The norm of a gradient.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Norm {
    /// L2 norm.
    #[serde(with = "number")]
    pub norm: f64,
    /// Numbers that are not finite.
    pub num_non_finite: usize,
}

impl Fault {
    /// Where that of a step lies in the folder of its run.
    #[must_use]
    pub fn folder(run: &Path, step: u64) -> PathBuf {
        run.join(format!("{FAULT_PREFIX}{step:010}"))
    }

    /// Reads it from its folder.
    ///
    /// # Errors
    /// Where the folder is that of no such step, or the file is damaged.
    pub fn read(folder: &Path) -> Result<Self, TrainError> {
        let path = folder.join(FAULT_FILE);
        let bytes = fs::read(&path).map_err(TrainError::io("read", &path))?;
        serde_json::from_slice(&bytes).map_err(|error| TrainError::DamagedCheckpoint {
            reason: format!("{FAULT_FILE} is not readable: {error}"),
            path: folder.to_owned(),
        })
    }

    /// As the file has it.
    ///
    /// # Errors
    /// Never, in practice: it is plain data.
    pub(crate) fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let mut json = serde_json::to_vec_pretty(self)?;
        json.push(b'\n');
        Ok(json)
    }

    /// The samples at fault in words, or how many there are where no single one is.
    #[must_use]
    pub fn samples(&self) -> String {
        let is_of_some = !self.suspects.is_empty() && self.suspects.len() < self.ids.len();
        let (what, ids) = if is_of_some {
            ("sample", &self.suspects)
        } else {
            ("samples of the batch:", &self.ids)
        };
        let named = &ids[..ids.len().min(MAX_NAMED)];
        let more = match ids.len() - named.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("{what} {}{more}", named.join(", "))
    }

    /// As an error.
    pub(crate) fn error(&self, folder: PathBuf) -> TrainError {
        TrainError::NonFinite {
            what: self.what.clone(),
            step: self.step,
            samples: self.samples(),
            folder,
        }
    }
}

/// The folder of the run that a checkpoint or the state before such a step lies in; a run's own folder as it is.
#[must_use]
pub fn run_of(path: &Path) -> &Path {
    if !path.join(STATE_FILE).is_file() {
        return path;
    }
    let Some(folder) = path.parent() else {
        return path;
    };
    match folder.parent() {
        Some(run) if folder.file_name().is_some_and(|name| name == CHECKPOINTS) => run,
        _ => folder,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_named_where_they_are_to_blame() {
        let ids: Vec<String> = (0..6).map(|idx| format!("box/{idx}")).collect();
        let fault = |suspects: &[String]| Fault {
            step: 3,
            epoch: 0,
            what: String::from("loss term 'foreground'"),
            first_non_finite: String::new(),
            ids: ids.clone(),
            suspects: suspects.to_vec(),
            loss: f64::NAN,
            terms: Vec::new(),
            learning_rate: 0.1,
            device: String::from("cpu"),
            num_threads: 1,
            tensors: BTreeMap::new(),
        };
        assert_eq!(fault(&ids[4..5]).samples(), "sample box/4", "one");
        let all = "samples of the batch: box/0, box/1, box/2, box/3 and 2 more";
        assert_eq!(fault(&ids).samples(), all, "each of them alone");
        assert_eq!(fault(&[]).samples(), all, "none of them alone");
    }
}
