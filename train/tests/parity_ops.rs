//! The operators against the reference's numbers, and their gradients against finite differences.
//!
//! Searches, interpolation and learning rates are compared in `parity.rs`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::path::PathBuf;

use tap_train::ops::{self, ChamferNorm};
use tch::{Device, Kind, Tensor};

/// The reference's tensors: of the folder that `TAP_PARITY_DIR` names, or the committed ones.
fn reference() -> HashMap<String, Tensor> {
    let committed = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/parity/chamfer.safetensors");
    let path = std::env::var_os("TAP_PARITY_DIR")
        .map_or_else(committed, |folder| PathBuf::from(folder).join("pure.safetensors"));
    Tensor::read_safetensors(path).unwrap().into_iter().collect()
}

#[test]
fn chamfer_distances_of_given_sets() {
    let reference = reference();
    let (a, b) = (&reference["chamfer.a"], &reference["chamfer.b"]);
    for (name, norm) in [("chamfer.l1", ChamferNorm::L1), ("chamfer.l2", ChamferNorm::L2)] {
        let expected = reference[name].double_value(&[0]);
        let got = ops::chamfer(a, b, norm).double_value(&[]);
        assert!(
            (got / expected - 1.0).abs() < 1e-6,
            "{name}: {got} and {expected}"
        );
    }
}

fn cloud(batch: i64, num: i64, channels: i64) -> Tensor {
    Tensor::rand([batch, num, channels], (Kind::Double, Device::Cpu)) * 2.0 - 1.0
}

/// Some derivatives of `scalar` at `at`, against differences of two values.
fn assert_gradient(what: &str, at: &Tensor, scalar: &dyn Fn(&Tensor) -> Tensor) {
    const STEP: f64 = 1e-5;
    let leaf = at.copy().set_requires_grad(true);
    scalar(&leaf).backward();
    let gradient = leaf.grad().reshape([-1]);
    let (flat, size) = (at.reshape([-1]), at.size());
    for place in (0..flat.size()[0]).step_by(7) {
        let moved = |by: f64| {
            let moved = flat.copy();
            let _ = moved.narrow(0, place, 1).g_add_scalar_(by);
            scalar(&moved.view(size.as_slice())).double_value(&[])
        };
        let expected = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
        let got = gradient.double_value(&[place]);
        assert!(
            (got - expected).abs() < 1e-5 * expected.abs().max(1.0),
            "{what}, number {place}: {got} and by differences {expected}"
        );
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    tch::manual_seed(3);
    let (points, others, features) = (cloud(2, 20, 3), cloud(2, 15, 3), cloud(2, 20, 5));
    for norm in [ChamferNorm::L1, ChamferNorm::L2] {
        assert_gradient("chamfer, first set", &points, &|points| {
            ops::chamfer(points, &others, norm)
        });
        assert_gradient("chamfer, second set", &others, &|others| {
            ops::chamfer(&points, others, norm)
        });
    }
    // Grouping: positions relative to a center that is a point of the cloud itself, and features.
    let neighbors = ops::ball_query(&points, &points.narrow(1, 0, 6), 1.0, 8);
    assert_gradient("relative positions of a group", &points, &|points| {
        let relative = ops::gather(points, &neighbors) - points.narrow(1, 0, 6).unsqueeze(2);
        (&relative * &relative * &relative).sum(Kind::Double)
    });
    assert_gradient("features of a group", &features, &|features| {
        ops::gather(features, &neighbors).sin().sum(Kind::Double)
    });
    assert_gradient("the largest of a group", &features, &|features| {
        ops::gather(features, &neighbors)
            .amax(2, false)
            .square()
            .sum(Kind::Double)
    });
    // A masked autoencoder: the visible groups of a cloud, and the loss of groups against true ones.
    let visible = Tensor::from_slice(&[1_i64, 4, 5, 0, 2, 19]).view([2, 3]);
    assert_gradient("visible tokens", &features, &|features| {
        ops::gather(features, &visible).square().sum(Kind::Double)
    });
    let (rebuilt, truth) = (cloud(6, 5, 3), cloud(6, 8, 3));
    for norm in [ChamferNorm::L1, ChamferNorm::L2] {
        assert_gradient("groups of another size", &rebuilt, &|rebuilt| {
            ops::chamfer(rebuilt, &truth, norm) * 6.0
        });
    }
    let maps = cloud(2, 3 * 4 * 6, 5).view([2, 3, 4, 6, 5]);
    let positions = Tensor::rand([2, 3, 9, 2], (Kind::Double, Device::Cpu));
    assert_gradient("sampled maps", &maps, &|maps| {
        ops::sample_bicubic(maps, &positions).sin().sum(Kind::Double)
    });
    let nearest = ops::three_nearest(&points, &others);
    assert_gradient("interpolated features", &features, &|features| {
        ops::interpolate(features, &nearest).square().sum(Kind::Double)
    });
}

#[test]
fn gradients_agree_with_those_of_torch() {
    tch::manual_seed(4);
    let (features, points, others) = (cloud(2, 20, 5), cloud(2, 20, 3), cloud(2, 15, 3));
    let index = ops::nearest(&points, &others, 4);
    let gradient = |gather: &dyn Fn(&Tensor) -> Tensor| {
        let leaf = features.copy().set_requires_grad(true);
        gather(&leaf).sin().sum(Kind::Double).backward();
        leaf.grad()
    };
    let ours = gradient(&|features| ops::gather(features, &index));
    let torch = gradient(&|features| {
        let index = index.view([2, -1, 1]).expand([-1, -1, 5], false);
        features.gather(1, &index, false)
    });
    assert!(ours.allclose(&torch, 1e-12, 1e-12, false), "the same sums");
}
