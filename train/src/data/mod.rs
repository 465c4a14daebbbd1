//! Samples to batches: rows of a data set, augmented, collated and loaded ahead of time by threads.

pub mod augment;
pub mod batch;
pub mod cloud_file;
pub mod collator;
pub mod loader;
pub mod point_view;
pub mod sampler;
pub mod source;
