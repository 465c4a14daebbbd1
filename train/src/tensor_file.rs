//! Safetensors files: written whole or not at all, with metadata, in a fixed order; read with errors that name the file.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Read as _, Write as _};
use std::path::Path;

use serde_json::{Map, Value, json};
use tch::{Device, Kind, Tensor};

use crate::error::TrainError;

/// The largest header that is read: a network of a hundred thousand tensors.
const MAX_HEADER_BYTES: u64 = 64 << 20;

/// Writes `bytes` under `path` so that the name appears only when all of them are on the disk.
///
/// # Errors
/// Where the file cannot be written.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    write_with(path, |writer| writer.write_all(bytes))
}

fn write_with(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>,
) -> Result<(), TrainError> {
    let partial = path.with_extension(match path.extension() {
        Some(extension) => format!("{}.partial", extension.display()),
        None => String::from("partial"),
    });
    let write = || {
        let mut writer = BufWriter::new(File::create(&partial)?);
        fill(&mut writer)?;
        writer
            .into_inner()
            .map_err(std::io::IntoInnerError::into_error)?
            .sync_all()?;
        fs::rename(&partial, path)
    };
    write().map_err(|error| {
        // What is half-written is of no use; the error to report is the first one.
        let _ = fs::remove_file(&partial);
        TrainError::io("write", path)(error)
    })
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
    let mut header = Map::new();
    header.insert(String::from("__metadata__"), json!(metadata));
    let (mut blobs, mut start) = (Vec::with_capacity(tensors.len()), 0);
    for (name, tensor) in &tensors {
        let tensor = tensor.detach().to_device(Device::Cpu).contiguous();
        let (dtype, width) = match tensor.kind() {
            Kind::Int64 => ("I64", 8),
            Kind::Double => ("F64", 8),
            Kind::Half => ("F16", 2),
            Kind::BFloat16 => ("BF16", 2),
            _ => ("F32", 4),
        };
        let mut bytes = vec![0; tensor.numel() * width];
        tensor
            .f_copy_data_u8(&mut bytes, tensor.numel())
            .map_err(|source| TrainError::Torch {
                action: "copying a tensor out",
                source,
            })?;
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
    write_with(path, |writer| {
        writer.write_all(&(header.len() as u64).to_le_bytes())?;
        writer.write_all(header.as_bytes())?;
        blobs.iter().try_for_each(|blob| writer.write_all(blob))
    })
}

/// Reads all tensors of a file.
///
/// # Errors
/// Where the file cannot be read or is damaged.
pub fn read_tensors(path: &Path) -> Result<BTreeMap<String, Tensor>, TrainError> {
    // The check of the header's length comes first: it is what a damaged file gets wrong.
    read_metadata(path)?;
    let tensors = Tensor::read_safetensors(path).map_err(|error| TrainError::TensorFile {
        reason: error.to_string(),
        path: path.to_owned(),
    })?;
    Ok(tensors.into_iter().collect())
}

/// Reads the metadata of a file.
///
/// # Errors
/// Where the file cannot be read or its header is damaged.
pub fn read_metadata(path: &Path) -> Result<BTreeMap<String, String>, TrainError> {
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
    let mut header = vec![0; length as usize];
    file.read_exact(&mut header)
        .map_err(TrainError::io("read", path))?;
    let header: Map<String, Value> =
        serde_json::from_slice(&header).map_err(|error| damaged(error.to_string()))?;
    let metadata = header.get("__metadata__").and_then(Value::as_object);
    Ok(metadata
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| value.as_str().map(|value| (key.clone(), value.to_owned())))
        .collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

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
}
