//! PLY: text and binary of both byte orders; polygons, triangle strips, or point clouds.
//!
//! Unknown elements and properties of any type are skipped. Colors are those of the faces if any face has one, else
//! those of the vertices. A comment `TextureFile` names the texture. Rows of a text need not be lines; a count that
//! contradicts the length is mended where the length leaves one choice.

mod body;
mod header;

use std::mem;

use glam::{DVec3, Vec2, Vec3};

use self::{
    body::Body,
    header::{Element, Encoding, Header, Property},
};
use super::{
    AssetResolver, Content, ImportError, ImportOptions, MeshFormat, color, number, point, polygon, text,
    texture::{Decoder, Request},
    token::{RowLayout, Rows, Tokens, read_rows},
    triangle_soup::{TriangleAttributes, TriangleSoup},
};
use crate::mesh::{Material, WarningKind, Warnings, Wrap};

/// Fewest corners of the faces of a file whose counts are wrong, so that no vertex is taken for a face.
const MIN_RECOUNTED_CORNERS: usize = 3;

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
    let bytes = text::without_mark(bytes);
    let header = Header::parse(&bytes)?;
    let rows = read_elements(&header, &bytes[header.len..], options.appearance)?;
    let Elements {
        vertices,
        faces,
        mut warnings,
    } = rows.content;
    if !rows.is_whole {
        warnings.push(
            WarningKind::Trailing,
            "something behind the last element is ignored".to_owned(),
        );
    }
    if faces.ends.is_empty() {
        let Vertices {
            positions,
            normals,
            colors,
            ..
        } = vertices;
        let cloud = point::cloud(positions, normals, &colors)?;
        return Ok(Content::Points(cloud.with_warnings(warnings)));
    }
    let textures = if options.appearance {
        header.textures.as_slice()
    } else {
        &[]
    };
    let mut soup = TriangleSoup::default();
    soup.warnings = warnings;
    push_faces(&mut soup, vertices, &faces, textures, assets, options);
    Ok(Content::Triangles(Box::new(soup)))
}

fn read_elements(header: &Header, body: &[u8], appearance: bool) -> Result<Rows<Elements>, ImportError> {
    if header.encoding == Encoding::Text {
        let text = text::decode(body);
        let tokens = |layout| Tokens::new(&text, header.num_lines + 1, layout);
        let read = |header: &Header, layout| {
            header.check_counts(body.len())?;
            Elements::read(header, Body::Text(tokens(layout)), appearance)
        };
        let recount = || {
            let num_lines = tokens(RowLayout::Line).count_lines() as u64;
            let mut headers = header.recounted_by_lines(num_lines, body.len() as u64);
            headers.find_map(|recounted| read(&recounted, RowLayout::Line).ok()?.mended(header))
        };
        return read_rows(|layout| read(header, layout), recount);
    }
    let read = |header: &Header| {
        header.check_counts(body.len())?;
        Elements::read(header, Body::binary(body, header.encoding), appearance)
    };
    let recount = || read(&header.recounted_by_length()?).ok()?.mended(header);
    let whole = |content| Rows {
        content,
        is_whole: true,
    };
    match read(header) {
        Ok(rows) if rows.is_whole => Ok(rows),
        Ok(rows) => Ok(recount().map_or(rows, whole)),
        Err(error) => recount().map(whole).ok_or(error),
    }
}

/// What a file holds.
#[derive(Default)]
struct Elements {
    vertices: Vertices,
    faces: Faces,
    warnings: Warnings,
}

impl Elements {
    fn read(header: &Header, mut body: Body<'_>, appearance: bool) -> Result<Rows<Self>, ImportError> {
        let mut elements = Self::default();
        let Self { vertices, faces, .. } = &mut elements;
        for element in &header.elements {
            if element.properties.is_empty() {
                continue;
            }
            match element.name.as_str() {
                "vertex" if vertices.positions.is_empty() => {
                    vertices.read(&mut body, element, appearance)?;
                }
                "face" => faces.read(&mut body, element, appearance)?,
                "tristrips" => faces.read_strips(&mut body, element)?,
                _ => {
                    let mut scratch = Vec::new();
                    for _ in 0..element.count {
                        if !body.next_row(element)? {
                            break;
                        }
                        for property in &element.properties {
                            body.skip(property, &mut scratch)?;
                        }
                        body.end_row();
                    }
                }
            }
        }
        let num_vertices = vertices.positions.len();
        if faces
            .corners
            .iter()
            .any(|&corner| corner as usize >= num_vertices)
        {
            return Err(error("a face refers to a vertex that does not exist"));
        }
        Ok(Rows {
            content: elements,
            is_whole: body.is_at_end(),
        })
    }
}

impl Rows<Elements> {
    /// The elements with a warning, if other counts than those of the header account for the whole file.
    fn mended(self, header: &Header) -> Option<Elements> {
        let mut elements = self.content;
        let num_faces = elements.faces.ends.len();
        let num_vertices = elements.vertices.positions.len();
        let counted = |name: &str| {
            let mut elements = header.elements.iter().filter(|element| element.name == name);
            elements.next().map_or(0, |element| element.count)
        };
        elements.warnings.push(
            WarningKind::Count,
            format!(
                "its header counts {} vertices and {} faces, but there are {num_vertices} and {num_faces}",
                counted("vertex"),
                counted("face"),
            ),
        );
        let has_what_it_counts = num_vertices > 0 && (num_faces > 0 || counted("face") == 0);
        (self.is_whole && has_what_it_counts).then_some(elements)
    }
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
            if !body.next_row(element)? {
                break;
            }
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
            body.end_row();
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
        let vertex_list = element.vertex_list();
        let (mut indices, mut uvs, mut scratch) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..element.count {
            if !body.next_row(element)? {
                break;
            }
            let (mut color, mut texture) = ([0.0; 3], 0);
            indices.clear();
            uvs.clear();
            for (index, (property, &role)) in element.properties.iter().zip(&roles).enumerate() {
                match (property.list_len, property.name.as_str(), role) {
                    (Some(len), ..) if Some(index) == vertex_list => {
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
            if element.is_recounted && indices.len() < MIN_RECOUNTED_CORNERS {
                return Err(error("a face has fewer than three corners"));
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
            body.end_row();
        }
        Ok(())
    }

    /// Triangle strips of scanning software: -1 begins a new strip.
    fn read_strips(&mut self, body: &mut Body<'_>, element: &Element) -> Result<(), ImportError> {
        let (mut indices, mut scratch) = (Vec::new(), Vec::new());
        let vertex_list = element.vertex_list();
        for _ in 0..element.count {
            if !body.next_row(element)? {
                break;
            }
            for (index, property) in element.properties.iter().enumerate() {
                match property.list_len {
                    Some(len) if Some(index) == vertex_list => {
                        body.list(len, property.item, &mut indices)?;
                    }
                    _ => body.skip(property, &mut scratch)?,
                }
            }
            body.end_row();
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

fn push_faces(
    soup: &mut TriangleSoup,
    vertices: Vertices,
    faces: &Faces,
    textures: &[String],
    assets: &dyn AssetResolver,
    options: &ImportOptions,
) {
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
            let texture = decoder.file(soup, request).map(|loaded| loaded.index);
            soup.material(Material {
                name: name.clone(),
                texture,
                ..Material::white()
            });
        }
    }
    let last_material = soup.appearance.materials.len().saturating_sub(1);
    let is_textured = !soup.appearance.materials.is_empty();
    let face_colors = color::bytes_of_colors(&faces.colors);
    let vertex_colors = color::bytes_of_colors(&vertices.colors);

    let mut polygon = Vec::new();
    let mut start = 0;
    for (face, &end) in faces.ends.iter().enumerate() {
        let corners = &faces.corners[start..end];
        let first = start;
        start = end;
        polygon.clear();
        polygon.extend(corners.iter().map(|&corner| vertices.positions[corner as usize]));
        let face_color = face_colors.get(face);
        let set_normals = |soup: &mut TriangleSoup, indices: [u32; 3]| {
            if options.normals && !vertices.normals.is_empty() {
                soup.set_normals(indices.map(|index| vertices.normals[index as usize]));
            }
        };
        polygon::triangulate(&polygon, |triangle| {
            let indices = triangle.map(|corner| corners[corner]);
            if !options.appearance {
                soup.push(indices, part);
                set_normals(soup, indices);
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
                    None => Some(colors.map(|color| color.unwrap_or(color::WHITE))),
                },
            };
            soup.push_with_attributes(indices, part, attributes);
            set_normals(soup, indices);
        });
    }
    soup.positions = vertices.positions;
}

#[cfg(test)]
mod tests;
