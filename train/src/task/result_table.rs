//! Results side by side: means, deviations and confidence intervals over seeds, and published scores with what keeps them from
//! being compared (`docs/protocols.md`, "Tables of results").

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tap_dataset::sha256;

use super::audit::AuditReport;
use super::classify::ClassifyResult;
use super::few_shot::{FewShotResult, Learner, PUBLISHED_EPISODES, PUBLISHED_FOLDS, is_of_published};
use super::probe::ProbeResult;
use super::provenance::Provenance;
use super::published::{FEW_SHOT, FEW_SHOT_SETTINGS, Published};
use super::retrieval::RetrievalResult;
use super::segment::SegmentResult;
use crate::error::TrainError;
use crate::metric::Summary;

/// Files that a folder of results may hold, by the command that writes it.
const RESULT_FILES: [&str; 4] = ["result.json", "few_shot.json", "probe.json", "retrieval.json"];
/// 97.5 % quantiles of Student's t by degrees of freedom, from 1 on; then that of the normal distribution.
const T_QUANTILES: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];
const NORMAL_QUANTILE: f64 = 1.960;

/// One measure of one result.
#[derive(Debug, Clone, PartialEq)]
struct Measured {
    key: Key,
    /// 0 to 1; several where a result is a mean over folds itself.
    values: Vec<f64>,
    seed: u64,
    /// What keeps it from being compared with published scores.
    caveats: Vec<String>,
}

/// What results must have in common to be runs of one experiment under several seeds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    data_name: String,
    measure: String,
    data_sha256: String,
    rows_sha256: String,
    /// Preset, encoder, labels, steps.
    experiment: String,
    /// Selection, votes, refinement.
    protocol: String,
}

/// A row of a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableRow {
    /// What is measured, on which data.
    pub benchmark: String,
    /// The experiment, or the published method.
    pub name: String,
    /// How it was selected, voted and refined.
    pub protocol: String,
    /// Mean in %.
    pub mean: f64,
    /// Sample deviation in %; none of a single value.
    pub std: Option<f64>,
    /// Half the width of the 95 % confidence interval of the mean, in %; none of a single value.
    pub interval: Option<f64>,
    /// Values that the mean is of: seeds, or folds; none where that is not published.
    pub count: Option<usize>,
    /// Whether it is published and not of these results.
    pub is_published: bool,
    /// What keeps it from being compared with the other rows of its benchmark.
    pub caveats: Vec<String>,
}

/// Reads results, files or folders with them, and lays them out: by benchmark, first the results, then what is published.
///
/// # Errors
/// Where a file cannot be read, or is no result.
pub fn result_table(paths: &[PathBuf]) -> Result<Vec<TableRow>, TrainError> {
    let mut measured = Vec::new();
    for path in paths {
        measured.extend(read(path)?);
    }
    Ok(rows(measured))
}

fn rows(mut measured: Vec<Measured>) -> Vec<TableRow> {
    measured.sort_by(|a, b| (&a.key, a.seed).cmp(&(&b.key, b.seed)));
    // One result may be given twice, as a folder and as its file.
    measured.dedup();
    let mut table: Vec<TableRow> = Vec::new();
    for of_benchmark in measured.chunk_by(|a, b| benchmark(&a.key) == benchmark(&b.key)) {
        let first = &of_benchmark[0].key;
        let is_other_rows =
            |key: &Key| (&key.data_sha256, &key.rows_sha256) != (&first.data_sha256, &first.rows_sha256);
        for of_experiment in of_benchmark.chunk_by(|a, b| a.key == b.key) {
            let Measured { key, caveats, .. } = &of_experiment[0];
            let values: Vec<f64> = of_experiment.iter().flat_map(|one| one.values.clone()).collect();
            let mut caveats = caveats.clone();
            if is_other_rows(key) {
                caveats.push(String::from("other data or rows than the first line"));
            }
            table.push(TableRow::of(key, &values, caveats));
        }
        table.extend(published(first));
    }
    table
}

fn benchmark(key: &Key) -> String {
    let data = if key.data_name.is_empty() {
        format!("data {}", sha256::short(&key.data_sha256))
    } else {
        key.data_name.clone()
    };
    format!("{data}: {}", key.measure)
}

/// What is published for the data and measure of a result.
fn published(key: &Key) -> Vec<TableRow> {
    let row = |name: &str, mean: f64, std: Option<f64>, count, caveats: Vec<String>| TableRow {
        benchmark: benchmark(key),
        name: format!("published: {name}"),
        protocol: String::new(),
        mean,
        std,
        interval: None,
        count,
        is_published: true,
        caveats,
    };
    let selected_on_test = || String::from("best epoch on test");
    if let Some(setting) = FEW_SHOT_SETTINGS
        .iter()
        .position(|setting| key.data_name == format!("{PUBLISHED_EPISODES} {setting}"))
    {
        let of_method = |(method, scores): &(&str, [(f64, Option<f64>); 4])| {
            let (mean, std) = scores[setting];
            row(method, mean, std, Some(PUBLISHED_FOLDS), vec![selected_on_test()])
        };
        return FEW_SHOT.iter().map(of_method).collect();
    }
    Published::beside(&key.data_name, &key.measure)
        .map(|published| {
            let mut caveats = vec![selected_on_test()];
            if !published.note.is_empty() {
                caveats.push(published.note.to_owned());
            }
            row(
                published.method,
                published.percent,
                published.deviation,
                None,
                caveats,
            )
        })
        .collect()
}

impl TableRow {
    fn of(key: &Key, values: &[f64], caveats: Vec<String>) -> Self {
        let Summary { mean, std, count } = Summary::of(values);
        let is_several = count > 1;
        Self {
            benchmark: benchmark(key),
            name: key.experiment.clone(),
            protocol: key.protocol.clone(),
            mean: 100.0 * mean,
            std: is_several.then_some(100.0 * std),
            interval: is_several.then(|| 100.0 * confidence_interval(std, count)),
            count: Some(count),
            is_published: false,
            caveats,
        }
    }
}

/// Half the width of the 95 % confidence interval of a mean of `count` values with this sample deviation.
fn confidence_interval(std: f64, count: usize) -> f64 {
    let quantile = T_QUANTILES
        .get(count.saturating_sub(2))
        .copied()
        .unwrap_or(NORMAL_QUANTILE);
    quantile * std / (count as f64).sqrt()
}

/// The measures of a result.
fn read(path: &Path) -> Result<Vec<Measured>, TrainError> {
    let file = if path.is_dir() {
        let mut files = RESULT_FILES.iter().map(|name| path.join(name));
        files
            .find(|file| file.is_file())
            .ok_or_else(|| TrainError::NoWeights {
                reason: format!("no result here: none of {}", RESULT_FILES.join(", ")),
                path: path.to_owned(),
            })?
    } else {
        path.to_owned()
    };
    let bytes = std::fs::read(&file).map_err(TrainError::io("read", &file))?;
    let json: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    measures(&json).ok_or_else(|| TrainError::NoWeights {
        reason: String::from(
            "not a result of finetune, evaluate, audit, few-shot, probe --heads or retrieve of this version",
        ),
        path: file,
    })
}

fn measures(json: &Value) -> Option<Vec<Measured>> {
    let mut measured = measures_of_result(json)?;
    if let Ok(audit) = AuditReport::deserialize(&json["audit"]) {
        measured.extend(measures_of_result(&json["voted"]).unwrap_or_default());
        let AuditReport {
            file,
            network,
            claim,
            not_comparable,
            ..
        } = audit;
        let claim = claim.map_or_else(String::new, |claim| format!(", claims {:.2}", claim.percent));
        for one in &mut measured {
            one.key.experiment = format!("{file}, audited as {network}{claim}");
            one.caveats.extend(not_comparable.iter().cloned());
        }
    }
    Some(measured)
}

fn measures_of_result(json: &Value) -> Option<Vec<Measured>> {
    let has = |key: &str| json.get(key).is_some();
    if has("confusion") {
        ClassifyResult::deserialize(json)
            .ok()
            .as_ref()
            .map(of_classification)
    } else if has("score") {
        SegmentResult::deserialize(json)
            .ok()
            .as_ref()
            .map(of_segmentation)
    } else if has("learner") {
        FewShotResult::deserialize(json).ok().as_ref().map(of_few_shot)
    } else if has("micro") {
        RetrievalResult::deserialize(json).ok().as_ref().map(of_retrieval)
    } else if has("grid_selection") {
        ProbeResult::deserialize(json).ok().as_ref().map(of_probe)
    } else {
        None
    }
}

/// The beginning of a hash, shorter than elsewhere: a table has little room.
fn short(sha256: &str) -> &str {
    sha256.get(..8).unwrap_or(sha256)
}

fn of_provenance(provenance: &Provenance, measure: &str, refinement: &str) -> Key {
    let labels = match provenance.labels_per_class {
        0 => String::new(),
        count => format!(", {count} labels a class"),
    };
    let filter = provenance
        .filter
        .as_ref()
        .map_or_else(String::new, |filter| format!(", where {filter}"));
    Key {
        data_name: provenance.data_name.clone(),
        measure: measure.to_owned(),
        data_sha256: provenance.data_sha256.clone(),
        rows_sha256: provenance.rows_sha256.clone(),
        experiment: format!(
            "{}, from {}, {} steps{labels}{filter}",
            provenance.preset,
            short(&provenance.init_sha256),
            provenance.num_steps
        ),
        protocol: format!("{}, {} votes{refinement}", provenance.selection, provenance.votes),
    }
}

/// What keeps a score from being compared with published ones.
fn caveats(provenance: &Provenance) -> Vec<String> {
    let mut caveats = Vec::new();
    let selection = &provenance.selection;
    if selection.starts_with("checkpoint") || selection.contains(", so far: ") {
        caveats.push(String::from("the run is not finished"));
    } else if selection.starts_with("weights of ") {
        caveats.push(String::from("weights that were named"));
    }
    if provenance.labels_per_class > 0 {
        caveats.push(String::from("few labels"));
    }
    if provenance.filter.is_some() {
        caveats.push(String::from("some rows only"));
    }
    if !provenance.mix.is_empty() {
        caveats.push(String::from("further training data"));
    }
    if provenance.evaluation_split != "test" {
        caveats.push(format!("on {}", provenance.evaluation_split));
    }
    caveats
}

fn of_classification(result: &ClassifyResult) -> Vec<Measured> {
    let provenance = &result.provenance;
    let scores = [
        ("accuracy", result.score.accuracy),
        ("mean class accuracy", result.score.mean_class_accuracy),
    ];
    let measured = |(measure, value): (&str, f64)| Measured {
        key: of_provenance(provenance, measure, ""),
        values: vec![value],
        seed: provenance.seed,
        caveats: caveats(provenance),
    };
    scores.into_iter().map(measured).collect()
}

fn of_segmentation(result: &SegmentResult) -> Vec<Measured> {
    let provenance = &result.provenance;
    let score = &result.score.score;
    let plain = Some((&score.plain, ", no refinement"));
    let refined = score.refined.as_ref().map(|score| (score, ", refined"));
    let mut measured = Vec::new();
    for (score, refinement) in [plain, refined].into_iter().flatten() {
        for (measure, value) in [
            ("class mIoU", score.class_miou),
            ("instance mIoU", score.instance_miou),
        ] {
            measured.push(Measured {
                key: of_provenance(provenance, measure, refinement),
                values: vec![value],
                seed: provenance.seed,
                caveats: caveats(provenance),
            });
        }
    }
    measured
}

fn of_few_shot(result: &FewShotResult) -> Vec<Measured> {
    let learner = match result.learner {
        Learner::Finetune => String::from("fine-tuned"),
        Learner::Probe(head) => head.to_string(),
    };
    let measured = |setting: &super::few_shot::SettingScore| {
        let of_setting = result.folds.iter().filter(|fold| fold.setting == setting.setting);
        let values: Vec<f64> = of_setting.clone().map(|fold| fold.accuracy).collect();
        let data: Vec<&str> = of_setting.clone().map(|fold| fold.data_sha256.as_str()).collect();
        let is_published = of_setting.clone().all(|fold| is_of_published(&fold.data_name));
        let mut caveats = Vec::new();
        if values.len() != PUBLISHED_FOLDS {
            caveats.push(format!("{} folds, not {PUBLISHED_FOLDS}", values.len()));
        }
        Measured {
            key: Key {
                data_name: if is_published {
                    format!("{PUBLISHED_EPISODES} {}", setting.setting)
                } else {
                    format!("episodes of other data, {}", setting.setting)
                },
                measure: String::from("accuracy over folds"),
                data_sha256: data.join(" "),
                rows_sha256: String::new(),
                experiment: format!("{learner}, from {}", short(&result.init_sha256)),
                protocol: format!("{}, {} votes", result.selection, result.votes),
            },
            values,
            seed: result.seed,
            caveats,
        }
    };
    result.settings.iter().map(measured).collect()
}

fn of_probe(result: &ProbeResult) -> Vec<Measured> {
    let mut measured = Vec::new();
    for arm in &result.arms {
        for cell in arm.grid.iter().filter(|cell| cell.is_chosen) {
            measured.push(Measured {
                key: Key {
                    data_name: result.data_name.clone(),
                    measure: format!("{} accuracy", cell.head),
                    data_sha256: result.data_sha256.clone(),
                    rows_sha256: result.rows_sha256.clone(),
                    experiment: format!("{}, encoder {}", arm.name, short(&result.init_sha256)),
                    protocol: String::from("chosen by cross-validation on train"),
                },
                values: vec![cell.accuracy],
                seed: result.seed,
                caveats: vec![format!(
                    "{}, {} = {}",
                    cell.pooling, cell.setting_name, cell.setting
                )],
            });
        }
    }
    measured
}

fn of_retrieval(result: &RetrievalResult) -> Vec<Measured> {
    let scores = [
        ("micro mAP", result.means.micro.average_precision),
        ("macro mAP", result.means.by_class_mean.average_precision),
        ("micro NDCG", result.means.micro.ndcg),
        ("macro NDCG", result.means.by_class_mean.ndcg),
    ];
    let query = if result.leaves_out_query {
        "left out"
    } else {
        "counted"
    };
    let measured = |(measure, value): (&str, f64)| Measured {
        key: Key {
            data_name: String::new(),
            measure: measure.to_owned(),
            data_sha256: result.data_sha256.clone(),
            rows_sha256: result.rows_sha256.clone(),
            experiment: format!("encoder {}", short(&result.init_sha256)),
            protocol: format!(
                "{}, {}, N = {}, query {query}",
                result.pooling, result.distance, result.list_length
            ),
        },
        values: vec![value],
        seed: 0,
        caveats: Vec::new(),
    };
    scores.into_iter().map(measured).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn measured(data: &str, rows: &str, seed: u64, value: f64) -> Measured {
        Measured {
            key: Key {
                data_name: data.to_owned(),
                measure: String::from("accuracy"),
                data_sha256: String::from("0123456789abcdef"),
                rows_sha256: rows.to_owned(),
                experiment: String::from("mini"),
                protocol: String::from("last step, 0 votes"),
            },
            values: vec![value],
            seed,
            caveats: Vec::new(),
        }
    }

    #[test]
    fn seeds_of_one_experiment_are_one_row_with_an_interval() {
        let data = "scanobjectnn PB_T50_RS";
        let of_seeds =
            [(0, 0.85), (1, 0.87), (2, 0.86)].map(|(seed, value)| measured(data, "a", seed, value));
        let mut results = of_seeds.to_vec();
        results.push(of_seeds[0].clone());
        let table = rows(results);
        let ours = &table[0];
        assert_eq!(
            ours.count,
            Some(3),
            "a result that is given twice counts once: {ours:?}"
        );
        assert!((ours.mean - 86.0).abs() < 1e-9, "{ours:?}");
        assert!((ours.std.unwrap_or_default() - 1.0).abs() < 1e-9, "{ours:?}");
        // 4.303 x 1 / sqrt(3).
        assert!(
            (ours.interval.unwrap_or_default() - 2.4843).abs() < 1e-3,
            "{ours:?}"
        );
        let published = &table[1..];
        assert!(published.iter().all(|row| row.is_published), "{table:?}");
        assert!(
            published.iter().all(|row| row.caveats[0] == "best epoch on test"),
            "published scores say what keeps them apart"
        );
    }

    #[test]
    fn published_scores_stand_beside_episodes_of_modelnet40_alone() {
        let of_data = |data_name: &str| {
            let fold = serde_json::json!({
                "ways": 5, "shots": 10, "fold": 0, "accuracy": 0.9, "data_sha256": "d", "data_name": data_name
            });
            let folds = vec![serde_json::from_value(fold).unwrap()];
            let result = FewShotResult {
                version: String::new(),
                learner: Learner::Finetune,
                init_sha256: String::from("none"),
                seed: 0,
                selection: String::from("last"),
                votes: 0,
                settings: FewShotResult::summarize(&folds),
                folds,
            };
            rows(of_few_shot(&result))
        };
        for data_name in ["fewshot 5way_10shot fold 0", "modelnet40 normal_resampled"] {
            let table = of_data(data_name);
            assert_eq!(table.len(), 1 + FEW_SHOT.len(), "{table:?}");
        }
        let table = of_data("");
        assert_eq!(table.len(), 1, "{table:?}");
        assert_eq!(
            table[0].benchmark,
            "episodes of other data, 5way_10shot: accuracy over folds"
        );
    }

    #[test]
    fn other_rows_are_marked_and_single_values_have_no_interval() {
        let table = rows(vec![measured("", "a", 0, 0.5), measured("", "b", 0, 0.6)]);
        assert_eq!(table.len(), 2, "nothing is published of it: {table:?}");
        assert_eq!(table[0].benchmark, "data 0123456789ab: accuracy");
        assert!(
            table[0].caveats.is_empty() && table[0].interval.is_none(),
            "{table:?}"
        );
        assert_eq!(table[1].caveats, ["other data or rows than the first line"]);
    }

    #[test]
    fn intervals_follow_students_distribution() {
        assert!((confidence_interval(1.0, 2) - 12.706 / 2.0_f64.sqrt()).abs() < 1e-9);
        assert!((confidence_interval(1.0, 31) - 2.042 / 31.0_f64.sqrt()).abs() < 1e-9);
        assert!((confidence_interval(1.0, 100) - 0.196).abs() < 1e-9);
    }
}
