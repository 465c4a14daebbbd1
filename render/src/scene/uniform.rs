//! The uniforms of a view, which shaders and the CPU backend read.

use glam::UVec2;
use tap_shaders::{
    HEMISPHERE, LightUniform, MAX_LIGHTS, ORTHOGRAPHIC, OWN_MATERIAL, SHOW_DEPTH, SHOW_NORMALS,
    SMOOTH_NORMALS, SPECULAR, TWO_SIDED, ViewUniform,
};

use crate::camera::{Rays, ViewMatrices};
use crate::lighting::{Lighting, MaterialChoice, Rgb, Show};

/// `has_appearance` is `false` for a mesh that is white whatever the lighting says.
pub(crate) fn view_uniform(
    matrices: &ViewMatrices,
    lighting: &Lighting,
    has_appearance: bool,
    size_px: u32,
    origin_px: UVec2,
) -> ViewUniform {
    let Rays {
        is_orthographic,
        scale,
        offset,
    } = Rays::new(matrices, size_px);
    let flags = [
        (is_orthographic, ORTHOGRAPHIC),
        (
            has_appearance && lighting.material == MaterialChoice::Own,
            OWN_MATERIAL,
        ),
        (lighting.normals.is_smooth(), SMOOTH_NORMALS),
        (lighting.two_sided, TWO_SIDED),
        (lighting.show == Show::Normals, SHOW_NORMALS),
        (lighting.show == Show::Depth, SHOW_DEPTH),
        (lighting.specular > 0.0, SPECULAR),
        ([lighting.sky, lighting.ground] != [Rgb::BLACK; 2], HEMISPHERE),
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
