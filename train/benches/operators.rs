//! Each geometric operator beside the same by libtorch's operators alone, on one thread: a batch of 8 clouds of 1024 points.
//!
//! `torch_...` is what one writes without operators of one's own: whole tables of distances, sorted or searched.

use divan::Bencher;
use tap_train::ops::{self, ChamferNorm};
use tch::{Device, Kind, Tensor};

const BATCH: i64 = 8;
const POINTS: i64 = 1024;
const CENTERS: i64 = 512;

fn main() {
    tch::set_num_threads(1);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1);
    pool.build_global().expect("the pool is built once");
    divan::main();
}

fn cloud(num: i64) -> Tensor {
    tch::manual_seed(0);
    let normal = Tensor::randn([BATCH, num, 3], (Kind::Float, Device::Cpu));
    &normal / normal.norm_scalaropt_dim(2, [-1], true)
}

fn squared_distances(queries: &Tensor, points: &Tensor) -> Tensor {
    (queries.unsqueeze(2) - points.unsqueeze(1))
        .square()
        .sum_dim_intlist(-1, false, Kind::Float)
}

#[divan::bench]
fn farthest_points(bencher: Bencher<'_, '_>) {
    let xyz = cloud(POINTS);
    bencher.bench_local(|| ops::farthest_points(&xyz, CENTERS));
}

#[divan::bench(sample_count = 10)]
fn farthest_points_torch(bencher: Bencher<'_, '_>) {
    let xyz = cloud(POINTS);
    bencher.bench_local(|| {
        let mut distance = Tensor::full([BATCH, POINTS], 1e10, (Kind::Float, Device::Cpu));
        let mut current = Tensor::zeros([BATCH, 1], (Kind::Int64, Device::Cpu));
        let mut chosen = vec![current.shallow_clone()];
        for _ in 1..CENTERS {
            let point = xyz.gather(1, &current.unsqueeze(2).expand([-1, -1, 3], false), false);
            distance = distance.minimum(&squared_distances(&point, &xyz).squeeze_dim(1));
            current = distance.argmax(1, true);
            chosen.push(current.shallow_clone());
        }
        Tensor::cat(&chosen, 1)
    });
}

#[divan::bench]
fn ball_query(bencher: Bencher<'_, '_>) {
    let points = cloud(POINTS);
    let centers = points.narrow(1, 0, CENTERS);
    bencher.bench_local(|| ops::ball_query(&points, &centers, 0.2, 32));
}

#[divan::bench(sample_count = 10)]
fn ball_query_torch(bencher: Bencher<'_, '_>) {
    let points = cloud(POINTS);
    let centers = points.narrow(1, 0, CENTERS);
    let index = Tensor::arange(POINTS, (Kind::Int64, Device::Cpu));
    let miss = Tensor::full([1], POINTS, (Kind::Int64, Device::Cpu));
    bencher.bench_local(|| {
        let hit = squared_distances(&centers, &points).lt(0.04);
        let (found, _) = index.where_self(&hit, &miss).topk(32, -1, false, true);
        let first = found.narrow(-1, 0, 1);
        found.where_self(&found.lt(POINTS), &first)
    });
}

#[divan::bench]
fn nearest(bencher: Bencher<'_, '_>) {
    let points = cloud(POINTS);
    let centers = points.narrow(1, 0, CENTERS);
    bencher.bench_local(|| ops::nearest(&points, &centers, 24));
}

/// By the expanded square, as PointMLP's code does.
#[divan::bench(sample_count = 10)]
fn nearest_torch(bencher: Bencher<'_, '_>) {
    let points = cloud(POINTS);
    let centers = points.narrow(1, 0, CENTERS);
    bencher.bench_local(|| {
        let square = |x: &Tensor| (x * x).sum_dim_intlist(-1, true, Kind::Float);
        let squared = centers.matmul(&points.transpose(1, 2)) * -2.0
            + square(&centers)
            + square(&points).transpose(1, 2);
        squared.topk(24, -1, false, false).1
    });
}

#[divan::bench]
fn three_nearest(bencher: Bencher<'_, '_>) {
    let (points, known) = (cloud(POINTS), cloud(256));
    bencher.bench_local(|| ops::three_nearest(&known, &points).index);
}

#[divan::bench(sample_count = 10)]
fn three_nearest_torch(bencher: Bencher<'_, '_>) {
    let (points, known) = (cloud(POINTS), cloud(256));
    bencher.bench_local(|| squared_distances(&points, &known).topk(3, -1, false, true).1);
}

/// Forward and backward.
#[divan::bench]
fn gather(bencher: Bencher<'_, '_>) {
    let (index, features) = (
        ops::nearest(&cloud(POINTS), &cloud(CENTERS), 24),
        Tensor::randn([BATCH, POINTS, 64], (Kind::Float, Device::Cpu)).set_requires_grad(true),
    );
    bencher.bench_local(|| ops::gather(&features, &index).sum(Kind::Float).backward());
}

#[divan::bench(sample_count = 10)]
fn gather_torch(bencher: Bencher<'_, '_>) {
    let index = ops::nearest(&cloud(POINTS), &cloud(CENTERS), 24);
    let features = Tensor::randn([BATCH, POINTS, 64], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    bencher.bench_local(|| {
        let flat = index.view([BATCH, -1, 1]).expand([-1, -1, 64], false);
        features.gather(1, &flat, false).sum(Kind::Float).backward();
    });
}

/// Forward and backward.
#[divan::bench]
fn chamfer(bencher: Bencher<'_, '_>) {
    let (a, b) = (cloud(POINTS).set_requires_grad(true), cloud(CENTERS));
    bencher.bench_local(|| ops::chamfer(&a, &b, ChamferNorm::L2).backward());
}

#[divan::bench(sample_count = 10)]
fn chamfer_torch(bencher: Bencher<'_, '_>) {
    let (a, b) = (cloud(POINTS).set_requires_grad(true), cloud(CENTERS));
    bencher.bench_local(|| {
        let squared = squared_distances(&a, &b);
        (squared.amin(2, false).mean(Kind::Float) + squared.amin(1, false).mean(Kind::Float)).backward();
    });
}
