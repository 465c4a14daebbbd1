//! Tokens of the text formats that are streams of numbers and words: OFF, PLY and STL.
//!
//! Most files have a line per vertex and per face, and programs write things behind a row that its format does not know.
//! Others break rows, or put several on a line. [`RowLayout`] tells them apart; [`read_rows`] finds the one of a file.

use super::{ImportError, number};

/// How the rows of a file relate to its lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowLayout {
    /// A row is a line; blank lines are skipped, and further words of a line are ignored.
    Line,
    /// A row begins on a line of its own and may go on on the next ones; further words of the last are ignored.
    Wrapped,
    /// Rows follow each other, whatever the lines.
    Stream,
}

/// What a reader made of a file in one layout.
pub(super) struct Rows<T> {
    pub(super) content: T,
    /// Is nothing left behind the last row?
    pub(super) is_whole: bool,
}

/// Reads in the layout that fits. `recount` reads lines by other counts than those that the header states; it is asked
/// where they contradict the number of lines.
///
/// # Errors
/// That of reading line by line, if no layout fits.
pub(super) fn read_rows<T>(
    read: impl Fn(RowLayout) -> Result<Rows<T>, ImportError>,
    recount: impl Fn() -> Option<T>,
) -> Result<Rows<T>, ImportError> {
    let by_line = read(RowLayout::Line);
    let mended = |content| Rows {
        content,
        is_whole: true,
    };
    match by_line {
        Ok(rows) if rows.is_whole => Ok(rows),
        Ok(rows) => Ok(recount().map_or(rows, mended)),
        Err(error) => {
            let mut layouts = [RowLayout::Wrapped, RowLayout::Stream].into_iter();
            let rows = layouts.find_map(|layout| read(layout).ok().filter(|rows| rows.is_whole));
            rows.or_else(|| recount().map(mended)).ok_or(error)
        }
    }
}

/// A cursor over text. `#` begins a comment.
#[derive(Debug, Clone)]
pub(super) struct Tokens<'a> {
    rest: &'a [u8],
    line: usize,
    layout: RowLayout,
}

impl<'a> Tokens<'a> {
    /// `line` is the number of the text's first line.
    pub(super) fn new(text: &'a [u8], line: usize, layout: RowLayout) -> Self {
        Self {
            rest: text,
            line,
            layout,
        }
    }

    pub(super) fn layout(&self) -> RowLayout {
        self.layout
    }

    /// Number of the line that the last token was on.
    pub(super) fn line(&self) -> usize {
        self.line
    }

    /// Number of bytes that are left.
    pub(super) fn num_bytes(&self) -> usize {
        self.rest.len()
    }

    /// Number of lines from here on that have a word.
    pub(super) fn count_lines(mut self) -> usize {
        let mut num_lines = 0;
        while self.next_row() {
            self.take_line();
            num_lines += 1;
        }
        num_lines
    }

    /// Goes to the next row; `false` if there is none.
    #[inline]
    pub(super) fn next_row(&mut self) -> bool {
        self.skip_blanks(true);
        !self.rest.is_empty()
    }

    /// Ends a row: what is left of its line belongs to it, except in a stream.
    #[inline]
    pub(super) fn end_row(&mut self) {
        if self.layout != RowLayout::Stream {
            self.take_line();
        }
    }

    /// The next word of the row.
    pub(super) fn word(&mut self) -> Option<&'a [u8]> {
        self.skip_blanks(self.layout != RowLayout::Line);
        self.take_word()
    }

    /// The next word of the row, if it is on the same line.
    pub(super) fn word_on_line(&mut self) -> Option<&'a [u8]> {
        self.skip_blanks(false);
        self.take_word()
    }

    /// The next number of the row.
    #[inline]
    pub(super) fn number(&mut self) -> Option<f64> {
        self.skip_blanks(self.layout != RowLayout::Line);
        if let Some((number, len)) = number::scan_f64(self.rest)
            && self.rest.get(len).is_none_or(|&byte| ends_word(byte))
        {
            self.rest = &self.rest[len..];
            return Some(number);
        }
        self.take_word().and_then(number::parse_f64)
    }

    /// The next number of the row, if it has one more: on the same line, but in a stream.
    pub(super) fn optional_number(&mut self) -> Option<f64> {
        if self.layout == RowLayout::Stream {
            return self.number();
        }
        self.word_on_line().and_then(number::parse_f64)
    }

    /// The next number of the row, if it is an integer.
    #[inline]
    pub(super) fn integer(&mut self) -> Option<i64> {
        self.skip_blanks(self.layout != RowLayout::Line);
        if let Some((number, len)) = number::scan_u32(self.rest)
            && self.rest.get(len).is_none_or(|&byte| ends_word(byte))
        {
            self.rest = &self.rest[len..];
            return Some(i64::from(number));
        }
        self.take_word().and_then(number::parse_i64)
    }

    /// Takes the rest of the line, with its comment and without its end.
    pub(super) fn take_line(&mut self) -> &'a [u8] {
        let len = memchr::memchr(b'\n', self.rest);
        let line = &self.rest[..len.unwrap_or(self.rest.len())];
        self.rest = &self.rest[line.len()..];
        line
    }

    /// The rest of the line, which stays.
    pub(super) fn rest_of_line(&self) -> &'a [u8] {
        self.clone().take_line()
    }

    /// Skips bytes of the line.
    pub(super) fn skip(&mut self, num_bytes: usize) {
        self.rest = self.rest.get(num_bytes..).unwrap_or_default();
    }

    /// The letters that the next word of the text begins with: a number may be glued to them.
    pub(super) fn letters(&mut self) -> &'a [u8] {
        self.skip_blanks(true);
        let is_letter = |byte: &u8| !ends_word(*byte) && !byte.is_ascii_digit();
        let len = self.rest.iter().take_while(|byte| is_letter(byte)).count();
        let (letters, rest) = self.rest.split_at(len);
        self.rest = rest;
        letters
    }

    fn take_word(&mut self) -> Option<&'a [u8]> {
        let len = self.rest.iter().position(|&byte| ends_word(byte));
        let (word, rest) = self.rest.split_at(len.unwrap_or(self.rest.len()));
        self.rest = rest;
        (!word.is_empty()).then_some(word)
    }

    /// Skips blanks and comments, and line ends if asked to.
    #[inline]
    fn skip_blanks(&mut self, over_lines: bool) {
        while let Some(&byte) = self.rest.first() {
            match byte {
                b'\n' if !over_lines => return,
                b'\n' => {
                    self.line += 1;
                    self.rest = &self.rest[1..];
                }
                b'#' => {
                    self.take_line();
                }
                0..=b' ' => self.rest = &self.rest[1..],
                _ => return,
            }
        }
    }
}

/// Blanks, control characters, and the beginning of a comment.
#[inline]
fn ends_word(byte: u8) -> bool {
    byte <= b' ' || byte == b'#'
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of each row of two.
    fn pairs(text: &str, layout: RowLayout) -> Option<Vec<[f64; 2]>> {
        let mut tokens = Tokens::new(text.as_bytes(), 1, layout);
        let mut pairs = Vec::new();
        while tokens.next_row() {
            pairs.push([tokens.number()?, tokens.number()?]);
            tokens.end_row();
        }
        Some(pairs)
    }

    #[test]
    fn rows_are_lines_or_not() {
        use RowLayout::{Line, Stream, Wrapped};
        let expected = Some(vec![[1.0, 2.0], [3.0, 4.0]]);
        for (text, fits) in [
            ("1 2\n3 4", [true, true, true]),
            ("# c\n\n 1\t2 # 9\n\n3 4#\n", [true, true, true]),
            ("1 2 7\n3 4 8\n", [true, true, false]),
            ("1\n2\n3 4", [false, true, true]),
            ("1\n2 7\n3\n\n4", [false, true, false]),
            ("1 2 3 4", [false, false, true]),
            ("1\n2 3\n4\0\0", [false, false, true]),
        ] {
            let are = [Line, Wrapped, Stream].map(|layout| pairs(text, layout) == expected);
            assert_eq!(are, fits, "{text:?}");
        }
    }

    #[test]
    fn lines_are_counted() {
        let mut tokens = Tokens::new(b"# one\n\n3 x1\n4.5", 1, RowLayout::Wrapped);
        assert_eq!((tokens.integer(), tokens.line()), (Some(3), 3));
        assert_eq!((tokens.number(), tokens.line()), (None, 3));
        assert_eq!((tokens.number(), tokens.line()), (Some(4.5), 4));
        assert_eq!(tokens.number(), None);
    }
}
