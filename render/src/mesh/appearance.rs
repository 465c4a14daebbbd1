//! What the triangles of a mesh look like: materials, textures, texture coordinates and vertex colors.
//!
//! An importer makes a [`Surface`] where a file has anything but white to say, [`crate::Mesh::try_with_surface`] checks
//! it, the renderer reads it. The albedo of a point is the product, channel by channel, of its material's base
//! color, its texture's texel and the color between its triangle's corners, each the sRGB-encoded byte as a number
//! from 0 to 1: as 8-bit pipelines have always multiplied them, and as files are painted to look right under.

use glam::Vec2;

/// How many materials a surface may have: the number above all of them stands for "nothing there" in views.
pub const MAX_MATERIALS: usize = u16::MAX as usize;

/// The looks of a mesh's triangles. All colors are sRGB-encoded, as files and screens have them; the fourth channel
/// is the opacity.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Surface {
    /// The materials, at least one.
    pub materials: Vec<Material>,
    /// One index into `materials` a triangle.
    pub material_of_triangle: Vec<u16>,
    /// The images that materials name.
    pub textures: Vec<Texture>,
    /// Texture coordinates at the corners of each triangle; empty where no material has a texture.
    ///
    /// (0, 0) is the corner of the texture's first texel, at the top left; v grows downwards.
    pub uvs: Vec<[Vec2; 3]>,
    /// Vertex colors at the corners of each triangle, or empty.
    pub colors: Vec<[[u8; 4]; 3]>,
}

/// One way for triangles to look.
#[derive(Debug, Clone, PartialEq)]
pub struct Material {
    /// The name that the file gives it, or empty.
    pub name: String,
    /// The color that everything else is multiplied with.
    pub base_color: [u8; 4],
    /// Index into [`Surface::textures`].
    pub texture: Option<u16>,
    /// Points whose opacity is below this are holes; without it the opacity has no effect.
    pub cutout: Option<f32>,
}

impl Material {
    /// White and opaque.
    #[must_use]
    pub fn white() -> Self {
        Self {
            name: String::new(),
            base_color: [u8::MAX; 4],
            texture: None,
            cutout: None,
        }
    }
}

/// An image, decoded.
#[derive(Clone, PartialEq, Eq)]
pub struct Texture {
    /// The file's name, or what the container calls it.
    pub name: String,
    /// Texels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Row by row from the top.
    pub texels: Vec<[u8; 4]>,
    /// What lies beyond the edges, along u and along v.
    pub wrap: [Wrap; 2],
}

impl std::fmt::Debug for Texture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            name,
            width,
            height,
            texels,
            wrap,
        } = self;
        f.debug_struct("Texture")
            .field("name", name)
            .field("size", &(width, height))
            .field("num_texels", &texels.len())
            .field("wrap", wrap)
            .finish()
    }
}

/// What a texture shows beyond its edges.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Wrap {
    /// Itself, again and again.
    #[default]
    Repeat,
    /// Itself, every other time mirrored.
    Mirror,
    /// The texel at the edge.
    Clamp,
}

/// Why a [`Surface`] does not fit its triangles.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SurfaceError {
    /// No material at all, or more than 16 bits can number.
    #[error("a surface needs 1 to 65535 materials, not {num_materials}")]
    NumMaterials {
        /// Number of materials.
        num_materials: usize,
    },
    /// A list that goes with the triangles is shorter or longer than they are.
    #[error("{len} {list} for {num_triangles} triangles")]
    Length {
        /// Which list.
        list: &'static str,
        /// Its length.
        len: usize,
        /// The number of triangles.
        num_triangles: usize,
    },
    /// A triangle names a material that does not exist.
    #[error("triangle {triangle} has material {material}, but there are {num_materials}")]
    MaterialOutOfRange {
        /// Index of the triangle, counted from 0.
        triangle: usize,
        /// The material that it names.
        material: u16,
        /// Number of materials.
        num_materials: usize,
    },
    /// A material names a texture that does not exist.
    #[error("material {material} has texture {texture}, but there are {num_textures}")]
    TextureOutOfRange {
        /// Index of the material, counted from 0.
        material: usize,
        /// The texture that it names.
        texture: u16,
        /// Number of textures.
        num_textures: usize,
    },
    /// A material has a texture, and the triangles have no texture coordinates.
    #[error("material {material} has a texture, but there are no texture coordinates")]
    NoUvs {
        /// Index of the material, counted from 0.
        material: usize,
    },
    /// A texture coordinate is NaN or infinite.
    #[error("triangle {triangle} has a texture coordinate that is not a finite number")]
    NonFiniteUv {
        /// Index of the triangle, counted from 0.
        triangle: usize,
    },
    /// A cut-out threshold is no number from 0 to 1.
    #[error("material {material} is cut out below {cutout}, which is not within 0 to 1")]
    Cutout {
        /// Index of the material, counted from 0.
        material: usize,
        /// The threshold.
        cutout: f32,
    },
    /// A texture is empty, or has not as many texels as its size says.
    #[error("texture {texture} is {width} x {height} and has {num_texels} texels")]
    TextureSize {
        /// Index of the texture, counted from 0.
        texture: usize,
        /// Texels in a row.
        width: u32,
        /// Rows.
        height: u32,
        /// Number of texels.
        num_texels: usize,
    },
}

impl SurfaceError {
    /// A short stable word for this kind of error, for skip lists and statistics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NumMaterials { .. } | Self::MaterialOutOfRange { .. } | Self::Cutout { .. } => {
                "bad_material"
            }
            Self::TextureOutOfRange { .. } | Self::TextureSize { .. } => "bad_texture",
            Self::NoUvs { .. } | Self::NonFiniteUv { .. } => "bad_uv",
            Self::Length { .. } => "bad_surface",
        }
    }
}

impl Surface {
    /// Whether everything is in range and fits this number of triangles.
    pub(crate) fn check(&self, num_triangles: usize) -> Result<(), SurfaceError> {
        let Self {
            materials,
            material_of_triangle,
            textures,
            uvs,
            colors,
        } = self;
        let num_materials = materials.len();
        if !(1..=MAX_MATERIALS).contains(&num_materials) {
            return Err(SurfaceError::NumMaterials { num_materials });
        }
        for (list, len, may_be_empty) in [
            ("materials", material_of_triangle.len(), false),
            ("texture coordinates", uvs.len(), true),
            ("vertex colors", colors.len(), true),
        ] {
            if len != num_triangles && !(may_be_empty && len == 0) {
                return Err(SurfaceError::Length {
                    list,
                    len,
                    num_triangles,
                });
            }
        }
        for (triangle, &material) in material_of_triangle.iter().enumerate() {
            if usize::from(material) >= num_materials {
                return Err(SurfaceError::MaterialOutOfRange {
                    triangle,
                    material,
                    num_materials,
                });
            }
        }
        for (index, material) in materials.iter().enumerate() {
            check_material(index, material, textures.len(), uvs.is_empty())?;
        }
        for (index, texture) in textures.iter().enumerate() {
            let &Texture { width, height, .. } = texture;
            let num_texels = texture.texels.len();
            if num_texels == 0 || u64::from(width) * u64::from(height) != num_texels as u64 {
                return Err(SurfaceError::TextureSize {
                    texture: index,
                    width,
                    height,
                    num_texels,
                });
            }
        }
        let broken = uvs.iter().position(|uvs| !uvs.iter().all(|uv| uv.is_finite()));
        broken.map_or(Ok(()), |triangle| Err(SurfaceError::NonFiniteUv { triangle }))
    }

    /// Takes the triangles of these indices, in ascending order, out of all lists.
    pub(crate) fn drop_triangles(&mut self, dropped: &[usize]) {
        fn keep<T>(list: &mut Vec<T>, dropped: &[usize]) {
            let (mut index, mut dropped) = (0, dropped.iter().peekable());
            list.retain(|_| {
                let is_dropped = dropped.next_if_eq(&&index).is_some();
                index += 1;
                !is_dropped
            });
        }
        if !dropped.is_empty() {
            keep(&mut self.material_of_triangle, dropped);
            keep(&mut self.uvs, dropped);
            keep(&mut self.colors, dropped);
        }
    }
}

fn check_material(
    index: usize,
    material: &Material,
    num_textures: usize,
    no_uvs: bool,
) -> Result<(), SurfaceError> {
    if let Some(cutout) = material.cutout
        && !(0.0..=1.0).contains(&cutout)
    {
        return Err(SurfaceError::Cutout {
            material: index,
            cutout,
        });
    }
    match material.texture {
        Some(texture) if usize::from(texture) >= num_textures => Err(SurfaceError::TextureOutOfRange {
            material: index,
            texture,
            num_textures,
        }),
        Some(_) if no_uvs => Err(SurfaceError::NoUvs { material: index }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn textured() -> Surface {
        Surface {
            materials: vec![
                Material::white(),
                Material {
                    texture: Some(0),
                    cutout: Some(0.5),
                    ..Material::white()
                },
            ],
            material_of_triangle: vec![0, 1, 1],
            textures: vec![Texture {
                name: "checks".to_owned(),
                width: 2,
                height: 1,
                texels: vec![[0; 4], [255; 4]],
                wrap: [Wrap::Repeat; 2],
            }],
            uvs: (0..3u8)
                .map(|corner| [Vec2::splat(f32::from(corner)); 3])
                .collect(),
            colors: (0..3).map(|corner| [[corner; 4]; 3]).collect(),
        }
    }

    #[test]
    fn refuses_by_name() {
        type Change = fn(&mut Surface);
        assert_eq!(textured().check(3), Ok(()));
        let cases: [(Change, &str); 10] = [
            (|surface| surface.materials.clear(), "bad_material"),
            (|surface| surface.material_of_triangle[2] = 2, "bad_material"),
            (
                |surface| surface.materials[1].cutout = Some(f32::NAN),
                "bad_material",
            ),
            (|surface| surface.materials[1].texture = Some(1), "bad_texture"),
            (|surface| surface.textures[0].height = 2, "bad_texture"),
            (|surface| surface.textures[0].texels.clear(), "bad_texture"),
            (|surface| surface.uvs.clear(), "bad_uv"),
            (|surface| surface.uvs[1][2].y = f32::INFINITY, "bad_uv"),
            (|surface| surface.colors.truncate(2), "bad_surface"),
            (|surface| surface.material_of_triangle.push(0), "bad_surface"),
        ];
        for (index, (change, code)) in cases.into_iter().enumerate() {
            let mut surface = textured();
            change(&mut surface);
            assert_eq!(surface.check(3).unwrap_err().code(), code, "case {index}");
        }
    }

    #[test]
    fn triangles_leave_all_lists_together() {
        let mut surface = textured();
        surface.drop_triangles(&[0, 2]);
        assert_eq!(surface.check(1), Ok(()));
        assert_eq!(
            (
                surface.material_of_triangle[0],
                surface.uvs[0][0].x,
                surface.colors[0][0][0]
            ),
            (1, 1.0, 1)
        );
    }
}
