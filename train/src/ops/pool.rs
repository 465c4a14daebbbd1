//! Maximum pooling over groups of rows, channel by channel, without gathering the groups.

use tch::{Device, Kind, Tensor, no_grad};

use super::gather;
use super::plane::{index_rows, size3};

/// What `gather(rows, index)` followed by the maximum over each group gives, at a fraction of the memory; the gradient
/// goes to the first of equal maxima.
///
/// # Shapes
/// - `rows`: B,N,C
/// - `index`: B,G,K of `i64` in 0..N, K ≥ 1
/// - returns B,G,C
pub fn gather_max(rows: &Tensor, index: &Tensor) -> Tensor {
    if rows.device() == Device::Cpu {
        rows.gather(1, &no_grad(|| winners(rows, index)), false)
    } else {
        gather(rows, index).max_dim(2, false).0
    }
}

/// Which row of the cloud is the largest of each group.
///
/// # Shapes
/// - returns B,G,C of `i64`
fn winners(rows: &Tensor, index: &Tensor) -> Tensor {
    let (batch, num_rows, channels) = size3(rows);
    let (_, num_groups, group_size) = size3(index);
    let (num_rows, width, group_size) = (num_rows as usize, channels as usize, group_size as usize);
    let mut values = vec![0_f32; rows.numel()];
    let mut members = vec![0_i64; index.numel()];
    let (num_values, num_members) = (values.len(), members.len());
    rows.to_kind(Kind::Float)
        .contiguous()
        .copy_data(&mut values, num_values);
    index.contiguous().copy_data(&mut members, num_members);
    index_rows(batch, &[num_groups, channels], |batch_idx, out| {
        let rows = &values[batch_idx * num_rows * width..][..num_rows * width];
        let row = |idx: i64| &rows[idx as usize * width..][..width];
        let groups = &members[batch_idx * num_groups as usize * group_size..];
        let (mut best, mut winner) = (vec![0_f32; width], vec![0_i32; width]);
        for (group, out) in groups.chunks_exact(group_size).zip(out.chunks_exact_mut(width)) {
            best.copy_from_slice(row(group[0]));
            winner.fill(group[0] as i32);
            for &member in &group[1..] {
                for ((best, winner), &value) in best.iter_mut().zip(&mut winner).zip(row(member)) {
                    let is_larger = value > *best;
                    *best = if is_larger { value } else { *best };
                    *winner = if is_larger { member as i32 } else { *winner };
                }
            }
            for (out, &winner) in out.iter_mut().zip(&winner) {
                *out = i64::from(winner);
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::plane::tests::cloud;
    use super::*;

    #[test]
    fn values_and_gradients_are_those_of_gathering() {
        let index = Tensor::from_slice(&[0_i64, 3, 3, 9, 1, 2, 4, 4, 4, 8, 7, 6]).view([2, 2, 3]);
        let run = |pool: &dyn Fn(&Tensor) -> Tensor| {
            let rows = cloud(2, 10, 4).set_requires_grad(true);
            let pooled = pool(&rows);
            (&pooled * &pooled).sum(Kind::Float).backward();
            (pooled.detach(), rows.grad())
        };
        let (values, gradient) = run(&|rows| gather_max(rows, &index));
        let (expected, expected_gradient) = run(&|rows| gather(rows, &index).max_dim(2, false).0);
        assert!(values.equal(&expected), "values");
        assert!(gradient.equal(&expected_gradient), "gradient");
    }
}
