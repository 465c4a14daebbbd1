//! Settings as TOML tables: a preset or a file, and `--set KEY=VALUE` on top. Nothing here knows what they mean.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::de::DeserializeOwned;
use thiserror::Error;
use toml::{Table, Value};

/// Why settings cannot be resolved.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// Neither a preset nor a file.
    #[error("'{name}' is neither a file nor a preset; presets: {known}")]
    UnknownPreset {
        /// What was asked for.
        name: String,
        /// All names, separated by commas.
        known: String,
    },
    /// The file cannot be read.
    #[error("could not read {}", path.display())]
    Read {
        /// The system's reason.
        #[source]
        source: io::Error,
        /// The file.
        path: PathBuf,
    },
    /// The file is not TOML, or a value in it does not fit.
    #[error("{problem}: {}", path.display())]
    File {
        /// What is wrong, with the line.
        problem: String,
        /// The file.
        path: PathBuf,
    },
    /// A `--set` that is malformed or does not fit.
    #[error("{problem}")]
    Setting {
        /// What is wrong, with the key.
        problem: String,
    },
}

impl SettingsError {
    fn setting(problem: impl Into<String>) -> Self {
        Self::Setting {
            problem: problem.into(),
        }
    }

    /// Is it about what was typed, and not about a file?
    #[must_use]
    pub fn is_of_command_line(&self) -> bool {
        matches!(self, Self::UnknownPreset { .. } | Self::Setting { .. })
    }
}

/// One `--set KEY=VALUE`: a dotted key and a TOML value. A value that is not TOML is a string, so that
/// `render.framing=box` needs no quotes.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    key: String,
    value: Value,
}

impl Setting {
    /// `key` is dotted, as in `render.size_px`.
    pub fn new(key: impl Into<String>, value: impl Into<Value>) -> Self {
        Self {
            key: key.into(),
            value: value.into(),
        }
    }

    /// The dotted key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Writes the value into a table. `expand` gives the table that a name stands for, where a setting may have either: a
    /// lighting, for example.
    ///
    /// # Errors
    /// When a key on the way holds a value that is not a table.
    pub fn apply(
        &self,
        table: &mut Table,
        expand: &dyn Fn(&str, &Value) -> Option<Value>,
    ) -> Result<(), SettingsError> {
        let mut table = table;
        let (parents, last) = match self.key.rsplit_once('.') {
            Some((parents, last)) => (parents.split('.').collect(), last),
            None => (Vec::new(), self.key.as_str()),
        };
        for parent in parents {
            let entry = table.entry(parent).or_insert_with(|| Value::Table(Table::new()));
            if let Some(expanded) = expand(parent, entry) {
                *entry = expanded;
            }
            table = entry.as_table_mut().ok_or_else(|| {
                SettingsError::setting(format!("`{parent}` in `{}` is a value, not a table", self.key))
            })?;
        }
        // As in a file, a table of another kind has nothing in common with the one before.
        if last == KIND && table.get(last).is_some_and(|kind| *kind != self.value) {
            table.clear();
        }
        table.insert(last.to_owned(), self.value.clone());
        Ok(())
    }
}

/// As it is typed: what this writes, [`FromStr`] reads.
impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

impl FromStr for Setting {
    type Err = SettingsError;

    fn from_str(text: &str) -> Result<Self, SettingsError> {
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| SettingsError::setting(format!("expected KEY=VALUE, not '{text}'")))?;
        let (key, value) = (key.trim(), value.trim());
        if key.split('.').any(str::is_empty) {
            return Err(SettingsError::setting(format!("'{key}' is not a key")));
        }
        // A value with a line break in it could bring keys of its own.
        let parsed = format!("value = {value}")
            .parse::<Table>()
            .ok()
            .filter(|table| table.len() == 1);
        let value = parsed
            .and_then(|mut table| table.remove("value"))
            .unwrap_or_else(|| Value::String(value.to_owned()));
        Ok(Self {
            key: key.to_owned(),
            value,
        })
    }
}

/// For tables whose names stand for themselves: the `expand` of most settings.
#[must_use]
pub fn no_expansion(_key: &str, _value: &Value) -> Option<Value> {
    None
}

/// The key that says which alternative a table describes.
const KIND: &str = "kind";

/// Merges `over` into `base`, table by table. A table of another `kind` replaces the whole.
pub fn merge(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above))
                if !above.contains_key(KIND) || above.get(KIND) == below.get(KIND) =>
            {
                merge(below, above);
            }
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// Presets that a program carries: names and TOML texts. A preset or a file may start from another preset, which it
/// names under the key `preset`.
#[derive(Debug, Clone, Copy)]
pub struct Presets(pub &'static [(&'static str, &'static str)]);

impl Presets {
    /// The names, in the order of the list.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|(name, _)| *name)
    }

    /// The preset of this name with all that it starts from; `None` if there is none.
    ///
    /// # Errors
    /// When its text is not TOML.
    pub fn get(self, name: &str) -> Result<Option<Table>, SettingsError> {
        let Some((_, text)) = self.0.iter().find(|(preset, _)| *preset == name) else {
            return Ok(None);
        };
        let table = parse_table(text, Path::new(name))?;
        let mut table = self.on_its_base(table)?;
        table.insert(PRESET.to_owned(), Value::String(name.to_owned()));
        Ok(Some(table))
    }

    /// A preset, or a file with what it starts from.
    ///
    /// # Errors
    /// When it is neither, or the file cannot be read or is not TOML.
    pub fn get_or_read(self, name_or_path: &str) -> Result<Table, SettingsError> {
        if let Some(preset) = self.get(name_or_path)? {
            return Ok(preset);
        }
        let path = Path::new(name_or_path);
        if !path.exists() {
            return Err(self.unknown(name_or_path));
        }
        self.on_its_base(read_table(path)?)
    }

    fn on_its_base(self, table: Table) -> Result<Table, SettingsError> {
        let Some(name) = table.get(PRESET).and_then(Value::as_str) else {
            return Ok(table);
        };
        let mut base = self.get(name)?.ok_or_else(|| self.unknown(name))?;
        merge(&mut base, table);
        Ok(base)
    }

    fn unknown(self, name: &str) -> SettingsError {
        SettingsError::UnknownPreset {
            name: name.to_owned(),
            known: self.names().collect::<Vec<_>>().join(", "),
        }
    }
}

/// The key under which a preset or a file names the preset that it starts from.
const PRESET: &str = "preset";

/// Resolves settings: `base` (a file or preset, already read from `file`), then each setting.
///
/// # Errors
/// When the base alone does not deserialize (an error of its file), or a setting does not fit.
pub fn resolve<T: DeserializeOwned>(
    base: Table,
    file: Option<&Path>,
    settings: &[Setting],
    expand: &dyn Fn(&str, &Value) -> Option<Value>,
) -> Result<T, SettingsError> {
    if let (Some(path), Err(problem)) = (file, deserialize::<T>(&base)) {
        return Err(SettingsError::File {
            problem,
            path: path.to_owned(),
        });
    }
    let mut table = base.clone();
    for setting in settings {
        setting.apply(&mut table, expand)?;
    }
    deserialize(&table).map_err(|problem| match first_wrong::<T>(base, settings, expand) {
        Some(wrong) => SettingsError::setting(wrong),
        None => SettingsError::setting(problem),
    })
}

/// What is wrong with the first setting that does not fit, which is named as it was given.
fn first_wrong<T: DeserializeOwned>(
    base: Table,
    settings: &[Setting],
    expand: &dyn Fn(&str, &Value) -> Option<Value>,
) -> Option<String> {
    let mut table = base;
    for setting in settings {
        setting.apply(&mut table, expand).ok()?;
        if let Err(error) = parse_as::<T>(&table) {
            let Setting { key, value } = setting;
            return Some(format!("invalid setting `{key} = {value}`: {}", error.message));
        }
    }
    None
}

/// Reads a TOML file.
///
/// # Errors
/// When it cannot be read or is not TOML; the message names the line.
pub fn read_table(path: &Path) -> Result<Table, SettingsError> {
    let text = fs::read_to_string(path).map_err(|source| SettingsError::Read {
        source,
        path: path.to_owned(),
    })?;
    parse_table(&text, path)
}

fn parse_table(text: &str, path: &Path) -> Result<Table, SettingsError> {
    text.parse()
        .map_err(|error: toml::de::Error| SettingsError::File {
            problem: format!("line {}: {}", 1 + line_index(text, &error), error.message()),
            path: path.to_owned(),
        })
}

fn deserialize<T: DeserializeOwned>(table: &Table) -> Result<T, String> {
    parse_as(table).map_err(|ParseError { line, message }| format!("invalid setting `{line}`: {message}"))
}

/// Why a table does not fit, and the line of its text that is at fault.
struct ParseError {
    line: String,
    message: String,
}

fn parse_as<T: DeserializeOwned>(table: &Table) -> Result<T, ParseError> {
    // By way of the text: the deserializer of a `Table` names no key where a value is wrong.
    let text = toml::to_string(table).map_err(|error| ParseError {
        line: String::new(),
        message: error.to_string(),
    })?;
    toml::from_str(&text).map_err(|error| {
        let line_idx = line_index(&text, &error);
        let line = text.lines().nth(line_idx).unwrap_or_default();
        ParseError {
            line: format!("{}{line}", table_of_line(&text, line_idx)),
            message: error.message().to_owned(),
        }
    })
}

/// What stands before the key of a line in a dotted key: the table that it is in, and a dot.
fn table_of_line(text: &str, line_idx: usize) -> String {
    let before: Vec<&str> = text.lines().take(line_idx).collect();
    let heading = before.iter().rev().find(|line| line.starts_with('['));
    heading.map_or_else(String::new, |heading| {
        format!(
            "{}.",
            heading.trim_matches(|bracket| bracket == '[' || bracket == ']')
        )
    })
}

/// The 0-based line that an error is about.
fn line_index(text: &str, error: &toml::de::Error) -> usize {
    text[..error.span().map_or(0, |span| span.start)]
        .matches('\n')
        .count()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Recipe {
        preset: Option<String>,
        seed: u64,
        render: Render,
    }
    #[derive(Debug, PartialEq, serde::Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Render {
        size_px: u32,
        framing: String,
    }
    impl Default for Recipe {
        fn default() -> Self {
            Self {
                preset: None,
                seed: 1,
                render: Render::default(),
            }
        }
    }
    impl Default for Render {
        fn default() -> Self {
            Self {
                size_px: 224,
                framing: "mvcnn".to_owned(),
            }
        }
    }

    const PRESETS: Presets = Presets(&[
        ("small", "[render]\nsize_px = 64\n"),
        ("tiny", "preset = 'small'\nseed = 3\n[render]\nsize_px = 32\n"),
    ]);

    fn resolved(base: Table, file: Option<&Path>, settings: &[&str]) -> Result<Recipe, SettingsError> {
        let settings: Vec<Setting> = settings.iter().map(|text| text.parse().unwrap()).collect();
        resolve(base, file, &settings, &no_expansion)
    }

    #[test]
    fn later_settings_win_and_strings_need_no_quotes() {
        let settings = ["render.size_px=64", "render.size_px = 32", "render.framing=box"];
        let recipe = resolved(Table::new(), None, &settings).unwrap();
        let render = Render {
            size_px: 32,
            framing: "box".to_owned(),
        };
        let expected = Recipe {
            preset: None,
            seed: 1,
            render,
        };
        assert_eq!(recipe, expected);
    }

    #[test]
    fn settings_override_a_file_and_a_file_its_preset() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("recipe.toml");
        fs::write(&path, "preset = 'tiny'\nseed = 7\n").unwrap();
        let base = PRESETS.get_or_read(path.to_str().unwrap()).unwrap();
        let recipe = resolved(base.clone(), Some(&path), &["seed=9"]).unwrap();
        assert_eq!((recipe.seed, recipe.render.size_px), (9, 32), "{base}");
        assert_eq!(recipe.preset.as_deref(), Some("tiny"), "the nearest one is named");
    }

    #[test]
    fn a_name_can_stand_for_a_table() {
        let expand = |key: &str, value: &Value| {
            let is_named = key == "render" && value.as_str() == Some("big");
            is_named.then(|| Value::Table("size_px = 512\nframing = 'box'".parse().unwrap()))
        };
        let settings = [
            Setting::new("render", "big"),
            "render.framing=sphere".parse().unwrap(),
        ];
        let recipe: Recipe = resolve(Table::new(), None, &settings, &expand).unwrap();
        assert_eq!(recipe.render.size_px, 512);
        assert_eq!(recipe.render.framing, "sphere");
        let error = resolve::<Recipe>(Table::new(), None, &settings, &no_expansion).unwrap_err();
        assert!(error.to_string().contains("not a table"), "{error}");
    }

    #[test]
    fn a_setting_is_written_as_it_is_read() {
        for text in ["a.b=3", "a=box", "a=[1.5, 2.0]", "a=\"x=y\"", "a=true"] {
            let setting: Setting = text.parse().unwrap();
            assert_eq!(setting.to_string().parse::<Setting>().unwrap(), setting, "{text}");
        }
    }

    #[test]
    fn a_table_of_another_kind_replaces_the_whole() {
        let mut table: Table = "[encoder]\nkind = 'a'\nwidth = 3".parse().unwrap();
        merge(&mut table, "[encoder]\nkind = 'b'\ndepth = 2".parse().unwrap());
        assert_eq!(table, "[encoder]\nkind = 'b'\ndepth = 2".parse().unwrap());
        let setting: Setting = "encoder.kind=c".parse().unwrap();
        setting.apply(&mut table, &no_expansion).unwrap();
        assert_eq!(table, "[encoder]\nkind = 'c'".parse().unwrap());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = resolved(Table::new(), None, &["render.sise_px=64"]).unwrap_err();
        assert!(
            error.is_of_command_line() && error.to_string().contains("`render.sise_px = 64`"),
            "{error}"
        );
        let error = resolved(Table::new(), None, &["seed=3", "lighting.foo=1"]).unwrap_err();
        assert!(error.to_string().contains("`lighting.foo = 1`"), "{error}");
        let error = resolved(Table::new(), None, &["seed=many"]).unwrap_err();
        assert!(error.to_string().contains("seed = \"many\""), "{error}");
        let error = PRESETS.get_or_read("mini").unwrap_err();
        assert!(
            error.is_of_command_line() && error.to_string().contains("small, tiny"),
            "{error}"
        );

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("recipe.toml");
        fs::write(&path, "seed = 7\nseed = 8\n").unwrap();
        let error = read_table(&path).unwrap_err();
        assert!(
            !error.is_of_command_line(),
            "the file is wrong, not the command line"
        );
        let error = error.to_string();
        assert!(
            error.contains("line 2") && error.contains("recipe.toml"),
            "{error}"
        );
        let base: Table = "seed = 'many'".parse().unwrap();
        let error = resolved(base, Some(&path), &[]).unwrap_err();
        assert!(
            !error.is_of_command_line() && error.to_string().contains("seed"),
            "{error}"
        );
        assert!(
            "=3".parse::<Setting>().is_err() && "a..b=3".parse::<Setting>().is_err(),
            "no key"
        );
    }
}
