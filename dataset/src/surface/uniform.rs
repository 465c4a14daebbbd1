//! Area-weighted uniform points: a triangle by area, then barycentric coordinates.

use glam::Vec3;
use tap_render::Mesh;

use crate::seeded_rng::SeededRng;

/// Points and their triangles.
pub(super) struct PoolSamples {
    pub(super) points: Vec<Vec3>,
    pub(super) triangle: Vec<u32>,
}

/// Samples points independently; a shorter sequence is a prefix of a longer one.
pub(super) fn sample(mesh: &Mesh, num_points: usize, seed: u64) -> PoolSamples {
    let mut rng = SeededRng::from_u64(seed);
    let mut total_area = 0.0;
    let cumulative_area: Vec<f64> = mesh
        .corners()
        .map(|corners| {
            let [a, b, c] = corners.map(Vec3::as_dvec3);
            total_area += (b - a).cross(c - a).length();
            total_area
        })
        .collect();
    let mut samples = PoolSamples {
        points: Vec::with_capacity(num_points),
        triangle: Vec::with_capacity(num_points),
    };
    for _ in 0..num_points {
        let area = rng.unit() * total_area;
        // Rounding may lead past the last triangle.
        let triangle = cumulative_area
            .partition_point(|&upper| upper <= area)
            .min(cumulative_area.len() - 1);
        let [u, v] = rng.unit_pair();
        // The unit square folded along its diagonal is uniform over the triangle.
        let (u, v) = if u + v > 1.0 { (1.0 - u, 1.0 - v) } else { (u, v) };
        let [a, b, c] = mesh.triangles()[triangle].map(|index| mesh.positions()[index as usize].as_dvec3());
        samples.points.push((a + u * (b - a) + v * (c - a)).as_vec3());
        samples.triangle.push(triangle as u32);
    }
    samples
}
