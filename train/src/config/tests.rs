//! Presets, settings and what they resolve to.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::method;
use crate::model::{
    Compat, DgcnnConfig, PhotographConfig, PointM2aeConfig, PointMaeConfig, PointMlpConfig, PointNet2Config,
    PointNextConfig, TapConfig, TransformerConfig,
};

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

fn tap(plan: &Plan) -> TapConfig {
    method::tap::tap_config(plan).unwrap()
}

fn resolve(config: &Config, task: Task, labels: usize, size: u32) -> Result<Plan, TrainError> {
    method::plan(None, config, task, labels, "none", &dataset_info(size))
}

#[test]
fn mini_is_the_small_model_with_the_ray_bias() {
    let config = Config::load(Some("mini"), &[]).unwrap();
    let plan = resolve(&config, Task::Pretrain, 0, 64).unwrap();
    assert_eq!(
        tap(&plan).photograph,
        TapConfig::mini().photograph,
        "the preset and the model's own agree"
    );
    assert_eq!(tap(&plan).decoder, TapConfig::mini().decoder, "the generator too");
    assert_eq!(plan.phase.num_steps, 3400, "steps");
    assert_eq!(plan.data.evaluation_split, Split::Test, "there is no val split");
}

#[test]
fn the_ray_bias_can_be_taken_out_of_a_preset() {
    let config = Config::load(Some("mini-dgcnn"), &[String::from("photograph.ray_bias=false")]).unwrap();
    let plan = resolve(&config, Task::Pretrain, 0, 64).unwrap();
    let mut expected = TapConfig::mini().photograph;
    expected.ray_bias = None;
    assert_eq!(tap(&plan).photograph, expected, "nothing else changes");
}

#[test]
fn paper_presets_follow_their_table() {
    let config = Config::load(Some("paper-transformer"), &[]).unwrap();
    let plan = resolve(&config, Task::Pretrain, 0, 224).unwrap();
    assert_eq!(
        tap(&plan),
        TapConfig::from_compat(Compat::Paper, EncoderConfig::transformer()),
        "networks"
    );
    assert_eq!(plan.phase.num_steps, 1600, "100 epochs of 16 full batches");
    assert!(
        (plan.phase.schedule.rate(16, 1) - 0.000_167_333_333_333_333_33).abs() < 1e-15,
        "warm-up"
    );
    assert!((plan.phase.optimizer.weight_decay - 5e-4).abs() < 1e-12, "decay");
    let fine = resolve(&config, Task::Classify, 0, 224).unwrap();
    assert!(
        (fine.phase.schedule.rate(0, 10) - 0.000_498_633_212_894_384_2).abs() < 1e-15,
        "fine-tuning"
    );
    assert!(
        fine.phase.augmentation.rotate_y && !plan.phase.augmentation.rotate_y,
        "only fine-tuning turns the clouds"
    );
}

#[test]
fn point_mae_follows_its_table() {
    let config = Config::load(Some("paper-point-mae"), &[]).unwrap();
    // 128 objects a batch; the data may be without views.
    let data = DatasetInfo {
        num_views: 0,
        image_size_px: 0,
        ..dataset_info(0)
    };
    let resolve = |task| method::plan(None, &config, task, 0, "none", &data).unwrap();
    let (plan, fine) = (resolve(Task::Pretrain), resolve(Task::Classify));
    let settings: method::point_mae::PointMaeSettings = method::settings(&plan).unwrap();
    assert_eq!(
        settings,
        method::point_mae::PointMaeSettings::default(),
        "the method"
    );
    assert_eq!(plan.phase.num_steps, 1200, "300 epochs of 4 full batches");
    assert!(plan.phase.optimizer.max_grad_norm.abs() < 1e-12, "no clipping");
    let shift = |plan: &Plan| plan.phase.augmentation.shift;
    assert!(
        (shift(&plan) - 0.2).abs() < 1e-12 && (shift(&fine) - 0.2).abs() < 1e-12,
        "clouds move"
    );
    assert!(
        fine.head.bias && fine.loss.label_smoothing.abs() < 1e-12,
        "its head and loss"
    );
    assert!(!fine.phase.augmentation.rotate_y, "clouds are not turned");
}

#[test]
fn each_backbone_has_its_presets() {
    let encoders: [(&str, EncoderConfig); 14] = [
        ("mini", PointNet2Config::mini().into()),
        ("mini-dgcnn", DgcnnConfig::mini().into()),
        ("mini-point-m2ae", PointM2aeConfig::mini().into()),
        ("mini-point-mae", PointMaeConfig::mini().into()),
        ("mini-point-mlp", PointMlpConfig::mini().into()),
        ("mini-point-next", PointNextConfig::mini().into()),
        ("mini-transformer", TransformerConfig::mini().into()),
        ("paper-dgcnn", DgcnnConfig::default().into()),
        ("paper-point-m2ae", PointM2aeConfig::default().into()),
        ("paper-point-mae", PointMaeConfig::default().into()),
        ("paper-point-mlp", PointMlpConfig::default().into()),
        ("paper-point-mlp-elite", PointMlpConfig::elite().into()),
        ("paper-point-net2", PointNet2Config::default().into()),
        ("paper-point-next", PointNextConfig::default().into()),
    ];
    for (name, mut encoder) in encoders {
        let config = Config::load(Some(name), &[]).unwrap();
        if let (EncoderConfig::PointNet2(encoder), "mini") = (&mut encoder, name) {
            // The loader chooses the points already.
            encoder.num_points = None;
        }
        assert_eq!(config.encoder, encoder, "{name}");
        assert_eq!(config.preset.as_deref(), Some(name), "its own name");
        let size = if name.starts_with("mini") { 64 } else { 224 };
        resolve(&config, Task::Pretrain, 0, size).unwrap();
        resolve(&config, Task::Classify, 0, size).unwrap();
    }
    let decay = |name| Config::load(Some(name), &[]).unwrap().segment.milestones;
    assert_eq!(decay("paper-point-mlp"), SEGMENT_MILESTONES, "as published");
    assert_eq!(decay("mini"), [0.0; 0], "a cosine");
}

#[test]
fn another_kind_starts_from_its_own_sizes() {
    let config = Config::load(Some("mini"), &[String::from("encoder.kind=dgcnn")]).unwrap();
    assert_eq!(
        config.encoder,
        DgcnnConfig::default().into(),
        "nothing of PointNet++ is left"
    );
    let settings = ["encoder.kind=dgcnn", "encoder.channels=128"].map(String::from);
    let config = Config::load(Some("mini"), &settings).unwrap();
    assert_ne!(
        config.encoder,
        DgcnnConfig::default().into(),
        "later settings count"
    );
}

#[test]
fn segmentation_needs_parts() {
    let config = Config::load(Some("paper-point-mlp"), &[]).unwrap();
    let error = resolve(&config, Task::Segment, 0, 224).unwrap_err().to_string();
    assert!(error.contains("part labels"), "{error}");
    let dataset_info = DatasetInfo {
        parts_by_class: vec![vec![0, 1], vec![2, 3, 4]],
        ..dataset_info(224)
    };
    let plan = method::plan(None, &config, Task::Segment, 0, "none", &dataset_info).unwrap();
    assert_eq!(plan.phase.num_steps, 300 * 32, "300 epochs of 32 full batches");
    let rate = |epoch| plan.phase.schedule.rate(0, epoch);
    assert!((rate(208) - 1e-3).abs() < 1e-12, "before the first milestone");
    assert!((rate(269) - 1e-5).abs() < 1e-12, "behind the second");
}

#[test]
fn pretraining_goes_on_without_held_out_objects() {
    let split = |task, num_rows| {
        let dataset_info = DatasetInfo {
            num_rows,
            ..dataset_info(64)
        };
        let config = Config::load(None, &[]).unwrap();
        method::plan(None, &config, task, 0, "none", &dataset_info)
            .unwrap()
            .data
            .evaluation_split
    };
    assert_eq!(split(Task::Pretrain, [512, 0, 0]), Split::Train);
    assert_eq!(split(Task::Pretrain, [512, 9, 9]), Split::Val);
    assert_eq!(split(Task::Classify, [512, 9, 9]), Split::Test);
    assert_eq!(
        split(Task::Classify, [512, 0, 0]),
        Split::Test,
        "a score needs others"
    );
}

#[test]
fn a_single_sample_in_front_of_a_batch_norm_is_refused_with_its_numbers() {
    let resolve = |table: &str, rows: usize, settings: &[&str]| {
        let settings: Vec<String> = settings
            .iter()
            .map(|setting| format!("{table}.{setting}"))
            .collect();
        let dataset_info = DatasetInfo {
            num_train_rows: rows,
            parts_by_class: vec![vec![0, 1]],
            ..dataset_info(64)
        };
        let task = match table {
            "pretrain" => Task::Pretrain,
            "finetune" => Task::Classify,
            _ => Task::Segment,
        };
        method::plan(
            None,
            &Config::load(None, &settings).unwrap(),
            task,
            0,
            "none",
            &dataset_info,
        )
    };
    for table in ["finetune", "segment"] {
        for (rows, settings, part) in [
            (
                15,
                &["batch_size=7", "last_batch=keep"][..],
                "a batch of a single sample",
            ),
            (
                1,
                &["batch_size=7", "last_batch=keep"],
                "a batch of a single sample",
            ),
            (15, &["batch_size=1"], "a batch of a single sample"),
            (15, &["batch_size=5", "accumulate=3"], "of a batch of 5"),
            (15, &["batch_size=4", "accumulate=4"], "of a batch of 4"),
            (
                11,
                &["batch_size=8", "accumulate=2", "last_batch=keep"],
                "of a batch of 3",
            ),
        ] {
            let error = resolve(table, rows, settings).unwrap_err().to_string();
            assert!(
                error.contains(part) && error.contains(&format!("over {rows} training objects")),
                "{settings:?}: {error}"
            );
        }
        for (rows, settings) in [
            (15, &["batch_size=7"][..]),
            (16, &["batch_size=7", "last_batch=keep"]),
            (15, &["batch_size=7", "last_batch=keep", "steps=2"]),
            (15, &["batch_size=6", "accumulate=3"]),
            (15, &["batch_size=1", "steps=0"]),
        ] {
            assert!(
                resolve(table, rows, settings).is_ok(),
                "{table} {rows} {settings:?}"
            );
        }
    }
    assert!(
        resolve("pretrain", 15, &["batch_size=1"]).is_ok(),
        "its batch norms see many tokens"
    );
}

#[test]
fn compat_switches_the_whole_module() {
    let config = Config::load(Some("paper-point-net2"), &[String::from("compat=code")]).unwrap();
    let plan = resolve(&config, Task::Pretrain, 0, 224).unwrap();
    assert_eq!(
        tap(&plan).photograph,
        PhotographConfig::from_compat(Compat::Code),
        "the released code's switches"
    );
    let config = Config::load(Some("mini"), &[String::from("compat=paper")]).unwrap();
    let error = resolve(&config, Task::Pretrain, 0, 64).unwrap_err();
    assert!(
        error.to_string().contains("ray bias"),
        "an extension is no paper configuration: {error}"
    );
    let config = Config::load(
        Some("paper-point-net2"),
        &[String::from("photograph.token_keep=0.5")],
    )
    .unwrap();
    let error = resolve(&config, Task::Pretrain, 0, 224).unwrap_err();
    assert!(
        error.to_string().contains("dropped tokens"),
        "nor is the other: {error}"
    );
}

#[test]
fn settings_are_typed_and_unknown_keys_refused() {
    let settings = [
        "seed=7",
        "pretrain.learning_rate=5e-4",
        "data.train_splits=[\"train\", \"val\"]",
        "data.point_choice=first",
    ];
    let config = Config::load(None, &settings.map(String::from)).unwrap();
    assert_eq!(
        (config.seed, config.data.train_splits.len()),
        (7, 2),
        "number and list"
    );
    assert_eq!(
        config.data.point_choice,
        PointSampling::First,
        "a bare word is text"
    );
    let both_names = [
        ["pretrain.clip_norm=3", "pretrain.max_grad_norm=3"],
        ["segment.tail=keep", "segment.last_batch=keep"],
        ["log={num_pictures=2}", "log={num_images=2}"],
        [
            "photograph.feature_projection=projection",
            "photograph.mixing=projection",
        ],
    ];
    for names in both_names {
        let [old, new] = names.map(|setting| Config::load(None, &[setting.to_owned()]).unwrap());
        assert!(old == new && old != Config::load(None, &[]).unwrap(), "{names:?}");
    }
    for wrong in ["pretrain.lr=1", "seed=minus", "seed", "seed.a=1", "=3"] {
        assert!(Config::load(None, &[wrong.to_owned()]).is_err(), "{wrong}");
    }
    let error = Config::load(Some("maxi"), &[]).unwrap_err().to_string();
    assert!(error.contains("mini, mini-dgcnn"), "{error}");
}

#[test]
fn steps_that_are_set_count_for_any_number_of_labels() {
    let config = Config::load(None, &[String::from("finetune.steps=3")]).unwrap();
    let plan = resolve(&config, Task::Classify, 5, 64).unwrap();
    assert_eq!(plan.phase.num_steps, 3, "and not the preset's 100");
    let both = ["finetune.steps=3", "finetune.steps_by_labels.5=7"].map(String::from);
    let plan = resolve(&Config::load(None, &both).unwrap(), Task::Classify, 5, 64).unwrap();
    assert_eq!(plan.phase.num_steps, 7, "unless that is set, too");
}

#[test]
fn settings_lie_on_top_of_another_configuration() {
    let mut base = Config::load(None, &[]).unwrap();
    base.data.num_points = 77;
    let config = base.with_settings(&[String::from("seed=5")]).unwrap();
    assert_eq!((config.data.num_points, config.seed), (77, 5));
    let unknown = base.with_settings(&[String::from("data.points=5")]);
    assert!(unknown.is_err(), "unknown keys are refused");
}

#[test]
fn fewer_labels_take_fewer_steps() {
    let config = Config::load(None, &[]).unwrap();
    let steps = |labels| {
        resolve(&config, Task::Classify, labels, 64)
            .unwrap()
            .phase
            .num_steps
    };
    assert_eq!(
        [steps(5), steps(7), steps(10), steps(20), steps(0)],
        [100, 150, 150, 330, 330],
        "by the table"
    );
}

#[test]
fn a_plan_survives_its_file() {
    let plan = resolve(&Config::load(None, &[]).unwrap(), Task::Pretrain, 0, 64).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    std::fs::write(&path, plan.to_toml().unwrap()).unwrap();
    assert_eq!(Plan::read(&path).unwrap(), plan, "the same plan");
}

#[test]
fn a_file_may_start_from_a_preset() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("my.toml");
    std::fs::write(&path, "preset = \"mini\"\n[loss]\nforeground_weight = 5\n").unwrap();
    let config = Config::load(path.to_str(), &[]).unwrap();
    assert!(
        (config.loss.foreground_weight - 5.0).abs() < 1e-12,
        "its own value"
    );
    assert!(
        (config.loss.label_smoothing - 0.2).abs() < 1e-12,
        "the preset's value"
    );
}

#[test]
fn images_in_color_take_three_channels() {
    let decoder = |settings: &[&str]| {
        let settings: Vec<String> = settings.iter().map(|&setting| setting.to_owned()).collect();
        let config = Config::load(None, &settings).unwrap();
        tap(&resolve(&config, Task::Pretrain, 0, 64).unwrap()).decoder
    };
    let mut expected = decoder(&[]);
    assert_eq!(expected.channels(), 1, "gray");
    expected.layers.last_mut().unwrap().channels = 3;
    assert_eq!(decoder(&["data.color=true"]), expected, "nothing else changes");
}

#[test]
fn sizes_that_do_not_fit_are_named() {
    let config = Config::load(None, &[]).unwrap();
    let error = resolve(&config, Task::Pretrain, 0, 224).unwrap_err().to_string();
    assert!(error.contains("64x64") && error.contains("224x224"), "{error}");
}

/// `config.toml` of runs of version 0.1, with the hashes that their checkpoints hold.
#[test]
fn plans_of_earlier_versions_keep_their_hash() {
    let plans = [
        (
            include_str!("../../tests/plan/pretrain.toml"),
            "7c8d252a374838bc9efedeb055bd36e4618cb1dcee4210f4a7feb17f1223a37e",
        ),
        (
            include_str!("../../tests/plan/segment.toml"),
            "8c92f2d1ed040ae49243662e9459962cf8a81d6e207664fee9594285e7be571a",
        ),
    ];
    for (text, sha256) in plans {
        let plan: Plan = toml::from_str(text).unwrap();
        assert_eq!(plan.sha256(), sha256, "the same plan");
        assert_eq!(plan.to_toml().unwrap(), text, "and the same file");
    }
}

#[test]
fn what_changes_no_number_is_not_in_the_identity() {
    let plan = |settings: &[&str]| {
        let settings: Vec<String> = settings.iter().map(|&setting| setting.to_owned()).collect();
        resolve(&Config::load(None, &settings).unwrap(), Task::Pretrain, 0, 64).unwrap()
    };
    let begun = plan(&[]);
    for neutral in [
        "data.cache_mib=1",
        "log.record_every_steps=3",
        "log.checkpoint_every=3",
        "log.keep_checkpoints=3",
        "log.validate_every=3",
        "log.images_every=3",
        "log.num_images=3",
    ] {
        let now = plan(&[neutral]);
        assert_eq!(now.identity_sha256(), begun.identity_sha256(), "{neutral}");
        assert_eq!(begun.differences_of_numbers(&now), [], "{neutral}");
        assert_eq!(
            begun.differences(&now).len(),
            1,
            "{neutral} is a difference nevertheless"
        );
    }
    for (setting, difference) in [
        ("seed=5", "seed (0, now 5)"),
        ("data.num_points=256", "data.num_points (512, now 256)"),
        ("data.images=normals", "data.images (none, now \"normals\")"),
    ] {
        let now = plan(&[setting]);
        assert_ne!(now.identity_sha256(), begun.identity_sha256(), "{setting}");
        assert_eq!(listed(&begun.differences_of_numbers(&now)), difference);
    }
    for schedule in [
        "pretrain.steps=9",
        "pretrain.learning_rate=1e-5",
        "pretrain.weight_decay=0.5",
    ] {
        let now = plan(&[schedule]);
        assert_ne!(begun.differences_of_numbers(&now), [], "{schedule}");
        assert_eq!(now.with_schedule_of(&begun), begun, "{schedule}");
    }
}

#[test]
fn a_method_is_named_by_a_word_or_a_table() {
    let load = |setting: &str| Config::load(None, &[setting.to_owned()]).unwrap().method;
    assert_eq!(
        load("method=tap"),
        MethodConfig::default(),
        "the default by its name"
    );
    let table = load("method={kind=\"other\",mask_ratio=0.6}");
    assert_eq!(table.kind, "other", "by a table");
    let settings = ["method=other", "method.mask_ratio=0.6"].map(String::from);
    assert_eq!(
        Config::load(None, &settings).unwrap().method,
        table,
        "one after the other"
    );
    let refused = |setting: &str| {
        let config = Config::load(None, &[setting.to_owned()]).unwrap();
        resolve(&config, Task::Pretrain, 0, 64).unwrap_err().to_string()
    };
    let error = refused("method=other");
    assert!(
        error.contains("unknown method 'other', expected one of tap"),
        "{error}"
    );
    let error = refused("method.mask_ratio=0.6");
    assert!(
        error.contains("[photograph]"),
        "TAP has tables of its own: {error}"
    );

    let config = Config::load(None, &settings).unwrap();
    let plan = resolve(&config, Task::Classify, 0, 64).unwrap();
    let written = plan.to_toml().unwrap();
    assert_eq!(toml::from_str::<Plan>(&written).unwrap(), plan, "{written}");
    assert!(
        written.contains("[method]\nkind = \"other\"\nmask_ratio = 0.6\n"),
        "{written}"
    );
}

#[test]
fn labels_are_smoothed_in_either_convention() {
    // Of 15 classes: all others get 0.3 together, or each class 0.3 / 15, which leaves the true one 0.72.
    let kept = |rule: SmoothingRule| 1.0 - rule.share_of_others(0.3, 15);
    assert!((kept(SmoothingRule::Others) - 0.7).abs() < 1e-12);
    assert!((kept(SmoothingRule::All) - 0.72).abs() < 1e-12);
}
