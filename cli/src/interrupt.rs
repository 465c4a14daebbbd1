//! Ctrl-C and SIGTERM: the first one asks for a clean end, the second one ends the program at once. A program that
//! starts others of its kind passes the request on.

use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

use crate::exit_code::INTERRUPTED;

/// Installs the handler; the returned flag becomes true at the first signal. Call it once.
///
/// # Errors
/// When the system refuses the handler.
pub fn listen() -> Result<Arc<AtomicBool>> {
    let is_raised = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&is_raised);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::SeqCst) {
            std::process::exit(i32::from(INTERRUPTED));
        }
    })
    .context("could not listen for Ctrl-C")?;
    Ok(is_raised)
}

/// Starts a command in a process group of its own: Ctrl-C at the terminal then reaches this program alone, which
/// decides what becomes of the other ([`terminate`]).
pub fn start_apart(command: &mut Command) {
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt as _;
        command.process_group(0);
    }
    #[cfg(not(unix))]
    let _ = command;
}

/// Asks a child for a clean end.
pub fn terminate(child: &Child) {
    // A child that has ended needs no signal.
    #[cfg(unix)]
    let _ = rustix::process::kill_process(
        rustix::process::Pid::from_child(child),
        rustix::process::Signal::TERM,
    );
    #[cfg(not(unix))]
    let _ = child;
}

/// Makes this process receive SIGTERM when its parent dies, however it dies; raises the flag if it has died already.
/// Linux alone knows this; elsewhere a process outlives a parent that was killed.
pub fn stop_with_parent(parent_id: u32, is_raised: &AtomicBool) {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
        // Refused for no valid signal.
        let _ = set_parent_process_death_signal(Some(Signal::TERM));
        let is_orphan = getppid()
            .map(Pid::as_raw_nonzero)
            .map(|id| id.get().unsigned_abs())
            != Some(parent_id);
        if is_orphan {
            is_raised.store(true, Ordering::SeqCst);
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (parent_id, is_raised);
}
