//! Headless renderer: a mesh in, views with exact poses out.

pub mod import;
mod mesh;

pub use mesh::{
    MAX_HALF_EXTENT, MIN_HALF_EXTENT, Mesh, MeshError, ObjectFromMesh, Parts, UnknownUpAxis, UpAxis,
};
