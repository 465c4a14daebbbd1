//! The README's first run works as it stands: its lines, in order, in an empty folder.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod util;

use std::env;
use std::path::Path;

use util::{Outcome, TestDir, has_trainer};

/// The block of commands that is run, by the line above it.
const HEADING: &str = "## Use";

#[test]
fn the_first_run_works_line_by_line() {
    if !has_trainer() {
        return;
    }
    let readme = include_str!("../README.md");
    let section = readme.split_once(HEADING).unwrap().1;
    let block = section.split("```").nth(1).unwrap();
    let lines: Vec<&str> = block.lines().filter(|line| !line.trim().is_empty()).collect();
    assert!(lines.len() >= 5, "the block holds the whole first run: {lines:?}");
    let place = TestDir::new();
    let programs = Path::new(env!("CARGO_BIN_EXE_tap")).parent().unwrap();
    let path = env::join_paths(
        std::iter::once(programs.to_owned()).chain(env::split_paths(&env::var_os("PATH").unwrap())),
    )
    .unwrap();
    for line in lines {
        let mut command = std::process::Command::new("sh");
        command
            .args(["-c", line])
            .env("PATH", &path)
            .current_dir(place.path(""));
        let outcome = Outcome::of(&mut command);
        assert_eq!(outcome.code, Some(0), "{line}\n{outcome:#?}");
    }
}
