//! Values of covered pixels.

use glam::Vec3;
use tap_render::{BACKGROUND, Channels, Framing, Projection, RenderRecipe, Rgb, Rig};

use crate::{PROJECTIONS, centered, renderers, shape};

#[test]
fn light_is_0_3_and_0_6_of_the_cosine_on_both_sides() {
    for mut renderer in renderers() {
        let recipe = RenderRecipe {
            projection: Projection::Orthographic,
            size_px: 32,
            ..RenderRecipe::default()
        };
        for (view_idx, pose) in Rig::mvcnn12().poses().iter().enumerate() {
            let towards_eye = pose.eye_direction();
            let across = towards_eye.any_orthonormal_vector();
            for (angle_deg, expected) in [(0.0_f32, 229.5), (60.0, 153.0), (75.0, 116.1)] {
                let (sin, cos) = angle_deg.to_radians().sin_cos();
                let normal = towards_eye * cos + across * sin;
                for normal in [normal, -normal] {
                    let mesh = shape::square(normal);
                    let views = renderer.render(&mesh, &centered(&mesh), &recipe).unwrap();
                    let gray = views[view_idx].color.as_ref().unwrap().gray().unwrap();
                    let value = gray[gray.len() / 2 + recipe.size_px as usize / 2];
                    let off = (f32::from(value) - expected).abs();
                    assert!(off <= 1.0, "{angle_deg} degrees: {value} is not {expected}");
                }
            }
        }
    }
}

#[test]
fn the_light_of_a_perspective_view_is_at_the_eye() {
    for mut renderer in renderers() {
        let projection = Projection::Perspective {
            distance_diagonals: 1.0,
        };
        let recipe = RenderRecipe {
            projection,
            channels: Channels::ALL,
            ..RenderRecipe::default()
        };
        let mesh = shape::square(Rig::mvcnn12().poses()[0].eye_direction());
        let views = renderer.render(&mesh, &centered(&mesh), &recipe).unwrap();
        let view = &views[0];
        let size = recipe.size_px as usize;
        let focal = view.matrices.clip_from_view.x_axis.x;
        let mut darkest = 255;
        for (i, value) in view.color.as_ref().unwrap().gray().unwrap().iter().enumerate() {
            let middle = |pixel: usize| (pixel as f32 + 0.5) / size as f32 * 2.0 - 1.0;
            let ray = Vec3::new(middle(i % size) / focal, -middle(i / size) / focal, -1.0).normalize();
            let inside = (1..4)
                .all(|d| view.mask.as_ref().unwrap().covered()[i.saturating_sub(d * (size + 1))])
                && view
                    .mask
                    .as_ref()
                    .unwrap()
                    .covered()
                    .get(i + 3 * (size + 1))
                    .is_some_and(|covered| *covered);
            if inside {
                let expected = 255.0 * (0.3 + 0.6 * -ray.z);
                assert!(
                    (f32::from(*value) - expected).abs() <= 1.0,
                    "{value} is not {expected}"
                );
                darkest = darkest.min(*value);
            }
        }
        assert!(
            darkest < 220,
            "the corners are farther from the light's axis: {darkest}"
        );
    }
}

#[test]
fn covered_pixels_are_never_white_and_others_always_are() {
    for mut renderer in renderers() {
        let mut recipe = RenderRecipe::default();
        recipe.lighting.ambient = Rgb::WHITE;
        let mesh = shape::axes();
        for samples in [1, 4] {
            recipe.samples = samples;
            for view in renderer.render(&mesh, &centered(&mesh), &recipe).unwrap() {
                let (gray, mask) = (
                    view.color.as_ref().unwrap().gray().unwrap(),
                    view.mask.as_ref().unwrap(),
                );
                assert!(mask.coverage() > 0.05, "there is something");
                for (value, covered) in gray.iter().zip(mask.covered()) {
                    assert_eq!(
                        *value,
                        if *covered { 254 } else { BACKGROUND },
                        "a white object on white"
                    );
                }
            }
        }
    }
}

/// A single headlight takes fast paths; a trace of specular light disables them.
#[test]
fn headlight_fast_paths_match_general_lighting() {
    let mesh = shape::axes();
    for mut renderer in renderers() {
        let mut draw = |recipe: &RenderRecipe| {
            let views = renderer.render(&mesh, &centered(&mesh), recipe).unwrap();
            let colors = views.into_iter().flat_map(|view| view.color.unwrap().to_rgb());
            colors.collect::<Vec<_>>()
        };
        for (size_px, samples, projection, background) in [
            (37, 1, PROJECTIONS[0], [BACKGROUND; 3]),
            (37, 1, PROJECTIONS[1], [BACKGROUND; 3]),
            (37, 1, PROJECTIONS[1], [10, 200, 90]),
            (38, 4, PROJECTIONS[0], [10, 200, 90]),
            (39, 4, PROJECTIONS[1], [BACKGROUND; 3]),
        ] {
            let mut recipe = RenderRecipe {
                size_px,
                samples,
                projection,
                framing: Framing::Box,
                ..RenderRecipe::default()
            };
            recipe.lighting.background = background;
            let alone = draw(&recipe);
            recipe.lighting.specular = f64::from(f32::MIN_POSITIVE);
            for (alone, glossy) in alone.iter().zip(draw(&recipe)) {
                assert!(
                    alone.iter().zip(glossy).all(|(a, b)| a.abs_diff(b) <= 1),
                    "{size_px} px: {alone:?} is not {glossy:?}"
                );
            }
        }
    }
}

#[test]
fn edges_are_anti_aliased() {
    for mut renderer in renderers() {
        let mesh = shape::square(Rig::mvcnn12().poses()[0].eye_direction());
        let mut num_blended = |samples| {
            let projection = Projection::Orthographic;
            let recipe = RenderRecipe {
                projection,
                samples,
                size_px: 64,
                ..RenderRecipe::default()
            };
            let views = renderer.render(&mesh, &centered(&mesh), &recipe).unwrap();
            let gray = views[0].color.as_ref().unwrap().gray().unwrap();
            gray.iter()
                .filter(|value| ![229, 230, BACKGROUND].contains(value))
                .count()
        };
        assert!(num_blended(4) > 20, "four samples blend with the background");
        assert_eq!(num_blended(1), 0, "one sample does not");
    }
}
