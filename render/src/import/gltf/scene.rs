//! The node hierarchy: which nodes are in the scene, and their world transforms.

use glam::{DMat4, DQuat, DVec3};
use gltf::{Document, Node, Skin, scene::Transform};

use super::{ImportError, Reader, file_error};

/// World transform of every node.
pub(super) struct NodeTree {
    pub(super) world_from_node: Vec<DMat4>,
}

impl NodeTree {
    /// Walks the trees from their roots; cycles and nodes with two parents are refused.
    pub(super) fn try_new(document: &Document) -> Result<Self, ImportError> {
        let nodes: Vec<Node<'_>> = document.nodes().collect();
        let mut is_child = vec![false; nodes.len()];
        for child in nodes.iter().flat_map(Node::children) {
            if std::mem::replace(&mut is_child[child.index()], true) {
                return Err(file_error("a node has two parents"));
            }
        }
        let mut world_from_node = vec![DMat4::IDENTITY; nodes.len()];
        let mut order: Vec<usize> = (0..nodes.len()).filter(|&node| !is_child[node]).collect();
        for &root in &order {
            world_from_node[root] = parent_from_node(&nodes[root]);
        }
        let mut next = 0;
        while next < order.len() {
            let parent = order[next];
            next += 1;
            for child in nodes[parent].children() {
                world_from_node[child.index()] = world_from_node[parent] * parent_from_node(&child);
                order.push(child.index());
            }
        }
        if order.len() < nodes.len() {
            return Err(file_error("its nodes are children of each other in a circle"));
        }
        Ok(Self { world_from_node })
    }

    /// The nodes of the default scene (or the first, or all nodes if there is none), parents first.
    #[allow(
        clippy::unused_self,
        reason = "a skeleton proves that the nodes form trees, so that this walk ends"
    )]
    pub(super) fn shown<'a>(&self, document: &'a Document) -> Vec<Node<'a>> {
        let scene = document.default_scene().or_else(|| document.scenes().next());
        let mut shown: Vec<Node<'a>> = match scene {
            Some(scene) => scene.nodes().collect(),
            None => return document.nodes().collect(),
        };
        let mut is_shown = vec![false; document.nodes().len()];
        shown.retain(|node| !std::mem::replace(&mut is_shown[node.index()], true));
        let mut next = 0;
        while next < shown.len() {
            let children: Vec<Node<'a>> = shown[next].children().collect();
            next += 1;
            shown.extend(
                children
                    .into_iter()
                    .filter(|node| !std::mem::replace(&mut is_shown[node.index()], true)),
            );
        }
        shown
    }

    /// Per joint, the transform from the mesh as modeled to the world, in the rest pose.
    pub(super) fn skin_matrices(
        &self,
        skin: &Skin<'_>,
        reader: &mut Reader<'_>,
    ) -> Result<Vec<DMat4>, ImportError> {
        let inverse_bind: Vec<DMat4> = match skin.inverse_bind_matrices() {
            Some(accessor) => {
                let numbers = reader.numbers(&accessor, 16)?;
                numbers
                    .as_chunks::<16>()
                    .0
                    .iter()
                    .map(DMat4::from_cols_array)
                    .collect()
            }
            None => vec![DMat4::IDENTITY; skin.joints().count()],
        };
        let matrices: Vec<DMat4> = skin
            .joints()
            .zip(inverse_bind)
            .map(|(joint, joint_from_mesh)| self.world_from_node[joint.index()] * joint_from_mesh)
            .collect();
        if matrices.is_empty() {
            return Err(file_error("a skin has no joints"));
        }
        Ok(matrices)
    }
}

fn parent_from_node(node: &Node<'_>) -> DMat4 {
    match node.transform() {
        Transform::Matrix { matrix } => {
            DMat4::from_cols_array_2d(&matrix.map(|column| column.map(f64::from)))
        }
        Transform::Decomposed {
            translation,
            rotation,
            scale,
        } => {
            let rotation = DQuat::from_array(rotation.map(f64::from));
            let length = rotation.length();
            let rotation = if length > 0.0 {
                rotation / length
            } else {
                DQuat::IDENTITY
            };
            DMat4::from_scale_rotation_translation(
                DVec3::from(scale.map(f64::from)),
                rotation,
                DVec3::from(translation.map(f64::from)),
            )
        }
    }
}
