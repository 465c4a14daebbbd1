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

/// Splits a GLB into its JSON and its binary chunk; anything else is treated as JSON.
pub(super) fn split(bytes: &[u8]) -> Result<(&[u8], Option<&[u8]>), ImportError> {
    let Some(rest) = bytes.strip_prefix(b"glTF") else {
        return Ok((bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes), None));
    };
    let (version, rest) = split_u32(rest)?;
    if version != 2 {
        return Err(file_error("its container version is not 2"));
    }
    let (_length, mut rest) = split_u32(rest)?;
    let (mut json, mut blob) = (None, None);
    while !rest.is_empty() {
        let (length, after) = split_u32(rest)?;
        let (kind, after) = after.split_at_checked(4).ok_or_else(truncated)?;
        let (chunk, after) = after.split_at_checked(length as usize).ok_or_else(truncated)?;
        match kind {
            b"JSON" => json = json.or(Some(chunk)),
            b"BIN\0" => blob = blob.or(Some(chunk)),
            _ => {}
        }
        // Some writers add a few bytes of padding after the last chunk.
        rest = if after.len() < 8 { &[] } else { after };
    }
    Ok((json.ok_or_else(|| file_error("it has no JSON chunk"))?, blob))
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
    let data = uri.strip_prefix("data:")?;
    let (kind, data) = data.split_once(',').unwrap_or_default();
    if !kind.ends_with(";base64") {
        return Some(Err(file_error("a data URI is not base64")));
    }
    let padding = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let bytes = GeneralPurpose::new(&STANDARD, padding).decode(data);
    Some(bytes.map_err(|_| file_error("a data URI is not valid base64")))
}

/// `my%20mesh.bin` to `my mesh.bin`; malformed escapes stay as they are.
pub(super) fn percent_decode(uri: &str) -> String {
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
    String::from_utf8(bytes).unwrap_or_else(|_| uri.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

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
