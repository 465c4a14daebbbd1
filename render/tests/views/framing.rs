//! How objects fill their images.

use glam::DVec3;
use tap_render::{Framing, Mask, RenderRecipe, View};

use crate::{PROJECTIONS, centered, mask_box, renderers, shape};

/// Covered pixels, and those enclosed by covered ones.
fn filled_pixels(mask: &Mask) -> usize {
    let size = mask.size_px() as usize;
    let mut is_outside = vec![false; size * size];
    let border = (0..size).flat_map(|i| [(i, 0), (i, size - 1), (0, i), (size - 1, i)]);
    let mut open: Vec<(usize, usize)> = border.collect();
    while let Some((x, y)) = open.pop() {
        if x >= size || y >= size || is_outside[y * size + x] || mask.is_covered(x as u32, y as u32) {
            continue;
        }
        is_outside[y * size + x] = true;
        open.extend([
            (x + 1, y),
            (x.wrapping_sub(1), y),
            (x, y + 1),
            (x, y.wrapping_sub(1)),
        ]);
    }
    is_outside.iter().filter(|outside| !**outside).count()
}

#[test]
fn mvcnn_framing_obeys_both_limits_and_touches_one() {
    for mut renderer in renderers() {
        let meshes = [
            ("cube", shape::cuboid(DVec3::ONE)),
            ("rod", shape::cuboid(DVec3::new(0.1, 3.0, 0.1))),
            ("plate", shape::cuboid(DVec3::new(1.0, 0.05, 1.2))),
            ("ball", shape::sphere(40)),
            ("ring", shape::torus(60, 0.05)),
            ("axes", shape::axes()),
        ];
        let (mut num_by_area, mut num_by_side) = (0, 0);
        for (name, mesh) in &meshes {
            for projection in PROJECTIONS {
                // One sample per pixel measures areas without bias.
                let recipe = RenderRecipe {
                    projection,
                    size_px: 512,
                    samples: 1,
                    ..RenderRecipe::default()
                };
                for view in renderer.render(mesh, &centered(mesh), &recipe).unwrap() {
                    let mask = view.mask.unwrap();
                    let [left, top, right, bottom] = mask_box(&mask);
                    let size = recipe.size_px as f32;
                    let side = (right - left).max(bottom - top) as f32 + 1.0;
                    let side_of_limit = side / (0.9 * size);
                    let area_of_limit = filled_pixels(&mask) as f32 / (0.3 * size * size);
                    let pixel = 1.0 / (0.9 * size);
                    let at = format!("{name}, {projection}: side {side_of_limit}, area {area_of_limit}");
                    assert!(side_of_limit <= 1.0 + pixel && area_of_limit <= 1.01, "{at}");
                    let (by_area, by_side) = (area_of_limit >= 0.99, side_of_limit >= 0.99 - pixel);
                    assert!(by_area || by_side, "{at}");
                    num_by_area += usize::from(by_area);
                    num_by_side += usize::from(by_side);
                    let off_center = [(left + right + 1) as f32 - size, (top + bottom + 1) as f32 - size];
                    assert!(
                        off_center.iter().all(|off| off.abs() <= 2.0),
                        "{at}, not centered"
                    );
                }
            }
        }
        assert!(
            num_by_area > 20 && num_by_side > 20,
            "{num_by_area} by area, {num_by_side} by side"
        );
    }
}

#[test]
fn box_framing_fills_200_of_224_pixels() {
    for mut renderer in renderers() {
        let mesh = shape::cuboid(DVec3::new(1.0, 0.7, 2.0));
        for projection in PROJECTIONS {
            let recipe = RenderRecipe {
                framing: Framing::Box,
                projection,
                ..RenderRecipe::default()
            };
            for view in renderer.render(&mesh, &centered(&mesh), &recipe).unwrap() {
                let [left, top, right, bottom] = mask_box(view.mask.as_ref().unwrap());
                let side = (right - left).max(bottom - top) + 1;
                assert!((200..=201).contains(&side), "{side} pixels");
            }
        }
    }
}

#[test]
fn sphere_framing_has_one_scale() {
    for mut renderer in renderers() {
        let ball = shape::sphere(60);
        for projection in PROJECTIONS {
            let recipe = RenderRecipe {
                framing: Framing::Sphere,
                projection,
                ..RenderRecipe::default()
            };
            let of_ball = renderer.render(&ball, &shape::as_is(&ball), &recipe).unwrap();
            for view in &of_ball {
                let [left, top, right, bottom] = mask_box(view.mask.as_ref().unwrap());
                assert!(
                    (222..=224).contains(&(right - left + 1)),
                    "the ball is {left} to {right}"
                );
                assert!(
                    (222..=224).contains(&(bottom - top + 1)),
                    "the ball is {top} to {bottom}"
                );
            }
            let small = shape::cuboid(DVec3::splat(0.3));
            let of_small = renderer.render(&small, &shape::as_is(&small), &recipe).unwrap();
            for (small, ball) in of_small.iter().zip(&of_ball) {
                let focal = |view: &View| view.matrices.clip_from_view.x_axis.x;
                assert_eq!(
                    focal(small).to_bits(),
                    focal(ball).to_bits(),
                    "the scale depends on the object"
                );
                assert_eq!(small.matrices.view_from_object, ball.matrices.view_from_object);
            }
        }
    }
}
