//! [`Scanner`]: the points of a scene that are visible from a few positions, as range images of the renderer have them.

use glam::DVec3;
use serde_json::{Value, json};
use tap_render::{
    BackendKind, Channels, CpuRenderer, Framing, NO_LABEL, ObjectFromMesh, PoseDegrees, Projection,
    RenderError, RenderJob, RenderRecipe, RigSpec, UpAxis, View,
};

use super::scene::{Scene, TARGET};
use crate::error::{DatasetError, Result};
use crate::seeded_rng::SeededRng;

/// Pixels of a range image, a side: of a walk, and of the few from one side.
const WALK_SIZE_PX: u32 = 224;
const ONE_SIDED_SIZE_PX: u32 = 352;
/// Distance of a scanner from the middle of the scene, in diameters of the sphere around it.
const DISTANCE_DIAGONALS: f32 = 1.0;
/// Elevations of scanners, in degrees.
const ELEVATIONS_DEG: [f64; 2] = [12.0, 42.0];
/// Walk around an object: azimuths, in degrees from the front, around which the positions lie.
const WALK_DEG: [f64; 5] = [-80.0, -40.0, 0.0, 40.0, 80.0];
const WALK_JITTER_DEG: f64 = 15.0;
/// Scan from one side: so many positions, this far apart, around an azimuth of up to this much.
const NUM_ONE_SIDED: usize = 2;
const ONE_SIDED_SPREAD_DEG: f64 = 22.0;
const MAX_ONE_SIDED_DEG: f64 = 60.0;
/// Standard deviation of the range, in diagonals of the object's bounding box.
const RANGE_NOISE: f64 = 0.003;

/// A point of a range image, in the coordinates of the scene.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct SeenPoint {
    pub(super) at: DVec3,
    /// Whether it is on the object, and not on what is around it.
    pub(super) is_target: bool,
}

/// Draws range images on the calling thread.
#[derive(Debug, Default)]
pub(super) struct Scanner(CpuRenderer);

impl Scanner {
    /// What is seen from a walk around the front, or from one side alone.
    pub(super) fn scan(
        &self,
        scene: &Scene,
        is_one_sided: bool,
        rng: &mut SeededRng,
    ) -> Result<Vec<SeenPoint>> {
        let mesh = scene.mesh();
        let object_from_mesh = ObjectFromMesh::from_bounding_box(&mesh, UpAxis::Y);
        let rig = RigSpec::try_poses(poses(is_one_sided, rng)).expect("the positions are in range");
        let recipe = RenderRecipe {
            rig,
            framing: Framing::Sphere,
            projection: Projection::Perspective {
                distance_diagonals: DISTANCE_DIAGONALS,
            },
            size_px: size_px(is_one_sided),
            samples: 1,
            channels: Channels {
                depth: true,
                part: true,
                ..Channels::NONE
            },
            ..RenderRecipe::default()
        };
        let job = RenderJob::try_new(&mesh, &object_from_mesh, &recipe, BackendKind::Cpu)
            .map_err(|error: RenderError| DatasetError::from(error))?;
        let mesh_from_object = object_from_mesh.matrix().inverse();
        let noise = RANGE_NOISE * object_from_mesh.scale();
        let views = self.0.draw(&job);
        let points = views.iter().flat_map(|view| seen_in(view, noise, rng));
        let to_scene = |point: SeenPoint| SeenPoint {
            at: mesh_from_object.transform_point3(point.at),
            ..point
        };
        Ok(points.map(to_scene).collect())
    }
}

const fn size_px(is_one_sided: bool) -> u32 {
    if is_one_sided {
        ONE_SIDED_SIZE_PX
    } else {
        WALK_SIZE_PX
    }
}

fn poses(is_one_sided: bool, rng: &mut SeededRng) -> Vec<PoseDegrees> {
    let azimuths: Vec<f64> = if is_one_sided {
        let middle = rng.uniform(-MAX_ONE_SIDED_DEG, MAX_ONE_SIDED_DEG);
        let place = |position: usize| position as f64 / (NUM_ONE_SIDED - 1) as f64 - 0.5;
        (0..NUM_ONE_SIDED)
            .map(|position| middle + ONE_SIDED_SPREAD_DEG * place(position))
            .collect()
    } else {
        WALK_DEG
            .iter()
            .map(|azimuth| azimuth + rng.uniform(-WALK_JITTER_DEG, WALK_JITTER_DEG))
            .collect()
    };
    let pose = |azimuth| PoseDegrees::new(azimuth, rng.uniform(ELEVATIONS_DEG[0], ELEVATIONS_DEG[1]));
    azimuths.into_iter().map(pose).collect()
}

/// A point in object space for each covered pixel, moved along its ray by the noise.
fn seen_in(view: &View, noise: f64, rng: &mut SeededRng) -> Vec<SeenPoint> {
    let (Some(depths), Some(parts)) = (&view.depth, &view.part) else {
        return Vec::new();
    };
    let clip = view.matrices.clip_from_view.as_dmat4();
    let object_from_view = view.matrices.view_from_object.as_dmat4().inverse();
    let size = f64::from(view.size_px);
    let mut points = Vec::new();
    for (pixel, (&depth, &part)) in depths.iter().zip(parts).enumerate() {
        if part == NO_LABEL || !depth.is_finite() {
            continue;
        }
        let (column, row) = (pixel % view.size_px as usize, pixel / view.size_px as usize);
        let ndc_x = 2.0 * (column as f64 + 0.5) / size - 1.0;
        let ndc_y = 1.0 - 2.0 * (row as f64 + 0.5) / size;
        let depth = f64::from(depth) + noise * nearly_normal(rng);
        // Under perspective w is the depth, and z in view space its negative.
        let x = (ndc_x + clip.z_axis.x) * depth / clip.x_axis.x;
        let y = (ndc_y + clip.z_axis.y) * depth / clip.y_axis.y;
        points.push(SeenPoint {
            at: object_from_view.transform_point3(DVec3::new(x, y, -depth)),
            is_target: part == TARGET,
        });
    }
    points
}

/// Of mean 0 and variance 1: from the sum of four uniform numbers, which needs no logarithm that differs from machine to machine.
fn nearly_normal(rng: &mut SeededRng) -> f64 {
    let sum: f64 = (0..2).flat_map(|_| rng.unit_pair()).sum();
    (sum - 2.0) * 3.0_f64.sqrt()
}

/// So many of the points in random order; all of them again from the first on where there are fewer.
pub(super) fn choose(mut points: Vec<DVec3>, num: usize, rng: &mut SeededRng) -> Vec<DVec3> {
    for first in 0..num.min(points.len()) {
        let other = rng.uniform_int(first, points.len() - 1);
        points.swap(first, other);
    }
    points.into_iter().cycle().take(num).collect()
}

/// For recipes.
pub(super) fn describe(is_one_sided: bool) -> Value {
    let positions = if is_one_sided {
        json!({"number": NUM_ONE_SIDED, "spread_deg": ONE_SIDED_SPREAD_DEG, "max_azimuth_deg": MAX_ONE_SIDED_DEG})
    } else {
        json!({"azimuths_deg": WALK_DEG, "jitter_deg": WALK_JITTER_DEG})
    };
    json!({
        "positions": positions,
        "elevations_deg": ELEVATIONS_DEG,
        "size_px": size_px(is_one_sided),
        "range_noise": RANGE_NOISE,
    })
}
