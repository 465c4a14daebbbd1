//! Draws the twelve views of a mesh many times, for `benches/peer/render.py`, which times it as a whole process.
//!
//! `time_views MESH.obj BACKEND SAMPLES CHANNELS FRAMING REPEATS` prints the matrices of the views as JSON; with 0
//! repeats it measures startup and parsing.

use std::path::Path;
use std::{env, fs};

use tap_render::import::{MeshFormat, NoAssets, import_mesh};
use tap_render::{
    BackendChoice, ObjectFromMesh, RenderJob, RenderRecipe, Renderer, RendererOptions, UpAxis, row_major,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [mesh, backend, samples, channels, framing, repeats] = &arguments[..] else {
        return Err("usage: time_views MESH.obj BACKEND SAMPLES CHANNELS FRAMING REPEATS".into());
    };
    let mesh = import_mesh(MeshFormat::Obj, &fs::read(Path::new(mesh))?, &NoAssets)?;
    let object_from_mesh = ObjectFromMesh::from_bounding_box(&mesh, UpAxis::Y);
    let recipe = RenderRecipe {
        samples: samples.parse()?,
        channels: channels.parse()?,
        framing: framing.parse()?,
        ..RenderRecipe::default()
    };
    let backend: BackendChoice = backend.parse()?;
    let mut renderer = Renderer::try_new(&RendererOptions {
        backend,
        ..RendererOptions::default()
    })?;
    // The first frame creates what later ones share, on a device its pipelines.
    let framed = RenderJob::try_new(&mesh, &object_from_mesh, &recipe, renderer.backend_kind())?;
    let pending = renderer.submit(&framed)?;
    renderer.finish(pending)?;
    for _ in 0..repeats.parse()? {
        renderer.render(&mesh, &object_from_mesh, &recipe)?;
    }
    let matrices: Vec<_> = framed
        .matrices()
        .map(|matrices| row_major(&matrices.clip_from_object()))
        .collect();
    let object_from_mesh = object_from_mesh.matrix().transpose().to_cols_array();
    let json = serde_json::json!({ "clip_from_object": matrices, "object_from_mesh": object_from_mesh });
    #[allow(clippy::print_stdout, reason = "an example prints")]
    {
        println!("{json}");
    }
    Ok(())
}
