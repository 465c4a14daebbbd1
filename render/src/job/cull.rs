//! Small-triangle culling: drops triangles that cover no sample, to spare a software driver their setup.
//!
//! It is conservative: a triangle that is kept costs time, one that is dropped must not be visible. A margin covers the
//! device's rounding; large triangles and those that reach behind the eye are always kept.

use glam::{Mat4, Vec2, Vec3};

/// Vulkan's standard sample positions, in sixteenths of a pixel from the top left corner.
const ONE_SAMPLE: &[Vec2] = &[Vec2::new(8.0, 8.0)];
const FOUR_SAMPLES: &[Vec2] = &[
    Vec2::new(6.0, 2.0),
    Vec2::new(14.0, 6.0),
    Vec2::new(2.0, 10.0),
    Vec2::new(10.0, 14.0),
];
/// Units per pixel.
const SIXTEENTHS_PER_PIXEL: f32 = 16.0;
/// Rounding of a device's corners, in sixteenths of a pixel: lavapipe rounds to 1/256 of a pixel, twice that is safe.
const MARGIN: f32 = 0.25;
/// Triangles that extend over more pixels than this along an axis are kept without a test.
const MAX_CULLED_PX: f32 = 4.0;

/// Tests the triangles of one view.
pub(crate) struct SampleCuller {
    samples: &'static [Vec2],
    /// In sixteenths of a pixel; not finite behind the eye.
    points: Vec<Vec2>,
}

impl SampleCuller {
    pub(crate) fn new(clip_from_object: &Mat4, size_px: u32, num_samples: u32, points: &[Vec3]) -> Self {
        let scale = size_px as f32 * SIXTEENTHS_PER_PIXEL;
        let project = |point: &Vec3| {
            let clip = *clip_from_object * point.extend(1.0);
            let ndc = Vec2::new(clip.x, -clip.y) / clip.w;
            if clip.w > 0.0 {
                (ndc * 0.5 + 0.5) * scale
            } else {
                Vec2::NAN
            }
        };
        let samples = if num_samples == 1 {
            ONE_SAMPLE
        } else {
            FOUR_SAMPLES
        };
        Self {
            samples,
            points: points.iter().map(project).collect(),
        }
    }

    /// `false` only if the triangle covers no sample.
    pub(crate) fn may_cover_sample(&self, triangle: [u32; 3]) -> bool {
        let [a, b, c] = triangle.map(|index| self.points[index as usize]);
        if !(a + b + c).is_finite() {
            return true;
        }
        let (min, max) = (a.min(b).min(c) - MARGIN, a.max(b).max(c) + MARGIN);
        if (max - min).max_element() >= MAX_CULLED_PX * SIXTEENTHS_PER_PIXEL {
            return true;
        }
        let edges = EdgeFunctions::new([a, b, c]);
        self.samples.iter().any(|sample| {
            // Pixels whose sample is within the triangle's bounding box.
            let (first, last) = (
                (min - sample) / SIXTEENTHS_PER_PIXEL,
                (max - sample) / SIXTEENTHS_PER_PIXEL,
            );
            (-floor(-first.y)..=floor(last.y)).any(|y| {
                (-floor(-first.x)..=floor(last.x)).any(|x| {
                    edges.contains_approx(Vec2::new(x as f32, y as f32) * SIXTEENTHS_PER_PIXEL + sample)
                })
            })
        })
    }
}

/// Floor by a cast: on most baseline instruction sets `f32::floor` is a function call.
#[inline]
fn floor(x: f32) -> i32 {
    let cut = x as i32;
    cut - i32::from(cut as f32 > x)
}

/// The edges of a triangle.
struct EdgeFunctions {
    corners: [Vec2; 3],
    /// From each corner to the next, oriented so that the inside is on the left.
    edges: [Vec2; 3],
    /// Distance outside that still counts as inside, times an upper bound of the edge's length.
    tolerances: [f32; 3],
}

impl EdgeFunctions {
    #[inline]
    fn new(corners: [Vec2; 3]) -> Self {
        let [a, b, c] = corners;
        let turn = if (b - a).perp_dot(c - a) < 0.0 { -1.0 } else { 1.0 };
        let edges = [b - a, c - b, a - c].map(|side| side * turn);
        Self {
            corners,
            edges,
            tolerances: edges.map(|side| -MARGIN * side.abs().element_sum()),
        }
    }

    #[inline]
    fn contains_approx(&self, point: Vec2) -> bool {
        let inside = |i: usize| self.edges[i].perp_dot(point - self.corners[i]) >= self.tolerances[i];
        // All three, since a branch costs more.
        inside(0) & inside(1) & inside(2)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn culler(corners: [[f32; 2]; 3], num_samples: u32) -> SampleCuller {
        // An image of 8 pixels whose pixels are units of object space, +y up.
        let clip_from_object =
            Mat4::from_translation(Vec3::new(-1.0, -1.0, 0.0)) * Mat4::from_scale(Vec3::new(0.25, 0.25, 1.0));
        let points = corners.map(|[x, y]| Vec3::new(x, 8.0 - y, 0.0));
        SampleCuller::new(&clip_from_object, 8, num_samples, &points)
    }

    fn may_cover_sample(corners: [[f32; 2]; 3], num_samples: u32) -> bool {
        culler(corners, num_samples).may_cover_sample([0, 1, 2])
    }

    #[test]
    fn triangles_that_cover_a_sample_are_kept() {
        let around = |x: f32, y: f32| [[x - 0.05, y - 0.05], [x + 0.05, y - 0.05], [x, y + 0.05]];
        assert!(may_cover_sample(around(2.5, 3.5), 1), "the center of a pixel");
        assert!(
            !may_cover_sample(around(2.5, 3.5), 4),
            "four samples have none there"
        );
        for [x, y] in [[0.375, 0.125], [0.875, 0.375], [0.125, 0.625], [0.625, 0.875]] {
            assert!(
                may_cover_sample(around(2.0 + x, 3.0 + y), 4),
                "a sample at {x}, {y}"
            );
            assert!(
                !may_cover_sample(around(2.0 + x, 3.0 + y), 1),
                "one sample has none there"
            );
        }
        let sliver_beside = [[2.0, 3.0], [2.9, 3.7], [2.9, 3.6]];
        assert!(
            !may_cover_sample(sliver_beside, 1),
            "its box holds the center, it does not"
        );
    }

    #[test]
    fn unprojectable_triangles_are_kept() {
        assert!(
            may_cover_sample([[f32::NAN, 0.0], [1.0, 0.0], [0.0, 1.0]], 4),
            "not a number"
        );
    }

    proptest! {
        #[test]
        fn culling_is_conservative(
            corners in prop::array::uniform3(prop::array::uniform2(0.0_f32..8.0)),
            shrink in 0.01_f32..1.0,
            num_samples in prop_oneof![Just(1_u32), Just(4)],
        ) {
            let center = corners[0];
            let corners = corners.map(|[x, y]| [center[0] + (x - center[0]) * shrink, center[1] + (y - center[1]) * shrink]);
            let [a, b, c] = corners.map(|corner| Vec2::from(corner).as_dvec2());
            let samples = if num_samples == 1 { ONE_SAMPLE } else { FOUR_SAMPLES };
            let holds = |p: glam::DVec2| {
                let edges = [(b - a).perp_dot(p - a), (c - b).perp_dot(p - b), (a - c).perp_dot(p - c)];
                edges.iter().all(|side| *side >= 0.0) || edges.iter().all(|side| *side <= 0.0)
            };
            let held = (0_u8..64).any(|i| {
                let pixel = Vec2::new(f32::from(i % 8), f32::from(i / 8));
                samples.iter().any(|sample| holds((pixel + *sample / SIXTEENTHS_PER_PIXEL).as_dvec2()))
            });
            prop_assert!(!held || may_cover_sample(corners, num_samples), "a triangle with a sample is culled");
        }
    }
}
