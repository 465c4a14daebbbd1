//! The settings that act in a run, as a user is told them when it begins: a list a table, without what is switched off or has
//! no say in this task.

use serde::Serialize;
use toml::{Table, Value};

use crate::config::{Config, MethodPlan, PRESETS, Plan, SUM, TAP, Task};
use crate::method;
use crate::run::event::{ActiveSetting, ActiveSettings};

/// Keys of a phase that only a fine-tuning reads.
const OF_FINE_TUNING: [&str; 5] = [
    "select",
    "freeze_encoder_steps",
    "encoder_rate",
    "layer_decay",
    "class_weights",
];
/// Keys of `[data]` that only methods with views or features read.
const OF_VIEWS: [&str; 3] = ["num_views", "images", "color"];
const OF_FEATURES: [&str; 2] = ["features", "hidden_points"];
/// Keys of `[loss]` by what reads them.
const OF_PIXELS: [&str; 5] = [
    "foreground_weight",
    "background_weight",
    "pixel_distance",
    "perceptual_weight",
    "perceptual_network",
];
const OF_LABELS: [&str; 2] = ["label_smoothing", "smoothing_rule"];
/// Factors that change nothing at 1.
const NEUTRAL_AT_ONE: [&str; 4] = ["accumulation_steps", "encoder_rate", "layer_decay", "fraction"];

/// The settings of a run that act. Those are marked that its preset, or without one the defaults, would have otherwise.
pub(super) fn active_settings(config: &Config, plan: &Plan) -> ActiveSettings {
    let preset = config
        .preset
        .clone()
        .filter(|name| PRESETS.names().any(|preset| preset == name));
    let base = match &preset {
        Some(name) => Config::load(Some(name), &[]).unwrap_or_default(),
        None => Config::default(),
    };
    let base_method = method::find(&base.method.kind)
        .and_then(|kind| kind.plan(&base))
        .ok();
    let [now, before] = [config, &base].map(|config| Table::try_from(config).unwrap_or_default());
    let phase = plan.task.table();
    let of_phase = |config: &Table| resolved_phase(table(config, phase), plan);
    let mut tables = Vec::new();
    let mut add = |name: &str, now: Table, before: &Table| {
        let settings = active(&now, before);
        if !settings.is_empty() {
            tables.push((name.to_owned(), settings));
        }
    };
    let mut data = without(table(&now, "data"), &unread_data(plan));
    let split = plan.data.evaluation_split.to_string();
    data.insert(String::from("evaluation_split"), Value::String(split));
    let mut data_before = table(&before, "data");
    if config.data.evaluation_split == base.data.evaluation_split {
        data_before.insert(String::from("evaluation_split"), data["evaluation_split"].clone());
    }
    add("data", data, &data_before);
    add(
        phase,
        of_phase(&now),
        &steps_unless_set(of_phase(&before), config, &base, &plan.task),
    );
    if plan.parts.is_some() {
        add("parts", table(&now, "parts"), &table(&before, "parts"));
    }
    let loss = only(table(&now, "loss"), read_losses(plan));
    add("loss", loss, &table(&before, "loss"));
    if plan.task != Task::Pretrain {
        let read: &[&str] = if plan.task == Task::Segment {
            &["dropout"]
        } else {
            &["widths", "dropout", "bias"]
        };
        add("head", only(table(&now, "head"), read), &table(&before, "head"));
    }
    add("encoder", table_of(&plan.encoder), &table_of(&base.encoder));
    if plan.task == Task::Pretrain {
        for (name, settings) in method_tables(&plan.method) {
            let before = base_method
                .iter()
                .flat_map(method_tables)
                .find(|(other, _)| *other == name);
            add(
                name,
                settings,
                &before.map(|(_, table)| table).unwrap_or_default(),
            );
        }
    }
    let images: &[&str] = if plan.task == Task::Pretrain {
        &[]
    } else {
        &["images_every", "num_images"]
    };
    add("log", without(table(&now, "log"), images), &table(&before, "log"));
    ActiveSettings {
        preset,
        seed: config.seed,
        tables,
    }
}

fn table(config: &Table, name: &str) -> Table {
    config
        .get(name)
        .and_then(Value::as_table)
        .cloned()
        .unwrap_or_default()
}

fn table_of(settings: &impl Serialize) -> Table {
    Table::try_from(settings).unwrap_or_default()
}

fn only(mut table: Table, keys: &[&str]) -> Table {
    table.retain(|key, _| keys.contains(&key));
    table
}

fn without(mut table: Table, keys: &[&str]) -> Table {
    table.retain(|key, _| !keys.contains(&key));
    table
}

/// Whether a pre-training is by TAP, alone or in a sum.
fn draws_views(plan: &Plan) -> bool {
    match &plan.method {
        _ if plan.task != Task::Pretrain => false,
        MethodPlan::Tap { .. } => true,
        MethodPlan::Other(method) if method.kind == SUM => {
            let summands = method.settings.get("of").and_then(Value::as_array);
            let is_tap = |summand: &Value| summand.get("kind").and_then(Value::as_str) == Some(TAP);
            summands.is_some_and(|summands| summands.iter().any(is_tap))
        }
        MethodPlan::Other(_) => false,
    }
}

fn unread_data(plan: &Plan) -> Vec<&'static str> {
    let mut unread = Vec::new();
    if !draws_views(plan) {
        unread.extend(OF_VIEWS);
    }
    if plan.data.features.is_empty() || plan.task != Task::Pretrain {
        unread.extend(OF_FEATURES);
    }
    if plan.data.blocks == tap_dataset::BlockShuffle::default() {
        unread.push("blocks");
    }
    unread
}

fn read_losses(plan: &Plan) -> &'static [&'static str] {
    match plan.task {
        Task::Pretrain if draws_views(plan) => &OF_PIXELS,
        Task::Classify => &OF_LABELS,
        Task::Pretrain | Task::Segment | Task::Other(_) => &[],
    }
}

/// A phase with the steps that the run takes, without what its curve of the learning rate does not read.
fn resolved_phase(mut phase: Table, plan: &Plan) -> Table {
    let is_set = |phase: &Table, key: &str| phase.get(key).is_some_and(|value| !is_off(key, value));
    let mut unread = vec!["steps_by_labels"];
    if is_set(&phase, "milestones") {
        unread.extend(["warmup", "warmup_fraction", "warmup_from"]);
        unread.extend(["final_learning_rate", "schedule_length"]);
    } else {
        unread.push("milestone_factor");
    }
    if is_set(&phase, "warmup") {
        unread.push("warmup_fraction");
    } else if !is_set(&phase, "warmup_fraction") {
        unread.push("warmup_from");
    }
    if plan.phase.accumulation_steps == 1 {
        unread.push("batch_norm");
    }
    if plan.task == Task::Pretrain {
        unread.extend(OF_FINE_TUNING);
    }
    if phase.contains_key("steps") || is_set(&phase, "steps_by_labels") {
        unread.push("epochs");
    }
    phase.insert(String::from("steps"), Value::Integer(plan.phase.num_steps as i64));
    without(phase, &unread)
}

/// The phase of the base, whose steps are those of the run unless something was set that they follow from.
fn steps_unless_set(mut phase: Table, config: &Config, base: &Config, task: &Task) -> Table {
    let length = |config: &Config| {
        let phase = task.phase(config);
        (phase.steps, phase.epochs, phase.steps_by_labels.clone())
    };
    if length(config) != length(base) {
        phase.remove("steps");
    }
    phase
}

/// The tables of a method.
fn method_tables(method: &MethodPlan) -> Vec<(&'static str, Table)> {
    match method {
        MethodPlan::Tap { photograph, decoder } => {
            vec![
                ("photograph", table_of(photograph)),
                ("decoder", table_of(decoder)),
            ]
        }
        MethodPlan::Other(method) => vec![("method", table_of(method))],
    }
}

/// What acts of a table: all but what is switched off in both.
fn active(now: &Table, before: &Table) -> Vec<ActiveSetting> {
    let mut settings = Vec::new();
    // The kind of a network says most.
    let kinds = now.iter().filter(|(key, _)| *key == "kind");
    for (key, value) in kinds.chain(now.iter().filter(|(key, _)| *key != "kind")) {
        let is_changed = before.get(key) != Some(value);
        let was_on = before.get(key).is_some_and(|value| !is_off(key, value));
        if is_off(key, value) && !(is_changed && was_on) {
            continue;
        }
        settings.push(ActiveSetting {
            text: format!("{key} {}", text(value)),
            is_changed,
        });
    }
    settings
}

/// Whether a setting does nothing at this value.
fn is_off(key: &str, value: &Value) -> bool {
    match value {
        Value::Boolean(is_on) => !is_on,
        Value::Integer(1) => NEUTRAL_AT_ONE.contains(&key),
        Value::Integer(number) => *number == 0,
        Value::Float(number) if NEUTRAL_AT_ONE.contains(&key) => (number - 1.0).abs() < f64::EPSILON,
        Value::Float(number) => *number == 0.0,
        Value::String(text) => text.is_empty() || text == "none",
        Value::Array(list) => list.is_empty(),
        Value::Table(table) => table.is_empty(),
        Value::Datetime(_) => false,
    }
}

/// A value without what TOML needs and a reader does not.
fn text(value: &Value) -> String {
    let joined = |items: Vec<String>| items.join(", ");
    match value {
        Value::String(text) => text.clone(),
        Value::Float(number) if *number != 0.0 && number.abs() < 1e-3 => format!("{number:e}"),
        Value::Float(number) => number.to_string(),
        Value::Array(list) => format!("[{}]", joined(list.iter().map(text).collect())),
        Value::Table(table) => {
            let entries = table.iter().map(|(key, value)| format!("{key} {}", text(value)));
            format!("{{{}}}", joined(entries.collect()))
        }
        other => other.to_string(),
    }
}
