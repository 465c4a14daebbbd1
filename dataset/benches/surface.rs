//! Time to sample a mesh: Poisson-disk 1024 of 4096, farthest-point 1024 of 8192, uniform 8192.

use std::f64::consts::TAU;

use divan::{Bencher, counter::ItemsCount};
use glam::DVec3;
use tap_dataset::{Sampler, sample_surface};
use tap_render::Mesh;

fn main() {
    divan::main();
}

/// A wavy torus of 5,000 triangles: curved, closed, unevenly tessellated.
fn torus() -> Mesh {
    const AROUND: u32 = 100;
    const ALONG: u32 = 25;
    let place = |index: u32| {
        let (around, along) = (
            f64::from(index / ALONG) / f64::from(AROUND),
            f64::from(index % ALONG) / f64::from(ALONG),
        );
        let radius = 0.3 + 0.05 * (7.0 * TAU * around).sin();
        let ring = 1.0 + radius * (TAU * along).cos();
        DVec3::new(
            ring * (TAU * around).cos(),
            radius * (TAU * along).sin(),
            ring * (TAU * around).sin(),
        )
    };
    let positions: Vec<DVec3> = (0..AROUND * ALONG).map(place).collect();
    let at = |around: u32, along: u32| around % AROUND * ALONG + along % ALONG;
    let triangles = (0..AROUND * ALONG)
        .flat_map(|index| {
            let (i, j) = (index / ALONG, index % ALONG);
            let [a, b, c, d] = [at(i, j), at(i, j + 1), at(i + 1, j + 1), at(i + 1, j)];
            [[a, b, c], [a, c, d]]
        })
        .collect();
    Mesh::try_new(&positions, triangles, None).expect("a torus is a mesh")
}

#[divan::bench(args = [Sampler::Poisson, Sampler::Fps])]
fn keep_1024(bencher: Bencher, sampler: Sampler) {
    let mesh = torus();
    bencher
        .counter(ItemsCount::new(1024_usize))
        .bench(|| sample_surface(&mesh, sampler, 1024, 1));
}

#[divan::bench]
fn uniform_8192(bencher: Bencher) {
    let mesh = torus();
    bencher
        .counter(ItemsCount::new(8192_usize))
        .bench(|| sample_surface(&mesh, Sampler::Uniform, 8192, 1));
}
