//! Car, rocket.

use std::f64::consts::{FRAC_PI_2, TAU};

use glam::DVec2;

use super::Object;
use crate::seeded_rng::SeededRng;
use crate::synthesize::solid::{Solid, circle};

/// A body on four wheels with a cabin: hatchback, sedan, van, pickup, sports car.
pub(super) fn car(rng: &mut SeededRng) -> Object {
    let mut object = Object::default();
    let (length, width) = (rng.uniform(0.8, 1.25), rng.uniform(0.36, 0.52));
    let wheel = rng.uniform(0.065, 0.11);
    let (floor, deck) = (wheel * rng.uniform(0.6, 1.1), rng.uniform(0.11, 0.2));
    let half = length / 2.0;
    let side = |outline: &[(f64, f64)], width: f64| {
        let outline: Vec<DVec2> = outline.iter().map(|&(z, y)| DVec2::new(z, y)).collect();
        Solid::extrusion(&outline, width).rotated_y(-FRAC_PI_2)
    };
    let hood = deck * rng.uniform(0.65, 0.95);
    let body = [
        (-half, 0.15 * deck),
        (-half * 0.96, 0.0),
        (half * 0.95, 0.0),
        (half, 0.15 * deck),
        (half * 0.97, hood * 0.8),
        (half * 0.4, hood),
        (half * 0.2, deck),
        (-half * 0.6, deck),
        (-half * 0.98, deck * 0.9),
    ];
    object.add("body", side(&body, width).translated(0.0, floor, 0.0));

    let roof = rng.uniform(0.1, 0.24);
    // Ends of the cabin at the bottom and at the top, relative to the half length.
    let (back_low, back_high, front_high, front_low) = match rng.uniform_int(0, 4) {
        0 => (-0.55, -0.3, 0.1, 0.35),
        1 => (-0.97, -0.85, 0.1, 0.4),
        2 => (-0.97, -0.95, 0.55, 0.8),
        3 => (-0.05, 0.0, 0.3, 0.5),
        _ => (-0.75, -0.2, -0.05, 0.3),
    };
    let jitter = rng.uniform(-0.06, 0.06);
    let cabin = [
        (back_low, -0.02),
        (front_low + jitter, -0.02),
        (front_high + jitter, roof * 0.95),
        (f64::midpoint(front_high, back_high), roof),
        (back_high, roof * 0.96),
    ];
    let cabin = cabin.map(|(along, y)| (along * half, y));
    object.add(
        "cabin",
        side(&cabin, width * rng.uniform(0.8, 0.95)).translated(0.0, floor + deck, 0.0),
    );
    if back_low > -0.1 {
        // The sides of a load bed.
        let bed = half * 0.9;
        object.add_pair(
            "body",
            Solid::cuboid(0.02, roof * 0.35, bed).translated(
                width / 2.0 - 0.02,
                floor + deck - 0.01,
                -half * 0.5,
            ),
        );
        object.add(
            "body",
            Solid::cuboid(width * 0.94, roof * 0.35, 0.02).translated(0.0, floor + deck - 0.01, -half * 0.94),
        );
    }
    let tire = wheel * rng.uniform(0.45, 0.75);
    let profile = [
        (0.0, 0.3),
        (0.55, 0.3),
        (0.6, 0.42),
        (0.92, 0.5),
        (1.0, 0.35),
        (1.0, -0.35),
        (0.92, -0.5),
        (0.0, -0.5),
    ];
    let round = Solid::lathe(&profile.map(|(r, along)| (r * wheel, along * tire)), 16).rotated_z(-FRAC_PI_2);
    let axle = half * rng.uniform(0.58, 0.7);
    for z in [-axle, axle] {
        object.add_pair(
            "wheel",
            round.clone().translated(width / 2.0 - tire * 0.3, wheel, z),
        );
    }
    for z in [-half, half] {
        if rng.bernoulli(0.8) {
            object.add(
                "bumper",
                Solid::cuboid(width * 0.96, deck * 0.22, 0.035).translated(0.0, floor + deck * 0.08, z),
            );
        }
    }
    if rng.bernoulli(0.2) {
        object.add(
            "body",
            Solid::cuboid(width * 0.9, 0.015, 0.07).translated(0.0, floor + deck + 0.06, -half * 0.9),
        );
        object.add_pair(
            "body",
            Solid::cuboid(0.02, 0.07, 0.03).translated(width * 0.3, floor + deck - 0.005, -half * 0.9),
        );
    }
    object
}

/// A body that ends in a nose, fins around it, one or more nozzles below; perhaps boosters.
pub(super) fn rocket(rng: &mut SeededRng) -> Object {
    let mut object = Object::default();
    let height = rng.uniform(0.7, 1.3);
    let radius = height * rng.uniform(0.05, 0.13);
    let (nose, belly) = (height * rng.uniform(0.15, 0.4), rng.uniform(0.7, 1.1));
    let mut profile = vec![
        (radius * belly, 0.0),
        (radius, height * 0.3),
        (radius, height - nose),
    ];
    let bluntness = rng.uniform(0.4, 1.3);
    for step in 1..=6 {
        let share = f64::from(step) / 6.0;
        profile.push((
            radius * (1.0 - share.powf(1.0 + bluntness)),
            height - nose + nose * share,
        ));
    }
    object.add("body", Solid::lathe(&profile, 16));
    if rng.bernoulli(0.4) {
        let y = height * rng.uniform(0.35, 0.6);
        object.add(
            "body",
            Solid::lathe(
                &[
                    (radius * 0.8, y),
                    (radius * 1.08, y),
                    (radius * 1.08, y + 0.03),
                    (radius * 0.8, y + 0.03),
                ],
                16,
            ),
        );
    }

    let num_fins = rng.uniform_int(3, 5);
    let (span, root) = (radius * rng.uniform(0.8, 2.2), height * rng.uniform(0.14, 0.34));
    let (sweep, drop) = (rng.uniform(0.1, 0.8), height * rng.uniform(-0.02, 0.1));
    let outline = [
        DVec2::new(radius * 0.6, 0.0),
        DVec2::new(radius * 0.9 + span, -drop),
        DVec2::new(radius * 0.9 + span, root * (1.0 - sweep).max(0.15) - drop),
        DVec2::new(radius * 0.6, root),
    ];
    let fin = Solid::extrusion(&outline, radius * 0.12).translated(0.0, height * 0.02, 0.0);
    let boosters = rng.bernoulli(0.3);
    for index in 0..num_fins {
        object.add("fin", fin.clone().rotated_y(TAU * index as f64 / num_fins as f64));
    }
    let num_nozzles = if rng.bernoulli(0.35) {
        rng.uniform_int(3, 4)
    } else {
        1
    };
    let flare = if num_nozzles == 1 {
        radius * 0.7
    } else {
        radius * 0.38
    };
    let bell = Solid::lathe(
        &[
            (flare * 0.5, 0.02),
            (flare * 0.55, -flare * 0.5),
            (flare, -flare * 1.6),
            (flare * 0.85, -flare * 1.6),
            (flare * 0.4, -flare * 0.5),
            (0.0, -flare * 0.4),
        ],
        14,
    );
    for direction in circle(num_nozzles) {
        let off = if num_nozzles == 1 { 0.0 } else { radius * 0.5 };
        object.add(
            "nozzle",
            bell.clone().translated(direction.x * off, 0.0, direction.y * off),
        );
    }
    if boosters {
        let (thin, tall) = (radius * rng.uniform(0.35, 0.6), height * rng.uniform(0.3, 0.55));
        let num_boosters = rng.uniform_int(2, 4);
        let solid = Solid::lathe(
            &[
                (thin, 0.0),
                (thin, tall * 0.75),
                (thin * 0.7, tall * 0.9),
                (0.0, tall),
            ],
            12,
        );
        for direction in circle(num_boosters) {
            let off = radius + thin * 0.85;
            object.add(
                "booster",
                solid
                    .clone()
                    .translated(direction.y * off, height * 0.03, direction.x * off),
            );
        }
    }
    object
}
