//! Appearance of a mesh: materials, textures, texture coordinates and vertex colors.
//!
//! Importers make an [`Appearance`] for files that are not plain white, [`crate::Mesh::try_with_appearance`] validates
//! it, the renderer reads it. The albedo of a point is the product, channel by channel, of its material's base color,
//! its texture's texel and the interpolated vertex color, each the sRGB-encoded byte as a number from 0 to 1.
//! Multiplying encoded values is what 8-bit pipelines do, and what assets are authored for.

use glam::Vec2;

use super::drop_indices;

/// Most materials of a mesh: the largest `u16` stands for "no triangle" in views.
pub const MAX_MATERIALS: usize = u16::MAX as usize;

/// Materials, textures and per-corner attributes of a mesh's triangles. All colors are sRGB-encoded RGBA.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Appearance {
    /// The materials, at least one.
    pub materials: Vec<Material>,
    /// One index into `materials` per triangle.
    pub material_of_triangle: Vec<u16>,
    /// The images that materials refer to.
    pub textures: Vec<Texture>,
    /// Texture coordinates at the corners of each triangle; empty if no material has a texture.
    ///
    /// (0, 0) is the corner of the first texel, at the top left; v grows downwards.
    pub uvs: Vec<[Vec2; 3]>,
    /// Vertex colors at the corners of each triangle, or empty.
    pub colors: Vec<[[u8; 4]; 3]>,
}

/// Base color, texture and alpha cutoff.
#[derive(Debug, Clone, PartialEq)]
pub struct Material {
    /// Its name in the file, or empty.
    pub name: String,
    /// RGBA, multiplied with texture and vertex color.
    pub base_color: [u8; 4],
    /// Index into [`Appearance::textures`].
    pub texture: Option<u16>,
    /// Points with less alpha are holes; without a cutoff alpha has no effect.
    pub alpha_cutoff: Option<f32>,
}

impl Material {
    /// White and opaque.
    #[must_use]
    pub fn white() -> Self {
        Self {
            name: String::new(),
            base_color: [u8::MAX; 4],
            texture: None,
            alpha_cutoff: None,
        }
    }
}

/// A decoded image.
#[derive(Clone, PartialEq, Eq)]
pub struct Texture {
    /// Name of the file, or its name in the container.
    pub name: String,
    /// Texels per row.
    pub width: u32,
    /// Number of rows.
    pub height: u32,
    /// RGBA, row by row from the top.
    pub texels: Vec<[u8; 4]>,
    /// Wrap modes along u and along v.
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

/// Wrap mode: what a texture shows beyond its edges.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Wrap {
    /// The texture again.
    #[default]
    Repeat,
    /// The texture again, every other time mirrored.
    Mirror,
    /// The texel at the edge.
    Clamp,
}

/// Why an [`Appearance`] does not fit its triangles.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AppearanceError {
    /// No material, or more than 16 bits can index.
    #[error("a mesh has 1 to 65535 materials, not {num_materials}")]
    NumMaterials {
        /// Number of materials.
        num_materials: usize,
    },
    /// A per-triangle list has another length than the triangles.
    #[error("{len} {list} for {num_triangles} triangles")]
    Length {
        /// Which list.
        list: &'static str,
        /// Its length.
        len: usize,
        /// The number of triangles.
        num_triangles: usize,
    },
    /// A triangle refers to a material that does not exist.
    #[error("triangle {triangle} has material {material}, but there are {num_materials}")]
    MaterialOutOfRange {
        /// Index of the triangle, counted from 0.
        triangle: usize,
        /// Its material index.
        material: u16,
        /// Number of materials.
        num_materials: usize,
    },
    /// A material refers to a texture that does not exist.
    #[error("material {material} has texture {texture}, but there are {num_textures}")]
    TextureOutOfRange {
        /// Index of the material, counted from 0.
        material: usize,
        /// Its texture index.
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
    /// An alpha cutoff is outside of 0 to 1.
    #[error("material {material} has alpha cutoff {alpha_cutoff}, expected 0 to 1")]
    AlphaCutoff {
        /// Index of the material, counted from 0.
        material: usize,
        /// The alpha cutoff.
        alpha_cutoff: f32,
    },
    /// A texture is empty, or its number of texels does not match its size.
    #[error("texture {texture} is {width} x {height} and has {num_texels} texels")]
    TextureSize {
        /// Index of the texture, counted from 0.
        texture: usize,
        /// Texels per row.
        width: u32,
        /// Number of rows.
        height: u32,
        /// Number of texels.
        num_texels: usize,
    },
}

impl AppearanceError {
    /// A short stable code for this kind of error, for skip lists and statistics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NumMaterials { .. } | Self::MaterialOutOfRange { .. } | Self::AlphaCutoff { .. } => {
                "bad_material"
            }
            Self::TextureOutOfRange { .. } | Self::TextureSize { .. } => "bad_texture",
            Self::NoUvs { .. } | Self::NonFiniteUv { .. } => "bad_uv",
            Self::Length { .. } => "bad_surface",
        }
    }
}

impl Appearance {
    /// Checks ranges, and the lengths of the lists against the number of triangles.
    pub(crate) fn check(&self, num_triangles: usize) -> Result<(), AppearanceError> {
        let Self {
            materials,
            material_of_triangle,
            textures,
            uvs,
            colors,
        } = self;
        let num_materials = materials.len();
        if !(1..=MAX_MATERIALS).contains(&num_materials) {
            return Err(AppearanceError::NumMaterials { num_materials });
        }
        for (list, len, may_be_empty) in [
            ("materials", material_of_triangle.len(), false),
            ("texture coordinates", uvs.len(), true),
            ("vertex colors", colors.len(), true),
        ] {
            if len != num_triangles && !(may_be_empty && len == 0) {
                return Err(AppearanceError::Length {
                    list,
                    len,
                    num_triangles,
                });
            }
        }
        for (triangle, &material) in material_of_triangle.iter().enumerate() {
            if usize::from(material) >= num_materials {
                return Err(AppearanceError::MaterialOutOfRange {
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
                return Err(AppearanceError::TextureSize {
                    texture: index,
                    width,
                    height,
                    num_texels,
                });
            }
        }
        let broken = uvs.iter().position(|uvs| !uvs.iter().all(|uv| uv.is_finite()));
        broken.map_or(Ok(()), |triangle| Err(AppearanceError::NonFiniteUv { triangle }))
    }

    /// Removes triangles, given by ascending indices, from all lists.
    pub(crate) fn drop_triangles(&mut self, dropped: &[usize]) {
        drop_indices(&mut self.material_of_triangle, dropped);
        drop_indices(&mut self.uvs, dropped);
        drop_indices(&mut self.colors, dropped);
    }
}

fn check_material(
    index: usize,
    material: &Material,
    num_textures: usize,
    no_uvs: bool,
) -> Result<(), AppearanceError> {
    if let Some(alpha_cutoff) = material.alpha_cutoff
        && !(0.0..=1.0).contains(&alpha_cutoff)
    {
        return Err(AppearanceError::AlphaCutoff {
            material: index,
            alpha_cutoff,
        });
    }
    match material.texture {
        Some(texture) if usize::from(texture) >= num_textures => Err(AppearanceError::TextureOutOfRange {
            material: index,
            texture,
            num_textures,
        }),
        Some(_) if no_uvs => Err(AppearanceError::NoUvs { material: index }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn textured() -> Appearance {
        Appearance {
            materials: vec![
                Material::white(),
                Material {
                    texture: Some(0),
                    alpha_cutoff: Some(0.5),
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
        type Change = fn(&mut Appearance);
        assert_eq!(textured().check(3), Ok(()));
        let cases: [(Change, &str); 10] = [
            (|appearance| appearance.materials.clear(), "bad_material"),
            (
                |appearance| appearance.material_of_triangle[2] = 2,
                "bad_material",
            ),
            (
                |appearance| appearance.materials[1].alpha_cutoff = Some(f32::NAN),
                "bad_material",
            ),
            (
                |appearance| appearance.materials[1].texture = Some(1),
                "bad_texture",
            ),
            (|appearance| appearance.textures[0].height = 2, "bad_texture"),
            (|appearance| appearance.textures[0].texels.clear(), "bad_texture"),
            (|appearance| appearance.uvs.clear(), "bad_uv"),
            (|appearance| appearance.uvs[1][2].y = f32::INFINITY, "bad_uv"),
            (|appearance| appearance.colors.truncate(2), "bad_surface"),
            (
                |appearance| appearance.material_of_triangle.push(0),
                "bad_surface",
            ),
        ];
        for (index, (change, code)) in cases.into_iter().enumerate() {
            let mut appearance = textured();
            change(&mut appearance);
            assert_eq!(appearance.check(3).unwrap_err().code(), code, "case {index}");
        }
    }

    #[test]
    fn dropping_triangles_updates_all_lists() {
        let mut appearance = textured();
        appearance.drop_triangles(&[0, 2]);
        assert_eq!(appearance.check(1), Ok(()));
        assert_eq!(
            (
                appearance.material_of_triangle[0],
                appearance.uvs[0][0].x,
                appearance.colors[0][0][0]
            ),
            (1, 1.0, 1)
        );
    }
}
