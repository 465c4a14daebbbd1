//! `AdamW` as torch computes it (`docs/method.md`, "Optimization"), with state that can be saved and gradients clipped by
//! their global norm.
//!
//! tch's own optimizer cannot save its moments, so a resumed run would differ. This one keeps the parameters of a decay
//! group in one flat buffer of which the network's tensors are views: a step is then one pass over the numbers on a CPU
//! and a dozen operations elsewhere, however many layers there are. Weights that are loaded later must be
//! copied into the tensors (`copy_`); their storage must not be replaced.
//!
//! Gradient accumulation: [`AdamW::accumulate`] for each micro-batch, then [`AdamW::apply`]. What was accumulated may be
//! summed over ranks in between: it is one flat tensor a group. Where something else runs the backward passes,
//! [`AdamW::set_gradients`] takes what they come to.
//!
//! A group may be frozen for its first steps: [`AdamW::freeze`] before each forward pass takes its gradients away and gives
//! them back, and its moments begin when it moves.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, no_grad};

use crate::error::TrainError;
use crate::ops::floats_mut;

/// Parameters that a thread updates at a time.
const CHUNK: usize = 1 << 15;

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
    /// Gradients are clipped to this global L2 norm; 0 and infinity do not clip.
    #[serde(rename = "clip_norm", alias = "max_grad_norm")]
    pub max_grad_norm: f64,
}

/// What the parameters of a group have in common.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ParameterGroup {
    /// Whether weight decay applies.
    pub decays: bool,
    /// Factor of the learning rate.
    pub rate_factor: f64,
    /// Steps of the run before the first that moves them.
    pub frozen_steps: u64,
}

impl ParameterGroup {
    /// No decay for tensors of one dimension and for `.bias`; everything else decays (`docs/method.md`, "Optimization"). One
    /// learning rate for all.
    #[must_use]
    pub fn of(name: &str, tensor: &Tensor) -> Self {
        Self {
            decays: tensor.dim() != 1 && name.rsplit('.').next() != Some("bias"),
            rate_factor: 1.0,
            frozen_steps: 0,
        }
    }
}

/// A trainable tensor, its name and its group.
#[derive(Debug)]
struct Parameter {
    name: String,
    tensor: Tensor,
    group: ParameterGroup,
}

impl Parameter {
    /// Whether it is frozen after so many steps.
    fn is_frozen(&self, num_steps: i64) -> bool {
        num_steps < self.group.frozen_steps as i64
    }

    /// Whether the step after so many is the first that moves it.
    fn is_first_moved(&self, num_steps: i64) -> bool {
        num_steps == self.group.frozen_steps as i64
    }
}

/// Parameters of one group, in one buffer, with their moments.
#[derive(Debug)]
struct Group {
    common: ParameterGroup,
    members: Vec<usize>,
    flat: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
}

impl Group {
    /// The flat gradient of the members; zeros for a member that this loss does not depend on.
    fn flatten(&self, gradients: &[Tensor], parameters: &[Parameter]) -> Tensor {
        let part = |&member: &usize| {
            let gradient = &gradients[member];
            if gradient.defined() {
                gradient.reshape([-1])
            } else {
                parameters[member].tensor.detach().reshape([-1]).zeros_like()
            }
        };
        Tensor::cat(&self.members.iter().map(part).collect::<Vec<_>>(), 0)
    }

    fn step(&mut self, gradient: &mut Tensor, factors: Factors) {
        if let (Some(weights), Some(means), Some(squares), Some(gradients)) = (
            floats_mut(&mut self.flat),
            floats_mut(&mut self.exp_avg),
            floats_mut(&mut self.exp_avg_sq),
            floats_mut(gradient),
        ) {
            weights
                .par_chunks_mut(CHUNK)
                .zip(means.par_chunks_mut(CHUNK))
                .zip(squares.par_chunks_mut(CHUNK))
                .zip(gradients.par_chunks(CHUNK))
                .for_each(|(((weights, means), squares), gradients)| {
                    step_chunk(weights, means, squares, gradients, factors);
                });
        } else {
            self.step_batched(gradient, factors);
        }
    }

    /// The same step as tensor operations, for any device.
    fn step_batched(&mut self, gradient: &Tensor, factors: Factors) {
        let number = f64::from;
        let gradient = gradient * number(factors.clip);
        let _ = self.flat.g_mul_scalar_(number(factors.decay));
        let _ = self.exp_avg.lerp_(&gradient, number(factors.mean_rate));
        let _ = self.exp_avg_sq.g_mul_scalar_(number(factors.square_keep));
        let _ = self
            .exp_avg_sq
            .g_add_(&(&gradient * &gradient * number(factors.square_rate)));
        let denominator = self.exp_avg_sq.sqrt() / number(factors.root_correction) + number(factors.epsilon);
        let update = &self.exp_avg / denominator * number(factors.step_size);
        let _ = self.flat.g_sub_(&update);
    }
}

fn step_chunk(
    weights: &mut [f32],
    means: &mut [f32],
    squares: &mut [f32],
    gradients: &[f32],
    factors: Factors,
) {
    for (((weight, mean), square), &gradient) in weights.iter_mut().zip(means).zip(squares).zip(gradients) {
        let gradient = gradient * factors.clip;
        *mean += factors.mean_rate * (gradient - *mean);
        *square = *square * factors.square_keep + gradient * gradient * factors.square_rate;
        let denominator = square.sqrt() / factors.root_correction + factors.epsilon;
        *weight = *weight * factors.decay - *mean / denominator * factors.step_size;
    }
}

/// In f64: summed in f32, the norm of twenty million numbers is off by two in a thousand.
fn squared_norm(gradient: &mut Tensor) -> Result<f64, TrainError> {
    if let Some(numbers) = floats_mut(gradient) {
        // The parts are added in their order, so that the number of threads does not show.
        let parts: Vec<f64> = numbers.par_chunks(CHUNK).map(squared_norm_of_chunk).collect();
        return Ok(parts.iter().sum());
    }
    let norm = gradient.norm_scalaropt_dtype(2, Kind::Double);
    let norm = norm.f_double_value(&[]).map_err(|source| TrainError::Torch {
        action: "reading the norm of the gradient",
        source,
    })?;
    Ok(norm * norm)
}

fn squared_norm_of_chunk(chunk: &[f32]) -> f64 {
    const LANES: usize = 8;
    let mut lanes = [0f64; LANES];
    let blocks = chunk.chunks_exact(LANES);
    let rest: f64 = blocks
        .remainder()
        .iter()
        .map(|&number| f64::from(number) * f64::from(number))
        .sum();
    for block in blocks {
        for (lane, &number) in lanes.iter_mut().zip(block) {
            *lane += f64::from(number) * f64::from(number);
        }
    }
    lanes.iter().sum::<f64>() + rest
}

/// The optimizer.
#[derive(Debug)]
pub struct AdamW {
    config: AdamWConfig,
    parameters: Vec<Parameter>,
    groups: Vec<Group>,
    /// Gradients since the last step, one flat tensor a group; none right after a step.
    accumulated: Vec<Tensor>,
    num_steps: i64,
}

/// Factors of a step that are the same for all parameters of a group.
#[derive(Debug, Clone, Copy)]
struct Factors {
    clip: f32,
    decay: f32,
    mean_rate: f32,
    square_keep: f32,
    square_rate: f32,
    root_correction: f32,
    epsilon: f32,
    step_size: f32,
}

const EXP_AVG: &str = "exp_avg.";
const EXP_AVG_SQ: &str = "exp_avg_sq.";

impl AdamW {
    /// Takes all tensors among `variables` that require a gradient, in the groups of [`ParameterGroup::of`].
    #[must_use]
    pub fn new(config: AdamWConfig, variables: impl IntoIterator<Item = (String, Tensor)>) -> Self {
        Self::with_groups(config, variables, ParameterGroup::of)
    }

    /// Takes all tensors among `variables` that require a gradient, each in the group that `group` says.
    #[must_use]
    pub fn with_groups(
        config: AdamWConfig,
        variables: impl IntoIterator<Item = (String, Tensor)>,
        group: impl Fn(&str, &Tensor) -> ParameterGroup,
    ) -> Self {
        let mut parameters: Vec<Parameter> = variables
            .into_iter()
            .filter(|(_, tensor)| tensor.requires_grad())
            .map(|(name, tensor)| Parameter {
                group: group(&name, &tensor),
                name,
                tensor,
            })
            .collect();
        parameters.sort_by(|a, b| a.name.cmp(&b.name));
        Self {
            config,
            parameters,
            groups: Vec::new(),
            accumulated: Vec::new(),
            num_steps: 0,
        }
    }

    /// Steps taken so far.
    #[must_use]
    pub fn num_steps(&self) -> i64 {
        self.num_steps
    }

    /// Trainable parameters.
    #[must_use]
    pub fn num_parameters(&self) -> usize {
        self.parameters
            .iter()
            .map(|parameter| parameter.tensor.numel())
            .sum()
    }

    /// Takes the gradients of parameters away that are frozen in the next step, and gives them back to the others: to be
    /// called before the forward pass of a step.
    pub fn freeze(&self) {
        for parameter in &self.parameters {
            let is_frozen = parameter.is_frozen(self.num_steps);
            if parameter.tensor.requires_grad() == is_frozen {
                let _ = parameter.tensor.set_requires_grad(!is_frozen);
            }
        }
    }

    /// Adds the gradient of `loss` to that of the next step.
    ///
    /// # Errors
    /// Where torch fails.
    pub fn accumulate(&mut self, loss: &Tensor) -> Result<(), TrainError> {
        let gradients = self.gradients_of(loss)?;
        no_grad(|| {
            if self.accumulated.is_empty() {
                // A parameter without a gradient in its first step is left alone ever after.
                let is_first = |(parameter, gradient): (&Parameter, &Tensor)| {
                    gradient.defined() && parameter.is_first_moved(self.num_steps)
                };
                let first: Vec<bool> = self.parameters.iter().zip(&gradients).map(is_first).collect();
                self.flatten_parameters(&first);
            }
            let flat: Vec<Tensor> = self
                .groups
                .iter()
                .map(|group| group.flatten(&gradients, &self.parameters))
                .collect();
            if self.accumulated.is_empty() {
                self.accumulated = flat;
            } else {
                for (sum, gradient) in self.accumulated.iter_mut().zip(&flat) {
                    let _ = sum.g_add_(gradient);
                }
            }
        });
        Ok(())
    }

    /// The gradient of each parameter; undefined where the loss does not depend on it, or it is frozen.
    fn gradients_of(&self, loss: &Tensor) -> Result<Vec<Tensor>, TrainError> {
        let is_moved = |parameter: &&Parameter| !parameter.is_frozen(self.num_steps);
        let moved = self.parameters.iter().filter(is_moved);
        let tensors: Vec<&Tensor> = moved.map(|parameter| &parameter.tensor).collect();
        let gradients =
            Tensor::f_run_backward(&[loss], &tensors, false, false).map_err(|source| TrainError::Torch {
                action: "running the backward pass",
                source,
            })?;
        let mut gradients = gradients.into_iter();
        let parameters = self.parameters.iter();
        Ok(parameters
            .map(|parameter| {
                let gradient = is_moved(&parameter).then(|| gradients.next()).flatten();
                gradient.unwrap_or_else(Tensor::new)
            })
            .collect())
    }

    /// One step down the gradient of `loss` and of all that was accumulated: see [`AdamW::apply`].
    ///
    /// # Errors
    /// Where gradient or update are not finite, or torch fails.
    pub fn step(&mut self, loss: &Tensor, learning_rate: f64) -> Result<f64, TrainError> {
        self.accumulate(loss)?;
        self.apply(learning_rate)
    }

    /// One step down the accumulated gradient; returns its norm before clipping.
    ///
    /// Parameters that the loss does not depend on are left alone, weight decay included.
    ///
    /// # Errors
    /// Where gradient or update are not finite, or torch fails. Nothing is changed then, and the gradient is kept for
    /// [`gradients`](Self::gradients).
    pub fn apply(&mut self, learning_rate: f64) -> Result<f64, TrainError> {
        let mut gradients = std::mem::take(&mut self.accumulated);
        let norm = no_grad(|| self.update(&mut gradients, learning_rate));
        if norm.is_err() {
            self.accumulated = gradients;
        }
        norm
    }

    /// Whether the next step is the first that moves some parameters. Which of those have a gradient is found then.
    pub(crate) fn begins(&self) -> bool {
        let mut parameters = self.parameters.iter();
        parameters.any(|parameter| parameter.is_first_moved(self.num_steps))
    }

    /// The names of the parameters that move, in their order.
    pub(crate) fn moved(&self) -> Vec<String> {
        let moving = self.moving().into_iter();
        moving.map(|(name, _)| name.to_owned()).collect()
    }

    /// The parameters that move, in the order of their names.
    pub(crate) fn moving(&self) -> Vec<(&str, &Tensor)> {
        let members = self.groups.iter().flat_map(|group| &group.members);
        let mut members: Vec<usize> = members.copied().collect();
        members.sort_unstable();
        let named = |member: usize| {
            let Parameter { name, tensor, .. } = &self.parameters[member];
            (name.as_str(), tensor)
        };
        members.into_iter().map(named).collect()
    }

    /// Takes these gradients, of parameters that move, as all that is accumulated; zeros stand for one that is undefined or
    /// not there.
    pub(crate) fn set_gradients(&mut self, mut gradients: BTreeMap<String, Tensor>) {
        let gradients: Vec<Tensor> = self
            .parameters
            .iter()
            .map(|parameter| gradients.remove(&parameter.name).unwrap_or_default())
            .collect();
        self.accumulated = no_grad(|| {
            let groups = self.groups.iter();
            groups
                .map(|group| group.flatten(&gradients, &self.parameters))
                .collect()
        });
    }

    /// Makes these parameters move, as the gradients of another rank say.
    pub(crate) fn move_also(&mut self, names: &[String]) {
        let is_named = |parameter: &Parameter| names.contains(&parameter.name);
        let chosen: Vec<bool> = self.parameters.iter().map(is_named).collect();
        no_grad(|| self.flatten_parameters(&chosen));
    }

    /// The accumulated gradient, one flat tensor a group; zeros where there was no micro-batch.
    pub(crate) fn accumulated(&mut self) -> &[Tensor] {
        if self.accumulated.is_empty() {
            self.accumulated = self.groups.iter().map(|group| group.flat.zeros_like()).collect();
        }
        &self.accumulated
    }

    /// The accumulated gradient of each parameter that has one, by name.
    #[must_use]
    pub fn gradients(&self) -> Vec<(String, Tensor)> {
        let pairs = self.groups.iter().zip(&self.accumulated);
        pairs
            .flat_map(|(group, flat)| self.members_of(group, flat))
            .map(|(name, gradient)| (name.to_owned(), gradient))
            .collect()
    }

    /// Forgets the accumulated gradient.
    pub fn clear_gradients(&mut self) {
        self.accumulated.clear();
    }

    /// The parts of a flat buffer of a group in the shapes of its members, each with the parameter's name.
    fn members_of(&self, group: &Group, flat: &Tensor) -> Vec<(&str, Tensor)> {
        let mut start = 0;
        let mut parts = Vec::with_capacity(group.members.len());
        for &member in &group.members {
            let Parameter { name, tensor, .. } = &self.parameters[member];
            let length = tensor.numel() as i64;
            let part = flat.narrow(0, start, length).view(tensor.size().as_slice());
            parts.push((name.as_str(), part));
            start += length;
        }
        parts
    }

    fn update(&mut self, gradients: &mut [Tensor], learning_rate: f64) -> Result<f64, TrainError> {
        let norm = gradients
            .iter_mut()
            .map(squared_norm)
            .sum::<Result<f64, TrainError>>()?
            .sqrt();
        if !norm.is_finite() {
            return Err(TrainError::NonFiniteGradient);
        }
        let AdamWConfig {
            beta1,
            beta2,
            epsilon,
            weight_decay,
            max_grad_norm,
        } = self.config;
        let clip = if max_grad_norm > 0.0 {
            (max_grad_norm / (norm + 1e-6)).min(1.0)
        } else {
            1.0
        };
        let num_steps = self.num_steps + 1;
        let factors: Vec<Factors> = self
            .groups
            .iter()
            .map(|group| {
                let learning_rate = learning_rate * group.common.rate_factor;
                // Of the steps that moved the group.
                let num_moved = num_steps - group.common.frozen_steps as i64;
                let correction = |beta: f64| 1.0 - beta.powf(num_moved as f64);
                let weight_decay = if group.common.decays { weight_decay } else { 0.0 };
                Factors {
                    clip: clip as f32,
                    decay: (1.0 - learning_rate * weight_decay) as f32,
                    mean_rate: (1.0 - beta1) as f32,
                    square_keep: beta2 as f32,
                    square_rate: (1.0 - beta2) as f32,
                    root_correction: correction(beta2).sqrt() as f32,
                    epsilon: epsilon as f32,
                    step_size: (learning_rate / correction(beta1)) as f32,
                }
            })
            .collect();
        let is_finite = |factors: &Factors| factors.decay.is_finite() && factors.step_size.is_finite();
        // Squares of the gradient are moments.
        let fits = clip * norm < f64::from(f32::MAX).sqrt();
        if !fits || !factors.iter().all(is_finite) {
            return Err(TrainError::NonFiniteUpdate);
        }
        self.num_steps = num_steps;
        for ((group, gradient), factors) in self.groups.iter_mut().zip(gradients).zip(factors) {
            group.step(gradient, factors);
        }
        Ok(norm)
    }

    /// Sorts the parameters that are `chosen`, and in no group yet, into groups and makes the network's tensors views of flat
    /// buffers.
    fn flatten_parameters(&mut self, chosen: &[bool]) {
        let mut is_new = chosen.to_vec();
        for &member in self.groups.iter().flat_map(|group| &group.members) {
            is_new[member] = false;
        }
        let mut groups: Vec<ParameterGroup> = Vec::new();
        for (parameter, is_new) in self.parameters.iter().zip(&is_new) {
            if *is_new && !groups.contains(&parameter.group) {
                groups.push(parameter.group);
            }
        }
        // In an order that the names don't decide, and that is the same whether a resumed run makes all at once.
        groups.sort_by(|a, b| {
            let by_begin = a.frozen_steps.cmp(&b.frozen_steps);
            let by_decay = b.decays.cmp(&a.decays);
            by_begin
                .then(by_decay)
                .then(b.rate_factor.total_cmp(&a.rate_factor))
        });
        for common in groups {
            let mut members: Vec<usize> = (0..self.parameters.len())
                .filter(|&member| is_new[member] && self.parameters[member].group == common)
                .collect();
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
            self.groups.push(Group {
                common,
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
            for (prefix, moments) in [(EXP_AVG, &group.exp_avg), (EXP_AVG_SQ, &group.exp_avg_sq)] {
                let parts = self.members_of(group, moments).into_iter();
                state.extend(parts.map(|(name, part)| (format!("{prefix}{name}"), part)));
            }
        }
        state
    }

    /// Restores moments of [`AdamW::state`] after `num_steps` steps.
    ///
    /// The buffers are allocated at once: matrix products may round differently for another alignment in memory, and a
    /// resumed run has to give the bits of an unbroken one.
    ///
    /// # Errors
    /// Where a moment belongs to no parameter of this network or has another shape.
    pub fn load_state(&mut self, num_steps: i64, state: Vec<(String, Tensor)>) -> Result<(), TrainError> {
        let mut has_gradient = vec![false; self.parameters.len()];
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
                    has_gradient[member] = true;
                }
                _ => return Err(TrainError::OptimizerState { name: name.clone() }),
            }
        }
        self.allocate(num_steps, &has_gradient);
        no_grad(|| {
            let loaded: BTreeMap<String, Tensor> = state.into_iter().collect();
            for (name, mut moments) in self.state() {
                let loaded = loaded.get(&name).ok_or(TrainError::OptimizerState { name })?;
                moments.copy_(loaded);
            }
            Ok(())
        })
    }

    /// Allocates the buffers of the parameters that have `moved` in `num_steps` steps, as the state of another rank has
    /// them: [`AdamW::state`] is then to be filled.
    pub(crate) fn allocate_moved(&mut self, num_steps: i64, moved: &[String]) {
        let has_moved = |parameter: &Parameter| moved.contains(&parameter.name);
        let has_moved: Vec<bool> = self.parameters.iter().map(has_moved).collect();
        self.allocate(num_steps, &has_moved);
    }

    fn allocate(&mut self, num_steps: i64, has_moved: &[bool]) {
        self.num_steps = num_steps;
        self.groups.clear();
        no_grad(|| self.flatten_parameters(has_moved));
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
        max_grad_norm: f64::INFINITY,
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
                max_grad_norm: 1.0,
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
    fn zero_does_not_clip() {
        let moments = |max_grad_norm| {
            let weight = leaf(&[1.0, 1.0], &[1, 2]);
            let config = AdamWConfig {
                max_grad_norm,
                ..CONFIG
            };
            let mut optimizer = AdamW::new(config, [(String::from("w"), weight.shallow_clone())]);
            let gradient = Tensor::from_slice(&[30.0_f32, 40.0]);
            optimizer
                .step(&(&weight * gradient).sum(Kind::Float), 0.01)
                .unwrap();
            let state: BTreeMap<String, Tensor> = optimizer.state().into_iter().collect();
            values(&state["exp_avg.w"])
        };
        assert_eq!(moments(0.0), moments(f64::INFINITY));
        assert!(moments(0.0)[0] > 2.9, "a tenth of the gradient");
    }

    #[test]
    fn both_forms_of_a_step_agree() {
        tch::manual_seed(2);
        let build = || Group {
            common: ParameterGroup {
                decays: true,
                rate_factor: 1.0,
                frozen_steps: 0,
            },
            members: Vec::new(),
            flat: Tensor::arange(1000, (Kind::Float, Device::Cpu)) / 500.0 - 1.0,
            exp_avg: Tensor::full([1000], 0.01, (Kind::Float, Device::Cpu)),
            exp_avg_sq: Tensor::full([1000], 0.02, (Kind::Float, Device::Cpu)),
        };
        let factors = Factors {
            clip: 0.5,
            decay: 0.999,
            mean_rate: 0.1,
            square_keep: 0.999,
            square_rate: 0.001,
            root_correction: 0.3,
            epsilon: 1e-8,
            step_size: 0.02,
        };
        let mut gradient = Tensor::randn([1000], (Kind::Float, Device::Cpu));
        let (mut by_pass, mut by_operations) = (build(), build());
        by_pass.step(&mut gradient, factors);
        by_operations.step_batched(&gradient, factors);
        for (a, b) in [
            (&by_pass.flat, &by_operations.flat),
            (&by_pass.exp_avg, &by_operations.exp_avg),
            (&by_pass.exp_avg_sq, &by_operations.exp_avg_sq),
        ] {
            assert!(a.allclose(b, 1e-6, 1e-7, false), "{a:?} {b:?}");
        }
    }

    #[test]
    fn a_batch_in_parts_takes_the_step_of_the_whole() {
        let input = Tensor::arange(12, (Kind::Float, Device::Cpu)).view([4, 3]) / 6.0 - 1.0;
        let run = |num_micro_batches: i64| {
            let weight = leaf(&[1.0, -1.5, 0.25], &[3, 1]);
            let mut optimizer = AdamW::new(CONFIG, [(String::from("w"), weight.shallow_clone())]);
            let rows = 4 / num_micro_batches;
            for _ in 0..3 {
                for part in 0..num_micro_batches {
                    let loss = input
                        .narrow(0, part * rows, rows)
                        .matmul(&weight)
                        .square()
                        .sum(Kind::Float)
                        / 4.0;
                    if part + 1 < num_micro_batches {
                        optimizer.accumulate(&loss).unwrap();
                    } else {
                        optimizer.step(&loss, 0.05).unwrap();
                    }
                }
            }
            assert_eq!(optimizer.num_steps(), 3, "one step a batch");
            values(&weight)
        };
        for (whole, parts) in run(1).iter().zip(run(2)) {
            assert!((whole - parts).abs() < 1e-6, "{whole} and {parts}");
        }
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
    fn a_frozen_group_begins_late_as_an_optimizer_of_its_own_and_resumes_exactly() {
        const FROZEN: u64 = 2;
        let group = |name: &str, tensor: &Tensor| ParameterGroup {
            frozen_steps: if name == "encoder" { FROZEN } else { 0 },
            ..ParameterGroup::of(name, tensor)
        };
        let loss = |tensor: &Tensor| tensor.pow_tensor_scalar(4).sum(Kind::Float);
        let run = |interrupt_at: Option<u64>| {
            let (encoder, head) = (leaf(&[1.0, -1.5], &[1, 2]), leaf(&[0.5, 2.0], &[1, 2]));
            let parameters = || {
                let named = [("encoder", &encoder), ("head", &head)];
                named.map(|(name, tensor)| (name.to_owned(), tensor.shallow_clone()))
            };
            let mut optimizer = AdamW::with_groups(CONFIG, parameters(), group);
            for step in 0..6 {
                if interrupt_at == Some(step) {
                    let copy = |(name, tensor): (String, Tensor)| (name, tensor.copy());
                    let state = optimizer.state().into_iter().map(copy).collect();
                    let num_steps = optimizer.num_steps();
                    let _ = encoder.set_requires_grad(true);
                    optimizer = AdamW::with_groups(CONFIG, parameters(), group);
                    optimizer.load_state(num_steps, state).unwrap();
                }
                optimizer.freeze();
                assert_eq!(encoder.requires_grad(), step >= FROZEN, "step {step}");
                optimizer.step(&(loss(&encoder) + loss(&head)), 0.05).unwrap();
                if step < FROZEN {
                    assert_eq!(values(&encoder), [1.0, -1.5], "no step, no decay");
                }
            }
            (values(&encoder), values(&head))
        };
        let (encoder, head) = run(None);
        let alone = |start: &[f32], num_steps: usize| {
            let tensor = leaf(start, &[1, 2]);
            let mut optimizer = AdamW::new(CONFIG, [(String::from("alone"), tensor.shallow_clone())]);
            for _ in 0..num_steps {
                optimizer.step(&loss(&tensor), 0.05).unwrap();
            }
            values(&tensor)
        };
        assert_eq!(encoder, alone(&[1.0, -1.5], 4), "its first step is a first step");
        assert_eq!(head, alone(&[0.5, 2.0], 6), "the other is not held up");
        for step in 1..6 {
            assert_eq!(
                run(Some(step)),
                (encoder.clone(), head.clone()),
                "resumed at {step}"
            );
        }
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
