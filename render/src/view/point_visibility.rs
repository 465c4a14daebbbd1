//! Which points of an object a view sees, and where.

use glam::{Vec2, Vec3};

use crate::error::RenderError;
use crate::recipe::Channel;
use crate::view::View;

/// How far behind the surface that a pixel sees a point may lie and still be seen, in pixels' widths at its distance: a
/// surface that is seen at a slant falls by about as much from one pixel to the next.
const SLACK_PX: f32 = 2.0;

/// A point of object space in a view.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PointInView {
    /// Where it appears, in pixels from the top left corner.
    pub place_px: Vec2,
    /// Whether it is seen, not hidden behind something nearer nor outside of the picture.
    pub is_visible: bool,
}

/// Where points of object space appear in a view, and whether they are seen: each is held against the depth of its pixel
/// and of those around it, the farthest of which counts.
///
/// # Errors
///
/// [`RenderError::Unlit`] if the view has no depth channel.
pub fn point_visibility(view: &View, points: &[Vec3]) -> Result<Vec<PointInView>, RenderError> {
    let depth = view.depth.as_ref().ok_or(RenderError::Unlit {
        channel: Channel::Depth,
    })?;
    let size = view.size_px as i32;
    let clip = view.matrices.clip_from_view;
    let is_parallel = clip.w_axis.w > 0.5;
    let in_view = |point: &Vec3| {
        let place_px = view.matrices.pixel_of(*point, view.size_px);
        let distance = -view.matrices.view_from_object.transform_point3(*point).z;
        let width = if is_parallel { 1.0 } else { distance };
        let slack = SLACK_PX * 2.0 / view.size_px as f32 / clip.x_axis.x * width;
        let [x, y] = [place_px.x.floor() as i32, place_px.y.floor() as i32];
        let is_inside = (0..size).contains(&x) && (0..size).contains(&y);
        let around = (-1..=1).flat_map(|dy| (-1..=1).map(move |dx| (x + dx, y + dy)));
        let farthest = around
            .filter(|(x, y)| (0..size).contains(x) && (0..size).contains(y))
            .map(|(x, y)| depth[(y * size + x) as usize])
            .filter(|depth| depth.is_finite())
            .fold(f32::NEG_INFINITY, f32::max);
        PointInView {
            place_px,
            is_visible: is_inside && distance <= farthest + slack,
        }
    };
    Ok(points.iter().map(in_view).collect())
}
