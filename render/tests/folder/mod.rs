//! Real files, in the folder that `TAP_REAL_DATA` names.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

use tap_render::import::{AssetError, AssetResolver};

/// The files of a folder and of its subfolders.
pub(crate) struct Folder(pub(crate) PathBuf);

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

/// A folder of real data; prints that it is skipped if it does not exist.
pub(crate) fn real_data(folder: &str) -> Option<PathBuf> {
    let Some(root) = std::env::var_os("TAP_REAL_DATA") else {
        eprintln!("skipped: TAP_REAL_DATA names no folder with `{folder}` in it");
        return None;
    };
    Some(Path::new(&root).join(folder))
}

/// The rows of a CSV file whose fields may be quoted, without its header.
pub(crate) fn rows(path: &Path) -> Vec<Vec<String>> {
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
