//! Export of weights for PyTorch, under the names and in the place where the released code of a backbone looks for them:
//! the way back of [`super::import`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Serialize;
use strum::IntoEnumIterator as _;
use tch::{Kind, Tensor};

use crate::config::{Plan, invalid};
use crate::error::TrainError;
use crate::model::EncoderConfig;
use crate::run::event::{OnEvent, TrainEvent};
use crate::run::fault::run_of;
use crate::run::weights::{
    CLASSES_KEY, ENCODER_PREFIX_KEY, EncoderWeights, encoder_metadata, is_named, read_encoder,
};
use crate::run::{self, CHECKPOINTS};
use crate::weights::checkpoint::{Checkpoint, MODEL_FILE, STATE_FILE};
use crate::weights::safetensors::{file_sha256, read_metadata, read_weights, write_tensors};
use crate::weights::torch_file::{self, METADATA};
use crate::weights::torch_save::{Entry, write_dict};

/// Key of the metadata of every export, and its value.
const EXPORT_KEY: &str = "exported_by";
const PROGRAM: &str = "tap-train export";
/// What the safetensors of PyTorch have in their metadata.
const FORMAT: [&str; 2] = ["format", "pt"];

/// Whose code the file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumIter, strum::IntoStaticStr, strum::Display)]
#[strum(serialize_all = "kebab-case")]
pub enum Layout {
    /// TAP and `OpenPoints`: the encoder's own names, under `model`.
    Tap,
    /// Point-BERT: `transformer_q.`, under `base_model`.
    PointBert,
    /// Point-MAE: `MAE_encoder.`, under `base_model`.
    PointMae,
    /// Point-M2AE: `h_encoder.`, under `base_model`.
    PointM2ae,
    /// I2P-MAE: as Point-M2AE.
    I2pMae,
    /// For `module.load_state_dict`: the encoder's own names, under `state_dict`.
    StateDict,
}

impl Layout {
    /// All names, for messages.
    #[must_use]
    pub fn names() -> Vec<&'static str> {
        Self::iter().map(Into::into).collect()
    }

    /// That of the released code of a backbone.
    #[must_use]
    pub fn of(encoder: &EncoderConfig) -> Self {
        match encoder {
            EncoderConfig::PointMae(_) => Self::PointMae,
            EncoderConfig::PointM2ae(_) => Self::PointM2ae,
            _ => Self::Tap,
        }
    }

    /// Where such a file has the state dict, and how names begin in it.
    fn place(self) -> (&'static str, &'static str) {
        match self {
            Self::Tap => ("model", ""),
            Self::PointBert => ("base_model", "transformer_q."),
            Self::PointMae => ("base_model", "MAE_encoder."),
            Self::PointM2ae | Self::I2pMae => ("base_model", "h_encoder."),
            Self::StateDict => ("state_dict", ""),
        }
    }

    /// Whether that code has this backbone.
    fn has(self, encoder: &EncoderConfig) -> bool {
        match self {
            Self::PointBert => matches!(encoder, EncoderConfig::Transformer(_)),
            Self::PointMae => matches!(encoder, EncoderConfig::PointMae(_)),
            Self::PointM2ae | Self::I2pMae => matches!(encoder, EncoderConfig::PointM2ae(_)),
            Self::Tap | Self::StateDict => true,
        }
    }
}

impl FromStr for Layout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::iter()
            .find(|layout| text == <&str>::from(*layout))
            .ok_or_else(|| {
                format!(
                    "unknown layout '{text}', expected one of {}",
                    Self::names().join(", ")
                )
            })
    }
}

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The encoder.
    Encoder,
    /// The whole network: the method's or the task's names, under the key of the layout.
    Whole,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExportReport {
    /// The file that the weights are from.
    pub source: PathBuf,
    /// SHA-256 of it.
    pub source_sha256: String,
    /// The backbone; absent where the file does not say.
    pub encoder: Option<String>,
    /// Whose code it is for.
    pub layout: String,
    /// The entry of a `.pth` file with the state dict; absent in safetensors.
    pub entry: Option<String>,
    /// How names of the encoder begin.
    pub prefix: String,
    /// Tensors, counters of batches included.
    pub num_tensors: usize,
    /// Parameters and running statistics.
    pub num_parameters: usize,
}

/// A way of storing tensors, by the ending of a file's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Safetensors,
    Torch,
}

impl Format {
    fn of(path: &Path) -> Result<Self, TrainError> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("safetensors") => Ok(Self::Safetensors),
            Some("pth" | "pt" | "bin" | "ckpt") => Ok(Self::Torch),
            _ => Err(invalid(format!(
                "the name of an export ends in .safetensors or .pth: {}",
                path.display()
            ))),
        }
    }
}

/// Whether an export wrote this file, by its metadata.
#[must_use]
pub fn is_exported(path: &Path) -> bool {
    let of_safetensors = || {
        let metadata = read_metadata(path).ok()?;
        Some(metadata.get(EXPORT_KEY)? == PROGRAM)
    };
    of_safetensors()
        .or_else(|| torch_file::says(path, &[METADATA, EXPORT_KEY], PROGRAM).ok())
        .unwrap_or(false)
}

/// Writes the weights of a run, a checkpoint or a file for the released code of its backbone, or as `layout` says. Notes say
/// where a run is not finished.
///
/// # Errors
/// Where there are no weights, they are damaged or not finite, the code that was named does not have the backbone, or the
/// file cannot be written.
pub fn export(
    from: &Path,
    out: &Path,
    layout: Option<Layout>,
    part: Part,
    on_event: OnEvent<'_>,
) -> Result<ExportReport, TrainError> {
    let format = Format::of(out)?;
    let EncoderWeights { tensors, file, notes } = match part {
        Part::Encoder => read_encoder(from)?,
        Part::Whole => read_whole(from)?,
    };
    for note in notes {
        on_event(TrainEvent::Note(note));
    }
    let metadata_of_file = read_metadata(&file)?;
    let encoder = encoder_of(from, &metadata_of_file)?;
    let layout = match (layout, &encoder) {
        (Some(layout), Some(encoder)) if !layout.has(encoder) => {
            return Err(invalid(format!(
                "the encoder is a {}, which the code of {layout} does not have; export it as {}",
                encoder.kind(),
                Layout::of(encoder)
            )));
        }
        (Some(layout), _) => layout,
        (None, Some(encoder)) => Layout::of(encoder),
        (None, None) => Layout::StateDict,
    };
    let (entry, prefix) = layout.place();
    let prefix = if part == Part::Encoder { prefix } else { "" };
    let tensors = with_batch_counts(tensors, prefix);
    let report = ExportReport {
        source_sha256: file_sha256(&file)?,
        source: file,
        encoder: encoder.as_ref().map(|encoder| encoder.kind().to_owned()),
        layout: layout.to_string(),
        entry: (format == Format::Torch).then(|| entry.to_owned()),
        prefix: prefix.to_owned(),
        num_tensors: tensors.len(),
        num_parameters: tensors
            .iter()
            .filter(|(_, tensor)| tensor.kind() != Kind::Int64)
            .map(|(_, tensor)| tensor.numel())
            .sum(),
    };
    let mut metadata = BTreeMap::from([
        (FORMAT[0].to_owned(), FORMAT[1].to_owned()),
        (EXPORT_KEY.to_owned(), PROGRAM.to_owned()),
        (String::from("source_sha256"), report.source_sha256.clone()),
    ]);
    // What the weights say of themselves.
    for key in [
        "config_sha256",
        "data_sha256",
        "num_steps",
        CLASSES_KEY,
        ENCODER_PREFIX_KEY,
    ] {
        let value = metadata_of_file.get(key);
        metadata.extend(value.map(|value| (key.to_owned(), value.clone())));
    }
    if let (Some(encoder), Part::Encoder) = (&encoder, part) {
        metadata.extend(encoder_metadata(prefix, encoder));
    }
    match format {
        Format::Safetensors => write_tensors(out, tensors, &metadata)?,
        Format::Torch => {
            let entries = [
                (entry.to_owned(), Entry::StateDict(tensors)),
                (METADATA.to_owned(), Entry::Texts(metadata)),
            ];
            write_dict(out, &entries)?;
        }
    }
    Ok(report)
}

/// All weights of a run, a checkpoint or a file.
fn read_whole(from: &Path) -> Result<EncoderWeights, TrainError> {
    let of_checkpoint = |checkpoint: &Checkpoint| {
        let notes = checkpoint.damage_note().into_iter().collect();
        (checkpoint.weights_file(), notes)
    };
    let (file, notes) = if !from.is_dir() {
        (from.to_owned(), Vec::new())
    } else if from.join(STATE_FILE).is_file() {
        of_checkpoint(&Checkpoint::open(from)?)
    } else if from.join(MODEL_FILE).is_file() {
        (from.join(MODEL_FILE), Vec::new())
    } else {
        let newest = Checkpoint::newest(&from.join(CHECKPOINTS))?;
        let none = || TrainError::NoWeights {
            reason: String::from("the whole network lies in checkpoints, and there is none"),
            path: from.to_owned(),
        };
        of_checkpoint(&newest.ok_or_else(none)?)
    };
    let tensors = read_weights(&file)?;
    Ok(EncoderWeights { tensors, file, notes })
}

/// The backbone of weights, as their file or their run says.
fn encoder_of(from: &Path, metadata: &BTreeMap<String, String>) -> Result<Option<EncoderConfig>, TrainError> {
    let of_file = metadata.get("encoder");
    if let Some(encoder) = of_file.and_then(|json| serde_json::from_str(json).ok()) {
        return Ok(Some(encoder));
    }
    let plan: Option<Plan> = if from.is_dir() {
        run::read_plan(run_of(from))?
    } else {
        None
    };
    let of_plan = metadata.get("config_sha256").or(metadata.get("plan_sha256"));
    let is_of_plan = |plan: &Plan| of_plan.is_none_or(|sha256| is_named(plan, None, sha256));
    Ok(plan.filter(is_of_plan).map(|plan| plan.encoder))
}

/// Names as the file has them, and the counters that PyTorch keeps beside running statistics and that nothing reads.
fn with_batch_counts(tensors: BTreeMap<String, Tensor>, prefix: &str) -> Vec<(String, Tensor)> {
    let mut all = BTreeMap::new();
    for (name, tensor) in tensors {
        if let Some(norm) = name.strip_suffix("running_mean") {
            all.insert(format!("{prefix}{norm}num_batches_tracked"), Tensor::from(0_i64));
        }
        all.insert(format!("{prefix}{name}"), tensor);
    }
    all.into_iter().collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn names_of_layouts_are_read_back() {
        for name in Layout::names() {
            assert_eq!(name.parse::<Layout>().unwrap().to_string(), name, "{name}");
        }
        assert_eq!(
            Layout::names()[..3],
            ["tap", "point-bert", "point-mae"],
            "as typed"
        );
        let error = "tf".parse::<Layout>().unwrap_err();
        assert!(error.contains("point-m2ae, i2p-mae, state-dict"), "{error}");
    }
}
