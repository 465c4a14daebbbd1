//! A box that stands on the floor: cabinet, dresser, bookshelf, stove.

use std::f64::consts::FRAC_PI_2;

use glam::DVec3;

use super::Object;
use crate::seeded_rng::SeededRng;
use crate::synthesize::solid::Solid;

/// Width, height and depth of the box, and the height of its feet.
struct Case {
    width: f64,
    height: f64,
    depth: f64,
    foot: f64,
}

impl Case {
    /// Feet and what lies on top; the box itself is of each category.
    fn add(rng: &mut SeededRng, object: &mut Object) -> Self {
        let case = Self {
            width: 0.8 * rng.log_uniform(1.5),
            height: 0.95 * rng.log_uniform(1.5),
            depth: 0.5 * rng.log_uniform(1.35),
            foot: rng.uniform(0.03, 0.2),
        };
        let (x, z) = (case.width / 2.0 - 0.05, case.depth / 2.0 - 0.05);
        for side in [-1.0, 1.0] {
            object.add_pair(
                "foot",
                Solid::cylinder(0.035, case.foot + 0.01, 7).translated(x, 0.0, side * z),
            );
        }
        if rng.bernoulli(0.35) {
            let (wide, tall) = (rng.uniform(0.06, 0.2), rng.uniform(0.06, 0.3));
            let at = case.width * rng.uniform(-0.25, 0.25);
            let item = if rng.bernoulli(0.5) {
                Solid::cuboid(2.0 * wide, tall, wide)
            } else {
                Solid::lathe(&[(wide * 0.6, 0.0), (wide, tall * 0.5), (wide * 0.5, tall)], 10)
            };
            object.add("item", item.translated(at, case.top(), -case.depth * 0.1));
        }
        case
    }

    fn top(&self) -> f64 {
        self.foot + self.height
    }

    fn add_solid_body(&self, object: &mut Object) {
        object.add(
            "body",
            Solid::cuboid(self.width, self.height, self.depth).translated(0.0, self.foot, 0.0),
        );
    }
}

/// Doors, one of them open more or less.
pub(super) fn cabinet(rng: &mut SeededRng) -> Object {
    let mut object = Object::default();
    let case = Case::add(rng, &mut object);
    case.add_solid_body(&mut object);
    let num_doors = rng.uniform_int(1, 2);
    let wide = case.width / num_doors as f64 * 0.96;
    let open = [rng.uniform(0.5, 1.7), rng.uniform(0.0, 1.2)];
    for (side, open) in [1.0, -1.0].into_iter().zip(open).take(num_doors) {
        // Made at a hinge at +x, on the right of the front.
        let leaf = Solid::cuboid(wide, case.height * 0.94, 0.035).translated(-wide / 2.0, 0.0, 0.02);
        let knob = Solid::bar(
            DVec3::new(-wide * 0.88, case.height * 0.5, 0.03),
            DVec3::new(-wide * 0.88, case.height * 0.5, 0.09),
            0.025,
            7,
        );
        for (part, solid) in [("door", leaf), ("handle", knob)] {
            let hung = solid.rotated_y(open).translated(
                case.width / 2.0,
                case.foot + case.height * 0.03,
                case.depth / 2.0,
            );
            object.add(part, if side > 0.0 { hung } else { hung.mirrored() });
        }
    }
    object
}

/// Rows of drawers, some of them pulled out.
pub(super) fn dresser(rng: &mut SeededRng) -> Object {
    let mut object = Object::default();
    let case = Case::add(rng, &mut object);
    case.add_solid_body(&mut object);
    let (num_rows, num_columns) = (rng.uniform_int(2, 4), rng.uniform_int(1, 2));
    let (wide, tall) = (
        case.width / num_columns as f64,
        case.height * 0.96 / num_rows as f64,
    );
    let always_out = rng.uniform_int(0, num_rows - 1);
    for row in 0..num_rows {
        for column in 0..num_columns {
            let x = wide * (column as f64 + 0.5) - case.width / 2.0;
            let y = case.foot + case.height * 0.02 + tall * row as f64;
            let is_out = rng.bernoulli(0.3) || (row == always_out && column == 0);
            let out = if is_out {
                case.depth * rng.uniform(0.2, 0.6)
            } else {
                0.03
            };
            let front = case.depth / 2.0 + out;
            object.add(
                "drawer",
                Solid::cuboid(wide * 0.92, tall * 0.86, out + 0.05).translated(
                    x,
                    y,
                    front - out / 2.0 - 0.025,
                ),
            );
            object.add(
                "handle",
                Solid::cuboid(wide * 0.35, 0.03, 0.06).translated(x, y + tall * 0.45, front + 0.02),
            );
        }
    }
    object
}

/// Open to the front: shelves with books.
pub(super) fn bookshelf(rng: &mut SeededRng) -> Object {
    let mut object = Object::default();
    let case = Case::add(rng, &mut object);
    let Case {
        width,
        height,
        depth,
        foot,
    } = case;
    let panel = rng.uniform(0.025, 0.05);
    object.add_pair(
        "body",
        Solid::cuboid(panel, height, depth).translated((width - panel) / 2.0, foot, 0.0),
    );
    object.add(
        "body",
        Solid::cuboid(width, height, 0.02).translated(0.0, foot, 0.01 - depth / 2.0),
    );
    let num_shelves = rng.uniform_int(2, 4);
    let gap = (height - panel) / num_shelves as f64;
    for shelf in 0..=num_shelves {
        let y = foot + gap * shelf as f64;
        object.add(
            "shelf",
            Solid::cuboid(width - panel, panel, depth * 0.97).translated(0.0, y, 0.0),
        );
        if shelf == num_shelves {
            continue;
        }
        let num_books = rng.uniform_int(1, 4);
        let mut x = 0.06 - width / 2.0;
        for _ in 0..num_books {
            let (thick, tall) = (width * rng.uniform(0.06, 0.16), gap * rng.uniform(0.5, 0.85));
            x += thick / 2.0;
            object.add(
                "book",
                Solid::cuboid(thick * 0.94, tall, depth * rng.uniform(0.4, 0.7)).translated(
                    x,
                    y + panel,
                    -depth * 0.12,
                ),
            );
            x += thick / 2.0 + 0.01;
        }
    }
    object
}

/// Burners on top, and a door that is hinged below.
pub(super) fn stove(rng: &mut SeededRng) -> Object {
    let mut object = Object::default();
    let case = Case::add(rng, &mut object);
    case.add_solid_body(&mut object);
    let (radius, rise) = (
        case.width.min(case.depth) * rng.uniform(0.14, 0.2),
        rng.uniform(0.03, 0.08),
    );
    let burner = Solid::lathe(
        &[
            (radius * 0.4, 0.0),
            (radius, 0.0),
            (radius, rise),
            (radius * 0.6, rise),
            (radius * 0.5, rise * 0.4),
            (0.0, rise * 0.4),
        ],
        12,
    );
    for z in [-0.25, 0.25] {
        object.add_pair(
            "burner",
            burner
                .clone()
                .translated(case.width * 0.25, case.top(), case.depth * z),
        );
    }
    let (tall, open) = (case.height * rng.uniform(0.45, 0.7), rng.uniform(0.0, FRAC_PI_2));
    let (y, z) = (case.foot + case.height * 0.08, case.depth / 2.0 + 0.02);
    let leaf = Solid::cuboid(case.width * 0.86, tall, 0.04);
    let bar = Solid::cuboid(case.width * 0.7, 0.04, 0.05).translated(0.0, tall * 0.86, 0.07);
    for (part, solid) in [("door", leaf), ("handle", bar)] {
        object.add(part, solid.rotated_x(open).translated(0.0, y, z));
    }
    object
}
