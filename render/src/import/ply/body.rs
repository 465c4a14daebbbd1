//! The body of a PLY: numbers, row by row.

use super::{
    ImportError, MeshFormat, error,
    header::{Element, Encoding, Property, Scalar},
};
use crate::import::token::Tokens;

/// Reads numbers in order.
pub(super) enum Body<'a> {
    Text(Tokens<'a>),
    /// The bytes that are left.
    Binary {
        rest: &'a [u8],
        is_big_endian: bool,
    },
}

impl<'a> Body<'a> {
    pub(super) fn binary(bytes: &'a [u8], encoding: Encoding) -> Self {
        Self::Binary {
            rest: bytes,
            is_big_endian: encoding == Encoding::BigEndian,
        }
    }

    /// Goes to the next row of an element; `false` if there is none, which only an open element may end with.
    #[inline]
    pub(super) fn next_row(&mut self, element: &Element) -> Result<bool, ImportError> {
        let has_row = match self {
            Self::Text(tokens) => tokens.next_row(),
            Self::Binary { rest, .. } => !rest.is_empty(),
        };
        if has_row || element.is_open() {
            Ok(has_row)
        } else {
            Err(error("it ends before all its elements"))
        }
    }

    #[inline]
    pub(super) fn end_row(&mut self) {
        if let Self::Text(tokens) = self {
            tokens.end_row();
        }
    }

    /// Is nothing left?
    pub(super) fn is_at_end(&mut self) -> bool {
        match self {
            Self::Text(tokens) => !tokens.next_row(),
            Self::Binary { rest, .. } => rest.is_empty(),
        }
    }

    #[inline]
    pub(super) fn number(&mut self, scalar: Scalar) -> Result<f64, ImportError> {
        match self {
            Self::Text(tokens) => tokens.number().ok_or_else(|| ImportError::Line {
                format: MeshFormat::Ply,
                line: tokens.line(),
                problem: "it has fewer numbers than its element has properties",
            }),
            Self::Binary { rest, is_big_endian } => {
                let cut = || error("it ends before all its elements");
                let (bytes, after) = rest.split_at_checked(scalar.size()).ok_or_else(cut)?;
                *rest = after;
                Ok(decode(scalar, bytes, *is_big_endian))
            }
        }
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
        let (left, min_size) = match self {
            Self::Text(tokens) => (tokens.num_bytes(), 2),
            Self::Binary { rest, .. } => (rest.len(), item.size()),
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

/// `bytes` has the size of the type.
#[inline]
fn decode(scalar: Scalar, bytes: &[u8], is_big_endian: bool) -> f64 {
    let mut raw = [0; 8];
    let raw = &mut raw[..bytes.len()];
    raw.copy_from_slice(bytes);
    if is_big_endian {
        raw.reverse();
    }
    match (scalar, &*raw) {
        (Scalar::I8, &[a]) => f64::from(a.cast_signed()),
        (Scalar::U8, &[a]) => f64::from(a),
        (Scalar::I16, &[a, b]) => f64::from(i16::from_le_bytes([a, b])),
        (Scalar::U16, &[a, b]) => f64::from(u16::from_le_bytes([a, b])),
        (Scalar::I32, &[a, b, c, d]) => f64::from(i32::from_le_bytes([a, b, c, d])),
        (Scalar::U32, &[a, b, c, d]) => f64::from(u32::from_le_bytes([a, b, c, d])),
        (Scalar::F32, &[a, b, c, d]) => f64::from(f32::from_le_bytes([a, b, c, d])),
        (Scalar::I64, &[a, b, c, d, e, f, g, h]) => i64::from_le_bytes([a, b, c, d, e, f, g, h]) as f64,
        (Scalar::U64, &[a, b, c, d, e, f, g, h]) => u64::from_le_bytes([a, b, c, d, e, f, g, h]) as f64,
        (Scalar::F64, &[a, b, c, d, e, f, g, h]) => f64::from_le_bytes([a, b, c, d, e, f, g, h]),
        _ => unreachable!("the bytes were split off by their type's size"),
    }
}
