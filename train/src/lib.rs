//! Samples to weights, weights to scores.
