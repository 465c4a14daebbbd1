//! One optimizer step on a batch, and what is known of a step that cannot be taken.
//!
//! A batch is divided into micro-batches, which are dealt out to the ranks of a run; a process alone takes them all, one
//! after the other. Each is computed as if it were alone: torch's generator has a seed of its own, and the running
//! statistics of batch norms are those from before the step; afterwards they are the mean of what each micro-batch made of
//! them. So a step is the same function of the batch however its micro-batches are dealt out, but for the order in which
//! more than two gradients are summed.
//!
//! Batch norms that are synchronized (`batch_norm = "synchronized"`) are the exception: they normalize all micro-batches at once, each
//! on a rank of its own, which wait for each other in every forward and backward pass.
//!
//! Ranks sum their gradients when all are computed or, where they overlap ([`Ranks::overlap`]), while the backward pass of
//! their last micro-batch still computes others; what is summed is the same.
//!
//! A step whose loss, gradient or update is not finite changes nothing, on any rank: neither weights nor moments, nor the
//! running statistics.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor, no_grad};

use super::objective::{Loss, Weighed, weigh};
use crate::config::{PhasePlan, Plan};
use crate::data::batch::{Batch, CpuBatch, ImageFeatureBatch, MicroBatches, ViewBatch};
use crate::error::TrainError;
use crate::model::{Mode, Precision};
use crate::number;
use crate::optim::AdamW;
use crate::process::device_name;
use crate::ranks::{GradientReducer, Ranks};
use crate::run::event::Record;
use crate::run::fault::{Fault, Norm, TensorNorms, TermValue};
use crate::scalar::{Scalars, Sums};
use crate::seed::micro_batch_seed;
use crate::weights::safetensors::{first_non_finite, is_finite};

/// What ranks are at in a forward or backward pass with synchronized batch norms.
const SYNCHRONIZING: &str = "normalizing a batch";

/// Why a step was not taken.
#[derive(Debug)]
pub(crate) enum StepError {
    /// Data, torch, the loss or another rank failed.
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
    ranks: &'a Ranks,
    statistics: RunningStatistics,
    /// Of the parameters that move, where gradients are summed during backward passes.
    overlap: Option<Overlap>,
}

/// What sums gradients during backward passes, and the names of the parameters that they are of, in its order.
#[derive(Debug)]
struct Overlap {
    names: Vec<String>,
    reducer: Box<dyn GradientReducer>,
}

impl Overlap {
    /// Of the parameters that move, the last that was made first: its gradient is expected first.
    fn new(ranks: &Ranks, optimizer: &AdamW, store: &VarStore) -> Result<Option<Self>, TrainError> {
        let made: BTreeMap<usize, usize> = store
            .trainable_variables()
            .iter()
            .enumerate()
            .map(|(place, variable)| (variable.data_ptr().addr(), place))
            .collect();
        let mut moving = optimizer.moving();
        moving.sort_by_key(|(_, tensor)| Reverse(made.get(&tensor.data_ptr().addr())));
        let parameters: Vec<Tensor> = moving.iter().map(|(_, tensor)| tensor.shallow_clone()).collect();
        let names = moving.iter().map(|(name, _)| (*name).to_owned()).collect();
        let reducer = ranks.reducer(&parameters)?;
        Ok(reducer.map(|reducer| Self { names, reducer }))
    }

    /// The gradients of the step, by the names of their parameters.
    fn gradients(&self) -> Result<BTreeMap<String, Tensor>, TrainError> {
        let gradients = self.reducer.take_gradients()?;
        Ok(self.names.iter().cloned().zip(gradients).collect())
    }
}

/// A micro-batch that this rank takes, with its number.
type Numbered = (usize, Batch);

/// What a rank says before the losses: whether it was asked to stop, and the counts of its micro-batches.
#[derive(Debug, Serialize, Deserialize)]
struct Counted {
    is_cancelled: bool,
    counts: Vec<(usize, Sums)>,
}

/// What a rank says after them: the losses of its micro-batches and, where some parameters move for the first time, all
/// that move.
#[derive(Debug, Serialize, Deserialize)]
struct Computed {
    losses: Vec<(usize, MicroBatchLoss)>,
    moved: Option<Vec<String>>,
}

/// The contribution of a micro-batch to the loss and to its terms.
#[derive(Debug, Serialize, Deserialize)]
struct MicroBatchLoss {
    #[serde(with = "number")]
    loss: f64,
    terms: Vec<TermValue>,
}

impl MicroBatchLoss {
    fn new(total: &Tensor, weighed: Vec<Weighed>) -> Self {
        let term = |Weighed { name, weight, mean }| TermValue {
            name,
            weight,
            mean: mean.double_value(&[]),
        };
        Self {
            loss: total.double_value(&[]),
            terms: weighed.into_iter().map(term).collect(),
        }
    }
}

/// The loss of a batch.
#[derive(Debug, Default)]
struct BatchLoss {
    loss: f64,
    terms: Vec<TermValue>,
    learning_rate: f64,
}

impl BatchLoss {
    fn add(&mut self, MicroBatchLoss { loss, terms }: MicroBatchLoss) {
        self.loss += loss;
        for of_micro_batch in terms {
            match self
                .terms
                .iter_mut()
                .find(|term| term.name == of_micro_batch.name)
            {
                Some(term) => term.mean += of_micro_batch.mean,
                None => self.terms.push(of_micro_batch),
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

/// Running statistics of batch norms: what the forward pass changes.
#[derive(Debug)]
struct RunningStatistics(Vec<Tensor>);

impl RunningStatistics {
    /// Those of a network, in the order of their names.
    fn of(store: &VarStore) -> Self {
        let variables: BTreeMap<String, Tensor> = store.variables().into_iter().collect();
        let mut statistics: Vec<Tensor> = variables.into_values().collect();
        statistics.retain(|tensor| !tensor.requires_grad());
        Self(statistics)
    }

    fn copy(&self) -> Vec<Tensor> {
        self.0.iter().map(Tensor::copy).collect()
    }

    fn restore(&self, copy: &[Tensor]) {
        no_grad(|| {
            for (now, before) in self.0.iter().zip(copy) {
                now.shallow_clone().copy_(before);
            }
        });
    }

    /// All of them, one behind the other. In f64 the sum of a few is exact, or nearly: their mean does not depend on the
    /// order, and that of equal ones is what they are.
    fn flat(&self) -> Option<Tensor> {
        let flat = |tensor: &Tensor| tensor.detach().reshape([-1]).to_kind(Kind::Double);
        let all: Vec<Tensor> = self.0.iter().map(flat).collect();
        (!all.is_empty()).then(|| Tensor::cat(&all, 0))
    }

    /// Sets them to numbers as [`flat`](Self::flat) gives them.
    fn set(&self, flat: &Tensor) {
        let mut start = 0;
        for tensor in &self.0 {
            let length = tensor.numel() as i64;
            let part = flat.narrow(0, start, length).view(tensor.size().as_slice());
            tensor.shallow_clone().copy_(&part);
            start += length;
        }
    }
}

impl<'a> Stepper<'a> {
    pub(crate) fn new(
        plan: &'a Plan,
        store: &'a VarStore,
        device: Device,
        num_threads: usize,
        ranks: &'a Ranks,
    ) -> Self {
        Self {
            plan,
            store,
            device,
            num_threads,
            ranks,
            statistics: RunningStatistics::of(store),
            overlap: None,
        }
    }

    /// Takes one step on a batch, after `step` steps; none where this or another rank is asked to stop.
    pub(crate) fn take(
        &mut self,
        batch: &MicroBatches,
        loss: &dyn Loss,
        optimizer: &mut AdamW,
        step: u64,
        cancel: &AtomicBool,
    ) -> Result<Option<Record>, StepError> {
        self.require_one_on_each_rank(batch, step)?;
        self.renew_overlap(optimizer)?;
        let own = self.prepared(batch, loss)?;
        let Some(normalizer) = self.normalizer(&own, loss, cancel)? else {
            return Ok(None);
        };
        let before = self.statistics.copy();
        let computed = self.compute(batch, &own, loss, &normalizer, optimizer, step, &before)?;
        let of_ranks = self.ranks.gather(computed, "adding the losses up")?;
        let mut total = BatchLoss {
            learning_rate: self.plan.phase.schedule.rate(step, batch.epoch),
            ..BatchLoss::default()
        };
        move_together(&of_ranks, optimizer)?;
        let mut fault = None;
        let losses: BTreeMap<usize, MicroBatchLoss> =
            of_ranks.into_iter().flat_map(|of_rank| of_rank.losses).collect();
        for of_micro_batch in losses.into_values() {
            if fault.is_none() {
                total.add(of_micro_batch);
                fault = total.first_non_finite();
            }
        }
        if self.overlap_of(batch).is_none() {
            self.ranks
                .sum(optimizer.accumulated(), "adding the gradients up")?;
        }
        let mut gradient_norm = 0.0;
        if fault.is_none() {
            match optimizer.apply(total.learning_rate) {
                Ok(norm) => gradient_norm = norm,
                Err(TrainError::NonFiniteGradient) => fault = Some(String::from("the gradient")),
                Err(TrainError::NonFiniteUpdate) => fault = Some(String::from("the update")),
                Err(error) => return Err(error.into()),
            }
        }
        let Some(what) = fault else {
            return Ok(Some(total.record(gradient_norm, batch.epoch, step)));
        };
        self.statistics.restore(&before);
        let gradients = optimizer.gradients();
        optimizer.clear_gradients();
        let fault = no_grad(|| self.fault(what, batch, &own, loss, total, &gradients, step))?;
        Err(StepError::NonFinite(Box::new(fault)))
    }

    /// Refuses a batch of which some ranks would take nothing, and not come where the others wait for them.
    fn require_one_on_each_rank(&self, batch: &MicroBatches, step: u64) -> Result<(), TrainError> {
        let (count, num_ranks) = (batch.count, self.ranks.world_size());
        if !self.plan.phase.batch_norm.is_synchronized() || count == num_ranks {
            return Ok(());
        }
        let reason = format!(
            "batch_norm = \"synchronized\" wants a micro-batch on each of {num_ranks} ranks, and the batch of step {} has {count}, of {} samples",
            step + 1,
            batch.num_samples
        );
        Err(TrainError::Config { reason })
    }

    /// Begins to sum gradients during backward passes, where ranks do so, as soon as it is known which parameters have one.
    /// A step that is the first to move some of them finds that out, and sums afterwards.
    fn renew_overlap(&mut self, optimizer: &AdamW) -> Result<(), TrainError> {
        if optimizer.begins() {
            self.overlap = None;
        } else if self.overlap.is_none() && self.ranks.overlap() {
            self.overlap = Overlap::new(self.ranks, optimizer, self.store)?;
        }
        Ok(())
    }

    /// What sums the gradients of this batch during backward passes; none where ranks sum afterwards, as they do where some
    /// take nothing and have no backward pass.
    fn overlap_of(&self, batch: &MicroBatches) -> Option<&Overlap> {
        let overlap = self.overlap.as_ref();
        overlap.filter(|_| batch.count >= self.ranks.world_size())
    }

    /// The micro-batches that this rank takes, on the device.
    fn prepared(&self, batch: &MicroBatches, loss: &dyn Loss) -> Result<Vec<Numbered>, TrainError> {
        let prepared = |(idx, cpu_batch): &(usize, CpuBatch)| {
            let mut micro_batch = cpu_batch.to_tensors(self.device);
            no_grad(|| loss.prepare(&mut micro_batch))?;
            Ok((*idx, micro_batch))
        };
        batch.own.iter().map(prepared).collect()
    }

    /// The counts of the whole batch; none where a rank is asked to stop.
    fn normalizer(
        &self,
        own: &[Numbered],
        loss: &dyn Loss,
        cancel: &AtomicBool,
    ) -> Result<Option<Sums>, TrainError> {
        let count = |(idx, micro_batch): &Numbered| (*idx, loss.normalizer(micro_batch));
        let counted = Counted {
            is_cancelled: cancel.load(Ordering::Relaxed),
            counts: own.iter().map(count).collect(),
        };
        let of_ranks = self.ranks.gather(counted, "counting what is in a batch")?;
        if of_ranks.iter().any(|counted| counted.is_cancelled) {
            return Ok(None);
        }
        let counts: BTreeMap<usize, Sums> = of_ranks.into_iter().flat_map(|counted| counted.counts).collect();
        let mut normalizer = Sums::default();
        for of_micro_batch in counts.values() {
            normalizer.merge(of_micro_batch);
        }
        Ok(Some(normalizer))
    }

    /// Losses of this rank's micro-batches, up to one that is not finite; their gradients are accumulated, and are those of
    /// all ranks where these overlap. The running
    /// statistics of all ranks are the mean over the micro-batches of what each makes of those from before.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is one of the things that a step is computed from"
    )]
    fn compute(
        &self,
        batch: &MicroBatches,
        own: &[Numbered],
        loss: &dyn Loss,
        normalizer: &Sums,
        optimizer: &mut AdamW,
        step: u64,
        before: &[Tensor],
    ) -> Result<Computed, TrainError> {
        let PhasePlan {
            bf16,
            freeze_encoder_steps,
            batch_norm,
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
        let begins = optimizer.begins();
        let is_divided = batch.count > 1 || !self.ranks.is_single();
        let mut statistics = is_divided.then(|| self.statistics.flat()).flatten();
        let _ = statistics.as_mut().map(Tensor::zero_);
        let overlap = self.overlap_of(batch);
        let mut losses = Vec::with_capacity(own.len());
        for (place, (idx, micro_batch)) in own.iter().enumerate() {
            if place > 0 {
                self.statistics.restore(before);
            }
            tch::manual_seed(micro_batch_seed(self.plan.seed, step, *idx));
            let terms = || loss.terms(micro_batch, mode);
            let terms = if batch_norm.is_synchronized() {
                self.ranks.synchronizing(SYNCHRONIZING, terms)?
            } else {
                terms()
            };
            let Some((total, weighed)) = weigh(terms, normalizer) else {
                let reason = String::from("the loss has no terms");
                return Err(TrainError::Config { reason });
            };
            let of_micro_batch = MicroBatchLoss::new(&total, weighed);
            let is_finite =
                of_micro_batch.loss.is_finite() && of_micro_batch.terms.iter().all(TermValue::is_finite);
            losses.push((*idx, of_micro_batch));
            // Of a loss that is not finite the gradients say which tensors it reaches.
            let accumulated = match overlap {
                Some(overlap) => {
                    let is_last = !is_finite || place + 1 == own.len();
                    overlap.reducer.backward(&total, is_last)
                }
                None => optimizer.accumulate(&total),
            };
            accumulated.map_err(|error| self.named_in_backward(error))?;
            if let Some((sum, of_micro_batch)) = statistics.as_mut().zip(self.statistics.flat()) {
                let _ = no_grad(|| sum.g_add_(&of_micro_batch));
            }
            if !is_finite {
                break;
            }
        }
        if let Some(overlap) = overlap {
            optimizer.set_gradients(overlap.gradients()?);
        }
        if let Some(sum) = statistics {
            let sum = [sum];
            self.ranks.sum(&sum, "averaging the statistics of batch norms")?;
            no_grad(|| self.statistics.set(&(&sum[0] / batch.count as f64)));
        }
        Ok(Computed {
            losses,
            moved: begins.then(|| optimizer.moved()),
        })
    }

    /// An error of a backward pass; where batch norms are synchronized it is that of another rank that is gone.
    fn named_in_backward(&self, error: TrainError) -> TrainError {
        match error {
            TrainError::Torch { source, .. }
                if self.plan.phase.batch_norm.is_synchronized() && !self.ranks.is_single() =>
            {
                let text = source.to_string();
                TrainError::Ranks {
                    action: SYNCHRONIZING,
                    reason: text.lines().next().unwrap_or_default().to_owned(),
                }
            }
            error => error,
        }
    }

    /// What is known of a step that cannot be taken, with the weights from before it.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is one of the things that a fault is described by"
    )]
    fn fault(
        &self,
        what: String,
        batch: &MicroBatches,
        own: &[Numbered],
        loss: &dyn Loss,
        total: BatchLoss,
        gradients: &[(String, Tensor)],
        step: u64,
    ) -> Result<Fault, TrainError> {
        let gradients: BTreeMap<&str, &Tensor> = gradients
            .iter()
            .map(|(name, gradient)| (name.as_str(), gradient))
            .collect();
        let weights: BTreeMap<String, Tensor> = self.store.variables().into_iter().collect();
        let bad_weight = first_non_finite(&weights);
        let Samples {
            ids,
            suspects,
            bad_input,
        } = self.samples(batch, own, loss, bad_weight.is_some())?;
        let of_gradient = first_non_finite(gradients.iter().map(|(name, tensor)| (*name, *tensor)));
        let of_gradient = of_gradient.map(|name| format!("gradient of {name}"));
        Ok(Fault {
            step: step + 1,
            epoch: batch.epoch,
            first_non_finite: bad_input
                .or_else(|| bad_weight.map(|name| format!("weight {name}")))
                .or_else(|| total.first_non_finite())
                .or_else(|| of_gradient.clone())
                .unwrap_or_else(|| what.clone()),
            what: match (&*what, of_gradient) {
                ("the gradient", Some(of_gradient)) => of_gradient,
                _ => what,
            },
            ids,
            suspects,
            loss: total.loss,
            terms: total.terms,
            learning_rate: total.learning_rate,
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
        })
    }

    /// The samples of the whole batch, and which of them are to blame.
    fn samples(
        &self,
        batch: &MicroBatches,
        own: &[Numbered],
        loss: &dyn Loss,
        has_bad_weight: bool,
    ) -> Result<Samples, TrainError> {
        const ACTION: &str = "looking for the samples at fault";
        let singles: Vec<Batch> = own
            .iter()
            .flat_map(|(_, part)| (0..part.len()).map(|start| part.micro_batch(start, 1)))
            .collect();
        let own_ids = batch.own.iter().flat_map(|(idx, part)| {
            let ids = part.ids.iter().enumerate();
            ids.map(|(place, id)| ((*idx, place), id.clone()))
        });
        let inputs = singles
            .iter()
            .map(|single| non_finite_input(single).map(str::to_owned));
        let inputs: Vec<((usize, usize), String, Option<String>)> = own_ids
            .zip(inputs)
            .map(|((place, id), input)| (place, id, input))
            .collect();
        let mut all: Vec<_> = self.ranks.gather(inputs, ACTION)?.into_iter().flatten().collect();
        all.sort();
        let bad_input = all
            .iter()
            .find_map(|(_, id, input)| Some(format!("{} of {id}", input.as_ref()?)));
        let ids: Vec<String> = all.iter().map(|(_, id, _)| id.clone()).collect();
        let suspects = if bad_input.is_some() {
            all.into_iter()
                .filter(|(_, _, input)| input.is_some())
                .map(|(_, id, _)| id)
                .collect()
        } else if has_bad_weight {
            // With such weights no sample is to blame.
            Vec::new()
        } else {
            let own_ids = batch.own.iter().flat_map(|(_, part)| &part.ids);
            let suspects: Vec<String> = own_ids
                .zip(&singles)
                .filter(|(_, single)| !has_finite_loss(single, loss))
                .map(|(id, _)| id.clone())
                .collect();
            let suspects: Vec<String> = self
                .ranks
                .gather(suspects, ACTION)?
                .into_iter()
                .flatten()
                .collect();
            ids.iter().filter(|id| suspects.contains(id)).cloned().collect()
        };
        Ok(Samples {
            ids,
            suspects,
            bad_input,
        })
    }
}

/// Where some parameters move for the first time, makes sure that they are those of rank 0 on all ranks: which have a
/// gradient.
fn move_together(of_ranks: &[Computed], optimizer: &mut AdamW) -> Result<(), TrainError> {
    let moved = |of_rank: &'_ Computed| {
        (!of_rank.losses.is_empty())
            .then(|| of_rank.moved.clone())
            .flatten()
    };
    let Some(of_first) = of_ranks.first().and_then(moved) else {
        return Ok(());
    };
    for (rank, of_rank) in of_ranks.iter().enumerate() {
        let other = moved(of_rank).filter(|of_rank| *of_rank != of_first);
        if let Some(other) = other {
            let is_in_one = |name: &&String| !(of_first.contains(name) && other.contains(name));
            let differing = of_first.iter().chain(&other).find(is_in_one);
            return Err(TrainError::OtherRank {
                rank,
                what: format!("gradient, of '{}',", differing.map_or("", String::as_str)),
            });
        }
    }
    optimizer.move_also(&of_first);
    Ok(())
}

/// The samples of a batch that cannot be trained on.
struct Samples {
    ids: Vec<String>,
    suspects: Vec<String>,
    /// The first input that is not finite, and whose it is.
    bad_input: Option<String>,
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
