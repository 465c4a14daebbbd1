//! Properties of views, on both backends: the CPU, and wgpu on a software driver.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking and says what it skips"
)]

mod backend_parity;
mod channel;
mod coplanar;
mod framing;
mod golden;
mod light;
mod no_driver;
mod pose;
mod queue;
mod ray_caster;
mod shape;
mod supersampling;

use tap_render::{
    AdapterChoice, BackendChoice, Mask, Mesh, ObjectFromMesh, Projection, Renderer, RendererOptions, UpAxis,
};

pub(crate) const PROJECTIONS: [Projection; 2] = [
    Projection::Perspective {
        distance_diagonals: 4.6,
    },
    Projection::Orthographic,
];

/// One of each backend.
pub(crate) fn renderers() -> [Renderer; 2] {
    let software = Renderer::try_new(&RendererOptions {
        backend: BackendChoice::Cpu,
        ..RendererOptions::default()
    });
    [software.unwrap(), renderer()]
}

/// Of the wgpu backend.
pub(crate) fn renderer() -> Renderer {
    renderer_with(3)
}

pub(crate) fn renderer_with(max_in_flight: usize) -> Renderer {
    Renderer::try_new(&RendererOptions {
        backend: BackendChoice::Wgpu,
        adapter: AdapterChoice::Software,
        max_in_flight,
    })
    .unwrap()
}

pub(crate) fn centered(mesh: &Mesh) -> ObjectFromMesh {
    ObjectFromMesh::from_bounding_box(mesh, UpAxis::Y)
}

/// First and last covered column and row.
pub(crate) fn mask_box(mask: &Mask) -> [u32; 4] {
    let size = mask.size_px();
    let column = |x: &u32| (0..size).any(|y| mask.is_covered(*x, y));
    let row = |y: &u32| (0..size).any(|x| mask.is_covered(x, *y));
    let ends = |is_in: &dyn Fn(&u32) -> bool| {
        [
            (0..size).find(|i| is_in(i)).unwrap(),
            (0..size).rev().find(|i| is_in(i)).unwrap(),
        ]
    };
    let ([left, right], [top, bottom]) = (ends(&column), ends(&row));
    [left, top, right, bottom]
}
