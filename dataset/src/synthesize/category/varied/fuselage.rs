//! A long body with its nose to the front: airplane, helicopter, submarine, rocket.

use std::f64::consts::{FRAC_PI_2, TAU};

use glam::{DVec2, DVec3};

use super::Object;
use crate::seeded_rng::SeededRng;
use crate::synthesize::solid::{Solid, circle};

/// Radius of the body, which is one long.
struct Fuselage {
    radius: f64,
}

impl Fuselage {
    /// A turned body, perhaps with a canopy and with pods.
    fn add(rng: &mut SeededRng, object: &mut Object) -> Self {
        let radius = 0.11 * rng.log_uniform(1.5);
        let (nose, rear) = (rng.uniform(0.06, 0.25), rng.uniform(0.1, 0.35));
        let blunt = rng.uniform(0.2, 0.7);
        let profile = [
            (0.0, -0.5),
            (radius * blunt, -0.49),
            (radius * (0.5 + blunt / 2.0), rear * 0.5 - 0.5),
            (radius, rear - 0.5),
            (radius, 0.5 - nose),
            (radius * 0.75, 0.5 - nose * 0.4),
            (0.0, 0.5),
        ];
        object.add("body", Solid::lathe(&profile, 14).rotated_x(FRAC_PI_2));
        if rng.bernoulli(0.4) {
            let size = radius * rng.uniform(0.6, 1.0);
            let canopy = [(0.0, -1.0), (0.7, -0.6), (0.8, 0.1), (0.5, 0.7), (0.0, 1.0)];
            let canopy = Solid::lathe(&canopy, 10)
                .rotated_x(FRAC_PI_2)
                .scaled(size, size, size * 1.8);
            object.add(
                "canopy",
                canopy.translated(0.0, radius * 0.75, rng.uniform(0.1, 0.3)),
            );
        }
        if rng.bernoulli(0.35) {
            let (thin, long) = (radius * rng.uniform(0.25, 0.45), rng.uniform(0.15, 0.35));
            let pod = [
                (thin * 0.5, -long),
                (thin, -long * 0.7),
                (thin, long * 0.6),
                (0.0, long),
            ];
            let pod = Solid::lathe(&pod, 9).rotated_x(FRAC_PI_2);
            object.add_pair(
                "pod",
                pod.translated(radius + thin * 0.7, -radius * 0.4, rng.uniform(-0.2, 0.15)),
            );
        }
        Self { radius }
    }

    /// A fin outward from the body along +x, with its root at z.
    fn fin(&self, rng: &mut SeededRng, span: f64, chord: f64, root_z: f64) -> Solid {
        let (sweep, taper) = (rng.uniform(0.0, 0.8) * span, rng.uniform(0.3, 0.9));
        let start = self.radius * 0.5;
        // In the plane of x and z, as x and y of an outline.
        let outline = [
            DVec2::new(start, root_z + chord / 2.0),
            DVec2::new(start, root_z - chord / 2.0),
            DVec2::new(start + span, root_z - chord / 2.0 - sweep),
            DVec2::new(start + span, root_z - chord / 2.0 - sweep + chord * taper),
        ];
        Solid::extrusion(&outline, 0.022).rotated_x(FRAC_PI_2)
    }
}

/// A pair of wings, a fin and stabilizers.
pub(super) fn airplane(rng: &mut SeededRng) -> Object {
    let mut object = Object::default();
    let body = Fuselage::add(rng, &mut object);
    let (span, chord) = (rng.uniform(0.3, 0.65), rng.uniform(0.12, 0.28));
    let (at, up) = (rng.uniform(-0.05, 0.15), rng.uniform(-0.6, 0.7) * body.radius);
    let wing = body.fin(rng, span, chord, at).translated(0.0, up, 0.0);
    object.add_pair("wing", wing);
    let size = span * rng.uniform(0.25, 0.45);
    let fin = body.fin(rng, size, size * 0.8, -0.4).rotated_z(FRAC_PI_2);
    object.add("tail", fin);
    object.add_pair("tail", body.fin(rng, size, size * 0.7, -0.42));
    object
}

/// A rotor above, a fin behind, and skids below.
pub(super) fn helicopter(rng: &mut SeededRng) -> Object {
    let mut object = Object::default();
    let body = Fuselage::add(rng, &mut object);
    let (reach, mast) = (rng.uniform(0.3, 0.6), rng.uniform(0.05, 0.14));
    let (top, at) = (body.radius + mast, rng.uniform(-0.05, 0.15));
    object.add(
        "rotor",
        Solid::cylinder(0.02, mast + body.radius * 0.5, 8).translated(0.0, body.radius * 0.5, at),
    );
    let num_blades = rng.uniform_int(2, 5);
    let turned = rng.uniform(0.0, TAU);
    let wide = rng.uniform(0.03, 0.07);
    for blade in 0..num_blades {
        let angle = turned + TAU * blade as f64 / num_blades as f64;
        let solid = Solid::beveled_box(reach, 0.014, wide, 0.005).translated(reach / 2.0, top, 0.0);
        object.add("rotor", solid.rotated_y(angle).translated(0.0, 0.0, at));
    }
    let size = rng.uniform(0.1, 0.2);
    let fin = body.fin(rng, size, size * 0.8, -0.42).rotated_z(FRAC_PI_2);
    object.add("tail", fin);
    let (x, drop) = (body.radius * rng.uniform(0.8, 1.3), rng.uniform(0.06, 0.14));
    let y = -body.radius - drop;
    let (from, to) = (DVec3::new(x, y, -0.25), DVec3::new(x, y, 0.28));
    object.add_pair("skid", Solid::bar(from, to, 0.015, 7));
    for z in [-0.12, 0.14] {
        let foot = DVec3::new(x, y, z);
        let root = DVec3::new(x * 0.4, -body.radius * 0.6, z);
        object.add_pair("skid", Solid::bar(root, foot, 0.012, 6));
    }
    object
}

/// A tower, small planes, a cross of fins and a propeller behind.
pub(super) fn submarine(rng: &mut SeededRng) -> Object {
    let mut object = Object::default();
    let body = Fuselage::add(rng, &mut object);
    let (tall, long) = (body.radius * rng.uniform(0.8, 1.6), rng.uniform(0.12, 0.26));
    let at = rng.uniform(-0.05, 0.2);
    object.add(
        "tower",
        Solid::beveled_box(
            body.radius * 0.5,
            tall + body.radius * 0.5,
            long,
            body.radius * 0.15,
        )
        .translated(0.0, body.radius * 0.5, at),
    );
    if rng.bernoulli(0.6) {
        let plane = Solid::beveled_box(body.radius * 2.2, 0.014, long * 0.4, 0.005);
        object.add("tower", plane.translated(0.0, body.radius + tall * 0.5, at));
    }
    let size = body.radius * rng.uniform(0.8, 1.4);
    let fin = body.fin(rng, size, size * 0.8, -0.38);
    for quarter in 0..4 {
        object.add("fin", fin.clone().rotated_z(FRAC_PI_2 * f64::from(quarter)));
    }
    let reach = body.radius * rng.uniform(0.6, 1.0);
    let num_blades = rng.uniform_int(3, 5);
    for blade in 0..num_blades {
        let solid = Solid::beveled_box(reach * 0.35, reach, 0.016, 0.006).rotated_y(0.6);
        let angle = TAU * blade as f64 / num_blades as f64;
        object.add("propeller", solid.rotated_z(angle).translated(0.0, 0.0, -0.53));
    }
    object
}

/// Fins around the rear, and nozzles behind.
pub(super) fn rocket(rng: &mut SeededRng) -> Object {
    let mut object = Object::default();
    let body = Fuselage::add(rng, &mut object);
    let num_fins = rng.uniform_int(3, 5);
    let (span, chord) = (rng.uniform(0.12, 0.3), rng.uniform(0.12, 0.26));
    let fin = body.fin(rng, span, chord, -0.34);
    for index in 0..num_fins {
        let angle = FRAC_PI_2 + TAU * index as f64 / num_fins as f64;
        object.add("fin", fin.clone().rotated_z(angle));
    }
    let flare = body.radius * rng.uniform(0.4, 0.8);
    let bell = [
        (flare * 0.5, -0.46),
        (flare * 0.5, -0.5),
        (flare, -0.5 - 1.4 * flare),
        (flare * 0.85, -0.5 - 1.4 * flare),
        (flare * 0.3, -0.5),
        (0.0, -0.49),
    ];
    let bell = Solid::lathe(&bell, 12).rotated_x(FRAC_PI_2);
    let num_nozzles = rng.uniform_int(1, 3);
    let off = if num_nozzles == 1 { 0.0 } else { body.radius * 0.55 };
    let size = if num_nozzles == 1 { 1.0 } else { 0.6 };
    for direction in circle(num_nozzles) {
        // Scaled about its throat.
        let bell = bell.clone().translated(0.0, 0.0, 0.48).scaled(size, size, size);
        object.add(
            "nozzle",
            bell.translated(direction.x * off, direction.y * off, -0.48),
        );
    }
    object
}
