//! Poses and matrices against pixels: axes, own points, own corners.

use glam::{DVec3, Vec2};
use tap_render::{Framing, Mask, RenderRecipe};

use crate::{PROJECTIONS, centered, mask_box, renderers, shape};

/// Center of the covered pixels, relative to the image center, +y up, as fractions of its side.
fn center_of_mask(mask: &Mask) -> Vec2 {
    let size = mask.size_px();
    let covered = (0..size * size)
        .map(|i| (i % size, i / size))
        .filter(|(x, y)| mask.is_covered(*x, *y));
    let sum: Vec2 = covered
        .map(|(x, y)| Vec2::new(x as f32 + 0.5, y as f32 + 0.5))
        .sum();
    let middle = sum / mask.num_covered() as f32 / size as f32 - 0.5;
    Vec2::new(middle.x, -middle.y)
}

#[test]
fn the_arms_of_the_axes_point_where_the_poses_say() {
    for mut renderer in renderers() {
        // Signs of (right, up) of each arm in views 001, 002, 004, 007, 010; 0 means neither.
        let stated = [
            (
                "x",
                [
                    (0, [1_i8, 0]),
                    (1, [1, -1]),
                    (3, [0, -1]),
                    (6, [-1, 0]),
                    (9, [0, 1]),
                ],
            ),
            (
                "y",
                [(0, [0, 1]), (1, [0, 1]), (3, [0, 1]), (6, [0, 1]), (9, [0, 1])],
            ),
            (
                "z",
                [
                    (0, [0, -1]),
                    (1, [-1, -1]),
                    (3, [-1, 0]),
                    (6, [0, 1]),
                    (9, [1, 0]),
                ],
            ),
        ];
        let axes = shape::axes();
        for projection in PROJECTIONS {
            let recipe = RenderRecipe {
                framing: Framing::Sphere,
                projection,
                size_px: 64,
                ..RenderRecipe::default()
            };
            for (arm, quadrants) in stated {
                let mesh = shape::part(&axes, arm);
                let views = renderer.render(&mesh, &shape::as_is(&mesh), &recipe).unwrap();
                for (view_idx, expected) in quadrants {
                    let middle = center_of_mask(views[view_idx].mask.as_ref().unwrap());
                    for (found, expected) in middle.to_array().into_iter().zip(expected) {
                        let sign = if found.abs() < 0.02 {
                            0
                        } else {
                            found.signum() as i8
                        };
                        assert_eq!(
                            sign, expected,
                            "arm {arm} in view {view_idx} is at {middle}, {projection}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn points_of_the_surface_lie_in_the_mask() {
    for mut renderer in renderers() {
        for mesh in [shape::torus(24, 0.4), shape::bumpy(40)] {
            for framing in [Framing::Mvcnn, Framing::Box, Framing::Sphere] {
                for projection in PROJECTIONS {
                    let recipe = RenderRecipe {
                        framing,
                        projection,
                        ..RenderRecipe::default()
                    };
                    let object_from_mesh = centered(&mesh);
                    let local = object_from_mesh.local_matrix(&mesh);
                    for view in renderer.render(&mesh, &object_from_mesh, &recipe).unwrap() {
                        let mask = view.mask.unwrap();
                        let is_in = |x: i64, y: i64| {
                            u32::try_from(x)
                                .is_ok_and(|x| u32::try_from(y).is_ok_and(|y| mask.is_covered(x, y)))
                        };
                        let (mut num_in, mut num_points) = (0, 0);
                        for [a, b, c] in mesh.corners() {
                            let point = local.transform_point3((a + b + c) / 3.0);
                            let pixel = view.matrices.pixel_of(point, recipe.size_px).floor();
                            let (x, y) = (pixel.x as i64, pixel.y as i64);
                            num_points += 1;
                            num_in += usize::from(is_in(x, y));
                            let near = (-1..=1).any(|dx| (-1..=1).any(|dy| is_in(x + dx, y + dy)));
                            assert!(near, "a point of the surface is at {pixel}, far from the mask");
                        }
                        assert!(
                            num_in * 1000 >= num_points * 995,
                            "{num_in} of {num_points} points are in the mask"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn corners_and_mask_have_the_same_box() {
    for mut renderer in renderers() {
        for mesh in [
            shape::axes(),
            shape::cuboid(DVec3::new(1.0, 3.0, 0.2)),
            shape::torus(24, 0.2),
        ] {
            for projection in PROJECTIONS {
                let recipe = RenderRecipe {
                    projection,
                    ..RenderRecipe::default()
                };
                let object_from_mesh = centered(&mesh);
                let local = object_from_mesh.local_matrix(&mesh);
                for view in renderer.render(&mesh, &object_from_mesh, &recipe).unwrap() {
                    let pixels = mesh.positions().iter().map(|position| {
                        view.matrices
                            .pixel_of(local.transform_point3(*position), recipe.size_px)
                    });
                    let (min, max) = pixels
                        .fold((Vec2::INFINITY, Vec2::NEG_INFINITY), |(min, max), pixel| {
                            (min.min(pixel), max.max(pixel))
                        });
                    let [left, top, right, bottom] =
                        mask_box(view.mask.as_ref().unwrap()).map(|edge| edge as f32);
                    let off = [
                        min.x - left,
                        min.y - top,
                        right + 1.0 - max.x,
                        bottom + 1.0 - max.y,
                    ];
                    // The corners' box is at most one pixel within the mask's, and never beyond it by as much as one.
                    assert!(
                        off.iter().all(|off| (-1.0..=1.0).contains(off)),
                        "{off:?} {:?}",
                        view.pose
                    );
                }
            }
        }
    }
}
