//! Gives the program and its tests an rpath to libtorch, so that they start without an exported variable, and notes
//! the version of the libtorch that they are built with.

use std::path::{Path, PathBuf};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    let Some(libtorch_lib) = std::env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from) else {
        return;
    };
    // The link in the checkout may move with it; the folder it points to does not.
    let libtorch_lib = libtorch_lib.canonicalize().unwrap_or(libtorch_lib);
    if std::env::var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family == "unix") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}", libtorch_lib.display());
    }
    if let Some(version) = libtorch_lib.parent().and_then(version) {
        println!("cargo:rustc-env=TAP_LIBTORCH_VERSION={version}");
    }
}

/// The version that the headers of a libtorch state, as in `#define TORCH_VERSION_MAJOR 2`.
fn version(libtorch: &Path) -> Option<String> {
    let headers = [
        "include/torch/headeronly/version.h",
        "include/torch/csrc/api/include/torch/version.h",
    ];
    headers.iter().find_map(|header| {
        let text = std::fs::read_to_string(libtorch.join(header)).ok()?;
        let part = |name| {
            let value = text
                .lines()
                .find_map(|line| line.strip_prefix("#define TORCH_VERSION_")?.strip_prefix(name));
            value.map(str::trim)
        };
        Some(format!(
            "{}.{}.{}",
            part("MAJOR ")?,
            part("MINOR ")?,
            part("PATCH ")?
        ))
    })
}
