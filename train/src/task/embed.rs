//! Features of a frozen encoder as files: Parquet for what reads tables, NPY for the rest.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tap_dataset::{EmbeddingTable, Split, npy};

use super::embedding::{FrozenEncoder, Pooling};
use super::provenance::VERSION;
use crate::config::Config;
use crate::data::source::SampleSource;
use crate::engine::trainer::RunOptions;
use crate::error::TrainError;
use crate::process::device_name;
use crate::run::event::OnEvent;
use crate::run::write_json;
use crate::weights::safetensors::write_atomic;

/// Id, category, label, split and feature of each object.
pub const TABLE_FILE: &str = "embeddings.parquet";
/// The features alone, rows x channels, in the table's order.
pub const ARRAY_FILE: &str = "embeddings.npy";
/// What the features are of.
pub const EMBED_FILE: &str = "embed.json";

/// What features are of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EmbedResult {
    /// The program's version.
    pub version: String,
    /// SHA-256 of the data.
    pub data_sha256: String,
    /// SHA-256 of the encoder's file.
    pub init_sha256: String,
    /// The splits, in the order of the rows.
    pub splits: Vec<String>,
    /// The condition on rows; absent for all.
    #[serde(rename = "where", default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Points of a cloud.
    pub num_points: usize,
    /// How tokens became a feature.
    pub pooling: Pooling,
    /// Rows.
    pub num_rows: usize,
    /// Numbers of a feature.
    pub num_channels: usize,
    /// Class names, which labels index.
    pub classes: Vec<String>,
    /// Device.
    pub device: String,
}

/// Features that were written, in the order of the files.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    /// What they are of.
    pub result: EmbedResult,
    /// `num_rows` times `num_channels` numbers.
    pub features: Vec<f32>,
    /// Indices into the classes; -1 for none.
    pub labels: Vec<i64>,
}

/// Writes the features of the rows of `splits`, or of all, into `options.out`.
///
/// # Errors
/// Where data or weights cannot be read, a split has no row, or the folder cannot be written.
pub fn embed(
    config: &Config,
    options: &RunOptions,
    init: &Path,
    splits: &[Split],
    pooling: Pooling,
    on_event: OnEvent<'_>,
) -> Result<Embedded, TrainError> {
    let frozen = FrozenEncoder::open(config, options, init, on_event)?;
    let splits = if splits.is_empty() {
        frozen.data.filled_splits()?
    } else {
        splits.to_vec()
    };
    let (mut ids, mut labels, mut split_of): (Vec<_>, Vec<i64>, Vec<_>) =
        (Vec::new(), Vec::new(), Vec::new());
    let mut features: Vec<f32> = Vec::new();
    for &split in &splits {
        let rows: Arc<dyn SampleSource> = Arc::new(frozen.data.rows(split)?);
        features.extend(
            frozen
                .embed(Arc::clone(&rows), options)?
                .pooled(pooling)
                .into_iter()
                .flatten(),
        );
        ids.extend_from_slice(rows.ids());
        labels.extend_from_slice(rows.labels());
        split_of.resize(ids.len(), split.to_string());
    }
    let result = EmbedResult {
        version: VERSION.to_owned(),
        data_sha256: frozen.data.dataset.sha256().to_owned(),
        init_sha256: frozen.init_sha256.clone(),
        splits: splits.iter().map(ToString::to_string).collect(),
        filter: frozen.data.filter(),
        num_points: frozen.plan.data.num_points,
        pooling,
        num_rows: ids.len(),
        num_channels: features.len() / ids.len().max(1),
        classes: frozen.data.dataset.classes().to_vec(),
        device: device_name(options.device),
    };
    let out = &options.out;
    std::fs::create_dir_all(out).map_err(TrainError::io("create", out))?;
    let array = npy::encode_f32(&[result.num_rows, result.num_channels], &features);
    write_atomic(&out.join(ARRAY_FILE), &array)?;
    let optional: Vec<Option<i64>> = labels.iter().copied().map(Some).collect();
    let table = EmbeddingTable {
        ids: &ids,
        labels: &optional,
        splits: &split_of,
        features: &features,
    };
    table.write(&out.join(TABLE_FILE), &serde_json::json!(result))?;
    write_json(&out.join(EMBED_FILE), &result)?;
    Ok(Embedded {
        result,
        features,
        labels,
    })
}
