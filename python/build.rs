//! Symbols of the interpreter are found when it loads the extension; only the linker of macOS has to be told so.

fn main() {
    pyo3_build_config::add_extension_module_link_args();
}
