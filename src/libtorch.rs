//! Finds libtorch and its version without loading it, for the time before the trainer is built.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// Version that tch 0.24.0 needs.
pub(crate) const EXPECTED_VERSION: &str = "2.11.0";

/// A libtorch on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Libtorch {
    pub(crate) path: PathBuf,
    /// From its headers.
    pub(crate) version: Option<String>,
    pub(crate) has_cuda: bool,
}

/// The libtorch that a build would be linked to: `LIBTORCH`, or else `.libtorch` in the checkout, from `make setup`.
pub(crate) fn find() -> Option<Libtorch> {
    let from_environment = env::var_os("LIBTORCH").map(PathBuf::from);
    let program = env::current_exe().unwrap_or_default();
    let folders = env::current_dir()
        .into_iter()
        .chain(program.ancestors().map(Path::to_owned));
    let in_checkout = folders.map(|folder| folder.join(".libtorch"));
    from_environment
        .into_iter()
        .chain(in_checkout)
        .find_map(|path| Libtorch::open(&path))
}

impl Libtorch {
    fn open(path: &Path) -> Option<Self> {
        let path = path.canonicalize().ok()?;
        let lib = path.join("lib");
        let has = |stem: &str| {
            ["so", "dylib"]
                .iter()
                .any(|suffix| lib.join(format!("{stem}.{suffix}")).exists())
        };
        if !has("libtorch_cpu") {
            return None;
        }
        let header = fs::read_to_string(path.join("include/torch/headeronly/version.h")).unwrap_or_default();
        Some(Self {
            version: version_in_header(&header),
            has_cuda: has("libtorch_cuda"),
            path,
        })
    }
}

fn version_in_header(header: &str) -> Option<String> {
    let number = |name: &str| {
        let define = format!("#define TORCH_VERSION_{name} ");
        header
            .lines()
            .find_map(|line| line.strip_prefix(&define))
            .map(str::trim)
    };
    Some(format!(
        "{}.{}.{}",
        number("MAJOR")?,
        number("MINOR")?,
        number("PATCH")?
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_the_header() {
        let header = "#pragma once\n#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR 11\n\
                      #define TORCH_VERSION_PATCH 0\n#define TORCH_VERSION_ABI_TAG 0\n";
        assert_eq!(version_in_header(header).as_deref(), Some("2.11.0"));
        assert_eq!(version_in_header("#pragma once"), None);
    }
}
