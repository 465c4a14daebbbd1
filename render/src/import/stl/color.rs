//! Colors in the two spare bytes of binary facets, 5 bits a channel; two programs' conventions are in use.
//!
//! - `VisCAM` and `SolidView`: red is in bits 10 to 14, blue in the lowest; a facet has a color if bit 15 is set.
//! - Materialise Magics: the header holds `COLOR=` and four bytes, the color of the object; red is in the lowest bits,
//!   blue in bits 10 to 14; a facet has the color of the object if bit 15 is set. Files in which all spare bytes are 0
//!   have only the color of the object.
//!
//! Source: <https://en.wikipedia.org/wiki/STL_(file_format)>, "Color in binary STL". Opacity is not read.

use super::Facet;
use crate::import::color::WHITE;

/// Introduces the object's color in the header of Materialise Magics.
const OBJECT_COLOR: &[u8] = b"COLOR=";
/// Bit 15.
const FLAG: u16 = 1 << 15;

/// The convention of a file.
pub(super) enum FacetColors {
    VisCam,
    Magics {
        object: [u8; 4],
    },
    /// All facets have one color.
    Uniform {
        object: [u8; 4],
    },
}

impl FacetColors {
    /// `None` if the file has no colors.
    pub(super) fn new(header: &[u8], facets: &[Facet]) -> Option<Self> {
        let place = header
            .windows(OBJECT_COLOR.len())
            .position(|bytes| bytes == OBJECT_COLOR);
        let object = place.and_then(|place| header[place + OBJECT_COLOR.len()..].first_chunk::<3>());
        match object {
            Some(&[red, green, blue]) => {
                let object = [red, green, blue, u8::MAX];
                Some(if facets.iter().all(|facet| spare(facet) == 0) {
                    Self::Uniform { object }
                } else {
                    Self::Magics { object }
                })
            }
            None if facets.iter().any(|facet| spare(facet) & FLAG != 0) => Some(Self::VisCam),
            None => None,
        }
    }

    pub(super) fn of(&self, facet: &Facet) -> [u8; 4] {
        let bits = spare(facet);
        let has_flag = bits & FLAG != 0;
        let [low, middle, high] = [0, 5, 10].map(|shift| channel(bits >> shift));
        match *self {
            Self::VisCam if has_flag => [high, middle, low, u8::MAX],
            Self::VisCam => WHITE,
            Self::Magics { .. } if !has_flag => [low, middle, high, u8::MAX],
            Self::Magics { object } | Self::Uniform { object } => object,
        }
    }
}

/// The two bytes behind the corners.
fn spare(facet: &Facet) -> u16 {
    u16::from_le_bytes([facet[48], facet[49]])
}

/// The lowest five bits, spread to eight.
fn channel(bits: u16) -> u8 {
    ((bits & 31) * 255 / 31) as u8
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn facet(spare: u16) -> Facet {
        let mut facet = [0; 50];
        facet[48..].copy_from_slice(&spare.to_le_bytes());
        facet
    }

    #[test]
    fn both_conventions() {
        let (low, high) = (31, 31 << 10);
        let facets = [low | FLAG, high | FLAG, low, 0].map(facet);
        let [red, blue] = [[255, 0, 0, 255], [0, 0, 255, 255]];
        let colors = |header: &[u8]| {
            let colors = FacetColors::new(header, &facets).unwrap();
            facets.map(|facet| colors.of(&facet))
        };
        assert_eq!(colors(b"made by hand"), [blue, red, WHITE, WHITE]);
        let object = [9, 8, 7, 255];
        assert_eq!(
            colors(b"by hand COLOR=\x09\x08\x07\xff,MATERIAL="),
            [object, object, red, [0, 0, 0, 255]]
        );
        let uniform = FacetColors::new(b"COLOR=\x09\x08\x07\xff", &[facet(0)]).unwrap();
        assert_eq!(uniform.of(&facet(0)), object);
        assert!(FacetColors::new(b"by hand", &[facet(0), facet(31)]).is_none());
    }
}
