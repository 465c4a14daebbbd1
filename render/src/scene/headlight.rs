//! `Headlight`: the lighting that both backends have a fast path for, a single gray headlight and gray ambient light.

#![allow(
    clippy::inline_always,
    reason = "compiled with its callers for the instructions that those are compiled for"
)]

use tap_shaders::{
    HEMISPHERE, LIGHT_HEADLIGHT, OWN_MATERIAL, SHOW_DEPTH, SHOW_NORMALS, SMOOTH_NORMALS, SPECULAR,
    ViewUniform,
};
use wide::{f32x4, i32x4};

use crate::lighting::BRIGHTEST_COVERED;

/// A gray headlight and gray ambient light.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Headlight {
    ambient: f32,
    diffuse: f32,
}

impl Headlight {
    /// `None` if the view is lit or shaded in any other way.
    pub(crate) fn from_uniform(view: &ViewUniform) -> Option<Self> {
        let [light] = view.lights[..view.num_lights as usize] else {
            return None;
        };
        let other = OWN_MATERIAL | SMOOTH_NORMALS | SHOW_NORMALS | SHOW_DEPTH | SPECULAR | HEMISPHERE;
        let is_headlight_only = light.kind == LIGHT_HEADLIGHT
            && view.flags & other == 0
            && [view.ambient, light.color].iter().all(|[red, green, blue]| {
                red.to_bits() == green.to_bits() && green.to_bits() == blue.to_bits()
            });
        is_headlight_only.then_some(Self {
            ambient: view.ambient[0],
            diffuse: view.diffuse * light.color[0],
        })
    }

    /// Pixel values for the cosines between face normals and rays, of either sign.
    #[inline(always)]
    pub(crate) fn shade(self, cosines: f32x4) -> i32x4 {
        let light = f32x4::splat(self.ambient) + f32x4::splat(self.diffuse) * cosines.abs();
        let value = light.fast_min(f32x4::ONE) * f32x4::splat(255.0) + f32x4::HALF;
        value
            .fast_min(f32x4::splat(f32::from(BRIGHTEST_COVERED)))
            .fast_trunc_int()
    }
}
