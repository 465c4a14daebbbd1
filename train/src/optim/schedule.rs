//! The learning rate as a function of time (`docs/method.md`, "Learning rate"): cosine with warm-up, or steps down at
//! milestones.
//!
//! Time is counted in epochs (as the reference does: the rate changes once per epoch) or in steps (`mini`).

use serde::{Deserialize, Serialize};

/// Unit of schedule time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleUnit {
    /// The rate is constant within an epoch.
    #[default]
    Epoch,
    /// The rate changes at every step.
    Step,
}

/// The shape of the curve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Curve {
    /// Linear from `warmup_from` during `warmup` units, then half a cosine from the base rate to `minimum` at `length`.
    Cosine {
        /// Units of linear warm-up.
        warmup: f64,
        /// The rate at time 0 where there is a warm-up.
        warmup_from: f64,
        /// The rate at and after `length`.
        minimum: f64,
        /// Units until `minimum`; the warm-up is not subtracted.
        length: f64,
    },
    /// Multiplied by `factor` at each milestone.
    Multistep {
        /// 0-based times at which the rate drops.
        milestones: Vec<f64>,
        /// Factor at a milestone.
        factor: f64,
    },
}

/// A learning-rate schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// The rate after warm-up.
    pub base: f64,
    /// Unit of time.
    pub unit: ScheduleUnit,
    /// The curve.
    pub curve: Curve,
}

impl Schedule {
    /// The rate of a 0-based `step` that lies in the 0-based `epoch`.
    #[must_use]
    pub fn rate(&self, step: u64, epoch: u64) -> f64 {
        self.at(match self.unit {
            ScheduleUnit::Epoch => epoch as f64,
            ScheduleUnit::Step => step as f64,
        })
    }

    fn at(&self, time: f64) -> f64 {
        match &self.curve {
            Curve::Cosine {
                warmup,
                warmup_from,
                minimum,
                length,
            } => {
                if time < *warmup {
                    warmup_from + time * (self.base - warmup_from) / warmup
                } else if time >= *length {
                    *minimum
                } else {
                    // Parity: the warm-up is not subtracted from the time, so the cosine has begun when it ends.
                    let angle = std::f64::consts::PI * time / length;
                    minimum + 0.5 * (self.base - minimum) * (1.0 + angle.cos())
                }
            }
            Curve::Multistep { milestones, factor } => {
                let passed = milestones.iter().filter(|milestone| time >= **milestone).count();
                self.base * factor.powi(passed as i32)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cosine(base: f64, minimum: f64, warmup: f64, length: f64) -> Schedule {
        Schedule {
            base,
            unit: ScheduleUnit::Epoch,
            curve: Curve::Cosine {
                warmup,
                warmup_from: 1e-6,
                minimum,
                length,
            },
        }
    }

    fn assert_table(schedule: &Schedule, table: &[(u64, f64)]) {
        for &(epoch, expected) in table {
            let rate = schedule.rate(999, epoch);
            assert!(
                (rate - expected).abs() <= 1e-12 * expected,
                "epoch {epoch}: {rate} is not {expected}"
            );
        }
    }

    // The numbers of these tables were recorded from the reference implementation.

    #[test]
    fn point_net2_pretraining_follows_the_reference() {
        let table = [
            (0, 0.002),
            (1, 0.001_999_509_027_563_903),
            (9, 0.001_960_492_217_248_558_4),
            (50, 0.001_005),
            (99, 1.049_097_243_609_706e-5),
        ];
        assert_table(&cosine(2e-3, 1e-5, 0.0, 100.0), &table);
    }

    #[test]
    fn dgcnn_pretraining_follows_the_reference() {
        let table = [
            (0, 0.001),
            (3, 0.000_997_792_077_390_032_3),
            (11, 0.000_970_588_182_554_726_7),
            (99, 5.245_486_218_048_53e-6),
        ];
        assert_table(&cosine(1e-3, 5e-6, 0.0, 100.0), &table);
    }

    #[test]
    fn transformer_pretraining_follows_the_reference() {
        let table = [
            (0, 1e-6),
            (1, 0.000_167_333_333_333_333_33),
            (2, 0.000_333_666_666_666_666_7),
            (3, 0.000_498_892_710_168_469_4),
            (10, 0.000_487_788_600_815_640_85),
            (99, 1.123_113_188_749_965_8e-6),
        ];
        assert_table(&cosine(5e-4, 1e-6, 3.0, 100.0), &table);
    }

    #[test]
    fn fine_tuning_follows_the_reference() {
        let table = [
            (0, 1e-6),
            (1, 5.09e-5),
            (9, 0.000_450_100_000_000_000_1),
            (10, 0.000_498_633_212_894_384_2),
            (299, 1.013_680_243_304_720_3e-6),
        ];
        assert_table(&cosine(5e-4, 1e-6, 10.0, 300.0), &table);
    }

    #[test]
    fn multistep_drops_at_its_milestones() {
        // Part segmentation: epochs count from 1 there, so milestone 210 is the 0-based epoch 209.
        let schedule = Schedule {
            base: 1e-3,
            unit: ScheduleUnit::Epoch,
            curve: Curve::Multistep {
                milestones: vec![209.0, 269.0],
                factor: 0.1,
            },
        };
        assert_table(
            &schedule,
            &[
                (0, 1e-3),
                (208, 1e-3),
                (209, 1e-4),
                (299, 1.000_000_000_000_000_3e-5),
            ],
        );
    }

    #[test]
    fn a_step_schedule_ignores_the_epoch() {
        let mut schedule = cosine(1e-3, 5e-6, 20.0, 3400.0);
        schedule.unit = ScheduleUnit::Step;
        assert!(
            (schedule.rate(10, 77) - (1e-6 + 10.0 * (1e-3 - 1e-6) / 20.0)).abs() < 1e-15,
            "half-way up"
        );
        assert!((schedule.rate(3400, 0) - 5e-6).abs() < 1e-15, "the end");
    }
}
