//! Chamfer distance between two sets of points (`docs/method.md`, "Chamfer distance").

use serde::{Deserialize, Serialize};
use tch::{Tensor, no_grad};

use super::{gather, nearest};

/// Norm of the distance from a point to the nearest one of the other set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChamferNorm {
    /// Half the sum of both mean distances.
    L1,
    /// The sum of both mean squared distances.
    L2,
}

/// Every point of each set to the nearest of the other, averaged over points and clouds.
///
/// The search carries no gradient; the distance to what it found does, through [`gather()`]. A point that lies exactly
/// on its neighbor has no direction to go, so its gradient is zero (the square root's own would not be a number).
///
/// # Shapes
/// - `a`: B,N,3; `b`: B,M,3
/// - returns a scalar
pub fn chamfer(a: &Tensor, b: &Tensor, norm: ChamferNorm) -> Tensor {
    let one_way = |from: &Tensor, to: &Tensor| {
        let index = no_grad(|| nearest(to, from, 1).squeeze_dim(-1));
        let difference = from - gather(to, &index);
        let squared = (&difference * &difference).sum_dim_intlist(-1, false, None);
        match norm {
            ChamferNorm::L2 => squared.mean(None),
            ChamferNorm::L1 => root(&squared).mean(None) * 0.5,
        }
    };
    one_way(a, b) + one_way(b, a)
}

/// Square root with a gradient of zero at zero.
fn root(squared: &Tensor) -> Tensor {
    let is_positive = squared.gt(0.0);
    let safe = squared.where_self(&is_positive, &squared.ones_like());
    safe.sqrt() * is_positive.to_kind(squared.kind())
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::super::plane::tests::cloud;
    use super::*;

    /// By all pairs, with libtorch's operators alone.
    fn by_all_pairs(a: &Tensor, b: &Tensor, norm: ChamferNorm) -> Tensor {
        let squared = (a.unsqueeze(2) - b.unsqueeze(1))
            .square()
            .sum_dim_intlist(-1, false, Kind::Float);
        let nearest = [squared.amin(2, false), squared.amin(1, false)];
        let mean = |x: &Tensor| match norm {
            ChamferNorm::L1 => x.sqrt().mean(Kind::Float) * 0.5,
            ChamferNorm::L2 => x.mean(Kind::Float),
        };
        mean(&nearest[0]) + mean(&nearest[1])
    }

    #[test]
    fn value_and_gradient_are_those_of_all_pairs() {
        for norm in [ChamferNorm::L1, ChamferNorm::L2] {
            let run = |distance: &dyn Fn(&Tensor, &Tensor, ChamferNorm) -> Tensor| {
                let (a, b) = (
                    cloud(2, 40, 1).set_requires_grad(true),
                    cloud(2, 33, 2).set_requires_grad(true),
                );
                let value = distance(&a, &b, norm);
                value.backward();
                (value, a.grad(), b.grad())
            };
            let (got, expected) = (run(&chamfer), run(&by_all_pairs));
            for (got, expected) in [
                (&got.0, &expected.0),
                (&got.1, &expected.1),
                (&got.2, &expected.2),
            ] {
                assert!(got.allclose(expected, 1e-5, 1e-7, false), "{norm:?}");
            }
        }
    }

    #[test]
    fn equal_sets_are_at_distance_zero_with_a_finite_gradient() {
        for norm in [ChamferNorm::L1, ChamferNorm::L2] {
            let a = cloud(1, 10, 1).set_requires_grad(true);
            let value = chamfer(&a, &cloud(1, 10, 1), norm);
            value.backward();
            assert!(value.double_value(&[]).abs() < 1e-9, "{norm:?}: no distance");
            assert!(
                a.grad().isfinite().all().int64_value(&[]) == 1,
                "{norm:?}: a finite gradient"
            );
        }
    }
}
