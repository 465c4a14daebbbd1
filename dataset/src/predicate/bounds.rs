//! [`Bounds`]: what statistics say of a column in a group of rows, and whether a condition can be true there.

use std::cmp::Ordering;

use super::{Comparison, Condition, Predicate, Value, compare};

/// What is known of the values of a column in a group of rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Bounds {
    /// No value is less or greater; `None` where that is unknown.
    pub range: Option<[Value; 2]>,
    /// Whether a value may be null.
    pub may_be_null: bool,
    /// Whether a value may be something else than null.
    pub may_be_value: bool,
}

impl Bounds {
    /// Of a column with one value.
    #[must_use]
    pub fn exactly(value: Value) -> Self {
        Self {
            range: Some([value.clone(), value]),
            may_be_null: false,
            may_be_value: true,
        }
    }
}

/// What a condition can be in some row of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Outcomes {
    can_be_true: bool,
    can_be_false: bool,
    can_be_unknown: bool,
}

impl Outcomes {
    const ANY: Self = Self {
        can_be_true: true,
        can_be_false: true,
        can_be_unknown: true,
    };
}

impl Predicate {
    /// Whether it may be true of a row of a group, given what is known of the columns there (`None` for nothing).
    #[must_use]
    pub fn may_match(&self, bounds_of: &dyn Fn(&str) -> Option<Bounds>) -> bool {
        self.condition.outcomes(bounds_of).can_be_true
    }
}

impl Condition {
    fn outcomes(&self, bounds_of: &dyn Fn(&str) -> Option<Bounds>) -> Outcomes {
        let inner = |conditions: &[Self]| -> Vec<Outcomes> {
            conditions.iter().map(|inner| inner.outcomes(bounds_of)).collect()
        };
        match self {
            Self::All(conditions) => {
                let inner = inner(conditions);
                Outcomes {
                    can_be_true: inner.iter().all(|inner| inner.can_be_true),
                    can_be_false: inner.iter().any(|inner| inner.can_be_false),
                    can_be_unknown: inner.iter().any(|inner| inner.can_be_unknown),
                }
            }
            Self::Any(conditions) => {
                let inner = inner(conditions);
                Outcomes {
                    can_be_true: inner.iter().any(|inner| inner.can_be_true),
                    can_be_false: inner.iter().all(|inner| inner.can_be_false),
                    can_be_unknown: inner.iter().any(|inner| inner.can_be_unknown),
                }
            }
            Self::Not(condition) => {
                let inner = condition.outcomes(bounds_of);
                Outcomes {
                    can_be_true: inner.can_be_false,
                    can_be_false: inner.can_be_true,
                    ..inner
                }
            }
            Self::IsNull(column) => bounds_of(column).map_or(Outcomes::ANY, |bounds| Outcomes {
                can_be_true: bounds.may_be_null,
                can_be_false: bounds.may_be_value,
                can_be_unknown: false,
            }),
            Self::Compare(column, ..)
            | Self::In(column, _)
            | Self::Like(column, _)
            | Self::IsTrue(column)
            | Self::Contains(column, _) => {
                bounds_of(column).map_or(Outcomes::ANY, |bounds| self.of_column(&bounds))
            }
        }
    }

    /// Outcomes of a condition on one column that is unknown where that is null.
    fn of_column(&self, bounds: &Bounds) -> Outcomes {
        let [can_be_true, can_be_false] = match &bounds.range {
            Some([min, max]) => self.within(min, max),
            None => [true; 2],
        };
        // A number that is none, NaN, compares with nothing, and statistics pass it over.
        let may_be_nan = !matches!(&bounds.range, Some([Value::Text(_) | Value::Bool(_), _]));
        Outcomes {
            can_be_true: can_be_true && bounds.may_be_value,
            can_be_false: can_be_false && bounds.may_be_value,
            can_be_unknown: bounds.may_be_null || may_be_nan,
        }
    }

    /// Whether it can be true, and whether it can be false, of a value from `min` to `max`.
    fn within(&self, min: &Value, max: &Value) -> [bool; 2] {
        let orderings = |value: &Value| Some([compare(min, value)?, compare(max, value)?]);
        match self {
            Self::Compare(_, comparison, value) => {
                let Some([min, max]) = orderings(value) else {
                    return [true; 2];
                };
                [
                    comparison.can_hold(min, max),
                    comparison.negated().can_hold(min, max),
                ]
            }
            Self::In(_, values) => {
                let of_value = |value| {
                    let [min, max] = orderings(value)?;
                    Some([min.is_le() && max.is_ge(), min.is_eq() && max.is_eq()])
                };
                let each = values
                    .iter()
                    .map(|value| of_value(value).unwrap_or([true, false]));
                let [can_be_true, differs] = each.fold([false, true], |[any, other], [may_be, must_be]| {
                    [any || may_be, other && !must_be]
                });
                // NaN is none of any numbers.
                [can_be_true, differs || matches!(min, Value::Number(_))]
            }
            Self::Like(_, pattern) => {
                let (Value::Text(min), Value::Text(max)) = (min, max) else {
                    return [true; 2];
                };
                let prefix = pattern.split(['%', '_']).next().unwrap_or_default();
                let is_before = min.as_str() < prefix || min.starts_with(prefix);
                [is_before && max.as_str() >= prefix, true]
            }
            Self::IsTrue(_) => [*max == Value::Bool(true), *min == Value::Bool(false)],
            _ => [true; 2],
        }
    }
}

impl Comparison {
    fn negated(self) -> Self {
        match self {
            Self::Equal => Self::NotEqual,
            Self::NotEqual => Self::Equal,
            Self::Less => Self::GreaterOrEqual,
            Self::LessOrEqual => Self::Greater,
            Self::Greater => Self::LessOrEqual,
            Self::GreaterOrEqual => Self::Less,
        }
    }

    /// Whether it can hold, given how the least and the greatest value compare with the right side.
    fn can_hold(self, min: Ordering, max: Ordering) -> bool {
        match self {
            Self::Equal => min.is_le() && max.is_ge(),
            Self::NotEqual => !(min.is_eq() && max.is_eq()),
            Self::Less => min.is_lt(),
            Self::LessOrEqual => min.is_le(),
            Self::Greater => max.is_gt(),
            Self::GreaterOrEqual => max.is_ge(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::*;

    /// Rows with a number that may be null or NaN, a text that may be null, and a truth value.
    type TestRow = (Option<f64>, Option<String>, bool);

    fn value_of(row: &TestRow, column: &str) -> Option<Value> {
        match column {
            "number" => row.0.map(Value::Number),
            "text" => row.1.clone().map(Value::Text),
            _ => Some(Value::Bool(row.2)),
        }
    }

    /// As a writer states them: NaN is passed over.
    fn bounds(rows: &[TestRow], column: &str) -> Bounds {
        let values: Vec<Option<Value>> = rows.iter().map(|row| value_of(row, column)).collect();
        let is_nan = |value: &Value| matches!(value, Value::Number(number) if number.is_nan());
        let mut known: Vec<Value> = values
            .iter()
            .flatten()
            .filter(|value| !is_nan(value))
            .cloned()
            .collect();
        known.sort_by(|a, b| compare(a, b).unwrap());
        Bounds {
            range: known
                .first()
                .cloned()
                .zip(known.last().cloned())
                .map(|(min, max)| [min, max]),
            may_be_null: values.iter().any(Option::is_none),
            may_be_value: values.iter().any(Option::is_some),
        }
    }

    fn condition() -> impl Strategy<Value = String> {
        let number = prop_oneof![Just("0"), Just("1"), Just("2.5"), Just("-3")];
        let text = prop_oneof![Just("a"), Just("ab"), Just("b"), Just("")];
        let operator = prop_oneof![
            Just("="),
            Just("<>"),
            Just("<"),
            Just("<="),
            Just(">"),
            Just(">=")
        ];
        let leaf = prop_oneof![
            (operator.clone(), number.clone())
                .prop_map(|(operator, number)| format!("number {operator} {number}")),
            (operator, text.clone()).prop_map(|(operator, text)| format!("text {operator} '{text}'")),
            (number.clone(), number).prop_map(|(a, b)| format!("number in ({a}, {b})")),
            (text.clone(), prop_oneof![Just("%"), Just("_"), Just("")])
                .prop_map(|(text, wildcard)| format!("text like '{text}{wildcard}'")),
            prop_oneof![
                Just("number is null"),
                Just("text is not null"),
                Just("flag"),
                Just("flag = false")
            ]
            .prop_map(str::to_owned),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                inner.clone().prop_map(|inner| format!("not ({inner})")),
                (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) and ({b})")),
                (inner.clone(), inner).prop_map(|(a, b)| format!("({a}) or ({b})")),
            ]
        })
    }

    fn rows() -> impl Strategy<Value = Vec<TestRow>> {
        let number = prop_oneof![
            Just(0.0),
            Just(1.0),
            Just(2.5),
            Just(-3.0),
            Just(f64::NAN),
            Just(7.0)
        ];
        let text = prop_oneof![Just("a"), Just("ab"), Just("b"), Just(""), Just("c")].prop_map(str::to_owned);
        prop::collection::vec(
            (prop::option::of(number), prop::option::of(text), any::<bool>()),
            1..4,
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

        #[test]
        fn no_group_with_a_match_is_left_out(condition in condition(), rows in rows()) {
            let predicate: Predicate = condition.parse().unwrap();
            let has_match = rows.iter().any(|row| predicate.matches(&|column| value_of(row, column)));
            let may_match = predicate.may_match(&|column| Some(bounds(&rows, column)));
            prop_assert!(may_match || !has_match, "{condition} of {rows:?}");
        }
    }

    #[test]
    fn groups_without_a_match_are_left_out() {
        let between = |min: f64, max: f64| Bounds {
            range: Some([min, max].map(Value::Number)),
            may_be_null: false,
            may_be_value: true,
        };
        let chairs = Bounds::exactly(Value::Text("chair".to_owned()));
        let may_match = |text: &str| {
            let predicate: Predicate = text.parse().unwrap();
            predicate.may_match(&|column| match column {
                "coverage_min" => Some(between(0.1, 0.3)),
                "category" => Some(chairs.clone()),
                _ => None,
            })
        };
        for text in [
            "coverage_min > 0.2",
            "coverage_min between 0.3 and 1",
            "category = 'chair' and coverage_min <= 0.1",
            "category like 'ch%'",
            "not category = 'table'",
            "num_triangles > 5",
            "category = 'table' or num_triangles > 5",
        ] {
            assert!(may_match(text), "{text}");
        }
        for text in [
            "coverage_min > 0.3",
            "coverage_min < 0.1",
            "not coverage_min < 0.5",
            "category = 'table' and num_triangles > 5",
            "category in ('sofa', 'table')",
            "category not in ('chair')",
            "category like 't%'",
            "category <> 'chair'",
            "category is null",
        ] {
            assert!(!may_match(text), "{text}");
        }
    }
}
