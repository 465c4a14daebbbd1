//! [`MeshIssues`]: geometric defects of a mesh that is still usable, as counts and as tags for filtering.
//!
//! Unusable meshes have a [`SkipReason`](crate::SkipReason) instead.

use serde::{Deserialize, Serialize};

/// Minimum ratio of zero-area triangles that counts as an issue.
pub const MIN_DEGENERATE_RATIO: f64 = 0.01;

/// Defect counts of a mesh, with vertices welded by position.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshIssues {
    /// Boundary edges: edges of exactly one triangle.
    pub num_open_edges: i64,
    /// Edges of three or more triangles.
    pub num_non_manifold_edges: i64,
    /// Edges whose two triangles have opposite winding.
    pub num_flipped_edges: i64,
    /// Triangles with the same corners as another one, in either winding.
    pub num_coincident_triangles: i64,
    /// Zero-area triangles, which are dropped.
    pub num_degenerate_triangles: i64,
    /// Whether a closed, consistently wound surface has negative volume.
    pub is_inside_out: bool,
    /// Importer warnings, such as missing materials or textures.
    pub warnings: Vec<String>,
}

/// Kind of mesh issue.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    strum::Display,
    strum::IntoStaticStr,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
#[non_exhaustive]
pub enum MeshIssue {
    /// Has boundary edges.
    Open,
    /// Has edges with more than two triangles.
    NonManifold,
    /// Has neighboring triangles with opposite winding.
    Flipped,
    /// Closed, but wound inwards.
    InsideOut,
    /// Has duplicate triangles.
    Coincident,
    /// At least [`MIN_DEGENERATE_RATIO`] of the triangles in the file have zero area.
    Degenerate,
    /// The importer reported warnings.
    Warnings,
}

impl MeshIssue {
    /// All kinds, in listing order.
    pub const ALL: [Self; 7] = [
        Self::Open,
        Self::NonManifold,
        Self::Flipped,
        Self::InsideOut,
        Self::Coincident,
        Self::Degenerate,
        Self::Warnings,
    ];

    /// Tag in the column `findings`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl MeshIssues {
    /// Kinds of the counted issues, given the number of non-degenerate triangles.
    pub fn kinds(&self, num_triangles: i64) -> impl Iterator<Item = MeshIssue> + use<> {
        // Exhaustive: a new count must map to a kind, or be listed here.
        let Self {
            num_open_edges,
            num_non_manifold_edges,
            num_flipped_edges,
            num_coincident_triangles,
            num_degenerate_triangles,
            is_inside_out,
            ref warnings,
        } = *self;
        let num_in_file = num_triangles.saturating_add(num_degenerate_triangles).max(1);
        let is_there = [
            num_open_edges > 0,
            num_non_manifold_edges > 0,
            num_flipped_edges > 0,
            is_inside_out,
            num_coincident_triangles > 0,
            num_degenerate_triangles as f64 / num_in_file as f64 >= MIN_DEGENERATE_RATIO,
            !warnings.is_empty(),
        ];
        let all = MeshIssue::ALL.into_iter().zip(is_there);
        all.filter_map(|(issue, is_there)| is_there.then_some(issue))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn counts_map_to_kinds() {
        let issues = MeshIssues {
            num_open_edges: 1,
            num_degenerate_triangles: 1,
            warnings: vec!["no texture".to_owned()],
            ..MeshIssues::default()
        };
        let kinds = |num_triangles| issues.kinds(num_triangles).collect::<Vec<_>>();
        assert_eq!(
            kinds(99),
            [MeshIssue::Open, MeshIssue::Degenerate, MeshIssue::Warnings]
        );
        assert_eq!(
            kinds(100),
            [MeshIssue::Open, MeshIssue::Warnings],
            "under one in a hundred"
        );
        assert_eq!(MeshIssues::default().kinds(1).count(), 0, "nothing is wrong");
    }

    #[test]
    fn an_issue_is_printed_as_it_is_stored() {
        for issue in MeshIssue::ALL {
            assert_eq!(serde_json::to_string(&issue).unwrap(), format!("\"{issue}\""));
        }
    }
}
