//! glTF 2.0, as JSON with separate buffers (`.gltf`) and in one file (`.glb`).
//!
//! The scene is read in its initial state: node transforms applied, skins in their rest pose, morph targets at their
//! default weights. Parts are the nodes that have a mesh. The `gltf` crate parses the document; its bytes are read
//! here, because malformed files make the crate panic.

mod accessor;
mod container;
mod instance;
mod material;
mod scene;

use glam::{DMat3, DMat4, DVec3, Vec3};
use gltf::{
    Document, Node, Primitive, Semantic,
    json::{self, Root, validation::Validate},
    mesh::Mode,
};
use serde::Deserialize;

use self::{
    accessor::Reader,
    container::Buffers,
    material::{MaterialResolver, VertexAttributes},
    scene::NodeTree,
};
use super::{
    AssetResolver, ImportError, ImportOptions, MeshFormat,
    color::WHITE,
    text,
    texture::Decoder,
    triangle_soup::{TriangleAttributes, TriangleSoup},
};
use crate::mesh::{MeshError, WarningKind};

/// A document may instance one mesh many times. More vertices or triangles than this (or one per byte, if that is more)
/// are refused.
const MAX_ELEMENTS: usize = 1 << 22;

/// Extensions that are read, or don't affect geometry, by prefix; any other required extension is an error.
const IGNORABLE_EXTENSIONS: [&str; 10] = [
    "KHR_mesh_quantization",
    instance::NAME,
    "EXT_mesh_features",
    "EXT_instance_features",
    "KHR_materials_",
    "KHR_texture_",
    "KHR_lights_",
    "EXT_texture_",
    "KHR_animation_pointer",
    "KHR_xmp",
];

fn file_error(problem: &'static str) -> ImportError {
    ImportError::File {
        format: MeshFormat::Gltf,
        problem,
    }
}

/// Reads a glTF or a GLB.
pub(super) fn read(
    bytes: &[u8],
    assets: &dyn AssetResolver,
    options: &ImportOptions,
) -> Result<TriangleSoup, ImportError> {
    let bytes = text::without_mark(bytes);
    let (json, blob) = container::split(&bytes)?;
    let root: Root = json::deserialize::from_slice(json).map_err(|source| {
        if is_version_1(json) {
            return file_error("it is of version 1, and only version 2 is read");
        }
        ImportError::Json {
            format: MeshFormat::Gltf,
            source,
        }
    })?;
    check_extensions(&root)?;
    check_schema(&root)?;
    let compression = root
        .extensions_used
        .iter()
        .find(|name| name.contains("compression"))
        .cloned();
    let undrawn_extensions: Vec<String> = root
        .extensions_used
        .iter()
        .filter(|name| is_geometric(name) && !is_ignorable(name))
        .cloned()
        .collect();
    let document = Document::from_json_without_validation(root);
    let tree = NodeTree::try_new(&document)?;
    let max_elements = MAX_ELEMENTS.max(bytes.len());
    let mut reader = Reader {
        buffers: Buffers::new(blob, assets, compression),
        max_elements,
    };
    let mut resolver = options
        .appearance
        .then(|| MaterialResolver::new(Decoder::new(assets, options.max_texture_side_px)));

    let mut soup = TriangleSoup::default();
    for name in &undrawn_extensions {
        soup.warnings.push(
            WarningKind::Unsupported,
            format!("the extension `{name}` is not read: what it describes is not drawn"),
        );
    }
    for node in tree.shown(&document) {
        let Some(mesh) = node.mesh() else { continue };
        let poses = poses(&document, &tree, &node, &mut reader)?;
        let name = node
            .name()
            .or(mesh.name())
            .map_or_else(|| format!("node {}", node.index()), str::to_owned);
        let part = soup.part(&name);
        let weights = node.weights().or(mesh.weights()).unwrap_or_default();
        for primitive in mesh.primitives() {
            if !is_surface(&primitive) {
                soup.count_undrawn(undrawn_kind(primitive.mode()));
                continue;
            }
            let attributes = resolver
                .as_mut()
                .map(|resolver| resolver.attributes(&mut soup, &mut reader, &document, &primitive));
            for pose in &poses {
                let shown = ShownMesh {
                    pose,
                    morph_weights: weights,
                    part,
                    attributes: attributes.as_ref(),
                    has_normals: options.normals,
                };
                push_primitive(&mut soup, &mut reader, &primitive, &shown)?;
                if soup.positions.len().max(soup.triangles.len()) > max_elements {
                    return Err(file_error(
                        "it shows its meshes so many times that they don't fit in memory",
                    ));
                }
            }
        }
    }
    Ok(soup)
}

/// Is it JSON of glTF 1, which has objects where glTF 2 has arrays?
fn is_version_1(json: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Head {
        asset: Asset,
    }
    #[derive(Deserialize)]
    struct Asset {
        version: String,
    }
    let head: Result<Head, _> = json::deserialize::from_slice(json);
    head.is_ok_and(|head| head.asset.version.starts_with("1."))
}

/// Transforms of a mesh's vertices.
enum Pose {
    Rigid(DMat4),
    Skinned(Vec<DMat4>),
}

/// A node's mesh is drawn once for each.
fn poses(
    document: &Document,
    tree: &NodeTree,
    node: &Node<'_>,
    reader: &mut Reader<'_>,
) -> Result<Vec<Pose>, ImportError> {
    if let Some(skin) = node.skin() {
        // The transform of a skinned node itself is ignored, as the specification demands.
        return Ok(vec![Pose::Skinned(tree.skin_matrices(&skin, reader)?)]);
    }
    let world_from_node = tree.world_from_node[node.index()];
    let instances = instance::node_from_instances(document, node, reader)?;
    let instances = instances.unwrap_or_else(|| vec![DMat4::IDENTITY]);
    let poses = instances.into_iter();
    Ok(poses
        .map(|node_from_instance| Pose::Rigid(world_from_node * node_from_instance))
        .collect())
}

fn is_ignorable(extension: &str) -> bool {
    IGNORABLE_EXTENSIONS
        .iter()
        .any(|prefix| extension.starts_with(prefix))
}

/// Does an extension, by its name, describe shapes? Compressed ones are found when their data are read.
fn is_geometric(extension: &str) -> bool {
    [
        "_mesh_",
        "_primitive",
        "_splat",
        "_node_visibility",
        "_geometry",
        "_instancing",
    ]
    .iter()
    .any(|word| extension.contains(word))
}

/// What a primitive without a surface consists of.
fn undrawn_kind(mode: Mode) -> &'static str {
    match mode {
        Mode::Points => "sets of points",
        Mode::Lines | Mode::LineLoop | Mode::LineStrip => "sets of lines",
        Mode::Triangles | Mode::TriangleStrip | Mode::TriangleFan => "primitives without positions",
    }
}

fn check_extensions(root: &Root) -> Result<(), ImportError> {
    match root.extensions_required.iter().find(|name| !is_ignorable(name)) {
        Some(name) => Err(ImportError::Extension { name: name.clone() }),
        None => Ok(()),
    }
}

/// The crate's own validation, except for what doesn't affect geometry: materials, animations, bounds of accessors.
fn check_schema(root: &Root) -> Result<(), ImportError> {
    use json::validation::Error;
    let is_irrelevant = |path: &str, error: Error| {
        let section = path.split(['[', '.']).next().unwrap_or_default();
        error == Error::Unsupported
            || [
                "materials",
                "textures",
                "images",
                "samplers",
                "animations",
                "cameras",
            ]
            .contains(&section)
            || path.ends_with("min")
            || path.ends_with("max")
            // Compressed data is elsewhere; missing data is found when it is read.
            || (error == Error::Missing && path.ends_with("bufferView"))
            || (error == Error::Invalid && (path.contains("attributes") || path.ends_with("target")))
    };
    // The validation indexes the accessors of attributes before it has checked them.
    let attributes = root
        .meshes
        .iter()
        .flat_map(|mesh| &mesh.primitives)
        .flat_map(|primitive| &primitive.attributes);
    let num_accessors = root.accessors.len();
    if attributes
        .into_iter()
        .any(|(_, accessor)| accessor.value() >= num_accessors)
    {
        return Err(file_error("a mesh refers to an accessor that does not exist"));
    }
    let mut first = None;
    root.validate(root, json::Path::new, &mut |path, error| {
        let path = path();
        if first.is_none() && !is_irrelevant(path.as_str(), error) {
            first = Some(ImportError::Schema {
                problem: error,
                path: path.as_str().to_owned(),
            });
        }
    });
    first.map_or(Ok(()), Err)
}

/// Is it a primitive of triangles with positions?
fn is_surface(primitive: &Primitive<'_>) -> bool {
    let is_filled = matches!(
        primitive.mode(),
        Mode::Triangles | Mode::TriangleStrip | Mode::TriangleFan
    );
    is_filled && primitive.get(&Semantic::Positions).is_some()
}

/// What the primitives of a mesh have in common where a node shows it.
struct ShownMesh<'a> {
    pose: &'a Pose,
    morph_weights: &'a [f32],
    part: u16,
    attributes: Option<&'a VertexAttributes>,
    /// Are normals read?
    has_normals: bool,
}

fn push_primitive(
    soup: &mut TriangleSoup,
    reader: &mut Reader<'_>,
    primitive: &Primitive<'_>,
    shown: &ShownMesh<'_>,
) -> Result<(), ImportError> {
    let &ShownMesh {
        pose,
        morph_weights,
        part,
        attributes,
        ..
    } = shown;
    let normals = normals(soup, reader, primitive, shown);
    let Some(accessor) = primitive.get(&Semantic::Positions) else {
        return Ok(());
    };
    let mut positions = reader.vectors(&accessor)?;
    for (target, &weight) in primitive.morph_targets().zip(morph_weights) {
        if let Some(displacement) = target.positions().filter(|_| weight != 0.0) {
            for (position, displacement) in positions.iter_mut().zip(reader.vectors(&displacement)?) {
                *position += f64::from(weight) * displacement;
            }
        }
    }
    let is_mirrored = match pose {
        Pose::Rigid(world_from_mesh) => {
            for position in &mut positions {
                *position = world_from_mesh.transform_point3(*position);
            }
            world_from_mesh.determinant() < 0.0
        }
        Pose::Skinned(skin_matrices) => {
            apply_skin(&mut positions, reader, primitive, skin_matrices)?;
            skin_matrices[0].determinant() < 0.0
        }
    };

    let num_vertices = positions.len();
    let indices = match primitive.indices() {
        Some(accessor) => reader.scalars(&accessor)?,
        None => (0..num_vertices as u32).collect(),
    };
    let first = soup.positions.len() as u32;
    soup.positions.append(&mut positions);
    let mut push = |[a, b, c]: [u32; 3]| {
        if let Some(&index) = [a, b, c].iter().find(|&&index| index as usize >= num_vertices) {
            return Err(MeshError::IndexOutOfRange {
                triangle: soup.triangles.len(),
                index,
                num_vertices,
            });
        }
        let triangle = if is_mirrored { [a, c, b] } else { [a, b, c] };
        let vertices = triangle.map(|index| first + index);
        match attributes {
            Some(attributes) => soup.push_with_attributes(vertices, part, attributes.triangle(triangle)),
            None => soup.push(vertices, part),
        }
        if !normals.is_empty() {
            soup.set_normals(triangle.map(|index| normals.get(index as usize).copied().unwrap_or_default()));
        }
        Ok(())
    };
    match primitive.mode() {
        Mode::TriangleStrip => {
            for (index, corners) in indices.windows(3).enumerate() {
                let [a, b, c] = [corners[0], corners[1], corners[2]];
                push(if index % 2 == 0 { [a, b, c] } else { [b, a, c] })?;
            }
        }
        Mode::TriangleFan => {
            for pair in indices.get(1..).unwrap_or_default().windows(2) {
                push([indices[0], pair[0], pair[1]])?;
            }
        }
        _ => {
            for corners in indices.chunks_exact(3) {
                push([corners[0], corners[1], corners[2]])?;
            }
        }
    }
    Ok(())
}

/// Normals of the vertices, of any length; none if they are not read, or if skin or morph targets turn them.
fn normals(
    soup: &mut TriangleSoup,
    reader: &mut Reader<'_>,
    primitive: &Primitive<'_>,
    shown: &ShownMesh<'_>,
) -> Vec<Vec3> {
    let (Pose::Rigid(world_from_mesh), true) = (shown.pose, shown.has_normals) else {
        return Vec::new();
    };
    let is_morphed = shown.morph_weights.iter().any(|weight| *weight != 0.0);
    let Some(accessor) = primitive.get(&Semantic::Normals).filter(|_| !is_morphed) else {
        return Vec::new();
    };
    let normal_matrix = DMat3::from_mat4(*world_from_mesh).inverse().transpose();
    match reader.vectors(&accessor) {
        Ok(normals) => {
            let normals = normals.into_iter();
            normals.map(|normal| (normal_matrix * normal).as_vec3()).collect()
        }
        Err(error) => {
            soup.warnings
                .push(WarningKind::Attribute, format!("normals are left out: {error}"));
            Vec::new()
        }
    }
}

impl VertexAttributes {
    fn triangle(&self, triangle: [u32; 3]) -> TriangleAttributes {
        let Self {
            material,
            uvs,
            colors,
        } = self;
        let uv = |index: u32| uvs.get(index as usize).copied().unwrap_or_default();
        let color = |index: u32| colors.get(index as usize).copied().unwrap_or(WHITE);
        TriangleAttributes {
            material: *material,
            uvs: (!uvs.is_empty()).then(|| triangle.map(uv)),
            colors: (!colors.is_empty()).then(|| triangle.map(color)),
        }
    }
}

fn apply_skin(
    positions: &mut [DVec3],
    reader: &mut Reader<'_>,
    primitive: &Primitive<'_>,
    skin_matrices: &[DMat4],
) -> Result<(), ImportError> {
    let mut skinned = vec![DVec3::ZERO; positions.len()];
    let mut total = vec![0.0; positions.len()];
    for set in 0.. {
        let joints = primitive.get(&Semantic::Joints(set));
        let Some((joints, weights)) = joints.zip(primitive.get(&Semantic::Weights(set))) else {
            break;
        };
        let (joints, weights) = (reader.numbers(&joints, 4)?, reader.numbers(&weights, 4)?);
        for (vertex, (joints, weights)) in joints.chunks_exact(4).zip(weights.chunks_exact(4)).enumerate() {
            let Some(&position) = positions.get(vertex) else {
                break;
            };
            for (&joint, &weight) in joints
                .iter()
                .zip(weights)
                .filter(|(_, weight)| weight.abs() > 0.0)
            {
                let matrix = skin_matrices.get(joint as usize);
                let matrix =
                    matrix.ok_or_else(|| file_error("a vertex refers to a joint that does not exist"))?;
                skinned[vertex] += weight * matrix.transform_point3(position);
                total[vertex] += weight;
            }
        }
    }
    for ((position, skinned), total) in positions.iter_mut().zip(skinned).zip(total) {
        // A vertex without joint weights follows the first joint. Some writers give such vertices NaN weights.
        *position = if total == 0.0 {
            skin_matrices[0].transform_point3(*position)
        } else {
            skinned / total
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests;
