//! Retrieval by frozen features: each object of a split is a query, and all are ranked by their distance from it
//! (`docs/protocols.md`, "Retrieval").
//!
//! The result folder has the layout that the evaluator of the SHREC tracks on `ShapeNet` reads: `test_normal/ID`, a line `id
//! distance` for each object listed, nearest first.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, VariantNames};
use tap_dataset::{ObjectId, Split};

use super::embedding::{FrozenEncoder, Pooling};
use super::provenance::{VERSION, rows_sha256};
use crate::config::Config;
use crate::data::source::SampleSource;
use crate::engine::trainer::RunOptions;
use crate::error::TrainError;
use crate::metric::{RetrievalMeans, RetrievalScore};
use crate::process::device_name;
use crate::run::event::OnEvent;
use crate::run::write_json;
use crate::weights::safetensors::write_atomic;

/// The scores, within the folder.
pub const RETRIEVAL_FILE: &str = "retrieval.json";
/// Objects of a list, at most: what the tracks allow.
pub const DEFAULT_LIST_LENGTH: usize = 1000;

/// How far features are apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Display, EnumString, VariantNames)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Distance {
    /// 1 minus the cosine of the angle between them.
    Cosine,
    /// Euclidean.
    Euclidean,
}

/// What is ranked, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetrievalOptions {
    /// Queries and targets are the rows of this split.
    pub split: Split,
    /// The feature.
    pub pooling: Pooling,
    /// Distance of features.
    pub distance: Distance,
    /// N: objects of a list, at most.
    pub list_length: usize,
    /// Leave the query out of its own list and of what is relevant; the tracks count it.
    pub leaves_out_query: bool,
}

/// Scores with their provenance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RetrievalResult {
    /// The program's version.
    pub version: String,
    /// SHA-256 of the data.
    pub data_sha256: String,
    /// SHA-256 of the ids of the rows.
    pub rows_sha256: String,
    /// SHA-256 of the encoder's file.
    pub init_sha256: String,
    /// The split.
    pub split: String,
    /// The condition on rows; absent for all.
    #[serde(rename = "where", default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Number of queries.
    pub num_queries: usize,
    /// The feature.
    pub pooling: Pooling,
    /// Distance of features.
    pub distance: Distance,
    /// N: objects of a list.
    pub list_length: usize,
    /// Whether the query is left out of its own list.
    pub leaves_out_query: bool,
    /// Class names, in label order.
    pub classes: Vec<String>,
    /// The scores.
    #[serde(flatten)]
    pub means: RetrievalMeans,
    /// Device.
    pub device: String,
}

/// Ranks the rows of a split by features of the encoder of `init`; writes the lists and `retrieval.json` into `options.out`.
///
/// # Errors
/// Where data or weights cannot be read, or the folder cannot be written.
pub fn retrieve(
    config: &Config,
    options: &RunOptions,
    init: &Path,
    what: &RetrievalOptions,
    on_event: OnEvent<'_>,
) -> Result<RetrievalResult, TrainError> {
    let frozen = FrozenEncoder::open(config, options, init, on_event)?;
    let rows: Arc<dyn SampleSource> = Arc::new(frozen.data.rows(what.split)?);
    let embeddings = frozen.embed(Arc::clone(&rows), options)?;
    let features = normalized(embeddings.pooled(what.pooling), what.distance);
    let names = list_names(rows.ids());
    let labels: Vec<usize> = rows.labels().iter().map(|&label| label as usize).collect();
    let folder = options.out.join(format!("{}_normal", what.split));
    std::fs::create_dir_all(&folder).map_err(TrainError::io("create", &folder))?;
    let query = |query: usize| {
        let list = rank(&features, query, what);
        write_atomic(&folder.join(&names[query]), to_text(&list, &names).as_bytes())?;
        let relevance = |object: usize| if labels[object] == labels[query] { 1.0 } else { 0.0 };
        let listed: Vec<f64> = list.iter().map(|&(_, object)| relevance(object)).collect();
        let all: Vec<f64> = (0..labels.len())
            .filter(|&object| !(what.leaves_out_query && object == query))
            .map(relevance)
            .filter(|grade| *grade > 0.0)
            .collect();
        Ok((labels[query], RetrievalScore::of_list(&listed, &all)))
    };
    let scores: Result<Vec<_>, TrainError> = (0..features.len()).into_par_iter().map(query).collect();
    let classes = frozen.data.dataset.classes();
    let result = RetrievalResult {
        version: VERSION.to_owned(),
        data_sha256: frozen.data.dataset.sha256().to_owned(),
        rows_sha256: rows_sha256(rows.as_ref()),
        init_sha256: frozen.init_sha256.clone(),
        split: what.split.to_string(),
        filter: frozen.data.filter(),
        num_queries: features.len(),
        pooling: what.pooling,
        distance: what.distance,
        list_length: what.list_length.min(features.len()),
        leaves_out_query: what.leaves_out_query,
        classes: classes.to_vec(),
        means: RetrievalMeans::of(&scores?, classes.len()),
        device: device_name(options.device),
    };
    write_json(&options.out.join(RETRIEVAL_FILE), &result)?;
    Ok(result)
}

/// Features of length 1 where angles are compared.
fn normalized(mut features: Vec<Vec<f32>>, distance: Distance) -> Vec<Vec<f32>> {
    if distance == Distance::Cosine {
        for feature in &mut features {
            let norm = feature
                .iter()
                .map(|x| x * x)
                .sum::<f32>()
                .sqrt()
                .max(f32::MIN_POSITIVE);
            for x in feature.iter_mut() {
                *x /= norm;
            }
        }
    }
    features
}

/// The nearest objects with their distances; of equal ones the query first, then in row order.
fn rank(features: &[Vec<f32>], query: usize, what: &RetrievalOptions) -> Vec<(f32, usize)> {
    let from = &features[query];
    let distance = |to: &[f32]| match what.distance {
        Distance::Cosine => 1.0 - from.iter().zip(to).map(|(a, b)| a * b).sum::<f32>(),
        Distance::Euclidean => from
            .iter()
            .zip(to)
            .map(|(a, b)| (a - b) * (a - b))
            .sum::<f32>()
            .sqrt(),
    };
    let mut ranked: Vec<(f32, usize)> = features
        .iter()
        .enumerate()
        .filter(|&(object, _)| !(what.leaves_out_query && object == query))
        .map(|(object, feature)| {
            let distance = if object == query {
                0.0
            } else {
                distance(feature).max(0.0)
            };
            (distance, object)
        })
        .collect();
    ranked.sort_by(|a, b| {
        a.0.total_cmp(&b.0)
            .then((a.1 != query).cmp(&(b.1 != query)))
            .then(a.1.cmp(&b.1))
    });
    ranked.truncate(what.list_length);
    ranked
}

fn to_text(list: &[(f32, usize)], names: &[String]) -> String {
    let mut text = String::new();
    for (distance, object) in list {
        writeln!(text, "{} {distance}", names[*object]).expect("a string grows");
    }
    text
}

/// What objects are called in lists, without white space: their name, as the tracks do, where no two share it; or else with the
/// category before it.
fn list_names(ids: &[ObjectId]) -> Vec<String> {
    let plain = |text: &str| text.replace(char::is_whitespace, "_");
    let names: Vec<String> = ids.iter().map(|id| plain(id.name())).collect();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for name in &names {
        *counts.entry(name).or_default() += 1;
    }
    if counts.values().all(|count| *count == 1) {
        return names;
    }
    ids.iter()
        .map(|id| format!("{}__{}", plain(id.category()), plain(id.name())))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn options(distance: Distance, leaves_out_query: bool) -> RetrievalOptions {
        RetrievalOptions {
            split: Split::Test,
            pooling: Pooling::Max,
            distance,
            list_length: 3,
            leaves_out_query,
        }
    }

    #[test]
    fn objects_are_ranked_by_distance_the_query_first() {
        let features = vec![vec![2.0, 0.0], vec![4.0, 0.0], vec![0.0, 1.0], vec![2.0, 0.0]];
        let order = |query, options: &RetrievalOptions| -> Vec<usize> {
            let features = normalized(features.clone(), options.distance);
            rank(&features, query, options)
                .into_iter()
                .map(|(_, object)| object)
                .collect()
        };
        assert_eq!(
            order(3, &options(Distance::Euclidean, false)),
            [3, 0, 1],
            "1 is 2 away, 2 is sqrt 5"
        );
        assert_eq!(order(3, &options(Distance::Euclidean, true)), [0, 1, 2]);
        assert_eq!(order(2, &options(Distance::Euclidean, true)), [0, 3, 1]);
        assert_eq!(
            order(1, &options(Distance::Cosine, false)),
            [1, 0, 3],
            "the same direction"
        );
    }

    #[test]
    fn lists_name_objects_as_the_tracks_do() {
        let ids = |names: &[(&str, &str)]| -> Vec<ObjectId> {
            names
                .iter()
                .map(|(category, name)| ObjectId::try_new(category, name).unwrap())
                .collect()
        };
        let names = list_names(&ids(&[("02691156", "000003"), ("02747177", "000 4")]));
        assert_eq!(names, ["000003", "000_4"]);
        assert_eq!(to_text(&[(0.0, 1), (0.25, 0)], &names), "000_4 0\n000003 0.25\n");
        let names = list_names(&ids(&[("chair", "0001"), ("lamp", "0001")]));
        assert_eq!(names, ["chair__0001", "lamp__0001"]);
    }
}
