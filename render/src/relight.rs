//! Another light on a picture that is already taken: from normals, depth and albedo, without the mesh.

use glam::{UVec2, Vec2, Vec3};

use crate::error::RenderError;
use crate::lighting::Lighting;
use crate::recipe::Channel;
use crate::shade::{Lamp, Point, albedo_of, view_uniform};
use crate::view::{ColorImage, View};

/// The color that a view would have had under another lighting.
///
/// It needs the channels [`Channels::GBUFFER`](crate::Channels::GBUFFER). Within the object, where all samples of a pixel
/// see one smooth piece of surface, the result is the direct picture within 1/255; where a pixel sees several faces it
/// is lit as the nearest, so edges are not anti-aliased. Normals and albedo are taken as they are: whether they are flat
/// or smooth, white or the mesh's own, was decided when the view was drawn.
///
/// # Errors
///
/// [`RenderError::Unlit`] names a missing channel; or the lighting's own error if it is not valid.
pub fn relight(view: &View, lighting: &Lighting) -> Result<ColorImage, RenderError> {
    lighting.validate()?;
    let missing = |channel| RenderError::Unlit { channel };
    let mask = view.mask.as_ref().ok_or_else(|| missing(Channel::Mask))?;
    let depth = view.depth.as_ref().ok_or_else(|| missing(Channel::Depth))?;
    let normal = view.normal.as_ref().ok_or_else(|| missing(Channel::Normal))?;
    let albedo = view.albedo.as_ref().ok_or_else(|| missing(Channel::Albedo))?;
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
            albedo: albedo_of(albedo[index]),
            direction: lamp.ray_direction(pixel),
        })
    };
    // A view whose albedo has colors stays in color, whatever the lighting's own material.
    let is_white = albedo
        .iter()
        .zip(mask.covered())
        .all(|(albedo, is_covered)| !is_covered || *albedo == [u8::MAX; 3]);
    let kind = if is_white {
        lighting.color_kind()
    } else {
        crate::view::ColorKind::Rgb
    };
    Ok(ColorImage::new(
        kind,
        mask.covered().iter().enumerate().map(color),
    ))
}
