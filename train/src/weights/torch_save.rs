//! Tensors as PyTorch's own file (`.pth`), for `torch.load`, also with `weights_only=True`.
//!
//! The counterpart of [`super::torch_file`]: an uncompressed ZIP archive with a pickle of protocol 2, `archive/data.pkl`, and
//! one file of raw numbers a tensor, `archive/data/KEY`, each on a 64-byte boundary as PyTorch has them. The same tensors
//! give the same bytes: there is no time and no memo in them.

use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::path::Path;

use tch::{Kind, Tensor};
use zip::result::ZipResult;
use zip::write::FileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::error::TrainError;
use crate::weights::safetensors::{bytes_of, write_atomic};

/// Folder of all entries.
const ROOT: &str = "archive";
/// Version of the layout: that of PyTorch 1.6 and later.
const VERSION: &[u8] = b"3\n";
/// Storages begin on a multiple of this.
const ALIGNMENT: u16 = 64;

/// What a file holds.
#[derive(Debug)]
pub enum Entry {
    /// Texts by name.
    Texts(BTreeMap<String, String>),
    /// A state dict.
    StateDict(Vec<(String, Tensor)>),
}

/// Writes a dictionary, whose entries are in the order given.
///
/// # Errors
/// Where a tensor is of a type that has no place in such files, or the file cannot be written.
pub fn write_dict(path: &Path, entries: &[(String, Entry)]) -> Result<(), TrainError> {
    let mut pickle = Pickler::default();
    pickle.empty_dict();
    pickle.mark();
    for (name, entry) in entries {
        pickle.text(name);
        match entry {
            Entry::Texts(texts) => pickle.texts(texts),
            Entry::StateDict(tensors) => pickle.state_dict(tensors, path)?,
        }
    }
    pickle.set_items();
    let Pickler { bytes, storages } = pickle.finish();
    let archive = archive(&bytes, &storages).map_err(|error| TrainError::TorchFile {
        reason: error.to_string(),
        path: path.to_owned(),
    })?;
    write_atomic(path, &archive)
}

fn archive(pickle: &[u8], storages: &[Vec<u8>]) -> ZipResult<Vec<u8>> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let mut add = |name: &str, bytes: &[u8]| -> ZipResult<()> {
        let options = FileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(DateTime::default())
            .large_file(u32::try_from(bytes.len()).is_err());
        archive.start_file_aligned(format!("{ROOT}/{name}"), options, ALIGNMENT)?;
        Ok(archive.write_all(bytes)?)
    };
    add("data.pkl", pickle)?;
    add("byteorder", b"little")?;
    for (key, storage) in storages.iter().enumerate() {
        add(&format!("data/{key}"), storage)?;
    }
    add("version", VERSION)?;
    Ok(archive.finish()?.into_inner())
}

/// A pickle of protocol 2 as it grows, and the storages that it refers to.
#[derive(Debug)]
struct Pickler {
    bytes: Vec<u8>,
    storages: Vec<Vec<u8>>,
}

impl Default for Pickler {
    fn default() -> Self {
        Self {
            bytes: b"\x80\x02".to_vec(),
            storages: Vec::new(),
        }
    }
}

impl Pickler {
    fn empty_dict(&mut self) {
        self.bytes.push(b'}');
    }

    fn mark(&mut self) {
        self.bytes.push(b'(');
    }

    fn set_items(&mut self) {
        self.bytes.push(b'u');
    }

    /// Of what was put since the last mark.
    fn tuple(&mut self) {
        self.bytes.push(b't');
    }

    fn global(&mut self, module: &str, name: &str) {
        self.bytes.extend(format!("c{module}\n{name}\n").as_bytes());
    }

    /// `collections.OrderedDict()`
    fn ordered_dict(&mut self) {
        self.global("collections", "OrderedDict");
        self.bytes.extend(b")R");
    }

    fn text(&mut self, text: &str) {
        self.bytes.push(b'X');
        self.bytes.extend((text.len() as u32).to_le_bytes());
        self.bytes.extend(text.as_bytes());
    }

    fn int(&mut self, value: i64) {
        match (u8::try_from(value), i32::try_from(value)) {
            (Ok(value), _) => self.bytes.extend([b'K', value]),
            (_, Ok(value)) => {
                self.bytes.push(b'J');
                self.bytes.extend(value.to_le_bytes());
            }
            _ => {
                self.bytes.extend(b"\x8a\x08");
                self.bytes.extend(value.to_le_bytes());
            }
        }
    }

    fn ints(&mut self, values: &[i64]) {
        self.mark();
        for &value in values {
            self.int(value);
        }
        self.tuple();
    }

    fn texts(&mut self, texts: &BTreeMap<String, String>) {
        self.empty_dict();
        self.mark();
        for (name, text) in texts {
            self.text(name);
            self.text(text);
        }
        self.set_items();
    }

    fn state_dict(&mut self, tensors: &[(String, Tensor)], path: &Path) -> Result<(), TrainError> {
        self.ordered_dict();
        self.mark();
        for (name, tensor) in tensors {
            let storage = storage_of(tensor.kind()).ok_or_else(|| TrainError::TorchFile {
                reason: format!("'{name}' is of type {:?}, which is not written", tensor.kind()),
                path: path.to_owned(),
            })?;
            self.text(name);
            self.tensor(tensor, storage)?;
        }
        self.set_items();
        Ok(())
    }

    /// `torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, backward_hooks)`
    fn tensor(&mut self, tensor: &Tensor, storage: &str) -> Result<(), TrainError> {
        let size = tensor.size();
        self.global("torch._utils", "_rebuild_tensor_v2");
        self.mark();
        self.mark();
        self.text("storage");
        self.global("torch", storage);
        self.text(&self.storages.len().to_string());
        self.text("cpu");
        self.int(tensor.numel() as i64);
        self.tuple();
        self.bytes.push(b'Q');
        self.int(0);
        self.ints(&size);
        self.ints(&row_major(&size));
        self.bytes.push(b'\x89');
        self.ordered_dict();
        self.tuple();
        self.bytes.push(b'R');
        self.storages.push(bytes_of(tensor)?);
        Ok(())
    }

    fn finish(mut self) -> Self {
        self.bytes.push(b'.');
        self
    }
}

/// Steps from element to element along each axis.
fn row_major(size: &[i64]) -> Vec<i64> {
    let mut strides = vec![1; size.len()];
    for axis in (1..size.len()).rev() {
        strides[axis - 1] = strides[axis] * size[axis].max(1);
    }
    strides
}

fn storage_of(kind: Kind) -> Option<&'static str> {
    Some(match kind {
        Kind::Float => "FloatStorage",
        Kind::Double => "DoubleStorage",
        Kind::Half => "HalfStorage",
        Kind::BFloat16 => "BFloat16Storage",
        Kind::Int64 => "LongStorage",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::weights::torch_file;
    use tch::Device;

    #[test]
    fn what_is_written_is_read_and_has_the_same_bytes_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pth");
        tch::manual_seed(1);
        let matrix = Tensor::randn([3, 300], (Kind::Float, Device::Cpu));
        let tensors = || {
            vec![
                (String::from("layer.weight"), matrix.transpose(0, 1)),
                (String::from("half"), matrix.to_kind(Kind::Half)),
                (String::from("bf16"), matrix.to_kind(Kind::BFloat16)),
                (String::from("double"), matrix.to_kind(Kind::Double)),
                (String::from("count"), Tensor::from(70_000_i64)),
                (String::from("empty"), matrix.narrow(0, 0, 0)),
            ]
        };
        let notes = BTreeMap::from([(String::from("by"), String::from("a test"))]);
        let write = || {
            let entries = [
                (String::from("model"), Entry::StateDict(tensors())),
                (String::from("notes"), Entry::Texts(notes.clone())),
            ];
            write_dict(&path, &entries).unwrap();
            std::fs::read(&path).unwrap()
        };
        let bytes = write();
        assert!(bytes == write(), "the same bytes");
        let read = torch_file::read(&path).unwrap();
        assert_eq!(read.passed_over, [""; 0], "nothing is foreign");
        assert_eq!(read.tensors.len(), 6, "{:?}", read.tensors.keys());
        for (name, tensor) in tensors() {
            let found = &read.tensors[&format!("model.{name}")];
            assert_eq!(
                (found.kind(), found.size()),
                (tensor.kind(), tensor.size()),
                "{name}"
            );
            assert!(*found == tensor.contiguous(), "{name}");
        }
        assert!(
            torch_file::says(&path, &["notes", "by"], "a test").unwrap(),
            "the text"
        );
        assert!(
            !torch_file::says(&path, &["notes", "by"], "another").unwrap(),
            "no other"
        );
        assert_eq!(row_major(&[2, 3, 4]), [12, 4, 1]);
        let uint8 = vec![(String::from("mask"), matrix.to_kind(Kind::Uint8))];
        let error = write_dict(&path, &[(String::from("model"), Entry::StateDict(uint8))]);
        assert!(
            error.unwrap_err().to_string().contains("'mask'"),
            "no place for it"
        );
        assert!(bytes == std::fs::read(&path).unwrap(), "and nothing is written");
    }
}
