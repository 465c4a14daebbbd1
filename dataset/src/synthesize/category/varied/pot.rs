//! A hollow, turned body: mug, urn, kettle, teapot.

use std::f64::consts::{FRAC_PI_2, PI};

use glam::DVec3;

use super::Object;
use crate::seeded_rng::SeededRng;
use crate::synthesize::solid::{Solid, arc};

/// The turned body, one high.
struct Pot {
    /// Radii at equal steps of the height, from the foot to the rim.
    radii: [f64; 4],
}

impl Pot {
    /// Radius of the outside at a height of 0 to 1.
    fn radius(&self, height: f64) -> f64 {
        let place = (height.clamp(0.0, 1.0) * 3.0).min(2.999);
        let (below, share) = (place as usize, place.fract());
        self.radii[below] + share * (self.radii[below + 1] - self.radii[below])
    }

    /// A body, with a lid on half of them.
    fn add(rng: &mut SeededRng, object: &mut Object) -> Self {
        let width = 0.42 * rng.log_uniform(1.7);
        let radii = [0.8, 1.0, 1.0, 0.8].map(|part| width * part * rng.log_uniform(1.4));
        let pot = Self { radii };
        let wall = width * rng.uniform(0.06, 0.14);
        let steps: [f64; 9] = std::array::from_fn(|step| step as f64 / 8.0);
        let mut profile = vec![(0.0, 0.0)];
        profile.extend(steps.map(|height| (pot.radius(height), height)));
        let inside = |height: f64| ((pot.radius(height) - wall).max(0.01), height.max(wall));
        profile.extend(steps.iter().rev().map(|&height| inside(height)));
        profile.push((0.0, wall));
        object.add("body", Solid::lathe(&profile, 20));
        if rng.bernoulli(0.35) {
            let (at, thick) = (rng.uniform(0.15, 0.8), rng.uniform(0.02, 0.05));
            let radius = pot.radius(at);
            let ring = [
                (radius * 0.9, at),
                (radius + thick, at),
                (radius + thick, at + 0.06),
                (radius * 0.9, at + 0.06),
            ];
            object.add("body", Solid::lathe(&ring, 20));
        }
        if rng.bernoulli(0.5) {
            let (rim, rise, knob) = (pot.radii[3], rng.uniform(0.04, 0.25), rng.uniform(0.03, 0.08));
            let dome = [
                (rim * 0.98, 1.0),
                (rim * 0.98, 1.02),
                (rim * 0.6, 1.02 + rise * 0.7),
                (knob, 1.02 + rise),
                (knob * 1.4, 1.02 + rise + knob),
                (0.0, 1.02 + rise + 1.8 * knob),
            ];
            object.add("lid", Solid::lathe(&dome, 20));
        }
        pot
    }

    /// A bow or a bracket on the side, at an angle about the height.
    fn add_handle(&self, rng: &mut SeededRng, object: &mut Object, azimuth: f64) {
        let (low, high) = (rng.uniform(0.1, 0.35), rng.uniform(0.6, 0.92));
        let (middle, half) = (low.midpoint(high), (high - low) / 2.0);
        let reach = half * rng.uniform(0.6, 1.3);
        let path: Vec<DVec3> = if rng.bernoulli(0.5) {
            arc(reach, half, -FRAC_PI_2, FRAC_PI_2, 9)
        } else {
            [
                (0.0, -1.0),
                (0.85, -1.0),
                (1.0, -0.8),
                (1.0, 0.8),
                (0.85, 1.0),
                (0.0, 1.0),
            ]
            .map(|(x, y)| DVec3::new(x * reach, y * half, 0.0))
            .to_vec()
        };
        let thickness = rng.uniform(0.03, 0.06);
        let at = self.radius(low).min(self.radius(high)) - 0.02;
        object.add(
            "handle",
            Solid::tube(&path, thickness, 7)
                .translated(at, middle, 0.0)
                .rotated_y(azimuth),
        );
    }

    fn add_spout(&self, rng: &mut SeededRng, object: &mut Object) {
        let (low, top) = (rng.uniform(0.15, 0.55), rng.uniform(0.75, 1.1));
        let length = rng.uniform(0.25, 0.6);
        let from = DVec3::new(self.radius(low) * 0.8, low, 0.0);
        let to = DVec3::new(self.radius(low) + length, top, 0.0);
        let thick = rng.uniform(0.06, 0.12);
        object.add(
            "spout",
            Solid::tapered_bar(from, to, thick, thick * rng.uniform(0.4, 0.8), 9),
        );
    }
}

/// One handle on a side.
pub(super) fn mug(rng: &mut SeededRng) -> Object {
    let mut object = Object::default();
    Pot::add(rng, &mut object).add_handle(rng, &mut object, 0.0);
    object
}

/// Two handles, on both sides.
pub(super) fn urn(rng: &mut SeededRng) -> Object {
    let mut object = Object::default();
    let pot = Pot::add(rng, &mut object);
    for azimuth in [0.0, PI] {
        pot.add_handle(rng, &mut object, azimuth);
    }
    object
}

/// A spout, and a handle over the top.
pub(super) fn kettle(rng: &mut SeededRng) -> Object {
    let mut object = Object::default();
    let pot = Pot::add(rng, &mut object);
    pot.add_spout(rng, &mut object);
    let (rise, thickness) = (rng.uniform(0.35, 0.75), rng.uniform(0.03, 0.06));
    let bow = arc(pot.radii[3] * rng.uniform(0.85, 1.05), rise, 0.0, PI, 11);
    object.add(
        "handle",
        Solid::tube(&bow, thickness, 7).translated(0.0, 0.96, 0.0),
    );
    object
}

/// A spout, and a handle on the other side.
pub(super) fn teapot(rng: &mut SeededRng) -> Object {
    let mut object = Object::default();
    let pot = Pot::add(rng, &mut object);
    pot.add_spout(rng, &mut object);
    pot.add_handle(rng, &mut object, PI);
    object
}
