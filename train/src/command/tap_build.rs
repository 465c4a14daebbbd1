//! `tap dataset build` as a child process, for meshes that are no data set: this program has no renderer and no mesh readers.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use tap_cli::program;

/// Commands that build `tap`.
const REMEDY: &str = "cargo build --release";

/// Builds the data set `out` of meshes with these arguments.
///
/// # Errors
/// Where `tap` is not there, or what it says of the meshes.
pub(super) fn build<'a>(
    meshes: &Path,
    out: &Path,
    arguments: impl IntoIterator<Item = &'a OsStr>,
) -> anyhow::Result<()> {
    let tap = program::find("tap").with_context(|| {
        format!(
            "meshes are read by the program tap, which is neither beside tap-train nor on PATH; build it: {REMEDY}"
        )
    })?;
    let output = Command::new(&tap)
        .args(["dataset", "build"])
        .arg(meshes)
        .arg("--out")
        .arg(out)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("could not start {}", tap.display()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let mut lines = said.lines().filter(|line| !line.trim().is_empty());
    let error = lines.clone().find_map(|line| line.strip_prefix("error: "));
    let reason = error.or(lines.next_back()).unwrap_or("no reason given");
    anyhow::bail!("tap dataset build: {reason}");
}
