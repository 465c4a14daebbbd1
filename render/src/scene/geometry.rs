//! A mesh in object space, and its vertices for a device.
//!
//! A flat-interpolated attribute comes from a triangle's provoking (first) vertex, which carries the triangle's index
//! here. Triangles are rotated so that each begins at a vertex of its own, and a vertex is duplicated only if none is
//! free: about one vertex per triangle instead of three.

use glam::{Mat4, Vec3};
use tap_shaders::Vertex;

use crate::mesh::Mesh;

/// The triangles of a mesh in object space. Each has an area, and each point a triangle.
#[derive(Debug)]
pub(crate) struct Geometry {
    pub(crate) points: Vec<Vec3>,
    pub(crate) triangles: Vec<[u32; 3]>,
    /// Unit normal of each triangle.
    pub(crate) normals: Vec<Vec3>,
    /// Index in the mesh of each triangle.
    pub(crate) sources: Vec<u32>,
}

/// Marks a point that no triangle uses yet.
const UNUSED: u32 = u32::MAX;

impl Geometry {
    /// Drops triangles without an area in object space, and those of the ascending list `skipped`.
    pub(crate) fn new(mesh: &Mesh, object_from_local: &Mat4, skipped: &[u32]) -> Self {
        let in_object: Vec<Vec3> = mesh
            .positions()
            .iter()
            .map(|position| object_from_local.transform_point3(*position))
            .collect();
        let mut point_of_position = vec![UNUSED; mesh.positions().len()];
        let mut points = Vec::with_capacity(mesh.positions().len());
        let mut triangles = Vec::with_capacity(mesh.triangles().len());
        let mut normals = Vec::with_capacity(mesh.triangles().len());
        let mut sources = Vec::with_capacity(mesh.triangles().len());
        let mut skipped = skipped.iter().copied().peekable();
        for (source, triangle) in (0..).zip(mesh.triangles()) {
            if skipped.next_if_eq(&source).is_some() {
                continue;
            }
            let [a, b, c] = triangle.map(|index| in_object[index as usize]);
            let normal = (b - a)
                .as_dvec3()
                .cross((c - a).as_dvec3())
                .normalize_or_zero()
                .as_vec3();
            if normal == Vec3::ZERO {
                continue;
            }
            normals.push(normal);
            sources.push(source);
            triangles.push(triangle.map(|index| {
                let point = &mut point_of_position[index as usize];
                if *point == UNUSED {
                    *point = points.len() as u32;
                    points.push(in_object[index as usize]);
                }
                *point
            }));
        }
        Self {
            points,
            triangles,
            normals,
            sources,
        }
    }
}

/// Vertices, and each triangle's corners beginning with its provoking vertex.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ProvokingVertices {
    pub(crate) vertices: Vec<Vertex>,
    pub(crate) corners: Vec<[u32; 3]>,
}

impl ProvokingVertices {
    /// Keeps the order of the triangles.
    pub(crate) fn new(points: &[Vec3], triangles: impl ExactSizeIterator<Item = [u32; 3]>) -> Self {
        let vertex = |point: Vec3, triangle: u32| Vertex {
            position: point.into(),
            triangle,
        };
        let mut vertices: Vec<Vertex> = points.iter().map(|point| vertex(*point, UNUSED)).collect();
        let corners = (0..).zip(triangles).map(|(number, [a, b, c])| {
            let turns = [[a, b, c], [b, c, a], [c, a, b]];
            let is_free = |turn: &&[u32; 3]| vertices[turn[0] as usize].triangle == UNUSED;
            if let Some(turn) = turns.iter().find(is_free) {
                vertices[turn[0] as usize].triangle = number;
                return *turn;
            }
            vertices.push(vertex(points[a as usize], number));
            [vertices.len() as u32 - 1, b, c]
        });
        let corners = corners.collect();
        Self { vertices, corners }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use glam::DVec3;

    use super::*;

    /// A grid of quads, two triangles each, bent so that all quads have different normals.
    fn bent_sheet(n: u32) -> Mesh {
        let position = |i: u32| {
            let (x, y) = (f64::from(i % (n + 1)), f64::from(i / (n + 1)));
            DVec3::new(x, y, (x * 0.3).sin() * (y * 0.2).cos())
        };
        let positions: Vec<DVec3> = (0..(n + 1) * (n + 1)).map(position).collect();
        let quads = (0..n * n).flat_map(|i| {
            let corner = i / n * (n + 1) + i % n;
            let (right, above) = (corner + 1, corner + n + 1);
            [[corner, right, above], [right, above + 1, above]]
        });
        Mesh::try_new(&positions, quads.collect(), None).unwrap()
    }

    #[test]
    fn each_triangle_has_its_own_provoking_vertex() {
        let mesh = bent_sheet(20);
        let geometry = Geometry::new(&mesh, &Mat4::from_scale(Vec3::splat(0.1)), &[]);
        let ProvokingVertices { vertices, corners } =
            ProvokingVertices::new(&geometry.points, geometry.triangles.iter().copied());
        assert_eq!(corners.len(), geometry.triangles.len(), "all triangles are there");
        for ((number, corners), triangle) in (0..).zip(&corners).zip(&geometry.triangles) {
            assert_eq!(
                vertices[corners[0] as usize].triangle, number,
                "the first corner's number"
            );
            let is = corners.map(|corner| Vec3::from(vertices[corner as usize].position));
            let should = triangle.map(|point| geometry.points[point as usize]);
            let turned = |by: usize| std::array::from_fn(|i| should[(i + by) % 3]);
            assert!(
                (0..3).any(|by| is == turned(by)),
                "{is:?} is not {should:?} turned"
            );
        }
        let per_triangle = vertices.len() as f32 / corners.len() as f32;
        assert!(per_triangle < 1.3, "{per_triangle} vertices a triangle");
    }

    #[test]
    fn skipped_triangles_are_removed() {
        let mesh = bent_sheet(2);
        let geometry = Geometry::new(&mesh, &Mat4::IDENTITY, &[1, 6]);
        assert_eq!(geometry.sources, [0, 2, 3, 4, 5, 7]);
    }

    #[test]
    fn points_without_triangles_are_dropped() {
        let positions = [DVec3::splat(9.0), DVec3::ZERO, DVec3::X, DVec3::Y].map(|point| point * 2.0);
        let mesh = Mesh::try_new(&positions, vec![[1, 2, 3]], None).unwrap();
        let geometry = Geometry::new(&mesh, &Mat4::IDENTITY, &[]);
        assert_eq!(geometry.points.len(), 3, "the far point is no corner");
        assert_eq!(geometry.normals, [Vec3::Z]);
    }
}
