//! The training loop.

pub mod trainer;
