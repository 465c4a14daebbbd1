//! Glob patterns with the rules of a shell: `*`, `?`, `[a-z]`, `[!a-z]` within a name, `**` for folders of any depth;
//! a bracket without an end is itself, and names that begin with a dot match only a pattern that does.

use std::ffi::OsStr;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Whether the text has a wildcard.
pub(super) fn is_pattern(text: &OsStr) -> bool {
    text.to_str().is_some_and(|text| text.contains(['*', '?', '[']))
}

/// The folder before the first wildcard, and all matching paths, sorted.
pub(super) fn expand(pattern: &Path) -> (PathBuf, Vec<PathBuf>) {
    let components: Vec<Component<'_>> = pattern.components().collect();
    let num_plain = components
        .iter()
        .take_while(|component| !is_pattern(component.as_os_str()))
        .count();
    let base: PathBuf = components[..num_plain].iter().collect();
    let names: Vec<&str> = components[num_plain..]
        .iter()
        .filter_map(|component| component.as_os_str().to_str())
        .collect();
    let mut found = Vec::new();
    expand_names(&base, &names, &mut found);
    found.sort();
    found.dedup();
    (base, found)
}

fn expand_names(folder: &Path, names: &[&str], found: &mut Vec<PathBuf>) {
    let Some((name, rest)) = names.split_first() else {
        found.push(folder.to_owned());
        return;
    };
    if *name == "**" {
        expand_names(folder, rest, found);
        for (entry, path) in entries(folder) {
            // Links are not followed, so that the recursion ends.
            if !entry.starts_with('.') && path.is_dir() && !path.is_symlink() {
                expand_names(&path, names, found);
            }
        }
    } else if is_pattern(OsStr::new(name)) {
        let name_chars: Vec<char> = name.chars().collect();
        for (entry, path) in entries(folder) {
            let is_hidden = entry.starts_with('.') && !name.starts_with('.');
            let is_match = !is_hidden && matches(&name_chars, &entry.chars().collect::<Vec<_>>());
            if is_match && (rest.is_empty() || path.is_dir()) {
                expand_names(&path, rest, found);
            }
        }
    } else {
        let path = folder.join(name);
        if path.exists() {
            expand_names(&path, rest, found);
        }
    }
}

/// Entries of a folder; none if it cannot be read.
fn entries(folder: &Path) -> Vec<(String, PathBuf)> {
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let entries = entries.filter_map(Result::ok);
    entries
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry)))
        .map(|(name, entry)| {
            let path = if folder == Path::new(".") {
                PathBuf::from(&name)
            } else {
                entry.path()
            };
            (name, path)
        })
        .collect()
}

/// Whether the pattern matches the whole name.
fn matches(pattern: &[char], name: &[char]) -> bool {
    let (mut pattern_idx, mut name_idx) = (0, 0);
    // Where to backtrack to: the last star, and how much of the name it has consumed.
    let mut star = None;
    while name_idx < name.len() {
        match pattern.get(pattern_idx) {
            Some('*') => {
                star = Some((pattern_idx, name_idx));
                pattern_idx += 1;
                continue;
            }
            Some('?') => {
                pattern_idx += 1;
                name_idx += 1;
                continue;
            }
            Some('[') => {
                if let Some((is_in, length)) = class(&pattern[pattern_idx..], name[name_idx]) {
                    if is_in {
                        pattern_idx += length;
                        name_idx += 1;
                        continue;
                    }
                } else if name[name_idx] == '[' {
                    pattern_idx += 1;
                    name_idx += 1;
                    continue;
                }
            }
            Some(char) if *char == name[name_idx] => {
                pattern_idx += 1;
                name_idx += 1;
                continue;
            }
            _ => {}
        }
        let Some((star_idx, consumed_idx)) = star else {
            return false;
        };
        star = Some((star_idx, consumed_idx + 1));
        pattern_idx = star_idx + 1;
        name_idx = consumed_idx + 1;
    }
    pattern[pattern_idx..].iter().all(|char| *char == '*')
}

/// Whether the character is in the class at the start of the pattern, and the length of the class; `None` if it has no
/// end.
fn class(pattern: &[char], char: char) -> Option<(bool, usize)> {
    let is_negated = matches!(pattern.get(1), Some('!' | '^'));
    let first = if is_negated { 2 } else { 1 };
    // A bracket at the start of a class is a member.
    let length = (first + 1..pattern.len()).find(|idx| pattern[*idx] == ']')?;
    let members = &pattern[first..length];
    let mut is_in = false;
    let mut idx = 0;
    while idx < members.len() {
        if idx + 2 < members.len() && members[idx + 1] == '-' {
            is_in |= (members[idx]..=members[idx + 2]).contains(&char);
            idx += 3;
        } else {
            is_in |= members[idx] == char;
            idx += 1;
        }
    }
    Some((is_in != is_negated, length + 1))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn names_match_as_in_a_shell() {
        let is_match = |pattern: &str, name: &str| {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            matches(&chars(pattern), &chars(name))
        };
        for (pattern, name) in [
            ("*.obj", "chair.obj"),
            ("*", ""),
            ("a*b*c", "axxbyybzzc"),
            ("ch?ir.*", "chair.obj"),
            ("m[0-9a].off", "m7.off"),
            ("m[!0-9].off", "mx.off"),
            ("[]x]", "]"),
            ("a[b", "a[b"),
            ("*ß*", "straße.obj"),
        ] {
            assert!(is_match(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("*.obj", "chair.off"),
            ("?", ""),
            ("?", "ab"),
            ("m[0-9].off", "mx.off"),
            ("m[!0-9].off", "m7.off"),
            ("a*b", "ba"),
        ] {
            assert!(!is_match(pattern, name), "{pattern} {name}");
        }
        let name = format!("{}b", "a".repeat(200));
        assert!(!is_match(&format!("{}c", "a*".repeat(40)), &name), "and soon");
    }

    #[test]
    fn folders_are_searched() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "a/x.obj",
            "a/deep/er/y.obj",
            "b/x.obj",
            "b/.hidden.obj",
            "b/x.txt",
        ] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let names = |pattern: &str| {
            let (base, found) = expand(&dir.path().join(pattern));
            let names = found.iter().map(|path| {
                let name = path.strip_prefix(dir.path()).unwrap();
                name.to_string_lossy().replace('\\', "/")
            });
            (base, names.collect::<Vec<_>>())
        };
        assert_eq!(
            names("*/x.obj"),
            (
                dir.path().to_owned(),
                vec!["a/x.obj".to_owned(), "b/x.obj".to_owned()]
            )
        );
        assert_eq!(names("b/*.obj").1, ["b/x.obj"], "hidden files stay hidden");
        assert_eq!(names("b/*.obj").0, dir.path().join("b"));
        assert_eq!(names("**/*.obj").1, ["a/deep/er/y.obj", "a/x.obj", "b/x.obj"]);
        assert!(names("c*/x.obj").1.is_empty());
    }
}
