//! The CPU backend and wgpu on a software driver draw the same images.

use glam::{DVec3, Vec3};
use tap_render::{
    Channels, ColorImage, Framing, Light, Lighting, Mesh, Normals, Projection, RenderRecipe, Rgb, Space,
    View, relight,
};

use crate::{PROJECTIONS, centered, renderers, shape};

/// Rounding may assign a sample on an edge to the neighbor, in at most one of this many covered pixels.
const ONE_FREE_IN: usize = 250;

fn assert_same(name: &str, ours: &[View], theirs: &[View]) {
    let (mut num_covered, mut num_off) = (0, 0);
    for (ours, theirs) in ours.iter().zip(theirs) {
        let rgb = |view: &View| view.color.as_ref().unwrap().to_rgb();
        let (our_mask, their_mask) = (ours.mask.as_ref().unwrap(), theirs.mask.as_ref().unwrap());
        let (our_color, their_color) = (rgb(ours), rgb(theirs));
        num_covered += our_mask.num_covered();
        for i in 0..our_color.len() {
            let is_same_color = our_color[i]
                .iter()
                .zip(their_color[i])
                .all(|(ours, theirs)| ours.abs_diff(theirs) <= 1);
            let is_same = our_mask.covered()[i] == their_mask.covered()[i]
                && is_same_color
                && agree([&ours.depth, &theirs.depth], i, |a, b| {
                    !a.is_finite() || (a - b).abs() < 1e-3
                })
                && agree([&ours.normal, &theirs.normal], i, |a, b| {
                    Vec3::from(a).distance(Vec3::from(b)) < 1e-2
                })
                && agree([&ours.albedo, &theirs.albedo], i, |a, b| {
                    a.iter().zip(b).all(|(a, b)| a.abs_diff(b) <= 1)
                })
                && agree([&ours.part, &theirs.part], i, |a, b| a == b)
                && agree([&ours.material, &theirs.material], i, |a, b| a == b);
            num_off += usize::from(!is_same);
        }
    }
    assert!(num_covered > 100, "{name}: there is something");
    assert!(
        num_off * ONE_FREE_IN <= num_covered,
        "{name}: {num_off} of {num_covered} covered pixels differ"
    );
}

/// Are the pixels equal, or the channel absent in both?
fn agree<T: Copy>(channels: [&Option<Vec<T>>; 2], i: usize, is_same: impl Fn(T, T) -> bool) -> bool {
    match channels {
        [Some(ours), Some(theirs)] => is_same(ours[i], theirs[i]),
        [None, None] => true,
        _ => false,
    }
}

fn recipes() -> impl Iterator<Item = RenderRecipe> {
    let of = |size_px, samples, framing, projection, lighting: &str| RenderRecipe {
        size_px,
        samples,
        framing,
        projection,
        lighting: lighting.parse().unwrap(),
        channels: Channels::ALL,
        ..RenderRecipe::default()
    };
    // With one sample per pixel, white flat faces are forward-shaded if no other channel is requested.
    let painted = |projection, lighting: Lighting| RenderRecipe {
        size_px: 96,
        samples: 1,
        projection,
        lighting,
        channels: Channels {
            color: true,
            mask: true,
            ..Channels::NONE
        },
        ..RenderRecipe::default()
    };
    let preset = |name: &str| name.parse::<Lighting>().unwrap();
    let on_gray = Lighting {
        background: [90; 3],
        ..preset("mvcnn")
    };
    let bulb = Light::Point {
        at: [0.6, 1.2, 0.8],
        space: Space::Object,
        color: Rgb([0.9, 0.5, 0.2]),
    };
    let by_a_bulb = Lighting {
        lights: vec![bulb],
        background: [10, 20, 30],
        ..preset("headlight-specular")
    };
    let [perspective, parallel] = PROJECTIONS;
    [
        of(224, 4, Framing::Mvcnn, perspective, "mvcnn"),
        of(96, 1, Framing::Box, parallel, "mvcnn-2015"),
        of(101, 4, Framing::Sphere, perspective, "headlight-specular"),
        of(64, 1, Framing::Mvcnn, perspective, "three-point"),
        of(64, 4, Framing::Mvcnn, parallel, "hemisphere"),
        of(64, 4, Framing::Mvcnn, perspective, "random:3"),
        of(64, 4, Framing::Mvcnn, perspective, "normals"),
        of(64, 4, Framing::Mvcnn, perspective, "depth"),
        of(64, 1, Framing::Sphere, parallel, "depth"),
        painted(perspective, on_gray.clone()),
        painted(parallel, on_gray),
        painted(perspective, by_a_bulb.clone()),
        painted(parallel, by_a_bulb),
        painted(perspective, preset("hemisphere")),
        painted(perspective, preset("normals")),
    ]
    .into_iter()
}

fn meshes() -> [(&'static str, Mesh); 5] {
    [
        ("axes", shape::axes()),
        ("cuboid", shape::cuboid(DVec3::new(1.0, 2.0, 0.01))),
        ("torus", shape::torus(60, 0.3)),
        ("thin torus", shape::torus(100, 0.1)),
        ("bumpy", shape::bumpy(90)),
    ]
}

#[test]
fn both_backends_draw_the_same() {
    let [mut software, mut wgpu] = renderers();
    for (name, mesh) in meshes() {
        for recipe in recipes() {
            let [ours, theirs] = [&mut software, &mut wgpu]
                .map(|renderer| renderer.render(&mesh, &centered(&mesh), &recipe).unwrap());
            assert_same(&format!("{name}, {recipe:?}"), &ours, &theirs);
        }
    }
}

#[test]
fn images_do_not_depend_on_bands() {
    let [mut software, _] = renderers();
    let mesh = shape::bumpy(60);
    let mut recipe = RenderRecipe {
        size_px: 1200,
        samples: 1,
        projection: Projection::Orthographic,
        ..RenderRecipe::default()
    };
    let large = software.render(&mesh, &centered(&mesh), &recipe).unwrap();
    recipe.size_px = 400;
    let small = software.render(&mesh, &centered(&mesh), &recipe).unwrap();
    for (large, small) in large.iter().zip(&small) {
        let [large, small] = [large, small].map(|view| view.mask.as_ref().unwrap());
        // The center of each small pixel is the center of the middle one of nine large ones.
        let num_off = (0..400 * 400)
            .filter(|i| {
                small.is_covered(i % 400, i / 400) != large.is_covered(i % 400 * 3 + 1, i / 400 * 3 + 1)
            })
            .count();
        assert!(num_off < 40, "{num_off} pixels are not the same");
    }
}

/// All pixels around it see the same face or one at a small angle, at the same depth.
fn is_interior(view: &View, i: usize) -> bool {
    let size = view.size_px as usize;
    let (x, y) = (i % size, i / size);
    if !(1..size - 1).contains(&x) || !(1..size - 1).contains(&y) {
        return false;
    }
    let normal = |i: usize| Vec3::from(view.normal.as_ref().unwrap()[i]);
    let depth = |i: usize| view.depth.as_ref().unwrap()[i];
    [1, size - 1, size, size + 1].iter().all(|step| {
        let (before, after) = (i - step, i + step);
        let is_covered = |i: usize| view.mask.as_ref().unwrap().covered()[i];
        let is_bent = |other: usize| normal(other).dot(normal(i)) < 0.9999;
        let jump = depth(before) + depth(after) - 2.0 * depth(i);
        is_covered(before) && is_covered(after) && !is_bent(before) && !is_bent(after) && jump.abs() < 1e-3
    })
}

#[test]
fn relighting_matches_a_fresh_rendering() {
    let [mut software, _] = renderers();
    for (name, mesh) in meshes() {
        for normals in [Normals::Flat, Normals::Smooth] {
            for preset in Lighting::PRESETS {
                let lighting = Lighting {
                    normals,
                    ..preset.parse().unwrap()
                };
                let mut recipe = RenderRecipe {
                    size_px: 64,
                    channels: Channels::ALL,
                    lighting: lighting.clone(),
                    ..RenderRecipe::default()
                };
                // Two triangles of one plane that share a pixel are each as far away as their own part of it.
                let allowed = if preset == "depth" { 4 } else { 1 };
                let direct = software.render(&mesh, &centered(&mesh), &recipe).unwrap();
                recipe.lighting = Lighting {
                    normals,
                    material: lighting.material,
                    ..Lighting::mvcnn()
                };
                recipe.channels = Channels::GBUFFER;
                let stored = software.render(&mesh, &centered(&mesh), &recipe).unwrap();
                for (direct, stored) in direct.iter().zip(&stored) {
                    let relit = relight(stored, &lighting).unwrap().to_rgb();
                    let expected = direct.color.as_ref().unwrap().to_rgb();
                    for i in 0..relit.len() {
                        if !stored.mask.as_ref().unwrap().covered()[i] {
                            assert_eq!(relit[i], expected[i], "background");
                        } else if is_interior(stored, i) {
                            let off = relit[i]
                                .iter()
                                .zip(expected[i])
                                .map(|(a, b)| a.abs_diff(b))
                                .max()
                                .unwrap();
                            assert!(
                                off <= allowed,
                                "{name}, {preset}: {:?} is not {:?}",
                                relit[i],
                                expected[i]
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn views_without_the_channels_cannot_be_relit() {
    let [mut software, _] = renderers();
    let mesh = shape::axes();
    let views = software
        .render(&mesh, &centered(&mesh), &RenderRecipe::default())
        .unwrap();
    let error = relight(&views[0], &Lighting::mvcnn()).unwrap_err().to_string();
    assert!(error.contains("depth"), "{error}");
    assert!(
        matches!(views[0].color, Some(ColorImage::Gray(_))),
        "gray stays gray"
    );
}
