//! Point clouds as text: a row per point, numbers separated by spaces, tabs, commas or semicolons (`.xyz`, `.txt`,
//! `.pts`, `.asc`).
//!
//! Lines that begin with `#` or `//` are comments; the first line may be the number of points or the column names.

use super::{
    ImportError, MeshFormat, number,
    point::{self, MAX_COLUMNS, Row},
    text,
};
use crate::mesh::PointCloud;

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| byte.is_ascii_whitespace() || matches!(byte, b',' | b';'))
        .filter(|word| !word.is_empty())
}

/// Reads a point cloud.
pub(super) fn read(bytes: &[u8], reads_colors: bool) -> Result<PointCloud, ImportError> {
    let bytes = text::decode(bytes);
    let lines = || {
        bytes
            .split(|&byte| byte == b'\n')
            .enumerate()
            .map(|(index, line)| (index + 1, line.trim_ascii()))
            .filter(|(_, line)| !(line.is_empty() || line.starts_with(b"#") || line.starts_with(b"//")))
    };
    let is_row = |line: &[u8]| {
        let numbers = words(line).map(number::parse_f64);
        numbers.take(3).flatten().count() == 3
    };
    let mut head = lines().take(2);
    let first = head.next().map(|(_, line)| line).unwrap_or_default();
    let second = head.next().map(|(_, line)| line).unwrap_or_default();
    let has_count = words(first).count() == 1 && number::parse_i64(first).is_some();
    let has_names = !is_row(first) && words(first).any(|word| number::parse_f64(word).is_none());
    let has_header = has_count || has_names;
    let num_columns = words(if has_header { second } else { first }).count();

    let rows = || {
        lines().skip(usize::from(has_header)).map(|(line, text)| {
            let error = |problem| ImportError::Line {
                format: MeshFormat::Xyz,
                line,
                problem,
            };
            let mut row: Row = [0.0; MAX_COLUMNS];
            let mut words = words(text);
            for (column, place) in row.iter_mut().enumerate().take(num_columns.max(3)) {
                let number = words.next().and_then(number::parse_f64);
                // A column behind the coordinates may be a word; it is not a color then.
                *place = match number {
                    None if column < 3 => return Err(error("a point needs three numbers")),
                    number => number.unwrap_or(f64::NAN),
                };
            }
            Ok(row)
        })
    };
    point::read(rows, num_columns, has_count, reads_colors)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use glam::{DVec3, Vec3};
    use proptest::prelude::*;

    use super::*;

    fn points(text: &str) -> PointCloud {
        read(text.as_bytes(), true).unwrap_or_else(|error| panic!("{text:?}: {error}"))
    }

    #[test]
    fn all_kinds_of_rows() {
        for text in [
            "1 2 3\n4 5 6\n",
            "# a scan\n1,2,3\r\n4, 5, 6",
            "2\n1 2 3\n\n4 5 6",
            "//X Y Z\nx;y;z\n1;2;3\n4;5;6",
            "1\t2\t3\t0.5\n4\t5\t6\t0.5",
            "1 2 3 chair\n4 5 6 table",
        ] {
            assert_eq!(
                points(text).positions(),
                [DVec3::new(1., 2., 3.), DVec3::new(4., 5., 6.)],
                "{text:?}"
            );
        }
        let cloud = points("0 0 0 0 0 1 255 0 0\n1 0 0 0 1 0 0 7 0");
        assert_eq!(cloud.normals(), [Vec3::Z, Vec3::Y]);
        assert_eq!(cloud.colors(), [[255, 0, 0, 255], [0, 7, 0, 255]]);
        assert!(read(b"0 0 0 0 0 9\n", false).unwrap().colors().is_empty());
        assert_eq!(points("3\n1 2 3 -5 1 2 3").colors(), [[1, 2, 3, 255]]);
        assert_eq!(points("1 2 3\nnan nan nan\n4 5 6").num_dropped(), 1);
    }

    #[test]
    fn refuses_by_name() {
        for (text, says) in [
            ("", "no faces"),
            ("# nothing\n", "no faces"),
            ("1 2\n3 4\n", "line 1 of the XYZ: a point needs three numbers"),
            ("1 2 3\n4 5\n", "line 2 of the XYZ"),
            ("1 2 3\na b c\n", "line 2 of the XYZ"),
            ("To be\nor not to be\n", "line 2 of the XYZ"),
        ] {
            let error = read(text.as_bytes(), true).unwrap_err().to_string();
            assert!(error.contains(says), "{text:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(
            words in prop::collection::vec(prop_oneof!["-?[0-9]{1,3}(\\.[0-9])?", "\n", "[,;#/ ]", ".{0,3}"], 0..200),
            bytes in prop::collection::vec(any::<u8>(), 0..50),
        ) {
            let _ = read(&[words.join(" ").as_bytes(), &bytes].concat(), true);
        }
    }
}
