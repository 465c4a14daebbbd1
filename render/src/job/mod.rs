//! `RenderJob`: a mesh with its cameras placed, ready for a backend. It is made on any thread, without a device.
//!
//! The scale of the images (the rule of each [`Framing`]) is computed here; the matrices are built in `camera/mod.rs`.

mod cull;

use std::ops::Range;

use glam::{DVec2, DVec3, Vec3};
use tap_shaders::{Triangle, Vertex};

use crate::camera::{Camera, Framing, Pose, ViewMatrices, Window};
use crate::cpu::raster::Meshlets;
use crate::cpu::silhouette::Silhouette;
use crate::error::{ObjectError, RenderError};
use crate::mesh::{CoplanarFaces, Mesh, ObjectFromMesh, bounds_of};
use crate::recipe::{Channels, RenderRecipe};
use crate::scene::{Geometry, ProvokingVertices, Scene};
use cull::SampleCuller;

/// `mvcnn`: longer side of the silhouette's box, as a fraction of the image side
/// (`docs/conventions.md`, "Framing of MVCNN").
const MVCNN_BOX_FRACTION: f64 = 0.9;
/// `mvcnn`: largest area of the filled silhouette, as a fraction of the image area.
const MVCNN_AREA_FRACTION: f64 = 0.3;
/// `box`: longer side of the silhouette's box, as a fraction of the image side.
const BOX_FRACTION: f64 = 200.0 / 224.0;

/// Samples of a pixel that find the thinnest parts.
const MAX_SAMPLES: u32 = 4;

/// Smaller meshes are not culled: that would cost more than drawing them.
const MIN_CULLED_TRIANGLES: usize = 32_000;

/// A mesh with a camera for each view of a recipe, ready to be drawn.
///
/// [`RenderJob::try_new`] does all work that needs no device, so that worker threads can do it while one thread feeds
/// the device.
#[derive(Debug, Clone, PartialEq)]
pub struct RenderJob {
    /// That of the views that are drawn, [`RenderRecipe::drawn`].
    pub(crate) recipe: RenderRecipe,
    /// Drawn pixels per side of a pixel.
    pub(crate) supersampling: u32,
    pub(crate) views: Vec<(Pose, ViewMatrices)>,
    pub(crate) scene: Scene,
    pub(crate) meshlets: Meshlets,
    /// Present if a device draws.
    pub(crate) draw_buffers: Option<DrawBuffers>,
}

/// The kind of backend that draws a [`RenderJob`], which decides what is prepared. It does not change the images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BackendKind {
    /// The CPU backend of this crate.
    #[default]
    Cpu,
    /// A GPU, which draws faster than it is fed.
    Gpu,
    /// A software driver behind wgpu. It is bound by triangle setup, so triangles of a fine mesh that cover no sample
    /// are culled first.
    SoftwareDriver,
}

/// Vertex and index buffers for a device.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DrawBuffers {
    /// As shaders read them.
    pub(crate) triangles: Vec<Triangle>,
    pub(crate) vertices: Vec<Vertex>,
    pub(crate) indices: Vec<u32>,
    /// Range of `indices` for each view.
    pub(crate) index_ranges: Vec<Range<u32>>,
}

impl RenderJob {
    /// Places the cameras of a recipe around a mesh.
    ///
    /// # Errors
    ///
    /// [`RenderError::Recipe`] if the recipe has a setting out of range, [`RenderError::Object`] if no camera can frame the object, or if its indices
    /// exceed 32 bits.
    pub fn try_new(
        mesh: &Mesh,
        object_from_mesh: &ObjectFromMesh,
        recipe: &RenderRecipe,
        backend_kind: BackendKind,
    ) -> Result<Self, RenderError> {
        recipe.validate()?;
        // Of coplanar faces the first is visible, so that its material wins in every view; in white they look alike.
        let CoplanarFaces { duplicates, overlaps } = if recipe.needs_appearance() {
            mesh.coplanar_faces()
        } else {
            CoplanarFaces::default()
        };
        let object_from_local = object_from_mesh.local_matrix(mesh);
        let geometry = Geometry::new(mesh, &object_from_local, &duplicates);
        let rig = recipe.rig.rig();
        let look_at = LookAt::new(&geometry.points, recipe.framing);
        let mut views = Vec::with_capacity(rig.poses().len());
        let meshlets = Meshlets::new(&geometry.points, &geometry.triangles);
        for (view_idx, pose) in rig.poses().iter().enumerate() {
            let camera = Camera::new(pose, recipe.projection, look_at.target, look_at.diagonal);
            let matrices = frame(&camera, recipe.framing, &meshlets).ok_or(ObjectError::Unframeable {
                framing: recipe.framing,
                view_idx,
            })?;
            views.push((*pose, matrices));
        }
        let scene = Scene::new(mesh, &object_from_local, geometry, &overlaps, &recipe.lighting);
        let mut job = Self {
            recipe: recipe.drawn(),
            supersampling: recipe.supersampling(),
            views,
            scene,
            meshlets,
            draw_buffers: None,
        };
        if backend_kind != BackendKind::Cpu {
            job.draw_buffers = Some(DrawBuffers::try_new(&job, backend_kind)?);
        }
        Ok(job)
    }

    /// Some of the views as masks of another size and nothing else, for the CPU backend.
    #[must_use]
    pub fn masks_alone(&self, view_idxs: &[usize], size_px: u32) -> Self {
        Self {
            recipe: RenderRecipe {
                size_px,
                samples: MAX_SAMPLES,
                channels: Channels {
                    mask: true,
                    ..Channels::NONE
                },
                ..self.recipe.clone()
            },
            views: view_idxs.iter().map(|&view_idx| self.views[view_idx]).collect(),
            draw_buffers: None,
            ..self.clone()
        }
    }

    /// Number of views, that of the rig's poses.
    #[must_use]
    pub fn num_views(&self) -> usize {
        self.views.len()
    }

    /// The matrices of each view, in the order of the rig; known before anything is drawn.
    #[must_use]
    pub fn matrices(&self) -> impl ExactSizeIterator<Item = &ViewMatrices> {
        self.views.iter().map(|(_, matrices)| matrices)
    }
}

impl DrawBuffers {
    /// Vertex and index buffers of a job.
    pub(crate) fn try_new(job: &RenderJob, backend_kind: BackendKind) -> Result<Self, ObjectError> {
        let RenderJob {
            recipe, views, scene, ..
        } = job;
        let ProvokingVertices { vertices, corners } =
            ProvokingVertices::new(&scene.points, scene.triangles.iter().copied());
        let num_triangles = corners.len();
        let (indices, index_ranges) =
            if backend_kind == BackendKind::SoftwareDriver && num_triangles >= MIN_CULLED_TRIANGLES {
                let mut indices = Vec::with_capacity(3 * num_triangles);
                let mut ranges = Vec::with_capacity(views.len());
                for (_, matrices) in views {
                    let start = indices.len();
                    let culler = SampleCuller::new(
                        &matrices.clip_from_object(),
                        recipe.size_px,
                        recipe.samples,
                        &scene.points,
                    );
                    let survivors = scene
                        .triangles
                        .iter()
                        .zip(&corners)
                        .filter(|(triangle, _)| culler.may_cover_sample(**triangle));
                    indices.extend(survivors.flat_map(|(_, corners)| *corners));
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
        let triangles = (0..).zip(&scene.triangles).zip(&scene.normals).zip(&scene.labels);
        Ok(Self {
            triangles: triangles
                .map(|(((index, &[a, b, c]), normal), &labels)| Triangle {
                    normal: normal.to_array(),
                    labels,
                    a,
                    b,
                    c,
                    earlier: scene.earlier.start_of(index),
                })
                .collect(),
            index_ranges: index_ranges.ok_or(ObjectError::MeshTooLarge {
                num_triangles,
                needed_bytes: bytes_of(indices.len()),
                limit_bytes: bytes_of(u32::MAX as usize),
            })?,
            vertices,
            indices,
        })
    }
}

/// The point that cameras look at, and the unit of their distance.
struct LookAt {
    target: DVec3,
    diagonal: f64,
}

impl LookAt {
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

/// The matrices of a camera with the window that the framing asks for; `None` if the object has no finite extent.
fn frame(camera: &Camera, framing: Framing, meshlets: &Meshlets) -> Option<ViewMatrices> {
    let silhouette = Silhouette::try_new(camera, meshlets)?;
    let window = match framing {
        Framing::Sphere => Window {
            center: DVec2::ZERO,
            half_side: camera.half_side_of_sphere(1.0),
        },
        Framing::Box => {
            let bounds = silhouette.bounds()?;
            Window {
                center: bounds.center(),
                half_side: bounds.sides().max_element() / BOX_FRACTION / 2.0,
            }
        }
        Framing::Mvcnn => {
            let bounds = silhouette.bounds()?;
            let by_side = bounds.sides().max_element() / MVCNN_BOX_FRACTION;
            // Smaller areas do not change the scale that the box allows.
            let negligible = MVCNN_AREA_FRACTION * by_side * by_side;
            let area = silhouette.filled_area(&bounds, negligible);
            let side = by_side.max((area / MVCNN_AREA_FRACTION).sqrt());
            Window {
                center: bounds.center(),
                half_side: side / 2.0,
            }
        }
    };
    camera.matrices(window, silhouette.depths())
}

#[cfg(test)]
impl RenderJob {
    /// `assets/axes.obj`, for tests that draw.
    #[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    pub(crate) fn of_axes(recipe: &RenderRecipe, backend_kind: BackendKind) -> Self {
        use crate::import::{MeshFormat, NoAssets, import_mesh};
        let bytes = include_bytes!("../../../assets/axes.obj");
        let mesh = import_mesh(MeshFormat::Obj, bytes, &NoAssets).unwrap();
        let object_from_mesh = ObjectFromMesh::from_bounding_box(&mesh, crate::UpAxis::Y);
        Self::try_new(&mesh, &object_from_mesh, recipe, backend_kind).unwrap()
    }
}
