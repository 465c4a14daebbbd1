//! Importers: the bytes of a file and a way to reach the files beside it in, a [`Mesh`] out.
//!
//! Nothing here knows a path or opens a file. Files are hostile until proven otherwise: an importer never
//! panics, never loops for ever, and allocates no more than a small multiple of the bytes that it was given.
//!
//! Materials, textures and vertex colors are read where [`ImportOptions::appearance`] asks for them: who draws every
//! object in white need not decode an image. A missing MTL or texture is no error but a sentence in
//! [`Mesh::warnings`].

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
mod triangle_soup;
mod warning;
mod xyz;

use std::{fmt, io};

use self::triangle_soup::Soup;
use crate::mesh::{Mesh, MeshError, PointCloud, SurfelOptions};

/// How long a texture's longer side may be if nothing else is said; larger ones are shrunk.
pub const DEFAULT_MAX_TEXTURE_SIDE_PX: u32 = 2048;

/// What stands in place of a file that Git LFS has not brought. As an OBJ it would be a mesh without faces.
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
    /// Polygon File Format, text and binary, with faces or of points alone.
    Ply,
    /// Stereolithography, text and binary.
    Stl,
    /// Points as rows of text.
    Xyz,
    /// Points as an array of numpy.
    Npy,
}

impl MeshFormat {
    /// The extensions that tell a mesh or a cloud of points from the other files of a folder. Those that
    /// [`MeshFormat::from_extension`] knows besides, `txt`, `pts` and `asc`, stand for many things.
    pub const EXTENSIONS: [&str; 8] = ["obj", "off", "gltf", "glb", "ply", "stl", "xyz", "npy"];

    /// The format that a file extension (without the dot, any case) stands for.
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

/// Reads the files that a mesh refers to, named relative to the mesh's own folder.
///
/// An implementation must refuse names that lead out of that folder.
pub trait AssetResolver {
    /// The bytes of the file of this name.
    ///
    /// # Errors
    /// [`AssetError`] when there is no such file, it may not be read, or reading fails.
    fn read(&self, relative: &str) -> Result<Vec<u8>, AssetError>;
}

/// The resolver for a mesh that stands alone: every file is missing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoAssets;

impl AssetResolver for NoAssets {
    fn read(&self, relative: &str) -> Result<Vec<u8>, AssetError> {
        Err(AssetError::NotFound {
            name: relative.to_owned(),
        })
    }
}

/// Why a file beside the mesh could not be had.
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
    /// The file is larger than the resolver reads.
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
        /// What the system says.
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
    /// A line of a text format can't be understood.
    #[error("line {line} of the {format}: {problem}")]
    Line {
        /// The format.
        format: MeshFormat,
        /// Line, counted from 1.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The file as a whole can't be understood.
    #[error("not a usable {format}: {problem}")]
    File {
        /// The format.
        format: MeshFormat,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The JSON can't be parsed.
    #[error("not a usable {format}: bad JSON")]
    Json {
        /// The format.
        format: MeshFormat,
        /// What the parser says.
        #[source]
        source: ::gltf::json::Error,
    },
    /// The JSON breaks the rules of glTF.
    #[error("not a usable glTF: {problem} at {path}")]
    Schema {
        /// Which rule.
        problem: ::gltf::json::validation::Error,
        /// Where in the document.
        path: String,
    },
    /// The glTF requires an extension that changes where its surface is, and that is not supported.
    #[error("the glTF needs the extension `{name}`, which is not supported")]
    Extension {
        /// The extension's name.
        name: String,
    },
    /// Points were asked for, and the file has triangles or a format of triangles.
    #[error("the {format} holds triangles, not points")]
    NoPoints {
        /// The format.
        format: MeshFormat,
    },
    /// A file that the mesh needs can't be had.
    #[error(transparent)]
    Asset(#[from] AssetError),
    /// The file is well-formed, its triangles are not a mesh.
    #[error(transparent)]
    Mesh(#[from] MeshError),
}

impl ImportError {
    /// A short stable word for this kind of error, for skip lists and statistics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Line { .. } | Self::File { .. } | Self::Json { .. } | Self::Schema { .. } => "malformed",
            Self::Extension { .. } => "unsupported",
            Self::NoPoints { .. } => "no_points",
            Self::Asset(AssetError::NotFound { .. }) => "missing_file",
            Self::Asset(AssetError::Outside { .. }) => "outside_folder",
            Self::Asset(AssetError::TooLarge { .. }) => "too_large",
            Self::Asset(AssetError::Io { .. }) => "unreadable",
            Self::Mesh(error) => error.code(),
        }
    }
}

/// What is read besides the triangles.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ImportOptions {
    /// Materials, textures and vertex colors. Without them the mesh is white, and neither its MTL nor an image is
    /// opened.
    pub appearance: bool,
    /// How long a texture's longer side may be; larger ones are shrunk to it.
    pub max_texture_side_px: u32,
    /// How points become a surface, where a file has no triangles.
    pub surfels: SurfelOptions,
}

impl Default for ImportOptions {
    /// Triangles only.
    fn default() -> Self {
        Self {
            appearance: false,
            max_texture_side_px: DEFAULT_MAX_TEXTURE_SIDE_PX,
            surfels: SurfelOptions::default(),
        }
    }
}

/// Reads a white mesh; groups, objects and nodes become its parts, node transforms are applied. Points that no
/// triangles connect become small discs.
///
/// # Errors
/// [`ImportError`] says what is wrong with the bytes, with a file that they refer to, or with the triangles.
pub fn import_mesh(
    format: MeshFormat,
    bytes: &[u8],
    assets: &dyn AssetResolver,
) -> Result<Mesh, ImportError> {
    import_object(format, bytes, assets, &ImportOptions::default())
}

/// As [`import_mesh`], with all that the options ask for. Points that no triangles connect become small discs.
///
/// # Errors
/// Those of [`import_mesh`]. Looks that can't be had are no error, see [`Mesh::warnings`].
pub fn import_object(
    format: MeshFormat,
    bytes: &[u8],
    assets: &dyn AssetResolver,
    options: &ImportOptions,
) -> Result<Mesh, ImportError> {
    match read(format, bytes, assets, options)? {
        Content::Triangles(soup) => Ok(soup.into_mesh()?),
        Content::Points(cloud) => Ok(cloud.to_mesh(&options.surfels)?),
    }
}

/// Reads points that no triangles connect, with normals and colors where the file has them.
///
/// # Errors
/// [`ImportError::NoPoints`] for a file that has triangles, otherwise those of [`import_mesh`].
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

/// What a file holds.
enum Content {
    Triangles(Box<Soup>),
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
        MeshFormat::Stl => Content::Triangles(Box::new(stl::read(bytes)?)),
        MeshFormat::Xyz => Content::Points(xyz::read(bytes, options.appearance)?),
        MeshFormat::Npy => Content::Points(npy::read(bytes, options.appearance)?),
    })
}
