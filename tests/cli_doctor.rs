//! `tap doctor` and `tap train`: what is here, what is missing, and what mends it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod util;

use std::fs;

use util::{Outcome, TestDir};

#[test]
fn a_machine_without_a_driver_draws_by_itself() {
    let place = TestDir::new();
    let outcome = place.run_with("VK_DRIVER_FILES", "/nonexistent", &["doctor"]);
    assert!(
        outcome.stdout.contains("tap software renderer") && !outcome.stdout.contains("Vulkan"),
        "{outcome:#?}"
    );
}

#[test]
fn the_diagnosis_names_adapter_threads_and_disk() {
    let place = TestDir::new();
    let diagnosis = place.run(&["doctor", "--json"]).json();
    let adapters = diagnosis["rendering"]["adapters"].as_array().unwrap();
    assert!(!adapters.is_empty(), "these tests need an adapter: {diagnosis:#}");
    assert_eq!(diagnosis["rendering"]["used"], adapters[0]["name"]);
    assert_eq!(diagnosis["libtorch"]["expected_version"], "2.11.0");
    assert!(diagnosis["threads"].as_u64().unwrap() > 0, "{diagnosis:#}");
    let missing = diagnosis["missing"].as_array().unwrap();
    assert_eq!(
        diagnosis["ok"],
        missing.is_empty(),
        "ok if and only if nothing is missing"
    );
    for missing in missing {
        assert!(
            !missing["remedy"].as_str().unwrap().is_empty(),
            "every lack has its remedy: {missing}"
        );
    }
}

/// A copy of the program with nothing beside it.
#[test]
fn without_the_trainer_it_is_said_how_to_build_it() {
    let place = TestDir::new();
    let tap = place.path("tap");
    fs::copy(env!("CARGO_BIN_EXE_tap"), &tap).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(&tap);
        Outcome::of(
            command
                .args(arguments)
                .current_dir(place.path(""))
                .env("PATH", "/nonexistent")
                .env_remove("LIBTORCH"),
        )
    };
    run(&["train", "pretrain", "--data", "data"])
        .fails_with(&["tap-train", "cargo build --release --package tap-train"]);
    let outcome = run(&["doctor"]);
    assert_eq!(
        outcome.code,
        Some(1),
        "the main job needs the trainer: {outcome:#?}"
    );
    assert!(
        outcome.stdout.contains("libtorch    none (expected 2.11.0)"),
        "{outcome:#?}"
    );
    assert!(outcome.stdout.contains("make setup"), "{outcome:#?}");
}

/// A trainer that does not start, as without its libtorch.
#[cfg(unix)]
#[test]
fn a_trainer_that_does_not_start_is_named_with_its_reason() {
    use std::os::unix::fs::PermissionsExt;
    let place = TestDir::new();
    let tap = place.path("tap");
    fs::copy(env!("CARGO_BIN_EXE_tap"), &tap).unwrap();
    let trainer = place.write(
        "tap-train",
        "#!/bin/sh\necho 'cannot open libtorch_cpu.so' >&2\nexit 127\n",
    );
    fs::set_permissions(&trainer, fs::Permissions::from_mode(0o755)).unwrap();
    let outcome = Outcome::of(
        std::process::Command::new(&tap)
            .arg("doctor")
            .current_dir(place.path("")),
    );
    assert_eq!(outcome.code, Some(1), "{outcome:#?}");
    assert!(
        outcome.stdout.contains("cannot open libtorch_cpu.so"),
        "{outcome:#?}"
    );
    assert!(outcome.stdout.contains("make setup"), "{outcome:#?}");
}
