//! Chair, bench, sofa.

use glam::DVec3;

use super::Object;
use crate::seeded_rng::SeededRng;
use crate::synthesize::solid::{Solid, arc, circle};

/// Four legs, a pedestal or a sled under a seat; a back of a panel, slats or rungs; perhaps arms.
pub(super) fn chair(rng: &mut SeededRng) -> Object {
    let mut object = Object::default();
    let (width, depth) = (0.45 * rng.log_uniform(1.25), 0.45 * rng.log_uniform(1.2));
    let (height, thickness) = (rng.uniform(0.32, 0.75), rng.uniform(0.025, 0.09));
    if rng.bernoulli(0.25) {
        object.add(
            "seat",
            Solid::cylinder(width / 2.0, thickness, 20)
                .scaled(1.0, 1.0, depth / width)
                .translated(0.0, height, 0.0),
        );
    } else {
        object.add(
            "seat",
            Solid::cuboid(width, thickness, depth).translated(0.0, height, 0.0),
        );
    }
    match rng.uniform_int(0, 3) {
        0 => pedestal(rng, &mut object, height, width),
        1 => sled(rng, &mut object, width, height, depth),
        _ => four_legs(rng, &mut object, width, height, depth),
    }
    let top = height + thickness;
    back(rng, &mut object, width, top, depth, height);
    if rng.bernoulli(0.45) {
        arms(rng, &mut object, width, top, depth);
    }
    object
}

/// A long seat on legs or side panels, most with a back, some with arms.
pub(super) fn bench(rng: &mut SeededRng) -> Object {
    let mut object = Object::default();
    let (width, depth) = (rng.uniform(0.85, 1.9), rng.uniform(0.32, 0.55));
    let (height, thickness) = (rng.uniform(0.35, 0.55), rng.uniform(0.03, 0.08));
    let num_planks = rng.uniform_int(1, 4);
    let plank = depth / num_planks as f64;
    for index in 0..num_planks {
        let z = plank * (index as f64 + 0.5) - depth / 2.0;
        object.add(
            "seat",
            Solid::cuboid(width, thickness, plank * 0.86).translated(0.0, height, z),
        );
    }
    if rng.bernoulli(0.5) {
        let (panel, inset) = (rng.uniform(0.04, 0.12), rng.uniform(0.0, 0.3));
        object.add_pair(
            "leg",
            Solid::cuboid(panel, height, depth * 0.92).translated(width / 2.0 - panel - inset, 0.0, 0.0),
        );
    } else {
        four_legs(rng, &mut object, width, height, depth);
    }
    let top = height + thickness;
    if rng.bernoulli(0.65) {
        back(rng, &mut object, width, top, depth, height * 0.9);
    }
    if rng.bernoulli(0.35) {
        arms(rng, &mut object, width, top, depth);
    }
    object
}

/// An upholstered base with one to four cushions, a thick back and thick arms; perhaps a long end.
pub(super) fn sofa(rng: &mut SeededRng) -> Object {
    let mut object = Object::default();
    let num_cushions = rng.uniform_int(1, 4);
    let cushion = rng.uniform(0.48, 0.75);
    let (width, depth) = (num_cushions as f64 * cushion, rng.uniform(0.6, 0.85));
    let (clearance, base) = (rng.uniform(0.04, 0.16), rng.uniform(0.14, 0.26));
    let arm_width = rng.uniform(0.08, 0.26);
    let seat_y = clearance + base;
    let soft = rng.uniform(0.12, 0.2);
    object.add(
        "seat",
        Solid::cuboid(width, base, depth).translated(0.0, clearance, 0.0),
    );
    let long_end = rng.bernoulli(0.25).then(|| rng.uniform(0.35, 0.7));
    for index in 0..num_cushions {
        let x = cushion * (index as f64 + 0.5) - width / 2.0;
        let extra = if index == 0 { long_end.unwrap_or(0.0) } else { 0.0 };
        let pad = Solid::beveled_box(cushion * 0.97, soft, depth * 0.98 + extra, soft * 0.45);
        object.add("seat", pad.translated(x, seat_y, extra / 2.0));
        if extra > 0.0 {
            object.add(
                "seat",
                Solid::cuboid(cushion, base, extra).translated(x, clearance, depth.midpoint(extra)),
            );
        }
    }
    let (back_height, back_depth) = (rng.uniform(0.3, 0.62), rng.uniform(0.12, 0.24));
    let lean = -rng.uniform(0.0, 0.25);
    let num_backs = if rng.bernoulli(0.5) { num_cushions } else { 1 };
    for index in 0..num_backs {
        let each = width / num_backs as f64;
        let x = each * (index as f64 + 0.5) - width / 2.0;
        let pad = Solid::beveled_box(each * 0.98, back_height, back_depth, back_depth * 0.35).sheared(lean);
        object.add("back", pad.translated(x, seat_y, back_depth / 2.0 - depth / 2.0));
    }
    if rng.bernoulli(0.85) {
        let arm_height = base + rng.uniform(0.15, 0.34);
        let arm = if rng.bernoulli(0.35) {
            let radius = arm_width / 2.0;
            let mut arm = Solid::cuboid(arm_width * 0.8, arm_height, depth);
            arm.append(
                Solid::cylinder(radius, depth, 16)
                    .rotated_x(-std::f64::consts::FRAC_PI_2)
                    .translated(0.0, arm_height, depth / 2.0),
            );
            arm
        } else {
            Solid::beveled_box(arm_width, arm_height, depth, arm_width * 0.3)
        };
        object.add_pair("arm", arm.translated(width.midpoint(arm_width), clearance, 0.0));
    }
    let (foot_x, foot_z) = (width / 2.0 - 0.05, depth / 2.0 - 0.05);
    let foot = if rng.bernoulli(0.5) {
        Solid::cylinder(0.025, clearance, 8)
    } else {
        Solid::cuboid(0.06, clearance, 0.06)
    };
    for z in [-foot_z, foot_z] {
        object.add_pair("foot", foot.clone().translated(foot_x, 0.0, z));
    }
    object
}

fn four_legs(rng: &mut SeededRng, object: &mut Object, width: f64, height: f64, depth: f64) {
    let radius = rng.uniform(0.012, 0.035);
    let (splay, taper) = (rng.uniform(-0.02, 0.1), rng.uniform(0.5, 1.0));
    let is_square = rng.bernoulli(0.4);
    let (x, z) = (width / 2.0 - 1.5 * radius, depth / 2.0 - 1.5 * radius);
    for side in [-1.0, 1.0] {
        let (from, to) = (
            DVec3::new(x + splay, 0.0, side * (z + splay)),
            DVec3::new(x, height, side * z),
        );
        object.add_pair(
            "leg",
            Solid::tapered_bar(from, to, radius * taper, radius, if is_square { 4 } else { 10 }),
        );
    }
    if rng.bernoulli(0.4) {
        let y = height * rng.uniform(0.2, 0.6);
        for side in [-1.0, 1.0] {
            object.add(
                "leg",
                Solid::bar(
                    DVec3::new(-x, y, side * z),
                    DVec3::new(x, y, side * z),
                    radius * 0.6,
                    8,
                ),
            );
        }
    }
}

fn pedestal(rng: &mut SeededRng, object: &mut Object, height: f64, width: f64) {
    let radius = rng.uniform(0.02, 0.045);
    object.add("leg", Solid::cylinder(radius, height, 12));
    let reach = width * rng.uniform(0.42, 0.65);
    if rng.bernoulli(0.5) {
        object.add(
            "leg",
            Solid::lathe(&[(reach, 0.0), (reach * 0.95, 0.02), (radius, 0.06)], 24),
        );
    } else {
        let num_feet = rng.uniform_int(4, 5);
        for direction in circle(num_feet) {
            let tip = DVec3::new(direction.x * reach, 0.03, direction.y * reach);
            object.add(
                "leg",
                Solid::tapered_bar(DVec3::new(0.0, 0.09, 0.0), tip, 0.025, 0.015, 8),
            );
            object.add(
                "leg",
                Solid::beveled_box(0.045, 0.045, 0.045, 0.015).translated(tip.x, 0.0, tip.z),
            );
        }
    }
}

fn sled(rng: &mut SeededRng, object: &mut Object, width: f64, height: f64, depth: f64) {
    let radius = rng.uniform(0.01, 0.02);
    let (x, z) = (width / 2.0 - radius, depth / 2.0);
    let is_cantilever = rng.bernoulli(0.4);
    let bend = 0.04;
    let mut path = vec![
        DVec3::new(x, height, z - bend),
        DVec3::new(x, height - bend, z),
        DVec3::new(x, bend, z),
        DVec3::new(x, radius, z - bend),
        DVec3::new(x, radius, bend - z),
    ];
    if !is_cantilever {
        path.extend([
            DVec3::new(x, bend, -z),
            DVec3::new(x, height - bend, -z),
            DVec3::new(x, height, bend - z),
        ]);
    }
    object.add_pair("leg", Solid::tube(&path, radius, 8));
    object.add(
        "leg",
        Solid::bar(
            DVec3::new(-x, radius, bend - z),
            DVec3::new(x, radius, bend - z),
            radius,
            8,
        ),
    );
}

fn back(rng: &mut SeededRng, object: &mut Object, width: f64, top: f64, depth: f64, size: f64) {
    let height = size * rng.uniform(0.6, 1.35);
    let thickness = rng.uniform(0.015, 0.05);
    let lean = -rng.uniform(0.0, 0.3);
    let z = thickness / 2.0 - depth / 2.0;
    let mut add = |solid: Solid| object.add("back", solid.sheared(lean).translated(0.0, top, z));
    let style = rng.uniform_int(0, 3);
    if style == 0 {
        let gap = if rng.bernoulli(0.5) {
            height * rng.uniform(0.1, 0.4)
        } else {
            0.0
        };
        let panel = width * rng.uniform(0.75, 1.0);
        add(Solid::cuboid(panel, height - gap, thickness).translated(0.0, gap, 0.0));
        if gap > 0.0 {
            add(Solid::cuboid(0.03, gap + 0.01, thickness).translated(width * 0.3, 0.0, 0.0));
            add(Solid::cuboid(0.03, gap + 0.01, thickness).translated(-width * 0.3, 0.0, 0.0));
        }
        return;
    }
    let post = rng.uniform(0.02, 0.035);
    for side in [-1.0, 1.0] {
        add(Solid::cuboid(post, height, thickness).translated(side * (width - post) / 2.0, 0.0, 0.0));
    }
    add(Solid::cuboid(width - post, post * 1.6, thickness * 0.9).translated(0.0, height - post * 1.6, 0.0));
    let inner = width - 2.0 * post;
    match style {
        1 => {
            let num_slats = rng.uniform_int(2, 7);
            for index in 0..num_slats {
                let x = inner * ((index as f64 + 0.5) / num_slats as f64 - 0.5);
                add(
                    Solid::cuboid(inner / num_slats as f64 * 0.45, height - post, thickness * 0.6)
                        .translated(x, 0.0, 0.0),
                );
            }
        }
        2 => {
            let num_rungs = rng.uniform_int(1, 4);
            for index in 0..num_rungs {
                let y = height * (index as f64 + 0.7) / (num_rungs as f64 + 0.7);
                add(
                    Solid::cuboid(inner + post, height * 0.09, thickness * 0.6).translated(0.0, y * 0.9, 0.0),
                );
            }
        }
        _ => {
            let gap = height * rng.uniform(0.05, 0.3);
            add(Solid::cuboid(inner + post, height - gap - post, thickness * 0.4).translated(0.0, gap, 0.0));
        }
    }
}

fn arms(rng: &mut SeededRng, object: &mut Object, width: f64, top: f64, depth: f64) {
    let (height, radius) = (rng.uniform(0.16, 0.28), rng.uniform(0.012, 0.025));
    let x = width / 2.0;
    if rng.bernoulli(0.5) {
        let rest = rng.uniform(0.035, 0.08);
        object.add_pair(
            "arm",
            Solid::cuboid(rest, 0.03, depth * 0.95).translated(x, top + height, 0.0),
        );
        for z in [depth * 0.35, -depth * 0.35] {
            object.add_pair(
                "arm",
                Solid::bar(
                    DVec3::new(x, top - 0.02, z),
                    DVec3::new(x, top + height + 0.01, z),
                    radius,
                    8,
                ),
            );
        }
    } else {
        let bow: Vec<DVec3> = arc(depth * 0.45, height, 0.0, std::f64::consts::PI, 9)
            .into_iter()
            .map(|point| DVec3::new(x, top + point.y - 0.01, point.x))
            .collect();
        object.add_pair("arm", Solid::tube(&bow, radius, 8));
    }
}
