//! Shades the pixels of a row, with a cache of transformed triangles that neighboring pixels share.

use std::ops::Range;

use glam::{Vec2, Vec3};
use tap_shaders::{decode_octahedral, encode_octahedral};

use super::surface::{ShadingContext, SurfaceHit, ViewTriangle};

/// Direct-mapped by triangle index. Most pixels see a triangle that a neighbor in their row or the one above sees.
const CACHE_SIZE: usize = 256;

/// Shades pixels row by row.
#[derive(Debug)]
pub(crate) struct ScanlineShader<'a> {
    context: &'a ShadingContext<'a>,
    first_column: u32,
    y: f32,
    /// The most recently used triangles.
    cache: Vec<CachedTriangle>,
}

/// A triangle in view space, and the last normal computed on it.
#[derive(Debug, Clone, Copy)]
struct CachedTriangle {
    triangle: ViewTriangle,
    /// As interpolated, and after the octahedral round trip that a device's normals take.
    normal: Vec3,
    rounded_normal: Vec3,
}

impl CachedTriangle {
    fn new(triangle: ViewTriangle) -> Self {
        Self {
            triangle,
            normal: Vec3::ZERO,
            rounded_normal: Vec3::ZERO,
        }
    }
}

impl<'a> ScanlineShader<'a> {
    /// For some columns.
    pub(crate) fn new(context: &'a ShadingContext<'a>, columns: Range<u32>) -> Self {
        Self {
            context,
            first_column: columns.start,
            y: 0.0,
            cache: vec![CachedTriangle::new(ViewTriangle::NONE); CACHE_SIZE],
        }
    }

    /// Moves to row `y`.
    pub(crate) fn begin_row(&mut self, y: u32) {
        self.y = y as f32 + 0.5;
    }

    /// Shaded color of a triangle, `column` counted from the first column.
    #[inline(always)]
    pub(crate) fn shade_pixel(&mut self, index: u32, column: usize) -> [u8; 3] {
        let (context, pixel) = (self.context, self.pixel(column));
        context.shade_pixel(&self.cached(index).triangle, pixel)
    }

    /// Surface attributes of a triangle. The normal is rounded as a device returns it.
    #[inline(always)]
    pub(crate) fn surface_hit(&mut self, index: u32, column: usize) -> SurfaceHit {
        let (context, pixel) = (self.context, self.pixel(column));
        let cached = self.cached(index);
        let mut hit = context.surface_hit(&cached.triangle, pixel);
        if cached.normal != hit.point.normal {
            cached.normal = hit.point.normal;
            cached.rounded_normal = decode_octahedral(encode_octahedral(hit.point.normal));
        }
        hit.point.normal = cached.rounded_normal;
        hit
    }

    /// Does the ray through the pixel hit the triangle, not only its plane?
    #[inline(always)]
    pub(crate) fn is_hit(&mut self, index: u32, column: usize) -> bool {
        let (context, pixel) = (self.context, self.pixel(column));
        context.is_hit(&self.cached(index).triangle, pixel)
    }

    /// The center of a pixel.
    #[inline(always)]
    fn pixel(&self, column: usize) -> Vec2 {
        Vec2::new((self.first_column as usize + column) as f32 + 0.5, self.y)
    }

    #[inline(always)]
    fn cached(&mut self, index: u32) -> &mut CachedTriangle {
        let cached = &mut self.cache[index as usize % CACHE_SIZE];
        if cached.triangle.index != index {
            *cached = CachedTriangle::new(self.context.view_triangle(index));
        }
        cached
    }
}
