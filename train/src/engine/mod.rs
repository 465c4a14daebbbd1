//! The training loop.

pub mod objective;
pub mod trainer;
