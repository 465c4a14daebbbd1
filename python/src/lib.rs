//! The Python package `tap_views`: meshes to views, and shards to samples, as NumPy arrays.
//!
//! It converts arguments and results; the work is done by `tap-render` and `tap-dataset`, without the interpreter's lock.
//! `tap_views/__init__.py` beside it is what users import; `tap_views/_native.pyi` has the types.
//!
//! | Python | is |
//! |---|---|
//! | `render`, `Renderer` | `mesh` in, `renderer`, `views` out |
//! | `build`, `relight`; `begin_build`, ... in `units` | a function of `tap-dataset`, run by `work`: progress, and Ctrl-C |
//! | `Dataset` (in Python) | `dataset`, whose rows become dictionaries in `row` |

#![allow(clippy::doc_markdown, reason = "much of it is docstrings of Python")]
#![allow(
    clippy::needless_pass_by_value,
    reason = "arguments come from Python as values"
)]

mod array;
mod build;
mod dataset;
mod error;
mod mesh;
mod relight;
mod renderer;
mod row;
mod settings;
mod threads;
mod units;
mod views;
mod work;

/// What `tap_views/__init__.py` imports.
#[pyo3::pymodule]
#[pyo3(name = "_native")]
mod native {
    #[pymodule_export]
    use super::build::build;
    #[pymodule_export]
    use super::dataset::{RowStream, Rows};
    #[pymodule_export]
    use super::error::{DatasetError, MeshError, RenderError};
    #[pymodule_export]
    use super::relight::relight;
    #[pymodule_export]
    use super::renderer::{Renderer, adapters, render};
    #[pymodule_export]
    use super::units::{begin_build, build_status, build_unit, finish_build, try_unit};
    #[pymodule_export]
    use super::views::Views;

    /// Version of the package.
    #[pymodule_export]
    #[allow(non_upper_case_globals, reason = "its name in Python")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
