//! Colors of a lighting: `Rgb`, and `ColorKind`, whether images are gray.

use serde::{Deserialize, Serialize};

/// Red, green and blue, 1 being white. In a recipe a single number stands for gray.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(from = "OneOrThree", into = "OneOrThree")]
pub struct Rgb(pub [f64; 3]);

#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "a number, or three of them")]
enum OneOrThree {
    One(f64),
    Three([f64; 3]),
}

impl Rgb {
    /// Nothing.
    pub const BLACK: Self = Self::gray(0.0);
    /// All.
    pub const WHITE: Self = Self::gray(1.0);

    /// Equal channels.
    #[must_use]
    pub const fn gray(value: f64) -> Self {
        Self([value; 3])
    }

    /// Are all channels equal?
    #[must_use]
    pub fn is_gray(&self) -> bool {
        let [red, green, blue] = self.0.map(f64::to_bits);
        red == green && green == blue
    }

    pub(crate) fn as_f32(&self) -> [f32; 3] {
        self.0.map(|part| part as f32)
    }
}

impl From<OneOrThree> for Rgb {
    fn from(parts: OneOrThree) -> Self {
        match parts {
            OneOrThree::One(value) => Self::gray(value),
            OneOrThree::Three(parts) => Self(parts),
        }
    }
}

impl From<Rgb> for OneOrThree {
    fn from(rgb: Rgb) -> Self {
        if rgb.is_gray() {
            Self::One(rgb.0[0])
        } else {
            Self::Three(rgb.0)
        }
    }
}

/// Channels of a color.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColorKind {
    /// One channel.
    Gray,
    /// Three channels.
    Rgb,
}
