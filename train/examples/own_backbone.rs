//! TAP around a backbone that this crate does not know.
//!
//! The backbone below takes centers by farthest-point sampling, groups the nearest points around each and keeps the
//! largest response of a small MLP. It is pre-trained for some steps on boxes of random size that are made here, with
//! pictures of 16 pixels:
//!
//! ```text
//! cargo run -p tap-train --example own_backbone
//! ```
//!
//! In an application the batches come from shards (`tap_train::loader`), and the loop is `tap_train::trainer`'s.

use tap_train::model::loss::photograph_loss;
use tap_train::model::{
    Cloud, DecoderConfig, DecoderLayer, Encoder, Mode, PhotographConfig, Rays, Tap, Tokens,
};
use tap_train::ops;
use tch::nn::{self, Module as _, OptimizerConfig as _};
use tch::{Device, Kind, Tensor, no_grad};

const NUM_TOKENS: i64 = 24;
const NUM_NEIGHBORS: i64 = 12;
const CHANNELS: i64 = 64;

const NUM_STEPS: usize = 60;
const BATCH: i64 = 8;
const NUM_POINTS: i64 = 256;
const NUM_VIEWS: i64 = 2;
const SIZE_PX: i64 = 16;
const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

/// A small PointNet over the neighbors of each center. Fields are layers of tch; anything that registers its weights at
/// the path it is given will do.
#[derive(Debug)]
struct Patches {
    hidden: nn::Linear,
    output: nn::Linear,
}

impl Patches {
    fn new(vs: &nn::Path<'_>) -> Self {
        let layer =
            |name: &str, input, output| nn::linear(vs / name, input, output, nn::LinearConfig::default());
        Self {
            // Where a neighbor is as seen from its center, and where the center is.
            hidden: layer("hidden", 6, CHANNELS),
            output: layer("output", CHANNELS, CHANNELS),
        }
    }
}

impl Encoder for Patches {
    fn tokens(&self, cloud: &Cloud, _mode: Mode) -> Tokens {
        // Coordinates carry no gradient, so neither do searches.
        let (centers, groups) = no_grad(|| {
            let centers = ops::gather(&cloud.xyz, &ops::farthest_points(&cloud.xyz, NUM_TOKENS));
            let neighbors = ops::nearest(&cloud.xyz, &centers, NUM_NEIGHBORS);
            let relative = ops::gather(&cloud.xyz, &neighbors) - centers.unsqueeze(2);
            let repeated = centers.unsqueeze(2).expand_as(&relative);
            (centers, Tensor::cat(&[relative, repeated], 3))
        });
        let responses = self.output.forward(&self.hidden.forward(&groups).relu());
        Tokens {
            features: responses.amax(2, false),
            centers,
        }
    }

    fn token_channels(&self) -> i64 {
        CHANNELS
    }

    fn global_feature(&self, cloud: &Cloud, mode: Mode) -> Tensor {
        self.tokens(cloud, mode).features.amax(1, false)
    }

    fn global_channels(&self) -> i64 {
        CHANNELS
    }
}

#[expect(clippy::print_stdout, reason = "an example shows what it does")]
fn main() {
    tch::manual_seed(0);
    let vs = nn::VarStore::new(Device::Cpu);
    // The encoder's weights belong under `encoder`: that is where fine-tuning and export look for them.
    let encoder = Patches::new(&(vs.root() / "encoder"));
    let decoder = DecoderConfig {
        layers: vec![
            DecoderLayer {
                channels: 16,
                stride: 2,
            },
            DecoderLayer {
                channels: 1,
                stride: 2,
            },
        ],
        last_bias: Some(1.0),
    };
    let photograph = PhotographConfig::mini();
    let tap = Tap::with_encoder(&vs.root(), Box::new(encoder), &photograph, &decoder);
    let mut optimizer = nn::AdamW::default()
        .build(&vs, 2e-3)
        .expect("the weights are there");
    let mut losses = Vec::new();
    for step in 1..=NUM_STEPS {
        let (cloud, rays, picture, mask) = boxes(photograph.query.grid);
        let loss = photograph_loss(
            &tap.photograph(&cloud, &rays, Mode::TRAIN),
            &picture,
            &mask,
            20.0,
            1.0,
        );
        optimizer.backward_step(&loss.total);
        losses.push(loss.total.double_value(&[]));
        if step % 10 == 0 {
            println!("step {step}: loss {:.4}", losses[step - 1]);
        }
    }
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let (first, last) = (mean(&losses[..5]), mean(&losses[NUM_STEPS - 5..]));
    println!("mean of the first five losses {first:.4}, of the last five {last:.4}");
    assert!(last < first, "the backbone learns nothing");
}

/// Points inside boxes of random size, lines through the pixels of views from random sides, and what is seen along them:
/// a gray silhouette on white.
fn boxes(grid: i64) -> (Cloud, Rays, Tensor, Tensor) {
    let size = Tensor::rand([BATCH, 1, 3], CPU) * 0.4 + 0.15;
    let xyz = (Tensor::rand([BATCH, NUM_POINTS, 3], CPU) * 2.0 - 1.0) * size;
    let height = xyz.narrow(2, 1, 1) - xyz.narrow(2, 1, 1).amin(1, true);
    let features = Tensor::cat(&[&xyz, &height], 2).transpose(1, 2);

    // Rows of a matrix are the right, up and backward axes of its view; the viewer is three units away.
    let azimuth_rad = Tensor::rand([BATCH, NUM_VIEWS], CPU) * std::f64::consts::TAU;
    let (sin, cos) = (azimuth_rad.sin(), azimuth_rad.cos());
    let (zero, one) = (sin.zeros_like(), sin.ones_like());
    let rows = [
        [&cos, &zero, &-&sin, &zero],
        [&zero, &one, &zero, &zero],
        [&sin, &zero, &cos, &(&zero - 3.0)],
        [&zero, &zero, &zero, &one],
    ];
    let rows = rows.map(|row| Tensor::stack(&row, -1));
    let view_from_object = Tensor::stack(&rows, -2);
    // Parallel lines; the unit ball fills the picture.
    let clip_from_view = Tensor::from_slice(&[
        1.0_f32, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, -0.25, -0.5, 0.0, 0.0, 0.0, 1.0,
    ]);
    let clip_from_view = clip_from_view.view([1, 1, 4, 4]).expand_as(&view_from_object);
    let rays = Rays::from_matrices(&view_from_object, &clip_from_view, grid);

    let rotation = view_from_object.narrow(2, 0, 3).narrow(3, 0, 3);
    let seen = xyz.unsqueeze(1).matmul(&rotation.transpose(2, 3));
    let pixel = |along: Tensor| ((along / 2.0 + 0.5) * SIZE_PX as f64).clamp(0.0, SIZE_PX as f64 - 1.0);
    let column = pixel(seen.select(-1, 0)).to_kind(Kind::Int64);
    let row = pixel(-seen.select(-1, 1)).to_kind(Kind::Int64);
    let covered = Tensor::zeros([BATCH, NUM_VIEWS, SIZE_PX * SIZE_PX], CPU);
    let covered = covered.scatter_value(2, &(row * SIZE_PX + column), 1.0);
    let covered = covered.view([BATCH, NUM_VIEWS, 1, SIZE_PX, SIZE_PX]);
    let picture = 1.0 - &covered * 0.5;
    (
        Cloud { xyz, features },
        rays,
        picture,
        covered.to_kind(Kind::Bool),
    )
}
