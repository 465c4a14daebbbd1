//! A pole on a base: lamp, coat rack, fan, signpost.

use std::f64::consts::{FRAC_PI_2, TAU};

use glam::{DVec2, DVec3};

use super::Object;
use crate::seeded_rng::SeededRng;
use crate::synthesize::solid::{Solid, arc, circle};

/// Height of the pole, and its radius.
struct Pole {
    height: f64,
    radius: f64,
}

impl Pole {
    /// A pole on a plate or on feet, perhaps with a tray.
    fn add(rng: &mut SeededRng, object: &mut Object) -> Self {
        let pole = Self {
            height: rng.uniform(0.7, 1.7),
            radius: rng.uniform(0.018, 0.05),
        };
        let reach = rng.uniform(0.16, 0.36);
        object.add("pole", Solid::cylinder(pole.radius, pole.height, 9));
        if rng.bernoulli(0.5) {
            let thick = rng.uniform(0.02, 0.08);
            let plate = [(reach, 0.0), (reach, thick), (pole.radius, thick * 2.0)];
            object.add("base", Solid::lathe(&plate, 18));
        } else {
            let rise = rng.uniform(0.08, 0.3);
            for direction in circle(rng.uniform_int(3, 5)) {
                let tip = DVec3::new(direction.x * reach, 0.015, direction.y * reach);
                let top = DVec3::new(0.0, rise, 0.0);
                object.add("base", Solid::tapered_bar(top, tip, 0.025, 0.015, 7));
            }
        }
        if rng.bernoulli(0.35) {
            let (at, wide) = (pole.height * rng.uniform(0.3, 0.65), rng.uniform(0.1, 0.26));
            let tray = [
                (wide * 0.9, at),
                (wide, at + 0.015),
                (wide, at + 0.04),
                (0.0, at + 0.02),
            ];
            object.add("tray", Solid::lathe(&tray, 16));
        }
        pole
    }
}

/// A shade around a bulb, upright or tilted.
pub(super) fn lamp(rng: &mut SeededRng) -> Object {
    let mut object = Object::default();
    let pole = Pole::add(rng, &mut object);
    let (low, high, tall) = (
        rng.uniform(0.12, 0.34),
        rng.uniform(0.06, 0.24),
        rng.uniform(0.14, 0.36),
    );
    let shade = [
        (low, 0.0),
        (high, tall),
        (high - 0.012, tall),
        (low - 0.012, 0.01),
    ];
    let tilt = rng.uniform(-0.5, 0.5);
    let place = |solid: Solid| solid.rotated_z(tilt).translated(0.0, pole.height - 0.08, 0.0);
    object.add("shade", place(Solid::lathe(&shade, 18)));
    let bulb = [(0.02, 0.02), (0.05, 0.08), (0.03, 0.13)];
    object.add("bulb", place(Solid::lathe(&bulb, 9)));
    object
}

/// Hooks around the pole, in one ring or two.
pub(super) fn coatrack(rng: &mut SeededRng) -> Object {
    let mut object = Object::default();
    let pole = Pole::add(rng, &mut object);
    let num_rings = rng.uniform_int(1, 2);
    for ring in 0..num_rings {
        let y = pole.height * (0.97 - 0.2 * ring as f64);
        let (reach, rise) = (rng.uniform(0.1, 0.24), rng.uniform(0.05, 0.18));
        let num_hooks = rng.uniform_int(3, 6);
        let turned = rng.uniform(0.0, TAU);
        for hook in 0..num_hooks {
            let path = [
                DVec3::new(0.0, y - 0.04, 0.0),
                DVec3::new(reach * 0.8, y - 0.02, 0.0),
                DVec3::new(reach, y + 0.03, 0.0),
                DVec3::new(reach * 1.05, y + rise, 0.0),
            ];
            let angle = turned + TAU * hook as f64 / num_hooks as f64;
            object.add("hook", Solid::tube(&path, 0.018, 6).rotated_y(angle));
        }
    }
    object
}

/// Blades around a hub that faces the front, within a guard.
pub(super) fn fan(rng: &mut SeededRng) -> Object {
    let mut object = Object::default();
    let pole = Pole::add(rng, &mut object);
    let reach = rng.uniform(0.16, 0.34);
    let (tilt, turned) = (rng.uniform(-0.4, 0.4), rng.uniform(-0.6, 0.6));
    let place = |solid: Solid| {
        solid
            .rotated_x(tilt)
            .rotated_y(turned)
            .translated(0.0, pole.height + reach * 0.6, 0.04)
    };
    let num_blades = rng.uniform_int(3, 5);
    for blade in 0..num_blades {
        let solid = Solid::beveled_box(reach * rng.uniform(0.3, 0.5), reach * 0.92, 0.014, 0.005);
        let angle = TAU * blade as f64 / num_blades as f64;
        object.add("blade", place(solid.rotated_y(0.5).rotated_z(angle)));
    }
    object.add(
        "blade",
        place(Solid::lathe(&[(0.05, -0.05), (0.05, 0.04), (0.0, 0.06)], 9).rotated_x(FRAC_PI_2)),
    );
    // The path of the guard ends where it begins.
    let ring = arc(reach, reach, 0.0, TAU, 19);
    object.add("guard", place(Solid::tube(&ring, 0.016, 6)));
    object.add(
        "guard",
        place(Solid::cuboid(0.025, reach * 1.0, 0.012).translated(0.0, -reach, -0.03)),
    );
    object
}

/// Boards that point away from the pole.
pub(super) fn signpost(rng: &mut SeededRng) -> Object {
    let mut object = Object::default();
    let pole = Pole::add(rng, &mut object);
    for board in 0..rng.uniform_int(1, 3) {
        let (long, tall) = (rng.uniform(0.25, 0.5), rng.uniform(0.07, 0.16));
        let tip = if rng.bernoulli(0.6) { 0.18 * long } else { 0.0 };
        let outline = [
            DVec2::new(0.0, -tall / 2.0),
            DVec2::new(long - tip, -tall / 2.0),
            DVec2::new(long, -0.02),
            DVec2::new(long, 0.02),
            DVec2::new(long - tip, tall / 2.0),
            DVec2::new(0.0, tall / 2.0),
        ];
        let y = pole.height * (0.95 - 0.18 * board as f64);
        let board = Solid::extrusion(&outline, 0.03).translated(-0.06, y, pole.radius + 0.01);
        object.add("board", board.rotated_y(rng.uniform(0.0, TAU)));
    }
    object
}
