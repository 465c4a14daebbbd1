//! I2P-MAE on real shards, with a small 2D network in the step and with feature sets: the loss falls with every switch, a resumed
//! run is an unbroken one, sums with TAP train one encoder, and what does not fit is refused in one line.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shape;
mod small;

use std::path::Path;
use std::sync::atomic::AtomicBool;

use small::{run_in, turn, write_teacher};
use tap_dataset::{
    Dataset, FeatureLayout, FeatureRecipe, FeatureSetWriter, FeatureViews, RowFeatures, ViewSelection,
};
use tap_train::config::Config;
use tap_train::run::Existing;
use tap_train::seed::Stream;
use tap_train::task::classify::Classify;
use tap_train::task::finetune::finetune;
use tap_train::task::pretrain::pretrain;
use tch::{Kind, Tensor};

/// A tiny hierarchy for clouds of 64 points.
const NETWORK: [&str; 5] = [
    "encoder.levels=[{num_groups=24,num_neighbors=4,channels=12,num_blocks=1},{num_groups=12,num_neighbors=4,channels=24,num_blocks=1},{num_groups=6,num_neighbors=4,channels=48,num_blocks=1}]",
    "encoder.group_widths=[16,32]",
    "encoder.num_heads=2",
    "data.num_points=64",
    "pretrain.batch_size=6",
];
const RUN: [&str; 3] = [
    "pretrain.learning_rate=3e-3",
    "pretrain.steps=30",
    "log={checkpoint_every=10,validate_every=15,images_every=30,num_images=1}",
];
/// A generator of images of 16 pixels.
const TAP: [&str; 4] = [
    "data.num_views=2",
    "photograph.channels=16",
    "photograph.query.grid=2",
    "decoder.layers=[{channels=8,stride=2},{channels=4,stride=2},{channels=1,stride=2}]",
];
const METHOD: [&str; 1] = ["method.mask_ratio=0.5"];

fn config(preset: &str, more: &[&[&str]]) -> Config {
    let settings = [&NETWORK[..], &RUN].concat().into_iter();
    let settings = settings.chain(more.concat()).map(String::from);
    Config::load(Some(preset), &settings.collect::<Vec<_>>()).unwrap()
}

fn setting(key: &str, value: &Path) -> String {
    format!("{key}={}", value.display())
}

/// Writes a feature set of a smooth pattern, the same for all views and of another color for each class.
fn write_features(data: &Path, name: &str, views: FeatureViews) {
    let dataset = Dataset::open(data).unwrap();
    let layout = FeatureLayout {
        num_views: if views == FeatureViews::Depth {
            3
        } else {
            dataset.num_views()
        },
        height: 4,
        width: 4,
        num_channels: 3,
    };
    let recipe = FeatureRecipe {
        network: String::from("a pattern"),
        network_sha256: String::from("none"),
        layer: None,
        activation: None,
        mean: [0.0; 3],
        deviation: [1.0; 3],
        views,
        images: None,
        image_size_px: 16,
    };
    let mut writer = FeatureSetWriter::open(&dataset, name, recipe, layout, false).unwrap();
    for shard in writer.missing_shards() {
        for row in shard.first_row..shard.first_row + shard.num_rows {
            let sample = dataset.read(shard.split, row, ViewSelection::None).unwrap();
            let mut numbers = Vec::new();
            for patch in 0..layout.num_views * 16 {
                let (y, x) = ((patch / 4 % 4) as f32, (patch % 4) as f32);
                numbers.extend([y / 4.0, x / 4.0, sample.label as f32]);
            }
            let halves = |numbers: &[f32]| {
                let halves = Tensor::from_slice(numbers)
                    .to_kind(Kind::Half)
                    .view_dtype(Kind::Uint8);
                Vec::<u8>::try_from(halves).unwrap()
            };
            let mut stream = Stream::new(1, "saliency", 0, sample.id.as_str());
            let saliency: Vec<f32> = (0..layout.num_views * 16).map(|_| stream.unit() as f32).collect();
            let features = RowFeatures {
                id: sample.id,
                features: halves(&numbers),
                saliency: halves(&saliency),
            };
            writer.append(shard, &features).unwrap();
        }
        writer.finish_shard(shard).unwrap();
    }
    writer.finish().unwrap();
}

fn mean(losses: &[(u64, f64)]) -> f64 {
    losses.iter().map(|(_, loss)| loss).sum::<f64>() / losses.len() as f64
}

#[test]
fn every_switch_learns_from_a_network_in_the_step() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    shape::write_points(&data, 6, 96, &[]);
    let teacher = setting("method.teacher", &write_teacher(folder.path(), 0.0));
    for (mask, weight_2d) in [("guided", 1), ("guided", 0), ("random", 1), ("random", 0)] {
        let (mask_rule, weight) = (
            format!("method.mask={mask}"),
            format!("method.weight_2d={weight_2d}"),
        );
        let config = config(
            "mini-i2p-mae",
            &[&METHOD, &[teacher.as_str(), &mask_rule, &weight]],
        );
        let out = folder.path().join(format!("{mask}-{weight_2d}"));
        let (result, losses) = run_in(&config, &data, &out, Existing::Refuse, u64::MAX);
        let result = result.unwrap();
        assert!(
            mean(&losses[25..]) < 0.9 * mean(&losses[..3]),
            "{mask}, {weight_2d}: the loss falls: {losses:?}"
        );
        let features = result.get("validation_loss_features");
        assert_eq!(
            features.is_finite(),
            weight_2d > 0,
            "{mask}, {weight_2d}: {features}"
        );
        let record = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
        assert_eq!(
            record.contains("loss_features"),
            weight_2d > 0,
            "{mask}, {weight_2d}"
        );
        assert!(out.join("samples").is_dir(), "images of clouds");
    }
    let tuned = config("mini-i2p-mae", &[&["finetune.steps=6", "finetune.batch_size=6"]]);
    let options = small::options(&data, folder.path().join("tuned"), Existing::Refuse, 1);
    let (cancel, init) = (AtomicBool::new(false), folder.path().join("guided-1"));
    let tuned = finetune::<Classify>(&tuned, &options, 0, Some(&init), &cancel, &mut |_| ());
    assert!(tuned.unwrap().is_some(), "a fine-tuning needs no 2D network");
}

#[test]
fn a_resumed_run_is_an_unbroken_one() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    shape::write(&data, 4, 16, 96);
    write_features(&data, "pattern", FeatureViews::Images);
    let teacher = setting("method.teacher", &write_teacher(folder.path(), 0.0));
    let short = ["pretrain.steps=8", "log.checkpoint_every=4", "log.num_images=0"];
    let of_sum = "method=[{kind=\"i2p-mae\",mask_ratio=0.5},{kind=\"tap\",weight=0.5}]";
    let configs = [
        (
            "step",
            config("mini-i2p-mae", &[&METHOD, &short, &[teacher.as_str()]]),
        ),
        (
            "set",
            config("mini-i2p-mae", &[&METHOD, &short, &["data.features=pattern"]]),
        ),
        (
            "sum",
            config(
                "mini-tap-i2p",
                &[&TAP, &short, &["data.features=pattern", of_sum]],
            ),
        ),
    ];
    for (name, config) in configs {
        let [whole, broken] = ["whole", "broken"].map(|part| folder.path().join(format!("{name}-{part}")));
        let (_, losses) = run_in(&config, &data, &whole, Existing::Refuse, u64::MAX);
        let (interrupted, _) = run_in(&config, &data, &broken, Existing::Refuse, 4);
        assert!(interrupted.is_none(), "{name}: there is no result yet");
        let (_, rest) = run_in(&config, &data, &broken, Existing::Resume, u64::MAX);
        assert_eq!(rest, losses[4..], "{name}: bit for bit");
    }
}

#[test]
fn features_of_views_are_pooled_by_their_poses_and_by_what_is_visible() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    shape::write(&data, 6, 16, 96);
    write_features(&data, "views", FeatureViews::Images);
    write_features(&data, "depth", FeatureViews::Depth);
    for (set, hidden, fusion) in [
        ("views", "keep", "concatenated"),
        ("views", "leave_out", "mean"),
        ("depth", "leave_out", "mean"),
    ] {
        let settings = [
            format!("data.features={set}"),
            format!("data.hidden_points={hidden}"),
            format!("method.fusion={fusion}"),
            String::from("method.targets=raw"),
            String::from("pretrain.scale=[1.0,1.0]"),
            String::from("pretrain.rotate_y=false"),
            String::from("pretrain.steps=150"),
            String::from("pretrain.learning_rate=3e-3"),
            String::from("log={checkpoint_every=150,validate_every=150}"),
        ];
        let settings = settings.each_ref().map(String::as_str);
        let config = config("mini-i2p-mae", &[&METHOD, &settings]);
        let out = folder.path().join(format!("{set}-{hidden}-{fusion}"));
        let (result, losses) = run_in(&config, &data, &out, Existing::Refuse, u64::MAX);
        let result = result.unwrap();
        assert!(
            result.get("validation_loss_features") < result.get("constant_feature_loss"),
            "{set}, {hidden}, {fusion}: where a point lies and of which class it is can be learned: {result:?} {losses:?}"
        );
    }
}

#[test]
fn a_sum_trains_one_encoder_with_named_terms() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    shape::write(&data, 6, 16, 96);
    write_features(&data, "views", FeatureViews::Images);
    let of_sum = "method=[{kind=\"tap\",weight=0.5},{kind=\"i2p-mae\",mask_ratio=0.5,weight=2}]";
    let config = config("mini-tap-i2p", &[&TAP, &["data.features=views", of_sum]]);
    let out = folder.path().join("sum");
    let (result, losses) = run_in(&config, &data, &out, Existing::Refuse, u64::MAX);
    let result = result.unwrap();
    assert!(mean(&losses[25..]) < 0.9 * mean(&losses[..3]), "{losses:?}");
    let parts = [("validation_tap_loss", 0.5), ("validation_i2p_mae_loss", 2.0)];
    let sum: f64 = parts.iter().map(|(name, weight)| weight * result.get(name)).sum();
    assert!(
        (result.get("validation_loss") / sum - 1.0).abs() < 1e-9,
        "a weighted sum: {result:?}"
    );
    let records = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    for term in [
        "loss_tap_foreground",
        "loss_tap_background",
        "loss_i2p_mae_chamfer",
        "loss_i2p_mae_features",
    ] {
        assert!(records.contains(term), "{term} is recorded");
    }
    let in_parts = config
        .with_settings(&[String::from("pretrain.accumulation_steps=3")])
        .unwrap();
    let (_, of_parts) = run_in(
        &in_parts,
        &data,
        &folder.path().join("parts"),
        Existing::Refuse,
        1,
    );
    assert!(
        (of_parts[0].1 / losses[0].1 - 1.0).abs() < 0.2,
        "but for batch norms, micro-batches add up: {} and {}",
        of_parts[0].1,
        losses[0].1
    );
    let tuned = config
        .with_settings(&["finetune.steps=6", "finetune.batch_size=6"].map(String::from))
        .unwrap();
    let options = small::options(&data, folder.path().join("tuned"), Existing::Refuse, 1);
    let cancel = AtomicBool::new(false);
    let tuned = finetune::<Classify>(&tuned, &options, 0, Some(&out), &cancel, &mut |_| ());
    assert!(tuned.unwrap().is_some(), "the encoder is fine-tuned alone");
}

#[test]
fn point_mae_and_tap_share_their_encoder_too() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    shape::write(&data, 4, 16, 96);
    let settings = [
        &TAP[..],
        &[
            "data.num_points=64",
            "encoder.num_groups=10",
            "encoder.num_neighbors=12",
            "encoder.group_widths=[16,32]",
            "encoder.channels=32",
            "encoder.num_blocks=2",
            "encoder.num_heads=2",
            "pretrain.batch_size=4",
            "pretrain.steps=6",
            "method=[\"point-mae\",\"tap\"]",
        ],
    ]
    .concat();
    let settings: Vec<String> = settings.into_iter().map(String::from).collect();
    let config = Config::load(Some("mini-point-mae"), &settings).unwrap();
    let (result, _) = run_in(
        &config,
        &data,
        &folder.path().join("run"),
        Existing::Refuse,
        u64::MAX,
    );
    let result = result.unwrap();
    for name in ["validation_point_mae_loss", "validation_tap_loss"] {
        assert!(result.get(name).is_finite(), "{name}: {result:?}");
    }
}

#[test]
fn what_does_not_fit_is_refused_in_one_line() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let [data, other, points] = ["data", "other", "points"].map(|name| folder.path().join(name));
    shape::write(&data, 4, 16, 96);
    shape::write(&other, 5, 16, 96);
    shape::write_points(&points, 4, 96, &[]);
    write_features(&data, "views", FeatureViews::Images);
    // The features of one data set beside the rows of another.
    let [from, to] = [&data, &other].map(|data| data.join("__features/views"));
    std::fs::create_dir_all(&to).unwrap();
    for file in std::fs::read_dir(&from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
    let teacher = setting("method.teacher", &write_teacher(folder.path(), 0.0));
    let nan = folder.path().join("nan");
    std::fs::create_dir(&nan).unwrap();
    let not_a_number = setting("method.teacher", &write_teacher(&nan, f64::NAN));
    let huge = folder.path().join("huge");
    std::fs::create_dir(&huge).unwrap();
    let overflowing = setting("method.teacher", &write_teacher(&huge, 1e38));
    for (data, settings, words) in [
        (&other, vec!["data.features=views"], "views"),
        (
            &data,
            vec!["data.features=none-of-this-name"],
            "none-of-this-name",
        ),
        (&data, vec![], "needs a 2D network"),
        (&data, vec!["data.features=views", &teacher], "both set"),
        (&points, vec![&not_a_number], "pos_embed"),
        (&points, vec![&overflowing], "not finite"),
        (
            &points,
            vec!["method.teacher=/no/such/file.pth"],
            "/no/such/file.pth",
        ),
    ] {
        let config = config("mini-i2p-mae", &[&METHOD, &settings]);
        let options = small::options(data, folder.path().join("run"), Existing::Refuse, 1);
        let cancel = AtomicBool::new(false);
        let error = pretrain(&config, &options, None, &cancel, &mut |_| ())
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{settings:?}: {error}");
        assert!(!error.contains('\n'), "{settings:?}: one line: {error}");
        assert!(
            !options.out.join("encoder.safetensors").exists() && !options.out.join("checkpoints").exists(),
            "{settings:?}: nothing half-made"
        );
        if options.out.exists() {
            std::fs::remove_dir_all(&options.out).unwrap();
        }
    }
    let numbers = [
        ("temperature=0", "method.temperature = 0"),
        ("temperature=nan", "method.temperature"),
        ("weight_2d=-1", "method.weight_2d = -1"),
        ("mask_ratio=1.5", "method.mask_ratio = 1.5"),
        ("masks=guided", "masks"),
    ];
    for (number, words) in numbers {
        let settings = [format!("method.{number}"), teacher.clone()];
        let settings: Vec<String> = NETWORK.iter().map(|&s| s.to_owned()).chain(settings).collect();
        let options = small::options(&points, folder.path().join("run"), Existing::Refuse, 1);
        let cancel = AtomicBool::new(false);
        let error = Config::load(Some("mini-i2p-mae"), &settings)
            .and_then(|config| pretrain(&config, &options, None, &cancel, &mut |_| ()))
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{number}: {error}");
        assert!(!options.out.exists(), "{number}: nothing was written");
    }
    let sums = [
        (
            "method=[\"tap\",\"point-m2ae\",\"i2p-mae\"]",
            "needs an encoder of its own",
        ),
        ("method=[\"tap\"]", "at least two methods"),
        ("method=[\"tap\",\"tap\"]", "names tap twice"),
        ("method=[\"tap\",\"sum\"]", "inside of itself"),
        ("method=[{kind=\"tap\",weight=0},\"point-m2ae\"]", "weight = 0"),
        ("method=[\"tap\",{kind=\"point-m2ae\",masks=1}]", "masks"),
    ];
    for (method, words) in sums {
        let settings = [&NETWORK[..], &TAP, &["data.features=views", method]].concat();
        let settings: Vec<String> = settings.into_iter().map(String::from).collect();
        let options = small::options(&data, folder.path().join("run"), Existing::Refuse, 1);
        let cancel = AtomicBool::new(false);
        let error = Config::load(Some("mini-tap-i2p"), &settings)
            .and_then(|config| pretrain(&config, &options, None, &cancel, &mut |_| ()))
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{method}: {error}");
        assert!(!options.out.exists(), "{method}: nothing was written");
    }
}
