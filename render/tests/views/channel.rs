//! Depth and normals, and that channels are independent.

use glam::{Vec2, Vec3};
use tap_render::{Channels, Framing, Lighting, Normals, Projection, RenderRecipe, Renderer};

use crate::{PROJECTIONS, centered, renderers, shape};

#[test]
fn depth_and_normals_are_those_of_the_sphere() {
    for mut renderer in renderers() {
        let mesh = shape::sphere(60);
        for projection in PROJECTIONS {
            for samples in [1, 4] {
                let recipe = RenderRecipe {
                    framing: Framing::Sphere,
                    projection,
                    samples,
                    channels: Channels::ALL,
                    size_px: 96,
                    ..RenderRecipe::default()
                };
                let views = renderer.render(&mesh, &shape::as_is(&mesh), &recipe).unwrap();
                for view in &views {
                    let (depth, normal) = (view.depth.as_ref().unwrap(), view.normal.as_ref().unwrap());
                    let center = view.matrices.view_from_object.transform_point3(Vec3::ZERO);
                    let clip = view.matrices.clip_from_view;
                    let size = recipe.size_px as usize;
                    for (i, covered) in view.mask.as_ref().unwrap().covered().iter().enumerate() {
                        if !covered {
                            assert!(
                                depth[i] == f32::INFINITY && Vec3::from(normal[i]) == Vec3::ZERO,
                                "nothing is there"
                            );
                            continue;
                        }
                        let ndc = Vec2::new(
                            (i % size) as f32 + 0.5 - size as f32 / 2.0,
                            size as f32 / 2.0 - ((i / size) as f32 + 0.5),
                        ) / (size as f32 / 2.0);
                        let w = if projection == Projection::Orthographic {
                            1.0
                        } else {
                            depth[i]
                        };
                        let at = Vec3::new(ndc.x * w / clip.x_axis.x, ndc.y * w / clip.y_axis.y, -depth[i])
                            - center;
                        // At the rim a sample's position within its pixel matters much.
                        if at.truncate().length() < 0.9 {
                            assert!((at.length() - 1.0).abs() < 0.02, "{at} is not on the sphere");
                            let normal = Vec3::from(normal[i]);
                            assert!((normal.length() - 1.0).abs() < 1e-5, "{normal} is no unit");
                            assert!(normal.dot(at.normalize()) > 0.998, "{normal} at {at}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn the_lighting_depth_shows_the_channel_depth() {
    for mut renderer in renderers() {
        for projection in PROJECTIONS {
            let recipe = RenderRecipe {
                framing: Framing::Sphere,
                projection,
                samples: 1,
                lighting: Lighting::depth(),
                channels: Channels::ALL,
                size_px: 64,
                ..RenderRecipe::default()
            };
            let mesh = shape::sphere(60);
            let views = renderer.render(&mesh, &shape::as_is(&mesh), &recipe).unwrap();
            for view in &views {
                let origin = view.matrices.view_from_object.transform_point3(Vec3::ZERO);
                let (depth, mask) = (view.depth.as_ref().unwrap(), view.mask.as_ref().unwrap());
                let color = view.color.as_ref().unwrap().to_rgb();
                for (i, &covered) in mask.covered().iter().enumerate() {
                    let nearness = 0.5 - 0.5 * (depth[i] + origin.z);
                    let expected = if covered {
                        (255.0 * nearness).min(254.0)
                    } else {
                        0.0
                    };
                    assert!(
                        color[i]
                            .iter()
                            .all(|&part| (f32::from(part) - expected).abs() <= 1.0),
                        "{:?} and not {expected}",
                        color[i]
                    );
                }
            }
        }
    }
}

#[test]
fn channels_do_not_change_each_other() {
    // On a device, color alone at one sample per pixel takes another code path.
    for (samples, lighting) in [
        (4, "mvcnn"),
        (1, "mvcnn"),
        (1, "headlight-specular"),
        (1, "hemisphere"),
        (1, "normals"),
        (1, "depth"),
    ] {
        let recipe = RenderRecipe {
            size_px: 63,
            samples,
            lighting: Lighting {
                normals: Normals::Flat,
                ..lighting.parse().unwrap()
            },
            ..RenderRecipe::default()
        };
        for renderer in renderers() {
            assert_independent(renderer, recipe.clone());
        }
    }
}

fn assert_independent(mut renderer: Renderer, mut recipe: RenderRecipe) {
    for mesh in [shape::axes(), shape::bumpy(20)] {
        recipe.channels = Channels::ALL;
        let all = renderer.render(&mesh, &centered(&mesh), &recipe).unwrap();
        for channels in [
            "color",
            "mask",
            "depth",
            "normal",
            "albedo",
            "part",
            "material",
            "color,depth",
        ] {
            recipe.channels = channels.parse().unwrap();
            for (view, all) in renderer
                .render(&mesh, &centered(&mesh), &recipe)
                .unwrap()
                .into_iter()
                .zip(&all)
            {
                assert!(
                    view.color.is_none() || view.color == all.color,
                    "color of {channels}"
                );
                assert!(view.mask.is_none() || view.mask == all.mask, "mask of {channels}");
                assert!(
                    view.depth.is_none() || view.depth == all.depth,
                    "depth of {channels}"
                );
                assert!(
                    view.normal.is_none() || view.normal == all.normal,
                    "normal of {channels}"
                );
                assert!(
                    view.albedo.is_none() || view.albedo == all.albedo,
                    "albedo of {channels}"
                );
                assert!(view.part.is_none() || view.part == all.part, "part of {channels}");
                assert!(
                    view.material.is_none() || view.material == all.material,
                    "material of {channels}"
                );
                let found = Channels {
                    color: view.color.is_some(),
                    mask: view.mask.is_some(),
                    depth: view.depth.is_some(),
                    normal: view.normal.is_some(),
                    albedo: view.albedo.is_some(),
                    part: view.part.is_some(),
                    material: view.material.is_some(),
                };
                assert_eq!(found, recipe.channels, "what was asked for: {channels}");
            }
        }
    }
}
