//! Long work on a thread of its own, while Python's thread shows its progress and listens for Ctrl-C.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, unbounded};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tap_dataset::{BuildEvent, DatasetError, ObjectId};

use crate::error::dataset_error;

/// How often Ctrl-C is looked for.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(50);

/// Runs `work`, which stops soon after the flag that it is given is set, and calls `progress` with each event as a dictionary.
///
/// # Errors
/// What `progress` raises, and `KeyboardInterrupt`; the work has stopped by then. Else what the work fails with.
pub(crate) fn run<T: Send>(
    py: Python<'_>,
    progress: Option<&Bound<'_, PyAny>>,
    work: impl FnOnce(&AtomicBool, &mut dyn FnMut(BuildEvent)) -> Result<T, DatasetError> + Send,
) -> PyResult<T> {
    let cancel = AtomicBool::new(false);
    let (sender, events) = unbounded();
    thread::scope(|scope| {
        let flag = &cancel;
        let worker = scope.spawn(move || {
            work(flag, &mut |event| {
                // Nobody listens once Python has raised an exception.
                let _ = sender.send(event);
            })
        });
        let mut raised = None;
        loop {
            let seen = match py.detach(|| events.recv_timeout(SIGNAL_INTERVAL)) {
                // The work has dropped its end.
                Err(RecvTimeoutError::Disconnected) => break,
                _ if raised.is_some() => Ok(()),
                Ok(event) => show(py, progress, event).and_then(|()| py.check_signals()),
                Err(RecvTimeoutError::Timeout) => py.check_signals(),
            };
            if let Err(error) = seen {
                flag.store(true, Ordering::Relaxed);
                raised = Some(error);
            }
        }
        let done = py.detach(|| worker.join());
        match (raised, done) {
            (Some(error), _) => Err(error),
            (None, Ok(done)) => done.map_err(|error| dataset_error(&error)),
            (None, Err(_)) => Err(PyRuntimeError::new_err("a thread of the work has panicked")),
        }
    })
}

fn show(py: Python<'_>, progress: Option<&Bound<'_, PyAny>>, event: BuildEvent) -> PyResult<()> {
    let Some(progress) = progress else { return Ok(()) };
    progress.call1((as_dict(py, event)?,))?;
    Ok(())
}

/// `kind` and what belongs to it.
fn as_dict(py: Python<'_>, event: BuildEvent) -> PyResult<Bound<'_, PyDict>> {
    let dict = PyDict::new(py);
    let kind = match event {
        BuildEvent::Started { total, adapter } => {
            dict.set_item("total", total)?;
            dict.set_item("adapter", adapter)?;
            "started"
        }
        BuildEvent::Resumed { objects } => {
            dict.set_item("objects", objects)?;
            "resumed"
        }
        BuildEvent::ShardDamaged { file } => {
            dict.set_item("file", file)?;
            "shard_damaged"
        }
        BuildEvent::SourceChanged { objects, num_shards } => {
            let ids: Vec<&str> = objects.iter().map(ObjectId::as_str).collect();
            dict.set_item("ids", ids)?;
            dict.set_item("num_shards", num_shards)?;
            "source_changed"
        }
        BuildEvent::Done { id } => {
            dict.set_item("id", id.as_str())?;
            "done"
        }
        BuildEvent::Warned { id, warnings } => {
            dict.set_item("id", id.as_str())?;
            dict.set_item("warnings", warnings)?;
            "warned"
        }
        BuildEvent::Skipped { id, reason, message } => {
            dict.set_item("id", id)?;
            dict.set_item("reason", reason.to_string())?;
            dict.set_item("message", message)?;
            dict.set_item("is_failure", reason.is_failure())?;
            "skipped"
        }
        BuildEvent::ShardWritten { file, rows, bytes } => {
            dict.set_item("file", file)?;
            dict.set_item("rows", rows)?;
            dict.set_item("bytes", bytes)?;
            "shard_written"
        }
        _ => "other",
    };
    dict.set_item("kind", kind)?;
    Ok(dict)
}
