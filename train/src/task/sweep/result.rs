//! What a sweep came to: scores by seed, their means, and differences to the baseline row, as JSON, text and Markdown.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tap_dataset::sha256;

use super::spec::{Row, Sweep};
use crate::metric::{MIN_PAIRS, Paired, Summary};

/// A run behind the scores of a row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Its folder, within that of the sweep.
    pub folder: String,
    /// The task, or "pretrain".
    pub task: String,
    /// The seed.
    pub seed: u64,
    /// What the data set is a copy of; empty where it is of the user's own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub data_name: String,
    /// SHA-256 of the data; of episodes those of all folds.
    pub data_sha256: String,
    /// SHA-256 of what the configuration says about the numbers; absent of probes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_sha256: Option<String>,
    /// SHA-256 of the encoder that it started from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_sha256: Option<String>,
    /// Steps taken; absent of probes and episodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_steps: Option<u64>,
    /// Which weights were scored.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub selection: String,
    /// Split of the score.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub evaluation_split: String,
    /// Votes of the evaluation.
    #[serde(default)]
    pub votes: u32,
    /// The loss on the evaluation split, of a pre-training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_loss: Option<f64>,
    /// Scores of 0 to 1, by column.
    pub scores: BTreeMap<String, f64>,
}

/// A column of a row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColumnScore {
    /// The column.
    pub column: String,
    /// Seeds, in order.
    pub seeds: Vec<u64>,
    /// Scores of 0 to 1, one a seed.
    pub by_seed: Vec<f64>,
    /// Their mean and sample deviation.
    pub summary: Summary,
    /// Differences to the baseline row under the same seeds; absent of the baseline itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<Paired>,
}

/// A row with its scores.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RowResult {
    /// Its name.
    pub name: String,
    /// What it is.
    pub title: String,
    /// A word on it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// The configuration, a preset or a file.
    pub config: String,
    /// All its settings.
    pub set: Vec<String>,
    /// Those that are its own.
    pub own: Vec<String>,
    /// The row that it is compared with.
    pub baseline: String,
    /// Published figures in %, by column.
    pub published: BTreeMap<String, f64>,
    /// Published differences to the published baseline, in points.
    pub published_difference: BTreeMap<String, f64>,
    /// Its scores.
    pub scores: Vec<ColumnScore>,
    /// What was not run, and why.
    pub missing: Vec<String>,
    /// The runs behind the scores.
    pub runs: Vec<RunRecord>,
}

/// All rows with their provenance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SweepResult {
    /// The program's version.
    pub version: String,
    /// The sweep.
    pub sweep: String,
    /// The heading.
    pub title: String,
    /// Where the published figures are from.
    pub source: String,
    /// The budget; empty where the sweep has but one.
    pub budget: String,
    /// The seeds; each is that of a pre-training and of its tasks.
    pub seeds: Vec<u64>,
    /// SHA-256 of the data, by folder; "." is `--data` itself.
    pub data_sha256: BTreeMap<String, String>,
    /// What keeps the scores from being compared with the published figures.
    pub not_comparable: Vec<String>,
    /// Columns of published figures.
    pub published: Vec<String>,
    /// Columns of scores.
    pub columns: Vec<String>,
    /// The rows.
    pub rows: Vec<RowResult>,
}

impl RowResult {
    /// A row without scores.
    #[must_use]
    pub fn new(row: &Row, missing: Vec<String>, runs: Vec<RunRecord>) -> Self {
        Self {
            name: row.name.clone(),
            title: row.title.clone(),
            note: row.note.clone(),
            config: row.config.clone(),
            set: row.set.clone(),
            own: row.own.clone(),
            baseline: row.baseline.clone(),
            published: row.published.clone(),
            published_difference: BTreeMap::new(),
            scores: Vec::new(),
            missing,
            runs,
        }
    }

    fn score(&self, column: &str) -> Option<&ColumnScore> {
        self.scores.iter().find(|score| score.column == column)
    }

    /// The scores in a column, by seed.
    fn by_seed(&self, column: &str) -> Vec<(u64, f64)> {
        let mut scores: Vec<(u64, f64)> = self
            .runs
            .iter()
            .filter_map(|run| Some((run.seed, *run.scores.get(column)?)))
            .collect();
        scores.sort_by_key(|(seed, _)| *seed);
        scores
    }

    fn label(&self) -> String {
        if self.title.is_empty() {
            self.name.clone()
        } else {
            format!("{}: {}", self.name, self.title)
        }
    }
}

impl SweepResult {
    /// Lays rows with their runs out: means, and differences to the rows that they are compared with.
    #[must_use]
    pub fn new(
        version: &str,
        sweep: &Sweep,
        seeds: &[u64],
        data_sha256: BTreeMap<String, String>,
        not_comparable: Vec<String>,
        rows: &[RowResult],
    ) -> Self {
        let columns: Vec<String> = sweep
            .columns()
            .into_iter()
            .filter(|column| rows.iter().any(|row| !row.by_seed(column).is_empty()))
            .collect();
        let scored = rows.iter().map(|row| {
            let baseline = rows
                .iter()
                .find(|other| other.name == row.baseline && other.name != row.name);
            let mut row = row.clone();
            row.scores = columns
                .iter()
                .filter_map(|column| column_score(column, &row, baseline))
                .collect();
            if let Some(baseline) = baseline {
                let differences = row
                    .published
                    .iter()
                    .filter_map(|(column, value)| {
                        Some((column.clone(), round(value - baseline.published.get(column)?)))
                    })
                    .collect();
                row.published_difference = differences;
            }
            row
        });
        Self {
            version: version.to_owned(),
            sweep: sweep.name.clone(),
            title: sweep.title.clone(),
            source: sweep.source.clone(),
            budget: sweep.budget.clone(),
            seeds: seeds.to_vec(),
            data_sha256,
            not_comparable,
            published: sweep.published.clone(),
            columns: columns.clone(),
            rows: scored.collect(),
        }
    }

    /// What the numbers are, in a line.
    #[must_use]
    pub fn legend(&self) -> String {
        let baselines: Vec<&str> = self.rows.iter().map(|row| row.baseline.as_str()).collect();
        let baseline = match baselines.split_first() {
            Some((first, others)) if others.iter().all(|other| other == first) => {
                format!("the row {first}")
            }
            _ => String::from("the row that each is compared with"),
        };
        let num_seeds = self.seeds.len();
        let seeds = if num_seeds == 1 {
            String::from("1 seed")
        } else {
            format!("{num_seeds} seeds")
        };
        let few = if num_seeds < MIN_PAIRS {
            format!("; fewer than {MIN_PAIRS} seeds show no difference")
        } else {
            String::from("; * marks one of at least 2 standard errors")
        };
        let budget = if self.budget.is_empty() {
            String::new()
        } else {
            format!("budget {}, ", self.budget)
        };
        format!(
            "{budget}in %: mean ± sample deviation over {seeds}; in brackets the paired difference to {baseline}, its standard error behind the sign ±{few}"
        )
    }

    /// The table, heading first: names, published figures, scores.
    #[must_use]
    pub fn table(&self) -> Vec<Vec<String>> {
        let mut heading = vec![String::from("row")];
        heading.extend(self.published.iter().map(|column| format!("{column}, published")));
        heading.extend(self.columns.clone());
        let mut lines = vec![heading];
        for row in &self.rows {
            let mut line = vec![row.label()];
            for column in &self.published {
                let figure = row.published.get(column).map(|figure| {
                    let difference = row.published_difference.get(column);
                    let difference = difference.map_or_else(String::new, |difference| {
                        format!(" ({})", signed(*difference, decimals(*figure)))
                    });
                    format!("{figure}{difference}")
                });
                line.push(figure.unwrap_or_default());
            }
            for column in &self.columns {
                line.push(row.score(column).map_or_else(|| String::from("-"), cell));
            }
            lines.push(line);
        }
        lines
    }

    /// What is below the table: notes on rows, what was not run, and what keeps the numbers apart.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for row in &self.rows {
            let mut of_row: Vec<String> = Vec::new();
            if !row.note.is_empty() {
                of_row.push(row.note.clone());
            }
            of_row.extend(row.missing.iter().map(|reason| format!("not run: {reason}")));
            if !of_row.is_empty() {
                notes.push(format!("{}: {}", row.name, of_row.join("; ")));
            }
        }
        if !self.published.is_empty() {
            notes.push(format!("published: {}", self.source));
            let reasons = self.not_comparable.iter();
            notes.extend(reasons.map(|reason| format!("not comparable with what is published: {reason}")));
        }
        notes
    }

    /// The whole as Markdown.
    #[must_use]
    pub fn markdown(&self) -> String {
        let escaped = |cell: &String| cell.replace('\\', "\\\\").replace('|', "\\|");
        let line = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(escaped).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let table = self.table();
        let mut parts = vec![format!(
            "# {}\n\n{}.\n\n",
            self.title,
            capitalized(&self.legend())
        )];
        for (row_idx, cells) in table.iter().enumerate() {
            parts.push(line(cells));
            if row_idx == 0 {
                parts.push(format!("|{}\n", "---|".repeat(cells.len())));
            }
        }
        parts.push(String::from("\n"));
        parts.extend(self.notes().iter().map(|note| format!("- {note}\n")));
        let data: Vec<String> = self
            .data_sha256
            .iter()
            .map(|(folder, sha256)| {
                let folder = if folder == "." { "data" } else { folder };
                format!("{folder} `{}`", sha256::short(sha256))
            })
            .collect();
        let seeds: Vec<String> = self.seeds.iter().map(u64::to_string).collect();
        parts.push(format!(
            "\nVersion {}, seeds {}; {}. Configurations, seeds and hashes of every run: `rows/*.json`.\n",
            self.version,
            seeds.join(", "),
            data.join(", ")
        ));
        parts.concat()
    }
}

fn column_score(column: &str, row: &RowResult, baseline: Option<&RowResult>) -> Option<ColumnScore> {
    let scores = row.by_seed(column);
    if scores.is_empty() {
        return None;
    }
    let (seeds, by_seed): (Vec<u64>, Vec<f64>) = scores.iter().copied().unzip();
    let difference = baseline.and_then(|baseline| {
        let of_baseline: BTreeMap<u64, f64> = baseline.by_seed(column).into_iter().collect();
        let pairs = scores.iter();
        let (first, second): (Vec<f64>, Vec<f64>) = pairs
            .filter_map(|(seed, score)| Some((*of_baseline.get(seed)?, *score)))
            .unzip();
        (!first.is_empty()).then(|| Paired::of(&first, &second))
    });
    Some(ColumnScore {
        column: column.to_owned(),
        summary: Summary::of(&by_seed),
        seeds,
        by_seed,
        difference,
    })
}

/// `52.3 ±4.8 (+8.1 ±3.4)`; of one seed without what it cannot say.
fn cell(score: &ColumnScore) -> String {
    let Summary { mean, std, count } = score.summary;
    let spread = |value: f64, count: usize| {
        if count > 1 {
            format!(" ±{:.1}", 100.0 * value)
        } else {
            String::new()
        }
    };
    let difference = score.difference.as_ref().map_or_else(String::new, |difference| {
        let mark = if difference.is_shown { "*" } else { "" };
        format!(
            " ({}{}{mark})",
            signed(100.0 * difference.mean, 1),
            spread(difference.standard_error, difference.count)
        )
    });
    format!("{:.1}{}{difference}", 100.0 * mean, spread(std, count))
}

/// With its sign; zero has none.
fn signed(value: f64, decimals: usize) -> String {
    let text = format!("{value:+.decimals$}");
    if text.trim_start_matches(['+', '-', '0', '.']).is_empty() {
        text[1..].to_owned()
    } else {
        text
    }
}

/// Published figures have one or two decimals.
fn decimals(figure: f64) -> usize {
    if (figure * 10.0 - (figure * 10.0).round()).abs() < 1e-6 {
        1
    } else {
        2
    }
}

/// Differences of published figures to as many decimals as these have.
fn round(difference: f64) -> f64 {
    (100.0 * difference).round() / 100.0
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().collect::<String>() + chars.as_str()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn sweep() -> Sweep {
        Sweep::load("table6a", None, &[]).unwrap()
    }

    /// A row of the sweep with these scores by seed in the first column.
    fn row(sweep: &Sweep, name: &str, scores: &[(u64, f64)]) -> RowResult {
        let column = sweep.columns()[0].clone();
        let runs = scores.iter().map(|&(seed, score)| RunRecord {
            folder: String::new(),
            task: String::from("finetune"),
            seed,
            data_name: String::new(),
            data_sha256: String::new(),
            config_sha256: None,
            init_sha256: None,
            num_steps: None,
            selection: String::new(),
            evaluation_split: String::new(),
            votes: 0,
            validation_loss: None,
            scores: BTreeMap::from([(column.clone(), score)]),
        });
        RowResult::new(sweep.row(name).unwrap(), Vec::new(), runs.collect())
    }

    fn result(sweep: &Sweep, seeds: &[u64], rows: &[RowResult]) -> SweepResult {
        SweepResult::new("1", sweep, seeds, BTreeMap::new(), Vec::new(), rows)
    }

    #[test]
    fn differences_are_of_the_same_seeds() {
        let sweep = sweep();
        let rows = [
            row(&sweep, "TAP", &[(0, 0.50), (1, 0.60), (2, 0.70)]),
            // The third run failed.
            row(&sweep, "D", &[(1, 0.64), (0, 0.52)]),
            row(&sweep, "A1", &[]),
        ];
        let result = result(&sweep, &[0, 1, 2], &rows);
        assert_eq!(
            result.columns.len(),
            1,
            "a column without scores is none: {result:?}"
        );
        let table = result.table();
        assert_eq!(table[1][1..], ["88.5", "60.0 ±10.0"]);
        // 2 and 4 points; their deviation is the square root of 2, over the square root of 2.
        assert_eq!(table[2][1..], ["88.3 (-0.2)", "58.0 ±8.5 (+3.0 ±1.0)"]);
        assert_eq!(table[3][1..], ["87.6 (-0.9)", "-"]);
        assert!(
            result.legend().contains("fewer than 5 seeds"),
            "{}",
            result.legend()
        );
        let difference = result.rows[1].scores[0].difference.as_ref().unwrap();
        assert_eq!((difference.count, difference.is_shown), (2, false));
    }

    #[test]
    fn a_difference_over_enough_seeds_is_marked() {
        let sweep = sweep();
        let seeds = [0, 1, 2, 3, 4];
        let scores = |shift: f64| seeds.map(|seed| (seed, 0.5 + 0.01 * seed as f64 + shift));
        let rows = [
            row(&sweep, "TAP", &scores(0.0)),
            row(&sweep, "D", &scores(-0.02)),
            row(&sweep, "B", &scores(0.0)),
        ];
        let table = result(&sweep, &seeds, &rows).table();
        assert_eq!(table[2][2], "50.0 ±1.6 (-2.0 ±0.0*)");
        assert_eq!(table[3][2], "52.0 ±1.6 (0.0 ±0.0)");
        let single = result(&sweep, &[7], &[row(&sweep, "TAP", &[(7, 0.5)])]).table();
        assert_eq!(single[1][2], "50.0", "one seed has no deviation");
    }

    #[test]
    fn markdown_is_a_table_whatever_is_in_it() {
        let sweep = sweep();
        let mut tap = row(&sweep, "TAP", &[(0, 0.5)]);
        tap.title = String::from("a | b");
        let markdown = result(&sweep, &[0], &[tap]).markdown();
        assert!(markdown.contains("| TAP: a \\| b | 88.5 | 50.0 |"), "{markdown}");
        assert!(markdown.contains("\n|---|---|---|\n"), "{markdown}");
    }
}
