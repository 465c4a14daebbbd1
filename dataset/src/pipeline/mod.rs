//! The ordered pipeline: items through parallel stages, outputs to the caller in input order. Building, rendering,
//! relighting and verifying are jobs of it.
//!
//! ```text
//! admit (caller) -> prepare (workers) -> render (device thread, optional) -> finish (workers) -> deliver (caller)
//! ```
//!
//! - [`ordered`]: the stages, their queues and threads.
//! - `render`: jobs that render meshes, on a device thread or on the workers themselves.
//! - [`map`]: jobs of a single stage.

mod map;
#[cfg_attr(
    not(feature = "build"),
    allow(dead_code, reason = "only a build has a device thread")
)]
mod ordered;
#[cfg(feature = "build")]
mod render;

#[cfg(feature = "build")]
pub(crate) use map::in_order;
pub(crate) use map::{OneStage, in_order_within, parallel_map};
pub(crate) use ordered::{Delivery, Limits, num_threads, run};
#[cfg(feature = "build")]
pub(crate) use ordered::{Job, Reporter, Step, catch_panic};
#[cfg(feature = "build")]
pub(crate) use render::{MeshJob, render_all};
