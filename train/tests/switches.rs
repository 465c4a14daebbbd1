//! Switches of model, loss and optimization on real shards: each one trains, and a run with all of them resumes exactly.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shape;
mod small;

use std::collections::BTreeMap;
use std::path::Path;

use tap_train::config::{Config, DatasetInfo, Task};
use tap_train::method;
use tap_train::model::loss::{
    PhotographWeights, PixelDistance, photograph_loss_of_micro_batch, pixel_counts,
};
use tap_train::model::{Cloud, Mode, Rays, Tap, TapConfig, Vgg};
use tap_train::optim::{AdamW, AdamWConfig};
use tap_train::run::Existing;
use tap_train::task::pretrain::PretrainResult;
use tap_train::weights::safetensors::write_tensors;
use tch::{Device, Kind, Tensor, nn};

use small::turn;

/// Fast learning, and clouds that stand as their images do.
const SETTINGS: [&str; 3] = [
    "pretrain.learning_rate=5e-3",
    "pretrain.rotate_y=false",
    "log.num_images=0",
];

fn config(more: &[&str]) -> Config {
    small::config(&SETTINGS, more)
}

/// Runs until the end or `stop_at`; the loss of each step.
fn run(
    config: &Config,
    data: &Path,
    out: &Path,
    existing: Existing,
    stop_at: u64,
) -> (Option<PretrainResult>, Vec<f64>) {
    let (result, losses) = small::run_in(config, data, out, existing, stop_at);
    (result, losses.into_iter().map(|(_, loss)| loss).collect())
}

fn mean(losses: &[f64]) -> f64 {
    losses.iter().sum::<f64>() / losses.len() as f64
}

/// VGG16 as far as the perceptual loss needs it, with random weights.
fn write_vgg(path: &Path) {
    tch::manual_seed(0);
    let mut tensors = Vec::new();
    for (place, input, output) in Vgg::CONVOLUTIONS {
        let scale = (2.0 / (9 * input) as f64).sqrt();
        let weight = Tensor::randn([output, input, 3, 3], (Kind::Float, Device::Cpu)) * scale;
        let bias = Tensor::zeros([output], (Kind::Float, Device::Cpu));
        tensors.push((format!("features.{place}.weight"), weight));
        tensors.push((format!("features.{place}.bias"), bias));
    }
    write_tensors(path, tensors, &BTreeMap::new()).unwrap();
}

#[test]
fn every_kind_of_switch_trains() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    shape::write(&data, 3, 16, 96);
    let plain = [
        "pretrain.steps=40",
        "pretrain.warmup=0",
        "photograph.ray_bias=false",
        "photograph.pad_token=false",
        "photograph.head_channels=8",
        "photograph.query_hidden=8",
    ];
    let switches: [(&str, &[&str]); 15] = [
        ("as it is", &[]),
        ("projection", &["photograph.mixing=projection"]),
        ("self-attention", &["photograph.mixing=self_attention"]),
        ("pad token", &["photograph.pad_token=true"]),
        ("queries from the pose", &["photograph.query.source=pose"]),
        ("no origin", &["photograph.query.components={origin=false}"]),
        (
            "position alone",
            &["photograph.query.components={origin=false,direction=false}"],
        ),
        ("extent of the points", &["photograph.query.origin=point_extent"]),
        (
            "drop path and dropout",
            &["photograph.drop_path=0.1", "photograph.dropout=0.1"],
        ),
        (
            "ray bias, fixed",
            &["photograph.ray_bias={distance=[3,10],depth=[0,2],is_fixed=true}"],
        ),
        (
            "half of the tokens",
            &["photograph.token_keep=0.5", "photograph.pad_token=true"],
        ),
        ("images in color", &["data.color=true"]),
        ("absolute differences", &["loss.pixel_distance=absolute"]),
        ("in micro-batches", &["pretrain.accumulate=2"]),
        ("bf16", &["pretrain.bf16=true"]),
    ];
    let mut curves: Vec<(&str, Vec<f64>)> = Vec::new();
    for (i, (name, switch)) in switches.into_iter().enumerate() {
        let config = config(&[&plain, switch].concat());
        let out = folder.path().join(format!("run-{i}"));
        let (_, losses) = run(&config, &data, &out, Existing::Refuse, u64::MAX);
        let (first, last) = (mean(&losses[..4]), mean(&losses[36..]));
        assert!(last < 0.9 * first, "{name}: the loss goes from {first} to {last}");
        for (other, curve) in &curves {
            assert_ne!(*curve, losses, "{name} and {other} are the same run");
        }
        curves.push((name, losses));
    }
    let of = |wanted: &str| &curves.iter().find(|(name, _)| *name == wanted).unwrap().1;
    let (exact, rough) = (of("as it is"), of("bf16"));
    assert!(
        (exact[0] / rough[0] - 1.0).abs() < 0.02,
        "bf16 starts close: {} and {}",
        exact[0],
        rough[0]
    );
}

#[test]
fn the_perceptual_loss_trains_alone_and_beside_pixels() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let (data, vgg) = (folder.path().join("data"), folder.path().join("vgg.safetensors"));
    shape::write(&data, 3, 16, 96);
    write_vgg(&vgg);
    let network = format!("loss.perceptual_network={}", vgg.display());
    let alone = ["loss.foreground_weight=0", "loss.background_weight=0"];
    for (name, weights) in [("alone", &alone[..]), ("beside", &[])] {
        let more = [
            &[network.as_str(), "loss.perceptual_weight=2", "pretrain.steps=16"],
            weights,
        ]
        .concat();
        let out = folder.path().join(name);
        let (result, losses) = run(&config(&more), &data, &out, Existing::Refuse, u64::MAX);
        assert!(
            result.is_some() && losses.iter().all(|loss| loss.is_finite()),
            "{losses:?}"
        );
        assert!(mean(&losses[12..]) < mean(&losses[..4]), "{name}: {losses:?}");
    }
    let error = method::plan(
        None,
        &config(&["loss.perceptual_weight=2"]),
        Task::Pretrain,
        0,
        "none",
        &dataset_info(16),
    )
    .unwrap_err();
    assert!(error.to_string().contains("perceptual_network"), "{error}");
}

#[test]
fn a_batch_in_parts_takes_the_step_of_the_whole() {
    let _turn = turn();
    let float = (Kind::Float, Device::Cpu);
    let mut model = TapConfig::mini();
    model.photograph.query.grid = 2;
    tch::manual_seed(5);
    let xyz = Tensor::rand([4, 1024, 3], float) - 0.5;
    let features = Tensor::cat(&[&xyz, &(xyz.narrow(2, 1, 1) + 0.5)], 2).transpose(1, 2);
    let matrices = Tensor::eye(4, float).expand([4, 2, 4, 4], false);
    let target = Tensor::rand([4, 2, 1, 32, 32], float);
    // Objects of different size, so that means over the pixels of a part are not those of the batch.
    let mask = target.lt_tensor(&Tensor::from_slice(&[0.1f32, 0.9, 0.3, 0.5]).view([4, 1, 1, 1, 1]));
    let weights = PhotographWeights {
        foreground: 20.0,
        background: 1.0,
        distance: PixelDistance::Squared,
    };
    let counts = pixel_counts(&mask, 1);
    let run = |num_micro_batches: i64| {
        tch::manual_seed(0);
        let vs = nn::VarStore::new(Device::Cpu);
        let tap = Tap::new(&vs.root(), &model);
        let config = AdamWConfig {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.05,
            max_grad_norm: 10.0,
        };
        let mut optimizer = AdamW::new(config, vs.variables());
        let rows = 4 / num_micro_batches;
        let mut norm = 0.0;
        for start in (0..4).step_by(rows as usize) {
            let of = |tensor: &Tensor| tensor.narrow(0, start, rows);
            let cloud = Cloud {
                xyz: of(&xyz),
                features: of(&features),
            };
            let rays = Rays::from_matrices(&of(&matrices), &of(&matrices), 2);
            // Statistics of a batch are those of a micro-batch, so the batch norms use the running ones here.
            let images = tap.photograph(&cloud, &rays, Mode::EVAL);
            let loss = photograph_loss_of_micro_batch(&images, &of(&target), &of(&mask), counts, weights);
            if start + rows < 4 {
                optimizer.accumulate(&loss.total).unwrap();
            } else {
                norm = optimizer.step(&loss.total, 1e-3).unwrap();
            }
        }
        let moments: BTreeMap<String, Tensor> = optimizer.state().into_iter().collect();
        (norm, moments)
    };
    let ((norm, whole), (norm_in_parts, parts)) = (run(1), run(2));
    assert!(
        (norm / norm_in_parts - 1.0).abs() < 1e-4,
        "{norm} and {norm_in_parts}"
    );
    for (name, moment) in &whole {
        let difference = (moment - &parts[name]).norm().double_value(&[]);
        let size = moment.norm().double_value(&[]);
        assert!(
            difference <= 1e-3 * size + 1e-9,
            "{name}: off by {difference} of {size}"
        );
    }
}

#[test]
fn a_run_with_everything_on_resumes_exactly() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    shape::write(&data, 6, 16, 96);
    let config = config(&[
        "pretrain.accumulate=2",
        "pretrain.ema_decay=0.9",
        "pretrain.bf16=true",
        "pretrain.max_grad_norm=0.1",
        "photograph.dropout=0.1",
        "photograph.drop_path=0.2",
        "photograph.token_keep=0.5",
    ]);
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    let (unbroken, losses) = run(&config, &data, &a, Existing::Refuse, u64::MAX);
    let (interrupted, _) = run(&config, &data, &b, Existing::Refuse, 7);
    assert!(interrupted.is_none(), "there is no result yet");
    // As if killed: back to the checkpoint before.
    std::fs::remove_dir_all(b.join("checkpoints/step-0000000007")).unwrap();
    let (resumed, again) = run(&config, &data, &b, Existing::Resume, u64::MAX);
    assert_eq!(again, losses[4..], "from step 4 on, bit for bit");
    let (unbroken, resumed) = (unbroken.unwrap(), resumed.unwrap());
    assert_eq!(
        unbroken.get("validation_loss").to_bits(),
        resumed.get("validation_loss").to_bits(),
        "the same score"
    );
    assert_eq!(resumed.selection, "last step, moving average", "named");
    let read = |run: &Path, file: &str| std::fs::read(run.join(file)).unwrap();
    assert_eq!(
        read(&a, "encoder.safetensors"),
        read(&b, "encoder.safetensors"),
        "byte for byte"
    );
    // What is kept is the average, not the last step's weights.
    let checkpoint = a.join("checkpoints/step-0000000012");
    let tensor = |path: &Path, name: &str| {
        let tensors: BTreeMap<String, Tensor> = Tensor::read_safetensors(path).unwrap().into_iter().collect();
        tensors[name].copy()
    };
    let name = "SA_modules.0.local_aggregations.0.SA_CONFIG_operator.convs.0.0.weight";
    let kept = tensor(&a.join("encoder.safetensors"), name);
    let inside = format!("encoder.{name}");
    assert!(
        kept.equal(&tensor(&checkpoint.join("ema.safetensors"), &inside)),
        "the average"
    );
    assert!(
        !kept.equal(&tensor(&checkpoint.join("model.safetensors"), &inside)),
        "not the last step"
    );
}

fn dataset_info(image_size_px: u32) -> DatasetInfo {
    DatasetInfo {
        sha256: String::from("d"),
        num_rows: [526, 0, 133],
        num_train_rows: 526,
        num_views: 12,
        image_size_px,
        ..DatasetInfo::default()
    }
}

#[test]
fn every_row_of_the_table_of_ablations_is_a_configuration() {
    let table = include_str!("../../ABLATIONS.md");
    let rows = table
        .lines()
        .filter(|line| line.starts_with("| 6") || line.starts_with("| 7"));
    let mut plans: Vec<(&str, String)> = Vec::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, _, settings] = cells[..] else {
            panic!("three columns: {row}")
        };
        let settings: Vec<String> = settings
            .split('`')
            .filter(|setting| setting.contains('='))
            .map(str::to_owned)
            .collect();
        let config =
            Config::load(Some("paper-point-net2"), &settings).unwrap_or_else(|e| panic!("{name}: {e}"));
        let plan = method::plan(None, &config, Task::Pretrain, 0, "none", &dataset_info(224))
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        plans.push((name, plan.sha256()));
    }
    assert_eq!(plans.len(), 30, "all rows");
    // Rows that say the same in two tables: TAP itself is 6a's last and 7b's G4, 6a B is 7a's second at 256.
    let mut differing: Vec<&String> = plans.iter().map(|(_, hash)| hash).collect();
    differing.sort();
    differing.dedup();
    assert_eq!(differing.len(), 28, "every other row is a run of its own");
}
