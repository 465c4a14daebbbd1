//! [`Soup`]: what an importer collects, triangles that nobody has checked yet.

use std::collections::HashMap;

use glam::{DVec3, Vec2};

use super::warning::Warnings;
use crate::mesh::{MAX_MATERIALS, Material, Mesh, MeshError, Parts, Surface};

/// The color of what has none.
pub(super) const WHITE: [u8; 4] = [u8::MAX; 4];

/// Stands in a list of colors for what has none.
pub(super) const NO_COLOR: [f32; 3] = [f32::NAN; 3];

/// Triangles, their parts, and their looks where those are asked for.
#[derive(Debug, Default)]
pub(super) struct Soup {
    pub(super) positions: Vec<DVec3>,
    pub(super) triangles: Vec<[u32; 3]>,
    parts: Parts,
    part_by_name: HashMap<String, u16>,
    /// Its lists may be shorter than the triangles: those that are not in them are white.
    pub(super) surface: Surface,
    pub(super) warnings: Warnings,
}

/// The looks of one triangle.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Paint {
    pub(super) material: u16,
    pub(super) uvs: Option<[Vec2; 3]>,
    pub(super) colors: Option<[[u8; 4]; 3]>,
}

impl Soup {
    /// The label of the part of this name, a new one at its first use.
    ///
    /// A label has 16 bits, of which one stands for "no part" in views: names past the 65,535th share the last
    /// one's label.
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

    /// The label of a new material; those past the 65,535th are the last one.
    pub(super) fn material(&mut self, material: Material) -> u16 {
        let materials = &mut self.surface.materials;
        if materials.len() < MAX_MATERIALS {
            materials.push(material);
        }
        materials.len() as u16 - 1
    }

    /// Adds a triangle without looks.
    pub(super) fn push(&mut self, triangle: [u32; 3], part: u16) {
        self.triangles.push(triangle);
        self.parts.of_triangle.push(part);
    }

    /// Adds a triangle that is more than white.
    pub(super) fn push_painted(&mut self, triangle: [u32; 3], part: u16, paint: Paint) {
        let index = self.triangles.len();
        self.push(triangle, part);
        let surface = &mut self.surface;
        if !surface.materials.is_empty() {
            surface.material_of_triangle.resize(index, 0);
            surface.material_of_triangle.push(paint.material);
        }
        if let Some(uvs) = paint.uvs {
            surface.uvs.resize(index, [Vec2::ZERO; 3]);
            surface.uvs.push(uvs);
        }
        if let Some(colors) = paint.colors {
            surface.colors.resize(index, [WHITE; 3]);
            surface.colors.push(colors);
        }
    }

    pub(super) fn into_mesh(mut self) -> Result<Mesh, MeshError> {
        let parts = Some(self.parts);
        let num_triangles = self.triangles.len();
        let surface = &mut self.surface;
        let mesh = if surface.materials.is_empty() && surface.colors.is_empty() {
            Mesh::try_new(&self.positions, self.triangles, parts)?
        } else {
            if surface.materials.is_empty() {
                surface.materials.push(Material::white());
            }
            surface.material_of_triangle.resize(num_triangles, 0);
            if surface
                .materials
                .iter()
                .all(|material| material.texture.is_none())
            {
                surface.uvs = Vec::new();
            } else {
                surface.uvs.resize(num_triangles, [Vec2::ZERO; 3]);
            }
            if !surface.colors.is_empty() {
                surface.colors.resize(num_triangles, [WHITE; 3]);
            }
            let mut num_broken = 0;
            for uv in surface
                .uvs
                .as_flattened_mut()
                .iter_mut()
                .filter(|uv| !uv.is_finite())
            {
                *uv = Vec2::ZERO;
                num_broken += 1;
            }
            if num_broken > 0 {
                self.warnings.push(format!(
                    "{num_broken} texture coordinates are not finite numbers: taken for 0"
                ));
            }
            Mesh::try_with_surface(&self.positions, self.triangles, parts, self.surface)?
        };
        Ok(mesh.with_warnings(self.warnings.into_sentences()))
    }
}

/// Colors as a file gives them: numbers from 0 to 1 or, where one of them is larger than 1, from 0 to 255. What has
/// none is white.
pub(super) fn bytes_of_colors(colors: &[[f32; 3]]) -> Vec<[u8; 4]> {
    let is_byte = colors.as_flattened().iter().any(|&channel| channel > 1.0);
    let factor = if is_byte { 1.0 } else { 255.0 };
    colors
        .iter()
        .map(|color| {
            if color.iter().any(|channel| channel.is_nan()) {
                return WHITE;
            }
            let [r, g, b] = color.map(|channel| (channel * factor).round() as u8);
            [r, g, b, u8::MAX]
        })
        .collect()
}
