//! How a configuration is read: a preset or a file, and settings on top.

use std::path::Path;

use tap_cli::settings::{self, Presets, Setting, SettingsError, merge, no_expansion};
use toml::{Table, Value};

use super::method::method_table;
use super::{Config, PHASES, invalid, range};
use crate::error::TrainError;

/// A preset's name and text.
macro_rules! preset {
    ($name:literal) => {
        (
            $name,
            include_str!(concat!("../../../assets/presets/", $name, ".toml")),
        )
    };
}

/// The presets, by name: `mini` and its variants for minutes on a CPU, `paper` for published sizes and schedules.
pub const PRESETS: Presets = Presets(&[
    preset!("mini"),
    preset!("mini-dgcnn"),
    preset!("mini-i2p-mae"),
    preset!("mini-point-m2ae"),
    preset!("mini-point-mae"),
    preset!("mini-point-mlp"),
    preset!("mini-point-next"),
    preset!("mini-tap-i2p"),
    preset!("mini-transformer"),
    preset!("paper-dgcnn"),
    preset!("paper-dgcnn-scanobjectnn"),
    preset!("paper-i2p-mae"),
    preset!("paper-point-m2ae"),
    preset!("paper-point-mae"),
    preset!("paper-point-mae-fewshot"),
    preset!("paper-point-mlp"),
    preset!("paper-point-mlp-elite"),
    preset!("paper-point-mlp-modelnet40"),
    preset!("paper-point-mlp-scanobjectnn"),
    preset!("paper-point-mlp-shapenetpart"),
    preset!("paper-point-net2"),
    preset!("paper-point-net2-scanobjectnn"),
    preset!("paper-point-next"),
    preset!("paper-transformer"),
    preset!("paper-transformer-fewshot"),
    preset!("paper-transformer-scanobjectnn"),
]);

/// The preset where none is named.
pub const DEFAULT_PRESET: &str = "mini";

impl Config {
    /// A preset's name or a file, with `key=value` settings on top.
    ///
    /// # Errors
    /// Where there is no such preset or file, or something in it is unknown, of the wrong type or out of range.
    pub fn load(name_or_path: Option<&str>, settings: &[String]) -> Result<Self, TrainError> {
        let name_or_path = name_or_path.unwrap_or(DEFAULT_PRESET);
        // Below everything lie the defaults, so that a table that names only some keys leaves the others alone.
        let mut table = Table::try_from(Self::default()).map_err(|error| invalid(error.to_string()))?;
        merge(&mut table, read(name_or_path)?);
        resolve_settings(table, Some(Path::new(name_or_path)), settings)
    }

    /// This configuration with `key=value` settings on top.
    ///
    /// # Errors
    /// Where something in a setting is unknown, of the wrong type or out of range.
    pub fn with_settings(&self, settings: &[String]) -> Result<Self, TrainError> {
        let table = Table::try_from(self).map_err(|error| invalid(error.to_string()))?;
        resolve_settings(table, None, settings)
    }
}

fn resolve_settings(
    mut table: Table,
    file: Option<&Path>,
    settings: &[String],
) -> Result<Config, TrainError> {
    let settings: Vec<Setting> = settings
        .iter()
        .map(|setting| under_its_name(&setting.parse()?))
        .collect::<Result<_, _>>()?;
    // Who sets the steps of a phase means them for any number of labels.
    for phase in PHASES {
        let (steps, by_labels) = (format!("{phase}.steps"), format!("{phase}.steps_by_labels"));
        if settings.iter().any(|setting| setting.key() == steps)
            && !settings
                .iter()
                .any(|setting| setting.key().starts_with(&by_labels))
            && let Some(Value::Table(phase)) = table.get_mut(phase)
        {
            phase.remove("steps_by_labels");
        }
    }
    let resolve = |settings| settings::resolve(table.clone(), file, settings, &no_expansion);
    let config: Config = resolve(&settings)?;
    let Err(problem) = range::check(&config) else {
        return Ok(config);
    };
    // Without any settings it is either wrong as well, or they are to blame.
    let of_file = file.filter(|_| resolve(&[]).is_ok_and(|config| range::check(&config).is_err()));
    Err(match of_file {
        Some(path) => SettingsError::File {
            problem,
            path: path.to_owned(),
        },
        None => SettingsError::Setting { problem },
    }
    .into())
}

/// Keys with a second name: their tables, the name that is also accepted, and the name that counts. Most are the names of
/// earlier versions.
const KEY_ALIASES: [(&[&str], &str, &str); 6] = [
    (&PHASES, "clip_norm", "max_grad_norm"),
    (&PHASES, "accumulate", "accumulation_steps"),
    (&PHASES, "tail", "last_batch"),
    (&["log"], "pictures_every", "images_every"),
    (&["log"], "num_pictures", "num_images"),
    (&["photograph"], "feature_projection", "mixing"),
];

/// Replaces accepted names of keys by those that count.
fn resolve_aliases(table: &mut Table) -> Result<(), TrainError> {
    if let Some(method) = table.get_mut("method") {
        *method = method_table(method.clone());
    }
    for (tables, alias, name) in KEY_ALIASES {
        for &place in tables {
            let Some(Value::Table(settings)) = table.get_mut(place) else {
                continue;
            };
            let Some(value) = settings.remove(alias) else {
                continue;
            };
            if settings.insert(name.to_owned(), value).is_some() {
                return Err(invalid(format!(
                    "[{place}] {alias} and {name} are the same setting"
                )));
            }
        }
    }
    Ok(())
}

/// A preset, or a file on top of the preset that it names, with keys under the names that count.
fn read(name_or_path: &str) -> Result<Table, TrainError> {
    let path = Path::new(name_or_path);
    if PRESETS.names().any(|name| name == name_or_path) || !path.is_file() {
        let mut table = PRESETS.get_or_read(name_or_path)?;
        resolve_aliases(&mut table)?;
        return Ok(table);
    }
    let mut table = settings::read_table(path)?;
    resolve_aliases(&mut table)?;
    let Some(preset) = table.get("preset").and_then(Value::as_str) else {
        return Ok(table);
    };
    let mut base = PRESETS.get_or_read(preset)?;
    resolve_aliases(&mut base)?;
    merge(&mut base, table);
    Ok(base)
}

/// A setting whose key is an accepted name, under the name that counts.
fn under_its_name(setting: &Setting) -> Result<Setting, TrainError> {
    let mut typed = Table::new();
    setting.apply(&mut typed, &no_expansion)?;
    resolve_aliases(&mut typed)?;
    let mut keys: Vec<&str> = setting.key().split('.').collect();
    if let [place, key] = keys.as_mut_slice() {
        let alias = KEY_ALIASES
            .iter()
            .find(|(tables, alias, _)| tables.contains(place) && alias == key);
        *key = alias.map_or(*key, |(_, _, name)| name);
    }
    let mut value = Value::Table(typed);
    for key in &keys {
        if let Value::Table(mut table) = value {
            value = table.remove(*key).expect("the setting was written there");
        } else {
            unreachable!("a setting lies in tables");
        }
    }
    Ok(Setting::new(keys.join("."), value))
}
