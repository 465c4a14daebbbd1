//! Times a training step as `tap-train` takes it: forward, backward, clipping, `AdamW`. Prints one line of JSON.
//!
//! The counterpart of `benches/peer/step.py`, with the same arguments; `scripts/bench peer` runs both in turn.

use std::time::Instant;

use anyhow::Context as _;
use clap::Parser;
use tap_train::model::loss::photograph_loss;
use tap_train::model::{
    Cloud, Compat, DgcnnConfig, EncoderConfig, Mode, PointMlpConfig, Rays, Tap, TapConfig,
};
use tap_train::optim::{AdamW, AdamWConfig};
use tap_train::process;
use tch::{Device, Kind, Tensor, nn};

/// Points of a cloud.
const POINTS: i64 = 1024;
const FLOAT: (Kind, Device) = (Kind::Float, Device::Cpu);

/// Arguments.
#[derive(Debug, Parser)]
struct Arguments {
    /// mini, point-net2, dgcnn, point-mlp or transformer.
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
fn clouds(batch: i64) -> Cloud {
    let normal = Tensor::randn([batch, POINTS, 3], FLOAT);
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

#[expect(clippy::print_stdout, reason = "the result of a measuring program")]
fn main() -> anyhow::Result<()> {
    process::reexec_with_environment();
    process::keep_freed_memory();
    let arguments = Arguments::parse();
    process::set_num_threads(arguments.threads);
    tch::manual_seed(0);
    let config = config(&arguments.model).with_context(|| format!("no model '{}'", arguments.model))?;
    let vs = nn::VarStore::new(Device::Cpu);
    let tap = Tap::new(&vs.root(), &config);
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
    let batch = arguments.batch;
    let num_views = if arguments.model == "mini" { 4 } else { 6 };
    let (cloud, rays) = (
        clouds(batch),
        rays(batch, num_views, config.photograph.query.grid),
    );
    let side = config.image_size_px();
    let target = Tensor::rand([batch, num_views, 1, side, side], FLOAT);
    let mask = target.lt(0.3);
    let mut step = || -> anyhow::Result<f64> {
        let images = tap.photograph(&cloud, &rays, Mode::TRAIN);
        let loss = photograph_loss(&images, &target, &mask, 20.0, 1.0).total;
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
