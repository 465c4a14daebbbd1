//! Coplanar duplicates: the first face in the file is visible, in every view.

use glam::{DVec3, Vec2, Vec3};
use tap_render::import::{AssetError, AssetResolver, ImportOptions, MeshFormat, import_object};
use tap_render::{Channels, Lighting, Mesh, RenderRecipe, View};

use crate::{centered, renderers};

/// A hexagon in a plane that no axis is in, with the six decimals of a file; its corners 1, 2, 4 and 5 are a rectangle.
const CORNERS: &str = "v 0.123457 0.654321 0.333333\nv 1.050504 0.757326 -0.027185\nv 1.521576 1.136677 0.183015\n\
                       v 1.251010 1.433624 0.681630\nv 0.323963 1.330618 1.042148\nv -0.147109 0.951268 0.831948\n";

/// The materials beside a mesh.
struct Materials;

impl AssetResolver for Materials {
    fn read(&self, _: &str) -> Result<Vec<u8>, AssetError> {
        Ok(b"newmtl red\nKd 1 0 0\nnewmtl blue\nKd 0 0 1\n".to_vec())
    }
}

fn mesh(faces: &str) -> Mesh {
    let text = format!("mtllib two.mtl\n{CORNERS}{faces}");
    let options = ImportOptions {
        appearance: true,
        ..ImportOptions::default()
    };
    import_object(MeshFormat::Obj, text.as_bytes(), &Materials, &options).unwrap()
}

/// The colors of the pixels whose centers are covered.
fn colors(view: &View) -> impl Iterator<Item = [u8; 3]> {
    let seen = view
        .albedo
        .as_ref()
        .unwrap()
        .iter()
        .zip(view.depth.as_ref().unwrap());
    seen.filter(|(_, depth)| depth.is_finite())
        .map(|(color, _)| *color)
}

#[test]
fn the_first_coplanar_face_is_visible_for_any_triangulation() {
    let recipe = RenderRecipe {
        size_px: 64,
        channels: Channels::ALL,
        lighting: Lighting::textured(),
        ..RenderRecipe::default()
    };
    let (red, blue) = ([255, 0, 0], [0, 0, 255]);
    for mut renderer in renderers() {
        for [first, second] in [
            // The same diagonal, the other, and both with opposite winding.
            ["1 2 4 5", "1 2 4 5"],
            ["1 2 4 5", "2 4 5 1"],
            ["1 2 4 5", "5 4 2 1"],
            ["1 2 4 5", "4 2 1 5"],
            ["1 2 3 4 5 6", "3 4 5 6 1 2"],
            ["1 2 3 4 5 6", "5 4 3 2 1 6"],
        ] {
            for (name, color) in [("red", red), ("blue", blue)] {
                let other = if name == "red" { "blue" } else { "red" };
                let mesh = mesh(&format!("usemtl {name}\nf {first}\nusemtl {other}\nf {second}\n"));
                let alone = self::mesh(&format!("usemtl {name}\nf {first}\n"));
                let views = renderer.render(&mesh, &centered(&mesh), &recipe).unwrap();
                let expected = renderer.render(&alone, &centered(&alone), &recipe).unwrap();
                for (view_idx, (view, expected)) in views.iter().zip(&expected).enumerate() {
                    assert!(colors(view).count() > 20, "there is something");
                    assert!(
                        colors(view).all(|seen| seen == color),
                        "{first} under {second}: view {view_idx} shows the second"
                    );
                    assert_eq!(view.mask, expected.mask, "nothing is missing");
                }
            }
        }
    }
}

/// Is a point within a convex polygon, by more than `margin` pixels? A negative margin reaches outside.
fn is_within(polygon: &[Vec2], point: Vec2, margin: f32) -> bool {
    let edges = || polygon.iter().zip(polygon.iter().cycle().skip(1));
    let area: f32 = edges().map(|(a, b)| a.perp_dot(*b)).sum();
    edges().all(|(a, b)| {
        let edge = *b - *a;
        area.signum() * edge.perp_dot(point - *a) > margin * edge.length()
    })
}

#[test]
fn a_decal_has_its_outline_in_every_view() {
    // A wall in the plane of the hexagon's corners 1 and 2, and a decal on it whose corners are the wall's nowhere.
    let corner = |index: usize| {
        let line = CORNERS.lines().nth(index).unwrap();
        let numbers: Vec<f64> = line
            .split(' ')
            .skip(1)
            .map(|word| word.parse().unwrap())
            .collect();
        DVec3::new(numbers[0], numbers[1], numbers[2])
    };
    let (a, b, d) = (corner(0), corner(1), corner(4));
    let normal = (b - a).cross(d - a).normalize();
    for (samples, lift) in [(4, 0.0), (1, 0.0), (4, 1e-6), (4, -1e-6)] {
        let recipe = RenderRecipe {
            rig: "turntable:12:30".parse().unwrap(),
            size_px: 64,
            samples,
            channels: Channels::ALL,
            lighting: Lighting::textured(),
            ..RenderRecipe::default()
        };
        let decal = [[0.15, 0.2], [0.8, 0.3], [0.7, 0.85], [0.2, 0.6]];
        let vertices: Vec<String> = decal
            .iter()
            .map(|[u, v]| {
                let DVec3 { x, y, z } = a + *u * (b - a) + *v * (d - a) + lift * normal;
                format!("v {x:.9} {y:.9} {z:.9}\n")
            })
            .collect();
        let (wall, decal) = ("usemtl blue\nf 1 2 4 5\n", "usemtl red\nf 7 8 9\nf 10 7 9\n");
        let meshes = [[decal, wall], [wall, decal]].map(|faces| mesh(&(vertices.concat() + &faces.concat())));
        for mut renderer in renderers() {
            let [decal_first, wall_first] = meshes.each_ref().map(|mesh| {
                let object_from_mesh = centered(mesh);
                let to_object = object_from_mesh.local_matrix(mesh);
                let corners: Vec<Vec3> = mesh
                    .positions()
                    .iter()
                    .map(|p| to_object.transform_point3(*p))
                    .collect();
                (
                    renderer.render(mesh, &object_from_mesh, &recipe).unwrap(),
                    corners,
                )
            });
            let is_red = |view: &View, pixel: usize| view.albedo.as_ref().unwrap()[pixel] == [255, 0, 0];
            for (view_idx, view) in wall_first.0.iter().enumerate() {
                let mut pixels = 0..64 * 64;
                assert!(
                    !pixels.any(|pixel| is_red(view, pixel)),
                    "view {view_idx} shows a decal behind the wall"
                );
            }
            let mut num_red = 0;
            for (view_idx, view) in decal_first.0.iter().enumerate() {
                // The wall's four corners come first in the file.
                let polygon: Vec<Vec2> = decal_first.1[4..]
                    .iter()
                    .map(|corner| {
                        let ndc = view.matrices.clip_from_object().project_point3(*corner);
                        Vec2::new(ndc.x + 1.0, 1.0 - ndc.y) * 32.0
                    })
                    .collect();
                for pixel in 0..64 * 64 {
                    let center = Vec2::new((pixel % 64) as f32, (pixel / 64) as f32) + 0.5;
                    if is_within(&polygon, center, 1.0) {
                        assert!(
                            is_red(view, pixel),
                            "view {view_idx} lacks {center} of the decal, lifted by {lift}"
                        );
                        num_red += 1;
                    } else if !is_within(&polygon, center, -1.0) {
                        assert!(
                            !is_red(view, pixel),
                            "view {view_idx} has {center} of no decal, lifted by {lift}"
                        );
                    }
                }
            }
            assert!(
                num_red > 1000,
                "the decal is large enough to see: {num_red} pixels"
            );
        }
    }
}
