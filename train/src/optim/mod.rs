//! What changes weights from step to step: the optimizer, its learning rate, the moving average.

pub mod ema;
pub mod schedule;

mod adamw;

pub use adamw::{AdamW, AdamWConfig, ParameterGroup};
