//! Samples to weights, weights to scores: TAP pre-training and what follows it.
//!
//! Modules in order; each uses those above it and none below.
//!
//! | module | holds |
//! |---|---|
//! | [`error`], [`seed`], [`process`], [`scalar`], [`metric`] | errors, seeded generators, the process, named numbers, scores |
//! | [`ranks`] | the processes that train one network together |
//! | [`ops`] | searches and gathers on point clouds |
//! | [`model`] | networks and losses |
//! | [`data`] | rows to batches |
//! | [`optim`] | optimizer, schedule, moving average |
//! | [`weights`] | checkpoints and files of tensors |
//! | [`config`] | what was typed ([`config::Config`]) and what it means ([`config::Plan`]) |
//! | [`run`] | the run folder, records, events |
//! | [`engine`] | the training loop |
//! | [`method`] | pre-training methods |
//! | [`task`] | pre-training, fine-tuning, probing, importing |
//!
//! Every draw is a function of (seed, epoch, sample id) or of (seed, step, micro-batch): see [`seed`]. A task reports events
//! ([`run::event`]); the program `tap-train` draws them.

pub mod config;
mod csv;
pub mod data;
pub mod engine;
pub mod error;
pub mod method;
pub mod metric;
pub mod model;
mod number;
pub mod ops;
pub mod optim;
pub mod prelude;
pub mod process;
pub mod ranks;
pub mod run;
pub mod scalar;
pub mod seed;
pub mod task;
pub mod weights;

pub use error::TrainError;
