//! Shared by the text formats: lines with continuation and comments, words, and UTF-16.

use std::borrow::Cow;

/// The bytes as ASCII-compatible text: files with a byte-order mark are converted to UTF-8, and lines that end in a
/// carriage return alone end in a line feed.
pub(super) fn decode(bytes: &[u8]) -> Cow<'_, [u8]> {
    let text = without_mark(bytes);
    if !has_lone_return(&text) {
        return text;
    }
    let mut text = text.into_owned();
    for at in 0..text.len() {
        if text[at] == b'\r' && text.get(at + 1) != Some(&b'\n') {
            text[at] = b'\n';
        }
    }
    Cow::Owned(text)
}

fn has_lone_return(text: &[u8]) -> bool {
    memchr::memchr_iter(b'\r', text).any(|at| text.get(at + 1) != Some(&b'\n'))
}

/// The bytes behind a byte-order mark, as ASCII-compatible text.
pub(super) fn without_mark(bytes: &[u8]) -> Cow<'_, [u8]> {
    let utf16 = |unit: fn([u8; 2]) -> u16| {
        let units = bytes[2..].chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
        let text: String = char::decode_utf16(units)
            .map(|char| char.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect();
        Cow::Owned(text.into_bytes())
    };
    match bytes {
        [0xFE, 0xFF, ..] => utf16(u16::from_be_bytes),
        [0xFF, 0xFE, ..] => utf16(u16::from_le_bytes),
        [0xEF, 0xBB, 0xBF, rest @ ..] => Cow::Borrowed(rest),
        _ => Cow::Borrowed(bytes),
    }
}

/// Decodes UTF-8, or else Latin-1, which older exporters write.
pub(super) fn string(text: &[u8]) -> String {
    String::from_utf8(text.to_vec()).unwrap_or_else(|_| text.iter().copied().map(char::from).collect())
}

/// A name, trimmed and unquoted.
pub(super) fn name(text: &[u8]) -> String {
    let text = text.trim_ascii();
    let unquoted = text.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    string(unquoted.unwrap_or(text))
}

/// The whitespace-separated words of a line.
pub(super) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
}

/// The first word and the rest; an empty word if there is only whitespace.
pub(super) fn split_word(text: &[u8]) -> (&[u8], &[u8]) {
    let text = text.trim_ascii_start();
    let len = text
        .iter()
        .position(u8::is_ascii_whitespace)
        .unwrap_or(text.len());
    text.split_at(len)
}

/// Calls `visit` with the number (from 1) and the text of every line.
///
/// A line that ends in a backslash continues on the next one, unless it is a comment: those often end in the backslash
/// of a Windows path.
///
/// `fast_path` is offered the number of each line and all text from there on. It may consume one line and return its
/// length including the line end, or return 0 to leave it to `visit`.
pub(super) fn for_each_line<E>(
    text: &[u8],
    mut fast_path: impl FnMut(usize, &[u8]) -> usize,
    mut visit: impl FnMut(usize, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut joined = Vec::new();
    let mut first_line = None;
    let mut rest = text;
    for number in 1.. {
        if first_line.is_none() {
            let taken = fast_path(number, rest);
            if taken > 0 {
                rest = &rest[taken..];
                continue;
            }
        }
        let end = memchr::memchr(b'\n', rest);
        let line = rest[..end.unwrap_or(rest.len())].trim_ascii();
        match (line.strip_suffix(b"\\"), first_line) {
            (Some(part), Some(_)) => joined.extend_from_slice(part),
            (Some(part), None) if !line.starts_with(b"#") => {
                first_line = Some(number);
                joined.extend_from_slice(part);
            }
            (None, Some(first)) => {
                joined.push(b' ');
                joined.extend_from_slice(line);
                visit(first, &joined)?;
                joined.clear();
                first_line = None;
            }
            _ => visit(number, line)?,
        }
        match end {
            Some(end) => rest = &rest[end + 1..],
            None => break,
        }
    }
    match first_line {
        Some(first) => visit(first, &joined),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::convert::Infallible;

    use super::*;

    fn lines(text: &str) -> Vec<(usize, String)> {
        let mut lines = Vec::new();
        let push = |number, line: &[u8]| {
            lines.push((number, String::from_utf8_lossy(line).into_owned()));
            Ok::<_, Infallible>(())
        };
        for_each_line(text.as_bytes(), |_, _| 0, push).unwrap();
        lines
    }

    #[test]
    fn a_backslash_joins_lines_outside_of_comments() {
        let line = |number, text: &str| (number, text.to_owned());
        assert_eq!(
            lines("# C:\\\\\nf 1 2 \\\r\n 3\nend\\"),
            [line(1, "# C:\\\\"), line(2, "f 1 2  3"), line(4, "end")]
        );
    }

    #[test]
    fn a_carriage_return_ends_a_line() {
        for (text, expected) in [
            ("a\rb\r", "a\nb\n"),
            ("a\r\nb\r\n", "a\r\nb\r\n"),
            ("a\r\rb\r\nc", "a\n\nb\r\nc"),
        ] {
            assert_eq!(decode(text.as_bytes()).as_ref(), expected.as_bytes());
        }
    }

    #[test]
    fn utf16_in_both_orders() {
        let utf16: Vec<u16> = "v 1\nü".encode_utf16().collect();
        let little: Vec<u8> = [0xFEFF]
            .iter()
            .chain(&utf16)
            .flat_map(|unit| unit.to_le_bytes())
            .collect();
        let big: Vec<u8> = [0xFEFF]
            .iter()
            .chain(&utf16)
            .flat_map(|unit| unit.to_be_bytes())
            .collect();
        for bytes in [little, big] {
            assert_eq!(decode(&bytes).as_ref(), "v 1\nü".as_bytes());
        }
    }
}
