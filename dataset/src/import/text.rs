//! Text files of numbers, a point a line, and the lists beside them.

use std::io;
use std::path::Path;

use super::cloud::Defect;
use crate::error::{DatasetError, Result};
use crate::local_file::read_bounded;
use crate::manifest::SkipReason;

/// Largest file of one object: a quarter of a million points with all their digits.
const MAX_OBJECT_BYTES: u64 = 64 << 20;
/// Largest list.
const MAX_LIST_BYTES: u64 = 64 << 20;

/// Reads the file of one object.
pub(super) fn read_object(path: &Path) -> Result<Vec<u8>, Defect> {
    read_bounded(path, MAX_OBJECT_BYTES).map_err(|e| {
        let reason = match e.kind() {
            io::ErrorKind::NotFound => SkipReason::Missing,
            io::ErrorKind::FileTooLarge => SkipReason::TooLarge,
            _ => SkipReason::Unreadable,
        };
        let message = match reason {
            SkipReason::Missing => "its file is not there".to_owned(),
            _ => format!("its file cannot be read: {e}"),
        };
        Defect::new(reason, message)
    })
}

/// The names of a list, one a line; `None` if there is no such file.
pub(super) fn read_list(path: &Path) -> Result<Option<Vec<String>>> {
    let Some(bytes) = read_list_file(path)? else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(&bytes);
    let names = text.lines().map(str::trim).filter(|name| !name.is_empty());
    Ok(Some(names.map(str::to_owned).collect()))
}

/// The bytes of a list; `None` if there is no such file.
pub(super) fn read_list_file(path: &Path) -> Result<Option<Vec<u8>>> {
    match read_bounded(path, MAX_LIST_BYTES) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(DatasetError::io("read the list", path)(e)),
    }
}

/// Whether it is a file name, or a relative path, that leads to nothing outside of its folder.
pub(super) fn is_inside(name: &str) -> bool {
    use std::path::Component;
    !name.is_empty()
        && Path::new(name)
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
}

/// The numbers of all lines, each of which has so many; separated by commas or spaces.
pub(super) fn parse_rows(bytes: &[u8], num_values: usize) -> Result<Vec<f64>, Defect> {
    let wrong = |line: usize, detail: String| {
        Err(Defect::new(
            SkipReason::Malformed,
            format!("line {line} {detail}"),
        ))
    };
    let mut numbers = Vec::with_capacity(bytes.len() / 8);
    for (line_idx, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let is_separator = |byte: &u8| matches!(byte, b',' | b' ' | b'\t' | b'\r');
        let start = numbers.len();
        for word in line.split(is_separator).filter(|word| !word.is_empty()) {
            let Some(number) = std::str::from_utf8(word).ok().and_then(|word| word.parse().ok()) else {
                let word = String::from_utf8_lossy(word);
                return wrong(
                    line_idx + 1,
                    format!("has \"{}\", which is no number", word.escape_debug()),
                );
            };
            numbers.push(number);
        }
        let found = numbers.len() - start;
        if found != 0 && found != num_values {
            return wrong(
                line_idx + 1,
                format!("has {found} numbers instead of {num_values}"),
            );
        }
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn rows_are_separated_by_commas_or_spaces() {
        let expected = [0.5, -1e-3, 2.0, 3.0, 4.0, 5.0];
        for text in [
            "0.5,-1e-3,2\n3,4,5\n",
            "0.5 -0.001\t2.0\r\n\r\n 3 4  5",
            "0.5, -1.0e-3, 2.\n3, 4, 5",
        ] {
            assert_eq!(parse_rows(text.as_bytes(), 3).unwrap(), expected, "{text:?}");
        }
        assert!(parse_rows(b"", 3).unwrap().is_empty());
        assert!(
            parse_rows(b"nan 1 2", 3).unwrap()[0].is_nan(),
            "which is found where points are checked"
        );
    }

    #[test]
    fn a_wrong_line_is_named() {
        let message = |text: &str| parse_rows(text.as_bytes(), 3).unwrap_err().message;
        assert_eq!(message("1 2 3\n1 2\n"), "line 2 has 2 numbers instead of 3");
        assert_eq!(
            message("1 2 x\u{1b}"),
            "line 1 has \"x\\u{1b}\", which is no number"
        );
    }

    #[test]
    fn lists_lead_nowhere_else() {
        assert!(is_inside("a/b.txt"));
        for name in ["", "../a", "/etc/passwd", "a/../../b"] {
            assert!(!is_inside(name), "{name}");
        }
    }
}
