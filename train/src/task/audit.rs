//! Anybody's fine-tuned weights, scored under one locked protocol beside the number that they claim
//! (`docs/protocols.md`, "Audit").
//!
//! The file is read without running anything of it ([`crate::weights::torch_file`]). Which network it holds, and where, is
//! found by trying, as for an import; but all of the network has to be there, with its head.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tap_dataset::Split;
use tch::nn::VarStore;
use tch::{Device, Tensor};

use super::finetune::{Scored, Task, average_name, build, check_votes, measure};
use super::import::{as_prefix, is_slow_copy, prefixes};
use super::provenance::{Provenance, data_name, rows_sha256};
use super::vote::Votes;
use super::{DataChoice, OpenData};
use crate::config::{self, Config, DatasetInfo, Plan, Selection, invalid};
use crate::data::collator::PointSampling;
use crate::data::sampler::LastBatch;
use crate::data::source::SampleSource;
use crate::engine::trainer::RunOptions;
use crate::error::TrainError;
use crate::method;
use crate::run::weights::TrainedOn;
use crate::weights::checkpoint::{WeightReport, copy_weights};
use crate::weights::published_names;
use crate::weights::safetensors::{file_sha256, first_non_finite};
use crate::weights::torch_file::{METADATA, TorchFile, read_any};

/// Where released code keeps the score of a checkpoint: TAP and `OpenPoints`, then Point-BERT and its descendants, of which the
/// best one is what they publish.
const STORED_SCORES: [&str; 4] = ["best_val", "best_metrics.acc", "metrics.acc", "val"];
/// Tensors that an error names.
const MAX_NAMED: usize = 3;

/// What is audited.
#[derive(Debug)]
pub struct Subject<'a> {
    /// The file of weights.
    pub file: &'a Path,
    /// The configurations whose network it may be, by the name of their preset or file.
    pub configs: &'a [(String, Config)],
    /// Where the network lies in the file; found by looking unless given.
    pub prefix: Option<&'a str>,
    /// The order of the classes of its head; that which is likeliest unless given.
    pub class_order: Option<ClassOrder>,
    /// How the weights were selected, as far as is known.
    pub selection: Option<Selection>,
    /// The score that they claim, in %; that which the file stores unless given.
    pub claim: Option<f64>,
}

/// The order of the classes of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::EnumString, strum::VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum ClassOrder {
    /// That of the labels of the published files that the data set was imported from.
    Source,
    /// That of the data set: sorted by name.
    Data,
}

/// The score that weights claim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// In %.
    pub percent: f64,
    /// Who says so: what was typed, or an entry of the file.
    pub source: String,
    /// What it is compared with: `accuracy` or `instance_miou`.
    pub measure: String,
    /// The measured score less the claimed one, in points of a percent.
    pub difference: f64,
}

/// What an audit found beside the score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditReport {
    /// The name of the file.
    pub file: String,
    /// SHA-256 of it.
    pub file_sha256: String,
    /// The preset or file whose network it holds.
    pub network: String,
    /// How the names of the network's tensors begin.
    pub prefix: String,
    /// Tensors of the network.
    pub num_tensors: usize,
    /// The published version of a set that the data is a copy of; none where it is not recognized.
    pub publication: Option<String>,
    /// The protocol, a line for each of its choices.
    pub protocol: Vec<String>,
    /// The score that the weights claim.
    pub claim: Option<Claim>,
    /// What keeps the scores from being compared with the claim.
    pub not_comparable: Vec<String>,
}

/// The result of an audit: that of the locked protocol, which stands like any other result, and what was asked for on top.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Audited<S> {
    /// Without votes and clean-up.
    #[serde(flatten)]
    pub plain: Scored<S>,
    /// With the votes and the clean-up that were asked for.
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub voted: Option<Scored<S>>,
    /// What was found beside.
    pub audit: AuditReport,
}

fn none<S>() -> Option<Scored<S>> {
    None
}

/// Scores the weights of a file on a split of the data set `options.data`, without votes, and once more with `votes` and the
/// clean-up of parts where one of these is asked for.
///
/// # Errors
/// Where the file is no file of weights, holds none of the networks whole, or one with other classes than the data; where
/// weights or answers are not finite; where the data cannot be read.
pub fn audit<T: Task>(
    subject: &Subject<'_>,
    options: &RunOptions,
    split: Split,
    votes: Votes,
    refines: bool,
) -> Result<Audited<T::Score>, TrainError> {
    let task = config::Task::named(T::NAME);
    if refines && task != config::Task::Segment {
        return Err(invalid("the refinement by neighbors is one of part segmentation"));
    }
    check_votes::<T>(votes)?;
    let data = OpenData::choose(&options.data, DataChoice::default())?;
    let rows: Arc<dyn SampleSource> = Arc::new(data.rows(split)?);
    // Nothing is trained on, and a plan of no steps does not ask how many rows there would be.
    let info = data.dataset_info(rows.as_ref())?;
    let mut file = read_any(subject.file)?;
    published_names::rename(&mut file.tensors);
    let file_sha256 = file_sha256(subject.file)?;
    let metadata = metadata(&file);
    let trained_on = TrainedOn::from_metadata(&metadata);
    let num_steps = metadata.get("num_steps").and_then(|steps| steps.parse().ok());
    let order = class_order(subject, &data, &trained_on)?;
    let plans = plans(subject.configs, &task, split, &info, &file_sha256)?;
    let Found {
        mut plan,
        name,
        prefix,
    } = find::<T>(&plans, &file, subject, &data)?;
    let (store, network) = build::<T>(&plan, &data, options.device)?;
    let mut tensors = under(&file, &prefix);
    if let Some(name) = first_non_finite(&tensors) {
        return Err(TrainError::NonFiniteWeights {
            name: name.clone(),
            path: subject.file.to_owned(),
        });
    }
    if let Some(order) = &order {
        T::order_classes(&plan, &mut tensors, order)?;
    }
    let report = copy_weights(&store, &tensors, "");
    debug_assert!(report.is_exact(), "checked when it was found: {report}");
    T::check(&plan, &data, votes)?;

    let scored = |network: &T, plan: &Plan, votes: Votes, refines: bool| -> Result<_, TrainError> {
        let provenance = Provenance {
            rows_sha256: rows_sha256(rows.as_ref()),
            selection: selection(subject.selection, split),
            votes_average: average_name::<T>(votes),
            is_refined: refines,
            num_steps: num_steps.unwrap_or(0),
            train_objects_per_class: trained_on.objects_per_class.clone(),
            ..Provenance::new(plan, &data, options, split, votes)
        };
        let score = measure(network, plan, &rows, votes, options)?;
        Ok(Scored { provenance, score })
    };
    let plain = scored(&network, &plan, Votes::default(), false)?;
    let voted = if votes.count > 0 || refines {
        if let Some(parts) = &mut plan.parts {
            parts.refines = refines;
        }
        let (store, network) = build::<T>(&plan, &data, options.device)?;
        let _ = copy_weights(&store, &tensors, "");
        Some(scored(&network, &plan, votes, refines)?)
    } else {
        None
    };
    let measured = T::scalars(&plain.score).get(T::SELECTED_BY).unwrap_or_default();
    let claim = claim(subject, &file).map(|(percent, source)| Claim {
        percent,
        source,
        measure: T::SELECTED_BY.to_owned(),
        difference: 100.0 * measured - percent,
    });
    let audit = AuditReport {
        file: subject
            .file
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
        file_sha256,
        network: name,
        prefix,
        num_tensors: report.num_copied,
        publication: publication(&data),
        protocol: protocol(&plan, &data, rows.len(), order.is_some()),
        not_comparable: not_comparable(&plan, &data, subject, &trained_on, claim.is_some()),
        claim,
    };
    Ok(Audited { plain, voted, audit })
}

/// What a file says of its weights, as files of ours do.
fn metadata(file: &TorchFile) -> BTreeMap<String, String> {
    let begin = format!("{METADATA}.");
    let texts = file.texts.iter();
    texts
        .filter_map(|(path, text)| Some((path.strip_prefix(&begin)?.to_owned(), text.clone())))
        .collect()
}

/// For each class of the data the place that it has in the head; none where the places are the same.
fn class_order(
    subject: &Subject<'_>,
    data: &OpenData,
    trained_on: &TrainedOn,
) -> Result<Option<Vec<i64>>, TrainError> {
    let classes = data.dataset.classes();
    let of_source = source_classes(data);
    let of_head = match (subject.class_order, &trained_on.classes) {
        (Some(ClassOrder::Data), _) => return Ok(None),
        (None, Some(of_file)) => of_file.clone(),
        (Some(ClassOrder::Source), _) if of_source.is_empty() => {
            return Err(TrainError::UnsuitableData {
                reason: String::from(
                    "the data set does not say in which order its classes were published; only one that `tap dataset import` wrote does",
                ),
                path: data.path.clone(),
            });
        }
        (Some(ClassOrder::Source) | None, _) => of_source,
    };
    if of_head.is_empty() || of_head == classes {
        return Ok(None);
    }
    let place = |class: &String| of_head.iter().position(|other| other == class);
    let places: Option<Vec<i64>> = classes.iter().map(|class| Some(place(class)? as i64)).collect();
    match places {
        Some(places) if places.len() == of_head.len() => Ok(Some(places)),
        _ => Err(TrainError::UnsuitableData {
            reason: format!(
                "the weights are of other classes ({}) than the data has ({})",
                of_head.join(", "),
                classes.join(", ")
            ),
            path: data.path.clone(),
        }),
    }
}

/// The classes of an imported data set in the order of the labels of its files; empty where it does not say.
fn source_classes(data: &OpenData) -> Vec<String> {
    let listed = &data.dataset.manifest().recipe["import"]["source_classes"];
    let names = listed.as_array().into_iter().flatten();
    names.filter_map(|name| Some(name.as_str()?.to_owned())).collect()
}

/// The published version that the data is a copy of.
fn publication(data: &OpenData) -> Option<String> {
    let name = &data.dataset.manifest().recipe["import"]["publication"];
    name.as_str().map(str::to_owned)
}

/// The plans of networks that a file may hold, each network once.
fn plans(
    configs: &[(String, Config)],
    task: &config::Task,
    split: Split,
    info: &DatasetInfo,
    file_sha256: &str,
) -> Result<Vec<(String, Plan)>, TrainError> {
    let mut plans: Vec<(String, Plan)> = Vec::new();
    let mut refused = None;
    for (name, config) in configs {
        match method::plan(
            None,
            &locked(config, task, split),
            task.clone(),
            0,
            file_sha256,
            info,
        ) {
            Ok(plan) => {
                let is_known = |(_, other): &(String, Plan)| {
                    (&other.encoder, &other.head, other.data.num_points)
                        == (&plan.encoder, &plan.head, plan.data.num_points)
                };
                if !plans.iter().any(is_known) {
                    plans.push((name.clone(), plan));
                }
            }
            Err(error) => refused = Some(error),
        }
    }
    match refused {
        Some(error) if plans.is_empty() => Err(error),
        _ => Ok(plans),
    }
}

/// A configuration with what the protocol leaves no choice of.
fn locked(config: &Config, task: &config::Task, split: Split) -> Config {
    let mut config = config.clone();
    config.data.point_choice = PointSampling::Farthest;
    config.data.filter = String::new();
    config.data.leave_out = Vec::new();
    config.data.mix = Vec::new();
    config.data.evaluation_split = Some(split);
    let phase = match task {
        config::Task::Segment => &mut config.segment,
        _ => &mut config.finetune,
    };
    phase.steps = Some(0);
    phase.steps_by_labels.clear();
    phase.last_batch = LastBatch::Keep;
    phase.select = Selection::Last;
    phase.ema_decay = 0.0;
    phase.freeze_encoder_steps = 0;
    phase.class_weights = config::ClassWeights::default();
    config
}

/// A network that a file holds, and where.
struct Found {
    plan: Plan,
    name: String,
    prefix: String,
}

/// How much of a network lies at a place.
struct Fit<'a> {
    num_fitting: usize,
    num_missing: usize,
    name: &'a str,
    plan: &'a Plan,
    prefix: String,
}

/// Finds the network that lies in the file as a whole.
fn find<T: Task>(
    plans: &[(String, Plan)],
    file: &TorchFile,
    subject: &Subject<'_>,
    data: &OpenData,
) -> Result<Found, TrainError> {
    let wrong = |report: String| TrainError::Weights {
        report,
        path: subject.file.to_owned(),
    };
    let mut places = match subject.prefix {
        Some(prefix) => vec![as_prefix(prefix)],
        None => prefixes(file.tensors.keys()),
    };
    places.sort_by_key(|place| (is_slow_copy(place), place.len()));
    let mut best: Option<Fit<'_>> = None;
    for (name, plan) in plans {
        let (store, _) = build::<T>(plan, data, Device::Cpu)?;
        let shapes = shapes(&store);
        for prefix in &places {
            let fits = |(name, size): &(&String, &Vec<i64>)| {
                let found = file.tensors.get(&format!("{prefix}{name}"));
                found.is_some_and(|tensor| tensor.size() == **size)
            };
            let num_fitting = shapes.iter().filter(fits).count();
            let num_missing = shapes.len() - num_fitting;
            // A smaller network that is there as a whole is more than a part of a larger one.
            let rank = |fitting, missing| (missing == 0, fitting);
            let is_better = best
                .as_ref()
                .is_none_or(|best| rank(num_fitting, num_missing) > rank(best.num_fitting, best.num_missing));
            if num_fitting > 0 && is_better {
                best = Some(Fit {
                    num_fitting,
                    num_missing,
                    name,
                    plan,
                    prefix: prefix.clone(),
                });
            }
        }
    }
    let names: Vec<&str> = plans.iter().map(|(name, _)| name.as_str()).collect();
    let Some(fit) = best else {
        return Err(wrong(format!(
            "none of the {} tensors fits a network of {} for {}",
            file.tensors.len(),
            names.join(", "),
            T::NAME
        )));
    };
    let (store, _) = build::<T>(fit.plan, data, Device::Cpu)?;
    let report = copy_weights(&store, &under(file, &fit.prefix), "");
    if report.is_exact() {
        return Ok(Found {
            plan: fit.plan.clone(),
            name: fit.name.to_owned(),
            prefix: fit.prefix,
        });
    }
    let place = match fit.prefix.as_str() {
        "" => String::from("at the top"),
        prefix => format!("under '{prefix}'"),
    };
    let num_outputs = match T::NAME {
        "segment" => config::num_parts(&info_parts(fit.plan)) as i64,
        _ => data.dataset.classes().len() as i64,
    };
    Err(wrong(
        match other_outputs(&store, file, &fit.prefix, num_outputs) {
            Some(of_file) => format!(
                "the head of the file tells {of_file} labels apart, and the data has {num_outputs}; score it on the data that it was trained for"
            ),
            None => format!(
                "the network of {} is the closest, {place}, but not all of it is there, or more than it: {}; --config and --set say which network it is",
                fit.name,
                summary(&report)
            ),
        },
    ))
}

fn info_parts(plan: &Plan) -> Vec<Vec<u8>> {
    plan.parts
        .as_ref()
        .map(|parts| parts.by_class.clone())
        .unwrap_or_default()
}

/// How many labels the head of the file has, where it differs from a network's in that alone.
fn other_outputs(store: &VarStore, file: &TorchFile, prefix: &str, num_outputs: i64) -> Option<i64> {
    let shapes = shapes(store);
    let differing: Vec<(Vec<i64>, &Vec<i64>)> = shapes
        .iter()
        .filter_map(|(name, size)| {
            let of_file = file.tensors.get(&format!("{prefix}{name}"))?.size();
            (of_file != *size).then_some((of_file, size))
        })
        .collect();
    let is_of_labels = |(of_file, size): &(Vec<i64>, &Vec<i64>)| {
        size.first() == Some(&num_outputs) && of_file.len() == size.len() && of_file[1..] == size[1..]
    };
    let (first, _) = differing.first()?;
    let is_all = differing
        .iter()
        .all(|pair| is_of_labels(pair) && pair.0[0] == first[0]);
    is_all.then(|| first[0])
}

/// A report of tensors, of which it names some.
fn summary(report: &WeightReport) -> String {
    let mut parts = vec![format!("{} tensors fit", report.num_copied)];
    for (what, names) in [
        ("missing", &report.missing),
        ("of another shape", &report.differing),
        ("left over", &report.unexpected),
    ] {
        if !names.is_empty() {
            let some: Vec<&str> = names.iter().take(MAX_NAMED).map(String::as_str).collect();
            let more = if names.len() > MAX_NAMED { ", ..." } else { "" };
            parts.push(format!("{} {what} ({}{more})", names.len(), some.join(", ")));
        }
    }
    parts.join(", ")
}

fn shapes(store: &VarStore) -> BTreeMap<String, Vec<i64>> {
    let variables = store.variables().into_iter();
    variables.map(|(name, tensor)| (name, tensor.size())).collect()
}

/// The tensors at a place of a file, without its name.
fn under(file: &TorchFile, prefix: &str) -> BTreeMap<String, Tensor> {
    let tensors = file.tensors.iter();
    tensors
        .filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?.to_owned(), tensor.shallow_clone())))
        .collect()
}

/// The score that the weights claim in %, and who says so.
fn claim(subject: &Subject<'_>, file: &TorchFile) -> Option<(f64, String)> {
    if let Some(percent) = subject.claim {
        return Some((percent, String::from("as typed")));
    }
    let stored = |name: &&str| {
        let number = file.numbers.get(*name).copied();
        let tensor = file.tensors.get(*name).filter(|tensor| tensor.numel() == 1);
        let value = number.or_else(|| Some(tensor?.double_value(&[])))?;
        let percent = if value <= 1.0 { 100.0 * value } else { value };
        (0.0..=100.0)
            .contains(&percent)
            .then(|| (percent, format!("'{name}' of the file")))
    };
    STORED_SCORES.iter().find_map(stored)
}

fn selection(selection: Option<Selection>, split: Split) -> String {
    match selection {
        Some(Selection::Last) => String::from("last step, as stated"),
        Some(Selection::Validation) => String::from("best on val, as stated"),
        Some(Selection::BestOnTest) => {
            format!("best on {split}, as stated, which is selection on the split that is scored")
        }
        None => {
            format!("not stated, so taken as best on {split}, which is selection on the split that is scored")
        }
    }
}

/// The choices of the protocol, for people.
fn protocol(plan: &Plan, data: &OpenData, num_rows: usize, is_reordered: bool) -> Vec<String> {
    let num_stored = data.dataset.manifest().layout.num_points;
    let normalization = if plan.phase.augmentation.normalize {
        "centered at the mean of its points, the farthest at distance 1"
    } else {
        "as stored: centered and scaled over all its points"
    };
    let classes = if is_reordered {
        "outputs of the head in the order of its own classes"
    } else {
        "outputs of the head in the order of the data's classes"
    };
    vec![
        format!("all {num_rows} rows of {}", plan.data.evaluation_split),
        format!(
            "{} of {num_stored} points by farthest-point sampling from the first",
            plan.data.num_points
        ),
        format!("each cloud {normalization}"),
        String::from("one pass, no augmentation, no votes, no clean-up"),
        classes.to_owned(),
    ]
}

/// What keeps the score from being compared with the claim, or is not known.
fn not_comparable(
    plan: &Plan,
    data: &OpenData,
    subject: &Subject<'_>,
    trained_on: &TrainedOn,
    has_claim: bool,
) -> Vec<String> {
    let mut reasons = Vec::new();
    if subject.selection.is_none() {
        reasons.push(String::from(
            "how the weights were selected is not known: published ones are of the best epoch on test",
        ));
    }
    if publication(data).is_none() {
        let name = data_name(data);
        reasons.push(if name.is_empty() {
            String::from("the data is no import of a published set")
        } else {
            format!("the data is of {name}, but is not recognized as a published version of it")
        });
    }
    if plan.data.evaluation_split != Split::Test {
        reasons.push(format!("scored on {}, not on test", plan.data.evaluation_split));
    }
    if trained_on.classes.is_none() && subject.class_order.is_none() {
        let order = if source_classes(data).is_empty() {
            "that of the data is taken"
        } else {
            "that of the published files is taken"
        };
        reasons.push(format!(
            "the file does not name its classes: their order is not known, {order}"
        ));
    }
    if has_claim {
        reasons.push(String::from(
            "whether the claim is of votes is not known; this score is of one pass",
        ));
        if plan.parts.is_some() {
            reasons.push(String::from(
                "published scores of parts are cleaned up by neighbors and voted on; --refine --votes 10 --vote-rule published scores so too",
            ));
        }
    }
    reasons
}
