//! What a triangle looks like where a pixel's ray meets it, on the CPU: the twin of `scene.wgsl` and `light.wgsl`, word
//! for word and number for number in `f32`.

use glam::UVec2;
use tap_shaders::{
    GLOSSY, LightUniform, MAX_LIGHTS, OWN_MATERIAL, PARALLEL, REVERSE_LIT, SHOW_NORMALS, SKY, SMOOTH,
    ViewUniform,
};

use crate::camera::{Rays, ViewMatrices};
use crate::lighting::{Lighting, MaterialChoice, Normals, Rgb, Show};

/// A view as all shaders read it. A mesh without a surface of its own is white, whatever the lighting says.
pub(crate) fn view_uniform(
    matrices: &ViewMatrices,
    lighting: &Lighting,
    has_own_surface: bool,
    size_px: u32,
    origin_px: UVec2,
) -> ViewUniform {
    let Rays {
        is_parallel,
        scale,
        offset,
    } = Rays::new(matrices, size_px);
    let flags = [
        (is_parallel, PARALLEL),
        (
            has_own_surface && lighting.material == MaterialChoice::Own,
            OWN_MATERIAL,
        ),
        (lighting.normals == Normals::Smooth, SMOOTH),
        (lighting.reverse_lit, REVERSE_LIT),
        (lighting.show == Show::Normals, SHOW_NORMALS),
        (lighting.specular > 0.0, GLOSSY),
        ([lighting.sky, lighting.ground] != [Rgb::BLACK; 2], SKY),
    ];
    let mut lights = [LightUniform {
        vector: [0.0; 3],
        kind: 0,
        color: [0.0; 3],
        pad: 0.0,
    }; MAX_LIGHTS];
    for (uniform, light) in lights.iter_mut().zip(&lighting.lights) {
        *uniform = light.uniform(&matrices.view_from_object);
    }
    ViewUniform {
        clip_from_object: matrices.clip_from_object().to_cols_array_2d(),
        view_from_object: matrices.view_from_object.to_cols_array_2d(),
        ray_scale: scale.into(),
        ray_offset: offset.into(),
        origin_px: origin_px.into(),
        size_px,
        flags: flags
            .into_iter()
            .filter_map(|(is_set, flag)| is_set.then_some(flag))
            .sum(),
        ambient: lighting.ambient.as_f32(),
        diffuse: lighting.diffuse as f32,
        sky: lighting.sky.as_f32(),
        specular: lighting.specular as f32,
        ground: lighting.ground.as_f32(),
        shininess: lighting.shininess as f32,
        background: packed(lighting.background),
        num_lights: lighting.lights.len() as u32,
        pad: [0; 2],
        lights,
    }
}

fn packed([red, green, blue]: [u8; 3]) -> u32 {
    u32::from_le_bytes([red, green, blue, 0])
}
