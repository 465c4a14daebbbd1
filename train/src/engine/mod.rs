//! The training loop.

pub mod objective;
pub(crate) mod step;
pub mod trainer;
