//! Table, floor and hanging lamps.

use std::f64::consts::FRAC_PI_2;

use glam::DVec3;

use super::Object;
use crate::seeded_rng::SeededRng;
use crate::synthesize::solid::Solid;

/// A base, a pole and a shade: upright, on three legs, jointed, or hanging from the ceiling.
pub(super) fn lamp(rng: &mut SeededRng) -> Object {
    let mut object = Object::default();
    match rng.uniform_int(0, 3) {
        0 => upright(rng, &mut object),
        1 => tripod(rng, &mut object),
        2 => jointed(rng, &mut object),
        _ => hanging(rng, &mut object),
    }
    object
}

/// A thin hollow shade that opens downward, its lower edge at y = 0.
fn shade(rng: &mut SeededRng, radius: f64, height: f64) -> Solid {
    let top = radius * rng.uniform(0.3, 1.05);
    let wall = 0.04 * radius;
    if rng.bernoulli(0.35) {
        // A dome.
        let dome = |inset: f64| {
            (0..=5)
                .map(move |step| f64::from(step) / 5.0 * FRAC_PI_2 * 0.97)
                .map(move |angle| ((radius - inset) * angle.cos(), (height - inset) * angle.sin()))
        };
        let inside: Vec<(f64, f64)> = dome(wall).collect();
        return Solid::lathe(
            &dome(0.0)
                .collect::<Vec<_>>()
                .into_iter()
                .rev()
                .chain(inside)
                .collect::<Vec<_>>(),
            18,
        );
    }
    let profile = [
        (0.0, height),
        (top, height),
        (radius, 0.0),
        (radius - wall, 0.0),
        (top - wall, height - wall),
        (0.0, height - wall),
    ];
    Solid::lathe(&profile, 20)
}

fn bulb(radius: f64) -> Solid {
    Solid::lathe(
        &[
            (0.0, 0.0),
            (0.8, 0.4),
            (1.0, 1.0),
            (0.6, 1.7),
            (0.4, 2.2),
            (0.4, 2.8),
        ]
        .map(|(r, y)| (r * radius, y * radius)),
        10,
    )
}

fn upright(rng: &mut SeededRng, object: &mut Object) {
    let height = rng.uniform(0.22, 1.4);
    let reach = rng.uniform(0.08, 0.2);
    let base = if rng.bernoulli(0.6) {
        Solid::lathe(&[(reach, 0.0), (reach, 0.02), (reach * 0.3, 0.05)], 20)
    } else {
        Solid::cuboid(2.0 * reach, 0.035, 2.0 * reach)
    };
    object.add("base", base);
    if height < 0.6 && rng.bernoulli(0.5) {
        // A turned or blown body instead of a pole.
        let belly = rng.uniform(0.05, 0.13);
        let waist = rng.uniform(0.015, 0.05);
        let swap = rng.bernoulli(0.5);
        let (low, high) = if swap { (waist, belly) } else { (belly, waist) };
        let profile = [
            (waist, 0.02),
            (low, height * 0.3),
            (low.midpoint(high), height * 0.5),
            (high, height * 0.7),
            (0.015, height),
        ];
        object.add("pole", Solid::lathe(&profile, 16));
    } else {
        object.add(
            "pole",
            Solid::cylinder(rng.uniform(0.008, 0.02), height, 10).translated(0.0, 0.02, 0.0),
        );
    }
    let (radius, tall) = (rng.uniform(0.1, 0.26), rng.uniform(0.12, 0.3));
    object.add(
        "shade",
        shade(rng, radius, tall).translated(0.0, height - tall * 0.3, 0.0),
    );
    object.add(
        "bulb",
        bulb(0.03)
            .rotated_x(std::f64::consts::PI)
            .translated(0.0, height + 0.07, 0.0),
    );
}

fn tripod(rng: &mut SeededRng, object: &mut Object) {
    let height = rng.uniform(0.5, 1.4);
    let reach = height * rng.uniform(0.2, 0.45);
    let num_legs = rng.uniform_int(3, 4);
    for direction in crate::synthesize::solid::circle(num_legs) {
        let foot = DVec3::new(direction.x * reach, 0.0, direction.y * reach);
        object.add(
            "base",
            Solid::tapered_bar(foot, DVec3::new(0.0, height, 0.0), 0.012, 0.02, 8),
        );
    }
    object.add(
        "pole",
        Solid::cylinder(0.025, 0.14, 10).translated(0.0, height - 0.05, 0.0),
    );
    let (radius, tall) = (rng.uniform(0.15, 0.32), rng.uniform(0.18, 0.36));
    object.add("shade", shade(rng, radius, tall).translated(0.0, height, 0.0));
    object.add(
        "bulb",
        bulb(0.035)
            .rotated_x(std::f64::consts::PI)
            .translated(0.0, height + 0.17, 0.0),
    );
}

fn jointed(rng: &mut SeededRng, object: &mut Object) {
    let reach = rng.uniform(0.07, 0.13);
    object.add(
        "base",
        Solid::lathe(&[(reach, 0.0), (reach, 0.025), (reach * 0.5, 0.045)], 20),
    );
    let (lower, upper) = (rng.uniform(0.2, 0.45), rng.uniform(0.2, 0.5));
    let (tilt, bend) = (rng.uniform(-0.6, 0.2), rng.uniform(0.5, 1.4));
    let start = DVec3::new(0.0, 0.03, 0.0);
    let elbow = start + lower * DVec3::new(0.0, tilt.cos(), tilt.sin());
    let head = elbow + upper * DVec3::new(0.0, bend.cos(), bend.sin());
    let radius = rng.uniform(0.006, 0.014);
    object.add("pole", Solid::bar(start, elbow, radius, 8));
    object.add("pole", Solid::bar(elbow, head, radius, 8));
    object.add(
        "pole",
        Solid::cylinder(radius * 2.2, radius * 6.0, 10)
            .rotated_z(FRAC_PI_2)
            .translated(radius * 3.0, elbow.y, elbow.z),
    );
    let (wide, tall) = (rng.uniform(0.06, 0.12), rng.uniform(0.1, 0.18));
    let angle = rng.uniform(-0.7, 0.3);
    object.add(
        "shade",
        shade(rng, wide, tall)
            .translated(0.0, -tall, 0.0)
            .rotated_x(angle)
            .translated(0.0, head.y + 0.02, head.z),
    );
    object.add(
        "bulb",
        bulb(0.02)
            .translated(0.0, -tall * 0.8, 0.0)
            .rotated_x(angle)
            .translated(0.0, head.y + 0.02, head.z),
    );
}

fn hanging(rng: &mut SeededRng, object: &mut Object) {
    let drop = rng.uniform(0.3, 0.9);
    let plate = rng.uniform(0.04, 0.1);
    object.add(
        "base",
        Solid::lathe(
            &[(plate * 0.5, drop - 0.03), (plate, drop - 0.015), (plate, drop)],
            16,
        ),
    );
    let num_lights = if rng.bernoulli(0.3) {
        rng.uniform_int(2, 4)
    } else {
        1
    };
    let spread = if num_lights > 1 {
        rng.uniform(0.18, 0.32)
    } else {
        0.0
    };
    let (radius, tall) = (
        rng.uniform(0.1, 0.3) / (num_lights as f64).sqrt(),
        rng.uniform(0.1, 0.3),
    );
    let lamp = shade(rng, radius, tall);
    for index in 0..num_lights {
        let x = spread * (index as f64 - (num_lights - 1) as f64 / 2.0);
        let top = DVec3::new(0.0, drop - 0.01, 0.0);
        object.add("pole", Solid::bar(DVec3::new(x, tall - 0.02, 0.0), top, 0.006, 8));
        object.add("shade", lamp.clone().translated(x, 0.0, 0.0));
        object.add("bulb", bulb(radius * 0.25).translated(x, tall * 0.2, 0.0));
    }
}
