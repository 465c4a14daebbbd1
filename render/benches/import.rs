//! Import speed: bytes per second for each format, with the same torus of 200,000 triangles in each; for OBJ also the
//! `tobj` crate, in the same run.

use std::fmt::Write as _;

use divan::{Bencher, counter::BytesCount};
use tap_render::import::{ImportOptions, MeshFormat, NoAssets, import_object};

const NUM_RINGS: u32 = 500;
const NUM_SEGMENTS: u32 = 200;

fn main() {
    divan::main();
}

/// A torus: positions and triangles, two per quad.
fn torus() -> (Vec<[f32; 3]>, Vec<[u32; 3]>) {
    let angle = |index: u32, count: u32| (std::f32::consts::TAU * index as f32 / count as f32).sin_cos();
    let (mut positions, mut triangles) = (Vec::new(), Vec::new());
    for ring in 0..NUM_RINGS {
        let (sin, cos) = angle(ring, NUM_RINGS);
        for segment in 0..NUM_SEGMENTS {
            let (up, out) = angle(segment, NUM_SEGMENTS);
            let radius = 1.0 + 0.3 * out;
            positions.push([radius * cos, 0.3 * up, radius * sin]);
            let at = |ring: u32, segment: u32| ring % NUM_RINGS * NUM_SEGMENTS + segment % NUM_SEGMENTS;
            let [a, b, c, d] = [
                at(ring, segment),
                at(ring, segment + 1),
                at(ring + 1, segment + 1),
                at(ring + 1, segment),
            ];
            triangles.extend([[a, b, c], [a, c, d]]);
        }
    }
    (positions, triangles)
}

fn obj(with_coordinates: bool) -> Vec<u8> {
    let (positions, triangles) = torus();
    let mut text = String::new();
    for [x, y, z] in &positions {
        let _ = writeln!(text, "v {x:.6} {y:.6} {z:.6}");
    }
    if with_coordinates {
        for [x, y, _] in &positions {
            let _ = writeln!(text, "vt {:.6} {:.6}", x.abs(), y.abs());
        }
        for [x, y, z] in &positions {
            let _ = writeln!(text, "vn {x:.4} {y:.4} {z:.4}");
        }
    }
    for triangle in triangles {
        let [a, b, c] = triangle.map(|index| index + 1);
        let _ = if with_coordinates {
            writeln!(text, "f {a}/{a}/{a} {b}/{b}/{b} {c}/{c}/{c}")
        } else {
            writeln!(text, "f {a} {b} {c}")
        };
    }
    text.into_bytes()
}

fn off() -> Vec<u8> {
    let (positions, triangles) = torus();
    let mut text = format!("OFF\n{} {} 0\n", positions.len(), triangles.len());
    for [x, y, z] in positions {
        let _ = writeln!(text, "{x:.6} {y:.6} {z:.6}");
    }
    for [a, b, c] in triangles {
        let _ = writeln!(text, "3 {a} {b} {c}");
    }
    text.into_bytes()
}

fn ply(is_binary: bool) -> Vec<u8> {
    let (positions, triangles) = torus();
    let mut bytes = format!(
        "ply\nformat {} 1.0\nelement vertex {}\nproperty float x\nproperty float y\nproperty float z\n\
         element face {}\nproperty list uchar int vertex_indices\nend_header\n",
        if is_binary {
            "binary_little_endian"
        } else {
            "ascii"
        },
        positions.len(),
        triangles.len(),
    )
    .into_bytes();
    if is_binary {
        bytes.extend(
            positions
                .as_flattened()
                .iter()
                .flat_map(|number| number.to_le_bytes()),
        );
        for triangle in triangles {
            bytes.push(3);
            bytes.extend(triangle.iter().flat_map(|index| index.to_le_bytes()));
        }
        return bytes;
    }
    let text = off();
    let body = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(1);
    bytes.extend(&text[body.map_or(0, |(at, _)| at + 1)..]);
    bytes
}

fn stl(is_binary: bool) -> Vec<u8> {
    let (positions, triangles) = torus();
    let mut text = "solid torus\n".to_owned();
    let mut bytes = vec![0; 80];
    bytes.extend((triangles.len() as u32).to_le_bytes());
    for triangle in triangles {
        text += "facet normal 0 0 0\nouter loop\n";
        bytes.extend([0; 12]);
        for [x, y, z] in triangle.map(|index| positions[index as usize]) {
            let _ = writeln!(text, "vertex {x:e} {y:e} {z:e}");
            bytes.extend([x, y, z].iter().flat_map(|number| number.to_le_bytes()));
        }
        text += "endloop\nendfacet\n";
        bytes.extend([0; 2]);
    }
    if is_binary {
        bytes
    } else {
        (text + "endsolid\n").into_bytes()
    }
}

fn xyz() -> Vec<u8> {
    let (positions, _) = torus();
    let mut text = String::new();
    for [x, y, z] in positions {
        let _ = writeln!(text, "{x:.6} {y:.6} {z:.6}");
    }
    text.into_bytes()
}

fn read(bencher: Bencher<'_, '_>, format: MeshFormat, bytes: &[u8], appearance: bool) {
    let options = ImportOptions {
        appearance,
        ..ImportOptions::default()
    };
    bencher
        .counter(BytesCount::of_slice(bytes))
        .bench_local(|| import_object(format, bytes, &NoAssets, &options));
}

#[divan::bench(args = [false, true])]
fn obj_ours(bencher: Bencher<'_, '_>, with_coordinates: bool) {
    read(bencher, MeshFormat::Obj, &obj(with_coordinates), false);
}

#[divan::bench]
fn obj_ours_with_looks(bencher: Bencher<'_, '_>) {
    read(bencher, MeshFormat::Obj, &obj(true), true);
}

#[divan::bench(args = [false, true])]
fn obj_tobj(bencher: Bencher<'_, '_>, with_coordinates: bool) {
    let bytes = obj(with_coordinates);
    bencher.counter(BytesCount::of_slice(&bytes)).bench_local(|| {
        tobj::load_obj_buf(&mut bytes.as_slice(), &tobj::GPU_LOAD_OPTIONS, |_| {
            Err(tobj::LoadError::OpenFileFailed)
        })
    });
}

#[divan::bench]
fn off_ours(bencher: Bencher<'_, '_>) {
    read(bencher, MeshFormat::Off, &off(), false);
}

#[divan::bench(args = [false, true])]
fn ply_ours(bencher: Bencher<'_, '_>, is_binary: bool) {
    read(bencher, MeshFormat::Ply, &ply(is_binary), false);
}

#[divan::bench(args = [false, true])]
fn stl_ours(bencher: Bencher<'_, '_>, is_binary: bool) {
    read(bencher, MeshFormat::Stl, &stl(is_binary), false);
}

/// Reads points and makes surfels.
#[divan::bench]
fn xyz_ours(bencher: Bencher<'_, '_>) {
    read(bencher, MeshFormat::Xyz, &xyz(), false);
}
