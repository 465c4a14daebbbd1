//! Geometric primitives on batches of point clouds. They know tch and nothing else of this crate.
//!
//! Indices are `i64` tensors and carry no gradient; gradients flow through [`gather()`] alone. On the CPU the searches
//! run as Rust over the raw coordinates, one cloud a rayon task; elsewhere as batched tensor operations with the same
//! results. Semantics, ties included, are those of the CUDA kernels of the released code
//! (`docs/method.md`, "Geometric primitives").

mod ball_query;
mod chamfer;
mod expanded;
mod fps;
mod gather;
mod interpolate;
mod knn;
mod memory;
mod plane;
mod pool;
mod projection;

pub use ball_query::ball_query;
pub use chamfer::{ChamferNorm, chamfer};
pub use expanded::interpolate_expanded;
pub use fps::farthest_points;
pub use gather::gather;
pub use interpolate::{ThreeNearest, interpolate, three_nearest};
pub use knn::{nearest, nearest_within};
pub(crate) use memory::floats_mut;
pub use pool::gather_max;
pub use projection::{
    DEPTH_SIZE_PX, DepthView, NUM_DEPTH_VIEWS, depth_images, depth_positions, position_of_pixel,
    sample_bicubic,
};
