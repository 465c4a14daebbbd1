//! Views in which an object, or a part of it, is thinner than a pixel, so that its mask has gaps or is empty.
//!
//! A much larger mask tells them from a fault of the poses: thin parts appear in it where the object's points are, under the very same matrices. A sheet seen from its edge appears in no mask: there a point's normal is
//! perpendicular to the line of sight. So it does not matter how many points there are.

use glam::{Mat3, Mat4, Vec3};
use tap_render::{CpuRenderer, RenderJob};

use crate::image::{MAX_IMAGE_SIZE_PX, Mask1Bit};
use crate::manifest::SkipReason;
use crate::reprojection::{MIN_POINTS_IN_MASK, Projection, from_row_major, thin_warning};
use crate::schema::SampleView;

/// Side of the larger mask, of the view's. With four samples per pixel a wire of a three-thousandth of its length is found.
const ENLARGEMENT: u32 = 4;
/// Its least side.
const MIN_ENLARGED_PX: u32 = 512;

/// Points of an object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Surfels<'a> {
    pub(super) points: &'a [[f32; 3]],
    pub(super) normals: &'a [[f32; 3]],
}

/// The warning of an object that is thin in some of these views.
///
/// # Errors
/// The reason to skip the object, if it is something else than thin in one of them.
pub(super) fn explain(
    job: &RenderJob,
    surfels: Surfels<'_>,
    views: &[SampleView],
    suspects: &[usize],
) -> Result<String, (SkipReason, String)> {
    let Some(size_px) = views.first().map(|view| view.mask.size_px()) else {
        return Ok(String::new());
    };
    let enlarged_px = (ENLARGEMENT * size_px).clamp(MIN_ENLARGED_PX, MAX_IMAGE_SIZE_PX);
    let enlarged = CpuRenderer::default().draw(&job.masks_alone(suspects, enlarged_px));
    for (&view_idx, enlarged) in suspects.iter().zip(&enlarged) {
        let mask = enlarged.mask.as_ref();
        let covered = mask.map_or(&[][..], |mask| mask.covered());
        let fraction = if covered.is_empty() {
            0.0
        } else {
            explained(
                surfels,
                &views[view_idx],
                &Mask1Bit::from_covered(enlarged_px, covered),
            )
        };
        if fraction < MIN_POINTS_IN_MASK {
            return Err(fault(&views[view_idx], view_idx + 1, surfels.points));
        }
    }
    Ok(thin_warning(size_px, suspects.len(), views.len()))
}

/// Fraction of the points, 0 to 1, that lie in one of the masks, within a pixel of the smaller one, or on a surface seen
/// from its edge.
fn explained(surfels: Surfels<'_>, view: &SampleView, enlarged: &Mask1Bit) -> f64 {
    let projection = Projection::of(view);
    let size_px = view.mask.size_px();
    let radius = i64::from(enlarged.size_px().div_ceil(size_px));
    let is_explained = |(point, normal): &(&[f32; 3], &[f32; 3])| {
        projection.is_near(point, &view.mask, 1)
            || projection.is_near(point, enlarged, radius)
            || is_seen_from_its_edge(view, **point, **normal)
    };
    let surfels = surfels.points.iter().zip(surfels.normals);
    let num_points = surfels.len().max(1);
    surfels.filter(is_explained).count() as f64 / num_points as f64
}

/// Whether even a surface as large as the image is thinner than a pixel under this angle.
fn is_seen_from_its_edge(view: &SampleView, point: [f32; 3], normal: [f32; 3]) -> bool {
    let view_from_object = from_row_major(&view.view_from_object);
    let is_perspective = from_row_major(&view.clip_from_view).row(3).z.abs() > f32::EPSILON;
    let toward_eye = if is_perspective {
        -Mat4::transform_point3(&view_from_object, Vec3::from(point)).normalize_or_zero()
    } else {
        Vec3::Z
    };
    let normal = Mat3::from_mat4(view_from_object) * Vec3::from(normal);
    let cosine = normal.dot(toward_eye).abs();
    cosine * (view.mask.size_px() as f32) < 1.0
}

fn fault(view: &SampleView, view_number: usize, points: &[[f32; 3]]) -> (SkipReason, String) {
    if view.mask.num_covered() == 0 {
        return (
            SkipReason::EmptyView,
            format!("nothing is seen in view {view_number}"),
        );
    }
    let percent = 100.0 * crate::reprojection::points_in_mask(points, view);
    let message = format!("only {percent:.1} % of its points lie in the mask of view {view_number}");
    (SkipReason::Reprojection, message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use glam::DVec3;
    use tap_render::{BackendKind, Mesh, ObjectFromMesh, RenderRecipe, UpAxis, row_major};

    use super::*;

    /// A view of a rod under other matrices than it was drawn with is a fault, however thin the rod is.
    #[test]
    fn a_thin_object_under_false_poses_is_no_thin_object() {
        let corners = [[-1.0, 0.0], [1.0, 0.0], [1.0, 0.001], [-1.0, 0.001]];
        let positions: Vec<DVec3> = corners.iter().map(|&[x, y]| DVec3::new(x, y, 0.0)).collect();
        let mesh = Mesh::try_new(&positions, vec![[0, 1, 2], [0, 2, 3]], None).unwrap();
        let object_from_mesh = ObjectFromMesh::from_surface(&mesh, UpAxis::default());
        let recipe = RenderRecipe {
            size_px: 32,
            ..RenderRecipe::default()
        };
        let job = RenderJob::try_new(&mesh, &object_from_mesh, &recipe, BackendKind::Cpu).unwrap();
        let local = object_from_mesh.local_matrix(&mesh);
        let points: Vec<[f32; 3]> = (0..21_u8)
            .map(|k| Vec3::new(f32::from(k) / 10.0 - 1.0, 0.0005, 0.0))
            .map(|point| local.transform_point3(point).to_array())
            .collect();
        let normals = vec![[0.0, 0.0, 1.0]; points.len()];
        let surfels = Surfels {
            points: &points,
            normals: &normals,
        };
        let mut views: Vec<SampleView> = CpuRenderer::default()
            .draw(&job)
            .into_iter()
            .map(|view| SampleView {
                image_png: Vec::new(),
                mask: Mask1Bit::from_covered(32, view.mask.unwrap().covered()),
                view_from_object: row_major(&view.matrices.view_from_object),
                clip_from_view: row_major(&view.matrices.clip_from_view),
                gbuffer: None,
            })
            .collect();
        explain(&job, surfels, &views, &[0, 1, 3]).unwrap();
        views[0].view_from_object = views[2].view_from_object;
        let (reason, message) = explain(&job, surfels, &views, &[0]).unwrap_err();
        assert!(
            matches!(reason, SkipReason::Reprojection | SkipReason::EmptyView) && message.ends_with("view 1"),
            "{reason}: {message}"
        );
    }
}
