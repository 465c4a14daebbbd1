//! Gives the program and its tests an rpath to libtorch, so that they start without an exported variable.

use std::path::PathBuf;

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
}
