//! Import of encoder weights from checkpoints of PyTorch, with a report on all tensors of the file.
//!
//! Where the encoder lies in the file (`model.encoder.`, `base_model.module.transformer_q.` ...) is found by trying: of
//! all prefixes of names in the file, the one under which most tensors have the name and shape of the network. Where
//! several are as good, it is the encoder that is trained, and not its slow copy: a momentum encoder, a teacher, an average.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;
use tch::{Device, Tensor, nn};

use super::mismatch;
use crate::error::TrainError;
use crate::model::EncoderConfig;
use crate::weights::checkpoint::{ENCODER_PREFIX, copy_weights, encoder_tensors};
use crate::weights::safetensors::{file_sha256, first_non_finite, read_metadata, write_tensors};
use crate::weights::torch_file::{TorchFile, read_any};

/// Report on the tensors of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImportReport {
    /// SHA-256 of the file.
    pub source_sha256: String,
    /// The encoder that it was read for.
    pub encoder: String,
    /// Prefix of the encoder's names in the file.
    pub prefix: String,
    /// Other prefixes under which as many tensors fit.
    pub other_prefixes: Vec<String>,
    /// Tensors that fit.
    pub num_fitting: usize,
    /// Tensors of the network that are missing in the file.
    pub missing: Vec<String>,
    /// Tensors of both with different shapes.
    pub differing: Vec<String>,
    /// Tensors under that prefix that the network does not have.
    pub unexpected: Vec<String>,
    /// Number of other tensors of the file, by the first two parts of their names.
    pub elsewhere: BTreeMap<String, usize>,
    /// Python objects that were skipped without being constructed.
    pub passed_over: Vec<String>,
}

impl ImportReport {
    /// Whether the file holds exactly the network's tensors.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.missing.is_empty() && self.differing.is_empty() && self.unexpected.is_empty()
    }
}

/// What the metadata of an imported file names: whose weights they are, for which encoder, and where they lay.
const METADATA_KEYS: [&str; 3] = ["source_sha256", "encoder", "source_prefix"];

/// Encoder weights read from a file.
#[derive(Debug)]
pub struct Imported {
    /// All tensors of the encoder that the file had, under our names.
    pub tensors: Vec<(String, Tensor)>,
    /// The report.
    pub report: ImportReport,
}

impl Imported {
    /// Writes them as `--init` takes them.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn write(self, path: &Path) -> Result<(), TrainError> {
        let values = [self.report.source_sha256, self.report.encoder, self.report.prefix];
        let metadata = METADATA_KEYS.map(String::from).into_iter().zip(values).collect();
        write_tensors(path, self.tensors, &metadata)
    }
}

/// Whether an import wrote this file, by its metadata.
#[must_use]
pub fn is_imported(path: &Path) -> bool {
    read_metadata(path).is_ok_and(|metadata| METADATA_KEYS.iter().all(|key| metadata.contains_key(*key)))
}

/// Reads the encoder out of a PyTorch or safetensors file, for that of the named encoders that fits best; from under
/// `prefix`, if one is given.
///
/// # Errors
/// Where the file cannot be read, or no tensor in it fits any of them.
pub fn import(
    path: &Path,
    encoders: &[(String, EncoderConfig)],
    prefix: Option<&str>,
) -> Result<Imported, TrainError> {
    let TorchFile {
        tensors, passed_over, ..
    } = read_any(path)?;
    let prefixes = match prefix {
        Some(prefix) => vec![as_prefix(prefix)],
        None => prefixes(tensors.keys()),
    };
    let mut best: Option<Fit<'_>> = None;
    for (name, config) in encoders {
        let network = shapes(config);
        for prefix in &prefixes {
            let fits = |(name, size): &(String, Vec<i64>)| {
                let found = tensors.get(&format!("{prefix}{name}"));
                found.is_some_and(|tensor| tensor.size() == *size)
            };
            let count = network.iter().filter(|entry| fits(entry)).count();
            match &mut best {
                Some(best) if count == best.count && name == best.name => best.prefixes.push(prefix),
                // A smaller network all of whose tensors fit is no worse than a larger one that has as many.
                Some(best) if count <= best.count => {}
                _ => {
                    best = Some(Fit {
                        count,
                        name,
                        config,
                        prefixes: vec![prefix],
                    });
                }
            }
        }
    }
    let Some(fit) = best.filter(|fit| fit.count > 0) else {
        return Err(TrainError::Weights {
            report: mismatch::nothing_fits(&tensors, encoders, prefix, &passed_over),
            path: path.to_owned(),
        });
    };
    let Fit {
        name,
        config,
        mut prefixes,
        ..
    } = fit;
    prefixes.sort_by_key(|prefix| (is_slow_copy(prefix), prefix.len()));
    let prefix = prefixes.remove(0);
    let store = nn::VarStore::new(Device::Cpu);
    let _ = config.build(&(store.root() / "encoder"));
    let (mut of_encoder, mut elsewhere) = (BTreeMap::new(), BTreeMap::new());
    let known: BTreeSet<&str> = ["generator", "decoder", "prediction"].into();
    for (full_name, tensor) in tensors {
        match full_name.strip_prefix(prefix.as_str()) {
            // An encoder without a prefix may lie beside the other parts of a model.
            Some(rest) if !(prefix.is_empty() && known.contains(first_part(rest))) => {
                of_encoder.insert(rest.to_owned(), tensor);
            }
            _ => *elsewhere.entry(group(&full_name)).or_default() += 1,
        }
    }
    if let Some(name) = first_non_finite(&of_encoder) {
        return Err(TrainError::NonFiniteWeights {
            name: name.clone(),
            path: path.to_owned(),
        });
    }
    let fit = copy_weights(&store, &of_encoder, ENCODER_PREFIX);
    let tensors = encoder_tensors(&store, ENCODER_PREFIX)
        .into_iter()
        .filter(|(name, tensor)| {
            of_encoder
                .get(name)
                .is_some_and(|given| given.size() == tensor.size())
        })
        .collect();
    let report = ImportReport {
        source_sha256: file_sha256(path)?,
        encoder: name.to_owned(),
        prefix: prefix.clone(),
        other_prefixes: prefixes.into_iter().cloned().collect(),
        num_fitting: fit.num_copied,
        missing: fit.missing,
        differing: fit.differing,
        unexpected: fit.unexpected,
        elsewhere,
        passed_over,
    };
    Ok(Imported { tensors, report })
}

/// The places in a file where most tensors of an encoder are.
struct Fit<'a> {
    count: usize,
    name: &'a str,
    config: &'a EncoderConfig,
    prefixes: Vec<&'a String>,
}

/// Words in the names of encoders that follow another one and are not trained themselves.
const SLOW_COPIES: [&str; 8] = [
    "ema", "momentum", "teacher", "target", "key", "k", "swa", "averaged",
];

pub(super) fn is_slow_copy(prefix: &str) -> bool {
    let mut words = prefix.split(['.', '_']);
    words.any(|word| SLOW_COPIES.contains(&word.to_ascii_lowercase().as_str()))
}

/// A prefix as typed, with the dot at its end.
pub(super) fn as_prefix(typed: &str) -> String {
    if typed.is_empty() || typed.ends_with('.') {
        typed.to_owned()
    } else {
        format!("{typed}.")
    }
}

/// Names and shapes of an encoder's tensors.
pub(super) fn shapes(config: &EncoderConfig) -> Vec<(String, Vec<i64>)> {
    let store = nn::VarStore::new(Device::Cpu);
    let _ = config.build(&store.root());
    let mut shapes: Vec<_> = store
        .variables()
        .into_iter()
        .map(|(name, tensor)| (name, tensor.size()))
        .collect();
    shapes.sort();
    shapes
}

/// All prefixes of names up to a dot, and the empty one; shorter ones first.
pub(super) fn prefixes<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut prefixes = BTreeSet::from([String::new()]);
    for name in names {
        prefixes.extend(name.match_indices('.').map(|(dot, _)| name[..=dot].to_owned()));
    }
    let mut prefixes: Vec<String> = prefixes.into_iter().collect();
    prefixes.sort_by_key(String::len);
    prefixes
}

fn first_part(name: &str) -> &str {
    name.split_once('.').map_or(name, |(first, _)| first)
}

/// The first two parts of a name: `model.generator`, `optimizer.state`.
fn group(name: &str) -> String {
    let parts: Vec<&str> = name.splitn(3, '.').take(2).collect();
    parts.join(".")
}
