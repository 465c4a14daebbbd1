//! What can be rendered: a file, or arrays of vertices and faces, or of points alone.

use std::path::PathBuf;

use glam::DVec3;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};
use tap_dataset::view_folder::read_mesh;
use tap_render::{Appearance, Material, Mesh, MeshError, PointCloud, RenderRecipe, SurfelOptions};

use crate::array::{colors, rows_of_3, triangles};
use crate::error::{chain, failure, mesh_error};
use crate::settings::Keywords;

/// A mesh as it was given.
pub(crate) enum MeshInput {
    File(PathBuf),
    Arrays(MeshArrays),
}

/// A mesh in arrays, whose lengths fit each other.
pub(crate) struct MeshArrays {
    positions: Vec<DVec3>,
    /// `None` for points.
    triangles: Option<Vec<[u32; 3]>>,
    vertex_colors: Option<Vec<[u8; 4]>>,
    face_colors: Option<Vec<[u8; 4]>>,
}

impl MeshInput {
    /// A path; vertices, in `mesh`, and faces; a pair of both; an object that has them as attributes, as those of trimesh and
    /// Open3D do; or points, without faces. `vertex_colors` and `face_colors` are keywords.
    pub(crate) fn new(
        mesh: &Bound<'_, PyAny>,
        faces: Option<&Bound<'_, PyAny>>,
        keywords: &mut Keywords<'_>,
    ) -> PyResult<Self> {
        let vertex_colors = keywords.take("vertex_colors");
        let face_colors = keywords.take("face_colors");
        if let Ok(path) = mesh.extract::<PathBuf>() {
            if faces.is_some() || vertex_colors.is_some() || face_colors.is_some() {
                return Err(PyTypeError::new_err(
                    "faces and colors go with vertices, not with a file",
                ));
            }
            return Ok(Self::File(path));
        }
        let (vertices, faces) = match faces {
            Some(faces) => (mesh.clone(), Some(faces.clone())),
            None => vertices_and_faces(mesh)?,
        };
        let positions = rows_of_3("vertices", &vertices)?;
        let triangles = faces.map(|faces| triangles("faces", &faces)).transpose()?;
        let of_length = |name: &str, given: Option<Bound<'_, PyAny>>, length: usize| {
            let Some(given) = given else { return Ok(None) };
            let colors = colors(name, &given)?;
            if colors.len() == length {
                Ok(Some(colors))
            } else {
                let found = colors.len();
                Err(PyValueError::new_err(format!(
                    "{name}: {found} colors for {length}"
                )))
            }
        };
        if face_colors.is_some() && triangles.is_none() {
            return Err(PyTypeError::new_err("face_colors without faces"));
        }
        Ok(Self::Arrays(MeshArrays {
            vertex_colors: of_length("vertex_colors", vertex_colors, positions.len())?,
            face_colors: of_length("face_colors", face_colors, triangles.as_ref().map_or(0, Vec::len))?,
            positions: positions.into_iter().map(DVec3::from).collect(),
            triangles,
        }))
    }

    /// The mesh, with what a rendering of it needs.
    pub(crate) fn read(self, recipe: &RenderRecipe) -> PyResult<Mesh> {
        match self {
            Self::File(path) => read_mesh(&path, recipe).map_err(|error| failure(&path, error)),
            Self::Arrays(arrays) => arrays
                .into_mesh(recipe.needs_appearance())
                .map_err(|error| mesh_error(error.code().to_owned(), chain(&error))),
        }
    }
}

/// The two halves of a pair or an object; points have no faces.
fn vertices_and_faces<'py>(
    mesh: &Bound<'py, PyAny>,
) -> PyResult<(Bound<'py, PyAny>, Option<Bound<'py, PyAny>>)> {
    if mesh.is_instance_of::<PyTuple>() || mesh.is_instance_of::<PyList>() {
        // A list of two rows is an array.
        if mesh.len()? == 2 && is_table(&mesh.get_item(0)?) {
            return Ok((mesh.get_item(0)?, Some(mesh.get_item(1)?)));
        }
        return Ok((mesh.clone(), None));
    }
    if let Some(vertices) = mesh.getattr_opt("vertices")? {
        for name in ["faces", "triangles"] {
            if let Some(faces) = mesh.getattr_opt(name)? {
                return Ok((vertices, Some(faces)));
            }
        }
        return Ok((vertices, None));
    }
    if let Some(points) = mesh.getattr_opt("points")? {
        return Ok((points, None));
    }
    Ok((mesh.clone(), None))
}

/// Whether a value has rows: an array of vertices, not one of them.
fn is_table(value: &Bound<'_, PyAny>) -> bool {
    value.get_item(0).is_ok_and(|row| row.len().is_ok())
}

impl MeshArrays {
    fn into_mesh(self, with_appearance: bool) -> Result<Mesh, MeshError> {
        let Self {
            positions,
            triangles,
            vertex_colors,
            face_colors,
        } = self;
        let Some(triangles) = triangles else {
            let colors = vertex_colors.filter(|_| with_appearance).unwrap_or_default();
            return PointCloud::try_new(positions, Vec::new(), colors)?.to_mesh(&SurfelOptions::default());
        };
        let colors: Vec<[[u8; 4]; 3]> = match (face_colors, vertex_colors) {
            (Some(face_colors), _) if with_appearance => {
                face_colors.into_iter().map(|color| [color; 3]).collect()
            }
            (None, Some(vertex_colors)) if with_appearance => {
                // An index out of range is the mesh's to refuse.
                let color = |index: u32| vertex_colors.get(index as usize).copied().unwrap_or([u8::MAX; 4]);
                triangles.iter().map(|triangle| triangle.map(color)).collect()
            }
            _ => Vec::new(),
        };
        if colors.is_empty() {
            return Mesh::try_new(&positions, triangles, None);
        }
        let appearance = Appearance {
            materials: vec![Material::white()],
            material_of_triangle: vec![0; triangles.len()],
            colors,
            ..Appearance::default()
        };
        Mesh::try_with_appearance(&positions, triangles, None, appearance)
    }
}
