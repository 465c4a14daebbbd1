//! [`Scene`]: an object on a floor, perhaps before walls and among other things, and the boxes that cut it out.

use glam::{DAffine3, DVec3};
use serde_json::{Value, json};
use tap_render::{Mesh, Parts};

use super::scan::SeenPoint;
use crate::seeded_rng::SeededRng;
use crate::synthesize::{Object, Solid};

/// Half the side of the floor, in diagonals of the object's bounding box.
const FLOOR_HALF_SIDE: f64 = 0.95;
/// Height of the walls, likewise.
const WALL_HEIGHT: f64 = 1.1;
/// Thickness of floor and walls.
const THICKNESS: f64 = 0.03;
/// A box that is not perturbed is larger than the object by up to this share of each side, at both ends.
const MAX_MARGIN: f64 = 0.12;
/// Shift of a perturbed box along each axis, in shares of its side.
const MAX_SHIFT: f64 = 0.5;
/// Sides of a perturbed box, in sides of the object's.
const SCALES: [f64; 2] = [0.75, 1.25];
/// Share of the object's visible points that a perturbed box has to hold.
const MIN_SHARE_LEFT: f64 = 0.5;
/// Fewest points of a perturbed box.
const MIN_POINTS: usize = 400;
/// Boxes that are drawn until one holds enough.
const MAX_BOXES: usize = 24;

/// Index of the part that is the object; the other one is everything else.
pub(super) const TARGET: u16 = 0;
const BACKGROUND: u16 = 1;

/// Triangles of an object, of which the bounding box has a diagonal of 1, and of what is around it.
#[derive(Debug, Default)]
pub(super) struct Scene {
    positions: Vec<DVec3>,
    triangles: Vec<[u32; 3]>,
    of_triangle: Vec<u16>,
    low: DVec3,
    high: DVec3,
}

/// An object alone as a mesh, its parts named.
pub(super) fn mesh_of(object: &Object) -> Mesh {
    let mut positions = Vec::new();
    let mut triangles = Vec::new();
    let mut parts = Parts::default();
    for (label, (name, solid)) in object.parts().iter().enumerate() {
        append(solid, &mut positions, &mut triangles);
        parts.names.push((*name).to_owned());
        parts.of_triangle.resize(triangles.len(), label as u16);
    }
    Mesh::try_new(&positions, triangles, Some(parts)).expect("closed solids have triangles with an area")
}

fn append(solid: &Solid, positions: &mut Vec<DVec3>, triangles: &mut Vec<[u32; 3]>) {
    let first = positions.len();
    positions.extend(&solid.positions);
    let corners = solid.triangles.iter();
    triangles.extend(corners.map(|triangle| triangle.map(|corner| (first + corner) as u32)));
}

impl Scene {
    /// The object on a floor, most with a wall behind, some with one at a side; with `other`, one to three others around it
    /// and perhaps one on it.
    pub(super) fn new(
        target: &Object,
        rng: &mut SeededRng,
        other: Option<&dyn Fn(&mut SeededRng) -> Object>,
    ) -> Self {
        let (low, high) = target.bounds();
        let mut scene = Self {
            low,
            high,
            ..Self::default()
        };
        scene.add(target, TARGET);
        let side = 2.0 * FLOOR_HALF_SIDE;
        let mut room = Object::default();
        let panel = |width, height, depth| Solid::beveled_box(width, height, depth, THICKNESS / 8.0);
        room.add(
            "floor",
            panel(side, THICKNESS, side).translated(0.0, low.y - THICKNESS, 0.0),
        );
        if rng.bernoulli(0.7) {
            let z = low.z - rng.uniform(0.0, 0.2) - THICKNESS / 2.0;
            room.add(
                "wall",
                panel(side, WALL_HEIGHT, THICKNESS).translated(0.0, low.y, z),
            );
        }
        if rng.bernoulli(0.35) {
            let gap = rng.uniform(0.0, 0.25) + THICKNESS / 2.0;
            let x = if rng.bernoulli(0.5) {
                low.x - gap
            } else {
                high.x + gap
            };
            room.add(
                "wall",
                panel(THICKNESS, WALL_HEIGHT, side).translated(x, low.y, 0.0),
            );
        }
        scene.add(&room, BACKGROUND);
        let Some(other) = other else { return scene };
        for _ in 0..rng.uniform_int(1, 3) {
            let object = other(rng);
            scene.add_beside(object, rng);
        }
        if rng.bernoulli(0.25) {
            let mut object = other(rng);
            object.transform(DAffine3::from_scale(DVec3::splat(rng.uniform(0.15, 0.3))));
            let (bottom, _) = object.bounds();
            let size = high - low;
            let at = DVec3::new(
                size.x * rng.uniform(-0.25, 0.25),
                high.y - bottom.y - 0.01,
                size.z * rng.uniform(-0.25, 0.25),
            );
            object.transform(DAffine3::from_translation(at));
            scene.add(&object, BACKGROUND);
        }
        scene
    }

    /// On the floor, with its bounding box beside the object's in a random direction; low where it would stand before it.
    fn add_beside(&mut self, mut object: Object, rng: &mut SeededRng) {
        let (sin, cos) = rng.uniform(0.0, std::f64::consts::TAU).sin_cos();
        let size = rng.uniform(0.45, 1.0) * if cos > 0.3 { 0.5 } else { 1.0 };
        object.transform(DAffine3::from_scale(DVec3::splat(size)));
        let (low, high) = object.bounds();
        let reach = (self.high - self.low + (high - low)) / 2.0;
        let gap = rng.uniform(-0.03, 0.12);
        // Where the first of the two axes is free.
        let distance = (reach.x / sin.abs().max(1e-9)).min(reach.z / cos.abs().max(1e-9)) + gap;
        let at = DVec3::new(sin * distance, self.low.y - low.y, cos * distance);
        object.transform(DAffine3::from_translation(at));
        self.add(&object, BACKGROUND);
    }

    fn add(&mut self, object: &Object, label: u16) {
        for (_, solid) in object.parts() {
            append(solid, &mut self.positions, &mut self.triangles);
        }
        self.of_triangle.resize(self.triangles.len(), label);
    }

    pub(super) fn mesh(&self) -> Mesh {
        let parts = Parts {
            names: vec!["target".to_owned(), "background".to_owned()],
            of_triangle: self.of_triangle.clone(),
        };
        Mesh::try_new(&self.positions, self.triangles.clone(), Some(parts))
            .expect("closed solids have triangles with an area")
    }

    /// The points in a box around the object, as a person draws it: a little too large.
    pub(super) fn in_upright_box(&self, seen: &[SeenPoint], rng: &mut SeededRng) -> Vec<DVec3> {
        let size = self.high - self.low;
        let mut margin = || DVec3::from_array([(); 3].map(|()| rng.uniform(0.02, MAX_MARGIN))) * size;
        let (low, high) = (self.low - margin(), self.high + margin());
        let is_in = |point: &&SeenPoint| point.at.cmpge(low).all() && point.at.cmple(high).all();
        seen.iter().filter(is_in).map(|point| point.at).collect()
    }

    /// The points in a box that is shifted, scaled and turned about the up axis, in the box's own axes. `None` if of the
    /// object too little is left; with `takes_any` the box is then not shifted.
    pub(super) fn in_perturbed_box(
        &self,
        seen: &[SeenPoint],
        takes_any: bool,
        rng: &mut SeededRng,
    ) -> Option<Vec<DVec3>> {
        let (center, size) = ((self.low + self.high) / 2.0, self.high - self.low);
        let num_of_target = seen.iter().filter(|point| point.is_target).count();
        for attempt in 0..=MAX_BOXES {
            let is_last = attempt == MAX_BOXES;
            let shift = DVec3::from_array([(); 3].map(|()| rng.uniform(-MAX_SHIFT, MAX_SHIFT)));
            let scale = rng.uniform(SCALES[0], SCALES[1]);
            let turn = DAffine3::from_rotation_y(rng.uniform(0.0, std::f64::consts::TAU));
            if is_last && !takes_any {
                return None;
            }
            let shift = if is_last { DVec3::ZERO } else { shift * size };
            let half = scale * size / 2.0;
            let in_box = |point: &SeenPoint| {
                let at = turn.transform_point3(point.at - center - shift);
                at.abs().cmple(half).all().then_some((at, point.is_target))
            };
            let kept: Vec<(DVec3, bool)> = seen.iter().filter_map(in_box).collect();
            let num_kept = kept.iter().filter(|(_, is_target)| *is_target).count();
            let is_enough =
                num_kept as f64 >= MIN_SHARE_LEFT * num_of_target as f64 && kept.len() >= MIN_POINTS;
            if is_last || is_enough {
                return Some(kept.into_iter().map(|(at, _)| at).collect());
            }
        }
        None
    }
}

/// For recipes.
pub(super) fn describe_upright() -> Value {
    json!({"max_margin": MAX_MARGIN})
}

/// For recipes.
pub(super) fn describe_perturbed() -> Value {
    json!({
        "max_shift": MAX_SHIFT,
        "scales": SCALES,
        "turned": "about the up axis",
        "min_share_left": MIN_SHARE_LEFT,
    })
}
