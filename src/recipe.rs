//! Recipes from the command line: a preset or a file, then the flags, then each `--set`.

use std::path::Path;

use anyhow::Result;
use serde::de::DeserializeOwned;
use tap_cli::settings::{self, Presets, Setting};
use tap_render::Lighting;
use toml::{Table, Value};

/// Build recipes by name: `mini-data` fits the trainer's preset `mini` and its variants.
pub(crate) const BUILD_PRESETS: Presets =
    Presets(&[("mini-data", include_str!("../assets/presets/mini-data.toml"))]);
/// Views have no presets besides lightings and rigs.
pub(crate) const RENDER_PRESETS: Presets = Presets(&[]);

/// Resolves a recipe from `config` (the name of a preset or a path) and settings that override it.
///
/// # Errors
/// When the file can't be read or is not such a recipe; an invalid setting is a usage error.
pub(crate) fn resolve<T: DeserializeOwned>(
    presets: Presets,
    config: Option<&str>,
    settings: &[Setting],
) -> Result<T> {
    let mut base = match config {
        Some(config) => presets.get_or_read(config)?,
        None => Table::new(),
    };
    // The name of a preset is no part of a recipe.
    base.remove("preset");
    Ok(settings::resolve(
        base,
        config.map(Path::new),
        settings,
        &lighting_of_name,
    )?)
}

/// All values of a named lighting, so that `lighting.diffuse=0.25` can change one.
fn lighting_of_name(key: &str, value: &Value) -> Option<Value> {
    let name = value.as_str().filter(|_| key == "lighting")?;
    let lighting: Lighting = name.parse().ok()?;
    Value::try_from(lighting).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::fs;

    use tap_dataset::BuildRecipe;

    use super::*;

    fn settings(texts: &[&str]) -> Vec<Setting> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
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
        let one = settings(&["lighting.diffuse=0.25"]);
        let of_file: Lit = resolve(RENDER_PRESETS, path.to_str(), &one).unwrap();
        assert_eq!(of_file.lighting, expected);
        let both = settings(&["lighting=textured", "lighting.diffuse=0.25"]);
        let of_settings: Lit = resolve(RENDER_PRESETS, None, &both).unwrap();
        assert_eq!(of_settings.lighting, expected);
    }

    #[test]
    fn a_preset_is_a_recipe_by_name() {
        let recipe: BuildRecipe = resolve(BUILD_PRESETS, Some("mini-data"), &settings(&["seed=3"])).unwrap();
        assert_eq!((recipe.render.size_px, recipe.seed), (64, 3));
        let error = resolve::<BuildRecipe>(BUILD_PRESETS, Some("maxi-data"), &[]).unwrap_err();
        assert!(error.to_string().contains("mini-data"), "{error}");
    }
}
