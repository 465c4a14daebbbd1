//! Ctrl-C: the first one asks for a clean end, the second one ends the program at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

/// What a shell calls a program that Ctrl-C ended.
pub(crate) const EXIT_CODE: u8 = 130;

/// From here on Ctrl-C (and SIGTERM) raises the returned flag.
///
/// # Errors
/// When the system refuses the handler.
pub(crate) fn listen() -> Result<Arc<AtomicBool>> {
    let is_raised = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&is_raised);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::SeqCst) {
            std::process::exit(i32::from(EXIT_CODE));
        }
    })
    .context("could not listen for Ctrl-C")?;
    Ok(is_raised)
}
