//! Headless renderer: a mesh in, views with exact poses out.

mod camera;
mod cull;
mod error;
mod framing;
mod geometry;
mod gpu;
pub mod import;
mod lighting;
mod mesh;
mod pipeline;
mod readback;
mod recipe;
mod renderer;
mod rig;
mod silhouette;
mod target;
mod view;

pub use camera::{Framing, MVCNN_DISTANCE_DIAGONALS, Projection, ViewMatrices, row_major};
pub use error::{ParseError, RenderError};
pub use framing::{Culling, Framed};
pub use gpu::{AdapterChoice, AdapterKind, AdapterReport, list_adapters};
pub use lighting::{BACKGROUND, BRIGHTEST_COVERED, Lighting};
pub use mesh::{
    MAX_HALF_EXTENT, MIN_HALF_EXTENT, Mesh, MeshError, ObjectFromMesh, Parts, UnknownUpAxis, UpAxis,
};
pub use recipe::{Channel, Channels, DEFAULT_SAMPLES, DEFAULT_SIZE_PX, MAX_SIZE_PX, RenderRecipe};
pub use renderer::{DEFAULT_IN_FLIGHT, PendingViews, Renderer, RendererOptions};
pub use rig::{Pose, Rig, RigSpec};
pub use view::{ColorImage, Mask, View};
