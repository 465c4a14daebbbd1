//! What runs have to say, read from their folders, and what they draw, for a page that compares them.

mod attention;
mod gallery;
mod gallery_page;
mod page;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use tap_train::metric::Summary;
use tap_train::run::event::Record;
use tap_train::run::{CONFIG_FILE, METRICS_FILE, RESULT_FILE, is_run};

pub(crate) use self::gallery::{Drawn, Wanted, draw};
pub(crate) use self::page::{html, is_report};

/// Settings by which runs may differ and still be repetitions of each other.
const OF_A_REPETITION: [&str; 1] = ["seed"];

/// Step and value by the kind of record and the scalar's name.
type Curves = BTreeMap<(String, String), Vec<(u64, f64)>>;

/// A run as its folder has it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Run {
    /// The end of its path that tells it from the other runs.
    pub(crate) name: String,
    /// Its folder.
    pub(crate) path: PathBuf,
    /// Every setting of `config.toml` by its dotted name.
    pub(crate) settings: BTreeMap<String, String>,
    /// Numbers and texts of `result.json` by their dotted names; none of a run that is not finished.
    pub(crate) result: BTreeMap<String, Json>,
    /// What its records say.
    pub(crate) curves: Curves,
    /// The newest of its pictures, a PNG.
    pub(crate) picture: Option<Vec<u8>>,
}

impl Run {
    /// Reads runs, finished or not.
    ///
    /// # Errors
    /// Where a folder is none of a run, or a file in it is damaged.
    pub(crate) fn read_all(paths: &[PathBuf]) -> Result<Vec<Self>> {
        let named = paths.iter().zip(distinct_names(paths));
        named.map(|(path, name)| Self::read(path, name)).collect()
    }

    fn read(path: &Path, name: String) -> Result<Self> {
        ensure!(
            is_run(path),
            "not the folder of a run, it has no {CONFIG_FILE}: {}",
            path.display()
        );
        let config: toml::Value = parse(&path.join(CONFIG_FILE), |text| {
            toml::from_str(text).map_err(|error| error.message().to_owned())
        })?;
        let mut settings = BTreeMap::new();
        let config = serde_json::to_value(config).context("TOML has a form in JSON")?;
        flatten("", &config, &mut |name, value| {
            settings.insert(name, text_of(value));
        });
        let mut result = BTreeMap::new();
        if path.join(RESULT_FILE).exists() {
            let json: Json = parse(&path.join(RESULT_FILE), from_json)?;
            flatten("", &json, &mut |name, value| {
                if !value.is_array() {
                    result.insert(name, value.clone());
                }
            });
        }
        Ok(Self {
            name,
            path: path.to_owned(),
            settings,
            result,
            curves: read_curves(&path.join(METRICS_FILE))?,
            picture: newest_picture(&path.join("samples"))?,
        })
    }

    fn of_no_repetition(&self) -> BTreeMap<&str, &str> {
        let settings = self
            .settings
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        settings
            .filter(|(name, _)| !OF_A_REPETITION.contains(name))
            .collect()
    }
}

/// Runs that differ by their seeds alone.
#[derive(Debug)]
pub(crate) struct Group<'a> {
    pub(crate) runs: Vec<&'a Run>,
}

impl<'a> Group<'a> {
    /// All runs, grouped, in the order of the first of each group.
    pub(crate) fn of(runs: &'a [Run]) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        for run in runs {
            let settings = run.of_no_repetition();
            let same = |group: &&mut Self| group.runs[0].of_no_repetition() == settings;
            match groups.iter_mut().find(same) {
                Some(group) => group.runs.push(run),
                None => groups.push(Self { runs: vec![run] }),
            }
        }
        groups
    }

    /// The name of its run, or the beginning that all their names have in common.
    pub(crate) fn label(&self) -> String {
        let names: Vec<&str> = self.runs.iter().map(|run| run.name.as_str()).collect();
        let [first, others @ ..] = names.as_slice() else {
            return String::new();
        };
        if others.is_empty() {
            return (*first).to_owned();
        }
        let is_common = |end: &usize| others.iter().all(|name| name.get(..*end) == first.get(..*end));
        let end = (0..=first.len())
            .filter(|&end| first.is_char_boundary(end))
            .take_while(is_common)
            .last();
        let common = first[..end.unwrap_or(0)].trim_end_matches(['-', '_', ' ', '.', '/']);
        let common = common
            .strip_suffix("seed")
            .unwrap_or(common)
            .trim_end_matches(['-', '_', '/']);
        let name = if common.is_empty() { *first } else { common };
        format!("{name} ({} seeds)", self.runs.len())
    }

    /// Mean and deviation over its runs of a number that all their results have.
    pub(crate) fn number(&self, name: &str) -> Option<Summary> {
        let numbers = self.runs.iter().map(|run| run.result.get(name)?.as_f64());
        Some(Summary::of(&numbers.collect::<Option<Vec<f64>>>()?))
    }

    /// Mean and deviation over its runs at each step that all of them have.
    pub(crate) fn curve(&self, kind: &str, scalar: &str) -> Vec<(u64, Summary)> {
        let key = (kind.to_owned(), scalar.to_owned());
        let mut by_step: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
        for &(step, value) in self.runs.iter().filter_map(|run| run.curves.get(&key)).flatten() {
            by_step.entry(step).or_default().push(value);
        }
        let complete = by_step
            .into_iter()
            .filter(|(_, values)| values.len() == self.runs.len());
        complete
            .map(|(step, values)| (step, Summary::of(&values)))
            .collect()
    }
}

/// Settings that are not the same in all groups, each with its values in every group; none where a group does not have it.
pub(crate) fn differences<'a>(groups: &[Group<'a>]) -> Vec<(&'a str, Vec<BTreeSet<&'a str>>)> {
    let runs = groups.iter().flat_map(|group| &group.runs);
    let names: BTreeSet<&str> = runs
        .flat_map(|run| run.settings.keys())
        .map(String::as_str)
        .collect();
    let of_all = names.into_iter().map(|name| {
        let of_group = |group: &Group<'a>| {
            let values = group.runs.iter().filter_map(|run| run.settings.get(name));
            values.map(String::as_str).collect()
        };
        (name, groups.iter().map(of_group).collect::<Vec<_>>())
    });
    of_all
        .filter(|(_, values)| values.iter().any(|value| *value != values[0]))
        .collect()
}

/// The last components of each path, as few as tell it from the others.
fn distinct_names(paths: &[PathBuf]) -> Vec<String> {
    let whole = paths
        .iter()
        .map(|path| path.canonicalize().unwrap_or_else(|_| path.clone()));
    let whole: Vec<PathBuf> = whole.collect();
    let end = |path: &Path, count: usize| -> PathBuf {
        let skipped = path.components().count().saturating_sub(count);
        path.components().skip(skipped).collect()
    };
    let name = |path: &PathBuf| {
        let is_its_own = |count: &usize| {
            let alike = whole
                .iter()
                .filter(|other| end(other, *count) == end(path, *count));
            alike.count() == 1
        };
        let count = (1..=path.components().count()).find(is_its_own);
        end(path, count.unwrap_or(1)).display().to_string()
    };
    whole.iter().map(name).collect()
}

/// The last value of each scalar of each step; a line that was torn by a kill is passed over.
fn read_curves(path: &Path) -> Result<Curves> {
    let mut curves = Curves::new();
    if !path.exists() {
        return Ok(curves);
    }
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let records = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Record>(line).ok());
    for record in records {
        for (name, value) in record.scalars.iter() {
            let curve = curves.entry((record.kind.clone(), name.to_owned())).or_default();
            curve.push((record.step, value));
        }
    }
    Ok(curves)
}

/// `final.png`, or the picture that was written last.
fn newest_picture(folder: &Path) -> Result<Option<Vec<u8>>> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(None);
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let of_pictures = paths.filter(|path| path.extension().is_some_and(|extension| extension == "png"));
    // Names of steps have as many digits each, and "final" comes behind "step".
    let is_final = |path: &PathBuf| path.file_stem().is_some_and(|stem| stem == "final");
    let newest = of_pictures.max_by_key(|path| (is_final(path), path.clone()));
    let read = |path: PathBuf| fs::read(&path).with_context(|| format!("cannot read {}", path.display()));
    newest.map(read).transpose()
}

/// Calls `add` with the dotted name of each value that is no table.
fn flatten(prefix: &str, value: &Json, add: &mut impl FnMut(String, &Json)) {
    match value {
        Json::Object(table) => {
            for (name, value) in table {
                let name = if prefix.is_empty() {
                    name.clone()
                } else {
                    format!("{prefix}.{name}")
                };
                flatten(&name, value, add);
            }
        }
        value => add(prefix.to_owned(), value),
    }
}

/// As TOML writes it, but for the quotes of a text.
pub(crate) fn text_of(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        Json::Array(values) => {
            let values: Vec<String> = values.iter().map(text_of).collect();
            format!("[{}]", values.join(", "))
        }
        other => other.to_string(),
    }
}

fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn parse<T>(path: &Path, read: impl Fn(&str) -> Result<T, String>) -> Result<T> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    read(&text).map_err(|reason| anyhow::anyhow!("damaged ({reason}): {}", path.display()))
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    /// A run of that name with a setting, a seed and a loss that starts at `loss`.
    pub(crate) fn run(name: &str, setting: &str, seed: u64, loss: f64) -> Run {
        let settings = [
            ("seed", seed.to_string()),
            ("data_sha256", String::from("0123456789abcdef")),
            ("photograph.num_blocks", setting.to_owned()),
        ];
        let curve = vec![(1, loss), (2, loss / 2.0)];
        Run {
            name: name.to_owned(),
            path: PathBuf::from(name),
            settings: settings
                .map(|(name, value)| (name.to_owned(), value))
                .into_iter()
                .collect(),
            result: BTreeMap::from([(String::from("validation_loss"), Json::from(loss / 3.0))]),
            curves: BTreeMap::from([((String::from("step"), String::from("loss")), curve)]),
            picture: Some(vec![1, 2, 3]),
        }
    }

    #[test]
    fn seeds_make_a_group_and_settings_do_not() {
        let runs = [
            run("two-seed0", "2", 0, 0.4),
            run("four", "4", 0, 0.9),
            run("two-seed1", "2", 1, 0.6),
        ];
        let groups = Group::of(&runs);
        let labels: Vec<String> = groups.iter().map(Group::label).collect();
        assert_eq!(labels, ["two (2 seeds)", "four"]);
        let curve = groups[0].curve("step", "loss");
        assert_eq!((curve[0].0, curve[0].1.mean, curve[1].1.mean), (1, 0.5, 0.25));
        assert!((curve[0].1.std - 0.02_f64.sqrt()).abs() < 1e-12, "{curve:?}");
        let differences = differences(&groups);
        let [(name, values), (other, _)] = &differences[..] else {
            panic!("{differences:?}")
        };
        assert_eq!((*name, *other), ("photograph.num_blocks", "seed"));
        assert_eq!(values[..], [BTreeSet::from(["2"]), BTreeSet::from(["4"])]);
    }

    #[test]
    fn names_are_as_long_as_they_must_be() {
        let paths = ["a/run", "b/run", "b/other"].map(PathBuf::from);
        assert_eq!(distinct_names(&paths), ["a/run", "b/run", "other"]);
    }

    #[test]
    fn a_run_is_read_from_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        let read = || Run::read(dir.path(), String::from("run"));
        assert!(read().unwrap_err().to_string().contains("config.toml"));
        write(CONFIG_FILE, "seed = 3\n[phase.schedule]\nbase = 0.5\n");
        let lines = [
            r#"{"kind":"step","step":1,"loss":0.5}"#,
            r#"{"kind":"validation","step":1,"loss":"NaN"}"#,
            r#"{"kind":"step","st"#,
        ];
        write(METRICS_FILE, &lines.join("\n"));
        write(
            RESULT_FILE,
            r#"{"loss":0.25,"provenance":{"votes":3},"classes":["a"]}"#,
        );
        fs::create_dir(dir.path().join("samples")).unwrap();
        write("samples/step-0000000100.png", "older");
        write("samples/final.png", "newest");
        let run = read().unwrap();
        assert_eq!(run.settings["phase.schedule.base"], "0.5");
        assert_eq!(
            run.result.keys().collect::<Vec<_>>(),
            ["loss", "provenance.votes"]
        );
        assert_eq!(
            run.curves[&(String::from("step"), String::from("loss"))],
            [(1, 0.5)]
        );
        assert_eq!(run.picture.as_deref(), Some(&b"newest"[..]));
        write(RESULT_FILE, "{");
        let error = read().unwrap_err().to_string();
        assert!(
            error.contains("damaged") && error.contains(RESULT_FILE),
            "{error}"
        );
    }
}
