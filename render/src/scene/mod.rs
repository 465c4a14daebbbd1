//! `Scene`: geometry and appearance of a mesh, in the arrays that both backends shade from.

mod earlier;
mod geometry;
mod headlight;
mod uniform;

use glam::{Mat4, Vec3};
use tap_shaders::{
    Corner, Material, NO_TEXTURE, TEXTURE_HEADER, WRAP_CLAMP, WRAP_MIRROR, WRAP_REPEAT, encode_octahedral,
};

use crate::lighting::{Lighting, MaterialChoice, Normals};
use crate::mesh::{self, Appearance, Mesh, Texture, Wrap, corner_normals};
pub(crate) use earlier::EarlierTriangles;
pub(crate) use geometry::{Geometry, ProvokingVertices};
pub(crate) use headlight::Headlight;
pub(crate) use uniform::view_uniform;

const OPAQUE_WHITE: u32 = u32::MAX;

/// The storage buffers of `surface.wgsl`, with the attributes of triangles as separate arrays.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scene {
    pub(crate) points: Vec<Vec3>,
    /// Corners, as indices into the points. Triangle attributes are separate arrays, since most are never read.
    pub(crate) triangles: Vec<[u32; 3]>,
    /// Unit normal of each triangle.
    pub(crate) normals: Vec<Vec3>,
    /// Per triangle: part in the lower half, material in the upper.
    pub(crate) labels: Vec<u32>,
    /// Three per triangle; empty if no corner attribute is needed.
    pub(crate) corners: Vec<Corner>,
    /// At least one.
    pub(crate) materials: Vec<Material>,
    /// Headers, then texels.
    pub(crate) textures: Vec<u32>,
    /// Of each triangle, the earlier ones of its plane that it overlaps.
    pub(crate) earlier: EarlierTriangles,
    /// Does the lighting use the mesh's own materials?
    pub(crate) has_appearance: bool,
    /// Does any material have an alpha cutoff?
    pub(crate) has_alpha_test: bool,
}

impl Scene {
    /// The scene for a lighting. `overlaps` is that of [`mesh::CoplanarFaces`].
    pub(crate) fn new(
        mesh: &Mesh,
        object_from_local: &Mat4,
        geometry: Geometry,
        overlaps: &[[u32; 2]],
        lighting: &Lighting,
    ) -> Self {
        let appearance = mesh
            .appearance()
            .filter(|_| lighting.material == MaterialChoice::Own);
        let smooth =
            (lighting.normals == Normals::Smooth).then(|| smooth_normals(mesh, object_from_local, &geometry));
        let material_of = |source: u32| {
            mesh.appearance()
                .map_or(0, |s| s.material_of_triangle[source as usize])
        };
        let part_of = |source: u32| mesh.part_of_triangle()[source as usize];
        let label = |source: &u32| u32::from(part_of(*source)) | u32::from(material_of(*source)) << 16;
        let labels = geometry.sources.iter().map(label).collect();
        let corners = if appearance.is_some() || smooth.is_some() {
            corners(appearance, smooth.as_deref(), &geometry.sources)
        } else {
            Vec::new()
        };
        let (materials, textures) = appearance.map_or_else(white_material, |appearance| {
            let (headers, textures) = pack_textures(&appearance.textures);
            let material = |material: &mesh::Material| Material {
                base_color: u32::from_le_bytes(material.base_color),
                texture: material
                    .texture
                    .map_or(NO_TEXTURE, |texture| headers[usize::from(texture)]),
                alpha_cutoff: material.alpha_cutoff.unwrap_or(0.0),
                pad: 0,
            };
            (appearance.materials.iter().map(material).collect(), textures)
        });
        let has_alpha_test = materials.iter().any(|material| material.alpha_cutoff > 0.0);
        Self {
            earlier: EarlierTriangles::new(overlaps, &geometry.sources),
            points: geometry.points,
            triangles: geometry.triangles,
            normals: geometry.normals,
            labels,
            corners,
            materials,
            textures,
            has_appearance: appearance.is_some(),
            has_alpha_test,
        }
    }
}

/// The file's normals where it has some, else normals averaged from the faces.
fn smooth_normals(mesh: &Mesh, object_from_local: &Mat4, geometry: &Geometry) -> Vec<[Vec3; 3]> {
    let mut normals = corner_normals(&geometry.points, &geometry.triangles);
    if mesh.file_normals().is_empty() {
        return normals;
    }
    for ((corners, face), source) in normals.iter_mut().zip(&geometry.normals).zip(&geometry.sources) {
        for (normal, of_file) in corners.iter_mut().zip(mesh.file_normals()[*source as usize]) {
            // Of either side, since many files disagree with the winding of their faces.
            let of_file = object_from_local.transform_vector3(of_file).try_normalize();
            *normal = of_file.map_or(*normal, |of_file| of_file * of_file.dot(*face).signum());
        }
    }
    normals
}

fn white_material() -> (Vec<Material>, Vec<u32>) {
    let material = Material {
        base_color: OPAQUE_WHITE,
        texture: NO_TEXTURE,
        alpha_cutoff: 0.0,
        pad: 0,
    };
    (vec![material], Vec::new())
}

fn corners(appearance: Option<&Appearance>, smooth: Option<&[[Vec3; 3]]>, sources: &[u32]) -> Vec<Corner> {
    let corner = |triangle_idx: usize, corner_idx: usize| {
        let source = sources[triangle_idx] as usize;
        let of_source =
            appearance.map(|appearance| (appearance.uvs.get(source), appearance.colors.get(source)));
        let (uvs, colors) = of_source.unwrap_or_default();
        Corner {
            uv: uvs.map_or([0.0; 2], |uvs| uvs[corner_idx].to_array()),
            normal: smooth.map_or(0, |normals| encode_octahedral(normals[triangle_idx][corner_idx])),
            color: colors.map_or(OPAQUE_WHITE, |colors| u32::from_le_bytes(colors[corner_idx])),
        }
    };
    (0..sources.len())
        .flat_map(|triangle_idx| [0, 1, 2].map(|corner_idx| corner(triangle_idx, corner_idx)))
        .collect()
}

/// The offset of each texture's header, and all headers and texels.
fn pack_textures(textures: &[Texture]) -> (Vec<u32>, Vec<u32>) {
    let headers: Vec<u32> = (0..textures.len()).map(|i| (i * TEXTURE_HEADER) as u32).collect();
    let mut words = vec![0; textures.len() * TEXTURE_HEADER];
    for (texture, header) in textures.iter().zip(&headers) {
        let first = words.len() as u32;
        let num_levels = push_mip_levels(texture, &mut words);
        let [u, v] = texture.wrap.map(|wrap| match wrap {
            Wrap::Repeat => WRAP_REPEAT,
            Wrap::Mirror => WRAP_MIRROR,
            Wrap::Clamp => WRAP_CLAMP,
        });
        let header = *header as usize;
        words[header..header + TEXTURE_HEADER].copy_from_slice(&[
            first,
            texture.width,
            texture.height,
            num_levels,
            u,
            v,
        ]);
    }
    (headers, words)
}

/// Appends all mip levels of a texture, box-filtered, down to one texel. Returns their number.
fn push_mip_levels(texture: &Texture, words: &mut Vec<u32>) -> u32 {
    let mut level = texture.texels.clone();
    let (mut width, mut height) = (texture.width as usize, texture.height as usize);
    let mut num_levels = 1;
    loop {
        words.extend(level.iter().map(|texel| u32::from_le_bytes(*texel)));
        if width == 1 && height == 1 {
            return num_levels;
        }
        let (half_width, half_height) = ((width / 2).max(1), (height / 2).max(1));
        let texel = |x: usize, y: usize| level[y.min(height - 1) * width + x.min(width - 1)];
        let mut next_level = Vec::with_capacity(half_width * half_height);
        for y in 0..half_height {
            for x in 0..half_width {
                let four = [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(dx, dy)| texel(2 * x + dx, 2 * y + dy));
                next_level.push([0, 1, 2, 3].map(|channel| {
                    let sum: u32 = four.iter().map(|texel| u32::from(texel[channel])).sum();
                    ((sum + 2) / 4) as u8
                }));
            }
        }
        (level, width, height) = (next_level, half_width, half_height);
        num_levels += 1;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use glam::{DVec3, Quat};

    use super::*;

    #[test]
    fn normals_of_the_file_are_on_the_side_of_their_face() {
        let positions = [DVec3::ZERO, DVec3::X, DVec3::Y];
        let tilted = Vec3::new(0.6, 0.0, 0.8);
        let normals = vec![[-tilted, Vec3::ZERO, 3.0 * tilted]];
        let mesh = Mesh::try_build(&positions, vec![[0, 1, 2]], None, None, normals).unwrap();
        let turned = Mat4::from_scale_rotation_translation(
            Vec3::splat(0.1),
            Quat::from_rotation_x(std::f32::consts::FRAC_PI_2),
            Vec3::ONE,
        );
        let geometry = Geometry::new(&mesh, &turned, &[]);
        let expected = [Vec3::new(0.6, -0.8, 0.0), Vec3::NEG_Y, Vec3::new(0.6, -0.8, 0.0)];
        for (normal, expected) in smooth_normals(&mesh, &turned, &geometry)[0].iter().zip(expected) {
            assert!((*normal - expected).length() < 1e-6, "{normal} is not {expected}");
        }
    }

    #[test]
    fn mip_levels_end_at_one_texel_and_keep_the_mean() {
        let texels = (0..6)
            .map(|i| [if i % 3 == 0 { 0 } else { 200 }, 100, 0, 255])
            .collect();
        let texture = Texture {
            name: String::new(),
            width: 3,
            height: 2,
            texels,
            wrap: [Wrap::Repeat, Wrap::Clamp],
        };
        let (headers, words) = pack_textures(std::slice::from_ref(&texture));
        assert_eq!(headers, [0]);
        assert_eq!(words[..TEXTURE_HEADER], [6, 3, 2, 2, WRAP_REPEAT, WRAP_CLAMP]);
        assert_eq!(words.len(), TEXTURE_HEADER + 6 + 1);
        assert_eq!(words[words.len() - 1].to_le_bytes(), [100, 100, 0, 255]);
    }
}
