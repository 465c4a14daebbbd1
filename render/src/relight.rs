//! Another light on a picture that is already taken: from normals, depth and albedo, without the mesh.

use glam::{UVec2, Vec2, Vec3};

use crate::cpu::{Lamp, Point, albedo_of};
use crate::error::RenderError;
use crate::lighting::{BRIGHTEST_COVERED, Lighting, MaterialChoice};
use crate::recipe::Channel;
use crate::scene::view_uniform;
use crate::view::{ColorImage, Mask, View};

/// Samples of a pixel that is anti-aliased.
const NUM_SAMPLES: u32 = 4;

/// The color that a view would have had under another lighting.
///
/// It needs the channels [`Channels::GBUFFER`](crate::Channels::GBUFFER), albedo only where the lighting shows the mesh's
/// own colors. Within the object, where all samples of a pixel see one smooth piece of surface, the result is the direct
/// picture within 1/255; where a pixel sees several faces it is lit as the one that its centre sees, so edges are not
/// anti-aliased: [`relight_as_taken`] does that. Normals are taken as they are: whether they are flat or smooth was decided
/// when the view was drawn.
///
/// # Errors
///
/// [`RenderError::Unlit`] names a missing channel; or the lighting's own error if it is not valid.
pub fn relight(view: &View, lighting: &Lighting) -> Result<ColorImage, RenderError> {
    let colors = lit(view, lighting)?;
    Ok(ColorImage::new(lighting.color_kind(), colors.into_iter()))
}

/// As [`relight()`], with edges as smooth as in the picture that was taken.
///
/// A pixel at an edge mixes what its four samples saw, and its color says how: under the light of then, `taken`, it is so
/// and so much of what its centre sees, and the rest of a neighbor or of the background. The shares and the neighbor that
/// explain the color best are mixed again under the new light. Pixels within a surface explain themselves.
///
/// # Errors
///
/// As [`relight()`]; color is a needed channel, too.
pub fn relight_as_taken(
    view: &View,
    taken: &Lighting,
    lighting: &Lighting,
) -> Result<ColorImage, RenderError> {
    let missing = |channel| RenderError::Unlit { channel };
    let color = view
        .color
        .as_ref()
        .ok_or_else(|| missing(Channel::Color))?
        .to_rgb();
    let mask = view.mask.as_ref().ok_or_else(|| missing(Channel::Mask))?;
    let (then, now) = (lit(view, taken)?, lit(view, lighting)?);
    let relit = (0..color.len()).map(|pixel| {
        if !mask.covered()[pixel] {
            return now[pixel];
        }
        let Mixture { other, num_own } = Mixture::explaining(color[pixel], pixel, mask, &then);
        mixed(now[pixel], now[other], num_own)
    });
    Ok(ColorImage::new(lighting.color_kind(), relit))
}

/// What the samples of a covered pixel saw: so many of them what its centre sees, the others what another pixel shows.
struct Mixture {
    other: usize,
    num_own: u32,
}

impl Mixture {
    /// The one that comes nearest to a color, given what all pixels show of their centres.
    fn explaining(color: [u8; 3], pixel: usize, mask: &Mask, shown: &[[u8; 3]]) -> Self {
        let distance = |mixture: [u8; 3]| -> u32 {
            let parts = mixture.iter().zip(color);
            parts.map(|(a, b)| u32::from(a.abs_diff(b))).sum()
        };
        let mut best = Self {
            other: pixel,
            num_own: NUM_SAMPLES,
        };
        let mut smallest = distance(shown[pixel]);
        // What rounding does is no edge.
        if smallest <= 3 {
            return best;
        }
        let size = mask.size_px() as usize;
        let (x, y) = (pixel % size, pixel / size);
        for y in y.saturating_sub(1)..(y + 2).min(size) {
            for x in x.saturating_sub(1)..(x + 2).min(size) {
                let other = y * size + x;
                for num_own in 1..NUM_SAMPLES {
                    let off = distance(mixed(shown[pixel], shown[other], num_own));
                    if off < smallest {
                        smallest = off;
                        best = Self { other, num_own };
                    }
                }
            }
        }
        best
    }
}

/// Two colors, the first of `num_own` samples, rounded as a pixel's samples are.
fn mixed(own: [u8; 3], other: [u8; 3], num_own: u32) -> [u8; 3] {
    if num_own == NUM_SAMPLES {
        return own;
    }
    [0, 1, 2].map(|part| {
        let sum = num_own * u32::from(own[part]) + (NUM_SAMPLES - num_own) * u32::from(other[part]);
        let mean = (2 * sum + NUM_SAMPLES) / (2 * NUM_SAMPLES);
        (mean as u8).min(BRIGHTEST_COVERED)
    })
}

/// What each pixel's centre shows.
fn lit(view: &View, lighting: &Lighting) -> Result<Vec<[u8; 3]>, RenderError> {
    lighting.validate()?;
    let missing = |channel| RenderError::Unlit { channel };
    let mask = view.mask.as_ref().ok_or_else(|| missing(Channel::Mask))?;
    let depth = view.depth.as_ref().ok_or_else(|| missing(Channel::Depth))?;
    let normal = view.normal.as_ref().ok_or_else(|| missing(Channel::Normal))?;
    let albedo = match lighting.material {
        MaterialChoice::White => None,
        MaterialChoice::Own => Some(view.albedo.as_ref().ok_or_else(|| missing(Channel::Albedo))?),
    };
    let uniform = view_uniform(&view.matrices, lighting, true, view.size_px, UVec2::ZERO);
    let lamp = Lamp::new(&uniform);
    let size = view.size_px as usize;
    let color = |(index, is_covered): (usize, &bool)| {
        if !is_covered {
            return lighting.background;
        }
        let pixel = Vec2::new((index % size) as f32, (index / size) as f32) + 0.5;
        lamp.shown(&Point {
            position: lamp.position(pixel, depth[index]),
            normal: Vec3::from(normal[index]),
            albedo: albedo.map_or(Vec3::ONE, |albedo| albedo_of(albedo[index])),
            direction: lamp.ray_direction(pixel),
        })
    };
    Ok(mask.covered().iter().enumerate().map(color).collect())
}
