//! A folder is a layer, and its manifest proves it: which crate may depend on which, and who alone may use a
//! heavy crate. The rules stand in the root `Cargo.toml` under `[workspace.metadata.layers]`; the order of the rooms
//! within a crate under `[workspace.metadata.rooms]`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The crates that some workspace crates alone may name, by prefix, and those, separated by spaces.
const OWNED: [(&str, &str); 15] = [
    ("wgpu", "tap-render"),
    ("arrow", "tap-dataset"),
    ("parquet", "tap-dataset"),
    ("hdf5", "tap-dataset"),
    ("object_store", "tap-dataset"),
    ("tokio", "tap-dataset"),
    ("numpy", "tap-python"),
    ("pyo3", "tap-python"),
    ("tch", "tap-c10d tap-train"),
    ("torch-sys", "tap-c10d tap-train"),
    ("clap", "tap-cli"),
    ("indicatif", "tap-cli"),
    ("console", "tap-cli"),
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
fn heavy_crates_have_their_owners() {
    let (members, _) = workspace();
    for member in &members {
        for dependency in member.dependencies.iter().filter(|dependency| !dependency.is_dev) {
            let Some((_, owners)) = OWNED
                .iter()
                .find(|(prefix, _)| dependency.name.starts_with(prefix))
            else {
                continue;
            };
            let is_program_parsing = dependency.name == "clap" && PROGRAMS.contains(&member.name.as_str());
            assert!(
                owners.split(' ').any(|owner| member.name == owner) || is_program_parsing,
                "{} depends on {}, which belongs to {owners} alone",
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

/// A crate's top-level modules are rooms in an order, which stands in the root `Cargo.toml` under
/// `[workspace.metadata.rooms]`: a room may use only rooms before it. Tests may use all.
#[test]
fn rooms_use_only_rooms_below_them() {
    for (member, order) in room_orders() {
        let files = source_files(&member);
        let found: BTreeSet<&str> = files.iter().map(|file| file.room.as_str()).collect();
        let listed: BTreeSet<&str> = order.iter().map(String::as_str).collect();
        assert_eq!(
            found, listed,
            "the rooms of {member}, and those that Cargo.toml lists"
        );
        let exports = exports(&member);
        let position = |room: &str| order.iter().position(|other| other == room);
        for file in &files {
            for name in crate_names(&file.text, file.depth) {
                let room = exports.get(&name).unwrap_or(&name);
                assert!(
                    room == &file.room || position(room).is_some_and(|at| Some(at) < position(&file.room)),
                    "{member}: {} uses crate::{name}, which is in no room below {}",
                    file.path.display(),
                    file.room
                );
            }
        }
    }
}

#[test]
fn names_are_found_in_paths_and_groups() {
    let text = "\
        //! [`crate::doc`]\n\
        use crate::{alpha::{One, two::Three}, beta};\n\
        use super::super::gamma::Four; // crate::comment\n\
        fn f() -> crate::Five { super::local() }\n\
        #[cfg(test)]\nmod tests {\n    use crate::omega;\n}\n\
        use crate::delta;\n";
    let names = crate_names(text, 2);
    let expected = ["Five", "alpha", "beta", "delta", "gamma"].map(str::to_owned);
    assert_eq!(names, BTreeSet::from(expected));
}

/// A source file of a crate that is part of a room.
struct SourceFile {
    path: PathBuf,
    room: String,
    /// Modules from the crate root down to this one.
    depth: usize,
    text: String,
}

/// The ordered rooms of each crate that lists them.
fn room_orders() -> BTreeMap<String, Vec<String>> {
    let metadata: Value =
        serde_json::from_str(&cargo(&["metadata", "--format-version", "1", "--no-deps"])).unwrap();
    serde_json::from_value(metadata["metadata"]["rooms"].clone()).unwrap()
}

/// The folder of a crate's sources.
fn source_folder(member: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    match member.strip_prefix("tap-") {
        Some(folder) => root.join(folder).join("src"),
        None => root.join("src"),
    }
}

fn source_files(member: &str) -> Vec<SourceFile> {
    let source = source_folder(member);
    let mut files = Vec::new();
    let mut folders = vec![source.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let mut modules: Vec<String> = path
                .strip_prefix(&source)
                .unwrap()
                .with_extension("")
                .iter()
                .map(|part| part.to_str().unwrap().to_owned())
                .collect();
            modules.pop_if(|name| name == "mod");
            let is_root = ["lib", "main", "bin"].contains(&modules[0].as_str());
            let is_test = modules.last().is_some_and(|name| name == "tests");
            if is_root || is_test || path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            files.push(SourceFile {
                room: modules[0].clone(),
                depth: modules.len(),
                text: fs::read_to_string(&path).unwrap(),
                path,
            });
        }
    }
    files
}

/// The rooms that a crate's root re-exports names from.
fn exports(member: &str) -> BTreeMap<String, String> {
    let root = source_folder(member).join("lib.rs");
    let text = fs::read_to_string(root).unwrap_or_default();
    let uses = text
        .split("\npub use ")
        .skip(1)
        .filter_map(|rest| rest.split_once(';'));
    let mut exports = BTreeMap::new();
    for (path, _) in uses {
        let Some((room, names)) = path.split_once("::") else {
            continue;
        };
        for name in names.split(['{', '}', ',']).map(str::trim) {
            let name = name.rsplit([':', ' ']).next().unwrap_or(name);
            exports.insert(name.to_owned(), room.to_owned());
        }
    }
    exports
}

/// The names in the crate's root that a source file refers to, outside of comments and tests. `depth` is that of its
/// module, from where as many `super::` lead to the root.
fn crate_names(text: &str, depth: usize) -> BTreeSet<String> {
    let text = without_comments_and_tests(text);
    let to_root = "super::".repeat(depth);
    let mut names = BTreeSet::new();
    for start in ["crate::", to_root.as_str()] {
        for (at, _) in text.match_indices(start) {
            let is_whole =
                !text[..at].ends_with(|before: char| before.is_alphanumeric() || "_:".contains(before));
            if is_whole {
                names.extend(first_names(&text[at + start.len()..]));
            }
        }
    }
    names
}

/// The first name of a path, or of each path of a group in braces.
fn first_names(path: &str) -> Vec<String> {
    let name = |text: &str| -> String {
        let text = text.trim_start();
        text.chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect()
    };
    let Some(group) = path.strip_prefix('{') else {
        return vec![name(path)];
    };
    let mut names = vec![name(group)];
    let mut level = 0_i32;
    for (at, character) in group.char_indices() {
        match character {
            '{' => level += 1,
            '}' if level == 0 => break,
            '}' => level -= 1,
            ',' if level == 0 => names.push(name(&group[at + 1..])),
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// Drops comments, and the items behind `#[cfg(test)]`: in formatted code those end with a line of the same indentation
/// that closes a brace, or with their first line.
fn without_comments_and_tests(text: &str) -> String {
    let mut lines = text.lines();
    let mut kept = String::new();
    while let Some(line) = lines.next() {
        let code = line.split("//").next().unwrap_or_default();
        if code.trim() == "#[cfg(test)]" {
            let indentation = &line[..line.len() - line.trim_start().len()];
            let end = format!("{indentation}}}");
            let mut item = lines.by_ref().skip_while(|line| line.trim().starts_with("#["));
            let is_block = item.next().is_some_and(|first| !first.ends_with([';', '}']));
            if is_block {
                lines.by_ref().find(|line| *line == end);
            }
            continue;
        }
        kept.push_str(code);
        kept.push('\n');
    }
    kept
}
