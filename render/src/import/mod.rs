//! Importers: from the bytes of a file, and a resolver for the files that it refers to, to a [`Mesh`].
//!
//! Nothing here knows a path or opens a file. Input is untrusted: an importer never panics, always terminates, and
//! allocates at most a small multiple of the bytes that it is given.
//!
//! Materials, textures and vertex colors are read if [`ImportOptions::appearance`] asks for them, so that white
//! renderings decode no images. A missing MTL or texture is not an error but a line in [`Mesh::warnings`].

mod color;
mod gltf;
mod mtl;
mod npy;
mod number;
mod obj;
mod off;
mod ply;
mod point;
mod polygon;
mod stl;
mod text;
mod texture;
mod token;
mod triangle_soup;
mod xyz;

use std::{fmt, io};

use self::triangle_soup::TriangleSoup;
use crate::mesh::{Mesh, MeshError, PointCloud, SurfelOptions};

/// Default limit of a texture's longer side; larger textures are downsampled.
pub const DEFAULT_MAX_TEXTURE_SIDE_PX: u32 = 2048;

/// Start of a Git LFS pointer file. Parsed as an OBJ it would be a mesh without faces.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// File formats that can be imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MeshFormat {
    /// Wavefront OBJ.
    Obj,
    /// Object File Format, text.
    Off,
    /// glTF 2.0: `.gltf` and `.glb`.
    Gltf,
    /// Polygon File Format, text and binary, with faces or as a point cloud.
    Ply,
    /// Stereolithography, text and binary.
    Stl,
    /// A point cloud as rows of text.
    Xyz,
    /// A point cloud as a numpy array.
    Npy,
}

impl MeshFormat {
    /// The extensions that identify a mesh or point cloud among the other files of a folder.
    /// [`MeshFormat::from_extension`] also accepts `txt`, `pts` and `asc`, which are ambiguous.
    pub const EXTENSIONS: [&str; 8] = ["obj", "off", "gltf", "glb", "ply", "stl", "xyz", "npy"];

    /// The format of a file extension, without the dot, in any case.
    #[must_use]
    pub fn from_extension(extension: &str) -> Option<Self> {
        match extension.to_ascii_lowercase().as_str() {
            "obj" => Some(Self::Obj),
            "off" => Some(Self::Off),
            "gltf" | "glb" => Some(Self::Gltf),
            "ply" => Some(Self::Ply),
            "stl" => Some(Self::Stl),
            "xyz" | "txt" | "pts" | "asc" => Some(Self::Xyz),
            "npy" => Some(Self::Npy),
            _ => None,
        }
    }
}

impl fmt::Display for MeshFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Obj => "OBJ",
            Self::Off => "OFF",
            Self::Gltf => "glTF",
            Self::Ply => "PLY",
            Self::Stl => "STL",
            Self::Xyz => "XYZ",
            Self::Npy => "NPY",
        })
    }
}

/// Reads the files that a mesh refers to, by name relative to the mesh's folder.
///
/// Implementations must refuse names that lead out of that folder.
pub trait AssetResolver {
    /// The bytes of a file.
    ///
    /// # Errors
    /// [`AssetError`] if the file does not exist, is not allowed, or cannot be read.
    fn read(&self, relative: &str) -> Result<Vec<u8>, AssetError>;
}

/// A resolver that finds no files.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoAssets;

impl AssetResolver for NoAssets {
    fn read(&self, relative: &str) -> Result<Vec<u8>, AssetError> {
        Err(AssetError::NotFound {
            name: relative.to_owned(),
        })
    }
}

/// Why a file that a mesh refers to cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AssetError {
    /// There is no such file.
    #[error("the mesh refers to a file that does not exist: {name}")]
    NotFound {
        /// The name as the mesh gives it.
        name: String,
    },
    /// The name leads out of the mesh's folder.
    #[error("the mesh refers to a file outside of its folder: {name}")]
    Outside {
        /// The name as the mesh gives it.
        name: String,
    },
    /// The file is larger than the resolver's limit.
    #[error("the mesh refers to a file of more than {limit_bytes} bytes: {name}")]
    TooLarge {
        /// The resolver's limit.
        limit_bytes: u64,
        /// The name as the mesh gives it.
        name: String,
    },
    /// Reading failed.
    #[error("can't read a file that the mesh refers to: {name}")]
    Io {
        /// The system's error.
        #[source]
        source: io::Error,
        /// The name as the mesh gives it.
        name: String,
    },
}

/// Why a file is not a mesh.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// A line of a text format cannot be parsed.
    #[error("line {line} of the {format}: {problem}")]
    Line {
        /// The format.
        format: MeshFormat,
        /// Line, counted from 1.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The file as a whole cannot be parsed.
    #[error("not a usable {format}: {problem}")]
    File {
        /// The format.
        format: MeshFormat,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The JSON cannot be parsed.
    #[error("not a usable {format}: bad JSON")]
    Json {
        /// The format.
        format: MeshFormat,
        /// The parser's error.
        #[source]
        source: ::gltf::json::Error,
    },
    /// The JSON violates the glTF schema.
    #[error("not a usable glTF: {problem} at {path}")]
    Schema {
        /// The violated rule.
        problem: ::gltf::json::validation::Error,
        /// Path in the document.
        path: String,
    },
    /// The glTF requires an unsupported extension that affects geometry.
    #[error("the glTF needs the extension `{name}`, which is not supported: export it again without it")]
    Extension {
        /// The extension's name.
        name: String,
    },
    /// Points were requested from a file with triangles, or of a format without points.
    #[error("the {format} holds triangles, not points")]
    NoPoints {
        /// The format.
        format: MeshFormat,
    },
    /// The file has other elements than faces.
    #[error("the mesh has no faces, only {found}")]
    NoFaces {
        /// What it has, with numbers.
        found: String,
    },
    /// A file that the geometry depends on cannot be read.
    #[error(transparent)]
    Asset(#[from] AssetError),
    /// The file is well-formed, but its triangles are not a valid mesh.
    #[error(transparent)]
    Mesh(#[from] MeshError),
}

impl ImportError {
    /// A short stable code for this kind of error, for skip lists and statistics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Line { .. } | Self::File { .. } | Self::Json { .. } | Self::Schema { .. } => "malformed",
            Self::Extension { .. } => "unsupported",
            Self::NoPoints { .. } => "no_points",
            Self::NoFaces { .. } => "no_faces",
            Self::Asset(AssetError::NotFound { .. }) => "missing_file",
            Self::Asset(AssetError::Outside { .. }) => "outside_folder",
            Self::Asset(AssetError::TooLarge { .. }) => "too_large",
            Self::Asset(AssetError::Io { .. }) => "unreadable",
            Self::Mesh(error) => error.code(),
        }
    }
}

/// What an import includes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ImportOptions {
    /// Materials, textures and vertex colors. Without them the mesh is white, and neither its MTL nor an image is
    /// opened.
    pub appearance: bool,
    /// The normals at corners, for smooth lighting; without them they are averaged from the faces.
    pub normals: bool,
    /// Limit of a texture's longer side; larger textures are downsampled.
    pub max_texture_side_px: u32,
    /// How point clouds become meshes.
    pub surfels: SurfelOptions,
}

impl Default for ImportOptions {
    /// Triangles only.
    fn default() -> Self {
        Self {
            appearance: false,
            normals: false,
            max_texture_side_px: DEFAULT_MAX_TEXTURE_SIDE_PX,
            surfels: SurfelOptions::default(),
        }
    }
}

/// Imports geometry only. Groups, objects and nodes become parts, node transforms are applied, point clouds become
/// surfels.
///
/// # Errors
/// [`ImportError`] for malformed bytes, for a file that they refer to, or for invalid triangles.
pub fn import_mesh(
    format: MeshFormat,
    bytes: &[u8],
    assets: &dyn AssetResolver,
) -> Result<Mesh, ImportError> {
    import_object(format, bytes, assets, &ImportOptions::default())
}

/// As [`import_mesh`], with options.
///
/// # Errors
/// Those of [`import_mesh`]. A missing texture or material is not an error, see [`Mesh::warnings`].
pub fn import_object(
    format: MeshFormat,
    bytes: &[u8],
    assets: &dyn AssetResolver,
    options: &ImportOptions,
) -> Result<Mesh, ImportError> {
    match read(format, bytes, assets, options)? {
        Content::Triangles(soup) if soup.triangles.is_empty() && !soup.undrawn().is_empty() => {
            Err(ImportError::NoFaces {
                found: soup.undrawn(),
            })
        }
        Content::Triangles(soup) => Ok(soup.into_mesh()?),
        Content::Points(cloud) => Ok(cloud.to_mesh(&options.surfels)?),
    }
}

/// Imports a point cloud, with normals and colors if the file has them.
///
/// # Errors
/// [`ImportError::NoPoints`] for a file with triangles, otherwise those of [`import_mesh`].
pub fn import_points(format: MeshFormat, bytes: &[u8]) -> Result<PointCloud, ImportError> {
    let options = ImportOptions {
        appearance: true,
        ..ImportOptions::default()
    };
    match format {
        MeshFormat::Obj | MeshFormat::Off | MeshFormat::Gltf | MeshFormat::Stl => {
            Err(ImportError::NoPoints { format })
        }
        MeshFormat::Ply | MeshFormat::Xyz | MeshFormat::Npy => {
            match read(format, bytes, &NoAssets, &options)? {
                Content::Triangles(_) => Err(ImportError::NoPoints { format }),
                Content::Points(cloud) => Ok(cloud),
            }
        }
    }
}

/// Content of a file.
enum Content {
    Triangles(Box<TriangleSoup>),
    Points(PointCloud),
}

fn read(
    format: MeshFormat,
    bytes: &[u8],
    assets: &dyn AssetResolver,
    options: &ImportOptions,
) -> Result<Content, ImportError> {
    if bytes.starts_with(LFS_POINTER) {
        return Err(ImportError::File {
            format,
            problem: "it is a pointer of Git LFS, `git lfs pull` brings the file itself",
        });
    }
    Ok(match format {
        MeshFormat::Obj => Content::Triangles(Box::new(obj::read(bytes, assets, options)?)),
        MeshFormat::Off => Content::Triangles(Box::new(off::read(bytes, options.appearance)?)),
        MeshFormat::Gltf => Content::Triangles(Box::new(gltf::read(bytes, assets, options)?)),
        MeshFormat::Ply => ply::read(bytes, assets, options)?,
        MeshFormat::Stl => Content::Triangles(Box::new(stl::read(bytes, options.appearance)?)),
        MeshFormat::Xyz => Content::Points(xyz::read(bytes, options.appearance)?),
        MeshFormat::Npy => Content::Points(npy::read(bytes, options.appearance)?),
    })
}
