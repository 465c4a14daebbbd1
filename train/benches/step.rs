//! How fast is one training step of the mini recipe? Samples a second, on one thread of libtorch and of rayon.
//!
//! `TAP_BENCH_THREADS` sets another number of threads. The batch is that of the recipe: 8 objects, 4 views of 64 pixels.

use divan::Bencher;
use divan::counter::ItemsCount;
use tap_train::model::loss::photograph_loss;
use tap_train::model::{Cloud, Compat, EncoderConfig, Mode, Rays, Tap, TapConfig};
use tap_train::ops;
use tch::{Device, Kind, Tensor, nn};

const BATCH: i64 = 8;
const VIEWS: i64 = 4;
const POINTS: i64 = 1024;

fn main() {
    let threads = std::env::var("TAP_BENCH_THREADS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(1);
    tch::set_num_threads(threads);
    std::thread::scope(|scope| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads as usize);
        pool.build_global().expect("the pool is built once");
        scope.spawn(divan::main);
    });
}

/// Points on spheres that were squeezed at random.
fn cloud() -> Cloud {
    let options = (Kind::Float, Device::Cpu);
    let normal = Tensor::randn([BATCH, POINTS, 3], options);
    let scale = Tensor::rand([BATCH, 1, 3], options) * 0.5 + 0.5;
    let xyz = &normal / normal.norm_scalaropt_dim(2, [-1], true) * scale;
    let height = xyz.narrow(2, 1, 1) - xyz.narrow(2, 1, 1).amin(1, true);
    let features = Tensor::cat(&[&xyz, &height], 2).transpose(1, 2).contiguous();
    Cloud { xyz, features }
}

fn rays(grid: i64) -> Rays {
    let view = Tensor::eye(4, (Kind::Float, Device::Cpu)).expand([BATCH, VIEWS, 4, 4], true);
    Rays::from_matrices(&view, &view, grid)
}

fn clear(vs: &nn::VarStore) {
    for parameter in vs.trainable_variables() {
        let mut gradient = parameter.grad();
        if gradient.defined() {
            let _ = gradient.zero_();
        }
    }
}

fn step(bencher: Bencher<'_, '_>, config: &TapConfig) {
    tch::manual_seed(0);
    let vs = nn::VarStore::new(Device::Cpu);
    let tap = Tap::new(&vs.root(), config);
    let (cloud, rays) = (cloud(), rays(config.photograph.query.grid));
    let side = config.image_size_px();
    let target = Tensor::rand([BATCH, VIEWS, 1, side, side], (Kind::Float, Device::Cpu));
    let mask = target.lt(0.3);
    bencher.counter(ItemsCount::new(BATCH as usize)).bench_local(|| {
        clear(&vs);
        let image = tap.photograph(&cloud, &rays, Mode::TRAIN);
        photograph_loss(&image, &target, &mask, 20.0, 1.0)
            .total
            .backward();
    });
}

#[divan::bench]
fn tap_mini(bencher: Bencher<'_, '_>) {
    step(bencher, &TapConfig::mini());
}

#[divan::bench(sample_count = 10)]
fn tap_paper_point_net2(bencher: Bencher<'_, '_>) {
    step(
        bencher,
        &TapConfig::from_compat(Compat::Paper, EncoderConfig::point_net2()),
    );
}

/// The encoder alone, forward and backward.
#[divan::bench]
fn encoder_mini(bencher: Bencher<'_, '_>) {
    let vs = nn::VarStore::new(Device::Cpu);
    let encoder = EncoderConfig::point_net2_mini().build(&vs.root());
    let cloud = cloud();
    bencher.counter(ItemsCount::new(BATCH as usize)).bench_local(|| {
        clear(&vs);
        encoder
            .tokens(&cloud, Mode::TRAIN)
            .features
            .mean(Kind::Float)
            .backward();
    });
}

/// The searches of the mini encoder: 512 farthest points of 1024, two sets of neighbors.
#[divan::bench]
fn searches_mini(bencher: Bencher<'_, '_>) {
    let cloud = cloud();
    bencher.counter(ItemsCount::new(BATCH as usize)).bench_local(|| {
        let points = ops::gather(&cloud.xyz, &ops::farthest_points(&cloud.xyz, 512));
        let centers = points.narrow(1, 0, 128);
        let first = ops::nearest_within(&points, &centers, 0.2, 16);
        (
            first,
            ops::nearest_within(&centers, &centers.narrow(1, 0, 32), 0.4, 16),
        )
    });
}
