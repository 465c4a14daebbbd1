//! Coplanar duplicates: the first face in the file is visible, in every view.

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
