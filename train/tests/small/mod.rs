//! What the tests of training share: a small network, a turn at torch's generator, a run up to some step.

#![allow(dead_code, reason = "each test program uses its own part of this")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tap_train::config::Config;
use tap_train::engine::trainer::RunOptions;
use tap_train::method::{MethodKind, find};
use tap_train::ranks::Ranks;
use tap_train::run::Existing;
use tap_train::run::event::TrainEvent;
use tap_train::task::pretrain::{PretrainResult, pretrain_with};
use tap_train::weights::safetensors::write_tensors;
use tch::{Device, Kind, Tensor};

/// torch's generator belongs to the process, so runs whose numbers are compared take turns.
static TURN: Mutex<()> = Mutex::new(());

/// Waits for its turn. One thread is quicker than many for networks this small.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    tch::set_num_threads(1);
    turn
}

/// A small network for images of 16 pixels, in batches of four.
pub(crate) const NETWORK: [&str; 8] = [
    "data.num_points=64",
    "data.num_views=2",
    "photograph.channels=16",
    "photograph.query.grid=2",
    "decoder.layers=[{channels=8,stride=2},{channels=4,stride=2},{channels=1,stride=2}]",
    "encoder.stages=[{num_centers=16,radius=0.4,num_neighbors=8,widths=[8,8]},{num_centers=8,radius=0.8,num_neighbors=4,widths=[16]}]",
    "encoder.last={kind=\"per_token\",widths=[16]}",
    "pretrain.batch_size=4",
];
/// A network for the tests of all: the preset that it starts from, and its own settings.
pub(crate) struct Backbone {
    pub(crate) name: &'static str,
    pub(crate) preset: &'static str,
    pub(crate) settings: &'static [&'static str],
}

/// Every backbone that there is.
pub(crate) const BACKBONES: [Backbone; 7] = [
    Backbone {
        name: "point_net2",
        preset: "mini",
        settings: &[
            "encoder.stages=[{num_centers=16,radius=0.4,num_neighbors=8,widths=[8,8]},{num_centers=8,radius=0.8,num_neighbors=4,widths=[16]}]",
            "encoder.last={kind='per_token',widths=[16]}",
            "encoder.num_points=48",
        ],
    },
    Backbone {
        name: "transformer",
        preset: "mini",
        settings: &[
            "encoder={kind='transformer',num_groups=8,num_neighbors=8,group_widths=[16,32],group_channels=24,channels=32,num_blocks=2,num_heads=2,radius=0.6}",
        ],
    },
    Backbone {
        name: "point_mlp",
        preset: "mini",
        settings: &[
            "encoder={kind='point_mlp',channels=8,bottleneck=0.5,stages=[{reduction=2,num_neighbors=8,expansion=2,num_pre_blocks=2,num_pos_blocks=1},{reduction=4,num_neighbors=6,expansion=2,num_pre_blocks=1,num_pos_blocks=2}]}",
        ],
    },
    Backbone {
        name: "dgcnn",
        preset: "mini",
        settings: &["encoder={kind='dgcnn',num_points=32,num_neighbors=6,widths=[8,12,16],channels=24}"],
    },
    Backbone {
        name: "point_next",
        preset: "mini",
        settings: &[
            "encoder={kind='point_next',width=8,blocks=[1,3],radius=0.4,num_neighbors=8,expansion=2}",
        ],
    },
    Backbone {
        name: "point_mae",
        preset: "mini-point-mae",
        settings: &[
            "encoder.num_groups=10",
            "encoder.num_neighbors=12",
            "encoder.group_widths=[16,32]",
            "encoder.channels=32",
            "encoder.num_blocks=3",
            "encoder.num_heads=2",
        ],
    },
    Backbone {
        name: "point_m2ae",
        preset: "mini-point-m2ae",
        settings: &[
            "encoder.levels=[{num_groups=32,num_neighbors=8,channels=16,num_blocks=1},{num_groups=16,num_neighbors=4,channels=24,num_blocks=2},{num_groups=8,num_neighbors=3,channels=32,num_blocks=1}]",
            "encoder.group_widths=[16,32]",
            "encoder.num_heads=2",
        ],
    },
];

impl Backbone {
    /// The settings of the small network with this backbone, and those of a run before its own.
    pub(crate) fn settings<'a>(&self, of_run: &'a [&'a str]) -> Vec<&'a str> {
        // What is no encoder's is the method's: views for TAP alone.
        let of_run = NETWORK.iter().chain(of_run).copied();
        let of_run = of_run.filter(|setting| !setting.starts_with("encoder"));
        let is_tap = self.preset == "mini";
        let of_run = of_run.filter(|setting| {
            let of_views = ["photograph", "decoder", "data.num_views"];
            is_tap || !of_views.iter().any(|prefix| setting.starts_with(prefix))
        });
        of_run.chain(self.settings.iter().copied()).collect()
    }
}

/// Writes a random ViT with patches of 32 pixels under timm's names; its positions get `bias` on top.
pub(crate) fn write_teacher(folder: &Path, bias: f64) -> PathBuf {
    const CHANNELS: i64 = 64;
    tch::manual_seed(5);
    let draw = |size: &[i64]| {
        let fan = size.iter().skip(1).product::<i64>().max(1) as f64;
        Tensor::randn(size, (Kind::Float, Device::Cpu)) / fan.sqrt()
    };
    let mut tensors = vec![
        (String::from("cls_token"), draw(&[1, 1, CHANNELS])),
        (String::from("pos_embed"), draw(&[1, 50, CHANNELS]) + bias),
        (
            String::from("patch_embed.proj.weight"),
            draw(&[CHANNELS, 3, 32, 32]),
        ),
        (String::from("patch_embed.proj.bias"), draw(&[CHANNELS])),
    ];
    let mut layer = |name: &str, size: &[i64]| {
        tensors.push((format!("{name}.weight"), draw(size)));
        tensors.push((format!("{name}.bias"), draw(&size[..1])));
    };
    for block in ["blocks.0", "blocks.1"] {
        layer(&format!("{block}.attn.qkv"), &[3 * CHANNELS, CHANNELS]);
        layer(&format!("{block}.attn.proj"), &[CHANNELS, CHANNELS]);
        layer(&format!("{block}.mlp.fc1"), &[2 * CHANNELS, CHANNELS]);
        layer(&format!("{block}.mlp.fc2"), &[CHANNELS, 2 * CHANNELS]);
    }
    for norm in [
        "blocks.0.norm1",
        "blocks.0.norm2",
        "blocks.1.norm1",
        "blocks.1.norm2",
        "norm",
    ] {
        let ones = Tensor::ones([CHANNELS], (Kind::Float, Device::Cpu));
        tensors.push((format!("{norm}.weight"), ones));
        tensors.push((format!("{norm}.bias"), draw(&[CHANNELS])));
    }
    let file = folder.join("teacher.safetensors");
    write_tensors(&file, tensors, &BTreeMap::new()).unwrap();
    file
}

/// A short run with checkpoints on its way.
const SETTINGS: [&str; 2] = ["pretrain.steps=12", "log={checkpoint_every=4,validate_every=6}"];

/// That network, with what a test program sets for all its tests, and one test on top.
pub(crate) fn config(of_program: &[&str], of_test: &[&str]) -> Config {
    let settings: Vec<String> = [&NETWORK[..], &SETTINGS, of_program, of_test]
        .into_iter()
        .flatten()
        .map(|&setting| setting.to_owned())
        .collect();
    Config::load(Some("mini"), &settings).unwrap()
}

pub(crate) fn options(data: &Path, out: PathBuf, existing: Existing, loader_threads: usize) -> RunOptions {
    RunOptions {
        data: data.to_owned(),
        out,
        existing,
        device: Device::Cpu,
        loader_threads,
        num_threads: 1,
        continue_from: None,
        ranks: Ranks::default(),
    }
}

/// Runs until the end, or until the step at which it is cancelled; step and loss of each.
pub(crate) fn run(
    config: &Config,
    options: &RunOptions,
    stop_at: u64,
) -> (Option<PretrainResult>, Vec<(u64, f64)>) {
    run_with(find(&config.method.kind).unwrap(), config, options, stop_at)
}

/// The same by a method that configurations cannot name.
pub(crate) fn run_with(
    method: &dyn MethodKind,
    config: &Config,
    options: &RunOptions,
    stop_at: u64,
) -> (Option<PretrainResult>, Vec<(u64, f64)>) {
    let cancel = AtomicBool::new(false);
    let mut losses = Vec::new();
    let result = pretrain_with(method, config, options, None, &cancel, &mut |event| {
        if let TrainEvent::Recorded(record) = event
            && record.is_step()
        {
            losses.push((record.step, record.get("loss")));
            if record.step == stop_at {
                cancel.store(true, Ordering::Relaxed);
            }
        }
    });
    (result.unwrap(), losses)
}

/// The same on the data and in the folder that are given, with one loader thread.
pub(crate) fn run_in(
    config: &Config,
    data: &Path,
    out: &Path,
    existing: Existing,
    stop_at: u64,
) -> (Option<PretrainResult>, Vec<(u64, f64)>) {
    run(config, &options(data, out.to_owned(), existing, 1), stop_at)
}
