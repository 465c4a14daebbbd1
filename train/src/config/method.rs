//! Which pre-training method, and its settings.
//!
//! A method has the table `[method]`, with its name as `kind`; `method = "NAME"` is short for one without settings, and a list
//! of methods for their sum. TAP, the method where none is named, has tables of its own: `[photograph]`, `[decoder]` and part
//! of `[loss]`.

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::model::{DecoderConfig, PhotographConfig};

/// The name of TAP.
pub const TAP: &str = "tap";
/// The name of a sum of methods.
pub const SUM: &str = "sum";

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

/// `method = "NAME"` as the table that it is short for, and a list of methods as their sum.
pub(super) fn method_table(value: Value) -> Value {
    match value {
        Value::String(_) => Value::Table(Table::from_iter([(String::from("kind"), value)])),
        Value::Array(methods) => Value::Table(Table::from_iter([
            (String::from("kind"), Value::String(String::from(SUM))),
            (
                String::from("of"),
                Value::Array(methods.into_iter().map(method_table).collect()),
            ),
        ])),
        other => other,
    }
}
