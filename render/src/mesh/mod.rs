//! Triangle meshes, valid by construction, and the transform to object space.
//!
//! [`crate::import`] makes a [`Mesh`]; sampling and rendering read it. Measurements are in `f64`, and only the
//! difference to the bounding box's center is rounded to `f32`: a part of 2 cm that lies 150 m from the file's origin
//! keeps its shape.

mod appearance;
mod coplanar;
mod smooth_normal;
mod surfel;
mod visible;
mod warning;

use std::{fmt, str::FromStr};

use glam::{DMat3, DMat4, DVec3, Mat4, Vec3};
use serde::{Deserialize, Serialize};

pub use appearance::{Appearance, AppearanceError, MAX_MATERIALS, Material, Texture, Wrap};
pub(crate) use coplanar::CoplanarFaces;
use coplanar::coplanar_duplicates;
pub(crate) use smooth_normal::corner_normals;
pub use surfel::{DEFAULT_MAX_SURFELS, DEFAULT_NUM_NEIGHBORS, PointCloud, SurfelOptions};
use visible::VisibleTriangles;
pub use warning::WarningKind;
pub(crate) use warning::Warnings;

/// Largest half extent that is accepted, in file units: areas and squared lengths then stay finite in `f32`.
pub const MAX_HALF_EXTENT: f64 = 1e15;
/// Smallest half extent that is accepted, in file units: squared distances stay normal numbers in `f32`.
pub const MIN_HALF_EXTENT: f64 = 1e-15;

/// Why triangles do not make a [`Mesh`].
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MeshError {
    /// There is no triangle at all.
    #[error("the mesh has no faces")]
    NoTriangles,
    /// Every triangle has zero area.
    #[error("all {num_triangles} triangles of the mesh have zero area")]
    AllDegenerate {
        /// Number of triangles before they were dropped.
        num_triangles: usize,
    },
    /// Every triangle is finer than single precision within the mesh's extent.
    #[error(
        "all {num_triangles} triangles of the mesh are finer than single precision resolves over its {extent:e} units: \
         is a face far away from the others?"
    )]
    AllTooFine {
        /// Number of triangles before they were dropped.
        num_triangles: usize,
        /// Longest side of the bounding box.
        extent: f64,
    },
    /// A corner of a triangle is NaN or infinite.
    #[error("vertex {vertex} has a coordinate that is not a finite number (NaN or infinity)")]
    NonFinite {
        /// Index of the vertex, counted from 0.
        vertex: usize,
    },
    /// A triangle refers to a vertex that does not exist.
    #[error("triangle {triangle} refers to vertex {index}, but the mesh has {num_vertices} vertices")]
    IndexOutOfRange {
        /// Index of the triangle, counted from 0.
        triangle: usize,
        /// The index.
        index: u32,
        /// Number of vertices.
        num_vertices: usize,
    },
    /// More vertices than a `u32` can number.
    #[error("the mesh has {num_vertices} vertices, more than 32-bit indices can name")]
    TooManyVertices {
        /// Number of vertices.
        num_vertices: usize,
    },
    /// The mesh is too large or too small for single precision.
    #[error("the mesh extends over {extent:e} units, outside of what can be drawn (1e-15 to 1e15)")]
    Extent {
        /// Longest side of the bounding box.
        extent: f64,
    },
    /// `Parts` does not match the triangles.
    #[error("{num_labels} part labels for {num_triangles} triangles, or a label without a name")]
    Parts {
        /// Number of labels given.
        num_labels: usize,
        /// Number of triangles given.
        num_triangles: usize,
    },
    /// The [`Appearance`] is not valid, or does not match the triangles.
    #[error(transparent)]
    Appearance(#[from] AppearanceError),
}

impl MeshError {
    /// A short stable code for this kind of error, for skip lists and statistics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoTriangles => "no_faces",
            Self::AllDegenerate { .. } | Self::AllTooFine { .. } => "all_degenerate",
            Self::NonFinite { .. } => "non_finite",
            Self::IndexOutOfRange { .. } => "index_out_of_range",
            Self::TooManyVertices { .. } => "too_large",
            Self::Extent { .. } => "bad_extent",
            Self::Parts { .. } => "bad_parts",
            Self::Appearance(error) => error.code(),
        }
    }
}

/// Entry of a triangle without normals in a list of the file's normals.
pub(crate) const NO_NORMALS: [Vec3; 3] = [Vec3::ZERO; 3];

/// Named parts (OBJ groups, glTF nodes) and which triangle belongs to which.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parts {
    /// Part names, indexed by label.
    pub names: Vec<String>,
    /// One label per triangle.
    pub of_triangle: Vec<u16>,
}

/// At least one triangle with an area, finite coordinates and indices in range.
///
/// Only vertices that a triangle uses are kept, in the order of the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Mesh {
    origin: DVec3,
    positions: Vec<Vec3>,
    triangles: Vec<[u32; 3]>,
    part_of_triangle: Vec<u16>,
    part_names: Vec<String>,
    num_degenerate: usize,
    appearance: Option<Appearance>,
    normals: Vec<[Vec3; 3]>,
    warnings: Warnings,
}

impl Mesh {
    /// Validates triangles; degenerate ones are dropped and counted.
    ///
    /// Without `parts` the whole mesh is one part with an empty name. Vertices that no triangle uses may hold anything,
    /// even NaN.
    ///
    /// # Errors
    /// [`MeshError`] for NaN or infinite corners, indices out of range, labels that do not match the triangles, extents
    /// beyond single precision, and if no triangle with an area is left.
    pub fn try_new(
        positions: &[DVec3],
        triangles: Vec<[u32; 3]>,
        parts: Option<Parts>,
    ) -> Result<Self, MeshError> {
        Self::try_build(positions, triangles, parts, None, Vec::new())
    }

    /// As [`Mesh::try_new`], with materials.
    ///
    /// # Errors
    /// Those of [`Mesh::try_new`], and [`MeshError::Appearance`] if the appearance is not valid or does not match the
    /// triangles.
    pub fn try_with_appearance(
        positions: &[DVec3],
        triangles: Vec<[u32; 3]>,
        parts: Option<Parts>,
        appearance: Appearance,
    ) -> Result<Self, MeshError> {
        Self::try_build(positions, triangles, parts, Some(appearance), Vec::new())
    }

    /// `normals` are those of the file, one entry per triangle, or empty.
    pub(crate) fn try_build(
        positions: &[DVec3],
        triangles: Vec<[u32; 3]>,
        parts: Option<Parts>,
        appearance: Option<Appearance>,
        normals: Vec<[Vec3; 3]>,
    ) -> Result<Self, MeshError> {
        let num_vertices = positions.len();
        if triangles.is_empty() {
            return Err(MeshError::NoTriangles);
        }
        if num_vertices > u32::MAX as usize {
            return Err(MeshError::TooManyVertices { num_vertices });
        }
        let num_triangles = triangles.len();
        let Parts { names, of_triangle } = parts.unwrap_or_else(|| Parts {
            names: vec![String::new()],
            of_triangle: vec![0; num_triangles],
        });
        let labels_fit = of_triangle.len() == num_triangles
            && of_triangle.iter().all(|&part| usize::from(part) < names.len());
        if !labels_fit {
            return Err(MeshError::Parts {
                num_labels: of_triangle.len(),
                num_triangles,
            });
        }

        if let Some(appearance) = &appearance {
            appearance.check(num_triangles)?;
        }

        let VisibleTriangles {
            origin,
            positions,
            dropped,
        } = VisibleTriangles::try_new(positions, &triangles)?;
        let mut mesh = Self {
            origin,
            positions,
            triangles,
            part_of_triangle: of_triangle,
            part_names: names,
            num_degenerate: dropped.len(),
            appearance,
            normals,
            warnings: Warnings::default(),
        };
        drop_indices(&mut mesh.triangles, &dropped);
        drop_indices(&mut mesh.part_of_triangle, &dropped);
        drop_indices(&mut mesh.normals, &dropped);
        if let Some(appearance) = &mut mesh.appearance {
            appearance.drop_triangles(&dropped);
        }
        mesh.keep_used_vertices();
        Ok(mesh)
    }

    fn keep_used_vertices(&mut self) {
        let mut is_used = vec![false; self.positions.len()];
        for &index in self.triangles.iter().flatten() {
            is_used[index as usize] = true;
        }
        if is_used.iter().all(|&is_used| is_used) {
            return;
        }
        let mut num_used = 0;
        let mut new_index = Vec::with_capacity(is_used.len());
        for (old, is_used) in is_used.into_iter().enumerate() {
            new_index.push(num_used);
            if is_used {
                self.positions[num_used as usize] = self.positions[old];
                num_used += 1;
            }
        }
        self.positions.truncate(num_used as usize);
        for index in self.triangles.iter_mut().flatten() {
            *index = new_index[*index as usize];
        }
    }

    /// Vertex positions in file units, relative to [`Mesh::origin`].
    #[must_use]
    pub fn positions(&self) -> &[Vec3] {
        &self.positions
    }

    /// Corner indices into [`Mesh::positions`].
    #[must_use]
    pub fn triangles(&self) -> &[[u32; 3]] {
        &self.triangles
    }

    /// The corners of every triangle, in order.
    #[must_use]
    pub fn corners(&self) -> impl ExactSizeIterator<Item = [Vec3; 3]> {
        self.triangles
            .iter()
            .map(|triangle| triangle.map(|index| self.positions[index as usize]))
    }

    /// One index into [`Mesh::part_names`] per triangle.
    #[must_use]
    pub fn part_of_triangle(&self) -> &[u16] {
        &self.part_of_triangle
    }

    /// A mesh without parts has a single empty name.
    #[must_use]
    pub fn part_names(&self) -> &[String] {
        &self.part_names
    }

    /// `None` if all triangles are white.
    #[must_use]
    pub fn appearance(&self) -> Option<&Appearance> {
        self.appearance.as_ref()
    }

    /// The normals that the file has at the corners of each triangle, of any length, zero where it has none; empty if it
    /// has none at all, or if they were not read.
    #[must_use]
    pub fn file_normals(&self) -> &[[Vec3; 3]] {
        &self.normals
    }

    /// What the importer ignored or mended: a missing texture, an undefined material, a wrong count. Number and length are
    /// bounded.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        self.warnings.sentences()
    }

    /// The kind of each of [`Mesh::warnings`], in their order.
    #[must_use]
    pub fn warning_kinds(&self) -> &[WarningKind] {
        self.warnings.kinds()
    }

    pub(crate) fn with_warnings(self, warnings: Warnings) -> Self {
        Self {
            warnings: warnings.complete(),
            ..self
        }
    }

    /// Center of the file's bounding box, in file coordinates; positions are relative to it.
    #[must_use]
    pub fn origin(&self) -> DVec3 {
        self.origin
    }

    /// Number of triangles without an area that were dropped.
    #[must_use]
    pub fn num_degenerate(&self) -> usize {
        self.num_degenerate
    }

    /// Total area, in squared file units.
    #[must_use]
    pub fn surface_area(&self) -> f64 {
        self.corners().map(area).sum()
    }

    /// Area-weighted center of the surface, relative to [`Mesh::origin`].
    #[must_use]
    pub fn surface_centroid(&self) -> Vec3 {
        let (weighted, total) = self
            .corners()
            .fold((DVec3::ZERO, 0.0), |(weighted, total), corners| {
                let area = area(corners);
                let center = corners.iter().map(|corner| corner.as_dvec3()).sum::<DVec3>() / 3.0;
                (weighted + area * center, total + area)
            });
        (weighted / total).as_vec3()
    }

    /// Minimum and maximum corner of the bounding box, relative to [`Mesh::origin`].
    #[must_use]
    pub fn bounds(&self) -> (Vec3, Vec3) {
        bounds_of(self.positions.iter().copied())
    }

    /// Is every edge shared by exactly two triangles? Vertices at equal positions count as one.
    ///
    /// Sorts the edges, which costs about as much as importing the mesh.
    #[must_use]
    pub fn is_watertight(&self) -> bool {
        let welded = self.weld();
        let mut edges: Vec<[u32; 2]> = self
            .triangles
            .iter()
            .flat_map(|&[a, b, c]| [[a, b], [b, c], [c, a]])
            .map(|edge| {
                let [from, to] = edge.map(|index| welded[index as usize]);
                [from.min(to), from.max(to)]
            })
            .collect();
        edges.sort_unstable();
        edges
            .chunk_by(|left, right| left == right)
            .all(|uses| uses.len() == 2)
    }

    /// The triangles, in ascending order, of flat faces with the same outline as an earlier face, in either orientation
    /// and however they are triangulated.
    ///
    /// Modelers duplicate a face to give its two sides different materials. A renderer that shows materials leaves
    /// these triangles out, so that the first in the order of the file wins in every view; a white image is the same
    /// either way. Sorts positions and edges, which costs about as much as importing the mesh.
    #[must_use]
    pub fn coplanar_duplicates(&self) -> Vec<u32> {
        coplanar_duplicates(&self.positions, &self.welded_triangles())
    }

    /// Coplanar duplicates, and faces that overlap in part.
    pub(crate) fn coplanar_faces(&self) -> CoplanarFaces {
        CoplanarFaces::new(&self.positions, &self.welded_triangles())
    }

    /// The triangles, with the smallest vertex index at each position.
    fn welded_triangles(&self) -> Vec<[u32; 3]> {
        let welded = self.weld();
        let triangles = self.triangles.iter();
        triangles
            .map(|triangle| triangle.map(|vertex| welded[vertex as usize]))
            .collect()
    }

    /// For each vertex, the smallest vertex index at the same position.
    fn weld(&self) -> Vec<u32> {
        // Adding zero turns -0 into +0, which are equal but differ in bits.
        let key = |index: u32| {
            (self.positions[index as usize] + 0.0)
                .to_array()
                .map(f32::to_bits)
        };
        let mut order: Vec<u32> = (0..self.positions.len() as u32).collect();
        order.sort_unstable_by_key(|&index| (key(index), index));
        let mut welded = vec![0; self.positions.len()];
        for equal in order.chunk_by(|&left, &right| key(left) == key(right)) {
            for &index in equal {
                welded[index as usize] = equal[0];
            }
        }
        welded
    }
}

/// Removes elements, given by ascending indices, from a list; an empty one stays empty.
fn drop_indices<T>(list: &mut Vec<T>, dropped: &[usize]) {
    if dropped.is_empty() {
        return;
    }
    let (mut index, mut dropped) = (0, dropped.iter().peekable());
    list.retain(|_| {
        let is_dropped = dropped.next_if_eq(&&index).is_some();
        index += 1;
        !is_dropped
    });
}

/// Minimum and maximum corner of a bounding box; infinite and inverted if there are no points.
pub(crate) fn bounds_of(points: impl Iterator<Item = Vec3>) -> (Vec3, Vec3) {
    points.fold((Vec3::INFINITY, Vec3::NEG_INFINITY), |(low, high), point| {
        (low.min(point), high.max(point))
    })
}

/// Twice the triangle's area, as a vector along its normal.
fn double_area([a, b, c]: [DVec3; 3]) -> DVec3 {
    (b - a).cross(c - a)
}

fn area(corners: [Vec3; 3]) -> f64 {
    double_area(corners.map(Vec3::as_dvec3)).length() / 2.0
}

/// The file's up axis. In object space +y is up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UpAxis {
    /// +y up, +z front: `ShapeNetCore`, glTF.
    #[default]
    Y,
    /// +z up, -y front: `ModelNet`, most CAD.
    Z,
}

impl UpAxis {
    /// The rotation from this axis to +y; its entries are exact.
    fn rotation(self) -> DMat3 {
        match self {
            Self::Y => DMat3::IDENTITY,
            Self::Z => DMat3::from_cols(DVec3::X, DVec3::NEG_Z, DVec3::Y),
        }
    }
}

impl fmt::Display for UpAxis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Y => "y",
            Self::Z => "z",
        })
    }
}

/// An up axis other than `y` or `z`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown up axis `{name}`: expected `y` or `z`")]
pub struct UnknownUpAxis {
    name: String,
}

impl FromStr for UpAxis {
    type Err = UnknownUpAxis;

    fn from_str(name: &str) -> Result<Self, UnknownUpAxis> {
        match name {
            "y" | "Y" => Ok(Self::Y),
            "z" | "Z" => Ok(Self::Z),
            _ => Err(UnknownUpAxis {
                name: name.to_owned(),
            }),
        }
    }
}

/// The similarity transform `object = scale * rotation * (file - center)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ObjectFromMesh {
    center: DVec3,
    scale: f64,
    rotation: DMat3,
}

impl ObjectFromMesh {
    /// Moves the centroid of `points` to the origin and scales the farthest of them to distance 1.
    ///
    /// `points` are relative to [`Mesh::origin`]. If they all coincide the scale is 1.
    #[must_use]
    pub fn from_points(mesh: &Mesh, points: &[Vec3], up: UpAxis) -> Self {
        let sum: DVec3 = points.iter().map(|point| point.as_dvec3()).sum();
        Self::around(mesh, sum / points.len().max(1) as f64, points, up)
    }

    /// As [`from_points`](Self::from_points), for points that belong to no mesh, in file coordinates.
    #[must_use]
    pub fn from_cloud(points: &[DVec3], up: UpAxis) -> Self {
        let center = points.iter().sum::<DVec3>() / points.len().max(1) as f64;
        Self::of_center(center, radius(points.iter().copied(), center), up)
    }

    /// Moves the center of the bounding box to the origin and scales the farthest vertex to distance 1.
    #[must_use]
    pub fn from_bounding_box(mesh: &Mesh, up: UpAxis) -> Self {
        let (low, high) = mesh.bounds();
        Self::around(
            mesh,
            (low.as_dvec3() + high.as_dvec3()) / 2.0,
            mesh.positions(),
            up,
        )
    }

    /// Moves the area-weighted center of the surface to the origin and scales the farthest vertex to distance 1.
    #[must_use]
    pub fn from_surface(mesh: &Mesh, up: UpAxis) -> Self {
        Self::around(mesh, mesh.surface_centroid().as_dvec3(), mesh.positions(), up)
    }

    fn around(mesh: &Mesh, local_center: DVec3, points: &[Vec3], up: UpAxis) -> Self {
        let radius = radius(points.iter().map(|point| point.as_dvec3()), local_center);
        Self::of_center(mesh.origin() + local_center, radius, up)
    }

    fn of_center(center: DVec3, radius: f64, up: UpAxis) -> Self {
        Self {
            center,
            scale: if radius > 0.0 { radius.recip() } else { 1.0 },
            rotation: up.rotation(),
        }
    }

    /// Factor from file units to object units.
    #[must_use]
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// The transform from [`Mesh::positions`] (and points sampled from them) to object space.
    #[must_use]
    pub fn local_matrix(&self, mesh: &Mesh) -> Mat4 {
        self.matrix_from(self.center - mesh.origin()).as_mat4()
    }

    /// The transform from file coordinates to object space, which shards store.
    #[must_use]
    pub fn matrix(&self) -> DMat4 {
        self.matrix_from(self.center)
    }

    fn matrix_from(&self, center: DVec3) -> DMat4 {
        let linear = self.rotation * self.scale;
        DMat4::from_mat3_translation(linear, linear * -center)
    }
}

/// Distance of the farthest point from the center.
fn radius(points: impl Iterator<Item = DVec3>, center: DVec3) -> f64 {
    let squares = points.map(|point| (point - center).length_squared());
    squares.fold(0.0, f64::max).sqrt()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::*;

    fn tetrahedron(offset: DVec3, size: f64) -> (Vec<DVec3>, Vec<[u32; 3]>) {
        let corners = [DVec3::ZERO, DVec3::X, DVec3::Y, DVec3::Z].map(|corner| offset + size * corner);
        (corners.to_vec(), vec![[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    }

    #[test]
    fn drops_and_counts_degenerate_triangles() {
        let (mut positions, mut triangles) = tetrahedron(DVec3::ZERO, 1.0);
        positions.push(DVec3::X * 0.3);
        triangles.extend([[0, 0, 1], [0, 1, 4]]);
        let mesh = Mesh::try_new(&positions, triangles, None).unwrap();
        assert_eq!((mesh.triangles().len(), mesh.num_degenerate()), (4, 2));
        assert_eq!(
            mesh.positions().len(),
            4,
            "the vertex of the dropped triangle goes with it"
        );
        assert!(mesh.is_watertight());
    }

    #[test]
    fn appearance_drops_degenerate_triangles_too() {
        let (positions, mut triangles) = tetrahedron(DVec3::ZERO, 1.0);
        triangles.insert(1, [0, 0, 1]);
        let appearance = Appearance {
            materials: (0..5).map(|_| Material::white()).collect(),
            material_of_triangle: vec![0, 1, 2, 3, 4],
            ..Appearance::default()
        };
        let mesh =
            Mesh::try_with_appearance(&positions, triangles.clone(), None, appearance.clone()).unwrap();
        assert_eq!(mesh.appearance().unwrap().material_of_triangle, [0, 2, 3, 4]);
        triangles.pop();
        let error = Mesh::try_with_appearance(&positions, triangles, None, appearance).unwrap_err();
        assert_eq!(
            (error.code(), error.to_string()),
            ("bad_surface", "5 materials for 4 triangles".to_owned())
        );
    }

    #[test]
    fn first_of_coplanar_duplicates_stays() {
        let (mut positions, mut triangles) = tetrahedron(DVec3::ZERO, 1.0);
        positions.extend_from_within(0..3);
        triangles.extend([[2, 1, 0], [4, 5, 6]]);
        triangles.insert(0, [3, 2, 1]);
        let mesh = Mesh::try_new(&positions, triangles, None).unwrap();
        assert_eq!(mesh.coplanar_duplicates(), [4, 5, 6]);
        let (positions, triangles) = tetrahedron(DVec3::ZERO, 1.0);
        let mesh = Mesh::try_new(&positions, triangles, None).unwrap();
        assert!(mesh.coplanar_duplicates().is_empty());
    }

    #[test]
    fn a_tiny_mesh_far_away_keeps_its_shape() {
        let (positions, triangles) = tetrahedron(DVec3::new(1e6, -2e6, 3e6), 1e-3);
        let mesh = Mesh::try_new(&positions, triangles, None).unwrap();
        let expected = (1.5 + 0.75_f64.sqrt()) * 1e-6;
        assert!(
            (mesh.surface_area() / expected - 1.0).abs() < 1e-5,
            "area {}",
            mesh.surface_area()
        );
    }

    #[test]
    fn refuses_by_name() {
        let (positions, triangles) = tetrahedron(DVec3::ZERO, 1.0);
        let code = |positions: &[DVec3], triangles: Vec<[u32; 3]>, parts| {
            Mesh::try_new(positions, triangles, parts).unwrap_err().code()
        };
        assert_eq!(code(&positions, vec![], None), "no_faces");
        assert_eq!(code(&positions, vec![[0, 1, 4]], None), "index_out_of_range");
        assert_eq!(code(&positions, vec![[0, 1, 1]], None), "all_degenerate");
        assert_eq!(
            code(&positions, triangles.clone(), Some(Parts::default())),
            "bad_parts"
        );
        let huge: Vec<DVec3> = positions.iter().map(|position| *position * 1e30).collect();
        assert_eq!(code(&huge, triangles.clone(), None), "bad_extent");
        for bad in [f64::NAN, f64::INFINITY] {
            let mut positions = positions.clone();
            positions[2].y = bad;
            assert_eq!(code(&positions, triangles.clone(), None), "non_finite");
        }
    }

    #[test]
    fn an_unused_vertex_may_hold_anything() {
        let (mut positions, triangles) = tetrahedron(DVec3::ZERO, 1.0);
        positions.push(DVec3::NAN);
        let mesh = Mesh::try_new(&positions, triangles, None).unwrap();
        assert_eq!(mesh.origin(), DVec3::splat(0.5));
    }

    #[test]
    fn an_open_mesh_is_not_watertight() {
        let (positions, mut triangles) = tetrahedron(DVec3::ZERO, 1.0);
        triangles.pop();
        assert!(
            !Mesh::try_new(&positions, triangles, None)
                .unwrap()
                .is_watertight()
        );
    }

    #[test]
    fn vertices_at_one_position_count_as_one() {
        let (positions, triangles) = tetrahedron(DVec3::ZERO, 1.0);
        let split: Vec<DVec3> = triangles
            .iter()
            .flatten()
            .map(|&index| positions[index as usize])
            .collect();
        let corners = (0..4)
            .map(|triangle| [0, 1, 2].map(|corner| 3 * triangle + corner))
            .collect();
        assert!(Mesh::try_new(&split, corners, None).unwrap().is_watertight());
    }

    #[test]
    fn z_up_becomes_y_up() {
        let (positions, triangles) = tetrahedron(DVec3::ZERO, 2.0);
        let mesh = Mesh::try_new(&positions, triangles, None).unwrap();
        let object = ObjectFromMesh::from_bounding_box(&mesh, UpAxis::Z);
        let up = object.matrix().transform_vector3(DVec3::Z).normalize();
        let front = object.matrix().transform_vector3(DVec3::NEG_Y).normalize();
        assert_eq!((up, front), (DVec3::Y, DVec3::Z));
        assert_eq!("z".parse(), Ok(UpAxis::Z));
        assert!("x".parse::<UpAxis>().is_err());
    }

    proptest! {
        #[test]
        fn normalization_is_a_unit_ball(
            offset in prop::array::uniform3(-1e4..1e4_f64), size in 1e-3..1e3_f64, z_up: bool,
        ) {
            let (positions, triangles) = tetrahedron(DVec3::from(offset), size);
            let mesh = Mesh::try_new(&positions, triangles, None).unwrap();
            let up = if z_up { UpAxis::Z } else { UpAxis::Y };
            for object in [
                ObjectFromMesh::from_points(&mesh, mesh.positions(), up),
                ObjectFromMesh::from_bounding_box(&mesh, up),
                ObjectFromMesh::from_surface(&mesh, up),
            ] {
                let local = object.local_matrix(&mesh);
                let farthest = mesh.positions().iter().map(|&p| local.transform_point3(p).length());
                prop_assert!((farthest.fold(0.0, f32::max) - 1.0).abs() < 1e-5);
                for (position, file) in mesh.positions().iter().zip(&positions) {
                    let from_file = object.matrix().transform_point3(*file).as_vec3();
                    prop_assert!(local.transform_point3(*position).distance(from_file) < 1e-4);
                }
            }
        }
    }
}
