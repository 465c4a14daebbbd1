//! Few-shot episodes on ModelNet40: some classes, some training objects of each, 20 test objects of each; ten folds a setting.
//!
//! - Point-BERT's own: `ModelNetFewshot/5way_10shot/0.pkl` (or `5way10shot`), pickles of `{'train': [(points, label within the
//!   episode, label)], 'test': ...}`
//! - drawn from an imported ModelNet40: classes, training objects and test objects, each by a hash of seed, setting, fold and
//!   name, so that an episode depends on nothing else
//!
//! Each episode is a data set of its own, `OUT/5way_10shot/0`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use sha2::{Digest, Sha256};

use super::cloud::class_of_label;
use super::modelnet40::{CLASSES, PickleReader};
use super::numpy_pickle::{PickleFile, PickledArray};
use super::{
    ImportEvent, ImportOptions, ImportReport, ImportSet, ListedCloud, PublishedSet, entries, folder_or,
    relative, write,
};
use crate::derive::{DeriveEvent, DeriveOptions, RowRules, derive};
use crate::error::{DatasetError, ImportError, Result};
use crate::manifest::manifest_file;
use crate::pickle::Value;
use crate::reader::Dataset;
use crate::schema::{ColumnSet, ObjectId, Split};

const SET: ImportSet = ImportSet::Fewshot;
const FOLDERS: [&str; 1] = ["ModelNetFewshot"];
/// Test objects of a class (Sharma and Kaul's protocol, as Point-BERT and all after it have it).
const NUM_TEST: usize = 20;
/// Folds of a setting.
const NUM_FOLDS: usize = 10;
const SPLITS: [Split; 2] = [Split::Train, Split::Test];

/// Which episodes are drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpisodeOptions {
    /// Numbers of classes.
    pub ways: Vec<usize>,
    /// Numbers of training objects a class.
    pub shots: Vec<usize>,
    /// Episodes of a setting.
    pub folds: usize,
    /// Test objects a class.
    pub num_test: usize,
    /// Seed of what is drawn.
    pub seed: u64,
}

impl Default for EpisodeOptions {
    fn default() -> Self {
        Self {
            ways: vec![5, 10],
            shots: vec![10, 20],
            folds: NUM_FOLDS,
            num_test: NUM_TEST,
            seed: 0,
        }
    }
}

/// Number of classes, and of training objects of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Setting {
    ways: usize,
    shots: usize,
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

    fn name(self) -> String {
        format!("{}way_{}shot", self.ways, self.shots)
    }
}

/// Objects of an episode, of a variant such as `5way_10shot fold 3`: classes, training objects, test objects.
pub(super) fn published_counts(variant: &str) -> Option<[usize; 3]> {
    let Setting { ways, shots } = Setting::parse(variant.split(' ').next()?)?;
    Some([ways, ways.checked_mul(shots)?, ways.checked_mul(NUM_TEST)?])
}

pub(super) fn import(
    options: &ImportOptions,
    cancel: &AtomicBool,
    on_event: &mut dyn FnMut(ImportEvent),
) -> Result<Option<Vec<ImportReport>>> {
    if manifest_file(&options.src)?.is_some() {
        draw(options, cancel, on_event)
    } else {
        import_pickles(options, cancel, on_event)
    }
}

/// A pickle of an episode.
struct Episode {
    setting: Setting,
    fold: usize,
    path: PathBuf,
}

fn import_pickles(
    options: &ImportOptions,
    cancel: &AtomicBool,
    on_event: &mut dyn FnMut(ImportEvent),
) -> Result<Option<Vec<ImportReport>>> {
    let src = &options.src;
    let folder = folder_or(src, &FOLDERS, |folder| !episodes(folder).is_empty());
    let Some(episodes) = folder.as_deref().map(episodes) else {
        let expected =
            "5way_10shot/0.pkl and so on, or a data set of ModelNet40 to draw episodes from".to_owned();
        return Err(SET.not_found(expected, src));
    };
    let missing = missing_folds(&episodes);
    if !missing.is_empty() && !options.allow_incomplete {
        return Err(DatasetError::Import(ImportError::Incomplete {
            set: SET.title().to_owned(),
            detail: format!("no {}", missing.join(", no ")),
            obtain: SET.obtain(),
        }));
    }
    for path in missing {
        on_event(ImportEvent::Note(format!("{path} is not there")));
    }
    let mut reports = Vec::new();
    for episode in &episodes {
        let out = options
            .out
            .join(episode.setting.name())
            .join(episode.fold.to_string());
        let set = open_episode(episode, src)?;
        let Some(report) = write::write(set, options, &out, cancel, on_event)? else {
            return Ok(None);
        };
        reports.push(report);
    }
    Ok(Some(reports))
}

/// Pickles of all settings, in order.
fn episodes(folder: &Path) -> Vec<Episode> {
    let mut episodes = Vec::new();
    for (name, folder) in entries(folder) {
        let Some(setting) = Setting::parse(&name) else {
            continue;
        };
        for (name, path) in entries(&folder) {
            let fold = name.strip_suffix(".pkl").and_then(|number| number.parse().ok());
            episodes.extend(fold.map(|fold| Episode { setting, fold, path }));
        }
    }
    episodes.sort_by(|a, b| (a.setting, a.fold, &a.path).cmp(&(b.setting, b.fold, &b.path)));
    // A copy may have both spellings of a folder.
    episodes.dedup_by(|a, b| (a.setting, a.fold) == (b.setting, b.fold));
    episodes
}

/// Folds that are missing of the settings that are there.
fn missing_folds(episodes: &[Episode]) -> Vec<String> {
    let settings: BTreeSet<Setting> = episodes.iter().map(|episode| episode.setting).collect();
    let is_there = |setting, fold| {
        episodes
            .iter()
            .any(|episode| episode.setting == setting && episode.fold == fold)
    };
    let folds = settings
        .into_iter()
        .flat_map(|setting| (0..NUM_FOLDS).map(move |fold| (setting, fold)));
    folds
        .filter(|&(setting, fold)| !is_there(setting, fold))
        .map(|(setting, fold)| format!("{}/{fold}.pkl", setting.name()))
        .collect()
}

fn open_episode(episode: &Episode, src: &Path) -> Result<PublishedSet> {
    let relative = relative(&episode.path, src);
    let file = PickleFile::open(&episode.path)?;
    let (mut objects, mut skipped) = (Vec::new(), Vec::new());
    let mut arrays = Vec::new();
    for split in SPLITS {
        for (number, sample) in samples_of(&file, split)?.iter().enumerate() {
            let path = format!("{relative}#{split}/{number}");
            let name = format!("{split}-{number:03}");
            let (array, label) = labeled(&file, sample)
                .map_err(|detail| file.malformed(format!("{split} object {number}: {detail}")))?;
            let class = match class_of_label(label, &CLASSES) {
                Ok(class) => class,
                Err(defect) => {
                    skipped.push(defect.skipped(name, split, path));
                    continue;
                }
            };
            objects.push(ListedCloud {
                id: ObjectId::try_new(class, &name)?,
                split,
                path,
                bytes: 0,
                place: (0, arrays.len()),
            });
            arrays.push(array);
        }
    }
    let there: BTreeSet<&str> = objects.iter().map(|object| object.id.category()).collect();
    Ok(PublishedSet {
        set: SET,
        variant: format!("{} fold {}", episode.setting.name(), episode.fold),
        format: "pkl",
        classes: there.into_iter().map(str::to_owned).collect(),
        objects,
        skipped,
        missing: Vec::new(),
        parts: Vec::new(),
        notes: Vec::new(),
        pictures: None,
        reader: Box::new(PickleReader {
            files: vec![file.numbers],
            arrays,
        }),
    })
}

/// The list of a split in the dictionary.
fn samples_of(file: &PickleFile, split: Split) -> Result<&[Value]> {
    let entries = file.pickle.entries(&file.pickle.root).unwrap_or_default();
    let list = entries
        .iter()
        .find(|(key, _)| key.as_text() == Some(split.as_str()));
    list.and_then(|(_, list)| file.pickle.items(list))
        .ok_or_else(|| file.malformed(format!("expected a pickle of a dictionary with a list '{split}'")))
}

/// The points of `(points, label within the episode, label)`, and the label.
fn labeled(file: &PickleFile, sample: &Value) -> Result<(PickledArray, i64), String> {
    let Some([points, _, label]) = file.pickle.items(sample) else {
        return Err("expected points, a label within the episode, and a label".to_owned());
    };
    let array = file.array(points)?;
    let label = file.integer(label).ok_or("its label is no whole number")?;
    Ok((array, label))
}

/// Draws episodes from a data set.
fn draw(
    options: &ImportOptions,
    cancel: &AtomicBool,
    on_event: &mut dyn FnMut(ImportEvent),
) -> Result<Option<Vec<ImportReport>>> {
    let episodes = &options.episodes;
    let dataset = Dataset::open(&options.src)?;
    let [train, test] = [dataset.ids(Split::Train)?, dataset.ids(Split::Test)?];
    let mut chosen = Vec::new();
    for &ways in &episodes.ways {
        for &shots in &episodes.shots {
            for fold in 0..episodes.folds {
                let setting = Setting { ways, shots };
                let ids = draw_ids(dataset.classes(), &train, &test, setting, fold, episodes)?;
                chosen.push((setting, fold, ids));
            }
        }
    }
    if chosen.is_empty() {
        return Err(DatasetError::Import(ImportError::Episode {
            detail: "no number of classes, of training objects or of folds is given".to_owned(),
        }));
    }
    let inputs = [dataset];
    let mut reports = Vec::new();
    for (setting, fold, ids) in chosen {
        let variant = format!("{} fold {fold}, seed {}", setting.name(), episodes.seed);
        let rules = RowRules {
            ids: Some(ids),
            ..RowRules::default()
        };
        let derive_options = DeriveOptions {
            name: format!("import: {SET} {variant}"),
            out: options.out.join(setting.name()).join(fold.to_string()),
            rows_per_shard: options.rows_per_shard,
            force: options.force,
        };
        let mut num_rows = 0;
        let report = derive(
            &inputs,
            &rules,
            &derive_options,
            cancel,
            &mut |event| match event {
                DeriveEvent::Started { rows } => num_rows = rows,
                DeriveEvent::Resumed { rows } => on_event(ImportEvent::Writing {
                    rows: num_rows,
                    done: rows,
                }),
                DeriveEvent::Written => on_event(ImportEvent::Written),
            },
        )?;
        let Some(report) = report else {
            return Ok(None);
        };
        let parent = inputs[0].manifest();
        reports.push(ImportReport {
            set: SET.to_string(),
            variant,
            format: "drawn".to_owned(),
            publication: None,
            is_whole: parent.recipe["import"]["is_whole"].as_bool().unwrap_or(true),
            missing: Vec::new(),
            sha256: Dataset::open(&derive_options.out)?.manifest().sha256.clone(),
            out: derive_options.out,
            num_rows_by_split: report.num_rows_by_split,
            num_points: parent.layout.num_points,
            num_views: parent.layout.num_views,
            num_padded_rows: 0,
            has_normals: parent.layout.columns.has(ColumnSet::Normals),
            num_parts: 0,
            classes: report.classes,
            num_shards: report.num_shards,
        });
    }
    Ok(Some(reports))
}

/// The objects of an episode.
fn draw_ids(
    classes: &[String],
    train: &[ObjectId],
    test: &[ObjectId],
    setting: Setting,
    fold: usize,
    options: &EpisodeOptions,
) -> Result<BTreeSet<ObjectId>> {
    let Setting { ways, shots } = setting;
    let wrong = |detail| Err(DatasetError::Import(ImportError::Episode { detail }));
    if ways == 0 || shots == 0 || options.num_test == 0 {
        return wrong("numbers of classes, of training and of test objects are at least 1".to_owned());
    }
    let rank = |what: &str, name: &str| -> [u8; 32] {
        let key = format!("{} {} {fold} {what} {name}", options.seed, setting.name());
        Sha256::digest(key).into()
    };
    let first = |what: &str, names: Vec<&str>, num: usize| -> Vec<String> {
        let mut ranked: Vec<([u8; 32], &str)> =
            names.into_iter().map(|name| (rank(what, name), name)).collect();
        ranked.sort_unstable();
        ranked
            .into_iter()
            .take(num)
            .map(|(_, name)| name.to_owned())
            .collect()
    };
    if classes.len() < ways {
        return wrong(format!(
            "{ways} classes are asked for, the data set has {}",
            classes.len()
        ));
    }
    let mut ids = BTreeSet::new();
    for class in first("class", classes.iter().map(String::as_str).collect(), ways) {
        for (split, of_split, num) in [
            (Split::Train, train, shots),
            (Split::Test, test, options.num_test),
        ] {
            let of_class: Vec<&str> = of_split
                .iter()
                .filter(|id| id.category() == class)
                .map(ObjectId::as_str)
                .collect();
            if of_class.len() < num {
                return wrong(format!(
                    "{num} {split} objects of a class are asked for, the data set has {} of {class}",
                    of_class.len()
                ));
            }
            for id in first(split.as_str(), of_class, num) {
                ids.insert(id.parse()?);
            }
        }
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn settings_are_read_in_both_spellings() {
        let setting = Setting { ways: 5, shots: 10 };
        for text in ["5way_10shot", "5way10shot"] {
            assert_eq!(Setting::parse(text), Some(setting), "{text}");
        }
        assert_eq!(setting.name(), "5way_10shot");
        for text in ["way_shot", "5way", "5way_10", "x5way_10shot"] {
            assert_eq!(Setting::parse(text), None, "{text}");
        }
        assert_eq!(published_counts("10way_20shot fold 3"), Some([10, 200, 200]));
    }

    #[test]
    fn an_episode_is_a_function_of_seed_setting_and_fold() {
        let classes: Vec<String> = (0..12).map(|class| format!("c{class:02}")).collect();
        let ids = |split: &str, num: usize| -> Vec<ObjectId> {
            let of_class = |class: &String| {
                let class = class.clone();
                let split = split.to_owned();
                (0..num).map(move |i| ObjectId::try_new(&class, &format!("{split}-{i}")).unwrap())
            };
            classes.iter().flat_map(of_class).collect()
        };
        let (train, test) = (ids("train", 40), ids("test", 25));
        let draw = |setting, fold, seed| {
            let options = EpisodeOptions {
                seed,
                ..EpisodeOptions::default()
            };
            draw_ids(&classes, &train, &test, setting, fold, &options).unwrap()
        };
        let setting = Setting { ways: 5, shots: 10 };
        let episode = draw(setting, 0, 0);
        let count = |of_split: &[ObjectId]| of_split.iter().filter(|id| episode.contains(id)).count();
        assert_eq!((count(&train), count(&test)), (50, 100));
        let drawn: BTreeSet<&str> = episode.iter().map(ObjectId::category).collect();
        assert_eq!(drawn.len(), 5);
        assert_eq!(draw(setting, 0, 0), episode);
        assert_ne!(draw(setting, 1, 0), episode);
        assert_ne!(draw(setting, 0, 1), episode);

        let mut shuffled = train.clone();
        shuffled.reverse();
        let options = EpisodeOptions::default();
        assert_eq!(
            draw_ids(&classes, &shuffled, &test, setting, 0, &options).unwrap(),
            episode,
            "in any order"
        );
        let error = draw_ids(&classes, &train, &test[..250], setting, 0, &options)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("20 test objects of a class are asked for"),
            "{error}"
        );
    }
}
