//! Bytes of a glTF: GLB chunks, data URIs, files beside the document.

use std::borrow::Cow;

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use gltf::buffer::{Buffer, Source, View};

use super::{AssetResolver, ImportError, file_error};

/// Most bytes of all buffers of a document.
const MAX_BUFFER_BYTES: usize = 1 << 31;

/// Length and kind of a chunk, in bytes.
const CHUNK_HEADER_LEN: usize = 8;
/// Kind of the binary chunk.
const BINARY: &[u8] = b"BIN\0";

/// Splits a GLB into its JSON and its binary chunk; anything else is treated as JSON.
///
/// The GLB ends where its header says; what is behind is not read, unless the binary chunk is.
pub(super) fn split(bytes: &[u8]) -> Result<(&[u8], Option<&[u8]>), ImportError> {
    let Some(rest) = bytes.strip_prefix(b"glTF") else {
        return Ok((without_padding(bytes), None));
    };
    let (version, rest) = split_u32(rest)?;
    if version != 2 {
        return Err(file_error("its container version is not 2"));
    }
    let (length, mut rest) = split_u32(rest)?;
    let (mut json, mut blob) = (None, None);
    // Some writers add a few bytes of padding after the last chunk.
    while rest.len() >= CHUNK_HEADER_LEN || (json.is_none() && !rest.is_empty()) {
        let is_behind_end = bytes.len() - rest.len() >= length as usize && json.is_some();
        let is_binary = rest.get(4..CHUNK_HEADER_LEN) == Some(BINARY);
        if is_behind_end && !(is_binary && blob.is_none()) {
            break;
        }
        let (num_bytes, after) = split_u32(rest)?;
        let (kind, after) = after.split_at_checked(4).ok_or_else(truncated)?;
        let (chunk, after) = after.split_at_checked(num_bytes as usize).ok_or_else(truncated)?;
        match kind {
            b"JSON" => json = json.or(Some(without_padding(chunk))),
            BINARY => blob = blob.or(Some(chunk)),
            _ => {}
        }
        rest = after;
    }
    Ok((json.ok_or_else(|| file_error("it has no JSON chunk"))?, blob))
}

/// JSON without a byte-order mark, and without the NULs that some writers fill the chunk up with instead of spaces.
fn without_padding(json: &[u8]) -> &[u8] {
    let json = json.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(json);
    let num_padding = json.iter().rev().take_while(|byte| **byte == 0).count();
    &json[..json.len() - num_padding]
}

fn truncated() -> ImportError {
    file_error("it ends within a chunk")
}

fn split_u32(bytes: &[u8]) -> Result<(u32, &[u8]), ImportError> {
    let (number, rest) = bytes.split_first_chunk().ok_or_else(truncated)?;
    Ok((u32::from_le_bytes(*number), rest))
}

/// Buffers, loaded at their first use: one that only animations use may be missing.
pub(super) struct Buffers<'a> {
    blob: Option<&'a [u8]>,
    assets: &'a dyn AssetResolver,
    loaded: Vec<Option<Cow<'a, [u8]>>>,
    budget_bytes: usize,
    /// The compression extension that the document uses, if any.
    compression: Option<String>,
}

impl<'a> Buffers<'a> {
    pub(super) fn new(
        blob: Option<&'a [u8]>,
        assets: &'a dyn AssetResolver,
        compression: Option<String>,
    ) -> Self {
        Self {
            compression,
            blob,
            assets,
            loaded: Vec::new(),
            budget_bytes: MAX_BUFFER_BYTES,
        }
    }

    /// The files beside the document.
    pub(super) fn assets(&self) -> &'a dyn AssetResolver {
        self.assets
    }

    /// The error for missing data, which names the compression extension if there is one.
    pub(super) fn no_data(&self, problem: &'static str) -> ImportError {
        let name = self.compression.clone();
        name.map_or(file_error(problem), |name| ImportError::Extension { name })
    }

    pub(super) fn view(&mut self, view: &View<'_>) -> Result<&[u8], ImportError> {
        let buffer = view.buffer();
        if self.loaded.len() <= buffer.index() {
            self.loaded.resize(buffer.index() + 1, None);
        }
        if self.loaded[buffer.index()].is_none() {
            let bytes = self.load(&buffer)?;
            self.budget_bytes = self
                .budget_bytes
                .checked_sub(bytes.len())
                .ok_or_else(|| file_error("its buffers hold more than 2 GiB"))?;
            self.loaded[buffer.index()] = Some(bytes);
        }
        let bytes = self.loaded[buffer.index()].as_deref().unwrap_or_default();
        let end = view.offset().checked_add(view.length());
        end.and_then(|end| bytes.get(view.offset()..end))
            .ok_or_else(|| file_error("a buffer is shorter than what is read from it"))
    }

    fn load(&self, buffer: &Buffer<'_>) -> Result<Cow<'a, [u8]>, ImportError> {
        let uri = match buffer.source() {
            // The binary chunk is the first buffer; compression leaves others without bytes.
            Source::Bin => {
                let blob = self.blob.filter(|_| buffer.index() == 0);
                return blob
                    .map(Cow::Borrowed)
                    .ok_or_else(|| self.no_data("a buffer has neither a URI nor a binary chunk"));
            }
            Source::Uri(uri) => uri,
        };
        match data_of_uri(uri) {
            Some(data) => Ok(Cow::Owned(data?)),
            None => Ok(Cow::Owned(self.assets.read(&percent_decode(uri))?)),
        }
    }
}

/// The bytes of a data URI; `None` for the URI of a file.
pub(super) fn data_of_uri(uri: &str) -> Option<Result<Vec<u8>, ImportError>> {
    let data = uri
        .split_at_checked(5)
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("data:"))?
        .1;
    let (kind, data) = data.split_once(',').unwrap_or_default();
    let mut data = percent_decode_bytes(data);
    if !kind.to_ascii_lowercase().ends_with(";base64") {
        return Some(Ok(data));
    }
    data.retain(|byte| !byte.is_ascii_whitespace());
    let padding = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let bytes = GeneralPurpose::new(&STANDARD, padding).decode(data);
    Some(bytes.map_err(|_| file_error("a data URI is not valid base64")))
}

/// `my%20mesh.bin` to `my mesh.bin`; malformed escapes stay as they are.
pub(super) fn percent_decode(uri: &str) -> String {
    String::from_utf8(percent_decode_bytes(uri)).unwrap_or_else(|_| uri.to_owned())
}

fn percent_decode_bytes(uri: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(uri.len());
    let mut rest = uri.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = match (first, after) {
            (b'%', [high, low, ..]) => char::from(*high).to_digit(16).zip(char::from(*low).to_digit(16)),
            _ => None,
        };
        let (byte, after) = match escaped {
            Some((high, low)) => ((16 * high + low) as u8, &after[2..]),
            None => (first, after),
        };
        bytes.push(byte);
        rest = after;
    }
    bytes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn data_uris_of_all_forms() {
        for uri in [
            "data:application/octet-stream;base64,AAEC/w==",
            "data:application/octet-stream;base64,AAEC%2Fw%3D%3D",
            "data:;BASE64,AAEC\n/w",
            "DATA:,%00%01%02%FF",
        ] {
            assert_eq!(data_of_uri(uri).unwrap().unwrap(), [0, 1, 2, 255], "{uri}");
        }
        assert!(data_of_uri("data.bin").is_none());
    }

    #[test]
    fn a_container_ends_where_it_says() {
        let chunk =
            |kind: &[u8], bytes: &[u8]| [&(bytes.len() as u32).to_le_bytes()[..], kind, bytes].concat();
        let (json, binary) = (chunk(b"JSON", b"{}\0\0"), chunk(BINARY, b"1234"));
        let glb = |length: usize, chunks: &[&[u8]]| {
            let head = [b"glTF", &2_u32.to_le_bytes()[..], &(length as u32).to_le_bytes()].concat();
            [head, chunks.concat()].concat()
        };
        let length = 12 + json.len() + binary.len();
        for (length, behind) in [
            (length, 0),
            (length, 3),
            (length, 20),
            (length, 700),
            (0, 0),
            (0, 20),
            (9999, 0),
        ] {
            let bytes = glb(
                length,
                &[&json, &binary, &b"no chunk at all".repeat(50)[..behind]],
            );
            assert_eq!(
                split(&bytes).unwrap(),
                (&b"{}"[..], Some(&b"1234"[..])),
                "{length} {behind}"
            );
        }
        assert!(split(&glb(length, &[&json, &binary[..9]])).is_err());
        assert_eq!(split(b"\xEF\xBB\xBF{} \0").unwrap(), (&b"{} "[..], None));
    }

    #[test]
    fn escapes_in_names() {
        assert_eq!(percent_decode("my%20mesh%2ebin"), "my mesh.bin");
        assert_eq!(percent_decode("100%.bin%"), "100%.bin%");
        assert_eq!(
            percent_decode("%ff.bin"),
            "%ff.bin",
            "what is not UTF-8 is left alone"
        );
    }
}
