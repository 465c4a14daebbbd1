//! Which numbers a configuration may hold: one table of ranges, and what numbers have to be among themselves.

use std::fmt;
use std::ops::{Bound, RangeBounds as _};

use tap_dataset::Order;
use toml::{Table, Value};

use super::{Config, PHASES};
use crate::model::encoder::PointMlpStage;
use crate::model::{EncoderConfig, PointM2aeConfig};

/// Tables of a configuration, keys of numbers in them at any depth, and where those numbers lie. The first line with
/// both counts; a number without a line has to be finite.
const RANGES: &[(&[&str], &[&str], Range)] = &[
    (&["data"], &["num_points", "num_views"], COUNT),
    (&["data"], &["cache_mib"], COUNT_OR_NONE),
    (&["data"], &["block_rows", "window_blocks"], COUNT),
    (&["data"], &["weight"], WEIGHT),
    (&["data"], &["fraction"], FRACTION),
    (&PHASES, &["batch_size", "accumulation_steps"], COUNT),
    (&PHASES, &["epochs"], COUNT_OR_NONE),
    (&PHASES, &["learning_rate", "final_learning_rate"], NOT_NEGATIVE),
    (&PHASES, &["warmup", "warmup_from", "milestones"], NOT_NEGATIVE),
    (&PHASES, &["schedule_length"], NOT_NEGATIVE),
    (&PHASES, &["milestone_factor", "weight_decay"], NOT_NEGATIVE),
    (&PHASES, &["max_grad_norm"], NORM),
    (&PHASES, &["warmup_fraction"], PART),
    (&PHASES, &["ema_decay"], BELOW_ONE),
    (&PHASES, &["scale"], POSITIVE),
    (&PHASES, &["shift"], NOT_NEGATIVE),
    (&PHASES, &["freeze_encoder_steps"], COUNT_OR_NONE),
    (&PHASES, &["encoder_rate", "class_weights"], POSITIVE),
    (&PHASES, &["layer_decay"], POSITIVE_PART),
    (&["loss"], &["label_smoothing"], PART),
    (
        &["loss"],
        &["foreground_weight", "background_weight"],
        NOT_NEGATIVE,
    ),
    (&["loss"], &["perceptual_weight"], NOT_NEGATIVE),
    (&["parts"], &["jitter", "jitter_bound"], NOT_NEGATIVE),
    (&["parts"], &["drop_normals"], PART),
    (&["head"], &["widths"], SIZE),
    (
        &["head", "encoder", "photograph"],
        &["dropout", "drop_path"],
        BELOW_ONE,
    ),
    (
        &["encoder"],
        &["radius", "radius_scaling", "unit", "bottleneck"],
        POSITIVE,
    ),
    (&["encoder"], &["attention_radius"], NOT_NEGATIVE),
    (&["encoder"], &["num_pre_blocks", "num_pos_blocks"], SIZE_OR_NONE),
    (&["encoder"], &["num_points", "num_centers", "num_groups"], SIZE),
    (&["encoder"], &["num_neighbors", "num_heads", "num_blocks"], SIZE),
    (
        &["encoder"],
        &["channels", "group_channels", "group_widths"],
        SIZE,
    ),
    (&["encoder"], &["width", "widths", "blocks", "mlp_ratio"], SIZE),
    (
        &["encoder"],
        &["num_abstraction_layers", "expansion", "reduction"],
        SIZE,
    ),
    (&["photograph"], &["num_blocks"], SIZE_OR_NONE),
    (&["photograph"], &["grid", "channels", "num_heads"], SIZE),
    (
        &["photograph"],
        &["head_channels", "query_hidden", "memory_hidden"],
        SIZE,
    ),
    (&["photograph"], &["token_keep"], POSITIVE_PART),
    (&["photograph"], &["distance", "depth"], FINITE),
    (&["decoder"], &["channels"], SIZE),
    (&["method"], &["decoder_blocks"], SIZE),
    (
        &["method"],
        &["temperature", "contrast_temperature", "weight"],
        POSITIVE,
    ),
    (
        &["method"],
        &["weight_3d", "weight_2d", "contrast_weight"],
        NOT_NEGATIVE,
    ),
    (&["method"], &["teacher_layer"], SIZE_OR_NONE),
    // The output padding of a transposed convolution, one pixel, is less than its stride.
    (&["decoder"], &["stride"], STRIDE),
    (&["decoder"], &["last_bias"], FINITE),
    (
        &["log"],
        &["keep_checkpoints", "num_images", "record_every_steps"],
        COUNT_OR_NONE,
    ),
    (
        &["log"],
        &["checkpoint_every", "validate_every", "images_every"],
        COUNT_OR_NONE,
    ),
];

/// Lists in which something has to stand: a network without a layer has no output.
const FULL_LISTS: &[(&str, &[&str])] = &[
    ("data", &["train_splits"]),
    ("encoder", &["stages", "widths", "blocks", "levels"]),
    ("decoder", &["layers"]),
];

const FINITE: Range = Range::new(Bound::Excluded(f64::NEG_INFINITY), Bound::Excluded(f64::INFINITY));
const NOT_NEGATIVE: Range = Range::new(Bound::Included(0.0), Bound::Excluded(f64::INFINITY));
const POSITIVE: Range = Range::new(Bound::Excluded(0.0), Bound::Excluded(f64::INFINITY));
const WEIGHT: Range = Range::new(
    Bound::Included(*Order::WEIGHTS.start()),
    Bound::Included(*Order::WEIGHTS.end()),
);
/// Gradients are not clipped at 0; to clip them at infinity is the same.
const NORM: Range = Range::new(Bound::Included(0.0), Bound::Included(f64::INFINITY));
const FRACTION: Range = Range::new(Bound::Excluded(0.0), Bound::Included(1.0));
const PART: Range = Range::new(Bound::Included(0.0), Bound::Included(1.0));
const POSITIVE_PART: Range = Range::new(Bound::Excluded(0.0), Bound::Included(1.0));
const BELOW_ONE: Range = Range::new(Bound::Included(0.0), Bound::Excluded(1.0));
/// Bounded so that products of counts fit into 64 bits.
const COUNT: Range = Range::new(Bound::Included(1.0), Bound::Included(MAX_COUNT));
const COUNT_OR_NONE: Range = Range::new(Bound::Included(0.0), Bound::Included(MAX_COUNT));
/// Of a tensor along one of its dimensions.
const SIZE: Range = Range::new(Bound::Included(1.0), Bound::Included(MAX_SIZE));
const SIZE_OR_NONE: Range = Range::new(Bound::Included(0.0), Bound::Included(MAX_SIZE));
const STRIDE: Range = Range::new(Bound::Included(2.0), Bound::Included(MAX_SIZE));
const MAX_COUNT: f64 = (1_u64 << 32) as f64;
const MAX_SIZE: f64 = (1_u64 << 20) as f64;

/// Where a number lies.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Range(Bound<f64>, Bound<f64>);

impl Range {
    const fn new(from: Bound<f64>, to: Bound<f64>) -> Self {
        Self(from, to)
    }

    /// NaN lies nowhere.
    fn contains(self, number: f64) -> bool {
        (self.0, self.1).contains(&number)
    }

    fn of(table: &str, key: &str) -> Option<Self> {
        let line = RANGES
            .iter()
            .find(|(tables, keys, _)| tables.contains(&table) && keys.contains(&key));
        line.map(|(_, _, range)| *range)
    }
}

/// What a number is expected to be, for an error message.
impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.1 {
            Bound::Excluded(f64::INFINITY) => "a finite number",
            _ => "a number",
        })?;
        let from = match self.0 {
            Bound::Included(from) => Some(format!("of at least {from}")),
            Bound::Excluded(from) if from.is_finite() => Some(format!("above {from}")),
            _ => None,
        };
        let to = match self.1 {
            Bound::Included(to) if to.is_finite() => Some(format!("at most {to}")),
            Bound::Excluded(to) if to.is_finite() => Some(format!("below {to}")),
            _ => None,
        };
        let bounds: Vec<String> = from.into_iter().chain(to).collect();
        if bounds.is_empty() {
            return Ok(());
        }
        write!(f, " {}", bounds.join(" and "))
    }
}

/// Checks every number of a configuration.
///
/// # Errors
/// Text with the key of the first number that makes no sense, its value, and what is expected.
pub(super) fn check(config: &Config) -> Result<(), String> {
    let table = Table::try_from(config).map_err(|error| error.to_string())?;
    for (name, value) in &table {
        check_value(name, name, name, value)?;
    }
    check_phases(config)?;
    check_encoder(&config.encoder, config.data.num_points)
}

/// `path` is where the value stands, `key` the last name in it.
fn check_value(table: &str, path: &str, key: &str, value: &Value) -> Result<(), String> {
    match value {
        Value::Table(settings) => settings
            .iter()
            .try_for_each(|(key, value)| check_value(table, &format!("{path}.{key}"), key, value)),
        Value::Array(list) => {
            let is_full_list = |(of, keys): &(&str, &[&str])| *of == table && keys.contains(&key);
            if list.is_empty() && FULL_LISTS.iter().any(is_full_list) {
                return Err(format!("{path} = [], expected a list with at least one entry"));
            }
            list.iter()
                .try_for_each(|value| check_value(table, path, key, value))
        }
        Value::Integer(number) => check_number(table, path, key, *number as f64),
        Value::Float(number) => check_number(table, path, key, *number),
        _ => Ok(()),
    }
}

fn check_number(table: &str, path: &str, key: &str, number: f64) -> Result<(), String> {
    let range = Range::of(table, key).unwrap_or(FINITE);
    if range.contains(number) {
        Ok(())
    } else {
        Err(format!("{path} = {number}, expected {range}"))
    }
}

fn check_phases(config: &Config) -> Result<(), String> {
    for (name, phase) in PHASES
        .into_iter()
        .zip([&config.pretrain, &config.finetune, &config.segment])
    {
        let [least, most] = phase.scale;
        if least > most {
            return Err(format!(
                "{name}.scale = [{least}, {most}], expected the smaller factor first"
            ));
        }
        if !phase.milestones.is_sorted() {
            return Err(format!(
                "{name}.milestones = {:?}, expected times in rising order",
                phase.milestones
            ));
        }
        let is_number = |labels: &&String| labels.parse::<usize>().is_ok();
        if let Some(labels) = phase.steps_by_labels.keys().find(|labels| !is_number(labels)) {
            return Err(format!(
                "{name}.steps_by_labels has the key '{labels}', expected a number of labels per class"
            ));
        }
    }
    Ok(())
}

fn check_encoder(encoder: &EncoderConfig, num_points: usize) -> Result<(), String> {
    let num_points = num_points as i64;
    match encoder {
        EncoderConfig::Transformer(config) if config.channels % config.num_heads != 0 => Err(format!(
            "encoder.num_heads = {}, expected a divisor of encoder.channels = {}",
            config.num_heads, config.channels
        )),
        EncoderConfig::PointMae(config) if config.channels % config.num_heads != 0 => Err(format!(
            "encoder.num_heads = {}, expected a divisor of encoder.channels = {}",
            config.num_heads, config.channels
        )),
        EncoderConfig::PointMae(config) if config.num_neighbors.max(config.num_groups) > num_points => {
            Err(format!(
                "encoder.num_groups = {} and num_neighbors = {}, expected at most the number of points, {num_points}",
                config.num_groups, config.num_neighbors
            ))
        }
        EncoderConfig::PointM2ae(config) => check_levels(config, num_points),
        EncoderConfig::Dgcnn(config) if config.num_neighbors > config.num_points.unwrap_or(num_points) => {
            Err(format!(
                "encoder.num_neighbors = {}, expected at most the number of points, {}",
                config.num_neighbors,
                config.num_points.unwrap_or(num_points)
            ))
        }
        EncoderConfig::PointMlp(config) => {
            let thin = |points: i64, stage: &PointMlpStage| points / stage.reduction;
            if config.stages.iter().fold(num_points, thin) < 1 {
                return Err(format!(
                    "encoder.stages leave none of data.num_points = {num_points}; set a smaller reduction or more points"
                ));
            }
            if config.channels as f64 * config.bottleneck < 1.0 {
                return Err(format!(
                    "encoder.bottleneck = {}, expected at least one of encoder.channels = {}",
                    config.bottleneck, config.channels
                ));
            }
            Ok(())
        }
        EncoderConfig::PointNext(config) if num_points >> config.blocks.len().min(32) < 1 => Err(format!(
            "encoder.blocks has {} stages, each halving the points, and data.num_points = {num_points} are too few",
            config.blocks.len()
        )),
        _ => Ok(()),
    }
}

/// Every level groups what the one before has.
fn check_levels(config: &PointM2aeConfig, num_points: i64) -> Result<(), String> {
    let mut num_below = num_points;
    for level in &config.levels {
        if level.channels % config.num_heads != 0 {
            return Err(format!(
                "encoder.num_heads = {}, expected a divisor of encoder.levels.channels = {}",
                config.num_heads, level.channels
            ));
        }
        if level.num_groups.max(level.num_neighbors) > num_below {
            return Err(format!(
                "encoder.levels has num_groups = {} and num_neighbors = {} over {num_below} points or groups, expected at most as many",
                level.num_groups, level.num_neighbors
            ));
        }
        num_below = level.num_groups;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::config::PRESETS;

    /// What is set, and the words that the error holds.
    const WRONG: [(&[&str], &str); 53] = [
        (
            &["finetune.layer_decay=1.5"],
            "finetune.layer_decay = 1.5, expected a number above 0 and at most 1",
        ),
        (&["finetune.encoder_rate=0"], "finetune.encoder_rate = 0"),
        (
            &["finetune.freeze_encoder_steps=-1"],
            "finetune.freeze_encoder_steps",
        ),
        (
            &["segment.class_weights=[1,-1]"],
            "segment.class_weights = -1, expected a finite number above 0",
        ),
        (
            &["finetune.class_weights=even"],
            "expected \"none\", \"balanced\" or a list",
        ),
        (&["data.num_points=0"], "data.num_points = 0"),
        (&["data.num_views=0"], "data.num_views = 0"),
        (&["data.cache_mib=99999999999"], "data.cache_mib"),
        (&["data.train_splits=[]"], "data.train_splits = []"),
        (&["pretrain.batch_size=0"], "pretrain.batch_size = 0"),
        (&["pretrain.accumulate=0"], "pretrain.accumulation_steps = 0"),
        (
            &["pretrain.learning_rate=-1e-3"],
            "pretrain.learning_rate = -0.001, expected a finite number of at least 0",
        ),
        (&["pretrain.learning_rate=nan"], "pretrain.learning_rate = NaN"),
        (&["finetune.learning_rate=inf"], "finetune.learning_rate = inf"),
        (&["segment.final_learning_rate=-1"], "segment.final_learning_rate"),
        (&["pretrain.warmup=-1"], "pretrain.warmup = -1"),
        (&["pretrain.warmup_from=nan"], "pretrain.warmup_from"),
        (&["finetune.warmup_fraction=1.5"], "finetune.warmup_fraction"),
        (
            &["pretrain.milestones=[2,1]"],
            "pretrain.milestones = [2.0, 1.0], expected times in rising order",
        ),
        (&["pretrain.milestones=[inf]"], "pretrain.milestones = inf"),
        (&["pretrain.milestone_factor=-0.1"], "pretrain.milestone_factor"),
        (&["pretrain.weight_decay=-1"], "pretrain.weight_decay = -1"),
        (
            &["pretrain.clip_norm=-1"],
            "pretrain.max_grad_norm = -1, expected a number of at least 0",
        ),
        (&["pretrain.max_grad_norm=nan"], "pretrain.max_grad_norm = NaN"),
        (
            &["pretrain.ema_decay=1"],
            "pretrain.ema_decay = 1, expected a number of at least 0 and below 1",
        ),
        (
            &["pretrain.scale=[1.2,0.8]"],
            "pretrain.scale = [1.2, 0.8], expected the smaller factor first",
        ),
        (
            &["pretrain.scale=[0,1]"],
            "pretrain.scale = 0, expected a finite number above 0",
        ),
        (
            &["finetune.steps_by_labels.few=3"],
            "finetune.steps_by_labels has the key 'few'",
        ),
        (
            &["loss.label_smoothing=1.5"],
            "loss.label_smoothing = 1.5, expected a number of at least 0 and at most 1",
        ),
        (&["loss.foreground_weight=-1"], "loss.foreground_weight"),
        (&["loss.perceptual_weight=inf"], "loss.perceptual_weight"),
        (&["parts.jitter=-0.1"], "parts.jitter"),
        (&["parts.drop_normals=2"], "parts.drop_normals"),
        (&["head.dropout=2"], "head.dropout = 2"),
        (&["head.dropout=1"], "head.dropout = 1"),
        (&["head.widths=[0]"], "head.widths = 0"),
        (&["encoder.stages=[]"], "encoder.stages = []"),
        (&["encoder.last.widths=[]"], "encoder.last.widths = []"),
        (&["encoder.num_points=-5"], "encoder.num_points = -5"),
        (
            &["encoder.kind=transformer", "encoder.num_heads=5"],
            "encoder.num_heads = 5, expected a divisor of encoder.channels = 384",
        ),
        (
            &["encoder.kind=transformer", "encoder.drop_path=1"],
            "encoder.drop_path",
        ),
        (
            &["encoder.kind=transformer", "encoder.radius=-1"],
            "encoder.radius",
        ),
        (
            &["encoder.kind=dgcnn", "encoder.num_neighbors=600"],
            "encoder.num_neighbors = 600, expected at most the number of points, 512",
        ),
        (
            &["encoder.kind=point_mlp", "data.num_points=8"],
            "encoder.stages leave none of data.num_points = 8",
        ),
        (
            &["encoder.kind=point_mlp", "encoder.bottleneck=0.001"],
            "encoder.bottleneck",
        ),
        (
            &["encoder.kind=point_next", "data.num_points=8"],
            "encoder.blocks has 4 stages",
        ),
        (
            &["photograph.token_keep=0"],
            "photograph.token_keep = 0, expected a number above 0 and at most 1",
        ),
        (&["photograph.query.grid=0"], "photograph.query.grid = 0"),
        (
            &["photograph.ray_bias.distance=[nan]"],
            "photograph.ray_bias.distance = NaN",
        ),
        (&["decoder.layers=[]"], "decoder.layers = []"),
        (
            &["decoder.layers=[{channels=1,stride=1}]"],
            "decoder.layers.stride = 1",
        ),
        (&["decoder.last_bias=inf"], "decoder.last_bias"),
        (
            &["method.mask_ratio=nan"],
            "method.mask_ratio = NaN, expected a finite number",
        ),
    ];

    #[test]
    fn a_number_that_makes_no_sense_is_named() {
        for (settings, words) in WRONG {
            let settings: Vec<String> = settings.iter().map(|&setting| setting.to_owned()).collect();
            let error = Config::load(Some("mini"), &settings).unwrap_err().to_string();
            assert!(error.contains(words), "{settings:?}: {error}");
        }
    }

    #[test]
    fn numbers_at_the_edge_of_their_range_are_taken() {
        let settings = [
            "pretrain.clip_norm=0",
            "finetune.clip_norm=inf",
            "pretrain.learning_rate=0",
            "pretrain.scale=[1,1]",
            "loss.label_smoothing=1",
            "photograph.token_keep=1",
            "head.widths=[]",
            "log.checkpoint_every=0",
        ];
        Config::load(Some("mini"), &settings.map(String::from)).unwrap();
    }

    /// So that a new number cannot do without one.
    #[test]
    fn every_number_of_a_preset_has_a_range() {
        for preset in PRESETS.names() {
            let table = Table::try_from(Config::load(Some(preset), &[]).unwrap()).unwrap();
            for (name, value) in &table {
                assert_eq!(without_range(name, name, value), None, "{preset}: {name}");
            }
        }
    }

    /// The key of a number that has none, but for those that may be any of their type.
    fn without_range(table: &str, key: &str, value: &Value) -> Option<String> {
        match value {
            _ if ["seed", "steps", "steps_by_labels"].contains(&key) => None,
            Value::Table(settings) => settings
                .iter()
                .find_map(|(key, value)| without_range(table, key, value)),
            Value::Array(list) => list.iter().find_map(|value| without_range(table, key, value)),
            Value::Integer(_) | Value::Float(_) if Range::of(table, key).is_none() => Some(key.to_owned()),
            _ => None,
        }
    }

    #[test]
    fn a_wrong_file_is_named_and_is_no_wrong_command_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("my.toml");
        std::fs::write(&path, "[head]\ndropout = 2\n").unwrap();
        let load = |settings: &[String]| Config::load(path.to_str(), settings);
        let of_command_line = |error| match error {
            crate::TrainError::Settings(error) => error.is_of_command_line(),
            _ => false,
        };
        let error = load(&[]).unwrap_err();
        assert!(error.to_string().contains("my.toml") && !of_command_line(error));
        assert!(
            load(&[String::from("head.dropout=0.2")]).is_ok(),
            "it is mended on top"
        );
        std::fs::write(&path, "").unwrap();
        let error = load(&[String::from("head.dropout=2")]).unwrap_err();
        assert!(!error.to_string().contains("my.toml") && of_command_line(error));
    }
}
