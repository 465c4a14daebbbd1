//! Mug, bottle.

use std::f64::consts::FRAC_PI_2;

use glam::DVec3;

use super::Object;
use crate::seeded_rng::SeededRng;
use crate::synthesize::solid::{Solid, arc};

/// A hollow body, a handle at +x; perhaps a saucer.
pub(super) fn mug(rng: &mut SeededRng) -> Object {
    let mut object = Object::default();
    let (radius, height) = (rng.uniform(0.032, 0.06), rng.uniform(0.05, 0.15));
    let (foot, belly, rim) = (
        rng.uniform(0.6, 1.05),
        rng.uniform(0.85, 1.2),
        rng.uniform(0.85, 1.15),
    );
    let wall = radius * rng.uniform(0.06, 0.12);
    let outside = |share: f64| {
        let (low, high) = (
            foot + (belly - foot) * (2.0 * share).min(1.0),
            belly + (rim - belly) * (2.0 * share - 1.0).max(0.0),
        );
        radius * if share < 0.5 { low } else { high }
    };
    let steps = [0.0, 0.12, 0.3, 0.5, 0.7, 0.88, 1.0];
    let mut profile = vec![(0.0, 0.0)];
    profile.extend(steps.map(|share| (outside(share), share * height)));
    profile.extend(
        steps
            .iter()
            .rev()
            .map(|&share| (outside(share) - wall, (share * height).max(wall))),
    );
    profile.push((0.0, wall));
    object.add("body", Solid::lathe(&profile, 20));

    let (low, high) = (height * rng.uniform(0.12, 0.3), height * rng.uniform(0.68, 0.92));
    let (middle, half) = (low.midpoint(high), (high - low) / 2.0);
    let reach = half * rng.uniform(0.6, 1.15);
    let at_wall = outside(0.5) - wall * 0.6;
    let thickness = radius * rng.uniform(0.09, 0.17);
    let path: Vec<DVec3> = if rng.bernoulli(0.6) {
        arc(reach, half, -FRAC_PI_2, FRAC_PI_2, 11)
    } else {
        [
            (0.0, -1.0),
            (0.8, -1.0),
            (1.0, -0.8),
            (1.0, 0.8),
            (0.8, 1.0),
            (0.0, 1.0),
        ]
        .map(|(x, y)| DVec3::new(x * reach, y * half, 0.0))
        .to_vec()
    };
    let flatness = rng.uniform(1.0, 1.8);
    object.add(
        "handle",
        Solid::tube(&path, thickness, 8)
            .scaled(1.0, 1.0, flatness)
            .translated(at_wall, middle, 0.0),
    );
    if rng.bernoulli(0.2) {
        let plate = radius * rng.uniform(1.5, 2.1);
        let profile = [
            (0.0, -0.012),
            (plate * 0.5, -0.012),
            (plate, 0.004),
            (plate, 0.008),
            (plate * 0.5, -0.006),
            (0.0, -0.006),
        ];
        object.add("saucer", Solid::lathe(&profile, 20));
    }
    object
}

/// A body that narrows to a neck, a cap on it; perhaps a label or a handle.
pub(super) fn bottle(rng: &mut SeededRng) -> Object {
    let mut object = Object::default();
    let (radius, height) = (rng.uniform(0.03, 0.075), rng.uniform(0.1, 0.3));
    let shoulder = height * rng.uniform(0.45, 0.8);
    let neck = radius * rng.uniform(0.28, 0.75);
    let mut profile = vec![(0.0, 0.0), (radius * 0.88, 0.0), (radius, radius * 0.15)];
    if rng.bernoulli(0.3) {
        let waist = rng.uniform(0.75, 0.95);
        profile.extend([
            (radius * waist, shoulder * 0.45),
            (radius * waist, shoulder * 0.6),
        ]);
    }
    profile.push((radius, shoulder * 0.9));
    let bulge = rng.uniform(0.0, 1.0);
    for step in 1..=4 {
        let share = f64::from(step) / 4.0;
        // Between a straight cone and a quarter circle.
        let drop = share * (1.0 - bulge) + (1.0 - (1.0 - share * share).sqrt()) * bulge;
        let y = shoulder * 0.9 + (height - shoulder * 0.9) * 0.62 * share;
        profile.push((radius + (neck - radius) * drop.min(1.0), y));
    }
    profile.extend([(neck, height), (0.0, height)]);
    let num_sides = if rng.bernoulli(0.25) { 4 } else { 18 };
    let turn = |solid: Solid| {
        if num_sides == 4 {
            solid.rotated_y(FRAC_PI_2 / 2.0)
        } else {
            solid
        }
    };
    object.add("body", turn(Solid::lathe(&profile, num_sides)));

    let cap = neck * rng.uniform(1.05, 1.4);
    let cap_height = height * rng.uniform(0.05, 0.14);
    let top = cap * rng.uniform(0.6, 1.0);
    object.add(
        "cap",
        Solid::lathe(&[(cap, 0.0), (cap, cap_height * 0.8), (top, cap_height)], 18).translated(
            0.0,
            height - cap_height * 0.3,
            0.0,
        ),
    );
    if rng.bernoulli(0.3) {
        let nozzle = cap * 0.3;
        object.add(
            "cap",
            Solid::cylinder(nozzle, cap_height, 10).translated(0.0, height + cap_height * 0.6, 0.0),
        );
        object.add(
            "cap",
            Solid::cuboid(nozzle * 2.0, nozzle * 1.6, cap * 2.2).translated(
                0.0,
                height + cap_height * 1.5,
                cap * 0.6,
            ),
        );
    }
    if rng.bernoulli(0.5) {
        let (low, high) = (
            shoulder * rng.uniform(0.15, 0.3),
            shoulder * rng.uniform(0.6, 0.85),
        );
        let band = radius * 1.02;
        let ring = [
            (radius * 0.7, low),
            (band, low),
            (band, high),
            (radius * 0.7, high),
        ];
        object.add("label", turn(Solid::lathe(&ring, num_sides)));
    }
    if rng.bernoulli(0.25) {
        let half = height * rng.uniform(0.18, 0.28);
        let path = arc(half * rng.uniform(0.5, 0.9), half, -FRAC_PI_2, FRAC_PI_2, 9);
        object.add(
            "handle",
            Solid::tube(&path, radius * 0.13, 8).translated(neck.max(radius * 0.6), height * 0.6, 0.0),
        );
    }
    object
}
