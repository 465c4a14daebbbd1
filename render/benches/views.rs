//! Views per second, for light, medium and heavy meshes, including all costs per mesh.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

#[path = "../tests/views/shape.rs"]
mod shape;

use std::collections::VecDeque;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use glam::DVec3;
use tap_render::{
    BackendKind, Mesh, ObjectFromMesh, RenderJob, RenderRecipe, Renderer, RendererOptions, RigSpec, UpAxis,
};

/// Sides of the generated mesh; it has about 4 times the square of it in triangles: 5.8k, 69k, 496k.
const SIDES: [u32; 3] = [38, 131, 352];
const SAMPLES: [u32; 2] = [1, 4];

fn main() {
    divan::main();
}

fn cases() -> impl Iterator<Item = (u32, u32)> {
    SIDES
        .into_iter()
        .flat_map(|side| SAMPLES.map(|samples| (side, samples)))
}

fn setting(side: u32, samples: u32) -> (Mesh, ObjectFromMesh, RenderRecipe) {
    let mesh = shape::bumpy(side);
    let object_from_mesh = ObjectFromMesh::from_bounding_box(&mesh, UpAxis::Y);
    (
        mesh,
        object_from_mesh,
        RenderRecipe {
            samples,
            ..RenderRecipe::default()
        },
    )
}

fn num_views() -> ItemsCount {
    ItemsCount::new(RigSpec::default().num_views())
}

/// A mesh and its normalization from arrays, as from Python: checks, rounding, measures.
#[divan::bench(args = SIDES, sample_count = 20)]
fn from_arrays(bencher: Bencher<'_, '_>, side: u32) {
    let mesh = shape::bumpy(side);
    let positions: Vec<DVec3> = mesh
        .positions()
        .iter()
        .map(|position| position.as_dvec3())
        .collect();
    bencher
        .counter(ItemsCount::new(mesh.triangles().len()))
        .with_inputs(|| mesh.triangles().to_vec())
        .bench_local_values(|triangles| {
            let mesh = Mesh::try_new(black_box(&positions), triangles, None).unwrap();
            ObjectFromMesh::from_surface(&mesh, UpAxis::Y)
        });
}

/// One mesh after the other, nothing in flight: the latency of an object.
#[divan::bench(args = cases(), sample_count = 10)]
fn alone(bencher: Bencher<'_, '_>, (side, samples): (u32, u32)) {
    let (mesh, object_from_mesh, recipe) = setting(side, samples);
    let mut renderer = Renderer::try_new(&RendererOptions::default()).unwrap();
    bencher.counter(num_views()).bench_local(|| {
        renderer
            .render(black_box(&mesh), &object_from_mesh, &recipe)
            .unwrap()
    });
}

/// The device always has the next mesh: the throughput of one feeding thread.
#[divan::bench(args = cases(), sample_count = 10)]
fn in_flight(bencher: Bencher<'_, '_>, (side, samples): (u32, u32)) {
    let (mesh, object_from_mesh, recipe) = setting(side, samples);
    let mut renderer = Renderer::try_new(&RendererOptions::default()).unwrap();
    let mut pending = VecDeque::new();
    bencher.counter(num_views()).bench_local(|| {
        let framed = RenderJob::try_new(
            black_box(&mesh),
            &object_from_mesh,
            &recipe,
            renderer.backend_kind(),
        )
        .unwrap();
        pending.push_back(renderer.submit(&framed).unwrap());
        if pending.len() == renderer.max_in_flight() {
            renderer.finish(pending.pop_front().unwrap()).unwrap();
        }
    });
}

/// The CPU's work before the device: framing, flat normals, culling.
#[divan::bench(args = cases(), sample_count = 10)]
fn framing(bencher: Bencher<'_, '_>, (side, samples): (u32, u32)) {
    let (mesh, object_from_mesh, recipe) = setting(side, samples);
    bencher.counter(num_views()).bench_local(|| {
        RenderJob::try_new(
            black_box(&mesh),
            &object_from_mesh,
            &recipe,
            BackendKind::SoftwareDriver,
        )
        .unwrap()
    });
}

/// The device alone, with and without the CPU's culling.
#[divan::bench(args = cases().flat_map(|(side, samples)| [(side, samples, false), (side, samples, true)]), sample_count = 10)]
fn drawing(bencher: Bencher<'_, '_>, (side, samples, is_culled): (u32, u32, bool)) {
    let (mesh, object_from_mesh, recipe) = setting(side, samples);
    let mut renderer = Renderer::try_new(&RendererOptions::default()).unwrap();
    let culling = if is_culled {
        BackendKind::SoftwareDriver
    } else {
        BackendKind::Gpu
    };
    let framed = RenderJob::try_new(&mesh, &object_from_mesh, &recipe, culling).unwrap();
    bencher.counter(num_views()).bench_local(|| {
        let pending = renderer.submit(black_box(&framed)).unwrap();
        renderer.finish(pending).unwrap()
    });
}
