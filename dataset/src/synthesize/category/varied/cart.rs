//! A chassis on wheels: car, truck, wagon, tank.

use std::f64::consts::FRAC_PI_2;

use glam::{DVec2, DVec3};

use super::Object;
use crate::seeded_rng::SeededRng;
use crate::synthesize::solid::Solid;

/// Width and length of the chassis, and the height of its upper face.
struct Chassis {
    width: f64,
    length: f64,
    top: f64,
}

impl Chassis {
    /// A flat body on two to four pairs of wheels, perhaps with racks at its sides.
    fn add(rng: &mut SeededRng, object: &mut Object) -> Self {
        let (width, length) = (0.5 * rng.log_uniform(1.3), 1.05 * rng.log_uniform(1.35));
        let radius = rng.uniform(0.08, 0.19);
        let thick = rng.uniform(0.08, 0.26);
        let clearance = radius * rng.uniform(0.5, 1.2);
        object.add(
            "chassis",
            Solid::cuboid(width, thick, length).translated(0.0, clearance, 0.0),
        );
        let num_pairs = rng.uniform_int(2, 4);
        let broad = rng.uniform(0.05, 0.12);
        let wheel = Solid::lathe(
            &[
                (radius * 0.4, -broad / 2.0),
                (radius, -broad / 2.0),
                (radius, broad / 2.0),
                (radius * 0.4, broad / 2.0),
            ],
            14,
        )
        .rotated_z(FRAC_PI_2);
        for pair in 0..num_pairs {
            let z = length * 0.72 * (pair as f64 / (num_pairs - 1) as f64 - 0.5);
            object.add_pair("wheel", wheel.clone().translated(width / 2.0, radius, z));
        }
        let top = clearance + thick;
        if rng.bernoulli(0.35) {
            let (low, long) = (rng.uniform(0.03, 0.08), length * rng.uniform(0.3, 0.9));
            object.add_pair(
                "rack",
                Solid::cuboid(0.06, low, long).translated(width / 2.0 + 0.02, top - low * 1.2, 0.0),
            );
        }
        Self { width, length, top }
    }
}

/// An extruded side view across the width; x of the outline is along z.
fn across(outline: &[DVec2], width: f64) -> Solid {
    Solid::extrusion(outline, width).rotated_y(-FRAC_PI_2)
}

/// A cabin in the middle.
pub(super) fn car(rng: &mut SeededRng) -> Object {
    let mut object = Object::default();
    let chassis = Chassis::add(rng, &mut object);
    let (long, tall) = (chassis.length * rng.uniform(0.35, 0.65), rng.uniform(0.14, 0.32));
    let (front, rear) = (rng.uniform(0.05, 0.3) * long, rng.uniform(0.0, 0.25) * long);
    let outline = [
        DVec2::new(-long / 2.0, 0.0),
        DVec2::new(long / 2.0, 0.0),
        DVec2::new(long / 2.0 - front, tall),
        DVec2::new(rear - long / 2.0, tall),
    ];
    let at = chassis.length * rng.uniform(-0.12, 0.06);
    let cabin = across(&outline, chassis.width * rng.uniform(0.75, 0.95));
    object.add("cabin", cabin.translated(0.0, chassis.top - 0.01, at));
    object
}

/// A cabin at the front and a box behind it, with a gap between them.
pub(super) fn truck(rng: &mut SeededRng) -> Object {
    let mut object = Object::default();
    let chassis = Chassis::add(rng, &mut object);
    let (long, tall) = (chassis.length * rng.uniform(0.18, 0.28), rng.uniform(0.2, 0.42));
    let slope = long * rng.uniform(0.0, 0.4);
    let outline = [
        DVec2::new(-long / 2.0, 0.0),
        DVec2::new(long / 2.0, 0.0),
        DVec2::new(long / 2.0 - slope, tall),
        DVec2::new(-long / 2.0, tall),
    ];
    let cabin = across(&outline, chassis.width * 0.95);
    object.add(
        "cabin",
        cabin.translated(0.0, chassis.top - 0.01, (chassis.length - long) / 2.0),
    );
    let rest = chassis.length - long - rng.uniform(0.04, 0.12);
    let (wide, high) = (chassis.width * rng.uniform(0.85, 1.1), rng.uniform(0.2, 0.55));
    object.add(
        "box",
        Solid::cuboid(wide, high, rest).translated(0.0, chassis.top - 0.01, (rest - chassis.length) / 2.0),
    );
    object
}

/// An open tray with a handle behind.
pub(super) fn wagon(rng: &mut SeededRng) -> Object {
    let mut object = Object::default();
    let chassis = Chassis::add(rng, &mut object);
    let (tall, wall) = (rng.uniform(0.12, 0.4), rng.uniform(0.025, 0.05));
    let y = chassis.top - 0.01;
    object.add_pair(
        "side",
        Solid::cuboid(wall, tall, chassis.length).translated((chassis.width - wall) / 2.0, y, 0.0),
    );
    for end in [-1.0, 1.0] {
        object.add(
            "side",
            Solid::cuboid(chassis.width, tall, wall).translated(0.0, y, end * (chassis.length - wall) / 2.0),
        );
    }
    let (rise, back) = (rng.uniform(0.25, 0.6), rng.uniform(0.1, 0.4));
    let (x, z) = (chassis.width * rng.uniform(0.2, 0.45), -chassis.length / 2.0);
    let path = [
        DVec3::new(-x, y, z),
        DVec3::new(-x, y + rise, z - back),
        DVec3::new(x, y + rise, z - back),
        DVec3::new(x, y, z),
    ];
    object.add("handle", Solid::tube(&path, 0.02, 7));
    object
}

/// A turret with a long barrel, turned somewhere to the front.
pub(super) fn tank(rng: &mut SeededRng) -> Object {
    let mut object = Object::default();
    let chassis = Chassis::add(rng, &mut object);
    let (radius, tall) = (chassis.width * rng.uniform(0.28, 0.45), rng.uniform(0.12, 0.28));
    let at = chassis.length * rng.uniform(-0.15, 0.1);
    let profile = [
        (radius, 0.0),
        (radius * rng.uniform(0.8, 1.0), tall),
        (0.0, tall * 1.1),
    ];
    let turned = rng.uniform(-0.9, 0.9);
    let place = |solid: Solid| solid.rotated_y(turned).translated(0.0, chassis.top - 0.01, at);
    object.add("turret", place(Solid::lathe(&profile, 14)));
    let (from, length) = (DVec3::new(0.0, tall * 0.55, radius * 0.5), rng.uniform(0.4, 0.9));
    let to = from + DVec3::new(0.0, rng.uniform(-0.02, 0.2), length);
    let thick = rng.uniform(0.025, 0.05);
    object.add(
        "barrel",
        place(Solid::tapered_bar(from, to, thick, thick * 0.8, 9)),
    );
    object
}
