//! Floating-point numbers in JSON, which has neither infinities nor NaN: those are written as "NaN", "Infinity" and
//! "-Infinity", which Python's `float` and JavaScript's `Number` take as well, and read back. Files of earlier versions
//! have null there, which is read as NaN.

use serde::{Deserialize, Deserializer, Serialize as _, Serializer};

/// What may stand for a number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(f64),
    Text(String),
    Null(()),
}

/// For `serde(with)`.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference over")]
pub(crate) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    match *value {
        value if value.is_finite() => value.serialize(serializer),
        value if value.is_nan() => "NaN".serialize(serializer),
        value if value > 0.0 => "Infinity".serialize(serializer),
        _ => "-Infinity".serialize(serializer),
    }
}

/// For `serde(with)`.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    match Written::deserialize(deserializer)? {
        Written::Number(value) => Ok(value),
        Written::Text(text) => text
            .parse()
            .map_err(|_| serde::de::Error::custom(format!("'{text}' is no number"))),
        Written::Null(()) => Ok(f64::NAN),
    }
}

/// The same for lists of numbers by name.
pub(crate) mod by_name {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// A number in its text.
    #[derive(Serialize, Deserialize)]
    struct Number(#[serde(with = "super")] f64);

    /// For `serde(with)`.
    pub(crate) fn serialize<S: Serializer>(
        values: &BTreeMap<String, Vec<f64>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let numbers = |list: &Vec<f64>| list.iter().copied().map(Number).collect::<Vec<_>>();
        serializer.collect_map(values.iter().map(|(name, list)| (name, numbers(list))))
    }

    /// For `serde(with)`.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<String, Vec<f64>>, D::Error> {
        let written = BTreeMap::<String, Vec<Number>>::deserialize(deserializer)?;
        let numbers = |list: Vec<Number>| list.into_iter().map(|Number(number)| number).collect();
        Ok(written
            .into_iter()
            .map(|(name, list)| (name, numbers(list)))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use serde::{Deserialize, Serialize};

    #[derive(Debug, Serialize, Deserialize)]
    struct Number {
        #[serde(with = "super")]
        value: f64,
    }

    #[test]
    fn every_number_reads_back_as_it_was() {
        for value in [0.1, -7.0, f64::MAX, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let json = serde_json::to_string(&Number { value }).unwrap();
            let read: Number = serde_json::from_str(&json).unwrap();
            assert!(
                read.value.to_bits() == value.to_bits() || read.value.is_nan() && value.is_nan(),
                "{json}"
            );
        }
    }

    #[test]
    fn null_was_no_number_and_a_word_is_none() {
        let read: Number = serde_json::from_str(r#"{"value":null}"#).unwrap();
        assert!(read.value.is_nan(), "{read:?}");
        assert!(
            serde_json::from_str::<Number>(r#"{"value":"many"}"#).is_err(),
            "a word"
        );
    }
}
