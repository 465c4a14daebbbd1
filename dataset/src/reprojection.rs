//! Reprojection check: a row's points must project into its own masks. Run when a row is made and when a
//! dataset is verified, so that matrices, images and points cannot diverge.

use glam::{Mat4, Vec3};

use crate::image::Mask1Bit;
use crate::schema::{MeshStats, SampleView};

/// Minimum fraction of points inside each mask, dilated by one pixel. Below 1, because a sliver thinner than
/// a pixel may fall between the mask's samples.
pub const MIN_POINTS_IN_MASK: f64 = 0.97;

/// Start of the warning of an object that is thinner than a pixel in some view; its mask may be empty.
const THIN_WARNING: &str = "thinner than a pixel";

/// The warning of an object that is thin in some of its views.
#[cfg(feature = "build")]
pub(crate) fn thin_warning(size_px: u32, num_thin: usize, num_views: usize) -> String {
    format!("{THIN_WARNING} at {size_px} px in {num_thin} of {num_views} views: raise --size or --samples")
}

/// Whether its builder found the object thin, so that its points may lie outside of its masks.
pub(crate) fn is_thin(mesh: Option<&MeshStats>) -> bool {
    let issues = mesh.and_then(|mesh| mesh.issues.as_ref());
    let mut warnings = issues.into_iter().flat_map(|issues| &issues.warnings);
    warnings.any(|warning| warning.starts_with(THIN_WARNING))
}

/// Fraction of the points, 0 to 1, that project into the view's mask dilated by one pixel.
#[must_use]
pub fn points_in_mask(points: &[[f32; 3]], view: &SampleView) -> f64 {
    let projection = Projection::of(view);
    let is_inside = |point: &&[f32; 3]| projection.is_near(point, &view.mask, 1);
    points.iter().filter(is_inside).count() as f64 / points.len().max(1) as f64
}

/// From object space to the pixels of a view.
#[derive(Debug)]
pub(crate) struct Projection {
    clip_from_object: Mat4,
}

impl Projection {
    pub(crate) fn of(view: &SampleView) -> Self {
        Self {
            clip_from_object: from_row_major(&view.clip_from_view) * from_row_major(&view.view_from_object),
        }
    }

    /// Whether a mask of the view, of any size, is covered within `radius_px` pixels of the point, along each axis.
    pub(crate) fn is_near(&self, point: &[f32; 3], mask: &Mask1Bit, radius_px: i64) -> bool {
        let ndc = self.clip_from_object.project_point3(Vec3::from(*point));
        let size_px = mask.size_px() as f32;
        let x_px = (ndc.x / 2.0 + 0.5) * size_px;
        let y_px = (0.5 - ndc.y / 2.0) * size_px;
        // Points behind the eye or at infinity are in no pixel; the cast saturates and `is_covered` is false.
        ndc.is_finite() && is_covered_nearby(mask, x_px.floor() as i64, y_px.floor() as i64, radius_px)
    }
}

pub(crate) fn from_row_major(numbers: &[f32; 16]) -> Mat4 {
    Mat4::from_cols_array(numbers).transpose()
}

fn is_covered_nearby(mask: &Mask1Bit, x: i64, y: i64, radius_px: i64) -> bool {
    // Most points lie in the very pixel.
    let is_covered = |dx, dy| mask.is_covered(x.saturating_add(dx), y.saturating_add(dy));
    is_covered(0, 0)
        || (-radius_px..=radius_px).any(|dy| (-radius_px..=radius_px).any(|dx| is_covered(dx, dy)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "the ratios are small fractions, exact in binary")]

    use super::*;

    /// An orthographic front view with the right half covered.
    fn view() -> SampleView {
        let clip_from_view = Mat4::from_scale(Vec3::new(1.0, 1.0, -0.5));
        SampleView {
            image_png: Vec::new(),
            mask: Mask1Bit::from_covered(8, &std::array::from_fn::<_, 64, _>(|i| i % 8 >= 4)),
            view_from_object: Mat4::IDENTITY.to_cols_array(),
            clip_from_view: clip_from_view.transpose().to_cols_array(),
            gbuffer: None,
        }
    }

    #[test]
    fn points_are_counted_where_they_fall() {
        let right = [0.5, 0.9, 0.0];
        let left = [-0.5, 0.0, 0.0];
        let just_left = [-0.1, 0.0, 0.0];
        let outside = [3.0, 0.0, 0.0];
        let nowhere = [f32::NAN, 0.0, 0.0];
        assert_eq!(points_in_mask(&[right, left], &view()), 0.5);
        assert_eq!(
            points_in_mask(&[just_left], &view()),
            1.0,
            "within a pixel of the mask"
        );
        assert_eq!(points_in_mask(&[outside, nowhere], &view()), 0.0);
    }

    #[test]
    fn matrices_are_read_row_by_row() {
        let mut numbers = Mat4::IDENTITY.to_cols_array();
        numbers[3] = 5.0;
        assert_eq!(
            from_row_major(&numbers).transform_point3(Vec3::ZERO),
            Vec3::new(5.0, 0.0, 0.0)
        );
    }
}
