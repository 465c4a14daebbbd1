//! Samples to weights, weights to scores.

pub mod loss;
pub mod model;
pub mod ops;
