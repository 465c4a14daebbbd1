//! A slab on legs: table, chair, armchair, desk.

use glam::DVec3;

use super::Object;
use crate::seeded_rng::SeededRng;
use crate::synthesize::solid::Solid;

/// The slab; its upper face is at `top`.
struct Slab {
    width: f64,
    depth: f64,
    height: f64,
    top: f64,
}

impl Slab {
    /// A slab with its legs, perhaps with a shelf below and a cushion above.
    fn add(rng: &mut SeededRng, object: &mut Object) -> Self {
        let (width, depth) = (0.8 * rng.log_uniform(1.7), 0.6 * rng.log_uniform(1.4));
        let (height, thickness) = (rng.uniform(0.35, 0.85), rng.uniform(0.03, 0.1));
        let slab = Self {
            width,
            depth,
            height,
            top: height + thickness,
        };
        object.add(
            "seat",
            Solid::cuboid(width, thickness, depth).translated(0.0, height, 0.0),
        );
        slab.add_legs(rng, object);
        if rng.bernoulli(0.35) {
            let y = height * rng.uniform(0.15, 0.6);
            object.add(
                "shelf",
                Solid::cuboid(width * 0.9, 0.03, depth * 0.85).translated(0.0, y, 0.0),
            );
        }
        if rng.bernoulli(0.35) {
            let thick = rng.uniform(0.05, 0.14);
            let share = rng.uniform(0.5, 0.9);
            let pad = Solid::beveled_box(width * share, thick, depth * share, thick * 0.4);
            object.add("cushion", pad.translated(0.0, slab.top, 0.0));
        }
        slab
    }

    fn add_legs(&self, rng: &mut SeededRng, object: &mut Object) {
        let Self {
            width, depth, height, ..
        } = *self;
        match rng.uniform_int(0, 2) {
            0 => {
                let panel = rng.uniform(0.03, 0.08);
                object.add_pair(
                    "leg",
                    Solid::cuboid(panel, height, depth * 0.9).translated(width / 2.0 - panel, 0.0, 0.0),
                );
            }
            1 => {
                let radius = rng.uniform(0.03, 0.07);
                object.add("leg", Solid::cylinder(radius, height, 10));
                let (x, z) = (width * rng.uniform(0.5, 0.9), depth * rng.uniform(0.5, 0.9));
                object.add("leg", Solid::cuboid(x, 0.05, 0.09));
                object.add("leg", Solid::cuboid(0.09, 0.05, z));
            }
            _ => {
                let (radius, splay) = (rng.uniform(0.02, 0.05), rng.uniform(-0.06, 0.1));
                let (x, z) = (width / 2.0 - 1.5 * radius, depth / 2.0 - 1.5 * radius);
                for side in [-1.0, 1.0] {
                    let from = DVec3::new(x + splay, 0.0, side * (z + splay));
                    let to = DVec3::new(x, height, side * z);
                    object.add_pair("leg", Solid::bar(from, to, radius, 7));
                }
            }
        }
    }

    fn add_back(&self, rng: &mut SeededRng, object: &mut Object) {
        let (tall, thick) = (rng.uniform(0.25, 0.8), rng.uniform(0.03, 0.08));
        let lean = -rng.uniform(0.0, 0.3);
        let z = thick / 2.0 - self.depth / 2.0;
        let mut add = |solid: Solid| object.add("back", solid.sheared(lean).translated(0.0, self.top, z));
        if rng.bernoulli(0.5) {
            add(Solid::cuboid(self.width * rng.uniform(0.75, 1.0), tall, thick));
            return;
        }
        let num_slats = rng.uniform_int(2, 5);
        for slat in 0..=num_slats {
            let x = (self.width - 0.05) * (slat as f64 / num_slats as f64 - 0.5);
            add(Solid::cuboid(0.05, tall, thick).translated(x, 0.0, 0.0));
        }
        add(Solid::cuboid(self.width, tall * 0.2, thick).translated(0.0, tall * 0.82, 0.0));
    }
}

/// Nothing but the slab.
pub(super) fn table(rng: &mut SeededRng) -> Object {
    let mut object = Object::default();
    Slab::add(rng, &mut object);
    object
}

/// A back.
pub(super) fn chair(rng: &mut SeededRng) -> Object {
    let mut object = Object::default();
    Slab::add(rng, &mut object).add_back(rng, &mut object);
    object
}

/// A back, and an arm on each side.
pub(super) fn armchair(rng: &mut SeededRng) -> Object {
    let mut object = Object::default();
    let slab = Slab::add(rng, &mut object);
    slab.add_back(rng, &mut object);
    let (rise, rest) = (rng.uniform(0.14, 0.3), rng.uniform(0.04, 0.1));
    let x = slab.width / 2.0 - rest / 2.0;
    let length = slab.depth * rng.uniform(0.7, 1.0);
    if rng.bernoulli(0.4) {
        object.add_pair(
            "arm",
            Solid::cuboid(rest, rise, length).translated(x, slab.top, 0.0),
        );
        return object;
    }
    object.add_pair(
        "arm",
        Solid::cuboid(rest, 0.035, length).translated(x, slab.top + rise, 0.0),
    );
    for z in [-0.42 * length, 0.42 * length] {
        let foot = DVec3::new(x, slab.top - 0.01, z);
        object.add_pair("arm", Solid::bar(foot, foot + DVec3::Y * (rise + 0.02), 0.02, 7));
    }
    object
}

/// Drawers below one end.
pub(super) fn desk(rng: &mut SeededRng) -> Object {
    let mut object = Object::default();
    let slab = Slab::add(rng, &mut object);
    let (width, drop) = (
        slab.width * rng.uniform(0.28, 0.45),
        slab.height * rng.uniform(0.45, 0.95),
    );
    let side = if rng.bernoulli(0.5) { 1.0 } else { -1.0 };
    let x = side * (slab.width - width) / 2.0;
    let num_drawers = rng.uniform_int(1, 4);
    let each = drop / num_drawers as f64;
    for drawer in 0..num_drawers {
        let y = slab.height - each * (drawer as f64 + 1.0);
        let pulled = if rng.bernoulli(0.3) {
            slab.depth * rng.uniform(0.1, 0.4)
        } else {
            0.0
        };
        object.add(
            "drawer",
            Solid::cuboid(width, each * 0.94, slab.depth * 0.9).translated(x, y, pulled),
        );
        object.add(
            "drawer",
            Solid::cuboid(width * 0.4, 0.025, 0.04).translated(
                x,
                y + each * 0.45,
                pulled + slab.depth * 0.45,
            ),
        );
    }
    object
}
