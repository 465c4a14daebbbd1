//! The commit that sources are of, as git says it.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Digits of a commit's name.
const NUM_DIGITS: &str = "--short=12";
/// What a program is made of, within the repository.
const SOURCES: [&str; 11] = [
    "Cargo.lock",
    "Cargo.toml",
    "assets",
    "c10d",
    "cli",
    "dataset/Cargo.toml",
    "dataset/src",
    "train/Cargo.toml",
    "train/build",
    "train/build.rs",
    "train/src",
];

/// The short name of the commit, with `-dirty` where a file of the sources is changed; none where the package is not part of
/// a repository, or there is no git.
pub(crate) fn describe(package: &Path) -> Option<String> {
    // A package that was copied into a repository of somebody else's is no part of it.
    git(package, &["ls-files", "--error-unmatch", "Cargo.toml"])?;
    let commit = git(package, &["rev-parse", NUM_DIGITS, "HEAD"])?;
    let sources = SOURCES.map(|source| format!(":/{source}"));
    let status = ["status", "--porcelain", "--untracked-files=no", "--"];
    let status: Vec<&str> = status
        .into_iter()
        .chain(sources.iter().map(String::as_str))
        .collect();
    let changed = git(package, &status)?;
    let dirty = if changed.is_empty() { "" } else { "-dirty" };
    Some(format!("{commit}{dirty}"))
}

/// Files and folders whose change may change the description.
pub(crate) fn watched(package: &Path) -> Vec<PathBuf> {
    let of_git = ["HEAD", "logs/HEAD", "packed-refs"];
    let of_git = of_git
        .iter()
        .filter_map(|name| git(package, &["rev-parse", "--git-path", name]))
        .map(|path| package.join(path));
    let root = git(package, &["rev-parse", "--show-toplevel"]).map(PathBuf::from);
    let sources = root
        .iter()
        .flat_map(|root| SOURCES.iter().map(move |source| root.join(source)));
    // A path at which there is nothing would count as changed each time.
    of_git.chain(sources).filter(|path| path.exists()).collect()
}

fn git(folder: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(arguments)
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
