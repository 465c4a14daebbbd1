//! Point clouds as numpy arrays: N rows of 3 or more f4 or f8, of either byte order, in C or in Fortran order (as
//! transposed arrays are saved).

use super::{
    ImportError, MeshFormat,
    point::{self, MAX_COLUMNS, Row},
};
use crate::mesh::PointCloud;

fn error(problem: &'static str) -> ImportError {
    ImportError::File {
        format: MeshFormat::Npy,
        problem,
    }
}

/// An array as its header describes it.
struct Array<'a> {
    /// 8 bytes per number, or 4.
    is_wide: bool,
    is_big_endian: bool,
    /// Column-major, or row-major.
    is_fortran: bool,
    num_rows: usize,
    num_columns: usize,
    data: &'a [u8],
}

impl Array<'_> {
    fn row(&self, row_idx: usize) -> Row {
        let mut row: Row = [0.0; MAX_COLUMNS];
        for (column, place) in row.iter_mut().enumerate().take(self.num_columns) {
            *place = self.number(if self.is_fortran {
                column * self.num_rows + row_idx
            } else {
                row_idx * self.num_columns + column
            });
        }
        row
    }

    fn number(&self, idx: usize) -> f64 {
        if self.is_wide {
            let bytes = self.data.as_chunks().0[idx];
            if self.is_big_endian {
                f64::from_be_bytes(bytes)
            } else {
                f64::from_le_bytes(bytes)
            }
        } else {
            let bytes = self.data.as_chunks().0[idx];
            f64::from(if self.is_big_endian {
                f32::from_be_bytes(bytes)
            } else {
                f32::from_le_bytes(bytes)
            })
        }
    }
}

/// Parses the header.
fn split(bytes: &[u8]) -> Result<Array<'_>, ImportError> {
    let cut = || error("it ends within its header");
    let rest = bytes
        .strip_prefix(b"\x93NUMPY")
        .ok_or_else(|| error("it does not begin as arrays of numpy do"))?;
    let (&[major, _minor], rest) = rest.split_first_chunk().ok_or_else(cut)?;
    let (len, rest) = if major == 1 {
        let (&len, rest) = rest.split_first_chunk().ok_or_else(cut)?;
        (usize::from(u16::from_le_bytes(len)), rest)
    } else {
        let (&len, rest) = rest.split_first_chunk().ok_or_else(cut)?;
        (u32::from_le_bytes(len) as usize, rest)
    };
    let (header, data) = rest.split_at_checked(len).ok_or_else(cut)?;
    let header = str::from_utf8(header).map_err(|_| error("its header is not text"))?;
    let after = |key: &str| {
        let (_, after) = header.split_once(key)?;
        Some(after.trim_start_matches(['\'', '"', ':', ' ']))
    };
    let (Some(kind), Some(order), Some(shape)) = (after("descr"), after("fortran_order"), after("shape"))
    else {
        return Err(error("its header lacks a kind, an order or a shape"));
    };
    let (is_big_endian, is_wide) = match kind.get(..3) {
        Some("<f4") => (false, false),
        Some("<f8") => (false, true),
        Some(">f4") => (true, false),
        Some(">f8") => (true, true),
        _ => return Err(error("its numbers are not f4 or f8")),
    };
    let is_fortran = order.starts_with("True");
    let shape = shape
        .strip_prefix('(')
        .and_then(|shape| Some(shape.split_once(')')?.0))
        .unwrap_or_default();
    let mut sizes = shape
        .split(',')
        .map(str::trim)
        .filter(|size| !size.is_empty())
        .map(str::parse::<usize>);
    match (sizes.next(), sizes.next(), sizes.next()) {
        (Some(Ok(num_rows)), Some(Ok(num_columns @ 3..)), None) => Ok(Array {
            is_wide,
            is_big_endian,
            is_fortran,
            num_rows,
            num_columns,
            data,
        }),
        _ => Err(error("its shape is not N rows of 3 or more columns")),
    }
}

/// Reads a point cloud.
pub(super) fn read(bytes: &[u8], reads_colors: bool) -> Result<PointCloud, ImportError> {
    let array = split(bytes)?;
    let row_bytes = array
        .num_columns
        .checked_mul(if array.is_wide { 8 } else { 4 })
        .ok_or_else(|| error("its rows are larger than the file"))?;
    let is_whole = array
        .num_rows
        .checked_mul(row_bytes)
        .is_some_and(|len| len <= array.data.len());
    if !is_whole {
        return Err(error("its shape is larger than the file"));
    }
    let rows = || (0..array.num_rows).map(|row_idx| Ok(array.row(row_idx)));
    point::read(rows, array.num_columns, false, reads_colors)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use glam::{DVec3, Vec3};
    use proptest::prelude::*;

    use super::*;

    fn npy(major: u8, header: &str, data: &[u8]) -> Vec<u8> {
        let len = header.len() as u32;
        let len = if major == 1 {
            (len as u16).to_le_bytes().to_vec()
        } else {
            len.to_le_bytes().to_vec()
        };
        [b"\x93NUMPY", &[major, 0][..], &len, header.as_bytes(), data].concat()
    }

    fn header(kind: &str, shape: &str) -> String {
        format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}   \n")
    }

    #[test]
    fn both_widths_and_more_columns() {
        let wide: Vec<u8> = [1.5, 2.0, 3.0, 4.0, 5.0, 6.0_f64]
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect();
        let cloud = read(&npy(1, &header("<f8", "(2, 3)"), &wide), true).unwrap();
        assert_eq!(
            cloud.positions(),
            [DVec3::new(1.5, 2., 3.), DVec3::new(4., 5., 6.)]
        );
        let narrow: Vec<u8> = [1.0, 2.0, 3.0, 0.0, 0.0, -1.0_f32]
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect();
        let cloud = read(&npy(2, &header("<f4", "(1, 6)"), &narrow), true).unwrap();
        assert_eq!(
            (cloud.positions().len(), cloud.normals()),
            (1, [Vec3::NEG_Z].as_slice())
        );
    }

    #[test]
    fn both_orders_and_either_end_first() {
        // (1.5, 2, 3) and (4, 5, 6), column by column.
        let columns = [1.5, 4.0, 2.0, 5.0, 3.0, 6.0_f64];
        let header = header(">f8", "(2, 3)").replace("False", "True");
        let data: Vec<u8> = columns.iter().flat_map(|number| number.to_be_bytes()).collect();
        let cloud = read(&npy(1, &header, &data), true).unwrap();
        let expected = [DVec3::new(1.5, 2., 3.), DVec3::new(4., 5., 6.)];
        assert_eq!(cloud.positions(), expected);
        let header = header.replace("f8", "f4");
        let data: Vec<u8> = columns
            .iter()
            .flat_map(|number| (*number as f32).to_be_bytes())
            .collect();
        assert_eq!(read(&npy(1, &header, &data), true).unwrap().positions(), expected);
        assert!(read(&npy(1, &header, &data[1..]), true).is_err(), "cut off");
    }

    #[test]
    fn refuses_by_name() {
        for (bytes, says) in [
            (b"PK".to_vec(), "begin as"),
            (b"\x93NUMPY\x01\x00\xff\xff{".to_vec(), "within its header"),
            (npy(1, &header("<i4", "(1, 3)"), &[0; 12]), "not f4 or f8"),
            (npy(1, &header(">f2", "(1, 3)"), &[0; 12]), "not f4 or f8"),
            (npy(1, &header("<f4", "(3,)"), &[0; 12]), "its shape is not"),
            (npy(1, &header("<f4", "(1, 2)"), &[0; 8]), "its shape is not"),
            (npy(1, &header("<f4", "(2, 3)"), &[0; 12]), "larger than the file"),
            (
                npy(1, &header("<f8", "(4611686018427387904, 4)"), &[0; 12]),
                "larger than the file",
            ),
            (
                npy(1, &header("<f8", "(1, 4611686018427387904)"), &[0; 12]),
                "larger than the file",
            ),
            (npy(1, &header("<f4", "(0, 3)"), &[]), "no faces"),
        ] {
            let error = read(&bytes, true).unwrap_err().to_string();
            assert!(error.contains(says), "{error}, but expected {says}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(
            change in any::<prop::sample::Index>(), byte: u8, noise in prop::collection::vec(any::<u8>(), 0..50),
        ) {
            let order = if byte % 2 == 0 { "True" } else { "False" };
            let mut bytes = npy(1, &header("<f4", "(3, 3)").replace("False", order), &[7; 36]);
            *change.get_mut(&mut bytes) = byte;
            let _ = read(&bytes, true);
            let _ = read(&[b"\x93NUMPY".as_slice(), &noise].concat(), true);
        }
    }
}
