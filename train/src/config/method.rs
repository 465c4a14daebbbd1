//! Which pre-training method, and its settings.
//!
//! A method has the table `[method]`, with its name as `kind`; `method = "NAME"` is short for one without settings. TAP,
//! the method where none is named, has tables of its own: `[photograph]`, `[decoder]` and part of `[loss]`.

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::model::{DecoderConfig, PhotographConfig};

/// The name of TAP.
pub const TAP: &str = "tap";

/// The method as typed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MethodConfig {
    /// Its name.
    pub kind: String,
    /// What else its table holds; the method reads it.
    #[serde(flatten)]
    pub settings: Table,
}

impl Default for MethodConfig {
    fn default() -> Self {
        Self {
            kind: String::from(TAP),
            settings: Table::new(),
        }
    }
}

impl MethodConfig {
    /// Its settings as the method declares them, a struct that refuses what it does not know.
    ///
    /// # Errors
    /// Text that names a setting that is unknown or of the wrong type.
    pub fn parse<T: for<'de> Deserialize<'de>>(&self) -> Result<T, String> {
        T::deserialize(self.settings.clone()).map_err(|error| format!("[method] {}", error.message()))
    }
}

/// A method with a value for everything.
#[derive(Debug, Clone, PartialEq)]
pub enum MethodPlan {
    /// TAP.
    Tap {
        /// Queries and cross-attention.
        photograph: PhotographConfig,
        /// Query features to pixels.
        decoder: DecoderConfig,
    },
    /// Another one.
    Other(MethodConfig),
}

impl MethodPlan {
    /// The method's name.
    #[must_use]
    pub fn kind(&self) -> &str {
        match self {
            Self::Tap { .. } => TAP,
            Self::Other(method) => &method.kind,
        }
    }
}

/// `method = "NAME"` as the table that it is short for.
pub(super) fn method_table(value: Value) -> Value {
    match value {
        Value::String(kind) => Value::Table(Table::from_iter([(String::from("kind"), Value::String(kind))])),
        other => other,
    }
}
