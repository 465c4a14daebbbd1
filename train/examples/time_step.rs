//! Times a training step as `tap-train` takes it: forward, backward, clipping, `AdamW`. Prints one line of JSON.
//!
//! The counterpart of `benches/peer/step.py`, with the same arguments; `scripts/bench peer` runs both in turn.

use std::time::Instant;

use anyhow::Context as _;
use clap::Parser;
use tap_train::config::{Config, DatasetInfo, FeatureInfo, Task};
use tap_train::data::batch::{Batch, ImageFeatureBatch};
use tap_train::method;
use tap_train::model::loss::photograph_loss;
use tap_train::model::{
    Cloud, Compat, DgcnnConfig, EncoderConfig, Mode, PointMlpConfig, Rays, Tap, TapConfig,
};
use tap_train::optim::{AdamW, AdamWConfig};
use tap_train::process;
use tch::{Device, Kind, Tensor, nn};

/// Points of a cloud that TAP photographs.
const POINTS: i64 = 1024;
/// The loss of a training step.
type LossOfStep = Box<dyn Fn() -> anyhow::Result<Tensor>>;
const FLOAT: (Kind, Device) = (Kind::Float, Device::Cpu);

/// Arguments.
#[derive(Debug, Parser)]
struct Arguments {
    /// TAP: mini, point-net2, dgcnn, point-mlp or transformer; or point-mae or i2p-mae.
    #[arg(long)]
    model: String,
    /// Steps that are timed.
    #[arg(long, default_value_t = 10)]
    steps: usize,
    /// Objects of a batch.
    #[arg(long, default_value_t = 8)]
    batch: i64,
    /// Threads of torch and of rayon.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

fn config(model: &str) -> Option<TapConfig> {
    let code = |encoder| Some(TapConfig::from_compat(Compat::Code, encoder));
    match model {
        "mini" => Some(TapConfig::mini()),
        "point-net2" => code(EncoderConfig::point_net2()),
        "dgcnn" => code(EncoderConfig::Dgcnn(DgcnnConfig::default())),
        "point-mlp" => code(EncoderConfig::PointMlp(PointMlpConfig::default())),
        "transformer" => code(EncoderConfig::transformer()),
        _ => None,
    }
}

/// Points on squeezed spheres.
fn clouds(batch: i64, points: i64) -> Cloud {
    let normal = Tensor::randn([batch, points, 3], FLOAT);
    let scale = Tensor::rand([batch, 1, 3], FLOAT) * 0.5 + 0.5;
    let xyz = &normal / normal.norm_scalaropt_dim(2, [-1], true) * scale;
    let height = xyz.narrow(2, 1, 1) - xyz.narrow(2, 1, 1).amin(1, true);
    let features = Tensor::cat(&[&xyz, &height], 2).transpose(1, 2).contiguous();
    Cloud { xyz, features }
}

/// Any lines will do: what they are does not change the time.
fn rays(batch: i64, views: i64, grid: i64) -> Rays {
    let direction = Tensor::randn([batch, views, 1, 3], FLOAT);
    let direction = &direction / direction.norm_scalaropt_dim(2, [-1], true);
    let cells = [batch, views, grid * grid];
    Rays {
        origin: Tensor::rand([cells[0], cells[1], cells[2], 3], FLOAT) - 0.5,
        direction: direction.expand([-1, -1, grid * grid, -1], false),
        position: Tensor::rand([cells[0], cells[1], cells[2], 2], FLOAT),
        pose: Tensor::rand([batch, views, 9], FLOAT),
    }
}

/// Most memory that this process ever had, in MiB.
fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

/// TAP's loss of views, on a backbone.
fn photograph(vs: &nn::Path<'_>, model: &str, config: &TapConfig, batch: i64) -> LossOfStep {
    let tap = Tap::new(vs, config);
    let num_views = if model == "mini" { 4 } else { 6 };
    let (cloud, rays) = (
        clouds(batch, POINTS),
        rays(batch, num_views, config.photograph.query.grid),
    );
    let side = config.image_size_px();
    let target = Tensor::rand([batch, num_views, 1, side, side], FLOAT);
    let mask = target.lt(0.3);
    Box::new(move || {
        let images = tap.photograph(&cloud, &rays, Mode::TRAIN);
        Ok(photograph_loss(&images, &target, &mask, 20.0, 1.0).total)
    })
}

/// The loss of a masked autoencoder as it is published, where what a 2D network says of three depth images is there.
fn masked(vs: &nn::Path<'_>, model: &str, batch: i64) -> anyhow::Result<LossOfStep> {
    const VIEWS: i64 = 3;
    const CHANNELS: i64 = 512;
    let config = Config::load(
        Some(&format!("paper-{model}")),
        &[format!("pretrain.batch_size={batch}")],
    )?;
    let points = config.data.num_points as i64;
    let data = DatasetInfo {
        sha256: String::new(),
        num_rows: [batch as usize; 3],
        num_train_rows: batch as usize,
        num_views: 0,
        image_size_px: 0,
        parts_by_class: Vec::new(),
        mix: Vec::new(),
        features: (model == "i2p-mae").then(|| FeatureInfo {
            sha256: String::new(),
            num_views: VIEWS as usize,
            num_channels: CHANNELS as usize,
        }),
        ..DatasetInfo::default()
    };
    let plan = method::plan(None, &config, Task::Pretrain, 0, "", &data)?;
    let method = method::find(model)?.build(vs, &plan)?;
    let features = ImageFeatureBatch {
        maps: Tensor::randn([batch, VIEWS, 14, 14, CHANNELS], FLOAT),
        saliency: Tensor::rand([batch, VIEWS, 14, 14], FLOAT) / 196.0,
        positions: Tensor::rand([batch, VIEWS, points, 2], FLOAT),
        visible: None,
    };
    let batch = Batch {
        cloud: clouds(batch, points),
        sample_seeds: (0..batch as u64).collect(),
        labels: Tensor::zeros([batch], (Kind::Int64, Device::Cpu)),
        views: None,
        normals: None,
        part_labels: None,
        features: Some(features),
    };
    Ok(Box::new(move || {
        let counts = tch::no_grad(|| method.normalizer(&batch));
        let terms = method.terms(&batch, Mode::TRAIN).into_iter();
        let means = terms.map(|term| term.sum * (term.weight / counts.at(&term.name, 0).max(1.0)));
        means.reduce(|sum, mean| sum + mean).context("a loss has terms")
    }))
}

#[expect(clippy::print_stdout, reason = "the result of a measuring program")]
fn main() -> anyhow::Result<()> {
    process::reexec_with_environment();
    process::keep_freed_memory();
    let arguments = Arguments::parse();
    process::set_num_threads(arguments.threads);
    tch::manual_seed(0);
    let vs = nn::VarStore::new(Device::Cpu);
    let loss_of_step = match config(&arguments.model) {
        Some(config) => photograph(&vs.root(), &arguments.model, &config, arguments.batch),
        None => masked(&vs.root(), &arguments.model, arguments.batch)
            .with_context(|| format!("no model '{}'", arguments.model))?,
    };
    let mut optimizer = AdamW::new(
        AdamWConfig {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.05,
            max_grad_norm: 10.0,
        },
        vs.variables(),
    );
    let mut step = || -> anyhow::Result<f64> {
        let loss = loss_of_step()?;
        let value = loss.double_value(&[]);
        optimizer.step(&loss, 1e-3)?;
        Ok(value)
    };
    step()?;
    step()?;
    let (mut wall_s, mut cpu_s, mut loss) = (Vec::new(), Vec::new(), 0.0);
    for _ in 0..arguments.steps {
        let (wall, cpu) = (Instant::now(), process::cpu_s());
        loss = step()?;
        wall_s.push(wall.elapsed().as_secs_f64());
        cpu_s.push(process::cpu_s() - cpu);
    }
    let weights = optimizer.num_parameters();
    println!(
        "{}",
        serde_json::json!({ "wall_s": wall_s, "cpu_s": cpu_s, "peak_mib": peak_mib(), "loss": loss, "weights": weights })
    );
    Ok(())
}
