//! Headless renderer: a mesh in, views with exact poses out.
//!
//! # The map
//!
//! | from | through | to |
//! |---|---|---|
//! | bytes of an OBJ, OFF, PLY, STL, glTF or GLB file, or of points | [`import::import_object`] | [`Mesh`], valid by construction |
//! | materials, textures, vertex colors | [`Mesh::try_with_surface`] | a mesh that is more than white |
//! | a mesh and points on it | [`ObjectFromMesh`] | object space: +y up, +z front, unit size |
//! | all settings of a picture | [`RenderRecipe`] | [`Rig`], [`Framing`], [`Projection`], [`Lighting`], [`Channels`] |
//! | mesh, transform and recipe | [`Framed::try_new`], on any thread | cameras placed, vertices ready for the device |
//! | framed meshes | [`Renderer::submit`], then [`Renderer::finish`] | [`View`]s: pixels, mask, pose, matrices |
//!
//! The axes and matrices are stated in one place, `camera.rs`; [`ViewMatrices::pixel_of`] is the whole of it
//! in one call.
//!
//! # Views of one mesh
//!
//! ```no_run
//! use tap_render::import::{MeshFormat, NoAssets, import_mesh};
//! use tap_render::{ObjectFromMesh, RenderRecipe, Renderer, RendererOptions, UpAxis};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let tetrahedron = b"v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n";
//! let mesh = import_mesh(MeshFormat::Obj, tetrahedron, &NoAssets)?;
//! let object_from_mesh = ObjectFromMesh::from_surface(&mesh, UpAxis::Y);
//!
//! let mut renderer = Renderer::try_new(&RendererOptions::default())?;
//! println!("rendering with {}", renderer.adapter());
//! let views = renderer.render(&mesh, &object_from_mesh, &RenderRecipe::default())?;
//!
//! assert_eq!(views.len(), 12);
//! let view = &views[0];
//! let mask = view.mask.as_ref().expect("the default recipe has a mask");
//! let middle = view.matrices.pixel_of(glam::Vec3::ZERO, view.size_px);
//! assert!(mask.is_covered(middle.x as u32, middle.y as u32), "the centroid is within");
//! # Ok(())
//! # }
//! ```
//!
//! # Many meshes
//!
//! Worker threads make [`Framed`]s (with [`Renderer::culling`], which is `Copy`); one thread submits them, and finishes
//! the oldest once [`Renderer::max_in_flight`] are pending. Then the device never waits for the CPU, memory
//! is bounded by that number, and the pictures are the same, byte for byte, as one at a time.
//!
//! # Without a GPU
//!
//! Mesa's lavapipe, a Vulkan driver in software, is chosen by itself and named in [`Renderer::adapter`].
//! A machine without any driver gets [`RenderError::NoAdapter`], which says what to install.
//!
//! The crate opens no file and reads no clock: what it draws is a function of its arguments and of the adapter.

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
pub mod pose_format;
mod readback;
mod recipe;
mod renderer;
mod rig;
mod rig_spec;
mod silhouette;
mod surface;
mod surfel;
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
pub use rig::{Pose, PoseDegrees, Rig};
pub use rig_spec::{MAX_VIEWS, RigError, RigSpec};
pub use surface::{MAX_MATERIALS, Material, Surface, SurfaceError, Texture, Wrap};
pub use surfel::{DEFAULT_MAX_SURFELS, DEFAULT_NUM_NEIGHBORS, PointCloud, SurfelOptions};
pub use view::{ColorImage, Mask, View};
