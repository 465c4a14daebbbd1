//! [`Predicate`]: which rows, as a condition over their scalar columns: `category = 'chair' and coverage_min > 0.02`.
//!
//! The grammar is a part of SQL's `WHERE`: `=`, `!=`, `<>`, `<`, `<=`, `>`, `>=`, `between`, `in (…)`, `like`, `is null`,
//! with `and`, `or`, `not` and parentheses. A column of truth values stands for itself (`is_watertight`), and
//! `'text' in column` asks for an entry of a column of lists. As in SQL, a comparison with null is unknown, and a row is
//! chosen only where the condition is true.

mod bounds;
mod grammar;

pub use bounds::Bounds;

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// A value of a scalar column, or of a list of texts.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number of any type.
    Number(f64),
    /// A text.
    Text(String),
    /// A truth value.
    Bool(bool),
    /// A list of texts.
    Texts(Vec<String>),
}

/// Type of a [`Value`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display)]
pub enum ValueKind {
    /// See [`Value::Number`].
    #[strum(to_string = "a number")]
    Number,
    /// See [`Value::Text`].
    #[strum(to_string = "a text")]
    Text,
    /// See [`Value::Bool`].
    #[strum(to_string = "a truth value")]
    Bool,
    /// See [`Value::Texts`].
    #[strum(to_string = "a list of texts")]
    Texts,
}

impl Value {
    fn kind(&self) -> ValueKind {
        match self {
            Self::Number(_) => ValueKind::Number,
            Self::Text(_) => ValueKind::Text,
            Self::Bool(_) => ValueKind::Bool,
            Self::Texts(_) => ValueKind::Texts,
        }
    }
}

/// Why a text is no predicate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PredicateError {
    /// It violates the grammar.
    #[error("at character {position} of \"{text}\": expected {expected}")]
    Syntax {
        /// The whole text.
        text: String,
        /// Counted from 1.
        position: usize,
        /// What would be valid there.
        expected: String,
    },
    /// It is longer, or nested deeper, than any condition that makes sense.
    #[error("a condition of more than {max_bytes} bytes, or with more than {max_depth} parentheses")]
    TooLong {
        /// Limit on its length.
        max_bytes: usize,
        /// Limit on its opening parentheses.
        max_depth: usize,
    },
    /// It names a column that does not exist or has no scalar values.
    #[error("no column \"{name}\" to filter by; there are: {columns}")]
    UnknownColumn {
        /// The name.
        name: String,
        /// Columns that exist.
        columns: String,
    },
    /// A column is compared with a value of another type.
    #[error("column \"{name}\" is {found}, not {expected}")]
    Kind {
        /// The column.
        name: String,
        /// Its type.
        found: ValueKind,
        /// Type that the condition needs.
        expected: ValueKind,
    },
}

/// A condition on rows. It prints as the text that it was parsed from.
#[derive(Debug, Clone, PartialEq)]
pub struct Predicate {
    text: String,
    condition: Condition,
}

/// One node of the syntax tree.
#[derive(Debug, Clone, PartialEq)]
enum Condition {
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
    Compare(String, Comparison, Value),
    /// The column's value is one of these.
    In(String, Vec<Value>),
    /// `%` stands for any text, `_` for one character.
    Like(String, String),
    IsNull(String),
    IsTrue(String),
    /// The column's list has this entry.
    Contains(String, String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl FromStr for Predicate {
    type Err = PredicateError;

    fn from_str(text: &str) -> Result<Self, PredicateError> {
        let condition = grammar::parse(text)?;
        Ok(Self {
            text: text.to_owned(),
            condition,
        })
    }
}

impl fmt::Display for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Predicate {
    /// Columns that it reads.
    #[must_use]
    pub fn columns(&self) -> BTreeSet<&str> {
        let mut columns = BTreeSet::new();
        self.condition.visit(&mut |condition| {
            columns.extend(condition.column());
        });
        columns
    }

    /// Checks names and types against the columns of a dataset.
    ///
    /// # Errors
    /// The first column that does not exist, or is compared with a value of another type.
    pub fn check(&self, columns: &[(&str, ValueKind)]) -> Result<(), PredicateError> {
        let mut result = Ok(());
        self.condition.visit(&mut |condition| {
            if result.is_ok() {
                result = condition.check(columns);
            }
        });
        result
    }

    /// Whether it is true of a row, given the values of its columns (`None` for null).
    pub fn matches(&self, value_of: &dyn Fn(&str) -> Option<Value>) -> bool {
        self.condition.evaluate(value_of) == Some(true)
    }
}

impl Condition {
    fn visit<'a>(&'a self, visitor: &mut dyn FnMut(&'a Self)) {
        visitor(self);
        match self {
            Self::All(inner) | Self::Any(inner) => inner.iter().for_each(|inner| inner.visit(visitor)),
            Self::Not(inner) => inner.visit(visitor),
            _ => {}
        }
    }

    fn column(&self) -> Option<&str> {
        match self {
            Self::All(_) | Self::Any(_) | Self::Not(_) => None,
            Self::Compare(column, ..)
            | Self::In(column, _)
            | Self::Like(column, _)
            | Self::IsNull(column)
            | Self::IsTrue(column)
            | Self::Contains(column, _) => Some(column),
        }
    }

    /// Types that its column must have; none where any will do.
    fn expected_kinds(&self) -> Vec<ValueKind> {
        match self {
            Self::All(_) | Self::Any(_) | Self::Not(_) | Self::IsNull(_) => Vec::new(),
            Self::Compare(_, _, value) => vec![value.kind()],
            Self::In(_, values) => values.iter().map(Value::kind).collect(),
            Self::Like(..) => vec![ValueKind::Text],
            Self::IsTrue(_) => vec![ValueKind::Bool],
            Self::Contains(..) => vec![ValueKind::Texts],
        }
    }

    fn check(&self, columns: &[(&str, ValueKind)]) -> Result<(), PredicateError> {
        let Some(name) = self.column() else {
            return Ok(());
        };
        let Some(&(_, found)) = columns.iter().find(|(column, _)| *column == name) else {
            let columns: Vec<&str> = columns.iter().map(|(column, _)| *column).collect();
            return Err(PredicateError::UnknownColumn {
                name: name.to_owned(),
                columns: columns.join(", "),
            });
        };
        match self
            .expected_kinds()
            .into_iter()
            .find(|&expected| expected != found)
        {
            Some(expected) => Err(PredicateError::Kind {
                name: name.to_owned(),
                found,
                expected,
            }),
            None => Ok(()),
        }
    }

    /// True, false, or unknown.
    fn evaluate(&self, value_of: &dyn Fn(&str) -> Option<Value>) -> Option<bool> {
        match self {
            Self::All(inner) => decide(inner.iter().map(|inner| inner.evaluate(value_of)), false),
            Self::Any(inner) => decide(inner.iter().map(|inner| inner.evaluate(value_of)), true),
            Self::Not(inner) => inner.evaluate(value_of).map(|truth| !truth),
            Self::Compare(column, comparison, value) => {
                Some(comparison.holds(compare(&value_of(column)?, value)?))
            }
            Self::In(column, values) => {
                let found = value_of(column)?;
                Some(
                    values
                        .iter()
                        .any(|value| compare(&found, value) == Some(Ordering::Equal)),
                )
            }
            Self::Like(column, pattern) => match value_of(column)? {
                Value::Text(text) => Some(is_like(&text, pattern)),
                _ => None,
            },
            Self::IsNull(column) => Some(value_of(column).is_none()),
            Self::IsTrue(column) => match value_of(column)? {
                Value::Bool(truth) => Some(truth),
                _ => None,
            },
            Self::Contains(column, text) => match value_of(column)? {
                Value::Texts(texts) => Some(texts.contains(text)),
                _ => None,
            },
        }
    }
}

/// `decisive` if one of the truths is; the opposite if all are; unknown otherwise.
fn decide(truths: impl Iterator<Item = Option<bool>>, decisive: bool) -> Option<bool> {
    let mut result = Some(!decisive);
    for truth in truths {
        match truth {
            Some(truth) if truth == decisive => return Some(decisive),
            Some(_) => {}
            None => result = None,
        }
    }
    result
}

/// `None` for values of different types, and for NaN.
fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.partial_cmp(b),
        (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

impl Comparison {
    fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Equal => ordering.is_eq(),
            Self::NotEqual => ordering.is_ne(),
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
        }
    }
}

/// SQL's `LIKE`, by the two-pointer match of wildcards: on a mismatch, the last `%` takes one character more.
fn is_like(text: &str, pattern: &str) -> bool {
    let (text, pattern): (Vec<char>, Vec<char>) = (text.chars().collect(), pattern.chars().collect());
    let (mut at, mut pattern_at) = (0, 0);
    let mut last_wildcard = None;
    while at < text.len() {
        match pattern.get(pattern_at) {
            Some('%') => {
                last_wildcard = Some((pattern_at, at));
                pattern_at += 1;
            }
            Some(&c) if c == '_' || c == text[at] => {
                at += 1;
                pattern_at += 1;
            }
            _ => {
                let Some((wildcard, taken)) = last_wildcard else {
                    return false;
                };
                last_wildcard = Some((wildcard, taken + 1));
                (pattern_at, at) = (wildcard + 1, taken + 1);
            }
        }
    }
    pattern[pattern_at..].iter().all(|&c| c == '%')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    const COLUMNS: [(&str, ValueKind); 6] = [
        ("id", ValueKind::Text),
        ("category", ValueKind::Text),
        ("coverage_min", ValueKind::Number),
        ("num_triangles", ValueKind::Number),
        ("is_watertight", ValueKind::Bool),
        ("findings", ValueKind::Texts),
    ];

    /// A chair whose number of triangles is null.
    fn value_of(column: &str) -> Option<Value> {
        match column {
            "id" => Some(Value::Text("chair/it's 7%".to_owned())),
            "category" => Some(Value::Text("chair".to_owned())),
            "coverage_min" => Some(Value::Number(0.25)),
            "is_watertight" => Some(Value::Bool(true)),
            "findings" => Some(Value::Texts(vec!["open-edges".to_owned()])),
            _ => None,
        }
    }

    fn matches(text: &str) -> bool {
        let predicate: Predicate = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
        predicate
            .check(&COLUMNS)
            .unwrap_or_else(|e| panic!("{text}: {e}"));
        predicate.matches(&value_of)
    }

    #[test]
    fn conditions_hold_as_in_sql() {
        for text in [
            "category = 'chair'",
            "CATEGORY = 'chair'",
            "category='chair' AND coverage_min>0.02",
            "category = 'table' or coverage_min >= 2.5e-1",
            "category <> 'table' and category != 'sofa'",
            "not category = 'table' and not not is_watertight",
            "not (category = 'chair' and coverage_min < 0.1)",
            "category in ('table', 'chair')",
            "category not in ('table')",
            "coverage_min between 0.25 and 0.3 and is_watertight",
            "id like 'chair/%' and id like '%7%' and id like 'c_air/it''s 7%'",
            "id not like 'chair'",
            "is_watertight = true",
            "num_triangles is null",
            "num_triangles < 5 or category = 'chair'",
            "\"category\" is not null",
            "'open-edges' in findings",
            "coverage_min > -1",
        ] {
            assert!(matches(text), "{text}");
        }
        for text in [
            "category = 'Chair'",
            "num_triangles < 5",
            "not num_triangles < 5",
            "num_triangles <> 5",
            "category = 'chair' and num_triangles > 0",
            "'flipped' in findings",
            "id like 'chair'",
            "category = 'table' and is_watertight or category = 'sofa'",
        ] {
            assert!(!matches(text), "{text}");
        }
    }

    #[test]
    fn precedence_is_that_of_sql() {
        assert!(matches(
            "category = 'chair' or category = 'table' and coverage_min > 1"
        ));
        assert!(!matches(
            "(category = 'chair' or category = 'table') and coverage_min > 1"
        ));
    }

    #[test]
    fn an_error_says_where_and_what() {
        let error = |text: &str| match text.parse::<Predicate>() {
            Ok(predicate) => predicate.check(&COLUMNS).unwrap_err().to_string(),
            Err(e) => e.to_string(),
        };
        for (text, parts) in [
            ("", &["character 1", "column"][..]),
            ("category == 'chair'", &["character 11"]),
            ("category = chair", &["character 12", "text in single quotes"]),
            ("category = 'chair", &["character 12"]),
            ("category = 'chair' and", &["column"]),
            ("(category = 'chair'", &["')'"]),
            ("category = 'chair' coverage_min", &["character 20"]),
            (
                "categry = 'chair'",
                &["no column \"categry\"", "category, coverage_min"],
            ),
            ("category > 5", &["\"category\" is a text, not a number"]),
            ("findings = 'x'", &["a list of texts"]),
            ("category", &["is a text, not a truth value"]),
        ] {
            let error = error(text);
            assert!(parts.iter().all(|part| error.contains(part)), "{text}: {error}");
        }
        for hostile in ["(".repeat(5_000), "not ".repeat(100_000), "a".repeat(1 << 20)] {
            assert!(matches!(
                hostile.parse::<Predicate>(),
                Err(PredicateError::TooLong { .. } | PredicateError::Syntax { .. })
            ));
        }
    }

    #[test]
    fn columns_are_those_that_are_read() {
        let predicate: Predicate = "not (id = 'a/b' or 'x' in findings) and is_watertight"
            .parse()
            .unwrap();
        assert_eq!(
            predicate.columns().into_iter().collect::<Vec<_>>(),
            ["findings", "id", "is_watertight"]
        );
    }
}
