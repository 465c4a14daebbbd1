//! The coordinates of a batch of clouds as one array an axis (structure of arrays), so that distance loops vectorize.

use rayon::prelude::*;
use tch::{Kind, Tensor};

/// A batch of clouds, axis by axis.
pub(super) struct Planes {
    num_points: usize,
    x: Vec<f32>,
    y: Vec<f32>,
    z: Vec<f32>,
}

/// One cloud of [`Planes`].
#[derive(Clone, Copy)]
pub(super) struct Axes<'a> {
    pub(super) x: &'a [f32],
    pub(super) y: &'a [f32],
    pub(super) z: &'a [f32],
}

impl Planes {
    /// # Shapes
    /// - `xyz`: B,N,3 in `f32`, any strides
    pub(super) fn new(xyz: &Tensor) -> Self {
        let (batch, num_points, _) = size3(xyz);
        let len = (batch * num_points) as usize;
        let mut flat = vec![0f32; len * 3];
        let flat_len = flat.len();
        xyz.contiguous().copy_data(&mut flat, flat_len);
        let axis = |offset: usize| flat[offset..].iter().step_by(3).copied().collect::<Vec<f32>>();
        if len == 0 {
            return Self {
                num_points: num_points as usize,
                x: Vec::new(),
                y: Vec::new(),
                z: Vec::new(),
            };
        }
        Self {
            num_points: num_points as usize,
            x: axis(0),
            y: axis(1),
            z: axis(2),
        }
    }

    pub(super) fn cloud(&self, batch_idx: usize) -> Axes<'_> {
        let range = batch_idx * self.num_points..(batch_idx + 1) * self.num_points;
        Axes {
            x: &self.x[range.clone()],
            y: &self.y[range.clone()],
            z: &self.z[range],
        }
    }
}

impl Axes<'_> {
    pub(super) fn len(&self) -> usize {
        self.x.len()
    }

    pub(super) fn point(&self, idx: usize) -> [f32; 3] {
        [self.x[idx], self.y[idx], self.z[idx]]
    }

    /// Squared distance of every point to `from`, as (dx² + dy²) + dz² in `f32` without fused multiply-add.
    pub(super) fn squared_distances(&self, from: [f32; 3], out: &mut [f32]) {
        let [fx, fy, fz] = from;
        for (((out, &x), &y), &z) in out.iter_mut().zip(self.x).zip(self.y).zip(self.z) {
            let (dx, dy, dz) = (x - fx, y - fy, z - fz);
            *out = dx * dx + dy * dy + dz * dz;
        }
    }
}

/// Fills one row of `row_len` indices a cloud, clouds in parallel, and returns them as a B,... tensor of `shape`.
pub(super) fn index_rows(batch: i64, shape: &[i64], fill: impl Fn(usize, &mut [i64]) + Sync) -> Tensor {
    let row_len: i64 = shape.iter().product();
    let mut indices = vec![0i64; (batch * row_len) as usize];
    if row_len > 0 {
        indices
            .par_chunks_mut(row_len as usize)
            .enumerate()
            .for_each(|(batch_idx, row)| fill(batch_idx, row));
    }
    let mut size = vec![batch];
    size.extend_from_slice(shape);
    Tensor::from_slice(&indices).view(size.as_slice())
}

/// Squared distances between two clouds on any device, by differences as the kernels do it, not by expansion.
///
/// # Shapes
/// - `queries`: B,G,3; `points`: B,N,3
/// - returns B,G,N
pub(super) fn pairwise_squared_distances(queries: &Tensor, points: &Tensor) -> Tensor {
    let axis = |i: i64| {
        let difference = queries.select(-1, i).unsqueeze(2) - points.select(-1, i).unsqueeze(1);
        &difference * &difference
    };
    (axis(0) + axis(1)) + axis(2)
}

/// The three axes of rows or coordinates.
pub(super) fn size3(rows: &Tensor) -> (i64, i64, i64) {
    rows.size3().expect("rows are B,N,C")
}

/// Coordinates as the searches want them: `f32`, detached.
pub(super) fn prepared(xyz: &Tensor) -> Tensor {
    xyz.detach().to_kind(Kind::Float)
}

#[cfg(test)]
pub(super) mod tests {
    use tch::{Device, Kind, Tensor};

    /// A reproducible cloud without ties, from a fixed generator.
    pub(in crate::ops) fn cloud(batch: i64, num_points: i64, salt: u32) -> Tensor {
        let mut state = 0x9E37_79B9_u32 ^ salt;
        let values: Vec<f32> = (0..batch * num_points * 3)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / 8_388_608.0 - 1.0
            })
            .collect();
        Tensor::from_slice(&values)
            .view([batch, num_points, 3])
            .to_kind(Kind::Float)
            .to_device(Device::Cpu)
    }

    pub(in crate::ops) fn indices(tensor: &Tensor) -> Vec<i64> {
        Vec::<i64>::try_from(tensor.contiguous().view(-1)).expect("an index tensor")
    }
}
