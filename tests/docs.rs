//! The pages under `docs/` and whoever cites or links them: every cited heading exists, every relative link leads
//! somewhere, and nothing cites notes that are not in the repository. The form of a citation is told in
//! `docs/README.md`, "Citing a page".
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The folder of the pages, from the root.
const PAGES: &str = "docs";
/// Files that may cite a page.
const EXTENSIONS: [&str; 4] = ["rs", "wgsl", "toml", "md"];
/// Folders of the root that hold what is made, not what is written.
const OUTPUTS: [&str; 2] = ["target", "out"];
/// What begins a line of a comment, the longest first.
const COMMENT_MARKERS: [&str; 4] = ["//!", "///", "//", "#"];

#[test]
fn every_citation_names_a_page_and_a_heading_that_exist() {
    let files = text_files(root());
    let (num_citations, problems) = check_citations(&files);
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(num_citations > 40, "only {num_citations} citations were found");
}

#[test]
fn every_relative_link_leads_to_a_file_and_a_heading() {
    let files = text_files(root());
    let (num_links, problems) = check_links(&files);
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(num_links > 10, "only {num_links} links were found");
}

#[test]
fn headings_of_a_page_are_told_apart() {
    for (path, text) in text_files(root()) {
        if path.parent().is_some_and(|folder| folder.ends_with(PAGES)) {
            let mut seen = BTreeSet::new();
            for heading in headings(&text) {
                assert!(seen.insert(heading), "{}: \"{heading}\" twice", path.display());
            }
        }
    }
}

#[test]
fn nothing_cites_notes_that_are_not_here() {
    let problems = check_notes(&text_files(root()));
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn what_is_wrong_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let page = format!("`{PAGES}/page.md`");
    write(
        "docs/page.md",
        "# A page\n\n## New `name`: 2D\n\n```\n# Not one\n```\n",
    );
    write(
        "src/lib.rs",
        &format!(
            "//! Fine ({page},\n//! \"New `name`: 2D\"), renamed ({page}, \"Old name\"), in code ({page}, \"Not one\").\n"
        ),
    );
    write("shaders/a.wgsl", &format!("// A page alone: {page}.\n"));
    write("a.toml", &format!("# No page: `{PAGES}/none.md`, \"A page\"\n"));
    let (num_citations, problems) = check_citations(&text_files(folder.path()));
    assert_eq!((num_citations, problems.len()), (5, 4), "{problems:?}");
    for problem in ["Old name", "Not one", "without a heading", "none.md"] {
        assert!(
            problems.iter().any(|found| found.contains(problem)),
            "{problem}: {problems:?}"
        );
    }

    write(
        "README.md",
        "[a](docs/page.md#new-name-2d) [b](docs/page.md) [c](https://example.org/#x) `[d](none.md)`\n\n\
         [e](docs/page.md#old-name) ![f](none.png) [g](#here) <img src=\"none.svg\">\n",
    );
    let (num_links, problems) = check_links(&text_files(folder.path()));
    assert_eq!((num_links, problems.len()), (6, 4), "{problems:?}");

    let notes = "fact".to_owned() + "s";
    write(
        "b.toml",
        &format!(
            "# ({notes} 3.1) ({notes} section 3) ({notes} D8) ({notes}-tap.md)\n# The {notes}, 12 {notes} and {notes}(3)\n"
        ),
    );
    assert_eq!(
        check_notes(&text_files(folder.path())).len(),
        4,
        "and no word of the language"
    );
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `root` that may cite, with their texts. Hidden files, links and outputs are passed over.
fn text_files(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            let name = entry.file_name();
            let name = name.to_str().unwrap_or_default();
            let is_output = folder == root && OUTPUTS.contains(&name);
            let extension = path.extension().and_then(|extension| extension.to_str());
            if name.starts_with('.') || is_output {
                continue;
            }
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() && extension.is_some_and(|extension| EXTENSIONS.contains(&extension)) {
                let text = fs::read_to_string(&path).unwrap();
                files.insert(path, text);
            }
        }
    }
    files
}

fn is_markdown(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "md")
}

/// Counts the citations of pages, and says which of them name no heading.
fn check_citations(files: &BTreeMap<PathBuf, String>) -> (usize, Vec<String>) {
    let pages: BTreeMap<String, Vec<&str>> = files
        .iter()
        .filter(|(path, _)| is_markdown(path) && path.parent().is_some_and(|folder| folder.ends_with(PAGES)))
        .map(|(path, text)| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap();
            (name.to_owned(), headings(text).collect())
        })
        .collect();
    let (mut num_citations, mut problems) = (0, Vec::new());
    for (path, text) in files {
        for (page, heading) in citations(&prose(text)) {
            num_citations += 1;
            let problem = match (pages.get(page), heading) {
                (None, _) => format!("there is no page {PAGES}/{page}"),
                (Some(headings), Some(heading)) if !headings.contains(&heading) => {
                    format!("{PAGES}/{page} has no heading \"{heading}\"")
                }
                // A page may be spoken of as a whole where it can be linked as well.
                (Some(_), None) if !is_markdown(path) => format!("{PAGES}/{page} is cited without a heading"),
                (Some(_), _) => continue,
            };
            problems.push(format!("{}: {problem}", path.display()));
        }
    }
    (num_citations, problems)
}

/// The page of each citation and its heading, if one follows.
fn citations(prose: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    let is_path = |path: &str| {
        path.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte))
    };
    let after_opening = prose.split("`docs/").skip(1);
    after_opening.filter_map(move |rest| {
        let (page, rest) = rest.split_once('`')?;
        let heading = rest
            .strip_prefix(", \"")
            .and_then(|rest| rest.split_once('"'))
            .map(|(heading, _)| heading);
        (is_markdown(Path::new(page)) && is_path(page)).then_some((page, heading))
    })
}

/// All lines as one, without the marks of comments, so that a citation may run over the end of a line.
fn prose(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let line = line.trim_start();
        let comment = COMMENT_MARKERS
            .iter()
            .find_map(|marker| line.strip_prefix(marker));
        comment.unwrap_or(line).trim()
    });
    lines.collect::<Vec<_>>().join(" ")
}

/// The lines of a Markdown file that are not code.
fn text_lines(markdown: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    markdown.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// The headings of a Markdown file, as they are written.
fn headings(markdown: &str) -> impl Iterator<Item = &str> {
    text_lines(markdown).filter_map(|line| {
        let text = line.trim_start_matches('#');
        (text.len() < line.len() && text.starts_with(' ')).then_some(text.trim())
    })
}

/// What a link names a heading by: lower case, words joined by hyphens, no punctuation.
fn anchor(heading: &str) -> String {
    let kept = |c: char| match c {
        ' ' => Some('-'),
        '-' | '_' => Some(c),
        c => c.is_alphanumeric().then_some(c),
    };
    heading.to_lowercase().chars().filter_map(kept).collect()
}

/// Counts the relative links of the Markdown files, and says which of them lead nowhere.
fn check_links(files: &BTreeMap<PathBuf, String>) -> (usize, Vec<String>) {
    let (mut num_links, mut problems) = (0, Vec::new());
    for (path, text) in files.iter().filter(|(path, _)| is_markdown(path)) {
        for target in text_lines(text).flat_map(link_targets) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            num_links += 1;
            let (file, fragment) = target.split_once('#').unwrap_or((&target, ""));
            let linked = if file.is_empty() {
                path.clone()
            } else {
                path.parent().unwrap().join(file)
            };
            let problem = if !linked.exists() {
                "no such file"
            } else if !fragment.is_empty() && !has_anchor(&linked, fragment) {
                "no such heading"
            } else {
                continue;
            };
            problems.push(format!("{}: {target}: {problem}", path.display()));
        }
    }
    (num_links, problems)
}

fn has_anchor(path: &Path, fragment: &str) -> bool {
    is_markdown(path)
        && headings(&fs::read_to_string(path).unwrap()).any(|heading| anchor(heading) == fragment)
}

/// What the links and pictures of a line lead to; what stands in backticks is no link.
fn link_targets(line: &str) -> Vec<String> {
    let line: String = line.split('`').step_by(2).collect();
    let until = |opening: &str, closing: char| {
        let targets = line.split(opening).skip(1);
        targets
            .filter_map(|rest| rest.split(closing).next())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    [until("](", ')'), until("src=\"", '"'), until("href=\"", '"')].concat()
}

/// Where the numbered notes are cited that some comments once relied on.
fn check_notes(files: &BTreeMap<PathBuf, String>) -> Vec<String> {
    let name = "fact".to_owned() + "s";
    let mut problems = Vec::new();
    for (path, text) in files {
        let prose = prose(text).to_lowercase();
        for rest in prose.split(&name).skip(1).filter(|rest| cites_note(rest)) {
            let shown: String = rest.chars().take(12).collect();
            problems.push(format!("{}: {name}{shown}", path.display()));
        }
    }
    problems
}

/// Is what follows the notes' name, in lower case, the rest of a file's name, or a number in them?
fn cites_note(rest: &str) -> bool {
    let is_number = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
    if let Some(file) = rest.strip_prefix('-') {
        let end = file.find(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        return end.is_some_and(|end| file[end..].starts_with(".md"));
    }
    rest.strip_prefix(' ').is_some_and(|rest| {
        let place = rest.strip_prefix('d').unwrap_or(rest);
        is_number(place) || rest.starts_with("section")
    })
}
