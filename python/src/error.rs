//! Errors as Python exceptions: our messages, in the classes that Python has for them.

use std::io;
use std::path::Path;

use pyo3::create_exception;
use pyo3::exceptions::{
    PyFileExistsError, PyFileNotFoundError, PyOSError, PyPermissionError, PyRuntimeError, PyValueError,
};
use pyo3::prelude::*;
use tap_dataset::SkipReason;
use tap_dataset::view_folder::{Failure, ViewFolderError};

create_exception!(
    tap_views,
    MeshError,
    PyValueError,
    "A mesh that can't be rendered. `reason` is a code, one of docs/formats.md, \"Skip reasons\"."
);
create_exception!(
    tap_views,
    RenderError,
    PyRuntimeError,
    "No device can render, or it has failed."
);
create_exception!(
    tap_views,
    DatasetError,
    PyValueError,
    "A data set that is damaged or incomplete, or has not what is asked for; a folder that can't become one."
);

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// The `ValueError` of a setting.
pub(crate) fn value_error(error: &dyn std::error::Error) -> PyErr {
    PyValueError::new_err(chain(error))
}

/// What the system refused, if that is the cause: a subclass of `OSError`.
fn os_error(error: &(dyn std::error::Error + 'static), message: &str) -> Option<PyErr> {
    let mut causes = std::iter::successors(Some(error), |cause| cause.source());
    let kind = causes.find_map(|cause| cause.downcast_ref::<io::Error>())?.kind();
    let message = message.to_owned();
    Some(match kind {
        io::ErrorKind::NotFound => PyFileNotFoundError::new_err(message),
        io::ErrorKind::PermissionDenied => PyPermissionError::new_err(message),
        io::ErrorKind::AlreadyExists => PyFileExistsError::new_err(message),
        _ => PyOSError::new_err(message),
    })
}

pub(crate) fn dataset_error(error: &tap_dataset::DatasetError) -> PyErr {
    let message = chain(error);
    if let Some(error) = os_error(error, &message) {
        return error;
    }
    match error {
        tap_dataset::DatasetError::Render(_) => RenderError::new_err(message),
        tap_dataset::DatasetError::Recipe(_)
        | tap_dataset::DatasetError::Name(_)
        | tap_dataset::DatasetError::Derive(_)
        | tap_dataset::DatasetError::Stream(_) => PyValueError::new_err(message),
        _ => DatasetError::new_err(message),
    }
}

/// Of files that hold rigs.
pub(crate) fn view_folder_error(error: &ViewFolderError) -> PyErr {
    let message = chain(error);
    os_error(error, &message).unwrap_or_else(|| PyValueError::new_err(message))
}

pub(crate) fn render_error(error: &tap_render::RenderError) -> PyErr {
    match error {
        tap_render::RenderError::Object(_) => mesh_error(SkipReason::RenderFailed.to_string(), chain(error)),
        _ => RenderError::new_err(chain(error)),
    }
}

/// Why a file is no mesh; `path` is as the caller gave it.
pub(crate) fn failure(path: &Path, failure: Failure) -> PyErr {
    let Failure { reason, message } = failure;
    let message = format!("{message}: {}", path.display());
    if reason == SkipReason::Missing.to_string() {
        PyFileNotFoundError::new_err(message)
    } else if reason == SkipReason::Unreadable.to_string() {
        PyOSError::new_err(message)
    } else {
        mesh_error(reason, message)
    }
}

/// A [`MeshError`] with its reason.
pub(crate) fn mesh_error(reason: String, message: String) -> PyErr {
    Python::attach(|py| {
        let error = MeshError::new_err(message);
        match error.value(py).setattr("reason", reason) {
            Ok(()) => error,
            Err(other) => other,
        }
    })
}
