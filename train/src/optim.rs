//! `AdamW` as torch computes it (facts section 10), with state that can be saved and gradients clipped by their total norm.
//!
//! tch's own optimizer cannot save its moments, so a resumed run would differ. This one keeps the parameters of a decay
//! group in one flat buffer of which the network's tensors are views: a step is then a dozen operations however many
//! layers there are. Whoever loads weights later must copy into the tensors (`copy_`), never replace their data.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, no_grad};

use crate::error::TrainError;

/// Settings of the optimizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdamWConfig {
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of squared gradients.
    pub beta2: f64,
    /// Added to the denominator.
    pub epsilon: f64,
    /// Decoupled weight decay of tensors that decay.
    pub weight_decay: f64,
    /// Gradients are scaled down to this total L2 norm; infinity never clips.
    pub clip_norm: f64,
}

/// A trainable tensor and its name.
#[derive(Debug)]
struct Parameter {
    name: String,
    tensor: Tensor,
}

impl Parameter {
    /// Facts section 10: no decay for tensors of one dimension and for `.bias`; everything else decays.
    fn decays(&self) -> bool {
        self.tensor.dim() != 1 && self.name.rsplit('.').next() != Some("bias")
    }
}

/// Parameters that share a decay, in one buffer, with their moments.
#[derive(Debug)]
struct Group {
    weight_decay: f64,
    members: Vec<usize>,
    flat: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
}

/// The optimizer.
#[derive(Debug)]
pub struct AdamW {
    config: AdamWConfig,
    parameters: Vec<Parameter>,
    groups: Vec<Group>,
    num_steps: i64,
}

const EXP_AVG: &str = "exp_avg.";
const EXP_AVG_SQ: &str = "exp_avg_sq.";

impl AdamW {
    /// Takes all tensors among `variables` that require a gradient.
    #[must_use]
    pub fn new(config: AdamWConfig, variables: impl IntoIterator<Item = (String, Tensor)>) -> Self {
        let mut parameters: Vec<Parameter> = variables
            .into_iter()
            .filter(|(_, tensor)| tensor.requires_grad())
            .map(|(name, tensor)| Parameter { name, tensor })
            .collect();
        parameters.sort_by(|a, b| a.name.cmp(&b.name));
        Self {
            config,
            parameters,
            groups: Vec::new(),
            num_steps: 0,
        }
    }

    /// Steps taken so far.
    #[must_use]
    pub fn num_steps(&self) -> i64 {
        self.num_steps
    }

    /// Trainable numbers.
    #[must_use]
    pub fn num_weights(&self) -> usize {
        self.parameters
            .iter()
            .map(|parameter| parameter.tensor.numel())
            .sum()
    }

    /// One step down the gradient of `loss`; returns the norm of the gradient before clipping.
    ///
    /// Parameters that `loss` does not depend on are left alone, weight decay included.
    ///
    /// # Errors
    /// Where the gradient is not finite (nothing is changed then), or torch fails.
    pub fn step(&mut self, loss: &Tensor, learning_rate: f64) -> Result<f64, TrainError> {
        let tensors: Vec<&Tensor> = self
            .parameters
            .iter()
            .map(|parameter| &parameter.tensor)
            .collect();
        let gradients =
            Tensor::f_run_backward(&[loss], &tensors, false, false).map_err(|source| TrainError::Torch {
                action: "running the backward pass",
                source,
            })?;
        no_grad(|| {
            if self.groups.is_empty() {
                let takes_part: Vec<bool> = gradients.iter().map(Tensor::defined).collect();
                self.lay_out(&takes_part);
            }
            self.update(&gradients, learning_rate)
        })
    }

    fn update(&mut self, gradients: &[Tensor], learning_rate: f64) -> Result<f64, TrainError> {
        let mut flat_gradients: Vec<Tensor> = Vec::with_capacity(self.groups.len());
        for group in &self.groups {
            let parts: Vec<Tensor> = group
                .members
                .iter()
                .map(|&member| gradients[member].reshape([-1]))
                .collect();
            flat_gradients.push(Tensor::cat(&parts, 0));
        }
        // In f64: summed in f32, the norm of twenty million numbers is off by two in a thousand.
        let norms: Vec<Tensor> = flat_gradients
            .iter()
            .map(|gradient| gradient.norm_scalaropt_dtype(2, Kind::Double))
            .collect();
        let norm = Tensor::stack(&norms, 0).norm().double_value(&[]);
        if !norm.is_finite() {
            return Err(TrainError::NonFiniteGradient);
        }
        let clip = self.config.clip_norm / (norm + 1e-6);
        self.num_steps += 1;
        let correction1 = 1.0 - self.config.beta1.powf(self.num_steps as f64);
        let correction2 = 1.0 - self.config.beta2.powf(self.num_steps as f64);
        for (group, gradient) in self.groups.iter_mut().zip(&mut flat_gradients) {
            if clip < 1.0 {
                let _ = gradient.g_mul_scalar_(clip);
            }
            if group.weight_decay != 0.0 {
                let _ = group.flat.g_mul_scalar_(1.0 - learning_rate * group.weight_decay);
            }
            let _ = group.exp_avg.lerp_(gradient, 1.0 - self.config.beta1);
            let _ = group.exp_avg_sq.g_mul_scalar_(self.config.beta2);
            let squared = &*gradient * &*gradient;
            let _ = group.exp_avg_sq.g_add_(&(squared * (1.0 - self.config.beta2)));
            let denominator = group.exp_avg_sq.sqrt() / correction2.sqrt() + self.config.epsilon;
            let update = &group.exp_avg / denominator * (learning_rate / correction1);
            let _ = group.flat.g_sub_(&update);
        }
        Ok(norm)
    }

    /// Sorts the parameters that take part into groups and makes the network's tensors views of the buffers.
    fn lay_out(&mut self, takes_part: &[bool]) {
        for decays in [true, false] {
            let mut members: Vec<usize> = (0..self.parameters.len())
                .filter(|&member| takes_part[member] && self.parameters[member].decays() == decays)
                .collect();
            if members.is_empty() {
                continue;
            }
            // Odd sizes last, so that all other tensors begin on a 64-byte boundary.
            members.sort_by_key(|&member| !self.parameters[member].tensor.numel().is_multiple_of(16));
            let parts: Vec<Tensor> = members
                .iter()
                .map(|&member| self.parameters[member].tensor.detach().reshape([-1]))
                .collect();
            let flat = Tensor::cat(&parts, 0);
            let (exp_avg, exp_avg_sq) = (flat.zeros_like(), flat.zeros_like());
            let mut start = 0;
            for &member in &members {
                let tensor = &mut self.parameters[member].tensor;
                let length = tensor.numel() as i64;
                tensor.set_data(&flat.narrow(0, start, length).view(tensor.size().as_slice()));
                start += length;
            }
            let weight_decay = if decays { self.config.weight_decay } else { 0.0 };
            self.groups.push(Group {
                weight_decay,
                members,
                flat,
                exp_avg,
                exp_avg_sq,
            });
        }
    }

    /// The moments by name, for a checkpoint.
    #[must_use]
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = Vec::new();
        for group in &self.groups {
            let mut start = 0;
            for &member in &group.members {
                let Parameter { name, tensor } = &self.parameters[member];
                let length = tensor.numel() as i64;
                for (prefix, moments) in [(EXP_AVG, &group.exp_avg), (EXP_AVG_SQ, &group.exp_avg_sq)] {
                    state.push((
                        format!("{prefix}{name}"),
                        moments.narrow(0, start, length).view(tensor.size().as_slice()),
                    ));
                }
                start += length;
            }
        }
        state
    }

    /// Takes up moments that [`AdamW::state`] gave after `num_steps` steps.
    ///
    /// The buffers are laid out at once: matrix products may round differently for another alignment in memory, and a
    /// resumed run has to give the bits of an unbroken one.
    ///
    /// # Errors
    /// Where a moment belongs to no parameter of this network or has another shape.
    pub fn load_state(&mut self, num_steps: i64, state: Vec<(String, Tensor)>) -> Result<(), TrainError> {
        let mut takes_part = vec![false; self.parameters.len()];
        for (name, tensor) in &state {
            let parameter_name = name
                .strip_prefix(EXP_AVG)
                .or_else(|| name.strip_prefix(EXP_AVG_SQ));
            let member = parameter_name.and_then(|wanted| {
                self.parameters
                    .iter()
                    .position(|parameter| parameter.name == wanted)
            });
            match member {
                Some(member)
                    if self.parameters[member].tensor.size() == tensor.size()
                        && tensor.kind() == Kind::Float =>
                {
                    takes_part[member] = true;
                }
                _ => return Err(TrainError::OptimizerState { name: name.clone() }),
            }
        }
        self.num_steps = num_steps;
        self.groups.clear();
        no_grad(|| {
            self.lay_out(&takes_part);
            let loaded: BTreeMap<String, Tensor> = state.into_iter().collect();
            for (name, mut moments) in self.state() {
                let loaded = loaded.get(&name).ok_or(TrainError::OptimizerState { name })?;
                moments.copy_(loaded);
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use tch::nn::OptimizerConfig as _;
    use tch::{Device, nn};

    const CONFIG: AdamWConfig = AdamWConfig {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.05,
        clip_norm: f64::INFINITY,
    };

    fn leaf(values: &[f32], shape: &[i64]) -> Tensor {
        Tensor::from_slice(values).view(shape).set_requires_grad(true)
    }

    fn values(tensor: &Tensor) -> Vec<f64> {
        Vec::try_from(tensor.detach().reshape([-1]).to_kind(Kind::Double)).unwrap()
    }

    #[test]
    fn the_first_step_is_what_one_computes_by_hand() {
        // The first step moves by the learning rate against the sign of the gradient, after decay by lr * wd.
        let (weight, bias) = (leaf(&[1.0, -2.0], &[1, 2]), leaf(&[0.5], &[1]));
        let mut optimizer = AdamW::new(
            CONFIG,
            [
                (String::from("w.weight"), weight.shallow_clone()),
                (String::from("w.bias"), bias.shallow_clone()),
            ],
        );
        let loss = (&weight * Tensor::from_slice(&[3.0_f32, -4.0]).view([1, 2])).sum(Kind::Float)
            + bias.sum(Kind::Float) * 0.1;
        let norm = optimizer.step(&loss, 0.01).unwrap();
        assert!(
            (norm - (9.0_f64 + 16.0 + 0.01).sqrt()).abs() < 1e-5,
            "norm {norm}"
        );
        let expected = [
            1.0 * (1.0 - 0.01 * 0.05) - 0.01,
            -2.0 * (1.0 - 0.01 * 0.05) + 0.01,
        ];
        for (value, expected) in values(&weight).iter().zip(expected) {
            assert!((value - expected).abs() < 1e-6, "{value} is not {expected}");
        }
        assert!((values(&bias)[0] - 0.49).abs() < 1e-6, "a bias does not decay");
    }

    #[test]
    fn twenty_steps_equal_those_of_torch() {
        let build = || {
            tch::manual_seed(5);
            let store = nn::VarStore::new(Device::Cpu);
            let layer = nn::linear(store.root() / "layer", 3, 2, nn::LinearConfig::default());
            (store, layer)
        };
        let input = Tensor::arange(12, (Kind::Float, Device::Cpu)).view([4, 3]) / 6.0 - 1.0;
        let loss = |layer: &nn::Linear| (input.apply(layer) - 1.0).square().mean(Kind::Float);
        let ((reference_store, reference_layer), (store, layer)) = (build(), build());
        // Without decay, since torch's optimizer would put all tensors into one group.
        let mut reference = nn::AdamW {
            wd: 0.0,
            ..nn::AdamW::default()
        }
        .build(&reference_store, 0.01)
        .unwrap();
        let mut optimizer = AdamW::new(
            AdamWConfig {
                weight_decay: 0.0,
                ..CONFIG
            },
            store.variables(),
        );
        for _ in 0..20 {
            reference.backward_step(&loss(&reference_layer));
            optimizer.step(&loss(&layer), 0.01).unwrap();
        }
        for (name, tensor) in reference_store
            .variables()
            .into_iter()
            .collect::<BTreeMap<_, _>>()
        {
            let difference = (tensor - &store.variables()[&name]).abs().max().double_value(&[]);
            assert!(difference < 1e-6, "{name} differs by {difference}");
        }
    }

    #[test]
    fn a_gradient_is_clipped_to_the_total_norm() {
        // Adam divides the size of a gradient away, so the clip shows in the moments.
        let weight = leaf(&[1.0, 1.0], &[1, 2]);
        let mut optimizer = AdamW::new(
            AdamWConfig {
                clip_norm: 1.0,
                ..CONFIG
            },
            [(String::from("w"), weight.shallow_clone())],
        );
        optimizer
            .step(
                &(&weight * Tensor::from_slice(&[30.0_f32, 40.0])).sum(Kind::Float),
                0.01,
            )
            .unwrap();
        let state: BTreeMap<String, Tensor> = optimizer.state().into_iter().collect();
        let exp_avg = values(&state["exp_avg.w"]);
        assert!(
            (exp_avg[0] - 0.06).abs() < 1e-6 && (exp_avg[1] - 0.08).abs() < 1e-6,
            "{exp_avg:?}"
        );
    }

    #[test]
    fn a_parameter_without_gradient_is_left_alone() {
        let (used, unused) = (leaf(&[1.0, 2.0], &[1, 2]), leaf(&[3.0, 4.0], &[1, 2]));
        let mut optimizer = AdamW::new(
            CONFIG,
            [
                (String::from("used"), used.shallow_clone()),
                (String::from("unused"), unused.shallow_clone()),
            ],
        );
        optimizer.step(&used.sum(Kind::Float), 0.1).unwrap();
        assert_eq!(values(&unused), [3.0, 4.0], "no decay either");
        assert!(values(&used)[0] < 1.0, "the other one moves");
    }

    #[test]
    fn saved_moments_continue_exactly() {
        let run = |interrupt: bool| {
            let weight = leaf(&[1.0, -1.5, 0.25, 2.0], &[2, 2]);
            let parameters = || [(String::from("w"), weight.shallow_clone())];
            let mut optimizer = AdamW::new(CONFIG, parameters());
            for step in 0..6 {
                if interrupt && step == 3 {
                    let state = optimizer
                        .state()
                        .into_iter()
                        .map(|(name, tensor)| (name, tensor.copy()))
                        .collect();
                    let num_steps = optimizer.num_steps();
                    optimizer = AdamW::new(CONFIG, parameters());
                    optimizer.load_state(num_steps, state).unwrap();
                }
                optimizer
                    .step(&(weight.pow_tensor_scalar(4)).sum(Kind::Float), 0.05)
                    .unwrap();
            }
            values(&weight)
        };
        assert_eq!(run(true), run(false), "bit for bit");
    }

    #[test]
    fn a_gradient_that_is_not_finite_changes_nothing() {
        let weight = leaf(&[0.0, 1.0], &[1, 2]);
        let mut optimizer = AdamW::new(CONFIG, [(String::from("w"), weight.shallow_clone())]);
        let outcome = optimizer.step(&weight.log().sum(Kind::Float), 0.1);
        assert!(
            matches!(outcome, Err(TrainError::NonFiniteGradient)),
            "{outcome:?}"
        );
        assert_eq!(values(&weight), [0.0, 1.0], "unchanged");
    }
}
