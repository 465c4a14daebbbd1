//! Texture filtering as in `surface.wgsl`.

use glam::{IVec2, UVec2, Vec2, Vec4};
use tap_shaders::{WRAP_MIRROR, WRAP_REPEAT};

use super::rgba;

/// A texture with mip levels in the scene's texture words.
pub(super) struct MipmappedTexture<'a> {
    words: &'a [u32],
    first: usize,
    pub(super) size: UVec2,
    num_levels: u32,
    wrap: [u32; 2],
}

impl<'a> MipmappedTexture<'a> {
    pub(super) fn new(words: &'a [u32], header: u32) -> Self {
        let header = header as usize;
        Self {
            words,
            first: words[header] as usize,
            size: UVec2::new(words[header + 1], words[header + 2]),
            num_levels: words[header + 3],
            wrap: [words[header + 4], words[header + 5]],
        }
    }

    /// `footprint_squared`: squared length of the longer of the pixel's two steps in the texture, in texels of mip
    /// level 0.
    pub(super) fn trilinear(&self, uv: Vec2, footprint_squared: f32) -> Vec4 {
        let level = (0.5 * footprint_squared.max(1.0).log2()).clamp(0.0, (self.num_levels - 1) as f32);
        let finer_level = level as u32;
        let fraction = level - finer_level as f32;
        let color = self.bilinear(finer_level, uv);
        if fraction == 0.0 {
            return color;
        }
        color.lerp(self.bilinear(finer_level + 1, uv), fraction)
    }

    fn bilinear(&self, level: u32, uv: Vec2) -> Vec4 {
        let (mut first, mut size) = (self.first, self.size);
        for _ in 0..level {
            first += (size.x * size.y) as usize;
            size = (size / 2).max(UVec2::ONE);
        }
        let position = uv * size.as_vec2() - 0.5;
        let base = position.floor();
        let fraction = position - base;
        let at = base.as_ivec2();
        let texel = |by: IVec2| self.texel(first, size.as_ivec2(), at.wrapping_add(by));
        let above = texel(IVec2::ZERO).lerp(texel(IVec2::X), fraction.x);
        let below = texel(IVec2::Y).lerp(texel(IVec2::ONE), fraction.x);
        above.lerp(below, fraction.y)
    }

    fn texel(&self, first: usize, size: IVec2, at: IVec2) -> Vec4 {
        let x = wrap_index(at.x, size.x, self.wrap[0]);
        let y = wrap_index(at.y, size.y, self.wrap[1]);
        rgba(self.words[first + (y * size.x + x) as usize])
    }
}

fn wrap_index(index: i32, size: i32, wrap: u32) -> i32 {
    match wrap {
        WRAP_REPEAT => index.rem_euclid(size),
        WRAP_MIRROR => {
            let within = index.rem_euclid(2 * size);
            within.min(2 * size - 1 - within)
        }
        _ => index.clamp(0, size - 1),
    }
}

#[cfg(test)]
mod tests {
    use tap_shaders::WRAP_CLAMP;

    use super::*;

    #[test]
    fn wrap_modes_extend_textures() {
        let at = |wrap| (-4..6).map(|i| wrap_index(i, 3, wrap)).collect::<Vec<_>>();
        assert_eq!(at(WRAP_REPEAT), [2, 0, 1, 2, 0, 1, 2, 0, 1, 2]);
        assert_eq!(at(WRAP_MIRROR), [2, 2, 1, 0, 0, 1, 2, 2, 1, 0]);
        assert_eq!(at(WRAP_CLAMP), [0, 0, 0, 0, 0, 1, 2, 2, 2, 2]);
    }
}
