//! `request.toml` of a run: what was asked for and where it lies, so that `--resume` needs nothing but the folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::{Config, Task, invalid};
use crate::error::TrainError;
use crate::weights::safetensors::write_atomic;

/// The name of the file.
pub const REQUEST_FILE: &str = "request.toml";

/// What a run was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The task.
    pub task: Task,
    /// The data set, as an absolute path or a URL; none where the path is no text.
    pub data: Option<String>,
    /// The encoder to start from.
    pub init: Option<String>,
    /// The run that this one continues.
    pub continue_from: Option<String>,
    /// Labels a class; 0 is all.
    pub labels_per_class: usize,
    /// Device of the last session.
    pub device: String,
    /// Threads of torch of the last session.
    pub num_threads: usize,
    /// SHA-256 of the plan as the checkpoints of an earlier version name it, where such a version began the run.
    pub earlier_config_sha256: Option<String>,
    /// The configuration as typed.
    pub config: Config,
}

impl Request {
    /// Reads it; none where the folder has none.
    ///
    /// # Errors
    /// Where it cannot be read or is damaged.
    pub fn read(run: &Path) -> Result<Option<Self>, TrainError> {
        let path = run.join(REQUEST_FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(TrainError::io("read", path)(error)),
        };
        let request = toml::from_str(&text);
        request
            .map(Some)
            .map_err(|error| invalid(format!("{}: {}", path.display(), error.message())))
    }

    /// From [`Request::to_toml`].
    ///
    /// # Errors
    /// Where it is none.
    pub fn from_toml(text: &str) -> Result<Self, TrainError> {
        toml::from_str(text).map_err(|error| invalid(error.message()))
    }

    /// As TOML.
    ///
    /// # Errors
    /// Where a number does not fit into TOML: a seed above 2^63.
    pub fn to_toml(&self) -> Result<String, TrainError> {
        toml::to_string(self).map_err(|error| invalid(error.to_string()))
    }

    /// Writes it into the folder of a run.
    ///
    /// # Errors
    /// Where it cannot be written, or is no TOML.
    pub fn write(&self, run: &Path) -> Result<(), TrainError> {
        write_atomic(&run.join(REQUEST_FILE), self.to_toml()?.as_bytes())
    }

    /// Whether both ask for the same, wherever it is computed.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let without_machine = |request: &Self| Self {
            device: String::new(),
            num_threads: 0,
            earlier_config_sha256: None,
            ..request.clone()
        };
        without_machine(self) == without_machine(other)
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Whether a place is in an object store.
#[must_use]
pub fn is_url(path: &Path) -> bool {
    path.to_string_lossy().contains("://")
}

/// A place as it is noted: absolute, unless it is a URL; none where it is no text.
#[must_use]
pub fn noted(path: &Path) -> Option<String> {
    let absolute = (!is_url(path)).then(|| std::path::absolute(path).ok()).flatten();
    absolute
        .unwrap_or_else(|| PathBuf::from(path))
        .into_os_string()
        .into_string()
        .ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_request_survives_its_file() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Request::read(folder.path()).unwrap(), None, "there is none");
        assert_eq!(
            Request::read(&folder.path().join("gone")).unwrap(),
            None,
            "no folder"
        );
        for preset in ["mini", "paper-transformer"] {
            let settings = [
                "seed=7",
                "method={kind=\"other\",mask_ratio=0.6}",
                "finetune.steps_by_labels.5=7",
            ];
            let request = Request {
                task: Task::Pretrain,
                data: noted(Path::new("shards")),
                init: None,
                continue_from: noted(Path::new("s3://bucket/run")),
                labels_per_class: 5,
                device: String::from("cpu"),
                num_threads: 2,
                earlier_config_sha256: None,
                config: Config::load(Some(preset), &settings.map(String::from)).unwrap(),
            };
            request.write(folder.path()).unwrap();
            assert_eq!(
                Request::read(folder.path()).unwrap(),
                Some(request.clone()),
                "{preset}"
            );
            assert!(
                Path::new(request.data.as_ref().unwrap()).is_absolute(),
                "{request:?}"
            );
            assert_eq!(
                request.continue_from.as_deref(),
                Some("s3://bucket/run"),
                "a URL stays"
            );
            let elsewhere = Request {
                num_threads: 9,
                ..request.clone()
            };
            assert!(request.is_same(&elsewhere), "on another machine");
            let other = Request {
                labels_per_class: 6,
                ..request.clone()
            };
            assert!(!request.is_same(&other), "another run");
        }
        fs::write(folder.path().join(REQUEST_FILE), "task = 1").unwrap();
        let error = Request::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains(REQUEST_FILE), "{error}");
    }
}
