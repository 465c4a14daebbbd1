//! The files that a mesh refers to, read before its importer asks for them.
//!
//! Only where a name stands as the importer takes it; what is missed here, or is not where it is said to be, is read when it
//! is asked for. So this decides how long a build waits for a store, and nothing else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{ObjectReader, mesh_file, normalize_within};

/// Files and bytes that are read ahead of one mesh.
const MAX_FILES: usize = 32;
const MAX_BYTES: u64 = 64 << 20;

/// A mesh with files that it refers to, by their paths in the source.
#[derive(Debug, Default)]
pub(crate) struct MeshFiles {
    pub(crate) bytes: Vec<u8>,
    pub(crate) assets: BTreeMap<PathBuf, Vec<u8>>,
}

impl MeshFiles {
    /// A mesh alone.
    pub(crate) fn alone(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            assets: BTreeMap::new(),
        }
    }

    /// Reads what a mesh refers to: materials and their textures, buffers and images.
    pub(super) fn with_assets(reader: &dyn ObjectReader, mesh: &Path, bytes: Vec<u8>) -> Self {
        let mut assets: BTreeMap<PathBuf, Vec<u8>> = BTreeMap::new();
        let mut left_bytes = MAX_BYTES;
        let mut asked: Vec<PathBuf> = names_in(mesh, &bytes);
        while let Some(path) = asked.pop() {
            if assets.len() == MAX_FILES {
                break;
            }
            if assets.contains_key(&path) {
                continue;
            }
            // Whoever needs it says what is wrong with it.
            let Ok(asset) = reader.read_asset(&path, left_bytes) else {
                continue;
            };
            left_bytes = left_bytes.saturating_sub(asset.len() as u64);
            asked.extend(names_in(&path, &asset));
            assets.insert(path, asset);
        }
        Self { bytes, assets }
    }

    /// Bytes beside the mesh's own.
    pub(super) fn num_asset_bytes(&self) -> u64 {
        self.assets.values().map(|asset| asset.len() as u64).sum()
    }
}

/// Paths in the source of the files that a file names.
fn names_in(file: &Path, bytes: &[u8]) -> Vec<PathBuf> {
    let names = match mesh_file::extension_of(file).as_str() {
        "obj" => names_after(bytes, &["mtllib"]),
        "mtl" => names_after(bytes, &["map_kd", "map_d"]),
        "gltf" => names_in_gltf(bytes),
        _ => Vec::new(),
    };
    let folder = file.parent().unwrap_or(Path::new(""));
    let path = |name: String| normalize_within(&folder.join(name.replace('\\', "/")));
    let mut paths: Vec<PathBuf> = names.into_iter().take(MAX_FILES).filter_map(path).collect();
    paths.sort();
    paths.dedup();
    paths
}

/// The rest of the lines that begin with one of these words, in any case.
fn names_after(text: &[u8], words: &[&str]) -> Vec<String> {
    let lines = text.split(|byte| matches!(byte, b'\n' | b'\r'));
    let name = |line: &[u8]| {
        let line = line.trim_ascii();
        let (word, rest) = line.split_at(line.iter().position(u8::is_ascii_whitespace)?);
        let is_wanted = words
            .iter()
            .any(|wanted| word.eq_ignore_ascii_case(wanted.as_bytes()));
        let name = str::from_utf8(rest).ok()?.trim();
        // Options stand before a name.
        (is_wanted && !name.starts_with('-')).then(|| name.to_owned())
    };
    lines.filter_map(name).collect()
}

fn names_in_gltf(json: &[u8]) -> Vec<String> {
    let Ok(root) = serde_json::from_slice::<Value>(json) else {
        return Vec::new();
    };
    let lists = ["buffers", "images"]
        .into_iter()
        .filter_map(|key| root[key].as_array());
    let uris = lists.flatten().filter_map(|entry| entry["uri"].as_str());
    let files = uris.filter(|uri| !uri.starts_with("data:") && !uri.contains('%'));
    files.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(file: &str, text: &str) -> Vec<String> {
        let paths = names_in(Path::new(file), text.as_bytes()).into_iter();
        paths.map(|path| path.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn names_stand_in_meshes_and_materials() {
        let object = "v 0 0 0\nmtllib ../looks/my chair.mtl\r\nmtllibrary no.mtl\nmtllib ../../../out.mtl\n";
        assert_eq!(names("a/b/c.obj", object), ["a/looks/my chair.mtl"]);
        let materials =
            "newmtl x\nmap_Kd tex\\Wood.png\n  map_d mask.png\nmap_Kd -s 1 1 scaled.png\nmap_Kd\n";
        assert_eq!(names("a/c.mtl", materials), ["a/mask.png", "a/tex/Wood.png"]);
        let scene = r#"{"buffers": [{"uri": "c.bin"}, {"uri": "data:,"}, {}], "images": [{"uri": "c.png"}], "nodes": 1}"#;
        assert_eq!(names("c.gltf", scene), ["c.bin", "c.png"]);
        for (file, text) in [("c.gltf", "{"), ("c.glb", "mtllib a.mtl\n"), ("c.obj", "")] {
            assert_eq!(names(file, text), [""; 0], "{file}");
        }
    }
}
