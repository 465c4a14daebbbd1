//! Colors of vertices and faces in the formats that do not say which range they are in: 0 to 1, or 0 to 255.

/// Default color.
pub(super) const WHITE: [u8; 4] = [u8::MAX; 4];

/// Placeholder in a list of colors.
pub(super) const NO_COLOR: [f32; 3] = [f32::NAN; 3];

/// A number above this is no rounding error, and no highlight that a lamp overexposed a little.
const WELL_ABOVE_ONE: f32 = 2.0;

/// Colors of a file, in either range; numbers beyond it are clamped. Placeholders become white.
pub(super) fn bytes_of_colors(colors: &[[f32; 3]]) -> Vec<[u8; 4]> {
    let factor = if are_bytes(colors) { 1.0 } else { 255.0 };
    colors
        .iter()
        .map(|color| {
            if color.iter().any(|channel| channel.is_nan()) {
                return WHITE;
            }
            let [r, g, b] = color.map(|channel| (channel * factor).round() as u8);
            [r, g, b, u8::MAX]
        })
        .collect()
}

/// Are the numbers from 0 to 255? Then they are whole, or most that are not black are well above 1. A few are no
/// evidence: programs write 1.000001, or 1.2 where a lamp shines.
fn are_bytes(colors: &[[f32; 3]]) -> bool {
    let channels = || colors.as_flattened().iter().filter(|channel| **channel > 0.0);
    let num_well_above = channels().filter(|channel| **channel > WELL_ABOVE_ONE).count();
    let are_whole = || channels().all(|channel| channel.fract() == 0.0);
    num_well_above > 0 && (2 * num_well_above > channels().count() || are_whole())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_needs_evidence() {
        let first = |colors: &[[f32; 3]]| bytes_of_colors(colors)[0];
        let blue = [0.2, 0.6, 1.0];
        let unit = [51, 153, 255, 255];
        for over in [1.000_001, 1.2, 1.9, 5.0, 255.0] {
            let colors = [[blue; 8].as_slice(), &[[over, 0.2, 0.2]], &[NO_COLOR]].concat();
            assert_eq!(first(&colors), unit, "{over}");
            assert_eq!(
                bytes_of_colors(&colors)[8],
                [255, 51, 51, 255],
                "{over} is clamped"
            );
            assert_eq!(bytes_of_colors(&colors)[9], WHITE);
        }
        assert_eq!(
            first(&[[0.0, 0.0, 0.9], [1.2, 0.0, 0.0], [1.2, 0.0, 0.0]])[2],
            230
        );
        assert_eq!(first(&[[1.0, 0.0, 1.0], [2.0, 0.0, 1.0]]), [255, 0, 255, 255]);
        for bytes in [
            [[51.0, 153.0, 255.0], [1.0; 3]],
            [[51.0, 153.0, 255.0], [127.5, 0.5, 0.0]],
        ] {
            assert_eq!(first(&bytes), unit, "{bytes:?}");
        }
    }
}
