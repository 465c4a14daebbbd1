//! A folder is a layer, and its manifest proves it: which crate may depend on which, and who alone may use a
//! heavy crate. The rules stand in the root `Cargo.toml` under `[workspace.metadata.layers]`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// The crates that one workspace crate alone may name, by prefix, and that crate.
const OWNED: [(&str, &str); 11] = [
    ("wgpu", "tap-render"),
    ("arrow", "tap-dataset"),
    ("parquet", "tap-dataset"),
    ("object_store", "tap-dataset"),
    ("tokio", "tap-dataset"),
    ("tch", "tap-train"),
    ("torch-sys", "tap-train"),
    ("clap", "tap-cli"),
    ("indicatif", "tap-cli"),
    ("ctrlc", "tap-cli"),
    ("tracing-subscriber", "tap-cli"),
];
/// The programs: they parse command lines too.
const PROGRAMS: [&str; 2] = ["tap", "tap-train"];

/// What `cargo metadata` says about one member of the workspace.
struct Member {
    name: String,
    dependencies: Vec<Dependency>,
}

struct Dependency {
    name: String,
    is_dev: bool,
    uses_default_features: bool,
    features: Vec<String>,
}

#[test]
fn crates_depend_only_on_the_layers_below_them() {
    let (members, allowed) = workspace();
    let names: BTreeSet<&str> = members.iter().map(|member| member.name.as_str()).collect();
    assert_eq!(
        names,
        allowed.keys().map(String::as_str).collect(),
        "every member has a rule, and every rule a member"
    );
    for member in &members {
        let used: BTreeSet<&str> = member
            .internal(&names)
            .map(|dependency| dependency.name.as_str())
            .collect();
        let allowed: BTreeSet<&str> = allowed[&member.name].iter().map(String::as_str).collect();
        assert!(
            used.is_subset(&allowed),
            "{} uses {used:?}; its layer may use {allowed:?}",
            member.name
        );
    }
}

#[test]
fn the_layers_have_an_order() {
    let (_, allowed) = workspace();
    let mut placed = BTreeSet::new();
    while placed.len() < allowed.len() {
        let next = allowed.iter().find(|(name, below)| {
            !placed.contains(*name) && below.iter().all(|crate_| placed.contains(crate_))
        });
        let (name, _) =
            next.unwrap_or_else(|| panic!("the layers form a cycle; in order so far: {placed:?}"));
        placed.insert(name.clone());
    }
}

#[test]
fn heavy_crates_have_one_owner() {
    let (members, _) = workspace();
    for member in &members {
        for dependency in member.dependencies.iter().filter(|dependency| !dependency.is_dev) {
            let Some((_, owner)) = OWNED
                .iter()
                .find(|(prefix, _)| dependency.name.starts_with(prefix))
            else {
                continue;
            };
            let is_program_parsing = dependency.name == "clap" && PROGRAMS.contains(&member.name.as_str());
            assert!(
                member.name == *owner || is_program_parsing,
                "{} depends on {}, which belongs to {owner} alone",
                member.name,
                dependency.name
            );
        }
    }
}

/// The trainer reads shards with no renderer in its program.
#[test]
fn the_trainer_reads_without_building() {
    let (members, _) = workspace();
    let trainer = members.iter().find(|member| member.name == "tap-train").unwrap();
    let reader = trainer
        .dependencies
        .iter()
        .find(|dependency| dependency.name == "tap-dataset")
        .unwrap();
    assert!(
        !reader.uses_default_features,
        "tap-train asks for tap-dataset's default features"
    );
    assert!(
        !reader.features.iter().any(|feature| feature == "build"),
        "tap-train asks for the feature `build`"
    );

    let tree = cargo(&[
        "tree",
        "--package",
        "tap-train",
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]);
    for line in tree.lines() {
        let is_renderer = line.starts_with("tap-render ") || line.starts_with("wgpu");
        assert!(!is_renderer, "the trainer is built with {line}");
    }
}

fn workspace() -> (Vec<Member>, BTreeMap<String, Vec<String>>) {
    let metadata: Value =
        serde_json::from_str(&cargo(&["metadata", "--format-version", "1", "--no-deps"])).unwrap();
    let members = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(Member::from_metadata)
        .collect();
    let allowed = serde_json::from_value(metadata["metadata"]["layers"].clone()).unwrap();
    (members, allowed)
}

/// The output of a cargo subcommand that needs no network.
fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .args([
            "--offline",
            "--locked",
            "--manifest-path",
            concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
        ])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

impl Member {
    fn from_metadata(package: &Value) -> Self {
        let dependencies = package["dependencies"]
            .as_array()
            .unwrap()
            .iter()
            .map(|dependency| Dependency {
                name: dependency["name"].as_str().unwrap().to_owned(),
                is_dev: dependency["kind"] == "dev",
                uses_default_features: dependency["uses_default_features"] == true,
                features: serde_json::from_value(dependency["features"].clone()).unwrap(),
            });
        Self {
            name: package["name"].as_str().unwrap().to_owned(),
            dependencies: dependencies.collect(),
        }
    }

    fn internal<'a>(&'a self, members: &'a BTreeSet<&str>) -> impl Iterator<Item = &'a Dependency> {
        self.dependencies
            .iter()
            .filter(|dependency| members.contains(dependency.name.as_str()))
    }
}
