//! From what the user typed to a resolved recipe: the file of `--recipe`, then the flags, then each `--set`.

use std::fs;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail};
use clap::error::ErrorKind;
use serde::de::DeserializeOwned;
use tap_render::Lighting;
use toml::{Table, Value};

/// One `--set KEY=VALUE`: a dotted key and a TOML value. A value that is no TOML is taken as a string, so that
/// `render.framing=box` needs no quotes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Setting {
    key: String,
    value: Value,
}

impl Setting {
    pub(crate) fn new(key: impl Into<String>, value: impl Into<Value>) -> Self {
        Self {
            key: key.into(),
            value: value.into(),
        }
    }

    fn apply(&self, table: &mut Table) -> Result<(), String> {
        let mut table = table;
        let (parents, last) = match self.key.rsplit_once('.') {
            Some((parents, last)) => (parents.split('.').collect(), last),
            None => (Vec::new(), self.key.as_str()),
        };
        for parent in parents {
            let entry = table.entry(parent).or_insert_with(|| Value::Table(Table::new()));
            if let Some(named) = table_of_name(parent, entry) {
                *entry = named;
            }
            table = entry
                .as_table_mut()
                .ok_or_else(|| format!("`{parent}` in `{}` is no table", self.key))?;
        }
        table.insert(last.to_owned(), self.value.clone());
        Ok(())
    }
}

/// The table that a name stands for, where a recipe may have either.
fn table_of_name(key: &str, value: &Value) -> Option<Value> {
    let name = value.as_str().filter(|_| key == "lighting")?;
    let lighting: Lighting = name.parse().ok()?;
    Value::try_from(lighting).ok()
}

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
        let (key, value) = (key.trim(), value.trim());
        if key.split('.').any(str::is_empty) {
            return Err(format!("`{key}` is no key"));
        }
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

/// Resolves a recipe.
///
/// # Errors
/// When the file can't be read or is no such recipe; a setting that doesn't fit is an error of the command line.
pub(crate) fn resolve<T: DeserializeOwned>(file: Option<&Path>, settings: &[Setting]) -> Result<T> {
    let mut table = match file {
        Some(path) => read_table(path)?,
        None => Table::new(),
    };
    let from_file = parse::<T>(&table);
    if let (Err(problem), Some(path)) = (&from_file, file) {
        bail!("{problem}: {}", path.display());
    }
    for setting in settings {
        setting.apply(&mut table).map_err(usage)?;
    }
    parse(&table).map_err(usage)
}

/// A TOML file as a table.
///
/// # Errors
/// When it can't be read or is no TOML; the message names the line.
pub(crate) fn read_table(path: &Path) -> Result<Table> {
    let text = fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))?;
    text.parse::<Table>().map_err(|error| {
        let line = 1 + line_index(&text, &error);
        anyhow!("{}, line {line}: {}", error.message(), path.display())
    })
}

fn parse<T: DeserializeOwned>(table: &Table) -> Result<T, String> {
    // By way of the text: the deserializer of a `Table` names no key where a value is wrong.
    let text = toml::to_string(table).map_err(|error| error.to_string())?;
    toml::from_str(&text).map_err(|error| {
        let line = text.lines().nth(line_index(&text, &error)).unwrap_or_default();
        format!("there is a wrong setting, `{line}`: {}", error.message())
    })
}

/// The line that an error is about, from 0.
fn line_index(text: &str, error: &toml::de::Error) -> usize {
    text[..error.span().map_or(0, |span| span.start)]
        .matches('\n')
        .count()
}

/// An error of the command line: it is printed as such, and the exit code is 2.
pub(crate) fn usage(problem: impl std::fmt::Display) -> anyhow::Error {
    clap::Error::raw(ErrorKind::ValueValidation, format!("{problem}\n")).into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Recipe {
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

    fn settings(texts: &[&str]) -> Vec<Setting> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn later_settings_win_and_strings_need_no_quotes() {
        let recipe: Recipe = resolve(
            None,
            &settings(&["render.size_px=64", "render.size_px = 32", "render.framing=box"]),
        )
        .unwrap();
        assert_eq!(
            recipe,
            Recipe {
                seed: 1,
                render: Render {
                    size_px: 32,
                    framing: "box".to_owned()
                }
            }
        );
    }

    #[test]
    fn a_file_gives_way_to_settings() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("recipe.toml");
        fs::write(&path, "seed = 7\n[render]\nsize_px = 64\n").unwrap();
        let recipe: Recipe = resolve(Some(&path), &settings(&["seed=9"])).unwrap();
        assert_eq!((recipe.seed, recipe.render.size_px), (9, 64));
    }

    #[test]
    fn settings_change_parts_of_a_named_lighting() {
        #[derive(Debug, Default, serde::Deserialize)]
        #[serde(default)]
        struct Lit {
            lighting: Lighting,
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("recipe.toml");
        fs::write(&path, "lighting = 'textured'\n").unwrap();
        let expected = Lighting {
            diffuse: 0.25,
            ..Lighting::textured()
        };
        let of_file: Lit = resolve(Some(&path), &settings(&["lighting.diffuse=0.25"])).unwrap();
        assert_eq!(of_file.lighting, expected);
        let named = ["lighting=textured", "lighting.diffuse=0.25"];
        let of_settings: Lit = resolve(None, &settings(&named)).unwrap();
        assert_eq!(of_settings.lighting, expected);
        let error = resolve::<Recipe>(None, &settings(&["render.framing=box", "render.framing.x=3"]));
        assert!(error.unwrap_err().to_string().contains("no table"), "other names");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = resolve::<Recipe>(None, &settings(&["render.sise_px=64"])).unwrap_err();
        assert!(
            error.is::<clap::Error>(),
            "a wrong setting is a wrong command line"
        );
        assert!(error.to_string().contains("sise_px"), "{error}");
        let error = resolve::<Recipe>(None, &settings(&["seed=many"])).unwrap_err();
        assert!(error.to_string().contains("seed = \"many\""), "{error}");

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("recipe.toml");
        fs::write(&path, "seed = 7\nseed = 8\n").unwrap();
        let error = resolve::<Recipe>(Some(&path), &[]).unwrap_err().to_string();
        assert!(
            error.contains("line 2") && error.contains("recipe.toml"),
            "{error}"
        );
        assert!(
            "=3".parse::<Setting>().is_err() && "a..b=3".parse::<Setting>().is_err(),
            "no key"
        );
    }
}
