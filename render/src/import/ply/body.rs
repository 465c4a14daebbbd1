//! The body of a PLY: numbers, row by row.

use super::{
    ImportError, MeshFormat, error,
    header::{Encoding, Header, Property, Scalar},
    number, text,
};

/// Reads numbers in order.
pub(super) struct Body<'a> {
    encoding: Encoding,
    /// Unread bytes; of a text, after the current line.
    rest: &'a [u8],
    /// Unread part of the current line of a text.
    line: &'a [u8],
    line_number: usize,
}

impl<'a> Body<'a> {
    pub(super) fn new(bytes: &'a [u8], header: &Header) -> Self {
        Self {
            encoding: header.encoding,
            rest: &bytes[header.len..],
            line: &[],
            line_number: header.num_lines,
        }
    }

    /// Moves to the next row: the next line of a text that is not empty.
    pub(super) fn next_row(&mut self) -> Result<(), ImportError> {
        if self.encoding != Encoding::Text {
            return Ok(());
        }
        loop {
            if self.rest.is_empty() {
                return Err(error("it ends before all its elements"));
            }
            let len = self.rest.iter().position(|&byte| byte == b'\n');
            let (line, rest) = match len {
                Some(len) => (&self.rest[..len], &self.rest[len + 1..]),
                None => (self.rest, &[][..]),
            };
            self.line_number += 1;
            self.rest = rest;
            self.line = line.trim_ascii();
            if !self.line.is_empty() {
                return Ok(());
            }
        }
    }

    pub(super) fn number(&mut self, scalar: Scalar) -> Result<f64, ImportError> {
        if self.encoding == Encoding::Text {
            let (word, rest) = text::split_word(self.line);
            self.line = rest;
            let number = number::parse_f64(word).filter(|_| !word.is_empty());
            return number.ok_or(ImportError::Line {
                format: MeshFormat::Ply,
                line: self.line_number,
                problem: "it has fewer numbers than its element has properties",
            });
        }
        let cut = || error("it ends before all its elements");
        let (bytes, rest) = self.rest.split_at_checked(scalar.size()).ok_or_else(cut)?;
        self.rest = rest;
        let mut raw = [0; 8];
        let raw = &mut raw[..bytes.len()];
        raw.copy_from_slice(bytes);
        if self.encoding == Encoding::BigEndian {
            raw.reverse();
        }
        Ok(match (scalar, &*raw) {
            (Scalar::I8, &[a]) => f64::from(a.cast_signed()),
            (Scalar::U8, &[a]) => f64::from(a),
            (Scalar::I16, &[a, b]) => f64::from(i16::from_le_bytes([a, b])),
            (Scalar::U16, &[a, b]) => f64::from(u16::from_le_bytes([a, b])),
            (Scalar::I32, &[a, b, c, d]) => f64::from(i32::from_le_bytes([a, b, c, d])),
            (Scalar::U32, &[a, b, c, d]) => f64::from(u32::from_le_bytes([a, b, c, d])),
            (Scalar::F32, &[a, b, c, d]) => f64::from(f32::from_le_bytes([a, b, c, d])),
            (Scalar::F64, &[a, b, c, d, e, f, g, h]) => f64::from_le_bytes([a, b, c, d, e, f, g, h]),
            _ => unreachable!("the bytes were split off by their type's size"),
        })
    }

    /// Reads a list into `items`.
    pub(super) fn list(
        &mut self,
        len: Scalar,
        item: Scalar,
        items: &mut Vec<f64>,
    ) -> Result<(), ImportError> {
        items.clear();
        let len = self.number(len)?;
        let (left, min_size) = match self.encoding {
            Encoding::Text => (self.line.len(), 2),
            _ => (self.rest.len(), item.size()),
        };
        // A negative or NaN length fails as well.
        if !(len >= 0.0 && len * min_size as f64 <= left as f64 + 1.0) {
            return Err(error("a list is longer than the file"));
        }
        for _ in 0..len as usize {
            items.push(self.number(item)?);
        }
        Ok(())
    }

    /// Skips a property.
    pub(super) fn skip(&mut self, property: &Property, scratch: &mut Vec<f64>) -> Result<(), ImportError> {
        match property.list_len {
            Some(len) => self.list(len, property.item, scratch),
            None => self.number(property.item).map(|_| ()),
        }
    }
}
