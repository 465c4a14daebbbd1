//! One optimizer step on a batch, and what is known of a step that cannot be taken.
//!
//! A step whose loss, gradient or update is not finite changes nothing: neither weights nor moments, nor the running
//! statistics of batch norms, which the forward pass has updated by then.

use std::collections::BTreeMap;

use tch::nn::VarStore;
use tch::{Device, Kind, Tensor, no_grad};

use super::objective::{Loss, Weighed, weigh};
use crate::config::{PhasePlan, Plan, micro_batch_size};
use crate::data::batch::{Batch, CpuBatch, ImageFeatureBatch, ViewBatch};
use crate::error::TrainError;
use crate::model::{Mode, Precision};
use crate::optim::AdamW;
use crate::process::device_name;
use crate::run::event::Record;
use crate::run::fault::{Fault, Norm, TensorNorms, TermValue};
use crate::scalar::{Scalars, Sums};
use crate::seed::torch_seed;
use crate::weights::safetensors::{first_non_finite, is_finite};

/// Why a step was not taken.
#[derive(Debug)]
pub(crate) enum StepError {
    /// Data, torch or the loss failed.
    Failed(TrainError),
    /// Something is not finite.
    NonFinite(Box<Fault>),
}

impl From<TrainError> for StepError {
    fn from(error: TrainError) -> Self {
        Self::Failed(error)
    }
}

/// Steps of a run.
#[derive(Debug)]
pub(crate) struct Stepper<'a> {
    plan: &'a Plan,
    store: &'a VarStore,
    device: Device,
    num_threads: usize,
    /// Running statistics of batch norms: what the forward pass changes.
    statistics: Vec<Tensor>,
}

/// What a step has computed so far.
#[derive(Debug, Default)]
struct Computed {
    loss: f64,
    terms: Vec<TermValue>,
    learning_rate: f64,
}

impl Computed {
    fn add(&mut self, loss: f64, weighed: Vec<Weighed>) {
        self.loss += loss;
        for Weighed { name, weight, mean } in weighed {
            let mean = mean.double_value(&[]);
            match self.terms.iter_mut().find(|term| term.name == name) {
                Some(term) => term.mean += mean,
                None => self.terms.push(TermValue { name, weight, mean }),
            }
        }
    }

    fn first_non_finite(&self) -> Option<String> {
        let term = self.terms.iter().find(|term| !term.is_finite());
        let term = term.map(|term| format!("loss term '{}'", term.name));
        term.or_else(|| (!self.loss.is_finite()).then(|| String::from("the loss")))
    }

    fn record(self, gradient_norm: f64, epoch: u64, step: u64) -> Record {
        let mut scalars = Scalars::default().with("loss", self.loss);
        // A term alone is the loss.
        if self.terms.len() > 1 {
            for TermValue { name, mean, .. } in self.terms {
                scalars.set(format!("loss_{name}"), mean);
            }
        }
        scalars.set("learning_rate", self.learning_rate);
        scalars.set("gradient_norm", gradient_norm);
        Record {
            epoch: Some(epoch),
            ..Record::new(Record::STEP, step + 1, scalars)
        }
    }
}

impl<'a> Stepper<'a> {
    pub(crate) fn new(plan: &'a Plan, store: &'a VarStore, device: Device, num_threads: usize) -> Self {
        let mut statistics = store.variables();
        statistics.retain(|_, tensor| !tensor.requires_grad());
        Self {
            plan,
            store,
            device,
            num_threads,
            statistics: statistics.into_values().collect(),
        }
    }

    /// Takes one step on a batch, after `step` steps.
    pub(crate) fn take(
        &self,
        cpu_batch: &CpuBatch,
        loss: &dyn Loss,
        optimizer: &mut AdamW,
        step: u64,
    ) -> Result<Record, StepError> {
        let statistics: Vec<Tensor> = self.statistics.iter().map(Tensor::copy).collect();
        let mut whole = cpu_batch.to_tensors(self.device);
        no_grad(|| loss.prepare(&mut whole))?;
        let PhasePlan {
            accumulation_steps,
            bf16,
            schedule,
            freeze_encoder_steps,
            ..
        } = &self.plan.phase;
        let precision = if *bf16 {
            Precision::BFloat16
        } else {
            Precision::Float32
        };
        let mode = Mode::TRAIN
            .with_precision(precision)
            .freezing_encoder(optimizer.num_steps() < *freeze_encoder_steps as i64);
        optimizer.freeze();
        let micro_batch_size = micro_batch_size(whole.len(), *accumulation_steps);
        tch::manual_seed(torch_seed(self.plan.seed, "step", step));
        let parts: Vec<Batch> = if micro_batch_size >= whole.len() {
            vec![whole]
        } else {
            let starts = (0..whole.len()).step_by(micro_batch_size);
            starts
                .map(|start| whole.micro_batch(start, micro_batch_size.min(whole.len() - start)))
                .collect()
        };
        let mut normalizer = Sums::default();
        for part in &parts {
            normalizer.merge(&loss.normalizer(part));
        }
        let mut computed = Computed {
            learning_rate: schedule.rate(step, cpu_batch.epoch),
            ..Computed::default()
        };
        let (mut gradient_norm, mut fault) = (0.0, None);
        for (part_idx, part) in parts.iter().enumerate() {
            let Some((total, weighed)) = weigh(loss.terms(part, mode), &normalizer) else {
                let reason = String::from("the loss has no terms");
                return Err(TrainError::Config { reason }.into());
            };
            computed.add(total.double_value(&[]), weighed);
            fault = computed.first_non_finite();
            let is_last = part_idx + 1 == parts.len();
            if fault.is_some() || !is_last {
                // Of a loss that is not finite the gradients say which tensors it reaches.
                optimizer.accumulate(&total)?;
            } else {
                match optimizer.step(&total, computed.learning_rate) {
                    Ok(norm) => gradient_norm = norm,
                    Err(TrainError::NonFiniteGradient) => fault = Some(String::from("the gradient")),
                    Err(TrainError::NonFiniteUpdate) => fault = Some(String::from("the update")),
                    Err(error) => return Err(error.into()),
                }
            }
            if fault.is_some() {
                break;
            }
        }
        let Some(what) = fault else {
            return Ok(computed.record(gradient_norm, cpu_batch.epoch, step));
        };
        no_grad(|| {
            for (now, before) in self.statistics.iter().zip(&statistics) {
                now.shallow_clone().copy_(before);
            }
        });
        let gradients = optimizer.gradients();
        optimizer.clear_gradients();
        let fault = no_grad(|| self.fault(what, cpu_batch, &parts, loss, computed, &gradients, step));
        Err(StepError::NonFinite(Box::new(fault)))
    }

    /// What is known of a step that cannot be taken, with the weights from before it.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is one of the things that a fault is described by"
    )]
    fn fault(
        &self,
        what: String,
        cpu_batch: &CpuBatch,
        parts: &[Batch],
        loss: &dyn Loss,
        computed: Computed,
        gradients: &[(String, Tensor)],
        step: u64,
    ) -> Fault {
        let gradients: BTreeMap<&str, &Tensor> = gradients
            .iter()
            .map(|(name, gradient)| (name.as_str(), gradient))
            .collect();
        let weights: BTreeMap<String, Tensor> = self.store.variables().into_iter().collect();
        let samples: Vec<Batch> = parts
            .iter()
            .flat_map(|part| (0..part.len()).map(|start| part.micro_batch(start, 1)))
            .collect();
        let inputs: Vec<Option<&str>> = samples.iter().map(non_finite_input).collect();
        let bad_input = inputs
            .iter()
            .zip(&cpu_batch.ids)
            .find_map(|(input, id)| input.map(|input| format!("{input} of {id}")));
        let bad_weight = first_non_finite(&weights);
        let is_suspect: Vec<bool> = match (&bad_input, bad_weight) {
            (Some(_), _) => inputs.iter().map(Option::is_some).collect(),
            // With such weights no sample is to blame.
            (None, Some(_)) => Vec::new(),
            (None, None) => samples
                .iter()
                .map(|sample| !has_finite_loss(sample, loss))
                .collect(),
        };
        let suspects = cpu_batch.ids.iter().zip(is_suspect);
        let of_gradient = first_non_finite(gradients.iter().map(|(name, tensor)| (*name, *tensor)));
        let of_gradient = of_gradient.map(|name| format!("gradient of {name}"));
        Fault {
            step: step + 1,
            epoch: cpu_batch.epoch,
            first_non_finite: bad_input
                .or_else(|| bad_weight.map(|name| format!("weight {name}")))
                .or_else(|| computed.first_non_finite())
                .or_else(|| of_gradient.clone())
                .unwrap_or_else(|| what.clone()),
            what: match (&*what, of_gradient) {
                ("the gradient", Some(of_gradient)) => of_gradient,
                _ => what,
            },
            ids: cpu_batch.ids.clone(),
            suspects: suspects
                .filter(|(_, is_suspect)| *is_suspect)
                .map(|(id, _)| id.clone())
                .collect(),
            loss: computed.loss,
            terms: computed.terms,
            learning_rate: computed.learning_rate,
            device: device_name(self.device),
            num_threads: self.num_threads,
            tensors: weights
                .iter()
                .map(|(name, weight)| {
                    let Norm { norm, num_non_finite } = norm(weight);
                    let norms = TensorNorms {
                        weight: norm,
                        num_non_finite,
                        gradient: gradients.get(name.as_str()).map(|gradient| self::norm(gradient)),
                    };
                    (name.clone(), norms)
                })
                .collect(),
        }
    }
}

/// What of the input of a batch is not finite, if anything is.
fn non_finite_input(batch: &Batch) -> Option<&'static str> {
    let Batch {
        cloud,
        sample_seeds: _,
        labels: _,
        views,
        normals,
        part_labels: _,
        features,
    } = batch;
    let mut inputs = vec![("points", &cloud.xyz), ("point features", &cloud.features)];
    if let Some(ViewBatch {
        images,
        masks: _,
        view_from_object,
        clip_from_view,
    }) = views
    {
        inputs.extend([
            ("images", images),
            ("view_from_object", view_from_object),
            ("clip_from_view", clip_from_view),
        ]);
    }
    inputs.extend(normals.iter().map(|normals| ("normals", normals)));
    if let Some(ImageFeatureBatch {
        maps,
        saliency,
        positions,
        visible: _,
    }) = features
    {
        inputs.extend([
            ("image features", maps),
            ("saliency", saliency),
            ("positions in images", positions),
        ]);
    }
    first_non_finite(inputs)
}

/// Whether the loss of a batch is finite, without dropout and with running statistics.
fn has_finite_loss(batch: &Batch, loss: &dyn Loss) -> bool {
    let normalizer = loss.normalizer(batch);
    let weighed = weigh(loss.terms(batch, Mode::EVAL), &normalizer);
    weighed.is_none_or(|(total, _)| is_finite(&total))
}

fn norm(tensor: &Tensor) -> Norm {
    let numbers = tensor.detach().to_kind(Kind::Double);
    let num_finite = numbers.isfinite().sum(Kind::Int64).int64_value(&[]) as usize;
    Norm {
        norm: numbers.square().sum(Kind::Double).sqrt().double_value(&[]),
        num_non_finite: numbers.numel() - num_finite,
    }
}
