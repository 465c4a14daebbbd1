//! Gives the program and its tests an rpath to libtorch, so that they start without an exported variable, and notes
//! the version of the libtorch that they are built with, and the commit of the sources.

#[path = "build/commit.rs"]
mod commit;

use std::path::{Path, PathBuf};

/// Of the sources, for who builds them without their repository; empty for none.
const COMMIT_VARIABLE: &str = "TAP_COMMIT";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=build/commit.rs");
    println!("cargo:rustc-env=TAP_TRAIN_VERSION={}", code_version());
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

/// The version of the package and the commit, as in `0.1.0+3f2a9c01b7de-dirty`.
///
/// Release builds alone ask git: they are what numbers come from, and a commit would otherwise link every test anew.
fn code_version() -> String {
    println!("cargo:rerun-if-env-changed={COMMIT_VARIABLE}");
    let version = env!("CARGO_PKG_VERSION");
    let commit = match std::env::var(COMMIT_VARIABLE) {
        Ok(commit) => Some(commit),
        Err(_) if std::env::var("PROFILE").is_ok_and(|profile| profile == "release") => {
            let package = Path::new(env!("CARGO_MANIFEST_DIR"));
            for path in commit::watched(package) {
                println!("cargo:rerun-if-changed={}", path.display());
            }
            commit::describe(package)
        }
        Err(_) => None,
    };
    match commit.as_deref() {
        None | Some("") => version.to_owned(),
        Some(commit) => format!("{version}+{commit}"),
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
