//! The tensors that a frozen network takes, each by name and shape; what does not fit is collected and told at once.

use std::collections::BTreeMap;

use tch::{Device, Tensor};

use super::frozen;

/// Problems that are named; further ones are counted.
const MAX_NAMED: usize = 3;

/// Tensors under the names of timm, taken one by one.
#[derive(Debug)]
pub(super) struct Parameters {
    tensors: BTreeMap<String, Tensor>,
    device: Device,
    problems: Vec<String>,
}

impl Parameters {
    pub(super) fn new(tensors: BTreeMap<String, Tensor>, device: Device) -> Self {
        Self {
            tensors,
            device,
            problems: Vec::new(),
        }
    }

    /// The shape of a tensor, if there is one of that name.
    pub(super) fn size_of(&self, name: &str) -> Option<Vec<i64>> {
        self.tensors.get(name).map(Tensor::size)
    }

    /// Length of an axis of a tensor; 0 where there is none.
    pub(super) fn length_of(&self, name: &str, axis: usize) -> i64 {
        let tensor = self.tensors.get(name);
        tensor
            .and_then(|tensor| tensor.size().get(axis).copied())
            .unwrap_or(0)
    }

    /// How many blocks there are whose names begin with `prefix` and a number.
    pub(super) fn num_blocks(&self, prefix: &str) -> i64 {
        let numbers = self.tensors.keys().filter_map(|name| {
            let (number, _) = name.strip_prefix(prefix)?.split_once('.')?;
            number.parse::<i64>().ok()
        });
        numbers.max().map_or(0, |last| last + 1)
    }

    /// A tensor, moved to the device as `f32`; an empty one, and a problem, where it is missing or has another shape.
    pub(super) fn take(&mut self, name: &str, shape: &[i64]) -> Tensor {
        let Some(tensor) = self.tensors.remove(name) else {
            self.problems.push(format!("{name} is missing"));
            return Tensor::new();
        };
        if tensor.size() != shape {
            self.problems
                .push(format!("{name} is {:?} instead of {shape:?}", tensor.size()));
        }
        frozen(&tensor, self.device)
    }

    /// The same where it may be absent.
    pub(super) fn take_if_present(&mut self, name: &str, shape: &[i64]) -> Option<Tensor> {
        self.tensors.contains_key(name).then(|| self.take(name, shape))
    }

    /// Whether everything so far fits.
    ///
    /// # Errors
    /// Where a tensor was missing or had another shape.
    pub(super) fn check(&self) -> Result<(), String> {
        let count = self.problems.len();
        if count == 0 {
            return Ok(());
        }
        let named = self.problems.iter().take(MAX_NAMED).map(String::as_str);
        let named = named.collect::<Vec<_>>().join(", ");
        let more = match count.saturating_sub(MAX_NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Err(format!("{count} of its tensors do not fit: {named}{more}"))
    }

    /// The tensors that nobody took, by the names that `names` says they have in the file.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub(super) fn finish(self, names: &BTreeMap<String, String>) -> Result<Vec<String>, String> {
        self.check()?;
        let name_in_file = |name: &String| names.get(name).unwrap_or(name).clone();
        Ok(self.tensors.keys().map(name_in_file).collect())
    }
}
