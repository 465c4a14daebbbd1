//! Samples to weights, weights to scores: TAP pre-training and what follows it.
//!
//! | layer | modules |
//! |---|---|
//! | plain data | `number`, [`config`], [`schedule`], [`metric`], [`event`], [`seed`], [`augment`], [`baseline`], [`svm`] |
//! | samples to batches | [`source`], [`loader`], [`batch`] |
//! | networks | [`ops`], [`model`], [`loss`] |
//! | weights | [`optim`], [`ema`], [`checkpoint`], [`weights`], [`safetensors`], [`torch_file`], [`pickle`] |
//! | the loop | [`trainer`], [`run`], [`tensorboard`], [`image_grid`] |
//! | tasks | [`task`], [`comparison`] |
//!
//! Every draw is a function of (seed, epoch, sample id) or of (seed, step): see [`seed`]. A task reports [`event`]s; the
//! program `tap-train` draws them.

pub mod augment;
pub mod baseline;
pub mod batch;
pub mod checkpoint;
pub mod comparison;
pub mod config;
pub mod ema;
pub mod error;
pub mod event;
pub mod image_grid;
pub mod loader;
pub mod loss;
pub mod metric;
pub mod model;
mod number;
pub mod ops;
pub mod optim;
pub mod pickle;
pub mod process;
pub mod run;
pub mod safetensors;
pub mod schedule;
pub mod seed;
pub mod source;
pub mod svm;
pub mod task;
pub mod tensorboard;
pub mod torch_file;
pub mod trainer;
pub mod weights;

pub use error::TrainError;
