//! Tensors of PyTorch's own files (`.pth`, `.pt`), read without running anything.
//!
//! Such a file is an uncompressed ZIP archive: `NAME/data.pkl`, a pickle whose tensors refer to `NAME/data/KEY`, one file
//! of raw numbers each. The pickle goes through [`tap_dataset::pickle`], which makes no calls; of all names the
//! handful below are recognized, and everything else is skipped and listed by name. A whole module that was pickled
//! (`torch.save(model)`) and a `TorchScript` archive give the tensors of their state dict. Files from before PyTorch 1.6 have
//! another layout and are refused.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::Path;

use tap_dataset::pickle::{self, MODULE_ATTRIBUTES, Pickle, Value};
use tch::{Device, Kind, Tensor};
use zip::{CompressionMethod, ZipArchive};

use crate::error::TrainError;
use crate::weights::file_kind::FileKind;
use crate::weights::safetensors::{read_metadata, read_tensors};

/// Limit on the pickle: a network of some hundred thousand tensors.
const MAX_PICKLE_BYTES: u64 = 64 << 20;
/// Tensors together may be so many times as large as the file, since some share their numbers.
const MAX_SHARING: u64 = 4;
/// Where files of ours keep what is known of their weights.
pub(crate) const METADATA: &str = "metadata";
/// Beginning of the class names of `TorchScript`.
const TORCH_SCRIPT: &str = "__torch__.";

/// Content of a file.
#[derive(Debug)]
pub struct TorchFile {
    /// Tensors by their dotted path in nested dictionaries.
    pub tensors: BTreeMap<String, Tensor>,
    /// Entries that are calls which were not made, as `path (function)`.
    pub passed_over: Vec<String>,
    /// Numbers by the same paths: integers, floats and scalars of NumPy. Those in lists are not among them.
    pub numbers: BTreeMap<String, f64>,
    /// Texts by the same paths; of a safetensors file those of its metadata, under `metadata.`.
    pub texts: BTreeMap<String, String>,
}

type Archive = ZipArchive<BufReader<File>>;

/// Reads all tensors of a safetensors file, or of one of PyTorch's own.
///
/// # Errors
/// Where it is neither, is damaged, or contradicts itself.
pub fn read_any(path: &Path) -> Result<TorchFile, TrainError> {
    if FileKind::of(path)? != FileKind::Safetensors {
        return read(path);
    }
    let texts = read_metadata(path)?.into_iter();
    Ok(TorchFile {
        tensors: read_tensors(path)?,
        passed_over: Vec::new(),
        numbers: BTreeMap::new(),
        texts: texts
            .map(|(key, text)| (format!("{METADATA}.{key}"), text))
            .collect(),
    })
}

/// Reads all tensors of a file.
///
/// # Errors
/// Where it is no such file, is damaged, or contradicts itself.
pub fn read(path: &Path) -> Result<TorchFile, TrainError> {
    let (mut reader, pickle) = open(path)?;
    let mut found = Vec::new();
    let mut passed_over = Vec::new();
    let (mut numbers, mut texts) = (BTreeMap::new(), BTreeMap::new());
    pickle.walk(&mut |name, value| {
        if let Some(tensor) = stored_tensor(&pickle, value) {
            found.push((name.to_owned(), tensor));
            return true;
        }
        if let Some(number) = number(&pickle, value) {
            numbers.insert(name.to_owned(), number);
            return true;
        }
        if let Some(text) = value.as_text() {
            texts.insert(name.to_owned(), text.to_owned());
        }
        if let Some((callee, _)) = pickle.call(value)
            && !is_module(&pickle, value)
        {
            passed_over.push(format!("{name} ({callee})"));
        }
        false
    });
    let mut tensors = BTreeMap::new();
    for (name, stored) in found {
        let tensor = reader.tensor(&stored).map_err(|reason| TrainError::TorchFile {
            reason: format!("{name}: {reason}"),
            path: path.to_owned(),
        })?;
        tensors.insert(name, tensor);
    }
    Ok(TorchFile {
        tensors,
        passed_over,
        numbers,
        texts,
    })
}

/// Whether the text at this place of a file's nested dictionaries is `text`.
///
/// # Errors
/// Where it is no such file, or is damaged.
pub(crate) fn says(path: &Path, place: &[&str], text: &str) -> Result<bool, TrainError> {
    let (_, pickle) = open(path)?;
    let mut found = Some(&pickle.root);
    for key in place {
        let entries = found.and_then(|value| pickle.entries(value)).unwrap_or_default();
        let entry = entries.iter().find(|(name, _)| name.as_text() == Some(*key));
        found = entry.map(|(_, value)| value);
    }
    Ok(found.and_then(Value::as_text) == Some(text))
}

fn open(path: &Path) -> Result<(Reader, Pickle), TrainError> {
    let damaged = |reason: String| TrainError::TorchFile {
        reason,
        path: path.to_owned(),
    };
    let not_torch = match FileKind::of(path)? {
        FileKind::Pickle => Some(
            "written by PyTorch before 1.6, or a bare pickle; in a newer PyTorch: torch.save(torch.load('old.pth'), 'new.pth')",
        ),
        FileKind::Html => Some("it is a web page, as a failed download leaves it"),
        FileKind::LfsPointer => Some("it is a pointer of Git LFS; `git lfs pull` fetches the file itself"),
        FileKind::Safetensors | FileKind::Zip | FileKind::Other => None,
    };
    if let Some(reason) = not_torch {
        return Err(damaged(reason.to_owned()));
    }
    let file = File::open(path).map_err(TrainError::io("open", path))?;
    let num_bytes = file.metadata().map_err(TrainError::io("open", path))?.len();
    let archive = ZipArchive::new(BufReader::new(file));
    let mut reader = Reader {
        archive: archive.map_err(|error| damaged(format!("no ZIP archive: {error}")))?,
        root: String::new(),
        num_bytes,
        claimed_bytes: 0,
        storages: BTreeMap::new(),
    };
    reader.root = reader.find_root().map_err(damaged)?;
    // Files of before PyTorch 2.1 do not say it.
    let has_order = reader
        .archive
        .file_names()
        .any(|name| name == reader.name("byteorder"));
    if has_order && reader.entry("byteorder", 16).map_err(damaged)? != b"little" {
        return Err(damaged(String::from("its numbers are not little-endian")));
    }
    let bytes = reader.entry("data.pkl", MAX_PICKLE_BYTES).map_err(damaged)?;
    let pickle = pickle::read(&bytes).map_err(|error| damaged(error.to_string()))?;
    Ok((reader, pickle))
}

/// Whether it is a module, the tensors of which are taken: of Python or of `TorchScript`.
fn is_module(pickle: &Pickle, value: &Value) -> bool {
    let is_script = pickle
        .call(value)
        .is_some_and(|(class, _)| class.starts_with(TORCH_SCRIPT));
    let has = |wanted: &str| {
        let attributes = pickle.attributes(value).unwrap_or_default();
        attributes.iter().any(|(name, _)| name.as_text() == Some(wanted))
    };
    is_script || MODULE_ATTRIBUTES.into_iter().all(has)
}

/// A tensor as the pickle describes it.
struct StoredTensor {
    kind: Kind,
    key: String,
    num_elements: u64,
    offset: i64,
    size: Vec<i64>,
    stride: Vec<i64>,
}

/// A call of the functions that PyTorch writes tensors with; `None` for anything else.
fn stored_tensor(pickle: &Pickle, value: &Value) -> Option<StoredTensor> {
    let (name, arguments) = pickle.call(value)?;
    match name {
        // With the attributes that somebody gave it, or without.
        "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state" => {
            stored_tensor(pickle, arguments.first()?)
        }
        "torch._utils._rebuild_tensor_v2" | "torch._utils._rebuild_tensor" => {
            let integers = |value: &Value| -> Option<Vec<i64>> {
                pickle.items(value)?.iter().map(Value::as_int).collect()
            };
            let [storage, offset, size, stride] = arguments.first_chunk::<4>()?;
            let [tag, class, key, _, num_elements] =
                pickle.items(pickle.persistent(storage)?)?.first_chunk::<5>()?;
            let Value::Global(class) = class else {
                return None;
            };
            (tag.as_text()? == "storage").then_some(())?;
            Some(StoredTensor {
                kind: kind_of(class)?,
                key: key.as_text()?.to_owned(),
                num_elements: u64::try_from(num_elements.as_int()?).ok()?,
                offset: offset.as_int()?,
                size: integers(size)?,
                stride: integers(stride)?,
            })
        }
        _ => None,
    }
}

/// A number of Python, or a scalar of NumPy: `scalar(dtype('f8'), bytes)`, whose bytes pickles of protocol 2 write as text.
fn number(pickle: &Pickle, value: &Value) -> Option<f64> {
    match value {
        Value::Int(int) => return Some(*int as f64),
        Value::Float(float) => return Some(*float),
        _ => {}
    }
    let (name, arguments) = pickle.call(value)?;
    let is_scalar = matches!(
        name,
        "numpy.core.multiarray.scalar" | "numpy._core.multiarray.scalar"
    );
    let [kind, bytes] = arguments.first_chunk::<2>().filter(|_| is_scalar)?;
    let ("numpy.dtype", [kind, ..]) = pickle.call(kind)? else {
        return None;
    };
    let held;
    let bytes: &[u8] = if let Value::Bytes(bytes) = bytes {
        bytes
    } else {
        let ("_codecs.encode", [text, ..]) = pickle.call(bytes)? else {
            return None;
        };
        let latin1 = text.as_text()?.chars().map(|char| u8::try_from(char).ok());
        held = latin1.collect::<Option<Vec<u8>>>()?;
        &held
    };
    Some(match kind.as_text()? {
        "f4" => f64::from(f32::from_le_bytes(bytes.try_into().ok()?)),
        "f8" => f64::from_le_bytes(bytes.try_into().ok()?),
        "i8" => i64::from_le_bytes(bytes.try_into().ok()?) as f64,
        _ => return None,
    })
}

fn kind_of(class: &str) -> Option<Kind> {
    Some(match class.strip_prefix("torch.")?.strip_suffix("Storage")? {
        "Float" => Kind::Float,
        "Double" => Kind::Double,
        "Half" => Kind::Half,
        "BFloat16" => Kind::BFloat16,
        "Long" => Kind::Int64,
        "Int" => Kind::Int,
        "Short" => Kind::Int16,
        "Char" => Kind::Int8,
        "Byte" => Kind::Uint8,
        "Bool" => Kind::Bool,
        _ => return None,
    })
}

struct Reader {
    archive: Archive,
    /// Prefix of all names in the archive.
    root: String,
    num_bytes: u64,
    /// Bytes of all tensors so far.
    claimed_bytes: u64,
    /// Cache of storages; several tensors may share one.
    storages: BTreeMap<(String, String), Tensor>,
}

impl Reader {
    /// The folder of `data.pkl`. Readers take different ones of several entries of a name, or of several pickles, so that a
    /// file could say one thing to this program and another to PyTorch.
    fn find_root(&self) -> Result<String, String> {
        if self.archive.file_names().count() != self.archive.len() {
            return Err(String::from("the archive names an entry twice"));
        }
        let names = self.archive.file_names();
        let mut roots: Vec<&str> = names
            .filter_map(|name| name.strip_suffix("data.pkl"))
            .filter(|root| root.is_empty() || root.ends_with('/'))
            .collect();
        roots.sort_unstable();
        match roots[..] {
            [] => Err(String::from("the archive has no data.pkl")),
            [root] => Ok(root.to_owned()),
            [first, second, ..] => Err(format!(
                "the archive has several pickles: {first}data.pkl, {second}data.pkl"
            )),
        }
    }

    /// The full name of an entry.
    fn name(&self, name: &str) -> String {
        format!("{}{name}", self.root)
    }

    fn entry(&mut self, name: &str, max_bytes: u64) -> Result<Vec<u8>, String> {
        let name = self.name(name);
        let mut entry = self
            .archive
            .by_name(&name)
            .map_err(|error| format!("{name}: {error}"))?;
        if entry.compression() != CompressionMethod::Stored {
            return Err(format!("{name} is compressed, which PyTorch never does"));
        }
        // What is stored as it is cannot be larger than the file.
        if entry.size() > max_bytes.min(self.num_bytes) {
            return Err(format!("{name} claims {} bytes", entry.size()));
        }
        let mut bytes = Vec::with_capacity(entry.size() as usize);
        entry
            .read_to_end(&mut bytes)
            .map_err(|error| format!("{name}: {error}"))?;
        Ok(bytes)
    }

    fn tensor(&mut self, stored: &StoredTensor) -> Result<Tensor, String> {
        let storage = self.storage(stored)?;
        let num_elements = storage.numel() as i64;
        let StoredTensor {
            offset, size, stride, ..
        } = stored;
        // The last element that is reached, in numbers that cannot overflow. A stride of 0 repeats a number.
        let is_empty = size.contains(&0);
        let is_plain = size.len() == stride.len()
            && *offset >= 0
            && size.iter().all(|&size| size >= 0)
            && (is_empty || stride.iter().all(|&stride| (0..=num_elements).contains(&stride)));
        let last = size
            .iter()
            .zip(stride)
            .map(|(&size, &stride)| i128::from(size - 1) * i128::from(stride))
            .sum::<i128>()
            + i128::from(*offset);
        // Weights may be shared, but a small file must not claim much by naming one storage again and again.
        let num_claimed = size
            .iter()
            .try_fold(1_i64, |product, &size| product.checked_mul(size));
        let fits = is_plain && (is_empty || last < i128::from(num_elements));
        let Some(num_claimed) = num_claimed.filter(|_| fits) else {
            return Err(format!("shape {size:?} leaves its {num_elements} numbers"));
        };
        let num_bytes = (num_claimed as u64).saturating_mul(stored.kind.elt_size_in_bytes() as u64);
        self.claimed_bytes = self.claimed_bytes.saturating_add(num_bytes);
        if self.claimed_bytes > MAX_SHARING * self.num_bytes {
            return Err(String::from("its tensors together claim many times the file"));
        }
        if is_empty {
            return Tensor::f_zeros(size, (stored.kind, Device::Cpu)).map_err(|error| error.to_string());
        }
        storage
            .f_as_strided(size.as_slice(), stride.as_slice(), *offset)
            .and_then(|tensor| tensor.f_contiguous())
            .map_err(|error| error.to_string())
    }

    fn storage(&mut self, stored: &StoredTensor) -> Result<Tensor, String> {
        let id = (stored.key.clone(), format!("{:?}", stored.kind));
        if let Some(storage) = self.storages.get(&id) {
            return Ok(storage.shallow_clone());
        }
        let bytes = self.entry(&format!("data/{}", stored.key), u64::MAX)?;
        let width = stored.kind.elt_size_in_bytes();
        if stored.num_elements.checked_mul(width as u64) != Some(bytes.len() as u64) {
            return Err(format!(
                "{} numbers of {width} bytes are announced and {} bytes are there",
                stored.num_elements,
                bytes.len()
            ));
        }
        let num_elements = stored.num_elements as i64;
        let storage = Tensor::f_from_data_size(&bytes, &[num_elements], stored.kind)
            .map_err(|error| error.to_string())?;
        self.storages.insert(id, storage.shallow_clone());
        Ok(storage)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn scalars_of_numpy_are_numbers_and_other_calls_are_none() {
        let text = |text: &str| [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat();
        // scalar(dtype('f8', False, True), encode('...', 'latin1')), as protocol 2 has it.
        let scalar = |module: &str, kind: &str, bytes: &[u8]| {
            let latin1: String = bytes.iter().map(|&byte| char::from(byte)).collect();
            let parts: [&[u8]; 7] = [
                b"\x80\x02c",
                module.as_bytes(),
                b"\nscalar\ncnumpy\ndtype\n(",
                &text(kind),
                b"\x89\x88tRc_codecs\nencode\n",
                &[&text(&latin1)[..], &text("latin1")].concat(),
                b"\x86R\x86R.",
            ];
            let pickle = pickle::read(&parts.concat()).unwrap();
            number(&pickle, &pickle.root)
        };
        for module in ["numpy.core.multiarray", "numpy._core.multiarray"] {
            assert_eq!(
                scalar(module, "f8", &88.5_f64.to_le_bytes()),
                Some(88.5),
                "{module}"
            );
        }
        assert_eq!(
            scalar("numpy.core.multiarray", "f4", &0.5_f32.to_le_bytes()),
            Some(0.5)
        );
        assert_eq!(
            scalar("numpy.core.multiarray", "f8", &[1, 2, 3]),
            None,
            "too short"
        );
        assert_eq!(scalar("numpy.core.multiarray", "O8", &[0; 8]), None, "no number");
        assert_eq!(scalar("os", "f8", &88.5_f64.to_le_bytes()), None, "another call");
    }
}
