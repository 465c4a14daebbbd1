//! Safetensors files: written atomically, with metadata and in a fixed order; errors name the file.
//!
//! A file that is written here carries its own SHA-256 in its metadata (`tap_sha256`, computed with 64 zeros in its
//! place), so that corruption is detected on reading. Files without a hash are read without this check.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write as _};
use std::path::Path;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use tap_dataset::atomic_file::AtomicFile;
use tap_dataset::sha256::hex;
use tch::{Device, Kind, Tensor};

use crate::error::TrainError;

/// The metadata key of a file's own hash.
const HASH_KEY: &str = "tap_sha256";
/// Stands for the hash while it is computed: 64 zeros.
pub(crate) const NO_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The largest header that is read: a network of a hundred thousand tensors.
const MAX_HEADER_BYTES: u64 = 64 << 20;

/// Writes a file atomically: it has its name only after all bytes are on the disk.
///
/// # Errors
/// Where the file cannot be written.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    write_with(path, |writer| writer.write_all(bytes))
}

fn write_with(
    path: &Path,
    fill: impl FnOnce(&mut AtomicFile) -> std::io::Result<()>,
) -> Result<(), TrainError> {
    let write = || {
        let mut file = AtomicFile::create(path)?;
        fill(&mut file)?;
        file.finish()
    };
    write().map_err(TrainError::io("write", path))
}

/// Writes tensors, sorted by name, and metadata.
///
/// # Errors
/// Where the file cannot be written.
pub fn write_tensors(
    path: &Path,
    tensors: Vec<(String, Tensor)>,
    metadata: &BTreeMap<String, String>,
) -> Result<(), TrainError> {
    let mut tensors = tensors;
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let mut metadata = metadata.clone();
    metadata.insert(String::from(HASH_KEY), String::from(NO_HASH));
    let mut header = Map::new();
    header.insert(String::from("__metadata__"), json!(metadata));
    let (mut blobs, mut start) = (Vec::with_capacity(tensors.len()), 0);
    for (name, tensor) in &tensors {
        let dtype = match tensor.kind() {
            Kind::Int64 => "I64",
            Kind::Double => "F64",
            Kind::Half => "F16",
            Kind::BFloat16 => "BF16",
            _ => "F32",
        };
        let bytes = bytes_of(tensor)?;
        header.insert(
            name.clone(),
            json!({"dtype": dtype, "shape": tensor.size(), "data_offsets": [start, start + bytes.len()]}),
        );
        start += bytes.len();
        blobs.push(bytes);
    }
    let mut header = Value::Object(header).to_string();
    // The data begins on an 8-byte boundary.
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    let length = (header.len() as u64).to_le_bytes();
    let mut hash = Sha256::new_with_prefix(length);
    hash.update(&header);
    for blob in &blobs {
        hash.update(blob);
    }
    let entry = |hash: &str| format!("\"{HASH_KEY}\":\"{hash}\"");
    let header = header.replacen(&entry(NO_HASH), &entry(&hex(&hash.finalize())), 1);
    write_with(path, |writer| {
        writer.write_all(&length)?;
        writer.write_all(header.as_bytes())?;
        blobs.iter().try_for_each(|blob| writer.write_all(blob))
    })
}

/// The numbers of a tensor in row-major order, little-endian.
///
/// # Errors
/// Where torch cannot copy it.
pub(crate) fn bytes_of(tensor: &Tensor) -> Result<Vec<u8>, TrainError> {
    let tensor = tensor.detach().to_device(Device::Cpu).contiguous();
    let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor
        .f_copy_data_u8(&mut bytes, tensor.numel())
        .map_err(|source| TrainError::Torch {
            action: "copying a tensor out",
            source,
        })?;
    Ok(bytes)
}

/// Reads all tensors of a file.
///
/// # Errors
/// Where the file cannot be read or is damaged: a file that carries its hash is checked against it.
pub fn read_tensors(path: &Path) -> Result<BTreeMap<String, Tensor>, TrainError> {
    // The check of the header's length comes first: it is what a damaged file gets wrong.
    check_hash_of(path)?;
    let tensors = Tensor::read_safetensors(path).map_err(|error| TrainError::TensorFile {
        reason: error.to_string(),
        path: path.to_owned(),
    })?;
    Ok(tensors.into_iter().collect())
}

/// Reads all tensors of a file, as weights: they have to be finite.
///
/// # Errors
/// As for [`read_tensors`], or where a number is infinite or not a number; its tensor is named.
pub fn read_weights(path: &Path) -> Result<BTreeMap<String, Tensor>, TrainError> {
    let tensors = read_tensors(path)?;
    match first_non_finite(&tensors) {
        Some(name) => Err(TrainError::NonFiniteWeights {
            name: name.clone(),
            path: path.to_owned(),
        }),
        None => Ok(tensors),
    }
}

/// The name of a tensor that is not finite, if there is one.
pub(crate) fn first_non_finite<'a, N>(tensors: impl IntoIterator<Item = (N, &'a Tensor)>) -> Option<N> {
    tensors
        .into_iter()
        .find(|(_, tensor)| !is_finite(tensor))
        .map(|(name, _)| name)
}

/// Whether all its values are finite.
pub(crate) fn is_finite(tensor: &Tensor) -> bool {
    tensor.isfinite().all().int64_value(&[]) == 1
}

/// Reads the metadata of a file, its hash left out.
///
/// # Errors
/// Where the file cannot be read or its header is damaged.
pub fn read_metadata(path: &Path) -> Result<BTreeMap<String, String>, TrainError> {
    let mut metadata = Header::read(path)?.metadata;
    metadata.remove(HASH_KEY);
    Ok(metadata)
}

/// The header of a file, whose read position is then behind it.
struct Header {
    file: File,
    text: String,
    metadata: BTreeMap<String, String>,
}

impl Header {
    fn read(path: &Path) -> Result<Self, TrainError> {
        let damaged = |reason: String| TrainError::TensorFile {
            reason,
            path: path.to_owned(),
        };
        let mut file = File::open(path).map_err(TrainError::io("open", path))?;
        let num_bytes = file.metadata().map_err(TrainError::io("open", path))?.len();
        let mut length = [0; 8];
        file.read_exact(&mut length)
            .map_err(|_| damaged(format!("{num_bytes} bytes are no header")))?;
        let length = u64::from_le_bytes(length);
        if length > num_bytes.saturating_sub(8).min(MAX_HEADER_BYTES) {
            return Err(damaged(format!(
                "a header of {length} bytes in a file of {num_bytes}"
            )));
        }
        let mut text = vec![0; length as usize];
        file.read_exact(&mut text).map_err(TrainError::io("read", path))?;
        let text = String::from_utf8(text).map_err(|error| damaged(error.to_string()))?;
        let header: Map<String, Value> =
            serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        let metadata = header.get("__metadata__").and_then(Value::as_object);
        let metadata = metadata
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| value.as_str().map(|value| (key.clone(), value.to_owned())))
            .collect();
        Ok(Self { file, text, metadata })
    }
}

/// Checks that a file has a header, and the hash that it was written with, if it has one.
///
/// # Errors
/// Where it cannot be read or is damaged.
pub(crate) fn check_hash_of(path: &Path) -> Result<(), TrainError> {
    check_hash(path, Header::read(path)?)
}

/// Verifies the hash in a file, if it has one.
fn check_hash(path: &Path, header: Header) -> Result<(), TrainError> {
    let Header {
        mut file,
        text,
        metadata,
    } = header;
    let Some(expected) = metadata.get(HASH_KEY) else {
        return Ok(());
    };
    let mut hash = Sha256::new_with_prefix((text.len() as u64).to_le_bytes());
    hash.update(text.replacen(expected, NO_HASH, 1));
    update_to_end(&mut hash, &mut file).map_err(TrainError::io("read", path))?;
    if *expected == hex(&hash.finalize()) {
        return Ok(());
    }
    Err(TrainError::TensorFile {
        reason: String::from("its SHA-256 is not the one that it was written with"),
        path: path.to_owned(),
    })
}

/// SHA-256 of a file, in hexadecimal.
///
/// # Errors
/// Where it cannot be read.
pub fn file_sha256(path: &Path) -> Result<String, TrainError> {
    let mut file = File::open(path).map_err(TrainError::io("open", path))?;
    let mut hash = Sha256::new();
    update_to_end(&mut hash, &mut file).map_err(TrainError::io("read", path))?;
    Ok(hex(&hash.finalize()))
}

fn update_to_end(hash: &mut Sha256, file: &mut File) -> std::io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            count => hash.update(&buffer[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::fs;

    use super::*;

    #[test]
    fn tensors_and_metadata_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let weight = Tensor::from_slice(&[1.0_f32, -2.5, 3.0, 4.0, 5.0, 6.0]).view([2, 3]);
        let count = Tensor::from(7_i64);
        let metadata = BTreeMap::from([(String::from("made_by"), String::from("a test"))]);
        write_tensors(
            &path,
            vec![
                (String::from("b.count"), count),
                (String::from("a.weight"), weight.transpose(0, 1)),
            ],
            &metadata,
        )
        .unwrap();
        let tensors = read_tensors(&path).unwrap();
        assert_eq!(
            tensors["a.weight"],
            weight.transpose(0, 1),
            "a transposed view is written in its own order"
        );
        assert_eq!(tensors["b.count"].int64_value(&[]), 7, "a scalar");
        assert_eq!(read_metadata(&path).unwrap(), metadata, "metadata");
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            1,
            "no partial file is left"
        );
    }

    #[test]
    fn damaged_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        for bytes in [
            &b""[..],
            b"abc",
            &[255; 64],
            &[
                8, 0, 0, 0, 0, 0, 0, 0, b'{', b'"', b'a', b'"', b':', b'1', b'}', b' ',
            ],
        ] {
            fs::write(&path, bytes).unwrap();
            let error = read_tensors(&path).unwrap_err();
            assert!(error.to_string().ends_with("a.safetensors"), "{error}");
        }
    }

    #[test]
    fn a_changed_byte_is_found_wherever_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let metadata = BTreeMap::from([(String::from("classes"), String::from("[\"ball\"]"))]);
        let tensor = Tensor::from_slice(&[1.0_f32, -2.5]);
        write_tensors(&path, vec![(String::from("a"), tensor)], &metadata).unwrap();
        let whole = fs::read(&path).unwrap();
        // In the key's own name the hash is lost, and nothing else.
        let key = whole
            .windows(10)
            .position(|bytes| bytes == b"tap_sha256")
            .unwrap();
        for place in (0..whole.len()).filter(|place| !(key..key + 10).contains(place)) {
            let mut changed = whole.clone();
            changed[place] ^= 1;
            fs::write(&path, &changed).unwrap();
            assert!(read_tensors(&path).is_err(), "byte {place} of {}", whole.len());
        }
        // A file of an earlier version, or of another program.
        Tensor::write_safetensors(&[("a", Tensor::from_slice(&[2.0_f32]))], &path).unwrap();
        assert_eq!(
            read_tensors(&path).unwrap().len(),
            1,
            "a file without a hash is read"
        );
    }

    #[test]
    fn weights_have_to_be_finite() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let write = |value: f32| {
            let tensors = vec![
                (String::from("count"), Tensor::from(7_i64)),
                (String::from("running_var"), Tensor::from_slice(&[1.0, value])),
            ];
            write_tensors(&path, tensors, &BTreeMap::new()).unwrap();
        };
        write(2.0);
        assert_eq!(read_weights(&path).unwrap().len(), 2, "finite");
        for value in [f32::NAN, f32::INFINITY] {
            write(value);
            let error = read_weights(&path).unwrap_err().to_string();
            assert!(error.contains("'running_var'"), "{error}");
        }
    }
}
