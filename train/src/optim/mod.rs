//! The optimizer, the learning-rate schedule and the moving average of weights.

pub mod ema;
pub mod schedule;

mod adamw;

pub use adamw::{AdamW, AdamWConfig, ParameterGroup};
