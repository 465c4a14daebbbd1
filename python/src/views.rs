//! [`Views`]: the views of one mesh as arrays.

use numpy::Element;
use pyo3::prelude::*;
use tap_dataset::view_folder::material_names;
use tap_render::{ColorImage, Mask, Mesh, ObjectFromMesh, PoseDegrees, RenderRecipe, View, row_major};

use crate::array::array;

/// Views of a mesh, all of the same size. Channels that were not asked for are None.
#[pyclass(frozen, get_all, module = "tap_views")]
#[expect(clippy::struct_field_names, reason = "Python reads `views.num_views`")]
pub(crate) struct Views {
    /// Lit color, uint8 (V, H, W) where the lighting is gray and (V, H, W, 3) where it has colors, as the files of `tap render`
    /// have; with `rgb=True` always the latter. Not gamma-corrected. At most 254 where the mask is true, else the background.
    color: Option<Py<PyAny>>,
    /// Coverage, bool (V, H, W).
    mask: Option<Py<PyAny>>,
    /// Distance from the plane of the eye, -z in view space, float32 (V, H, W); infinite outside of the mask.
    depth: Option<Py<PyAny>>,
    /// Unit normals in view space, toward the viewer, float32 (V, H, W, 3); zero outside of the mask.
    normal: Option<Py<PyAny>>,
    /// Unlit color of the material, uint8 (V, H, W, 3).
    albedo: Option<Py<PyAny>>,
    /// Index into `parts`, uint16 (V, H, W); 65535 outside of the mask.
    part: Option<Py<PyAny>>,
    /// Index into `materials`, uint16 (V, H, W); 65535 outside of the mask.
    material: Option<Py<PyAny>>,
    /// Rigid transforms, float32 (V, 4, 4); view space is +x right, +y up, +z toward the viewer.
    view_from_object: Py<PyAny>,
    /// Projections with the framing, float32 (V, 4, 4); depth runs from 0 (near) to 1.
    clip_from_view: Py<PyAny>,
    /// From the mesh's coordinates into object space, float64 (4, 4): scale, rotation, translation.
    object_from_mesh: Py<PyAny>,
    /// Azimuth, elevation and roll in degrees, float64 (V, 3).
    angles_deg: Py<PyAny>,
    /// Names of the mesh's parts.
    parts: Vec<String>,
    /// Names of the mesh's materials.
    materials: Vec<String>,
    /// What the importer left out or mended.
    warnings: Vec<String>,
    /// What rendered.
    adapter: String,
    /// V.
    num_views: usize,
    /// H and W, in pixels.
    size: u32,
}

#[pymethods]
impl Views {
    fn __len__(&self) -> usize {
        self.num_views
    }

    fn __repr__(&self) -> String {
        let Self {
            color,
            mask,
            depth,
            normal,
            albedo,
            part,
            material,
            num_views,
            size,
            ..
        } = self;
        let channels = [
            ("color", color),
            ("mask", mask),
            ("depth", depth),
            ("normal", normal),
            ("albedo", albedo),
            ("part", part),
            ("material", material),
        ];
        let names: Vec<&str> = channels
            .iter()
            .filter(|(_, channel)| channel.is_some())
            .map(|(name, _)| *name)
            .collect();
        format!(
            "<Views: {num_views} of {size}x{size} pixels, {}>",
            names.join(", ")
        )
    }
}

/// The values of [`Views`], put together without the interpreter.
pub(crate) struct RawViews {
    color: Option<(Vec<u8>, bool)>,
    mask: Option<Vec<bool>>,
    depth: Option<Vec<f32>>,
    normal: Option<Vec<f32>>,
    albedo: Option<Vec<u8>>,
    part: Option<Vec<u16>>,
    material: Option<Vec<u16>>,
    view_from_object: Vec<f32>,
    clip_from_view: Vec<f32>,
    object_from_mesh: Vec<f64>,
    angles_deg: Vec<f64>,
    parts: Vec<String>,
    materials: Vec<String>,
    warnings: Vec<String>,
    num_views: usize,
    size_px: u32,
}

impl RawViews {
    /// `as_rgb`: gray is repeated in three channels.
    pub(crate) fn new(
        mesh: &Mesh,
        object_from_mesh: &ObjectFromMesh,
        recipe: &RenderRecipe,
        views: &[View],
        as_rgb: bool,
    ) -> Self {
        let matrices = |matrix: fn(&View) -> [f32; 16]| views.iter().flat_map(matrix).collect();
        let angles = views.iter().flat_map(|view| {
            let PoseDegrees {
                azimuth_deg,
                elevation_deg,
                roll_deg,
            } = view.pose.into();
            [azimuth_deg, elevation_deg, roll_deg]
        });
        let channels = recipe.channels;
        Self {
            color: color_of(views, as_rgb),
            mask: joined(views, |view| view.mask.as_ref().map(Mask::covered)),
            depth: joined(views, |view| view.depth.as_deref()),
            normal: joined(views, |view| {
                view.normal.as_ref().map(|normal| normal.as_flattened())
            }),
            albedo: joined(views, |view| {
                view.albedo.as_ref().map(|albedo| albedo.as_flattened())
            }),
            part: joined(views, |view| view.part.as_deref()),
            material: joined(views, |view| view.material.as_deref()),
            view_from_object: matrices(|view| row_major(&view.matrices.view_from_object)),
            clip_from_view: matrices(|view| row_major(&view.matrices.clip_from_view)),
            object_from_mesh: object_from_mesh.matrix().transpose().to_cols_array().to_vec(),
            angles_deg: angles.collect(),
            parts: if channels.part {
                mesh.part_names().to_vec()
            } else {
                Vec::new()
            },
            materials: if channels.material {
                material_names(mesh)
            } else {
                Vec::new()
            },
            warnings: mesh.warnings().to_vec(),
            num_views: views.len(),
            size_px: recipe.size_px,
        }
    }

    pub(crate) fn into_python(self, py: Python<'_>, adapter: &str) -> PyResult<Views> {
        let (num_views, side) = (self.num_views, self.size_px as usize);
        let scalars = [num_views, side, side];
        let vectors = [num_views, side, side, 3];
        let matrices = [num_views, 4, 4];
        let color = self.color.map(|(values, is_rgb)| {
            let shape: &[usize] = if is_rgb { &vectors } else { &scalars };
            array(py, values, shape)
        });
        Ok(Views {
            color: color.transpose()?,
            mask: channel(py, self.mask, &scalars)?,
            depth: channel(py, self.depth, &scalars)?,
            normal: channel(py, self.normal, &vectors)?,
            albedo: channel(py, self.albedo, &vectors)?,
            part: channel(py, self.part, &scalars)?,
            material: channel(py, self.material, &scalars)?,
            view_from_object: array(py, self.view_from_object, &matrices)?,
            clip_from_view: array(py, self.clip_from_view, &matrices)?,
            object_from_mesh: array(py, self.object_from_mesh, &[4, 4])?,
            angles_deg: array(py, self.angles_deg, &[num_views, 3])?,
            parts: self.parts,
            materials: self.materials,
            warnings: self.warnings,
            adapter: adapter.to_owned(),
            num_views,
            size: self.size_px,
        })
    }
}

/// A channel as an array, if it was asked for.
fn channel<T: Element>(
    py: Python<'_>,
    values: Option<Vec<T>>,
    shape: &[usize],
) -> PyResult<Option<Py<PyAny>>> {
    values.map(|values| array(py, values, shape)).transpose()
}

/// A channel of all views, one after the other.
fn joined<T: Copy>(views: &[View], channel: impl Fn(&View) -> Option<&[T]>) -> Option<Vec<T>> {
    let parts: Option<Vec<&[T]>> = views.iter().map(channel).collect();
    parts
        .filter(|parts| !parts.is_empty())
        .map(|parts| parts.concat())
}

/// The colors, and whether they are of three channels.
fn color_of(views: &[View], as_rgb: bool) -> Option<(Vec<u8>, bool)> {
    if !as_rgb && let Some(gray) = joined(views, |view| view.color.as_ref().and_then(ColorImage::gray)) {
        return Some((gray, false));
    }
    let images: Option<Vec<Vec<[u8; 3]>>> = views
        .iter()
        .map(|view| view.color.as_ref().map(ColorImage::to_rgb))
        .collect();
    Some((images?.concat().into_flattened(), true))
}
