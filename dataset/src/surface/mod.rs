//! Surface sampling: points with normals and triangle indices.
//!
//! Every sampler starts from area-weighted uniform points and selects among them. Results depend only on
//! mesh, number and seed, and are bit-identical everywhere.

mod farthest_point;
mod sample_elimination;
mod uniform;

use glam::{DVec3, Vec3};
use serde::{Deserialize, Serialize};
use strum::VariantNames as _;
use tap_render::Mesh;

/// Uniform points per Poisson-disk point (TAP's setting).
pub const POISSON_POOL: usize = 4;
/// Uniform points per farthest point (TAP: 1024 of 8192).
pub const FARTHEST_POOL: usize = 8;

/// Sampling method.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
    strum::VariantNames,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", parse_err_ty = UnknownSampler, parse_err_fn = unknown_sampler)]
pub enum Sampler {
    /// Poisson-disk, by weighted sample elimination (Yuksel 2015).
    #[default]
    Poisson,
    /// Independent, uniform by area.
    Uniform,
    /// Farthest-point sampling.
    Fps,
}

/// Unknown sampler name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown sampler `{name}`, expected one of {}", Sampler::VARIANTS.join(", "))]
pub struct UnknownSampler {
    name: String,
}

fn unknown_sampler(name: &str) -> UnknownSampler {
    UnknownSampler {
        name: name.to_owned(),
    }
}

/// Sampled points; the three lists have the same length.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SurfaceSamples {
    /// Positions in file units, relative to [`Mesh::origin`], like [`Mesh::positions`].
    pub points: Vec<Vec3>,
    /// Unit normals of the triangles that the points lie on.
    pub normals: Vec<Vec3>,
    /// Triangle indices; [`Mesh::part_of_triangle`] maps them to parts.
    pub triangle: Vec<u32>,
}

/// Samples `num_points` points from the surface of `mesh`.
///
/// Takes O(n log n) time for typical meshes. A mesh folded onto itself many times can slow the Poisson-disk
/// sampler to the square of the pool size, but memory stays linear.
#[must_use]
pub fn sample_surface(mesh: &Mesh, sampler: Sampler, num_points: usize, seed: u64) -> SurfaceSamples {
    let pool_size = match sampler {
        Sampler::Uniform => num_points,
        Sampler::Poisson => num_points.saturating_mul(POISSON_POOL),
        Sampler::Fps => num_points.saturating_mul(FARTHEST_POOL),
    };
    let pool_samples = uniform::sample(mesh, pool_size, seed);
    let kept = match sampler {
        Sampler::Uniform => (0..pool_samples.points.len()).collect(),
        Sampler::Poisson => {
            sample_elimination::eliminate(&pool_samples.points, num_points, mesh.surface_area())
        }
        Sampler::Fps => farthest_point::select(&pool_samples.points, num_points),
    };
    let triangle: Vec<u32> = kept.iter().map(|&index| pool_samples.triangle[index]).collect();
    SurfaceSamples {
        points: kept.iter().map(|&index| pool_samples.points[index]).collect(),
        normals: triangle.iter().map(|&triangle| normal(mesh, triangle)).collect(),
        triangle,
    }
}

/// Unit normal of a triangle; in `f64`, because edges of small triangles may be tiny.
fn normal(mesh: &Mesh, triangle: u32) -> Vec3 {
    let corners =
        mesh.triangles()[triangle as usize].map(|index| mesh.positions()[index as usize].as_dvec3());
    let [a, b, c]: [DVec3; 3] = corners;
    (b - a)
        .normalize()
        .cross((c - a).normalize())
        .normalize()
        .as_vec3()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::*;

    const SAMPLERS: [Sampler; 3] = [Sampler::Poisson, Sampler::Uniform, Sampler::Fps];

    /// A box of this size.
    fn cuboid(size: DVec3) -> Mesh {
        let corner = |index: u32| {
            size * DVec3::new(
                f64::from(index & 1),
                f64::from(index >> 1 & 1),
                f64::from(index >> 2),
            )
        };
        let positions: Vec<DVec3> = (0..8).map(corner).collect();
        let quads = [
            [0, 2, 3, 1],
            [4, 5, 7, 6],
            [0, 1, 5, 4],
            [2, 6, 7, 3],
            [0, 4, 6, 2],
            [1, 3, 7, 5],
        ];
        let triangles = quads
            .iter()
            .flat_map(|&[a, b, c, d]| [[a, b, c], [a, c, d]])
            .collect();
        Mesh::try_new(&positions, triangles, None).unwrap()
    }

    fn nearest_distances(points: &[Vec3]) -> Vec<f32> {
        let others = |index: usize| {
            points
                .iter()
                .enumerate()
                .filter(move |(other, _)| *other != index)
        };
        (0..points.len())
            .map(|index| {
                others(index)
                    .map(|(_, other)| other.distance(points[index]))
                    .fold(f32::MAX, f32::min)
            })
            .collect()
    }

    fn smallest(values: &[f32]) -> f32 {
        values.iter().copied().fold(f32::MAX, f32::min)
    }

    #[test]
    fn poisson_and_farthest_points_keep_their_distance() {
        let mesh = cuboid(DVec3::new(1.0, 2.0, 0.5));
        let nearest = |sampler| nearest_distances(&sample_surface(&mesh, sampler, 500, 7).points);
        // Distance between centers in the densest packing of 500 disks on this area.
        let ideal = (2.0 * mesh.surface_area() / (500.0 * 3.0_f64.sqrt())).sqrt() as f32;
        let [poisson, uniform, farthest] = SAMPLERS.map(|sampler| smallest(&nearest(sampler)) / ideal);
        assert!(poisson > 0.55, "poisson {poisson}");
        assert!(farthest > 0.55, "farthest {farthest}");
        assert!(uniform < 0.2, "uniform {uniform}");
    }

    #[test]
    fn area_decides_how_many_points_a_face_gets() {
        let mesh = cuboid(DVec3::new(1.0, 2.0, 0.5));
        for sampler in SAMPLERS {
            let samples = sample_surface(&mesh, sampler, 2000, 3);
            let front = samples
                .normals
                .iter()
                .filter(|normal| normal.z.abs() > 0.5)
                .count() as f64
                / 2000.0;
            let expected = 4.0 / mesh.surface_area();
            assert!(
                (front - expected).abs() < 0.04,
                "{sampler}: {front} of {expected}"
            );
        }
    }

    #[test]
    fn no_points_on_request() {
        for sampler in SAMPLERS {
            assert_eq!(
                sample_surface(&cuboid(DVec3::ONE), sampler, 0, 1),
                SurfaceSamples::default()
            );
        }
    }

    #[test]
    fn names_are_read_as_written() {
        for sampler in SAMPLERS {
            assert_eq!(sampler.to_string().parse(), Ok(sampler));
        }
        assert!("grid".parse::<Sampler>().is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn points_lie_on_their_triangles(
            size in prop::array::uniform3(1e-3..1e3_f64), num_points in 1..300_usize, seed: u64,
        ) {
            let mesh = cuboid(DVec3::from(size));
            let scale = size.iter().copied().fold(0.0, f64::max);
            for sampler in SAMPLERS {
                let samples = sample_surface(&mesh, sampler, num_points, seed);
                prop_assert_eq!(samples.points.len(), num_points);
                prop_assert_eq!(&sample_surface(&mesh, sampler, num_points, seed), &samples);
                prop_assert_ne!(&sample_surface(&mesh, sampler, num_points, !seed), &samples);
                for ((&point, normal), &triangle) in
                    samples.points.iter().zip(&samples.normals).zip(&samples.triangle)
                {
                    prop_assert!((normal.length() - 1.0).abs() < 1e-6);
                    let corners = mesh.triangles()[triangle as usize].map(|index| mesh.positions()[index as usize]);
                    let [a, b, c] = corners.map(Vec3::as_dvec3);
                    let point = point.as_dvec3();
                    prop_assert!((point - a).dot(normal.as_dvec3()).abs() < 1e-6 * scale);
                    // Inside of all three edges.
                    for (from, to) in [(a, b), (b, c), (c, a)] {
                        let inward = normal.as_dvec3().cross((to - from).normalize());
                        prop_assert!((point - from).dot(inward) > -1e-6 * scale);
                    }
                }
            }
        }
    }
}
