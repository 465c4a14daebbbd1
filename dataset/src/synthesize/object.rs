//! An object of named parts, and its OBJ and MTL form: one group and one material per part.

use std::fmt::Write as _;

use glam::{DAffine3, DVec3};

use super::solid::Solid;
use crate::seeded_rng::SeededRng;

/// Parts in order of first use.
#[derive(Debug, Default)]
pub(crate) struct Object {
    parts: Vec<(&'static str, Solid)>,
}

impl Object {
    pub(crate) fn add(&mut self, part: &'static str, solid: Solid) {
        match self.parts.iter_mut().find(|(name, _)| *name == part) {
            Some((_, whole)) => whole.append(solid),
            None => self.parts.push((part, solid)),
        }
    }

    /// Adds a solid and its mirror image across x = 0.
    pub(super) fn add_pair(&mut self, part: &'static str, solid: Solid) {
        self.add(part, solid.clone());
        self.add(part, solid.mirrored());
    }

    pub(crate) fn parts(&self) -> &[(&'static str, Solid)] {
        &self.parts
    }

    pub(super) fn num_triangles(&self) -> usize {
        self.parts.iter().map(|(_, solid)| solid.triangles.len()).sum()
    }

    pub(crate) fn transform(&mut self, transform: DAffine3) {
        for (_, solid) in &mut self.parts {
            *solid = std::mem::take(solid).transformed(transform);
        }
    }

    /// Lowest and highest coordinates.
    pub(crate) fn bounds(&self) -> (DVec3, DVec3) {
        let positions = || self.parts.iter().flat_map(|(_, solid)| &solid.positions);
        (
            positions().copied().fold(DVec3::INFINITY, DVec3::min),
            positions().copied().fold(DVec3::NEG_INFINITY, DVec3::max),
        )
    }

    /// Centers the bounding box and scales its diagonal to 1, as in `ShapeNetCore` files.
    pub(crate) fn normalize(&mut self) {
        let (low, high) = self.bounds();
        let scale = DAffine3::from_scale(DVec3::splat((high - low).length().recip()));
        self.transform(scale * DAffine3::from_translation((low + high) / -2.0));
    }

    /// OBJ text with five decimals. Triangles that rounding makes degenerate are left out.
    pub(crate) fn to_obj(&self) -> String {
        let mut text = String::from("mtllib model.mtl\n");
        let mut first = 1;
        for (name, solid) in &self.parts {
            let _ = write!(text, "g {name}\nusemtl {name}\n");
            let rounded: Vec<[i64; 3]> = solid
                .positions
                .iter()
                .map(|position| position.to_array().map(|number| (number * 1e5).round() as i64))
                .collect();
            // Equal positions are written once.
            let mut places: Vec<[i64; 3]> = rounded.clone();
            places.sort_unstable();
            places.dedup();
            for place in &places {
                let [x, y, z] = place.map(|number| number as f64 / 1e5);
                let _ = writeln!(text, "v {x} {y} {z}");
            }
            let index = |corner: usize| {
                first
                    + places
                        .binary_search(&rounded[corner])
                        .expect("every rounded position is a place")
            };
            for [a, b, c] in solid.triangles.iter().map(|triangle| triangle.map(index)) {
                if a != b && b != c && c != a {
                    let _ = writeln!(text, "f {a} {b} {c}");
                }
            }
            first += places.len();
        }
        text
    }

    /// MTL text with one color per part.
    pub(super) fn to_mtl(&self, rng: &mut SeededRng) -> String {
        let mut text = String::new();
        for (name, _) in &self.parts {
            let color = [(); 3].map(|()| rng.uniform(0.15, 0.95));
            let _ = write!(
                text,
                "newmtl {name}\nKd {:.3} {:.3} {:.3}\n",
                color[0], color[1], color[2]
            );
        }
        text
    }
}
