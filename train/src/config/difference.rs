//! How two plans differ, key by key, and which differences change the numbers of a run.

use std::fmt;

use toml::Value;

use super::{LogPlan, PhasePlan, Plan};

/// A key that two plans have different values for.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    key: String,
    before: Option<Value>,
    now: Option<Value>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |value: &Option<Value>| value.as_ref().map_or(String::from("none"), Value::to_string);
        write!(
            f,
            "{} ({}, now {})",
            self.key,
            text(&self.before),
            text(&self.now)
        )
    }
}

/// The differences of a list, separated by commas.
#[must_use]
pub fn listed(differences: &[Difference]) -> String {
    let texts: Vec<String> = differences.iter().map(Difference::to_string).collect();
    texts.join(", ")
}

impl Plan {
    /// All differences of `now` from this plan.
    #[must_use]
    pub fn differences(&self, now: &Self) -> Vec<Difference> {
        let mut differences = Vec::new();
        let value = |plan: &Self| Value::try_from(plan).ok();
        compare("", value(self), value(now), &mut differences);
        differences
    }

    /// This plan without what changes no number of a run: the cache, the log and the name of the preset.
    #[must_use]
    pub(super) fn numbers(&self) -> Self {
        let mut plan = self.clone();
        plan.preset.clear();
        plan.data.cache_bytes = 0;
        plan.log = LogPlan::default();
        plan
    }

    /// The differences of `now` from this plan that change the numbers of a run.
    #[must_use]
    pub fn differences_of_numbers(&self, now: &Self) -> Vec<Difference> {
        self.numbers().differences(&now.numbers())
    }

    /// This plan with length, learning rate, optimizer and left-out samples of `other`: what a run that continues another may
    /// change.
    #[must_use]
    pub fn with_schedule_of(&self, other: &Self) -> Self {
        let PhasePlan {
            num_steps,
            schedule,
            optimizer,
            encoder_rate,
            layer_decay,
            ..
        } = other.phase.clone();
        let mut plan = self.clone();
        (plan.phase.num_steps, plan.phase.schedule, plan.phase.optimizer) = (num_steps, schedule, optimizer);
        (plan.phase.encoder_rate, plan.phase.layer_decay) = (encoder_rate, layer_decay);
        plan.data.leave_out.clone_from(&other.data.leave_out);
        plan
    }
}

fn compare(key: &str, before: Option<Value>, now: Option<Value>, differences: &mut Vec<Difference>) {
    match (before, now) {
        (Some(Value::Table(before)), Some(Value::Table(now))) => {
            let added = now.keys().filter(|name| !before.contains_key(*name));
            for name in before.keys().chain(added) {
                let key = if key.is_empty() {
                    name.clone()
                } else {
                    format!("{key}.{name}")
                };
                compare(
                    &key,
                    before.get(name).cloned(),
                    now.get(name).cloned(),
                    differences,
                );
            }
        }
        (before, now) if before == now => {}
        (before, now) => differences.push(Difference {
            key: key.to_owned(),
            before,
            now,
        }),
    }
}
