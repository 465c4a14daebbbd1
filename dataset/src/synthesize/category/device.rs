//! Guitar, earphone, laptop.

use std::f64::consts::{FRAC_PI_2, PI};

use glam::{DVec2, DVec3};

use super::Object;
use crate::seeded_rng::SeededRng;
use crate::synthesize::solid::{Solid, arc};

/// A waisted body, a long neck with a head and pegs; it stands upright and faces front.
pub(super) fn guitar(rng: &mut SeededRng) -> Object {
    let mut object = Object::default();
    let (width, tall, depth) = (
        rng.uniform(0.28, 0.46),
        rng.uniform(0.36, 0.55),
        rng.uniform(0.035, 0.13),
    );
    let (waist, upper) = (rng.uniform(0.55, 0.85), rng.uniform(0.65, 1.0));
    let cutaway = rng.bernoulli(0.35);
    let outline: Vec<DVec2> = (0..28)
        .map(|point| PI * 2.0 * f64::from(point) / 28.0 - FRAC_PI_2)
        .map(|angle| {
            let (sin, cos) = angle.sin_cos();
            // From the lower bout (sin = -1) over the waist to the upper one.
            let narrow = 1.0 - (1.0 - waist) * (-((sin - 0.15) / 0.4).powi(2)).exp();
            let bout = if sin > 0.15 { upper } else { 1.0 };
            let cut = if cutaway && sin > 0.55 && cos > 0.0 {
                0.55
            } else {
                1.0
            };
            DVec2::new(cos * width / 2.0 * narrow * bout * cut, sin * tall / 2.0)
        })
        .collect();
    object.add("body", Solid::extrusion(&outline, depth));
    let front = depth / 2.0;
    if depth > 0.07 {
        let hole = width * rng.uniform(0.1, 0.14);
        object.add(
            "bridge",
            Solid::lathe(&[(hole, -0.004), (hole, 0.004)], 18)
                .rotated_x(FRAC_PI_2)
                .translated(0.0, tall * 0.1, front),
        );
    } else {
        for y in [0.02, -0.06] {
            object.add(
                "bridge",
                Solid::beveled_box(width * 0.25, 0.03, 0.012, 0.004).translated(0.0, y, front),
            );
        }
    }
    object.add(
        "bridge",
        Solid::beveled_box(width * rng.uniform(0.2, 0.4), 0.025, 0.016, 0.005).translated(
            0.0,
            -tall * 0.27,
            front,
        ),
    );
    let (length, slim) = (rng.uniform(0.38, 0.62), rng.uniform(0.035, 0.06));
    let start = tall * 0.18;
    let top = tall / 2.0 + length;
    object.add(
        "neck",
        Solid::beveled_box(slim, top - start, 0.025, 0.01).translated(0.0, start, front),
    );
    let (head, broad) = (rng.uniform(0.1, 0.18), slim * rng.uniform(1.2, 1.9));
    object.add(
        "head",
        Solid::cuboid(broad, head, 0.022)
            .sheared(-rng.uniform(0.0, 0.25))
            .translated(0.0, top - 0.005, front),
    );
    let is_one_sided = rng.bernoulli(0.3);
    let num_pegs = if is_one_sided { 6 } else { 3 };
    for index in 0..num_pegs {
        let y = top + head * (f64::from(index) + 0.6) / (f64::from(num_pegs) + 0.2);
        let peg = Solid::bar(
            DVec3::new(broad * 0.3, y, front - 0.005),
            DVec3::new(broad * 0.5 + 0.025, y, front - 0.005),
            0.006,
            6,
        );
        if is_one_sided {
            object.add("peg", peg);
        } else {
            object.add_pair("peg", peg);
        }
    }
    object
}

/// Two cups with cushions, joined by a band over the head; perhaps a microphone.
pub(super) fn earphone(rng: &mut SeededRng) -> Object {
    let mut object = Object::default();
    let (half, tall) = (rng.uniform(0.07, 0.1), rng.uniform(0.09, 0.15));
    let (radius, oval) = (rng.uniform(0.026, 0.048), rng.uniform(1.0, 1.35));
    let over = arc(half, tall, 0.0, PI, 17);
    let band = rng.uniform(0.005, 0.01);
    object.add(
        "band",
        Solid::tube(&over, band, 8).scaled(1.0, 1.0, rng.uniform(1.0, 3.0)),
    );
    if rng.bernoulli(0.5) {
        let (inner, from) = (band * 1.6, rng.uniform(0.15, 0.3));
        let pad = arc(half - inner, tall - inner, PI * from, PI * (1.0 - from), 11);
        object.add("band", Solid::tube(&pad, band * 1.2, 8).scaled(1.0, 1.0, 1.8));
    }
    let thick = rng.uniform(0.014, 0.035);
    let tilt = rng.uniform(-0.15, 0.15);
    let place = |solid: Solid| {
        solid
            .scaled(oval, 1.0, 1.0)
            .rotated_z(-FRAC_PI_2)
            .rotated_z(tilt)
            .translated(half, -radius * 0.3, 0.0)
    };
    let cup = [
        (0.0, thick),
        (0.6, thick),
        (0.85, thick * 0.8),
        (1.0, thick * 0.3),
        (1.0, 0.0),
    ];
    object.add_pair("cup", place(Solid::lathe(&cup.map(|(r, y)| (r * radius, y)), 18)));
    let soft = [
        (0.55, 0.0),
        (1.0, 0.0),
        (1.08, -0.006),
        (0.95, -0.014),
        (0.6, -0.014),
    ];
    object.add_pair(
        "cushion",
        place(Solid::lathe(&soft.map(|(r, y)| (r * radius, y)), 18)),
    );
    if rng.bernoulli(0.35) {
        let reach = rng.uniform(0.06, 0.11);
        let path = [
            DVec3::new(half + thick * 0.5, -radius * 0.6, 0.0),
            DVec3::new(half + thick * 0.4, -radius * 1.1, reach * 0.5),
            DVec3::new(half * 0.7, -radius * 1.3, reach),
        ];
        object.add("microphone", Solid::tube(&path, 0.004, 6));
        object.add(
            "microphone",
            Solid::beveled_box(0.014, 0.014, 0.024, 0.005).translated(path[2].x, path[2].y - 0.007, reach),
        );
    }
    object
}

/// A base with keys, hinged to a screen that is more or less open.
pub(super) fn laptop(rng: &mut SeededRng) -> Object {
    let mut object = Object::default();
    let (width, depth) = (rng.uniform(0.26, 0.42), rng.uniform(0.18, 0.29));
    let (thickness, lid) = (rng.uniform(0.008, 0.03), rng.uniform(0.005, 0.014));
    object.add("base", Solid::cuboid(width, thickness, depth));
    let tall = depth * rng.uniform(0.9, 1.1);
    // From half closed to lying flat behind; a screen that folds over collides with nothing.
    let open = rng.uniform(-0.35, 1.25);
    let screen = |solid: Solid| solid.rotated_x(-open).translated(0.0, thickness, -depth / 2.0);
    object.add("screen", screen(Solid::cuboid(width, tall, lid)));
    object.add(
        "screen",
        screen(
            Solid::beveled_box(width * 0.92, tall * 0.86, lid * 0.4, lid * 0.1).translated(
                0.0,
                tall * 0.08,
                lid * 0.5,
            ),
        ),
    );
    for x in [-0.3, 0.3] {
        let (from, to) = (
            DVec3::new(x * width - 0.02, thickness, -depth / 2.0),
            DVec3::new(x * width + 0.02, thickness, -depth / 2.0),
        );
        object.add("hinge", Solid::bar(from, to, lid * 0.8, 8));
    }
    let (num_rows, num_columns) = (rng.uniform_int(2, 4), rng.uniform_int(3, 5));
    let (area, deep) = (width * 0.86, depth * rng.uniform(0.35, 0.5));
    let (pitch_x, pitch_z) = (area / num_columns as f64, deep / num_rows as f64);
    for row in 0..num_rows {
        for column in 0..num_columns {
            let x = pitch_x * (column as f64 + 0.5) - area / 2.0;
            let z = pitch_z * (row as f64 + 0.5) - depth * 0.42;
            object.add(
                "key",
                Solid::beveled_box(pitch_x * 0.9, 0.005, pitch_z * 0.85, 0.001).translated(
                    x,
                    thickness - 0.001,
                    z,
                ),
            );
        }
    }
    if rng.bernoulli(0.8) {
        object.add(
            "base",
            Solid::beveled_box(width * 0.3, 0.003, depth * 0.22, 0.0008).translated(
                0.0,
                thickness - 0.0005,
                depth * 0.32,
            ),
        );
    }
    object
}
