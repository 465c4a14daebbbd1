//! Files of points as people have them: NPY arrays, and text with a point a line.

use std::fs;
use std::path::Path;

use tap_dataset::npy;

use crate::error::TrainError;

/// Extensions of such files.
const EXTENSIONS: [&str; 5] = ["npy", "xyz", "txt", "pts", "csv"];
/// Largest file that is read.
const MAX_BYTES: u64 = 1 << 30;

/// Whether a file is one of points, by its name.
#[must_use]
pub fn is_cloud_file(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| {
        EXTENSIONS
            .iter()
            .any(|known| extension.eq_ignore_ascii_case(known))
    })
}

/// The first three columns of a file, as they stand there.
///
/// # Errors
/// Where it cannot be read, is larger than 1 GiB, has no points, or a number that is not finite.
pub fn read_cloud(path: &Path) -> Result<Vec<[f32; 3]>, TrainError> {
    let io = |error| TrainError::io("read", path)(error);
    let unsuitable = |reason: String| TrainError::UnsuitableData {
        reason,
        path: path.to_owned(),
    };
    if fs::metadata(path).map_err(io)?.len() > MAX_BYTES {
        return Err(unsuitable(String::from("a file of points of more than 1 GiB")));
    }
    let bytes = fs::read(path).map_err(io)?;
    let is_npy = path
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("npy"));
    let points = if is_npy {
        from_npy(&bytes)
    } else {
        from_text(&bytes)
    }
    .map_err(unsuitable)?;
    if points.is_empty() {
        return Err(unsuitable(String::from("it has no points")));
    }
    match points
        .iter()
        .position(|point| !point.iter().all(|x| x.is_finite()))
    {
        Some(row) => Err(unsuitable(format!("point {row} is not finite"))),
        None => Ok(points),
    }
}

fn from_npy(bytes: &[u8]) -> Result<Vec<[f32; 3]>, String> {
    let (shape, values) =
        npy::decode_f32(bytes).ok_or("not a row-major array of 4-byte or 8-byte floats (.npy version 1)")?;
    let &[num_points, width] = shape.as_slice() else {
        return Err(format!(
            "an array of {} dimensions, expected points x 3",
            shape.len()
        ));
    };
    if width < 3 {
        return Err(format!("{width} numbers a point, expected x, y, z"));
    }
    let points = values.chunks_exact(width).map(|row| [row[0], row[1], row[2]]);
    debug_assert_eq!(points.len(), num_points, "the array is as long as its shape says");
    Ok(points.collect())
}

/// Numbers apart by white space, commas or semicolons. A first line that is no point, such as names or a count, is passed over.
fn from_text(bytes: &[u8]) -> Result<Vec<[f32; 3]>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "not text")?;
    let lines = text.lines().enumerate();
    let mut lines = lines.filter(|(_, line)| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
    let mut points = Vec::new();
    if let Some((_, first)) = lines.next() {
        points.extend(point(first));
    }
    for (number, line) in lines {
        points.push(point(line).ok_or_else(|| format!("line {} is no point: x, y, z", number + 1))?);
    }
    Ok(points)
}

fn point(line: &str) -> Option<[f32; 3]> {
    let words = line.split(|c: char| c.is_whitespace() || c == ',' || c == ';');
    let mut numbers = words.filter(|word| !word.is_empty()).map(str::parse);
    let mut next = || numbers.next()?.ok();
    Some([next()?, next()?, next()?])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn read(name: &str, bytes: &[u8]) -> Result<Vec<[f32; 3]>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        read_cloud(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn text_is_read_in_its_usual_shapes() {
        let expected = Ok(vec![[1.0, 2.0, 3.0], [-4.0, 0.5, 6e-3]]);
        for text in [
            "1 2 3\n-4 0.5 6e-3\n",
            "1,2,3,0,0,1\n-4,0.5,6e-3,0,1,0",
            "x;y;z\n1;2;3\n\n-4;0.5;6e-3",
            "2\n1 2 3\n-4\t0.5\t6e-3\n",
            "# a scan\n1 2 3 255\n-4 0.5 6e-3 128\n",
        ] {
            assert_eq!(read("a.xyz", text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn arrays_are_read_with_any_further_columns() {
        let array = npy::encode_f32(&[2, 4], &[1.0, 2.0, 3.0, 9.0, 4.0, 5.0, 6.0, 9.0]);
        assert_eq!(read("a.npy", &array), Ok(vec![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]));
    }

    #[test]
    fn what_is_no_cloud_is_refused_with_its_reason() {
        let flat = npy::encode_f32(&[3], &[1.0, 2.0, 3.0]);
        let narrow = npy::encode_f32(&[1, 2], &[1.0, 2.0]);
        for (name, bytes, words) in [
            ("a.xyz", &b""[..], "no points"),
            ("a.xyz", b"1 2 3\nfour five six\n", "line 2 is no point"),
            ("a.xyz", b"1 2 nan\n", "point 0 is not finite"),
            ("a.txt", b"\xff\xfe", "not text"),
            ("a.npy", b"\x93NUMPY\x01\x00\x10", "not a row-major array"),
            ("a.npy", &flat, "1 dimensions"),
            ("a.npy", &narrow, "2 numbers a point"),
        ] {
            let error = read(name, bytes).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        assert!(is_cloud_file(Path::new("a/b.XYZ")) && !is_cloud_file(Path::new("a/b.obj")));
    }
}
