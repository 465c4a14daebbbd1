//! PLY: text and binary of both byte orders; polygons, triangle strips, or point clouds.
//!
//! Unknown elements and properties of any type are skipped. Colors are those of the faces if any face has one, else
//! those of the vertices. A comment `TextureFile` names the texture.

mod body;
mod header;

use std::mem;

use glam::{DVec3, Vec2, Vec3};

use self::{
    body::Body,
    header::{Element, Header, Property},
};
use super::{
    AssetResolver, Content, ImportError, ImportOptions, MeshFormat, number, point, polygon, text,
    texture::{Decoder, Request},
    triangle_soup::{self, TriangleAttributes, TriangleSoup},
};
use crate::mesh::{Material, Wrap};

fn error(problem: &'static str) -> ImportError {
    ImportError::File {
        format: MeshFormat::Ply,
        problem,
    }
}

/// Reads a PLY; without faces it is a point cloud.
pub(super) fn read(
    bytes: &[u8],
    assets: &dyn AssetResolver,
    options: &ImportOptions,
) -> Result<Content, ImportError> {
    let header = Header::parse(bytes)?;
    let mut body = Body::new(bytes, &header);
    let mut vertices = Vertices::default();
    let mut faces = Faces::default();
    for element in &header.elements {
        if element.properties.is_empty() {
            continue;
        }
        match element.name.as_str() {
            "vertex" if vertices.positions.is_empty() => {
                vertices.read(&mut body, element, options.appearance)?;
            }
            "face" => faces.read(&mut body, element, options.appearance)?,
            "tristrips" => faces.read_strips(&mut body, element)?,
            _ => {
                let mut scratch = Vec::new();
                for _ in 0..element.count {
                    body.next_row()?;
                    for property in &element.properties {
                        body.skip(property, &mut scratch)?;
                    }
                }
            }
        }
    }
    if faces.ends.is_empty() {
        let Vertices {
            positions,
            normals,
            colors,
            ..
        } = vertices;
        return Ok(Content::Points(point::cloud(positions, normals, &colors)?));
    }
    let textures = if options.appearance {
        header.textures.as_slice()
    } else {
        &[]
    };
    let soup = soup(vertices, &faces, textures, assets, options)?;
    Ok(Content::Triangles(Box::new(soup)))
}

/// Meaning of a scalar property of a vertex or a face.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    Place(usize),
    Normal(usize),
    Color(usize),
    Uv(usize),
    Texture,
    Nothing,
}

impl Role {
    fn of(property: &Property) -> Self {
        if property.list_len.is_some() {
            return Self::Nothing;
        }
        match property.name.as_str() {
            "x" => Self::Place(0),
            "y" => Self::Place(1),
            "z" => Self::Place(2),
            "nx" | "normal_x" => Self::Normal(0),
            "ny" | "normal_y" => Self::Normal(1),
            "nz" | "normal_z" => Self::Normal(2),
            "red" | "r" | "diffuse_red" => Self::Color(0),
            "green" | "g" | "diffuse_green" => Self::Color(1),
            "blue" | "b" | "diffuse_blue" => Self::Color(2),
            "s" | "u" | "texture_u" => Self::Uv(0),
            "t" | "v" | "texture_v" => Self::Uv(1),
            "texnumber" => Self::Texture,
            _ => Self::Nothing,
        }
    }

    fn all_of(element: &Element) -> Vec<Self> {
        element.properties.iter().map(Self::of).collect()
    }
}

/// Each list has one entry per vertex, or is empty.
#[derive(Default)]
struct Vertices {
    positions: Vec<DVec3>,
    normals: Vec<Vec3>,
    colors: Vec<[f32; 3]>,
    uvs: Vec<Vec2>,
}

impl Vertices {
    fn read(&mut self, body: &mut Body<'_>, element: &Element, appearance: bool) -> Result<(), ImportError> {
        let roles = Role::all_of(element);
        let has = |role: Role| roles.contains(&role);
        if !(has(Role::Place(0)) && has(Role::Place(1)) && has(Role::Place(2))) {
            return Err(error("its vertices lack x, y or z"));
        }
        let has_normals = has(Role::Normal(0)) && has(Role::Normal(1)) && has(Role::Normal(2));
        let has_colors = appearance && has(Role::Color(0)) && has(Role::Color(1)) && has(Role::Color(2));
        let has_uvs = appearance && has(Role::Uv(0)) && has(Role::Uv(1));
        let mut scratch = Vec::new();
        for _ in 0..element.count {
            body.next_row()?;
            let (mut position, mut normal, mut color, mut uv) =
                (DVec3::NAN, Vec3::ZERO, [0.0; 3], Vec2::ZERO);
            for (property, &role) in element.properties.iter().zip(&roles) {
                if role == Role::Nothing {
                    body.skip(property, &mut scratch)?;
                    continue;
                }
                let number = body.number(property.item)?;
                match role {
                    Role::Place(axis) => position[axis] = number,
                    Role::Normal(axis) => normal[axis] = number as f32,
                    Role::Color(channel) => color[channel] = (number / property.item.brightest()) as f32,
                    Role::Uv(axis) => uv[axis] = number as f32,
                    Role::Texture | Role::Nothing => {}
                }
            }
            self.positions.push(position);
            if has_normals {
                self.normals.push(normal);
            }
            if has_colors {
                self.colors.push(color);
            }
            if has_uvs {
                self.uvs.push(uv);
            }
        }
        Ok(())
    }
}

/// Polygons, concatenated.
#[derive(Default)]
struct Faces {
    corners: Vec<u32>,
    /// End of each polygon in `corners`.
    ends: Vec<usize>,
    /// One per polygon, or empty.
    colors: Vec<[f32; 3]>,
    /// One per corner, or empty.
    uvs: Vec<Vec2>,
    /// One per polygon, or empty.
    textures: Vec<u16>,
}

/// A vertex index, if it is in the range of `u32`.
fn corner(number: f64) -> Result<u32, ImportError> {
    if (0.0..=f64::from(u32::MAX)).contains(&number) {
        Ok(number as u32)
    } else {
        Err(error("a face refers to a vertex that does not exist"))
    }
}

impl Faces {
    fn read(&mut self, body: &mut Body<'_>, element: &Element, appearance: bool) -> Result<(), ImportError> {
        let roles = Role::all_of(element);
        let has = |role: Role| roles.contains(&role);
        let has_colors = appearance && has(Role::Color(0)) && has(Role::Color(1)) && has(Role::Color(2));
        let has_textures = appearance && has(Role::Texture);
        let (mut indices, mut uvs, mut scratch) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..element.count {
            body.next_row()?;
            let (mut color, mut texture) = ([0.0; 3], 0);
            indices.clear();
            uvs.clear();
            for (property, &role) in element.properties.iter().zip(&roles) {
                match (property.list_len, property.name.as_str(), role) {
                    (Some(len), "vertex_indices" | "vertex_index", _) => {
                        body.list(len, property.item, &mut indices)?;
                    }
                    (Some(len), "texcoord", _) if appearance => body.list(len, property.item, &mut uvs)?,
                    (None, _, Role::Color(channel)) => {
                        color[channel] = (body.number(property.item)? / property.item.brightest()) as f32;
                    }
                    (None, _, Role::Texture) => texture = body.number(property.item)? as u16,
                    _ => body.skip(property, &mut scratch)?,
                }
            }
            let start = self.corners.len();
            for &index in &indices {
                self.corners.push(corner(index)?);
            }
            self.ends.push(self.corners.len());
            if uvs.len() == 2 * indices.len() && !uvs.is_empty() {
                self.uvs.resize(start, Vec2::ZERO);
                let pairs = uvs.as_chunks::<2>().0.iter();
                self.uvs
                    .extend(pairs.map(|pair| Vec2::from(pair.map(|number| number as f32))));
            }
            if has_colors {
                self.colors.push(color);
            }
            if has_textures {
                self.textures.push(texture);
            }
        }
        Ok(())
    }

    /// Triangle strips of scanning software: -1 begins a new strip.
    fn read_strips(&mut self, body: &mut Body<'_>, element: &Element) -> Result<(), ImportError> {
        let (mut indices, mut scratch) = (Vec::new(), Vec::new());
        for _ in 0..element.count {
            body.next_row()?;
            for property in &element.properties {
                match (property.list_len, property.name.as_str()) {
                    (Some(len), "vertex_indices" | "vertex_index") => {
                        body.list(len, property.item, &mut indices)?;
                    }
                    _ => body.skip(property, &mut scratch)?,
                }
            }
            for strip in mem::take(&mut indices).split(|&index| index < 0.0) {
                for (place, window) in strip.windows(3).enumerate() {
                    let [a, b, c] = [corner(window[0])?, corner(window[1])?, corner(window[2])?];
                    self.corners
                        .extend(if place % 2 == 0 { [a, b, c] } else { [b, a, c] });
                    self.ends.push(self.corners.len());
                }
            }
        }
        Ok(())
    }
}

fn soup(
    vertices: Vertices,
    faces: &Faces,
    textures: &[String],
    assets: &dyn AssetResolver,
    options: &ImportOptions,
) -> Result<TriangleSoup, ImportError> {
    let mut soup = TriangleSoup::default();
    let part = soup.part("");
    let has_uvs = !(faces.uvs.is_empty() && vertices.uvs.is_empty());
    if has_uvs && !textures.is_empty() {
        let mut decoder = Decoder::new(assets, options.max_texture_side_px);
        for name in textures {
            let request = Request {
                name: name.clone(),
                folder: String::new(),
                opacity: None,
                wrap: [Wrap::Repeat; 2],
            };
            let texture = decoder.file(&mut soup, request).map(|loaded| loaded.index);
            soup.material(Material {
                name: name.clone(),
                texture,
                ..Material::white()
            });
        }
    }
    let last_material = soup.appearance.materials.len().saturating_sub(1);
    let is_textured = !soup.appearance.materials.is_empty();
    let face_colors = triangle_soup::bytes_of_colors(&faces.colors);
    let vertex_colors = triangle_soup::bytes_of_colors(&vertices.colors);

    let mut polygon = Vec::new();
    let mut start = 0;
    for (face, &end) in faces.ends.iter().enumerate() {
        let corners = &faces.corners[start..end];
        let first = start;
        start = end;
        polygon.clear();
        for &corner in corners {
            let position = vertices.positions.get(corner as usize);
            polygon.push(*position.ok_or_else(|| error("a face refers to a vertex that does not exist"))?);
        }
        let face_color = face_colors.get(face);
        polygon::triangulate(&polygon, |triangle| {
            let indices = triangle.map(|corner| corners[corner]);
            if !options.appearance {
                soup.push(indices, part);
                return;
            }
            let at_corner = triangle.map(|corner| faces.uvs.get(first + corner).copied());
            let at_vertex = indices.map(|index| vertices.uvs.get(index as usize).copied());
            let uvs = if faces.uvs.is_empty() {
                at_vertex
            } else {
                at_corner
            };
            let colors = indices.map(|index| vertex_colors.get(index as usize).copied());
            let material = faces
                .textures
                .get(face)
                .map_or(0, |&texture| usize::from(texture));
            let attributes = TriangleAttributes {
                material: material.min(last_material) as u16,
                // v grows upwards, as in OBJ.
                uvs: is_textured
                    .then(|| uvs.map(|uv| uv.map_or(Vec2::ZERO, |Vec2 { x, y }| Vec2::new(x, 1.0 - y)))),
                colors: match face_color {
                    Some(&color) => Some([color; 3]),
                    None if vertex_colors.is_empty() => None,
                    None => Some(colors.map(|color| color.unwrap_or(triangle_soup::WHITE))),
                },
            };
            soup.push_with_attributes(indices, part, attributes);
        });
    }
    soup.positions = vertices.positions;
    Ok(soup)
}

#[cfg(test)]
mod tests;
