//! The demo's report: a single HTML file, from the result files of the stages.

mod page;
mod table;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;

pub(crate) use page::html;
pub(crate) use table::summary;

/// All that the report shows.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) stages: Vec<Stage>,
    /// Description of the data, a sentence.
    pub(crate) data: String,
    pub(crate) adapter: String,
    pub(crate) curve: Curve,
    pub(crate) pretraining: Pretraining,
    pub(crate) probe: Probe,
    pub(crate) comparison: Comparison,
    /// Generated and true views, a PNG.
    pub(crate) samples_png: Vec<u8>,
}

/// One stage of the main job.
#[derive(Debug, Clone)]
pub(crate) struct Stage {
    pub(crate) name: &'static str,
    pub(crate) what: String,
    pub(crate) elapsed_s: f64,
    /// Views rendered or trained on.
    pub(crate) num_views: Option<f64>,
}

/// The losses of a run, from its `metrics.jsonl`.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Curve {
    /// Step and training loss.
    pub(crate) training: Vec<(f64, f64)>,
    /// Step and validation loss.
    pub(crate) validation: Vec<(f64, f64)>,
}

/// The final numbers of pre-training, from the run's `result.json`.
#[derive(Debug, Deserialize)]
pub(crate) struct Pretraining {
    pub(crate) data_sha256: String,
    pub(crate) num_steps: u64,
    pub(crate) validation_loss: f64,
    /// The loss of the best single image for each view.
    pub(crate) weighted_mean_image_loss: f64,
    /// The loss of the true mask, filled with the mean gray.
    pub(crate) true_mask_gray_loss: f64,
    pub(crate) views_per_s: f64,
    /// Training steps only.
    pub(crate) elapsed_s: f64,
}

/// `probe.json`: a linear classifier on frozen features.
#[derive(Debug, Deserialize)]
pub(crate) struct Probe {
    pub(crate) arms: Vec<ProbeArm>,
}

/// One probed encoder.
#[derive(Debug, Deserialize)]
pub(crate) struct ProbeArm {
    /// `tap` or `random-K`.
    pub(crate) name: String,
    /// By labels per class.
    pub(crate) svm: BTreeMap<String, Score>,
}

/// Mean and deviation over label draws, as fractions.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Score {
    pub(crate) mean: f64,
    pub(crate) std: f64,
}

/// `compare.json`: fine-tuning from scratch and from TAP, seed by seed.
#[derive(Debug, Deserialize)]
pub(crate) struct Comparison {
    /// What the comparison calls the encoder: the folder of its run.
    init: Option<String>,
    pub(crate) settings: Vec<Setting>,
    pub(crate) confusion: Confusion,
}

/// Scores for one number of labels.
#[derive(Debug, Deserialize)]
pub(crate) struct Setting {
    /// 0 means all of them.
    pub(crate) labels_per_class: usize,
    pub(crate) seeds: Vec<u64>,
    pub(crate) scratch: Vec<f64>,
    pub(crate) tap: Vec<f64>,
    pub(crate) paired_mean: f64,
    pub(crate) paired_standard_error: f64,
    verdict: String,
}

/// Counts of test objects: row the true class, column the predicted one.
#[derive(Debug, Deserialize)]
pub(crate) struct Confusion {
    pub(crate) classes: Vec<String>,
    pub(crate) scratch: Vec<Vec<f64>>,
    pub(crate) tap: Vec<Vec<f64>>,
}

impl Comparison {
    /// The conclusion of a setting, about TAP by its name.
    pub(crate) fn verdict(&self, setting: &Setting) -> String {
        let of_run = self
            .init
            .as_ref()
            .and_then(|run| setting.verdict.strip_prefix(run));
        of_run.map_or_else(|| setting.verdict.clone(), |rest| format!("TAP{rest}"))
    }
}

impl Setting {
    pub(crate) fn labels(&self) -> String {
        match self.labels_per_class {
            0 => "all".to_owned(),
            count => count.to_string(),
        }
    }
}

impl Probe {
    pub(crate) fn tap(&self) -> Option<&ProbeArm> {
        self.arms.iter().find(|arm| !arm.name.starts_with("random"))
    }

    pub(crate) fn random(&self) -> impl Iterator<Item = &ProbeArm> {
        self.arms.iter().filter(|arm| arm.name.starts_with("random"))
    }

    /// Numbers of labels, ascending, `all` last.
    pub(crate) fn labels(&self) -> Vec<String> {
        let mut labels: Vec<String> = self
            .tap()
            .map(|arm| arm.svm.keys().cloned().collect())
            .unwrap_or_default();
        labels.sort_by_key(|label| label.parse::<u64>().unwrap_or(u64::MAX));
        labels
    }
}

impl Curve {
    /// Reads the lines of a `metrics.jsonl`; unknown kinds are ignored.
    ///
    /// # Errors
    /// When the file can't be read or a line is not JSON.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        #[derive(Deserialize)]
        struct Line {
            kind: String,
            step: Option<f64>,
            /// Text if it is not finite.
            #[serde(default)]
            loss: serde_json::Value,
        }
        let text = fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))?;
        let mut curve = Self::default();
        for line in text.lines() {
            let line: Line = serde_json::from_str(line)
                .with_context(|| format!("not a line of metrics: {}", path.display()))?;
            let (Some(step), Some(loss)) = (line.step, line.loss.as_f64()) else {
                continue;
            };
            match line.kind.as_str() {
                "step" => curve.training.push((step, loss)),
                "validation" => curve.validation.push((step, loss)),
                _ => {}
            }
        }
        Ok(curve)
    }
}

/// Reads one of the stages' JSON files.
///
/// # Errors
/// When it is missing or lacks a number that the report shows.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("not what the report needs: {}", path.display()))
}

/// Mean and sample deviation.
pub(crate) fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (squares / (count - 1.0).max(1.0)).sqrt())
}

/// `52.3 ± 4.8 %`.
pub(crate) fn percent(mean: f64, deviation: f64) -> String {
    format!("{:.1} ± {:.1} %", 100.0 * mean, 100.0 * deviation)
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_conclusion_is_about_tap_and_not_about_a_folder() {
        let mut comparison = example().comparison;
        let verdict = |comparison: &Comparison| comparison.verdict(&comparison.settings[0]);
        assert_eq!(verdict(&comparison), "tap better by 10.0 points");
        comparison.init = Some(String::from("tap"));
        assert_eq!(verdict(&comparison), "TAP better by 10.0 points");
    }

    /// A report as the stages would leave it, with names that try to be HTML.
    pub(crate) fn example() -> Report {
        let comparison = serde_json::json!({
            "settings": [{
                "labels_per_class": 5, "seeds": [0, 1, 2], "scratch": [0.40, 0.44, 0.48], "tap": [0.50, 0.52, 0.60],
                "paired_mean": 0.1, "paired_standard_error": 0.012, "verdict": "tap better by 10.0 points"
            }],
            "confusion": { "classes": ["chair", "<b>"], "scratch": [[3, 1], [2, 2]], "tap": [[4, 0], [1, 3]] },
            "unknown": "is left alone"
        });
        let probe = serde_json::json!({ "arms": [
            { "name": "tap", "svm": { "5": { "mean": 0.5, "std": 0.03 }, "all": { "mean": 0.7, "std": 0.0 } } },
            { "name": "random-0", "svm": { "5": { "mean": 0.40, "std": 0.03 }, "all": { "mean": 0.55, "std": 0.0 } } },
            { "name": "random-1", "svm": { "5": { "mean": 0.42, "std": 0.03 }, "all": { "mean": 0.57, "std": 0.0 } } }
        ]});
        Report {
            stages: vec![
                Stage {
                    name: "build",
                    what: "24 objects".to_owned(),
                    elapsed_s: 10.0,
                    num_views: Some(288.0),
                },
                Stage {
                    name: "compare",
                    what: "3 seeds".to_owned(),
                    elapsed_s: 90.0,
                    num_views: None,
                },
            ],
            data: "24 objects of 2 classes".to_owned(),
            adapter: "llvmpipe".to_owned(),
            curve: Curve {
                training: vec![(1.0, 0.9), (50.0, 0.4), (100.0, 0.25)],
                validation: vec![(100.0, 0.22)],
            },
            pretraining: Pretraining {
                data_sha256: "0123456789abcdef".to_owned(),
                num_steps: 100,
                validation_loss: 0.22,
                weighted_mean_image_loss: 0.288,
                true_mask_gray_loss: 0.26,
                views_per_s: 500.0,
                elapsed_s: 60.0,
            },
            probe: serde_json::from_value(probe).unwrap(),
            comparison: serde_json::from_value(comparison).unwrap(),
            samples_png: vec![1, 2, 3],
        }
    }

    #[test]
    fn a_curve_is_read_line_by_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        fs::write(
            &path,
            "{\"kind\":\"step\",\"step\":1,\"loss\":0.5,\"epoch\":0}\n{\"kind\":\"other\"}\n\
             {\"kind\":\"validation\",\"step\":2,\"loss\":0.4}\n",
        )
        .unwrap();
        let expected = Curve {
            training: vec![(1.0, 0.5)],
            validation: vec![(2.0, 0.4)],
        };
        assert_eq!(Curve::read(&path).unwrap(), expected);
        fs::write(&path, "no JSON\n").unwrap();
        assert!(Curve::read(&path).is_err(), "a line that is no JSON");
    }

    #[test]
    fn deviations_are_those_of_a_sample() {
        assert_eq!(mean_and_deviation(&[1.0, 3.0]), (2.0, f64::sqrt(2.0)));
        assert_eq!(mean_and_deviation(&[5.0]), (5.0, 0.0), "one value has none");
    }
}
