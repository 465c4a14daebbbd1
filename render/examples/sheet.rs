//! Draws a mesh file with the default recipe and writes all its views into one PNG, side by side.
//!
//! `cargo run -p tap-render --example sheet -- MESH.{obj,glb,off} SHEET.png [FRAMING] [PROJECTION] [SIZE]`

use std::error::Error;
use std::fs;
use std::io::Error as IoError;
use std::path::Path;

use tap_render::import::{MeshFormat, NoAssets, import_mesh};
use tap_render::{ObjectFromMesh, RenderRecipe, Renderer, RendererOptions, UpAxis, View};

/// Views in a row of the sheet.
const COLUMNS: usize = 4;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mesh, sheet, settings @ ..] = &arguments[..] else {
        return Err("expected a mesh and a PNG".into());
    };
    let mut recipe = RenderRecipe::default();
    if let Some(framing) = settings.first() {
        recipe.framing = framing.parse()?;
    }
    if let Some(projection) = settings.get(1) {
        recipe.projection = projection.parse()?;
    }
    if let Some(size) = settings.get(2) {
        recipe.size_px = size.parse()?;
    }
    let path = Path::new(mesh);
    let extension = path
        .extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or_default();
    let format = MeshFormat::from_extension(extension).ok_or("not a mesh format that can be imported")?;
    let mesh = import_mesh(format, &fs::read(path)?, &NoAssets)?;
    let object_from_mesh = ObjectFromMesh::from_surface(&mesh, UpAxis::Y);
    let mut renderer = Renderer::try_new(&RendererOptions::default())?;
    let views = renderer.render(&mesh, &object_from_mesh, &recipe)?;
    write_sheet(Path::new(sheet), &views)?;
    Ok(())
}

fn write_sheet(path: &Path, views: &[View]) -> Result<(), IoError> {
    let size = views[0].size_px as usize;
    let rows = views.len().div_ceil(COLUMNS);
    let mut pixels = vec![255; size * COLUMNS * size * rows];
    for (view_idx, view) in views.iter().enumerate() {
        let Some(gray) = view.color.as_ref().and_then(|color| color.gray()) else {
            continue;
        };
        for (y, row) in gray.chunks(size).enumerate() {
            let start = ((view_idx / COLUMNS * size + y) * COLUMNS + view_idx % COLUMNS) * size;
            pixels[start..start + size].copy_from_slice(row);
        }
    }
    let mut encoder = png::Encoder::new(
        fs::File::create(path)?,
        (size * COLUMNS) as u32,
        (size * rows) as u32,
    );
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header()?.write_image_data(&pixels)?;
    Ok(())
}
