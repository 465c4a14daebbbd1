//! Differences between two JSON values, for those who find another recipe than theirs.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// Values that are longer together, in bytes, are not shown.
const MAX_SHOWN_BYTES: usize = 120;

/// What differs, such as `recipe.render.size_px is 64 there and 224 here`.
pub(crate) fn json_differences(found: &Value, expected: &Value) -> Vec<String> {
    let mut differences = Vec::new();
    compare("", found, expected, &mut differences);
    differences
}

fn compare(path: &str, found: &Value, expected: &Value, differences: &mut Vec<String>) {
    if let (Value::Object(found), Value::Object(expected)) = (found, expected) {
        let keys: BTreeSet<_> = found.keys().chain(expected.keys()).collect();
        for key in keys {
            let path = if path.is_empty() {
                key.clone()
            } else {
                format!("{path}.{key}")
            };
            let value = |map: &Map<String, Value>| map.get(key).cloned().unwrap_or(Value::Null);
            compare(&path, &value(found), &value(expected), differences);
        }
    } else if found != expected {
        let (found, expected) = (found.to_string(), expected.to_string());
        differences.push(if found.len() + expected.len() > MAX_SHOWN_BYTES {
            format!("{path} differs")
        } else {
            format!("{path} is {found} there and {expected} here")
        });
    }
}
