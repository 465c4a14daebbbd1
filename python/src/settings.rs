//! Keyword arguments to recipes and options. Values have the names, meanings and errors of a recipe's file.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tap_dataset::view_folder;
use tap_render::{Lighting, RenderRecipe, RendererOptions};

use crate::error::{value_error, view_folder_error};

/// Keyword arguments of a call, taken one by one.
pub(crate) struct Keywords<'py> {
    function: &'static str,
    given: BTreeMap<String, Bound<'py, PyAny>>,
}

impl<'py> Keywords<'py> {
    /// `None` stands for an argument that is not given.
    pub(crate) fn new(function: &'static str, given: Option<&Bound<'py, PyDict>>) -> PyResult<Self> {
        let mut all = BTreeMap::new();
        for (name, value) in given.into_iter().flatten() {
            if !value.is_none() {
                all.insert(name.extract()?, value);
            }
        }
        Ok(Self { function, given: all })
    }

    /// The value of an argument, if given.
    pub(crate) fn take(&mut self, name: &str) -> Option<Bound<'py, PyAny>> {
        self.given.remove(name)
    }

    /// The value of an argument as a type.
    pub(crate) fn take_as<T>(&mut self, name: &str) -> PyResult<Option<T>>
    where
        T: for<'a> FromPyObject<'a, 'py, Error: Into<PyErr>>,
    {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        value
            .extract()
            .map(Some)
            .map_err(|error: <T as FromPyObject<'_, 'py>>::Error| named(name, value.py(), &error.into()))
    }

    /// The value of an argument that is written as a text.
    pub(crate) fn parse<T: FromStr<Err: Display>>(&mut self, name: &str) -> PyResult<Option<T>> {
        let Some(text) = self.take_as::<String>(name)? else {
            return Ok(None);
        };
        let parsed = text.parse();
        parsed
            .map(Some)
            .map_err(|error| PyValueError::new_err(format!("{name}: {error}")))
    }

    /// All that is left, as the keys of a recipe.
    pub(crate) fn take_rest(&mut self) -> Vec<(String, Bound<'py, PyAny>)> {
        std::mem::take(&mut self.given).into_iter().collect()
    }

    /// Refuses what nobody has taken.
    pub(crate) fn finish(self) -> PyResult<()> {
        match self.given.into_keys().next() {
            Some(name) => Err(PyTypeError::new_err(format!(
                "{}() got an unexpected keyword argument '{name}'",
                self.function
            ))),
            None => Ok(()),
        }
    }
}

/// An error of an argument's type, with the argument's name.
fn named(name: &str, py: Python<'_>, error: &PyErr) -> PyErr {
    PyTypeError::new_err(format!("{name}: {}", error.value(py)))
}

/// A Python value as JSON; arrays and numbers of NumPy count as lists and numbers.
pub(crate) fn to_json(value: &Bound<'_, PyAny>) -> PyResult<Value> {
    let py = value.py();
    let to_list = py.import("operator")?.call_method1("methodcaller", ("tolist",))?;
    let options = PyDict::new(py);
    options.set_item("default", to_list)?;
    options.set_item("allow_nan", false)?;
    let text: String = py
        .import("json")?
        .call_method("dumps", (value,), Some(&options))?
        .extract()?;
    serde_json::from_str(&text).map_err(|error| value_error(&error))
}

/// Settings as a recipe. Each is tried alone first, so that an error names it.
pub(crate) fn from_settings<T: DeserializeOwned>(settings: Map<String, Value>) -> PyResult<T> {
    for (key, value) in &settings {
        serde_json::from_value::<T>(json!({ key: value }))
            .map_err(|error| PyValueError::new_err(format!("{key}: {error}")))?;
    }
    serde_json::from_value(Value::Object(settings)).map_err(|error| value_error(&error))
}

/// The settings of a rendering that are given, under their names in a recipe.
pub(crate) fn render_settings(keywords: &mut Keywords<'_>) -> PyResult<Map<String, Value>> {
    let mut settings = Map::new();
    for (name, key) in [
        ("framing", "framing"),
        ("projection", "projection"),
        ("size", "size_px"),
        ("samples", "samples"),
        ("lighting", "lighting"),
    ] {
        if let Some(value) = keywords.take(name) {
            settings.insert(key.to_owned(), to_json(&value)?);
        }
    }
    if let Some(rig) = keywords.take("rig") {
        settings.insert("rig".to_owned(), rig_value(&rig)?);
    }
    if let Some(channels) = keywords.take("channels") {
        let channels = match channels.cast::<PyString>() {
            Ok(names) => names.extract::<String>()?.split(',').map(str::trim).collect(),
            Err(_) => to_json(&channels)?,
        };
        settings.insert("channels".to_owned(), channels);
    }
    Ok(settings)
}

/// A recipe of these settings that can be rendered.
pub(crate) fn render_recipe(settings: Map<String, Value>) -> PyResult<RenderRecipe> {
    let recipe: RenderRecipe = from_settings(settings)?;
    recipe.validate().map_err(|error| value_error(&error))?;
    Ok(recipe)
}

/// A rig by name, a JSON file of poses, or poses: (azimuth, elevation) or (azimuth, elevation, roll) in degrees.
fn rig_value(rig: &Bound<'_, PyAny>) -> PyResult<Value> {
    if let Ok(path) = rig.extract::<PathBuf>() {
        if path.extension().is_some_and(|extension| extension == "json") {
            let spec = view_folder::read_rig(&path).map_err(|error| view_folder_error(&error))?;
            return serde_json::to_value(spec).map_err(|error| value_error(&error));
        }
        return to_json(rig);
    }
    let Value::Array(poses) = to_json(rig)? else {
        return Err(PyValueError::new_err(
            "rig: expected a name, a file or a list of poses",
        ));
    };
    poses.into_iter().map(pose_value).collect()
}

fn pose_value(pose: Value) -> PyResult<Value> {
    let angles = match pose {
        Value::Array(angles) => angles,
        table => return Ok(table),
    };
    match angles.as_slice() {
        [azimuth, elevation] => {
            Ok(json!({ "azimuth_deg": azimuth, "elevation_deg": elevation, "roll_deg": 0.0 }))
        }
        [azimuth, elevation, roll] => {
            Ok(json!({ "azimuth_deg": azimuth, "elevation_deg": elevation, "roll_deg": roll }))
        }
        _ => Err(PyValueError::new_err(
            "rig: a pose is (azimuth, elevation) or (azimuth, elevation, roll), in degrees",
        )),
    }
}

/// The lighting of a name, or of a table whose missing fields are those of `mvcnn`.
pub(crate) fn lighting(value: &Bound<'_, PyAny>) -> PyResult<Lighting> {
    let lighting: Lighting = serde_json::from_value(to_json(value)?)
        .map_err(|error| PyValueError::new_err(format!("lighting: {error}")))?;
    lighting.validate().map_err(|error| value_error(&error))?;
    Ok(lighting)
}

/// What renders: `backend` and `adapter`.
pub(crate) fn renderer_options(keywords: &mut Keywords<'_>) -> PyResult<RendererOptions> {
    Ok(RendererOptions {
        backend: keywords.parse("backend")?.unwrap_or_default(),
        adapter: keywords.parse("adapter")?.unwrap_or_default(),
        ..RendererOptions::default()
    })
}
