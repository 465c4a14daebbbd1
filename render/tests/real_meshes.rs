//! Every importer on real files, in the folder that `TAP_REAL_DATA` names; skipped if it is unset.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking and says what it skips"
)]

mod folder;

use std::{fs, path::Path};

use tap_render::{
    Mesh,
    import::{ImportError, MeshFormat, import_mesh},
};

use folder::{Folder, real_data, rows};

fn import(path: &Path) -> Option<Result<Mesh, ImportError>> {
    let format = MeshFormat::from_extension(path.extension()?.to_str()?)?;
    let bytes = fs::read(path).unwrap();
    Some(import_mesh(
        format,
        &bytes,
        &Folder(path.parent().unwrap().to_owned()),
    ))
}

#[test]
fn all_labelled_meshes_import() {
    let Some(folder) = real_data("meshes") else { return };
    let rows = rows(&folder.join("manifest.csv"));
    let mut problems = Vec::new();
    for row in &rows {
        let mesh = match import(&folder.join(&row[4])) {
            Some(Ok(mesh)) => mesh,
            other => {
                problems.push(format!("{}: {other:?}", row[4]));
                continue;
            }
        };
        let [faces, extent @ ..] = [9, 13, 14, 15].map(|column: usize| row[column].parse::<f32>().unwrap());
        let (low, high) = mesh.bounds();
        let size = (high - low).to_array();
        let largest = size.iter().copied().fold(0.0, f32::max);
        // The listed sizes are those without skins; the rest pose may differ from them by a limb, not by a factor.
        let is_skinned =
            String::from_utf8_lossy(&fs::read(folder.join(&row[4])).unwrap()).contains("\"skins\"");
        let tolerance = if is_skinned { 0.3 } else { 1e-3 };
        if size
            .iter()
            .zip(extent)
            .any(|(size, extent)| (size - extent).abs() > tolerance * largest)
        {
            problems.push(format!("{}: size {size:?} instead of {extent:?}", row[4]));
        }
        let num_triangles = mesh.triangles().len() + mesh.num_degenerate();
        if num_triangles != faces as usize {
            problems.push(format!(
                "{}: {num_triangles} triangles instead of {faces}",
                row[4]
            ));
        }
    }
    assert!(
        rows.len() == 659 && problems.is_empty(),
        "{} of {}:\n{}",
        problems.len(),
        rows.len(),
        problems.join("\n")
    );
}
