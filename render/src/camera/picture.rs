//! Matrices of a finished picture, of which the pose is known and the framing is not: the crop that maps the object's points to
//! where the picture shows them.

use glam::{DVec2, Vec3};

use super::{Camera, Pose, Projection, ViewMatrices, Window};
use crate::simd::Vec3x4;

/// Points that sample a surface don't reach its very ends, so that a box around them is smaller than the silhouette's, by up to
/// this fraction.
const MAX_SHORTFALL: f64 = 0.06;
/// Steps in which the shortfall is searched.
const NUM_STEPS: usize = 12;
/// Shifts that are tried, in pixels.
const SHIFTS_PX: [f64; 3] = [0.0, -1.0, 1.0];
/// A larger scale is preferred to one with so few more of the points within the silhouette.
const TOLERATED_FRACTION: f64 = 0.005;

/// A point on the image plane, and its distance from the eye's plane.
struct Projected {
    position: DVec2,
    depth: f32,
}

impl ViewMatrices {
    /// The matrices of a picture of `size_px` pixels a side, taken from `pose` at the center of the points' bounding box, that
    /// shows the object in the pixels `shown`, row by row. The box around the projected points gets the center and the longer
    /// side of the silhouette's box, a little less where more points fall within the silhouette then. `points` are in object
    /// space, on the surface. `None` if they or the silhouette have no extent.
    ///
    /// # Panics
    /// When there are not `size_px * size_px` pixels.
    #[must_use]
    pub fn of_picture(
        points: &[Vec3],
        pose: &Pose,
        projection: Projection,
        size_px: u32,
        shown: &[bool],
    ) -> Option<Self> {
        let size = size_px as usize;
        assert_eq!(shown.len(), size * size, "one value a pixel");
        let (min, max) = bounds(points.iter().map(|point| point.as_dvec3()))?;
        let camera = Camera::new(pose, projection, (min + max) / 2.0, (max - min).length());
        let projected = project(&camera, points);
        let (low, high) = bounds(projected.iter().map(|point| point.position.extend(0.0)))?;
        let (low, high) = (low.truncate(), high.truncate());
        let places = (0..shown.len()).filter(|&place| shown[place]);
        let corner = |place: usize| DVec2::new((place % size) as f64, (place / size) as f64).extend(0.0);
        let (min_px, max_px) = bounds(places.map(corner))?;
        let (min_px, max_px) = (min_px.truncate(), max_px.truncate() + 1.0);
        let (sides, sides_px) = (high - low, max_px - min_px);
        let longer = usize::from(sides_px.y > sides_px.x);
        let px_per_side = sides_px[longer] / sides[longer];

        let (center, center_px) = ((low + high) / 2.0, (min_px + max_px) / 2.0);
        let num_within = |scale: f64, shift_px: DVec2| {
            let is_within = |point: &&Projected| {
                let offset = (point.position - center) * scale;
                // Rows count down.
                let pixel = center_px + shift_px + DVec2::new(offset.x, -offset.y);
                let inside = pixel.min_element() >= 0.0 && pixel.max_element() < size as f64;
                inside && shown[pixel.y as usize * size + pixel.x as usize]
            };
            projected.iter().filter(is_within).count()
        };
        let mut candidates = Vec::with_capacity((NUM_STEPS + 1) * SHIFTS_PX.len() * SHIFTS_PX.len());
        for step in 0..=NUM_STEPS {
            let scale = px_per_side * (1.0 - MAX_SHORTFALL * step as f64 / NUM_STEPS as f64);
            for shift in SHIFTS_PX
                .into_iter()
                .flat_map(|x| SHIFTS_PX.map(|y| DVec2::new(x, y)))
            {
                candidates.push((num_within(scale, shift), scale, shift));
            }
        }
        let most = candidates.iter().map(|(num, ..)| *num).max()?;
        let enough = most as f64 - TOLERATED_FRACTION * projected.len() as f64;
        let (_, scale, shift_px) = candidates.into_iter().find(|(num, ..)| *num as f64 >= enough)?;

        let offset_px = center_px + shift_px - DVec2::splat(f64::from(size_px) / 2.0);
        let window = Window {
            center: center - DVec2::new(offset_px.x, -offset_px.y) / scale,
            half_side: f64::from(size_px) / scale / 2.0,
        };
        let depths = projected.iter().map(|point| point.depth);
        let nearest = depths.clone().reduce(f32::min)?;
        camera.matrices(window, nearest..=depths.reduce(f32::max)?)
    }
}

fn project(camera: &Camera, points: &[Vec3]) -> Vec<Projected> {
    let project = camera.projection();
    let fours = Vec3x4::of_points(points).flat_map(|four| project(&four).transpose());
    let to_point = |lanes: wide::f32x4| {
        let [x, y, depth, _] = lanes.to_array();
        Projected {
            position: DVec2::new(f64::from(x), f64::from(y)),
            depth,
        }
    };
    fours.map(to_point).take(points.len()).collect()
}

fn bounds(points: impl Iterator<Item = glam::DVec3>) -> Option<(glam::DVec3, glam::DVec3)> {
    points.fold(None, |bounds, point| match bounds {
        None => Some((point, point)),
        Some((min, max)) => Some((point.min(min), point.max(max))),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::camera::{MVCNN_DISTANCE_DIAGONALS, Rig};

    const PROJECTION: Projection = Projection::Perspective {
        distance_diagonals: MVCNN_DISTANCE_DIAGONALS,
    };

    /// A rectangle from column 11 to 213, row 40 to 170.
    fn rectangle() -> Vec<bool> {
        let is_shown =
            |place: usize| (11..213).contains(&(place % 224)) && (40..170).contains(&(place / 224));
        (0..224 * 224).map(is_shown).collect()
    }

    #[test]
    fn the_points_fill_the_silhouette() {
        let corner =
            |i: usize| Vec3::new((i & 1) as f32, (i >> 1 & 1) as f32 * 0.5, (i >> 2) as f32 * 0.3) - 0.4;
        let points: Vec<Vec3> = (0..8).map(corner).collect();
        for pose in Rig::mvcnn12().poses() {
            let matrices = ViewMatrices::of_picture(&points, pose, PROJECTION, 224, &rectangle()).unwrap();
            let pixels = points.iter().map(|&point| matrices.pixel_of(point, 224));
            let low = pixels.clone().reduce(glam::Vec2::min).unwrap();
            let high = pixels.reduce(glam::Vec2::max).unwrap();
            let side = high.x - low.x;
            assert!(
                (202.0 * 0.93..=202.1).contains(&side),
                "the longer side: {low} {high}"
            );
            let center = (low + high) / 2.0;
            assert!(center.abs_diff_eq(glam::Vec2::new(112.0, 105.0), 1.1), "{center}");
        }
    }

    #[test]
    fn nothing_has_no_matrices() {
        let rig = Rig::mvcnn12();
        let fit = |points: &[Vec3], shown: &[bool]| {
            ViewMatrices::of_picture(points, &rig.poses()[0], PROJECTION, 224, shown)
        };
        assert_eq!(fit(&[], &rectangle()), None);
        assert_eq!(fit(&[Vec3::ONE; 3], &rectangle()), None);
        assert_eq!(fit(&[Vec3::ZERO, Vec3::ONE], &vec![false; 224 * 224]), None);
    }
}
