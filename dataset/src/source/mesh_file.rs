//! Which files are meshes, by their names, and meshes compressed with gzip (`chair.obj.gz`).

use std::borrow::Cow;
use std::io::{self, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use tap_render::import::MeshFormat;

/// Extension of compressed meshes, after the one of the format.
const GZIP_EXTENSION: &str = "gz";
/// First bytes of gzip.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// Typical ratio of lengths of a text format, to foresee memory.
const TYPICAL_GZIP_RATIO: u64 = 6;
/// Known mesh formats without an importer: reported, unlike other files beside meshes.
const UNREADABLE_EXTENSIONS: [&str; 27] = [
    "3ds", "3mf", "abc", "blend", "c4d", "dae", "dxf", "fbx", "iges", "igs", "jt", "lwo", "ma", "max", "sat",
    "skp", "sldprt", "step", "stp", "usd", "usda", "usdc", "usdz", "vrml", "wrl", "x3d", "x_t",
];
/// Archives, which may hold meshes.
const ARCHIVE_EXTENSIONS: [&str; 8] = ["7z", "bz2", "rar", "tar", "tgz", "xz", "zip", "zst"];
/// Formats that hold points alone and that other files have too: depth arrays, features.
const POINT_EXTENSIONS: [&str; 2] = ["npy", "xyz"];

/// Format of a mesh, from the extension; compressed or not.
pub(crate) fn format_of(path: &Path) -> Option<MeshFormat> {
    MeshFormat::from_extension(&extension_of(path))
}

/// Extension of the format, in lower case and without `gz`.
pub(crate) fn extension_of(path: &Path) -> String {
    let extension = |path: &Path| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        extension.unwrap_or_default().to_ascii_lowercase()
    };
    match extension(path) {
        gzip if gzip == GZIP_EXTENSION => extension(Path::new(path.file_stem().unwrap_or_default())),
        extension => extension,
    }
}

/// Whether it is a mesh by its name, in a format that can be read or not. Ambiguous extensions such as `txt` are none.
pub(crate) fn is_mesh(path: &Path) -> bool {
    is_readable(path) || is_unreadable(path)
}

/// Whether it is a mesh in a format that can be read.
pub(crate) fn is_readable(path: &Path) -> bool {
    MeshFormat::EXTENSIONS.contains(&extension_of(path).as_str())
}

/// Whether it is a mesh in a known format that cannot be read.
pub(crate) fn is_unreadable(path: &Path) -> bool {
    UNREADABLE_EXTENSIONS.contains(&extension_of(path).as_str())
}

/// Whether it is an archive by its name.
pub(super) fn is_archive(path: &Path) -> bool {
    ARCHIVE_EXTENSIONS.contains(&extension_of(path).as_str())
}

/// Whether it may be an array of something else as well as a point cloud.
pub(super) fn is_ambiguous(path: &Path) -> bool {
    POINT_EXTENSIONS.contains(&extension_of(path).as_str())
}

/// File name without the extensions of format and compression.
pub(crate) fn stem(path: &Path) -> Option<&str> {
    let stem = path.file_stem()?;
    let stem = if is_compressed(path) && path.file_name() != Some(stem) {
        Path::new(stem).file_stem().unwrap_or(stem)
    } else {
        stem
    };
    stem.to_str()
}

fn is_compressed(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| extension.eq_ignore_ascii_case(GZIP_EXTENSION))
}

/// Expected length of a mesh whose file has this length.
pub(crate) fn expected_bytes(path: &Path, file_bytes: u64) -> u64 {
    if is_compressed(path) {
        file_bytes.saturating_mul(TYPICAL_GZIP_RATIO)
    } else {
        file_bytes
    }
}

/// Content of a mesh file: decompressed if it is compressed, which a file without the extension never is.
///
/// # Errors
/// When it is damaged, or more than `limit_bytes` ([`FileTooLarge`](io::ErrorKind::FileTooLarge)): no more is
/// decompressed, so a bomb costs no more than a mesh.
pub(crate) fn content<'a>(path: &Path, bytes: &'a [u8], limit_bytes: u64) -> io::Result<Cow<'a, [u8]>> {
    if !is_compressed(path) || !bytes.starts_with(&GZIP_MAGIC) {
        return Ok(Cow::Borrowed(bytes));
    }
    let mut content = Vec::new();
    MultiGzDecoder::new(bytes)
        .take(limit_bytes.saturating_add(1))
        .read_to_end(&mut content)?;
    if content.len() as u64 > limit_bytes {
        let message = format!("more than {limit_bytes} bytes when decompressed");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(Cow::Owned(content))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn names_tell_formats() {
        let format = |name: &str| format_of(Path::new(name));
        assert_eq!(format("a/B.OBJ"), Some(MeshFormat::Obj));
        assert_eq!(format("b.ply.gz"), Some(MeshFormat::Ply));
        assert_eq!(format("b.tar.gz"), None);
        assert_eq!(format(".gz"), None);
        assert_eq!(stem(Path::new("a/b.1.obj.gz")), Some("b.1"));
        assert_eq!(stem(Path::new("b.1.obj")), Some("b.1"));
        assert!(
            is_mesh(Path::new("x.FBX")) && !is_readable(Path::new("x.FBX")),
            "known, not readable"
        );
        assert!(!is_mesh(Path::new("x.txt")), "text is rarely points");
    }

    #[test]
    fn a_compressed_mesh_is_read_within_bounds() {
        let path = Path::new("a.obj.gz");
        let bytes = gzip(b"v 0 0 0\n");
        assert_eq!(&*content(path, &bytes, 8).unwrap(), b"v 0 0 0\n");
        assert_eq!(
            content(path, &bytes, 7).unwrap_err().kind(),
            io::ErrorKind::FileTooLarge
        );
        let bomb = gzip(&vec![b'0'; 1 << 20]);
        assert_eq!(
            content(path, &bomb, 1 << 10).unwrap_err().kind(),
            io::ErrorKind::FileTooLarge
        );
        content(path, &bytes[..bytes.len() - 4], 100).unwrap_err();
        assert_eq!(
            &*content(Path::new("a.obj"), &bytes, 100).unwrap(),
            bytes,
            "not by its name"
        );
    }
}
