//! [`Topology`]: watertightness and mesh issues from the edges of a mesh.
//!
//! One sort of the edges answers all questions but one; the mesh's own watertightness test would need the
//! same sort.

use glam::{DVec3, Vec3};
use tap_render::Mesh;

use crate::schema::MeshIssues;

/// Result of the edge analysis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Topology {
    /// Whether every edge has exactly two triangles.
    pub(crate) is_watertight: bool,
    pub(crate) issues: MeshIssues,
}

/// An edge between two welded vertices, smaller index first, and whether its triangle traverses it in that
/// direction.
type Edge = ([u32; 2], bool);

impl Topology {
    pub(crate) fn analyze(mesh: &Mesh) -> Self {
        let welded = weld(mesh);
        let triangles: Vec<[u32; 3]> = mesh
            .triangles()
            .iter()
            .map(|triangle| triangle.map(|index| welded[index as usize]))
            .collect();
        let mut issues = MeshIssues {
            num_coincident_triangles: num_coincident(&triangles),
            num_degenerate_triangles: mesh.num_degenerate() as i64,
            ..MeshIssues::default()
        };
        let mut edges: Vec<Edge> = triangles
            .iter()
            .flat_map(|&[a, b, c]| [[a, b], [b, c], [c, a]])
            .map(|[from, to]| ([from.min(to), from.max(to)], from < to))
            .collect();
        edges.sort_unstable();
        for uses in edges.chunk_by(|left, right| left.0 == right.0) {
            match uses {
                [_] => issues.num_open_edges += 1,
                [(_, one), (_, other)] => issues.num_flipped_edges += i64::from(one == other),
                _ => issues.num_non_manifold_edges += 1,
            }
        }
        let is_watertight = issues.num_open_edges == 0 && issues.num_non_manifold_edges == 0;
        issues.is_inside_out = is_watertight && issues.num_flipped_edges == 0 && signed_volume(mesh) < 0.0;
        Self {
            is_watertight,
            issues,
        }
    }
}

/// Maps each vertex to a representative at the same position.
fn weld(mesh: &Mesh) -> Vec<u32> {
    // Adding zero turns -0 into +0, which are equal but differ in bits.
    let key = |index: u32| {
        (mesh.positions()[index as usize] + 0.0)
            .to_array()
            .map(f32::to_bits)
    };
    let mut order: Vec<u32> = (0..mesh.positions().len() as u32).collect();
    order.sort_unstable_by_key(|&index| key(index));
    let mut welded = vec![0; order.len()];
    for equal in order.chunk_by(|&left, &right| key(left) == key(right)) {
        for &index in equal {
            welded[index as usize] = equal[0];
        }
    }
    welded
}

/// Number of triangles with the same corners as another one.
fn num_coincident(triangles: &[[u32; 3]]) -> i64 {
    let mut corners: Vec<[u32; 3]> = triangles.to_vec();
    for corners in &mut corners {
        corners.sort_unstable();
    }
    corners.sort_unstable();
    corners.windows(2).filter(|pair| pair[0] == pair[1]).count() as i64
}

/// Six times the enclosed volume, negative for inward winding.
fn signed_volume(mesh: &Mesh) -> f64 {
    let signed = |[a, b, c]: [DVec3; 3]| a.dot(b.cross(c));
    mesh.corners()
        .map(|corners| signed(corners.map(Vec3::as_dvec3)))
        .sum()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    const CORNERS: [DVec3; 4] = [DVec3::ZERO, DVec3::X, DVec3::Y, DVec3::Z];
    const TETRAHEDRON: [[u32; 3]; 4] = [[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]];

    fn topology(triangles: &[[u32; 3]]) -> Topology {
        Topology::analyze(&Mesh::try_new(&CORNERS, triangles.to_vec(), None).unwrap())
    }

    #[test]
    fn a_closed_solid_has_nothing_wrong() {
        let topology = topology(&TETRAHEDRON);
        assert_eq!(
            (topology.is_watertight, topology.issues),
            (true, MeshIssues::default())
        );
    }

    #[test]
    fn each_fault_is_counted() {
        let open = topology(&TETRAHEDRON[..3]);
        assert!(!open.is_watertight, "a side is missing");
        assert_eq!(open.issues.num_open_edges, 3);

        let mut triangles = TETRAHEDRON;
        triangles[0].swap(0, 1);
        let flipped = topology(&triangles);
        assert!(flipped.is_watertight, "closed all the same");
        assert_eq!(flipped.issues.num_flipped_edges, 3);
        assert!(!flipped.issues.is_inside_out, "who could say");

        let inside_out = TETRAHEDRON.map(|[a, b, c]| [b, a, c]);
        assert!(
            topology(&inside_out).issues.is_inside_out,
            "all sides look inwards"
        );

        let doubled = [&TETRAHEDRON[..], &inside_out[..1]].concat();
        let doubled = topology(&doubled).issues;
        assert_eq!(
            (doubled.num_coincident_triangles, doubled.num_non_manifold_edges),
            (1, 3)
        );

        let degenerate = [&TETRAHEDRON[..], &[[0, 0, 1]]].concat();
        assert_eq!(topology(&degenerate).issues.num_degenerate_triangles, 1);
    }

    #[test]
    fn it_agrees_with_the_mesh_on_what_is_closed() {
        let twins: Vec<DVec3> = TETRAHEDRON
            .iter()
            .flatten()
            .map(|&i| CORNERS[i as usize])
            .collect();
        let soup = Mesh::try_new(&twins, vec![[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]], None).unwrap();
        assert!(
            Topology::analyze(&soup).is_watertight,
            "equal positions are one vertex"
        );
        for num_triangles in 1..4 {
            let mesh = Mesh::try_new(&CORNERS, TETRAHEDRON[..num_triangles].to_vec(), None).unwrap();
            assert_eq!(
                Topology::analyze(&mesh).is_watertight,
                mesh.is_watertight(),
                "{num_triangles}"
            );
        }
    }
}
