//! Arrays in NumPy's format, version 1.0, little-endian.

/// Signature and version.
const MAGIC: &[u8] = b"\x93NUMPY\x01\x00";
/// Alignment of the data in bytes.
const ALIGNMENT: usize = 64;

/// Encodes a row-major array of floats.
#[must_use]
pub fn encode_f32(shape: &[usize], values: &[f32]) -> Vec<u8> {
    encode("<f4", shape, values.iter().flat_map(|value| value.to_le_bytes()))
}

/// Encodes a row-major array of bytes.
#[must_use]
pub fn encode_u8(shape: &[usize], values: &[u8]) -> Vec<u8> {
    encode("|u1", shape, values.iter().copied())
}

fn encode(descr: &str, shape: &[usize], values: impl Iterator<Item = u8>) -> Vec<u8> {
    let sides: Vec<String> = shape.iter().map(usize::to_string).collect();
    // A comma makes a tuple of a single number; after others it does no harm.
    let mut header = format!(
        "{{'descr': '{descr}', 'fortran_order': False, 'shape': ({},), }}",
        sides.join(", ")
    );
    let num_before = MAGIC.len() + size_of::<u16>();
    let padded = (num_before + header.len() + 1).next_multiple_of(ALIGNMENT) - num_before;
    header.extend(std::iter::repeat_n(' ', padded - header.len() - 1));
    header.push('\n');
    let mut bytes = Vec::with_capacity(num_before + padded + values.size_hint().0);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&(padded as u16).to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend(values);
    bytes
}

/// Header and data of a row-major array.
fn split(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let (header, data) = rest.split_at_checked(u16::from_le_bytes(*length).into())?;
    let header = std::str::from_utf8(header).ok()?;
    header
        .contains("'fortran_order': False")
        .then_some((header, data))
}

/// The shape that a header states, if it is of so many values.
fn shape_of(header: &str, num_values: usize) -> Option<Vec<usize>> {
    let (sides, _) = header.split_once("'shape': (")?.1.split_once(')')?;
    let sides = sides.split(',').map(str::trim).filter(|side| !side.is_empty());
    let shape: Vec<usize> = sides.map(|side| side.parse().ok()).collect::<Option<_>>()?;
    let stated = shape
        .iter()
        .try_fold(1_usize, |product, side| product.checked_mul(*side))?;
    (stated == num_values).then_some(shape)
}

/// Decodes shape and values of a row-major array of bytes; `None` for anything else.
#[must_use]
pub fn decode_u8(bytes: &[u8]) -> Option<(Vec<usize>, Vec<u8>)> {
    let (header, data) = split(bytes)?;
    if !header.contains("'descr': '|u1'") {
        return None;
    }
    Some((shape_of(header, data.len())?, data.to_vec()))
}

/// Decodes shape and values of a row-major array of 4-byte or 8-byte floats, little-endian; `None` for anything else.
#[must_use]
pub fn decode_f32(bytes: &[u8]) -> Option<(Vec<usize>, Vec<f32>)> {
    let (header, data) = split(bytes)?;
    let values: Vec<f32> = if header.contains("'descr': '<f4'") {
        let (chunks, []) = data.as_chunks::<4>() else {
            return None;
        };
        chunks.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    } else if header.contains("'descr': '<f8'") {
        let (chunks, []) = data.as_chunks::<8>() else {
            return None;
        };
        chunks
            .iter()
            .map(|bytes| f64::from_le_bytes(*bytes) as f32)
            .collect()
    } else {
        return None;
    };
    Some((shape_of(header, values.len())?, values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numpy_would_read_it() {
        let bytes = encode_f32(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, f32::INFINITY]);
        assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
        let header_bytes = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        assert_eq!((10 + header_bytes) % 64, 0, "aligned");
        let header = String::from_utf8_lossy(&bytes[10..10 + header_bytes]);
        assert_eq!(
            header.trim_end_matches([' ', '\n']),
            "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3,), }"
        );
        assert!(header.ends_with('\n'), "{header:?}");
        let data = &bytes[10 + header_bytes..];
        assert_eq!(data.len(), 6 * 4);
        assert_eq!(data[4..8], 2.0_f32.to_le_bytes());
        assert_eq!(data[20..], f32::INFINITY.to_le_bytes());
        let (shape, values) = decode_f32(&bytes).unwrap_or_default();
        assert_eq!((shape.as_slice(), values[3]), (&[2, 3][..], 4.0));
        for damaged in [&bytes[..9], &bytes[..40], &bytes[..bytes.len() - 1], b"PNG"] {
            assert_eq!(decode_f32(damaged), None);
        }
        let bytes = encode_u8(&[2, 2], &[0, 1, 2, 255]);
        assert_eq!(decode_u8(&bytes), Some((vec![2, 2], vec![0, 1, 2, 255])));
        assert_eq!(decode_u8(&bytes[..bytes.len() - 1]), None, "cut");
        assert_eq!(decode_f32(&bytes), None, "of another type");
        let doubles = encode(
            "<f8",
            &[2],
            [1.5_f64, -2.0].iter().flat_map(|value| value.to_le_bytes()),
        );
        assert_eq!(decode_f32(&doubles), Some((vec![2], vec![1.5, -2.0])));
    }
}
