//! Few-shot classification: accuracy over the folds of each setting (`docs/protocols.md`, "Few-shot episodes").

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tap_dataset::{Dataset, is_manifest_name};

use super::probe::HeadKind;
use super::provenance::imported_name;
use crate::error::TrainError;
use crate::metric::Summary;

/// Folds that published scores are means of.
pub const PUBLISHED_FOLDS: usize = 10;

/// The published episodes, as an import calls them.
pub const PUBLISHED_EPISODES: &str = "fewshot";

/// Whether objects of an import of this name are those of the published episodes, which are of `ModelNet40`.
#[must_use]
pub fn is_of_published(data_name: &str) -> bool {
    let set = data_name.split(' ').next();
    set == Some(PUBLISHED_EPISODES) || set == Some("modelnet40")
}

/// Number of classes, and of training objects of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Setting {
    /// Classes.
    pub ways: usize,
    /// Training objects of each class.
    pub shots: usize,
}

impl Setting {
    /// `5way_10shot`, or without the underscore.
    fn parse(text: &str) -> Option<Self> {
        let (ways, rest) = text.split_once("way")?;
        let shots = rest.strip_prefix('_').unwrap_or(rest).strip_suffix("shot")?;
        Some(Self {
            ways: ways.parse().ok()?,
            shots: shots.parse().ok()?,
        })
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}way_{}shot", self.ways, self.shots)
    }
}

/// A fold of a setting, a data set of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Episode {
    /// Its setting.
    pub setting: Setting,
    /// Its number.
    pub fold: usize,
    /// The folder of its data set.
    pub path: PathBuf,
}

impl Episode {
    /// The episodes in a folder as `tap dataset import fewshot` writes it, by setting and fold: those with the numbers of classes
    /// and of training objects that are asked for; all where none are.
    ///
    /// # Errors
    /// Where there are none.
    pub fn list(folder: &Path, ways: &[usize], shots: &[usize]) -> Result<Vec<Self>, TrainError> {
        let is_wanted = |wanted: &[usize], number| wanted.is_empty() || wanted.contains(&number);
        let mut episodes = Vec::new();
        for (name, path) in folders(folder)? {
            let Some(setting) = Setting::parse(&name) else {
                continue;
            };
            if !is_wanted(ways, setting.ways) || !is_wanted(shots, setting.shots) {
                continue;
            }
            for (name, path) in folders(&path)? {
                if let Ok(fold) = name.parse()
                    && is_dataset(&path)?
                {
                    episodes.push(Self { setting, fold, path });
                }
            }
        }
        if episodes.is_empty() {
            let reason = if is_dataset(folder)? {
                "this is one data set, not a folder of episodes; draw them with `tap dataset import fewshot DATA --out EPISODES`"
            } else {
                "there is no episode such as 5way_10shot/0 that was asked for; `tap dataset import fewshot` makes them, of the published pickles or of any data set with labels"
            };
            return Err(TrainError::UnsuitableData {
                reason: reason.to_owned(),
                path: folder.to_owned(),
            });
        }
        episodes.sort();
        // A folder may have both spellings.
        episodes.dedup_by(|a, b| (a.setting, a.fold) == (b.setting, b.fold));
        Ok(episodes)
    }

    /// What its folder is called among those of a result.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}-{}", self.setting, self.fold)
    }

    /// SHA-256 of its data, and the published set that its objects are of (empty for none).
    ///
    /// # Errors
    /// Where the data set is damaged.
    pub fn data(&self) -> Result<(String, String), TrainError> {
        let dataset = Dataset::open(&self.path)?;
        Ok((dataset.sha256().to_owned(), imported_name(dataset.manifest())))
    }
}

fn is_dataset(folder: &Path) -> Result<bool, TrainError> {
    let mut entries = std::fs::read_dir(folder).map_err(TrainError::io("read", folder))?;
    Ok(
        entries
            .any(|entry| entry.is_ok_and(|entry| entry.file_name().to_str().is_some_and(is_manifest_name))),
    )
}

/// Names and paths of the folders in a folder.
fn folders(folder: &Path) -> Result<Vec<(String, PathBuf)>, TrainError> {
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(TrainError::io("read", folder))? {
        let path = entry.map_err(TrainError::io("read", folder))?.path();
        if path.is_dir()
            && let Some(name) = path.file_name().and_then(|name| name.to_str())
        {
            folders.push((name.to_owned(), path));
        }
    }
    Ok(folders)
}

/// How a fold is learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Learner {
    /// The whole network is fine-tuned.
    Finetune,
    /// The encoder stays as it is; pooling and setting of the classifier are chosen by cross-validation on the training objects.
    Probe(HeadKind),
}

/// The score of a fold with what it depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FoldScore {
    /// The setting.
    #[serde(flatten)]
    pub setting: Setting,
    /// Number of the fold.
    pub fold: usize,
    /// Accuracy on its test objects, 0 to 1.
    pub accuracy: f64,
    /// SHA-256 of its data.
    pub data_sha256: String,
    /// The published set that its objects are of; empty where they are of none.
    #[serde(default)]
    pub data_name: String,
    /// SHA-256 of what the configuration says about the numbers; of a fine-tuning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_sha256: Option<String>,
    /// What cross-validation chose; of a probe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<String>,
}

/// Scores of a setting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SettingScore {
    /// The setting.
    #[serde(flatten)]
    pub setting: Setting,
    /// Mean and sample deviation over the folds, 0 to 1.
    pub accuracy: Summary,
}

/// All folds with their provenance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FewShotResult {
    /// The program's version.
    pub version: String,
    /// How a fold is learned.
    pub learner: Learner,
    /// SHA-256 of the encoder's file; "none" from scratch.
    pub init_sha256: String,
    /// Seed of every fold.
    pub seed: u64,
    /// Which weights, or which cell of a table, are scored.
    pub selection: String,
    /// Votes of an evaluation.
    pub votes: u32,
    /// One entry a setting.
    pub settings: Vec<SettingScore>,
    /// One entry a fold.
    pub folds: Vec<FoldScore>,
}

impl FewShotResult {
    /// The means and deviations of folds.
    #[must_use]
    pub fn summarize(folds: &[FoldScore]) -> Vec<SettingScore> {
        let mut settings: Vec<Setting> = folds.iter().map(|fold| fold.setting).collect();
        settings.sort();
        settings.dedup();
        let score = |setting: Setting| {
            let of_setting = folds.iter().filter(|fold| fold.setting == setting);
            let accuracies: Vec<f64> = of_setting.map(|fold| fold.accuracy).collect();
            SettingScore {
                setting,
                accuracy: Summary::of(&accuracies),
            }
        };
        settings.into_iter().map(score).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn fold(ways: usize, fold: usize, accuracy: f64) -> FoldScore {
        FoldScore {
            setting: Setting { ways, shots: 10 },
            fold,
            accuracy,
            data_sha256: String::new(),
            data_name: String::new(),
            config_sha256: None,
            chosen: None,
        }
    }

    #[test]
    fn folds_are_summarized_by_setting() {
        let folds = [
            fold(10, 0, 0.5),
            fold(5, 0, 0.9),
            fold(5, 1, 0.8),
            fold(10, 1, 0.7),
        ];
        let settings = FewShotResult::summarize(&folds);
        assert_eq!(settings[0].setting.to_string(), "5way_10shot");
        assert!((settings[0].accuracy.mean - 0.85).abs() < 1e-12, "{settings:?}");
        assert!(
            (settings[0].accuracy.std - 0.1 / 2.0_f64.sqrt()).abs() < 1e-12,
            "{settings:?}"
        );
        assert!((settings[1].accuracy.mean - 0.6).abs() < 1e-12, "{settings:?}");
    }

    #[test]
    fn episodes_are_listed_by_setting_and_fold() {
        let folder = tempfile::tempdir().unwrap();
        let none = Episode::list(folder.path(), &[], &[]).unwrap_err().to_string();
        assert!(none.contains("tap dataset import fewshot"), "{none}");
        for name in [
            "10way_20shot/1",
            "5way_10shot/10",
            "5way_10shot/2",
            "5way10shot/2",
            "other/0",
        ] {
            let episode = folder.path().join(name);
            std::fs::create_dir_all(&episode).unwrap();
            std::fs::write(episode.join("manifest.json"), "{}").unwrap();
        }
        std::fs::create_dir_all(folder.path().join("5way_10shot/3")).unwrap();
        let names = |ways: &[usize]| -> Vec<String> {
            let episodes = Episode::list(folder.path(), ways, &[]).unwrap();
            episodes.iter().map(Episode::name).collect()
        };
        assert_eq!(names(&[]), ["5way_10shot-2", "5way_10shot-10", "10way_20shot-1"]);
        assert_eq!(names(&[10]), ["10way_20shot-1"]);
    }
}
