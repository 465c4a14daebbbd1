//! Augmentation of point clouds (`docs/method.md`, "Augmentation"), on the CPU in the
//! loader's threads.
//!
//! Object space is y-up, so "height" is along y. Every draw is keyed by (seed, epoch, sample id).

use serde::{Deserialize, Serialize};

use crate::seed::Stream;

/// When the height of a point above the lowest one is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeightFrom {
    /// Before any change, as in pre-training (`docs/method.md`, "Point clouds").
    Original,
    /// After scaling, before centering, as in fine-tuning (`docs/method.md`, "Point clouds").
    Scaled,
}

/// The transforms of one phase of training, in the order in which they are applied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Augmentation {
    /// Each axis is multiplied by its own uniform factor between these two.
    pub scale: [f64; 2],
    /// When the height is measured.
    pub height: HeightFrom,
    /// Then move the mean to the origin and the farthest point to distance 1.
    pub normalize: bool,
    /// Then move along each axis by an offset of its own, uniform up to this distance either way; the views follow.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub shift: f64,
    /// Then turn by a random angle about y; the views' rays turn along, so their images stay right.
    pub rotate_y: bool,
}

impl Augmentation {
    /// The same without random augmentation: for evaluation.
    #[must_use]
    pub fn without_randomness(&self) -> Self {
        Self {
            scale: [1.0, 1.0],
            shift: 0.0,
            rotate_y: false,
            ..self.clone()
        }
    }

    /// Augments `points` and the matrices of their views; returns the heights.
    pub fn apply(
        &self,
        seed: u64,
        epoch: u64,
        id: &str,
        points: &mut [[f32; 3]],
        view_from_object: &mut [[f32; 16]],
    ) -> Vec<f32> {
        let original_heights = heights(points);
        let mut stream = Stream::new(seed, "scale", epoch, id);
        let factors = [(); 3].map(|()| stream.uniform(self.scale[0], self.scale[1]) as f32);
        for point in points.iter_mut() {
            for (coordinate, factor) in point.iter_mut().zip(factors) {
                *coordinate *= factor;
            }
        }
        let heights = match self.height {
            HeightFrom::Original => original_heights,
            HeightFrom::Scaled => heights(points),
        };
        if self.normalize {
            normalize(points);
        }
        if self.shift > 0.0 {
            let mut stream = Stream::new(seed, "shift", epoch, id);
            let offset = [(); 3].map(|()| stream.uniform(-self.shift, self.shift));
            translate(offset, points, view_from_object);
        }
        if let Some(angle_rad) = self.angle_rad(seed, epoch, id) {
            rotate_y(angle_rad, points, view_from_object);
        }
        heights
    }

    /// The angle about y by which [`apply`](Self::apply) turns this sample, if it does.
    #[must_use]
    pub fn angle_rad(&self, seed: u64, epoch: u64, id: &str) -> Option<f64> {
        let mut stream = Stream::new(seed, "rotation", epoch, id);
        self.rotate_y
            .then(|| stream.uniform(-std::f64::consts::PI, std::f64::consts::PI))
    }
}

/// Further augmentation of points and normals for part segmentation (`docs/method.md`, "Augmentation").
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PartAugmentation {
    /// Standard deviation of the noise on every coordinate.
    pub jitter: f64,
    /// Bound of that noise.
    pub jitter_bound: f64,
    /// Probability that a sample's normals are set to zero.
    pub drop_normals: f64,
}

impl Default for PartAugmentation {
    /// As published.
    fn default() -> Self {
        Self {
            jitter: 0.001,
            jitter_bound: 0.005,
            drop_normals: 0.2,
        }
    }
}

impl PartAugmentation {
    /// No augmentation: for evaluation.
    pub const NONE: Self = Self {
        jitter: 0.0,
        jitter_bound: 0.0,
        drop_normals: 0.0,
    };

    /// Augments points after [`Augmentation::apply`], and their normals.
    pub fn apply(&self, seed: u64, epoch: u64, id: &str, points: &mut [[f32; 3]], normals: &mut [[f32; 3]]) {
        if self.jitter > 0.0 {
            let mut stream = Stream::new(seed, "jitter", epoch, id);
            for coordinate in points.iter_mut().flatten() {
                let noise = self.jitter * stream.normal();
                *coordinate += noise.clamp(-self.jitter_bound, self.jitter_bound) as f32;
            }
        }
        if Stream::new(seed, "drop normals", epoch, id).unit() < self.drop_normals {
            normals.fill([0.0; 3]);
        }
    }
}

/// Height of each point above the lowest.
fn heights(points: &[[f32; 3]]) -> Vec<f32> {
    let lowest = points.iter().map(|point| point[1]).fold(f32::INFINITY, f32::min);
    points.iter().map(|point| point[1] - lowest).collect()
}

/// Mean to the origin, farthest point to distance 1.
pub fn normalize(points: &mut [[f32; 3]]) {
    let count = points.len().max(1) as f64;
    let sum = points.iter().fold([0.0_f64; 3], |sum, point| {
        [0, 1, 2].map(|axis| sum[axis] + f64::from(point[axis]))
    });
    let mean = sum.map(|sum| (sum / count) as f32);
    let mut farthest = 0.0_f32;
    for point in points.iter_mut() {
        for (coordinate, mean) in point.iter_mut().zip(mean) {
            *coordinate -= mean;
        }
        farthest = farthest.max(point.iter().map(|x| x * x).sum::<f32>().sqrt());
    }
    if farthest > 0.0 {
        for coordinate in points.iter_mut().flatten() {
            *coordinate /= farthest;
        }
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
fn is_zero(number: &f64) -> bool {
    *number == 0.0
}

/// Moves points by `offset`, and views back by it: they see the moved points as before.
fn translate(offset: [f64; 3], points: &mut [[f32; 3]], view_from_object: &mut [[f32; 16]]) {
    for (coordinate, offset) in points.iter_mut().flat_map(|point| point.iter_mut().zip(offset)) {
        *coordinate += offset as f32;
    }
    for row in view_from_object
        .iter_mut()
        .flat_map(|matrix| matrix.chunks_exact_mut(4))
    {
        let moved: f64 = row
            .iter()
            .zip(offset)
            .map(|(x, offset)| f64::from(*x) * offset)
            .sum();
        row[3] -= moved as f32;
    }
}

/// Turns points by R about y, and views by its inverse: `view_from_object * R^-1` sees the turned points as before.
pub fn rotate_y(angle_rad: f64, points: &mut [[f32; 3]], view_from_object: &mut [[f32; 16]]) {
    let (sin, cos) = angle_rad.sin_cos();
    for [x, _, z] in points.iter_mut() {
        let (old_x, old_z) = (f64::from(*x), f64::from(*z));
        *x = (cos * old_x + sin * old_z) as f32;
        *z = (cos * old_z - sin * old_x) as f32;
    }
    for matrix in view_from_object.iter_mut() {
        for row in 0..4 {
            // R^-1 = R^T has the columns (cos, 0, sin), e_y, (-sin, 0, cos).
            let (old_x, old_z) = (f64::from(matrix[4 * row]), f64::from(matrix[4 * row + 2]));
            matrix[4 * row] = (cos * old_x + sin * old_z) as f32;
            matrix[4 * row + 2] = (cos * old_z - sin * old_x) as f32;
        }
    }
}

/// Indices of `count` points, each farthest from those before it, from index 0 on.
#[must_use]
pub fn farthest_points(points: &[[f32; 3]], count: usize) -> Vec<usize> {
    let mut nearest = vec![f32::INFINITY; points.len()];
    let mut chosen = Vec::with_capacity(count);
    let mut current = 0;
    while chosen.len() < count.min(points.len()) {
        chosen.push(current);
        let [x, y, z] = points[current];
        let mut farthest = f32::NEG_INFINITY;
        for (index, (point, distance)) in points.iter().zip(&mut nearest).enumerate() {
            let (dx, dy, dz) = (point[0] - x, point[1] - y, point[2] - z);
            *distance = distance.min(dx * dx + dy * dy + dz * dz);
            if *distance > farthest {
                farthest = *distance;
                current = index;
            }
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn apply(matrix: &[f32; 16], point: [f32; 3]) -> [f32; 3] {
        [0, 1, 2].map(|row| {
            (0..3)
                .map(|column| matrix[4 * row + column] * point[column])
                .sum::<f32>()
                + matrix[4 * row + 3]
        })
    }

    const IDENTITY_MOVED: [f32; 16] = [
        1.0, 0.0, 0.0, 0.2, 0.0, 1.0, 0.0, -0.1, 0.0, 0.0, 1.0, -3.0, 0.0, 0.0, 0.0, 1.0,
    ];

    proptest! {
        #[test]
        fn turned_points_look_the_same_in_turned_views(angle in -4.0..4.0_f64, first in -4.0..4.0_f64, x in -1.0..1.0_f32, y in -1.0..1.0_f32, z in -1.0..1.0_f32) {
            let mut views = [IDENTITY_MOVED];
            rotate_y(first, &mut [], &mut views);
            let before = apply(&views[0], [x, y, z]);
            let mut points = [[x, y, z]];
            rotate_y(angle, &mut points, &mut views);
            let after = apply(&views[0], points[0]);
            for (a, b) in before.iter().zip(after) {
                prop_assert!((a - b).abs() < 1e-5, "{before:?} {after:?}");
            }
            for row in 0..3 {
                for other in 0..3 {
                    let dot: f32 = (0..3).map(|k| views[0][4 * row + k] * views[0][4 * other + k]).sum();
                    prop_assert!((dot - f32::from(u8::from(row == other))).abs() < 1e-5, "the rotation stays orthonormal");
                }
            }
        }
    }

    #[test]
    fn shifted_points_look_the_same_in_shifted_views() {
        let augmentation = Augmentation {
            scale: [1.0, 1.0],
            height: HeightFrom::Scaled,
            normalize: false,
            shift: 0.2,
            rotate_y: false,
        };
        let (mut views, given) = ([IDENTITY_MOVED], [0.3, -0.4, 0.5]);
        rotate_y(0.7, &mut [], &mut views);
        let before = apply(&views[0], given);
        let mut points = [given];
        augmentation.apply(0, 0, "a", &mut points, &mut views);
        let moved = [0, 1, 2].map(|axis| points[0][axis] - given[axis]);
        assert!(
            moved.iter().all(|x| *x != 0.0 && x.abs() <= 0.2),
            "each axis on its own: {moved:?}"
        );
        for (a, b) in before.iter().zip(apply(&views[0], points[0])) {
            assert!((a - b).abs() < 1e-5, "{before:?}");
        }
        let mut still = [given];
        augmentation
            .without_randomness()
            .apply(0, 0, "a", &mut still, &mut []);
        assert_eq!(still, [given], "not in evaluation");
    }

    #[test]
    fn a_quarter_turn_takes_front_to_right() {
        let mut points = [[0.0, 0.5, 1.0]];
        rotate_y(std::f64::consts::FRAC_PI_2, &mut points, &mut []);
        assert!(
            (points[0][0] - 1.0).abs() < 1e-6 && points[0][2].abs() < 1e-6,
            "+z goes to +x: {points:?}"
        );
    }

    #[test]
    fn draws_depend_on_seed_epoch_and_id_alone() {
        let augmentation = Augmentation {
            scale: [0.9, 1.1],
            height: HeightFrom::Scaled,
            normalize: true,
            shift: 0.0,
            rotate_y: true,
        };
        let run = |seed, epoch, id: &str| {
            let mut points = [[0.1, 0.2, 0.3], [-0.5, 0.4, 0.2], [0.3, -0.9, 0.0]];
            augmentation.apply(seed, epoch, id, &mut points, &mut []);
            points
        };
        assert_eq!(run(1, 2, "a/b"), run(1, 2, "a/b"), "repeatable");
        for other in [run(2, 2, "a/b"), run(1, 3, "a/b"), run(1, 2, "a/c")] {
            assert_ne!(run(1, 2, "a/b"), other, "each part counts");
        }
    }

    #[test]
    fn heights_follow_their_definition() {
        let mut augmentation = Augmentation {
            scale: [2.0, 2.0],
            height: HeightFrom::Original,
            normalize: true,
            shift: 0.0,
            rotate_y: false,
        };
        let points = [[0.0, -0.5, 0.0], [0.0, 0.5, 0.1]];
        assert_eq!(
            augmentation.apply(0, 0, "a", &mut points.clone(), &mut []),
            [0.0, 1.0],
            "before the scale"
        );
        augmentation.height = HeightFrom::Scaled;
        assert_eq!(
            augmentation.apply(0, 0, "a", &mut points.clone(), &mut []),
            [0.0, 2.0],
            "after the scale, before centering"
        );
    }

    #[test]
    fn jitter_is_bounded_and_normals_go_as_a_whole() {
        let augmentation = PartAugmentation {
            jitter: 0.01,
            jitter_bound: 0.02,
            drop_normals: 0.5,
        };
        let (mut num_dropped, mut sum_of_squares, mut largest) = (0, 0.0, 0.0_f32);
        for sample in 0..200 {
            let (mut points, mut normals) = ([[0.0; 3]; 10], [[0.0, 1.0, 0.0]; 10]);
            augmentation.apply(3, 0, &sample.to_string(), &mut points, &mut normals);
            num_dropped += usize::from(normals == [[0.0; 3]; 10]);
            assert!(
                normals == [[0.0; 3]; 10] || normals == [[0.0, 1.0, 0.0]; 10],
                "all or none"
            );
            for coordinate in points.iter().flatten() {
                largest = largest.max(coordinate.abs());
                sum_of_squares += coordinate * coordinate;
            }
        }
        assert!((70..130).contains(&num_dropped), "about half: {num_dropped}");
        let deviation = (sum_of_squares / 6000.0).sqrt();
        assert!(
            (0.0085..0.01).contains(&deviation),
            "a normal distribution without its tails: {deviation}"
        );
        assert!((largest - 0.02).abs() < 1e-6, "the bound is reached: {largest}");
    }

    #[test]
    fn normalized_clouds_fill_the_unit_ball() {
        let mut points = [[1.0, 1.0, 1.0], [3.0, 1.0, 1.0], [2.0, 4.0, 1.0]];
        normalize(&mut points);
        let farthest = points
            .iter()
            .map(|p| p.iter().map(|x| x * x).sum::<f32>().sqrt())
            .fold(0.0, f32::max);
        assert!((farthest - 1.0).abs() < 1e-6, "{points:?}");
        assert!(
            points.iter().map(|p| p[1]).sum::<f32>().abs() < 1e-6,
            "{points:?}"
        );
    }

    #[test]
    fn farthest_points_start_at_the_first_and_spread() {
        let points = [[0.0, 0.0, 0.0], [0.1, 0.0, 0.0], [1.0, 0.0, 0.0], [0.6, 0.0, 0.0]];
        assert_eq!(farthest_points(&points, 3), [0, 2, 3], "by hand");
        assert_eq!(farthest_points(&points, 9).len(), 4, "no more than there are");
    }
}
