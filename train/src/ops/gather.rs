//! Rows of a batch by index: the one primitive that gradients flow through.

use tch::{Kind, Tensor};

use super::plane::size3;

/// Rows `index` of each cloud; the gradient scatters back by addition.
///
/// # Shapes
/// - `rows`: B,N,C
/// - `index`: B,... of `i64` in 0..N
/// - returns B,...,C
pub fn gather(rows: &Tensor, index: &Tensor) -> Tensor {
    let (batch, num_rows, channels) = size3(rows);
    let mut size = index.size();
    let mut offset_size = vec![1; size.len()];
    offset_size[0] = batch;
    let offset = Tensor::arange(batch, (Kind::Int64, rows.device())).view(offset_size.as_slice()) * num_rows;
    let flat = (index + offset).view(-1);
    size.push(channels);
    rows.reshape([batch * num_rows, channels])
        .index_select(0, &flat)
        .view(size.as_slice())
}

#[cfg(test)]
mod tests {
    use super::super::plane::tests::cloud;
    use super::*;

    #[test]
    fn picks_rows_of_each_cloud_and_adds_gradients() {
        let rows = cloud(2, 5, 9).set_requires_grad(true);
        let index = Tensor::from_slice(&[4i64, 0, 4, 1, 1, 1]).view([2, 3]);
        let picked = gather(&rows, &index);
        assert_eq!(picked.size(), [2, 3, 3], "one row an index");
        assert!(
            picked.get(1).get(2).equal(&rows.get(1).get(1)),
            "the second cloud's own row 1"
        );
        picked.sum(Kind::Float).backward();
        let counts = rows.grad().select(2, 0);
        let expected =
            Tensor::from_slice(&[1.0f32, 0.0, 0.0, 0.0, 2.0, 0.0, 3.0, 0.0, 0.0, 0.0]).view([2, 5]);
        assert!(
            counts.equal(&expected),
            "the gradient counts how often a row was taken"
        );
    }
}
