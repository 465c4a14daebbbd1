//! Airplanes: jets and propeller planes, with one or two pairs of wings.

use std::f64::consts::{FRAC_PI_2, TAU};

use glam::DVec3;

use super::Object;
use crate::seeded_rng::SeededRng;
use crate::synthesize::solid::Solid;

/// A cross-section of a wing.
#[derive(Clone, Copy)]
struct Section {
    /// Position of the leading edge along z.
    lead: f64,
    chord: f64,
    y: f64,
}

impl Section {
    fn towards(self, other: Self, share: f64) -> Self {
        let between = |from: f64, to: f64| from + share * (to - from);
        Self {
            lead: between(self.lead, other.lead),
            chord: between(self.chord, other.chord),
            y: between(self.y, other.y),
        }
    }
}

/// A wing from the center to +x; `thickness` is relative to the chord.
fn wing(root: Section, tip: Section, span: f64, thickness: f64) -> Solid {
    let ring = |share: f64| -> Vec<DVec3> {
        let Section { lead, chord, y } = root.towards(tip, share);
        [
            (0.0, 0.0),
            (0.12, 0.8),
            (0.4, 1.0),
            (1.0, 0.1),
            (1.0, -0.1),
            (0.4, -0.6),
            (0.12, -0.5),
        ]
        .map(|(along, up)| DVec3::new(share * span, y + up * thickness * chord, lead - along * chord))
        .to_vec()
    };
    Solid::loft(&[ring(0.0), ring(0.5), ring(1.0)])
}

/// A body along z with its nose to the front, swept or straight wings, a tail, engines or propellers.
pub(super) fn airplane(rng: &mut SeededRng) -> Object {
    let mut object = Object::default();
    let length = rng.uniform(0.8, 1.3);
    let radius = length * rng.uniform(0.045, 0.085);
    body(rng, &mut object, length, radius);

    let span = length * rng.uniform(0.35, 0.65);
    let chord = length * rng.uniform(0.12, 0.26);
    let root = Section {
        lead: length * rng.uniform(0.05, 0.18),
        chord,
        y: radius * rng.uniform(-0.7, 0.8),
    };
    let tip = Section {
        lead: root.lead - span * rng.uniform(-0.05, 0.7),
        chord: chord * rng.uniform(0.25, 0.95),
        y: root.y + span * rng.uniform(-0.06, 0.14),
    };
    object.add_pair("wing", wing(root, tip, span, 0.07));
    if rng.bernoulli(0.15) {
        // A biplane.
        let rise = radius * 2.6;
        let above = |section: Section| Section {
            y: section.y + rise,
            ..section
        };
        object.add_pair("wing", wing(above(root), above(tip), span, 0.07));
        let strut = root.towards(tip, 0.6);
        let from = DVec3::new(span * 0.6, strut.y, strut.lead - strut.chord * 0.4);
        object.add_pair("wing", Solid::bar(from, from + DVec3::Y * rise, 0.006, 6));
    }
    tail(rng, &mut object, length, radius, chord);
    match rng.uniform_int(0, 2) {
        0 => propeller(rng, &mut object, DVec3::new(0.0, 0.0, length * 0.5), radius * 1.8),
        1 => {
            let num_pairs = rng.uniform_int(1, 2);
            let (pod, size) = pod(rng, radius);
            for pair in 1..=num_pairs {
                let share = pair as f64 / (num_pairs as f64 + 0.6);
                let at = root.towards(tip, share);
                object.add_pair(
                    "engine",
                    pod.clone().translated(span * share, at.y - size * 1.1, at.lead),
                );
            }
        }
        _ => {
            let (pod, size) = pod(rng, radius);
            object.add_pair(
                "engine",
                pod.translated(radius + size * 0.9, radius * 0.4, chord * 1.35 - length * 0.5),
            );
        }
    }
    object
}

fn body(rng: &mut SeededRng, object: &mut Object, length: f64, radius: f64) {
    let nose = rng.uniform(0.08, 0.2);
    let profile = [
        (0.0, -0.5),
        (0.25, -0.48),
        (0.55, -0.36),
        (0.95, -0.15),
        (1.0, 0.05),
        (1.0, 0.5 - nose),
        (0.8, 0.5 - nose * 0.45),
        (0.4, 0.5 - nose * 0.1),
        (0.0, 0.5),
    ];
    let profile = profile.map(|(r, along)| (r * radius, along * length));
    object.add("body", Solid::lathe(&profile, 16).rotated_x(FRAC_PI_2));
    if rng.bernoulli(0.5) {
        let canopy = [(0.0, -1.0), (0.6, -0.7), (0.8, 0.0), (0.5, 0.7), (0.0, 1.0)];
        let size = radius * rng.uniform(0.8, 1.1);
        let canopy = Solid::lathe(&canopy, 12)
            .rotated_x(FRAC_PI_2)
            .scaled(size, size, size * 2.0);
        object.add(
            "body",
            canopy.translated(0.0, radius * 0.7, length * (0.42 - nose)),
        );
    }
}

/// A fin with stabilizers low or high on it, or two slanted fins.
fn tail(rng: &mut SeededRng, object: &mut Object, length: f64, radius: f64, chord: f64) {
    let rear = chord * 0.75 - length * 0.5;
    let tall = length * rng.uniform(0.1, 0.2);
    let root = Section {
        lead: rear,
        chord: chord * 0.7,
        y: 0.0,
    };
    let tip = Section {
        lead: rear - tall * 0.6,
        chord: chord * 0.35,
        y: 0.0,
    };
    let fin = wing(root, tip, tall, 0.06).rotated_z(FRAC_PI_2);
    if rng.bernoulli(0.2) {
        object.add_pair("tail", fin.rotated_z(-0.6).translated(0.0, radius * 0.3, 0.0));
    } else {
        object.add("tail", fin.translated(0.0, radius * 0.4, 0.0));
    }
    let is_high = rng.bernoulli(0.3);
    let y = if is_high {
        radius * 0.4 + tall * 0.92
    } else {
        radius * rng.uniform(0.0, 0.5)
    };
    let lead = if is_high { rear - tall * 0.5 } else { rear };
    let span = tall * rng.uniform(0.9, 1.5);
    let root = Section {
        lead,
        chord: chord * 0.6,
        y,
    };
    let tip = Section {
        lead: lead - span * rng.uniform(0.1, 0.6),
        chord: chord * 0.35,
        y,
    };
    object.add_pair("tail", wing(root, tip, span, 0.06));
}

/// A jet engine and its radius.
fn pod(rng: &mut SeededRng, radius: f64) -> (Solid, f64) {
    let size = radius * rng.uniform(0.35, 0.6);
    let profile = [
        (0.5, -1.6),
        (0.85, -1.0),
        (1.0, 0.6),
        (0.9, 1.5),
        (0.75, 1.5),
        (0.6, 0.9),
        (0.0, 0.9),
    ];
    (
        Solid::lathe(&profile.map(|(r, along)| (r * size, along * size)), 12).rotated_x(FRAC_PI_2),
        size,
    )
}

fn propeller(rng: &mut SeededRng, object: &mut Object, at: DVec3, reach: f64) {
    let hub = [(0.025, -0.05), (0.025, -0.02), (0.02, 0.02), (0.0, 0.04)];
    object.add(
        "engine",
        Solid::lathe(&hub, 10)
            .rotated_x(FRAC_PI_2)
            .translated(at.x, at.y, at.z),
    );
    let num_blades = rng.uniform_int(2, 4);
    for blade in 0..num_blades {
        let solid = Solid::beveled_box(reach * 0.16, reach, 0.008, 0.003).rotated_y(0.5);
        let angle = TAU * blade as f64 / num_blades as f64 + 0.3;
        object.add(
            "engine",
            solid.rotated_z(angle).translated(at.x, at.y, at.z + 0.005),
        );
    }
}
