//! Which weights of a fine-tuning are its result: those of the last step, or those that an evaluation on the way liked best
//! (`docs/protocols.md`, "Selection of weights").

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tch::nn::VarStore;

use super::require_exact;
use crate::error::TrainError;
use crate::run::weights::BEST_FILE;
use crate::weights::checkpoint::copy_weights;
use crate::weights::safetensors::{read_metadata, read_weights, write_tensors};

/// Metadata of the file.
const STEP_KEY: &str = "step";
const SCORE_KEY: &str = "score";

/// The best evaluation so far.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// The step after which it was.
    pub step: u64,
    /// Its score, 0 to 1.
    pub score: f64,
}

/// Keeps the weights of the best evaluation of a run.
#[derive(Debug)]
pub(super) struct BestWeights {
    file: PathBuf,
    /// Of the file, beside step and score.
    metadata: BTreeMap<String, String>,
    best: Option<Best>,
}

impl BestWeights {
    /// Those of a run; of one that is resumed, with what it found before.
    pub(super) fn open(run: &Path, metadata: BTreeMap<String, String>) -> Result<Self, TrainError> {
        let file = run.join(BEST_FILE);
        let best = if file.is_file() {
            let saved = read_metadata(&file)?;
            let step = saved.get(STEP_KEY).and_then(|step| step.parse().ok());
            let score = saved.get(SCORE_KEY).and_then(|score| score.parse().ok());
            step.zip(score).map(|(step, score)| Best { step, score })
        } else {
            None
        };
        Ok(Self { file, metadata, best })
    }

    /// Keeps the weights in `store` where their score is better than all before; of equal ones the first stays.
    pub(super) fn offer(&mut self, store: &VarStore, step: u64, score: f64) -> Result<(), TrainError> {
        if self.best.is_some_and(|best| score <= best.score) {
            return Ok(());
        }
        let mut metadata = self.metadata.clone();
        metadata.insert(STEP_KEY.to_owned(), step.to_string());
        metadata.insert(SCORE_KEY.to_owned(), score.to_string());
        write_tensors(&self.file, store.variables().into_iter().collect(), &metadata)?;
        self.best = Some(Best { step, score });
        Ok(())
    }

    /// Loads the best weights.
    pub(super) fn load(&self, store: &VarStore) -> Result<Option<Best>, TrainError> {
        if self.best.is_some() {
            let tensors = read_weights(&self.file)?;
            require_exact(copy_weights(store, &tensors, ""), &self.file)?;
        }
        Ok(self.best)
    }

    /// Removes the file of a run that is finished, whose own weights are the best.
    pub(super) fn remove(self) -> Result<(), TrainError> {
        match std::fs::remove_file(&self.file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(TrainError::io("remove", self.file)(error))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use tch::{Device, Kind, Tensor, no_grad};

    use super::*;

    #[test]
    fn the_first_of_the_best_scores_is_kept_over_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let store = VarStore::new(Device::Cpu);
        let mut weight = store.root().zeros("weight", &[1]);
        let mut set =
            |value: f64| no_grad(|| weight.copy_(&Tensor::full([1], value, (Kind::Float, Device::Cpu))));
        let open = || BestWeights::open(folder.path(), BTreeMap::new()).unwrap();
        let mut best = open();
        assert_eq!(best.load(&store).unwrap(), None, "nothing to load");
        for (step, score) in [(1, 0.5), (2, 0.7), (3, 0.7)] {
            set(step as f64);
            best.offer(&store, step, score).unwrap();
        }
        let mut best = open();
        set(4.0);
        best.offer(&store, 4, 0.6).unwrap();
        assert_eq!(best.load(&store).unwrap(), Some(Best { step: 2, score: 0.7 }));
        let value = store.variables()["weight"].double_value(&[0]);
        assert!((value - 2.0).abs() < 1e-12, "{value}");
        best.remove().unwrap();
        assert!(!folder.path().join(BEST_FILE).exists());
    }
}
