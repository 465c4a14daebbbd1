//! Area-weighted uniform points: a triangle by its share of the area, then a place in it.

use glam::Vec3;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use tap_render::Mesh;

/// Points and the triangles that they lie on.
pub(super) struct Drawn {
    pub(super) points: Vec<Vec3>,
    pub(super) triangle: Vec<u32>,
}

/// Draws points independently; the first `n` of a longer draw are the draw of `n`.
pub(super) fn draw(mesh: &Mesh, num_points: usize, seed: u64) -> Drawn {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut area_up_to = 0.0;
    let upper_area: Vec<f64> = mesh
        .corners()
        .map(|corners| {
            let [a, b, c] = corners.map(Vec3::as_dvec3);
            area_up_to += (b - a).cross(c - a).length();
            area_up_to
        })
        .collect();
    let mut drawn = Drawn {
        points: Vec::with_capacity(num_points),
        triangle: Vec::with_capacity(num_points),
    };
    for _ in 0..num_points {
        // 53 bits are all that an `f64` below 1 can hold.
        let area = (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64 * area_up_to;
        // Rounding may lead past the end: the last triangle then.
        let triangle = upper_area
            .partition_point(|&upper| upper <= area)
            .min(upper_area.len() - 1);
        let place = rng.next_u64();
        let [u, v] = [place >> 32, place & 0xFFFF_FFFF].map(|bits| bits as f64 / (1_u64 << 32) as f64);
        // The unit square folded along its diagonal: every place in the triangle is equally likely.
        let (u, v) = if u + v > 1.0 { (1.0 - u, 1.0 - v) } else { (u, v) };
        let [a, b, c] = mesh.triangles()[triangle].map(|index| mesh.positions()[index as usize].as_dvec3());
        drawn.points.push((a + u * (b - a) + v * (c - a)).as_vec3());
        drawn.triangle.push(triangle as u32);
    }
    drawn
}
