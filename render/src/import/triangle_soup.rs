//! [`TriangleSoup`]: the triangles that an importer collects, not validated yet.

use std::collections::{BTreeMap, HashMap};

use glam::{DVec3, Vec2, Vec3};

use super::color::WHITE;
use crate::mesh::{
    Appearance, MAX_MATERIALS, Material, Mesh, MeshError, NO_NORMALS, Parts, WarningKind, Warnings,
};

/// Triangles and their parts, and their appearance if it is read.
#[derive(Debug, Default)]
pub(super) struct TriangleSoup {
    pub(super) positions: Vec<DVec3>,
    pub(super) triangles: Vec<[u32; 3]>,
    parts: Parts,
    part_by_name: HashMap<String, u16>,
    /// Normals at the corners of each triangle; may be shorter than the triangles, the rest has none.
    normals: Vec<[Vec3; 3]>,
    /// Its lists may be shorter than the triangles; the rest is white.
    pub(super) appearance: Appearance,
    pub(super) warnings: Warnings,
    /// By textured material, how many triangles have no texture coordinates.
    without_uvs: BTreeMap<u16, usize>,
    /// Numbers of elements that are no faces, by kind.
    undrawn: BTreeMap<&'static str, usize>,
}

/// Material and corner attributes of a triangle.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct TriangleAttributes {
    pub(super) material: u16,
    pub(super) uvs: Option<[Vec2; 3]>,
    pub(super) colors: Option<[[u8; 4]; 3]>,
}

impl TriangleSoup {
    /// The label of a part, created at its first use.
    ///
    /// A label has 16 bits, of which one value means "no part" in views: names beyond the 65,535th share the last
    /// label.
    pub(super) fn part(&mut self, name: &str) -> u16 {
        if let Some(&part) = self.part_by_name.get(name) {
            return part;
        }
        let num_parts = self.parts.names.len();
        if num_parts >= usize::from(u16::MAX) {
            return num_parts as u16 - 1;
        }
        self.parts.names.push(name.to_owned());
        self.part_by_name.insert(name.to_owned(), num_parts as u16);
        num_parts as u16
    }

    /// Adds a material and returns its label; beyond the 65,535th all share the last label.
    pub(super) fn material(&mut self, material: Material) -> u16 {
        let materials = &mut self.appearance.materials;
        if materials.len() < MAX_MATERIALS {
            materials.push(material);
        }
        materials.len() as u16 - 1
    }

    /// Counts an element that is no face.
    pub(super) fn count_undrawn(&mut self, kind: &'static str) {
        *self.undrawn.entry(kind).or_default() += 1;
    }

    /// What there is instead of faces: `12 lines, 8 vertices`. Empty if there is nothing.
    pub(super) fn undrawn(&self) -> String {
        let mut counts: Vec<(&str, usize)> =
            self.undrawn.iter().map(|(kind, count)| (*kind, *count)).collect();
        if !self.positions.is_empty() {
            counts.push(("vertices", self.positions.len()));
        }
        let counts: Vec<String> = counts
            .iter()
            .map(|(kind, count)| format!("{count} {kind}"))
            .collect();
        counts.join(", ")
    }

    /// Adds a triangle without attributes.
    pub(super) fn push(&mut self, triangle: [u32; 3], part: u16) {
        self.triangles.push(triangle);
        self.parts.of_triangle.push(part);
    }

    /// Sets the normals at the corners of the triangle that was added last.
    pub(super) fn set_normals(&mut self, normals: [Vec3; 3]) {
        self.normals.resize(self.triangles.len() - 1, NO_NORMALS);
        self.normals.push(normals);
    }

    /// Adds a triangle with attributes.
    pub(super) fn push_with_attributes(&mut self, triangle: [u32; 3], part: u16, paint: TriangleAttributes) {
        let index = self.triangles.len();
        self.push(triangle, part);
        let appearance = &mut self.appearance;
        if !appearance.materials.is_empty() {
            appearance.material_of_triangle.resize(index, 0);
            appearance.material_of_triangle.push(paint.material);
        }
        let material = appearance.materials.get(usize::from(paint.material));
        if let Some(uvs) = paint.uvs {
            appearance.uvs.resize(index, [Vec2::ZERO; 3]);
            appearance.uvs.push(uvs);
        } else if material.is_some_and(|material| material.texture.is_some()) {
            *self.without_uvs.entry(paint.material).or_default() += 1;
        }
        if let Some(colors) = paint.colors {
            appearance.colors.resize(index, [WHITE; 3]);
            appearance.colors.push(colors);
        }
    }

    pub(super) fn into_mesh(mut self) -> Result<Mesh, MeshError> {
        let parts = Some(self.parts);
        let num_triangles = self.triangles.len();
        let mut normals = self.normals;
        if !normals.is_empty() {
            normals.resize(num_triangles, NO_NORMALS);
        }
        let appearance = &mut self.appearance;
        let mesh = if appearance.materials.is_empty() && appearance.colors.is_empty() {
            Mesh::try_build(&self.positions, self.triangles, parts, None, normals)?
        } else {
            if appearance.materials.is_empty() {
                appearance.materials.push(Material::white());
            }
            appearance.material_of_triangle.resize(num_triangles, 0);
            if appearance
                .materials
                .iter()
                .all(|material| material.texture.is_none())
            {
                appearance.uvs = Vec::new();
            } else {
                appearance.uvs.resize(num_triangles, [Vec2::ZERO; 3]);
            }
            if !appearance.colors.is_empty() {
                appearance.colors.resize(num_triangles, [WHITE; 3]);
            }
            for (material, num_triangles) in self.without_uvs {
                let name = &appearance.materials[usize::from(material)].name;
                self.warnings.push(
                    WarningKind::Texture,
                    format!(
                        "{num_triangles} triangles of the material \"{name}\" have no coordinates in its texture"
                    ),
                );
            }
            let mut num_broken = 0;
            for uv in appearance
                .uvs
                .as_flattened_mut()
                .iter_mut()
                .filter(|uv| !uv.is_finite())
            {
                *uv = Vec2::ZERO;
                num_broken += 1;
            }
            if num_broken > 0 {
                self.warnings.push(
                    WarningKind::Attribute,
                    format!("{num_broken} texture coordinates are not finite numbers: taken for 0"),
                );
            }
            let appearance = Some(self.appearance);
            Mesh::try_build(&self.positions, self.triangles, parts, appearance, normals)?
        };
        Ok(mesh.with_warnings(self.warnings))
    }
}
