//! Parses decimal numbers from bytes; text meshes spend most of their import time here.

/// Powers of ten that are exact in `f64`.
const EXACT_POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

/// The nearest `f64` to a decimal number; NaN for the ways in which C runtimes print NaN and infinity.
pub(super) fn parse_f64(text: &[u8]) -> Option<f64> {
    match scan_f64(text) {
        Some((value, len)) if len == text.len() => Some(value),
        _ => parse_f64_fallback(text),
    }
}

/// The decimal of up to 15 digits at the start of the text, and its length; `None` if there is none or a longer one.
///
/// This fast path is exact: the digits and the power of ten are both `f64` numbers, and one division rounds once.
pub(super) fn scan_f64(text: &[u8]) -> Option<(f64, usize)> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let (mut mantissa, mut num_digits, mut num_decimals, mut seen_point) = (0_u64, 0, 0, false);
    let mut len = 0;
    for &byte in digits {
        match byte {
            b'0'..=b'9' if num_digits < 15 => {
                mantissa = mantissa * 10 + u64::from(byte - b'0');
                num_digits += usize::from(mantissa != 0);
                num_decimals += usize::from(seen_point);
            }
            b'0'..=b'9' => return None,
            b'.' if !seen_point => seen_point = true,
            _ => break,
        }
        len += 1;
    }
    if len <= usize::from(seen_point) || num_decimals >= EXACT_POWERS.len() {
        return None;
    }
    let value = mantissa as f64 / EXACT_POWERS[num_decimals];
    Some((
        if negative { -value } else { value },
        len + text.len() - digits.len(),
    ))
}

/// The unsigned integer of up to 9 digits at the start of the text, and its length.
pub(super) fn scan_u32(text: &[u8]) -> Option<(u32, usize)> {
    let mut value = 0;
    let mut len = 0;
    while let Some(byte @ b'0'..=b'9') = text.get(len) {
        if len == 9 {
            return None;
        }
        value = value * 10 + u32::from(byte - b'0');
        len += 1;
    }
    (len > 0).then_some((value, len))
}

#[cold]
fn parse_f64_fallback(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    // Old C runtimes print `1.#INF`, `-1.#IND`, `1.#QNAN` and `-nan(ind)`.
    if text.contains(".#") || text.to_ascii_lowercase().contains("nan") {
        return Some(f64::NAN);
    }
    text.parse().ok()
}

/// An integer with an optional sign.
pub(super) fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    let mut value = 0;
    for byte in digits {
        if !byte.is_ascii_digit() {
            return None;
        }
        value = value * 10 + i64::from(byte - b'0');
    }
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn odd_numbers() {
        assert_eq!(parse_f64(b"2."), Some(2.0));
        assert_eq!(parse_f64(b"-.5"), Some(-0.5));
        assert_eq!(parse_f64(b"+3.10"), Some(3.1));
        assert_eq!(parse_f64(b"1E-3"), Some(1e-3));
        assert_eq!(parse_f64(b"0.00000000000000000000000000001"), Some(1e-29));
        for bad in ["", ".", "-", "+.", "1.2.3", "3.1+e2", "0x10", "1,5"] {
            assert_eq!(parse_f64(bad.as_bytes()), None, "{bad}");
        }
        for not_finite in ["nan", "-nan(ind)", "inf", "-1.#IND", "1.#INF", "1e999"] {
            let value = parse_f64(not_finite.as_bytes());
            assert!(value.is_some_and(|value| !value.is_finite()), "{not_finite}");
        }
        assert_eq!(parse_i64(b"-12"), Some(-12));
        assert_eq!(parse_i64(b"1.0"), None);
        assert_eq!(parse_i64(b"99999999999999999999"), None);
    }

    proptest! {
        #[test]
        fn agrees_with_the_standard_library(text in "[-+]?[0-9]{0,20}(\\.[0-9]{0,30})?([eE][-+]?[0-9]{1,3})?") {
            let expected: Option<f64> = text.parse().ok();
            prop_assert_eq!(parse_f64(text.as_bytes()).map(f64::to_bits), expected.map(f64::to_bits));
        }
    }
}
