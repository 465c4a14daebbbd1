//! Occlusion test of points against a view's depth channel.

use glam::{Vec2, Vec3};

use super::{MissingChannel, View};
use crate::recipe::Channel;

/// Depth tolerance, in pixel widths at the point's distance: a surface at a grazing angle changes by about as much from
/// one pixel to the next.
const SLACK_PX: f32 = 2.0;

/// A point of object space projected into a view.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PointInView {
    /// In pixels from the top left corner.
    pub position_px: Vec2,
    /// Neither occluded nor outside of the image.
    pub is_visible: bool,
}

/// Projects points of object space into a view and tests whether they are visible: each is compared with the farthest
/// depth among its pixel and the pixels around it.
///
/// # Errors
///
/// [`MissingChannel`] if the view has no depth channel.
pub fn point_visibility(view: &View, points: &[Vec3]) -> Result<Vec<PointInView>, MissingChannel> {
    let depth = view.depth.as_ref().ok_or(MissingChannel {
        channel: Channel::Depth,
    })?;
    let size = view.size_px as i32;
    let clip = view.matrices.clip_from_view;
    let is_orthographic = clip.w_axis.w > 0.5;
    let in_view = |point: &Vec3| {
        let position_px = view.matrices.pixel_of(*point, view.size_px);
        let distance = -view.matrices.view_from_object.transform_point3(*point).z;
        let width = if is_orthographic { 1.0 } else { distance };
        let slack = SLACK_PX * 2.0 / view.size_px as f32 / clip.x_axis.x * width;
        let [x, y] = [position_px.x.floor() as i32, position_px.y.floor() as i32];
        let is_inside = (0..size).contains(&x) && (0..size).contains(&y);
        let around = (-1..=1).flat_map(|dy| (-1..=1).map(move |dx| (x + dx, y + dy)));
        let farthest = around
            .filter(|(x, y)| (0..size).contains(x) && (0..size).contains(y))
            .map(|(x, y)| depth[(y * size + x) as usize])
            .filter(|depth| depth.is_finite())
            .fold(f32::NEG_INFINITY, f32::max);
        PointInView {
            position_px,
            is_visible: is_inside && distance <= farthest + slack,
        }
    };
    Ok(points.iter().map(in_view).collect())
}
