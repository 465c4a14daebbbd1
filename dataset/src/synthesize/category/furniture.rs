//! Table, bed, bookshelf, cabinet.

use std::f64::consts::FRAC_PI_2;

use glam::DVec3;

use super::Object;
use crate::seeded_rng::SeededRng;
use crate::synthesize::solid::Solid;

/// A top on legs, a pedestal or panels; perhaps a shelf or drawers.
pub(super) fn table(rng: &mut SeededRng) -> Object {
    let mut object = Object::default();
    let (width, depth) = (rng.uniform(0.45, 1.8), rng.uniform(0.4, 0.95));
    let (height, thickness) = (rng.uniform(0.35, 0.85), rng.uniform(0.02, 0.07));
    let is_round = rng.bernoulli(0.3);
    let top = if is_round {
        Solid::cylinder(width / 2.0, thickness, 28).scaled(1.0, 1.0, depth / width)
    } else {
        Solid::cuboid(width, thickness, depth)
    };
    object.add("top", top.translated(0.0, height, 0.0));
    let inset = if is_round { 0.62 } else { 0.94 };
    let (x, z) = (width / 2.0 * inset - 0.03, depth / 2.0 * inset - 0.03);
    match rng.uniform_int(0, if is_round { 1 } else { 3 }) {
        0 if is_round || width < 1.0 => {
            let (radius, reach) = (rng.uniform(0.03, 0.09), width.min(depth) * rng.uniform(0.25, 0.4));
            object.add(
                "leg",
                Solid::lathe(
                    &[
                        (reach, 0.0),
                        (reach, 0.03),
                        (radius, 0.08),
                        (radius * 0.7, height * 0.6),
                        (radius * 1.6, height),
                    ],
                    16,
                ),
            );
        }
        2 => {
            let panel = rng.uniform(0.03, 0.07);
            object.add_pair(
                "leg",
                Solid::cuboid(panel, height, depth * 0.85).translated(x - rng.uniform(0.0, 0.15), 0.0, 0.0),
            );
            let brace = height * rng.uniform(0.1, 0.7);
            object.add(
                "leg",
                Solid::cuboid(2.0 * x, 0.05, 0.03).translated(0.0, brace, 0.0),
            );
        }
        _ => {
            let (radius, splay, taper) = (
                rng.uniform(0.016, 0.05),
                rng.uniform(-0.05, 0.12),
                rng.uniform(0.4, 1.0),
            );
            let num_sides = if rng.bernoulli(0.5) { 4 } else { 10 };
            for side in [-1.0, 1.0] {
                let (from, to) = (
                    DVec3::new(x + splay, 0.0, side * (z + splay)),
                    DVec3::new(x, height, side * z),
                );
                object.add_pair(
                    "leg",
                    Solid::tapered_bar(from, to, radius * taper, radius, num_sides),
                );
            }
            if rng.bernoulli(0.4) {
                let y = height * rng.uniform(0.15, 0.45);
                object.add(
                    "shelf",
                    Solid::cuboid(2.0 * x, 0.02, 2.0 * z).translated(0.0, y, 0.0),
                );
            }
            if !is_round && rng.bernoulli(0.4) {
                let num_drawers = rng.uniform_int(1, 3);
                let (each, drop) = (2.0 * x / num_drawers as f64, height * rng.uniform(0.12, 0.25));
                for index in 0..num_drawers {
                    let at = each * (index as f64 + 0.5) - x;
                    object.add(
                        "drawer",
                        Solid::cuboid(each * 0.92, drop, 1.9 * z).translated(at, height - drop, 0.0),
                    );
                    object.add(
                        "drawer",
                        Solid::beveled_box(each * 0.2, 0.015, 0.03, 0.006).translated(
                            at,
                            height - drop / 2.0,
                            z,
                        ),
                    );
                }
            }
        }
    }
    object
}

/// A mattress on a frame, a headboard, pillows; perhaps a footboard or posts.
pub(super) fn bed(rng: &mut SeededRng) -> Object {
    let mut object = Object::default();
    let (width, length) = (rng.uniform(0.8, 1.9), rng.uniform(1.7, 2.15));
    let (clearance, rail) = (rng.uniform(0.06, 0.35), rng.uniform(0.08, 0.22));
    let mattress = rng.uniform(0.12, 0.3);
    object.add(
        "frame",
        Solid::cuboid(width, rail, length).translated(0.0, clearance, 0.0),
    );
    let soft = Solid::beveled_box(width * 0.96, mattress, length * 0.97, mattress * 0.3);
    object.add("mattress", soft.translated(0.0, clearance + rail * 0.8, 0.0));
    let top = clearance + rail * 0.8 + mattress;
    let num_pillows = if width > 1.2 { 2_usize } else { 1 };
    let each = width / num_pillows as f64;
    for index in 0..num_pillows {
        let pillow = Solid::beveled_box(each * 0.75, 0.12, 0.35, 0.055).rotated_x(rng.uniform(-0.2, 0.05));
        object.add(
            "pillow",
            pillow.translated(
                each * (index as f64 + 0.5) - width / 2.0,
                top - 0.01,
                0.25 - length / 2.0,
            ),
        );
    }
    let board = rng.uniform(0.03, 0.1);
    if rng.bernoulli(0.85) {
        let height = top + rng.uniform(0.15, 0.75);
        end_board(rng, &mut object, width, height, board, -length / 2.0);
    }
    if rng.bernoulli(0.4) {
        let height = top + rng.uniform(-0.1, 0.3);
        end_board(rng, &mut object, width, height, board, length / 2.0);
    }
    let foot = rng.uniform(0.03, 0.06);
    let post = if rng.bernoulli(0.2) {
        rng.uniform(1.2, 2.0)
    } else {
        clearance + 0.02
    };
    for z in [0.1 - length / 2.0, length / 2.0 - 0.1] {
        object.add_pair(
            "leg",
            Solid::cylinder(foot, post, 10).translated(width / 2.0 - foot, 0.0, z),
        );
    }
    object
}

fn end_board(rng: &mut SeededRng, object: &mut Object, width: f64, height: f64, thickness: f64, z: f64) {
    if rng.bernoulli(0.6) {
        object.add(
            "headboard",
            Solid::cuboid(width, height, thickness).translated(0.0, 0.0, z),
        );
        return;
    }
    let bar = Solid::cuboid(width, 0.07, thickness);
    object.add("headboard", bar.clone().translated(0.0, height - 0.07, z));
    object.add("headboard", bar.translated(0.0, height * 0.35, z));
    let num_slats = rng.uniform_int(3, 8);
    for index in 0..num_slats {
        let x = (width - 0.06) * (index as f64 / (num_slats - 1) as f64 - 0.5);
        let slat = Solid::beveled_box(0.04, height * 0.66, thickness * 0.6, thickness * 0.1);
        object.add("headboard", slat.translated(x, height * 0.33, z));
    }
}

/// Sides, shelves and books; perhaps a back.
pub(super) fn bookshelf(rng: &mut SeededRng) -> Object {
    let mut object = Object::default();
    let (width, height, depth) = (
        rng.uniform(0.5, 1.5),
        rng.uniform(0.7, 2.0),
        rng.uniform(0.22, 0.42),
    );
    let board = rng.uniform(0.015, 0.04);
    let is_open = rng.bernoulli(0.3);
    if is_open {
        for z in [-1.0, 1.0] {
            object.add_pair(
                "side",
                Solid::cuboid(board * 1.5, height, board * 1.5).translated(
                    width / 2.0,
                    0.0,
                    z * (depth / 2.0 - board),
                ),
            );
        }
    } else {
        object.add_pair(
            "side",
            Solid::cuboid(board, height, depth).translated(width / 2.0, 0.0, 0.0),
        );
    }
    if !is_open && rng.bernoulli(0.6) {
        object.add(
            "back",
            Solid::cuboid(width, height, 0.01).translated(0.0, 0.0, 0.005 - depth / 2.0),
        );
    }
    let num_gaps = rng.uniform_int(2, 5);
    let plinth = rng.uniform(0.02, 0.12);
    let gap = (height - plinth - board) / num_gaps as f64;
    let fill = rng.uniform(0.0, 0.9);
    for level in 0..=num_gaps {
        let y = plinth + gap * level as f64;
        object.add(
            "shelf",
            Solid::cuboid(width, board, depth * 0.98).translated(0.0, y, 0.0),
        );
        if level == num_gaps || !rng.bernoulli(fill) {
            continue;
        }
        let mut x = board - width / 2.0;
        let end = (width / 2.0 - board) * rng.uniform(-0.2, 1.0);
        let mut num_books = 0;
        while num_books < 4 {
            let (thickness, tall) = (rng.uniform(0.03, 0.12), (gap - board) * rng.uniform(0.6, 0.92));
            if x + thickness > end {
                break;
            }
            let book = Solid::beveled_box(thickness * 0.94, tall, depth * rng.uniform(0.55, 0.85), 0.004);
            object.add("book", book.translated(x + thickness / 2.0, y + board, 0.0));
            x += thickness;
            num_books += 1;
        }
    }
    object
}

/// A closed body with doors and drawers in front, handles on them, feet below.
pub(super) fn cabinet(rng: &mut SeededRng) -> Object {
    let mut object = Object::default();
    let (width, height, depth) = (
        rng.uniform(0.45, 1.5),
        rng.uniform(0.5, 1.9),
        rng.uniform(0.3, 0.6),
    );
    let clearance = rng.uniform(0.03, 0.2);
    object.add(
        "body",
        Solid::beveled_box(width, height, depth, 0.012).translated(0.0, clearance, 0.0),
    );
    if rng.bernoulli(0.4) {
        object.add(
            "body",
            Solid::cuboid(width * 1.06, 0.03, depth * 1.06).translated(0.0, clearance + height, 0.0),
        );
    }
    let foot = rng.uniform(0.02, 0.05);
    for z in [-1.0, 1.0] {
        let solid = if foot > 0.035 {
            Solid::cuboid(2.0 * foot, clearance, 2.0 * foot)
        } else {
            Solid::cylinder(foot, clearance, 8)
        };
        object.add_pair(
            "foot",
            solid.translated(width / 2.0 - 1.3 * foot, 0.0, z * (depth / 2.0 - 1.3 * foot)),
        );
    }
    let front = depth / 2.0;
    let num_columns = rng.uniform_int(1, 3);
    let column = width / num_columns as f64;
    let knob = rng.bernoulli(0.5);
    let drawers = height
        * if rng.bernoulli(0.3) {
            1.0
        } else {
            rng.uniform(0.0, 0.6)
        };
    let num_rows = (drawers / rng.uniform(0.16, 0.3)).floor().min(4.0) as usize;
    let drawers = if num_rows == 0 { 0.0 } else { drawers };
    for index in 0..num_columns {
        let x = column * (index as f64 + 0.5) - width / 2.0;
        for row in 0..num_rows {
            let (each, y) = (
                drawers / num_rows as f64,
                clearance + height - drawers / num_rows as f64 * (row + 1) as f64,
            );
            object.add(
                "drawer",
                Solid::beveled_box(column * 0.92, each * 0.88, 0.03, 0.006).translated(
                    x,
                    y + each * 0.06,
                    front,
                ),
            );
            object.add(
                "handle",
                handle(knob, false, each * 0.25).translated(x, y + each / 2.0, front + 0.015),
            );
        }
        let door = height - drawers;
        if door > 0.1 {
            object.add(
                "door",
                Solid::beveled_box(column * 0.92, door * 0.94, 0.03, 0.006).translated(
                    x,
                    clearance + door * 0.03,
                    front,
                ),
            );
            let side = if index % 2 == 0 { 0.36 } else { -0.36 };
            object.add(
                "handle",
                handle(knob, true, door * 0.15).translated(
                    x + side * column,
                    clearance + door * 0.55,
                    front + 0.015,
                ),
            );
        }
    }
    object
}

fn handle(is_knob: bool, is_upright: bool, length: f64) -> Solid {
    if is_knob {
        return Solid::lathe(&[(0.008, 0.0), (0.008, 0.015), (0.02, 0.022), (0.016, 0.036)], 8)
            .rotated_x(FRAC_PI_2);
    }
    let half = length.clamp(0.03, 0.12);
    let path = [(-half, 0.0), (-half, 0.03), (half, 0.03), (half, 0.0)];
    let path = path.map(|(along, out)| {
        if is_upright {
            DVec3::new(0.0, along, out)
        } else {
            DVec3::new(along, 0.0, out)
        }
    });
    Solid::tube(&path, 0.007, 6)
}
