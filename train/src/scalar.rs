//! Named numbers: sums that add up over batches and ranks, and the scalars that come of them.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::number;

/// Sums by name, each a list of numbers. Those of two batches, added, are those of both.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Sums(#[serde(with = "number::by_name")] BTreeMap<String, Vec<f64>>);

impl Sums {
    /// Adds `values` to the sum `name`, number by number.
    pub fn add(&mut self, name: &str, values: &[f64]) {
        for (place, value) in values.iter().enumerate() {
            self.add_at(name, place, *value);
        }
    }

    /// With `values` added to the sum `name`.
    #[must_use]
    pub fn with(mut self, name: &str, values: &[f64]) -> Self {
        self.add(name, values);
        self
    }

    /// Adds to one number of the sum `name`, which grows as needed.
    pub fn add_at(&mut self, name: &str, place: usize, value: f64) {
        if !self.0.contains_key(name) {
            self.0.insert(name.to_owned(), Vec::new());
        }
        if let Some(sum) = self.0.get_mut(name) {
            sum.resize(sum.len().max(place + 1), 0.0);
            sum[place] += value;
        }
    }

    /// Adds all sums of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (name, values) in &other.0 {
            self.add(name, values);
        }
    }

    /// Adds all sums of `other`, each under `prefix` and its name.
    pub fn merge_under(&mut self, prefix: &str, other: &Self) {
        for (name, values) in &other.0 {
            self.add(&format!("{prefix}{name}"), values);
        }
    }

    /// The sums whose names begin with `prefix`, under the rest of their names.
    #[must_use]
    pub fn under(&self, prefix: &str) -> Self {
        let rest = |(name, values): (&String, &Vec<f64>)| {
            let name = name.strip_prefix(prefix)?;
            Some((name.to_owned(), values.clone()))
        };
        Self(self.0.iter().filter_map(rest).collect())
    }

    /// The sum `name`; empty where nothing was added.
    #[must_use]
    pub fn get(&self, name: &str) -> &[f64] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// One number of the sum `name`; 0 where nothing was added.
    #[must_use]
    pub fn at(&self, name: &str, place: usize) -> f64 {
        self.get(name).get(place).copied().unwrap_or(0.0)
    }

    /// The first number of the sum `name` over the second, which is a count; 0 where nothing was counted.
    #[must_use]
    pub fn mean(&self, name: &str) -> f64 {
        self.at(name, 0) / self.at(name, 1).max(1.0)
    }
}

/// Scalars by name, in an order of their own. In JSON an object; what is not finite is text.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scalars(Vec<(String, f64)>);

impl Scalars {
    /// With this scalar behind the others, or in place of an earlier one of its name.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: f64) -> Self {
        self.set(name, value);
        self
    }

    /// Puts a scalar behind the others, or in place of an earlier one of its name.
    pub fn set(&mut self, name: impl Into<String>, value: f64) {
        let name = name.into();
        match self.0.iter_mut().find(|(other, _)| *other == name) {
            Some((_, place)) => *place = value,
            None => self.0.push((name, value)),
        }
    }

    /// The scalar of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<f64> {
        self.iter()
            .find(|(other, _)| *other == name)
            .map(|(_, value)| value)
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }
}

impl<S: Into<String>> FromIterator<(S, f64)> for Scalars {
    fn from_iter<T: IntoIterator<Item = (S, f64)>>(scalars: T) -> Self {
        let mut collected = Self::default();
        for (name, value) in scalars {
            collected.set(name, value);
        }
        collected
    }
}

/// A number as it stands in JSON.
#[derive(Serialize, Deserialize)]
struct Number(#[serde(with = "number")] f64);

impl Serialize for Scalars {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.iter() {
            map.serialize_entry(name, &Number(value))?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Scalars {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Scalars;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("named numbers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalars, A::Error> {
                let mut scalars = Scalars::default();
                while let Some((name, Number(value))) = map.next_entry::<String, Number>()? {
                    scalars.set(name, value);
                }
                Ok(scalars)
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn sums_of_parts_are_those_of_the_whole() {
        let mut whole = Sums::default();
        let mut parts = [Sums::default(), Sums::default()];
        for (i, value) in [0.5, 0.25, 4.0].into_iter().enumerate() {
            for sums in [&mut whole, &mut parts[i % 2]] {
                sums.add("error", &[value, 1.0]);
                sums.add_at("by_class", i, value);
            }
        }
        let [mut first, second] = parts;
        first.merge(&second);
        assert_eq!(first, whole, "added up");
        assert_eq!(whole.get("by_class"), [0.5, 0.25, 4.0], "number by number");
        assert!((whole.mean("error") - 4.75 / 3.0).abs() < 1e-12, "a mean");
        assert!(
            whole.mean("nothing").abs() < 1e-12 && whole.get("nothing").is_empty(),
            "nothing"
        );
    }

    #[test]
    fn scalars_keep_their_order_and_what_is_not_finite() {
        let scalars = Scalars::default()
            .with("loss", 0.1)
            .with("accuracy", f64::NAN)
            .with("loss", 0.3);
        let json = serde_json::to_string(&scalars).unwrap();
        assert_eq!(json, r#"{"loss":0.3,"accuracy":"NaN"}"#, "in order");
        let read: Scalars = serde_json::from_str(&json).unwrap();
        assert!(read.get("accuracy").unwrap().is_nan(), "{read:?}");
        assert_eq!(
            read.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            ["loss", "accuracy"],
            "order"
        );
    }
}
