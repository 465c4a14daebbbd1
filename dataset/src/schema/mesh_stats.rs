//! [`MeshStats`]: what is known of the mesh that a row was made from.

use crate::schema::{MeshIssue, MeshIssues};

/// Statistics of a mesh.
#[derive(Debug, Clone, PartialEq)]
pub struct MeshStats {
    /// Triangles with non-zero area.
    pub num_triangles: i64,
    /// Surface area in object space.
    pub surface_area: f64,
    /// Whether every edge has exactly two triangles.
    pub is_watertight: bool,
    /// Mesh issues; `None` if not counted, as in shards of version 1.
    pub issues: Option<MeshIssues>,
}

impl MeshStats {
    /// Kinds of the mesh's issues, if counted.
    #[must_use]
    pub fn issue_kinds(&self) -> Option<Vec<MeshIssue>> {
        let issues = self.issues.as_ref()?;
        Some(issues.kinds(self.num_triangles).collect())
    }
}
