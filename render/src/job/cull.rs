//! Leaves out triangles that hold no sample point of a picture, in order to spare a software adapter its set-up.
//!
//! It is sound, never exact: a triangle that stays costs time, one that goes must not be missed. So a margin covers what
//! the device rounds, and what is large or reaches behind the eye stays unasked.

use glam::{Mat4, Vec2, Vec3};

/// Where a pixel's samples are, in sixteenths of a pixel from its top left corner: Vulkan's standard positions.
const ONE_SAMPLE: &[Vec2] = &[Vec2::new(8.0, 8.0)];
const FOUR_SAMPLES: &[Vec2] = &[
    Vec2::new(6.0, 2.0),
    Vec2::new(14.0, 6.0),
    Vec2::new(2.0, 10.0),
    Vec2::new(10.0, 14.0),
];
/// Sixteenths of a pixel.
const PER_PIXEL: f32 = 16.0;
/// What a device may round a corner by, in sixteenths of a pixel: lavapipe keeps 1/256 of a pixel, twice that is safe.
const MARGIN: f32 = 0.25;
/// Triangles that span more pixels than this, either way, stay without being looked at.
const LARGE_PX: f32 = 4.0;

/// Sorts out the triangles of one view.
pub(crate) struct Sieve {
    samples: &'static [Vec2],
    /// Points in sixteenths of a pixel; not finite where the eye has no picture of them.
    points: Vec<Vec2>,
}

impl Sieve {
    pub(crate) fn new(clip_from_object: &Mat4, size_px: u32, num_samples: u32, points: &[Vec3]) -> Self {
        let scale = size_px as f32 * PER_PIXEL;
        let place = |point: &Vec3| {
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
            points: points.iter().map(place).collect(),
        }
    }

    /// May the triangle hold a sample point?
    pub(crate) fn keeps(&self, triangle: [u32; 3]) -> bool {
        let [a, b, c] = triangle.map(|index| self.points[index as usize]);
        if !(a + b + c).is_finite() {
            return true;
        }
        let (min, max) = (a.min(b).min(c) - MARGIN, a.max(b).max(c) + MARGIN);
        if (max - min).max_element() >= LARGE_PX * PER_PIXEL {
            return true;
        }
        let edges = Edges::new([a, b, c]);
        self.samples.iter().any(|sample| {
            // Pixels whose sample is within the triangle's box.
            let (first, last) = ((min - sample) / PER_PIXEL, (max - sample) / PER_PIXEL);
            (-floor(-first.y)..=floor(last.y)).any(|y| {
                (-floor(-first.x)..=floor(last.x))
                    .any(|x| edges.hold(Vec2::new(x as f32, y as f32) * PER_PIXEL + sample))
            })
        })
    }
}

/// The largest integer that is not larger, by a cast: `f32::floor` is a function call on most processors' baseline.
#[inline]
fn floor(x: f32) -> i32 {
    let cut = x as i32;
    cut - i32::from(cut as f32 > x)
}

/// The three sides of a triangle, seen from inside.
struct Edges {
    corners: [Vec2; 3],
    /// From each corner to the next, turned so that what is left of it is inside.
    sides: [Vec2; 3],
    /// How far outside still counts as inside, times a bound of the side's length.
    slacks: [f32; 3],
}

impl Edges {
    #[inline]
    fn new(corners: [Vec2; 3]) -> Self {
        let [a, b, c] = corners;
        let turn = if (b - a).perp_dot(c - a) < 0.0 { -1.0 } else { 1.0 };
        let sides = [b - a, c - b, a - c].map(|side| side * turn);
        Self {
            corners,
            sides,
            slacks: sides.map(|side| -MARGIN * side.abs().element_sum()),
        }
    }

    #[inline]
    fn hold(&self, point: Vec2) -> bool {
        let inside = |i: usize| self.sides[i].perp_dot(point - self.corners[i]) >= self.slacks[i];
        // All three, since a branch costs more.
        inside(0) & inside(1) & inside(2)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sieve(corners: [[f32; 2]; 3], num_samples: u32) -> Sieve {
        // A picture of 8 pixels whose pixels are units of object space, +y up.
        let clip_from_object =
            Mat4::from_translation(Vec3::new(-1.0, -1.0, 0.0)) * Mat4::from_scale(Vec3::new(0.25, 0.25, 1.0));
        let points = corners.map(|[x, y]| Vec3::new(x, 8.0 - y, 0.0));
        Sieve::new(&clip_from_object, 8, num_samples, &points)
    }

    fn keeps(corners: [[f32; 2]; 3], num_samples: u32) -> bool {
        sieve(corners, num_samples).keeps([0, 1, 2])
    }

    #[test]
    fn a_triangle_around_a_sample_stays_and_one_between_them_goes() {
        let around = |x: f32, y: f32| [[x - 0.05, y - 0.05], [x + 0.05, y - 0.05], [x, y + 0.05]];
        assert!(keeps(around(2.5, 3.5), 1), "the centre of a pixel");
        assert!(!keeps(around(2.5, 3.5), 4), "four samples have none there");
        for [x, y] in [[0.375, 0.125], [0.875, 0.375], [0.125, 0.625], [0.625, 0.875]] {
            assert!(keeps(around(2.0 + x, 3.0 + y), 4), "a sample at {x}, {y}");
            assert!(!keeps(around(2.0 + x, 3.0 + y), 1), "one sample has none there");
        }
        let sliver_beside = [[2.0, 3.0], [2.9, 3.7], [2.9, 3.6]];
        assert!(!keeps(sliver_beside, 1), "its box holds the centre, it does not");
    }

    #[test]
    fn what_has_no_picture_stays() {
        assert!(
            keeps([[f32::NAN, 0.0], [1.0, 0.0], [0.0, 1.0]], 4),
            "not a number"
        );
    }

    proptest! {
        #[test]
        fn no_triangle_that_holds_a_sample_goes(
            corners in prop::array::uniform3(prop::array::uniform2(0.0_f32..8.0)),
            shrink in 0.01_f32..1.0,
            num_samples in prop_oneof![Just(1_u32), Just(4)],
        ) {
            let center = corners[0];
            let corners = corners.map(|[x, y]| [center[0] + (x - center[0]) * shrink, center[1] + (y - center[1]) * shrink]);
            let [a, b, c] = corners.map(|corner| Vec2::from(corner).as_dvec2());
            let samples = if num_samples == 1 { ONE_SAMPLE } else { FOUR_SAMPLES };
            let holds = |p: glam::DVec2| {
                let sides = [(b - a).perp_dot(p - a), (c - b).perp_dot(p - b), (a - c).perp_dot(p - c)];
                sides.iter().all(|side| *side >= 0.0) || sides.iter().all(|side| *side <= 0.0)
            };
            let held = (0_u8..64).any(|i| {
                let pixel = Vec2::new(f32::from(i % 8), f32::from(i / 8));
                samples.iter().any(|sample| holds((pixel + *sample / PER_PIXEL).as_dvec2()))
            });
            prop_assert!(!held || keeps(corners, num_samples), "a triangle with a sample goes");
        }
    }
}
