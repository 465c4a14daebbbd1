//! Vectors in structure-of-arrays form, four at a time.

use glam::{Mat4, Vec3};
use wide::f32x4;

/// Four points.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Vec3x4 {
    pub(crate) x: f32x4,
    pub(crate) y: f32x4,
    pub(crate) z: f32x4,
}

impl Vec3x4 {
    /// All points of a list; the last one is repeated to fill a group of four.
    pub(crate) fn of_points(points: &[Vec3]) -> impl ExactSizeIterator<Item = Self> {
        points.chunks(4).map(|chunk| {
            if let [a, b, c, d] = chunk {
                Self::new([a, b, c, d])
            } else {
                let last = chunk.len() - 1;
                Self::new([0, 1, 2, 3].map(|i: usize| &chunk[i.min(last)]))
            }
        })
    }

    #[inline]
    pub(crate) fn new([a, b, c, d]: [&Vec3; 4]) -> Self {
        Self {
            x: f32x4::from([a.x, b.x, c.x, d.x]),
            y: f32x4::from([a.y, b.y, c.y, d.y]),
            z: f32x4::from([a.z, b.z, c.z, d.z]),
        }
    }

    /// The transformed points, and their w.
    #[inline]
    pub(crate) fn transform(&self, SplatMat4(rows): &SplatMat4) -> (Self, f32x4) {
        let row = |[x, y, z, w]: &[f32x4; 4]| self.x * *x + self.y * *y + self.z * *z + *w;
        let four = Self {
            x: row(&rows[0]),
            y: row(&rows[1]),
            z: row(&rows[2]),
        };
        (four, row(&rows[3]))
    }

    /// The four points, each with 0 in the fourth lane.
    #[inline]
    pub(crate) fn transpose(self) -> [f32x4; 4] {
        f32x4::transpose([self.x, self.y, self.z, f32x4::ZERO])
    }
}

/// A matrix with each element splat to four lanes, row by row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SplatMat4([[f32x4; 4]; 4]);

impl From<&Mat4> for SplatMat4 {
    fn from(matrix: &Mat4) -> Self {
        Self([0, 1, 2, 3].map(|row| matrix.row(row).to_array().map(f32x4::splat)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transform_matches_scalar_transform() {
        let points: Vec<Vec3> = (0..7)
            .map(|i| Vec3::new(0.3 * i as f32, 1.0 - 0.7 * i as f32, 2.0 + i as f32))
            .collect();
        let matrix = Mat4::from_cols_array(&std::array::from_fn(|i| (i as f32 * 0.7).sin()));
        let four: Vec<(Vec3x4, f32x4)> = Vec3x4::of_points(&points)
            .map(|four| four.transform(&(&matrix).into()))
            .collect();
        assert_eq!(four.len(), 2, "seven points are two fours");
        for i in 0..8 {
            let expected = matrix * points[i.min(6)].extend(1.0);
            let (four, w) = &four[i / 4];
            let found = [four.x, four.y, four.z, *w].map(|lanes| lanes.to_array()[i % 4]);
            assert!(
                expected.abs_diff_eq(found.into(), 1e-5),
                "{i}: {found:?} is not {expected}"
            );
        }
    }
}
