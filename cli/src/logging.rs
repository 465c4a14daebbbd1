//! The libraries' log, on stderr.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;

/// The variables that filter the log, for example `TAP_LOG=tap_render=debug`; the first that is set counts.
const VARIABLES: [&str; 2] = ["TAP_LOG", "RUST_LOG"];

/// Starts the log; warnings and errors are shown unless a variable says otherwise. Call it once.
pub fn start() {
    let filter = VARIABLES
        .iter()
        .find_map(|variable| EnvFilter::try_from_env(variable).ok())
        .unwrap_or_else(|| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        // A log in a file has no escape codes.
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .init();
}
