//! A perceptron of three layers on frozen features: the classification head of fine-tuning, alone.
//!
//! Published 'MLP-3' scores train such a head with the encoder frozen (`ReCon`, "Full, Linear, MLP-3").

use tch::nn::VarStore;
use tch::{Device, Kind, Tensor, no_grad};

use crate::error::TrainError;
use crate::model::loss::smooth_cross_entropy;
use crate::model::{ClassifierHead, HeadConfig, Mode};
use crate::optim::{AdamW, AdamWConfig};
use crate::seed::{Stream, torch_seed};

/// Passes over the training rows.
const EPOCHS: u64 = 100;
/// Rows of a batch.
const BATCH_SIZE: usize = 32;
/// Decoupled weight decay.
const WEIGHT_DECAY: f64 = 0.05;
/// Norm to which gradients are clipped.
const MAX_GRAD_NORM: f64 = 10.0;

/// The classes of `rows`, predicted by a head that was trained on `train` at a constant learning rate.
///
/// # Errors
/// Where torch fails, or the loss is not finite.
pub fn mlp_classes(
    train: &[Vec<f64>],
    labels: &[usize],
    num_classes: usize,
    rows: &[Vec<f64>],
    learning_rate: f64,
    seed: u64,
) -> Result<Vec<usize>, TrainError> {
    let store = VarStore::new(Device::Cpu);
    tch::manual_seed(torch_seed(seed, "probe head", 0));
    let width = train.first().map_or(0, Vec::len) as i64;
    let head = ClassifierHead::new(&store.root(), width, num_classes as i64, &HeadConfig::default());
    let config = AdamWConfig {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: WEIGHT_DECAY,
        max_grad_norm: MAX_GRAD_NORM,
    };
    let mut optimizer = AdamW::new(config, store.variables());
    let features = matrix(train, width);
    let targets: Vec<i64> = labels.iter().map(|&label| label as i64).collect();
    let targets = Tensor::from_slice(&targets);
    for epoch in 0..EPOCHS {
        let mut order: Vec<i64> = (0..train.len() as i64).collect();
        Stream::new(seed, "probe order", epoch, "").shuffle(&mut order);
        // Batch norm needs two rows.
        for batch in order.chunks(BATCH_SIZE).filter(|batch| batch.len() > 1) {
            let batch = Tensor::from_slice(batch);
            let logits = head.forward(&features.index_select(0, &batch), Mode::TRAIN);
            let loss = smooth_cross_entropy(&logits, &targets.index_select(0, &batch), 0.0);
            optimizer.step(&loss, learning_rate)?;
        }
    }
    let logits = no_grad(|| head.forward(&matrix(rows, width), Mode::EVAL));
    let classes: Vec<i64> = Vec::try_from(logits.argmax(-1, false)).map_err(|source| TrainError::Torch {
        action: "reading predictions",
        source,
    })?;
    Ok(classes.into_iter().map(|class| class as usize).collect())
}

/// # Shapes
/// - returns rows,`width`
fn matrix(rows: &[Vec<f64>], width: i64) -> Tensor {
    let flat: Vec<f64> = rows.iter().flatten().copied().collect();
    Tensor::from_slice(&flat)
        .view([rows.len() as i64, width])
        .to_kind(Kind::Float)
}
