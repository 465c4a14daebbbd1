//! What a command that runs others was asked for, in `request.toml` of its folder.

use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tap_train::run::request::REQUEST_FILE;
use tap_train::weights::safetensors::write_atomic;

/// The request in a folder; none where there is no such file. Errors call it the request of `what`.
pub(super) fn read<T: DeserializeOwned>(folder: &Path, what: &str) -> anyhow::Result<Option<T>> {
    let path = folder.join(REQUEST_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let request = toml::from_str(&text).map_err(|error| {
        anyhow::anyhow!(
            "not the request of {what} ({}): {}",
            error.message(),
            path.display()
        )
    })?;
    Ok(Some(request))
}

/// Writes a request into its folder.
pub(super) fn write(request: &impl Serialize, folder: &Path) -> anyhow::Result<()> {
    let text = toml::to_string(request).context("the request does not fit into TOML")?;
    Ok(write_atomic(&folder.join(REQUEST_FILE), text.as_bytes())?)
}
