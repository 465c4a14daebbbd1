//! First stage, on the workers: mesh file to framed mesh and sampled points.

use std::io;

use tap_render::import::{ImportOptions, import_object};
use tap_render::{BackendKind, Mesh, ObjectFromMesh, QueuedJob, RenderJob, row_major};

use super::Skip;
use super::timing::{Stage, StageClock};
use crate::error::error_chain;
use crate::manifest::SkipReason;
use crate::recipe::{BuildRecipe, Normalization};
use crate::schema::MeshIssues;
use crate::sha256;
use crate::source::{Source, SourceObject};
use crate::surface::sample_surface;
use crate::topology::Topology;

/// An object ready to render, with all of its row except the views.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) framed: RenderJob,
    pub(super) points: Vec<[f32; 3]>,
    pub(super) normals: Vec<[f32; 3]>,
    pub(super) part_labels: Option<Vec<u8>>,
    pub(super) object_from_mesh: [f32; 16],
    pub(super) num_triangles: i64,
    pub(super) surface_area: f64,
    pub(super) is_watertight: bool,
    pub(super) source_sha256: String,
    pub(super) assets_sha256: Option<String>,
    pub(super) issues: MeshIssues,
}

impl QueuedJob for Prepared {
    fn job(&self) -> &RenderJob {
        &self.framed
    }
}

pub(super) fn prepare(
    source: &Source,
    object: &SourceObject,
    recipe: &BuildRecipe,
    backend_kind: BackendKind,
    max_mesh_bytes: u64,
    clock: &StageClock,
) -> Result<Prepared, Skip> {
    let _span = tracing::debug_span!("object", id = %object.id).entered();
    let read = clock.time(Stage::Parse, || source.read(object, max_mesh_bytes));
    let bytes = read.map_err(|e| Skip {
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
    let assets = source.assets(object, max_mesh_bytes - bytes.len() as u64);
    let options = ImportOptions {
        appearance: recipe.render.needs_appearance(),
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
    let normals: Vec<_> = samples
        .normals
        .iter()
        .map(|&normal| local.transform_vector3(normal).normalize())
        .collect();
    if points.len() != recipe.num_points || !points.iter().chain(&normals).all(|v| v.is_finite()) {
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
    let framed = clock
        .time(Stage::Frame, || {
            RenderJob::try_new(&mesh, &object_from_mesh, &recipe.rendered(), backend_kind)
        })
        .map_err(|e| skip((SkipReason::RenderFailed, error_chain(&e))))?;
    let Topology {
        is_watertight,
        mut issues,
    } = clock.time(Stage::Frame, || Topology::analyze(&mesh));
    issues.warnings = mesh.warnings().to_vec();
    Ok(Prepared {
        framed,
        points: points.iter().map(glam::Vec3::to_array).collect(),
        normals: normals.iter().map(glam::Vec3::to_array).collect(),
        part_labels,
        object_from_mesh: matrix,
        num_triangles: mesh.triangles().len() as i64,
        surface_area: mesh.surface_area() * object_from_mesh.scale() * object_from_mesh.scale(),
        is_watertight,
        source_sha256,
        assets_sha256: assets.sha256(),
        issues,
    })
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
