//! Deferred relighting: shades a view again from its G-buffer (normals, depth, albedo), without the mesh.

use glam::{UVec2, Vec2, Vec3};

use crate::cpu::{LightEvaluator, SurfacePoint, albedo_of};
use crate::lighting::{BRIGHTEST_COVERED, Lighting, LightingError, MaterialChoice};
use crate::recipe::Channel;
use crate::scene::view_uniform;
use crate::view::{ColorImage, Mask, MissingChannel, View};

/// Samples per pixel of an anti-aliased view.
const NUM_SAMPLES: u32 = 4;

/// Why a view cannot be relit.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RelightError {
    /// The view lacks a channel.
    #[error(transparent)]
    MissingChannel(#[from] MissingChannel),
    /// The lighting is not valid.
    #[error(transparent)]
    Lighting(#[from] LightingError),
}

/// The color image of a view under another lighting.
///
/// It needs the channels [`Channels::GBUFFER`](crate::Channels::GBUFFER), albedo only if the lighting uses the mesh's
/// own materials. Where all samples of a pixel see one smooth surface the result matches a fresh rendering within
/// 1/255. A pixel that sees several faces is shaded as the one at its center, so edges are aliased; see
/// [`relight_antialiased`]. Normals stay flat or smooth as they were rendered.
///
/// # Errors
///
/// A [`RelightError`].
pub fn relight(view: &View, lighting: &Lighting) -> Result<ColorImage, RelightError> {
    let colors = shade_centers(view, lighting)?;
    Ok(ColorImage::new(lighting.color_kind(), colors.into_iter()))
}

/// As [`relight()`], with the anti-aliasing of the original image.
///
/// A pixel at an edge is a mix of up to four samples. Under the original lighting, `captured`, the mix of the pixel's
/// center with a neighbor or the background that best explains its color is found, and then the same mix is taken under
/// the new lighting. Pixels within a surface are their own center.
///
/// # Errors
///
/// As [`relight()`]; the color channel is required, too.
pub fn relight_antialiased(
    view: &View,
    captured: &Lighting,
    lighting: &Lighting,
) -> Result<ColorImage, RelightError> {
    let missing = |channel| MissingChannel { channel };
    let color = view
        .color
        .as_ref()
        .ok_or_else(|| missing(Channel::Color))?
        .to_rgb();
    let mask = view.mask.as_ref().ok_or_else(|| missing(Channel::Mask))?;
    let (before, after) = (shade_centers(view, captured)?, shade_centers(view, lighting)?);
    let relit = (0..color.len()).map(|pixel| {
        if !mask.covered()[pixel] {
            return after[pixel];
        }
        let SampleMix { other, num_own } = SampleMix::fit(color[pixel], pixel, mask, &before);
        mix(after[pixel], after[other], num_own)
    });
    Ok(ColorImage::new(lighting.color_kind(), relit))
}

/// The samples of a covered pixel: `num_own` see what its center sees, the rest what the center of `other` sees.
struct SampleMix {
    other: usize,
    num_own: u32,
}

impl SampleMix {
    /// The mix that comes nearest to a color, given the color at each pixel's center.
    fn fit(color: [u8; 3], pixel: usize, mask: &Mask, shade_to_bytes: &[[u8; 3]]) -> Self {
        let distance = |mix_: [u8; 3]| -> u32 {
            let parts = mix_.iter().zip(color);
            parts.map(|(a, b)| u32::from(a.abs_diff(b))).sum()
        };
        let mut best = Self {
            other: pixel,
            num_own: NUM_SAMPLES,
        };
        let mut smallest = distance(shade_to_bytes[pixel]);
        // Within rounding error this is no edge.
        if smallest <= 3 {
            return best;
        }
        let size = mask.size_px() as usize;
        let (x, y) = (pixel % size, pixel / size);
        for y in y.saturating_sub(1)..(y + 2).min(size) {
            for x in x.saturating_sub(1)..(x + 2).min(size) {
                let other = y * size + x;
                for num_own in 1..NUM_SAMPLES {
                    let error = distance(mix(shade_to_bytes[pixel], shade_to_bytes[other], num_own));
                    if error < smallest {
                        smallest = error;
                        best = Self { other, num_own };
                    }
                }
            }
        }
        best
    }
}

/// Mean of two colors, the first with `num_own` samples, rounded as a pixel's samples are.
fn mix(own: [u8; 3], other: [u8; 3], num_own: u32) -> [u8; 3] {
    if num_own == NUM_SAMPLES {
        return own;
    }
    [0, 1, 2].map(|part| {
        let sum = num_own * u32::from(own[part]) + (NUM_SAMPLES - num_own) * u32::from(other[part]);
        let mean = (2 * sum + NUM_SAMPLES) / (2 * NUM_SAMPLES);
        (mean as u8).min(BRIGHTEST_COVERED)
    })
}

/// Color at each pixel's center.
fn shade_centers(view: &View, lighting: &Lighting) -> Result<Vec<[u8; 3]>, RelightError> {
    lighting.validate()?;
    let missing = |channel| MissingChannel { channel };
    let mask = view.mask.as_ref().ok_or_else(|| missing(Channel::Mask))?;
    let depth = view.depth.as_ref().ok_or_else(|| missing(Channel::Depth))?;
    let normal = view.normal.as_ref().ok_or_else(|| missing(Channel::Normal))?;
    let albedo = match lighting.material {
        MaterialChoice::White => None,
        MaterialChoice::Own => Some(view.albedo.as_ref().ok_or_else(|| missing(Channel::Albedo))?),
    };
    let uniform = view_uniform(&view.matrices, lighting, true, view.size_px, UVec2::ZERO);
    let lights = LightEvaluator::new(&uniform);
    let size = view.size_px as usize;
    let color = |(index, is_covered): (usize, &bool)| {
        if !is_covered {
            return lighting.background;
        }
        let pixel = Vec2::new((index % size) as f32, (index / size) as f32) + 0.5;
        lights.shade_to_bytes(&SurfacePoint {
            position: lights.position(pixel, depth[index]),
            normal: Vec3::from(normal[index]),
            albedo: albedo.map_or(Vec3::ONE, |albedo| albedo_of(albedo[index])),
            direction: lights.ray_direction(pixel),
        })
    };
    Ok(mask.covered().iter().enumerate().map(color).collect())
}
