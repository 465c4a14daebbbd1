//! Smooth vertex normals with a crease angle.

use std::collections::HashMap;

use glam::Vec3;

/// Cosine of the crease angle, 60 degrees: sharper edges stay flat.
const CREASE_COSINE: f32 = 0.5;

/// Unit normals at the corners, on the side of the triangle's own normal.
///
/// Area-weighted means over the faces at each position. Inconsistent winding is common, so of a neighbor's two normals
/// the one nearer to the triangle's own counts. Neighbors beyond the crease angle do not count.
pub(crate) fn corner_normals(points: &[Vec3], triangles: &[[u32; 3]]) -> Vec<[Vec3; 3]> {
    let welded = weld(points);
    let areas: Vec<Vec3> = triangles
        .iter()
        .map(|triangle| {
            let [a, b, c] = triangle.map(|index| points[index as usize]);
            (b - a).cross(c - a)
        })
        .collect();
    let adjacency = VertexFaces::new(points.len(), triangles, &welded);
    triangles
        .iter()
        .zip(&areas)
        .map(|(triangle, own)| {
            triangle.map(|index| {
                let sum: Vec3 = adjacency
                    .faces_at(welded[index as usize])
                    .iter()
                    .map(|&other| {
                        let area = areas[other as usize];
                        let cosine = area.dot(*own);
                        if cosine.abs() < CREASE_COSINE * area.length() * own.length() {
                            Vec3::ZERO
                        } else {
                            area * cosine.signum()
                        }
                    })
                    .sum();
                sum.try_normalize().unwrap_or_else(|| own.normalize_or(Vec3::Z))
            })
        })
        .collect()
}

/// For each point, the first at the same position.
fn weld(points: &[Vec3]) -> Vec<u32> {
    let mut first = HashMap::with_capacity(points.len());
    (0..)
        .zip(points)
        .map(|(index, point)| {
            // Adding zero turns -0 into +0, which are equal but differ in bits.
            *first
                .entry((*point + 0.0).to_array().map(f32::to_bits))
                .or_insert(index)
        })
        .collect()
}

/// Vertex-face adjacency: the triangles around each welded point, in compressed sparse rows.
struct VertexFaces {
    starts: Vec<u32>,
    triangles: Vec<u32>,
}

impl VertexFaces {
    fn new(num_points: usize, triangles: &[[u32; 3]], welded: &[u32]) -> Self {
        let mut starts = vec![0; num_points + 1];
        for index in triangles.iter().flatten() {
            starts[welded[*index as usize] as usize + 1] += 1;
        }
        for i in 0..num_points {
            starts[i + 1] += starts[i];
        }
        let mut ends = starts.clone();
        let mut faces = vec![0; 3 * triangles.len()];
        for (triangle_idx, triangle) in (0..).zip(triangles) {
            for index in triangle {
                let end = &mut ends[welded[*index as usize] as usize];
                faces[*end as usize] = triangle_idx;
                *end += 1;
            }
        }
        Self {
            starts,
            triangles: faces,
        }
    }

    fn faces_at(&self, vertex: u32) -> &[u32] {
        let vertex = vertex as usize;
        &self.triangles[self.starts[vertex] as usize..self.starts[vertex + 1] as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two triangles that share an edge along +x at an angle; the second optionally with the opposite winding.
    fn roof(angle_deg: f32, is_turned: bool) -> Vec<[Vec3; 3]> {
        let (sin, cos) = angle_deg.to_radians().sin_cos();
        let points = [
            Vec3::ZERO,
            Vec3::X,
            -Vec3::Y,
            Vec3::new(0.0, cos, sin),
            Vec3::ZERO,
            Vec3::X,
        ];
        let second = if is_turned { [5, 4, 3] } else { [4, 5, 3] };
        corner_normals(&points, &[[1, 0, 2], second])
    }

    #[test]
    fn an_edge_has_the_mean_of_its_faces() {
        for is_turned in [false, true] {
            let normals = roof(40.0, is_turned);
            let expected = Vec3::new(0.0, -20_f32.to_radians().sin(), 20_f32.to_radians().cos());
            for normal in [normals[0][0], normals[0][1]] {
                assert!(
                    (normal.abs() - expected.abs()).length() < 1e-5,
                    "{normal} is not {expected}"
                );
            }
            assert!(
                (normals[0][2].abs() - Vec3::Z).length() < 1e-5,
                "away from the edge it is flat"
            );
        }
    }

    #[test]
    fn normals_stay_on_their_face_side() {
        for angle_deg in [10.0, 59.0, 90.0, 150.0] {
            let flat = [(Vec3::X - Vec3::ZERO), (-Vec3::Y)];
            let own = (-flat[0]).cross(flat[1] - Vec3::X);
            for normal in roof(angle_deg, false)[0] {
                assert!(normal.dot(own) > 0.0, "{angle_deg} degrees");
            }
        }
    }
}
