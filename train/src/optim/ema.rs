//! Exponential moving average (EMA) of a network's weights and buffers, which is then what is evaluated and saved.
//!
//! It starts at the first weights. The decay after t steps is `min(decay, (1 + t) / (10 + t))`, so that a short run is not
//! dominated by its initialization.

use std::collections::BTreeMap;

use tch::nn::VarStore;
use tch::{Kind, Tensor, no_grad};

use crate::error::TrainError;

/// The average of all variables of a store.
#[derive(Debug)]
pub struct Ema {
    decay: f64,
    num_updates: u64,
    /// By name: the variable and its average.
    averages: BTreeMap<String, (Tensor, Tensor)>,
}

impl Ema {
    /// Starts at the weights of `store`, after `num_updates` steps.
    #[must_use]
    pub fn new(store: &VarStore, decay: f64, num_updates: u64) -> Self {
        let averages = store
            .variables()
            .into_iter()
            .map(|(name, variable)| {
                let average = no_grad(|| variable.detach().copy());
                (name, (variable, average))
            })
            .collect();
        Self {
            decay,
            num_updates,
            averages,
        }
    }

    /// Updates the average after a step.
    pub fn update(&mut self) {
        self.num_updates += 1;
        let count = self.num_updates as f64;
        let decay = self.decay.min((1.0 + count) / (10.0 + count));
        no_grad(|| {
            for (variable, average) in self.averages.values_mut() {
                if average.kind() == Kind::Float {
                    let _ = average.lerp_(&variable.detach(), 1.0 - decay);
                } else {
                    average.copy_(&variable.detach());
                }
            }
        });
    }

    /// Swaps weights and average: before an evaluation, and back after it.
    pub fn swap(&mut self) {
        no_grad(|| {
            for (variable, average) in self.averages.values_mut() {
                let weights = variable.detach().copy();
                // In place: these tensors are views of the optimizer's buffers.
                variable.detach().copy_(average);
                average.copy_(&weights);
            }
        });
    }

    /// The average by name, for a checkpoint.
    #[must_use]
    pub fn state(&self) -> Vec<(String, Tensor)> {
        self.averages
            .iter()
            .map(|(name, (_, average))| (name.clone(), average.shallow_clone()))
            .collect()
    }

    /// Restores an average of [`Ema::state`].
    ///
    /// # Errors
    /// Where it is that of another network.
    pub fn load_state(&mut self, mut state: BTreeMap<String, Tensor>) -> Result<(), TrainError> {
        for (name, (_, average)) in &mut self.averages {
            match state.remove(name) {
                Some(saved) if saved.size() == average.size() => no_grad(|| average.copy_(&saved)),
                _ => return Err(TrainError::OptimizerState { name: name.clone() }),
            }
        }
        match state.into_keys().next() {
            Some(name) => Err(TrainError::OptimizerState { name }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use tch::Device;

    use super::*;

    fn set(tensor: &Tensor, value: f64) {
        let _ = no_grad(|| tensor.shallow_clone().fill_(value));
    }

    #[test]
    fn the_average_follows_and_is_exchanged_and_back() {
        let store = VarStore::new(Device::Cpu);
        let weight = (store.root() / "layer").zeros("weight", &[2]);
        let mut ema = Ema::new(&store, 0.5, 0);
        let value = |tensor: &Tensor| tensor.double_value(&[0]);
        set(&weight, 1.0);
        ema.update();
        let first = 1.0 - 2.0 / 11.0;
        assert!((value(&ema.state()[0].1) - first).abs() < 1e-6, "quick at first");
        for _ in 0..60 {
            ema.update();
        }
        set(&weight, 3.0);
        ema.update();
        assert!(
            (value(&ema.state()[0].1) - 2.0).abs() < 1e-6,
            "half-way with a decay of a half"
        );
        ema.swap();
        assert!((value(&weight) - 2.0).abs() < 1e-6, "the network has the average");
        ema.swap();
        assert!((value(&weight) - 3.0).abs() < 1e-9, "and its own weights again");
        assert!(weight.requires_grad(), "it still learns");
    }

    #[test]
    fn a_saved_average_continues_and_that_of_another_network_is_refused() {
        let store = VarStore::new(Device::Cpu);
        let weight = (store.root() / "layer").zeros("weight", &[2]);
        let mut ema = Ema::new(&store, 0.9, 0);
        set(&weight, 1.0);
        ema.update();
        let saved: BTreeMap<_, _> = ema
            .state()
            .into_iter()
            .map(|(name, tensor)| (name, tensor.copy()))
            .collect();
        let mut other = Ema::new(&store, 0.9, 1);
        other.load_state(saved).unwrap();
        ema.update();
        other.update();
        assert!(ema.state()[0].1.equal(&other.state()[0].1), "bit for bit");
        let strange = BTreeMap::from([(
            String::from("other.weight"),
            VarStore::new(Device::Cpu).root().zeros("x", &[2]),
        )]);
        assert!(other.load_state(strange).is_err(), "another network");
    }
}
