//! First stage, on the workers: mesh file to framed mesh and sampled points.

use std::io;

use glam::Vec3;
use tap_render::import::{ImportOptions, import_object};
use tap_render::{BackendKind, Mesh, ObjectFromMesh, QueuedJob, RenderJob, row_major};

use super::Skip;
use super::timing::{Stage, StageClock};
use crate::error::error_chain;
use crate::manifest::SkipReason;
use crate::recipe::{BuildRecipe, Normalization};
use crate::schema::MeshStats;
use crate::sha256;
use crate::source::{MeshFiles, Source, SourceObject};
use crate::surface::sample_surface;
use crate::topology::Topology;

/// An object ready to render.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) job: RenderJob,
    pub(super) object: SampledObject,
}

/// All of a row except the views.
#[derive(Debug)]
pub(super) struct SampledObject {
    pub(super) points: Vec<[f32; 3]>,
    pub(super) normals: Vec<[f32; 3]>,
    pub(super) part_labels: Option<Vec<u8>>,
    pub(super) object_from_mesh: [f32; 16],
    pub(super) source_sha256: String,
    pub(super) assets_sha256: Option<String>,
    pub(super) mesh: Option<MeshStats>,
}

impl QueuedJob for Prepared {
    fn job(&self) -> &RenderJob {
        &self.job
    }
}

/// Reads the mesh of an object.
pub(super) type ReadMesh<'a> = dyn Fn() -> io::Result<MeshFiles> + 'a;

/// From the file to an object that is ready to render.
pub(super) fn prepare(
    source: &Source,
    object: &SourceObject,
    read: &ReadMesh<'_>,
    recipe: &BuildRecipe,
    backend_kind: BackendKind,
    max_mesh_bytes: u64,
    clock: &StageClock,
) -> Result<Prepared, Skip> {
    let (mesh, object_from_mesh, object) = sample(source, object, read, recipe, max_mesh_bytes, clock)?;
    let job = clock.time(Stage::Frame, || {
        RenderJob::try_new(&mesh, &object_from_mesh, &recipe.rendered(), backend_kind)
    });
    match job {
        Ok(job) => Ok(Prepared { job, object }),
        Err(e) => Err(Skip {
            reason: SkipReason::RenderFailed,
            message: error_chain(&e),
            source_sha256: Some(object.source_sha256),
        }),
    }
}

/// From the file to sampled points, with the mesh and its place in object space.
pub(super) fn sample(
    source: &Source,
    object: &SourceObject,
    read: &ReadMesh<'_>,
    recipe: &BuildRecipe,
    max_mesh_bytes: u64,
    clock: &StageClock,
) -> Result<(Mesh, ObjectFromMesh, SampledObject), Skip> {
    let _span = tracing::debug_span!("object", id = %object.id).entered();
    let MeshFiles { bytes, assets: ahead } = clock.time(Stage::Parse, read).map_err(|e| Skip {
        reason: reason_of(&e),
        message: e.to_string(),
        source_sha256: None,
    })?;
    let source_sha256 = clock.time(Stage::Parse, || sha256::of_bytes(&bytes));
    let skip = |(reason, message)| Skip {
        reason,
        message,
        source_sha256: Some(source_sha256.clone()),
    };
    if let Some(seen) = source
        .scanned_bytes(object)
        .filter(|&seen| seen != bytes.len() as u64)
    {
        let message = format!(
            "the file has {} bytes and had {seen} when the source was scanned",
            bytes.len()
        );
        return Err(skip((SkipReason::Changed, message)));
    }
    let assets = source
        .assets(object, max_mesh_bytes - bytes.len() as u64)
        .with_ahead(ahead);
    let options = ImportOptions {
        appearance: recipe.needs_appearance(),
        normals: recipe.needs_normals(),
        ..ImportOptions::default()
    };
    let content = clock.time(Stage::Parse, || {
        crate::source::content(&object.path, &bytes, max_mesh_bytes)
    });
    let content = content.map_err(|e| skip((reason_of(&e), e.to_string())))?;
    let mesh = clock
        .time(Stage::Parse, || {
            import_object(object.format, &content, &assets, &options)
        })
        .map_err(|e| skip((SkipReason::from(&e), error_chain(&e))))?;
    drop(content);
    drop(bytes);

    let samples = clock.time(Stage::Sample, || {
        sample_surface(
            &mesh,
            recipe.sampler,
            recipe.num_points,
            recipe.seed_of(&object.id),
        )
    });
    let object_from_mesh = match recipe.normalization {
        Normalization::Points => ObjectFromMesh::from_points(&mesh, &samples.points, recipe.up),
        Normalization::BoundingBox => ObjectFromMesh::from_bounding_box(&mesh, recipe.up),
        Normalization::Surface => ObjectFromMesh::from_surface(&mesh, recipe.up),
    };
    let local = object_from_mesh.local_matrix(&mesh);
    let points: Vec<_> = samples
        .points
        .iter()
        .map(|&point| local.transform_point3(point))
        .collect();
    let normals = samples
        .normals
        .iter()
        .map(|&normal| local.transform_vector3(normal).normalize());
    let normals: Vec<_> = normals.collect();
    let mut vectors = points.iter().chain(&normals);
    if points.len() != recipe.num_points || !vectors.all(|v| v.is_finite()) {
        return Err(skip((
            SkipReason::NonFinite,
            "its points can't be brought to unit size".to_owned(),
        )));
    }
    let matrix = row_major(&object_from_mesh.matrix().as_mat4());
    if !matrix.iter().all(|x| x.is_finite()) {
        return Err(skip((
            SkipReason::NonFinite,
            "its place or size is beyond single precision".to_owned(),
        )));
    }
    let part_labels = part_labels(source, object, &mesh, &samples.triangle).map_err(skip)?;
    let mesh_stats = recipe
        .mesh_stats
        .then(|| clock.time(Stage::Frame, || mesh_stats(&mesh, &object_from_mesh)));
    let to_arrays = |vectors: Vec<Vec3>| vectors.iter().map(Vec3::to_array).collect();
    let sampled = SampledObject {
        points: to_arrays(points),
        normals: to_arrays(normals),
        part_labels,
        object_from_mesh: matrix,
        source_sha256,
        assets_sha256: assets.sha256(),
        mesh: mesh_stats,
    };
    Ok((mesh, object_from_mesh, sampled))
}

fn mesh_stats(mesh: &Mesh, object_from_mesh: &ObjectFromMesh) -> MeshStats {
    let Topology {
        is_watertight,
        mut issues,
    } = Topology::analyze(mesh);
    issues.warnings = mesh.warnings().to_vec();
    MeshStats {
        num_triangles: mesh.triangles().len() as i64,
        surface_area: mesh.surface_area() * object_from_mesh.scale() * object_from_mesh.scale(),
        is_watertight,
        issues: Some(issues),
    }
}

fn reason_of(error: &io::Error) -> SkipReason {
    match error.kind() {
        io::ErrorKind::FileTooLarge => SkipReason::TooLarge,
        io::ErrorKind::NotFound => SkipReason::Missing,
        _ => SkipReason::Unreadable,
    }
}

/// Part label per point, if the source lists parts for this category.
fn part_labels(
    source: &Source,
    object: &SourceObject,
    mesh: &Mesh,
    triangle_of_point: &[u32],
) -> Result<Option<Vec<u8>>, (SkipReason, String)> {
    let labels = source
        .parts()
        .labels(object.id.category(), mesh.part_names())
        .map_err(|group| {
            let message = format!("its group \"{group}\" is no part of {}", object.id.category());
            (SkipReason::UnknownPart, message)
        })?;
    let label =
        |labels: &Vec<u8>, triangle: u32| labels[usize::from(mesh.part_of_triangle()[triangle as usize])];
    Ok(labels.map(|labels| {
        triangle_of_point
            .iter()
            .map(|&triangle| label(&labels, triangle))
            .collect()
    }))
}
