//! [`MeshFindings`]: what is wrong with a mesh that became a row all the same. Counts, and words to filter by.
//!
//! A mesh that can't become a row has a [`SkipReason`](crate::SkipReason) instead.

use std::fmt;

use serde::{Deserialize, Serialize};

/// From this share of a file's triangles on, those of zero area are worth a word.
pub const DEGENERATE_SHARE: f64 = 0.01;

/// What was counted on a mesh. Vertices at equal positions count as one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshFindings {
    /// Edges of one triangle alone: the surface ends there.
    pub num_open_edges: i64,
    /// Edges of three triangles or more.
    pub num_non_manifold_edges: i64,
    /// Edges between two triangles that do not agree which side is out.
    pub num_flipped_edges: i64,
    /// Triangles that lie where another one lies already, whichever way they look.
    pub num_coincident_triangles: i64,
    /// Triangles of zero area, which were dropped.
    pub num_degenerate_triangles: i64,
    /// Does a closed surface, whose triangles agree, enclose its volume from within?
    pub is_inside_out: bool,
    /// What the file lacks, in sentences: materials and pictures that it names and that aren't there.
    pub warnings: Vec<String>,
}

/// A word for what is wrong with a mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Finding {
    /// The surface has an edge.
    Open,
    /// More than two triangles meet in an edge.
    NonManifold,
    /// Neighboring triangles look to different sides.
    Flipped,
    /// All of a closed surface looks inwards.
    InsideOut,
    /// Triangles lie upon each other.
    Coincident,
    /// At least [`DEGENERATE_SHARE`] of the file's triangles have no area.
    Degenerate,
    /// The file names what isn't there, or says what can't be understood.
    Warnings,
}

impl Finding {
    /// All of them, in the order in which they are listed.
    pub const ALL: [Self; 7] = [
        Self::Open,
        Self::NonManifold,
        Self::Flipped,
        Self::InsideOut,
        Self::Coincident,
        Self::Degenerate,
        Self::Warnings,
    ];

    /// The word in the column `findings`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::NonManifold => "non-manifold",
            Self::Flipped => "flipped",
            Self::InsideOut => "inside-out",
            Self::Coincident => "coincident",
            Self::Degenerate => "degenerate",
            Self::Warnings => "warnings",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl MeshFindings {
    /// The words for what was counted, for a mesh of this many triangles with area.
    pub fn kinds(&self, num_triangles: i64) -> impl Iterator<Item = Finding> + use<> {
        // Destructured whole: a new count needs a word, or to be named here.
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
            num_degenerate_triangles as f64 / num_in_file as f64 >= DEGENERATE_SHARE,
            !warnings.is_empty(),
        ];
        let all = Finding::ALL.into_iter().zip(is_there);
        all.filter_map(|(finding, is_there)| is_there.then_some(finding))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn counts_have_words() {
        let findings = MeshFindings {
            num_open_edges: 1,
            num_degenerate_triangles: 1,
            warnings: vec!["no picture".to_owned()],
            ..MeshFindings::default()
        };
        let kinds = |num_triangles| findings.kinds(num_triangles).collect::<Vec<_>>();
        assert_eq!(kinds(99), [Finding::Open, Finding::Degenerate, Finding::Warnings]);
        assert_eq!(
            kinds(100),
            [Finding::Open, Finding::Warnings],
            "under one in a hundred"
        );
        assert_eq!(MeshFindings::default().kinds(1).count(), 0, "nothing is wrong");
    }

    #[test]
    fn a_finding_is_printed_as_it_is_stored() {
        for finding in Finding::ALL {
            assert_eq!(serde_json::to_string(&finding).unwrap(), format!("\"{finding}\""));
        }
    }
}
