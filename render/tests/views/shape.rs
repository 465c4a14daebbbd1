//! Meshes that tests and benchmarks generate.

#![allow(dead_code, reason = "each test uses some of them")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::f64::consts::{PI, TAU};

use glam::{DVec3, Vec3};
use tap_render::import::{MeshFormat, NoAssets, import_mesh};
use tap_render::{Mesh, ObjectFromMesh, UpAxis};

/// The three arms of `assets/axes.obj`.
pub(crate) fn axes() -> Mesh {
    import_mesh(
        MeshFormat::Obj,
        include_bytes!("../../../assets/axes.obj"),
        &NoAssets,
    )
    .unwrap()
}

/// One of the parts of a mesh, in its place.
pub(crate) fn part(mesh: &Mesh, name: &str) -> Mesh {
    let part_idx = mesh.part_names().iter().position(|part| part == name).unwrap() as u16;
    let triangles = mesh.triangles().iter().zip(mesh.part_of_triangle());
    let triangles = triangles
        .filter(|(_, part)| **part == part_idx)
        .map(|(triangle, _)| *triangle)
        .collect();
    let positions: Vec<DVec3> = mesh
        .positions()
        .iter()
        .map(|position| position.as_dvec3() + mesh.origin())
        .collect();
    Mesh::try_new(&positions, triangles, None).unwrap()
}

/// The identity transform.
pub(crate) fn as_is(mesh: &Mesh) -> ObjectFromMesh {
    let origin = mesh.origin().as_vec3();
    ObjectFromMesh::from_points(mesh, &[Vec3::X - origin, -Vec3::X - origin], UpAxis::Y)
}

/// A box around the origin.
pub(crate) fn cuboid(sides: DVec3) -> Mesh {
    let corner = |i: u8| {
        let side = |bit: u8| if i >> bit & 1 == 1 { 0.5 } else { -0.5 };
        DVec3::new(side(0), side(1), side(2)) * sides
    };
    let corners: Vec<DVec3> = (0..8).map(corner).collect();
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
    Mesh::try_new(&corners, triangles, None).unwrap()
}

/// A grid of `u` by `v` quads whose corners are `at(u, v)`, both from 0 to 1.
pub(crate) fn grid(u: u32, v: u32, at: impl Fn(f64, f64) -> DVec3) -> Mesh {
    let positions: Vec<DVec3> = (0..=v)
        .flat_map(|j| (0..=u).map(move |i| (f64::from(i) / f64::from(u), f64::from(j) / f64::from(v))))
        .map(|(s, t)| at(s, t))
        .collect();
    let quads = (0..u * v).flat_map(|i| {
        let a = i / u * (u + 1) + i % u;
        let (b, c, d) = (a + 1, a + u + 1, a + u + 2);
        [[a, b, c], [b, d, c]]
    });
    Mesh::try_new(&positions, quads.collect(), None).unwrap()
}

/// A square with a side of 2 around the origin, with this unit normal.
pub(crate) fn square(normal: Vec3) -> Mesh {
    let (across, along) = normal.as_dvec3().normalize().any_orthonormal_pair();
    grid(1, 1, |s, t| across * (2.0 * s - 1.0) + along * (2.0 * t - 1.0))
}

/// The unit sphere; its poles are on y.
pub(crate) fn sphere(n: u32) -> Mesh {
    grid(2 * n, n, |s, t| {
        let ((sin, cos), (rise, run)) = ((TAU * s).sin_cos(), (PI * t).sin_cos());
        DVec3::new(rise * sin, run, rise * cos)
    })
}

/// A torus around y.
pub(crate) fn torus(n: u32, thickness: f64) -> Mesh {
    grid(2 * n, n, |s, t| {
        let ((sin, cos), (up, out)) = ((TAU * s).sin_cos(), (TAU * t).sin_cos());
        let radius = 1.0 + thickness * out;
        DVec3::new(radius * sin, thickness * up, radius * cos)
    })
}

/// A bumpy ball of about `4 n^2` triangles, like a scan.
pub(crate) fn bumpy(n: u32) -> Mesh {
    grid(2 * n, n, |s, t| {
        let ((sin, cos), (rise, run)) = ((TAU * s).sin_cos(), (PI * t).sin_cos());
        let bumps = 1.0 + 0.2 * (TAU * 3.0 * s).sin() * rise * rise + 0.1 * (PI * 9.0 * t).cos() * rise;
        DVec3::new(1.4 * rise * sin, 0.8 * run, rise * cos) * bumps
    })
}
