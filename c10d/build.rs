//! Compiles the shim against the headers of libtorch, which must be of the version that it is written for.

use std::path::{Path, PathBuf};
use std::process::exit;

/// c10d's C++ is no stable interface: the shim, and the stubs of gloo's headers, are written for this version.
const LIBTORCH: &str = "2.11";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/shim.cpp");
    println!("cargo:rerun-if-changed=gloo_stub");
    println!("cargo:rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    let Some(lib) = std::env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from) else {
        fail("torch-sys does not say where libtorch lies; run `make setup`, or set LIBTORCH");
    };
    // The link in the checkout may move with it; the folder it points to does not.
    let lib = lib.canonicalize().unwrap_or(lib);
    let include = lib.parent().unwrap_or(&lib).join("include");
    match version(&include) {
        Some(version) if version == LIBTORCH => {}
        Some(version) => fail(&format!(
            "tap-c10d is written for libtorch {LIBTORCH}, whose C++ interface of c10d is no stable one, and this is {version}; build with libtorch {LIBTORCH}, or without the feature `distributed`: {}",
            include.display()
        )),
        None => fail(&format!(
            "no headers of libtorch, which tap-c10d is compiled against: {}",
            include.display()
        )),
    }
    cc::Build::new()
        .cpp(true)
        .std("c++20")
        .define("USE_C10D_GLOO", None)
        .flag("-isystem")
        .flag(&include)
        .flag("-isystem")
        .flag(include.join("torch/csrc/api/include"))
        .flag("-isystem")
        .flag("gloo_stub")
        .file("src/shim.cpp")
        .compile("tap_c10d");
    println!("cargo:rustc-link-search=native={}", lib.display());
    println!("cargo:rustc-link-lib=torch_cpu");
    println!("cargo:rustc-link-lib=c10");
    if std::env::var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family == "unix") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
    }
}

/// Major and minor version that the headers state.
fn version(include: &Path) -> Option<String> {
    let text = std::fs::read_to_string(include.join("torch/headeronly/version.h")).ok()?;
    let part = |name: &str| {
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix("#define TORCH_VERSION_")?.strip_prefix(name));
        value.map(str::trim)
    };
    Some(format!("{}.{}", part("MAJOR ")?, part("MINOR ")?))
}

fn fail(reason: &str) -> ! {
    println!("cargo::error={reason}");
    exit(1);
}
