//! The folder of reference numbers: `manifest.json` and one safetensors file a run.
//!
//! The committed folder is a selection; `TAP_PARITY_DIR` names another one of the same layout, whole or not. A tensor
//! is compared if the manifest lists it, and then the file must have it.

use std::collections::HashMap;
use std::path::PathBuf;

use serde_json::Value;
use tch::{Kind, Tensor};

/// A folder of reference numbers.
pub(crate) struct Folder {
    dir: PathBuf,
    manifest: Value,
}

/// The numbers of one run.
pub(crate) struct Run {
    pub(crate) name: String,
    pub(crate) salt: u32,
    info: Value,
    tensors: HashMap<String, Tensor>,
}

impl Folder {
    /// The folder named by `TAP_PARITY_DIR`, or the committed one.
    pub(crate) fn open() -> Self {
        let committed = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/parity");
        let dir = std::env::var_os("TAP_PARITY_DIR").map_or(committed, PathBuf::from);
        let path = dir.join("manifest.json");
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{error}: {}", path.display()));
        let manifest =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {}", path.display()));
        Self { dir, manifest }
    }

    pub(crate) fn salt(&self) -> u32 {
        salt_of(&self.manifest).expect("the manifest states its salt")
    }

    /// First values of some parameters, by name.
    pub(crate) fn weight_test_vectors(&self) -> Vec<(String, Vec<f64>)> {
        let vectors = self.manifest["weight_test_vectors"]
            .as_object()
            .expect("an object of test vectors");
        vectors
            .iter()
            .map(|(name, values)| (name.clone(), numbers(values)))
            .collect()
    }

    /// The numbers of the run `name`.
    pub(crate) fn run(&self, name: &str) -> Run {
        let info = self.manifest["files"][name].clone();
        assert!(
            info.is_object(),
            "{}: the manifest has no run {name}",
            self.dir.display()
        );
        let mut tensors = self.read(&info);
        // A tensor that two runs share may be stored once.
        let listed = info["tensors"].as_object().expect("a run lists its tensors");
        for (tensor, entry) in listed {
            if let Some(other) = entry["same_as"].as_str() {
                let shared = self.read(&self.manifest["files"][other]).remove(tensor);
                tensors.insert(tensor.clone(), shared.expect("the other run has the tensor"));
            }
        }
        let salt = salt_of(&info).unwrap_or_else(|| self.salt());
        Run {
            name: name.to_owned(),
            salt,
            info,
            tensors,
        }
    }

    fn read(&self, info: &Value) -> HashMap<String, Tensor> {
        let path = self
            .dir
            .join(info["file"].as_str().expect("a run names its file"));
        let tensors =
            Tensor::read_safetensors(&path).unwrap_or_else(|error| panic!("{error}: {}", path.display()));
        tensors.into_iter().collect()
    }
}

impl Run {
    /// The tensor, unless this folder leaves it out.
    pub(crate) fn get(&self, tensor: &str) -> Option<&Tensor> {
        let listed = self.info["tensors"].get(tensor).is_some();
        let found = self.tensors.get(tensor);
        assert_eq!(
            listed,
            found.is_some(),
            "{}: manifest and file disagree on {tensor}",
            self.name
        );
        found
    }

    /// A tensor that every folder must have.
    pub(crate) fn need(&self, tensor: &str) -> &Tensor {
        self.get(tensor)
            .unwrap_or_else(|| panic!("{} lacks {tensor}", self.name))
    }

    /// Names of the tensors that begin with `prefix`, without it.
    pub(crate) fn with_prefix(&self, prefix: &str) -> Vec<String> {
        let mut names: Vec<_> = self
            .tensors
            .keys()
            .filter_map(|name| name.strip_prefix(prefix))
            .map(str::to_owned)
            .collect();
        names.sort();
        names
    }

    /// Names of the parameters, in the order of the gradient vectors.
    pub(crate) fn parameter_names(&self) -> Vec<String> {
        let names = self.info["param_names"]
            .as_array()
            .expect("a run names its parameters");
        names
            .iter()
            .map(|name| name.as_str().expect("a name").to_owned())
            .collect()
    }

    /// Names and shapes of the checkpoint, without the batch counters, which nothing depends on.
    pub(crate) fn state_dict(&self) -> Vec<(String, Vec<i64>)> {
        self.state_dict_of("state_dict")
    }

    /// The same of the checkpoint that the manifest lists under `key`.
    pub(crate) fn state_dict_of(&self, key: &str) -> Vec<(String, Vec<i64>)> {
        let entries = self.info[key].as_array().expect("a run lists its state");
        let entry = |entry: &Value| {
            let name = entry[0].as_str().expect("a name").to_owned();
            let shape = numbers(&entry[1]).iter().map(|&n| n as i64).collect();
            (name, shape)
        };
        entries
            .iter()
            .map(entry)
            .filter(|(name, _)| !name.ends_with("num_batches_tracked"))
            .collect()
    }
}

fn salt_of(value: &Value) -> Option<u32> {
    value["weight_salt"].as_u64().map(|salt| salt as u32)
}

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .expect("a list of numbers")
        .iter()
        .map(|n| n.as_f64().expect("a number"))
        .collect()
}

/// Flat values of a tensor.
pub(crate) fn values(tensor: &Tensor) -> Vec<f64> {
    let flat = tensor.detach().to_kind(Kind::Double).contiguous().view(-1);
    Vec::<f64>::try_from(flat).expect("a tensor of numbers")
}

/// Flat values of an index tensor.
pub(crate) fn indices(tensor: &Tensor) -> Vec<i64> {
    Vec::<i64>::try_from(tensor.to_kind(Kind::Int64).contiguous().view(-1)).expect("a tensor of indices")
}

/// ‖got - expected‖ / ‖expected‖.
pub(crate) fn relative_l2(got: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(got.size(), expected.size(), "shapes to compare");
    let (got, expected) = (got.detach().to_kind(Kind::Double), expected.to_kind(Kind::Double));
    let norm = expected.norm().double_value(&[]);
    (got - expected).norm().double_value(&[]) / norm.max(f64::MIN_POSITIVE)
}

/// Asserts that a tensor is within `tolerance` of the reference, if the folder has it, and says how near it came.
pub(crate) fn compare(run: &Run, name: &str, got: &Tensor, tolerance: f64) {
    if let Some(expected) = run.get(name) {
        let error = relative_l2(&got.view_as(expected), expected);
        record(run, name, error, tolerance);
    }
}

/// One line a comparison, shown with `--nocapture`, and the assertion.
#[expect(clippy::print_stdout, reason = "a test's captured output")]
pub(crate) fn record(run: &Run, name: &str, error: f64, tolerance: f64) {
    println!("{:<24} {error:>10.2e} of {tolerance:.0e}  {name}", run.name);
    assert!(
        error <= tolerance,
        "{}: {name} is off by {error:.3e}, allowed {tolerance:.0e}",
        run.name
    );
}
