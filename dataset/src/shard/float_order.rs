//! [`FloatOrder`]: declares the order of float columns in the form that readers know.
//!
//! The Parquet crate declares the IEEE 754 total order for floats, which is so new that readers (pyarrow, `DuckDB`, polars)
//! ignore the statistics of such a column. Without NaN, both orders have the same minimum and maximum, and columns of this
//! program have none. So the footer is made to declare the order defined by the type, which is as old as the statistics.
//!
//! A footer ends with the list of orders, in Thrift's compact protocol: for each column a union of three bytes, then the
//! end of the footer, its length, and the magic.

use std::io::{self, Write};

/// Field 1 of the union, defined by type, and field 2, IEEE 754 total order; both are empty.
const TYPE_DEFINED: [u8; 3] = [0x1c, 0, 0];
const IEEE_754: [u8; 3] = [0x2c, 0, 0];
/// End of the footer's fields, its length (4 bytes), and the magic (4 bytes).
const END_BYTES: usize = 9;

/// A writer that holds back the orders at the end of a Parquet file until [`FloatOrder::finish`].
#[derive(Debug)]
pub(super) struct FloatOrder<W> {
    target: W,
    tail_bytes: usize,
    tail: Vec<u8>,
}

impl<W: Write> FloatOrder<W> {
    /// For a file with this number of columns, counted as Parquet does, without nesting.
    pub(super) fn new(target: W, num_columns: usize) -> Self {
        Self {
            target,
            tail_bytes: num_columns * TYPE_DEFINED.len() + END_BYTES,
            tail: Vec::new(),
        }
    }

    /// Writes the rest.
    pub(super) fn finish(mut self) -> io::Result<W> {
        let orders = self.tail.len().saturating_sub(END_BYTES);
        let (orders, _) = self.tail[..orders].as_chunks_mut();
        for order in orders.iter_mut().filter(|order| **order == IEEE_754) {
            *order = TYPE_DEFINED;
        }
        self.target.write_all(&self.tail)?;
        Ok(self.target)
    }
}

impl<W: Write> Write for FloatOrder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let passed = (self.tail.len() + bytes.len()).saturating_sub(self.tail_bytes);
        let of_tail = passed.min(self.tail.len());
        self.target.write_all(&self.tail[..of_tail])?;
        self.tail.drain(..of_tail);
        let (passed, kept) = bytes.split_at(passed - of_tail);
        self.target.write_all(passed)?;
        self.tail.extend_from_slice(kept);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.target.flush()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn only_the_orders_at_the_end_change_however_the_bytes_come() {
        let orders = [TYPE_DEFINED, IEEE_754, TYPE_DEFINED].concat();
        let file = [&IEEE_754.repeat(9)[..], &orders, b"\0\x2c\0\0\0PAR1"].concat();
        let changed = [
            &IEEE_754.repeat(9)[..],
            &TYPE_DEFINED.repeat(3),
            b"\0\x2c\0\0\0PAR1",
        ]
        .concat();
        for chunk_bytes in [1, 2, 7, 18, 19, 1000] {
            let mut writer = FloatOrder::new(Vec::new(), 3);
            for chunk in file.chunks(chunk_bytes) {
                writer.write_all(chunk).unwrap();
            }
            assert_eq!(writer.finish().unwrap(), changed, "{chunk_bytes} bytes at a time");
        }
    }
}
