//! `Framed`: a mesh before its cameras, all that a backend needs. Made on any thread, without a device.
//!
//! Here the pictures' scale is decided (the rule of each [`Framing`] in numbers); the matrices come from `camera.rs`.

mod cull;

use std::ops::Range;

use glam::{DVec2, DVec3, Vec3};
use tap_shaders::{Triangle, Vertex};

use crate::camera::{Camera, Framing, Pose, ViewMatrices, Window};
use crate::cpu::raster::Meshlets;
use crate::cpu::silhouette::Projected;
use crate::error::RenderError;
use crate::mesh::{Mesh, ObjectFromMesh, bounds_of};
use crate::recipe::RenderRecipe;
use crate::scene::{Geometry, Numbered, Scene};
use cull::Sieve;

/// `mvcnn`: longer side of the silhouette's box, of the picture's side (`facts-mvcnn.md`, camera).
const MVCNN_SIDE: f64 = 0.9;
/// `mvcnn`: largest area of the filled silhouette, of the picture's area.
const MVCNN_AREA: f64 = 0.3;
/// `box`: longer side of the silhouette's box, of the picture's side. `sphere`: diameter of the unit sphere.
const BOX_SIDE: f64 = 200.0 / 224.0;

/// A mesh of fewer triangles is never culled: sorting it costs more than drawing it.
const FINE_MESH: usize = 32_000;

/// A mesh with a camera for each view of a recipe, ready to be drawn.
///
/// All work that needs no device is done in [`Framed::try_new`], so that worker threads can do it while one thread
/// feeds the device.
#[derive(Debug, Clone, PartialEq)]
pub struct Framed {
    pub(crate) recipe: RenderRecipe,
    pub(crate) views: Vec<(Pose, ViewMatrices)>,
    pub(crate) scene: Scene,
    pub(crate) meshlets: Meshlets,
    /// There if a device draws.
    pub(crate) draws: Option<Draws>,
}

/// Who draws a [`Framed`], which decides what is prepared. Pictures do not depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DrawnBy {
    /// The CPU, by this crate's own hand.
    #[default]
    Software,
    /// A device that draws faster than it is fed.
    Gpu,
    /// A device that the CPU pretends to be. It spends its time on triangles, most of which, in a fine mesh, fall between
    /// the sample points of a picture: those are left out before it sees them.
    SoftwareDriver,
}

/// What a device draws.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Draws {
    /// The triangles as shaders read them.
    pub(crate) triangles: Vec<Triangle>,
    pub(crate) vertices: Vec<Vertex>,
    pub(crate) indices: Vec<u32>,
    /// For each view, which of the indices are drawn.
    pub(crate) index_ranges: Vec<Range<u32>>,
}

impl Framed {
    /// Places the cameras of a recipe around a mesh.
    ///
    /// # Errors
    ///
    /// A [`RenderError`] if the recipe has a setting out of range, if no camera can frame the object, or if it has more
    /// corners than can be counted.
    pub fn try_new(
        mesh: &Mesh,
        object_from_mesh: &ObjectFromMesh,
        recipe: &RenderRecipe,
        drawn_by: DrawnBy,
    ) -> Result<Self, RenderError> {
        recipe.validate()?;
        // Where two faces lie upon each other, the first one's material is seen, from everywhere.
        let hidden = if recipe.needs_appearance() {
            mesh.coincident_triangles()
        } else {
            Vec::new()
        };
        let geometry = Geometry::new(mesh, &object_from_mesh.local_matrix(mesh), &hidden);
        let rig = recipe.rig.rig();
        let aim = Aim::new(&geometry.points, recipe.framing);
        let mut views = Vec::with_capacity(rig.poses().len());
        let meshlets = Meshlets::new(&geometry.points, &geometry.triangles);
        for (view_idx, pose) in rig.poses().iter().enumerate() {
            let camera = Camera::new(pose, recipe.projection, aim.target, aim.diagonal);
            let matrices = frame(&camera, recipe.framing, &meshlets).ok_or(RenderError::Unframeable {
                framing: recipe.framing,
                view_idx,
            })?;
            views.push((*pose, matrices));
        }
        let scene = Scene::new(mesh, geometry, &recipe.lighting);
        let mut framed = Self {
            recipe: recipe.clone(),
            views,
            scene,
            meshlets,
            draws: None,
        };
        if drawn_by != DrawnBy::Software {
            framed.draws = Some(Draws::try_new(&framed, drawn_by)?);
        }
        Ok(framed)
    }

    /// How many views there will be.
    #[must_use]
    pub fn num_views(&self) -> usize {
        self.views.len()
    }

    /// The matrices of each view, which are known before anything is drawn.
    #[must_use]
    pub fn matrices(&self) -> impl ExactSizeIterator<Item = &ViewMatrices> {
        self.views.iter().map(|(_, matrices)| matrices)
    }
}

impl Draws {
    /// What a device draws of a framed mesh.
    pub(crate) fn try_new(framed: &Framed, drawn_by: DrawnBy) -> Result<Self, RenderError> {
        let Framed {
            recipe, views, scene, ..
        } = framed;
        let Numbered { vertices, corners } = Numbered::new(&scene.points, scene.triangles.iter().copied());
        let num_triangles = corners.len();
        let (indices, index_ranges) = if drawn_by == DrawnBy::SoftwareDriver && num_triangles >= FINE_MESH {
            let mut indices = Vec::with_capacity(3 * num_triangles);
            let mut ranges = Vec::with_capacity(views.len());
            for (_, matrices) in views {
                let start = indices.len();
                let sieve = Sieve::new(
                    &matrices.clip_from_object(),
                    recipe.size_px,
                    recipe.samples,
                    &scene.points,
                );
                let kept = scene
                    .triangles
                    .iter()
                    .zip(&corners)
                    .filter(|(triangle, _)| sieve.keeps(**triangle));
                indices.extend(kept.flat_map(|(_, corners)| *corners));
                ranges.push(start..indices.len());
            }
            (indices, ranges)
        } else {
            let indices = corners.into_flattened();
            let all = 0..indices.len();
            (indices, vec![all; views.len()])
        };
        let index_ranges = index_ranges
            .into_iter()
            .map(|range| Some(range.start.try_into().ok()?..range.end.try_into().ok()?))
            .collect::<Option<_>>();
        let bytes_of = |num_indices: usize| (num_indices * size_of::<u32>()) as u64;
        let triangles = scene.triangles.iter().zip(&scene.normals).zip(&scene.labels);
        Ok(Self {
            triangles: triangles
                .map(|((&[a, b, c], normal), &labels)| Triangle {
                    normal: normal.to_array(),
                    labels,
                    a,
                    b,
                    c,
                    pad: 0,
                })
                .collect(),
            index_ranges: index_ranges.ok_or(RenderError::MeshTooLarge {
                num_triangles,
                needed_bytes: bytes_of(indices.len()),
                limit_bytes: bytes_of(u32::MAX as usize),
            })?,
            vertices,
            indices,
        })
    }
}

/// What cameras look at, and the unit of their distance.
struct Aim {
    target: DVec3,
    diagonal: f64,
}

impl Aim {
    fn new(points: &[Vec3], framing: Framing) -> Self {
        match framing {
            Framing::Sphere => Self {
                target: DVec3::ZERO,
                diagonal: 2.0,
            },
            Framing::Mvcnn | Framing::Box => {
                let (min, max) = bounds_of(points.iter().copied());
                let (min, max) = (min.as_dvec3(), max.as_dvec3());
                Self {
                    target: (min + max) / 2.0,
                    diagonal: (max - min).length(),
                }
            }
        }
    }
}

/// The matrices of a camera whose picture is filled as the framing says; `None` if the object has no finite extent.
fn frame(camera: &Camera, framing: Framing, meshlets: &Meshlets) -> Option<ViewMatrices> {
    let projected = Projected::try_new(camera, meshlets)?;
    let window = match framing {
        Framing::Sphere => Window {
            center: DVec2::ZERO,
            half_side: camera.half_side_of_sphere(1.0),
        },
        Framing::Box => {
            let bounds = projected.bounds()?;
            Window {
                center: bounds.center(),
                half_side: bounds.sides().max_element() / BOX_SIDE / 2.0,
            }
        }
        Framing::Mvcnn => {
            let bounds = projected.bounds()?;
            let by_side = bounds.sides().max_element() / MVCNN_SIDE;
            // Below this the area is within its limit at the scale that the box allows.
            let negligible = MVCNN_AREA * by_side * by_side;
            let area = projected.filled_area(&bounds, negligible);
            let side = by_side.max((area / MVCNN_AREA).sqrt());
            Window {
                center: bounds.center(),
                half_side: side / 2.0,
            }
        }
    };
    camera.matrices(window, projected.depths())
}

#[cfg(test)]
impl Framed {
    /// `assets/axes.obj`, for tests that draw.
    #[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    pub(crate) fn of_axes(recipe: &RenderRecipe, drawn_by: DrawnBy) -> Self {
        use crate::import::{MeshFormat, NoAssets, import_mesh};
        let bytes = include_bytes!("../../../assets/axes.obj");
        let mesh = import_mesh(MeshFormat::Obj, bytes, &NoAssets).unwrap();
        let object_from_mesh = ObjectFromMesh::from_bounding_box(&mesh, crate::UpAxis::Y);
        Self::try_new(&mesh, &object_from_mesh, recipe, drawn_by).unwrap()
    }
}
