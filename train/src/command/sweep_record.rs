//! What the runs of a sweep came to, read from the files that they left.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use serde::de::DeserializeOwned;
use tap_train::run::RESULT_FILE;
use tap_train::task::classify::ClassifyResult;
use tap_train::task::few_shot::FewShotResult;
use tap_train::task::pretrain::PretrainResult;
use tap_train::task::probe::ProbeResult;
use tap_train::task::provenance::Provenance;
use tap_train::task::segment::SegmentResult;
use tap_train::task::sweep::{RunRecord, ScoreOf, Task, TaskCommand};
use tap_train::weights::checkpoint::ENCODER_FILE;

use super::few_shot::FEW_SHOT_FILE;
use super::probe::PROBE_FILE;

/// What the run in a folder came to, if it is finished: a pre-training, or a task from it or from random weights.
pub(super) fn read_record(
    folder: &Path,
    task: Option<&Task>,
    is_scratch: bool,
    blank: RunRecord,
) -> anyhow::Result<Option<RunRecord>> {
    let Some(task) = task else {
        return pretraining_record(folder, blank);
    };
    match task.command {
        TaskCommand::Finetune => classification_record(folder, task, blank),
        TaskCommand::Segment => segmentation_record(folder, task, blank),
        TaskCommand::Probe => probe_record(folder, task, is_scratch, blank),
        TaskCommand::FewShot => few_shot_record(folder, task, blank),
    }
}

fn pretraining_record(folder: &Path, blank: RunRecord) -> anyhow::Result<Option<RunRecord>> {
    let result: Option<PretrainResult> = read(&folder.join(RESULT_FILE))?;
    Ok(result
        .filter(|_| folder.join(ENCODER_FILE).is_file())
        .map(|result| RunRecord {
            seed: result.seed,
            validation_loss: Some(result.get("validation_loss")),
            data_sha256: result.data_sha256,
            config_sha256: Some(result.config_sha256),
            num_steps: Some(result.num_steps),
            selection: result.selection,
            evaluation_split: result.evaluation_split,
            ..blank
        }))
}

fn classification_record(folder: &Path, task: &Task, blank: RunRecord) -> anyhow::Result<Option<RunRecord>> {
    let result: Option<ClassifyResult> = read(&folder.join(RESULT_FILE))?;
    Ok(result.map(|result| RunRecord {
        scores: columns(task, |of| match of {
            ScoreOf::Accuracy => Some(result.score.accuracy),
            ScoreOf::MeanClassAccuracy => Some(result.score.mean_class_accuracy),
            _ => None,
        }),
        ..of_provenance(&result.provenance, blank)
    }))
}

fn segmentation_record(folder: &Path, task: &Task, blank: RunRecord) -> anyhow::Result<Option<RunRecord>> {
    let result: Option<SegmentResult> = read(&folder.join(RESULT_FILE))?;
    Ok(result.map(|result| {
        let plain = &result.score.score.plain;
        RunRecord {
            scores: columns(task, |of| match of {
                ScoreOf::ClassMiou => Some(plain.class_miou),
                ScoreOf::InstanceMiou => Some(plain.instance_miou),
                _ => None,
            }),
            ..of_provenance(&result.provenance, blank)
        }
    }))
}

fn probe_record(
    folder: &Path,
    task: &Task,
    is_scratch: bool,
    blank: RunRecord,
) -> anyhow::Result<Option<RunRecord>> {
    let result: Option<ProbeResult> = read(&folder.join(PROBE_FILE))?;
    let wanted = if is_scratch { "random-0" } else { "tap" };
    let mean = |scores: &serde_json::Map<String, serde_json::Value>, labels: &str| {
        scores.get(labels)?["mean"].as_f64()
    };
    Ok(result.and_then(|result| {
        let arm = result.arms.iter().find(|arm| arm.name == wanted)?;
        let scores = columns(task, |of| match of {
            ScoreOf::Svm(labels) => mean(&arm.svm, labels),
            ScoreOf::Knn(labels) => mean(&arm.knn, labels),
            _ => None,
        });
        Some(RunRecord {
            seed: result.seed,
            data_sha256: result.data_sha256,
            init_sha256: (!is_scratch).then_some(result.init_sha256),
            evaluation_split: result.evaluation_split,
            scores,
            ..blank
        })
    }))
}

fn few_shot_record(folder: &Path, task: &Task, blank: RunRecord) -> anyhow::Result<Option<RunRecord>> {
    let result: Option<FewShotResult> = read(&folder.join(FEW_SHOT_FILE))?;
    Ok(result.map(|result| {
        let mean = |wanted: &str| {
            let mut settings = result.settings.iter();
            let setting = settings.find(|setting| setting.setting.to_string() == wanted)?;
            Some(setting.accuracy.mean)
        };
        RunRecord {
            seed: result.seed,
            scores: columns(task, |of| match of {
                ScoreOf::Folds(wanted) => mean(wanted),
                _ => None,
            }),
            init_sha256: Some(result.init_sha256.clone()).filter(|init| init != "none"),
            selection: result.selection.clone(),
            votes: result.votes,
            ..blank
        }
    }))
}

/// The columns of a task that have a value.
fn columns(task: &Task, value: impl Fn(&ScoreOf) -> Option<f64>) -> BTreeMap<String, f64> {
    let scores = task.scores.iter();
    scores
        .filter_map(|score| {
            let of = score.of(task.command).ok()?;
            Some((score.title.clone(), value(&of)?))
        })
        .collect()
}

fn of_provenance(provenance: &Provenance, blank: RunRecord) -> RunRecord {
    RunRecord {
        seed: provenance.seed,
        data_name: provenance.data_name.clone(),
        data_sha256: provenance.data_sha256.clone(),
        config_sha256: Some(provenance.config_sha256.clone()),
        init_sha256: Some(provenance.init_sha256.clone()).filter(|init| init != "none"),
        num_steps: Some(provenance.num_steps),
        selection: provenance.selection.clone(),
        evaluation_split: provenance.evaluation_split.clone(),
        votes: provenance.votes,
        ..blank
    }
}

/// A result file; none where there is none yet.
fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<Option<T>> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .with_context(|| format!("damaged result {}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}
